//! `user-otp run` as the operating system sees it: environment, two pipes, signals, exit status;
//! and as a probe does, on its management port.

use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::frozen::freeze;
use crate::kafka::{wait_for, wait_until};

/// Everything a process has printed so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Output(Arc<Mutex<String>>);

impl Output {
    pub(crate) fn of(text: &str) -> Self {
        Self(Arc::new(Mutex::new(text.to_owned())))
    }

    pub(crate) fn text(&self) -> String {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(crate) fn has_line(&self, holds: impl Fn(&str) -> bool) -> bool {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .lines()
            .any(holds)
    }

    /// Follows a pipe until it closes.
    fn follow(&self, pipe: impl Read + Send + 'static) -> JoinHandle<()> {
        let output = self.clone();
        std::thread::spawn(move || {
            let mut lines = BufReader::new(pipe);
            let mut line = Vec::new();
            while lines
                .read_until(b'\n', &mut line)
                .is_ok_and(|read| read > 0)
            {
                let mut text = output.0.lock().unwrap_or_else(PoisonError::into_inner);
                text.push_str(&String::from_utf8_lossy(&line));
                line.clear();
            }
        })
    }
}

/// A running `user-otp run`; killed when dropped.
pub(crate) struct Process {
    pub(crate) name: String,
    child: Child,
    pub(crate) output: Output,
    followers: Vec<JoinHandle<()>>,
    /// What it has to have done when it is dropped while it runs.
    at_the_end: Option<AtTheEnd>,
}

/// What is asked of a process before it is dropped.
pub(crate) type AtTheEnd = Box<dyn FnOnce(&Process) + Send + Sync>;

impl Process {
    /// Starts it with nothing but these variables.
    pub(crate) fn spawn(name: &str, environment: &[(String, String)]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_user-otp"))
            .arg("run")
            .env_clear()
            .envs(environment.iter().map(|(key, value)| (key, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("user-otp starts");
        let output = Output::default();
        let stdout = child.stdout.take().expect("its stdout is piped");
        let stderr = child.stderr.take().expect("its stderr is piped");
        let followers = vec![output.follow(stdout), output.follow(stderr)];
        Self {
            name: name.to_owned(),
            child,
            output,
            followers,
            at_the_end: None,
        }
    }

    /// Asks this of it if it still runs when it is dropped.
    pub(crate) fn at_the_end(&mut self, ask: AtTheEnd) {
        self.at_the_end = Some(ask);
    }

    /// Until it says that it has its partitions.
    #[track_caller]
    pub(crate) fn wait_ready(&mut self) {
        wait_until("the process says ready", || {
            if let Ok(Some(status)) = self.child.try_wait() {
                panic!(
                    "{} ended ({status}) before it was ready:\n{}",
                    self.name,
                    self.output.text()
                );
            }
            self.is_ready()
        });
    }

    /// Where it listens for requests, once it does.
    #[track_caller]
    pub(crate) fn http_port(&self) -> u16 {
        wait_for("the process listens", || {
            let said = self.output.text();
            let port = said.lines().find_map(|line| {
                let (_, port) = line.split_once(" HTTP port=")?;
                port.split(' ').next()?.parse().ok()
            });
            port.ok_or("it does not")
        })
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.output.has_line(|line| line.contains("ready: "))
    }

    /// What the management port answers: the status, and the body.
    #[track_caller]
    pub(crate) fn get(&self, path: &str) -> (u16, String) {
        let port = self.management_port().expect("it listens");
        fetch(port, path).expect("the management port answers")
    }

    /// The same, of a process that may not answer.
    pub(crate) fn try_get(&self, path: &str) -> Option<(u16, String)> {
        fetch(self.management_port()?, path)
    }

    pub(crate) fn management_port(&self) -> Option<u16> {
        const MARK: &str = "management port=";
        let text = self.output.text();
        let line = text.lines().find(|line| line.contains(MARK))?;
        let (_, port) = line.split_once(MARK)?;
        port.trim().parse().ok()
    }

    /// What it shows at the end counts as printed: no secret may be in it.
    fn keep_pages(&mut self) {
        if !self.is_running() {
            return;
        }
        let Some(port) = self.management_port() else {
            return;
        };
        for path in ["/metrics", "/health/live", "/health/ready"] {
            // One that stands still does not answer.
            let Some((_, body)) = fetch(port, path) else {
                return;
            };
            let mut text = self.output.0.lock().unwrap_or_else(PoisonError::into_inner);
            text.push_str(&without_values(&body));
        }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("it is our child").is_none()
    }

    /// SIGKILL, and gone.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        self.wait();
    }

    /// SIGTERM, and its exit status.
    #[track_caller]
    pub(crate) fn terminate(&mut self) -> ExitStatus {
        self.signal(Signal::SIGTERM);
        self.wait_ended()
    }

    /// SIGSTOP: it stands still and does not know.
    pub(crate) fn freeze(&self) {
        freeze(self.pid());
    }

    /// SIGCONT.
    pub(crate) fn thaw(&self) {
        self.signal(Signal::SIGCONT);
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).expect("it is our child");
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.id()).expect("a process id"))
    }

    /// Until it has ended by itself.
    #[track_caller]
    pub(crate) fn wait_ended(&mut self) -> ExitStatus {
        wait_until("the process has ended", || !self.is_running());
        self.wait()
    }

    fn wait(&mut self) -> ExitStatus {
        let status = self.child.wait().expect("it is our child");
        for follower in self.followers.drain(..) {
            follower.join().expect("a follower does not panic");
        }
        status
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(ask) = self.at_the_end.take()
            && !std::thread::panicking()
            && self.is_running()
        {
            ask(self);
        }
        self.keep_pages();
        self.kill();
    }
}

fn fetch(port: u16, path: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(2))).ok()?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: management\r\nConnection: close\r\n\r\n"
    )
    .ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some((status, body.to_owned()))
}

/// Samples without their values: a sum of seconds may look like an OTP.
fn without_values(page: &str) -> String {
    let kept = page.lines().map(|line| {
        let sample = line.starts_with("user_otp_");
        let name = line.rsplit_once(' ').filter(|_| sample);
        name.map_or(line, |(name, _)| name)
    });
    kept.flat_map(|line| [line, "\n"]).collect()
}
