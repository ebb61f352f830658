//! The records that the platform's senders read, to the letter.
//!
//! Both are keyed by the person who asked, the requested tenant and the requested number, so that
//! one person's messages stay in order.

use std::fmt;
use std::time::Duration;

use crate::clock::EpochMs;
use crate::domain::contact::{EmailAddress, MobileNumber};
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

/// The SMS with `text` for `to`, which its consumer drops after `expires`.
#[must_use]
pub fn sms(
    topic: String,
    request: &OtpRequest,
    to: &MobileNumber,
    text: &str,
    expires: EpochMs,
) -> Notification {
    let value = wire::Sms {
        mobile_number: to.expose(),
        message: text,
        category: "OTP",
        expiry_time: expires.0,
        country_code: request.country_code.as_ref().map(|code| code.as_str()),
    };
    Notification {
        topic,
        key: key(request),
        value: wire::to_bytes(&value),
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

/// When an SMS is too late: `expiry` from now, and never past the request's own deadline.
#[must_use]
pub fn expiry_time(now: EpochMs, expiry: Duration, deadline: EpochMs) -> EpochMs {
    now.plus(expiry).min(deadline)
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
        let submission = Submission::decode(Some(body.as_bytes())).expect("readable");
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
        let sms = sms(
            "sms".to_owned(),
            &request(country_code),
            &number("9876500000"),
            text,
            expires,
        );
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
    #[case::room(1_000, 60, 300_000, 61_000)]
    #[case::deadline_first(1_000, 60, 31_000, 31_000)]
    #[case::for_ever(1_000, u64::MAX, 31_000, 31_000)]
    fn expiry_never_passes_the_deadline(
        #[case] now: i64,
        #[case] expiry_s: u64,
        #[case] deadline: i64,
        #[case] expected: i64,
    ) {
        let expires = expiry_time(
            EpochMs(now),
            Duration::from_secs(expiry_s),
            EpochMs(deadline),
        );
        assert_eq!(expires, EpochMs(expected));
    }

    #[test]
    fn debug_shows_the_topic_alone() {
        let sms = sms(
            "sms".to_owned(),
            &request(""),
            &number("9876500000"),
            "Your OTP is 123456",
            EpochMs(0),
        );
        assert_eq!(format!("{sms:?}"), r#"Notification { topic: "sms", .. }"#);
    }
}
