//! How many calls a service gets at once, judged by its answers: breaker and limit in one.
//!
//! ```text
//!          20 in a row failed, or more than a third of a second's: half of what is in use
//!   open ───────────────────────────────────────────────▶ ... ▶ floor: one call at a time,
//!    ▲  ▲ grows with each success                                    │  with pauses between
//!    │  └─ from two                 a probe succeeds                 │
//!    └───────────────────────────────────────────────────────────────┘
//! ```
//!
//! **Down.** A second's answers are judged together once there are 20 of them; where there are fewer,
//! the second lasts until there are. But a second is long when nothing works: a service that refuses
//! connections would fail thousands of requests in it. So 20 failures in a row, without a success
//! between, halve at once. From 256 that is 160 failures to the floor, whatever the rate; in fact
//! fewer, since half is taken of the calls that were in use, not of a limit that nobody came near: a
//! service that fails three calls a second is at the floor after 20. At a failure rate of a third,
//! 20 in a row come once in billions of answers.
//!
//! An overload is judged by calls that were begun after the last halving alone, or it would be punished
//! twice. A row counts all: where 256 calls hang, their time-outs are the news.
//!
//! **Floor.** One call at a time, each at least a pause after the one before, and doubling pauses after
//! the end of a failed one. Only answers to calls begun at the floor count there.
//!
//! **Up.** Each success adds a call, which doubles the limit in the time that one answer takes, up to
//! the knee: the limit that held for a second when last it was judged, or half of the one that failed.
//! Above the knee each round of successes adds one. An outage is no overload and leaves the knee where it
//! was, unless the service fails again on the way up; but one that begins in the middle of a judged second
//! looks like an overload first, and may halve it once. However fast a service answers, the limit does not
//! more than double in 100 ms: from the floor to 256 it takes 0.8 s, and in the first 100 ms after its
//! return a service has at most four calls at once.
//!
//! *Refused* is an answer about a request, not about the service, so it counts neither way; but when
//! nothing else was answered 50 times and for 10 s, the route or the credential is wrong.

use std::time::Duration;

use super::repeat::Probes;

/// Answers that are judged together, at least; and failures in a row that are judged at once.
const ANSWERS: u32 = 20;

/// Answers are judged together for this long, at least.
const SECOND: Duration = Duration::from_secs(1);

/// The limit does not more than double in this time.
const STEP: Duration = Duration::from_millis(100);

/// So many answers in a row that were *refused*, over `REFUSED_FOR`, are no requests' fault.
const REFUSED: u32 = 50;

/// See `REFUSED`.
const REFUSED_FOR: Duration = Duration::from_secs(10);

/// What a call says about its service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It answered as it should.
    Well,
    /// It failed, or did not answer in time.
    Failed,
    /// It did not want the request.
    Refused,
}

/// The limit and what it is judged by. Moments are durations since any one start.
#[derive(Debug)]
pub(super) struct Limit {
    /// What is configured; at least 1.
    most: usize,
    calls: usize,
    floor: Option<Floor>,
    /// Up to here each success adds one.
    knee: usize,
    /// Since the floor, the limit has not held for a second.
    climbing: bool,
    /// Successes above the knee that have not added one yet.
    round: usize,
    step: Step,
    window: Window,
    failed_in_a_row: u32,
    refused: Option<Refused>,
    /// When it last fell to the floor: what was begun before says nothing any more.
    fell: Option<Duration>,
}

/// The pauses of a service that is down.
#[derive(Debug)]
struct Floor {
    /// No call before.
    opens: Duration,
    pauses: Probes,
}

/// What the limit was when it last had time to double.
#[derive(Debug, Clone, Copy)]
struct Step {
    since: Duration,
    from: usize,
}

/// The answers since the last judgement.
#[derive(Debug, Clone, Copy, Default)]
struct Window {
    since: Duration,
    /// Calls begun before are not judged here.
    begun: Option<Duration>,
    well: u32,
    failed: u32,
    /// Most calls at once.
    peak: usize,
}

/// Answers in a row that were *refused*.
#[derive(Debug, Clone, Copy)]
struct Refused {
    since: Duration,
    count: u32,
}

impl Limit {
    /// At most `most` calls at once, and one at least; so many to begin with.
    pub(super) fn new(most: usize) -> Self {
        let most = most.max(1);
        Self {
            most,
            calls: most,
            floor: None,
            knee: most,
            climbing: false,
            round: 0,
            step: Step {
                since: Duration::ZERO,
                from: most,
            },
            window: Window::default(),
            failed_in_a_row: 0,
            refused: None,
            fell: None,
        }
    }

    /// Calls at once.
    pub(super) fn calls(&self) -> usize {
        self.calls
    }

    /// Whether the service counts as down.
    pub(super) fn is_at_floor(&self) -> bool {
        self.floor.is_some()
    }

    /// At the floor: no call begins before this.
    pub(super) fn opens(&self) -> Option<Duration> {
        self.floor.as_ref().map(|floor| floor.opens)
    }

    /// Whether a call may begin, with `in_use` under way.
    pub(super) fn lets_one_begin(&self, now: Duration, in_use: usize) -> bool {
        in_use < self.calls && self.opens().is_none_or(|opens| opens <= now)
    }

    /// A call begins; `in_use` with it.
    pub(super) fn begun(&mut self, now: Duration, in_use: usize) {
        self.window.peak = self.window.peak.max(in_use);
        if let Some(floor) = &mut self.floor {
            // It may end without an answer.
            floor.opens = now + floor.pauses.shortest();
        }
    }

    /// A call that began at `begun` has its answer; `in_use` are under way with it.
    pub(super) fn answered(
        &mut self,
        begun: Duration,
        now: Duration,
        verdict: Verdict,
        in_use: usize,
    ) {
        if self.fell.is_some_and(|fell| begun < fell) {
            return;
        }
        if self.floor.is_some() {
            self.probed(now, verdict);
            return;
        }
        match verdict {
            Verdict::Refused => self.refused(now),
            Verdict::Well => {
                self.refused = None;
                self.failed_in_a_row = 0;
                self.window.well += u32::from(self.window.judges(begun));
                if !self.window.is_bad() {
                    self.grow(now);
                }
                self.judge(now, in_use);
            }
            Verdict::Failed => {
                self.refused = None;
                self.failed_in_a_row += 1;
                self.window.failed += u32::from(self.window.judges(begun));
                if self.failed_in_a_row >= ANSWERS {
                    if self.climbing {
                        self.lower_knee();
                    }
                    self.halve(now, in_use);
                } else {
                    self.judge(now, in_use);
                }
            }
        }
    }

    fn probed(&mut self, now: Duration, verdict: Verdict) {
        match (verdict, &mut self.floor) {
            (Verdict::Well, _) => {
                self.floor = None;
                self.calls = self.most.min(2);
                self.climbing = true;
                self.step = Step {
                    since: now,
                    from: self.calls,
                };
                self.begin_window(now, 0);
            }
            (Verdict::Failed | Verdict::Refused, Some(floor)) => {
                floor.opens = now + floor.pauses.next();
            }
            (Verdict::Failed | Verdict::Refused, None) => {}
        }
    }

    fn refused(&mut self, now: Duration) {
        let refused = self.refused.get_or_insert(Refused {
            since: now,
            count: 0,
        });
        refused.count = refused.count.saturating_add(1);
        if refused.count >= REFUSED && now.saturating_sub(refused.since) >= REFUSED_FOR {
            self.fall(now);
        }
    }

    fn judge(&mut self, now: Duration, in_use: usize) {
        let window = self.window;
        if window.answers() < ANSWERS || now.saturating_sub(window.since) < SECOND {
            return;
        }
        if window.is_bad() {
            self.lower_knee();
            self.halve(now, in_use);
            return;
        }
        self.climbing &= self.calls < self.knee;
        self.knee = self.knee.max(self.calls);
        self.begin_window(now, in_use);
    }

    fn lower_knee(&mut self) {
        self.knee = self.knee.min(self.calls / 2).max(1);
        self.climbing = false;
    }

    fn halve(&mut self, now: Duration, in_use: usize) {
        self.calls = self.calls.min(self.window.peak.max(in_use)) / 2;
        self.round = 0;
        self.failed_in_a_row = 0;
        self.step = Step {
            since: now,
            from: self.calls,
        };
        self.begin_window(now, in_use);
        self.window.begun = Some(now);
        if self.calls <= 1 {
            self.fall(now);
        }
    }

    fn fall(&mut self, now: Duration) {
        let mut pauses = Probes::new();
        self.floor = Some(Floor {
            opens: now + pauses.next(),
            pauses,
        });
        self.calls = 1;
        self.failed_in_a_row = 0;
        self.refused = None;
        self.fell = Some(now);
    }

    fn grow(&mut self, now: Duration) {
        if now.saturating_sub(self.step.since) >= STEP {
            self.step = Step {
                since: now,
                from: self.calls,
            };
        }
        if self.calls >= self.most.min(2 * self.step.from) {
            return;
        }
        if self.calls >= self.knee {
            self.round += 1;
            if self.round < self.calls {
                return;
            }
        }
        self.round = 0;
        self.calls += 1;
    }

    fn begin_window(&mut self, now: Duration, in_use: usize) {
        self.window = Window {
            since: now,
            begun: self.window.begun,
            well: 0,
            failed: 0,
            peak: in_use,
        };
    }
}

impl Window {
    fn judges(&self, begun: Duration) -> bool {
        self.begun.is_none_or(|first| begun >= first)
    }

    fn answers(&self) -> u32 {
        self.well + self.failed
    }

    /// More than a third failed.
    fn is_bad(&self) -> bool {
        3 * self.failed > self.answers()
    }
}

#[cfg(test)]
mod tests;
