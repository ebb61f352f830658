//! How far the assigned partitions are, against their last stable offsets.

use std::collections::HashMap;

use super::{Partition, State};
use crate::clock::EpochMs;
use crate::engine::progress_watch::PartitionProgress;

impl State {
    /// Notes the last stable offsets that were read.
    pub fn note_ends(&mut self, ends: &HashMap<Partition, i64>, now: EpochMs) {
        for (partition, assigned) in &mut self.assigned {
            let next = assigned.tracker.next();
            let behind = ends.get(partition).is_some_and(|end| *end > next);
            let since = assigned.behind_since.unwrap_or(now);
            assigned.behind_since = behind.then_some(since);
        }
    }

    /// How far each partition is that is not about to be given back; `ends` are the last stable offsets where
    /// they are known.
    #[must_use]
    pub fn progress(&self, ends: &HashMap<Partition, i64>) -> Vec<PartitionProgress> {
        let staying = self.assigned.iter().filter(|(_, one)| !one.leaving);
        let progress = staying.map(|(partition, assigned)| PartitionProgress {
            partition: partition.clone(),
            epoch: assigned.epoch,
            next: assigned.tracker.next(),
            end: ends.get(partition).copied(),
            held: assigned.held,
        });
        progress.collect()
    }
}
