//! What librdkafka can be made to refuse.

use std::sync::mpsc;

use rdkafka::mocking::MockCluster;

use super::*;
use crate::clock::Clock;
use crate::engine::membership;
use crate::engine::offsets::Tracker;
use crate::engine::supersede::tests::NOW;
use crate::engine::transaction::tests::settings;
use crate::known_topics::KnownTopics;
use crate::metrics::{Gauges, Metrics};

#[test]
fn partitions_whose_assignment_fails_are_tried_again() {
    // Partition 0 is assigned, and so cannot be once more.
    let held = Held::assigned(2);
    let both = [0, 1].map(partition);

    held.callbacks.assign(&held.consumer, &both);

    let shared = held.core.lock();
    let mut pending: Vec<_> = shared.pending.keys().cloned().collect();
    pending.sort();
    assert_eq!(pending, both);
    assert_eq!(shared.state.partitions(), []);
}

#[test]
fn a_pending_partition_of_an_unknown_topic_is_not_asked_for_again() {
    let (metrics, topics) = (Metrics::default(), KnownTopics::default());
    let core = Core::new(settings(None), Clock::fixed(NOW), metrics, topics);
    let foreign = Partition {
        topic: "foreign".into(),
        number: 0,
    };
    core.lock().ask(foreign.clone(), Ask::Committed);
    core.take_in(foreign, Tracker::foreign(0, 0));
    let shared = core.lock();
    assert_eq!(shared.pending.len(), 0);
    assert_eq!(shared.state.partitions(), []);
}

fn partition(number: i32) -> Partition {
    Partition {
        topic: "requests".into(),
        number,
    }
}

/// A consumer on a cluster of its own, which holds partition 0 of `requests`.
struct Held {
    core: Arc<Core>,
    consumer: Consumer,
    callbacks: Callbacks,
    partition: Partition,
    _kafka: MockCluster<'static, rdkafka::producer::DefaultProducerContext>,
}

impl Held {
    fn new() -> Self {
        let held = Self::assigned(1);
        held.core
            .take_in(held.partition.clone(), Tracker::foreign(0, 0));
        held
    }

    /// The library holds it, and the engine does not know.
    fn assigned(partitions: i32) -> Self {
        let kafka = MockCluster::new(1).expect("a mock");
        kafka
            .create_topic("requests", partitions, 1)
            .expect("a topic");
        let mut settings = settings(None);
        settings.connection.brokers = kafka.bootstrap_servers();
        let (metrics, topics) = (Metrics::default(), KnownTopics::default());
        let core = Arc::new(Core::new(settings, Clock::fixed(NOW), metrics, topics));
        let (notes, _from_callbacks) = mpsc::channel();
        let callbacks = || Callbacks::new(Arc::clone(&core), notes.clone());
        let consumer = core.settings.connection.consumer();
        let consumer: Consumer = consumer
            .create_with_context(callbacks())
            .expect("a consumer");
        let mut list = TopicPartitionList::new();
        list.add_partition_offset("requests", 0, Offset::Offset(0))
            .expect("a valid offset");
        consumer.incremental_assign(&list).expect("it is free");
        Self {
            callbacks: callbacks(),
            core,
            consumer,
            partition: partition(0),
            _kafka: kafka,
        }
    }

    fn joins(&self, generation: i64, member: &str) {
        let line = membership::tests::line(generation, member);
        self.callbacks
            .log(RDKafkaLogLevel::Debug, "JOINGROUP", &line);
    }

    fn has_lost(&self) -> bool {
        let metrics = self.core.metrics.render(&Gauges::default());
        metrics.contains("rebalances_total{event=\"lost\"} 1\n")
    }
}

#[test]
fn what_is_kept_over_a_generation_without_us_starts_where_the_others_committed() {
    let held = Held::new();
    held.joins(7, "m");
    held.callbacks.assign(&held.consumer, &[]);
    held.joins(8, "m");
    held.callbacks.assign(&held.consumer, &[]);
    let (kept, pending) = {
        let shared = held.core.lock();
        (shared.state.partitions(), shared.pending.len())
    };
    assert_eq!((kept, pending), (vec![held.partition.clone()], 0));

    held.joins(10, "another");
    held.callbacks.assign(&held.consumer, &[]);

    let shared = held.core.lock();
    assert_eq!(shared.state.partitions(), []);
    let pending = shared
        .pending
        .get(&held.partition)
        .expect("it is asked for");
    assert!(matches!(pending.ask, Ask::Committed), "{pending:?}");
}

#[rstest::rstest]
#[case::undisturbed(false)]
#[case::behind_an_assignment_of_ours(true)]
fn a_revocation_that_an_assignment_of_ours_may_have_answered_is_a_loss(#[case] disturbed: bool) {
    let held = Held::new();
    held.joins(7, "m");
    held.callbacks.assign(&held.consumer, &[]);
    if disturbed {
        out_of_range::assign_again(
            &held.core,
            &held.consumer,
            std::slice::from_ref(&held.partition),
        );
    }
    held.joins(8, "m");
    held.callbacks
        .revoke(&held.consumer, std::slice::from_ref(&held.partition));
    assert_eq!(held.has_lost(), disturbed);
}

#[test]
fn a_commit_names_another_generation_only_after_a_join() {
    let held = Held::new();
    let named = || held.core.membership.of_assignment(&held.consumer);
    held.joins(7, "m");
    held.callbacks.assign(&held.consumer, &[]);
    let first = named().expect("a generation");
    held.callbacks.assign(&held.consumer, &[]);
    let same = named().expect("a generation");
    assert!(Arc::ptr_eq(&first, &same), "nothing was joined");
    held.joins(8, "m");
    let before = named().expect("a generation");
    assert!(
        Arc::ptr_eq(&first, &before),
        "what comes of it is not known"
    );
    held.callbacks.assign(&held.consumer, &[]);
    let next = named().expect("a generation");
    assert!(!Arc::ptr_eq(&first, &next));
}
