//! What only something in between can do: a commit without an answer, of which it shows only afterwards
//! whether it went through; records that are older than they should be when they arrive.

use std::net::TcpListener;
use std::time::Duration;

use crate::broker::{Broker, Entrance};
use crate::kafka::wait_until;
use crate::kafka_proxy::{Action, Api, Proxy, Rule};
use crate::port::Port;
use crate::process::Process;
use crate::request::Request;
use crate::traffic::{Traffic, otps_created};
use crate::world::{Setup, World};

/// Whether the request that the connections are cut at still reaches the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Last {
    Arrives,
    IsLost,
}

/// A broker with a proxy in front of its second entrance, and a world whose processes go through it.
pub(crate) struct Between {
    pub(crate) world: World,
    pub(crate) proxy: Proxy,
    // Last: the world looks back at it.
    broker: Broker,
}

impl Between {
    /// With a session time-out in milliseconds.
    pub(crate) fn start(session: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let advertised = listener.local_addr().expect("an address").port();
        let port = Port::reserve();
        let behind = port.number();
        let entrance = Entrance {
            name: "PROXIED",
            protocol: "PLAINTEXT",
            port,
            advertised,
        };
        let broker = Broker::with_entrance(entrance, &[], &[]);
        let proxy = Proxy::start(listener, behind);
        let setup = Setup {
            broker: Some(broker.address.clone()),
            ..Setup::default()
        }
        .set("KAFKA__BROKERS", format!("127.0.0.1:{advertised}"))
        .set("KAFKA__SESSION_TIMEOUT_MS", session)
        // All requests of a moment are in one transaction.
        .set("ENGINE__LINGER", "500ms");
        let world = World::with(setup);
        world.egov.everyone(true);
        Self {
            world,
            proxy,
            broker,
        }
    }

    /// Twenty requests are served; of the next twenty the transaction's end has no answer.
    fn stall(&self, traffic: &Traffic, last: Last) {
        traffic.publish(&self.world, 20);
        // Afterwards no offset waits to be committed: the next end is that of the next requests.
        traffic.assert_exactly_once(&self.world);
        let action = match last {
            Last::Arrives => Action::StallAfter,
            Last::IsLost => Action::StallBefore,
        };
        self.proxy.add(Rule::next(Api::END_TXN, action));
        traffic.publish(&self.world, 20);
        self.proxy.wait_stalled();
    }
}

fn wait_for_a_new_producer(process: &Process) {
    wait_until("the producer is given up", || {
        process
            .output
            .has_line(|line| line.contains("building the producer anew"))
    });
}

/// Nothing gets through until the service gives its producer up; then it goes on by itself.
fn commit_without_an_answer(last: Last) {
    // It is still a member when it comes back, and has what it had.
    let between = Between::start("120000");
    let world = &between.world;
    let traffic = Traffic::of(20);
    let mut process = world.start("a");
    between.stall(&traffic, last);
    if last == Last::Arrives {
        world.wait_for_outcomes(40);
    }
    wait_for_a_new_producer(&process);
    between.proxy.open();
    traffic.publish(world, 20);
    traffic.assert_exactly_once(world);
    let struck_out = |line: &str| line.contains("the transaction had gone through after all");
    assert_eq!(process.output.has_line(struck_out), last == Last::Arrives);
    assert_eq!(
        otps_created(world),
        traffic.sent() as usize,
        "no request was processed twice"
    );
    assert!(process.terminate().success(), "it ends in order");
}

#[test]
fn a_commit_that_went_through_without_an_answer_is_not_sent_again() {
    commit_without_an_answer(Last::Arrives);
}

#[test]
fn a_commit_that_was_lost_is_sent_again() {
    commit_without_an_answer(Last::IsLost);
}

#[test]
fn whoever_takes_over_after_a_commit_without_an_answer_sends_nothing_again() {
    let between = Between::start("6000");
    let world = &between.world;
    let traffic = Traffic::of(20);
    let mut process = world.start("a");
    between.stall(&traffic, Last::Arrives);
    // The other one finds the broker by its own entrance, and the first one's session over.
    let direct = [("KAFKA__BROKERS", between.broker.address.as_str())];
    let mut other = world.spawn_with("b", &direct);
    traffic.publish(world, 20);
    world.wait_for_outcomes(60);
    wait_for_a_new_producer(&process);
    between.proxy.open();
    traffic.publish(world, 20);
    traffic.assert_exactly_once(world);
    assert_eq!(
        otps_created(world),
        traffic.sent() as usize,
        "no request was processed twice"
    );
    for process in [&mut process, &mut other] {
        assert!(
            process.terminate().success(),
            "{} ends in order",
            process.name
        );
    }
}

/// As if the service's clock were behind.
#[test]
fn a_topic_that_refuses_our_time_costs_time_alone() {
    const BOUND: &str = "message.timestamp.before.max.ms";
    const LATE: Duration = Duration::from_secs(3);
    let between = Between::start("30000");
    let world = &between.world;
    let process = world.start("a");
    // The marks of transactions are held against it too: a broker writes those, with its own time.
    between
        .world
        .kafka
        .set_topic(&world.topics.sms, BOUND, "2000");
    let late = Rule::each(Api::PRODUCE, Action::Delay(LATE));
    between.proxy.add(late);
    world.request(&Request::login("9876522761").id("held"));
    wait_until("it is said", || {
        process.output.has_line(|line| {
            line.contains("our clock is wrong") && line.contains(&world.topics.sms)
        })
    });
    between.proxy.open();
    assert_eq!(world.wait_for_outcome("held").summary(), "published");
    assert_eq!((world.sms().len(), world.dead_letters().len()), (1, 0));
}
