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
