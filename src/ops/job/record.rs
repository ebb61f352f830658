//! What a job leaves on the job log: its progress, in the same transaction as what it sends. Its last
//! record is its audit, and is kept for a year.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};

use crate::clock::EpochMs;
use crate::config::Config;
use crate::engine::clients::Connection;
use crate::engine::jobs::wait_decided;
use crate::engine::output::Outgoing;
use crate::engine::record::Record;
use crate::engine::window::{Bounds, Window};

/// A job that has said nothing for so long does not run.
pub(super) const SILENT: Duration = Duration::from_secs(60);

/// A running job says something this often at least.
pub(super) const HEARTBEAT: Duration = Duration::from_secs(10);

/// What a job does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Kind {
    /// Dead letters, sent again.
    Redrive,
    /// A window of a request topic, sent again.
    Replay,
    /// The rows of a file.
    Resend,
}

impl Kind {
    /// The word that is typed.
    #[must_use]
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Redrive => "redrive",
            Self::Replay => "replay",
            Self::Resend => "resend",
        }
    }
}

/// Where a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum State {
    /// It sends; where it has been silent, it was interrupted.
    Running,
    /// It was told to stop.
    Paused,
    /// All that it was to send is sent.
    Finished,
    /// The rest is not to be sent.
    Cancelled,
}

impl State {
    /// Whether there is something left to send.
    #[must_use]
    pub(super) fn is_open(self) -> bool {
        match self {
            Self::Running | Self::Paused => true,
            Self::Finished | Self::Cancelled => false,
        }
    }
}

/// How many, of what a job has come by so far.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Counts {
    /// Records, or rows, that were read.
    pub(super) read: u64,
    /// Those of them that were sent.
    pub(super) sent: u64,
    /// Records that no topic takes, and so were not sent.
    pub(super) refused: u64,
}

/// One record of a job: all that is needed to go on after it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct JobRecord {
    /// Its id.
    pub(super) job: String,
    /// What it does.
    pub(super) kind: Kind,
    /// Where it stands.
    pub(super) state: State,
    /// The topic, or the digest of the file, that it reads.
    pub(super) source: String,
    /// The file, as a path of the machine that it was started on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) file: Option<String>,
    /// Its options, times fixed: numbers are never among them.
    pub(super) args: Vec<String>,
    /// Who runs it.
    pub(super) by: String,
    /// Why, in their words.
    pub(super) reason: String,
    /// When it began, in epoch milliseconds.
    pub(super) started_at_ms: i64,
    /// When this was written, in epoch milliseconds.
    pub(super) at_ms: i64,
    /// Which of the job's records this is, from 0.
    pub(super) sequence: u64,
    /// How many the plan has: to be sent.
    pub(super) planned: u64,
    /// And not to be sent, by why not.
    pub(super) skipped: BTreeMap<String, u64>,
    /// Where each partition ended when the plan was made: one past its last offset.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) ends: BTreeMap<i32, i64>,
    /// The next offset of each partition, where the job has been.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) position: BTreeMap<i32, i64>,
    /// The rows of a file that are done.
    #[serde(default)]
    pub(super) rows: u64,
    /// How many, so far.
    pub(super) counts: Counts,
}

impl JobRecord {
    /// The record for the job log, its key the job's id.
    ///
    /// # Errors
    ///
    /// Never, for what this program makes.
    pub(super) fn outgoing(&self, topic: &str) -> serde_json::Result<Outgoing> {
        Ok(Outgoing {
            topic: topic.into(),
            key: Some(self.job.clone().into_bytes()),
            value: Some(serde_json::to_vec(self)?),
            headers: Vec::new(),
        })
    }

    fn parse(record: &Record) -> Option<Self> {
        let job: Self = serde_json::from_slice(record.value.as_deref()?).ok()?;
        (record.key.as_deref() == Some(job.job.as_bytes())).then_some(job)
    }

    /// Whether it has said something lately: then it runs, somewhere.
    #[must_use]
    pub(super) fn is_alive(&self, now: EpochMs) -> bool {
        self.state == State::Running && now.left(EpochMs(self.at_ms)) < SILENT
    }

    /// The word for where it stands.
    #[must_use]
    pub(super) fn standing(&self, now: EpochMs) -> &'static str {
        match self.state {
            State::Running if self.is_alive(now) => "running",
            State::Running => "interrupted",
            State::Paused => "paused",
            State::Finished => "finished",
            State::Cancelled => "cancelled",
        }
    }
}

/// Every job's last record.
#[derive(Debug, Default)]
pub(super) struct Jobs {
    last: BTreeMap<String, JobRecord>,
    /// Those behind whose last record there are some that cannot be decoded.
    in_doubt: BTreeSet<String>,
}

impl Jobs {
    /// Reads the job log to its end, as it is when everything on it is decided. Blocks.
    ///
    /// # Errors
    ///
    /// When it cannot be read.
    pub(super) fn read(config: &Config, connection: &Connection) -> anyhow::Result<Self> {
        let topic = &config.topics.job_log;
        let told = || "the job log says what has been sent; without it nothing is sent";
        wait_decided(connection, topic).with_context(told)?;
        let mut window = Window::open(connection, topic, &Bounds::default()).with_context(told)?;
        let (mut jobs, mut places) = (Self::default(), BTreeMap::new());
        while let Some(record) = window.next_record().with_context(told)? {
            if let Some(job) = JobRecord::parse(&record) {
                places.insert(job.job.clone(), record.position);
                jobs.note(job);
            }
        }
        let places = places.into_iter();
        let in_doubt = places.filter(|(_, place)| window.passed_over_behind(place));
        jobs.in_doubt = in_doubt.map(|(job, _)| job).collect();
        Ok(jobs)
    }

    /// Whether the last record of a job that can be read is its last one.
    ///
    /// # Errors
    ///
    /// When there are records behind it that cannot be decoded.
    pub(super) fn check_last_word(&self, id: &str) -> anyhow::Result<()> {
        if self.in_doubt.contains(id) {
            bail!(
                "the job log has records behind those of job {id} that cannot be decoded: what it has sent may be among them, \
                 and would be sent again; cancel it (`user-otp job cancel {id}`) and begin a new one, which leaves out what was \
                 published"
            );
        }
        Ok(())
    }

    fn note(&mut self, job: JobRecord) {
        let last = self.last.get(&job.job);
        if last.is_none_or(|last| last.sequence <= job.sequence) {
            self.last.insert(job.job.clone(), job);
        }
    }

    /// The job with this id.
    #[must_use]
    pub(super) fn get(&self, id: &str) -> Option<&JobRecord> {
        self.last.get(id)
    }

    /// An id that no job has: this one, or this one with the next number.
    #[must_use]
    pub(super) fn free_id(&self, id: &str) -> String {
        if self.get(id).is_none() {
            return id.to_owned();
        }
        let others = (2_u32..).map(|number| format!("{id}-{number}"));
        let mut free = others.filter(|other| self.get(other).is_none());
        free.next().unwrap_or_else(|| id.to_owned())
    }

    /// The one of this source that is not done.
    #[must_use]
    pub(super) fn open_on(&self, source: &str) -> Option<&JobRecord> {
        let mut open = self.last.values().filter(|job| job.state.is_open());
        open.find(|job| job.source == source)
    }

    /// All, the latest first.
    #[must_use]
    pub(super) fn latest_first(&self) -> Vec<&JobRecord> {
        let mut all: Vec<_> = self.last.values().collect();
        all.sort_by_key(|job| std::cmp::Reverse((job.started_at_ms, &job.job)));
        all
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(crate) fn job(id: &str) -> JobRecord {
        JobRecord {
            job: id.to_owned(),
            kind: Kind::Redrive,
            state: State::Running,
            source: "user-otp.dlq".to_owned(),
            file: None,
            args: vec!["--tenant".to_owned(), "pb.*".to_owned()],
            by: "asha (uid 1000) at ops-1".to_owned(),
            reason: "the outage of Monday".to_owned(),
            started_at_ms: 1_000,
            at_ms: 2_000,
            sequence: 3,
            planned: 20,
            skipped: BTreeMap::from([("duplicate-person".to_owned(), 2)]),
            ends: BTreeMap::from([(0, 40)]),
            position: BTreeMap::from([(0, 12)]),
            rows: 0,
            counts: Counts {
                read: 12,
                sent: 7,
                refused: 0,
            },
        }
    }

    #[test]
    fn the_record_is_frozen() {
        let value = job("redrive-1").outgoing("log").expect("JSON").value;
        assert_eq!(
            String::from_utf8_lossy(&value.expect("a value")),
            concat!(
                r#"{"job":"redrive-1","kind":"redrive","state":"running","source":"user-otp.dlq","args":["--tenant","pb.*"],"#,
                r#""by":"asha (uid 1000) at ops-1","reason":"the outage of Monday","startedAtMs":1000,"atMs":2000,"#,
                r#""sequence":3,"planned":20,"skipped":{"duplicate-person":2},"ends":{"0":40},"position":{"0":12},"#,
                r#""rows":0,"counts":{"read":12,"sent":7,"refused":0}}"#
            )
        );
    }

    #[test]
    fn the_documents_sample_is_such_a_record() {
        let text = include_str!("../../../topics/samples/job_log.json");
        let sample: serde_json::Value = serde_json::from_str(text).expect("JSON");
        let job: JobRecord = serde_json::from_value(sample["value"].clone()).expect("a job");
        assert_eq!(serde_json::to_value(&job).expect("JSON"), sample["value"]);
        assert_eq!(sample["key"], job.job);
    }

    #[test]
    fn what_was_written_is_read_the_same() {
        let value = serde_json::to_vec(&job("a")).expect("JSON");
        assert_eq!(
            serde_json::from_slice::<JobRecord>(&value).expect("a job"),
            job("a")
        );
    }

    #[test]
    fn the_last_word_counts_and_silence_is_an_interruption() {
        let mut jobs = Jobs::default();
        jobs.note(job("a"));
        let older = JobRecord {
            sequence: 2,
            state: State::Paused,
            ..job("a")
        };
        jobs.note(older);
        let last = jobs.open_on("user-otp.dlq").expect("an open job");
        assert_eq!((last.sequence, last.state), (3, State::Running));
        let at = EpochMs(last.at_ms);
        assert_eq!(last.standing(at.plus(SILENT / 2)), "running");
        assert_eq!(last.standing(at.plus(SILENT)), "interrupted");
        let done = JobRecord {
            sequence: 4,
            state: State::Finished,
            ..job("a")
        };
        jobs.note(done);
        assert!(jobs.open_on("user-otp.dlq").is_none());
        assert_eq!(jobs.free_id("b"), "b");
        assert_eq!(jobs.free_id("a"), "a-2");
    }
}
