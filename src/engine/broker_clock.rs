//! Whether this machine's clock and the brokers' agree.
//!
//! Deadlines are compared with this machine's clock, and record times come from others: with a clock that is minutes
//! ahead, every request would end as `deadline-near`. Brokers give the records of the outcome topic their own time
//! (`LogAppendTime`). What was appended between two looks has a time between the two, by the broker's clock:
//!
//! ```text
//!   earlier look        this look
//! ───────┼──── record ──────┼───────▶   its time must lie here, give or take `request.min_life`
//! ```
//!
//! The brokers are asked at which offset a time is reached (`ListOffsets`): that needs Describe, and reads nothing.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::{Offset, TopicPartitionList};
use tokio_util::sync::CancellationToken;

use super::clients::{Connection, Quiet};
use super::start::number;
use super::{EngineError, Stopped};
use crate::clock::{Clock, EpochMs, Uptime};
use crate::health::ClockHealth;

/// How often it is looked; a difference is known to about this.
const EVERY: Duration = Duration::from_secs(3);

/// How long one question may take.
const QUESTION: Duration = Duration::from_millis(1500);

/// A difference is measured to this.
const EXACT: Duration = Duration::from_secs(1);

/// What the looks came to. A cheap handle.
#[derive(Debug, Clone)]
pub struct BrokerClock(Arc<Mutex<ClockHealth>>);

impl BrokerClock {
    /// A handle without a look yet; `compares`: the brokers give the topic's records their own time.
    #[must_use]
    pub fn new(compares: bool) -> Self {
        let health = if compares {
            ClockHealth::NothingYet
        } else {
            ClockHealth::NotCompared
        };
        Self(Arc::new(Mutex::new(health)))
    }

    /// How the clocks compare, as last seen.
    #[must_use]
    pub fn health(&self) -> ClockHealth {
        *self.0.lock()
    }

    fn set(&self, health: ClockHealth, topic: &str, partition: i32) {
        let before = std::mem::replace(&mut *self.0.lock(), health);
        if std::mem::discriminant(&before) == std::mem::discriminant(&health) {
            return;
        }
        match health {
            ClockHealth::Ahead(by) => tracing::warn!(
                ?by,
                topic,
                partition,
                "this machine's clock is ahead of the brokers': requests end as deadline-near; set the clock"
            ),
            ClockHealth::Behind(by) => tracing::warn!(
                ?by,
                topic,
                partition,
                "this machine's clock is behind the brokers': requests are served past their deadline; set the clock"
            ),
            ClockHealth::Agrees if before != ClockHealth::NothingYet => {
                tracing::info!("this machine's clock and the brokers' agree again");
            }
            ClockHealth::Agrees | ClockHealth::NothingYet | ClockHealth::NotCompared => {}
        }
    }
}

/// Looks again and again.
pub struct ClockWatch {
    consumer: BaseConsumer<Quiet>,
    topic: String,
    bound: Duration,
    clock: Clock,
    seen: BrokerClock,
    last: Option<(Uptime, HashMap<i32, i64>)>,
}

impl ClockWatch {
    /// Watches `topic`; a difference over `bound` is told by `seen`.
    ///
    /// # Errors
    ///
    /// When a client cannot be created.
    pub fn new(
        connection: &Connection,
        topic: &str,
        bound: Duration,
        clock: Clock,
        seen: BrokerClock,
    ) -> Result<Self, EngineError> {
        let consumer = connection
            .reader_of_all()
            .create_with_context(Quiet)
            .map_err(|error| EngineError::Client(Stopped::from(&error)))?;
        Ok(Self {
            consumer,
            topic: topic.to_owned(),
            bound,
            clock,
            seen,
            last: None,
        })
    }

    /// Until it is told to stop.
    pub async fn run(mut self, stop: CancellationToken) {
        while stop
            .run_until_cancelled(tokio::time::sleep(EVERY))
            .await
            .is_some()
        {
            let looked = tokio::task::spawn_blocking(move || {
                if let Err(error) = self.look() {
                    tracing::debug!(%error, "the brokers' clock is not known now");
                }
                self
            });
            match looked.await {
                Ok(watch) => self = watch,
                Err(error) => {
                    tracing::error!(%error, "the brokers' clock is not watched any more: restart this instance");
                    return;
                }
            }
        }
    }

    fn look(&mut self) -> Result<(), KafkaError> {
        // What the library reports would pile up. It has no partitions, so no record comes.
        drop(self.consumer.poll(Duration::ZERO));
        let (now, at) = (self.clock.now(), self.clock.uptime());
        let ends = self.offsets(&self.partitions()?, Offset::End)?;
        let last = self.last.replace((at, ends.clone()));
        let Some((before, ends_before)) = last else {
            return Ok(());
        };
        // What was appended since then has the time of its broker.
        let grew = ends.into_iter().filter(|(partition, end)| {
            let before = ends_before.get(partition);
            before.is_some_and(|before| end > before)
        });
        for (partition, end) in grew {
            let is_reached = |time: EpochMs| {
                let at = Offset::Offset(time.0.max(0));
                let found = self.offsets(&[partition], at)?;
                Ok::<_, KafkaError>(found.get(&partition).is_some_and(|offset| *offset < end))
            };
            let health = compare(now, before.age(at), self.bound, is_reached)?;
            self.seen.set(health, &self.topic, partition);
            if health != ClockHealth::Agrees {
                return Ok(());
            }
        }
        Ok(())
    }

    fn partitions(&self) -> Result<Vec<i32>, KafkaError> {
        let metadata = self.consumer.fetch_metadata(Some(&self.topic), QUESTION)?;
        let topic = metadata.topics().first();
        let partitions = topic.map(|topic| topic.partitions().iter().map(|one| one.id()));
        Ok(partitions.map_or_else(Vec::new, Iterator::collect))
    }

    /// What the brokers answer for a time, or for the end, where they have an offset for it.
    fn offsets(&self, partitions: &[i32], at: Offset) -> Result<HashMap<i32, i64>, KafkaError> {
        let mut asked = TopicPartitionList::with_capacity(partitions.len());
        for partition in partitions {
            asked.add_partition_offset(&self.topic, *partition, at)?;
        }
        let found = self.consumer.offsets_for_times(asked, QUESTION)?;
        let offsets = found.elements().into_iter().filter_map(|element| {
            element.error().ok()?;
            Some((element.partition(), number(element.offset())?))
        });
        Ok(offsets.collect())
    }
}

/// Compares the clocks by a record that was appended within `age` before `now`; `is_reached` says whether the
/// partition has a record of a time, or a later one.
fn compare<E>(
    now: EpochMs,
    age: Duration,
    bound: Duration,
    mut is_reached: impl FnMut(EpochMs) -> Result<bool, E>,
) -> Result<ClockHealth, E> {
    let (earliest, latest) = (now.minus(age).minus(bound), now.plus(bound));
    let is_ahead = !is_reached(earliest)?;
    if !is_ahead && !is_reached(latest)? {
        return Ok(ClockHealth::Agrees);
    }
    // The newest record's time lies from `low` to below `high`: first a bound of it is looked for, then itself.
    let (mut low, mut high);
    let mut step = bound.max(EXACT);
    if is_ahead {
        high = earliest;
        low = high.minus(step);
        while low.0 > 0 && !is_reached(low)? {
            (high, step) = (low, step.saturating_mul(2));
            low = high.minus(step);
        }
    } else {
        low = latest;
        high = low.plus(step);
        while high.0 < i64::MAX / 2 && is_reached(high)? {
            (low, step) = (high, step.saturating_mul(2));
            high = low.plus(step);
        }
    }
    while low.left(EpochMs(0)) + EXACT < high.left(EpochMs(0)) {
        let middle = low.plus(high.left(low) / 2);
        if is_reached(middle)? {
            low = middle;
        } else {
            high = middle;
        }
    }
    let whole = |difference: Duration| Duration::from_secs(difference.as_secs());
    Ok(if is_ahead {
        ClockHealth::Ahead(whole(now.left(low)))
    } else {
        ClockHealth::Behind(whole(low.left(now)))
    })
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use rstest::rstest;

    use super::*;

    const NOW: EpochMs = EpochMs(1_700_000_000_000);
    const SECOND: Duration = Duration::from_secs(1);

    /// The newest record is this many seconds old by our clock, and was appended three seconds ago at most.
    #[rstest]
    #[case::just_now(0, ClockHealth::Agrees)]
    #[case::appended_after_the_earlier_look(3, ClockHealth::Agrees)]
    #[case::a_little_ahead(17, ClockHealth::Agrees)]
    #[case::a_little_behind(-14, ClockHealth::Agrees)]
    #[case::ahead(120, ClockHealth::Ahead(120 * SECOND))]
    #[case::just_over(19, ClockHealth::Ahead(19 * SECOND))]
    #[case::days_ahead(1_000_000, ClockHealth::Ahead(1_000_000 * SECOND))]
    #[case::behind(-120, ClockHealth::Behind(120 * SECOND))]
    #[case::days_behind(-1_000_000, ClockHealth::Behind(1_000_000 * SECOND))]
    #[case::since_1970(1_700_000_000, ClockHealth::Ahead(1_700_000_000 * SECOND))]
    fn clocks_by_the_newest_record(#[case] seconds: i64, #[case] expected: ClockHealth) {
        let newest = NOW.0 - 1_000 * seconds;
        let mut questions = 0;
        let is_reached = |time: EpochMs| {
            questions += 1;
            Ok::<_, Infallible>(time.0 <= newest)
        };
        let seen = compare(NOW, 3 * SECOND, 15 * SECOND, is_reached).expect("no errors");
        let close = |a: Duration, b: Duration| a.abs_diff(b) <= EXACT;
        let alike = match (seen, expected) {
            (ClockHealth::Ahead(a), ClockHealth::Ahead(b))
            | (ClockHealth::Behind(a), ClockHealth::Behind(b)) => close(a, b),
            _ => seen == expected,
        };
        assert!(alike, "{seen:?}, not {expected:?}");
        let most = if expected == ClockHealth::Agrees {
            2
        } else {
            70
        };
        assert!(questions <= most, "{questions} questions");
    }
}
