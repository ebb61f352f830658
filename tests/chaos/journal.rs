//! What was done to whom, how long nothing came out then, and whatever else went wrong.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A silence shorter than this is none.
const BREATH: Duration = Duration::from_secs(1);

/// On whom a fault is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Whom {
    Process,
    Broker,
    Topic,
    Permission,
    Packet,
    Redis,
    Service,
}

pub(crate) struct Journal {
    begin: Instant,
    file: Mutex<std::fs::File>,
    state: Mutex<State>,
}

struct State {
    faults: BTreeMap<(Whom, String), Fault>,
    /// The latest on a process, on a broker, on topics or on what may be done.
    latest: Option<(Whom, String)>,
    heard: Instant,
    odd: Vec<String>,
}

#[derive(Clone, Copy, Default)]
pub(crate) struct Fault {
    pub(crate) times: usize,
    /// The longest time without an outcome that ended after one of these and before the next fault
    /// of such a kind.
    pub(crate) silence: Duration,
}

impl Journal {
    pub(crate) fn new(file: std::fs::File) -> Self {
        Self {
            begin: Instant::now(),
            file: Mutex::new(file),
            state: Mutex::new(State {
                faults: BTreeMap::new(),
                latest: None,
                heard: Instant::now(),
                odd: Vec::new(),
            }),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a fault that begins now.
    pub(crate) fn fault(&self, whom: Whom, kind: &str, detail: &str) {
        self.note(&format!("{whom:?} {kind} {detail}"));
        let mut state = self.state();
        let key = (whom, kind.to_owned());
        state.faults.entry(key.clone()).or_default().times += 1;
        match whom {
            Whom::Process | Whom::Broker | Whom::Topic | Whom::Permission => {
                state.latest = Some(key);
            }
            // So many that each would take the blame for what others did.
            Whom::Packet | Whom::Redis | Whom::Service => {}
        }
    }

    /// Writes down what else happens.
    pub(crate) fn note(&self, text: &str) {
        let at = self.begin.elapsed().as_secs_f64();
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = writeln!(file, "{at:9.3} {text}");
    }

    /// Writes down what should not happen, for the report as well.
    pub(crate) fn odd(&self, text: String) {
        self.note(&text);
        self.state().odd.push(text);
    }

    pub(crate) fn oddities(&self) -> Vec<String> {
        self.state().odd.clone()
    }

    /// An outcome came.
    pub(crate) fn pulse(&self) {
        let mut state = self.state();
        let silence = state.heard.elapsed();
        state.heard = Instant::now();
        if silence < BREATH {
            return;
        }
        if let Some(latest) = state.latest.clone()
            && let Some(fault) = state.faults.get_mut(&latest)
        {
            fault.silence = fault.silence.max(silence);
        }
        drop(state);
        self.note(&format!(
            "nothing for {:.1} s until now",
            silence.as_secs_f64()
        ));
    }

    /// The latest fault that can silence everything.
    pub(crate) fn latest(&self) -> String {
        let latest = self.state().latest.clone();
        latest.map_or("none".to_owned(), |(whom, kind)| format!("{whom:?} {kind}"))
    }

    pub(crate) fn faults(&self) -> BTreeMap<(Whom, String), Fault> {
        self.state().faults.clone()
    }
}
