//! Requests that end together, whose topic takes nothing: from their result to their ends. No broker is
//! asked.

use std::cell::RefCell;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;

use rdkafka::error::RDKafkaErrorCode;

use super::*;
use crate::clock::Clock;
use crate::config::KafkaProperties;
use crate::engine::Settings;
use crate::engine::clients::{Connection, Undelivered};
use crate::engine::consumer::Callbacks;
use crate::engine::output::tests::writer;
use crate::engine::record::Reading;
use crate::engine::supersede::tests::{
    AFTER, LATE, LIFETIME, Lane, NOW, SAME, bounds, published, shown,
};
use crate::known_topics::{Gate, KnownTopics};
use crate::metrics::Metrics;
use crate::retry_topics::RetryTopics;

/// The last of three that were asked a second apart.
const DEADLINE: EpochMs = EpochMs(LATE + 2_000 + 300_000);

struct World {
    committer: Committer,
    clock: Clock,
    topics: KnownTopics,
    given_back: Arc<AtomicUsize>,
}

/// `sms` alone, or one for each tenant.
pub(in crate::engine) fn settings(only_sms_topic: Option<&str>) -> Settings {
    Settings {
        connection: Connection {
            brokers: "127.0.0.1:1".into(),
            group: "g".into(),
            instance: "i".into(),
            properties: KafkaProperties::default(),
        },
        requests: "requests".into(),
        jobs: "jobs".into(),
        job_log: "job-log".into(),
        retries: RetryTopics::new("retry"),
        bounds: bounds(),
        reading: Reading {
            lifetime: LIFETIME,
            accepted: "accepted".into(),
        },
        writer: writer(),
        only_sms_topic: only_sms_topic.map(str::to_owned),
        poison_share: 50,
        poison_window: Duration::from_secs(60),
        stall_after: Duration::from_secs(10),
        longest_transaction: Duration::from_secs(900),
        batch: 10,
        linger: Duration::ZERO,
        drain: Duration::ZERO,
        supersede_after: AFTER,
        largest_record: 10_000,
    }
}

impl World {
    /// Three requests of one person have one result, whose SMS was not taken; all were charged.
    fn refused(only_sms_topic: Option<&str>) -> Self {
        let mut lane = Lane::new();
        for second in 0..3 {
            lane.ask(SAME, LATE + second * 1_000, None);
        }
        let group = lane.gather(AFTER);
        lane.state.handled(group.published().lane);
        for ticket in group.tickets() {
            ticket.request.envelope.context.charge.mark();
        }
        let mut world = Self::of(lane, only_sms_topic);
        world.finish(group);
        let batch = world.committer.take_batch();
        assert_eq!(batch.len(), 1, "they are one result");
        let failed = Undelivered {
            result: 0,
            topic: "sms".into(),
            code: RDKafkaErrorCode::UnknownTopicOrPartition,
        };
        let end = Written::Undelivered(vec![failed]);
        world.committer.follow_up(Some(end), batch);
        world
    }

    fn of(lane: Lane, only_sms_topic: Option<&str>) -> Self {
        let (clock, topics) = (Clock::fixed(NOW), KnownTopics::default());
        let core = Core::new(
            settings(only_sms_topic),
            clock.clone(),
            Metrics::default(),
            topics.clone(),
        );
        core.lock().state = lane.state;
        let core = Arc::new(core);
        let (notes, from_handlers) = mpsc::channel();
        let connection = &core.settings.connection;
        let callbacks = Callbacks::new(Arc::clone(&core), notes);
        let consumer = connection.consumer().create_with_context(callbacks);
        let given_back = Arc::<AtomicUsize>::default();
        let count = Arc::clone(&given_back);
        let producers = Producers {
            config: connection.producer("id", 10_000),
            reachability: Arc::clone(&core.reachability),
            vitals: Arc::clone(&core.vitals),
            clock: clock.clone(),
            fences: Default::default(),
        };
        let committer = Committer::without_a_producer(
            Arc::clone(&core),
            Arc::new(consumer.expect("a consumer")),
            Arc::new(core.settings.writer.clone()),
            from_handlers,
            Box::new(move |_| {
                count.fetch_add(1, Ordering::Relaxed);
            }),
            producers,
        );
        Self {
            committer,
            clock,
            topics,
            given_back,
        }
    }

    /// A result with an SMS.
    fn finish(&mut self, group: Group) {
        let end = published(EpochMs(i64::MAX));
        self.committer.arrivals += 1;
        let finished = Finished {
            arrival: self.committer.arrivals,
            ..Finished::new(group, end, &self.committer.writer, self.clock.now())
        };
        self.committer.queue.push_back(finished);
    }

    /// The next batch, as soon as one is to be written.
    fn next_batch(&mut self) -> Vec<Finished> {
        loop {
            let batch = self.committer.take_batch();
            let next_try = self.committer.aside.next_try();
            let (true, Some(next_try)) = (batch.is_empty(), next_try) else {
                return batch;
            };
            let pause = next_try.saturating_duration_since(Instant::now());
            self.committer.core.wait_until(pause, |_| false);
        }
    }

    /// `batch` is committed: what was written.
    fn commit(&mut self, mut batch: Vec<Finished>) -> Vec<String> {
        let records: Vec<_> = batch.iter().flat_map(|one| one.records.clone()).collect();
        let tickets = batch.iter().flat_map(|one| one.group.tickets());
        let commits = self.committer.core.lock().state.commits(tickets);
        self.committer.committed(commits, &mut batch);
        shown(&records, "outcome")
    }

    fn open(&self) -> usize {
        self.committer.core.lock().state.open()
    }

    fn given_back(&self) -> usize {
        self.given_back.load(Ordering::Relaxed)
    }
}

/// What became of each, by its offset.
fn ends(finished: &[Finished]) -> Vec<String> {
    let mut ends: Vec<_> = finished.iter().map(end).collect();
    ends.sort();
    ends
}

fn end(finished: &Finished) -> String {
    assert_eq!(finished.group.superseded().len(), 0, "it is alone");
    let offset = finished.ticket().request.record.position.offset;
    let (disposition, code) = match &finished.outcome {
        Outcome::DeadLettered(failure) => (failure.disposition.as_str(), failure.code),
        Outcome::Retried(setback) => ("retried", setback.code),
        other @ (Outcome::Published(_) | Outcome::Rejected(_) | Outcome::Limited(_)) => {
            panic!("{other:?}")
        }
    };
    format!("{offset} {disposition} {}", code.as_str())
}

#[test]
fn a_group_put_aside_is_published_once_when_its_topic_is_back() {
    let mut world = World::refused(Some("sms"));
    assert!(world.committer.queue.is_empty(), "it waits");
    assert!(matches!(world.topics.gate("sms"), Gate::Closed));
    // Twice it is tried in vain, as one.
    for _ in 0..2 {
        let batch = world.next_batch();
        assert_eq!((batch.len(), batch[0].group.superseded().len()), (1, 2));
        world.committer.follow_up(Some(Written::Aborted), batch);
    }
    // The last moment at which it can be sent.
    world.clock.set(EpochMs(DEADLINE.0 - 1));
    let batch = world.next_batch();
    assert_eq!(
        world.commit(batch),
        [
            "sms requests-0-2 null",
            "outcomes requests-0-2 \"published\"",
            "outcomes requests-0-0 \"superseded\"",
            "outcomes requests-0-1 \"superseded\"",
        ]
    );
    assert_eq!((world.open(), world.given_back()), (0, 2));
    assert!(matches!(world.topics.gate("sms"), Gate::Open));
    assert_eq!(world.committer.aside.next_try(), None);
}

#[test]
fn what_waits_behind_a_group_goes_on_with_it() {
    let mut lane = Lane::new();
    for _ in 0..2 {
        lane.ask(&SAME.replace("login", "register"), LATE, None);
    }
    let other = lane.gather(AFTER);
    let mut world = World::refused(Some("sms"));
    world.finish(other);
    let next = world.committer.queue.pop_front().expect("it came");
    assert!(world.committer.hold_back(next).is_none(), "it waits too");
    let tried = world.next_batch();
    assert_eq!(tried[0].group.superseded().len(), 2, "the oldest");
    world.commit(tried);
    let released = &world.committer.queue;
    assert_eq!(released.len(), 1);
    assert_eq!(released[0].group.superseded().len(), 1);
}

#[test]
fn at_its_deadline_a_group_put_aside_ends_one_by_one() {
    let mut world = World::refused(Some("sms"));
    world.clock.set(DEADLINE);
    let batch = world.next_batch();
    assert_eq!(
        ends(&batch),
        [
            "0 expired output-topic-unavailable",
            "1 expired output-topic-unavailable",
            "2 expired output-topic-unavailable",
        ]
    );
    assert!(
        matches!(world.topics.gate("sms"), Gate::Probe(_)),
        "nothing is left to try with"
    );
    assert_eq!(
        world.commit(batch).len(),
        6,
        "each has a dead letter and an outcome"
    );
    assert_eq!((world.open(), world.given_back()), (0, 3));
}

#[test]
fn where_each_tenant_has_its_topic_a_group_is_retried_one_by_one() {
    let mut world = World::refused(None);
    assert_eq!(world.committer.aside.next_try(), None, "nothing waits");
    assert!(matches!(world.topics.gate("sms"), Gate::Open));
    let batch = world.next_batch();
    assert_eq!(
        ends(&batch),
        [
            "0 retried output-topic-unavailable",
            "1 retried output-topic-unavailable",
            "2 retried output-topic-unavailable",
        ]
    );
}

#[test]
fn a_group_put_aside_is_left_to_the_next_owner_of_its_partition() {
    let mut world = World::refused(Some("sms"));
    let partitions = world.committer.core.lock().state.partitions();
    world.committer.core.lock().state.begin_revoke(&partitions);
    assert_eq!(world.next_batch().len(), 0);
    assert_eq!((world.open(), world.committer.aside.next_try()), (0, None));
}

/// A broker refuses a whole transaction for the metadata of one partition.
#[test]
fn a_partition_whose_metadata_is_over_the_limit_holds_back_its_own_results_alone() {
    let mut lane = Lane::new();
    lane.ask(SAME, LATE, None);
    let group = lane.gather(AFTER);
    let mut commits = lane.state.commits(group.tickets());
    let mut world = World::of(lane, None);
    world.finish(group);
    let mut batch = world.next_batch();
    let mut other = commits[0].clone();
    other.partition.number += 1;
    commits.push(other.clone());
    world.committer.leave_out(&mut batch, &mut commits);
    assert_eq!((batch.len(), commits.len()), (1, 2));
    let runs = (0..2_000).map(|run| 2 + run * 100_000..1 + (run + 1) * 100_000);
    commits[0].tag.finished = runs.collect();
    world.committer.leave_out(&mut batch, &mut commits);
    assert_eq!((batch.len(), commits), (0, vec![other]));
    assert_eq!(world.next_batch().len(), 1, "it is tried again");
}

/// Brokers may answer at once that a commit is still pending.
#[test]
fn committed_offsets_are_asked_for_again_after_a_pause() {
    let mut lane = Lane::new();
    lane.ask(SAME, LATE, None);
    let group = lane.gather(AFTER);
    let mut world = World::of(lane, None);
    world.finish(group);
    let mut batch = world.next_batch();
    let steps = RefCell::new(Vec::new());
    let ask = |partitions: &[Partition]| {
        let mut steps = steps.borrow_mut();
        steps.push("ask");
        let commit = (steps.len() == 5).then(start::Commit::default);
        vec![(partitions[0].clone(), commit)]
    };
    let pause = || steps.borrow_mut().push("pause");
    world.committer.strike_out_committed(&mut batch, ask, pause);
    assert_eq!(steps.into_inner(), ["ask", "pause", "ask", "pause", "ask"]);
    assert_eq!(batch.len(), 1, "it was not committed");
}
