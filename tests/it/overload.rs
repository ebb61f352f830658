//! More than can be handled: what cannot make its deadline ends without a call, what is in hand stays
//! within its bound, and operators' jobs do not stand in the way of citizens.

use std::collections::BTreeSet;
use std::time::Duration;

use user_otp::egov::Service;
use user_otp::egov::standin::Behaviour;

use crate::kafka::wait_until;
use crate::management::Scrape;
use crate::request::Request;
use crate::traffic::wait_for_progress;
use crate::world::{Outcome, Setup, World, now};

#[test]
fn what_cannot_make_its_deadline_expires_without_a_call() {
    const ALL: usize = 1_000;
    const WINDOW: usize = 50;
    // About ten a second, for four seconds.
    let world = World::with(
        Setup::default()
            .set("REQUEST__LIFETIME", "6s")
            .set("REQUEST__MIN_LIFE", "2s")
            .set("ENGINE__WINDOW", WINDOW.to_string())
            .set("OTP__CALLS", "2"),
    );
    let process = world.start("a");
    let slow = Behaviour::slow(Duration::from_millis(200));
    world.egov.set(Service::Otp, slow);
    let all: Vec<_> = (0..ALL)
        .map(|n| Request::register(&format!("98765{:05}", 10_000 + n)).id(format!("n-{n}")))
        .collect();
    world.requests(&all);
    let mut most = 0.0_f64;
    wait_until("all have their end", || {
        most = most.max(Scrape::of(&process).get("user_otp_window_requests"));
        world.outcomes().len() >= ALL
    });
    assert!((1.0..=50.0).contains(&most), "{most} in hand");
    let outcomes = world.wait_for_outcomes(ALL);
    let (published, expired): (Vec<_>, Vec<_>) = outcomes
        .iter()
        .partition(|outcome| outcome.summary() == "published");
    assert!(!published.is_empty(), "it goes on at its capacity");
    let mut expired = expired.iter().map(|one| one.word("disposition"));
    assert!(expired.all(|disposition| disposition == "expired"));
    let journal = world.egov.journal();
    let called = |service: Option<Service>| -> BTreeSet<_> {
        let calls = journal.iter();
        let calls = calls.filter(|call| service.is_none_or(|one| call.service == one));
        calls.filter_map(|call| call.mobile.clone()).collect()
    };
    let otps = called(Some(Service::Otp)).len();
    // One for each call at once may have come too late to be sent.
    assert!(otps <= published.len() + 2, "{otps} OTPs");
    // Whoever had a place before the deadlines came near, and nobody later.
    let asked = called(None).len();
    assert!(asked <= published.len() + 2 + WINDOW, "{asked} of {ALL}");
    world.wait_for_no_lag();
}

#[test]
fn a_backlog_of_jobs_does_not_stand_before_live_requests() {
    const JOBS: usize = 3_000;
    const LIVE: usize = 100;
    let world = World::with(
        Setup::default()
            .set("ENGINE__WINDOW", "400")
            .set("OTP__CALLS", "8"),
    );
    world.egov.everyone(true);
    let _process = world.start("a");
    let slow = Behaviour::slow(Duration::from_millis(20));
    world.egov.set(Service::Otp, slow);
    let login = |n: usize| Request::login(&format!("98765{n:05}"));
    let jobs: Vec<_> = (0..JOBS).map(|n| login(n).draft()).collect();
    world.kafka.publish_all(&world.topics.jobs, &jobs);
    wait_for_progress(&world, 100);
    let live: Vec<_> = (0..LIVE)
        .map(|n| login(50_000 + n).id(format!("live-{n}")))
        .collect();
    let begun = now();
    world.requests(&live);
    let outcomes = world.wait_for_outcomes(JOBS + LIVE);
    assert!(outcomes.iter().all(|one| one.summary() == "published"));
    let (jobs, live): (Vec<_>, Vec<_>) = outcomes
        .iter()
        .partition(|outcome| outcome.word("door") == "job");
    assert_eq!((jobs.len(), live.len()), (JOBS, LIVE));
    let finished = |outcome: &&Outcome| outcome.moment("finishedAtMs");
    let last = live.iter().map(finished).max().expect("there are some");
    let meanwhile = jobs.iter().map(finished);
    let meanwhile = meanwhile.filter(|at| (begun..=last).contains(at)).count();
    // A permit in ten, and those that were under way before the live ones were read.
    assert!(
        meanwhile <= LIVE,
        "{meanwhile} jobs went before {LIVE} live requests"
    );
    assert!(
        jobs.iter().any(|job| finished(job) > last),
        "there was a backlog"
    );
}
