//! Who reads the SMS and email topics. How they read, Kafka does not know.

use super::item::{Area, Item};
use super::permissions::Account;
use crate::engine::admin::Group;

/// What makes a consumer read nothing but what was committed: Spring's way, and everybody else's.
const LINE: &str = "spring.kafka.consumer.isolation-level: read_committed (others: isolation.level=read_committed)";

pub(super) fn judge(topic: &str, groups: &[Group], account: Account<'_>) -> Item {
    let count = |group: &Group| {
        let has = |topics: &&Vec<String>| topics.iter().any(|one| one == topic);
        group.members.iter().filter(has).count()
    };
    let readers: Vec<String> = groups
        .iter()
        .map(|group| (&group.name, count(group)))
        .filter(|(_, members)| *members > 0)
        .map(|(name, members)| format!("{name} (members: {members})"))
        .collect();
    if !readers.is_empty() {
        let detail = format!(
            "read by {}; it must have {LINE}, which Kafka cannot tell",
            readers.join(", ")
        );
        return Item::ok(Area::Consumers, topic, detail);
    }
    let silent = groups
        .iter()
        .filter(|group| group.members.is_empty())
        .count();
    let detail = match silent {
        0 => "nobody is seen to read it".to_owned(),
        _ => format!("nobody is seen to read it; {silent} groups show no members"),
    };
    Item::warning(Area::Consumers, topic, detail)
        .fix(format!(
            "start the platform's notification service, with {LINE}"
        ))
        .fix(format!(
            "where it runs, let check see it: {}",
            account.grant(&["Describe"], "--group ITS-GROUP")
        ))
}

#[cfg(test)]
mod tests {
    use super::super::AccountRole;
    use super::super::item::Verdict;
    use super::*;

    const ACCOUNT: Account<'_> = Account {
        brokers: "kafka:9092",
        user: Some("user-otp"),
        role: AccountRole::Service,
    };

    fn group(name: &str, members: &[&[&str]]) -> Group {
        let topics = |topics: &&[&str]| topics.iter().map(|one| (*one).to_owned()).collect();
        Group {
            name: name.to_owned(),
            members: members.iter().map(topics).collect(),
        }
    }

    #[test]
    fn who_reads_is_named_with_the_line_that_kafka_cannot_tell() {
        let groups = [
            group("egov-sms", &[&["a.sms"], &["a.sms", "other"], &[]]),
            group("other", &[&["a.smss"]]),
        ];
        let item = judge("a.sms", &groups, ACCOUNT);
        assert_eq!((item.verdict, item.fix.len()), (Verdict::Ok, 0));
        assert!(
            item.detail.starts_with("read by egov-sms (members: 2); "),
            "{item:?}"
        );
        assert!(item.detail.contains(LINE));
    }

    #[test]
    fn a_topic_that_nobody_reads_is_said() {
        let groups = [group("egov-sms", &[]), group("other", &[&["b"]])];
        let item = judge("a.sms", &groups, ACCOUNT);
        assert_eq!(item.verdict, Verdict::Warning);
        assert!(item.detail.ends_with("1 groups show no members"));
        assert!(item.fix[0].contains(LINE));
    }
}
