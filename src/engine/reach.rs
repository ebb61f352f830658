//! Whether a broker takes us, and if none does, why: librdkafka tries again for ever, and tells the
//! reason only to who polls for it.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseProducer, Producer as _, ProducerContext};

use super::advertised::Advertised;
use super::clients::log_line;

/// How often librdkafka is asked why no broker answers.
const ASK_WHY: Duration = Duration::from_secs(1);

/// How long its events are polled for then.
const LISTEN: Duration = Duration::from_millis(100);

/// A client that asks for an answer and nothing else. It is a producer, because an admin client
/// cannot be polled.
pub(super) struct Probe(BaseProducer<Refusals>);

/// What came instead of an answer.
pub(super) enum Unreached {
    /// A broker is there, and none took us.
    Refused(Refusal),
    /// Nobody answered.
    Silent(KafkaError),
}

impl Probe {
    /// # Errors
    ///
    /// When a property is wrong.
    pub(super) fn new(config: &ClientConfig) -> KafkaResult<Self> {
        config.create_with_context(Refusals::default()).map(Self)
    }

    /// Waits until any broker answers, for at most `timeout`: the brokers that it names. Blocks.
    ///
    /// # Errors
    ///
    /// When none did.
    pub(super) fn reach(&self, timeout: Duration) -> Result<Vec<Advertised>, Unreached> {
        let deadline = Instant::now() + timeout;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let error = match self.0.client().fetch_metadata(None, left.min(ASK_WHY)) {
                Ok(metadata) => {
                    let brokers = metadata.brokers().iter().map(|broker| Advertised {
                        id: broker.id(),
                        address: format!("{}:{}", broker.host(), broker.port()),
                    });
                    return Ok(brokers.collect());
                }
                Err(error) => error,
            };
            self.0.poll(LISTEN);
            if Instant::now() >= deadline {
                return Err(match self.0.context().0.get() {
                    Some(refusal) => Unreached::Refused(refusal.clone()),
                    None => Unreached::Silent(error),
                });
            }
        }
    }
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

/// Notes the first refusal.
#[derive(Default)]
struct Refusals(OnceLock<Refusal>);

impl ClientContext for Refusals {
    fn log(&self, _level: RDKafkaLogLevel, facility: &str, line: &str) {
        log_line(facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        let reason = reason.to_owned();
        let refusal = match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::Authentication) => Refusal::Credentials(reason),
            Some(RDKafkaErrorCode::SSL) => Refusal::Tls(reason),
            Some(_) | None => return,
        };
        // The first one counts.
        let _ = self.0.set(refusal);
    }
}

impl ProducerContext for Refusals {
    type DeliveryOpaque = ();

    fn delivery(&self, _: &DeliveryResult<'_>, (): ()) {}
}
