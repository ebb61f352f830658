//! What a row says of a request, column by column, and whether that is one.

use super::{BadRow, RowRequest};
use crate::domain::rejection::FieldError;
use crate::domain::request::{Locale, Submission};
use crate::domain::rules::{NumberFault, NumberRules};
use crate::engine::headers::clean_id;
use crate::wire;

/// Who a request is from where a row does not say so, as for `user-otp send`.
const USER_TYPE: &str = "CITIZEN";

/// A column of a CSV file, or a member of a line of NDJSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Column {
    /// Whose citizen asks.
    Tenant,
    /// login, register or passwordreset.
    Type,
    /// The number.
    Mobile,
    /// CITIZEN or EMPLOYEE.
    UserType,
    /// The dialling prefix.
    CountryCode,
    /// The language.
    Locale,
    /// The request's id.
    EventId,
}

impl Column {
    /// All of them, in the order in which they are told.
    pub const ALL: [Self; 7] = [
        Self::Tenant,
        Self::Type,
        Self::Mobile,
        Self::UserType,
        Self::CountryCode,
        Self::Locale,
        Self::EventId,
    ];

    /// Without these a row is no request.
    pub const MANDATORY: [Self; 3] = [Self::Tenant, Self::Type, Self::Mobile];

    /// The name under which it is told.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tenant => "tenant",
            Self::Type => "type",
            Self::Mobile => "mobile",
            Self::UserType => "userType",
            Self::CountryCode => "countryCode",
            Self::Locale => "locale",
            Self::EventId => "eventId",
        }
    }

    /// The column of this name, in any case, with or without `_`, `-` and spaces.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        let letters = name.chars().filter(|one| !matches!(one, '_' | '-' | ' '));
        let plain: String = letters.map(|one| one.to_ascii_lowercase()).collect();
        Some(match plain.as_str() {
            "tenant" | "tenantid" => Self::Tenant,
            "type" => Self::Type,
            "mobile" | "mobilenumber" => Self::Mobile,
            "usertype" => Self::UserType,
            "countrycode" => Self::CountryCode,
            "locale" => Self::Locale,
            "eventid" => Self::EventId,
            _ => return None,
        })
    }
}

/// What a row is read as.
pub(super) enum Content {
    /// Cells of a table, or members of a flat object.
    Fields(Fields),
    /// The body of a request, and an event id.
    Body(Submission, Option<String>),
}

/// One text for each column; none where it is empty.
#[derive(Default)]
pub(super) struct Fields([Option<String>; 7]);

impl Fields {
    pub(super) fn set(&mut self, column: Column, text: &str) {
        let text = text.trim();
        self.0[column as usize] = (!text.is_empty()).then(|| wire::kept(text));
    }

    pub(super) fn has(&self, column: Column) -> bool {
        self.0[column as usize].is_some()
    }

    pub(super) fn are_empty(&self) -> bool {
        self.0.iter().all(Option::is_none)
    }
}

impl Content {
    /// The request, by the rules of the door. A table says more than a body must: its type, and a
    /// locale that is one.
    pub(super) fn request(self, rules: &NumberRules) -> Result<RowRequest, BadRow> {
        match self {
            Self::Body(submission, event_id) => judged(submission, event_id.as_deref(), rules),
            Self::Fields(fields) => {
                let [
                    tenant,
                    kind,
                    mobile,
                    user_type,
                    country_code,
                    locale,
                    event_id,
                ] = fields.0;
                if kind.is_none() {
                    return Err(BadRow::Missing(Column::Type));
                }
                let locale = match locale {
                    Some(text) => Some(Locale::parse(&text).ok_or(BadRow::Locale)?),
                    None => None,
                };
                let submission = Submission {
                    tenant,
                    mobile,
                    kind,
                    user_type: user_type.or_else(|| Some(USER_TYPE.to_owned())),
                    country_code,
                    locale,
                    missing: None,
                };
                judged(submission, event_id.as_deref(), rules)
            }
        }
    }
}

fn judged(
    submission: Submission,
    event_id: Option<&str>,
    rules: &NumberRules,
) -> Result<RowRequest, BadRow> {
    let Ok(request) = submission.validate(Some(rules)) else {
        return Err(fault(&submission, rules));
    };
    let number = request.mobile.expose().as_bytes();
    let event_id = match event_id {
        Some(id) => Some(clean_id(id.as_bytes(), number).ok_or(BadRow::EventId)?),
        None => None,
    };
    Ok(RowRequest {
        submission,
        request,
        event_id,
    })
}

/// The first of the faults for which the door refuses it.
fn fault(submission: &Submission, rules: &NumberRules) -> BadRow {
    let code = match submission.validate(Some(rules)) {
        Ok(_) => "",
        Err(rejection) => rejection.code(),
    };
    let by_code = [
        (
            FieldError::TENANT_MANDATORY,
            BadRow::Missing(Column::Tenant),
        ),
        (
            FieldError::NUMBER_MANDATORY,
            BadRow::Missing(Column::Mobile),
        ),
        (FieldError::TYPE_MANDATORY, BadRow::Type),
        (FieldError::TENANT_INVALID, BadRow::Tenant),
    ];
    if let Some((_, bad)) = by_code.iter().find(|(fault, _)| fault.code == code) {
        return *bad;
    }
    let mobile = submission.mobile().unwrap_or_default();
    match submission.check_number(mobile, submission.request_type(), Some(rules)) {
        Err(NumberFault::UnknownCountry(code)) if code.is_none() => BadRow::CountryCode,
        Err(NumberFault::UnknownCountry(_)) => BadRow::Country,
        Err(NumberFault::Mismatch(_) | NumberFault::BrokenPattern) | Ok(_) => BadRow::Mobile,
    }
}

/// Rules for where the tenant's own are not known before the request is handled: the number and the
/// country code have the shape of one.
pub(super) fn any_number() -> NumberRules {
    let entry = crate::domain::rules::RuleEntry {
        country_code: None,
        pattern: "[0-9+ -]*".to_owned(),
        default: true,
    };
    NumberRules::from_entries(vec![entry], "[0-9+ -]*")
}
