//! The topics of the cluster, as last seen. Strangers choose tenant ids, and a central
//! instance's topic names come from them: a topic is looked for here before anything is called.

use std::collections::HashSet;
use std::sync::Arc;

use parking_lot::RwLock;

/// A cheap handle to the list; whoever asks the cluster replaces it.
#[derive(Debug, Clone, Default)]
pub struct KnownTopics(Arc<RwLock<HashSet<String>>>);

impl KnownTopics {
    /// Whether the topic was there when last looked, ten seconds ago at most.
    #[must_use]
    pub fn contains(&self, topic: &str) -> bool {
        self.0.read().contains(topic)
    }

    /// Replaces the list.
    pub fn set(&self, topics: impl IntoIterator<Item = String>) {
        *self.0.write() = topics.into_iter().collect();
    }
}
