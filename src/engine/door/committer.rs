//! The HTTP door's committer thread: batches of results, one transaction at a time, no offsets.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use rdkafka::error::KafkaError;
use tokio::sync::oneshot;

use super::claim::Claim;
use super::records::{Content, Visit, Writer};
use super::{Confirmation, Settings, Shared};
use crate::clock::{Clock, EpochMs};
use crate::engine::EngineError;
use crate::engine::aside::Aside;
use crate::engine::clients::{TRANSACTION_TIMEOUT, Undelivered};
use crate::engine::faults::Faults;
use crate::engine::output::{Outgoing, writes_to};
use crate::engine::producer::{self, Producers, Sending, Transactions, Written};
use crate::engine::record::Door;
use crate::engine::transaction::PAUSE;
use crate::known_topics::Refusal;

/// While nothing comes, the thread shows this often that it lives.
const SIGN_OF_LIFE: Duration = Duration::from_secs(1);

/// What the committer is told.
pub(super) enum Note {
    /// A request has its result.
    Entry(Box<Entry>),
    /// Nothing more will come.
    End,
}

/// A request with its result.
pub(super) struct Entry {
    visit: Box<Visit>,
    content: Content,
    records: Vec<Outgoing>,
    claim: Arc<Claim>,
    reply: oneshot::Sender<Confirmation>,
    /// Which one it was that the committer got.
    arrival: u64,
}

impl Entry {
    pub(super) fn new(
        visit: Box<Visit>,
        content: Content,
        claim: Arc<Claim>,
        reply: oneshot::Sender<Confirmation>,
    ) -> Self {
        Self {
            visit,
            content,
            records: Vec::new(),
            claim,
            reply,
            arrival: 0,
        }
    }

    fn answer(self, confirmation: Confirmation) {
        // Who asked may have given up.
        let _ = self.reply.send(confirmation);
    }
}

pub(super) struct Committer {
    shared: Arc<Shared>,
    settings: Settings,
    clock: Clock,
    producers: Producers,
    producer: Option<Transactions>,
    notes: Receiver<Note>,
    /// Results in the order they came.
    queue: VecDeque<Entry>,
    /// How many go into the next transaction.
    cap: usize,
    arrivals: u64,
    /// What waits for topics of ours that take nothing now.
    aside: Aside<Entry>,
    ending: bool,
}

impl Committer {
    pub(super) fn new(
        shared: Arc<Shared>,
        settings: Settings,
        clock: Clock,
        producers: Producers,
        producer: Transactions,
        notes: Receiver<Note>,
    ) -> Self {
        Self {
            shared,
            cap: settings.batch,
            settings,
            clock,
            producers,
            producer: Some(producer),
            notes,
            queue: VecDeque::new(),
            arrivals: 0,
            aside: Aside::default(),
            ending: false,
        }
    }

    /// Runs until it is told to end, or cannot go on.
    pub(super) fn run(mut self) {
        while !self.shared.failed.is_cancelled() {
            if self.producer.is_none() && !self.shared.stopping.is_cancelled() {
                // Also where nobody waits: who comes next finds a way, or hears that there is none.
                self.rebuild(None);
                self.close();
            }
            if let Some(producer) = &self.producer {
                // Also while there is nothing to commit: what it says would pile up.
                producer.listen();
            }
            self.collect();
            self.shared.vitals.polled();
            let batch = self.begin();
            if !batch.is_empty() {
                self.transact(batch);
            } else if self.ending && self.queue.is_empty() {
                return;
            }
        }
    }

    /// Waits for results, then for a few more that are about to come.
    fn collect(&mut self) {
        if self.queue.is_empty() && !self.ending {
            let next_try = self.aside.next_try();
            let next_try = next_try.map(|at| at.saturating_duration_since(Instant::now()));
            self.receive(next_try.map_or(SIGN_OF_LIFE, |pause| pause.min(SIGN_OF_LIFE)));
        }
        let linger = Instant::now() + self.settings.linger;
        while self.queue.len() < self.cap && !self.ending && !self.queue.is_empty() {
            let left = linger.saturating_duration_since(Instant::now());
            if !self.receive(left) {
                break;
            }
        }
    }

    fn receive(&mut self, wait: Duration) -> bool {
        match self.notes.recv_timeout(wait) {
            Ok(Note::Entry(mut entry)) => {
                self.arrivals += 1;
                entry.arrival = self.arrivals;
                self.queue.push_back(*entry);
            }
            Ok(Note::End) | Err(RecvTimeoutError::Disconnected) => self.ending = true,
            Err(RecvTimeoutError::Timeout) => return false,
        }
        true
    }

    /// The results of the next transaction: those that are still waited for, and in time. A late OTP
    /// is worse than none.
    fn begin(&mut self) -> Vec<Entry> {
        if let Some(tried) = self.take_aside() {
            return self.begun(tried).into_iter().collect();
        }
        let mut batch = Vec::new();
        while batch.len() < self.cap
            && let Some(entry) = self.queue.pop_front()
        {
            let Some(entry) = self.begun(entry) else {
                continue;
            };
            if self.is_held(&entry) {
                self.put_back(entry);
            } else {
                batch.push(entry);
            }
        }
        batch
    }

    fn begun(&self, mut entry: Entry) -> Option<Entry> {
        let now = self.clock.now();
        if entry.visit.context.deadline <= now {
            entry.answer(Confirmation::Withdrawn);
            return None;
        }
        entry.claim.begin().then(|| {
            let writer = &self.settings.writer;
            entry.records = writer.write(&entry.visit, &entry.content, now);
            entry
        })
    }

    /// One of those aside, where it is time to find out whether its topic takes records again.
    fn take_aside(&mut self) -> Option<Entry> {
        let now = Instant::now();
        if self.aside.next_try()? > now && !self.ending {
            return None;
        }
        let ending = self.ending;
        let over = self.aside.take(|one| ending || !one.claim.is_waiting());
        over.into_iter()
            .for_each(|entry| entry.answer(Confirmation::Withdrawn));
        self.aside.forget_empty();
        self.aside.take_due(now).map(|(_, entry)| entry)
    }

    fn is_held(&self, entry: &Entry) -> bool {
        let away = self.aside.away(|topic| writes_to(&entry.records, topic));
        away.is_some()
    }

    /// Puts back what is still waited for, before everything else; nothing of it was written.
    fn put_back(&mut self, entry: Entry) {
        if !entry.claim.repeat() {
            return entry.answer(Confirmation::Withdrawn);
        }
        let held = match self.aside.away(|topic| writes_to(&entry.records, topic)) {
            Some(topic) => self.aside.hold(&topic, entry.arrival, entry),
            None => Err(entry),
        };
        if let Err(entry) = held {
            self.queue.push_front(entry);
        }
    }

    /// `batch` is committed: what waited for its topics goes on.
    fn take_back(&mut self, batch: &[Entry]) {
        for topic in self.aside.topics() {
            if batch.iter().any(|one| writes_to(&one.records, &topic)) {
                tracing::info!(topic, "over HTTP the topic takes records again");
                self.queue.extend(self.aside.release(&topic));
                let queue = self.queue.make_contiguous();
                queue.sort_by_key(|entry| entry.arrival);
            }
        }
    }

    /// One transaction, and what follows from its end. It counts as open until the next one can
    /// begin: requests are told at once that there is no way through.
    fn transact(&mut self, mut batch: Vec<Entry>) {
        let started = Instant::now();
        self.shared.opened.lock().get_or_insert(started);
        self.shared.vitals.to_commit();
        let results = batch.iter().map(|entry| Sending {
            records: &entry.records,
            deadline: Some(entry.visit.context.deadline),
        });
        let end = producer::write(&mut self.producer, results, None, started);
        let metrics = &self.shared.metrics;
        metrics.transaction(Door::Http, end.end(), started.elapsed());
        match end {
            Written::Committed => {
                tracing::debug!(results = batch.len(), took = ?started.elapsed(), "HTTP transaction committed");
                self.cap = (self.cap * 2).min(self.settings.batch);
                self.shared.vitals.nothing_to_commit();
                self.producers.reachability.found();
                self.take_back(&batch);
                let now = self.clock.now();
                for entry in batch {
                    let confirmation = self.count(&entry, now);
                    entry.answer(confirmation);
                }
            }
            Written::Aborted => self.repeat(batch),
            Written::Undelivered(failed) => {
                self.part(&mut batch, &failed);
                self.repeat(batch);
            }
            Written::Rebuild {
                error,
                commit_called,
            } => {
                // The broker timed the transaction out, which looks exactly like a fence.
                if started.elapsed() >= TRANSACTION_TIMEOUT {
                    self.producers.fences.lock().forget();
                }
                if commit_called {
                    for entry in batch {
                        entry.answer(Confirmation::Unconfirmed);
                    }
                    self.rebuild(error);
                } else if self.rebuild(error) {
                    // The new producer has ended what the old one left open.
                    self.repeat(batch);
                }
            }
        }
        self.close();
    }

    /// The next transaction can begin, where there is a producer for it.
    fn close(&mut self) {
        if self.producer.is_some() {
            if self.queue.is_empty() {
                self.shared.vitals.nothing_to_commit();
            }
            *self.shared.opened.lock() = None;
        }
    }

    /// Counts what is committed for good, and tells who waits for that.
    fn count(&self, entry: &Entry, now: EpochMs) -> Confirmation {
        let metrics = &self.shared.metrics;
        match &entry.content {
            Content::Published(published) => {
                published.committed();
                let age = entry.visit.received.age(now);
                metrics.published(Door::Http, published.code, age);
                Confirmation::Committed
            }
            Content::HandedOver { .. } => {
                metrics.handed_over();
                Confirmation::Queued
            }
        }
    }

    fn repeat(&mut self, batch: Vec<Entry>) {
        for entry in batch.into_iter().rev() {
            self.put_back(entry);
        }
        std::thread::park_timeout(PAUSE);
    }

    /// Records were not taken. A topic that is away or forbidden costs the email, or hands the request
    /// over to the stream; where it is ours, what is for it waits. Else one record is at fault, and the
    /// batch is halved until it stands alone.
    fn part(&mut self, batch: &mut Vec<Entry>, failed: &[Undelivered]) {
        let faults = Faults::of(failed);
        for (result, topic) in faults.topics {
            let Some(entry) = batch.get_mut(result) else {
                continue;
            };
            let Writer { accepted, outcomes } = &self.settings.writer;
            if topic != &**accepted && topic != &**outcomes {
                without_topic(&mut entry.content, topic);
            } else if self.aside.note(topic, Refusal::Away, Instant::now()) {
                tracing::warn!(
                    topic,
                    "a topic of ours is missing or forbidden; what needs it is not accepted over \
                     HTTP until it is there"
                );
            }
        }
        match faults.suspects.as_slice() {
            [] => {}
            [culprit] => {
                if *culprit < batch.len() {
                    batch.remove(*culprit).answer(Confirmation::TooLarge);
                }
            }
            several => self.cap = several.len().div_ceil(2),
        }
    }

    /// A new producer with the same id, which ends whatever the old one left open; whether there is
    /// one.
    fn rebuild(&mut self, error: Option<KafkaError>) -> bool {
        tracing::info!(
            error = error.as_ref().map(tracing::field::display),
            "building the HTTP door's producer anew"
        );
        let is_another = self.producers.fences.lock().note(error.as_ref());
        if is_another {
            let id = self.settings.connection.http_transactional_id();
            self.shared.fail(EngineError::TwoProcesses { id });
            return false;
        }
        // The old one goes first: its open transaction is ended by taking the id over.
        self.producer = None;
        let give_up = |_: &KafkaError| {
            // That Kafka is away is no reason to be taken for dead.
            self.shared.vitals.polled();
            // Nobody waits any more when the door is to end.
            self.shared.failed.is_cancelled() || self.shared.stopping.is_cancelled()
        };
        self.producer = self.producers.open(give_up).ok();
        self.producer.is_some()
    }
}

/// Does without a topic that is not ours.
fn without_topic(content: &mut Content, topic: &str) {
    match content {
        Content::Published(published) if published.emails_to(topic) => {
            published.leave_out_email();
        }
        Content::Published(published) if published.sms.topic == topic => {
            *content = Content::HandedOver { tries: 1 };
        }
        // It did already.
        Content::Published(_) | Content::HandedOver { .. } => {}
    }
}
