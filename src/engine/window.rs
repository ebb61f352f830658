//! A bounded look at a topic, for the commands: from here to the ends that it had when the look began.
//!
//! Partitions are taken by hand, in no group: nobody is rebalanced, and nothing is committed. What was
//! aborted is not seen. Memory does not grow with the topic: one record is in hand at a time.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message as _;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use super::Stopped;
use super::clients::{Connection, Quiet};
use super::consumer::own;
use super::record::{Position, Record};
use super::start::number;
use super::unreadable::step_over::{is_decode_error, step_over};
use crate::clock::EpochMs;

/// One question to the cluster may take this long, and a partition may be silent for so long.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// Where a look begins. It ends where the topic ends now.
#[derive(Debug, Clone, Default)]
pub struct Bounds {
    /// These partitions; empty: all.
    pub partitions: Vec<i32>,
    /// This one record of each.
    pub offset: Option<i64>,
    /// Nothing that is older, by record time; some of what comes with it may be.
    pub since: Option<EpochMs>,
}

/// Offsets from `from` to below `until`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// The first.
    pub from: i64,
    /// One past the last.
    pub until: i64,
}

/// Why there is nothing to look at.
#[derive(Debug, Clone, thiserror::Error)]
pub enum WindowError {
    /// The topic does not exist.
    #[error(
        "the topic {0} does not exist: `user-otp topics plan` shows what there is, `user-otp topics apply` creates it"
    )]
    NoTopic(String),
    /// The topic has no such partition.
    #[error("the topic {topic} has no partition {partition}: it has {count}, from 0")]
    NoPartition {
        /// The topic.
        topic: String,
        /// What was asked for.
        partition: i32,
        /// How many there are.
        count: usize,
    },
    /// We may not read it.
    #[error("we may not read the topic {0}: grant Read and Describe on it")]
    Forbidden(String),
    /// Kafka did not answer.
    #[error(
        "Kafka does not answer about {topic} ({stopped}): check kafka.brokers, and that its brokers are up"
    )]
    Silent {
        /// The topic.
        topic: String,
        /// What it last said.
        stopped: Stopped,
    },
}

/// A topic between two points, record by record.
pub struct Window {
    consumer: BaseConsumer<Quiet>,
    connection: Connection,
    topic: String,
    /// What is still to be read, by partition.
    open: BTreeMap<i32, Span>,
    /// What cannot be decoded is not said.
    is_quiet: bool,
    /// Where the last range ends that could not be decoded, by partition.
    passed_over: BTreeMap<i32, i64>,
}

impl Window {
    /// Fixes the ends and begins to read. Blocks until Kafka has answered.
    ///
    /// # Errors
    ///
    /// When there is no such topic or partition, it may not be read, or Kafka does not answer.
    pub fn open(
        connection: &Connection,
        topic: &str,
        bounds: &Bounds,
    ) -> Result<Self, WindowError> {
        Self::open_by(
            reader(connection, topic)?,
            connection.clone(),
            topic,
            bounds,
        )
    }

    /// The same of another topic, when this one is done with, in the memory that this one had. Blocks until
    /// Kafka has answered.
    ///
    /// # Errors
    ///
    /// As [`Window::open`].
    pub fn then(self, topic: &str, bounds: &Bounds) -> Result<Self, WindowError> {
        Self::open_by(self.consumer, self.connection, topic, bounds)
    }

    fn open_by(
        consumer: BaseConsumer<Quiet>,
        connection: Connection,
        topic: &str,
        bounds: &Bounds,
    ) -> Result<Self, WindowError> {
        let mut open = BTreeMap::new();
        for partition in partitions(&consumer, topic, &bounds.partitions)? {
            let (first, end) = consumer
                .fetch_watermarks(topic, partition, PATIENCE)
                .map_err(|error| failed(topic, &error))?;
            let whole = Span {
                from: first,
                until: end,
            };
            open.insert(partition, whole.narrowed_to(bounds.offset));
        }
        if let Some(since) = bounds.since {
            for (partition, from) in first_since(&consumer, topic, open.keys(), since)? {
                if let Some(span) = open.get_mut(&partition) {
                    span.from = span.from.max(from.unwrap_or(span.until));
                }
            }
        }
        open.retain(|_, span| span.from < span.until);
        let starts = open.iter().map(|(partition, span)| (*partition, span.from));
        assign(&consumer, topic, starts)?;
        Ok(Self {
            consumer,
            connection,
            topic: topic.to_owned(),
            open,
            is_quiet: false,
            passed_over: BTreeMap::new(),
        })
    }

    /// The same for a service, which has said otherwise what cannot be decoded, or looks again and again.
    #[must_use]
    pub fn quiet(self) -> Self {
        Self {
            is_quiet: true,
            ..self
        }
    }

    /// The same between these points alone: partitions that are not named, and whatever came later, are
    /// left out. Blocks until Kafka has answered.
    ///
    /// # Errors
    ///
    /// As [`Window::open`].
    pub fn open_within(
        connection: &Connection,
        topic: &str,
        bounds: &Bounds,
        within: &BTreeMap<i32, Span>,
    ) -> Result<Self, WindowError> {
        let mut window = Self::open(connection, topic, bounds)?;
        window.open.retain(|partition, span| {
            let narrow = within.get(partition).copied();
            *span = narrow.map_or(*span, |narrow| span.within(narrow));
            narrow.is_some() && span.from < span.until
        });
        let starts = window.spans().iter();
        let starts = starts.map(|(partition, span)| (*partition, span.from));
        assign(&window.consumer, topic, starts)?;
        Ok(window)
    }

    /// What is still to be read, by partition.
    #[must_use]
    pub fn spans(&self) -> &BTreeMap<i32, Span> {
        &self.open
    }

    /// The next record; none at the end. What cannot be decoded is passed over, and said on standard error.
    /// Blocks.
    ///
    /// # Errors
    ///
    /// When Kafka stops answering.
    pub fn next_record(&mut self) -> Result<Option<Record>, WindowError> {
        let mut silent = Silence::begin();
        while !self.open.is_empty() {
            match self.consumer.poll(Duration::from_millis(100)) {
                Some(Ok(message)) => {
                    silent = Silence::begin();
                    let (partition, offset) = (message.partition(), message.offset());
                    let Some(span) = self.open.get(&partition).copied() else {
                        continue;
                    };
                    let record = (offset < span.until).then(|| own(&message));
                    self.advance(partition, offset + 1);
                    if record.is_some() {
                        return Ok(record);
                    }
                }
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    silent = Silence::begin();
                    self.open.remove(&partition);
                }
                Some(Err(error)) if is_decode_error(&error) => {
                    if self.step_over()? {
                        silent = Silence::begin();
                    }
                    silent.heard(&self.topic, error)?;
                }
                Some(Err(error)) => silent.heard(&self.topic, error)?,
                None => silent.look(&self.topic)?,
            }
        }
        Ok(None)
    }

    /// Whether records behind `position` could not be decoded, as far as was read.
    #[must_use]
    pub fn passed_over_behind(&self, position: &Position) -> bool {
        let end = self.passed_over.get(&position.partition);
        end.is_some_and(|end| *end > position.offset)
    }

    fn advance(&mut self, partition: i32, next: i64) {
        if let Some(span) = self.open.get_mut(&partition) {
            span.from = span.from.max(next);
            if span.from >= span.until {
                self.open.remove(&partition);
            }
        }
    }

    /// Goes on behind what cannot be decoded; whether there was something.
    fn step_over(&mut self) -> Result<bool, WindowError> {
        let open = self.open.iter();
        let mut positions = open.map(|(one, span)| (*one, span.from)).collect();
        let found = step_over(&self.connection, &self.topic, &mut positions, self.is_quiet);
        if found {
            for (partition, next) in positions {
                if self
                    .open
                    .get(&partition)
                    .is_some_and(|span| span.from < next)
                {
                    self.passed_over.insert(partition, next);
                }
                self.advance(partition, next);
            }
            let starts = self.open.iter().map(|(one, span)| (*one, span.from));
            assign(&self.consumer, &self.topic, starts)?;
        }
        Ok(found)
    }
}

impl Span {
    fn narrowed_to(self, offset: Option<i64>) -> Self {
        match offset {
            Some(offset) => Self {
                from: self.from.max(offset),
                until: self.until.min(offset.saturating_add(1)),
            },
            None => self,
        }
    }

    fn within(self, other: Self) -> Self {
        Self {
            from: self.from.max(other.from),
            until: self.until.min(other.until),
        }
    }

    /// How many offsets.
    #[must_use]
    pub fn length(self) -> u64 {
        u64::try_from(self.until - self.from).unwrap_or(0)
    }
}

/// Since when nothing came, and what Kafka said last.
struct Silence {
    since: Instant,
    last: Option<KafkaError>,
}

impl Silence {
    fn begin() -> Self {
        Self {
            since: Instant::now(),
            last: None,
        }
    }

    fn heard(&mut self, topic: &str, error: KafkaError) -> Result<(), WindowError> {
        match failed(topic, &error) {
            WindowError::Silent { .. } => {}
            error @ (WindowError::NoTopic(_)
            | WindowError::NoPartition { .. }
            | WindowError::Forbidden(_)) => return Err(error),
        }
        self.last = Some(error);
        self.look(topic)
    }

    fn look(&self, topic: &str) -> Result<(), WindowError> {
        if self.since.elapsed() < PATIENCE {
            return Ok(());
        }
        Err(failed(
            topic,
            self.last.as_ref().unwrap_or(&KafkaError::NoMessageReceived),
        ))
    }
}

pub(super) fn reader(
    connection: &Connection,
    topic: &str,
) -> Result<BaseConsumer<Quiet>, WindowError> {
    consumer(&connection.reader(), topic)
}

/// The same of what is not committed yet, and was aborted, too.
pub(super) fn reader_of_all(
    connection: &Connection,
    topic: &str,
) -> Result<BaseConsumer<Quiet>, WindowError> {
    consumer(&connection.reader_of_all(), topic)
}

/// What reads `topic` with these properties.
pub(super) fn consumer(
    config: &ClientConfig,
    topic: &str,
) -> Result<BaseConsumer<Quiet>, WindowError> {
    config
        .create_with_context(Quiet)
        .map_err(|error| failed(topic, &error))
}

/// Where each partition ends.
pub(super) fn ends(
    consumer: &BaseConsumer<Quiet>,
    topic: &str,
) -> Result<BTreeMap<i32, i64>, WindowError> {
    let mut ends = BTreeMap::new();
    for partition in partitions(consumer, topic, &[])? {
        let (_, end) = consumer
            .fetch_watermarks(topic, partition, PATIENCE)
            .map_err(|error| failed(topic, &error))?;
        ends.insert(partition, end);
    }
    Ok(ends)
}

/// The topic's partitions, or those of them that are asked for.
pub(super) fn partitions(
    consumer: &BaseConsumer<Quiet>,
    topic: &str,
    asked: &[i32],
) -> Result<Vec<i32>, WindowError> {
    let metadata = consumer
        .fetch_metadata(Some(topic), PATIENCE)
        .map_err(|error| failed(topic, &error))?;
    let found = metadata.topics().first();
    if let Some(code) = found.and_then(rdkafka::metadata::MetadataTopic::error) {
        return Err(failed(topic, &KafkaError::MetadataFetch(code.into())));
    }
    let all: Vec<i32> = found
        .map(|topic| topic.partitions().iter().map(|one| one.id()).collect())
        .unwrap_or_default();
    if all.is_empty() {
        return Err(WindowError::NoTopic(topic.to_owned()));
    }
    if let Some(partition) = asked.iter().find(|one| !all.contains(one)) {
        return Err(WindowError::NoPartition {
            topic: topic.to_owned(),
            partition: *partition,
            count: all.len(),
        });
    }
    Ok(match asked {
        [] => all,
        asked => asked.to_vec(),
    })
}

/// The first offset of each partition with a record time of `since` or later; none: there is none.
pub(super) fn first_since<'a>(
    consumer: &BaseConsumer<Quiet>,
    topic: &str,
    partitions: impl Iterator<Item = &'a i32>,
    since: EpochMs,
) -> Result<Vec<(i32, Option<i64>)>, WindowError> {
    let silent = |error| failed(topic, &error);
    let mut asked = TopicPartitionList::new();
    for partition in partitions {
        // A moment before 1970 would be taken for one of the library's own marks.
        let at = Offset::Offset(since.0.max(0));
        asked
            .add_partition_offset(topic, *partition, at)
            .map_err(silent)?;
    }
    let found = consumer
        .offsets_for_times(asked, PATIENCE)
        .map_err(silent)?;
    let mut firsts = Vec::new();
    for element in found.elements() {
        element.error().map_err(silent)?;
        firsts.push((element.partition(), number(element.offset())));
    }
    Ok(firsts)
}

pub(super) fn assign(
    consumer: &BaseConsumer<Quiet>,
    topic: &str,
    starts: impl Iterator<Item = (i32, i64)>,
) -> Result<(), WindowError> {
    let silent = |error| failed(topic, &error);
    let mut list = TopicPartitionList::new();
    for (partition, from) in starts {
        list.add_partition_offset(topic, partition, Offset::Offset(from))
            .map_err(silent)?;
    }
    consumer.assign(&list).map_err(silent)
}

pub(super) fn failed(topic: &str, error: &KafkaError) -> WindowError {
    use RDKafkaErrorCode as Code;
    let topic = topic.to_owned();
    match error.rdkafka_error_code() {
        Some(Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition) => {
            WindowError::NoTopic(topic)
        }
        Some(Code::TopicAuthorizationFailed) => WindowError::Forbidden(topic),
        _ => WindowError::Silent {
            topic,
            stopped: Stopped::from(error),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_offset_is_one_offset_and_never_outside() {
        let whole = Span { from: 5, until: 9 };
        let length = |offset| {
            let span = whole.narrowed_to(Some(offset));
            if span.from < span.until {
                span.length()
            } else {
                0
            }
        };
        assert_eq!(whole.narrowed_to(None), whole);
        assert_eq!([4, 5, 8, 9, i64::MAX].map(length), [0, 1, 1, 0, 0]);
    }
}
