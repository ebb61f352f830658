//! Whether brokers take us, and if none does, why: librdkafka tries again for ever, and tells the
//! reason only to who polls for it.
//!
//! Each address of `kafka.brokers` is asked one question: which brokers there are, and where. As soon as the library
//! knows that, it gives up these connections and goes to the addresses that the brokers advertise. Our own question may
//! be given up with them, and then waits for an advertised address. So the answer is also read from the
//! library's log (`debug=metadata`).

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::metadata::Metadata;
use rdkafka::producer::{BaseProducer, Producer as _, ProducerContext};

use super::advertised::{Advertised, Reach, reach};
use super::breaks::is_debug;
use super::clients::log_line;

/// How often librdkafka is asked why no broker answers.
const ASK_WHY: Duration = Duration::from_secs(1);

/// How long its events are polled for then.
const LISTEN: Duration = Duration::from_millis(100);

/// A look at the addresses of all brokers may take this long.
const LOOK: Duration = Duration::from_secs(5);

/// A client that asks for an answer and nothing else. It is a producer, because an admin client
/// cannot be polled.
pub(super) struct Probe(BaseProducer<Heard>);

/// What came instead of an answer.
pub(super) enum Unreached {
    /// A broker is there, and none took us.
    Refused(Refusal),
    /// A broker answered, and none does at the address that it advertises.
    Astray(Reach),
    /// Nobody answered.
    Silent(KafkaError),
}

impl Probe {
    /// # Errors
    ///
    /// When a property is wrong.
    pub(super) fn new(config: &ClientConfig) -> KafkaResult<Self> {
        let mut config = config.clone();
        let debug = match config.get("debug") {
            Some(theirs) => format!("metadata,{theirs}"),
            None => "metadata".to_owned(),
        };
        config
            .set("debug", debug)
            .set_log_level(RDKafkaLogLevel::Debug)
            .create_with_context(Heard::default())
            .map(Self)
    }

    /// Waits until any broker answers at the address that it advertises, for at most `timeout`: the brokers that it
    /// names. Ends at once where no advertised address can be connected to. Blocks.
    ///
    /// # Errors
    ///
    /// When none did.
    pub(super) fn reach(self, timeout: Duration) -> Result<Vec<Advertised>, Unreached> {
        let reached = self.ask(Instant::now() + timeout);
        // A thread of the library may be in the resolver, which has time-outs of its own: it is not waited for.
        let _ = thread::Builder::new().spawn(move || drop(self));
        reached
    }

    fn ask(&self, deadline: Instant) -> Result<Vec<Advertised>, Unreached> {
        let heard = self.0.context();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let answer = self.0.client().fetch_metadata(None, left.min(ASK_WHY));
            self.0.poll(LISTEN);
            if let Ok(metadata) = &answer {
                *heard.advertised.lock() = brokers(metadata);
            }
            let known = heard.advertised.lock().clone();
            let left = deadline.saturating_duration_since(Instant::now());
            let look = reach(known.clone(), left.clamp(ASK_WHY, LOOK));
            if look.is_none() {
                return Err(Unreached::Astray(look));
            }
            if answer.is_ok() && heard.at_home.load(Ordering::Relaxed) {
                return Ok(known);
            }
            if Instant::now() >= deadline {
                return Err(match (heard.refusal.get(), answer) {
                    (Some(refusal), _) => Unreached::Refused(refusal.clone()),
                    (None, Err(error)) if known.is_empty() => Unreached::Silent(error),
                    (None, _) => Unreached::Astray(look.unanswered(known)),
                });
            }
        }
    }
}

fn brokers(metadata: &Metadata) -> Vec<Advertised> {
    let brokers = metadata.brokers().iter().map(|broker| Advertised {
        id: broker.id(),
        address: format!("{}:{}", broker.host(), broker.port()),
    });
    brokers.collect()
}

/// `… kafka-2:9092/2:   Broker #0/3: kafka-1:9092 NodeId 1`, of the list in an answer; and whether that answer came
/// from an advertised address. From one of `kafka.brokers` it is `…/bootstrap:`.
fn broker_in(facility: &str, line: &str) -> Option<(Advertised, bool)> {
    let (from, rest) = line.split_once(":   Broker #")?;
    let (_, rest) = rest.split_once(": ")?;
    let (address, id) = rest.rsplit_once(" NodeId ")?;
    let (id, address) = (id.parse().ok()?, address.to_owned());
    let at_home = !from.ends_with("/bootstrap");
    (facility == "METADATA").then_some((Advertised { id, address }, at_home))
}

/// Why a broker did not take us.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// SASL.
    #[error(
        "the brokers refuse the credentials: check kafka.\"sasl.mechanism\", \"sasl.username\" and \"sasl.password\" \
         ({0})"
    )]
    Credentials(String),
    /// TLS.
    #[error(
        "TLS with the brokers fails: check kafka.\"security.protocol\", \"ssl.ca.location\" and the certificates ({0})"
    )]
    Tls(String),
}

/// What the library tells meanwhile.
#[derive(Default)]
struct Heard {
    /// The first refusal.
    refusal: OnceLock<Refusal>,
    /// The brokers of the last answer, also of one that was lost on its way to us.
    advertised: Mutex<Vec<Advertised>>,
    /// Whether an answer came from an advertised address.
    at_home: AtomicBool,
}

impl ClientContext for Heard {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        if let Some((broker, at_home)) = broker_in(facility, line) {
            self.at_home.fetch_or(at_home, Ordering::Relaxed);
            let mut advertised = self.advertised.lock();
            advertised.retain(|other| other.id != broker.id);
            advertised.push(broker);
        }
        // Debug lines are for us alone.
        if !is_debug(level) {
            log_line(facility, line);
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        let reason = reason.to_owned();
        let refusal = match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::Authentication) => Refusal::Credentials(reason),
            Some(RDKafkaErrorCode::SSL) => Refusal::Tls(reason),
            Some(_) | None => return,
        };
        // The first one counts.
        let _ = self.refusal.set(refusal);
    }
}

impl ProducerContext for Heard {
    type DeliveryOpaque = ();

    fn delivery(&self, _: &DeliveryResult<'_>, (): ()) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brokers_are_read_from_the_lines_of_an_answer() {
        let line = "[thrd:a:9092/bootstrap]: a:9092/bootstrap:   Broker #1/2: broker.invalid:28699 NodeId 7";
        let (broker, at_home) = broker_in("METADATA", line).expect("it names one");
        assert_eq!(
            (broker.id, broker.address.as_str()),
            (7, "broker.invalid:28699")
        );
        assert!(!at_home);
        let line_of_its_own = line.replace("a:9092/bootstrap", "ssl://b:9093/7");
        assert!(broker_in("METADATA", &line_of_its_own).is_some_and(|(_, at_home)| at_home));
        assert_eq!(broker_in("FAIL", line), None);
        let other = "[thrd:a:9092/bootstrap]: a:9092/bootstrap: 2 brokers, 5 topics";
        assert_eq!(broker_in("METADATA", other), None);
    }
}
