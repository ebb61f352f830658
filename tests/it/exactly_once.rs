//! SIGKILL at any moment: nothing lost, nothing twice, in order.
//!
//! Moments are chosen by what the stand-ins have seen, not by time: "after so many OTPs".

use std::time::Duration;

use user_otp::egov::Service;
use user_otp::egov::standin::{Behaviour, Call, Fault};

use crate::kafka::wait_until;
use crate::traffic::{Chance, Traffic, otps_created, wait_for_calls};
use crate::world::{Setup, World};

/// A killed process's partitions come back after this.
const SESSION: (&str, &str) = ("KAFKA__SESSION_TIMEOUT_MS", "3000");

#[test]
fn processes_killed_at_random_moments_lose_nothing_and_send_nothing_twice() {
    const INSTANCES: [&str; 3] = ["a", "b", "c"];
    const KILLS: usize = 8;
    let world = World::with(
        Setup {
            // Many, so that each of them has some: other topics have partitions as well.
            partitions: 36,
            ..Setup::default()
        }
        .set(SESSION.0, SESSION.1),
    );
    world.egov.everyone(true);
    let work = Behaviour::slow(Duration::from_millis(10)).jittered(Duration::from_millis(40));
    world.egov.set(Service::Otp, work);
    let mut chance = Chance::new("killed at random moments");
    let traffic = Traffic::of(150);
    let mut processes: Vec<_> = INSTANCES.iter().map(|name| world.start(name)).collect();
    for _ in 0..KILLS {
        let moment = world.egov.calls(Service::Otp) + 1 + chance.below(350);
        traffic.publish(&world, 400);
        wait_for_calls(&world, moment);
        let victim = chance.below(INSTANCES.len());
        processes[victim].kill();
        // Half of them come back at once, the others when the next one dies.
        let back = processes
            .iter_mut()
            .enumerate()
            .filter_map(|(index, process)| {
                let dead = !process.is_running();
                (dead && (index != victim || chance.below(2) == 0)).then_some(index)
            });
        for index in back.collect::<Vec<_>>() {
            processes[index] = world.spawn(INSTANCES[index]);
        }
    }
    traffic.publish(&world, 400);
    traffic.assert_exactly_once(&world);
    let repeated = otps_created(&world) - traffic.sent() as usize;
    eprintln!(
        "{} requests, {KILLS} kills, {repeated} OTPs created a second time and never seen",
        traffic.sent()
    );
}

#[test]
fn a_kill_between_otp_creation_and_commit_repeats_unseen() {
    const PEOPLE: u32 = 8;
    let world = World::with(
        Setup {
            partitions: 1,
            ..Setup::default()
        }
        .set(SESSION.0, SESSION.1),
    );
    world.egov.everyone(true);
    // The OTPs are created, and no answer arrives.
    world.egov.set(
        Service::Otp,
        Behaviour::failing(Fault::SlowBody { pause_ms: 60_000 }),
    );
    let traffic = Traffic::of(PEOPLE);
    let mut process = world.start("a");
    traffic.publish(&world, 5 * PEOPLE);
    // One each: a person's next request waits for the one before.
    wait_until("an OTP for each person", || {
        otps_created(&world) >= PEOPLE as usize
    });
    process.kill();
    assert_eq!(world.sms().len(), 0, "nothing is committed");
    let lost: Vec<_> = world
        .egov
        .journal()
        .into_iter()
        .filter_map(|call| call.otp)
        .collect();

    world.egov.set(Service::Otp, Behaviour::well());
    let _process = world.start("a");
    traffic.assert_exactly_once(&world);
    assert_eq!(
        otps_created(&world),
        6 * PEOPLE as usize,
        "what was in hand at the kill cost a second OTP"
    );
    let texts: Vec<_> = world
        .sms()
        .iter()
        .map(|sms| sms.text().to_owned())
        .collect();
    let seen = |otp: &String| texts.iter().any(|text| text.contains(&format!(" {otp}.")));
    assert!(!lost.iter().any(seen), "the first OTPs were never visible");
}

#[test]
fn a_kill_as_soon_as_an_otp_is_created() {
    // A transaction waits a second for more: what the kill hits is created and not committed.
    let setup = Setup {
        partitions: 2,
        ..Setup::default()
    }
    .set("ENGINE__LINGER", "1s");
    let world = World::with(setup.set(SESSION.0, SESSION.1));
    world.egov.everyone(true);
    let mut chance = Chance::new("killed as soon as an OTP is created");
    let traffic = Traffic::of(60);
    let mut process = world.start("a");
    for _ in 0..4 {
        let wanted = otps_created(&world) + 1 + chance.below(60);
        traffic.publish(&world, 60);
        let created = |calls: &[Call]| calls.iter().filter(|call| call.otp.is_some()).count();
        assert!(
            world.wait_for_journal(|calls| created(calls) >= wanted),
            "the OTPs are created"
        );
        process.kill();
        process = world.spawn("a");
    }
    process.wait_ready();
    traffic.assert_exactly_once(&world);
    let repeated = otps_created(&world) - traffic.sent() as usize;
    eprintln!("{repeated} OTPs created a second time and never seen");
}

#[test]
fn a_frozen_process_that_comes_back_sends_nothing_of_what_others_took_over() {
    let world = World::with(
        Setup {
            partitions: 4,
            ..Setup::default()
        }
        .set(SESSION.0, SESSION.1),
    );
    world.egov.everyone(true);
    world
        .egov
        .set(Service::Otp, Behaviour::slow(Duration::from_millis(50)));
    let traffic = Traffic::of(100);
    let frozen = world.start("a");
    let _other = world.start("b");
    traffic.publish(&world, 600);
    wait_for_calls(&world, 100);
    frozen.freeze();
    traffic.publish(&world, 200);
    // The other one has all partitions: everything is done without the frozen one, but for what
    // its open transaction may hold back until the broker gives it up.
    world.wait_for_outcomes(traffic.sent() as usize);
    frozen.thaw();
    traffic.publish(&world, 200);
    traffic.assert_exactly_once(&world);
}

#[test]
fn of_two_processes_with_one_instance_name_one_ends_and_says_why() {
    let world = World::with(
        Setup {
            // So many that both get some: one without requests commits nothing, and fences nobody.
            partitions: 40,
            ..Setup::default()
        }
        .set(SESSION.0, SESSION.1),
    );
    world.egov.everyone(true);
    let traffic = Traffic::of(100);
    let mut first = world.start("same");
    let mut second = world.spawn("same");
    wait_until("one of the two ends", || {
        traffic.publish(&world, 10);
        !first.is_running() || !second.is_running()
    });
    let (mut ended, other) = if first.is_running() {
        (second, first)
    } else {
        (first, second)
    };
    assert!(!ended.wait_ended().success(), "it ends with an error");
    let id = format!("{}-same", world.name);
    let said = ended.output.text();
    assert!(
        said.lines().any(|line| line.contains(&id)),
        "it names {id}:\n{said}"
    );
    traffic.publish(&world, 100);
    traffic.assert_exactly_once(&world);
    drop(other);
}
