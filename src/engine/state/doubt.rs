//! Partitions of which something cannot be decoded.
//!
//! ```text
//!          the library passed a suspect offset        the range is proved, on a topic of ours
//! none ──────────────────────────────────────▶ asked ──────────────────────────────────────▶ held
//!   ▲                                            │                                             │
//!   └──────────── what is there is known ────────┴───────── an operator lets it go on ─────────┘
//! ```
//!
//! While a partition is in doubt nothing of it is taken in, and its position says nothing: it is set back to where
//! the doubt began, or behind the range.

use super::{Assigned, Delivery, Epoch, Partition, State};
use crate::engine::record::Origin;
use crate::engine::window::Span;

/// Whether something of a partition cannot be decoded.
#[derive(Debug, Default)]
pub(super) struct Doubt {
    stage: Stage,
    /// The offset that the library passed when it was asked about last.
    about: Option<i64>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Stage {
    /// Nothing is known to be wrong.
    #[default]
    None,
    /// The library has passed something that may be lost: it is being looked at.
    Asked,
    /// It cannot be decoded, and waits for an operator.
    Held,
}

impl Doubt {
    /// Whether nothing of the partition is to be fetched.
    pub(super) fn stands_still(&self) -> bool {
        self.stage != Stage::None
    }

    pub(super) fn is_held(&self) -> bool {
        self.stage == Stage::Held
    }
}

impl Assigned {
    /// Whether what is delivered is taken in, and its position counts.
    pub(super) fn is_taken_in(&self) -> bool {
        !self.leaving && self.doubt.stage == Stage::None
    }
}

/// A partition whose next batch may be one that cannot be decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub(crate) partition: Partition,
    pub(crate) epoch: Epoch,
    pub(crate) origin: Origin,
    /// From where to look.
    pub(crate) next: i64,
    /// It stands still until it has been looked at.
    pub(crate) asked: bool,
}

/// Where a partition goes on, and whether there is a range to be finished before that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct GoOn {
    pub(crate) at: i64,
    pub(crate) unfinished: Option<Span>,
}

impl State {
    /// The partitions that may have stopped at a batch at `offset`, the nearest first.
    pub(crate) fn candidates(&self, offset: i64) -> Vec<Candidate> {
        let assigned = self.assigned.iter();
        let mut all: Vec<_> = assigned
            .filter(|(_, one)| !one.leaving && !one.doubt.is_held())
            .map(|(partition, one)| Candidate {
                partition: partition.clone(),
                epoch: one.epoch,
                origin: one.origin,
                next: one.tracker.next(),
                asked: one.doubt.stage == Stage::Asked,
            })
            .filter(|one| one.next <= offset)
            .collect();
        all.sort_by_key(|one| (offset - one.next, one.partition.clone()));
        all
    }

    /// The library has passed `offset`, at which it could not decode a batch of some partition: nothing more is
    /// taken in until it is known whether it was this one.
    pub(crate) fn ask(&mut self, partition: &Partition, offset: i64) {
        if let Some(assigned) = self.assigned.get_mut(partition)
            && assigned.doubt.stage == Stage::None
            && assigned.doubt.about != Some(offset)
        {
            assigned.doubt = Doubt {
                stage: Stage::Asked,
                about: Some(offset),
            };
        }
    }

    /// A range of the partition cannot be decoded, and an operator is to say so; whether the partition is still ours.
    pub(crate) fn hold_back(&mut self, partition: &Partition, epoch: Epoch) -> bool {
        let assigned = self.of_epoch(partition, epoch);
        assigned.is_some_and(|assigned| {
            assigned.doubt.stage = Stage::Held;
            true
        })
    }

    /// How many partitions wait for an operator.
    pub(super) fn count_held(&self) -> usize {
        let assigned = self.assigned.values();
        assigned.filter(|one| one.doubt.is_held()).count()
    }

    /// Whether the partition is still ours, in this assignment.
    pub(crate) fn has(&self, partition: &Partition, epoch: Epoch) -> bool {
        let assigned = self.assigned.get(partition);
        assigned.is_some_and(|one| one.epoch == epoch && !one.leaving)
    }

    /// Nothing of `range` can be decoded; none: all can be read. None where that is of no use any more.
    pub(crate) fn go_on(
        &mut self,
        partition: &Partition,
        epoch: Epoch,
        range: Option<Span>,
    ) -> Option<GoOn> {
        let assigned = self.of_epoch(partition, epoch)?;
        let in_doubt = assigned.doubt.stage != Stage::None;
        let next = assigned.tracker.next();
        let range = range.filter(|range| next <= range.from);
        if range.is_none() && !in_doubt {
            return None;
        }
        assigned.doubt.stage = Stage::None;
        // It is paused again where it has to be.
        assigned.held = false;
        let Some(range) = range else {
            let unfinished = None;
            return Some(GoOn {
                at: next,
                unfinished,
            });
        };
        let delivery = assigned.tracker.deliver(range.from, None);
        if delivery == Delivery::Refused {
            // It is read again once there is room for it, and found again.
            return Some(GoOn {
                at: next,
                unfinished: None,
            });
        }
        assigned.tracker.advance(range.until);
        Some(GoOn {
            at: range.until,
            unfinished: (delivery == Delivery::Unfinished).then_some(range),
        })
    }

    fn of_epoch(&mut self, partition: &Partition, epoch: Epoch) -> Option<&mut Assigned> {
        let assigned = self.assigned.get_mut(partition)?;
        (assigned.epoch == epoch && !assigned.leaving).then_some(assigned)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock::EpochMs;
    use crate::engine::offsets::Tracker;
    use crate::engine::state::Bounds;

    const NOW: EpochMs = EpochMs(10_000_000);

    /// A partition of which the first three records were delivered.
    fn state() -> (State, Partition, Epoch) {
        let mut state = State::new(Bounds {
            window: 10,
            window_bytes: 1_000,
            lane: 10,
            jobs: 10,
            parked: 10,
            waiting_bytes: 1_000,
            lifetime: Duration::from_secs(300),
        });
        let partition = Partition {
            topic: "requests".into(),
            number: 0,
        };
        let epoch = state.assign(partition.clone(), Origin::Requests, Tracker::foreign(0, 0));
        (0..3).for_each(|offset| assert!(deliver(&mut state, &partition, offset)));
        (state, partition, epoch)
    }

    fn deliver(state: &mut State, partition: &Partition, offset: i64) -> bool {
        state.deliver(partition, offset, Some(NOW), NOW).is_some()
    }

    #[test]
    fn a_partition_in_doubt_takes_nothing_in_until_it_goes_on_where_it_was() {
        let (mut state, partition, epoch) = state();
        state.ask(&partition, 4);
        assert!(!deliver(&mut state, &partition, 7));
        state.position(&partition, Some(8));
        assert_eq!(state.next_offset(&partition), Some(3));
        assert!(state.candidates(4)[0].asked);
        let go_on = state.go_on(&partition, epoch, None).expect("it goes on");
        assert_eq!((go_on.at, go_on.unfinished), (3, None));
        state.ask(&partition, 4);
        assert!(deliver(&mut state, &partition, 7), "it is asked about once");
    }

    #[test]
    fn a_range_is_unfinished_until_it_is_committed_and_goes_on_behind_it() {
        let (mut state, partition, epoch) = state();
        let range = Span { from: 4, until: 9 };
        let go_on = state.go_on(&partition, epoch, Some(range));
        let unfinished = Some(range);
        assert_eq!(go_on, Some(GoOn { at: 9, unfinished }));
        assert_eq!(state.go_on(&partition, epoch, Some(range)), None, "once");
        let moved = state.moved();
        assert_eq!(moved[0].tag.commit_point, 0);
        assert_eq!(moved[0].tag.finished, [3..4, 5..9]);
        assert!(deliver(&mut state, &partition, 9));
    }

    #[test]
    fn a_held_partition_is_not_read_until_it_goes_on() {
        let (mut state, partition, epoch) = state();
        assert!(state.hold_back(&partition, epoch));
        assert_eq!(state.holds(), [(partition.clone(), true)]);
        assert_eq!(state.count_held(), 1);
        assert_eq!(state.candidates(4), []);
        let range = Span { from: 3, until: 5 };
        assert!(state.go_on(&partition, epoch, Some(range)).is_some());
        assert_eq!((state.holds(), state.count_held()), (Vec::new(), 0));
        assert!(deliver(&mut state, &partition, 5));
    }

    #[test]
    fn what_was_found_in_an_earlier_assignment_says_nothing() {
        let (mut state, partition, epoch) = state();
        state.begin_revoke(std::slice::from_ref(&partition));
        assert!(!state.hold_back(&partition, epoch));
        state.end_revoke(std::slice::from_ref(&partition));
        state.assign(partition.clone(), Origin::Requests, Tracker::foreign(0, 0));
        let range = Some(Span { from: 3, until: 5 });
        assert_eq!(state.go_on(&partition, epoch, range), None);
        assert!(!state.has(&partition, epoch));
    }
}
