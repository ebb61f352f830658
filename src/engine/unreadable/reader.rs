//! A reader of one partition alone, in no group, for the proof.

use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message as _;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use super::{DecodeError, Fetched, Probe, Unproven};
use crate::engine::clients::{self, Connection};
use crate::engine::state::Partition;

/// How long one fetch may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// No codec of ours inflates further than deflate, which makes 1,032 bytes of one.
const LARGEST_RATIO: usize = 1_032;

/// Codes of decode errors. A lack of memory has a code of its own, as every other trouble has.
pub(crate) const DECODING: [RDKafkaErrorCode; 3] = [
    RDKafkaErrorCode::BadCompression,
    RDKafkaErrorCode::BadMessage,
    RDKafkaErrorCode::NotImplemented,
];

/// Reads one partition, every time afresh.
pub(crate) struct Reader {
    config: ClientConfig,
    partition: Partition,
    consumer: BaseConsumer<Heard>,
}

/// What came next.
enum Polled {
    /// The record at this offset.
    Record(i64),
    /// The end of the partition.
    End,
    /// A batch that cannot be decoded.
    Undecodable(DecodeError),
}

/// Keeps what the library says of its last error: the error itself does not name the batch.
#[derive(Default)]
struct Heard(Mutex<String>);

impl ClientContext for Heard {
    fn log(&self, _level: RDKafkaLogLevel, facility: &str, line: &str) {
        clients::log_line(facility, line);
    }

    fn error(&self, _error: KafkaError, sentence: &str) {
        sentence.clone_into(&mut self.0.lock());
    }
}

impl ConsumerContext for Heard {}

impl Reader {
    pub(crate) fn new(connection: &Connection, partition: Partition) -> Result<Self, Unproven> {
        let mut config = connection.reader();
        config
            // An offset that is not there is no end of a batch.
            .set("auto.offset.reset", "error")
            // One batch at a time is enough to tell.
            .set("queued.min.messages", "1")
            .set("fetch.error.backoff.ms", "10");
        let consumer = client(&config)?;
        Ok(Self {
            config,
            partition,
            consumer,
        })
    }

    /// Reads from `offset` on, until something cannot be decoded: where that begins; none: nothing until the end.
    pub(crate) fn read_on(&mut self, offset: i64) -> Result<Option<i64>, Unproven> {
        self.assign(offset)?;
        let mut next = offset;
        loop {
            match self.poll()? {
                Polled::Record(offset) => next = offset + 1,
                Polled::End => return Ok(None),
                Polled::Undecodable(_) => return Ok(Some(next)),
            }
        }
    }

    /// Where the partition begins.
    pub(crate) fn low(&self) -> Result<i64, Unproven> {
        let (topic, number) = (&self.partition.topic, self.partition.number);
        let ends = self.consumer.fetch_watermarks(topic, number, PATIENCE);
        ends.map(|(low, _)| low).map_err(|error| failed(&error))
    }

    fn assign(&self, offset: i64) -> Result<(), Unproven> {
        let (topic, number) = (&self.partition.topic, self.partition.number);
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, number, Offset::Offset(offset))
            .and_then(|()| self.consumer.assign(&list))
            .map_err(|error| failed(&error))
    }

    fn poll(&self) -> Result<Polled, Unproven> {
        let deadline = Instant::now() + PATIENCE;
        let mut last = None;
        while Instant::now() < deadline {
            match self.consumer.poll(Duration::from_millis(100)) {
                Some(Ok(message)) => return Ok(Polled::Record(message.offset())),
                Some(Err(KafkaError::PartitionEOF(_))) => return Ok(Polled::End),
                Some(Err(error)) => {
                    let sentence = std::mem::take(&mut *self.consumer.context().0.lock());
                    if let Some(found) = decode_error(&error, &sentence) {
                        return if is_memory_there(found.bytes) {
                            Ok(Polled::Undecodable(found))
                        } else {
                            Err(Unproven::Memory)
                        };
                    }
                    last = Some(error);
                }
                None => {}
            }
        }
        Err(Unproven::Kafka(last.map_or_else(
            || "no answer to a fetch".to_owned(),
            |error| error.to_string(),
        )))
    }
}

impl Probe for Reader {
    fn fetch(&mut self, offset: i64) -> Result<Fetched, Unproven> {
        self.assign(offset)?;
        Ok(match self.poll()? {
            Polled::Record(_) | Polled::End => Fetched::Readable,
            Polled::Undecodable(error) => Fetched::Undecodable(error),
        })
    }

    fn end(&mut self) -> Result<i64, Unproven> {
        let (topic, number) = (&self.partition.topic, self.partition.number);
        let ends = self.consumer.fetch_watermarks(topic, number, PATIENCE);
        ends.map(|(_, end)| end).map_err(|error| failed(&error))
    }

    fn renew(&mut self) -> Result<(), Unproven> {
        self.consumer = client(&self.config)?;
        Ok(())
    }
}

fn client(config: &ClientConfig) -> Result<BaseConsumer<Heard>, Unproven> {
    config
        .create_with_context(Heard::default())
        .map_err(|error| failed(&error))
}

fn failed(error: &KafkaError) -> Unproven {
    Unproven::Kafka(error.to_string())
}

/// What cannot be decoded, by the error's code and the sentence with it.
pub(crate) fn decode_error(error: &KafkaError, sentence: &str) -> Option<DecodeError> {
    let code = error.rdkafka_error_code()?;
    DecodeError::parse(sentence).filter(|_| DECODING.contains(&code))
}

/// Where memory was short, some codecs call it a fault of the data. So as much as the library may have asked for
/// must be there now.
fn is_memory_there(compressed: usize) -> bool {
    let most = compressed.saturating_mul(LARGEST_RATIO);
    Vec::<u8>::new().try_reserve_exact(most).is_ok()
}
