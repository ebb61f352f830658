//! Which key is of which kind, with its bounds: one line for each line of
//! `config/default.toml`, in its order.

use std::time::Duration;

use super::checks::{
    brokers, country_code, group, instance, locale, log_level, not_empty, pattern, topic,
};
use super::error::Origin;
use super::kinds::{
    address, count, delays, duration, flag, list, networks, one_of, optional_redis, optional_url,
    path, prefix, secret, text, url,
};
use super::read::Reader;
use super::sections::{
    Config, Engine, Http, Kafka, LimitRule, Limits, Localization, Log, Management, Mdms, Otp,
    Request, Retry, Rules, Services, Shutdown, Sms, Tenancy, Texts, Topics, Users,
};
use super::values::{HttpAnswers, LimitsMode, LogFormat, OnOutage};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// A service that is called more often at once is not called faster.
const MOST_CALLS: i64 = 10_000;
/// What fits on the topic of accepted requests, as we create it, with its headers.
const LARGEST_BODY: i64 = 98_304;
/// Bytes of a buffer: from a mebibyte on.
const BUDGET: std::ops::RangeInclusive<i64> = 1 << 20..=1 << 32;
/// Copies in a cache: about a kilobyte each.
const MOST_ENTRIES: i64 = 1_000_000;

impl Config {
    /// Reads every section; `host` is this machine's name.
    pub(super) fn read(r: &mut Reader, host: &str) -> Self {
        let mut config = Self {
            kafka: Kafka::read(r, host),
            topics: Topics::read(r),
            request: Request::read(r),
            retry: Retry::read(r),
            engine: Engine::read(r),
            http: Http::read(r),
            management: Management::read(r),
            limits: Limits::read(r),
            users: Users::read(r),
            otp: Otp::read(r),
            localization: Localization::read(r),
            texts: Texts::read(r),
            mdms: Mdms::read(r),
            rules: Rules::read(r),
            services: Services::read(r),
            sms: Sms::read(r),
            tenancy: Tenancy::read(r),
            log: Log::read(r),
            shutdown: Shutdown::read(r),
        };
        let pinned = &mut config.texts.pinned_locales;
        if !pinned.contains(&config.localization.default_locale) {
            pinned.push(config.localization.default_locale.clone());
        }
        config
    }
}

impl Kafka {
    fn read(r: &mut Reader, host: &str) -> Self {
        let brokers = r.read("kafka.brokers", text(brokers));
        let group = r.read("kafka.group", text(group));
        let mut instance = r.read("kafka.instance", text(instance));
        if instance.is_empty() {
            instance = host.to_owned();
            r.found_out("kafka.instance", host, Origin::HostName);
        }
        Self {
            brokers,
            group,
            instance,
            startup_timeout: r.read("kafka.startup_timeout", duration(MS..=HOUR)),
            properties: r.kafka_properties(),
        }
    }
}

impl Topics {
    fn read(r: &mut Reader) -> Self {
        Self {
            requests: r.read("topics.requests", text(topic)),
            accepted: r.read("topics.accepted", text(topic)),
            jobs: r.read("topics.jobs", text(topic)),
            retry_prefix: r.read("topics.retry_prefix", text(topic)),
            dead_letters: r.read("topics.dead_letters", text(topic)),
            outcomes: r.read("topics.outcomes", text(topic)),
            job_log: r.read("topics.job_log", text(topic)),
            sms: r.read("topics.sms", text(topic)),
            email: r.read("topics.email", text(topic)),
            create: r.read("topics.create", flag),
        }
    }
}

impl Request {
    fn read(r: &mut Reader) -> Self {
        Self {
            lifetime: r.read("request.lifetime", duration(SECOND..=DAY)),
            min_life: r.read("request.min_life", duration(MS..=HOUR)),
        }
    }
}

impl Retry {
    fn read(r: &mut Reader) -> Self {
        Self {
            delays: r.read("retry.delays", delays),
            parked: r.read("retry.parked", count(1..=100_000)),
            waiting_bytes: r.read("retry.waiting_bytes", count(BUDGET)),
        }
    }
}

impl Engine {
    fn read(r: &mut Reader) -> Self {
        Self {
            enabled: r.read("engine.enabled", flag),
            window: r.read("engine.window", count(1..=1_000_000)),
            window_bytes: r.read("engine.window_bytes", count(1..=1 << 32)),
            lane: r.read("engine.lane", count(1..=100_000)),
            jobs_share: r.read("engine.jobs_share", count(1..=100)),
            poison_share: r.read("engine.poison_share", count(1..=100)),
            poison_window: r.read("engine.poison_window", duration(SECOND..=HOUR)),
            stall_after: r.read("engine.stall_after", duration(SECOND..=HOUR)),
            batch: r.read("engine.batch", count(1..=10_000)),
            linger: r.read("engine.linger", duration(Duration::ZERO..=SECOND)),
            drain: r.read("engine.drain", duration(Duration::ZERO..=MINUTE)),
            supersede_after: r.read("engine.supersede_after", duration(Duration::ZERO..=DAY)),
        }
    }
}

impl Http {
    fn read(r: &mut Reader) -> Self {
        const ANSWERS: &[(&str, HttpAnswers)] = &[
            ("platform", HttpAnswers::Platform),
            ("uniform", HttpAnswers::Uniform),
        ];
        Self {
            enabled: r.read("http.enabled", flag),
            bind: r.read("http.bind", address),
            port: r.read("http.port", count(0..=65_535)),
            context_path: r.read("http.context_path", prefix),
            answers: r.read("http.answers", one_of(ANSWERS)),
            budget: r.read("http.budget", duration(MS..=MINUTE)),
            confirm_timeout: r.read("http.confirm_timeout", duration(MS..=MINUTE)),
            requests: r.read("http.requests", count(1..=1_000_000)),
            body_limit: r.read("http.body_limit", count(1_024..=LARGEST_BODY)),
            body_bytes: r.read("http.body_bytes", count(BUDGET)),
            body_timeout: r.read("http.body_timeout", duration(MS..=MINUTE)),
            idle_timeout: r.read("http.idle_timeout", duration(MS..=HOUR)),
            connections: r.read("http.connections", count(1..=1_000_000)),
            idempotency_window: r.read("http.idempotency_window", duration(SECOND..=DAY)),
            idempotency_entries: r.read("http.idempotency_entries", count(1..=MOST_ENTRIES)),
            trusted_proxies: r.read("http.trusted_proxies", networks),
        }
    }
}

impl Management {
    fn read(r: &mut Reader) -> Self {
        Self {
            bind: r.read("management.bind", address),
            port: r.read("management.port", count(0..=65_535)),
            commits_stalled_after: r
                .read("management.commits_stalled_after", duration(SECOND..=DAY)),
        }
    }
}

impl Limits {
    fn read(r: &mut Reader) -> Self {
        Self {
            mode: r.read("limits.mode", one_of(LIMITS_MODES)),
            number_type: LimitRule::read(r, "limits.number_type"),
            number: LimitRule::read(r, "limits.number"),
            number_day: LimitRule::read(r, "limits.number_day"),
            prefix: LimitRule::read(r, "limits.prefix"),
            tenant: LimitRule::read(r, "limits.tenant"),
            address: LimitRule::read(r, "limits.address"),
            entries: r.read("limits.entries", count(1..=MOST_ENTRIES)),
            redis: r.read("limits.redis", optional_redis),
            redis_timeout: r.read("limits.redis_timeout", duration(MS..=SECOND)),
            key: r.read("limits.key", secret),
        }
    }
}

const LIMITS_MODES: &[(&str, LimitsMode)] = &[
    ("off", LimitsMode::Off),
    ("shadow", LimitsMode::Shadow),
    ("on", LimitsMode::On),
];

impl LimitRule {
    /// Reads `key`, `{key}_count` and `{key}_window`.
    fn read(r: &mut Reader, key: &str) -> Self {
        Self {
            mode: r.read(key, one_of(LIMITS_MODES)),
            count: r.read(&format!("{key}_count"), count(1..=100_000)),
            window: r.read(&format!("{key}_window"), duration(SECOND..=7 * DAY)),
        }
    }
}

impl Users {
    fn read(r: &mut Reader) -> Self {
        Self {
            url: r.read("users.url", url),
            path: r.read("users.path", path),
            timeout: r.read("users.timeout", duration(MS..=MINUTE)),
            calls: r.read("users.calls", count(1..=MOST_CALLS)),
        }
    }
}

impl Otp {
    fn read(r: &mut Reader) -> Self {
        Self {
            url: r.read("otp.url", url),
            path: r.read("otp.path", path),
            timeout: r.read("otp.timeout", duration(MS..=MINUTE)),
            calls: r.read("otp.calls", count(1..=MOST_CALLS)),
        }
    }
}

impl Localization {
    fn read(r: &mut Reader) -> Self {
        Self {
            url: r.read("localization.url", optional_url),
            path: r.read("localization.path", path),
            timeout: r.read("localization.timeout", duration(MS..=MINUTE)),
            calls: r.read("localization.calls", count(1..=MOST_CALLS)),
            strip_suffix_count: r.read("localization.strip_suffix_count", count(-1_000..=1_000)),
            default_locale: r.read("localization.default_locale", text(locale)),
            module: r.read("localization.module", text(not_empty)),
        }
    }
}

impl Texts {
    fn read(r: &mut Reader) -> Self {
        const ON_OUTAGE: &[(&str, OnOutage)] =
            &[("retry", OnOutage::Retry), ("default", OnOutage::Default)];
        Self {
            ttl: r.read("texts.ttl", duration(MS..=DAY)),
            empty_ttl: r.read("texts.empty_ttl", duration(MS..=DAY)),
            entries: r.read("texts.entries", count(1..=MOST_ENTRIES)),
            bytes: r.read("texts.bytes", count(BUDGET)),
            on_outage: r.read("texts.on_outage", one_of(ON_OUTAGE)),
            pinned_locales: r.read("texts.pinned_locales", list(locale)),
        }
    }
}

impl Mdms {
    fn read(r: &mut Reader) -> Self {
        Self {
            url: r.read("mdms.url", optional_url),
            path: r.read("mdms.path", path),
            timeout: r.read("mdms.timeout", duration(MS..=MINUTE)),
            calls: r.read("mdms.calls", count(1..=MOST_CALLS)),
            module: r.read("mdms.module", text(not_empty)),
            master: r.read("mdms.master", text(not_empty)),
        }
    }
}

impl Rules {
    fn read(r: &mut Reader) -> Self {
        const YEAR: i64 = 365 * 24 * 60 * 60;
        let default_pattern = r.read("rules.default_pattern", text(pattern));
        let country_codes = r.read("rules.country_codes", list(country_code));
        let ttl_seconds: u64 = r.read("rules.ttl_seconds", count(0..=YEAR));
        Self {
            default_pattern,
            country_codes,
            ttl: (ttl_seconds > 0).then(|| Duration::from_secs(ttl_seconds)),
            empty_ttl: r.read("rules.empty_ttl", duration(MS..=DAY)),
            entries: r.read("rules.entries", count(1..=MOST_ENTRIES)),
            bytes: r.read("rules.bytes", count(BUDGET)),
        }
    }
}

impl Services {
    fn read(r: &mut Reader) -> Self {
        const MIB: i64 = 1 << 20;
        Self {
            tries: r.read("services.tries", count(1..=10)),
            backoff: r.read("services.backoff", duration(MS..=MINUTE)),
            backoff_max: r.read("services.backoff_max", duration(MS..=MINUTE)),
            outage_messages: r.read("services.outage_messages", list(not_empty)),
            connect_timeout: r.read("services.connect_timeout", duration(MS..=MINUTE)),
            body_limit: r.read("services.body_limit", count(1_024..=64 * MIB)),
        }
    }
}

impl Sms {
    fn read(r: &mut Reader) -> Self {
        const DAY_MS: i64 = 24 * 60 * 60 * 1_000;
        Self {
            expiry: Duration::from_millis(r.read("sms.expiry_ms", count(1..=DAY_MS))),
        }
    }
}

impl Tenancy {
    fn read(r: &mut Reader) -> Self {
        Self {
            central_instance: r.read("tenancy.central_instance", flag),
            state_level_length: r.read("tenancy.state_level_length", count(1..=1_000)),
            schema_index: r.read("tenancy.schema_index", count(0..=1_000)),
        }
    }
}

impl Log {
    fn read(r: &mut Reader) -> Self {
        const FORMATS: &[(&str, LogFormat)] =
            &[("text", LogFormat::Text), ("json", LogFormat::Json)];
        Self {
            format: r.read("log.format", one_of(FORMATS)),
            level: r.read("log.level", text(log_level)),
        }
    }
}

impl Shutdown {
    fn read(r: &mut Reader) -> Self {
        Self {
            deadline: r.read("shutdown.deadline", duration(SECOND..=HOUR)),
        }
    }
}
