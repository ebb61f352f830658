//! A line of a file of requests, as operators write them: a flat object, or a request's whole body.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use super::json;
use super::submission::{kept, not_json, read_submission};
use crate::domain::request::{DecodeError, Submission};
use crate::outcome::Code;

/// What a line holds.
pub(crate) enum RequestLine {
    /// The body of a request, with the event id that may stand beside it.
    Body(Submission, Option<String>),
    /// An object with a request's fields: the name and the text of each.
    Flat(Vec<(String, Option<String>)>),
}

/// Reads one line of NDJSON.
///
/// # Errors
/// When it is not UTF-8, not JSON, or JSON of another shape.
pub(crate) fn read_request_line(line: &[u8]) -> Result<RequestLine, DecodeError> {
    let names = ["RequestInfo", "requestInfo", "otp", "eventId"];
    let scanned = str::from_utf8(line).ok().and_then(|text| {
        let [current, own, otp, event_id] = json::scan(text, names, json::exact).ok()?;
        let is_body = current.or(own).or(otp).is_some();
        Some((text, is_body, event_id))
    });
    let Some((text, is_body, event_id)) = scanned else {
        // Says what is wrong with it.
        return read_submission(line).map(|submission| RequestLine::Body(submission, None));
    };
    if is_body {
        let event_id = event_id.map(scalar).transpose()?.flatten();
        return Ok(RequestLine::Body(read_submission(line)?, event_id));
    }
    let members: BTreeMap<String, &RawValue> =
        serde_json::from_str(text).map_err(|error| not_json(&error))?;
    let members = members
        .into_iter()
        .map(|(name, value)| Ok((name, scalar(value)?)));
    members.collect::<Result<_, _>>().map(RequestLine::Flat)
}

fn scalar(value: &RawValue) -> Result<Option<String>, DecodeError> {
    match json::text(value) {
        Ok(text) => Ok(text.map(|text| kept(&text))),
        Err(json::WrongShape) => Err(DecodeError {
            code: Code::WrongShape,
            line: 1,
            column: 1,
            hint: None,
        }),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn flat(line: &str) -> Vec<(String, Option<String>)> {
        match read_request_line(line.as_bytes()) {
            Ok(RequestLine::Flat(members)) => members,
            Ok(RequestLine::Body(..)) => panic!("a body"),
            Err(error) => panic!("{error}"),
        }
    }

    #[test]
    fn a_flat_object_is_its_members() {
        let pair = |name: &str, text: Option<&str>| (name.to_owned(), text.map(str::to_owned));
        assert_eq!(
            flat(r#"{"mobile":9876543210,"tenant":"pb","locale":null}"#),
            [
                pair("locale", None),
                pair("mobile", Some("9876543210")),
                pair("tenant", Some("pb"))
            ]
        );
        assert_eq!(flat("{}"), []);
    }

    #[test]
    fn a_body_is_what_the_door_takes() {
        let line = r#"{"eventId":"e-1","requestInfo":{"msgId":"1|hi_IN"},"otp":{"tenantId":"pb"}}"#;
        let Ok(RequestLine::Body(submission, event_id)) = read_request_line(line.as_bytes()) else {
            panic!("no body");
        };
        assert_eq!(submission.tenant(), Some("pb"));
        assert_eq!(event_id.as_deref(), Some("e-1"));
    }

    #[rstest]
    #[case(b"{\"tenant\":{}}", Code::WrongShape)]
    #[case(b"{\"tenant\":\"pb\"", Code::NotJson)]
    #[case(b"[]", Code::WrongShape)]
    #[case(b"{\"a\":\"\xff\"}", Code::NotUtf8)]
    #[case(b"{\"otp\":1}", Code::WrongShape)]
    #[case(b"pb,login", Code::NotJson)]
    fn another_line_says_how_it_is_wrong(#[case] line: &[u8], #[case] code: Code) {
        let error = read_request_line(line).err().expect("an error");
        assert_eq!(error.code, code);
    }
}
