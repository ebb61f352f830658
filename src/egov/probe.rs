//! One look at each service, for `user-otp check`: whether it answers, how long it takes, what its clock
//! says. Nothing is cached, repeated or waited for, and nothing is created: a search for a number that
//! nobody can have, the texts and the rules; egov-otp, which can only create, is asked what its path takes.

use std::time::Duration;

use reqwest::Method;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::client::{BuildError, Client, Endpoint, Message};
use super::failure::{Failure, Lost, Reply, classify};
use super::schedule::{AtFloor, Queue};
use super::{Call, CallError, Service};
use crate::clock::{Clock, EpochMs};
use crate::config::Config;
use crate::domain::request::Locale;
use crate::domain::tenant::{Tenancy, TenantId};
use crate::messages::TextSet;
use crate::metrics::Metrics;
use crate::outcome::Code;
use crate::wire::{
    BrokenAnswer, parse_rules_answer, parse_texts_answer, parse_user_answer, rules_body,
    texts_body, user_search_body,
};

/// A number that nobody can have: no network gives one that begins with a zero.
const NOBODY: &str = "0000000000";

/// The four services, looked at.
#[derive(Debug)]
pub struct Probe {
    users: Endpoint,
    otp: Endpoint,
    texts: Option<Endpoint>,
    rules: Option<Endpoint>,
    clock: Clock,
    module: String,
    mdms: (String, String),
    tenancy: Tenancy,
}

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look<T> {
    /// Until the whole answer was read, a new connection included.
    pub took: Duration,
    /// How long an answer may take.
    pub timeout: Duration,
    /// The answer's status, if one came.
    pub status: Option<u16>,
    /// By how many milliseconds its clock is ahead of ours, behind where negative, and 0 within what
    /// can be told; none: it did not say.
    pub ahead: Option<i64>,
    /// What it said.
    pub result: Result<T, CallError>,
}

impl Probe {
    /// Prepares everything; connects to nothing.
    ///
    /// # Errors
    /// When the system's TLS library cannot be used.
    pub fn new(config: &Config, clock: Clock) -> Result<Self, BuildError> {
        let client = Client::new(config, clock.clone(), Metrics::default())?;
        let (texts, rules) = (&config.localization, &config.mdms);
        let asked = |service, url: &Option<_>, path: &str, timeout, calls| {
            let url = url.as_ref();
            url.map(|url| client.endpoint(service, url, path, timeout, calls))
                .transpose()
        };
        Ok(Self {
            users: client.users(config)?,
            otp: client.otp(config)?,
            texts: asked(
                Service::Texts,
                &texts.url,
                &texts.path,
                texts.timeout,
                texts.calls,
            )?,
            rules: asked(
                Service::Rules,
                &rules.url,
                &rules.path,
                rules.timeout,
                rules.calls,
            )?,
            clock,
            module: texts.module.clone(),
            mdms: (rules.module.clone(), rules.master.clone()),
            tenancy: config.tenancy.clone(),
        })
    }

    /// Searches egov-user for nobody; without a tenant it is asked what its path takes.
    pub async fn users(&self, tenant: Option<&TenantId>) -> Look<()> {
        let Some(tenant) = tenant.map(TenantId::first_part) else {
            return self.path(&self.users).await;
        };
        let body = user_search_body(tenant, Some("CITIZEN"), NOBODY);
        let message = message(body).for_tenant(tenant);
        let parse = |answer: &[u8]| parse_user_answer(answer).map(drop);
        self.ask(&self.users, message, parse).await
    }

    /// Asks egov-otp what its path takes.
    pub async fn otp(&self) -> Look<()> {
        self.path(&self.otp).await
    }

    /// A tenant's texts; `tenant` as egov-localization knows it. None: there is no such service.
    pub async fn texts(&self, tenant: &str, locale: &Locale) -> Option<Look<TextSet>> {
        let endpoint = self.texts.as_ref()?;
        let url = endpoint.url_with(&[
            ("tenantId", tenant),
            ("module", &self.module),
            ("locale", locale.as_str()),
        ]);
        let message = message(texts_body()).to(url);
        Some(self.ask(endpoint, message, parse_texts_answer).await)
    }

    /// How many rules for mobile numbers a tenant's state has. None: there is no such service.
    pub async fn rules(&self, tenant: &TenantId) -> Option<Look<usize>> {
        let endpoint = self.rules.as_ref()?;
        let (module, master) = &self.mdms;
        let body = rules_body(tenant.state_level(&self.tenancy), module, master);
        let parse =
            |answer: &[u8]| parse_rules_answer(answer, module, master).map(|entries| entries.len());
        Some(self.ask(endpoint, message(body), parse).await)
    }

    async fn ask<T>(
        &self,
        endpoint: &Endpoint,
        message: Message,
        parse: impl FnOnce(&[u8]) -> Result<T, BrokenAnswer>,
    ) -> Look<T> {
        let judge = |received, now| {
            let outages = endpoint.outage_messages();
            classify(endpoint.service(), outages, now, received, parse).map_err(CallError::from)
        };
        self.look(endpoint, message, Method::POST, judge).await
    }

    /// OPTIONS changes nothing, whatever the path is for.
    async fn path(&self, endpoint: &Endpoint) -> Look<()> {
        let judge = |received: Result<Reply, Lost>, _| match received {
            Ok(reply) => takes(reply.status),
            Err(lost) => Err(CallError::from(Failure::from(lost))),
        };
        self.look(endpoint, message(Vec::new()), Method::OPTIONS, judge)
            .await
    }

    async fn look<T>(
        &self,
        endpoint: &Endpoint,
        message: Message,
        method: Method,
        judge: impl FnOnce(Result<Reply, Lost>, EpochMs) -> Result<T, CallError>,
    ) -> Look<T> {
        let (sent, started) = (self.clock.now(), Instant::now());
        let received = endpoint.look(&message, method).await;
        let (took, now) = (started.elapsed(), self.clock.now());
        let (received, date) = match received {
            Ok((reply, date)) => (Ok(reply), date),
            Err(lost) => (Err(lost), None),
        };
        Look {
            took,
            timeout: endpoint.timeout,
            status: received.as_ref().ok().map(|reply| reply.status),
            ahead: date.and_then(|date| ahead(&date, sent, now)),
            result: judge(received, now),
        }
    }
}

/// What is sent for nobody's request.
fn message(body: Vec<u8>) -> Message {
    let call = Call {
        correlation_id: None,
        traceparent: None,
        tenant_header: None,
        deadline: EpochMs(i64::MAX),
        queue: Queue::Live,
        at_floor: AtFloor::Leave,
        stop: &CancellationToken::new(),
    };
    Message::new(&call, body)
}

/// Whether who answers OPTIONS with this status serves the path. A 400 is how the platform's common
/// library says that it takes another method.
fn takes(status: u16) -> Result<(), CallError> {
    match status {
        200..=299 | 400 | 405 | 415 | 501 => Ok(()),
        401..=499 if status != 408 && status != 429 => Err(CallError::Refused { status }),
        _ => Err(CallError::Unavailable {
            code: Code::ServiceUnavailable,
            retry_after: None,
        }),
    }
}

/// How far a `Date`, which has whole seconds, is from the time in which it was written here.
fn ahead(date: &str, sent: EpochMs, received: EpochMs) -> Option<i64> {
    const SECOND: i64 = 1_000;
    let date = httpdate::parse_http_date(date).ok()?;
    let date = date.duration_since(std::time::UNIX_EPOCH).ok()?;
    let date = EpochMs(0).plus(date).0;
    Some(if date > received.0 {
        date - received.0
    } else {
        (date + SECOND - sent.0).min(0)
    })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    /// 2024-11-23 07:28:00 UTC.
    const AT: i64 = 1_732_346_880_000;

    #[rstest]
    #[case::within_its_second(AT + 100, AT + 900, 0)]
    #[case::the_next_second_had_begun(AT + 990, AT + 1_400, 0)]
    #[case::ahead(AT - 600_000, AT - 599_000, 599_000)]
    #[case::behind(AT + 601_000, AT + 602_000, -600_000)]
    #[case::slow_and_well(AT - 3_000, AT + 3_000, 0)]
    fn a_date_is_compared_with_the_time_of_its_answer(
        #[case] sent: i64,
        #[case] received: i64,
        #[case] expected: i64,
    ) {
        let date = "Sat, 23 Nov 2024 07:28:00 GMT";
        let difference = ahead(date, EpochMs(sent), EpochMs(received));
        assert_eq!(difference, Some(expected));
    }

    #[rstest]
    #[case(200, true)]
    #[case(204, true)]
    #[case(400, true)]
    #[case(405, true)]
    #[case(401, false)]
    #[case(404, false)]
    #[case(429, false)]
    #[case(302, false)]
    #[case(503, false)]
    fn a_path_is_there_where_another_method_is_refused(#[case] status: u16, #[case] there: bool) {
        assert_eq!(takes(status).is_ok(), there);
    }
}
