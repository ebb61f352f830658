//! From an outcome to the records that say so: all that one transaction writes for a request.

use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest as _, Sha256};

use super::headers::{self, hex};
use super::record::{Header, Record, Request, number_of};
use super::retry::{self, Need, Tier};
use crate::clock::EpochMs;
use crate::domain::request::Submission;
use crate::handler::Context;
use crate::notification::Notification;
use crate::outcome::{Code, Disposition, Failure, FinalOutcome, Outcome, Setback, Stage};
use crate::wire::OutcomeRecord;

/// A record to be written.
#[derive(Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// Topic name.
    pub topic: Arc<str>,
    /// Key, any bytes.
    pub key: Option<Vec<u8>>,
    /// Value, any bytes.
    pub value: Option<Vec<u8>>,
    /// Headers, in order.
    pub headers: Vec<Header>,
}

impl Outgoing {
    /// About how much of a topic's `max.message.bytes` it takes, in bytes, uncompressed.
    #[must_use]
    pub fn size(&self) -> usize {
        let part = |bytes: &Option<Vec<u8>>| bytes.as_ref().map_or(0, Vec::len);
        let headers: usize = self
            .headers
            .iter()
            .map(|header| header.name.len() + part(&header.value) + 8)
            .sum();
        part(&self.key) + part(&self.value) + headers + BATCH_OVERHEAD
    }
}

/// Whether one of these records goes to `topic`.
pub(crate) fn writes_to(records: &[Outgoing], topic: &str) -> bool {
    records.iter().any(|record| &*record.topic == topic)
}

/// A record batch's own header (61 bytes) and a record's lengths and times.
const BATCH_OVERHEAD: usize = 61 + 35;

/// Where the writer's records go, and by which rules.
#[derive(Debug, Clone)]
pub struct Writer {
    /// Consumer group, named on dead letters.
    pub group: String,
    /// Topic of dead letters.
    pub dead_letters: Arc<str>,
    /// What one dead letter may take, in bytes.
    pub dead_letter_limit: usize,
    /// Topic of outcomes.
    pub outcomes: Arc<str>,
    /// The retry topics, ascending by delay.
    pub tiers: Vec<Tier>,
    /// `request.min_life`.
    pub min_life: Duration,
}

/// The end of a request whose deadline is too near for another step.
pub const EXPIRED: Failure = Failure {
    disposition: Disposition::Expired,
    code: Code::DeadlineNear,
    stage: Stage::Queue,
};

impl Writer {
    /// What a try's outcome comes to at `now`: where no tier leaves a retried request enough time, it
    /// is expired.
    pub fn settle(&self, request: &Request, outcome: Outcome, now: EpochMs) -> Outcome {
        match outcome {
            Outcome::Retried(setback) if self.tier(request, setback, now).is_none() => {
                Outcome::DeadLettered(setback.expired())
            }
            Outcome::Published(_)
            | Outcome::Rejected(_)
            | Outcome::Limited(_)
            | Outcome::DeadLettered(_)
            | Outcome::Retried(_) => outcome,
        }
    }

    /// Everything that is to be written for `outcome`, at `now`.
    #[must_use]
    pub fn write(&self, request: &Request, outcome: &Outcome, now: EpochMs) -> Vec<Outgoing> {
        match outcome {
            Outcome::Published(published) => {
                let end = End {
                    code: published.code.map(Code::as_str),
                    ..End::of(FinalOutcome::Published)
                };
                let sms = published.sms.record(request.envelope.context.deadline);
                let notifications = std::iter::once(&sms).chain(&published.email);
                let mut records: Vec<_> = notifications
                    .map(|one| notification(one, ids(request)))
                    .collect();
                records.push(self.outcome(request, &end, now));
                records
            }
            Outcome::Rejected(rejection) => {
                let end = End {
                    code: Some(rejection.code()),
                    ..End::of(FinalOutcome::Rejected)
                };
                vec![self.outcome(request, &end, now)]
            }
            Outcome::Limited(limited) => {
                let end = End {
                    code: Some(limited.limit.as_str()),
                    ..End::of(FinalOutcome::Limited)
                };
                vec![self.outcome(request, &end, now)]
            }
            Outcome::DeadLettered(failure) => self.dead_lettered(request, *failure, now),
            Outcome::Retried(setback) => self.retried(request, *setback, now),
        }
    }

    /// That a request ended with an equal one that was published.
    #[must_use]
    pub fn superseded(&self, request: &Request, now: EpochMs) -> Outgoing {
        self.outcome(request, &End::of(FinalOutcome::Superseded), now)
    }

    fn dead_lettered(&self, request: &Request, failure: Failure, now: EpochMs) -> Vec<Outgoing> {
        let end = End {
            disposition: Some(failure.disposition.as_str()),
            code: Some(failure.code.as_str()),
            stage: Some(failure.stage.as_str()),
            ..End::of(FinalOutcome::DeadLettered)
        };
        vec![
            self.dead_letter(request, failure, now),
            self.outcome(request, &end, now),
        ]
    }

    fn tier(&self, request: &Request, setback: Setback, now: EpochMs) -> Option<&Tier> {
        let left = request.envelope.context.deadline.left(now);
        if setback.code == Code::LaneFull {
            return retry::longest(&self.tiers, left, self.min_life);
        }
        let need = Need {
            tries_before: request.envelope.tries_before,
            retry_after: setback.retry_after,
            left,
        };
        retry::choose(&self.tiers, need, self.min_life)
    }

    fn retried(&self, request: &Request, setback: Setback, now: EpochMs) -> Vec<Outgoing> {
        let Some(tier) = self.tier(request, setback, now) else {
            return self.dead_lettered(request, setback.expired(), now);
        };
        let mut headers = kept(&request.record, request);
        let envelope = &request.envelope;
        push(&mut headers, headers::DEADLINE, envelope.context.deadline.0);
        push(&mut headers, headers::SOURCE, &envelope.source);
        push(&mut headers, headers::RECEIVED, envelope.received.0);
        push(&mut headers, headers::ATTEMPT, attempts(request));
        if envelope.context.charge.is_done() {
            push(&mut headers, headers::CHARGED, "true");
        }
        if let Some(client) = envelope.context.charge.client_due() {
            push(&mut headers, headers::CLIENT, client.to_text());
        }
        push_failure(&mut headers, setback.code, setback.stage, request, now);
        let Record { key, value, .. } = request.record.clone();
        vec![Outgoing {
            topic: Arc::clone(&tier.topic),
            key,
            value,
            headers,
        }]
    }

    fn dead_letter(&self, request: &Request, failure: Failure, now: EpochMs) -> Outgoing {
        let mut headers = kept(&request.record, request);
        let envelope = &request.envelope;
        push(&mut headers, headers::DEADLINE, envelope.context.deadline.0);
        push(&mut headers, headers::SOURCE, &envelope.source);
        push(
            &mut headers,
            headers::DISPOSITION,
            failure.disposition.as_str(),
        );
        push_failure(&mut headers, failure.code, failure.stage, request, now);
        if let Some(tenant) = submission(request).and_then(Submission::tenant_label) {
            push(&mut headers, headers::TENANT, tenant);
        }
        if let Some(kind) = submission(request).and_then(Submission::type_label) {
            push(&mut headers, headers::TYPE, kind);
        }
        push(&mut headers, headers::DLQ_TOPIC, &envelope.source.topic);
        push(
            &mut headers,
            headers::DLQ_PARTITION,
            envelope.source.partition,
        );
        push(&mut headers, headers::DLQ_OFFSET, envelope.source.offset);
        if let Some(last) = request.last_offset {
            push(&mut headers, headers::LAST_OFFSET, last);
        }
        push(&mut headers, headers::DLQ_GROUP, &self.group);
        push(&mut headers, headers::DLQ_DELIVERY_COUNT, attempts(request));
        push(&mut headers, headers::DLQ_MESSAGE, sentence(failure));
        let Record { key, value, .. } = &request.record;
        // One that was compressed may be a hundred megabytes: it is not copied first.
        let large = value
            .as_ref()
            .filter(|value| value.len() > self.dead_letter_limit);
        if let Some(value) = large {
            push_digest(&mut headers, value);
        }
        let mut letter = Outgoing {
            topic: Arc::clone(&self.dead_letters),
            key: key.clone(),
            value: if large.is_none() { value.clone() } else { None },
            headers,
        };
        if letter.size() > self.dead_letter_limit {
            shorten(&mut letter, self.dead_letter_limit);
        }
        letter
    }

    fn outcome(&self, request: &Request, end: &End, now: EpochMs) -> Outgoing {
        let envelope = &request.envelope;
        let source = envelope.source.to_string();
        let replay_id = request
            .record
            .header(headers::REPLAY_ID)
            .filter(|_| envelope.door == super::record::Door::Job);
        let replay_id = replay_id.and_then(|id| headers::clean_id(id, number(request)));
        let position = &request.record.position;
        let record = OutcomeRecord {
            event_id: &envelope.event_id,
            outcome: end.outcome.as_str(),
            disposition: end.disposition,
            code: end.code,
            stage: end.stage,
            tenant_id: submission(request).and_then(Submission::tenant_label),
            r#type: submission(request).and_then(Submission::type_label),
            door: envelope.door.as_str(),
            attempts: attempts(request),
            received_at_ms: envelope.received.0,
            finished_at_ms: now.0,
            source: Some(&source),
            replay_id: replay_id.as_deref(),
            topic: Some(&position.topic),
            partition: Some(position.partition),
            offset: Some(position.offset),
        };
        Outgoing {
            topic: Arc::clone(&self.outcomes),
            key: Some(envelope.event_id.clone().into_bytes()),
            value: Some(record.to_bytes()),
            headers: ids(request),
        }
    }
}

/// Leaves the values of dead letters out: their topic takes less than was measured. Whether there was
/// anything left to leave out.
pub fn shorten_dead_letter(records: &mut [Outgoing]) -> bool {
    let is_letter = |record: &&mut Outgoing| {
        record
            .headers
            .iter()
            .any(|header| header.name == headers::DISPOSITION)
    };
    let mut shorter = false;
    for letter in records.iter_mut().filter(is_letter) {
        let before = letter.size();
        shorten(letter, 0);
        shorter |= letter.size() != before;
    }
    shorter
}

/// How a request ended, for its outcome record.
struct End {
    outcome: FinalOutcome,
    disposition: Option<&'static str>,
    code: Option<&'static str>,
    stage: Option<&'static str>,
}

impl End {
    fn of(outcome: FinalOutcome) -> Self {
        Self {
            outcome,
            disposition: None,
            code: None,
            stage: None,
        }
    }
}

pub(crate) fn notification(notification: &Notification, headers: Vec<Header>) -> Outgoing {
    Outgoing {
        topic: notification.topic.as_str().into(),
        key: Some(notification.key.clone().into_bytes()),
        value: Some(notification.value.clone()),
        headers,
    }
}

fn submission(request: &Request) -> Option<&Submission> {
    request.submission.as_ref().ok()
}

fn number(request: &Request) -> &[u8] {
    number_of(&request.submission, &request.record)
}

fn attempts(request: &Request) -> u32 {
    request.envelope.tries_before.saturating_add(1)
}

fn ids(request: &Request) -> Vec<Header> {
    ids_of(&request.envelope.event_id, &request.envelope.context)
}

/// The ids that every record of ours carries.
pub(crate) fn ids_of(event_id: &str, context: &Context) -> Vec<Header> {
    let mut headers = Vec::with_capacity(3);
    push(&mut headers, headers::EVENT_ID, event_id);
    if let Some(traceparent) = &context.traceparent {
        push(&mut headers, headers::TRACEPARENT, traceparent);
    }
    if let Some(correlation_id) = &context.correlation_id {
        push(&mut headers, headers::CORRELATION_ID, correlation_id);
    }
    headers
}

/// The record's own headers without those that this version writes, then the ids and, on a job's request, the job.
fn kept(record: &Record, request: &Request) -> Vec<Header> {
    let mut headers: Vec<Header> = record
        .headers
        .iter()
        .filter(|header| {
            !headers::is_ours(&header.name) || headers::is_of_a_newer_version(&header.name)
        })
        .cloned()
        .collect();
    headers.extend(ids(request));
    if request.envelope.door == super::record::Door::Job {
        for name in headers::REPLAY {
            if let Some(value) = record
                .header(name)
                .and_then(|value| headers::clean_id(value, number(request)))
            {
                push(&mut headers, name, value);
            }
        }
    }
    headers
}

pub(crate) fn push(headers: &mut Vec<Header>, name: &str, value: impl ToString) {
    headers.push(Header {
        name: name.to_owned(),
        value: Some(value.to_string().into_bytes()),
    });
}

fn push_failure(
    headers: &mut Vec<Header>,
    code: Code,
    stage: Stage,
    request: &Request,
    now: EpochMs,
) {
    push(headers, headers::ERROR_CODE, code.as_str());
    push(headers, headers::ERROR_STAGE, stage.as_str());
    push(
        headers,
        headers::FIRST_FAILED,
        request.envelope.first_failed.unwrap_or(now).0,
    );
    push(headers, headers::FAILED, now.0);
}

fn push_digest(to: &mut Vec<Header>, value: &[u8]) {
    push(to, headers::VALUE_SIZE, value.len());
    push(to, headers::VALUE_SHA256, hex(&Sha256::digest(value)));
}

/// Replaces what is too large to copy by what finds it again: first the value, by its size and
/// hash (its position is in the headers already), then foreign headers, then the key.
fn shorten(letter: &mut Outgoing, limit: usize) {
    if let Some(value) = letter.value.take() {
        push_digest(&mut letter.headers, &value);
    }
    if letter.size() > limit {
        letter
            .headers
            .retain(|header| headers::is_ours(&header.name));
    }
    if letter.size() > limit {
        letter.key = None;
    }
}

/// A sentence for people, from a fixed set.
#[must_use]
pub fn sentence(failure: Failure) -> &'static str {
    match (failure.disposition, failure.code) {
        (Disposition::Expired, Code::DeadlineNear) => {
            "its deadline was too near when its turn came"
        }
        (Disposition::Expired, _) => "what it needed stayed unavailable until its deadline",
        (_, Code::EmptyValue) => "the record has no value",
        (_, Code::NotUtf8) => "the value is not UTF-8 text",
        (_, Code::NotJson) => "the value is not JSON",
        (_, Code::WrongShape) => "the value is JSON, but not an OTP request",
        (_, Code::UnreadableBatch) => {
            "a batch of records cannot be decompressed, or is damaged: nothing in it can be read"
        }
        (_, Code::UnknownOutputTopic) => "the tenant's SMS topic does not exist",
        (_, Code::ServiceRefused) => "a service refused the call; asking again would not help",
        (_, Code::OutputTooLarge) => "a record of its result is larger than its topic takes",
        (
            _,
            Code::ServiceUnavailable
            | Code::ServiceTimeout
            | Code::ServiceBrokenAnswer
            | Code::DeadlineNear
            | Code::LaneFull
            | Code::OutputTopicUnavailable
            | Code::EmailTopicMissing
            | Code::InternalError,
        ) => "it could not be done",
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::engine::record::{Origin, Position, Reading};

    const NOW: EpochMs = EpochMs(1_000_000);

    pub(in crate::engine) fn writer() -> Writer {
        let tier = |delay: u64| Tier {
            topic: format!("retry.{delay}s").into(),
            delay: Duration::from_secs(delay),
        };
        Writer {
            group: "user-otp".into(),
            dead_letters: "dlq".into(),
            dead_letter_limit: 10_000,
            outcomes: "outcomes".into(),
            tiers: vec![tier(5), tier(30)],
            min_life: Duration::from_secs(15),
        }
    }

    fn request(value: &[u8], headers: &[(&str, &str)]) -> Request {
        let record = Record {
            position: Position {
                topic: "requests".into(),
                partition: 3,
                offset: 42,
            },
            timestamp: Some(EpochMs(990_000)),
            key: Some(b"key".to_vec()),
            value: Some(value.to_vec()),
            headers: headers
                .iter()
                .map(|(name, value)| Header {
                    name: (*name).into(),
                    value: Some(value.as_bytes().to_vec()),
                })
                .collect(),
        };
        let reading = Reading {
            lifetime: Duration::from_secs(300),
            accepted: "accepted".into(),
        };
        Request::read(record, Origin::Requests, NOW, &reading)
    }

    fn login(headers: &[(&str, &str)]) -> Request {
        let value = br#"{"otp":{"mobileNumber":"9876543210","tenantId":"pb","type":"login"}}"#;
        request(value, headers)
    }

    /// `name=value` lines.
    fn lines(record: &Outgoing) -> Vec<String> {
        let text = |value: &Option<Vec<u8>>| {
            String::from_utf8(value.clone().unwrap_or_default()).expect("UTF-8")
        };
        record
            .headers
            .iter()
            .map(|header| format!("{}={}", header.name, text(&header.value)))
            .collect()
    }

    fn unavailable(code: Code) -> Outcome {
        Outcome::Retried(Setback {
            code,
            stage: Stage::Otp,
            retry_after: None,
        })
    }

    #[test]
    fn a_retry_carries_the_request_as_it_came_and_what_was_written_once() {
        let forged = [
            ("x-own", "kept"),
            ("otp-attempt", "7"),
            ("otp-event-id", "e-1"),
        ];
        let records = writer().write(&login(&forged), &unavailable(Code::ServiceTimeout), NOW);
        let [retry] = records.as_slice() else {
            panic!("one record");
        };
        assert_eq!(
            (&*retry.topic, retry.key.as_deref()),
            ("retry.5s", Some(&b"key"[..]))
        );
        assert_eq!(
            lines(retry),
            [
                "x-own=kept",
                "otp-event-id=e-1",
                "otp-deadline-ms=1290000",
                "otp-source=requests-3-42",
                "otp-received-ms=990000",
                "otp-attempt=1",
                "otp-error-code=service-timeout",
                "otp-error-stage=otp",
                "otp-first-failed-ms=1000000",
                "otp-failed-ms=1000000",
            ]
        );
    }

    #[test]
    fn a_lane_that_is_full_goes_on_the_longest_tier() {
        let records = writer().write(&login(&[]), &unavailable(Code::LaneFull), NOW);
        assert_eq!(&*records[0].topic, "retry.30s");
    }

    #[test]
    fn where_no_tier_leaves_min_life_the_request_expires_with_its_cause() {
        let now = EpochMs(1_275_000);
        let settled = writer().settle(&login(&[]), unavailable(Code::ServiceUnavailable), now);
        let Outcome::DeadLettered(failure) = settled else {
            panic!("it is {settled:?}");
        };
        assert_eq!(failure.disposition, Disposition::Expired);
        let records = writer().write(&login(&[]), &unavailable(Code::ServiceUnavailable), now);
        let [letter, outcome] = records.as_slice() else {
            panic!("two records");
        };
        assert_eq!((&*letter.topic, &*outcome.topic), ("dlq", "outcomes"));
        assert_eq!(
            lines(letter),
            [
                "otp-event-id=requests-3-42",
                "otp-deadline-ms=1290000",
                "otp-source=requests-3-42",
                "otp-disposition=expired",
                "otp-error-code=service-unavailable",
                "otp-error-stage=otp",
                "otp-first-failed-ms=1275000",
                "otp-failed-ms=1275000",
                "otp-tenant=pb",
                "otp-type=login",
                "__dlq.errors.topic=requests",
                "__dlq.errors.partition=3",
                "__dlq.errors.offset=42",
                "__dlq.errors.group=user-otp",
                "__dlq.errors.delivery.count=1",
                "__dlq.errors.message=what it needed stayed unavailable until its deadline",
            ]
        );
        let value = String::from_utf8(outcome.value.clone().expect("a value")).expect("UTF-8");
        assert_eq!(
            value,
            r#"{"eventId":"requests-3-42","outcome":"dead-lettered","disposition":"expired","code":"service-unavailable","stage":"otp","tenantId":"pb","type":"login","door":"stream","attempts":1,"receivedAtMs":990000,"finishedAtMs":1275000,"source":"requests-3-42","replayId":null,"topic":"requests","partition":3,"offset":42}"#
        );
    }

    #[test]
    fn a_dead_letter_that_does_not_fit_says_what_it_was() {
        let poison = Outcome::DeadLettered(Failure {
            disposition: Disposition::Poison,
            code: Code::NotJson,
            stage: Stage::Decode,
        });
        let records = writer().write(&request(&[b'x'; 10_000], &[]), &poison, NOW);
        let letter = &records[0];
        assert_eq!(
            (letter.value.as_deref(), letter.key.as_deref()),
            (None, Some(&b"key"[..]))
        );
        assert!(letter.size() <= 10_000);
        let lines = lines(letter);
        assert!(
            lines.contains(&"otp-value-size=10000".to_owned()),
            "{lines:?}"
        );
        let sha256 = hex(&Sha256::digest([b'x'; 10_000]));
        assert!(
            lines.contains(&format!("otp-value-sha256={sha256}")),
            "{lines:?}"
        );
    }

    #[test]
    fn a_dead_letter_that_fits_is_byte_for_byte() {
        let poison = Outcome::DeadLettered(EXPIRED);
        let records = writer().write(&request(b"\xff\x00", &[]), &poison, NOW);
        assert_eq!(records[0].value.as_deref(), Some(&b"\xff\x00"[..]));
    }
}
