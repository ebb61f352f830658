//! The figures, their medians, and the table of them.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::contender::Kind;

/// One thing that is measured, with what must be reached against the baseline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Figure {
    Burst,
    BurstOnePartition,
    Processor,
    SlowBurst,
    Median,
    P99,
    MemoryEarly,
    MemoryLate,
    MemoryPeak,
}

impl Figure {
    fn name(self) -> &'static str {
        match self {
            Self::Burst => "burst, 8 partitions",
            Self::BurstOnePartition => "burst, 1 partition",
            Self::Processor => "CPU per request",
            Self::SlowBurst => "burst, 5 + 60 ms services",
            Self::Median => "latency at 500/s, median",
            Self::P99 => "latency at 500/s, p99",
            Self::MemoryEarly => "memory, records waiting, early",
            Self::MemoryLate => "memory, records waiting, late",
            Self::MemoryPeak => "memory, peak",
        }
    }

    fn unit(self) -> &'static str {
        match self {
            Self::Burst | Self::BurstOnePartition | Self::SlowBurst => "req/s",
            Self::Processor => "us",
            Self::Median | Self::P99 => "ms",
            Self::MemoryEarly | Self::MemoryLate | Self::MemoryPeak => "MB",
        }
    }

    fn goal(self) -> Goal {
        match self {
            Self::Burst | Self::BurstOnePartition => Goal::AtLeastTimesBare(0.7),
            Self::SlowBurst => Goal::AtLeastTimesBare(0.9),
            Self::Processor => Goal::AtMostTimesBare(1.5),
            Self::Median => Goal::Below(25.0),
            Self::P99 => Goal::Below(100.0),
            Self::MemoryEarly | Self::MemoryLate | Self::MemoryPeak => Goal::Below(60.0),
        }
    }
}

enum Goal {
    AtLeastTimesBare(f64),
    AtMostTimesBare(f64),
    Below(f64),
}

impl Goal {
    fn is_met(&self, ours: f64, bare: f64) -> bool {
        match self {
            Self::AtLeastTimesBare(factor) => ours >= factor * bare,
            Self::AtMostTimesBare(factor) => ours <= factor * bare,
            Self::Below(bound) => ours < *bound,
        }
    }
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtLeastTimesBare(factor) => write!(f, ">= {factor} x bare"),
            Self::AtMostTimesBare(factor) => write!(f, "<= {factor} x bare"),
            Self::Below(bound) => write!(f, "< {bound}"),
        }
    }
}

/// Every value of every round.
#[derive(Debug, Default)]
pub(crate) struct Table {
    values: BTreeMap<Figure, BTreeMap<Kind, Vec<f64>>>,
}

impl Table {
    pub(crate) fn add(&mut self, figure: Figure, kind: Kind, value: f64) {
        eprintln_figure(figure, kind, value);
        self.values
            .entry(figure)
            .or_default()
            .entry(kind)
            .or_default()
            .push(value);
    }
}

#[expect(
    clippy::print_stderr,
    reason = "what was measured is shown as it comes"
)]
fn eprintln_figure(figure: Figure, kind: Kind, value: f64) {
    eprintln!(
        "  {:<5} {:<31} {value:>9.1} {}",
        kind.name(),
        figure.name(),
        figure.unit()
    );
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<31} {:>10} {:>10} {:<6} {:>9}  goal",
            "", "ours", "bare", "", "ours/bare"
        )?;
        for (figure, values) in &self.values {
            let of = |kind: Kind| values.get(&kind).map(|values| median(values));
            let text = |value: Option<f64>| {
                value.map_or_else(|| "-".to_owned(), |value| format!("{value:.1}"))
            };
            let (name, unit, goal) = (figure.name(), figure.unit(), figure.goal());
            let (ours, bare) = (of(Kind::Ours), of(Kind::Bare));
            write!(
                f,
                "{name:<31} {:>10} {:>10} {unit:<6}",
                text(ours),
                text(bare)
            )?;
            match (ours, bare) {
                (Some(ours), Some(bare)) => {
                    let met = if goal.is_met(ours, bare) {
                        "met"
                    } else {
                        "MISSED"
                    };
                    writeln!(f, " {:>9.2}  {goal} ({met})", ours / bare)?;
                }
                (Some(_), None) | (None, _) => writeln!(f, " {:>9}  {goal}", "-")?,
            }
        }
        Ok(())
    }
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 {
        sorted[middle]
    } else {
        f64::midpoint(sorted[middle - 1], sorted[middle])
    }
}

/// In milliseconds.
pub(crate) fn percentile(durations: &[Duration], percent: usize) -> f64 {
    let mut sorted = durations.to_vec();
    sorted.sort_unstable();
    let rank = (sorted.len() * percent).div_ceil(100).max(1) - 1;
    sorted
        .get(rank)
        .map_or(f64::NAN, |duration| duration.as_secs_f64() * 1e3)
}
