//! Whether an instance is in its group, what keeps it out, and what ends it.

use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};

use crate::broker::Broker;
use crate::command::run;
use crate::kafka::{wait_for, wait_until};
use crate::management::Scrape;
use crate::process::Process;
use crate::traffic::{Traffic, wait_for_calls, wait_for_progress};
use crate::world::{Setup, World};

/// Waits until health says `words` of readiness.
#[track_caller]
fn wait_ready_says(process: &Process, words: &[&str]) {
    wait_until("it listens", || process.management_port().is_some());
    wait_for("health says so", || {
        let (_, page) = process.get("/health/ready");
        let missing: Vec<_> = words.iter().filter(|word| !page.contains(**word)).collect();
        if missing.is_empty() {
            Ok(())
        } else {
            Err(format!("{missing:?} of {page}"))
        }
    });
}

/// Whether its metrics say that brokers refuse this client.
fn is_refused(process: &Process, client: &str) -> bool {
    let series = format!("user_otp_client_refused{{client=\"{client}\"}}");
    Scrape::of(process).get(&series) > 0.0
}

fn warnings(process: &Process, words: &str) -> usize {
    let said = process.output.text();
    let warns = |line: &&str| line.contains(" WARN ") && line.contains(words);
    said.lines().filter(warns).count()
}

#[test]
fn a_process_that_stood_still_for_a_minute_goes_on() {
    const STOOD: Duration = Duration::from_secs(63);
    let world = World::new();
    world.egov.everyone(true);
    let traffic = Traffic::of(100);
    let mut process = world.start("a");
    std::thread::scope(|scope| {
        let tap = traffic.keep_publishing(scope, &world);
        wait_for_progress(&world, 100);
        // It stands still in a call to Kafka: under load it does little but commit.
        process.freeze();
        tap.close();
    });
    let since = Instant::now();
    wait_until("it stood still", || since.elapsed() >= STOOD);
    process.thaw();
    traffic.publish(&world, 100);
    traffic.assert_exactly_once(&world);
    assert!(process.is_running());
    assert_eq!(process.get("/health/live").0, 200);
}

#[test]
fn a_consumer_that_another_process_fenced_ends_and_says_why() {
    let world = World::with(Setup::default().set("KAFKA__GROUP_INSTANCE_ID", "same"));
    world.egov.everyone(true);
    let traffic = Traffic::of(20);
    let mut first = world.start("a");
    traffic.publish(&world, 20);
    wait_for_calls(&world, 20);
    let mut second = world.start("b");
    let status = first.wait_ended();
    let said = first.output.text();
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("group.instance.id same"), "{said}");
    traffic.publish(&world, 20);
    traffic.assert_exactly_once(&world);
    assert!(second.is_running());
}

#[test]
fn a_foreign_assignor_in_the_group_is_said_until_it_is_gone() {
    let world = World::new();
    let foreign: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", &world.kafka.broker)
        .set("group.id", &world.name)
        .set("partition.assignment.strategy", "range")
        .set("session.timeout.ms", "120000")
        .create()
        .expect("a consumer");
    foreign
        .subscribe(&[&world.topics.requests])
        .expect("a subscription");
    wait_until("it has partitions", || {
        foreign.poll(Duration::from_millis(100));
        foreign.assignment().is_ok_and(|list| list.count() > 0)
    });
    let mut process = world.spawn("a");
    let words = [
        "kafka-consumer",
        "INCONSISTENT_GROUP_PROTOCOL",
        "partition.assignment.strategy",
    ];
    wait_ready_says(&process, &words);
    assert_eq!(process.get("/health/ready").0, 503);
    assert!(is_refused(&process, "kafka-consumer"));
    assert!(!is_refused(&process, "kafka-producer"));
    drop(foreign);
    process.wait_ready();
    wait_until("nothing is said any more", || {
        let (status, page) = process.get("/health/ready");
        status == 200 && !page.contains("INCONSISTENT_GROUP_PROTOCOL")
    });
    assert!(!is_refused(&process, "kafka-consumer"));
    assert_eq!(warnings(&process, "INCONSISTENT_GROUP_PROTOCOL"), 1);
}

#[test]
fn a_session_timeout_over_the_brokers_limit_is_said() {
    let world = World::with(
        Setup::default()
            .set("KAFKA__SESSION_TIMEOUT_MS", "1900000")
            .set("KAFKA__MAX_POLL_INTERVAL_MS", "2000000"),
    );
    let process = world.spawn("a");
    let words = ["INVALID_SESSION_TIMEOUT", "group.max.session.timeout.ms"];
    wait_ready_says(&process, &words);
    assert_eq!(process.get("/health/live").0, 200);
    assert_eq!(warnings(&process, "INVALID_SESSION_TIMEOUT"), 1);
}

#[test]
fn a_group_without_a_coordinator_is_said_with_its_reason() {
    let broker = Broker::with(&["offsets.topic.replication.factor=3"]);
    let world = World::with(Setup {
        broker: Some(broker.address.clone()),
        ..Setup::default()
    });
    let process = world.spawn("a");
    let words = [
        "COORDINATOR_NOT_AVAILABLE",
        "offsets.topic.replication.factor",
    ];
    wait_ready_says(&process, &words);
    assert_eq!(warnings(&process, "COORDINATOR_NOT_AVAILABLE"), 1);

    let ran = run(&world, "check --timeout 5s", "");
    let line = ran
        .out
        .lines()
        .find(|line| line.contains("__consumer_offsets"));
    let line = line.unwrap_or_default();
    assert!(
        line.contains("failure") && line.contains("offsets.topic.replication.factor"),
        "{}",
        ran.out
    );
}

/// Ended by what the newer protocol makes fatal; with settings that belong to the older one left out.
#[track_caller]
fn fails_under_the_newer_protocol(world: &World, more: &[(&str, &str)]) -> String {
    let settings = [&[("KAFKA__GROUP_PROTOCOL", "consumer")], more].concat();
    let mut environment = world.environment("a", &settings);
    environment.retain(|(name, _)| {
        !name.ends_with("SESSION_TIMEOUT_MS") && !name.ends_with("HEARTBEAT_INTERVAL_MS")
    });
    let mut process = Process::spawn("a", &environment);
    let status = process.wait_ended();
    let said = process.output.text();
    world.keep_output("a", &said);
    assert_eq!(status.code(), Some(1), "{said}");
    said
}

#[test]
fn an_assignor_that_the_brokers_do_not_have_ends_the_process() {
    let world = World::new();
    let unknown = [("KAFKA__GROUP_REMOTE_ASSIGNOR", "x")];
    let said = fails_under_the_newer_protocol(&world, &unknown);
    assert!(said.contains("group.remote.assignor"), "{said}");
}

#[test]
fn a_protocol_that_the_brokers_do_not_have_ends_the_process() {
    let broker = Broker::with(&["group.coordinator.rebalance.protocols=classic"]);
    let world = World::with(Setup {
        broker: Some(broker.address.clone()),
        ..Setup::default()
    });
    let said = fails_under_the_newer_protocol(&world, &[]);
    assert!(said.contains("group.protocol=consumer"), "{said}");
}
