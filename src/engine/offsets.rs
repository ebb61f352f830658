//! The offsets of one partition: what was delivered, what is finished, and what to commit.
//!
//! Requests finish in any order. Kafka keeps one offset a partition, so the commit point is
//! the lowest unfinished one, and what is finished above it goes into the commit's
//! [`Tag`]. Only offsets that were delivered are tracked: transaction markers and compaction
//! leave gaps in which nothing can be delivered to anybody, so a gap counts as finished.
//!
//! A gap also makes the commit metadata longer. A record that might take it over its limit is refused: the
//! consumer reads it again once enough is finished, and no position passes it until then.

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
    /// It is not taken in: read it again, see [`Tracker::refused`].
    Refused,
}

/// A record that was delivered and not taken in.
#[derive(Debug, Clone, Copy)]
struct Refused {
    offset: i64,
    /// Whether the consumer reads from it again. Until then whatever is delivered may lie behind it.
    set_back: bool,
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
    /// The bytes that these take in the commit metadata, at most.
    inherited_bytes: usize,
    /// No position passes it before it is taken in.
    refused: Option<Refused>,
    /// Whether a record was delivered in this assignment.
    was_read: bool,
    /// Below it, old records are skipped; see [`Tracker::was_there_before`].
    until: Option<i64>,
    /// What was there when this assignment began, on a partition without our tag.
    found: Option<FoundThere>,
    /// Whether the consumer's position is this assignment's: something was delivered, or there was none yet.
    positioned: bool,
}

/// What a partition held when the group came to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FoundThere {
    /// Its end.
    pub end: i64,
    /// Records from before this moment were too old then.
    pub old: EpochMs,
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
            inherited_bytes: tag::run_lengths(tag.commit_point, tag.finished.iter()).len(),
            refused: None,
            was_read: false,
            until: tag.until,
            found: None,
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

    /// The same, where it is known which of these records were too old at that moment. The others are owed an outcome,
    /// however late they are read. A later owner knows no more than that all before `first_in_time` are too old.
    #[must_use]
    pub fn foreign_with(start: i64, found: FoundThere, first_in_time: i64) -> Self {
        Self {
            found: Some(found),
            ..Self::foreign(start, found.end.min(first_in_time))
        }
    }

    /// Notes that the record at `offset` was delivered. It is refused where the commit
    /// metadata might grow over its limit with it, because offsets jump.
    pub fn deliver(&mut self, offset: i64, time: Option<EpochMs>) -> Delivery {
        if offset < self.next {
            return Delivery::Finished;
        }
        self.was_read = true;
        let out_of_order = self.refused.is_some_and(|refused| !refused.set_back);
        let finished = self.inherited.contains(&offset);
        if out_of_order || !self.fits(offset + 1, usize::from(!finished), Fill::Full) {
            self.refuse(offset);
            return Delivery::Refused;
        }
        // Delivered in its place: what was refused is this one, or was compacted away since.
        self.refused = self.refused.filter(|refused| offset < refused.offset);
        self.positioned = true;
        self.latest = time.or(self.latest);
        self.pass(offset + 1);
        if finished {
            return Delivery::Finished;
        }
        self.unfinished.insert(offset, time);
        Delivery::Unfinished
    }

    /// Notes that the record at `offset` was delivered, and is to be read again.
    pub fn refuse(&mut self, offset: i64) {
        let in_order = self.refused.is_none_or(|refused| refused.set_back);
        if in_order && offset >= self.next {
            self.refused = Some(Refused {
                offset,
                set_back: false,
            });
        }
    }

    /// Where the consumer's position is to be set back to, before anything else of the partition is
    /// taken in.
    #[must_use]
    pub fn refused(&self) -> Option<i64> {
        let refused = self.refused.filter(|refused| !refused.set_back)?;
        Some(refused.offset)
    }

    /// Notes that the consumer's position is at what was refused, or before it.
    pub fn set_back(&mut self) {
        if let Some(refused) = &mut self.refused {
            refused.set_back = true;
        }
    }

    /// Whether a record was delivered in this assignment.
    #[must_use]
    pub fn was_read(&self) -> bool {
        self.was_read
    }

    /// Notes that the consumer has no position yet: the next one that it has is this assignment's.
    pub fn has_no_position(&mut self) {
        self.positioned = true;
    }

    /// Notes that all below `position` was delivered or is no record; never goes back. Before the
    /// first delivery, and where there always was one, it does nothing: the consumer's position may be an
    /// earlier assignment's then. Nor does it while a record is refused, which the position may have
    /// passed, or where the metadata might grow over its limit: the position is noted later then.
    pub fn advance(&mut self, position: i64) {
        let noted = self.positioned && self.refused.is_none() && position > self.next;
        if noted && self.fits(position, 0, Fill::Full) {
            self.pass(position);
        }
    }

    fn pass(&mut self, position: i64) {
        self.next = position;
        let runs = self.inherited.len();
        self.inherited.remove(i64::MIN..position);
        if self.inherited.len() < runs {
            self.inherited_bytes = tag::run_lengths(position, self.inherited.iter()).len();
        }
    }

    /// Notes that `offset` is finished.
    pub fn finish(&mut self, offset: i64) {
        self.unfinished.remove(&offset);
    }

    /// Whether a record at `offset` is skipped if it is old, because it was there, and old, before us.
    #[must_use]
    pub fn was_there_before(&self, offset: i64, time: EpochMs) -> bool {
        let was_found = |found: FoundThere| offset < found.end && time < found.old;
        self.until.is_some_and(|until| offset < until) || self.found.is_some_and(was_found)
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
        let next = self.refused.map_or(self.next, |refused| refused.offset);
        self.fits(next + 1, 1, fill)
    }

    /// Whether the commit metadata stays within `fill`, whatever finishes next, with all below `next`
    /// passed and `more` unfinished. With nothing unfinished it always does: the commit point moves along, so
    /// it gets no longer than what the earlier owner committed. So a partition never waits for itself.
    fn fits(&self, next: i64, more: usize, fill: Fill) -> bool {
        let end = self.inherited.last().map_or(next, |run| run.end.max(next));
        self.unfinished.is_empty()
            || tag::fits(
                self.unfinished.len() + more,
                self.inherited_bytes,
                end - self.commit_point(),
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
        (0..3).for_each(|offset| assert!(tracker.was_there_before(offset, EpochMs(0))));
        assert!(!tracker.was_there_before(3, EpochMs(0)));
        (0..3).for_each(|offset| assert_eq!(tracker.deliver(offset, None), Delivery::Unfinished));
        assert_eq!(tracker.tag_after(&[0, 1].into()).until, Some(3));
        assert_eq!(tracker.tag_after(&[0, 1, 2].into()).until, None);
        assert_eq!(Tracker::foreign(5, 5).tag_after(&none()).until, None);
    }

    #[test]
    fn what_was_young_when_the_group_came_is_owed_an_outcome_however_late_it_is_read() {
        let found = FoundThere {
            end: 9,
            old: EpochMs(1_000),
        };
        // The first three are too old, and a later one whose producer's clock was behind.
        let tracker = Tracker::foreign_with(0, found, 3);
        let skipped =
            |tracker: &Tracker, offset, time| tracker.was_there_before(offset, EpochMs(time));
        assert!(skipped(&tracker, 2, 999) && skipped(&tracker, 6, 999));
        assert!(!skipped(&tracker, 4, 1_000) && !skipped(&tracker, 9, 999));
        let next_owner = Tracker::from_tag(&tracker.tag_after(&none()));
        assert!(skipped(&next_owner, 2, 999));
        assert!(!skipped(&next_owner, 6, 999), "it ends as expired");
        let young = Tracker::foreign_with(0, found, 0);
        assert_eq!(young.tag_after(&none()).until, None);
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

    #[test]
    fn a_record_behind_a_gap_that_does_not_fit_is_refused_until_enough_is_finished() {
        let mut tracker = Tracker::from_tag(&tag(0, &[]));
        // Every second one is finished: a bitmap has them all, until it is to span the gap too.
        for offset in 0..4_600 {
            assert_eq!(tracker.deliver(offset, None), Delivery::Unfinished);
            if offset % 2 == 1 {
                tracker.finish(offset);
            }
        }
        tracker.advance(44_600);
        assert_eq!(tracker.next(), 4_600, "a position is no reason either");
        assert_eq!(tracker.deliver(44_600, None), Delivery::Refused);
        assert_eq!(tracker.refused(), Some(44_600));
        assert!(!tracker.has_room(Fill::High), "and so it is held");
        assert_eq!(tracker.deliver(44_601, None), Delivery::Refused);
        assert_eq!(tracker.refused(), Some(44_600), "the first one counts");
        tracker.set_back();
        assert_eq!(tracker.refused(), None);
        tracker.advance(44_602);
        assert_eq!(tracker.next(), 4_600, "it is not read again yet");
        (0..4_400).for_each(|offset| tracker.finish(offset));
        assert!(tracker.has_room(Fill::Low), "it is let go again");
        assert_eq!(tracker.deliver(44_600, None), Delivery::Unfinished);
        tracker.advance(44_602);
        assert_eq!(tracker.next(), 44_602);
    }

    #[test]
    fn what_was_refused_and_is_compacted_away_holds_nothing_back() {
        let mut tracker = Tracker::from_tag(&tag(0, &[]));
        assert_eq!(tracker.deliver(0, None), Delivery::Unfinished);
        tracker.refuse(5);
        tracker.set_back();
        assert_eq!(tracker.deliver(9, None), Delivery::Unfinished);
        tracker.advance(12);
        assert_eq!(tracker.next(), 12);
    }

    #[test]
    fn with_nothing_unfinished_there_is_room_whatever_an_earlier_owner_left() {
        let runs = (0..1_000).map(|run| 2 + run * 100_000..1 + (run + 1) * 100_000);
        let tag = tag(0, &runs.collect::<Vec<_>>());
        assert!(!tag.is_within_limit());
        let mut tracker = Tracker::from_tag(&tag);
        assert!(tracker.has_room(Fill::Low));
        assert_eq!(tracker.deliver(0, None), Delivery::Unfinished);
        assert!(!tracker.has_room(Fill::High));
        tracker.finish(0);
        assert!(tracker.has_room(Fill::Low));
    }

    /// Mostly as requests follow each other, now and then over an aborted transaction.
    fn gap() -> impl Strategy<Value = i64> {
        prop_oneof![8 => 1..4_i64, 1 => 1..300_i64, 1 => 1..100_000_i64]
    }

    /// A log, and a consumer that hands out its records in order, as librdkafka does.
    struct Reading {
        log: Vec<i64>,
        tracker: Tracker,
        /// The place in the log of the next record that it hands out.
        at: usize,
        position: Option<i64>,
        held: bool,
        in_hand: Vec<i64>,
        done: BTreeSet<i64>,
        refusals: usize,
        sets_back: bool,
    }

    impl Reading {
        fn of(gaps: &[i64], sets_back: bool) -> Self {
            let after = |at: &mut i64, gap: &i64| {
                *at += gap;
                Some(*at)
            };
            Self {
                log: gaps.iter().scan(0, after).collect(),
                tracker: Tracker::from_tag(&tag(0, &[])),
                at: 0,
                position: None,
                held: false,
                in_hand: Vec::new(),
                done: BTreeSet::new(),
                refusals: 0,
                sets_back,
            }
        }

        /// Hands out up to `count` records, unless the partition is held.
        fn read(&mut self, count: usize) {
            let fill = if self.held { Fill::Low } else { Fill::High };
            self.held = !self.tracker.has_room(fill);
            for _ in 0..count {
                let Some(&offset) = self.log.get(self.at).filter(|_| !self.held) else {
                    return;
                };
                self.at += 1;
                self.position = Some(offset + 1);
                match self.tracker.deliver(offset, None) {
                    Delivery::Unfinished => self.in_hand.push(offset),
                    Delivery::Finished => assert!(self.done.contains(&offset), "{offset} is lost"),
                    Delivery::Refused => {
                        assert!(!self.in_hand.is_empty(), "it waits for itself at {offset}");
                        self.refusals += 1;
                        let refused = self.tracker.refused().expect("one that was refused");
                        if self.sets_back {
                            self.at = self.log.partition_point(|one| *one < refused);
                            self.position = None;
                        }
                        self.tracker.set_back();
                        return;
                    }
                }
            }
        }

        /// A poll returned nothing; the log's end is `beyond` its last record.
        fn note_position(&mut self, beyond: i64) {
            let at_end = self.at == self.log.len();
            if let Some(position) = self.position {
                self.tracker
                    .advance(position + if at_end { beyond } else { 0 });
            }
        }

        fn finish(&mut self, index: usize) {
            if !self.in_hand.is_empty() {
                let offset = self.in_hand.swap_remove(index % self.in_hand.len());
                self.tracker.finish(offset);
                self.done.insert(offset);
            }
        }

        /// The next owner reads what was committed last.
        fn hand_over(&mut self) {
            let tag = self.tracker.tag_after(&none());
            let tag::Found::Ours(tag) = Tag::decode(&tag.encode(), tag.commit_point) else {
                panic!("not ours: {tag:?}");
            };
            self.at = self.log.partition_point(|one| *one < tag.commit_point);
            self.tracker = Tracker::from_tag(&tag);
            (self.position, self.held) = (None, false);
            self.in_hand.clear();
        }

        /// Whatever of what is in hand finishes next, a broker takes the metadata.
        fn check(&self, index: usize) {
            let some = self.in_hand.iter().skip(index % 7).step_by(1 + index % 3);
            for finishing in [none(), some.copied().collect()] {
                let length = self.tracker.tag_after(&finishing).encode().len();
                assert!(length <= tag::METADATA_LIMIT, "{length} characters");
            }
        }

        /// The records below the commit point that nobody got.
        fn lost(&self) -> Vec<i64> {
            let below = self.log.iter().copied();
            let below = below.take_while(|one| *one < self.tracker.commit_point());
            below.filter(|one| !self.done.contains(one)).collect()
        }

        /// Reads the whole log, with the oldest request unfinished for long.
        fn read_to_the_end(&mut self, picks: &[usize], hands_over: bool) {
            let mut picks = picks.iter().copied().cycle().enumerate();
            while self.at < self.log.len() || !self.in_hand.is_empty() {
                let (step, pick) = picks.next().expect("it is a cycle");
                assert!(step < 20 * self.log.len() + 100, "it makes no progress");
                self.read(64);
                self.note_position(pick as i64);
                self.check(pick);
                let finishes = if self.held || self.at == self.log.len() {
                    40
                } else {
                    pick % 40
                };
                (0..finishes).for_each(|more| self.finish(pick + more));
                if hands_over && step % 97 == 96 {
                    self.hand_over();
                }
                self.check(pick);
            }
        }
    }

    /// Records that follow each other, and an aborted transaction behind them, again and again.
    fn stretches(lengths: &[(usize, i64)]) -> Vec<i64> {
        let stretch = |(length, jump): &(usize, i64)| {
            let mut gaps = vec![1; *length];
            gaps.push(*jump);
            gaps
        };
        lengths.iter().flat_map(stretch).collect()
    }

    #[test]
    fn without_the_set_back_a_request_is_lost() {
        let gaps = stretches(&[(4_000, 40_000), (3_000, 100_000), (10, 1)]);
        for sets_back in [true, false] {
            let mut reading = Reading::of(&gaps, sets_back);
            reading.read_to_the_end(&[0], false);
            assert!(reading.refusals > 0, "something is refused");
            assert_eq!(reading.lost().is_empty(), sets_back, "{:?}", reading.lost());
        }
    }

    /// The obviously right model: a flag for each offset.
    #[derive(Default)]
    struct Naive {
        delivered: BTreeSet<i64>,
        finished: BTreeSet<i64>,
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

        #[test]
        fn offsets_that_jump_lose_nothing_and_never_take_the_metadata_over_its_limit(
            gaps in prop_oneof![
                proptest::collection::vec(gap(), 1..3_000),
                proptest::collection::vec((1..3_000_usize, 1..100_000_i64), 1..4)
                    .prop_map(|lengths| stretches(&lengths)),
            ],
            picks in proptest::collection::vec(0..2_000_usize, 1..200),
            hands_over: bool,
        ) {
            let mut reading = Reading::of(&gaps, true);
            reading.read_to_the_end(&picks, hands_over);
            prop_assert_eq!(reading.lost(), Vec::<i64>::new());
            prop_assert_eq!(reading.done.len(), gaps.len());
            prop_assert!(reading.log.last().is_none_or(|last| *last < reading.tracker.commit_point()));
        }
    }

    proptest! {
        /// Owners follow each other at random moments; each delivers in order, with gaps, finishes
        /// at random, and commits now and then. Nothing is handled again after it was committed
        /// as finished, and nothing is left out.
        #[test]
        fn handover_repeats_and_loses_nothing(
            gaps in proptest::collection::vec(gap(), 1..120),
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
