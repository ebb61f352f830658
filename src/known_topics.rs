//! The topics of the cluster, as last seen, and those that take no records now. Strangers choose
//! tenant ids, and a central instance's topic names come from them: a topic is looked for here before
//! anything is called. And no OTP is created for an SMS that its topic would not take.
//!
//! ```text
//!             a result is put aside         all of them have their end
//!   open ───────────────────────────▶ away ───────────────────────────▶ untried
//!    ▲                                 ▲ ▲                               │   ▲
//!    │      one of them is taken       │ │ the request's result          │   │ the request ends
//!    ├─────────────────────────────────┘ │ is put aside    one request   │   │ otherwise
//!    │                                   │                 goes on       ▼   │
//!    │      the request's result is taken└────────────────────────────  probed
//!    └────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! While a topic is away, requests for it wait. With nothing left to try with, one of them goes on.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use parking_lot::RwLock;
use tokio::sync::watch;

/// Why a topic takes no records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// It is missing, or we may not write to it.
    Away,
    /// It takes less than the smallest record that there is to write.
    TooSmall,
}

/// A cheap handle to both lists; whoever asks the cluster replaces the first, and whoever writes keeps
/// the second.
#[derive(Debug, Clone, Default)]
pub struct KnownTopics(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    names: RwLock<HashSet<String>>,
    refusing: watch::Sender<BTreeMap<String, Refusing>>,
}

#[derive(Debug, Clone, Copy)]
struct Refusing {
    why: Refusal,
    tried_by: TriedBy,
}

/// Who finds out whether a topic takes records again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TriedBy {
    /// One of the results that wait for it.
    Results,
    /// One request.
    Probe,
    /// The next request that needs it.
    Nobody,
}

/// Whether a request may go on whose SMS goes to a topic.
#[derive(Debug)]
pub enum Gate {
    /// Nothing is known against it.
    Open,
    /// It finds out for all others; they wait until it is `taken`, or dropped.
    Probe(Box<Probe>),
    /// The topic is away, and somebody finds out already.
    Closed,
}

/// Held by the one request that finds out whether a topic takes records again. Dropped without that, it
/// makes another the next.
#[derive(Debug)]
pub struct Probe {
    topics: KnownTopics,
    topic: String,
}

impl KnownTopics {
    /// Whether the topic was there when last looked, ten seconds ago at most.
    #[must_use]
    pub fn contains(&self, topic: &str) -> bool {
        self.0.names.read().contains(topic)
    }

    /// Replaces the list.
    pub fn set(&self, topics: impl IntoIterator<Item = String>) {
        *self.0.names.write() = topics.into_iter().collect();
    }

    /// Whether the topic was away when it was last written to: the gate says who may go on.
    #[must_use]
    pub fn is_away(&self, topic: &str) -> bool {
        let refusing = self.0.refusing.borrow();
        let one = refusing.get(topic);
        one.is_some_and(|one| one.why == Refusal::Away)
    }

    /// Whether a request for this topic may go on.
    #[must_use]
    pub fn gate(&self, topic: &str) -> Gate {
        let tried_by = match self.0.refusing.borrow().get(topic) {
            Some(one) if one.why == Refusal::Away => one.tried_by,
            Some(_) | None => return Gate::Open,
        };
        if tried_by == TriedBy::Nobody && self.turns(topic, TriedBy::Nobody, TriedBy::Probe) {
            return Gate::Probe(Box::new(Probe {
                topics: self.clone(),
                topic: topic.to_owned(),
            }));
        }
        Gate::Closed
    }

    /// Waits until a request for this topic may go on: with a probe, where it is to find out.
    pub async fn back(&self, topic: &str) -> Option<Box<Probe>> {
        let mut refusing = self.0.refusing.subscribe();
        loop {
            match self.gate(topic) {
                Gate::Open => return None,
                Gate::Probe(probe) => return Some(probe),
                // It cannot end before this handle, which holds the other side.
                Gate::Closed => drop(refusing.changed().await),
            }
        }
    }

    /// Topics that take no records now, and why. Of one that nobody tries nothing is known.
    #[must_use]
    pub fn refusing(&self) -> Vec<(String, Refusal)> {
        let all = self.0.refusing.borrow();
        all.iter()
            .filter(|(_, one)| one.tried_by != TriedBy::Nobody)
            .map(|(topic, one)| (topic.clone(), one.why))
            .collect()
    }

    /// A topic took no record, and what was for it waits to be tried again; whether that is news.
    pub fn refuses(&self, topic: &str, why: Refusal) -> bool {
        let refusing = Refusing {
            why,
            tried_by: TriedBy::Results,
        };
        self.0.refusing.send_if_modified(|all| {
            let before = all.insert(topic.to_owned(), refusing);
            before.is_none_or(|before| before.why != why)
        })
    }

    /// The topic takes records, or nobody asks any more; whether that is news.
    pub fn takes(&self, topic: &str) -> bool {
        self.0
            .refusing
            .send_if_modified(|all| all.remove(topic).is_some())
    }

    /// No result waits for an SMS topic any more: one request is to find out about it.
    pub fn is_untried(&self, topic: &str) {
        self.turns(topic, TriedBy::Results, TriedBy::Nobody);
    }

    /// Whether the topic was tried by `from`, and so is tried by `to` now.
    fn turns(&self, topic: &str, from: TriedBy, to: TriedBy) -> bool {
        let mut turned = false;
        self.0.refusing.send_if_modified(|all| {
            let one = all.get_mut(topic).filter(|one| one.tried_by == from);
            turned = one.map(|one| one.tried_by = to).is_some();
            // Only then may one of those who wait go on.
            turned && to == TriedBy::Nobody
        });
        turned
    }
}

impl Probe {
    /// The topic took its record.
    pub fn taken(&self) {
        if self.topics.takes(&self.topic) {
            tracing::info!(topic = self.topic, "the topic takes records again");
        }
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.topics
            .turns(&self.topic, TriedBy::Probe, TriedBy::Nobody);
    }
}

#[cfg(test)]
mod tests {
    use std::pin::{Pin, pin};
    use std::task::{Context, Poll, Waker};

    use super::*;

    fn away() -> KnownTopics {
        let topics = KnownTopics::default();
        assert!(topics.refuses("sms", Refusal::Away), "it is news");
        topics
    }

    fn poll<F: Future>(future: &mut Pin<impl std::ops::DerefMut<Target = F>>) -> Poll<F::Output> {
        let mut context = Context::from_waker(Waker::noop());
        future.as_mut().poll(&mut context)
    }

    #[track_caller]
    fn probe(topics: &KnownTopics) -> Box<Probe> {
        match topics.gate("sms") {
            Gate::Probe(probe) => probe,
            other @ (Gate::Open | Gate::Closed) => panic!("{other:?}"),
        }
    }

    #[test]
    fn all_go_on_when_the_topic_takes_records_again() {
        let topics = away();
        let (mut one, mut other) = (pin!(topics.back("sms")), pin!(topics.back("sms")));
        assert!(poll(&mut one).is_pending() && poll(&mut other).is_pending());
        assert!(matches!(topics.gate("email"), Gate::Open));
        assert!(topics.takes("sms"));
        for waits in [&mut one, &mut other] {
            assert!(matches!(poll(waits), Poll::Ready(None)));
        }
        assert!(matches!(topics.gate("sms"), Gate::Open));
    }

    #[test]
    fn with_nothing_left_to_try_with_one_goes_on_and_finds_out_for_all() {
        let topics = away();
        let (mut one, mut other) = (pin!(topics.back("sms")), pin!(topics.back("sms")));
        assert!(poll(&mut one).is_pending() && poll(&mut other).is_pending());
        topics.is_untried("sms");
        let Poll::Ready(Some(probe)) = poll(&mut one) else {
            panic!("one finds out");
        };
        assert!(poll(&mut other).is_pending(), "the other waits for it");
        assert!(matches!(topics.gate("sms"), Gate::Closed));
        assert_eq!(topics.refusing(), [("sms".to_owned(), Refusal::Away)]);
        probe.taken();
        assert!(matches!(poll(&mut other), Poll::Ready(None)));
        drop(probe);
        assert!(matches!(topics.gate("sms"), Gate::Open));
    }

    #[test]
    fn a_request_that_ends_otherwise_makes_another_the_one_that_finds_out() {
        let topics = away();
        topics.is_untried("sms");
        let first = probe(&topics);
        let mut next = pin!(topics.back("sms"));
        assert!(poll(&mut next).is_pending());
        drop(first);
        assert!(matches!(poll(&mut next), Poll::Ready(Some(_))));
        // That one is dropped as well, while nobody waits: the next to come finds out.
        assert_eq!(topics.refusing(), [], "nothing is known");
        drop(probe(&topics));
        assert!(matches!(topics.gate("sms"), Gate::Probe(_)));
    }

    #[test]
    fn what_is_put_aside_is_tried_again_before_anybody_else_goes_on() {
        let topics = away();
        topics.is_untried("sms");
        let first = probe(&topics);
        assert!(!topics.refuses("sms", Refusal::Away), "it is no news");
        drop(first);
        assert!(matches!(topics.gate("sms"), Gate::Closed));
        topics.is_untried("sms");
        drop(probe(&topics));
    }

    #[test]
    fn a_topic_that_takes_too_little_holds_nobody_back() {
        let topics = KnownTopics::default();
        topics.refuses("dead", Refusal::TooSmall);
        assert!(matches!(topics.gate("dead"), Gate::Open));
        assert_eq!(topics.refusing(), [("dead".to_owned(), Refusal::TooSmall)]);
    }
}
