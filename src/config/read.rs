//! Reads settings key by key, and collects what is wrong instead of stopping at it.

use std::collections::BTreeSet;

use toml::Value;

use super::error::{ConfigError, Origin};
use super::kafka_properties::{is_property, is_secret, refused};
use super::kinds::Parsed;
use super::layers::{Given, Layer, Raw, variable_of};
use super::print::{Effective, Setting};
use super::values::{KafkaProperties, MASK};

/// Two settings this alike are taken for a typing error (1 is equal).
const ALIKE: f64 = 0.7;

/// The layers, and what has been read from them so far.
pub(super) struct Reader {
    defaults: Layer,
    /// All other layers in one; what was read is taken out, so that the rest is unknown.
    given: Layer,
    read: Vec<Setting>,
    wrong: BTreeSet<String>,
    errors: Vec<ConfigError>,
}

impl Reader {
    pub(super) fn new(defaults: Layer, given: Layer) -> Self {
        Self {
            defaults,
            given,
            read: Vec::new(),
            wrong: BTreeSet::new(),
            errors: Vec::new(),
        }
    }

    /// The value of `key`. Where it is wrong that is noted, and its default stands in, so that
    /// reading goes on to the next wrong one.
    pub(super) fn read<T>(&mut self, key: &str, parse: impl Fn(&Raw) -> Parsed<T>) -> T {
        if let Some(Given { raw, origin }) = self.given.remove(key) {
            match parse(&raw) {
                Ok((typed, value)) => {
                    self.note(key, value, origin);
                    return typed;
                }
                Err(problem) => self.wrong(key, problem, origin),
            }
        }
        let default = self.defaults.get(key);
        let default = default.expect("every key that is read has a default; a test reads all");
        let (typed, value) = parse(&default.raw).expect("every default is valid; a test reads all");
        self.note(key, value, Origin::Default);
        typed
    }

    /// Puts `value` in the place of what was read for `key`: found out, not set.
    pub(super) fn found_out(&mut self, key: &str, value: &str, origin: Origin) {
        if let Some(setting) = self.read.iter_mut().find(|setting| setting.key == key) {
            setting.value = Value::String(value.to_owned());
            setting.origin = origin;
        }
    }

    /// All of `[kafka]` that is not a key of ours and looks like a property of librdkafka.
    pub(super) fn kafka_properties(&mut self) -> KafkaProperties {
        let names: Vec<String> = self
            .given
            .keys()
            .filter_map(|key| key.strip_prefix("kafka."))
            .filter(|name| is_property(name) && self.misspelt(name).is_none())
            .map(str::to_owned)
            .collect();
        let mut properties = Vec::new();
        for name in names {
            let key = format!("kafka.{name}");
            let Some(Given { raw, origin }) = self.given.remove(&key) else {
                continue;
            };
            let value = match property_text(&raw) {
                Ok(value) => value,
                Err(problem) => {
                    self.wrong(&key, problem, origin);
                    continue;
                }
            };
            if let Some(problem) = refused(&name, &value) {
                self.wrong(&key, problem, origin);
                continue;
            }
            let shown = if is_secret(&name) { MASK } else { &value };
            self.note(&key, Value::String(shown.to_owned()), origin);
            properties.push((name, value));
        }
        properties.into_iter().collect()
    }

    /// Notes that settings, each right by itself, contradict each other. Says nothing where one
    /// of them is wrong anyway.
    pub(super) fn contradiction(&mut self, key: &str, against: Option<&str>, problem: String) {
        let clear = |key: &str| !self.wrong.contains(key);
        if clear(key) && against.is_none_or(clear) {
            let origin = |key: &str| {
                let read = self.read.iter().find(|setting| setting.key == key);
                read.map_or(Origin::Default, |setting| setting.origin.clone())
            };
            self.errors.push(ConfigError {
                key: key.to_owned(),
                problem,
                origin: origin(key),
                against: against.map(|key| (key.to_owned(), origin(key))),
            });
        }
    }

    /// What was read and what was wrong; whatever nobody asked for is wrong too.
    pub(super) fn finish(mut self) -> (Effective, Vec<ConfigError>) {
        for (key, given) in std::mem::take(&mut self.given) {
            let section = self.is_section(&key);
            let empty = matches!(&given.raw, Raw::Toml(Value::Table(_)));
            if section && empty {
                continue;
            }
            let problem = if section {
                format!("is a section: write [{key}] and its settings below")
            } else {
                self.unknown(&key, &given.origin)
            };
            self.wrong(&key, problem, given.origin);
        }
        (Effective::new(self.read), self.errors)
    }

    fn note(&mut self, key: &str, value: Value, origin: Origin) {
        self.read.push(Setting {
            key: key.to_owned(),
            value,
            origin,
        });
    }

    fn wrong(&mut self, key: &str, problem: String, origin: Origin) {
        self.wrong.insert(key.to_owned());
        self.errors.push(ConfigError {
            key: key.to_owned(),
            problem,
            origin,
            against: None,
        });
    }

    fn is_section(&self, key: &str) -> bool {
        let sections = self.defaults.keys().filter_map(|key| key.split_once('.'));
        sections.map(|(section, _)| section).any(|s| s == key)
    }

    /// The key of ours that a would-be property of librdkafka was meant to be: what lies below
    /// one of ours (but for `group`, where librdkafka has some too), or is spelt almost like one.
    fn misspelt(&self, property: &str) -> Option<&str> {
        let spelt = property.replace('.', "_");
        self.defaults
            .keys()
            .filter_map(|key| Some((key.as_str(), key.strip_prefix("kafka.")?)))
            .find(|(_, name)| {
                let below = *name != "group" && property.split('.').next() == Some(*name);
                below || strsim::damerau_levenshtein(&spelt, name) <= 2
            })
            .map(|(key, _)| key)
    }

    fn unknown(&self, key: &str, origin: &Origin) -> String {
        let nearest = key
            .strip_prefix("kafka.")
            .and_then(|property| self.misspelt(property))
            .or_else(|| self.nearest(key));
        match (nearest, origin) {
            (None, _) => "is no setting of user-otp".to_owned(),
            (Some(near), Origin::Environment(_)) => {
                format!("is no setting; did you mean {}?", variable_of(near))
            }
            (Some(near), _) => format!("is no setting; did you mean {near}?"),
        }
    }

    fn nearest(&self, key: &str) -> Option<&str> {
        self.defaults
            .keys()
            .map(|known| (strsim::normalized_damerau_levenshtein(key, known), known))
            .filter(|(alike, _)| *alike >= ALIKE)
            .max_by(|(a, _), (b, _)| a.total_cmp(b))
            .map(|(_, known)| known.as_str())
    }
}

/// A property's value as librdkafka takes it. Any may be a secret, so no problem quotes it.
fn property_text(raw: &Raw) -> Result<String, String> {
    let text = match raw {
        Raw::Text(text) | Raw::Toml(Value::String(text)) => text.clone(),
        Raw::Toml(Value::Integer(number)) => number.to_string(),
        Raw::Toml(Value::Float(number)) => number.to_string(),
        Raw::Toml(Value::Boolean(flag)) => flag.to_string(),
        Raw::Toml(Value::Datetime(_) | Value::Array(_) | Value::Table(_)) => {
            return Err("must be text, a number, or true or false".to_owned());
        }
        Raw::NotUtf8 => return Err("is not UTF-8".to_owned()),
    };
    if text.contains('\0') {
        return Err("must not contain a zero byte".to_owned());
    }
    Ok(text)
}
