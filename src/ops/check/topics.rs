//! How each topic is, and what makes it as it should be.

use std::collections::HashMap;
use std::time::Duration;

use super::AccountRole;
use super::item::{Area, Item, Verdict};
use super::permissions::Account;
use crate::topics::{self, Difference, Found, Owner, Role, State, dead_letter_shortfall, in_words};

/// Whether what is missing of our own would be created.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Creation {
    /// By the start of the service.
    AtStart,
    /// By `user-otp topics apply` alone: `topics.create` is off.
    ByHand,
    /// We lack the permission.
    Forbidden,
}

/// To how many times its size a gzip batch may grow; nothing in the library limits it.
const GZIP_RATIO: u64 = 1_032;

/// What a verdict needs to know besides the topic.
#[derive(Debug, Clone, Copy)]
pub(super) struct Surroundings<'a> {
    pub(super) account: Account<'a>,
    pub(super) creation: Creation,
    /// How long a request lives.
    pub(super) lifetime: Duration,
}

pub(super) fn judge(
    topic: &topics::Item,
    found: Option<&Found>,
    around: &Surroundings<'_>,
) -> Item {
    let name = &topic.name;
    let readable = found.is_none_or(|found| !found.configs.is_empty());
    let mut item = match &topic.state {
        State::Missing => missing(topic, around),
        State::Fine if !readable => Item::warning(Area::Topics, name, shape(topic, found)),
        State::Fine => bombs(
            topic,
            found,
            Item::ok(Area::Topics, name, settings(topic, found)),
            around,
        ),
        State::Differs(differences) => differs(topic, differences, around),
    };
    if !readable {
        item.detail += "; its settings may not be read";
        let on = format!("--topic {name}");
        item = item.fix(around.account.grant(&["DescribeConfigs"], &on));
    }
    item
}

/// What one compressed batch may cost on a topic that others write to, where it takes more than it would if we had
/// created it: advice, since its producers may need that.
fn bombs(
    topic: &topics::Item,
    found: Option<&Found>,
    mut item: Item,
    around: &Surroundings<'_>,
) -> Item {
    let wanted = u64::from(topic.spec.max_message_bytes);
    let largest =
        found.and_then(|found| found.configs.get("max.message.bytes")?.parse::<u64>().ok());
    let Some(largest) =
        largest.filter(|bytes| topic.spec.role == Role::Requests && *bytes > wanted)
    else {
        return item;
    };
    let mib = largest.saturating_mul(GZIP_RATIO) >> 20;
    item.detail += &format!(
        "; one gzip batch of that may take {mib} MiB of memory: allow {wanted} if its producers' batches fit"
    );
    let setting = format!("max.message.bytes={wanted}");
    item.fix(alter(around.account.brokers, &topic.name, &setting))
}

/// One that we may not look at: of the platform's topics only this check would.
pub(super) fn hidden(name: &str, role: Role, account: Account<'_>) -> Item {
    let detail = "may not even be looked at";
    let on = format!("--topic {name}");
    let grant = account.grant(&["Describe", "DescribeConfigs"], &on);
    let is_platforms = matches!(role, Role::Sms | Role::Email);
    let item = match account.role {
        AccountRole::Viewer | AccountRole::Operator if is_platforms => {
            Item::warning(Area::Topics, name, detail)
        }
        AccountRole::Service | AccountRole::Viewer | AccountRole::Operator => {
            Item::failure(Area::Topics, name, detail)
        }
    };
    item.fix(grant)
}

/// The dead-letter topic against what a request topic takes that is larger than listed.
pub(super) fn shortfall(
    requests: &str,
    dead_letters: &str,
    found: &HashMap<String, Found>,
    around: &Surroundings<'_>,
) -> Option<Item> {
    let name = format!("{dead_letters} for {requests}");
    let (requests, letters) = (found.get(requests)?, found.get(dead_letters)?);
    let short = dead_letter_shortfall(requests, letters)?;
    let room: u64 = letters.configs.get("max.message.bytes")?.parse().ok()?;
    let detail = format!(
        "takes {short} bytes too little for the largest request, whose dead letter comes without its value"
    );
    let setting = format!("max.message.bytes={}", room + short);
    let fix = alter(around.account.brokers, dead_letters, &setting);
    Some(Item::warning(Area::Topics, &name, detail).fix(fix))
}

fn missing(topic: &topics::Item, around: &Surroundings<'_>) -> Item {
    let create = topic.create_command(around.account.brokers);
    let name = &topic.name;
    match (topic.spec.owner, topic.spec.role, around.creation) {
        (Owner::Platform, Role::Email, _) => {
            let detail = "missing: OTPs go out by SMS alone";
            Item::warning(Area::Topics, name, detail).fix(create)
        }
        (Owner::Platform, _, _) => Item::failure(Area::Topics, name, "missing").fix(create),
        (Owner::Ours, _, Creation::AtStart) => {
            let detail = "missing: the service creates it when it starts";
            Item::warning(Area::Topics, name, detail).fix("user-otp topics apply")
        }
        (Owner::Ours, _, Creation::ByHand) => {
            Item::failure(Area::Topics, name, "missing").fix("user-otp topics apply")
        }
        (Owner::Ours, _, Creation::Forbidden) => {
            let detail = "missing, and we may not create it";
            Item::failure(Area::Topics, name, detail).fix(create)
        }
    }
}

fn differs(topic: &topics::Item, differences: &[Difference], around: &Surroundings<'_>) -> Item {
    let said: Vec<String> = differences.iter().map(ToString::to_string).collect();
    let verdict = differences
        .iter()
        .map(|difference| weight(difference, topic.spec.role, around.lifetime))
        .max()
        .unwrap_or(Verdict::Warning);
    let mut item = Item::warning(Area::Topics, &topic.name, said.join("; "));
    item.verdict = verdict;
    let (name, brokers) = (&topic.name, around.account.brokers);
    let settings: Vec<String> = differences.iter().filter_map(setting).collect();
    for difference in differences {
        match difference {
            Difference::Partitions { wanted, .. } => item.fix.push(format!(
                "kafka-topics.sh --bootstrap-server {brokers} --alter --topic {name} --partitions {wanted}"
            )),
            Difference::Replication { wanted, .. } => item.fix.push(format!(
                "kafka-reassign-partitions.sh --bootstrap-server {brokers} --reassignment-json-file FILE --execute, \
                 with {wanted} replicas for each partition of {name}"
            )),
            Difference::Retention { .. }
            | Difference::MaxMessageBytes { .. }
            | Difference::Cleanup { .. }
            | Difference::MinInsyncReplicas { .. }
            | Difference::Timestamps { .. }
            | Difference::TimestampBound { .. } => {}
        }
    }
    if !settings.is_empty() {
        item = item.fix(alter(brokers, name, &settings.join(",")));
    }
    item
}

/// Failures are what loses requests, or holds them up for ever.
fn weight(difference: &Difference, role: Role, lifetime: Duration) -> Verdict {
    let ours = !matches!(role, Role::Sms | Role::Email);
    match difference {
        Difference::Cleanup { .. } => Verdict::Failure,
        Difference::MaxMessageBytes { .. } if ours => Verdict::Failure,
        Difference::Retention { found, .. } if *found < lifetime => Verdict::Failure,
        Difference::MaxMessageBytes { .. }
        | Difference::Retention { .. }
        | Difference::Partitions { .. }
        | Difference::Replication { .. }
        | Difference::MinInsyncReplicas { .. }
        | Difference::Timestamps { .. }
        | Difference::TimestampBound { .. } => Verdict::Warning,
    }
}

/// As `kafka-configs.sh` takes it.
fn setting(difference: &Difference) -> Option<String> {
    Some(match difference {
        Difference::Partitions { .. } | Difference::Replication { .. } => return None,
        Difference::Retention { wanted, .. } => format!("retention.ms={}", wanted.as_millis()),
        Difference::MaxMessageBytes { wanted, .. } => format!("max.message.bytes={wanted}"),
        Difference::Cleanup { wanted, .. } => format!("cleanup.policy={wanted}"),
        Difference::MinInsyncReplicas { wanted, .. } => format!("min.insync.replicas={wanted}"),
        Difference::Timestamps { wanted, .. } => format!("message.timestamp.type={wanted}"),
        Difference::TimestampBound { key, wanted, .. } => {
            format!("{key}={}", wanted.as_millis())
        }
    })
}

fn alter(brokers: &str, topic: &str, settings: &str) -> String {
    format!(
        "kafka-configs.sh --bootstrap-server {brokers} --alter --entity-type topics --entity-name {topic} \
         --add-config {settings}"
    )
}

fn shape(topic: &topics::Item, found: Option<&Found>) -> String {
    let spec = &topic.spec;
    let (partitions, copies) = found.map_or((spec.partitions, spec.replication), |found| {
        (found.partitions, found.replication)
    });
    format!("{partitions} partitions, copies: {copies}")
}

fn settings(topic: &topics::Item, found: Option<&Found>) -> String {
    let setting = |key: &str| found.and_then(|found| found.configs.get(key));
    let kept = setting("retention.ms").and_then(|ms| ms.parse().ok());
    let kept = kept.map_or("for ever".to_owned(), |ms| {
        format!("for {}", in_words(Duration::from_millis(ms)))
    });
    let largest = setting("max.message.bytes").map_or("?", String::as_str);
    format!(
        "{}, kept {kept}, records up to {largest} bytes",
        shape(topic, found)
    )
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::topics::{catalog, plan};

    const AROUND: Surroundings<'_> = Surroundings {
        account: Account {
            brokers: "kafka:9092",
            user: Some("user-otp"),
            role: AccountRole::Service,
        },
        creation: Creation::AtStart,
        lifetime: Duration::from_secs(300),
    };

    /// The topic of a role as it should be, but for these settings.
    fn found(role: Role, settings: &[(&str, &str)]) -> Found {
        let spec = catalog()
            .unwrap()
            .into_iter()
            .find(|spec| spec.role == role);
        let spec = spec.unwrap().on(3);
        let as_wanted = spec.config().into_iter();
        let mut configs: HashMap<String, String> = as_wanted
            .map(|(key, value)| (key.to_owned(), value))
            .collect();
        configs.extend(settings.iter().map(|(k, v)| ((*k).into(), (*v).into())));
        Found {
            partitions: spec.partitions,
            replication: spec.replication,
            configs,
        }
    }

    fn judged(role: Role, found: Option<&Found>, around: &Surroundings<'_>) -> Item {
        let spec = catalog()
            .unwrap()
            .into_iter()
            .find(|spec| spec.role == role);
        let wanted = [("a.topic".to_owned(), spec.unwrap().on(3))];
        let all = found.map(|found| ("a.topic".to_owned(), found.clone()));
        let planned = plan(&wanted, &all.into_iter().collect());
        judge(&planned[0], found, around)
    }

    #[test]
    fn what_is_as_it_should_be_needs_nothing() {
        let item = judged(Role::Requests, Some(&found(Role::Requests, &[])), &AROUND);
        assert_eq!((item.verdict, item.fix.len()), (Verdict::Ok, 0), "{item:?}");
        let said = "8 partitions, copies: 3, kept for 7 days, records up to 131072 bytes";
        assert_eq!(item.detail, said);
    }

    #[rstest]
    #[case::retention(Role::DeadLetters, ("retention.ms", "86400000"), Verdict::Warning, "retention.ms=1209600000")]
    #[case::shorter_than_a_life(Role::Retry, ("retention.ms", "60000"), Verdict::Failure, "retention.ms=604800000")]
    #[case::largest(Role::Outcomes, ("max.message.bytes", "512"), Verdict::Failure, "max.message.bytes=65536")]
    #[case::largest_sms(Role::Sms, ("max.message.bytes", "65536"), Verdict::Warning, "max.message.bytes=1048588")]
    #[case::compacted(Role::Requests, ("cleanup.policy", "compact"), Verdict::Failure, "cleanup.policy=delete")]
    #[case::insync(Role::Jobs, ("min.insync.replicas", "1"), Verdict::Warning, "min.insync.replicas=2")]
    #[case::clock(Role::Retry, ("message.timestamp.type", "LogAppendTime"), Verdict::Warning, "message.timestamp.type=CreateTime")]
    #[case::bound(Role::Requests, ("message.timestamp.after.max.ms", "86400000"), Verdict::Warning, "message.timestamp.after.max.ms=3600000")]
    fn a_setting_that_is_wrong_comes_with_the_command(
        #[case] role: Role,
        #[case] setting: (&str, &str),
        #[case] verdict: Verdict,
        #[case] fix: &str,
    ) {
        let item = judged(role, Some(&found(role, &[setting])), &AROUND);
        assert_eq!(item.verdict, verdict, "{item:?}");
        let command = "kafka-configs.sh --bootstrap-server kafka:9092 --alter --entity-type topics --entity-name \
                       a.topic --add-config ";
        assert_eq!(item.fix, [format!("{command}{fix}")]);
    }

    #[test]
    fn a_request_topic_that_takes_large_batches_is_fine_and_gets_advice() {
        let kafkas_own = ("max.message.bytes", "1048588");
        let item = judged(
            Role::Requests,
            Some(&found(Role::Requests, &[kafkas_own])),
            &AROUND,
        );
        assert_eq!(item.verdict, Verdict::Ok);
        assert!(item.detail.contains("may take 1032 MiB"), "{item:?}");
        assert!(item.fix[0].ends_with("max.message.bytes=131072"));
        let ours = found(Role::Retry, &[("max.message.bytes", "5000000")]);
        assert_eq!(judged(Role::Retry, Some(&ours), &AROUND).fix, [""; 0]);
    }

    #[rstest]
    #[case(
        Role::Sms,
        Creation::AtStart,
        Verdict::Failure,
        "kafka-topics.sh --bootstrap-server kafka:9092 --create"
    )]
    #[case(
        Role::Email,
        Creation::AtStart,
        Verdict::Warning,
        "kafka-topics.sh --bootstrap-server kafka:9092 --create"
    )]
    #[case(
        Role::Outcomes,
        Creation::AtStart,
        Verdict::Warning,
        "user-otp topics apply"
    )]
    #[case(
        Role::Outcomes,
        Creation::ByHand,
        Verdict::Failure,
        "user-otp topics apply"
    )]
    #[case(
        Role::Outcomes,
        Creation::Forbidden,
        Verdict::Failure,
        "kafka-topics.sh --bootstrap-server kafka:9092 --create"
    )]
    fn what_is_missing_is_created_by_who_may(
        #[case] role: Role,
        #[case] creation: Creation,
        #[case] verdict: Verdict,
        #[case] fix: &str,
    ) {
        let item = judged(role, None, &Surroundings { creation, ..AROUND });
        assert_eq!(item.verdict, verdict);
        assert!(item.fix[0].starts_with(fix), "{item:?}");
    }

    #[test]
    fn partitions_and_settings_have_commands_of_their_own() {
        let mut few = found(Role::Requests, &[("retention.ms", "60000")]);
        few.partitions = 2;
        let item = judged(Role::Requests, Some(&few), &AROUND);
        assert_eq!((item.verdict, item.fix.len()), (Verdict::Failure, 2));
        assert!(item.fix[0].ends_with("--alter --topic a.topic --partitions 8"));
    }

    #[test]
    fn settings_that_may_not_be_read_are_no_good_settings() {
        let mut silent = found(Role::Requests, &[]);
        silent.configs.clear();
        let item = judged(Role::Requests, Some(&silent), &AROUND);
        assert_eq!(item.verdict, Verdict::Warning);
        assert!(item.fix[0].contains("--operation DescribeConfigs"));
    }

    #[test]
    fn dead_letters_are_compared_with_what_requests_really_take() {
        let large = found(Role::Requests, &[("max.message.bytes", "5000000")]);
        let letters = found(Role::DeadLetters, &[]);
        let all = HashMap::from([("r".to_owned(), large), ("d".to_owned(), letters)]);
        let item = shortfall("r", "d", &all, &AROUND).expect("it is too small");
        assert!(
            item.fix[0].ends_with("max.message.bytes=5065536"),
            "{item:?}"
        );
    }
}
