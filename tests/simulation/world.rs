//! What all processes of a simulation share.

use user_otp::clock::{EpochMs, Uptime};

use crate::broker::Broker;
use crate::plan;
use crate::random::Random;

pub(crate) struct World {
    pub(crate) broker: Broker,
    pub(crate) random: Random,
    pub(crate) now: EpochMs,
    /// The services do not answer.
    pub(crate) outage: bool,
    /// The SMS topic is gone.
    pub(crate) sms_is_away: bool,
    /// Nothing goes wrong any more.
    pub(crate) healed: bool,
}

impl World {
    pub(crate) fn new(mut random: Random) -> Self {
        let partitions = plan::partitions()
            .into_iter()
            .map(|partition| (partition, random.between(0, 50)))
            .collect::<Vec<_>>();
        Self {
            broker: Broker::new(partitions),
            random,
            now: EpochMs(1_700_000_000_000),
            outage: false,
            sms_is_away: false,
            healed: false,
        }
    }

    /// The present by the clock that only goes forward.
    pub(crate) fn uptime(&self) -> Uptime {
        Uptime(self.now.left(EpochMs(0)))
    }

    /// Whether something goes wrong now, `percent` times of a hundred.
    pub(crate) fn fault(&mut self, percent: usize) -> bool {
        !self.healed && self.random.chance(percent)
    }
}
