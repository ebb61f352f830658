//! What an answer means: the one place that tells success, *refused* and *unavailable* apart.
//!
//! | what came back | what it means |
//! | --- | --- |
//! | 2xx with a body as the contract has it | success |
//! | no connection, no answer in time, 408, 429, 5xx | unavailable |
//! | 2xx with another body, or one that is too large or cut off; 3xx | unavailable: a broken answer |
//! | 400 with one of the codes or messages of an outage | unavailable |
//! | any other 4xx | refused: asking again will not help |
//!
//! The 400s are tracer's, the platform's common library: it answers so for every exception that
//! nobody caught, a database that fails over among them. A redirect is no answer that the
//! services' contract knows; following it could hand a citizen's number to a stranger.

use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;

use super::{CallError, Service};
use crate::clock::EpochMs;
use crate::outcome::Code;
use crate::wire::{BrokenAnswer, parse_tracer_error};

/// An answer as it came.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: u16,
    /// The header `Retry-After`.
    pub(super) retry_after: Option<String>,
    pub(super) body: Result<Bytes, Lost>,
}

/// Why there is no answer, or no body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lost {
    /// No connection, or it ended before the answer.
    Unreachable,
    /// Not in time.
    Late,
    /// The connection ended in the middle of the body.
    CutOff,
    /// More than is read.
    TooLarge,
}

/// What a failed call means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Failure {
    /// An outage: asking again may help.
    Unavailable {
        /// What kind of outage.
        code: Code,
        /// How long the service asked to be left alone.
        retry_after: Option<Duration>,
    },
    /// Asking again will not help.
    Refused {
        /// The 4xx.
        status: u16,
    },
}

/// The codes in a 400 that mean an outage, of every service.
const OUTAGE_CODES: [&str; 3] = [
    "QUERY_EXECUTION_ERROR",
    "ResourceAccessError",
    "TracerException",
];

/// Those of egov-user: its encryption service is down.
const USERS_OUTAGE_CODES: [&str; 3] = [
    "ENCRYPTION_ERROR",
    "DECRYPTION_SERVICE_ERROR",
    "UNKNOWN_ERROR",
];

/// What came back, judged. `outage_messages` are those of a 400 that mean an outage.
pub(super) fn classify<T>(
    service: Service,
    outage_messages: &[String],
    now: EpochMs,
    received: Result<Reply, Lost>,
    parse: impl FnOnce(&[u8]) -> Result<T, BrokenAnswer>,
) -> Result<T, Failure> {
    let Reply {
        status,
        retry_after,
        body,
    } = received.map_err(Failure::from)?;
    let unavailable = || Failure::Unavailable {
        code: Code::ServiceUnavailable,
        retry_after: retry_after.as_deref().and_then(|text| wish(text, now)),
    };
    match status {
        200..=299 => parse(&body?).map_err(|_| Failure::broken()),
        400 if is_outage(service, outage_messages, &body?) => Err(unavailable()),
        408 | 429 | 500..=599 => Err(unavailable()),
        400..=499 => Err(Failure::Refused { status }),
        _ => Err(Failure::broken()),
    }
}

fn is_outage(service: Service, outage_messages: &[String], body: &[u8]) -> bool {
    let Some(error) = parse_tracer_error(body) else {
        return false;
    };
    let own: &[&str] = match service {
        Service::Users => &USERS_OUTAGE_CODES,
        Service::Otp | Service::Texts | Service::Rules => &[],
    };
    OUTAGE_CODES
        .iter()
        .chain(own)
        .any(|code| error.code == *code)
        || outage_messages.contains(&error.message)
}

/// `Retry-After`, in seconds or as a date; anything else is none.
fn wish(text: &str, now: EpochMs) -> Option<Duration> {
    let text = text.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    let since = date.duration_since(UNIX_EPOCH).ok()?;
    Some(EpochMs(0).plus(since).left(now))
}

impl Failure {
    fn broken() -> Self {
        Self::Unavailable {
            code: Code::ServiceBrokenAnswer,
            retry_after: None,
        }
    }

    /// The word for it.
    pub(super) fn code(&self) -> Code {
        match self {
            Self::Unavailable { code, .. } => *code,
            Self::Refused { .. } => Code::ServiceRefused,
        }
    }
}

impl From<Lost> for Failure {
    fn from(lost: Lost) -> Self {
        let code = match lost {
            Lost::Unreachable => Code::ServiceUnavailable,
            Lost::Late => Code::ServiceTimeout,
            Lost::CutOff | Lost::TooLarge => Code::ServiceBrokenAnswer,
        };
        Self::Unavailable {
            code,
            retry_after: None,
        }
    }
}

impl From<Failure> for CallError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Unavailable { code, retry_after } => Self::Unavailable { code, retry_after },
            Failure::Refused { status } => Self::Refused { status },
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    /// 2024-11-23 07:28:00 UTC.
    const NOW: EpochMs = EpochMs(1_732_346_880_000);

    #[rstest]
    #[case("2", Some(2_000))]
    #[case(" 0 ", Some(0))]
    #[case("Sat, 23 Nov 2024 07:29:30 GMT", Some(90_000))]
    #[case("Sat, 23 Nov 2024 07:00:00 GMT", Some(0))]
    #[case("-1", None)]
    #[case("soon", None)]
    #[case("", None)]
    fn retry_after_is_seconds_or_a_date(#[case] text: &str, #[case] ms: Option<u64>) {
        assert_eq!(wish(text, NOW), ms.map(Duration::from_millis));
    }

    fn judged(service: Service, status: u16, body: &str) -> Result<(), Failure> {
        let reply = Reply {
            status,
            retry_after: Some("3".to_owned()),
            body: Ok(Bytes::copy_from_slice(body.as_bytes())),
        };
        let messages = ["An unhandled exception occurred on the server".to_owned()];
        classify(service, &messages, NOW, Ok(reply), |_| Ok(()))
    }

    fn unavailable() -> Result<(), Failure> {
        Err(Failure::Unavailable {
            code: Code::ServiceUnavailable,
            retry_after: Some(Duration::from_secs(3)),
        })
    }

    #[rstest]
    #[case(200, Ok(()))]
    #[case(201, Ok(()))]
    #[case(302, Err(Failure::broken()))]
    #[case(400, Err(Failure::Refused { status: 400 }))]
    #[case(401, Err(Failure::Refused { status: 401 }))]
    #[case(404, Err(Failure::Refused { status: 404 }))]
    #[case(408, unavailable())]
    #[case(429, unavailable())]
    #[case(499, Err(Failure::Refused { status: 499 }))]
    #[case(500, unavailable())]
    #[case(503, unavailable())]
    #[case(599, unavailable())]
    #[case(600, Err(Failure::broken()))]
    fn a_status_has_its_meaning(#[case] status: u16, #[case] meaning: Result<(), Failure>) {
        for service in Service::ALL {
            assert_eq!(judged(service, status, "{}"), meaning, "{service:?}");
        }
    }

    #[rstest]
    #[case("QUERY_EXECUTION_ERROR", "", [true; 4])]
    #[case("ResourceAccessError", "", [true; 4])]
    #[case("TracerException", "", [true; 4])]
    #[case("ENCRYPTION_ERROR", "", [true, false, false, false])]
    #[case("DECRYPTION_SERVICE_ERROR", "", [true, false, false, false])]
    #[case("UNKNOWN_ERROR", "", [true, false, false, false])]
    #[case("JsonMappingException", "", [false; 4])]
    #[case("OTP.VALIDATION_UNSUCCESSFUL", "", [false; 4])]
    #[case("NullPointerException", "An unhandled exception occurred on the server", [true; 4])]
    #[case("NullPointerException", "another sentence", [false; 4])]
    fn an_outage_in_a_400s_clothes_is_told_apart(
        #[case] code: &str,
        #[case] message: &str,
        #[case] outage: [bool; 4],
    ) {
        let body = format!(r#"{{"Errors": [{{"code": "{code}", "message": "{message}"}}]}}"#);
        for (service, outage) in Service::ALL.into_iter().zip(outage) {
            let meaning = if outage {
                unavailable()
            } else {
                Err(Failure::Refused { status: 400 })
            };
            assert_eq!(judged(service, 400, &body), meaning, "{service:?}");
        }
    }

    #[rstest]
    #[case(Lost::Unreachable, Code::ServiceUnavailable)]
    #[case(Lost::Late, Code::ServiceTimeout)]
    #[case(Lost::CutOff, Code::ServiceBrokenAnswer)]
    #[case(Lost::TooLarge, Code::ServiceBrokenAnswer)]
    fn a_lost_body_is_an_outage_only_where_it_is_needed(#[case] lost: Lost, #[case] code: Code) {
        let judged = |status| {
            let reply = Reply {
                status,
                retry_after: None,
                body: Err(lost),
            };
            classify(Service::Otp, &[], NOW, Ok(reply), |_| Ok(())).unwrap_err()
        };
        let outage = Failure::Unavailable {
            code,
            retry_after: None,
        };
        assert_eq!(judged(201), outage);
        assert_eq!(judged(400), outage);
        assert_eq!(judged(403), Failure::Refused { status: 403 });
    }
}
