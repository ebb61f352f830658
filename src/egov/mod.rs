//! The four services that are called.

pub mod standin;

/// A service that is called, by the word that settings, logs and the stand-ins have for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Service {
    /// egov-user.
    Users,
    /// egov-otp.
    Otp,
    /// egov-localization.
    Texts,
    /// egov-mdms.
    Rules,
}

impl Service {
    /// Every service.
    pub const ALL: [Self; 4] = [Self::Users, Self::Otp, Self::Texts, Self::Rules];

    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Users => "users",
            Self::Otp => "otp",
            Self::Texts => "texts",
            Self::Rules => "rules",
        }
    }

    /// The service with this word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|service| service.as_str() == word)
    }
}
