//! A job at work: a sequential copy, a step at a time. Each step is one transaction with the job's own
//! progress in it, so that it goes on exactly where it was, whatever ends it.

use std::time::{Duration, Instant};

use anyhow::bail;

use super::feed::Feed;
use super::progress::Progress;
use super::record::{HEARTBEAT, JobRecord, Jobs, State};
use super::watch::Watch;
use crate::clock::Clock;
use crate::config::Config;
use crate::engine::clients::Connection;
use crate::engine::jobs::{BATCH, Step, Steps};
use crate::engine::output::Outgoing;
use crate::ops::moment::in_short;

/// Records that are read for one step, at most: progress is put down now and then also where little of
/// what is read is sent.
const READ: usize = 20_000;

/// Reading for one step ends after this, with what there is.
const FILL: Duration = Duration::from_millis(500);

/// A step is put off until so many may be sent, or this long.
const GATHER: Duration = Duration::from_millis(250);

/// Between two looks at whether more may be sent.
const LOOK: Duration = Duration::from_millis(10);

/// Before the same is written again.
const AGAIN: Duration = Duration::from_millis(50);

/// For how long Kafka may not answer before a job gives up; it can be resumed.
const PATIENCE: Duration = Duration::from_secs(120);

/// How fast.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    /// Requests a second; 0: as fast as they are finished.
    pub(super) rate: u32,
    /// Sent and not finished, at most.
    pub(super) ahead: u32,
}

/// A job that has its source to itself.
pub(super) struct Copy<'a, F> {
    /// Of the program.
    pub(super) config: &'a Config,
    /// To Kafka.
    pub(super) connection: &'a Connection,
    /// What is read.
    pub(super) feed: F,
    /// What writes.
    pub(super) steps: Steps,
    /// What counts outcomes.
    pub(super) watch: &'a Watch,
    /// How fast.
    pub(super) pace: Pace,
    /// Where it is told to stop.
    pub(super) interrupted: &'a dyn Fn() -> bool,
    /// What the job last put down.
    pub(super) record: JobRecord,
}

/// How many may be sent by now.
struct Allowance {
    pace: Pace,
    since: Instant,
    sent: u64,
}

impl Allowance {
    fn now(&self, open: u64) -> usize {
        let room = u64::from(self.pace.ahead).saturating_sub(open);
        let by_rate = match self.pace.rate {
            0 => u64::MAX,
            rate => {
                // The first goes at once.
                let due = 1 + self.since.elapsed().as_millis() * u128::from(rate) / 1_000;
                u64::try_from(due).unwrap_or(u64::MAX)
                    - self.sent.min(u64::try_from(due).unwrap_or(u64::MAX))
            }
        };
        usize::try_from(room.min(by_rate))
            .unwrap_or(BATCH)
            .min(BATCH)
    }
}

impl<F: Feed> Copy<'_, F> {
    /// Sends until the end, or until it is told to stop. What it put down last.
    ///
    /// # Errors
    ///
    /// When the source or Kafka is not there, or another process took the job over; in every case it can be
    /// resumed.
    pub(super) fn run(mut self, progress: &mut Progress) -> anyhow::Result<JobRecord> {
        let mut allowance = Allowance {
            pace: self.pace,
            since: Instant::now(),
            sent: 0,
        };
        let before = self.record.counts.sent;
        let mut last_step = Instant::now();
        loop {
            progress.show(&self.record, &self.watch.ended()?);
            if (self.interrupted)() {
                self.step(Vec::new(), State::Paused)?;
                return Ok(self.record);
            }
            allowance.sent = self.record.counts.sent - before;
            let open = self.record.counts.sent.saturating_sub(self.watch.total());
            let allowed = allowance.now(open);
            let gathering = allowed < BATCH / 4 && last_step.elapsed() < GATHER;
            if allowed == 0 || gathering {
                if last_step.elapsed() >= HEARTBEAT {
                    self.step(Vec::new(), State::Running)?;
                    last_step = Instant::now();
                }
                std::thread::park_timeout(LOOK);
                continue;
            }
            let (batch, ended) = self.fill(allowed)?;
            let state = if ended {
                State::Finished
            } else {
                State::Running
            };
            self.step(batch, state)?;
            last_step = Instant::now();
            if ended {
                self.feed.finish()?;
                progress.show(&self.record, &self.watch.ended()?);
                return Ok(self.record);
            }
        }
    }

    /// Reads until so many are to be sent; whether that was the end.
    fn fill(&mut self, most: usize) -> anyhow::Result<(Vec<Outgoing>, bool)> {
        let begun = Instant::now();
        let mut batch = Vec::new();
        for _ in 0..READ {
            if batch.len() == most || begun.elapsed() >= FILL {
                break;
            }
            match self.feed.next()? {
                None => return Ok((batch, true)),
                Some(outgoing) => {
                    self.record.counts.read += 1;
                    batch.extend(outgoing);
                }
            }
        }
        Ok((batch, false))
    }

    /// Writes these and where the job is afterwards, until that is there.
    fn step(&mut self, mut batch: Vec<Outgoing>, state: State) -> anyhow::Result<()> {
        self.record.state = state;
        self.record.sequence += 1;
        self.feed.note(&mut self.record);
        let sent = self.record.counts.sent;
        let begun = Instant::now();
        loop {
            if begun.elapsed() >= PATIENCE {
                bail!(
                    "Kafka has not taken what was written for {}: are its clock and ours right? Then: {}",
                    in_short(PATIENCE),
                    self.how_to_go_on()
                );
            }
            self.record.at_ms = Clock::system().now().0;
            self.record.counts.sent = sent + batch.len() as u64;
            let own = self.record.outgoing(&self.config.topics.job_log)?;
            let records: Vec<Outgoing> = batch.iter().cloned().chain([own]).collect();
            match self.steps.write(&records, PATIENCE)? {
                Step::Committed => return Ok(()),
                Step::Aborted => std::thread::park_timeout(AGAIN),
                Step::Unknown => match self.written()? {
                    Some(sequence) if sequence >= self.record.sequence => return Ok(()),
                    Some(_) | None => {}
                },
                Step::NeverTaken(places) => {
                    if places.contains(&batch.len()) {
                        bail!(
                            "the topic {} does not take the job's own record: raise its max.message.bytes",
                            self.config.topics.job_log
                        );
                    }
                    self.record.counts.refused += places.len() as u64;
                    let mut place = 0..;
                    batch.retain(|_| !place.next().is_some_and(|place| places.contains(&place)));
                }
                Step::Topic(topic) => bail!(
                    "the topic {topic} is missing, or we may not write to it: grant Write on it, `user-otp topics plan` says what \
                     is there; then: {}",
                    self.how_to_go_on()
                ),
                Step::TakenOver => bail!(
                    "another process has taken this job over, or this one stood still for too long: `user-otp job ls` says \
                     which; if none runs: {}",
                    self.how_to_go_on()
                ),
            }
        }
    }

    fn written(&self) -> anyhow::Result<Option<u64>> {
        let jobs = Jobs::read(self.config, self.connection)?;
        jobs.check_last_word(&self.record.job)?;
        Ok(jobs.get(&self.record.job).map(|job| job.sequence))
    }

    fn how_to_go_on(&self) -> String {
        format!("user-otp job resume {}", self.record.job)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_sent_is_bounded_by_the_rate_by_what_is_open_and_by_the_batch() {
        let allowed = |rate, ahead, open, sent, seconds| {
            let pace = Pace { rate, ahead };
            let since = Instant::now() - Duration::from_secs(seconds);
            Allowance { pace, since, sent }.now(open)
        };
        assert_eq!(allowed(0, 1_000, 0, 0, 0), BATCH);
        assert_eq!(allowed(0, 1_000, 990, 7, 0), 10);
        assert_eq!(allowed(0, 1_000, 1_000, 7, 0), 0);
        assert_eq!(allowed(50, 1_000, 0, 0, 0), 1);
        assert_eq!(allowed(50, 1_000, 0, 51, 1), 0);
        assert_eq!(allowed(50, 1_000, 0, 45, 1), 6);
    }
}
