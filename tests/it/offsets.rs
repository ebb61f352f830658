//! Whose offsets these are: resets, first starts, retention, other tools' commits.

use crate::behind_a_proxy::Between;
use crate::kafka::{Committed, Draft, Partition, wait_until};
use crate::kafka_proxy::{Action, Api, Rule};
use crate::process::Process;
use crate::request::Request;
use crate::world::{Outcome, Setup, World, now};

/// Older than a request lives by default.
const TEN_MINUTES: i64 = 600_000;

/// Logins `from..to` as records of this time.
fn logins(range: std::ops::Range<u32>, timestamp: i64) -> Vec<Draft> {
    let one = |number| {
        Request::login(&format!("98765{number:05}"))
            .id(format!("n-{number}"))
            .draft()
    };
    range
        .map(|number| one(number).timestamp(timestamp))
        .collect()
}

fn ids(range: std::ops::Range<u32>) -> Vec<String> {
    let mut ids: Vec<_> = range.map(|number| format!("n-{number}")).collect();
    ids.sort();
    ids
}

fn world(partitions: i32) -> World {
    let world = World::with(Setup {
        partitions,
        ..Setup::default()
    });
    world.egov.everyone(true);
    world
}

impl World {
    fn publish_logins(&self, range: std::ops::Range<u32>, timestamp: i64) {
        self.kafka
            .publish_all(&self.topics.requests, &logins(range, timestamp));
    }

    /// Everything there is, once these have their outcomes: all published, nothing else anywhere.
    #[track_caller]
    fn assert_published_alone(&self, expected: Vec<String>) {
        self.wait_for_outcomes(expected.len());
        self.wait_for_no_lag();
        let outcomes = self.outcomes();
        assert!(
            outcomes
                .iter()
                .all(|outcome| outcome.summary() == "published"),
            "{outcomes:?}"
        );
        let mut found: Vec<_> = outcomes.iter().map(Outcome::event_id).collect();
        found.sort();
        assert_eq!(found, expected, "outcomes");
        let mut sent: Vec<_> = self
            .sms()
            .iter()
            .map(|sms| sms.header("otp-event-id").expect("an id").to_owned())
            .collect();
        sent.sort();
        assert_eq!(sent, expected, "SMS");
        assert_eq!(self.dead_letters().len(), 0, "dead letters");
    }

    fn requests_partition(&self, partition: i32) -> Partition {
        (self.topics.requests.clone(), partition)
    }

    fn commit_by_hand(&self, offset: i64, metadata: &str) {
        let partitions = self.kafka.partitions(&self.topics.requests);
        let offsets: Vec<_> = partitions
            .into_iter()
            .map(|partition| {
                (
                    self.requests_partition(partition),
                    Committed {
                        offset,
                        metadata: metadata.to_owned(),
                    },
                )
            })
            .collect();
        self.kafka.commit(&self.name, &offsets);
    }
}

#[track_caller]
fn end(mut process: Process) {
    assert!(process.terminate().success(), "it ends in order");
}

#[test]
fn a_group_reset_to_the_beginning_sends_nothing_old_and_fills_no_topic() {
    let world = world(2);
    // These were served in their time, which is over now.
    let mut process = world.spawn_with("a", &[("REQUEST__LIFETIME", "1h")]);
    process.wait_ready();
    world.publish_logins(0..30, now() - TEN_MINUTES);
    world.assert_published_alone(ids(0..30));
    end(process);

    world.commit_by_hand(0, "");
    let process = world.start("a");
    world.publish_logins(30..35, now());
    world.assert_published_alone(ids(0..35));
    end(process);

    // A restart half-way through knows no less.
    world.commit_by_hand(0, "");
    let process = world.start("b");
    world.wait_for_no_lag();
    end(process);
    let _process = world.start("a");
    world.wait_for_no_lag();
    assert_eq!(world.dead_letters().len(), 0, "dead letters");
    let old = world
        .outcomes()
        .into_iter()
        .filter(|outcome| ids(0..30).contains(&outcome.event_id()));
    assert_eq!(old.count(), 30, "nothing old is sent again");
}

#[test]
fn a_first_start_on_a_topic_with_old_requests_serves_the_living_ones_alone() {
    let world = world(2);
    world.publish_logins(0..50, now() - TEN_MINUTES);
    world.publish_logins(50..60, now());
    let _process = world.start("a");
    world.publish_logins(60..65, now());
    world.assert_published_alone(ids(50..65));
    assert_eq!(world.egov.otp_of("9876500000"), Vec::<String>::new());
}

#[test]
fn what_was_young_when_the_group_came_has_an_outcome_however_late_it_is_read() {
    const LIFETIME: i64 = 4_000;
    let between = Between::start("6000");
    let (world, proxy) = (&between.world, &between.proxy);
    world.publish_logins(0..3, now() - TEN_MINUTES);
    let published = now();
    world.publish_logins(3..8, published);
    proxy.add(Rule::each(Api::FETCH, Action::Block));
    let settings = [
        ("HTTP__ENABLED", "false"),
        ("HTTP__BUDGET", "2s"),
        ("REQUEST__LIFETIME", "4s"),
        ("REQUEST__MIN_LIFE", "1s"),
    ];
    let mut process = world.spawn_with("a", &settings);
    process.wait_ready();
    proxy.wait_blocked(Api::FETCH);
    wait_until("they are too old", || now() > published + LIFETIME);
    proxy.open();
    let outcomes = world.wait_for_outcomes(5);
    let mut found: Vec<_> = outcomes.iter().map(Outcome::event_id).collect();
    found.sort();
    assert_eq!(found, ids(3..8));
    world.wait_for_no_lag();
    assert_eq!(world.outcomes().len(), 5);
}

#[test]
fn requests_that_come_while_nobody_runs_are_served() {
    let world = world(4);
    // Nothing was ever read: the start is committed all the same.
    let process = world.start("a");
    wait_until("every partition has its start committed", || {
        world.committed().values().all(Option::is_some)
    });
    end(process);
    world.publish_logins(0..20, now());
    let _process = world.start("b");
    world.assert_published_alone(ids(0..20));
}

#[test]
fn a_partition_with_a_vanished_owners_open_transaction_waits_and_the_others_go_on() {
    let world = world(2);
    let process = world.start("a");
    let draft = |number, partition| {
        logins(number..number + 1, now())
            .remove(0)
            .partition(partition)
    };
    let publish = |numbers: std::ops::Range<u32>, partition| {
        let drafts: Vec<_> = numbers.map(|number| draft(number, partition)).collect();
        world.kafka.publish_all(&world.topics.requests, &drafts);
    };
    publish(0..3, 0);
    world.assert_published_alone(ids(0..3));
    end(process);
    let held = world.requests_partition(0);
    let transaction = world.kafka.open_offsets(&world.name, &held, 3);
    publish(3..6, 0);
    publish(6..9, 1);
    let _process = world.start("a");
    // Nothing may ask for the group's offsets meanwhile: they wait for the transaction, too.
    crate::kafka::wait_until("the other partition's requests have their outcomes", || {
        world.outcomes().len() >= 6
    });
    let mut done: Vec<_> = world.outcomes().iter().map(Outcome::event_id).collect();
    done.sort();
    assert_eq!(done, ids_of(&[0..3, 6..9]), "the other partition went on");
    transaction.abort();
    world.assert_published_alone(ids(0..9));
}

#[test]
fn records_that_retention_took_are_passed_over() {
    let world = world(1);
    let process = world.start("a");
    world.publish_logins(0..10, now());
    world.assert_published_alone(ids(0..10));
    end(process);
    world.publish_logins(10..20, now());
    world.kafka.delete_records(&world.topics.requests, 0, 15);
    let _process = world.start("a");
    world.publish_logins(20..22, now());
    world.assert_published_alone(ids_of(&[0..10, 15..22]));
}

#[test]
fn a_topic_that_was_created_anew_is_read_from_its_beginning() {
    let world = world(1);
    let process = world.start("a");
    world.publish_logins(0..10, now());
    world.assert_published_alone(ids(0..10));
    end(process);
    world.kafka.delete_topics(&[&world.topics.requests]);
    wait_until("the topic is gone", || {
        world.kafka.partitions(&world.topics.requests).is_empty()
    });
    world.kafka.create_topic(&world.topics.requests, 1, &[]);
    // The group's commit outlives the topic: it is past the end now.
    world.commit_by_hand(10, "user-otp/1 10 - -");
    world.publish_logins(10..13, now());
    let _process = world.start("a");
    world.publish_logins(13..15, now());
    world.assert_published_alone(ids(0..15));
}

#[test]
fn an_offset_with_somebody_elses_metadata_is_a_place_to_start() {
    for metadata in ["somebody else's", "user-otp/1 7 - -", "user-otp", "ünïcödé"] {
        let mut world = world(1);
        world.owes_nothing();
        world.publish_logins(0..3, now());
        world.publish_logins(3..6, now() - TEN_MINUTES);
        world.publish_logins(6..10, now());
        // Mirroring tools copy our own tags along with offsets that mean something else here.
        world.commit_by_hand(2, metadata);
        let _process = world.start("a");
        world.assert_published_alone(ids_of(&[2..3, 6..10]));
    }
}

#[test]
fn a_tag_of_an_unknown_version_stops_the_service_with_a_sentence() {
    let world = world(1);
    world.publish_logins(0..3, now());
    world.commit_by_hand(1, "user-otp/99 1 - future");
    let mut process = world.spawn("a");
    assert!(!process.wait_ended().success());
    let said = process.output.text();
    assert!(
        said.lines()
            .any(|line| line.contains(&world.topics.requests) && line.contains("99")),
        "{said}"
    );
    assert_eq!(
        (world.outcomes().len(), world.sms().len()),
        (0, 0),
        "guessing would send twice"
    );
    let committed = world.kafka.committed(&world.name, &world.topics.requests);
    let kept = Committed {
        offset: 1,
        metadata: "user-otp/99 1 - future".to_owned(),
    };
    assert_eq!(
        committed.get(&world.requests_partition(0)),
        Some(&Some(kept)),
        "it is left as it was"
    );
}

/// The ids of several ranges, as [`ids`].
fn ids_of(ranges: &[std::ops::Range<u32>]) -> Vec<String> {
    let mut all: Vec<_> = ranges.iter().cloned().flat_map(ids).collect();
    all.sort();
    all
}

/// What monitors see as lag is zero, also where nothing but the marks of transactions has come.
#[test]
fn what_was_aborted_while_nobody_ran_leaves_no_lag() {
    let world = World::new();
    let mut process = world.start("a");
    world.assert_works("9876533001", "before");
    world.wait_for_no_lag();
    assert!(process.terminate().success(), "it ends in order");
    for partition in [0, 1] {
        let topic = &world.topics.requests;
        let aborted = world.kafka.open_records(topic, partition, &["aborted"]);
        aborted.abort();
    }
    let _process = world.start("b");
    world.wait_for_no_lag();
    world.assert_works("9876533002", "after");
    world.wait_for_no_lag();
}
