//! Requests in a file, row by row: CSV or NDJSON, as spreadsheets and scripts write them.
//!
//! A row is judged as a request is at the door. A bad one is a row all the same, with its reason,
//! and the next one is read: rows in are rows in the [`Report`]. Blank lines, and rows of empty cells,
//! are no rows. However large the file, a few hundred kilobytes of it are in memory.
//!
//! Nothing that is said of a row has anything of the row in it.

mod bad;
mod csv;
mod digest;
mod duplicates;
mod fields;
mod ndjson;
mod report;
mod source;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use clap::ValueEnum;

use crate::config::Config;
use crate::domain::request::{OtpRequest, Submission};
use crate::domain::rules::NumberRules;
use csv::Csv;
use fields::Content;
use source::Source;

pub use bad::BadRow;
pub use digest::{Digest, digest};
pub use duplicates::Duplicates;
pub use fields::Column;
pub use report::{Fate, Report, ReportError, report_path};

/// The most rows of one file. What a job keeps in memory for each of them has its bound here.
pub const MOST_ROWS: u64 = 5_000_000;

/// How the rows of a file are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A table whose first line names the columns.
    Csv,
    /// One JSON object a line.
    Ndjson,
}

/// A file of requests under way.
pub struct Rows<R = File> {
    source: Source<R>,
    shape: Shape,
    rules: NumberRules,
    name: String,
    /// The number of the last row that was read.
    number: u64,
}

enum Shape {
    Csv(Box<Csv>),
    Ndjson,
}

/// One row of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The line on which it begins, from 1, as editors count them.
    pub line: u64,
    /// Which of the file's rows it is, from 1.
    pub number: u64,
    /// What is in it.
    pub content: Result<RowRequest, BadRow>,
}

/// A request in a row: what the door would take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowRequest {
    submission: Submission,
    request: OtpRequest,
    event_id: Option<String>,
}

/// A file that cannot be read as rows at all.
#[derive(Debug, thiserror::Error)]
#[error("{name}: {fault}")]
pub struct RowsError {
    /// The file, as it was typed.
    pub name: String,
    /// What is wrong with it.
    pub fault: RowsFault,
}

/// What is wrong with a file.
#[derive(Debug, thiserror::Error)]
pub enum RowsFault {
    /// The name does not say how it is written.
    #[error("its name must end in .csv, or in .ndjson or .jsonl: rename it to what it is")]
    NoFormat,
    /// It cannot be read.
    #[error("it cannot be read: {0}")]
    Unreadable(#[from] io::Error),
    /// It is UTF-16.
    #[error("it is UTF-16: save it as UTF-8 (in Excel: \"CSV UTF-8\")")]
    Utf16,
    /// The first line names no column that is known.
    #[error(
        "its first line must name its columns: tenant, type and mobile, and where they are wanted userType, \
         countryCode, locale, eventId"
    )]
    NoHeader,
    /// The first line names others.
    #[error(
        "it has columns that are not known: {0}; known are tenant, type, mobile, userType, countryCode, locale and \
         eventId: remove or rename the others"
    )]
    Unknown(String),
    /// Two columns are the same.
    #[error("it has the column {} twice: remove one", .0.as_str())]
    Twice(Column),
    /// Columns are missing that every request needs.
    #[error("it has no column {0}: every request needs tenant, type and mobile")]
    Missing(String),
    /// There are too many rows.
    #[error("it has more than {MOST_ROWS} rows: split it")]
    TooMany,
}

/// A row as it was found, with its line; none: the file ends.
type Found<T = Content> = Option<(u64, Result<T, BadRow>)>;

impl Rows<File> {
    /// Opens a file whose name says how it is written.
    ///
    /// # Errors
    ///
    /// When it cannot be read, is neither CSV nor NDJSON by its name, or its columns are others.
    pub fn open(path: &Path) -> Result<Self, RowsError> {
        let name = path.display().to_string();
        let opened = match Format::of(path) {
            Some(format) => File::open(path)
                .map(|file| (file, format))
                .map_err(Into::into),
            None => Err(RowsFault::NoFormat),
        };
        match opened {
            Ok((file, format)) => Rows::read(file, format, &name),
            Err(fault) => Err(RowsError { name, fault }),
        }
    }
}

impl Format {
    /// The one that a file's name says.
    #[must_use]
    pub fn of(path: &Path) -> Option<Self> {
        let extension = path.extension()?.to_str()?.to_ascii_lowercase();
        match extension.as_str() {
            "csv" => Some(Self::Csv),
            "ndjson" | "jsonl" => Some(Self::Ndjson),
            _ => None,
        }
    }
}

impl<R: Read> Rows<R> {
    /// Reads rows from anywhere; `name` is for what is said about it.
    ///
    /// # Errors
    ///
    /// As [`Rows::open`].
    pub fn read(input: R, format: Format, name: &str) -> Result<Self, RowsError> {
        let mut source = Source::new(input);
        let begun = begin(&mut source, format);
        let name = name.to_owned();
        match begun {
            Ok(shape) => Ok(Self {
                source,
                shape,
                rules: fields::any_number(),
                name,
                number: 0,
            }),
            Err(fault) => Err(RowsError { name, fault }),
        }
    }

    /// Judges numbers by these rules; without them, whatever has the shape of a number is one.
    #[must_use]
    pub fn judged_by(self, rules: NumberRules) -> Self {
        Self { rules, ..self }
    }

    /// Judges numbers as far as the rules are known without asking anybody: by the configured ones; where
    /// egov-mdms has them, by their shape.
    #[must_use]
    pub fn judged_as_configured(self, config: &Config) -> Self {
        let rules = &config.rules;
        match config.mdms.url {
            Some(_) => self,
            None => self.judged_by(NumberRules::without_mdms(
                &rules.default_pattern,
                &rules.country_codes,
            )),
        }
    }

    /// The next row; none: there are no more.
    ///
    /// # Errors
    ///
    /// When the file can no longer be read, or has too many.
    pub fn next_row(&mut self) -> Result<Option<Row>, RowsError> {
        let Some((line, content)) = self.next_found()? else {
            return Ok(None);
        };
        let rules = &self.rules;
        Ok(Some(Row {
            line,
            number: self.number,
            content: content.and_then(|content| content.request(rules)),
        }))
    }

    fn next_found(&mut self) -> Result<Found, RowsError> {
        let found = match &mut self.shape {
            Shape::Csv(csv) => csv.next(&mut self.source),
            Shape::Ndjson => ndjson::next(&mut self.source),
        };
        let found = found.map_err(|fault| self.failed(fault))?;
        if found.is_some() {
            self.number += 1;
            if self.number > MOST_ROWS {
                return Err(self.failed(RowsFault::TooMany));
            }
        }
        Ok(found)
    }

    fn failed(&self, fault: RowsFault) -> RowsError {
        RowsError {
            name: self.name.clone(),
            fault,
        }
    }
}

fn begin<R: Read>(source: &mut Source<R>, format: Format) -> Result<Shape, RowsFault> {
    const UTF8_MARK: &[u8] = b"\xef\xbb\xbf";
    let ahead = source.ahead()?.bytes;
    if ahead.starts_with(b"\xff\xfe") || ahead.starts_with(b"\xfe\xff") {
        return Err(RowsFault::Utf16);
    }
    if ahead.starts_with(UTF8_MARK) {
        source.pass(UTF8_MARK.len());
    }
    Ok(match format {
        Format::Csv => Shape::Csv(Box::new(Csv::open(source)?)),
        Format::Ndjson => Shape::Ndjson,
    })
}

impl RowRequest {
    /// What would be sent.
    #[must_use]
    pub fn submission(&self) -> &Submission {
        &self.submission
    }

    /// The request in it.
    #[must_use]
    pub fn request(&self) -> &OtpRequest {
        &self.request
    }

    /// The id that the row gives it, without the request's number in it.
    #[must_use]
    pub fn event_id(&self) -> Option<&str> {
        self.event_id.as_deref()
    }
}
