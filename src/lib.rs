//! `user-otp`: turns OTP requests on Kafka into SMS and email records, exactly once.
pub mod clock;
pub mod config;
pub mod decide;
pub mod domain;
pub mod egov;
pub mod engine;
pub mod handler;
pub mod messages;
pub mod notification;
pub mod ops;
pub mod outcome;
pub mod topics;
pub mod wire;
