//! A map with an end to it: each entry has a moment from which on it may be forgotten, and when there
//! are too many, the one that comes first goes first. Pure: time is an argument.

use std::collections::{BTreeSet, HashMap};

use crate::clock::EpochMs;

/// At most so many entries, of so much weight together, by the hash of what they are for.
#[derive(Debug)]
pub(crate) struct Bounded<V> {
    entries: HashMap<u64, Entry<V>>,
    /// Who goes first.
    order: BTreeSet<(EpochMs, u64)>,
    bound: usize,
    /// Of all entries.
    weight: usize,
    heaviest: usize,
}

#[derive(Debug)]
struct Entry<V> {
    until: EpochMs,
    weight: usize,
    value: V,
}

impl<V> Bounded<V> {
    /// An empty map of at most `bound` entries, at least one.
    pub(crate) fn new(bound: usize) -> Self {
        Self::weighing(bound, usize::MAX)
    }

    /// The same, of at most `heaviest` together; one that is heavier is there alone.
    pub(crate) fn weighing(bound: usize, heaviest: usize) -> Self {
        Self {
            entries: HashMap::new(),
            order: BTreeSet::new(),
            bound: bound.max(1),
            weight: 0,
            heaviest,
        }
    }

    pub(crate) fn get(&self, key: u64) -> Option<&V> {
        self.entries.get(&key).map(|entry| &entry.value)
    }

    pub(crate) fn get_mut(&mut self, key: u64) -> Option<&mut V> {
        self.entries.get_mut(&key).map(|entry| &mut entry.value)
    }

    /// Puts a value in, to be kept until `until`.
    pub(crate) fn put(&mut self, key: u64, until: EpochMs, value: V) {
        self.put_weighing(key, until, value, 0);
    }

    /// The same for one that has a weight.
    pub(crate) fn put_weighing(&mut self, key: u64, until: EpochMs, value: V, weight: usize) {
        self.remove(key);
        while (self.entries.len() >= self.bound || self.weight + weight > self.heaviest)
            && let Some((_, first)) = self.order.first().copied()
        {
            self.remove(first);
        }
        self.order.insert((until, key));
        self.weight += weight;
        let entry = Entry {
            until,
            weight,
            value,
        };
        self.entries.insert(key, entry);
    }

    pub(crate) fn remove(&mut self, key: u64) -> Option<V> {
        let entry = self.entries.remove(&key)?;
        self.order.remove(&(entry.until, key));
        self.weight -= entry.weight;
        Some(entry.value)
    }

    /// Forgets what may be forgotten at `now`.
    pub(crate) fn forget_old(&mut self, now: EpochMs) {
        while let Some((until, key)) = self.order.first().copied()
            && until <= now
        {
            self.remove(key);
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
    fn what_is_heavy_makes_room_as_many_do() {
        let mut map = Bounded::weighing(10, 100);
        map.put_weighing(1, EpochMs(10), 'a', 60);
        map.put_weighing(2, EpochMs(20), 'b', 30);
        map.put_weighing(2, EpochMs(20), 'c', 40);
        map.put_weighing(3, EpochMs(30), 'd', 60);
        assert_eq!(
            (map.get(1), map.get(2), map.get(3)),
            (None, Some(&'c'), Some(&'d'))
        );
        map.put_weighing(4, EpochMs(40), 'e', 1_000);
        assert_eq!((map.get(3), map.get(4)), (None, Some(&'e')));
        map.forget_old(EpochMs(40));
        map.put_weighing(5, EpochMs(50), 'f', 100);
        assert_eq!(map.get(5), Some(&'f'));
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
