//! Settings: `config/default.toml` and what is laid over it, parsed once into types.
//!
//! ```text
//! default.toml   platform's variables   --config FILE   USER_OTP__SECTION__KEY
//!      └───────────────┴───────┬──────────────┴──────────────────┘      layers, aliases
//!                              ▼  the last one wins, key by key
//!                           Reader ── kinds, checks ── keys             what each key takes
//!                              ▼
//!                      contradictions                                   what does not go together
//!                              ▼
//!            (Config, Effective)  or  every error at once               sections, print, error
//! ```
//!
//! A wrong setting stops the service with a line that names the key, the problem and where the
//! value came from; all of them at once, so that an operator restarts once. Unknown keys are
//! errors: a setting that is silently ignored is one that somebody relies on. What may be a
//! secret is masked by its type, and no problem quotes it.
//!
//! [`Config::load`] is pure. [`Config::from_process`] is the only place in the crate that looks
//! at the environment.

mod aliases;
mod checks;
mod contradictions;
mod error;
mod kafka_properties;
mod keys;
mod kinds;
mod layers;
mod print;
mod process;
mod read;
mod sections;
mod values;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::Path;

pub use error::{ConfigError, ConfigErrors, Origin};
pub use print::{Effective, Setting};
pub use process::{operator, refuses_colours};
pub use sections::{
    Config, Engine, Http, Kafka, LimitRule, Limits, Localization, Log, Management, Mdms, Otp,
    Request, Retry, Rules, Services, Shutdown, Sms, Tenancy, Texts, Topics, Users,
};
pub use values::{
    HttpAnswers, KafkaProperties, LimitsMode, LogFormat, OnOutage, RedisUrl, RetryDelay, ServiceUrl,
};

use read::Reader;

impl Config {
    /// The settings that `file` (its path for messages, and its text) and the variables `env`
    /// make together.
    ///
    /// # Errors
    /// Everything that is wrong, at once.
    pub fn load(
        file: Option<(&Path, &str)>,
        env: impl IntoIterator<Item = (String, String)>,
    ) -> Result<(Self, Effective), ConfigErrors> {
        let env = env.into_iter();
        Self::load_os(file, env.map(|(name, value)| (name.into(), value.into())))
    }

    /// The same for variables as the system has them, which need not be text.
    fn load_os(
        file: Option<(&Path, &str)>,
        env: impl Iterator<Item = (OsString, OsString)>,
    ) -> Result<(Self, Effective), ConfigErrors> {
        let env: BTreeMap<OsString, OsString> = env.collect();
        let defaults = layers::defaults();
        let mut errors = Vec::new();
        let mut given = layers::aliases(&env);
        if let Some((path, text)) = file {
            given.extend(layers::file(path, text, &mut errors));
        }
        let unreadable = !errors.is_empty();
        given.extend(layers::environment(&env, &defaults, &mut errors));

        let mut reader = Reader::new(defaults, given);
        let config = Self::read(&mut reader, &host_name(&env));
        // Half a file contradicts itself in ways that nobody wrote.
        if !unreadable {
            contradictions::note(&mut reader, &config);
        }
        let (mut effective, wrong) = reader.finish();
        effective.with_newline = layers::with_newline(&env);
        errors.extend(wrong);
        match ConfigErrors::new(errors) {
            None => Ok((config, effective)),
            Some(errors) => Err(errors),
        }
    }
}

/// `HOSTNAME`, with what does not fit an instance's name replaced ([`checks::instance`]).
/// [`Config::from_process`] sees to it that there is one.
fn host_name(env: &BTreeMap<OsString, OsString>) -> String {
    let name = env.get(OsStr::new("HOSTNAME"));
    let name = name.map_or("".into(), |name| name.to_string_lossy());
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let name: String = name
        .trim()
        .chars()
        .map(|c| if fits(c) { c } else { '-' })
        .take(200)
        .collect();
    if name.is_empty() {
        return "localhost".to_owned();
    }
    // No host has a `_` in its name: none of these becomes the name of another.
    let name = if let Some(rest) = name.strip_prefix("job-") {
        format!("job_{rest}")
    } else {
        name
    };
    match name.rsplit_once('-') {
        Some((rest, end @ ("http" | "check"))) => format!("{rest}_{end}"),
        Some(_) | None => name,
    }
}
