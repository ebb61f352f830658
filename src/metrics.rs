//! Every metric there is: its name, labels and help, each once. Nothing else names the metrics'
//! library, and there is no global registry: a [`Metrics`] goes in as an argument.
//!
//! Counters and histograms are recorded where things happen, by an atomic or a lock that nobody
//! contends for, and without building a text. Gauges are read when they are asked for
//! ([`Gauges`]). Labels are closed sets and the topics that are consumed: never a tenant, since
//! strangers choose it, and nothing of a person.

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

use crate::egov::{Load, Service};
use crate::engine::record::Door;
use crate::engine::state;
use crate::messages::TextCode;
use crate::outcome::{Code, Failure, FinalOutcome, Limit, Outcome};

/// How a metric grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only upwards, from 0 at the start of the process; `_total` follows its name.
    Counter,
    /// Up and down.
    Gauge,
    /// Counts by size; `_bucket`, `_sum` and `_count` follow its name.
    Histogram,
}

/// What a metric is called and says.
#[derive(Debug, Clone, Copy)]
pub struct Metric {
    /// How it grows.
    pub kind: Kind,
    /// Its name, with its unit, without what its kind appends.
    pub name: &'static str,
    /// Its labels.
    pub labels: &'static [&'static str],
    /// Its help text, without a final full stop.
    pub help: &'static str,
}

macro_rules! metrics {
    ($($name:ident: $kind:ident $text:literal [$($label:literal),*] $help:literal;)+) => {
        $(const $name: Metric = Metric {
            kind: Kind::$kind,
            name: $text,
            labels: &[$($label),*],
            help: $help,
        };)+

        /// Every metric, in the order of the documentation.
        pub const ALL: &[Metric] = &[$($name,)+];
    };
}

metrics! {
    REQUESTS: Counter "user_otp_requests" ["door", "outcome", "code"]
        "Requests that came to their final outcome, once it is committed";
    PUBLISH: Histogram "user_otp_publish_duration_seconds" ["door"]
        "From the time of a request (its record's) to the commit of its messages";
    RETRIES: Counter "user_otp_retries" ["code"]
        "Tries that ended on a retry topic";
    DEAD_LETTERS: Counter "user_otp_dead_letters" ["disposition", "code"]
        "Requests that ended on the dead-letter topic";
    HTTP_ANSWERS: Counter "user_otp_http_answers" ["status"]
        "Answers of the HTTP door, by status";
    HANDED_OVER: Counter "user_otp_http_handed_over" []
        "HTTP requests that went on the topic of accepted requests";
    LIMITS: Counter "user_otp_limits_reached" ["limit", "effect"]
        "Requests over a sending limit: refused, or only counted (shadowed)";
    CALLS: Counter "user_otp_service_calls" ["service", "result"]
        "Calls to a service, by what came of them";
    CALL_TIME: Histogram "user_otp_service_call_duration_seconds" ["service"]
        "From sending a call to the last byte of its answer";
    CALL_LIMIT: Gauge "user_otp_service_calls_limit" ["service"]
        "Calls that a service gets at once";
    CALLS_OPEN: Gauge "user_otp_service_calls_in_progress" ["service"]
        "Calls to a service under way";
    CALLS_WAITING: Gauge "user_otp_service_calls_waiting" ["service"]
        "Requests that wait for their turn at a service";
    UNUSABLE: Counter "user_otp_templates_unusable" ["template"]
        "Texts that localization answered and that cannot be used, each time they are read";
    LAG: Gauge "user_otp_lag_records" ["topic"]
        "Records below the last stable offset that are not finished, on our partitions";
    LAG_AGE: Gauge "user_otp_lag_seconds" ["topic"]
        "Age of the oldest of them by its record time; on a retry topic its delay is part of it";
    PARTITIONS: Gauge "user_otp_partitions_assigned" []
        "Partitions that are consumed";
    PENDING: Gauge "user_otp_partitions_pending" []
        "Partitions assigned to us whose start is not known yet";
    REBALANCES: Counter "user_otp_rebalances" ["event"]
        "Changes of our partitions by the group";
    WINDOW: Gauge "user_otp_window_requests" []
        "Requests in hand";
    WINDOW_BYTES: Gauge "user_otp_window_bytes" []
        "Bytes of the records in hand";
    PARKED: Gauge "user_otp_retries_parked" []
        "Retries in memory that wait until they are due";
    LATENESS: Histogram "user_otp_retry_lateness_seconds" []
        "From the moment a retry was due to the start of its handling";
    TRANSACTIONS: Counter "user_otp_transactions" ["door", "end"]
        "Transactions, by how they ended; rebuilt: with a new producer";
    TRANSACTION_TIME: Histogram "user_otp_transaction_duration_seconds" ["door"]
        "From the beginning of a transaction to its end, whichever it is";
    SKIPPED: Counter "user_otp_old_records_skipped" []
        "Records older than a request lives that were there before the group, passed over";
    LOST: Counter "user_otp_offsets_lost" []
        "Offsets that were gone before they were consumed (retention, a topic created anew)";
    AHEAD: Histogram "user_otp_record_ahead_seconds" []
        "How far records' times were ahead of our clock, of those that were: a producer's clock";
}

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
pub enum LimitEffect {
    /// The request was refused.
    Refused,
    /// It was only counted.
    Shadowed,
}

/// What is read when metrics are asked for.
#[derive(Debug, Clone, Default)]
pub struct Gauges {
    /// The engine's, where it runs here.
    pub engine: Option<state::Gauges>,
    /// Partitions whose start is not known yet.
    pub pending: usize,
    /// Each service that is called.
    pub services: Vec<(Service, Load)>,
}

type One = [(&'static str, &'static str); 1];
type Two = [(&'static str, &'static str); 2];
type Three = [(&'static str, &'static str); 3];
type ByTopic = [(&'static str, Arc<str>); 1];
type Times<L> = Family<L, Histogram, fn() -> Histogram>;
type Seconds = Gauge<f64, AtomicU64>;

/// A cheap handle to all metrics of a process.
#[derive(Debug, Clone)]
pub struct Metrics(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    requests: Family<Three, Counter>,
    publish: Times<One>,
    retries: Family<One, Counter>,
    dead_letters: Family<Two, Counter>,
    http_answers: Family<One, Counter>,
    handed_over: Counter,
    limits: Family<Two, Counter>,
    calls: Family<Two, Counter>,
    call_time: Times<One>,
    call_limit: Family<One, Gauge>,
    calls_open: Family<One, Gauge>,
    calls_waiting: Family<One, Gauge>,
    unusable: Family<One, Counter>,
    lag: Family<ByTopic, Gauge>,
    lag_age: Family<ByTopic, Seconds>,
    partitions: Gauge,
    pending: Gauge,
    rebalances: Family<One, Counter>,
    window: Gauge,
    window_bytes: Gauge,
    parked: Gauge,
    lateness: Histogram,
    transactions: Family<Two, Counter>,
    transaction_time: Times<One>,
    skipped: Counter,
    lost: Counter,
    ahead: Histogram,
    /// Gauges are set and read in one go.
    registry: Mutex<Registry>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::default();
        let r = &mut registry;
        let inner = Inner {
            requests: register(r, REQUESTS, Family::default()),
            publish: register(r, PUBLISH, Family::new_with_constructor(times as fn() -> _)),
            retries: register(r, RETRIES, Family::default()),
            dead_letters: register(r, DEAD_LETTERS, Family::default()),
            http_answers: register(r, HTTP_ANSWERS, Family::default()),
            handed_over: register(r, HANDED_OVER, Counter::default()),
            limits: register(r, LIMITS, Family::default()),
            calls: register(r, CALLS, Family::default()),
            call_time: register(
                r,
                CALL_TIME,
                Family::new_with_constructor(times as fn() -> _),
            ),
            call_limit: register(r, CALL_LIMIT, Family::default()),
            calls_open: register(r, CALLS_OPEN, Family::default()),
            calls_waiting: register(r, CALLS_WAITING, Family::default()),
            unusable: register(r, UNUSABLE, Family::default()),
            lag: register(r, LAG, Family::default()),
            lag_age: register(r, LAG_AGE, Family::default()),
            partitions: register(r, PARTITIONS, Gauge::default()),
            pending: register(r, PENDING, Gauge::default()),
            rebalances: register(r, REBALANCES, Family::default()),
            window: register(r, WINDOW, Gauge::default()),
            window_bytes: register(r, WINDOW_BYTES, Gauge::default()),
            parked: register(r, PARKED, Gauge::default()),
            lateness: register(r, LATENESS, times()),
            transactions: register(r, TRANSACTIONS, Family::default()),
            transaction_time: register(
                r,
                TRANSACTION_TIME,
                Family::new_with_constructor(times as fn() -> _),
            ),
            skipped: register(r, SKIPPED, Counter::default()),
            lost: register(r, LOST, Counter::default()),
            ahead: register(r, AHEAD, Histogram::new(CLOCKS)),
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
        for door in [Door::Stream, Door::Http, Door::Job] {
            let published = FinalOutcome::Published;
            drop(
                self.requests
                    .get_or_create(&request(door, published, NO_CODE)),
            );
            drop(self.publish.get_or_create(&by_door(door)));
        }
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
            drop(self.transactions.get_or_create(&ended(Door::Stream, end)));
        }
    }
}

impl Metrics {
    /// A request's try ended in `outcome`, committed, `age` after the request's time.
    pub fn finished(&self, door: Door, outcome: &Outcome, age: Duration) {
        match outcome {
            Outcome::Published(published) => {
                let code = published.code.map_or(NO_CODE, Code::as_str);
                self.count(door, FinalOutcome::Published, code);
                let publish = self.0.publish.get_or_create(&by_door(door));
                publish.observe(age.as_secs_f64());
            }
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

    /// A request came to this end, committed. [`Metrics::finished`] calls it; it is there for ends
    /// that are no handler's outcome, as `superseded`.
    pub fn count(&self, door: Door, outcome: FinalOutcome, code: &'static str) {
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

    /// A request was over a sending limit.
    pub fn limit_reached(&self, limit: Limit, effect: LimitEffect) {
        self.0.limits.get_or_create(&reached(limit, effect)).inc();
    }

    /// A call to a service came back, or did not, after `took`.
    pub fn called(&self, service: Service, result: Result<(), Code>, took: Duration) {
        let word = match result {
            Ok(()) => "success",
            Err(code) => code.as_str(),
        };
        let service = ("service", service.as_str());
        self.0
            .calls
            .get_or_create(&[service, ("result", word)])
            .inc();
        let times = self.0.call_time.get_or_create(&[service]);
        times.observe(took.as_secs_f64());
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

impl Inner {
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
        self.pending.set(whole(now.pending));
        let Some(engine) = &now.engine else { return };
        self.partitions.set(whole(engine.partitions));
        self.window.set(whole(engine.window_requests));
        self.window_bytes.set(whole(engine.window_bytes));
        self.parked.set(whole(engine.parked));
        self.skipped
            .inner()
            .store(engine.skipped, Ordering::Relaxed);
        // Topics whose partitions are no longer ours are not ours to speak of.
        self.lag.clear();
        self.lag_age.clear();
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
