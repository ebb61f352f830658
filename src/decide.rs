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
