//! Records that were delivered and not taken in: the consumer reads them again.

use super::{Partition, State};

impl State {
    /// Notes that a record was delivered, and is to be read again.
    pub fn refuse(&mut self, partition: &Partition, offset: i64) {
        if let Some(assigned) = self.assigned.get_mut(partition) {
            assigned.tracker.refuse(offset);
        }
    }

    /// The records that were not taken in: the consumer's position is to be set back to each.
    #[must_use]
    pub fn refused(&self) -> Vec<(Partition, i64)> {
        let staying = self.assigned.iter().filter(|(_, one)| !one.leaving);
        staying
            .filter_map(|(partition, one)| {
                let refused = one.tracker.refused()?;
                Some((partition.clone(), refused))
            })
            .collect()
    }

    /// Notes that the consumer's position is at what was refused, or before it.
    pub fn set_back(&mut self, partition: &Partition) {
        if let Some(assigned) = self.assigned.get_mut(partition) {
            assigned.tracker.set_back();
        }
    }

    /// Notes that the consumer reads `partition` again from its next offset, and is not paused.
    pub fn assigned_again(&mut self, partition: &Partition) {
        if let Some(assigned) = self.assigned.get_mut(partition) {
            assigned.tracker.set_back();
            assigned.held = false;
        }
    }

    /// Whether a record of `partition` was delivered in this assignment.
    #[must_use]
    pub fn was_read(&self, partition: &Partition) -> bool {
        let assigned = self.assigned.get(partition);
        assigned.is_some_and(|assigned| assigned.tracker.was_read())
    }
}
