//! egov-mdms: the rules for a state's mobile numbers, cached by state.

use std::sync::Arc;

use super::cache::{Background, Cache, Keep, Settings};
use super::client::{BuildError, Client, Endpoint, Message, Turn};
use super::{Call, CallError, Service};
use crate::clock::Clock;
use crate::config::Config;
use crate::domain::rules::NumberRules;
use crate::domain::tenant::{Tenancy, TenantId};
use crate::wire::{parse_rules_answer, rules_body};

#[derive(Debug)]
pub(super) enum Rules {
    /// No egov-mdms: the same rules for everybody.
    BuiltIn(Arc<NumberRules>),
    /// Asked for, state by state.
    Asked(Box<Asked>),
}

#[derive(Debug)]
pub(super) struct Asked {
    endpoint: Endpoint,
    cache: Cache<Box<str>, NumberRules>,
    tenancy: Tenancy,
    source: Arc<Source>,
}

/// Where the rules are kept in egov-mdms, and the pattern where they have none.
#[derive(Debug)]
struct Source {
    module: String,
    master: String,
    default_pattern: String,
}

impl Rules {
    pub(super) fn new(
        config: &Config,
        client: &Client,
        clock: Clock,
        background: Background,
    ) -> Result<Self, BuildError> {
        let (mdms, rules) = (&config.mdms, &config.rules);
        let Some(url) = &mdms.url else {
            let built_in = NumberRules::without_mdms(&rules.default_pattern, &rules.country_codes);
            return Ok(Self::BuiltIn(Arc::new(built_in)));
        };
        let endpoint =
            client.endpoint(Service::Rules, url, &mdms.path, mdms.timeout, mdms.calls)?;
        let settings = Settings {
            ttl: rules.ttl,
            empty_ttl: rules.empty_ttl,
            entries: rules.entries,
            bytes: rules.bytes,
            size: NumberRules::bytes,
            is_empty: NumberRules::is_empty,
        };
        Ok(Self::Asked(Box::new(Asked {
            endpoint,
            cache: Cache::new(settings, clock, background),
            tenancy: config.tenancy.clone(),
            source: Arc::new(Source {
                module: mdms.module.clone(),
                master: mdms.master.clone(),
                default_pattern: rules.default_pattern.clone(),
            }),
        })))
    }

    pub(super) fn endpoint(&self) -> Option<&Endpoint> {
        match self {
            Self::BuiltIn(_) => None,
            Self::Asked(asked) => Some(&asked.endpoint),
        }
    }

    pub(super) async fn of(
        &self,
        tenant: &TenantId,
        call: &Call<'_>,
    ) -> Result<Arc<NumberRules>, CallError> {
        let asked = match self {
            Self::BuiltIn(rules) => return Ok(Arc::clone(rules)),
            Self::Asked(asked) => asked,
        };
        let state = tenant.state_level(&asked.tenancy);
        let fetch = || asked.fetch(state, call);
        asked
            .cache
            .get(state.into(), Keep::Usual, call, fetch)
            .await
    }
}

impl Asked {
    fn fetch(
        &self,
        state: &str,
        call: &Call<'_>,
    ) -> impl Future<Output = Result<NumberRules, CallError>> + Send + use<> {
        let source = Arc::clone(&self.source);
        let body = rules_body(state, &source.module, &source.master);
        let message = Message::new(call, body);
        let endpoint = self.endpoint.clone();
        async move {
            let parse = |answer: &[u8]| {
                let entries = parse_rules_answer(answer, &source.module, &source.master)?;
                Ok(NumberRules::from_entries(entries, &source.default_pattern))
            };
            endpoint.ask(&message, Turn::AtOnce, parse).await
        }
    }
}
