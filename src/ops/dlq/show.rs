//! `user-otp dlq show`: one dead letter, what happened to it, and what there is to do.

use serde::Serialize;

use super::ls::{Line, seen};
use super::{Looking, Sight};
use crate::clock::EpochMs;
use crate::engine::headers;
use crate::engine::output::sentence;
use crate::engine::record::Header;
use crate::ops::EXIT_NOT_FOUND;
use crate::ops::letter::{Letter, advice};
use crate::ops::moment::{in_short, rfc3339};
use crate::ops::shown::{Output, harmless};
use crate::ops::terminal::Terminal;

/// As [`Line`], and the rest of it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Whole<'a> {
    #[serde(flatten)]
    line: Line<'a>,
    happened: Option<&'static str>,
    advice: Option<&'static str>,
    unreadable: Option<String>,
    key_bytes: Option<usize>,
    value_bytes: Option<usize>,
    key: Option<String>,
    value: Option<String>,
    headers: Vec<Shown<'a>>,
}

#[derive(Serialize)]
struct Shown<'a> {
    name: &'a str,
    value: Option<String>,
    bytes: Option<usize>,
}

pub(super) fn run(
    looking: Looking<'_>,
    output: Output,
    terminal: &mut Terminal<'_>,
) -> anyhow::Result<i32> {
    let sight = looking.sight;
    let mut found = 0_u64;
    let looked = looking.each(|letter| {
        match output {
            Output::Table => {
                let between = if found == 0 { "" } else { "\n" };
                write!(
                    terminal.out,
                    "{between}{}",
                    sheet(letter, sight, terminal.now)
                )?;
            }
            Output::Json => {
                let whole = serde_json::to_string_pretty(&Whole::of(letter, sight))?;
                writeln!(terminal.out, "{whole}")?;
            }
            Output::Ndjson => {
                writeln!(
                    terminal.out,
                    "{}",
                    serde_json::to_string(&Whole::of(letter, sight))?
                )?;
            }
        }
        found += 1;
        Ok(())
    })?;
    terminal.out.flush()?;
    if found == 0 {
        terminal.note(&looked.sentence())?;
        return Ok(EXIT_NOT_FOUND);
    }
    Ok(0)
}

impl<'a> Whole<'a> {
    fn of(letter: &'a Letter, sight: Sight) -> Self {
        let record = letter.record();
        let unreadable = letter.submission().err();
        let revealed = |bytes: &Option<Vec<u8>>| match sight {
            Sight::Masked => None,
            Sight::Revealed => bytes
                .as_deref()
                .map(|bytes| String::from_utf8_lossy(bytes).into()),
        };
        let shown = record.headers.iter().map(|header| Shown {
            name: name(header, sight),
            value: value(letter, header, sight),
            bytes: header.value.as_ref().map(Vec::len),
        });
        Self {
            line: Line::of(letter, sight),
            happened: letter.failure().map(sentence),
            advice: letter.code().map(advice),
            unreadable: unreadable.map(|error| error.to_string()),
            key_bytes: record.key.as_ref().map(Vec::len),
            value_bytes: record.value.as_ref().map(Vec::len),
            key: revealed(&record.key),
            value: revealed(&record.value),
            headers: shown.collect(),
        }
    }
}

/// What stands in the place of what may not be seen.
const HIDDEN: &str = "hidden; --reveal shows it";

fn sheet(letter: &Letter, sight: Sight, now: EpochMs) -> String {
    let record = letter.record();
    let word = |word: Option<&str>| word.unwrap_or("-").to_owned();
    let moment = |at: Option<EpochMs>| {
        at.map(|at| match now.0 >= at.0 {
            true => format!("{}, {} ago", rfc3339(at), in_short(at.age(now))),
            false => format!("{}, in {}", rfc3339(at), in_short(at.left(now))),
        })
    };
    let ended = letter.failure().map(|failure| {
        let (disposition, code) = (failure.disposition.as_str(), failure.code.as_str());
        format!("{disposition}: {code} at {}", failure.stage.as_str())
    });
    let bytes = |bytes: &Option<Vec<u8>>| match (bytes, sight) {
        (None, _) => "none".to_owned(),
        (Some(bytes), Sight::Masked) => format!("{} bytes, {HIDDEN}", bytes.len()),
        (Some(bytes), Sight::Revealed) => harmless(&String::from_utf8_lossy(bytes)),
    };
    let number = letter.number().map(|number| harmless(&seen(number, sight)));
    let tries = letter.count(headers::DLQ_DELIVERY_COUNT);
    let again = letter.count(headers::REPLAY_COUNT);
    let unreadable = letter.submission().err().map(|error| error.to_string());
    let rows = [
        ("dead letter", Some(record.position.to_string())),
        ("written", moment(letter.written())),
        (
            "ended",
            Some(ended.unwrap_or_else(|| "none of ours: our headers are not there".into())),
        ),
        ("that is", letter.failure().map(sentence).map(str::to_owned)),
        ("what to do", letter.code().map(advice).map(str::to_owned)),
        ("tenant", Some(word(letter.tenant()))),
        ("type", Some(word(letter.kind()))),
        ("number", Some(word(number.as_deref()))),
        ("event id", Some(letter.event_id())),
        ("first record", Some(letter.source().to_string())),
        ("tries", tries.map(|tries| tries.to_string())),
        ("first failed", moment(letter.moment(headers::FIRST_FAILED))),
        ("last failed", moment(letter.moment(headers::FAILED))),
        ("deadline", moment(letter.moment(headers::DEADLINE))),
        ("sent again", again.map(|times| format!("{times} times"))),
        ("cannot be read", unreadable),
        ("key", Some(bytes(&record.key))),
        ("value", Some(bytes(&record.value))),
    ];
    let mut text = String::new();
    for (name, value) in rows {
        if let Some(value) = value {
            text.push_str(&format!("{name:14}  {value}\n"));
        }
    }
    text.push_str("headers\n");
    for header in &record.headers {
        let value = match (&header.value, value(letter, header, sight)) {
            (None, _) => "null".to_owned(),
            (Some(_), Some(value)) => value,
            (Some(bytes), None) => format!("{} bytes, {HIDDEN}", bytes.len()),
        };
        text.push_str(&format!(
            "  {:28}  {value}\n",
            harmless(name(header, sight))
        ));
    }
    text
}

/// A foreign header's name may be anything, too.
fn name(header: &Header, sight: Sight) -> &str {
    let plain = |byte: u8| byte.is_ascii_alphabetic() || matches!(byte, b'-' | b'_' | b'.');
    let tells_nothing = header.name.bytes().all(plain);
    match sight {
        Sight::Masked if !tells_nothing => "***",
        Sight::Masked | Sight::Revealed => &header.name,
    }
}

/// A header's value as far as it may be seen: of ours, which hold no number, where they are fit for
/// an id of ours; of others none.
fn value(letter: &Letter, header: &Header, sight: Sight) -> Option<String> {
    let bytes = header.value.as_deref()?;
    match sight {
        Sight::Revealed => Some(harmless(&String::from_utf8_lossy(bytes))),
        Sight::Masked => {
            let ours = headers::is_ours(&header.name);
            let number = letter.number().unwrap_or_default().as_bytes();
            let raw = letter.record().value.as_deref().unwrap_or_default();
            let number = if number.is_empty() { raw } else { number };
            headers::clean_id(bytes, number).filter(|_| ours)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::letter::tests::{LOGIN, REFUSED, letter};

    const NOW: EpochMs = EpochMs(1_764_173_103_000);

    #[test]
    fn a_sheet_says_what_happened_and_what_to_do_and_hides_what_was_sent() {
        let letter = letter(LOGIN, REFUSED);
        let lines = [
            "dead letter     user-otp.dlq-3-42",
            "written         2025-11-26T14:00:00Z, 2h 5m ago",
            "ended           refused: service-refused at user",
            "that is         a service refused the call; asking again would not help",
            "what to do      look at that service's log by the event's correlation id: a route, a credential, its own rule; then send again",
            "tenant          pb.amritsar",
            "type            login",
            "number          ********10",
            "event id        order-17",
            "first record    requests-0-7",
            "tries           2",
            "last failed     2025-11-26T14:00:00Z, 2h 5m ago",
            "key             13 bytes, hidden; --reveal shows it",
            "value           77 bytes, hidden; --reveal shows it",
            "headers",
            "  otp-event-id                  order-17",
            "  otp-source                    requests-0-7",
            "  otp-disposition               refused",
            "  otp-error-code                service-refused",
            "  otp-error-stage               user",
            "  otp-tenant                    pb.amritsar",
            "  otp-type                      login",
            "  otp-failed-ms                 1764165600000",
            "  __dlq.errors.delivery.count   2",
            "  x-upstream                    18 bytes, hidden; --reveal shows it",
        ];
        assert_eq!(sheet(&letter, Sight::Masked, NOW), lines.join("\n") + "\n");
    }

    #[test]
    fn no_digit_of_a_number_is_seen_unless_it_is_revealed() {
        let hostile = [
            ("otp-event-id", "x9876543210"),
            ("otp-tenant", "9876543210"),
            ("otp-type", "9876543210"),
            ("9876543210", "x"),
            ("x-number", "9876543210"),
            ("otp-replay-by", "+91 98765-43210"),
        ];
        for value in [LOGIN, "{\"mobileNumber\": 9876543210", "9876543210"] {
            let letter = letter(value, &hostile);
            let json = |sight| serde_json::to_string(&Whole::of(&letter, sight)).expect("JSON");
            let hidden = sheet(&letter, Sight::Masked, NOW) + &json(Sight::Masked);
            assert!(
                !hidden.contains("98765") && !hidden.contains("43210"),
                "{hidden}"
            );
            let revealed = sheet(&letter, Sight::Revealed, NOW);
            assert!(revealed.matches("9876543210").count() > 5, "{revealed}");
            assert!(json(Sight::Revealed).contains("\"value\":\""));
        }
    }
}
