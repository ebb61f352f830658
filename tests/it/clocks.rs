//! A process whose wall clock is wrong, and is set right while the process runs; and what its health says of it.

use std::cell::Cell;
use std::path::Path;
use std::time::{Duration, Instant};

use user_otp::egov::Service;
use user_otp::egov::standin::{Behaviour, Fault, User};

use crate::faketime::FakeClock;
use crate::kafka::wait_until;
use crate::management::Scrape;
use crate::process::Process;
use crate::request::Request;
use crate::world::{Setup, World};

const SECOND: i64 = 1_000;

fn fake_clock(dir: &Path) -> FakeClock {
    FakeClock::find(dir).expect("scripts/test installs libfaketime")
}

/// Starts `user-otp run` with this clock.
fn spawn(world: &World, clock: &FakeClock, instance: &str, more: &[(&str, &str)]) -> Process {
    let clock = clock.environment();
    let clock = clock.iter().map(|(key, value)| (*key, value.as_str()));
    let all: Vec<_> = clock.chain(more.iter().copied()).collect();
    world.spawn_with(instance, &all)
}

/// The check `clock` of its health.
fn clock_of(process: &Process) -> String {
    let (_, body) = process.get("/health/ready");
    let report: serde_json::Value = serde_json::from_str(&body).expect("a report");
    let checks = report["checks"].as_array().expect("checks").iter();
    let clock = checks.filter(|check| check["name"] == "clock");
    clock.map(ToString::to_string).collect()
}

/// By how many seconds its clock is ahead, as its metrics say.
fn seconds_ahead(process: &Process) -> f64 {
    Scrape::of(process).get("user_otp_clock_ahead_seconds")
}

fn warnings(process: &Process, text: &str) -> usize {
    let output = process.output.text();
    let lines = output.lines();
    lines
        .filter(|line| line.contains("WARN") && line.contains(text))
        .count()
}

#[test]
fn a_clock_that_differs_from_the_brokers_is_said_once() {
    let (world, dir) = (World::new(), tempfile::tempdir().expect("a folder"));
    let clock = fake_clock(dir.path());
    clock.set(120 * SECOND);
    let mut engine = spawn(&world, &clock, "a", &[]);
    engine.wait_ready();
    let http = spawn(&world, &clock, "b", &[("ENGINE__ENABLED", "false")]);
    wait_until("the other is there", || http.management_port().is_some());
    let requests = Cell::new(0);
    let wait_for = |process: &Process, parts: &[&str]| {
        wait_until(&format!("health says {parts:?}"), || {
            // There is an outcome to compare by.
            requests.set(requests.get() + 1);
            let mobile = format!("98765{:05}", 41_000 + requests.get());
            world.egov.add_user(User::citizen(&mobile, "pb"));
            let id = format!("clock-{}", requests.get());
            world.request(&Request::login(&mobile).id(id));
            let said = clock_of(process);
            parts.iter().all(|part| said.contains(part))
        });
    };
    let ahead = "ahead of the brokers'";
    for process in [&engine, &http] {
        // To the second, give or take what the machine is late by.
        wait_for(process, &["DEGRADED", "clock is 2m", ahead]);
        let seconds = seconds_ahead(process);
        assert!(seconds > 60.0, "{seconds}");
    }
    // It is looked again, and not said again.
    clock.set(240 * SECOND);
    wait_for(&engine, &["DEGRADED", "clock is 4m", ahead]);
    clock.set(0);
    wait_for(&engine, &["\"UP\""]);
    // The log is read a little after health.
    wait_until("the log says so", || {
        engine.output.has_line(|line| line.contains("agree again"))
    });
    assert_eq!(seconds_ahead(&engine), 0.0);
    assert_eq!(warnings(&engine, ahead), 1, "said once");
    let behind = "behind the brokers'";
    clock.set(-120 * SECOND);
    wait_for(&engine, &["DEGRADED", behind]);
    let seconds = seconds_ahead(&engine);
    assert!(seconds < -60.0, "{seconds}");
    wait_until("the log says so", || warnings(&engine, behind) > 0);
    assert_eq!(warnings(&engine, behind), 1, "said once");
}

#[test]
fn a_clock_that_is_set_back_holds_no_retry() {
    // Requests live for longer than the clock is ahead; and no other instance takes the retry over meanwhile,
    // which would read it by the right clock.
    let setup = Setup::default()
        .set("KAFKA__SESSION_TIMEOUT_MS", "60000")
        .set("RETRY__DELAYS", "8s")
        .set("REQUEST__LIFETIME", "30m");
    let (world, dir) = (World::with(setup), tempfile::tempdir().expect("a folder"));
    let clock = fake_clock(dir.path());
    clock.set(120 * SECOND);
    let mut process = spawn(&world, &clock, "a", &[]);
    process.wait_ready();
    world.egov.add_user(User::citizen("9876540001", "pb"));
    // `services.tries`: what one try of the request costs.
    let outage = Behaviour::failing(Fault::status(500)).times(3);
    world.egov.set(Service::Users, outage);
    world.request(&Request::login("9876540001").id("held"));
    wait_until("it waits for its time", || {
        Scrape::of(&process).get("user_otp_retries_parked") > 0.0
    });
    let since = Instant::now();
    clock.set(0);
    let outcome = world.wait_for_outcome("held");
    assert_eq!(outcome.summary(), "published");
    assert_eq!(outcome.get("attempts"), 2);
    let waited = since.elapsed();
    assert!(waited < Duration::from_secs(60), "it was held: {waited:?}");
    // Nothing looks overdue, either.
    let (status, body) = process.get("/health/live");
    assert_eq!(status, 200, "{body}");
}

#[test]
fn a_topic_with_its_producers_times_is_not_compared_with() {
    let world = World::new();
    world.kafka.create_topic(&world.topics.outcomes, 2, &[]);
    let process = world.start("a");
    wait_until("it says so", || {
        let said = clock_of(&process);
        said.contains("not compared") && said.contains("\"UP\"")
    });
    assert!(seconds_ahead(&process).is_nan());
}
