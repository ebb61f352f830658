//! Three real brokers of our own, and which of them has which part.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};

use crate::disk::Disk;

pub(crate) const BROKERS: usize = 3;

/// The account of the instances: what it may do can be withdrawn. Everybody else may do everything.
pub(crate) const USER: &str = "user-otp";
pub(crate) const PASSWORD: &str = "chaos";

/// The broker whose disk can be filled, counted from 0.
pub(crate) const SMALL_DISK: usize = 1;

/// A cluster in a folder, by `scripts/kafka`; gone when dropped.
pub(crate) struct Cluster {
    dir: PathBuf,
    /// Where everybody but the instances connects: nothing stands in between.
    pub(crate) addresses: String,
    /// The disk of [`SMALL_DISK`]; none: mounting is not permitted here.
    pub(crate) disk: Option<Disk>,
    /// Asks for the leaders.
    client: BaseConsumer,
}

impl Cluster {
    /// `proxies`: the port, for each broker, to which the instances are sent.
    pub(crate) fn start(dir: &Path, proxies: &[u16; BROKERS]) -> Self {
        let disk = Disk::mount(&dir.with_extension("disk"));
        if let Some(disk) = &disk {
            let folder = dir.join((SMALL_DISK + 1).to_string());
            std::fs::create_dir_all(&folder).expect("a folder");
            std::os::unix::fs::symlink(disk.folder(), folder.join("data")).expect("a link");
        }
        let mut arguments = vec![
            "start".to_owned(),
            "--brokers".to_owned(),
            BROKERS.to_string(),
        ];
        let ports = proxies.map(|port| port.to_string()).join(",");
        arguments.extend(["--proxies".to_owned(), ports]);
        for setting in settings() {
            arguments.extend(["--set".to_owned(), setting]);
        }
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let addresses = script(dir, &arguments).expect("the cluster starts");
        let client = ClientConfig::new()
            .set("bootstrap.servers", &addresses)
            .set("socket.timeout.ms", "5000")
            .set("log_level", "0")
            .create()
            .expect("a client");
        Self {
            dir: dir.to_owned(),
            addresses,
            disk,
            client,
        }
    }

    /// Where a broker listens for what comes through its proxy.
    pub(crate) fn upstream(&self, broker: usize) -> SocketAddr {
        let file = self.dir.join((broker + 1).to_string()).join("proxied");
        let ports = std::fs::read_to_string(file).expect("the second listener's ports");
        let own = ports.split(' ').next().and_then(|port| port.parse().ok());
        SocketAddr::from(([127, 0, 0, 1], own.expect("a port")))
    }

    /// The broker that leads a partition, counted from 0, if anybody knows.
    pub(crate) fn leader(&self, topic: &str, partition: i32) -> Option<usize> {
        let metadata = self
            .client
            .fetch_metadata(Some(topic), Duration::from_secs(5))
            .ok()?;
        let topic = metadata.topics().first()?;
        let found = topic.partitions().iter().find(|one| one.id() == partition);
        usize::try_from(found?.leader() - 1).ok()
    }

    /// How many partitions a topic has; none: it is not there, or nobody knows.
    pub(crate) fn partitions(&self, topic: &str) -> Option<usize> {
        let metadata = self
            .client
            .fetch_metadata(Some(topic), Duration::from_secs(5))
            .ok()?;
        let count = metadata.topics().first()?.partitions().len();
        (count > 0).then_some(count)
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

    /// The partition of an internal topic that has `name`, if anybody knows.
    pub(crate) fn internal_partition(&self, topic: &str, name: &str) -> Option<i32> {
        let count = i32::try_from(self.partitions(topic)?).ok()?;
        java_hash(name)
            .checked_abs()
            .unwrap_or(0)
            .checked_rem(count)
    }

    /// The broker that leads it.
    pub(crate) fn coordinator(&self, topic: &str, name: &str) -> Option<usize> {
        self.leader(topic, self.internal_partition(topic, name)?)
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

/// The second listener asks who comes, and what they may do.
fn settings() -> Vec<String> {
    let login = format!(
        "org.apache.kafka.common.security.plain.PlainLoginModule required user_{USER}=\"{PASSWORD}\";"
    );
    vec![
        // On a busy machine two seconds of silence are no reason for an election.
        "controller.quorum.fetch.timeout.ms=5000".to_owned(),
        "listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,PROXIED:SASL_PLAINTEXT"
            .to_owned(),
        "listener.name.proxied.sasl.enabled.mechanisms=PLAIN".to_owned(),
        format!("listener.name.proxied.plain.sasl.jaas.config={login}"),
        "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer".to_owned(),
        "super.users=User:ANONYMOUS".to_owned(),
    ]
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
