//! What librdkafka can be made to refuse.

use std::sync::mpsc;

use rdkafka::mocking::MockCluster;

use super::*;
use crate::clock::Clock;
use crate::engine::offsets::Tracker;
use crate::engine::supersede::tests::NOW;
use crate::engine::transaction::tests::settings;
use crate::known_topics::KnownTopics;
use crate::metrics::Metrics;

#[test]
fn partitions_whose_assignment_fails_are_tried_again() {
    let kafka = MockCluster::new(1).expect("a mock");
    kafka.create_topic("requests", 2, 1).expect("a topic");
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
    let partition = |number| Partition {
        topic: "requests".into(),
        number,
    };
    let mut list = TopicPartitionList::new();
    list.add_partition_offset("requests", 0, Offset::Offset(0))
        .expect("a valid offset");
    let assigned = consumer.incremental_assign(&list);
    assigned.expect("it is assigned, and so cannot be once more");

    callbacks().assign(&consumer, &[partition(0), partition(1)]);

    let shared = core.lock();
    let mut pending: Vec<_> = shared.pending.keys().cloned().collect();
    pending.sort();
    assert_eq!(pending, [partition(0), partition(1)]);
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
