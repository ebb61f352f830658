//! What a stand-in does with a call: how long it takes, and what goes wrong.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::mix;

/// A stand-in's script. The default answers at once and without fault.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Behaviour {
    /// How long each answer takes, in milliseconds.
    pub delay_ms: u64,
    /// Up to this much longer, at random.
    pub jitter_ms: u64,
    /// What goes wrong, if anything.
    pub fault: Option<Fault>,
    /// How often it goes wrong, from 0 to 1; none: always.
    pub probability: Option<f64>,
    /// Calls that are well before the first fault.
    pub skip: usize,
    /// Faults before it is well again; none: no end.
    pub times: Option<usize>,
    /// When it is well again, in milliseconds from when the script was set.
    pub heals_after_ms: Option<u64>,
}

impl Behaviour {
    /// Answers at once.
    #[must_use]
    pub fn well() -> Self {
        Self::default()
    }

    /// Every answer takes this long.
    #[must_use]
    pub fn slow(delay: Duration) -> Self {
        Self::default().delayed(delay)
    }

    /// Every call goes wrong in this way.
    #[must_use]
    pub fn failing(fault: Fault) -> Self {
        Self {
            fault: Some(fault),
            ..Self::default()
        }
    }

    /// The same, answering after `delay`.
    #[must_use]
    pub fn delayed(mut self, delay: Duration) -> Self {
        self.delay_ms = as_ms(delay);
        self
    }

    /// The same, with up to `jitter` more delay.
    #[must_use]
    pub fn jittered(mut self, jitter: Duration) -> Self {
        self.jitter_ms = as_ms(jitter);
        self
    }

    /// The same fault, but only for so many calls.
    #[must_use]
    pub fn times(mut self, calls: usize) -> Self {
        self.times = Some(calls);
        self
    }

    /// The same fault, but after so many good calls.
    #[must_use]
    pub fn after(mut self, calls: usize) -> Self {
        self.skip = calls;
        self
    }

    /// The same fault, but only this often (0 to 1).
    #[must_use]
    pub fn with_probability(mut self, probability: f64) -> Self {
        self.probability = Some(probability);
        self
    }

    /// The same fault, but only for so long from when it is set.
    #[must_use]
    pub fn healing_after(mut self, time: Duration) -> Self {
        self.heals_after_ms = Some(as_ms(time));
        self
    }
}

/// What goes wrong with a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    tag = "kind",
    rename_all = "kebab-case",
    rename_all_fields = "camelCase",
    deny_unknown_fields
)]
pub enum Fault {
    /// An answer with this status.
    Status {
        /// The status code.
        status: u16,
        /// Its headers.
        #[serde(default)]
        headers: BTreeMap<String, String>,
        /// Its body.
        #[serde(default)]
        body: String,
    },
    /// A 400 as the platform's common library writes it.
    Tracer {
        /// The first error's code.
        code: String,
        /// Its message.
        #[serde(default)]
        message: String,
    },
    /// The connection is reset before the answer.
    Reset,
    /// No answer ever.
    Hang,
    /// The work is done, then the answer's header trickles, a byte at a time.
    SlowHeader {
        /// Between two bytes.
        pause_ms: u64,
    },
    /// The work is done, then the answer's body trickles, a byte at a time.
    SlowBody {
        /// Between two bytes.
        pause_ms: u64,
    },
    /// The work is done, then the connection ends in the middle of the body.
    Truncated,
    /// 200 with a body that is not JSON.
    NotJson,
    /// 200 with JSON of another shape.
    WrongShape,
    /// 200 with a page, as a gateway in front of the service might.
    Html,
    /// The right answer, followed by this many spaces.
    Oversized {
        /// How many.
        bytes: usize,
    },
}

impl Fault {
    /// An empty answer with this status.
    #[must_use]
    pub fn status(status: u16) -> Self {
        Self::Status {
            status,
            headers: BTreeMap::new(),
            body: String::new(),
        }
    }

    /// An empty answer with this status and one header.
    #[must_use]
    pub fn status_with(status: u16, name: &str, value: &str) -> Self {
        Self::Status {
            status,
            headers: BTreeMap::from([(name.to_owned(), value.to_owned())]),
            body: String::new(),
        }
    }

    /// A 400 as the platform's common library writes it.
    #[must_use]
    pub fn tracer(code: &str, message: &str) -> Self {
        Self::Tracer {
            code: code.to_owned(),
            message: message.to_owned(),
        }
    }

    /// Whether the service does its work (an OTP is created) all the same.
    pub(super) fn spoils_only_the_answer(&self) -> bool {
        match self {
            Self::SlowHeader { .. }
            | Self::SlowBody { .. }
            | Self::Truncated
            | Self::Oversized { .. } => true,
            Self::Status { .. }
            | Self::Tracer { .. }
            | Self::Reset
            | Self::Hang
            | Self::NotJson
            | Self::WrongShape
            | Self::Html => false,
        }
    }
}

/// One service's script under way.
#[derive(Debug)]
pub(super) struct Stage {
    play: Mutex<Play>,
    calls: AtomicUsize,
}

#[derive(Debug)]
struct Play {
    behaviour: Behaviour,
    since: Instant,
    seen: usize,
    failed: usize,
}

/// What becomes of one call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) delay: Duration,
    pub(super) fault: Option<Fault>,
}

impl Stage {
    pub(super) fn new(behaviour: Behaviour) -> Self {
        Self {
            play: Mutex::new(Play::new(behaviour)),
            calls: AtomicUsize::new(0),
        }
    }

    pub(super) fn set(&self, behaviour: Behaviour) {
        *self.play.lock() = Play::new(behaviour);
    }

    pub(super) fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }

    /// Counts one call, and says what becomes of it.
    pub(super) fn next(&self) -> Step {
        let call = self.calls.fetch_add(1, Ordering::SeqCst);
        let random = mix(call as u64 + 1);
        self.play.lock().next(random, Instant::now())
    }
}

impl Play {
    fn new(behaviour: Behaviour) -> Self {
        Self {
            behaviour,
            since: Instant::now(),
            seen: 0,
            failed: 0,
        }
    }

    fn next(&mut self, random: u64, now: Instant) -> Step {
        let script = &self.behaviour;
        let jitter = match script.jitter_ms {
            0 => 0,
            most => random % most.saturating_add(1),
        };
        let delay = Duration::from_millis(script.delay_ms.saturating_add(jitter));
        self.seen += 1;
        let unlucky = script
            .probability
            .is_none_or(|chance| share(random) < chance);
        let due = self.seen > script.skip
            && script.times.is_none_or(|times| self.failed < times)
            && script
                .heals_after_ms
                .is_none_or(|ms| now < self.since + Duration::from_millis(ms));
        let fault = script.fault.clone().filter(|_| due && unlucky);
        self.failed += usize::from(fault.is_some());
        Step { delay, fault }
    }
}

/// The upper half of a random number, from 0 to 1.
fn share(random: u64) -> f64 {
    let upper = u32::try_from(random >> 32).unwrap_or(u32::MAX);
    f64::from(upper) / (f64::from(u32::MAX) + 1.0)
}

fn as_ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(behaviour: Behaviour, calls: usize) -> Vec<bool> {
        let stage = Stage::new(behaviour);
        (0..calls).map(|_| stage.next().fault.is_some()).collect()
    }

    #[test]
    fn the_next_calls_fail_and_then_it_is_well() {
        let script = Behaviour::failing(Fault::Reset).after(1).times(2);
        assert_eq!(faults(script, 5), [false, true, true, false, false]);
    }

    #[test]
    fn a_probability_is_kept_about() {
        let script = Behaviour::failing(Fault::Reset).with_probability(0.25);
        let failed = faults(script, 10_000).into_iter().filter(|f| *f).count();
        assert!((2_200..2_800).contains(&failed), "{failed} of 10,000");
    }

    #[tokio::test(start_paused = true)]
    async fn it_heals_after_its_time() {
        let script = Behaviour::failing(Fault::Hang).healing_after(Duration::from_secs(10));
        let stage = Stage::new(script);
        assert!(stage.next().fault.is_some());
        tokio::time::advance(Duration::from_secs(11)).await;
        assert!(stage.next().fault.is_none());
    }

    #[test]
    fn delays_stay_within_their_jitter() {
        let script = Behaviour::slow(Duration::from_millis(5)).jittered(Duration::from_millis(3));
        let stage = Stage::new(script);
        for _ in 0..1_000 {
            let delay = stage.next().delay.as_millis();
            assert!((5..=8).contains(&delay), "{delay} ms");
        }
    }

    #[test]
    fn a_script_reads_as_documented() {
        let text = r#"{"delayMs": 5, "fault": {"kind": "status", "status": 503,
            "headers": {"retry-after": "2"}}, "times": 3, "healsAfterMs": 10000}"#;
        let script: Behaviour = serde_json::from_str(text).unwrap();
        let expected = Behaviour::failing(Fault::status_with(503, "retry-after", "2"))
            .delayed(Duration::from_millis(5))
            .times(3)
            .healing_after(Duration::from_secs(10));
        assert_eq!(script, expected);
        assert!(serde_json::from_str::<Behaviour>(r#"{"dealy": 5}"#).is_err());
    }
}
