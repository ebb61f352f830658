//! What is answered, as a closed set: each case with its status and its sentence. None says more
//! than the contract does; what went wrong inside is for the log.

use std::time::Duration;

use axum::http::header::{CONNECTION, CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};

use crate::domain::rejection::{FieldError, Rejection};
use crate::outcome::{Code, Disposition, Failure, Limited};
use crate::wire;

/// Another request may have its place free in a moment.
const BUSY_FOR: Duration = Duration::from_secs(1);

/// Kafka is away: it comes back within seconds, or takes longer anyway.
const AWAY_FOR: Duration = Duration::from_secs(5);

/// Says what became of the OTP: two answers with one status may call for opposite things.
const OTP_DELIVERY: HeaderName = HeaderName::from_static("otp-delivery");

/// How far a request has come that was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Delivery {
    /// Its messages are committed.
    Committed,
    /// The request is committed, and the stream carries on with it.
    Queued,
}

/// An answer to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// Committed: its messages, or the request itself.
    Created(Delivery),
    /// The rules say no.
    Rejected(Rejection),
    /// The body is no request.
    Unreadable,
    /// A sending limit says no.
    Limited(Duration),
    /// Its idempotency key is another request's.
    KeyTaken,
    /// A service, or a topic, will never take it.
    Refused,
    /// Nothing was sent, and nothing will be.
    Withdrawn,
    /// It may have been sent, and is not sent again.
    Unconfirmed,
    /// There is no room for it now.
    Busy,
    /// The body did not arrive in time.
    Slow,
    /// The body broke off.
    CutOff,
    /// The body is over the limit.
    TooLarge,
    /// The body is not JSON in UTF-8, or it is compressed.
    WrongType,
    /// There is nothing at this path.
    NotFound,
    /// There is, but not for this method.
    WrongMethod,
    /// A defect in this program.
    Defect,
}

impl Answer {
    /// The answer to a request that has this end.
    pub(super) fn failed(failure: Failure) -> Self {
        match (failure.disposition, failure.code) {
            (Disposition::Poison, _) => Self::Unreadable,
            // Strangers choose tenant ids; that one names a topic which is not there.
            (Disposition::Refused, Code::UnknownOutputTopic) => {
                Self::Rejected(Rejection::Invalid(vec![FieldError::TENANT_INVALID]))
            }
            (Disposition::Refused, _) => Self::Refused,
            // Its whole life went by before anything was created.
            (Disposition::Expired, _) => Self::Withdrawn,
        }
    }

    /// The answer to a request that a limit refuses.
    pub(super) fn limited(limited: Limited) -> Self {
        Self::Limited(limited.retry_after)
    }

    /// Whether a request that was begun ends so through no fault of its own, and nothing is sent.
    pub(super) fn is_our_failure(&self) -> bool {
        match self {
            Self::Refused | Self::Withdrawn | Self::Defect => true,
            Self::Created(_)
            | Self::Rejected(_)
            | Self::Unreadable
            | Self::Limited(_)
            | Self::KeyTaken
            | Self::Unconfirmed
            | Self::Busy
            | Self::Slow
            | Self::CutOff
            | Self::TooLarge
            | Self::WrongType
            | Self::NotFound
            | Self::WrongMethod => false,
        }
    }

    /// Its status, and its sentence where it is an error.
    fn head(&self) -> (StatusCode, &'static str) {
        match self {
            Self::Created(_) => (StatusCode::CREATED, ""),
            Self::Rejected(rejection) => (StatusCode::BAD_REQUEST, rejection.message()),
            Self::Unreadable | Self::CutOff => (StatusCode::BAD_REQUEST, "Invalid OTP request"),
            Self::Limited(_) => (
                StatusCode::TOO_MANY_REQUESTS,
                "Too many OTP requests, please try again later",
            ),
            Self::KeyTaken => (
                StatusCode::UNPROCESSABLE_ENTITY,
                "The Idempotency-Key was used for another request",
            ),
            Self::Refused => (StatusCode::BAD_GATEWAY, "The OTP request cannot be served"),
            Self::Withdrawn => (
                StatusCode::SERVICE_UNAVAILABLE,
                "The OTP was not sent, please try again",
            ),
            Self::Unconfirmed => (
                StatusCode::SERVICE_UNAVAILABLE,
                "The OTP may still arrive, please wait for it",
            ),
            Self::Busy => (
                StatusCode::SERVICE_UNAVAILABLE,
                "Too many requests at once, please try again",
            ),
            Self::Slow => (
                StatusCode::REQUEST_TIMEOUT,
                "The request did not arrive in time",
            ),
            Self::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "The request is too large"),
            Self::WrongType => (
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "The request must be JSON in UTF-8, and not compressed",
            ),
            Self::NotFound => (StatusCode::NOT_FOUND, "There is nothing here"),
            Self::WrongMethod => (
                StatusCode::METHOD_NOT_ALLOWED,
                "The method is not allowed here",
            ),
            Self::Defect => (StatusCode::INTERNAL_SERVER_ERROR, "The request failed"),
        }
    }

    /// Our code for an error that is not the platform's.
    fn code(&self) -> &'static str {
        match self {
            Self::Created(_) => "",
            Self::Rejected(rejection) => rejection.code(),
            Self::Unreadable | Self::CutOff => "OTP.INVALID_REQUEST",
            Self::Limited(_) => "OTP.TOO_MANY_REQUESTS",
            Self::KeyTaken => "OTP.IDEMPOTENCY_KEY_USED",
            Self::Refused => "OTP.CANNOT_BE_SERVED",
            Self::Withdrawn => "OTP.NOT_SENT",
            Self::Unconfirmed => "OTP.UNCONFIRMED",
            Self::Busy => "OTP.BUSY",
            Self::Slow => "OTP.TOO_SLOW",
            Self::TooLarge => "OTP.TOO_LARGE",
            Self::WrongType => "OTP.WRONG_TYPE",
            Self::NotFound => "OTP.NOT_FOUND",
            Self::WrongMethod => "OTP.WRONG_METHOD",
            Self::Defect => "OTP.FAILED",
        }
    }

    /// One at least: the platform's web UI shows the first one's message.
    fn fields(&self) -> Vec<FieldError> {
        if let Self::Rejected(rejection) = self {
            return rejection.fields();
        }
        let (_, message) = self.head();
        vec![FieldError {
            code: self.code(),
            message: message.into(),
            field: "otp",
        }]
    }

    /// What became of the OTP, where that is not plain from the status.
    fn delivery(&self) -> Option<&'static str> {
        match self {
            Self::Created(Delivery::Committed) => Some("committed"),
            Self::Created(Delivery::Queued) => Some("queued"),
            Self::Withdrawn | Self::Busy => Some("not-sent"),
            Self::Unconfirmed => Some("unconfirmed"),
            Self::Rejected(_)
            | Self::Unreadable
            | Self::Limited(_)
            | Self::KeyTaken
            | Self::Refused
            | Self::Slow
            | Self::CutOff
            | Self::TooLarge
            | Self::WrongType
            | Self::NotFound
            | Self::WrongMethod
            | Self::Defect => None,
        }
    }

    /// When to try again. Not where a repeat may send a second OTP.
    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Limited(pause) => Some(*pause),
            Self::Busy => Some(BUSY_FOR),
            Self::Withdrawn => Some(AWAY_FOR),
            Self::Created(_)
            | Self::Rejected(_)
            | Self::Unreadable
            | Self::KeyTaken
            | Self::Refused
            | Self::Unconfirmed
            | Self::Slow
            | Self::CutOff
            | Self::TooLarge
            | Self::WrongType
            | Self::NotFound
            | Self::WrongMethod
            | Self::Defect => None,
        }
    }
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        const JSON: HeaderValue = HeaderValue::from_static("application/json");
        let (status, message) = self.head();
        let body = if matches!(self, Self::Created(_)) {
            wire::ACCEPTED.into()
        } else {
            wire::error_body(status.as_u16(), message, &self.fields())
        };
        let mut response = (status, [(CONTENT_TYPE, JSON)], body).into_response();
        let headers = response.headers_mut();
        if let Some(delivery) = self.delivery() {
            headers.insert(OTP_DELIVERY, HeaderValue::from_static(delivery));
        }
        if let Some(pause) = self.retry_after() {
            headers.insert(RETRY_AFTER, seconds(pause).into());
        }
        // The rest of that body may still be on its way, and is not a request.
        if matches!(self, Self::Slow | Self::CutOff | Self::TooLarge) {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

/// Whole seconds, rounded up: who comes back then is not too early.
fn seconds(pause: Duration) -> u64 {
    pause.as_secs() + u64::from(pause.subsec_nanos() > 0)
}
