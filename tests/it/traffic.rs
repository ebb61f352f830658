//! Many requests of many people, and the proof that each was served exactly once, in order.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{Scope, ScopedJoinHandle};
use std::time::Duration;

use user_otp::egov::Service;

use crate::kafka::{Record, wait_for};
use crate::request::Request;
use crate::world::World;

/// Between ten requests and the next ten of a steady load: about 200 a second.
const PACE: Duration = Duration::from_millis(50);

/// Login requests of this many people in turn, numbered through: the n-th is of person `n % people`.
pub(crate) struct Traffic {
    people: u32,
    sent: AtomicU32,
}

impl Traffic {
    pub(crate) fn of(people: u32) -> Self {
        Self {
            people,
            sent: AtomicU32::new(0),
        }
    }

    pub(crate) fn sent(&self) -> u32 {
        self.sent.load(Ordering::SeqCst)
    }

    /// Publishes the next requests, in order.
    pub(crate) fn publish(&self, world: &World, count: u32) {
        let first = self.sent();
        let requests: Vec<_> = (first..first + count)
            .map(|number| self.request(number))
            .collect();
        world.requests(&requests);
        self.sent.fetch_add(count, Ordering::SeqCst);
    }

    fn request(&self, number: u32) -> Request {
        Request::login(&format!("98765{:05}", number % self.people)).id(format!("n-{number}"))
    }

    /// Publishes a few requests at a time, steadily, until told to stop.
    pub(crate) fn keep_publishing<'scope, 'env>(
        &'env self,
        scope: &'scope Scope<'scope, 'env>,
        world: &'env World,
    ) -> Tap<'scope> {
        let (stop, stopped) = mpsc::channel();
        let thread = scope.spawn(move || {
            while stopped.recv_timeout(PACE) == Err(RecvTimeoutError::Timeout) {
                self.publish(world, 10);
            }
        });
        Tap {
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    /// Waits until every request has its outcome and nothing is left to read, and then checks
    /// that each was published once, and those of one person in the order of their requests.
    #[track_caller]
    pub(crate) fn assert_exactly_once(&self, world: &World) {
        let sent = self.sent() as usize;
        // First what says where it hangs, if it does.
        world.wait_for_no_lag();
        world.wait_for_outcomes(sent);

        let outcomes = world.outcomes();
        let summaries = count(outcomes.iter().map(crate::world::Outcome::summary));
        assert_eq!(
            summaries,
            BTreeMap::from([("published".to_owned(), sent)]),
            "final outcomes"
        );
        let ids = count(outcomes.iter().map(crate::world::Outcome::event_id));
        assert_eq!(
            (ids.len(), ids.values().max()),
            (sent, Some(&1)),
            "each request has one outcome"
        );
        assert_eq!(world.dead_letters().len(), 0, "dead letters");

        let sms = world.sms();
        let ids = count(sms.iter().map(|sms| event_id(sms).to_owned()));
        let twice: Vec<_> = ids.iter().filter(|(_, times)| **times > 1).collect();
        assert_eq!(twice, [], "sent more than once");
        assert_eq!(ids.len(), sent, "each request has an SMS");
        assert_in_order(&sms);
        assert_texts_hold_the_persons_otps(world, &sms);
    }
}

/// How many OTPs the requests of a world cost: one each, and one for each repeat.
pub(crate) fn otps_created(world: &World) -> usize {
    world
        .egov
        .journal()
        .iter()
        .filter(|call| call.service == Service::Otp && call.otp.is_some())
        .count()
}

/// Waits until so many OTPs more are created: the load flows.
#[track_caller]
pub(crate) fn wait_for_progress(world: &World, more: usize) {
    wait_for_calls(world, world.egov.calls(Service::Otp) + more);
}

/// Waits until egov-otp was called so often.
#[track_caller]
pub(crate) fn wait_for_calls(world: &World, calls: usize) {
    wait_for("the requests flow", || {
        let so_far = world.egov.calls(Service::Otp);
        if so_far >= calls {
            Ok(())
        } else {
            Err((so_far, calls))
        }
    });
}

/// A running load; stops when dropped.
pub(crate) struct Tap<'scope> {
    stop: Option<Sender<()>>,
    thread: Option<ScopedJoinHandle<'scope, ()>>,
}

impl Tap<'_> {
    pub(crate) fn close(mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the load flows");
        }
    }
}

fn assert_in_order(sms: &[Record]) {
    let mut last: BTreeMap<&str, (i32, u32)> = BTreeMap::new();
    // They come by partition and offset; a person's are all in one partition.
    for sms in sms {
        let number: u32 = event_id(sms)
            .strip_prefix("n-")
            .and_then(|number| number.parse().ok())
            .expect("a number");
        if let Some((partition, before)) = last.insert(sms.key_text(), (sms.partition, number)) {
            assert_eq!(
                partition, sms.partition,
                "the SMS of one person are in one partition"
            );
            assert!(
                before < number,
                "request {number} of a person went out after {before}"
            );
        }
    }
}

fn assert_texts_hold_the_persons_otps(world: &World, sms: &[Record]) {
    let mut otps: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for call in world.egov.journal() {
        if let (Some(mobile), Some(otp)) = (call.mobile, call.otp) {
            otps.entry(mobile).or_default().push(otp);
        }
    }
    let mut used = std::collections::BTreeSet::new();
    for sms in sms {
        let json = sms.json();
        let message = json["message"].as_str().expect("a text");
        let otp = message
            .trim_end_matches('.')
            .rsplit(' ')
            .next()
            .expect("an OTP at its end")
            .to_owned();
        let mobile = json["mobileNumber"].as_str().expect("a number");
        assert!(
            otps.get(mobile)
                .is_some_and(|created| created.contains(&otp)),
            "an OTP of somebody else"
        );
        assert!(used.insert(otp), "an OTP was sent twice");
    }
}

fn event_id(record: &Record) -> &str {
    record
        .header("otp-event-id")
        .expect("every record has its request's id")
}

fn count<T: Ord>(all: impl Iterator<Item = T>) -> BTreeMap<T, usize> {
    let mut counted = BTreeMap::new();
    for one in all {
        *counted.entry(one).or_default() += 1;
    }
    counted
}

/// Random numbers (splitmix64) whose seed is printed, so that a failure can be played again with
/// `OTP_TEST_SEED`.
pub(crate) struct Chance(u64);

impl Chance {
    pub(crate) fn new(test: &str) -> Self {
        #[expect(
            clippy::disallowed_methods,
            reason = "a seed to repeat is given by a person"
        )]
        let given = std::env::var("OTP_TEST_SEED")
            .ok()
            .and_then(|seed| seed.parse().ok());
        let seed = given.unwrap_or_else(|| uuid::Uuid::new_v4().as_u64_pair().0);
        eprintln!("{test}: OTP_TEST_SEED={seed}");
        Self(seed)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        usize::try_from((z ^ (z >> 31)) % bound.max(1) as u64).unwrap_or(0)
    }
}
