//! Whether health says that a process is to be restarted, because it commits no result any more.

use std::time::{Duration, Instant};

use crate::acl::{Operation, Resource, revoke};
use crate::behind_a_proxy::Between;
use crate::broker::{Broker, Cluster};
use crate::client::{Client, post};
use crate::kafka::wait_until;
use crate::kafka_proxy::{Action, Api, Rule};
use crate::management::Scrape;
use crate::process::Process;
use crate::request::Request;
use crate::secure::{Secured, USER, documented};
use crate::world::{Setup, World};

/// The brokers refuse the metadata of every commit: no error that health names, and none that passes.
const NO_METADATA: &str = "offset.metadata.max.bytes=1";

/// How long results may wait, and how often that passes while `live` is to stay as it is.
const LIMIT: (&str, &str) = ("MANAGEMENT__COMMITS_STALLED_AFTER", "5s");
const LIMITS: Duration = Duration::from_secs(4 * 5);

fn is_live(process: &Process) -> bool {
    let (status, page) = process.get("/health/live");
    assert!(status == 200 || page.contains("no transaction"), "{page}");
    status == 200
}

/// Whether its metrics say that nothing of this client is committed any more.
fn are_commits_stalled(process: &Process, client: &str) -> bool {
    let series = format!("user_otp_commits_stalled{{client=\"{client}\"}}");
    Scrape::of(process).get(&series) > 0.0
}

#[track_caller]
fn assert_stays_live(process: &Process) {
    let since = Instant::now();
    wait_until("the limit is over", || {
        assert!(is_live(process), "{}", process.get("/health/live").1);
        since.elapsed() >= LIMITS
    });
}

/// How often it was said that it is to be restarted.
fn said(process: &Process) -> usize {
    let is_it = |line: &&str| line.contains("ERROR") && line.contains("restart this process once");
    process.output.text().lines().filter(is_it).count()
}

#[track_caller]
fn wait_unconfirmed(process: &Process) {
    wait_until("it is not ready", || {
        let (status, page) = process.get("/health/ready");
        status == 503 && page.contains("Kafka does not confirm")
    });
}

/// The partitions are given out again meanwhile: their start is not committed, and no result either.
#[test]
fn an_instance_that_commits_no_result_any_more_is_restarted_once() {
    let broker = Broker::start();
    let world = World::with(
        Setup {
            broker: Some(broker.address.clone()),
            ..Setup::default()
        }
        .set(LIMIT.0, LIMIT.1),
    );
    world.egov.everyone(true);
    let mut process = world.start("a");
    world.request(&Request::login("9876523001").id("before"));
    assert_eq!(world.wait_for_outcome("before").summary(), "published");
    broker.stop();
    broker.start_again_with(&[NO_METADATA]);
    world.request(&Request::login("9876523002").id("stuck"));
    wait_until("it is to be restarted", || !is_live(&process));
    process.kill();

    let process = world.spawn("a");
    wait_until("it listens", || process.management_port().is_some());
    wait_unconfirmed(&process);
    assert_stays_live(&process);
    broker.stop();
    broker.start_again_with(&["offset.metadata.max.bytes=4096"]);
    assert_eq!(world.wait_for_outcome("stuck").summary(), "published");
    wait_until("it is ready", || process.get("/health/ready").0 == 200);
}

#[test]
fn an_instance_that_commits_again_needs_no_restart() {
    let between = Between::start("30000");
    let (world, proxy) = (&between.world, &between.proxy);
    let mut process = world.spawn_with("a", &[LIMIT]);
    process.wait_ready();
    world.request(&Request::login("9876523001").id("before"));
    assert_eq!(world.wait_for_outcome("before").summary(), "published");
    proxy.add(Rule::each(Api::END_TXN, Action::CutBefore));
    world.request(&Request::login("9876523002").id("stuck"));
    wait_until("it is to be restarted", || !is_live(&process));
    assert!(are_commits_stalled(&process, "kafka-producer"));
    proxy.open();
    assert_eq!(world.wait_for_outcome("stuck").summary(), "published");
    wait_until("it is live", || is_live(&process));
    assert!(!are_commits_stalled(&process, "kafka-producer"));
    assert!(process.is_running());
    assert_eq!(said(&process), 1, "{}", process.output.text());
}

#[test]
fn an_instance_that_commits_nothing_over_http_any_more_is_to_be_restarted() {
    let between = Between::start("30000");
    let proxy = &between.proxy;
    let settings = [LIMIT, ("ENGINE__ENABLED", "false")];
    let process = between.world.spawn_with("a", &settings);
    let mut client = Client::connect(&process);
    assert_eq!(client.send(&Request::login("9876523001")).status, 201);
    proxy.add(Rule::each(Api::END_TXN, Action::CutBefore));
    let body = Request::login("9876523002").body();
    client.write(post(&body, &[])).expect("it is taken");
    wait_until("it is to be restarted", || !is_live(&process));
    assert!(are_commits_stalled(&process, "http-producer"));
    proxy.open();
    // Whether it went through is not known to its client.
    let _ = client.answer();
    wait_until("requests are taken again", || {
        client.send(&Request::login("9876523003")).status == 201
    });
    wait_until("it is live", || is_live(&process));
}

#[test]
fn results_that_wait_for_their_topic_are_no_reason_for_a_restart() {
    let world = World::with(Setup::default().set(LIMIT.0, LIMIT.1));
    world.egov.everyone(true);
    let process = world.start("a");
    world.request(&Request::login("9876523001").id("before"));
    assert_eq!(world.wait_for_outcome("before").summary(), "published");
    world.kafka.delete_topics(&[&world.topics.sms]);
    wait_until("the topic is gone", || {
        world.kafka.partitions(&world.topics.sms).is_empty()
    });
    world.request(&Request::login("9876523002").id("held"));
    wait_until("health says what it waits for", || {
        process.get("/health/ready").1.contains(&world.topics.sms)
    });
    assert_stays_live(&process);
}

#[test]
fn results_that_the_brokers_refuse_for_a_named_reason_are_no_reason_for_a_restart() {
    let secured = Secured::shared();
    let world = secured.permitted_world();
    let process = world.spawn_with("a", &[LIMIT]);
    wait_until("it is ready", || process.is_ready());
    world.assert_works("9876523001", "before");
    let mut permissions = documented(&world, USER);
    permissions.retain(|one| {
        (one.resource, one.operation) == (Resource::TransactionalId, Operation::Write)
    });
    for permission in &permissions {
        revoke(secured.address(), USER, permission);
    }
    world.request(&Request::register("9876523002").id("refused"));
    wait_until("health names it", || {
        let (_, page) = process.get("/health/ready");
        page.contains("TRANSACTIONAL_ID_AUTHORIZATION_FAILED")
    });
    let refused = "user_otp_client_refused{client=\"kafka-producer\"}";
    assert_eq!(Scrape::of(&process).get(refused), 1.0);
    assert_stays_live(&process);
    secured.allow(&permissions);
    assert_eq!(world.wait_for_outcome("refused").summary(), "published");
}

/// The library repeats what is refused so in silence, and the transaction cannot be aborted either meanwhile.
#[test]
fn results_for_a_topic_that_is_short_of_replicas_are_no_reason_for_a_restart() {
    let cluster = Cluster::start();
    let setup = Setup {
        broker: Some(cluster.addresses.clone()),
        ..Setup::default()
    };
    let setup = setup.set(LIMIT.0, LIMIT.1).set("REQUEST__LIFETIME", "30m");
    let world = World::with(setup);
    world.egov.everyone(true);
    let sms = &world.topics.sms;
    world.kafka.set_topic(sms, "min.insync.replicas", "3");
    let process = world.start("a");
    world.assert_works("9876523001", "before");
    cluster.stop(3);
    world.request(&Request::login("9876523002").id("short"));
    wait_until("health names the reason", || {
        assert!(is_live(&process), "{}", process.get("/health/live").1);
        let (_, page) = process.get("/health/ready");
        page.contains("NOT_ENOUGH_REPLICAS") && page.contains("min.insync.replicas")
    });
    assert_stays_live(&process);
    cluster.start_again(3);
    assert_eq!(world.wait_for_outcome("short").summary(), "published");
    assert_eq!(world.sms().len(), 2, "each request has one");
    wait_until("it is ready", || {
        let (status, page) = process.get("/health/ready");
        status == 200 && !page.contains("NOT_ENOUGH_REPLICAS")
    });
    let said = process.output.text();
    let named = said
        .lines()
        .filter(|line| line.contains("min.insync.replicas"));
    assert_eq!(named.count(), 1, "it is said once");
}
