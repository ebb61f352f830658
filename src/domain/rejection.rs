//! What the business rules refuse, with the platform's own codes and sentences.
//!
//! A rejection is an answer to a citizen, not a failure: its words are the ones that the
//! platform's front ends show and match on, so they are kept to the letter, spelling included.
//! No sentence repeats a mobile number.

use std::borrow::Cow;

use serde::Serialize;

use super::rules::NumberFault;

/// Why a request is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rejection {
    /// The request itself is not valid: every fault that was found, in the documented order.
    Invalid(Vec<FieldError>),
    /// A registration for a number that already belongs to a user.
    AlreadyRegistered,
    /// A login for a number that belongs to no user.
    UnknownCredential,
    /// A password reset for a number that belongs to no user.
    UnknownNumber,
    /// A password reset for a user on whom no number is stored.
    NoStoredNumber,
}

/// One fault of a request, as the HTTP answer lists it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FieldError {
    /// The platform's code, such as `OTP.TENANT_ID_MANDATORY`.
    pub code: &'static str,
    /// The sentence that belongs to it.
    pub message: Cow<'static, str>,
    /// The property that is at fault, as a path.
    pub field: &'static str,
}

impl Rejection {
    /// The sentence over all of it (`error.message`).
    #[must_use]
    pub fn message(&self) -> &'static str {
        match self {
            Self::Invalid(_) => "Invalid OTP request",
            Self::AlreadyRegistered => "OTP request for register failed",
            Self::UnknownCredential => "OTP request for login failed",
            Self::UnknownNumber | Self::NoStoredNumber => "OTP request for password reset failed",
        }
    }

    /// The faults one by one (`error.fields`).
    #[must_use]
    pub fn fields(&self) -> Vec<FieldError> {
        match self {
            Self::Invalid(faults) => faults.clone(),
            Self::AlreadyRegistered => vec![FieldError::of_number(
                "OTP.MOBILENUMBER",
                "This MobileNumber Already Register as UserName in System. Pls try Another UserName",
            )],
            Self::UnknownCredential => {
                vec![FieldError::of_number(
                    "OTP.UNKNOWN_CREDENTIAL",
                    "No such username or password",
                )]
            }
            Self::UnknownNumber => {
                vec![FieldError::of_number(
                    "OTP.UNKNOWN_MOBILE_NUMBER",
                    "Mobile number is unknown.",
                )]
            }
            Self::NoStoredNumber => {
                vec![FieldError::of_number(
                    "OTP.MOBILE_NUMBER",
                    "MobileNumber Not Found For This User.",
                )]
            }
        }
    }

    /// The first fault's code: what the outcome record says. An invalid request has one at least.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Invalid(faults) => faults.first().map_or("OTP.INVALID", |fault| fault.code),
            Self::AlreadyRegistered => "OTP.MOBILENUMBER",
            Self::UnknownCredential => "OTP.UNKNOWN_CREDENTIAL",
            Self::UnknownNumber => "OTP.UNKNOWN_MOBILE_NUMBER",
            Self::NoStoredNumber => "OTP.MOBILE_NUMBER",
        }
    }
}

impl FieldError {
    /// The request names no tenant.
    pub const TENANT_MANDATORY: Self = Self {
        code: "OTP.TENANT_ID_MANDATORY",
        message: Cow::Borrowed("Tenant field is mandatory"),
        field: "otp.tenantId",
    };

    /// The request has no mobile number.
    pub const NUMBER_MANDATORY: Self = Self::of_number(
        "OTP.MOBILE_NUMBER_MANDATORY",
        "Mobile number field is mandatory",
    );

    /// The request's type is none of the three.
    pub const TYPE_MANDATORY: Self = Self {
        code: "OTP.REQUEST_TYPE_MANDATORY",
        message: Cow::Borrowed("Request type (register, passwordreset,login) is mandatory"),
        field: "otp.type",
    };

    /// The tenant id has another shape than a tenant id's, or its SMS topic does not exist.
    pub const TENANT_INVALID: Self = Self {
        code: "OTP.TENANT_ID_INVALID",
        message: Cow::Borrowed("Tenant id is not valid"),
        field: "otp.tenantId",
    };

    /// The request's `Idempotency-Key` is none.
    pub const KEY_INVALID: Self = Self {
        code: "OTP.IDEMPOTENCY_KEY_INVALID",
        message: Cow::Borrowed("Idempotency key must be 1 to 128 printable ASCII characters"),
        field: "Idempotency-Key",
    };

    /// The mobile number, or the country code with it, does not fit the rules.
    #[must_use]
    pub fn number_invalid(fault: &NumberFault) -> Self {
        Self {
            code: "OTP.MOBILE_NUMBER_VALIDATION_FAILED",
            message: Cow::Owned(fault.to_string()),
            field: "otp.mobileNumber",
        }
    }

    const fn of_number(code: &'static str, message: &'static str) -> Self {
        Self {
            code,
            message: Cow::Borrowed(message),
            field: "otp.mobileNumber",
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(
        Rejection::AlreadyRegistered,
        "OTP request for register failed",
        "OTP.MOBILENUMBER",
        "This MobileNumber Already Register as UserName in System. Pls try Another UserName"
    )]
    #[case(
        Rejection::UnknownCredential,
        "OTP request for login failed",
        "OTP.UNKNOWN_CREDENTIAL",
        "No such username or password"
    )]
    #[case(
        Rejection::UnknownNumber,
        "OTP request for password reset failed",
        "OTP.UNKNOWN_MOBILE_NUMBER",
        "Mobile number is unknown."
    )]
    #[case(
        Rejection::NoStoredNumber,
        "OTP request for password reset failed",
        "OTP.MOBILE_NUMBER",
        "MobileNumber Not Found For This User."
    )]
    fn words_are_the_platforms(
        #[case] rejection: Rejection,
        #[case] message: &str,
        #[case] code: &str,
        #[case] reason: &str,
    ) {
        assert_eq!(rejection.message(), message);
        assert_eq!(rejection.code(), code);
        let fields = rejection.fields();
        assert_eq!(fields.len(), 1);
        assert_eq!(
            (fields[0].code, &*fields[0].message, fields[0].field),
            (code, reason, "otp.mobileNumber")
        );
    }

    #[test]
    fn an_invalid_request_says_each_fault_and_is_known_by_the_first() {
        let faults = vec![FieldError::TENANT_MANDATORY, FieldError::NUMBER_MANDATORY];
        let rejection = Rejection::Invalid(faults.clone());
        assert_eq!(rejection.message(), "Invalid OTP request");
        assert_eq!(rejection.code(), "OTP.TENANT_ID_MANDATORY");
        assert_eq!(rejection.fields(), faults);
    }

    #[test]
    fn a_fault_serializes_as_the_http_answer_has_it() {
        let json = serde_json::to_string(&FieldError::TYPE_MANDATORY).expect("serializes");
        assert_eq!(
            json,
            r#"{"code":"OTP.REQUEST_TYPE_MANDATORY","message":"Request type (register, passwordreset,login) is mandatory","field":"otp.type"}"#
        );
    }
}
