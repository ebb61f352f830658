//! A dead letter as operators look at it: what its headers and its request say, each checked, since
//! anything may be on a topic.

use std::cell::OnceCell;

use crate::clock::EpochMs;
use crate::domain::request::{DecodeError, RequestType, Submission};
use crate::domain::tenant::TenantId;
use crate::engine::headers;
use crate::engine::record::{Position, Record};
use crate::outcome::{Code, Disposition, Failure, Stage};

/// A record of the dead-letter topic.
pub struct Letter {
    record: Record,
    submission: OnceCell<Result<Submission, DecodeError>>,
}

impl Letter {
    /// A look at this record.
    #[must_use]
    pub fn new(record: Record) -> Self {
        Self {
            record,
            submission: OnceCell::new(),
        }
    }

    /// The record as it is.
    #[must_use]
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// The request in it, where it can be read.
    ///
    /// # Errors
    ///
    /// Why it cannot.
    pub fn submission(&self) -> Result<&Submission, DecodeError> {
        let read = || Submission::decode(self.record.value.as_deref());
        self.submission
            .get_or_init(read)
            .as_ref()
            .map_err(|error| *error)
    }

    /// The kind of end; none: no dead letter of ours.
    #[must_use]
    pub fn disposition(&self) -> Option<Disposition> {
        Disposition::from_word(self.text(headers::DISPOSITION)?)
    }

    /// What happened.
    #[must_use]
    pub fn code(&self) -> Option<Code> {
        Code::from_word(self.text(headers::ERROR_CODE)?)
    }

    /// Where it happened.
    #[must_use]
    pub fn stage(&self) -> Option<Stage> {
        Stage::from_word(self.text(headers::ERROR_STAGE)?)
    }

    /// All three; none where one is missing.
    #[must_use]
    pub fn failure(&self) -> Option<Failure> {
        Some(Failure {
            disposition: self.disposition()?,
            code: self.code()?,
            stage: self.stage()?,
        })
    }

    /// The tenant, where it is a valid one.
    #[must_use]
    pub fn tenant(&self) -> Option<&str> {
        let said = self.text(headers::TENANT);
        said.filter(|text| TenantId::is_valid(text))
            .or_else(|| self.submission().ok()?.tenant_label())
    }

    /// The request's type, where it is a known one.
    #[must_use]
    pub fn kind(&self) -> Option<&'static str> {
        let said = self.text(headers::TYPE).and_then(RequestType::parse);
        said.map(RequestType::as_str)
            .or_else(|| self.submission().ok()?.type_label())
    }

    /// The mobile number, in clear.
    #[must_use]
    pub fn number(&self) -> Option<&str> {
        self.submission().ok()?.mobile()
    }

    /// The event id; where there is none that is usable, the position of the request.
    #[must_use]
    pub fn event_id(&self) -> String {
        self.id(headers::EVENT_ID)
            .unwrap_or_else(|| self.source().to_string())
    }

    /// Where the request was first; where that is not said, where this record is.
    #[must_use]
    pub fn source(&self) -> Position {
        self.id(headers::SOURCE)
            .and_then(|text| Position::parse(&text))
            .unwrap_or_else(|| self.record.position.clone())
    }

    /// When the dead letter was written, by record time.
    #[must_use]
    pub fn written(&self) -> Option<EpochMs> {
        self.record.timestamp
    }

    /// A moment that one of our headers says.
    #[must_use]
    pub fn moment(&self, name: &str) -> Option<EpochMs> {
        self.text(name)?.parse().ok().map(EpochMs)
    }

    /// A count that one of our headers says.
    #[must_use]
    pub fn count(&self, name: &str) -> Option<u32> {
        self.text(name)?.parse().ok()
    }

    /// A header that is an id: usable ones alone, without the request's number.
    #[must_use]
    pub fn id(&self, name: &str) -> Option<String> {
        let number = match self.submission() {
            Ok(submission) => submission.mobile().unwrap_or_default().as_bytes(),
            Err(_) => self.record.value.as_deref().unwrap_or_default(),
        };
        headers::clean_id(self.record.header(name)?, number)
    }

    fn text(&self, name: &str) -> Option<&str> {
        std::str::from_utf8(self.record.header(name)?).ok()
    }
}

/// What an operator should do about a dead letter with this code.
#[must_use]
pub fn advice(code: Code) -> &'static str {
    match code {
        Code::EmptyValue => {
            "nothing can be sent of it: find who publishes records without a value on the topic it came from"
        }
        Code::NotUtf8 | Code::NotJson | Code::WrongShape => {
            "it would be read the same way again: show its producer the place in the value, and topics/schemas/request.json"
        }
        Code::UnknownOutputTopic => {
            "create the tenant's SMS topic, or correct the tenant at its producer; then the person asks again"
        }
        Code::ServiceRefused => {
            "look in the log of the stage's service for its 4xx at that moment: a wrong tenant, a missing permission, or a changed contract"
        }
        Code::ServiceUnavailable => {
            "the stage's service was away until the deadline: see that it is back; who still wants an OTP asks again"
        }
        Code::ServiceTimeout => {
            "the stage's service was too slow until the deadline: look at its latency, then at its timeout in our settings"
        }
        Code::ServiceBrokenAnswer => {
            "the stage's service answered what its contract does not say: look for a proxy's error page, or a new version"
        }
        Code::DeadlineNear => {
            "its turn came too late: look at user_otp_lag_seconds and at the producer's clock; if it goes on, add instances"
        }
        Code::LaneFull => {
            "one person had engine.lane requests waiting: an outage, or somebody who repeats them; see who asks so often"
        }
        Code::OutputTooLarge => {
            "raise max.message.bytes of the SMS, email and outcome topics as `user-otp topics plan` says, or shorten the text"
        }
        Code::OutputTopicUnavailable => {
            "the SMS topic could not be written to: look at the topic, its brokers and our permission on it"
        }
        Code::EmailTopicMissing => {
            "create the email topic: only the email was left out, the SMS went out"
        }
        Code::InternalError => {
            "a defect of user-otp: keep it with `user-otp dlq export`, and report it with the log lines of its event id"
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::engine::record::Header;

    /// A dead letter at partition 3, offset 42.
    pub(in crate::ops) fn letter(value: &str, pairs: &[(&str, &str)]) -> Letter {
        let header = |(name, value): &(&str, &str)| Header {
            name: (*name).to_owned(),
            value: Some(value.as_bytes().to_vec()),
        };
        Letter::new(Record {
            position: Position {
                topic: "user-otp.dlq".into(),
                partition: 3,
                offset: 42,
            },
            timestamp: Some(EpochMs(1_764_165_600_000)),
            key: Some(b"pb:9876543210".to_vec()),
            value: Some(value.as_bytes().to_vec()),
            headers: pairs.iter().map(header).collect(),
        })
    }

    pub(in crate::ops) const LOGIN: &str =
        r#"{"otp":{"mobileNumber":"9876543210","tenantId":"pb.amritsar","type":"login"}}"#;

    pub(in crate::ops) const REFUSED: &[(&str, &str)] = &[
        ("otp-event-id", "order-17"),
        ("otp-source", "requests-0-7"),
        ("otp-disposition", "refused"),
        ("otp-error-code", "service-refused"),
        ("otp-error-stage", "user"),
        ("otp-tenant", "pb.amritsar"),
        ("otp-type", "login"),
        ("otp-failed-ms", "1764165600000"),
        ("__dlq.errors.delivery.count", "2"),
        ("x-upstream", "citizen 9876543210"),
    ];

    #[test]
    fn a_letter_of_ours_says_what_its_headers_say() {
        let letter = letter(LOGIN, REFUSED);
        let expected = Failure {
            disposition: Disposition::Refused,
            code: Code::ServiceRefused,
            stage: Stage::User,
        };
        assert_eq!(letter.failure(), Some(expected));
        assert_eq!(
            (letter.tenant(), letter.kind()),
            (Some("pb.amritsar"), Some("login"))
        );
        assert_eq!(letter.event_id(), "order-17");
        assert_eq!(letter.source().to_string(), "requests-0-7");
        assert_eq!(letter.count(headers::DLQ_DELIVERY_COUNT), Some(2));
    }

    #[test]
    fn a_foreign_record_says_what_its_value_says_and_nothing_else() {
        let forged = [
            ("otp-event-id", "x9876543210"),
            ("otp-source", "no position"),
            ("otp-disposition", "\u{1b}[2J"),
            ("otp-tenant", "p b"),
            ("otp-type", "signup"),
        ];
        let letter = letter(LOGIN, &forged);
        assert_eq!(letter.failure(), None);
        assert_eq!(
            (letter.tenant(), letter.kind()),
            (Some("pb.amritsar"), Some("login"))
        );
        assert!(letter.event_id().starts_with("sha256-"));
        assert_eq!(letter.source().to_string(), "user-otp.dlq-3-42");
    }
}
