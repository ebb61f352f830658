//! What must hold, kept apart from what the engine believes.
//!
//! Each record that the engine reads is *resolved* by exactly one committed transaction. After
//! each commit the tag says the same as the ledger, offset by offset: a record that the tag covers
//! and that nobody resolved is lost, one that it leaves open although it is resolved would be
//! sent twice.

use std::collections::{BTreeMap, BTreeSet};

use user_otp::clock::EpochMs;
use user_otp::engine::headers;
use user_otp::engine::record::{Position, Record};
use user_otp::engine::state::Partition;
use user_otp::engine::tag::Tag;

use crate::broker::Broker;
use crate::plan;

#[derive(Default)]
pub(crate) struct Ledger {
    requests: BTreeMap<String, Wanted>,
    resolved: BTreeSet<(Partition, i64)>,
    skipped: BTreeSet<(Partition, i64)>,
    /// Below it, records were there before us.
    until: BTreeMap<Partition, Until>,
}

/// A request that somebody published.
struct Wanted {
    position: Position,
    asked: Option<Asked>,
    deadline: EpochMs,
    sent: EpochMs,
}

/// Who asks for what.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) person: usize,
    pub(crate) kind: &'static str,
}

/// What a record says became of a request.
struct Said {
    id: String,
    outcome: String,
    attempts: u64,
    /// Of the record that it finishes.
    place: (Partition, i64),
}

impl Said {
    fn read(record: &Record) -> Self {
        let value: serde_json::Value =
            serde_json::from_slice(record.value.as_deref().unwrap_or_default())
                .expect("an outcome is JSON");
        let word = |name: &str| value[name].as_str().unwrap_or_default().to_owned();
        let number = |name: &str| value[name].as_i64().unwrap_or_default();
        let partition = Partition {
            topic: word("topic").into(),
            number: number("partition") as i32,
        };
        Self {
            id: word("eventId"),
            outcome: word("outcome"),
            attempts: number("attempts").unsigned_abs(),
            place: (partition, number("offset")),
        }
    }
}

/// What the logs say of one request in the end.
#[derive(Default)]
struct Got {
    outcomes: Vec<(String, u64)>,
    sms: usize,
    dead_letters: usize,
    retries: u64,
    /// It, or a retry of it, was skipped as old.
    skipped: bool,
}

fn place(position: &Position) -> (Partition, i64) {
    let partition = Partition {
        topic: position.topic.clone(),
        number: position.partition,
    };
    (partition, position.offset)
}

fn text<'a>(record: &'a Record, header: &str) -> &'a str {
    str::from_utf8(record.header(header).unwrap_or_default()).unwrap_or_default()
}

fn number(record: &Record, header: &str) -> i64 {
    text(record, header).parse().unwrap_or(-1)
}

/// Where a partition ended for the processes that found it without a commit: several can, before one of them
/// commits.
struct Until {
    least: i64,
    most: i64,
}

impl Ledger {
    pub(crate) fn request(
        &mut self,
        id: String,
        position: Position,
        asked: Option<Asked>,
        deadline: EpochMs,
        sent: EpochMs,
    ) {
        let wanted = Wanted {
            position,
            asked,
            deadline,
            sent,
        };
        let twice = self.requests.insert(id, wanted);
        assert!(twice.is_none(), "the simulation gave an id twice");
    }

    /// The engine has nothing to do for a delivered record.
    pub(crate) fn passed_over(&mut self, position: &Position, sent: Option<EpochMs>, now: EpochMs) {
        let place = place(position);
        if self.resolved.contains(&place) {
            return;
        }
        assert!(
            self.is_old(&place, sent, now, |until| until.most),
            "{position} was passed over, and nobody had finished it"
        );
        self.skipped.insert(place);
    }

    /// The engine takes a delivered record up.
    pub(crate) fn taken_up(&self, position: &Position, sent: Option<EpochMs>, now: EpochMs) {
        let place = place(position);
        assert!(
            !self.resolved.contains(&place),
            "{position} is handled again after its result was committed"
        );
        assert!(
            !self.is_old(&place, sent, now, |until| until.least),
            "{position} is old, was there before us, and is taken up"
        );
    }

    fn is_old(
        &self,
        (partition, offset): &(Partition, i64),
        sent: Option<EpochMs>,
        now: EpochMs,
        end: impl Fn(&Until) -> i64,
    ) -> bool {
        let old = sent.is_some_and(|sent| sent.age(now) > plan::LIFETIME);
        old && self
            .until
            .get(partition)
            .is_some_and(|until| *offset < end(until))
    }

    /// A process found a partition without a commit of ours.
    pub(crate) fn was_there_before(&mut self, partition: &Partition, end: i64) {
        let until = self.until.entry(partition.clone());
        let until = until.or_insert(Until {
            least: end,
            most: end,
        });
        until.least = until.least.min(end);
        until.most = until.most.max(end);
    }

    /// A transaction with these results went through.
    pub(crate) fn finished(&mut self, positions: &[Position]) {
        for position in positions {
            assert!(
                self.resolved.insert(place(position)),
                "two results of {position} were committed"
            );
        }
    }

    /// A transaction with these outcomes went through: who is superseded in it has an equal one that is
    /// published in it, lives no longer than that one, and nothing else of the person is between them that is
    /// not finished; but for retries, which have lost their place.
    pub(crate) fn supersedes<'a>(
        &self,
        outcomes: &[&Record],
        there: impl Fn(&Partition) -> Vec<&'a Record>,
    ) {
        let said: Vec<_> = outcomes.iter().map(|record| Said::read(record)).collect();
        for one in said.iter().filter(|one| one.outcome == "superseded") {
            let (id, wanted) = (&one.id, &self.requests[&one.id]);
            let stands_for = |other: &&Said| {
                let published = &self.requests[&other.id];
                other.outcome == "published"
                    && other.place.0 == one.place.0
                    && published.asked == wanted.asked
                    && published.deadline >= wanted.deadline
            };
            let Some(published) = said.iter().find(stands_for) else {
                panic!("{id} is superseded, and no equal one is published with it");
            };
            if one.place.0.topic.starts_with("retry.") {
                continue;
            }
            let (low, high) = (
                one.place.1.min(published.place.1),
                one.place.1.max(published.place.1),
            );
            for record in there(&one.place.0) {
                let person = |asked: Option<Asked>| asked.map(|asked| asked.person);
                let of = |record: &Record| match text(record, headers::EVENT_ID) {
                    "" => self.requests.get(&record.position.to_string()),
                    id => self.requests.get(id),
                };
                let asked = of(record).and_then(|other| other.asked);
                let other = person(asked) == person(wanted.asked) && asked != wanted.asked;
                let place = place(&record.position);
                // What was passed over, old as it was, is done with, too.
                let done = self.resolved.contains(&place) || self.skipped.contains(&place);
                assert!(
                    !(low..high).contains(&record.position.offset) || !other || done,
                    "{id} is superseded past {}, which differs and has no result",
                    record.position
                );
            }
        }
    }

    /// A commit went through; `there` are the partition's records.
    pub(crate) fn agrees(&self, tag: &Tag, there: &[&Record]) {
        for record in there {
            let place = place(&record.position);
            let (covered, resolved) = (
                tag.covers(record.position.offset),
                self.resolved.contains(&place),
            );
            assert!(
                !covered || resolved || self.skipped.contains(&place),
                "{} was committed as finished, and has no result",
                record.position
            );
            assert!(
                covered || !resolved,
                "{} has a result, and was committed as unfinished",
                record.position
            );
        }
    }

    /// What is read in the end. A request that was skipped as old has no outcome at all, any other
    /// exactly one. How many were superseded.
    pub(crate) fn settle(broker: &Broker) -> usize {
        let ledger = &broker.ledger;
        let mut got: BTreeMap<String, Got> = BTreeMap::new();
        let mut superseded = 0;
        for record in broker.read(plan::OUTCOMES) {
            let said = Said::read(&record);
            superseded += usize::from(said.outcome == "superseded");
            got.entry(said.id)
                .or_default()
                .outcomes
                .push((said.outcome, said.attempts));
        }
        let id = |record: &Record| text(record, headers::EVENT_ID).to_owned();
        let sms = broker.read(plan::SMS);
        for record in &sms {
            got.entry(id(record)).or_default().sms += 1;
            let value: serde_json::Value =
                serde_json::from_slice(record.value.as_deref().unwrap_or_default())
                    .expect("an SMS is JSON");
            let deadline = ledger.requests[&id(record)].deadline;
            assert!(
                value["expiryTime"]
                    .as_i64()
                    .is_some_and(|expiry| expiry <= deadline.0),
                "the SMS of {} outlives it",
                id(record)
            );
        }
        for record in broker.read(plan::DEAD_LETTERS) {
            got.entry(id(&record)).or_default().dead_letters += 1;
            ledger.is_faithful(&record, "a dead letter");
        }
        for (topic, delay) in plan::TIERS {
            for record in broker.read(topic) {
                let got = got.entry(id(&record)).or_default();
                got.retries += 1;
                got.skipped |= ledger.was_skipped(&record.position);
                ledger.is_faithful(&record, "a retry");
                let due = EpochMs(number(&record, headers::FAILED)).plus(delay);
                let left = EpochMs(number(&record, headers::DEADLINE)).left(due);
                assert!(
                    left >= plan::MIN_LIFE,
                    "{} leaves {left:?} to live",
                    record.position
                );
            }
        }
        for (id, wanted) in &ledger.requests {
            let mut got = got.remove(id).unwrap_or_default();
            got.skipped |= ledger.was_skipped(&wanted.position);
            got.check(id);
        }
        assert!(
            got.is_empty(),
            "outcomes of unknown requests: {:?}",
            got.keys()
        );
        ledger.order(broker, &sms);
        superseded
    }

    /// One process may have skipped, in vain, what another had taken up while it was young enough.
    fn was_skipped(&self, position: &Position) -> bool {
        let place = place(position);
        self.skipped.contains(&place) && !self.resolved.contains(&place)
    }

    /// A record that goes with a request says about it what was said at first.
    fn is_faithful(&self, record: &Record, what: &str) {
        let id = text(record, headers::EVENT_ID);
        let wanted = self
            .requests
            .get(id)
            .unwrap_or_else(|| panic!("{what} of an unknown request {id}"));
        assert_eq!(
            text(record, headers::SOURCE),
            wanted.position.to_string(),
            "the source of {id}"
        );
        assert_eq!(
            number(record, headers::DEADLINE),
            wanted.deadline.0,
            "the deadline of {id} moved"
        );
        assert!(
            number(record, headers::FAILED) >= wanted.sent.0,
            "{id} failed before it was sent"
        );
    }

    /// The messages of one person, of requests in one partition that were never retried.
    fn order(&self, broker: &Broker, sms: &[Record]) {
        let retried: BTreeSet<String> = plan::TIERS
            .iter()
            .flat_map(|(topic, _)| broker.read(topic))
            .map(|record| text(&record, headers::EVENT_ID).to_owned())
            .collect();
        let mut last: BTreeMap<(usize, Partition), i64> = BTreeMap::new();
        for record in sms {
            let id = text(record, headers::EVENT_ID);
            let wanted = &self.requests[id];
            let Some(Asked { person, .. }) = wanted.asked.filter(|_| !retried.contains(id)) else {
                continue;
            };
            let (partition, offset) = place(&wanted.position);
            let before = last.insert((person, partition), offset);
            assert!(
                before.is_none_or(|before| before < offset),
                "{id} was published after a later request of the same person"
            );
        }
    }
}

impl Got {
    fn check(&self, id: &str) {
        let Self {
            outcomes,
            sms,
            dead_letters,
            retries,
            skipped,
        } = self;
        if *skipped {
            assert!(
                outcomes.is_empty() && sms + dead_letters == 0,
                "{id} was too old, and is handled"
            );
            return;
        }
        let [(outcome, attempts)] = outcomes.as_slice() else {
            panic!("{id} has {} final outcomes: {outcomes:?}", outcomes.len());
        };
        let want = match outcome.as_str() {
            "published" => (1, 0),
            "dead-lettered" => (0, 1),
            // With whom, is seen at the commit.
            "rejected" | "superseded" => (0, 0),
            other => panic!("{id} ended as {other}"),
        };
        assert_eq!(
            (*sms, *dead_letters),
            want,
            "messages and dead letters of {id}, {outcome}"
        );
        assert_eq!(*attempts, retries + 1, "the attempts of {id}");
    }
}
