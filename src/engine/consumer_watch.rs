//! Watches the consumer once a second: which of its errors stand, and which partitions stall. Says each once,
//! and decides what is done.
//!
//! A partition that stalls is assigned again at its position. That alone never moves a position: whatever
//! the reason was, its records are read when it is over.

use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer as _;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{Offset, TopicPartitionList};

use super::consumer::{Consumer, note_positions};
use super::consumer_errors::{ConsumerError, ConsumerErrors};
use super::core::Core;
use super::progress_watch::{PartitionProgress, ProgressChange, ProgressWatch, Stall};
use super::state::Partition;

/// Between two looks.
const EVERY: Duration = Duration::from_secs(1);

/// The first and the longest wait before partitions are assigned again to find out whether an error is over.
const PROBE_AFTER: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(30));

/// What is known of the consumer's troubles.
#[derive(Debug)]
pub(crate) struct ConsumerWatch {
    pub(crate) errors: ConsumerErrors,
    pub(crate) progress: ProgressWatch,
    looked: Instant,
    probe: Probe,
}

/// When it is found out whether the errors that stand are over.
#[derive(Debug)]
struct Probe {
    /// When everything unproven was assigned again.
    proved: Option<Instant>,
    wait: Duration,
    due: Instant,
}

/// What a look asks for.
#[derive(Debug, Default)]
struct ToDo {
    stalled: Vec<Stall>,
    unproven: Vec<Partition>,
}

impl ConsumerWatch {
    pub(crate) fn new(stall_after: Duration) -> Self {
        let now = Instant::now();
        Self {
            errors: ConsumerErrors::default(),
            progress: ProgressWatch::new(stall_after),
            looked: now,
            probe: Probe {
                proved: None,
                wait: PROBE_AFTER.0,
                due: now,
            },
        }
    }

    /// Notes an error, and says it where it is new and stands.
    pub(crate) fn hear(&mut self, code: RDKafkaErrorCode, reason: &str) {
        let now = Instant::now();
        let none_stood = self.errors.standing().is_empty();
        if let Some(error) = self.errors.hear(code, reason, now) {
            tracing::warn!(
                code = ?error.code,
                reason = error.reason,
                "the consumer reports an error: until it is over, records may not be read"
            );
            if none_stood {
                self.probe = Probe {
                    proved: None,
                    wait: PROBE_AFTER.0,
                    due: now + PROBE_AFTER.0,
                };
            }
        } else {
            tracing::debug!(target: "librdkafka", ?code, reason, "client error");
        }
    }

    /// What stands and what stalls, in words.
    pub(crate) fn troubles(&self) -> Vec<String> {
        let stalls = self.progress.stalled().map(|stall| {
            let Stall {
                partition, offset, ..
            } = stall;
            let why = self.why(stall).map(|error| format!(": {error}"));
            let why = why.unwrap_or_default();
            format!(
                "{}-{} makes no progress at offset {offset}{why}",
                partition.topic, partition.number
            )
        });
        let mut stalls: Vec<_> = stalls.collect();
        stalls.sort();
        let errors = self.errors.standing().iter();
        stalls
            .into_iter()
            .chain(errors.map(ToString::to_string))
            .collect()
    }

    /// The error that says most about a stall.
    fn why(&self, stall: &Stall) -> Option<&ConsumerError> {
        let standing = self
            .errors
            .standing()
            .iter()
            .max_by_key(|error| error.heard);
        let error = standing.or(self.errors.last());
        error.filter(|error| error.heard >= stall.since)
    }

    fn look(&mut self, partitions: &[PartitionProgress], drained: bool, joined: bool) -> ToDo {
        let now = Instant::now();
        let mut to_do = ToDo::default();
        for change in self.progress.look(partitions, drained, now) {
            match change {
                ProgressChange::Stalled(stall) => {
                    let error = self.why(&stall).map(ToString::to_string);
                    tracing::warn!(
                        topic = &*stall.partition.topic,
                        partition = stall.partition.number,
                        offset = stall.offset,
                        end = stall.end,
                        error = error.as_deref().unwrap_or("none"),
                        "the partition makes no progress though it has records: assigning it again"
                    );
                    to_do.stalled.push(stall);
                }
                ProgressChange::StillStalled(stall) => to_do.stalled.push(stall),
                ProgressChange::Resumed(stall) => tracing::info!(
                    topic = &*stall.partition.topic,
                    partition = stall.partition.number,
                    "the partition makes progress again"
                ),
            }
        }
        if let Some(proved) = self.probe.proved {
            for error in self.errors.end_quiet(proved, now) {
                tracing::info!(code = ?error.code, "the consumer's error is over");
            }
        }
        to_do.unproven = self.unproven(joined, now);
        to_do
    }

    /// The partitions to be assigned again now, to find out whether the errors that stand are over: those that
    /// gave no record since.
    fn unproven(&mut self, joined: bool, now: Instant) -> Vec<Partition> {
        let Some(heard) = self
            .errors
            .heard()
            .filter(|_| joined && now >= self.probe.due)
        else {
            return Vec::new();
        };
        let wait = (self.probe.wait * 2).min(PROBE_AFTER.1);
        self.probe = Probe {
            proved: Some(now),
            wait,
            due: now + wait,
        };
        self.progress.unmoved_since(heard).cloned().collect()
    }
}

/// Looks, once a second, and does what there is to do. In the consumer's own thread, between two polls.
pub(crate) fn look(core: &Core, consumer: &Consumer) {
    {
        let mut watch = core.watch.lock();
        if watch.looked.elapsed() < EVERY {
            return;
        }
        watch.looked = Instant::now();
    }
    // A tail without records moves the position alone.
    note_positions(consumer, core);
    let partitions = {
        let ends = core.ends.lock();
        core.lock().state.progress(&ends)
    };
    let drained = core.take_drained();
    let joined = core.vitals.has_joined();
    let to_do = core.watch.lock().look(&partitions, drained, joined);
    for stall in &to_do.stalled {
        resolve(core, consumer, stall);
    }
    let readable = |one: &&Partition| {
        let mut all = partitions.iter();
        all.any(|progress| progress.partition == **one && !progress.held)
    };
    for partition in to_do.unproven.iter().filter(readable) {
        assign_again(core, consumer, partition);
    }
}

/// What is done about a partition that stalls.
fn resolve(core: &Core, consumer: &Consumer, stall: &Stall) {
    let undecodable = core.watch.lock().errors.undecodable().cloned();
    if let Some(error) = undecodable {
        // The error does not say which partition's batch it is: the inspector finds out.
        tracing::debug!(%error, offset = stall.offset, "a batch may be undecodable");
        core.suspects.lock().heard(stall.offset, Instant::now());
    }
    assign_again(core, consumer, &stall.partition);
}

/// Stops to fetch a partition and starts again at its position. Nothing of it is forgotten.
fn assign_again(core: &Core, consumer: &Consumer, partition: &Partition) {
    let Some(offset) = core.lock().state.next_offset(partition) else {
        return;
    };
    let assigned = || -> Result<(), KafkaError> {
        let mut list = TopicPartitionList::with_capacity(1);
        list.add_partition_offset(&partition.topic, partition.number, Offset::Offset(offset))?;
        // A pause outlives the assignment.
        consumer.resume(&list)?;
        if let Err(error) = consumer.incremental_unassign(&list) {
            // An earlier try may have come this far.
            tracing::debug!(%error, "unassign");
        }
        consumer.incremental_assign(&list)
    };
    if let Err(error) = assigned() {
        tracing::warn!(
            topic = &*partition.topic,
            partition = partition.number,
            %error,
            "the partition could not be assigned again: trying again later"
        );
    }
}
