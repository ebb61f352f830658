//! What idempotency keys stand for, in this process's memory: pure.
//!
//! ```text
//! (nothing) ─▶ working ─▶ sending ─▶ done
//!     ▲           │           │
//!     └── any other answer, or the lease ran out while working
//! ```

use crate::bounded::Bounded;
use crate::clock::EpochMs;

/// How far the first request of a key has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Nothing is sent yet.
    Working,
    /// Its transaction has begun: it may be sent.
    Sending,
    /// It was answered 201.
    Done,
}

/// What a key stands for at one moment, for a request that comes with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Nothing: the request is the first, and the key is now its.
    First,
    /// Somebody works on the same request, and will have answered by then.
    Busy(EpochMs),
    /// The same request was answered 201.
    Done,
    /// The same request may have been sent: nobody knows, and it is not sent again.
    Unconfirmed,
    /// Another request.
    Conflict,
}

/// Who asks, and for what.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ask {
    pub(crate) key: u64,
    /// Of the request: tenant, number and type.
    pub(crate) request: u64,
    /// Names this asker alone.
    pub(crate) holder: u64,
    /// By when the asker will have answered, if it is the first.
    pub(crate) answered_by: EpochMs,
    /// Until when the key stands for its request, if it is the first.
    pub(crate) until: EpochMs,
}

/// The keys.
#[derive(Debug)]
pub(crate) struct Memory(Bounded<Entry>);

#[derive(Debug)]
struct Entry {
    request: u64,
    holder: u64,
    phase: Phase,
    answered_by: EpochMs,
}

impl Memory {
    /// At most so many keys.
    pub(crate) fn new(entries: usize) -> Self {
        Self(Bounded::new(entries))
    }

    /// What `ask.key` stands for; where that is nothing, it now stands for this request.
    pub(crate) fn begin(&mut self, ask: Ask, now: EpochMs) -> Standing {
        let standing = self.look(ask.key, ask.request, now);
        if standing == Standing::First {
            let entry = Entry {
                request: ask.request,
                holder: ask.holder,
                phase: Phase::Working,
                answered_by: ask.answered_by,
            };
            self.0.put(ask.key, ask.until, entry);
        }
        standing
    }

    fn look(&mut self, key: u64, request: u64, now: EpochMs) -> Standing {
        self.0.forget_old(now);
        let Some(entry) = self.0.get(key) else {
            return Standing::First;
        };
        let over = entry.answered_by <= now;
        match entry.phase {
            Phase::Working if over => Standing::First,
            Phase::Working | Phase::Sending | Phase::Done if entry.request != request => {
                Standing::Conflict
            }
            Phase::Done => Standing::Done,
            Phase::Sending if over => Standing::Unconfirmed,
            Phase::Working | Phase::Sending => Standing::Busy(entry.answered_by),
        }
    }

    /// The holder goes on. False: it is no longer its.
    pub(crate) fn advance(&mut self, key: u64, holder: u64, phase: Phase) -> bool {
        let held = self.held(key, holder);
        if let Some(entry) = held {
            entry.phase = phase;
            return true;
        }
        false
    }

    /// The holder has answered without knowing whether it was sent.
    pub(crate) fn leave_open(&mut self, key: u64, holder: u64, now: EpochMs) {
        if let Some(entry) = self.held(key, holder) {
            entry.answered_by = entry.answered_by.min(now);
        }
    }

    /// The key stands for nothing again.
    pub(crate) fn forget(&mut self, key: u64, holder: u64) {
        if self.held(key, holder).is_some() {
            self.0.remove(key);
        }
    }

    fn held(&mut self, key: u64, holder: u64) -> Option<&mut Entry> {
        self.0.get_mut(key).filter(|entry| entry.holder == holder)
    }
}
