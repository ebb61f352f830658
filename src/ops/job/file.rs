//! A job about the rows of a file: each a request of its own, the bad ones reported.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::{Args, Parser};

use super::choice::{Sample, Skip};
use super::feed::{Feed, Stamp};
use super::plan::Plan;
use super::record::{JobRecord, Jobs, Kind};
use super::{Planned, Sending, Worker, id_of, is_new, new_record, source_is_free};
use crate::config::Config;
use crate::engine::output::Outgoing;
use crate::ops::Usage;
use crate::ops::rows::{Duplicates, Fate, Report, Row, RowRequest, Rows, digest, report_path};
use crate::ops::send::outgoing;
use crate::ops::terminal::Terminal;

/// Which file's requests to send, and how.
#[derive(Debug, Clone, Args)]
pub struct Resend {
    /// Requests: FILE.csv with the columns tenant, type and mobile, or FILE.ndjson.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Sends nothing where a row is bad.
    #[arg(long)]
    strict: bool,
    /// Where to say what became of each row; else FILE.report.csv.
    #[arg(long, value_name = "PATH")]
    report: Option<PathBuf>,
    #[command(flatten)]
    sending: Sending,
}

/// A job's options, read again from the job log.
#[derive(Parser)]
struct Line {
    #[command(flatten)]
    args: Resend,
}

/// `user-otp resend`. The exit code.
///
/// # Errors
///
/// In a sentence that says what to do.
pub async fn resend(
    config: &Config,
    args: &Resend,
    terminal: &mut Terminal<'_>,
) -> anyhow::Result<i32> {
    // A file that is none is told before Kafka is asked.
    let source = source_of(&args.file)?;
    let worker = Worker::start(config).await?;
    worker.begin_file(args, &source, terminal)
}

/// Goes on with one. The exit code.
///
/// # Errors
///
/// In a sentence that says what to do.
pub(super) fn resume(
    worker: &Worker<'_>,
    job: &JobRecord,
    terminal: &mut Terminal<'_>,
) -> anyhow::Result<i32> {
    let file = job.file.clone().unwrap_or_default();
    let words = [&job.job, &file].into_iter().chain(&job.args);
    let Line { args } = Line::try_parse_from(words).map_err(|_| {
        Usage("the job was begun by another version of user-otp: resume it with that one, or cancel it")
    })?;
    let source = source_of(&args.file)
        .with_context(|| format!("the job needs the file that it was begun with, {file}"))?;
    if source != job.source {
        bail!(
            "{file} is another file than the job {} was begun with: put that one back, or cancel the job",
            job.job
        );
    }
    let (steps, record, tail) = worker.take_up(job, terminal)?;
    let done = record.rows;
    let feed = |stamp| File::open(worker.config, &args, stamp, done);
    worker.work(steps, record, tail, &args.sending, feed, terminal)
}

fn source_of(file: &Path) -> anyhow::Result<String> {
    Ok(format!("sha256-{}", digest(file)?))
}

/// What a look through the rows came to.
struct Looked {
    rows: u64,
    skipped: BTreeMap<Skip, u64>,
    to_send: u64,
    sample: Vec<Sample>,
}

impl Worker<'_> {
    fn begin_file(
        &self,
        args: &Resend,
        source: &str,
        terminal: &mut Terminal<'_>,
    ) -> anyhow::Result<i32> {
        let looked = look(self.config, args)?;
        let pace = args.sending.pace();
        let bad = looked.skipped.get(&Skip::BadRow).copied().unwrap_or(0);
        let plan = Plan {
            job: id_of(Kind::Resend, &[source]),
            kind: Kind::Resend,
            source: args.file.display().to_string(),
            filter: String::new(),
            looked_at: looked.rows,
            matched: looked.rows,
            to_send: looked.to_send,
            skipped: Plan::skipping(&looked.skipped),
            rate: pace.rate,
            ahead: pace.ahead,
            takes_s: Plan::time(looked.to_send, pace),
            sample: looked.sample,
        };
        let record = JobRecord {
            source: source.to_owned(),
            file: Some(std::path::absolute(&args.file)?.display().to_string()),
            ..new_record(&plan, args.words()?, &args.sending, terminal)
        };
        if bad > 0 {
            let report = args.report_path();
            terminal.note(&format!(
                "user-otp: {bad} rows are bad: {} has their lines",
                report.display()
            ))?;
            if args.strict && args.sending.execute {
                bail!("nothing was sent: with --strict every row has to be right");
            }
        }
        if args.sending.execute {
            let jobs = Jobs::read(self.config, &self.connection)?;
            source_is_free(&jobs, source, terminal)?;
            is_new(&jobs, &record, terminal)?;
        }
        let planned = Planned {
            plan,
            skipped: looked.skipped,
            record,
        };
        let feed = |stamp| File::open(self.config, args, stamp, 0);
        self.plan_or_begin(planned, &args.sending, feed, terminal)
    }
}

/// Looks through all rows, and reports on each what would become of it.
fn look(config: &Config, args: &Resend) -> anyhow::Result<Looked> {
    let mut deciding = Deciding::open(config, args)?;
    let mut report = Report::create(&args.report_path())?;
    let mut looked = Looked {
        rows: 0,
        skipped: BTreeMap::new(),
        to_send: 0,
        sample: Vec::new(),
    };
    while let Some((row, decided)) = deciding.next()? {
        looked.rows += 1;
        match decided {
            Ok(()) => {
                looked.to_send += 1;
                if let (Ok(request), true) = (&row.content, looked.sample.len() < 3) {
                    let id = request.event_id().unwrap_or("of its own");
                    looked.sample.push(Sample::of_row(request.submission(), id));
                }
                report.write(&row, Fate::WouldSend)?;
            }
            Err(skip) => {
                *looked.skipped.entry(skip).or_default() += 1;
                report.write(&row, fate(&row, skip))?;
            }
        }
    }
    report.finish()?;
    Ok(looked)
}

fn fate(row: &Row, skip: Skip) -> Fate {
    match &row.content {
        Err(bad) => Fate::Bad(*bad),
        Ok(_) => Fate::Skipped(skip.as_str()),
    }
}

/// The rows, with what is to become of each: the same whenever the file is read.
struct Deciding {
    rows: Rows,
    duplicates: Duplicates,
}

impl Deciding {
    fn open(config: &Config, args: &Resend) -> anyhow::Result<Self> {
        Ok(Self {
            rows: Rows::open(&args.file)?.judged_as_configured(config),
            duplicates: Duplicates::new(),
        })
    }

    fn next(&mut self) -> anyhow::Result<Option<(Row, Result<(), Skip>)>> {
        let Some(row) = self.rows.next_row()? else {
            return Ok(None);
        };
        let decided = match &row.content {
            Err(_) => Err(Skip::BadRow),
            Ok(request) if self.duplicates.seen_before(request) => Err(Skip::DuplicatePerson),
            Ok(_) => Ok(()),
        };
        Ok(Some((row, decided)))
    }
}

/// The rows that a job sends.
pub(super) struct File {
    deciding: Deciding,
    report: Option<Report>,
    stamp: Stamp,
    rows: u64,
}

impl File {
    /// Stands after the first `done` rows, which are reported on again: a report that was cut short is whole.
    fn open(config: &Config, args: &Resend, stamp: Stamp, done: u64) -> anyhow::Result<Self> {
        let mut file = Self {
            deciding: Deciding::open(config, args)?,
            report: Some(Report::create(&args.report_path())?),
            stamp,
            rows: 0,
        };
        while file.rows < done && file.next()?.is_some() {}
        Ok(file)
    }
}

impl Feed for File {
    fn next(&mut self) -> anyhow::Result<Option<Option<Outgoing>>> {
        let Some((row, decided)) = self.deciding.next()? else {
            return Ok(None);
        };
        self.rows = row.number;
        let told = match decided {
            Ok(()) => Fate::Sent,
            Err(skip) => fate(&row, skip),
        };
        if let Some(report) = &mut self.report {
            report.write(&row, told)?;
        }
        let sent = row.content.ok().filter(|_| decided.is_ok());
        Ok(Some(sent.map(|one| self.stamp.first(&one, row.number))))
    }

    fn note(&self, record: &mut JobRecord) {
        record.rows = self.rows;
    }

    fn finish(&mut self) -> anyhow::Result<()> {
        if let Some(report) = self.report.take() {
            report.finish()?;
        }
        Ok(())
    }
}

impl Stamp {
    /// A row's request, as an upstream service would send it; its id is the same each time.
    fn first(&self, row: &RowRequest, number: u64) -> Outgoing {
        let own = || format!("{}-{number}", self.job);
        let event_id = row.event_id().map_or_else(own, str::to_owned);
        let mut request = outgoing(&self.jobs, row.submission(), &event_id);
        self.push(&mut request.headers, 1);
        request
    }
}

impl Resend {
    fn report_path(&self) -> PathBuf {
        self.report
            .clone()
            .unwrap_or_else(|| report_path(&self.file))
    }

    /// The options to go on with.
    fn words(&self) -> anyhow::Result<Vec<String>> {
        let report = std::path::absolute(self.report_path())?;
        let mut words = vec!["--report".to_owned(), report.display().to_string()];
        if self.strict {
            words.push("--strict".to_owned());
        }
        Ok(words)
    }
}
