//! Layers of settings, each flattened to `section.key`, so that the later one wins key by key.
//!
//! ```text
//! config/default.toml  <  platform's variables  <  file  <  USER_OTP__SECTION__KEY
//! ```

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ffi::OsString;
use std::path::Path;

use serde::Deserialize;
use toml::de::{DeTable, DeValue, ValueDeserializer};
use toml::{Spanned, Value};

use super::aliases::{ALIASES, REDIS_HOST, REDIS_PORT};
use super::error::{ConfigError, Origin};

const DEFAULTS: &str = include_str!("../../config/default.toml");
const PREFIX: &str = "USER_OTP__";

/// A value as it was given, not yet looked at; any may be a secret, so there is no `Debug`.
pub(super) enum Raw {
    /// From a file: it has a type.
    Toml(Value),
    /// From the environment: text that may mean anything.
    Text(String),
    /// From the environment, but not even text.
    NotUtf8,
}

/// A value and where it came from.
pub(super) struct Given {
    pub(super) raw: Raw,
    pub(super) origin: Origin,
}

/// Settings by `section.key`.
pub(super) type Layer = BTreeMap<String, Given>;

/// What is compiled in.
pub(super) fn defaults() -> Layer {
    let mut layer = Layer::new();
    let table = DeTable::parse(DEFAULTS).expect("the compiled-in defaults are TOML");
    flatten(table.into_inner(), "", &mut |key, value, _| {
        let raw = Raw::Toml(to_value(value).expect("the compiled-in defaults are plain values"));
        let origin = Origin::Default;
        layer.insert(key, Given { raw, origin });
    });
    layer
}

/// A configuration file. What cannot be read goes to `errors`: by position and kind, never
/// with the line itself, which may hold a secret.
pub(super) fn file(path: &Path, text: &str, errors: &mut Vec<ConfigError>) -> Layer {
    let mut layer = Layer::new();
    let origin = |offset: usize| Origin::File {
        path: path.to_owned(),
        line: 1 + text.bytes().take(offset).filter(|b| *b == b'\n').count(),
    };
    let (table, problems) = DeTable::parse_recoverable(text);
    if !problems.is_empty() {
        errors.extend(problems.iter().map(|problem| {
            let offset = problem.span().map_or(0, |span| span.start);
            ConfigError {
                key: "not TOML".to_owned(),
                problem: problem.message().to_owned(),
                origin: origin(offset),
                against: None,
            }
        }));
        return layer;
    }
    flatten(table.into_inner(), "", &mut |key, value, offset| {
        let origin = origin(offset);
        let mut wrong = |problem: &str| {
            errors.push(ConfigError {
                key: key.clone(),
                problem: problem.to_owned(),
                origin: origin.clone(),
                against: None,
            });
        };
        match to_value(value) {
            None => wrong("is a number too large to read"),
            Some(_) if layer.contains_key(&key) => wrong("is set more than once"),
            Some(value) => {
                let raw = Raw::Toml(value);
                layer.insert(key, Given { raw, origin });
            }
        }
    });
    layer
}

/// The platform's variables. An empty one is as good as none: charts set them so.
pub(super) fn aliases(variables: &BTreeMap<OsString, OsString>) -> Layer {
    let mut layer = Layer::new();
    for (variable, key) in ALIASES {
        let raw = match variables.get(&OsString::from(variable)) {
            None => continue,
            Some(value) => read_text(value),
        };
        let Some(raw) = with_port(variable, raw, variables) else {
            continue;
        };
        let origin = Origin::Alias(variable);
        layer
            .entry((*key).to_owned())
            .or_insert(Given { raw, origin });
    }
    layer
}

/// The value of a platform's variable, none where it is empty; Redis's host with its port.
fn with_port(variable: &str, raw: Raw, variables: &BTreeMap<OsString, OsString>) -> Option<Raw> {
    let Raw::Text(host) = &raw else {
        return Some(raw);
    };
    if host.trim().is_empty() {
        return None;
    }
    let port = variables.get(&OsString::from(REDIS_PORT)).map(read_text);
    match port {
        Some(Raw::Text(port)) if variable == REDIS_HOST && !port.trim().is_empty() => {
            Some(Raw::Text(format!("{}:{}", host.trim(), port.trim())))
        }
        Some(Raw::Text(_) | Raw::NotUtf8 | Raw::Toml(_)) | None => Some(raw),
    }
}

/// Our own variables, known or not.
pub(super) fn environment(
    variables: &BTreeMap<OsString, OsString>,
    defaults: &Layer,
    errors: &mut Vec<ConfigError>,
) -> Layer {
    let mut layer = Layer::new();
    for (variable, value) in variables {
        let name = variable.to_string_lossy();
        let Some(rest) = name.strip_prefix(PREFIX) else {
            continue;
        };
        let key = key_of(rest, defaults);
        let origin = Origin::Environment(name.clone().into_owned());
        let raw = read_text(value);
        match layer.entry(key) {
            Entry::Vacant(place) => {
                place.insert(Given { raw, origin });
            }
            Entry::Occupied(place) => errors.push(ConfigError {
                key: place.key().clone(),
                problem: "is set more than once".to_owned(),
                origin,
                against: None,
            }),
        }
    }
    layer
}

/// The variable that sets `key`.
pub(super) fn variable_of(key: &str) -> String {
    format!("{PREFIX}{}", key.to_uppercase().replacen('.', "__", 1)).replace('.', "_")
}

/// `TOPICS__RETRY_PREFIX` is `topics.retry_prefix`; in `KAFKA__`, what is no key of ours is a
/// property of librdkafka, whose names have dots where ours have underscores.
fn key_of(rest: &str, defaults: &Layer) -> String {
    let key = rest.to_lowercase().replace("__", ".");
    if defaults.contains_key(&key) {
        return key;
    }
    match key.strip_prefix("kafka.") {
        Some(property) => format!("kafka.{}", property.replace('_', ".")),
        None => key,
    }
}

/// A secret that was made from a file, or a text from a chart, often ends in a newline that nobody meant.
fn read_text(value: &OsString) -> Raw {
    value.to_str().map_or(Raw::NotUtf8, |text| {
        Raw::Text(text.trim_end_matches(NEWLINE).to_owned())
    })
}

const NEWLINE: [char; 2] = ['\n', '\r'];

/// The variables of settings that end in a newline, which is left out.
pub(super) fn with_newline(variables: &BTreeMap<OsString, OsString>) -> Vec<String> {
    let names = variables.iter().filter_map(|(name, value)| {
        let name = name.to_str()?;
        let known = name.starts_with(PREFIX) || ALIASES.iter().any(|(alias, _)| *alias == name);
        let ends = value.to_str()?.ends_with(NEWLINE);
        (known && ends).then(|| name.to_owned())
    });
    names.collect()
}

/// Calls `found` with each key, value and the key's place in the file. An empty section is
/// a value too: nobody would otherwise notice that its name is wrong.
fn flatten<'i>(
    table: DeTable<'i>,
    prefix: &str,
    found: &mut dyn FnMut(String, Spanned<DeValue<'i>>, usize),
) {
    for (key, value) in table {
        let offset = key.span().start;
        let key = format!("{prefix}{}", key.get_ref());
        if value.get_ref().as_table().is_some_and(|t| !t.is_empty()) {
            if let DeValue::Table(table) = value.into_inner() {
                flatten(table, &format!("{key}."), found);
            }
        } else {
            found(key, value, offset);
        }
    }
}

/// `None` for a number that does not fit; there is nothing else to go wrong.
fn to_value(value: Spanned<DeValue<'_>>) -> Option<Value> {
    Value::deserialize(ValueDeserializer::from(value)).ok()
}
