//! Partitions that are given back: what only waits is forgotten, and what was begun is finished.

use super::{Epoch, Partition, State, Ticket, take_out};

impl State {
    /// Starts giving partitions back: nothing new is taken from them, and what only waits is
    /// forgotten. The epochs whose handlers should stop waiting.
    pub fn begin_revoke(&mut self, partitions: &[Partition]) -> Vec<Epoch> {
        let mut epochs = Vec::new();
        for partition in partitions {
            if let Some(assigned) = self.assigned.get_mut(partition) {
                assigned.leaving = true;
                assigned.parked = 0;
                assigned.waiting_bytes = 0;
                epochs.push(assigned.epoch);
            }
        }
        let leaves = |ticket: &Ticket| epochs.contains(&ticket.epoch);
        let waiting = self.lanes.remove_waiting(leaves);
        waiting.iter().for_each(|ticket| self.release(ticket));
        let mut gone = self.parked.remove(leaves);
        gone.extend(take_out(&mut self.due, leaves));
        let jobs = take_out(&mut self.jobs, leaves);
        self.window.bytes -= jobs.iter().map(|ticket| ticket.bytes).sum::<usize>();
        gone.extend(jobs);
        gone.iter().for_each(|ticket| self.settle(ticket));
        epochs
    }

    /// Stops taking anything in, for good: all partitions are given back.
    pub fn stop(&mut self) -> Vec<Epoch> {
        self.stopping = true;
        let all: Vec<_> = self.assigned.keys().cloned().collect();
        self.begin_revoke(&all)
    }

    /// Whether nothing of `partitions` is being handled or waits for its commit.
    #[must_use]
    pub fn is_drained(&self, partitions: &[Partition]) -> bool {
        partitions.iter().all(|partition| {
            self.assigned
                .get(partition)
                .is_none_or(|assigned| assigned.open == 0)
        })
    }

    /// Forgets partitions. Old records skipped in them.
    pub fn end_revoke(&mut self, partitions: &[Partition]) -> u64 {
        partitions
            .iter()
            .filter_map(|partition| self.assigned.remove(partition))
            .map(|assigned| assigned.skipped)
            .sum()
    }
}
