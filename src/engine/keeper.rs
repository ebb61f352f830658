//! The keeper thread: slow questions to the cluster that must not hold up the poll loop.

use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer as _;

use super::consumer::Consumer;
use super::core::{Core, Pending};
use super::start::{self, Answer};
use super::state::Partition;
use crate::known_topics::KnownTopics;

/// How often pending partitions are asked for again.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// How often the list of topics is read again.
const TOPICS_EVERY: Duration = Duration::from_secs(10);

/// How long the question for a committed offset may take, while others wait to be asked for.
const COMMITTED: Duration = Duration::from_millis(300);

/// How long the question for a partition's ends may take: on a connection with a fetch under way,
/// the fetch's own wait (`fetch.wait.max.ms`, half a second) goes first.
const ENDS: Duration = Duration::from_millis(1500);

pub(crate) fn run(
    core: &Core,
    consumer: &Consumer,
    topics: &KnownTopics,
    answers: &Sender<(u64, Partition, Answer)>,
) {
    let mut topics_read = Instant::now();
    loop {
        let ended = core.wait_until(ASK_AGAIN, |_| core.is_ending());
        if ended {
            return;
        }
        let pending: Vec<_> = core
            .lock()
            .pending
            .iter()
            .map(|(one, pending)| (one.clone(), *pending))
            .collect();
        // One by one: a single pending transaction holds back the answer for all that are asked with it.
        for (partition, Pending { ask, question }) in pending {
            for (partition, answer) in
                start::look_up(consumer, &[(partition, ask)], COMMITTED, || ENDS)
            {
                if answers.send((question, partition, answer)).is_err() {
                    return;
                }
            }
        }
        if topics_read.elapsed() >= TOPICS_EVERY {
            topics_read = Instant::now();
            match consumer.fetch_metadata(None, ENDS) {
                Ok(metadata) => topics.set(
                    metadata
                        .topics()
                        .iter()
                        .map(|topic| topic.name().to_owned()),
                ),
                Err(error) => tracing::debug!(%error, "the list of topics could not be read again"),
            }
        }
    }
}
