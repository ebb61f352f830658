//! Records that are there and are not read: it is said, and they are read when it is over.

use crate::acl::Operation;
use crate::command::start_as;
use crate::kafka::{wait_for, wait_until};
use crate::management::{Scrape, health};
use crate::process::Process;
use crate::request::Request;
use crate::secure::{Secured, VIEWER};
use crate::world::{Setup, World};

/// A stall comes after this here.
const SOON: (&str, &str) = ("ENGINE__STALL_AFTER", "3s");

/// Waits until health says of the consumer, being degraded, each of these words.
#[track_caller]
fn wait_until_consumer_is_degraded(process: &Process, words: &[&str]) {
    wait_for("health says what is not read, and why", || {
        let (status, whole, troubles) = health(process, "/health/ready");
        let reason = troubles.get("kafka-consumer").cloned().unwrap_or_default();
        let said = words.iter().all(|word| reason.contains(word));
        if said && (status, whole.as_str()) == (200, "DEGRADED") {
            Ok(())
        } else {
            Err((whole, reason))
        }
    });
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
        world.request(&Request::register(mobile).id(mobile));
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
        assert_eq!(world.wait_for_outcome(mobile).summary(), "published");
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
