//! Mobile numbers from standard input: arguments are in process lists and histories.

use std::collections::HashMap;
use std::fmt;
use std::io::Read;

use crate::domain::contact::MobileNumber;

/// More than these are no list that somebody looks for.
const MOST: usize = 10_000;

/// As many lines of the longest numbers, with whatever ends them.
const LONGEST: u64 = MOST as u64 * 32;

/// The digits by which numbers are found: of a country's own number, with or without its prefix.
const NATIONAL: usize = 10;

/// Numbers that somebody looks for. They are compared by their digits, with or without a country's
/// prefix, and never shown.
#[derive(Clone, Default)]
pub struct Numbers {
    by_end: HashMap<String, Vec<String>>,
    count: usize,
}

/// Why there are none.
#[derive(Debug, thiserror::Error)]
pub enum NumbersError {
    /// Nothing was there.
    #[error(
        "there is no mobile number on standard input: one a line, as in `echo 98765xxxxx | user-otp …`"
    )]
    None,
    /// A line is no number.
    #[error(
        "line {0} of standard input is no mobile number: digits, +, - and spaces, 20 at most, at least four digits"
    )]
    NotANumber(usize),
    /// There are too many.
    #[error("there are more than {MOST} numbers on standard input: look for fewer at a time")]
    TooMany,
    /// It could not be read.
    #[error("standard input cannot be read")]
    Unreadable(#[source] std::io::Error),
}

impl Numbers {
    /// Reads them, one a line; empty lines are passed over.
    ///
    /// # Errors
    ///
    /// When there is none, too many, or a line is none; never with the line itself.
    pub fn read(input: &mut dyn Read) -> Result<Self, NumbersError> {
        let mut text = String::new();
        input
            .take(LONGEST + 1)
            .read_to_string(&mut text)
            .map_err(NumbersError::Unreadable)?;
        if text.len() as u64 > LONGEST {
            return Err(NumbersError::TooMany);
        }
        let mut numbers = Self::default();
        for (index, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
            let line = line.trim();
            if line.is_empty() {
                continue;
            }
            let number = MobileNumber::parse(line).map(|number| number.digits());
            let digits = number
                .filter(|digits| digits.len() >= 4)
                .ok_or(NumbersError::NotANumber(index + 1))?;
            if numbers.count == MOST {
                return Err(NumbersError::TooMany);
            }
            numbers.count += 1;
            let digits = digits.trim_start_matches('0');
            let same_end = numbers.by_end.entry(end_of(digits).to_owned());
            same_end.or_default().push(digits.to_owned());
        }
        if numbers.count == 0 {
            return Err(NumbersError::None);
        }
        Ok(numbers)
    }

    /// Whether this number, however it is spelled, is one of them.
    #[must_use]
    pub fn has(&self, number: &str) -> bool {
        let digits: String = number.chars().filter(char::is_ascii_digit).collect();
        let digits = digits.trim_start_matches('0');
        let end = end_of(digits);
        let same_end = self.by_end.get(end);
        // A prefix counts where both have one.
        let same = |one: &String| one == digits || one == end || digits == end;
        same_end.is_some_and(|all| all.iter().any(same))
    }

    /// Whether one of them stands anywhere in a value that cannot be read.
    #[must_use]
    pub fn are_in(&self, value: &[u8]) -> bool {
        let runs = value.split(|byte| !is_of_a_number(*byte));
        let mut digits = runs.map(|run| {
            let digits = run.iter().filter(|byte| byte.is_ascii_digit());
            digits.map(|byte| char::from(*byte)).collect::<String>()
        });
        digits.any(|run| self.by_end.keys().any(|end| run.contains(end.as_str())))
    }
}

/// Longer than any number, with whatever ends its line.
const LONGEST_LINE: u64 = 128;

/// The one number on standard input.
///
/// # Errors
///
/// When there is none, or something else is there; never with what it is.
pub fn one(input: &mut dyn Read) -> Result<MobileNumber, NumbersError> {
    let mut text = String::new();
    let read = input.take(LONGEST_LINE).read_to_string(&mut text);
    read.map_err(NumbersError::Unreadable)?;
    let line = text.trim_start_matches('\u{feff}').trim();
    if line.is_empty() {
        return Err(NumbersError::None);
    }
    MobileNumber::parse(line).ok_or(NumbersError::NotANumber(1))
}

impl fmt::Debug for Numbers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Numbers({} hidden)", self.count)
    }
}

fn end_of(digits: &str) -> &str {
    &digits[digits.len().saturating_sub(NATIONAL)..]
}

fn is_of_a_number(byte: u8) -> bool {
    byte.is_ascii_digit() || matches!(byte, b'+' | b'-' | b' ')
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn numbers(text: &str) -> Result<Numbers, NumbersError> {
        Numbers::read(&mut text.as_bytes())
    }

    #[rstest]
    #[case::as_it_is("9876543210", true)]
    #[case::spelled_otherwise("98765-43210", true)]
    #[case::with_its_prefix("+91 98765 43210", true)]
    #[case::with_a_zero("09876543210", true)]
    #[case::another("9876543211", false)]
    #[case::a_part_of_it("6543210", false)]
    #[case::nothing("", false)]
    fn a_number_is_found_by_its_digits(#[case] number: &str, #[case] found: bool) {
        let numbers = numbers("\u{feff}1234567890\r\n\r\n9876543210\r\n").expect("numbers");
        assert_eq!(numbers.has(number), found);
    }

    #[test]
    fn of_two_countries_numbers_only_the_right_one_is_found() {
        let numbers = numbers("+91 9876543210").expect("numbers");
        assert!(numbers.has("9876543210") && !numbers.has("+1 9876543210"));
    }

    #[test]
    fn a_value_that_cannot_be_read_is_searched() {
        let numbers = numbers("9876543210").expect("numbers");
        assert!(numbers.are_in(br#"{"mobileNumber": "+91 98765 43210""#));
        assert!(!numbers.are_in(br#"{"a": 98765, "b": 43210}"#));
    }

    #[test]
    fn one_number_is_one_line() {
        let said = |text: &str| one(&mut text.as_bytes());
        let number = said("\u{feff} +91 98765-43210\r\n").expect("a number");
        assert_eq!(number.expose(), "+91 98765-43210");
        assert!(matches!(
            said("9876543210\n9876543211\n"),
            Err(NumbersError::NotANumber(1))
        ));
        assert!(matches!(said("\n"), Err(NumbersError::None)));
    }

    #[test]
    fn what_is_no_number_is_told_by_its_line_alone() {
        let said = |text: &str| numbers(text).expect_err("no numbers").to_string();
        assert!(said("9876543210\nx9876543211\n").starts_with("line 2 of standard input"));
        assert!(!said("9876543210\nx9876543211\n").contains("98765432"));
        assert!(said("\n \n").starts_with("there is no mobile number"));
        assert!(said(&"9876543210\n".repeat(MOST + 1)).contains("more than 10000"));
        assert!(said(&"9".repeat(400_000)).contains("more than 10000"));
        let shown = format!("{:?}", numbers("9876543210").expect("numbers"));
        assert_eq!(shown, "Numbers(1 hidden)");
    }
}
