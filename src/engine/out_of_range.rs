//! Partitions whose log is not the one that was read: its next offset is gone, or its topic was
//! created again under the same name.
//!
//! The error that `poll` gives names no partition, and librdkafka fetches the partition no longer. An offset
//! that is in range again when one looks proves nothing: producers may have written that far meanwhile, and
//! what is below it was never read. So librdkafka's own log lines are read, which name partition or topic:
//!
//! | line | what is proven | what follows |
//! | --- | --- | --- |
//! | an offset reset of a partition | a fetch at its next offset was refused | it starts at the beginning |
//! | a topic changed its id | the log is another, whatever its offsets | it starts at the beginning where a record was read in this assignment, else where it is committed |
//! | no line, only the error | some partition is not fetched | each other one is fetched again from its next offset |
//!
//! librdkafka keeps a partition's leader epoch over such a topic. While the new log's epochs are lower, it ignores its
//! leaders, and nothing but a new client reads it. So a partition that stays still then ends the process.
//!
//! A broker without topic ids (before Kafka 2.8) does not tell a topic that was created again from the one
//! before, unless the next offset is out of range.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use rdkafka::consumer::Consumer as _;
use rdkafka::{Offset, TopicPartitionList};

use super::consumer::{Consumer, SEEK_WAIT, give_back};
use super::core::Core;
use super::start::{self, Ask};
use super::state::Partition;

/// How a topic without an id shows in librdkafka's log: one that is seen for the first time.
const NO_ID: &str = "AAAAAAAAAAAAAAAAAAAAAA";

/// What is known of such partitions, and not acted upon.
#[derive(Debug, Default)]
pub(crate) struct OutOfRange {
    heard: AtomicBool,
    named: Mutex<Named>,
    epochs: Mutex<Epochs>,
}

/// Whose leaders librdkafka ignores.
#[derive(Debug, Default)]
struct Epochs {
    created_again: BTreeSet<String>,
    /// A lagging broker also has this said, for a moment.
    ignored: BTreeSet<(String, i32)>,
}

/// What librdkafka's log named.
#[derive(Debug, Default, PartialEq, Eq)]
struct Named {
    partitions: BTreeSet<(String, i32)>,
    topics: BTreeSet<String>,
}

impl OutOfRange {
    /// An error that names no partition.
    pub(crate) fn heard(&self) {
        self.heard.store(true, Ordering::Release);
    }

    /// A line of librdkafka's log. It is written before the first record of another log is handed over.
    pub(crate) fn read(&self, facility: &str, line: &str) {
        match Line::of(facility, line) {
            Some(Line::Reset(partition)) => {
                self.named.lock().partitions.insert(partition);
                self.heard();
            }
            Some(Line::NewId(topic)) => {
                self.epochs.lock().created_again.insert(topic.clone());
                self.named.lock().topics.insert(topic);
                self.heard();
            }
            Some(Line::LeaderIgnored(partition)) => {
                self.epochs.lock().ignored.insert(partition);
            }
            Some(Line::LeaderTaken(partition)) => {
                self.epochs.lock().ignored.remove(&partition);
            }
            None => {}
        }
    }

    /// Whether librdkafka ignores the leader of a partition whose topic was created again.
    pub(crate) fn has_old_epoch(&self, partition: &Partition) -> bool {
        let epochs = self.epochs.lock();
        let one = (partition.topic.to_string(), partition.number);
        epochs.created_again.contains(&*partition.topic) && epochs.ignored.contains(&one)
    }

    /// Whether something was heard. What is delivered meanwhile may be from another log.
    pub(crate) fn is_heard(&self) -> bool {
        self.heard.load(Ordering::Acquire)
    }

    fn take(&self) -> Named {
        self.heard.store(false, Ordering::Release);
        std::mem::take(&mut self.named.lock())
    }
}

/// What a line of librdkafka's log says.
enum Line {
    Reset((String, i32)),
    NewId(String),
    LeaderIgnored((String, i32)),
    LeaderTaken((String, i32)),
}

impl Line {
    fn of(facility: &str, line: &str) -> Option<Self> {
        match facility {
            "OFFSET" => {
                let (partition, reset) = line.split_once("]: offset reset (at ")?;
                reset.split_once(") to offset INVALID")?;
                partition_of(partition).map(Self::Reset)
            }
            "METADATA" => {
                let (topic, ids) = line.split_once(" changed id from ")?;
                let (before, _) = ids.split_once(" to ")?;
                let (_, topic) = topic.rsplit_once("Topic ")?;
                (before != NO_ID).then(|| Self::NewId(topic.to_owned()))
            }
            "BROKER" => {
                let (partition, said) = line.rsplit_once("]: ")?;
                if said.starts_with("ignoring outdated metadata update ") {
                    partition_of(partition).map(Self::LeaderIgnored)
                } else if said.starts_with("leader ") {
                    partition_of(partition).map(Self::LeaderTaken)
                } else {
                    None
                }
            }
            _ => None,
        }
    }
}

/// Of `[thrd:main]: requests [3`.
fn partition_of(text: &str) -> Option<(String, i32)> {
    let (topic, number) = text.rsplit_once(" [")?;
    let topic = topic.rsplit(' ').next()?;
    Some((topic.to_owned(), number.parse().ok()?))
}

/// Starts again what is read from another log now, and assigns the others again.
pub(super) fn look(core: &Core, consumer: &Consumer) {
    // Answered by librdkafka's main thread, after it has written the line of the error that was heard.
    let positions = consumer.position().ok();
    let named = core.out_of_range.take();
    let mut others = Vec::new();
    let partitions = core.lock().state.partitions();
    for partition in partitions {
        let of_topic = named.topics.contains(&*partition.topic);
        let reset = (partition.topic.to_string(), partition.number);
        if !of_topic && !named.partitions.contains(&reset) {
            others.push(partition);
            continue;
        }
        let (next, was_read) = {
            let shared = core.lock();
            let next = shared.state.next_offset(&partition);
            (next.unwrap_or(0), shared.state.was_read(&partition))
        };
        let position = positions
            .as_ref()
            .and_then(|list| list.find_partition(&partition.topic, partition.number))
            .and_then(|element| start::number(element.offset()));
        let ask = if of_topic && !was_read {
            Ask::Committed
        } else {
            Ask::Anew(position.unwrap_or(next).max(next))
        };
        start_again(core, consumer, &[partition], ask);
    }
    fetch_again(core, consumer, &others);
}

/// Lets librdkafka fetch partitions again from their next offsets. One that it does not fetch cannot be sought in,
/// and is assigned again. Only then: an assignment outside of a callback also answers a rebalance that waits.
pub(super) fn fetch_again(core: &Core, consumer: &Consumer, partitions: &[Partition]) {
    for partition in partitions {
        let Some(next) = core.lock().state.next_offset(partition) else {
            continue;
        };
        let (topic, number) = (&partition.topic, partition.number);
        match consumer.seek(topic, number, Offset::Offset(next), SEEK_WAIT) {
            Ok(()) => core.lock().state.set_back(partition),
            Err(error) => {
                tracing::debug!(%error, topic = &**topic, partition = number, "not fetched");
                assign_again(core, consumer, std::slice::from_ref(partition));
            }
        }
    }
}

/// Assigns partitions again at their next offsets: librdkafka fetches them from then on. What is in hand of
/// them stays.
pub(super) fn assign_again(core: &Core, consumer: &Consumer, partitions: &[Partition]) {
    // One by one: an error is about all that is asked for at once.
    for partition in partitions {
        let Some(next) = core.lock().state.next_offset(partition) else {
            continue;
        };
        if assign_at(core, consumer, partition, next) {
            core.lock().state.assigned_again(partition);
        }
    }
}

/// Lets a partition go and assigns it at `offset`: librdkafka forgets what it had of it. Where that fails, it starts
/// where it is committed. Whether it is assigned.
pub(super) fn assign_at(
    core: &Core,
    consumer: &Consumer,
    partition: &Partition,
    offset: i64,
) -> bool {
    unassign(core, consumer, partition);
    // A list of its own: one that went through `resume` names the partition that was given up, and
    // librdkafka ends the process by an assertion when its topic disappears later.
    let mut list = TopicPartitionList::new();
    let assigned = list
        .add_partition_offset(&partition.topic, partition.number, Offset::Offset(offset))
        .and_then(|()| consumer.incremental_assign(&list));
    if let Err(error) = &assigned {
        tracing::warn!(
            topic = &*partition.topic,
            partition = partition.number,
            %error,
            "a partition could not be assigned again; starting it where it is committed"
        );
        start_again(
            core,
            consumer,
            std::slice::from_ref(partition),
            Ask::Committed,
        );
    }
    assigned.is_ok()
}

/// Ends the partitions' assignment, and begins the next one where the answer says.
pub(super) fn start_again(core: &Core, consumer: &Consumer, partitions: &[Partition], ask: Ask) {
    partitions
        .iter()
        .for_each(|one| unassign(core, consumer, one));
    {
        let mut shared = core.lock();
        let epochs = shared.state.begin_revoke(partitions);
        shared.cancel(&epochs);
        core.places_freed();
    }
    // What is being committed is to be in the answer.
    core.wait_until(core.settings.drain, |shared| !shared.transaction_open);
    let mut shared = core.lock();
    shared.state.end_revoke(partitions);
    partitions
        .iter()
        .for_each(|partition| shared.ask(partition.clone(), ask));
}

/// One that is not assigned stays so.
pub(super) fn unassign(core: &Core, consumer: &Consumer, partition: &Partition) {
    core.membership.disturb();
    if let Err(error) = give_back(consumer, std::slice::from_ref(partition)) {
        tracing::debug!(%error, "unassign");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn librdkafkas_lines_name_the_partition_or_the_topic() {
        let reset = "[thrd:main]: it-0.request [3]: offset reset (at offset 150 (leader epoch 0), broker 1) \
            to offset INVALID (leader epoch -1): fetch failed due to requested offset not available on the \
            broker: Broker: Offset out of range";
        let to_the_end = reset.replace("INVALID", "END");
        let id = |before: &str| {
            format!(
                "[thrd:main]: Topic it-0.request changed id from {before} to w-Vm3Q8kSmexGpJTHZJ5rA"
            )
        };
        let partition = || Named {
            partitions: [("it-0.request".to_owned(), 3)].into(),
            ..Named::default()
        };
        let topic = || Named {
            topics: ["it-0.request".to_owned()].into(),
            ..Named::default()
        };
        let cases = [
            ("OFFSET", reset.to_owned(), partition()),
            ("OFFSET", to_the_end, Named::default()),
            ("OFFREQ", reset.to_owned(), Named::default()),
            ("METADATA", id("8H5yzJ2bQxCmH0t4sR6mOw"), topic()),
            ("METADATA", id(NO_ID), Named::default()),
            ("METADATA", "a line".to_owned(), Named::default()),
        ];
        for (facility, line, expected) in cases {
            let out_of_range = OutOfRange::default();
            out_of_range.read(facility, &line);
            let names_one = expected != Named::default();
            assert_eq!(out_of_range.is_heard(), names_one, "{facility}: {line}");
            assert_eq!(out_of_range.take(), expected, "{facility}: {line}");
            assert!(!out_of_range.is_heard(), "it was taken");
        }
    }

    #[test]
    fn a_leader_that_is_ignored_counts_where_the_topic_was_created_again() {
        let ignored = "[thrd:main]: it-0.request [3]: ignoring outdated metadata update with leader epoch 0 which is \
            older than our cached epoch 4";
        let taken = "[thrd:main]: it-0.request [3]: leader 1 epoch 4 -> leader 2 epoch 5";
        let again = "[thrd:main]: Topic it-0.request changed id from 8H5yzJ2bQxCmH0t4sR6mOw to w-Vm3Q8kSmexGpJTHZJ5rA";
        let cases: [(&[(&str, &str)], bool); 4] = [
            (&[("BROKER", ignored)], false),
            (&[("METADATA", again)], false),
            (&[("METADATA", again), ("BROKER", ignored)], true),
            (
                &[("METADATA", again), ("BROKER", ignored), ("BROKER", taken)],
                false,
            ),
        ];
        for (lines, expected) in cases {
            let heard = OutOfRange::default();
            lines
                .iter()
                .for_each(|(facility, line)| heard.read(facility, line));
            let one = |number| Partition {
                topic: "it-0.request".into(),
                number,
            };
            assert_eq!(heard.has_old_epoch(&one(3)), expected, "{lines:?}");
            assert!(!heard.has_old_epoch(&one(4)));
        }
    }
}
