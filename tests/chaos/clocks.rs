//! The clock of one instance, set forward and back while it runs: by libfaketime, which reads from a file
//! how far it is off. What goes by monotonic time is not touched.

use std::path::{Path, PathBuf};
use std::process::Command;
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

/// Where Debian's package has it, on each architecture.
const FOLDERS: &str = "/usr/lib";
const LIBRARY: &str = "faketime/libfaketimeMT.so.1";

/// What the library misses ([`MISSING`] says why), and the versions under which it looks for that.
const MISSING: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/shared/faketime/missing");

pub(crate) struct FakeClock {
    libraries: String,
    file: PathBuf,
}

impl FakeClock {
    /// A clock that is right until it is set; its files are in `dir`. None where libfaketime is not installed,
    /// which is said.
    pub(crate) fn find(dir: &Path) -> Option<Self> {
        let folders = std::fs::read_dir(FOLDERS).into_iter().flatten().flatten();
        let library = folders
            .map(|folder| folder.path().join(LIBRARY))
            .find(|library| library.exists());
        let Some(library) = library else {
            eprintln!(
                "libfaketime is not installed, so no clock is wrong: apt-get install libfaketime"
            );
            return None;
        };
        let missing = dir.join("missing.so");
        let compiled = Command::new("cc")
            .args([
                "-shared",
                "-fPIC",
                &format!("-Wl,--version-script={MISSING}.map"),
                "-o",
            ])
            .arg(&missing)
            .arg(format!("{MISSING}.c"))
            .status();
        assert!(
            compiled.is_ok_and(|status| status.success()),
            "cc compiles {MISSING}.c"
        );
        let clock = Self {
            libraries: format!("{} {}", library.display(), missing.display()),
            file: dir.join("clock"),
        };
        clock.set(0);
        Some(clock)
    }

    /// What a process needs in order to have it.
    pub(crate) fn environment(&self) -> [(&'static str, String); 4] {
        [
            ("LD_PRELOAD", self.libraries.clone()),
            ("FAKETIME_TIMESTAMP_FILE", self.file.display().to_string()),
            ("FAKETIME_NO_CACHE", "1".to_owned()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
        ]
    }

    /// Ahead of the system's by so many milliseconds, or behind.
    fn set(&self, by: i64) {
        // Never half a file.
        let new = self.file.with_extension("new");
        let sign = if by < 0 { '-' } else { '+' };
        let (seconds, rest) = (by.abs() / 1_000, by.abs() % 1_000);
        std::fs::write(&new, format!("{sign}{seconds}.{rest:03}\n"))
            .and_then(|()| std::fs::rename(&new, &self.file))
            .expect("the clock's file is written");
    }
}

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
