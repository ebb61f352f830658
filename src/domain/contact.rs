//! Where a message goes: mobile numbers, dialling prefixes, email addresses.

use std::fmt;

/// The longest mobile number that a request may carry, in characters.
const MAX_NUMBER_LENGTH: usize = 20;

/// The longest stored number that is passed on to the SMS gateway: room for any spelling of a
/// number (E.164 has 15 digits), none for a payload.
const MAX_STORED_LENGTH: usize = 64;

/// The longest email address (RFC 5321: 64 before the `@`, 255 after it).
const MAX_EMAIL_LENGTH: usize = 320;

/// A mobile number. Its text is private: it prints itself masked.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct MobileNumber(Box<str>);

impl MobileNumber {
    /// A number as a request may carry it: digits, `+`, `-` and spaces, at most 20 characters.
    /// Whether it fits a country's pattern is for [`NumberRules`](super::rules::NumberRules).
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let plain = |byte: u8| byte.is_ascii_digit() || matches!(byte, b'+' | b'-' | b' ');
        let fits = !text.is_empty() && text.len() <= MAX_NUMBER_LENGTH && text.bytes().all(plain);
        fits.then(|| Self(text.into()))
    }

    /// A number as egov-user has it on a user, unchanged; none where it is blank.
    ///
    /// A user may have been stored under any older rule, so its shape is not judged. But the SMS
    /// consumer pastes it into its gateway's request: a number with control characters (a line
    /// end would start a header there) or beyond 64 characters is none, as if none were stored.
    #[must_use]
    pub fn stored(text: String) -> Option<Self> {
        is_passable(&text, MAX_STORED_LENGTH).then(|| Self(text.into_boxed_str()))
    }

    /// The number in clear, for the calls and records that carry it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Its digits alone: the same for every spelling of the number.
    #[must_use]
    pub fn digits(&self) -> String {
        self.0.chars().filter(char::is_ascii_digit).collect()
    }
}

impl fmt::Debug for MobileNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MobileNumber(***)")
    }
}

/// An email address. Its text is private: it prints itself masked.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct EmailAddress(Box<str>);

impl EmailAddress {
    /// An address as egov-user has it on a user, unchanged; none where it is blank, has control
    /// characters (a line end would start a header of the mail) or is longer than an address can
    /// be.
    #[must_use]
    pub fn stored(text: String) -> Option<Self> {
        is_passable(&text, MAX_EMAIL_LENGTH).then(|| Self(text.into_boxed_str()))
    }

    /// The address in clear, for the record that carries it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for EmailAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EmailAddress(***)")
    }
}

/// A dialling prefix such as `+91`: `^\+?[1-9][0-9]{0,3}$`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CountryCode(Box<str>);

impl CountryCode {
    /// Parses a dialling prefix; none where the text has another shape.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix('+').unwrap_or(text).as_bytes();
        let fits = (1..=4).contains(&digits.len())
            && digits[0] != b'0'
            && digits.iter().all(u8::is_ascii_digit);
        fits.then(|| Self(text.into()))
    }

    /// The prefix as it was given, with or without `+`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_passable(text: &str, longest: usize) -> bool {
    !text.trim().is_empty() && text.len() <= longest && !text.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("9876543210")]
    #[case("+91 98765-43210")]
    #[case("98765432109876543210")]
    fn takes_a_number(#[case] text: &str) {
        assert_eq!(MobileNumber::parse(text).expect("a number").expose(), text);
    }

    #[rstest]
    #[case::empty("")]
    #[case::of_21_characters("987654321098765432100")]
    #[case::letters("98765x3210")]
    #[case::parenthesis("98765(43210")]
    #[case::full_stop("98765.43210")]
    #[case::line_end("9876543210\n")]
    #[case::digits_of_another_script("९८७६५४३२१०")]
    fn refuses_what_is_no_number(#[case] text: &str) {
        assert_eq!(MobileNumber::parse(text), None);
    }

    #[test]
    fn digits_are_the_same_for_every_spelling() {
        let digits = |text| MobileNumber::parse(text).expect("a number").digits();
        assert_eq!(digits("+91 98765-43210"), digits("919876543210"));
    }

    #[rstest]
    #[case::older_spelling("(0183) 98765 43210", true)]
    #[case::masked_by_egov_user("XXXXXX3210", true)]
    #[case::empty("", false)]
    #[case::blank(" \t ", false)]
    #[case::line_end("9876543210\r\nX-Header: 1", false)]
    #[case::nul("98765\u{0}43210", false)]
    fn a_stored_number_is_whatever_can_be_passed_on(#[case] text: &str, #[case] taken: bool) {
        assert_eq!(MobileNumber::stored(text.to_owned()).is_some(), taken);
    }

    #[test]
    fn stored_contacts_are_bounded() {
        assert!(MobileNumber::stored("9".repeat(64)).is_some());
        assert!(MobileNumber::stored("9".repeat(65)).is_none());
        assert!(EmailAddress::stored("a".repeat(320)).is_some());
        assert!(EmailAddress::stored("a".repeat(321)).is_none());
    }

    #[rstest]
    #[case("a@b.c", true)]
    #[case("", false)]
    #[case("  ", false)]
    #[case("a@b.c\nBcc: x@y.z", false)]
    fn an_address_is_whatever_can_be_passed_on(#[case] text: &str, #[case] taken: bool) {
        assert_eq!(EmailAddress::stored(text.to_owned()).is_some(), taken);
    }

    #[rstest]
    #[case("+91", true)]
    #[case("1", true)]
    #[case("+9714", true)]
    #[case("", false)]
    #[case("+", false)]
    #[case("+0", false)]
    #[case("091", false)]
    #[case("+91234", false)]
    #[case("++91", false)]
    #[case("+91\n", false)]
    #[case(" +91", false)]
    #[case("+९१", false)]
    fn a_country_code_is_up_to_four_digits(#[case] text: &str, #[case] taken: bool) {
        assert_eq!(CountryCode::parse(text).is_some(), taken);
    }

    #[test]
    fn debug_shows_neither_number_nor_address() {
        let number = MobileNumber::parse("9876543210").expect("a number");
        let address = EmailAddress::stored("someone@example.org".to_owned()).expect("an address");
        assert_eq!(
            format!("{number:?} {address:?}"),
            "MobileNumber(***) EmailAddress(***)"
        );
    }
}
