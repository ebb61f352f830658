//! Logs whose offsets jump: aborted transactions, records that are gone, topics created again.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use user_otp::egov::Service;
use user_otp::egov::standin::Behaviour;

use crate::broker::Broker;
use crate::kafka::{Draft, wait_for, wait_until};
use crate::process::Process;
use crate::request::Request;
use crate::world::{Outcome, Setup, World};

const PARTITIONS: i32 = 8;

/// A login that is the `number`-th of the test.
fn login(number: usize, partition: i32) -> Draft {
    let request = Request::login(&format!("98765{number:05}")).id(format!("n-{number}"));
    request.draft().partition(partition)
}

/// Logins `numbers`, spread over `partitions` in turn.
fn logins(numbers: std::ops::Range<usize>, partitions: i32) -> Vec<Draft> {
    numbers
        .map(|number| {
            let partition = number % usize::try_from(partitions).expect("a count");
            login(number, i32::try_from(partition).expect("a partition"))
        })
        .collect()
}

fn ids(numbers: impl IntoIterator<Item = usize>) -> BTreeSet<String> {
    numbers
        .into_iter()
        .map(|number| format!("n-{number}"))
        .collect()
}

impl World {
    fn publish_drafts(&self, drafts: &[Draft]) {
        self.kafka.publish_all(&self.topics.requests, drafts);
    }

    /// Waits until each of these requests has an outcome, and checks that each was published once.
    #[track_caller]
    fn assert_published_once(&self, expected: &BTreeSet<String>) {
        wait_for("every request has its outcome", || {
            let found: BTreeSet<_> = self.outcomes().iter().map(Outcome::event_id).collect();
            let missing: Vec<_> = expected.difference(&found).cloned().collect();
            if missing.is_empty() {
                Ok(())
            } else {
                Err(missing)
            }
        });
        let mut sent: BTreeMap<String, usize> = BTreeMap::new();
        for sms in self.sms() {
            let id = sms.header("otp-event-id").expect("an id").to_owned();
            *sent.entry(id).or_default() += 1;
        }
        let wrong: Vec<_> = expected
            .iter()
            .map(|id| (id, sent.get(id).copied().unwrap_or(0)))
            .filter(|(_, times)| *times != 1)
            .collect();
        assert_eq!(wrong, [], "SMS of these requests, by event id");
    }

    /// Deletes the request topic, and creates it again.
    fn create_requests_again(&self) {
        let topic = &self.topics.requests;
        self.kafka.delete_topics(&[topic]);
        wait_until("the topic is gone", || {
            self.kafka.partitions(topic).is_empty()
        });
        self.kafka.create_topic(topic, PARTITIONS, &[]);
    }
}

/// A service that has served `numbers` requests of a topic with [`PARTITIONS`] partitions.
fn served(numbers: std::ops::Range<usize>) -> (World, Process) {
    let world = World::with(Setup {
        partitions: PARTITIONS,
        ..Setup::default()
    });
    world.egov.everyone(true);
    let process = world.start("a");
    world.publish_drafts(&logins(numbers.clone(), PARTITIONS));
    world.assert_published_once(&ids(numbers));
    (world, process)
}

#[test]
fn an_aborted_transaction_behind_many_unfinished_requests_stops_no_commit() {
    const UNFINISHED: usize = 2_300;
    let settings = Setup::default()
        .set("USERS__TIMEOUT", "60s")
        .set("REQUEST__LIFETIME", "30m");
    let world = World::with(settings);
    world.egov.everyone(true);
    let slow = Behaviour::slow(Duration::from_secs(20));
    world.egov.set(Service::Users, slow);
    let _process = world.start("a");
    let mut drafts = Vec::new();
    for number in 0..UNFINISHED {
        drafts.push(login(number, 0));
        drafts.push(Draft::of("poison").partition(0));
    }
    world.publish_drafts(&drafts);
    wait_for("every poison record is a dead letter", || {
        let found = world.dead_letters().len();
        if found >= UNFINISHED {
            Ok(())
        } else {
            Err(found)
        }
    });
    let aborted = vec!["aborted"; 40_000];
    let aborted = world
        .kafka
        .open_records(&world.topics.requests, 0, &aborted);
    aborted.abort();
    world.publish_drafts(&[login(UNFINISHED, 0)]);
    // The other partition commits meanwhile.
    for count in 1..=3 {
        world.publish_drafts(&[Draft::of("poison").partition(1)]);
        wait_for("the other partition's dead letters are committed", || {
            let letters = world.dead_letters();
            let found = letters.len() - UNFINISHED;
            if found >= count { Ok(()) } else { Err(found) }
        });
    }
    world.egov.set(Service::Users, Behaviour::well());
    world.assert_published_once(&ids(0..=UNFINISHED));
    world.wait_for_no_lag();
}

#[test]
fn a_topic_created_again_under_load_is_read_on_every_partition() {
    let (world, _process) = served(0..80);
    world.create_requests_again();
    let mut sent = 80;
    let pause = Duration::from_millis(50);
    // 40 records a second and partition, across the moment at which the service finds out.
    while sent < 3_280 {
        world.publish_drafts(&logins(sent..sent + 16, PARTITIONS));
        sent += 16;
        #[expect(clippy::disallowed_methods, reason = "the pace of the load")]
        std::thread::sleep(pause);
    }
    world.assert_published_once(&ids(80..sent));
    world.wait_for_no_lag();
}

/// librdkafka keeps the leader epoch of the old log, and ignores the new one's leaders until theirs is as high.
#[test]
fn a_topic_created_again_after_changes_of_its_leaders_is_read_by_the_next_process() {
    let broker = Broker::start();
    let world = World::with(Setup {
        partitions: PARTITIONS,
        broker: Some(broker.address.clone()),
        ..Setup::default()
    });
    world.egov.everyone(true);
    let mut process = world.start("a");
    for round in 0..2 {
        let numbers = 40 * round..40 * (round + 1);
        world.publish_drafts(&logins(numbers.clone(), PARTITIONS));
        world.assert_published_once(&ids(numbers));
        broker.stop();
        broker.start_again();
    }
    world.publish_drafts(&logins(80..120, PARTITIONS));
    world.assert_published_once(&ids(80..120));
    world.create_requests_again();
    world.publish_drafts(&logins(120..200, PARTITIONS));
    assert_eq!(
        process.wait_ended().code(),
        Some(1),
        "{}",
        process.output.text()
    );
    assert!(
        process
            .output
            .text()
            .contains("its topic was created again")
    );
    let _process = world.start("a");
    world.assert_published_once(&ids(120..200));
    world.wait_for_no_lag();
}

#[test]
fn a_topic_created_again_with_a_longer_log_is_read_from_its_beginning() {
    let (world, process) = served(0..80);
    process.freeze();
    world.create_requests_again();
    // Every position of the old log is one of the new log, too.
    world.publish_drafts(&logins(80..400, PARTITIONS));
    process.thaw();
    world.assert_published_once(&ids(80..400));
    world.wait_for_no_lag();
}

#[test]
fn records_deleted_before_they_were_read_stop_no_partition() {
    let (world, process) = served(0..80);
    process.freeze();
    world.publish_drafts(&logins(80..160, PARTITIONS));
    for partition in [0, 3] {
        world
            .kafka
            .delete_records(&world.topics.requests, partition, 15);
    }
    process.thaw();
    world.publish_drafts(&logins(160..240, PARTITIONS));
    // Ten of each partition are served, ten came then, and the first five of these are gone.
    let gone = |number: &usize| [0, 3].contains(&(number % 8)) && (80..120).contains(number);
    world.assert_published_once(&ids((0..240).filter(|number| !gone(number))));
    world.wait_for_no_lag();
}
