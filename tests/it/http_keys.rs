//! `Idempotency-Key` over HTTP: the same request with it sends once.

use std::time::Duration;

use nix::sys::signal::Signal;
use rstest::rstest;
use user_otp::egov::Service;
use user_otp::egov::standin::{Behaviour, Fault};

use crate::broker::Broker;
use crate::client::{Answer, Client};
use crate::http::CREATED;
use crate::kafka::wait_until;
use crate::process::Process;
use crate::redis_server::Redis;
use crate::request::Request;
use crate::world::{Setup, World};

#[track_caller]
fn send(process: &Process, request: &Request, key: &str) -> Answer {
    Client::connect(process).post(&request.body(), &[("Idempotency-Key", key)])
}

fn sharing(redis: &Redis) -> Setup {
    Setup::default()
        .set("LIMITS__REDIS", redis.address())
        .set("LIMITS__REDIS_TIMEOUT", "1s")
}

#[rstest]
#[case::platform("platform")]
#[case::uniform("uniform")]
fn a_repeat_gets_the_firsts_answer_and_sends_nothing(#[case] answers: &str) {
    let world = World::with(Setup::default().set("HTTP__ANSWERS", answers));
    let process = world.start("a");
    let request = Request::register("9876540001");
    for _ in 0..3 {
        let answer = send(&process, &request, "once");
        assert_eq!((answer.status, answer.body.as_str()), (201, CREATED));
    }
    let spelled_otherwise = Request {
        mobile: "98765 40001".to_owned(),
        ..request.clone()
    };
    assert_eq!(send(&process, &spelled_otherwise, "once").status, 201);
    world.wait_for_outcomes(1);
    let accepted = world.kafka.read(&world.topics.accepted).len();
    assert_eq!(accepted, usize::from(answers == "uniform"));
    assert_eq!(send(&process, &request, "twice").status, 201);
    world.wait_for_outcomes(2);
    assert_eq!((world.sms().len(), world.egov.calls(Service::Otp)), (2, 2));
}

#[test]
fn a_key_of_another_request_is_422() {
    let world = World::new();
    let process = world.start("a");
    let first = Request::register("9876540011");
    assert_eq!(send(&process, &first, "key").status, 201);
    let others = [
        Request::register("9876540012"),
        Request::login("9876540011"),
        Request {
            tenant: "pb.jalandhar",
            ..first.clone()
        },
    ];
    for other in others {
        let answer = send(&process, &other, "key");
        assert_eq!(answer.status, 422, "{other:?}");
        assert_eq!(
            answer.body,
            r#"{"responseInfo":null,"error":{"code":422,"message":"The Idempotency-Key was used for another request","description":null,"fields":[{"code":"OTP.IDEMPOTENCY_KEY_USED","message":"The Idempotency-Key was used for another request","field":"otp"}]}}"#
        );
    }
    assert_eq!(world.sms().len(), 1);
    let overlong = send(&process, &first, &"k".repeat(129));
    assert_eq!(overlong.status, 400);
    assert_eq!(
        overlong.body,
        concat!(
            r#"{"responseInfo":null,"error":{"code":400,"message":"Invalid OTP request","description":null,"fields":[{"#,
            r#""code":"OTP.IDEMPOTENCY_KEY_INVALID","message":"Idempotency key must be 1 to 128 printable ASCII characters","#,
            r#""field":"Idempotency-Key"}]}}"#
        )
    );
}

#[test]
fn any_other_answer_forgets_the_key() {
    let world = World::new();
    let process = world.start("a");
    let request = Request::register("9876540021");
    let refused = Behaviour::failing(Fault::status(403)).times(1);
    world.egov.set(Service::Otp, refused);
    assert_eq!(send(&process, &request, "key").status, 502);
    assert_eq!(send(&process, &request, "key").status, 201);
    let unknown = Request::login("9876540022");
    assert_eq!(send(&process, &unknown, "other").status, 400);
    let other = Request::register("9876540023");
    assert_eq!(send(&process, &other, "other").status, 201);
    assert_eq!(world.sms().len(), 2);
}

/// Two requests with one key at the same moment, each at one of these.
fn check_a_pair(world: &World, processes: [&Process; 2]) {
    world
        .egov
        .set(Service::Otp, Behaviour::slow(Duration::from_millis(500)));
    let request = Request::register("9876540031");
    std::thread::scope(|scope| {
        let pair = processes.map(|one| scope.spawn(|| send(one, &request, "pair")));
        for one in pair {
            assert_eq!(one.join().expect("it is answered").status, 201);
        }
    });
    assert_eq!((world.sms().len(), world.egov.calls(Service::Otp)), (1, 1));
}

#[test]
fn two_at_once_make_one_otp() {
    let world = World::new();
    let process = world.start("a");
    check_a_pair(&world, [&process, &process]);
}

#[test]
fn two_at_once_at_two_instances_on_one_redis_make_one_otp() {
    let redis = Redis::start();
    let world = World::with(sharing(&redis));
    let [one, other] = ["a", "b"].map(|name| world.start(name));
    check_a_pair(&world, [&one, &other]);
    let conflict = send(&other, &Request::register("9876540032"), "pair");
    assert_eq!(conflict.status, 422);
}

#[rstest]
#[case::with_redis(true)]
#[case::without(false)]
fn a_kill_forgets_keys_but_for_those_in_redis(#[case] shared: bool) {
    let redis = Redis::start();
    let world = World::with(if shared {
        sharing(&redis)
    } else {
        Setup::default()
    });
    let mut process = world.start("a");
    let request = Request::register("9876540041");
    assert_eq!(send(&process, &request, "key").status, 201);
    process.kill();
    let process = world.start("a");
    assert_eq!(send(&process, &request, "key").status, 201);
    assert_eq!(world.sms().len(), if shared { 1 } else { 2 });
}

#[test]
fn a_client_that_hangs_up_finds_its_answer_again() {
    let world = World::new();
    let process = world.start("a");
    world
        .egov
        .set(Service::Otp, Behaviour::slow(Duration::from_millis(500)));
    let request = Request::register("9876540051");
    let mut client = Client::connect(&process);
    let written = client.write(crate::client::post(
        &request.body(),
        &[("Idempotency-Key", "again")],
    ));
    written.expect("it is taken");
    assert!(world.wait_for_journal(|calls| calls.iter().any(|call| call.otp.is_some())));
    drop(client);
    assert_eq!(send(&process, &request, "again").status, 201);
    assert_eq!((world.sms().len(), world.egov.calls(Service::Otp)), (1, 1));
}

/// Until everything that a transaction needs to know is known: the OTPs that it cost. On a busy machine the
/// first may take longer than it is waited for.
#[track_caller]
fn warm_up(world: &World, process: &Process, request: &Request) -> usize {
    wait_until("a first one is sent", || {
        send(process, request, "first").status == 201
    });
    world.egov.calls(Service::Otp)
}

#[test]
fn what_may_have_been_sent_is_not_sent_again_and_is_201_once_it_is_known() {
    let broker = Broker::start();
    let setup = Setup {
        broker: Some(broker.address.clone()),
        ..Setup::default()
    };
    let world = World::with(setup.set("HTTP__CONFIRM_TIMEOUT", "1s"));
    let process = world.start("a");
    let request = Request::register("9876540061");
    let calls = warm_up(&world, &process, &request);
    broker.freeze();
    let unconfirmed = |answer: &Answer| answer.header("otp-delivery") == Some("unconfirmed");
    let answer = send(&process, &request, "key");
    assert!(answer.status == 503 && unconfirmed(&answer), "{answer:?}");
    let again = send(&process, &request, "key");
    assert!(again.status == 503 && unconfirmed(&again), "{again:?}");
    let other = Request::register("9876540062");
    assert_eq!(send(&process, &other, "key").status, 422);
    broker.thaw();
    wait_until("what became of it is known", || {
        let answer = send(&process, &request, "key");
        assert!(answer.status == 201 || unconfirmed(&answer), "{answer:?}");
        answer.status == 201
    });
    assert_eq!(world.sms().len(), 2);
    assert_eq!(world.egov.calls(Service::Otp), calls + 1);
}

#[test]
fn what_is_unconfirmed_when_a_process_is_to_end_becomes_known_before_it_does() {
    let (broker, redis) = (Broker::start(), Redis::start());
    let setup = Setup {
        broker: Some(broker.address.clone()),
        ..sharing(&redis)
    };
    let world = World::with(setup.set("HTTP__CONFIRM_TIMEOUT", "1s"));
    let mut process = world.start("a");
    let request = Request::register("9876540071");
    let calls = warm_up(&world, &process, &request);
    broker.freeze();
    let answer = send(&process, &request, "key");
    assert_eq!(answer.header("otp-delivery"), Some("unconfirmed"));
    assert_eq!(answer.header("retry-after"), None, "{answer:?}");
    let port = process.http_port();
    process.signal(Signal::SIGTERM);
    wait_until("it takes no more requests", || Client::to(port).is_err());
    broker.thaw();
    assert!(process.wait_ended().success());
    let process = world.start("a");
    assert_eq!(send(&process, &request, "key").status, 201);
    assert_eq!(world.sms().len(), 2);
    assert_eq!(world.egov.calls(Service::Otp), calls + 1);
}
