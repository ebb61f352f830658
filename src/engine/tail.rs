//! What a topic gets from now on, for the commands that wait for something there.
//!
//! As with a bounded look, partitions are taken by hand, in no group.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rdkafka::consumer::BaseConsumer;
use rdkafka::error::KafkaError;
use rdkafka::message::Message as _;

use super::clients::{Connection, Quiet};
use super::consumer::own;
use super::record::Record;
use super::unreadable::step_over::{is_decode_error, step_over};
use super::window::{WindowError, assign, ends, failed, first_since, reader};
use crate::clock::EpochMs;

/// What a topic gets from now on.
pub struct Tail {
    consumer: BaseConsumer<Quiet>,
    connection: Connection,
    topic: String,
    /// The next offset, by partition.
    next: BTreeMap<i32, i64>,
}

impl Tail {
    /// Stands at the topic's ends: whatever is committed later will be seen. Blocks until Kafka has
    /// answered.
    ///
    /// # Errors
    ///
    /// When there is no such topic, it may not be read, or Kafka does not answer.
    pub fn open(connection: &Connection, topic: &str) -> Result<Self, WindowError> {
        let consumer = reader(connection, topic)?;
        let next = ends(&consumer, topic)?;
        Self::at(consumer, connection, topic, next)
    }

    /// Stands at the first records of `since` or later, by record time. Blocks until Kafka has answered.
    ///
    /// # Errors
    ///
    /// As [`Tail::open`].
    pub fn since(
        connection: &Connection,
        topic: &str,
        since: EpochMs,
    ) -> Result<Self, WindowError> {
        let consumer = reader(connection, topic)?;
        let mut next = ends(&consumer, topic)?;
        let firsts = first_since(&consumer, topic, next.keys(), since)?;
        next.extend(
            firsts
                .into_iter()
                .filter_map(|(one, first)| Some((one, first?))),
        );
        Self::at(consumer, connection, topic, next)
    }

    fn at(
        consumer: BaseConsumer<Quiet>,
        connection: &Connection,
        topic: &str,
        next: BTreeMap<i32, i64>,
    ) -> Result<Self, WindowError> {
        let tail = Self {
            consumer,
            connection: connection.clone(),
            topic: topic.to_owned(),
            next,
        };
        tail.assign()?;
        Ok(tail)
    }

    fn assign(&self) -> Result<(), WindowError> {
        let starts = self
            .next
            .iter()
            .map(|(partition, next)| (*partition, *next));
        assign(&self.consumer, &self.topic, starts)
    }

    /// The next record, waiting for it until `deadline`; none: there was none. What cannot be decoded is passed over,
    /// and said on standard error; the proof may outlast the deadline.
    ///
    /// # Errors
    ///
    /// When it may no longer be read.
    pub fn next_until(&mut self, deadline: Instant) -> Result<Option<Record>, WindowError> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            match self.consumer.poll(left.min(Duration::from_millis(100))) {
                Some(Ok(message)) => {
                    self.next.insert(message.partition(), message.offset() + 1);
                    return Ok(Some(own(&message)));
                }
                Some(Err(KafkaError::PartitionEOF(_))) | None => {}
                Some(Err(error)) if is_decode_error(&error) => {
                    if step_over(&self.connection, &self.topic, &mut self.next, false) {
                        self.assign()?;
                    }
                }
                Some(Err(error)) => match failed(&self.topic, &error) {
                    // It may come back before the deadline.
                    WindowError::Silent { .. } => {}
                    error @ (WindowError::NoTopic(_)
                    | WindowError::NoPartition { .. }
                    | WindowError::Forbidden(_)) => return Err(error),
                },
            }
        }
    }
}
