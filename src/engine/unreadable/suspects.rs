//! Offsets at which the library could not decode a batch. It does not say of which partition.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::{Duration, Instant};

/// A look that proved nothing is repeated after this, where the error comes again.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// More are forgotten: each stuck partition repeats its error twice a second.
const MOST: usize = 256;

/// Offsets to be looked at.
#[derive(Debug, Default)]
pub(crate) struct Suspects(BTreeMap<i64, Suspect>);

#[derive(Debug)]
struct Suspect {
    look_at: Instant,
    /// Since the last look.
    heard: bool,
}

impl Suspects {
    /// The library could not decode the batch at `offset` of some partition.
    pub(crate) fn heard(&mut self, offset: i64, now: Instant) {
        if let Some(suspect) = self.0.get_mut(&offset) {
            suspect.heard = true;
        } else if self.0.len() < MOST {
            let heard = true;
            self.0.insert(
                offset,
                Suspect {
                    look_at: now,
                    heard,
                },
            );
        }
    }

    /// Those that are to be looked at now.
    pub(crate) fn take_due(&mut self, now: Instant) -> Vec<i64> {
        self.0
            .retain(|_, suspect| suspect.heard || suspect.look_at > now);
        let due = self.0.iter_mut();
        let due = due.filter(|(_, suspect)| suspect.heard && suspect.look_at <= now);
        due.map(|(offset, suspect)| {
            suspect.heard = false;
            suspect.look_at = now + LOOK_AGAIN;
            *offset
        })
        .collect()
    }

    /// A partition has passed over `range` without a record there: the first of these offsets in it is looked at now.
    pub(crate) fn passed(&mut self, range: Range<i64>, now: Instant) -> Option<i64> {
        if range.is_empty() {
            return None;
        }
        let (offset, suspect) = self.0.range_mut(range).next()?;
        suspect.heard = true;
        suspect.look_at = now;
        Some(*offset)
    }

    /// It is known what is there: another partition may have the same offset.
    pub(crate) fn settle(&mut self, offset: i64, now: Instant) {
        if let Some(suspect) = self.0.get_mut(&offset) {
            suspect.look_at = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: [i64; 0] = [];

    #[test]
    fn an_offset_is_looked_at_once_and_again_later_where_the_error_comes_again() {
        let start = Instant::now();
        let mut suspects = Suspects::default();
        suspects.heard(7, start);
        suspects.heard(7, start);
        assert_eq!(suspects.take_due(start), [7]);
        assert_eq!(suspects.take_due(start), NONE);
        suspects.heard(7, start);
        assert_eq!(suspects.take_due(start), NONE, "not before a while");
        let later = start + LOOK_AGAIN;
        assert_eq!(suspects.take_due(later), [7]);
        assert_eq!(
            suspects.take_due(later + LOOK_AGAIN),
            NONE,
            "not heard again"
        );
        assert_eq!(suspects.passed(0..100, later), None, "and forgotten");
    }

    #[test]
    fn a_settled_offset_is_looked_at_as_soon_as_it_is_heard_again() {
        let now = Instant::now();
        let mut suspects = Suspects::default();
        suspects.heard(7, now);
        assert_eq!(suspects.take_due(now), [7]);
        suspects.heard(7, now);
        suspects.settle(7, now);
        assert_eq!(suspects.take_due(now), [7]);
    }

    #[test]
    fn an_offset_that_is_passed_is_looked_at_now() {
        let now = Instant::now();
        let mut suspects = Suspects::default();
        suspects.heard(7, now);
        assert_eq!(suspects.take_due(now), [7]);
        for elsewhere in [8..9, 0..7, 8..8] {
            assert_eq!(suspects.passed(elsewhere, now), None);
        }
        assert_eq!(suspects.take_due(now), NONE);
        assert_eq!(suspects.passed(5..9, now), Some(7));
        assert_eq!(suspects.take_due(now), [7]);
    }

    #[test]
    fn there_is_an_end_to_them() {
        let now = Instant::now();
        let mut suspects = Suspects::default();
        (0..10_000).for_each(|offset| suspects.heard(offset, now));
        assert_eq!(suspects.take_due(now).len(), MOST);
    }
}
