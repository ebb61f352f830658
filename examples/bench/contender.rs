//! The processes: the two that are compared, and the stand-ins that both call.

use std::io::{BufRead as _, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::load::Load;

/// How long a process may take to say that it is ready, and to end.
const PATIENCE: Duration = Duration::from_secs(60);

/// At most as many calls at once, for both: the baseline's requests, which make one after the other.
const CALLS: &str = "256";

/// Ours counts for each service; shared out by how long the slow ones take.
const USER_CALLS: &str = "32";
const OTP_CALLS: &str = "224";

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(crate) enum Kind {
    Ours,
    Bare,
    /// The version before.
    Before,
    /// The same once more: how far it differs from itself.
    Again,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::Bare => "bare",
            Self::Before => "before",
            Self::Again => "again",
        }
    }
}

/// Where the programs are.
#[derive(Debug, Clone)]
pub(crate) struct Programs {
    pub(crate) binaries: PathBuf,
    /// `user-otp` of the version before.
    pub(crate) before: Option<PathBuf>,
}

impl Programs {
    /// The `user-otp` of `kind`, or the baseline.
    pub(crate) fn of(&self, kind: Kind) -> PathBuf {
        let ours = self.binaries.join("user-otp");
        match kind {
            Kind::Ours => ours,
            Kind::Bare => self.binaries.join("examples/bare"),
            Kind::Before | Kind::Again => self.before.clone().unwrap_or(ours),
        }
    }
}

/// Memory of a process in megabytes, as the kernel accounts for it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Memory {
    pub(crate) resident: f64,
    pub(crate) peak: f64,
}

/// One of the two, running.
pub(crate) struct Contender {
    running: Running,
    http_port: Option<u16>,
    settings: Vec<(String, String)>,
}

impl Contender {
    /// Starts it, and waits until it takes requests. `settings` are `user-otp run`'s alone, beside those
    /// that all runs have.
    pub(crate) fn start(
        kind: Kind,
        programs: &Programs,
        broker: &str,
        load: &Load,
        stand_in: &StandIn,
        settings: &[(&str, &str)],
    ) -> anyhow::Result<Self> {
        let program = programs.of(kind);
        let mut command = match kind {
            Kind::Ours | Kind::Before | Kind::Again => {
                ours(&program, broker, load, stand_in, settings)
            }
            Kind::Bare => bare(&program, broker, load, stand_in),
        };
        let (running, lines) = Running::spawn(&mut command)?;
        let mut http_port = None;
        wait_for_line(&lines, |line| {
            http_port = http_port.or_else(|| listens_on(line));
            line.contains("ready: ").then_some(())
        })
        .with_context(|| format!("{} does not say that it is ready", kind.name()))?;
        drain(lines);
        Ok(Self {
            running,
            http_port,
            settings: settings_of(broker, load, stand_in),
        })
    }

    /// Its settings, for a command beside it.
    pub(crate) fn settings(&self) -> Vec<(String, String)> {
        self.settings.clone()
    }

    /// Where the HTTP door listens; it does before the stream is ready.
    pub(crate) fn http_port(&self) -> anyhow::Result<u16> {
        self.http_port.context("it does not say where HTTP listens")
    }

    /// Processor time of the process alone, in and outside the kernel.
    pub(crate) fn processor_time(&self) -> anyhow::Result<Duration> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.running.child.id()))?;
        // The name in brackets may hold anything: what is counted comes after it.
        let (_, fields) = stat
            .rsplit_once(')')
            .context("/proc/PID/stat has no name")?;
        let ticks = fields
            .split_whitespace()
            .skip(11)
            .take(2)
            .map(str::parse::<u64>)
            .sum::<Result<u64, _>>()?;
        // A tick is 10 ms on every Linux.
        Ok(Duration::from_millis(ticks * 10))
    }

    pub(crate) fn memory_after(&self, wait: Duration) -> anyhow::Result<Memory> {
        pause(wait);
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.running.child.id()))?;
        let megabytes = |name: &str| {
            let line = status
                .lines()
                .find(|line| line.starts_with(name))
                .context("no such line")?;
            let kilobytes = line.split_whitespace().nth(1).context("no value")?;
            anyhow::Ok(kilobytes.parse::<f64>()? / 1024.0)
        };
        Ok(Memory {
            resident: megabytes("VmRSS:")?,
            peak: megabytes("VmHWM:")?,
        })
    }

    /// Ends it, in order where it can.
    pub(crate) fn end(mut self) -> anyhow::Result<()> {
        let pid = Pid::from_raw(i32::try_from(self.running.child.id())?);
        kill(pid, Signal::SIGTERM)?;
        let deadline = Instant::now() + PATIENCE;
        while self.running.child.try_wait()?.is_none() {
            if Instant::now() > deadline {
                bail!("it does not end within {PATIENCE:?} of SIGTERM");
            }
            pause(Duration::from_millis(20));
        }
        Ok(())
    }
}

fn listens_on(line: &str) -> Option<u16> {
    let (_, rest) = line.split_once(" HTTP port=")?;
    rest.split(' ').next()?.parse().ok()
}

fn ours(
    program: &Path,
    broker: &str,
    load: &Load,
    stand_in: &StandIn,
    settings: &[(&str, &str)],
) -> Command {
    let mut command = Command::new(program);
    command.arg("run").env_clear();
    command.envs(settings_of(broker, load, stand_in));
    for (key, value) in settings {
        command.env(format!("USER_OTP__{key}"), value);
    }
    command
}

/// What all runs have, as variables.
fn settings_of(broker: &str, load: &Load, stand_in: &StandIn) -> Vec<(String, String)> {
    let name = &load.name;
    let settings = [
        ("KAFKA__BROKERS", broker.to_owned()),
        ("KAFKA__GROUP", format!("{name}.ours")),
        ("KAFKA__INSTANCE", "bench".to_owned()),
        ("TOPICS__REQUESTS", load.requests.clone()),
        ("TOPICS__SMS", load.sms.clone()),
        ("TOPICS__EMAIL", load.email.clone()),
        ("TOPICS__ACCEPTED", format!("{name}.accepted")),
        ("TOPICS__JOBS", format!("{name}.jobs.request")),
        ("TOPICS__RETRY_PREFIX", format!("{name}.retry")),
        ("TOPICS__DEAD_LETTERS", format!("{name}.dlq")),
        ("TOPICS__OUTCOMES", load.outcomes()),
        ("TOPICS__JOB_LOG", format!("{name}.jobs")),
        ("REQUEST__LIFETIME", "1h".to_owned()),
        ("USERS__URL", stand_in.url.clone()),
        ("USERS__CALLS", USER_CALLS.to_owned()),
        ("OTP__URL", format!("{}/otp", stand_in.url)),
        ("OTP__CALLS", OTP_CALLS.to_owned()),
        // The baseline has none, and the load's people come again and again.
        ("LIMITS__MODE", "off".to_owned()),
        ("ENGINE__SUPERSEDE_AFTER", "0s".to_owned()),
        ("HTTP__PORT", "0".to_owned()),
        ("MANAGEMENT__PORT", "0".to_owned()),
    ];
    let named = settings.into_iter();
    named
        .map(|(key, value)| (format!("USER_OTP__{key}"), value))
        .collect()
}

fn bare(program: &Path, broker: &str, load: &Load, stand_in: &StandIn) -> Command {
    let mut command = Command::new(program);
    command.env_clear().args([
        broker,
        &format!("{}.bare", load.name),
        &load.requests,
        &load.sms,
        &format!("{}/user/_search", stand_in.url),
        &format!("{}/otp/v1/_create", stand_in.url),
        CALLS,
    ]);
    command
}

/// `user-otp standin` in a process of its own, so that its work is on nobody's account.
pub(crate) struct StandIn {
    pub(crate) url: String,
    _running: Running,
}

impl StandIn {
    pub(crate) fn start(programs: &Programs, options: &[&str]) -> anyhow::Result<Self> {
        let mut command = Command::new(programs.of(Kind::Ours));
        command
            .env_clear()
            .args([
                "standin",
                "--listen",
                "127.0.0.1:0",
                "--everyone",
                "--no-journal",
            ])
            .args(options);
        let (running, lines) = Running::spawn(&mut command)?;
        let url = wait_for_line(&lines, |line| {
            let (_, rest) = line.split_once("127.0.0.1:")?;
            let port: String = rest.chars().take_while(char::is_ascii_digit).collect();
            Some(format!("http://127.0.0.1:{port}"))
        })
        .context("the stand-in does not say where it listens")?;
        drain(lines);
        Ok(Self {
            url,
            _running: running,
        })
    }
}

/// A child process; killed when dropped.
struct Running {
    child: Child,
}

impl Running {
    /// With what it prints, line by line.
    fn spawn(command: &mut Command) -> anyhow::Result<(Self, Receiver<String>)> {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("{} does not start", command.get_program().display()))?;
        let (sender, lines) = sync_channel(64);
        follow(
            child.stdout.take().context("stdout is piped")?,
            sender.clone(),
        );
        follow(child.stderr.take().context("stderr is piped")?, sender);
        Ok((Self { child }, lines))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn follow(pipe: impl Read + Send + 'static, sender: SyncSender<String>) {
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
}

fn wait_for_line<T>(
    lines: &Receiver<String>,
    mut wanted: impl FnMut(&str) -> Option<T>,
) -> anyhow::Result<T> {
    let deadline = Instant::now() + PATIENCE;
    let mut seen = Vec::new();
    loop {
        match lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(line) => match wanted(&line) {
                Some(found) => return Ok(found),
                None => seen.push(line),
            },
            Err(RecvTimeoutError::Timeout) => {
                bail!("nothing for {PATIENCE:?}; it said:\n{}", seen.join("\n"))
            }
            Err(RecvTimeoutError::Disconnected) => bail!("it ended; it said:\n{}", seen.join("\n")),
        }
    }
}

/// Shows what else it has to say.
#[expect(
    clippy::print_stderr,
    reason = "what a contender complains about belongs on the terminal"
)]
fn drain(lines: Receiver<String>) {
    std::thread::spawn(move || {
        for line in lines {
            if ["WARN", "ERROR", "a request is lost"]
                .iter()
                .any(|word| line.contains(word))
            {
                eprintln!("    {line}");
            }
        }
    });
}

pub(crate) fn pause(duration: Duration) {
    #[expect(clippy::disallowed_methods, reason = "a measurement takes its time")]
    std::thread::sleep(duration);
}
