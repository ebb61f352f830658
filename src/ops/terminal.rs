//! What a command is given: its streams, the time, and who runs it.

use std::io::{self, Read, Write};

use serde::Serialize;

use super::numbers::Numbers;
use super::shown::{Output, Paint};
use crate::clock::EpochMs;

/// The surroundings of one command.
pub struct Terminal<'a> {
    /// Standard input.
    pub input: &'a mut dyn Read,
    /// Standard output: what was asked for, and nothing else.
    pub out: &'a mut dyn Write,
    /// Whether there may be colours.
    pub paint: Paint,
    /// When it began.
    pub now: EpochMs,
    /// Who runs it, for audit records.
    pub operator: String,
}

impl Terminal<'_> {
    /// Says a sentence on standard error: standard output has what was asked for, and nothing else.
    ///
    /// # Errors
    ///
    /// When nobody listens.
    pub fn note(&mut self, text: &str) -> io::Result<()> {
        writeln!(io::stderr(), "{text}")
    }

    /// Shows one thing: as `text` to people, else as a JSON document, in one line for NDJSON.
    ///
    /// # Errors
    ///
    /// When nobody listens.
    pub fn show(
        &mut self,
        output: Output,
        value: &impl Serialize,
        text: impl FnOnce(Paint) -> String,
    ) -> anyhow::Result<()> {
        match output {
            Output::Table => write!(self.out, "{}", text(self.paint))?,
            Output::Json => writeln!(self.out, "{}", serde_json::to_string_pretty(value)?)?,
            Output::Ndjson => writeln!(self.out, "{}", serde_json::to_string(value)?)?,
        }
        Ok(self.out.flush()?)
    }

    /// The numbers on standard input, where they are wanted.
    ///
    /// # Errors
    ///
    /// When there are none that can be read.
    pub fn numbers(&mut self, wanted: bool) -> anyhow::Result<Option<Numbers>> {
        Ok(match wanted {
            true => Some(Numbers::read(self.input)?),
            false => None,
        })
    }
}
