//! The independent reader: `read_committed`, by a consumer of its own, by partition and offset.

use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::message::{Headers as _, Message as _};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use crate::chance::Stop;
use crate::ledger::{Ledger, Role, Seen};

/// The topics, by their default names.
pub(crate) const TOPICS: [(Role, &str); 6] = [
    (Role::Outcome, "egov.core.otp.outcome"),
    (Role::Sms, "egov.core.notification.sms.otp"),
    (Role::Email, "org.egov.core.notification.email"),
    (Role::DeadLetter, "user-otp.dlq"),
    (Role::Accepted, "user-otp.accepted"),
    (Role::Request, crate::REQUESTS),
];

/// How long the brokers may take for an answer, and how long it may take to read everything.
const PATIENCE: Duration = Duration::from_secs(60);
const LONG: Duration = Duration::from_secs(600);

/// Reads what the service writes as it comes, until `stop`; tells `pulse` of each outcome.
pub(crate) fn follow(brokers: &str, ledger: &Mutex<Ledger>, stop: &Stop, mut pulse: impl FnMut()) {
    // The request topic is created again meanwhile.
    let consumer = loop {
        match assigned(brokers, |role| role != Role::Request) {
            Ok((consumer, _)) => break consumer,
            Err(_) if stop.is_stopped() => return,
            Err(_) => {}
        }
    };
    let mut next = HashMap::new();
    while !stop.is_stopped() {
        if let Some(Ok(message)) = consumer.poll(Duration::from_millis(100))
            && is_new(&mut next, &message)
            && enter(ledger, &message)
        {
            pulse();
        }
    }
}

/// Reads everything that there is, from the first record on, and writes to `trace` what it was, but
/// for what holds numbers; an error says what is missing.
pub(crate) fn read_all(
    brokers: &str,
    ledger: &Mutex<Ledger>,
    trace: &mut impl Write,
) -> Result<usize, String> {
    let (consumer, open) = assigned(brokers, |_| true)?;
    let mut read = 0;
    to_the_end(&consumer, open, |message| {
        enter(ledger, message);
        read += 1;
        write_down(trace, message).map_err(|error| error.to_string())
    })?;
    Ok(read)
}

/// All requests that are in the log now, each with its partition and offset.
pub(crate) fn requests(brokers: &str) -> Result<Vec<(u32, i32, i64)>, String> {
    let (consumer, open) = assigned(brokers, |role| role == Role::Request)?;
    let mut found = Vec::new();
    to_the_end(&consumer, open, |message| {
        found.extend(id(message).map(|id| (id, message.partition(), message.offset())));
        Ok(())
    })?;
    Ok(found)
}

/// Hands over each record that there is, once; an error says what is missing.
fn to_the_end(
    consumer: &BaseConsumer,
    mut open: usize,
    mut each: impl FnMut(&rdkafka::message::BorrowedMessage<'_>) -> Result<(), String>,
) -> Result<(), String> {
    let mut next = HashMap::new();
    let deadline = Instant::now() + LONG;
    while open > 0 {
        if Instant::now() > deadline {
            return Err(format!("{open} partitions were not read to their end"));
        }
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => {
                if is_new(&mut next, &message) {
                    each(&message)?;
                }
            }
            Some(Err(KafkaError::PartitionEOF(_))) => open -= 1,
            Some(Err(_)) | None => {}
        }
    }
    Ok(())
}

/// A partition that the group has not read to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Behind {
    pub(crate) topic: String,
    pub(crate) partition: i32,
    /// None: no offset was ever committed.
    pub(crate) committed: Option<i64>,
    /// The last stable offset.
    pub(crate) end: i64,
}

/// What the group reads, in order: a name, or how it begins.
fn is_input(topic: &str) -> bool {
    topic == crate::REQUESTS
        || topic == "user-otp.accepted"
        || topic == "user-otp.jobs.request"
        || topic.starts_with("user-otp.retry.")
}

/// Asks how far the group is, again and again.
pub(crate) struct Position(BaseConsumer);

impl Position {
    pub(crate) fn new(brokers: &str, group: &str) -> Result<Self, KafkaError> {
        Ok(Self(config(brokers).set("group.id", group).create()?))
    }

    /// Every partition that the group has not read to its end, or where it has no offset.
    pub(crate) fn behind(&self) -> Result<Vec<Behind>, KafkaError> {
        let metadata = self.0.fetch_metadata(None, PATIENCE)?;
        let mut asked = TopicPartitionList::new();
        for topic in metadata
            .topics()
            .iter()
            .filter(|topic| is_input(topic.name()))
        {
            for partition in topic.partitions() {
                asked.add_partition(topic.name(), partition.id());
            }
        }
        let mut behind = Vec::new();
        for element in self.0.committed_offsets(asked, PATIENCE)?.elements() {
            let (topic, partition) = (element.topic(), element.partition());
            let (_, end) = self.0.fetch_watermarks(topic, partition, PATIENCE)?;
            let committed = match element.offset() {
                Offset::Offset(offset) => Some(offset),
                Offset::Beginning
                | Offset::End
                | Offset::Stored
                | Offset::Invalid
                | Offset::OffsetTail(_) => None,
            };
            if committed != Some(end) {
                behind.push(Behind {
                    topic: topic.to_owned(),
                    partition,
                    committed,
                    end,
                });
            }
        }
        Ok(behind)
    }

    /// The committed offset of each partition of the request topic.
    pub(crate) fn of_requests(&self) -> Result<BTreeMap<i32, i64>, KafkaError> {
        let metadata = self.0.fetch_metadata(Some(crate::REQUESTS), PATIENCE)?;
        let mut asked = TopicPartitionList::new();
        for partition in metadata
            .topics()
            .iter()
            .flat_map(|topic| topic.partitions())
        {
            asked.add_partition(crate::REQUESTS, partition.id());
        }
        let committed = self.0.committed_offsets(asked, PATIENCE)?;
        Ok(committed
            .elements()
            .iter()
            .filter_map(|element| Some((element.partition(), element.offset().to_raw()?)))
            .collect())
    }
}

/// What the group has not read to its end, and where a transaction is still open.
pub(crate) fn left(brokers: &str, group: &str) -> Result<Vec<String>, KafkaError> {
    let behind = Position::new(brokers, group)?.behind()?;
    let mut left: Vec<_> = behind
        .iter()
        .map(|one| {
            format!(
                "{}-{} {:?} of {}",
                one.topic, one.partition, one.committed, one.end
            )
        })
        .collect();
    let committed: BaseConsumer = config(brokers).create()?;
    let uncommitted: BaseConsumer = config(brokers)
        .set("isolation.level", "read_uncommitted")
        .create()?;
    let metadata = committed.fetch_metadata(None, PATIENCE)?;
    for topic in metadata.topics() {
        let name = topic.name();
        if !TOPICS.iter().any(|(_, output)| *output == name) {
            continue;
        }
        for partition in topic.partitions().iter().map(|partition| partition.id()) {
            let (_, end) = committed.fetch_watermarks(name, partition, PATIENCE)?;
            let (_, last) = uncommitted.fetch_watermarks(name, partition, PATIENCE)?;
            if end != last {
                left.push(format!("{name}-{partition} is open from {end} of {last}"));
            }
        }
    }
    Ok(left)
}

fn enter(ledger: &Mutex<Ledger>, message: &rdkafka::message::BorrowedMessage<'_>) -> bool {
    let found = TOPICS.iter().find(|(_, name)| *name == message.topic());
    let Some((role, _)) = found else { return false };
    let seen = Seen {
        partition: message.partition(),
        offset: message.offset(),
        time: message.timestamp().to_millis().unwrap_or(0),
        value: message.payload(),
    };
    let mut ledger = ledger.lock().unwrap_or_else(PoisonError::into_inner);
    ledger.read(*role, id(message), &seen)
}

fn write_down(
    trace: &mut impl Write,
    message: &rdkafka::message::BorrowedMessage<'_>,
) -> std::io::Result<()> {
    let (topic, partition, offset) = (message.topic(), message.partition(), message.offset());
    let time = message.timestamp().to_millis().unwrap_or(0);
    let id = id(message).map_or_else(|| "?".to_owned(), |id| format!("c-{id}"));
    // Nobody's number is in an outcome.
    let outcome = (topic == TOPICS[0].1)
        .then(|| message.payload())
        .flatten()
        .unwrap_or_default();
    let outcome = String::from_utf8_lossy(outcome);
    writeln!(trace, "{id} {topic}-{partition}-{offset} {time} {outcome}")
}

/// The request's id: the event's where it was published, the correlation's where it was posted.
fn id(message: &rdkafka::message::BorrowedMessage<'_>) -> Option<u32> {
    let headers = message.headers()?;
    let ours = |name: &str| {
        let header = headers.iter().find(|header| header.key == name)?;
        let text = std::str::from_utf8(header.value?).ok()?;
        text.strip_prefix("c-")?.parse().ok()
    };
    ours("x-correlation-id").or_else(|| ours("otp-event-id"))
}

/// A consumer that was thrown back must not count anything twice.
fn is_new(
    next: &mut HashMap<(String, i32), i64>,
    message: &rdkafka::message::BorrowedMessage<'_>,
) -> bool {
    let place = (message.topic().to_owned(), message.partition());
    let next = next.entry(place).or_insert(0);
    let new = message.offset() >= *next;
    *next = (*next).max(message.offset() + 1);
    new
}

/// A consumer at the beginning of every partition of some topics, and how many there are.
fn assigned(brokers: &str, wanted: impl Fn(Role) -> bool) -> Result<(BaseConsumer, usize), String> {
    let consumer: BaseConsumer = config(brokers)
        .set("group.id", "chaos-reader")
        .create()
        .expect("a consumer");
    let metadata = consumer
        .fetch_metadata(None, PATIENCE)
        .map_err(|error| format!("the brokers do not answer: {error}"))?;
    let mut from = TopicPartitionList::new();
    for topic in metadata.topics() {
        let is_wanted = |(role, name): &(Role, &str)| *name == topic.name() && wanted(*role);
        if TOPICS.iter().any(is_wanted) {
            for partition in topic.partitions() {
                from.add_partition_offset(topic.name(), partition.id(), Offset::Beginning)
                    .expect("a valid offset");
            }
        }
    }
    consumer.assign(&from).expect("a valid assignment");
    let partitions = from.count();
    Ok((consumer, partitions))
}

fn config(brokers: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", brokers)
        .set("isolation.level", "read_committed")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .set("auto.offset.reset", "earliest")
        .set("fetch.wait.max.ms", "100")
        .set("socket.timeout.ms", "10000")
        .set("log_level", "0");
    config
}
