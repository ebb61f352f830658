//! What a job reads, one thing after another, and what becomes of each on the jobs topic.

use std::collections::BTreeMap;

use super::choice::Choice;
use super::record::JobRecord;
use crate::engine::headers::{self, is_ours};
use crate::engine::output::Outgoing;
use crate::engine::record::{Header, Record};
use crate::engine::window::{Span, Window};
use crate::ops::letter::Letter;

/// Something that a job reads to its end.
pub(super) trait Feed {
    /// The next thing that was read: with the record to send, where it is sent; none at the end.
    ///
    /// # Errors
    ///
    /// When it cannot be read.
    fn next(&mut self) -> anyhow::Result<Option<Option<Outgoing>>>;

    /// Puts down how far it is, after the last thing that was read.
    fn note(&self, record: &mut JobRecord);

    /// The job is done.
    ///
    /// # Errors
    ///
    /// When what is left to be said about it cannot be.
    fn finish(&mut self) -> anyhow::Result<()> {
        Ok(())
    }
}

/// What says of a request that it was sent again.
#[derive(Debug, Clone)]
pub(super) struct Stamp {
    /// The topic that it goes on.
    pub(super) jobs: String,
    /// The job's id.
    pub(super) job: String,
    /// Who runs it.
    pub(super) by: String,
    /// Why.
    pub(super) reason: String,
}

impl Stamp {
    /// The headers that say so; `times` is how often it was sent again, this one included.
    pub(super) fn push(&self, to: &mut Vec<Header>, times: u32) {
        let mut push = |name: &str, value: String| {
            to.push(Header {
                name: name.to_owned(),
                value: Some(value.into_bytes()),
            });
        };
        push(headers::REPLAY_ID, self.job.clone());
        push(headers::REPLAY_COUNT, times.to_string());
        push(headers::REPLAY_BY, self.by.clone());
        push(headers::REPLAY_REASON, self.reason.clone());
    }

    /// The request as it came, byte for byte, with a new life.
    fn again(&self, letter: &Letter) -> Outgoing {
        let record = letter.record();
        let kept = record.headers.iter().filter(|one| !is_ours(&one.name));
        let mut all: Vec<Header> = kept.cloned().collect();
        let ids = [headers::TRACEPARENT, headers::CORRELATION_ID];
        let ids = ids.map(|name| (name, letter.id(name)));
        let own = [
            (headers::EVENT_ID, Some(letter.event_id())),
            (headers::SOURCE, Some(letter.source().to_string())),
        ];
        for (name, value) in own.into_iter().chain(ids) {
            all.extend(value.map(|value| Header {
                name: name.to_owned(),
                value: Some(value.into_bytes()),
            }));
        }
        let before = letter.count(headers::REPLAY_COUNT).unwrap_or(0);
        self.push(&mut all, before.saturating_add(1));
        Outgoing {
            topic: self.jobs.as_str().into(),
            key: record.key.clone(),
            value: record.value.clone(),
            headers: all,
        }
    }
}

/// The chosen records of a topic.
pub(super) struct Topic {
    window: Window,
    choice: Choice,
    stamp: Stamp,
    /// How a record of this topic is looked at.
    read: fn(Record) -> Letter,
    /// The next offset of each partition.
    position: BTreeMap<i32, i64>,
}

impl Topic {
    /// Reads `window`, which begins where `done` is.
    pub(super) fn new(
        window: Window,
        choice: Choice,
        stamp: Stamp,
        read: fn(Record) -> Letter,
        done: BTreeMap<i32, i64>,
    ) -> Self {
        Self {
            window,
            choice,
            stamp,
            read,
            position: done,
        }
    }
}

impl Feed for Topic {
    fn next(&mut self) -> anyhow::Result<Option<Option<Outgoing>>> {
        let Some(record) = self.window.next_record()? else {
            return Ok(None);
        };
        let position = &record.position;
        self.position
            .insert(position.partition, position.offset + 1);
        let is_sent = self.choice.has(position);
        Ok(Some(
            is_sent.then(|| self.stamp.again(&(self.read)(record))),
        ))
    }

    fn note(&self, record: &mut JobRecord) {
        record.position.clone_from(&self.position);
    }
}

/// What is left between `position` and `ends`.
#[must_use]
pub(super) fn left(
    ends: &BTreeMap<i32, i64>,
    position: &BTreeMap<i32, i64>,
) -> BTreeMap<i32, Span> {
    let span = |(partition, until): (&i32, &i64)| {
        let from = position.get(partition).copied().unwrap_or(0);
        let span = Span {
            from,
            until: *until,
        };
        (*partition, span)
    };
    ends.iter().map(span).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::letter::tests::{LOGIN, REFUSED, letter};

    #[test]
    fn a_request_is_sent_again_as_it_came_with_a_new_life() {
        let stamp = Stamp {
            jobs: "jobs".to_owned(),
            job: "redrive-1".to_owned(),
            by: "asha".to_owned(),
            reason: "outage".to_owned(),
        };
        let counted: Vec<_> = REFUSED
            .iter()
            .copied()
            .chain([("otp-replay-count", "1"), ("otp-deadline-ms", "1")])
            .chain([("traceparent", "00-1-2-01"), ("x-correlation-id", "c-7")])
            .collect();
        let again = stamp.again(&letter(LOGIN, &counted));
        assert_eq!(again.key.as_deref(), Some(&b"pb:9876543210"[..]));
        assert_eq!(again.value.as_deref(), Some(LOGIN.as_bytes()));
        let headers: Vec<String> = again
            .headers
            .iter()
            .map(|one| {
                let value = one.value.as_deref().unwrap_or_default();
                format!("{}={}", one.name, String::from_utf8_lossy(value))
            })
            .collect();
        assert_eq!(
            headers,
            [
                "x-upstream=citizen 9876543210",
                "otp-event-id=order-17",
                "otp-source=requests-0-7",
                "traceparent=00-1-2-01",
                "x-correlation-id=c-7",
                "otp-replay-id=redrive-1",
                "otp-replay-count=2",
                "otp-replay-by=asha",
                "otp-replay-reason=outage",
            ]
        );
    }

    #[test]
    fn what_is_left_begins_where_the_job_was() {
        let left = left(&BTreeMap::from([(0, 9), (1, 4)]), &BTreeMap::from([(1, 3)]));
        assert_eq!(left[&0], Span { from: 0, until: 9 });
        assert_eq!(left[&1], Span { from: 3, until: 4 });
    }
}
