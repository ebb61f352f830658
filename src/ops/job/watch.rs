//! What becomes of the requests that a job has sent, by their outcomes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::engine::tail::Tail;
use crate::engine::window::WindowError;
use crate::outcome::FinalOutcome;
use crate::wire::OutcomeOrigin;

/// How often it is looked whether somebody still wants to know.
const TURN: Duration = Duration::from_millis(100);

/// Counts in the background until it is dropped.
pub(super) struct Watch(Arc<Seen>);

#[derive(Default)]
struct Seen {
    counts: [AtomicU64; FinalOutcome::ALL.len()],
    failed: Mutex<Option<WindowError>>,
    done: AtomicBool,
}

/// How many requests ended so.
pub(super) type Ended = BTreeMap<&'static str, u64>;

impl Watch {
    /// Counts the outcomes of this job that `tail` comes by.
    ///
    /// # Errors
    ///
    /// When there can be no thread.
    pub(super) fn start(mut tail: Tail, job: String) -> std::io::Result<Self> {
        let seen = Arc::new(Seen::default());
        let counting = Arc::clone(&seen);
        std::thread::Builder::new()
            .name("outcomes".to_owned())
            .spawn(move || counting.count(&mut tail, &job))?;
        Ok(Self(seen))
    }

    /// How many have ended.
    #[must_use]
    pub(super) fn total(&self) -> u64 {
        let counts = self.0.counts.iter();
        counts.map(|count| count.load(Ordering::Acquire)).sum()
    }

    /// How many have ended as what; none that is 0.
    ///
    /// # Errors
    ///
    /// When outcomes can no longer be read.
    pub(super) fn ended(&self) -> Result<Ended, WindowError> {
        if let Some(error) = self.0.failed.lock().clone() {
            return Err(error);
        }
        let counts = self.0.counts.iter().map(|one| one.load(Ordering::Acquire));
        let each = FinalOutcome::ALL.iter().map(|outcome| outcome.as_str());
        Ok(each.zip(counts).filter(|(_, count)| *count > 0).collect())
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.done.store(true, Ordering::Relaxed);
    }
}

impl Seen {
    fn count(&self, tail: &mut Tail, job: &str) {
        while !self.done.load(Ordering::Relaxed) {
            let record = match tail.next_until(Instant::now() + TURN) {
                Ok(Some(record)) => record,
                Ok(None) => continue,
                Err(error) => {
                    *self.failed.lock() = Some(error);
                    return;
                }
            };
            let value = record.value.as_deref().unwrap_or_default();
            let ours = OutcomeOrigin::parse(value)
                .filter(|seen| seen.replay_id.as_deref() == Some(job))
                .and_then(|seen| FinalOutcome::from_word(&seen.outcome));
            let place = ours.and_then(|one| FinalOutcome::ALL.iter().position(|all| *all == one));
            if let Some(place) = place {
                self.counts[place].fetch_add(1, Ordering::AcqRel);
            }
        }
    }
}
