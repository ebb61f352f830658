//! The commands for operators: each takes what it needs and returns what to print.

pub mod config;
pub mod limits;
pub mod run;
pub mod standin;
pub mod topics;
