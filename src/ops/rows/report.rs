//! The report on a file: for each of its rows one line, and nothing of the row in it.
//!
//! While it grows it is `….partial`; it has its name when it is whole. A job that was interrupted goes
//! on with the lines of the rows that it knows to be done, and drops what is past them.

use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, BufRead as _, BufReader, BufWriter, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
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

    /// Goes on with a report from row `done` on: what it has past that is dropped. It may have fewer,
    /// where the machine failed, or none where it was removed: [`Report::rows`] says how many, and the
    /// rest of `done` is to be written anew.
    ///
    /// # Errors
    ///
    /// When it cannot be read or written.
    pub fn resume(path: &Path, done: u64) -> Result<Self, ReportError> {
        let partial = with_end(path, ".partial");
        let resume = || {
            if !partial.try_exists()? {
                match fs::rename(path, &partial) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                    other => other?,
                }
            }
            let mut file = OpenOptions::new().read(true).write(true).open(&partial)?;
            file.set_permissions(Permissions::from_mode(MODE))?;
            let Some((length, rows)) = kept(&file, done)? else {
                return Ok(None);
            };
            file.set_len(length)?;
            file.seek(SeekFrom::Start(length))?;
            Ok(Some((file, rows)))
        };
        match resume() {
            Ok(Some((file, rows))) => Ok(Self {
                path: path.to_owned(),
                out: BufWriter::new(file),
                partial,
                rows,
            }),
            Ok(None) => Self::create(path),
            Err(error) => Err(unwritable(path, error)),
        }
    }

    /// How many rows are in it.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.rows
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

    /// Hands over to the system what was written: it outlives this process. Before a job commits that
    /// rows are done.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn flush(&mut self) -> Result<(), ReportError> {
        self.out
            .flush()
            .map_err(|error| unwritable(&self.path, error))
    }

    /// Gives the report its name: where it is, and how many rows are in it.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn finish(mut self) -> Result<(PathBuf, u64), ReportError> {
        self.flush()?;
        let synced = self.out.get_ref().sync_all();
        match synced.and_then(|()| fs::rename(&self.partial, &self.path)) {
            Ok(()) => Ok((self.path, self.rows)),
            Err(error) => Err(unwritable(&self.path, error)),
        }
    }
}

/// How many bytes hold the whole lines of rows 1, 2, … up to `done`, and how many rows those are; none:
/// it is no report.
fn kept(file: &File, done: u64) -> io::Result<Option<(u64, u64)>> {
    let mut reader = BufReader::new(file);
    let mut line = Vec::new();
    reader.read_until(b'\n', &mut line)?;
    if line != HEADER.as_bytes() {
        return Ok(None);
    }
    let (mut length, mut rows) = (HEADER.len() as u64, 0);
    while rows < done {
        line.clear();
        let read = reader.read_until(b'\n', &mut line)?;
        if !line.ends_with(b"\n") || number(&line) != Some(rows + 1) {
            break;
        }
        length += read as u64;
        rows += 1;
    }
    Ok(Some((length, rows)))
}

fn number(line: &[u8]) -> Option<u64> {
    let text = str::from_utf8(line.split(|byte| *byte == b',').nth(1)?).ok()?;
    text.parse().ok()
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
    use rstest::rstest;

    use super::*;

    fn row(number: u64) -> Row {
        Row {
            line: number + 1,
            number,
            content: Err(BadRow::OpenQuote),
        }
    }

    fn written(folder: &tempfile::TempDir, rows: u64) -> PathBuf {
        let path = folder.path().join("rows.csv.report.csv");
        let mut report = Report::create(&path).expect("a report");
        for number in 1..=rows {
            report.write(&row(number), Fate::Sent).expect("in order");
        }
        report.finish().expect("finished");
        path
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

    #[rstest]
    #[case::what_is_past_is_dropped(5, 3, 3)]
    #[case::all_of_it(5, 5, 5)]
    #[case::it_has_fewer(2, 4, 2)]
    #[case::from_the_beginning(5, 0, 0)]
    fn it_is_gone_on_with_from_any_row(#[case] has: u64, #[case] done: u64, #[case] kept: u64) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = written(&folder, has);
        let mut report = Report::resume(&path, done).expect("a report");
        assert_eq!(report.rows(), kept);
        report.write(&row(kept + 1), Fate::WouldSend).expect("next");
        report.finish().expect("finished");
        let text = text(&path);
        assert_eq!(text.lines().count() as u64, 1 + kept + 1);
        assert!(text.ends_with(&format!("{},{},would-send,\n", kept + 2, kept + 1)));
    }

    #[test]
    fn what_a_killed_process_left_is_gone_on_with() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("r");
        let mut report = Report::create(&path).expect("a report");
        for number in 1..=3 {
            report.write(&row(number), Fate::Sent).expect("in order");
        }
        report.flush().expect("flushed");
        drop(report);
        let partial = with_end(&path, ".partial");
        let torn = format!("{}5,4,se", text(&partial));
        fs::write(&partial, torn).expect("written");
        let report = Report::resume(&path, 9).expect("a report");
        assert_eq!(report.rows(), 3);
        report.finish().expect("finished");
        assert_eq!(
            text(&path),
            "line,number,result,reason\n2,1,sent,\n3,2,sent,\n4,3,sent,\n"
        );
    }

    #[test]
    fn without_one_it_begins_anew() {
        let folder = tempfile::tempdir().expect("a folder");
        let gone = Report::resume(&folder.path().join("r"), 7).expect("a new one");
        assert_eq!(gone.rows(), 0);
        let path = folder.path().join("other.csv");
        fs::write(&path, "no report\n").expect("written");
        let other = Report::resume(&path, 7).expect("a new one");
        assert_eq!(other.finish().expect("finished").1, 0);
        assert_eq!(text(&path), HEADER);
    }

    #[test]
    fn where_it_cannot_be_it_says_what_to_type() {
        let error = Report::create(Path::new("/nowhere/r.csv")).err();
        let said = error.expect("no report").to_string();
        assert!(said.starts_with("the report /nowhere/r.csv cannot be written: "));
        assert!(said.ends_with("say where to with --report PATH"));
    }
}
