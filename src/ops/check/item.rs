//! One thing that was looked at, how it is, and what to type about it.

use std::fmt::Write as _;
use std::io::{self, Write};

use serde::Serialize;

use crate::ops::shown::{Output, Paint, harmless};

/// How something is. In order: the worst is the greatest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Verdict {
    Ok,
    /// It works, and not as it should, or it could not be looked at.
    Warning,
    /// It does not work, or will not.
    Failure,
}

/// What an item is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Area {
    Settings,
    Kafka,
    Topics,
    Permissions,
    Consumers,
    Services,
    Texts,
    Clocks,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Item {
    pub(super) verdict: Verdict,
    pub(super) area: Area,
    pub(super) name: String,
    pub(super) detail: String,
    /// What to type, or to do; each is one way or one step. Empty where all is well.
    pub(super) fix: Vec<String>,
}

impl Item {
    pub(super) fn ok(area: Area, name: &str, detail: impl Into<String>) -> Self {
        Self {
            verdict: Verdict::Ok,
            area,
            name: name.to_owned(),
            detail: detail.into(),
            fix: Vec::new(),
        }
    }

    pub(super) fn warning(area: Area, name: &str, detail: impl Into<String>) -> Self {
        Self {
            verdict: Verdict::Warning,
            ..Self::ok(area, name, detail)
        }
    }

    pub(super) fn failure(area: Area, name: &str, detail: impl Into<String>) -> Self {
        Self {
            verdict: Verdict::Failure,
            ..Self::ok(area, name, detail)
        }
    }

    pub(super) fn fix(mut self, line: impl Into<String>) -> Self {
        self.fix.push(line.into());
        self
    }

    /// One line, and one for each fix.
    fn text(&self, paint: Paint) -> String {
        let word = format!("{:<7}", self.verdict.as_str());
        let word = match self.verdict {
            Verdict::Ok => word,
            Verdict::Warning | Verdict::Failure => paint.alarm(&word),
        };
        let (area, name) = (self.area.as_str(), harmless(&self.name));
        let mut text = format!(
            "{word}  {area:<11}  {name:<32}  {}\n",
            harmless(&self.detail)
        );
        for fix in &self.fix {
            let _ = writeln!(text, "{:9}{} {}", "", paint.heading("fix:"), harmless(fix));
        }
        text
    }
}

impl Verdict {
    fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Failure => "failure",
        }
    }

    /// The exit code of a check whose worst item this is.
    fn exit_code(self) -> i32 {
        match self {
            Self::Ok => 0,
            Self::Warning => 1,
            Self::Failure => 2,
        }
    }
}

impl Area {
    fn as_str(self) -> &'static str {
        match self {
            Self::Settings => "settings",
            Self::Kafka => "kafka",
            Self::Topics => "topics",
            Self::Permissions => "permissions",
            Self::Consumers => "consumers",
            Self::Services => "services",
            Self::Texts => "texts",
            Self::Clocks => "clocks",
        }
    }
}

/// Shows items as they come, and counts them.
pub(super) struct Report<'a> {
    out: &'a mut dyn Write,
    output: Output,
    paint: Paint,
    seen: [usize; 3],
    /// For the one document.
    kept: Vec<Item>,
}

impl<'a> Report<'a> {
    /// Begins with the headings of a table, so that something is there at once.
    pub(super) fn begin(out: &'a mut dyn Write, output: Output, paint: Paint) -> io::Result<Self> {
        if output == Output::Table {
            let headings = format!("{:<7}  {:<11}  {:<32}  {}", "", "AREA", "ITEM", "HOW IT IS");
            writeln!(out, "{}", paint.heading(&headings))?;
            out.flush()?;
        }
        Ok(Self {
            out,
            output,
            paint,
            seen: [0; 3],
            kept: Vec::new(),
        })
    }

    pub(super) fn add(&mut self, item: Item) -> anyhow::Result<()> {
        self.seen[item.verdict as usize] += 1;
        match self.output {
            Output::Table => write!(self.out, "{}", item.text(self.paint))?,
            Output::Ndjson => writeln!(self.out, "{}", serde_json::to_string(&item)?)?,
            Output::Json => {
                self.kept.push(item);
                return Ok(());
            }
        }
        Ok(self.out.flush()?)
    }

    /// The tally. The exit code.
    pub(super) fn end(self) -> anyhow::Result<i32> {
        #[derive(Serialize)]
        struct Document {
            verdict: Verdict,
            ok: usize,
            warnings: usize,
            failures: usize,
            items: Vec<Item>,
        }
        let [ok, warnings, failures] = self.seen;
        let verdict = match (warnings, failures) {
            (0, 0) => Verdict::Ok,
            (_, 0) => Verdict::Warning,
            (_, _) => Verdict::Failure,
        };
        match self.output {
            Output::Table => {
                let all = ok + warnings + failures;
                writeln!(
                    self.out,
                    "\n{all} items: {ok} ok, {warnings} warnings, {failures} failures."
                )?;
            }
            Output::Json => {
                let document = Document {
                    verdict,
                    ok,
                    warnings,
                    failures,
                    items: self.kept,
                };
                writeln!(self.out, "{}", serde_json::to_string_pretty(&document)?)?;
            }
            Output::Ndjson => {}
        }
        self.out.flush()?;
        Ok(verdict.exit_code())
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn items() -> [Item; 3] {
        [
            Item::ok(Area::Kafka, "brokers", "1 answers"),
            Item::warning(Area::Topics, "a.dlq", "kept for 1 day, not 14 days").fix("longer"),
            Item::failure(Area::Services, "egov-\u{1b}otp", "no connection").fix("start it"),
        ]
    }

    fn shown(output: Output, items: &[Item]) -> (i32, String) {
        let mut out = Vec::new();
        let mut report = Report::begin(&mut out, output, Paint::Plain).expect("it writes");
        for item in items {
            report.add(item.clone()).expect("it writes");
        }
        let code = report.end().expect("it writes");
        (code, String::from_utf8(out).expect("text"))
    }

    #[rstest]
    #[case(0, 0)]
    #[case(1, 0)]
    #[case(2, 1)]
    #[case(3, 2)]
    fn the_worst_item_is_the_exit_code(#[case] count: usize, #[case] code: i32) {
        for output in [Output::Table, Output::Json, Output::Ndjson] {
            assert_eq!(shown(output, &items()[..count]).0, code);
        }
    }

    #[test]
    fn a_table_has_a_line_for_each_and_one_for_each_fix() {
        insta::assert_snapshot!(shown(Output::Table, &items()).1);
    }

    #[test]
    fn programs_get_the_same() {
        let (_, lines) = shown(Output::Ndjson, &items());
        let first =
            r#"{"verdict":"ok","area":"kafka","name":"brokers","detail":"1 answers","fix":[]}"#;
        assert_eq!(lines.lines().next(), Some(first));
        let (_, document) = shown(Output::Json, &items());
        let document: serde_json::Value = serde_json::from_str(&document).expect("JSON");
        assert_eq!(document["verdict"], "failure");
        assert_eq!(document["items"].as_array().map(Vec::len), Some(3));
    }
}
