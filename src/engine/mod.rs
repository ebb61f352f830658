//! The engine.
pub mod lanes;
pub mod offsets;
pub mod tag;
