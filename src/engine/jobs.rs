//! What the commands that send requests again write: each step's records and the job's own progress in
//! one Kafka transaction, under a transactional id that belongs to the job's source. Who takes it over
//! shuts out whoever had it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rdkafka::consumer::Consumer as _;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::clients::{Connection, Undelivered};
use super::faults::{is_fence, is_forbidden_id, is_record_fault, is_topic_fault};
use super::output::Outgoing;
use super::producer::{self, Producers, Sending, Transactions, Written};
use super::vitals::Vitals;
use super::window::{PATIENCE, WindowError, failed, partitions, reader, reader_of_all};
use super::{EngineError, Stopped};
use crate::clock::Clock;

/// Records in one transaction, at most: readers of the topic wait for its end.
pub const BATCH: usize = 500;

/// Longer than a broker takes to end a transaction whose owner has vanished.
const DECIDED: Duration = Duration::from_secs(60);

/// Between two looks at whether a transaction has ended.
const LOOK: Duration = Duration::from_millis(20);

/// How a step ended.
#[derive(Debug)]
pub enum Step {
    /// It is there, once.
    Committed,
    /// Nothing of it is there; it may be written again.
    Aborted,
    /// Whether it is there has to be looked up in what the job wrote last; the id is ours again.
    Unknown,
    /// These records of it are never taken, as they are; nothing of it is there.
    NeverTaken(Vec<usize>),
    /// This topic is missing or forbidden; nothing of it is there.
    Topic(String),
    /// Somebody else has the id now, or we stood still for too long.
    TakenOver,
}

/// Writes steps.
pub struct Steps {
    producers: Producers,
    producer: Option<Transactions>,
}

impl Steps {
    /// Takes the id of `source` over; whoever had it cannot write any more, and what they had begun is
    /// undone. Blocks until then.
    ///
    /// # Errors
    ///
    /// When there is no producer, or Kafka does not answer until `deadline`.
    pub fn open(
        connection: &Connection,
        source: &str,
        largest_record: usize,
        deadline: Instant,
    ) -> Result<Self, EngineError> {
        let id = connection.job_transactional_id(source);
        let producers = Producers {
            config: connection.producer(&id, largest_record),
            reachability: Arc::default(),
            vitals: Arc::new(Vitals::default()),
            clock: Clock::system(),
            fences: Mutex::default(),
        };
        let producer = producers.open(give_up_at(deadline))?;
        Ok(Self {
            producers,
            producer: Some(producer),
        })
    }

    /// Writes one step: all of its records, or none. Blocks.
    ///
    /// # Errors
    ///
    /// When Kafka does not answer for longer than `patience`.
    pub fn write(&mut self, records: &[Outgoing], patience: Duration) -> Result<Step, EngineError> {
        let each = records.iter().map(|record| Sending {
            records: std::slice::from_ref(record),
            deadline: None,
        });
        self.reopen(patience)?;
        match producer::write(&mut self.producer, each, None, Instant::now()) {
            Written::Committed => Ok(Step::Committed),
            Written::Aborted => Ok(Step::Aborted),
            Written::Undelivered(failed) => Ok(of_failed(&failed)),
            Written::Rebuild { error, .. }
                if error.as_ref().is_some_and(is_fence)
                    && !self.producers.fences.lock().is_late() =>
            {
                Ok(Step::TakenOver)
            }
            Written::Rebuild { .. } => {
                self.producer = None;
                self.reopen(patience)?;
                Ok(Step::Unknown)
            }
        }
    }

    /// A producer again, where the last one must not write any more.
    fn reopen(&mut self, patience: Duration) -> Result<(), EngineError> {
        if self.producer.is_none() {
            let deadline = Instant::now() + patience;
            self.producer = Some(self.producers.open(give_up_at(deadline))?);
        }
        Ok(())
    }
}

/// Somebody waits at the command: what is forbidden is said at once.
fn give_up_at(deadline: Instant) -> impl Fn(&KafkaError) -> bool {
    move |error| is_forbidden_id(error) || Instant::now() >= deadline
}

fn of_failed(failed: &[Undelivered]) -> Step {
    if let Some(topic) = failed.iter().find(|one| is_topic_fault(one.code)) {
        return Step::Topic(topic.topic.clone());
    }
    let mut never: Vec<usize> = failed
        .iter()
        .filter(|one| is_record_fault(one.code))
        .map(|one| one.result)
        .collect();
    never.sort_unstable();
    never.dedup();
    match never.as_slice() {
        [] => Step::Aborted,
        _ => Step::NeverTaken(never),
    }
}

/// Waits until everything that is on the topic now is committed or aborted: what is read of it then is
/// all there was. Blocks.
///
/// # Errors
///
/// When there is no such topic, it may not be read, Kafka does not answer, or a transaction stays open.
pub fn wait_decided(connection: &Connection, topic: &str) -> Result<(), WindowError> {
    let silent = |error: KafkaError| failed(topic, &error);
    let committed = reader(connection, topic)?;
    let everything = reader_of_all(connection, topic)?;
    let deadline = Instant::now() + DECIDED;
    for partition in partitions(&committed, topic, &[])? {
        let (_, end) = everything
            .fetch_watermarks(topic, partition, PATIENCE)
            .map_err(silent)?;
        loop {
            let (_, decided) = committed
                .fetch_watermarks(topic, partition, PATIENCE)
                .map_err(silent)?;
            if decided >= end {
                break;
            }
            if Instant::now() >= deadline {
                return Err(WindowError::Silent {
                    topic: topic.to_owned(),
                    stopped: Stopped::from(&KafkaError::ConsumerQueueClose(
                        RDKafkaErrorCode::ConcurrentTransactions,
                    )),
                });
            }
            std::thread::park_timeout(LOOK);
        }
    }
    Ok(())
}
