//! The door's committer against librdkafka's mock cluster, whose answers can be chosen: what a real
//! broker does once in a thousand faults. The mock keeps what is aborted, so that everything that was
//! ever sent can be counted.

use std::collections::BTreeMap;

use bytes::Bytes;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::message::Message as _;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use rdkafka::{Offset, TopicPartitionList};
use rstest::rstest;

use super::records::Writer;
use super::*;
use crate::clock::EpochMs;
use crate::config::KafkaProperties;
use crate::domain::contact::MobileNumber;
use crate::domain::request::Submission;
use crate::egov::{AtFloor, Queue};
use crate::handler::Context;
use crate::limits::Charge;
use crate::metrics::Gauges;
use crate::notification::{Notification, Sms};
use crate::outcome::Published;

/// Longer than a fault that ends takes.
const PATIENCE: Duration = Duration::from_secs(30);

const TOPICS: [&str; 4] = ["sms", "email", "outcomes", "accepted"];

struct World {
    kafka: MockCluster<'static, DefaultProducerContext>,
    door: Door,
    metrics: Metrics,
}

impl World {
    fn new() -> Self {
        let kafka = MockCluster::new(1).expect("a mock");
        for topic in TOPICS {
            kafka.create_topic(topic, 1, 1).expect("a topic");
        }
        let settings = Settings {
            connection: Connection {
                brokers: kafka.bootstrap_servers(),
                group: "g".into(),
                instance: "i".into(),
                properties: KafkaProperties::default(),
            },
            writer: Writer {
                accepted: "accepted".into(),
                outcomes: "outcomes".into(),
            },
            batch: 10,
            linger: Duration::from_millis(2),
            largest_record: 4_000,
        };
        let clock = Clock::fixed(EpochMs(0));
        let metrics = Metrics::default();
        let door = Door::start(settings, clock, metrics.clone(), PATIENCE);
        Self {
            kafka,
            door: door.expect("the mock answers"),
            metrics,
        }
    }

    fn publish(&self, key: &str) -> Receipt {
        let published = Published {
            sms: sms(key, "text"),
            email: Some(message("email", key)),
            code: None,
            probe: None,
        };
        self.submit(key, Content::Published(published))
    }

    fn submit(&self, key: &str, result: Content) -> Receipt {
        self.door
            .outbox()
            .submit(Box::new(visit(key, EpochMs(1))), result)
    }

    /// How often each key is on a topic, committed or not.
    fn sent(&self, topic: &str) -> BTreeMap<String, usize> {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", self.kafka.bootstrap_servers())
            .set("group.id", "reader")
            .set("isolation.level", "read_uncommitted")
            .set("enable.partition.eof", "true")
            .create()
            .expect("a consumer");
        let mut from = TopicPartitionList::new();
        from.add_partition_offset(topic, 0, Offset::Beginning)
            .expect("a valid offset");
        consumer.assign(&from).expect("a valid assignment");
        let mut keys = BTreeMap::new();
        loop {
            match consumer.poll(PATIENCE).expect("the end of the topic") {
                Ok(message) => {
                    let key = message.key().map(String::from_utf8_lossy);
                    *keys
                        .entry(key.unwrap_or_default().into_owned())
                        .or_default() += 1;
                }
                Err(KafkaError::PartitionEOF(_)) => return keys,
                Err(_) => {}
            }
        }
    }
}

/// A request, while the clock stands at 0.
fn visit(event_id: &str, deadline: EpochMs) -> Visit {
    Visit {
        event_id: event_id.to_owned(),
        received: EpochMs(0),
        body: Bytes::from_static(b"{}"),
        submission: Submission::default(),
        context: Context {
            deadline,
            correlation_id: None,
            traceparent: None,
            tenant_header: None,
            queue: Queue::Live,
            at_floor: AtFloor::Wait,
            charge: Charge::never(),
        },
    }
}

fn sms(key: &str, text: &str) -> Sms {
    Sms {
        topic: "sms".to_owned(),
        key: key.to_owned(),
        to: MobileNumber::stored("1".to_owned()).expect("a number"),
        text: text.to_owned(),
        country_code: None,
        expires: EpochMs(1),
    }
}

fn message(topic: &str, key: &str) -> Notification {
    Notification {
        topic: topic.to_owned(),
        key: key.to_owned(),
        value: key.as_bytes().to_vec(),
    }
}

fn once(keys: &[&str]) -> BTreeMap<String, usize> {
    keys.iter().map(|key| ((*key).to_owned(), 1)).collect()
}

#[tokio::test]
async fn a_result_that_may_be_committed_is_never_sent_again() {
    let world = World::new();
    let fenced = RDKafkaRespErr::RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH;
    world.kafka.request_errors(RDKafkaApiKey::EndTxn, &[fenced]);
    let unconfirmed = world.publish("first").confirm(PATIENCE).await;
    assert_eq!(unconfirmed, Confirmation::Unconfirmed);
    let committed = world.publish("second").confirm(PATIENCE).await;
    assert_eq!(committed, Confirmation::Committed, "by a new producer");
    assert_eq!(world.sent("sms"), once(&["first", "second"]));
    assert!(world.door.outbox().open_for().is_none());
}

#[rstest]
#[case::fatal(RDKafkaRespErr::RD_KAFKA_RESP_ERR_INVALID_TXN_STATE)]
#[case::abortable(RDKafkaRespErr::RD_KAFKA_RESP_ERR_INVALID_PRODUCER_ID_MAPPING)]
#[tokio::test]
async fn what_failed_before_its_commit_is_repeated_while_it_is_waited_for(
    #[case] error: RDKafkaRespErr,
) {
    let world = World::new();
    world
        .kafka
        .request_errors(RDKafkaApiKey::AddPartitionsToTxn, &[error]);
    let confirmed = world.publish("first").confirm(PATIENCE).await;
    assert_eq!(confirmed, Confirmation::Committed);
    assert_eq!(world.sent("outcomes"), once(&["first"]));
}

#[rstest::rstest]
#[case::the_committer_does_not_know(true)]
#[case::the_committer_is_gone(false)]
#[tokio::test]
async fn what_was_told_to_be_unconfirmed_stays_so(#[case] told: bool) {
    let (reply, confirmation) = oneshot::channel();
    let claim = Arc::<Claim>::default();
    let mut receipt = Receipt {
        claim: Arc::clone(&claim),
        confirmation,
    };
    assert!(claim.begin());
    match told {
        true => reply.send(Confirmation::Unconfirmed).expect("it waits"),
        false => drop(reply),
    }
    assert_eq!(receipt.confirm(PATIENCE).await, Confirmation::Unconfirmed);
    assert_eq!(receipt.late().await, Confirmation::Unconfirmed);
}

#[tokio::test]
async fn what_was_not_begun_is_withdrawn_and_never_sent() {
    let world = World::new();
    world.kafka.broker_down(1).expect("it goes down");
    let mut begun = world.publish("begun");
    let outbox = world.door.outbox();
    while outbox.open_for().is_none() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let mut waiting = world.publish("waiting");
    let short = Duration::from_millis(50);
    assert_eq!(begun.confirm(short).await, Confirmation::Unconfirmed);
    assert_eq!(waiting.confirm(short).await, Confirmation::Withdrawn);
    drop(world.publish("gone"));
    world.kafka.broker_up(1).expect("it comes back");
    let after = world.publish("after").confirm(PATIENCE).await;
    assert_eq!(after, Confirmation::Committed);
    let sent = world.sent("sms");
    let known = begun.late().await;
    assert_eq!(known == Confirmation::Committed, sent.contains_key("begun"));
    assert!(
        !sent.contains_key("waiting") && !sent.contains_key("gone"),
        "{sent:?}"
    );
    assert!(sent.get("begun").is_none_or(|times| *times == 1));
}

#[tokio::test]
async fn a_result_past_its_deadline_is_not_sent() {
    let world = World::new();
    let late = visit("late", EpochMs(0));
    let result = Content::HandedOver { tries: 1 };
    let mut receipt = world.door.outbox().submit(Box::new(late), result);
    assert_eq!(receipt.confirm(PATIENCE).await, Confirmation::Withdrawn);
    assert_eq!(world.sent("accepted"), once(&[]));
}

#[tokio::test]
async fn a_record_that_its_topic_never_takes_fails_alone() {
    let world = World::new();
    let large = Content::Published(Published {
        sms: sms("large", &"x".repeat(5_000)),
        email: None,
        code: None,
        probe: None,
    });
    let mut large = world.submit("large", large);
    let mut small = world.publish("small");
    assert_eq!(large.confirm(PATIENCE).await, Confirmation::TooLarge);
    assert_eq!(small.confirm(PATIENCE).await, Confirmation::Committed);
}

#[rstest]
#[case::email("email", &["r"], &[])]
#[case::sms("sms", &[], &[":"])]
#[tokio::test]
async fn a_topic_that_is_forbidden_costs_the_email_or_the_way(
    #[case] forbidden: &str,
    #[case] sms: &[&str],
    #[case] accepted: &[&str],
) {
    let world = World::new();
    let error = RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED;
    world
        .kafka
        .topic_error(forbidden, error)
        .expect("a topic's error");
    let confirmed = world.publish("r").confirm(PATIENCE).await;
    let expected = match accepted.is_empty() {
        true => Confirmation::Committed,
        false => Confirmation::Queued,
    };
    assert_eq!(confirmed, expected);
    if forbidden == "email" {
        assert!(world.sent("sms").contains_key(sms[0]));
    }
    assert_eq!(world.sent("accepted"), once(accepted));
}

#[tokio::test]
async fn a_producer_that_is_not_used_again_is_replaced_before_the_next_request() {
    let world = World::new();
    // Our own topic is forbidden, as the first of a transaction: what is for it waits, and the broker refuses the
    // abort of what it never heard of.
    let forbidden = RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED;
    let none = RDKafkaRespErr::RD_KAFKA_RESP_ERR_INVALID_TXN_STATE;
    let kafka = &world.kafka;
    kafka.request_errors(RDKafkaApiKey::AddPartitionsToTxn, &[forbidden]);
    kafka.request_errors(RDKafkaApiKey::EndTxn, &[none]);
    let mut waiting = world.submit("waiting", Content::HandedOver { tries: 0 });
    assert_eq!(waiting.confirm(PATIENCE).await, Confirmation::Queued);
    assert_eq!(world.sent("accepted"), once(&[":"]));
    let metrics = world.metrics.render(&Gauges::default());
    let none_in_vain = "user_otp_transactions_total{door=\"http\",end=\"rebuilt\"} 0";
    assert!(metrics.contains(none_in_vain), "a transaction found none");
}

#[tokio::test]
async fn what_does_not_get_through_is_unconfirmed_until_it_does() {
    let world = World::new();
    let vitals = world.door.vitals();
    assert_eq!(vitals.unconfirmed_for(), None);
    world.kafka.broker_down(1).expect("it goes down");
    let mut receipt = world.publish("one");
    let seen = async {
        while vitals.unconfirmed_for().is_none() {
            tokio::task::yield_now().await;
        }
    };
    let seen = tokio::time::timeout(PATIENCE, seen).await;
    seen.expect("health hears of it");
    world.kafka.broker_up(1).expect("it comes back");
    assert_eq!(receipt.confirm(PATIENCE).await, Confirmation::Committed);
    assert_eq!(vitals.unconfirmed_for(), None);
}

#[tokio::test]
async fn it_ends_when_it_is_told_to() {
    let world = World::new();
    let mut receipt = world.publish("last");
    let door = world.door;
    let drained = tokio::task::spawn_blocking(move || door.shut_down(PATIENCE)).await;
    assert_eq!(
        drained.expect("no panic").expect("no failure"),
        Drained::Clean
    );
    assert_eq!(receipt.confirm(PATIENCE).await, Confirmation::Committed);
}
