//! The requests of a small file: each is published as it stands, and all outcomes are waited for. What is
//! more than a few is a job's work, which can be stopped and gone on with.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::time::Instant;

use serde::Serialize;

use super::{
    EXIT_BAD_ROWS, EXIT_NO_OUTCOME, SendArgs, connect, exit_code, new_event_id, nothing_within,
    outgoing, took, why,
};
use crate::config::Config;
use crate::engine::sender::{SendError, Sender};
use crate::engine::tail::Tail;
use crate::ops::Usage;
use crate::ops::moment::in_short;
use crate::ops::rows::{BadRow, Format, RowRequest, Rows, RowsError, RowsFault};
use crate::ops::shown::{Lean, Output, masked, table};
use crate::ops::terminal::Terminal;
use crate::outcome::FinalOutcome;
use crate::wire::OutcomeSeen;

/// The most rows: so many outcomes somebody looks at.
const MOST: usize = 1_000;

/// The rows of a file, judged.
#[derive(Default)]
struct Batch {
    asked: Vec<Asked>,
    bad: Vec<(u64, u64, BadRow)>,
}

/// A row that is a request, and how far it is.
struct Asked {
    line: u64,
    row: u64,
    request: RowRequest,
    event_id: String,
    end: End,
}

/// How far a request is.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// It was not published, since one before it could not be.
    NotSent,
    /// Kafka did not confirm it.
    Unconfirmed,
    /// It is published, and has no outcome.
    Waiting,
    /// It has its outcome.
    Seen(OutcomeSeen),
}

/// Publishes them and waits. The exit code is that of the worst row.
///
/// # Errors
///
/// When the file cannot be read or is too long, one could not be published, or outcomes cannot be read.
pub(super) async fn run(
    config: &Config,
    args: &SendArgs,
    file: &Path,
    terminal: &mut Terminal<'_>,
) -> anyhow::Result<i32> {
    let mut batch = read(config, args, file, terminal.input)?;
    for (line, row, bad) in &batch.bad {
        terminal.note(&format!("user-otp: line {line} (row {row}): {bad}"))?;
    }
    if batch.asked.is_empty() && batch.bad.is_empty() {
        terminal.note("user-otp: there are no rows in it")?;
    }
    if args.strict && !batch.bad.is_empty() {
        terminal.note(&format!(
            "user-otp: nothing is sent: {} of {} rows are no requests, and --strict wants none of those",
            batch.bad.len(),
            batch.bad.len() + batch.asked.len()
        ))?;
        return Ok(EXIT_BAD_ROWS);
    }
    if batch.asked.is_empty() {
        return Ok(batch.exit_code());
    }
    let (mut tail, sender) = connect(config).await?;
    let sent = batch.send(&config.topics.requests, &sender).await;
    let published = batch.count(|end| *end == End::Waiting);
    if published > 0 {
        terminal.note(&format!(
            "user-otp: {published} of {} requests are published; waiting for their outcomes, {} at most",
            batch.asked.len(),
            in_short(args.timeout)
        ))?;
    }
    batch.wait(&mut tail, args, terminal)?;
    batch.show(args, terminal)?;
    sent?;
    Ok(batch.exit_code())
}

fn read(
    config: &Config,
    args: &SendArgs,
    file: &Path,
    input: &mut dyn Read,
) -> anyhow::Result<Batch> {
    let name = file.display().to_string();
    let is_input = file == Path::new("-");
    let format = args.format.or_else(|| Format::of(file));
    let failed = |fault| RowsError {
        name: name.clone(),
        fault,
    };
    let Some(format) = format else {
        return Err(match is_input {
            true => Usage("say --format csv or --format ndjson: standard input has no name").into(),
            false => failed(RowsFault::NoFormat).into(),
        });
    };
    let (input, name): (Box<dyn Read + '_>, &str) = if is_input {
        (Box::new(input), "standard input")
    } else {
        let opened = File::open(file).map_err(|error| failed(error.into()))?;
        (Box::new(opened), &name)
    };
    let rows = Rows::read(input, format, name)?;
    Batch::read(rows.judged_as_configured(config))
}

impl Batch {
    fn read(mut rows: Rows<impl Read>) -> anyhow::Result<Self> {
        let mut batch = Self::default();
        while let Some(row) = rows.next_row()? {
            if batch.asked.len() + batch.bad.len() == MOST {
                return Err(Usage(
                    "there are more than 1,000 rows: user-otp resend FILE sends them as a job, which can be stopped \
                     and gone on with",
                )
                .into());
            }
            match row.content {
                Ok(request) => batch.asked.push(Asked {
                    line: row.line,
                    row: row.number,
                    event_id: request.event_id().map_or_else(new_event_id, str::to_owned),
                    request,
                    end: End::NotSent,
                }),
                Err(bad) => batch.bad.push((row.line, row.number, bad)),
            }
        }
        Ok(batch)
    }

    /// Publishes one after the other, each confirmed; after one that is not, no more.
    async fn send(&mut self, topic: &str, sender: &Sender) -> Result<(), SendError> {
        for asked in &mut self.asked {
            let request = outgoing(topic, asked.request.submission(), &asked.event_id);
            asked.end = match sender.send(&request).await {
                Ok(_) => End::Waiting,
                Err(error) => {
                    asked.end = End::Unconfirmed;
                    return Err(error);
                }
            };
        }
        Ok(())
    }

    fn wait(
        &mut self,
        tail: &mut Tail,
        args: &SendArgs,
        terminal: &mut Terminal<'_>,
    ) -> anyhow::Result<()> {
        // Two rows may have one event id: each outcome of it is the next one's.
        let mut waiting: HashMap<String, Vec<usize>> = HashMap::new();
        let published = self.asked.iter().enumerate().rev();
        for (at, asked) in published.filter(|(_, asked)| asked.end == End::Waiting) {
            let same = waiting.entry(asked.event_id.clone()).or_default();
            same.push(at);
        }
        let mut left = self.count(|end| *end == End::Waiting);
        let deadline = Instant::now() + args.timeout;
        while left > 0
            && let Some(record) = tail.next_until(deadline)?
        {
            let key = record
                .key
                .as_deref()
                .and_then(|key| str::from_utf8(key).ok());
            let Some(same) = key.and_then(|id| waiting.get_mut(id)) else {
                continue;
            };
            let seen = record.value.as_deref().and_then(OutcomeSeen::parse);
            if let Some(seen) = seen
                && let Some(at) = same.pop()
            {
                left -= 1;
                self.asked[at].end = End::Seen(seen);
                if args.output == Output::Ndjson {
                    writeln!(terminal.out, "{}", self.asked[at].line()?)?;
                    terminal.out.flush()?;
                }
            }
        }
        Ok(())
    }

    /// What there is to show once nothing more is waited for.
    fn show(&self, args: &SendArgs, terminal: &mut Terminal<'_>) -> anyhow::Result<()> {
        match args.output {
            Output::Table => write!(terminal.out, "{}", self.table(terminal))?,
            Output::Ndjson => {
                let unseen = |asked: &&Asked| !matches!(asked.end, End::Seen(_));
                for asked in self.asked.iter().filter(unseen) {
                    writeln!(terminal.out, "{}", asked.line()?)?;
                }
            }
            Output::Json => {
                let shown: Vec<Shown<'_>> = self.asked.iter().map(Asked::shown).collect();
                writeln!(terminal.out, "{}", serde_json::to_string_pretty(&shown)?)?;
            }
        }
        terminal.out.flush()?;
        terminal.note(&format!("user-otp: {}", self.sentence()))?;
        if self.count(|end| *end == End::Waiting) > 0 {
            terminal.note(&format!("user-otp: {}", nothing_within(args.timeout)))?;
        }
        let mut ends = self.asked.iter();
        if let Some(first) = ends.find(|one| one.end.is(FinalOutcome::DeadLettered)) {
            terminal.note(&format!(
                "user-otp dlq show --event-id {}   says more",
                first.event_id
            ))?;
        }
        Ok(())
    }

    fn table(&self, terminal: &Terminal<'_>) -> String {
        const COLUMNS: [(&str, Lean); 7] = [
            ("ROW", Lean::Right),
            ("NUMBER", Lean::Left),
            ("TENANT", Lean::Left),
            ("TYPE", Lean::Left),
            ("OUTCOME", Lean::Left),
            ("WHY", Lean::Left),
            ("TOOK", Lean::Right),
        ];
        let rows: Vec<Vec<String>> = self.asked.iter().map(Asked::cells).collect();
        table(&COLUMNS, &rows, terminal.paint)
    }

    /// How many of each end.
    fn sentence(&self) -> String {
        let mut parts = vec![format!("{} requests", self.asked.len())];
        let mut tell = |count: usize, what: &str| {
            if count > 0 {
                parts.push(format!("{count} {what}"));
            }
        };
        for outcome in FinalOutcome::ALL {
            tell(self.count(|end| end.is(*outcome)), outcome.as_str());
        }
        tell(self.count(|end| *end == End::Waiting), "without an outcome");
        tell(self.count(|end| *end == End::Unconfirmed), "unconfirmed");
        tell(self.count(|end| *end == End::NotSent), "not sent");
        tell(self.bad.len(), "bad rows");
        parts.join("; ")
    }

    fn count(&self, is: impl Fn(&End) -> bool) -> usize {
        self.asked.iter().filter(|asked| is(&asked.end)).count()
    }

    /// Of the worst row: somebody has to look for what has no outcome, and may leave alone what was
    /// superseded.
    fn exit_code(&self) -> i32 {
        use FinalOutcome as Outcome;
        let any = |outcome| self.count(|end| end.is(outcome)) > 0;
        let seen = |end: &End| matches!(end, End::Seen(_));
        let worst_first = [
            (EXIT_NO_OUTCOME, self.count(seen) < self.asked.len()),
            (exit_code(Outcome::DeadLettered), any(Outcome::DeadLettered)),
            (EXIT_BAD_ROWS, !self.bad.is_empty()),
            (exit_code(Outcome::Limited), any(Outcome::Limited)),
            (exit_code(Outcome::Rejected), any(Outcome::Rejected)),
            (exit_code(Outcome::Superseded), any(Outcome::Superseded)),
        ];
        let worst = worst_first.into_iter().find(|(_, is)| *is);
        worst.map_or(0, |(code, _)| code)
    }
}

impl End {
    fn is(&self, outcome: FinalOutcome) -> bool {
        matches!(self, Self::Seen(seen) if seen.outcome == outcome)
    }

    fn as_str(&self) -> &'static str {
        match self {
            Self::NotSent => "not-sent",
            Self::Unconfirmed => "unconfirmed",
            Self::Waiting => "none",
            Self::Seen(seen) => seen.outcome.as_str(),
        }
    }

    fn seen(&self) -> Option<&OutcomeSeen> {
        match self {
            Self::Seen(seen) => Some(seen),
            Self::NotSent | Self::Unconfirmed | Self::Waiting => None,
        }
    }
}

/// A row for programs.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown<'a> {
    row: u64,
    line: u64,
    event_id: &'a str,
    mobile: String,
    tenant_id: &'a str,
    r#type: &'a str,
    outcome: &'a str,
    disposition: Option<&'a str>,
    code: Option<&'a str>,
    stage: Option<&'a str>,
    attempts: Option<u32>,
    took_ms: Option<u64>,
}

impl Asked {
    fn shown(&self) -> Shown<'_> {
        let (request, seen) = (self.request.request(), self.end.seen());
        Shown {
            row: self.row,
            line: self.line,
            event_id: &self.event_id,
            mobile: masked(request.mobile.expose()),
            tenant_id: request.tenant.as_str(),
            r#type: request.kind.as_str(),
            outcome: self.end.as_str(),
            disposition: seen.and_then(|seen| seen.disposition.as_deref()),
            code: seen.and_then(|seen| seen.code.as_deref()),
            stage: seen.and_then(|seen| seen.stage.as_deref()),
            attempts: seen.map(|seen| seen.attempts),
            took_ms: seen.map(|seen| u64::try_from(took(seen).as_millis()).unwrap_or(u64::MAX)),
        }
    }

    fn line(&self) -> serde_json::Result<String> {
        serde_json::to_string(&self.shown())
    }

    fn cells(&self) -> Vec<String> {
        let (request, seen) = (self.request.request(), self.end.seen());
        vec![
            self.row.to_string(),
            masked(request.mobile.expose()),
            request.tenant.as_str().to_owned(),
            request.kind.as_str().to_owned(),
            self.end.as_str().to_owned(),
            seen.map(why).unwrap_or_default(),
            seen.map(|seen| in_short(took(seen))).unwrap_or_default(),
        ]
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const THREE: &str =
        "tenant,type,mobile,eventId\npb,login,9876543210,e-1\npb,login,9876543211,\npb,login,x,\n";

    fn batch(text: &str) -> anyhow::Result<Batch> {
        Batch::read(Rows::read(text.as_bytes(), Format::Csv, "rows").expect("a table"))
    }

    fn seen(outcome: FinalOutcome) -> End {
        End::Seen(OutcomeSeen {
            tenant_id: None,
            outcome,
            disposition: None,
            code: Some("some-code".to_owned()),
            stage: None,
            attempts: 1,
            received_at_ms: 1_000,
            finished_at_ms: 1_250,
        })
    }

    #[rstest]
    #[case::all_published(&[FinalOutcome::Published], 0)]
    #[case::superseded(&[FinalOutcome::Published, FinalOutcome::Superseded], 12)]
    #[case::rejected(&[FinalOutcome::Superseded, FinalOutcome::Rejected], 10)]
    #[case::limited(&[FinalOutcome::Rejected, FinalOutcome::Limited], 11)]
    #[case::dead_lettered(&[FinalOutcome::DeadLettered, FinalOutcome::Limited], 13)]
    fn the_exit_code_is_the_worst_rows(#[case] outcomes: &[FinalOutcome], #[case] code: i32) {
        let rows = "pb,login,9876543210\n".repeat(outcomes.len());
        let mut batch = batch(&format!("tenant,type,mobile\n{rows}")).expect("rows");
        for (asked, outcome) in batch.asked.iter_mut().zip(outcomes) {
            asked.end = seen(*outcome);
        }
        assert_eq!(batch.exit_code(), code);
        batch.bad.push((2, 1, BadRow::Mobile));
        assert_eq!(batch.exit_code(), if code == 13 { 13 } else { 15 });
        for end in [End::Waiting, End::NotSent, End::Unconfirmed] {
            batch.asked[0].end = end;
            assert_eq!(batch.exit_code(), 14);
        }
    }

    #[test]
    fn rows_are_told_without_their_numbers() {
        let mut batch = batch(THREE).expect("rows");
        assert_eq!(batch.bad, [(4, 3, BadRow::Mobile)]);
        batch.asked[0].end = seen(FinalOutcome::Limited);
        assert_eq!(
            batch.asked[0].line().expect("JSON"),
            r#"{"row":1,"line":2,"eventId":"e-1","mobile":"********10","tenantId":"pb","type":"login","outcome":"limited","disposition":null,"code":"some-code","stage":null,"attempts":1,"tookMs":250}"#
        );
        let cells = [
            "1",
            "********10",
            "pb",
            "login",
            "limited",
            "some-code",
            "250ms",
        ];
        assert_eq!(batch.asked[0].cells(), cells);
        let cells = ["2", "********11", "pb", "login", "not-sent", "", ""];
        assert_eq!(batch.asked[1].cells(), cells);
        assert_eq!(
            batch.sentence(),
            "2 requests; 1 limited; 1 not sent; 1 bad rows"
        );
        assert_eq!(batch.asked[1].event_id.len(), 36);
    }

    #[test]
    fn more_than_a_few_are_a_jobs_work() {
        let table = |rows: usize| {
            batch(&format!(
                "tenant,type,mobile\n{}",
                "pb,login,9876543210\n".repeat(rows)
            ))
        };
        assert_eq!(
            table(MOST).expect("as many as there may be").asked.len(),
            MOST
        );
        let error = table(MOST + 1).err().expect("one too many").to_string();
        assert!(error.contains("user-otp resend FILE"), "{error}");
    }
}
