//! What a text must look like, by what it names.

use std::str::FromStr;

use super::kinds::quote_text;
use crate::domain::pattern::Pattern;

/// Anything but nothing.
pub(super) fn not_empty(text: &str) -> Result<(), String> {
    if text.trim().is_empty() {
        return Err("must not be empty".to_owned());
    }
    Ok(())
}

/// Topics of Kafka itself.
const INTERNAL: [&str; 4] = [
    "__cluster_metadata",
    "__consumer_offsets",
    "__share_group_state",
    "__transaction_state",
];

/// Kafka's own rule.
pub(super) fn topic(text: &str) -> Result<(), String> {
    if INTERNAL.contains(&text) {
        return Err(format!("must not be {text:?}, which is Kafka's own"));
    }
    if !name_fits(text) || text.len() > 249 || matches!(text, "" | "." | "..") {
        let what = quote_text(text);
        return Err(format!(
            "must be a topic's name, 1 to 249 of letters, digits and . _ -, and is {what}"
        ));
    }
    Ok(())
}

/// A consumer group: also the first half of `transactional.id`.
pub(super) fn group(text: &str) -> Result<(), String> {
    if !name_fits(text) || text.is_empty() || text.len() > 200 {
        let what = quote_text(text);
        return Err(format!(
            "must be 1 to 200 of letters, digits and . _ -, and is {what}"
        ));
    }
    Ok(())
}

/// An instance's name, or empty for the host name.
pub(super) fn instance(text: &str) -> Result<(), String> {
    if text.is_empty() {
        return Ok(());
    }
    let what = quote_text(text);
    if text.ends_with("-http") {
        return Err(format!(
            "must not end in -http, as the HTTP door's own transactional id does, and is {what}"
        ));
    }
    if text.ends_with("-check") || text.starts_with("job-") {
        return Err(format!(
            "must not begin with job- or end in -check, as transactional ids of commands do, and is {what}"
        ));
    }
    group(text)
}

/// `host:port`, several separated by commas.
pub(super) fn brokers(text: &str) -> Result<(), String> {
    text.split(',').map(str::trim).try_for_each(|broker| {
        let fits = broker.rsplit_once(':').is_some_and(|(host, port)| {
            let odd = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '@' | '"');
            let bare = !host.contains(':') || (host.starts_with('[') && host.ends_with(']'));
            let port = u16::from_str(port).is_ok_and(|port| port > 0);
            port && bare && !host.is_empty() && !host.contains(odd)
        });
        if !fits {
            let what = quote_text(broker);
            return Err(format!(
                "must be host:port, several separated by commas, and one is {what}"
            ));
        }
        Ok(())
    })
}

/// `^[a-z]{2,3}(_[A-Z]{2})?$`
pub(super) fn locale(text: &str) -> Result<(), String> {
    let (language, country) = match text.split_once('_') {
        Some((language, country)) => (language, Some(country)),
        None => (text, None),
    };
    let language =
        (2..=3).contains(&language.len()) && language.bytes().all(|b| b.is_ascii_lowercase());
    let country = country.is_none_or(|country| {
        country.len() == 2 && country.bytes().all(|b| b.is_ascii_uppercase())
    });
    if !(language && country) {
        let what = quote_text(text);
        return Err(format!("must be a locale such as \"en_IN\", not {what}"));
    }
    Ok(())
}

/// `^\+?[1-9][0-9]{0,3}$`
pub(super) fn country_code(text: &str) -> Result<(), String> {
    let digits = text.strip_prefix('+').unwrap_or(text);
    let fits = (1..=4).contains(&digits.len())
        && !digits.starts_with('0')
        && digits.bytes().all(|b| b.is_ascii_digit());
    if !fits {
        let what = quote_text(text);
        return Err(format!(
            "must be a country code such as \"+91\", not {what}"
        ));
    }
    Ok(())
}

/// A regular expression, as numbers are judged by.
pub(super) fn pattern(text: &str) -> Result<(), String> {
    not_empty(text)?;
    if !Pattern::new(text).is_usable() {
        let what = quote_text(text);
        return Err(format!(
            "must be a regular expression in Java's dialect, and {what} is none"
        ));
    }
    Ok(())
}

/// What `tracing` is told to log.
pub(super) fn log_level(text: &str) -> Result<(), String> {
    not_empty(text)?;
    tracing_subscriber::EnvFilter::try_new(text).map_err(|_| {
        let what = quote_text(text);
        format!("must be a level such as \"info\" or \"info,user_otp=debug\", not {what}")
    })?;
    Ok(())
}

fn name_fits(text: &str) -> bool {
    text.bytes()
        .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}
