//! What jobs cost: a plan over many dead letters, how fast they are redriven, and what a backlog on the jobs
//! topic does to live requests.

use std::io::Read as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};

use crate::Bench;
use crate::contender::{Contender, Kind, pause};
use crate::figures::{self, Figure, Table};
use crate::load::{Load, PEOPLE};

/// Live requests a second beside a backlog: the live ones are what is measured, not the throughput.
const LIVE: u32 = 100;

/// A command that takes longer is given up.
const PATIENCE: Duration = Duration::from_secs(600);

impl Bench {
    pub(crate) fn jobs(&self, kind: Kind, table: &mut Table) -> anyhow::Result<()> {
        use Figure::{
            JobFirstLine, JobPlan, JobPlanMemory, LiveAloneMedian, LiveAloneP99, LiveBesideMedian,
            LiveBesideP99, Redrive,
        };
        if self.wants(&[JobPlan, JobPlanMemory, JobFirstLine]) {
            self.plan_of_a_redrive(kind, table)?;
        }
        if self.wants(&[Redrive]) {
            self.redrive(kind, table)?;
        }
        let alone = [LiveAloneMedian, LiveAloneP99];
        let beside = [LiveBesideMedian, LiveBesideP99];
        if self.wants(&alone) || self.wants(&beside) {
            self.live(kind, alone, 0, table)?;
            self.live(kind, beside, self.plan.waiting, table)?;
        }
        Ok(())
    }

    /// As many dead letters as there are outcomes of them.
    fn plan_of_a_redrive(&self, kind: Kind, table: &mut Table) -> anyhow::Result<()> {
        let load = Load::new(&self.args.broker, 8)?;
        let contender = self.start(kind, &load, &self.at_once)?;
        load.dead_letters(self.plan.waiting)?;
        let ran = self.command(kind, &contender, &["dlq", "redrive"])?;
        ensure!(ran.code == 0, "the plan ended with {}", ran.code);
        table.add(
            Figure::JobFirstLine,
            kind,
            ran.first_line.as_secs_f64() * 1e3,
        );
        table.add(Figure::JobPlan, kind, ran.took.as_secs_f64());
        table.add(Figure::JobPlanMemory, kind, ran.peak);
        contender.end()
    }

    /// From the first message that comes of it to the last.
    fn redrive(&self, kind: Kind, table: &mut Table) -> anyhow::Result<()> {
        let load = Load::new(&self.args.broker, 8)?;
        let contender = self.start(kind, &load, &self.at_once)?;
        self.warm_up(&load)?;
        let count = self.plan.burst.min(PEOPLE);
        load.dead_letters(count)?;
        let line = [
            "dlq",
            "redrive",
            "--yes",
            "--execute",
            "--reason",
            "bench",
            "--rate",
            "0",
        ];
        let rate = load.rate_of(count, || {
            let ran = self.command(kind, &contender, &line)?;
            ensure!(ran.code == 0, "the redrive ended with {}", ran.code);
            Ok(())
        })?;
        table.add(Figure::Redrive, kind, rate);
        contender.end()
    }

    fn live(
        &self,
        kind: Kind,
        figures: [Figure; 2],
        jobs: u32,
        table: &mut Table,
    ) -> anyhow::Result<()> {
        let load = Load::new(&self.args.broker, 8)?;
        let contender = self.start(kind, &load, &self.slow)?;
        self.warm_up(&load)?;
        if jobs > 0 {
            load.jobs(jobs)?;
        }
        let latencies = load.open_loop_beside_jobs(LIVE, self.plan.seconds)?;
        for (figure, percent) in figures.into_iter().zip([50, 99]) {
            let value = figures::percentile(&latencies, percent);
            table.add(figure, kind, value);
        }
        contender.end()
    }

    /// Runs a command with the settings of `contender`.
    fn command(&self, kind: Kind, contender: &Contender, line: &[&str]) -> anyhow::Result<Ran> {
        let mut command = Command::new(self.programs.of(kind));
        command
            .args(line)
            .env_clear()
            .envs(contender.settings())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let begun = Instant::now();
        let mut child = command.spawn()?;
        let mut first = [0];
        let mut notes = child.stderr.take().context("stderr is piped")?;
        notes.read_exact(&mut first).context("it says nothing")?;
        let first_line = begun.elapsed();
        std::thread::spawn(move || std::io::copy(&mut notes, &mut std::io::sink()));
        let peak = watch(&mut child, begun)?;
        let code = child.wait()?.code().context("it was killed")?;
        Ok(Ran {
            first_line,
            took: begun.elapsed(),
            peak,
            code,
        })
    }
}

struct Ran {
    first_line: Duration,
    took: Duration,
    /// Megabytes.
    peak: f64,
    code: i32,
}

/// Waits for its end: the most memory that it had.
fn watch(child: &mut Child, begun: Instant) -> anyhow::Result<f64> {
    let mut peak: f64 = 0.0;
    while child.try_wait()?.is_none() {
        if begun.elapsed() > PATIENCE {
            child.kill()?;
            bail!("it takes longer than {PATIENCE:?}");
        }
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.id()));
        let line = status.unwrap_or_default();
        let line = line.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
        peak = peak.max(kilobytes.unwrap_or(0.0) / 1024.0);
        pause(Duration::from_millis(20));
    }
    Ok(peak)
}
