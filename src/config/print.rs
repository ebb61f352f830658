//! The settings in force, as TOML, with the source of each.

use std::fmt;

use toml::Value;

use super::error::Origin;

/// One setting in force.
#[derive(Debug, Clone, PartialEq)]
pub struct Setting {
    /// `section.key`.
    pub key: String,
    /// As it is understood; secrets are masked.
    pub value: Value,
    /// Where it came from.
    pub origin: Origin,
}

/// All settings in force, in the order of `config/default.toml`. `Display` is TOML that can
/// be used as a configuration file again, once its masked secrets are filled in.
#[derive(Debug, Clone, PartialEq)]
pub struct Effective {
    settings: Vec<Setting>,
    /// Variables that ended in a newline, which was left out.
    pub with_newline: Vec<String>,
}

impl Effective {
    pub(super) fn new(settings: Vec<Setting>) -> Self {
        Self {
            settings,
            with_newline: Vec::new(),
        }
    }

    /// Each setting in force.
    pub fn iter(&self) -> impl Iterator<Item = &Setting> {
        self.settings.iter()
    }

    /// Where the setting `section.key` came from; for whoever finds out only later that it
    /// is wrong.
    #[must_use]
    pub fn origin(&self, key: &str) -> Option<&Origin> {
        let found = self.settings.iter().find(|setting| setting.key == key);
        found.map(|setting| &setting.origin)
    }
}

impl fmt::Display for Effective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sections = self
            .settings
            .chunk_by(|a, b| split(&a.key).0 == split(&b.key).0);
        for (index, settings) in sections.enumerate() {
            let (section, _) = split(&settings[0].key);
            writeln!(f, "{}[{section}]", if index == 0 { "" } else { "\n" })?;
            let lines: Vec<(String, &Origin)> = settings.iter().map(line).collect();
            let width = lines.iter().map(|(line, _)| line.chars().count()).max();
            let width = width.unwrap_or(0);
            for (line, origin) in lines {
                writeln!(f, "{line:width$}  # {origin}")?;
            }
        }
        Ok(())
    }
}

fn line(setting: &Setting) -> (String, &Origin) {
    let (_, key) = split(&setting.key);
    let quote = if key.contains('.') { "\"" } else { "" };
    let value = literal(&setting.value);
    (format!("{quote}{key}{quote} = {value}"), &setting.origin)
}

/// TOML in one line: the library would spread a text with line breaks over several.
fn literal(value: &Value) -> String {
    match value {
        Value::String(text) => format!("\"{}\"", escape(text)),
        Value::Array(values) => {
            let values: Vec<String> = values.iter().map(literal).collect();
            format!("[{}]", values.join(", "))
        }
        Value::Integer(_)
        | Value::Float(_)
        | Value::Boolean(_)
        | Value::Datetime(_)
        | Value::Table(_) => value.to_string(),
    }
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '"' | '\\' => escaped.extend(['\\', c]),
            c if c.is_control() => escaped.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => escaped.push(c),
        }
    }
    escaped
}

fn split(key: &str) -> (&str, &str) {
    key.split_once('.').unwrap_or(("", key))
}
