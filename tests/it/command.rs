//! `user-otp` with a command that ends by itself: what it is given, what it says, its exit code.

use std::io::Write as _;
use std::process::{Command, Stdio};

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
    let mut environment = world.environment("operator", &[("LOG__LEVEL", "warn")]);
    environment.push(("USER".to_owned(), "asha".to_owned()));
    let mut child = Command::new(env!("CARGO_BIN_EXE_user-otp"))
        .args(line.split_whitespace())
        .env_clear()
        .envs(environment)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("user-otp starts");
    let mut stdin = child.stdin.take().expect("its stdin is piped");
    // One that does not ask for it may have ended before it is written.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    let output = child.wait_with_output().expect("it ends");
    Ran {
        code: output.status.code().expect("it was not killed"),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        notes: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}
