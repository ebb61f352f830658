//! The management port: health and metrics over HTTP.

pub mod ask;

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json, Router};
use tokio::net::TcpListener;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use crate::egov::Services;
use crate::engine::Observer;
use crate::engine::admin::Admin;
use crate::engine::broker_clock::BrokerClock;
use crate::engine::vitals::Vitals;
use crate::health::{
    self, Engine, Group, Producer, Redis, Refusing, Report, Senders, Snapshot, Status,
};
use crate::http::server::{self, Bounds};
use crate::known_topics::KnownTopics;
use crate::limits::Limits;
use crate::metrics::{ClientState, Gauges, Metrics};

/// How long what the brokers said about the group is good.
const GROUP_KEPT: Duration = Duration::from_secs(10);

/// What the management port shows.
pub struct Management {
    /// The metrics of this process.
    pub metrics: Metrics,
    /// The engine, where it runs here.
    pub engine: Option<Observer>,
    /// Each door's producer, by the name that health has for it.
    pub producers: Vec<(&'static str, Arc<Vitals>)>,
    /// The services that are called.
    pub services: Services,
    /// The sending limits.
    pub limits: Limits,
    /// The topics of the cluster.
    pub topics: KnownTopics,
    /// The SMS and the email topic; none where each tenant has its own.
    pub senders: Option<[String; 2]>,
    /// Topics without which no OTP gets out.
    pub needed: Vec<String>,
    /// Says how Redis is, where it is configured.
    pub redis: Option<Box<dyn Fn() -> Redis + Send + Sync>>,
    /// Asks for live engines, where the engine runs elsewhere.
    pub group: Option<GroupWatch>,
    /// How this machine's clock compares with the brokers'.
    pub clock: BrokerClock,
    /// The longest that the poll loop may stand still.
    pub max_poll_interval: Duration,
}

/// Asks the brokers for the members of a consumer group, every ten seconds at most.
pub struct GroupWatch {
    admin: Admin,
    group: String,
    /// Under the newer protocol the question has no answer.
    classic: bool,
    last: Mutex<Option<(Instant, Group)>>,
}

impl GroupWatch {
    /// Asks for the members of `group`; `classic`: by its protocol they can be asked for.
    #[must_use]
    pub fn new(admin: Admin, group: String, classic: bool) -> Self {
        Self {
            admin,
            group,
            classic,
            last: Mutex::default(),
        }
    }

    /// What the brokers say, or said a moment ago.
    pub async fn look(&self) -> Group {
        if !self.classic {
            return Group::Untold;
        }
        // Held while it is asked for, so that many probes are one question.
        let mut last = self.last.lock().await;
        if let Some((at, group)) = *last
            && at.elapsed() < GROUP_KEPT
        {
            return group;
        }
        let members = self.admin.group_members(&self.group).await;
        let group = members.map_or(Group::Unreachable, Group::Members);
        *last = Some((Instant::now(), group));
        group
    }
}

impl Management {
    fn gauges(&self) -> Gauges {
        let states = self.services.states().into_iter();
        Gauges {
            engine: self.engine.as_ref().map(Observer::gauges),
            inputs: self.engine.as_ref().map_or_else(Vec::new, Observer::inputs),
            pending: self.engine.as_ref().map_or(0, Observer::pending),
            troubles: self
                .engine
                .as_ref()
                .map_or_else(Vec::new, Observer::consumer_troubles),
            clients: self.clients(),
            clock_ahead: self.clock.health().seconds_ahead(),
            services: states.map(|one| (one.service, one.load)).collect(),
            limits: self.limits.reached(),
        }
    }

    fn clients(&self) -> Vec<ClientState> {
        let consumer = self.engine.iter().map(|engine| ClientState {
            name: health::CONSUMER,
            refused: engine.vitals().consumer_refusal().is_some(),
            stalled: false,
        });
        let producers = self.producers.iter().map(|(name, vitals)| ClientState {
            name,
            refused: vitals.producer_refusal().is_some(),
            stalled: vitals.are_commits_stalled(),
        });
        consumer.chain(producers).collect()
    }

    fn snapshot(&self) -> Snapshot {
        let producers = self.producers.iter();
        let engine = self.engine.as_ref();
        Snapshot {
            engine: engine.map(|engine| self.engine(engine)),
            group: None,
            producers: producers
                .map(|(name, vitals)| Producer {
                    name,
                    call_age: vitals.call_age(),
                    unconfirmed_for: vitals.unconfirmed_for(),
                    stalled: vitals.are_commits_stalled(),
                    refusal: vitals.producer_refusal(),
                })
                .collect(),
            services: self.services.states(),
            senders: self.senders.as_ref().map(|[sms, email]| Senders {
                sms: self.topics.contains(sms),
                email: self.topics.contains(email),
            }),
            consumer_refusal: engine.and_then(|engine| engine.vitals().consumer_refusal()),
            refusing: self.refusing(),
            floods: engine.map_or_else(Vec::new, Observer::floods),
            unreadable: engine.map_or_else(Vec::new, Observer::unreadable),
            consumer_troubles: engine.map_or_else(Vec::new, Observer::consumer_troubles),
            foreign_topics: engine.map_or_else(Default::default, Observer::foreign_topics),
            redis: self.redis.as_ref().map(|redis| redis()),
            clock: self.clock.health(),
        }
    }

    fn refusing(&self) -> Vec<Refusing> {
        let refusing = self.topics.refusing().into_iter();
        refusing
            .map(|(topic, why)| Refusing {
                every: self.needed.contains(&topic),
                topic,
                why,
            })
            .collect()
    }

    fn engine(&self, engine: &Observer) -> Engine {
        let vitals = engine.vitals();
        Engine {
            since_poll: vitals.since_poll(),
            max_poll_interval: self.max_poll_interval,
            joined: vitals.has_joined(),
            pending: engine.pending(),
            overdue: engine.overdue(),
            committing_for: vitals.committing_for(),
            since_commit: vitals.since_commit(),
        }
    }
}

/// Who asks here are probes and Prometheus: a few, and soon done.
const BOUNDS: Bounds = Bounds {
    connections: 64,
    idle: Duration::from_secs(10),
    drain: Duration::from_secs(2),
};

/// Serves `/health/live`, `/health/ready` and `/metrics` until `stop`.
pub async fn serve(listener: TcpListener, management: Management, stop: CancellationToken) {
    let router = Router::new()
        .route("/health/live", get(live))
        .route("/health/ready", get(ready))
        .route("/metrics", get(metrics))
        .with_state(Arc::new(management));
    server::serve(listener, router, BOUNDS, stop).await;
}

async fn live(State(management): State<Arc<Management>>) -> impl IntoResponse {
    answer(health::live(&management.snapshot()))
}

async fn ready(State(management): State<Arc<Management>>) -> impl IntoResponse {
    let mut snapshot = management.snapshot();
    if let Some(group) = &management.group {
        snapshot.group = Some(group.look().await);
    }
    answer(health::ready(&snapshot))
}

async fn metrics(State(management): State<Arc<Management>>) -> impl IntoResponse {
    let text = management.metrics.render(&management.gauges());
    ([(header::CONTENT_TYPE, Metrics::CONTENT_TYPE)], text)
}

fn answer(report: Report) -> impl IntoResponse {
    let status = match report.status {
        Status::Up | Status::Degraded => StatusCode::OK,
        Status::Down => StatusCode::SERVICE_UNAVAILABLE,
    };
    (status, Json(report))
}
