//! Signs of life, for health and for the watchdog.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::refused::{LastRefusal, Refused};

/// A rebalance takes less. A consumer that has been on its way into the group for longer is not in it.
const REBALANCE: Duration = Duration::from_secs(30);

/// A failure that is longer ago says nothing about now.
const FAILING: Duration = Duration::from_secs(60);

/// When the poll loop last turned, and since when a producer call has been under way.
#[derive(Debug)]
pub struct Vitals {
    started: Instant,
    /// Milliseconds in which the process did not run: they count for nothing.
    stood: AtomicU64,
    /// Milliseconds after `started`.
    polled: AtomicU64,
    /// Milliseconds after `started`, plus one; 0 while no call is under way.
    call: AtomicU64,
    /// The consumer had an assignment, and it was not lost since.
    joined: AtomicBool,
    /// Since when the consumer has been on its way into the group; coded as `call`.
    joining: AtomicU64,
    /// Since when there has been something to commit that is not committed; coded as `call`.
    unconfirmed: AtomicU64,
    /// Since when every transaction has gone through; coded as `call`.
    committing: AtomicU64,
    /// When the last one did; coded as `call`.
    committed: AtomicU64,
    /// A transaction with results went through, once.
    has_served: AtomicBool,
    /// Since when each transaction with results has failed; coded as `call`.
    failing: AtomicU64,
    /// When the last one did; coded as `call`.
    failed: AtomicU64,
    /// For longer than is allowed.
    stalled: AtomicBool,
    /// Why the brokers refuse the consumer.
    pub(crate) consumer: LastRefusal,
    /// Why they refuse the producer.
    pub(crate) producer: LastRefusal,
}

impl Default for Vitals {
    fn default() -> Self {
        Self {
            started: Instant::now(),
            stood: AtomicU64::new(0),
            polled: AtomicU64::new(0),
            call: AtomicU64::new(0),
            joined: AtomicBool::new(false),
            joining: AtomicU64::new(0),
            unconfirmed: AtomicU64::new(0),
            committing: AtomicU64::new(0),
            committed: AtomicU64::new(0),
            has_served: AtomicBool::new(false),
            failing: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            stalled: AtomicBool::new(false),
            consumer: LastRefusal::of(Refused::Consumer),
            producer: LastRefusal::of(Refused::Producer),
        }
    }
}

impl Vitals {
    /// How long ago the poll loop last turned.
    #[must_use]
    pub fn since_poll(&self) -> Duration {
        self.elapsed_since(self.polled.load(Ordering::Relaxed))
    }

    /// How long the producer call under way has been waiting, if there is one.
    #[must_use]
    pub fn call_age(&self) -> Option<Duration> {
        self.age(&self.call)
    }

    /// For how long there has been something to commit that Kafka did not confirm, over all attempts.
    #[must_use]
    pub fn unconfirmed_for(&self) -> Option<Duration> {
        self.age(&self.unconfirmed)
    }

    /// For how long transactions have been going through, without one that did not.
    #[must_use]
    pub fn committing_for(&self) -> Option<Duration> {
        self.age(&self.committing)
    }

    /// How long ago the last transaction went through.
    #[must_use]
    pub fn since_commit(&self) -> Option<Duration> {
        self.age(&self.committed)
    }

    /// Whether the consumer is in its group.
    #[must_use]
    pub fn has_joined(&self) -> bool {
        let joining = self.age(&self.joining).unwrap_or_default();
        self.joined.load(Ordering::Relaxed) && joining < REBALANCE
    }

    /// Names the producer call under way, if there is one.
    #[must_use]
    pub fn call(&self) -> Option<u64> {
        Some(self.call.load(Ordering::Relaxed)).filter(|since| *since > 0)
    }

    /// Names the time since when each transaction with results has failed. None: they do not, the brokers name a
    /// reason, which health shows, or none has gone through since the start, so that a new process would do no better.
    #[must_use]
    pub fn failing_since(&self) -> Option<u64> {
        let lately = self.age(&self.failed)? < FAILING;
        let unnamed = self.producer.current().is_none();
        let counts = lately && unnamed && self.has_served.load(Ordering::Relaxed);
        let since = self.failing.load(Ordering::Relaxed);
        (counts && since > 0).then_some(since)
    }

    /// Whether they have failed for longer than is allowed, though brokers answered.
    #[must_use]
    pub fn are_commits_stalled(&self) -> bool {
        self.stalled.load(Ordering::Relaxed)
    }

    /// Whether that is news.
    pub(crate) fn commits_stalled(&self, stalled: bool) -> bool {
        self.stalled.swap(stalled, Ordering::Relaxed) != stalled
    }

    /// What is written to has no leader.
    pub(crate) fn lacks_leader(&self) {
        self.producer.note("LEADER_NOT_AVAILABLE");
    }

    /// The process did not run for so long.
    pub(crate) fn stood_still(&self, time: Duration) {
        let time = u64::try_from(time.as_millis()).unwrap_or_default();
        self.stood.fetch_add(time, Ordering::Relaxed);
    }

    /// Why the brokers refuse the consumer, and what to do.
    #[must_use]
    pub fn consumer_refusal(&self) -> Option<String> {
        self.consumer.current()
    }

    /// The same of the producer.
    #[must_use]
    pub fn producer_refusal(&self) -> Option<String> {
        self.producer.current()
    }

    pub(crate) fn polled(&self) {
        self.polled.store(self.now(), Ordering::Relaxed);
    }

    /// Whether it was not in it before.
    pub(crate) fn joined(&self) -> bool {
        !self.joined.swap(true, Ordering::Relaxed)
    }

    /// The group goes on without us, until the consumer joins again.
    pub(crate) fn left(&self) {
        self.joined.store(false, Ordering::Relaxed);
    }

    /// The consumer is on its way into the group; its partitions are its own meanwhile.
    pub(crate) fn joining(&self) {
        self.begin(&self.joining);
    }

    /// It is a member.
    pub(crate) fn steady(&self) {
        self.joining.store(0, Ordering::Relaxed);
        self.consumer.over();
    }

    /// A transaction with results went through.
    pub(crate) fn served(&self) {
        self.has_served.store(true, Ordering::Relaxed);
        self.failing.store(0, Ordering::Relaxed);
    }

    /// A transaction with results failed. Where the brokers name a reason, that is not counted, and what comes after
    /// it is counted from its own beginning.
    pub(crate) fn failed(&self) {
        if self.producer.current().is_some() {
            self.failing.store(0, Ordering::Relaxed);
            return;
        }
        self.begin(&self.failing);
        self.failed.store(self.now() + 1, Ordering::Relaxed);
    }

    /// No result waits for a commit any more, but for those that wait for their topic.
    pub(crate) fn no_result_waits(&self) {
        self.failing.store(0, Ordering::Relaxed);
    }

    /// Where transactions fail: there is still no producer for the next one.
    pub(crate) fn still_failing(&self) {
        if self.failing.load(Ordering::Relaxed) > 0 {
            self.failed();
        }
    }

    /// Runs a call that may block, under the watchdog's eyes.
    pub(crate) fn watch<T>(&self, call: impl FnOnce() -> T) -> T {
        self.call.store(self.now() + 1, Ordering::Relaxed);
        let result = call();
        self.call.store(0, Ordering::Relaxed);
        result
    }

    /// There is something to commit.
    pub(crate) fn to_commit(&self) {
        self.begin(&self.unconfirmed);
    }

    /// There is nothing to commit any more.
    pub(crate) fn nothing_to_commit(&self) {
        self.unconfirmed.store(0, Ordering::Relaxed);
    }

    /// A transaction went through.
    pub(crate) fn committed(&self) {
        self.nothing_to_commit();
        self.committed.store(self.now() + 1, Ordering::Relaxed);
        self.begin(&self.committing);
    }

    /// A transaction did not go through.
    pub(crate) fn not_committed(&self) {
        self.committing.store(0, Ordering::Relaxed);
    }

    /// Sets what is not set.
    fn begin(&self, since: &AtomicU64) {
        let now = self.now() + 1;
        let _ = since.compare_exchange(0, now, Ordering::Relaxed, Ordering::Relaxed);
    }

    fn age(&self, since: &AtomicU64) -> Option<Duration> {
        let since = since.load(Ordering::Relaxed).checked_sub(1)?;
        Some(self.elapsed_since(since))
    }

    fn now(&self) -> u64 {
        let elapsed = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX - 1);
        elapsed.saturating_sub(self.stood.load(Ordering::Relaxed))
    }

    fn elapsed_since(&self, milliseconds: u64) -> Duration {
        Duration::from_millis(self.now().saturating_sub(milliseconds))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_in_which_the_process_did_not_run_makes_nothing_older() {
        let vitals = Vitals {
            started: Instant::now() - Duration::from_secs(100),
            ..Vitals::default()
        };
        vitals.watch(|| {
            vitals.stood_still(Duration::from_secs(63));
            assert!(
                vitals
                    .call_age()
                    .is_some_and(|age| age < Duration::from_secs(1))
            );
        });
    }

    #[test]
    fn a_consumer_is_in_its_group_until_it_lost_it_or_cannot_get_back() {
        let started = Instant::now() - 2 * REBALANCE;
        let vitals = Vitals {
            started,
            ..Vitals::default()
        };
        vitals.joining();
        assert!(!vitals.has_joined(), "it never was");
        vitals.joined();
        vitals.steady();
        vitals.joining();
        assert!(vitals.has_joined(), "a rebalance");
        vitals.joining.store(1, Ordering::Relaxed);
        assert!(!vitals.has_joined(), "that does not end");
        vitals.steady();
        assert!(vitals.has_joined(), "it is back");
        vitals.left();
        assert!(!vitals.has_joined(), "its partitions were given away");
    }

    #[test]
    fn commits_fail_for_no_named_reason_where_one_went_through_before() {
        let vitals = Vitals::default();
        vitals.failed();
        assert_eq!(vitals.failing_since(), None, "no result since the start");
        vitals.served();
        assert_eq!(vitals.failing_since(), None);
        vitals.failed();
        let since = vitals.failing_since();
        assert!(since.is_some());
        vitals.failed();
        assert_eq!(vitals.failing_since(), since, "the same trouble");
        vitals.producer.note("GROUP_AUTHORIZATION_FAILED");
        assert_eq!(vitals.failing_since(), None, "health says it");
        vitals.producer.over();
        assert_eq!(vitals.failing_since(), since);
        vitals.producer.note("GROUP_AUTHORIZATION_FAILED");
        vitals.failed();
        vitals.producer.over();
        assert_eq!(
            vitals.failing_since(),
            None,
            "a new producer does not make it unnamed"
        );
        vitals.failed();
        assert!(vitals.failing_since().is_some());
        vitals.no_result_waits();
        assert_eq!(vitals.failing_since(), None);
        vitals.failed();
        assert!(vitals.failing_since().is_some());
        vitals.served();
        assert_eq!(vitals.failing_since(), None);
    }
}
