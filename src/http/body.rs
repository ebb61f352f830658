//! Reading a request: what it says it is, then its body, within a size, a time, and the room that there is.

use std::time::Duration;

use axum::body::{Body, HttpBody as _};
use axum::http::HeaderMap;
use axum::http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use bytes::Bytes;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use mime::Mime;

use super::answer::Answer;
use super::room::{Room, Seat};

/// The bounds of a body.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// `http.body_limit`, in bytes.
    pub(super) size: usize,
    /// `http.body_timeout`.
    pub(super) time: Duration,
}

/// The whole body of a request that says it is JSON, and its room: none of it is read before it has that.
pub(super) async fn read(
    headers: &HeaderMap,
    body: Body,
    bounds: Bounds,
    room: &Room,
) -> Result<(Bytes, Seat), Answer> {
    if !is_json(headers) || is_compressed(headers) {
        return Err(Answer::WrongType);
    }
    // Said before any of it is read, where its length is known.
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if announced > bounds.size {
        return Err(Answer::TooLarge);
    }
    let is_exact = body.size_hint().exact().is_some();
    let most = if is_exact { announced } else { bounds.size };
    let mut seat = room.take(most).ok_or(Answer::Busy)?;
    let whole = collect(Limited::new(body, bounds.size), announced);
    match tokio::time::timeout(bounds.time, whole).await {
        Ok(Ok(whole)) => {
            seat.shrink_to(whole.len());
            Ok((whole, seat))
        }
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Answer::TooLarge),
        Ok(Err(_)) => Err(Answer::CutOff),
        Err(_) => Err(Answer::Slow),
    }
}

/// A copy, piece by piece: what arrives shares the connection's buffer, which else is held, and another made.
async fn collect(
    mut body: Limited<Body>,
    announced: usize,
) -> Result<Bytes, Box<dyn std::error::Error + Send + Sync>> {
    let mut whole = Vec::with_capacity(announced);
    while let Some(frame) = body.frame().await {
        if let Some(data) = frame?.data_ref() {
            whole.extend_from_slice(data);
        }
    }
    Ok(whole.into())
}

/// `application/json` and `application/*+json`, in UTF-8.
fn is_json(headers: &HeaderMap) -> bool {
    let Some(kind) =
        text(headers, CONTENT_TYPE.as_str()).and_then(|text| text.parse::<Mime>().ok())
    else {
        return false;
    };
    let json = kind.subtype() == mime::JSON || kind.suffix() == Some(mime::JSON);
    let utf8 = kind
        .get_param(mime::CHARSET)
        .is_none_or(|charset| charset == mime::UTF_8 || charset == "utf8");
    kind.type_() == mime::APPLICATION && json && utf8
}

fn is_compressed(headers: &HeaderMap) -> bool {
    headers.contains_key(CONTENT_ENCODING)
        && text(headers, CONTENT_ENCODING.as_str())
            .is_none_or(|coding| !coding.trim().eq_ignore_ascii_case("identity"))
}

/// The one value of a header.
fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(value)
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::plain("application/json", true)]
    #[case::any_case("Application/JSON; Charset=\"utf-8\"", true)]
    #[case::other_spelling("application/json;charset=UTF8", true)]
    #[case::with_a_suffix("application/vnd.digit+json", true)]
    #[case::other_charset("application/json; charset=ISO-8859-1", false)]
    #[case::text("text/plain", false)]
    #[case::not_an_application("text/json", false)]
    #[case::form("application/x-www-form-urlencoded", false)]
    #[case::json_lines("application/jsonl", false)]
    #[case::junk("json", false)]
    #[case::empty("", false)]
    fn content_types(#[case] value: &'static str, #[case] taken: bool) {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(value));
        assert_eq!(is_json(&headers), taken);
    }

    #[test]
    fn none_or_two_content_types_are_no_json() {
        let mut headers = HeaderMap::new();
        assert!(!is_json(&headers));
        let json = HeaderValue::from_static("application/json");
        headers.append(CONTENT_TYPE, json.clone());
        headers.append(CONTENT_TYPE, json);
        assert!(!is_json(&headers));
    }

    #[rstest]
    #[case(None, false)]
    #[case(Some("identity"), false)]
    #[case(Some("gzip"), true)]
    #[case(Some("identity, gzip"), true)]
    #[case(Some(""), true)]
    fn codings(#[case] value: Option<&'static str>, #[case] compressed: bool) {
        let mut headers = HeaderMap::new();
        if let Some(value) = value {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static(value));
        }
        assert_eq!(is_compressed(&headers), compressed);
    }
}
