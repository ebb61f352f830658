//! The running service: both doors with their handler, made of a configuration.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock::Clock;
use crate::config::Config;
use crate::egov::Services;
use crate::engine::admin::Admin;
use crate::engine::broker_clock::BrokerClock;
use crate::engine::clients::Connection;
use crate::engine::door::{self, Door};
use crate::engine::output::Writer;
use crate::engine::record::Reading;
use crate::engine::retry::Tier;
use crate::engine::state::Bounds;
use crate::engine::vitals::Vitals;
use crate::engine::{Drained, Engine, EngineError, Settings};
use crate::handler::{OtpHandler, Rules};
use crate::health::{HUNG, Redis};
use crate::http::Http;
use crate::idempotency::{self, Idempotency};
use crate::known_topics::KnownTopics;
use crate::limits::{self, Limits};
use crate::management::{GroupWatch, Management};
use crate::metrics::Metrics;
use crate::retry_topics::RetryTopics;
use crate::standstill::Standstill;
use crate::store::Store;
use crate::topics::{Found, Role, catalog};
use crate::topology;

/// Apache Kafka's default for the largest record batch, in bytes.
const DEFAULT_LARGEST: usize = 1_048_588;

/// Apache Kafka's default for `transaction.max.timeout.ms`.
const LONGEST_TRANSACTION: Duration = Duration::from_secs(900);

/// How to reach Kafka.
#[must_use]
pub fn connection(config: &Config) -> Connection {
    Connection {
        brokers: config.kafka.brokers.clone(),
        group: config.kafka.group.clone(),
        instance: config.kafka.instance.clone(),
        properties: config.kafka.properties.clone(),
    }
}

/// What a topic takes of one record, in bytes: as `found` says, else as the list of topics has it.
#[must_use]
pub fn largest_record(found: &HashMap<String, Found>, name: &str, role: Role) -> usize {
    let here = found
        .get(name)
        .and_then(|found| found.configs.get("max.message.bytes")?.parse().ok());
    let listed = || {
        catalog()
            .ok()?
            .into_iter()
            .find(|spec| spec.role == role)
            .map(|spec| spec.max_message_bytes)
    };
    here.unwrap_or_else(|| listed().map_or(DEFAULT_LARGEST, |bytes| bytes as usize))
}

/// The engine's settings; `found` is what the cluster has of the topics.
#[must_use]
pub fn engine_settings(config: &Config, found: &HashMap<String, Found>) -> Settings {
    let largest = |name: &str, role: Role| largest_record(found, name, role);
    let dead_letter_limit = largest(&config.topics.dead_letters, Role::DeadLetters);
    let mut tiers: Vec<Tier> = config
        .retry
        .delays
        .iter()
        .zip(topology::retry_topics(config))
        .map(|(delay, topic)| Tier {
            topic: topic.into(),
            delay: delay.delay,
        })
        .collect();
    tiers.sort_by_key(|tier| tier.delay);
    let engine = &config.engine;
    Settings {
        connection: connection(config),
        requests: config.topics.requests.clone(),
        jobs: config.topics.jobs.clone(),
        job_log: config.topics.job_log.clone(),
        retries: RetryTopics::new(config.topics.retry_prefix.as_str()),
        bounds: Bounds {
            window: engine.window,
            window_bytes: engine.window_bytes,
            lane: engine.lane,
            jobs: (engine.window * engine.jobs_share as usize / 100).max(1),
            parked: config.retry.parked,
            waiting_bytes: config.retry.waiting_bytes,
            lifetime: config.request.lifetime,
        },
        reading: Reading {
            lifetime: config.request.lifetime,
            accepted: config.topics.accepted.as_str().into(),
        },
        writer: Writer {
            group: config.kafka.group.clone(),
            dead_letters: config.topics.dead_letters.as_str().into(),
            dead_letter_limit,
            outcomes: config.topics.outcomes.as_str().into(),
            tiers,
            min_life: config.request.min_life,
        },
        only_sms_topic: (!config.tenancy.central_instance).then(|| config.topics.sms.clone()),
        poison_share: engine.poison_share,
        poison_window: engine.poison_window,
        stall_after: engine.stall_after,
        longest_transaction: LONGEST_TRANSACTION,
        batch: engine.batch,
        linger: engine.linger,
        drain: engine.drain,
        supersede_after: engine.supersede_after,
        largest_record: dead_letter_limit.max(DEFAULT_LARGEST),
    }
}

/// The HTTP door's settings; `engine` are the engine's.
fn door_settings(config: &Config, engine: &Settings) -> door::Settings {
    door::Settings {
        connection: engine.connection.clone(),
        writer: door::records::Writer {
            accepted: config.topics.accepted.as_str().into(),
            outcomes: config.topics.outcomes.as_str().into(),
        },
        batch: engine.batch,
        linger: engine.linger,
        largest_record: engine.largest_record,
    }
}

/// Either door, or both, with the services that their handlers call.
pub struct Service {
    engine: Option<Engine>,
    door: Option<Door>,
    handler: OtpHandler,
    services: Services,
    topics: KnownTopics,
    metrics: Metrics,
    limits: Limits,
    store: Option<Store>,
    /// Results over HTTP that were unconfirmed, until it is known what became of them.
    unconfirmed: TaskTracker,
}

impl Service {
    /// Signs of life of each door's producer, by the name that health has for it.
    #[must_use]
    pub fn producers(&self) -> Vec<(&'static str, Arc<Vitals>)> {
        let engine = self.engine.as_ref().map(Engine::vitals);
        let door = self.door.as_ref().map(Door::vitals);
        let named = [("kafka-producer", engine), ("http-producer", door)];
        let named = named.map(|(name, vitals)| Some((name, vitals?)));
        named.into_iter().flatten().collect()
    }

    /// What the management port shows; `admin` asks for engines elsewhere.
    #[must_use]
    pub fn management(&self, config: &Config, admin: &Admin, clock: BrokerClock) -> Management {
        let senders = [&config.topics.sms, &config.topics.email].map(Clone::clone);
        let engine = self.engine.as_ref();
        let connection = connection(config);
        let classic = connection.properties.get("group.protocol") != Some("consumer");
        let watch = || GroupWatch::new(admin.clone(), connection.group.clone(), classic);
        Management {
            metrics: self.metrics.clone(),
            engine: engine.map(Engine::observer),
            producers: self.producers(),
            services: self.services.clone(),
            limits: self.limits.clone(),
            topics: self.topics.clone(),
            // In a central instance each tenant has its own, looked for with each request.
            senders: (!config.tenancy.central_instance).then_some(senders),
            needed: vec![config.topics.sms.clone(), config.topics.outcomes.clone()],
            redis: self.store.is_some().then(|| self.redis()),
            group: engine.is_none().then(watch),
            clock,
            max_poll_interval: connection.max_poll_interval(),
        }
    }

    fn redis(&self) -> Box<dyn Fn() -> Redis + Send + Sync> {
        let limits = self.limits.clone();
        Box::new(move || match limits.health() {
            limits::Health::RedisAway => Redis::Down,
            limits::Health::Memory | limits::Health::Redis => Redis::Up,
        })
    }

    /// The HTTP door, to be served; none where it is off.
    #[must_use]
    pub fn http(&self, config: &Config, clock: Clock) -> Option<Http<OtpHandler>> {
        let outbox = self.door.as_ref()?.outbox();
        let bounds = idempotency::Bounds {
            window: config.http.idempotency_window,
            lease: config.http.lease(),
            entries: config.http.idempotency_entries,
        };
        let keys = Idempotency::new(bounds, self.store.clone(), clock.clone());
        let (handler, metrics) = (self.handler.clone(), self.metrics.clone());
        let unconfirmed = self.unconfirmed.clone();
        Some(Http::new(
            config,
            handler,
            outbox,
            keys,
            clock,
            metrics,
            unconfirmed,
        ))
    }

    /// Ends when a door cannot go on; [`Service::shut_down`] says why.
    pub async fn failed(&self) {
        let failed = async |token: Option<CancellationToken>| match token {
            Some(token) => token.cancelled().await,
            None => std::future::pending().await,
        };
        tokio::select! {
            () = failed(self.engine.as_ref().map(Engine::failed)) => {}
            () = failed(self.door.as_ref().map(Door::failed)) => {}
        }
    }

    /// Stops intake, drains, commits, leaves the group, and ends what runs in the background. The
    /// HTTP door's requests have their answers by then.
    ///
    /// # Errors
    ///
    /// Why a door had failed, if one had.
    pub async fn shut_down(self, deadline: Duration) -> anyhow::Result<Drained> {
        let Self {
            engine,
            door,
            services,
            store,
            unconfirmed,
            ..
        } = self;
        let engine =
            engine.map(|engine| tokio::task::spawn_blocking(move || engine.shut_down(deadline)));
        let door = door.map(|door| tokio::task::spawn_blocking(move || door.shut_down(deadline)));
        let mut drained = Drained::Clean;
        for ending in [door, engine].into_iter().flatten() {
            match ending.await.context("a door ended by a defect")?? {
                Drained::Clean => {}
                Drained::CutShort => drained = Drained::CutShort,
            }
        }
        unconfirmed.close();
        // A committer that hangs never says what became of them.
        if drained == Drained::Clean {
            unconfirmed.wait().await;
        }
        services.close().await;
        if let Some(store) = store {
            store.close().await;
        }
        Ok(drained)
    }
}

/// Starts the doors that are enabled.
///
/// # Errors
///
/// When a client cannot be made, or Kafka does not answer within `patience`.
pub async fn start(
    config: &Config,
    settings: Settings,
    topics: KnownTopics,
    clock: Clock,
    patience: Duration,
) -> anyhow::Result<Service> {
    let metrics = Metrics::default();
    let services = Services::new(config, clock.clone(), metrics.clone())
        .context("the services' client could not be made")?;
    let store = Store::open(config)
        .await
        .context("limits.redis cannot be used")?;
    let limits = Limits::new(config, store.clone(), clock.clone());
    let handler = OtpHandler::new(
        services.clone(),
        limits.clone(),
        topics.clone(),
        Rules::of(config),
        clock.clone(),
    );
    let door = config
        .http
        .enabled
        .then(|| door_settings(config, &settings));
    let engine = config.engine.enabled.then(|| (settings, handler.clone()));
    let runtime = Handle::current();
    let (known, measured) = (topics.clone(), metrics.clone());
    let deadline = Instant::now() + patience;
    let started = tokio::task::spawn_blocking(move || {
        let door = door
            .map(|settings| Door::start(settings, clock.clone(), measured.clone(), patience))
            .transpose()?;
        let engine = engine
            .map(|(settings, handler)| {
                // The other door has had its part of the time.
                let patience = deadline.saturating_duration_since(Instant::now());
                Engine::start(
                    settings, handler, known, clock, measured, &runtime, patience,
                )
            })
            .transpose()?;
        Ok::<_, EngineError>((engine, door))
    });
    let (engine, door) = started.await.context("a door could not be started")??;
    Ok(Service {
        engine,
        door,
        handler,
        services,
        topics,
        metrics,
        limits,
        store,
        unconfirmed: TaskTracker::new(),
    })
}

/// How often the watchdog looks.
const TICK: Duration = Duration::from_secs(1);

/// What the brokers say when they are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Brokers {
    /// None answered.
    Silent,
    /// One did.
    Answer,
    /// One did, and a partition that is written to has no leader: the library waits for one in silence.
    LackLeader,
}

/// Ends the process when a producer call hangs though Kafka answers when it is `ask`ed: librdkafka's look-up of a
/// coordinator may never return when its broker dies. The next process takes the open transaction
/// over. While no broker answers a new process could do no more than wait, and this one waits as well.
///
/// Transactions that have failed for as long as `stalled_after`, though Kafka answers, are told to health, and said.
pub fn watch(
    producers: Vec<(&'static str, Arc<Vitals>)>,
    stalled_after: Duration,
    mut ask: impl FnMut() -> Brokers + Send + 'static,
) {
    let watchdog = move || {
        let mut watched: Vec<_> = producers
            .into_iter()
            .map(|(name, vitals)| Watched::new(name, vitals, stalled_after))
            .collect();
        let hangs = |watched: &mut Vec<Watched>, ask: &mut dyn FnMut() -> Brokers| {
            watched.iter_mut().any(|one| one.tick(ask))
        };
        while !hangs(&mut watched, &mut ask) {
            let since = Instant::now();
            std::thread::park_timeout(TICK);
            let stood = since.elapsed().saturating_sub(2 * TICK);
            watched.iter().for_each(|one| one.vitals.stood_still(stood));
        }
        tracing::error!(limit = ?HUNG, "a call to Kafka does not return; ending, to be started again");
        std::process::exit(crate::cli::EXIT_WATCHDOG);
    };
    // Not joined: it watches until the process ends.
    if let Err(error) = std::thread::Builder::new()
        .name("watchdog".into())
        .spawn(watchdog)
    {
        tracing::warn!(%error, "no watchdog");
    }
}

/// One producer, as the watchdog sees it.
struct Watched {
    name: &'static str,
    vitals: Arc<Vitals>,
    call: Standstill,
    commits: Standstill,
    stalled_after: Duration,
}

impl Watched {
    fn new(name: &'static str, vitals: Arc<Vitals>, stalled_after: Duration) -> Self {
        let ticks = |time: Duration| u32::try_from(time.as_secs()).unwrap_or(u32::MAX);
        Self {
            name,
            vitals,
            call: Standstill::new(ticks(HUNG)),
            commits: Standstill::new(ticks(stalled_after)),
            stalled_after,
        }
    }

    /// One look: whether a call hangs for good. Whether the commits do is told to health, and said.
    fn tick(&mut self, ask: &mut dyn FnMut() -> Brokers) -> bool {
        let vitals = &self.vitals;
        let ask_for_call = self.call.tick(vitals.call());
        let ask_for_commits = self.commits.tick(vitals.failing_since());
        let brokers = match ask_for_call || ask_for_commits {
            true => ask(),
            false => Brokers::Silent,
        };
        if ask_for_commits && brokers == Brokers::LackLeader {
            vitals.lacks_leader();
        }
        let answers = brokers != Brokers::Silent;
        let stalled = ask_for_commits && self.commits.answered(answers, vitals.failing_since());
        if vitals.commits_stalled(stalled) {
            self.say(stalled);
        }
        ask_for_call && self.call.answered(answers, vitals.call())
    }

    fn say(&self, stalled: bool) {
        let (producer, limit) = (self.name, self.stalled_after);
        if stalled {
            tracing::error!(
                producer,
                ?limit,
                "results wait, and no transaction goes through, though brokers answer: /health/live is DOWN; restart this \
                 process once, unless its liveness probe does; if a new one does no better, see the brokers' logs"
            );
        } else {
            tracing::info!(
                producer,
                "no result has waited for too long any more: /health/live is as before"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// The tick at which the watchdog ends the process.
    fn ended(watched: &mut Watched, mut ask: impl FnMut() -> Brokers) -> Option<u32> {
        (1..=200).find(|_| watched.tick(&mut ask))
    }

    #[test]
    fn the_watchdog_ends_the_process_at_a_call_that_hangs_and_at_none_that_returns() {
        let vitals = Arc::new(Vitals::default());
        let mut watched = Watched::new("kafka-producer", Arc::clone(&vitals), HUNG);
        assert_eq!(
            ended(&mut watched, || Brokers::Answer),
            None,
            "no call is under way"
        );
        vitals.watch(|| {
            assert_eq!(ended(&mut watched, || Brokers::Answer), Some(60));
        });
        assert_eq!(ended(&mut watched, || Brokers::Answer), None, "it returned");
    }

    #[test]
    fn the_watchdog_looks_again_after_the_broker_s_answer() {
        let vitals = Arc::new(Vitals::default());
        let mut watched = Watched::new("kafka-producer", Arc::clone(&vitals), HUNG);
        let (begin, begins) = mpsc::channel::<()>();
        let (release, hangs) = mpsc::channel::<()>();
        let calls = Arc::clone(&vitals);
        let caller = std::thread::spawn(move || {
            calls.watch(|| {
                begin.send(()).expect("the test waits");
                hangs.recv().expect("the test goes on");
            });
        });
        begins.recv().expect("a call is under way");
        let mut asked = 0;
        let at = ended(&mut watched, || {
            asked += 1;
            if asked == 30 {
                release.send(()).expect("the caller waits");
                while vitals.call().is_some() {
                    std::thread::yield_now();
                }
            }
            Brokers::Answer
        });
        assert_eq!(at, None, "it returned while the brokers were asked");
        caller.join().expect("the caller ends");
    }

    #[test]
    fn commits_stall_only_where_no_reason_is_named() {
        let vitals = Arc::new(Vitals::default());
        let mut watched = Watched::new("kafka-producer", Arc::clone(&vitals), HUNG);
        let mut ticks = |ticks, brokers| {
            (0..ticks).for_each(|_| assert!(!watched.tick(&mut || brokers)));
            vitals.are_commits_stalled()
        };
        vitals.served();
        vitals.failed();
        assert!(!ticks(59, Brokers::Answer));
        assert!(ticks(1, Brokers::Answer));
        assert!(!ticks(1, Brokers::LackLeader));
        let named = vitals.producer_refusal().expect("it is named");
        assert!(named.contains("has no leader"), "{named}");
        assert!(!ticks(200, Brokers::Answer));
    }

    #[test]
    fn an_operators_poll_interval_is_the_one_that_health_goes_by() {
        let interval = |variables: &[(&str, &str)]| {
            let variables = variables
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
            let (config, _) = Config::load(None, variables).expect("right settings");
            connection(&config).max_poll_interval()
        };
        assert_eq!(interval(&[]), Duration::from_secs(120));
        let longer = [("USER_OTP__KAFKA__MAX_POLL_INTERVAL_MS", "300000")];
        assert_eq!(interval(&longer), Duration::from_secs(300));
    }
}
