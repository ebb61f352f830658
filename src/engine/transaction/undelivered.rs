//! What becomes of results whose records a topic does not take.

use super::{Committer, Finished};
use crate::engine::clients::Undelivered;
use crate::engine::faults::Faults;
use crate::engine::output::shorten_dead_letter;
use crate::outcome::{Code, Disposition, Failure, Outcome, Setback, Stage};

impl Committer {
    /// Records were not taken. A topic that is away or forbidden costs a try, or the email; else one
    /// record is at fault, and the batch is halved until it stands alone.
    pub(super) fn part(&mut self, batch: &mut [Finished], failed: &[Undelivered]) {
        let faults = Faults::of(failed);
        for (result, topic) in faults.topics {
            let Some(finished) = batch.get_mut(result) else {
                continue;
            };
            if !self.without_topic(finished, topic) && self.waits_for.insert(topic.to_owned()) {
                tracing::warn!(
                    topic,
                    "a topic of ours is missing or forbidden; holding back until it is there"
                );
            }
        }
        match faults.suspects.as_slice() {
            [] => {}
            [culprit] => {
                if let Some(finished) = batch.get_mut(*culprit) {
                    self.too_large(finished);
                }
            }
            several => self.cap = several.len().div_ceil(2),
        }
    }

    /// Does without a topic that is not ours; whether that is possible.
    fn without_topic(&self, finished: &mut Finished, topic: &str) -> bool {
        // It did already: an SMS topic and an email topic may be away together.
        if !finished.writes_to(topic) {
            return true;
        }
        let outcome = match &mut finished.outcome {
            Outcome::Published(published) if published.emails_to(topic) => {
                published.leave_out_email();
                std::mem::replace(&mut finished.outcome, Outcome::Retried(unavailable()))
            }
            Outcome::Published(published) if published.sms.topic == topic => {
                Outcome::Retried(unavailable())
            }
            Outcome::Published(_)
            | Outcome::Rejected(_)
            | Outcome::Limited(_)
            | Outcome::DeadLettered(_)
            | Outcome::Retried(_) => return false,
        };
        self.replace(finished, outcome);
        true
    }

    fn too_large(&self, finished: &mut Finished) {
        let failure = Failure {
            disposition: Disposition::Refused,
            code: Code::OutputTooLarge,
            stage: Stage::Publish,
        };
        match &finished.outcome {
            // A dead letter that does not fit although it was measured: its topic takes less than the
            // start-up check saw. The value is what can be left out.
            Outcome::DeadLettered(_) => shorten_dead_letter(&mut finished.records),
            Outcome::Published(_)
            | Outcome::Rejected(_)
            | Outcome::Limited(_)
            | Outcome::Retried(_) => {
                self.replace(finished, Outcome::DeadLettered(failure));
            }
        }
    }
}

fn unavailable() -> Setback {
    Setback {
        code: Code::OutputTopicUnavailable,
        stage: Stage::Publish,
        retry_after: None,
    }
}
