//! What a process holds is bounded in bytes, whatever it is sent: its own count of them, and what the operating
//! system says.

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use user_otp::egov::Service;
use user_otp::egov::standin::{Behaviour, Fault};

use crate::client::{Client, PATH};
use crate::kafka::{Draft, wait_until};
use crate::management::Scrape;
use crate::process::Process;
use crate::request::Request;
use crate::world::{Setup, World};

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// A figure of the process's memory in bytes: `VmRSS` now, `VmHWM` at its peak.
#[track_caller]
fn memory(process: &Process, figure: &str) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.id()));
    let status = status.expect("the process runs");
    let line = status.lines().find_map(|line| line.strip_prefix(figure));
    let kilobytes = line.and_then(|line| line.trim_matches([':', ' ', '\t']).split(' ').next());
    kilobytes.and_then(|text| text.parse().ok()).map_or_else(
        || panic!("no {figure} in {status}"),
        |number: usize| number * KIB,
    )
}

/// By how much the peak is over what was in use before.
#[track_caller]
fn assert_grew_by_less_than(process: &Process, before: usize, bound: usize) {
    let grown = memory(process, "VmHWM").saturating_sub(before);
    assert!(grown < bound, "{} MiB more at the peak", grown / MIB);
}

/// A register request whose body is this long: clients send a whole user along.
fn long_request(mobile: &str, size: usize) -> String {
    let body = Request::register(mobile).body();
    let rest = body.strip_prefix('{').expect("an object");
    let padding = size - body.len() - r#""user":"","#.len();
    format!(r#"{{"user":"{}",{rest}"#, "x".repeat(padding))
}

#[test]
fn waiting_retries_stay_within_their_bytes_and_all_are_served() {
    const REQUESTS: usize = 1_600;
    const CLIENTS: usize = 4;
    const BUDGET: usize = 8 * MIB;
    let world = World::with(
        Setup::default()
            .set("RETRY__DELAYS", "15s")
            .set("RETRY__WAITING_BYTES", BUDGET.to_string()),
    );
    let mut process = world.spawn_with("a", &[("MDMS__URL", &world.egov.url())]);
    process.wait_ready();
    world
        .egov
        .set(Service::Rules, Behaviour::failing(Fault::status(503)));
    let mut warm = Client::connect(&process);
    assert_eq!(warm.send(&Request::register("9876500000")).status, 201);
    let before = memory(&process, "VmRSS");
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            let process = &process;
            scope.spawn(move || {
                let mut connection = Client::connect(process);
                for number in (client..REQUESTS).step_by(CLIENTS) {
                    let body = long_request(&format!("98766{number:05}"), 62 * KIB);
                    assert_eq!(connection.post(&body, &[]).status, 201, "handed over");
                }
            });
        }
    });
    // 100 MB of them lie on the retry topic: as many as there is room for are in memory.
    let mut most = 0.0_f64;
    wait_until("memory is filled with waiting retries", || {
        most = most.max(Scrape::of(&process).get("user_otp_retries_waiting_bytes"));
        most >= (BUDGET / 2) as f64
    });
    let handed_over = world.kafka.read(&world.topics.retry("15s")).len();
    wait_until("they have been read as far as they are", || {
        most = most.max(Scrape::of(&process).get("user_otp_retries_waiting_bytes"));
        world.kafka.read(&world.topics.retry("15s")).len() > handed_over.max(REQUESTS)
    });
    // The last of a batch that was under way may come on top.
    assert!(most <= (BUDGET + MIB) as f64, "{most} bytes wait");
    assert_grew_by_less_than(&process, before, 80 * MIB);
    world.egov.set(Service::Rules, Behaviour::well());
    let outcomes = world.wait_for_outcomes(REQUESTS + 1);
    let published = outcomes.iter().filter(|one| one.summary() == "published");
    assert_eq!(
        (published.count(), outcomes.len()),
        (REQUESTS + 1, REQUESTS + 1)
    );
    world.wait_for_no_lag();
    let waiting = Scrape::of(&process).get("user_otp_retries_waiting_bytes");
    assert!(waiting.abs() < 0.5, "{waiting} bytes are left over");
}

#[test]
fn bodies_that_stall_take_no_more_than_their_bytes_and_leave_the_others_alone() {
    const STALLED: usize = 600;
    const BUDGET: usize = 16 * MIB;
    let world = World::with(
        Setup::default()
            .set("HTTP__BODY_BYTES", BUDGET.to_string())
            .set("HTTP__BODY_TIMEOUT", "1m")
            .set("SHUTDOWN__DEADLINE", "3m"),
    );
    let process = world.start("a");
    let mut other = Client::connect(&process);
    assert_eq!(other.send(&Request::register("9876500001")).status, 201);
    let before = memory(&process, "VmRSS");
    let head = format!(
        "POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        62 * KIB
    );
    let part = " ".repeat(60 * KIB);
    let stalled: Vec<_> = (0..STALLED)
        .map(|_| {
            let mut client = Client::connect(&process);
            client.write(&head).expect("it is taken");
            // It may be refused before it has sent it all.
            client.give_up_writing_after(Duration::from_secs(5));
            let _ = client.write(&part);
            client
        })
        .collect();
    // One more is told so at once, and may try again.
    let mut refused = Client::connect(&process);
    refused.write(&head).expect("it is taken");
    let refused = refused.answer().expect("an answer");
    assert_eq!(refused.status, 503, "{refused:?}");
    assert!(refused.header("retry-after").is_some(), "{refused:?}");
    // Who sends little finds a place beside them.
    assert_eq!(other.send(&Request::register("9876500002")).status, 201);
    let held = Scrape::of(&process).get("user_otp_http_body_bytes");
    assert!(
        (1.0..=BUDGET as f64).contains(&held),
        "{held} bytes are held"
    );
    assert_grew_by_less_than(&process, before, BUDGET + 24 * MIB);
    drop(stalled);
    wait_until("what they held is free again", || {
        Scrape::of(&process).get("user_otp_http_body_bytes") < 1.0
    });
    let long = long_request("9876500003", 62 * KIB);
    assert_eq!(other.post(&long, &[]).status, 201);
    assert_eq!(world.sms().len(), 3);
}

#[test]
fn records_of_a_megabyte_are_taken_one_budget_at_a_time() {
    const RECORDS: usize = 160;
    let world = World::with(Setup {
        partitions: 1,
        ..Setup::default()
    });
    let junk = "x".repeat(1_000_000);
    let drafts: Vec<_> = (0..RECORDS)
        .map(|number| Draft::of(junk.as_str()).key(format!("k-{number}")))
        .collect();
    world.kafka.publish_all(&world.topics.requests, &drafts);
    let process = world.start("a");
    let before = memory(&process, "VmRSS");
    world.wait_for_outcomes(RECORDS);
    // In flight: the record, and its dead letter, here and in the library; what the library has fetched.
    assert_grew_by_less_than(&process, before, 74 * MIB);
    world.wait_for_no_lag();
}

/// Publishes one record as a batch that is compressed by gzip.
#[track_caller]
fn publish_gzip(world: &World, value: &str) {
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", &world.kafka.broker)
        .set("compression.codec", "gzip")
        .set("compression.level", "9")
        .set("message.max.bytes", "200000000")
        .create()
        .expect("a producer");
    let record: BaseRecord<'_, [u8], _> =
        BaseRecord::to(&world.topics.requests).payload(value.as_bytes());
    producer.send(record).expect("it fits into the queue");
    producer.flush(Duration::from_secs(60)).expect("it is sent");
    let ends = world.kafka.ends(&world.topics.requests);
    assert_eq!(
        ends.values().sum::<i64>(),
        2,
        "it is no larger than the topic takes"
    );
}

/// The worst that one batch can do on a request topic as we create it: gzip unpacks to a thousand times its size.
#[test]
fn one_compressed_batch_costs_what_the_documentation_says_and_has_its_outcome() {
    const LARGEST: &str = "131072";
    let world = World::with(Setup {
        partitions: 1,
        request_topic: vec![("max.message.bytes", LARGEST)],
        ..Setup::default()
    });
    let process = world.start("a");
    world.assert_works("9876500004", "before");
    let before = memory(&process, "VmRSS");
    let bomb = "x".repeat(125 * 1000 * KIB);
    publish_gzip(&world, &bomb);
    let outcomes = world.wait_for_outcomes(2);
    let poison = outcomes
        .iter()
        .filter(|one| one.word("disposition") == "poison");
    assert_eq!(poison.count(), 1);
    // Unpacked in the library, and once more as the record in flight.
    assert_grew_by_less_than(&process, before, 300 * MIB);
    world.assert_works("9876500005", "after");
}
