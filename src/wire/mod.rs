//! Every JSON shape that comes in or goes out, and nothing else: what they mean is said
//! elsewhere.
//!
//! What comes in is read tolerantly (`json`): names are looked for, everything else is passed
//! over without being built, however deep or large it is. What goes out is a struct whose fields
//! are in the order of the wire.

mod answers;
mod bodies;
mod http;
mod json;
mod records;
mod rows;
mod submission;

pub use answers::{
    BrokenAnswer, TracerError, parse_otp_answer, parse_rules_answer, parse_texts_answer,
    parse_tracer_error, parse_user_answer,
};
pub use bodies::{otp_create_body, request_body, rules_body, texts_body, user_search_body};
pub use http::{ACCEPTED, error_body};
pub use records::{Email, OutcomeRecord, OutcomeSeen, Sms};
pub(crate) use rows::{RequestLine, read_request_line};
pub(crate) use submission::{kept, read_submission};

/// The bytes of a shape that goes out.
pub(crate) fn to_bytes(shape: &impl serde::Serialize) -> Vec<u8> {
    serde_json::to_vec(shape).expect("structs of texts and numbers always serialize")
}
