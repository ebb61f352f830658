//! `user-otp dlq ls`: one line for each.

use serde::Serialize;

use super::{Looking, Pace, Sight, or_dash};
use crate::engine::headers;
use crate::ops::letter::Letter;
use crate::ops::moment::rfc3339;
use crate::ops::shown::{Output, Paint, harmless, masked};
use crate::ops::terminal::Terminal;

/// A dead letter in short.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Line<'a> {
    partition: i32,
    offset: i64,
    written_at: Option<String>,
    disposition: Option<&'static str>,
    code: Option<&'static str>,
    stage: Option<&'static str>,
    tenant_id: Option<&'a str>,
    r#type: Option<&'static str>,
    mobile_number: Option<String>,
    event_id: String,
    tries: Option<u32>,
    source: String,
}

impl<'a> Line<'a> {
    pub(super) fn of(letter: &'a Letter, sight: Sight) -> Self {
        let position = &letter.record().position;
        let number = letter.number().filter(|number| !number.is_empty());
        Self {
            partition: position.partition,
            offset: position.offset,
            written_at: letter.written().map(rfc3339),
            disposition: letter.disposition().map(|word| word.as_str()),
            code: letter.code().map(|word| word.as_str()),
            stage: letter.stage().map(|word| word.as_str()),
            tenant_id: letter.tenant(),
            r#type: letter.kind(),
            mobile_number: number.map(|number| seen(number, sight)),
            event_id: letter.event_id(),
            tries: letter.count(headers::DLQ_DELIVERY_COUNT),
            source: letter.source().to_string(),
        }
    }
}

/// A number as far as it may be seen.
pub(super) fn seen(number: &str, sight: Sight) -> String {
    match sight {
        Sight::Masked => masked(number),
        Sight::Revealed => number.to_owned(),
    }
}

pub(super) fn run(
    looking: Looking<'_>,
    output: Output,
    terminal: &mut Terminal<'_>,
) -> anyhow::Result<i32> {
    let sight = looking.sight;
    let mut pace = Pace::new();
    let mut first = true;
    match output {
        Output::Table => write!(terminal.out, "{}", heading(terminal.paint))?,
        Output::Json => write!(terminal.out, "[")?,
        Output::Ndjson => {}
    }
    let looked = looking.each(|letter| {
        let line = Line::of(letter, sight);
        match output {
            Output::Table => write!(terminal.out, "{}", row(&line))?,
            Output::Json => {
                let comma = if first { "\n" } else { ",\n" };
                write!(terminal.out, "{comma}{}", serde_json::to_string(&line)?)?;
            }
            Output::Ndjson => writeln!(terminal.out, "{}", serde_json::to_string(&line)?)?,
        }
        first = false;
        Ok(pace.keep(terminal)?)
    })?;
    match output {
        Output::Json => writeln!(terminal.out, "\n]")?,
        Output::Table => {
            terminal.out.flush()?;
            terminal.note(&looked.sentence())?;
        }
        Output::Ndjson => {}
    }
    Ok(0)
}

/// Columns as wide as their words are, since nobody knows what comes later; what has no bound is last.
const WIDTHS: [usize; 8] = [20, 12, 11, 24, 7, 13, 14, 18];

const HEADINGS: [&str; 9] = [
    "WRITTEN",
    "P:OFFSET",
    "DISPOSITION",
    "CODE",
    "STAGE",
    "TYPE",
    "NUMBER",
    "TENANT",
    "EVENT ID",
];

fn heading(paint: Paint) -> String {
    paint.heading(&columns(&HEADINGS)) + "\n"
}

fn row(line: &Line<'_>) -> String {
    let place = format!("{}:{}", line.partition, line.offset);
    let number = harmless(or_dash(line.mobile_number.as_deref()));
    let cells = [
        or_dash(line.written_at.as_deref()),
        &place,
        or_dash(line.disposition),
        or_dash(line.code),
        or_dash(line.stage),
        or_dash(line.r#type),
        &number,
        or_dash(line.tenant_id),
        &line.event_id,
    ];
    columns(&cells) + "\n"
}

fn columns(cells: &[&str; 9]) -> String {
    let mut text = String::new();
    for (cell, width) in cells.iter().zip(WIDTHS) {
        text.push_str(&format!("{cell:width$}  "));
    }
    text + cells[8]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::letter::tests::{LOGIN, REFUSED, letter};

    #[test]
    fn a_line_masks_its_number() {
        let letter = letter(LOGIN, REFUSED);
        let line = Line::of(&letter, Sight::Masked);
        assert_eq!(
            heading(Paint::Plain) + &row(&line),
            "WRITTEN               P:OFFSET      DISPOSITION  CODE                      STAGE    TYPE           NUMBER          TENANT              EVENT ID\n\
             2025-11-26T14:00:00Z  3:42          refused      service-refused           user     login          ********10      pb.amritsar         order-17\n"
        );
        assert_eq!(
            serde_json::to_string(&line).expect("JSON"),
            r#"{"partition":3,"offset":42,"writtenAt":"2025-11-26T14:00:00Z","disposition":"refused","code":"service-refused","stage":"user","tenantId":"pb.amritsar","type":"login","mobileNumber":"********10","eventId":"order-17","tries":2,"source":"requests-0-7"}"#
        );
        assert!(row(&Line::of(&letter, Sight::Revealed)).contains(" 9876543210 "));
    }

    #[test]
    fn what_is_no_dead_letter_has_a_line_too() {
        let letter = letter("not JSON, 9876543210", &[("otp-disposition", "\u{1b}[31m")]);
        let line = row(&Line::of(&letter, Sight::Masked));
        assert!(
            line.contains(" -            -  ") && line.ends_with("user-otp.dlq-3-42\n"),
            "{line}"
        );
        assert!(
            !line.contains('\u{1b}') && !line.contains("98765"),
            "{line}"
        );
    }

    #[test]
    fn a_revealed_number_does_nothing_to_a_terminal() {
        let letter = letter(r#"{"otp":{"mobileNumber":"\u001b[2J"}}"#, &[]);
        let line = row(&Line::of(&letter, Sight::Revealed));
        assert!(!line.contains('\u{1b}'), "{line}");
    }
}
