//! A broker of a test's own, for what cannot be done to a shared one: stop it.

use std::path::Path;
use std::process::Command;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

/// A real Apache Kafka in a folder of its own; gone when dropped.
pub(crate) struct Broker {
    dir: TempDir,
    pub(crate) address: String,
}

impl Broker {
    pub(crate) fn start() -> Self {
        let dir = TempDir::new().expect("a folder");
        let address = script(dir.path(), &["start"]);
        Self { dir, address }
    }

    /// SIGSTOP: it holds its connections, and says nothing.
    pub(crate) fn freeze(&self) {
        self.signal(Signal::SIGSTOP);
    }

    /// SIGCONT.
    pub(crate) fn thaw(&self) {
        self.signal(Signal::SIGCONT);
    }

    fn signal(&self, signal: Signal) {
        let pid = std::fs::read_to_string(self.dir.path().join("pid")).expect("it runs");
        let pid = pid.trim().parse().expect("a process id");
        kill(Pid::from_raw(pid), signal).expect("it is ours");
    }

    pub(crate) fn stop(&self) {
        script(self.dir.path(), &["stop"]);
    }

    /// With the same port and data.
    pub(crate) fn start_again(&self) {
        assert_eq!(script(self.dir.path(), &["start"]), self.address);
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // A test that failed may have left it frozen.
        self.thaw();
        script(self.dir.path(), &["stop", "--delete"]);
    }
}

fn script(dir: &Path, arguments: &[&str]) -> String {
    let output = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/kafka"))
        .args(arguments)
        .arg("--dir")
        .arg(dir)
        .output()
        .expect("scripts/kafka runs");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "scripts/kafka {arguments:?} failed:\n{stderr}"
    );
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .last()
        .unwrap_or_default()
        .to_owned()
}
