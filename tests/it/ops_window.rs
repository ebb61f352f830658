//! A bounded look at a topic: its edges.

use user_otp::clock::EpochMs;
use user_otp::config::KafkaProperties;
use user_otp::engine::clients::Connection;
use user_otp::engine::window::{Bounds, Window};

use crate::kafka::Draft;
use crate::world::World;

fn window(world: &World, bounds: &Bounds) -> Window {
    let connection = Connection {
        brokers: world.kafka.broker.clone(),
        group: world.name.clone(),
        instance: "operator".to_owned(),
        properties: KafkaProperties::default(),
    };
    Window::open(&connection, &world.topics.requests, bounds).expect("a window")
}

fn values(mut window: Window) -> Vec<String> {
    let mut values = Vec::new();
    while let Some(record) = window.next_record().expect("Kafka answers") {
        values.push(String::from_utf8_lossy(&record.value.unwrap_or_default()).into_owned());
    }
    values.sort_unstable();
    values
}

fn publish(world: &World, partition: i32, timestamp: i64, value: &str) {
    let draft = Draft::of(value).partition(partition).timestamp(timestamp);
    world.publish(&draft);
}

#[test]
fn it_ends_where_the_topic_ended_when_it_was_opened() {
    let world = World::new();
    for (partition, value) in [(0, "a"), (0, "b"), (1, "c")] {
        publish(&world, partition, 1_700_000_000_000, value);
    }
    let opened = window(&world, &Bounds::default());
    let offsets: u64 = opened.spans().values().map(|span| span.length()).sum();
    assert_eq!(offsets, 3);
    for partition in [0, 1] {
        publish(&world, partition, 1_700_000_000_000, "later");
    }
    assert_eq!(values(opened), ["a", "b", "c"]);
}

#[test]
fn it_ends_at_the_mark_of_a_transaction_and_before_an_open_one() {
    let world = World::new();
    publish(&world, 0, 1_700_000_000_000, "a");
    let aborted = world
        .kafka
        .open_records(&world.topics.requests, 0, &["aborted"]);
    aborted.abort();
    assert_eq!(values(window(&world, &Bounds::default())), ["a"]);
    let open = world
        .kafka
        .open_records(&world.topics.requests, 1, &["open"]);
    publish(&world, 1, 1_700_000_000_000, "behind it");
    assert_eq!(values(window(&world, &Bounds::default())), ["a"]);
    open.abort();
}

#[test]
fn it_begins_at_the_first_record_of_a_time_and_at_an_offset() {
    let world = World::new();
    for (partition, timestamp, value) in [
        (0, 1_000, "a"),
        (0, 3_000, "b"),
        (0, 2_000, "c"),
        (1, 1_999, "d"),
    ] {
        publish(&world, partition, 1_700_000_000_000 + timestamp, value);
    }
    let since = |ms: i64| Bounds {
        since: Some(EpochMs(1_700_000_000_000 + ms)),
        ..Bounds::default()
    };
    assert_eq!(values(window(&world, &since(1_999))), ["b", "c", "d"]);
    assert_eq!(
        values(window(&world, &since(2_000))),
        ["b", "c"],
        "what is late in the log is not lost"
    );
    assert_eq!(values(window(&world, &since(9_000))).len(), 0);
    let all = Bounds {
        since: Some(EpochMs(-5)),
        ..Bounds::default()
    };
    assert_eq!(values(window(&world, &all)).len(), 4);
    let one = Bounds {
        partitions: vec![0],
        offset: Some(1),
        since: None,
    };
    assert_eq!(values(window(&world, &one)), ["b"]);
}

#[test]
fn what_retention_took_is_passed_over() {
    let world = World::new();
    for value in ["a", "b", "c"] {
        publish(&world, 0, 1_700_000_000_000, value);
    }
    let opened = window(&world, &Bounds::default());
    world.kafka.delete_records(&world.topics.requests, 0, 2);
    assert_eq!(values(window(&world, &Bounds::default())), ["c"]);
    let seen = values(opened);
    assert!(seen.ends_with(&["c".to_owned()]), "{seen:?}");
}
