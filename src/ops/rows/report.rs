//! The report on a file: for each of its rows one line, and nothing of the row in it.
//!
//! While it grows it is `….partial`; it has its name when it is whole. A job that was interrupted writes it
//! anew: what became of the rows that are done follows from the file alone.

use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use super::{BadRow, Row};

const HEADER: &str = "line,number,result,reason\n";

/// For its owner alone: who was skipped is nobody else's business.
const MODE: u32 = 0o600;

/// What became of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Its request was sent.
    Sent,
    /// Its request would be sent.
    WouldSend,
    /// Its request was left out, for this reason.
    Skipped(&'static str),
    /// It is no request.
    Bad(BadRow),
}

/// A report under way.
pub struct Report {
    path: PathBuf,
    partial: PathBuf,
    out: BufWriter<File>,
    rows: u64,
}

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// It cannot be written.
    #[error("the report {path} cannot be written: {source}; say where to with --report PATH", path = path.display())]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A row was left out, or told twice.
    #[error("row {number} was to be reported after row {rows}")]
    OutOfOrder {
        /// The row.
        number: u64,
        /// The last one that is in.
        rows: u64,
    },
}

/// Where the report on `input` is, if nobody says otherwise: beside it.
#[must_use]
pub fn report_path(input: &Path) -> PathBuf {
    with_end(input, ".report.csv")
}

impl Report {
    /// Begins a report. One that is there stays until this one is finished.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn create(path: &Path) -> Result<Self, ReportError> {
        let partial = with_end(path, ".partial");
        let create = || {
            match fs::remove_file(&partial) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                Ok(()) | Err(_) => {}
            }
            // New, so that it is no link to elsewhere, and nobody else's to read.
            let file = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(MODE)
                .open(&partial)?;
            let mut out = BufWriter::new(file);
            out.write_all(HEADER.as_bytes())?;
            Ok(out)
        };
        match create() {
            Ok(out) => Ok(Self {
                path: path.to_owned(),
                out,
                partial,
                rows: 0,
            }),
            Err(error) => Err(unwritable(path, error)),
        }
    }

    /// Writes what became of the next row.
    ///
    /// # Errors
    ///
    /// When it cannot be written, or another row is next.
    pub fn write(&mut self, row: &Row, fate: Fate) -> Result<(), ReportError> {
        if row.number != self.rows + 1 {
            return Err(ReportError::OutOfOrder {
                number: row.number,
                rows: self.rows,
            });
        }
        let line = line(row, fate);
        self.out
            .write_all(line.as_bytes())
            .map_err(|error| unwritable(&self.path, error))?;
        self.rows += 1;
        Ok(())
    }

    /// Gives the report its name: where it is, and how many rows are in it.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn finish(mut self) -> Result<(PathBuf, u64), ReportError> {
        self.out
            .flush()
            .map_err(|error| unwritable(&self.path, error))?;
        let synced = self.out.get_ref().sync_all();
        match synced.and_then(|()| fs::rename(&self.partial, &self.path)) {
            Ok(()) => Ok((self.path, self.rows)),
            Err(error) => Err(unwritable(&self.path, error)),
        }
    }
}

fn line(row: &Row, fate: Fate) -> String {
    let (result, reason) = match fate {
        Fate::Sent => ("sent", String::new()),
        Fate::WouldSend => ("would-send", String::new()),
        Fate::Skipped(reason) => ("skipped", cell(reason)),
        Fate::Bad(bad) => ("bad", cell(&bad.to_string())),
    };
    let mut line = String::new();
    let _ = writeln!(line, "{},{},{result},{reason}", row.line, row.number);
    line
}

fn cell(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

fn with_end(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    name.into()
}

fn unwritable(path: &Path, source: io::Error) -> ReportError {
    ReportError::Unwritable {
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn row(number: u64) -> Row {
        Row {
            line: number + 1,
            number,
            content: Err(BadRow::OpenQuote),
        }
    }

    fn text(path: &Path) -> String {
        fs::read_to_string(path).expect("a report")
    }

    #[test]
    fn it_says_what_became_of_each_row_to_its_owner_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = report_path(&folder.path().join("rows.csv"));
        let mut report = Report::create(&path).expect("a report");
        let columns = BadRow::Columns {
            found: 2,
            wanted: 3,
        };
        let fates = [
            Fate::Sent,
            Fate::WouldSend,
            Fate::Skipped("the same person, again"),
            Fate::Bad(columns),
        ];
        for (fate, number) in fates.into_iter().zip(1..) {
            report.write(&row(number), fate).expect("in order");
        }
        assert!(!path.exists(), "it is not whole yet");
        let (finished, rows) = report.finish().expect("finished");
        assert_eq!((finished.as_path(), rows), (path.as_path(), 4));
        assert!(path.ends_with("rows.csv.report.csv"));
        assert_eq!(
            text(&path),
            "line,number,result,reason\n2,1,sent,\n3,2,would-send,\n4,3,skipped,\"the same person, again\"\n\
             5,4,bad,2 cells where the first line has 3\n"
        );
        let mode = fs::metadata(&path).expect("a report").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(!with_end(&path, ".partial").exists());
    }

    #[test]
    fn no_row_is_left_out_or_told_twice() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut report = Report::create(&folder.path().join("r")).expect("a report");
        report.write(&row(1), Fate::Sent).expect("the first");
        for number in [1, 3] {
            let error = report.write(&row(number), Fate::Sent);
            assert!(matches!(
                error,
                Err(ReportError::OutOfOrder { rows: 1, .. })
            ));
        }
    }

    #[test]
    fn where_it_cannot_be_it_says_what_to_type() {
        let error = Report::create(Path::new("/nowhere/r.csv")).err();
        let said = error.expect("no report").to_string();
        assert!(said.starts_with("the report /nowhere/r.csv cannot be written: "));
        assert!(said.ends_with("say where to with --report PATH"));
    }
}
