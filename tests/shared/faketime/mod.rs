//! A wall clock of its own for a process, set forward and back while the process runs: by libfaketime, which reads
//! from a file how far it is off. What goes by monotonic time is not touched.

use std::path::{Path, PathBuf};
use std::process::Command;

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
    pub(crate) fn set(&self, by: i64) {
        // Never half a file.
        let new = self.file.with_extension("new");
        let sign = if by < 0 { '-' } else { '+' };
        let (seconds, rest) = (by.abs() / 1_000, by.abs() % 1_000);
        std::fs::write(&new, format!("{sign}{seconds}.{rest:03}\n"))
            .and_then(|()| std::fs::rename(&new, &self.file))
            .expect("the clock's file is written");
    }
}
