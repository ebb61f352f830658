//! Jobs: dead letters and windows that are sent again, as an operator types it.

use std::collections::BTreeMap;

use nix::sys::signal::Signal;
use rstest::rstest;
use serde_json::Value;
use user_otp::egov::Service;
use user_otp::egov::standin::{Behaviour, Fault};

use crate::command::{Ran, Running, run, start};
use crate::kafka::{Draft, Record, wait_until};
use crate::request::Request;
use crate::world::{Setup, World, now};

const NUMBER: &str = "9876560101";

/// A world without limits, in which everyone is registered.
fn world() -> World {
    let world = World::with(Setup::default().set("LIMITS__MODE", "off"));
    world.egov.everyone(true);
    world
}

/// What the engine writes when a service has refused a login.
pub(crate) fn letter(mobile: &str, id: &str, source: &str) -> Draft {
    let request = Request::login(mobile);
    Draft::of(request.body())
        .key(format!("{}:{mobile}", request.tenant))
        .header("otp-event-id", id)
        .header("otp-source", source)
        .header("otp-disposition", "refused")
        .header("otp-error-code", "service-refused")
        .header("otp-error-stage", "user")
        .header("otp-failed-ms", (now() - 60_000).to_string())
        .header("x-upstream", "kept")
}

fn numbered(n: usize) -> String {
    format!("98766{n:05}")
}

/// So many dead letters, each of another person.
fn letters(world: &World, count: usize) {
    let all: Vec<Draft> = (0..count)
        .map(|n| {
            let number = numbered(n);
            letter(&number, &format!("event-{n}"), &format!("requests-0-{n}"))
        })
        .collect();
    world.kafka.publish_all(&world.topics.dead_letters, &all);
}

fn json(ran: &Ran) -> Value {
    serde_json::from_str(&ran.out).unwrap_or_else(|error| panic!("{ran:?}: {error}"))
}

/// Every person has exactly one SMS, and every request one outcome of a job.
#[track_caller]
fn assert_each_once(world: &World, count: usize) {
    let mut by_person: BTreeMap<String, usize> = BTreeMap::new();
    for sms in world.sms() {
        *by_person.entry(sms.key_text().to_owned()).or_default() += 1;
    }
    assert_eq!(by_person.len(), count, "people with an SMS");
    let more: Vec<_> = by_person.iter().filter(|(_, sms)| **sms != 1).collect();
    assert!(more.is_empty(), "{more:?}");
    assert_eq!(jobs(world).len(), count, "requests of jobs");
    assert_eq!(world.outcomes().len(), count, "outcomes");
}

fn jobs(world: &World) -> Vec<Record> {
    world.kafka.read(&world.topics.jobs)
}

/// The id in the plan's first line.
pub(crate) fn id_in(plan: &Ran) -> String {
    let line = plan.out.lines().next().expect("a line");
    line.strip_prefix("Job ").expect("an id").to_owned()
}

#[test]
fn a_plan_sends_nothing_and_its_execution_is_what_it_says() {
    let world = world();
    world.keep_secret(NUMBER);
    let _process = world.start("a");
    let others = "9876560102";
    // Two of one person: the later one is sent. One that loops, one that was published since, one of nobody.
    let topic = &world.topics.dead_letters;
    let of_one = [
        letter(NUMBER, "first", "requests-0-1").partition(0),
        letter(NUMBER, "second", "requests-0-2").partition(0),
    ];
    world.kafka.publish_all(topic, &of_one);
    world.kafka.publish(
        topic,
        &letter(others, "loops", "requests-0-3").header("otp-replay-count", "3"),
    );
    world
        .kafka
        .publish(topic, &letter("9876560103", "done", "requests-0-4"));
    world.kafka.publish(topic, &Draft::of("who are you"));
    let done = serde_json::json!({"outcome": "published", "source": "requests-0-4", "finishedAtMs": now()});
    let outcome = Draft::of(done.to_string()).key("done");
    world.kafka.publish(&world.topics.outcomes, &outcome);

    let plan = json(&run(&world, "dlq redrive --output json", "").well());
    assert_eq!((&plan["matched"], &plan["toSend"]), (&5.into(), &1.into()));
    let skipped = serde_json::json!({
        "duplicate-person": 1, "replay-limit": 1, "published": 1, "foreign": 1
    });
    assert_eq!(plan["skipped"], skipped);
    assert_eq!(plan["sample"][0]["eventId"], "second");
    assert_eq!(plan["sample"][0]["mobile"], "********01");
    assert_eq!((jobs(&world).len(), world.sms().len()), (0, 0));

    let refused = run(&world, "dlq redrive --execute --reason outage", "");
    assert_eq!(refused.code, 2, "everything, without --yes: {refused:?}");
    let line = "dlq redrive --yes --execute --reason outage";
    let ran = run(&world, line, "").well();
    assert!(ran.out.contains("1 of 1 sent"), "{ran:?}");
    let sent = jobs(&world).remove(0);
    assert_eq!(sent.header("otp-event-id"), Some("second"));
    assert_eq!(sent.header("otp-source"), Some("requests-0-2"));
    assert_eq!(sent.header("otp-replay-count"), Some("1"));
    assert_eq!(sent.header("x-upstream"), Some("kept"));
    assert_eq!(sent.header("otp-deadline-ms"), None, "a fresh life");
    let outcome = world.wait_for_outcome("second");
    assert_eq!(outcome.summary(), "published");
    assert_eq!(outcome.word("door"), "job");
    assert_eq!(outcome.word("replayId"), id_in(&ran));

    // What was sent is known by its outcome.
    let again = json(&run(&world, "dlq redrive --event-id second --output json", "").well());
    assert_eq!(again["skipped"]["published"], 1, "{again}");
    let same = run(&world, line, "").well();
    assert!(same.notes.contains("nothing to send"), "{same:?}");
    let listed = run(&world, "job ls --output ndjson", "")
        .well()
        .json_lines();
    assert_eq!(listed.len(), 1, "{listed:?}");
    let record = &listed[0];
    assert_eq!(record["standing"], "finished");
    assert_eq!(record["reason"], "outage");
    assert!(record["by"].as_str().expect("a name").starts_with("asha"));
    let of_letters = world.kafka.committed(&world.name, topic);
    assert!(of_letters.values().all(Option::is_none), "{of_letters:?}");
}

/// A redrive that is killed again and again, each time somewhere else.
#[test]
fn a_job_that_is_killed_sends_each_exactly_once() {
    const COUNT: usize = 2_000;
    let world = world();
    let _process = world.start("a");
    letters(&world, COUNT);
    let line = "dlq redrive --code service-refused --execute --reason outage --rate 0 --ahead 200";
    let mut running = start(&world, line, "");
    let mut id = String::new();
    for part in 1..=3 {
        let enough = part * COUNT / 5;
        wait_until("it is under way", || world.sms().len() >= enough);
        running.signal(Signal::SIGKILL);
        let ran = running.ended(&world);
        assert_eq!(ran.code, -1, "it was under way: {ran:?}");
        if part == 1 {
            id = id_in(&ran);
        }
        // A new one is refused: the source has one that is not done.
        let other = run(&world, "dlq redrive --yes --execute --reason more", "");
        assert_eq!(other.code, 1, "{other:?}");
        assert!(
            other.notes.contains(&format!("job resume {id}")),
            "{other:?}"
        );
        running = start(&world, &format!("job resume {id}"), "");
    }
    let ran = running.ended(&world);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_each_once(&world, COUNT);
    let listed = run(&world, "job ls --output json", "").well();
    let job = &json(&listed)[0];
    assert_eq!(job["counts"]["sent"], COUNT, "{job}");
    assert_eq!(job["standing"], "finished", "{job}");
}

#[test]
fn who_takes_a_job_over_shuts_the_other_out() {
    const COUNT: usize = 300;
    let world = world();
    let _process = world.start("a");
    letters(&world, COUNT);
    let line = "dlq redrive --code service-refused --execute --reason outage --rate 40";
    let first = start(&world, line, "");
    wait_until("it is under way", || !world.sms().is_empty());
    let listed = json(&run(&world, "job ls --output json", "").well());
    let id = listed[0]["job"].as_str().expect("an id").to_owned();
    assert_eq!(listed[0]["standing"], "running");
    let second = run(&world, &format!("job resume {id}"), "").well();
    assert!(second.out.contains("300 of 300 sent"), "{second:?}");
    let first = first.ended(&world);
    assert_eq!(first.code, 1, "{first:?}");
    assert!(first.notes.contains("taken this job over"), "{first:?}");
    assert_each_once(&world, COUNT);
}

#[rstest]
#[case::away(503, "still away")]
#[case::refuses(401, "still refuses")]
fn nothing_is_sent_while_the_service_that_failed_still_does(
    #[case] status: u16,
    #[case] told: &str,
) {
    let world = world();
    world.keep_secret(NUMBER);
    let _process = world.start("a");
    let letter = letter(NUMBER, "one", "requests-0-1");
    world.kafka.publish(&world.topics.dead_letters, &letter);
    let fault = Behaviour::failing(Fault::status(status));
    world.egov.set(Service::Users, fault);
    let line = "dlq redrive --event-id one --execute --reason outage";
    let refused = run(&world, line, "");
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.notes.contains("--ignore-health"), "{refused:?}");
    assert_eq!(jobs(&world).len(), 0);
    let plan = run(&world, "dlq redrive --event-id one", "").well();
    assert!(plan.notes.contains(told), "{plan:?}");
    world.egov.set(Service::Users, Behaviour::default());
    run(&world, line, "").well();
    assert_eq!(world.sms().len(), 1);
}

pub(crate) fn interrupted(world: &World, running: Running) -> Ran {
    wait_until("it is under way", || !world.sms().is_empty());
    running.signal(Signal::SIGINT);
    running.ended(world)
}

#[test]
fn control_c_pauses_and_the_rest_can_be_sent_or_left() {
    const COUNT: usize = 200;
    let world = world();
    let _process = world.start("a");
    letters(&world, COUNT);
    let line = "dlq redrive --code service-refused --execute --reason outage --rate 20";
    let paused = interrupted(&world, start(&world, line, ""));
    assert_eq!(paused.code, 16, "{paused:?}");
    let id = id_in(&paused);
    assert!(
        paused.notes.contains(&format!("job resume {id}")),
        "{paused:?}"
    );
    let sent = jobs(&world).len();
    assert!((1..COUNT).contains(&sent), "{sent}");

    let cancelled = run(&world, &format!("job cancel {id}"), "").well();
    assert!(cancelled.notes.contains("is cancelled"), "{cancelled:?}");
    let resumed = run(&world, &format!("job resume {id}"), "");
    assert_eq!(resumed.code, 1, "{resumed:?}");
    assert_eq!(jobs(&world).len(), sent, "what was sent stays, and no more");
    assert_eq!(run(&world, "job resume redrive-0", "").code, 6);

    // The rest is for another job, which knows what was sent.
    let line = "dlq redrive --code service-refused --execute --reason rest --rate 0";
    run(&world, line, "").well();
    assert_each_once(&world, COUNT);
}

#[test]
fn a_window_is_replayed_from_its_first_moment_to_before_its_last() {
    let world = world();
    let at = now() - 3_600_000;
    let times = [at - 1, at, at + 1_000, at + 1_999, at + 2_000];
    for (n, time) in times.into_iter().enumerate() {
        let request = Request::login(&numbered(n)).id(format!("r-{n}"));
        let forged = request.draft().timestamp(time);
        world.publish(&forged.header("otp-source", "elsewhere-0-0"));
    }
    let _process = world.start("a");
    let line = format!(
        "replay --topic {} --from {} --to {} --execute --reason lost --rate 0",
        world.topics.requests,
        humantime(at),
        humantime(at + 2_000)
    );
    run(&world, &line, "").well();
    let mut ids: Vec<String> = jobs(&world)
        .iter()
        .map(|record| record.header("otp-event-id").expect("an id").to_owned())
        .collect();
    ids.sort_unstable();
    assert_eq!(ids, ["r-1", "r-2", "r-3"]);
    let sources = jobs(&world);
    let own = sources.iter().all(|record| {
        let source = record.header("otp-source").expect("a source");
        source.starts_with(&world.topics.requests)
    });
    assert!(own, "nobody upstream says where a request comes from");
    assert_eq!(world.sms().len(), 3);
    let wrong = run(
        &world,
        &line.replace(&world.topics.requests, &world.topics.sms),
        "",
    );
    assert_eq!(wrong.code, 2, "{wrong:?}");
}

/// A file of many rows with everything that spreadsheets do to them: people come again and again.
fn file_of(world: &World, rows: usize, people: usize) -> (std::path::PathBuf, Vec<u64>) {
    let path =
        std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{}.csv", world.name));
    let mut text = String::from("\u{feff}Tenant;TYPE;mobile\r\n");
    let mut bad = Vec::new();
    for n in 0..rows {
        let line = match n % 1_000 {
            7 => "pb.amritsar;login;12".to_owned(),
            8 => "pb.amritsar;signup;9876599999".to_owned(),
            9 => "pb.amritsar;login".to_owned(),
            _ => format!("pb.amritsar;login;{}", numbered(n % people)),
        };
        if matches!(n % 1_000, 7..=9) {
            bad.push(n as u64 + 2);
        }
        text.push_str(&line);
        text.push_str("\r\n");
    }
    std::fs::write(&path, text).expect("the file is written");
    (path, bad)
}

#[test]
fn a_file_is_sent_row_by_row_and_each_row_is_reported() {
    const ROWS: usize = 10_000;
    const BAD: usize = ROWS / 1_000 * 3;
    const SENT: usize = 1_500;
    let world = world();
    let _process = world.start("a");
    let (path, bad) = file_of(&world, ROWS, SENT);
    let line = format!("resend {}", path.display());
    let plan = json(&run(&world, &format!("{line} --output json"), "").well());
    assert_eq!(plan["toSend"], SENT, "{plan}");
    assert_eq!(plan["skipped"]["bad-row"], BAD, "{plan}");
    let duplicates = ROWS - BAD - SENT;
    assert_eq!(plan["skipped"]["duplicate-person"], duplicates, "{plan}");
    let strict = run(
        &world,
        &format!("{line} --strict --execute --reason campaign"),
        "",
    );
    assert_eq!((strict.code, jobs(&world).len()), (1, 0), "{strict:?}");

    let running = start(
        &world,
        &format!("{line} --execute --reason campaign --rate 0"),
        "",
    );
    wait_until("it is under way", || jobs(&world).len() > SENT / 3);
    running.signal(Signal::SIGKILL);
    let id = id_in(&running.ended(&world));
    let ran = run(&world, &format!("job resume {id}"), "").well();
    assert!(
        ran.out.contains(&format!("{SENT} of {SENT} sent")),
        "{ran:?}"
    );
    assert_each_once(&world, SENT);
    let report = std::fs::read_to_string(path.with_extension("csv.report.csv")).expect("a report");
    let lines: Vec<&str> = report.lines().skip(1).collect();
    assert_eq!(lines.len(), ROWS, "rows in are rows in the report");
    let told_bad: Vec<u64> = lines
        .iter()
        .filter(|line| line.contains(",bad,"))
        .map(|line| {
            line.split(',')
                .next()
                .and_then(|n| n.parse().ok())
                .expect("a line")
        })
        .collect();
    assert_eq!(told_bad, bad);
    assert_eq!(
        lines.iter().filter(|line| line.contains(",sent,")).count(),
        SENT
    );
    assert!(!report.contains("98766"), "no number is in it");
    // The same file again is the same job.
    let again = run(&world, &format!("{line} --execute --reason again"), "");
    assert_eq!(again.code, 1, "{again:?}");
    assert!(again.notes.contains("is finished"), "{again:?}");
    assert_eq!(jobs(&world).len(), SENT);
}

fn humantime(ms: i64) -> String {
    let ms = u64::try_from(ms).expect("after 1970");
    let at = std::time::UNIX_EPOCH + std::time::Duration::from_millis(ms);
    humantime::format_rfc3339_millis(at).to_string()
}
