//! The topics of a simulated cluster, and the bounds of a simulated engine: a minute stands for
//! the five that a request has.

use std::sync::Arc;
use std::time::Duration;

use user_otp::engine::output::Writer;
use user_otp::engine::record::{Origin, Reading};
use user_otp::engine::retry::Tier;
use user_otp::engine::state::{Bounds, Partition};

use crate::random::Random;

pub(crate) const REQUESTS: &str = "requests";
pub(crate) const ACCEPTED: &str = "accepted";
pub(crate) const JOBS: &str = "jobs";
pub(crate) const TIERS: [(&str, Duration); 3] = [
    ("retry.1s", Duration::from_secs(1)),
    ("retry.5s", Duration::from_secs(5)),
    ("retry.20s", Duration::from_secs(20)),
];
pub(crate) const SMS: &str = "sms";
pub(crate) const OUTCOMES: &str = "outcomes";
pub(crate) const DEAD_LETTERS: &str = "dlq";

pub(crate) const LIFETIME: Duration = Duration::from_secs(60);
pub(crate) const MIN_LIFE: Duration = Duration::from_secs(3);

/// What a topic is to the engine; `None` for those that it writes alone.
pub(crate) fn origin(topic: &str) -> Option<Origin> {
    match topic {
        REQUESTS => Some(Origin::Requests),
        ACCEPTED => Some(Origin::Accepted),
        JOBS => Some(Origin::Jobs),
        _ => TIERS
            .iter()
            .find(|(name, _)| *name == topic)
            .map(|(_, delay)| Origin::Retry(*delay)),
    }
}

/// Every partition of the cluster.
pub(crate) fn partitions() -> Vec<Partition> {
    let topics = [
        (REQUESTS, 2),
        (ACCEPTED, 1),
        (JOBS, 1),
        (TIERS[0].0, 2),
        (TIERS[1].0, 1),
        (TIERS[2].0, 1),
        (SMS, 1),
        (OUTCOMES, 1),
        (DEAD_LETTERS, 1),
    ];
    let partition = |topic: &str, number| Partition {
        topic: topic.into(),
        number,
    };
    topics
        .iter()
        .flat_map(|(topic, count)| (0..*count).map(|number| partition(topic, number)))
        .collect()
}

/// The partitions that the engine reads.
pub(crate) fn consumed() -> Vec<Partition> {
    let mut all = partitions();
    all.retain(|partition| origin(&partition.topic).is_some());
    all
}

/// Narrow bounds, so that all of them are met.
pub(crate) fn bounds(random: &mut Random) -> Bounds {
    Bounds {
        window: random.between(3, 40) as usize,
        window_bytes: *random.pick(&[400, 4_000, 1_000_000]),
        lane: random.between(2, 6) as usize,
        jobs: random.between(1, 8) as usize,
        parked: random.between(1, 10) as usize,
        waiting_bytes: *random.pick(&[1, 30_000, 1_000_000]),
        lifetime: LIFETIME,
    }
}

/// As soon as a request is handled, later, or never.
pub(crate) fn supersede_after(random: &mut Random) -> Duration {
    Duration::from_millis(*random.pick(&[0, 1, 300, 2_000]))
}

pub(crate) fn reading() -> Reading {
    Reading {
        lifetime: LIFETIME,
        accepted: ACCEPTED.into(),
    }
}

pub(crate) fn writer() -> Writer {
    let tier = |(topic, delay): (&str, Duration)| Tier {
        topic: Arc::from(topic),
        delay,
    };
    Writer {
        group: "user-otp".to_owned(),
        dead_letters: DEAD_LETTERS.into(),
        dead_letter_limit: 1_000_000,
        outcomes: OUTCOMES.into(),
        tiers: TIERS.into_iter().map(tier).collect(),
        min_life: MIN_LIFE,
    }
}
