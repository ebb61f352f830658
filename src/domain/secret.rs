//! The one-time password itself.

use std::fmt;

use secrecy::{ExposeSecret, SecretString};

/// The longest OTP that is believed, in bytes. egov-otp makes six digits; whatever is longer than
/// this is some other text in its place.
const MAX_LENGTH: usize = 64;

/// A one-time password. It is wiped from memory when dropped, and prints itself masked.
#[derive(Clone)]
pub struct Otp(SecretString);

impl Otp {
    /// What egov-otp answered; none where that is empty, blank or too long to be an OTP.
    #[must_use]
    pub fn new(text: String) -> Option<Self> {
        let text = SecretString::from(text);
        let usable =
            !text.expose_secret().trim().is_empty() && text.expose_secret().len() <= MAX_LENGTH;
        usable.then_some(Self(text))
    }

    /// The OTP in clear, for the message that carries it.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl fmt::Debug for Otp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Otp(***)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_blank_or_endless_otp_is_none() {
        assert!(Otp::new(String::new()).is_none());
        assert!(Otp::new(" \n".to_owned()).is_none());
        assert!(Otp::new("1".repeat(65)).is_none());
        assert_eq!(
            Otp::new("1".repeat(64)).expect("an OTP").expose(),
            "1".repeat(64)
        );
    }

    #[test]
    fn debug_shows_nothing() {
        let otp = Otp::new("482915".to_owned()).expect("an OTP");
        assert_eq!(format!("{otp:?}"), "Otp(***)");
    }
}
