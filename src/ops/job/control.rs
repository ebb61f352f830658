//! `user-otp job`: jobs that there are, and what becomes of those that were interrupted.

use anyhow::bail;
use clap::Subcommand;
use serde::Serialize;

use super::record::{JobRecord, Jobs, Kind, State};
use super::{Worker, begin, file, not_there, stored};
use crate::clock::{Clock, EpochMs};
use crate::config::Config;
use crate::engine::jobs::Steps;
use crate::engine::tail::Tail;
use crate::ops::moment::rfc3339;
use crate::ops::shown::{Lean, Output, harmless, table};
use crate::ops::terminal::Terminal;

/// What is to be done.
#[derive(Debug, Subcommand)]
pub enum Action {
    /// Lists jobs, the latest first.
    #[command(after_help = "Examples:\n  \
        user-otp job ls\n  \
        user-otp job ls --output ndjson | jq .reason")]
    Ls {
        /// For people, or for programs.
        #[arg(long, value_enum, default_value_t)]
        output: Output,
    },
    /// Goes on with a job where it was; takes it over where it runs elsewhere.
    #[command(after_help = "Example:\n  user-otp job resume redrive-8f14e45fce")]
    Resume {
        /// Which one.
        id: String,
    },
    /// Leaves the rest of a job; what was sent stays sent.
    #[command(after_help = "Example:\n  user-otp job cancel redrive-8f14e45fce")]
    Cancel {
        /// Which one.
        id: String,
    },
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Listed<'a> {
    standing: &'static str,
    #[serde(flatten)]
    job: &'a JobRecord,
}

/// Does it. The exit code.
///
/// # Errors
///
/// In a sentence that says what to do.
pub async fn run(
    config: &Config,
    action: &Action,
    terminal: &mut Terminal<'_>,
) -> anyhow::Result<i32> {
    let worker = Worker::start(config).await?;
    let jobs = Jobs::read(config, &worker.connection)?;
    match action {
        Action::Ls { output } => {
            list(&jobs, *output, terminal)?;
            Ok(0)
        }
        Action::Resume { id } => {
            let Some(job) = jobs.get(id) else {
                return not_there(id, terminal);
            };
            still_open(job, terminal.now)?;
            match job.kind {
                Kind::Redrive | Kind::Replay => stored::resume(&worker, job, terminal).await,
                Kind::Resend => file::resume(&worker, job, terminal),
            }
        }
        Action::Cancel { id } => {
            let Some(job) = jobs.get(id) else {
                return not_there(id, terminal);
            };
            still_open(job, terminal.now)?;
            worker.cancel(job, terminal)
        }
    }
}

fn still_open(job: &JobRecord, now: EpochMs) -> anyhow::Result<()> {
    if job.state.is_open() {
        return Ok(());
    }
    bail!(
        "job {} is {}: {} of {} sent",
        job.job,
        job.standing(now),
        job.counts.sent,
        job.planned
    )
}

impl Worker<'_> {
    /// Takes a job's source over, and what it put down last.
    pub(super) fn take_up(
        &self,
        job: &JobRecord,
        terminal: &Terminal<'_>,
    ) -> anyhow::Result<(Steps, JobRecord, Tail)> {
        let (steps, last, jobs) = self.take_over(job, terminal)?;
        jobs.check_last_word(&job.job)?;
        let begun = EpochMs(last.started_at_ms).minus(std::time::Duration::from_secs(600));
        let tail = Tail::since(&self.connection, &self.config.topics.outcomes, begun)?;
        Ok((steps, last, tail))
    }

    fn take_over(
        &self,
        job: &JobRecord,
        terminal: &Terminal<'_>,
    ) -> anyhow::Result<(Steps, JobRecord, Jobs)> {
        let steps = self.take(job)?;
        // Whoever had it cannot write any more: this is its last word.
        let jobs = Jobs::read(self.config, &self.connection)?;
        let last = jobs.get(&job.job).unwrap_or(job).clone();
        still_open(&last, terminal.now)?;
        Ok((steps, last, jobs))
    }

    fn cancel(&self, job: &JobRecord, terminal: &mut Terminal<'_>) -> anyhow::Result<i32> {
        let (mut steps, last, _) = self.take_over(job, terminal)?;
        let cancelled = JobRecord {
            state: State::Cancelled,
            by: terminal.operator.clone(),
            at_ms: Clock::system().now().0,
            sequence: last.sequence + 1,
            ..last
        };
        begin(&mut steps, cancelled.outgoing(&self.config.topics.job_log)?)?;
        terminal.note(&format!(
            "user-otp: job {} is cancelled: {} of {} were sent, and stay so",
            cancelled.job, cancelled.counts.sent, cancelled.planned
        ))?;
        Ok(0)
    }
}

fn list(jobs: &Jobs, output: Output, terminal: &mut Terminal<'_>) -> anyhow::Result<()> {
    let now = terminal.now;
    let all = jobs.latest_first();
    let listed: Vec<Listed<'_>> = all
        .iter()
        .map(|job| Listed {
            standing: job.standing(now),
            job,
        })
        .collect();
    if output == Output::Ndjson {
        return listed
            .iter()
            .try_for_each(|one| terminal.show(output, one, |_| String::new()));
    }
    terminal.show(output, &listed, |paint| {
        let rows: Vec<Vec<String>> = listed.iter().map(row).collect();
        let columns = [
            ("JOB", Lean::Left),
            ("STANDS", Lean::Left),
            ("SENT", Lean::Right),
            ("PLANNED", Lean::Right),
            ("BEGAN", Lean::Left),
            ("FROM", Lean::Left),
            ("REASON", Lean::Left),
            ("BY", Lean::Left),
        ];
        table(&columns, &rows, paint)
    })
}

fn row(listed: &Listed<'_>) -> Vec<String> {
    let job = listed.job;
    vec![
        job.job.clone(),
        listed.standing.to_owned(),
        job.counts.sent.to_string(),
        job.planned.to_string(),
        rfc3339(EpochMs(job.started_at_ms)),
        harmless(job.file.as_ref().unwrap_or(&job.source)),
        harmless(&job.reason),
        harmless(&job.by),
    ]
}
