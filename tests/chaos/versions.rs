//! Two versions side by side: each resumes what the other has begun. That the instances understand each
//! other's offsets, metadata and headers is what the rest of a run shows.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::chance::Stop;
use crate::fleet::Fleet;

/// For each step of a job.
const PATIENCE: Duration = Duration::from_secs(180);

/// Exit codes of a job that was interrupted, and of one that has sent everything.
const PAUSED: i32 = 16;
const SENT: [i32; 2] = [0, 17];

/// A job of each version is begun, interrupted, resumed by the other version, and listed by both.
pub(crate) fn jobs(fleet: &Fleet, environment: &[(String, String)]) -> Result<(), String> {
    for turn in 0..2 {
        let begins = Program(fleet.program(turn), environment);
        let resumes = Program(fleet.program(turn + 1), environment);
        let replay = "replay --topic egov.core.otp.request --from 6h --to 1s --limit 40 --rate 2 --yes \
                      --even-published --ignore-health --execute --output ndjson --reason";
        let mut words: Vec<&str> = replay.split_whitespace().collect();
        words.push("two versions side by side");
        let mut running = begins.start(&words);
        let begun = resumes.wait_for_job(|job| {
            job["standing"] == "running"
                && job["counts"]["sent"].as_u64().is_some_and(|sent| sent > 0)
        });
        let pid = i32::try_from(running.0.id()).map_err(|error| error.to_string())?;
        kill(Pid::from_raw(pid), Signal::SIGINT).map_err(|error| error.to_string())?;
        running.ended(&[PAUSED])?;
        let id = begun?;
        let mut resumed = resumes.start(&["job", "resume", &id]);
        resumed.ended(&SENT)?;
        begins.wait_for_job(|job| job["job"] == *id && job["standing"] == "finished")?;
        resumes.wait_for_job(|job| job["job"] == *id && job["standing"] == "finished")?;
        eprintln!(
            "{id}: begun by {}, resumed by {}",
            begins.0.display(),
            resumes.0.display()
        );
    }
    Ok(())
}

struct Program<'a>(&'a Path, &'a [(String, String)]);

impl Program<'_> {
    fn start(&self, words: &[&str]) -> Running {
        let child = Command::new(self.0)
            .args(words)
            .env_clear()
            .envs(self.1.iter().cloned())
            .env("USER_OTP__KAFKA__INSTANCE", "jobs")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn();
        Running(child.expect("user-otp starts"))
    }

    /// Lists the jobs until one is as it should be; its id.
    fn wait_for_job(&self, is_it: impl Fn(&Value) -> bool) -> Result<String, String> {
        let (begin, pause) = (Instant::now(), Stop::default());
        loop {
            let listed = Command::new(self.0)
                .args(["job", "ls", "--output", "ndjson"])
                .env_clear()
                .envs(self.1.iter().cloned())
                .output()
                .expect("user-otp starts");
            let text = String::from_utf8_lossy(&listed.stdout);
            let jobs = text
                .lines()
                .filter_map(|line| serde_json::from_str::<Value>(line).ok());
            if let Some(job) = jobs.into_iter().find(|job| is_it(job)) {
                return Ok(job["job"].as_str().unwrap_or_default().to_owned());
            }
            if begin.elapsed() > PATIENCE {
                let said = String::from_utf8_lossy(&listed.stderr);
                return Err(format!("{} lists {text} {said}", self.0.display()));
            }
            pause.wait(Duration::from_millis(500));
        }
    }
}

/// A command; gone when dropped.
struct Running(Child);

impl Running {
    /// Waits for its end, with one of these exit codes.
    fn ended(&mut self, codes: &[i32]) -> Result<(), String> {
        let (begin, pause) = (Instant::now(), Stop::default());
        while begin.elapsed() < PATIENCE {
            if let Some(status) = self.0.try_wait().map_err(|error| error.to_string())? {
                let is_right = status.code().is_some_and(|code| codes.contains(&code));
                let wrong = format!("a job ended with {status}, and not with one of {codes:?}");
                return is_right.then_some(()).ok_or(wrong);
            }
            pause.wait(Duration::from_millis(100));
        }
        Err("a job does not end".to_owned())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
