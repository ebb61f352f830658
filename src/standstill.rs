//! Whether something has stood still for too long while Kafka answered; pure, judged tick by tick.
//!
//! Time is counted in ticks of the thread that watches. A tick that comes late counts as one, so that time in
//! which the process did not run is not counted.

/// Names what stands still: the same number for as long as it is the same thing.
pub type Thing = u64;

/// What has been seen of one thing.
#[derive(Debug)]
pub struct Standstill {
    /// In ticks.
    limit: u32,
    thing: Option<Thing>,
    ticks: u32,
    /// Kafka did not answer meanwhile: it is asked at every tick from then on.
    was_silent: bool,
}

impl Standstill {
    /// What stands still for `limit` ticks, all of them with a Kafka that answers, does so for good.
    #[must_use]
    pub fn new(limit: u32) -> Self {
        Self {
            limit: limit.max(1),
            thing: None,
            ticks: 0,
            was_silent: false,
        }
    }

    /// A tick: whether Kafka is to be asked now. It is asked once half of the time is over.
    pub fn tick(&mut self, thing: Option<Thing>) -> bool {
        if !self.is_still(thing) {
            return false;
        }
        self.ticks += 1;
        self.was_silent || self.ticks > self.limit / 2
    }

    /// Whether Kafka answered, and what stands still now that it is known: whether it does so for good.
    pub fn answered(&mut self, answers: bool, thing: Option<Thing>) -> bool {
        if !self.is_still(thing) {
            return false;
        }
        if !answers {
            self.ticks = 0;
            self.was_silent = true;
        }
        self.ticks >= self.limit
    }

    fn is_still(&mut self, thing: Option<Thing>) -> bool {
        if thing.is_some() && thing == self.thing {
            return true;
        }
        *self = Self {
            thing,
            ..Self::new(self.limit)
        };
        // It is seen for the first time now.
        thing.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: u32 = 6;

    /// The tick, from 1, at which it is found to stand still; `look` says at each tick what stands still, whether
    /// Kafka answers, and what stands still then.
    fn found(look: impl Fn(u32) -> (Option<Thing>, bool, Option<Thing>)) -> Option<u32> {
        let mut standstill = Standstill::new(LIMIT);
        (1..=50).find(|tick| {
            let (thing, answers, then) = look(*tick);
            standstill.tick(thing) && standstill.answered(answers, then)
        })
    }

    #[test]
    fn what_stands_still_for_the_limit_does_so_for_good() {
        assert_eq!(found(|_| (Some(1), true, Some(1))), Some(LIMIT));
        assert_eq!(
            found(|tick| {
                let thing = Some(u64::from(tick.min(9)));
                (thing, true, thing)
            }),
            Some(9 + LIMIT - 1)
        );
    }

    #[test]
    fn what_goes_on_never_does() {
        assert_eq!(found(|_| (None, true, None)), None);
        let turns = |tick| Some(u64::from(tick / (LIMIT - 1)));
        assert_eq!(found(|tick| (turns(tick), true, turns(tick))), None);
        assert_eq!(
            found(|tick| ((tick % 4 != 0).then_some(7), true, Some(7))),
            None
        );
    }

    #[test]
    fn what_goes_on_while_kafka_is_asked_does_not_stand_still() {
        assert_eq!(found(|_| (Some(1), true, None)), None);
        assert_eq!(found(|_| (Some(1), true, Some(2))), None);
    }

    #[test]
    fn a_silent_kafka_is_waited_for_and_as_long_again() {
        assert_eq!(found(|_| (Some(1), false, Some(1))), None);
        for silent in LIMIT / 2 + 1..20 {
            let at = found(|tick| (Some(1), tick > silent, Some(1)));
            assert_eq!(at, Some(silent + LIMIT));
        }
    }

    #[test]
    fn kafka_is_asked_in_the_second_half_alone() {
        let mut standstill = Standstill::new(LIMIT);
        let asked: Vec<bool> = (0..LIMIT).map(|_| standstill.tick(Some(1))).collect();
        assert_eq!(asked, [false, false, false, true, true, true]);
    }
}
