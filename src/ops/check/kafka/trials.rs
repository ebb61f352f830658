//! What is tried, on which topics, and who needs it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::{Kafka, Topics};
use crate::clock::{Clock, EpochMs};
use crate::engine::trial::{self, Allowed};
use crate::ops::check::permissions::{self, Needed, Tried};
use crate::ops::check::services;
use crate::topics::Role;

impl Kafka<'_> {
    pub(super) async fn writes(&self, topics: &Topics) {
        let needed: Vec<Needed> = [
            Role::Accepted,
            Role::Retry,
            Role::DeadLetters,
            Role::Outcomes,
            Role::Sms,
        ]
        .into_iter()
        .flat_map(|role| topics.of(role))
        .map(Needed::by_service)
        .chain(
            topics
                .of(Role::Email)
                .map(|topic| Needed::by_commands(topic, "the service, which else sends SMS alone")),
        )
        .chain(
            [Role::Jobs, Role::JobLog]
                .into_iter()
                .flat_map(|role| topics.of(role))
                .map(|topic| Needed::by_commands(topic, "who redrives, replays and resends")),
        )
        .collect();
        let names: Vec<String> = needed.iter().map(|one| one.topic.clone()).collect();
        let (connection, timeout) = (self.connection.clone(), self.timeout);
        let tried = self.blocking_for(self.timeout * 3, move || {
            trial::write(&connection, &names, timeout)
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
                let prefix = format!("{}-", self.config.kafka.group);
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
        let live = [Role::Requests, Role::Accepted, Role::Jobs, Role::Retry];
        let looked_at = [Role::DeadLetters, Role::Outcomes];
        let needed: Vec<Needed> = live
            .into_iter()
            .flat_map(|role| topics.of(role))
            .map(Needed::by_service)
            .chain(
                looked_at
                    .into_iter()
                    .flat_map(|role| topics.of(role))
                    .map(|topic| Needed::by_commands(topic, "dlq, send and check")),
            )
            .collect();
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
