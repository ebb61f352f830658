//! Which partitions make no progress though there is something to read; pure.
//!
//! A partition stalls when its last stable offset is ahead of its position, it is not held, and nothing
//! moved for a while in which the client had nothing else to give either. Time in which nothing was polled,
//! because the window was full, does not count; nor does time in which the process did not run.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::state::{Epoch, Partition};

/// More than this between two looks is time in which the process, or its consumer, did not run.
const LONGEST_STEP: Duration = Duration::from_secs(3);

/// The longest wait before a partition is assigned again, in times of the first one.
const LONGEST_WAIT: u32 = 6;

/// How an assigned partition is now.
#[derive(Debug, Clone)]
pub struct PartitionProgress {
    /// Which.
    pub partition: Partition,
    /// Its assignment.
    pub epoch: Epoch,
    /// All below is delivered, or is no record.
    pub next: i64,
    /// Its last stable offset, where it is known.
    pub end: Option<i64>,
    /// Not read from, until something of it is finished.
    pub held: bool,
}

/// A partition that makes no progress.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stall {
    /// Which.
    pub partition: Partition,
    /// Its position.
    pub offset: i64,
    /// Its last stable offset.
    pub end: i64,
    /// When it moved last, or was first seen.
    pub since: Instant,
}

/// What a look found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProgressChange {
    /// It is to be said, and something is to be done.
    Stalled(Stall),
    /// Nothing moved since, and it is time to try again.
    StillStalled(Stall),
    /// It moves again.
    Resumed(Stall),
}

/// The clocks of all assigned partitions.
#[derive(Debug)]
pub struct ProgressWatch {
    /// A partition stalls after this.
    after: Duration,
    looked: Option<Instant>,
    watched: HashMap<Partition, Watched>,
}

#[derive(Debug)]
struct Watched {
    epoch: Epoch,
    next: i64,
    since: Instant,
    /// How long it could have moved and did not.
    waited: Duration,
    /// When `waited` is this, something is done.
    due: Duration,
    /// How long it is waited then.
    wait: Duration,
    stall: Option<Stall>,
}

impl ProgressWatch {
    /// Nothing is watched yet.
    #[must_use]
    pub fn new(after: Duration) -> Self {
        Self {
            after,
            looked: None,
            watched: HashMap::new(),
        }
    }

    /// Looks at all assigned partitions. `drained`: since the last look the client had nothing to give,
    /// though it was asked.
    pub fn look(
        &mut self,
        partitions: &[PartitionProgress],
        drained: bool,
        now: Instant,
    ) -> Vec<ProgressChange> {
        let before = self.looked.replace(now).unwrap_or(now);
        let step = now.saturating_duration_since(before);
        let step = if drained && step <= LONGEST_STEP {
            step
        } else {
            Duration::ZERO
        };
        let assigned = |partition: &Partition, watched: &Watched| {
            let mut same = partitions.iter();
            same.any(|one| one.partition == *partition && one.epoch == watched.epoch)
        };
        self.watched
            .retain(|partition, watched| assigned(partition, watched));
        let after = self.after;
        let changes = partitions.iter().filter_map(|one| {
            let new = || Watched::new(one, after, now);
            let watched = self
                .watched
                .entry(one.partition.clone())
                .or_insert_with(new);
            watched.look(one, step, after, now)
        });
        changes.collect()
    }

    /// The partitions that stall.
    pub fn stalled(&self) -> impl Iterator<Item = &Stall> {
        self.watched
            .values()
            .filter_map(|watched| watched.stall.as_ref())
    }

    /// The partitions of which nothing moved since `time`.
    pub fn unmoved_since(&self, time: Instant) -> impl Iterator<Item = &Partition> {
        let unmoved = self.watched.iter();
        unmoved
            .filter(move |(_, watched)| watched.since <= time)
            .map(|(partition, _)| partition)
    }
}

impl Watched {
    fn new(one: &PartitionProgress, after: Duration, now: Instant) -> Self {
        Self {
            epoch: one.epoch,
            next: one.next,
            since: now,
            waited: Duration::ZERO,
            due: after,
            wait: after,
            stall: None,
        }
    }

    fn look(
        &mut self,
        one: &PartitionProgress,
        step: Duration,
        after: Duration,
        now: Instant,
    ) -> Option<ProgressChange> {
        if one.next != self.next {
            let resumed = self.stall.take();
            *self = Self::new(one, after, now);
            return resumed.map(ProgressChange::Resumed);
        }
        // An end that is not known now is no progress.
        let end = one.end?;
        if end <= one.next {
            (self.waited, self.due, self.wait) = (Duration::ZERO, after, after);
            return self.stall.take().map(ProgressChange::Resumed);
        }
        if one.held {
            return None;
        }
        self.waited += step;
        if self.waited < self.due {
            return None;
        }
        self.wait = (self.wait * 2).min(after * LONGEST_WAIT);
        self.due = self.waited + self.wait;
        let stall = Stall {
            partition: one.partition.clone(),
            offset: one.next,
            end,
            since: self.since,
        };
        let first = self.stall.replace(stall.clone()).is_none();
        Some(if first {
            ProgressChange::Stalled(stall)
        } else {
            ProgressChange::StillStalled(stall)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AFTER: Duration = Duration::from_secs(10);

    struct Bench {
        watch: ProgressWatch,
        start: Instant,
        second: u64,
    }

    fn partition(next: i64, end: Option<i64>) -> PartitionProgress {
        PartitionProgress {
            partition: Partition {
                topic: "requests".into(),
                number: 3,
            },
            epoch: Epoch(1),
            next,
            end,
            held: false,
        }
    }

    impl Bench {
        fn new() -> Self {
            Self {
                watch: ProgressWatch::new(AFTER),
                start: Instant::now(),
                second: 0,
            }
        }

        /// A look a second, this often; the seconds at which each change came.
        fn look(&mut self, one: &PartitionProgress, drained: bool, times: u64) -> Vec<(u64, &str)> {
            let mut said = Vec::new();
            for _ in 0..times {
                let now = self.start + Duration::from_secs(self.second);
                for change in self.watch.look(std::slice::from_ref(one), drained, now) {
                    let word = match change {
                        ProgressChange::Stalled(_) => "stalled",
                        ProgressChange::StillStalled(_) => "still",
                        ProgressChange::Resumed(_) => "resumed",
                    };
                    said.push((self.second, word));
                }
                self.second += 1;
            }
            said
        }
    }

    #[test]
    fn a_stall_is_said_once_tried_again_ever_later_and_over_with_the_first_move() {
        let mut bench = Bench::new();
        let said = bench.look(&partition(5, Some(9)), true, 200);
        let expected = [
            (10, "stalled"),
            (30, "still"),
            (70, "still"),
            (130, "still"),
            (190, "still"),
        ];
        assert_eq!(said, expected);
        let stall = bench.watch.stalled().next().expect("it stalls").clone();
        assert_eq!((stall.offset, stall.end, stall.since), (5, 9, bench.start));
        assert_eq!(
            bench.look(&partition(6, Some(9)), true, 5),
            [(200, "resumed")]
        );
        assert_eq!(bench.watch.stalled().count(), 0);
        assert_eq!(
            bench.look(&partition(6, Some(9)), true, 10),
            [(210, "stalled")]
        );
    }

    #[test]
    fn a_partition_at_its_end_or_that_moves_never_stalls() {
        let mut bench = Bench::new();
        assert_eq!(bench.look(&partition(9, Some(9)), true, 100), []);
        assert_eq!(bench.look(&partition(9, None), true, 100), []);
        for next in 0..100 {
            assert_eq!(bench.look(&partition(next, Some(1_000)), true, 9), []);
        }
    }

    #[test]
    fn waiting_begins_with_what_there_is_to_read() {
        let mut bench = Bench::new();
        bench.look(&partition(9, Some(9)), true, 100);
        assert_eq!(bench.look(&partition(9, Some(10)), true, 9), []);
    }

    #[test]
    fn time_in_which_nothing_could_be_read_does_not_count() {
        let mut bench = Bench::new();
        let behind = partition(5, Some(9));
        let held = PartitionProgress {
            held: true,
            ..behind.clone()
        };
        bench.look(&behind, true, 5);
        assert_eq!(bench.look(&behind, false, 100), [], "the window is full");
        assert_eq!(bench.look(&held, true, 100), [], "it is held");
        bench.second += 60;
        assert_eq!(bench.look(&behind, true, 1), [], "the process stood still");
        assert_eq!(bench.look(&behind, true, 10).len(), 1);
    }

    #[test]
    fn an_end_that_is_not_known_for_a_while_ends_no_stall() {
        let mut bench = Bench::new();
        assert_eq!(bench.look(&partition(5, Some(9)), true, 11).len(), 1);
        assert_eq!(bench.look(&partition(5, None), true, 100), []);
        assert_eq!(bench.watch.stalled().count(), 1);
        // The topic was cut short: there is nothing to read any more.
        assert_eq!(bench.look(&partition(5, Some(5)), true, 1).len(), 1);
    }

    #[test]
    fn another_assignment_begins_from_the_start_and_one_that_is_gone_is_forgotten() {
        let mut bench = Bench::new();
        bench.look(&partition(5, Some(9)), true, 11);
        let again = PartitionProgress {
            epoch: Epoch(2),
            ..partition(5, Some(9))
        };
        assert_eq!(bench.look(&again, true, 9), []);
        assert_eq!(bench.watch.stalled().count(), 0);
        assert_eq!(bench.watch.look(&[], true, Instant::now()), []);
        assert_eq!(bench.watch.unmoved_since(Instant::now()).count(), 0);
    }
}
