//! A flood of records that hold no request: somebody deployed a wrong producer.

use std::collections::BTreeMap;

use crate::kafka::{Draft, Record, wait_for, wait_until};
use crate::management::{Scrape, health};
use crate::request::Request;
use crate::world::{Setup, World};

/// Poison of every kind, the `n`-th of the flood.
fn poison(number: usize) -> Draft {
    let value: Vec<u8> = match number % 5 {
        0 => b"\x00\xff\xfe binary \x80".to_vec(),
        1 => br#"{"otp": "of another shape"}"#.to_vec(),
        2 => format!("not JSON, {number}").into_bytes(),
        3 => Vec::new(),
        // All that the request topic takes, and noise, so that it is as large compressed.
        _ if number == 4 => noise(700_000),
        _ => noise(3_000),
    };
    let draft = Draft::of(value).key(format!("\u{0}key {number}"));
    let draft = draft.header("x-upstream", b"\xfe\xff".as_slice());
    let draft = draft.header("otp-event-id", format!("poison-{number}"));
    if number % 10 == 3 {
        Draft {
            value: None,
            ..draft
        }
    } else {
        draft
    }
}

fn noise(size: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_u32;
    let bytes = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state.to_le_bytes()[0]
    });
    bytes.take(size).collect()
}

fn by_event(records: Vec<Record>) -> BTreeMap<String, Record> {
    let before = records.len();
    let of = |record: Record| {
        (
            record.header("otp-event-id").unwrap_or("").to_owned(),
            record,
        )
    };
    let all: BTreeMap<_, _> = records.into_iter().map(of).collect();
    assert_eq!(all.len(), before, "each has one");
    all
}

#[test]
fn a_flood_of_poison_stalls_and_loses_nothing_and_is_told() {
    const ALL: usize = 1_000;
    let world = World::with(Setup::default().set("ENGINE__POISON_WINDOW", "12s"));
    let process = world.start("a");
    let drafts: Vec<_> = (0..ALL)
        .map(|number| {
            if number % 10 == 9 {
                let request = Request::register(&format!("98765{:05}", 80_000 + number));
                request.id(format!("good-{number}")).draft()
            } else {
                poison(number)
            }
        })
        .collect();
    let topic = &world.topics.requests;
    // The huge one is a batch of its own.
    for some in [&drafts[..4], &drafts[4..5], &drafts[5..]] {
        world.kafka.publish_all(topic, some);
    }
    let reason = format!(" % of what came on {topic} lately cannot be read");
    wait_for("health says what share of which topic", || {
        let (status, whole, troubles) = health(&process, "/health/ready");
        let said = troubles
            .get("input")
            .and_then(|said| said.strip_suffix(&reason));
        let percent = said.and_then(|percent| percent.parse().ok());
        let told = percent.is_some_and(|percent: u32| (80..=100).contains(&percent));
        if told && (status, whole.as_str()) == (200, "DEGRADED") {
            Ok(())
        } else {
            Err(troubles)
        }
    });
    let ratio = Scrape::of(&process).get(&format!("user_otp_poison_ratio{{topic=\"{topic}\"}}"));
    assert!((0.8..=1.0).contains(&ratio), "{ratio}");

    let outcomes = world.wait_for_outcomes(ALL);
    let mut ends: BTreeMap<String, usize> = BTreeMap::new();
    for outcome in &outcomes {
        *ends.entry(outcome.word("disposition")).or_default() += 1;
    }
    let expected = [
        ("poison".to_owned(), ALL * 9 / 10),
        (String::new(), ALL / 10),
    ];
    assert_eq!(ends, BTreeMap::from(expected));
    assert_eq!(
        by_event(world.sms()).len(),
        ALL / 10,
        "the good ones go out"
    );
    let letters = by_event(world.dead_letters());
    assert_eq!(letters.len(), ALL * 9 / 10);
    for (id, asked) in by_event(world.kafka.read(topic)) {
        if let Some(letter) = letters.get(&id) {
            assert_eq!(
                (&letter.key, &letter.value),
                (&asked.key, &asked.value),
                "{id}"
            );
            assert_eq!(letter.headers[0], asked.headers[0], "{id}");
        }
    }
    world.wait_for_no_lag();
    let warning = |line: &&str| line.contains("WARN") && line.contains("cannot be read");
    let said = process.output.text();
    let warnings: Vec<_> = said.lines().filter(warning).collect();
    assert_eq!(warnings.len(), 1, "it is said once: {warnings:?}");
    assert!(warnings[0].contains("percent=") && warnings[0].contains(topic.as_str()));
    wait_until("it is over", || health(&process, "/health/ready").1 == "UP");
    world.assert_works("9876589999", "after");
}
