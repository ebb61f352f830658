//! What the engine's threads share: the state behind its one lock, and the signals between them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::clients::Reachability;
use super::consumer_watch::ConsumerWatch;
use super::membership::Membership;
use super::out_of_range::OutOfRange;
use super::poison::Inputs;
use super::start::Ask;
use super::state::{Epoch, Partition, State};
use super::unreadable::suspects::Suspects;
use super::vitals::Vitals;
use super::window::Span;
use super::{EngineError, Settings};
use crate::clock::{Clock, EpochMs};
use crate::known_topics::KnownTopics;
use crate::metrics::Metrics;

pub(crate) struct Core {
    pub(crate) settings: Settings,
    pub(crate) clock: Clock,
    pub(crate) metrics: Metrics,
    pub(crate) topics: KnownTopics,
    pub(crate) vitals: Arc<Vitals>,
    /// The last stable offsets of our partitions, as last read.
    pub(crate) ends: Mutex<HashMap<Partition, i64>>,
    /// Whether the brokers did not say all of them when they were last asked.
    pub(crate) ends_unknown: AtomicBool,
    /// What of the input cannot be read.
    pub(crate) inputs: Mutex<Inputs>,
    /// Where the library could not decode a batch.
    pub(crate) suspects: Mutex<Suspects>,
    /// What cannot be decoded of topics of ours, and waits for an operator.
    pub(crate) unreadable: Mutex<BTreeMap<Partition, Span>>,
    pub(crate) reachability: Arc<Reachability>,
    pub(crate) membership: Membership,
    /// What is wrong with the consumer.
    pub(crate) watch: Mutex<ConsumerWatch>,
    /// A poll that might have waited came back with nothing: the client has nothing to give.
    drained: AtomicBool,
    shared: Mutex<Shared>,
    /// The window got room, something drained, or a transaction ended.
    changed: Condvar,
    /// A request was parked, or a place got free for one that is due.
    pub(crate) retries: Notify,
    /// Partitions whose next offset is gone, or whose topic is another.
    pub(crate) out_of_range: OutOfRange,
    /// Set once: stop taking anything in.
    pub(crate) stopping: CancellationToken,
    /// Why the engine cannot go on.
    failure: OnceLock<EngineError>,
    pub(crate) failed: CancellationToken,
}

/// A partition whose start is not known.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pending {
    pub(crate) ask: Ask,
    /// Never used again.
    pub(crate) question: u64,
}

/// Behind the lock.
pub(crate) struct Shared {
    pub(crate) state: State,
    /// Cancelled when an epoch ends: its handlers stop waiting for permits.
    pub(crate) tokens: HashMap<Epoch, CancellationToken>,
    /// Assigned, paused, and not started: it is not known where.
    pub(crate) pending: HashMap<Partition, Pending>,
    /// Assigned by the group for the pattern of the subscription, and no topic of ours: never read or committed.
    pub(crate) foreign: BTreeSet<Partition>,
    questions: u64,
    /// From the decision what a transaction commits until it is known whether it did.
    pub(crate) transaction_open: bool,
}

impl Core {
    pub(crate) fn new(
        settings: Settings,
        clock: Clock,
        metrics: Metrics,
        topics: KnownTopics,
    ) -> Self {
        let state = State::new(settings.bounds.clone());
        let inputs = Inputs::new(settings.poison_share, settings.poison_window);
        let watch = ConsumerWatch::new(settings.stall_after);
        let membership = Membership::new(&settings.connection);
        Self {
            settings,
            clock,
            metrics,
            topics,
            vitals: Arc::default(),
            ends: Mutex::default(),
            ends_unknown: AtomicBool::new(false),
            inputs: Mutex::new(inputs),
            suspects: Mutex::default(),
            unreadable: Mutex::default(),
            reachability: Arc::default(),
            membership,
            watch: Mutex::new(watch),
            drained: AtomicBool::new(false),
            shared: Mutex::new(Shared {
                state,
                tokens: HashMap::new(),
                pending: HashMap::new(),
                foreign: BTreeSet::new(),
                questions: 0,
                transaction_open: false,
            }),
            changed: Condvar::new(),
            retries: Notify::new(),
            out_of_range: OutOfRange::default(),
            stopping: CancellationToken::new(),
            failure: OnceLock::new(),
            failed: CancellationToken::new(),
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock()
    }

    /// A request from before this moment has no time left.
    pub(crate) fn too_old(&self) -> EpochMs {
        let lifetime = self.settings.reading.lifetime;
        self.clock.now().minus(lifetime)
    }

    /// Notes last stable offsets that were just read; a partition whose leader did not answer keeps the one before.
    pub(crate) fn note_ends(&self, read: HashMap<Partition, i64>) {
        let mut ends = self.ends.lock();
        let mut shared = self.lock();
        let mut all = shared.state.partitions().into_iter();
        let unknown = all.any(|partition| !read.contains_key(&partition));
        self.ends_unknown.store(unknown, Ordering::Relaxed);
        ends.retain(|partition, _| shared.state.next_offset(partition).is_some());
        ends.extend(read);
        shared.state.note_ends(&ends, self.clock.now());
    }

    /// Notes that the client had nothing to give.
    pub(crate) fn note_drained(&self) {
        self.drained.store(true, Ordering::Relaxed);
    }

    /// Whether it had nothing to give since the last call.
    pub(crate) fn take_drained(&self) -> bool {
        self.drained.swap(false, Ordering::Relaxed)
    }

    /// Tells whoever waits that the state has changed.
    pub(crate) fn announce(&self) {
        self.changed.notify_all();
    }

    /// Places in the window got free: what is due goes before newly polled records.
    pub(crate) fn places_freed(&self) {
        self.retries.notify_one();
        self.announce();
    }

    /// Waits until `condition` holds, for at most `timeout`; whether it does.
    pub(crate) fn wait_until(
        &self,
        timeout: Duration,
        mut condition: impl FnMut(&mut Shared) -> bool,
    ) -> bool {
        let deadline = Instant::now() + timeout;
        let mut shared = self.lock();
        loop {
            if condition(&mut shared) {
                return true;
            }
            if self.changed.wait_until(&mut shared, deadline).timed_out() {
                return condition(&mut shared);
            }
        }
    }

    /// Ends the engine for a reason that it cannot mend itself.
    pub(crate) fn fail(&self, error: EngineError) {
        tracing::error!(%error, "the engine cannot go on");
        // The first reason is the one that counts.
        let _ = self.failure.set(error);
        self.failed.cancel();
        self.announce();
    }

    pub(crate) fn failure(&self) -> Option<&EngineError> {
        self.failure.get()
    }

    /// Whether the engine is to end.
    pub(crate) fn is_ending(&self) -> bool {
        self.stopping.is_cancelled() || self.failed.is_cancelled()
    }
}

impl Shared {
    /// Notes that it is to be asked where `partition` starts. An answer to an earlier question,
    /// asked before the partition was lost and came back, does not count.
    pub(crate) fn ask(&mut self, partition: Partition, ask: Ask) {
        self.questions += 1;
        let question = self.questions;
        self.pending.insert(partition, Pending { ask, question });
    }

    /// Asks anew where what waits for an answer starts: the answers to come may be too old.
    pub(crate) fn ask_all_again(&mut self) {
        let pending: Vec<_> = self
            .pending
            .iter()
            .map(|(one, of)| (one.clone(), of.ask))
            .collect();
        for (partition, ask) in pending {
            self.ask(partition, ask);
        }
    }

    /// Notes partitions of topics that are not ours, and says each topic once.
    pub(crate) fn leave_alone(&mut self, foreign: Vec<Partition>) {
        for partition in foreign {
            if !self.foreign.iter().any(|one| one.topic == partition.topic) {
                tracing::warn!(
                    topic = &*partition.topic,
                    "the topic is named like a retry topic and its last part is no delay: its records are not read; \
                     give it a name outside of topics.retry_prefix"
                );
            }
            self.foreign.insert(partition);
        }
    }

    /// Cancels what waits for permits in `epochs`.
    pub(crate) fn cancel(&mut self, epochs: &[Epoch]) {
        for epoch in epochs {
            if let Some(token) = self.tokens.remove(epoch) {
                token.cancel();
            }
        }
    }

    /// The token of an epoch; a cancelled one when it has ended.
    pub(crate) fn token(&self, epoch: Epoch) -> CancellationToken {
        self.tokens.get(&epoch).cloned().unwrap_or_else(|| {
            let ended = CancellationToken::new();
            ended.cancel();
            ended
        })
    }
}
