//! `user-otp`: turns OTP requests on Kafka into SMS and email records, exactly once.
//!
//! ```text
//! Kafka ─▶ engine ─┬▶ handler ─▶ egov services
//!   ▲        │ http ┘   │
//!   │        │   │      └─ domain, decide, messages, notification: pure
//!   └────────┴───┘ one transaction: results, and the engine's offsets
//! ```

mod bounded;
pub mod budgets;
pub mod cli;
pub mod clock;
pub mod config;
pub mod decide;
pub mod demo;
pub mod domain;
pub mod egov;
pub mod engine;
pub mod handler;
pub mod health;
pub mod http;
pub mod idempotency;
pub mod known_topics;
pub mod limits;
pub mod management;
pub mod messages;
pub mod metrics;
pub mod notification;
pub mod ops;
pub mod outcome;
pub mod retry_topics;
pub mod service;
pub mod standstill;
pub mod store;
pub mod telemetry;
pub mod template;
pub mod topics;
pub mod topology;
pub mod wire;
