//! Nothing secret leaves: whatever the processes of a test printed is searched for the
//! numbers, the addresses and the OTPs of that test.

use std::collections::{BTreeSet, HashSet};

/// What one test must not find anywhere but in the topics where it belongs.
#[derive(Debug, Default, Clone)]
pub(crate) struct Secrets {
    /// Mobile numbers and OTPs: a match has no further digit (or letter) next to it.
    pub(crate) words: HashSet<String>,
    /// Email addresses and other text: any match counts.
    pub(crate) texts: BTreeSet<String>,
}

impl Secrets {
    /// The first line of `text` with a secret in it.
    pub(crate) fn leak<'a>(&self, text: &'a str) -> Option<&'a str> {
        text.lines().find(|line| {
            let without_time = without_times(line);
            without_time
                .split(|c: char| !c.is_ascii_alphanumeric())
                .any(|word| self.words.contains(word))
                || self
                    .texts
                    .iter()
                    .any(|secret| line.contains(secret.as_str()))
        })
    }
}

/// The line with the fractions of its seconds taken out: six digits after a full stop, as in
/// `12:34:56.123456Z`, look like an OTP.
fn without_times(line: &str) -> String {
    let mut kept = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(dot) = rest.find('.') {
        let (before, after) = rest.split_at(dot);
        kept.push_str(before);
        kept.push('.');
        let after = &after[1..];
        let seconds = before.len() >= 3 && before.as_bytes()[before.len() - 3] == b':';
        rest = if seconds {
            after.trim_start_matches(|c: char| c.is_ascii_digit())
        } else {
            after
        };
    }
    kept + rest
}

#[cfg(test)]
mod tests {
    use super::Secrets;

    fn secrets() -> Secrets {
        Secrets {
            words: ["9876543210".into(), "123456".into()].into(),
            texts: ["a@b.c".into()].into(),
        }
    }

    #[test]
    fn a_number_an_otp_or_an_address_in_a_line_is_a_leak() {
        for line in [
            "to 9876543210",
            "otp=\"123456\"",
            "{\"otp\":123456}",
            "<a@b.c>",
            "+91-9876543210",
        ] {
            assert_eq!(secrets().leak(&format!("first\n{line}\nlast")), Some(line));
        }
    }

    #[test]
    fn the_same_digits_in_a_longer_number_or_a_time_are_none() {
        for line in [
            "offset 1123456",
            "2025-11-23T15:48:00.123456Z ready",
            "at 98765432101",
            "a@b,c",
        ] {
            assert_eq!(secrets().leak(line), None, "{line}");
        }
    }
}
