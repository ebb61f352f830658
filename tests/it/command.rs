//! `user-otp` with a command that ends by itself: what it is given, what it says, its exit code.

use std::io::Write as _;
use std::process::{Child, Command, Output, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::world::World;

/// What became of a command.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) notes: String,
}

impl Ran {
    /// It ended well.
    #[track_caller]
    pub(crate) fn well(self) -> Self {
        assert_eq!(self.code, 0, "{self:?}");
        self
    }

    /// Standard output, line by line, each as JSON.
    #[track_caller]
    pub(crate) fn json_lines(&self) -> Vec<serde_json::Value> {
        let lines = self.out.lines();
        lines
            .map(|line| {
                serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"))
            })
            .collect()
    }
}

/// Runs it; nothing that it prints may hold a secret of the world.
#[track_caller]
pub(crate) fn run(world: &World, line: &str, input: &str) -> Ran {
    let ran = run_revealing(world, line, input);
    world.keep_output(line, &format!("{}{}", ran.out, ran.notes));
    ran
}

/// Runs it; what it prints is meant to be seen.
#[track_caller]
pub(crate) fn run_revealing(world: &World, line: &str, input: &str) -> Ran {
    let output = start(world, line, input).0.wait_with_output();
    let output = output.expect("it ends");
    let end = output.status;
    assert!(end.code().is_some(), "{line} ended by itself: {end}");
    ran(&output)
}

/// A command under way.
pub(crate) struct Running(Child);

impl Running {
    pub(crate) fn signal(&self, signal: Signal) {
        let id = Pid::from_raw(self.0.id().try_into().expect("an id"));
        kill(id, signal).expect("it is there");
    }

    /// What it said, and its exit code; -1 where it was killed.
    pub(crate) fn ended(self, world: &World) -> Ran {
        let output = self.0.wait_with_output().expect("it ends");
        let ran = ran(&output);
        world.keep_output("a command", &format!("{}{}", ran.out, ran.notes));
        ran
    }
}

/// Starts it.
#[track_caller]
pub(crate) fn start(world: &World, line: &str, input: &str) -> Running {
    start_with(world, &[], line, input)
}

/// Starts it under another account.
#[track_caller]
pub(crate) fn start_as(world: &World, user: &str, line: &str, input: &str) -> Running {
    start_with(world, &[("KAFKA__SASL_USERNAME", user)], line, input)
}

/// Starts it with more variables, without `USER_OTP__`; they win.
#[track_caller]
pub(crate) fn start_with(world: &World, more: &[(&str, &str)], line: &str, input: &str) -> Running {
    let mut child = command(world, more, line).spawn().expect("user-otp starts");
    let mut stdin = child.stdin.take().expect("its stdin is piped");
    // One that does not ask for it may have ended before it is written.
    let _ = stdin.write_all(input.as_bytes());
    Running(child)
}

/// Runs it where nobody reads what it says; its exit code.
#[track_caller]
pub(crate) fn run_unheard(world: &World, line: &str) -> Option<i32> {
    let mut command = command(world, &[], line);
    let mut child = command.spawn().expect("user-otp starts");
    drop((child.stdin.take(), child.stdout.take(), child.stderr.take()));
    child.wait().expect("it ends").code()
}

fn command(world: &World, more: &[(&str, &str)], line: &str) -> Command {
    let settings = [&[("LOG__LEVEL", "warn")], more].concat();
    let mut environment = world.environment("operator", &settings);
    environment.push(("USER".to_owned(), "asha".to_owned()));
    let mut command = Command::new(env!("CARGO_BIN_EXE_user-otp"));
    command
        .args(line.split_whitespace())
        .env_clear()
        .envs(environment)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn ran(output: &Output) -> Ran {
    Ran {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        notes: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}
