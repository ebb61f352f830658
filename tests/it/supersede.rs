//! Who asked again and again while egov-otp was down gets one message, and each request its outcome.

use std::time::Duration;

use rstest::rstest;
use user_otp::egov::Service;
use user_otp::egov::standin::{Behaviour, Fault};

use crate::kafka::{wait_for, wait_until};
use crate::management::{Scrape, health};
use crate::process::Process;
use crate::request::Request;
use crate::world::{Setup, Topics, World, now};

const AFTER: &str = "2s";
const AFTER_MS: i64 = 2_000;

fn setup() -> Setup {
    let setup = Setup {
        partitions: 1,
        ..Setup::default()
    };
    setup
        .set("ENGINE__SUPERSEDE_AFTER", AFTER)
        .set("OTP__TIMEOUT", "60s")
}

/// Requests of one person, `{person}-0` the first.
fn six(mobile: &str, person: &str) -> Vec<Request> {
    (0..6)
        .map(|n| Request::register(mobile).id(format!("{person}-{n}")))
        .collect()
}

/// The outcomes of a person's requests, in the order of their ids.
fn ends(world: &World, person: &str) -> Vec<String> {
    let prefix = format!("{person}-");
    let mut ends: Vec<_> = world
        .outcomes()
        .iter()
        .filter(|outcome| outcome.event_id().starts_with(&prefix))
        .map(|outcome| (outcome.event_id(), outcome.summary()))
        .collect();
    ends.sort();
    ends.into_iter().map(|(_, end)| end).collect()
}

/// The events whose SMS went out.
fn sent(world: &World, person: &str) -> Vec<String> {
    let ids = world.sms();
    let ids = ids.iter().filter_map(|sms| sms.header("otp-event-id"));
    ids.filter(|id| id.starts_with(person))
        .map(str::to_owned)
        .collect()
}

fn five_and_one() -> Vec<&'static str> {
    let mut ends = vec!["superseded"; 5];
    ends.push("published");
    ends
}

/// egov-otp is down, and others stand ahead: whoever asks now is asked for when it is back.
fn take_otp_down(world: &World, process: &Process) -> usize {
    const AHEAD: usize = 100;
    world
        .egov
        .set(Service::Otp, Behaviour::failing(Fault::status(503)));
    let others: Vec<_> = (0..AHEAD)
        .map(|n| Request::register(&format!("98766{n:05}")).id(format!("other-{n}")))
        .collect();
    world.requests(&others);
    // Its limit is at the floor, whoever has not failed by then waits in line.
    wait_until("it counts as down", || {
        let seen = Scrape::of(process);
        let of = |name: &str| seen.get(&format!("{name}{{service=\"otp\"}}"));
        of("user_otp_service_calls_limit") <= 1.0 && of("user_otp_service_calls_waiting") >= 20.0
    });
    AHEAD
}

/// What is in hand has waited longer than `engine.supersede_after`.
fn let_it_wait(process: &Process, in_hand: usize) {
    wait_for("all of it is in hand", || {
        let seen = Scrape::of(process);
        let all = ["user_otp_window_requests", "user_otp_retries_parked"];
        let all: f64 = all.iter().map(|name| seen.get(name)).sum();
        if all >= in_hand as f64 {
            Ok(())
        } else {
            Err(all)
        }
    });
    let since = now();
    wait_until("it has waited", || now() > since + AFTER_MS);
}

#[test]
fn after_an_outage_a_person_gets_one_message_and_each_request_its_outcome() {
    let world = World::with(setup());
    let process = world.start("a");
    let others = take_otp_down(&world, &process);
    let asked = now();
    world.requests(&six("9876530001", "same"));
    // One that differs stands in the middle: each side is a group of its own.
    let mut mixed = six("9876530002", "mixed");
    mixed[3].kind = "passwordreset";
    world.requests(&mixed);
    // What the HTTP door handed over comes from another topic, and is no different.
    let accepted: Vec<_> = six("9876530003", "http")
        .iter()
        .map(|request| {
            let deadline = (now() + 300_000).to_string();
            request.draft().header("otp-deadline-ms", deadline)
        })
        .collect();
    world.kafka.publish_all(&world.topics.accepted, &accepted);
    let_it_wait(&process, others + 18);
    world.egov.set(Service::Otp, Behaviour::well());
    world.wait_for_outcomes(others + 18);
    world.wait_for_no_lag();

    assert_eq!(ends(&world, "same"), five_and_one());
    assert_eq!(sent(&world, "same"), ["same-5"]);
    assert_eq!(world.egov.otp_of("9876530001").len(), 1);
    assert_eq!(
        ends(&world, "mixed"),
        [
            "superseded",
            "superseded",
            "published",
            "rejected/OTP.UNKNOWN_MOBILE_NUMBER",
            "superseded",
            "published"
        ]
    );
    assert_eq!(sent(&world, "mixed"), ["mixed-2", "mixed-5"]);
    assert_eq!(ends(&world, "http"), five_and_one());
    assert_eq!(sent(&world, "http"), ["http-5"]);

    let sms = world.sms();
    let one = sms
        .iter()
        .find(|sms| sms.header("otp-event-id") == Some("same-5"))
        .expect("an SMS");
    assert!(one.text().contains(&world.egov.otp_of("9876530001")[0]));
    let expiry = one.json()["expiryTime"].as_i64().expect("a moment");
    assert!(expiry >= asked + 2_000 + 60_000, "it lives from its OTP on");

    let counted = |door: &str, outcome: &str| {
        let labels = format!("door=\"{door}\",outcome=\"{outcome}\",code=\"none\"");
        Scrape::of(&process).get(&format!("user_otp_requests_total{{{labels}}}"))
    };
    wait_until("they are counted", || {
        let published = counted("stream", "published") + counted("http", "published");
        published >= (others + 4) as f64
    });
    assert_eq!(
        (
            counted("stream", "superseded"),
            counted("http", "superseded")
        ),
        (8.0, 5.0)
    );
}

#[test]
fn where_it_is_off_each_request_has_its_message() {
    let world = World::with(setup());
    let process = {
        let mut process = world.spawn_with("a", &[("ENGINE__SUPERSEDE_AFTER", "0s")]);
        process.wait_ready();
        process
    };
    world.egov.set(
        Service::Otp,
        Behaviour::slow(Duration::from_secs(3)).times(1),
    );
    world.requests(&six("9876530011", "same"));
    let_it_wait(&process, 6);
    world.wait_for_outcomes(6);
    assert_eq!(ends(&world, "same"), ["published"; 6]);
    assert_eq!(sent(&world, "same").len(), 6);
}

/// They wait for their time, each with its own, when the first of them has its OTP.
#[test]
fn requests_that_were_retried_end_together_too() {
    let world = World::with(
        setup()
            .set("SERVICES__TRIES", "1")
            .set("RETRY__DELAYS", "10s"),
    );
    let process = world.start("a");
    let down = Behaviour::failing(Fault::status(503));
    world.egov.set(Service::Otp, down);
    let same = six("9876530021", "same");
    world.requests(&same[..3]);
    wait_until("three are retried", || world.retries("10s").len() == 3);
    let first = now();
    wait_until("time goes by", || now() > first + 1_000);
    world.requests(&same[3..]);
    wait_until("the others are parked with them", || {
        Scrape::of(&process).get("user_otp_retries_parked") >= 6.0
    });
    world.egov.set(Service::Otp, Behaviour::well());
    world.wait_for_outcomes(6);
    world.wait_for_no_lag();
    assert_eq!(ends(&world, "same"), five_and_one());
    assert_eq!(sent(&world, "same"), ["same-5"]);
    assert_eq!(world.egov.otp_of("9876530021").len(), 1);
}

/// The OTP is created and nothing is committed when the process dies: the next one finds all six again.
#[test]
fn a_kill_in_the_middle_changes_nothing() {
    let world = World::with(setup().set("ENGINE__LINGER", "1s"));
    let mut process = world.start("a");
    let slow = Behaviour::slow(Duration::from_secs(3));
    world.egov.set(Service::Otp, slow);
    world.requests(&six("9876530031", "same"));
    let_it_wait(&process, 6);
    wait_until("the OTP is created", || {
        world.egov.otp_of("9876530031").len() == 1
    });
    process.kill();
    assert_eq!(world.outcomes().len(), 0, "nothing is committed");
    let _process = world.start("a");
    world.wait_for_outcomes(6);
    world.wait_for_no_lag();
    assert_eq!(ends(&world, "same"), five_and_one());
    assert_eq!(sent(&world, "same"), ["same-5"]);
    let seen = world.sms();
    let otps = world.egov.otp_of("9876530031");
    assert_eq!(otps.len(), 2, "the first was never visible");
    assert!(!seen[0].text().contains(&otps[0]) || otps[0] == otps[1]);
}

fn delete_topic(world: &World, topic: &str) {
    world.kafka.delete_topics(&[topic]);
    wait_until("the topic is gone", || {
        world.kafka.partitions(topic).is_empty()
    });
}

/// The OTP is there, and its SMS cannot be written: they wait together.
#[test]
fn where_the_sms_topic_is_away_they_wait_together() {
    let world = World::with(setup());
    let process = world.start("a");
    let slow = Behaviour::slow(Duration::from_secs(5));
    world.egov.set(Service::Otp, slow);
    world.requests(&six("9876530041", "same"));
    let_it_wait(&process, 6);
    delete_topic(&world, &world.topics.sms);
    wait_until("they are put aside", || {
        health(&process, "/health/ready").0 == 503
    });
    assert_eq!(world.egov.otp_of("9876530041").len(), 1);
    assert_eq!(world.outcomes().len(), 0);
    world.kafka.create_topic(&world.topics.sms, 2, &[]);
    world.wait_for_outcomes(6);
    world.wait_for_no_lag();
    assert_eq!(ends(&world, "same"), five_and_one());
    assert_eq!(sent(&world, "same"), ["same-5"]);
}

fn outcomes(topics: &Topics) -> &String {
    &topics.outcomes
}

fn sms(topics: &Topics) -> &String {
    &topics.sms
}

/// It waits for a topic until the last of their deadlines has passed.
#[rstest]
#[case::outcomes(outcomes)]
#[case::sms(sms)]
fn a_group_that_comes_too_late_expires_one_by_one(#[case] topic: fn(&Topics) -> &String) {
    let world = World::with(
        setup()
            .set("REQUEST__LIFETIME", "8s")
            .set("REQUEST__MIN_LIFE", "1s"),
    );
    let process = world.start("a");
    let slow = Behaviour::slow(Duration::from_secs(3));
    world.egov.set(Service::Otp, slow);
    let sent_at = now();
    world.requests(&six("9876530051", "same"));
    let_it_wait(&process, 6);
    let topic = topic(&world.topics);
    delete_topic(&world, topic);
    wait_until("the OTP is created", || {
        world.egov.otp_of("9876530051").len() == 1
    });
    wait_until("they are too late", || now() > sent_at + 9_000);
    world.kafka.create_topic(topic, 2, &[]);
    world.wait_for_outcomes(6);
    assert_eq!(
        ends(&world, "same"),
        ["dead-lettered/expired/output-topic-unavailable/publish"; 6]
    );
    assert_eq!((world.sms().len(), world.dead_letters().len()), (0, 6));
}
