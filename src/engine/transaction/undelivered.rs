//! What becomes of results whose records a topic does not take.

use std::time::Instant;

use super::{Committer, Finished};
use crate::engine::clients::Undelivered;
use crate::engine::faults::{Faults, is_record_fault};
use crate::engine::output::shorten_dead_letter;
use crate::engine::supersede::Instead;
use crate::known_topics::Refusal;
use crate::outcome::{Code, Disposition, Failure, Outcome, Setback, Stage};

impl Committer {
    /// Records were not taken; what is left to be written now. A topic that is away or forbidden costs
    /// the email, or puts aside what is for it; where there are many SMS topics, it costs a try. Else
    /// one record is at fault, and the batch is halved until it stands alone.
    pub(super) fn part(
        &mut self,
        mut batch: Vec<Finished>,
        failed: &[Undelivered],
    ) -> Vec<Finished> {
        let faults = Faults::of(failed);
        for (result, topic) in faults.topics {
            if !self.without_topic(&mut batch, result, topic) {
                self.aside.note(topic, Refusal::Away, Instant::now());
                if self.core.topics.refuses(topic, Refusal::Away) {
                    tracing::warn!(
                        topic,
                        "a topic is missing or forbidden; what is for it waits until it is there"
                    );
                }
            }
        }
        for topic in faults.clocks {
            if self.wrong_times.insert(topic.to_owned()) {
                tracing::warn!(
                    topic,
                    "a topic refuses the time of what is written now: our clock is wrong, or a broker's; holding back"
                );
            }
        }
        match faults.suspects.as_slice() {
            [] => {}
            [culprit] => {
                let refused = failed
                    .iter()
                    .filter(|one| one.result == *culprit && is_record_fault(one.code));
                let topics: Vec<_> = refused.map(|one| one.topic.as_str()).collect();
                self.too_large(&mut batch, *culprit, &topics);
            }
            several => self.cap = several.len().div_ceil(2),
        }
        batch
    }

    /// Does without a topic that nothing else waits for; whether that is possible.
    fn without_topic(&self, batch: &mut Vec<Finished>, place: usize, topic: &str) -> bool {
        let only_one = self.core.settings.only_sms_topic.as_deref() == Some(topic);
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
            Outcome::Published(published) if published.sms.topic == topic && !only_one => {
                self.replace(batch, place, Instead::Retried(Setback::TOPIC_AWAY));
            }
            Outcome::Published(_)
            | Outcome::Rejected(_)
            | Outcome::Limited(_)
            | Outcome::DeadLettered(_)
            | Outcome::Retried(_) => return false,
        }
        true
    }

    /// A record of the result at `place` was larger than `topics` take. Where it is as small as it can
    /// be, it waits until they take more.
    fn too_large(&mut self, batch: &mut Vec<Finished>, place: usize, topics: &[&str]) {
        let Some(finished) = batch.get_mut(place) else {
            return;
        };
        let end = Failure {
            disposition: Disposition::Refused,
            code: Code::OutputTooLarge,
            stage: Stage::Publish,
        };
        // A dead letter's outcome is no smaller than another one.
        if !topics.contains(&&*self.core.settings.writer.outcomes) {
            match &finished.outcome {
                // It was measured: its topic takes less than the start-up check saw. The value is what
                // can be left out.
                Outcome::DeadLettered(_) if !shorten_dead_letter(&mut finished.records) => {}
                Outcome::DeadLettered(_) => return,
                Outcome::Published(_)
                | Outcome::Rejected(_)
                | Outcome::Limited(_)
                | Outcome::Retried(_) => {
                    return self.replace(batch, place, Instead::DeadLettered(end));
                }
            }
        }
        let Some(topic) = topics.first() else {
            return;
        };
        self.aside.note(topic, Refusal::TooSmall, Instant::now());
        if self.core.topics.refuses(topic, Refusal::TooSmall) {
            tracing::error!(
                topic,
                setting = "max.message.bytes",
                "a topic takes less than the smallest record that says how a request ended; such \
                 requests wait until it takes more"
            );
        }
        let finished = batch.remove(place);
        if let Err(finished) = self.aside.hold(topic, finished.arrival, finished) {
            batch.insert(place, finished);
        }
    }

    /// Puts a result aside that needs a topic that is away; else it is given back.
    pub(super) fn hold_back(&mut self, finished: Finished) -> Option<Finished> {
        let Some(topic) = self.aside.away(|topic| finished.writes_to(topic)) else {
            return Some(finished);
        };
        self.aside.hold(&topic, finished.arrival, finished).err()
    }

    /// One of those aside, where it is time to find out whether its topic takes records again. What is
    /// too late by then is expired, and what is to be given back is forgotten: its next owner handles
    /// it.
    pub(super) fn take_aside(&mut self) -> Option<Finished> {
        let now = Instant::now();
        if self.aside.next_try()? > now && !self.ending {
            return None;
        }
        self.forget_leaving();
        let now_ms = self.core.clock.now();
        let mut late = self.aside.take(|finished| {
            matches!(finished.outcome, Outcome::Published(_))
                && finished.ticket().request.envelope.context.deadline <= now_ms
        });
        let end = Instead::DeadLettered(Setback::TOPIC_AWAY.expired());
        let is_published = |one: &Finished| matches!(one.outcome, Outcome::Published(_));
        while let Some(place) = late.iter().position(is_published) {
            self.replace(&mut late, place, end);
        }
        self.requeue(late);
        for topic in self.aside.forget_empty() {
            if self.core.settings.only_sms_topic.as_ref() == Some(&topic) {
                self.core.topics.is_untried(&topic);
            } else {
                self.core.topics.takes(&topic);
            }
        }
        let (topic, finished) = self.aside.take_due(now)?;
        self.trying = Some(topic);
        Some(finished)
    }

    fn forget_leaving(&mut self) {
        let mut shared = self.core.lock();
        let state = &mut shared.state;
        let gone = self
            .aside
            .take(|finished| !state.is_staying(finished.ticket()));
        let tickets = gone.iter().flat_map(|one| one.group.tickets());
        tickets.for_each(|ticket| state.forget(ticket));
        drop(shared);
        if !gone.is_empty() {
            self.core.places_freed();
        }
    }

    /// `batch` is committed: what waited for its topics goes on.
    pub(super) fn take_back(&mut self, batch: &[Finished]) {
        for topic in self.aside.topics() {
            let tried = self.trying.as_ref() == Some(&topic);
            let written = batch.iter().any(|finished| finished.writes_to(&topic));
            if written && (tried || self.aside.is_away(&topic)) {
                let waited = self.aside.release(&topic);
                if self.core.topics.takes(&topic) {
                    tracing::info!(topic, "the topic takes records again");
                }
                self.requeue(waited);
            }
        }
    }

    fn requeue(&mut self, finished: Vec<Finished>) {
        if !finished.is_empty() {
            self.queue.extend(finished);
            let queue = self.queue.make_contiguous();
            queue.sort_by_key(|finished| finished.arrival);
        }
    }
}
