//! Everything the engine knows about the requests in its hands; pure, behind one lock.
//!
//! ```text
//!              deliver            admit                start           committed
//! consumer ──▶ tracker ──▶ parked until due ─┐
//!                     ├──▶ jobs that wait ───┤
//!                     └──────────────────────┴─▶ window: lane ─▶ open ─▶ finished
//! ```
//!
//! A delivered offset is *unfinished* until its results are committed. A request holds its
//! place in the window from its admission until then. Each assignment of a partition has an
//! [`Epoch`]; what belongs to an older one is dropped, because the next owner handles it.

mod progress;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::fmt;
use std::hash::RandomState;
use std::sync::Arc;
use std::time::Duration;

pub use self::gauges::{Gauges, Lag};
use super::lanes::{LaneId, Lanes, Offer};
use super::offsets::{Delivery, Tracker};
use super::record::{Origin, Request};
use super::retry::Parked;
use super::tag::{Fill, Tag};
use crate::clock::{EpochMs, Uptime};

pub(crate) mod doubt;
mod gauges;
mod give_back;

/// The part of the jobs in hand that are begun: live requests, whenever they come, and by whichever door, are to
/// find a processor that is free.
const BEGUN: usize = 16;

/// What a request takes in memory besides its record, about: what was read of it, and its place.
pub const TICKET_BYTES: usize = 1_024;

/// A partition of a topic.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Partition {
    /// Topic name.
    pub topic: Arc<str>,
    /// Partition number.
    pub number: i32,
}

impl fmt::Display for Partition {
    /// As Kafka's own tools write it: `topic-3`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.number)
    }
}

/// One assignment of one partition; never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Epoch(pub u64);

/// The bounds of [`State`]; see `config/default.toml` for their reasons.
#[derive(Debug, Clone)]
pub struct Bounds {
    /// Requests in the window.
    pub window: usize,
    /// Bytes in the window.
    pub window_bytes: usize,
    /// Requests in one lane.
    pub lane: usize,
    /// Requests from jobs topics in hand: a sixteenth of them in the window, the others wait outside.
    pub jobs: usize,
    /// Parked retries, per partition.
    pub parked: usize,
    /// Bytes of waiting retries, over all partitions of retry topics: each has an equal share, so that none waits
    /// for another's.
    pub waiting_bytes: usize,
    /// Records that are older and were there before us are skipped.
    pub lifetime: Duration,
}

/// A request with its place.
#[derive(Debug)]
pub struct Ticket {
    /// The request.
    pub request: Request,
    /// The assignment it was delivered in.
    pub epoch: Epoch,
    /// The person's lane.
    pub lane: LaneId,
    /// When it was to be handled, where it is a retry.
    pub due: Option<Uptime>,
    /// When it should have its end: its deadline, or when we got it or it was due, if later.
    ends_by: Uptime,
    origin: Origin,
    bytes: usize,
}

impl Ticket {
    /// What it takes while it waits as a retry.
    fn waiting_bytes(&self) -> usize {
        self.bytes + TICKET_BYTES
    }

    /// The partition it came from.
    #[must_use]
    pub fn partition(&self) -> Partition {
        let position = &self.request.record.position;
        Partition {
            topic: Arc::clone(&position.topic),
            number: position.partition,
        }
    }
}

/// What is to be done with a request that was admitted.
#[derive(Debug)]
pub enum Admission {
    /// Start it now.
    Start(Ticket),
    /// Its lane is full: finish it as such.
    LaneFull(Ticket),
    /// Nothing: it waits, or its partition is gone.
    Waits,
}

/// What a partition's next commit says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// The partition.
    pub partition: Partition,
    /// The assignment it was computed for.
    pub epoch: Epoch,
    /// Commit point and metadata.
    pub tag: Tag,
}

#[derive(Debug)]
struct Assigned {
    epoch: Epoch,
    origin: Origin,
    tracker: Tracker,
    /// Requests being handled, or finished and not committed.
    open: usize,
    parked: usize,
    /// Bytes of the retries of it that wait until they are due, or for a place after that.
    waiting_bytes: usize,
    /// Not read from until half of a budget of its own is free again.
    held: bool,
    /// Being revoked: nothing new is taken from it.
    leaving: bool,
    /// Old records skipped.
    skipped: u64,
    /// Since when its end is known to be ahead of it.
    behind_since: Option<EpochMs>,
    /// The last commit that went through.
    committed: Option<Tag>,
    /// Whether something of it cannot be decoded.
    doubt: doubt::Doubt,
}

#[derive(Debug, Default, Clone, Copy)]
struct Window {
    requests: usize,
    bytes: usize,
    jobs: usize,
}

impl Window {
    fn take(&mut self, ticket: &Ticket) {
        self.requests += 1;
        if ticket.origin == Origin::Jobs {
            self.jobs += 1;
        } else {
            self.bytes += ticket.bytes;
        }
    }
}

/// The engine's state.
#[derive(Debug)]
pub struct State {
    bounds: Bounds,
    assigned: HashMap<Partition, Assigned>,
    epochs: u64,
    window: Window,
    lanes: Lanes<Ticket>,
    parked: Parked<Ticket>,
    /// Due, and waiting for a place in the window; ahead of newly polled records.
    due: VecDeque<Ticket>,
    /// Requests from jobs topics that wait for a place in the window, so that there are some at hand when places
    /// get free: to read on from a partition that was paused takes 100 ms. Their bytes count as in the window.
    jobs: VecDeque<Ticket>,
    /// How many requests in hand should have their end by a second, parked ones too.
    ends: BTreeMap<u64, usize>,
    skipped: u64,
    hasher: RandomState,
    stopping: bool,
}

impl State {
    /// An empty state within `bounds`.
    #[must_use]
    pub fn new(bounds: Bounds) -> Self {
        Self {
            lanes: Lanes::new(bounds.lane),
            bounds,
            assigned: HashMap::new(),
            epochs: 0,
            window: Window::default(),
            parked: Parked::default(),
            due: VecDeque::new(),
            jobs: VecDeque::new(),
            ends: BTreeMap::new(),
            skipped: 0,
            hasher: RandomState::new(),
            stopping: false,
        }
    }

    /// Takes a partition in, in a new epoch; nothing is read from it while everything is given back.
    pub fn assign(&mut self, partition: Partition, origin: Origin, tracker: Tracker) -> Epoch {
        self.epochs += 1;
        let epoch = Epoch(self.epochs);
        let assigned = Assigned {
            epoch,
            origin,
            tracker,
            open: 0,
            parked: 0,
            waiting_bytes: 0,
            held: false,
            leaving: self.stopping,
            skipped: 0,
            behind_since: None,
            committed: None,
            doubt: doubt::Doubt::default(),
        };
        self.assigned.insert(partition, assigned);
        epoch
    }

    /// How many records may be polled now; 0 while the window is full or due requests wait for it.
    #[must_use]
    pub fn room(&self) -> usize {
        let full =
            self.window.bytes >= self.bounds.window_bytes || !self.due.is_empty() || self.stopping;
        if full {
            0
        } else {
            self.bounds.window.saturating_sub(self.window.requests)
        }
    }

    /// How many bytes of records may be polled in one go; the record that reaches it is the last.
    #[must_use]
    pub fn room_bytes(&self) -> usize {
        let in_flight = self.bounds.window_bytes.saturating_sub(self.window.bytes);
        in_flight.min(self.waiting_share() / 4)
    }

    /// The bytes of waiting retries that each partition of a retry topic may have in memory.
    fn waiting_share(&self) -> usize {
        let assigned = self.assigned.values();
        let retries = assigned.filter(|one| matches!(one.origin, Origin::Retry(_)));
        self.bounds.waiting_bytes / retries.count().max(1)
    }

    /// Notes that a record was delivered. `Some`: it is to be handled.
    pub fn deliver(
        &mut self,
        partition: &Partition,
        offset: i64,
        time: Option<EpochMs>,
        now: EpochMs,
    ) -> Option<Epoch> {
        let assigned = self
            .assigned
            .get_mut(partition)
            .filter(|assigned| assigned.is_taken_in())?;
        match assigned.tracker.deliver(offset, time) {
            Delivery::Unfinished => {}
            Delivery::Finished | Delivery::Refused => return None,
        }
        let lifetime = self.bounds.lifetime;
        let is_skipped = time.is_some_and(|time| {
            time.age(now) > lifetime && assigned.tracker.was_there_before(offset, time)
        });
        if is_skipped {
            assigned.tracker.finish(offset);
            assigned.skipped += 1;
            self.skipped += 1;
            return None;
        }
        Some(assigned.epoch)
    }

    /// Puts a delivered request where it belongs. `now` and `at` are one moment: how long a request still has, and
    /// waits, follows from the wall clock once, here, and no later step of that clock changes it.
    pub fn admit(&mut self, request: Request, epoch: Epoch, now: EpochMs, at: Uptime) -> Admission {
        let position = &request.record.position;
        let partition = Partition {
            topic: Arc::clone(&position.topic),
            number: position.partition,
        };
        let Some(assigned) = self
            .assigned
            .get_mut(&partition)
            .filter(|one| one.epoch == epoch && !one.leaving)
        else {
            return Admission::Waits;
        };
        let origin = assigned.origin;
        let (lane, bytes) = (request.lane(&self.hasher), request.record.size());
        // A record time ahead of our clock must not make a wait longer than its topic's.
        let wait = match (origin, request.record.timestamp) {
            (Origin::Retry(delay), Some(time)) => Some(time.min(now).plus(delay).left(now)),
            (Origin::Retry(_) | Origin::Requests | Origin::Accepted | Origin::Jobs, _) => None,
        };
        let due = wait.map(|wait| at.plus(wait));
        let left = request.envelope.context.deadline.left(now);
        let ends_by = at.plus(left.max(wait.unwrap_or_default()));
        let ticket = Ticket {
            request,
            epoch,
            lane,
            due,
            ends_by,
            origin,
            bytes,
        };
        *self.ends.entry(second(ends_by)).or_default() += 1;
        if let Some(due) = due.filter(|due| *due > at) {
            assigned.parked += 1;
            assigned.waiting_bytes += ticket.waiting_bytes();
            self.parked.park(due, ticket);
            return Admission::Waits;
        }
        self.enter(ticket)
    }

    /// Takes what is due into the window, as far as there is room, and begins with jobs that wait.
    pub fn take_due(&mut self, now: Uptime) -> Vec<Admission> {
        while let Some(ticket) = self.parked.take_due(now) {
            if let Some(assigned) = self.current(&ticket) {
                assigned.parked -= 1;
            }
            self.due.push_back(ticket);
        }
        let mut admissions = Vec::new();
        while self.window.requests < self.bounds.window
            && self.window.bytes < self.bounds.window_bytes
        {
            let Some(ticket) = self.due.pop_front() else {
                break;
            };
            self.waits_no_more(&ticket);
            admissions.push(self.enter(ticket));
        }
        while let Some(ticket) = self.next_job() {
            admissions.push(self.offer(ticket));
        }
        admissions
    }

    /// Whether requests that are due, or of jobs, wait for a place in the window.
    #[must_use]
    pub fn has_due(&self) -> bool {
        !self.due.is_empty() || !self.jobs.is_empty()
    }

    /// When the next parked request is due.
    #[must_use]
    pub fn next_due(&self) -> Option<Uptime> {
        self.parked.next_due()
    }

    /// A lane's head has been handled, and its result is on its way to the committer: the next of
    /// the lane.
    pub fn handled(&mut self, lane: LaneId) -> Option<Ticket> {
        let next = self.lanes.finish(lane)?;
        if let Some(assigned) = self.current(&next) {
            assigned.open += 1;
        }
        Some(next)
    }

    /// Takes what waits directly behind `head` in its lane, or for its time to be retried, came from the
    /// same partition in the same assignment, and is what `joins` it: it is open from now on, as its
    /// head is. A retry has lost its place in the order, so it is taken past one that differs.
    pub fn take_behind(&mut self, head: &Ticket, joins: impl Fn(&Request) -> bool) -> Vec<Ticket> {
        let (lane, epoch) = (head.lane, head.epoch);
        let joins = |next: &Ticket| next.epoch == epoch && joins(&next.request);
        let mut taken = self.lanes.take_behind(lane, joins);
        if matches!(head.origin, Origin::Retry(_)) {
            let retried = |next: &Ticket| next.lane == lane && joins(next);
            let parked = self.parked.remove(retried);
            if let Some(assigned) = self.current(head) {
                assigned.parked -= parked.len();
            }
            let due = take_out(&mut self.due, retried);
            for next in parked.into_iter().chain(due) {
                self.waits_no_more(&next);
                self.window.take(&next);
                taken.push(next);
            }
        }
        if let Some(assigned) = self.current(head) {
            assigned.open += taken.len();
        }
        taken
    }

    /// Gives the ticket's place back without a result: somebody else will handle it.
    pub fn forget(&mut self, ticket: &Ticket) {
        self.release(ticket);
        if let Some(assigned) = self.current(ticket) {
            assigned.open = assigned.open.saturating_sub(1);
        }
    }

    /// Whether the ticket's assignment is still ours.
    #[must_use]
    pub fn is_current(&self, ticket: &Ticket) -> bool {
        self.assigned
            .get(&ticket.partition())
            .is_some_and(|assigned| assigned.epoch == ticket.epoch)
    }

    /// Whether it is, and not about to be given back.
    #[must_use]
    pub fn is_staying(&self, ticket: &Ticket) -> bool {
        self.assigned
            .get(&ticket.partition())
            .is_some_and(|assigned| assigned.epoch == ticket.epoch && !assigned.leaving)
    }

    /// What to commit together with the results of `tickets`, all current: exactly their
    /// partitions.
    #[must_use]
    pub fn commits<'a>(&self, tickets: impl Iterator<Item = &'a Ticket>) -> Vec<Commit> {
        let mut finishing: HashMap<Partition, BTreeSet<i64>> = HashMap::new();
        for ticket in tickets {
            finishing
                .entry(ticket.partition())
                .or_default()
                .insert(ticket.request.record.position.offset);
        }
        finishing
            .into_iter()
            .filter_map(|(partition, offsets)| {
                let assigned = self.assigned.get(&partition)?;
                Some(Commit {
                    epoch: assigned.epoch,
                    tag: assigned.tracker.tag_after(&offsets),
                    partition,
                })
            })
            .collect()
    }

    /// The commits of all partitions that moved, or were assigned, without a result since their
    /// last commit.
    #[must_use]
    pub fn moved(&self) -> Vec<Commit> {
        let none = BTreeSet::new();
        self.assigned
            .iter()
            .filter_map(|(partition, assigned)| {
                let tag = assigned.tracker.tag_after(&none);
                let moved = assigned.committed.as_ref() != Some(&tag);
                moved.then(|| Commit {
                    partition: partition.clone(),
                    epoch: assigned.epoch,
                    tag,
                })
            })
            .collect()
    }

    /// The transaction with these commits went through; `tickets` are finished.
    pub fn committed<'a>(
        &mut self,
        commits: Vec<Commit>,
        tickets: impl Iterator<Item = &'a Ticket>,
    ) {
        for ticket in tickets {
            self.release(ticket);
            if let Some(assigned) = self.current(ticket) {
                assigned
                    .tracker
                    .finish(ticket.request.record.position.offset);
                assigned.open = assigned.open.saturating_sub(1);
            }
        }
        for commit in commits {
            if let Some(assigned) = self
                .assigned
                .get_mut(&commit.partition)
                .filter(|one| one.epoch == commit.epoch)
            {
                assigned.committed = Some(commit.tag);
            }
        }
    }

    /// A poll returned nothing, and the position of `partition` was `position` then; none: the consumer has none
    /// yet. Where nothing is taken in any more it says nothing: what was polled since is not in the tracker.
    pub fn position(&mut self, partition: &Partition, position: Option<i64>) {
        let assigned = self.assigned.get_mut(partition);
        let Some(assigned) = assigned.filter(|assigned| assigned.is_taken_in()) else {
            return;
        };
        match position {
            Some(position) => assigned.tracker.advance(position),
            None => assigned.tracker.has_no_position(),
        }
    }

    /// The partitions to stop reading from (`true`) and to go on with (`false`), since the last call.
    pub fn holds(&mut self) -> Vec<(Partition, bool)> {
        // What is polled in one go, a quarter, fits on top.
        let waiting_bytes = self.waiting_share() / 4 * 3;
        let (bounds, jobs) = (&self.bounds, self.jobs.len());
        let mut changes = Vec::new();
        for (partition, assigned) in &mut self.assigned {
            let fill = if assigned.held { Fill::Low } else { Fill::High };
            let share = |bound: usize| {
                if assigned.held {
                    bound / 2
                } else {
                    bound.saturating_sub(1)
                }
            };
            let hold = assigned.doubt.stands_still()
                || !assigned.tracker.has_room(fill)
                || assigned.parked > share(bounds.parked)
                // One alone passes, however large it is.
                || assigned.waiting_bytes > share(waiting_bytes)
                || (assigned.origin == Origin::Jobs && jobs > share(bounds.jobs));
            if hold != assigned.held {
                assigned.held = hold;
                changes.push((partition.clone(), hold));
            }
        }
        changes
    }

    /// Partitions that are read from, unless everything is held back.
    #[must_use]
    pub fn readable(&self) -> Vec<Partition> {
        self.assigned
            .iter()
            .filter(|(_, one)| !one.held && !one.leaving)
            .map(|(partition, _)| partition.clone())
            .collect()
    }

    /// Every assigned partition.
    #[must_use]
    pub fn partitions(&self) -> Vec<Partition> {
        self.assigned.keys().cloned().collect()
    }

    /// The offset after the last one delivered.
    #[must_use]
    pub fn next_offset(&self, partition: &Partition) -> Option<i64> {
        self.assigned
            .get(partition)
            .map(|assigned| assigned.tracker.next())
    }

    /// Requests being handled, or finished and not committed.
    #[must_use]
    pub fn open(&self) -> usize {
        self.assigned.values().map(|assigned| assigned.open).sum()
    }

    /// The state in numbers; `ends` are the last stable offsets where they are known.
    #[must_use]
    pub fn gauges(&self, ends: &HashMap<Partition, i64>, now: EpochMs) -> Gauges {
        let mut lag: BTreeMap<Arc<str>, Lag> = BTreeMap::new();
        for (partition, assigned) in &self.assigned {
            let end = ends.get(partition).copied().unwrap_or(0);
            let (records, since) = assigned.tracker.lag(end);
            let topic = lag.entry(Arc::clone(&partition.topic)).or_default();
            topic.records += records;
            // Where nothing was delivered yet no record's time is known.
            let since = since.or(assigned.behind_since);
            let age = since.map_or(Duration::ZERO, |since| since.age(now));
            topic.age = topic.age.max(age);
        }
        Gauges {
            window_requests: self.window.requests,
            window_bytes: self.window.bytes,
            parked: self.parked.len() + self.due.len(),
            waiting_bytes: self.assigned.values().map(|one| one.waiting_bytes).sum(),
            partitions: self.assigned.len(),
            unreadable: self.count_held(),
            skipped: self.skipped,
            lag,
        }
    }

    /// How long ago the request that is most overdue should have had its end.
    #[must_use]
    pub fn overdue(&self, now: Uptime) -> Option<Duration> {
        let (first, _) = self.ends.first_key_value()?;
        let age = Uptime(Duration::from_secs(*first)).age(now);
        (!age.is_zero()).then_some(age)
    }

    fn enter(&mut self, ticket: Ticket) -> Admission {
        if ticket.origin == Origin::Jobs {
            // Behind those that wait, also where there is a place.
            self.window.bytes += ticket.bytes;
            self.jobs.push_back(ticket);
            return match self.next_job() {
                Some(next) => self.offer(next),
                None => Admission::Waits,
            };
        }
        self.offer(ticket)
    }

    /// The next request of a job, where there is a place for it.
    fn next_job(&mut self) -> Option<Ticket> {
        let is_free = self.window.jobs < (self.bounds.jobs / BEGUN).max(1)
            && self.window.requests < self.bounds.window;
        if is_free { self.jobs.pop_front() } else { None }
    }

    fn offer(&mut self, ticket: Ticket) -> Admission {
        self.window.take(&ticket);
        let admission = match self.lanes.offer(ticket.lane, ticket) {
            Offer::Start(ticket) => Admission::Start(ticket),
            Offer::Full(ticket) => Admission::LaneFull(ticket),
            Offer::Waits => Admission::Waits,
        };
        if let Admission::Start(ticket) | Admission::LaneFull(ticket) = &admission
            && let Some(assigned) = self.current(ticket)
        {
            assigned.open += 1;
        }
        admission
    }

    fn release(&mut self, ticket: &Ticket) {
        self.window.requests = self.window.requests.saturating_sub(1);
        self.window.bytes = self.window.bytes.saturating_sub(ticket.bytes);
        self.window.jobs = self
            .window
            .jobs
            .saturating_sub(usize::from(ticket.origin == Origin::Jobs));
        self.settle(ticket);
    }

    /// A retry that waited gets its place in the window.
    fn waits_no_more(&mut self, ticket: &Ticket) {
        if let Some(assigned) = self.current(ticket) {
            assigned.waiting_bytes -= ticket.waiting_bytes();
        }
    }

    /// The ticket is no longer in hand.
    fn settle(&mut self, ticket: &Ticket) {
        let second = second(ticket.ends_by);
        if let Some(count) = self.ends.get_mut(&second) {
            *count -= 1;
            if *count == 0 {
                self.ends.remove(&second);
            }
        }
    }

    fn current(&mut self, ticket: &Ticket) -> Option<&mut Assigned> {
        self.assigned
            .get_mut(&ticket.partition())
            .filter(|assigned| assigned.epoch == ticket.epoch)
    }
}

/// Takes out what `leaves`; the rest keeps its order.
fn take_out(waiting: &mut VecDeque<Ticket>, leaves: impl Fn(&Ticket) -> bool) -> Vec<Ticket> {
    let (out, rest): (Vec<_>, Vec<_>) = waiting.drain(..).partition(leaves);
    *waiting = rest.into();
    out
}

/// The first second that has not begun before `time`.
fn second(time: Uptime) -> u64 {
    time.0.as_secs().saturating_add(1)
}

mod refused;

#[cfg(test)]
mod tests;
