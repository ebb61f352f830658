//! The records that the platform's senders read, to the letter.
//!
//! Both are keyed by the person who asked, the requested tenant and the requested number, so that
//! one person's messages stay in order.

use std::fmt;

use crate::clock::EpochMs;
use crate::domain::contact::{CountryCode, EmailAddress, MobileNumber};
use crate::domain::request::OtpRequest;
use crate::wire;

/// One record for a sender. Its key and value have a number in them: it prints its topic alone.
#[derive(Clone, PartialEq, Eq)]
pub struct Notification {
    /// Where it goes.
    pub topic: String,
    /// `tenant:mobileNumber`, as requested.
    pub key: String,
    /// The JSON value.
    pub value: Vec<u8>,
}

impl fmt::Debug for Notification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Notification")
            .field("topic", &self.topic)
            .finish_non_exhaustive()
    }
}

/// An SMS whose last moment is not settled: under whose deadline it goes out is seen when it is written.
/// It has a number and a text in it: it prints its topic alone.
#[derive(Clone, PartialEq, Eq)]
pub struct Sms {
    /// Where it goes.
    pub topic: String,
    /// `tenant:mobileNumber`, as requested.
    pub key: String,
    /// Who gets it.
    pub to: MobileNumber,
    /// What it says.
    pub text: String,
    /// The dialling prefix, where it is known.
    pub country_code: Option<CountryCode>,
    /// When it is too late for its consumer to send it.
    pub expires: EpochMs,
}

impl fmt::Debug for Sms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sms")
            .field("topic", &self.topic)
            .finish_non_exhaustive()
    }
}

impl Sms {
    /// The SMS with `text` for `to`, which its consumer drops after `expires` at the latest.
    #[must_use]
    pub fn new(
        topic: String,
        request: &OtpRequest,
        to: &MobileNumber,
        text: String,
        expires: EpochMs,
    ) -> Self {
        Self {
            topic,
            key: key(request),
            to: to.clone(),
            text,
            country_code: request.country_code.clone(),
            expires,
        }
    }

    /// As it is written for a request with this deadline, which its expiry never passes.
    #[must_use]
    pub fn record(&self, deadline: EpochMs) -> Notification {
        let value = wire::Sms {
            mobile_number: self.to.expose(),
            message: &self.text,
            category: "OTP",
            expiry_time: self.expires.min(deadline).0,
            country_code: self.country_code.as_ref().map(CountryCode::as_str),
        };
        Notification {
            topic: self.topic.clone(),
            key: self.key.clone(),
            value: wire::to_bytes(&value),
        }
    }
}

/// The email with this subject and body for `to`.
#[must_use]
pub fn email(
    topic: String,
    request: &OtpRequest,
    to: &EmailAddress,
    subject: &str,
    body: &str,
) -> Notification {
    let value = wire::Email::new(to.expose(), subject, body);
    Notification {
        topic,
        key: key(request),
        value: wire::to_bytes(&value),
    }
}

fn key(request: &OtpRequest) -> String {
    format!("{}:{}", request.tenant.as_str(), request.mobile.expose())
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::domain::request::Submission;
    use crate::domain::rules::NumberRules;

    fn request(country_code: &str) -> OtpRequest {
        let body = format!(
            r#"{{"otp":{{"tenantId":"pb.amritsar","mobileNumber":"9876543210","type":"login","countryCode":"{country_code}"}}}}"#
        );
        let submission = Submission::decode(body.as_bytes()).expect("readable");
        submission
            .validate(Some(&NumberRules::without_mdms(
                "[0-9]{10}",
                &["+91".to_owned()],
            )))
            .expect("valid")
    }

    fn number(text: &str) -> MobileNumber {
        MobileNumber::stored(text.to_owned()).expect("a number")
    }

    fn sms(country_code: &str, text: &str, expires: EpochMs) -> Sms {
        Sms::new(
            "sms".to_owned(),
            &request(country_code),
            &number("9876500000"),
            text.to_owned(),
            expires,
        )
    }

    #[rstest]
    #[case::with_a_country_code(
        "+91",
        "Dear Citizen, Your Login OTP is 123456.",
        r#"{"mobileNumber":"9876500000","message":"Dear Citizen, Your Login OTP is 123456.","category":"OTP","expiryTime":1732345678901,"countryCode":"+91"}"#
    )]
    #[case::without(
        "",
        "Dear Citizen, Your Login OTP is 123456.",
        r#"{"mobileNumber":"9876500000","message":"Dear Citizen, Your Login OTP is 123456.","category":"OTP","expiryTime":1732345678901,"countryCode":null}"#
    )]
    #[case::any_text(
        "",
        "आपका \"ओटीपी\" {#var#} / 123456\n",
        r#"{"mobileNumber":"9876500000","message":"आपका \"ओटीपी\" {#var#} / 123456\n","category":"OTP","expiryTime":1732345678901,"countryCode":null}"#
    )]
    fn sms_is_what_its_consumer_reads(
        #[case] country_code: &str,
        #[case] text: &str,
        #[case] value: &str,
    ) {
        let expires = EpochMs(1_732_345_678_901);
        let sms = sms(country_code, text, expires).record(expires);
        assert_eq!(str::from_utf8(&sms.value), Ok(value));
        assert_eq!(
            (sms.topic.as_str(), sms.key.as_str()),
            ("sms", "pb.amritsar:9876543210")
        );
    }

    #[test]
    fn email_is_what_its_consumer_reads() {
        let to = EmailAddress::stored("a@b.c".to_owned()).expect("an address");
        let email = email(
            "mail".to_owned(),
            &request(""),
            &to,
            "Login OTP",
            "Dear Citizen, Your Login OTP is 123456.",
        );
        let value = concat!(
            r#"{"requestInfo":{"apiId":null,"ver":null,"ts":null,"action":null,"did":null,"#,
            r#""key":null,"msgId":null,"authToken":null,"correlationId":null,"#,
            r#""plainAccessRequest":null,"userInfo":null},"#,
            r#""email":{"emailTo":["a@b.c"],"subject":"Login OTP","body":"Dear Citizen, Your Login OTP is 123456."}}"#
        );
        assert_eq!(str::from_utf8(&email.value), Ok(value));
        assert_eq!(
            (email.topic.as_str(), email.key.as_str()),
            ("mail", "pb.amritsar:9876543210")
        );
    }

    #[rstest]
    #[case::room(61_000, 300_000, 61_000)]
    #[case::deadline_first(61_000, 31_000, 31_000)]
    #[case::for_ever(i64::MAX, 31_000, 31_000)]
    fn expiry_never_passes_the_deadline(
        #[case] expires: i64,
        #[case] deadline: i64,
        #[case] expected: i64,
    ) {
        let sms = sms("", "text", EpochMs(expires)).record(EpochMs(deadline));
        let value: serde_json::Value = serde_json::from_slice(&sms.value).expect("JSON");
        assert_eq!(value["expiryTime"], expected);
    }

    #[test]
    fn debug_shows_the_topic_alone() {
        let sms = sms("", "Your OTP is 123456", EpochMs(0));
        assert_eq!(format!("{sms:?}"), r#"Sms { topic: "sms", .. }"#);
        let record = sms.record(EpochMs(0));
        assert_eq!(
            format!("{record:?}"),
            r#"Notification { topic: "sms", .. }"#
        );
    }
}
