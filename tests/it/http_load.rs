//! HTTP under load while processes are ended and Kafka stands still: no 201 without its message, no
//! message twice, nothing refused that was begun.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use user_otp::egov::Service;
use user_otp::egov::standin::Behaviour;

use crate::broker::Broker;
use crate::client::{Answer, Client};
use crate::kafka::wait_until;
use crate::request::Request;
use crate::traffic::Chance;
use crate::world::{Outcome, Setup, World};

/// Clients that ask at once.
const CLIENTS: usize = 8;

/// What the answer says to a request of which nothing is sent.
const WITHDRAWN: &str = "The OTP was not sent, please try again";

/// Requests of one person each, by number: the answer, if there was one.
#[derive(Default)]
struct Load {
    people: AtomicU32,
    stop: AtomicBool,
    seen: Mutex<BTreeMap<String, Option<Answer>>>,
}

impl Load {
    /// Asks again and again, over a few connections, while `meanwhile` runs and somebody listens.
    fn run(&self, port: u16, meanwhile: impl FnOnce()) {
        self.stop.store(false, Ordering::SeqCst);
        std::thread::scope(|scope| {
            for _ in 0..CLIENTS {
                scope.spawn(|| {
                    while !self.stop.load(Ordering::SeqCst)
                        && let Ok(client) = Client::to(port)
                    {
                        self.ask(client);
                    }
                });
            }
            let _end = End(&self.stop);
            meanwhile();
        });
    }

    fn ask(&self, mut client: Client) {
        while !self.stop.load(Ordering::SeqCst) {
            let mobile = format!("98765{:05}", self.people.fetch_add(1, Ordering::SeqCst));
            let body = Request::register(&mobile).body();
            let sent = client.write(crate::client::post(&body, &[]));
            let answer = sent.and_then(|()| client.answer()).ok();
            let (goes_on, created) = answer.as_ref().map_or((false, false), |answer| {
                (
                    answer.header("connection") != Some("close"),
                    answer.status == 201,
                )
            });
            self.lock().insert(mobile, answer);
            if !goes_on {
                return;
            }
            if !created {
                #[expect(clippy::disallowed_methods, reason = "a client's patience")]
                std::thread::sleep(Duration::from_millis(50));
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Option<Answer>>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, holds: impl Fn(&Answer) -> bool) -> usize {
        self.lock()
            .values()
            .flatten()
            .filter(|answer| holds(answer))
            .count()
    }

    fn created(&self) -> usize {
        self.count(|answer| answer.status == 201)
    }

    #[track_caller]
    fn wait_for_created(&self, more: usize) {
        let wanted = self.created() + more;
        wait_until("requests are served", || self.created() >= wanted);
    }

    /// Every 201 has its one message, sooner or later; a withdrawn one has none; nobody has two.
    #[track_caller]
    fn assert_kept(&self, world: &World) {
        let seen = self.lock().clone();
        let created =
            |answer: &Option<Answer>| answer.as_ref().is_some_and(|one| one.status == 201);
        wait_until("every 201 has its message", || {
            let sms = messages(world);
            seen.iter()
                .filter(|(_, answer)| created(answer))
                .all(|(mobile, _)| sms.contains_key(mobile))
        });
        wait_until("what was handed over has its outcome", || {
            let outcomes = world.outcomes();
            let done: BTreeSet<_> = outcomes.iter().map(Outcome::event_id).collect();
            let accepted = world.kafka.read(&world.topics.accepted);
            accepted
                .iter()
                .filter_map(|one| one.header("otp-event-id"))
                .all(|id| done.contains(id))
        });
        let sms = messages(world);
        let twice: Vec<_> = sms.iter().filter(|(_, count)| **count > 1).collect();
        assert!(twice.is_empty(), "sent twice: {twice:?}");
        for (mobile, answer) in &seen {
            let Some(answer) = answer else { continue };
            assert!(matches!(answer.status, 201 | 503), "{answer:?}");
            if answer.status == 503 {
                let repeats = answer.header("retry-after").is_some();
                let not_sent = answer.header("otp-delivery") == Some("not-sent");
                assert_eq!(repeats, not_sent, "{answer:?}");
            }
            if answer.body.contains(WITHDRAWN) {
                assert_eq!(sms.get(mobile), None, "withdrawn, and sent all the same");
            }
        }
        eprintln!(
            "{} requests, {} created, {} sent",
            seen.len(),
            seen.values().filter(|answer| created(answer)).count(),
            sms.len()
        );
    }
}

/// Ends the load, also when a test fails.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// How many messages each number got.
fn messages(world: &World) -> BTreeMap<String, usize> {
    let mut count = BTreeMap::new();
    for sms in world.sms() {
        let (_, mobile) = sms.key_text().split_once(':').expect("tenant:number");
        *count.entry(mobile.to_owned()).or_default() += 1;
    }
    count
}

/// A world in which about half of the requests are handed over.
fn busy(setup: Setup) -> World {
    let world = World::with(setup.set("HTTP__BUDGET", "100ms"));
    let work = Behaviour::slow(Duration::from_millis(20)).jittered(Duration::from_millis(120));
    world.egov.set(Service::Otp, work);
    world
}

#[test]
fn a_sigterm_under_load_answers_what_was_read() {
    let world = busy(Setup::default());
    let load = Load::default();
    for round in 0..2 {
        let mut process = world.start("a");
        load.run(process.http_port(), || {
            load.wait_for_created(100);
            assert!(process.terminate().success(), "round {round}");
        });
    }
    let _process = world.start("a");
    load.assert_kept(&world);
    assert_eq!(
        load.count(|answer| answer.status != 201),
        0,
        "nobody is refused"
    );
    let journal = world.egov.journal();
    let seen = load.lock();
    let unanswered = seen.iter().filter(|(_, answer)| answer.is_none());
    for (mobile, _) in unanswered {
        let begun = journal
            .iter()
            .any(|call| call.mobile.as_ref() == Some(mobile));
        assert!(!begun, "what was read is answered");
    }
    assert!(
        !world.kafka.read(&world.topics.accepted).is_empty(),
        "some were handed over"
    );
}

#[test]
fn a_sigkill_under_load_loses_no_201_and_sends_nothing_twice() {
    let world = busy(Setup::default().set("KAFKA__SESSION_TIMEOUT_MS", "3000"));
    let load = Load::default();
    let mut chance = Chance::new("HTTP killed under load");
    for _ in 0..4 {
        // HTTP serves as soon as it listens, whether or not its engine has its partitions.
        let mut process = world.spawn("a");
        load.run(process.http_port(), || {
            load.wait_for_created(20 + chance.below(150));
            process.kill();
        });
    }
    let _process = world.start("a");
    load.assert_kept(&world);
}

#[test]
fn while_kafka_stands_still_nothing_is_claimed_and_it_recovers_by_itself() {
    let broker = Broker::start();
    let world = World::with(
        Setup {
            broker: Some(broker.address.clone()),
            ..Setup::default()
        }
        .set("HTTP__CONFIRM_TIMEOUT", "3s"),
    );
    let process = world.start("a");
    let load = Load::default();
    load.run(process.http_port(), || {
        load.wait_for_created(50);
        broker.freeze();
        wait_until("a transaction that hangs is not confirmed", || {
            load.count(|answer| answer.header("otp-delivery") == Some("unconfirmed")) > 0
        });
        // Its own transaction hangs: what comes now is refused before any call.
        let calls = world.egov.calls(Service::Users);
        let refused = load.count(|answer| answer.body.contains(WITHDRAWN));
        wait_until("requests are refused", || {
            load.count(|answer| answer.body.contains(WITHDRAWN)) > refused + 20
        });
        assert_eq!(
            world.egov.calls(Service::Users),
            calls,
            "nobody is looked up"
        );
        broker.thaw();
        load.wait_for_created(50);
        // And for so long that the producer is given up.
        broker.freeze();
        wait_until("the producer is built anew", || {
            process
                .output
                .text()
                .contains("building the HTTP door's producer anew")
        });
        broker.thaw();
        load.wait_for_created(50);
    });
    load.assert_kept(&world);
}

#[test]
fn a_broker_that_restarts_under_http_load_costs_503s_and_nothing_else() {
    let broker = Broker::start();
    let world = World::with(
        Setup {
            broker: Some(broker.address.clone()),
            ..Setup::default()
        }
        .set("HTTP__CONFIRM_TIMEOUT", "2s"),
    );
    let process = world.start("a");
    let load = Load::default();
    load.run(process.http_port(), || {
        load.wait_for_created(50);
        broker.stop();
        wait_until("requests are refused", || {
            load.count(|answer| answer.status == 503) > 20
        });
        broker.start_again();
        load.wait_for_created(50);
    });
    load.assert_kept(&world);
}
