//! How things are shown: tables for people, JSON for programs, and never more than may be seen.

use clap::ValueEnum;

/// What a command writes on standard output.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// Aligned columns, for people.
    #[default]
    Table,
    /// One JSON document.
    Json,
    /// One JSON document a line.
    Ndjson,
}

/// Colours, on a terminal alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Paint {
    /// With colours.
    Colours,
    /// Text alone.
    Plain,
}

impl Paint {
    /// A heading.
    #[must_use]
    pub fn heading(self, text: &str) -> String {
        self.wrap("1", text)
    }

    /// What somebody should look at.
    #[must_use]
    pub fn alarm(self, text: &str) -> String {
        self.wrap("31", text)
    }

    fn wrap(self, code: &str, text: &str) -> String {
        match self {
            Self::Colours => format!("\u{1b}[{code}m{text}\u{1b}[0m"),
            Self::Plain => text.to_owned(),
        }
    }
}

/// Which way a column leans.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lean {
    /// Text.
    Left,
    /// Figures.
    Right,
}

/// Rows under headings, each column as wide as it needs to be, two spaces between them.
#[must_use]
pub fn table(columns: &[(&str, Lean)], rows: &[Vec<String>], paint: Paint) -> String {
    let width = |index: usize, heading: &str| {
        let cells = rows.iter().filter_map(|row| row.get(index));
        let longest = cells.map(|cell| cell.chars().count()).max();
        longest.unwrap_or(0).max(heading.len())
    };
    let widths: Vec<usize> = columns
        .iter()
        .enumerate()
        .map(|(index, (heading, _))| width(index, heading))
        .collect();
    let line = |cells: &[String]| {
        let padded = cells.iter().zip(columns).zip(&widths);
        let padded = padded.map(|((cell, (_, lean)), width)| match lean {
            Lean::Left => format!("{cell:width$}"),
            Lean::Right => format!("{cell:>width$}"),
        });
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    let headings: Vec<String> = columns
        .iter()
        .map(|(heading, _)| (*heading).to_owned())
        .collect();
    let mut text = paint.heading(&line(&headings)) + "\n";
    for row in rows {
        text.push_str(&line(row));
        text.push('\n');
    }
    text
}

/// Digits that stay visible of a number that has enough others.
const SEEN: usize = 2;

/// A number has at least so many digits where some of them are shown.
const ENOUGH: usize = 8;

/// A mobile number with all but its last two digits hidden, no longer than a number is.
#[must_use]
pub fn masked(number: &str) -> String {
    let digits = number.chars().filter(char::is_ascii_digit).count();
    let plain = |one: char| one.is_ascii_digit() || matches!(one, '+' | '-' | ' ');
    if digits < ENOUGH || number.len() > 20 || !number.chars().all(plain) {
        return "***".to_owned();
    }
    let mut hidden = digits - SEEN;
    let mask = |one: char| {
        if !one.is_ascii_digit() || hidden == 0 {
            return one;
        }
        hidden -= 1;
        '*'
    };
    number.chars().map(mask).collect()
}

/// A text with every run of digits hidden that could be a number.
#[must_use]
pub fn without_numbers(text: &str) -> String {
    const TELLING: usize = 7;
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest
            .find(|one: char| !one.is_ascii_digit())
            .unwrap_or(rest.len());
        let (run, after) = rest.split_at(end);
        if run.len() < TELLING {
            shown.push_str(run);
        } else {
            shown.push_str("***");
        }
        let next = after
            .find(|one: char| one.is_ascii_digit())
            .unwrap_or(after.len());
        shown.push_str(&after[..next]);
        rest = &after[next..];
    }
    shown
}

/// A text that does nothing to a terminal: control characters as escapes.
#[must_use]
pub fn harmless(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for one in text.chars() {
        // What changes the direction of writing is no control character, and as bad.
        let turns = matches!(one, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if one.is_control() || turns {
            shown.extend(one.escape_default());
        } else {
            shown.push(one);
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("9876543210", "********10")]
    #[case("+91 98765-43210", "+** *****-***10")]
    #[case::too_short_to_hide_the_rest("4321", "***")]
    #[case::no_number("citizen@example.org", "***")]
    #[case::a_payload("98765432109876543210987654321098765", "***")]
    #[case::nothing("", "***")]
    fn a_number_keeps_its_last_two_digits(#[case] number: &str, #[case] shown: &str) {
        assert_eq!(masked(number), shown);
    }

    #[test]
    fn digits_that_could_be_a_number_are_hidden() {
        assert_eq!(
            without_numbers("x9876543210y-123456 9876543"),
            "x***y-123456 ***"
        );
        assert_eq!(without_numbers("order-17 é"), "order-17 é");
    }

    #[test]
    fn a_terminal_obeys_nothing_that_was_sent() {
        assert_eq!(
            harmless("a\u{1b}[2Jb\nc\u{202e}é"),
            "a\\u{1b}[2Jb\\nc\\u{202e}é"
        );
    }

    #[test]
    fn columns_are_aligned_and_coloured_on_terminals_alone() {
        let columns = [
            ("TENANT", Lean::Left),
            ("COUNT", Lean::Right),
            ("X", Lean::Left),
        ];
        let row = |cells: [&str; 3]| cells.map(str::to_owned).to_vec();
        let rows = [row(["pb.amritsar", "7", "-"]), row(["pb", "1204", ""])];
        let plain = "TENANT       COUNT  X\npb.amritsar      7  -\npb            1204\n";
        assert_eq!(table(&columns, &rows, Paint::Plain), plain);
        let coloured = table(&columns, &rows, Paint::Colours);
        assert!(coloured.starts_with("\u{1b}[1mTENANT       COUNT  X\u{1b}[0m\n"));
    }
}
