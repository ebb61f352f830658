//! The committer thread: one Kafka transaction for results and offsets.
//!
//! ```text
//! lock: group metadata · drop what is no longer ours · offsets of exactly these results
//! begin ─▶ send all ─▶ send offsets ─▶ drain ─▶ commit ─▶ lock: trackers, window
//! ```
//!
//! An error is judged by its flags, never by its code:
//!
//! | error | what follows |
//! | --- | --- |
//! | retriable | the same call again, within the budget of one operation |
//! | abortable | abort; what is still ours goes into the next transaction |
//! | fatal, or over budget | a new producer with the same id, and a look at what was committed |
//! | a record that its topic never takes | the batch is halved until it stands alone, then a dead letter |
//! | a topic that is missing or forbidden | what is for it is put [`aside`](super::aside), and the rest goes on |
//!
//! Deliberately not handled here: a call of librdkafka that never returns. The watchdog ends the
//! process then; the next one takes the open transaction over.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rdkafka::consumer::{Consumer as _, ConsumerGroupMetadata};
use rdkafka::error::KafkaError;

use super::EngineError;
use super::aside::Aside;
use super::clients::TRANSACTION_TIMEOUT;
use super::consumer::Consumer;
use super::core::Core;
use super::output::{self, EXPIRED, Outgoing, Writer};
use super::producer::{self, CALL, Offsets, Producers, Sending, Transactions, Written};
use super::record::Door;
use super::start;
use super::state::{Commit, Partition, Ticket};
use super::supersede::{Group, Instead};
use super::tag::{Found, Tag};
use crate::clock::EpochMs;
use crate::limits::Charge;
use crate::metrics::TransactionEnd;
use crate::outcome::{Failure, Outcome, Stage};

mod undelivered;

#[cfg(test)]
pub(in crate::engine) mod tests;

/// What the committer is told.
pub(crate) enum Note {
    /// A request has its result.
    Finished(Box<Finished>),
    /// Partitions were assigned: their start is to be committed.
    Assigned,
    /// Nothing more will come: commit what is there, and end.
    End,
}

/// A request, or several that end together, with the result and the records that say so.
pub(crate) struct Finished {
    pub(crate) group: Group,
    pub(crate) outcome: Outcome,
    pub(crate) records: Vec<Outgoing>,
    /// Which one it was that the committer got.
    pub(crate) arrival: u64,
}

impl Finished {
    /// What `outcome` comes to at `now`.
    pub(crate) fn new(group: Group, outcome: Outcome, writer: &Writer, now: EpochMs) -> Self {
        let outcome = writer.settle(&group.published().request, outcome, now);
        let records = group.write(writer, &outcome, now);
        Self {
            group,
            outcome,
            records,
            arrival: 0,
        }
    }

    /// All of a group came from one partition in one assignment: what holds for this one holds for all.
    fn ticket(&self) -> &Ticket {
        self.group.published()
    }

    /// Only what may be published can be too late.
    fn sending(&self) -> Sending<'_> {
        let deadline = self.ticket().request.envelope.context.deadline;
        Sending {
            records: &self.records,
            deadline: matches!(self.outcome, Outcome::Published(_)).then_some(deadline),
        }
    }

    fn is_covered(&self, partition: &Partition, tag: &Tag) -> bool {
        let covered = |ticket: &Ticket| tag.covers(ticket.request.record.position.offset);
        self.ticket().partition() == *partition && self.group.tickets().all(covered)
    }

    pub(crate) fn writes_to(&self, topic: &str) -> bool {
        output::writes_to(&self.records, topic)
    }
}

/// A commit point that moved without results is committed this often at most.
const OFFSETS_EVERY: Duration = Duration::from_secs(1);

/// After an abort, so that a rebalance or a failing topic is not met in a busy loop.
pub(crate) const PAUSE: Duration = Duration::from_millis(50);

/// Gives back what the sending limits charged.
pub(crate) type GiveBack = Box<dyn Fn(&Charge) + Send>;

pub(crate) struct Committer {
    core: Arc<Core>,
    consumer: Arc<Consumer>,
    writer: Arc<Writer>,
    notes: Receiver<Note>,
    producers: Producers,
    producer: Option<Transactions>,
    give_back: GiveBack,
    /// Results in the order they came.
    queue: VecDeque<Finished>,
    /// How many go into the next transaction.
    cap: usize,
    offsets_committed: Instant,
    /// A partition was assigned, and its start is not committed.
    assigned: bool,
    arrivals: u64,
    /// What waits for topics that take nothing now.
    aside: Aside<Finished>,
    /// Results were left out, and it was said.
    left_out: bool,
    /// Topics that refused the time of what was written last: said once.
    wrong_times: BTreeSet<String>,
    /// The topic that the transaction under way is to find out about.
    trying: Option<String>,
    ending: bool,
}

impl Committer {
    /// # Errors
    ///
    /// When the producer cannot be created, or no broker took its transactional id in time.
    pub(crate) fn new(
        core: Arc<Core>,
        consumer: Arc<Consumer>,
        writer: Arc<Writer>,
        notes: Receiver<Note>,
        give_back: GiveBack,
        patience: Duration,
    ) -> Result<Self, EngineError> {
        let settings = &core.settings;
        let id = settings.connection.transactional_id();
        let producers = Producers {
            config: settings.connection.producer(&id, settings.largest_record),
            reachability: Arc::clone(&core.reachability),
            vitals: Arc::clone(&core.vitals),
            clock: core.clock.clone(),
            fences: Mutex::default(),
        };
        let deadline = Instant::now() + patience;
        let producer = producers.open_until(deadline)?;
        Ok(Self {
            producer: Some(producer),
            ..Self::without_a_producer(core, consumer, writer, notes, give_back, producers)
        })
    }

    fn without_a_producer(
        core: Arc<Core>,
        consumer: Arc<Consumer>,
        writer: Arc<Writer>,
        notes: Receiver<Note>,
        give_back: GiveBack,
        producers: Producers,
    ) -> Self {
        Self {
            cap: core.settings.batch,
            core,
            consumer,
            writer,
            notes,
            producers,
            producer: None,
            give_back,
            queue: VecDeque::new(),
            offsets_committed: Instant::now(),
            assigned: false,
            arrivals: 0,
            aside: Aside::default(),
            left_out: false,
            wrong_times: BTreeSet::new(),
            trying: None,
            ending: false,
        }
    }

    /// Runs until it is told to end.
    pub(crate) fn run(mut self) {
        while !self.core.failed.is_cancelled() {
            if let Some(producer) = &self.producer {
                // Also while there is nothing to commit: what it says would pile up.
                producer.listen();
            }
            self.collect();
            let mut batch = self.take_batch();
            let offsets_due =
                self.ending || self.assigned || self.offsets_committed.elapsed() >= OFFSETS_EVERY;
            if batch.is_empty() && !offsets_due {
                continue;
            }
            let end = self.transact(&mut batch, offsets_due);
            let clean = matches!(end, None | Some(Written::Committed)) && batch.is_empty();
            self.follow_up(end, batch);
            if self.ending && clean && self.queue.is_empty() {
                return;
            }
        }
    }

    /// Waits for results, then for a few more that are about to come.
    fn collect(&mut self) {
        if self.queue.is_empty() && !self.ending && !self.assigned {
            let left = OFFSETS_EVERY.saturating_sub(self.offsets_committed.elapsed());
            let next_try = self.aside.next_try();
            let next_try = next_try.map(|at| at.saturating_duration_since(Instant::now()));
            self.receive(next_try.map_or(left, |pause| pause.min(left)));
        }
        let linger = Instant::now() + self.core.settings.linger;
        while self.queue.len() < self.cap && !self.ending {
            // Where there is no result yet the next transaction does not wait for one, but takes those that have come.
            let left = match self.queue.is_empty() {
                true => Duration::ZERO,
                false => linger.saturating_duration_since(Instant::now()),
            };
            if !self.receive(left) {
                break;
            }
        }
    }

    fn receive(&mut self, wait: Duration) -> bool {
        match self.notes.recv_timeout(wait) {
            Ok(Note::Finished(mut finished)) => {
                self.arrivals += 1;
                finished.arrival = self.arrivals;
                self.queue.push_back(*finished);
            }
            Ok(Note::Assigned) => self.assigned = true,
            Ok(Note::End) | Err(RecvTimeoutError::Disconnected) => self.ending = true,
            Err(RecvTimeoutError::Timeout) => return false,
        }
        true
    }

    /// The results of the next transaction: one that finds out whether its topic takes records again,
    /// where it is time for that; else the next ones of those that need no topic that is away.
    fn take_batch(&mut self) -> Vec<Finished> {
        self.trying = None;
        if let Some(tried) = self.take_aside() {
            return vec![tried];
        }
        let mut batch = Vec::new();
        while batch.len() < self.cap
            && let Some(finished) = self.queue.pop_front()
        {
            batch.extend(self.hold_back(finished));
        }
        batch
    }

    fn follow_up(&mut self, end: Option<Written>, mut batch: Vec<Finished>) {
        let had_results = !batch.is_empty();
        let aborted = match end {
            Some(Written::Committed) => {
                self.cap = (self.cap * 2).min(self.core.settings.batch);
                false
            }
            None => !batch.is_empty(),
            Some(Written::Aborted) => true,
            Some(Written::Undelivered(failed)) => {
                batch = self.part(batch, &failed);
                true
            }
            // Whether it went through is looked up.
            Some(Written::Rebuild {
                error,
                commit_called,
            }) => {
                self.rebuild(error, commit_called, &mut batch);
                true
            }
        };
        for finished in batch.into_iter().rev() {
            if let Some(finished) = self.hold_back(finished) {
                self.queue.push_front(finished);
            }
        }
        if aborted {
            if had_results && self.queue.is_empty() {
                // What is aside has its own word in health. Offsets alone still wait for their commit.
                self.core.vitals.nothing_to_commit();
                self.core.vitals.no_result_waits();
            }
            self.core.wait_until(PAUSE, |_| false);
        }
    }

    /// One transaction; none when there is nothing to commit, or not now. What it committed, or
    /// dropped, is gone from `batch` afterwards.
    fn transact(&mut self, batch: &mut Vec<Finished>, offsets_due: bool) -> Option<Written> {
        self.expire(batch);
        let waiting = self.queue.len();
        let Some((metadata, commits)) = self.decide(batch, offsets_due) else {
            if self.queue.len() > waiting {
                self.core.wait_until(PAUSE, |_| false);
            }
            self.offsets_committed = Instant::now();
            self.assigned &= self.consumer.assignment_lost();
            self.core.vitals.nothing_to_commit();
            return None;
        };
        self.core.vitals.to_commit();
        let started = Instant::now();
        let offsets = Offsets {
            metadata: &metadata,
            commits: &commits,
        };
        let results = batch.iter().map(Finished::sending);
        let end = producer::write(&mut self.producer, results, Some(&offsets), started);
        self.note_end(&end, started.elapsed());
        match &end {
            Written::Committed => {
                let (results, offsets, took) = (batch.len(), commits.len(), started.elapsed());
                tracing::debug!(results, offsets, ?took, "transaction committed");
                self.committed(commits, batch);
                self.close_transaction();
                if offsets_due {
                    self.offsets_committed = Instant::now();
                    self.assigned = false;
                }
            }
            Written::Aborted | Written::Undelivered(_) => self.close_transaction(),
            Written::Rebuild { .. } if started.elapsed() >= TRANSACTION_TIMEOUT => {
                self.producers.fences.lock().forget();
            }
            Written::Rebuild { .. } => {}
        }
        Some(end)
    }

    fn note_end(&self, end: &Written, took: Duration) {
        let end = end.end();
        match end {
            TransactionEnd::Committed => self.core.vitals.committed(),
            TransactionEnd::Aborted | TransactionEnd::Rebuilt => self.core.vitals.not_committed(),
        }
        self.core.metrics.transaction(Door::Stream, end, took);
    }

    /// Counts what is committed for good, and tells who waits for that.
    fn count(&self, finished: &[Finished]) {
        let now = self.core.clock.now();
        for Finished { group, outcome, .. } in finished {
            if let Outcome::Published(published) = outcome {
                published.committed();
            }
            let envelope = &group.published().request.envelope;
            let age = envelope.received.age(now);
            self.core.metrics.finished(envelope.door, outcome, age);
            for ticket in group.superseded() {
                self.core.metrics.superseded(ticket.request.envelope.door);
            }
        }
    }

    /// Looks at the deadlines again: a late OTP is worse than none.
    fn expire(&self, batch: &mut Vec<Finished>) {
        let now = self.core.clock.now();
        let is_late = |finished: &Finished| {
            let deadline = finished.sending().deadline;
            deadline.is_some_and(|deadline| deadline <= now)
        };
        let end = Instead::DeadLettered(Failure {
            stage: Stage::Publish,
            ..EXPIRED
        });
        while let Some(place) = batch.iter().position(is_late) {
            self.replace(batch, place, end);
        }
    }

    /// The result at `place` cannot be published: each of its requests has one of its own now, those of
    /// others at the end of the batch, so that every place stays what it is.
    fn replace(&self, batch: &mut Vec<Finished>, place: usize, end: Instead) {
        let now = self.core.clock.now();
        let Finished { group, arrival, .. } = batch.remove(place);
        let mut each = group
            .apart(end)
            .into_iter()
            .map(|(group, outcome)| Finished {
                arrival,
                ..Finished::new(group, outcome, &self.writer, now)
            });
        batch.splice(place..place, each.by_ref().take(1));
        batch.extend(each);
    }

    /// Decides under one lock what the transaction commits: the generation of our assignment, results of
    /// assignments that are still ours, and the offsets of exactly those.
    fn decide(
        &mut self,
        batch: &mut Vec<Finished>,
        offsets_due: bool,
    ) -> Option<(Arc<ConsumerGroupMetadata>, Vec<Commit>)> {
        let core = Arc::clone(&self.core);
        let mut shared = core.lock();
        batch.retain(|finished| {
            let current = shared.state.is_current(finished.ticket());
            if !current {
                finished
                    .group
                    .tickets()
                    .for_each(|ticket| shared.state.forget(ticket));
                self.core.places_freed();
            }
            current
        });
        if self.consumer.assignment_lost() {
            return None;
        }
        let mut commits = shared
            .state
            .commits(batch.iter().flat_map(|finished| finished.group.tickets()));
        if offsets_due {
            let moved = shared.state.moved();
            commits.extend(
                moved
                    .into_iter()
                    .filter(|one| commits.iter().all(|other| other.partition != one.partition))
                    .collect::<Vec<_>>(),
            );
        }
        self.leave_out(batch, &mut commits);
        if commits.is_empty() {
            return None;
        }
        let metadata = self.core.membership.of_assignment(&self.consumer)?;
        shared.transaction_open = true;
        Some((metadata, commits))
    }

    /// The last line of defence: metadata over the limit would fail the transaction of all partitions. Its
    /// partition is not committed, and the results of that wait until more of it is finished.
    fn leave_out(&mut self, batch: &mut Vec<Finished>, commits: &mut Vec<Commit>) {
        let over: Vec<_> = commits
            .extract_if(.., |commit| !commit.tag.is_within_limit())
            .map(|commit| commit.partition)
            .collect();
        if over.is_empty() {
            return;
        }
        if !std::mem::replace(&mut self.left_out, true) {
            tracing::error!(
                ?over,
                "commit metadata over its limit: these partitions are not committed, and the others are; if it lasts, restart this instance"
            );
        }
        let is_left = |finished: &mut Finished| over.contains(&finished.ticket().partition());
        self.queue.extend(batch.extract_if(.., is_left));
    }

    /// A dead letter is our failure, not the citizen's: it costs them nothing of their limits. Nor does
    /// what was superseded.
    fn give_back_spare(&self, finished: &[Finished]) {
        for Finished { group, outcome, .. } in finished {
            let charge = &group.published().request.envelope.context.charge;
            match outcome {
                Outcome::DeadLettered(_) if charge.is_done() => (self.give_back)(charge),
                Outcome::Published(_) => group.spare_charges().for_each(&self.give_back),
                Outcome::Rejected(_)
                | Outcome::Limited(_)
                | Outcome::DeadLettered(_)
                | Outcome::Retried(_) => {}
            }
        }
    }

    fn committed(&mut self, commits: Vec<Commit>, batch: &mut Vec<Finished>) {
        self.wrong_times.retain(|topic| {
            let written = batch.iter().any(|finished| finished.writes_to(topic));
            if written {
                tracing::info!(topic, "the topic takes the time of our records again");
            }
            !written
        });
        self.take_back(batch);
        self.count(batch);
        self.give_back_spare(batch);
        let mut shared = self.core.lock();
        shared
            .state
            .committed(commits, batch.iter().flat_map(|one| one.group.tickets()));
        batch.clear();
        drop(shared);
        self.core.reachability.found();
        self.core.places_freed();
    }

    fn close_transaction(&self) {
        self.core.lock().transaction_open = false;
        self.core.announce();
    }

    /// A new producer with the same id, which ends whatever the old one left open. Where the commit had been called,
    /// what was committed after all is struck out.
    fn rebuild(
        &mut self,
        error: Option<KafkaError>,
        commit_called: bool,
        batch: &mut Vec<Finished>,
    ) {
        tracing::info!(
            error = error.as_ref().map(tracing::field::display),
            "building the producer anew"
        );
        let is_another = self.producers.fences.lock().note(error.as_ref());
        if is_another {
            let id = self.core.settings.connection.transactional_id();
            return self.core.fail(EngineError::TwoProcesses { id });
        }
        // The old one goes first: its open transaction is ended by taking the id over.
        self.producer = None;
        match self.producers.open(|_| self.core.failed.is_cancelled()) {
            Ok(producer) => self.producer = Some(producer),
            Err(_) => return,
        }
        if commit_called {
            let core = &self.core;
            let ask = |partitions: &[Partition]| {
                let ask = || start::read_committed(&self.consumer, partitions, CALL);
                core.vitals.watch(ask)
            };
            let pause = || {
                core.wait_until(PAUSE, |_| core.failed.is_cancelled());
            };
            self.strike_out_committed(batch, ask, pause);
        }
        self.close_transaction();
    }

    /// Strikes out what `ask` says was committed; asks again after a `pause`, until it is known of each partition.
    fn strike_out_committed(
        &self,
        batch: &mut Vec<Finished>,
        ask: impl Fn(&[Partition]) -> Vec<(Partition, Option<start::Commit>)>,
        pause: impl Fn(),
    ) {
        let mut partitions: Vec<Partition> = batch
            .iter()
            .map(|finished| finished.ticket().partition())
            .collect();
        partitions.sort();
        partitions.dedup();
        while !partitions.is_empty() && !self.core.failed.is_cancelled() {
            for (partition, commit) in ask(&partitions) {
                let Some(commit) = commit else { continue };
                partitions.retain(|other| *other != partition);
                let Found::Ours(tag) = commit.found() else {
                    continue;
                };
                let (done, open) = std::mem::take(batch)
                    .into_iter()
                    .partition(|finished: &Finished| finished.is_covered(&partition, &tag));
                *batch = open;
                let done: Vec<Finished> = done;
                if !done.is_empty() {
                    self.count(&done);
                    self.give_back_spare(&done);
                    tracing::info!(
                        results = done.len(),
                        "the transaction had gone through after all"
                    );
                    self.core
                        .lock()
                        .state
                        .committed(Vec::new(), done.iter().flat_map(|one| one.group.tickets()));
                    self.core.places_freed();
                }
            }
            // What is no longer ours need not be known.
            let shared = self.core.lock();
            partitions.retain(|partition| shared.state.next_offset(partition).is_some());
            drop(shared);
            if !partitions.is_empty() {
                pause();
            }
        }
    }
}
