//! `docker-compose.yml` without a container engine: that it parses, that what is waited
//! for exists and can be waited for, and that the health checks tell health from trouble.

#![expect(clippy::panic, reason = "a helper that cannot go on says with what")]

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::Command;

use rstest::rstest;
use saphyr::{LoadableYamlNode as _, Yaml};

const FILE: &str = include_str!("../docker-compose.yml");

fn services() -> Vec<(String, Yaml<'static>)> {
    let mut documents = Yaml::load_from_str(FILE).expect("docker-compose.yml is YAML");
    assert_eq!(documents.len(), 1, "one document");
    pairs(
        documents
            .remove(0)
            .as_mapping_get("services")
            .expect("services"),
    )
}

fn pairs(mapping: &Yaml<'static>) -> Vec<(String, Yaml<'static>)> {
    let entries = mapping.as_mapping().expect("a mapping").iter();
    entries
        .map(|(name, value)| (text(name), value.clone()))
        .collect()
}

fn text(scalar: &Yaml<'static>) -> String {
    scalar
        .as_str()
        .unwrap_or_else(|| panic!("text, in quotes: {scalar:?}"))
        .to_owned()
}

fn service(name: &str) -> Yaml<'static> {
    let found = services().into_iter().find(|(other, _)| other == name);
    found.unwrap_or_else(|| panic!("no service {name}")).1
}

/// Whom a service waits for, and until when.
fn waits_for(service: &Yaml<'static>) -> Vec<(String, String)> {
    let Some(others) = service.as_mapping_get("depends_on") else {
        return Vec::new();
    };
    let condition =
        |other: &Yaml<'static>| text(other.as_mapping_get("condition").expect("a condition"));
    pairs(others)
        .iter()
        .map(|(name, other)| (name.clone(), condition(other)))
        .collect()
}

fn command(service: &Yaml<'static>) -> Vec<String> {
    let words = service
        .as_mapping_get("command")
        .and_then(Yaml::as_sequence);
    words.into_iter().flatten().map(text).collect()
}

#[test]
fn it_has_the_four_services_and_nothing_unknown() {
    let names: Vec<_> = services().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["kafka", "topics", "standin", "user-otp"]);
    let known = [
        "image",
        "build",
        "command",
        "environment",
        "ports",
        "depends_on",
        "healthcheck",
        "restart",
        "stop_grace_period",
    ];
    for (name, service) in services() {
        for (key, _) in pairs(&service) {
            assert!(known.contains(&key.as_str()), "{name}: {key}");
        }
    }
}

#[test]
fn each_runs_what_it_is_there_for() {
    assert_eq!(
        command(&service("topics")),
        ["topics", "apply", "--with-platform-topics"]
    );
    assert_eq!(
        command(&service("standin")),
        ["standin", "--listen", "0.0.0.0:8081"]
    );
    assert_eq!(command(&service("user-otp")), ["run"]);
    assert_eq!(
        text(service("kafka").as_mapping_get("image").expect("image")),
        "apache/kafka:4.1.1"
    );
}

#[test]
fn the_order_is_kafka_then_topics_then_the_service() {
    let healthy = |name: &str| (name.to_owned(), "service_healthy".to_owned());
    let done = |name: &str| (name.to_owned(), "service_completed_successfully".to_owned());
    assert_eq!(waits_for(&service("kafka")), []);
    assert_eq!(waits_for(&service("standin")), []);
    assert_eq!(waits_for(&service("topics")), [healthy("kafka")]);
    assert_eq!(
        waits_for(&service("user-otp")),
        [done("topics"), healthy("standin")]
    );
}

#[test]
fn what_is_waited_for_can_come_true() {
    for (name, waiting) in services() {
        for (other, condition) in waits_for(&waiting) {
            let other = service(&other);
            let checked = other.as_mapping_get("healthcheck").is_some();
            let ends = other.as_mapping_get("restart").and_then(Yaml::as_str) == Some("no");
            match condition.as_str() {
                "service_healthy" => assert!(checked, "{name} waits for no health check"),
                "service_completed_successfully" => assert!(ends, "{name} waits for ever"),
                unknown => panic!("{name}: {unknown}"),
            }
        }
    }
}

#[test]
fn only_kafka_and_user_otp_settings_are_set_and_as_text() {
    for (name, service) in services() {
        let prefix = if name == "kafka" {
            "KAFKA_"
        } else {
            "USER_OTP__"
        };
        let settings = service
            .as_mapping_get("environment")
            .map(pairs)
            .unwrap_or_default();
        for (key, value) in settings {
            assert!(key.starts_with(prefix), "{name}: {key}");
            assert!(!text(&value).is_empty(), "{name}: {key}");
        }
    }
}

#[test]
fn every_setting_of_ours_is_one_that_exists() {
    let defaults: toml::Table = include_str!("../config/default.toml")
        .parse()
        .expect("config/default.toml is TOML");
    for (_, service) in services().into_iter().filter(|(name, _)| name != "kafka") {
        let settings = service
            .as_mapping_get("environment")
            .map(pairs)
            .unwrap_or_default();
        for (key, _) in settings {
            let path = key.trim_start_matches("USER_OTP__").to_lowercase();
            let (section, name) = path.split_once("__").expect("USER_OTP__SECTION__KEY");
            assert!(defaults[section].get(name).is_some(), "{key}");
        }
    }
}

#[test]
fn addresses_name_services_of_this_file() {
    let known: Vec<_> = services().into_iter().map(|(name, _)| name).collect();
    let settings = pairs(
        service("user-otp")
            .as_mapping_get("environment")
            .expect("environment"),
    );
    for (key, value) in settings {
        let address = text(&value);
        let host = address
            .trim_start_matches("http://")
            .split(':')
            .next()
            .unwrap_or_default();
        assert!(known.iter().any(|name| name == host), "{key}: {address}");
    }
}

/// The command of a health check, asking this port instead of its own.
fn health_check(service: &Yaml<'static>, own: &str, port: u16) -> Command {
    let check = service
        .as_mapping_get("healthcheck")
        .expect("a health check");
    let words = check
        .as_mapping_get("test")
        .and_then(Yaml::as_sequence)
        .expect("a test");
    let words: Vec<_> = words.iter().map(text).collect();
    if words == ["CMD", "user-otp", "health"] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_user-otp"));
        command.arg("health");
        command.env("USER_OTP__HTTP__PORT", port.to_string());
        return command;
    }
    let [cmd, bash, flag, script] = words.as_slice() else {
        panic!("{words:?}")
    };
    assert_eq!([cmd, bash, flag], ["CMD", "bash", "-c"]);
    // Compose would take a dollar for a variable of its own.
    assert!(script.contains(own) && !script.contains('$'), "{script}");
    let mut command = Command::new(bash);
    command.args([flag, &script.replace(own, &format!("/{port}"))]);
    command
}

/// Answers one request with this status line; gives back the request's first line.
fn answer_once(listener: TcpListener, status: &'static str) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        let mut lines = BufReader::new(stream.try_clone().expect("a second handle")).lines();
        let first = lines.next().expect("a request").expect("a line");
        // To the empty line, as a server reads it.
        let _ = lines.map_while(Result::ok).find(String::is_empty);
        let _ = write!(stream, "HTTP/1.0 {status}\r\ncontent-length: 0\r\n\r\n");
        first
    })
}

#[rstest]
#[case::the_service("user-otp", "/8090", "GET /user-otp/health HTTP/1.1")]
#[case::the_stand_ins("standin", "/8081", "GET /_standin/health HTTP/1.0")]
fn a_health_check_asks_the_right_path_and_heeds_the_answer(
    #[case] name: &str,
    #[case] own_port: &str,
    #[case] request: &str,
    #[values(("200 OK", true), ("503 Service Unavailable", false))] answer: (&'static str, bool),
) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let (status, healthy) = answer;
    let server = answer_once(listener, status);
    let check = health_check(&service(name), own_port, port)
        .status()
        .expect("it can be run");
    // Should the check not have come, the server must not wait for ever.
    drop(TcpStream::connect(("127.0.0.1", port)));
    assert_eq!(server.join().expect("the server"), request);
    assert_eq!(check.success(), healthy);
}

#[test]
fn kafkas_health_check_tells_whether_it_listens() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let kafka = service("kafka");
    let check = |port| {
        health_check(&kafka, "/19092", port)
            .output()
            .expect("bash")
            .status
            .success()
    };
    assert!(check(port));
    // Reserved, and for nobody on loopback.
    assert!(!check(1));
}
