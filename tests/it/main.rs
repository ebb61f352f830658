//! The service from outside: `user-otp run` as its own process on a real Apache Kafka, against
//! stand-ins over real HTTP, read back by an independent consumer.
//!
//! `OTP_TEST_KAFKA` names the broker (`scripts/test` starts one). Every test has topics, a group
//! and stand-ins of its own, so that all can run at once.
#![expect(
    clippy::panic,
    clippy::print_stderr,
    clippy::too_many_lines,
    clippy::wildcard_enum_match_arm,
    reason = "a test fails by a panic, says what it did, and has tables as long as they are"
)]

mod acl;
mod bad_input;
mod behind_a_proxy;
mod broker;
mod client;
mod clocks;
mod command;
mod exactly_once;
mod failures;
#[path = "../shared/faketime/mod.rs"]
mod faketime;
mod flow;
#[path = "../shared/frozen.rs"]
mod frozen;
mod hostile;
mod hostile_input;
mod http;
mod http_failures;
mod http_hostile;
mod http_keys;
mod http_limits;
mod http_load;
mod http_redis;
mod joins;
mod kafka;
#[expect(dead_code, reason = "tests/chaos needs more of it")]
#[path = "../kafka_proxy/mod.rs"]
mod kafka_proxy;
mod late_packets;
mod leaks;
mod limits;
mod live;
mod management;
mod memory;
mod offset_gaps;
mod offsets;
mod ops_check;
mod ops_dlq;
mod ops_jobs;
mod ops_send;
mod ops_status;
mod ops_window;
mod outage;
mod outages;
mod overload;
mod poison;
#[path = "../shared/port.rs"]
mod port;
mod process;
mod progress;
mod quota;
mod raw_batch;
mod rebalance;
#[path = "../shared/server.rs"]
mod redis_server;
mod refusing_topics;
mod request;
mod retries;
mod secure;
mod secure_ops;
mod sizes;
mod stalls;
mod start;
mod supersede;
mod traffic;
mod unreadable;
mod world;
