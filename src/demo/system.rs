//! The whole system, put together as `user-otp run` does it: the demo only chooses the settings.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::{anyhow, bail};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::kafka::{Cluster, Wanted};
use super::story;
use crate::clock::Clock;
use crate::config::{Config, KafkaProperties};
use crate::egov::standin::{Script, Standin};
use crate::engine::Drained;
use crate::known_topics::KnownTopics;
use crate::service::{self, Service};
use crate::topics::{Found, TopicSpec};
use crate::{telemetry, topology};

/// How long the engine may take to join its group. The mock cluster takes 3 s for the first.
const JOIN: Duration = Duration::from_secs(30);

/// How often it is asked whether it has.
const ASK_AGAIN: Duration = Duration::from_millis(10);

/// Kafka, the services, and the engine between them.
pub(crate) struct System {
    pub(crate) config: Config,
    pub(crate) standin: Standin,
    pub(crate) service: Service,
    pub(crate) wanted: Vec<(String, TopicSpec)>,
    /// How long it took to be ready.
    pub(crate) took: Duration,
    /// Dropped last: the others are connected to it.
    cluster: Cluster,
}

/// What the command line says of it.
pub(crate) struct Plan<'a> {
    pub(crate) cluster: Cluster,
    /// To reach a real cluster with.
    pub(crate) properties: KafkaProperties,
    /// What is logged.
    pub(crate) log: &'a str,
}

impl System {
    /// Starts everything, and waits until requests are taken, or until `stop`.
    pub(crate) async fn start(plan: Plan<'_>, stop: &CancellationToken) -> anyhow::Result<Self> {
        let started = Instant::now();
        let Plan {
            cluster,
            properties,
            log,
        } = plan;
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let standin = Standin::start(listener, Script::default()).await?;
        story::cast()
            .into_iter()
            .for_each(|user| standin.add_user(user));
        story::texts()
            .into_iter()
            .for_each(|text| standin.set_text(text));
        let settings = settings(&cluster, &standin.url(), log);
        let mut config = Config::load(None, settings)?.0;
        if let Cluster::Real(_) = cluster {
            config.kafka.properties = properties;
        }
        telemetry::start(&config.log)?;
        let mut wanted = topology::wanted(&config)?;
        let starting = async {
            let found = cluster.create(&mut wanted, &config).await?;
            start_service(&config, &wanted, &found).await
        };
        let service = tokio::select! {
            service = starting => service,
            () = stop.cancelled() => Err(anyhow!("ended by a signal before it had started")),
        };
        let service = match service {
            Ok(service) => service,
            Err(error) => {
                clear(&cluster, &wanted, &config).await;
                return Err(error);
            }
        };
        Ok(Self {
            config,
            standin,
            service,
            wanted,
            took: started.elapsed(),
            cluster,
        })
    }

    /// Whether its Kafka is more than a mock.
    pub(crate) fn is_on_real_kafka(&self) -> bool {
        match self.cluster {
            Cluster::Embedded(_) => false,
            Cluster::Real(_) => true,
        }
    }

    /// Ends everything in order: the engine, the services, Kafka.
    pub(crate) async fn end(self) -> anyhow::Result<()> {
        let ended = end_service(self.service, self.config.shutdown.deadline).await;
        clear(&self.cluster, &self.wanted, &self.config).await;
        self.standin.stop().await;
        ended
    }
}

/// The settings that differ from the defaults, as environment variables.
fn settings(cluster: &Cluster, services: &str, log: &str) -> Vec<(String, String)> {
    let mut settings = vec![
        ("KAFKA__BROKERS", cluster.brokers()),
        ("KAFKA__INSTANCE", "demo".to_owned()),
        ("KAFKA__STARTUP_TIMEOUT", "10s".to_owned()),
        // So that an outage can be watched.
        ("RETRY__DELAYS", "500ms,1s".to_owned()),
        ("REQUEST__LIFETIME", "1m".to_owned()),
        ("REQUEST__MIN_LIFE", "5s".to_owned()),
        // Who stays asks for the same few people again and again.
        ("LIMITS__MODE", "shadow".to_owned()),
        ("USERS__URL", services.to_owned()),
        ("OTP__URL", format!("{services}/otp")),
        ("LOCALIZATION__URL", services.to_owned()),
        ("MDMS__URL", services.to_owned()),
        ("LOG__LEVEL", log.to_owned()),
        ("HTTP__ENABLED", "false".to_owned()),
    ];
    match cluster {
        // The mock cluster keeps a fetch for this long, also when there are records.
        Cluster::Embedded(_) => settings.push(("KAFKA__FETCH_WAIT_MAX_MS", "10".to_owned())),

        Cluster::Real(_) => {
            let demo = format!("demo-{}", &uuid::Uuid::new_v4().simple().to_string()[..8]);
            settings.push(("KAFKA__GROUP", demo.clone()));
            let named = |(key, name): (&'static str, &str)| (key, format!("{demo}.{name}"));
            settings.extend(TOPICS.map(named));
        }
    }
    settings
        .into_iter()
        .map(|(key, value)| (format!("USER_OTP__{key}"), value))
        .collect()
}

/// Names for a cluster that may have the real ones.
const TOPICS: [(&str, &str); 9] = [
    ("TOPICS__REQUESTS", "otp.request"),
    ("TOPICS__ACCEPTED", "accepted"),
    ("TOPICS__JOBS", "jobs.request"),
    ("TOPICS__RETRY_PREFIX", "retry"),
    ("TOPICS__DEAD_LETTERS", "dlq"),
    ("TOPICS__OUTCOMES", "otp.outcome"),
    ("TOPICS__JOB_LOG", "jobs"),
    ("TOPICS__SMS", "notification.sms"),
    ("TOPICS__EMAIL", "notification.email"),
];

async fn start_service(
    config: &Config,
    wanted: &Wanted,
    found: &HashMap<String, Found>,
) -> anyhow::Result<Service> {
    let topics = KnownTopics::default();
    topics.set(wanted.iter().map(|(name, _)| name.clone()));
    let settings = service::engine_settings(config, found);
    let patience = config.kafka.startup_timeout;
    let service = service::start(config, settings, topics, Clock::system(), patience).await?;
    if has_joined(&service).await {
        return Ok(service);
    }
    end_service(service, config.shutdown.deadline).await?;
    bail!("the engine took no requests within {JOIN:?}");
}

/// Whether the engine joins its group in time.
async fn has_joined(service: &Service) -> bool {
    let producers = service.producers();
    let joined = async {
        while !producers.iter().all(|(_, vitals)| vitals.has_joined()) {
            tokio::time::sleep(ASK_AGAIN).await;
        }
    };
    tokio::select! {
        joined = tokio::time::timeout(JOIN, joined) => joined.is_ok(),
        () = service.failed() => false,
    }
}

async fn end_service(service: Service, deadline: Duration) -> anyhow::Result<()> {
    match service.shut_down(deadline).await? {
        Drained::Clean => Ok(()),
        Drained::CutShort => bail!("the engine did not come to its end within {deadline:?}"),
    }
}

/// What is left behind is a nuisance, and no reason to call the story a failure.
async fn clear(cluster: &Cluster, wanted: &Wanted, config: &Config) {
    if let Err(error) = cluster.clear(wanted, config).await {
        tracing::warn!("the demo's topics and group: {error:#}");
    }
}
