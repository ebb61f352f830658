//! What the head of a request says beyond its body: whose repeat it is.

use axum::http::HeaderMap;

use super::answer::Answer;
use crate::domain::rejection::{FieldError, Rejection};

/// As ids from outside, such as correlation ids, are bounded.
const LONGEST_KEY: usize = 128;

/// The request's `Idempotency-Key`, where it has one: 1 to 128 printable ASCII characters.
pub(super) fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Answer> {
    let mut values = headers.get_all("idempotency-key").iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    // What cannot be told from another request's key must not be answered as if it could.
    let alone = values.next().is_none();
    let key = value.to_str().ok().filter(|key| {
        let printable = key.bytes().all(|byte| (b' '..=b'~').contains(&byte));
        alone && printable && (1..=LONGEST_KEY).contains(&key.len())
    });
    match key {
        Some(key) => Ok(Some(key.to_owned())),
        None => Err(Answer::Rejected(Rejection::Invalid(vec![
            FieldError::KEY_INVALID,
        ]))),
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::none(&[], Ok(None))]
    #[case::plain(&["8e03978e-40d5"], Ok(Some("8e03978e-40d5")))]
    #[case::longest(&[&*"k".repeat(128)], Ok(Some(&*"k".repeat(128))))]
    #[case::too_long(&[&*"k".repeat(129)], Err(()))]
    #[case::empty(&[""], Err(()))]
    #[case::a_tab(&["a\tb"], Err(()))]
    #[case::not_ascii(&["schlüssel"], Err(()))]
    #[case::two(&["a", "a"], Err(()))]
    fn a_key_is_one_short_printable_text(
        #[case] values: &[&str],
        #[case] expected: Result<Option<&str>, ()>,
    ) {
        let mut headers = HeaderMap::new();
        for value in values {
            let value = HeaderValue::from_bytes(value.as_bytes()).expect("a value");
            headers.append("Idempotency-Key", value);
        }
        let key = idempotency_key(&headers).map_err(drop);
        assert_eq!(key, expected.map(|key| key.map(str::to_owned)));
    }
}
