//! The Kafka clients' properties, each with its reason, and their callbacks.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Message as _};
use rdkafka::producer::ProducerContext;
use rdkafka::types::RDKafkaConfRes;

use super::breaks::{Break, is_debug};
use super::refused::{self, Line};
use super::vitals::Vitals;
use crate::config::KafkaProperties;

/// A vanished instance's open transaction holds back its partitions' new owner, and every
/// `read_committed` reader, for this long at most; shorter, and each broker fail-over (8-12 s)
/// aborts what is open.
pub(crate) const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(30);

/// Polls are 100 ms apart, rebalances block one for a few seconds.
const MAX_POLL_INTERVAL_MS: u64 = 120_000;

/// Breaks of connections that are remembered between two looks: one is as much as many.
const MAX_BREAKS: usize = 64;
/// Less than the smallest of our topics takes: what one of them refuses is a record, and not a batch.
pub(crate) const BATCH_BYTES: u32 = 60_000;

/// Bytes that a producer of ours has in its queue; a call waits while it is full.
pub(crate) const PRODUCER_QUEUE: usize = 16 << 20;

/// Bytes that the consumer has in its queue, and as many may be in one answer of a broker.
pub(crate) const CONSUMER_QUEUE: usize = 16 << 20;

/// How to reach Kafka, and as whom.
#[derive(Debug, Clone)]
pub struct Connection {
    /// `host:port`, separated by commas.
    pub brokers: String,
    /// Consumer group.
    pub group: String,
    /// This instance among the group's; names the transactional id.
    pub instance: String,
    /// librdkafka properties set by the operator; they win over the tuning below, never over what
    /// the guarantees rest on, which the configuration refuses.
    pub properties: KafkaProperties,
}

impl Connection {
    /// The transactional id: `{group}-{instance}`.
    #[must_use]
    pub fn transactional_id(&self) -> String {
        format!("{}-{}", self.group, self.instance)
    }

    /// The HTTP door's: `{group}-{instance}-http`.
    #[must_use]
    pub fn http_transactional_id(&self) -> String {
        format!("{}-http", self.transactional_id())
    }

    /// That of the commands that send requests of `source` again: `{group}-job-{source}`.
    #[must_use]
    pub fn job_transactional_id(&self, source: &str) -> String {
        format!("{}-job-{source}", self.group)
    }

    /// That of `user-otp check`, `{group}-{instance}-check`, which no instance has.
    #[must_use]
    pub fn check_transactional_id(&self) -> String {
        format!("{}-check", self.transactional_id())
    }

    /// The properties of every client.
    #[must_use]
    pub fn common(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &self.brokers)
            .set("client.id", format!("user-otp-{}", self.instance))
            // A topic that is missing is an error that names it, never a topic with default settings.
            .set("allow.auto.create.topics", "false")
            // New partitions of the input topics are consumed within ten seconds.
            .set("topic.metadata.refresh.interval.ms", "10000")
            // Who was told that there is no broker, since the only one was fenced, knows none to ask again: it
            // goes back to `bootstrap.servers` after this, by default five minutes.
            .set("metadata.recovery.rebootstrap.trigger.ms", "15000")
            // After an outage a broker that is back is connected to at once, by the consumer too: under the default
            // of ten seconds, up to fifteen later with the library's jitter. Attempts are cheap, and its log leaves
            // out those that fail alike. It forgets failures that are longer ago than this.
            .set("reconnect.backoff.max.ms", "500")
            // librdkafka's own lines come through the contexts below, at debug.
            .set_log_level(RDKafkaLogLevel::Info);
        config
    }

    fn with_operator_properties(&self, mut config: ClientConfig) -> ClientConfig {
        // What we read of the library's log, and what the operator wants to see.
        let ours = config.get("debug").map(str::to_owned);
        for (name, value) in self.properties.iter() {
            config.set(name, value);
        }
        if let Some(debug) = ours {
            config.set("debug", debug);
        }
        config
    }

    /// The library's debug contexts: those of ours, and the operator's.
    fn debug(&self, ours: &str) -> String {
        match self.properties.get("debug") {
            Some(theirs) => format!("{ours},{theirs}"),
            None => ours.to_owned(),
        }
    }

    /// For admin and metadata calls.
    #[must_use]
    pub fn admin(&self) -> ClientConfig {
        self.with_operator_properties(self.common())
    }

    pub(crate) fn consumer(&self) -> ClientConfig {
        let mut config = self.common();
        config
            .set("group.id", &self.group)
            // Offsets are committed by the transaction that writes the results.
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            // Also makes `committed_offsets` wait for another owner's pending transaction.
            .set("isolation.level", "read_committed")
            // Says how far each partition's last fetch was from its high watermark.
            .set("statistics.interval.ms", "10000")
            // We decide where to start; an offset out of range is ours to handle.
            .set("auto.offset.reset", "error")
            .set("max.poll.interval.ms", MAX_POLL_INTERVAL_MS.to_string())
            // After a full queue librdkafka waits this long before it fetches again (default 1 s).
            .set("fetch.queue.backoff.ms", "10")
            // A partition that is read from again after a pause waits until the fetch that is under way ends: with
            // the default of half a second, jobs stood still for as long after each pause.
            .set("fetch.wait.max.ms", "100")
            // Told in the library's debug lines alone, of which there are a few a second: whether it is in the group,
            // and why it is not (`refused`); which partition's offset is out of range, and which topic was created
            // again (`out_of_range`).
            .set("debug", self.debug("cgrp,topic"))
            .set_log_level(RDKafkaLogLevel::Debug)
            // Bounds what lies in librdkafka's memory: records a partition, and kilobytes in all.
            .set("queued.min.messages", "500")
            .set(
                "queued.max.messages.kbytes",
                (CONSUMER_QUEUE / 1024).to_string(),
            )
            // And in one answer, per partition, compressed: small JSON records grow tenfold, and
            // each takes as much again in the queue. A larger batch still comes, alone.
            .set("max.partition.fetch.bytes", "32768");
        // Under the newer protocol the broker decides these.
        if self.properties.get("group.protocol") != Some("consumer") {
            config
                // Only what moves is revoked; the rest goes on.
                .set("partition.assignment.strategy", "cooperative-sticky")
                // A rebalance costs a heartbeat a round, and there are two.
                .set("heartbeat.interval.ms", "1000")
                // Longer than most broker fail-overs (8-12 s), which else throw every member out;
                // no longer than that, because a killed instance's partitions wait for it.
                .set("session.timeout.ms", "15000");
        }
        self.with_operator_properties(config)
    }

    /// For a look at a topic: it joins no group and commits nothing.
    pub(super) fn reader(&self) -> ClientConfig {
        let mut config = self.common();
        config
            // The library hands partitions only to who names a group; nobody ever joins this one.
            .set("group.id", "user-otp-window")
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            // What was aborted is not there; and ends are those that such a reader sees.
            .set("isolation.level", "read_committed")
            // The end of a partition is told, also where it is a transaction's mark.
            .set("enable.partition.eof", "true")
            // What retention took meanwhile is passed over.
            .set("auto.offset.reset", "earliest")
            .set("fetch.queue.backoff.ms", "5")
            .set("fetch.wait.max.ms", "50")
            // Bounds what lies in the library's memory, as for the engine's consumer.
            .set("queued.min.messages", "1000")
            .set("queued.max.messages.kbytes", "2048")
            .set("max.partition.fetch.bytes", "65536");
        self.with_operator_properties(config)
    }

    /// The same with what is not committed yet, and was aborted: an open transaction holds nothing back.
    pub(super) fn reader_of_all(&self) -> ClientConfig {
        let mut config = self.reader();
        config.set("isolation.level", "read_uncommitted");
        config
    }

    /// For a few records outside of any transaction.
    pub(super) fn sender(&self) -> ClientConfig {
        let mut config = self.common();
        config
            // Written once, however often the library has to try.
            .set("enable.idempotence", "true")
            // Java's default, so that a person's records go where a Java producer would put them.
            .set("partitioner", "murmur2_random")
            .set("topic.metadata.propagation.max.ms", "3000")
            .set("linger.ms", "0");
        self.with_operator_properties(config)
    }

    /// For how long the poll loop may stand still before the group gives our partitions away.
    #[must_use]
    pub fn max_poll_interval(&self) -> Duration {
        let consumer = self.consumer();
        let set = consumer.get("max.poll.interval.ms");
        let ms = set.and_then(|text| text.parse().ok());
        Duration::from_millis(ms.unwrap_or(MAX_POLL_INTERVAL_MS))
    }

    pub(crate) fn producer(&self, transactional_id: &str, largest_record: usize) -> ClientConfig {
        let mut config = self.common();
        let timeout = TRANSACTION_TIMEOUT.as_millis().to_string();
        config
            .set("transactional.id", transactional_id)
            .set("transaction.timeout.ms", &timeout)
            .set("message.timeout.ms", &timeout)
            // The dead-letter topic takes a little more than the request topic, and so must we.
            .set("message.max.bytes", largest_record.to_string())
            // A batch counts before it is compressed, and a record that is larger goes alone.
            .set("batch.size", BATCH_BYTES.to_string())
            // By default a gibibyte. The largest record must fit.
            .set(
                "queue.buffering.max.kbytes",
                (PRODUCER_QUEUE.max(2 * largest_record) / 1024).to_string(),
            )
            // What is delivered says so by no longer being in flight.
            .set("delivery.report.only.error", "true")
            // The committer batches. This is for the library, which else sends the first of a batch
            // alone, and the rest in many small requests; the offsets are on their way meanwhile.
            .set("linger.ms", "1")
            .set("compression.type", "lz4")
            // Java's default, so that a person's records go where a Java producer would put them.
            .set("partitioner", "murmur2_random")
            // The default of 100 ms rules back-to-back transactions.
            .set("retry.backoff.ms", "10")
            .set("retry.backoff.max.ms", "100")
            // A topic that is gone is an error after this, and not after half a minute in which nothing
            // else is written; one that was just created is known to every broker by then.
            .set("topic.metadata.propagation.max.ms", "3000")
            // Wakes `send_offsets_to_transaction`, which can hang for ever when a coordinator dies.
            // One that was idle counts as one that failed, so it must be longer than
            // `reconnect.backoff.max.ms`: else the coordinator's comes back late, and a lone request waits.
            .set("connections.max.idle.ms", "5000");
        config
            // Says each break of a connection, see `breaks`; in ordinary operation it is a few lines a transaction.
            .set("debug", self.debug("broker"))
            .set_log_level(RDKafkaLogLevel::Debug);
        self.with_operator_properties(config)
    }

    /// Asks librdkafka whether it knows the operator's properties and takes their values.
    ///
    /// # Errors
    ///
    /// The property's name and its problem, never its value.
    pub fn check_properties(&self) -> Result<(), (String, &'static str)> {
        if let Some(problem) = self.mechanism_problem() {
            return Err(("sasl.mechanism".to_owned(), problem));
        }
        for config in [self.consumer(), self.producer("any", 1_000_000)] {
            if let Err(error) = config.create_native_config() {
                let KafkaError::ClientConfig(kind, _, property, _) = error else {
                    return Err((String::new(), "librdkafka does not take these properties"));
                };
                let unknown = kind == RDKafkaConfRes::RD_KAFKA_CONF_UNKNOWN;
                let problem = if unknown {
                    "librdkafka does not know this property"
                } else {
                    "librdkafka does not take this value"
                };
                return Err((property, problem));
            }
        }
        Ok(())
    }

    /// Why we cannot log in by the mechanism that is set. The library would try for ever with one that needs a token.
    fn mechanism_problem(&self) -> Option<&'static str> {
        let get = |name| self.properties.get(name);
        let protocol = get("security.protocol")?.to_ascii_lowercase();
        if !protocol.starts_with("sasl") {
            return None;
        }
        let mechanism = get("sasl.mechanism").or_else(|| get("sasl.mechanisms"));
        let unsecured = get("enable.sasl.oauthbearer.unsecure.jwt") == Some("true");
        match mechanism.unwrap_or("GSSAPI") {
            // It is the library's default.
            "GSSAPI" => Some("GSSAPI is not built in: use SCRAM-SHA-512, SCRAM-SHA-256 or PLAIN"),
            "OAUTHBEARER" if !unsecured => {
                Some("OAUTHBEARER is not built in: use SCRAM-SHA-512, SCRAM-SHA-256 or PLAIN")
            }
            _ => None,
        }
    }
}

/// Whether brokers can be reached: said once per change of state, not several times a second.
#[derive(Debug, Default)]
pub(crate) struct Reachability {
    lost: AtomicBool,
}

impl Reachability {
    pub(crate) fn lost(&self, reason: &str) {
        if !self.lost.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                reason,
                "no broker can be reached; going on as soon as one can"
            );
        }
    }

    pub(crate) fn found(&self) {
        if self.lost.load(Ordering::Relaxed) && self.lost.swap(false, Ordering::Relaxed) {
            tracing::info!("brokers can be reached again");
        }
    }

    pub(crate) fn heard(&self, error: &KafkaError, reason: &str) {
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::AllBrokersDown) {
            self.lost(reason);
        } else {
            tracing::debug!(target: "librdkafka", %error, reason, "client error");
        }
    }
}

/// librdkafka's own log, which repeats itself several times a second when a broker is down.
pub(crate) fn log_line(facility: &str, line: &str) {
    tracing::debug!(target: "librdkafka", facility, "{line}");
}

/// A delivery that failed: which result of the batch it belongs to, which of its records, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Undelivered {
    pub(crate) result: usize,
    pub(crate) topic: String,
    pub(crate) code: RDKafkaErrorCode,
}

/// The topic that a transaction may not write to. librdkafka names it in its log alone; the error of
/// the transaction does not say which, and what else was sent counts as purged.
pub(super) fn forbidden_topic<'a>(facility: &str, line: &'a str) -> Option<&'a str> {
    if facility != "ADDPARTS" || !line.ends_with("Topic authorization failed") {
        return None;
    }
    let (_, rest) = line.split_once("Failed to add partition \"")?;
    rest.split_once('"').map(|(topic, _)| topic)
}

/// Collects failed deliveries, and breaks of connections, for the committer.
pub(crate) struct Deliveries {
    failed: Mutex<Vec<Undelivered>>,
    /// Topics that may not be written to.
    forbidden: Mutex<Vec<String>>,
    breaks: Mutex<Vec<Break>>,
    /// How often the library has called.
    calls: AtomicUsize,
    reachability: Arc<Reachability>,
    vitals: Arc<Vitals>,
}

impl Deliveries {
    pub(crate) fn new(reachability: Arc<Reachability>, vitals: Arc<Vitals>) -> Self {
        Self {
            failed: Mutex::default(),
            forbidden: Mutex::default(),
            breaks: Mutex::default(),
            calls: AtomicUsize::new(0),
            reachability,
            vitals,
        }
    }

    pub(crate) fn take_failed(&self) -> Vec<Undelivered> {
        std::mem::take(&mut self.failed.lock())
    }

    pub(crate) fn take_forbidden(&self) -> Vec<String> {
        std::mem::take(&mut self.forbidden.lock())
    }

    pub(crate) fn fail(&self, undelivered: Undelivered) {
        self.failed.lock().push(undelivered);
    }

    /// How many breaks there were since the last look that concern what was sent in the last `time`.
    pub(super) fn take_breaks(&self, time: Duration) -> usize {
        let breaks = std::mem::take(&mut *self.breaks.lock());
        breaks.into_iter().filter(|one| one.concerns(time)).count()
    }

    /// How often the library has called so far.
    pub(super) fn calls(&self) -> usize {
        self.calls.load(Ordering::Relaxed)
    }

    fn called(&self) {
        self.calls.fetch_add(1, Ordering::Relaxed);
    }
}

impl ClientContext for Deliveries {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        self.called();
        if let Some(topic) = forbidden_topic(facility, line) {
            self.forbidden.lock().push(topic.to_owned());
        }
        match refused::read_line(facility, line) {
            Some(Line::NoCoordinator(code)) => self.vitals.producer.note(code),
            Some(Line::NotWritten(code)) => self.vitals.producer.note_answer(code),
            Some(Line::Coordinator | Line::Steady | Line::Joining) | None => {}
        }
        if let Some(one) = Break::in_line(level, facility, line) {
            let mut breaks = self.breaks.lock();
            if breaks.len() < MAX_BREAKS {
                breaks.push(one);
            }
        }
        // Debug lines are for us alone.
        if !is_debug(level) {
            log_line(facility, line);
        }
    }

    fn stats_raw(&self, statistics: &[u8]) {
        self.called();
        tracing::debug!(target: "librdkafka", "{}", String::from_utf8_lossy(statistics));
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.called();
        self.reachability.heard(&error, reason);
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = usize;

    fn delivery(&self, delivered: &DeliveryResult<'_>, result: usize) {
        self.called();
        if let Err((error, message)) = delivered
            && let Some(code) = error.rdkafka_error_code()
        {
            self.fail(Undelivered {
                result,
                topic: message.topic().to_owned(),
                code,
            });
        }
    }
}

/// A client that nobody watches: the call that fails says so.
pub(super) struct Quiet;

impl ClientContext for Quiet {
    fn log(&self, _level: RDKafkaLogLevel, facility: &str, line: &str) {
        log_line(facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(target: "librdkafka", %error, reason, "client error");
    }
}

impl ConsumerContext for Quiet {}

#[cfg(test)]
mod tests {
    use super::{Connection, forbidden_topic};
    use crate::config::KafkaProperties;

    #[test]
    fn a_connection_that_was_idle_is_back_at_once() {
        let connection = Connection {
            brokers: String::new(),
            group: "g".into(),
            instance: "i".into(),
            properties: KafkaProperties::default(),
        };
        let (producer, consumer) = (connection.producer("id", 1_000_000), connection.consumer());
        let ms = |name| {
            let set = producer.get(name).and_then(|text| text.parse::<u32>().ok());
            set.expect("it is set")
        };
        // Else the library takes one that was idle for one that failed, and waits ever longer.
        assert!(ms("reconnect.backoff.max.ms") < ms("connections.max.idle.ms"));
        let [of_producer, of_consumer] = [producer, consumer]
            .map(|config| config.get("reconnect.backoff.max.ms").map(str::to_owned));
        assert_eq!(of_producer, of_consumer, "an outage ends for both at once");
    }

    #[test]
    fn a_forbidden_topic_is_told_from_those_that_were_not_tried() {
        let line = |problem| {
            format!(
                "[thrd:main]: TxnCoordinator/1: Failed to add partition \"a.sms\" [0] to transaction: Broker: {problem}"
            )
        };
        let forbidden = line("Topic authorization failed");
        assert_eq!(forbidden_topic("ADDPARTS", &forbidden), Some("a.sms"));
        assert_eq!(forbidden_topic("TXNERR", &forbidden), None);
        assert_eq!(
            forbidden_topic("ADDPARTS", &line("Operation not attempted")),
            None
        );
    }
}
