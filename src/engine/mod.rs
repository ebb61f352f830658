//! The engine: out-of-order completion, exactly once.
//!
//! ```text
//!                    ┌──────────────── consumer thread ───────────────┐
//! requests ─┐        │ poll ─▶ tracker ─▶ read ─▶ window ─▶ lane head  │
//! accepted ─┼─ Kafka │                      ▲                │        │
//! jobs ─────┤        └──────────────────────┼────────────────┼────────┘
//! retry.* ──┘                   parked until due             ▼
//!     ▲                                          handler task (tokio), one a person
//!     │                                                      │ outcome
//!     │              ┌──────────────── committer thread ─────▼────────┐
//!     └── retried ── │ one transaction: SMS, email, retries, dead      │
//!                    │ letters, outcomes, and the offsets they finish  │
//!                    └─────────────────────────────────────────────────┘
//! ```
//!
//! The guarantee: the records of a request's one final outcome and its offset are committed
//! together. What is finished above a partition's commit point is kept in the commit's metadata
//! ([`tag`]), so that a new owner repeats nothing. Calls to the services are outside of it: a
//! request handled again after a crash may have a second OTP created; the first was never visible.
//!
//! Pure, without Kafka or tokio: [`tag`], [`offsets`], [`lanes`], [`retry`], [`headers`],
//! [`record`], [`output`], [`state`], [`supersede`].

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use self::clients::{Connection, Quiet};
use self::consumer::{Callbacks, Consumer, Intake};
use self::core::Core;
use self::dispatch::Dispatcher;
use self::output::Writer;
use self::poison::Share;
use self::record::{Origin, Reading};
use self::state::{Bounds, Partition};
use self::transaction::{Committer, GiveBack, Note};
use self::trouble::Trouble;
use self::vitals::Vitals;
use self::window::Span;
use crate::clock::Clock;
use crate::handler::Handler;
use crate::known_topics::KnownTopics;
use crate::metrics::Metrics;
use crate::retry_topics::RetryTopics;

pub mod abilities;
pub mod admin;
pub mod advertised;
mod aside;
mod breaks;
pub mod broker_clock;
pub mod clients;
mod consumer;
mod consumer_errors;
mod consumer_watch;
mod core;
mod dispatch;
pub mod door;
mod faults;
pub mod headers;
pub mod jobs;
mod keeper;
pub mod lanes;
mod lasting;
mod membership;
pub mod offsets;
mod out_of_range;
pub mod output;
pub mod poison;
mod producer;
pub mod progress;
pub mod progress_watch;
pub mod reach;
pub mod record;
mod refused;
pub mod retry;
pub mod sender;
mod start;
pub mod state;
pub mod supersede;
pub mod tag;
pub mod tail;
mod transaction;
pub mod trial;
pub mod trouble;
pub(crate) mod unreadable;
pub mod vitals;
pub mod window;

/// What the engine consumes and by which rules.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How to reach Kafka.
    pub connection: Connection,
    /// The request topic.
    pub requests: String,
    /// The topic of jobs' requests.
    pub jobs: String,
    /// The job log, where operators let partitions go on.
    pub job_log: String,
    /// The names of retry topics.
    pub retries: RetryTopics,
    /// The bounds of what is in hand.
    pub bounds: Bounds,
    /// How times follow from a record.
    pub reading: Reading,
    /// Where results go.
    pub writer: Writer,
    /// The SMS topic, where it is the only one: while it is away, requests wait for it. Where each
    /// tenant has its own, they go on the retry topics, so that no tenant waits for another's.
    pub only_sms_topic: Option<String>,
    /// Percent of a topic's input that is a flood where it cannot be read.
    pub poison_share: u32,
    /// Over how long that is judged.
    pub poison_window: Duration,
    /// A partition with records that gives none for this long is assigned again.
    pub stall_after: Duration,
    /// The longest that the brokers let a transaction be open.
    pub longest_transaction: Duration,
    /// Results in one transaction.
    pub batch: usize,
    /// How long the committer waits for more results.
    pub linger: Duration,
    /// How long a rebalance waits for what was begun.
    pub drain: Duration,
    /// A head that has waited longer takes equal requests along; zero: none does.
    pub supersede_after: Duration,
    /// The largest record that is written, in bytes.
    pub largest_record: usize,
}

impl Settings {
    /// What a topic is to us.
    pub(crate) fn origin(&self, topic: &str) -> Option<Origin> {
        if topic == self.requests {
            Some(Origin::Requests)
        } else if topic == &*self.reading.accepted {
            Some(Origin::Accepted)
        } else if topic == self.jobs {
            Some(Origin::Jobs)
        } else {
            self.retries.delay_of(topic).map(Origin::Retry)
        }
    }

    /// Whether each topic that is consumed has one role, and what the engine writes for itself is read again.
    fn check_topics(&self) -> Result<(), EngineError> {
        let live = [
            (&*self.requests, Origin::Requests),
            (&*self.reading.accepted, Origin::Accepted),
            (&*self.jobs, Origin::Jobs),
        ];
        let tiers = self.writer.tiers.iter();
        let retries = tiers.map(|tier| (&*tier.topic, Origin::Retry(tier.delay)));
        let unread = live
            .into_iter()
            .chain(retries)
            .find(|(topic, role)| self.origin(topic) != Some(*role));
        unread.map_or(Ok(()), |(topic, _)| {
            Err(EngineError::Unread(topic.to_owned()))
        })
    }

    /// Topic names, and a pattern for every retry topic there is.
    fn subscription(&self) -> Vec<String> {
        vec![
            self.requests.clone(),
            self.reading.accepted.to_string(),
            self.jobs.clone(),
            self.retries.pattern(),
        ]
    }
}

/// Why the engine cannot start, or go on.
#[derive(Debug, Clone, thiserror::Error)]
pub enum EngineError {
    /// A client could not be made of the configuration.
    #[error("the Kafka client could not be created: {0}")]
    Client(Stopped),
    /// No broker took our transactional id in time.
    #[error("Kafka did not answer in time ({0}): check kafka.brokers, and that its brokers are up")]
    Unreachable(Stopped),
    /// The brokers answer, and refuse the producer.
    #[error("the brokers refuse the transactional id {id}: {why}")]
    Refused {
        /// The id.
        id: String,
        /// The code, and what to do.
        why: String,
    },
    /// The consumer is out of the group for good.
    #[error("the consumer cannot go on: {0}")]
    ConsumerDied(String),
    /// We may not use our transactional id.
    #[error(
        "we may not use the transactional id {0}: grant Write on it, best by its prefix, as topics/README.md lists it"
    )]
    ForbiddenId(String),
    /// A commit by a version that this one does not know.
    #[error(
        "the committed offset of {partition} carries a tag of another version of user-otp \
         (user-otp/{version}): going on would send again what is sent; run that version, or reset \
         the group's offsets to give that up"
    )]
    UnknownTag {
        /// Where it is.
        partition: Partition,
        /// What follows the mark.
        version: String,
    },
    /// The Kafka client ignores the leader of a partition whose topic was created again.
    #[error(
        "{0} is not read: its topic was created again, and the Kafka client waits for a later leader epoch; a new \
         process reads it"
    )]
    OldEpoch(Partition),
    /// Another process uses our transactional id.
    #[error(
        "another process uses the transactional id {id}: give each instance its own kafka.instance, and stop one of \
         the two"
    )]
    TwoProcesses {
        /// The id.
        id: String,
    },
    /// What is written to a topic would not be read from it.
    #[error(
        "the engine would write to {0} and not read it in that role: give every topic under topics.* a name of its \
         own, and retry.delays durations such as \"30s\" or \"1m30s\""
    )]
    Unread(String),
    /// A thread could not be started, or ended by a defect.
    #[error("the engine's {0} thread is not there")]
    Thread(&'static str),
}

/// What stopped us, in librdkafka's words. No property's value is in it.
#[derive(Debug, Clone)]
pub struct Stopped(String);

impl From<&KafkaError> for Stopped {
    fn from(error: &KafkaError) -> Self {
        // The error of a property ends with its value. A sentence about the creation names properties and files.
        if let KafkaError::ClientConfig(_, problem, property, _) = error {
            return Self(format!("{property}: {problem}"));
        }
        if let KafkaError::ClientCreation(sentence) | KafkaError::Subscription(sentence) = error {
            return Self(sentence.clone());
        }
        let code = error.rdkafka_error_code();
        Self(code.map_or_else(|| error.to_string(), |code| code.to_string()))
    }
}

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How an engine ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drained {
    /// All that was begun was finished and committed.
    Clean,
    /// The time ran out; what was begun will be handled again.
    CutShort,
}

/// A running engine.
pub struct Engine {
    core: Arc<Core>,
    threads: Option<Threads>,
    /// Dropped last, after every list that went through pause and resume.
    consumer: Option<Arc<Consumer>>,
    notes: mpsc::Sender<Note>,
}

/// A look at a running engine from outside. A cheap handle.
#[derive(Clone)]
pub struct Observer(Arc<Core>);

impl Observer {
    /// The engine in numbers, as it is now.
    #[must_use]
    pub fn gauges(&self) -> state::Gauges {
        let ends = self.0.ends.lock();
        self.0.lock().state.gauges(&ends, self.0.clock.now())
    }

    /// What share of each topic's input cannot be read.
    #[must_use]
    pub fn inputs(&self) -> Vec<Share> {
        self.0.inputs.lock().shares(self.0.clock.now())
    }

    /// The topics of which that is a flood.
    #[must_use]
    pub fn floods(&self) -> Vec<Share> {
        self.0.inputs.lock().floods(self.0.clock.now())
    }

    /// What keeps records from being read.
    #[must_use]
    pub fn consumer_troubles(&self) -> Vec<Trouble> {
        self.0.watch.lock().troubles()
    }

    /// What cannot be decoded of our own topics, and waits for an operator.
    #[must_use]
    pub fn unreadable(&self) -> Vec<(Partition, Span)> {
        let held = self.0.unreadable.lock();
        let held = held.iter();
        held.map(|(partition, range)| (partition.clone(), *range))
            .collect()
    }

    /// How long ago the request that is most overdue should have had its end.
    #[must_use]
    pub fn overdue(&self) -> Option<Duration> {
        self.0.lock().state.overdue(self.0.clock.uptime())
    }

    /// Partitions assigned to us whose start is not known yet.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.0.lock().pending.len()
    }

    /// Topics that look like retry topics and are none; their records are not read.
    #[must_use]
    pub fn foreign_topics(&self) -> BTreeSet<Arc<str>> {
        let shared = self.0.lock();
        let topics = shared.foreign.iter().map(|one| Arc::clone(&one.topic));
        topics.collect()
    }

    /// Signs of life.
    #[must_use]
    pub fn vitals(&self) -> &Vitals {
        &self.0.vitals
    }
}

struct Threads {
    intake: JoinHandle<bool>,
    committer: JoinHandle<()>,
    keeper: JoinHandle<()>,
    drain: mpsc::Sender<Duration>,
}

impl Engine {
    /// Connects, takes the transactional id over, and starts consuming. Blocks for at most
    /// `patience`.
    ///
    /// # Errors
    ///
    /// When a client cannot be created, or Kafka does not answer within `patience`.
    pub fn start<H: Handler>(
        settings: Settings,
        handler: H,
        topics: KnownTopics,
        clock: Clock,
        metrics: Metrics,
        runtime: &Handle,
        patience: Duration,
    ) -> Result<Self, EngineError> {
        settings.check_topics()?;
        let core = Arc::new(Core::new(settings, clock, metrics, topics));
        let writer = Arc::new(core.settings.writer.clone());
        let (notes, from_handlers) = mpsc::channel();
        let callbacks = Callbacks::new(Arc::clone(&core), notes.clone());
        let consumer: Consumer = core
            .settings
            .connection
            .consumer()
            .create_with_context(callbacks)
            .map_err(|error| EngineError::Client(Stopped::from(&error)))?;
        let consumer = Arc::new(consumer);
        let handler = Arc::new(handler);
        let give_back: GiveBack = {
            let handler = Arc::clone(&handler);
            Box::new(move |charge| handler.give_back(charge))
        };
        // Before the first record is taken: finding the coordinators takes half a second.
        let committer = Committer::new(
            Arc::clone(&core),
            Arc::clone(&consumer),
            Arc::clone(&writer),
            from_handlers,
            give_back,
            patience,
        )?;
        let dispatcher = Arc::new(Dispatcher::new(
            Arc::clone(&core),
            handler,
            runtime.clone(),
            notes.clone(),
            writer,
        ));
        dispatcher
            .tasks
            .spawn_on(dispatch::run_retries(Arc::clone(&dispatcher)), runtime);
        let subscription = core.settings.subscription();
        let subscription: Vec<&str> = subscription.iter().map(String::as_str).collect();
        consumer
            .subscribe(&subscription)
            .map_err(|error| EngineError::Client(Stopped::from(&error)))?;
        let threads = start_threads(&core, &consumer, dispatcher, committer)?;
        Ok(Self {
            core,
            threads: Some(threads),
            consumer: Some(consumer),
            notes,
        })
    }

    /// Signs of life.
    #[must_use]
    pub fn vitals(&self) -> Arc<Vitals> {
        Arc::clone(&self.core.vitals)
    }

    /// A look at it from outside, for metrics and health.
    #[must_use]
    pub fn observer(&self) -> Observer {
        Observer(Arc::clone(&self.core))
    }

    /// Cancelled when the engine cannot go on; [`Engine::shut_down`] says why.
    #[must_use]
    pub fn failed(&self) -> CancellationToken {
        self.core.failed.clone()
    }

    /// Stops intake, drains, commits, and leaves the group, within `deadline`. Blocks.
    ///
    /// # Errors
    ///
    /// Why the engine had failed, if it had.
    pub fn shut_down(mut self, deadline: Duration) -> Result<Drained, EngineError> {
        let until = Instant::now() + deadline;
        self.core.stopping.cancel();
        self.core.announce();
        let Some(threads) = self.threads.take() else {
            return Ok(Drained::CutShort);
        };
        // A little is left for the last commit and for leaving.
        let _ = threads.drain.send(deadline.mul_f32(0.8));
        let drained = threads
            .intake
            .join()
            .map_err(|_| EngineError::Thread("consumer"))?;
        let _ = self.notes.send(Note::End);
        while !threads.committer.is_finished() && Instant::now() < until {
            self.core.wait_until(Duration::from_millis(10), |_| false);
        }
        let committed = threads.committer.is_finished();
        if committed && let Some(consumer) = &self.consumer {
            leave(consumer, until);
        }
        // It may still wait for an answer.
        let _ = threads.keeper.join();
        if committed {
            let _ = threads.committer.join();
            // Leaves the group; it may hang when the broker is away: the caller has a hard deadline.
            drop(self.consumer.take());
        } else {
            // The committer still holds the consumer, and the process is about to end.
            std::mem::forget(self.consumer.take());
        }
        match self.core.failure() {
            Some(error) => Err(error.clone()),
            None if drained && committed => Ok(Drained::Clean),
            None => Ok(Drained::CutShort),
        }
    }
}

/// Gives the partitions back, and leaves the group: the others need not wait for the rest of our end.
fn leave(consumer: &Consumer, until: Instant) {
    consumer.unsubscribe();
    let has_partitions = || consumer.assignment().is_ok_and(|list| list.count() > 0);
    while has_partitions() && Instant::now() < until {
        // The callback runs in it.
        drop(consumer.poll(Duration::from_millis(10)));
    }
}

/// Ends the engine, and so the process, when one of its threads ends by a defect: without it the
/// others would wait for ever.
struct Sentinel {
    core: Arc<Core>,
    thread: &'static str,
}

impl Drop for Sentinel {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.core.fail(EngineError::Thread(self.thread));
        }
    }
}

fn start_threads<H: Handler>(
    core: &Arc<Core>,
    consumer: &Arc<Consumer>,
    dispatcher: Arc<Dispatcher<H>>,
    committer: Committer,
) -> Result<Threads, EngineError> {
    let reader: BaseConsumer<Quiet> = core
        .settings
        .connection
        .reader()
        .create_with_context(Quiet)
        .map_err(|error| EngineError::Client(Stopped::from(&error)))?;
    let (answer, answers) = mpsc::channel();
    let (drain, drain_for) = mpsc::channel();
    let (found, findings) = mpsc::channel();
    let spawn = |name: &'static str| std::thread::Builder::new().name(name.to_owned());
    let intake = Intake {
        consumer: Arc::clone(consumer),
        dispatcher,
        answers,
        findings,
        drain_for,
    };
    let sentinel = |thread| Sentinel {
        core: Arc::clone(core),
        thread,
    };
    let watched = sentinel("consumer");
    let intake = spawn("consumer").spawn(move || {
        let _watched = watched;
        intake.run()
    });
    let watched = sentinel("committer");
    let committer = spawn("committer").spawn(move || {
        let _watched = watched;
        committer.run();
    });
    let watched = sentinel("keeper");
    let consumer = Arc::clone(consumer);
    let keeper = spawn("keeper").spawn(move || {
        keeper::run(&watched.core, &consumer, &reader, &answer);
    });
    let watched = sentinel("inspector");
    // Nobody waits for its end: it holds nothing that another thread needs.
    spawn("inspector")
        .spawn(move || unreadable::inspect::run(&watched.core, &found))
        .map_err(|_| EngineError::Thread("inspector"))?;
    Ok(Threads {
        intake: intake.map_err(|_| EngineError::Thread("consumer"))?,
        committer: committer.map_err(|_| EngineError::Thread("committer"))?,
        keeper: keeper.map_err(|_| EngineError::Thread("keeper"))?,
        drain,
    })
}

#[cfg(test)]
mod tests;
