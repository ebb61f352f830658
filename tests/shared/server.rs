//! A real Redis of a test's own, for what cannot be done to a shared one: kill it, freeze it.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::frozen::freeze;
use crate::port::Port;

const DEADLINE: Duration = Duration::from_secs(30);

/// Debian's `redis-server`, on a free port, without a disk; gone when dropped.
pub(crate) struct Redis {
    port: Port,
    child: Child,
    dir: TempDir,
    options: Vec<String>,
}

impl Redis {
    pub(crate) fn start() -> Self {
        Self::with(&[])
    }

    /// With more options.
    pub(crate) fn with(options: &[String]) -> Self {
        let dir = TempDir::new().expect("a folder");
        let port = Port::reserve();
        let mut child = spawn(port.number(), &dir, options);
        assert!(answers(port.number(), &mut child), "redis-server starts");
        Self {
            port,
            child,
            dir,
            options: options.to_vec(),
        }
    }

    /// As `limits.redis` has it.
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port.number())
    }

    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// At the same address, with nothing in it.
    pub(crate) fn start_again(&mut self) {
        self.kill();
        self.child = spawn(self.port.number(), &self.dir, &self.options);
        assert!(
            answers(self.port.number(), &mut self.child),
            "it starts again"
        );
    }

    pub(crate) fn freeze(&self) {
        freeze(self.pid());
    }

    pub(crate) fn thaw(&self) {
        kill(self.pid(), Signal::SIGCONT).expect("it is our child");
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).expect("a process id"))
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
    }
}

fn spawn(port: u16, dir: &TempDir, options: &[String]) -> Child {
    Command::new("redis-server")
        .args(["--bind", "127.0.0.1", "--port", &port.to_string()])
        .args(["--save", "", "--appendonly", "no", "--dir"])
        .arg(dir.path())
        .args(options)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("redis-server is there: scripts/test installs it")
}

/// Waits for an answer; false: it has ended.
fn answers(port: u16, child: &mut Child) -> bool {
    let deadline = Instant::now() + DEADLINE;
    while Instant::now() < deadline {
        if let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) {
            let mut answer = [0; 5];
            let asked = stream.write_all(b"PING\r\n");
            if asked.and_then(|()| stream.read_exact(&mut answer)).is_ok() && answer == *b"+PONG" {
                return true;
            }
        }
        if child.try_wait().is_ok_and(|ended| ended.is_some()) {
            return false;
        }
        std::thread::yield_now();
    }
    false
}
