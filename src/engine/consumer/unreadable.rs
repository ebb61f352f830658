//! What cannot be decoded, as the consumer thread hears of it and passes over it.

use std::time::Instant;

use rdkafka::error::KafkaError;

use super::Intake;
use crate::engine::core::{Core, Shared};
use crate::engine::out_of_range;
use crate::engine::record::{Position, Request};
use crate::engine::state::Partition;
use crate::engine::state::doubt::GoOn;
use crate::engine::unreadable::inspect::Finding;
use crate::engine::unreadable::reader::decode_error;
use crate::handler::Handler;

/// Notes where the library could not decode a batch.
pub(super) fn heard(core: &Core, error: &KafkaError, sentence: &str) {
    if let Some(found) = decode_error(error, sentence) {
        core.suspects.lock().heard(found.first, Instant::now());
    }
}

/// Where the library passes over a batch by itself, the next record of its partition shows it, or its position.
pub(super) fn ask_about_gap(core: &Core, shared: &mut Shared, partition: &Partition, offset: i64) {
    let Some(next) = shared.state.next_offset(partition) else {
        return;
    };
    if next < offset
        && let Some(suspect) = core.suspects.lock().passed(next..offset, Instant::now())
    {
        shared.state.ask(partition, suspect);
    }
}

impl<H: Handler> Intake<H> {
    /// Passes over what cannot be decoded: each range has its one dead letter, in the transaction that commits the
    /// offset behind it.
    pub(super) fn take_findings(&self) {
        while let Ok(finding) = self.findings.try_recv() {
            self.go_on(&finding);
        }
    }

    fn go_on(&self, finding: &Finding) {
        let core = &self.dispatcher.core;
        let Finding {
            partition,
            epoch,
            range,
        } = finding;
        let Some(GoOn { at, unfinished }) = core.lock().state.go_on(partition, *epoch, *range)
        else {
            return;
        };
        if !out_of_range::assign_at(core, &self.consumer, partition, at) {
            return;
        }
        let Some(range) = unfinished else {
            return;
        };
        let (topic, number, last) = (&partition.topic, partition.number, range.until - 1);
        tracing::warn!(
            topic = &**topic,
            partition = number,
            from = range.from,
            to = last,
            "a batch cannot be decoded, and is passed over with one dead letter: find its producer"
        );
        let (now, settings) = (core.clock.now(), &core.settings);
        let Some(origin) = settings.origin(topic) else {
            return;
        };
        let first = Position {
            topic: topic.clone(),
            partition: number,
            offset: range.from,
        };
        let request = Request::unreadable(first, last, origin, now, &settings.reading);
        core.inputs.lock().note(topic, true, now);
        let admission = core
            .lock()
            .state
            .admit(request, *epoch, now, core.clock.uptime());
        self.dispatcher.admitted(admission);
    }
}
