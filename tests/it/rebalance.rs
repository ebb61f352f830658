//! What an operator does all day: processes come and go, brokers restart, topics are missing.

use std::time::Duration;

use user_otp::egov::Service;
use user_otp::egov::standin::{Behaviour, Fault};

use crate::broker::Broker;
use crate::kafka::wait_until;
use crate::traffic::{Traffic, otps_created, wait_for_calls, wait_for_progress};
use crate::world::{Setup, World};

/// On a busy machine a heartbeat may be late: nobody may be thrown out here.
const SESSION: (&str, &str) = ("KAFKA__SESSION_TIMEOUT_MS", "30000");

#[test]
fn processes_come_and_go_under_load_without_a_single_repeat() {
    let world = World::with(
        Setup {
            // Whoever joins gets some of them: what moves first is the many partitions without a load.
            partitions: 64,
            ..Setup::default()
        }
        .set(SESSION.0, SESSION.1)
        // Nor may a call be repeated there, or what was begun be left to the next owner.
        .set("OTP__TIMEOUT", "30s")
        .set("ENGINE__DRAIN", "30s"),
    );
    world.egov.everyone(true);
    world.egov.set(
        Service::Otp,
        Behaviour::slow(Duration::from_millis(100)).jittered(Duration::from_millis(50)),
    );
    let traffic = Traffic::of(200);
    std::thread::scope(|scope| {
        let tap = traffic.keep_publishing(scope, &world);
        let mut a = world.start("a");
        wait_for_progress(&world, 100);
        let mut b = world.start("b");
        wait_for_progress(&world, 100);
        let c = world.start("c");
        wait_for_progress(&world, 100);
        assert!(a.terminate().success(), "a ends in order");
        wait_for_progress(&world, 100);
        let a = world.start("a");
        wait_for_progress(&world, 100);
        assert!(b.terminate().success(), "b ends in order");
        wait_for_progress(&world, 100);
        tap.close();
        traffic.assert_exactly_once(&world);
        for mut process in [a, c] {
            assert!(
                process.terminate().success(),
                "{} ends in order",
                process.name
            );
        }
    });
    assert_eq!(
        otps_created(&world),
        traffic.sent() as usize,
        "no request was processed twice"
    );
}

#[test]
fn sigterm_under_load_finishes_what_has_begun_and_leaves_the_rest() {
    let world = World::with(
        Setup {
            partitions: 2,
            ..Setup::default()
        }
        .set(SESSION.0, SESSION.1),
    );
    world.egov.everyone(true);
    world
        .egov
        .set(Service::Otp, Behaviour::slow(Duration::from_millis(100)));
    let traffic = Traffic::of(400);
    let few_calls = [("OTP__CALLS", "20")];
    let mut process = world.spawn_with("a", &few_calls);
    process.wait_ready();
    traffic.publish(&world, 800);
    wait_for_calls(&world, 50);
    assert!(process.terminate().success(), "it ends in order");
    let (done, created) = (world.outcomes().len(), otps_created(&world));
    assert_eq!(done, created, "every OTP that was created is committed");
    assert!(done < 800, "there is something left for the next one");

    let mut process = world.spawn_with("a", &few_calls);
    process.wait_ready();
    traffic.assert_exactly_once(&world);
    assert_eq!(otps_created(&world), 800, "no request was processed twice");
    assert!(process.terminate().success());
}

#[test]
fn a_second_signal_ends_at_once_and_loses_nothing() {
    let long = "1m";
    let world = World::with(
        Setup {
            partitions: 1,
            ..Setup::default()
        }
        .set("OTP__TIMEOUT", long)
        .set("ENGINE__DRAIN", long)
        .set("SHUTDOWN__DEADLINE", "10m")
        .set("REQUEST__LIFETIME", "1h"),
    );
    world.egov.everyone(true);
    world
        .egov
        .set(Service::Otp, Behaviour::failing(Fault::Hang));
    let traffic = Traffic::of(1);
    let mut process = world.start("a");
    traffic.publish(&world, 1);
    wait_until("the call hangs", || world.egov.calls(Service::Otp) > 0);
    let said = |process: &crate::process::Process| process.output.text().len();
    let before = said(&process);
    process.signal(nix::sys::signal::Signal::SIGTERM);
    wait_until("it has heard the first signal", || said(&process) > before);
    assert!(process.is_running(), "it waits for what has begun");
    let status = process.terminate();
    assert!(
        !status.success(),
        "an end that was cut short is not a success: {status}"
    );

    world.egov.set(Service::Otp, Behaviour::well());
    let _process = world.start("a");
    traffic.assert_exactly_once(&world);
}

#[test]
fn a_broker_that_restarts_under_load_costs_nothing() {
    let broker = Broker::start();
    let world = World::with(Setup {
        partitions: 4,
        broker: Some(broker.address.clone()),
        ..Setup::default()
    });
    world.egov.everyone(true);
    world
        .egov
        .set(Service::Otp, Behaviour::slow(Duration::from_millis(20)));
    let traffic = Traffic::of(200);
    std::thread::scope(|scope| {
        let mut a = world.start("a");
        let mut b = world.start("b");
        let tap = traffic.keep_publishing(scope, &world);
        wait_for_progress(&world, 200);
        broker.stop();
        broker.start_again();
        wait_for_progress(&world, 200);
        tap.close();
        traffic.assert_exactly_once(&world);
        for process in [&mut a, &mut b] {
            assert!(process.is_running(), "{} is still there", process.name);
            assert!(
                process.terminate().success(),
                "{} ends in order",
                process.name
            );
        }
    });
}

#[test]
fn a_missing_sms_topic_ends_the_start_with_the_command_that_creates_it() {
    let world = World::with(Setup {
        sms: false,
        ..Setup::default()
    });
    let mut process = world.spawn("a");
    assert!(!process.wait_ended().success());
    let said = process.output.text();
    assert!(
        said.lines().any(|line| line.contains(&world.topics.sms)),
        "it names the topic:\n{said}"
    );
    assert!(
        said.contains("topics apply") || said.contains("kafka-topics"),
        "it names a command:\n{said}"
    );
    assert!(!process.is_ready());
}

#[test]
fn a_missing_topic_of_its_own_ends_the_start_where_it_may_not_create_it() {
    let world = World::new();
    let mut process = world.spawn_with("a", &[("TOPICS__CREATE", "false")]);
    assert!(!process.wait_ended().success());
    let said = process.output.text();
    for topic in [&world.topics.dead_letters, &world.topics.outcomes] {
        assert!(said.contains(topic.as_str()), "it names {topic}:\n{said}");
    }
    assert_eq!(
        world.kafka.topics(&world.topics.dead_letters),
        Vec::<String>::new(),
        "it creates nothing"
    );
}

#[test]
fn brokers_that_cannot_be_reached_end_the_start_with_a_sentence() {
    let world = World::new();
    // Nobody listens on port 1.
    let nowhere = "127.0.0.1:1";
    let mut process = world.spawn_with(
        "a",
        &[
            ("KAFKA__BROKERS", nowhere),
            ("KAFKA__STARTUP_TIMEOUT", "3s"),
        ],
    );
    assert!(!process.wait_ended().success());
    let said = process.output.text();
    let last = said.lines().last().unwrap_or_default();
    assert!(
        last.contains(nowhere) && last.contains("kafka.startup_timeout"),
        "its last line names the brokers and the setting:\n{said}"
    );
}
