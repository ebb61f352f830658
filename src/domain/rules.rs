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
                Verdict::None => Err(NumberFault::BrokenPattern),
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
