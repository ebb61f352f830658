//! Types of single settings.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use url::Url;

use super::kinds::parse_duration;

/// What stands where a secret was.
pub(super) const MASK: &str = "***";

/// One delay of retries, and the last part of its topic's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetryDelay {
    /// As written, the last part of the topic's name: `30s`.
    pub label: String,
    /// How long.
    pub delay: Duration,
}

impl RetryDelay {
    /// Takes a duration of at most a day, in letters and digits alone: `30s`, `1m30s`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(label: &str) -> Result<Self, String> {
        const BOUNDS: RangeInclusive<Duration> =
            Duration::from_millis(1)..=Duration::from_secs(24 * 60 * 60);

        let delay = parse_duration(label, &BOUNDS)?;
        if !label.chars().all(|c| c.is_ascii_alphanumeric()) {
            return Err(format!(
                "{label:?} is part of a topic's name: write it in letters and digits alone"
            ));
        }
        Ok(Self {
            label: label.to_owned(),
            delay,
        })
    }
}

/// What an answer over HTTP waits for, and tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HttpAnswers {
    /// What became of the request.
    Platform,
    /// That a valid request was taken, whoever it is for.
    Uniform,
}

/// What sending limits do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LimitsMode {
    /// Nothing is counted.
    Off,
    /// Counted, never refused.
    Shadow,
    /// Counted and refused.
    On,
}

/// What becomes of a request when texts are unavailable and there is no copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnOutage {
    /// It is retried.
    Retry,
    /// It gets the built-in text.
    Default,
}

/// The form of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// A service's base address. `Debug` and `Display` mask a user name and a password in it.
#[derive(Clone, PartialEq, Eq)]
pub struct ServiceUrl(Url);

impl ServiceUrl {
    /// Takes `http` and `https` addresses without query and fragment.
    ///
    /// # Errors
    /// What is wrong with it; the text never quotes it, since it may carry a password.
    pub fn parse(text: &str) -> Result<Self, String> {
        let url = Url::parse(text.trim()).map_err(|problem| format!("is not a URL: {problem}"))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err("must begin with http:// or https://".to_owned());
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err("must have no query (?) and no fragment (#)".to_owned());
        }
        Ok(Self(url))
    }

    /// Whether it is spoken to over TLS.
    #[must_use]
    pub fn is_encrypted(&self) -> bool {
        self.0.scheme() == "https"
    }

    /// The address of `path` under this base, with exactly one slash between them.
    /// It carries the base's user name and password, if there are any: do not print it.
    #[must_use]
    pub fn endpoint(&self, path: &str) -> Url {
        let mut url = self.0.clone();
        let base = url.path().trim_end_matches('/');
        let path = format!("{base}/{}", path.trim_start_matches('/'));
        url.set_path(&path);
        url
    }
}

impl fmt::Display for ServiceUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_masked(&self.0, f)
    }
}

impl fmt::Debug for ServiceUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ServiceUrl({self})")
    }
}

/// The address of Redis. `Debug` and `Display` mask a user name and a password in it.
#[derive(Clone, PartialEq, Eq)]
pub struct RedisUrl(Url);

impl RedisUrl {
    /// Takes `redis://` and `rediss://` addresses, and bare `host` or `host:port`.
    ///
    /// # Errors
    /// What is wrong with it; the text never quotes it, since it may carry a password.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let bare = !text.contains("://");
        let text = if bare {
            format!("redis://{text}")
        } else {
            text.to_owned()
        };
        let url = Url::parse(&text).map_err(|problem| format!("is not a URL: {problem}"))?;
        if !matches!(url.scheme(), "redis" | "rediss") {
            return Err("must begin with redis:// or rediss://, or be host:port".to_owned());
        }
        if url.host_str().is_none_or(str::is_empty) {
            return Err("must have a host".to_owned());
        }
        let database = url.path().trim_matches('/');
        if url.query().is_some() || url.fragment().is_some() {
            return Err("must have no query (?) and no fragment (#)".to_owned());
        }
        if !database.is_empty() && database.parse::<u16>().is_err() {
            return Err("must have a database's number, or nothing, after the host".to_owned());
        }
        Ok(Self(url))
    }

    /// The whole address, with its password if there is one: do not print it.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.as_str()
    }
}

impl fmt::Display for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_masked(&self.0, f)
    }
}

impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RedisUrl({self})")
    }
}

/// An address without its user name and password.
fn write_masked(url: &Url, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let mut masked = url.clone();
    // Both fail only on addresses that cannot have a user, and those have none to mask.
    if masked.password().is_some() {
        let _ = masked.set_password(Some(MASK));
    }
    if !masked.username().is_empty() {
        let _ = masked.set_username(MASK);
    }
    f.write_str(masked.as_str())
}

/// Free librdkafka properties. Any of them may be a secret, so `Debug` prints names alone.
#[derive(Clone, Default)]
pub struct KafkaProperties(BTreeMap<String, SecretString>);

impl KafkaProperties {
    /// Names and values, for a client's configuration and nothing else.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0
            .iter()
            .map(|(name, value)| (name.as_str(), value.expose_secret()))
    }

    /// The value of one property.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(ExposeSecret::expose_secret)
    }
}

impl FromIterator<(String, String)> for KafkaProperties {
    fn from_iter<T: IntoIterator<Item = (String, String)>>(properties: T) -> Self {
        Self(
            properties
                .into_iter()
                .map(|(name, value)| (name, SecretString::from(value)))
                .collect(),
        )
    }
}

impl fmt::Debug for KafkaProperties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}
