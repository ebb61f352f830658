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
}

impl Default for Vitals {
    fn default() -> Self {
        Self {
            started: Instant::now(),
            polled: AtomicU64::new(0),
            call: AtomicU64::new(0),
            joined: AtomicBool::new(false),
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
        self.call
            .load(Ordering::Relaxed)
            .checked_sub(1)
            .map(|since| self.elapsed_since(since))
    }

    /// Whether the consumer has joined its group.
    #[must_use]
    pub fn has_joined(&self) -> bool {
        self.joined.load(Ordering::Relaxed)
    }

    pub(crate) fn polled(&self) {
        self.polled.store(self.now(), Ordering::Relaxed);
    }

    /// Whether this was the first time.
    pub(crate) fn joined(&self) -> bool {
        !self.joined.swap(true, Ordering::Relaxed)
    }

    /// Runs a call that may block, under the watchdog's eyes.
    pub(crate) fn watch<T>(&self, call: impl FnOnce() -> T) -> T {
        self.call.store(self.now() + 1, Ordering::Relaxed);
        let result = call();
        self.call.store(0, Ordering::Relaxed);
        result
    }

    fn now(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX - 1)
    }

    fn elapsed_since(&self, milliseconds: u64) -> Duration {
        Duration::from_millis(self.now().saturating_sub(milliseconds))
    }
}
