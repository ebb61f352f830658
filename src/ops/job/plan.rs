//! What a job would do, for whoever is about to say --execute.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use super::choice::{Sample, Skip};
use super::copy::Pace;
use super::record::Kind;
use crate::ops::moment::in_short;
use crate::ops::shown::Paint;

/// A plan. What it counts is what is sent and skipped when it is executed.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Plan {
    pub(super) job: String,
    pub(super) kind: Kind,
    pub(super) source: String,
    pub(super) filter: String,
    /// Records, or rows, that were looked at.
    pub(super) looked_at: u64,
    /// Those that the filter takes.
    pub(super) matched: u64,
    pub(super) to_send: u64,
    pub(super) skipped: BTreeMap<&'static str, u64>,
    pub(super) rate: u32,
    pub(super) ahead: u32,
    pub(super) takes_s: Option<u64>,
    pub(super) sample: Vec<Sample>,
}

impl Plan {
    pub(super) fn skipping(counts: &BTreeMap<Skip, u64>) -> BTreeMap<&'static str, u64> {
        let each = counts.iter();
        each.map(|(skip, count)| (skip.as_str(), *count)).collect()
    }

    pub(super) fn time(to_send: u64, pace: Pace) -> Option<u64> {
        (pace.rate > 0).then(|| to_send.div_ceil(u64::from(pace.rate)))
    }

    /// For people.
    pub(super) fn text(&self, skipped: &BTreeMap<Skip, u64>, paint: Paint) -> String {
        let mut lines = vec![paint.heading(&format!("Job {}", self.job))];
        let filter = match self.filter.as_str() {
            "" => "everything",
            filter => filter,
        };
        lines.push(format!(
            "  {} of {}: {filter}",
            self.kind.as_str(),
            self.source
        ));
        lines.push(format!("  {:>9} looked at", self.looked_at));
        lines.push(format!("  {:>9} match", self.matched));
        for (skip, count) in skipped {
            lines.push(format!("  {count:>9} {}", skip.sentence()));
        }
        lines.push(paint.heading(&format!("  {:>9} to send", self.to_send)));
        for sample in &self.sample {
            lines.push(format!("            as {}", sample.sentence()));
        }
        if self.to_send > 0 {
            lines.push(self.pace());
        }
        lines.join("\n") + "\n"
    }

    fn pace(&self) -> String {
        let ahead = self.ahead;
        match self.takes_s {
            Some(seconds) => format!(
                "  At --rate {} a second it takes {}, or longer: at most {ahead} are under way at a time (--ahead).",
                self.rate,
                in_short(Duration::from_secs(seconds))
            ),
            None => format!(
                "  As fast as they are finished (--rate 0): at most {ahead} are under way at a time (--ahead)."
            ),
        }
    }
}
