//! The names of retry topics: made here, and read back here, by the same rule.
//!
//! A retry topic's name is `topics.retry_prefix`, a dot, and its delay as it is written in `retry.delays`:
//! `user-otp.retry.1m30s`. The engine writes to the topics of the configured delays, and reads every one that
//! there is: no request stays behind on the topic of a delay that was configured earlier.

use std::time::Duration;

use crate::config::RetryDelay;

/// The retry topics of one prefix.
#[derive(Debug, Clone)]
pub struct RetryTopics {
    prefix: String,
}

impl RetryTopics {
    /// Those that begin with `prefix` and a dot.
    #[must_use]
    pub fn new(prefix: impl Into<String>) -> Self {
        Self {
            prefix: prefix.into(),
        }
    }

    /// The topic of a delay.
    #[must_use]
    pub fn name(&self, delay: &RetryDelay) -> String {
        format!("{}.{}", self.prefix, delay.label)
    }

    /// The delay that a topic's name says; none: it is no retry topic.
    #[must_use]
    pub fn delay_of(&self, topic: &str) -> Option<Duration> {
        let label = topic.strip_prefix(&self.prefix)?.strip_prefix('.')?;
        RetryDelay::parse(label).ok().map(|delay| delay.delay)
    }

    /// A regular expression for the subscription, which matches every retry topic. It is wider than the rule for
    /// delays: what else it matches is for [`RetryTopics::delay_of`] to tell.
    #[must_use]
    pub fn pattern(&self) -> String {
        let prefix = self.prefix.replace('.', "\\.");
        format!("^{prefix}\\.[0-9][0-9A-Za-z]*$")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    /// Numbers with units, and what only looks like them.
    fn label() -> impl Strategy<Value = String> {
        let unit = "ns|us|ms|s|sec|seconds|m|min|h|hours|d|w|M|y|x|S|H| |\\.5s";
        let part = ("[0-9]{1,4}", unit).prop_map(|(number, unit)| number + &unit);
        prop_oneof![
            proptest::collection::vec(part, 1..4).prop_map(|parts| parts.concat()),
            "[0-9a-zA-Z. _-]{0,6}",
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn every_accepted_delay_is_subscribed_and_read(
            prefix in "[a-zA-Z0-9._-]{1,12}",
            label in label(),
        ) {
            let topics = RetryTopics::new(prefix.as_str());
            let pattern = fancy_regex::Regex::new(&topics.pattern()).expect("a pattern");
            let matches = |topic: &str| pattern.is_match(topic).expect("no backtracking");
            match RetryDelay::parse(&label) {
                Ok(delay) => {
                    let name = topics.name(&delay);
                    prop_assert!(matches(&name), "{name} is not subscribed");
                    prop_assert_eq!(topics.delay_of(&name), Some(delay.delay));
                }
                Err(_) => prop_assert_eq!(topics.delay_of(&format!("{prefix}.{label}")), None),
            }
        }

        #[test]
        fn what_is_read_is_subscribed(prefix in "[a-z._-]{1,4}", topic in "[a-z._-]{1,5}[0-9a-z.]{0,6}") {
            let topics = RetryTopics::new(prefix.as_str());
            let pattern = fancy_regex::Regex::new(&topics.pattern()).expect("a pattern");
            let read = topics.delay_of(&topic).is_some();
            prop_assert!(!read || pattern.is_match(&topic).expect("no backtracking"));
        }
    }

    #[rstest]
    #[case("user-otp.retry.5s", Some(5_000))]
    #[case("user-otp.retry.1m30s", Some(90_000))]
    #[case("user-otp.retry.1h1m1s1ms", Some(3_661_001))]
    #[case("user-otp.retry.24h", Some(86_400_000))]
    #[case::longer_than_a_day("user-otp.retry.25h", None)]
    #[case::nothing("user-otp.retry.0s", None)]
    #[case::no_unit("user-otp.retry.5", None)]
    #[case::no_such_unit("user-otp.retry.5x", None)]
    #[case::upper_case("user-otp.retry.5S", None)]
    #[case::another_prefix("user-otpxretry.5s", None)]
    #[case::the_prefix("user-otp.retry", None)]
    #[case::deeper("user-otp.retry.5s.dlq", None)]
    fn delays_by_name(#[case] topic: &str, #[case] ms: Option<u64>) {
        let topics = RetryTopics::new("user-otp.retry");
        assert_eq!(topics.delay_of(topic), ms.map(Duration::from_millis));
    }
}
