//! What there is to say about the engine's state in numbers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// What there is to say about the state in numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Gauges {
    /// Requests in the window.
    pub window_requests: usize,
    /// Bytes in the window.
    pub window_bytes: usize,
    /// Retries that wait until they are due, or for a place after that.
    pub parked: usize,
    /// Their bytes.
    pub waiting_bytes: usize,
    /// Partitions that are consumed.
    pub partitions: usize,
    /// Partitions that wait at a batch which cannot be decoded.
    pub unreadable: usize,
    /// Old records passed over since the start.
    pub skipped: u64,
    /// By topic.
    pub lag: BTreeMap<Arc<str>, Lag>,
}

/// What is not finished of a topic's partitions that are ours.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lag {
    /// Records, where they lie ahead offsets.
    pub records: u64,
    /// The age of the oldest by its record time; zero where it is not known.
    pub age: Duration,
}
