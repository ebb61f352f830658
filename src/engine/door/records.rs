//! What the HTTP door writes: a request's messages with its outcome, or the request itself for the
//! stream to carry on with.

use std::sync::Arc;

use bytes::Bytes;

use crate::clock::EpochMs;
use crate::domain::request::Submission;
use crate::engine::headers;
use crate::engine::output::{Outgoing, ids_of, notification, push};
use crate::engine::record::Door;
use crate::handler::Context;
use crate::outcome::{Code, FinalOutcome, Published};
use crate::wire::OutcomeRecord;

/// A request that came in over HTTP, read.
pub struct Visit {
    /// Finds it again; given by us.
    pub event_id: String,
    /// When it was received.
    pub received: EpochMs,
    /// Its body, as it came.
    pub body: Bytes,
    /// The request in it.
    pub submission: Submission,
    /// What goes with it, its deadline among it.
    pub context: Context,
}

/// What is to be written for a request, in one transaction.
#[derive(Debug)]
pub enum Content {
    /// Its messages, and its outcome.
    Published(Published),
    /// The request, on the topic of accepted requests; it has no outcome yet.
    HandedOver {
        /// Tries of it that have failed.
        tries: u32,
    },
}

/// Where the door's records go.
#[derive(Debug, Clone)]
pub struct Writer {
    /// Topic of accepted requests.
    pub accepted: Arc<str>,
    /// Topic of outcomes.
    pub outcomes: Arc<str>,
}

impl Writer {
    /// Everything that is to be written for `content`, at `now`.
    #[must_use]
    pub fn write(&self, visit: &Visit, content: &Content, now: EpochMs) -> Vec<Outgoing> {
        match content {
            Content::Published(published) => {
                let sms = published.sms.record(visit.context.deadline);
                let notifications = std::iter::once(&sms).chain(&published.email);
                let ids = || ids_of(&visit.event_id, &visit.context);
                notifications
                    .map(|one| notification(one, ids()))
                    .chain([self.outcome(visit, published.code, now)])
                    .collect()
            }
            Content::HandedOver { tries } => vec![self.accepted(visit, *tries)],
        }
    }

    fn accepted(&self, visit: &Visit, tries: u32) -> Outgoing {
        let context = &visit.context;
        let mut headers = ids_of(&visit.event_id, context);
        push(&mut headers, headers::DEADLINE, context.deadline.0);
        push(&mut headers, headers::RECEIVED, visit.received.0);
        push(&mut headers, headers::ATTEMPT, tries);
        if context.charge.is_done() {
            push(&mut headers, headers::CHARGED, "true");
        }
        if let Some(client) = context.charge.client_due() {
            push(&mut headers, headers::CLIENT, client.to_text());
        }
        if let Some(tenant) = &context.tenant_header {
            push(&mut headers, headers::TENANT_ID, tenant);
        }
        let (tenant, mobile) = (visit.submission.tenant(), visit.submission.mobile());
        let key = format!("{}:{}", tenant.unwrap_or(""), mobile.unwrap_or(""));
        Outgoing {
            topic: Arc::clone(&self.accepted),
            key: Some(key.into_bytes()),
            value: Some(visit.body.to_vec()),
            headers,
        }
    }

    fn outcome(&self, visit: &Visit, code: Option<Code>, now: EpochMs) -> Outgoing {
        let record = OutcomeRecord {
            event_id: &visit.event_id,
            outcome: FinalOutcome::Published.as_str(),
            disposition: None,
            code: code.map(Code::as_str),
            stage: None,
            tenant_id: visit.submission.tenant_label(),
            r#type: visit.submission.type_label(),
            door: Door::Http.as_str(),
            attempts: 1,
            received_at_ms: visit.received.0,
            finished_at_ms: now.0,
            // There is no record that this finishes.
            source: None,
            replay_id: None,
            topic: None,
            partition: None,
            offset: None,
        };
        Outgoing {
            topic: Arc::clone(&self.outcomes),
            key: Some(visit.event_id.clone().into_bytes()),
            value: Some(record.to_bytes()),
            headers: ids_of(&visit.event_id, &visit.context),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::contact::MobileNumber;
    use crate::egov::{AtFloor, Queue};
    use crate::limits::{Charge, Source};
    use crate::notification::{Notification, Sms};

    const BODY: &str =
        r#" {"otp":{"tenantId":"pb.amritsar","mobileNumber":9876543210,"type":"login"}}"#;

    fn visit() -> Visit {
        Visit {
            event_id: "8f14e45f".into(),
            received: EpochMs(1_000),
            body: Bytes::from_static(BODY.as_bytes()),
            submission: Submission::decode(BODY.as_bytes()).expect("readable"),
            context: Context {
                deadline: EpochMs(301_000),
                correlation_id: Some("c-1".into()),
                traceparent: Some("00-1".into()),
                tenant_header: Some("pb".into()),
                queue: Queue::Live,
                at_floor: AtFloor::Wait,
                charge: Charge::due(Source::new("8f14e45f"), EpochMs(1_000)),
            },
        }
    }

    fn writer() -> Writer {
        Writer {
            accepted: "accepted".into(),
            outcomes: "outcomes".into(),
        }
    }

    fn shown(records: &[Outgoing]) -> Vec<String> {
        let text = |bytes: &Option<Vec<u8>>| {
            String::from_utf8_lossy(bytes.as_deref().unwrap_or_default()).into_owned()
        };
        let show = |record: &Outgoing| {
            let headers: Vec<_> = record
                .headers
                .iter()
                .map(|header| format!("{}={}", header.name, text(&header.value)))
                .collect();
            let (key, value) = (text(&record.key), text(&record.value));
            format!("{} {key} {value} {}", record.topic, headers.join(" "))
        };
        records.iter().map(show).collect()
    }

    #[test]
    fn a_request_is_handed_over_as_it_came() {
        let handed = Content::HandedOver { tries: 1 };
        let mut charged = visit();
        charged.context.charge = charged.context.charge.already();
        assert_eq!(
            shown(&writer().write(&charged, &handed, EpochMs(2_000))),
            [format!(
                "accepted pb.amritsar:9876543210 {BODY} otp-event-id=8f14e45f traceparent=00-1 x-correlation-id=c-1 \
                 otp-deadline-ms=301000 otp-received-ms=1000 otp-attempt=1 otp-charged=true tenantId=pb"
            )]
        );
        let uncharged = writer().write(&visit(), &handed, EpochMs(2_000));
        assert!(!shown(&uncharged)[0].contains("charged"));
    }

    #[test]
    fn a_published_request_has_its_messages_and_its_outcome() {
        let sms = Sms {
            topic: "sms".into(),
            key: "k".into(),
            to: MobileNumber::stored("1".into()).expect("a number"),
            text: "text".into(),
            country_code: None,
            expires: EpochMs(400_000),
        };
        let email = Notification {
            topic: "email".into(),
            key: "k".into(),
            value: b"{}".to_vec(),
        };
        let published = Content::Published(Published {
            sms,
            email: Some(email),
            code: None,
            probe: None,
        });
        let ids = "otp-event-id=8f14e45f traceparent=00-1 x-correlation-id=c-1";
        assert_eq!(
            shown(&writer().write(&visit(), &published, EpochMs(2_000))),
            [
                format!(
                    "sms k {} {ids}",
                    r#"{"mobileNumber":"1","message":"text","category":"OTP","expiryTime":301000,"countryCode":null}"#
                ),
                format!("email k {{}} {ids}"),
                format!(
                    "outcomes 8f14e45f {} {ids}",
                    concat!(
                        r#"{"eventId":"8f14e45f","outcome":"published","disposition":null,"code":null,"stage":null,"#,
                        r#""tenantId":"pb.amritsar","type":"login","door":"http","attempts":1,"receivedAtMs":1000,"#,
                        r#""finishedAtMs":2000,"source":null,"replayId":null,"topic":null,"partition":null,"#,
                        r#""offset":null}"#
                    )
                )
            ]
        );
    }
}
