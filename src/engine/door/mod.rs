//! The HTTP door's way into Kafka: a committer of its own, with its own thread and producer, so that
//! it works where the engine is off, owns nothing, is rebalancing or hangs.
//!
//! ```text
//! request ─▶ submit ─▶ claim: waiting ─▶ one transaction: SMS, email, outcome; or the request itself
//!    ▲                                                  │
//!    └────────── committed, withdrawn, unconfirmed ─────┘
//! ```
//!
//! An HTTP request has no offset by which to tell, after a failure, whether its transaction went
//! through. So a result whose commit had been called is never sent again; one whose commit had not is
//! repeated in the next transaction, while its request still waits.

use std::fmt;
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use self::claim::{Claim, GivenUp};
use self::committer::{Committer, Entry, Note};
use self::records::{Content, Visit, Writer};
use super::clients::{Connection, Reachability};
use super::producer::Producers;
use super::vitals::Vitals;
use super::{Drained, EngineError};
use crate::clock::Clock;
use crate::metrics::Metrics;

mod claim;
mod committer;
pub mod records;

#[cfg(test)]
mod tests;

/// How the door writes.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How to reach Kafka.
    pub connection: Connection,
    /// Where its records go.
    pub writer: Writer,
    /// Results in one transaction.
    pub batch: usize,
    /// How long a transaction waits for more results.
    pub linger: Duration,
    /// The largest record that is written, in bytes.
    pub largest_record: usize,
}

/// What became of a result that was submitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Confirmation {
    /// Its messages are committed.
    Committed,
    /// The request itself is committed, for the stream to carry on with.
    Queued,
    /// Its transaction had not begun: nothing is sent.
    Withdrawn,
    /// Its transaction had begun, and nothing is known of it: it may still arrive, and is never sent
    /// again.
    Unconfirmed,
    /// A record of it is larger than its topic takes; nothing is sent.
    TooLarge,
}

/// The committer's owner.
pub struct Door {
    shared: Arc<Shared>,
    outbox: Outbox,
    thread: JoinHandle<()>,
}

/// Takes results to the committer; a cheap handle.
#[derive(Clone)]
pub struct Outbox {
    shared: Arc<Shared>,
    /// Bounded by the limit on requests at once: each has one result.
    notes: Sender<Note>,
}

/// The wait for a result's transaction.
#[must_use]
pub struct Receipt {
    claim: Arc<Claim>,
    confirmation: oneshot::Receiver<Confirmation>,
}

struct Shared {
    vitals: Arc<Vitals>,
    metrics: Metrics,
    /// Since when the transaction under way is open.
    opened: Mutex<Option<Instant>>,
    stopping: CancellationToken,
    failure: OnceLock<EngineError>,
    failed: CancellationToken,
}

impl Door {
    /// Takes the transactional id over and starts the committer. Blocks for at most `patience`.
    ///
    /// # Errors
    ///
    /// When the producer cannot be created, or Kafka does not answer within `patience`.
    pub fn start(
        settings: Settings,
        clock: Clock,
        metrics: Metrics,
        patience: Duration,
    ) -> Result<Self, EngineError> {
        let shared = Arc::new(Shared {
            vitals: Arc::default(),
            metrics,
            opened: Mutex::default(),
            stopping: CancellationToken::new(),
            failure: OnceLock::new(),
            failed: CancellationToken::new(),
        });
        let id = settings.connection.http_transactional_id();
        let producers = Producers {
            config: settings.connection.producer(&id, settings.largest_record),
            reachability: Arc::<Reachability>::default(),
            vitals: Arc::clone(&shared.vitals),
            clock: clock.clone(),
            fences: Mutex::default(),
        };
        let (notes, from_requests) = mpsc::channel();
        let deadline = Instant::now() + patience;
        let producer = producers.open_until(deadline)?;
        shared.vitals.joined();
        let committer = Committer::new(
            Arc::clone(&shared),
            settings,
            clock,
            producers,
            producer,
            from_requests,
        );
        let sentinel = Sentinel(Arc::clone(&shared));
        let thread = std::thread::Builder::new()
            .name("http-committer".into())
            .spawn(move || {
                let _sentinel = sentinel;
                committer.run();
            })
            .map_err(|_| EngineError::Thread("HTTP committer"))?;
        let outbox = Outbox {
            shared: Arc::clone(&shared),
            notes,
        };
        Ok(Self {
            shared,
            outbox,
            thread,
        })
    }

    /// A handle to submit results by.
    #[must_use]
    pub fn outbox(&self) -> Outbox {
        self.outbox.clone()
    }

    /// Signs of life of this committer and its producer.
    #[must_use]
    pub fn vitals(&self) -> Arc<Vitals> {
        Arc::clone(&self.shared.vitals)
    }

    /// Cancelled when the committer cannot go on; [`Door::shut_down`] says why.
    #[must_use]
    pub fn failed(&self) -> CancellationToken {
        self.shared.failed.clone()
    }

    /// Commits what was submitted, and ends, within `deadline`. Blocks.
    ///
    /// # Errors
    ///
    /// Why the committer had failed, if it had.
    pub fn shut_down(self, deadline: Duration) -> Result<Drained, EngineError> {
        let until = Instant::now() + deadline;
        self.shared.stopping.cancel();
        let _ = self.outbox.notes.send(Note::End);
        while !self.thread.is_finished() && Instant::now() < until {
            std::thread::park_timeout(Duration::from_millis(10));
        }
        let ended = self.thread.is_finished();
        if ended {
            let _ = self.thread.join();
        }
        match self.shared.failure.get() {
            Some(error) => Err(error.clone()),
            None if ended => Ok(Drained::Clean),
            None => Ok(Drained::CutShort),
        }
    }
}

impl Outbox {
    /// Hands a result to the committer.
    pub fn submit(&self, visit: Box<Visit>, content: Content) -> Receipt {
        let claim = Arc::<Claim>::default();
        let (reply, confirmation) = oneshot::channel();
        let entry = Entry::new(visit, content, Arc::clone(&claim), reply);
        // It ends only after the last request; else the reply is dropped, which says so.
        let _ = self.notes.send(Note::Entry(Box::new(entry)));
        Receipt {
            claim,
            confirmation,
        }
    }

    /// How long the transaction under way has been open, if there is one.
    #[must_use]
    pub fn open_for(&self) -> Option<Duration> {
        let opened = *self.shared.opened.lock();
        opened.map(|opened| opened.elapsed())
    }
}

impl Receipt {
    /// Waits until the result is committed, for at most `patience`; what has not begun by then is
    /// withdrawn.
    pub async fn confirm(&mut self, patience: Duration) -> Confirmation {
        match tokio::time::timeout(patience, &mut self.confirmation).await {
            Ok(Ok(confirmation)) => confirmation,
            // The time is over, or the committer has dropped it.
            Ok(Err(_)) | Err(_) => match self.claim.give_up() {
                GivenUp::NotBegun => Confirmation::Withdrawn,
                GivenUp::Begun => Confirmation::Unconfirmed,
            },
        }
    }

    /// What became of a result after all whose time was over, for whoever asks again; still
    /// unconfirmed where nobody will ever know.
    pub async fn late(mut self) -> Confirmation {
        self.claim.give_up();
        if self.confirmation.is_terminated() {
            // It was told already, and asking again would panic.
            return Confirmation::Unconfirmed;
        }
        let late = (&mut self.confirmation).await;
        late.unwrap_or(Confirmation::Unconfirmed)
    }
}

/// A request that goes away without waiting takes nothing with it that has not begun.
impl Drop for Receipt {
    fn drop(&mut self) {
        self.claim.give_up();
    }
}

impl Shared {
    fn fail(&self, error: EngineError) {
        tracing::error!(%error, "the HTTP door cannot go on");
        // The first reason is the one that counts.
        let _ = self.failure.set(error);
        self.failed.cancel();
    }
}

/// Ends the service when the committer ends by a defect: without it every request would be 503.
struct Sentinel(Arc<Shared>);

impl Drop for Sentinel {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.fail(EngineError::Thread("HTTP committer"));
        }
    }
}

impl fmt::Debug for Outbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Outbox")
    }
}
