//! Who gets a message, and who gets a refusal: the business rules as one table.

use crate::domain::contact::{EmailAddress, MobileNumber};
use crate::domain::rejection::Rejection;
use crate::domain::request::{OtpRequest, RequestType};
use crate::domain::user::User;

/// Where the messages of a request go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recipients {
    /// The number that gets the SMS.
    pub sms_to: MobileNumber,
    /// The address that gets the email, where there is one.
    pub email_to: Option<EmailAddress>,
}

/// Decides a valid request, once it is known whether the user exists.
///
/// A password reset goes to the number *stored on the user*, never to the requested one: who asks
/// for it need not be who owns the account.
///
/// # Errors
/// With the refusal, where the rules say no.
pub fn decide(request: &OtpRequest, user: Option<&User>) -> Result<Recipients, Rejection> {
    match (request.kind, user) {
        (RequestType::Register, None) => Ok(Recipients {
            sms_to: request.mobile.clone(),
            email_to: None,
        }),
        (RequestType::Register, Some(_)) => Err(Rejection::AlreadyRegistered),
        (RequestType::Login, Some(user)) => Ok(Recipients {
            sms_to: request.mobile.clone(),
            email_to: user.email.clone(),
        }),
        (RequestType::Login, None) => Err(Rejection::UnknownCredential),
        (RequestType::PasswordReset, Some(user)) => match &user.mobile {
            Some(stored) => Ok(Recipients {
                sms_to: stored.clone(),
                email_to: user.email.clone(),
            }),
            None => Err(Rejection::NoStoredNumber),
        },
        (RequestType::PasswordReset, None) => Err(Rejection::UnknownNumber),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::domain::request::Submission;
    use crate::domain::rules::NumberRules;

    fn request(kind: &str) -> OtpRequest {
        let body =
            format!(r#"{{"otp":{{"tenantId":"pb","mobileNumber":"9876543210","type":"{kind}"}}}}"#);
        let submission = Submission::decode(body.as_bytes()).expect("readable");
        submission
            .validate(Some(&NumberRules::without_mdms("[0-9]{10}", &[])))
            .expect("valid")
    }

    fn user(mobile: &str, email: &str) -> User {
        User {
            id: None,
            mobile: MobileNumber::stored(mobile.to_owned()),
            email: EmailAddress::stored(email.to_owned()),
        }
    }

    #[rstest]
    #[case::register_unknown("register", None, Ok(("9876543210", None)))]
    #[case::register_known(
        "register",
        Some(user("9876543210", "a@b.c")),
        Err(Rejection::AlreadyRegistered)
    )]
    #[case::login_known("login", Some(user("9876500000", "a@b.c")), Ok(("9876543210", Some("a@b.c"))))]
    #[case::login_without_email("login", Some(user("9876500000", " ")), Ok(("9876543210", None)))]
    #[case::login_without_stored_number("login", Some(user("", "")), Ok(("9876543210", None)))]
    #[case::login_unknown("login", None, Err(Rejection::UnknownCredential))]
    #[case::reset_known("passwordreset", Some(user("9876500000", "a@b.c")), Ok(("9876500000", Some("a@b.c"))))]
    #[case::reset_without_email("passwordreset", Some(user("9876500000", "")), Ok(("9876500000", None)))]
    #[case::reset_without_stored_number(
        "passwordreset",
        Some(user(" ", "a@b.c")),
        Err(Rejection::NoStoredNumber)
    )]
    #[case::reset_unknown("passwordreset", None, Err(Rejection::UnknownNumber))]
    fn who_gets_what(
        #[case] kind: &str,
        #[case] user: Option<User>,
        #[case] expected: Result<(&str, Option<&str>), Rejection>,
    ) {
        let decided = decide(&request(kind), user.as_ref());
        let seen = decided.as_ref().map(|to| {
            (
                to.sms_to.expose(),
                to.email_to.as_ref().map(EmailAddress::expose),
            )
        });
        assert_eq!(seen, expected.as_ref().map(|to| *to));
    }
}
