//! Batches that the broker takes and nobody can decompress.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};

use crate::broker::Broker;
use crate::command::{Ran, Running, run, start};
use crate::kafka::{wait_for, wait_until};
use crate::management::health;
use crate::ops_jobs::{id_in, interrupted, letter};
use crate::request::Request;
use crate::world::{Setup, World};

fn world() -> World {
    let world = World::with(Setup::default());
    world.egov.everyone(true);
    world
}

/// A login on this partition of the request topic, by an id of its own.
fn login(world: &World, partition: i32, id: &str) {
    let request = Request::login("9876500001").id(id);
    world.publish(&request.draft().partition(partition));
}

#[track_caller]
fn assert_published(world: &World, ids: &[&str]) {
    for id in ids {
        assert_eq!(world.wait_for_outcome(id).summary(), "published", "{id}");
    }
}

#[test]
fn an_unreadable_batch_is_one_dead_letter_and_its_neighbours_are_published() {
    let world = world();
    let topic = &world.topics.requests;
    login(&world, 0, "before");
    world.unreadable_batch(topic, 0, 3);
    login(&world, 0, "between");
    world.unreadable_batch(topic, 0, 1);
    world.unreadable_batch(topic, 0, 2);
    login(&world, 0, "behind");
    login(&world, 1, "beside");
    let process = world.start("a");
    assert_published(&world, &["beside", "before", "between", "behind"]);
    // The last thing in the log.
    world.unreadable_batch(topic, 0, 1);
    let dead_letters = wait_for("a dead letter for each range", || {
        let dead_letters = world.dead_letters();
        if dead_letters.len() >= 3 {
            Ok(dead_letters)
        } else {
            Err(dead_letters.len())
        }
    });
    let mut ranges: Vec<_> = dead_letters
        .iter()
        .map(|dead_letter| {
            assert_eq!(dead_letter.header("otp-disposition"), Some("poison"));
            assert_eq!(
                dead_letter.header("otp-error-code"),
                Some("unreadable-batch")
            );
            assert_eq!((&dead_letter.key, &dead_letter.value), (&None, &None));
            (
                dead_letter.number("__dlq.errors.offset"),
                dead_letter.number("otp-last-offset"),
            )
        })
        .collect();
    ranges.sort_unstable();
    assert_eq!(ranges, [(1, 3), (5, 7), (9, 9)]);
    world.wait_for_no_lag();
    let poison = world.outcomes();
    let poison = poison
        .iter()
        .filter(|one| one.word("code") == "unreadable-batch");
    assert_eq!(poison.count(), 3, "an outcome for each");
    login(&world, 0, "after");
    assert_published(&world, &["after"]);
    wait_for("health is as before", || {
        let (_, whole, troubles) = health(&process, "/health/ready");
        if whole == "UP" { Ok(()) } else { Err(troubles) }
    });
}

#[test]
fn a_restart_proves_an_unreadable_batch_again_and_writes_it_once() {
    let world = world();
    let mut process = world.start("a");
    world.unreadable_batch(&world.topics.requests, 0, 2);
    wait_for("its outcome", || {
        let outcomes = world.outcomes();
        if outcomes.is_empty() {
            Err(0)
        } else {
            Ok(outcomes)
        }
    });
    process.kill();
    world.unreadable_batch(&world.topics.requests, 0, 1);
    login(&world, 0, "behind");
    let _process = world.start("b");
    assert_published(&world, &["behind"]);
    world.wait_for_no_lag();
    let dead_letters = world.dead_letters();
    let mut first: Vec<_> = dead_letters
        .iter()
        .map(|one| one.number("__dlq.errors.offset"))
        .collect();
    first.sort_unstable();
    assert_eq!(first, [0, 2]);
}

/// The library passes over what has an unknown format by itself: the next record shows the gap.
#[test]
fn a_gap_that_the_library_left_by_itself_is_one_dead_letter() {
    const MAGIC: u64 = 16;
    let broker = Broker::start();
    let world = World::with(Setup {
        broker: Some(broker.address.clone()),
        ..Setup::default()
    });
    world.egov.everyone(true);
    login(&world, 0, "before");
    login(&world, 0, "damaged");
    login(&world, 0, "behind");
    let log = broker.log_of(&world.topics.requests, 0);
    let mut file = File::options()
        .read(true)
        .write(true)
        .open(log)
        .expect("a log");
    // The first batch's length stands behind its offset.
    let mut length = [0; 4];
    file.seek(SeekFrom::Start(8)).expect("a batch");
    file.read_exact(&mut length).expect("a length");
    let second = 12 + u64::from(u32::from_be_bytes(length));
    file.seek(SeekFrom::Start(second + MAGIC)).expect("another");
    file.write_all(&[9]).expect("it is damaged");
    file.sync_all().expect("on the disk");

    let _process = world.start("a");
    assert_published(&world, &["before", "behind"]);
    let dead_letters = wait_for("a dead letter for the gap", || {
        let dead_letters = world.dead_letters();
        if dead_letters.is_empty() {
            Err(0)
        } else {
            Ok(dead_letters)
        }
    });
    assert_eq!(dead_letters.len(), 1);
    assert_eq!(
        dead_letters[0].header("otp-error-code"),
        Some("unreadable-batch")
    );
    assert_eq!(dead_letters[0].number("__dlq.errors.offset"), 1);
    assert_eq!(dead_letters[0].number("otp-last-offset"), 1);
    world.wait_for_no_lag();
    assert_eq!(world.outcomes().len(), 3);
}

#[test]
fn commands_pass_over_an_unreadable_batch_and_say_so() {
    let world = world();
    let topic = &world.topics.requests;
    login(&world, 0, "before");
    world.unreadable_batch(topic, 0, 3);
    login(&world, 0, "behind");
    login(&world, 1, "beside");
    let _process = world.start("a");
    assert_published(&world, &["before", "behind", "beside"]);
    let said = format!("{topic}-0 from offset 1 to 3 cannot be decoded");
    let line = format!(
        "replay --topic {topic} --from 1h --to 0s --even-published --execute --reason again"
    );
    let ran = run(&world, &line, "").well();
    assert_eq!(ran.notes.matches(&said).count(), 1, "{}", ran.notes);
    let replayed = world.wait_for_outcomes(3 + 1 + 1);
    let jobs = replayed.iter().filter(|one| one.word("door") == "job");
    // The login of one person is sent once.
    assert_eq!(jobs.count(), 1);

    let ran = run(
        &world,
        "dlq redrive --code unreadable-batch --output json",
        "",
    )
    .well();
    assert!(ran.out.contains("\"unreadable-batch\": 1"), "{}", ran.out);
    let ran = run(&world, "dlq ls", "").well();
    assert!(ran.out.contains("unreadable-batch"), "{}", ran.out);
    // The dead-letter topic itself.
    world.unreadable_batch(&world.topics.dead_letters, 0, 1);
    let ran = run(&world, "dlq stats", "").well();
    assert!(ran.notes.contains("cannot be decoded"), "{}", ran.notes);
}

/// A command that waits for one outcome, with an unreadable batch before it: what it said. Nothing serves until the
/// command has published what it sends.
#[track_caller]
fn ran_with_an_unreadable_outcome(world: &World, sends: &str, command: Running) -> Ran {
    let outcomes = &world.topics.outcomes;
    wait_until("it is published", || !world.kafka.read(sends).is_empty());
    world.unreadable_batch(outcomes, 0, 2);
    let _process = world.start("a");
    let ran = command.ended(world);
    let said = format!("{outcomes}-0 from offset 0 to 1 cannot be decoded");
    assert_eq!(ran.notes.matches(&said).count(), 1, "{}", ran.notes);
    // The test's own reader stops at it, too.
    world.kafka.delete_records(outcomes, 0, 2);
    ran
}

#[test]
fn send_sees_an_outcome_behind_an_unreadable_batch() {
    let world = world();
    world.keep_secret("9876500004");
    world.kafka.create_topic(&world.topics.outcomes, 1, &[]);
    let line = "send --tenant pb.amritsar --type login --mobile - --timeout 2m";
    let command = start(&world, line, "9876500004\n");
    let ran = ran_with_an_unreadable_outcome(&world, &world.topics.requests, command).well();
    assert!(ran.out.starts_with("published"), "{ran:?}");
}

#[test]
fn a_job_counts_outcomes_behind_an_unreadable_batch() {
    let world = world();
    for topic in [
        &world.topics.jobs,
        &world.topics.outcomes,
        &world.topics.job_log,
    ] {
        world.kafka.create_topic(topic, 1, &[]);
    }
    let topic = &world.topics.dead_letters;
    world.kafka.create_topic(topic, 1, &[]);
    let dead_letter = letter("9876500005", "again", "requests-0-1");
    world.kafka.publish(topic, &dead_letter);
    world.unreadable_batch(&world.topics.job_log, 0, 1);
    let line = "dlq redrive --yes --execute --reason outage --output json";
    let command = start(&world, line, "");
    let ran = ran_with_an_unreadable_outcome(&world, &world.topics.jobs, command).well();
    // The plan, and the report.
    assert_eq!(ran.json_lines()[1]["ended"]["published"], 1, "{ran:?}");
    // The command reads the job log more than once.
    let said = format!("{}-0 from offset 0 to 0", world.topics.job_log);
    assert_eq!(ran.notes.matches(&said).count(), 1, "{}", ran.notes);
}

#[test]
fn a_job_whose_last_word_may_be_unreadable_is_not_resumed_and_can_be_cancelled() {
    let world = world();
    world.kafka.create_topic(&world.topics.job_log, 1, &[]);
    world.kafka.create_topic(&world.topics.dead_letters, 1, &[]);
    let _process = world.start("a");
    for number in 0..200 {
        let dead_letter = letter(
            &format!("98765{number:05}"),
            &format!("d-{number}"),
            &format!("requests-0-{number}"),
        );
        world
            .kafka
            .publish(&world.topics.dead_letters, &dead_letter);
    }
    let line = "dlq redrive --yes --execute --reason outage --rate 20";
    let paused = interrupted(&world, start(&world, line, ""));
    let id = id_in(&paused);
    world.unreadable_batch(&world.topics.job_log, 0, 1);
    let resumed = run(&world, &format!("job resume {id}"), "");
    assert_eq!(resumed.code, 1, "{resumed:?}");
    assert!(
        resumed.notes.contains(&format!("user-otp job cancel {id}")),
        "{resumed:?}"
    );
    run(&world, &format!("job cancel {id}"), "").well();
    let line = "dlq redrive --yes --execute --reason rest --rate 0";
    run(&world, line, "").well();
    let outcomes = world.wait_for_outcomes(200);
    assert_eq!(outcomes.len(), 200, "one each");
}

#[test]
fn a_topic_of_our_own_is_held_until_an_operator_lets_it_go_on() {
    let world = world();
    let process = world.start("a");
    let topic = world.topics.accepted.clone();
    let accept = |partition, id: &str| {
        let request = Request::login("9876500002").id(id);
        world
            .kafka
            .publish(&topic, &request.draft().partition(partition));
    };
    accept(0, "before");
    world.unreadable_batch(&topic, 0, 2);
    accept(0, "behind");
    accept(1, "beside");
    assert_published(&world, &["before", "beside"]);
    let range = format!("{topic}-0 from 1 to 2");
    wait_for("health says which partition waits", || {
        let (status, whole, troubles) = health(&process, "/health/ready");
        let said = troubles.get("unreadable-batches");
        if (status, whole.as_str()) == (200, "DEGRADED")
            && said.is_some_and(|said| said.contains(&range))
        {
            Ok(())
        } else {
            Err(troubles)
        }
    });
    world.assert_works("9876500003", "meanwhile");
    assert_eq!(world.dead_letters().len(), 0, "nothing is passed over");
    let status = run(&world, "status --output json", "").well();
    let seen: serde_json::Value = serde_json::from_str(&status.out).expect("JSON");
    let topics = seen["topics"].as_array().expect("topics");
    let accepted = topics.iter().find(|one| one["topic"] == topic.as_str());
    let oldest = &accepted.expect("the topic")["oldestAt"];
    assert!(oldest.is_string(), "the record behind the batch: {seen}");

    let command = |rest: &str| run(&world, &format!("topics skip-unreadable {rest}"), "");
    let here = format!("--topic {topic} --partition 0");
    let plan = command(&here).well();
    assert!(plan.out.contains("offsets 1 to 2"), "{plan:?}");
    assert_eq!(command(&format!("{here} --execute")).code, 2, "no reason");
    assert_eq!(command(&format!("--topic {topic} --partition 1")).code, 6);
    let others = format!("--topic {} --partition 0", world.topics.requests);
    assert_eq!(command(&others).code, 1);
    command(&format!("{here} --execute --reason disk")).well();

    assert_published(&world, &["behind"]);
    let dead_letters = world.dead_letters();
    assert_eq!(dead_letters.len(), 1);
    assert_eq!(
        dead_letters[0].header("otp-error-code"),
        Some("unreadable-batch")
    );
    wait_for("it is over", || {
        let (_, whole, troubles) = health(&process, "/health/ready");
        if whole == "UP" { Ok(()) } else { Err(troubles) }
    });
    let said = process.output.text();
    let errors = said.lines().filter(|line| line.contains("ERROR"));
    assert_eq!(errors.count(), 1, "it is said once");
    world.wait_for_no_lag();
}
