//! Asking an unavailable service again: how often within one try of a request, and after which
//! pauses; and the pauses between probes of a service that is down.
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

/// The pauses between probes: from 100 ms doubling to 1 s, with jitter, so that instances do not
/// probe in step.
#[derive(Debug)]
pub(super) struct Probes(ExponentialBackoff<backoff::SystemClock>);

impl Probes {
    const JITTER: f64 = 0.2;
    const FIRST: Duration = Duration::from_millis(125);
    const LONGEST: Duration = Duration::from_millis(833);

    pub(super) fn new() -> Self {
        Self(intervals(Self::FIRST, Self::LONGEST, Self::JITTER))
    }

    /// No pause is shorter.
    pub(super) fn shortest(&self) -> Duration {
        Self::FIRST.mul_f64(1.0 - Self::JITTER)
    }

    pub(super) fn next(&mut self) -> Duration {
        self.0.next_backoff().unwrap_or(Self::LONGEST)
    }
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
        Pauses {
            left: self.calls.saturating_sub(1),
            intervals: intervals(self.first / 2, self.longest / 2, 1.0),
        }
    }
}

/// Doubling pauses without end, each less or more a factor of it.
fn intervals(
    first: Duration,
    longest: Duration,
    jitter: f64,
) -> ExponentialBackoff<backoff::SystemClock> {
    ExponentialBackoffBuilder::new()
        .with_initial_interval(first)
        .with_max_interval(longest)
        .with_multiplier(2.0)
        .with_randomization_factor(jitter)
        .with_max_elapsed_time(None)
        .build()
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
    fn probes_are_a_tenth_of_a_second_apart_and_at_most_one() {
        for _ in 0..200 {
            let mut probes = Probes::new();
            assert_eq!(probes.shortest(), Duration::from_millis(100));
            let pauses: Vec<_> = (0..6).map(|_| probes.next().as_millis()).collect();
            assert!((100..=150).contains(&pauses[0]), "{pauses:?}");
            assert!((200..=300).contains(&pauses[1]), "{pauses:?}");
            assert!((400..=600).contains(&pauses[2]), "{pauses:?}");
            let later = pauses[3..].iter();
            assert!(
                later.clone().all(|ms| (666..=1_000).contains(ms)),
                "{pauses:?}"
            );
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
