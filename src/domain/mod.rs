//! The words of the domain, parsed once at the edge and never checked again.
pub mod rejection;
