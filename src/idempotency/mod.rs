//! `Idempotency-Key`: the same key with the same request sends once.
//!
//! A key is *working* under a lease, *sending* from before its transaction begins until the window
//! ends, then *done*: answered 201. Every other answer forgets it. Of two at the same moment the second
//! waits for the first's answer.
//!
//! This instance's own keys are in its memory, always, and in Redis where there is one and it is well:
//! what memory does not know, Redis is asked for. So without Redis a restart forgets, and instances do
//! not know of each other's keys; while it is away, the same holds. Nothing fails because of Redis.

mod memory;
mod shared;

use std::fmt;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;

use self::memory::{Ask, Memory, Phase, Standing};
use self::shared::{Held, Step};
use crate::clock::{Clock, EpochMs};
use crate::domain::request::Submission;
use crate::store::Store;

/// How often a request that waits for another instance's answer looks for it.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// The bounds of [`Idempotency`].
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// `http.idempotency_window`: for how long a key stands for its first request.
    pub window: Duration,
    /// By when a request is answered, whatever happens: budget and confirm timeout.
    pub lease: Duration,
    /// `http.idempotency_entries`.
    pub entries: usize,
}

/// What becomes of a request that comes with a key.
#[must_use]
#[derive(Debug)]
pub enum Begin {
    /// It is the first: to be handled, under this lease.
    First(Lease),
    /// The first one was answered 201: so is this, and nothing is sent.
    Done,
    /// The first one may have been sent, and nobody knows: 503.
    Unconfirmed,
    /// The key stands for another request: 422.
    Conflict,
    /// After a whole lease others with the same key are still before this one: 503.
    Busy,
}

/// What the key is compared by.
#[derive(Clone, PartialEq, Eq)]
pub struct Fingerprint(String);

impl Fingerprint {
    /// Of tenant, number and type, as a request names them: its key is looked up before it is judged.
    #[must_use]
    pub fn of(request: &Submission) -> Self {
        let number = request.mobile().unwrap_or_default().chars();
        let digits: String = number.filter(char::is_ascii_digit).collect();
        let (kind, tenant) = (request.type_label(), request.tenant());
        Self(format!(
            "{} {digits} {}",
            kind.unwrap_or_default(),
            tenant.unwrap_or_default()
        ))
    }
}

/// It holds a number.
impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fingerprint(***)")
    }
}

/// All idempotency keys. A cheap handle.
#[derive(Clone)]
pub struct Idempotency(Arc<Inner>);

struct Inner {
    memory: Mutex<Memory>,
    /// Some key got its answer.
    answered: Notify,
    store: Option<Store>,
    bounds: Bounds,
    hasher: RandomState,
    clock: Clock,
}

impl Idempotency {
    /// No keys yet; shared through `store` where there is one.
    #[must_use]
    pub fn new(bounds: Bounds, store: Option<Store>, clock: Clock) -> Self {
        Self(Arc::new(Inner {
            memory: Mutex::new(Memory::new(bounds.entries)),
            answered: Notify::new(),
            store,
            bounds,
            hasher: RandomState::new(),
            clock,
        }))
    }

    /// Begins a request that came with `key`; waits while the same one is being handled, for a lease at
    /// most.
    pub async fn begin(&self, key: &str, fingerprint: &Fingerprint) -> Begin {
        let holder = uuid::Uuid::new_v4();
        let (request, inner) = (self.0.hasher.hash_one(&fingerprint.0), &self.0);
        let mut lease = Lease {
            inner: Arc::clone(inner),
            key: inner.hasher.hash_one(key),
            holder: holder.as_u64_pair().0,
            held: inner.store.as_ref().map(|store| Held {
                key: store.key(&format!("idempotency {key}")),
                holder: holder.simple().to_string(),
            }),
            state: LeaseState::Over,
        };
        // Whoever is the first by then has answered by then.
        let patience = inner.clock.now().plus(inner.bounds.lease);
        loop {
            let answered = inner.answered.notified();
            let now = inner.clock.now();
            let ask = Ask {
                key: lease.key,
                request,
                holder: lease.holder,
                answered_by: now.plus(inner.bounds.lease),
                until: now.plus(inner.bounds.window),
            };
            let mine = inner.memory.lock().begin(ask, now);
            let (standing, elsewhere) = match mine {
                Standing::First => {
                    // From here on a dropped future forgets the key.
                    lease.state = LeaseState::Working;
                    (lease.begin_in_store(fingerprint, &ask, now).await, true)
                }
                Standing::Busy(_) | Standing::Done | Standing::Unconfirmed | Standing::Conflict => {
                    (mine, false)
                }
            };
            let until = match standing {
                Standing::First => return Begin::First(lease),
                Standing::Busy(_) if patience <= now => return Begin::Busy,
                Standing::Busy(until) => until.min(patience),
                Standing::Done => return Begin::Done,
                Standing::Unconfirmed => return Begin::Unconfirmed,
                Standing::Conflict => return Begin::Conflict,
            };
            let left = until.left(inner.clock.now()).max(Duration::from_millis(1));
            let pause = if elsewhere {
                left.min(LOOK_EVERY)
            } else {
                left
            };
            let _ = tokio::time::timeout(pause, answered).await;
        }
    }
}

/// A key that is this request's. Dropped while working, by a defect, it is forgotten; while sending,
/// it is left as it is: nobody knows.
#[must_use]
pub struct Lease {
    inner: Arc<Inner>,
    key: u64,
    holder: u64,
    held: Option<Held>,
    state: LeaseState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LeaseState {
    Working,
    Sending,
    Over,
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lease({:?})", self.state)
    }
}

impl Lease {
    /// Its transaction is about to begin: from now on nobody else sends it. False: its lease ran out, and
    /// the key is another request's by now; nothing may be sent.
    #[must_use]
    pub async fn sending(&mut self) -> bool {
        let held = self.advance(Phase::Sending);
        if held {
            self.state = LeaseState::Sending;
        }
        let now = self.inner.clock.now();
        match self.in_store() {
            Some((store, key)) if held => shared::step(store, key, Step::Sending, now).await,
            Some(_) | None => held,
        }
    }

    /// It is committed, and answered 201.
    pub async fn done(mut self) {
        self.state = LeaseState::Over;
        self.advance(Phase::Done);
        self.inner.answered.notify_waiters();
        let now = self.inner.clock.now();
        if let Some((store, held)) = self.in_store() {
            shared::step(store, held, Step::Done, now).await;
        }
    }

    /// It is answered without knowing whether it was sent; [`Lease::done`] or [`Lease::forget`] may
    /// follow when that is known.
    pub fn unconfirmed(&mut self) {
        let now = self.inner.clock.now();
        self.inner
            .memory
            .lock()
            .leave_open(self.key, self.holder, now);
        self.later(Step::LeaveOpen);
    }

    /// It is answered otherwise, and nothing was sent.
    pub fn forget(mut self) {
        self.end();
    }

    fn advance(&self, phase: Phase) -> bool {
        let mut memory = self.inner.memory.lock();
        memory.advance(self.key, self.holder, phase)
    }

    fn end(&mut self) {
        self.state = LeaseState::Over;
        self.inner.memory.lock().forget(self.key, self.holder);
        self.later(Step::Forget);
    }

    /// Tells Redis in the background, and whoever waits here.
    fn later(&self, step: Step) {
        self.inner.answered.notify_waiters();
        if let Some((store, held)) = self.in_store() {
            shared::step_later(store, held, step, self.inner.clock.now());
        }
    }

    /// Nobody here knows the key: what another instance, or an earlier life of this one, made of it.
    async fn begin_in_store(
        &mut self,
        fingerprint: &Fingerprint,
        ask: &Ask,
        now: EpochMs,
    ) -> Standing {
        let Some((store, held)) = self.in_store() else {
            return Standing::First;
        };
        let request = store.key(&fingerprint.0);
        let window = self.inner.bounds.window;
        let standing = shared::begin(store, held, &request, ask.answered_by, window, now).await;
        let standing = standing.unwrap_or(Standing::First);
        if standing != Standing::First {
            self.state = LeaseState::Over;
            self.inner.memory.lock().forget(self.key, self.holder);
            self.inner.answered.notify_waiters();
        }
        standing
    }

    fn in_store(&self) -> Option<(&Store, &Held)> {
        self.inner.store.as_ref().zip(self.held.as_ref())
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        match self.state {
            LeaseState::Working => self.end(),
            LeaseState::Sending => self.unconfirmed(),
            LeaseState::Over => {}
        }
    }
}
