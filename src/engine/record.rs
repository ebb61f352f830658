//! A record as it came, and the request in it.
//!
//! Headers on the request topic are not trusted: whoever may write there may not steer us. Of
//! ours only the event id, a deadline (which can only shorten), and the trace ids are read.
//! Our own topics' headers are read as we wrote them; those that only a newer version knows are carried along.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use super::headers;
use super::lanes::LaneId;
use crate::clock::EpochMs;
use crate::domain::request::{DecodeError, Submission};
use crate::egov::{AtFloor, Queue};
use crate::handler::Context;
use crate::limits::{Charge, Client, Source};
use crate::outcome::Code;

/// Where a record is: `topic-partition-offset` in text.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Position {
    /// Topic name.
    pub topic: Arc<str>,
    /// Partition number.
    pub partition: i32,
    /// Offset within it.
    pub offset: i64,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}", self.topic, self.partition, self.offset)
    }
}

impl Position {
    /// Reads `topic-partition-offset`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (rest, offset) = text.rsplit_once('-')?;
        let (topic, partition) = rest.rsplit_once('-')?;
        let offset = offset.parse().ok().filter(|offset| *offset >= 0)?;
        let partition = partition.parse().ok().filter(|partition| *partition >= 0)?;
        (!topic.is_empty()).then(|| Self {
            topic: topic.into(),
            partition,
            offset,
        })
    }
}

/// One header; Kafka allows a null value.
#[derive(Clone, PartialEq, Eq)]
pub struct Header {
    /// Its name.
    pub name: String,
    /// Its value, any bytes.
    pub value: Option<Vec<u8>>,
}

/// A record, byte for byte.
#[derive(Clone)]
pub struct Record {
    /// Where it was read.
    pub position: Position,
    /// Its record time.
    pub timestamp: Option<EpochMs>,
    /// Its key.
    pub key: Option<Vec<u8>>,
    /// Its value.
    pub value: Option<Vec<u8>>,
    /// Its headers, in order.
    pub headers: Vec<Header>,
}

/// Shows the position alone: key, value and headers may carry a number.
impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Record({})", self.position)
    }
}

impl Record {
    /// The last header of this name that has a value.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers
            .iter()
            .rev()
            .find(|header| header.name == name)?
            .value
            .as_deref()
    }

    fn number_in(&self, name: &str) -> Option<i64> {
        std::str::from_utf8(self.header(name)?)
            .ok()?
            .parse()
            .ok()
            .filter(|number| *number >= 0)
    }

    /// Bytes that it holds, headers included, each with its place in memory: there may be 100,000 empty ones.
    #[must_use]
    pub fn size(&self) -> usize {
        let part = |bytes: &Option<Vec<u8>>| bytes.as_ref().map_or(0, Vec::len);
        let headers: usize = self
            .headers
            .iter()
            .map(|header| header.name.len() + part(&header.value) + size_of::<Header>())
            .sum();
        part(&self.key) + part(&self.value) + headers
    }
}

/// What a topic is to us, and so what its headers are worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// Anyone upstream writes here.
    Requests,
    /// Our HTTP door handed the request over.
    Accepted,
    /// Our commands send requests again.
    Jobs,
    /// The engine put the request off by this much.
    Retry(Duration),
}

/// By which door a request came in, for its outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// The request topic.
    Stream,
    /// HTTP, then the topic of accepted requests.
    Http,
    /// A job.
    Job,
}

impl Door {
    /// The word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stream => "stream",
            Self::Http => "http",
            Self::Job => "job",
        }
    }
}

/// What goes with a request through all its tries.
#[derive(Debug, Clone)]
pub struct Envelope {
    /// Finds it again; never decides anything.
    pub event_id: String,
    /// The position of its first record.
    pub source: Position,
    /// By which door it came in.
    pub door: Door,
    /// When it was received.
    pub received: EpochMs,
    /// Tries before this one.
    pub tries_before: u32,
    /// When its first try failed.
    pub first_failed: Option<EpochMs>,
    /// What the services get to see of it.
    pub context: Context,
}

/// A record with the request that was, or was not, read from it.
#[derive(Debug)]
pub struct Request {
    /// The record, as it came.
    pub record: Record,
    /// What goes with it.
    pub envelope: Envelope,
    /// The request itself.
    pub submission: Result<Submission, DecodeError>,
    /// The last offset that it stands for, where it stands for a range that cannot be decoded.
    pub last_offset: Option<i64>,
}

/// How a request's times follow from its record.
#[derive(Debug, Clone)]
pub struct Reading {
    /// `request.lifetime`.
    pub lifetime: Duration,
    /// The topic of accepted requests: what came from it came in over HTTP.
    pub accepted: Arc<str>,
}

impl Request {
    /// Reads a record; whatever its bytes are, the result is a request that has an end.
    #[must_use]
    pub fn read(mut record: Record, origin: Origin, now: EpochMs, reading: &Reading) -> Self {
        // On our own topics a newer version wrote them, and wants them back.
        if origin == Origin::Requests {
            let headers = &mut record.headers;
            headers.retain(|header| !headers::is_of_a_newer_version(&header.name));
        }
        let submission = Submission::of_record(record.value.as_deref());
        let number = number_of(&submission, &record);
        let envelope = Envelope::read(&record, origin, now, reading, number);
        Self {
            record,
            envelope,
            submission,
            last_offset: None,
        }
    }

    /// Stands for a range, from `first` to `last_offset`, of which nothing can be decoded.
    #[must_use]
    pub fn unreadable(
        first: Position,
        last_offset: i64,
        origin: Origin,
        now: EpochMs,
        reading: &Reading,
    ) -> Self {
        let record = Record {
            position: first,
            timestamp: None,
            key: None,
            value: None,
            headers: Vec::new(),
        };
        Self {
            submission: Err(DecodeError {
                code: Code::UnreadableBatch,
                line: 0,
                column: 0,
                hint: None,
            }),
            last_offset: Some(last_offset),
            ..Self::read(record, origin, now, reading)
        }
    }

    /// The person's lane; a request without a tenant or number is nobody's, and waits for nobody.
    #[must_use]
    pub fn lane(&self, hasher: &RandomState) -> LaneId {
        let person = self
            .submission
            .as_ref()
            .ok()
            .and_then(|one| Some((one.tenant()?, one.mobile()?)));
        LaneId(match person {
            Some(person) => hasher.hash_one(person),
            None => hasher.hash_one(&self.record.position),
        })
    }
}

/// The number that ids from outside may not contain, as it was given; the whole value where it
/// could not be read.
pub(crate) fn number_of<'a>(
    submission: &'a Result<Submission, DecodeError>,
    record: &'a Record,
) -> &'a [u8] {
    match submission {
        Ok(submission) => submission.mobile().unwrap_or_default().as_bytes(),
        Err(_) => record.value.as_deref().unwrap_or_default(),
    }
}

impl Envelope {
    fn read(
        record: &Record,
        origin: Origin,
        now: EpochMs,
        reading: &Reading,
        number: &[u8],
    ) -> Self {
        let id = |name| headers::clean_id(record.header(name)?, number);
        let ours = origin != Origin::Requests;
        let replay_id = if ours { id(headers::REPLAY_ID) } else { None };
        let source = match origin {
            Origin::Requests | Origin::Accepted => None,
            Origin::Jobs | Origin::Retry(_) => {
                id(headers::SOURCE).and_then(|text| Position::parse(&text))
            }
        }
        .unwrap_or_else(|| record.position.clone());
        let record_time = record.timestamp.map_or(now, |time| time.min(now));
        let kept_time = |name| record.number_in(name).map(EpochMs);
        let retried = matches!(origin, Origin::Retry(_));
        let handed_on = retried || origin == Origin::Accepted;
        let kept_received = kept_time(headers::RECEIVED).filter(|_| handed_on);
        let received = kept_received.unwrap_or(record_time);
        let fresh = received.plus(reading.lifetime);
        let deadline = match (origin, kept_time(headers::DEADLINE)) {
            (Origin::Requests, Some(earlier)) => earlier.min(fresh),
            (Origin::Accepted | Origin::Retry(_), Some(kept)) => kept,
            (Origin::Jobs, _) | (_, None) => fresh,
        };
        let tries = record
            .number_in(headers::ATTEMPT)
            .and_then(|number| u32::try_from(number).ok());
        let of_a_job = replay_id.is_some() || origin == Origin::Jobs;
        let event_id = id(headers::EVENT_ID).unwrap_or_else(|| source.to_string());
        let door = if of_a_job {
            Door::Job
        } else if source.topic == reading.accepted {
            Door::Http
        } else {
            Door::Stream
        };
        let charge = match door {
            Door::Job => Charge::never(),
            // The door may have charged it under this id before it handed it over.
            Door::Http => Charge::due(Source::new(&event_id), received)
                .from_client(record.header(headers::CLIENT).and_then(Client::parse)),
            // A topic that is deleted and created again has the same offsets once more, for other requests.
            Door::Stream => {
                let written = kept_received.or(record.timestamp).unwrap_or(EpochMs(0));
                Charge::due(Source::new(&format!("{source} {}", written.0)), received)
            }
        };
        let charged = handed_on && record.header(headers::CHARGED).is_some();
        Self {
            event_id,
            door,
            received,
            tries_before: tries.filter(|_| handed_on).unwrap_or(0),
            first_failed: kept_time(headers::FIRST_FAILED).filter(|_| retried),
            context: Context {
                deadline,
                correlation_id: id(headers::CORRELATION_ID),
                traceparent: id(headers::TRACEPARENT),
                tenant_header: id(headers::TENANT_ID),
                queue: if of_a_job { Queue::Job } else { Queue::Live },
                at_floor: AtFloor::Wait,
                charge: if charged { charge.already() } else { charge },
            },
            source,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: EpochMs = EpochMs(1_000_000);

    fn read(origin: Origin, topic: &str, timestamp: i64, pairs: &[(&str, &str)]) -> Envelope {
        let record = Record {
            position: Position {
                topic: topic.into(),
                partition: 3,
                offset: 42,
            },
            timestamp: Some(EpochMs(timestamp)),
            key: None,
            value: Some(br#"{"otp":{"mobileNumber":"9876543210","tenantId":"pb"}}"#.to_vec()),
            headers: pairs
                .iter()
                .map(|(name, value)| Header {
                    name: (*name).into(),
                    value: Some(value.as_bytes().to_vec()),
                })
                .collect(),
        };
        let reading = Reading {
            lifetime: Duration::from_secs(300),
            accepted: "user-otp.accepted".into(),
        };
        Request::read(record, origin, NOW, &reading).envelope
    }

    #[test]
    fn forged_headers_on_the_request_topic_steer_nothing() {
        let forged = [
            ("otp-source", "other-0-0"),
            ("otp-attempt", "9"),
            ("otp-charged", "1"),
            ("otp-received-ms", "1"),
            ("otp-replay-id", "job"),
            ("otp-deadline-ms", "99999999"),
        ];
        let envelope = read(Origin::Requests, "requests", 900_000, &forged);
        assert_eq!(envelope.source.to_string(), "requests-3-42");
        assert_eq!(envelope.event_id, "requests-3-42");
        assert_eq!(
            (
                envelope.tries_before,
                envelope.context.charge.is_done(),
                envelope.door
            ),
            (0, false, Door::Stream)
        );
        assert_eq!(
            (envelope.received, envelope.context.deadline),
            (EpochMs(900_000), EpochMs(1_200_000))
        );
    }

    #[test]
    fn headers_of_a_newer_version_are_kept_on_our_own_topics_alone() {
        let kept = |origin| {
            let header = |name: &str| Header {
                name: name.to_owned(),
                value: None,
            };
            let record = Record {
                position: Position {
                    topic: "t".into(),
                    partition: 0,
                    offset: 0,
                },
                timestamp: None,
                key: None,
                value: None,
                headers: ["x-other", "otp-newer", "otp-attempt"].map(header).to_vec(),
            };
            let reading = Reading {
                lifetime: Duration::from_secs(300),
                accepted: "user-otp.accepted".into(),
            };
            let read = Request::read(record, origin, NOW, &reading).record;
            read.headers.iter().any(|header| header.name == "otp-newer")
        };
        let retry = Origin::Retry(Duration::from_secs(5));
        assert!(kept(retry) && kept(Origin::Accepted) && kept(Origin::Jobs));
        assert!(!kept(Origin::Requests));
    }

    #[test]
    fn a_deadline_from_outside_can_only_shorten() {
        let deadline = |header| {
            read(
                Origin::Requests,
                "r",
                900_000,
                &[("otp-deadline-ms", header)],
            )
            .context
            .deadline
        };
        assert_eq!(deadline("1000500"), EpochMs(1_000_500));
        assert_eq!(deadline("1300000"), EpochMs(1_200_000));
        assert_eq!(deadline("-5"), EpochMs(1_200_000));
        assert_eq!(deadline("soon"), EpochMs(1_200_000));
    }

    #[test]
    fn a_record_from_the_future_is_received_now() {
        let envelope = read(Origin::Requests, "r", 9_000_000, &[]);
        assert_eq!(
            (envelope.received, envelope.context.deadline),
            (NOW, EpochMs(1_300_000))
        );
    }

    #[test]
    fn a_retry_keeps_what_was_written_once() {
        let kept = [
            ("otp-event-id", "e-1"),
            ("otp-source", "user-otp.accepted-0-7"),
            ("otp-deadline-ms", "1100000"),
            ("otp-received-ms", "800000"),
            ("otp-attempt", "2"),
            ("otp-first-failed-ms", "810000"),
        ];
        let envelope = read(
            Origin::Retry(Duration::from_secs(5)),
            "user-otp.retry.5s",
            990_000,
            &kept,
        );
        assert_eq!(
            (
                envelope.event_id.as_str(),
                envelope.source.to_string().as_str()
            ),
            ("e-1", "user-otp.accepted-0-7")
        );
        assert_eq!(
            (envelope.received, envelope.context.deadline),
            (EpochMs(800_000), EpochMs(1_100_000))
        );
        assert_eq!(
            (envelope.tries_before, envelope.first_failed, envelope.door),
            (2, Some(EpochMs(810_000)), Door::Http)
        );
    }

    #[test]
    fn only_our_own_topics_say_that_a_request_was_charged() {
        let charged = |origin| {
            read(origin, "t", 990_000, &[("otp-charged", "true")])
                .context
                .charge
                .is_done()
        };
        assert!(charged(Origin::Accepted) && charged(Origin::Retry(Duration::from_secs(5))));
        assert!(!charged(Origin::Requests) && !charged(Origin::Jobs));
    }

    #[test]
    fn a_job_gives_a_fresh_life() {
        let headers = [
            ("otp-deadline-ms", "5"),
            ("otp-attempt", "4"),
            ("otp-source", "requests-0-1"),
            ("otp-replay-id", "j"),
        ];
        let envelope = read(Origin::Jobs, "user-otp.jobs.request", 990_000, &headers);
        assert_eq!(
            (envelope.context.deadline, envelope.tries_before),
            (EpochMs(1_290_000), 0)
        );
        assert_eq!(
            (envelope.door, envelope.context.queue),
            (Door::Job, Queue::Job)
        );
        assert_eq!(envelope.source.to_string(), "requests-0-1");
    }

    #[test]
    fn positions_are_read_back() {
        let position = Position {
            topic: "a-b-1".into(),
            partition: 0,
            offset: 9,
        };
        assert_eq!(Position::parse(&position.to_string()), Some(position));
        for text in ["", "a", "a-1", "-1-2", "a-x-2", "a-1--2", "a-1-2x"] {
            assert_eq!(Position::parse(text), None, "{text}");
        }
    }
}
