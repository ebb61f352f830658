//! Operators' commands under accounts of their own, with exactly the permissions that `topics/README.md`
//! lists for them.

use nix::sys::signal::Signal;
use serde_json::Value;
use tempfile::TempDir;
use user_otp::egov::Service;
use user_otp::egov::standin::{Behaviour, Fault};

use crate::acl::{Operation, Pattern, Permission, Resource, revoke};
use crate::command::{Running, start_as};
use crate::kafka::wait_until;
use crate::ops_check::reader;
use crate::ops_jobs::{id_in, letter};
use crate::request::Request;
use crate::secure::{NEWCOMER, OPERATOR, Secured, USER, VIEWER};
use crate::world::{World, now, own_prefix};

/// Whom `send` is about.
const NUMBER: &str = "9876530401";

const SEND: &str = "send --tenant pb --type login --mobile -";
const REDRIVE: &str = "dlq redrive --code service-refused";

fn start(world: &World, user: &str, line: &str) -> Running {
    start_as(world, user, line, NUMBER)
}

/// All at once, each as it is to end.
#[track_caller]
fn assert_well(world: &World, user: &str, lines: &[&str]) {
    let started: Vec<_> = lines.iter().map(|line| start(world, user, line)).collect();
    let ended = started.into_iter().map(|running| running.ended(world));
    let failed: Vec<_> = lines
        .iter()
        .zip(ended)
        .filter(|(_, ran)| ran.code != 0)
        .collect();
    assert!(failed.is_empty(), "{user}: {failed:#?}");
}

/// All at once: a user's line, and what it says, since it may not.
#[track_caller]
fn assert_refused(world: &World, lines: &[(&str, &str, String)]) {
    let started: Vec<_> = lines
        .iter()
        .map(|(user, line, _)| start(world, user, line))
        .collect();
    let ended = started.into_iter().map(|running| running.ended(world));
    let others: Vec<_> = lines
        .iter()
        .zip(ended)
        .filter(|((_, _, words), ran)| ran.code != 1 || !ran.notes.contains(words))
        .collect();
    assert!(others.is_empty(), "{others:#?}");
}

/// What is said of a topic that may not be written to.
fn write_to(topic: &str) -> String {
    format!("we may not write to the topic {topic}: grant Write")
}

/// A check says whose permissions it judges, and finds that it may do and see everything.
#[track_caller]
fn assert_sees_everything(world: &World, user: &str, role: &str) {
    let line = format!("check --account {role} --tenant pb --output ndjson --timeout 60s");
    let ran = start(world, user, &line).ended(world);
    let is_wrong = |item: &Value| {
        let word = |name: &str| item[name].as_str().unwrap_or_default().to_owned();
        // Other topics of a test are smaller than those of the list.
        let judged = ["kafka", "permissions", "consumers"].contains(&word("area").as_str());
        word("detail").contains("may not") || (judged && word("verdict") != "ok")
    };
    let items = ran.json_lines();
    let wrong: Vec<_> = items.iter().filter(|item| is_wrong(item)).collect();
    assert!(
        wrong.is_empty() && ran.code <= 1,
        "{}: {wrong:#?}",
        ran.code
    );
    let account = format!("account {user}");
    assert!(items.iter().any(|item| item["name"] == account), "{ran:?}");
}

fn execute(line: &str) -> String {
    format!("{line} --execute --reason test --rate 0 --ahead 1")
}

/// Begins it, and ends it while its first request is under way: the job's id.
#[track_caller]
fn interrupted(world: &World, line: &str) -> String {
    let sent = || world.kafka.read(&world.topics.jobs).len();
    let before = sent();
    let otp = |behaviour| world.egov.set(Service::Otp, behaviour);
    otp(Behaviour::failing(Fault::Hang));
    let running = start(world, OPERATOR, line);
    wait_until("it is under way", || sent() > before);
    running.signal(Signal::SIGINT);
    let paused = running.ended(world);
    otp(Behaviour::default());
    assert_eq!(paused.code, 16, "{paused:?}");
    id_in(&paused)
}

#[test]
fn each_command_works_with_the_listed_permissions_and_who_looks_sends_nothing() {
    let secured = Secured::shared();
    let world = secured.permitted_world();
    world.keep_secret(NUMBER);
    world.egov.everyone(true);
    secured.permit(&world, VIEWER, VIEWER);
    secured.permit(&world, OPERATOR, OPERATOR);
    let _process = world.start("a");
    let topics = &world.topics;
    let _readers = [
        reader(&world, "egov-notification-sms", &[&topics.sms]),
        reader(&world, "egov-notification-mail", &[&topics.email]),
    ];
    let letters = ["11", "12", "13"].map(|end| {
        let (id, source) = (format!("letter-{end}"), format!("elsewhere-0-{end}"));
        letter(&format!("98765304{end}"), &id, &source)
    });
    world.kafka.publish_all(&topics.dead_letters, &letters);
    for number in ["9876530421", "9876530422"] {
        let old = Request::login(number).draft();
        world.publish(&old.timestamp(now() - 3_600_000));
    }
    world.wait_for_outcomes(2);
    let folder = TempDir::new().expect("a folder");
    let file = folder.path().join("rows.csv");
    std::fs::write(&file, "tenant,type,mobile\npb,login,9876530431\n").expect("a file");
    let resend = format!("resend {}", file.display());
    let replay = format!("replay --topic {} --from 2h --to 30m", topics.requests);

    assert_well(
        &world,
        VIEWER,
        &[
            "status",
            "topics plan",
            "dlq stats",
            "dlq ls",
            "dlq show --event-id letter-11",
            "dlq export --reveal --limit 0",
            REDRIVE,
            &replay,
            &resend,
            "job ls",
        ],
    );
    assert_sees_everything(&world, VIEWER, "viewer");
    assert_sees_everything(&world, OPERATOR, "operator");

    // Who only looks sends nothing.
    let written = || {
        let written = [&topics.requests, &topics.jobs, &topics.job_log];
        written.map(|topic| world.kafka.read(topic).len())
    };
    let id_of = |source: &str| {
        let id = format!("{}-job-{source}", world.name);
        format!("we may not use the transactional id {id}: grant Write on it")
    };
    let of_a_file = "grant Write on it, best by its prefix".to_owned();
    let [redrive, replaying, resending] = [REDRIVE, &replay, &resend].map(execute);
    let before = written();
    assert_refused(
        &world,
        &[
            (VIEWER, SEND, write_to(&topics.requests)),
            (VIEWER, &redrive, id_of(&topics.dead_letters)),
            (VIEWER, &replaying, id_of(&topics.requests)),
            (VIEWER, &resending, of_a_file),
        ],
    );
    assert_eq!(written(), before);
    let id = interrupted(&world, &redrive);
    let (resume, cancel) = (format!("job resume {id}"), format!("job cancel {id}"));
    let before = written();
    assert_refused(
        &world,
        &[
            (VIEWER, &resume, id_of(&topics.dead_letters)),
            (VIEWER, &cancel, id_of(&topics.dead_letters)),
        ],
    );
    assert_eq!(written(), before);

    // Who may send does.
    let cancel = format!("job cancel {}", interrupted(&world, &replaying));
    assert_well(&world, OPERATOR, &[&resume, &cancel, &resending, SEND]);
    let all = format!("{replaying} --even-published");
    assert_well(&world, OPERATOR, &[&redrive, &all, "job ls"]);
    for end in ["01", "11", "12", "13", "21", "22", "31"] {
        let otps = world.egov.otp_of(&format!("98765304{end}"));
        assert!(!otps.is_empty(), "{end}");
    }
}

#[test]
fn a_command_that_lacks_a_permission_says_what_to_grant() {
    let secured = Secured::shared();
    let world = secured.permitted_world();
    world.keep_secret(NUMBER);
    secured.permit(&world, NEWCOMER, VIEWER);
    secured.permit(&world, OPERATOR, OPERATOR);
    assert_well(&world, USER, &["topics apply"]);
    let topics = &world.topics;
    let one = letter("9876530441", "letter-41", "elsewhere-0-41");
    world.kafka.publish(&topics.dead_letters, &one);
    let on_topic = Permission::on_topic;
    let of_group = Permission {
        resource: Resource::Group,
        ..on_topic(Operation::Describe, &world.name)
    };
    for (user, permission) in [
        (NEWCOMER, on_topic(Operation::Write, &topics.job_log)),
        (NEWCOMER, of_group),
        (OPERATOR, on_topic(Operation::Write, &topics.jobs)),
    ] {
        revoke(secured.address(), user, &permission);
    }
    let group = format!("at the consumer group {}: grant Describe", world.name);
    let jobs = format!(
        "{} is missing, or we may not write to it: grant Write",
        topics.jobs
    );
    assert_refused(
        &world,
        &[
            (NEWCOMER, "status", group),
            // Who may write nowhere is refused before a topic is named.
            (NEWCOMER, "dlq ls --reveal", write_to(&topics.job_log)),
            (NEWCOMER, SEND, write_to(&topics.requests)),
            (OPERATOR, &execute(REDRIVE), jobs),
        ],
    );
    let read = Permission {
        pattern: Pattern::Prefixed,
        ..on_topic(Operation::Read, &own_prefix(&world.name))
    };
    revoke(secured.address(), NEWCOMER, &read);
    let grant = |topic: &str, operation| format!("the topic {topic}: grant {operation}");
    assert_refused(
        &world,
        &[
            (NEWCOMER, REDRIVE, grant(&topics.jobs, "Describe")),
            (NEWCOMER, "dlq ls", grant(&topics.dead_letters, "Read")),
        ],
    );
    assert_eq!(world.kafka.read(&topics.jobs).len(), 0);
    assert_eq!(world.kafka.read(&topics.requests).len(), 0);
}
