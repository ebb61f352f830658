//! The keeper thread: slow questions to the cluster that must not hold up the poll loop.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::{Offset, TopicPartitionList};

use super::clients::Quiet;
use super::consumer::Consumer;
use super::core::{Core, Pending};
use super::poison::News;
use super::start::{self, Answer, Ask};
use super::state::Partition;

/// How often pending partitions are asked for again.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// How often the list of topics is read again.
const TOPICS_EVERY: Duration = Duration::from_secs(10);

/// How often the last stable offsets are read, for the lag.
const STABLE_EVERY: Duration = Duration::from_secs(3);

/// How long the question for a committed offset may take, while others wait to be asked for.
const COMMITTED: Duration = Duration::from_millis(300);

/// How long the question for a partition's ends may take: on a connection with a fetch under way,
/// the fetch's own wait (`fetch.wait.max.ms`, half a second) goes first.
const ENDS: Duration = Duration::from_millis(1500);

/// Asks until the engine ends. The ends and the list of topics are asked for by `reader`, on connections of its own:
/// those of the consumer are silent while a quota or a fetch under way holds them back, and a partition that stalls is
/// known by its end.
pub(crate) fn run(
    core: &Core,
    consumer: &Consumer,
    reader: &BaseConsumer<Quiet>,
    answers: &Sender<(u64, Partition, Answer)>,
) {
    let (mut topics_read, mut stable_read) = (Instant::now(), Instant::now());
    loop {
        let ended = core.wait_until(ASK_AGAIN, |_| core.is_ending());
        if ended {
            return;
        }
        ask_again(core, answers, |one| {
            start::look_up(consumer, &[one], core.too_old(), COMMITTED, || ENDS)
        });
        say_what_is_flooded(core);
        // What the library reports would pile up. It has no partitions, so no record comes.
        drop(reader.poll(Duration::ZERO));
        if stable_read.elapsed() >= STABLE_EVERY && !core.is_ending() {
            stable_read = Instant::now();
            match last_stable(core, reader) {
                Ok(ends) => {
                    tracing::debug!(partitions = ends.len(), "last stable offsets read");
                    core.note_ends(ends);
                }
                Err(error) => {
                    tracing::debug!(%error, "the lag is not known now");
                    core.ends_unknown.store(true, Ordering::Relaxed);
                }
            }
        }
        if topics_read.elapsed() >= TOPICS_EVERY && !core.is_ending() {
            topics_read = Instant::now();
            match reader.fetch_metadata(None, ENDS) {
                Ok(metadata) => core.topics.set(
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

/// Asks where pending partitions start, until the engine ends. One by one: a single pending transaction holds back
/// the answer for all that are asked with it.
fn ask_again(
    core: &Core,
    answers: &Sender<(u64, Partition, Answer)>,
    mut look_up: impl FnMut((Partition, Ask)) -> Vec<(Partition, Answer)>,
) {
    let pending: Vec<_> = core
        .lock()
        .pending
        .iter()
        .map(|(one, pending)| (one.clone(), *pending))
        .collect();
    for (partition, Pending { ask, question }) in pending {
        if core.is_ending() {
            return;
        }
        for (partition, answer) in look_up((partition, ask)) {
            // Nobody listens where the engine ends.
            let _ = answers.send((question, partition, answer));
        }
    }
}

/// Not once a record, of which there may be thousands a second: once when it begins or ends, and once a
/// minute.
fn say_what_is_flooded(core: &Core) {
    let news = core.inputs.lock().judge(core.clock.now());
    for one in news {
        match one {
            News::Flood(share) => tracing::warn!(
                topic = &*share.topic,
                percent = share.percent(),
                records = share.records,
                "records that cannot be read: somebody writes something else; each is a dead letter"
            ),
            News::Over(topic) => {
                tracing::info!(topic = &*topic, "what comes can be read again");
            }
        }
    }
}

/// The last stable offsets of our partitions: what a `read_committed` consumer, as ours is, gets for
/// the time "latest". One request a broker, for all of its partitions.
fn last_stable(
    core: &Core,
    reader: &BaseConsumer<Quiet>,
) -> Result<HashMap<Partition, i64>, KafkaError> {
    let partitions = core.lock().state.partitions();
    if partitions.is_empty() {
        return Ok(HashMap::new());
    }
    let mut asked = TopicPartitionList::with_capacity(partitions.len());
    for partition in &partitions {
        asked.add_partition_offset(&partition.topic, partition.number, Offset::End)?;
    }
    let found = reader.offsets_for_times(asked, ENDS)?;
    let ends = partitions.into_iter().filter_map(|partition| {
        let element = found.find_partition(&partition.topic, partition.number)?;
        element.error().ok()?;
        Some((partition, start::number(element.offset())?))
    });
    Ok(ends.collect())
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::clock::Clock;
    use crate::engine::supersede::tests::NOW;
    use crate::engine::transaction::tests::settings;
    use crate::known_topics::KnownTopics;
    use crate::metrics::Metrics;

    /// Each question may take long, and the end of the process waits for this thread.
    #[test]
    fn no_more_questions_are_asked_once_the_engine_ends() {
        let (metrics, topics) = (Metrics::default(), KnownTopics::default());
        let core = Core::new(settings(None), Clock::fixed(NOW), metrics, topics);
        for number in 0..3 {
            let topic = "requests".into();
            core.lock().ask(Partition { topic, number }, Ask::Committed);
        }
        let (answer, _answers) = mpsc::channel();
        let mut asked = 0;
        ask_again(&core, &answer, |_| {
            asked += 1;
            core.stopping.cancel();
            Vec::new()
        });
        assert_eq!(asked, 1);
    }
}
