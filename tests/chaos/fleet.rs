//! The instances: `user-otp run` as processes of their own, restarted as a supervisor does.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::chance::Stop;
use crate::faketime::FakeClock;

pub(crate) const NAMES: [&str; 3] = ["a", "b", "c"];

/// The instance whose clock can be set, counted from 0.
pub(crate) const WRONG_CLOCK: usize = 2;

/// A supervisor's pause before it starts one again that ended.
const PAUSE: Duration = Duration::from_secs(1);

/// Longer than `shutdown.deadline`.
const END: Duration = Duration::from_secs(60);

pub(crate) struct Fleet {
    instances: Vec<Mutex<Instance>>,
    environment: Vec<(String, String)>,
    dir: PathBuf,
    /// Another version of the program: each start of an instance is of the one that it was not before.
    other: Option<PathBuf>,
    /// Of [`WRONG_CLOCK`], if it can be set.
    pub(crate) clock: Option<FakeClock>,
    /// Those that ended by themselves: which, and how.
    pub(crate) ended: Mutex<Vec<String>>,
}

struct Instance {
    child: Option<Child>,
    log: PathBuf,
    starts: usize,
    /// The port that it listens on, once that is known.
    port: Option<u16>,
}

impl Fleet {
    pub(crate) fn start(
        dir: &Path,
        environment: Vec<(String, String)>,
        other: Option<PathBuf>,
    ) -> Self {
        let none = || {
            Mutex::new(Instance {
                child: None,
                log: PathBuf::new(),
                starts: 0,
                port: None,
            })
        };
        let fleet = Self {
            instances: NAMES.iter().map(|_| none()).collect(),
            environment,
            dir: dir.to_owned(),
            other,
            clock: FakeClock::find(dir),
            ended: Mutex::default(),
        };
        for index in 0..NAMES.len() {
            fleet.start_again(index);
        }
        fleet
    }

    fn lock(&self, index: usize) -> MutexGuard<'_, Instance> {
        self.instances[index]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn start_again(&self, index: usize) {
        let mut instance = self.lock(index);
        if instance.child.is_some() {
            return;
        }
        let name = NAMES[index];
        instance.starts += 1;
        instance.port = None;
        instance.log = self.dir.join(format!("{name}-{}.log", instance.starts));
        let log = File::create(&instance.log).expect("a log");
        let errors = log.try_clone().expect("a second handle");
        let clock = self.clock.iter().filter(|_| index == WRONG_CLOCK);
        let child = Command::new(self.program(index + instance.starts))
            .arg("run")
            .env_clear()
            .envs(self.environment.iter().cloned())
            .envs(clock.flat_map(FakeClock::environment))
            .env("USER_OTP__KAFKA__INSTANCE", name)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            .spawn()
            .expect("user-otp starts");
        // For whoever tidies up after a run that was ended in the middle.
        let _ = std::fs::write(self.dir.join(format!("{name}.pid")), child.id().to_string());
        instance.child = Some(child);
    }

    /// The present version, or at every other turn the other one.
    pub(crate) fn program(&self, turn: usize) -> &Path {
        match &self.other {
            Some(other) if turn % 2 == 1 => other,
            Some(_) | None => Path::new(env!("CARGO_BIN_EXE_user-otp")),
        }
    }

    /// SIGKILL, and gone.
    pub(crate) fn kill(&self, index: usize) {
        let child = self.lock(index).child.take();
        if let Some(mut child) = child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// SIGTERM, and its exit status; none: it did not end, and was killed.
    pub(crate) fn terminate(&self, index: usize) -> Option<ExitStatus> {
        let child = self.lock(index).child.take();
        let mut child = child?;
        signal(&child, Signal::SIGTERM);
        let (stop, until) = (Stop::default(), Instant::now() + END);
        while Instant::now() < until {
            if let Ok(Some(status)) = child.try_wait() {
                return Some(status);
            }
            stop.wait(Duration::from_millis(50));
        }
        let _ = child.kill();
        let _ = child.wait();
        None
    }

    /// SIGSTOP, or SIGCONT.
    pub(crate) fn signal(&self, index: usize, which: Signal) {
        if let Some(child) = &self.lock(index).child {
            signal(child, which);
        }
    }

    /// Where an instance listens for requests, if it does.
    pub(crate) fn port(&self, index: usize) -> Option<u16> {
        let mut instance = self.lock(index);
        instance.child.as_ref()?;
        if instance.port.is_none() {
            instance.port = instance.said(" HTTP port=");
        }
        instance.port
    }

    /// Where an instance says how it is.
    pub(crate) fn management_port(&self, index: usize) -> Option<u16> {
        self.lock(index).said(" management port=")
    }

    /// Numbers of requests that an instance printed.
    pub(crate) fn leaks(&self, is_number: impl Fn(&str) -> bool) -> usize {
        let logs = std::fs::read_dir(&self.dir).into_iter().flatten().flatten();
        let logs = logs.filter_map(|log| std::fs::read_to_string(log.path()).ok());
        logs.map(|log| {
            let runs = log.split(|character: char| !character.is_ascii_digit());
            runs.filter(|run| run.len() == 10 && is_number(run)).count()
        })
        .sum()
    }

    /// Whether each says that it has its partitions.
    pub(crate) fn is_ready(&self) -> bool {
        (0..NAMES.len()).all(|index| {
            let instance = self.lock(index);
            let said = std::fs::read_to_string(&instance.log).unwrap_or_default();
            instance.child.is_some() && said.contains("ready: ")
        })
    }

    /// Starts again what ends by itself, and writes it down, until `stop`.
    pub(crate) fn supervise(&self, stop: &Stop) {
        while stop.wait(Duration::from_millis(200)) {
            for (index, name) in NAMES.iter().enumerate() {
                let mut instance = self.lock(index);
                let status = instance.child.as_mut().map(Child::try_wait);
                let Some(Ok(Some(status))) = status else {
                    continue;
                };
                instance.child = None;
                let how = format!("{name} {status}, see {}", instance.log.display());
                drop(instance);
                eprintln!("ended by itself: {how}");
                let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
                ended.push(how);
                drop(ended);
                stop.wait(PAUSE);
                self.start_again(index);
            }
        }
    }
}

impl Instance {
    /// The port that follows `mark` in its log.
    fn said(&self, mark: &str) -> Option<u16> {
        let log = std::fs::read_to_string(&self.log).ok()?;
        log.lines().find_map(|line| {
            let (_, port) = line.split_once(mark)?;
            port.split(' ').next()?.trim().parse().ok()
        })
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        for index in 0..NAMES.len() {
            self.kill(index);
        }
    }
}

fn signal(child: &Child, signal: Signal) {
    if let Ok(pid) = i32::try_from(child.id()) {
        let _ = kill(Pid::from_raw(pid), signal);
    }
}
