//! Where a newly assigned partition starts: after our own last commit where there is one, else
//! where it was committed, else at its beginning.

use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::KafkaResult;
use rdkafka::{Offset, TopicPartitionList};

use super::offsets::{FoundThere, Tracker};
use super::state::Partition;
use super::tag::{Found, Tag};
use crate::clock::EpochMs;

/// What is asked for a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ask {
    /// Its committed offset.
    Committed,
    /// Its first and last offset: what was committed there is of no use. This one was to be next.
    Anew(i64),
}

/// What came of it.
#[derive(Debug)]
pub(crate) enum Answer {
    /// Start here.
    Start(Tracker),
    /// Not known yet: another owner's transaction is pending, or a broker is away.
    Pending,
    /// A tag of ours that this version cannot read.
    UnknownTag(String),
}

/// Asks for the committed offsets of all `partitions` at once, for at most `timeout`, and where that
/// is not enough for a partition's ends, for at most what `ends` says then. Records from before `old` are too old to
/// be served, if they were there before the group.
pub(crate) fn look_up<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    partitions: &[(Partition, Ask)],
    old: EpochMs,
    timeout: Duration,
    ends: impl Fn() -> Duration,
) -> Vec<(Partition, Answer)> {
    let committed: Vec<_> = partitions
        .iter()
        .filter(|(_, ask)| *ask == Ask::Committed)
        .map(|(partition, _)| partition.clone())
        .collect();
    let mut found = if committed.is_empty() {
        Vec::new()
    } else {
        read_committed(consumer, &committed, timeout)
    };
    let anew = partitions.iter().filter(|(_, ask)| *ask != Ask::Committed);
    found.extend(anew.map(|(partition, _)| (partition.clone(), Some(Commit::default()))));
    let answer = |(partition, commit): (Partition, Option<Commit>)| {
        let answer = commit.map_or(Answer::Pending, |commit| {
            start_at(consumer, &partition, commit, old, ends())
        });
        (partition, answer)
    };
    found.into_iter().map(answer).collect()
}

/// A committed offset with its metadata, if there is any.
#[derive(Debug, Default)]
pub(crate) struct Commit {
    offset: Option<i64>,
    metadata: String,
}

impl Commit {
    /// What its metadata turns out to be.
    pub(crate) fn found(&self) -> Found {
        self.offset
            .map_or(Found::NotOurs, |offset| Tag::decode(&self.metadata, offset))
    }
}

/// The committed offsets; `None` where they are not known yet.
pub(crate) fn read_committed<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    partitions: &[Partition],
    timeout: Duration,
) -> Vec<(Partition, Option<Commit>)> {
    let answer = consumer.committed_offsets(list(partitions), timeout);
    if let Err(error) = &answer {
        tracing::debug!(%error, partitions = partitions.len(), "committed offsets are not known yet");
    }
    let elements = |list: &TopicPartitionList, partition: &Partition| -> KafkaResult<Commit> {
        let Some(element) = list.find_partition(&partition.topic, partition.number) else {
            return Ok(Commit::default());
        };
        // The call may be fine and a partition not, whose offset then reads as "none".
        element.error()?;
        let offset = number(element.offset());
        Ok(Commit {
            offset,
            metadata: element.metadata().to_owned(),
        })
    };
    partitions
        .iter()
        .map(|partition| {
            let commit = answer
                .as_ref()
                .ok()
                .and_then(|list| elements(list, partition).ok());
            (partition.clone(), commit)
        })
        .collect()
}

/// An offset that is a number, not a place to be looked up.
pub(crate) fn number(offset: Offset) -> Option<i64> {
    match offset {
        Offset::Offset(offset) => Some(offset),
        Offset::Beginning
        | Offset::End
        | Offset::Stored
        | Offset::Invalid
        | Offset::OffsetTail(_) => None,
    }
}

/// A list of partitions without offsets.
pub(crate) fn list(partitions: &[Partition]) -> TopicPartitionList {
    let mut list = TopicPartitionList::with_capacity(partitions.len());
    for partition in partitions {
        list.add_partition(&partition.topic, partition.number);
    }
    list
}

fn start_at<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    partition: &Partition,
    commit: Commit,
    old: EpochMs,
    timeout: Duration,
) -> Answer {
    match commit.found() {
        Found::Ours(tag) => Answer::Start(Tracker::from_tag(&tag)),
        Found::Unknown(version) => Answer::UnknownTag(version),
        Found::NotOurs => match foreign(consumer, partition, &commit, old, timeout) {
            Ok(tracker) => Answer::Start(tracker),
            Err(error) => {
                tracing::debug!(%error, "the ends of a partition are not known yet");
                Answer::Pending
            }
        },
    }
}

fn foreign<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    partition: &Partition,
    commit: &Commit,
    old: EpochMs,
    timeout: Duration,
) -> KafkaResult<Tracker> {
    let (topic, number) = (&*partition.topic, partition.number);
    let (low, end) = consumer.fetch_watermarks(topic, number, timeout)?;
    let in_log = |offset: &i64| (low..=end).contains(offset);
    let start = commit.offset.filter(in_log).unwrap_or(low);
    if start == end {
        return Ok(Tracker::foreign(start, end));
    }
    let mut asked = TopicPartitionList::new();
    asked.add_partition_offset(topic, number, Offset::Offset(old.0.max(0)))?;
    let found = consumer.offsets_for_times(asked, timeout)?;
    let first = found.find_partition(topic, number);
    let first = match first {
        Some(element) => {
            element.error()?;
            self::number(element.offset())
        }
        None => None,
    };
    // None: each of them is older.
    let found = FoundThere { end, old };
    Ok(Tracker::foreign_with(start, found, first.unwrap_or(end)))
}
