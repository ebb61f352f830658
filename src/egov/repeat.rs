//! Asking an unavailable service again within one try of a request: how often, and after which
//! pauses.
//!
//! The pauses are the `backoff` crate's, which nobody maintains any more, so no other file names
//! it.

use std::time::Duration;

use backoff::ExponentialBackoffBuilder;
use backoff::backoff::Backoff as _;
use backoff::exponential::ExponentialBackoff;

use crate::config;

/// How often a service is asked within one try, and how long the pauses are.
#[derive(Debug, Clone)]
pub(super) struct Repeats {
    calls: u32,
    first: Duration,
    longest: Duration,
}

/// The pauses of one try.
#[derive(Debug)]
pub(super) struct Pauses {
    left: u32,
    intervals: ExponentialBackoff<backoff::SystemClock>,
}

impl Repeats {
    pub(super) fn new(settings: &config::Services) -> Self {
        Self {
            calls: settings.tries,
            first: settings.backoff,
            longest: settings.backoff_max,
        }
    }

    pub(super) fn pauses(&self) -> Pauses {
        // Full jitter: a pause is anything from nothing to the interval, so that requests that
        // failed together do not come back together. The crate draws from its interval, less or
        // more a factor of it: half the interval and a factor of 1 make that 0 to 1 interval.
        let intervals = ExponentialBackoffBuilder::new()
            .with_initial_interval(self.first / 2)
            .with_max_interval(self.longest / 2)
            .with_multiplier(2.0)
            .with_randomization_factor(1.0)
            .with_max_elapsed_time(None)
            .build();
        Pauses {
            left: self.calls.saturating_sub(1),
            intervals,
        }
    }
}

impl Pauses {
    /// The pause before the next call; none when it was the last, or when the service asked to be
    /// left alone for longer.
    pub(super) fn next(&mut self, retry_after: Option<Duration>) -> Option<Duration> {
        self.left = self.left.checked_sub(1)?;
        let pause = self.intervals.next_backoff()?;
        retry_after
            .is_none_or(|wish| wish <= pause)
            .then_some(pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPEATS: Repeats = Repeats {
        calls: 4,
        first: Duration::from_millis(100),
        longest: Duration::from_millis(300),
    };

    #[test]
    fn a_pause_is_anything_from_nothing_to_its_interval() {
        let all: Vec<Vec<Duration>> = (0..2_000)
            .map(|_| {
                let mut pauses = REPEATS.pauses();
                std::iter::from_fn(|| pauses.next(None)).collect()
            })
            .collect();
        for (at, interval) in [100, 200, 300].into_iter().enumerate() {
            let of_this = || all.iter().map(|pauses| pauses[at].as_secs_f64() * 1_000.0);
            let mean = of_this().sum::<f64>() / 2_000.0;
            let interval = f64::from(interval);
            assert!(of_this().all(|ms| ms <= interval + 0.001));
            assert!(of_this().any(|ms| ms < interval * 0.05));
            assert!(of_this().any(|ms| ms > interval * 0.95));
            assert!((mean - interval / 2.0).abs() < interval * 0.05, "{mean} ms");
        }
    }

    #[test]
    fn the_calls_of_a_try_are_counted() {
        for calls in [1, 2, 3] {
            let mut pauses = Repeats { calls, ..REPEATS }.pauses();
            let repeats = std::iter::from_fn(|| pauses.next(None)).count();
            assert_eq!(repeats, calls as usize - 1);
        }
    }

    #[test]
    fn who_asks_to_be_left_alone_is() {
        let mut pauses = REPEATS.pauses();
        assert_eq!(pauses.next(Some(Duration::from_secs(1))), None);
        assert!(REPEATS.pauses().next(Some(Duration::ZERO)).is_some());
    }
}
