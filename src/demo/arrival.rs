//! What comes out of the system, read as its consumers would: from the records' bytes alone.

use serde::Deserialize;

use crate::engine::headers;
use crate::engine::record::Position;
use crate::topics::Role;

/// A record that came out.
#[derive(Clone)]
pub(crate) struct Arrival {
    /// The request's event id.
    pub(crate) event: String,
    /// Where the record is.
    pub(crate) at: Position,
    /// What it holds.
    pub(crate) what: What,
}

/// What a record holds.
#[derive(Clone)]
pub(crate) enum What {
    /// For a phone.
    Sms(Sms),
    /// For a mailbox.
    Email(Email),
    /// A request that waits.
    Retry(Setback),
    /// A request that will never be served.
    DeadLetter(Setback),
    /// What became of a request.
    Outcome(Outcome),
    /// Not what a consumer of its topic can read.
    Unreadable,
}

/// An SMS record's value, as far as egov-notification-sms looks.
#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Sms {
    pub(crate) mobile_number: String,
    pub(crate) message: String,
}

/// An email record's content.
#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Email {
    pub(crate) email_to: Vec<String>,
    pub(crate) subject: String,
    pub(crate) body: String,
}

#[derive(Deserialize)]
struct EmailRecord {
    email: Email,
}

/// What the headers of a retry record or a dead letter say.
#[derive(Clone)]
pub(crate) struct Setback {
    /// On dead letters alone.
    pub(crate) disposition: String,
    pub(crate) code: String,
    pub(crate) stage: String,
    /// Tries so far, on retry records alone.
    pub(crate) attempt: String,
}

/// An outcome record's value.
#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Outcome {
    pub(crate) outcome: String,
    pub(crate) disposition: Option<String>,
    pub(crate) code: Option<String>,
    pub(crate) attempts: u32,
    pub(crate) received_at_ms: i64,
    pub(crate) finished_at_ms: i64,
    /// The request's first record.
    pub(crate) source: Option<String>,
}

/// A record as it was consumed.
pub(crate) struct Consumed<'a> {
    pub(crate) at: Position,
    pub(crate) value: &'a [u8],
    /// The last value of the header with this name, as text.
    pub(crate) header: &'a dyn Fn(&str) -> Option<String>,
}

/// Reads a record of a topic with this role.
pub(crate) fn read(role: Role, record: Consumed<'_>) -> Arrival {
    let header = |name: &str| (record.header)(name).unwrap_or_default();
    let setback = || Setback {
        disposition: header(headers::DISPOSITION),
        code: header(headers::ERROR_CODE),
        stage: header(headers::ERROR_STAGE),
        attempt: header(headers::ATTEMPT),
    };
    let what = match role {
        Role::Sms => json(record.value, What::Sms),
        Role::Email => json(record.value, |read: EmailRecord| What::Email(read.email)),
        Role::Outcomes => json(record.value, What::Outcome),
        Role::Retry => What::Retry(setback()),
        Role::DeadLetters => What::DeadLetter(setback()),
        Role::Requests | Role::Accepted | Role::Jobs | Role::JobLog => What::Unreadable,
    };
    Arrival {
        event: header(headers::EVENT_ID),
        at: record.at,
        what,
    }
}

fn json<'a, T: Deserialize<'a>>(value: &'a [u8], what: impl FnOnce(T) -> What) -> What {
    serde_json::from_slice(value).map_or(What::Unreadable, what)
}
