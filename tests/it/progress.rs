//! What holds at the end of every test: an instance that still runs has read its partitions to their end, or its
//! health says why not; and if it has, every request has its outcome.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaResult;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use serde_json::Value;

use crate::kafka::{Partition, Record, wait_for};
use crate::process::Process;
use crate::world::Outcome;

/// One question to a broker that may have ended.
const QUESTION: Duration = Duration::from_secs(10);

/// What an instance has to read.
#[derive(Clone, Debug)]
pub(crate) struct Input {
    pub(crate) broker: String,
    pub(crate) group: String,
    /// The topics of requests, of accepted ones and of jobs.
    pub(crate) topics: Vec<String>,
    /// Its retry topics are those whose names begin with this.
    pub(crate) retries: String,
}

/// How far an instance has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// All is read and committed.
    AtTheEnd,
    /// Not all is, and its health says why.
    Explained,
    /// Nobody can say: it does not answer, or its brokers do not.
    Unknown,
}

impl Input {
    /// Waits until `process` is at the end of all partitions, or says why it is not.
    #[track_caller]
    pub(crate) fn wait_for_progress(&self, process: &Process) -> Progress {
        let Ok(reader) = self.reader() else {
            return Progress::Unknown;
        };
        wait_for("all is read to its end, or health says why not", || {
            let Some(explained) = health_explains(process) else {
                return Ok(Progress::Unknown);
            };
            let Ok(behind) = self.behind(&reader) else {
                return Ok(Progress::Unknown);
            };
            if behind.is_empty() {
                Ok(Progress::AtTheEnd)
            } else if explained {
                Ok(Progress::Explained)
            } else {
                Err(behind)
            }
        })
    }

    fn reader(&self) -> KafkaResult<BaseConsumer> {
        ClientConfig::new()
            .set("bootstrap.servers", &self.broker)
            .set("group.id", &self.group)
            .set("isolation.level", "read_committed")
            .set("enable.auto.commit", "false")
            .set("log_level", "2")
            .create()
    }

    /// The partitions that are not at their end: what is committed, and the last stable offset.
    fn behind(&self, reader: &BaseConsumer) -> KafkaResult<BTreeMap<Partition, (i64, i64)>> {
        let metadata = reader.fetch_metadata(None, QUESTION)?;
        let mut asked = TopicPartitionList::new();
        for topic in metadata.topics() {
            let name = topic.name();
            if self.topics.iter().any(|one| one == name) || name.starts_with(&self.retries) {
                for partition in topic.partitions() {
                    asked.add_partition(name, partition.id());
                }
            }
        }
        let mut behind = BTreeMap::new();
        for element in reader.committed_offsets(asked, QUESTION)?.elements() {
            let (topic, partition) = (element.topic(), element.partition());
            let (low, end) = reader.fetch_watermarks(topic, partition, QUESTION)?;
            let committed = match element.offset() {
                Offset::Offset(offset) => offset,
                _ => low,
            };
            if committed != end {
                behind.insert((topic.to_owned(), partition), (committed, end));
            }
        }
        Ok(behind)
    }
}

/// Whether anything is not as it should be, by its own health; none: it does not answer.
fn health_explains(process: &Process) -> Option<bool> {
    let (_, body) = process.try_get("/health/ready")?;
    let report: Value = serde_json::from_str(&body).expect("health is JSON");
    let checks = report["checks"].as_array().expect("health has checks");
    Some(checks.iter().any(|check| check["status"] != "UP"))
}

/// Fails where a record of the request topic (`requests`), or one that was handed over (`handed`), has no outcome.
#[track_caller]
pub(crate) fn assert_accounted(requests: &[Record], handed: &[Record], outcomes: &[Outcome]) {
    let outcomes: Vec<Value> = outcomes.iter().map(|one| one.record().json()).collect();
    let words = |name: &str| -> BTreeSet<String> {
        let words = outcomes.iter().filter_map(|outcome| outcome[name].as_str());
        words.map(str::to_owned).collect()
    };
    let (sources, events) = (words("source"), words("eventId"));
    let requests = requests.iter().map(Record::position);
    let handed = handed.iter().map(|record| {
        let event = record.header("otp-event-id");
        event.map_or_else(|| record.position(), str::to_owned)
    });
    let without: Vec<String> = requests
        .filter(|position| !sources.contains(position))
        .chain(handed.filter(|event| !events.contains(event)))
        .collect();
    assert_eq!(
        without, [""; 0],
        "requests without an outcome, though all is read"
    );
}
