//! Whose fault it is that records were not taken, and that a producer was fenced.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::clients::Undelivered;

/// Two fences within this time, with no timeout of our own, are another process with our id.
const FENCE_WINDOW: Duration = Duration::from_secs(60);

/// Later than this a request is no longer expected to arrive.
const LATE: Duration = Duration::from_secs(600);

/// Late requests that are expected at once: so many fences by another process pass for our own.
const MAX_LATE: usize = 8;

/// Failed deliveries of a batch, by what follows from them. Whatever is in neither of the first two is sent
/// again as it is.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Faults<'a> {
    /// Results with a record that its topic never takes; where there are several, one of them may
    /// have taken the others with it.
    pub(crate) suspects: Vec<usize>,
    /// Results with a record for a topic that is away or forbidden, and that topic.
    pub(crate) topics: Vec<(usize, &'a str)>,
    /// Topics that refuse a record's time, which is when it is sent: our clock's fault, or a broker's, and no
    /// record's.
    pub(crate) clocks: Vec<&'a str>,
}

impl<'a> Faults<'a> {
    pub(crate) fn of(failed: &'a [Undelivered]) -> Self {
        let mut faults = Self::default();
        for one in failed {
            if is_record_fault(one.code) {
                if !faults.suspects.contains(&one.result) {
                    faults.suspects.push(one.result);
                }
            } else if is_topic_fault(one.code) {
                faults.topics.push((one.result, &one.topic));
            } else if one.code == RDKafkaErrorCode::InvalidTimestamp {
                faults.clocks.push(&one.topic);
            } else {
                tracing::debug!(code = %one.code, topic = one.topic, "record not delivered; sent again");
            }
        }
        faults
    }
}

/// When a producer was fenced lately.
#[derive(Debug, Default)]
pub(crate) struct Fences {
    fences: Vec<Instant>,
    /// When requests for a producer id broke off that may still arrive, and fence who has the id then.
    late: VecDeque<Instant>,
}

impl Fences {
    /// Notes a fatal error: whether it is another process's doing, that has our id.
    pub(crate) fn note(&mut self, error: Option<&KafkaError>) -> bool {
        if !error.is_some_and(is_fence) || self.is_late() {
            return false;
        }
        self.fences.retain(|fence| fence.elapsed() < FENCE_WINDOW);
        self.fences.push(Instant::now());
        self.fences.len() > 1
    }

    /// Whether a late request of our own explains a fence; it explains one.
    pub(crate) fn is_late(&mut self) -> bool {
        self.late.retain(|broke_off| broke_off.elapsed() < LATE);
        self.late.pop_front().is_some()
    }

    /// So many requests of ours for a producer id may arrive late: each explains one fence.
    pub(crate) fn expect_late(&mut self, requests: usize) {
        let now = Instant::now();
        self.late
            .extend(std::iter::repeat_n(now, requests.min(MAX_LATE)));
        let spare = self.late.len().saturating_sub(MAX_LATE);
        self.late.drain(..spare);
    }

    /// A broker timed our own transaction out, which looks exactly like a fence.
    pub(crate) fn forget(&mut self) {
        self.fences.clear();
    }
}

/// The error that stands for failed deliveries.
pub(crate) fn first_of(failed: &[Undelivered]) -> Option<KafkaError> {
    failed
        .first()
        .map(|one| KafkaError::MessageProduction(one.code))
}

/// The fault of one record, whenever it is sent.
pub(crate) fn is_record_fault(code: RDKafkaErrorCode) -> bool {
    matches!(
        code,
        RDKafkaErrorCode::MessageSizeTooLarge
            | RDKafkaErrorCode::InvalidMessageSize
            | RDKafkaErrorCode::InvalidRecord
    )
}

/// The fault of a topic that is away, forbidden, or was never there.
pub(crate) fn is_topic_fault(code: RDKafkaErrorCode) -> bool {
    matches!(
        code,
        RDKafkaErrorCode::UnknownTopic
            | RDKafkaErrorCode::UnknownTopicOrPartition
            | RDKafkaErrorCode::UnknownPartition
            | RDKafkaErrorCode::InvalidTopic
            | RDKafkaErrorCode::TopicAuthorizationFailed
    )
}

/// We may not use the transactional id.
pub(crate) fn is_forbidden_id(error: &KafkaError) -> bool {
    error.rdkafka_error_code() == Some(RDKafkaErrorCode::TransactionalIdAuthorizationFailed)
}

/// The coordinator knows of no transaction that could be aborted. The library asks it to also where the first
/// topic of one was refused, and nothing of it was begun.
pub(crate) fn is_no_transaction(error: &KafkaError) -> bool {
    error.rdkafka_error_code() == Some(RDKafkaErrorCode::InvalidTransactionalState)
}

/// Somebody else holds our id now, or a broker timed our transaction out.
pub(crate) fn is_fence(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            RDKafkaErrorCode::Fenced
                | RDKafkaErrorCode::ProducerFenced
                | RDKafkaErrorCode::InvalidProducerEpoch
        )
    )
}

#[cfg(test)]
mod tests {
    use rdkafka::error::{KafkaError, RDKafkaErrorCode};

    use super::{Fences, MAX_LATE};

    const FENCE: KafkaError = KafkaError::MessageProduction(RDKafkaErrorCode::Fenced);

    #[test]
    fn two_fences_are_another_process() {
        let mut fences = Fences::default();
        assert!(!fences.note(None));
        assert!(!fences.note(Some(&FENCE)));
        assert!(fences.note(Some(&FENCE)));
    }

    #[test]
    fn each_late_request_for_a_producer_id_explains_one_fence() {
        let mut fences = Fences::default();
        fences.expect_late(3);
        for explained in 0..3 {
            assert!(!fences.note(Some(&FENCE)), "{explained}");
        }
        assert!(!fences.note(Some(&FENCE)));
        assert!(fences.note(Some(&FENCE)));
    }

    #[test]
    fn only_so_many_fences_are_explained() {
        let mut fences = Fences::default();
        fences.expect_late(MAX_LATE);
        fences.expect_late(100);
        let noted = (0..=MAX_LATE).map(|_| fences.note(Some(&FENCE)));
        assert_eq!(noted.filter(|is_another| *is_another).count(), 0);
        assert!(fences.note(Some(&FENCE)));
    }
}
