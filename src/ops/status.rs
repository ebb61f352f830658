//! `user-otp status`: how far the service is, from what Kafka knows of it, and what its instances say.

use std::fmt::Write as _;
use std::time::Duration;

use clap::Args;
use serde::Serialize;

use super::instances::{self, Instance};
use super::letter::Letter;
use super::moment::{in_short, rfc3339};
use super::run as start;
use super::shown::{Lean, Output, Paint, table};
use super::terminal::Terminal;
use crate::clock::EpochMs;
use crate::config::{Config, ServiceUrl};
use crate::engine::clients::Connection;
use crate::engine::progress::{Behind, ProgressError, behind};
use crate::engine::window::{Bounds, Window, WindowError};
use crate::management::ask::Asker;
use crate::retry_topics::RetryTopics;
use crate::service;
use crate::topology;

/// Dead letters of so long are counted.
const RECENT: Duration = Duration::from_secs(3_600);

/// How it is shown.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  user-otp status\n  user-otp status --management http://10.0.0.7:9464 --management http://10.0.0.8:9464\n  \
    user-otp status --output json | jq .parkedRetries"
)]
pub struct StatusArgs {
    /// Also asks this instance, at its management port, what it has in hand and how its services are;
    /// may be given several times.
    #[arg(long, value_name = "URL", value_parser = ServiceUrl::parse)]
    management: Vec<ServiceUrl>,
    /// For people, or for programs.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

/// What there is to say.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    group: String,
    /// None: the brokers do not say.
    members: Option<usize>,
    topics: Vec<OfTopic>,
    parked_retries: u64,
    dead_letters_last_hour: Option<u64>,
    /// Those that were asked.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    instances: Vec<Instance>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct OfTopic {
    topic: String,
    /// None: there is no such topic.
    partitions: Option<usize>,
    behind: u64,
    oldest_at: Option<String>,
    oldest_age: Option<String>,
}

/// Asks Kafka and shows it. The exit code.
///
/// # Errors
///
/// When Kafka does not answer, or something may not be read.
pub async fn run(
    config: &Config,
    args: &StatusArgs,
    terminal: &mut Terminal<'_>,
) -> anyhow::Result<i32> {
    let admin = start::reach(config).await?;
    let connection = service::connection(config);
    let classic = config.kafka.properties.get("group.protocol") != Some("consumer");
    let members = match classic {
        true => Some(admin.group_members(&config.kafka.group).await?),
        false => None,
    };
    let retries = retry_topics(config, &admin.list_topics().await?);
    let mut status = Status {
        group: config.kafka.group.clone(),
        members,
        topics: Vec::new(),
        parked_retries: 0,
        dead_letters_last_hour: recent_dead_letters(config, &connection, terminal.now)?,
        instances: ask(&args.management).await?,
    };
    let live = [
        &config.topics.requests,
        &config.topics.accepted,
        &config.topics.jobs,
    ];
    for topic in live.into_iter().chain(&retries) {
        let one = of_topic(&connection, topic, terminal.now)?;
        if retries.contains(topic) {
            status.parked_retries += one.behind;
        }
        status.topics.push(one);
    }
    terminal.show(args.output, &status, |paint| status.text(paint))?;
    Ok(0)
}

async fn ask(addresses: &[ServiceUrl]) -> anyhow::Result<Vec<Instance>> {
    if addresses.is_empty() {
        return Ok(Vec::new());
    }
    let (asker, mut instances) = (Asker::new()?, Vec::new());
    for address in addresses {
        instances.push(Instance::of(address, asker.pages(address).await));
    }
    Ok(instances)
}

/// Those that are configured, and whatever else of them the cluster has: the engine consumes it too.
fn retry_topics(config: &Config, all: &[String]) -> Vec<String> {
    let mut topics = topology::retry_topics(config);
    let names = RetryTopics::new(config.topics.retry_prefix.as_str());
    let delay = |topic: &String| names.delay_of(topic);
    let found = all.iter().filter(|topic| delay(topic).is_some());
    let others: Vec<_> = found
        .filter(|topic| !topics.contains(*topic))
        .cloned()
        .collect();
    topics.extend(others);
    topics.sort_by_key(|topic| delay(topic));
    topics
}

fn of_topic(connection: &Connection, topic: &str, now: EpochMs) -> anyhow::Result<OfTopic> {
    let found = match behind(connection, topic) {
        Ok(behind) => Some(behind),
        Err(ProgressError::Topic(WindowError::NoTopic(_))) => None,
        Err(error) => return Err(error.into()),
    };
    let partitions = found.as_ref().map(|behind| behind.partitions);
    let Behind {
        offsets, oldest, ..
    } = found.unwrap_or_default();
    Ok(OfTopic {
        topic: topic.to_owned(),
        partitions,
        behind: offsets,
        oldest_at: oldest.map(rfc3339),
        oldest_age: oldest.map(|at| in_short(at.age(now))),
    })
}

/// None: there is no such topic.
fn recent_dead_letters(
    config: &Config,
    connection: &Connection,
    now: EpochMs,
) -> anyhow::Result<Option<u64>> {
    let since = now.minus(RECENT);
    let bounds = Bounds {
        since: Some(since),
        ..Bounds::default()
    };
    let mut window = match Window::open(connection, &config.topics.dead_letters, &bounds) {
        Ok(window) => window,
        Err(WindowError::NoTopic(_)) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let mut count = 0;
    while let Some(record) = window.next_record()? {
        let letter = Letter::new(record);
        let recent = letter.written().is_some_and(|at| at >= since);
        count += u64::from(recent && letter.disposition().is_some());
    }
    Ok(Some(count))
}

impl Status {
    fn text(&self, paint: Paint) -> String {
        let columns = [
            ("TOPIC", Lean::Left),
            ("PARTITIONS", Lean::Right),
            ("BEHIND", Lean::Right),
            ("OLDEST", Lean::Left),
        ];
        let rows = self.topics.iter().map(|one| {
            let partitions = one
                .partitions
                .map_or("missing".to_owned(), |all| all.to_string());
            let oldest = one
                .oldest_age
                .as_ref()
                .map_or("-".to_owned(), |age| format!("{age} ago"));
            vec![
                one.topic.clone(),
                partitions,
                one.behind.to_string(),
                oldest,
            ]
        });
        let mut text = table(&columns, &rows.collect::<Vec<_>>(), paint);
        let group = &self.group;
        let members = match self.members {
            None => format!("group {group}: the brokers do not say how many are in it"),
            Some(0) => paint.alarm(&format!(
                "group {group}: nobody is in it: is `user-otp run` up?"
            )),
            Some(members) => format!("group {group}: {members} in it"),
        };
        let letters = match self.dead_letters_last_hour {
            None => "the topic of dead letters is missing: `user-otp topics apply` creates it"
                .to_owned(),
            Some(0) => "0".to_owned(),
            Some(count) => paint.alarm(&format!(
                "{count}: `user-otp dlq stats --since 1h` says why"
            )),
        };
        let _ = writeln!(text, "\n{members}");
        let _ = writeln!(
            text,
            "retries that are parked, at most: {}",
            self.parked_retries
        );
        let _ = writeln!(text, "dead letters of the last hour: {letters}");
        if !self.instances.is_empty() {
            let _ = write!(text, "\n{}", instances::text(&self.instances, paint));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_says_what_to_look_at() {
        let topic = |topic: &str, partitions, behind, age: Option<&str>| OfTopic {
            topic: topic.to_owned(),
            partitions,
            behind,
            oldest_at: None,
            oldest_age: age.map(str::to_owned),
        };
        let status = Status {
            group: "user-otp".to_owned(),
            members: Some(0),
            topics: vec![
                topic("egov.core.otp.request", Some(8), 1_204, Some("3m 2s")),
                topic("user-otp.retry.5s", None, 0, None),
            ],
            parked_retries: 7,
            dead_letters_last_hour: Some(2),
            instances: Vec::new(),
        };
        let lines = [
            "TOPIC                  PARTITIONS  BEHIND  OLDEST",
            "egov.core.otp.request           8    1204  3m 2s ago",
            "user-otp.retry.5s         missing       0  -",
            "",
            "group user-otp: nobody is in it: is `user-otp run` up?",
            "retries that are parked, at most: 7",
            "dead letters of the last hour: 2: `user-otp dlq stats --since 1h` says why",
        ];
        assert_eq!(status.text(Paint::Plain), lines.join("\n") + "\n");
        assert!(
            status
                .text(Paint::Colours)
                .contains("\u{1b}[31mgroup user-otp")
        );
    }

    #[test]
    fn retry_topics_of_older_settings_count_too() {
        let config = Config::load(None, []).expect("the defaults are right").0;
        let all = [
            "user-otp.retry.10m",
            "user-otp.retry.x",
            "user-otp.dlq",
            "user-otp.retry.5s",
        ];
        let found = retry_topics(&config, &all.map(str::to_owned));
        let expected = [
            "user-otp.retry.5s",
            "user-otp.retry.30s",
            "user-otp.retry.2m",
            "user-otp.retry.10m",
        ];
        assert_eq!(found, expected);
    }
}
