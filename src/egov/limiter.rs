//! Whose turn it is to call a service.
//!
//! A handler takes a [`Permit`] before each call and gives it back with the answer, by which
//! [`Limit`](super::limit::Limit) judges how many there are. When none is free it stands in one of two
//! queues, each first come, first served. [`Schedule`] is the rule of who is next, without time or
//! tasks; [`Limiter`] adds the waiting. A permit is handed from hand to hand: who gives one back passes it to the next in turn, so nobody who
//! comes later can snatch it. Who gives up waiting leaves the queue, and a permit that was on
//! its way to them goes to the next.
//!
//! At the floor a permit comes free by the time alone. One of those who wait looks at the clock for
//! all; there is no task for it. Who does not want to wait for a service that is down is sent away
//! when it falls to the floor.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::limit::Verdict;
use super::schedule::{AtFloor, Load, Queue, Schedule};

/// One service's permits. A cheap handle.
#[derive(Debug, Clone)]
pub(crate) struct Limiter(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    started: Instant,
    state: Mutex<State>,
    /// Held by the one of those who wait that looks at the clock for all.
    watch: tokio::sync::Mutex<()>,
    /// When a permit comes free by the time alone is another moment now.
    moved: Notify,
}

#[derive(Debug)]
struct State {
    schedule: Schedule,
    live: Line,
    jobs: Line,
    tickets: u64,
}

/// Who waits in one queue, by ticket: the smallest is the first.
type Line = BTreeMap<u64, Place>;

#[derive(Debug)]
struct Place {
    permit: oneshot::Sender<Permit>,
    at_floor: AtFloor,
}

/// The right to make one call; it is given back when dropped.
#[derive(Debug)]
pub(crate) struct Permit {
    limiter: Option<Limiter>,
    begun: Duration,
}

/// Why there is no permit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoPermit {
    /// Whoever waited was told to stop.
    Stopped,
    /// It was not their turn in time.
    TooLate,
    /// The service is down, and they did not want to wait for it.
    AtFloor,
}

impl Limiter {
    /// At most `most` permits at once, at least one.
    pub(crate) fn new(most: usize) -> Self {
        Self(Arc::new(Shared {
            started: Instant::now(),
            state: Mutex::new(State {
                schedule: Schedule::new(most),
                live: Line::new(),
                jobs: Line::new(),
                tickets: 0,
            }),
            watch: tokio::sync::Mutex::default(),
            moved: Notify::new(),
        }))
    }

    /// How many permits there are, are taken, and are waited for.
    pub(crate) fn load(&self) -> Load {
        self.0.state.lock().schedule.load()
    }

    /// Whether the service counts as down.
    pub(crate) fn is_at_floor(&self) -> bool {
        self.0.state.lock().schedule.is_at_floor()
    }

    /// A permit if one is free now and nobody waits for it.
    pub(crate) fn permit_now(&self) -> Option<Permit> {
        let now = self.now();
        let free = self.0.state.lock().schedule.take(now);
        free.then(|| self.permit_since(now))
    }

    /// Waits for a permit, for at most `patience`, or until `stop` is cancelled.
    ///
    /// It may be dropped while it waits: its place is given up, and no permit is lost.
    pub(crate) async fn permit(
        &self,
        queue: Queue,
        at_floor: AtFloor,
        patience: Duration,
        stop: &CancellationToken,
    ) -> Result<Permit, NoPermit> {
        if stop.is_cancelled() {
            return Err(NoPermit::Stopped);
        }
        if patience.is_zero() {
            return Err(NoPermit::TooLate);
        }
        if let Some(permit) = self.permit_now() {
            return Ok(permit);
        }
        let mut waiter = self.join(queue, at_floor).ok_or(NoPermit::AtFloor)?;
        // It may have come back between the look and the joining.
        self.hand_out();
        // On the heap, so that who need not wait takes less.
        let too_late = Box::pin(self.watch_the_clock_for(patience));
        tokio::select! {
            biased;
            () = stop.cancelled() => Err(NoPermit::Stopped),
            // The limiter is kept by `self`: only who is sent away loses the sender.
            permit = &mut waiter.permit => permit.map_err(|_| NoPermit::AtFloor),
            () = too_late => Err(NoPermit::TooLate),
        }
    }

    async fn watch_the_clock_for(&self, patience: Duration) {
        tokio::select! {
            () = tokio::time::sleep(patience) => {}
            never = self.watch_the_clock() => match never {},
        }
    }

    /// Hands out what the time alone brings, for all who wait, until it is dropped.
    async fn watch_the_clock(&self) -> Infallible {
        let _for_all = self.0.watch.lock().await;
        loop {
            let opens = self.0.state.lock().schedule.opens();
            let Some(opens) = opens else {
                self.0.moved.notified().await;
                continue;
            };
            tokio::select! {
                () = self.0.moved.notified() => {}
                () = tokio::time::sleep_until(self.0.started + opens) => self.hand_out(),
            }
        }
    }

    /// None: the service is down, and it is not waited for.
    fn join(&self, queue: Queue, at_floor: AtFloor) -> Option<Waiter<'_>> {
        let (sender, permit) = oneshot::channel();
        let mut state = self.0.state.lock();
        if at_floor == AtFloor::Leave && state.schedule.is_at_floor() {
            return None;
        }
        state.tickets += 1;
        let ticket = state.tickets;
        state.schedule.join(queue);
        let place = Place {
            permit: sender,
            at_floor,
        };
        state.line(queue).insert(ticket, place);
        Some(Waiter {
            limiter: self,
            queue,
            ticket,
            permit,
        })
    }

    /// Gives free permits to who waits. Nothing is sent under the lock.
    fn hand_out(&self) {
        loop {
            let now = self.now();
            let first = self.0.state.lock().next(now);
            let Some(first) = first else {
                return;
            };
            if let Err(mut unused) = first.send(self.permit_since(now)) {
                // They gave up just now. Dropping it would come back here, once for each.
                unused.limiter = None;
                self.0.state.lock().schedule.release();
            }
        }
    }

    fn answer(&self, begun: Duration, verdict: Verdict) {
        let now = self.now();
        let mut state = self.0.state.lock();
        let fell_before = state.schedule.is_at_floor();
        state.schedule.answer(begun, now, verdict);
        let falls = !fell_before && state.schedule.is_at_floor();
        let sent_away = falls.then(|| state.send_away());
        drop(state);
        drop(sent_away);
    }

    fn permit_since(&self, begun: Duration) -> Permit {
        Permit {
            limiter: Some(self.clone()),
            begun,
        }
    }

    fn now(&self) -> Duration {
        self.0.started.elapsed()
    }
}

impl Permit {
    /// Gives it back with what the call says about the service.
    pub(crate) fn answered(self, verdict: Verdict) {
        if let Some(limiter) = &self.limiter {
            limiter.answer(self.begun, verdict);
        }
    }
}

impl State {
    fn next(&mut self, now: Duration) -> Option<oneshot::Sender<Permit>> {
        let queue = self.schedule.next(now)?;
        let first = self.line(queue).pop_first();
        first.map(|(_, place)| place.permit)
    }

    /// Takes those out of the queues who do not wait for a service that is down.
    fn send_away(&mut self) -> Vec<Place> {
        let mut gone = Vec::new();
        for queue in [Queue::Live, Queue::Job] {
            let leave = |_: &u64, place: &mut Place| place.at_floor == AtFloor::Leave;
            let leaving: Vec<_> = self.line(queue).extract_if(.., leave).collect();
            for (_, place) in leaving {
                self.schedule.leave(queue);
                gone.push(place);
            }
        }
        gone
    }

    fn line(&mut self, queue: Queue) -> &mut Line {
        match queue {
            Queue::Live => &mut self.live,
            Queue::Job => &mut self.jobs,
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(limiter) = self.limiter.take() {
            limiter.0.state.lock().schedule.release();
            limiter.hand_out();
            // Only at the floor is there anything to look at the clock for.
            if limiter.is_at_floor() {
                limiter.0.moved.notify_one();
            }
        }
    }
}

/// A place in a queue, given up when dropped.
struct Waiter<'a> {
    limiter: &'a Limiter,
    queue: Queue,
    ticket: u64,
    permit: oneshot::Receiver<Permit>,
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        let mut state = self.limiter.0.state.lock();
        // Where the ticket is gone, a permit is in `permit` or about to be, and dropping that passes
        // it on; or they were sent away.
        if state.line(self.queue).remove(&self.ticket).is_some() {
            state.schedule.leave(self.queue);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::Poll;

    use super::*;

    const LONG: Duration = Duration::from_secs(3_600);

    #[tokio::test]
    async fn permits_go_in_the_order_of_asking() {
        let limiter = Limiter::new(1);
        let stop = CancellationToken::new();
        let held = limiter.permit_now().unwrap();
        let mut first = pin!(limiter.permit(Queue::Live, AtFloor::Wait, LONG, &stop));
        let mut second = pin!(limiter.permit(Queue::Live, AtFloor::Wait, LONG, &stop));
        assert!(poll(&mut first).is_pending());
        assert!(poll(&mut second).is_pending());
        drop(held);
        assert!(poll(&mut second).is_pending());
        let Poll::Ready(Ok(held)) = poll(&mut first) else {
            panic!("it was the first one's turn");
        };
        assert!(limiter.permit_now().is_none());
        drop(held);
        assert!(poll(&mut second).is_ready());
    }

    #[tokio::test]
    async fn who_gives_up_before_their_turn_leaves_no_gap() {
        let limiter = Limiter::new(1);
        let stop = CancellationToken::new();
        let held = limiter.permit_now().unwrap();
        let mut gone = Box::pin(limiter.permit(Queue::Live, AtFloor::Wait, LONG, &stop));
        let mut next = pin!(limiter.permit(Queue::Live, AtFloor::Wait, LONG, &stop));
        assert!(poll(&mut gone).is_pending());
        assert!(poll(&mut next).is_pending());
        drop(gone);
        drop(held);
        assert!(poll(&mut next).is_ready());
    }

    #[tokio::test]
    async fn a_permit_on_its_way_to_who_gives_up_goes_to_the_next() {
        let limiter = Limiter::new(1);
        let stop = CancellationToken::new();
        let held = limiter.permit_now().unwrap();
        let mut gone = Box::pin(limiter.permit(Queue::Live, AtFloor::Wait, LONG, &stop));
        let mut next = pin!(limiter.permit(Queue::Live, AtFloor::Wait, LONG, &stop));
        assert!(poll(&mut gone).is_pending());
        assert!(poll(&mut next).is_pending());
        drop(held);
        drop(gone);
        assert!(poll(&mut next).is_ready());
        assert!(limiter.permit_now().is_some(), "the permit came back");
    }

    #[tokio::test]
    async fn a_permit_that_nobody_takes_any_more_comes_back() {
        let limiter = Limiter::new(1);
        let held = limiter.permit_now().unwrap();
        // They are about to leave the queue.
        let mut gone = limiter.join(Queue::Live, AtFloor::Wait).unwrap();
        gone.permit.close();
        drop(held);
        drop(gone);
        assert!(limiter.permit_now().is_some());
    }

    #[tokio::test]
    async fn who_is_stopped_or_too_late_gets_none() {
        let limiter = Limiter::new(1);
        let stop = CancellationToken::new();
        let held = limiter.permit_now().unwrap();
        let mut waits = pin!(limiter.permit(Queue::Live, AtFloor::Wait, LONG, &stop));
        assert!(poll(&mut waits).is_pending());
        stop.cancel();
        assert_eq!(waits.await.map(drop), Err(NoPermit::Stopped));
        let go = CancellationToken::new();
        let late = limiter
            .permit(Queue::Live, AtFloor::Wait, Duration::ZERO, &go)
            .await;
        assert_eq!(late.map(drop), Err(NoPermit::TooLate));
        drop(held);
        let stopped = limiter
            .permit(Queue::Live, AtFloor::Wait, LONG, &stop)
            .await;
        assert_eq!(stopped.map(drop), Err(NoPermit::Stopped));
        assert!(
            limiter
                .permit(Queue::Live, AtFloor::Wait, LONG, &go)
                .await
                .is_ok()
        );
    }

    #[tokio::test(start_paused = true)]
    async fn patience_ends() {
        let limiter = Limiter::new(1);
        let _held = limiter.permit_now().unwrap();
        let stop = CancellationToken::new();
        let late = limiter.permit(Queue::Job, AtFloor::Wait, LONG, &stop).await;
        assert_eq!(late.map(drop), Err(NoPermit::TooLate));
    }

    /// A service of at most `most` calls at once, fallen to the floor.
    fn at_floor(most: usize) -> Limiter {
        let limiter = Limiter::new(most);
        while !limiter.is_at_floor() {
            limiter.permit_now().unwrap().answered(Verdict::Failed);
        }
        limiter
    }

    #[tokio::test(start_paused = true)]
    async fn at_the_floor_the_time_brings_one_permit_after_the_other() {
        let limiter = at_floor(8);
        let stop = CancellationToken::new();
        let started = Instant::now();
        let mut last = started;
        let waits = || limiter.permit(Queue::Live, AtFloor::Wait, LONG, &stop);
        let (mut first, mut second, mut third) = (Box::pin(waits()), pin!(waits()), pin!(waits()));
        assert!(poll(&mut first).is_pending());
        assert!(poll(&mut second).is_pending());
        assert!(poll(&mut third).is_pending());
        // Who looked at the clock for all goes away.
        drop(first);
        for _ in 0..2 {
            let permit = tokio::select! {
                biased;
                permit = &mut second => { second.set(waits()); permit }
                permit = &mut third => { third.set(waits()); permit }
            };
            assert_eq!(limiter.load().in_use, 1, "one at a time");
            assert!(last.elapsed() >= Duration::from_millis(100));
            last = Instant::now();
            permit.unwrap().answered(Verdict::Failed);
        }
        assert!(started.elapsed() <= Duration::from_millis(450));
    }

    #[tokio::test(start_paused = true)]
    async fn one_success_at_the_floor_lets_two_begin() {
        let limiter = at_floor(8);
        let stop = CancellationToken::new();
        let waits = || limiter.permit(Queue::Live, AtFloor::Wait, LONG, &stop);
        let probe = waits().await.unwrap();
        let (mut first, mut second, mut third) = (pin!(waits()), pin!(waits()), pin!(waits()));
        assert!(poll(&mut first).is_pending());
        assert!(poll(&mut second).is_pending());
        assert!(poll(&mut third).is_pending());
        probe.answered(Verdict::Well);
        let (first, second) = (poll(&mut first), poll(&mut second));
        assert!(first.is_ready() && second.is_ready());
        assert!(poll(&mut third).is_pending());
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_wait_for_what_is_down_leaves_at_once() {
        let limiter = Limiter::new(2);
        let stop = CancellationToken::new();
        let leaves = || limiter.permit(Queue::Live, AtFloor::Leave, LONG, &stop);
        let held = limiter.permit_now().unwrap();
        let last = limiter.permit_now().unwrap();
        let mut waits = pin!(leaves());
        let mut stays = pin!(limiter.permit(Queue::Job, AtFloor::Wait, LONG, &stop));
        assert!(
            poll(&mut waits).is_pending(),
            "above the floor it is waited for"
        );
        assert!(poll(&mut stays).is_pending());
        for _ in 0..19 {
            limiter.answer(held.begun, Verdict::Failed);
        }
        assert!(poll(&mut waits).is_pending());
        last.answered(Verdict::Failed);
        assert_eq!(waits.await.map(drop), Err(NoPermit::AtFloor));
        assert_eq!(limiter.load().waiting, 1);
        let late = leaves().await;
        assert_eq!(late.map(drop), Err(NoPermit::AtFloor));
        drop(held);
        let probe = stays.await.unwrap();
        probe.answered(Verdict::Failed);
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(leaves().await.is_ok(), "the next probe may be theirs");
    }

    #[tokio::test(start_paused = true)]
    async fn patience_ends_at_the_floor_too() {
        let limiter = at_floor(8);
        let stop = CancellationToken::new();
        let patience = Duration::from_millis(50);
        let late = limiter
            .permit(Queue::Live, AtFloor::Wait, patience, &stop)
            .await;
        assert_eq!(late.map(drop), Err(NoPermit::TooLate));
    }

    /// Down for a minute of their time, then well: all come through, whoever looks at the clock.
    #[tokio::test(start_paused = true)]
    async fn an_outage_loses_no_wake_up() {
        let limiter = Limiter::new(16);
        let started = Instant::now();
        let tasks = tokio_util::task::TaskTracker::new();
        for number in 0..600_u64 {
            let limiter = limiter.clone();
            tasks.spawn(async move {
                let stop = CancellationToken::new();
                let patience = match number % 3 {
                    0 => Duration::from_millis(number * 100),
                    _ => LONG,
                };
                let permit = limiter.permit(Queue::Live, AtFloor::Wait, patience, &stop);
                let Ok(permit) = permit.await else { return };
                let begun = limiter.now();
                tokio::time::sleep(Duration::from_millis(20)).await;
                match (begun.as_secs(), number % 7) {
                    (_, 0) => drop(permit),
                    (..60, _) => permit.answered(Verdict::Failed),
                    (60.., _) => permit.answered(Verdict::Well),
                }
            });
        }
        tasks.close();
        let all = tokio::time::timeout(Duration::from_secs(70), tasks.wait());
        all.await.expect("nobody waits for ever");
        assert!(started.elapsed() >= Duration::from_secs(60));
        assert_eq!((limiter.load().in_use, limiter.load().waiting), (0, 0));
        assert!(!limiter.is_at_floor());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn many_hands_lose_no_permit() {
        let limiter = Limiter::new(3);
        let tasks = tokio_util::task::TaskTracker::new();
        for number in 0..400_u64 {
            let limiter = limiter.clone();
            tasks.spawn(async move {
                let queue = if number.is_multiple_of(5) {
                    Queue::Job
                } else {
                    Queue::Live
                };
                let stop = CancellationToken::new();
                // Every third gives up at once, at whatever point it has come to.
                let patience = if number.is_multiple_of(3) {
                    Duration::from_nanos(1)
                } else {
                    LONG
                };
                if let Ok(permit) = limiter.permit(queue, AtFloor::Wait, patience, &stop).await {
                    tokio::task::yield_now().await;
                    drop(permit);
                }
            });
        }
        tasks.close();
        let all = tokio::time::timeout(Duration::from_secs(20), tasks.wait());
        all.await.expect("nobody waits for ever");
        let free = [
            limiter.permit_now(),
            limiter.permit_now(),
            limiter.permit_now(),
        ];
        assert!(free.iter().all(Option::is_some));
        assert!(limiter.permit_now().is_none());
    }

    fn poll<F: Future>(
        future: &mut std::pin::Pin<impl std::ops::DerefMut<Target = F>>,
    ) -> Poll<F::Output> {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        future.as_mut().poll(&mut context)
    }
}
