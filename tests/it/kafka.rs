//! The tests' own view of Kafka: it shares no code with what is tested. Reading is
//! `read_committed`, from the first record to the last stable one, by a consumer of its own.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::time::{Duration, Instant};

use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, NewTopic, ResourceSpecifier, TopicReplication,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{Header, Headers, Message as _, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, FutureProducer, FutureRecord, Producer};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::util::Timeout;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use tokio::runtime::Handle;

/// How long any one question to the broker may take on a slow machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A client that was told that there is no broker, since the only one had just started again, knows none to ask; by
/// default for five minutes.
const ASK_AGAIN: (&str, &str) = ("metadata.recovery.rebootstrap.trigger.ms", "2000");

/// A record as an independent consumer sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) topic: String,
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) timestamp: i64,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) headers: Vec<(String, Option<Vec<u8>>)>,
}

/// A transaction that is neither committed nor aborted.
pub(crate) struct OpenTransaction(BaseProducer);

impl OpenTransaction {
    pub(crate) fn abort(self) {
        self.0.abort_transaction(PATIENCE).expect("it is aborted");
    }
}

impl Record {
    /// Where it stands, as `otp-source` writes it.
    pub(crate) fn position(&self) -> String {
        format!("{}-{}-{}", self.topic, self.partition, self.offset)
    }

    /// The text of the one header with this name; a repeated one fails the test.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut found = self.headers.iter().filter(|(key, _)| key == name);
        let (_, value) = found.next()?;
        assert!(
            found.next().is_none(),
            "header {name} is there more than once"
        );
        Some(
            std::str::from_utf8(value.as_deref().expect("a header of ours has a value"))
                .expect("our headers are UTF-8"),
        )
    }

    /// The names of its headers, in order.
    pub(crate) fn header_names(&self) -> Vec<&str> {
        self.headers.iter().map(|(name, _)| name.as_str()).collect()
    }

    /// A header that holds a moment or a count.
    pub(crate) fn number(&self, name: &str) -> i64 {
        let text = self
            .header(name)
            .unwrap_or_else(|| panic!("no header {name} at {}", self.position()));
        text.parse()
            .unwrap_or_else(|_| panic!("header {name} is not a number"))
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(self.value.as_deref().expect("a record with a value"))
            .expect("a record of text")
    }

    pub(crate) fn key_text(&self) -> &str {
        std::str::from_utf8(self.key.as_deref().expect("a record with a key"))
            .expect("a key of text")
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(self.text()).expect("a record of JSON")
    }
}

/// A record to write.
#[derive(Clone, Debug, Default)]
pub(crate) struct Draft {
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) headers: Vec<(String, Option<Vec<u8>>)>,
    pub(crate) partition: Option<i32>,
    pub(crate) timestamp: Option<i64>,
}

impl Draft {
    pub(crate) fn of(value: impl Into<Vec<u8>>) -> Self {
        Self {
            value: Some(value.into()),
            ..Self::default()
        }
    }

    pub(crate) fn key(mut self, key: impl Into<Vec<u8>>) -> Self {
        self.key = Some(key.into());
        self
    }

    pub(crate) fn header(mut self, name: &str, value: impl Into<Vec<u8>>) -> Self {
        self.headers.push((name.to_owned(), Some(value.into())));
        self
    }

    pub(crate) fn partition(mut self, partition: i32) -> Self {
        self.partition = Some(partition);
        self
    }

    pub(crate) fn timestamp(mut self, timestamp: i64) -> Self {
        self.timestamp = Some(timestamp);
        self
    }
}

/// Where a written record landed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) partition: i32,
    pub(crate) offset: i64,
}

/// A partition of a topic.
pub(crate) type Partition = (String, i32);

/// What a group has committed for a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Committed {
    pub(crate) offset: i64,
    pub(crate) metadata: String,
}

pub(crate) struct Kafka {
    pub(crate) broker: String,
    handle: Handle,
    producer: FutureProducer,
    admin: AdminClient<DefaultClientContext>,
}

impl Kafka {
    pub(crate) fn new(broker: &str, handle: Handle) -> Self {
        // Compressed: what is as large as the broker takes on the wire may be larger here.
        let producer = ClientConfig::new()
            .set("bootstrap.servers", broker)
            .set(ASK_AGAIN.0, ASK_AGAIN.1)
            .set("enable.idempotence", "true")
            .set("linger.ms", "2")
            .set("message.max.bytes", "10485760")
            .set("partitioner", "murmur2_random")
            .create()
            .expect("a producer");
        let admin = ClientConfig::new()
            .set("bootstrap.servers", broker)
            .set(ASK_AGAIN.0, ASK_AGAIN.1)
            .create()
            .expect("an admin client");
        Self {
            broker: broker.to_owned(),
            handle,
            producer,
            admin,
        }
    }

    /// With as many copies as is the brokers' default.
    pub(crate) fn create_topic(&self, name: &str, partitions: i32, settings: &[(&str, &str)]) {
        let topic = settings.iter().fold(
            NewTopic::new(name, partitions, TopicReplication::Fixed(-1)),
            |topic, (key, value)| topic.set(key, value),
        );
        let created = self
            .handle
            .block_on(self.admin.create_topics([&topic], &options()));
        created.expect("the broker answers")[0]
            .as_ref()
            .expect("the topic is created");
        // A new topic is unknown to a client for a moment: ask until it has all its leaders.
        let reader = self.reader("new-topic");
        wait_for("the new topic has leaders", || {
            let metadata = reader
                .fetch_metadata(Some(name), PATIENCE)
                .map_err(|error| error.to_string())?;
            let found = metadata.topics().iter().find(|topic| topic.name() == name);
            let is_there = found.is_some_and(|topic| {
                topic.error().is_none()
                    && topic.partitions().len() == usize::try_from(partitions).unwrap_or_default()
                    && topic
                        .partitions()
                        .iter()
                        .all(|partition| partition.leader() >= 0)
            });
            is_there.then_some(()).ok_or_else(|| "not yet".to_owned())
        });
    }

    /// Changes one of a topic's settings while everything runs.
    pub(crate) fn set_topic(&self, name: &str, key: &str, value: &str) {
        let change = AlterConfig::new(ResourceSpecifier::Topic(name)).set(key, value);
        let changed = self
            .handle
            .block_on(self.admin.alter_configs([&change], &options()));
        changed.expect("the broker answers")[0]
            .as_ref()
            .expect("the setting is changed");
        // The controller has it; the broker that is asked next hears of it a moment later.
        wait_until("the broker knows the setting", || {
            let topic = [&ResourceSpecifier::Topic(name)];
            let described = self.admin.describe_configs(topic, &options());
            let described = self.handle.block_on(described).ok();
            let found = described.and_then(|mut all| all.pop()?.ok());
            let entry = found.and_then(|found| found.get(key).and_then(|one| one.value.clone()));
            entry.as_deref() == Some(value)
        });
    }

    pub(crate) fn delete_topics(&self, names: &[&str]) {
        let deleted = self
            .handle
            .block_on(self.admin.delete_topics(names, &options()));
        deleted.expect("the broker answers");
    }

    /// Removes what is before `offset`, as retention does.
    pub(crate) fn delete_records(&self, topic: &str, partition: i32, before: i64) {
        let mut offsets = TopicPartitionList::new();
        offsets
            .add_partition_offset(topic, partition, Offset::Offset(before))
            .expect("a valid offset");
        let deleted = self
            .handle
            .block_on(self.admin.delete_records(&offsets, &options()));
        deleted.expect("the broker deletes the records");
    }

    /// Every topic with `part` in its name.
    pub(crate) fn topics(&self, part: &str) -> Vec<String> {
        let metadata = self
            .reader("topics")
            .fetch_metadata(None, PATIENCE)
            .expect("the broker answers");
        let names = metadata
            .topics()
            .iter()
            .map(|topic| topic.name().to_owned());
        names.filter(|name| name.contains(part)).collect()
    }

    pub(crate) fn partitions(&self, topic: &str) -> Vec<i32> {
        partitions(&self.reader("partitions"), topic)
    }

    /// Writes one record and waits until the broker has it.
    pub(crate) fn publish(&self, topic: &str, draft: &Draft) -> Place {
        self.publish_all(topic, std::slice::from_ref(draft))[0]
    }

    /// Writes records in this order and waits until the broker has them all.
    pub(crate) fn publish_all(&self, topic: &str, drafts: &[Draft]) -> Vec<Place> {
        let sent: Vec<_> = drafts.iter().map(|draft| self.send(topic, draft)).collect();
        let places = sent.into_iter().map(|delivery| {
            let delivered = self.handle.block_on(delivery).expect("the producer lives");
            let delivery = delivered.unwrap_or_else(|(error, _)| {
                panic!("a record for {topic} was not written: {error}")
            });
            Place {
                partition: delivery.partition,
                offset: delivery.offset,
            }
        });
        places.collect()
    }

    /// Why the broker does not take a record, if it does not.
    pub(crate) fn refusal(&self, topic: &str, draft: &Draft) -> Option<KafkaError> {
        let sent = self.send(topic, draft);
        let delivered = self.handle.block_on(sent).expect("the producer lives");
        delivered.err().map(|(error, _)| error)
    }

    fn send(&self, topic: &str, draft: &Draft) -> rdkafka::producer::DeliveryFuture {
        let headers = draft
            .headers
            .iter()
            .fold(OwnedHeaders::new(), |headers, (key, value)| {
                headers.insert(Header {
                    key,
                    value: value.as_deref(),
                })
            });
        let mut record: FutureRecord<'_, [u8], [u8]> = FutureRecord::to(topic).headers(headers);
        record.key = draft.key.as_deref();
        record.payload = draft.value.as_deref();
        record.partition = draft.partition;
        record.timestamp = draft.timestamp;
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.producer.send_result(record) {
                Ok(delivery) => return delivery,
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), again))
                    if Instant::now() < deadline =>
                {
                    record = again;
                    self.producer
                        .flush(Timeout::After(PATIENCE))
                        .expect("the queue empties");
                }
                Err((error, _)) => panic!("a record for {topic} was not taken: {error}"),
            }
        }
    }

    /// All that a `read_committed` consumer can see of a topic now, by partition and offset.
    /// A topic that does not exist has no records.
    pub(crate) fn read(&self, topic: &str) -> Vec<Record> {
        let read = self.read_readable(topic);
        read.unwrap_or_else(|error| panic!("{topic} cannot be read: {error}"))
    }

    /// The same.
    ///
    /// # Errors
    /// Where a batch cannot be decoded.
    pub(crate) fn read_readable(&self, topic: &str) -> Result<Vec<Record>, KafkaError> {
        let consumer = self.reader("read");
        let partitions = partitions(&consumer, topic);
        let mut from = TopicPartitionList::new();
        for partition in &partitions {
            from.add_partition_offset(topic, *partition, Offset::Beginning)
                .expect("a valid offset");
        }
        consumer.assign(&from).expect("a valid assignment");
        let mut records = Vec::new();
        let mut open = partitions.len();
        let deadline = Instant::now() + PATIENCE;
        while open > 0 {
            assert!(
                Instant::now() < deadline,
                "{topic} was not read to its end within {PATIENCE:?}"
            );
            match consumer.poll(Duration::from_millis(100)) {
                Some(Ok(message)) => records.push(record(&message)),
                Some(Err(KafkaError::PartitionEOF(_))) => open -= 1,
                Some(Err(
                    error @ KafkaError::MessageConsumption(
                        RDKafkaErrorCode::BadCompression | RDKafkaErrorCode::BadMessage,
                    ),
                )) => return Err(error),
                // A broker that is away for a moment: the deadline bounds it.
                Some(Err(_)) | None => {}
            }
        }
        records.sort_by_key(|record| (record.partition, record.offset));
        Ok(records)
    }

    /// The end of each partition, as a `read_committed` consumer sees it.
    pub(crate) fn ends(&self, topic: &str) -> BTreeMap<Partition, i64> {
        let reader = self.reader("ends");
        let ends = partitions(&reader, topic).into_iter().map(|partition| {
            let (_, end) = reader
                .fetch_watermarks(topic, partition, PATIENCE)
                .expect("the broker answers");
            ((topic.to_owned(), partition), end)
        });
        ends.collect()
    }

    /// What the group has committed for the partitions of a topic; none: nothing.
    pub(crate) fn committed(
        &self,
        group: &str,
        topic: &str,
    ) -> BTreeMap<Partition, Option<Committed>> {
        let consumer = self.member(group);
        let mut asked = TopicPartitionList::new();
        for partition in partitions(&consumer, topic) {
            asked.add_partition(topic, partition);
        }
        let answer = consumer
            .committed_offsets(asked, PATIENCE)
            .expect("the broker answers");
        let committed = answer.elements().into_iter().map(|element| {
            element
                .error()
                .expect("the broker answers for each partition");
            let committed = match element.offset() {
                Offset::Offset(offset) => Some(Committed {
                    offset,
                    metadata: element.metadata().to_owned(),
                }),
                _ => None,
            };
            ((element.topic().to_owned(), element.partition()), committed)
        });
        committed.collect()
    }

    /// Commits for a group that nobody is in, as the tools for a reset do.
    pub(crate) fn commit(&self, group: &str, offsets: &[(Partition, Committed)]) {
        let consumer = self.member(group);
        let mut list = TopicPartitionList::new();
        for ((topic, partition), committed) in offsets {
            list.add_partition_offset(topic, *partition, Offset::Offset(committed.offset))
                .expect("a valid offset");
            let mut element = list.find_partition(topic, *partition).expect("just added");
            if !committed.metadata.is_empty() {
                element.set_metadata(&committed.metadata);
            }
        }
        // The members that left may count for a moment more.
        wait_until("the group takes the commit", || {
            consumer.commit(&list, CommitMode::Sync).is_ok()
        });
    }

    /// A producer with a transaction that no broker ends in a test's time.
    fn in_transaction(&self, id: &str) -> BaseProducer {
        self.in_transaction_for(id, Duration::from_secs(600))
    }

    fn in_transaction_for(&self, id: &str, timeout: Duration) -> BaseProducer {
        let producer: BaseProducer = ClientConfig::new()
            .set("bootstrap.servers", &self.broker)
            .set("transactional.id", id)
            .set("transaction.timeout.ms", timeout.as_millis().to_string())
            .create()
            .expect("a producer");
        producer
            .init_transactions(PATIENCE)
            .expect("transactions are there");
        producer.begin_transaction().expect("a transaction");
        producer
    }

    /// An offset of a group in a transaction that stays open until it is aborted, as an instance
    /// leaves it that vanishes.
    pub(crate) fn open_offsets(&self, group: &str, at: &Partition, offset: i64) -> OpenTransaction {
        let producer = self.in_transaction(&format!("{group}-vanished"));
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&at.0, at.1, Offset::Offset(offset))
            .expect("a valid offset");
        let metadata = self.member(group).group_metadata().expect("group metadata");
        producer
            .send_offsets_to_transaction(&list, &metadata, PATIENCE)
            .expect("the group takes the offset");
        OpenTransaction(producer)
    }

    /// Records in a transaction that stays open until it is aborted.
    pub(crate) fn open_records(
        &self,
        topic: &str,
        partition: i32,
        values: &[&str],
    ) -> OpenTransaction {
        self.open_records_for(topic, partition, values, Duration::from_secs(600))
    }

    /// The same, of a transaction that the broker is to abort after `timeout`.
    pub(crate) fn open_records_for(
        &self,
        topic: &str,
        partition: i32,
        values: &[&str],
        timeout: Duration,
    ) -> OpenTransaction {
        let producer = self.in_transaction_for(&format!("{topic}-open"), timeout);
        for value in values {
            let record = BaseRecord::<[u8], str>::to(topic).partition(partition);
            producer
                .send(record.payload(value))
                .map_err(|(error, _)| error)
                .expect("the record is taken");
        }
        producer.flush(PATIENCE).expect("the records are there");
        OpenTransaction(producer)
    }

    fn member(&self, group: &str) -> BaseConsumer {
        let mut config = self.reader_config();
        config.set("group.id", group).create().expect("a consumer")
    }

    fn reader(&self, name: &str) -> BaseConsumer {
        let mut config = self.reader_config();
        config
            .set("group.id", format!("it-{name}"))
            .create()
            .expect("a consumer")
    }

    fn reader_config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &self.broker)
            .set(ASK_AGAIN.0, ASK_AGAIN.1)
            .set("isolation.level", "read_committed")
            .set("enable.auto.commit", "false")
            .set("enable.partition.eof", "true")
            .set("auto.offset.reset", "earliest")
            .set("fetch.message.max.bytes", "20971520")
            .set("fetch.wait.max.ms", "50")
            .set("fetch.queue.backoff.ms", "10")
            // The tests read whole topics over and over: only what is asked for.
            .set("topic.metadata.refresh.sparse", "true")
            .set("log_level", "3");
        config
    }
}

/// How long a condition may take on a slow and busy machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(120);

/// Asks until it holds; fails the test after [`DEADLINE`].
#[track_caller]
pub(crate) fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    wait_for(what, || if holds() { Ok(()) } else { Err("it is not") });
}

/// Asks until there is an answer; after [`DEADLINE`] the test fails with what there was instead.
#[track_caller]
pub(crate) fn wait_for<T, E: Debug>(what: &str, mut ask: impl FnMut() -> Result<T, E>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let asked = Instant::now();
        match ask() {
            Ok(answer) => return answer,
            Err(instead) => {
                assert!(
                    asked < deadline,
                    "after {DEADLINE:?} still not: {what}: {instead:?}"
                );
            }
        }
        // Looking takes processor time from what is looked at: half of it at most.
        let pause = asked.elapsed().max(Duration::from_millis(50));
        #[expect(
            clippy::disallowed_methods,
            reason = "the pause between two looks at a condition"
        )]
        std::thread::sleep(pause);
    }
}

fn options() -> AdminOptions {
    AdminOptions::new()
        .operation_timeout(Some(PATIENCE))
        .request_timeout(Some(PATIENCE))
}

fn partitions(client: &BaseConsumer, topic: &str) -> Vec<i32> {
    let metadata = client
        .fetch_metadata(Some(topic), PATIENCE)
        .expect("the broker answers");
    let found = metadata.topics().iter().find(|found| found.name() == topic);
    found
        .map(|found| {
            found
                .partitions()
                .iter()
                .map(rdkafka::metadata::MetadataPartition::id)
                .collect()
        })
        .unwrap_or_default()
}

fn record(message: &rdkafka::message::BorrowedMessage<'_>) -> Record {
    let headers = message.headers().map(|headers| {
        headers
            .iter()
            .map(|header| (header.key.to_owned(), header.value.map(<[u8]>::to_vec)))
            .collect()
    });
    Record {
        topic: message.topic().to_owned(),
        partition: message.partition(),
        offset: message.offset(),
        timestamp: message.timestamp().to_millis().expect("records have times"),
        key: message.key().map(<[u8]>::to_vec),
        value: message.payload().map(<[u8]>::to_vec),
        headers: headers.unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rdkafka::ClientConfig;
    use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};

    use super::{Committed, Draft, Place};
    use crate::world::World;

    #[test]
    fn the_reader_sees_all_that_is_committed_and_nothing_else() {
        let world = World::new();
        let topic = &world.topics.requests;
        let place = world.publish(
            &Draft::of("plain")
                .key("k")
                .partition(1)
                .timestamp(1_000_000_000_000)
                .header("h", "v"),
        );
        assert_eq!(
            place,
            Place {
                partition: 1,
                offset: 0
            }
        );
        let producer: BaseProducer = ClientConfig::new()
            .set("bootstrap.servers", &world.kafka.broker)
            .set("transactional.id", &world.name)
            .create()
            .unwrap();
        let limit = Duration::from_secs(60);
        producer.init_transactions(limit).unwrap();
        for (value, commits) in [("aborted", false), ("committed", true)] {
            producer.begin_transaction().unwrap();
            producer
                .send(BaseRecord::<(), str>::to(topic).partition(1).payload(value))
                .unwrap();
            producer.flush(limit).unwrap();
            if commits {
                producer.commit_transaction(limit)
            } else {
                producer.abort_transaction(limit)
            }
            .unwrap();
        }
        producer.begin_transaction().unwrap();
        producer
            .send(
                BaseRecord::<(), str>::to(topic)
                    .partition(1)
                    .payload("open"),
            )
            .unwrap();
        producer.flush(limit).unwrap();

        let records = world.kafka.read(topic);
        assert_eq!(
            records.iter().map(super::Record::text).collect::<Vec<_>>(),
            ["plain", "committed"]
        );
        assert_eq!(
            (records[0].key_text(), records[0].timestamp),
            ("k", 1_000_000_000_000)
        );
        assert_eq!(
            (records[0].header("h"), records[0].header_names()),
            (Some("v"), vec!["h"])
        );
        assert_eq!(
            world.kafka.ends(topic).into_values().collect::<Vec<_>>(),
            [0, 5],
            "up to the open transaction"
        );
        assert_eq!(world.kafka.read(&format!("{}.not-there", world.name)), []);
        producer.abort_transaction(limit).unwrap();

        let committed = Committed {
            offset: 3,
            metadata: "theirs".to_owned(),
        };
        let partition = (topic.clone(), 1);
        world
            .kafka
            .commit(&world.name, &[(partition.clone(), committed.clone())]);
        let found = world.kafka.committed(&world.name, topic);
        assert_eq!(found.get(&partition), Some(&Some(committed)));
        assert_eq!(found.get(&(topic.clone(), 0)), Some(&None));
        world.kafka.delete_records(topic, 1, 1);
        assert_eq!(world.kafka.read(topic).len(), 1);
    }
}
