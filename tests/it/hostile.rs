//! Batches as a hostile, or a broken, producer writes them: small for the broker, and anything for its readers.

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};

use crate::kafka::Draft;
use crate::world::World;

const PATIENCE: Duration = Duration::from_secs(60);

/// What librdkafka inflates of a zstd batch at most, by default; this is more.
pub(crate) const OVER_THE_LIMIT: usize = 101_000_000;

/// A request padded with spaces: valid JSON of `size` bytes.
pub(crate) fn padded(body: &str, size: usize) -> Vec<u8> {
    let mut value = body.as_bytes().to_vec();
    value.resize(size.max(value.len()), b' ');
    value
}

impl World {
    /// Writes these records to partition `partition` of `topic` as one compressed batch; returns their number.
    pub(crate) fn batch(
        &self,
        topic: &str,
        partition: i32,
        codec: &str,
        drafts: &[Draft],
    ) -> usize {
        let producer: BaseProducer = ClientConfig::new()
            .set("bootstrap.servers", &self.kafka.broker)
            .set("compression.type", codec)
            .set("message.max.bytes", "1000000000")
            .set("batch.size", "1000000000")
            .set("batch.num.messages", "1000000")
            .set("queue.buffering.max.messages", "2000000")
            .set("queue.buffering.max.kbytes", "2000000")
            // All of them are there before the first is sent.
            .set("linger.ms", "60000")
            .create()
            .expect("a producer");
        for draft in drafts {
            let mut record = BaseRecord::<[u8], [u8]>::to(topic).partition(partition);
            record.key = draft.key.as_deref();
            record.payload = draft.value.as_deref();
            record.timestamp = draft.timestamp;
            producer
                .send(record)
                .map_err(|(error, _)| error)
                .expect("the record is taken");
        }
        producer
            .flush(PATIENCE)
            .expect("the broker takes the batch");
        drafts.len()
    }

    /// A batch that cannot be decompressed, of `count` records.
    pub(crate) fn unreadable_batch(&self, topic: &str, partition: i32, count: usize) {
        let drafts: Vec<_> = (0..count)
            .map(|number| {
                let size = if number == 0 { OVER_THE_LIMIT } else { 0 };
                Draft::of(padded("{}", size))
            })
            .collect();
        self.batch(topic, partition, "zstd", &drafts);
    }
}
