//! Each service is down in turn under a steady load: nothing is dead-lettered before its deadline, the
//! service gets few calls, and everything flows when it returns.

use std::time::Instant;

use rstest::rstest;
use user_otp::egov::Service;
use user_otp::egov::standin::{Behaviour, Fault};

use crate::kafka::wait_until;
use crate::outage::{tries_spent, wait_for_what_waited};
use crate::traffic::{Traffic, wait_for_progress};
use crate::world::{Setup, World};

/// How many seconds of the load come while the service is down: `OTP_TEST_OUTAGE`, or five.
fn seconds() -> u32 {
    #[expect(
        clippy::disallowed_methods,
        reason = "how long an outage is to be played is said by a person"
    )]
    let given = std::env::var("OTP_TEST_OUTAGE").ok();
    given.and_then(|seconds| seconds.parse().ok()).unwrap_or(5)
}

#[rstest]
#[case::users(Service::Users, Fault::status(503))]
#[case::users_hang(Service::Users, Fault::Hang)]
#[case::otp_resets(Service::Otp, Fault::Reset)]
#[case::texts(Service::Texts, Fault::status(500))]
#[case::rules(Service::Rules, Fault::status(503))]
fn an_outage_of_each_service_costs_time_alone(#[case] service: Service, #[case] fault: Fault) {
    let world = World::with(
        Setup::default()
            .set("USERS__TIMEOUT", "500ms")
            // Longer than any outage that is played.
            .set("REQUEST__LIFETIME", "1h")
            // Copies are old at once: each request asks for newer ones, and goes on without.
            .set("TEXTS__TTL", "1ms")
            .set("RULES__TTL_SECONDS", "1"),
    );
    world.egov.everyone(true);
    let mut process = world.spawn_with("a", &[("MDMS__URL", &world.egov.url())]);
    process.wait_ready();
    let traffic = Traffic::of(100_000);
    std::thread::scope(|scope| {
        let tap = traffic.keep_publishing(scope, &world);
        wait_for_progress(&world, 100);
        world.egov.set(service, Behaviour::failing(fault));
        let (calls, sent) = (world.egov.calls(service), traffic.sent());
        for second in 1..=seconds() {
            wait_until("the outage goes on", || {
                traffic.sent() >= sent + 200 * second
            });
        }
        let during = world.egov.calls(service) - calls;
        assert_eq!(world.dead_letters().len(), 0, "no deadline was near");
        let bound = 400 + 10 * seconds() as usize;
        assert!(during <= bound, "{during} calls while it was down");
        world.egov.set(service, Behaviour::well());
        let back = Instant::now();
        tap.close();
        let published = wait_for_what_waited(&world);
        let spent = tries_spent(&world);
        eprintln!(
            "{service:?}: {during} calls, {spent} tries; {published} published {:?} after it was back",
            back.elapsed()
        );
        if matches!(service, Service::Texts | Service::Rules) {
            assert_eq!(spent, 0, "the copy serves");
        }
    });
    traffic.assert_exactly_once(&world);
}
