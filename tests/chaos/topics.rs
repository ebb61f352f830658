//! What goes wrong with topics, and with what the instances may do: permissions are withdrawn and given
//! back, partitions are added, leaders move without anybody's failing, and the request topic is created
//! again.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::REQUESTS;
use crate::admin::{Admin, Operation, Permission, Resource};
use crate::chance::{Chance, Deck, Stop};
use crate::cluster::{BROKERS, Cluster};
use crate::faults::Stage;
use crate::fleet::NAMES;
use crate::journal::Whom;
use crate::ledger::Ledger;
use crate::load::Load;
use crate::plan::GROUP;
use crate::reader::{self, Position};

#[derive(Clone, Copy, Debug)]
enum OnTopic {
    MoveLeader,
    AddPartition,
    CreateAgain,
    Withdraw(Withdrawn),
}

#[derive(Clone, Copy, Debug)]
enum Withdrawn {
    ReadRequests,
    ReadRetries,
    WriteRetries,
    WriteSms,
    WriteOutcomes,
    WriteDeadLetters,
    ReadGroup,
    WriteTransactions,
}

const WITHDRAWN: [Withdrawn; 8] = [
    Withdrawn::ReadRequests,
    Withdrawn::ReadRetries,
    Withdrawn::WriteRetries,
    Withdrawn::WriteSms,
    Withdrawn::WriteOutcomes,
    Withdrawn::WriteDeadLetters,
    Withdrawn::ReadGroup,
    Withdrawn::WriteTransactions,
];

impl Withdrawn {
    fn permission(self) -> Permission {
        let (resource, name, operation) = match self {
            Self::ReadRequests => (Resource::Topic, REQUESTS, Operation::Read),
            Self::ReadRetries => (Resource::Topic, "user-otp.retry.", Operation::Read),
            Self::WriteRetries => (Resource::Topic, "user-otp.retry.", Operation::Write),
            Self::WriteSms => (
                Resource::Topic,
                "egov.core.notification.sms.otp",
                Operation::Write,
            ),
            Self::WriteOutcomes => (Resource::Topic, "egov.core.otp.outcome", Operation::Write),
            Self::WriteDeadLetters => (Resource::Topic, "user-otp.dlq", Operation::Write),
            Self::ReadGroup => (Resource::Group, GROUP, Operation::Read),
            Self::WriteTransactions => (Resource::TransactionalId, GROUP, Operation::Write),
        };
        Permission {
            resource,
            name: name.to_owned(),
            prefixed: true,
            operation,
        }
    }
}

/// Topics whose partitions move, and to which partitions are added.
const GROWING: [&str; 3] = [REQUESTS, "user-otp.accepted", "user-otp.retry.5s"];
const MOST_PARTITIONS: usize = 16;

/// How long the load is held up at most, until all that was published is in the log, and until the group
/// has an offset of each partition.
const PAUSE: Duration = Duration::from_secs(60);

/// The request topic is created again only where its partitions have at least so many records: a position
/// in the old log is out of range in the new one until that has as many.
const ENOUGH: i64 = 300;

/// After the topic has been created again, it is written to for so long before anything else happens.
const WRITTEN: Duration = Duration::from_secs(10);

pub(crate) struct Topics<'a> {
    pub(crate) admin: &'a Admin,
    pub(crate) cluster: &'a Cluster,
    pub(crate) load: &'a Load,
    pub(crate) ledger: &'a Mutex<Ledger>,
    /// Creates what is missing.
    pub(crate) apply: &'a (dyn Fn() -> Result<(), String> + Sync),
}

/// `gap`: from one fault to the next, in milliseconds.
pub(crate) fn track(stage: &Stage<'_>, topics: &Topics<'_>, gap: (u64, u64)) {
    let mut chance = Chance::new(stage.seed, 5);
    let mut cards: Vec<_> = WITHDRAWN.map(OnTopic::Withdraw).to_vec();
    cards.extend([OnTopic::MoveLeader; 4]);
    cards.extend([OnTopic::AddPartition; 2]);
    // The version before may leave partitions unread then.
    if !stage.mixed {
        cards.extend([OnTopic::CreateAgain; 2]);
    }
    let mut deck = Deck::new(cards);
    let mut next = Instant::now() + Duration::from_secs(5);
    while stage.stop.wait_until(next) {
        next = Instant::now() + chance.time(gap.0, gap.1);
        let fault = deck.draw(&mut chance);
        let done = match fault {
            OnTopic::MoveLeader => topics.move_leader(stage, &mut chance),
            OnTopic::AddPartition => topics.add_partition(stage, chance.pick(&GROWING)),
            OnTopic::CreateAgain => topics.create_again(stage),
            OnTopic::Withdraw(what) => {
                let time = if stage.long {
                    (3_000, 20_000)
                } else {
                    (2_000, 5_000)
                };
                topics.withdraw(stage, what, chance.time(time.0, time.1))
            }
        };
        if let Err(error) = done {
            // Brokers are away: it is not counted.
            stage
                .journal
                .note(&format!("{fault:?} did not happen: {error}"));
        }
    }
}

impl Topics<'_> {
    fn withdraw(&self, stage: &Stage<'_>, what: Withdrawn, time: Duration) -> Result<(), String> {
        let permission = what.permission();
        self.admin.withdraw(&permission)?;
        stage
            .journal
            .fault(Whom::Permission, &format!("{what:?}"), "");
        stage.hold(time);
        let given = again_until_done(Duration::from_secs(300), || {
            self.admin.give_back(&permission)
        });
        match given {
            Ok(()) => stage.journal.note(&format!("{what:?} is given back")),
            Err(error) => stage
                .journal
                .odd(format!("{what:?} is not given back: {error}")),
        }
        Ok(())
    }

    /// Of a topic of the service's, of the group's coordinator, or of a transaction's.
    fn move_leader(&self, stage: &Stage<'_>, chance: &mut Chance) -> Result<(), String> {
        const OFFSETS: &str = "__consumer_offsets";
        const TRANSACTIONS: &str = "__transaction_state";
        let mut topics = reader::TOPICS.map(|(_, name)| name).to_vec();
        topics.extend([OFFSETS, OFFSETS, TRANSACTIONS, TRANSACTIONS]);
        let topic = chance.pick(&topics);
        let of_instance = format!("{GROUP}-{}", chance.pick(&NAMES));
        let any = chance.below(8);
        let partition = match topic {
            OFFSETS => self.cluster.internal_partition(topic, GROUP),
            TRANSACTIONS => self.cluster.internal_partition(topic, &of_instance),
            _ => {
                let count = self.cluster.partitions(topic).unwrap_or(1);
                i32::try_from(any)
                    .ok()
                    .map(|any| any % i32::try_from(count).unwrap_or(1))
            }
        };
        let partition = partition.ok_or("nobody knows its partitions")?;
        let before = self
            .cluster
            .leader(topic, partition)
            .ok_or("nobody leads")?;
        let step = 1 + chance.index(BROKERS - 1);
        let wanted = (before + step) % BROKERS;
        let mut copies = [0, 1, 2].map(|more| (wanted + more) % BROKERS + 1);
        copies[1..].sort_unstable();
        let copies = copies.map(|broker| i32::try_from(broker).unwrap_or(1));
        self.admin.lead(topic, partition, &copies)?;
        let pause = Stop::default();
        let moved = (0..50).any(|_| {
            pause.wait(Duration::from_millis(100));
            self.cluster.leader(topic, partition) == Some(wanted)
        });
        if !moved {
            return Err("the leader stays".to_owned());
        }
        let detail = format!("{topic}-{partition} from {} to {}", before + 1, wanted + 1);
        stage.journal.fault(Whom::Topic, "MoveLeader", &detail);
        Ok(())
    }

    /// Nothing is published until the group has an offset of the new partition: what is older than a
    /// request lives by then is passed over (`ARCHITECTURE.md`, invariant 6).
    fn add_partition(&self, stage: &Stage<'_>, topic: &str) -> Result<(), String> {
        let count = self
            .cluster
            .partitions(topic)
            .ok_or("nobody knows its partitions")?;
        if count >= MOST_PARTITIONS {
            return Err("there are enough".to_owned());
        }
        let add = || {
            self.admin.add_partitions(topic, count + 1)?;
            let detail = format!("{topic} has {}", count + 1);
            stage.journal.fault(Whom::Topic, "AddPartition", &detail);
            self.wait_for_offsets(stage);
            Ok(())
        };
        if topic != REQUESTS {
            return add();
        }
        let paused = self.load.pause(PAUSE, add);
        paused.ok_or("what was published is not in the log yet")?
    }

    fn wait_for_offsets(&self, stage: &Stage<'_>) {
        let begin = Instant::now();
        let position = Position::new(&self.load.brokers, GROUP).expect("a client");
        let known = again_until_done(PAUSE, || match position.behind() {
            Ok(behind) => match behind.iter().find(|one| one.committed.is_none()) {
                None => Ok(()),
                Some(one) => Err(format!("{}-{}", one.topic, one.partition)),
            },
            Err(error) => Err(error.to_string()),
        });
        let seconds = begin.elapsed().as_secs_f64();
        match known {
            Ok(()) => stage.journal.note(&format!(
                "every partition has an offset after {seconds:.1} s"
            )),
            Err(error) => stage
                .journal
                .odd(format!("no offset after {seconds:.0} s: {error}")),
        }
    }

    /// The request topic is deleted and created again under requests that are being handled. The load is
    /// held up meanwhile, so that it is known which of them no longer need to have an outcome.
    fn create_again(&self, stage: &Stage<'_>) -> Result<(), String> {
        let again = || -> Result<(), String> {
            let count = self
                .cluster
                .partitions(REQUESTS)
                .ok_or("nobody knows its partitions")?;
            let position =
                Position::new(&self.load.brokers, GROUP).map_err(|error| error.to_string())?;
            let committed = || position.of_requests().map_err(|error| error.to_string());
            let enough = |offsets: &BTreeMap<i32, i64>| {
                offsets.len() == count && offsets.values().all(|offset| *offset >= ENOUGH)
            };
            if !enough(&committed()?) {
                return Err("it is too short".to_owned());
            }
            let records = reader::requests(&self.load.brokers)?;
            let committed = committed()?;
            // Even an answer that never comes may have deleted it.
            let mut ledger = self.ledger.lock().unwrap_or_else(PoisonError::into_inner);
            ledger.log_is_deleted(&records, &committed);
            drop(ledger);
            let detail = format!("{} records, committed {committed:?}", records.len());
            stage.journal.fault(Whom::Topic, "CreateAgain", &detail);
            let _ = again_until_done(PAUSE * 5, || match self.admin.delete_topic(REQUESTS) {
                Ok(()) => Ok(()),
                // By a request whose answer was lost.
                Err(error) if error.contains("UnknownTopic") => Ok(()),
                Err(error) => Err(error),
            });
            // Where an instance has not created it already, it is gone for a moment.
            let _ = again_until_done(WRITTEN, || match self.cluster.partitions(REQUESTS) {
                None => Ok(()),
                Some(_) => Err("it is still there".to_owned()),
            });
            let made = again_until_done(PAUSE * 5, || {
                (self.apply)()?;
                match self.cluster.partitions(REQUESTS) {
                    Some(now) if now >= count => Ok(()),
                    _ => self.admin.add_partitions(REQUESTS, count),
                }
            });
            if let Err(error) = made {
                stage
                    .journal
                    .odd(format!("the request topic is not created again: {error}"));
            }
            Ok(())
        };
        self.load
            .pause(PAUSE, again)
            .ok_or("what was published is not in the log yet")??;
        stage.journal.note("the request topic is there again");
        Stop::default().wait(WRITTEN);
        Ok(())
    }
}

/// Tries until it is done, or for so long; then the last error.
fn again_until_done(
    limit: Duration,
    mut work: impl FnMut() -> Result<(), String>,
) -> Result<(), String> {
    let (begin, pause) = (Instant::now(), Stop::default());
    loop {
        let done = work();
        if done.is_ok() || begin.elapsed() > limit {
            return done;
        }
        pause.wait(Duration::from_millis(500));
    }
}
