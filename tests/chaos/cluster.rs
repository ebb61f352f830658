//! Three real brokers of our own, and which of them has which part.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};

pub(crate) const BROKERS: usize = 3;

/// A cluster in a folder, by `scripts/kafka`; gone when dropped.
pub(crate) struct Cluster {
    dir: PathBuf,
    pub(crate) addresses: String,
    /// Asks for the leaders.
    client: BaseConsumer,
}

impl Cluster {
    pub(crate) fn start(dir: &Path) -> Self {
        let brokers = BROKERS.to_string();
        // On a busy machine two seconds of silence are no reason for an election.
        let patience = "controller.quorum.fetch.timeout.ms=5000";
        let addresses = script(dir, &["start", "--brokers", &brokers, "--set", patience]);
        let addresses = addresses.expect("the cluster starts");
        let client = ClientConfig::new()
            .set("bootstrap.servers", &addresses)
            .set("socket.timeout.ms", "5000")
            .set("log_level", "0")
            .create()
            .expect("a client");
        Self {
            dir: dir.to_owned(),
            addresses,
            client,
        }
    }

    /// Signals a broker, counted from 0; false: it does not run.
    pub(crate) fn signal(&self, broker: usize, signal: Signal) -> bool {
        self.pid(broker)
            .is_some_and(|pid| kill(pid, signal).is_ok())
    }

    /// SIGKILL, and gone.
    pub(crate) fn kill(&self, broker: usize) {
        self.signal(broker, Signal::SIGKILL);
        let _ = script(&self.dir, &["stop", "--broker", &(broker + 1).to_string()]);
    }

    /// SIGTERM, and its end.
    pub(crate) fn stop(&self, broker: usize) {
        let _ = script(&self.dir, &["stop", "--broker", &(broker + 1).to_string()]);
    }

    /// With its port and data; false: it did not come up, see its log.
    pub(crate) fn start_again(&self, broker: usize) -> bool {
        script(&self.dir, &["start", "--broker", &(broker + 1).to_string()]).is_some()
    }

    /// All that do not run.
    pub(crate) fn start_all(&self) -> bool {
        script(&self.dir, &["start"]).is_some()
    }

    pub(crate) fn is_running(&self, broker: usize) -> bool {
        // Nothing is left of the command line of one that has ended, nor of whoever has its number now.
        self.pid(broker).is_some_and(|pid| {
            std::fs::read_to_string(format!("/proc/{pid}/cmdline"))
                .is_ok_and(|line| line.contains("server.properties"))
        })
    }

    fn pid(&self, broker: usize) -> Option<Pid> {
        let file = self.dir.join((broker + 1).to_string()).join("pid");
        let pid = std::fs::read_to_string(file).ok()?;
        Some(Pid::from_raw(pid.trim().parse().ok()?))
    }

    /// The broker that leads the partition of an internal topic that has `name`, if anybody knows.
    pub(crate) fn coordinator(&self, topic: &str, name: &str) -> Option<usize> {
        let metadata = self
            .client
            .fetch_metadata(Some(topic), Duration::from_secs(5))
            .ok()?;
        let topic = metadata.topics().first()?;
        let count = i32::try_from(topic.partitions().len()).ok()?;
        let partition = java_hash(name)
            .checked_abs()
            .unwrap_or(0)
            .checked_rem(count)?;
        let found = topic.partitions().iter().find(|one| one.id() == partition);
        usize::try_from(found?.leader() - 1).ok()
    }

    fn delete(&self) {
        for broker in 0..BROKERS {
            self.signal(broker, Signal::SIGCONT);
        }
        let _ = script(&self.dir, &["stop", "--delete"]);
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.delete();
    }
}

/// As Kafka places groups and transactional ids: `String.hashCode`.
fn java_hash(text: &str) -> i32 {
    text.bytes().fold(0, |hash: i32, byte| {
        hash.wrapping_mul(31).wrapping_add(i32::from(byte))
    })
}

/// The last line that it says; none: it failed, and has said why.
fn script(dir: &Path, arguments: &[&str]) -> Option<String> {
    let output = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/kafka"))
        .args(arguments)
        .arg("--dir")
        .arg(dir)
        // Three at once, after a kill, on a machine that is busy with us.
        .env("USER_OTP_KAFKA_START_SECONDS", "600")
        .output()
        .expect("scripts/kafka runs");
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        eprintln!("scripts/kafka {arguments:?} failed: {said}");
        return None;
    }
    let said = String::from_utf8_lossy(&output.stdout);
    Some(said.lines().last().unwrap_or_default().to_owned())
}

#[cfg(test)]
mod tests {
    #[test]
    fn strings_hash_as_in_java() {
        assert_eq!(super::java_hash("user-otp"), -267_636_183);
        assert_eq!(super::java_hash("hello"), 99_162_322);
    }
}
