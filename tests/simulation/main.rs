//! A seeded simulation of the engine's pure parts under faults: several processes, each with a
//! `State` of its own, on a simulated Kafka, in simulated time.
//!
//! ```text
//! requests, junk, gaps ─▶ broker ◀─▶ instance: poll · handlers · retries · committer
//!                           │        instance: …            ▲
//!                        ledger                             └ crashes, zombies, rebalances,
//!                   what must hold                            outages, lost answers, aborts
//! ```
//!
//! A run that fails prints its seed. `SIMULATION_SEED=… cargo test --test simulation` plays that
//! one again, the same to the last record; `SIMULATION_RUNS=…` says how many fresh seeds to try.
#![expect(
    clippy::panic,
    clippy::print_stderr,
    reason = "a simulation fails by a panic, and says how to see it again"
)]

mod broker;
mod committer;
mod instance;
mod ledger;
mod plan;
mod random;
mod world;

use std::collections::BTreeMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{BuildHasher as _, Hash as _, Hasher as _, RandomState};

use user_otp::clock::EpochMs;
use user_otp::engine::headers;
use user_otp::engine::record::{Header, Position, Record};
use user_otp::engine::state::Partition;

use crate::broker::Pid;
use crate::instance::Instance;
use crate::ledger::{Asked, Ledger};
use crate::random::Random;
use crate::world::World;

/// Processes at most, zombies not counted.
const SLOTS: usize = 3;

const PERSONS: usize = 5;

/// Seeds that are always played.
const FIXED: u64 = 60;

/// Fresh seeds, unless `SIMULATION_RUNS` says otherwise.
const RUNS: u64 = 40;

#[test]
fn every_request_ends_once_whatever_happens() {
    if let Some(seed) = setting("SIMULATION_SEED") {
        run(seed);
        return;
    }
    let superseded: usize = (0..FIXED).map(|seed| run(seed).superseded).sum();
    assert!(superseded > 100, "{superseded} requests are superseded");
    let first = RandomState::new().hash_one("fresh");
    for index in 0..setting("SIMULATION_RUNS").unwrap_or(RUNS) {
        run(first.wrapping_add(index));
    }
}

#[test]
fn a_seed_plays_the_same_again() {
    for seed in 0..5 {
        assert_eq!(run(seed), run(seed), "seed {seed}");
    }
}

fn setting(name: &str) -> Option<u64> {
    #[expect(clippy::disallowed_methods, reason = "a test's own setting")]
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name} is a number")),
    )
}

/// Says how to see a failure again.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let seed = self.0;
            eprintln!("again: SIMULATION_SEED={seed} cargo test --test simulation every_request");
        }
    }
}

/// What a seed came to.
#[derive(Debug, PartialEq, Eq)]
struct Played {
    /// A hash of what was written, and when.
    digest: u64,
    superseded: usize,
}

/// Plays one seed to its end.
fn run(seed: u64) -> Played {
    let seed = Seed(seed);
    let mut simulation = Simulation::new(Random::new(seed.0));
    simulation.backlog();
    for _ in 0..1_200 {
        simulation.trouble();
        simulation.step();
    }
    simulation.heal();
    simulation.come_to_rest();
    Played {
        superseded: simulation.check(),
        digest: simulation.digest(),
    }
}

struct Simulation {
    world: World,
    instances: Vec<Instance>,
    pids: Pid,
    sent: usize,
    /// Requests in a thousand steps.
    traffic: usize,
}

impl Simulation {
    fn new(mut random: Random) -> Self {
        Self {
            traffic: *random.pick(&[2, 60, 120, 120]),
            world: World::new(random),
            instances: Vec::new(),
            pids: 0,
            sent: 0,
        }
    }

    /// What was there before us: much of it too old to be handled.
    fn backlog(&mut self) {
        let start = self.world.now;
        for _ in 0..self.world.random.below(20) {
            self.world.now = EpochMs(start.0 - self.world.random.between(0, 120_000));
            self.send();
        }
        self.world.now = start;
        for id in 0..=self.world.random.below(SLOTS) {
            self.launch(id);
        }
    }

    fn step(&mut self) {
        self.world.now.0 += self.world.random.between(1, 30);
        self.advance(50);
    }

    /// Gives each thread of each process a step, `percent` times of a hundred.
    fn advance(&mut self, percent: usize) {
        let now = self.world.now;
        self.world.broker.time_out(now);
        for instance in &mut self.instances {
            for thread in 0..4 {
                if self.world.random.chance(percent) {
                    instance.step(thread, &mut self.world);
                }
            }
        }
        self.instances.retain(|instance| !instance.ended);
        self.rebalance_if_due();
    }

    /// The group notices who came and went.
    fn rebalance_if_due(&mut self) {
        let group = &mut self.world.broker.group;
        let members: Vec<_> = group.members.iter().copied().collect();
        let whim = !self.world.healed && self.world.random.chance(1);
        if !group.changed && !whim {
            return;
        }
        let mut targets = BTreeMap::new();
        for partition in plan::consumed() {
            let kept = group
                .owner(&partition)
                .filter(|_| self.world.random.chance(60));
            if let Some(member) = kept.or_else(|| pick(&mut self.world.random, &members)) {
                targets.insert(partition, member);
            }
        }
        group.rebalance(targets);
    }

    fn launch(&mut self, id: usize) {
        self.pids += 1;
        let instance = Instance::new(self.pids, id, &mut self.world);
        self.instances.push(instance);
    }

    // What goes wrong, or comes.

    fn trouble(&mut self) {
        let now = self.world.now;
        match self.world.random.below(1_000) {
            draw if draw < self.traffic => self.send(),
            120..140 => {
                let partition = self.any_source();
                let longest = *self.world.random.pick(&[1, 1, 100, 100_000]);
                let length = self.world.random.between(1, longest);
                self.world.broker.append_gap(&partition, length);
            }
            140..150 => self.world.outage = !self.world.outage,
            150..154 => self.world.sms_is_away = !self.world.sms_is_away,
            154..180 => {
                let id = self.world.random.below(SLOTS);
                if !self
                    .instances
                    .iter()
                    .any(|one| one.id == id && !one.replaced)
                {
                    self.launch(id);
                }
            }
            // A crash: everything in memory is gone, and the group finds out.
            180..186 => {
                if let Some(index) = self.any_instance() {
                    let gone = self.instances.remove(index);
                    self.world.broker.group.remove(gone.pid);
                }
            }
            // The group gives up on a process that does not know it yet, or does nothing at all.
            186..192 => {
                if let Some(index) = self.any_instance() {
                    let until = EpochMs(now.0 + self.world.random.between(0, 15_000));
                    let zombie = &mut self.instances[index];
                    if self.world.random.chance(50) {
                        zombie.frozen_until = until;
                    } else {
                        zombie.deaf_until = until;
                    }
                    if self.world.random.chance(80) {
                        self.world.broker.group.remove(zombie.pid);
                    }
                }
            }
            // A new process takes the id of one that still lives.
            192..194 => {
                if let Some(index) = self.any_instance() {
                    let zombie = &mut self.instances[index];
                    zombie.replaced = true;
                    zombie.frozen_until = EpochMs(now.0 + self.world.random.between(0, 5_000));
                    let (id, pid) = (zombie.id, zombie.pid);
                    self.world.broker.group.remove(pid);
                    self.launch(id);
                }
            }
            194..197 => {
                if let Some(index) = self.any_instance() {
                    self.instances[index].stop(&self.world);
                }
            }
            197..199 => self.world.now.0 += self.world.random.between(0, 5_000),
            // Nobody gets anything done for longer than a request lives.
            199 => self.world.now.0 += self.world.random.between(0, 90_000),
            _ => {}
        }
    }

    fn any_instance(&mut self) -> Option<usize> {
        let living: Vec<_> = (0..self.instances.len())
            .filter(|index| !self.instances[*index].replaced)
            .collect();
        pick(&mut self.world.random, &living)
    }

    fn any_source(&mut self) -> Partition {
        let mut sources = plan::consumed();
        sources.retain(|one| [plan::REQUESTS, plan::ACCEPTED, plan::JOBS].contains(&&*one.topic));
        self.world.random.pick(&sources).clone()
    }

    /// Somebody asks for an OTP, or writes junk.
    fn send(&mut self) {
        self.sent += 1;
        let partition = self.any_source();
        let person = self.world.random.below(PERSONS);
        let kind = *self
            .world
            .random
            .pick(&["login", "login", "login", "register"]);
        let junk = self.world.random.chance(4);
        let value = if junk {
            b"{\"otp\":".to_vec()
        } else {
            format!(
                r#"{{"otp":{{"mobileNumber":"987650000{person}","tenantId":"pb","type":"{kind}"}}}}"#
            )
            .into_bytes()
        };
        let now = self.world.now;
        let mut deadline = now.plus(plan::LIFETIME);
        let given_id = (&*partition.topic != plan::REQUESTS || self.world.random.chance(30))
            .then(|| format!("id-{}", self.sent));
        let mut pairs = Vec::new();
        pairs.extend(given_id.clone().map(|id| (headers::EVENT_ID, id)));
        if &*partition.topic == plan::REQUESTS && self.world.random.chance(20) {
            deadline.0 -= self.world.random.between(0, 50_000);
            pairs.push((headers::DEADLINE, deadline.0.to_string()));
        }
        if &*partition.topic == plan::ACCEPTED {
            pairs.push((headers::DEADLINE, deadline.0.to_string()));
        }
        let header = |(name, value): (&str, String)| Header {
            name: name.to_owned(),
            value: Some(value.into_bytes()),
        };
        let record = Record {
            position: Position {
                topic: partition.topic.clone(),
                partition: partition.number,
                offset: 0,
            },
            timestamp: Some(now),
            key: None,
            value: Some(value),
            headers: pairs.into_iter().map(header).collect(),
        };
        let position = self.world.broker.append(&partition, record);
        let id = given_id.unwrap_or_else(|| position.to_string());
        let asked = (!junk).then_some(Asked { person, kind });
        let ledger = &mut self.world.broker.ledger;
        ledger.request(id, position, asked, deadline, now);
    }

    // The end.

    fn heal(&mut self) {
        let world = &mut self.world;
        (world.outage, world.sms_is_away, world.healed) = (false, false, true);
        for instance in &mut self.instances {
            instance.deaf_until = world.now;
            instance.frozen_until = world.now;
        }
        // Those that are left may all be ending.
        self.launch(SLOTS);
    }

    /// Goes on until nothing is left to do; a request that is lost or stuck never lets it.
    fn come_to_rest(&mut self) {
        let mut rests = 0;
        for _ in 0..5_000 {
            self.world.now.0 += 40;
            self.advance(100);
            rests = if self.is_at_rest() { rests + 1 } else { 0 };
            // The commit points are written once a second.
            if rests > 60 {
                return;
            }
        }
        panic!("it does not come to rest: {}", self.unrest());
    }

    fn is_at_rest(&self) -> bool {
        self.world.broker.group.is_settled()
            && !self.world.broker.has_open_transactions()
            && self.instances.iter().all(Instance::is_quiet)
            && plan::consumed().iter().all(|one| self.is_read(one))
    }

    /// Whether every record of a partition is below its committed offset.
    fn is_read(&self, partition: &Partition) -> bool {
        let committed = self.world.broker.committed(partition).flatten();
        let last = self
            .world
            .broker
            .visible(partition)
            .last()
            .map(|record| record.position.offset);
        last.is_none_or(|last| committed.is_some_and(|(offset, _)| last < offset))
    }

    fn unrest(&self) -> String {
        let unread: Vec<_> = plan::consumed()
            .into_iter()
            .filter(|one| !self.is_read(one))
            .map(|one| {
                format!(
                    "{}-{} at {:?}",
                    one.topic,
                    one.number,
                    self.world.broker.committed(&one)
                )
            })
            .collect();
        let busy: Vec<_> = self.instances.iter().map(Instance::describe).collect();
        format!("unread {unread:?}, processes {busy:#?}")
    }

    /// What holds in the end; how many requests were superseded.
    fn check(&self) -> usize {
        let broker = &self.world.broker;
        let superseded = Ledger::settle(broker);
        for partition in plan::consumed() {
            // Also of an empty one: what arrives while nobody is there is ours.
            let start = broker.committed(&partition).flatten();
            assert!(start.is_some(), "no start of {partition:?} is committed");
        }
        for instance in &self.instances {
            instance.check_empty(self.world.now);
            for partition in &instance.started {
                let committed = broker.committed(partition).flatten();
                assert_eq!(
                    committed.map(|(offset, _)| offset),
                    Some(broker.end(partition)),
                    "the committed offset of {partition:?} is not the end"
                );
            }
        }
        superseded
    }

    fn digest(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        for partition in plan::partitions() {
            for record in self.world.broker.visible(&partition) {
                record.position.hash(&mut hasher);
                record.timestamp.hash(&mut hasher);
                record.value.hash(&mut hasher);
            }
        }
        hasher.finish()
    }
}

fn pick<T: Copy>(random: &mut Random, items: &[T]) -> Option<T> {
    (!items.is_empty()).then(|| *random.pick(items))
}
