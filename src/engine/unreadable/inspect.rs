//! The inspector thread: proves what cannot be decoded, and says where a partition goes on.
//!
//! | what is found | on the request topic | on a topic of ours |
//! | --- | --- | --- |
//! | a range that cannot be decoded | a dead letter, and the partition goes on behind it | held until an operator's command |
//! | all can be read | a partition that was asked about goes on | the same |
//! | nothing is proved | the next look comes with the next error | the same |

use std::collections::BTreeMap;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use super::hold::{self, Approval};
use super::range_at;
use crate::engine::core::Core;
use crate::engine::record::Origin;
use crate::engine::state::doubt::Candidate;
use crate::engine::state::{Epoch, Partition};
use crate::engine::window::Span;

/// Between two looks at what was heard.
const TURN: Duration = Duration::from_millis(200);

/// Between two looks for an operator's approval.
const ASK_EVERY: Duration = Duration::from_secs(10);

/// What is known of a partition in doubt.
pub(crate) struct Finding {
    pub(crate) partition: Partition,
    pub(crate) epoch: Epoch,
    /// What cannot be decoded; none: all can be read.
    pub(crate) range: Option<Span>,
}

/// Runs until the engine ends.
pub(crate) fn run(core: &Core, findings: &Sender<Finding>) {
    let mut inspector = Inspector {
        core,
        findings,
        held: BTreeMap::new(),
        asked: Instant::now(),
    };
    while !core.wait_until(TURN, |_| core.is_ending()) {
        let due = core.suspects.lock().take_due(Instant::now());
        due.into_iter().for_each(|offset| inspector.look(offset));
        inspector.look_at_held();
    }
}

struct Inspector<'a> {
    core: &'a Core,
    findings: &'a Sender<Finding>,
    held: BTreeMap<Partition, (Epoch, Span)>,
    asked: Instant,
}

impl Inspector<'_> {
    /// Finds the partition that has an unreadable batch at `offset`, and looks at all that wait to be looked at.
    fn look(&mut self, offset: i64) {
        let candidates = self.core.lock().state.candidates(offset);
        let mut known = false;
        for candidate in candidates {
            if self.core.is_ending() {
                return;
            }
            // The error came from one partition.
            if !known || candidate.asked {
                known |= self.look_at(candidate, offset);
            }
        }
        if known {
            self.core.suspects.lock().settle(offset, Instant::now());
        }
    }

    /// Whether it is this partition's batch.
    fn look_at(&mut self, candidate: Candidate, offset: i64) -> bool {
        let partition = candidate.partition.clone();
        match range_at(&self.core.settings.connection, partition, candidate.next) {
            Ok(Some(range)) => {
                self.found(candidate, range);
                (range.from..range.until).contains(&offset)
            }
            Ok(None) => {
                if candidate.asked {
                    self.tell(candidate.partition, candidate.epoch, None);
                }
                false
            }
            Err(unproven) => {
                if candidate.asked {
                    self.core.suspects.lock().heard(offset, Instant::now());
                }
                tracing::debug!(
                    topic = &*candidate.partition.topic,
                    partition = candidate.partition.number,
                    offset,
                    %unproven,
                    "whether a batch can be decoded is not known"
                );
                false
            }
        }
    }

    fn found(&mut self, candidate: Candidate, range: Span) {
        let Candidate {
            partition,
            epoch,
            origin,
            ..
        } = candidate;
        match origin {
            Origin::Requests => self.tell(partition, epoch, Some(range)),
            Origin::Accepted | Origin::Jobs | Origin::Retry(_) => {
                if self.core.lock().state.hold_back(&partition, epoch) {
                    tracing::error!(
                        topic = &*partition.topic,
                        partition = partition.number,
                        from = range.from,
                        to = range.until - 1,
                        "a batch of our own cannot be decoded, and the partition waits: check the brokers' disks, then see user-otp topics skip-unreadable"
                    );
                    self.held.insert(partition, (epoch, range));
                    self.publish();
                }
            }
        }
    }

    /// Lets partitions go on that an operator has looked at, and forgets those that are not ours any more.
    fn look_at_held(&mut self) {
        if self.held.is_empty() || self.asked.elapsed() < ASK_EVERY {
            return;
        }
        self.asked = Instant::now();
        let core = self.core;
        self.held
            .retain(|partition, (epoch, _)| core.lock().state.has(partition, *epoch));
        let settings = &core.settings;
        let now = core.clock.now();
        let approvals = hold::approvals(&settings.connection, &settings.job_log, now);
        let approvals = approvals.unwrap_or_else(|error| {
            tracing::debug!(%error, "whether an operator lets a partition go on is not known");
            Vec::new()
        });
        let (go_on, held) =
            std::mem::take(&mut self.held)
                .into_iter()
                .partition(|(partition, (_, range))| {
                    let of = |approval: &Approval| approval.is_of(partition, *range);
                    approvals.iter().any(of)
                });
        self.held = held;
        self.publish();
        let go_on: BTreeMap<_, _> = go_on;
        for (partition, (epoch, range)) in go_on {
            self.tell(partition, epoch, Some(range));
        }
    }

    fn publish(&self) {
        let held = self.held.iter();
        let held = held.map(|(partition, (_, range))| (partition.clone(), *range));
        *self.core.unreadable.lock() = held.collect();
    }

    fn tell(&self, partition: Partition, epoch: Epoch, range: Option<Span>) {
        // Nobody listens where the engine ends.
        let _ = self.findings.send(Finding {
            partition,
            epoch,
            range,
        });
    }
}
