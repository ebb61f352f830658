//! What we ask of a cluster beyond reading and writing: which topics it has, and to create
//! ours. What they should be is [`crate::topics`]' business, in values that do not know
//! librdkafka.
//!
//! Nothing here creates a topic by asking for it: `allow.auto.create.topics` is off, since
//! a topic made by a typing error has the wrong figures and hides the mistake.

mod look;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::admin::{
    AdminClient, AdminOptions, ConfigResource, OwnedResourceSpecifier, ResourceSpecifier,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::metadata::MetadataTopic;

pub use look::Group;

use super::advertised::{Advertised, Reach, reach};
use super::reach::{Probe, Refusal, Unreached};
use crate::topics::{Found, TopicSpec};

/// What to do where brokers cannot be reached at the addresses that they advertise.
pub const SET_ADVERTISED: &str = "set the brokers' advertised.listeners to addresses that resolve and can be reached \
                                  from here";

/// How often the cluster is asked again for what is not there yet.
const ASK_AGAIN: Duration = Duration::from_millis(100);

/// A client for a cluster's administration. Cloning is cheap: it shares the connections.
#[derive(Clone)]
pub struct Admin {
    client: Arc<AdminClient<DefaultClientContext>>,
    /// The brokers, as they want to be addressed.
    advertised: Arc<[Advertised]>,
    /// How long one request may take.
    timeout: Duration,
}

/// What went wrong, by what there is to do about it.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// A property is wrong: correct it. The value is not shown, it may be a password.
    #[error("kafka property {key}: {problem}")]
    Property {
        /// The property's name.
        key: String,
        /// What librdkafka says about it.
        problem: String,
    },
    /// No broker answered in time: look at the address, the network and the cluster, or wait.
    #[error("no Kafka broker answers: {0}")]
    Unreachable(#[source] KafkaError),
    /// Brokers answer, and none at the address that it advertises: correct these addresses.
    #[error(
        "no broker answers at the address that it advertises: {}; {SET_ADVERTISED}",
        .0.sentence()
    )]
    Astray(Reach),
    /// A broker is there, and no broker took us: correct the credentials or the certificates.
    #[error("{0}")]
    Refused(Refusal),
    /// We lack a permission: grant it, or have somebody else create the topic.
    #[error("we may not {action} the topic {topic}: grant {operation} on it")]
    Forbidden {
        /// The topic.
        topic: String,
        /// What we wanted to do with it.
        action: &'static str,
        /// Kafka's word for it.
        operation: &'static str,
    },
    /// Anything else; somebody has to read it.
    #[error("could not {action} {what}: {source}")]
    Other {
        /// What we wanted to do.
        action: &'static str,
        /// With what.
        what: String,
        /// What Kafka says.
        source: KafkaError,
    },
}

impl Admin {
    /// Connects, and waits until a broker answers at the address that it advertises. The caller leaves the
    /// properties of consumers and producers out of `config`.
    ///
    /// # Errors
    /// [`AdminError::Property`] at once; [`AdminError::Astray`] as soon as it is known that no advertised address can
    /// be connected to; it, [`AdminError::Refused`] or [`AdminError::Unreachable`] after `timeout`.
    pub async fn connect(mut config: ClientConfig, timeout: Duration) -> Result<Self, AdminError> {
        config.set("allow.auto.create.topics", "false");
        let probe = Probe::new(&config).map_err(wrong_property)?;
        let reached = blocking(move || probe.reach(timeout)).await?;
        let brokers = reached.map_err(|unreached| match unreached {
            Unreached::Refused(refusal) => AdminError::Refused(refusal),
            Unreached::Astray(reach) => AdminError::Astray(reach),
            Unreached::Silent(error) => unanswered("ask", "the brokers")(error),
        })?;
        Ok(Self {
            client: Arc::new(config.create().map_err(wrong_property)?),
            advertised: brokers.into(),
            timeout,
        })
    }

    /// The number of brokers.
    ///
    /// # Errors
    /// [`AdminError::Unreachable`].
    pub async fn brokers(&self) -> Result<usize, AdminError> {
        self.blocking(|admin| {
            let metadata = admin.client.inner().fetch_metadata(None, admin.timeout);
            Ok(metadata
                .map_err(unanswered("count", "the brokers"))?
                .brokers()
                .len())
        })
        .await
    }

    /// The longest that brokers let a transaction be open; none where they do not say.
    pub async fn longest_transaction(&self) -> Option<Duration> {
        let settings = self.broker_settings().await.ok()?;
        let ms = settings.get("transaction.max.timeout.ms")?.parse().ok()?;
        Some(Duration::from_millis(ms))
    }

    /// Whether the brokers can be reached at the addresses that they advertise, looked at for at most `patience`.
    /// They are those of the first answer: it may be the last one.
    ///
    /// # Errors
    /// [`AdminError::Unreachable`] where the process ends.
    pub async fn reach_brokers(&self, patience: Duration) -> Result<Reach, AdminError> {
        self.blocking(move |admin| Ok(reach(admin.advertised.to_vec(), patience)))
            .await
    }

    /// The settings of one of the brokers; empty where we may not read them.
    ///
    /// # Errors
    /// [`AdminError::Unreachable`].
    pub async fn broker_settings(&self) -> Result<HashMap<String, String>, AdminError> {
        let ask = |admin: &Self| {
            let metadata = admin.client.inner().fetch_metadata(None, admin.timeout);
            let metadata = metadata.map_err(unanswered("count", "the brokers"))?;
            Ok(metadata.brokers().first().map(|broker| broker.id()))
        };
        let Some(id) = self.blocking(ask).await? else {
            return Ok(HashMap::new());
        };
        let described = self
            .client
            .describe_configs(&[ResourceSpecifier::Broker(id)], &self.options())
            .await
            .map_err(unanswered("describe", "the brokers"))?;
        let entries = described.into_iter().flatten().flat_map(|one| one.entries);
        Ok(entries
            .filter_map(|entry| Some((entry.name, entry.value?)))
            .collect())
    }

    /// The names of all topics that we may see, internal ones included, in order.
    ///
    /// librdkafka's binding panics on a name that is not UTF-8; brokers refuse to create
    /// topics with any but ASCII letters, digits and `._-`.
    ///
    /// # Errors
    /// [`AdminError::Unreachable`].
    pub async fn list_topics(&self) -> Result<Vec<String>, AdminError> {
        self.blocking(|admin| {
            let metadata = admin.client.inner().fetch_metadata(None, admin.timeout);
            let metadata = metadata.map_err(unanswered("list", "the topics"))?;
            let mut names: Vec<String> = metadata
                .topics()
                .iter()
                .map(|topic| topic.name().to_owned())
                .collect();
            names.sort_unstable();
            Ok(names)
        })
        .await
    }

    /// The number of a consumer group's members; 0 where there is no such group.
    ///
    /// Brokers answer it for the classic protocol alone.
    ///
    /// # Errors
    /// [`AdminError::Unreachable`].
    pub async fn group_members(&self, group: &str) -> Result<usize, AdminError> {
        let name = group.to_owned();
        self.blocking(move |admin| {
            let client = admin.client.inner();
            let list = client.fetch_group_list(Some(&name), admin.timeout);
            let list = list.map_err(unanswered("describe", "the consumer group"))?;
            let found = list.groups().iter().find(|group| group.name() == name);
            Ok(found.map_or(0, |group| group.members().len()))
        })
        .await
    }

    /// What the cluster has of these topics now; one that is missing is not in the answer.
    /// Where we may not read a topic's settings they are empty.
    ///
    /// # Errors
    /// [`AdminError::Forbidden`] for a topic that we may not even see.
    pub async fn found(&self, names: &[String]) -> Result<HashMap<String, Found>, AdminError> {
        let asked = names.to_vec();
        let mut found = self.blocking(move |admin| admin.shapes(&asked)).await?;
        let specifiers: Vec<_> = found
            .keys()
            .map(|name| ResourceSpecifier::Topic(name))
            .collect();
        if specifiers.is_empty() {
            return Ok(found);
        }
        let described = self
            .client
            .describe_configs(&specifiers, &self.options())
            .await
            .map_err(unanswered("describe", "the topics"))?;
        // One that failed is one that we may not read, or that was deleted this moment.
        for (name, configs) in described.into_iter().flatten().filter_map(settings) {
            if let Some(topic) = found.get_mut(&name) {
                topic.configs = configs;
            }
        }
        Ok(found)
    }

    /// As [`Admin::found`], but asks again for as long as `patience` while one is missing:
    /// a topic that was just created is unknown to some brokers for a moment.
    ///
    /// # Errors
    /// As [`Admin::found`].
    pub async fn found_within(
        &self,
        names: &[String],
        patience: Duration,
    ) -> Result<HashMap<String, Found>, AdminError> {
        let deadline = Instant::now() + patience;
        loop {
            let found = self.found(names).await?;
            if names.iter().all(|name| found.contains_key(name)) || Instant::now() >= deadline {
                return Ok(found);
            }
            tokio::time::sleep(ASK_AGAIN).await;
        }
    }

    /// Creates these topics on a cluster of so many brokers, and asks for them until they
    /// are there, for as long as one request may take. One that exists already is fine.
    ///
    /// # Errors
    /// The first one, after all were tried.
    pub async fn create(
        &self,
        topics: &[(String, TopicSpec)],
        brokers: usize,
    ) -> Result<(), AdminError> {
        if topics.is_empty() {
            return Ok(());
        }
        let mut specs: Vec<_> = topics
            .iter()
            .map(|(name, spec)| (name.as_str(), spec.on(brokers)))
            .collect();
        let refused = self.try_create(&specs).await?;
        if !refused.is_empty() {
            tracing::warn!(topics = ?refused, "created without bounds of records' times: the cluster does not know them");
            specs.retain(|(name, _)| refused.iter().any(|topic| topic == name));
            for (_, spec) in &mut specs {
                (spec.timestamp_before_max, spec.timestamp_after_max) = (None, None);
            }
            if let Some(topic) = self.try_create(&specs).await?.first() {
                return Err(topic_error(CREATE, topic, RDKafkaErrorCode::InvalidConfig));
            }
        }
        let names: Vec<String> = topics.iter().map(|(name, _)| name.clone()).collect();
        self.found_within(&names, self.timeout).await.map(drop)
    }

    /// Those whose settings are refused: a broker before 3.6 knows no bounds of records' times.
    async fn try_create(&self, specs: &[(&str, TopicSpec)]) -> Result<Vec<String>, AdminError> {
        let configs: Vec<_> = specs.iter().map(|(_, spec)| spec.config()).collect();
        let new = Self::new_topics(specs, &configs);
        let results = self
            .client
            .create_topics(&new, &self.options())
            .await
            .map_err(unanswered("create", "the topics"))?;
        let mut refused = Vec::new();
        for result in results {
            match result {
                Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                Err((topic, RDKafkaErrorCode::InvalidConfig)) => refused.push(topic),
                Err((topic, code)) => return Err(topic_error(CREATE, &topic, code)),
            }
        }
        Ok(refused)
    }

    fn options(&self) -> AdminOptions {
        AdminOptions::new()
            .request_timeout(Some(self.timeout))
            // Until the brokers know them, not just the controller.
            .operation_timeout(Some(self.timeout))
    }

    /// Partitions and copies of those of the topics that exist. Each is asked for by name:
    /// a list of all would not tell a forbidden one from a missing one.
    fn shapes(&self, names: &[String]) -> Result<HashMap<String, Found>, AdminError> {
        let mut found = HashMap::new();
        for name in names {
            let metadata = self
                .client
                .inner()
                .fetch_metadata(Some(name), self.timeout)
                .map_err(unanswered("look up", name))?;
            let Some(topic) = metadata.topics().first() else {
                continue;
            };
            match topic.error().map(RDKafkaErrorCode::from) {
                // Without a leader it exists all the same.
                None | Some(RDKafkaErrorCode::LeaderNotAvailable) => {
                    found.insert(name.clone(), shape(topic));
                }
                Some(RDKafkaErrorCode::UnknownTopicOrPartition) => {}
                Some(code) => return Err(topic_error(LOOK_UP, name, code)),
            }
        }
        Ok(found)
    }

    /// librdkafka's metadata call blocks its thread for up to the timeout.
    async fn blocking<T: Send + 'static>(
        &self,
        call: impl FnOnce(&Self) -> Result<T, AdminError> + Send + 'static,
    ) -> Result<T, AdminError> {
        let admin = self.clone();
        blocking(move || call(&admin)).await?
    }
}

async fn blocking<T: Send + 'static>(
    call: impl FnOnce() -> T + Send + 'static,
) -> Result<T, AdminError> {
    match tokio::task::spawn_blocking(call).await {
        Ok(result) => Ok(result),
        Err(stopped) => match stopped.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_cancelled) => Err(AdminError::Unreachable(KafkaError::Canceled)),
        },
    }
}

fn shape(topic: &MetadataTopic) -> Found {
    let partitions = topic.partitions();
    let copies = partitions
        .iter()
        .map(|partition| partition.replicas().len())
        .min();
    Found {
        partitions: i32::try_from(partitions.len()).unwrap_or(i32::MAX),
        replication: copies
            .and_then(|copies| i32::try_from(copies).ok())
            .unwrap_or_default(),
        configs: HashMap::new(),
    }
}

fn settings(resource: ConfigResource) -> Option<(String, HashMap<String, String>)> {
    match resource.specifier {
        OwnedResourceSpecifier::Topic(name) => {
            let settings = resource.entries.into_iter();
            Some((
                name,
                settings
                    .filter_map(|entry| Some((entry.name, entry.value?)))
                    .collect(),
            ))
        }
        OwnedResourceSpecifier::Group(_) | OwnedResourceSpecifier::Broker(_) => None,
    }
}

/// What we wanted to do with a topic, and Kafka's word for it.
type Wanted = (&'static str, &'static str);

const LOOK_UP: Wanted = ("look up", "Describe");
const CREATE: Wanted = ("create", "Create");

fn topic_error((action, operation): Wanted, topic: &str, code: RDKafkaErrorCode) -> AdminError {
    use RDKafkaErrorCode as Code;
    if matches!(
        code,
        Code::TopicAuthorizationFailed | Code::ClusterAuthorizationFailed
    ) {
        return AdminError::Forbidden {
            topic: topic.to_owned(),
            action,
            operation,
        };
    }
    AdminError::Other {
        action,
        what: format!("the topic {topic}"),
        source: KafkaError::AdminOp(code),
    }
}

/// A whole request failed. librdkafka has no broker's answer then, only that none came.
fn unanswered(action: &'static str, what: &str) -> impl FnOnce(KafkaError) -> AdminError {
    use RDKafkaErrorCode as Code;
    let what = what.to_owned();
    move |source| {
        let mut code = source.rdkafka_error_code();
        if let KafkaError::AdminOp(of_the_request) = source {
            code = Some(of_the_request);
        }
        match code {
            Some(
                Code::BrokerTransportFailure
                | Code::OperationTimedOut
                | Code::RequestTimedOut
                | Code::AllBrokersDown
                | Code::Resolve,
            ) => AdminError::Unreachable(source),
            _ => AdminError::Other {
                action,
                what,
                source,
            },
        }
    }
}

/// The library's own message of a wrong property ends with its value.
fn wrong_property(error: KafkaError) -> AdminError {
    if let KafkaError::ClientConfig(_, problem, key, _value) = error {
        return AdminError::Property { key, problem };
    }
    AdminError::Other {
        action: "set up",
        what: "the connection to Kafka".to_owned(),
        source: error,
    }
}
