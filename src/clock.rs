//! The one place that asks the system for the time, so that tests can set it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A moment in epoch milliseconds, as Kafka's record times and DIGIT's `expiryTime` have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EpochMs(pub i64);

impl EpochMs {
    /// This moment plus `duration`; saturates.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(as_ms(duration)))
    }

    /// This moment less `duration`; saturates.
    #[must_use]
    pub fn minus(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(as_ms(duration)))
    }

    /// How long from `now` until this moment; zero when it has passed.
    #[must_use]
    pub fn left(self, now: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(now.0)).unwrap_or(0))
    }

    /// How long ago this moment was at `now`; zero when it is still to come.
    #[must_use]
    pub fn age(self, now: Self) -> Duration {
        now.left(self)
    }
}

/// A moment by a clock that only goes forward: the time since some start. Waiting in this process goes by it,
/// so that a step of the wall clock prolongs no wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Uptime(pub Duration);

impl Uptime {
    /// This moment plus `duration`; saturates.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(duration))
    }

    /// How long from `now` until this moment; zero when it has passed.
    #[must_use]
    pub fn left(self, now: Self) -> Duration {
        self.0.saturating_sub(now.0)
    }

    /// How long ago this moment was at `now`; zero when it is still to come.
    #[must_use]
    pub fn age(self, now: Self) -> Duration {
        now.left(self)
    }
}

fn as_ms(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// A cheap handle to the time: the system's, or one that a test moves by hand.
#[derive(Debug, Clone)]
pub struct Clock(Source);

#[derive(Debug, Clone)]
enum Source {
    System { started: Instant },
    Fixed(Arc<AtomicI64>),
}

impl Clock {
    /// The system's clocks; its uptime counts from now.
    #[must_use]
    pub fn system() -> Self {
        Self(Source::System {
            started: Instant::now(),
        })
    }

    /// A clock that stands at `at` until [`Clock::set`] moves it.
    #[must_use]
    pub fn fixed(at: EpochMs) -> Self {
        Self(Source::Fixed(Arc::new(AtomicI64::new(at.0))))
    }

    /// Moves a fixed clock; a system clock stays as it is.
    pub fn set(&self, at: EpochMs) {
        if let Source::Fixed(fixed) = &self.0 {
            fixed.store(at.0, Ordering::SeqCst);
        }
    }

    /// Now, in epoch milliseconds.
    #[must_use]
    pub fn now(&self) -> EpochMs {
        match &self.0 {
            Source::Fixed(fixed) => EpochMs(fixed.load(Ordering::SeqCst)),
            Source::System { .. } => {
                #[expect(clippy::disallowed_methods, reason = "this is the clock")]
                let since = SystemTime::now().duration_since(UNIX_EPOCH);
                EpochMs(since.map_or(0, as_ms))
            }
        }
    }
    /// The same moment by the clock that only goes forward; a fixed clock moves both.
    #[must_use]
    pub fn uptime(&self) -> Uptime {
        Uptime(match &self.0 {
            Source::Fixed(_) => self.now().left(EpochMs(0)),
            Source::System { started } => started.elapsed(),
        })
    }
}
