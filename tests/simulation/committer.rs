//! The committer, step by step, as the engine's thread does it; between any two of its steps
//! something else may happen, and after any of them the process may be gone.

use std::collections::VecDeque;

use user_otp::clock::EpochMs;
use user_otp::engine::output::{EXPIRED, Outgoing, Writer};
use user_otp::engine::record::Position;
use user_otp::engine::state::{Commit, Partition, State, Ticket};
use user_otp::engine::supersede::{Group, Instead};
use user_otp::engine::tag::{Found, Tag};
use user_otp::outcome::{Code, Failure, Outcome, Setback, Stage};

use crate::broker::{Epoch, Pid, Refused, Txn};
use crate::plan;
use crate::world::World;

const OFFSETS_EVERY: i64 = 1_000;

/// A request, or several that end together, with the result and the records that say so.
pub(crate) struct Finished {
    group: Group,
    outcome: Outcome,
    records: Vec<Outgoing>,
}

impl Finished {
    pub(crate) fn new(group: Group, outcome: Outcome, writer: &Writer, now: EpochMs) -> Self {
        let records = group.write(writer, &outcome, now);
        Self {
            group,
            outcome,
            records,
        }
    }

    fn ticket(&self) -> &Ticket {
        self.group.published()
    }

    fn is_covered(&self, partition: &Partition, tag: &Tag) -> bool {
        let covered = |ticket: &Ticket| tag.covers(ticket.request.record.position.offset);
        self.ticket().partition() == *partition && self.group.tickets().all(covered)
    }
}

/// Who commits.
#[derive(Clone, Copy)]
pub(crate) struct Member {
    pub(crate) pid: Pid,
    /// As it believes; `None` while it is no member.
    pub(crate) generation: Option<u32>,
    /// Another process has its transactional id by now.
    pub(crate) replaced: bool,
}

/// What a step came to, for the other threads.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Nothing,
    /// Places in the window got free.
    Freed,
    /// Told to end, and has.
    Ended,
    /// Fenced by another process with its id.
    Fenced,
}

pub(crate) struct Committer {
    id: usize,
    epoch: Epoch,
    pub(crate) queue: VecDeque<Finished>,
    cap: usize,
    offsets_committed: i64,
    pub(crate) assigned: bool,
    pub(crate) ending: bool,
    phase: Phase,
    writer: Writer,
}

enum Phase {
    Idle,
    Open(Box<Open>),
    /// A new producer is needed; then what was committed after all is struck out.
    Rebuild(Vec<Finished>, Option<Vec<Partition>>),
}

struct Open {
    batch: Vec<Finished>,
    commits: Vec<Commit>,
    generation: u32,
    offsets_due: bool,
    stage: At,
}

enum At {
    Decided,
    Written(Txn),
    OffsetsSent(Txn),
    /// The broker has done it, and the answer is on its way.
    Answered,
}

impl Committer {
    pub(crate) fn new(id: usize, world: &mut World) -> Self {
        Self {
            id,
            epoch: world.broker.init(id),
            queue: VecDeque::new(),
            cap: world.random.between(1, 12) as usize,
            offsets_committed: world.now.0,
            assigned: false,
            ending: false,
            phase: Phase::Idle,
            writer: plan::writer(),
        }
    }

    pub(crate) fn transaction_is_open(&self) -> bool {
        !matches!(self.phase, Phase::Idle)
    }

    /// Everything that has a result, and no commit that is known of.
    pub(crate) fn tickets(&self) -> impl Iterator<Item = &Ticket> {
        let batch = match &self.phase {
            Phase::Idle => [].as_slice(),
            Phase::Open(open) => &open.batch,
            Phase::Rebuild(batch, _) => batch,
        };
        let all = batch.iter().chain(&self.queue);
        all.flat_map(|one| one.group.tickets())
    }

    pub(crate) fn step(&mut self, member: Member, state: &mut State, world: &mut World) -> Step {
        match std::mem::replace(&mut self.phase, Phase::Idle) {
            Phase::Idle => self.decide(member, state, world),
            Phase::Open(open) => self.advance(*open, member, state, world),
            Phase::Rebuild(batch, partitions) if !member.replaced => {
                self.rebuild(batch, partitions, state, world)
            }
            Phase::Rebuild(..) => Step::Fenced,
        }
    }

    fn decide(&mut self, member: Member, state: &mut State, world: &mut World) -> Step {
        let since = world.now.0 - self.offsets_committed;
        let offsets_due = self.ending || self.assigned || since >= OFFSETS_EVERY;
        if self.queue.is_empty() && !offsets_due {
            return Step::Nothing;
        }
        let size = self.queue.len().min(self.cap);
        let mut batch: Vec<_> = self.queue.drain(..size).collect();
        self.expire(&mut batch, world);
        batch.retain(|finished| {
            let current = state.is_current(finished.ticket());
            if !current {
                finished
                    .group
                    .tickets()
                    .for_each(|ticket| state.forget(ticket));
            }
            current
        });
        let dropped = batch.len() < size;
        let mut commits = state.commits(batch.iter().flat_map(|finished| finished.group.tickets()));
        if offsets_due {
            let mut moved = state.moved();
            moved.retain(|one| commits.iter().all(|other| other.partition != one.partition));
            commits.extend(moved);
        }
        // A map's order must not steer a simulation.
        commits.sort_by(|one, other| one.partition.cmp(&other.partition));
        if let Some(generation) = member.generation.filter(|_| !commits.is_empty()) {
            self.phase = Phase::Open(Box::new(Open {
                batch,
                commits,
                generation,
                offsets_due,
                stage: At::Decided,
            }));
            return freed(dropped);
        }
        self.offsets_committed = world.now.0;
        self.assigned &= member.generation.is_none();
        let ended = self.ending && batch.is_empty() && self.queue.is_empty();
        self.put_back(batch);
        if ended { Step::Ended } else { freed(dropped) }
    }

    /// A late OTP is worse than none.
    fn expire(&self, batch: &mut Vec<Finished>, world: &World) {
        let is_late = |finished: &Finished| {
            matches!(finished.outcome, Outcome::Published(_))
                && finished.ticket().request.envelope.context.deadline <= world.now
        };
        let failure = Failure {
            stage: Stage::Publish,
            ..EXPIRED
        };
        while let Some(place) = batch.iter().position(is_late) {
            self.replace(batch, place, Instead::DeadLettered(failure), world);
        }
    }

    fn replace(&self, batch: &mut Vec<Finished>, place: usize, end: Instead, world: &World) {
        let each = batch.remove(place).group.apart(end).into_iter();
        let mut each =
            each.map(|(group, outcome)| Finished::new(group, outcome, &self.writer, world.now));
        batch.splice(place..place, each.by_ref().take(1));
        batch.extend(each);
    }

    fn advance(
        &mut self,
        mut open: Open,
        member: Member,
        state: &mut State,
        world: &mut World,
    ) -> Step {
        match open.stage {
            At::Decided => {
                let Ok(txn) = world.broker.begin(self.id, self.epoch, world.now) else {
                    return self.start_rebuild(open.batch);
                };
                if self.send_all(txn, &mut open.batch, world).is_err() || world.fault(3) {
                    return self.abort(txn, open.batch, world);
                }
                open.stage = At::Written(txn);
            }
            At::Written(txn) => {
                let finishes = positions(&open.batch);
                let sent = world.broker.send_offsets(
                    txn,
                    member.pid,
                    open.generation,
                    open.commits.clone(),
                    finishes,
                );
                if sent.is_err() || world.fault(3) {
                    return self.abort(txn, open.batch, world);
                }
                open.stage = At::OffsetsSent(txn);
            }
            At::OffsetsSent(txn) => {
                // The answer is lost before, or after, the broker has done it.
                if world.fault(4) || world.broker.commit(txn).is_err() || world.fault(4) {
                    return self.start_rebuild(open.batch);
                }
                open.stage = At::Answered;
            }
            At::Answered => return self.committed(open, state, world),
        }
        self.phase = Phase::Open(Box::new(open));
        Step::Nothing
    }

    /// `Err`: a record was not delivered, and the request has another outcome now.
    fn send_all(
        &self,
        txn: Txn,
        batch: &mut Vec<Finished>,
        world: &mut World,
    ) -> Result<(), Refused> {
        let mut delivered = Ok(());
        for place in 0..batch.len() {
            let mut undelivered = false;
            for record in &batch[place].records {
                if world.sms_is_away && &*record.topic == plan::SMS {
                    undelivered = true;
                    continue;
                }
                let count = world.broker.partitions(&record.topic);
                let partition = Partition {
                    topic: record.topic.clone(),
                    number: world.random.below(count as usize) as i32,
                };
                let now = world.now;
                world.broker.send(txn, record.clone(), partition, now)?;
            }
            if undelivered {
                let setback = Setback {
                    code: Code::OutputTopicUnavailable,
                    stage: Stage::Publish,
                    retry_after: None,
                };
                self.replace(batch, place, Instead::Retried(setback), world);
                delivered = Err(Refused);
            }
        }
        delivered
    }

    fn committed(&mut self, open: Open, state: &mut State, world: &World) -> Step {
        let tickets = open.batch.iter().flat_map(|one| one.group.tickets());
        state.committed(open.commits, tickets);
        if open.offsets_due {
            self.offsets_committed = world.now.0;
            self.assigned = false;
        }
        if self.ending && self.queue.is_empty() {
            Step::Ended
        } else {
            Step::Freed
        }
    }

    fn abort(&mut self, txn: Txn, batch: Vec<Finished>, world: &mut World) -> Step {
        if world.broker.abort(txn).is_err() {
            return self.start_rebuild(batch);
        }
        self.put_back(batch);
        Step::Nothing
    }

    fn start_rebuild(&mut self, batch: Vec<Finished>) -> Step {
        self.phase = Phase::Rebuild(batch, None);
        Step::Nothing
    }

    fn rebuild(
        &mut self,
        mut batch: Vec<Finished>,
        partitions: Option<Vec<Partition>>,
        state: &mut State,
        world: &mut World,
    ) -> Step {
        let mut unknown = partitions.unwrap_or_else(|| {
            self.epoch = world.broker.init(self.id);
            let mut all: Vec<_> = batch.iter().map(|one| one.ticket().partition()).collect();
            all.sort();
            all.dedup();
            all
        });
        unknown.retain(|partition| {
            let Some(committed) = world.broker.committed(partition) else {
                return state.next_offset(partition).is_some();
            };
            let Some((offset, metadata)) = committed else {
                return false;
            };
            if let Found::Ours(tag) = Tag::decode(&metadata, offset) {
                let done: Vec<_> = batch
                    .extract_if(.., |one| one.is_covered(partition, &tag))
                    .collect();
                state.committed(Vec::new(), done.iter().flat_map(|one| one.group.tickets()));
            }
            false
        });
        if unknown.is_empty() {
            self.put_back(batch);
        } else {
            self.phase = Phase::Rebuild(batch, Some(unknown));
        }
        Step::Freed
    }

    fn put_back(&mut self, batch: Vec<Finished>) {
        for finished in batch.into_iter().rev() {
            self.queue.push_front(finished);
        }
    }
}

fn freed(any: bool) -> Step {
    if any { Step::Freed } else { Step::Nothing }
}

fn positions(batch: &[Finished]) -> Vec<Position> {
    let tickets = batch.iter().flat_map(|one| one.group.tickets());
    tickets
        .map(|ticket| ticket.request.record.position.clone())
        .collect()
}
