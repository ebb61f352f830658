//! `user-otp dlq`, as an operator types it.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use user_otp::egov::Service;
use user_otp::egov::standin::{Behaviour, Fault};

use crate::command::{Ran, run, run_revealing};
use crate::kafka::Draft;
use crate::request::Request;
use crate::world::{World, now};

const NUMBER: &str = "9876560001";
const OTHER: &str = "9876560002";

/// A dead letter as the engine writes it.
fn letter(mobile: &str, words: &str, id: &str) -> Draft {
    let [disposition, code, stage] = words.split('/').collect::<Vec<_>>()[..] else {
        panic!("{words} is not disposition/code/stage")
    };
    let request = Request::login(mobile);
    Draft::of(request.body())
        .key(format!("{}:{mobile}", request.tenant))
        .header("otp-event-id", id)
        .header("otp-source", "requests-0-7")
        .header("otp-disposition", disposition)
        .header("otp-error-code", code)
        .header("otp-error-stage", stage)
        .header("otp-tenant", request.tenant)
        .header("otp-type", request.kind)
        .header("x-upstream", format!("for {mobile}"))
}

/// A world with a dead-letter topic of two partitions and these on the first; a tombstone and a
/// stranger's record on the other, and an aborted one at each end.
fn with_letters(letters: &[Draft]) -> World {
    let world = World::new();
    world.keep_secret(NUMBER);
    world.keep_secret(OTHER);
    let topic = world.topics.dead_letters.clone();
    world.kafka.create_topic(&topic, 2, &[]);
    world.kafka.create_topic(&world.topics.job_log, 1, &[]);
    let first: Vec<Draft> = letters.iter().map(|one| one.clone().partition(0)).collect();
    world.kafka.publish_all(&topic, &first);
    world.kafka.publish(&topic, &Draft::default().partition(1));
    let stranger = Draft::of(format!("call {NUMBER}")).partition(1);
    world.kafka.publish(&topic, &stranger.header("a", OTHER));
    for partition in [0, 1] {
        let aborted = world.kafka.open_records(&topic, partition, &["aborted"]);
        aborted.abort();
    }
    world
}

fn three() -> [Draft; 3] {
    let hour_ago = now() - 3_600_000;
    [
        letter(NUMBER, "refused/service-refused/user", "order-1").timestamp(hour_ago),
        letter(OTHER, "expired/service-timeout/otp", "order-2"),
        letter(NUMBER, "refused/unknown-output-topic/queue", "order-3"),
    ]
}

fn ids(ran: &Ran) -> Vec<String> {
    let mut ids: Vec<String> = ran
        .json_lines()
        .iter()
        .map(|line| line["eventId"].as_str().expect("an id").to_owned())
        .collect();
    ids.sort_unstable();
    ids
}

#[test]
fn stats_count_everything_on_the_topic_that_was_committed() {
    let world = with_letters(&three());
    let report = run(&world, "dlq stats --output ndjson", "")
        .well()
        .json_lines()
        .remove(0);
    assert_eq!(
        (&report["lookedAt"], &report["count"]),
        (&5.into(), &5.into()),
        "{report}"
    );
    let reasons = report["byReason"].as_array().expect("reasons");
    let count = |code: Option<&str>| {
        let found = reasons
            .iter()
            .find(|reason| reason["code"].as_str() == code);
        found.map(|reason| reason["count"].clone())
    };
    for code in ["service-refused", "service-timeout", "unknown-output-topic"] {
        assert_eq!(count(Some(code)), Some(1.into()), "{code}");
    }
    assert_eq!(
        count(None),
        Some(2.into()),
        "the tombstone and the stranger's"
    );
    assert_eq!(
        report["byTenant"],
        serde_json::json!([{"tenantId": "pb.amritsar", "count": 3}])
    );
    let table = run(&world, "dlq stats --disposition expired", "").well();
    assert!(
        table
            .out
            .contains("expired      service-timeout  otp        1  20"),
        "{table:?}"
    );
    assert!(table.notes.starts_with("1 of 5 records"), "{table:?}");
    // Where the service does not run, its group would take a commit.
    let of_letters = world
        .kafka
        .committed(&world.name, &world.topics.dead_letters);
    assert!(of_letters.values().all(Option::is_none), "{of_letters:?}");
}

#[test]
fn ls_lists_what_all_the_options_take() {
    let world = with_letters(&three());
    let listed = |options: &str| {
        ids(&run(
            &world,
            &format!("dlq ls --output ndjson {options}"),
            "+91 9876560001\n",
        )
        .well())
    };
    assert_eq!(listed("--disposition refused"), ["order-1", "order-3"]);
    assert_eq!(
        listed("--mobile - --since 30m"),
        [&format!("{}-1-1", world.topics.dead_letters), "order-3"]
    );
    assert_eq!(
        listed("--mobile - --older-than 30m --tenant pb.*"),
        ["order-1"]
    );
    assert_eq!(
        listed("--code service-timeout --type login --stage otp"),
        ["order-2"]
    );
    assert_eq!(
        listed("--event-id order-2 --event-id order-3"),
        ["order-2", "order-3"]
    );
    assert_eq!(listed("--partition 0 --offset 1"), ["order-2"]);
    assert_eq!(listed("--tenant mh").len(), 0);
    assert_eq!(listed("--partition 0 --limit 2"), ["order-1", "order-2"]);

    let table = run(&world, "dlq ls --partition 0", "").well();
    assert_eq!(table.out.lines().count(), 4, "{table:?}");
    assert!(table.out.contains("********01"), "{table:?}");
    assert!(
        !table.out.contains('\u{1b}'),
        "a pipe has no colours: {table:?}"
    );
    let array = run(&world, "dlq ls --output json", "").well();
    let array: serde_json::Value = serde_json::from_str(&array.out).expect("one document");
    assert_eq!(array.as_array().map(Vec::len), Some(5));
}

#[test]
fn show_tells_what_to_do_and_where_there_is_nothing_says_so() {
    let world = with_letters(&three());
    for which in ["--partition 0 --offset 0", "--event-id order-1"] {
        let shown = run(&world, &format!("dlq show {which}"), "").well();
        assert!(
            shown.out.contains("a service refused the call"),
            "{shown:?}"
        );
        assert!(
            shown
                .out
                .contains("what to do      look at that service's log"),
            "{shown:?}"
        );
        assert!(shown.out.contains("hidden; --reveal shows it"), "{shown:?}");
    }
    // The mark of an aborted transaction, and what is beyond the end.
    for which in [
        "--partition 0 --offset 4",
        "--partition 0 --offset 99",
        "--event-id order-9",
    ] {
        let shown = run(&world, &format!("dlq show {which}"), "");
        assert_eq!((shown.code, shown.out.as_str()), (6, ""), "{shown:?}");
    }
    let missing = run(&world, "dlq show --partition 7 --offset 0", "");
    assert_eq!(missing.code, 1, "{missing:?}");
    assert!(
        missing
            .notes
            .contains("has no partition 7: it has 2, from 0"),
        "{missing:?}"
    );
}

#[test]
fn what_is_typed_wrong_is_told_with_what_to_type() {
    let world = World::new();
    world.keep_secret(NUMBER);
    let wrong = [
        ("dlq show", "--partition and --offset, or --event-id"),
        ("dlq export", "--reveal"),
        ("dlq ls --mobile 9876560001", "--mobile -"),
        ("dlq ls --since yesterday", "2h for two hours ago"),
        ("dlq ls --code nonsense", "one of empty-value"),
    ];
    for (line, told) in wrong {
        let ran = run_revealing(&world, line, "");
        assert_eq!((ran.code, ran.out.as_str()), (2, ""), "{line}: {ran:?}");
        assert!(ran.notes.contains(told), "{line}: {ran:?}");
        assert!(!ran.notes.contains(NUMBER), "{line}: {ran:?}");
    }
    let ran = run(&world, "dlq ls", "");
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(
        ran.notes.contains("does not exist") && ran.notes.contains("user-otp topics apply"),
        "{ran:?}"
    );
    let ran = run(&world, "dlq ls --mobile -", "call me\n");
    assert!(
        ran.notes
            .contains("line 1 of standard input is no mobile number"),
        "{ran:?}"
    );
}

#[test]
fn numbers_are_shown_only_with_reveal_which_is_put_down() {
    let world = with_letters(&three());
    for line in ["dlq ls", "dlq show --event-id order-1"] {
        let revealed = run_revealing(&world, &format!("{line} --reveal"), "").well();
        assert!(revealed.out.contains(NUMBER), "{revealed:?}");
        assert!(revealed.notes.contains("numbers are shown"), "{revealed:?}");
    }
    let audits = world.kafka.read(&world.topics.job_log);
    let said = |at: usize, name: &str| {
        audits[at].json()[name]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    assert_eq!(audits.len(), 2);
    assert_eq!(
        (said(0, "command"), said(0, "filter")),
        ("dlq ls".into(), String::new())
    );
    assert_eq!(
        (said(1, "command"), said(1, "filter")),
        ("dlq show".into(), "--event-id order-1".into())
    );
    assert!(said(0, "by").starts_with("asha (uid "), "{}", said(0, "by"));

    world.kafka.delete_topics(&[&world.topics.job_log]);
    let refused = run(&world, "dlq ls --reveal", "");
    assert_eq!((refused.code, refused.out.as_str()), (1, ""), "{refused:?}");
    assert!(
        refused.notes.contains("--reveal shows nothing"),
        "{refused:?}"
    );
}

#[test]
fn an_export_has_every_byte() {
    let binary = Draft::of(vec![0xff, 0x00, b'\n'])
        .key(vec![0xc3])
        .header("h", "v");
    let world = with_letters(&[
        letter(NUMBER, "refused/service-refused/user", "order-1"),
        binary,
    ]);
    let exported = run_revealing(&world, "dlq export --reveal --partition 0", "").well();
    let lines = exported.json_lines();
    let records = world.kafka.read(&world.topics.dead_letters);
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[0]["value"]["utf8"].as_str(), Some(records[0].text()));
    assert_eq!(
        lines[0]["key"]["utf8"].as_str(),
        Some(records[0].key_text())
    );
    let headers = lines[0]["headers"].as_array().expect("headers");
    let names: Vec<_> = headers
        .iter()
        .filter_map(|header| header["name"].as_str())
        .collect();
    assert_eq!(names, records[0].header_names());
    assert_eq!(lines[1]["value"], serde_json::json!({"base64": "/wAK"}));
    assert_eq!(lines[1]["key"], serde_json::json!({"base64": "ww=="}));
    assert_eq!(lines[1]["timestampMs"].as_i64(), Some(records[1].timestamp));
}

#[test]
fn dead_letters_of_the_service_are_shown_and_nothing_of_it_is_touched() {
    let world = World::new();
    world.keep_secret(NUMBER);
    let _process = world.start("a");
    world.egov.everyone(true);
    world
        .egov
        .set(Service::Users, Behaviour::failing(Fault::status(400)));
    world.publish(&Draft::of(format!("{{\"otp\": {NUMBER}")).header("otp-event-id", "junk"));
    world.request(&Request::login(NUMBER).id("refused"));
    world.wait_for_outcomes(2);
    world.wait_for_no_lag();
    let before = world.committed();

    let listed = run(&world, "dlq ls --output ndjson", "").well();
    assert_eq!(ids(&listed), ["junk", "refused"]);
    let shown = run(&world, "dlq show --event-id refused", "").well();
    assert!(
        shown.out.contains("refused: service-refused at user"),
        "{shown:?}"
    );
    let shown = run(&world, "dlq show --event-id junk", "").well();
    assert!(
        shown.out.contains("cannot be read  not-json at line 1"),
        "{shown:?}"
    );
    assert_eq!(world.committed(), before);
}

#[test]
fn who_has_read_enough_is_no_failure() {
    let many: Vec<Draft> = (0..2_000)
        .map(|number| {
            letter(
                NUMBER,
                "refused/service-refused/user",
                &format!("order-{number}"),
            )
        })
        .collect();
    let world = with_letters(&many);
    let mut child = Command::new(env!("CARGO_BIN_EXE_user-otp"))
        .args(["dlq", "ls"])
        .env_clear()
        .envs(world.environment("operator", &[("LOG__LEVEL", "warn")]))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("user-otp starts");
    let mut line = String::new();
    let mut out = BufReader::new(child.stdout.take().expect("its stdout is piped"));
    out.read_line(&mut line).expect("a line");
    assert!(line.starts_with("WRITTEN"), "{line}");
    drop(out);
    let output = child.wait_with_output().expect("it ends");
    let notes = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && notes.is_empty(), "{notes}");
}
