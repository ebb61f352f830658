//! Requests as upstream writes them.

use serde_json::{Map, Value, json};

use crate::kafka::Draft;

/// A request that a client of the platform would send.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) event_id: Option<String>,
    pub(crate) kind: &'static str,
    pub(crate) mobile: String,
    pub(crate) tenant: &'static str,
    pub(crate) user_type: Option<&'static str>,
    pub(crate) country_code: Option<&'static str>,
    pub(crate) locale: Option<&'static str>,
}

impl Request {
    pub(crate) fn register(mobile: &str) -> Self {
        Self {
            event_id: None,
            kind: "register",
            mobile: mobile.to_owned(),
            tenant: "pb.amritsar",
            user_type: Some("CITIZEN"),
            country_code: None,
            locale: None,
        }
    }

    pub(crate) fn login(mobile: &str) -> Self {
        Self {
            kind: "login",
            ..Self::register(mobile)
        }
    }

    pub(crate) fn password_reset(mobile: &str) -> Self {
        Self {
            kind: "passwordreset",
            ..Self::register(mobile)
        }
    }

    pub(crate) fn id(self, event_id: impl Into<String>) -> Self {
        Self {
            event_id: Some(event_id.into()),
            ..self
        }
    }

    pub(crate) fn body(&self) -> String {
        let mut otp = Map::new();
        otp.insert("mobileNumber".into(), json!(self.mobile));
        otp.insert("tenantId".into(), json!(self.tenant));
        otp.insert("type".into(), json!(self.kind));
        for (name, value) in [
            ("userType", self.user_type),
            ("countryCode", self.country_code),
        ] {
            if let Some(value) = value {
                otp.insert(name.into(), json!(value));
            }
        }
        let message_id = self.locale.map_or_else(
            || "20170310130900".to_owned(),
            |locale| format!("20170310130900|{locale}"),
        );
        json!({"RequestInfo": {"apiId": "Rainmaker", "ts": "", "msgId": message_id, "authToken": Value::Null}, "otp": otp})
            .to_string()
    }

    /// The record of a producer that keys by person.
    pub(crate) fn draft(&self) -> Draft {
        let draft = Draft::of(self.body()).key(format!("{}:{}", self.tenant, self.mobile));
        match &self.event_id {
            Some(id) => draft.header("otp-event-id", id.as_bytes()),
            None => draft,
        }
    }
}
