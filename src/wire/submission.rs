//! The body of a request: what the HTTP door takes, and what the request topic carries.

use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use super::json;
use crate::domain::request::{DecodeError, Locale, Submission};
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
    let [tenant, mobile, kind, user_type, country_code] = fields;
    Ok(Submission {
        tenant: field(tenant)?,
        mobile: field(mobile)?,
        kind: field(kind)?,
        user_type: field(user_type)?,
        country_code: field(country_code)?,
        locale,
    })
}

/// The locale in a `RequestInfo`. Whatever else may be in there, or in its place, is ignored: it
/// never makes a request fail.
fn requested_locale(info: &RawValue) -> Option<Locale> {
    let [msg_id] = json::members(info, ["msgId"], json::exact).ok()?;
    Locale::from_msg_id(&json::text(msg_id?).ok()??)
}

fn kept(text: &str) -> String {
    text[..text.floor_char_boundary(MAX_TEXT)].to_owned()
}

/// serde's own words are dropped: they quote the text.
fn not_json(error: &serde_json::Error) -> DecodeError {
    DecodeError {
        code: Code::NotJson,
        line: error.line(),
        column: error.column(),
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
    }
}

/// Where `part`, a slice of `whole`, starts in it.
fn offset(whole: &str, part: &str) -> usize {
    (part.as_ptr() as usize)
        .saturating_sub(whole.as_ptr() as usize)
        .min(whole.len())
}
