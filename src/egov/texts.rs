//! egov-localization: a tenant's texts, cached by tenant and locale.

use std::sync::Arc;

use super::cache::{Background, Cache, Keep, Settings};
use super::client::{BuildError, Client, Endpoint, Message, Turn};
use super::{Call, CallError, Service};
use crate::clock::Clock;
use crate::config::{Config, OnOutage};
use crate::domain::request::Locale;
use crate::domain::tenant::TenantId;
use crate::messages::{TextCode, TextSet, pick};
use crate::wire::{parse_texts_answer, texts_body};

/// One tenant's texts for one request.
#[derive(Debug, Clone)]
pub struct TextsFor {
    /// Those of the locale that was asked for.
    pub wanted: Arc<TextSet>,
    /// Those of the default locale: for codes that `wanted` lacks.
    pub fallback: Arc<TextSet>,
}

#[derive(Debug)]
pub(super) struct Texts {
    /// None: there is no egov-localization, the built-in texts serve.
    asked: Option<Asked>,
    /// No texts at all, so that the built-in ones serve.
    none: Arc<TextSet>,
    default_locale: Locale,
    on_outage: OnOutage,
}

#[derive(Debug)]
struct Asked {
    endpoint: Endpoint,
    cache: Cache<(Box<str>, Locale), TextSet>,
    strip_suffix_count: i32,
    module: String,
    pinned: Vec<Locale>,
}

impl Texts {
    pub(super) fn new(
        config: &Config,
        client: &Client,
        clock: Clock,
        background: Background,
    ) -> Result<Self, BuildError> {
        let (service, texts) = (&config.localization, &config.texts);
        let asked = match &service.url {
            None => None,
            Some(url) => {
                let (timeout, calls) = (service.timeout, service.calls);
                let settings = Settings {
                    ttl: Some(texts.ttl),
                    empty_ttl: texts.empty_ttl,
                    entries: texts.entries,
                    bytes: texts.bytes,
                    size: TextSet::bytes,
                    is_empty: TextSet::is_empty,
                };
                Some(Asked {
                    endpoint: client.endpoint(
                        Service::Texts,
                        url,
                        &service.path,
                        timeout,
                        calls,
                    )?,
                    cache: Cache::new(settings, clock, background),
                    strip_suffix_count: service.strip_suffix_count,
                    module: service.module.clone(),
                    pinned: texts
                        .pinned_locales
                        .iter()
                        .filter_map(|locale| Locale::parse(locale))
                        .collect(),
                })
            }
        };
        Ok(Self {
            asked,
            none: Arc::default(),
            default_locale: Locale::parse(&service.default_locale)
                .expect("the configuration takes nothing but locales"),
            on_outage: texts.on_outage,
        })
    }

    pub(super) fn endpoint(&self) -> Option<&Endpoint> {
        self.asked.as_ref().map(|asked| &asked.endpoint)
    }

    pub(super) async fn of(
        &self,
        tenant: &TenantId,
        locale: Option<&Locale>,
        call: &Call<'_>,
    ) -> Result<TextsFor, CallError> {
        let Some(asked) = &self.asked else {
            return Ok(self.built_in());
        };
        let tenant = tenant.for_localization(asked.strip_suffix_count);
        let found = match locale.filter(|locale| **locale != self.default_locale) {
            None => {
                let texts = asked.of(tenant, &self.default_locale, call).await;
                texts.map(|texts| TextsFor {
                    wanted: Arc::clone(&texts),
                    fallback: texts,
                })
            }
            Some(locale) => {
                let (wanted, fallback) = tokio::join!(
                    asked.of(tenant, locale, call),
                    asked.of(tenant, &self.default_locale, call)
                );
                self.both(wanted, fallback)
            }
        };
        match (found, self.on_outage) {
            (Err(CallError::Unavailable { .. } | CallError::Refused { .. }), OnOutage::Default) => {
                Ok(self.built_in())
            }
            (found, OnOutage::Default | OnOutage::Retry) => found,
        }
    }

    /// The default locale's texts are not missed where the wanted ones are complete.
    fn both(
        &self,
        wanted: Result<Arc<TextSet>, CallError>,
        fallback: Result<Arc<TextSet>, CallError>,
    ) -> Result<TextsFor, CallError> {
        let wanted = wanted?;
        let fallback = match fallback {
            Err(CallError::Unavailable { .. }) if self.is_complete(&wanted) => {
                Arc::clone(&self.none)
            }
            fallback => fallback?,
        };
        Ok(TextsFor { wanted, fallback })
    }

    fn is_complete(&self, wanted: &TextSet) -> bool {
        // A text equal to the built-in one counts as missing: that is only the safe side.
        TextCode::ALL
            .into_iter()
            .all(|code| pick(code, wanted, &self.none) != code.built_in())
    }

    fn built_in(&self) -> TextsFor {
        TextsFor {
            wanted: Arc::clone(&self.none),
            fallback: Arc::clone(&self.none),
        }
    }
}

impl Asked {
    async fn of(
        &self,
        tenant: &str,
        locale: &Locale,
        call: &Call<'_>,
    ) -> Result<Arc<TextSet>, CallError> {
        let keep = if self.pinned.contains(locale) {
            Keep::Pinned
        } else {
            Keep::Usual
        };
        let key = (tenant.into(), locale.clone());
        let fetch = || self.fetch(tenant, locale, call);
        self.cache.get(key, keep, call, fetch).await
    }

    fn fetch(
        &self,
        tenant: &str,
        locale: &Locale,
        call: &Call<'_>,
    ) -> impl Future<Output = Result<TextSet, CallError>> + Send + use<> {
        let url = self.endpoint.url_with(&[
            ("tenantId", tenant),
            ("module", &self.module),
            ("locale", locale.as_str()),
        ]);
        let message = Message::new(call, texts_body()).to(url);
        let endpoint = self.endpoint.clone();
        async move {
            let texts = endpoint
                .ask(&message, Turn::AtOnce, parse_texts_answer)
                .await?;
            for code in texts.unusable() {
                endpoint.client.metrics.template_unusable(code);
            }
            Ok(texts)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts() -> Texts {
        Texts {
            asked: None,
            none: Arc::default(),
            default_locale: Locale::parse("en_IN").unwrap(),
            on_outage: OnOutage::Retry,
        }
    }

    fn set(codes: &[TextCode]) -> Arc<TextSet> {
        let message = |code: &TextCode| (code.as_str().to_owned(), "வணக்கம் %s".to_owned());
        Arc::new(TextSet::from_messages(codes.iter().map(message).collect()))
    }

    #[test]
    fn complete_texts_do_not_miss_the_default_ones() {
        let outage = || Err(CallError::busy());
        assert!(texts().both(Ok(set(&TextCode::ALL)), outage()).is_ok());
        let lacks_one = Ok(set(&TextCode::ALL[1..]));
        assert_eq!(
            texts().both(lacks_one, outage()).unwrap_err(),
            CallError::busy()
        );
        let default_ones = Ok(set(&TextCode::ALL));
        assert_eq!(
            texts().both(outage(), default_ones).unwrap_err(),
            CallError::busy()
        );
    }

    #[test]
    fn who_is_told_to_stop_stops() {
        let abandoned = Err(CallError::Abandoned);
        let both = texts().both(Ok(set(&TextCode::ALL)), abandoned);
        assert_eq!(both.unwrap_err(), CallError::Abandoned);
    }
}
