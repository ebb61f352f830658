//! `user-otp`: turns OTP requests on Kafka into SMS and email records, exactly once.
pub mod clock;
pub mod domain;
pub mod engine;
pub mod notification;
pub mod outcome;
