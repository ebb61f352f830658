//! The limits in this process's memory: pure. One request is charged to all limits, or to none.

use std::num::NonZeroU64;

use super::window::{Charges, Rule};
use crate::bounded::Bounded;
use crate::clock::EpochMs;
use crate::outcome::Limit;

/// What an entry of `limits.entries` may take in all tables together, in bytes: about 650 as measured for the keys and
/// verdicts, and the charges.
pub(crate) const ENTRY_BYTES: usize = 650 + 6 * CHARGES_PER_KEY * 2 * size_of::<EpochMs>();

/// Charges in memory for each key that is, on average; most keys have one or two.
pub(crate) const CHARGES_PER_KEY: usize = 8;

/// What a request comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is charged to every limit.
    Taken,
    /// It is charged to none.
    Refused {
        /// Of those that refuse it, the one that does so for longest.
        limit: Limit,
        /// When it would be taken.
        until: EpochMs,
    },
}

/// A verdict, and what is to be counted with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Judged {
    pub(crate) verdict: Verdict,
    /// Shadows that would have refused it.
    pub(crate) shadows: Vec<Limit>,
    /// The verdict was there already: the request is handled once more.
    pub(crate) again: bool,
}

/// A request, as far as the limits are concerned.
#[derive(Debug, Clone)]
pub(crate) struct Subject {
    /// Its source.
    pub(crate) source: u64,
    /// Its key for each rule, in their order; none where the limit does not concern it.
    pub(crate) keys: Box<[Option<NonZeroU64>]>,
    /// When it was received.
    pub(crate) received: EpochMs,
}

/// Charges and verdicts.
#[derive(Debug)]
pub(crate) struct Memory {
    rules: Vec<Rule>,
    /// For each rule, by key.
    charges: Vec<Bounded<Charges>>,
    /// By source.
    verdicts: Bounded<Kept>,
}

#[derive(Debug)]
struct Kept {
    verdict: Verdict,
    /// What was charged.
    keys: Box<[Option<NonZeroU64>]>,
    received: EpochMs,
}

impl Memory {
    /// Nothing charged. Each limit remembers `entries` keys at most, and so many verdicts are kept.
    pub(crate) fn new(rules: &[Rule], entries: usize) -> Self {
        Self {
            rules: rules.to_vec(),
            charges: rules.iter().map(|_| table(entries)).collect(),
            verdicts: Bounded::new(entries),
        }
    }

    /// Judges a request and charges what it takes.
    pub(crate) fn charge(&mut self, subject: Subject, now: EpochMs) -> Judged {
        if let Some(kept) = self.verdicts.get(subject.source) {
            return Judged {
                verdict: kept.verdict,
                shadows: Vec::new(),
                again: true,
            };
        }
        let judged = self.judge(&subject);
        self.keep(subject, judged.verdict, now);
        judged
    }

    /// Takes over what was decided elsewhere.
    pub(crate) fn note(&mut self, subject: Subject, verdict: Verdict, now: EpochMs) {
        if self.verdicts.get(subject.source).is_none() {
            self.keep(subject, verdict, now);
        }
    }

    /// Forgets a request: what it was charged is free again.
    pub(crate) fn give_back(&mut self, source: u64) {
        let Some(kept) = self.verdicts.remove(source) else {
            return;
        };
        for (charges, key) in self.charges.iter_mut().zip(kept.keys) {
            if let Some(charges) = key.and_then(|key| charges.get_mut(key.get())) {
                charges.remove(kept.received);
            }
        }
    }

    fn judge(&self, subject: &Subject) -> Judged {
        let (mut judging, mut shadows) = (Judging::default(), Vec::new());
        for ((rule, charges), key) in self.rules.iter().zip(&self.charges).zip(&subject.keys) {
            let Some(charges) = key.and_then(|key| charges.get(key.get())) else {
                continue;
            };
            let full = charges.full(rule, subject.received);
            if rule.refuses {
                judging.looked_at(rule.limit, full, charges.free_from(rule));
            } else if full {
                shadows.push(rule.limit);
            }
        }
        Judged {
            verdict: judging.verdict(),
            shadows,
            again: false,
        }
    }

    fn keep(&mut self, subject: Subject, verdict: Verdict, now: EpochMs) {
        let Some(lateness) = self.rules.first().map(|rule| rule.lateness) else {
            return;
        };
        let received = subject.received;
        let keys = match verdict {
            Verdict::Taken => subject.keys,
            Verdict::Refused { .. } => Box::default(),
        };
        for ((rule, table), key) in self.rules.iter().zip(&mut self.charges).zip(keys.iter()) {
            table.forget_old(now);
            let Some(key) = key.map(NonZeroU64::get) else {
                continue;
            };
            let mut charges = table.remove(key).unwrap_or_default();
            charges.add(rule, received, now);
            let last = charges.last().unwrap_or(received);
            let (until, weight) = (last.plus(rule.kept()), charges.len());
            table.put_weighing(key, until, charges, weight);
        }
        self.verdicts.forget_old(now);
        // It is handled again within its lifetime; its dead letter may come later, and give it back.
        let until = now.plus(2 * lateness);
        let kept = Kept {
            verdict,
            keys,
            received,
        };
        self.verdicts.put(subject.source, until, kept);
    }
}

/// One limit's. A key that is charged often takes more than others: all of them together have a bound, too.
fn table(entries: usize) -> Bounded<Charges> {
    Bounded::weighing(entries, entries.saturating_mul(CHARGES_PER_KEY))
}

/// Of several limits, what they come to together.
#[derive(Default)]
struct Judging {
    refused_by: Option<(Limit, Option<EpochMs>)>,
    /// When all are free: also of those that were free at a late request's moment and are not now.
    free_from: Option<EpochMs>,
}

impl Judging {
    fn looked_at(&mut self, limit: Limit, full: bool, free_from: Option<EpochMs>) {
        self.free_from = self.free_from.max(free_from);
        let longest = self.refused_by.is_none_or(|(_, other)| other < free_from);
        if full && longest {
            self.refused_by = Some((limit, free_from));
        }
    }

    fn verdict(self) -> Verdict {
        match (self.refused_by, self.free_from) {
            (Some((limit, _)), Some(until)) => Verdict::Refused { limit, until },
            (Some(_) | None, _) => Verdict::Taken,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    const LATENESS: i64 = 50;

    fn rule(limit: Limit, refuses: bool, count: usize, window: u64) -> Rule {
        Rule {
            limit,
            refuses,
            count,
            window: Duration::from_millis(window),
            lateness: Duration::from_millis(50),
        }
    }

    fn subject(source: u64, keys: &[u64], received: i64) -> Subject {
        Subject {
            source,
            keys: keys.iter().map(|key| NonZeroU64::new(*key + 1)).collect(),
            received: EpochMs(received),
        }
    }

    fn charge(memory: &mut Memory, source: u64, keys: &[u64], received: i64) -> Judged {
        memory.charge(subject(source, keys, received), EpochMs(received))
    }

    fn refused(limit: Limit, until: i64) -> Verdict {
        Verdict::Refused {
            limit,
            until: EpochMs(until),
        }
    }

    #[test]
    fn what_one_limit_refuses_is_charged_to_none() {
        let rules = [
            rule(Limit::NumberType, true, 1, 30),
            rule(Limit::Number, true, 2, 100),
        ];
        let mut memory = Memory::new(&rules, 100);
        assert_eq!(charge(&mut memory, 1, &[1, 9], 0).verdict, Verdict::Taken);
        for source in 2..9 {
            let judged = charge(&mut memory, source, &[1, 9], 10);
            assert_eq!(judged.verdict, refused(Limit::NumberType, 30));
        }
        assert_eq!(charge(&mut memory, 10, &[2, 9], 10).verdict, Verdict::Taken);
        // Of two that refuse, the one that does so for longer.
        let judged = charge(&mut memory, 11, &[2, 9], 20);
        assert_eq!(judged.verdict, refused(Limit::Number, 100));
    }

    #[test]
    fn a_shadow_counts_and_refuses_nobody() {
        let mut memory = Memory::new(&[rule(Limit::Tenant, false, 1, 30)], 100);
        assert_eq!(charge(&mut memory, 1, &[1], 0).shadows, []);
        let judged = charge(&mut memory, 2, &[1], 10);
        assert_eq!(
            (judged.verdict, judged.shadows),
            (Verdict::Taken, vec![Limit::Tenant])
        );
        // It was charged all the same.
        assert_eq!(charge(&mut memory, 3, &[1], 39).shadows, [Limit::Tenant]);
    }

    #[test]
    fn the_same_source_gets_the_same_verdict_and_is_charged_once() {
        let mut memory = Memory::new(&[rule(Limit::Number, true, 2, 30)], 100);
        for again in [false, true, true] {
            let judged = charge(&mut memory, 1, &[1], 0);
            assert_eq!((judged.verdict, judged.again), (Verdict::Taken, again));
        }
        assert_eq!(charge(&mut memory, 2, &[1], 1).verdict, Verdict::Taken);
        assert_eq!(
            charge(&mut memory, 3, &[1], 2).verdict,
            refused(Limit::Number, 30)
        );
        // Refused it stays, also when it is looked at again later.
        let later = memory.charge(subject(3, &[1], 2), EpochMs(40));
        assert_eq!(
            (later.verdict, later.again),
            (refused(Limit::Number, 30), true)
        );
    }

    #[test]
    fn what_is_given_back_is_free_again() {
        let mut memory = Memory::new(&[rule(Limit::Number, true, 1, 30)], 100);
        assert_eq!(charge(&mut memory, 1, &[1], 0).verdict, Verdict::Taken);
        memory.give_back(1);
        memory.give_back(1);
        assert_eq!(charge(&mut memory, 2, &[1], 10).verdict, Verdict::Taken);
        assert_eq!(
            charge(&mut memory, 3, &[1], 11).verdict,
            refused(Limit::Number, 40)
        );
        memory.give_back(3);
        assert_eq!(
            charge(&mut memory, 4, &[1], 12).verdict,
            refused(Limit::Number, 40)
        );
    }

    #[test]
    fn a_limit_that_does_not_concern_a_request_is_not_charged() {
        let mut memory = Memory::new(&[rule(Limit::Address, true, 1, 30)], 100);
        for source in 0..3 {
            let subject = Subject {
                source,
                keys: [None].into(),
                received: EpochMs(0),
            };
            assert_eq!(memory.charge(subject, EpochMs(0)).verdict, Verdict::Taken);
        }
    }

    #[test]
    fn a_full_memory_forgets_the_key_that_was_charged_longest_ago() {
        let mut memory = Memory::new(&[rule(Limit::Number, true, 1, 30)], 2);
        for key in 1..=3 {
            charge(&mut memory, key, &[key], key as i64);
        }
        assert_eq!(charge(&mut memory, 4, &[1], 4).verdict, Verdict::Taken);
        assert_eq!(
            charge(&mut memory, 5, &[3], 5).verdict,
            refused(Limit::Number, 33)
        );
    }

    #[test]
    fn keys_that_are_charged_often_make_room_by_forgetting_keys() {
        let mut memory = Memory::new(&[rule(Limit::Tenant, false, 1_000, 1_000_000)], 10);
        let mut source = 0;
        for key in 1..=4 {
            for at in 0..CHARGES_PER_KEY as i64 * 3 {
                source += 1;
                charge(&mut memory, source, &[key], key as i64 * 1_000 + at);
            }
        }
        // Of 4 times 24 charges, 80 have room.
        assert!(memory.charges[0].get(2).is_none(), "the first is forgotten");
        let left: usize = (3..=5)
            .filter_map(|key| memory.charges[0].get(key))
            .map(Charges::len)
            .sum();
        assert_eq!(left, 3 * 24);
    }

    /// All there ever was, and every window looked at.
    #[derive(Default)]
    struct Naive {
        charged: HashMap<(usize, u64), Vec<(u64, i64)>>,
        verdicts: HashMap<u64, bool>,
    }

    impl Naive {
        fn charge(&mut self, rules: &[Rule], source: u64, keys: &[u64], at: i64) -> bool {
            if let Some(taken) = self.verdicts.get(&source) {
                return *taken;
            }
            let fits = rules.iter().enumerate().all(|(index, rule)| {
                let window = rule.window.as_millis() as i64;
                let mut all = vec![at];
                let others = self.charged.get(&(index, keys[index]));
                all.extend(others.into_iter().flatten().map(|(_, at)| *at));
                all.iter().all(|start| {
                    let within = |one: &&i64| (*start..*start + window).contains(*one);
                    !within(&&at) || all.iter().filter(within).count() <= rule.count
                })
            });
            for (index, key) in keys.iter().enumerate().filter(|_| fits) {
                let key = (index, *key);
                self.charged.entry(key).or_default().push((source, at));
            }
            self.verdicts.insert(source, fits);
            fits
        }

        fn give_back(&mut self, source: u64) {
            self.verdicts.remove(&source);
            for charges in self.charged.values_mut() {
                charges.retain(|(other, _)| *other != source);
            }
        }
    }

    #[derive(Debug, Clone)]
    enum Step {
        Charge {
            source: u64,
            keys: [u64; 2],
            late: i64,
        },
        GiveBack(u64),
        Pass(i64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            8 => (0..40u64, [0..2u64, 0..2u64], prop_oneof![Just(0), 0..=LATENESS])
                .prop_map(|(source, keys, late)| Step::Charge { source, keys, late }),
            1 => (0..40u64).prop_map(Step::GiveBack),
            4 => (0..20i64).prop_map(Step::Pass),
        ]
    }

    proptest! {
        #[test]
        fn memory_decides_as_one_who_remembers_everything(
            steps in prop::collection::vec(step(), 1..150),
            counts in [1..3usize, 1..5usize],
        ) {
            let rules = [
                rule(Limit::NumberType, true, counts[0], 15),
                rule(Limit::Number, true, counts[1], 60),
            ];
            let (mut memory, mut naive) = (Memory::new(&rules, 1_000), Naive::default());
            let (mut now, mut received) = (1_000, HashMap::new());
            // A source is asked about again within its lifetime alone; then its name is used anew.
            for (number, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Charge { source, keys, late } => {
                        let (name, at, keys) = *received
                            .entry(source)
                            .and_modify(|(name, at, known)| if now - *at > LATENESS - 1 {
                                (*name, *at, *known) = (number as u64 + 100, now - late, keys);
                            })
                            .or_insert((number as u64 + 100, now - late, keys));
                        let judged = memory.charge(subject(name, &keys, at), EpochMs(now));
                        let taken = naive.charge(&rules, name, &keys, at);
                        prop_assert_eq!(judged.verdict == Verdict::Taken, taken);
                        if let Verdict::Refused { until, .. } = judged.verdict && !judged.again {
                            // Exact: at that moment it is taken, and not a moment before.
                            let when = until.0.max(now);
                            let fits = |when| {
                                let mut other = Naive { charged: naive.charged.clone(), ..Naive::default() };
                                other.charge(&rules, 0, &keys, when)
                            };
                            prop_assert!(fits(when));
                            prop_assert!(when == now || !fits(when - 1));
                        }
                    }
                    Step::GiveBack(source) => if let Some((name, at, _)) = received.get(&source)
                        && now - at < LATENESS {
                        memory.give_back(*name);
                        naive.give_back(*name);
                    },
                    Step::Pass(time) => now += time,
                }
            }
        }
    }
}
