//! What running instances say of themselves, for `user-otp status`: what is in hand, how the services
//! are, and which limits hold things up.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use super::shown::{Lean, Paint, harmless, table};
use crate::config::ServiceUrl;
use crate::egov::Service;
use crate::management::ask::{AskError, Pages};

/// One instance, by the address of its management port.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Instance {
    management: String,
    /// Why it says nothing.
    error: Option<String>,
    state: Option<State>,
}

/// How it says it is.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct State {
    status: String,
    checks: Vec<Check>,
    /// None, as the next two: its engine is off.
    requests_in_hand: Option<u64>,
    retries_parked: Option<u64>,
    partitions: Option<u64>,
    http_in_progress: Option<u64>,
    services: Vec<OfService>,
    /// Since it began.
    limits_reached: Vec<Reached>,
}

#[derive(Debug, Deserialize)]
struct Ready {
    status: String,
    checks: Vec<Check>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Check {
    name: String,
    status: String,
    reason: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct OfService {
    service: &'static str,
    under_way: u64,
    limit: u64,
    waiting: u64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Reached {
    limit: String,
    effect: String,
    requests: u64,
}

const UP: &str = "UP";

impl Instance {
    /// Takes what it answered, or did not.
    pub(super) fn of(url: &ServiceUrl, answered: Result<Pages, AskError>) -> Self {
        let read = |pages: Pages| State::read(&pages).ok_or(AskError::Other);
        let (error, state) = match answered.and_then(read) {
            Ok(state) => (None, Some(state)),
            Err(error) => (Some(error.to_string()), None),
        };
        Self {
            management: url.to_string().trim_end_matches('/').to_owned(),
            error,
            state,
        }
    }
}

impl State {
    fn read(pages: &Pages) -> Option<Self> {
        let Ready { status, checks } = serde_json::from_str(&pages.ready).ok()?;
        let samples = Samples(&pages.metrics);
        let services = Service::ALL.iter().filter_map(|service| {
            let of = |metric| samples.labelled(metric, "service", service.as_str());
            Some(OfService {
                service: service.as_str(),
                under_way: of("user_otp_service_calls_in_progress")?,
                limit: of("user_otp_service_calls_limit")?,
                waiting: of("user_otp_service_calls_waiting")?,
            })
        });
        let reached = samples.all("user_otp_limits_reached_total");
        let reached = reached.filter_map(|(labels, requests)| {
            Some(Reached {
                limit: label(labels, "limit")?.to_owned(),
                effect: label(labels, "effect")?.to_owned(),
                requests,
            })
        });
        Some(Self {
            status,
            checks,
            requests_in_hand: samples.one("user_otp_window_requests"),
            retries_parked: samples.one("user_otp_retries_parked"),
            partitions: samples.one("user_otp_partitions_assigned"),
            http_in_progress: samples.one("user_otp_http_requests_in_progress"),
            services: services.collect(),
            limits_reached: reached.filter(|one| one.requests > 0).collect(),
        })
    }

    fn failing(&self, service: &str) -> Option<&Check> {
        let mut checks = self.checks.iter();
        checks.find(|check| check.name == service && check.status != UP)
    }
}

/// A page of metrics: a series and its value on each line.
struct Samples<'a>(&'a str);

impl<'a> Samples<'a> {
    /// The series of a metric: the labels and the value of each.
    fn all(&self, metric: &'a str) -> impl Iterator<Item = (&'a str, u64)> {
        self.0.lines().filter_map(move |line| {
            let rest = line.strip_prefix(metric)?;
            let (labels, value) = rest.rsplit_once(' ')?;
            let alone = labels.is_empty() || labels.starts_with('{');
            let value: f64 = value.parse().ok().filter(|_| alone)?;
            // All of them are counts.
            Some((labels, value as u64))
        })
    }

    fn one(&self, metric: &'a str) -> Option<u64> {
        self.all(metric).next().map(|(_, value)| value)
    }

    fn labelled(&self, metric: &'a str, name: &str, text: &str) -> Option<u64> {
        let mut all = self.all(metric);
        let found = all.find(|(labels, _)| label(labels, name) == Some(text));
        found.map(|(_, value)| value)
    }
}

/// A label's text; ours are words, without quotes in them.
fn label<'a>(labels: &'a str, name: &str) -> Option<&'a str> {
    let inner = labels.strip_prefix('{')?.strip_suffix('}')?;
    let pairs = inner.split(',').filter_map(|pair| pair.split_once('='));
    let mut found = pairs.filter(|(one, _)| *one == name);
    let (_, text) = found.next()?;
    text.strip_prefix('"')?.strip_suffix('"')
}

/// What there is to say of all of them, for people.
pub(super) fn text(instances: &[Instance], paint: Paint) -> String {
    let mut text = table(
        &[
            ("INSTANCE", Lean::Left),
            ("READY", Lean::Left),
            ("IN HAND", Lean::Right),
            ("PARKED", Lean::Right),
            ("HTTP", Lean::Right),
            ("PARTITIONS", Lean::Right),
        ],
        &instances.iter().map(cells).collect::<Vec<_>>(),
        paint,
    );
    let states: Vec<&State> = instances
        .iter()
        .filter_map(|one| one.state.as_ref())
        .collect();
    let services: Vec<Vec<String>> = Service::ALL
        .iter()
        .filter_map(|service| of_service(service.as_str(), &states))
        .collect();
    if !services.is_empty() {
        let columns = [
            ("SERVICE", Lean::Left),
            ("UNDER WAY", Lean::Right),
            ("LIMIT", Lean::Right),
            ("WAITING", Lean::Right),
            ("LAST CALL", Lean::Left),
        ];
        let _ = write!(text, "\n{}", table(&columns, &services, paint));
    }
    text.push('\n');
    for line in instances.iter().flat_map(troubles) {
        let _ = writeln!(text, "{}", paint.alarm(&line));
    }
    if !states.is_empty() {
        let _ = writeln!(
            text,
            "requests over a sending limit, since each instance began: {}",
            reached(&states)
        );
    }
    text
}

fn cells(instance: &Instance) -> Vec<String> {
    let figure = |of: fn(&State) -> Option<u64>| {
        let figure = instance.state.as_ref().and_then(of);
        figure.map_or("-".to_owned(), |count| count.to_string())
    };
    let status = instance.state.as_ref().map(|state| harmless(&state.status));
    vec![
        instance.management.clone(),
        status.unwrap_or_else(|| "silent".to_owned()),
        figure(|state| state.requests_in_hand),
        figure(|state| state.retries_parked),
        figure(|state| state.http_in_progress),
        figure(|state| state.partitions),
    ]
}

/// A service as all instances together have it; none: nobody calls it.
fn of_service(name: &str, states: &[&State]) -> Option<Vec<String>> {
    let all = states.iter().flat_map(|state| &state.services);
    let calls: Vec<&OfService> = all.filter(|one| one.service == name).collect();
    let sum = |of: fn(&OfService) -> u64| calls.iter().map(|one| of(one)).sum::<u64>().to_string();
    let failing: Vec<&Check> = states
        .iter()
        .filter_map(|state| state.failing(name))
        .collect();
    let last = match failing.first() {
        None => "well".to_owned(),
        Some(first) => {
            let reason = harmless(first.reason.as_deref().unwrap_or(&first.status));
            format!("{reason} at {} of {}", failing.len(), states.len())
        }
    };
    (!calls.is_empty()).then(|| {
        vec![
            name.to_owned(),
            sum(|one| one.under_way),
            sum(|one| one.limit),
            sum(|one| one.waiting),
            last,
        ]
    })
}

/// What is wrong with an instance, but for the services, which have a table of their own.
fn troubles(instance: &Instance) -> Vec<String> {
    let name = &instance.management;
    let silent = instance
        .error
        .as_ref()
        .map(|error| format!("{name}: {error}"));
    let checks = instance.state.iter().flat_map(|state| &state.checks);
    let checks =
        checks.filter(|check| check.status != UP && Service::from_word(&check.name).is_none());
    let checks = checks.map(|check| {
        let reason = check.reason.as_deref().unwrap_or_default();
        harmless(&format!(
            "{name}: {} is {}: {reason}",
            check.name, check.status
        ))
    });
    silent.into_iter().chain(checks).collect()
}

fn reached(states: &[&State]) -> String {
    let mut sums: Vec<(String, u64)> = Vec::new();
    for one in states.iter().flat_map(|state| &state.limits_reached) {
        let words = harmless(&format!("{} {}", one.limit, one.effect));
        match sums.iter_mut().find(|(known, _)| *known == words) {
            Some((_, sum)) => *sum += one.requests,
            None => sums.push((words, one.requests)),
        }
    }
    let parts: Vec<String> = sums
        .iter()
        .map(|(words, sum)| format!("{words} {sum}"))
        .collect();
    match parts.as_slice() {
        [] => "none".to_owned(),
        parts => parts.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> ServiceUrl {
        ServiceUrl::parse(text).expect("an address")
    }

    fn pages(ready: &str, metrics: &str) -> Pages {
        Pages {
            ready: ready.to_owned(),
            metrics: metrics.to_owned(),
        }
    }

    const READY: &str = r#"{"status":"DEGRADED","checks":[{"name":"kafka-consumer","status":"UP"},
        {"name":"redis","status":"DEGRADED","reason":"each instance goes by its own memory"},
        {"name":"otp","status":"DOWN","reason":"service-timeout"}]}"#;

    const METRICS: &str = "# TYPE user_otp_window_requests gauge\n\
        user_otp_window_requests 12\n\
        user_otp_window_requests_of_something_else 99\n\
        user_otp_retries_parked 3\n\
        user_otp_partitions_assigned 4\n\
        user_otp_service_calls_limit{service=\"otp\"} 32\n\
        user_otp_service_calls_in_progress{service=\"otp\"} 7\n\
        user_otp_service_calls_waiting{service=\"otp\"} 5\n\
        user_otp_limits_reached_total{limit=\"number\",effect=\"refused\"} 2\n\
        user_otp_limits_reached_total{limit=\"tenant\",effect=\"shadowed\"} 0\n";

    #[test]
    fn instances_are_told_one_by_one_and_services_together() {
        let well = || Ok(pages(READY, METRICS));
        let instances = [
            Instance::of(&url("http://a:9464"), well()),
            Instance::of(&url("http://user:secret@b:9464"), well()),
            Instance::of(&url("http://c:9464"), Err(AskError::Unreachable)),
            Instance::of(&url("http://d:80"), Ok(pages("<html>", METRICS))),
        ];
        let text = text(&instances, Paint::Plain);
        let lines = [
            "INSTANCE               READY     IN HAND  PARKED  HTTP  PARTITIONS",
            "http://a:9464          DEGRADED       12       3     -           4",
            "http://***:***@b:9464  DEGRADED       12       3     -           4",
            "http://c:9464          silent          -       -     -           -",
            "http://d               silent          -       -     -           -",
            "",
            "SERVICE  UNDER WAY  LIMIT  WAITING  LAST CALL",
            "otp             14     64       10  service-timeout at 2 of 2",
            "",
            "http://a:9464: redis is DEGRADED: each instance goes by its own memory",
            "http://***:***@b:9464: redis is DEGRADED: each instance goes by its own memory",
            "http://c:9464: nobody answers: is it up, and is that its management.port?",
            "http://d: something else answers: the address is that of management.port",
            "requests over a sending limit, since each instance began: number refused 4",
        ];
        assert_eq!(text, lines.join("\n") + "\n");
    }
}
