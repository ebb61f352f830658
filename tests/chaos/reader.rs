//! The independent reader: `read_committed`, by a consumer of its own, by partition and offset.

use std::collections::HashMap;
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

/// Reads everything as it comes, until `stop`; tells `pulse` of each outcome.
pub(crate) fn follow(brokers: &str, ledger: &Mutex<Ledger>, stop: &Stop, mut pulse: impl FnMut()) {
    let (consumer, _) = assigned(brokers);
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
    let (consumer, mut open) = assigned(brokers);
    let (mut next, mut read) = (HashMap::new(), 0);
    let deadline = Instant::now() + LONG;
    while open > 0 {
        if Instant::now() > deadline {
            return Err(format!("{open} partitions were not read to their end"));
        }
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => {
                if is_new(&mut next, &message) {
                    enter(ledger, &message);
                    write_down(trace, &message).map_err(|error| error.to_string())?;
                    read += 1;
                }
            }
            Some(Err(KafkaError::PartitionEOF(_))) => open -= 1,
            Some(Err(_)) | None => {}
        }
    }
    Ok(read)
}

/// What the group has not read to its end, and where a transaction is still open.
pub(crate) fn left(brokers: &str, group: &str) -> Result<Vec<String>, KafkaError> {
    let consumer: BaseConsumer = config(brokers).set("group.id", group).create()?;
    let uncommitted: BaseConsumer = config(brokers)
        .set("isolation.level", "read_uncommitted")
        .set("group.id", group)
        .create()?;
    let metadata = consumer.fetch_metadata(None, PATIENCE)?;
    let (mut asked, mut left) = (TopicPartitionList::new(), Vec::new());
    for topic in metadata.topics() {
        let name = topic.name();
        let input = name == crate::REQUESTS
            || name == "user-otp.accepted"
            || name == "user-otp.jobs.request"
            || name.starts_with("user-otp.retry.");
        let output = TOPICS.iter().any(|(_, output)| *output == name);
        for partition in topic.partitions() {
            if input {
                asked.add_partition(name, partition.id());
            }
            if output {
                let (_, end) = consumer.fetch_watermarks(name, partition.id(), PATIENCE)?;
                let (_, last) = uncommitted.fetch_watermarks(name, partition.id(), PATIENCE)?;
                if end != last {
                    left.push(format!(
                        "{name}-{} is open from {end} of {last}",
                        partition.id()
                    ));
                }
            }
        }
    }
    let committed = consumer.committed_offsets(asked, PATIENCE)?;
    for element in committed.elements() {
        let (topic, partition) = (element.topic(), element.partition());
        let (_, end) = consumer.fetch_watermarks(topic, partition, PATIENCE)?;
        if element.offset() != Offset::Offset(end) {
            left.push(format!(
                "{topic}-{partition} {:?} of {end}",
                element.offset()
            ));
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

/// A consumer at the beginning of every partition, and how many there are.
fn assigned(brokers: &str) -> (BaseConsumer, usize) {
    let consumer: BaseConsumer = config(brokers)
        .set("group.id", "chaos-reader")
        .create()
        .expect("a consumer");
    let metadata = consumer.fetch_metadata(None, PATIENCE);
    let metadata = metadata.expect("the brokers answer");
    let mut from = TopicPartitionList::new();
    for topic in metadata.topics() {
        if TOPICS.iter().any(|(_, name)| *name == topic.name()) {
            for partition in topic.partitions() {
                from.add_partition_offset(topic.name(), partition.id(), Offset::Beginning)
                    .expect("a valid offset");
            }
        }
    }
    consumer.assign(&from).expect("a valid assignment");
    let partitions = from.count();
    (consumer, partitions)
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
