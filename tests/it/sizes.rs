//! Topics that take less than what there is to write.

use sha2::{Digest as _, Sha256};
use user_otp::egov::standin::Text;

use crate::kafka::{Draft, Record};
use crate::request::Request;
use crate::traffic::otps_created;
use crate::world::{Setup, World};

/// Hexadecimal digits that no compression of ours makes shorter.
fn noise(size: usize) -> String {
    let digits = std::iter::repeat_with(|| uuid::Uuid::new_v4().simple().to_string());
    let mut text: String = digits.take(size / 32 + 1).collect();
    text.truncate(size);
    text
}

/// A text for an SMS that is as long as one may be, of characters of three bytes each.
pub(crate) fn long_text() -> String {
    let digits = noise(4 * 900).into_bytes();
    let long: String = digits
        .chunks(4)
        .map(|digits| {
            let digits = std::str::from_utf8(digits).expect("digits");
            let number = u32::from_str_radix(digits, 16).expect("digits");
            char::from_u32(0x4E00 + number % 0x5000).expect("a character")
        })
        .collect();
    format!("{long} %s.")
}

/// Publishes what cannot be read, and returns it with its dead letter.
fn junk(world: &World, id: &str, size: usize) -> (Record, Record) {
    let draft = Draft::of(noise(size)).key("a key");
    world.publish(&draft.header("otp-event-id", id));
    let outcome = world.wait_for_outcome(id);
    assert_eq!(outcome.word("outcome"), "dead-lettered");
    let of_event = |topic: &str| {
        let mut records = world.kafka.read(topic);
        records.retain(|record| record.header("otp-event-id") == Some(id));
        assert_eq!(records.len(), 1, "{id} on {topic}");
        records.remove(0)
    };
    (
        of_event(&world.topics.requests),
        of_event(&world.topics.dead_letters),
    )
}

#[track_caller]
fn assert_stands_for(letter: &Record, asked: &Record) {
    let value = asked.value.as_deref().expect("a value");
    let hash: String = Sha256::digest(value)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert_eq!(letter.value, None, "it is too large to copy");
    assert_eq!(
        letter.number("otp-value-size"),
        i64::try_from(value.len()).expect("a size")
    );
    assert_eq!(letter.header("otp-value-sha256"), Some(hash.as_str()));
    assert_eq!(letter.header("otp-source"), Some(asked.position().as_str()));
}

#[test]
fn a_dead_letter_too_large_to_copy_says_what_it_was_and_where_it_is() {
    let world = World::with(Setup {
        request_topic: vec![("max.message.bytes", "4000000")],
        ..Setup::default()
    });
    let mut process = world.start("a");
    // More than the dead-letter topic takes, which is known at the start ...
    let (asked, letter) = junk(&world, "large", 2_000_000);
    assert_stands_for(&letter, &asked);
    assert_eq!(letter.key, asked.key);
    let (asked, letter) = junk(&world, "as-it-came", 50_000);
    assert_eq!((&letter.key, &letter.value), (&asked.key, &asked.value));
    // ... and less than it took then.
    world
        .kafka
        .set_topic(&world.topics.dead_letters, "max.message.bytes", "20000");
    let (asked, letter) = junk(&world, "shrunk", 50_000);
    assert_stands_for(&letter, &asked);
    let (asked, letter) = junk(&world, "small", 5_000);
    assert_eq!((&letter.key, &letter.value), (&asked.key, &asked.value));
    world.wait_for_no_lag();
    assert!(process.is_running(), "it needed no restart");
}

#[test]
fn an_sms_that_its_topic_does_not_take_ends_alone() {
    const REQUESTS: usize = 100;
    // All at once are one transaction.
    let world = World::with(Setup::default().set("ENGINE__LINGER", "1s"));
    let long = long_text();
    world
        .egov
        .set_text(Text::new("mr_IN", "sms.register.otp.msg", &long));
    let _process = world.start("a");
    world
        .kafka
        .set_topic(&world.topics.sms, "max.message.bytes", "2500");
    let requests: Vec<_> = (0..REQUESTS)
        .map(|number| Request {
            locale: (number == REQUESTS / 2).then_some("mr_IN"),
            ..Request::register(&format!("98765401{number:02}")).id(format!("n-{number}"))
        })
        .collect();
    world.requests(&requests);
    let too_large = format!("n-{}", REQUESTS / 2);
    for outcome in world.wait_for_outcomes(REQUESTS) {
        let expected = if outcome.event_id() == too_large {
            "dead-lettered/refused/output-too-large/publish"
        } else {
            "published"
        };
        assert_eq!(outcome.summary(), expected, "{}", outcome.event_id());
    }
    world.wait_for_no_lag();
    let mut sent: Vec<_> = world
        .sms()
        .iter()
        .map(|sms| sms.header("otp-event-id").expect("an id").to_owned())
        .collect();
    sent.sort();
    sent.dedup();
    assert_eq!(
        (sent.len(), world.sms().len()),
        (REQUESTS - 1, REQUESTS - 1),
        "each other one once"
    );
    assert!(!sent.contains(&too_large));
    assert_eq!(world.outcomes().len(), REQUESTS);
    assert_eq!(world.dead_letters().len(), 1);
    assert_eq!(
        otps_created(&world),
        REQUESTS,
        "nothing was asked for twice"
    );
}
