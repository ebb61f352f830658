//! What the business rules refuse, with the platform's own codes and sentences.

/// Why a request is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection;
