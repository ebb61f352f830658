//! What is wrong with the settings, and where each came from.

use std::fmt;
use std::path::PathBuf;

/// Where a setting's value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// `config/default.toml`, compiled in.
    Default,
    /// This machine's host name, where nothing else is set.
    HostName,
    /// The configuration file.
    File {
        /// As it was given.
        path: PathBuf,
        /// From 1.
        line: usize,
    },
    /// One of our own variables, `USER_OTP__SECTION__KEY`.
    Environment(String),
    /// One of the platform's variables.
    Alias(&'static str),
    /// An option of the command.
    CommandLine,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::HostName => f.write_str("default: the host name"),
            Self::File { path, line } => {
                let path = path.to_string_lossy();
                write!(f, "file {}, line {line}", one_line(&path))
            }
            Self::Environment(name) => write!(f, "environment {}", one_line(name)),
            Self::Alias(name) => write!(f, "alias {name}"),
            Self::CommandLine => f.write_str("command line"),
        }
    }
}

/// One wrong setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// `section.key`.
    pub key: String,
    /// What is wrong with the value; never quotes a secret.
    pub problem: String,
    /// Where the value came from.
    pub origin: Origin,
    /// Where two settings contradict each other: the other one.
    pub against: Option<(String, Origin)>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            key,
            problem,
            origin,
            against,
        } = self;
        write!(f, "{}: {problem} ({origin}", one_line(key))?;
        if let Some((key, origin)) = against {
            write!(f, "; {key}: {origin}")?;
        }
        f.write_str(")")
    }
}

/// All that is wrong with the settings, never empty: one line each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors(Vec<ConfigError>);

impl ConfigErrors {
    /// `None` where nothing is wrong.
    pub(super) fn new(errors: Vec<ConfigError>) -> Option<Self> {
        (!errors.is_empty()).then_some(Self(errors))
    }

    /// Each wrong setting, in the order of `config/default.toml`.
    pub fn iter(&self) -> impl Iterator<Item = &ConfigError> {
        self.0.iter()
    }
}

impl From<ConfigError> for ConfigErrors {
    fn from(error: ConfigError) -> Self {
        Self(vec![error])
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.len() {
            1 => f.write_str("1 setting is wrong:")?,
            many => write!(f, "{many} settings are wrong:")?,
        }
        for error in &self.0 {
            write!(f, "\n  {error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

/// Text from outside, so that it stays within its line.
pub(super) fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() {
            line.extend(c.escape_default());
        } else {
            line.push(c);
        }
    }
    line
}
