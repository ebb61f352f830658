//! What Kafka is asked, in which order, and for how long.

mod trials;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::item::{Area, Item};
use super::permissions::Account;
use super::topics::{Creation, Surroundings};
use super::{AccountRole, CheckArgs, Items, cluster, consumers, topics};
use crate::clock::EpochMs;
use crate::config::Config;
use crate::domain::tenant::TenantId;
use crate::engine::abilities::abilities;
use crate::engine::admin::{Admin, AdminError};
use crate::engine::clients::Connection;
use crate::engine::window::{Bounds, Window, WindowError};
use crate::service;
use crate::topics::{CatalogError, Found, Owner, Role, State, TopicSpec, catalog, plan};
use crate::topology;
use crate::wire::OutcomeSeen;

/// Whose texts are looked at, where nobody says: tenants of outcomes this old.
const RECENT: Duration = Duration::from_secs(3_600);

/// At most so many outcomes are read for it, and so many tenants found.
const OUTCOMES: usize = 5_000;
const TENANTS: usize = 20;

/// How long until a list that failed is asked for again.
const ASK_AGAIN: Duration = Duration::from_millis(200);

/// The whole of Kafka, to be looked at once.
pub(super) struct Kafka<'a> {
    config: &'a Config,
    connection: Connection,
    role: AccountRole,
    timeout: Duration,
    now: EpochMs,
    items: Items,
}

/// Why there is nothing more to ask.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error(transparent)]
    Admin(#[from] AdminError),
    #[error(transparent)]
    Catalog(#[from] CatalogError),
}

/// What there is of the topics.
struct Topics {
    wanted: Vec<(String, TopicSpec)>,
    found: HashMap<String, Found>,
}

impl Topics {
    /// Those of a role that exist.
    fn of(&self, role: Role) -> impl Iterator<Item = &str> {
        let there = move |(name, spec): &&(String, TopicSpec)| {
            spec.role == role && self.found.contains_key(name)
        };
        self.wanted
            .iter()
            .filter(there)
            .map(|(name, _)| name.as_str())
    }
}

impl<'a> Kafka<'a> {
    pub(super) fn new(config: &'a Config, args: &CheckArgs, now: EpochMs, items: Items) -> Self {
        Self {
            config,
            connection: service::connection(config),
            role: args.account,
            timeout: args.timeout,
            now,
            items,
        }
    }

    /// Looks at everything, and says whose texts are to be looked at as soon as it knows.
    pub(super) async fn check(self, given: &[TenantId], tell: oneshot::Sender<Vec<TenantId>>) {
        let brokers = &self.config.kafka.brokers;
        let mut tell = Some(tell);
        if !given.is_empty() {
            say(&mut tell, given.to_vec());
        }
        if let Err((property, problem)) = self.connection.check_properties() {
            let name = format!("kafka.\"{property}\"");
            let fix = "see librdkafka's CONFIGURATION.md";
            let item = Item::failure(Area::Settings, &name, problem).fix(fix);
            return self.items.add(item).await;
        }
        let admin = match Admin::connect(self.connection.admin(), self.timeout).await {
            Ok(admin) => admin,
            Err(AdminError::Astray(reach)) => {
                return self.items.add_all(cluster::unreached_brokers(&reach)).await;
            }
            Err(error) => {
                let item = cluster::unreached("brokers", &error.to_string(), brokers);
                return self.items.add(item).await;
            }
        };
        if let Err(ended) = self.ask(&admin, given, &mut tell).await {
            let item = cluster::unreached("Kafka", &ended.to_string(), brokers);
            self.items.add(item).await;
        }
    }

    async fn ask(
        &self,
        admin: &Admin,
        given: &[TenantId],
        tell: &mut Option<oneshot::Sender<Vec<TenantId>>>,
    ) -> Result<(), Ended> {
        let reach = admin.reach_brokers(self.timeout).await?;
        self.items.add_all(cluster::unreached_brokers(&reach)).await;
        let asked = Instant::now();
        let count = admin.brokers().await?;
        self.items
            .add(cluster::brokers(count, asked.elapsed()))
            .await;
        let tenants = match given {
            [] => self.recent_tenants().await,
            given => given.to_vec(),
        };
        say(tell, tenants.clone());
        self.abilities().await;
        self.internal_topics(admin, count).await?;
        let topics = self.topics(admin, count, &tenants).await?;
        self.items.add(self.account().introduced()).await;
        tokio::join!(
            self.writes(&topics),
            self.reads(&topics),
            self.group(&topics),
        );
        self.consumers(admin, &topics).await
    }

    /// The tenants of the last outcomes; none where there are none, or they may not be read.
    async fn recent_tenants(&self) -> Vec<TenantId> {
        let topic = self.config.topics.outcomes.clone();
        let (connection, since) = (self.connection.clone(), self.now.minus(RECENT));
        let deadline = Instant::now() + self.timeout;
        let found = self.blocking(move || tenants_since(&connection, &topic, since, deadline));
        found.await.and_then(Result::ok).unwrap_or_default()
    }

    async fn abilities(&self) {
        let (connection, timeout) = (self.connection.clone(), self.timeout);
        let found = self.blocking(move || abilities(&connection, timeout));
        let checked = found.await.and_then(Result::ok);
        let checked = checked.and_then(|abilities| abilities.check_who_commits());
        self.items.add(cluster::exactly_once(checked)).await;
    }

    async fn internal_topics(&self, admin: &Admin, count: usize) -> Result<(), AdminError> {
        let brokers = &self.config.kafka.brokers;
        let settings = admin.broker_settings().await?;
        for topic in cluster::INTERNAL {
            let item = match admin.found(&[topic.to_owned()]).await {
                Ok(found) => match found.get(topic) {
                    None => cluster::internal_missing(topic, &settings, count),
                    Some(found) => {
                        let item = cluster::internal(topic, found, count, brokers);
                        match found.configs.is_empty() {
                            true => cluster::settings_hidden(item, self.account()),
                            false => item,
                        }
                    }
                },
                Err(AdminError::Forbidden { .. }) => {
                    cluster::internal_hidden(topic, self.account())
                }
                Err(error) => return Err(error),
            };
            self.items.add(item).await;
        }
        Ok(())
    }

    async fn topics(
        &self,
        admin: &Admin,
        count: usize,
        tenants: &[TenantId],
    ) -> Result<Topics, Ended> {
        let mut wanted = topology::wanted_on(self.config, count)?;
        wanted.extend(self.tenants_topics(tenants, count)?);
        let mut found = HashMap::new();
        let mut hidden = Vec::new();
        for (name, spec) in &wanted {
            match admin.found(std::slice::from_ref(name)).await {
                Ok(one) => found.extend(one),
                Err(AdminError::Forbidden { .. }) => hidden.push((name.clone(), spec.role)),
                Err(error) => return Err(error.into()),
            }
        }
        let hide = |(name, role): &(String, Role)| topics::hidden(name, *role, self.account());
        self.items.add_all(hidden.iter().map(hide)).await;
        wanted.retain(|(name, _)| !hidden.iter().any(|(one, _)| one == name));
        let planned = plan(&wanted, &found);
        let ours = planned
            .iter()
            .filter(|topic| topic.state == State::Missing && topic.spec.owner == Owner::Ours);
        let ours: Vec<_> = ours
            .map(|topic| (topic.name.clone(), topic.spec.clone()))
            .collect();
        let around = Surroundings {
            account: self.account(),
            creation: self.creation(admin, &ours, count).await?,
            lifetime: self.config.request.lifetime,
        };
        let judged = planned
            .iter()
            .map(|topic| topics::judge(topic, found.get(&topic.name), &around));
        self.items.add_all(judged).await;
        let names = &self.config.topics;
        let short = topics::shortfall(&names.requests, &names.dead_letters, &found, &around);
        self.items.add_all(short).await;
        Ok(Topics { wanted, found })
    }

    /// In a central instance the SMS and email topics are the tenants' own.
    fn tenants_topics(
        &self,
        tenants: &[TenantId],
        count: usize,
    ) -> Result<BTreeMap<String, TopicSpec>, CatalogError> {
        let tenancy = &self.config.tenancy;
        if !tenancy.central_instance {
            return Ok(BTreeMap::new());
        }
        let base = |role| match role {
            Role::Sms => Some(&self.config.topics.sms),
            Role::Email => Some(&self.config.topics.email),
            Role::Requests
            | Role::Accepted
            | Role::Jobs
            | Role::Retry
            | Role::DeadLetters
            | Role::Outcomes
            | Role::JobLog => None,
        };
        let specs = catalog()?;
        let topics = specs
            .iter()
            .filter_map(|spec| Some((base(spec.role)?, spec)));
        let of_all = topics.flat_map(|(base, spec)| {
            let name = |tenant: &TenantId| (tenant.topic(tenancy, base), spec.on(count));
            tenants.iter().map(name).collect::<Vec<_>>()
        });
        Ok(of_all.collect())
    }

    /// Whether what is missing would be created: the brokers are asked, and create nothing.
    async fn creation(
        &self,
        admin: &Admin,
        missing: &[(String, TopicSpec)],
        count: usize,
    ) -> Result<Creation, AdminError> {
        if missing.is_empty() {
            return Ok(Creation::AtStart);
        }
        if self.role != AccountRole::Service {
            // Whether the service may is not ours to try.
            return Ok(match self.config.topics.create {
                true => Creation::AtStart,
                false => Creation::ByHand,
            });
        }
        match admin.would_create(missing, count).await {
            Ok(()) if self.config.topics.create => Ok(Creation::AtStart),
            Ok(()) => Ok(Creation::ByHand),
            Err(error @ AdminError::Unreachable(_)) => Err(error),
            Err(_) => Ok(Creation::Forbidden),
        }
    }

    async fn consumers(&self, admin: &Admin, topics: &Topics) -> Result<(), Ended> {
        let deadline = Instant::now() + self.timeout;
        // A connection that is lost at this moment fails the whole list.
        let groups = loop {
            match admin.groups().await {
                Err(AdminError::Unreachable(_)) if Instant::now() < deadline => {
                    tokio::time::sleep(ASK_AGAIN).await;
                }
                groups => break groups?,
            }
        };
        let account = self.account();
        let outputs = topics.of(Role::Sms).chain(topics.of(Role::Email));
        let items = outputs.map(|topic| consumers::judge(topic, &groups, account));
        self.items.add_all(items).await;
        Ok(())
    }

    fn account(&self) -> Account<'_> {
        Account {
            brokers: &self.config.kafka.brokers,
            user: self.config.kafka.properties.get("sasl.username"),
            role: self.role,
        }
    }

    async fn blocking<T: Send + 'static>(
        &self,
        call: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        self.blocking_for(self.timeout * 2, call).await
    }

    /// None: it did not return. Its thread ends with the process.
    async fn blocking_for<T: Send + 'static>(
        &self,
        most: Duration,
        call: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let called = tokio::task::spawn_blocking(call);
        tokio::time::timeout(most, called).await.ok()?.ok()
    }
}

fn say(tell: &mut Option<oneshot::Sender<Vec<TenantId>>>, tenants: Vec<TenantId>) {
    if let Some(tell) = tell.take() {
        // Who asks the services may have ended.
        let _ = tell.send(tenants);
    }
}

fn tenants_since(
    connection: &Connection,
    topic: &str,
    since: EpochMs,
    deadline: Instant,
) -> Result<Vec<TenantId>, WindowError> {
    let bounds = Bounds {
        since: Some(since),
        ..Bounds::default()
    };
    let mut window = Window::open(connection, topic, &bounds)?;
    let mut tenants = BTreeSet::new();
    for _ in 0..OUTCOMES {
        let Some(record) = window.next_record()? else {
            break;
        };
        let seen = record.value.as_deref().and_then(OutcomeSeen::parse);
        tenants.extend(seen.and_then(|seen| seen.tenant_id));
        if tenants.len() >= TENANTS || Instant::now() >= deadline {
            break;
        }
    }
    Ok(tenants
        .iter()
        .filter_map(|text| TenantId::parse(text).ok())
        .collect())
}
