//! The typed settings, one struct for each section of `config/default.toml`, which says what
//! each is for. Whoever holds one of these need not check it again.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use secrecy::SecretString;

use super::values::{
    HttpAnswers, KafkaProperties, LimitsMode, LogFormat, OnOutage, RedisUrl, RetryDelay, ServiceUrl,
};
pub use crate::domain::tenant::Tenancy;

/// All settings. Nothing in it prints a secret.
#[derive(Debug, Clone)]
pub struct Config {
    /// How to reach the cluster, and who we are in it.
    pub kafka: Kafka,
    /// Names of topics.
    pub topics: Topics,
    /// How long a request lives.
    pub request: Request,
    /// Waiting while a service is unavailable.
    pub retry: Retry,
    /// Bounds of the stream processor.
    pub engine: Engine,
    /// The HTTP door.
    pub http: Http,
    /// Metrics and health.
    pub management: Management,
    /// Sending limits.
    pub limits: Limits,
    /// egov-user.
    pub users: Users,
    /// egov-otp.
    pub otp: Otp,
    /// egov-localization.
    pub localization: Localization,
    /// The cache of texts.
    pub texts: Texts,
    /// egov-mdms.
    pub mdms: Mdms,
    /// Rules for mobile numbers.
    pub rules: Rules,
    /// What holds for every call to a service.
    pub services: Services,
    /// SMS records.
    pub sms: Sms,
    /// How tenant ids are read.
    pub tenancy: Tenancy,
    /// Logging.
    pub log: Log,
    /// The way down.
    pub shutdown: Shutdown,
}

/// `[kafka]`
#[derive(Debug, Clone)]
pub struct Kafka {
    /// `host:port`, several separated by commas; librdkafka's `bootstrap.servers`.
    pub brokers: String,
    /// The consumer group.
    pub group: String,
    /// This instance's name, never empty: `[A-Za-z0-9._-]`.
    pub instance: String,
    /// How long brokers may be silent at the start.
    pub startup_timeout: Duration,
    /// Free librdkafka properties, none of which the engine owns.
    pub properties: KafkaProperties,
}

/// `[topics]`: valid names, all different.
#[derive(Debug, Clone)]
pub struct Topics {
    /// Requests from upstream.
    pub requests: String,
    /// Requests handed over by the HTTP door.
    pub accepted: String,
    /// Requests sent again by operators.
    pub jobs: String,
    /// Retry topics are `{retry_prefix}.{delay label}`.
    pub retry_prefix: String,
    /// Dead letters.
    pub dead_letters: String,
    /// Final outcomes.
    pub outcomes: String,
    /// Progress and audit of commands.
    pub job_log: String,
    /// SMS, without a state's prefix.
    pub sms: String,
    /// Emails, without a state's prefix.
    pub email: String,
    /// Create missing topics of our own at the start.
    pub create: bool,
}

/// `[request]`
#[derive(Debug, Clone)]
pub struct Request {
    /// From a request's time to its deadline.
    pub lifetime: Duration,
    /// With less than this left, nothing is created; shorter than `lifetime`.
    pub min_life: Duration,
}

/// `[retry]`
#[derive(Debug, Clone)]
pub struct Retry {
    /// 1 to 10 tiers, each longer than the one before and shorter than a request's lifetime.
    pub delays: Vec<RetryDelay>,
    /// Waiting requests in memory for each partition.
    pub parked: usize,
    /// Bytes of waiting requests in memory, over all partitions.
    pub waiting_bytes: usize,
}

/// `[engine]`
#[derive(Debug, Clone)]
pub struct Engine {
    /// Take requests from Kafka.
    pub enabled: bool,
    /// Requests in hand.
    pub window: usize,
    /// Bytes of requests in hand.
    pub window_bytes: usize,
    /// Requests of one person in hand.
    pub lane: usize,
    /// Requests of jobs in hand, in percent (1 to 100) of the window.
    pub jobs_share: u32,
    /// Percent (1 to 100) of a topic's input that may be unreadable before it is said.
    pub poison_share: u32,
    /// Over how long that is judged.
    pub poison_window: Duration,
    /// A partition with records that gives none for this long is assigned again.
    pub stall_after: Duration,
    /// Requests in one transaction.
    pub batch: usize,
    /// How long a transaction waits for more.
    pub linger: Duration,
    /// How long a revoke waits for what has begun.
    pub drain: Duration,
    /// A request that has waited longer takes equal ones behind it along; zero: none does.
    pub supersede_after: Duration,
}

/// `[http]`
#[derive(Debug, Clone)]
pub struct Http {
    /// Serve at all.
    pub enabled: bool,
    /// The address to listen on.
    pub bind: IpAddr,
    /// 0 is any free port.
    pub port: u16,
    /// Begins with a slash and does not end with one, or is empty.
    pub context_path: String,
    /// What an answer waits for, and tells.
    pub answers: HttpAnswers,
    /// From the request to egov-otp's answer.
    pub budget: Duration,
    /// How long a commit is waited for.
    pub confirm_timeout: Duration,
    /// Requests at once.
    pub requests: usize,
    /// Largest body, in bytes.
    pub body_limit: usize,
    /// Bytes of bodies in memory, of all requests together.
    pub body_bytes: usize,
    /// How long a body may take to arrive.
    pub body_timeout: Duration,
    /// How long headers may take, and a connection may be idle.
    pub idle_timeout: Duration,
    /// Connections at once.
    pub connections: usize,
    /// For how long an `Idempotency-Key` stands for its first request.
    pub idempotency_window: Duration,
    /// Idempotency keys in memory.
    pub idempotency_entries: usize,
    /// Whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpNet>,
}

impl Http {
    /// A request's longest way to its answer once it is read, but for its body.
    #[must_use]
    pub fn lease(&self) -> Duration {
        self.budget + self.confirm_timeout
    }

    /// From a request's head to its answer: it may wait for another one with the same key first.
    #[must_use]
    pub fn longest_request(&self) -> Duration {
        self.body_timeout + 2 * self.lease()
    }
}

/// `[management]`
#[derive(Debug, Clone)]
pub struct Management {
    /// The address to listen on.
    pub bind: IpAddr,
    /// 0 is any free port.
    pub port: u16,
    /// For how long no transaction with results may go through before a restart is asked for.
    pub commits_stalled_after: Duration,
}

/// `[limits]`
#[derive(Debug, Clone)]
pub struct Limits {
    /// The most that any limit does.
    pub mode: LimitsMode,
    /// One number and type.
    pub number_type: LimitRule,
    /// One number.
    pub number: LimitRule,
    /// One number over a day.
    pub number_day: LimitRule,
    /// Numbers that differ in their last four digits alone.
    pub prefix: LimitRule,
    /// One tenant.
    pub tenant: LimitRule,
    /// One client address.
    pub address: LimitRule,
    /// Keys and verdicts in memory, each.
    pub entries: usize,
    /// What instances share; `None`: nothing.
    pub redis: Option<RedisUrl>,
    /// One answer of Redis.
    pub redis_timeout: Duration,
    /// For the HMACs in Redis; empty: there is none.
    pub key: SecretString,
}

/// One sending limit of `[limits]`.
#[derive(Debug, Clone, Copy)]
pub struct LimitRule {
    /// What it does by itself; `limits.mode` is its ceiling.
    pub mode: LimitsMode,
    /// Requests within the window; at least 1.
    pub count: usize,
    /// How long each counts, from the time it was received.
    pub window: Duration,
}

/// `[users]`: egov-user.
#[derive(Debug, Clone)]
pub struct Users {
    /// Base address.
    pub url: ServiceUrl,
    /// Path of the search; begins with a slash.
    pub path: String,
    /// One call's deadline.
    pub timeout: Duration,
    /// Calls at once.
    pub calls: usize,
}

/// `[otp]`: egov-otp.
#[derive(Debug, Clone)]
pub struct Otp {
    /// Base address, with its context.
    pub url: ServiceUrl,
    /// Path of the creation; begins with a slash.
    pub path: String,
    /// One call's deadline.
    pub timeout: Duration,
    /// Calls at once.
    pub calls: usize,
}

/// `[localization]`: egov-localization.
#[derive(Debug, Clone)]
pub struct Localization {
    /// Base address; `None`: the platform has none, the built-in texts serve.
    pub url: Option<ServiceUrl>,
    /// Path of the search; begins with a slash.
    pub path: String,
    /// One call's deadline.
    pub timeout: Duration,
    /// Calls at once.
    pub calls: usize,
    /// Last parts that a tenant id loses; 0 or less: none.
    pub strip_suffix_count: i32,
    /// Matches `^[a-z]{2,3}(_[A-Z]{2})?$`.
    pub default_locale: String,
    /// The module of the texts.
    pub module: String,
}

/// `[texts]`: the cache of texts.
#[derive(Debug, Clone)]
pub struct Texts {
    /// How long a copy is fresh.
    pub ttl: Duration,
    /// How long an answer without texts is fresh.
    pub empty_ttl: Duration,
    /// Copies kept.
    pub entries: usize,
    /// Bytes of copies kept.
    pub bytes: usize,
    /// What an outage without a copy means.
    pub on_outage: OnOutage,
    /// Locales whose texts are never evicted; holds `localization.default_locale` always.
    pub pinned_locales: Vec<String>,
}

/// `[mdms]`: egov-mdms.
#[derive(Debug, Clone)]
pub struct Mdms {
    /// Base address; `None`: the platform has none, `[rules]` decide.
    pub url: Option<ServiceUrl>,
    /// Path of the search; begins with a slash.
    pub path: String,
    /// One call's deadline.
    pub timeout: Duration,
    /// Calls at once.
    pub calls: usize,
    /// The module of the rules.
    pub module: String,
    /// The master of the rules.
    pub master: String,
}

/// `[rules]`: mobile numbers.
#[derive(Debug, Clone)]
pub struct Rules {
    /// Compiles as a `fancy_regex`; a number must match it whole.
    pub default_pattern: String,
    /// Country codes taken without MDMS; each matches `^\+?[1-9][0-9]{0,3}$`.
    pub country_codes: Vec<String>,
    /// How long a copy is fresh (`rules.ttl_seconds`); `None`: for ever.
    pub ttl: Option<Duration>,
    /// How long an answer without rules is fresh.
    pub empty_ttl: Duration,
    /// Copies kept.
    pub entries: usize,
    /// Bytes of copies kept.
    pub bytes: usize,
}

/// `[services]`: what holds for every call.
#[derive(Debug, Clone)]
pub struct Services {
    /// Calls within one try of a request, the first included; at least 1.
    pub tries: u32,
    /// Longest first pause.
    pub backoff: Duration,
    /// Longest pause of all; not shorter than `backoff`.
    pub backoff_max: Duration,
    /// Messages of a 400 that mean an outage.
    pub outage_messages: Vec<String>,
    /// Deadline for a connection.
    pub connect_timeout: Duration,
    /// Longest answer in bytes.
    pub body_limit: usize,
}

/// `[sms]`
#[derive(Debug, Clone)]
pub struct Sms {
    /// From now to `expiryTime` (`sms.expiry_ms`).
    pub expiry: Duration,
}

/// `[log]`
#[derive(Debug, Clone)]
pub struct Log {
    /// For people or for machines.
    pub format: LogFormat,
    /// An `EnvFilter` that parses.
    pub level: String,
}

/// `[shutdown]`
#[derive(Debug, Clone)]
pub struct Shutdown {
    /// From SIGTERM to the end of the process.
    pub deadline: Duration,
}
