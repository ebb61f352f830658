//! Results that a topic does not take now. They keep their places in the window, so that intake holds
//! back when there are many, and everything else goes on. One of a topic's is tried again, after pauses
//! that double: when it is taken, all are.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::known_topics::Refusal;

/// Before the first look whether a topic takes records again ...
const FIRST: Duration = Duration::from_millis(50);

/// ... and at most between two: what waits is written this long after the topic is back.
const LONGEST: Duration = Duration::from_secs(1);

/// Pauses that double.
#[derive(Debug, Default)]
struct Pauses(u32);

impl Pauses {
    fn next(&mut self) -> Duration {
        let pause = FIRST.saturating_mul(1 << self.0.min(8)).min(LONGEST);
        self.0 += 1;
        pause
    }
}

/// What waits, by the topic that it waits for.
#[derive(Debug)]
pub(crate) struct Aside<T>(BTreeMap<String, Waiting<T>>);

#[derive(Debug)]
struct Waiting<T> {
    why: Refusal,
    /// By arrival: the oldest is tried first. What arrived as one may have come apart.
    items: BTreeMap<(u64, u64), T>,
    held: u64,
    pauses: Pauses,
    next: Instant,
}

impl<T> Default for Aside<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<T> Aside<T> {
    /// Notes that `topic` takes nothing, or not all; whether that is news.
    pub(crate) fn note(&mut self, topic: &str, why: Refusal, now: Instant) -> bool {
        if let Some(waiting) = self.0.get_mut(topic) {
            return std::mem::replace(&mut waiting.why, why) != why;
        }
        let mut pauses = Pauses::default();
        let next = now + pauses.next();
        let waiting = Waiting {
            why,
            items: BTreeMap::new(),
            held: 0,
            pauses,
            next,
        };
        self.0.insert(topic.to_owned(), waiting);
        true
    }

    /// The topic that is away, of those that `writes_to` says.
    pub(crate) fn away(&self, writes_to: impl Fn(&str) -> bool) -> Option<String> {
        let mut away = self.0.iter().filter(|(_, one)| one.why == Refusal::Away);
        let (topic, _) = away.find(|(topic, _)| writes_to(topic))?;
        Some(topic.clone())
    }

    /// Whether it is, of those that were noted.
    pub(crate) fn is_away(&self, topic: &str) -> bool {
        let noted = self.0.get(topic);
        noted.is_some_and(|waiting| waiting.why == Refusal::Away)
    }

    /// Puts the `arrival`-th aside until `topic`, which was noted, is tried again.
    pub(crate) fn hold(&mut self, topic: &str, arrival: u64, item: T) -> Result<(), T> {
        let Some(waiting) = self.0.get_mut(topic) else {
            return Err(item);
        };
        waiting.held += 1;
        waiting.items.insert((arrival, waiting.held), item);
        Ok(())
    }

    /// When the next one is to be tried.
    pub(crate) fn next_try(&self) -> Option<Instant> {
        self.0.values().map(|waiting| waiting.next).min()
    }

    /// The oldest that waits for a topic whose time has come, and that topic.
    pub(crate) fn take_due(&mut self, now: Instant) -> Option<(String, T)> {
        let (topic, waiting) = self.0.iter_mut().find(|(_, one)| one.next <= now)?;
        waiting.next = now + waiting.pauses.next();
        let (_, item) = waiting.items.pop_first()?;
        Some((topic.clone(), item))
    }

    /// A topic takes records again: all that waited for it.
    pub(crate) fn release(&mut self, topic: &str) -> Vec<T> {
        let waiting = self.0.remove(topic);
        waiting.map_or_else(Vec::new, |one| one.items.into_values().collect())
    }

    /// Takes out what `wanted` says.
    pub(crate) fn take(&mut self, mut wanted: impl FnMut(&T) -> bool) -> Vec<T> {
        let mut taken = Vec::new();
        for waiting in self.0.values_mut() {
            let items = waiting.items.extract_if(.., |_, item| wanted(item));
            taken.extend(items.map(|(_, item)| item));
        }
        taken
    }

    /// Forgets the topics that nothing waits for any more.
    pub(crate) fn forget_empty(&mut self) -> Vec<String> {
        let empty = self.0.extract_if(.., |_, one| one.items.is_empty());
        empty.map(|(topic, _)| topic).collect()
    }

    /// The topics that something waits for, or did a moment ago.
    pub(crate) fn topics(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AWAY: Refusal = Refusal::Away;

    fn seconds(since: Instant, all: &mut Aside<char>) -> Vec<(u64, char)> {
        let mut tried = Vec::new();
        for ms in 0..4_000 {
            while let Some((_, item)) = all.take_due(since + Duration::from_millis(ms)) {
                tried.push((ms, item));
                all.hold("sms", 1, item).expect("it is noted");
            }
        }
        tried
    }

    #[test]
    fn a_topic_that_is_away_is_tried_after_pauses_that_double_to_a_second() {
        let start = Instant::now();
        let mut all = Aside::default();
        all.note("sms", AWAY, start);
        all.hold("sms", 1, 'a').expect("it is noted");
        all.hold("sms", 2, 'b').expect("it is noted");
        let tried = seconds(start, &mut all);
        let at: Vec<_> = tried.iter().map(|(ms, _)| *ms).collect();
        assert_eq!(at, [50, 150, 350, 750, 1_550, 2_550, 3_550]);
        assert!(tried.iter().all(|(_, item)| *item == 'a'), "the oldest");
    }

    #[test]
    fn what_waited_comes_back_in_the_order_it_came() {
        let start = Instant::now();
        let mut all = Aside::default();
        all.note("sms", AWAY, start);
        all.note("sms", AWAY, start);
        for (arrival, item) in [(3, 'c'), (1, 'a'), (2, 'b')] {
            all.hold("sms", arrival, item).expect("it is noted");
        }
        assert_eq!(all.hold("outcomes", 4, 'd'), Err('d'));
        assert_eq!(all.release("sms"), ['a', 'b', 'c']);
        assert_eq!(all.next_try(), None);
    }

    #[test]
    fn only_what_is_away_holds_back_all_that_is_for_it() {
        let start = Instant::now();
        let mut all: Aside<char> = Aside::default();
        all.note("dead", Refusal::TooSmall, start);
        assert_eq!(all.away(|topic| topic == "dead"), None);
        all.note("sms", AWAY, start);
        assert_eq!(all.away(|topic| topic == "sms").as_deref(), Some("sms"));
        assert_eq!(all.away(|topic| topic == "dead"), None);
    }

    #[test]
    fn what_is_taken_out_leaves_its_topic_until_that_is_empty() {
        let start = Instant::now();
        let mut all = Aside::default();
        all.note("sms", AWAY, start);
        all.hold("sms", 1, 'a').expect("it is noted");
        all.hold("sms", 2, 'b').expect("it is noted");
        assert_eq!(all.take(|item| *item == 'b'), ['b']);
        assert!(all.forget_empty().is_empty());
        assert_eq!(all.take(|_| true), ['a']);
        assert_eq!(all.forget_empty(), ["sms"]);
        assert!(all.topics().is_empty());
    }
}
