//! What we may do, found out by trying, with nothing left behind.
//!
//! Writing is tried in a transaction of an id that nobody else has. A broker looks at the permission when
//! a topic's partition joins the transaction; librdkafka holds the record back for `linger.ms` meanwhile, and
//! the abort throws it away. So no reader, whatever its isolation level, ever sees one; what is left is the
//! abort's mark. Which partition has joined is told by librdkafka's log alone.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Message as _};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _, ProducerContext};
use rdkafka::{Offset, TopicPartitionList};

use super::Stopped;
use super::clients::{Connection, Quiet, forbidden_topic};
use super::faults::{is_fence, is_forbidden_id};
use super::progress::{ProgressError, committed};
use super::start::number;
use super::window::{WindowError, failed, reader};
use crate::clock::EpochMs;

/// How long records are held back: far longer than they wait for their abort.
const HELD_BACK: Duration = Duration::from_secs(25);

/// A transaction is given up after this, well before anything of it would be sent.
const LONGEST: Duration = Duration::from_secs(15);

/// An abort is given up after this: the brokers end the transaction in time.
const ABORT: Duration = Duration::from_secs(5);

/// One look at what came.
const LOOK: Duration = Duration::from_millis(20);

/// Larger than what is sent.
const LARGEST: usize = 1 << 20;

/// Whether we may.
#[derive(Debug, Clone)]
pub enum Allowed {
    /// It was tried, and taken.
    Yes,
    /// It was tried, and refused.
    No,
    /// There is no such topic.
    Missing,
    /// There was no answer in time.
    Unknown(Stopped),
}

/// Why writing could not even be tried.
#[derive(Debug, Clone, thiserror::Error)]
pub enum TrialError {
    /// Another process has the id, or has just taken it.
    #[error("another check has the transactional id {0}")]
    Taken(String),
    /// We may not use the id.
    #[error("we may not use the transactional id {0}")]
    Forbidden(String),
    /// Kafka did not answer.
    #[error("no transaction: {0}")]
    Silent(Stopped),
}

/// Tries to write to the topics, which must exist, under a transactional id that nothing else has. Blocks, for
/// `timeout` and an abort at most.
///
/// # Errors
///
/// When there is no transaction to try it in.
pub fn write(
    connection: &Connection,
    id: &str,
    topics: &[String],
    timeout: Duration,
) -> Result<BTreeMap<String, Allowed>, TrialError> {
    let deadline = Instant::now() + timeout;
    let mut heard = BTreeMap::new();
    let mut open = topics.to_vec();
    while !open.is_empty() && Instant::now() < deadline {
        let (round, ended) = join(connection, id, &open, deadline);
        open.retain(|topic| !round.contains_key(topic));
        match ended {
            // A broker refuses the abort of a transaction that no topic could join.
            Err(error) if round.is_empty() => return Err(trial_error(id, &error)),
            Ok(()) if round.is_empty() => break,
            Ok(()) | Err(_) => heard.extend(round),
        }
    }
    for topic in open {
        heard.insert(topic, Allowed::Unknown(timed_out()));
    }
    Ok(heard)
}

/// One transaction that these topics join, aborted, and what was heard of them. Where one is refused the
/// others may not have been looked at.
fn join(
    connection: &Connection,
    id: &str,
    topics: &[String],
    deadline: Instant,
) -> (BTreeMap<String, Allowed>, Result<(), KafkaError>) {
    let made = connection
        .producer(id, LARGEST)
        .set("linger.ms", HELD_BACK.as_millis().to_string())
        // Says which partitions have joined.
        .set("debug", "eos")
        .set_log_level(RDKafkaLogLevel::Debug)
        .create_with_context(Ear::default());
    let producer: BaseProducer<Ear> = match made {
        Ok(producer) => producer,
        Err(error) => return (BTreeMap::new(), Err(error)),
    };
    let ended = transaction(&producer, topics, deadline);
    let heard = std::mem::take(&mut *producer.context().heard.lock());
    (heard, ended)
}

fn transaction(
    producer: &BaseProducer<Ear>,
    topics: &[String],
    deadline: Instant,
) -> Result<(), KafkaError> {
    producer.init_transactions(deadline.saturating_duration_since(Instant::now()))?;
    producer.begin_transaction()?;
    let deadline = deadline.min(Instant::now() + LONGEST);
    for topic in topics {
        let record: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(topic).partition(0).payload(b"");
        if let Err((error, _)) = producer.send(record) {
            producer.context().refused(topic, &error);
        }
    }
    let all_heard = || {
        let heard = producer.context().heard.lock();
        topics.iter().all(|topic| heard.contains_key(topic))
    };
    let none_refused = || {
        let heard = producer.context().heard.lock();
        let refused = |topic: &String| matches!(heard.get(topic), Some(Allowed::No));
        !topics.iter().any(refused)
    };
    while !all_heard() && none_refused() && Instant::now() < deadline {
        producer.poll(LOOK);
    }
    // What was said of the others came in the same answer.
    producer.poll(LOOK);
    abort(producer)
}

/// In short turns: it waits until somebody has polled for the records that it throws away.
fn abort(producer: &BaseProducer<Ear>) -> Result<(), KafkaError> {
    const TURN: Duration = Duration::from_millis(100);
    let deadline = Instant::now() + ABORT;
    loop {
        producer.poll(LOOK);
        match producer.abort_transaction(TURN) {
            Err(error)
                if error.rdkafka_error_code() == Some(RDKafkaErrorCode::OperationTimedOut)
                    && Instant::now() < deadline => {}
            ended => return ended,
        }
    }
}

/// Hears what becomes of the topics.
#[derive(Default)]
struct Ear {
    heard: Mutex<BTreeMap<String, Allowed>>,
}

impl Ear {
    fn refused(&self, topic: &str, error: &KafkaError) {
        match told(failed(topic, error)) {
            // Thrown away by the abort, for example.
            Allowed::Unknown(_) => {}
            allowed @ (Allowed::Yes | Allowed::No | Allowed::Missing) => {
                self.heard.lock().insert(topic.to_owned(), allowed);
            }
        }
    }
}

impl ClientContext for Ear {
    fn log(&self, _level: RDKafkaLogLevel, facility: &str, line: &str) {
        if let Some(topic) = forbidden_topic(facility, line) {
            self.heard.lock().insert(topic.to_owned(), Allowed::No);
        } else if let Some(topic) = joined_topic(facility, line) {
            self.heard.lock().insert(topic.to_owned(), Allowed::Yes);
        }
    }

    fn error(&self, _: KafkaError, _: &str) {}
}

impl ProducerContext for Ear {
    type DeliveryOpaque = ();

    fn delivery(&self, delivered: &DeliveryResult<'_>, (): ()) {
        if let Err((error, message)) = delivered {
            self.refused(message.topic(), error);
        }
    }
}

/// The topic whose partition has joined the transaction.
fn joined_topic<'a>(facility: &str, line: &'a str) -> Option<&'a str> {
    let rest = line.strip_suffix(" [0] registered with transaction")?;
    let topic = rest.rsplit(' ').next()?;
    (facility == "ADDPARTS").then_some(topic)
}

/// Tries to fetch from the end of a topic, in no group. Blocks.
#[must_use]
pub fn read(connection: &Connection, topic: &str, timeout: Duration) -> Allowed {
    let deadline = Instant::now() + timeout;
    let consumer = match reader(connection, topic) {
        Ok(consumer) => consumer,
        Err(error) => return told(error),
    };
    if let Err(error) = stand_at_end(&consumer, topic, timeout) {
        return told(failed(topic, &error));
    }
    while Instant::now() < deadline {
        match consumer.poll(LOOK) {
            Some(Ok(_) | Err(KafkaError::PartitionEOF(_))) => return Allowed::Yes,
            Some(Err(error)) => match told(failed(topic, &error)) {
                Allowed::Unknown(_) => {}
                allowed @ (Allowed::Yes | Allowed::No | Allowed::Missing) => return allowed,
            },
            None => {}
        }
    }
    Allowed::Unknown(timed_out())
}

fn stand_at_end(
    consumer: &BaseConsumer<Quiet>,
    topic: &str,
    timeout: Duration,
) -> Result<(), KafkaError> {
    let metadata = consumer.fetch_metadata(Some(topic), timeout)?;
    let found = metadata.topics().first();
    if let Some(code) = found.and_then(rdkafka::metadata::MetadataTopic::error) {
        return Err(KafkaError::MetadataFetch(code.into()));
    }
    let mut ends = TopicPartitionList::new();
    for partition in found.into_iter().flat_map(|topic| topic.partitions()) {
        ends.add_partition_offset(topic, partition.id(), Offset::End)?;
    }
    consumer.assign(&ends)
}

fn told(error: WindowError) -> Allowed {
    match error {
        WindowError::Forbidden(_) => Allowed::No,
        WindowError::NoTopic(_) | WindowError::NoPartition { .. } => Allowed::Missing,
        WindowError::Silent { stopped, .. } => Allowed::Unknown(stopped),
    }
}

/// Tries to look at what the service's group has committed of a topic; joins nothing. Blocks.
#[must_use]
pub fn describe_group(connection: &Connection, topic: &str, timeout: Duration) -> Allowed {
    match committed(connection, topic, &[0], timeout) {
        Ok(_) => Allowed::Yes,
        Err(ProgressError::Forbidden(_)) => Allowed::No,
        Err(ProgressError::Topic(WindowError::Silent { stopped, .. })) => Allowed::Unknown(stopped),
        Err(ProgressError::Topic(error)) => told(error),
    }
}

/// The latest time on a topic's first partition, of what is less than a day from `around`. The mark of an
/// abort counts, and has the time of the broker that leads the partition. Blocks.
///
/// # Errors
///
/// When Kafka does not answer.
pub fn latest(
    connection: &Connection,
    topic: &str,
    around: EpochMs,
    timeout: Duration,
) -> Result<Option<EpochMs>, Stopped> {
    const DAY: Duration = Duration::from_secs(24 * 60 * 60);
    const CLOSE: i64 = 50;
    let stopped = |error: KafkaError| Stopped::from(&error);
    let deadline = Instant::now() + timeout;
    let consumer: BaseConsumer<Quiet> = connection
        // Marks, and what an open transaction holds back.
        .reader_of_all()
        .create_with_context(Quiet)
        .map_err(stopped)?;
    let is_there = |since: i64| -> Result<bool, Stopped> {
        let mut asked = TopicPartitionList::new();
        let since = Offset::Offset(since.max(0));
        asked
            .add_partition_offset(topic, 0, since)
            .map_err(stopped)?;
        let left = deadline.saturating_duration_since(Instant::now());
        let answer = consumer.offsets_for_times(asked, left).map_err(stopped)?;
        let found = answer.elements();
        let one = found.first().ok_or_else(timed_out)?;
        one.error().map_err(stopped)?;
        Ok(number(one.offset()).is_some())
    };
    let (mut there, mut beyond) = (around.minus(DAY).0, around.plus(DAY).0);
    if !is_there(there)? {
        return Ok(None);
    }
    while beyond - there > CLOSE {
        let middle = there + (beyond - there) / 2;
        match is_there(middle)? {
            true => there = middle,
            false => beyond = middle,
        }
    }
    Ok(Some(EpochMs(there)))
}

fn timed_out() -> Stopped {
    Stopped::from(&KafkaError::MetadataFetch(
        RDKafkaErrorCode::OperationTimedOut,
    ))
}

fn trial_error(id: &str, error: &KafkaError) -> TrialError {
    if is_forbidden_id(error) {
        TrialError::Forbidden(id.to_owned())
    } else if is_fence(error) {
        TrialError::Taken(id.to_owned())
    } else {
        TrialError::Silent(Stopped::from(error))
    }
}

#[cfg(test)]
mod tests {
    use super::joined_topic;

    #[test]
    fn a_topic_that_has_joined_is_named_in_a_line() {
        let line = "[thrd:main]: a.sms [0] registered with transaction";
        assert_eq!(joined_topic("ADDPARTS", line), Some("a.sms"));
        assert_eq!(joined_topic("TXNERR", line), None);
        let other = "[thrd:main]: Marking partitions as registered with transaction";
        assert_eq!(joined_topic("ADDPARTS", other), None);
    }
}
