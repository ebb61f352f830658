//! What the process may hold in memory, part by part: each part is bounded in bytes by settings, and all of them
//! together are said at the start. Pure.
//!
//! Beside it stands what no setting bounds: one compressed batch that librdkafka unpacks as a whole (docs/memory.md).

use std::fmt;

use crate::config::Config;
use crate::egov::{LONG_ANSWER, LONG_ANSWERS};
use crate::engine::clients::{CONSUMER_QUEUE, PRODUCER_QUEUE};
use crate::http::server::CONNECTION_BYTES;
use crate::limits::ENTRY_BYTES;

/// The program without any work, as measured.
const PROGRAM: usize = 32 << 20;

/// A request under way, besides its record or body: its task, and what it has read of it.
const TASK: usize = 4 * 1024;

/// A request's bytes are there twice once it has its result.
const COPIES: usize = 2;

/// A connection to a service, with the call on it.
const CALL: usize = 16 * 1024;

/// An idempotency key.
const KEY: usize = 160;

/// The parts, in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Budgets(Vec<(&'static str, usize)>);

impl Budgets {
    /// Those of a process with this configuration.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        let mut parts = vec![("program", PROGRAM), ("calls", calls(config))];
        let (texts, rules, limits) = (&config.texts, &config.rules, &config.limits);
        // Kept copies, and passing ones again.
        parts.push(("texts_and_rules", 2 * (texts.bytes + rules.bytes)));
        parts.push(("rate_limits", limits.entries.saturating_mul(ENTRY_BYTES)));
        if config.engine.enabled {
            let engine = &config.engine;
            let in_flight = COPIES * engine.window_bytes + engine.window * TASK;
            parts.push(("in_flight", in_flight));
            parts.push(("retries_waiting", config.retry.waiting_bytes));
            // One answer of a broker on its way, and the queue.
            parts.push(("kafka_consumer", 2 * CONSUMER_QUEUE));
            parts.push(("kafka_producer", PRODUCER_QUEUE));
        }
        if config.http.enabled {
            let http = &config.http;
            let requests = COPIES * http.body_bytes + http.requests * TASK;
            parts.push(("http_requests", requests));
            parts.push(("http_connections", http.connections * CONNECTION_BYTES));
            parts.push(("idempotency_keys", http.idempotency_entries * KEY));
            parts.push(("http_producer", PRODUCER_QUEUE));
        }
        Self(parts)
    }

    /// All of them together.
    #[must_use]
    pub fn sum(&self) -> usize {
        self.0.iter().map(|(_, bytes)| bytes).sum()
    }
}

fn calls(config: &Config) -> usize {
    let services = [
        config.users.calls,
        config.otp.calls,
        config.localization.calls,
        config.mdms.calls,
    ];
    let calls: usize = services.iter().sum();
    calls * (CALL + LONG_ANSWER) + LONG_ANSWERS * config.services.body_limit
}

/// Each part in mebibytes.
impl fmt::Display for Budgets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (name, bytes)) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{name} {}", bytes.div_ceil(1 << 20))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_has_every_part_and_follows_the_settings() {
        let (mut config, _) = Config::load(None, []).expect("the defaults are right");
        let all = Budgets::of(&config);
        let text = all.to_string();
        for part in [
            "in_flight",
            "retries_waiting",
            "http_requests",
            "kafka_consumer",
        ] {
            assert!(text.contains(part), "{text}");
        }
        config.retry.waiting_bytes += 5 << 20;
        assert_eq!(Budgets::of(&config).sum(), all.sum() + (5 << 20));
        config.http.enabled = false;
        assert!(!Budgets::of(&config).to_string().contains("http"));
    }

    #[test]
    fn what_the_documentation_says_of_the_defaults_is_their_sum() {
        let (config, _) = Config::load(None, []).expect("the defaults are right");
        let sum = Budgets::of(&config).sum().div_ceil(1 << 20);
        let docs = include_str!("../docs/memory.md");
        assert!(
            docs.contains(&format!("{sum} MiB")),
            "docs/memory.md does not say {sum} MiB"
        );
    }
}
