//! A broker of a test's own, for what cannot be done to a shared one: stop it, put something
//! between it and the service, or let it ask who we are.

use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::frozen::freeze;
use crate::port::Port;

/// A real Apache Kafka in a folder of its own; gone when dropped.
pub(crate) struct Broker {
    dir: TempDir,
    pub(crate) address: String,
    /// Those that were chosen for it.
    _ports: Vec<Port>,
}

/// A second way into a broker, next to the one that the tests themselves use.
pub(crate) struct Entrance {
    /// Its name, of capital letters.
    pub(crate) name: &'static str,
    /// `PLAINTEXT` or `SASL_SSL`.
    pub(crate) protocol: &'static str,
    /// The port that the broker listens on.
    pub(crate) port: Port,
    /// The port that clients are sent to.
    pub(crate) advertised: u16,
}

impl Broker {
    pub(crate) fn start() -> Self {
        Self::with(&[])
    }

    /// With more properties, as `name=value`.
    pub(crate) fn with(properties: &[&str]) -> Self {
        let dir = TempDir::new().expect("a folder");
        let address = script(dir.path(), &start_with(properties));
        Self {
            dir,
            address,
            _ports: Vec::new(),
        }
    }

    /// With a second listener on `port`, whose clients are sent to `advertised`.
    pub(crate) fn advertising(port: Port, advertised: &str) -> Self {
        Self::with_listener("OTHER", "PLAINTEXT", port, advertised, |_| {})
    }

    /// With a second listener, more properties and accounts for SASL/SCRAM (`name=password`).
    pub(crate) fn with_entrance(
        entrance: Entrance,
        properties: &[String],
        accounts: &[String],
    ) -> Self {
        let Entrance {
            name,
            protocol,
            port,
            advertised,
        } = entrance;
        let advertised = format!("127.0.0.1:{advertised}");
        Self::with_listener(name, protocol, port, &advertised, |arguments| {
            for (option, values) in [("--set", properties), ("--scram", accounts)] {
                for value in values {
                    arguments.extend([option.to_owned(), value.clone()]);
                }
            }
        })
    }

    fn with_listener(
        name: &str,
        protocol: &str,
        port: Port,
        advertised: &str,
        more: impl FnOnce(&mut Vec<String>),
    ) -> Self {
        let [own, controller] = [(); 2].map(|()| Port::reserve());
        let ports = [&own, &port, &controller].map(Port::number);
        let mut arguments = second_listener(ports, name, protocol, advertised);
        more(&mut arguments);
        let dir = TempDir::new().expect("a folder");
        let address = script(dir.path(), &arguments);
        Self {
            dir,
            address,
            _ports: vec![own, port, controller],
        }
    }

    /// The log of a partition in which nothing was deleted yet.
    pub(crate) fn log_of(&self, topic: &str, partition: i32) -> PathBuf {
        let name = format!("{topic}-{partition}");
        let mut folders = vec![self.dir.path().to_owned()];
        while let Some(folder) = folders.pop() {
            if folder.ends_with(&name) {
                return folder.join("00000000000000000000.log");
            }
            let entries = std::fs::read_dir(folder).expect("a folder");
            let paths = entries.map(|entry| entry.expect("it stays as it is").path());
            folders.extend(paths.filter(|path| path.is_dir()));
        }
        panic!("the broker has no {name}");
    }

    /// SIGSTOP: it holds its connections, and says nothing.
    pub(crate) fn freeze(&self) {
        freeze(self.pid());
    }

    /// SIGCONT.
    pub(crate) fn thaw(&self) {
        self.signal(Signal::SIGCONT);
    }

    fn pid(&self) -> Pid {
        let pid = std::fs::read_to_string(self.dir.path().join("pid")).expect("it runs");
        Pid::from_raw(pid.trim().parse().expect("a process id"))
    }

    fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).expect("it is ours");
    }

    pub(crate) fn stop(&self) {
        script(self.dir.path(), &["stop".to_owned()]);
    }

    /// With the same port and data.
    pub(crate) fn start_again(&self) {
        self.start_again_with(&[]);
    }

    /// The same, with more properties from now on.
    pub(crate) fn start_again_with(&self, properties: &[&str]) {
        let address = script(self.dir.path(), &start_with(properties));
        assert_eq!(address, self.address);
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // A test that failed may have left it frozen.
        self.thaw();
        script(self.dir.path(), &["stop".to_owned(), "--delete".to_owned()]);
    }
}

/// Three brokers: topics have three copies, and two of them must have a record. Gone when dropped.
pub(crate) struct Cluster {
    dir: TempDir,
    /// All of them, with commas.
    pub(crate) addresses: String,
}

impl Cluster {
    pub(crate) fn start() -> Self {
        let dir = TempDir::new().expect("a folder");
        let arguments = ["start", "--brokers", "3"].map(str::to_owned);
        let addresses = script(dir.path(), &arguments);
        Self { dir, addresses }
    }

    /// Ends one of them: from 1 to 3.
    pub(crate) fn stop(&self, number: usize) {
        self.one("stop", number);
    }

    /// With the same port and data.
    pub(crate) fn start_again(&self, number: usize) {
        self.one("start", number);
    }

    fn one(&self, command: &str, number: usize) {
        let number = number.to_string();
        let arguments = [command, "--broker", &number].map(str::to_owned);
        script(self.dir.path(), &arguments);
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        script(self.dir.path(), &["stop".to_owned(), "--delete".to_owned()]);
    }
}

fn start_with(properties: &[&str]) -> Vec<String> {
    let set = properties
        .iter()
        .flat_map(|one| ["--set".to_owned(), (*one).to_owned()]);
    std::iter::once("start".to_owned()).chain(set).collect()
}

/// The arguments of a broker that listens for the tests on `own`, and has a second listener on `port`.
fn second_listener(
    [own, port, controller]: [u16; 3],
    name: &str,
    protocol: &str,
    advertised: &str,
) -> Vec<String> {
    let settings = [
        format!(
            "listeners=PLAINTEXT://127.0.0.1:{own},{name}://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}"
        ),
        format!("advertised.listeners=PLAINTEXT://127.0.0.1:{own},{name}://{advertised}"),
        format!(
            "listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,{name}:{protocol}"
        ),
        format!("controller.quorum.voters=1@127.0.0.1:{controller}"),
        "inter.broker.listener.name=PLAINTEXT".to_owned(),
    ];
    let mut arguments = start_with(&settings.each_ref().map(String::as_str));
    arguments.extend(["--port".to_owned(), own.to_string()]);
    arguments
}

fn script(dir: &Path, arguments: &[String]) -> String {
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
