//! For `user-otp check`: who reads a topic, and whether we might create one. For the watchdog: whether one has leaders.

use rdkafka::admin::{NewTopic, TopicReplication};
use rdkafka::error::RDKafkaErrorCode;

use super::{Admin, AdminError, CREATE, topic_error, unanswered};
use crate::topics::TopicSpec;

/// A consumer group with members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// The topics that each of its members has partitions of.
    pub members: Vec<Vec<String>>,
}

impl Admin {
    /// Whether a partition of one of these topics has no leader: nothing can be written to it. A topic that is missing,
    /// or that we may not see, is no such topic.
    ///
    /// # Errors
    /// [`AdminError::Unreachable`].
    pub async fn lacks_leader(&self, topics: &[String]) -> Result<bool, AdminError> {
        let topics = topics.to_vec();
        self.blocking(move |admin| {
            let metadata = admin.client.inner().fetch_metadata(None, admin.timeout);
            let metadata = metadata.map_err(unanswered("look up", "the topics"))?;
            let found = metadata.topics().iter();
            let mut asked = found.filter(|found| topics.iter().any(|topic| topic == found.name()));
            Ok(asked.any(|topic| topic.partitions().iter().any(|one| one.leader() < 0)))
        })
        .await
    }

    /// The consumer groups that we may look at. Those of the newer protocol tell no members.
    ///
    /// # Errors
    /// [`AdminError::Unreachable`].
    pub async fn groups(&self) -> Result<Vec<Group>, AdminError> {
        self.blocking(|admin| {
            let list = admin.client.inner().fetch_group_list(None, admin.timeout);
            let list = list.map_err(unanswered("describe", "the consumer groups"))?;
            let group = |group: &rdkafka::groups::GroupInfo| Group {
                name: group.name().to_owned(),
                members: group
                    .members()
                    .iter()
                    .map(|member| topics_of(member.assignment().unwrap_or_default()))
                    .collect(),
            };
            Ok(list.groups().iter().map(group).collect())
        })
        .await
    }

    /// Asks the brokers whether they would create these topics; they do not.
    ///
    /// # Errors
    /// [`AdminError::Forbidden`] for the first that we may not create.
    pub async fn would_create(
        &self,
        topics: &[(String, TopicSpec)],
        brokers: usize,
    ) -> Result<(), AdminError> {
        let specs: Vec<_> = topics
            .iter()
            .map(|(name, spec)| (name.as_str(), spec.on(brokers)))
            .collect();
        let configs: Vec<_> = specs.iter().map(|(_, spec)| spec.config()).collect();
        let new = Self::new_topics(&specs, &configs);
        let options = self.options().validate_only(true);
        let results = self.client.create_topics(&new, &options).await;
        for result in results.map_err(unanswered("create", "the topics"))? {
            match result {
                // An older broker knows not all of the settings, and gets the topic without them.
                Ok(_)
                | Err((
                    _,
                    RDKafkaErrorCode::TopicAlreadyExists | RDKafkaErrorCode::InvalidConfig,
                )) => {}
                Err((topic, code)) => return Err(topic_error(CREATE, &topic, code)),
            }
        }
        Ok(())
    }

    /// As the brokers are asked for them.
    pub(super) fn new_topics<'a>(
        specs: &'a [(&'a str, TopicSpec)],
        configs: &'a [Vec<(&'static str, String)>],
    ) -> Vec<NewTopic<'a>> {
        let topics = specs.iter().zip(configs);
        let topic = |((name, spec), config): (&'a (&str, TopicSpec), &'a Vec<_>)| {
            let copies = TopicReplication::Fixed(spec.replication);
            let topic = NewTopic::new(name, spec.partitions, copies);
            config
                .iter()
                .fold(topic, |topic, (key, value): &(&str, String)| {
                    topic.set(key, value)
                })
        };
        topics.map(topic).collect()
    }
}

/// The topics in an assignment as consumers of the classic protocol write it; what is cut short, or
/// something else, has those that come before.
fn topics_of(assignment: &[u8]) -> Vec<String> {
    let mut topics = Vec::new();
    let mut rest = assignment.get(2..).unwrap_or_default();
    let count = number(&mut rest, 4).unwrap_or(0);
    for _ in 0..count {
        let name = number(&mut rest, 2).and_then(|size| rest.split_at_checked(size));
        let Some((name, after)) = name else { break };
        rest = after;
        let partitions = number(&mut rest, 4).and_then(|count| count.checked_mul(4));
        let Some(after) = partitions.and_then(|size| rest.get(size..)) else {
            break;
        };
        rest = after;
        topics.push(String::from_utf8_lossy(name).into_owned());
    }
    topics
}

fn number(rest: &mut &[u8], bytes: usize) -> Option<usize> {
    let (number, after) = rest.split_at_checked(bytes)?;
    *rest = after;
    let number = number
        .iter()
        .fold(0_u32, |number, byte| number << 8 | u32::from(*byte));
    usize::try_from(number).ok()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    /// Version, one topic `a.sms` with partitions 0 and 1, one topic `b` without any, no user data.
    const ASSIGNMENT: &[u8] =
        b"\0\x01\0\0\0\x02\0\x05a.sms\0\0\0\x02\0\0\0\0\0\0\0\x01\0\x01b\0\0\0\0\xff\xff\xff\xff";

    #[rstest]
    #[case::whole(ASSIGNMENT, &["a.sms", "b"])]
    #[case::nothing(b"", &[])]
    #[case::cut_short(&ASSIGNMENT[..26], &["a.sms"])]
    #[case::within_a_name(&ASSIGNMENT[..10], &[])]
    #[case::something_else(b"\0\x01\xff\xff\xff\xff\xff\xff", &[])]
    fn assignments_name_topics(#[case] bytes: &[u8], #[case] expected: &[&str]) {
        assert_eq!(topics_of(bytes), expected);
    }
}
