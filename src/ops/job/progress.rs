//! How far a job is: a bar on a terminal, a line now and then where it is piped.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::record::JobRecord;
use super::watch::Ended;
use crate::ops::moment::in_short;

/// Between two lines, where there is no bar.
const EVERY: Duration = Duration::from_secs(10);

/// Nothing is sent, and nothing ends, for so long: somebody should look.
const STALLED: Duration = Duration::from_secs(60);

/// What is shown on standard error while a job runs.
pub(super) struct Progress {
    bar: ProgressBar,
    begun: Instant,
    /// Sent before this process had the job.
    before: u64,
    last: Instant,
    /// What was sent and what has ended, when that last changed.
    moved: (u64, Instant),
}

impl Progress {
    /// Of a job that has come this far.
    #[must_use]
    pub(super) fn of(record: &JobRecord) -> Self {
        let bar = ProgressBar::new(record.planned);
        let style = ProgressStyle::with_template("{bar:30} {pos}/{len} {msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        Self {
            bar,
            begun: Instant::now(),
            before: record.counts.sent,
            last: Instant::now(),
            moved: (0, Instant::now()),
        }
    }

    /// Shows it, not too often.
    pub(super) fn show(&mut self, record: &JobRecord, ended: &Ended) {
        let sent = record.counts.sent;
        let now = sent + ended.values().sum::<u64>();
        if now != self.moved.0 {
            self.moved = (now, Instant::now());
        }
        if !self.bar.is_hidden() {
            self.bar.set_position(sent);
            self.bar.set_message(self.sentence(record, ended));
        } else if self.last.elapsed() >= EVERY {
            self.last = Instant::now();
            let planned = record.planned;
            // Nobody may listen; the job goes on.
            let _ = std::io::Write::write_fmt(
                &mut std::io::stderr(),
                format_args!(
                    "user-otp: {sent} of {planned} sent, {}\n",
                    self.sentence(record, ended)
                ),
            );
        }
    }

    /// No bar any more.
    pub(super) fn end(&self) {
        self.bar.finish_and_clear();
    }

    fn sentence(&self, record: &JobRecord, ended: &Ended) -> String {
        let sent = record.counts.sent;
        let seconds = self.begun.elapsed().as_secs_f64().max(0.001);
        let rate = (sent - self.before.min(sent)) as f64 / seconds;
        let mut text = format!("{rate:.0}/s");
        let left = record.planned.saturating_sub(sent);
        if rate > 0.0 && left > 0 {
            let time = Duration::from_secs_f64(left as f64 / rate);
            let _ = write!(text, ", {} left", in_short(time));
        }
        for (outcome, count) in ended {
            let _ = write!(text, ", {count} {outcome}");
        }
        if self.moved.1.elapsed() >= STALLED {
            text.push_str("; nothing moves: see `user-otp status`");
        }
        text
    }
}
