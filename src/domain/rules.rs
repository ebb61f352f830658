//! Which mobile numbers a tenant takes: the rules of egov-mdms, or the configured ones.
//!
//! The order in which a rule is chosen is the platform's:
//!
//! 1. a country code was given: the entry with that code, else the default entry, and the
//!    message keeps the *given* code;
//! 2. none was given: the default entry, whose code becomes the request's;
//! 3. no entry fits a given code: the request is refused, but for a password reset;
//! 4. no entry fits, and none was given: the configured default pattern, and no code.

use super::contact::{CountryCode, MobileNumber};
use super::pattern::{Pattern, Verdict};

/// The most entries that are kept of one answer: more than the world has dialling prefixes.
const MAX_ENTRIES: usize = 512;

/// One entry of the master `MobileNumberValidation`, as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleEntry {
    /// The dialling prefix; null or blank is none.
    pub country_code: Option<String>,
    /// The pattern, in Java's dialect; an entry with a blank one is skipped.
    pub pattern: String,
    /// Whether it serves requests whose country code has no entry, or that have none.
    pub default: bool,
}

/// The rules of one state, each pattern compiled at its first use and kept.
#[derive(Debug, Clone)]
pub struct NumberRules {
    rules: Vec<NumberRule>,
    default_pattern: Pattern,
}

#[derive(Debug, Clone)]
struct NumberRule {
    country_code: Option<String>,
    pattern: Pattern,
    default: bool,
}

/// How much of a number is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Check {
    /// Everything.
    Full,
    /// Its bounds alone: users registered under older rules must still be able to recover their
    /// password.
    BoundsOnly,
}

/// What is wrong with a number. The sentences are the platform's; none has the number in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NumberFault {
    /// It does not match the pattern in force, or is out of bounds.
    #[error("Mobile number must match the configured pattern: {0}")]
    Mismatch(String),
    /// There is no rule for this country code; none where the text was no country code at all.
    #[error("Mobile number validation configuration not found for country code: {}",
        .0.as_ref().map_or("(invalid)", CountryCode::as_str))]
    UnknownCountry(Option<CountryCode>),
    /// The pattern in force does not compile, or gives no verdict within its limit.
    #[error("Invalid mobile number validation pattern configured.")]
    BrokenPattern,
}

impl NumberRules {
    /// The rules that egov-mdms answered. Entries with a blank pattern are skipped, and so is what
    /// comes after the first 512.
    #[must_use]
    pub fn from_entries(entries: Vec<RuleEntry>, default_pattern: &str) -> Self {
        let rules = entries
            .into_iter()
            .filter(|entry| !entry.pattern.trim().is_empty())
            .take(MAX_ENTRIES)
            .map(|entry| NumberRule {
                country_code: entry.country_code,
                pattern: Pattern::new(&entry.pattern),
                default: entry.default,
            })
            .collect();
        Self {
            rules,
            default_pattern: Pattern::new(default_pattern),
        }
    }

    /// The rules where egov-mdms is not configured: the default pattern, for requests without a
    /// country code and for these codes. Any other is refused: an open endpoint must not send to
    /// premium numbers abroad.
    #[must_use]
    pub fn without_mdms(default_pattern: &str, country_codes: &[String]) -> Self {
        let default_pattern = Pattern::new(default_pattern);
        let rules = country_codes
            .iter()
            .map(|code| NumberRule {
                country_code: Some(code.clone()),
                pattern: default_pattern.clone(),
                default: false,
            })
            .collect();
        Self {
            rules,
            default_pattern,
        }
    }

    /// Whether there is no usable entry: such an answer is cached for a short while only.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// About the bytes that they take: each pattern's text, and what it is compiled to.
    #[must_use]
    pub fn bytes(&self) -> usize {
        const COMPILED: usize = 8 * 1024;
        let patterns = self.rules.iter().map(|rule| &rule.pattern);
        let patterns = patterns.chain([&self.default_pattern]);
        patterns.map(|one| one.as_str().len() + COMPILED).sum()
    }

    /// Checks a number against the rule for `country_code` (null or blank: none given), and says
    /// which country code the request has from here on.
    ///
    /// # Errors
    /// With the first fault: the country code's shape, no rule for it, the number's bounds, the
    /// pattern.
    pub fn check(
        &self,
        number: &str,
        country_code: Option<&str>,
        check: Check,
    ) -> Result<(MobileNumber, Option<CountryCode>), NumberFault> {
        let given = match country_code.filter(|code| !code.trim().is_empty()) {
            Some(text) => Some(CountryCode::parse(text).ok_or(NumberFault::UnknownCountry(None))?),
            None => None,
        };
        let (pattern, code) = self.resolve(given, check)?;
        let number = MobileNumber::parse(number)
            .ok_or_else(|| NumberFault::Mismatch(pattern.as_str().to_owned()))?;
        match check {
            Check::BoundsOnly => Ok((number, code)),
            Check::Full => match pattern.judge(number.expose()) {
                Verdict::Match => Ok((number, code)),
                Verdict::Mismatch => Err(NumberFault::Mismatch(pattern.as_str().to_owned())),
                Verdict::Broken => Err(NumberFault::BrokenPattern),
            },
        }
    }

    /// The pattern in force and the country code to go on with: the four rules above.
    fn resolve(
        &self,
        given: Option<CountryCode>,
        check: Check,
    ) -> Result<(&Pattern, Option<CountryCode>), NumberFault> {
        let default = self.rules.iter().find(|rule| rule.default);
        let Some(given) = given else {
            return Ok(match default {
                Some(rule) => (
                    &rule.pattern,
                    rule.country_code.as_deref().and_then(CountryCode::parse),
                ),
                None => (&self.default_pattern, None),
            });
        };
        let own = self
            .rules
            .iter()
            .find(|rule| rule.country_code.as_deref() == Some(given.as_str()));
        match (own.or(default), check) {
            (Some(rule), _) => Ok((&rule.pattern, Some(given))),
            (None, Check::BoundsOnly) => Ok((&self.default_pattern, Some(given))),
            (None, Check::Full) => Err(NumberFault::UnknownCountry(Some(given))),
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const DEFAULT: &str = "^[6-9][0-9]{9}$";
    const UNKNOWN: &str = "Mobile number validation configuration not found for country code: ";
    const MISMATCH: &str = "Mobile number must match the configured pattern: ";
    const BROKEN: &str = "Invalid mobile number validation pattern configured.";

    fn entry(country_code: Option<&str>, pattern: &str, default: bool) -> RuleEntry {
        RuleEntry {
            country_code: country_code.map(str::to_owned),
            pattern: pattern.to_owned(),
            default,
        }
    }

    fn rules(entries: &[(Option<&str>, &str, bool)]) -> NumberRules {
        let entries = entries
            .iter()
            .map(|(code, pattern, default)| entry(*code, pattern, *default))
            .collect();
        NumberRules::from_entries(entries, DEFAULT)
    }

    /// The country code to go on with (empty: none), or the reason.
    fn outcome(
        rules: &NumberRules,
        number: &str,
        code: Option<&str>,
        check: Check,
    ) -> Result<String, String> {
        match rules.check(number, code, check) {
            Ok((_, code)) => Ok(code.map_or(String::new(), |code| code.as_str().to_owned())),
            Err(fault) => Err(fault.to_string()),
        }
    }

    fn india_and_ethiopia() -> NumberRules {
        rules(&[
            (Some("+91"), "[6-9][0-9]{9}", true),
            (Some("+251"), "[79][0-9]{8}", false),
        ])
    }

    fn ethiopia_alone() -> NumberRules {
        rules(&[(Some("+251"), "[79][0-9]{8}", false)])
    }

    #[rstest]
    #[case::own_entry(india_and_ethiopia(), Some("+251"), "912345678", Ok("+251"))]
    #[case::own_entry_decides(india_and_ethiopia(), Some("+251"), "9876543210", Err(format!("{MISMATCH}[79][0-9]{{8}}")))]
    #[case::default_entry_keeps_the_given_code(
        india_and_ethiopia(),
        Some("+1"),
        "9876543210",
        Ok("+1")
    )]
    #[case::default_entry_gives_its_code(india_and_ethiopia(), None, "9876543210", Ok("+91"))]
    #[case::blank_code_is_none(india_and_ethiopia(), Some(" "), "9876543210", Ok("+91"))]
    #[case::no_entry_for_a_given_code(ethiopia_alone(), Some("+1"), "9876543210", Err(format!("{UNKNOWN}+1")))]
    #[case::no_entry_and_none_given(ethiopia_alone(), None, "9876543210", Ok(""))]
    #[case::no_entry_and_none_given_decides(ethiopia_alone(), None, "912345678", Err(format!("{MISMATCH}{DEFAULT}")))]
    #[case::no_entries_and_a_given_code(rules(&[]), Some("+91"), "9876543210", Err(format!("{UNKNOWN}+91")))]
    #[case::first_default_counts(rules(&[(Some("+1"), "1+", true), (Some("+2"), "2+", true)]), None, "11", Ok("+1"))]
    #[case::first_of_a_code_counts(rules(&[(Some("+1"), "1+", false), (Some("+1"), "2+", false)]), Some("+1"), "11", Ok("+1"))]
    #[case::blank_pattern_is_skipped(rules(&[(Some("+91"), " ", true), (Some("+1"), "9+", true)]), None, "99", Ok("+1"))]
    #[case::default_without_a_code(rules(&[(None, "9+", true)]), None, "99", Ok(""))]
    #[case::default_with_a_blank_code(rules(&[(Some(""), "9+", true)]), None, "99", Ok(""))]
    #[case::broken_pattern(rules(&[(Some("+91"), "(", true)]), None, "99", Err(BROKEN.to_owned()))]
    #[case::code_is_no_code(india_and_ethiopia(), Some("9876543210"), "9876543210", Err(format!("{UNKNOWN}(invalid)")))]
    #[case::long_number(rules(&[(None, "[0-9]+", true)]), None, "987654321098765432100", Err(format!("{MISMATCH}[0-9]+")))]
    #[case::letters_that_the_pattern_takes(rules(&[(None, ".+", true)]), None, "98765abcde", Err(format!("{MISMATCH}.+")))]
    fn the_rule_is_chosen_as_documented(
        #[case] rules: NumberRules,
        #[case] code: Option<&str>,
        #[case] number: &str,
        #[case] expected: Result<&str, String>,
    ) {
        assert_eq!(
            outcome(&rules, number, code, Check::Full),
            expected.map(str::to_owned)
        );
    }

    #[rstest]
    #[case::pattern_is_not_asked(india_and_ethiopia(), None, "123", Ok("+91"))]
    #[case::broken_pattern_is_not_asked(rules(&[(Some("+91"), "(", true)]), None, "123", Ok("+91"))]
    #[case::a_code_without_an_entry_is_kept(ethiopia_alone(), Some("+1"), "123", Ok("+1"))]
    #[case::letters(india_and_ethiopia(), None, "98765abcde", Err(format!("{MISMATCH}[6-9][0-9]{{9}}")))]
    #[case::long(ethiopia_alone(), Some("+1"), "987654321098765432100", Err(format!("{MISMATCH}{DEFAULT}")))]
    #[case::code_is_no_code(india_and_ethiopia(), Some("+0"), "9876543210", Err(format!("{UNKNOWN}(invalid)")))]
    fn a_password_reset_is_checked_for_bounds_alone(
        #[case] rules: NumberRules,
        #[case] code: Option<&str>,
        #[case] number: &str,
        #[case] expected: Result<&str, String>,
    ) {
        assert_eq!(
            outcome(&rules, number, code, Check::BoundsOnly),
            expected.map(str::to_owned)
        );
    }

    #[rstest]
    #[case::none_given(None, Check::Full, Ok(""))]
    #[case::configured(Some("+91"), Check::Full, Ok("+91"))]
    #[case::not_configured(Some("+1"), Check::Full, Err(format!("{UNKNOWN}+1")))]
    #[case::not_configured_for_a_reset(Some("+1"), Check::BoundsOnly, Ok("+1"))]
    fn without_mdms_only_configured_country_codes_are_taken(
        #[case] code: Option<&str>,
        #[case] check: Check,
        #[case] expected: Result<&str, String>,
    ) {
        let rules = NumberRules::without_mdms(DEFAULT, &["+91".to_owned()]);
        assert_eq!(
            outcome(&rules, "9876543210", code, check),
            expected.map(str::to_owned)
        );
        assert_eq!(
            outcome(&rules, "123", None, Check::Full),
            Err(format!("{MISMATCH}{DEFAULT}"))
        );
    }

    #[test]
    fn an_endless_answer_is_cut() {
        let entries = (0..100_000)
            .map(|_| entry(Some("+1"), "1", false))
            .collect();
        assert_eq!(
            NumberRules::from_entries(entries, DEFAULT).rules.len(),
            MAX_ENTRIES
        );
    }

    #[test]
    fn no_usable_entry_is_empty() {
        assert!(rules(&[(Some("+91"), "", true)]).is_empty());
        assert!(!india_and_ethiopia().is_empty());
    }
}
