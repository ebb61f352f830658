//! A commit without an answer: whether the transaction went through shows only afterwards.

use crate::broker::{Broker, Entrance, free_port};
use crate::kafka::wait_until;
use crate::proxy::{Last, Proxy};
use crate::traffic::{Traffic, otps_created};
use crate::world::{Setup, World};

/// Lets a transaction's end arrive at the broker or not, and nothing else get through, until the
/// service gives its producer up.
fn commit_without_an_answer(last: Last) {
    let (port, advertised) = (free_port(), free_port());
    let entrance = Entrance {
        name: "PROXIED",
        protocol: "PLAINTEXT",
        port,
        advertised,
    };
    let broker = Broker::with_entrance(&entrance, &[], &[]);
    let proxy = Proxy::start(advertised, port);
    let setup = Setup {
        broker: Some(broker.address.clone()),
        ..Setup::default()
    };
    let world = World::with(
        setup
            .set("KAFKA__BROKERS", format!("127.0.0.1:{advertised}"))
            // It is still a member when it comes back, and has what it had.
            .set("KAFKA__SESSION_TIMEOUT_MS", "120000")
            // All requests of a moment are in one transaction.
            .set("ENGINE__LINGER", "500ms"),
    );
    world.egov.everyone(true);
    let traffic = Traffic::of(20);
    let mut process = world.start("a");
    traffic.publish(&world, 20);
    // Afterwards no offset waits to be committed: the next end is that of the next requests.
    traffic.assert_exactly_once(&world);

    proxy.stall_at_the_end_of_a_transaction(last);
    traffic.publish(&world, 20);
    proxy.wait_stalled();
    if last == Last::Arrives {
        world.wait_for_outcomes(40);
    }
    let says = |part: &str| process.output.has_line(|line| line.contains(part));
    wait_until("the producer is given up", || {
        says("building the producer anew")
    });
    proxy.open();
    traffic.publish(&world, 20);
    traffic.assert_exactly_once(&world);
    assert_eq!(
        says("the transaction had gone through after all"),
        last == Last::Arrives
    );
    assert_eq!(
        otps_created(&world),
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
