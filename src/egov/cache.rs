//! Copies of what localization and MDMS answered.
//!
//! ```text
//!              age:  0 ────── ttl ───────── 2 ttl ─────────────▶
//!   a copy is        fresh    serves on;    refreshed first; serves on
//!                             refreshed     where that fails
//!                             behind it
//! ```
//!
//! - **One flight per key.** Whoever needs what is already being fetched waits for that. A flight is a
//!   task of its own: a waiter that goes away ends its waiting, not the flight.
//! - **An old copy beats none.** A copy past its time serves at once and is refreshed behind it, so that
//!   nobody waits for localization who has a text; but one that nobody asked for in a long while is
//!   refreshed first, so that a text changed yesterday is not sent today. When a refresh fails,
//!   whether unavailable or refused, the copy serves without end, and the next refresh is
//!   [`REFRESH_PAUSE`] away. Without a copy the request fails as unavailable.
//! - **Strangers choose keys** (tenants, locales), so there are two places, each bounded. Good copies are
//!   *kept*: no newcomer evicts one, unless it is pinned and the other is not, or the other was not
//!   asked for in [`IDLE`]. Everything else, answers without content above all, is *passing*: a cache
//!   that prefers what is asked for often, so that a flood of made-up keys, each seen once, pushes out
//!   mostly itself.
//!
//! Flights are bounded by the service's permits: a fetch that gets none at once has failed. What
//! an answer says is taken as it is: an empty one replaces a good copy.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use moka::sync::Cache as Passing;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{Call, CallError};
use crate::clock::{Clock, EpochMs};

/// From a failed refresh to the next: an outage is not made worse by those who have a copy.
const REFRESH_PAUSE: Duration = Duration::from_secs(5);

/// How long a kept copy is kept from newcomers though nobody asks for it.
const IDLE: Duration = Duration::from_secs(24 * 60 * 60);

/// How long copies are fresh, and how many there are.
#[derive(Debug)]
pub(super) struct Settings<V> {
    /// Of a good copy; none: for ever.
    pub(super) ttl: Option<Duration>,
    /// Of an answer without content.
    pub(super) empty_ttl: Duration,
    /// Kept copies, and passing ones again.
    pub(super) entries: usize,
    /// Whether an answer has no content.
    pub(super) is_empty: fn(&V) -> bool,
}

/// Which copies go first when there are too many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keep {
    /// Configured: takes the place of a usual one.
    Pinned,
    /// Everything else.
    Usual,
}

/// The tasks that fetch in the background. A cheap handle.
#[derive(Debug, Clone, Default)]
pub(super) struct Background {
    tasks: TaskTracker,
    closing: CancellationToken,
}

impl Background {
    /// Ends all tasks, and waits for the end.
    pub(super) async fn close(&self) {
        self.closing.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// Copies by key.
#[derive(Debug)]
pub(super) struct Cache<K: Key, V: Value> {
    state: Arc<Mutex<State<K, V>>>,
    clock: Clock,
    background: Background,
}

/// What can be a key.
pub(super) trait Key: Hash + Eq + Clone + Send + Sync + 'static {}
impl<K: Hash + Eq + Clone + Send + Sync + 'static> Key for K {}

/// What can be cached.
pub(super) trait Value: Send + Sync + 'static {}
impl<V: Send + Sync + 'static> Value for V {}

#[derive(Debug)]
struct State<K: Key, V: Value> {
    settings: Settings<V>,
    kept: HashMap<K, Copy<V>>,
    passing: Passing<K, Copy<V>>,
    flights: HashMap<K, Landing<V>>,
}

/// An answer, and what is to know about its age.
#[derive(Debug)]
struct Copy<V> {
    value: Arc<V>,
    keep: Keep,
    /// When it was answered.
    since: EpochMs,
    /// When it was last asked for.
    asked: EpochMs,
    /// Since a refresh failed: when the next may be tried.
    rests_until: Option<EpochMs>,
}

impl<V> Clone for Copy<V> {
    fn clone(&self) -> Self {
        Self {
            value: Arc::clone(&self.value),
            ..*self
        }
    }
}

type Landed<V> = Result<Arc<V>, CallError>;
type Landing<V> = watch::Receiver<Option<Landed<V>>>;

/// What a look at the cache says.
enum Look<V> {
    /// This serves.
    Copy(Arc<V>),
    /// This is on its way, with what serves if it does not arrive.
    Flight(Landing<V>, Option<Arc<V>>),
    /// There is none, and it is too late to ask.
    TooLate,
}

impl<K: Key, V: Value> Cache<K, V> {
    pub(super) fn new(settings: Settings<V>, clock: Clock, background: Background) -> Self {
        let most = u64::try_from(settings.entries).unwrap_or(u64::MAX);
        Self {
            state: Arc::new(Mutex::new(State {
                settings,
                kept: HashMap::new(),
                passing: Passing::new(most),
                flights: HashMap::new(),
            })),
            clock,
            background,
        }
    }

    /// The copy, or what `fetch` brings. It may be dropped at any point; what is being fetched
    /// arrives for the others.
    ///
    /// Never [`CallError::Refused`]: where nothing was ever answered, that is an outage.
    pub(super) async fn get<F>(
        &self,
        key: K,
        keep: Keep,
        call: &Call<'_>,
        fetch: impl FnOnce() -> F,
    ) -> Landed<V>
    where
        F: Future<Output = Result<V, CallError>> + Send + 'static,
    {
        let (mut landing, stale) = match self.look(key, keep, call, fetch) {
            Look::Copy(value) => return Ok(value),
            Look::TooLate => return Err(CallError::too_late()),
            Look::Flight(landing, stale) => (landing, stale),
        };
        let left = call.deadline.left(self.clock.now());
        let landed = tokio::select! {
            biased;
            landed = arrival(&mut landing) => landed,
            () = call.stop.cancelled() => Err(CallError::Abandoned),
            () = tokio::time::sleep(left) => Err(CallError::too_late()),
        };
        match (landed, stale) {
            (Ok(value), _) => Ok(value),
            (Err(CallError::Abandoned), _) => Err(CallError::Abandoned),
            (Err(_), Some(stale)) => Ok(stale),
            (Err(CallError::Refused { .. }), None) => Err(CallError::busy()),
            (Err(outage @ CallError::Unavailable { .. }), None) => Err(outage),
        }
    }

    fn look<F>(&self, key: K, keep: Keep, call: &Call<'_>, fetch: impl FnOnce() -> F) -> Look<V>
    where
        F: Future<Output = Result<V, CallError>> + Send + 'static,
    {
        let now = self.clock.now();
        let mut state = self.state.lock();
        let copy = state.find(&key, now);
        if let Some(copy) = &copy
            && state.serves_alone(copy, now)
        {
            return Look::Copy(Arc::clone(&copy.value));
        }
        let overdue = copy.as_ref().is_none_or(|copy| state.is_overdue(copy, now));
        let landing = match state.flights.get(&key) {
            Some(landing) => landing.clone(),
            None if call.deadline <= now => {
                return copy.map_or(Look::TooLate, |copy| Look::Copy(copy.value));
            }
            None => {
                let (sender, landing) = watch::channel(None);
                state.flights.insert(key.clone(), landing.clone());
                // A runtime that ends drops a task where it is spawned, and the flight's end
                // takes the lock.
                drop(state);
                let flight = Flight {
                    state: Arc::clone(&self.state),
                    key,
                    keep,
                    sender,
                };
                self.launch(flight, fetch());
                landing
            }
        };
        match copy {
            Some(copy) if !overdue => Look::Copy(copy.value),
            copy => Look::Flight(landing, copy.map(|copy| copy.value)),
        }
    }

    fn launch(
        &self,
        flight: Flight<K, V>,
        fetch: impl Future<Output = Result<V, CallError>> + Send + 'static,
    ) {
        let clock = self.clock.clone();
        let closing = self.background.closing.clone();
        self.background.tasks.spawn(async move {
            let result = tokio::select! {
                biased;
                () = closing.cancelled() => Err(CallError::busy()),
                result = fetch => result,
            };
            flight.land(result, clock.now());
        });
    }
}

async fn arrival<V>(landing: &mut Landing<V>) -> Landed<V> {
    // The sender is gone without a word only when the runtime ends or the fetch panicked.
    let landed = landing.wait_for(Option::is_some).await;
    landed
        .map_or(None, |landed| landed.clone())
        .unwrap_or_else(|| Err(CallError::busy()))
}

/// One fetch under way. Dropped without landing, it leaves no trace.
struct Flight<K: Key, V: Value> {
    state: Arc<Mutex<State<K, V>>>,
    key: K,
    keep: Keep,
    sender: watch::Sender<Option<Landed<V>>>,
}

impl<K: Key, V: Value> Flight<K, V> {
    fn land(self, result: Result<V, CallError>, now: EpochMs) {
        let landed = result.map(Arc::new);
        let mut state = self.state.lock();
        match &landed {
            Ok(value) => state.store(self.key.clone(), Arc::clone(value), self.keep, now),
            Err(_) => state.rest(&self.key, now),
        }
        // In the same breath, or somebody would find neither the flight nor what it brought.
        state.flights.remove(&self.key);
        drop(state);
        self.sender.send_replace(Some(landed));
    }
}

impl<K: Key, V: Value> Drop for Flight<K, V> {
    fn drop(&mut self) {
        let mut state = self.state.lock();
        let ours = |landing: &Landing<V>| landing.same_channel(&self.sender.subscribe());
        if state.flights.get(&self.key).is_some_and(ours) {
            state.flights.remove(&self.key);
        }
    }
}

impl<K: Key, V: Value> State<K, V> {
    fn find(&mut self, key: &K, now: EpochMs) -> Option<Copy<V>> {
        if let Some(copy) = self.kept.get_mut(key) {
            copy.asked = now;
            return Some(copy.clone());
        }
        self.passing.get(key)
    }

    /// Whether it serves without a refresh.
    fn serves_alone(&self, copy: &Copy<V>, now: EpochMs) -> bool {
        let fresh = self.ttl(copy).is_none_or(|ttl| now < copy.since.plus(ttl));
        fresh || copy.rests_until.is_some_and(|until| now < until)
    }

    /// Whether it is so old that a refresh comes first, unless one has failed.
    fn is_overdue(&self, copy: &Copy<V>, now: EpochMs) -> bool {
        let twice = self.ttl(copy).map(|ttl| ttl.saturating_mul(2));
        copy.rests_until.is_none() && twice.is_some_and(|age| now >= copy.since.plus(age))
    }

    fn ttl(&self, copy: &Copy<V>) -> Option<Duration> {
        if (self.settings.is_empty)(&copy.value) {
            return Some(self.settings.empty_ttl);
        }
        self.settings.ttl
    }

    fn store(&mut self, key: K, value: Arc<V>, keep: Keep, now: EpochMs) {
        let good = !(self.settings.is_empty)(&value);
        let copy = Copy {
            value,
            keep,
            since: now,
            asked: now,
            rests_until: None,
        };
        if good && self.make_room(&key, keep, now) {
            self.passing.invalidate(&key);
            self.kept.insert(key, copy);
        } else {
            self.kept.remove(&key);
            self.passing.insert(key, copy);
        }
    }

    /// Whether there is a place for a good copy, if need be another's.
    fn make_room(&mut self, key: &K, keep: Keep, now: EpochMs) -> bool {
        if self.kept.contains_key(key) || self.kept.len() < self.settings.entries {
            return true;
        }
        let yields = |copy: &Copy<V>| {
            let idle = copy.asked.age(now) >= IDLE;
            idle || (keep == Keep::Pinned && copy.keep == Keep::Usual)
        };
        let longest_unasked = self
            .kept
            .iter()
            .filter(|(_, copy)| yields(copy))
            .min_by_key(|(_, copy)| copy.asked)
            .map(|(key, _)| key.clone());
        let Some(other) = longest_unasked else {
            return false;
        };
        if let Some(copy) = self.kept.remove(&other) {
            self.passing.insert(other, copy);
        }
        true
    }

    /// A refresh failed.
    fn rest(&mut self, key: &K, now: EpochMs) {
        let until = Some(now.plus(REFRESH_PAUSE));
        if let Some(copy) = self.kept.get_mut(key) {
            copy.rests_until = until;
        } else if let Some(mut copy) = self.passing.get(key) {
            copy.rests_until = until;
            self.passing.insert(key.clone(), copy);
        }
    }
}
