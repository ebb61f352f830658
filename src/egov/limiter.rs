//! How many calls a service gets at once, and whose turn it is.
//!
//! A handler takes a [`Permit`] before each call and gives it back after the answer. When none is
//! free it stands in one of two queues, each first come, first served: live requests, and jobs
//! that operators started. Jobs get what nobody live waits for, and one permit in ten all the
//! same, so that a busy day delays a job but does not stop it.
//!
//! [`Schedule`] is the rule, without time or tasks; [`Limiter`] adds the waiting. A permit is
//! handed from hand to hand: who gives one back passes it to the next in turn, so nobody who
//! comes later can snatch it. Who gives up waiting leaves the queue, and a permit that was on
//! its way to them goes to the next.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

/// Permits in a row that live requests may take past a waiting job: the tenth is the job's.
const LIVE_IN_A_ROW: u32 = 9;

/// In which queue a request waits for its turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Queue {
    /// Somebody waits for their OTP.
    Live,
    /// An operator's job.
    Job,
}

/// The rule of who gets a permit: counts alone.
#[derive(Debug)]
pub(crate) struct Schedule {
    limit: usize,
    in_use: usize,
    live: usize,
    jobs: usize,
    /// Permits that live requests got since a job waits.
    past_jobs: u32,
}

impl Schedule {
    /// At most `limit` permits at once, at least one.
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            limit: limit.max(1),
            in_use: 0,
            live: 0,
            jobs: 0,
            past_jobs: 0,
        }
    }

    /// Takes a permit if one is free and nobody waits for it.
    pub(crate) fn take(&mut self) -> bool {
        let free = self.in_use < self.limit && self.live == 0 && self.jobs == 0;
        self.in_use += usize::from(free);
        free
    }

    /// Somebody joins the end of a queue.
    pub(crate) fn join(&mut self, queue: Queue) {
        *self.waiting(queue) += 1;
    }

    /// Somebody leaves a queue without a permit.
    pub(crate) fn leave(&mut self, queue: Queue) {
        let waiting = self.waiting(queue);
        *waiting = waiting.saturating_sub(1);
    }

    /// A permit comes back.
    pub(crate) fn release(&mut self) {
        self.in_use = self.in_use.saturating_sub(1);
    }

    /// Gives a free permit to the first of a queue: of which one. None: no permit is free, or
    /// nobody waits.
    pub(crate) fn next(&mut self) -> Option<Queue> {
        if self.in_use >= self.limit {
            return None;
        }
        let queue = match (self.live > 0, self.jobs > 0) {
            (false, false) => return None,
            (true, false) => Queue::Live,
            (false, true) => Queue::Job,
            (true, true) if self.past_jobs >= LIVE_IN_A_ROW => Queue::Job,
            (true, true) => Queue::Live,
        };
        self.past_jobs = match queue {
            Queue::Live if self.jobs > 0 => self.past_jobs + 1,
            Queue::Live | Queue::Job => 0,
        };
        self.leave(queue);
        self.in_use += 1;
        Some(queue)
    }

    fn waiting(&mut self, queue: Queue) -> &mut usize {
        match queue {
            Queue::Live => &mut self.live,
            Queue::Job => &mut self.jobs,
        }
    }
}

/// A service's permits at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    /// Calls that it gets at once.
    pub limit: usize,
    /// Calls under way.
    pub in_use: usize,
    /// Requests that wait for their turn, jobs included.
    pub waiting: usize,
}

/// One service's permits. A cheap handle.
#[derive(Debug, Clone)]
pub(crate) struct Limiter(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    schedule: Schedule,
    live: Line,
    jobs: Line,
    tickets: u64,
}

/// Who waits in one queue, by ticket: the smallest is the first.
type Line = BTreeMap<u64, oneshot::Sender<Permit>>;

/// The right to make one call; it is given back when dropped.
#[derive(Debug)]
pub(crate) struct Permit(Option<Limiter>);

/// Why there is no permit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoPermit {
    /// Whoever waited was told to stop.
    Stopped,
    /// It was not their turn in time.
    TooLate,
}

impl Limiter {
    /// At most `limit` permits at once, at least one.
    pub(crate) fn new(limit: usize) -> Self {
        Self(Arc::new(Mutex::new(State {
            schedule: Schedule::new(limit),
            live: Line::new(),
            jobs: Line::new(),
            tickets: 0,
        })))
    }

    /// How many permits there are, are taken, and are waited for.
    pub(crate) fn load(&self) -> Load {
        let schedule = &self.0.lock().schedule;
        Load {
            limit: schedule.limit,
            in_use: schedule.in_use,
            waiting: schedule.live + schedule.jobs,
        }
    }

    /// A permit if one is free now and nobody waits for it.
    pub(crate) fn permit_now(&self) -> Option<Permit> {
        let free = self.0.lock().schedule.take();
        free.then(|| Permit(Some(self.clone())))
    }

    /// Waits for a permit, for at most `patience`, or until `stop` is cancelled.
    ///
    /// It may be dropped while it waits: its place is given up, and no permit is lost.
    pub(crate) async fn permit(
        &self,
        queue: Queue,
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
        let mut waiter = self.join(queue);
        // It may have come back between the look and the joining.
        self.hand_out();
        tokio::select! {
            biased;
            () = stop.cancelled() => Err(NoPermit::Stopped),
            // The sender is dropped only together with this limiter, which `self` keeps.
            permit = &mut waiter.permit => permit.map_err(|_| NoPermit::Stopped),
            () = tokio::time::sleep(patience) => Err(NoPermit::TooLate),
        }
    }

    fn join(&self, queue: Queue) -> Waiter<'_> {
        let (sender, permit) = oneshot::channel();
        let mut state = self.0.lock();
        state.tickets += 1;
        let ticket = state.tickets;
        state.schedule.join(queue);
        state.line(queue).insert(ticket, sender);
        Waiter {
            limiter: self,
            queue,
            ticket,
            permit,
        }
    }

    /// Gives free permits to who waits. Nothing is sent under the lock.
    fn hand_out(&self) {
        loop {
            let first = self.0.lock().next();
            let Some(first) = first else {
                return;
            };
            if let Err(mut unused) = first.send(Permit(Some(self.clone()))) {
                // They gave up just now. Dropping it would come back here, once for each.
                unused.0 = None;
                self.0.lock().schedule.release();
            }
        }
    }
}

impl State {
    fn next(&mut self) -> Option<oneshot::Sender<Permit>> {
        let queue = self.schedule.next()?;
        let first = self.line(queue).pop_first();
        first.map(|(_, sender)| sender)
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
        if let Some(limiter) = self.0.take() {
            limiter.0.lock().schedule.release();
            limiter.hand_out();
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
        let mut state = self.limiter.0.lock();
        // Where the ticket is gone, a permit is in `permit` or about to be: dropping that passes
        // it on.
        if state.line(self.queue).remove(&self.ticket).is_some() {
            state.schedule.leave(self.queue);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::Poll;

    use proptest::prelude::*;

    use super::*;

    const LONG: Duration = Duration::from_secs(3_600);

    #[derive(Debug, Clone, Copy)]
    enum Step {
        Arrive(Queue),
        GiveUp(Queue),
        Release,
    }

    fn step() -> impl Strategy<Value = Step> {
        let queue = prop_oneof![4 => Just(Queue::Live), 1 => Just(Queue::Job)];
        prop_oneof![
            4 => queue.clone().prop_map(Step::Arrive),
            1 => queue.prop_map(Step::GiveUp),
            4 => Just(Step::Release),
        ]
    }

    proptest! {
        #[test]
        fn permits_are_never_too_many_never_idle_and_one_in_ten_is_a_jobs(
            limit in 1..5_usize,
            steps in prop::collection::vec(step(), 0..400),
        ) {
            let mut schedule = Schedule::new(limit);
            let (mut in_use, mut live, mut jobs) = (0, 0, 0);
            let mut past_jobs = 0;
            for step in steps {
                match step {
                    Step::Arrive(queue) => {
                        if schedule.take() {
                            prop_assert!(live == 0 && jobs == 0, "somebody was overtaken");
                            in_use += 1;
                        } else {
                            schedule.join(queue);
                            match queue { Queue::Live => live += 1, Queue::Job => jobs += 1 }
                        }
                    }
                    Step::GiveUp(Queue::Live) if live > 0 => {
                        schedule.leave(Queue::Live);
                        live -= 1;
                    }
                    Step::GiveUp(Queue::Job) if jobs > 0 => {
                        schedule.leave(Queue::Job);
                        jobs -= 1;
                    }
                    Step::Release if in_use > 0 => {
                        schedule.release();
                        in_use -= 1;
                    }
                    Step::GiveUp(_) | Step::Release => {}
                }
                while let Some(queue) = schedule.next() {
                    in_use += 1;
                    match queue {
                        Queue::Live => {
                            prop_assert!(live > 0);
                            live -= 1;
                            past_jobs = if jobs > 0 { past_jobs + 1 } else { 0 };
                            prop_assert!(past_jobs <= 9, "a job waits past ten permits");
                        }
                        Queue::Job => {
                            prop_assert!(jobs > 0);
                            prop_assert!(live == 0 || past_jobs == 9, "a job went first");
                            jobs -= 1;
                            past_jobs = 0;
                        }
                    }
                }
                prop_assert!(in_use <= limit);
                prop_assert!(in_use == limit || (live == 0 && jobs == 0), "a permit lies idle");
            }
        }
    }

    #[tokio::test]
    async fn permits_go_in_the_order_of_asking() {
        let limiter = Limiter::new(1);
        let stop = CancellationToken::new();
        let held = limiter.permit_now().unwrap();
        let mut first = pin!(limiter.permit(Queue::Live, LONG, &stop));
        let mut second = pin!(limiter.permit(Queue::Live, LONG, &stop));
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
        let mut gone = Box::pin(limiter.permit(Queue::Live, LONG, &stop));
        let mut next = pin!(limiter.permit(Queue::Live, LONG, &stop));
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
        let mut gone = Box::pin(limiter.permit(Queue::Live, LONG, &stop));
        let mut next = pin!(limiter.permit(Queue::Live, LONG, &stop));
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
        let mut gone = limiter.join(Queue::Live);
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
        let mut waits = pin!(limiter.permit(Queue::Live, LONG, &stop));
        assert!(poll(&mut waits).is_pending());
        stop.cancel();
        assert_eq!(waits.await.map(drop), Err(NoPermit::Stopped));
        let go = CancellationToken::new();
        let late = limiter.permit(Queue::Live, Duration::ZERO, &go).await;
        assert_eq!(late.map(drop), Err(NoPermit::TooLate));
        drop(held);
        let stopped = limiter.permit(Queue::Live, LONG, &stop).await;
        assert_eq!(stopped.map(drop), Err(NoPermit::Stopped));
        assert!(limiter.permit(Queue::Live, LONG, &go).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn patience_ends() {
        let limiter = Limiter::new(1);
        let _held = limiter.permit_now().unwrap();
        let stop = CancellationToken::new();
        let late = limiter.permit(Queue::Job, LONG, &stop).await;
        assert_eq!(late.map(drop), Err(NoPermit::TooLate));
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
                if let Ok(permit) = limiter.permit(queue, patience, &stop).await {
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
