//! The transactional producer: one transaction at a time, from one thread, and how its errors
//! are told apart. An error is judged by its flags, never by its code; [`Written`] says what follows.
//!
//! A request that arrives late ends nothing of a later transaction:
//!
//! - A second copy of a request exists only where the library repeated it: its connection broke, or its answer did
//!   not come in time. The library says both, and [`Break`](super::breaks::Break) reads it.
//! - Both are said before the call returns that the request belongs to. After each transaction the queue is read
//!   until it is empty, so that nothing is heard too late.
//! - After such a transaction, however it ended, a new producer comes before the next one. Its epoch is higher,
//!   and brokers refuse everything of the old one.
//! - A late InitProducerId is not refused: it ends the new producer, as another process would. Each one that may be
//!   on its way explains one such fence ([`Fences`]), and another new producer follows.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rdkafka::TopicPartitionList;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::ConsumerGroupMetadata;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};

use super::clients::{Deliveries, Reachability, Undelivered};
use super::faults::{
    Fences, first_of, is_forbidden_id, is_no_transaction, is_record_fault, is_topic_fault,
};
use super::output::{Outgoing, writes_to};
use super::state::Commit;
use super::vitals::Vitals;
use super::{EngineError, Stopped, refused};
use crate::clock::{Clock, EpochMs};
use crate::metrics::TransactionEnd;

/// The time for one operation, retries included; then the producer is built anew.
const BUDGET: Duration = Duration::from_secs(20);

/// The time for one call of the library.
pub(crate) const CALL: Duration = Duration::from_secs(5);

/// How long an abort waits for what is on its way.
const SETTLE: Duration = Duration::from_millis(200);

/// An abort and a poll for what it waits for take turns of this length.
const ABORT_STEP: Duration = Duration::from_millis(5);

/// Between two attempts to take the transactional id over.
const PAUSE: Duration = Duration::from_millis(50);

/// How long the library's log is listened to after an attempt.
const LISTEN: Duration = Duration::from_millis(100);

/// How a transaction ended.
pub(crate) enum Written {
    Committed,
    /// Aborted; what is still ours goes into the next one.
    Aborted,
    /// Aborted because of these deliveries.
    Undelivered(Vec<Undelivered>),
    /// Fatal, or over budget; where the commit had been called, whether it went through is not known.
    Rebuild {
        error: Option<KafkaError>,
        commit_called: bool,
    },
}

impl Written {
    /// The same for metrics.
    pub(crate) fn end(&self) -> TransactionEnd {
        match self {
            Self::Committed => TransactionEnd::Committed,
            Self::Aborted | Self::Undelivered(_) => TransactionEnd::Aborted,
            Self::Rebuild { .. } => TransactionEnd::Rebuilt,
        }
    }
}

/// What is to be sent of a result.
#[derive(Clone, Copy)]
pub(crate) struct Sending<'a> {
    pub(crate) records: &'a [Outgoing],
    /// From then on it is too late for it, and for the whole transaction: nothing of it may be seen.
    pub(crate) deadline: Option<EpochMs>,
}

/// What a transaction of the engine finishes.
pub(crate) struct Offsets<'a> {
    pub(crate) metadata: &'a ConsumerGroupMetadata,
    pub(crate) commits: &'a [Commit],
}

/// How an operation ended, when it did not go well.
#[derive(Debug)]
enum Trouble {
    Abort(KafkaError),
    /// A result's deadline has come since the transaction was put together.
    Late,
    Rebuild(Option<KafkaError>),
}

/// What a producer is made of, each time anew.
pub(crate) struct Producers {
    pub(crate) config: ClientConfig,
    pub(crate) reachability: Arc<Reachability>,
    pub(crate) vitals: Arc<Vitals>,
    pub(crate) clock: Clock,
    pub(crate) fences: Mutex<Fences>,
}

impl Producers {
    /// Takes the transactional id over, which ends whatever was left open under it, for as long as it
    /// takes.
    ///
    /// # Errors
    ///
    /// When the producer cannot be created, or it is time to give up after this error.
    pub(crate) fn open(
        &self,
        give_up: impl Fn(&KafkaError) -> bool,
    ) -> Result<Transactions, EngineError> {
        self.open_within(|| CALL, give_up)
    }

    /// The same, until `deadline`.
    ///
    /// # Errors
    ///
    /// When the producer cannot be created, or it was not taken until then.
    pub(crate) fn open_until(&self, deadline: Instant) -> Result<Transactions, EngineError> {
        // Half of it is left for the reason, which only a second attempt hears.
        let left = || deadline.saturating_duration_since(Instant::now());
        let half = left() / 2;
        self.open_within(
            || left().min(half).clamp(PAUSE, CALL),
            |_| Instant::now() >= deadline,
        )
    }

    fn open_within(
        &self,
        patience: impl Fn() -> Duration,
        give_up: impl Fn(&KafkaError) -> bool,
    ) -> Result<Transactions, EngineError> {
        // Why there is no coordinator is told in the log alone, among many lines for each transaction.
        let mut listens = false;
        loop {
            let opened = Transactions {
                producer: self.create(listens)?,
                vitals: Arc::clone(&self.vitals),
                clock: self.clock.clone(),
                is_unsure: AtomicBool::new(false),
            };
            let init = || opened.producer.init_transactions(patience());
            let taken = self.vitals.watch(init);
            if listens {
                // The log comes to who polls.
                opened.producer.poll(LISTEN);
            }
            opened.listen();
            let breaks = opened.producer.context().take_breaks(Duration::MAX);
            let late = breaks + usize::from(taken.is_err());
            self.fences.lock().expect_late(late);
            match taken {
                Ok(()) => self.vitals.producer.over(),
                Err(error) => {
                    self.note_refusal(&error);
                    self.vitals.producer.lasts();
                    self.vitals.still_failing();
                    if give_up(&error) {
                        return Err(self.not_ours(&error));
                    }
                    tracing::debug!(%error, "the producer is not ready yet");
                    listens = true;
                    std::thread::park_timeout(PAUSE);
                    continue;
                }
            }
            if !std::mem::take(&mut listens) {
                return Ok(opened);
            }
        }
    }

    fn create(&self, listens: bool) -> Result<BaseProducer<Deliveries>, EngineError> {
        let vitals = Arc::clone(&self.vitals);
        let context = Deliveries::new(Arc::clone(&self.reachability), vitals);
        let mut config = self.config.clone();
        if listens {
            let debug = config.get("debug").map(|theirs| format!("eos,{theirs}"));
            config
                .set("debug", debug.as_deref().unwrap_or("eos"))
                .set_log_level(RDKafkaLogLevel::Debug);
        }
        config
            .create_with_context(context)
            .map_err(|error| EngineError::Client(Stopped::from(&error)))
    }

    fn note_refusal(&self, error: &KafkaError) {
        if let Some(code) = error.rdkafka_error_code() {
            self.vitals.producer.note_answer(code);
        }
    }

    fn not_ours(&self, error: &KafkaError) -> EngineError {
        let id = self.config.get("transactional.id").unwrap_or_default();
        if is_forbidden_id(error) {
            return EngineError::ForbiddenId(id.to_owned());
        }
        match self.vitals.producer.current() {
            Some(why) => EngineError::Refused {
                id: id.to_owned(),
                why,
            },
            None => EngineError::Unreachable(Stopped::from(error)),
        }
    }
}

/// One transaction with the producer that there is; none, and one that must not write again is none from
/// then on, is built anew.
pub(crate) fn write<'a>(
    producer: &mut Option<Transactions>,
    results: impl Iterator<Item = Sending<'a>> + Clone,
    offsets: Option<&Offsets<'_>>,
    started: Instant,
) -> Written {
    let Some(transactions) = producer else {
        return Written::Rebuild {
            error: None,
            commit_called: false,
        };
    };
    let has_results = results.clone().next().is_some();
    let written = transactions.write(results, offsets, started);
    transactions.note_end(&written, has_results);
    if transactions.is_unsure() {
        tracing::debug!("a new producer comes before the next transaction");
        *producer = None;
    }
    written
}

/// A producer that holds a transactional id of ours.
pub(crate) struct Transactions {
    producer: BaseProducer<Deliveries>,
    vitals: Arc<Vitals>,
    clock: Clock,
    is_unsure: AtomicBool,
}

impl Transactions {
    /// Whether this producer must not write any more; a new one has a new epoch. Either a request of it may arrive
    /// late, see above. Or a transaction was aborted of which a broker may have records that it never acknowledged: the library gives the sequence numbers of all that
    /// it purges out again (`rd_kafka_toppar_purge_queues`), also of what was sent, lost its connection, and waited to
    /// be sent again. Where the next batch is as long, which it is when the same results are written again, the broker
    /// takes it for a repeat, acknowledges it, and keeps none of it. Or the coordinator knew of no transaction to
    /// abort, which is fatal to the library.
    fn is_unsure(&self) -> bool {
        self.is_unsure.load(Ordering::Relaxed)
    }

    /// Reads everything that the library has said so far.
    pub(crate) fn listen(&self) {
        let context = self.producer.context();
        loop {
            let calls = context.calls();
            // One event, if there is one.
            self.producer.poll(Duration::ZERO);
            if context.calls() == calls {
                return;
            }
        }
    }

    /// Tells health whether transactions go through, and those with results.
    fn note_end(&self, written: &Written, has_results: bool) {
        if matches!(written, Written::Committed) {
            self.vitals.producer.over();
        }
        if !has_results {
            return;
        }
        match written {
            Written::Committed => self.vitals.served(),
            // A topic's or a record's trouble, which has its own word in health.
            Written::Undelivered(failed)
                if failed
                    .iter()
                    .any(|one| is_topic_fault(one.code) || refused::is_an_answer(one.code)) => {}
            Written::Aborted | Written::Undelivered(_) | Written::Rebuild { .. } => {
                self.vitals.failed();
            }
        }
    }

    /// One transaction, and whether a request of it may arrive late.
    fn write<'a>(
        &self,
        results: impl Iterator<Item = Sending<'a>> + Clone,
        offsets: Option<&Offsets<'_>>,
        started: Instant,
    ) -> Written {
        self.listen();
        // Between transactions nothing is under way.
        self.producer.context().take_breaks(Duration::ZERO);
        let begun = Instant::now();
        let written = self.transact(results, offsets, started);
        self.listen();
        if self.producer.context().take_breaks(begun.elapsed()) > 0 {
            self.is_unsure.store(true, Ordering::Relaxed);
        }
        written
    }

    /// Why a transaction is given up, where the brokers name a reason that health is to show. Another answer takes the
    /// place of a reason that was named before.
    fn note_trouble(&self, error: &KafkaError) {
        match error.rdkafka_error_code() {
            Some(code) if refused::is_named(code) => self.vitals.producer.note_answer(code),
            Some(code) if refused::is_an_answer(code) => self.vitals.producer.replaced(),
            Some(_) | None => {}
        }
    }

    /// One transaction: the records of each result, and the offsets that they finish, if any. It is
    /// aborted where one of them is too late.
    fn transact<'a>(
        &self,
        results: impl Iterator<Item = Sending<'a>> + Clone,
        offsets: Option<&Offsets<'_>>,
        started: Instant,
    ) -> Written {
        self.producer.context().take_failed();
        let filled = self
            .call(started, || self.producer.begin_transaction())
            .and_then(|()| self.send_all(results.clone()))
            .and_then(|()| offsets.map_or(Ok(()), |offsets| self.send_offsets(offsets, started)))
            .and_then(|()| self.drain(started));
        if filled.is_err() {
            // What is known about it waits to be polled for.
            self.producer.poll(ABORT_STEP);
        }
        let failed = self.take_failed(results);
        let filled = match first_of(&failed) {
            None => filled,
            Some(error) => filled.and(Err(Trouble::Abort(error))),
        };
        let commit_called = filled.is_ok();
        match filled.and_then(|()| self.call(started, || self.producer.commit_transaction(CALL))) {
            Ok(()) => Written::Committed,
            Err(Trouble::Rebuild(error)) => {
                error.iter().for_each(|error| self.note_trouble(error));
                Written::Rebuild {
                    error,
                    commit_called,
                }
            }
            Err(Trouble::Abort(error)) => {
                self.note_trouble(&error);
                tracing::debug!(%error, "transaction aborted");
                self.give_up(failed, commit_called)
            }
            Err(Trouble::Late) => {
                tracing::debug!("transaction aborted: a deadline has come");
                self.give_up(failed, commit_called)
            }
        }
    }

    fn give_up(&self, failed: Vec<Undelivered>, commit_called: bool) -> Written {
        self.settle();
        let aborted = self.abort();
        let purged = |one: &Undelivered| {
            matches!(
                one.code,
                RDKafkaErrorCode::PurgeQueue | RDKafkaErrorCode::PurgeInflight
            )
        };
        let later = self.producer.context().take_failed();
        let was_none = !commit_called
            && failed.iter().any(|one| is_topic_fault(one.code))
            && aborted.as_ref().is_err_and(is_no_transaction);
        if was_none || failed.iter().chain(&later).any(purged) {
            self.is_unsure.store(true, Ordering::Relaxed);
        }
        match aborted {
            Err(error) if !was_none => Written::Rebuild {
                error: Some(error),
                commit_called,
            },
            Ok(()) if failed.is_empty() => Written::Aborted,
            Ok(()) | Err(_) => Written::Undelivered(failed),
        }
    }

    /// The deliveries that failed, or would have.
    fn take_failed<'a>(&self, results: impl Iterator<Item = Sending<'a>>) -> Vec<Undelivered> {
        let mut failed = self.producer.context().take_failed();
        let forbidden = self.producer.context().take_forbidden();
        if forbidden.is_empty() {
            return failed;
        }
        for (result, sending) in results.enumerate() {
            let topics = forbidden
                .iter()
                .filter(|topic| writes_to(sending.records, topic));
            failed.extend(topics.map(|topic| Undelivered {
                result,
                topic: topic.clone(),
                code: RDKafkaErrorCode::TopicAuthorizationFailed,
            }));
        }
        failed
    }

    fn send_offsets(&self, offsets: &Offsets<'_>, started: Instant) -> Result<(), Trouble> {
        let list = list(offsets.commits)?;
        self.call(started, || {
            self.producer
                .send_offsets_to_transaction(&list, offsets.metadata, CALL)
        })
    }

    /// The deadline is looked at right before the send: since it was before, we may have stood still.
    fn send_all<'a>(&self, results: impl Iterator<Item = Sending<'a>>) -> Result<(), Trouble> {
        for (result, Sending { records, deadline }) in results.enumerate() {
            if deadline.is_some_and(|deadline| deadline <= self.clock.now()) {
                return Err(Trouble::Late);
            }
            for record in records {
                self.send(result, record)?;
            }
        }
        Ok(())
    }

    fn send(&self, result: usize, record: &Outgoing) -> Result<(), Trouble> {
        let mut headers = OwnedHeaders::new_with_capacity(record.headers.len());
        for header in &record.headers {
            headers = headers.insert(Header {
                key: &header.name,
                value: header.value.as_ref(),
            });
        }
        let mut outgoing =
            BaseRecord::<[u8], [u8], usize>::with_opaque_to(&record.topic, result).headers(headers);
        outgoing.key = record.key.as_deref();
        outgoing.payload = record.value.as_deref();
        let deadline = Instant::now() + BUDGET;
        loop {
            let Err((error, back)) = self.producer.send(outgoing) else {
                return Ok(());
            };
            match error.rdkafka_error_code() {
                Some(RDKafkaErrorCode::QueueFull) if Instant::now() < deadline => {
                    outgoing = back;
                    self.producer.poll(Duration::from_millis(5));
                }
                // It need not be tried to be known.
                Some(code) if is_record_fault(code) || is_topic_fault(code) => {
                    self.producer.context().fail(Undelivered {
                        result,
                        topic: record.topic.to_string(),
                        code,
                    });
                    return Ok(());
                }
                Some(_) | None if self.producer.client().fatal_error().is_some() => {
                    return Err(Trouble::Rebuild(Some(error)));
                }
                Some(_) | None => return Err(Trouble::Abort(error)),
            }
        }
    }

    /// Waits until every record is acknowledged: a commit with records in flight takes 100 ms.
    fn drain(&self, started: Instant) -> Result<(), Trouble> {
        self.vitals.watch(|| {
            while self.producer.in_flight_count() > 0 {
                // A poll with a time-out would spin through its last millisecond, and go on after
                // the last record; only failures are reported, so there is little to poll for.
                std::thread::park_timeout(Duration::from_micros(500));
                self.listen();
                if started.elapsed() >= BUDGET {
                    return Err(Trouble::Abort(KafkaError::Flush(
                        RDKafkaErrorCode::OperationTimedOut,
                    )));
                }
            }
            Ok(())
        })
    }

    /// Waits a moment for the acknowledgements that are on their way.
    fn settle(&self) {
        let deadline = Instant::now() + SETTLE;
        while self.producer.in_flight_count() > 0 && Instant::now() < deadline {
            std::thread::park_timeout(Duration::from_millis(1));
            self.producer.poll(Duration::ZERO);
        }
    }

    /// The library purges what is outstanding itself, and goes on only when its reports are polled. A
    /// purge of ours would leave a gap in the sequence numbers.
    fn abort(&self) -> Result<(), KafkaError> {
        let started = Instant::now();
        loop {
            let abort = || self.producer.abort_transaction(ABORT_STEP);
            let Err(error) = self.vitals.watch(abort) else {
                return Ok(());
            };
            let again = if let KafkaError::Transaction(flags) = &error {
                flags.is_retriable() && !flags.is_fatal()
            } else {
                matches!(error, KafkaError::Flush(_))
            };
            if !again || started.elapsed() >= BUDGET {
                return Err(error);
            }
            self.producer.poll(ABORT_STEP);
        }
    }

    /// One operation of the producer: the same call again while it is retriable and within budget.
    fn call(
        &self,
        started: Instant,
        operation: impl Fn() -> Result<(), KafkaError>,
    ) -> Result<(), Trouble> {
        loop {
            let Err(error) = self.vitals.watch(&operation) else {
                return Ok(());
            };
            let retriable = if let KafkaError::Transaction(flags) = &error {
                if flags.is_fatal() {
                    return Err(Trouble::Rebuild(Some(error)));
                }
                if flags.txn_requires_abort() {
                    return Err(Trouble::Abort(error));
                }
                flags.is_retriable()
            } else {
                // The commit has not been sent; it may be called again.
                matches!(error, KafkaError::Flush(_))
            };
            if !retriable || started.elapsed() >= BUDGET {
                return Err(Trouble::Rebuild(Some(error)));
            }
            tracing::debug!(%error, "producer call repeated");
            // Whatever timed out may still be done.
            self.is_unsure.store(true, Ordering::Relaxed);
        }
    }
}

fn list(commits: &[Commit]) -> Result<TopicPartitionList, Trouble> {
    // A fresh list each time: setting metadata twice on one element leaks.
    let mut list = TopicPartitionList::with_capacity(commits.len());
    for commit in commits {
        let mut element = list.add_partition(&commit.partition.topic, commit.partition.number);
        element
            .set_offset(rdkafka::Offset::Offset(commit.tag.commit_point))
            .map_err(Trouble::Abort)?;
        element.set_metadata(commit.tag.encode());
    }
    Ok(list)
}

#[cfg(test)]
mod tests;
