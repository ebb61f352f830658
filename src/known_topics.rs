//! The topics of the cluster, as last seen, and those that take no records now. Strangers choose
//! tenant ids, and a central instance's topic names come from them: a topic is looked for here before
//! anything is called. And no OTP is created for an SMS that its topic would not take.

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
    refusing: watch::Sender<BTreeMap<String, Refusal>>,
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

    /// Whether the topic was away when it was last written to.
    #[must_use]
    pub fn is_away(&self, topic: &str) -> bool {
        self.0.refusing.borrow().get(topic) == Some(&Refusal::Away)
    }

    /// Waits until the topic is no longer away.
    pub async fn back(&self, topic: &str) {
        let mut refusing = self.0.refusing.subscribe();
        let back = |all: &BTreeMap<_, _>| all.get(topic) != Some(&Refusal::Away);
        // It cannot end before this handle, which holds the other side.
        let _ = refusing.wait_for(back).await;
    }

    /// Topics that take no records now, and why.
    #[must_use]
    pub fn refusing(&self) -> Vec<(String, Refusal)> {
        let all = self.0.refusing.borrow();
        all.iter()
            .map(|(topic, why)| (topic.clone(), *why))
            .collect()
    }

    /// A topic took no record; whether that is news.
    pub fn refuses(&self, topic: &str, why: Refusal) -> bool {
        self.0
            .refusing
            .send_if_modified(|all| all.insert(topic.to_owned(), why) != Some(why))
    }

    /// The topic takes records, or nothing waits for it any more; whether that is news.
    pub fn takes(&self, topic: &str) -> bool {
        self.0
            .refusing
            .send_if_modified(|all| all.remove(topic).is_some())
    }
}
