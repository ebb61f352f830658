//! NDJSON, line by line: a flat object, or a request's whole body.

use std::io::Read;

use super::fields::{Column, Content, Fields};
use super::source::{LONGEST, Source};
use super::{BadRow, Found, RowsFault};
use crate::domain::request::DecodeError;
use crate::outcome::Code;
use crate::wire::{RequestLine, read_request_line};

/// The next line that has something on it, and its number.
pub(super) fn next<R: Read>(source: &mut Source<R>) -> Result<Found, RowsFault> {
    source.pass_blank_lines(b" \t")?;
    let line = source.line();
    let ahead = source.ahead()?.bytes;
    if ahead.is_empty() {
        return Ok(None);
    }
    let end = ahead.iter().position(|byte| *byte == b'\n');
    let length = end.map_or(ahead.len(), |at| at + 1);
    if length > LONGEST {
        source.pass_line()?;
        return Ok(Some((line, Err(BadRow::TooLong))));
    }
    let content = content(&ahead[..length]);
    source.pass(length);
    Ok(Some((line, content)))
}

fn content(line: &[u8]) -> Result<Content, BadRow> {
    match read_request_line(line.trim_ascii()).map_err(|error| bad(&error))? {
        RequestLine::Body(submission, event_id) => Ok(Content::Body(submission, event_id)),
        RequestLine::Flat(members) => {
            let mut fields = Fields::default();
            for (name, text) in members {
                let column = Column::named(&name).ok_or(BadRow::UnknownName)?;
                if fields.has(column) {
                    return Err(BadRow::Twice(column));
                }
                fields.set(column, &text.unwrap_or_default());
            }
            Ok(Content::Fields(fields))
        }
    }
}

fn bad(error: &DecodeError) -> BadRow {
    if error.code == Code::NotUtf8 {
        BadRow::NotUtf8
    } else if error.code == Code::WrongShape {
        BadRow::WrongShape
    } else {
        BadRow::NotJson {
            column: error.column,
        }
    }
}
