//! How long, how much, and with which settings.

use std::path::PathBuf;
use std::time::Duration;

use user_otp::egov::Service;

use crate::cluster::{PASSWORD, USER};
use crate::gate::Gate;
use crate::ledger::Promise;

/// The consumer group.
pub(crate) const GROUP: &str = "chaos";

/// As [`Plan::environment`] has it.
const PROMISE: Promise = Promise {
    lifetime: 90_000,
    min_life: 10_000,
    first_delay: 1_000,
    limit: 2,
};

/// A run of at least this length is a long one.
const LONG: Duration = Duration::from_secs(300);

/// From `OTP_CHAOS_SECONDS`, `_SEED`, `_RATE`, `_HTTP_RATE`, `_OTHER` and `_DIR`.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) time: Duration,
    pub(crate) seed: u64,
    /// Requests a second on the request topic.
    pub(crate) rate: u32,
    /// And over HTTP.
    pub(crate) http_rate: u32,
    /// Another version of the program, that takes turns with the present one.
    pub(crate) other: Option<PathBuf>,
    /// Where the logs go; none: to a temporary folder, and away if all is well.
    pub(crate) dir: Option<PathBuf>,
}

impl Plan {
    pub(crate) fn from_environment() -> Self {
        #[expect(
            clippy::disallowed_methods,
            reason = "what is to be played again is given by a person"
        )]
        let given = |name: &str| std::env::var(format!("OTP_CHAOS_{name}")).ok();
        let number = |name: &str| given(name).and_then(|text| text.parse::<u64>().ok());
        let rate =
            |name: &str, or: u32| number(name).map_or(or, |rate| u32::try_from(rate).unwrap_or(or));
        Self {
            time: Duration::from_secs(number("SECONDS").unwrap_or(45)),
            seed: number("SEED")
                .unwrap_or_else(|| uuid::Uuid::new_v4().as_u64_pair().0 % 1_000_000),
            rate: rate("RATE", 60),
            http_rate: rate("HTTP_RATE", 20),
            other: given("OTHER").map(PathBuf::from),
            dir: given("DIR").map(PathBuf::from),
        }
    }

    /// What plays it again.
    pub(crate) fn again(&self) -> String {
        let other = self.other.iter();
        let other: String = other
            .map(|path| format!(" --other-binary {}", path.display()))
            .collect();
        format!(
            "scripts/chaos --seconds {} --seed {} --rate {} --http-rate {}{other}",
            self.time.as_secs(),
            self.seed,
            self.rate,
            self.http_rate
        )
    }

    pub(crate) fn is_long(&self) -> bool {
        self.time >= LONG
    }

    fn or_short(&self, long: (u64, u64), short: (u64, u64)) -> (u64, u64) {
        if self.is_long() { long } else { short }
    }

    /// From one fault on a broker to the next, in milliseconds.
    pub(crate) fn broker_gap(&self) -> (u64, u64) {
        self.or_short((60_000, 90_000), (20_000, 22_000))
    }

    pub(crate) fn redis_gap(&self) -> (u64, u64) {
        self.or_short((20_000, 60_000), (10_000, 15_000))
    }

    pub(crate) fn service_gap(&self) -> (u64, u64) {
        self.or_short((2_000, 6_000), (1_000, 3_000))
    }

    pub(crate) fn topic_gap(&self) -> (u64, u64) {
        self.or_short((20_000, 40_000), (6_000, 9_000))
    }

    pub(crate) fn clock_gap(&self) -> (u64, u64) {
        self.or_short((60_000, 90_000), (15_000, 20_000))
    }

    pub(crate) fn packet_gap(&self) -> (u64, u64) {
        self.or_short((3_000, 5_000), (1_000, 2_000))
    }

    /// What the instances are held to.
    pub(crate) fn promise(&self) -> Promise {
        if self.other.is_none() {
            return PROMISE;
        }
        // A request that two versions have handled may be charged by each, under different names.
        let limit = PROMISE.limit / 2;
        Promise { limit, ..PROMISE }
    }

    /// What the instances are told.
    pub(crate) fn environment(
        &self,
        brokers: &str,
        gates: &[Gate; Service::ALL.len()],
        redis: &Gate,
    ) -> Vec<(String, String)> {
        let url = |service: Service| format!("http://{}", gates[service as usize].address());
        let settings = [
            ("KAFKA__BROKERS", brokers.to_owned()),
            ("KAFKA__GROUP", GROUP.to_owned()),
            // Shorter than by default: somebody is away for one of these after each kill.
            ("KAFKA__SESSION_TIMEOUT_MS", "10000".to_owned()),
            ("REQUEST__LIFETIME", format!("{}ms", PROMISE.lifetime)),
            ("REQUEST__MIN_LIFE", format!("{}ms", PROMISE.min_life)),
            ("RETRY__DELAYS", format!("{}ms,5s,20s", PROMISE.first_delay)),
            ("LIMITS__NUMBER_TYPE_COUNT", PROMISE.limit.to_string()),
            ("LIMITS__REDIS", redis.address()),
            ("USERS__URL", url(Service::Users)),
            ("OTP__URL", format!("{}/otp", url(Service::Otp))),
            ("LOCALIZATION__URL", url(Service::Texts)),
            ("MDMS__URL", url(Service::Rules)),
            // So that they are asked for again and again.
            ("TEXTS__TTL", "5s".to_owned()),
            ("RULES__TTL_SECONDS", "5".to_owned()),
            // Small transactions by the hundred would be the brokers' only work.
            ("ENGINE__LINGER", "10ms".to_owned()),
            ("HTTP__PORT", "0".to_owned()),
            ("MANAGEMENT__PORT", "0".to_owned()),
        ];
        settings
            .into_iter()
            .map(|(key, value)| (format!("USER_OTP__{key}"), value))
            .collect()
    }
}

/// How the instances log in, beside what everybody is told.
pub(crate) fn account() -> Vec<(String, String)> {
    [
        ("SECURITY_PROTOCOL", "SASL_PLAINTEXT"),
        ("SASL_MECHANISM", "PLAIN"),
        ("SASL_USERNAME", USER),
        ("SASL_PASSWORD", PASSWORD),
    ]
    .map(|(key, value)| (format!("USER_OTP__KAFKA__{key}"), value.to_owned()))
    .to_vec()
}
