//! A Kafka cluster as the engine sees it: partitioned logs, transactions, one consumer group.
//!
//! Records of an open transaction hold back the readers of their partition; a marker at its end
//! takes an offset. Offsets that a transaction carries are pending until it ends, and are refused
//! from anyone but a member of the group's current generation. A producer is known by its id, and
//! fenced by the next one with the same id.
//!
//! Whatever is committed is held against the [`Ledger`] at once.

use std::collections::{BTreeMap, BTreeSet};

use user_otp::clock::EpochMs;
use user_otp::engine::output::Outgoing;
use user_otp::engine::record::{Position, Record};
use user_otp::engine::state::{Commit, Partition};
use user_otp::engine::tag::METADATA_LIMIT;

use crate::ledger::Ledger;
use crate::plan;

/// After this a transaction is aborted by the broker.
const TRANSACTION_TIMEOUT: i64 = 10_000;

/// A process; never used again.
pub(crate) type Pid = u32;

/// A transaction; never used again.
pub(crate) type Txn = usize;

pub(crate) struct Broker {
    logs: BTreeMap<Partition, Log>,
    committed: BTreeMap<Partition, (i64, String)>,
    transactions: Vec<Transaction>,
    open: BTreeSet<Txn>,
    producers: BTreeMap<usize, Epoch>,
    pub(crate) group: Group,
    pub(crate) ledger: Ledger,
}

/// A producer's epoch.
pub(crate) type Epoch = u32;

/// An operation of somebody whose id, or whose place in the group, is another's now.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Refused;

struct Log {
    low: i64,
    end: i64,
    /// By offset; between them are markers, and what was compacted away.
    records: BTreeMap<i64, (Record, Option<Txn>)>,
}

struct Transaction {
    id: usize,
    epoch: Epoch,
    opened: i64,
    end: Option<bool>,
    touched: BTreeSet<Partition>,
    offsets: Vec<Commit>,
    /// The records whose results these are.
    finishes: Vec<Position>,
}

/// What a `read_committed` reader gets.
pub(crate) enum Fetched {
    Record(Box<Record>),
    /// Nothing for now; all below is no record.
    Nothing(i64),
}

impl Broker {
    pub(crate) fn new(partitions: impl IntoIterator<Item = (Partition, i64)>) -> Self {
        let logs = partitions.into_iter().map(|(partition, low)| {
            let records = BTreeMap::new();
            let end = low;
            (partition, Log { low, end, records })
        });
        Self {
            logs: logs.collect(),
            committed: BTreeMap::new(),
            transactions: Vec::new(),
            open: BTreeSet::new(),
            producers: BTreeMap::new(),
            group: Group::default(),
            ledger: Ledger::default(),
        }
    }

    /// The numbers of a topic's partitions.
    pub(crate) fn partitions(&self, topic: &str) -> i32 {
        self.logs
            .keys()
            .filter(|partition| &*partition.topic == topic)
            .count() as i32
    }

    pub(crate) fn append(&mut self, partition: &Partition, mut record: Record) -> Position {
        let log = self.logs.get_mut(partition).expect("a topic that is there");
        record.position = log.next_position(partition);
        let position = record.position.clone();
        log.append(record, None);
        position
    }

    pub(crate) fn append_gap(&mut self, partition: &Partition, length: i64) {
        let log = self.logs.get_mut(partition).expect("a topic that is there");
        log.end += length;
    }

    pub(crate) fn fetch(&self, partition: &Partition, from: i64) -> Fetched {
        let log = &self.logs[partition];
        for (at, (record, txn)) in log.records.range(from..) {
            match txn.map(|txn| self.transactions[txn].end) {
                None | Some(Some(true)) => return Fetched::Record(Box::new(record.clone())),
                Some(Some(false)) => {}
                Some(None) => return Fetched::Nothing(*at),
            }
        }
        Fetched::Nothing(from.max(log.end))
    }

    pub(crate) fn low(&self, partition: &Partition) -> i64 {
        self.logs[partition].low
    }

    pub(crate) fn end(&self, partition: &Partition) -> i64 {
        self.logs[partition].end
    }

    /// Every record of a topic that a `read_committed` reader sees, in the order of its partitions.
    pub(crate) fn read(&self, topic: &str) -> Vec<Record> {
        let partitions = self
            .logs
            .keys()
            .filter(|partition| &*partition.topic == topic);
        partitions
            .flat_map(|partition| self.visible(partition))
            .cloned()
            .collect()
    }

    /// The records of a partition that a `read_committed` reader sees.
    pub(crate) fn visible(&self, partition: &Partition) -> Vec<&Record> {
        let mut records = Vec::new();
        for (record, txn) in self.logs[partition].records.values() {
            match txn.map(|txn| self.transactions[txn].end) {
                None | Some(Some(true)) => records.push(record),
                Some(Some(false)) => {}
                Some(None) => break,
            }
        }
        records
    }

    /// `None` while a transaction that would change the answer is open.
    pub(crate) fn committed(&self, partition: &Partition) -> Option<Option<(i64, String)>> {
        let pending = self.open.iter().any(|txn| {
            let offsets = &self.transactions[*txn].offsets;
            offsets.iter().any(|commit| commit.partition == *partition)
        });
        (!pending).then(|| self.committed.get(partition).cloned())
    }

    /// A new producer with this id: what the old one left open is aborted.
    pub(crate) fn init(&mut self, id: usize) -> Epoch {
        self.end_open(id);
        let epoch = self.producers.entry(id).or_default();
        *epoch += 1;
        *epoch
    }

    pub(crate) fn begin(&mut self, id: usize, epoch: Epoch, now: EpochMs) -> Result<Txn, Refused> {
        if self.producers.get(&id) != Some(&epoch) {
            return Err(Refused);
        }
        self.transactions.push(Transaction {
            id,
            epoch,
            opened: now.0,
            end: None,
            touched: BTreeSet::new(),
            offsets: Vec::new(),
            finishes: Vec::new(),
        });
        let txn = self.transactions.len() - 1;
        self.open.insert(txn);
        Ok(txn)
    }

    pub(crate) fn send(
        &mut self,
        txn: Txn,
        record: Outgoing,
        partition: Partition,
        now: EpochMs,
    ) -> Result<(), Refused> {
        self.is_open(txn)?;
        let log = self
            .logs
            .get_mut(&partition)
            .expect("a topic that is there");
        let record = Record {
            position: log.next_position(&partition),
            timestamp: Some(now),
            key: record.key,
            value: record.value,
            headers: record.headers,
        };
        log.append(record, Some(txn));
        self.transactions[txn].touched.insert(partition);
        Ok(())
    }

    pub(crate) fn send_offsets(
        &mut self,
        txn: Txn,
        member: Pid,
        generation: u32,
        commits: Vec<Commit>,
        finishes: Vec<Position>,
    ) -> Result<(), Refused> {
        self.is_open(txn)?;
        if generation != self.group.generation || !self.group.members.contains(&member) {
            return Err(Refused);
        }
        for commit in &commits {
            let metadata = commit.tag.encode();
            assert!(
                metadata.len() <= METADATA_LIMIT,
                "the broker refuses the metadata of {:?}",
                commit.partition
            );
        }
        let transaction = &mut self.transactions[txn];
        transaction.offsets = commits;
        transaction.finishes = finishes;
        Ok(())
    }

    pub(crate) fn commit(&mut self, txn: Txn) -> Result<(), Refused> {
        self.is_open(txn)?;
        self.finish(txn, true);
        let transaction = &self.transactions[txn];
        self.ledger.finished(&transaction.finishes);
        self.ledger
            .supersedes(&self.written(txn, plan::OUTCOMES), |partition| {
                self.visible(partition)
            });
        for commit in &transaction.offsets {
            let tag = &commit.tag;
            let old = self
                .committed
                .insert(commit.partition.clone(), (tag.commit_point, tag.encode()));
            assert!(
                old.is_none_or(|(offset, _)| offset <= tag.commit_point),
                "the committed offset of {:?} went back to {}",
                commit.partition,
                tag.commit_point
            );
        }
        for commit in &transaction.offsets {
            let there = self.visible(&commit.partition);
            self.ledger.agrees(&commit.tag, &there);
        }
        Ok(())
    }

    fn written(&self, txn: Txn, topic: &str) -> Vec<&Record> {
        let logs = self
            .logs
            .iter()
            .filter(|(partition, _)| &*partition.topic == topic);
        logs.flat_map(|(_, log)| log.records.values())
            .filter(|(_, by)| *by == Some(txn))
            .map(|(record, _)| record)
            .collect()
    }

    pub(crate) fn abort(&mut self, txn: Txn) -> Result<(), Refused> {
        self.is_open(txn)?;
        self.finish(txn, false);
        Ok(())
    }

    /// Aborts what has been open for too long, and fences its producer.
    pub(crate) fn time_out(&mut self, now: EpochMs) {
        let late: Vec<_> = self
            .open
            .iter()
            .map(|txn| &self.transactions[*txn])
            .filter(|one| now.0 - one.opened > TRANSACTION_TIMEOUT)
            .map(|one| one.id)
            .collect();
        for id in late {
            self.end_open(id);
            *self.producers.entry(id).or_default() += 1;
        }
    }

    pub(crate) fn has_open_transactions(&self) -> bool {
        !self.open.is_empty()
    }

    fn is_open(&self, txn: Txn) -> Result<(), Refused> {
        let transaction = &self.transactions[txn];
        let current = self.producers.get(&transaction.id) == Some(&transaction.epoch);
        if current && transaction.end.is_none() {
            Ok(())
        } else {
            Err(Refused)
        }
    }

    fn end_open(&mut self, id: usize) {
        let of_it = |txn: &Txn| self.transactions[*txn].id == id;
        let open: Vec<_> = self.open.iter().copied().filter(of_it).collect();
        for txn in open {
            self.finish(txn, false);
        }
    }

    fn finish(&mut self, txn: Txn, committed: bool) {
        self.transactions[txn].end = Some(committed);
        self.open.remove(&txn);
        for partition in self.transactions[txn].touched.clone() {
            self.append_gap(&partition, 1);
        }
    }
}

impl Log {
    fn append(&mut self, record: Record, txn: Option<Txn>) {
        self.records.insert(self.end, (record, txn));
        self.end += 1;
    }

    fn next_position(&self, partition: &Partition) -> Position {
        Position {
            topic: partition.topic.clone(),
            partition: partition.number,
            offset: self.end,
        }
    }
}

/// The consumer group, cooperative: a partition goes to its next owner once the last one has
/// given it back, or is no longer a member.
#[derive(Default)]
pub(crate) struct Group {
    pub(crate) generation: u32,
    pub(crate) members: BTreeSet<Pid>,
    owners: BTreeMap<Partition, Pid>,
    targets: BTreeMap<Partition, Pid>,
    /// Somebody came or went since the last rebalance.
    pub(crate) changed: bool,
}

/// What a member learns from the group.
pub(crate) enum Heard {
    NotAMember,
    Assignment {
        generation: u32,
        revoke: Vec<Partition>,
        assign: Vec<Partition>,
    },
}

impl Group {
    pub(crate) fn join(&mut self, member: Pid) {
        self.members.insert(member);
        self.changed = true;
    }

    /// A member left, or was thrown out.
    pub(crate) fn remove(&mut self, member: Pid) {
        self.members.remove(&member);
        self.changed = true;
        self.owners.retain(|_, owner| *owner != member);
        self.targets.retain(|_, target| *target != member);
    }

    /// A new generation, with who is to own what.
    pub(crate) fn rebalance(&mut self, targets: BTreeMap<Partition, Pid>) {
        self.generation += 1;
        self.targets = targets;
        self.changed = false;
    }

    pub(crate) fn hear(&mut self, member: Pid) -> Heard {
        if !self.members.contains(&member) {
            return Heard::NotAMember;
        }
        let assign: Vec<_> = self
            .targets
            .iter()
            .filter(|(partition, target)| {
                **target == member && !self.owners.contains_key(*partition)
            })
            .map(|(partition, _)| partition.clone())
            .collect();
        let revoke = self
            .owners
            .iter()
            .filter(|(partition, owner)| {
                **owner == member && self.targets.get(*partition) != Some(&member)
            })
            .map(|(partition, _)| partition.clone())
            .collect();
        for partition in &assign {
            self.owners.insert(partition.clone(), member);
        }
        Heard::Assignment {
            generation: self.generation,
            revoke,
            assign,
        }
    }

    /// A member gave partitions back: that is a rebalance of its own.
    pub(crate) fn release(&mut self, member: Pid, partitions: &[Partition]) {
        for partition in partitions {
            if self.owners.get(partition) == Some(&member) {
                self.owners.remove(partition);
            }
        }
        self.generation += 1;
    }

    pub(crate) fn is_settled(&self) -> bool {
        self.owners == self.targets
    }

    pub(crate) fn owner(&self, partition: &Partition) -> Option<Pid> {
        self.owners.get(partition).copied()
    }
}
