//! Conditions of the consumer's topics and partitions that are ordinary for a while; pure. Each is said once
//! when it has lasted longer than its bound, and once when it is over.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use super::state::Partition;
use super::trouble::TroubleKind;

/// What lasts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Condition {
    /// A topic that we read is not in the list of topics.
    MissingTopic(String),
    /// Where a partition starts is not known.
    Pending(Partition),
    /// A partition is not read from, until something of it is finished.
    Held(Partition),
    /// A transaction is open on a partition, and nothing is read beyond its first offset.
    OpenTransaction(Partition, i64),
    /// The brokers do not say where all partitions end: a partition that stalls would not be seen.
    EndsUnknown,
}

impl Condition {
    /// What kind of trouble it is.
    pub(crate) fn kind(&self) -> TroubleKind {
        match self {
            Self::MissingTopic(_) => TroubleKind::MissingTopic,
            Self::Pending(_) => TroubleKind::Pending,
            Self::Held(_) => TroubleKind::Held,
            Self::OpenTransaction(..) => TroubleKind::OpenTransaction,
            Self::EndsUnknown => TroubleKind::EndsUnknown,
        }
    }

    /// What it is, and what an operator does about it.
    pub(crate) fn advice(&self) -> String {
        let action = match self {
            Self::MissingTopic(_) => "create it, or grant Read and Describe on it",
            Self::Pending(_) => "look at the log of the broker that coordinates the group",
            Self::Held(_) => {
                "look for another health check that is not UP; if there is none, restart this instance"
            }
            Self::OpenTransaction(..) => "abort it with kafka-transactions.sh",
            Self::EndsUnknown => "run `user-otp check`, which names the broker or the permission",
        };
        format!("{self}; {action}")
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MissingTopic(topic) => write!(f, "{topic} is missing or may not be read"),
            Self::Pending(partition) => write!(
                f,
                "{partition} is not read: its committed offset is not known"
            ),
            Self::Held(partition) => {
                write!(f, "{partition} is held: none of its requests in hand ends")
            }
            Self::OpenTransaction(partition, offset) => write!(
                f,
                "{partition} is not read beyond offset {offset}: a producer has a transaction open there"
            ),
            Self::EndsUnknown => f.write_str(
                "how many records wait is not known: brokers do not say where partitions end",
            ),
        }
    }
}

/// A condition that came to its bound, or one that is over.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum LastingChange {
    /// It is to be said.
    TooLong(Condition),
    /// It is over, and had been said.
    Over(Condition),
}

/// The conditions that hold now.
#[derive(Debug, Default)]
pub(crate) struct Lasting(BTreeMap<Condition, Since>);

#[derive(Debug)]
struct Since {
    began: Instant,
    said: bool,
}

impl Lasting {
    /// Takes all conditions that hold now, with their bounds.
    pub(crate) fn look(
        &mut self,
        present: Vec<(Condition, Duration)>,
        now: Instant,
    ) -> Vec<LastingChange> {
        let mut before = std::mem::take(&mut self.0);
        let mut changes = Vec::new();
        for (condition, bound) in present {
            let mut since = before.remove(&condition).unwrap_or(Since {
                began: now,
                said: false,
            });
            if !since.said && now.saturating_duration_since(since.began) >= bound {
                since.said = true;
                changes.push(LastingChange::TooLong(condition.clone()));
            }
            self.0.insert(condition, since);
        }
        let over = before.into_iter().filter(|(_, since)| since.said);
        changes.extend(over.map(|(condition, _)| LastingChange::Over(condition)));
        changes
    }

    /// Those that have lasted too long.
    pub(crate) fn too_long(&self) -> impl Iterator<Item = &Condition> {
        let said = self.0.iter().filter(|(_, since)| since.said);
        said.map(|(condition, _)| condition)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUND: Duration = Duration::from_secs(60);

    fn partition() -> Partition {
        Partition {
            topic: "requests".into(),
            number: 3,
        }
    }

    #[test]
    fn a_condition_is_said_once_at_its_bound_and_once_when_it_is_over() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut lasting = Lasting::default();
        let held = Condition::Held(partition());
        let present = || vec![(held.clone(), BOUND)];
        assert_eq!(lasting.look(present(), at(0)), []);
        assert_eq!(lasting.look(present(), at(59)), []);
        assert_eq!(lasting.too_long().count(), 0);
        let said = [LastingChange::TooLong(held.clone())];
        assert_eq!(lasting.look(present(), at(60)), said);
        assert_eq!(lasting.look(present(), at(90)), []);
        assert_eq!(lasting.too_long().count(), 1);
        let over = [LastingChange::Over(held.clone())];
        assert_eq!(lasting.look(Vec::new(), at(91)), over);
        assert_eq!(lasting.look(present(), at(92)), [], "it begins again");
        assert_eq!(lasting.look(present(), at(151)), []);
    }

    #[test]
    fn an_operator_is_told_what_to_do() {
        let missing = Condition::MissingTopic("requests".into());
        assert_eq!(
            missing.advice(),
            "requests is missing or may not be read; create it, or grant Read and Describe on it"
        );
    }

    #[test]
    fn the_next_open_transaction_of_a_partition_is_another() {
        let start = Instant::now();
        let mut lasting = Lasting::default();
        for second in 0..200 {
            let open = Condition::OpenTransaction(partition(), second / 50);
            let now = start + Duration::from_secs(second.unsigned_abs());
            assert_eq!(lasting.look(vec![(open, BOUND)], now), []);
        }
    }
}
