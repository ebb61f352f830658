//! Who gets the next permit. Jobs that operators started get what nobody live waits for, and one
//! permit in ten all the same, so that a busy day delays a job but does not stop it.

use std::time::Duration;

use super::limit::{Limit, Verdict};

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

/// What to do where a service is down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AtFloor {
    /// Wait all the same: the next probe may be ours.
    Wait,
    /// Leave, unless it is the next probe at once.
    Leave,
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

/// The rule of who gets a permit. Moments are durations since the limiter's start.
#[derive(Debug)]
pub(super) struct Schedule {
    limit: Limit,
    in_use: usize,
    live: usize,
    jobs: usize,
    /// Permits that live requests got since a job waits.
    past_jobs: u32,
}

impl Schedule {
    /// At most `most` permits at once, at least one.
    pub(super) fn new(most: usize) -> Self {
        Self {
            limit: Limit::new(most),
            in_use: 0,
            live: 0,
            jobs: 0,
            past_jobs: 0,
        }
    }

    /// Takes a permit if one is free and nobody waits for it.
    pub(super) fn take(&mut self, now: Duration) -> bool {
        let nobody_waits = self.live == 0 && self.jobs == 0;
        let free = nobody_waits && self.limit.lets_one_begin(now, self.in_use);
        if free {
            self.begin(now);
        }
        free
    }

    /// Somebody joins the end of a queue.
    pub(super) fn join(&mut self, queue: Queue) {
        *self.waiting(queue) += 1;
    }

    /// Somebody leaves a queue without a permit.
    pub(super) fn leave(&mut self, queue: Queue) {
        let waiting = self.waiting(queue);
        *waiting = waiting.saturating_sub(1);
    }

    /// A permit that began at `begun` is about to come back, with an answer.
    pub(super) fn answer(&mut self, begun: Duration, now: Duration, verdict: Verdict) {
        self.limit.answered(begun, now, verdict, self.in_use);
    }

    /// A permit comes back.
    pub(super) fn release(&mut self) {
        self.in_use = self.in_use.saturating_sub(1);
    }

    /// Gives a free permit to the first of a queue: of which one. None: no permit is free, or
    /// nobody waits.
    pub(super) fn next(&mut self, now: Duration) -> Option<Queue> {
        if !self.limit.lets_one_begin(now, self.in_use) {
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
        self.begin(now);
        Some(queue)
    }

    pub(super) fn load(&self) -> Load {
        Load {
            limit: self.limit.calls(),
            in_use: self.in_use,
            waiting: self.live + self.jobs,
        }
    }

    /// Whether the service counts as down.
    pub(super) fn is_at_floor(&self) -> bool {
        self.limit.is_at_floor()
    }

    /// When the time alone brings somebody who waits a permit.
    pub(super) fn opens(&self) -> Option<Duration> {
        let somebody_waits = self.live > 0 || self.jobs > 0;
        let free = self.in_use < self.limit.calls();
        self.limit.opens().filter(|_| somebody_waits && free)
    }

    fn begin(&mut self, now: Duration) {
        self.in_use += 1;
        self.limit.begun(now, self.in_use);
    }

    fn waiting(&mut self, queue: Queue) -> &mut usize {
        match queue {
            Queue::Live => &mut self.live,
            Queue::Job => &mut self.jobs,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

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
                        if schedule.take(Duration::ZERO) {
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
                while let Some(queue) = schedule.next(Duration::ZERO) {
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
}
