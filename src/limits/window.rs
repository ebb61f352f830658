//! One key's charges in time, and whether one more fits: pure.
//!
//! A limit of `count` in `window` holds when no stretch of time shorter than `window` has more than
//! `count` charges in it. Charges come late and out of order, since they count from when their request
//! was received, so one must fit between those before it and those after it.

use std::time::Duration;

use smallvec::SmallVec;

use crate::clock::EpochMs;
use crate::outcome::Limit;

/// One limit that is not off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rule {
    pub(crate) limit: Limit,
    /// Else it is a shadow.
    pub(crate) refuses: bool,
    pub(crate) count: usize,
    pub(crate) window: Duration,
    /// How late a charge may come: a request's lifetime.
    pub(crate) lateness: Duration,
}

impl Rule {
    /// For how long after it was received a charge is of use.
    pub(crate) fn kept(&self) -> Duration {
        self.window + self.lateness
    }

    /// Charges of one key that are kept: all that can be of use where the limit refuses. A shadow's may
    /// be more.
    pub(crate) fn most(&self) -> usize {
        let windows = self.kept().as_millis().div_ceil(self.window.as_millis());
        self.count
            .saturating_mul(usize::try_from(windows).unwrap_or(usize::MAX))
    }
}

/// When a key was charged, in order; most keys are charged once or twice.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Charges(SmallVec<[EpochMs; 2]>);

impl Charges {
    /// Whether one more at `at` is one too many.
    pub(crate) fn full(&self, rule: &Rule, at: EpochMs) -> bool {
        let charges = &self.0;
        let before = charges.partition_point(|one| *one <= at);
        let after = charges.len() - before;
        (0..=after.min(rule.count)).any(|later| {
            let earlier = rule.count - later;
            if earlier > before {
                return false;
            }
            let first = if earlier > 0 {
                charges[before - earlier]
            } else {
                at
            };
            let last = if later > 0 {
                charges[before + later - 1]
            } else {
                at
            };
            first.plus(rule.window) > last
        })
    }

    /// From when on one more is not too many, if no other comes; none where that is always.
    pub(crate) fn free_from(&self, rule: &Rule) -> Option<EpochMs> {
        let decisive = self.0.len().checked_sub(rule.count)?;
        Some(self.0.get(decisive)?.plus(rule.window))
    }

    /// Adds a charge.
    pub(crate) fn add(&mut self, rule: &Rule, at: EpochMs, now: EpochMs) {
        let place = self.0.partition_point(|one| *one <= at);
        self.0.insert(place, at);
        let old = self.0.partition_point(|one| one.plus(rule.kept()) <= now);
        let surplus = self.0.len().saturating_sub(rule.most());
        self.0.drain(..old.max(surplus));
    }

    /// Takes a charge back.
    pub(crate) fn remove(&mut self, at: EpochMs) {
        if let Ok(place) = self.0.binary_search(&at) {
            self.0.remove(place);
        }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The last one.
    pub(crate) fn last(&self) -> Option<EpochMs> {
        self.0.last().copied()
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn rule(count: usize) -> Rule {
        Rule {
            limit: Limit::Number,
            refuses: true,
            count,
            window: Duration::from_millis(30),
            lateness: Duration::from_millis(300),
        }
    }

    #[rstest]
    #[case::none_yet(1, &[], 100, None)]
    #[case::too_soon(1, &[100], 129, Some(130))]
    #[case::as_soon_as_the_window_has_passed(1, &[100], 130, None)]
    #[case::at_the_same_moment(1, &[100], 100, Some(130))]
    #[case::the_second_of_two(2, &[100], 101, None)]
    #[case::the_third_of_two(2, &[100, 120], 129, Some(130))]
    #[case::the_oldest_has_passed(2, &[100, 120], 130, None)]
    #[case::late_and_close_before_another(1, &[100], 71, Some(130))]
    #[case::late_and_well_before_another(1, &[100], 70, None)]
    #[case::late_between_two(2, &[100, 120], 110, Some(130))]
    #[case::late_between_two_that_are_far_apart(2, &[100, 130], 115, None)]
    fn one_more_fits_where_no_window_gets_too_many(
        #[case] count: usize,
        #[case] charged: &[i64],
        #[case] at: i64,
        #[case] free_again: Option<i64>,
    ) {
        let charges = Charges(charged.iter().copied().map(EpochMs).collect());
        let rule = rule(count);
        let full = charges.full(&rule, EpochMs(at));
        let free_from = charges.free_from(&rule).filter(|_| full);
        assert_eq!(free_from, free_again.map(EpochMs));
    }

    #[test]
    fn what_is_of_no_use_any_more_is_forgotten() {
        let mut charges = Charges::default();
        for at in [0, 10, 330] {
            charges.add(&rule(1), EpochMs(at), EpochMs(at));
        }
        assert_eq!(charges.0.as_slice(), [EpochMs(10), EpochMs(330)]);
        for at in 0..100 {
            charges.add(&rule(1), EpochMs(340 + at), EpochMs(340 + at));
        }
        assert_eq!(charges.0.len(), rule(1).most());
    }
}
