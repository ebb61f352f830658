//! What is tried, on which topics, and who needs it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::{Kafka, Topics};
use crate::clock::{Clock, EpochMs};
use crate::engine::trial::{self, Allowed};
use crate::ops::check::permissions::{self, Needed, Tried};
use crate::ops::check::{AccountRole, services};
use crate::topics::Role;

impl Kafka<'_> {
    pub(super) async fn writes(&self, topics: &Topics) {
        if self.role == AccountRole::Viewer {
            let job_log = topics.of(Role::JobLog).map(permissions::untried);
            return self.items.add_all(job_log).await;
        }
        let needed = needed_to_write(self.role, topics);
        let names: Vec<String> = needed.iter().map(|one| one.topic.clone()).collect();
        let (connection, timeout) = (self.connection.clone(), self.timeout);
        let (id, prefix) = match self.role {
            AccountRole::Service | AccountRole::Viewer => (
                connection.check_transactional_id(),
                format!("{}-", self.config.kafka.group),
            ),
            AccountRole::Operator => (
                connection.job_transactional_id(&format!("{}-check", connection.instance)),
                connection.job_transactional_id(""),
            ),
        };
        let tried = self.blocking_for(self.timeout * 3, move || {
            trial::write(&connection, &id, &names, timeout)
        });
        let from = Clock::system().now();
        let items = match tried.await {
            Some(Ok(found)) => {
                let until = Clock::system().now();
                if let Some(Allowed::Yes) = found.get(&self.config.topics.job_log) {
                    self.brokers_clock(from, until).await;
                }
                permissions::judge(Tried::Write, &needed, &found, self.account())
            }
            Some(Err(error)) => {
                vec![permissions::no_trial(&error, self.account(), &prefix)]
            }
            None => vec![permissions::hung("Write topics")],
        };
        self.items.add_all(items).await;
    }

    /// The job log has the abort's mark, and hardly anything else is written there.
    async fn brokers_clock(&self, from: EpochMs, until: EpochMs) {
        /// A mark is written after the abort is answered.
        const MARK: Duration = Duration::from_secs(3);
        let begun = Instant::now();
        let found = loop {
            let (connection, timeout) = (self.connection.clone(), self.timeout);
            let topic = self.config.topics.job_log.clone();
            let look = move || trial::latest(&connection, &topic, until, timeout);
            let found = self.blocking(look).await;
            let is_old = match &found {
                Some(Ok(latest)) => latest.is_none_or(|latest| latest < from),
                Some(Err(_)) | None => false,
            };
            if !is_old || begun.elapsed() >= MARK {
                break found;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        };
        let item = match found {
            Some(Ok(Some(latest))) => services::brokers_clock(latest, from, until, self.config),
            Some(Ok(None) | Err(_)) | None => services::brokers_clock_unknown(),
        };
        self.items.add(item).await;
    }

    pub(super) async fn reads(&self, topics: &Topics) {
        let needed = needed_to_read(self.role, topics);
        let mut tries = JoinSet::new();
        for one in &needed {
            let (connection, timeout) = (self.connection.clone(), self.timeout);
            let topic = one.topic.clone();
            tries.spawn_blocking(move || {
                let allowed = trial::read(&connection, &topic, timeout);
                (topic, allowed)
            });
        }
        let mut found: BTreeMap<String, Allowed> = BTreeMap::new();
        let all = async {
            while let Some(tried) = tries.join_next().await {
                found.extend(tried.ok());
            }
        };
        let in_time = tokio::time::timeout(self.timeout * 3, all).await.is_ok();
        let items = permissions::judge(Tried::Read, &needed, &found, self.account());
        self.items.add_all(items).await;
        if !in_time {
            self.items.add(permissions::hung("Read topics")).await;
        }
    }

    pub(super) async fn group(&self, topics: &Topics) {
        let Some(topic) = topics.of(Role::Requests).next().map(str::to_owned) else {
            return;
        };
        let (connection, timeout) = (self.connection.clone(), self.timeout);
        let tried = self.blocking_for(self.timeout * 3, move || {
            trial::describe_group(&connection, &topic, timeout)
        });
        let group = &self.config.kafka.group;
        let item = match tried.await {
            Some(allowed) => permissions::group(group, &allowed, self.account()),
            None => Some(permissions::hung(&format!("Describe group {group}"))),
        };
        self.items.add_all(item).await;
    }
}

fn needed_to_write(role: AccountRole, topics: &Topics) -> Vec<Needed> {
    const AGAIN: &str = "who redrives, replays and resends";
    const ALONE: &str = "the service, which else sends SMS alone";
    let of = |roles: &'static [Role]| roles.iter().flat_map(|role| topics.of(*role));
    let again = of(&[Role::Jobs, Role::JobLog]);
    if role != AccountRole::Service {
        let again = again.map(|topic| Needed::by_operators(topic, AGAIN));
        let send = of(&[Role::Requests]).map(|topic| Needed::by_operators(topic, "send"));
        return again.chain(send).collect();
    }
    let service = of(&[
        Role::Accepted,
        Role::Retry,
        Role::DeadLetters,
        Role::Outcomes,
        Role::Sms,
    ]);
    let email = of(&[Role::Email]).map(|topic| Needed::by_commands(topic, ALONE));
    let again = again.map(|topic| Needed::by_commands(topic, AGAIN));
    let service = service.map(Needed::by_service);
    service.chain(email).chain(again).collect()
}

fn needed_to_read(role: AccountRole, topics: &Topics) -> Vec<Needed> {
    let of = |roles: &'static [Role]| roles.iter().flat_map(|role| topics.of(*role));
    let live = of(&[Role::Requests, Role::Accepted, Role::Jobs, Role::Retry]);
    let looked_at = of(&[Role::DeadLetters, Role::Outcomes]);
    if role != AccountRole::Service {
        let live = live.map(|topic| Needed::by_operators(topic, "status and replay"));
        let looked_at = looked_at.map(|topic| Needed::by_operators(topic, "status, dlq and send"));
        let jobs = of(&[Role::JobLog]).map(|topic| Needed::by_operators(topic, "job"));
        return live.chain(looked_at).chain(jobs).collect();
    }
    let looked_at = looked_at.map(|topic| Needed::by_commands(topic, "dlq, send and check"));
    // There it reads which unreadable batches an operator lets it pass over.
    let jobs = of(&[Role::JobLog]);
    live.chain(jobs)
        .map(Needed::by_service)
        .chain(looked_at)
        .collect()
}
