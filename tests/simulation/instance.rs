//! One process: the engine's state, and around it what its threads do, in steps.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use user_otp::clock::{EpochMs, Uptime};
use user_otp::domain::contact::MobileNumber;
use user_otp::domain::rejection::Rejection;
use user_otp::engine::offsets::Tracker;
use user_otp::engine::output::{EXPIRED, Writer};
use user_otp::engine::record::{Origin, Record, Request};
use user_otp::engine::state::{Admission, Epoch, Partition, State, Ticket};
use user_otp::engine::supersede::Group;
use user_otp::engine::tag::{Found, Tag};
use user_otp::notification::Sms;
use user_otp::outcome::{Code, Disposition, Failure, Outcome, Published, Setback, Stage};

use crate::broker::{Fetched, Heard, Pid};
use crate::committer::{Committer, Finished, Member, Step};
use crate::plan;
use crate::world::World;

/// How long a rebalance waits for what was begun.
const DRAIN: i64 = 2_000;

pub(crate) struct Instance {
    pub(crate) pid: Pid,
    pub(crate) id: usize,
    pub(crate) state: State,
    window: usize,
    supersede_after: Duration,
    generation: Option<u32>,
    /// What it reads from, and how far it is.
    positions: BTreeMap<Partition, i64>,
    paused: BTreeSet<Partition>,
    /// Assigned, and it is not known where to start.
    pending: BTreeSet<Partition>,
    /// Partitions in which something was delivered in this assignment.
    pub(crate) started: BTreeSet<Partition>,
    in_hand: Vec<(Record, Epoch)>,
    tasks: Vec<Task>,
    left: BTreeSet<Epoch>,
    giving_back: Option<GivingBack>,
    /// The task that takes due requests in was woken.
    woken: bool,
    wakes_at: Option<Uptime>,
    committer: Committer,
    /// A call of the committer takes until then.
    calls_until: EpochMs,
    writer: Writer,
    stops_at: Option<EpochMs>,
    /// The group is not heard until then.
    pub(crate) deaf_until: EpochMs,
    /// Nothing at all is done until then.
    pub(crate) frozen_until: EpochMs,
    pub(crate) replaced: bool,
    pub(crate) ended: bool,
}

/// A lane's head being handled.
struct Task {
    ticket: Ticket,
    ready_at: EpochMs,
    /// Still waits for a permit: nothing is begun.
    waits: bool,
    stopped: bool,
}

struct GivingBack {
    partitions: Vec<Partition>,
    epochs: Vec<Epoch>,
    bound: EpochMs,
}

impl Instance {
    pub(crate) fn new(pid: Pid, id: usize, world: &mut World) -> Self {
        let bounds = plan::bounds(&mut world.random);
        world.broker.group.join(pid);
        Self {
            pid,
            id,
            window: bounds.window,
            supersede_after: plan::supersede_after(&mut world.random),
            state: State::new(bounds),
            generation: None,
            positions: BTreeMap::new(),
            paused: BTreeSet::new(),
            pending: BTreeSet::new(),
            started: BTreeSet::new(),
            in_hand: Vec::new(),
            tasks: Vec::new(),
            left: BTreeSet::new(),
            giving_back: None,
            woken: false,
            wakes_at: None,
            committer: Committer::new(id, world),
            calls_until: EpochMs(0),
            writer: plan::writer(),
            stops_at: None,
            deaf_until: EpochMs(0),
            frozen_until: EpochMs(0),
            replaced: false,
            ended: false,
        }
    }

    /// Whether nothing is left to do.
    pub(crate) fn is_quiet(&self) -> bool {
        self.tasks.is_empty()
            && self.in_hand.is_empty()
            && self.pending.is_empty()
            && self.giving_back.is_none()
            && self.stops_at.is_none()
            && self.committer.queue.is_empty()
            && !self.committer.transaction_is_open()
            && self.state.open() == 0
            && !self.state.has_due()
            && self.state.next_due().is_none()
    }

    /// For the message of a run that does not come to rest.
    pub(crate) fn describe(&self) -> String {
        format!(
            "{}: quiet {} stopping {} room {} of {} open {} due {} parked {:?} positions {:?} paused {:?} pending {:?}",
            self.pid,
            self.is_quiet(),
            self.stops_at.is_some(),
            self.state.room(),
            self.window,
            self.state.open(),
            self.state.has_due(),
            self.state.next_due(),
            self.positions,
            self.paused,
            self.pending,
        )
    }

    /// All places are free again.
    pub(crate) fn check_empty(&self, now: EpochMs) {
        assert_eq!(
            self.state.room(),
            self.window,
            "places in the window are lost"
        );
        assert_eq!(self.state.open(), 0, "requests are open");
        let gauges = self.state.gauges(&HashMap::new(), now);
        assert_eq!(gauges.window_bytes, 0, "bytes in the window are lost");
        let never = Uptime(Duration::MAX);
        assert_eq!(self.state.overdue(never), None, "requests count as in hand");
    }

    /// SIGTERM: takes nothing in any more, drains, and ends.
    pub(crate) fn stop(&mut self, world: &World) {
        if self.stops_at.is_some() {
            return;
        }
        self.stops_at = Some(world.now.plus(Duration::from_secs(5)));
        let epochs = self.state.stop();
        // What is paused then may still be delivered: nothing rests on a pause.
        self.cancel(&epochs);
    }

    /// One step of one of its threads.
    pub(crate) fn step(&mut self, thread: usize, world: &mut World) {
        if world.now < self.frozen_until || self.ended {
            return;
        }
        match thread {
            0 => self.intake(world),
            1 => self.handle(world),
            2 => self.take_due(world),
            _ => self.commit(world),
        }
        if !self.ended {
            self.check(world);
        }
    }

    /// What holds after every step.
    fn check(&self, world: &World) {
        let begun = self.tasks.iter().map(|task| &task.ticket);
        let in_hand: Vec<_> = begun.chain(self.committer.tickets()).collect();
        let current = in_hand
            .iter()
            .filter(|ticket| self.state.is_current(ticket));
        assert_eq!(
            self.state.open(),
            current.count(),
            "requests that count as open, and that are"
        );
        let due = self.state.has_due() && self.stops_at.is_none();
        assert!(
            !due || !in_hand.is_empty() || self.is_awake(world),
            "requests are due, nothing is in hand, and nothing will take them in"
        );
    }

    fn is_awake(&self, world: &World) -> bool {
        self.woken || self.wakes_at.is_some_and(|at| at <= world.uptime())
    }

    fn commit(&mut self, world: &mut World) {
        if self.committer.transaction_is_open() && world.fault(2) {
            self.calls_until = EpochMs(world.now.0 + world.random.between(0, 5_000));
        }
        if world.now < self.calls_until {
            return;
        }
        let member = Member {
            pid: self.pid,
            generation: self.generation,
            replaced: self.replaced,
        };
        match self.committer.step(member, &mut self.state, world) {
            Step::Nothing => {}
            Step::Freed => self.woken = true,
            Step::Ended | Step::Fenced => {
                world.broker.group.remove(self.pid);
                self.ended = true;
            }
        }
    }

    // The consumer thread.

    fn intake(&mut self, world: &mut World) {
        if self.giving_back.is_some() {
            return self.give_back(world);
        }
        // A rebalance happens inside a poll, also while records are in hand.
        if world.now >= self.deaf_until && world.random.chance(30) {
            self.hear(world);
            if self.giving_back.is_some() {
                return;
            }
        }
        if !self.in_hand.is_empty() {
            return self.admit_all(world);
        }
        let pending = std::mem::take(&mut self.pending);
        self.start(pending.into_iter().collect(), world);
        for (partition, hold) in self.state.holds() {
            if hold {
                self.paused.insert(partition);
            } else {
                self.paused.remove(&partition);
            }
        }
        let room = match self.stops_at {
            None => self.state.room().min(5),
            Some(bound) => {
                if self.state.open() == 0 || world.now >= bound {
                    self.committer.ending = true;
                }
                1
            }
        };
        self.poll(room, world);
    }

    fn hear(&mut self, world: &mut World) {
        match world.broker.group.hear(self.pid) {
            Heard::NotAMember => {
                // Lost: others have it already, so there is nothing to wait for.
                let all: Vec<_> = self.positions.keys().cloned().collect();
                let epochs = self.state.begin_revoke(&all);
                self.cancel(&epochs);
                self.forget_partitions(&all);
                self.pending.clear();
                self.generation = None;
                world.broker.group.join(self.pid);
            }
            Heard::Assignment {
                generation,
                revoke,
                assign,
            } => {
                self.generation = Some(generation);
                self.start(assign, world);
                if !revoke.is_empty() {
                    self.begin_giving_back(revoke, world);
                }
            }
        }
    }

    /// Starts assigned partitions where the last owner stopped, as far as that is known.
    fn start(&mut self, partitions: Vec<Partition>, world: &mut World) {
        for partition in partitions {
            let Some(committed) = world.broker.committed(&partition) else {
                self.pending.insert(partition);
                continue;
            };
            let tracker = match committed {
                None => {
                    let end = world.broker.end(&partition);
                    world.broker.ledger.was_there_before(&partition, end);
                    Tracker::foreign(world.broker.low(&partition), end)
                }
                Some((offset, metadata)) => match Tag::decode(&metadata, offset) {
                    Found::Ours(tag) => Tracker::from_tag(&tag),
                    other @ (Found::NotOurs | Found::Unknown(_)) => {
                        panic!("our own commit of {partition:?} is read as {other:?}")
                    }
                },
            };
            let origin = plan::origin(&partition.topic).expect("a topic that is read");
            self.positions
                .insert(partition.clone(), tracker.commit_point());
            self.paused.remove(&partition);
            self.state.assign(partition.clone(), origin, tracker);
            // Or the library still has one of an earlier assignment.
            if world.random.chance(50) {
                self.state.position(&partition, None);
            }
            self.committer.assigned = true;
        }
    }

    fn begin_giving_back(&mut self, partitions: Vec<Partition>, world: &World) {
        for partition in &partitions {
            self.pending.remove(partition);
        }
        let epochs = self.state.begin_revoke(&partitions);
        self.cancel(&epochs);
        self.giving_back = Some(GivingBack {
            partitions,
            epochs,
            bound: EpochMs(world.now.0 + DRAIN),
        });
    }

    fn give_back(&mut self, world: &mut World) {
        let Some(giving) = &self.giving_back else {
            return;
        };
        let drained =
            self.state.is_drained(&giving.partitions) && !self.committer.transaction_is_open();
        if !drained && world.now < giving.bound {
            return;
        }
        if drained {
            let begun = self.tasks.iter().map(|one| &one.ticket);
            let begun = begun.chain(self.committer.tickets());
            assert_eq!(
                begun
                    .filter(|ticket| giving.epochs.contains(&ticket.epoch))
                    .count(),
                0,
                "drained, and something is still in hand"
            );
        }
        let partitions = giving.partitions.clone();
        self.giving_back = None;
        self.forget_partitions(&partitions);
        world.broker.group.release(self.pid, &partitions);
    }

    fn forget_partitions(&mut self, partitions: &[Partition]) {
        self.state.end_revoke(partitions);
        for partition in partitions {
            self.positions.remove(partition);
            self.paused.remove(partition);
            self.started.remove(partition);
        }
    }

    fn cancel(&mut self, epochs: &[Epoch]) {
        self.left.extend(epochs);
        self.woken = true;
        for task in &mut self.tasks {
            task.stopped |= epochs.contains(&task.ticket.epoch);
        }
    }

    fn poll(&mut self, room: usize, world: &mut World) {
        let mut readable: Vec<_> = self.positions.keys().cloned().collect();
        readable.retain(|partition| !self.paused.contains(partition));
        while self.in_hand.len() < room && !readable.is_empty() {
            let index = world.random.below(readable.len());
            let partition = &readable[index];
            match world.broker.fetch(partition, self.positions[partition]) {
                Fetched::Nothing(position) => {
                    self.positions.insert(partition.clone(), position);
                    readable.swap_remove(index);
                }
                Fetched::Record(record) => self.deliver(&partition.clone(), *record, world),
            }
            if self.stops_at.is_some() && world.random.chance(50) {
                break;
            }
        }
        if self.in_hand.is_empty() {
            for (partition, position) in &self.positions {
                self.state.position(partition, Some(*position));
            }
        }
    }

    fn deliver(&mut self, partition: &Partition, record: Record, world: &mut World) {
        let position = record.position.clone();
        self.positions
            .insert(partition.clone(), position.offset + 1);
        let taken = self
            .state
            .deliver(partition, position.offset, record.timestamp, world.now);
        match taken {
            Some(epoch) => {
                assert!(
                    self.stops_at.is_none(),
                    "{position} is taken up after the end was asked for"
                );
                // One that was thrown out and does not know it yet works in vain.
                if world.broker.group.owner(partition) == Some(self.pid) {
                    let now = world.now;
                    world
                        .broker
                        .ledger
                        .taken_up(&position, record.timestamp, now);
                }
                self.started.insert(partition.clone());
                self.in_hand.push((record, epoch));
            }
            None if !self.state.refused().is_empty() => {
                panic!("{position} is refused, though little is in hand")
            }
            None if self.stops_at.is_some() => {}
            None => {
                self.started.insert(partition.clone());
                let now = world.now;
                world
                    .broker
                    .ledger
                    .passed_over(&position, record.timestamp, now);
            }
        }
    }

    fn admit_all(&mut self, world: &mut World) {
        for (record, epoch) in std::mem::take(&mut self.in_hand) {
            let origin = plan::origin(&record.position.topic).unwrap_or(Origin::Requests);
            let request = Request::read(record, origin, world.now, &plan::reading());
            let admission = self.state.admit(request, epoch, world.now, world.uptime());
            self.woken |= self.state.next_due().is_some();
            self.admitted(admission, world);
        }
    }

    // The handlers.

    fn admitted(&mut self, admission: Admission, world: &mut World) {
        match admission {
            Admission::Start(ticket) => self.begin(ticket, world),
            Admission::LaneFull(ticket) => {
                let setback = Setback {
                    code: Code::LaneFull,
                    stage: Stage::Queue,
                    retry_after: None,
                };
                self.finish(Group::alone(ticket), Outcome::Retried(setback), world);
            }
            Admission::Waits => {}
        }
    }

    fn begin(&mut self, ticket: Ticket, world: &mut World) {
        let position = &ticket.request.record.position;
        assert!(
            !self.left.contains(&ticket.epoch) && self.state.is_current(&ticket),
            "{position} is begun in an assignment that has ended"
        );
        assert!(
            self.tasks
                .iter()
                .all(|task| task.ticket.lane != ticket.lane),
            "{position} is begun while another of its person is handled"
        );
        if let (Some(Origin::Retry(delay)), Some(time)) = (
            plan::origin(&position.topic),
            ticket.request.record.timestamp,
        ) {
            assert!(
                time.plus(delay) <= world.now,
                "{position} is handled before it is due"
            );
        }
        if let Err(error) = &ticket.request.submission {
            let failure = Failure {
                disposition: Disposition::Poison,
                code: error.code,
                stage: Stage::Decode,
            };
            return self.pass_on(ticket, Some(Outcome::DeadLettered(failure)), world);
        }
        self.tasks.push(Task {
            ticket,
            ready_at: EpochMs(world.now.0 + world.random.between(0, 600)),
            waits: world.random.chance(50),
            stopped: false,
        });
    }

    fn handle(&mut self, world: &mut World) {
        let may_go_on = |task: &Task| task.ready_at <= world.now || (task.stopped && task.waits);
        let ready: Vec<_> = (0..self.tasks.len())
            .filter(|index| may_go_on(&self.tasks[*index]))
            .collect();
        if ready.is_empty() {
            return;
        }
        let index = *world.random.pick(&ready);
        let task = &mut self.tasks[index];
        if task.waits && !task.stopped {
            task.waits = false;
            task.ready_at = EpochMs(world.now.0 + world.random.between(0, 300));
            return;
        }
        let task = self.tasks.swap_remove(index);
        let outcome = (!task.waits).then(|| outcome(&task.ticket.request, world));
        self.pass_on(task.ticket, outcome, world);
    }

    fn pass_on(&mut self, ticket: Ticket, outcome: Option<Outcome>, world: &mut World) {
        let lane = ticket.lane;
        match outcome {
            Some(outcome @ Outcome::Published(_)) => {
                let (state, after) = (&mut self.state, self.supersede_after);
                let group = Group::gather(ticket, state, after, world.now);
                self.finish(group, outcome, world);
            }
            Some(outcome) => self.finish(Group::alone(ticket), outcome, world),
            None => {
                self.state.forget(&ticket);
                self.woken = true;
            }
        }
        if let Some(next) = self.state.handled(lane) {
            self.begin(next, world);
        }
    }

    fn finish(&mut self, group: Group, outcome: Outcome, world: &World) {
        let finished = Finished::new(group, outcome, &self.writer, world.now);
        self.committer.queue.push_back(finished);
    }

    // The task of the retries.

    fn take_due(&mut self, world: &mut World) {
        if !self.is_awake(world) || self.stops_at.is_some() {
            return;
        }
        self.woken = false;
        let admissions = self.state.take_due(world.uptime());
        self.wakes_at = self.state.next_due();
        for admission in admissions {
            self.admitted(admission, world);
        }
    }
}

/// What the services, or the rules, say to a request.
fn outcome(request: &Request, world: &mut World) -> Outcome {
    let envelope = &request.envelope;
    if envelope.context.deadline.left(world.now) < plan::MIN_LIFE {
        return Outcome::DeadLettered(EXPIRED);
    }
    let pause = world.random.between(0, 30);
    let unavailable = Outcome::Retried(Setback {
        code: Code::ServiceUnavailable,
        stage: Stage::Otp,
        retry_after: (pause > 20).then(|| Duration::from_secs(pause.unsigned_abs())),
    });
    if world.outage {
        return unavailable;
    }
    match world.random.below(100) {
        0..75 => Outcome::Published(Published {
            sms: Sms {
                topic: plan::SMS.to_owned(),
                key: "key".to_owned(),
                to: MobileNumber::stored("1".to_owned()).expect("a number"),
                text: "text".to_owned(),
                country_code: None,
                expires: world.now.plus(plan::LIFETIME),
            },
            email: None,
            code: None,
            probe: None,
        }),
        75..85 => Outcome::Rejected(Rejection::UnknownNumber),
        85..90 => Outcome::DeadLettered(Failure {
            disposition: Disposition::Refused,
            code: Code::ServiceRefused,
            stage: Stage::Otp,
        }),
        _ => unavailable,
    }
}
