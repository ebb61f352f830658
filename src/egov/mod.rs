//! The four services that are called, over HTTP: egov-user, egov-otp, egov-localization and
//! egov-mdms.
//!
//! ```text
//!   find_user ─┐                ┌ a permit ── one exchange ── classify ┐
//!   create_otp ┼─ Endpoint::ask ┤   ▲                                  │
//!   texts ─ Cache┤              │   └── pause ◀── unavailable ◀────────┤
//!   rules ─ Cache┘              └ value, refused or unavailable ◀──────┘
//! ```
//!
//! A call ends in a value or a [`CallError`], which says what to do now; an outage is never a
//! value. What it does not know: which request is retried, and when; that is the engine's. No
//! error carries an address of a service, since that has the tenant in it, or what a service
//! said, since that may quote the request.
//!
//! Only this module names `reqwest`, and the one that asks other instances how they are.

mod cache;
mod client;
mod failure;
mod limit;
mod limiter;
mod otp;
pub mod probe;
mod repeat;
mod rules;
mod schedule;
pub mod standin;
mod texts;
mod users;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

pub use client::BuildError;
pub(crate) use client::{LONG_ANSWER, LONG_ANSWERS};
pub use schedule::{AtFloor, Load, Queue};
pub use texts::TextsFor;

use self::cache::Background;
use self::client::{Client, Endpoint};
use crate::clock::{Clock, EpochMs};
use crate::config::Config;
use crate::domain::request::{Locale, OtpRequest};
use crate::domain::rules::NumberRules;
use crate::domain::secret::Otp;
use crate::domain::tenant::TenantId;
use crate::domain::user::User;
use crate::metrics::Metrics;
use crate::outcome::Code;

/// A service that is called, by the word that logs and the stand-ins have for it.
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

/// What accompanies every call of one request.
#[derive(Debug, Clone, Copy)]
pub struct Call<'a> {
    /// Passed on as `x-correlation-id`.
    pub correlation_id: Option<&'a str>,
    /// Passed on as `traceparent`.
    pub traceparent: Option<&'a str>,
    /// The `tenantId` header that the request came with, passed on but to egov-user.
    pub tenant_header: Option<&'a str>,
    /// Nothing is asked from this moment on, nor waited for. An answer under way is still awaited, for as long as
    /// the service's own timeout: it was paid for.
    pub deadline: EpochMs,
    /// Where to wait for a permit.
    pub queue: Queue,
    /// Whether to wait for a service that is down.
    pub at_floor: AtFloor,
    /// Ends all waiting but the one for an answer.
    pub stop: &'a CancellationToken,
}

/// A service as it is now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServiceState {
    /// Which.
    pub service: Service,
    /// Its permits.
    pub load: Load,
    /// What the last call came to, if there was one.
    pub last: Option<Result<(), Code>>,
}

/// Why a call has no value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// It was told to stop while it waited for its turn; nothing was under way.
    #[error("told to stop before its turn came")]
    Abandoned,
    /// Asking again later may help.
    #[error("service unavailable: {}", code.as_str())]
    Unavailable {
        /// `service-unavailable`, `service-timeout` or `service-broken-answer`.
        code: Code,
        /// How long the service asked to be left alone.
        retry_after: Option<Duration>,
    },
    /// Asking again will not help.
    #[error("service refused: status {status}")]
    Refused {
        /// The 4xx.
        status: u16,
    },
}

/// The four services. A cheap handle; caches, permits and connections are shared by its clones.
#[derive(Debug, Clone)]
pub struct Services(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    users: Endpoint,
    otp: Endpoint,
    texts: texts::Texts,
    rules: rules::Rules,
    background: Background,
}

impl Services {
    /// Prepares everything; connects to nothing.
    ///
    /// # Errors
    /// When the system's TLS library cannot be used.
    pub fn new(config: &Config, clock: Clock, metrics: Metrics) -> Result<Self, BuildError> {
        let client = Client::new(config, clock.clone(), metrics)?;
        let background = Background::default();
        Ok(Self(Arc::new(Inner {
            users: client.users(config)?,
            otp: client.otp(config)?,
            texts: texts::Texts::new(config, &client, clock.clone(), background.clone())?,
            rules: rules::Rules::new(config, &client, clock, background.clone())?,
            background,
        })))
    }

    /// Looks the request's user up in egov-user; none: there is no such user.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn find_user(
        &self,
        request: &OtpRequest,
        call: &Call<'_>,
    ) -> Result<Option<User>, CallError> {
        users::find(&self.0.users, request, call).await
    }

    /// Creates an OTP in egov-otp for the requested number. Each call may create one, also when
    /// it fails.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn create_otp(
        &self,
        request: &OtpRequest,
        call: &Call<'_>,
    ) -> Result<Otp, CallError> {
        otp::create(&self.0.otp, request, call).await
    }

    /// A tenant's texts in the wanted locale (none: the default one), and in the default locale.
    ///
    /// # Errors
    /// See [`CallError`]; never [`CallError::Refused`].
    pub async fn texts(
        &self,
        tenant: &TenantId,
        locale: Option<&Locale>,
        call: &Call<'_>,
    ) -> Result<TextsFor, CallError> {
        self.0.texts.of(tenant, locale, call).await
    }

    /// The rules for mobile numbers of a tenant's state.
    ///
    /// # Errors
    /// See [`CallError`]; never [`CallError::Refused`].
    pub async fn number_rules(
        &self,
        tenant: &TenantId,
        call: &Call<'_>,
    ) -> Result<Arc<NumberRules>, CallError> {
        self.0.rules.of(tenant, call).await
    }

    /// The services that are called, as they are now.
    #[must_use]
    pub fn states(&self) -> Vec<ServiceState> {
        let own = [&self.0.users, &self.0.otp];
        let others = [self.0.texts.endpoint(), self.0.rules.endpoint()];
        own.into_iter()
            .chain(others.into_iter().flatten())
            .map(Endpoint::state)
            .collect()
    }

    /// Ends what refreshes caches in the background, and waits for the end.
    pub async fn close(&self) {
        self.0.background.close().await;
    }
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

    /// What the platform calls it.
    #[must_use]
    pub fn platform_name(self) -> &'static str {
        match self {
            Self::Users => "egov-user",
            Self::Otp => "egov-otp",
            Self::Texts => "egov-localization",
            Self::Rules => "egov-mdms",
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

impl CallError {
    /// The deadline passed before it was asked.
    fn too_late() -> Self {
        Self::Unavailable {
            code: Code::ServiceTimeout,
            retry_after: None,
        }
    }

    /// It was not asked, since it is busy or down.
    fn busy() -> Self {
        Self::Unavailable {
            code: Code::ServiceUnavailable,
            retry_after: None,
        }
    }
}
