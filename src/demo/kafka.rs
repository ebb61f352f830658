//! Where the demo plays: on librdkafka's mock cluster in this process, or on a real broker with
//! topics and a group of its own.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{Consumer as _, ConsumerContext, StreamConsumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Header, Headers as _, Message as _, OwnedHeaders};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{DefaultProducerContext, FutureProducer, FutureRecord};
use rdkafka::{Offset, TopicPartitionList};

use super::arrival::{self, Arrival, Consumed};
use crate::config::Config;
use crate::engine::headers::EVENT_ID;
use crate::engine::record::Position;
use crate::topics::{Found, Role, TopicSpec};
use crate::{ops, service};

/// How long the broker may take to do one thing for the demo.
const PATIENCE: Duration = Duration::from_secs(10);

/// More would show nothing, and each partition is one more question at the start.
const EMBEDDED_PARTITIONS: i32 = 4;

/// Topics by name.
pub(crate) type Wanted = [(String, TopicSpec)];

/// The Kafka of the demo.
pub(crate) enum Cluster {
    /// Ends with this value. It knows no admin calls and keeps no transactional offsets: good
    /// for a story, never for a proof.
    Embedded(MockCluster<'static, DefaultProducerContext>),
    /// A real one, at this address.
    Real(String),
}

impl Cluster {
    /// A cluster of one broker in this process.
    pub(crate) fn embedded() -> anyhow::Result<Self> {
        let mock = MockCluster::new(1).context("the embedded Kafka could not be started")?;
        Ok(Self::Embedded(mock))
    }

    /// Where its brokers listen.
    pub(crate) fn brokers(&self) -> String {
        match self {
            Self::Embedded(mock) => mock.bootstrap_servers(),
            Self::Real(brokers) => brokers.clone(),
        }
    }

    /// Creates every topic, those of the platform too, and says what the cluster tells of them.
    pub(crate) async fn create(
        &self,
        wanted: &mut Wanted,
        config: &Config,
    ) -> anyhow::Result<HashMap<String, Found>> {
        match self {
            Self::Embedded(mock) => {
                for (name, spec) in wanted {
                    spec.partitions = spec.partitions.min(EMBEDDED_PARTITIONS);
                    mock.create_topic(name, spec.partitions, 1)
                        .with_context(|| format!("the topic {name} could not be created"))?;
                }
                Ok(HashMap::new())
            }
            Self::Real(_) => {
                let admin = ops::run::connect(config, Instant::now() + PATIENCE).await?;
                admin.create(wanted, admin.brokers().await?).await?;
                let names: Vec<String> = wanted.iter().map(|(name, _)| name.clone()).collect();
                Ok(admin.found_within(&names, PATIENCE).await?)
            }
        }
    }

    /// Deletes the topics and the group of the demo from a real cluster. What cannot be deleted is
    /// named.
    pub(crate) async fn clear(&self, wanted: &Wanted, config: &Config) -> anyhow::Result<()> {
        match self {
            Self::Embedded(_) => Ok(()),
            Self::Real(_) => {
                let admin: AdminClient<Quiet> = client(config).create_with_context(Quiet)?;
                let names: Vec<&str> = wanted.iter().map(|(name, _)| name.as_str()).collect();
                let options = AdminOptions::new()
                    .request_timeout(Some(PATIENCE))
                    .operation_timeout(Some(PATIENCE));
                let topics = admin.delete_topics(&names, &options).await?;
                let groups = [config.kafka.group.as_str()];
                let groups = admin.delete_groups(&groups, &options).await?;
                let left: Vec<String> = topics
                    .into_iter()
                    .chain(groups)
                    .filter_map(|result| result.err().map(|(name, _)| name))
                    .collect();
                if !left.is_empty() {
                    bail!("could not be deleted, and is left: {}", left.join(" "));
                }
                Ok(())
            }
        }
    }
}

/// An upstream service: writes requests.
pub(crate) struct Upstream {
    producer: FutureProducer<Quiet>,
    topic: String,
}

impl Upstream {
    pub(crate) fn new(config: &Config) -> anyhow::Result<Self> {
        let producer = client(config)
            .set("message.timeout.ms", PATIENCE.as_millis().to_string())
            .create_with_context(Quiet)
            .context("no producer for the requests")?;
        let topic = config.topics.requests.clone();
        Ok(Self { producer, topic })
    }

    /// Writes one request, with an event id or without, and says where it is.
    pub(crate) async fn send(&self, event: Option<&str>, value: &[u8]) -> anyhow::Result<Position> {
        let mut record = FutureRecord::<[u8], [u8]>::to(&self.topic).payload(value);
        if event.is_some() {
            let header = Header {
                key: EVENT_ID,
                value: event,
            };
            record = record.headers(OwnedHeaders::new().insert(header));
        }
        let sent = self.producer.send(record, PATIENCE).await;
        let sent = sent
            .map_err(|(error, _)| error)
            .context("the request could not be written")?;
        Ok(Position {
            topic: self.topic.as_str().into(),
            partition: sent.partition,
            offset: sent.offset,
        })
    }
}

/// Whom the notification services and the upstream service stand for: reads all that comes out,
/// from the beginning, and only what is committed.
pub(crate) struct Reader {
    consumer: StreamConsumer<Quiet>,
    roles: HashMap<String, Role>,
    partitions: usize,
}

/// What a reader comes across.
enum Read {
    Arrival(Arrival),
    /// The end of one partition.
    End,
}

impl Reader {
    pub(crate) fn new(wanted: &Wanted, config: &Config) -> anyhow::Result<Self> {
        let consumer: StreamConsumer<Quiet> = client(config)
            // It assigns itself what it reads, and commits nothing: no group comes of it.
            .set("group.id", format!("{}-reader", config.kafka.group))
            .set("enable.auto.commit", "false")
            // Messages of a transaction that never came to its end were never sent.
            .set("isolation.level", "read_committed")
            .set("enable.partition.eof", "true")
            .create_with_context(Quiet)
            .context("no consumer for what comes out")?;
        let (mut list, mut roles) = (TopicPartitionList::new(), HashMap::new());
        for (name, spec) in wanted.iter().filter(|(_, spec)| is_read(spec.role)) {
            for partition in 0..spec.partitions {
                list.add_partition_offset(name, partition, Offset::Beginning)?;
            }
            roles.insert(name.clone(), spec.role);
        }
        consumer.assign(&list)?;
        let partitions = list.count();
        Ok(Self {
            consumer,
            roles,
            partitions,
        })
    }

    /// The next record that comes out.
    pub(crate) async fn next(&self) -> anyhow::Result<Arrival> {
        loop {
            if let Read::Arrival(arrival) = self.read().await? {
                return Ok(arrival);
            }
        }
    }

    /// All that came out, from the beginning to the end.
    pub(crate) async fn read_all(self) -> anyhow::Result<Vec<Arrival>> {
        let all = async {
            let (mut arrivals, mut ends) = (Vec::new(), 0);
            while ends < self.partitions {
                match self.read().await? {
                    Read::Arrival(arrival) => arrivals.push(arrival),
                    Read::End => ends += 1,
                }
            }
            Ok(arrivals)
        };
        let read = tokio::time::timeout(PATIENCE, all).await;
        read.context("what came out could not be read back in time")?
    }

    async fn read(&self) -> anyhow::Result<Read> {
        loop {
            match self.consumer.recv().await {
                Ok(message) => return Ok(Read::Arrival(self.arrival(&message))),
                Err(KafkaError::PartitionEOF(_)) => return Ok(Read::End),
                // librdkafka goes on by itself.
                Err(KafkaError::MessageConsumption(error)) => {
                    tracing::debug!(%error, "the demo's consumer");
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn arrival(&self, message: &BorrowedMessage<'_>) -> Arrival {
        let header = |name: &str| {
            let headers = message.headers()?;
            let last = headers.iter().filter(|header| header.key == name).last()?;
            String::from_utf8(last.value?.to_vec()).ok()
        };
        let consumed = Consumed {
            at: Position {
                topic: message.topic().into(),
                partition: message.partition(),
                offset: message.offset(),
            },
            value: message.payload().unwrap_or_default(),
            header: &header,
        };
        let role = self.roles.get(message.topic()).copied();
        arrival::read(role.unwrap_or(Role::JobLog), consumed)
    }
}

fn is_read(role: Role) -> bool {
    match role {
        Role::Sms | Role::Email | Role::Outcomes | Role::Retry | Role::DeadLetters => true,
        Role::Requests | Role::Accepted | Role::Jobs | Role::JobLog => false,
    }
}

fn client(config: &Config) -> ClientConfig {
    service::connection(config).admin()
}

/// What the demo's own clients say is no part of the story: they meet the ends of partitions, and
/// hear of properties of another kind of client.
struct Quiet;

impl ClientContext for Quiet {
    fn log(&self, _level: RDKafkaLogLevel, facility: &str, line: &str) {
        tracing::debug!(target: "librdkafka", facility, "{line}");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(target: "librdkafka", %error, reason, "client error");
    }
}

impl ConsumerContext for Quiet {}
