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

/// What a copy takes besides its value, about: its key, and its place.
const COPY_BYTES: usize = 512;

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
    /// Bytes of kept copies, and of passing ones again.
    pub(super) bytes: usize,
    /// About the bytes of an answer.
    pub(super) size: fn(&V) -> usize,
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
    /// Of all that are kept.
    kept_bytes: usize,
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
        // Each weighs as much as its share, or more: so both bounds hold.
        let share = (settings.bytes / settings.entries).max(1);
        let (most, size) = (settings.bytes as u64, settings.size);
        let passing = Passing::builder()
            .max_capacity(most)
            .weigher(move |_, copy: &Copy<V>| {
                let bytes = (size(&copy.value) + COPY_BYTES).max(share);
                u32::try_from(bytes).unwrap_or(u32::MAX)
            })
            .build();
        Self {
            state: Arc::new(Mutex::new(State {
                settings,
                kept: HashMap::new(),
                kept_bytes: 0,
                passing,
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
        self.unkeep(&key);
        if good && self.make_room(&copy, now) {
            self.passing.invalidate(&key);
            self.kept_bytes += self.bytes(&copy);
            self.kept.insert(key, copy);
        } else {
            self.passing.insert(key, copy);
        }
    }

    fn bytes(&self, copy: &Copy<V>) -> usize {
        (self.settings.size)(&copy.value) + COPY_BYTES
    }

    fn unkeep(&mut self, key: &K) -> Option<Copy<V>> {
        let copy = self.kept.remove(key)?;
        self.kept_bytes -= self.bytes(&copy);
        Some(copy)
    }

    /// Whether there is a place for a good copy, if need be others'.
    fn make_room(&mut self, new: &Copy<V>, now: EpochMs) -> bool {
        let bytes = self.bytes(new);
        if bytes > self.settings.bytes {
            return false;
        }
        let yields = |copy: &Copy<V>| {
            let idle = copy.asked.age(now) >= IDLE;
            idle || (new.keep == Keep::Pinned && copy.keep == Keep::Usual)
        };
        while self.kept.len() >= self.settings.entries
            || self.kept_bytes + bytes > self.settings.bytes
        {
            let longest_unasked = self
                .kept
                .iter()
                .filter(|(_, copy)| yields(copy))
                .min_by_key(|(_, copy)| copy.asked)
                .map(|(key, _)| key.clone());
            let Some(other) = longest_unasked else {
                return false;
            };
            if let Some(copy) = self.unkeep(&other) {
                self.passing.insert(other, copy);
            }
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

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Context, Poll, Waker};

    use tokio::sync::Notify;

    use super::super::{AtFloor, Queue};
    use super::*;

    const START: EpochMs = EpochMs(1_732_346_880_000);
    const TTL: Duration = Duration::from_secs(600);
    const EMPTY_TTL: Duration = Duration::from_secs(60);

    /// A cache of strings, the empty one without content; and a source that answers what it is
    /// told to.
    struct World {
        cache: Cache<u32, String>,
        clock: Clock,
        stop: CancellationToken,
        fetches: Arc<AtomicUsize>,
    }

    impl World {
        fn new(entries: usize) -> Self {
            Self::with_ttl(entries, Some(TTL))
        }

        fn with_ttl(entries: usize, ttl: Option<Duration>) -> Self {
            Self::bounded(entries, 1_000_000, ttl)
        }

        fn bounded(entries: usize, bytes: usize, ttl: Option<Duration>) -> Self {
            let clock = Clock::fixed(START);
            let settings = Settings {
                ttl,
                empty_ttl: EMPTY_TTL,
                entries,
                bytes,
                size: String::len,
                is_empty: String::is_empty,
            };
            Self {
                cache: Cache::new(settings, clock.clone(), Background::default()),
                clock,
                stop: CancellationToken::new(),
                fetches: Arc::default(),
            }
        }

        fn call(&self) -> Call<'_> {
            Call {
                correlation_id: None,
                traceparent: None,
                tenant_header: None,
                deadline: self.clock.now().plus(Duration::from_secs(300)),
                queue: Queue::Live,
                at_floor: AtFloor::Wait,
                stop: &self.stop,
            }
        }

        fn fetches(&self) -> usize {
            self.fetches.load(Ordering::SeqCst)
        }

        fn pass(&self, time: Duration) {
            self.clock.set(self.clock.now().plus(time));
        }

        /// Asks for a key whose source answers `answer`.
        async fn get(&self, key: u32, keep: Keep, answer: Answer) -> Result<String, CallError> {
            let fetches = Arc::clone(&self.fetches);
            let fetch = || async move {
                fetches.fetch_add(1, Ordering::SeqCst);
                answer.map(str::to_owned)
            };
            let found = self.cache.get(key, keep, &self.call(), fetch).await;
            found.map(|value| value.to_string())
        }

        async fn ask(&self, key: u32, answer: Answer) -> Result<String, CallError> {
            self.get(key, Keep::Usual, answer).await
        }

        /// Lets the background come to rest.
        async fn settle(&self) {
            self.cache.background.tasks.close();
            self.cache.background.tasks.wait().await;
            self.cache.background.tasks.reopen();
        }

        /// Asks for a key whose source answers when `gate` opens.
        async fn wait(&self, key: u32, gate: Arc<Notify>) -> Result<String, CallError> {
            let fetches = Arc::clone(&self.fetches);
            let fetch = || async move {
                fetches.fetch_add(1, Ordering::SeqCst);
                gate.notified().await;
                Ok("at last".to_owned())
            };
            let found = self.cache.get(key, Keep::Usual, &self.call(), fetch).await;
            found.map(|value| value.to_string())
        }
    }

    type Answer = Result<&'static str, CallError>;
    const OUTAGE: Answer = Err(CallError::Unavailable {
        code: crate::outcome::Code::ServiceTimeout,
        retry_after: None,
    });
    const REFUSED: Answer = Err(CallError::Refused { status: 403 });

    fn good(text: &str) -> Result<String, CallError> {
        Ok(text.to_owned())
    }

    #[tokio::test]
    async fn a_fresh_copy_serves_alone_until_its_time() {
        let world = World::new(10);
        assert_eq!(world.ask(1, Ok("a")).await, good("a"));
        world.pass(TTL - Duration::from_millis(1));
        assert_eq!(world.ask(1, Ok("b")).await, good("a"));
        world.settle().await;
        assert_eq!(world.fetches(), 1);
    }

    #[tokio::test]
    async fn copies_are_kept_within_their_bytes() {
        const TEXT: &str = "a text of thirty-two characters.";
        let most = 3 * (TEXT.len() + COPY_BYTES);
        let world = World::bounded(1_000, most, Some(TTL));
        for key in 0..100 {
            assert_eq!(world.ask(key, Ok(TEXT)).await, good(TEXT));
        }
        let state = world.cache.state.lock();
        assert_eq!((state.kept.len(), state.kept_bytes), (3, most));
        state.passing.run_pending_tasks();
        let passing = state.passing.weighted_size();
        assert!(passing <= most as u64, "{passing} bytes of {most}");
    }

    #[tokio::test]
    async fn a_copy_larger_than_all_bytes_serves_once_and_is_not_kept() {
        let world = World::bounded(10, COPY_BYTES, Some(TTL));
        assert_eq!(world.ask(1, Ok("large")).await, good("large"));
        let state = world.cache.state.lock();
        assert_eq!((state.kept.len(), state.kept_bytes), (0, 0));
    }

    #[tokio::test]
    async fn an_old_copy_serves_at_once_and_is_refreshed_behind() {
        let world = World::new(10);
        world.ask(1, Ok("a")).await.unwrap();
        world.pass(TTL);
        assert_eq!(world.ask(1, Ok("b")).await, good("a"));
        world.settle().await;
        assert_eq!(world.ask(1, Ok("c")).await, good("b"));
        assert_eq!(world.fetches(), 2);
    }

    #[tokio::test]
    async fn a_copy_nobody_asked_for_in_long_is_refreshed_first() {
        let world = World::new(10);
        world.ask(1, Ok("a")).await.unwrap();
        world.pass(TTL * 2);
        assert_eq!(world.ask(1, Ok("b")).await, good("b"));
    }

    #[tokio::test]
    async fn an_outage_does_not_end_a_copy_nor_is_it_made_worse() {
        for failure in [OUTAGE, REFUSED] {
            let world = World::new(10);
            world.ask(1, Ok("a")).await.unwrap();
            world.pass(TTL * 1_000);
            assert_eq!(world.ask(1, failure.clone()).await, good("a"));
            assert_eq!(world.fetches(), 2);
            world.pass(REFRESH_PAUSE - Duration::from_millis(1));
            assert_eq!(world.ask(1, failure.clone()).await, good("a"));
            world.settle().await;
            assert_eq!(world.fetches(), 2, "it was left alone");
            world.pass(Duration::from_millis(1));
            assert_eq!(world.ask(1, Ok("b")).await, good("a"), "nobody waits");
            world.settle().await;
            assert_eq!(world.ask(1, Ok("c")).await, good("b"));
            assert_eq!(world.fetches(), 3);
        }
    }

    #[tokio::test]
    async fn without_a_copy_there_is_an_outage() {
        let world = World::new(10);
        let outage = OUTAGE.map(str::to_owned);
        assert_eq!(world.ask(1, OUTAGE).await, outage);
        assert_eq!(world.ask(1, REFUSED).await, Err(CallError::busy()));
        assert_eq!(
            world.ask(1, Ok("a")).await,
            good("a"),
            "failures are not kept"
        );
    }

    #[tokio::test]
    async fn an_answer_without_content_has_a_time_of_its_own() {
        let world = World::with_ttl(10, None);
        assert_eq!(world.ask(1, Ok("")).await, good(""));
        world.pass(EMPTY_TTL - Duration::from_millis(1));
        assert_eq!(world.ask(1, Ok("a")).await, good(""));
        assert_eq!(world.fetches(), 1);
        world.pass(EMPTY_TTL * 2);
        assert_eq!(world.ask(1, Ok("a")).await, good("a"));
        world.pass(TTL * 1_000);
        assert_eq!(
            world.ask(1, Ok("b")).await,
            good("a"),
            "this one is for ever"
        );
        assert_eq!(world.fetches(), 2);
    }

    #[tokio::test]
    async fn an_empty_answer_replaces_a_good_copy() {
        let world = World::new(10);
        world.ask(1, Ok("a")).await.unwrap();
        world.pass(TTL * 2);
        assert_eq!(world.ask(1, Ok("")).await, good(""));
        assert_eq!(world.ask(1, Ok("b")).await, good(""));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn many_who_ask_share_one_flight() {
        let world = Arc::new(World::new(10));
        let gate = Arc::new(Notify::new());
        let tasks = TaskTracker::new();
        let handles: Vec<_> = (0..50)
            .map(|_| {
                let (world, gate) = (Arc::clone(&world), Arc::clone(&gate));
                tasks.spawn(async move { world.wait(1, gate).await })
            })
            .collect();
        gate.notify_one();
        for handle in handles {
            assert_eq!(handle.await.unwrap(), good("at last"));
        }
        assert_eq!(world.fetches(), 1);
    }

    #[tokio::test]
    async fn a_waiter_that_goes_away_leaves_the_flight_to_the_others() {
        let world = World::new(10);
        let gate = Arc::new(Notify::new());
        let mut first = Box::pin(world.wait(1, Arc::clone(&gate)));
        let mut second = pin!(world.wait(1, Arc::clone(&gate)));
        assert!(is_pending(first.as_mut()));
        assert!(is_pending(second.as_mut()));
        drop(first);
        gate.notify_one();
        assert_eq!(second.await, good("at last"));
        assert_eq!(world.fetches(), 1);
    }

    #[tokio::test]
    async fn who_is_told_to_stop_does_not_wait() {
        let world = World::new(10);
        let gate = Arc::new(Notify::new());
        let mut waits = pin!(world.wait(1, Arc::clone(&gate)));
        assert!(is_pending(waits.as_mut()));
        world.stop.cancel();
        assert_eq!(waits.await, Err(CallError::Abandoned));
        gate.notify_one();
        world.settle().await;
        assert_eq!(world.ask(1, OUTAGE).await, good("at last"));
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_beyond_their_deadline() {
        let world = World::new(10);
        let never = Arc::new(Notify::new());
        assert_eq!(world.wait(1, never).await, Err(CallError::too_late()));
        let call = Call {
            deadline: START,
            ..world.call()
        };
        let fetch = || async { good("asked all the same") };
        let found = world.cache.get(2, Keep::Usual, &call, fetch).await;
        assert_eq!(found, Err(CallError::too_late()));
    }

    #[tokio::test]
    async fn a_fetch_that_panics_is_an_outage_and_the_next_one_flies() {
        let world = World::new(10);
        let fetch = || async { panic!("a defect") };
        let found = world.cache.get(1, Keep::Usual, &world.call(), fetch).await;
        assert_eq!(found, Err(CallError::busy()));
        assert_eq!(world.ask(1, Ok("a")).await, good("a"));
    }

    #[tokio::test]
    async fn strangers_neither_evict_good_copies_nor_grow_memory() {
        let world = World::new(10);
        for key in 0..10 {
            world.ask(key, Ok("good")).await.unwrap();
        }
        for key in 100..2_100 {
            let answer = if key % 2 == 0 { "" } else { "made up" };
            world.ask(key, Ok(answer)).await.unwrap();
        }
        let fetches = world.fetches();
        world.pass(TTL);
        for key in 0..10 {
            assert_eq!(world.ask(key, OUTAGE).await, good("good"));
        }
        world.settle().await;
        assert_eq!(world.fetches(), fetches + 10, "each was tried once");
        let state = world.cache.state.lock();
        state.passing.run_pending_tasks();
        assert_eq!(state.kept.len(), 10);
        assert!(state.passing.entry_count() <= 10);
        assert!(state.flights.is_empty());
    }

    #[tokio::test]
    async fn what_is_asked_for_often_survives_a_flood_though_all_places_are_taken() {
        let world = World::new(10);
        for key in 0..10 {
            world.ask(key, Ok("squatter")).await.unwrap();
        }
        for key in 100..1_100 {
            world.ask(50, Ok("regular")).await.unwrap();
            world.ask(key, Ok("made up")).await.unwrap();
        }
        assert_eq!(world.ask(50, OUTAGE).await, good("regular"));
    }

    #[tokio::test]
    async fn pinned_copies_take_the_places_of_usual_ones() {
        let world = World::new(2);
        world.ask(1, Ok("usual")).await.unwrap();
        world.ask(2, Ok("usual")).await.unwrap();
        for key in [11, 12] {
            world.get(key, Keep::Pinned, Ok("pinned")).await.unwrap();
        }
        for key in 100..200 {
            world.get(key, Keep::Pinned, Ok("made up")).await.unwrap();
        }
        let state = world.cache.state.lock();
        assert!(state.kept.contains_key(&11) && state.kept.contains_key(&12));
    }

    #[tokio::test]
    async fn a_copy_nobody_asks_for_in_a_day_makes_room() {
        let world = World::with_ttl(2, None);
        world.ask(1, Ok("idle")).await.unwrap();
        world.pass(IDLE / 2);
        world.ask(2, Ok("busy")).await.unwrap();
        world.pass(IDLE / 2);
        world.ask(3, Ok("new")).await.unwrap();
        let state = world.cache.state.lock();
        assert!(state.kept.contains_key(&2) && state.kept.contains_key(&3));
    }

    fn is_pending<F: Future>(future: std::pin::Pin<&mut F>) -> bool {
        let mut context = Context::from_waker(Waker::noop());
        matches!(future.poll(&mut context), Poll::Pending)
    }
}
