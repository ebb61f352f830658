//! Services that are down, slow, wrong or unwilling; deadlines; topics of others that are missing.

use std::time::Duration;

use user_otp::egov::Service;
use user_otp::egov::standin::{Behaviour, Fault, User};

use crate::kafka::{Record, wait_until};
use crate::management::Scrape;
use crate::request::Request;
use crate::world::{Setup, TIERS, World, now};

/// `request.lifetime`, as it is by default.
const LIFETIME: i64 = 300_000;

/// `services.tries`: a try that fails costs this many calls.
const CALLS_A_TRY: usize = 3;

fn position(world: &World, place: crate::kafka::Place) -> String {
    format!(
        "{}-{}-{}",
        world.topics.requests, place.partition, place.offset
    )
}

#[test]
fn an_otp_outage_that_heals_costs_time_and_nothing_else() {
    let world = World::new();
    let _process = world.start("a");
    world.egov.add_user(User::citizen("9876520001", "pb"));
    let outage = Behaviour::failing(Fault::status(503)).times(2 * CALLS_A_TRY + 1);
    world.egov.set(Service::Otp, outage);
    let before = now();
    let draft = Request::login("9876520001")
        .id("outage")
        .draft()
        .key(b"\x00any \xff key".as_slice())
        .header("x-upstream", b"\xfe\xff".as_slice())
        .header("x-correlation-id", "correlation");
    let place = world.publish(&draft);
    let outcome = world.wait_for_outcome("outage");
    assert_eq!(outcome.summary(), "published");
    assert_eq!(outcome.get("attempts"), 3);
    assert_eq!(outcome.word("source"), position(&world, place));
    assert_eq!(outcome.word("door"), "stream");
    assert_eq!(world.sms().len(), 1);
    assert_eq!(world.egov.otp_of("9876520001").len(), 1);

    let tries: Vec<_> = TIERS.iter().flat_map(|tier| world.retries(tier)).collect();
    assert_eq!(tries.len(), 2, "{tries:?}");
    let asked = &world.kafka.read(&world.topics.requests)[0];
    for (number, (retry, tier)) in tries.iter().zip(TIERS).enumerate() {
        assert_eq!(
            retry.topic,
            world.topics.retry(tier),
            "tries go from tier to tier"
        );
        assert_eq!(
            (&retry.key, &retry.value),
            (&asked.key, &asked.value),
            "as it came"
        );
        assert_eq!(
            retry.headers[0],
            ("x-upstream".to_owned(), Some(b"\xfe\xff".to_vec()))
        );
        assert_eq!(retry.header("otp-event-id"), Some("outage"));
        assert_eq!(retry.header("x-correlation-id"), Some("correlation"));
        assert_eq!(
            retry.header("otp-source"),
            Some(position(&world, place).as_str())
        );
        assert_eq!(retry.number("otp-deadline-ms"), asked.timestamp + LIFETIME);
        assert_eq!(retry.number("otp-attempt"), number as i64 + 1);
        assert_eq!(retry.header("otp-error-code"), Some("service-unavailable"));
        assert_eq!(retry.header("otp-error-stage"), Some("otp"));
        assert_eq!(
            retry.number("otp-first-failed-ms"),
            tries[0].number("otp-failed-ms")
        );
        assert!((before..=now()).contains(&retry.number("otp-failed-ms")));
        assert_eq!(retry.header("otp-disposition"), None);
    }
    // Due is the record's time and the topic's delay, and nothing is done before.
    let created = world
        .egov
        .journal()
        .into_iter()
        .find(|call| call.otp.is_some())
        .expect("an OTP");
    assert!(
        created.at.0 >= tries[1].timestamp + 2_000,
        "the second retry was early"
    );
    let second_try = tries[1].number("otp-failed-ms");
    assert!(
        second_try >= tries[0].timestamp + 500,
        "the first retry was early"
    );
    world.wait_for_no_lag();
}

#[test]
fn an_outage_of_the_user_search_is_never_no_such_user() {
    let faults = [
        ("down", Fault::status(503), "service-unavailable"),
        ("failing", Fault::status(500), "service-unavailable"),
        ("busy", Fault::status(429), "service-unavailable"),
        ("gone", Fault::Reset, "service-unavailable"),
        ("silent", Fault::Hang, "service-timeout"),
        ("cut", Fault::Truncated, ""),
        ("page", Fault::Html, "service-broken-answer"),
        ("odd", Fault::WrongShape, "service-broken-answer"),
        ("junk", Fault::NotJson, "service-broken-answer"),
        (
            "database",
            Fault::tracer("QUERY_EXECUTION_ERROR", "it failed over"),
            "service-unavailable",
        ),
        (
            "encryption",
            Fault::tracer("ENCRYPTION_ERROR", ""),
            "service-unavailable",
        ),
        (
            "uncaught",
            Fault::tracer(
                "NullPointerException",
                "An unhandled exception occurred on the server",
            ),
            "service-unavailable",
        ),
    ];
    let world = World::with(Setup::default().set("USERS__TIMEOUT", "500ms"));
    let _process = world.start("a");
    for (number, (name, fault, code)) in faults.into_iter().enumerate() {
        let mobile = format!("98765210{number:02}");
        world.egov.add_user(User::citizen(&mobile, "pb"));
        world.egov.set(
            Service::Users,
            Behaviour::failing(fault).times(2 * CALLS_A_TRY),
        );
        let (login, register) = (format!("login-{name}"), format!("register-{name}"));
        // Decided during the outage, one would be refused and the other get an OTP.
        world.requests(&[
            Request::login(&mobile).id(&login),
            Request::register(&mobile).id(&register),
        ]);
        assert_eq!(
            world.wait_for_outcome(&login).summary(),
            "published",
            "{name}"
        );
        assert_eq!(
            world.wait_for_outcome(&register).summary(),
            "rejected/OTP.MOBILENUMBER",
            "{name}"
        );
        assert_eq!(
            world.egov.otp_of(&mobile).len(),
            1,
            "{name}: one OTP, for the login"
        );
        let retried = world.retries(TIERS[0]);
        let retried = retried
            .iter()
            .find(|retry| retry.header("otp-event-id") == Some(&login))
            .expect("a retry");
        assert_eq!(retried.header("otp-error-stage"), Some("user"), "{name}");
        if !code.is_empty() {
            assert_eq!(retried.header("otp-error-code"), Some(code), "{name}");
        }
    }
    world.wait_for_no_lag();
}

#[test]
fn an_outage_of_the_texts_waits_and_a_later_one_is_served_from_the_copy() {
    let world = World::with(Setup::default().set("TEXTS__TTL", "1ms"));
    let _process = world.start("a");
    world
        .egov
        .set(Service::Texts, Behaviour::failing(Fault::status(503)));
    world.request(&Request::register("9876522001").id("first"));
    wait_until("it is retried", || !world.retries(TIERS[0]).is_empty());
    assert_eq!(
        world.egov.otp_of("9876522001"),
        Vec::<String>::new(),
        "no OTP before there is a text"
    );
    assert_eq!(
        world.retries(TIERS[0])[0].header("otp-error-stage"),
        Some("texts")
    );
    world.egov.set(Service::Texts, Behaviour::well());
    assert_eq!(world.wait_for_outcome("first").summary(), "published");

    world
        .egov
        .set(Service::Texts, Behaviour::failing(Fault::status(503)));
    world.request(&Request::register("9876522002").id("second"));
    let second = world.wait_for_outcome("second");
    assert_eq!(
        (second.summary().as_str(), second.get("attempts")),
        ("published", 1.into())
    );
}

#[test]
fn retry_after_picks_the_tier() {
    let world = World::new();
    let _process = world.start("a");
    world.egov.set(
        Service::Otp,
        Behaviour::failing(Fault::status_with(503, "retry-after", "2")),
    );
    world.request(&Request::register("9876522101").id("patient"));
    wait_until("it is retried", || !world.retries("2s").is_empty());
    assert_eq!(
        world.retries("500ms").len(),
        0,
        "it is not asked again before it wants to be"
    );
    world.egov.set(Service::Otp, Behaviour::well());
    assert_eq!(world.wait_for_outcome("patient").summary(), "published");
}

#[test]
fn what_a_service_refuses_is_a_dead_letter_as_it_came() {
    let refusals = [
        ("users", Service::Users, Fault::status(403), "user"),
        (
            "users-mapping",
            Service::Users,
            Fault::tracer("JsonMappingException", "no"),
            "user",
        ),
        ("otp", Service::Otp, Fault::status(401), "otp"),
        (
            "otp-own",
            Service::Otp,
            Fault::tracer("OTP.VALIDATION", "no"),
            "otp",
        ),
    ];
    let world = World::new();
    let _process = world.start("a");
    for (number, (name, service, fault, stage)) in refusals.into_iter().enumerate() {
        let mobile = format!("98765222{number:02}");
        world.egov.set(service, Behaviour::failing(fault));
        let before = now();
        let draft = Request::register(&mobile)
            .id(name)
            .draft()
            .key("any key")
            .header("x-upstream", "kept");
        let place = world.publish(&draft);
        let outcome = world.wait_for_outcome(name);
        assert_eq!(
            outcome.summary(),
            format!("dead-lettered/refused/service-refused/{stage}"),
            "{name}"
        );
        let asked = find(&world.kafka.read(&world.topics.requests), name);
        let letter = find(&world.dead_letters(), name);
        assert_eq!(
            (&letter.key, &letter.value),
            (&asked.key, &asked.value),
            "{name}: as it came"
        );
        assert_letter(&world, &letter, &asked, before);
        assert_eq!(letter.header("otp-disposition"), Some("refused"));
        assert_eq!(letter.header("otp-error-code"), Some("service-refused"));
        assert_eq!(letter.header("otp-error-stage"), Some(stage));
        assert_eq!(
            (letter.header("otp-tenant"), letter.header("otp-type")),
            (Some("pb.amritsar"), Some("register"))
        );
        assert_eq!(letter.header("x-upstream"), Some("kept"));
        assert_eq!(asked.offset, place.offset);
        world.egov.set(service, Behaviour::well());
    }
    assert_eq!(world.sms().len(), 0);
    assert_eq!(
        TIERS
            .iter()
            .map(|tier| world.retries(tier).len())
            .sum::<usize>(),
        0,
        "asking again would not help"
    );
    world.assert_works("9876522299", "well");
}

/// What waits in memory is read again by whoever has its partition then, and is due when it was.
#[test]
fn retries_that_wait_survive_a_kill_and_a_rebalance() {
    const DELAY: i64 = 6_000;
    /// Fewer failures than make a service count as down.
    const REQUESTS: usize = 15;
    let world = World::with(
        Setup::default()
            .set("RETRY__DELAYS", "6s")
            .set("SERVICES__TRIES", "1"),
    );
    let mut process = world.start("a");
    let down = Behaviour::failing(Fault::status(503));
    world.egov.set(Service::Otp, down.times(REQUESTS));
    let all: Vec<_> = (0..REQUESTS)
        .map(|n| Request::register(&format!("98765230{n:02}")).id(format!("n-{n}")))
        .collect();
    world.requests(&all);
    wait_until("all of them wait", || {
        world.retries("6s").len() == REQUESTS
            && Scrape::of(&process).get("user_otp_retries_parked") >= REQUESTS as f64
    });
    process.kill();
    let _second = world.start("b");
    let _third = world.start("c");
    let outcomes = world.wait_for_outcomes(REQUESTS);
    for retry in world.retries("6s") {
        let id = retry.header("otp-event-id").expect("an event");
        let outcome = world.wait_for_outcome(id);
        assert_eq!(
            (outcome.summary().as_str(), outcome.moment("attempts")),
            ("published", 2),
            "{id}"
        );
        assert!(
            outcome.moment("finishedAtMs") >= retry.timestamp + DELAY,
            "{id} was early"
        );
    }
    assert_eq!((outcomes.len(), world.sms().len()), (REQUESTS, REQUESTS));
}

/// The headers that every dead letter has, whatever the reason.
#[track_caller]
pub(crate) fn assert_letter(world: &World, letter: &Record, asked: &Record, before: i64) {
    assert_eq!(letter.header("otp-source"), Some(asked.position().as_str()));
    assert_eq!(
        letter.header("__dlq.errors.topic"),
        Some(asked.topic.as_str())
    );
    assert_eq!(
        letter.number("__dlq.errors.partition"),
        i64::from(asked.partition)
    );
    assert_eq!(letter.number("__dlq.errors.offset"), asked.offset);
    assert_eq!(
        letter.header("__dlq.errors.group"),
        Some(world.name.as_str())
    );
    assert!(letter.number("__dlq.errors.delivery.count") >= 1);
    assert!(
        letter
            .header("__dlq.errors.message")
            .is_some_and(|sentence| !sentence.is_empty())
    );
    assert_eq!(letter.number("otp-deadline-ms"), asked.timestamp + LIFETIME);
    let failed = letter.number("otp-failed-ms");
    assert!((before..=now()).contains(&failed) && letter.number("otp-first-failed-ms") <= failed);
    assert_eq!(letter.header("otp-attempt"), None);
}

pub(crate) fn find(records: &[Record], id: &str) -> Record {
    let mut found = records
        .iter()
        .filter(|record| record.header("otp-event-id") == Some(id));
    let record = found.next().expect("a record of the event").clone();
    assert!(found.next().is_none(), "two records of {id}");
    record
}

#[test]
fn an_outage_that_does_not_end_expires_the_request_before_its_deadline() {
    let world = World::with(
        Setup::default()
            .set("REQUEST__LIFETIME", "8s")
            .set("REQUEST__MIN_LIFE", "2s"),
    );
    let _process = world.start("a");
    world
        .egov
        .set(Service::Otp, Behaviour::failing(Fault::status(503)));
    let place = world.request(&Request::register("9876522401").id("hopeless"));
    let outcome = world.wait_for_outcome("hopeless");
    assert_eq!(
        (outcome.word("outcome"), outcome.word("disposition")),
        ("dead-lettered".to_owned(), "expired".to_owned())
    );
    let letter = find(&world.dead_letters(), "hopeless");
    let asked = find(&world.kafka.read(&world.topics.requests), "hopeless");
    assert_eq!(
        letter.number("otp-deadline-ms"),
        asked.timestamp + 8_000,
        "no retry moves the deadline"
    );
    assert_eq!(
        letter.header("otp-source"),
        Some(position(&world, place).as_str())
    );
    assert_eq!(letter.header("otp-disposition"), Some("expired"));
    let tries = TIERS
        .iter()
        .map(|tier| world.retries(tier).len())
        .sum::<usize>() as i64;
    assert!(tries >= 1);
    assert_eq!(letter.number("__dlq.errors.delivery.count"), tries + 1);
    let mut retries = TIERS.iter().flat_map(|tier| world.retries(tier));
    assert!(retries.all(|retry| retry.number("otp-deadline-ms") == asked.timestamp + 8_000));
    assert_eq!(world.sms().len(), 0);
}

#[test]
fn a_request_with_too_little_time_left_is_expired_before_an_otp_is_created() {
    let world = World::new();
    let _process = world.start("a");
    // Behind the first one the start is over: what is read now is not history.
    world.request(&Request::register("9876522500").id("first"));
    assert_eq!(world.wait_for_outcome("first").summary(), "published");
    let soon = |mobile, id| Request::register(mobile).id(id).draft();
    let deadline = |ms: i64| (now() + ms).to_string();
    world.publish(&soon("9876522501", "late").timestamp(now() - LIFETIME + 5_000));
    world.publish(&soon("9876522502", "over").timestamp(now() - 2 * LIFETIME));
    world.publish(&soon("9876522503", "shortened").header("otp-deadline-ms", deadline(10_000)));
    for id in ["late", "over", "shortened"] {
        let outcome = world.wait_for_outcome(id);
        let (disposition, code) = (outcome.word("disposition"), outcome.word("code"));
        assert_eq!(
            (disposition.as_str(), code.as_str()),
            ("expired", "deadline-near"),
            "{id}"
        );
    }
    // A deadline from outside can only shorten, and a time in the future is now.
    world.publish(
        &soon("9876522504", "lengthened").header("otp-deadline-ms", deadline(10 * LIFETIME)),
    );
    world.publish(&soon("9876522505", "future").timestamp(now() + LIFETIME));
    world
        .egov
        .set(Service::Otp, Behaviour::failing(Fault::status(403)));
    for (mobile, id) in [
        ("9876522506", "lengthened-refused"),
        ("9876522507", "future-refused"),
    ] {
        let draft = soon(mobile, id).header("otp-deadline-ms", deadline(10 * LIFETIME));
        let ahead = if id == "future-refused" { LIFETIME } else { 0 };
        world.publish(&draft.timestamp(now() + ahead));
        assert_eq!(world.wait_for_outcome(id).word("disposition"), "refused");
        assert!(
            find(&world.dead_letters(), id).number("otp-deadline-ms") <= now() + LIFETIME,
            "{id}"
        );
    }
    let created = |number: &str| world.egov.otp_of(number).len();
    let counts = ["9876522501", "9876522502", "9876522503"].map(created);
    assert_eq!(counts, [0, 0, 0], "a late OTP is worse than none");
}

/// It waits for the only permit, and gets it when it would be a late OTP's.
#[test]
fn a_request_whose_deadline_comes_near_while_it_waits_gets_no_otp() {
    let world = World::with(
        Setup::default()
            .set("REQUEST__LIFETIME", "10s")
            .set("REQUEST__MIN_LIFE", "6s")
            .set("OTP__TIMEOUT", "30s")
            .set("OTP__CALLS", "1"),
    );
    let _process = world.start("a");
    let slow = Behaviour::slow(Duration::from_secs(7)).times(1);
    world.egov.set(Service::Otp, slow);
    world.request(&Request::register("9876522551").id("holds"));
    wait_until("it is asked", || world.egov.calls(Service::Otp) == 1);
    world.request(&Request::register("9876522552").id("waits"));
    let outcome = world.wait_for_outcome("waits");
    assert_eq!(outcome.word("disposition"), "expired");
    // Whatever became of the first: its permit is free.
    world.wait_for_outcome("holds");
    world.assert_works("9876522553", "after");
    assert_eq!(world.egov.otp_of("9876522552").len(), 0);
}

#[test]
fn an_sms_expires_with_its_request_at_the_latest() {
    let world = World::with(Setup::default().set("SMS__EXPIRY_MS", "3600000"));
    let _process = world.start("a");
    world.request(&Request::register("9876522601").id("one"));
    assert_eq!(world.wait_for_outcome("one").summary(), "published");
    let asked = find(&world.kafka.read(&world.topics.requests), "one");
    assert_eq!(
        world.sms()[0].json()["expiryTime"],
        asked.timestamp + LIFETIME
    );
}

#[test]
fn a_missing_email_topic_costs_the_email_alone() {
    let world = World::with(Setup {
        email: false,
        ..Setup::default()
    });
    let _process = world.start("a");
    world
        .egov
        .add_user(User::citizen("9876522701", "pb").with_email(&world.address("lost")));
    world.request(&Request::login("9876522701").id("with-email"));
    assert_eq!(
        world.wait_for_outcome("with-email").summary(),
        "published/email-topic-missing"
    );
    assert_eq!(world.sms().len(), 1);
    world.assert_works("9876522702", "without-email");
}

/// The broker's answer to a clock that is wrong; here the topic's bound is.
#[test]
fn a_person_with_too_many_requests_in_hand_fills_no_window() {
    const REQUESTS: usize = 20;
    let world = World::with(
        Setup {
            partitions: 1,
            ..Setup::default()
        }
        .set("ENGINE__LANE", "4"),
    );
    let _process = world.start("a");
    world
        .egov
        .set(Service::Otp, Behaviour::slow(Duration::from_millis(100)));
    let same: Vec<_> = (0..REQUESTS)
        .map(|n| Request::register("9876522801").id(format!("n-{n}")))
        .collect();
    world.requests(&same);
    let outcomes = world.wait_for_outcomes(REQUESTS);
    assert!(
        outcomes
            .iter()
            .all(|outcome| outcome.summary() == "published"),
        "{outcomes:?}"
    );
    let retried: Vec<_> = TIERS.iter().flat_map(|tier| world.retries(tier)).collect();
    assert!(!retried.is_empty(), "some waited on a retry topic");
    assert!(
        retried
            .iter()
            .all(|retry| retry.header("otp-error-code") == Some("lane-full"))
    );
    assert_eq!(world.egov.otp_of("9876522801").len(), REQUESTS);
    world.wait_for_no_lag();
}
