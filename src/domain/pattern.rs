//! stub
use std::sync::{Arc, OnceLock};

/// stub
#[derive(Debug, Clone)]
pub(crate) struct Pattern {
    text: Arc<str>,
    compiled: Arc<OnceLock<Option<fancy_regex::Regex>>>,
}

/// What a pattern says of a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The whole number matches.
    Match,
    /// It does not.
    Mismatch,
    /// The pattern does not compile, or gave no answer within its limit.
    None,
}

impl Pattern {
    pub(crate) fn new(text: &str) -> Self {
        Self {
            text: text.into(),
            compiled: Arc::default(),
        }
    }
    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }
    pub(crate) fn judge(&self, number: &str) -> Verdict {
        let regex = self
            .compiled
            .get_or_init(|| fancy_regex::Regex::new(&format!("^(?:{})$", self.text)).ok());
        match regex.as_ref().map(|regex| regex.is_match(number)) {
            Some(Ok(true)) => Verdict::Match,
            Some(Ok(false)) => Verdict::Mismatch,
            Some(Err(_)) | None => Verdict::None,
        }
    }
}
