//! What anyone may write to the request topic, on a real broker: it has its one outcome, and its neighbours, the other
//! partitions and the instance are none the worse.

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};

use crate::hostile::padded;
use crate::kafka::{Draft, Place, wait_for, wait_until};
use crate::management::health;
use crate::process::Process;
use crate::raw_batch::{Codec, Damage, damaged, produce, records};
use crate::request::Request;
use crate::world::{Outcome, Setup, World};

const PATIENCE: Duration = Duration::from_secs(60);
const PUBLISHED: &str = "published";
const UNREADABLE: &str = "dead-lettered/poison/unreadable-batch/decode";
const NOT_JSON: &str = "dead-lettered/poison/not-json/decode";
const EMPTY: &str = "dead-lettered/poison/empty-value/decode";

fn world() -> World {
    let world = World::with(Setup::default());
    world.egov.everyone(true);
    world
}

fn login(number: usize, id: &str) -> Request {
    Request::login(&format!("98765{number:05}")).id(id)
}

/// Writes something hostile to partition 0 between two requests, and another request beside it: each request has its
/// one outcome. All outcomes of partition 0 between the two.
#[track_caller]
fn survives(
    world: &World,
    process: &mut Process,
    name: &str,
    write: impl FnOnce(&World),
) -> Vec<Outcome> {
    let ask = |place: &str, partition| -> (String, Place) {
        let id = format!("{name}-{place}");
        let draft = login(1, &id).draft().partition(partition);
        (id, world.publish(&draft))
    };
    let (before, first) = ask("before", 0);
    write(world);
    let (behind, last) = ask("behind", 0);
    let (beside, _) = ask("beside", 1);
    for id in [&beside, &before, &behind] {
        assert_eq!(world.wait_for_outcome(id).summary(), PUBLISHED, "{id}");
    }
    world.wait_for_no_lag();
    assert!(process.is_running(), "{name}");
    let between = first.offset + 1..last.offset;
    let mut all = world.outcomes();
    all.retain(|one| {
        one.word("topic") == world.topics.requests
            && one.get("partition") == 0
            && between.contains(&one.moment("offset"))
    });
    all
}

fn summaries(outcomes: &[Outcome]) -> Vec<String> {
    outcomes.iter().map(Outcome::summary).collect()
}

/// A flood of poison alone may be said.
#[track_caller]
fn assert_well(process: &Process, name: &str) {
    wait_for("health is as it should be", || {
        let (status, _, mut troubles) = health(process, "/health/ready");
        troubles.remove("input");
        if status == 200 && troubles.is_empty() {
            Ok(())
        } else {
            Err((name.to_owned(), troubles))
        }
    });
    assert_eq!(health(process, "/health/live").1, "UP", "{name}");
}

#[test]
fn a_compressed_batch_has_its_outcome_however_far_it_inflates() {
    const MB: usize = 1_000_000;
    let rows = [
        ("none", 1, PUBLISHED),
        ("gzip", 1, PUBLISHED),
        ("gzip", 20, PUBLISHED),
        ("gzip", 101, PUBLISHED),
        ("snappy", 1, PUBLISHED),
        ("snappy", 15, PUBLISHED),
        ("lz4", 1, PUBLISHED),
        ("lz4", 20, PUBLISHED),
        ("lz4", 101, PUBLISHED),
        ("zstd", 1, PUBLISHED),
        ("zstd", 20, PUBLISHED),
        ("zstd", 101, UNREADABLE),
    ];
    let world = world();
    let mut process = world.start("a");
    for (codec, inflated, expected) in rows {
        let name = format!("{codec}-{inflated}");
        let body = login(2, &name).body();
        let size = inflated * MB - if codec == "none" { 100_000 } else { 0 };
        let outcomes = survives(&world, &mut process, &name, |world| {
            let draft = Draft::of(padded(&body, size));
            world.batch(&world.topics.requests, 0, codec, &[draft]);
        });
        assert_eq!(summaries(&outcomes), [expected], "{name}");
        assert_well(&process, &name);
    }
}

/// Brokers decode each batch before they take it, and do not look at all that the Kafka library looks at: LZ4's checksum
/// of the content, and what stands behind its end.
#[test]
fn a_damaged_batch_that_the_broker_takes_is_one_dead_letter_or_its_records() {
    enum Becomes {
        Refused,
        Unreadable,
        Records,
    }
    use Becomes::{Records, Refused, Unreadable};
    let rows = [
        (Codec::Gzip, Damage::Checksum, Refused),
        (Codec::Gzip, Damage::CutShort, Refused),
        (Codec::Gzip, Damage::Size, Refused),
        (Codec::Gzip, Damage::Trailing, Records),
        (Codec::Snappy, Damage::CutShort, Refused),
        (Codec::Snappy, Damage::Size, Refused),
        (Codec::Snappy, Damage::Trailing, Refused),
        (Codec::Lz4, Damage::Checksum, Unreadable),
        (Codec::Lz4, Damage::CutShort, Refused),
        (Codec::Lz4, Damage::Trailing, Unreadable),
        (Codec::Zstd, Damage::Checksum, Refused),
        (Codec::Zstd, Damage::CutShort, Refused),
        (Codec::Zstd, Damage::Size, Refused),
        (Codec::Zstd, Damage::Trailing, Refused),
    ];
    let world = world();
    let mut process = world.start("a");
    let values: [&[u8]; 3] = [b"one", b"two", b"three"];
    let content = records(&values);
    for (codec, damage, becomes) in rows {
        let name = format!("{codec:?}-{damage:?}");
        let batch = damaged(codec, damage, &content);
        let mut code = 0;
        let outcomes = survives(&world, &mut process, &name, |world| {
            let (broker, topic) = (&world.kafka.broker, &world.topics.requests);
            code = produce(broker, topic, 0, codec, values.len(), &batch);
        });
        let (taken, expected) = match becomes {
            Refused => (false, vec![]),
            Unreadable => (true, vec![UNREADABLE.to_owned()]),
            Records => (true, vec![NOT_JSON.to_owned(); values.len()]),
        };
        assert_eq!(
            (code == 0, summaries(&outcomes)),
            (taken, expected),
            "{name}: {code}"
        );
    }
    assert_well(&process, "damaged batches");
}

#[test]
fn records_of_every_odd_kind_have_their_outcomes() {
    const HEADERS: usize = 100_000;
    const TOMBSTONES: usize = 100;
    let world = world();
    let mut process = world.start("a");
    let with_headers = |draft: Draft| Draft {
        headers: vec![("h".to_owned(), Some(Vec::new())); HEADERS],
        ..draft
    };
    let outcomes = survives(&world, &mut process, "headers", |world| {
        let request = with_headers(login(2, "").draft());
        let poison = with_headers(Draft::of("no request"));
        for draft in [request, poison] {
            world.publish(&draft.partition(0));
        }
    });
    let mut found = summaries(&outcomes);
    found.sort_unstable();
    assert_eq!(found, [NOT_JSON, PUBLISHED]);
    let outcomes = survives(&world, &mut process, "tombstones", |world| {
        let tombstone = |number| Draft {
            value: None,
            ..Draft::default().key(format!("{number}")).partition(0)
        };
        let drafts: Vec<_> = (0..TOMBSTONES).map(tombstone).collect();
        world.kafka.publish_all(&world.topics.requests, &drafts);
    });
    assert_eq!(summaries(&outcomes), vec![EMPTY; TOMBSTONES]);
    assert_well(&process, "odd records");
}

/// A million of them fit a batch of 0.8 MiB, are read as it, and get their dead letters likewise: in minutes, and the
/// tests have no such time.
#[test]
fn a_batch_of_empty_records_is_as_many_dead_letters() {
    const RECORDS: usize = 20_000;
    let world = world();
    let mut process = world.start("a");
    let outcomes = survives(&world, &mut process, "empty", |world| {
        let drafts = vec![Draft::default(); RECORDS];
        world.batch(&world.topics.requests, 0, "zstd", &drafts);
    });
    assert_eq!(summaries(&outcomes), vec![EMPTY; RECORDS]);
    assert_well(&process, "empty records");
}

/// Transactions with so many records each, which are aborted.
fn abort(world: &World, transactions: usize, records: usize) {
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", &world.kafka.broker)
        .set("transactional.id", format!("{}-hostile", world.name))
        .set("retry.backoff.ms", "10")
        .create()
        .expect("a producer");
    producer.init_transactions(PATIENCE).expect("an id");
    for _ in 0..transactions {
        producer.begin_transaction().expect("a transaction");
        for _ in 0..records {
            let record = BaseRecord::<(), [u8]>::to(&world.topics.requests).partition(0);
            let mut record = record.payload(b"aborted".as_slice());
            while let Err((_, again)) = producer.send(record) {
                producer.flush(PATIENCE).expect("the queue empties");
                record = again;
            }
        }
        producer.flush(PATIENCE).expect("they are there");
        producer.abort_transaction(PATIENCE).expect("it is aborted");
    }
}

#[test]
fn control_batches_are_no_records() {
    let world = world();
    let mut process = world.start("a");
    let outcomes = survives(&world, &mut process, "marks", |world| abort(world, 30, 1));
    assert_eq!(summaries(&outcomes), Vec::<String>::new());
    assert_well(&process, "control batches");
}

#[test]
fn records_that_are_deleted_under_load_are_no_outcomes_and_stop_nothing() {
    let world = world();
    let mut process = world.start("a");
    for round in 0..5_usize {
        let drafts: Vec<_> = (0..200)
            .map(|number| login(number, &format!("{round}-{number}")).draft())
            .collect();
        world.kafka.publish_all(&world.topics.requests, &drafts);
        let ends = world.kafka.ends(&world.topics.requests);
        for ((topic, partition), end) in ends {
            world.kafka.delete_records(&topic, partition, end);
        }
    }
    let outcomes = survives(&world, &mut process, "deleted", |_| ());
    assert_eq!(summaries(&outcomes), Vec::<String>::new());
    assert_well(&process, "deleted records");
}

// Rows that need the commit's metadata to stay within its limit, and a topic created again to be read.

#[test]
fn large_aborted_transactions_are_passed_by() {
    const RECORDS: usize = 100_000;
    let world = world();
    let mut process = world.start("a");
    let outcomes = survives(&world, &mut process, "aborted", |world| {
        abort(world, 2, RECORDS);
    });
    assert_eq!(summaries(&outcomes), Vec::<String>::new());
    assert_well(&process, "aborted transactions");
}

#[test]
fn a_topic_that_is_created_again_under_load_is_read_from_its_beginning() {
    let world = world();
    let mut process = world.start("a");
    world.assert_works("9876500009", "first");
    let topic = &world.topics.requests;
    world.kafka.delete_topics(&[topic]);
    wait_until("the topic is gone", || {
        world.kafka.partitions(topic).is_empty()
    });
    world.kafka.create_topic(topic, 2, &[]);
    let drafts: Vec<_> = (0..100)
        .map(|number| login(number, &format!("again-{number}")).draft())
        .collect();
    world.kafka.publish_all(topic, &drafts);
    let outcomes = survives(&world, &mut process, "again", |_| ());
    assert_eq!(summaries(&outcomes), Vec::<String>::new());
    for number in 0..100 {
        assert_eq!(
            world.wait_for_outcome(&format!("again-{number}")).summary(),
            PUBLISHED
        );
    }
    assert_well(&process, "a topic created again");
}
