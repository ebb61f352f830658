//! The running service: the engine with its handler, made of a configuration.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::config::Config;
use crate::domain::tenant::Tenancy;
use crate::egov::Services;
use crate::engine::clients::Connection;
use crate::engine::output::Writer;
use crate::engine::record::Reading;
use crate::engine::retry::Tier;
use crate::engine::state::Bounds;
use crate::engine::vitals::Vitals;
use crate::engine::{Drained, Engine, EngineError, Settings};
use crate::handler::{OtpHandler, Rules};
use crate::health::HUNG;
use crate::known_topics::KnownTopics;
use crate::management::Management;
use crate::metrics::Metrics;
use crate::topics::{Found, Role, catalog};
use crate::topology;

/// Apache Kafka's default for the largest record batch, in bytes.
const DEFAULT_LARGEST: usize = 1_048_588;

/// How to reach Kafka.
#[must_use]
pub fn connection(config: &Config) -> Connection {
    Connection {
        brokers: config.kafka.brokers.clone(),
        group: config.kafka.group.clone(),
        instance: config.kafka.instance.clone(),
        properties: config.kafka.properties.clone(),
    }
}

/// The engine's settings; `found` is what the cluster has of the topics.
#[must_use]
pub fn engine_settings(config: &Config, found: &HashMap<String, Found>) -> Settings {
    let largest = |name: &str, role: Role| {
        let here = found
            .get(name)
            .and_then(|found| found.configs.get("max.message.bytes")?.parse().ok());
        let listed = || {
            catalog()
                .ok()?
                .into_iter()
                .find(|spec| spec.role == role)
                .map(|spec| spec.max_message_bytes)
        };
        here.unwrap_or_else(|| listed().map_or(DEFAULT_LARGEST, |bytes| bytes as usize))
    };
    let dead_letter_limit = largest(&config.topics.dead_letters, Role::DeadLetters);
    let mut tiers: Vec<Tier> = config
        .retry
        .delays
        .iter()
        .zip(topology::retry_topics(config))
        .map(|(delay, topic)| Tier {
            topic: topic.into(),
            delay: delay.delay,
        })
        .collect();
    tiers.sort_by_key(|tier| tier.delay);
    let engine = &config.engine;
    Settings {
        connection: connection(config),
        requests: config.topics.requests.clone(),
        jobs: config.topics.jobs.clone(),
        retry_prefix: config.topics.retry_prefix.clone(),
        bounds: Bounds {
            window: engine.window,
            window_bytes: engine.window_bytes,
            lane: engine.lane,
            jobs: (engine.window * engine.jobs_share as usize / 100).max(1),
            parked: config.retry.parked,
            lifetime: config.request.lifetime,
        },
        reading: Reading {
            lifetime: config.request.lifetime,
            accepted: config.topics.accepted.as_str().into(),
        },
        writer: Writer {
            group: config.kafka.group.clone(),
            dead_letters: config.topics.dead_letters.as_str().into(),
            dead_letter_limit,
            outcomes: config.topics.outcomes.as_str().into(),
            tiers,
            min_life: config.request.min_life,
        },
        batch: engine.batch,
        linger: engine.linger,
        drain: engine.drain,
        largest_record: dead_letter_limit.max(DEFAULT_LARGEST),
    }
}

/// The engine at work, and the services that its handlers call.
pub struct Service {
    engine: Engine,
    services: Services,
    topics: KnownTopics,
    metrics: Metrics,
}

impl Service {
    /// Signs of life.
    #[must_use]
    pub fn vitals(&self) -> Arc<Vitals> {
        self.engine.vitals()
    }

    /// What the management port shows.
    #[must_use]
    pub fn management(&self, config: &Config) -> Management {
        let senders = [&config.topics.sms, &config.topics.email].map(Clone::clone);
        Management {
            metrics: self.metrics.clone(),
            engine: Some(self.engine.observer()),
            producers: vec![("kafka-producer", self.engine.vitals())],
            services: self.services.clone(),
            topics: self.topics.clone(),
            // In a central instance each tenant has its own, looked for with each request.
            senders: (!config.tenancy.central_instance).then_some(senders),
            redis: None,
            group: None,
            max_poll_interval: connection(config).max_poll_interval(),
        }
    }

    /// Cancelled when the engine cannot go on; [`Service::shut_down`] says why.
    #[must_use]
    pub fn failed(&self) -> CancellationToken {
        self.engine.failed()
    }

    /// Stops intake, drains, commits, leaves the group, and ends what runs in the background.
    ///
    /// # Errors
    ///
    /// Why the engine had failed, if it had.
    pub async fn shut_down(self, deadline: Duration) -> anyhow::Result<Drained> {
        let Self {
            engine, services, ..
        } = self;
        let drained = tokio::task::spawn_blocking(move || engine.shut_down(deadline)).await;
        services.close().await;
        Ok(drained.context("the engine ended by a defect")??)
    }
}

/// Starts the engine with the handler of OTP requests.
///
/// # Errors
///
/// When a client cannot be made, or Kafka does not answer within `patience`.
pub async fn start(
    config: &Config,
    settings: Settings,
    topics: KnownTopics,
    clock: Clock,
    patience: Duration,
) -> anyhow::Result<Service> {
    let metrics = Metrics::default();
    let services = Services::new(config, clock.clone(), metrics.clone())
        .context("the services' client could not be made")?;
    let rules = Rules {
        min_life: config.request.min_life,
        sms_expiry: config.sms.expiry,
        tenancy: Tenancy {
            central_instance: config.tenancy.central_instance,
            state_level_length: config.tenancy.state_level_length,
            schema_index: config.tenancy.schema_index,
        },
        sms_topic: config.topics.sms.clone(),
        email_topic: config.topics.email.clone(),
    };
    let handler = OtpHandler::new(services.clone(), topics.clone(), rules, clock.clone());
    let runtime = Handle::current();
    let (known, measured) = (topics.clone(), metrics.clone());
    let started = tokio::task::spawn_blocking(move || {
        Engine::start(
            settings, handler, known, clock, measured, &runtime, patience,
        )
    });
    let engine: Result<Engine, EngineError> =
        started.await.context("the engine could not be started")?;
    Ok(Service {
        engine: engine?,
        services,
        topics,
        metrics,
    })
}

/// Ends the process when a producer call hangs: librdkafka's look-up of a coordinator may never
/// return when its broker dies. The next process takes the open transaction over.
pub fn watch(vitals: Arc<Vitals>) {
    let watchdog = move || loop {
        std::thread::park_timeout(Duration::from_secs(1));
        if vitals.call_age().is_some_and(|age| age >= HUNG) {
            tracing::error!(limit = ?HUNG, "a call to Kafka does not return; ending, to be started again");
            std::process::exit(crate::cli::EXIT_WATCHDOG);
        }
    };
    // Not joined: it watches until the process ends.
    if let Err(error) = std::thread::Builder::new()
        .name("watchdog".into())
        .spawn(watchdog)
    {
        tracing::warn!(%error, "no watchdog");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operators_poll_interval_is_the_one_that_health_goes_by() {
        let interval = |variables: &[(&str, &str)]| {
            let variables = variables
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
            let (config, _) = Config::load(None, variables).expect("right settings");
            connection(&config).max_poll_interval()
        };
        assert_eq!(interval(&[]), Duration::from_secs(120));
        let longer = [("USER_OTP__KAFKA__MAX_POLL_INTERVAL_MS", "300000")];
        assert_eq!(interval(&longer), Duration::from_secs(300));
    }
}
