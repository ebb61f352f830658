//! The management port of a real process: what its metrics count, and what its health says.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::error::RDKafkaErrorCode;
use rstest::rstest;
use serde_json::Value;
use user_otp::egov::Service;
use user_otp::egov::standin::{Behaviour, Fault, Text, User};
use user_otp::engine::admin::Admin;
use user_otp::health::Group;
use user_otp::management::GroupWatch;
use user_otp::metrics::{ALL, Kind};

use crate::broker::Broker;
use crate::client::Client;
use crate::kafka::{Draft, wait_for, wait_until};
use crate::process::Process;
use crate::redis_server::Redis;
use crate::request::Request;
use crate::world::{Setup, World, now};

/// Samples by series, as a scraper reads them.
pub(crate) struct Scrape {
    text: String,
    samples: BTreeMap<String, f64>,
}

impl Scrape {
    #[track_caller]
    pub(crate) fn of(process: &Process) -> Self {
        let (status, text) = process.get("/metrics");
        assert_eq!(status, 200);
        let samples = text.lines().filter(|line| !line.starts_with('#'));
        let samples = samples.map(|line| {
            let (series, value) = line.rsplit_once(' ').expect("a series and its value");
            (series.to_owned(), value.parse().expect("a number"))
        });
        Self {
            samples: samples.collect(),
            text,
        }
    }

    /// The value of a series; 0 where there is none.
    pub(crate) fn get(&self, series: &str) -> f64 {
        self.samples.get(series).copied().unwrap_or_default()
    }

    /// The series of a metric that are not 0.
    fn counted(&self, name: &str) -> Vec<(String, f64)> {
        let of_it = |series: &str| series.split('{').next() == Some(name);
        let samples = self.samples.iter();
        samples
            .filter(|(series, value)| of_it(series) && **value != 0.0)
            .map(|(series, value)| (series[name.len()..].to_owned(), *value))
            .collect()
    }

    fn lag(&self, topic: &str) -> f64 {
        self.get(&format!("user_otp_lag_records{{topic=\"{topic}\"}}"))
    }
}

fn counts(expected: &[(&str, f64)]) -> Vec<(String, f64)> {
    expected
        .iter()
        .map(|(labels, value)| ((*labels).to_owned(), *value))
        .collect()
}

/// A producer whose clock is wrong is seen, and one whose clock is far off hears of it.
#[test]
fn a_producers_clock_that_is_wrong_is_no_silence() {
    const HOUR: i64 = 3_600_000;
    // As topics.toml has it.
    let bounds = [
        ("message.timestamp.before.max.ms", "604800000"),
        ("message.timestamp.after.max.ms", "3600000"),
    ];
    let world = World::with(Setup {
        request_topic: bounds.to_vec(),
        ..Setup::default()
    });
    let process = world.start("a");
    world.assert_works("9876560021", "right");
    let ask = |id: &str, off: i64| {
        let request = Request::register("9876560022").id(id);
        request.draft().timestamp(now() + off)
    };
    for (id, off) in [("ahead", HOUR / 2), ("behind", -HOUR / 20)] {
        world.publish(&ask(id, off));
        let outcome = world.wait_for_outcome(id);
        assert_eq!(outcome.word("outcome"), "published", "{id}");
    }
    for off in [2 * HOUR, -8 * 24 * HOUR] {
        let error = world
            .kafka
            .refusal(&world.topics.requests, &ask("far-off", off));
        let code = error.and_then(|error| error.rdkafka_error_code());
        assert_eq!(code, Some(RDKafkaErrorCode::InvalidTimestamp), "{off} ms");
    }
    let seen = Scrape::of(&process);
    let count = |metric: &str, up_to: &str| seen.get(&format!("{metric}_bucket{{le=\"{up_to}\"}}"));
    let ahead = |up_to| count("user_otp_record_ahead_seconds", up_to);
    assert_eq!((ahead("600"), ahead("3600")), (0.0, 1.0));
    let age = |up_to| count("user_otp_request_age_seconds", up_to);
    assert_eq!((age("60"), age("600"), age("+Inf")), (1.0, 2.0, 2.0));
}

#[test]
fn every_request_is_counted_once_by_how_it_ended() {
    let world = World::new();
    let process = world.start("a");
    for (mobile, person) in [("9876560001", "one"), ("9876560002", "two")] {
        let user = User::citizen(mobile, "pb").with_email(&world.address(person));
        world.egov.add_user(user);
    }
    world.egov.add_user(User::citizen("9876560003", "pb"));
    world.egov.set_text(Text::new(
        "en_IN",
        "sms.login.otp.msg",
        "no place for the code",
    ));
    world.request(&Request::login("9876560001").id("one"));
    world.request(&Request::login("9876560002").id("two"));
    world.request(&Request::login("9876560009").id("unknown"));
    world.request(&Request::register("98765").id("invalid"));
    world.publish(&Draft::of("{").header("otp-event-id", "junk"));
    world.wait_for_outcomes(5);
    // One whose user is looked up, and whose OTP is refused; one that is retried first.
    world.egov.set(
        Service::Otp,
        Behaviour::failing(Fault::status(404)).times(1),
    );
    world.request(&Request::login("9876560003").id("refused"));
    world.wait_for_outcome("refused");
    world.egov.set(
        Service::Otp,
        Behaviour::failing(Fault::status(503)).times(3),
    );
    world.request(&Request::login("9876560003").id("retried"));
    assert_eq!(world.wait_for_outcome("retried").summary(), "published");
    world.wait_for_no_lag();

    // What is committed is counted a moment later.
    let seen = wait_for("seven requests are counted", || {
        let seen = Scrape::of(&process);
        let all: f64 = seen
            .counted("user_otp_requests_total")
            .iter()
            .map(|(_, n)| n)
            .sum();
        if all >= 7.0 { Ok(seen) } else { Err(all) }
    });
    assert_eq!(
        seen.counted("user_otp_requests_total"),
        counts(&[
            (
                r#"{door="stream",outcome="dead-lettered",code="not-json"}"#,
                1.0
            ),
            (
                r#"{door="stream",outcome="dead-lettered",code="service-refused"}"#,
                1.0
            ),
            (r#"{door="stream",outcome="published",code="none"}"#, 3.0),
            (
                r#"{door="stream",outcome="rejected",code="OTP.MOBILE_NUMBER_VALIDATION_FAILED"}"#,
                1.0
            ),
            (
                r#"{door="stream",outcome="rejected",code="OTP.UNKNOWN_CREDENTIAL"}"#,
                1.0
            ),
        ])
    );
    assert_eq!(
        seen.counted("user_otp_dead_letters_total"),
        counts(&[
            (r#"{disposition="poison",code="not-json"}"#, 1.0),
            (r#"{disposition="refused",code="service-refused"}"#, 1.0),
        ])
    );
    assert_eq!(
        seen.counted("user_otp_retries_total"),
        counts(&[(r#"{code="service-unavailable"}"#, 1.0)])
    );
    assert_eq!(
        seen.get(r#"user_otp_publish_duration_seconds_count{door="stream"}"#),
        3.0
    );
    assert_eq!(seen.get("user_otp_retry_lateness_seconds_count"), 1.0);
    assert_eq!(
        seen.counted("user_otp_service_calls_total"),
        counts(&[
            (r#"{service="otp",result="service-refused"}"#, 1.0),
            (r#"{service="otp",result="service-unavailable"}"#, 3.0),
            (r#"{service="otp",result="success"}"#, 3.0),
            (
                r#"{service="texts",result="success"}"#,
                world.egov.calls(Service::Texts) as f64
            ),
            (
                r#"{service="users",result="success"}"#,
                world.egov.calls(Service::Users) as f64
            ),
        ])
    );
    let calls = seen.get(r#"user_otp_service_call_duration_seconds_count{service="otp"}"#);
    assert_eq!(calls, 7.0);
    assert_eq!(
        seen.get(r#"user_otp_service_calls_limit{service="otp"}"#),
        256.0
    );
    assert_eq!(
        seen.counted("user_otp_templates_unusable_total"),
        counts(&[(
            r#"{template="sms.login.otp.msg"}"#,
            world.egov.calls(Service::Texts) as f64
        )])
    );
    assert!(seen.get(r#"user_otp_transactions_total{door="stream",end="committed"}"#) >= 3.0);
    assert!(seen.get(r#"user_otp_rebalances_total{event="assigned"}"#) >= 1.0);
    let partitions: usize = world
        .topics
        .inputs()
        .iter()
        .map(|topic| world.kafka.partitions(topic).len())
        .sum();
    assert_eq!(seen.get("user_otp_partitions_assigned"), partitions as f64);
    for gauge in [
        "user_otp_window_requests",
        "user_otp_window_bytes",
        "user_otp_retries_parked",
    ] {
        assert_eq!(seen.get(gauge), 0.0, "{gauge}");
    }
    assert_names_and_helps(&seen.text);
}

/// Metrics that are declared, and no other, in their order; one without a series yet is not shown.
fn assert_names_and_helps(text: &str) {
    let mut expected = Vec::new();
    for metric in ALL {
        let (name, kind) = match metric.kind {
            Kind::Counter => (format!("{}_total", metric.name), "counter"),
            Kind::Gauge => (metric.name.to_owned(), "gauge"),
            Kind::Histogram => (metric.name.to_owned(), "histogram"),
        };
        let samples = text.lines().filter(|line| !line.starts_with('#'));
        if samples.into_iter().any(|line| line.starts_with(&name)) {
            expected.push(format!("# HELP {name} {}.", metric.help));
            expected.push(format!("# TYPE {name} {kind}"));
        }
    }
    let comments: Vec<_> = text.lines().filter(|line| line.starts_with('#')).collect();
    assert_eq!(comments, expected);
    let shown = expected.len() / 2;
    assert!(shown + 1 >= ALL.len(), "only {shown} are shown");
}

#[test]
fn lag_is_what_is_not_finished_below_the_last_stable_offset() {
    let world = World::with(
        Setup {
            partitions: 1,
            ..Setup::default()
        }
        .set("ENGINE__WINDOW", "4"),
    );
    let topic = world.topics.requests.clone();
    world.egov.everyone(true);
    world
        .egov
        .set(Service::Users, Behaviour::failing(Fault::Hang));
    let process = world.spawn_with("a", &[("USERS__TIMEOUT", "60s")]);
    let mut process = process;
    process.wait_ready();
    let numbers = 0..10;
    let logins: Vec<_> = numbers
        .map(|number| Request::login(&format!("98765610{number:02}")))
        .collect();
    world.requests(&logins);
    // Four are in hand, six wait in the topic.
    wait_for("ten records lag", || {
        let seen = Scrape::of(&process);
        let (lag, open) = (seen.lag(&topic), seen.get("user_otp_window_requests"));
        if (lag, open) == (10.0, 4.0) {
            Ok(())
        } else {
            Err((lag, open))
        }
    });
    let age = Scrape::of(&process).get(&format!("user_otp_lag_seconds{{topic=\"{topic}\"}}"));
    assert!(age > 0.0 && age < 300.0, "{age} s");
    let waiting = r#"user_otp_service_calls_in_progress{service="users"}"#;
    assert_eq!(Scrape::of(&process).get(waiting), 4.0);
    process.kill();
    world.egov.set(Service::Users, Behaviour::well());

    // Records of an open transaction are not there yet for who reads committed ones.
    let mut process = world.spawn("b");
    process.wait_ready();
    world.wait_for_outcomes(10);
    let transaction = world.kafka.open_records(&topic, 0, &["{}", "{}", "{}"]);
    world.request(&Request::login("9876561099").id("behind"));
    let reads = || {
        let text = process.output.text();
        text.matches("last stable offsets read").count()
    };
    let before = reads();
    wait_until("the offsets are read again", || reads() >= before + 2);
    assert_eq!(
        Scrape::of(&process).lag(&topic),
        0.0,
        "what is above is not ready to be read"
    );
    transaction.abort();
    assert_eq!(world.wait_for_outcome("behind").summary(), "published");
    wait_for("nothing lags", || {
        let lag = Scrape::of(&process).counted("user_otp_lag_records");
        if lag.is_empty() { Ok(()) } else { Err(lag) }
    });
}

/// A health page: its status line's, its own, and the dependencies that are not up.
pub(crate) fn health(process: &Process, path: &str) -> (u16, String, BTreeMap<String, String>) {
    let (status, body) = process.get(path);
    let report: Value = serde_json::from_str(&body).expect("a report of JSON");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let checks = report["checks"].as_array().expect("checks");
    let troubles = checks.iter().filter(|check| check["status"] != "UP");
    let troubles = troubles.map(|check| (text(&check["name"]), text(&check["reason"])));
    (status, text(&report["status"]), troubles.collect())
}

pub(crate) fn trouble(name: &str, reason: &str) -> BTreeMap<String, String> {
    BTreeMap::from([(name.to_owned(), reason.to_owned())])
}

#[test]
fn ready_names_what_is_missing_and_a_service_that_is_down_changes_nothing() {
    let world = World::with(Setup {
        email: false,
        ..Setup::default()
    });
    let process = world.start("a");
    let no_email = trouble("email-topic", "it is missing: SMS go alone");
    assert_eq!(
        health(&process, "/health/ready"),
        (200, "DEGRADED".to_owned(), no_email)
    );
    assert_eq!(
        health(&process, "/health/live"),
        (200, "UP".to_owned(), BTreeMap::new())
    );
    world.kafka.create_topic(&world.topics.email, 1, &[]);
    world
        .egov
        .set(Service::Users, Behaviour::failing(Fault::status(503)));
    world.request(&Request::login("9876562001").id("outage"));
    let down = (
        200,
        "UP".to_owned(),
        trouble("users", "service-unavailable"),
    );
    wait_for("the service is said to be down", || {
        let ready = health(&process, "/health/ready");
        if ready == down { Ok(()) } else { Err(ready) }
    });
    assert_eq!(
        health(&process, "/health/live"),
        (200, "UP".to_owned(), BTreeMap::new())
    );
    world.egov.set(Service::Users, Behaviour::well());
    world.wait_for_outcome("outage");
    assert_eq!(
        health(&process, "/health/ready"),
        (200, "UP".to_owned(), BTreeMap::new())
    );
}

#[test]
fn a_partition_whose_start_is_pending_makes_not_ready() {
    let world = World::new();
    let mut process = world.start("a");
    world.assert_works("9876563001", "first");
    world.wait_for_no_lag();
    assert!(process.terminate().success());
    drop(process);
    let held = (world.topics.requests.clone(), 0);
    let transaction = world.kafka.open_offsets(&world.name, &held, 0);
    let process = world.start("a");
    let reason = "where a partition starts is not known yet";
    let pending = (503, "DOWN".to_owned(), trouble("kafka-consumer", reason));
    assert_eq!(health(&process, "/health/ready"), pending);
    // The others are asked for one by one.
    wait_until("one is left pending", || {
        Scrape::of(&process).get("user_otp_partitions_pending") == 1.0
    });
    assert_eq!(health(&process, "/health/ready"), pending);
    assert_eq!(health(&process, "/health/live").0, 200);
    transaction.abort();
    wait_until("it is ready", || health(&process, "/health/ready").0 == 200);
}

#[test]
fn kafka_being_away_makes_not_ready_and_never_dead() {
    let broker = Broker::start();
    let world = World::with(Setup {
        broker: Some(broker.address.clone()),
        ..Setup::default()
    });
    let process = world.start("a");
    assert_eq!(health(&process, "/health/ready").0, 200);
    world.egov.everyone(true);
    world
        .egov
        .set(Service::Otp, Behaviour::slow(Duration::from_secs(2)));
    world.request(&Request::login("9876564001").id("away"));
    assert!(
        world.wait_for_journal(|calls| calls.iter().any(|call| call.service == Service::Users))
    );
    // Its result finds no Kafka.
    broker.stop();
    let mut both = trouble("kafka-producer", "Kafka does not confirm");
    both.extend(trouble(
        "kafka-consumer",
        "not a member of the consumer group",
    ));
    let away = (503, "DOWN".to_owned(), both);
    wait_for("Kafka is said not to confirm", || {
        let ready = health(&process, "/health/ready");
        if ready == away { Ok(()) } else { Err(ready) }
    });
    assert_eq!(
        health(&process, "/health/live"),
        (200, "UP".to_owned(), BTreeMap::new())
    );
    // A call that hangs for a minute ends the process; this test does not wait for that.
    drop(process);
    broker.start_again();
    let process = world.start("a");
    assert_eq!(world.wait_for_outcome("away").summary(), "published");
    wait_until("it is ready", || health(&process, "/health/ready").0 == 200);
}

#[test]
fn the_members_of_a_group_are_the_live_engines() {
    let world = World::new();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let mut properties = ClientConfig::new();
    properties.set("bootstrap.servers", &world.kafka.broker);
    let admin = runtime
        .block_on(Admin::connect(properties, Duration::from_secs(60)))
        .expect("the broker answers");
    let members = || {
        runtime
            .block_on(admin.group_members(&world.name))
            .expect("an answer")
    };
    assert_eq!(members(), 0, "nobody has been there");
    let mut a = world.start("a");
    let b = world.start("b");
    assert_eq!(members(), 2);
    let look = |classic| {
        let watch = GroupWatch::new(admin.clone(), world.name.clone(), classic);
        runtime.block_on(watch.look())
    };
    assert_eq!(look(true), Group::Members(2));
    assert_eq!(
        look(false),
        Group::Untold,
        "the newer protocol does not say"
    );
    assert!(a.terminate().success());
    wait_until("one is left", || members() == 1);
    drop(b);
}

#[test]
fn over_http_every_answer_is_counted_and_every_end_once() {
    let world = World::with(Setup::default().set("LIMITS__MODE", "on"));
    let process = world.start("a");
    let mut client = Client::connect(&process);
    let keyed = [("Idempotency-Key", "key")];
    let first = Request::register("9876560101").body();
    for status in [201, 201] {
        assert_eq!(client.post(&first, &keyed).status, status);
    }
    let mut ask = |request: &Request, status: u16| {
        assert_eq!(client.send(request).status, status, "{request:?}");
    };
    ask(&Request::register("9876560101"), 429);
    ask(&Request::login("9876560102"), 400);
    let refused = Behaviour::failing(Fault::status(403)).times(1);
    world.egov.set(Service::Otp, refused);
    ask(&Request::register("9876560103"), 502);
    let away = Behaviour::failing(Fault::status(503)).times(3);
    world.egov.set(Service::Users, away);
    ask(&Request::register("9876560104"), 201);
    client
        .write("GET /user-otp/health HTTP/1.1\r\nHost: x\r\n\r\n")
        .expect("it is taken");
    assert_eq!(client.answer().expect("it is answered").status, 200);
    world.wait_for_outcomes(2);

    let published = r#"{door="http",outcome="published",code="none"}"#;
    let seen = wait_for("what the stream carried on with is counted", || {
        let seen = Scrape::of(&process);
        let times = seen.get(&format!("user_otp_requests_total{published}"));
        if times >= 2.0 { Ok(seen) } else { Err(times) }
    });
    assert_eq!(
        seen.counted("user_otp_requests_total"),
        counts(&[
            (
                r#"{door="http",outcome="limited",code="limit-number-type"}"#,
                1.0
            ),
            (published, 2.0),
            (
                r#"{door="http",outcome="refused",code="service-refused"}"#,
                1.0
            ),
            (
                r#"{door="http",outcome="rejected",code="OTP.UNKNOWN_CREDENTIAL"}"#,
                1.0
            ),
        ])
    );
    assert_eq!(
        seen.counted("user_otp_http_answers_total"),
        counts(&[
            (r#"{status="201"}"#, 3.0),
            (r#"{status="400"}"#, 1.0),
            (r#"{status="429"}"#, 1.0),
            (r#"{status="502"}"#, 1.0),
        ])
    );
    assert_eq!(
        seen.counted("user_otp_limits_reached_total"),
        counts(&[(r#"{limit="limit-number-type",effect="refused"}"#, 1.0)])
    );
    for (series, times) in [
        ("user_otp_http_handed_over_total", 1.0),
        ("user_otp_http_requests_in_progress", 0.0),
        (
            r#"user_otp_publish_duration_seconds_count{door="http"}"#,
            2.0,
        ),
        (
            r#"user_otp_transactions_total{door="http",end="committed"}"#,
            2.0,
        ),
    ] {
        assert_eq!(seen.get(series), times, "{series}");
    }
}

#[test]
fn http_without_any_live_engine_is_not_ready_and_says_so() {
    let world = World::new();
    let http = world.spawn_with("http", &[("ENGINE__ENABLED", "false")]);
    assert_eq!(
        Client::connect(&http)
            .send(&Request::register("9876560201"))
            .status,
        201
    );
    assert_eq!(
        health(&http, "/health/ready"),
        (
            503,
            "DOWN".to_owned(),
            trouble("engines", "no engine of the group is alive")
        )
    );
    assert_eq!(health(&http, "/health/live").0, 200);
    let _engine = world.spawn_with("engine", &[("HTTP__ENABLED", "false")]);
    wait_for("an engine is alive, and it is ready", || {
        let seen = health(&http, "/health/ready");
        if seen.0 == 200 && seen.2.is_empty() {
            Ok(())
        } else {
            Err(seen)
        }
    });
}

#[rstest]
#[case::for_limits("on")]
#[case::for_keys_alone("off")]
fn redis_being_away_degrades_and_requests_are_served(#[case] limits: &str) {
    let mut redis = Redis::start();
    let setup = Setup::default()
        .set("LIMITS__MODE", limits)
        .set("LIMITS__REDIS", redis.address())
        .set("LIMITS__REDIS_TIMEOUT", "1s");
    let world = World::with(setup);
    let process = world.start("a");
    assert_eq!(
        health(&process, "/health/ready"),
        (200, "UP".to_owned(), BTreeMap::new())
    );
    redis.kill();
    let request = Request::register("9876560301");
    let keyed = || Client::connect(&process).post(&request.body(), &[("Idempotency-Key", "key")]);
    let degraded = (
        200,
        "DEGRADED".to_owned(),
        trouble("redis", "each instance goes by its own memory"),
    );
    assert_eq!((keyed().status, keyed().status), (201, 201));
    wait_for("it is said", || {
        let seen = health(&process, "/health/ready");
        if seen == degraded { Ok(()) } else { Err(seen) }
    });
    assert_eq!(world.sms().len(), 1);
}

#[test]
fn requests_that_are_sent_by_halves_do_not_keep_the_management_port() {
    /// More than there are places.
    const HALVES: usize = 80;
    let world = World::new();
    let process = world.start("a");
    let port = process.management_port().expect("it listens");
    let half = |_| {
        let mut client = Client::to(port).ok()?;
        client.write("GET /metrics HTTP/1.1\r\nHo").ok()?;
        Some(client)
    };
    let halves: Vec<_> = (0..HALVES).filter_map(half).collect();
    // Those that hold the places are closed when their time is over.
    wait_until("the port answers again", || {
        process
            .try_get("/health/live")
            .is_some_and(|(status, _)| status == 200)
    });
    for mut client in halves {
        assert!(client.answer().is_err(), "it is closed");
    }
}
