//! A user as egov-user knows them.

use super::contact::{EmailAddress, MobileNumber};

/// The first user that egov-user found: what of it matters here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// egov-user's id, as its text.
    pub id: Option<String>,
    /// The number stored on the user: where a password reset goes.
    pub mobile: Option<MobileNumber>,
    /// The address stored on the user; none where it is blank.
    pub email: Option<EmailAddress>,
}
