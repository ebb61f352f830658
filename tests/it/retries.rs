//! Retry topics: whatever name a delay gives, what is written there is read, and nothing else is.

use user_otp::egov::Service;
use user_otp::egov::standin::{Behaviour, Fault, User};

use crate::kafka::{Draft, Record, wait_for, wait_until};
use crate::request::Request;
use crate::world::{Setup, World, now};

/// `services.tries`: a try that fails costs this many calls.
const CALLS_A_TRY: usize = 3;

/// A retry as another instance would have written it.
fn retry(mobile: &str, id: &str) -> Draft {
    let draft = Request::login(mobile).id(id).draft();
    draft
        .header("otp-deadline-ms", (now() + 300_000).to_string())
        .header("otp-received-ms", now().to_string())
        .header("otp-source", "upstream-0-0")
        .header("otp-attempt", "1")
}

#[test]
fn retries_of_a_composite_delay_are_read() {
    let world = World::with(Setup::default().set("RETRY__DELAYS", "1s200ms,1m30s"));
    let _process = world.start("a");
    world.egov.add_user(User::citizen("9876530001", "pb"));
    let outage = Behaviour::failing(Fault::status(500)).times(CALLS_A_TRY);
    world.egov.set(Service::Users, outage);
    world.request(&Request::login("9876530001").id("composite"));
    let outcome = world.wait_for_outcome("composite");
    assert_eq!(outcome.summary(), "published");
    assert_eq!(outcome.get("attempts"), 2);
    assert_eq!(world.retries("1s200ms").len(), 1);
    world.wait_for_no_lag();
}

#[test]
fn topics_of_delays_configured_earlier_are_read_to_their_end() {
    let world = World::new();
    let earlier = ["1s250ms", "1500us", "2min"].map(|delay| world.topics.retry(delay));
    for topic in &earlier {
        world.kafka.create_topic(topic, 2, &[]);
    }
    world.egov.add_user(User::citizen("9876530002", "pb"));
    for topic in &earlier[..2] {
        world.kafka.publish(topic, &retry("9876530002", topic));
    }
    // Written long enough ago to be due.
    let due = retry("9876530002", &earlier[2]).timestamp(now() - 120_000);
    world.kafka.publish(&earlier[2], &due);
    let _process = world.start("a");
    for topic in &earlier {
        let outcome = world.wait_for_outcome(topic);
        assert_eq!(outcome.summary(), "published");
        assert_eq!(outcome.word("topic"), *topic, "read from there");
    }
    wait_for("they are read to their end", || {
        let behind: Vec<_> = earlier
            .iter()
            .filter(|topic| {
                let committed = world.kafka.committed(&world.name, topic);
                world.kafka.ends(topic).iter().any(|(partition, end)| {
                    let at = committed[partition].as_ref().map_or(0, |one| one.offset);
                    at < *end
                })
            })
            .collect();
        if behind.is_empty() {
            Ok(())
        } else {
            Err(format!("{behind:?}"))
        }
    });
}

#[test]
fn a_foreign_topic_that_looks_like_a_retry_topic_is_said_and_left_alone() {
    let world = World::new();
    let foreign = world.topics.retry("5x");
    world.kafka.create_topic(&foreign, 2, &[]);
    world.kafka.publish(&foreign, &Draft::of("somebody else's"));
    let process = world.start("a");
    world.assert_works("9876530003", "beside-it");
    wait_until("health names the topic", || {
        let (status, body) = process.get("/health/ready");
        status == 200 && body.contains("DEGRADED") && body.contains(&foreign)
    });
    let said = process.output.text();
    let warnings = said
        .lines()
        .filter(|line| line.contains("WARN") && line.contains(&foreign));
    assert_eq!(warnings.count(), 1, "said once");
    let committed = world.kafka.committed(&world.name, &foreign);
    assert!(
        committed.values().all(Option::is_none),
        "nothing is committed for it"
    );
    // It is gone: nothing is left to say.
    world.kafka.delete_topics(&[&foreign]);
    wait_until("health forgets the topic", || {
        !process.get("/health/ready").1.contains(&foreign)
    });
}

#[test]
fn headers_that_only_a_newer_version_knows_are_carried_along() {
    let world = World::new();
    let topic = world.topics.retry("500ms");
    world.kafka.create_topic(&topic, 2, &[]);
    world.egov.add_user(User::citizen("9876530004", "pb"));
    let newer = retry("9876530004", "newer")
        .header("otp-of-a-newer-version", b"\xff as it is".as_slice())
        .header("otp-of-a-newer-version", "twice");
    world.kafka.publish(&topic, &newer);
    // Anyone may write to the request topic: what looks like ours is stripped there.
    let forged = Request::login("9876530005")
        .id("forged")
        .draft()
        .header("otp-of-a-newer-version", "forged");
    world.publish(&forged);
    let carried = [Some(b"\xff as it is".to_vec()), Some(b"twice".to_vec())];
    let down = Behaviour::failing(Fault::status(500));
    world.egov.set(Service::Users, down);
    let _process = world.start("a");
    wait_until("both were retried", || {
        let mut retried = world.retries("500ms");
        retried.extend(world.retries("2s"));
        let ours = |id| {
            let of_it = |record: &Record| {
                record.header("otp-event-id") == Some(id)
                    && record.header("otp-error-code").is_some()
            };
            retried.iter().any(of_it)
        };
        ours("newer") && ours("forged")
    });
    let refusing = Behaviour::failing(Fault::status(403));
    world.egov.set(Service::Users, refusing);
    for (id, carried) in [("newer", &carried[..]), ("forged", &[])] {
        let outcome = world.wait_for_outcome(id);
        assert_eq!(outcome.word("outcome"), "dead-lettered", "{outcome:?}");
        let mut records = world.retries("2s");
        records.extend(world.retries("500ms"));
        records.extend(world.dead_letters());
        let ours = records.iter().filter(|record| {
            record.header("otp-event-id") == Some(id) && record.header("otp-error-code").is_some()
        });
        let mut written = 0;
        for record in ours {
            written += 1;
            let unknown = record
                .headers
                .iter()
                .filter(|(name, _)| name == "otp-of-a-newer-version");
            let unknown: Vec<_> = unknown.map(|(_, value)| value.clone()).collect();
            assert_eq!(unknown, carried, "{id} on {}", record.topic);
        }
        assert!(written >= 2, "a retry and a dead letter of {id}");
    }
}
