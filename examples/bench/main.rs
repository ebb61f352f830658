//! What exactly-once costs: `user-otp run` and the `bare` baseline side by side on one broker,
//! with the same stand-ins, in turns; and retries, jobs and the HTTP door, for which there is no baseline but
//! goals alone. With `--before`, another version takes the baseline's place, in all of it. `scripts/bench` builds
//! everything in release and starts the broker.
//!
//! Every figure is the median of the rounds; the order is A B A B, so that what else the
//! machine does meets both. Each run begins with a warm-up that is not counted.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program for people at a terminal"
)]

mod clients;
mod contender;
mod figures;
mod http;
mod jobs;
mod load;
mod retries;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser;

use crate::contender::{Contender, Kind, Programs, StandIn};
use crate::figures::{Figure, Table};
use crate::load::{Load, Pace};

/// Compares `user-otp run` with the bare baseline.
#[derive(Parser, Debug, Clone)]
struct Args {
    /// The broker, as `scripts/kafka start` prints it.
    #[arg(long)]
    broker: String,
    /// The folder with `user-otp` and `examples/bare`.
    #[arg(long)]
    binaries: PathBuf,
    /// `user-otp` of another version: compares with it, twice, instead of with the baseline.
    #[arg(long, conflicts_with = "alone")]
    before: Option<PathBuf>,
    /// One short round instead of three long ones.
    #[arg(long)]
    quick: bool,
    /// How often each figure is taken.
    #[arg(long)]
    rounds: Option<usize>,
    /// Requests of a burst with services that answer at once.
    #[arg(long)]
    burst: Option<u32>,
    /// Requests of a burst with services that take their time.
    #[arg(long)]
    slow_burst: Option<u32>,
    /// Seconds of each open loop: 500 requests a second on the stream, 10 and 1,000 retries, 1,000 over HTTP.
    #[arg(long)]
    seconds: Option<u32>,
    /// Records that wait while the stream's memory is measured, 0 leaves it out; dead letters of a plan, and
    /// requests of jobs beside live ones.
    #[arg(long)]
    waiting: Option<u32>,
    /// Only one of the two.
    #[arg(long)]
    alone: Option<Kind>,
    /// Only the figures whose name contains this.
    #[arg(long, default_value = "")]
    only: String,
}

/// What is measured, and how much of it.
#[derive(Debug, Clone)]
struct Plan {
    rounds: usize,
    /// Requests before anything is counted: a broker that has just started takes twice as long.
    broker_warm_up: u32,
    warm_up: u32,
    burst: u32,
    slow_burst: u32,
    seconds: u32,
    waiting: u32,
}

impl Plan {
    fn of(args: &Args) -> Self {
        let whole = Self {
            rounds: 3,
            broker_warm_up: 150_000,
            warm_up: 3_000,
            burst: 60_000,
            slow_burst: 25_000,
            seconds: 20,
            waiting: 1_000_000,
        };
        let quick = Self {
            rounds: 1,
            broker_warm_up: 60_000,
            warm_up: 1_000,
            burst: 10_000,
            slow_burst: 6_000,
            seconds: 5,
            waiting: 100_000,
        };
        let base = if args.quick { quick } else { whole };
        Self {
            rounds: args.rounds.unwrap_or(base.rounds),
            burst: args.burst.unwrap_or(base.burst),
            slow_burst: args.slow_burst.unwrap_or(base.slow_burst),
            seconds: args.seconds.unwrap_or(base.seconds),
            waiting: args.waiting.unwrap_or(base.waiting),
            ..base
        }
    }
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let programs = Programs {
        binaries: args.binaries.clone(),
        before: args.before.clone(),
    };
    let bench = Bench {
        plan: Plan::of(&args),
        at_once: StandIn::start(&programs, &[])?,
        slow: StandIn::start(
            &programs,
            &["--user-delay=5ms", "--otp-delay=60ms", "--texts-delay=5ms"],
        )?,
        programs,
        args,
    };
    let mut table = Table::default();
    eprintln!("warming the broker up");
    bench.warm_the_broker_up()?;
    for round in 1..=bench.plan.rounds {
        for kind in bench.contenders() {
            eprintln!("round {round} of {}: {}", bench.plan.rounds, kind.name());
            bench
                .round(kind, &mut table)
                .with_context(|| format!("{} in round {round}", kind.name()))?;
        }
    }
    for kind in bench.contenders() {
        bench
            .memory(kind, &mut table)
            .with_context(|| format!("memory of {}", kind.name()))?;
    }
    if bench.args.before.is_some() {
        println!("{}", table.against_before());
    } else {
        println!("{table}");
    }
    Ok(())
}

struct Bench {
    args: Args,
    plan: Plan,
    programs: Programs,
    at_once: StandIn,
    slow: StandIn,
}

impl Bench {
    fn contenders(&self) -> Vec<Kind> {
        if self.args.before.is_some() {
            return vec![Kind::Before, Kind::Ours, Kind::Again];
        }
        let both = [Kind::Ours, Kind::Bare].into_iter();
        both.filter(|kind| self.args.alone.is_none_or(|alone| alone == *kind))
            .collect()
    }

    fn wants(&self, figures: &[Figure]) -> bool {
        let mut names = figures.iter().map(|figure| figure.name());
        names.any(|name| name.contains(&self.args.only))
    }

    fn warm_the_broker_up(&self) -> anyhow::Result<()> {
        let load = Load::new(&self.args.broker, 8)?;
        let contender = self.start(Kind::Ours, &load, &self.at_once)?;
        load.burst(self.plan.broker_warm_up)?;
        contender.end()
    }

    fn round(&self, kind: Kind, table: &mut Table) -> anyhow::Result<()> {
        use Figure::{Burst, BurstOnePartition, Median, P99, Processor, SlowBurst};
        if self.wants(&[Burst, Processor, Median, P99]) {
            self.eight_partitions(kind, table)?;
        }
        if self.wants(&[BurstOnePartition]) {
            let load = Load::new(&self.args.broker, 1)?;
            let contender = self.start(kind, &load, &self.at_once)?;
            self.warm_up(&load)?;
            table.add(BurstOnePartition, kind, load.burst(self.plan.burst)?);
            contender.end()?;
        }
        if self.wants(&[SlowBurst]) {
            let load = Load::new(&self.args.broker, 8)?;
            let contender = self.start(kind, &load, &self.slow)?;
            self.warm_up(&load)?;
            table.add(SlowBurst, kind, load.burst(self.plan.slow_burst)?);
            contender.end()?;
        }
        match kind {
            Kind::Ours | Kind::Before | Kind::Again => {
                self.retries(kind, table)?;
                self.jobs(kind, table)?;
                self.http(kind, table)
            }
            Kind::Bare => Ok(()),
        }
    }

    /// Throughput, the processor time it took, and then, of the same process, latency.
    fn eight_partitions(&self, kind: Kind, table: &mut Table) -> anyhow::Result<()> {
        let load = Load::new(&self.args.broker, 8)?;
        let contender = self.start(kind, &load, &self.at_once)?;
        self.warm_up(&load)?;
        let before = contender.processor_time()?;
        table.add(Figure::Burst, kind, load.burst(self.plan.burst)?);
        let used = contender.processor_time()? - before;
        table.add(
            Figure::Processor,
            kind,
            used.as_secs_f64() * 1e6 / f64::from(self.plan.burst),
        );
        let latencies = load.open_loop(500, self.plan.seconds)?;
        table.add(Figure::Median, kind, figures::percentile(&latencies, 50));
        table.add(Figure::P99, kind, figures::percentile(&latencies, 99));
        contender.end()
    }

    fn memory(&self, kind: Kind, table: &mut Table) -> anyhow::Result<()> {
        use Figure::{HttpMemory, MemoryEarly, MemoryLate, MemoryPeak};
        if self.plan.waiting > 0 && self.wants(&[MemoryEarly, MemoryLate, MemoryPeak]) {
            eprintln!("memory: {}", kind.name());
            self.memory_of_the_stream(kind, table)?;
        }
        if kind != Kind::Bare && self.wants(&[HttpMemory]) {
            eprintln!("memory over HTTP: {}", kind.name());
            self.http_memory(kind, table)?;
        }
        Ok(())
    }

    /// Many records wait while the slow services hold everything back.
    fn memory_of_the_stream(&self, kind: Kind, table: &mut Table) -> anyhow::Result<()> {
        let load = Load::new(&self.args.broker, 8)?;
        load.publish(self.plan.waiting, Pace::Flood)?;
        let contender = self.start(kind, &load, &self.slow)?;
        let watched = Duration::from_secs(if self.args.quick { 8 } else { 30 });
        let early = contender.memory_after(watched / 4)?;
        let late = contender.memory_after(watched * 3 / 4)?;
        table.add(Figure::MemoryEarly, kind, early.resident);
        table.add(Figure::MemoryLate, kind, late.resident);
        table.add(Figure::MemoryPeak, kind, late.peak);
        contender.end()
    }

    fn start(&self, kind: Kind, load: &Load, stand_in: &StandIn) -> anyhow::Result<Contender> {
        self.start_with(kind, load, stand_in, &[])
    }

    fn start_with(
        &self,
        kind: Kind,
        load: &Load,
        stand_in: &StandIn,
        settings: &[(&str, &str)],
    ) -> anyhow::Result<Contender> {
        let broker = &self.args.broker;
        Contender::start(kind, &self.programs, broker, load, stand_in, settings)
    }

    fn warm_up(&self, load: &Load) -> anyhow::Result<()> {
        load.burst(self.plan.warm_up).map(drop)
    }
}
