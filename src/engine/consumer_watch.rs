//! Watches the consumer once a second: which of its errors stand, which partitions stall, and which conditions
//! have lasted too long. Says each once, and decides what is done.
//!
//! A partition that stalls is assigned again at its position. That alone never moves a position: whatever
//! the reason was, its records are read when it is over.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rdkafka::error::RDKafkaErrorCode;

use super::EngineError;
use super::consumer::{Consumer, note_positions};
use super::consumer_errors::{ConsumerError, ConsumerErrors};
use super::core::Core;
use super::lasting::{Condition, Lasting, LastingChange};
use super::out_of_range;
use super::progress_watch::{PartitionProgress, ProgressChange, ProgressWatch, Stall};
use super::record::Origin;
use super::state::Partition;
use super::trouble::{Trouble, TroubleKind};

/// Between two looks.
const EVERY: Duration = Duration::from_secs(1);

/// The first and the longest wait before partitions are assigned again to find out whether an error is over.
const PROBE_AFTER: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(30));

/// A committed offset may be pending for this long: twice a transaction's longest time, which a dead owner's
/// takes, and the ten seconds after which brokers look for it.
const PENDING_BOUND: Duration = Duration::from_secs(70);

/// Brokers may leave open for this long where partitions end: longer than a fail-over takes.
const ENDS_BOUND: Duration = Duration::from_secs(30);

/// After its requests' longest life a partition may be held for this long: their results are committed then.
const HELD_MARGIN: Duration = Duration::from_secs(60);

/// The offsets of a partition as its last fetch had them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FetchedEnds {
    /// The last stable offset.
    pub(crate) stable: i64,
    /// The high watermark.
    pub(crate) high: i64,
}

/// What is known of the consumer's troubles.
#[derive(Debug)]
pub(crate) struct ConsumerWatch {
    pub(crate) errors: ConsumerErrors,
    pub(crate) progress: ProgressWatch,
    pub(crate) fetched: HashMap<Partition, FetchedEnds>,
    lasting: Lasting,
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
    /// To fetch them again was of no use.
    still_stalled: Vec<Stall>,
    unproven: Vec<Partition>,
}

impl ConsumerWatch {
    pub(crate) fn new(stall_after: Duration) -> Self {
        let now = Instant::now();
        Self {
            errors: ConsumerErrors::default(),
            progress: ProgressWatch::new(stall_after),
            fetched: HashMap::new(),
            lasting: Lasting::default(),
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
                "the consumer reports an error, and records may not be read until it is over: run `user-otp check`"
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

    /// What keeps records from being read.
    pub(crate) fn troubles(&self) -> Vec<Trouble> {
        let stalls = self.progress.stalled().map(|stall| Trouble {
            kind: TroubleKind::Stalled,
            text: self.describe(stall),
        });
        let mut stalls: Vec<_> = stalls.collect();
        stalls.sort_by(|one, other| one.text.cmp(&other.text));
        let errors = self.errors.standing().iter().map(|error| Trouble {
            kind: TroubleKind::Error,
            text: error.advice(),
        });
        let lasting = self.lasting.too_long().map(|condition| Trouble {
            kind: condition.kind(),
            text: condition.advice(),
        });
        stalls.into_iter().chain(errors).chain(lasting).collect()
    }

    fn describe(&self, stall: &Stall) -> String {
        let why = match self.why(stall) {
            Some(error) => format!(": {}", error.advice()),
            None => "; look at the log of its leader".to_owned(),
        };
        format!(
            "{} makes no progress at offset {}{why}",
            stall.partition, stall.offset
        )
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

    fn look(
        &mut self,
        partitions: &[PartitionProgress],
        conditions: Vec<(Condition, Duration)>,
        drained: bool,
        joined: bool,
    ) -> ToDo {
        let now = Instant::now();
        for change in self.lasting.look(conditions, now) {
            match change {
                LastingChange::TooLong(condition) => tracing::warn!("{}", condition.advice()),
                LastingChange::Over(condition) => tracing::info!("over: {condition}"),
            }
        }
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
                        "the partition makes no progress though it has records: fetching it again"
                    );
                    to_do.stalled.push(stall);
                }
                ProgressChange::StillStalled(stall) => to_do.still_stalled.push(stall),
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
        // Only what is asked for records is proved.
        if joined && drained {
            to_do.unproven = self.unproven(now);
        }
        to_do
    }

    /// The partitions to be assigned again now, to find out whether the errors that stand are over: those that
    /// gave no record since.
    fn unproven(&mut self, now: Instant) -> Vec<Partition> {
        let Some(heard) = self.errors.heard().filter(|_| now >= self.probe.due) else {
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
    let conditions = conditions(core, &partitions);
    let (drained, joined) = (core.take_drained(), core.vitals.has_joined());
    let mut watch = core.watch.lock();
    let to_do = watch.look(&partitions, conditions, drained, joined);
    drop(watch);
    for stall in to_do.stalled.iter().chain(&to_do.still_stalled) {
        suspect(core, stall);
    }
    let mut stalled = to_do.still_stalled.iter().map(|stall| &stall.partition);
    if let Some(partition) = stalled.find(|one| core.out_of_range.has_old_epoch(one)) {
        core.fail(EngineError::OldEpoch(partition.clone()));
        return;
    }
    let partitions_of = |stalls: &[Stall]| -> Vec<Partition> {
        stalls.iter().map(|stall| stall.partition.clone()).collect()
    };
    out_of_range::fetch_again(core, consumer, &partitions_of(&to_do.stalled));
    out_of_range::assign_again(core, consumer, &partitions_of(&to_do.still_stalled));
    let readable = |one: &&Partition| {
        let mut all = partitions.iter();
        all.any(|progress| progress.partition == **one && !progress.held)
    };
    for partition in to_do.unproven.iter().filter(readable) {
        out_of_range::assign_again(core, consumer, std::slice::from_ref(partition));
    }
}

/// The conditions that hold now, with how long each may.
fn conditions(core: &Core, partitions: &[PartitionProgress]) -> Vec<(Condition, Duration)> {
    let settings = &core.settings;
    let read = [
        &*settings.requests,
        &*settings.reading.accepted,
        &*settings.jobs,
    ];
    let missing = read
        .into_iter()
        .filter(|topic| !core.topics.contains(topic));
    let missing = missing.map(|topic| {
        let condition = Condition::MissingTopic(topic.to_owned());
        (condition, settings.stall_after)
    });
    let pending: Vec<_> = core.lock().pending.keys().cloned().collect();
    let pending = pending.into_iter().map(Condition::Pending);
    // Those that wait for an operator have a health check of their own.
    let unreadable: Vec<_> = core.unreadable.lock().keys().cloned().collect();
    let held = partitions
        .iter()
        .filter(|one| one.held && !unreadable.contains(&one.partition));
    let held = held.map(|one| {
        let delay = match settings.origin(&one.partition.topic) {
            Some(Origin::Retry(delay)) => delay,
            Some(Origin::Requests | Origin::Accepted | Origin::Jobs) | None => Duration::ZERO,
        };
        let condition = Condition::Held(one.partition.clone());
        (condition, settings.reading.lifetime + delay + HELD_MARGIN)
    });
    let watch = core.watch.lock();
    let open = partitions.iter().filter_map(|one| {
        let FetchedEnds { stable, high } = *watch.fetched.get(&one.partition)?;
        // What a fetch had may be old; the end is asked for.
        let is_open = high > stable && one.end == Some(stable);
        is_open.then(|| Condition::OpenTransaction(one.partition.clone(), stable))
    });
    let open = open.map(|condition| (condition, settings.longest_transaction));
    // Outside of the group nothing is read, which is said already.
    let ends = core.ends_unknown.load(Ordering::Relaxed) && core.vitals.has_joined();
    let ends = ends.then_some((Condition::EndsUnknown, ENDS_BOUND));
    missing
        .chain(ends)
        .chain(pending.map(|condition| (condition, PENDING_BOUND)))
        .chain(held)
        .chain(open)
        .collect()
}

/// A partition that stalls may have stopped at a batch that cannot be decoded: the inspector finds out.
fn suspect(core: &Core, stall: &Stall) {
    if core.watch.lock().errors.is_undecodable() {
        core.suspects.lock().heard(stall.offset, Instant::now());
    }
}
