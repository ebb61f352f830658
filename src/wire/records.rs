//! The values of the records that go out.
//!
//! The fields of each struct are in the order of the wire. egov-notification-sms reads a map, but
//! forks of it are stricter: no property may be added there; whatever else is to be said goes into
//! record headers.

use std::borrow::Cow;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use crate::outcome::FinalOutcome;

/// An SMS, as egov-notification-sms takes it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Sms<'a> {
    /// Who gets it.
    pub mobile_number: &'a str,
    /// The text, at most 1,000 characters.
    pub message: &'a str,
    /// The consumer's category.
    pub category: &'static str,
    /// When it is too late to send it, in epoch milliseconds.
    pub expiry_time: i64,
    /// The dialling prefix, where it is known.
    pub country_code: Option<&'a str>,
}

/// An email, as egov-notification-mail takes it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Email<'a> {
    request_info: EmptyRequestInfo,
    email: EmailContent<'a>,
}

impl<'a> Email<'a> {
    /// An email to one address.
    #[must_use]
    pub fn new(to: &'a str, subject: &'a str, body: &'a str) -> Self {
        Self {
            request_info: EmptyRequestInfo::default(),
            email: EmailContent {
                email_to: [to],
                subject,
                body,
            },
        }
    }
}

/// What becomes of a request, for who published it; null where it does not apply.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OutcomeRecord<'a> {
    /// The request's id.
    pub event_id: &'a str,
    /// `published`, `rejected`, `limited`, `superseded` or `dead-lettered`.
    pub outcome: &'a str,
    /// The kind of dead letter.
    pub disposition: Option<&'a str>,
    /// What happened: our code, or the first code of a rejection.
    pub code: Option<&'a str>,
    /// Where it happened.
    pub stage: Option<&'a str>,
    /// The tenant, where it is a valid one.
    pub tenant_id: Option<&'a str>,
    /// The request's type, where it is a known one.
    pub r#type: Option<&'a str>,
    /// `stream`, `http` or `job`.
    pub door: &'a str,
    /// Tries, this one included.
    pub attempts: u32,
    /// When the request came in, in epoch milliseconds.
    pub received_at_ms: i64,
    /// When it was finished, in epoch milliseconds.
    pub finished_at_ms: i64,
    /// The request's first record, as `topic-partition-offset`.
    pub source: Option<&'a str>,
    /// The replay it belongs to.
    pub replay_id: Option<&'a str>,
    /// The topic of the record that this outcome finished.
    pub topic: Option<&'a str>,
    /// Its partition.
    pub partition: Option<i32>,
    /// Its offset.
    pub offset: Option<i64>,
}

impl OutcomeRecord<'_> {
    /// The record's value.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        super::to_bytes(self)
    }
}

/// What an outcome record says, for who waits for one.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OutcomeSeen {
    /// What became of the request.
    #[serde(deserialize_with = "final_outcome")]
    pub outcome: FinalOutcome,
    /// The kind of dead letter.
    pub disposition: Option<String>,
    /// What happened.
    pub code: Option<String>,
    /// Where it happened.
    pub stage: Option<String>,
    /// The tenant, where it is a valid one.
    pub tenant_id: Option<String>,
    /// Tries.
    pub attempts: u32,
    /// When the request came in, in epoch milliseconds.
    pub received_at_ms: i64,
    /// When it was finished, in epoch milliseconds.
    pub finished_at_ms: i64,
}

impl OutcomeSeen {
    /// Reads a record's value; none where it is no outcome.
    #[must_use]
    pub fn parse(value: &[u8]) -> Option<Self> {
        serde_json::from_slice(value).ok()
    }
}

/// What an outcome record says of where its request came from, for who looks through many.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OutcomeOrigin<'a> {
    /// What became of the request.
    #[serde(borrow)]
    pub outcome: Cow<'a, str>,
    /// The position of its first record.
    #[serde(borrow)]
    pub source: Option<Cow<'a, str>>,
    /// The job that had sent it again.
    #[serde(borrow)]
    pub replay_id: Option<Cow<'a, str>>,
    /// When it was finished, in epoch milliseconds.
    pub finished_at_ms: i64,
}

impl<'a> OutcomeOrigin<'a> {
    /// Reads a record's value; none where it is no outcome.
    #[must_use]
    pub fn parse(value: &'a [u8]) -> Option<Self> {
        serde_json::from_slice(value).ok()
    }
}

fn final_outcome<'de, D: Deserializer<'de>>(from: D) -> Result<FinalOutcome, D::Error> {
    let word = String::deserialize(from)?;
    FinalOutcome::from_word(&word).ok_or_else(|| D::Error::custom("no outcome"))
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct EmailContent<'a> {
    email_to: [&'a str; 1],
    subject: &'a str,
    body: &'a str,
}

/// The platform's `RequestInfo` with nothing in it. The consumer asks for the object, not for what
/// could be in it.
#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct EmptyRequestInfo {
    api_id: (),
    ver: (),
    ts: (),
    action: (),
    did: (),
    key: (),
    msg_id: (),
    auth_token: (),
    correlation_id: (),
    plain_access_request: (),
    user_info: (),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outcome_that_is_written_is_read_the_same() {
        let seen = OutcomeSeen::parse(&PUBLISHED.to_bytes()).expect("an outcome");
        assert_eq!((seen.outcome, seen.attempts), (FinalOutcome::Published, 1));
        assert_eq!(seen.finished_at_ms - seen.received_at_ms, 99);
        for other in ["", "{}", r#"{"outcome":"maybe"}"#] {
            assert_eq!(OutcomeSeen::parse(other.as_bytes()), None, "{other}");
        }
    }

    const PUBLISHED: OutcomeRecord<'_> = OutcomeRecord {
        event_id: "8f14e45f",
        outcome: "published",
        disposition: None,
        code: None,
        stage: None,
        tenant_id: Some("pb.amritsar"),
        r#type: Some("login"),
        door: "stream",
        attempts: 1,
        received_at_ms: 1_732_345_678_901,
        finished_at_ms: 1_732_345_679_000,
        source: None,
        replay_id: None,
        topic: Some("egov.core.otp.request"),
        partition: Some(3),
        offset: Some(42),
    };

    fn text(record: &OutcomeRecord<'_>) -> String {
        String::from_utf8(record.to_bytes()).expect("UTF-8")
    }

    #[test]
    fn an_outcome_has_every_property_in_its_order() {
        assert_eq!(
            text(&PUBLISHED),
            concat!(
                r#"{"eventId":"8f14e45f","outcome":"published","disposition":null,"code":null,"stage":null,"#,
                r#""tenantId":"pb.amritsar","type":"login","door":"stream","attempts":1,"#,
                r#""receivedAtMs":1732345678901,"finishedAtMs":1732345679000,"source":null,"replayId":null,"#,
                r#""topic":"egov.core.otp.request","partition":3,"offset":42}"#
            )
        );
    }

    #[test]
    fn an_outcome_of_a_dead_letter_says_why() {
        let record = OutcomeRecord {
            outcome: "dead-lettered",
            disposition: Some("poison"),
            code: Some("not-json"),
            stage: Some("decode"),
            tenant_id: None,
            r#type: None,
            source: Some("egov.core.otp.request-3-42"),
            replay_id: Some("r1"),
            ..PUBLISHED
        };
        assert_eq!(
            text(&record),
            concat!(
                r#"{"eventId":"8f14e45f","outcome":"dead-lettered","disposition":"poison","code":"not-json","#,
                r#""stage":"decode","tenantId":null,"type":null,"door":"stream","attempts":1,"#,
                r#""receivedAtMs":1732345678901,"finishedAtMs":1732345679000,"#,
                r#""source":"egov.core.otp.request-3-42","replayId":"r1","#,
                r#""topic":"egov.core.otp.request","partition":3,"offset":42}"#
            )
        );
    }
}
