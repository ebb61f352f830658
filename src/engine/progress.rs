//! How far the consumer group is, as the brokers have it. Nobody joins the group, or commits for it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message as _;

use super::clients::{Connection, Quiet};
use super::consumer::own;
use super::start::number;
use super::state::Partition;
use super::unreadable::step_over::{is_decode_error, step_over};
use super::window::{self, PATIENCE, WindowError, assign, failed, partitions, reader_of_all};
use crate::clock::EpochMs;

/// The oldest records are looked for this long.
const LOOK: Duration = Duration::from_secs(5);

/// Between two looks at what was said besides.
const ASK_WHY: Duration = Duration::from_secs(2);

/// How long it is listened to then.
const LISTEN: Duration = Duration::from_millis(20);

/// Why it is not known how far the group is.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ProgressError {
    /// The topic does not tell.
    #[error(transparent)]
    Topic(#[from] WindowError),
    /// We may not look at the group.
    #[error("we may not look at the consumer group {0}: grant Describe on it")]
    Forbidden(String),
}

/// What the group has not finished of a topic.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Behind {
    /// The topic's partitions.
    pub partitions: usize,
    /// Offsets from the committed ones to the ends: what is finished out of order is among them.
    pub offsets: u64,
    /// The record time of the oldest; none: there is none, or it was not found in time.
    pub oldest: Option<EpochMs>,
}

/// Asks for the group's committed offsets and the topic's ends. Blocks.
///
/// # Errors
///
/// When there is no such topic, it or the group may not be looked at, or Kafka does not answer.
pub fn behind(connection: &Connection, topic: &str) -> Result<Behind, ProgressError> {
    let silent = |error: KafkaError| failed(topic, &error);
    // What waits behind a transaction that somebody left open is behind, too.
    let consumer = reader_of_all(connection, topic)?;
    let all = partitions(&consumer, topic, &[])?;
    let committed = committed(connection, topic, &all, PATIENCE)?;
    let mut behind = Behind {
        partitions: all.len(),
        ..Behind::default()
    };
    let mut starts = BTreeMap::new();
    for partition in all {
        let (first, end) = consumer
            .fetch_watermarks(topic, partition, PATIENCE)
            .map_err(silent)?;
        // What retention took cannot be finished any more.
        let from = committed
            .get(&partition)
            .copied()
            .unwrap_or(first)
            .max(first);
        if from < end {
            behind.offsets += u64::try_from(end - from).unwrap_or(0);
            starts.insert(partition, from);
        }
    }
    if !starts.is_empty() {
        assign(
            &consumer,
            topic,
            starts.iter().map(|(partition, from)| (*partition, *from)),
        )?;
        behind.oldest = oldest(&consumer, connection, topic, starts)?;
    }
    Ok(behind)
}

/// The committed offset of each partition that has one. Blocks, for `patience` at most.
pub(super) fn committed(
    connection: &Connection,
    topic: &str,
    partitions: &[i32],
    patience: Duration,
) -> Result<BTreeMap<i32, i64>, ProgressError> {
    let silent = |error: KafkaError| failed(topic, &error);
    let deadline = Instant::now() + patience;
    // An open transaction would hold the answer back.
    let mut config = connection.reader_of_all();
    config.set("group.id", &connection.group);
    let consumer = window::consumer(&config, topic)?;
    let mut asked = TopicPartitionList::new();
    for partition in partitions {
        asked.add_partition(topic, *partition);
    }
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let answer = consumer
            .committed_offsets(asked.clone(), left.min(ASK_WHY))
            .and_then(|list| offsets(&list));
        let error = match answer {
            Ok(offsets) => return Ok(offsets),
            Err(error) => error,
        };
        // A coordinator that refuses us says so to who polls.
        let told = consumer.poll(LISTEN).and_then(Result::err);
        if is_forbidden(&error) || told.as_ref().is_some_and(is_forbidden) {
            return Err(ProgressError::Forbidden(connection.group.clone()));
        }
        let error = silent(error);
        let may_come = matches!(error, WindowError::Silent { .. });
        if !may_come || Instant::now() >= deadline {
            return Err(error.into());
        }
    }
}

/// The group's committed offset of one partition, if it has one. Blocks.
///
/// # Errors
///
/// As [`behind`].
pub(crate) fn committed_at(
    connection: &Connection,
    partition: &Partition,
) -> Result<Option<i64>, ProgressError> {
    let (topic, number) = (&partition.topic, partition.number);
    let consumer = reader_of_all(connection, topic)?;
    let asked = partitions(&consumer, topic, &[number])?;
    let committed = committed(connection, topic, &asked, PATIENCE)?;
    Ok(committed.get(&number).copied())
}

fn is_forbidden(error: &KafkaError) -> bool {
    error.rdkafka_error_code() == Some(RDKafkaErrorCode::GroupAuthorizationFailed)
}

fn offsets(list: &TopicPartitionList) -> Result<BTreeMap<i32, i64>, KafkaError> {
    let mut offsets = BTreeMap::new();
    for element in list.elements() {
        // The call may be fine and a partition not, whose offset then reads as "none".
        element.error()?;
        if let Some(offset) = number(element.offset()) {
            offsets.insert(element.partition(), offset);
        }
    }
    Ok(offsets)
}

/// The earliest time among the first readable records of these partitions.
fn oldest(
    consumer: &BaseConsumer<Quiet>,
    connection: &Connection,
    topic: &str,
    mut open: BTreeMap<i32, i64>,
) -> Result<Option<EpochMs>, WindowError> {
    let mut deadline = Instant::now() + LOOK;
    let mut oldest: Option<EpochMs> = None;
    while !open.is_empty() && Instant::now() < deadline {
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => {
                if open.remove(&message.partition()).is_some() {
                    oldest = oldest.into_iter().chain(own(&message).timestamp).min();
                }
            }
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                open.remove(&partition);
            }
            Some(Err(error)) if is_decode_error(&error) => {
                if step_over(connection, topic, &mut open, false) {
                    assign(consumer, topic, open.iter().map(|(one, at)| (*one, *at)))?;
                    deadline = Instant::now() + LOOK;
                }
            }
            Some(Err(_)) | None => {}
        }
    }
    Ok(oldest)
}
