//! One queue per person: who may start now.
//!
//! The head of a lane is being handled; the others wait for it, so that one person's requests
//! are handled in order, and different people never wait for each other.

use std::collections::{HashMap, VecDeque};

/// A person's lane: a hash, so that neither a number nor its length is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LaneId(pub u64);

/// What became of an offered item.
#[derive(Debug, PartialEq, Eq)]
pub enum Offer<T> {
    /// Nobody is ahead: start it now.
    Start(T),
    /// It waits for those ahead.
    Waits,
    /// The lane is full; here it is back.
    Full(T),
}

/// All lanes; one that is empty takes no memory.
#[derive(Debug)]
pub struct Lanes<T> {
    /// Waiting items by lane; an entry exists while its head is being handled.
    lanes: HashMap<LaneId, VecDeque<T>>,
    /// The head included.
    capacity: usize,
}

impl<T> Lanes<T> {
    /// Lanes that hold at most `capacity` items each, the one being handled included.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self {
            lanes: HashMap::new(),
            capacity,
        }
    }

    /// Puts an item at the end of its lane.
    pub fn offer(&mut self, lane: LaneId, item: T) -> Offer<T> {
        match self.lanes.get_mut(&lane) {
            None => {
                self.lanes.insert(lane, VecDeque::new());
                Offer::Start(item)
            }
            Some(waiting) if waiting.len() + 1 >= self.capacity => Offer::Full(item),
            Some(waiting) => {
                waiting.push_back(item);
                Offer::Waits
            }
        }
    }

    /// The head is done; the next one, which is to be started now.
    pub fn finish(&mut self, lane: LaneId) -> Option<T> {
        let next = self.lanes.get_mut(&lane)?.pop_front();
        if next.is_none() {
            self.lanes.remove(&lane);
        }
        next
    }

    /// Takes out what waits directly behind the head, up to the first that does not `join` it.
    pub fn take_behind(&mut self, lane: LaneId, join: impl Fn(&T) -> bool) -> Vec<T> {
        let Some(waiting) = self.lanes.get_mut(&lane) else {
            return Vec::new();
        };
        let count = waiting.iter().take_while(|item| join(item)).count();
        waiting.drain(..count).collect()
    }

    /// Takes out everything that waits and that `gone` names; heads stay until they finish.
    pub fn remove_waiting(&mut self, mut gone: impl FnMut(&T) -> bool) -> Vec<T> {
        let mut removed = Vec::new();
        for waiting in self
            .lanes
            .values_mut()
            .filter(|waiting| !waiting.is_empty())
        {
            let (out, keep) = std::mem::take(waiting)
                .into_iter()
                .partition::<VecDeque<_>, _>(&mut gone);
            *waiting = keep;
            removed.extend(out);
        }
        removed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn one_person_waits_for_nobody_else() {
        let mut lanes = Lanes::new(3);
        assert_eq!(lanes.offer(LaneId(1), 'a'), Offer::Start('a'));
        assert_eq!(lanes.offer(LaneId(2), 'b'), Offer::Start('b'));
        assert_eq!(lanes.offer(LaneId(1), 'c'), Offer::Waits);
        assert_eq!(lanes.offer(LaneId(1), 'd'), Offer::Waits);
        assert_eq!(lanes.offer(LaneId(1), 'e'), Offer::Full('e'));
        assert_eq!(lanes.finish(LaneId(1)), Some('c'));
        assert_eq!(lanes.offer(LaneId(1), 'f'), Offer::Waits);
        assert_eq!(lanes.finish(LaneId(1)), Some('d'));
        assert_eq!(lanes.finish(LaneId(1)), Some('f'));
        assert_eq!(lanes.finish(LaneId(1)), None);
        assert_eq!(lanes.offer(LaneId(1), 'g'), Offer::Start('g'));
    }

    #[test]
    fn a_lost_partition_takes_only_its_own_with_it() {
        let mut lanes = Lanes::new(9);
        let _ = lanes.offer(LaneId(1), ('p', 1));
        let _ = lanes.offer(LaneId(1), ('q', 2));
        let _ = lanes.offer(LaneId(1), ('p', 3));
        assert_eq!(lanes.remove_waiting(|item| item.0 == 'q'), [('q', 2)]);
        assert_eq!(lanes.finish(LaneId(1)), Some(('p', 3)));
    }

    #[test]
    fn what_joins_the_head_is_taken_up_to_the_first_that_does_not() {
        let mut lanes = Lanes::new(9);
        for item in 0..5 {
            let _ = lanes.offer(LaneId(1), item);
        }
        assert_eq!(lanes.take_behind(LaneId(1), |item| *item != 3), [1, 2]);
        assert!(lanes.take_behind(LaneId(1), |item| *item != 3).is_empty());
        assert!(lanes.take_behind(LaneId(2), |_| true).is_empty());
        assert_eq!(lanes.finish(LaneId(1)), Some(3));
    }

    proptest! {
        /// Whatever is offered and finished, a lane's items start in the order they came, one at a time.
        #[test]
        fn a_lane_keeps_its_order(steps in proptest::collection::vec((0..3_u64, any::<bool>()), 0..200)) {
            let mut lanes = Lanes::new(4);
            let mut started: HashMap<u64, Vec<usize>> = HashMap::new();
            let mut running: HashMap<u64, bool> = HashMap::new();
            for (index, (lane, finish)) in steps.into_iter().enumerate() {
                if finish && running.get(&lane) == Some(&true) {
                    let next = lanes.finish(LaneId(lane));
                    running.insert(lane, next.is_some());
                    started.entry(lane).or_default().extend(next);
                } else if let Offer::Start(item) = lanes.offer(LaneId(lane), index) {
                    prop_assert_ne!(running.insert(lane, true), Some(true), "two at once");
                    started.entry(lane).or_default().push(item);
                }
            }
            for order in started.values() {
                prop_assert!(order.is_sorted());
            }
        }
    }
}
