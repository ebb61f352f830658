//! A map with an end to it: each entry has a moment from which on it may be forgotten, and when there
//! are too many, the one that comes first goes first. Pure: time is an argument.

use std::collections::{BTreeSet, HashMap};

use crate::clock::EpochMs;

/// At most so many entries, by the hash of what they are for.
#[derive(Debug)]
pub(crate) struct Bounded<V> {
    entries: HashMap<u64, (EpochMs, V)>,
    /// Who goes first.
    order: BTreeSet<(EpochMs, u64)>,
    bound: usize,
}

impl<V> Bounded<V> {
    /// An empty map of at most `bound` entries, at least one.
    pub(crate) fn new(bound: usize) -> Self {
        Self {
            entries: HashMap::new(),
            order: BTreeSet::new(),
            bound: bound.max(1),
        }
    }

    pub(crate) fn get(&self, key: u64) -> Option<&V> {
        self.entries.get(&key).map(|(_, value)| value)
    }

    pub(crate) fn get_mut(&mut self, key: u64) -> Option<&mut V> {
        self.entries.get_mut(&key).map(|(_, value)| value)
    }

    /// Puts a value in, to be kept until `until`.
    pub(crate) fn put(&mut self, key: u64, until: EpochMs, value: V) {
        self.remove(key);
        if self.entries.len() >= self.bound
            && let Some((_, first)) = self.order.pop_first()
        {
            self.entries.remove(&first);
        }
        self.order.insert((until, key));
        self.entries.insert(key, (until, value));
    }

    pub(crate) fn remove(&mut self, key: u64) -> Option<V> {
        let (until, value) = self.entries.remove(&key)?;
        self.order.remove(&(until, key));
        Some(value)
    }

    /// Forgets what may be forgotten at `now`.
    pub(crate) fn forget_old(&mut self, now: EpochMs) {
        while let Some((until, key)) = self.order.first().copied()
            && until <= now
        {
            self.order.pop_first();
            self.entries.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_would_be_forgotten_first_makes_room() {
        let mut map = Bounded::new(2);
        map.put(1, EpochMs(30), 'a');
        map.put(2, EpochMs(10), 'b');
        map.put(3, EpochMs(20), 'c');
        assert_eq!(
            (map.get(1), map.get(2), map.get(3)),
            (Some(&'a'), None, Some(&'c'))
        );
        map.forget_old(EpochMs(20));
        assert_eq!((map.get(1), map.get(3)), (Some(&'a'), None));
    }

    #[test]
    fn an_entry_put_again_counts_once() {
        let mut map = Bounded::new(2);
        map.put(1, EpochMs(10), 'a');
        map.put(1, EpochMs(30), 'b');
        map.put(2, EpochMs(20), 'c');
        map.forget_old(EpochMs(10));
        assert_eq!((map.get(1), map.get(2)), (Some(&'b'), Some(&'c')));
        assert_eq!((map.remove(1), map.remove(1)), (Some('b'), None));
    }
}
