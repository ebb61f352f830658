//! Why brokers refuse a client: said once per change with what to do, and shown by health until it is over.
//!
//! librdkafka tries again for ever, and tells the reason in different places:
//!
//! | client | request | where |
//! | --- | --- | --- |
//! | consumer | FindCoordinator | a line of `debug=cgrp`, or an error to the client |
//! | consumer | JoinGroup, ConsumerGroupHeartbeat | an error to the client, or a fatal error |
//! | producer | FindCoordinator | a line of `debug=eos` |
//! | producer | InitProducerId | the error of `init_transactions` |
//! | producer | Produce | a line of `debug=broker`: the library repeats the request until its records are too old |
//!
//! A local problem is no refusal: its code begins with `_`.

use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rdkafka::error::RDKafkaErrorCode;

/// Codes that every fail-over brings are said only when they have been heard for this long.
const PASSING: Duration = Duration::from_secs(3);

/// Whose requests are refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    Consumer,
    Producer,
}

/// The last refusal of one client.
#[derive(Debug)]
pub(crate) struct LastRefusal {
    client: Refused,
    heard: Mutex<Option<Heard>>,
}

#[derive(Debug)]
struct Heard {
    /// Kafka's name of the code.
    code: String,
    since: Instant,
    said: bool,
}

impl LastRefusal {
    pub(crate) fn of(client: Refused) -> Self {
        Self {
            client,
            heard: Mutex::default(),
        }
    }

    /// A broker refused a request with this code, as Kafka names it.
    pub(crate) fn note(&self, code: &str) {
        if code.starts_with('_') || is_ordinary(code) {
            return;
        }
        let mut heard = self.heard.lock();
        let known = heard.take().filter(|heard| heard.code == code);
        let mut now = known.unwrap_or_else(|| Heard {
            code: code.to_owned(),
            since: Instant::now(),
            said: false,
        });
        if !is_passing(code) || now.since.elapsed() >= PASSING {
            self.say(&mut now);
        }
        *heard = Some(now);
    }

    /// The same of an answer.
    pub(crate) fn note_answer(&self, code: RDKafkaErrorCode) {
        if is_an_answer(code) {
            self.note(&name_of(code));
        }
    }

    /// What was heard lasted as long as an attempt to be taken.
    pub(crate) fn lasts(&self) {
        let mut heard = self.heard.lock();
        if let Some(heard) = heard.as_mut() {
            self.say(heard);
        }
    }

    fn say(&self, heard: &mut Heard) {
        if !std::mem::replace(&mut heard.said, true) {
            let (client, todo) = (self.client.name(), advice(self.client, &heard.code));
            tracing::warn!(
                code = heard.code,
                client,
                "the brokers refuse this client: {todo}"
            );
        }
    }

    /// It was taken.
    pub(crate) fn over(&self) {
        if self.heard.lock().take().is_some_and(|heard| heard.said) {
            tracing::info!(client = self.client.name(), "the brokers take this client");
        }
    }

    /// A request failed for a reason that is not shown here.
    pub(crate) fn replaced(&self) {
        *self.heard.lock() = None;
    }

    /// A coordinator was found; whether it takes the client is not known yet.
    pub(crate) fn coordinator_found(&self) {
        let mut heard = self.heard.lock();
        if heard.as_ref().is_some_and(|heard| is_passing(&heard.code)) {
            *heard = None;
        }
    }

    /// The code and what to do about it, while it lasts.
    pub(crate) fn current(&self) -> Option<String> {
        let heard = self.heard.lock();
        let heard = heard.as_ref().filter(|heard| heard.said)?;
        Some(sentence(self.client, &heard.code))
    }
}

impl Refused {
    fn name(self) -> &'static str {
        match self {
            Self::Consumer => "consumer",
            Self::Producer => "producer",
        }
    }
}

/// A refusal in one line.
pub(crate) fn sentence(client: Refused, code: &str) -> String {
    format!("{code}: {}", advice(client, code))
}

/// Kafka's name of a code: `INVALID_GROUP_ID`.
pub(crate) fn name_of(code: RDKafkaErrorCode) -> String {
    let mut name = String::new();
    for letter in format!("{code:?}").chars() {
        if letter.is_ascii_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(letter.to_ascii_uppercase());
    }
    name
}

/// The code of an error that came to the consumer with `reason`, where it is the answer to its joining.
pub(crate) fn joining(code: RDKafkaErrorCode, reason: &str) -> Option<String> {
    const REQUESTS: [&str; 3] = [
        "JoinGroup failed",
        "FindCoordinator response error",
        "ConsumerGroupHeartbeat failed",
    ];
    let answers = REQUESTS.iter().any(|request| reason.starts_with(request));
    answers.then(|| name_of(code))
}

/// Whether a broker said so. The library's own codes are below zero.
pub(crate) fn is_an_answer(code: RDKafkaErrorCode) -> bool {
    code as i32 > 0
}

/// Whether the brokers name this code for a reason that a new process would meet as well.
pub(crate) fn is_named(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(
        code,
        Code::TopicAuthorizationFailed
            | Code::GroupAuthorizationFailed
            | Code::ClusterAuthorizationFailed
            | Code::TransactionalIdAuthorizationFailed
            | Code::SaslAuthenticationFailed
            | Code::DelegationTokenExpired
            | Code::PolicyViolation
            | Code::NotEnoughReplicas
            | Code::NotEnoughReplicasAfterAppend
            | Code::InvalidTransactionTimeout
            | Code::CoordinatorNotAvailable
    )
}

/// What a line of librdkafka's log says about a client's way to its coordinator and into its group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Line<'a> {
    /// The look-up of the coordinator was refused with this code.
    NoCoordinator(&'a str),
    /// There is one.
    Coordinator,
    /// Records were refused, as they are at each repetition, and a new process would fare no better.
    NotWritten(RDKafkaErrorCode),
    /// The consumer is a member and has its assignment.
    Steady,
    /// It is on its way to that.
    Joining,
}

/// Reads a line; most say nothing of it.
pub(crate) fn read_line<'a>(facility: &str, line: &'a str) -> Option<Line<'a>> {
    let code = |mark: &str| {
        let (_, rest) = line.split_once(mark)?;
        rest.split_once(':').map(|(code, _)| code)
    };
    match facility {
        "CGRPCOORD" => match code("FindCoordinator response error: ") {
            Some(code) => Some(Line::NoCoordinator(code)),
            None => line
                .contains("\" coordinator is ")
                .then_some(Line::Coordinator),
        },
        "REQERR" => {
            let (_, rest) = line.split_once(": ProduceRequest failed: ")?;
            let described = |code: &RDKafkaErrorCode| described(*code, rest);
            LASTING.into_iter().find(described).map(Line::NotWritten)
        }
        "TXNCOORD" => code("Failed to find transaction coordinator: ").map(Line::NoCoordinator),
        "CGRPJOINSTATE" => {
            let (_, change) = line.split_once("changed join state ")?;
            let (_, state) = change.split_once(" -> ")?;
            match state.starts_with("steady ") {
                true => Some(Line::Steady),
                false => Some(Line::Joining),
            }
        }
        _ => None,
    }
}

/// Whether the text begins with the library's description of a code, which its binding shows in brackets behind a name.
fn described(code: RDKafkaErrorCode, text: &str) -> bool {
    let shown = code.to_string();
    let description = shown.split_once(" (").map(|(_, rest)| rest);
    let description = description.and_then(|rest| rest.strip_suffix(')'));
    let rest = description.and_then(|description| text.strip_prefix(description));
    rest.is_some_and(|rest| rest.starts_with(": "))
}

/// Answers to Produce that the library repeats in silence, and that are the brokers' own trouble. Those that it also
/// repeats and that are not here say that it asks the wrong broker: a new process asks anew.
const LASTING: [RDKafkaErrorCode; 4] = [
    RDKafkaErrorCode::NotEnoughReplicas,
    RDKafkaErrorCode::NotEnoughReplicasAfterAppend,
    RDKafkaErrorCode::KafkaStorageError,
    RDKafkaErrorCode::RequestTimedOut,
];

/// Part of every rebalance.
fn is_ordinary(code: &str) -> bool {
    [
        "MEMBER_ID_REQUIRED",
        "UNKNOWN_MEMBER_ID",
        "ILLEGAL_GENERATION",
        "REBALANCE_IN_PROGRESS",
        "CONCURRENT_TRANSACTIONS",
    ]
    .contains(&code)
}

/// Part of every fail-over, and of the first use of a new cluster.
fn is_passing(code: &str) -> bool {
    [
        "COORDINATOR_NOT_AVAILABLE",
        "COORDINATOR_LOAD_IN_PROGRESS",
        "NOT_COORDINATOR",
        "NOT_ENOUGH_REPLICAS",
        "NOT_ENOUGH_REPLICAS_AFTER_APPEND",
        "KAFKA_STORAGE_ERROR",
        "REQUEST_TIMED_OUT",
    ]
    .contains(&code)
}

fn advice(client: Refused, code: &str) -> &'static str {
    match (client, code) {
        (Refused::Consumer, "COORDINATOR_NOT_AVAILABLE") => {
            "__consumer_offsets has no leader, or cannot be created: offsets.topic.replication.factor must not be \
             more than there are brokers"
        }
        (Refused::Producer, "COORDINATOR_NOT_AVAILABLE") => {
            "__transaction_state has no leader, or cannot be created: transaction.state.log.replication.factor must \
             not be more than there are brokers"
        }
        (_, "COORDINATOR_LOAD_IN_PROGRESS" | "NOT_COORDINATOR") => {
            "a coordinator is being elected or loads its log: see the brokers' logs if it lasts"
        }
        (_, "INCONSISTENT_GROUP_PROTOCOL") => {
            "a member of the group has another partition.assignment.strategy than cooperative-sticky, or another \
             group.protocol: end it, or set kafka.group to a group of its own"
        }
        (_, "INVALID_SESSION_TIMEOUT") => {
            "kafka.\"session.timeout.ms\" must be between the brokers' group.min.session.timeout.ms and \
             group.max.session.timeout.ms"
        }
        (_, "GROUP_AUTHORIZATION_FAILED") => "grant Read on the group, kafka.group",
        (_, "TOPIC_AUTHORIZATION_FAILED") => {
            "grant what topics/README.md lists for the topics: `user-otp check` names them"
        }
        (_, "TRANSACTIONAL_ID_AUTHORIZATION_FAILED") => {
            "grant Write on the transactional id, best by its prefix, as topics/README.md lists it"
        }
        (_, "GROUP_MAX_SIZE_REACHED") => "the group has group.max.size members: raise it",
        (_, "UNSUPPORTED_VERSION" | "UNSUPPORTED_FEATURE") => {
            "group.protocol=consumer needs brokers that have it (Apache Kafka 4.0): leave it out"
        }
        (_, "UNSUPPORTED_ASSIGNOR") => {
            "the brokers have no assignor of the name in kafka.\"group.remote.assignor\": \
             group.consumer.assignors lists those they have"
        }
        (_, "FENCED_INSTANCE_ID" | "UNRELEASED_INSTANCE_ID") => {
            "another process uses this kafka.\"group.instance.id\": give each instance its own, and stop one of the two"
        }
        (_, "INVALID_TRANSACTION_TIMEOUT") => {
            "transaction.timeout.ms is over the brokers' transaction.max.timeout.ms: raise the brokers' limit"
        }
        (_, "NOT_ENOUGH_REPLICAS" | "NOT_ENOUGH_REPLICAS_AFTER_APPEND") => {
            "fewer replicas are in sync than min.insync.replicas: bring the brokers back, or lower it; \
             kafka-topics.sh --describe --under-min-isr-partitions says where"
        }
        (_, "LEADER_NOT_AVAILABLE") => {
            "a topic that is written to has no leader: bring its brokers back; kafka-topics.sh --describe \
             --unavailable-partitions says which"
        }
        (_, "KAFKA_STORAGE_ERROR") => {
            "a broker cannot write to its disk: see its log, and free or replace the disk"
        }
        (_, "REQUEST_TIMED_OUT") => {
            "replicas do not follow in time: see the brokers' load, disks and network"
        }
        _ => "see the brokers' logs for the reason",
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::refused(
        "CGRPCOORD",
        "[thrd:main]: 127.0.0.1:9092/bootstrap: Group \"g: x\" FindCoordinator response error: \
         COORDINATOR_NOT_AVAILABLE: Broker: Coordinator not available",
        Some(Line::NoCoordinator("COORDINATOR_NOT_AVAILABLE"))
    )]
    #[case::found(
        "CGRPCOORD",
        "[thrd:main]: 127.0.0.1:9092/1: Group \"g\" coordinator is 127.0.0.1:9092 id 1",
        Some(Line::Coordinator)
    )]
    #[case::of_transactions(
        "TXNCOORD",
        "[thrd:main]: Failed to find transaction coordinator: COORDINATOR_NOT_AVAILABLE: Broker: Coordinator not available",
        Some(Line::NoCoordinator("COORDINATOR_NOT_AVAILABLE"))
    )]
    #[case::lost_of_transactions(
        "TXNCOORD",
        "[thrd:main]: Transaction coordinator changed from (none) -> (none): Failed to find transaction coordinator: \
         _TRANSPORT: Local: Broker transport failure",
        Some(Line::NoCoordinator("_TRANSPORT"))
    )]
    #[case::steady(
        "CGRPJOINSTATE",
        "[thrd:main]: Group \"g\" changed join state wait-assign-call -> steady (state up)",
        Some(Line::Steady)
    )]
    #[case::unsteady(
        "CGRPJOINSTATE",
        "[thrd:main]: Group \"steady -> steady (\" changed join state steady -> init (state up)",
        Some(Line::Joining)
    )]
    #[case::records(
        "REQERR",
        "[thrd:127.0.0.1:9092/1]: 127.0.0.1:9092/1: ProduceRequest failed: Broker: Not enough in-sync replicas: \
         explicit actions Retry,MsgNotPersisted",
        Some(Line::NotWritten(RDKafkaErrorCode::NotEnoughReplicas))
    )]
    #[case::records_after_append(
        "REQERR",
        "[thrd:b/1]: b/1: ProduceRequest failed: Broker: Message(s) written to insufficient number of in-sync \
         replicas: explicit actions Retry,MsgPossiblyPersisted",
        Some(Line::NotWritten(RDKafkaErrorCode::NotEnoughReplicasAfterAppend))
    )]
    #[case::records_and_a_disk(
        "REQERR",
        "[thrd:b/1]: b/1: ProduceRequest failed: Broker: Disk error when trying to access log file on disk: \
         explicit actions Refresh,Retry,MsgNotPersisted",
        Some(Line::NotWritten(RDKafkaErrorCode::KafkaStorageError))
    )]
    #[case::records_and_slow_replicas(
        "REQERR",
        "[thrd:b/1]: b/1: ProduceRequest failed: Broker: Request timed out: actions Retry,MsgPossiblyPersisted",
        Some(Line::NotWritten(RDKafkaErrorCode::RequestTimedOut))
    )]
    #[case::records_at_another_broker(
        "REQERR",
        "[thrd:b/1]: b/1: ProduceRequest failed: Broker: Not leader for partition: actions Refresh,MsgNotPersisted",
        None
    )]
    #[case::another_request(
        "REQERR",
        "[thrd:b/1]: b/1: MetadataRequest failed: Broker: Request timed out: actions Retry",
        None
    )]
    #[case::query(
        "TXNCOORD",
        "[thrd:main]: Querying for transaction coordinator: start",
        None
    )]
    #[case::other(
        "HEARTBEAT",
        "[thrd:main]: Heartbeat for group \"g\" coordinator is ",
        None
    )]
    #[case::empty("CGRPJOINSTATE", "", None)]
    fn lines_of_the_library_are_read(
        #[case] facility: &str,
        #[case] line: &str,
        #[case] read: Option<Line<'_>>,
    ) {
        assert_eq!(read_line(facility, line), read);
    }

    #[test]
    fn codes_have_kafka_s_names() {
        use RDKafkaErrorCode as Code;
        for (code, name) in [
            (
                Code::InconsistentGroupProtocol,
                "INCONSISTENT_GROUP_PROTOCOL",
            ),
            (Code::InvalidSessionTimeout, "INVALID_SESSION_TIMEOUT"),
            (Code::CoordinatorNotAvailable, "COORDINATOR_NOT_AVAILABLE"),
            (Code::FencedInstanceId, "FENCED_INSTANCE_ID"),
        ] {
            assert_eq!(name_of(code), name);
        }
    }

    #[test]
    fn only_answers_to_joining_are_refusals() {
        let code = RDKafkaErrorCode::InconsistentGroupProtocol;
        let said = joining(
            code,
            "JoinGroup failed: Broker: Inconsistent group protocol",
        );
        assert_eq!(said.as_deref(), Some("INCONSISTENT_GROUP_PROTOCOL"));
        assert_eq!(joining(code, "Fetch failed"), None);
    }

    #[test]
    fn a_refusal_is_shown_until_it_is_over() {
        let last = LastRefusal::of(Refused::Consumer);
        last.note("INVALID_SESSION_TIMEOUT");
        let shown = last.current().expect("it is shown");
        assert!(shown.contains("group.max.session.timeout.ms"), "{shown}");
        last.coordinator_found();
        assert!(last.current().is_some(), "the coordinator is who refuses");
        last.over();
        assert_eq!(last.current(), None);
    }

    #[test]
    fn what_every_rebalance_and_fail_over_brings_is_not_shown() {
        let last = LastRefusal::of(Refused::Producer);
        for code in [
            "MEMBER_ID_REQUIRED",
            "_TRANSPORT",
            "COORDINATOR_NOT_AVAILABLE",
        ] {
            last.note(code);
            assert_eq!(last.current(), None, "{code}");
        }
        last.heard.lock().as_mut().expect("it was heard").since -= PASSING;
        last.note("COORDINATOR_NOT_AVAILABLE");
        assert!(last.current().is_some(), "it lasts");
        last.coordinator_found();
        assert_eq!(last.current(), None);
    }
}
