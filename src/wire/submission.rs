//! The body of a request: what the HTTP door takes, and what the request topic carries.

use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use super::json;
use crate::domain::request::{DecodeError, Locale, Missing, Submission};
use crate::outcome::Code;

/// How much of each text is kept, in bytes. Every limit that a text is checked against is lower,
/// so what is longer is as invalid as the part of it that is kept.
pub(crate) const MAX_TEXT: usize = 1_024;

/// Reads a request's body.
///
/// # Errors
/// When there is nothing to read, it is not UTF-8, not JSON, or JSON of another shape.
pub(crate) fn read_submission(value: &[u8]) -> Result<Submission, DecodeError> {
    if value.is_empty() {
        return Err(DecodeError {
            code: Code::EmptyValue,
            line: 0,
            column: 0,
            hint: None,
        });
    }
    let text =
        str::from_utf8(value).map_err(|error| fault(Code::NotUtf8, value, error.valid_up_to()))?;
    let body = text.strip_prefix('\u{feff}').unwrap_or(text);
    if !body.trim_ascii_start().starts_with('{') {
        serde_json::from_str::<IgnoredAny>(body).map_err(|error| not_json(&error))?;
        return Err(fault(Code::WrongShape, body.as_bytes(), 0));
    }
    let [current, own, otp] = json::scan(body, ["RequestInfo", "requestInfo", "otp"], json::exact)
        .map_err(|error| not_json(&error))?;
    let locale = current
        .and_then(requested_locale)
        .or_else(|| own.and_then(requested_locale));
    let Some(otp) = json::present(otp) else {
        return Ok(Submission {
            locale,
            missing: Some(Missing::Otp),
            ..Submission::default()
        });
    };
    let wrong_shape =
        |value: &RawValue| fault(Code::WrongShape, body.as_bytes(), offset(body, value.get()));
    let names = [
        "tenantId",
        "mobileNumber",
        "type",
        "userType",
        "countryCode",
    ];
    let fields = json::members(otp, names, json::exact).map_err(|_| wrong_shape(otp))?;
    let field = |value: Option<&RawValue>| match value {
        Some(value) => json::text(value)
            .map(|text| text.map(|text| kept(&text)))
            .map_err(|_| wrong_shape(value)),
        None => Ok(None),
    };
    let nothing = fields.iter().all(Option::is_none);
    let [tenant, mobile, kind, user_type, country_code] = fields;
    Ok(Submission {
        tenant: field(tenant)?,
        mobile: field(mobile)?,
        kind: field(kind)?,
        user_type: field(user_type)?,
        country_code: field(country_code)?,
        locale,
        missing: nothing.then_some(Missing::Fields),
    })
}

/// The locale in a `RequestInfo`. Whatever else may be in there, or in its place, is ignored: it
/// never makes a request fail.
fn requested_locale(info: &RawValue) -> Option<Locale> {
    let [msg_id] = json::members(info, ["msgId"], json::exact).ok()?;
    Locale::from_msg_id(&json::text(msg_id?).ok()??)
}

/// As much of a text as is looked at.
pub(crate) fn kept(text: &str) -> String {
    text[..text.floor_char_boundary(MAX_TEXT)].to_owned()
}

/// serde's own words are dropped: they quote the text.
pub(super) fn not_json(error: &serde_json::Error) -> DecodeError {
    DecodeError {
        code: Code::NotJson,
        line: error.line(),
        column: error.column(),
        hint: None,
    }
}

fn fault(code: Code, text: &[u8], at: usize) -> DecodeError {
    let before = &text[..at];
    let line_start = before
        .iter()
        .rposition(|byte| *byte == b'\n')
        .map_or(0, |end| end + 1);
    let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
    DecodeError {
        code,
        line,
        column: 1 + at - line_start,
        hint: None,
    }
}

/// Where `part`, a slice of `whole`, starts in it.
fn offset(whole: &str, part: &str) -> usize {
    (part.as_ptr() as usize)
        .saturating_sub(whole.as_ptr() as usize)
        .min(whole.len())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;
    use crate::domain::request::Hint;

    const DOCUMENTED: &str = r#"{
  "RequestInfo": { "apiId": "Rainmaker", "ver": ".01", "ts": "", "action": "",
                   "did": "1", "key": "", "msgId": "20170310130900|en_IN",
                   "requesterId": "", "authToken": null },
  "otp": { "mobileNumber": "9876543210", "tenantId": "pb.amritsar",
           "type": "login", "userType": "CITIZEN", "countryCode": "+91" }
}"#;

    fn read(text: &str) -> Submission {
        read_submission(text.as_bytes()).expect("a submission")
    }

    fn error(value: &[u8]) -> DecodeError {
        read_submission(value).expect_err("an error")
    }

    fn locale(text: &str) -> Option<String> {
        read(text).locale.map(|locale| locale.as_str().to_owned())
    }

    fn mobile(text: &str) -> Option<String> {
        read(text).mobile
    }

    #[test]
    fn the_documented_body_is_read_whole() {
        let expected = Submission {
            tenant: Some("pb.amritsar".to_owned()),
            mobile: Some("9876543210".to_owned()),
            kind: Some("login".to_owned()),
            user_type: Some("CITIZEN".to_owned()),
            country_code: Some("+91".to_owned()),
            locale: Locale::parse("en_IN"),
            missing: None,
        };
        assert!(read(DOCUMENTED) == expected);
        assert!(read(&format!("\u{feff}{DOCUMENTED}")) == expected);
        assert!(read(&format!(" \r\n\t{DOCUMENTED} \n")) == expected);
    }

    #[rstest]
    #[case::as_clients_send_it(r#"{"RequestInfo":{"msgId":"1|hi_IN"}}"#, Some("hi_IN"))]
    #[case::as_the_java_service_named_it(r#"{"requestInfo":{"msgId":"1|hi_IN"}}"#, Some("hi_IN"))]
    #[case::both(
        r#"{"RequestInfo":{"msgId":"1|hi_IN"},"requestInfo":{"msgId":"1|pa_IN"}}"#,
        Some("hi_IN")
    )]
    #[case::both_but_one_empty(
        r#"{"RequestInfo":{},"requestInfo":{"msgId":"1|pa_IN"}}"#,
        Some("pa_IN")
    )]
    #[case::among_odd_values(
        r#"{"RequestInfo":{"ts":1e999,"ver":[[]],"msgId":"1|hi_IN","userInfo":{"a":"\ud800"}}}"#,
        Some("hi_IN")
    )]
    #[case::last_of_two(
        r#"{"RequestInfo":{"msgId":"1|hi_IN","msgId":"1|pa_IN"}}"#,
        Some("pa_IN")
    )]
    #[case::odd_names(r#"{"RequestInfo":{"\ud800":1,"msgId":"1|hi_IN"}}"#, Some("hi_IN"))]
    #[case::no_bar(r#"{"RequestInfo":{"msgId":"20170310130900"}}"#, None)]
    #[case::number(r#"{"RequestInfo":{"msgId":20170310130900}}"#, None)]
    #[case::object(r#"{"RequestInfo":{"msgId":{"a":1}}}"#, None)]
    #[case::null_msg_id(r#"{"RequestInfo":{"msgId":null}}"#, None)]
    #[case::null(r#"{"RequestInfo":null}"#, None)]
    #[case::text(r#"{"RequestInfo":"1|hi_IN"}"#, None)]
    #[case::array(r#"{"RequestInfo":[{"msgId":"1|hi_IN"}]}"#, None)]
    #[case::scalar(r#"{"RequestInfo":1e999}"#, None)]
    #[case::absent("{}", None)]
    #[case::hostile(r#"{"RequestInfo":{"msgId":"1|../../x?y=z"}}"#, None)]
    fn request_info_never_makes_a_request_fail(#[case] text: &str, #[case] expected: Option<&str>) {
        assert_eq!(locale(text).as_deref(), expected);
    }

    #[rstest]
    #[case::text(r#""9876543210""#, Some("9876543210"))]
    #[case::number("9876543210", Some("9876543210"))]
    #[case::exact_digits("9.8765432100e9", Some("9.8765432100e9"))]
    #[case::negative("-9876543210", Some("-9876543210"))]
    #[case::out_of_any_range("1e999", Some("1e999"))]
    #[case::boolean("true", Some("true"))]
    #[case::null("null", None)]
    #[case::empty(r#""""#, Some(""))]
    #[case::escaped(r#""98765\u00343210""#, Some("9876543210"))]
    #[case::escaped_pair(r#""\ud83d\ude00""#, Some("😀"))]
    #[case::unpaired_surrogate(r#""98\ud80076""#, Some("98\u{fffd}\u{fffd}\u{fffd}76"))]
    fn scalars_are_taken_as_their_text(#[case] value: &str, #[case] expected: Option<&str>) {
        let text = format!(r#"{{"otp":{{"mobileNumber": {value} }}}}"#);
        assert_eq!(mobile(&text).as_deref(), expected);
    }

    #[rstest]
    #[case::absent("{}", Missing::Otp)]
    #[case::null(r#"{"otp":null}"#, Missing::Otp)]
    #[case::empty(r#"{"otp":{}}"#, Missing::Fields)]
    #[case::other_case(
        r#"{"OTP":{"mobileNumber":"9876543210"},"otp":{"MobileNumber":"9876543210"}}"#,
        Missing::Fields
    )]
    #[case::last_is_null(r#"{"otp":{"mobileNumber":"9876543210"},"otp":null}"#, Missing::Otp)]
    fn a_body_that_is_no_request_has_nothing_in_it(#[case] text: &str, #[case] missing: Missing) {
        let nothing = Submission {
            missing: Some(missing),
            ..Submission::default()
        };
        assert!(read(text) == nothing);
        let error = Submission::of_record(Some(text.as_bytes())).expect_err("nothing of a request");
        assert_eq!((error.code, error.hint), (Code::WrongShape, None));
    }

    #[rstest]
    #[case::null(r#"{"otp":{"tenantId":null}}"#)]
    #[case::wrong(r#"{"otp":{"type":"signup"}}"#)]
    fn a_record_with_one_field_is_a_request(#[case] text: &str) {
        assert!(Submission::of_record(Some(text.as_bytes())).is_ok());
    }

    #[rstest]
    #[case::text(br#" "{\"otp\":{\"tenantId\":\"pb\"}}""#, Some(Hint::JsonInText))]
    #[case::registry(b"\0\0\0\0\x01{}", Some(Hint::SchemaRegistry))]
    #[case::connect(
        br#"{"schema":{"type":"string"},"payload":{"otp":{"tenantId":"pb"}}}"#,
        Some(Hint::Envelope)
    )]
    #[case::debezium(br#"{ "payload":{"op":"c","after":{}}}"#, Some(Hint::Envelope))]
    #[case::cloud_event(br#"{"specversion":"1.0","data":{}}"#, Some(Hint::Envelope))]
    #[case::others(br#"{"user":{"userName":"a"}}"#, None)]
    fn what_its_producer_did_is_said(#[case] value: &[u8], #[case] hint: Option<Hint>) {
        let error = Submission::of_record(Some(value)).expect_err("no request");
        assert_eq!(error.hint, hint);
        assert_eq!(error.to_string().contains("; publish"), hint.is_some());
    }

    #[rstest]
    #[case::field(r#"{"otp":{"mobileNumber":"9876500000","mobileNumber":"9876543210"}}"#)]
    #[case::object(r#"{"otp":{"mobileNumber":"9876500000"},"otp":{"mobileNumber":"9876543210"}}"#)]
    #[case::unknown_ones(r#"{"a":1,"a":2,"otp":{"b":1,"b":[],"mobileNumber":"9876543210"}}"#)]
    fn the_last_of_equal_names_counts(#[case] text: &str) {
        assert_eq!(mobile(text).as_deref(), Some("9876543210"));
    }

    #[rstest]
    #[case::empty(b"", Code::EmptyValue, 0, 0)]
    #[case::not_utf8(b"{\n\"a\":\"\xff\"}", Code::NotUtf8, 2, 6)]
    #[case::utf16(b"\xff\xfe{\0}\0", Code::NotUtf8, 1, 1)]
    #[case::blank(b" \n", Code::NotJson, 2, 0)]
    #[case::text(b"9876543210 please", Code::NotJson, 1, 12)]
    #[case::cut(b"{\"otp\":", Code::NotJson, 1, 7)]
    #[case::trailing(b"{}\n{}", Code::NotJson, 2, 1)]
    #[case::trailing_comma(b"{\"otp\":{\"a\":1,}}", Code::NotJson, 1, 15)]
    #[case::control_character(b"{\"otp\":{\"mobileNumber\":\"98\x01\"}}", Code::NotJson, 1, 26)]
    #[case::nul_bytes(b"\0\0\0", Code::NotJson, 1, 1)]
    #[case::array(b"[]", Code::WrongShape, 1, 1)]
    #[case::null(b"null", Code::WrongShape, 1, 1)]
    #[case::string(b"\"9876543210\"", Code::WrongShape, 1, 1)]
    #[case::number(b"9876543210", Code::WrongShape, 1, 1)]
    #[case::otp_text(b"{\n  \"otp\": \"9876543210\"}", Code::WrongShape, 2, 10)]
    #[case::otp_array(b"{\"otp\":[]}", Code::WrongShape, 1, 8)]
    #[case::otp_number(b"{\"otp\":1e999}", Code::WrongShape, 1, 8)]
    #[case::object_for_a_text(b"{\"otp\":{\n\n\"tenantId\":{\"a\":1}}}", Code::WrongShape, 3, 12)]
    #[case::array_for_a_text(b"{\"otp\":{\"userType\":[1]}}", Code::WrongShape, 1, 20)]
    fn what_cannot_be_read_says_where_and_how(
        #[case] value: &[u8],
        #[case] code: Code,
        #[case] line: usize,
        #[case] column: usize,
    ) {
        let error = error(value);
        let expected = DecodeError {
            code,
            line,
            column,
            hint: None,
        };
        assert_eq!(error, expected);
        assert_eq!(
            error.to_string(),
            format!("{} at line {line}, column {column}", code.as_str())
        );
    }

    #[test]
    fn no_value_is_as_empty_as_an_empty_one() {
        assert_eq!(
            Submission::of_record(None),
            Submission::of_record(Some(b""))
        );
    }

    #[rstest]
    #[case::unknown(
        r#"{"x":DEEP,"otp":{"y":DEEP,"mobileNumber":"9876543210"}}"#,
        Ok(Some("9876543210"))
    )]
    #[case::request_info(
        r#"{"RequestInfo":DEEP,"requestInfo":{"msgId":DEEP,"z":DEEP}}"#,
        Ok(None)
    )]
    #[case::otp(r#"{"otp":[DEEP]}"#, Err(Code::WrongShape))]
    #[case::field(r#"{"otp":{"mobileNumber":DEEP}}"#, Err(Code::WrongShape))]
    #[case::body("[DEEP]", Err(Code::WrongShape))]
    fn depth_costs_no_stack(#[case] text: &str, #[case] expected: Result<Option<&str>, Code>) {
        const DEPTH: usize = 100_000;
        let read = |deep: &str| {
            let read = read_submission(text.replace("DEEP", deep).as_bytes());
            read.map(|read| read.mobile).map_err(|error| error.code)
        };
        let expected = expected.map(|mobile| mobile.map(str::to_owned));
        assert_eq!(read(&("[".repeat(DEPTH) + &"]".repeat(DEPTH))), expected);
        assert_eq!(
            read(&(r#"{"a":"#.repeat(DEPTH) + "1" + &"}".repeat(DEPTH))),
            expected
        );
        assert_eq!(read(&"[".repeat(DEPTH)), Err(Code::NotJson));
    }

    #[test]
    fn a_megabyte_of_a_text_is_kept_in_part() {
        let digits = "9".repeat(1 << 20);
        for text in [
            format!(r#"{{"otp":{{"mobileNumber":{digits}}}}}"#),
            format!(r#"{{"otp":{{"mobileNumber":"{digits}"}}}}"#),
            format!(r#"{{"otp":{{"mobileNumber":"{digits}\n"}}}}"#),
        ] {
            let kept = mobile(&text).expect("a text");
            assert_eq!(kept, "9".repeat(MAX_TEXT));
        }
        let kept = mobile(&format!(
            r#"{{"otp":{{"mobileNumber":"9{}"}}}}"#,
            "९".repeat(1 << 18)
        ))
        .expect("a text");
        assert_eq!(kept.len(), 1 + 3 * 341);
    }

    fn json_like() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            Just("{".to_owned()),
            Just("}".to_owned()),
            Just("[".to_owned()),
            Just("]".to_owned()),
            Just(":".to_owned()),
            Just(",".to_owned()),
            Just("null".to_owned()),
            Just("\"otp\"".to_owned()),
            Just("\"mobileNumber\"".to_owned()),
            Just("\"RequestInfo\"".to_owned()),
            Just("\"msgId\"".to_owned()),
            Just("9876543210".to_owned()),
            Just("\"9876543210\"".to_owned()),
            "\"[\\\\\"u0-9a-f]{0,6}",
            "\\PC{0,4}",
        ];
        proptest::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(value in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = read_submission(&value);
        }

        #[test]
        fn an_error_never_quotes_the_text(text in json_like()) {
            if let Err(error) = read_submission(text.as_bytes()) {
                let said = format!("{error} {error:?}");
                prop_assert!(!said.contains("98765"));
                prop_assert!(said.len() < 200);
            }
        }

        #[test]
        fn what_was_written_is_what_is_read(
            mobile in proptest::option::of("\\PC{0,40}"),
            tenant in proptest::option::of(".{0,40}"),
        ) {
            let body = serde_json::json!({"otp": {"mobileNumber": mobile, "tenantId": tenant}, "x": [{}]});
            let read = read(&body.to_string());
            prop_assert_eq!(read.mobile, mobile);
            prop_assert_eq!(read.tenant, tenant);
        }

        #[test]
        fn debug_never_shows_the_number(digits in "[0-9]{8,12}") {
            let body = serde_json::json!({"otp": {"mobileNumber": digits, "tenantId": digits, "type": digits}});
            let shown = format!("{:?}", read(&body.to_string()));
            prop_assert!(!shown.contains(&digits));
        }
    }
}
