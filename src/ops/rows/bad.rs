//! Why a row is no request, in words that have nothing of the row in them.

use super::fields::Column;
use super::source::LONGEST;

/// What is wrong with a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum BadRow {
    /// A text in it is in another encoding.
    #[error("not UTF-8: save the file as UTF-8")]
    NotUtf8,
    /// It does not end.
    #[error("longer than {LONGEST} bytes")]
    TooLong,
    /// A quote in it has no second one.
    #[error("a quote is not closed")]
    OpenQuote,
    /// It has other cells than the first line.
    #[error("{found} cells where the first line has {wanted}")]
    Columns {
        /// Cells that it has.
        found: usize,
        /// Cells that the first line has.
        wanted: usize,
    },
    /// It has something in a column without a name.
    #[error("something in a column that has no name")]
    Unnamed,
    /// It is no JSON.
    #[error("not JSON at column {column}")]
    NotJson {
        /// The byte of the line, from 1.
        column: usize,
    },
    /// It is JSON of another shape.
    #[error("no object with texts in it")]
    WrongShape,
    /// It has a member that nobody knows.
    #[error(
        "a name that is not known: known are tenant type mobile userType countryCode locale eventId"
    )]
    UnknownName,
    /// It has a member under two names.
    #[error("{} twice", .0.as_str())]
    Twice(Column),
    /// A text is missing that every request needs.
    #[error("no {}", .0.as_str())]
    Missing(Column),
    /// The tenant is none.
    #[error("the tenant is no tenant id")]
    Tenant,
    /// The type is none of the three.
    #[error("the type is none of login register passwordreset")]
    Type,
    /// The number is none, or none of this tenant's.
    #[error(
        "the mobile number does not fit the rules for numbers: a spreadsheet may have rewritten it"
    )]
    Mobile,
    /// The country code is none.
    #[error("the country code is no dialling prefix as +91")]
    CountryCode,
    /// There are no rules for this country.
    #[error("the country code is not taken here")]
    Country,
    /// The locale is none.
    #[error("the locale is no language with or without a country as hi_IN")]
    Locale,
    /// The event id is none.
    #[error("the event id is not 1 to 128 printable ASCII characters")]
    EventId,
}

impl BadRow {
    /// The kind of it, for counts.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::NotUtf8 => "not UTF-8",
            Self::TooLong => "too long",
            Self::OpenQuote => "open quote",
            Self::Columns { .. } | Self::Unnamed => "wrong number of cells",
            Self::NotJson { .. } => "not JSON",
            Self::WrongShape => "wrong shape",
            Self::UnknownName => "unknown name",
            Self::Twice(_) => "named twice",
            Self::Missing(_) => "something missing",
            Self::Tenant => "tenant",
            Self::Type => "type",
            Self::Mobile => "mobile number",
            Self::CountryCode | Self::Country => "country code",
            Self::Locale => "locale",
            Self::EventId => "event id",
        }
    }
}
