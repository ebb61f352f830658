//! Signs of life, for health and for the watchdog.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// When the poll loop last turned, and since when a producer call has been under way.
#[derive(Debug)]
pub struct Vitals {
    started: Instant,
    /// Milliseconds after `started`.
    polled: AtomicU64,
    /// Milliseconds after `started`, plus one; 0 while no call is under way.
    call: AtomicU64,
    joined: AtomicBool,
    /// Since when there has been something to commit that is not committed; coded as `call`.
    unconfirmed: AtomicU64,
    /// Since when every transaction has gone through; coded as `call`.
    committing: AtomicU64,
    /// When the last one did; coded as `call`.
    committed: AtomicU64,
}

impl Default for Vitals {
    fn default() -> Self {
        Self {
            started: Instant::now(),
            polled: AtomicU64::new(0),
            call: AtomicU64::new(0),
            joined: AtomicBool::new(false),
            unconfirmed: AtomicU64::new(0),
            committing: AtomicU64::new(0),
            committed: AtomicU64::new(0),
        }
    }
}

impl Vitals {
    /// How long ago the poll loop last turned.
    #[must_use]
    pub fn since_poll(&self) -> Duration {
        self.elapsed_since(self.polled.load(Ordering::Relaxed))
    }

    /// How long the producer call under way has been waiting, if there is one.
    #[must_use]
    pub fn call_age(&self) -> Option<Duration> {
        self.age(&self.call)
    }

    /// For how long there has been something to commit that Kafka did not confirm, over all attempts.
    #[must_use]
    pub fn unconfirmed_for(&self) -> Option<Duration> {
        self.age(&self.unconfirmed)
    }

    /// For how long transactions have been going through, without one that did not.
    #[must_use]
    pub fn committing_for(&self) -> Option<Duration> {
        self.age(&self.committing)
    }

    /// How long ago the last transaction went through.
    #[must_use]
    pub fn since_commit(&self) -> Option<Duration> {
        self.age(&self.committed)
    }

    /// Whether the consumer is in its group.
    #[must_use]
    pub fn has_joined(&self) -> bool {
        self.joined.load(Ordering::Relaxed)
    }

    pub(crate) fn polled(&self) {
        self.polled.store(self.now(), Ordering::Relaxed);
    }

    /// Whether it was not in it before.
    pub(crate) fn joined(&self) -> bool {
        !self.joined.swap(true, Ordering::Relaxed)
    }

    /// The group goes on without us, until the consumer joins again.
    pub(crate) fn left(&self) {
        self.joined.store(false, Ordering::Relaxed);
    }

    /// Runs a call that may block, under the watchdog's eyes.
    pub(crate) fn watch<T>(&self, call: impl FnOnce() -> T) -> T {
        self.call.store(self.now() + 1, Ordering::Relaxed);
        let result = call();
        self.call.store(0, Ordering::Relaxed);
        result
    }

    /// There is something to commit.
    pub(crate) fn to_commit(&self) {
        self.begin(&self.unconfirmed);
    }

    /// There is nothing to commit any more.
    pub(crate) fn nothing_to_commit(&self) {
        self.unconfirmed.store(0, Ordering::Relaxed);
    }

    /// A transaction went through.
    pub(crate) fn committed(&self) {
        self.nothing_to_commit();
        self.committed.store(self.now() + 1, Ordering::Relaxed);
        self.begin(&self.committing);
    }

    /// A transaction did not go through.
    pub(crate) fn not_committed(&self) {
        self.committing.store(0, Ordering::Relaxed);
    }

    /// Sets what is not set.
    fn begin(&self, since: &AtomicU64) {
        let now = self.now() + 1;
        let _ = since.compare_exchange(0, now, Ordering::Relaxed, Ordering::Relaxed);
    }

    fn age(&self, since: &AtomicU64) -> Option<Duration> {
        let since = since.load(Ordering::Relaxed).checked_sub(1)?;
        Some(self.elapsed_since(since))
    }

    fn now(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX - 1)
    }

    fn elapsed_since(&self, milliseconds: u64) -> Duration {
        Duration::from_millis(self.now().saturating_sub(milliseconds))
    }
}
