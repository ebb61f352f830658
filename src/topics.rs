//! The topics: what they should be, and how what a cluster has compares with it.
//!
//! `topics/topics.toml` is the one list, compiled in. [`catalog`] parses it, [`plan`]
//! compares it with what was [`Found`]; both are pure. Who creates topics takes the
//! figures from here and asks [`crate::engine::admin`]. A plan never deletes or shrinks
//! anything: what is larger than wanted is fine, what is smaller is said and left alone,
//! since it may hold records, and somebody may have meant it.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::time::Duration;

use serde::Deserialize;

/// How much more than the largest request a dead letter must be allowed to be: it is the
/// request with headers added. The producer's `message.max.bytes` keeps the same distance.
pub const DEAD_LETTER_HEADROOM: u32 = 64 * 1024;

const LIST: &str = include_str!("../topics/topics.toml");

/// What a topic is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// OTP requests from upstream.
    Requests,
    /// Requests that our HTTP door handed over.
    Accepted,
    /// Requests sent again by our commands.
    Jobs,
    /// Requests that wait; one topic per delay.
    Retry,
    /// Requests that can never be done.
    DeadLetters,
    /// What became of each request.
    Outcomes,
    /// Progress and audit of our commands.
    JobLog,
    /// SMS for the platform.
    Sms,
    /// Email for the platform.
    Email,
}

impl Role {
    /// Every role, in the order of the list.
    pub const ALL: [Self; 9] = [
        Self::Requests,
        Self::Accepted,
        Self::Jobs,
        Self::Retry,
        Self::DeadLetters,
        Self::Outcomes,
        Self::JobLog,
        Self::Sms,
        Self::Email,
    ];

    /// The role's name in the list, and of its setting under `topics` (`retry_prefix` for
    /// [`Role::Retry`]).
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Accepted => "accepted",
            Self::Jobs => "jobs",
            Self::Retry => "retry",
            Self::DeadLetters => "dead_letters",
            Self::Outcomes => "outcomes",
            Self::JobLog => "job_log",
            Self::Sms => "sms",
            Self::Email => "email",
        }
    }
}

impl Role {
    /// Whether whole requests are written to it, with headers of ours.
    fn takes_copies(self) -> bool {
        match self {
            Self::Jobs | Self::Retry | Self::DeadLetters => true,
            Self::Requests
            | Self::Accepted
            | Self::Outcomes
            | Self::JobLog
            | Self::Sms
            | Self::Email => false,
        }
    }
}

/// Who creates a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Owner {
    /// We do, where we may.
    Ours,
    /// The platform does; we only write to it.
    Platform,
}

/// What Kafka does with old records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cleanup {
    /// They are deleted after the retention.
    Delete,
    /// The last one of each key stays.
    Compact,
}

/// Whose clock a record's time is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Timestamps {
    /// The producer's.
    Create,
    /// The broker's.
    Append,
}

/// What one topic should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicSpec {
    /// What it is for.
    pub role: Role,
    /// The number of partitions.
    pub partitions: i32,
    /// The number of copies; [`TopicSpec::on`] caps it.
    pub replication: i32,
    /// After this time records are deleted.
    pub retention: Duration,
    /// What becomes of old records.
    pub cleanup: Cleanup,
    /// The largest record, in bytes.
    pub max_message_bytes: u32,
    /// Whose clock counts.
    pub timestamps: Timestamps,
    /// A record may be at most this old when it is written; none: the cluster's default.
    pub timestamp_before_max: Option<Duration>,
    /// A record may be at most this far in the future; none: the cluster's default.
    pub timestamp_after_max: Option<Duration>,
    /// Who creates it.
    pub owner: Owner,
    /// What it is for, in a few words.
    pub purpose: String,
}

/// The list that was compiled in is not one: a programming error.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// It does not parse.
    #[error("topics.toml: {0}")]
    Syntax(#[from] toml::de::Error),
    /// A role has no table.
    #[error("topics.toml has no table [{}]", .0.as_str())]
    Missing(Role),
}

/// The compiled-in list, one topic per role, in the order of [`Role::ALL`].
///
/// # Errors
/// When the list does not parse or lacks a role.
pub fn catalog() -> Result<Vec<TopicSpec>, CatalogError> {
    parse(LIST)
}

impl TopicSpec {
    /// The same topic on a cluster of so many brokers: no more copies than those.
    #[must_use]
    pub fn on(&self, brokers: usize) -> Self {
        let brokers = i32::try_from(brokers.max(1)).unwrap_or(i32::MAX);
        Self {
            replication: self.replication.min(brokers),
            ..self.clone()
        }
    }

    /// The same topic, for copies of requests of so many bytes.
    fn at_least(&self, request: u32) -> Self {
        let copy = request.saturating_add(DEAD_LETTER_HEADROOM);
        Self {
            max_message_bytes: self.max_message_bytes.max(copy),
            ..self.clone()
        }
    }

    /// Kafka's own settings of the topic. `min.insync.replicas` leaves room for one broker
    /// to be away: less would let an acknowledged record be lost with its only copy.
    #[must_use]
    pub fn config(&self) -> Vec<(&'static str, String)> {
        let mut config = vec![
            ("cleanup.policy", self.cleanup.to_string()),
            ("retention.ms", self.retention.as_millis().to_string()),
            ("max.message.bytes", self.max_message_bytes.to_string()),
            (
                "min.insync.replicas",
                self.min_insync_replicas().to_string(),
            ),
            ("message.timestamp.type", self.timestamps.to_string()),
        ];
        let bounds = self.timestamp_bounds().into_iter();
        config.extend(bounds.filter_map(|(key, most)| Some((key, most?.as_millis().to_string()))));
        config
    }

    fn timestamp_bounds(&self) -> [(&'static str, Option<Duration>); 2] {
        [
            ("message.timestamp.before.max.ms", self.timestamp_before_max),
            ("message.timestamp.after.max.ms", self.timestamp_after_max),
        ]
    }

    fn min_insync_replicas(&self) -> i32 {
        (self.replication - 1).max(1)
    }
}

/// What a cluster has of a topic.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Found {
    /// The number of partitions.
    pub partitions: i32,
    /// The number of copies, of the partition that has the fewest.
    pub replication: i32,
    /// Kafka's settings of the topic; empty where we may not read them. What is not in it
    /// is not compared.
    pub configs: HashMap<String, String>,
}

/// One topic of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// The topic's name.
    pub name: String,
    /// What it should be.
    pub spec: TopicSpec,
    /// How what the cluster has compares.
    pub state: State,
}

/// How a topic compares with what it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// There is no such topic.
    Missing,
    /// It is all it should be, or more.
    Fine,
    /// It is there, but less than it should be. Nothing is done about it.
    Differs(Vec<Difference>),
}

/// One thing in which a topic is less than it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Difference {
    /// Fewer partitions.
    Partitions {
        /// What the cluster has.
        found: i32,
        /// What the list says.
        wanted: i32,
    },
    /// Fewer copies.
    Replication {
        /// What the cluster has.
        found: i32,
        /// What the list says.
        wanted: i32,
    },
    /// Records are deleted sooner.
    Retention {
        /// What the cluster has.
        found: Duration,
        /// What the list says.
        wanted: Duration,
    },
    /// The largest record is smaller.
    MaxMessageBytes {
        /// What the cluster has.
        found: u64,
        /// What the list says.
        wanted: u64,
    },
    /// Another cleanup policy, as the cluster writes it.
    Cleanup {
        /// What the cluster has.
        found: String,
        /// What the list says.
        wanted: Cleanup,
    },
    /// A record counts as written with fewer copies.
    MinInsyncReplicas {
        /// What the cluster has.
        found: i32,
        /// What the list says.
        wanted: i32,
    },
    /// Another clock, as the cluster writes it.
    Timestamps {
        /// What the cluster has.
        found: String,
        /// What the list says.
        wanted: Timestamps,
    },
    /// Another bound of records' times: where others write, wider is less, since a wrong clock is not heard
    /// of; where we do, narrower is.
    TimestampBound {
        /// Kafka's setting.
        key: &'static str,
        /// What the cluster has.
        found: Duration,
        /// What the list says.
        wanted: Duration,
    },
}

/// Compares each wanted topic with what was found under its name. One that is missing, and is for copies of requests,
/// is wanted large enough for those that the request topic takes already. Cap the specs first
/// ([`TopicSpec::on`]): three copies are not to be had from one broker.
#[must_use]
pub fn plan(wanted: &[(String, TopicSpec)], found: &HashMap<String, Found>) -> Vec<Item> {
    let state = |name: &str, spec: &TopicSpec| match found.get(name) {
        None => State::Missing,
        Some(found) => match differences(spec, found) {
            none if none.is_empty() => State::Fine,
            some => State::Differs(some),
        },
    };
    let requests = wanted
        .iter()
        .filter(|(_, spec)| spec.role == Role::Requests);
    let largest = requests.filter_map(|(name, _)| found.get(name)?.number("max.message.bytes"));
    let largest = largest.max().and_then(|bytes| u32::try_from(bytes).ok());
    let created = |spec: &TopicSpec| match largest {
        Some(bytes) if spec.role.takes_copies() => spec.at_least(bytes),
        Some(_) | None => spec.clone(),
    };
    wanted
        .iter()
        .map(|(name, spec)| {
            let state = state(name, spec);
            Item {
                name: name.clone(),
                spec: match state {
                    State::Missing => created(spec),
                    State::Fine | State::Differs(_) => spec.clone(),
                },
                state,
            }
        })
        .collect()
}

/// By how many bytes the dead-letter topic's largest record is too small to take the
/// request topic's, with headers; `None` when it is not, or when we may not know.
#[must_use]
pub fn dead_letter_shortfall(requests: &Found, dead_letters: &Found) -> Option<u64> {
    let needed = requests.number("max.message.bytes")? + i64::from(DEAD_LETTER_HEADROOM);
    let room = dead_letters.number("max.message.bytes")?;
    u64::try_from(needed - room).ok().filter(|short| *short > 0)
}

impl Item {
    /// The command with which somebody who may creates this topic.
    #[must_use]
    pub fn create_command(&self, brokers: &str) -> String {
        let mut command = format!(
            "kafka-topics.sh --bootstrap-server {brokers} --create --topic {} --partitions {} --replication-factor {}",
            self.name, self.spec.partitions, self.spec.replication
        );
        for (key, value) in self.spec.config() {
            command.push_str(&format!(" --config {key}={value}"));
        }
        command
    }
}

impl Found {
    /// Whether records are known to have this clock's time.
    #[must_use]
    pub fn has_timestamps(&self, clock: Timestamps) -> bool {
        let found = self.configs.get("message.timestamp.type");
        found.is_some_and(|found| *found == clock.to_string())
    }

    fn number(&self, key: &str) -> Option<i64> {
        self.configs.get(key)?.parse().ok()
    }
}

impl fmt::Display for Cleanup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Delete => "delete",
            Self::Compact => "compact",
        })
    }
}

impl fmt::Display for Timestamps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Create => "CreateTime",
            Self::Append => "LogAppendTime",
        })
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Partitions { found, wanted } => {
                write!(f, "{found} partitions, not {wanted}")
            }
            Self::Replication { found, wanted } => write!(f, "{found} copies, not {wanted}"),
            Self::Retention { found, wanted } => {
                write!(
                    f,
                    "kept for {}, not {}",
                    in_words(*found),
                    in_words(*wanted)
                )
            }
            Self::MaxMessageBytes { found, wanted } => {
                write!(f, "records up to {found} bytes, not {wanted}")
            }
            Self::Cleanup { found, wanted } => write!(f, "cleanup {found}, not {wanted}"),
            Self::MinInsyncReplicas { found, wanted } => {
                write!(f, "min.insync.replicas {found}, not {wanted}")
            }
            Self::Timestamps { found, wanted } => write!(f, "timestamps {found}, not {wanted}"),
            Self::TimestampBound { key, found, wanted } => {
                write!(f, "{key} {}, not {}", found.as_millis(), wanted.as_millis())
            }
        }
    }
}

/// Whole days as days: retentions are, and `humantime` would make months of them.
pub(crate) fn in_words(duration: Duration) -> String {
    const DAY: u64 = 24 * 60 * 60;
    match (duration.as_secs() / DAY, duration.as_secs() % DAY) {
        (1, 0) => "1 day".to_owned(),
        (days @ 2.., 0) => format!("{days} days"),
        _ => humantime::format_duration(duration).to_string(),
    }
}

fn differences(wanted: &TopicSpec, found: &Found) -> Vec<Difference> {
    [
        (found.partitions < wanted.partitions).then_some(Difference::Partitions {
            found: found.partitions,
            wanted: wanted.partitions,
        }),
        (found.replication < wanted.replication).then_some(Difference::Replication {
            found: found.replication,
            wanted: wanted.replication,
        }),
        retention(wanted, found),
        max_message_bytes(wanted, found),
        min_insync_replicas(wanted, found),
        found
            .configs
            .get("cleanup.policy")
            .filter(|policy| **policy != wanted.cleanup.to_string())
            .map(|policy| Difference::Cleanup {
                found: policy.clone(),
                wanted: wanted.cleanup,
            }),
        found
            .configs
            .get("message.timestamp.type")
            .filter(|clock| **clock != wanted.timestamps.to_string())
            .map(|clock| Difference::Timestamps {
                found: clock.clone(),
                wanted: wanted.timestamps,
            }),
    ]
    .into_iter()
    .flatten()
    .chain(timestamp_bounds(wanted, found))
    .collect()
}

fn timestamp_bounds(wanted: &TopicSpec, found: &Found) -> impl Iterator<Item = Difference> {
    let bounds = wanted.timestamp_bounds().into_iter();
    bounds.filter_map(|(key, bound)| {
        let wanted_bound = bound?;
        let found = Duration::from_millis(u64::try_from(found.number(key)?).ok()?);
        let wider = found > wanted_bound && wanted.role == Role::Requests;
        (wider || found < wanted_bound).then_some(Difference::TimestampBound {
            key,
            found,
            wanted: wanted_bound,
        })
    })
}

/// A negative `retention.ms` is Kafka's way to say for ever.
fn retention(wanted: &TopicSpec, found: &Found) -> Option<Difference> {
    let found = Duration::from_millis(u64::try_from(found.number("retention.ms")?).ok()?);
    (found < wanted.retention).then_some(Difference::Retention {
        found,
        wanted: wanted.retention,
    })
}

fn max_message_bytes(wanted: &TopicSpec, found: &Found) -> Option<Difference> {
    let found = u64::try_from(found.number("max.message.bytes")?).ok()?;
    let wanted = u64::from(wanted.max_message_bytes);
    (found < wanted).then_some(Difference::MaxMessageBytes { found, wanted })
}

fn min_insync_replicas(wanted: &TopicSpec, found: &Found) -> Option<Difference> {
    let found = i32::try_from(found.number("min.insync.replicas")?).ok()?;
    let wanted = wanted.min_insync_replicas();
    (found < wanted).then_some(Difference::MinInsyncReplicas { found, wanted })
}

/// A table of the list, as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    purpose: String,
    owner: Owner,
    partitions: i32,
    replication: i32,
    #[serde(deserialize_with = "duration")]
    retention: Duration,
    cleanup: Cleanup,
    max_message_bytes: u32,
    timestamps: Timestamps,
    #[serde(default, deserialize_with = "some_duration")]
    message_timestamp_before_max: Option<Duration>,
    #[serde(default, deserialize_with = "some_duration")]
    message_timestamp_after_max: Option<Duration>,
}

impl Table {
    fn into_spec(self, role: Role) -> TopicSpec {
        TopicSpec {
            role,
            partitions: self.partitions,
            replication: self.replication,
            retention: self.retention,
            cleanup: self.cleanup,
            max_message_bytes: self.max_message_bytes,
            timestamps: self.timestamps,
            timestamp_before_max: self.message_timestamp_before_max,
            timestamp_after_max: self.message_timestamp_after_max,
            owner: self.owner,
            purpose: self.purpose,
        }
    }
}

fn parse(list: &str) -> Result<Vec<TopicSpec>, CatalogError> {
    let mut tables: BTreeMap<Role, Table> = toml::from_str(list)?;
    Role::ALL
        .into_iter()
        .map(|role| {
            let table = tables.remove(&role).ok_or(CatalogError::Missing(role))?;
            Ok(table.into_spec(role))
        })
        .collect()
}

fn duration<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(from)?;
    humantime::parse_duration(&text).map_err(serde::de::Error::custom)
}

fn some_duration<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
    duration(from).map(Some)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 60 * 60);

    fn spec(role: Role) -> TopicSpec {
        catalog()
            .unwrap()
            .into_iter()
            .find(|spec| spec.role == role)
            .unwrap()
    }

    /// The request topic as its spec creates it, with one setting changed.
    fn found_with(key: &str, value: &str) -> Found {
        let spec = spec(Role::Requests);
        let mut configs: HashMap<String, String> = spec
            .config()
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value))
            .collect();
        configs.insert(key.to_owned(), value.to_owned());
        Found {
            partitions: spec.partitions,
            replication: spec.replication,
            configs,
        }
    }

    fn state_of(found: Found) -> State {
        let wanted = [("requests".to_owned(), spec(Role::Requests))];
        let found = HashMap::from([("requests".to_owned(), found)]);
        plan(&wanted, &found).remove(0).state
    }

    #[test]
    fn the_list_has_every_role_in_order() {
        let roles: Vec<_> = catalog().unwrap().iter().map(|spec| spec.role).collect();
        assert_eq!(roles, Role::ALL);
    }

    #[test]
    fn a_list_without_a_role_is_an_error_that_names_it() {
        let list = LIST.replace("[job_log]", "[unknown]");
        assert!(parse(&list).unwrap_err().to_string().contains("unknown"));

        let list = LIST.split("[email]").next().unwrap();
        assert_eq!(
            parse(list).unwrap_err().to_string(),
            "topics.toml has no table [email]"
        );
    }

    #[test]
    fn what_copies_of_requests_go_to_is_created_for_those_that_there_are() {
        let names = ["requests", "retry", "outcomes"];
        let roles = [Role::Requests, Role::Retry, Role::Outcomes];
        let wanted = names.into_iter().zip(roles);
        let wanted: Vec<_> = wanted
            .map(|(name, role)| (name.to_owned(), spec(role)))
            .collect();
        let sizes = |found: &HashMap<String, Found>| -> Vec<u32> {
            let items = plan(&wanted, found).into_iter();
            items.map(|item| item.spec.max_message_bytes).collect()
        };
        assert_eq!(sizes(&HashMap::new()), [131_072, 196_608, 65_536]);
        let large = found_with("max.message.bytes", "1048588");
        let with_requests = HashMap::from([("requests".to_owned(), large)]);
        assert_eq!(sizes(&with_requests), [131_072, 1_114_124, 65_536]);
    }

    #[test]
    fn only_the_sms_and_email_topics_are_the_platforms() {
        for spec in catalog().unwrap() {
            let platform = matches!(spec.role, Role::Sms | Role::Email);
            assert_eq!(spec.owner == Owner::Platform, platform, "{:?}", spec.role);
        }
    }

    #[test]
    fn whatever_carries_a_request_onwards_has_room_for_the_largest_with_headers() {
        let needed = spec(Role::Requests).max_message_bytes + DEAD_LETTER_HEADROOM;
        for role in [Role::DeadLetters, Role::Retry, Role::Jobs] {
            assert!(spec(role).max_message_bytes >= needed, "{role:?}");
        }
    }

    #[test]
    fn the_config_is_in_kafkas_words() {
        let config = spec(Role::Requests).config();
        let expected = [
            ("cleanup.policy", "delete"),
            ("retention.ms", "604800000"),
            ("max.message.bytes", "131072"),
            ("min.insync.replicas", "2"),
            ("message.timestamp.type", "CreateTime"),
            ("message.timestamp.before.max.ms", "604800000"),
            ("message.timestamp.after.max.ms", "3600000"),
        ];
        assert_eq!(config, expected.map(|(key, value)| (key, value.to_owned())));
    }

    #[rstest]
    #[case::no_broker_known(0, 1, "1")]
    #[case::one(1, 1, "1")]
    #[case::two(2, 2, "1")]
    #[case::three(3, 3, "2")]
    #[case::more_than_copies(9, 3, "2")]
    fn replication_is_capped_at_the_number_of_brokers(
        #[case] brokers: usize,
        #[case] replication: i32,
        #[case] min_insync: &str,
    ) {
        let spec = spec(Role::Requests).on(brokers);
        assert_eq!(spec.replication, replication);
        assert!(
            spec.config()
                .contains(&("min.insync.replicas", min_insync.to_owned()))
        );
    }

    #[test]
    fn an_absent_topic_is_missing() {
        let wanted = [("requests".to_owned(), spec(Role::Requests))];
        let items = plan(&wanted, &HashMap::new());
        assert_eq!(items[0].state, State::Missing);
        assert_eq!(items[0].name, "requests");
    }

    #[rstest]
    #[case::as_created("retention.ms", "604800000")]
    #[case::kept_longer("retention.ms", "604800001")]
    #[case::kept_for_ever("retention.ms", "-1")]
    #[case::larger_records("max.message.bytes", "9999999")]
    #[case::more_in_sync("min.insync.replicas", "3")]
    #[case::a_setting_that_is_none_of_ours("segment.ms", "1")]
    #[case::unreadable("retention.ms", "")]
    fn as_much_or_more_is_fine(#[case] key: &str, #[case] value: &str) {
        assert_eq!(state_of(found_with(key, value)), State::Fine);
    }

    #[rstest]
    #[case("retention.ms", "86400000", Difference::Retention { found: DAY, wanted: 7 * DAY }, "kept for 1 day, not 7 days")]
    #[case("max.message.bytes", "1000", Difference::MaxMessageBytes { found: 1000, wanted: 131_072 }, "records up to 1000 bytes, not 131072")]
    #[case("cleanup.policy", "compact", Difference::Cleanup { found: "compact".to_owned(), wanted: Cleanup::Delete }, "cleanup compact, not delete")]
    #[case("cleanup.policy", "compact,delete", Difference::Cleanup { found: "compact,delete".to_owned(), wanted: Cleanup::Delete }, "cleanup compact,delete, not delete")]
    #[case("min.insync.replicas", "1", Difference::MinInsyncReplicas { found: 1, wanted: 2 }, "min.insync.replicas 1, not 2")]
    #[case("message.timestamp.before.max.ms", "9223372036854775807", Difference::TimestampBound { key: "message.timestamp.before.max.ms", found: Duration::from_millis(i64::MAX.unsigned_abs()), wanted: 7 * DAY }, "message.timestamp.before.max.ms 9223372036854775807, not 604800000")]
    #[case("message.timestamp.after.max.ms", "86400000", Difference::TimestampBound { key: "message.timestamp.after.max.ms", found: DAY, wanted: DAY / 24 }, "message.timestamp.after.max.ms 86400000, not 3600000")]
    #[case("message.timestamp.after.max.ms", "1", Difference::TimestampBound { key: "message.timestamp.after.max.ms", found: Duration::from_millis(1), wanted: DAY / 24 }, "message.timestamp.after.max.ms 1, not 3600000")]
    #[case("message.timestamp.type", "LogAppendTime", Difference::Timestamps { found: "LogAppendTime".to_owned(), wanted: Timestamps::Create }, "timestamps LogAppendTime, not CreateTime")]
    fn less_is_a_difference_that_says_both_figures(
        #[case] key: &str,
        #[case] value: &str,
        #[case] expected: Difference,
        #[case] sentence: &str,
    ) {
        assert_eq!(expected.to_string(), sentence);
        assert_eq!(
            state_of(found_with(key, value)),
            State::Differs(vec![expected])
        );
    }

    /// Their times are our own clock's.
    #[test]
    fn what_we_write_ourselves_is_refused_by_no_clock() {
        let ours = [
            Role::Accepted,
            Role::Jobs,
            Role::Retry,
            Role::DeadLetters,
            Role::Outcomes,
            Role::JobLog,
        ];
        for role in ours {
            for (key, bound) in spec(role).timestamp_bounds() {
                assert!(
                    bound.is_some_and(|bound| bound >= 7 * DAY),
                    "{role:?} {key}"
                );
            }
            let found = |ms: &str| Found {
                configs: HashMap::from([(
                    "message.timestamp.after.max.ms".to_owned(),
                    ms.to_owned(),
                )]),
                ..found_with("x", "y")
            };
            let differs = |ms| timestamp_bounds(&spec(role), &found(ms)).count();
            assert_eq!(
                (differs("3600000"), differs("9223372036854775807")),
                (1, 0),
                "{role:?}"
            );
        }
    }

    #[test]
    fn fewer_partitions_and_copies_are_said_together() {
        let found = Found {
            partitions: 4,
            replication: 1,
            ..found_with("x", "y")
        };
        let expected = vec![
            Difference::Partitions {
                found: 4,
                wanted: 8,
            },
            Difference::Replication {
                found: 1,
                wanted: 3,
            },
        ];
        assert_eq!(state_of(found), State::Differs(expected));
    }

    #[test]
    fn more_partitions_are_fine() {
        let found = Found {
            partitions: 64,
            ..found_with("x", "y")
        };
        assert_eq!(state_of(found), State::Fine);
    }

    #[test]
    fn settings_that_may_not_be_read_are_not_compared() {
        let found = Found {
            configs: HashMap::new(),
            ..found_with("x", "y")
        };
        assert_eq!(state_of(found), State::Fine);
    }

    #[rstest]
    #[case::room("1000", "66536", None)]
    #[case::one_byte_short("1000", "66535", Some(1))]
    #[case::both_defaults("1048588", "1048588", Some(65536))]
    #[case::unknown("", "1048588", None)]
    fn a_dead_letter_topic_without_room_for_headers_is_noticed(
        #[case] requests: &str,
        #[case] dead_letters: &str,
        #[case] short: Option<u64>,
    ) {
        let requests = found_with("max.message.bytes", requests);
        let dead_letters = found_with("max.message.bytes", dead_letters);
        assert_eq!(dead_letter_shortfall(&requests, &dead_letters), short);
    }

    #[test]
    fn the_command_creates_what_we_would_create() {
        let item = Item {
            name: "egov.core.notification.sms.otp".to_owned(),
            spec: spec(Role::Sms).on(3),
            state: State::Missing,
        };
        assert_eq!(
            item.create_command("kafka:9092"),
            "kafka-topics.sh --bootstrap-server kafka:9092 --create \
             --topic egov.core.notification.sms.otp --partitions 4 --replication-factor 3 \
             --config cleanup.policy=delete --config retention.ms=86400000 \
             --config max.message.bytes=1048588 --config min.insync.replicas=2 \
             --config message.timestamp.type=CreateTime"
        );
    }
}
