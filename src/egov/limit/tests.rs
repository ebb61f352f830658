//! The rule against simulated services, millisecond by millisecond, and its invariants.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use proptest::prelude::*;
use rstest::rstest;

use super::*;

const MOST: usize = 256;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// How a service takes a call that arrives as the n-th, with so many under way: after how many
/// milliseconds, and how it ends.
type Service = fn(usize, usize) -> (u64, Verdict);

const WELL: Service = |_, _| (50, Verdict::Well);
const QUICK: Service = |_, _| (1, Verdict::Well);
const REFUSES_CONNECTIONS: Service = |_, _| (1, Verdict::Failed);
const HANGS: Service = |_, _| (3_000, Verdict::Failed);
const FAILS_HALF: Service = |n, _| match n % 2 {
    0 => (50, Verdict::Failed),
    _ => (50, Verdict::Well),
};
const FAILS_A_FIFTH: Service = |n, _| match n % 5 {
    0 => (50, Verdict::Failed),
    _ => (50, Verdict::Well),
};
const TAKES_A_HUNDRED: Service = |_, in_use| match in_use {
    0..=100 => (50, Verdict::Well),
    _ => (20, Verdict::Failed),
};

struct World {
    limit: Limit,
    now: u64,
    /// Arrivals in a second; who cannot begin waits.
    rate: u64,
    waiting: u64,
    under_way: BinaryHeap<Reverse<(u64, u64, bool)>>,
    /// When each call began.
    begun: Vec<u64>,
}

impl World {
    fn with(rate: u64) -> Self {
        Self {
            limit: Limit::new(MOST),
            now: 0,
            rate,
            waiting: 0,
            under_way: BinaryHeap::new(),
            begun: Vec::new(),
        }
    }

    /// Goes on for so many milliseconds, or until `done`: for how many it went on.
    fn run(&mut self, for_ms: u64, service: Service, done: impl Fn(&Self) -> bool) -> u64 {
        let start = self.now;
        while self.now < start + for_ms && !done(self) {
            self.now += 1;
            let now = ms(self.now);
            while let Some(Reverse((_, began, well))) = self
                .under_way
                .peek()
                .copied()
                .filter(|Reverse((ends, ..))| *ends <= self.now)
            {
                let verdict = if well { Verdict::Well } else { Verdict::Failed };
                let in_use = self.under_way.len();
                self.limit.answered(ms(began), now, verdict, in_use);
                self.under_way.pop();
            }
            self.waiting += (self.now * self.rate) / 1_000 - ((self.now - 1) * self.rate) / 1_000;
            while self.waiting > 0 && self.limit.lets_one_begin(now, self.under_way.len()) {
                self.waiting -= 1;
                let in_use = self.under_way.len() + 1;
                self.limit.begun(now, in_use);
                assert!(in_use <= self.limit.calls());
                let (takes, verdict) = service(self.begun.len(), in_use);
                self.under_way.push(Reverse((
                    self.now + takes,
                    self.now,
                    verdict == Verdict::Well,
                )));
                self.begun.push(self.now);
            }
        }
        self.now - start
    }

    fn pass(&mut self, for_ms: u64, service: Service) {
        self.run(for_ms, service, |_| false);
    }

    fn calls_since(&self, moment: u64) -> usize {
        self.begun.iter().filter(|begun| **begun > moment).count()
    }

    /// Calls from the fall to now, that is spent tries.
    fn outage(&mut self, for_ms: u64, service: Service) -> usize {
        let from = self.now;
        self.pass(for_ms, service);
        assert!(self.limit.is_at_floor());
        self.calls_since(from)
    }
}

/// A minute's outage has at most 150 probes, and as many failures before as it takes to know.
#[rstest]
#[case::refusing_a_steady_load(200, REFUSES_CONNECTIONS, 60)]
#[case::refusing_a_backlog(100_000, REFUSES_CONNECTIONS, 256 + 160)]
#[case::hanging_under_a_steady_load(200, HANGS, 256)]
#[case::hanging_under_a_backlog(100_000, HANGS, 256)]
#[case::refusing_a_trickle(3, REFUSES_CONNECTIONS, 20)]
fn an_outage_costs_few_calls(#[case] rate: u64, #[case] down: Service, #[case] to_know: usize) {
    let mut world = World::with(rate);
    world.pass(10_000, WELL);
    let calls = world.outage(60_000, down);
    assert!(calls <= to_know + 150, "{calls} calls");
}

#[rstest]
#[case::all_of_many(100_000, 100)]
#[case::all_of_a_few(3, 7_000)]
fn a_service_that_fails_all_is_soon_at_its_floor(#[case] rate: u64, #[case] within_ms: u64) {
    let mut world = World::with(rate);
    world.pass(10_000, WELL);
    let took = world.run(60_000, REFUSES_CONNECTIONS, |world| {
        world.limit.is_at_floor()
    });
    assert!(took <= within_ms, "{took} ms");
}

/// A pause of 1 s at most, and then 0.8 s. Half is what an outage may leave of the knee.
#[rstest]
#[case::after_a_moment(1_000, REFUSES_CONNECTIONS)]
#[case::after_a_minute(60_000, REFUSES_CONNECTIONS)]
#[case::after_the_last_one_hung(20_000, HANGS)]
fn a_service_that_returns_has_its_calls_in_two_seconds(#[case] outage: u64, #[case] down: Service) {
    for rate in [200, 10_000] {
        let mut world = World::with(rate);
        world.pass(10_000, WELL);
        world.pass(outage, down);
        // What hangs is known to have failed when its time is over.
        world.run(4_000, WELL, |world| world.under_way.is_empty());
        let took = world.run(60_000, WELL, |world| world.limit.calls() >= MOST / 2);
        assert!(took <= 2_100, "{took} ms at {rate} a second");
    }
}

#[rstest]
#[case::as_it_was(WELL, 16)]
#[case::quick(QUICK, 410)]
fn a_service_that_returns_is_not_run_over(#[case] back: Service, #[case] most: usize) {
    for outage in [1_000, 7_000, 60_000] {
        let mut world = World::with(10_000);
        world.pass(10_000, WELL);
        world.pass(outage, REFUSES_CONNECTIONS);
        world.run(10_000, back, |world| !world.limit.is_at_floor());
        let returned = world.now - 1;
        let mut at_once = 0;
        for _ in 1..100 {
            world.pass(1, back);
            at_once = at_once.max(world.under_way.len());
        }
        let calls = world.calls_since(returned);
        assert!(calls <= most, "{calls} calls in 100 ms");
        assert!(at_once <= 4, "{at_once} at once");
    }
}

#[test]
fn a_service_that_fails_half_is_left_few_calls_and_recovers() {
    let mut world = World::with(10_000);
    world.pass(10_000, WELL);
    world.pass(20_000, FAILS_HALF);
    let from = world.now;
    world.pass(60_000, FAILS_HALF);
    let calls = world.calls_since(from);
    assert!(calls <= 60 * 200, "{calls} calls in a minute");
    let took = world.run(60_000, WELL, |world| world.limit.calls() >= 32);
    assert!(took <= 5_000, "{took} ms");
}

#[test]
fn a_service_that_fails_a_fifth_keeps_its_calls() {
    let mut world = World::with(10_000);
    world.run(30_000, FAILS_A_FIFTH, |world| world.limit.calls() < MOST);
    assert_eq!(world.limit.calls(), MOST);
}

#[test]
fn a_service_that_takes_less_gets_about_that() {
    let mut world = World::with(10_000);
    world.pass(30_000, TAKES_A_HUNDRED);
    let mut levels = Vec::new();
    for _ in 0..300 {
        world.pass(100, TAKES_A_HUNDRED);
        levels.push(world.limit.calls());
    }
    let mean = levels.iter().sum::<usize>() / levels.len();
    assert!((50..=150).contains(&mean), "{mean}: {levels:?}");
    assert!(!levels.contains(&1), "it was never down");
}

/// Where the outage begins in the middle of a second that is judged, it looks like an overload.
#[test]
fn an_outage_is_not_remembered_as_an_overload() {
    for into_the_second in (0..1_000).step_by(50) {
        let mut world = World::with(20);
        world.pass(10_000 + into_the_second, WELL);
        world.pass(20_000, REFUSES_CONNECTIONS);
        world.rate = 10_000;
        let took = world.run(60_000, WELL, |world| world.limit.calls() >= 100);
        assert!(took <= 2_500, "{took} ms");
    }
}

#[test]
fn nothing_is_judged_by_a_few_answers() {
    let mut limit = Limit::new(MOST);
    for n in 0..19 {
        limit.begun(ms(2_000 * n), 1);
        limit.answered(ms(2_000 * n), ms(2_000 * n), Verdict::Failed, 1);
    }
    assert_eq!(limit.calls(), MOST);
    limit.answered(ms(60_000), ms(60_000), Verdict::Failed, 1);
    assert!(limit.is_at_floor());
}

#[test]
fn failures_of_calls_from_before_a_fall_say_nothing_after_it() {
    let mut world = World::with(100_000);
    world.pass(1_000, WELL);
    world.run(10_000, HANGS, |world| world.limit.is_at_floor());
    let (fell, late) = (world.now, world.under_way.len());
    assert!(late > 40, "{late} are still to time out");
    world.run(10_000, WELL, |world| !world.limit.is_at_floor());
    assert!(world.now - fell <= 250, "the pause is the first one");
}

#[rstest]
#[case::for_ten_seconds(50, 205, None, true)]
#[case::too_few(49, 500, None, false)]
#[case::too_soon(200, 40, None, false)]
#[case::one_is_well(60, 205, Some(30), false)]
fn only_refused_for_long_is_a_wrong_route(
    #[case] answers: u64,
    #[case] apart_ms: u64,
    #[case] well: Option<u64>,
    #[case] floor: bool,
) {
    let mut limit = Limit::new(MOST);
    for n in 0..answers {
        let now = ms(n * apart_ms);
        let verdict = if well == Some(n) {
            Verdict::Well
        } else {
            Verdict::Refused
        };
        limit.begun(now, 1);
        limit.answered(now, now, verdict, 1);
    }
    assert_eq!(limit.is_at_floor(), floor);
    assert_eq!(limit.calls(), if floor { 1 } else { MOST });
}

#[derive(Debug, Clone, Copy)]
enum Event {
    Begin,
    Answer(usize, Verdict),
    Vanish(usize),
    Pass(u64),
}

fn event() -> impl Strategy<Value = Event> {
    let verdict = prop_oneof![
        3 => Just(Verdict::Failed),
        2 => Just(Verdict::Well),
        1 => Just(Verdict::Refused),
    ];
    prop_oneof![
        6 => Just(Event::Begin),
        6 => (any::<usize>(), verdict).prop_map(|(which, verdict)| Event::Answer(which, verdict)),
        1 => any::<usize>().prop_map(Event::Vanish),
        3 => (0..400_u64).prop_map(Event::Pass),
    ]
}

proptest! {
    #[test]
    fn the_limit_is_kept_and_probes_are_alone_and_apart(
        most in 1..40_usize,
        failing in prop::collection::vec(any::<bool>(), 1..8),
        events in prop::collection::vec(event(), 0..600),
    ) {
        let mut limit = Limit::new(most);
        let mut now = 0;
        let mut under_way: Vec<u64> = Vec::new();
        let mut last_probe: Option<u64> = None;
        for (at, event) in events.into_iter().enumerate() {
            let fails = failing[at / 80 % failing.len()];
            match event {
                Event::Pass(time) => now += time,
                Event::Begin => {
                    if limit.lets_one_begin(ms(now), under_way.len()) {
                        under_way.push(now);
                        limit.begun(ms(now), under_way.len());
                        prop_assert!(under_way.len() <= limit.calls());
                        if limit.is_at_floor() {
                            prop_assert_eq!(under_way.len(), 1, "two at the floor");
                            prop_assert!(last_probe.is_none_or(|last| last + 100 <= now));
                            last_probe = Some(now);
                        }
                    }
                }
                Event::Answer(which, verdict) if !under_way.is_empty() => {
                    let in_use = under_way.len();
                    let begun = under_way.swap_remove(which % in_use);
                    let verdict = if fails { Verdict::Failed } else { verdict };
                    limit.answered(ms(begun), ms(now), verdict, in_use);
                }
                Event::Vanish(which) if !under_way.is_empty() => {
                    let in_use = under_way.len();
                    under_way.swap_remove(which % in_use);
                }
                Event::Answer(..) | Event::Vanish(_) => {}
            }
            if !limit.is_at_floor() {
                last_probe = None;
            }
            prop_assert!((1..=most).contains(&limit.calls()));
            prop_assert_eq!(limit.opens().is_some(), limit.is_at_floor());
            // Nothing is shut for good.
            prop_assert!(limit.lets_one_begin(ms(now + 1_000), 0));
        }
    }
}
