//! The consumer thread: polls, reads, and admits requests while the window has room.
//!
//! Rebalance callbacks run inside `poll`, and the group waits for them, so blocking here is
//! safe. Everything that a partition's tracker must know is told to it before the next poll.

use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Headers as _, Message as _};
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{Offset, Statistics, TopicPartitionList};

use super::consumer_errors::{self, ErrorClass};
use super::consumer_watch::FetchedEnds;
use super::core::{Core, Pending};
use super::dispatch::Dispatcher;
use super::record::{Header, Position, Record, Request};
use super::refused::{self, Line, Refused};
use super::start::{self, Answer, Ask};
use super::state::{Epoch, Partition};
use super::transaction::Note;
use super::unreadable::inspect::Finding;
use super::{EngineError, clients, consumer_watch, out_of_range};
use crate::clock::EpochMs;
use crate::handler::Handler;
use crate::metrics::Rebalance;

mod unreadable;

/// The engine's consumer.
pub(crate) type Consumer = BaseConsumer<Callbacks>;

/// How long a poll waits for a record; nothing else waits for a poll.
const POLL: Duration = Duration::from_millis(100);

/// Records taken in one go, before they are read and admitted.
const BATCH: usize = 64;

/// A full window is waited for without polling for this long; then the group must hear from us.
const HOLD_WITHOUT_POLL: Duration = Duration::from_secs(1);

/// How long the assign callback may wait for committed offsets.
const ASSIGN_WAIT: Duration = Duration::from_secs(1);

/// How long a set-back may wait for librdkafka's main thread.
pub(super) const SEEK_WAIT: Duration = Duration::from_secs(1);

/// Between two questions within that time.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Runs until the engine is to end, then drains.
pub(crate) struct Intake<H> {
    pub(crate) consumer: Arc<Consumer>,
    pub(crate) dispatcher: Arc<Dispatcher<H>>,
    /// Where pending partitions start, from the keeper.
    pub(crate) answers: Receiver<(u64, Partition, Answer)>,
    /// What cannot be decoded, from the inspector.
    pub(crate) findings: Receiver<Finding>,
    /// How long the end may take, once there is one.
    pub(crate) drain_for: Receiver<Duration>,
}

impl<H: Handler> Intake<H> {
    /// Polls until the engine is to end; then drains. Whether all that was begun was finished.
    pub(crate) fn run(self) -> bool {
        let core = Arc::clone(&self.dispatcher.core);
        let mut held_since = None;
        let mut all_paused = false;
        while !core.is_ending() {
            core.vitals.polled();
            if let Some((code, _)) = self.consumer.client().fatal_error() {
                core.consumer_died(code);
                break;
            }
            if core.out_of_range.is_heard() {
                out_of_range::look(&core, &self.consumer);
            }
            self.take_answers();
            self.apply_holds();
            consumer_watch::look(&core, &self.consumer);
            let room = core.lock().state.room();
            if room > 0 {
                if std::mem::take(&mut all_paused) {
                    let readable = core.lock().state.readable();
                    self.resume(&readable);
                }
                held_since = None;
                self.take_findings();
                self.poll_batch(room);
                continue;
            }
            let held = held_since.get_or_insert_with(Instant::now).elapsed();
            if held < HOLD_WITHOUT_POLL {
                core.wait_until(Duration::from_millis(50), |shared| shared.state.room() > 0);
            } else {
                // Also what was assigned meanwhile; pausing again what is paused costs nothing.
                let readable = core.lock().state.readable();
                self.pause(&readable);
                all_paused = true;
                self.poll_batch(1);
                // It was not asked for records.
                core.take_drained();
                let half = core.settings.bounds.window / 2;
                core.wait_until(POLL, |shared| shared.state.room() >= half);
            }
        }
        let bound = self
            .drain_for
            .recv_timeout(POLL)
            .unwrap_or(core.settings.drain);
        self.drain(bound)
    }

    fn drain(&self, bound: Duration) -> bool {
        let core = &self.dispatcher.core;
        let deadline = Instant::now() + bound;
        let partitions = {
            let mut shared = core.lock();
            let epochs = shared.state.stop();
            shared.cancel(&epochs);
            shared.state.partitions()
        };
        self.pause(&partitions);
        loop {
            core.vitals.polled();
            // Nothing is taken in any more; this answers the group.
            self.poll_batch(1);
            let left = deadline.saturating_duration_since(Instant::now());
            if core.wait_until(left.min(POLL), |shared| shared.state.open() == 0) {
                return true;
            }
            if left.is_zero() || core.failure().is_some() {
                return false;
            }
        }
    }

    fn poll_batch(&self, room: usize) {
        let core = &self.dispatcher.core;
        let mut batch = Vec::new();
        let mut bytes = core.lock().state.room_bytes();
        let mut wait = POLL;
        while batch.len() < room.min(BATCH) {
            match self.consumer.poll(wait) {
                Some(Ok(message)) => {
                    core.reachability.found();
                    // Before the next poll: a rebalance or a look at the position happens there.
                    if let Some(epoch) = self.deliver(&message) {
                        let record = own(&message);
                        bytes = bytes.saturating_sub(record.size());
                        batch.push((record, epoch));
                    } else if self.set_back_refused() {
                        break;
                    }
                    if bytes == 0 {
                        break;
                    }
                    wait = Duration::ZERO;
                }
                Some(Err(error)) => {
                    core.heard(&error, "");
                    break;
                }
                None => {
                    core.note_drained();
                    if batch.is_empty() && !wait.is_zero() {
                        note_positions(&self.consumer, core);
                    }
                    break;
                }
            }
        }
        let (now, at) = (core.clock.now(), core.clock.uptime());
        let mut parked = false;
        for (record, epoch) in batch {
            self.note_clock(&record, now);
            let request = self.read(record, now);
            let poison = request.submission.is_err();
            let topic = &request.record.position.topic;
            core.inputs.lock().note(topic, poison, now);
            let admission = {
                let mut shared = core.lock();
                let admission = shared.state.admit(request, epoch, now, at);
                parked |= shared.state.next_due().is_some();
                admission
            };
            self.dispatcher.admitted(admission);
        }
        if parked {
            core.retries.notify_one();
        }
    }

    /// Whose clock is wrong is seen, whatever becomes of the request.
    fn note_clock(&self, record: &Record, now: EpochMs) {
        let core = &self.dispatcher.core;
        match record.timestamp {
            Some(time) if time > now => core.metrics.record_ahead(time.left(now)),
            Some(time) if *record.position.topic == *core.settings.requests => {
                core.metrics.request_age(time.age(now));
            }
            Some(_) | None => {}
        }
    }

    fn deliver(&self, message: &BorrowedMessage<'_>) -> Option<Epoch> {
        let core = &self.dispatcher.core;
        let partition = Partition {
            topic: message.topic().into(),
            number: message.partition(),
        };
        let time = message.timestamp().to_millis().map(EpochMs);
        let (offset, now) = (message.offset(), core.clock.now());
        let mut shared = core.lock();
        unreadable::ask_about_gap(core, &mut shared, &partition, offset);
        if core.out_of_range.is_heard() {
            // It may be from another log; whose is found out before it is read again.
            shared.state.refuse(&partition, offset);
            return None;
        }
        shared.state.deliver(&partition, offset, time, now)
    }

    /// Sets the consumer's position back to each record that was not taken in; whether there was one. One
    /// that fails is tried again before the next poll, and nothing behind it is taken in until then.
    fn set_back_refused(&self) -> bool {
        let core = &self.dispatcher.core;
        let refused = core.lock().state.refused();
        for (partition, offset) in &refused {
            // Waits for librdkafka's own thread alone, and what it had fetched is discarded.
            let (topic, number) = (&partition.topic, partition.number);
            let to = Offset::Offset(*offset);
            match self.consumer.seek(topic, number, to, SEEK_WAIT) {
                Ok(()) => core.lock().state.set_back(partition),
                Err(error) => tracing::debug!(%error, offset, "seek"),
            }
        }
        !refused.is_empty()
    }

    fn read(&self, record: Record, now: EpochMs) -> Request {
        let settings = &self.dispatcher.core.settings;
        let origin = settings
            .origin(&record.position.topic)
            .unwrap_or(super::record::Origin::Requests);
        Request::read(record, origin, now, &settings.reading)
    }

    /// Starts pending partitions whose answer has come.
    fn take_answers(&self) {
        let core = &self.dispatcher.core;
        while let Ok((question, partition, answer)) = self.answers.try_recv() {
            let asked = core.lock().pending.get(&partition).copied();
            if asked.is_none_or(|pending| pending.question != question) {
                continue;
            }
            match answer {
                Answer::Pending => {}
                Answer::UnknownTag(version) => {
                    core.fail(EngineError::UnknownTag { partition, version })
                }
                Answer::Start(tracker) => {
                    if let Some(Pending {
                        ask: Ask::Anew(at), ..
                    }) = asked
                    {
                        say_lost(core, &partition, at, tracker.commit_point());
                    }
                    core.membership.disturb();
                    let mut list = TopicPartitionList::new();
                    let offset = Offset::Offset(tracker.commit_point());
                    let anew = list
                        .add_partition_offset(&partition.topic, partition.number, offset)
                        .and_then(|()| self.consumer.incremental_assign(&list));
                    match anew {
                        Ok(()) => {
                            core.take_in(partition, tracker);
                            note_positions(&self.consumer, core);
                            self.dispatcher.note(Note::Assigned);
                        }
                        Err(error) => {
                            tracing::warn!(%error, "a partition could not be started; asking again");
                            // What is assigned already cannot be assigned.
                            out_of_range::unassign(core, &self.consumer, &partition);
                        }
                    }
                }
            }
        }
    }

    fn apply_holds(&self) {
        self.set_back_refused();
        let holds = self.dispatcher.core.lock().state.holds();
        let (pause, resume): (Vec<_>, Vec<_>) = holds.into_iter().partition(|(_, hold)| *hold);
        let partitions = |list: Vec<(Partition, bool)>| {
            list.into_iter().map(|(partition, _)| partition).collect()
        };
        let (pause, resume): (Vec<_>, Vec<_>) = (partitions(pause), partitions(resume));
        self.pause(&pause);
        self.resume(&resume);
    }

    fn pause(&self, partitions: &[Partition]) {
        if !partitions.is_empty()
            && let Err(error) = self.consumer.pause(&start::list(partitions))
        {
            tracing::debug!(%error, "pause");
        }
    }

    fn resume(&self, partitions: &[Partition]) {
        if !partitions.is_empty()
            && let Err(error) = self.consumer.resume(&start::list(partitions))
        {
            tracing::debug!(%error, "resume");
        }
    }
}

impl Core {
    /// librdkafka gave the consumer up: it will never be in the group again.
    fn consumer_died(&self, code: RDKafkaErrorCode) {
        let named = refused::name_of(code);
        let mut why = refused::sentence(Refused::Consumer, &named);
        let properties = &self.settings.connection.properties;
        if let Some(id) = properties.get("group.instance.id") {
            why = format!("{why} (group.instance.id {id})");
        }
        self.vitals.left();
        self.fail(EngineError::ConsumerDied(why));
    }

    /// What a consumer error means; librdkafka reports most of them to the client, not to a poll.
    fn heard(&self, error: &KafkaError, reason: &str) {
        let joining = |code| refused::joining(code, reason);
        if let Some(code) = error.rdkafka_error_code().and_then(joining) {
            return self.vitals.consumer.note(&code);
        }
        let Some(code) = error.rdkafka_error_code() else {
            tracing::debug!(target: "librdkafka", %error, reason, "client error");
            return;
        };
        self.watch.lock().hear(code, reason);
        match consumer_errors::classify(code) {
            ErrorClass::OutOfRange => self.out_of_range.heard(),
            ErrorClass::PollExceeded => {
                tracing::warn!(
                    "the group gave our partitions away: no poll for max.poll.interval.ms; if it comes again, give this instance more CPU"
                );
            }
            ErrorClass::Unreachable => self.reachability.lost(reason),
            // Said above, where they stand. The loop asks for a fatal error at each turn.
            ErrorClass::Fatal
            | ErrorClass::Passing
            | ErrorClass::Undecodable
            | ErrorClass::Refused
            | ErrorClass::Unclassified => {}
        }
    }

    /// Takes a started partition in.
    fn take_in(&self, partition: Partition, tracker: super::offsets::Tracker) {
        let mut shared = self.lock();
        shared.pending.remove(&partition);
        // The assign callback leaves foreign partitions out.
        let Some(origin) = self.settings.origin(&partition.topic) else {
            return;
        };
        let epoch = shared.state.assign(partition, origin, tracker);
        shared
            .tokens
            .insert(epoch, tokio_util::sync::CancellationToken::new());
    }
}

/// Nothing that was polled is unknown to the state: what lies below the positions is done with or known,
/// markers and compacted records included. A partition that was just assigned has no position, unless the
/// library has not yet let go of what it had of an earlier assignment.
pub(super) fn note_positions(consumer: &Consumer, core: &Core) {
    let Ok(positions) = consumer.position() else {
        return;
    };
    let mut shared = core.lock();
    for element in positions.elements() {
        let partition = Partition {
            topic: element.topic().into(),
            number: element.partition(),
        };
        let position = start::number(element.offset());
        if let Some(position) = position {
            unreadable::ask_about_gap(core, &mut shared, &partition, position);
        }
        shared.state.position(&partition, position);
    }
}

/// The next offset of `partition`, `at`, is gone, and it starts at `low`.
fn say_lost(core: &Core, partition: &Partition, at: i64, low: i64) {
    let lost = (low - at).max(0);
    core.metrics.offsets_lost(lost);
    tracing::warn!(
        topic = &*partition.topic,
        partition = partition.number,
        offset = at,
        low,
        lost,
        "offset out of range, or a topic created again: resuming at the earliest available offset"
    );
}

/// A pause outlives the assignment, and whoever gets the partition next may be us.
pub(super) fn give_back(consumer: &Consumer, partitions: &[Partition]) -> Result<(), KafkaError> {
    let list = start::list(partitions);
    if !partitions.is_empty() {
        consumer.resume(&list)?;
    }
    consumer.incremental_unassign(&list)
}

/// A copy of a message, byte for byte.
pub(super) fn own(message: &BorrowedMessage<'_>) -> Record {
    let headers = message.headers().map(|headers| {
        let own = |header: rdkafka::message::Header<'_, &[u8]>| Header {
            name: header.key.to_owned(),
            value: header.value.map(<[u8]>::to_vec),
        };
        headers.iter().map(own).collect()
    });
    Record {
        position: Position {
            topic: message.topic().into(),
            partition: message.partition(),
            offset: message.offset(),
        },
        timestamp: message
            .timestamp()
            .to_millis()
            .filter(|time| *time >= 0)
            .map(EpochMs),
        key: message.key().map(<[u8]>::to_vec),
        value: message.payload().map(<[u8]>::to_vec),
        headers: headers.unwrap_or_default(),
    }
}

/// The consumer's callbacks; they run in its own thread, inside `poll`.
pub(crate) struct Callbacks {
    core: Arc<Core>,
    notes: std::sync::mpsc::Sender<Note>,
}

impl Callbacks {
    pub(crate) fn new(core: Arc<Core>, notes: std::sync::mpsc::Sender<Note>) -> Self {
        Self { core, notes }
    }

    /// Lets go what is held, but `leaving`, where the group had a generation without us: others had it, and read on.
    /// Whether it had.
    fn start_over(&self, consumer: &Consumer, leaving: &[Partition]) -> bool {
        let core = &self.core;
        let missed = core.membership.take_missed();
        if missed {
            let mut kept = core.lock().state.partitions();
            kept.retain(|partition| !leaving.contains(partition));
            if !kept.is_empty() {
                tracing::warn!(
                    partitions = kept.len(),
                    "the group went on without this instance for a while: starting again where the others committed"
                );
                out_of_range::start_again(core, consumer, &kept, Ask::Committed);
            }
            core.lock().ask_all_again();
        }
        missed
    }

    fn assign(&self, consumer: &Consumer, partitions: &[Partition]) {
        self.start_over(consumer, &[]);
        self.core.membership.renew(consumer);
        self.core.metrics.rebalanced(Rebalance::Assigned);
        let (partitions, foreign): (Vec<_>, Vec<_>) = partitions
            .iter()
            .cloned()
            .partition(|one| self.core.settings.origin(&one.topic).is_some());
        self.core.lock().leave_alone(foreign);
        let answers = self.look_up(consumer, &partitions);
        let (mut list, mut pending, mut started) =
            (TopicPartitionList::new(), Vec::new(), Vec::new());
        for (partition, answer) in answers {
            match answer {
                Answer::Start(tracker) => {
                    let offset = Offset::Offset(tracker.commit_point());
                    let added =
                        list.add_partition_offset(&partition.topic, partition.number, offset);
                    if let Err(error) = added {
                        tracing::error!(
                            topic = &*partition.topic,
                            partition = partition.number,
                            %error,
                            "the partition cannot be assigned: restart this instance"
                        );
                    }
                    started.push((partition, tracker));
                }
                Answer::Pending => pending.push(partition),
                Answer::UnknownTag(version) => self
                    .core
                    .fail(EngineError::UnknownTag { partition, version }),
            }
        }
        // What is pending is ours in the group, and assigned once it is known where: assigned and
        // paused until then, it was seen to stay without a fetch.
        if let Err(error) = consumer.incremental_assign(&list) {
            // All of them are ours in the group all the same: each is tried again alone.
            tracing::warn!(%error, "the assignment failed; trying each partition again every second");
            pending.extend(started.drain(..).map(|(partition, _)| partition));
            // The group waits for an answer.
            if let Err(error) = consumer.incremental_assign(&TopicPartitionList::new()) {
                tracing::debug!(%error, "assign");
            }
        }
        if !pending.is_empty() {
            tracing::info!(
                partitions = pending.len(),
                "where they start is not known yet; asking again every second"
            );
            let mut shared = self.core.lock();
            pending
                .into_iter()
                .for_each(|partition| shared.ask(partition, Ask::Committed));
        }
        started
            .into_iter()
            .for_each(|(partition, tracker)| self.core.take_in(partition, tracker));
        note_positions(consumer, &self.core);
        // The start is committed at once, so that what arrives while we are away is ours.
        let _ = self.notes.send(Note::Assigned);
        let now = self.core.lock().state.partitions().len();
        if self.core.vitals.joined() {
            tracing::info!(
                partitions = now,
                group = self.core.settings.connection.group,
                "ready: requests are taken"
            );
        } else {
            tracing::info!(
                new = partitions.len(),
                partitions = now,
                "partitions assigned"
            );
        }
    }

    /// Where these start, asked for at most [`ASSIGN_WAIT`]: the leader of a partition that was just
    /// created is not known for a moment.
    fn look_up(&self, consumer: &Consumer, partitions: &[Partition]) -> Vec<(Partition, Answer)> {
        let deadline = Instant::now() + ASSIGN_WAIT;
        let (mut answers, mut open) = (Vec::new(), partitions.to_vec());
        while !open.is_empty() {
            let asks: Vec<_> = open.into_iter().map(|one| (one, Ask::Committed)).collect();
            let left = || {
                deadline
                    .saturating_duration_since(Instant::now())
                    .max(LOOK_AGAIN)
            };
            let old = self.core.too_old();
            let answered = start::look_up(consumer, &asks, old, left(), left);
            let (pending, known): (Vec<_>, Vec<_>) = answered
                .into_iter()
                .partition(|(_, answer)| matches!(answer, Answer::Pending));
            answers.extend(known);
            if Instant::now() + LOOK_AGAIN >= deadline {
                answers.extend(pending);
                break;
            }
            open = pending
                .into_iter()
                .map(|(partition, _)| partition)
                .collect();
            if !open.is_empty() {
                self.core.wait_until(LOOK_AGAIN, |_| false);
            }
        }
        answers
    }

    fn revoke(&self, consumer: &Consumer, partitions: &[Partition]) {
        let core = &self.core;
        // Asked first: what is let go clears librdkafka's own note.
        let lost = consumer.assignment_lost();
        let left = self.start_over(consumer, partitions) || lost;
        if left {
            core.vitals.left();
        }
        let lost = core.membership.take_disturbed() || left;
        core.metrics.rebalanced(if lost {
            Rebalance::Lost
        } else {
            Rebalance::Revoked
        });
        let assigned: Vec<Partition> = {
            let mut shared = core.lock();
            for partition in partitions {
                shared.pending.remove(partition);
                shared.foreign.remove(partition);
            }
            let epochs = shared.state.begin_revoke(partitions);
            shared.cancel(&epochs);
            core.places_freed();
            let assigned = partitions.iter();
            let assigned = assigned.filter(|one| shared.state.next_offset(one).is_some());
            assigned.cloned().collect()
        };
        // From a lost assignment nothing can be committed; waiting would help nobody.
        if !lost {
            core.membership.renew(consumer);
            let drained = core.wait_until(core.settings.drain, |shared| {
                shared.state.is_drained(partitions)
            });
            let closed = core.wait_until(core.settings.drain, |shared| !shared.transaction_open);
            tracing::debug!(drained, closed, "drained for a rebalance");
        }
        let skipped = core.lock().state.end_revoke(partitions);
        // Now that they are gone, the rest may go on.
        core.membership.renew(consumer);
        tracing::info!(
            partitions = partitions.len(),
            lost,
            skipped,
            "partitions given back"
        );
        if let Err(error) = give_back(consumer, &assigned) {
            tracing::debug!(%error, "unassign");
            // One that is not assigned fails them all, and the group waits for an answer.
            assigned
                .iter()
                .for_each(|one| out_of_range::unassign(core, consumer, one));
            if let Err(error) = consumer.incremental_unassign(&TopicPartitionList::new()) {
                tracing::debug!(%error, "unassign");
            }
        }
    }
}

impl ClientContext for Callbacks {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        let vitals = &self.core.vitals;
        self.core.membership.read(facility, line);
        match refused::read_line(facility, line) {
            Some(Line::NoCoordinator(code)) => vitals.consumer.note(code),
            Some(Line::Coordinator) => vitals.consumer.coordinator_found(),
            Some(Line::Steady) => vitals.steady(),
            Some(Line::Joining) => vitals.joining(),
            Some(Line::NotWritten(_)) | None => {}
        }
        if matches!(level, RDKafkaLogLevel::Debug) {
            self.core.out_of_range.read(facility, line);
            tracing::trace!(target: "librdkafka", facility, "{line}");
        } else {
            clients::log_line(facility, line);
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        unreadable::heard(&self.core, &error, reason);
        self.core.heard(&error, reason);
    }

    fn stats(&self, statistics: Statistics) {
        let topics = statistics.topics.into_iter();
        let fetched = topics.flat_map(|(name, topic)| {
            let name: Arc<str> = name.into();
            topic.partitions.into_iter().map(move |(number, found)| {
                let topic = Arc::clone(&name);
                let ends = FetchedEnds {
                    stable: found.ls_offset,
                    high: found.hi_offset,
                };
                (Partition { topic, number }, ends)
            })
        });
        self.core.watch.lock().fetched = fetched.collect();
    }
}

impl ConsumerContext for Callbacks {
    fn rebalance(&self, consumer: &Consumer, event: RDKafkaRespErr, list: &mut TopicPartitionList) {
        let partitions: Vec<_> = list
            .elements()
            .iter()
            .map(|element| Partition {
                topic: element.topic().into(),
                number: element.partition(),
            })
            .collect();
        if event == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            self.assign(consumer, &partitions);
        } else {
            self.revoke(consumer, &partitions);
        }
    }
}

#[cfg(test)]
mod tests;
