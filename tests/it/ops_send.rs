//! `user-otp send`: one request, and what became of it.

use user_otp::egov::Service;
use user_otp::egov::standin::{Behaviour, Fault};

use crate::command::{Ran, run};
use crate::world::World;

const NUMBER: &str = "9876570001";

fn send(world: &World, options: &str) -> Ran {
    let line = format!("send --tenant pb.amritsar --mobile - {options}");
    run(world, &line, &format!("{NUMBER}\n"))
}

#[test]
fn it_says_what_became_of_the_request_and_its_exit_code_too() {
    let world = World::new();
    world.keep_secret(NUMBER);
    let _process = world.start("a");
    world.egov.everyone(true);
    let published = send(&world, "--type login --locale hi_IN");
    assert_eq!(published.code, 0, "{published:?}");
    let told = "published; login for ********01 of pb.amritsar, in ";
    assert!(published.out.starts_with(told), "{published:?}");
    assert_eq!(world.sms().len(), 1);

    let rejected = send(&world, "--type register --output json");
    assert_eq!(rejected.code, 10, "{rejected:?}");
    let outcome: serde_json::Value = serde_json::from_str(&rejected.out).expect("JSON");
    assert_eq!(outcome["outcome"], "rejected");
    let id = outcome["eventId"].as_str().expect("an id");
    assert!(rejected.notes.contains(id), "{rejected:?}");

    let refusal = Behaviour::failing(Fault::status(400));
    world.egov.set(Service::Users, refusal);
    let refused = send(&world, "--type login");
    assert_eq!(refused.code, 13, "{refused:?}");
    let told = "dead-lettered: refused, service-refused at user; ";
    assert!(refused.out.starts_with(told), "{refused:?}");
    let next = refused.notes.lines().find_map(|line| {
        let (command, _) = line.split_once("   ")?;
        command.strip_prefix("user-otp ")
    });
    let shown = run(&world, next.expect("what to type next"), "").well();
    assert!(shown.out.contains("service-refused at user"), "{shown:?}");
}

#[test]
fn without_a_service_it_says_so_in_the_end() {
    let world = World::new();
    world.keep_secret(NUMBER);
    let missing = send(&world, "--type login");
    assert_eq!(missing.code, 1, "{missing:?}");
    assert!(
        missing.notes.contains("user-otp topics apply"),
        "{missing:?}"
    );
    assert_eq!(world.kafka.read(&world.topics.requests).len(), 0);

    world.kafka.create_topic(&world.topics.outcomes, 2, &[]);
    let unheard = send(&world, "--type login --timeout 300ms");
    assert_eq!(
        (unheard.code, unheard.out.as_str()),
        (14, ""),
        "{unheard:?}"
    );
    assert!(unheard.notes.contains("/health/ready"), "{unheard:?}");
    let requests = world.kafka.read(&world.topics.requests);
    assert_eq!(requests.len(), 1);
    assert_eq!(requests[0].key_text(), format!("pb.amritsar:{NUMBER}"));

    let nobody = run(&world, "send --tenant pb --type login --mobile -", "\n");
    assert_eq!(nobody.code, 1, "{nobody:?}");
    assert!(
        nobody.notes.contains("no mobile number on standard input"),
        "{nobody:?}"
    );
}
