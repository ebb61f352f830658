//! The engine.
pub mod admin;
pub mod lanes;
pub mod offsets;
pub mod tag;
