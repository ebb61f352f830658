//! `user-otp`: turns OTP requests on Kafka into SMS and email records, exactly once.

pub mod config;
pub mod ops;
