//! A few records outside of any transaction, for the commands: each is confirmed before anything goes on.

use std::time::Duration;

use rdkafka::error::RDKafkaErrorCode;
use rdkafka::message::{Header as KafkaHeader, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord, Producer as _};

use super::Stopped;
use super::clients::{Connection, Quiet};
use super::output::Outgoing;
use super::record::Position;

/// A record that is not confirmed by then is an error.
const PATIENCE: Duration = Duration::from_secs(20);

/// Why a record was not written.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SendError {
    /// The topic does not exist.
    #[error(
        "the topic {0} does not exist: `user-otp topics plan` shows what there is, `user-otp topics apply` creates it"
    )]
    NoTopic(String),
    /// We may not write to it.
    #[error("we may not write to the topic {0}: grant Write and Describe on it")]
    Forbidden(String),
    /// Kafka did not confirm it; it may have been written all the same.
    #[error(
        "Kafka did not confirm a record for {topic} ({stopped}): it may have been written all the same"
    )]
    Unconfirmed {
        /// The topic.
        topic: String,
        /// What it said.
        stopped: Stopped,
    },
}

/// Writes records, one by one.
pub struct Sender(FutureProducer<Quiet>);

impl Sender {
    /// Makes the client; Kafka is asked when the first record is sent.
    ///
    /// # Errors
    ///
    /// When a property is wrong.
    pub fn new(connection: &Connection) -> Result<Self, Stopped> {
        let mut config = connection.sender();
        config.set("message.timeout.ms", PATIENCE.as_millis().to_string());
        let made = config.create_with_context(Quiet);
        made.map(Self).map_err(|error| Stopped::from(&error))
    }

    /// Writes one record and waits until Kafka has confirmed it: where it is.
    ///
    /// # Errors
    ///
    /// When it was not confirmed.
    pub async fn send(&self, record: &Outgoing) -> Result<Position, SendError> {
        let headers = record
            .headers
            .iter()
            .fold(OwnedHeaders::new(), |headers, header| {
                headers.insert(KafkaHeader {
                    key: &header.name,
                    value: header.value.as_deref(),
                })
            });
        let mut out: FutureRecord<'_, [u8], [u8]> =
            FutureRecord::to(&record.topic).headers(headers);
        out.key = record.key.as_deref();
        out.payload = record.value.as_deref();
        match self.0.send(out, PATIENCE).await {
            Ok(delivery) => Ok(Position {
                topic: record.topic.clone(),
                partition: delivery.partition,
                offset: delivery.offset,
            }),
            Err((error, _)) => {
                use RDKafkaErrorCode as Code;
                let topic = record.topic.to_string();
                // Why the producer gave everything up; each record then counts as purged.
                let fatal = self.0.client().fatal_error().map(|(code, _)| code);
                Err(match fatal.or(error.rdkafka_error_code()) {
                    Some(
                        Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition,
                    ) => SendError::NoTopic(topic),
                    // Brokers say the latter to who may not write to any topic.
                    Some(Code::TopicAuthorizationFailed | Code::ClusterAuthorizationFailed) => {
                        SendError::Forbidden(topic)
                    }
                    _ => SendError::Unconfirmed {
                        topic,
                        stopped: Stopped::from(&error),
                    },
                })
            }
        }
    }
}
