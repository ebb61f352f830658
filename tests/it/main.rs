//! The service from outside: `user-otp run` as its own process on a real Apache Kafka, against
//! stand-ins over real HTTP, read back by an independent consumer.
//!
//! `OTP_TEST_KAFKA` names the broker (`scripts/test` starts one). Every test has topics, a group
//! and stand-ins of its own, so that all can run at once.

mod broker;
mod flow;
mod kafka;
mod leaks;
mod process;
mod request;
mod world;
