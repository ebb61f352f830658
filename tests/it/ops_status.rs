//! `user-otp status`: what Kafka knows of the service, and what instances say.

use serde_json::{Value, json};

use crate::command::run;
use crate::kafka::{Draft, wait_for};
use crate::port::Port;
use crate::request::Request;
use crate::world::World;

fn status(world: &World) -> Value {
    run(world, "status --output ndjson", "")
        .well()
        .json_lines()
        .remove(0)
}

fn of<'a>(status: &'a Value, topic: &str) -> &'a Value {
    let topics = status["topics"].as_array().expect("topics");
    let found = topics.iter().find(|one| one["topic"] == topic);
    found.unwrap_or_else(|| panic!("no {topic} in {status}"))
}

#[test]
fn it_counts_what_is_not_finished_and_says_what_is_missing() {
    let world = World::new();
    let hour_ago = crate::world::now() - 3_600_000;
    for _ in 0..3 {
        let draft = Request::login("9876580001").draft().partition(1);
        world.publish(&draft.timestamp(hour_ago));
    }
    let seen = status(&world);
    let requests = of(&seen, &world.topics.requests);
    assert_eq!(
        (&requests["partitions"], &requests["behind"]),
        (&json!(2), &json!(3))
    );
    let age = requests["oldestAge"].as_str().expect("an age");
    assert!(age.starts_with("1h"), "{age}");
    assert_eq!(of(&seen, &world.topics.accepted)["partitions"], Value::Null);
    assert_eq!(seen["members"], 0);
    assert_eq!(seen["deadLettersLastHour"], Value::Null);
    let table = run(&world, "status", "").well().out;
    assert!(
        table.contains("nobody is in it: is `user-otp run` up?"),
        "{table}"
    );
    assert!(table.contains("missing"), "{table}");
}

#[test]
fn what_waits_behind_an_open_transaction_is_behind() {
    let world = World::new();
    let topic = &world.topics.requests;
    let transaction = world.kafka.open_records(topic, 0, &["junk"]);
    world.publish(&Draft::of("junk").partition(0));
    let seen = status(&world);
    let requests = of(&seen, topic);
    assert_eq!(requests["behind"], 2, "{requests}");
    assert!(requests["oldestAge"].is_string(), "{requests}");
    transaction.abort();
}

#[test]
fn of_a_service_that_keeps_up_nothing_is_behind_and_nothing_is_touched() {
    let world = World::new();
    let _process = world.start("a");
    world.publish(&Draft::of("junk").header("otp-event-id", "junk"));
    world.assert_works("9876580002", "works");
    world.wait_for_outcomes(2);
    world.wait_for_no_lag();
    let before = world.committed();
    let seen = wait_for("nothing is behind", || {
        let seen = status(&world);
        let topics = seen["topics"].as_array().expect("topics").clone();
        match topics.iter().all(|one| one["behind"] == 0) {
            true => Ok(seen),
            false => Err(seen),
        }
    });
    assert_eq!(
        (&seen["members"], &seen["deadLettersLastHour"]),
        (&json!(1), &json!(1))
    );
    assert_eq!(seen["topics"].as_array().map(Vec::len), Some(5));
    assert_eq!(world.committed(), before);
}

#[test]
fn instances_that_are_asked_say_how_they_are_and_silent_ones_are_named() {
    let world = World::new();
    let process = world.start("a");
    world.assert_works("9876580003", "works");
    world.wait_for_outcomes(1);
    let port = process.management_port().expect("it listens");
    let unused = Port::reserve();
    let nobody = unused.number();
    let asked = format!(
        "status --management http://127.0.0.1:{port} --management http://127.0.0.1:{nobody}"
    );
    let seen = run(&world, &format!("{asked} --output ndjson"), "").well();
    let instances = &seen.json_lines()[0]["instances"];
    let state = &instances[0]["state"];
    assert_eq!(state["status"], "UP", "{seen:?}");
    assert!(state["requestsInHand"].is_u64(), "{seen:?}");
    let services = state["services"].as_array().expect("services");
    let otp = services.iter().find(|one| one["service"] == "otp");
    let limit = otp.and_then(|otp| otp["limit"].as_u64());
    assert!(limit.is_some_and(|limit| limit > 0), "{seen:?}");
    let error = instances[1]["error"].as_str().expect("an error");
    assert!(error.contains("management.port"), "{seen:?}");

    let table = run(&world, &asked, "").well().out;
    for words in ["INSTANCE", "LAST CALL", "silent", "nobody answers"] {
        assert!(table.contains(words), "{table}");
    }
}
