//! Settings that are right one by one and wrong together.

use super::read::Reader;
use super::sections::Config;
use super::values::LimitsMode;

/// The broker's and librdkafka's own default for the largest record.
const LARGEST_RECORD: usize = 1 << 20;

/// Notes every contradiction in `config`, so that none shows for the first time at work.
pub(super) fn note(r: &mut Reader, config: &Config) {
    request_and_retry(r, config);
    topics(r, config);
    engine(r, config);
    doors(r, config);
    services(r, config);
}

fn request_and_retry(r: &mut Reader, config: &Config) {
    let lifetime = config.request.lifetime;
    if config.request.min_life >= lifetime {
        let problem = "must be shorter than request.lifetime: no request would ever be served";
        r.contradiction("request.min_life", Some("request.lifetime"), problem.into());
    }
    for tier in config.retry.delays.iter().filter(|t| t.delay >= lifetime) {
        let label = &tier.label;
        let problem = format!("{label} is not shorter than request.lifetime: it would never end");
        r.contradiction("retry.delays", Some("request.lifetime"), problem);
    }
}

/// Every topic has one role. Kafka itself takes names that differ only in `.` and `_` for one.
fn topics(r: &mut Reader, config: &Config) {
    let topics = &config.topics;
    let named = [
        ("topics.requests", &topics.requests),
        ("topics.accepted", &topics.accepted),
        ("topics.jobs", &topics.jobs),
        ("topics.dead_letters", &topics.dead_letters),
        ("topics.outcomes", &topics.outcomes),
        ("topics.job_log", &topics.job_log),
        ("topics.sms", &topics.sms),
        ("topics.email", &topics.email),
    ];
    let alike = |a: &str, b: &str| a.replace('_', ".") == b.replace('_', ".");
    for (index, (key, name)) in named.iter().enumerate() {
        if let Some((other, _)) = named[..index].iter().find(|(_, n)| alike(n, name)) {
            let problem = format!("is the same topic as {other}, {name:?}");
            r.contradiction(key, Some(other), problem);
        }
        let family = format!("{}.", topics.retry_prefix);
        if name
            .replace('_', ".")
            .starts_with(&family.replace('_', "."))
        {
            let problem = format!("{name:?} would be read as a retry topic, {family}*");
            r.contradiction(key, Some("topics.retry_prefix"), problem);
        }
    }
    if config.tenancy.central_instance {
        tenants_topics(r, config, &named);
    }
    let longest = config.retry.delays.iter().map(|t| t.label.len()).max();
    if topics.retry_prefix.len() + 1 + longest.unwrap_or(0) > 249 {
        let problem = "is too long: with a delay's name it is over Kafka's 249 characters";
        let against = Some("retry.delays");
        r.contradiction("topics.retry_prefix", against, problem.into());
    }
}

/// In a central instance the tenant, which strangers choose, is the beginning of a message's topic:
/// `{tenant}-{topics.sms}`. None of those may be a topic of another role.
fn tenants_topics(r: &mut Reader, config: &Config, named: &[(&str, &String)]) {
    let topics = &config.topics;
    let prefix = topics.retry_prefix.replace('_', ".");
    for (base_key, base) in [("topics.sms", &topics.sms), ("topics.email", &topics.email)] {
        let of_tenants = format!("-{}", base.replace('_', "."));
        let ends_alike = |name: &str| name.replace('_', ".").ends_with(&of_tenants);
        for (key, name) in named.iter().filter(|(_, name)| ends_alike(name)) {
            let problem = format!("{name:?} could be a tenant's {base_key}, *-{base}");
            r.contradiction(key, Some(base_key), problem);
        }
        if let Some((family, label)) = of_tenants.rsplit_once('.')
            && prefix.ends_with(family)
            && label.starts_with(|one: char| one.is_ascii_digit())
        {
            let problem = format!("*-{base}, of a tenant, could be a retry topic, {prefix}.*");
            r.contradiction(base_key, Some("topics.retry_prefix"), problem);
        }
    }
}

fn engine(r: &mut Reader, config: &Config) {
    let engine = &config.engine;
    if !engine.enabled && !config.http.enabled {
        let problem = "nothing to run: one of the two must be enabled";
        r.contradiction("engine.enabled", Some("http.enabled"), problem.into());
    }
    if engine.window_bytes < LARGEST_RECORD {
        let bytes = engine.window_bytes;
        let problem = format!("must hold one largest record, {LARGEST_RECORD}, and is {bytes}");
        r.contradiction("engine.window_bytes", None, problem);
    }
    if engine.drain >= config.shutdown.deadline {
        let problem = "must be shorter than shutdown.deadline: nothing would be committed";
        let against = Some("shutdown.deadline");
        r.contradiction("engine.drain", against, problem.into());
    }
}

fn doors(r: &mut Reader, config: &Config) {
    let port = config.http.port;
    if config.http.enabled && port != 0 && port == config.management.port {
        let problem = format!("is taken by http.port, {port}");
        r.contradiction("management.port", Some("http.port"), problem);
    }
    let http = &config.http;
    let longest = http.longest_request();
    if http.enabled && longest >= config.shutdown.deadline {
        let problem = format!(
            "must be longer than http.body_timeout and twice http.budget and http.confirm_timeout \
             together, {longest:?}: requests under way would not be answered"
        );
        r.contradiction("shutdown.deadline", Some("http.budget"), problem);
    }
    let lease = http.lease();
    if http.enabled && http.idempotency_window <= lease {
        let problem = format!(
            "must be longer than http.budget and http.confirm_timeout together, {lease:?}: a key \
             would be forgotten before its request is answered"
        );
        r.contradiction("http.idempotency_window", Some("http.budget"), problem);
    }
    let counts =
        config.limits.mode != LimitsMode::Off && config.limits.address.mode == LimitsMode::On;
    if http.enabled && counts && http.trusted_proxies.is_empty() {
        let problem = "counts nobody: no client's address is known without http.trusted_proxies";
        let against = Some("http.trusted_proxies");
        r.contradiction("limits.address", against, problem.into());
    }
    if http.budget >= config.request.lifetime {
        let problem =
            "must be shorter than request.lifetime: what is handed over would be too late";
        let against = Some("request.lifetime");
        r.contradiction("http.budget", against, problem.into());
    }
}

fn services(r: &mut Reader, config: &Config) {
    if config.services.backoff > config.services.backoff_max {
        let problem = "must not be longer than services.backoff_max";
        let against = Some("services.backoff_max");
        r.contradiction("services.backoff", against, problem.into());
    }
}
