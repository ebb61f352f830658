//! What becomes of results whose records a topic does not take.

use super::{Committer, Finished};
use crate::engine::clients::Undelivered;
use crate::engine::faults::Faults;
use crate::engine::output::shorten_dead_letter;
use crate::engine::supersede::Instead;
use crate::outcome::{Code, Disposition, Failure, Outcome, Setback, Stage};

impl Committer {
    /// Records were not taken. A topic that is away or forbidden costs a try, or the email; else one
    /// record is at fault, and the batch is halved until it stands alone.
    pub(super) fn part(&mut self, batch: &mut Vec<Finished>, failed: &[Undelivered]) {
        let faults = Faults::of(failed);
        for (result, topic) in faults.topics {
            if !self.without_topic(batch, result, topic) && self.waits_for.insert(topic.to_owned())
            {
                tracing::warn!(
                    topic,
                    "a topic of ours is missing or forbidden; holding back until it is there"
                );
            }
        }
        for topic in faults.clocks {
            if self.waits_for.insert(topic.to_owned()) {
                tracing::warn!(
                    topic,
                    "a topic refuses the time of what is written now: our clock is wrong, or a broker's; holding back"
                );
            }
        }
        match faults.suspects.as_slice() {
            [] => {}
            [culprit] => self.too_large(batch, *culprit),
            several => self.cap = several.len().div_ceil(2),
        }
    }

    /// Does without a topic that is not ours; whether that is possible.
    fn without_topic(&self, batch: &mut Vec<Finished>, place: usize, topic: &str) -> bool {
        // It did already: an SMS topic and an email topic may be away together.
        let Some(finished) = batch.get_mut(place).filter(|one| one.writes_to(topic)) else {
            return true;
        };
        match &mut finished.outcome {
            Outcome::Published(published) if published.emails_to(topic) => {
                published.leave_out_email();
                let now = self.core.clock.now();
                finished.records = finished.group.write(&self.writer, &finished.outcome, now);
            }
            Outcome::Published(published) if published.sms.topic == topic => {
                self.replace(batch, place, Instead::Retried(unavailable()));
            }
            Outcome::Published(_)
            | Outcome::Rejected(_)
            | Outcome::Limited(_)
            | Outcome::DeadLettered(_)
            | Outcome::Retried(_) => return false,
        }
        true
    }

    fn too_large(&self, batch: &mut Vec<Finished>, place: usize) {
        let Some(finished) = batch.get_mut(place) else {
            return;
        };
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
            | Outcome::Retried(_) => self.replace(batch, place, Instead::DeadLettered(failure)),
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
