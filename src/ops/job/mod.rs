//! Jobs: requests that are sent again, from the dead letters, from a window of a topic or from a file. Each
//! shows a plan first, and sends with `--execute`: each exactly once, whatever ends it in the middle.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::bail;
use clap::Args;
use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::task::TaskTracker;

use self::choice::Skip;
use self::copy::{Copy, Pace};
use self::feed::{Feed, Stamp};
use self::plan::Plan;
use self::progress::Progress;
use self::record::{Counts, JobRecord, Jobs, Kind, State};
use self::watch::{Ended, Watch};
use super::shown::{Output, without_numbers};
use super::terminal::Terminal;
use super::{EXIT_NOT_FOUND, Usage, run as start};
use crate::clock::Clock;
use crate::config::Config;
use crate::engine::clients::Connection;
use crate::engine::jobs::Steps;
use crate::engine::tail::Tail;
use crate::service;
use crate::topics::Role;

mod choice;
pub mod control;
mod copy;
mod feed;
pub mod file;
mod health;
mod plan;
mod progress;
mod record;
pub mod stored;
mod watch;

/// A job was told to stop before it had sent everything.
pub const EXIT_PAUSED: i32 = 16;

/// Everything was sent, and not all of it has ended as published.
pub const EXIT_NOT_ALL_PUBLISHED: i32 = 17;

/// How a job sends, if it may.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Sending")]
pub struct Sending {
    /// Sends; without it there is a plan alone.
    #[arg(long, requires = "reason")]
    execute: bool,
    /// Why, for the audit record.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Requests a second; 0: as fast as they are finished.
    #[arg(long, value_name = "COUNT", default_value_t = 50)]
    rate: u32,
    /// Sent and not finished, at most.
    #[arg(long, value_name = "COUNT", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..))]
    ahead: u32,
    /// For people, or for programs.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

impl Sending {
    fn pace(&self) -> Pace {
        Pace {
            rate: self.rate,
            ahead: self.ahead,
        }
    }

    /// A plan alone is one document; with what came of it there are two, each in a line.
    fn shown(&self) -> Output {
        match self.output {
            Output::Json if self.execute => Output::Ndjson,
            output @ (Output::Table | Output::Json | Output::Ndjson) => output,
        }
    }

    /// The options to go on with.
    fn words(&self) -> Vec<String> {
        let rate = ["--rate".to_owned(), self.rate.to_string()];
        let ahead = ["--ahead".to_owned(), self.ahead.to_string()];
        rate.into_iter().chain(ahead).collect()
    }
}

/// A job that is known, planned, and not begun here.
struct Planned {
    plan: Plan,
    skipped: BTreeMap<Skip, u64>,
    /// All that the job log is to have of it.
    record: JobRecord,
}

/// How a job that is worked at ended here.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    job: String,
    state: State,
    counts: Counts,
    /// The outcomes of what it sent.
    ended: Ended,
    /// Sent, and without an outcome yet.
    open: u64,
}

/// What works at jobs.
struct Worker<'a> {
    config: &'a Config,
    connection: Connection,
    /// What the jobs topic and the job log take of one record, in bytes.
    largest: usize,
    interrupted: Arc<AtomicBool>,
}

impl<'a> Worker<'a> {
    /// Connects; also listens for whoever wants it to stop.
    async fn start(config: &'a Config) -> anyhow::Result<Self> {
        let admin = start::reach(config).await?;
        let (jobs, job_log) = (&config.topics.jobs, &config.topics.job_log);
        let found = admin.found(&[jobs.clone(), job_log.clone()]).await?;
        let largest = |name, role| service::largest_record(&found, name, role);
        let largest = largest(jobs, Role::Jobs).min(largest(job_log, Role::JobLog));
        let interrupted = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&interrupted);
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        TaskTracker::new().spawn(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            told.store(true, Ordering::Relaxed);
        });
        Ok(Self {
            config,
            connection: service::connection(config),
            largest,
            interrupted,
        })
    }

    fn is_interrupted(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed)
    }

    /// Shows the plan; where it is to be executed, does it. The exit code.
    fn plan_or_begin<F: Feed>(
        &self,
        planned: Planned,
        sending: &Sending,
        feed: impl FnOnce(Stamp) -> anyhow::Result<F>,
        terminal: &mut Terminal<'_>,
    ) -> anyhow::Result<i32> {
        planned.show(sending, terminal)?;
        if !sending.execute {
            if sending.output == Output::Table && planned.plan.to_send > 0 {
                terminal.note(
                    "user-otp: this is a plan: nothing was sent. To send: the same with --execute --reason TEXT",
                )?;
            }
            return Ok(0);
        }
        if planned.plan.to_send == 0 {
            terminal.note("user-otp: there is nothing to send")?;
            return Ok(0);
        }
        let record = planned.record;
        let mut steps = self.take(&record)?;
        let jobs = Jobs::read(self.config, &self.connection)?;
        source_is_free(&jobs, &record.source, terminal)?;
        is_new(&jobs, &record, terminal)?;
        let tail = Tail::open(&self.connection, &self.config.topics.outcomes)?;
        // The job is there before its first request is.
        let first = record.outgoing(&self.config.topics.job_log)?;
        begin(&mut steps, first)?;
        self.work(steps, record, tail, sending, feed, terminal)
    }

    /// From then on nobody else sends from this source.
    fn take(&self, record: &JobRecord) -> anyhow::Result<Steps> {
        let deadline = Instant::now() + self.config.kafka.startup_timeout;
        Ok(Steps::open(
            &self.connection,
            &record.source,
            self.largest,
            deadline,
        )?)
    }

    fn work<F: Feed>(
        &self,
        steps: Steps,
        record: JobRecord,
        tail: Tail,
        sending: &Sending,
        feed: impl FnOnce(Stamp) -> anyhow::Result<F>,
        terminal: &mut Terminal<'_>,
    ) -> anyhow::Result<i32> {
        let job = record.job.clone();
        terminal.note(&format!(
            "user-otp: job {job} sends {} requests; Ctrl-C pauses it, and whatever ends it: user-otp job resume {job}",
            record.planned - record.counts.sent.min(record.planned)
        ))?;
        let stamp = Stamp {
            jobs: self.config.topics.jobs.clone(),
            job: job.clone(),
            by: record.by.clone(),
            reason: record.reason.clone(),
        };
        let watch = Watch::start(tail, job)?;
        let mut progress = Progress::of(&record);
        let copy = Copy {
            config: self.config,
            connection: &self.connection,
            feed: feed(stamp)?,
            steps,
            watch: &watch,
            pace: sending.pace(),
            interrupted: &|| self.is_interrupted(),
            record,
        };
        let last = copy.run(&mut progress);
        progress.end();
        let last = last?;
        let mut progress = Progress::of(&last);
        if last.state == State::Finished {
            self.wait_for_outcomes(&last, &watch, &mut progress)?;
        }
        progress.end();
        report(&last, watch.ended()?, sending, terminal)
    }

    /// Until each has ended, or could not any more.
    fn wait_for_outcomes(
        &self,
        last: &JobRecord,
        watch: &Watch,
        progress: &mut Progress,
    ) -> anyhow::Result<()> {
        const AFTERWARDS: Duration = Duration::from_secs(30);
        let deadline = Instant::now() + self.config.request.lifetime + AFTERWARDS;
        while watch.total() < last.counts.sent
            && Instant::now() < deadline
            && !self.is_interrupted()
        {
            progress.show(last, &watch.ended()?);
            std::thread::park_timeout(Duration::from_millis(20));
        }
        Ok(())
    }
}

/// Writes a job's first record.
fn begin(steps: &mut Steps, first: crate::engine::output::Outgoing) -> anyhow::Result<()> {
    use crate::engine::jobs::Step;
    const PATIENCE: Duration = Duration::from_secs(20);
    match steps.write(&[first], PATIENCE)? {
        Step::Committed => Ok(()),
        Step::Topic(topic) => {
            bail!(
                "nothing was sent: the topic {topic} is missing, or we may not write to it: grant Write on it; \
                 `user-otp topics plan` says what is there"
            )
        }
        Step::TakenOver => {
            bail!("another process has just begun a job on the same source: `user-otp job ls`")
        }
        Step::Aborted | Step::Unknown | Step::NeverTaken(_) => {
            bail!("Kafka did not take the job's first record: nothing was sent; try again")
        }
    }
}

/// That no other job is about this source.
fn source_is_free(jobs: &Jobs, source: &str, terminal: &Terminal<'_>) -> anyhow::Result<()> {
    if let Some(open) = jobs.open_on(source) {
        let id = &open.job;
        bail!(
            "job {id} on {} is {} ({} of {} sent, by {}): one at a time. `user-otp job resume {id}` goes on with it, \
             `user-otp job cancel {id}` leaves the rest",
            open.source,
            open.standing(terminal.now),
            open.counts.sent,
            open.planned,
            open.by
        );
    }
    Ok(())
}

/// That the job was not there before.
fn is_new(jobs: &Jobs, record: &JobRecord, terminal: &Terminal<'_>) -> anyhow::Result<()> {
    if let Some(done) = jobs.get(&record.job) {
        bail!(
            "job {} is {}, with {} sent by {}: what it has sent is not sent again. `user-otp job ls` has it",
            done.job,
            done.standing(terminal.now),
            done.counts.sent,
            done.by
        );
    }
    Ok(())
}

fn report(
    last: &JobRecord,
    ended: Ended,
    sending: &Sending,
    terminal: &mut Terminal<'_>,
) -> anyhow::Result<i32> {
    let total: u64 = ended.values().sum();
    let report = Report {
        job: last.job.clone(),
        state: last.state,
        counts: last.counts.clone(),
        open: last.counts.sent.saturating_sub(total),
        ended,
    };
    terminal.show(sending.shown(), &report, |_| report.text(last.planned))?;
    if last.state == State::Paused {
        terminal.note(&format!(
            "user-otp: paused; to go on: user-otp job resume {}",
            last.job
        ))?;
        return Ok(EXIT_PAUSED);
    }
    let published = report.ended.get("published").copied().unwrap_or(0);
    Ok(
        if published == last.counts.sent && last.counts.refused == 0 {
            0
        } else {
            EXIT_NOT_ALL_PUBLISHED
        },
    )
}

impl Report {
    fn text(&self, planned: u64) -> String {
        let mut lines = vec![format!("{:>9} of {planned} sent", self.counts.sent)];
        for (outcome, count) in &self.ended {
            lines.push(format!("{count:>9} {outcome}"));
        }
        if self.counts.refused > 0 {
            lines.push(format!(
                "{:>9} too large for the topic of jobs",
                self.counts.refused
            ));
        }
        if self.open > 0 {
            lines.push(format!("{:>9} without an outcome yet", self.open));
        }
        lines.join("\n") + "\n"
    }
}

impl Planned {
    fn show(&self, sending: &Sending, terminal: &mut Terminal<'_>) -> anyhow::Result<()> {
        terminal.show(sending.shown(), &self.plan, |paint| {
            self.plan.text(&self.skipped, paint)
        })
    }
}

/// The first record of a job that was just planned.
fn new_record(
    plan: &Plan,
    args: Vec<String>,
    sending: &Sending,
    terminal: &Terminal<'_>,
) -> JobRecord {
    let reason = sending.reason.as_deref().unwrap_or_default();
    let now = Clock::system().now().0;
    JobRecord {
        job: plan.job.clone(),
        kind: plan.kind,
        state: State::Running,
        source: plan.source.clone(),
        file: None,
        args: args.into_iter().chain(sending.words()).collect(),
        by: terminal.operator.clone(),
        reason: without_numbers(reason),
        started_at_ms: now,
        at_ms: now,
        sequence: 0,
        planned: plan.to_send,
        skipped: plan
            .skipped
            .iter()
            .map(|(word, count)| ((*word).to_owned(), *count))
            .collect(),
        ends: BTreeMap::new(),
        position: BTreeMap::new(),
        rows: 0,
        counts: Counts::default(),
    }
}

/// A job's id: the same command about the same records has the same.
fn id_of(kind: Kind, parts: &[&str]) -> String {
    use sha2::{Digest as _, Sha256};
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    let digest = crate::engine::headers::hex(&hash.finalize()[..5]);
    format!("{}-{digest}", kind.as_str())
}

/// There is no such job.
fn not_there(id: &str, terminal: &mut Terminal<'_>) -> anyhow::Result<i32> {
    terminal.note(&format!(
        "user-otp: there is no job {id}: `user-otp job ls` shows those there are"
    ))?;
    Ok(EXIT_NOT_FOUND)
}

const NO_FILTER: Usage = Usage(
    "without any filter everything on the topic is meant: say --yes as well, or narrow it down, as with --since 2h",
);
