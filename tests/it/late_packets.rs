//! Requests of a producer that arrive late: the connection broke on our side, the library has repeated them with
//! success, no error was said, and the first copy is still on its way.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use user_otp::egov::standin::Text;

use crate::behind_a_proxy::Between;
use crate::client::{Client, post};
use crate::command::{run, start};
use crate::kafka::wait_until;
use crate::kafka_proxy::{Action, Api, Rule};
use crate::ops_jobs::{id_in, letter};
use crate::process::Process;
use crate::request::Request;
use crate::sizes::long_text;
use crate::traffic::Traffic;

const SESSION: &str = "6000";

/// A process that has served ten requests: no offset waits to be committed.
fn served(between: &Between, traffic: &Traffic) -> Process {
    let without_http = [("HTTP__ENABLED", "false")];
    let mut process = between.world.spawn_with("a", &without_http);
    process.wait_ready();
    traffic.publish(&between.world, 10);
    traffic.assert_exactly_once(&between.world);
    process
}

fn new_producers(process: &Process) -> usize {
    let said = process.output.text();
    said.lines()
        .filter(|line| line.contains("building the") && line.contains("producer"))
        .count()
}

#[test]
fn a_late_commit_ends_no_later_transaction() {
    let between = Between::start(SESSION);
    let (world, proxy) = (&between.world, &between.proxy);
    let traffic = Traffic::of(20);
    let mut process = served(&between, &traffic);
    proxy.add(Rule::next_commit(Action::Hold));
    proxy.add(Rule::next(Api::TXN_OFFSET_COMMIT, Action::Block).once_held());
    traffic.publish(world, 1);
    proxy.wait_held(1);
    world.wait_for_outcomes(11);
    // The next transaction has its SMS and its outcome, and no offset.
    let produced = proxy.answers(Api::PRODUCE);
    traffic.publish(world, 1);
    proxy.wait_blocked(Api::TXN_OFFSET_COMMIT);
    proxy.wait_answered(Api::PRODUCE, produced + 2);
    let late = proxy.release();
    process.kill();
    let _again = world.start("a");
    traffic.assert_exactly_once(world);
    assert_ne!(late.end_txn_error(), 0, "the broker refused it");
}

#[test]
fn a_late_abort_ends_no_later_transaction() {
    let between = Between::start(SESSION);
    let (world, proxy) = (&between.world, &between.proxy);
    let text = Text::new("mr_IN", "sms.login.otp.msg", &long_text());
    world.egov.set_text(text);
    let process = world.start("a");
    let topic = &world.topics.sms;
    world.kafka.set_topic(topic, "max.message.bytes", "2500");
    proxy.add(Rule::next_abort(Action::Hold));
    proxy.add(Rule::next(Api::ADD_OFFSETS, Action::Block).once_held());
    // Of one person: their SMS are one batch, which is refused as a whole; then the first one goes alone.
    let fits = Request::login("9876540101").id("fits");
    let long = Request {
        locale: Some("mr_IN"),
        ..Request::login("9876540101").id("long")
    };
    world.requests(&[fits, long]);
    proxy.wait_held(1);
    let produced = proxy.answers(Api::PRODUCE);
    proxy.wait_blocked(Api::ADD_OFFSETS);
    proxy.wait_answered(Api::PRODUCE, produced + 2);
    let late = proxy.release();
    proxy.open();
    assert_eq!(world.wait_for_outcome("fits").summary(), "published");
    let long = world.wait_for_outcome("long");
    assert_eq!(long.word("code"), "output-too-large");
    world.wait_for_no_lag();
    assert_eq!((world.sms().len(), world.dead_letters().len()), (1, 1));
    assert_ne!(late.end_txn_error(), 0, "the broker refused it");
    drop(process);
}

#[test]
fn late_offsets_do_not_replace_later_ones() {
    let between = Between::start(SESSION);
    let (world, proxy) = (&between.world, &between.proxy);
    // All are in one partition.
    let traffic = Traffic::of(1);
    let mut process = served(&between, &traffic);
    proxy.add(Rule::next(Api::TXN_OFFSET_COMMIT, Action::Hold));
    traffic.publish(world, 1);
    proxy.wait_held(1);
    traffic.assert_exactly_once(world);
    proxy.add(Rule::next_commit(Action::Block));
    traffic.publish(world, 1);
    proxy.wait_blocked(Api::END_TXN);
    proxy.release();
    proxy.open();
    world.wait_for_outcomes(12);
    process.kill();
    let _again = world.start("a");
    traffic.publish(world, 1);
    traffic.assert_exactly_once(world);
}

/// A fence by a request of our own, sent before by who is fenced.
#[test]
fn late_requests_for_a_producer_id_are_no_other_process() {
    let between = Between::start(SESSION);
    let (world, proxy) = (&between.world, &between.proxy);
    let traffic = Traffic::of(20);
    proxy.add(Rule::next(Api::INIT_PRODUCER_ID, Action::Hold).times(3));
    let mut process = served(&between, &traffic);
    for _ in 0..3 {
        proxy.release();
        traffic.publish(world, 5);
        traffic.assert_exactly_once(world);
    }
    assert!(process.is_running());
    assert!(process.terminate().success(), "it ends in order");
}

#[test]
fn a_late_commit_over_http_makes_nothing_readable_that_was_answered_as_not_sent() {
    let between = Between::start(SESSION);
    let (world, proxy) = (&between.world, &between.proxy);
    let process = world.spawn_with("a", &[("ENGINE__ENABLED", "false")]);
    let mut client = Client::connect(&process);
    assert_eq!(client.send(&Request::login("9876540101")).status, 201);
    proxy.add(Rule::next_commit(Action::Hold));
    proxy.add(Rule::next_abort(Action::Block).once_held());
    assert_eq!(client.send(&Request::login("9876540102")).status, 201);
    // Of the next one the SMS is taken, and the outcome is not: its transaction is about to be aborted.
    let topic = &world.topics.outcomes;
    world.kafka.set_topic(topic, "max.message.bytes", "200");
    let body = Request::login("9876540103").body();
    client.write(post(&body, &[])).expect("it is taken");
    proxy.wait_blocked(Api::END_TXN);
    let late = proxy.release();
    proxy.unblock();
    let answer = client.answer().expect("it is answered");
    assert_ne!(answer.status, 201);
    assert_eq!(world.sms().len(), 2, "{answer:?}");
    assert_ne!(late.end_txn_error(), 0, "the broker refused it");
}

#[test]
fn a_late_commit_ends_no_later_step_of_a_job() {
    let between = Between::start(SESSION);
    let (world, proxy) = (&between.world, &between.proxy);
    world.egov.everyone(true);
    // Makes the topics.
    drop(world.start("a"));
    let dead = letter("9876540101", "event", "requests-0-1");
    world.kafka.publish(&world.topics.dead_letters, &dead);
    proxy.add(Rule::next_commit(Action::Hold));
    let log = &world.topics.job_log;
    proxy.add(
        Rule::next(Api::PRODUCE, Action::Block)
            .holding(log)
            .once_held(),
    );
    let produced = proxy.answers(Api::PRODUCE);
    let line = "dlq redrive --yes --execute --reason outage";
    let running = start(world, line, "");
    // The job's beginning is there; of the next step the request is, and not the job's place.
    proxy.wait_blocked(Api::PRODUCE);
    proxy.wait_answered(Api::PRODUCE, produced + 2);
    let late = proxy.release();
    running.signal(Signal::SIGKILL);
    let id = id_in(&running.ended(world));
    let _process = world.start("a");
    run(world, &format!("job resume {id}"), "").well();
    assert_eq!(world.kafka.read(&world.topics.jobs).len(), 1);
    assert_eq!(world.sms().len(), 1);
    assert_ne!(late.end_txn_error(), 0, "the broker refused it");
}

#[test]
fn whatever_happens_to_one_request_nothing_is_lost_or_sent_twice() {
    let between = Between::start(SESSION);
    let (world, proxy) = (&between.world, &between.proxy);
    let traffic = Traffic::of(20);
    // What is never answered counts as lost after this.
    let settings = [
        ("HTTP__ENABLED", "false"),
        ("KAFKA__SOCKET_TIMEOUT_MS", "2000"),
    ];
    let mut process = world.spawn_with("a", &settings);
    process.wait_ready();
    for api in [
        Api::PRODUCE,
        Api::ADD_PARTITIONS,
        Api::ADD_OFFSETS,
        Api::TXN_OFFSET_COMMIT,
        Api::END_TXN,
        Api::INIT_PRODUCER_ID,
    ] {
        for action in [
            Action::Delay(Duration::from_secs(1)),
            Action::CutBefore,
            Action::CutAfter,
            Action::Twice,
            Action::DropAnswer,
        ] {
            eprintln!("{api:?}: {action:?}");
            proxy.add(Rule::next(api, action));
            traffic.publish(world, 5);
            traffic.assert_exactly_once(world);
        }
    }
    assert!(process.terminate().success(), "it ends in order");
}

#[test]
fn connections_that_are_cut_every_second_cost_time_alone() {
    const FOR: Duration = Duration::from_secs(60);
    let between = Between::start(SESSION);
    let (world, proxy) = (&between.world, &between.proxy);
    let traffic = Traffic::of(50);
    let settings = [
        // A request that finds its person's queue full is retried, and has no place in the order.
        ("ENGINE__LANE", "4096"),
        // One transaction after another: there is one to cut.
        ("ENGINE__LINGER", "2ms"),
    ];
    let mut process = world.spawn_with("a", &settings);
    process.wait_ready();
    let (_never, ticks) = mpsc::channel::<()>();
    let started = Instant::now();
    std::thread::scope(|scope| {
        let load = traffic.keep_publishing(scope, world);
        // For longer where no cut has hit a transaction yet.
        let is_enough = || new_producers(&process) > 0 || started.elapsed() > 3 * FOR;
        while started.elapsed() < FOR || !is_enough() {
            let tick = ticks.recv_timeout(Duration::from_secs(1));
            assert_eq!(tick, Err(RecvTimeoutError::Timeout));
            proxy.cut();
        }
        load.close();
    });
    traffic.assert_exactly_once(world);
    assert!(process.is_running());
    assert!(process.terminate().success(), "it ends in order");
    assert!(new_producers(&process) > 0, "cuts have hit transactions");
}

#[test]
fn without_trouble_there_is_no_new_producer_whether_connections_are_busy_or_idle() {
    let between = Between::start(SESSION);
    let (world, proxy) = (&between.world, &between.proxy);
    let traffic = Traffic::of(50);
    // Longer than a transaction takes on a busy machine: one that is closed during it is not known to be idle.
    let idle = [("KAFKA__CONNECTIONS_MAX_IDLE_MS", "4000")];
    let mut process = world.spawn_with("a", &idle);
    process.wait_ready();
    for _ in 0..4 {
        traffic.publish(world, 500);
        traffic.assert_exactly_once(world);
        proxy.wait_ended(2);
    }
    let http = Client::connect(&process).send(&Request::login("9876500000"));
    assert_eq!(http.status, 201);
    wait_until("its transaction is over", || world.outcomes().len() == 2001);
    assert_eq!(new_producers(&process), 0, "{}", process.output.text());
}
