//! Sending limits on the stream.

use std::time::Duration;

use user_otp::egov::Service;
use user_otp::egov::standin::{Behaviour, Fault, User};

use crate::kafka::{Draft, wait_until};
use crate::redis_server::Redis;
use crate::request::Request;
use crate::traffic::{Traffic, wait_for_progress};
use crate::world::{Setup, TIERS, World};

/// A world with limits as they are by default.
fn limited() -> Setup {
    Setup::default().set("LIMITS__MODE", "on")
}

fn sharing(redis: &Redis) -> Setup {
    limited()
        .set("LIMITS__REDIS", redis.address())
        .set("LIMITS__REDIS_TIMEOUT", "1s")
}

const TOO_SOON: &str = "limited/limit-number-type";

#[test]
fn a_second_request_within_the_window_is_limited_and_costs_nothing() {
    let world = World::with(limited());
    let _process = world.start("a");
    world.egov.add_user(User::citizen("9876530001", "pb"));
    let other_spelling = Request {
        country_code: Some("+91"),
        tenant: "pb.jalandhar",
        ..Request::login("9876530001").id("second")
    };
    world.request(&Request::login("9876530001").id("first"));
    assert_eq!(world.wait_for_outcome("first").summary(), "published");
    world.request(&other_spelling);
    let outcome = world.wait_for_outcome("second");
    assert_eq!(outcome.summary(), TOO_SOON);
    assert_eq!(outcome.get("attempts"), 1);
    assert_eq!(world.egov.calls(Service::Users), 1, "nobody was looked up");
    // Another type is another matter.
    world.request(&Request::password_reset("9876530001").id("reset"));
    assert_eq!(world.wait_for_outcome("reset").summary(), "published");
    assert_eq!((world.sms().len(), world.dead_letters().len()), (2, 0));
    world.wait_for_no_lag();
}

#[test]
fn a_topic_that_is_created_again_holds_other_requests_at_the_same_offsets() {
    let redis = Redis::start();
    let world = World::with(Setup {
        partitions: 1,
        ..sharing(&redis)
    });
    world.egov.everyone(true);
    let mut process = world.start("a");
    for (id, ends) in [("first", "published"), ("second", TOO_SOON)] {
        world.request(&Request::login("9876530041").id(id));
        assert_eq!(world.wait_for_outcome(id).summary(), ends);
    }
    assert!(process.terminate().success(), "it ends in order");
    world.kafka.delete_topics(&[&world.topics.requests]);
    wait_until("the topic is gone", || {
        world.kafka.partitions(&world.topics.requests).is_empty()
    });
    world.kafka.create_topic(&world.topics.requests, 1, &[]);
    let _process = world.start("a");
    for (number, id) in [("9876530042", "third"), ("9876530043", "fourth")] {
        world.request(&Request::login(number).id(id));
        assert_eq!(world.wait_for_outcome(id).summary(), "published");
    }
}

#[test]
fn windows_run_on_the_time_a_request_was_received() {
    let world = World::with(limited());
    world.egov.everyone(true);
    let at = |back: i64, id: &str| Draft {
        timestamp: Some(crate::world::now() - back),
        ..Request::login("9876530002").id(id).draft()
    };
    // All are handled at once, when the process starts.
    for (back, id) in [(120_000, "first"), (100_000, "too-soon"), (85_000, "later")] {
        world.publish(&at(back, id));
    }
    let _process = world.start("a");
    assert_eq!(world.wait_for_outcome("first").summary(), "published");
    assert_eq!(world.wait_for_outcome("too-soon").summary(), TOO_SOON);
    assert_eq!(world.wait_for_outcome("later").summary(), "published");
}

#[test]
fn a_shadow_refuses_nobody() {
    let world = World::with(Setup::default().set("LIMITS__MODE", "shadow"));
    let _process = world.start("a");
    world.egov.everyone(true);
    for id in ["one", "two", "three"] {
        world.request(&Request::login("9876530003").id(id));
        assert_eq!(world.wait_for_outcome(id).summary(), "published");
    }
}

#[test]
fn a_retry_is_charged_once_and_says_so() {
    let world = World::with(limited());
    let _process = world.start("a");
    world.egov.everyone(true);
    let outage = Behaviour::failing(Fault::status(503)).times(3 + 1);
    world.egov.set(Service::Otp, outage);
    world.request(&Request::login("9876530004").id("retried"));
    assert_eq!(world.wait_for_outcome("retried").summary(), "published");
    let retries = world.retries(TIERS[0]);
    assert_eq!(retries.len(), 1);
    assert_eq!(retries[0].header("otp-charged"), Some("true"));
    world.request(&Request::login("9876530004").id("next"));
    assert_eq!(world.wait_for_outcome("next").summary(), TOO_SOON);
}

#[test]
fn a_request_that_a_kill_interrupts_is_not_limited_by_itself() {
    let redis = Redis::start();
    let world = World::with(sharing(&redis).set("KAFKA__SESSION_TIMEOUT_MS", "3000"));
    world.egov.everyone(true);
    // The OTP is created, and no answer arrives.
    let silent = Behaviour::failing(Fault::SlowBody { pause_ms: 60_000 });
    world.egov.set(Service::Otp, silent);
    let mut process = world.start("a");
    world.request(&Request::login("9876530005").id("interrupted"));
    assert!(world.wait_for_journal(|calls| calls.iter().any(|call| call.otp.is_some())));
    process.kill();
    world.egov.set(Service::Otp, Behaviour::well());
    let _process = world.start("a");
    assert_eq!(world.wait_for_outcome("interrupted").summary(), "published");
    world.request(&Request::login("9876530005").id("next"));
    assert_eq!(world.wait_for_outcome("next").summary(), TOO_SOON);
}

#[test]
fn jobs_are_never_charged() {
    let world = World::with(limited());
    let _process = world.start("a");
    world.egov.everyone(true);
    for id in ["job-1", "job-2", "job-3"] {
        let draft = Request::login("9876530006").id(id).draft();
        world.kafka.publish(&world.topics.jobs, &draft);
        assert_eq!(world.wait_for_outcome(id).summary(), "published");
    }
    world.request(&Request::login("9876530006").id("live"));
    assert_eq!(world.wait_for_outcome("live").summary(), "published");
}

#[test]
fn who_says_that_a_request_was_charged_is_believed_on_our_own_topics_alone() {
    let world = World::with(limited());
    let _process = world.start("a");
    world.egov.everyone(true);
    let charged = |id: &str| {
        let draft = Request::login("9876530007").id(id).draft();
        draft.header("otp-charged", b"true".as_slice())
    };
    for id in ["handed-over-1", "handed-over-2"] {
        world.kafka.publish(&world.topics.accepted, &charged(id));
        assert_eq!(world.wait_for_outcome(id).summary(), "published");
    }
    world.publish(&charged("forged-1"));
    assert_eq!(world.wait_for_outcome("forged-1").summary(), "published");
    world.publish(&charged("forged-2"));
    assert_eq!(world.wait_for_outcome("forged-2").summary(), TOO_SOON);
}

#[test]
fn a_rejection_is_charged() {
    let world = World::with(limited());
    let _process = world.start("a");
    world.request(&Request::login("9876530008").id("unknown"));
    let rejected = "rejected/OTP.UNKNOWN_CREDENTIAL";
    assert_eq!(world.wait_for_outcome("unknown").summary(), rejected);
    // Known or not: the answer tells nobody.
    world.egov.add_user(User::citizen("9876530008", "pb"));
    world.request(&Request::login("9876530008").id("again"));
    assert_eq!(world.wait_for_outcome("again").summary(), TOO_SOON);
}

#[test]
fn a_failure_of_ours_costs_the_citizen_nothing() {
    let redis = Redis::start();
    for (number, setup) in [limited(), sharing(&redis)].into_iter().enumerate() {
        // Longer than the test: it is given back, and not just over.
        let world = World::with(setup.set("LIMITS__NUMBER_TYPE_WINDOW", "1h"));
        let _process = world.start("a");
        world.egov.everyone(true);
        let mobile = format!("987653001{number}");
        world
            .egov
            .set(Service::Otp, Behaviour::failing(Fault::status(404)));
        world.request(&Request::login(&mobile).id("refused"));
        let refused = "dead-lettered/refused/service-refused/otp";
        assert_eq!(world.wait_for_outcome("refused").summary(), refused);
        world.egov.set(Service::Otp, Behaviour::well());
        // Given back after the commit that this reader sees: so it may take a moment.
        let mut tries = 0;
        wait_until("it is given back", || {
            tries += 1;
            let id = format!("again-{tries}");
            world.request(&Request::login(&mobile).id(&id));
            world.wait_for_outcome(&id).summary() == "published"
        });
    }
}

#[test]
fn two_instances_on_one_redis_agree() {
    // More than the other topics have together, so that whoever has half of all has some of these.
    const PARTITIONS: i32 = 64;
    const NUMBERS: usize = 5;
    let redis = Redis::start();
    let world = World::with(Setup {
        partitions: PARTITIONS,
        ..sharing(&redis)
    });
    world.egov.everyone(true);
    let processes = ["a", "b"].map(|name| world.start(name));
    // The second has joined, which is not yet to have its share.
    wait_until("both have partitions", || {
        let assigned = |line: &str| line.contains("partitions assigned");
        processes
            .iter()
            .all(|process| process.output.has_line(assigned))
    });
    for number in 0..NUMBERS {
        let draft = Request::login(&format!("98765301{number:02}")).draft();
        // On every partition, and so at each of the two.
        let drafts: Vec<_> = (0..PARTITIONS)
            .map(|partition| draft.clone().partition(partition))
            .collect();
        world.kafka.publish_all(&world.topics.requests, &drafts);
    }
    let outcomes = world.wait_for_outcomes(NUMBERS * PARTITIONS as usize);
    for process in &processes {
        let results = |line: &str| line.contains("results=") && !line.contains("results=0 ");
        assert!(process.output.has_line(results), "it had its share");
    }
    let all = |summary: &str| {
        let those = outcomes.iter().filter(|one| one.summary() == summary);
        those.count()
    };
    assert_eq!(all("published"), NUMBERS);
    assert_eq!(all(TOO_SOON), outcomes.len() - NUMBERS);
    assert_eq!(world.sms().len(), NUMBERS);
}

#[test]
fn a_redis_that_freezes_and_dies_under_load_fails_no_request() {
    let mut redis = Redis::start();
    // Each person asks again and again: what counts here is that everybody is served.
    let setup = sharing(&redis)
        .set("LIMITS__REDIS_TIMEOUT", "50ms")
        .set("LIMITS__NUMBER_TYPE_COUNT", "1000")
        .set("LIMITS__NUMBER_COUNT", "1000");
    let world = World::with(setup);
    world.egov.everyone(true);
    world
        .egov
        .set(Service::Otp, Behaviour::slow(Duration::from_millis(5)));
    let process = world.start("a");
    let traffic = Traffic::of(100);
    std::thread::scope(|scope| {
        let tap = traffic.keep_publishing(scope, &world);
        wait_for_progress(&world, 100);
        redis.freeze();
        wait_for_progress(&world, 300);
        let away = |line: &str| line.contains("Redis is away");
        wait_until("it is noticed", || process.output.has_line(away));
        redis.thaw();
        wait_until("it is found again", || {
            process
                .output
                .has_line(|line| line.contains("Redis is back"))
        });
        wait_for_progress(&world, 100);
        redis.kill();
        wait_for_progress(&world, 300);
        tap.close();
    });
    traffic.assert_exactly_once(&world);
}
