//! A request, in its two states: a [`Submission`] is what somebody sent, an [`OtpRequest`] is what
//! may be acted on. Only [`Submission::validate`] leads from one to the other.
//!
//! Reading is tolerant, as the platform's own services are: clients of ten years send this body.
//! What cannot be read at all is a [`DecodeError`], which says where and of which kind, never the
//! text: JSON errors like to quote it, and the text has numbers in it.

use std::fmt;

use super::contact::{CountryCode, MobileNumber};
use super::rejection::{FieldError, Rejection};
use super::rules::{Check, NumberFault, NumberRules};
use super::tenant::TenantId;
use crate::outcome::Code;
use crate::wire;

/// What was sent, read but not judged. Its texts are kept as they came, up to 1,024 bytes each:
/// what is longer is not valid anyway.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Submission {
    pub(crate) tenant: Option<String>,
    pub(crate) mobile: Option<String>,
    pub(crate) kind: Option<String>,
    pub(crate) user_type: Option<String>,
    pub(crate) country_code: Option<String>,
    pub(crate) locale: Option<Locale>,
    /// What the body lacks altogether.
    pub(crate) missing: Option<Missing>,
}

/// What an object lacks that is no request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Missing {
    /// `otp`.
    Otp,
    /// Each of the fields in it.
    Fields,
}

/// A request that may be acted on: every field was checked.
#[derive(Clone, PartialEq, Eq)]
pub struct OtpRequest {
    /// Whose citizen asks.
    pub tenant: TenantId,
    /// The number that the request names: the OTP's identity.
    pub mobile: MobileNumber,
    /// What the OTP is for.
    pub kind: RequestType,
    /// The user type as it was given; `EMPLOYEE` changes where the user is looked up.
    pub user_type: Option<String>,
    /// The dialling prefix, as given or as the default rule has it.
    pub country_code: Option<CountryCode>,
    /// The language that was asked for.
    pub locale: Option<Locale>,
}

/// What an OTP is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RequestType {
    /// A new user confirms their number.
    Register,
    /// A user logs in.
    Login,
    /// A user sets a new password.
    PasswordReset,
}

/// A language and country such as `en_IN`: `^[a-z]{2,3}(_[A-Z]{2})?$`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Locale(Box<str>);

/// A value that cannot be read as a request. It says where, never what was there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{} at line {line}, column {column}{}", code.as_str(), hint.map_or("", Hint::as_str))]
pub struct DecodeError {
    /// The kind of fault.
    pub code: Code,
    /// The line it is on, from 1; 0 where there is no text at all.
    pub line: usize,
    /// The byte of that line, from 1; 0 at the end of a line before.
    pub column: usize,
    /// What its producer probably did.
    pub hint: Option<Hint>,
}

/// A known way of writing a request so that it cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hint {
    /// `"{\"otp\": …}"`.
    JsonInText,
    /// A byte 0 and the number of a schema before the value.
    SchemaRegistry,
    /// `{"schema": …, "payload": …}`.
    Envelope,
}

impl Hint {
    /// What `value` looks like.
    pub(crate) fn of(value: &[u8]) -> Option<Self> {
        let text = value.trim_ascii_start();
        let members = text.strip_prefix(b"{").map(<[u8]>::trim_ascii_start);
        let begins = |name: &[u8]| members.is_some_and(|members| members.starts_with(name));
        if value.first() == Some(&0) {
            Some(Self::SchemaRegistry)
        } else if text.starts_with(b"\"{") {
            Some(Self::JsonInText)
        } else if begins(b"\"schema\"") || begins(b"\"payload\"") || begins(b"\"specversion\"") {
            Some(Self::Envelope)
        } else {
            None
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::JsonInText => {
                ": it is JSON inside a JSON string; publish the object itself, with a serializer for strings or bytes"
            }
            Self::SchemaRegistry => {
                ": it begins with a byte 0, as a schema registry's serializers write it; publish plain JSON"
            }
            Self::Envelope => {
                ": it is an envelope of Kafka Connect, Debezium or CloudEvents; publish the request alone (Connect: \
                 value.converter.schemas.enable=false)"
            }
        }
    }
}

impl Submission {
    /// Reads the body of an HTTP request.
    ///
    /// # Errors
    /// When there is nothing to read, it is not UTF-8, not JSON, or JSON of another shape.
    pub fn decode(body: &[u8]) -> Result<Self, DecodeError> {
        wire::read_submission(body)
    }

    /// Reads the value of a record. Its producer hears of no rejection, so an object that has nothing of a
    /// request cannot be read either.
    ///
    /// # Errors
    /// The same, and when the object has no `otp`, or that has none of a request's fields.
    pub fn of_record(value: Option<&[u8]>) -> Result<Self, DecodeError> {
        let value = value.unwrap_or_default();
        let nothing = DecodeError {
            code: Code::WrongShape,
            line: 1,
            column: 1,
            hint: None,
        };
        wire::read_submission(value)
            .and_then(|read| match read.missing {
                Some(_) => Err(nothing),
                None => Ok(read),
            })
            .map_err(|error| DecodeError {
                hint: Hint::of(value),
                ..error
            })
    }

    /// The tenant as it was sent.
    #[must_use]
    pub fn tenant(&self) -> Option<&str> {
        self.tenant.as_deref()
    }

    /// The mobile number as it was sent, in clear.
    #[must_use]
    pub fn mobile(&self) -> Option<&str> {
        self.mobile.as_deref()
    }

    /// Whether both are one person's and ask for the same, so that one message is an answer to both.
    #[must_use]
    pub fn asks_the_same(&self, other: &Self) -> bool {
        let kind = self.request_type();
        kind.is_some()
            && kind == other.request_type()
            && self.tenant == other.tenant
            && self.mobile == other.mobile
            && self.user_type == other.user_type
            && self.country_code == other.country_code
            && self.locale == other.locale
    }

    /// The tenant for headers and outcomes: where it is valid.
    #[must_use]
    pub fn tenant_label(&self) -> Option<&str> {
        self.tenant().filter(|text| TenantId::is_valid(text))
    }

    /// The type for headers and outcomes: where it is one of the three.
    #[must_use]
    pub fn type_label(&self) -> Option<&'static str> {
        self.request_type().map(RequestType::as_str)
    }

    /// Whose rules the number is to be checked against; none where it is not to be checked, since
    /// the tenant or the number is missing, or the tenant is not valid.
    #[must_use]
    pub fn number_tenant(&self) -> Option<TenantId> {
        let _number = present(&self.mobile)?;
        TenantId::parse(present(&self.tenant)?).ok()
    }

    /// Judges the request. `rules` are those of [`Submission::number_tenant`]'s state; where it
    /// names none they are not looked at. A number that is to be checked without rules is refused:
    /// nothing is sent on a guess.
    ///
    /// # Errors
    /// With every fault of the request, in the documented order.
    pub fn validate(&self, rules: Option<&NumberRules>) -> Result<OtpRequest, Rejection> {
        let tenant = present(&self.tenant).map(TenantId::parse);
        let mobile = present(&self.mobile);
        let kind = self.request_type();
        let mut faults = Vec::new();
        if tenant.is_none() {
            faults.push(FieldError::TENANT_MANDATORY);
        }
        if mobile.is_none() {
            faults.push(FieldError::NUMBER_MANDATORY);
        }
        if kind.is_none() {
            faults.push(FieldError::TYPE_MANDATORY);
        }
        if let Some(Err(_)) = tenant {
            faults.push(FieldError::TENANT_INVALID);
        }
        let (Some(Ok(tenant)), Some(mobile)) = (tenant, mobile) else {
            return Err(Rejection::Invalid(faults));
        };
        match (self.check_number(mobile, kind, rules), kind) {
            (Ok((mobile, country_code)), Some(kind)) => Ok(OtpRequest {
                tenant,
                mobile,
                kind,
                user_type: self.user_type.clone(),
                country_code,
                locale: self.locale.clone(),
            }),
            (Ok(_), None) => Err(Rejection::Invalid(faults)),
            (Err(fault), _) => {
                faults.push(FieldError::number_invalid(&fault));
                Err(Rejection::Invalid(faults))
            }
        }
    }

    /// Judges the number and its country code alone, as `kind` has them judged.
    ///
    /// # Errors
    /// With the first fault.
    pub(crate) fn check_number(
        &self,
        mobile: &str,
        kind: Option<RequestType>,
        rules: Option<&NumberRules>,
    ) -> Result<(MobileNumber, Option<CountryCode>), NumberFault> {
        let check = match kind {
            Some(RequestType::PasswordReset) => Check::BoundsOnly,
            Some(RequestType::Register | RequestType::Login) | None => Check::Full,
        };
        rules
            .ok_or(NumberFault::BrokenPattern)?
            .check(mobile, self.country_code.as_deref(), check)
    }

    /// The type; none where it is none of the three, or there is no `otp` that would have one by default.
    pub(crate) fn request_type(&self) -> Option<RequestType> {
        if self.missing == Some(Missing::Otp) {
            return None;
        }
        present(&self.kind).map_or(Some(RequestType::Register), RequestType::parse)
    }
}

impl fmt::Debug for Submission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Submission")
            .field("tenant", &self.tenant_label())
            .field("type", &self.type_label())
            .finish_non_exhaustive()
    }
}

/// What strangers wrote as free text is left out, since it may be anything.
impl fmt::Debug for OtpRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OtpRequest")
            .field("tenant", &self.tenant)
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}

impl OtpRequest {
    /// The tenant under which egov-user knows the user: employees at their own, everybody else at
    /// the state's.
    #[must_use]
    pub fn search_tenant(&self) -> &str {
        match self.user_type.as_deref() {
            Some("EMPLOYEE") => self.tenant.as_str(),
            Some(_) | None => self.tenant.first_part(),
        }
    }
}

impl RequestType {
    /// Parses a type's name, without regard to case.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Register, Self::Login, Self::PasswordReset]
            .into_iter()
            .find(|kind| text.eq_ignore_ascii_case(kind.as_str()))
    }

    /// The type's name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Register => "register",
            Self::Login => "login",
            Self::PasswordReset => "passwordreset",
        }
    }
}

impl Locale {
    /// Parses a locale; none where the text has another shape.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (language, country) = match text.split_once('_') {
            Some((language, country)) => (language, Some(country)),
            None => (text, None),
        };
        let fits = (2..=3).contains(&language.len())
            && language.bytes().all(|byte| byte.is_ascii_lowercase())
            && country.is_none_or(|country| {
                country.len() == 2 && country.bytes().all(|byte| byte.is_ascii_uppercase())
            });
        fits.then(|| Self(text.into()))
    }

    /// The locale in a `msgId`: what is after its first bar, up to the next.
    #[must_use]
    pub fn from_msg_id(msg_id: &str) -> Option<Self> {
        Self::parse(msg_id.split('|').nth(1)?)
    }

    /// The locale's text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A text that is there and not empty.
fn present(text: &Option<String>) -> Option<&str> {
    text.as_deref().filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    const RULES: &str = "^[6-9][0-9]{9}$";

    fn rules() -> NumberRules {
        NumberRules::without_mdms(RULES, &["+91".to_owned()])
    }

    fn submission(tenant: Option<&str>, mobile: Option<&str>, kind: Option<&str>) -> Submission {
        Submission {
            tenant: tenant.map(str::to_owned),
            mobile: mobile.map(str::to_owned),
            kind: kind.map(str::to_owned),
            ..Submission::default()
        }
    }

    fn codes(submission: &Submission) -> Vec<&'static str> {
        match submission.validate(Some(&rules())) {
            Ok(_) => Vec::new(),
            Err(rejection) => rejection.fields().iter().map(|fault| fault.code).collect(),
        }
    }

    const TENANT: &str = "OTP.TENANT_ID_MANDATORY";
    const NUMBER: &str = "OTP.MOBILE_NUMBER_MANDATORY";
    const TYPE: &str = "OTP.REQUEST_TYPE_MANDATORY";
    const TENANT_INVALID: &str = "OTP.TENANT_ID_INVALID";
    const NUMBER_INVALID: &str = "OTP.MOBILE_NUMBER_VALIDATION_FAILED";

    #[rstest]
    #[case::valid(Some("pb"), Some("9876543210"), Some("login"), &[])]
    #[case::nothing(None, None, None, &[TENANT, NUMBER])]
    #[case::empty_texts(Some(""), Some(""), Some(""), &[TENANT, NUMBER])]
    #[case::everything_wrong(None, None, Some("signup"), &[TENANT, NUMBER, TYPE])]
    #[case::invalid_tenant_without_a_number(Some("p b"), None, Some("signup"), &[NUMBER, TYPE, TENANT_INVALID])]
    #[case::number_of_an_invalid_tenant_is_not_checked(Some("p b"), Some("1"), Some("login"), &[TENANT_INVALID])]
    #[case::number_without_a_tenant_is_not_checked(None, Some("1"), Some("login"), &[TENANT])]
    #[case::invalid_number_and_type(Some("pb"), Some("1"), Some("signup"), &[TYPE, NUMBER_INVALID])]
    #[case::invalid_type(Some("pb"), Some("9876543210"), Some("signup"), &[TYPE])]
    #[case::blank_type_is_not_empty(Some("pb"), Some("9876543210"), Some(" "), &[TYPE])]
    #[case::reset_skips_the_pattern(Some("pb"), Some("123"), Some("passwordreset"), &[])]
    #[case::reset_has_bounds(Some("pb"), Some("12x"), Some("passwordreset"), &[NUMBER_INVALID])]
    fn every_fault_is_reported_in_order(
        #[case] tenant: Option<&str>,
        #[case] mobile: Option<&str>,
        #[case] kind: Option<&str>,
        #[case] expected: &[&str],
    ) {
        assert_eq!(codes(&submission(tenant, mobile, kind)), expected);
    }

    #[rstest]
    #[case(Some("pb"), Some("9876543210"), true)]
    #[case(Some("p b"), Some("9876543210"), false)]
    #[case(Some(""), Some("9876543210"), false)]
    #[case(None, Some("9876543210"), false)]
    #[case(Some("pb"), Some(""), false)]
    #[case(Some("pb"), None, false)]
    fn rules_are_needed_exactly_where_the_number_is_checked(
        #[case] tenant: Option<&str>,
        #[case] mobile: Option<&str>,
        #[case] needed: bool,
    ) {
        let submission = submission(tenant, mobile, None);
        assert_eq!(submission.number_tenant().is_some(), needed);
        let without = submission
            .validate(None)
            .expect_err("nothing is valid without rules");
        assert_eq!(
            without
                .fields()
                .iter()
                .any(|fault| fault.code == NUMBER_INVALID),
            needed
        );
    }

    #[rstest]
    #[case::absent(None, Some(RequestType::Register))]
    #[case::empty(Some(""), Some(RequestType::Register))]
    #[case::any_case(Some("PasswordRESET"), Some(RequestType::PasswordReset))]
    #[case::login(Some("LOGIN"), Some(RequestType::Login))]
    #[case::other(Some("reset"), None)]
    #[case::other_script(Some("regiſter"), None)]
    fn type_is_read_without_regard_to_case(
        #[case] text: Option<&str>,
        #[case] expected: Option<RequestType>,
    ) {
        let submission = submission(None, None, text);
        assert_eq!(submission.request_type(), expected);
        assert_eq!(submission.type_label(), expected.map(RequestType::as_str));
    }

    #[rstest]
    #[case(Some("EMPLOYEE"), "pb.amritsar")]
    #[case(Some("employee"), "pb")]
    #[case(Some("CITIZEN"), "pb")]
    #[case(None, "pb")]
    fn employees_are_looked_up_at_their_own_tenant(
        #[case] user_type: Option<&str>,
        #[case] expected: &str,
    ) {
        let mut submission = submission(Some("pb.amritsar"), Some("9876543210"), None);
        submission.user_type = user_type.map(str::to_owned);
        let request = submission.validate(Some(&rules())).expect("valid");
        assert_eq!(request.search_tenant(), expected);
    }

    #[rstest]
    #[case("20170310130900|en_IN", Some("en_IN"))]
    #[case("|hi_IN|more", Some("hi_IN"))]
    #[case("a|pa|hi_IN", Some("pa"))]
    #[case("20170310130900", None)]
    #[case("x|", None)]
    #[case("x||hi_IN", None)]
    #[case("x|hi_IN ", None)]
    #[case("x|HI_in", None)]
    #[case("x|hi_", None)]
    #[case("x|hi_IN_x", None)]
    #[case("x|h", None)]
    #[case("x|hind", None)]
    #[case("x|hi_IN&tenantId=pg", None)]
    #[case("x|../../etc", None)]
    fn locale_is_what_follows_the_first_bar(#[case] msg_id: &str, #[case] expected: Option<&str>) {
        assert_eq!(
            Locale::from_msg_id(msg_id).as_ref().map(Locale::as_str),
            expected
        );
    }

    #[test]
    fn labels_are_for_what_is_valid() {
        let valid = submission(Some("pb.amritsar"), None, Some("Login"));
        assert_eq!(
            (valid.tenant_label(), valid.type_label()),
            (Some("pb.amritsar"), Some("login"))
        );
        let invalid = submission(Some("9876543210"), None, Some("9876543210"));
        assert_eq!((invalid.tenant_label(), invalid.type_label()), (None, None));
    }

    #[test]
    fn debug_shows_nothing_that_a_stranger_wrote() {
        let stranger = || Some("9876543210".to_owned());
        let mut submission = Submission {
            tenant: stranger(),
            mobile: stranger(),
            kind: stranger(),
            user_type: stranger(),
            country_code: stranger(),
            locale: None,
            missing: None,
        };
        assert!(!format!("{submission:?}").contains("98765"));
        submission.tenant = Some("pb".to_owned());
        submission.kind = None;
        submission.country_code = None;
        let request = submission.validate(Some(&rules())).expect("valid");
        assert!(!format!("{request:?}").contains("98765"));
    }

    proptest! {
        #[test]
        fn a_rejection_never_repeats_the_number(
            mobile in "[0-9+a-z -]{5,30}",
            country in proptest::option::of("[+0-9a-z]{0,12}"),
            kind in "(register|login|passwordreset|other)",
        ) {
            let mut submission = submission(Some("pb"), Some(&mobile), Some(&kind));
            submission.country_code = country;
            if let Err(rejection) = submission.validate(Some(&rules())) {
                let said = format!("{rejection:?} {:?} {}", rejection.fields(), rejection.message());
                prop_assert!(!said.contains(&mobile));
            }
        }
    }
}
