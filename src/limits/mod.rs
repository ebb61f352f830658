//! Sending limits, for both doors: against SMS pumping, and impatience.
//!
//! ```text
//! handler: validate ─▶ charge ─▶ look the user up …
//!                        │
//!             Redis, where there is one and it is well ── noted ─▶ memory
//!                        └─ else memory alone
//! ```
//!
//! A request is charged once, before anybody looks whether its number is registered (a limit that is
//! reached by registered numbers alone would tell which those are), to every limit or to none. What it
//! came to is kept under its source, so that a request that is handled again, after a crash or a
//! rebalance, comes to the same. It is given back for a failure of ours, and where another request's message stands
//! for it (superseded), never for a rejection.
//!
//! Windows run on the time a request was received. A key is the number's digits as they were given,
//! whatever tenant, country code or user type came with them: a number with its country's prefix in
//! front is another one, which the rules for mobile numbers refuse but for password resets.
//!
//! Memory is noted whatever decides, so that limits hold within an instance when Redis goes away; what
//! memory decides meanwhile, Redis is not told later. No request ever fails because of Redis.

mod client;
mod memory;
mod shared;
mod window;

use std::hash::{BuildHasher as _, RandomState};
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};

use self::memory::{Judged, Memory, Subject, Verdict};
use self::window::Rule;
use crate::clock::{Clock, EpochMs};
use crate::config::{Config, LimitRule, LimitsMode};
use crate::domain::contact::MobileNumber;
use crate::domain::request::{OtpRequest, RequestType};
use crate::outcome::{Limit, Limited};
use crate::store::Store;

pub use self::client::{Client, Clients};
pub(crate) use self::memory::ENTRY_BYTES;
pub use self::shared::{Shown, clear, show};

/// What names a request whenever it is handled again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Source([u8; 16]);

impl Source {
    /// `id` is the position and the time of its first record (`topic-partition-offset time`), or the event id of a
    /// request that came in over HTTP, the same at the door and on the topic of accepted requests.
    #[must_use]
    pub fn new(id: &str) -> Self {
        let digest = Sha256::digest(id);
        let mut source = [0; 16];
        source.copy_from_slice(&digest[..16]);
        Self(source)
    }
}

/// What the limits need to know of a request besides itself, and whether it was charged.
#[derive(Debug, Clone)]
pub struct Charge {
    source: Option<Source>,
    received: EpochMs,
    client: Option<Client>,
    done: OnceLock<()>,
}

impl Charge {
    /// To be charged when it is handled.
    #[must_use]
    pub fn due(source: Source, received: EpochMs) -> Self {
        Self {
            source: Some(source),
            received,
            client: None,
            done: OnceLock::new(),
        }
    }

    /// Never charged: an operator sends it again.
    #[must_use]
    pub fn never() -> Self {
        Self {
            source: None,
            received: EpochMs(0),
            client: None,
            done: OnceLock::new(),
        }
    }

    /// The client, where it came in over HTTP and its address is known.
    #[must_use]
    pub fn from_client(mut self, client: Option<Client>) -> Self {
        self.client = client;
        self
    }

    /// Was charged before it came here.
    #[must_use]
    pub fn already(self) -> Self {
        self.mark();
        self
    }

    /// Whether it was charged: what is retried or handed over says so in `otp-charged`.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.done.get().is_some()
    }

    /// The client that is still to be charged: what is retried or handed over says so in `otp-client`.
    #[must_use]
    pub fn client_due(&self) -> Option<Client> {
        self.client.filter(|_| !self.is_done())
    }

    pub(crate) fn mark(&self) {
        // Marked twice is marked.
        let _ = self.done.set(());
    }
}

/// Where limits are kept at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// In this instance's memory, as configured.
    Memory,
    /// In Redis.
    Redis,
    /// In this instance's memory, because Redis is down or slow.
    RedisAway,
}

/// How often a limit was reached, by requests that were handled for the first time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reached {
    /// The limit.
    pub limit: Limit,
    /// Requests it refused.
    pub refused: u64,
    /// Requests it would have refused were it not a shadow.
    pub shadowed: u64,
}

/// All sending limits. A cheap handle.
#[derive(Clone)]
pub struct Limits(Arc<Inner>);

struct Inner {
    /// Those that are not off.
    rules: Vec<Rule>,
    memory: Mutex<Memory>,
    store: Option<Store>,
    hasher: RandomState,
    clock: Clock,
    refused: [AtomicU64; Limit::ALL.len()],
    shadowed: [AtomicU64; Limit::ALL.len()],
}

impl Limits {
    /// Limits as configured; in `store` where there is one.
    #[must_use]
    pub fn new(config: &Config, store: Option<Store>, clock: Clock) -> Self {
        let rules = rules(config);
        Self(Arc::new(Inner {
            memory: Mutex::new(Memory::new(&rules, config.limits.entries)),
            rules,
            store,
            hasher: RandomState::new(),
            clock,
            refused: Default::default(),
            shadowed: Default::default(),
        }))
    }

    /// Charges a request, unless it was charged or never is.
    ///
    /// # Errors
    ///
    /// The limit that refuses it.
    pub async fn charge(&self, request: &OtpRequest, charge: &Charge) -> Result<(), Limited> {
        let Some(source) = charge.source.filter(|_| !charge.is_done()) else {
            return Ok(());
        };
        if self.0.rules.is_empty() {
            return Ok(());
        }
        let judged = match &self.0.store {
            // Allocated, so that requests that wait elsewhere do not hold its room.
            Some(store) => Box::pin(self.ask(store, source, request, charge)).await,
            None => {
                let subject = self.0.subject(source, request, charge);
                self.0.memory.lock().charge(subject, self.0.clock.now())
            }
        };
        if !judged.again {
            self.0.count(&judged);
        }
        match judged.verdict {
            Verdict::Taken => {
                charge.mark();
                Ok(())
            }
            Verdict::Refused { limit, until } => Err(Limited {
                limit,
                retry_after: until.left(self.0.clock.now()),
            }),
        }
    }

    async fn ask(
        &self,
        store: &Store,
        source: Source,
        request: &OtpRequest,
        charge: &Charge,
    ) -> Judged {
        let (rules, received) = (&self.0.rules, charge.received);
        let keys: Vec<Option<String>> = rules
            .iter()
            .map(|rule| Some(store.key(&key(rule.limit, request, charge.client)?)))
            .collect();
        let shared = shared::charge(store, rules, source, &keys, received).await;
        let subject = self.0.subject(source, request, charge);
        let now = self.0.clock.now();
        let mut memory = self.0.memory.lock();
        match shared {
            Some(judged) => {
                memory.note(subject, judged.verdict, now);
                judged
            }
            None => memory.charge(subject, now),
        }
    }

    /// Gives back what a request was charged: a failure of ours ended it. Nothing where nothing was.
    pub fn give_back(&self, charge: &Charge) {
        let Some(source) = charge.source.filter(|_| !self.0.rules.is_empty()) else {
            return;
        };
        self.0.memory.lock().give_back(self.0.hash(source));
        if let Some(store) = &self.0.store {
            shared::give_back(store, source);
        }
    }

    /// Where limits are kept at the moment.
    #[must_use]
    pub fn health(&self) -> Health {
        match &self.0.store {
            None => Health::Memory,
            Some(store) if store.is_well() => Health::Redis,
            Some(_) => Health::RedisAway,
        }
    }

    /// How often each limit was reached since the start.
    #[must_use]
    pub fn reached(&self) -> Vec<Reached> {
        let counts = self.0.refused.iter().zip(&self.0.shadowed);
        let count = |(limit, (refused, shadowed)): (&Limit, (&AtomicU64, &AtomicU64))| Reached {
            limit: *limit,
            refused: refused.load(Ordering::Relaxed),
            shadowed: shadowed.load(Ordering::Relaxed),
        };
        Limit::ALL.iter().zip(counts).map(count).collect()
    }
}

impl Inner {
    fn subject(&self, source: Source, request: &OtpRequest, charge: &Charge) -> Subject {
        let keys = self.rules.iter().map(|rule| {
            let key = key(rule.limit, request, charge.client)?;
            Some(NonZeroU64::new(self.hasher.hash_one(key)).unwrap_or(NonZeroU64::MIN))
        });
        Subject {
            source: self.hash(source),
            keys: keys.collect(),
            received: charge.received,
        }
    }

    fn hash(&self, source: Source) -> u64 {
        self.hasher.hash_one(source.0)
    }

    fn count(&self, judged: &Judged) {
        let add = |counters: &[AtomicU64], limit: Limit| {
            counters[limit as usize].fetch_add(1, Ordering::Relaxed);
        };
        if let Verdict::Refused { limit, .. } = judged.verdict {
            add(&self.refused, limit);
        }
        for limit in &judged.shadows {
            add(&self.shadowed, *limit);
        }
    }
}

/// The limits that are not off, in the order of [`Limit::ALL`].
fn rules(config: &Config) -> Vec<Rule> {
    let limits = &config.limits;
    let all = Limit::ALL.iter().map(|limit| {
        let rule: LimitRule = match limit {
            Limit::NumberType => limits.number_type,
            Limit::Number => limits.number,
            Limit::NumberDay => limits.number_day,
            Limit::Prefix => limits.prefix,
            Limit::Tenant => limits.tenant,
            Limit::Address => limits.address,
        };
        let refuses = match (limits.mode, rule.mode) {
            (LimitsMode::Off, _) | (_, LimitsMode::Off) => return None,
            (LimitsMode::Shadow, _) | (_, LimitsMode::Shadow) => false,
            (LimitsMode::On, LimitsMode::On) => true,
        };
        Some(Rule {
            limit: *limit,
            refuses,
            count: rule.count,
            window: rule.window,
            lateness: config.request.lifetime,
        })
    });
    all.flatten().collect()
}

/// What a limit counts by.
fn key(limit: Limit, request: &OtpRequest, client: Option<Client>) -> Option<String> {
    let kind = request.kind;
    match limit {
        Limit::NumberType => Some(number_type_key(&request.mobile, kind)),
        Limit::Number | Limit::NumberDay => Some(number_key(limit, &request.mobile)),
        Limit::Prefix => {
            let mut digits = request.mobile.digits();
            digits.truncate(digits.len().saturating_sub(4));
            Some(format!("{} {digits}", limit.as_str()))
        }
        Limit::Tenant => Some(format!("{} {}", limit.as_str(), request.tenant.as_str())),
        Limit::Address => Some(format!("{} {}", limit.as_str(), client?.to_text())),
    }
}

fn number_key(limit: Limit, mobile: &MobileNumber) -> String {
    format!("{} {}", limit.as_str(), mobile.digits())
}

fn number_type_key(mobile: &MobileNumber, kind: RequestType) -> String {
    let number = number_key(Limit::NumberType, mobile);
    format!("{number} {}", kind.as_str())
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::domain::tenant::TenantId;

    fn request(mobile: &str, tenant: &str, kind: RequestType) -> OtpRequest {
        OtpRequest {
            tenant: TenantId::parse(tenant).expect("a tenant"),
            mobile: MobileNumber::parse(mobile).expect("a number"),
            kind,
            user_type: None,
            country_code: None,
            locale: None,
        }
    }

    fn limits(settings: &[(&str, &str)]) -> Limits {
        let pairs = settings
            .iter()
            .map(|(key, value)| (format!("USER_OTP__LIMITS__{key}"), (*value).to_owned()));
        let config = Config::load(None, pairs).expect("the settings are right").0;
        Limits::new(&config, None, Clock::fixed(EpochMs(0)))
    }

    async fn ask(limits: &Limits, source: &str, request: &OtpRequest) -> Result<(), Limit> {
        let charge = Charge::due(Source::new(source), EpochMs(0));
        let charged = limits.charge(request, &charge).await;
        assert_eq!(charge.is_done(), charged.is_ok());
        charged.map_err(|limited| limited.limit)
    }

    #[tokio::test]
    async fn the_number_counts_in_whatever_spelling_and_for_whatever_tenant() {
        let limits = limits(&[]);
        let first = request("9876543210", "pb", RequestType::Login);
        assert_eq!(ask(&limits, "1", &first).await, Ok(()));
        let again = request("98765-432 10", "pg.city", RequestType::Login);
        assert_eq!(ask(&limits, "2", &again).await, Err(Limit::NumberType));
        let other_type = request("9876543210", "pb", RequestType::Register);
        assert_eq!(ask(&limits, "3", &other_type).await, Ok(()));
    }

    #[tokio::test]
    async fn numbers_that_differ_in_their_last_four_digits_are_neighbours() {
        let limits = limits(&[("PREFIX", "on"), ("PREFIX_COUNT", "2")]);
        for (source, mobile, taken) in [
            ("1", "9876540001", Ok(())),
            ("2", "9876540002", Ok(())),
            ("3", "9876549999", Err(Limit::Prefix)),
            ("4", "9876550000", Ok(())),
        ] {
            let request = request(mobile, "pb", RequestType::Login);
            assert_eq!(ask(&limits, source, &request).await, taken, "{source}");
        }
    }

    /// A limit's own mode, under the ceiling.
    #[rstest]
    #[case("on", "on", Err(Limit::NumberType), 1, 0)]
    #[case("on", "shadow", Ok(()), 0, 1)]
    #[case("on", "off", Ok(()), 0, 0)]
    #[case("shadow", "on", Ok(()), 0, 1)]
    #[case("off", "on", Ok(()), 0, 0)]
    #[tokio::test]
    async fn the_mode_is_a_ceiling(
        #[case] ceiling: &str,
        #[case] own: &str,
        #[case] second: Result<(), Limit>,
        #[case] refused: u64,
        #[case] shadowed: u64,
    ) {
        let limits = limits(&[("MODE", ceiling), ("NUMBER_TYPE", own)]);
        let request = request("9876543210", "pb", RequestType::Login);
        for (source, expected) in [("1", Ok(())), ("2", second)] {
            let charge = Charge::due(Source::new(source), EpochMs(0));
            let charged = limits.charge(&request, &charge).await;
            assert_eq!(charged.map_err(|limited| limited.limit), expected);
        }
        let reached = limits.reached()[0];
        assert_eq!((reached.refused, reached.shadowed), (refused, shadowed));
    }

    #[tokio::test]
    async fn what_was_charged_or_never_is_passes() {
        let limits = limits(&[]);
        let request = request("9876543210", "pb", RequestType::Login);
        for _ in 0..3 {
            assert_eq!(limits.charge(&request, &Charge::never()).await, Ok(()));
            let charged = Charge::due(Source::new("1"), EpochMs(0)).already();
            assert_eq!(limits.charge(&request, &charged).await, Ok(()));
        }
        assert_eq!(
            ask(&limits, "2", &request).await,
            Ok(()),
            "nothing was charged"
        );
    }
}
