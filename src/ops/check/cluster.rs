//! The brokers, and the two topics of their own that transactions rest on.

use std::collections::HashMap;
use std::time::Duration;

use super::item::{Area, Item, Verdict};
use super::permissions::Account;
use crate::engine::advertised::{Reach, Unreached};
use crate::topics::Found;

/// Where the brokers keep transactions, and groups' offsets.
pub(super) const INTERNAL: [&str; 2] = ["__transaction_state", "__consumer_offsets"];

pub(super) fn brokers(count: usize, took: Duration) -> Item {
    let took = took.as_millis();
    let detail = match count {
        1 => format!("1, in {took} ms: with it away nothing works"),
        _ => format!("{count}, in {took} ms"),
    };
    Item::ok(Area::Kafka, "brokers", detail)
}

/// Whether brokers check who commits; none: they do not say.
pub(super) fn exactly_once(checked: Option<bool>) -> Item {
    const NAME: &str = "exactly once";
    match checked {
        Some(true) => {
            let detail = "the brokers check who commits in a transaction (KIP-447)";
            Item::ok(Area::Kafka, NAME, detail)
        }
        Some(false) => {
            let detail = "the brokers do not check who commits in a transaction (KIP-447): a request that moves to \
                          another instance may be sent twice";
            Item::failure(Area::Kafka, NAME, detail).fix("Apache Kafka 2.5 or later, or its equal")
        }
        None => {
            let detail = "the brokers do not say what they can do";
            Item::warning(Area::Kafka, NAME, detail).fix(
                "make sure that they are Apache Kafka 2.5 or later, or its equal: kafka-broker-api-versions.sh",
            )
        }
    }
}

/// Brokers that cannot be reached where they want to be.
pub(super) fn unreached_brokers(reach: &Reach) -> Vec<Item> {
    let item = |one: &Unreached| {
        let name = format!("broker {}", one.broker.id);
        let detail = one.to_string();
        Item::failure(Area::Kafka, &name, detail).fix(
            "set its advertised.listeners to an address that resolves and can be reached from here",
        )
    };
    reach.unreached.iter().map(item).collect()
}

/// One of [`INTERNAL`] that is not there yet; `settings` are a broker's, empty where we may not read them.
pub(super) fn internal_missing(
    topic: &str,
    settings: &HashMap<String, String>,
    count: usize,
) -> Item {
    let [copies, in_sync] = match topic == INTERNAL[0] {
        true => [
            "transaction.state.log.replication.factor",
            "transaction.state.log.min.isr",
        ],
        false => ["offsets.topic.replication.factor", "min.insync.replicas"],
    };
    let number = |name: &str| settings.get(name)?.parse::<usize>().ok();
    let (wanted, least) = (number(copies), number(in_sync));
    let there = wanted.unwrap_or(count);
    let detail = match (wanted, least) {
        (Some(wanted), _) if wanted > count => {
            format!("not there, and cannot be created: {copies} is {wanted}, and brokers: {count}")
        }
        (_, Some(least)) if least > there => format!(
            "not there, and nothing could be written to it: {in_sync} is {least}, and copies: {there}"
        ),
        (Some(_), _) => {
            let detail = "not there yet: brokers create it when it is first needed";
            return Item::ok(Area::Kafka, topic, detail);
        }
        (None, _) => {
            let detail = format!(
                "not there yet: brokers create it when it is first needed, unless {copies} is more than {count}; the \
                 brokers' settings may not be read"
            );
            return Item::ok(Area::Kafka, topic, detail);
        }
    };
    Item::failure(Area::Kafka, topic, detail).fix(format!(
        "server.properties of each broker: {copies}={copies_here} and {in_sync}={least_here}; then restart them, or add \
         brokers",
        copies_here = count.min(3),
        least_here = count.min(3).saturating_sub(1).max(1),
    ))
}

/// One of [`INTERNAL`].
pub(super) fn internal(topic: &str, found: &Found, count: usize, brokers: &str) -> Item {
    let copies = usize::try_from(found.replication).unwrap_or(0);
    let in_sync: Option<usize> = found
        .configs
        .get("min.insync.replicas")
        .and_then(|text| text.parse().ok());
    let said = match in_sync {
        Some(least) => format!("copies: {copies}, of which {least} must be in sync"),
        None => format!("copies: {copies}"),
    };
    let more = format!(
        "kafka-reassign-partitions.sh --bootstrap-server {brokers} --reassignment-json-file FILE --execute, with {} \
         replicas for each partition of {topic}",
        count.min(3)
    );
    let least = |least: usize| {
        format!(
            "kafka-configs.sh --bootstrap-server {brokers} --alter --entity-type topics --entity-name {topic} \
             --add-config min.insync.replicas={least}"
        )
    };
    match (copies, in_sync) {
        (0 | 1, _) if count > 1 => {
            let detail =
                format!("{said}, on {count} brokers: with one away nothing is committed, nor read");
            Item::failure(Area::Kafka, topic, detail).fix(more)
        }
        (2.., Some(needed)) if needed >= copies => {
            let detail = format!("{said}: with one broker away nothing is committed");
            Item::warning(Area::Kafka, topic, detail).fix(least(copies - 1))
        }
        (2, _) if count > 2 => {
            let detail = format!("{said}, on {count} brokers");
            Item::warning(Area::Kafka, topic, detail).fix(more)
        }
        (3.., Some(0 | 1)) => {
            let detail = format!("{said}: what one broker alone has can be lost with it");
            Item::warning(Area::Kafka, topic, detail).fix(least(2))
        }
        _ => Item::ok(Area::Kafka, topic, said),
    }
}

/// One of [`INTERNAL`] that we may not look at.
pub(super) fn internal_hidden(topic: &str, account: Account<'_>) -> Item {
    let detail = "may not be looked at: how many copies it has is not known";
    let on = format!("--topic {topic}");
    let grant = account.grant(&["Describe", "DescribeConfigs"], &on);
    Item::warning(Area::Kafka, topic, detail).fix(grant)
}

/// One of [`INTERNAL`] whose settings we may not read.
pub(super) fn settings_hidden(mut item: Item, account: Account<'_>) -> Item {
    let on = format!("--topic {}", item.name);
    item.verdict = item.verdict.max(Verdict::Warning);
    item.detail += "; its settings may not be read";
    item.fix(account.grant(&["DescribeConfigs"], &on))
}

/// There is no Kafka: nothing else of it can be looked at.
pub(super) fn unreached(name: &str, problem: &str, brokers: &str) -> Item {
    let detail = format!("{problem}; what else there is of Kafka is not checked");
    Item::failure(Area::Kafka, name, detail).fix(format!(
        "check kafka.brokers ({brokers}), kafka.\"security.protocol\", and that they are up"
    ))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::one_broker(1, "1", 1, Verdict::Ok, "")]
    #[case::as_it_should_be(3, "2", 3, Verdict::Ok, "")]
    #[case::one_copy_of_three(1, "1", 3, Verdict::Failure, "with 3 replicas")]
    #[case::two_copies_of_three(2, "1", 3, Verdict::Warning, "with 3 replicas")]
    #[case::two_copies_of_two(2, "1", 2, Verdict::Ok, "")]
    #[case::all_must_be_there(3, "3", 3, Verdict::Warning, "min.insync.replicas=2")]
    #[case::one_is_enough(3, "1", 3, Verdict::Warning, "min.insync.replicas=2")]
    fn copies_are_compared_with_the_brokers(
        #[case] replication: i32,
        #[case] in_sync: &str,
        #[case] brokers: usize,
        #[case] verdict: Verdict,
        #[case] fix: &str,
    ) {
        let found = Found {
            partitions: 50,
            replication,
            configs: HashMap::from([("min.insync.replicas".to_owned(), in_sync.to_owned())]),
        };
        let item = internal("__transaction_state", &found, brokers, "kafka:9092");
        assert_eq!(item.verdict, verdict, "{item:?}");
        assert!(item.fix.join("").contains(fix), "{item:?}");
    }

    #[rstest]
    #[case::default_on_one_broker("3", "2", 1, Verdict::Failure, "replication.factor=1")]
    #[case::default_on_three("3", "2", 3, Verdict::Ok, "")]
    #[case::one_broker("1", "1", 1, Verdict::Ok, "")]
    #[case::more_in_sync_than_copies("1", "2", 1, Verdict::Failure, "min.isr=1")]
    #[case::not_told("", "", 1, Verdict::Ok, "")]
    fn a_topic_that_cannot_be_created_is_a_failure(
        #[case] copies: &str,
        #[case] in_sync: &str,
        #[case] brokers: usize,
        #[case] verdict: Verdict,
        #[case] fix: &str,
    ) {
        let settings = [
            ("transaction.state.log.replication.factor", copies),
            ("transaction.state.log.min.isr", in_sync),
        ];
        let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let item = internal_missing("__transaction_state", &settings.into(), brokers);
        assert_eq!(item.verdict, verdict, "{item:?}");
        assert!(item.fix.join("").contains(fix), "{item:?}");
    }

    #[test]
    fn brokers_that_do_not_check_who_commits_are_a_failure() {
        assert_eq!(exactly_once(Some(true)).verdict, Verdict::Ok);
        assert_eq!(exactly_once(Some(false)).verdict, Verdict::Failure);
        assert_eq!(exactly_once(None).verdict, Verdict::Warning);
    }
}
