//! Sending limits over HTTP.

use std::io::Write as _;
use std::process::{Command, Stdio};

use rstest::rstest;
use user_otp::egov::Service;
use user_otp::egov::standin::{Behaviour, Fault, User};

use crate::client::{Answer, Client};
use crate::kafka::wait_until;
use crate::process::Process;
use crate::redis_server::Redis;
use crate::request::Request;
use crate::world::{Setup, TIERS, World};

/// A world with limits as they are by default, but for a window that no test outlives.
fn limited() -> Setup {
    Setup::default()
        .set("LIMITS__MODE", "on")
        .set("LIMITS__NUMBER_TYPE_WINDOW", "1h")
}

#[track_caller]
fn send(process: &Process, request: &Request) -> Answer {
    Client::connect(process).send(request)
}

const TOO_SOON: &str = "limited/limit-number-type";

#[rstest]
#[case::platform("platform")]
#[case::uniform("uniform")]
fn too_early_is_429_and_tells_nobody_who_is_registered(#[case] answers: &str) {
    let world = World::with(limited().set("HTTP__ANSWERS", answers));
    let process = world.start("a");
    world.egov.add_user(User::citizen("9876550001", "pb"));
    for mobile in ["9876550001", "9876550002"] {
        let first = send(&process, &Request::login(mobile)).status;
        assert!(first == 201 || answers == "platform", "{first}");
        let second = send(&process, &Request::login(mobile));
        assert_eq!(
            (second.status, second.body.as_str()),
            (
                429,
                r#"{"responseInfo":null,"error":{"code":429,"message":"Too many OTP requests, please try again later","description":null,"fields":[{"code":"OTP.TOO_MANY_REQUESTS","message":"Too many OTP requests, please try again later","field":"otp"}]}}"#
            )
        );
        let pause = second.header("retry-after").expect("when to try again");
        let pause: u64 = pause.parse().expect("whole seconds");
        assert!((3_000..=3_600).contains(&pause), "{pause}");
    }
    if answers == "uniform" {
        // Charged at the door: the stream does not charge them once more, and refuse them.
        let mut ends: Vec<_> = world
            .wait_for_outcomes(2)
            .iter()
            .map(|one| one.summary())
            .collect();
        ends.sort();
        assert_eq!(ends, ["published", "rejected/OTP.UNKNOWN_CREDENTIAL"]);
    }
    assert_eq!(world.sms().len(), 1);
}

#[test]
fn both_doors_share_a_window() {
    let world = World::with(limited());
    let process = world.start("a");
    world.egov.everyone(true);
    assert_eq!(send(&process, &Request::login("9876550011")).status, 201);
    world.request(&Request::login("9876550011").id("stream"));
    assert_eq!(world.wait_for_outcome("stream").summary(), TOO_SOON);
    world.request(&Request::login("9876550012").id("first"));
    assert_eq!(world.wait_for_outcome("first").summary(), "published");
    assert_eq!(send(&process, &Request::login("9876550012")).status, 429);
    assert_eq!(world.sms().len(), 2);
}

#[test]
fn what_is_handed_over_was_charged_once() {
    let world = World::with(limited());
    let process = world.start("a");
    let outage = Behaviour::failing(Fault::status(503)).times(3);
    world.egov.set(Service::Users, outage);
    let request = Request::register("9876550021");
    assert_eq!(send(&process, &request).status, 201);
    let accepted = world.kafka.read(&world.topics.accepted);
    assert_eq!(accepted.len(), 1);
    assert_eq!(accepted[0].header("otp-charged"), Some("true"));
    let outcomes = world.wait_for_outcomes(1);
    assert_eq!(outcomes[0].summary(), "published");
    assert_eq!(send(&process, &request).status, 429);
}

#[rstest]
#[case::in_memory(false)]
#[case::in_redis(true)]
fn a_failure_of_ours_costs_the_citizen_nothing_and_a_repeat_neither(#[case] shared: bool) {
    let redis = Redis::start();
    let setup = if shared {
        limited()
            .set("LIMITS__REDIS", redis.address())
            .set("LIMITS__REDIS_TIMEOUT", "1s")
    } else {
        limited()
    };
    let world = World::with(setup);
    let process = world.start("a");
    let request = Request::register("9876550031");
    let refused = Behaviour::failing(Fault::status(403)).times(1);
    world.egov.set(Service::Otp, refused);
    assert_eq!(send(&process, &request).status, 502);
    let keyed = || Client::connect(&process).post(&request.body(), &[("Idempotency-Key", "k")]);
    // Redis is told of it in the background.
    wait_until("it is given back", || keyed().status == 201);
    assert_eq!(keyed().status, 201, "a repeat is no request");
    assert_eq!(send(&process, &request).status, 429);
    assert_eq!(world.sms().len(), 1);
}

#[test]
fn a_client_address_is_the_one_that_a_trusted_proxy_saw() {
    let setup = limited()
        .set("LIMITS__ADDRESS", "on")
        .set("LIMITS__ADDRESS_COUNT", "2")
        .set("LIMITS__ADDRESS_WINDOW", "1h")
        .set("LIMITS__PREFIX", "off");
    let world = World::with(setup);
    let behind = world.spawn_with(
        "behind",
        &[("HTTP__TRUSTED_PROXIES", "127.0.0.0/8,10.1.2.3")],
    );
    let mut numbers = (0..).map(|number| format!("98765501{number:02}"));
    let mut from = |process: &Process, forwarded: &str| {
        let request = Request::register(&numbers.next().expect("there are many"));
        let headers = [("X-Forwarded-For", forwarded)];
        Client::connect(process)
            .post(&request.body(), &headers)
            .status
    };
    assert_eq!(from(&behind, "203.0.113.1"), 201);
    assert_eq!(from(&behind, "192.0.2.1, 203.0.113.1, 10.1.2.3"), 201);
    assert_eq!(from(&behind, "192.0.2.2, 203.0.113.1"), 429);
    assert_eq!(
        from(&behind, "203.0.113.1, 203.0.113.2"),
        201,
        "another client"
    );
    // Whoever is not behind one may write what they like, and shares an address with nobody.
    let direct = world.spawn_with("direct", &[("HTTP__TRUSTED_PROXIES", "10.1.2.3")]);
    for _ in 0..4 {
        assert_eq!(from(&direct, "203.0.113.3"), 201);
    }
}

#[test]
fn who_was_not_charged_at_the_door_is_charged_by_the_stream_as_the_same_client() {
    let setup = limited()
        .set("HTTP__TRUSTED_PROXIES", "127.0.0.0/8")
        .set("LIMITS__ADDRESS", "on")
        .set("LIMITS__ADDRESS_COUNT", "2")
        .set("LIMITS__ADDRESS_WINDOW", "1h");
    let world = World::with(setup);
    let process = world.spawn_with("a", &[("MDMS__URL", &world.egov.url())]);
    let from = |forwarded: &str, mobile: &str| {
        let body = Request::register(mobile).body();
        let answer = Client::connect(&process).post(&body, &[("X-Forwarded-For", forwarded)]);
        assert_eq!(answer.status, 201, "{mobile}");
    };
    // Without rules nobody can tell whether it is a request at all: it is not charged yet.
    world
        .egov
        .set(Service::Rules, Behaviour::failing(Fault::status(503)));
    from("203.0.113.1", "9876550201");
    from("203.0.113.1", "9876550202");
    for accepted in world.kafka.read(&world.topics.accepted) {
        assert_eq!(accepted.header("otp-charged"), None);
        assert!(accepted.header("otp-client").is_some());
        let all = format!("{:?} {}", accepted.headers, accepted.text());
        assert!(!all.contains("203.0.113"), "{all}");
    }
    wait_until("the stream could not, either", || {
        world.retries(TIERS[1]).len() >= 2
    });
    world.egov.set(Service::Rules, Behaviour::well());
    assert_eq!(world.wait_for_outcomes(2).len(), 2);
    from("203.0.113.2", "9876550203");
    let third = Client::connect(&process).post(
        &Request::register("9876550204").body(),
        &[("X-Forwarded-For", "203.0.113.1")],
    );
    assert_eq!(third.status, 429, "it has had its two");
    assert_eq!(world.sms().len(), 3);
}

/// `user-otp limits ACTION --mobile -`, with the number on standard input: what it says.
#[track_caller]
fn support(world: &World, action: &str, mobile: &str) -> String {
    let mut child = Command::new(env!("CARGO_BIN_EXE_user-otp"))
        .args(["limits", action, "--mobile", "-"])
        .env_clear()
        .envs(world.environment("support", &[("LOG__LEVEL", "warn")]))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("user-otp starts");
    let mut input = child.stdin.take().expect("its stdin is piped");
    writeln!(input, "{mobile}").expect("it reads");
    drop(input);
    let output = child.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let all = format!("{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{all}");
    assert!(!all.contains(mobile), "{all}");
    said
}

#[test]
fn support_shows_and_clears_what_a_number_was_charged() {
    let redis = Redis::start();
    let setup = limited()
        .set("LIMITS__REDIS", redis.address())
        .set("LIMITS__REDIS_TIMEOUT", "1s");
    let world = World::with(setup);
    let process = world.start("a");
    let request = Request::register("9876550301");
    assert_eq!(send(&process, &request).status, 201);
    assert_eq!(send(&process, &request).status, 429);
    let shown = support(&world, "show", "9876550301");
    let rows: Vec<Vec<&str>> = shown
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    let charged = |limit: &str, kind: &str, count: &str| {
        rows.iter().any(|row| {
            row.starts_with(&[limit, kind]) && row.windows(3).any(|part| part == ["1", "of", count])
        })
    };
    assert!(charged("limit-number-type", "register", "1"), "{shown}");
    assert!(charged("limit-number", "any", "5"), "{shown}");
    assert!(!charged("limit-number-type", "login", "1"), "{shown}");
    // What the instance itself has seen of it counts only while Redis is away.
    support(&world, "clear", "9876550301");
    assert_eq!(send(&process, &request).status, 201);
}
