//! Records that are there and are not read: it is said, and they are read when it is over.

use std::time::Duration;

use crate::acl::Operation;
use crate::broker::{Broker, Entrance};
use crate::command::start_as;
use crate::kafka::{wait_for, wait_until};
use crate::management::{Scrape, health};
use crate::port::Port;
use crate::process::Process;
use crate::quota::limit_reading;
use crate::request::Request;
use crate::secure::{Secured, VIEWER};
use crate::world::{Setup, World};

/// A stall comes after this here.
const SOON: (&str, &str) = ("ENGINE__STALL_AFTER", "3s");

/// Waits until health says of the consumer, being degraded, each of these words.
#[track_caller]
fn wait_until_consumer_is_degraded(process: &Process, words: &[&str]) {
    wait_for("health says what is not read, and why", || {
        let (status, whole, _) = health(process, "/health/ready");
        let reason = consumer_reason(process);
        let said = words.iter().all(|word| reason.contains(word));
        if said && (status, whole.as_str()) == (200, "DEGRADED") {
            Ok(())
        } else {
            Err((whole, reason))
        }
    });
}

fn consumer_reason(process: &Process) -> String {
    let (_, _, troubles) = health(process, "/health/ready");
    troubles.get("kafka-consumer").cloned().unwrap_or_default()
}

fn warnings(process: &Process, words: &str) -> Vec<String> {
    let text = process.output.text();
    let lines = text.lines().filter(|line| line.contains("WARN"));
    let found = lines.filter(|line| line.contains(words));
    found.map(str::to_owned).collect()
}

#[test]
fn a_topic_that_may_not_be_read_is_said_once_and_read_to_its_end_when_it_may() {
    let secured = Secured::shared();
    let world = secured.permitted_world();
    secured.permit(&world, VIEWER, VIEWER);
    let mut process = world.spawn_with("a", &[SOON]);
    process.wait_ready();
    world.assert_works("9876531001", "before");
    let topic = &world.topics.requests;
    let permission = secured.forbid(Operation::Read, topic);
    let requests = ["9876531002", "9876531003", "9876531004"];
    for mobile in requests {
        world.request(&Request::register(mobile).id(format!("held-{}", &mobile[8..])));
    }
    let no_progress = format!("{topic}-");
    let words = [
        &*no_progress,
        "makes no progress",
        "TopicAuthorizationFailed",
    ];
    wait_until_consumer_is_degraded(&process, &words);
    let port = process.management_port().expect("it listens");
    let status = format!("status --output ndjson --management http://127.0.0.1:{port}");
    let seen = start_as(&world, VIEWER, &status, "");
    let seen = seen.ended(&world).well().json_lines().remove(0);
    let instances = seen["instances"].to_string();
    assert!(instances.contains("TopicAuthorizationFailed"), "{seen}");
    let stalled = Scrape::of(&process).get("user_otp_consumer_troubles{trouble=\"stalled\"}");
    assert!(stalled >= 1.0, "{stalled}");

    // It is tried again, and refused again, and nothing is said twice.
    let refusals = || {
        let text = process.output.text();
        text.matches("Fetch from broker").count()
    };
    let before = refusals();
    wait_until("it is tried again", || refusals() > before);
    assert_eq!(warnings(&process, "the consumer reports an error").len(), 1);
    let said = warnings(&process, "makes no progress");
    for number in 0..2 {
        let part = format!("partition={number}");
        let times = said.iter().filter(|line| line.contains(&part)).count();
        assert!(times <= 1, "once each: {said:?}");
    }
    assert_eq!(world.outcomes().len(), 1, "nothing is read");

    secured.allow(&[permission]);
    for mobile in requests {
        let outcome = world.wait_for_outcome(&format!("held-{}", &mobile[8..]));
        assert_eq!(outcome.summary(), "published");
    }
    world.wait_for_no_lag();
    wait_until("health says that it is over", || {
        health(&process, "/health/ready").1 == "UP"
    });
    assert!(process.is_running(), "it needed no restart");
}

#[test]
fn a_topic_that_may_not_even_be_seen_is_named_and_read_to_its_end_when_it_may() {
    let secured = Secured::shared();
    let world = secured.permitted_world();
    let mut process = world.spawn_with("a", &[SOON]);
    process.wait_ready();
    world.assert_works("9876531101", "before");
    let topic = &world.topics.requests;
    let permissions = [
        Operation::Read,
        Operation::Describe,
        Operation::DescribeConfigs,
    ]
    .map(|operation| secured.forbid(operation, topic));
    world.request(&Request::register("9876531102").id("held"));
    let named = format!("{topic} is missing or may not be read");
    wait_until_consumer_is_degraded(&process, &[&named]);
    secured.allow(&permissions);
    assert_eq!(world.wait_for_outcome("held").summary(), "published");
    wait_until("health says that it is over", || {
        health(&process, "/health/ready").1 == "UP"
    });
    assert_eq!(warnings(&process, &named).len(), 1, "it is said once");
    assert!(process.is_running(), "it needed no restart");
}

#[test]
fn an_end_without_records_is_no_stall() {
    let world = World::with(Setup::default().set(SOON.0, SOON.1));
    let process = world.start("a");
    let topic = &world.topics.requests;
    world.assert_works("9876531201", "before");
    for partition in 0..2 {
        let transaction = world
            .kafka
            .open_records(topic, partition, &["{}", "{}", "{}"]);
        transaction.abort();
    }
    world.wait_for_no_lag();
    let looks = || {
        let text = process.output.text();
        text.matches("last stable offsets read").count()
    };
    let before = looks();
    wait_until("the ends are read often enough for a stall", || {
        looks() >= before + 3
    });
    assert_eq!(warnings(&process, "makes no progress"), [""; 0]);
    assert_eq!(health(&process, "/health/ready").1, "UP");
    world.assert_works("9876531202", "after");
}

/// A broker that lets transactions be open for 30 s, and forgets to end them.
fn broker_with_hanging_transactions() -> Broker {
    let port = Port::reserve();
    let entrance = Entrance {
        name: "OTHER",
        protocol: "PLAINTEXT",
        advertised: port.number(),
        port,
    };
    let properties = [
        "transaction.max.timeout.ms=30000",
        "transaction.abort.timed.out.transaction.cleanup.interval.ms=3600000",
    ];
    Broker::with_entrance(entrance, &properties.map(str::to_owned), &[])
}

#[test]
fn a_transaction_that_is_open_for_longer_than_brokers_allow_is_said() {
    let broker = broker_with_hanging_transactions();
    let world = World::with(Setup {
        broker: Some(broker.address.clone()),
        ..Setup::default()
    });
    let process = world.start("a");
    let topic = &world.topics.requests;
    world.assert_works("9876531301", "before");
    let timeout = Duration::from_secs(30);
    let transaction = world.kafka.open_records_for(topic, 0, &["junk"], timeout);
    world.publish(
        &Request::register("9876531302")
            .id("behind")
            .draft()
            .partition(0),
    );
    let reason = format!("{topic}-0 is not read beyond offset");
    let words = [&*reason, "a producer has a transaction open there"];
    wait_until_consumer_is_degraded(&process, &words);
    let troubles = "user_otp_consumer_troubles{trouble=\"open-transaction\"}";
    assert_eq!(Scrape::of(&process).get(troubles), 1.0);
    transaction.abort();
    assert_eq!(world.wait_for_outcome("behind").summary(), "published");
    wait_until("health says that it is over", || {
        health(&process, "/health/ready").1 == "UP"
    });
    assert_eq!(warnings(&process, &reason).len(), 1, "it is said once");
}

#[test]
fn a_quota_that_lets_nothing_be_read_costs_time_alone() {
    let broker = Broker::start();
    let world = World::with(Setup {
        broker: Some(broker.address.clone()),
        ..Setup::default().set(SOON.0, SOON.1)
    });
    let mut process = world.start("slow");
    let topic = &world.topics.requests;
    world.assert_works("9876531401", "before");
    limit_reading(&broker.address, "user-otp-slow", Some(1.0));
    let mut count = 0;
    let mut ask = || {
        let number = format!("98765{count:05}");
        world.request(&Request::register(&number).id(format!("n-{count}")));
        count += 1;
        count
    };
    let stalled = format!("{topic}-");
    // The broker hears of a quota a moment later: what is asked for until then is still read.
    wait_for("health says what is not read", || {
        let asked = ask();
        let consumer = consumer_reason(&process);
        let said = consumer.contains(&stalled) && consumer.contains("makes no progress");
        if said { Ok(()) } else { Err((asked, consumer)) }
    });
    let asked = (0..20).map(|_| ask()).last().unwrap_or_default();
    limit_reading(&broker.address, "user-otp-slow", None);
    let outcomes = world.wait_for_outcomes(1 + asked);
    assert_eq!(outcomes.len(), 1 + asked, "one each");
    world.wait_for_no_lag();
    wait_until("health says that it is over", || {
        health(&process, "/health/ready").1 == "UP"
    });
    assert!(process.is_running(), "it needed no restart");
}
