//! What the service says, and when it ends, where it cannot start.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use rstest::rstest;

use crate::broker::Broker;
use crate::command;
use crate::port::Port;
use crate::process::Process;
use crate::world::{Setup, World};

/// Until a busy machine has ended a process whose time is over.
const SLACK: Duration = Duration::from_secs(4);

/// It ends with exit code 1; what it said, and after how long.
#[track_caller]
fn fails(mut process: Process) -> (String, Duration) {
    let started = Instant::now();
    let status = process.wait_ended();
    let said = process.output.text();
    assert_eq!(status.code(), Some(1), "{said}");
    (said, started.elapsed())
}

#[track_caller]
fn assert_says(said: &str, words: &[&str]) {
    for word in words {
        assert!(said.contains(word), "{word:?} is not in:\n{said}");
    }
}

#[test]
fn a_combination_of_properties_that_the_client_refuses_is_said_in_its_words() {
    let world = World::new();
    let long = [("KAFKA__SESSION_TIMEOUT_MS", "300000")];
    let (said, _) = fails(world.spawn_with("a", &long));
    assert_says(&said, &["max.poll.interval.ms", "session.timeout.ms"]);
}

#[rstest]
#[case::kerberos(&[("KAFKA__SASL_MECHANISM", "GSSAPI")], "GSSAPI is not built in")]
#[case::kerberos_is_the_library_s_default(&[], "GSSAPI is not built in")]
#[case::token(&[("KAFKA__SASL_MECHANISM", "OAUTHBEARER")], "OAUTHBEARER is not built in")]
#[case::other_spelling(&[("KAFKA__SASL_MECHANISMS", "OAUTHBEARER")], "OAUTHBEARER is not built in")]
fn a_mechanism_that_is_not_built_in_is_said_at_once(
    #[case] mechanism: &[(&str, &str)],
    #[case] sentence: &str,
) {
    let world = World::new();
    let settings = [
        ("KAFKA__SECURITY_PROTOCOL", "SASL_PLAINTEXT"),
        ("KAFKA__STARTUP_TIMEOUT", "60s"),
    ];
    let (said, took) = fails(world.spawn_with("a", &[&settings, mechanism].concat()));
    assert_says(&said, &[sentence, "SCRAM-SHA-512"]);
    assert!(took < SLACK, "{took:?}");
}

#[rstest]
#[case::name_that_does_not_resolve("broker.invalid", None, "does not resolve")]
#[case::port_where_nobody_listens("127.0.0.1", None, "cannot be connected to")]
#[case::port_where_nobody_answers("127.0.0.1", Some(()), "no broker answers there")]
fn an_advertised_listener_that_cannot_be_reached_is_named_in_time(
    #[case] host: &str,
    #[case] listens: Option<()>,
    #[case] why: &str,
) {
    const PATIENCE: Duration = Duration::from_secs(10);
    let [entrance, other] = [(); 2].map(|()| Port::reserve());
    // The system takes connections to it, and nobody reads from them.
    let _listener = listens
        .map(|()| TcpListener::bind((host, other.number())).expect("the port is reserved for it"));
    let advertised = format!("{host}:{}", other.number());
    let port = entrance.number();
    let broker = Broker::advertising(entrance, &advertised);
    let world = World::with(
        Setup {
            broker: Some(broker.address.clone()),
            ..Setup::default()
        }
        .set("KAFKA__BROKERS", format!("127.0.0.1:{port}"))
        .set("KAFKA__STARTUP_TIMEOUT", "10s"),
    );
    let named = format!("broker 1 advertises {advertised}: ");
    let words = [named.as_str(), why, "advertised.listeners"];
    let in_time = |took: Duration| assert!(PATIENCE <= took && took < 2 * PATIENCE, "{took:?}");

    let (said, took) = fails(world.spawn("a"));
    let last = said.lines().last().unwrap_or_default();
    assert_says(last, &words);
    assert_says(last, &["kafka.startup_timeout (10s)"]);
    in_time(took);

    let started = Instant::now();
    let ran = command::run(&world, "topics plan", "");
    assert_eq!(ran.code, 1);
    assert_says(&ran.notes, &words);
    in_time(started.elapsed());

    let ran = command::run(&world, "check --timeout 5s", "");
    assert_says(&ran.out, &words);
}

#[test]
fn brokers_that_do_not_answer_are_given_up_in_time() {
    const PATIENCE: Duration = Duration::from_secs(3);
    let world = World::new();
    let unused = Port::reserve();
    let nobody = format!("127.0.0.1:{}", unused.number());
    let settings = [
        ("KAFKA__BROKERS", nobody.as_str()),
        ("KAFKA__STARTUP_TIMEOUT", "3s"),
    ];
    let (said, took) = fails(world.spawn_with("a", &settings));
    assert_says(&said, &[&nobody]);
    assert!(PATIENCE <= took && took < PATIENCE + SLACK, "{took:?}");
}

#[test]
fn a_transactional_id_without_a_coordinator_is_said_with_its_reason() {
    const PATIENCE: Duration = Duration::from_secs(15);
    let broker = Broker::with(&["transaction.state.log.replication.factor=3"]);
    let world = World::with(Setup {
        broker: Some(broker.address.clone()),
        ..Setup::default()
    });
    let settings = [("KAFKA__STARTUP_TIMEOUT", "15s")];
    let (said, took) = fails(world.spawn_with("a", &settings));
    let warnings = said
        .lines()
        .filter(|line| line.contains(" WARN ") && line.contains("COORDINATOR_NOT_AVAILABLE"));
    assert_eq!(warnings.count(), 1, "{said}");
    let last = said.lines().last().unwrap_or_default().to_owned();
    assert_says(
        &last,
        &[
            "COORDINATOR_NOT_AVAILABLE",
            "transaction.state.log.replication.factor",
        ],
    );
    assert!(took < PATIENCE + SLACK, "{took:?}");

    let ran = command::run(&world, "check --timeout 5s", "");
    let line = ran
        .out
        .lines()
        .find(|line| line.contains("__transaction_state"));
    let line = line.unwrap_or_default();
    assert_says(
        line,
        &["failure", "transaction.state.log.replication.factor"],
    );
}
