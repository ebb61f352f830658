//! What each answer of a broker comes to, against librdkafka's mock cluster, whose answers can be
//! chosen. A real broker gives some of them once in a thousand faults, and others, a full disk's, not
//! at all on a machine that goes on to be used. Three brokers, since coordinators and leaders move.

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::mocking::{MockCluster, MockCoordinator};
use rdkafka::producer::DefaultProducerContext;
use rdkafka::types::RDKafkaApiKey;
use rdkafka::types::RDKafkaApiKey::{
    AddOffsetsToTxn, AddPartitionsToTxn, EndTxn, FindCoordinator, InitProducerId, Metadata,
    Produce, TxnOffsetCommit,
};
use rdkafka::types::RDKafkaRespErr::{
    self, RD_KAFKA_RESP_ERR_CONCURRENT_TRANSACTIONS as CONCURRENT_TRANSACTIONS,
    RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS as COORDINATOR_LOAD_IN_PROGRESS,
    RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE as COORDINATOR_NOT_AVAILABLE,
    RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED as GROUP_AUTHORIZATION_FAILED,
    RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION as ILLEGAL_GENERATION,
    RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH as INVALID_PRODUCER_EPOCH,
    RD_KAFKA_RESP_ERR_INVALID_RECORD as INVALID_RECORD,
    RD_KAFKA_RESP_ERR_INVALID_TXN_STATE as INVALID_TXN_STATE,
    RD_KAFKA_RESP_ERR_KAFKA_STORAGE_ERROR as KAFKA_STORAGE_ERROR,
    RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE as MSG_SIZE_TOO_LARGE,
    RD_KAFKA_RESP_ERR_NOT_COORDINATOR as NOT_COORDINATOR,
    RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS as NOT_ENOUGH_REPLICAS,
    RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS_AFTER_APPEND as NOT_ENOUGH_REPLICAS_AFTER_APPEND,
    RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION as NOT_LEADER,
    RD_KAFKA_RESP_ERR_OFFSET_METADATA_TOO_LARGE as OFFSET_METADATA_TOO_LARGE,
    RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER as OUT_OF_ORDER_SEQUENCE,
    RD_KAFKA_RESP_ERR_PRODUCER_FENCED as PRODUCER_FENCED,
    RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS as REBALANCE_IN_PROGRESS,
    RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT as REQUEST_TIMED_OUT,
    RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED as TOPIC_AUTHORIZATION_FAILED,
    RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID as UNKNOWN_MEMBER_ID,
    RD_KAFKA_RESP_ERR_UNKNOWN_PRODUCER_ID as UNKNOWN_PRODUCER_ID,
};
use rstest::rstest;

use super::*;
use crate::config::KafkaProperties;
use crate::engine::clients::Connection;
use crate::engine::faults::Faults;
use crate::engine::state::{Epoch, Partition};
use crate::engine::tag::Tag;

/// How a transaction ended.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// The library, or we, asked again.
    Committed,
    /// All of it goes into the next transaction.
    Aborted,
    /// Aborted, and the record is found out.
    RecordAtFault,
    /// Aborted, and the topic is found out.
    TopicAtFault,
    /// By a new producer; what the committed offsets do not cover is sent again.
    Rebuilt,
    /// The same, and whether it went through is not known.
    RebuiltInDoubt,
}

/// Where the clock stands.
const NOW: EpochMs = EpochMs(1_000);

struct World {
    kafka: MockCluster<'static, DefaultProducerContext>,
    engine: Engine,
}

struct Engine {
    producers: Producers,
    consumer: BaseConsumer,
}

impl World {
    fn new() -> Self {
        let kafka = MockCluster::new(3).expect("a mock");
        for topic in ["requests", "sms"] {
            kafka.create_topic(topic, 1, 3).expect("a topic");
        }
        let connection = Connection {
            brokers: kafka.bootstrap_servers(),
            group: "g".to_owned(),
            instance: "i".to_owned(),
            properties: KafkaProperties::default(),
        };
        let producers = Producers {
            config: connection.producer("g-i", 10_000),
            reachability: Arc::default(),
            vitals: Arc::default(),
            clock: Clock::fixed(NOW),
            fences: Default::default(),
        };
        let consumer = connection.consumer().create().expect("a consumer");
        let engine = Engine {
            producers,
            consumer,
        };
        Self { kafka, engine }
    }
}

impl Engine {
    fn open(&self) -> Transactions {
        let opened = self.producers.open(|_| false);
        opened.expect("it is not told to give up")
    }

    /// A transaction as the engine's: a record, and the offset that it finishes.
    fn write(&self, transactions: &Transactions) -> End {
        self.write_until(transactions, None)
    }

    /// The same with a record that may not be sent from `deadline` on.
    fn write_until(&self, transactions: &Transactions, deadline: Option<EpochMs>) -> End {
        let record = Outgoing {
            topic: "sms".into(),
            key: None,
            value: Some(b"value".to_vec()),
            headers: Vec::new(),
        };
        let commit = Commit {
            partition: Partition {
                topic: "requests".into(),
                number: 0,
            },
            epoch: Epoch(1),
            tag: Tag {
                commit_point: 1,
                until: None,
                finished: Vec::new(),
            },
        };
        let metadata = self.consumer.group_metadata().expect("a group");
        let offsets = Offsets {
            metadata: &metadata,
            commits: &[commit],
        };
        let results = [Sending {
            records: std::slice::from_ref(&record),
            deadline,
        }];
        let written = transactions.write(results.into_iter(), Some(&offsets), Instant::now());
        match written {
            Written::Committed => End::Committed,
            Written::Aborted => End::Aborted,
            Written::Undelivered(failed) => {
                let faults = Faults::of(&failed);
                match (faults.suspects.is_empty(), faults.topics.is_empty()) {
                    (true, true) => End::Aborted,
                    (false, _) => End::RecordAtFault,
                    (true, false) => End::TopicAtFault,
                }
            }
            Written::Rebuild {
                commit_called: false,
                ..
            } => End::Rebuilt,
            Written::Rebuild {
                commit_called: true,
                ..
            } => End::RebuiltInDoubt,
        }
    }
}

#[rstest]
// A disk that is full, or fails: the broker's log folder is offline.
#[case(Produce, KAFKA_STORAGE_ERROR, End::Committed)]
#[case(Produce, NOT_ENOUGH_REPLICAS, End::Committed)]
#[case(Produce, NOT_ENOUGH_REPLICAS_AFTER_APPEND, End::Committed)]
#[case(Produce, NOT_LEADER, End::Committed)]
#[case(Produce, REQUEST_TIMED_OUT, End::Committed)]
#[case(Produce, MSG_SIZE_TOO_LARGE, End::RecordAtFault)]
#[case(Produce, INVALID_RECORD, End::RecordAtFault)]
#[case(Produce, OUT_OF_ORDER_SEQUENCE, End::Rebuilt)]
#[case(Produce, UNKNOWN_PRODUCER_ID, End::Aborted)]
#[case(Produce, INVALID_PRODUCER_EPOCH, End::Rebuilt)]
#[case(AddPartitionsToTxn, COORDINATOR_NOT_AVAILABLE, End::Committed)]
#[case(AddPartitionsToTxn, COORDINATOR_LOAD_IN_PROGRESS, End::Committed)]
#[case(AddPartitionsToTxn, NOT_COORDINATOR, End::Committed)]
#[case(AddPartitionsToTxn, CONCURRENT_TRANSACTIONS, End::Committed)]
#[case(AddPartitionsToTxn, TOPIC_AUTHORIZATION_FAILED, End::TopicAtFault)]
#[case(AddPartitionsToTxn, PRODUCER_FENCED, End::Rebuilt)]
#[case(AddPartitionsToTxn, INVALID_TXN_STATE, End::Rebuilt)]
#[case(AddOffsetsToTxn, CONCURRENT_TRANSACTIONS, End::Committed)]
#[case(AddOffsetsToTxn, NOT_COORDINATOR, End::Committed)]
#[case(AddOffsetsToTxn, GROUP_AUTHORIZATION_FAILED, End::Aborted)]
#[case(TxnOffsetCommit, COORDINATOR_NOT_AVAILABLE, End::Committed)]
#[case(TxnOffsetCommit, NOT_COORDINATOR, End::Committed)]
#[case(TxnOffsetCommit, COORDINATOR_LOAD_IN_PROGRESS, End::Committed)]
#[case(TxnOffsetCommit, ILLEGAL_GENERATION, End::Aborted)]
#[case(TxnOffsetCommit, UNKNOWN_MEMBER_ID, End::Aborted)]
#[case(TxnOffsetCommit, REBALANCE_IN_PROGRESS, End::Aborted)]
#[case(TxnOffsetCommit, OFFSET_METADATA_TOO_LARGE, End::Aborted)]
#[case(TxnOffsetCommit, GROUP_AUTHORIZATION_FAILED, End::Aborted)]
#[case(TxnOffsetCommit, INVALID_PRODUCER_EPOCH, End::Rebuilt)]
#[case(EndTxn, COORDINATOR_NOT_AVAILABLE, End::Committed)]
#[case(EndTxn, COORDINATOR_LOAD_IN_PROGRESS, End::Committed)]
#[case(EndTxn, NOT_COORDINATOR, End::Committed)]
#[case(EndTxn, CONCURRENT_TRANSACTIONS, End::Committed)]
#[case(EndTxn, INVALID_PRODUCER_EPOCH, End::RebuiltInDoubt)]
#[case(EndTxn, INVALID_TXN_STATE, End::RebuiltInDoubt)]
fn one_answer_of_a_broker_and_what_it_comes_to(
    #[case] request: RDKafkaApiKey,
    #[case] error: RDKafkaRespErr,
    #[case] expected: End,
) {
    let world = World::new();
    let mut transactions = world.engine.open();
    world.kafka.request_errors(request, &[error]);
    let end = world.engine.write(&transactions);
    assert_eq!(end, expected);
    world.kafka.clear_request_errors(request);
    if matches!(end, End::Rebuilt | End::RebuiltInDoubt) {
        transactions = world.engine.open();
    }
    // A record that was refused leaves a gap in the sequence numbers, which can cost one more.
    let mut next = (0..2).map(|_| world.engine.write(&transactions));
    assert!(next.any(|end| end == End::Committed), "the next ones");
}

#[rstest]
#[case(FindCoordinator, COORDINATOR_NOT_AVAILABLE)]
#[case(InitProducerId, COORDINATOR_LOAD_IN_PROGRESS)]
#[case(InitProducerId, CONCURRENT_TRANSACTIONS)]
#[case(InitProducerId, NOT_COORDINATOR)]
fn an_id_is_taken_over_once_its_coordinator_answers(
    #[case] request: RDKafkaApiKey,
    #[case] error: RDKafkaRespErr,
) {
    let world = World::new();
    world.kafka.request_errors(request, &[error; 5]);
    assert_eq!(world.engine.write(&world.engine.open()), End::Committed);
}

#[test]
fn leaders_and_coordinators_move_between_transactions() {
    let world = World::new();
    let transactions = world.engine.open();
    for broker in [1, 2, 3, 1] {
        let of = |coordinator| world.kafka.coordinator(coordinator, broker);
        of(MockCoordinator::Transaction("g-i".to_owned())).expect("it moves");
        of(MockCoordinator::Group("g".to_owned())).expect("it moves");
        let leader = world.kafka.partition_leader("sms", 0, Some(broker));
        leader.expect("it moves");
        assert_eq!(
            world.engine.write(&transactions),
            End::Committed,
            "on {broker}"
        );
    }
}

/// The library says more than it did, so that breaks of connections are heard.
#[test]
fn an_ordinary_transaction_costs_few_lines_of_the_librarys_log() {
    const TRANSACTIONS: usize = 50;
    let world = World::new();
    let transactions = world.engine.open();
    assert_eq!(world.engine.write(&transactions), End::Committed);
    let calls = || transactions.producer.context().calls();
    let before = calls();
    for _ in 0..TRANSACTIONS {
        assert_eq!(world.engine.write(&transactions), End::Committed);
        assert!(!transactions.is_unsure());
    }
    let lines = calls() - before;
    assert!(lines <= 3 * TRANSACTIONS, "{lines} lines in {TRANSACTIONS}");
    assert!(lines >= TRANSACTIONS, "{lines} lines: it says none");
}

/// What it writes would be taken for what a broker has already, and be lost.
#[test]
fn a_producer_whose_records_were_purged_is_not_used_again() {
    let world = World::new();
    let transactions = world.engine.open();
    world.kafka.request_errors(Produce, &[MSG_SIZE_TOO_LARGE]);
    assert_eq!(world.engine.write(&transactions), End::RecordAtFault);
    assert!(!transactions.is_unsure(), "its only record was answered");

    // It waits to be sent again when the transaction fails.
    world.kafka.request_errors(Produce, &[NOT_LEADER; 100]);
    world
        .kafka
        .request_errors(TxnOffsetCommit, &[ILLEGAL_GENERATION]);
    assert_eq!(world.engine.write(&transactions), End::Aborted);
    assert!(transactions.is_unsure());
    world.kafka.clear_request_errors(Produce);
    assert_eq!(world.engine.write(&world.engine.open()), End::Committed);
}

/// Where it is the first topic of a transaction, a broker knows of none that could be aborted.
#[test]
fn a_forbidden_topic_is_found_out_also_where_the_abort_is_refused() {
    let world = World::new();
    let transactions = world.engine.open();
    let (forbidden, none) = (TOPIC_AUTHORIZATION_FAILED, INVALID_TXN_STATE);
    world.kafka.request_errors(AddPartitionsToTxn, &[forbidden]);
    world.kafka.request_errors(EndTxn, &[none]);
    assert_eq!(world.engine.write(&transactions), End::TopicAtFault);
    assert!(transactions.is_unsure(), "the library takes it for fatal");
    assert_eq!(world.engine.write(&world.engine.open()), End::Committed);
}

#[test]
fn a_partition_without_a_leader_for_a_while_is_waited_for() {
    let world = World::new();
    let transactions = world.engine.open();
    let leader = |broker| world.kafka.partition_leader("sms", 0, broker);
    leader(None).expect("it has none");
    let engine = &world.engine;
    std::thread::scope(|scope| {
        let written = scope.spawn(|| engine.write(&transactions));
        // Its producer has asked who leads it.
        leader(Some(2)).expect("it has one");
        assert_eq!(written.join().expect("an end"), End::Committed);
    });
}

#[test]
fn brokers_that_do_not_know_a_topic_for_a_moment_are_asked_again() {
    let world = World::new();
    let transactions = world.engine.open();
    let unknown = RDKafkaRespErr::RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE;
    world.kafka.request_errors(Metadata, &[unknown; 3]);
    assert_eq!(world.engine.write(&transactions), End::Committed);
}

#[rstest]
#[case::in_time(EpochMs(1_001), End::Committed)]
#[case::late(NOW, End::Aborted)]
fn what_became_too_late_since_it_was_chosen_is_not_sent(
    #[case] deadline: EpochMs,
    #[case] end: End,
) {
    let world = World::new();
    let transactions = world.engine.open();
    assert_eq!(world.engine.write_until(&transactions, Some(deadline)), end);
    assert_eq!(world.engine.write(&transactions), End::Committed);
}
