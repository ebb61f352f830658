//! Kinds of values: each takes what was given and returns the typed value with the form to
//! print, or the problem in words. A problem quotes the value, except where it may be a secret.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use ipnet::IpNet;
use secrecy::SecretString;
use toml::Value;

use super::error::one_line;
use super::layers::Raw;
use super::values::{MASK, RedisUrl, RetryDelay, ServiceUrl};

/// The typed value and the form to print.
pub(super) type Parsed<T> = Result<(T, Value), String>;

/// More than anybody writes, less than floods a terminal.
const QUOTED: usize = 80;

/// `true` or `false`; from the environment also the words that Spring takes.
pub(super) fn flag(raw: &Raw) -> Parsed<bool> {
    let flag = match raw {
        Raw::Toml(Value::Boolean(flag)) => Some(*flag),
        Raw::Text(text) => match text.trim().to_lowercase().as_str() {
            "true" | "on" | "yes" | "1" => Some(true),
            "false" | "off" | "no" | "0" => Some(false),
            _ => None,
        },
        Raw::Toml(_) | Raw::NotUtf8 => None,
    };
    flag.map(|flag| (flag, Value::Boolean(flag)))
        .ok_or_else(|| format!("must be true or false, not {}", quote(raw)))
}

/// A whole number within bounds.
pub(super) fn count<T: TryFrom<i64>>(bounds: RangeInclusive<i64>) -> impl Fn(&Raw) -> Parsed<T> {
    move |raw| {
        let count = match raw {
            Raw::Toml(Value::Integer(count)) => Some(*count),
            Raw::Text(text) => text.trim().parse().ok(),
            Raw::Toml(_) | Raw::NotUtf8 => None,
        };
        let count = count.ok_or_else(|| format!("must be a whole number, not {}", quote(raw)))?;
        let typed = Some(count)
            .filter(|count| bounds.contains(count))
            .and_then(|count| T::try_from(count).ok());
        let (low, high) = (bounds.start(), bounds.end());
        typed
            .map(|typed| (typed, Value::Integer(count)))
            .ok_or_else(|| format!("must be from {low} to {high}, not {count}"))
    }
}

/// A duration with a unit, within bounds.
pub(super) fn duration(bounds: RangeInclusive<Duration>) -> impl Fn(&Raw) -> Parsed<Duration> {
    move |raw| {
        if let Raw::Toml(Value::Integer(number)) = raw {
            return Err(no_unit(&number.to_string()));
        }
        let Some(text) = as_text(raw) else {
            let what = quote(raw);
            return Err(format!("must be a duration such as \"5s\", not {what}"));
        };
        let duration = parse_duration(text, &bounds)?;
        Ok((duration, Value::String(text.trim().to_owned())))
    }
}

/// Text that `check` has nothing to say against.
pub(super) fn text(check: impl Fn(&str) -> Result<(), String>) -> impl Fn(&Raw) -> Parsed<String> {
    move |raw| {
        let text = as_text(raw).ok_or_else(|| format!("must be text, not {}", quote(raw)))?;
        check(text)?;
        Ok((text.to_owned(), Value::String(text.to_owned())))
    }
}

/// One of a few words.
pub(super) fn one_of<T: Copy>(words: &'static [(&'static str, T)]) -> impl Fn(&Raw) -> Parsed<T> {
    move |raw| {
        let given = as_text(raw).map(str::trim);
        let found = words.iter().find(|(word, _)| given == Some(*word));
        let (word, value) = found.ok_or_else(|| {
            let words: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            format!("must be {}, not {}", words.join(" or "), quote(raw))
        })?;
        Ok((*value, Value::String((*word).to_owned())))
    }
}

/// A list of texts; from the environment separated by commas.
pub(super) fn list(
    check: impl Fn(&str) -> Result<(), String>,
) -> impl Fn(&Raw) -> Parsed<Vec<String>> {
    move |raw| {
        let texts = match raw {
            Raw::Toml(Value::Array(values)) => values
                .iter()
                .map(|value| value.as_str().map(str::to_owned))
                .collect::<Option<Vec<_>>>(),
            Raw::Text(text) if text.trim().is_empty() => Some(Vec::new()),
            Raw::Text(text) => Some(text.split(',').map(|t| t.trim().to_owned()).collect()),
            Raw::Toml(_) | Raw::NotUtf8 => None,
        };
        let texts = texts.ok_or_else(|| format!("must be a list of texts, not {}", quote(raw)))?;
        if texts.iter().any(String::is_empty) {
            return Err("must have no empty entry".to_owned());
        }
        texts.iter().try_for_each(|text| check(text))?;
        let shown = texts.iter().cloned().map(Value::String).collect();
        Ok((texts, Value::Array(shown)))
    }
}

/// An address of this machine.
pub(super) fn address(raw: &Raw) -> Parsed<IpAddr> {
    let parse = |text: &str| {
        text.parse::<IpAddr>().map_err(|_| {
            let what = quote_text(text);
            format!("must be an IP address such as \"::\" or \"127.0.0.1\", not {what}")
        })
    };
    let (written, shown) = text(|written| parse(written).map(drop))(raw)?;
    Ok((parse(&written)?, shown))
}

/// A list of addresses and networks.
pub(super) fn networks(raw: &Raw) -> Parsed<Vec<IpNet>> {
    let parse = |text: &str| {
        let address = || text.parse::<IpAddr>().ok().map(IpNet::from);
        let network = text.parse().ok().or_else(address);
        network.ok_or_else(|| {
            let what = quote_text(text);
            format!("must be addresses or networks such as \"10.0.0.0/8\", not {what}")
        })
    };
    let (texts, shown) = list(|_| Ok(()))(raw)?;
    let networks = texts
        .iter()
        .map(|text| parse(text))
        .collect::<Result<_, _>>()?;
    Ok((networks, shown))
}

/// Retry's tiers.
pub(super) fn delays(raw: &Raw) -> Parsed<Vec<RetryDelay>> {
    const TIERS: RangeInclusive<usize> = 1..=10;

    let (labels, shown) = list(|_| Ok(()))(raw)?;
    if !TIERS.contains(&labels.len()) {
        return Err(format!("must have 1 to 10 delays, not {}", labels.len()));
    }
    let delays = labels
        .iter()
        .map(|label| RetryDelay::parse(label))
        .collect::<Result<Vec<_>, String>>()?;
    if let Some(pair) = delays.windows(2).find(|w| w[0].delay >= w[1].delay) {
        let (before, after) = (&pair[0].label, &pair[1].label);
        return Err(format!(
            "must go from short to long: {after} is not longer than {before} before it"
        ));
    }
    Ok((delays, shown))
}

/// A service's address.
pub(super) fn url(raw: &Raw) -> Parsed<ServiceUrl> {
    let text = as_text(raw).ok_or("must be a URL, as text")?;
    let url = ServiceUrl::parse(text)?;
    let shown = Value::String(url.to_string());
    Ok((url, shown))
}

/// A service's address, or nothing.
pub(super) fn optional_url(raw: &Raw) -> Parsed<Option<ServiceUrl>> {
    if as_text(raw).is_some_and(|text| text.trim().is_empty()) {
        return Ok((None, Value::String(String::new())));
    }
    url(raw).map(|(url, shown)| (Some(url), shown))
}

/// The address of Redis, or nothing.
pub(super) fn optional_redis(raw: &Raw) -> Parsed<Option<RedisUrl>> {
    let text = as_text(raw).ok_or("must be a URL, as text")?;
    if text.trim().is_empty() {
        return Ok((None, Value::String(String::new())));
    }
    let url = RedisUrl::parse(text)?;
    let shown = Value::String(url.to_string());
    Ok((Some(url), shown))
}

/// A text that is never shown; it may be empty.
pub(super) fn secret(raw: &Raw) -> Parsed<SecretString> {
    let text = as_text(raw).ok_or("must be text")?;
    let shown = if text.is_empty() { "" } else { MASK };
    Ok((SecretString::from(text), Value::String(shown.to_owned())))
}

/// A path below a service's address; a missing first slash is put there.
pub(super) fn path(raw: &Raw) -> Parsed<String> {
    let (path, _) = text(|text| {
        let odd = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '?' | '#' | '\\');
        if text.is_empty() || text.contains("//") || text.contains(odd) {
            let what = quote_text(text);
            return Err(format!(
                "must be a path such as \"/v1/_search\", not {what}"
            ));
        }
        Ok(())
    })(raw)?;
    let path = format!("/{}", path.trim_start_matches('/'));
    Ok((path.clone(), Value::String(path)))
}

/// A path prefix: empty, or with a first slash and without a last one.
pub(super) fn prefix(raw: &Raw) -> Parsed<String> {
    let bare = as_text(raw).map(|text| text.trim().trim_matches('/'));
    if bare == Some("") {
        return Ok((String::new(), Value::String(String::new())));
    }
    let (path, _) = path(raw)?;
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '-' | '_' | '.' | '~');
    if !path.chars().all(fits) {
        let what = quote(raw);
        return Err(format!(
            "must be letters, digits and - _ . ~ between slashes, not {what}"
        ));
    }
    let path = path.trim_end_matches('/').to_owned();
    Ok((path.clone(), Value::String(path)))
}

/// A value in a problem's words.
pub(super) fn quote_text(text: &str) -> String {
    let cut: String = text.chars().take(QUOTED).collect();
    let more = if cut.len() < text.len() { " ..." } else { "" };
    format!("{cut:?}{more}")
}

fn quote(raw: &Raw) -> String {
    match raw {
        Raw::Text(text) | Raw::Toml(Value::String(text)) => quote_text(text),
        Raw::Toml(Value::Integer(number)) => number.to_string(),
        Raw::Toml(Value::Float(number)) => number.to_string(),
        Raw::Toml(Value::Boolean(flag)) => flag.to_string(),
        Raw::Toml(Value::Datetime(_)) => "a date".to_owned(),
        Raw::Toml(Value::Array(_)) => "a list".to_owned(),
        Raw::Toml(Value::Table(_)) => "a section".to_owned(),
        Raw::NotUtf8 => "bytes that are not UTF-8".to_owned(),
    }
}

fn as_text(raw: &Raw) -> Option<&str> {
    match raw {
        Raw::Text(text) => Some(text),
        Raw::Toml(value) => value.as_str(),
        Raw::NotUtf8 => None,
    }
}

pub(super) fn parse_duration(
    text: &str,
    bounds: &RangeInclusive<Duration>,
) -> Result<Duration, String> {
    let text = text.trim();
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        return Err(no_unit(&one_line(text)));
    }
    let what = quote_text(text);
    let duration = humantime::parse_duration(text)
        .map_err(|_| format!("must be a duration such as \"5s\", not {what}"))?;
    if !bounds.contains(&duration) {
        let low = humantime::format_duration(*bounds.start());
        let high = humantime::format_duration(*bounds.end());
        return Err(format!("must be from {low} to {high}, not {what}"));
    }
    Ok(duration)
}

fn no_unit(number: &str) -> String {
    format!(
        "{number} has no unit: write \"{number}s\" for seconds, \"{number}ms\" for milliseconds"
    )
}
