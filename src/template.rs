//! A text with places for the OTP, read as Java's `String.format(text, otp)` reads it.
//!
//! The Java service fills its texts that way, so localization holds texts that were written for it.

use std::borrow::Cow;

/// Part of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece<'a> {
    /// It stays as it is.
    Text(&'a str),
    /// A place for the OTP: `%s`, `%S`, `%1$s`, `%-8s`.
    Place(Place),
    /// `%%`.
    Percent,
    /// `%n`.
    NewLine,
    /// A percent sign with nothing behind it that Java knows for a text. It stays as it is.
    Stray,
}

/// How the OTP is written at a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// `%1$s`: Java takes it as often as it occurs. A second one without a number fails there.
    pub numbered: bool,
    /// `%S`: in capital letters.
    upper: bool,
    /// At least so many characters, filled up with spaces; 0 to [`MAX_WIDTH`].
    width: usize,
    /// `%-8s`: the spaces come behind it.
    left: bool,
}

/// A wider place is no text for people.
const MAX_WIDTH: usize = 99;

/// The parts of a text, in order.
pub fn pieces(text: &str) -> impl Iterator<Item = Piece<'_>> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let (piece, length) = match rest.strip_prefix('%') {
            Some(behind) => {
                let (piece, length) = specifier(behind);
                (piece, 1 + length)
            }
            None => {
                let length = rest.find('%').unwrap_or(rest.len());
                (Piece::Text(&rest[..length]), length)
            }
        };
        rest = &rest[length..];
        Some(piece)
    })
}

/// Whether a text has a place for the OTP.
#[must_use]
pub fn has_place(text: &str) -> bool {
    pieces(text).any(|piece| matches!(piece, Piece::Place(_)))
}

/// Puts the OTP into a text, at each of its places. All else is as it was, but for `%%` and `%n`.
#[must_use]
pub fn fill(text: &str, otp: &str) -> String {
    let mut filled = String::with_capacity(text.len() + otp.len());
    for piece in pieces(text) {
        match piece {
            Piece::Text(text) => filled.push_str(text),
            Piece::Place(place) => place.write(otp, &mut filled),
            Piece::Percent | Piece::Stray => filled.push('%'),
            Piece::NewLine => filled.push('\n'),
        }
    }
    filled
}

impl Place {
    fn write(self, otp: &str, text: &mut String) {
        let otp = if self.upper {
            Cow::from(otp.to_uppercase())
        } else {
            Cow::from(otp)
        };
        let spaces = self.width.saturating_sub(otp.chars().count());
        let spaces = std::iter::repeat_n(' ', spaces);
        if self.left {
            text.push_str(&otp);
            text.extend(spaces);
        } else {
            text.extend(spaces);
            text.push_str(&otp);
        }
    }
}

/// What stands behind a percent sign, and its bytes.
fn specifier(behind: &str) -> (Piece<'_>, usize) {
    match behind.bytes().next() {
        Some(b'%') => (Piece::Percent, 1),
        Some(b'n') => (Piece::NewLine, 1),
        _ => place(behind).map_or((Piece::Stray, 0), |(place, length)| {
            (Piece::Place(place), length)
        }),
    }
}

/// `[1$][-][width]s`, or with a capital `S`.
fn place(behind: &str) -> Option<(Place, usize)> {
    let unnumbered = behind.strip_prefix("1$");
    let flags = unnumbered.unwrap_or(behind);
    let sized = flags.strip_prefix('-');
    let digits = sized.unwrap_or(flags);
    let after = digits.trim_start_matches(|one: char| one.is_ascii_digit());
    let width = match &digits[..digits.len() - after.len()] {
        // Java wants a width for its flag.
        "" if sized.is_some() => return None,
        "" => 0,
        // A nought is a flag, and not for texts.
        zero if zero.starts_with('0') => return None,
        width => width.parse().ok().filter(|width| *width <= MAX_WIDTH)?,
    };
    let upper = match after.bytes().next()? {
        b's' => false,
        b'S' => true,
        _ => return None,
    };
    let place = Place {
        numbered: unnumbered.is_some(),
        upper,
        width,
        left: sized.is_some(),
    };
    Some((place, behind.len() - after.len() + 1))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("OTP %s.", "OTP a1b2.")]
    #[case("%s", "a1b2")]
    #[case("%S", "A1B2")]
    #[case("%1$s and %1$s", "a1b2 and a1b2")]
    #[case("%1$S", "A1B2")]
    #[case("%s and %s", "a1b2 and a1b2")]
    #[case("[%8s]", "[    a1b2]")]
    #[case("[%-8s]", "[a1b2    ]")]
    #[case("[%1$-8S]", "[A1B2    ]")]
    #[case("[%2s]", "[a1b2]")]
    #[case("100%% sure: %s", "100% sure: a1b2")]
    #[case("%%s %s", "%s a1b2")]
    #[case("%%%s", "%a1b2")]
    #[case("one%ntwo %s", "one\ntwo a1b2")]
    #[case("%s 5% off", "a1b2 5% off")]
    #[case("%d %x %2$s {0} {#var#} %s %", "%d %x %2$s {0} {#var#} a1b2 %")]
    #[case("%-s %08s %.3s %#s %100s %<s", "%-s %08s %.3s %#s %100s %<s")]
    #[case(
        "Your OTP is %s.\n\n@example.org #%1$s",
        "Your OTP is a1b2.\n\n@example.org #a1b2"
    )]
    #[case("आपका ओटीपी %s है।", "आपका ओटीपी a1b2 है।")]
    #[case("%है%s", "%हैa1b2")]
    #[case("no place", "no place")]
    #[case("", "")]
    fn only_what_java_fills_changes(#[case] template: &str, #[case] expected: &str) {
        assert_eq!(fill(template, "a1b2"), expected);
        assert_eq!(
            has_place(template),
            expected.to_lowercase().contains("a1b2")
        );
    }

    proptest! {
        #[test]
        fn a_text_without_percent_signs_passes_unchanged(before in "[^%]{0,40}", after in "[^%]{0,40}") {
            prop_assert_eq!(fill(&format!("{before}%s{after}"), "a1b2"), format!("{before}a1b2{after}"));
        }

        #[test]
        fn the_parts_are_the_whole(text in "[%sSn1$0-9 है-]{0,16}") {
            let places = pieces(&text).filter(|piece| matches!(piece, Piece::Place(_))).count();
            let filled = fill(&text, "OTP");
            prop_assert_eq!(filled.matches("OTP").count(), places);
            prop_assert_eq!(has_place(&text), places > 0);
        }
    }
}
