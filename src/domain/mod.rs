//! The words of the domain, parsed once at the edge and never checked again.
//!
//! Everything here is a value: nothing waits, nothing calls, nothing knows Kafka or HTTP.
//! What holds a mobile number, an email address or an OTP has a private field and prints
//! itself masked, so that it cannot end in a log by accident.

pub mod contact;
pub(crate) mod pattern;
pub mod rejection;
pub mod request;
pub mod rules;
pub mod secret;
pub mod tenant;
pub mod user;
