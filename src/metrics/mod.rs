//! The metrics of a process; which there are says [`ALL`]. Nothing else names the metrics' library,
//! and there is no global registry: a [`Metrics`] goes in as an argument.
//!
//! Counters and histograms are recorded where things happen, by an atomic or a lock that nobody
//! contends for, and without building a text. Gauges are read when they are asked for
//! ([`Gauges`]). Labels are closed sets and the topics that are consumed: never a tenant, since
//! strangers choose it, and nothing of a person.

mod list;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use prometheus_client::encoding::prometheus_text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Metric as Registrable, Registry};

pub use self::list::{ALL, Kind, Metric};

use crate::egov::{Load, Service};
use crate::engine::poison::Share;
use crate::engine::record::Door;
use crate::engine::state;
use crate::engine::trouble::{Trouble, TroubleKind};
use crate::limits::Reached;
use crate::messages::TextCode;
use crate::outcome::{Code, Failure, FinalOutcome, Limit, Outcome};

/// Seconds; from a quick answer to a request's lifetime.
const TIMES: [f64; 16] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 150.0,
    300.0,
];

/// Seconds; from a clock that nobody needs to mend to one that is a day ahead.
const CLOCKS: [f64; 7] = [0.1, 1.0, 10.0, 60.0, 600.0, 3_600.0, 86_400.0];

/// The `code` of what has none.
const NO_CODE: &str = "none";

/// How a transaction ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransactionEnd {
    /// It went through.
    Committed,
    /// It was taken back; what is still ours goes into the next one.
    Aborted,
    /// Its producer was given up and built anew.
    Rebuilt,
}

/// What the group did with our partitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rebalance {
    /// It gave us some, or none new.
    Assigned,
    /// It asked for some back.
    Revoked,
    /// It had given them away already.
    Lost,
}

/// What reaching a sending limit did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LimitEffect {
    /// The request was refused.
    Refused,
    /// It was only counted.
    Shadowed,
}

/// Something that is under way, until it is dropped.
#[derive(Debug)]
pub struct InProgress(Gauge);

impl Drop for InProgress {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Bytes that are held, until this is dropped.
#[derive(Debug)]
pub struct HeldBytes {
    gauge: Gauge,
    bytes: usize,
}

impl HeldBytes {
    /// Only so many are held now.
    pub fn shrink_to(&mut self, bytes: usize) {
        let surplus = self.bytes.saturating_sub(bytes);
        self.gauge.dec_by(whole(surplus));
        self.bytes -= surplus;
    }
}

impl Drop for HeldBytes {
    fn drop(&mut self) {
        self.gauge.dec_by(whole(self.bytes));
    }
}

/// What is read when metrics are asked for.
#[derive(Debug, Clone, Default)]
pub struct Gauges {
    /// The engine's, where it runs here.
    pub engine: Option<state::Gauges>,
    /// What of each topic's input cannot be read.
    pub inputs: Vec<Share>,
    /// Partitions whose start is not known yet.
    pub pending: usize,
    /// What keeps records from being read.
    pub troubles: Vec<Trouble>,
    /// Each Kafka client.
    pub clients: Vec<ClientState>,
    /// By how many seconds this machine's clock is ahead of the brokers', where that is known.
    pub clock_ahead: Option<f64>,
    /// Each service that is called.
    pub services: Vec<(Service, Load)>,
    /// How often each sending limit was reached.
    pub limits: Vec<Reached>,
}

/// How the brokers take a Kafka client.
#[derive(Debug, Clone, Copy)]
pub struct ClientState {
    /// Its name, as health has it.
    pub name: &'static str,
    /// The brokers refuse it.
    pub refused: bool,
    /// No transaction of it goes through, for too long.
    pub stalled: bool,
}

type One = [(&'static str, &'static str); 1];
type Two = [(&'static str, &'static str); 2];
type Three = [(&'static str, &'static str); 3];
type ByTopic = [(&'static str, Arc<str>); 1];
type Times<L> = Family<L, Histogram, fn() -> Histogram>;
type Seconds = Gauge<f64, AtomicU64>;
type Ratio = Gauge<f64, AtomicU64>;

/// A cheap handle to all metrics of a process.
#[derive(Debug, Clone)]
pub struct Metrics(Arc<Inner>);

/// One service's calls: handles, since each request makes two.
#[derive(Debug, Clone)]
pub struct Calls {
    service: Service,
    calls: Family<Two, Counter>,
    succeeded: Counter,
    times: Histogram,
}

/// What each published request records: handles, one set a door.
#[derive(Debug)]
struct ByDoor {
    published: Counter,
    publish: Histogram,
}

#[derive(Debug)]
struct Inner {
    stream: ByDoor,
    http: ByDoor,
    job: ByDoor,
    requests: Family<Three, Counter>,
    retries: Family<One, Counter>,
    dead_letters: Family<Two, Counter>,
    http_answers: Family<One, Counter>,
    handed_over: Counter,
    http_open: Gauge,
    http_bodies: Gauge,
    limits: Family<Two, Counter>,
    calls: Family<Two, Counter>,
    call_time: Times<One>,
    call_limit: Family<One, Gauge>,
    calls_open: Family<One, Gauge>,
    calls_waiting: Family<One, Gauge>,
    unusable: Family<One, Counter>,
    lag: Family<ByTopic, Gauge>,
    lag_age: Family<ByTopic, Seconds>,
    poison: Family<ByTopic, Ratio>,
    partitions: Gauge,
    pending: Gauge,
    troubles: Family<One, Gauge>,
    unreadable: Gauge,
    refused: Family<One, Gauge>,
    stalled: Family<One, Gauge>,
    clock: Seconds,
    rebalances: Family<One, Counter>,
    window: Gauge,
    window_bytes: Gauge,
    parked: Gauge,
    waiting_bytes: Gauge,
    lateness: Histogram,
    transactions: Family<Two, Counter>,
    transaction_time: Times<One>,
    skipped: Counter,
    lost: Counter,
    age: Histogram,
    ahead: Histogram,
    /// Gauges are set and read in one go.
    registry: Mutex<Registry>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::default();
        let r = &mut registry;
        let requests = register(r, list::REQUESTS, Family::default());
        let publish = Family::new_with_constructor(times as fn() -> _);
        let publish = register(r, list::PUBLISH, publish);
        let handles = |door| ByDoor {
            published: requests.get_or_create_owned(&request(
                door,
                FinalOutcome::Published,
                NO_CODE,
            )),
            publish: publish.get_or_create_owned(&by_door(door)),
        };
        let inner = Inner {
            stream: handles(Door::Stream),
            http: handles(Door::Http),
            job: handles(Door::Job),
            requests,
            retries: register(r, list::RETRIES, Family::default()),
            dead_letters: register(r, list::DEAD_LETTERS, Family::default()),
            http_answers: register(r, list::HTTP_ANSWERS, Family::default()),
            handed_over: register(r, list::HANDED_OVER, Counter::default()),
            http_open: register(r, list::HTTP_OPEN, Gauge::default()),
            http_bodies: register(r, list::HTTP_BODIES, Gauge::default()),
            limits: register(r, list::LIMITS, Family::default()),
            calls: register(r, list::CALLS, Family::default()),
            call_time: register(
                r,
                list::CALL_TIME,
                Family::new_with_constructor(times as fn() -> _),
            ),
            call_limit: register(r, list::CALL_LIMIT, Family::default()),
            calls_open: register(r, list::CALLS_OPEN, Family::default()),
            calls_waiting: register(r, list::CALLS_WAITING, Family::default()),
            unusable: register(r, list::UNUSABLE, Family::default()),
            lag: register(r, list::LAG, Family::default()),
            lag_age: register(r, list::LAG_AGE, Family::default()),
            poison: register(r, list::POISON, Family::default()),
            partitions: register(r, list::PARTITIONS, Gauge::default()),
            pending: register(r, list::PENDING, Gauge::default()),
            troubles: register(r, list::TROUBLES, Family::default()),
            unreadable: register(r, list::UNREADABLE, Gauge::default()),
            refused: register(r, list::REFUSED, Family::default()),
            stalled: register(r, list::STALLED, Family::default()),
            clock: register(r, list::CLOCK, Gauge::default()),
            rebalances: register(r, list::REBALANCES, Family::default()),
            window: register(r, list::WINDOW, Gauge::default()),
            window_bytes: register(r, list::WINDOW_BYTES, Gauge::default()),
            parked: register(r, list::PARKED, Gauge::default()),
            waiting_bytes: register(r, list::WAITING_BYTES, Gauge::default()),
            lateness: register(r, list::LATENESS, times()),
            transactions: register(r, list::TRANSACTIONS, Family::default()),
            transaction_time: register(
                r,
                list::TRANSACTION_TIME,
                Family::new_with_constructor(times as fn() -> _),
            ),
            skipped: register(r, list::SKIPPED, Counter::default()),
            lost: register(r, list::LOST, Counter::default()),
            age: register(r, list::AGE, Histogram::new(CLOCKS)),
            ahead: register(r, list::AHEAD, Histogram::new(CLOCKS)),
            registry: Mutex::new(registry),
        };
        inner.begin_at_zero();
        Self(Arc::new(inner))
    }
}

fn register<M: Registrable + Clone>(registry: &mut Registry, metric: Metric, handle: M) -> M {
    registry.register(metric.name, metric.help, handle.clone());
    handle
}

fn times() -> Histogram {
    Histogram::new(TIMES)
}

impl Inner {
    /// A series that begins with its first event hides that event from `rate()`: where the labels
    /// are few, all are there from the start.
    fn begin_at_zero(&self) {
        for limit in Limit::ALL {
            for effect in [LimitEffect::Refused, LimitEffect::Shadowed] {
                drop(self.limits.get_or_create(&reached(*limit, effect)));
            }
        }
        for event in [Rebalance::Assigned, Rebalance::Revoked, Rebalance::Lost] {
            drop(self.rebalances.get_or_create(&rebalanced(event)));
        }
        for end in [
            TransactionEnd::Committed,
            TransactionEnd::Aborted,
            TransactionEnd::Rebuilt,
        ] {
            for door in [Door::Stream, Door::Http] {
                drop(self.transactions.get_or_create(&ended(door, end)));
            }
        }
    }
}

impl Metrics {
    /// A request's try ended in `outcome`, committed, `age` after the request's time.
    pub fn finished(&self, door: Door, outcome: &Outcome, age: Duration) {
        match outcome {
            Outcome::Published(published) => self.published(door, published.code, age),
            Outcome::Rejected(rejection) => {
                self.count(door, FinalOutcome::Rejected, rejection.code());
            }
            Outcome::Limited(limited) => {
                self.count(door, FinalOutcome::Limited, limited.limit.as_str());
            }
            Outcome::DeadLettered(failure) => self.dead_lettered(door, *failure),
            Outcome::Retried(setback) => {
                let labels = [("code", setback.code.as_str())];
                self.0.retries.get_or_create(&labels).inc();
            }
        }
    }

    /// A request's messages were committed, `age` after its time.
    pub fn published(&self, door: Door, code: Option<Code>, age: Duration) {
        let handles = self.0.by_door(door);
        handles.publish.observe(age.as_secs_f64());
        match code {
            None => drop(handles.published.inc()),
            Some(code) => self.count(door, FinalOutcome::Published, code.as_str()),
        }
    }

    /// A request ended with an equal one that was published, committed.
    pub fn superseded(&self, door: Door) {
        self.count(door, FinalOutcome::Superseded, NO_CODE);
    }

    /// A request came to this end, committed.
    fn count(&self, door: Door, outcome: FinalOutcome, code: &'static str) {
        let labels = request(door, outcome, code);
        self.0.requests.get_or_create(&labels).inc();
    }

    fn dead_lettered(&self, door: Door, failure: Failure) {
        let code = failure.code.as_str();
        self.count(door, FinalOutcome::DeadLettered, code);
        let labels = [
            ("disposition", failure.disposition.as_str()),
            ("code", code),
        ];
        self.0.dead_letters.get_or_create(&labels).inc();
    }

    /// An HTTP request was answered 502: it has no outcome record, and comes to no better end.
    pub fn refused(&self, code: Code) {
        let labels = [
            ("door", Door::Http.as_str()),
            ("outcome", "refused"),
            ("code", code.as_str()),
        ];
        self.0.requests.get_or_create(&labels).inc();
    }

    /// The HTTP door answered; a status that it does not use counts as `other`.
    pub fn http_answered(&self, status: u16) {
        let status = match status {
            201 => "201",
            400 => "400",
            404 => "404",
            405 => "405",
            408 => "408",
            413 => "413",
            415 => "415",
            422 => "422",
            429 => "429",
            502 => "502",
            503 => "503",
            _ => "other",
        };
        self.0
            .http_answers
            .get_or_create(&[("status", status)])
            .inc();
    }

    /// An HTTP request went on the topic of accepted requests.
    pub fn handed_over(&self) {
        self.0.handed_over.inc();
    }

    /// An HTTP request was read; it is answered when this is dropped.
    #[must_use]
    pub fn http_request(&self) -> InProgress {
        self.0.http_open.inc();
        InProgress(self.0.http_open.clone())
    }

    /// So many bytes are reserved for an HTTP request's body, until this is dropped.
    #[must_use]
    pub fn http_body(&self, bytes: usize) -> HeldBytes {
        let gauge = self.0.http_bodies.clone();
        gauge.inc_by(whole(bytes));
        HeldBytes { gauge, bytes }
    }

    /// What a service's calls are recorded by.
    #[must_use]
    pub fn calls(&self, service: Service) -> Calls {
        let inner = &self.0;
        Calls {
            service,
            calls: inner.calls.clone(),
            succeeded: inner.calls.get_or_create_owned(&called(service, "success")),
            times: inner
                .call_time
                .get_or_create_owned(&[("service", service.as_str())]),
        }
    }

    /// Localization answered a text that cannot be used.
    pub fn template_unusable(&self, template: TextCode) {
        let labels = [("template", template.as_str())];
        self.0.unusable.get_or_create(&labels).inc();
    }

    /// The group changed our partitions.
    pub fn rebalanced(&self, event: Rebalance) {
        self.0.rebalances.get_or_create(&rebalanced(event)).inc();
    }

    /// A retry is handled `late` after it was due.
    pub fn retry_started(&self, late: Duration) {
        self.0.lateness.observe(late.as_secs_f64());
    }

    /// A transaction of a door's committer ended after `took`.
    pub fn transaction(&self, door: Door, end: TransactionEnd, took: Duration) {
        self.0.transactions.get_or_create(&ended(door, end)).inc();
        let times = self.0.transaction_time.get_or_create(&by_door(door));
        times.observe(took.as_secs_f64());
    }

    /// So many offsets were gone before they were consumed.
    pub fn offsets_lost(&self, offsets: i64) {
        self.0.lost.inc_by(u64::try_from(offsets).unwrap_or(0));
    }

    /// A request was this old by its record's time when it was read.
    pub fn request_age(&self, age: Duration) {
        self.0.age.observe(age.as_secs_f64());
    }

    /// A record's time was `ahead` of our clock.
    pub fn record_ahead(&self, ahead: Duration) {
        self.0.ahead.observe(ahead.as_secs_f64());
    }

    /// All metrics in Prometheus' text format, with the gauges as they are `now`.
    #[must_use]
    pub fn render(&self, now: &Gauges) -> String {
        let registry = self.0.registry.lock();
        self.0.set(now);
        let mut text = String::new();
        prometheus_text::encode(&mut text, &registry).expect("a string takes everything");
        text
    }

    /// What [`Metrics::render`] is to be served as.
    pub const CONTENT_TYPE: &str = prometheus_text::CONTENT_TYPE;
}

impl Calls {
    /// A call came back, or did not, after `took`.
    pub fn ended(&self, result: Result<(), Code>, took: Duration) {
        self.times.observe(took.as_secs_f64());
        match result {
            Ok(()) => drop(self.succeeded.inc()),
            Err(code) => {
                let labels = called(self.service, code.as_str());
                self.calls.get_or_create(&labels).inc();
            }
        }
    }
}

impl Inner {
    fn by_door(&self, door: Door) -> &ByDoor {
        match door {
            Door::Stream => &self.stream,
            Door::Http => &self.http,
            Door::Job => &self.job,
        }
    }

    fn set(&self, now: &Gauges) {
        for (service, load) in &now.services {
            let labels = [("service", service.as_str())];
            self.call_limit
                .get_or_create(&labels)
                .set(whole(load.limit));
            self.calls_open
                .get_or_create(&labels)
                .set(whole(load.in_use));
            let waiting = self.calls_waiting.get_or_create(&labels);
            waiting.set(whole(load.waiting));
        }
        for limit in &now.limits {
            for (effect, times) in [
                (LimitEffect::Refused, limit.refused),
                (LimitEffect::Shadowed, limit.shadowed),
            ] {
                let counter = self.limits.get_or_create(&reached(limit.limit, effect));
                counter.inner().store(times, Ordering::Relaxed);
            }
        }
        self.pending.set(whole(now.pending));
        for kind in TroubleKind::ALL {
            let count = now.troubles.iter().filter(|one| one.kind == *kind).count();
            let labels = [("trouble", kind.as_str())];
            self.troubles.get_or_create(&labels).set(whole(count));
        }
        for client in &now.clients {
            let labels = [("client", client.name)];
            let refused = self.refused.get_or_create(&labels);
            refused.set(client.refused.into());
            let stalled = self.stalled.get_or_create(&labels);
            stalled.set(client.stalled.into());
        }
        self.clock.set(now.clock_ahead.unwrap_or(f64::NAN));
        let Some(engine) = &now.engine else { return };
        self.partitions.set(whole(engine.partitions));
        self.unreadable.set(whole(engine.unreadable));
        self.window.set(whole(engine.window_requests));
        self.window_bytes.set(whole(engine.window_bytes));
        self.parked.set(whole(engine.parked));
        self.waiting_bytes.set(whole(engine.waiting_bytes));
        self.skipped
            .inner()
            .store(engine.skipped, Ordering::Relaxed);
        // Topics whose partitions are no longer ours are not ours to speak of.
        self.lag.clear();
        self.lag_age.clear();
        self.poison.clear();
        for share in &now.inputs {
            let labels = [("topic", Arc::clone(&share.topic))];
            self.poison.get_or_create(&labels).set(share.ratio());
        }
        for (topic, lag) in &engine.lag {
            let labels = [("topic", Arc::clone(topic))];
            let records = i64::try_from(lag.records).unwrap_or(i64::MAX);
            self.lag.get_or_create(&labels).set(records);
            let age = lag.age.as_secs_f64();
            self.lag_age.get_or_create(&labels).set(age);
        }
    }
}

fn whole(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn request(door: Door, outcome: FinalOutcome, code: &'static str) -> Three {
    [
        ("door", door.as_str()),
        ("outcome", outcome.as_str()),
        ("code", code),
    ]
}

fn called(service: Service, result: &'static str) -> Two {
    [("service", service.as_str()), ("result", result)]
}

fn by_door(door: Door) -> One {
    [("door", door.as_str())]
}

fn ended(door: Door, end: TransactionEnd) -> Two {
    let end = match end {
        TransactionEnd::Committed => "committed",
        TransactionEnd::Aborted => "aborted",
        TransactionEnd::Rebuilt => "rebuilt",
    };
    [("door", door.as_str()), ("end", end)]
}

fn rebalanced(event: Rebalance) -> One {
    let event = match event {
        Rebalance::Assigned => "assigned",
        Rebalance::Revoked => "revoked",
        Rebalance::Lost => "lost",
    };
    [("event", event)]
}

fn reached(limit: Limit, effect: LimitEffect) -> Two {
    let effect = match effect {
        LimitEffect::Refused => "refused",
        LimitEffect::Shadowed => "shadowed",
    };
    [("limit", limit.as_str()), ("effect", effect)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::state::Lag;

    fn full() -> (Metrics, Gauges) {
        let metrics = Metrics::default();
        let failure = Failure {
            disposition: crate::outcome::Disposition::Poison,
            code: Code::NotJson,
            stage: crate::outcome::Stage::Decode,
        };
        let setback = crate::outcome::Setback {
            code: Code::ServiceTimeout,
            stage: crate::outcome::Stage::Otp,
            retry_after: None,
        };
        metrics.finished(Door::Http, &Outcome::DeadLettered(failure), Duration::ZERO);
        metrics.finished(Door::Http, &Outcome::Retried(setback), Duration::ZERO);
        metrics.http_answered(201);
        metrics.handed_over();
        metrics
            .calls(Service::Otp)
            .ended(Ok(()), Duration::from_millis(60));
        metrics.template_unusable(TextCode::SmsLogin);
        metrics.retry_started(Duration::from_millis(3));
        metrics.transaction(Door::Http, TransactionEnd::Rebuilt, Duration::from_secs(20));
        metrics.offsets_lost(7);
        metrics.request_age(Duration::from_millis(20));
        metrics.record_ahead(Duration::from_secs(90));
        let load = Load {
            limit: 256,
            in_use: 2,
            waiting: 1,
        };
        let lag = Lag {
            records: 12,
            age: Duration::from_millis(1_500),
        };
        let share = Share {
            topic: "requests".into(),
            records: 8,
            poison: 2,
        };
        let gauges = Gauges {
            engine: Some(state::Gauges {
                window_requests: 3,
                lag: [("requests".into(), lag)].into(),
                ..state::Gauges::default()
            }),
            inputs: vec![share],
            pending: 4,
            troubles: vec![Trouble {
                kind: TroubleKind::Stalled,
                text: "a partition".into(),
            }],
            clients: vec![ClientState {
                name: "http-producer",
                refused: true,
                stalled: false,
            }],
            clock_ahead: None,
            services: vec![(Service::Otp, load)],
            limits: vec![Reached {
                limit: Limit::Prefix,
                refused: 0,
                shadowed: 5,
            }],
        };
        (metrics, gauges)
    }

    #[test]
    fn every_metric_is_shown_with_its_labels() {
        let (metrics, gauges) = full();
        let text = metrics.render(&gauges);
        let shown = text
            .lines()
            .filter(|line| line.starts_with("# HELP "))
            .count();
        assert_eq!(shown, ALL.len());
        for metric in ALL {
            let mut samples = text.lines().filter(|line| line.starts_with(metric.name));
            let labels = |line: &str| {
                metric
                    .labels
                    .iter()
                    .all(|one| line.contains(&format!("{one}=\"")))
            };
            assert!(
                samples.any(labels),
                "{} with {:?}",
                metric.name,
                metric.labels
            );
            assert_eq!(
                metric.labels.is_empty(),
                !text.contains(&format!("{}{{", metric.shown_name())),
                "{}",
                metric.name
            );
        }
    }

    #[test]
    fn gauges_are_those_of_the_moment() {
        let (metrics, mut gauges) = full();
        let text = metrics.render(&gauges);
        for line in [
            r#"user_otp_lag_records{topic="requests"} 12"#,
            r#"user_otp_lag_seconds{topic="requests"} 1.5"#,
            r#"user_otp_poison_ratio{topic="requests"} 0.25"#,
            r#"user_otp_service_calls_waiting{service="otp"} 1"#,
            "user_otp_window_requests 3",
            r#"user_otp_limits_reached_total{limit="limit-prefix",effect="shadowed"} 5"#,
            "user_otp_partitions_pending 4",
            r#"user_otp_consumer_troubles{trouble="stalled"} 1"#,
            r#"user_otp_consumer_troubles{trouble="error"} 0"#,
            r#"user_otp_client_refused{client="http-producer"} 1"#,
            r#"user_otp_commits_stalled{client="http-producer"} 0"#,
            "user_otp_clock_ahead_seconds NaN",
        ] {
            assert!(text.lines().any(|one| one == line), "{line} in\n{text}");
        }
        gauges.engine = Some(state::Gauges::default());
        gauges.clock_ahead = Some(-90.0);
        let text = metrics.render(&gauges);
        assert!(
            !text.contains("user_otp_lag_records{"),
            "its partitions are no longer ours"
        );
        assert!(text.contains("user_otp_clock_ahead_seconds -90.0\n"));
    }
}
