//! CSV, row by row. `csv-core` is the parser below the crate `csv`: that one keeps a row whole,
//! however long, and a quote that nobody closes makes all the rest of a file one row.

use std::io::Read;

use csv_core::{ReadRecordResult, Reader, ReaderBuilder};

use super::fields::{Column, Content, Fields};
use super::source::{LONGEST, Source, line_end};
use super::{BadRow, Found, RowsFault};

/// What separates cells, where the header line has it.
const SEPARATORS: [u8; 4] = [b',', b';', b'\t', b'|'];

/// A table under way.
pub(super) struct Csv {
    parser: Reader,
    cells: Cells,
    /// None: a column without a name, in which no row may have anything.
    columns: Vec<Option<Column>>,
    blanks: &'static [u8],
}

/// The cells of one row.
struct Cells {
    text: Vec<u8>,
    ends: Vec<usize>,
    count: usize,
}

impl Csv {
    /// Reads the header line.
    pub(super) fn open<R: Read>(source: &mut Source<R>) -> Result<Self, RowsFault> {
        source.pass_blank_lines(b" \t")?;
        let ahead = source.ahead()?.bytes;
        let line = &ahead[..line_end(ahead).unwrap_or(ahead.len())];
        if line.contains(&0) {
            return Err(RowsFault::Utf16);
        }
        let separator = separator(line);
        let mut csv = Self {
            parser: ReaderBuilder::new().delimiter(separator).build(),
            cells: Cells::new(),
            columns: Vec::new(),
            blanks: if separator == b'\t' { b" " } else { b" \t" },
        };
        match csv.read(source)? {
            Some((_, Ok(()))) => csv.columns = columns(&csv.cells)?,
            Some((_, Err(_))) | None => return Err(RowsFault::NoHeader),
        }
        Ok(csv)
    }

    /// The next row that has something in it, and the line on which it begins.
    pub(super) fn next<R: Read>(&mut self, source: &mut Source<R>) -> Result<Found, RowsFault> {
        loop {
            let Some((line, read)) = self.read(source)? else {
                return Ok(None);
            };
            let content = read.and_then(|()| self.content());
            // Spreadsheets leave rows of separators behind.
            if !matches!(&content, Ok(Content::Fields(fields)) if fields.are_empty()) {
                return Ok(Some((line, content)));
            }
        }
    }

    fn content(&self) -> Result<Content, BadRow> {
        let cells = self.cells.texts()?;
        if cells.iter().all(|cell| cell.trim().is_empty()) {
            return Ok(Content::Fields(Fields::default()));
        }
        if cells.len() != self.columns.len() {
            return Err(BadRow::Columns {
                found: cells.len(),
                wanted: self.columns.len(),
            });
        }
        let mut fields = Fields::default();
        for (cell, column) in cells.into_iter().zip(&self.columns) {
            match column {
                Some(column) => fields.set(*column, cell),
                None if cell.trim().is_empty() => {}
                None => return Err(BadRow::Unnamed),
            }
        }
        Ok(Content::Fields(fields))
    }

    /// Reads the next row's cells, and passes over it.
    fn read<R: Read>(&mut self, source: &mut Source<R>) -> Result<Found<()>, RowsFault> {
        source.pass_blank_lines(self.blanks)?;
        let line = source.line();
        let ahead = source.ahead()?;
        if ahead.bytes.is_empty() {
            return Ok(None);
        }
        let part = &ahead.bytes[..ahead.bytes.len().min(LONGEST)];
        let whole = ahead.last && part.len() == ahead.bytes.len();
        match self.cells.parse(&mut self.parser, part, whole) {
            Some(length) => {
                source.pass(length);
                Ok(Some((line, Ok(()))))
            }
            // The next line is a row of its own: one bad row is not the end of the file.
            None => {
                let bad = match line_end(part) {
                    Some(_) => BadRow::OpenQuote,
                    None if whole => BadRow::OpenQuote,
                    None => BadRow::TooLong,
                };
                source.pass_line()?;
                Ok(Some((line, Err(bad))))
            }
        }
    }
}

impl Cells {
    fn new() -> Self {
        Self {
            text: vec![0; LONGEST + 2],
            ends: vec![0; LONGEST + 2],
            count: 0,
        }
    }

    /// Takes one row apart: how long it is with its line end; none: it does not end there. The last
    /// row of a file, if `part` is all the rest, may be without a line end.
    fn parse(&mut self, parser: &mut Reader, part: &[u8], is_rest: bool) -> Option<usize> {
        parser.reset();
        let (result, read, written, ended) =
            parser.read_record(part, &mut self.text, &mut self.ends);
        self.count = ended;
        if result == ReadRecordResult::Record {
            return Some(read);
        }
        if !is_rest || read < part.len() {
            return None;
        }
        // Within a quote, a line end is text as any other.
        let (text, ends) = (&mut self.text[written..], &mut self.ends[ended..]);
        let (result, _, _, ended) = parser.read_record(b"\n", text, ends);
        self.count += ended;
        (result == ReadRecordResult::Record).then_some(part.len())
    }

    fn texts(&self) -> Result<Vec<&str>, BadRow> {
        let mut from = 0;
        let cells = self.ends[..self.count].iter().map(|end| {
            let cell = &self.text[from..*end];
            from = *end;
            str::from_utf8(cell).map_err(|_| BadRow::NotUtf8)
        });
        cells.collect()
    }
}

/// The one that the header line has most of, outside of quotes.
fn separator(line: &[u8]) -> u8 {
    let mut counts = [0_usize; SEPARATORS.len()];
    let mut quoted = false;
    for byte in line {
        quoted ^= *byte == b'"';
        if let Some(at) = SEPARATORS.iter().position(|one| one == byte)
            && !quoted
        {
            counts[at] += 1;
        }
    }
    let most = counts.iter().max().copied().unwrap_or(0);
    let at = counts.iter().position(|count| *count == most);
    SEPARATORS[at.unwrap_or(0)]
}

fn columns(cells: &Cells) -> Result<Vec<Option<Column>>, RowsFault> {
    let names = cells.texts().map_err(|_| RowsFault::NoHeader)?;
    let names: Vec<&str> = names.into_iter().map(str::trim).collect();
    let columns: Vec<Option<Column>> = names.iter().map(|name| Column::named(name)).collect();
    let known = |column: Column| columns.iter().filter(move |one| **one == Some(column));
    if columns.iter().all(Option::is_none) {
        return Err(RowsFault::NoHeader);
    }
    let pairs = names.iter().zip(&columns);
    let unknown = pairs.filter(|(name, column)| column.is_none() && !name.is_empty());
    let unknown: Vec<String> = unknown.map(|(name, _)| shown(name)).collect();
    if !unknown.is_empty() {
        return Err(RowsFault::Unknown(unknown.join(", ")));
    }
    if let Some(twice) = Column::ALL.into_iter().find(|one| known(*one).count() > 1) {
        return Err(RowsFault::Twice(twice));
    }
    let mandatory = Column::MANDATORY.into_iter();
    let missing: Vec<&str> = mandatory
        .filter(|one| known(*one).count() == 0)
        .map(Column::as_str)
        .collect();
    match missing.as_slice() {
        [] => Ok(columns),
        missing => Err(RowsFault::Missing(missing.join(", "))),
    }
}

/// A name in a header line, if it can be nothing but a name: the line may be a row.
fn shown(name: &str) -> String {
    const LONGEST_NAME: usize = 40;
    let plain = |one: char| one.is_alphabetic() || matches!(one, '_' | '-' | ' ');
    if name.len() <= LONGEST_NAME && name.chars().all(plain) {
        name.to_owned()
    } else {
        "***".to_owned()
    }
}
