//! What each error means that librdkafka reports to the consumer, and which errors last; pure.
//!
//! librdkafka hands most errors over without their topic and partition, and some of them only once: a
//! topic that may not be read is reported for the first refused fetch of an assignment alone. So an error
//! that stands is over only when partitions that gave no record since were assigned again, and it stayed
//! away for [`QUIET`] after that.

use std::time::{Duration, Instant};

use rdkafka::error::RDKafkaErrorCode as Code;

/// An error is over when it stayed away for this long: connections that are refused are tried again
/// within a second, and within 15 s where an operator gives `reconnect.backoff.max.ms` its default back.
pub(crate) const QUIET: Duration = Duration::from_secs(20);

/// What an error asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ErrorClass {
    /// Nothing: it belongs to ordinary work, or librdkafka tries again by itself. Where it lasts, a
    /// partition stalls, and that is said with this error.
    Passing,
    /// No broker can be reached.
    Unreachable,
    /// The next offset of some partition does not exist.
    OutOfRange,
    /// The group gave our partitions away.
    PollExceeded,
    /// A batch cannot be decoded.
    Undecodable,
    /// A permission, a password, a certificate or our membership is not accepted.
    Refused,
    /// The consumer has ended.
    Fatal,
    /// Nobody thought of it.
    Unclassified,
}

impl ErrorClass {
    /// Whether it is said, and health is degraded, until it is over.
    fn stands(self) -> bool {
        match self {
            Self::Refused | Self::Unclassified => true,
            // Each has a word of its own: what cannot be decoded is proved, or its partition stalls.
            Self::Passing
            | Self::Unreachable
            | Self::OutOfRange
            | Self::PollExceeded
            | Self::Undecodable
            | Self::Fatal => false,
        }
    }
}

/// The class of every code, each named once; a code of a later library is [`ErrorClass::Unclassified`].
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the library may add codes: those are said too"
)]
#[expect(clippy::too_many_lines, reason = "a list of codes")]
pub(crate) fn classify(code: Code) -> ErrorClass {
    match code {
        Code::AllBrokersDown => ErrorClass::Unreachable,
        Code::AutoOffsetReset
        | Code::OffsetOutOfRange
        | Code::NoOffset
        | Code::LogTruncation => ErrorClass::OutOfRange,
        Code::PollExceeded => ErrorClass::PollExceeded,
        Code::Fatal | Code::Fenced | Code::FencedInstanceId => ErrorClass::Fatal,
        // A checksum that is wrong, a codec or a format that is not known, data that ends too early.
        Code::BadMessage
        | Code::BadCompression
        | Code::Underflow
        | Code::NotImplemented
        | Code::InvalidMessage
        | Code::InvalidMessageSize
        | Code::InvalidRecord
        | Code::MessageSizeTooLarge
        | Code::UnsupportedCompressionType
        | Code::UnsupportedForMessageFormat => ErrorClass::Undecodable,
        Code::TopicAuthorizationFailed
        | Code::GroupAuthorizationFailed
        | Code::ClusterAuthorizationFailed
        | Code::TransactionalIdAuthorizationFailed
        | Code::DelegationTokenAuthDisabled
        | Code::DelegationTokenAuthorizationFailed
        | Code::DelegationTokenExpired
        | Code::DelegationTokenNotFound
        | Code::DelegationTokenOwnerMismatch
        | Code::DelegationTokenRequestNotAllowed
        | Code::InvalidPrincipalType
        | Code::PrincipalDeserializationFailure
        | Code::Authentication
        | Code::SaslAuthenticationFailed
        | Code::UnsupportedSASLMechanism
        | Code::IllegalSASLState
        | Code::UnacceptableCredential
        | Code::SecurityDisabled
        | Code::SSL
        | Code::PolicyViolation
        | Code::InvalidGroupId
        | Code::InconsistentGroupProtocol
        | Code::InvalidSessionTimeout
        | Code::UnsupportedAssignor
        | Code::UnreleasedInstanceId
        | Code::GroupMaxSizeReached => ErrorClass::Refused,
        // Connections come and go, leaders and coordinators move, brokers are busy: all tried again.
        Code::NoError
        | Code::BrokerDestroy
        | Code::BrokerTransportFailure
        | Code::DestroyBroker
        | Code::Resolve
        | Code::NodeUpdate
        | Code::UnknownBroker
        | Code::BrokerNotAvailable
        | Code::NetworkException
        | Code::RequestTimedOut
        | Code::OperationTimedOut
        | Code::TimedOutQueue
        | Code::MessageTimedOut
        | Code::ThrottlingQuotaExceeded
        | Code::Retry
        | Code::Interrupted
        | Code::LeaderNotAvailable
        | Code::NotLeaderForPartition
        | Code::ReplicaNotAvailable
        | Code::PreferredLeaderNotAvailable
        | Code::EligibleLeadersNotAvailable
        | Code::FencedLeaderEpoch
        | Code::UnknownLeaderEpoch
        | Code::StaleControllerEpoch
        | Code::StaleBrokerEpoch
        | Code::NotController
        | Code::OffsetNotAvailable
        | Code::KafkaStorageError
        | Code::LogDirNotFound
        | Code::ListenerNotFound
        | Code::ReassignmentInProgress
        | Code::FetchSessionIdNotFound
        | Code::InvalidFetchSessionEpoch
        | Code::RebootstrapRequired
        | Code::WaitCache
        | Code::WaitingForCoordinator
        | Code::CoordinatorLoadInProgress
        | Code::CoordinatorNotAvailable
        | Code::NotCoordinator
        | Code::ConcurrentTransactions
        | Code::UnstableOffsetCommit
        // A topic that is created, or created again. One that stays away is said by its name.
        | Code::UnknownTopicOrPartition
        | Code::UnknownTopic
        | Code::UnknownPartition
        | Code::UnknownTopicId
        | Code::PartitionEOF
        // Rebalances.
        | Code::AssignPartitions
        | Code::RevokePartitions
        | Code::AssignmentLost
        | Code::RebalanceInProgress
        | Code::IllegalGeneration
        | Code::UnknownMemberId
        | Code::MemberIdRequired
        | Code::FencedMemberEpoch
        | Code::StaleMemberEpoch
        // The end of a client, and calls that were given up.
        | Code::PurgeQueue
        | Code::PurgeInflight
        | Code::Outdated
        | Code::InProgress
        | Code::PreviousInProgress
        | Code::Noop
        // The broker does not want telemetry.
        | Code::UnknownSubscriptionId
        | Code::TelemetryTooLarge => ErrorClass::Passing,
        _ => ErrorClass::Unclassified,
    }
}

/// An error that was heard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ConsumerError {
    pub(crate) code: Code,
    /// What librdkafka says about it; it names topics, brokers and the group, and never a payload.
    pub(crate) reason: String,
    /// When it was heard last.
    pub(crate) heard: Instant,
}

impl ConsumerError {
    /// What it is, and what an operator does about it.
    pub(crate) fn advice(&self) -> String {
        let action = match classify(self.code) {
            ErrorClass::Refused => {
                "run `user-otp check`, which names the permission, the password or the certificate"
            }
            ErrorClass::Unreachable => "check kafka.brokers, and that its brokers are up",
            ErrorClass::Undecodable => {
                "find the producer of that batch, and check the brokers' disks"
            }
            ErrorClass::Fatal => "restart this instance",
            ErrorClass::Passing
            | ErrorClass::OutOfRange
            | ErrorClass::PollExceeded
            | ErrorClass::Unclassified => "run `user-otp check`, and look at the brokers' logs",
        };
        format!("{self}; {action}")
    }
}

impl std::fmt::Display for ConsumerError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.reason.is_empty() {
            write!(f, "{}", self.code)
        } else {
            write!(f, "{:?} ({})", self.code, self.reason)
        }
    }
}

/// The errors that stand, at most one for each code, and the last one of any class.
#[derive(Debug, Default)]
pub(crate) struct ConsumerErrors {
    standing: Vec<ConsumerError>,
    last: Option<ConsumerError>,
}

impl ConsumerErrors {
    /// Notes an error. `Some`: it stands from now on, and is to be said.
    pub(crate) fn hear(&mut self, code: Code, reason: &str, now: Instant) -> Option<ConsumerError> {
        // `poll` repeats what the callback told already, without the reason.
        let last = self.last.take().filter(|last| last.code == code);
        let reason = match (&last, reason) {
            (Some(last), "") => last.reason.clone(),
            _ => reason.to_owned(),
        };
        let error = ConsumerError {
            code,
            reason,
            heard: now,
        };
        self.last = Some(error.clone());
        if !classify(code).stands() {
            return None;
        }
        if let Some(standing) = self.standing.iter_mut().find(|one| one.code == code) {
            *standing = error;
            return None;
        }
        self.standing.push(error.clone());
        Some(error)
    }

    /// Ends what stayed away for [`QUIET`] after `proved`: when every partition that had given no record
    /// since had been assigned again.
    pub(crate) fn end_quiet(&mut self, proved: Instant, now: Instant) -> Vec<ConsumerError> {
        let is_over = |error: &mut ConsumerError| {
            proved > error.heard && now.saturating_duration_since(proved) >= QUIET
        };
        self.standing.extract_if(.., is_over).collect()
    }

    /// The errors that stand.
    pub(crate) fn standing(&self) -> &[ConsumerError] {
        &self.standing
    }

    /// When the last of the errors that stand was heard.
    pub(crate) fn heard(&self) -> Option<Instant> {
        self.standing.iter().map(|error| error.heard).max()
    }

    /// The last error, of whatever class.
    pub(crate) fn last(&self) -> Option<&ConsumerError> {
        self.last.as_ref()
    }

    /// Whether the last error is that of a batch that cannot be decoded.
    pub(crate) fn is_undecodable(&self) -> bool {
        let last = self.last.as_ref();
        last.is_some_and(|error| classify(error.code) == ErrorClass::Undecodable)
    }
}

#[cfg(test)]
mod tests {
    use rdkafka::types::RDKafkaRespErr;
    use rstest::rstest;

    use super::*;

    /// Every code that the library has, by its number.
    fn all_codes() -> Vec<Code> {
        let numbers = -1_000..=1_000;
        let known = numbers.filter_map(|number| RDKafkaRespErr::try_from(number).ok());
        known.map(Code::from).collect()
    }

    #[test]
    fn a_code_that_nobody_classified_is_said_and_degrades_health() {
        let codes = all_codes();
        assert!(codes.len() > 150, "{} codes", codes.len());
        for code in codes {
            let mut errors = ConsumerErrors::default();
            let said = errors.hear(code, "why", Instant::now()).is_some();
            assert_eq!(said, errors.standing().len() == 1, "{code:?}");
            assert_eq!(errors.last().map(|last| last.code), Some(code));
            if classify(code) == ErrorClass::Unclassified {
                assert!(said, "{code:?}");
            }
        }
    }

    #[rstest]
    #[case(Code::TopicAuthorizationFailed, ErrorClass::Refused)]
    #[case(Code::GroupAuthorizationFailed, ErrorClass::Refused)]
    #[case(Code::BadCompression, ErrorClass::Undecodable)]
    #[case(Code::BadMessage, ErrorClass::Undecodable)]
    #[case(Code::NotImplemented, ErrorClass::Undecodable)]
    #[case(Code::AutoOffsetReset, ErrorClass::OutOfRange)]
    #[case(Code::AllBrokersDown, ErrorClass::Unreachable)]
    #[case(Code::Fatal, ErrorClass::Fatal)]
    #[case(Code::NotLeaderForPartition, ErrorClass::Passing)]
    #[case(Code::ThrottlingQuotaExceeded, ErrorClass::Passing)]
    #[case(Code::UnknownTopicOrPartition, ErrorClass::Passing)]
    #[case(Code::Unknown, ErrorClass::Unclassified)]
    #[case(Code::CriticalSystemResource, ErrorClass::Unclassified)]
    fn errors_are_told_apart(#[case] code: Code, #[case] class: ErrorClass) {
        assert_eq!(classify(code), class);
    }

    #[test]
    fn an_error_is_said_once_and_again_only_after_it_was_over() {
        const CODE: Code = Code::TopicAuthorizationFailed;
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut errors = ConsumerErrors::default();
        let said = errors.hear(CODE, "Fetch failed", at(0));
        assert_eq!(said.map(|error| error.reason), Some("Fetch failed".into()));
        assert_eq!(errors.hear(CODE, "", at(0)), None, "poll repeats it");
        assert_eq!(errors.standing()[0].reason, "Fetch failed");
        assert_eq!(errors.hear(CODE, "Fetch failed", at(5)), None);
        assert_eq!(errors.end_quiet(at(4), at(100)), [], "it was heard since");
        assert_eq!(errors.end_quiet(at(6), at(25)), [], "not for long enough");
        assert_eq!(errors.end_quiet(at(6), at(26)).len(), 1);
        assert_eq!(errors.standing(), []);
        assert!(errors.hear(CODE, "Fetch failed", at(30)).is_some());
    }
}
