//! The clock of one instance, set forward and back while it runs.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use user_otp::clock::Clock;

use crate::chance::{Chance, Stop};
use crate::faults::Stage;
use crate::fleet::{Fleet, NAMES, WRONG_CLOCK};
use crate::journal::Whom;
use crate::ledger::Ledger;

/// By how much at most, in milliseconds: less than `request.min_life`, so that every instance can still
/// handle what another has received.
const MOST: u64 = 8_000;

/// `gap`: from one fault to the next, in milliseconds.
pub(crate) fn track(stage: &Stage<'_>, fleet: &Fleet, ledger: &Mutex<Ledger>, gap: (u64, u64)) {
    let Some(fake) = &fleet.clock else { return };
    let clock = Clock::system();
    let tell = |by: i64| {
        let mut ledger = ledger.lock().unwrap_or_else(PoisonError::into_inner);
        ledger.clock_is_shifted(clock.now().0, by);
    };
    let mut chance = Chance::new(stage.seed, 6);
    let mut next = Instant::now() + Duration::from_secs(10);
    while stage.stop.wait_until(next) {
        next = Instant::now() + chance.time(gap.0, gap.1);
        let by = i64::try_from(chance.between(1_000, MOST)).unwrap_or(0);
        let (by, kind) = if chance.below(2) == 0 {
            (by, "ClockAhead")
        } else {
            (-by, "ClockBehind")
        };
        let time = chance.time(gap.0 / 4, gap.0 / 2);
        // The ledger knows before the instance does, and forgets after it.
        tell(by);
        fake.set(by);
        let detail = format!("{} by {by} ms", NAMES[WRONG_CLOCK]);
        stage.journal.fault(Whom::Process, kind, &detail);
        stage.hold(time);
        fake.set(0);
        Stop::default().wait(Duration::from_millis(100));
        tell(0);
        stage.journal.note("the clock is right again");
    }
}
