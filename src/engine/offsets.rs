//! The offsets of one partition: what was delivered, what is finished, and what to commit.
//!
//! Requests finish in any order. Kafka keeps one offset a partition, so the commit point is
//! the lowest unfinished one, and what is finished above it goes into the commit's
//! [`Tag`]. Only offsets that were delivered are tracked: transaction markers and compaction
//! leave gaps in which nothing can be delivered to anybody, so a gap counts as finished.

use std::collections::{BTreeMap, BTreeSet};

use rangemap::RangeSet;

use super::tag::{self, Fill, Tag};
use crate::clock::EpochMs;

/// What to do with a delivered record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// Handle it; it is unfinished from now on.
    Unfinished,
    /// An earlier owner finished it, or it was delivered before.
    Finished,
}

/// The state of one assigned partition.
#[derive(Debug)]
pub struct Tracker {
    /// All below is delivered, or was never there.
    next: i64,
    /// Delivered and not finished, with their record times.
    unfinished: BTreeMap<i64, Option<EpochMs>>,
    /// The record time of what was delivered last.
    latest: Option<EpochMs>,
    /// Finished by earlier owners, at or above `next`.
    inherited: RangeSet<i64>,
    /// Below it, old records are skipped; see [`Tracker::was_there_before`].
    until: Option<i64>,
    /// Whether the consumer's position is this assignment's: something was delivered, or there was none yet.
    positioned: bool,
}

impl Tracker {
    /// Goes on where the owner that committed `tag` stopped.
    #[must_use]
    pub fn from_tag(tag: &Tag) -> Self {
        Self {
            next: tag.commit_point,
            unfinished: BTreeMap::new(),
            latest: None,
            inherited: tag.finished.iter().cloned().collect(),
            until: tag.until,
            positioned: false,
        }
    }

    /// Starts at `start` on a partition without our tag; what lies below `end` was there before us.
    #[must_use]
    pub fn foreign(start: i64, end: i64) -> Self {
        let tag = Tag {
            commit_point: start,
            until: (end > start).then_some(end),
            finished: Vec::new(),
        };
        Self::from_tag(&tag)
    }

    /// Notes that the record at `offset` was delivered.
    pub fn deliver(&mut self, offset: i64, time: Option<EpochMs>) -> Delivery {
        if offset < self.next {
            return Delivery::Finished;
        }
        let finished = self.inherited.contains(&offset);
        self.positioned = true;
        self.latest = time.or(self.latest);
        self.advance(offset + 1);
        if finished {
            return Delivery::Finished;
        }
        self.unfinished.insert(offset, time);
        Delivery::Unfinished
    }

    /// Notes that the consumer has no position yet: the next one that it has is this assignment's.
    pub fn has_no_position(&mut self) {
        self.positioned = true;
    }

    /// Notes that all below `position` was delivered or is no record; never goes back. Before the
    /// first delivery, and where there always was one, it does nothing: the consumer's position may be an
    /// earlier assignment's then.
    pub fn advance(&mut self, position: i64) {
        if self.positioned && position > self.next {
            self.next = position;
            self.inherited.remove(i64::MIN..position);
        }
    }

    /// Notes that `offset` is finished.
    pub fn finish(&mut self, offset: i64) {
        self.unfinished.remove(&offset);
    }

    /// Whether `offset` lies where old records are skipped, because they were there before us.
    #[must_use]
    pub fn was_there_before(&self, offset: i64) -> bool {
        self.until.is_some_and(|until| offset < until)
    }

    /// The offset after the last one delivered.
    #[must_use]
    pub fn next(&self) -> i64 {
        self.next
    }

    /// The lowest offset that is not finished.
    #[must_use]
    pub fn commit_point(&self) -> i64 {
        let first = self.unfinished.first_key_value();
        first.map_or(self.next, |(offset, _)| *offset)
    }

    /// What to commit once `finishing` is finished too. The tracker stays as it is: it changes
    /// only when the commit went through.
    #[must_use]
    pub fn tag_after(&self, finishing: &BTreeSet<i64>) -> Tag {
        let mut finished = RangeSet::new();
        let mut commit_point = None;
        let mut at = self.next;
        for &offset in self
            .unfinished
            .keys()
            .filter(|offset| !finishing.contains(offset))
        {
            if commit_point.is_none() {
                commit_point = Some(offset);
            } else if offset > at {
                finished.insert(at..offset);
            }
            at = offset + 1;
        }
        let commit_point = commit_point.unwrap_or(self.next);
        if self.next > at {
            finished.insert(at..self.next);
        }
        finished.extend(self.inherited.iter().cloned());
        Tag {
            commit_point,
            until: self.until.filter(|until| *until > commit_point),
            finished: finished.iter().cloned().collect(),
        }
    }

    /// What is not finished below `end`, and the record time of the oldest of it: where nothing is in
    /// hand that of the last record delivered, which is older than what follows. What lies ahead is
    /// counted by offset, since it is not known yet which of them are records.
    #[must_use]
    pub fn lag(&self, end: i64) -> (u64, Option<EpochMs>) {
        let ahead = end.saturating_sub(self.next).max(0);
        let finished: i64 = self
            .inherited
            .iter()
            .map(|run| run.end.min(end).saturating_sub(run.start).max(0))
            .sum();
        let ahead = u64::try_from(ahead.saturating_sub(finished)).unwrap_or(0);
        let oldest = self.unfinished.first_key_value();
        let since = oldest.map_or(self.latest.filter(|_| ahead > 0), |(_, time)| *time);
        (ahead + self.unfinished.len() as u64, since)
    }

    /// Whether the tag stays within `fill` with another record delivered, whatever finishes next.
    #[must_use]
    pub fn has_room(&self, fill: Fill) -> bool {
        let end = self
            .inherited
            .last()
            .map_or(self.next, |run| run.end.max(self.next));
        tag::fits(
            self.unfinished.len() + 1,
            self.inherited.len(),
            end + 1 - self.commit_point(),
            fill,
        )
    }
}

#[cfg(test)]
#[expect(clippy::single_range_in_vec_init, reason = "lists of one run")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn none() -> BTreeSet<i64> {
        BTreeSet::new()
    }

    fn tag(commit_point: i64, finished: &[std::ops::Range<i64>]) -> Tag {
        Tag {
            commit_point,
            until: None,
            finished: finished.to_vec(),
        }
    }

    #[test]
    fn late_completion_does_not_move_the_commit_point() {
        let mut tracker = Tracker::from_tag(&tag(10, &[]));
        (10..15).for_each(|offset| assert_eq!(tracker.deliver(offset, None), Delivery::Unfinished));
        tracker.finish(12);
        tracker.finish(13);
        assert_eq!(tracker.tag_after(&none()), tag(10, &[12..14]));
        tracker.finish(10);
        tracker.finish(11);
        assert_eq!(tracker.tag_after(&none()), tag(14, &[]));
    }

    #[test]
    fn what_an_earlier_owner_finished_is_kept_until_it_is_passed() {
        let mut tracker = Tracker::from_tag(&tag(10, &[11..13, 20..25]));
        assert_eq!(tracker.tag_after(&none()), tag(10, &[11..13, 20..25]));
        assert_eq!(tracker.deliver(10, None), Delivery::Unfinished);
        assert_eq!(tracker.deliver(11, None), Delivery::Finished);
        tracker.finish(10);
        assert_eq!(tracker.tag_after(&none()), tag(12, &[12..13, 20..25]));
    }

    #[test]
    fn gaps_and_markers_leave_no_lag_behind() {
        let mut tracker = Tracker::from_tag(&tag(0, &[]));
        assert_eq!(tracker.deliver(0, None), Delivery::Unfinished);
        assert_eq!(tracker.deliver(5, None), Delivery::Unfinished);
        tracker.finish(0);
        tracker.finish(5);
        tracker.advance(7);
        assert_eq!(tracker.commit_point(), 7);
    }

    #[test]
    fn a_position_before_the_first_delivery_says_nothing() {
        let mut tracker = Tracker::from_tag(&tag(50, &[60..70]));
        tracker.advance(101);
        assert_eq!(tracker.tag_after(&none()), tag(50, &[60..70]));
    }

    #[test]
    fn where_there_was_no_position_the_next_one_counts_without_a_delivery() {
        let mut tracker = Tracker::from_tag(&tag(50, &[]));
        tracker.has_no_position();
        assert_eq!(tracker.commit_point(), 50);
        tracker.advance(53);
        assert_eq!(tracker.commit_point(), 53);
    }

    #[test]
    fn until_stays_until_the_commit_point_has_passed_it() {
        let mut tracker = Tracker::foreign(0, 3);
        assert_eq!(tracker.tag_after(&none()).until, Some(3));
        (0..3).for_each(|offset| assert!(tracker.was_there_before(offset)));
        assert!(!tracker.was_there_before(3));
        (0..3).for_each(|offset| assert_eq!(tracker.deliver(offset, None), Delivery::Unfinished));
        assert_eq!(tracker.tag_after(&[0, 1].into()).until, Some(3));
        assert_eq!(tracker.tag_after(&[0, 1, 2].into()).until, None);
        assert_eq!(Tracker::foreign(5, 5).tag_after(&none()).until, None);
    }

    #[test]
    fn a_repeated_delivery_is_not_handled_again() {
        let mut tracker = Tracker::from_tag(&tag(3, &[]));
        assert_eq!(tracker.deliver(3, None), Delivery::Unfinished);
        assert_eq!(tracker.deliver(3, None), Delivery::Finished);
    }

    #[test]
    fn a_long_span_with_much_unfinished_has_no_room() {
        let mut tracker = Tracker::from_tag(&tag(0, &[]));
        (0..30_000).for_each(|offset| {
            let _ = tracker.deliver(offset, None);
        });
        assert!(!tracker.has_room(Fill::High));
        (1..30_000)
            .filter(|offset| offset % 60 != 0)
            .for_each(|offset| tracker.finish(offset));
        assert!(tracker.has_room(Fill::High));
    }

    #[test]
    fn what_is_unfinished_and_what_lies_ahead_is_lag() {
        let at = |time| Some(EpochMs(time));
        let mut tracker = Tracker::from_tag(&tag(10, &[12..14]));
        assert_eq!(tracker.lag(20), (8, None));
        tracker.deliver(10, at(1_000));
        tracker.deliver(11, at(2_000));
        assert_eq!(tracker.lag(20), (8, at(1_000)));
        tracker.finish(10);
        assert_eq!(tracker.lag(20), (7, at(2_000)));
        tracker.finish(11);
        assert_eq!(tracker.lag(20), (6, at(2_000)));
        tracker.advance(20);
        assert_eq!(tracker.lag(20), (0, None));
        assert_eq!(tracker.lag(15), (0, None), "an end that was read earlier");
    }

    /// The obviously right model: a flag for each offset.
    #[derive(Default)]
    struct Naive {
        delivered: BTreeSet<i64>,
        finished: BTreeSet<i64>,
    }

    proptest! {
        /// Owners follow each other at random moments; each delivers in order, with gaps, finishes
        /// at random, and commits now and then. Nothing is handled again after it was committed
        /// as finished, and nothing is left out.
        #[test]
        fn handover_repeats_and_loses_nothing(
            gaps in proptest::collection::vec(1..4_i64, 1..120),
            steps in proptest::collection::vec((0..4_u8, any::<prop::sample::Index>()), 0..400),
        ) {
            let log: Vec<i64> = gaps.iter().scan(0, |at, gap| { *at += gap; Some(*at) }).collect();
            let mut committed = tag(0, &[]);
            let mut durable: BTreeSet<i64> = BTreeSet::new();
            let mut tracker = Tracker::from_tag(&committed);
            let mut naive = Naive::default();
            let mut read = 0;
            for (step, pick) in steps {
                match step {
                    0 | 1 => if let Some(&offset) = log.get(read) {
                        read += 1;
                        let want = if durable.contains(&offset) { Delivery::Finished } else { Delivery::Unfinished };
                        prop_assert_eq!(tracker.deliver(offset, None), want);
                        if want == Delivery::Unfinished { naive.delivered.insert(offset); }
                    },
                    2 => {
                        let open: Vec<_> = naive.delivered.difference(&naive.finished).copied().collect();
                        if !open.is_empty() {
                            let offset = open[pick.index(open.len())];
                            // Commit it, the way a transaction does: tentatively, then for good.
                            committed = tracker.tag_after(&[offset].into());
                            tracker.finish(offset);
                            naive.finished.insert(offset);
                            durable.insert(offset);
                            prop_assert_eq!(&committed, &tracker.tag_after(&none()));
                        }
                    }
                    _ => {
                        // A new owner reads the commit from its text and starts over from it.
                        let text = committed.encode();
                        let tag::Found::Ours(read_back) = Tag::decode(&text, committed.commit_point) else {
                            return Err(TestCaseError::fail("not ours"));
                        };
                        tracker = Tracker::from_tag(&read_back);
                        naive = Naive { delivered: BTreeSet::new(), finished: BTreeSet::new() };
                        read = log.partition_point(|offset| *offset < read_back.commit_point);
                        for offset in &log[..read] {
                            prop_assert!(durable.contains(offset), "{} was lost", offset);
                        }
                    }
                }
            }
        }
    }
}
