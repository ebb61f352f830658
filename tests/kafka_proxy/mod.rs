//! A proxy in front of one broker that knows Kafka's frames: it sees which request passes by, and can do to a chosen
//! one what a network can do to it.
//!
//! ```text
//! client ── requests ──▶ rules ──▶ broker
//!        ◀── answers ─── fates ◀──
//! ```
//!
//! The broker advertises the proxy's port, so that clients come back to it. A cluster has one proxy for each broker.

mod connection;
mod rules;

use std::collections::BTreeMap;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

pub(crate) use rules::{Action, Api, Rule};

/// For everything that a test waits for.
const DEADLINE: Duration = Duration::from_secs(120);

/// Listens until the process ends; costs nothing while nobody connects.
pub(crate) struct Proxy(Arc<Shared>);

/// An answer that came after its client was cut off.
pub(crate) struct LateAnswer {
    connection: u64,
    correlation: i32,
    frame: Vec<u8>,
}

impl LateAnswer {
    /// The error code of an answer to EndTxn; 0: the broker did it.
    pub(crate) fn end_txn_error(&self) -> i16 {
        // Size, correlation id, throttle time.
        i16::from_be_bytes([self.frame[12], self.frame[13]])
    }
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    /// Where the broker listens.
    broker: u16,
}

#[derive(Default)]
struct State {
    rules: Vec<Rule>,
    /// Rules that let nothing more through until they are taken away, by their number.
    blocked: Vec<Api>,
    /// Nothing gets through, in either direction.
    is_stalled: bool,
    requests: BTreeMap<Api, usize>,
    answers: BTreeMap<Api, usize>,
    held: Vec<Held>,
    late: Vec<LateAnswer>,
    /// What was done to a request by a rule, until somebody asks.
    done: Vec<(Api, Action)>,
    /// Both ends of every connection that is open, by number.
    open: BTreeMap<u64, [TcpStream; 2]>,
    connections: u64,
    /// How many connections have ended.
    ended: usize,
}

/// A request that its broker has not seen yet, and whose client is cut off.
struct Held {
    connection: u64,
    correlation: i32,
    frame: Vec<u8>,
    broker: TcpStream,
}

impl Proxy {
    /// Takes connections from `listener` and passes them on to `broker`.
    pub(crate) fn start(listener: TcpListener, broker: u16) -> Self {
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            changed: Condvar::new(),
            broker,
        });
        let accepting = Arc::clone(&shared);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                connection::join(&accepting, client);
            }
        });
        Self(shared)
    }

    /// From now on this holds as well; the first rule that fits a request decides.
    pub(crate) fn add(&self, rule: Rule) {
        self.0.lock().rules.push(rule);
    }

    /// No rule holds any more: blocked requests go on, connections that stood still are cut. What is held stays held.
    pub(crate) fn open(&self) {
        let mut state = self.0.lock();
        state.rules.clear();
        state.blocked.clear();
        state.is_stalled = false;
        drop(state);
        self.0.changed.notify_all();
    }

    /// Blocked requests go on.
    pub(crate) fn unblock(&self) {
        self.0.lock().blocked.clear();
        self.0.changed.notify_all();
    }

    /// From now on every connection stands still, until [`Proxy::open`].
    pub(crate) fn stall(&self) {
        self.0.lock().is_stalled = true;
    }

    /// What was done to requests since this was last asked.
    pub(crate) fn take_done(&self) -> Vec<(Api, Action)> {
        std::mem::take(&mut self.0.lock().done)
    }

    /// Hands the request that has been held for longest to the broker, if that still has the connection; false:
    /// it has not, or none is held.
    pub(crate) fn let_go(&self) -> bool {
        let mut state = self.0.lock();
        state.late.clear();
        if state.held.is_empty() {
            return false;
        }
        let held = state.held.remove(0);
        drop(state);
        connection::write(&held.broker, &held.frame).is_ok()
    }

    /// Cuts every connection that is open now.
    pub(crate) fn cut(&self) {
        for [client, broker] in std::mem::take(&mut self.0.lock().open).into_values() {
            let _ = client.shutdown(Shutdown::Both);
            let _ = broker.shutdown(Shutdown::Both);
        }
    }

    /// How many requests of this kind the broker has answered.
    pub(crate) fn answers(&self, api: Api) -> usize {
        self.0.lock().answers.get(&api).copied().unwrap_or(0)
    }

    /// Waits until so many requests of this kind are answered.
    #[track_caller]
    pub(crate) fn wait_answered(&self, api: Api, count: usize) {
        drop(self.wait("requests are answered", |state| {
            state
                .answers
                .get(&api)
                .is_some_and(|answers| *answers >= count)
        }));
    }

    /// Waits until so many connections more have ended.
    #[track_caller]
    pub(crate) fn wait_ended(&self, more: usize) {
        let before = self.0.lock().ended;
        drop(self.wait("connections end", |state| state.ended >= before + more));
    }

    /// Waits until every connection stands still.
    #[track_caller]
    pub(crate) fn wait_stalled(&self) {
        drop(self.wait("the connections stand still", |state| state.is_stalled));
    }

    /// Waits until a request of this kind is blocked.
    #[track_caller]
    pub(crate) fn wait_blocked(&self, api: Api) {
        drop(self.wait("a request is blocked", |state| state.blocked.contains(&api)));
    }

    /// Waits until so many requests are held.
    #[track_caller]
    pub(crate) fn wait_held(&self, count: usize) {
        drop(self.wait("requests are held", |state| state.held.len() >= count));
    }

    /// Hands the request that has been held for longest to the broker, and waits for its answer.
    #[track_caller]
    pub(crate) fn release(&self) -> LateAnswer {
        let held = self.0.lock().held.remove(0);
        connection::write(&held.broker, &held.frame).expect("the broker's end is open");
        let is_its = |late: &LateAnswer| {
            (late.connection, late.correlation) == (held.connection, held.correlation)
        };
        let mut state = self.wait("the late request is answered", |state| {
            state.late.iter().any(is_its)
        });
        let at = state.late.iter().position(is_its);
        state.late.remove(at.expect("it is there"))
    }

    #[track_caller]
    fn wait(&self, what: &str, holds: impl Fn(&State) -> bool) -> MutexGuard<'_, State> {
        let (state, waited) = self
            .0
            .changed
            .wait_timeout_while(self.0.lock(), DEADLINE, |state| !holds(state))
            .unwrap_or_else(PoisonError::into_inner);
        assert!(
            !waited.timed_out(),
            "not within {DEADLINE:?}: {what}; requests so far: {:?}",
            state.requests
        );
        state
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
