//! Which retry topic a request goes on, and what waits there for its time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::Uptime;

/// One retry topic: a record on it is due at its record time plus `delay`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tier {
    /// The topic's name.
    pub topic: Arc<str>,
    /// How long a record waits on it.
    pub delay: Duration,
}

/// What decides the tier.
#[derive(Debug, Clone, Copy)]
pub struct Need {
    /// Tries of this request before the one that has just failed.
    pub tries_before: u32,
    /// How long the service asked to be left alone.
    pub retry_after: Option<Duration>,
    /// Time left before the deadline.
    pub left: Duration,
}

/// The tier of a failed try: the first for the first, the next for the next, the last one
/// repeating; `Retry-After` picks the first that is long enough. Where that one would not leave
/// `min_life`, the longest that does; where none does, `None`: the request is expired.
///
/// `tiers` are ascending.
#[must_use]
pub fn choose(tiers: &[Tier], need: Need, min_life: Duration) -> Option<&Tier> {
    let last = tiers.len().checked_sub(1)?;
    let wanted = match need.retry_after {
        Some(pause) => tiers
            .iter()
            .position(|tier| tier.delay >= pause)
            .unwrap_or(last),
        None => usize::try_from(need.tries_before).unwrap_or(last).min(last),
    };
    tiers[..=wanted]
        .iter()
        .rfind(|tier| tier.delay.saturating_add(min_life) <= need.left)
}

/// The longest tier that leaves `min_life`.
#[must_use]
pub fn longest(tiers: &[Tier], left: Duration, min_life: Duration) -> Option<&Tier> {
    choose(
        tiers,
        Need {
            tries_before: u32::MAX,
            retry_after: None,
            left,
        },
        min_life,
    )
}

/// Items in the order of their due times; those of one moment in the order they came. Due times are by the clock
/// that only goes forward: how long an item still waits is fixed when it is parked.
#[derive(Debug)]
pub struct Parked<T> {
    items: BTreeMap<(Uptime, u64), T>,
    arrivals: u64,
}

impl<T> Default for Parked<T> {
    fn default() -> Self {
        Self {
            items: BTreeMap::new(),
            arrivals: 0,
        }
    }
}

impl<T> Parked<T> {
    /// Parks `item` until `due`.
    pub fn park(&mut self, due: Uptime, item: T) {
        self.arrivals += 1;
        self.items.insert((due, self.arrivals), item);
    }

    /// The item that has been due the longest at `now`.
    pub fn take_due(&mut self, now: Uptime) -> Option<T> {
        let first = self.items.first_entry()?;
        (first.key().0 <= now).then(|| first.remove())
    }

    /// When the next item is due.
    #[must_use]
    pub fn next_due(&self) -> Option<Uptime> {
        self.items.first_key_value().map(|((due, _), _)| *due)
    }

    /// How many wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Takes out everything that `gone` names.
    pub fn remove(&mut self, mut gone: impl FnMut(&T) -> bool) -> Vec<T> {
        self.items
            .extract_if(.., |_, item| gone(item))
            .map(|(_, item)| item)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rstest::rstest;

    const MIN_LIFE: Duration = Duration::from_secs(15);

    fn at(seconds: u64) -> Uptime {
        Uptime(Duration::from_secs(seconds))
    }

    fn tiers(seconds: &[u64]) -> Vec<Tier> {
        seconds
            .iter()
            .map(|&delay| Tier {
                topic: format!("r.{delay}s").into(),
                delay: Duration::from_secs(delay),
            })
            .collect()
    }

    #[rstest]
    #[case::first_failure(0, None, 300, Some("r.5s"))]
    #[case::second_failure(1, None, 290, Some("r.30s"))]
    #[case::last_one_repeats(7, None, 290, Some("r.120s"))]
    #[case::retry_after_picks_the_tier(0, Some(20), 300, Some("r.30s"))]
    #[case::retry_after_longer_than_all(0, Some(900), 300, Some("r.120s"))]
    #[case::the_longest_that_leaves_min_life(2, None, 100, Some("r.30s"))]
    #[case::only_the_shortest_fits(2, None, 21, Some("r.5s"))]
    #[case::exactly_min_life_is_enough(0, None, 20, Some("r.5s"))]
    #[case::none_fits(0, None, 19, None)]
    fn tier_of_a_failed_try(
        #[case] tries_before: u32,
        #[case] retry_after: Option<u64>,
        #[case] left: u64,
        #[case] topic: Option<&str>,
    ) {
        let tiers = tiers(&[5, 30, 120]);
        let need = Need {
            tries_before,
            retry_after: retry_after.map(Duration::from_secs),
            left: Duration::from_secs(left),
        };
        assert_eq!(
            choose(&tiers, need, MIN_LIFE).map(|tier| &*tier.topic),
            topic
        );
    }

    #[test]
    fn no_tiers_means_expired() {
        assert_eq!(longest(&[], Duration::MAX, MIN_LIFE), None);
    }

    #[test]
    fn parked_items_come_out_when_due_and_in_order() {
        let mut parked = Parked::default();
        parked.park(at(20), 'b');
        parked.park(at(10), 'a');
        parked.park(at(20), 'c');
        assert_eq!(parked.next_due(), Some(at(10)));
        assert_eq!(parked.take_due(at(9)), None);
        assert_eq!(parked.take_due(at(10)), Some('a'));
        assert_eq!(parked.take_due(at(19)), None);
        assert_eq!(parked.remove(|item| *item == 'b'), ['b']);
        assert_eq!(parked.take_due(at(99)), Some('c'));
        assert_eq!(parked.next_due(), None);
    }

    proptest! {
        #[test]
        fn a_retry_always_leaves_min_life(
            mut seconds in proptest::collection::btree_set(1..600_u64, 0..6),
            tries_before in 0..9_u32,
            retry_after in proptest::option::of(0..900_u64),
            left in 0..900_u64,
        ) {
            let tiers = tiers(&std::mem::take(&mut seconds).into_iter().collect::<Vec<_>>());
            let left = Duration::from_secs(left);
            let need = Need { tries_before, retry_after: retry_after.map(Duration::from_secs), left };
            match choose(&tiers, need, MIN_LIFE) {
                Some(tier) => prop_assert!(tier.delay + MIN_LIFE <= left),
                None => prop_assert!(tiers.iter().all(|tier| tier.delay + MIN_LIFE > left)),
            }
        }
    }
}
