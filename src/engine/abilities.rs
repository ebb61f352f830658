//! What the brokers can do, by the versions of Kafka's requests that they take.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseProducer, Producer as _, ProducerContext};

use super::Stopped;
use super::clients::Connection;

/// TxnOffsetCommit, and from which version on a broker checks who commits (KIP-447).
const COMMIT_IN_TRANSACTION: (i16, i16) = (28, 3);

/// The highest version of each request that the brokers which answered take.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Abilities(BTreeMap<i16, i16>);

/// Asks the brokers that answer first. Blocks.
///
/// librdkafka tells what they answered in its log alone.
///
/// # Errors
///
/// When none answers.
pub fn abilities(connection: &Connection, timeout: Duration) -> Result<Abilities, Stopped> {
    const LOOK: Duration = Duration::from_millis(20);
    let deadline = Instant::now() + timeout;
    // An admin client could not be polled, and the log comes to who polls.
    let client: BaseProducer<Ear> = connection
        .admin()
        .set("debug", "feature")
        .set_log_level(RDKafkaLogLevel::Debug)
        .create_with_context(Ear::default())
        .map_err(|error| Stopped::from(&error))?;
    client
        .client()
        .fetch_metadata(None, timeout)
        .map_err(|error| Stopped::from(&error))?;
    while !client.context().0.lock().is_known() && Instant::now() < deadline {
        client.poll(LOOK);
    }
    let heard = client.context().0.lock().clone();
    Ok(heard)
}

impl Abilities {
    /// Whether a commit in a transaction is refused to who is no longer in the group: without it a
    /// request that moved to another instance may be sent twice. None: they do not say.
    #[must_use]
    pub fn check_who_commits(&self) -> Option<bool> {
        let (request, version) = COMMIT_IN_TRANSACTION;
        self.is_known()
            .then(|| self.0.get(&request).is_some_and(|most| *most >= version))
    }

    /// Brokers list requests by their numbers: who takes none of that one has listed one above it.
    fn is_known(&self) -> bool {
        let (request, _) = COMMIT_IN_TRANSACTION;
        self.0.range(request..).next().is_some()
    }

    /// Where several brokers are heard, what all of them take.
    fn note(&mut self, request: i16, most: i16) {
        let known = self.0.entry(request).or_insert(most);
        *known = (*known).min(most);
    }
}

#[derive(Default)]
struct Ear(Mutex<Abilities>);

impl ClientContext for Ear {
    fn log(&self, _level: RDKafkaLogLevel, facility: &str, line: &str) {
        if let Some((request, most)) = versions(facility, line) {
            self.0.lock().note(request, most);
        }
    }

    fn error(&self, _: KafkaError, _: &str) {}
}

impl ProducerContext for Ear {
    type DeliveryOpaque = ();

    fn delivery(&self, _: &DeliveryResult<'_>, (): ()) {}
}

/// `… ApiKey TxnOffsetCommit (28) Versions 0..5`: the request, and its highest version.
fn versions(facility: &str, line: &str) -> Option<(i16, i16)> {
    let (_, rest) = line.split_once("ApiKey ")?;
    let (_, rest) = rest.split_once('(')?;
    let (request, rest) = rest.split_once(") Versions ")?;
    let (_, most) = rest.split_once("..")?;
    let found = Some((request.parse().ok()?, most.trim().parse().ok()?));
    found.filter(|_| facility == "APIVERSION")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_a_line() {
        let line = "[thrd:a:9092/bootstrap]: a:9092/bootstrap:   ApiKey TxnOffsetCommit (28) Versions 0..5";
        assert_eq!(versions("APIVERSION", line), Some((28, 5)));
        assert_eq!(versions("FEATURE", line), None);
        assert_eq!(versions("APIVERSION", "Broker API support:"), None);
    }

    #[test]
    fn the_oldest_broker_counts_and_silence_is_no_answer() {
        let mut abilities = Abilities::default();
        assert_eq!(abilities.check_who_commits(), None);
        abilities.note(0, 9);
        assert_eq!(abilities.check_who_commits(), None, "not there yet");
        abilities.note(28, 5);
        assert_eq!(abilities.check_who_commits(), Some(true));
        abilities.note(28, 2);
        abilities.note(28, 4);
        assert_eq!(abilities.check_who_commits(), Some(false));
    }
}
