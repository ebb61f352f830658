//! Whether the same person was in the file before.

use std::collections::HashSet;
use std::hash::{BuildHasher as _, RandomState};

use super::RowRequest;

/// The persons of a file, by a keyed hash of 64 bits each: 19 MB for a million, and no number in memory.
///
/// That one of a million rows is taken for a duplicate and is none has odds of 1 : 37,000,000
/// (n² / 2⁶⁵). The key is another one in every process, so a job that goes on reads the rows that are
/// done once more.
#[derive(Default)]
pub struct Duplicates {
    key: RandomState,
    seen: HashSet<u64>,
}

impl Duplicates {
    /// Nobody was seen.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether a request of this tenant, these digits and this type was seen before. It is seen now.
    pub fn seen_before(&mut self, row: &RowRequest) -> bool {
        let request = row.request();
        let digits = request.mobile.digits();
        let person = (request.tenant.as_str(), digits.as_str(), request.kind);
        !self.seen.insert(self.key.hash_one(person))
    }
}
