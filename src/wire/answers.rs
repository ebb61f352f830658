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
