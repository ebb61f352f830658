//! The HTTP door when services are down, slow or wrong: 201 and the message later, or the contract's
//! answer; never "no such user", never both, never twice.

use std::time::Duration;

use rstest::rstest;
use user_otp::egov::Service;
use user_otp::egov::standin::{Behaviour, Fault, User};

use crate::client::{Answer, Client, post};
use crate::http::CREATED;
use crate::kafka::{Record, wait_for, wait_until};
use crate::process::Process;
use crate::request::Request;
use crate::world::{Setup, World, now};

fn sms_of(world: &World, mobile: &str) -> Vec<Record> {
    let key = format!("pb.amritsar:{mobile}");
    let mut sms = world.sms();
    sms.retain(|sms| sms.key_text() == key);
    sms
}

#[test]
fn whatever_a_service_does_wrong_the_message_comes_later_and_once() {
    let cases = [
        ("users down", Service::Users, Fault::status(503), None),
        ("users gone", Service::Users, Fault::Reset, None),
        ("users slow", Service::Users, Fault::Hang, Some(1)),
        ("users cut", Service::Users, Fault::Truncated, None),
        ("users odd", Service::Users, Fault::WrongShape, None),
        ("users page", Service::Users, Fault::Html, None),
        (
            "users uncaught",
            Service::Users,
            Fault::tracer(
                "NullPointerException",
                "An unhandled exception occurred on the server",
            ),
            None,
        ),
        ("otp down", Service::Otp, Fault::status(500), None),
        ("otp slow", Service::Otp, Fault::Hang, Some(1)),
        // Created, and its answer is on its way when the time is over.
        (
            "otp late",
            Service::Otp,
            Fault::SlowBody { pause_ms: 60_000 },
            Some(1),
        ),
        ("otp junk", Service::Otp, Fault::NotJson, None),
    ];
    let world = World::with(
        Setup::default()
            .set("HTTP__BUDGET", "2s")
            .set("USERS__TIMEOUT", "15s")
            .set("OTP__TIMEOUT", "15s"),
    );
    let process = world.start("a");
    let mut client = Client::connect(&process);
    for (number, (name, service, fault, times)) in cases.into_iter().enumerate() {
        let mobile = format!("98765400{number:02}");
        world.egov.add_user(User::citizen(&mobile, "pb"));
        let failing = Behaviour::failing(fault);
        world.egov.set(
            service,
            times.map_or(failing.clone(), |times| failing.times(times)),
        );
        let answer = client.send(&Request::login(&mobile));
        assert_eq!(
            (answer.status, answer.body.as_str()),
            (201, CREATED),
            "{name}"
        );
        let accepted = world.kafka.read(&world.topics.accepted);
        assert_eq!(accepted.len(), number + 1, "{name}: it is handed over");
        world.egov.set(service, Behaviour::well());
        let event_id = accepted
            .iter()
            .find(|one| one.key_text().ends_with(&mobile))
            .and_then(|one| one.header("otp-event-id"))
            .expect("it has an id");
        let outcome = world.wait_for_outcome(event_id);
        assert_eq!(outcome.summary(), "published", "{name}");
        assert_eq!(outcome.word("door"), "http", "{name}");
        assert_eq!(sms_of(&world, &mobile).len(), 1, "{name}");
        // The one that it was not created for is never seen.
        let last = world.egov.otp_of(&mobile).pop().expect("an OTP");
        let text = sms_of(&world, &mobile)[0].text().to_owned();
        assert!(text.contains(&format!(" {last}.")), "{name}");
    }
    assert_eq!(world.outcomes().len(), 11, "a request has one outcome");
}

#[rstest]
#[case::rules(Service::Rules)]
#[case::texts(Service::Texts)]
fn what_has_no_copy_yet_is_waited_for_by_the_stream(#[case] service: Service) {
    let world = World::new();
    let process = world.spawn_with("a", &[("MDMS__URL", &world.egov.url())]);
    world
        .egov
        .set(service, Behaviour::failing(Fault::status(503)));
    let answer = Client::connect(&process).send(&Request::register("9876541001"));
    assert_eq!(answer.status, 201);
    assert_eq!(world.kafka.read(&world.topics.accepted).len(), 1);
    assert_eq!(world.sms().len(), 0);
    world.egov.set(service, Behaviour::well());
    wait_until("the stream sends it", || world.sms().len() == 1);
}

#[test]
fn a_request_is_handed_over_as_it_came_with_its_deadline() {
    let world = World::new();
    let process = world.spawn_with("http", &[("ENGINE__ENABLED", "false")]);
    world
        .egov
        .set(Service::Users, Behaviour::failing(Fault::status(503)));
    let body = r#"  {"RequestInfo":{"msgId":"1|hi_IN"}, "otp":{"type":"LOGIN","mobileNumber":9876542001,"tenantId":"pb.amritsar"} } "#;
    let before = now();
    let ids = [("X-Correlation-Id", "c-1"), ("tenantId", "pb")];
    let answer = Client::connect(&process).post(body, &ids);
    assert_eq!(answer.status, 201);
    let accepted = world.kafka.read(&world.topics.accepted);
    let [accepted] = accepted.as_slice() else {
        panic!("one record, not {accepted:?}");
    };
    assert_eq!(
        (accepted.key_text(), accepted.text()),
        ("pb.amritsar:9876542001", body)
    );
    assert_eq!(
        accepted.header_names(),
        [
            "otp-event-id",
            "x-correlation-id",
            "otp-deadline-ms",
            "otp-received-ms",
            "otp-attempt",
            "tenantId"
        ]
    );
    assert_eq!(accepted.number("otp-attempt"), 1);
    let deadline = accepted.number("otp-deadline-ms");
    assert!((before + 300_000..=now() + 300_000).contains(&deadline));
    assert_eq!(
        world.outcomes().len(),
        0,
        "its outcome comes from the stream alone"
    );

    // Another process, without HTTP, carries on.
    world.egov.set(Service::Users, Behaviour::well());
    world.egov.add_user(User::citizen("9876542001", "pb"));
    let mut stream = world.spawn_with("stream", &[("HTTP__ENABLED", "false")]);
    stream.wait_ready();
    let outcome = world.wait_for_outcome(accepted.header("otp-event-id").expect("an id"));
    assert_eq!(
        outcome.get("receivedAtMs").as_i64(),
        Some(accepted.number("otp-received-ms")),
        "when HTTP took it"
    );
    assert_eq!(
        (
            outcome.summary(),
            outcome.word("door"),
            outcome.get("attempts")
        ),
        ("published".into(), "http".into(), 2.into())
    );
    assert_eq!(outcome.word("source"), accepted.position());
    assert!(!stream.output.text().contains(" HTTP port="));
}

#[test]
fn a_client_that_hangs_up_cancels_nothing() {
    let world = World::new();
    let process = world.start("a");
    world
        .egov
        .set(Service::Otp, Behaviour::slow(Duration::from_millis(500)));
    let mut client = Client::connect(&process);
    client
        .write(post(&Request::register("9876543001").body(), &[]))
        .expect("it is taken");
    wait_until("it is begun", || world.egov.calls(Service::Users) > 0);
    drop(client);
    wait_until("it is sent", || sms_of(&world, "9876543001").len() == 1);
}

#[test]
fn requests_beyond_the_limit_are_refused_at_once_and_the_others_served() {
    let world = World::with(Setup::default().set("HTTP__REQUESTS", "1"));
    let process = world.start("a");
    world
        .egov
        .set(Service::Otp, Behaviour::slow(Duration::from_secs(3)));
    let mut first = Client::connect(&process);
    first
        .write(post(&Request::register("9876544001").body(), &[]))
        .expect("it is taken");
    wait_until("it is begun", || world.egov.calls(Service::Users) > 0);
    let refused = Client::connect(&process).send(&Request::register("9876544002"));
    assert_eq!(
        (refused.status, refused.header("retry-after")),
        (503, Some("1"))
    );
    assert_eq!(first.answer().expect("it is answered").status, 201);
    assert_eq!(world.egov.otp_of("9876544002").len(), 0);
    let again = Client::connect(&process).send(&Request::register("9876544002"));
    assert_eq!(again.status, 201, "its place is free again");
}

#[test]
fn an_email_topic_that_goes_away_costs_the_email_alone() {
    let world = World::new();
    // Without an engine the list of topics is seldom read: the transaction finds out first.
    let process = world.spawn_with("a", &[("ENGINE__ENABLED", "false")]);
    let person = |mobile: &str| User::citizen(mobile, "pb").with_email(&world.address(mobile));
    world.egov.add_user(person("9876545001"));
    world.egov.add_user(person("9876545002"));
    let first = Client::connect(&process).send(&Request::login("9876545001"));
    assert_eq!(first.status, 201);
    world.kafka.delete_topics(&[&world.topics.email]);
    // It is not gone at once.
    let outcome = wait_for("an SMS goes out alone", || {
        let answer = Client::connect(&process).send(&Request::login("9876545002"));
        let outcomes = world.outcomes();
        let alone = outcomes
            .into_iter()
            .find(|one| one.summary() == "published/email-topic-missing");
        alone.ok_or(answer.status)
    });
    assert_eq!(outcome.word("door"), "http");
    let accepted = world.kafka.read(&world.topics.accepted);
    assert!(accepted.is_empty(), "nobody waits for it: {accepted:?}");
}

/// Asks for one number after another until an answer, or what it led to, is as wanted: a topic is
/// not gone at once when it is deleted. The last number.
fn ask_until(process: &Process, first: u32, wanted: impl Fn(&Answer) -> bool) -> String {
    let mut numbers = (first..).map(|number| format!("98765{number:05}"));
    wait_for("the topic is gone", || {
        let mobile = numbers.next().expect("there are many");
        let answer = Client::connect(process).send(&Request::register(&mobile));
        if wanted(&answer) {
            Ok(mobile)
        } else {
            Err(answer)
        }
    })
}

#[test]
fn an_sms_topic_that_goes_away_hands_the_request_over() {
    let world = World::new();
    let process = world.start("a");
    world.kafka.delete_topics(&[&world.topics.sms]);
    let accepted = || world.kafka.read(&world.topics.accepted);
    let mobile = ask_until(&process, 46_000, |answer| {
        assert_eq!(answer.status, 201);
        !accepted().is_empty()
    });
    assert_eq!(accepted()[0].key_text(), format!("pb.amritsar:{mobile}"));
    world.kafka.create_topic(&world.topics.sms, 2, &[]);
    wait_until("the stream sends it", || sms_of(&world, &mobile).len() == 1);
}

#[test]
fn without_a_topic_of_our_own_nothing_is_claimed_until_it_is_there() {
    let world = World::with(Setup::default().set("HTTP__CONFIRM_TIMEOUT", "1s"));
    let process = world.start("a");
    world.kafka.delete_topics(&[&world.topics.outcomes]);
    let refused = ask_until(&process, 47_000, |answer| {
        assert!(matches!(answer.status, 201 | 503), "{answer:?}");
        answer.body.contains("The OTP was not sent")
    });
    world.kafka.create_topic(&world.topics.outcomes, 2, &[]);
    ask_until(&process, 48_000, |answer| answer.status == 201);
    assert_eq!(
        sms_of(&world, &refused).len(),
        0,
        "what was refused stays so"
    );
}
