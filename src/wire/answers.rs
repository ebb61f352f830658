//! What the egov services answer with. Only what matters is read; what is not as the contract
//! says is a [`BrokenAnswer`], which counts as an outage: guessing could tell an existing user from
//! an unknown one wrongly.

use std::borrow::Cow;
use std::fmt;

use serde_json::value::RawValue;

use super::json::{self, WrongShape};
use crate::domain::contact::{EmailAddress, MobileNumber};
use crate::domain::rules::RuleEntry;
use crate::domain::secret::Otp;
use crate::domain::user::User;
use crate::messages::TextSet;

/// An answer that is not what its contract says; the answer itself is not repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("broken answer: {0}")]
pub struct BrokenAnswer(&'static str);

/// The first error in a body of the platform's `tracer` library. Its texts come from a service, and
/// may quote the request: they are for telling errors apart, and print themselves masked.
#[derive(Clone, PartialEq, Eq)]
pub struct TracerError {
    /// The error's code; empty where there is none.
    pub code: String,
    /// The error's message; empty where there is none.
    pub message: String,
}

impl fmt::Debug for TracerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TracerError(***)")
    }
}

/// egov-user's answer: the first user, or none where it found nobody. Names are matched without
/// regard to case.
///
/// # Errors
/// When there is no `user` array, or its first entry is not a user.
pub fn parse_user_answer(body: &[u8]) -> Result<Option<User>, BrokenAnswer> {
    let [users] = json::scan(text(body)?, ["user"], json::any_case).map_err(not_an_object)?;
    let users = users.ok_or(BrokenAnswer("no user"))?;
    let mut first = None;
    json::items(users, |user| {
        first.get_or_insert(user);
    })
    .map_err(|WrongShape| BrokenAnswer("user is not an array"))?;
    let Some(user) = first else {
        return Ok(None);
    };
    let [id, mobile, email] =
        json::members(user, ["id", "mobileNumber", "emailId"], json::any_case)
            .map_err(|WrongShape| BrokenAnswer("a user is not an object"))?;
    Ok(Some(User {
        id: scalar(id)?,
        mobile: scalar(mobile)?.and_then(MobileNumber::stored),
        email: scalar(email)?.and_then(EmailAddress::stored),
    }))
}

/// egov-otp's answer: the OTP it created.
///
/// # Errors
/// When there is no `otp.otp`, or it is empty.
pub fn parse_otp_answer(body: &[u8]) -> Result<Otp, BrokenAnswer> {
    let [outer] = json::scan(text(body)?, ["otp"], json::exact).map_err(not_an_object)?;
    let [inner] = json::members(outer.ok_or(BrokenAnswer("no otp"))?, ["otp"], json::exact)
        .map_err(|WrongShape| BrokenAnswer("otp is not an object"))?;
    scalar(inner)?
        .and_then(Otp::new)
        .ok_or(BrokenAnswer("no otp.otp"))
}

/// egov-localization's answer: the texts in it that this service uses.
///
/// # Errors
/// When there is no `messages`, or it is neither null nor an array.
pub fn parse_texts_answer(body: &[u8]) -> Result<TextSet, BrokenAnswer> {
    let [messages] = json::scan(text(body)?, ["messages"], json::exact).map_err(not_an_object)?;
    let messages = messages.ok_or(BrokenAnswer("no messages"))?;
    let mut texts = TextSet::default();
    let Some(messages) = json::present(Some(messages)) else {
        return Ok(texts);
    };
    json::items(messages, |message| {
        if let Some((code, template)) = code_and_message(message) {
            texts.put(&code, &template);
        }
    })
    .map_err(|WrongShape| BrokenAnswer("messages is not an array"))?;
    Ok(texts)
}

/// egov-mdms' answer: the entries of a master, none where the module or the master is missing.
/// Entries of another shape are skipped.
///
/// # Errors
/// When `MdmsRes` is not an object, or what should be the module or the master is something else.
pub fn parse_rules_answer(
    body: &[u8],
    module: &str,
    master: &str,
) -> Result<Vec<RuleEntry>, BrokenAnswer> {
    let [result] = json::scan(text(body)?, ["MdmsRes"], json::exact).map_err(not_an_object)?;
    let result = result.ok_or(BrokenAnswer("no MdmsRes"))?;
    let [found] = json::members(result, [module], json::exact)
        .map_err(|WrongShape| BrokenAnswer("MdmsRes is not an object"))?;
    let mut entries = Vec::new();
    let Some(found) = json::present(found) else {
        return Ok(entries);
    };
    let [found] = json::members(found, [master], json::exact)
        .map_err(|WrongShape| BrokenAnswer("the module is not an object"))?;
    if let Some(found) = json::present(found) {
        json::items(found, |entry| entries.extend(rule_entry(entry)))
            .map_err(|WrongShape| BrokenAnswer("the master is not an array"))?;
    }
    Ok(entries)
}

/// The first error of a body as the platform's `tracer` library writes it; none where the body is
/// something else.
#[must_use]
pub fn parse_tracer_error(body: &[u8]) -> Option<TracerError> {
    let [errors] = json::scan(text(body).ok()?, ["Errors"], json::exact).ok()?;
    let mut first = None;
    json::items(errors?, |error| {
        first.get_or_insert(error);
    })
    .ok()?;
    let [code, message] = json::members(first?, ["code", "message"], json::exact).ok()?;
    let text = |member| scalar(member).ok().flatten().unwrap_or_default();
    Some(TracerError {
        code: text(code),
        message: text(message),
    })
}

fn text(body: &[u8]) -> Result<&str, BrokenAnswer> {
    let text = str::from_utf8(body).map_err(|_| BrokenAnswer("not UTF-8"))?;
    Ok(text.strip_prefix('\u{feff}').unwrap_or(text))
}

fn not_an_object(_: serde_json::Error) -> BrokenAnswer {
    BrokenAnswer("not a JSON object")
}

fn scalar(member: Option<&RawValue>) -> Result<Option<String>, BrokenAnswer> {
    match member.map(json::text) {
        Some(Ok(text)) => Ok(text.map(Cow::into_owned)),
        Some(Err(WrongShape)) => Err(BrokenAnswer("an object where a text belongs")),
        None => Ok(None),
    }
}

fn code_and_message(message: &RawValue) -> Option<(Cow<'_, str>, Cow<'_, str>)> {
    let [code, message] = json::members(message, ["code", "message"], json::exact).ok()?;
    Some((json::text(code?).ok()??, json::text(message?).ok()??))
}

fn rule_entry(entry: &RawValue) -> Option<RuleEntry> {
    let names = ["countryCode", "mobileNumberRegex", "default"];
    let [country_code, pattern, default] = json::members(entry, names, json::exact).ok()?;
    let string = |value: &RawValue| {
        value
            .get()
            .starts_with('"')
            .then(|| scalar(Some(value)).ok().flatten())
            .flatten()
    };
    let country_code = match json::present(country_code) {
        Some(code) => Some(string(code)?),
        None => None,
    };
    Some(RuleEntry {
        country_code,
        pattern: string(pattern?)?,
        default: default.is_some_and(|default| default.get() == "true"),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;
    use crate::messages::{TextCode, pick};

    type Seen = (Option<String>, Option<String>, Option<String>);

    fn user(id: Option<&str>, mobile: Option<&str>, email: Option<&str>) -> Option<Seen> {
        Some((
            id.map(str::to_owned),
            mobile.map(str::to_owned),
            email.map(str::to_owned),
        ))
    }

    fn seen(user: User) -> Seen {
        (
            user.id,
            user.mobile.map(|mobile| mobile.expose().to_owned()),
            user.email.map(|email| email.expose().to_owned()),
        )
    }

    #[rstest]
    #[case::documented(
        r#"{"responseInfo":{"status":"200"},"user":[{"id":24,"uuid":"u","userName":"x","mobileNumber":"9876543210","emailId":"a@b.c","type":"CITIZEN"}]}"#,
        user(Some("24"), Some("9876543210"), Some("a@b.c"))
    )]
    #[case::any_case(
        r#"{"User":[{"ID":"24","MOBILENUMBER":"9876543210","EmailID":"a@b.c"}]}"#,
        user(Some("24"), Some("9876543210"), Some("a@b.c"))
    )]
    #[case::nulls(
        r#"{"user":[{"id":null,"mobileNumber":null,"emailId":null}]}"#,
        user(None, None, None)
    )]
    #[case::blanks(
        r#"{"user":[{"id":1,"mobileNumber":" ","emailId":""}]}"#,
        user(Some("1"), None, None)
    )]
    #[case::bare(r#"{"user":[{}]}"#, user(None, None, None))]
    #[case::first_of_several(
        r#"{"user":[{"id":1},{"id":2},"odd",null]}"#,
        user(Some("1"), None, None)
    )]
    #[case::number_as_a_number(
        r#"{"user":[{"mobileNumber":9876543210}]}"#,
        user(None, Some("9876543210"), None)
    )]
    #[case::nobody(r#"{"user":[]}"#, None)]
    #[case::byte_order_mark("\u{feff}{\"user\":[]}", None)]
    fn egov_user_answers_with_the_first_user(#[case] body: &str, #[case] expected: Option<Seen>) {
        assert_eq!(
            parse_user_answer(body.as_bytes()).map(|user| user.map(seen)),
            Ok(expected)
        );
    }

    #[rstest]
    #[case::no_user(r#"{"responseInfo":{}}"#)]
    #[case::null_user(r#"{"user":null}"#)]
    #[case::object_user(r#"{"user":{}}"#)]
    #[case::null_entry(r#"{"user":[null]}"#)]
    #[case::text_entry(r#"{"user":["9876543210"]}"#)]
    #[case::object_as_number(r#"{"user":[{"mobileNumber":{}}]}"#)]
    #[case::array("[]")]
    #[case::null("null")]
    #[case::empty("")]
    #[case::html("<html>9876543210</html>")]
    #[case::cut(r#"{"user":[{"mobileNumber":"9876543210""#)]
    fn another_answer_of_egov_user_is_broken(#[case] body: &str) {
        let error = parse_user_answer(body.as_bytes()).expect_err("broken");
        assert!(!format!("{error} {error:?}").contains("98765"));
    }

    #[rstest]
    #[case(r#"{"responseInfo":null,"otp":{"otp":"123456","UUID":"u","identity":"9876543210","tenantId":"pb","isValidationSuccessful":false}}"#, "123456")]
    #[case::leading_zeros(r#"{"otp":{"otp":"000123"}}"#, "000123")]
    #[case::number(r#"{"otp":{"otp":123456}}"#, "123456")]
    fn egov_otp_answers_with_the_otp(#[case] body: &str, #[case] expected: &str) {
        assert_eq!(
            parse_otp_answer(body.as_bytes()).expect("an OTP").expose(),
            expected
        );
    }

    #[rstest]
    #[case("{}")]
    #[case(r#"{"otp":null}"#)]
    #[case(r#"{"otp":"123456"}"#)]
    #[case(r#"{"otp":{}}"#)]
    #[case(r#"{"otp":{"otp":null}}"#)]
    #[case(r#"{"otp":{"otp":""}}"#)]
    #[case(r#"{"otp":{"otp":"  "}}"#)]
    #[case(r#"{"otp":{"otp":["123456"]}}"#)]
    #[case(r#"{"otp":{"otp":"123456"}} x"#)]
    fn another_answer_of_egov_otp_is_broken(#[case] body: &str) {
        let error = parse_otp_answer(body.as_bytes()).expect_err("broken");
        assert!(!format!("{error} {error:?}").contains("123456"));
    }

    #[rstest]
    #[case::text(r#"{"messages":[{"code":"sms.login.otp.msg","message":"Hi %s","module":"egov-user","locale":"en_IN"}]}"#, "Hi %s")]
    #[case::escaped(
        r#"{"messages":[{"code":"sms.login.otp.msg","message":"\u0939\u0948 \"%s\""}]}"#,
        "है \"%s\""
    )]
    #[case::odd_entries_are_skipped(
        r#"{"messages":[null,1,[],{},{"code":null,"message":"x %s"},{"code":"sms.login.otp.msg","message":null},{"code":"sms.login.otp.msg","message":"Hi %s"},{"code":{},"message":[]}]}"#,
        "Hi %s"
    )]
    #[case::other_codes(
        r#"{"messages":[{"code":"other","message":"Hi %s"}]}"#,
        "Dear Citizen, Your Login OTP is %s."
    )]
    #[case::none(r#"{"messages":[]}"#, "Dear Citizen, Your Login OTP is %s.")]
    #[case::null(r#"{"messages":null}"#, "Dear Citizen, Your Login OTP is %s.")]
    fn egov_localization_answers_with_texts(#[case] body: &str, #[case] expected: &str) {
        let texts = parse_texts_answer(body.as_bytes()).expect("an answer");
        let other =
            TextSet::from_messages(vec![("sms.login.otp.msg".to_owned(), expected.to_owned())]);
        let none = TextSet::default();
        assert_eq!(
            pick(TextCode::SmsLogin, &texts, &none),
            pick(TextCode::SmsLogin, &other, &none)
        );
    }

    #[rstest]
    #[case("{}")]
    #[case(r#"{"messages":{}}"#)]
    #[case(r#"{"messages":"x"}"#)]
    #[case("[]")]
    fn another_answer_of_egov_localization_is_broken(#[case] body: &str) {
        assert!(parse_texts_answer(body.as_bytes()).is_err());
    }

    fn entry(code: Option<&str>, pattern: &str, default: bool) -> RuleEntry {
        RuleEntry {
            country_code: code.map(str::to_owned),
            pattern: pattern.to_owned(),
            default,
        }
    }

    #[rstest]
    #[case::documented(
        r#"{"MdmsRes":{"common-masters":{"MobileNumberValidation":[{"countryCode":"+91","mobileNumberRegex":"^[6-9][0-9]{9}$","default":true},{"countryCode":"+251","mobileNumberRegex":"^[79]\\d{8}$","default":false}]}}}"#,
        vec![entry(Some("+91"), "^[6-9][0-9]{9}$", true), entry(Some("+251"), r"^[79]\d{8}$", false)]
    )]
    #[case::module_missing(r#"{"MdmsRes":{}}"#, vec![])]
    #[case::module_null(r#"{"MdmsRes":{"common-masters":null}}"#, vec![])]
    #[case::master_missing(r#"{"MdmsRes":{"common-masters":{}}}"#, vec![])]
    #[case::master_null(r#"{"MdmsRes":{"common-masters":{"MobileNumberValidation":null}}}"#, vec![])]
    #[case::no_code_no_default(
        r#"{"MdmsRes":{"common-masters":{"MobileNumberValidation":[{"mobileNumberRegex":"9"},{"countryCode":null,"mobileNumberRegex":"8","default":null}]}}}"#,
        vec![entry(None, "9", false), entry(None, "8", false)]
    )]
    #[case::odd_entries_are_skipped(
        r#"{"MdmsRes":{"common-masters":{"MobileNumberValidation":[null,"x",[],{},{"mobileNumberRegex":null},{"mobileNumberRegex":7},{"countryCode":91,"mobileNumberRegex":"9"},{"countryCode":"+1","mobileNumberRegex":"1","default":"true"}]}}}"#,
        vec![entry(Some("+1"), "1", false)]
    )]
    fn egov_mdms_answers_with_entries(#[case] body: &str, #[case] expected: Vec<RuleEntry>) {
        assert_eq!(
            parse_rules_answer(body.as_bytes(), "common-masters", "MobileNumberValidation"),
            Ok(expected)
        );
    }

    #[rstest]
    #[case("{}")]
    #[case(r#"{"MdmsRes":null}"#)]
    #[case(r#"{"MdmsRes":[]}"#)]
    #[case(r#"{"MdmsRes":{"common-masters":[]}}"#)]
    #[case(r#"{"MdmsRes":{"common-masters":{"MobileNumberValidation":{}}}}"#)]
    fn another_answer_of_egov_mdms_is_broken(#[case] body: &str) {
        assert!(
            parse_rules_answer(body.as_bytes(), "common-masters", "MobileNumberValidation")
                .is_err()
        );
    }

    #[rstest]
    #[case(r#"{"Errors":[{"code":"QUERY_EXECUTION_ERROR","message":"failed","description":null,"params":null},{"code":"x"}]}"#, Some(("QUERY_EXECUTION_ERROR", "failed")))]
    #[case(r#"{"ResponseInfo":null,"Errors":[{"message":"An unhandled exception occurred on the server"}]}"#, Some(("", "An unhandled exception occurred on the server")))]
    #[case(r#"{"Errors":[{"code":null,"message":{}}]}"#, Some(("", "")))]
    #[case(r#"{"Errors":[]}"#, None)]
    #[case(r#"{"Errors":null}"#, None)]
    #[case(r#"{"error":{"code":400}}"#, None)]
    #[case("Bad Request", None)]
    fn tracers_first_error_is_read(#[case] body: &str, #[case] expected: Option<(&str, &str)>) {
        let error = parse_tracer_error(body.as_bytes());
        assert_eq!(
            error
                .as_ref()
                .map(|error| (error.code.as_str(), error.message.as_str())),
            expected
        );
        assert!(!format!("{error:?}").contains("failed"));
    }

    #[test]
    fn depth_and_size_cost_no_stack() {
        let deep = "[".repeat(100_000) + &"]".repeat(100_000);
        let body = |key: &str| {
            format!(r#"{{"other":{deep},"{key}":[{{"x":{deep},"code":{deep}}}]}}"#).into_bytes()
        };
        assert!(parse_user_answer(&body("user")).is_ok());
        assert!(parse_texts_answer(&body("messages")).is_ok());
        assert!(parse_tracer_error(&body("Errors")).is_some());
        assert!(parse_otp_answer(format!(r#"{{"otp":{deep}}}"#).as_bytes()).is_err());
        assert!(
            parse_rules_answer(format!(r#"{{"MdmsRes":{deep}}}"#).as_bytes(), "a", "b").is_err()
        );
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse_user_answer(&body);
            let _ = parse_otp_answer(&body);
            let _ = parse_texts_answer(&body);
            let _ = parse_rules_answer(&body, "a", "b");
            let _ = parse_tracer_error(&body);
        }
    }
}
