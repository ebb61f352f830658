//! Which topics this configuration means: each role's name, with its specification.

use crate::config::Config;
use crate::topics::{CatalogError, Role, TopicSpec, catalog};

/// The retry topics' names, in the order of their delays.
#[must_use]
pub fn retry_topics(config: &Config) -> Vec<String> {
    let name = |label: &String| format!("{}.{label}", config.topics.retry_prefix);
    config
        .retry
        .delays
        .iter()
        .map(|delay| name(&delay.label))
        .collect()
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
