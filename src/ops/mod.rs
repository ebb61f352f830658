//! The commands for operators: each takes what it needs and returns, or writes, what to print.

pub mod audit;
pub mod check;
pub mod config;
pub mod dlq;
pub mod filter;
pub mod health;
mod instances;
pub mod job;
pub mod letter;
pub mod limits;
pub mod manual;
pub mod moment;
pub mod numbers;
pub mod rows;
pub mod run;
pub mod send;
pub mod shown;
pub mod skip;
pub mod standin;
pub mod status;
pub mod terminal;
pub mod topics;

/// What was asked for is not there.
pub const EXIT_NOT_FOUND: i32 = 6;

/// The command line is wrong in a way that its parser cannot see: exit code 2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Usage(pub &'static str);
