//! A service that is down under load: it is held back from, few tries are spent, and everything flows
//! when it returns.

use std::time::{Duration, Instant};

use user_otp::egov::Service;
use user_otp::egov::standin::{Behaviour, Fault};

use crate::client::{Client, post};
use crate::kafka::{wait_for, wait_until};
use crate::request::Request;
use crate::traffic::{Traffic, wait_for_progress};
use crate::world::{Setup, TIERS, World};

pub(crate) fn tries_spent(world: &World) -> usize {
    TIERS.iter().map(|tier| world.retries(tier).len()).sum()
}

/// Waits until nothing waits any more, however much it was; how many are published then.
pub(crate) fn wait_for_what_waited(world: &World) -> usize {
    let mut left = world.left();
    while left > 0 {
        left = wait_for("less of what waited is left", || {
            let now = world.left();
            if now < left { Ok(now) } else { Err(now) }
        });
    }
    world.sms().len()
}

#[test]
fn an_outage_under_load_is_waited_out() {
    /// About ten seconds of the load.
    const DURING: u32 = 2_000;
    let world = World::new();
    world.egov.everyone(true);
    let work = Behaviour::slow(Duration::from_millis(20));
    world.egov.set(Service::Otp, work.clone());
    let _process = world.start("a");
    // Nobody twice: a request that is retried loses its place.
    let traffic = Traffic::of(100_000);
    std::thread::scope(|scope| {
        let tap = traffic.keep_publishing(scope, &world);
        wait_for_progress(&world, 400);
        let down = Behaviour::failing(Fault::status(503));
        world.egov.set(Service::Otp, down);
        let (calls, sent) = (world.egov.calls(Service::Otp), traffic.sent());
        wait_until("the outage is over", || traffic.sent() >= sent + DURING);
        let during = world.egov.calls(Service::Otp) - calls;
        let spent = tries_spent(&world);
        assert_eq!(world.dead_letters().len(), 0);
        assert!(during <= 200, "{during} calls while it was down");
        assert!(spent <= 200, "{spent} tries of {DURING} requests");

        world.egov.set(Service::Otp, work);
        let back = Instant::now();
        tap.close();
        let published = wait_for_what_waited(&world);
        eprintln!(
            "{during} calls, {spent} tries; {published} published {:?} after it was back",
            back.elapsed()
        );
    });
    traffic.assert_exactly_once(&world);
    assert!(tries_spent(&world) <= 250, "few more on the way back");
}

#[test]
fn over_http_a_service_that_is_down_is_not_waited_for() {
    let world = World::with(
        Setup::default()
            .set("HTTP__BUDGET", "20s")
            .set("SHUTDOWN__DEADLINE", "2m")
            .set("OTP__TIMEOUT", "40s"),
    );
    let process = world.spawn_with("http", &[("ENGINE__ENABLED", "false")]);
    let calls = || world.egov.calls(Service::Otp);
    let accepted = || world.kafka.read(&world.topics.accepted);
    let mut requests = (0..).map(|n| Request::register(&format!("98765{:05}", 50_000 + n)));
    let mut next = || requests.next().expect("there are many");
    let down = Behaviour::failing(Fault::status(503));
    world.egov.set(Service::Otp, down);
    let mut asked = 0;
    wait_until("it counts as down", || {
        let before = calls();
        assert_eq!(Client::connect(&process).send(&next()).status, 201);
        asked += 1;
        before == calls()
    });

    // A probe that hangs is the only call until the budget ends.
    world
        .egov
        .set(Service::Otp, Behaviour::failing(Fault::Hang));
    let before = calls();
    let mut clients = Vec::new();
    wait_until("a probe is under way", || {
        let mut client = Client::connect(&process);
        let body = next().body();
        client.write(post(&body, &[])).expect("it is taken");
        clients.push(client);
        asked += 1;
        calls() > before
    });
    for _ in 0..5 {
        assert_eq!(Client::connect(&process).send(&next()).status, 201);
        asked += 1;
    }
    assert_eq!(calls(), before + 1, "they were handed over without a call");
    assert_eq!(accepted().len(), asked - 1, "the probe is not done yet");
}

/// No call of this process ever comes to its own timeout: the budget ends each before.
#[test]
fn over_http_alone_a_service_slower_than_the_budget_is_found_out() {
    let world = World::with(
        Setup::default()
            .set("ENGINE__ENABLED", "false")
            .set("HTTP__BUDGET", "1s")
            .set("OTP__CALLS", "3")
            .set("OTP__TIMEOUT", "40s"),
    );
    let process = world.spawn("http");
    let down = Behaviour::failing(Fault::Hang);
    world.egov.set(Service::Otp, down);
    let mut numbers = (0..).map(|n| format!("98765{:05}", 55_000 + n));
    let mut next = || Request::register(&numbers.next().expect("there are many"));
    wait_until("it counts as down", || {
        let before = world.egov.calls(Service::Otp);
        let mut clients: Vec<_> = (0..6).map(|_| Client::connect(&process)).collect();
        for client in &mut clients {
            client
                .write(post(&next().body(), &[]))
                .expect("it is taken");
        }
        for client in &mut clients {
            assert_eq!(client.answer().expect("an answer").status, 201);
        }
        // One of them may have been a probe.
        world.egov.calls(Service::Otp) <= before + 1
    });
    assert!(world.egov.calls(Service::Otp) <= 150);
}

#[test]
fn texts_that_cannot_be_had_hold_up_nobody_else() {
    let world = World::new();
    let _process = world.start("a");
    world.assert_works("9876560001", "has a copy");
    let down = Behaviour::failing(Fault::status(503));
    world.egov.set(Service::Texts, down);
    let strangers: Vec<_> = (0..200)
        .map(|n| Request {
            tenant: "dl.delhi",
            ..Request::register(&format!("98765{:05}", 61_000 + n))
        })
        .collect();
    world.requests(&strangers);
    let others: Vec<_> = (0..200)
        .map(|n| Request::register(&format!("98765{:05}", 62_000 + n)).id(format!("other-{n}")))
        .collect();
    world.requests(&others);
    let outcomes = world.wait_for_outcomes(201);
    assert!(
        outcomes
            .iter()
            .all(|outcome| outcome.summary() == "published"
                && outcome.get("attempts") == 1
                && outcome.word("tenantId") == "pb.amritsar")
    );
    world.egov.set(Service::Texts, Behaviour::well());
    world.wait_for_outcomes(401);
}
