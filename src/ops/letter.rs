//! A dead letter, or a request on another topic, as operators look at it: what its headers and its request
//! say, each checked, since anything may be on a topic.

use std::cell::OnceCell;

use crate::clock::EpochMs;
use crate::domain::request::{DecodeError, RequestType, Submission};
use crate::domain::tenant::TenantId;
use crate::engine::headers;
use crate::engine::record::{Position, Record};
use crate::outcome::{Code, Disposition, Failure, Stage};

/// A record of the dead-letter topic, or of one with requests.
pub struct Letter {
    record: Record,
    /// Whether we alone write on its topic: elsewhere our headers may be anybody's.
    is_of_ours: bool,
    submission: OnceCell<Result<Submission, DecodeError>>,
}

impl Letter {
    /// A look at this record.
    #[must_use]
    pub fn new(record: Record) -> Self {
        Self {
            record,
            is_of_ours: true,
            submission: OnceCell::new(),
        }
    }

    /// A look at a record of a topic that anyone upstream writes to.
    #[must_use]
    pub fn upstream(record: Record) -> Self {
        Self {
            is_of_ours: false,
            ..Self::new(record)
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
        let read = || Submission::of_record(self.record.value.as_deref());
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
        let said = self.is_of_ours.then(|| self.id(headers::SOURCE)).flatten();
        said.and_then(|text| Position::parse(&text))
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
        let value = self.record.header(name).filter(|_| self.is_of_ours)?;
        std::str::from_utf8(value).ok()
    }
}

/// What to do about a dead letter with this code, as topics/README.md has it.
#[must_use]
pub fn advice(code: Code) -> &'static str {
    match code {
        Code::EmptyValue => "mend the producer: a tombstone is no request",
        Code::NotUtf8 => "mend the producer: another encoding, or another serializer (Avro, Java)",
        Code::NotJson => "mend the producer: text that was cut, or joined twice",
        Code::WrongShape => "compare with the schema; often a topic that was mixed up",
        Code::UnreadableBatch => {
            "find its producer: the batch is damaged, or inflates beyond `receive.message.max.bytes` (100 MB)"
        }
        Code::UnknownOutputTopic => {
            "create the state's topic, then send again; or the tenant id was wrong"
        }
        Code::ServiceRefused => {
            "look at that service's log by the event's correlation id: a route, a credential, its own rule; then send again"
        }
        Code::ServiceUnavailable => "mend the service: until the deadline it is retried by itself",
        Code::ServiceTimeout => {
            "mend the service; where it is well but slow, more of it, or a longer timeout"
        }
        Code::ServiceBrokenAnswer => "look for a proxy's page, or a new version of the service",
        Code::DeadlineNear => {
            "look at lag and at the producer's clock (metrics); more instances where lag stays"
        }
        Code::LaneFull => "nothing; many of them are a client that loops",
        Code::OutputTooLarge => {
            "raise the topic's `max.message.bytes`, or shorten the text in localization; then send again"
        }
        Code::OutputTopicUnavailable => {
            "create it, or give back the permission: until the deadline it is retried by itself"
        }
        Code::EmailTopicMissing => "create it, or leave it; nothing to send again",
        Code::InternalError => "report it with the log of that moment",
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
    #[test]
    fn upstream_nobody_says_what_only_we_say() {
        let Letter { record, .. } = letter(LOGIN, REFUSED);
        let request = Letter::upstream(record);
        assert_eq!(request.failure(), None);
        assert_eq!(request.event_id(), "order-17");
        assert_eq!(request.source().to_string(), "user-otp.dlq-3-42");
        assert_eq!(request.tenant(), Some("pb.amritsar"));
    }
}
