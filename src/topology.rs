//! Which topics this configuration means: each role's name, with its specification.

use crate::config::Config;
use crate::retry_topics::RetryTopics;
use crate::topics::{CatalogError, Role, TopicSpec, catalog};

/// The retry topics' names, in the order of their delays.
#[must_use]
pub fn retry_topics(config: &Config) -> Vec<String> {
    let topics = RetryTopics::new(config.topics.retry_prefix.as_str());
    let delays = config.retry.delays.iter();
    delays.map(|delay| topics.name(delay)).collect()
}

/// Every topic of a role, by name. In a central instance the SMS and email topics are the
/// tenants' own and not known beforehand: there are none here.
///
/// # Errors
///
/// When the compiled-in list is not what it should be.
pub fn wanted(config: &Config) -> Result<Vec<(String, TopicSpec)>, CatalogError> {
    let topics = &config.topics;
    let mut wanted = Vec::new();
    for spec in catalog()? {
        let names = match spec.role {
            Role::Requests => vec![topics.requests.clone()],
            Role::Accepted => vec![topics.accepted.clone()],
            Role::Jobs => vec![topics.jobs.clone()],
            Role::Retry => retry_topics(config),
            Role::DeadLetters => vec![topics.dead_letters.clone()],
            Role::Outcomes => vec![topics.outcomes.clone()],
            Role::JobLog => vec![topics.job_log.clone()],
            Role::Sms | Role::Email if config.tenancy.central_instance => Vec::new(),
            Role::Sms => vec![topics.sms.clone()],
            Role::Email => vec![topics.email.clone()],
        };
        wanted.extend(names.into_iter().map(|name| (name, spec.clone())));
    }
    Ok(wanted)
}

/// As [`wanted`], with no more copies than a cluster of so many brokers can hold.
///
/// # Errors
///
/// As [`wanted`].
pub fn wanted_on(
    config: &Config,
    brokers: usize,
) -> Result<Vec<(String, TopicSpec)>, CatalogError> {
    let capped = |(name, spec): (String, TopicSpec)| (name, spec.on(brokers));
    Ok(wanted(config)?.into_iter().map(capped).collect())
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashMap, HashSet};

    use proptest::prelude::*;

    use super::*;
    use crate::domain::tenant::TenantId;
    use crate::engine::record::Origin;
    use crate::service::engine_settings;

    /// Few names, so that they meet.
    fn name() -> impl Strategy<Value = String> {
        let odd = "retry|retry\\.5s|retry_5s|retry\\.90s|retry\\.5x|dlq|a-sms|b-retry\\.5s|sms|__consumer_offsets|\\.\\.|[a-z._-]{1,6}";
        prop_oneof![odd, "[a-z]\\.(retry|sms|dlq)", "[a-z]{248,250}"]
    }

    fn delays() -> impl Strategy<Value = String> {
        let delay = "[0-9]{1,2}(ns|us|ms|s|m|h|d|x|S)|[1-9]m[0-9]{1,2}s|1h[1-9]m[1-9]s|1m 30s|0s";
        proptest::collection::vec(delay, 1..4).prop_map(|all| all.join(","))
    }

    fn instance() -> impl Strategy<Value = String> {
        "[a-c]{0,2}|(job-)?[a-b](-http|-check)?"
    }

    /// Settings, each sometimes given.
    fn settings() -> impl Strategy<Value = Vec<(String, String)>> {
        let given = |key: &'static str, value: BoxedStrategy<String>| {
            proptest::option::weighted(0.25, value)
                .prop_map(move |value| value.map(|value| (key.to_owned(), value)))
                .boxed()
        };
        let names = [
            "USER_OTP__TOPICS__REQUESTS",
            "USER_OTP__TOPICS__ACCEPTED",
            "USER_OTP__TOPICS__JOBS",
            "USER_OTP__TOPICS__RETRY_PREFIX",
            "USER_OTP__TOPICS__DEAD_LETTERS",
            "USER_OTP__TOPICS__OUTCOMES",
            "USER_OTP__TOPICS__JOB_LOG",
            "USER_OTP__TOPICS__SMS",
            "USER_OTP__TOPICS__EMAIL",
        ];
        let mut all: Vec<_> = names.map(|key| given(key, name().boxed())).into();
        all.extend([
            given("USER_OTP__RETRY__DELAYS", delays().boxed()),
            given("USER_OTP__REQUEST__LIFETIME", "(10m|2h|100h)".boxed()),
            given("USER_OTP__KAFKA__GROUP", "[a-c-]{0,3}".boxed()),
            given("USER_OTP__KAFKA__INSTANCE", instance().boxed()),
            given("HOSTNAME", instance().boxed()),
            given("USER_OTP__TENANCY__CENTRAL_INSTANCE", "true|false".boxed()),
        ]);
        all.prop_map(|all| all.into_iter().flatten().collect())
    }

    fn fits_kafka(name: &str) -> bool {
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        (1..=249).contains(&name.len())
            && name.chars().all(legal)
            && !matches!(
                name,
                "." | ".." | "__consumer_offsets" | "__transaction_state"
            )
    }

    /// What every configuration that is accepted holds.
    fn check(config: &Config) -> Result<(), TestCaseError> {
        let wanted = wanted(config).expect("the list of topics");
        let mut roles = BTreeMap::new();
        for (name, spec) in &wanted {
            prop_assert!(fits_kafka(name), "{name:?} is no topic's name");
            // Kafka takes names that differ only in `.` and `_` for one.
            let before = roles.insert(name.replace('_', "."), spec.role);
            prop_assert_eq!(before, None, "{} has two roles", name);
        }
        let settings = engine_settings(config, &HashMap::new());
        let retries = fancy_regex::Regex::new(&settings.retries.pattern()).expect("a pattern");
        for (name, spec) in &wanted {
            let role = match settings.origin(name) {
                Some(Origin::Requests) => Some(Role::Requests),
                Some(Origin::Accepted) => Some(Role::Accepted),
                Some(Origin::Jobs) => Some(Role::Jobs),
                Some(Origin::Retry(_)) => Some(Role::Retry),
                None => None,
            };
            let is_read = matches!(
                spec.role,
                Role::Requests | Role::Accepted | Role::Jobs | Role::Retry
            );
            prop_assert_eq!(role, is_read.then_some(spec.role), "{}", name);
            // The pattern takes in the retry topics, and none of the others.
            let matches = retries.is_match(name).expect("no backtracking");
            prop_assert_eq!(matches, spec.role == Role::Retry, "{}", name);
        }
        for tier in &settings.writer.tiers {
            let origin = settings.origin(&tier.topic);
            prop_assert_eq!(origin, Some(Origin::Retry(tier.delay)));
        }
        prop_assert!(settings.writer.tiers.is_sorted_by(|a, b| a.delay < b.delay));
        if config.tenancy.central_instance {
            for prefix in ["a", "b", "pb", "a_b"] {
                let tenant = TenantId::parse(prefix).expect("a tenant");
                let sms = tenant.topic(&config.tenancy, &config.topics.sms);
                prop_assert!(!roles.contains_key(&sms.replace('_', ".")), "{sms} is ours");
                prop_assert_eq!(settings.origin(&sms), None, "{} is read", sms);
            }
        }
        let connection = &settings.connection;
        prop_assert!(!connection.group.is_empty() && !connection.instance.is_empty());
        let ids = [
            connection.transactional_id(),
            connection.http_transactional_id(),
            connection.check_transactional_id(),
        ];
        let distinct: HashSet<_> = ids.iter().collect();
        prop_assert_eq!(distinct.len(), ids.len());
        let of_commands = [("", "-http"), ("", "-check"), ("job-", "")];
        for (start, end) in of_commands {
            let instance = &connection.instance;
            let taken = instance.starts_with(start) && instance.ends_with(end);
            prop_assert!(
                !taken,
                "{instance} has a command's or an HTTP committer's id"
            );
        }
        Ok(())
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            cases: 1_000,
            ..ProptestConfig::default()
        })]

        #[test]
        fn every_accepted_configuration_has_a_consistent_topology(settings in settings()) {
            if let Ok((config, _)) = Config::load(None, settings) {
                check(&config)?;
            }
        }
    }
}
