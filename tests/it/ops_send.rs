//! `user-otp send`: one request, or a few in a file, and what became of them.

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

const ROWS: [&str; 3] = ["9876570011", "9876570012", "9876570013"];

/// A file of this name, and the command that sends it.
fn file(name: &str, text: &str) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join(name);
    std::fs::write(&path, text).expect("a file");
    let command = format!("send --file {}", path.display());
    (folder, command)
}

fn with_rows_kept_secret() -> World {
    let world = World::new();
    for number in ROWS {
        world.keep_secret(number);
    }
    world
}

#[test]
fn the_rows_of_a_file_are_sent_and_each_outcome_is_told() {
    let world = with_rows_kept_secret();
    let _process = world.start("a");
    world.egov.everyone(true);
    let [a, b, c] = ROWS;
    // As a spreadsheet writes it.
    let table = format!(
        "\u{feff}Tenant;Type;Mobile;Event ID\r\npb.amritsar;login;{a};\r\n;;;\r\npb;signup;{b};\r\n\
         pb;register;{b};row-2\r\npb.amritsar;login;{c};\r\n"
    );
    let (_folder, command) = file("rows.csv", &table);
    let strict = run(&world, &format!("{command} --strict"), "");
    assert_eq!((strict.code, strict.out.as_str()), (15, ""), "{strict:?}");
    assert!(strict.notes.contains("nothing is sent"), "{strict:?}");
    assert_eq!(world.kafka.read(&world.topics.requests).len(), 0);

    let sent = run(&world, &command, "");
    assert_eq!(sent.code, 15, "{sent:?}");
    let words = |line: &str| {
        let words = line.split_whitespace().map(str::to_owned);
        words.take(5).collect::<Vec<_>>().join(" ")
    };
    let rows: Vec<String> = sent.out.lines().skip(1).map(words).collect();
    let expected = [
        "1 ********11 pb.amritsar login published",
        "3 ********12 pb register rejected",
        "4 ********13 pb.amritsar login published",
    ];
    assert_eq!(rows, expected, "{sent:?}");
    assert!(
        sent.notes.contains("line 4 (row 2): the type is none of"),
        "{sent:?}"
    );
    let summary = "3 requests; 2 published; 1 rejected; 1 bad rows";
    assert!(sent.notes.contains(summary), "{sent:?}");
    assert_eq!(world.sms().len(), 2);
    assert_eq!(world.wait_for_outcome("row-2").word("outcome"), "rejected");
}

#[test]
fn lines_on_standard_input_are_sent_as_they_stand() {
    let world = with_rows_kept_secret();
    let mut process = world.start("a");
    world.egov.everyone(true);
    let [a, b, c] = ROWS;
    let body = format!(
        r#"{{"eventId":"line-1","RequestInfo":{{"msgId":"1|hi_IN"}},"otp":{{"tenantId":"pb","type":"login","mobileNumber":"{a}"}}}}"#
    );
    let flat = format!(r#"{{"tenant":"pb","type":"login","mobile":{b}}}"#);
    let command = "send --file - --format ndjson --output ndjson";
    let sent = run(&world, command, &format!("{body}\n{flat}\n")).well();
    let mut lines = sent.json_lines();
    lines.sort_by_key(|line| line["row"].as_u64());
    assert_eq!(lines.len(), 2, "{sent:?}");
    assert_eq!(lines[0]["eventId"], "line-1");
    assert_eq!(lines[1]["mobile"], "********12");
    assert!(lines.iter().all(|line| line["outcome"] == "published"));
    process.terminate();

    let (_folder, command) = file("rows.csv", &format!("tenant,type,mobile\npb,login,{c}\n"));
    let unheard = run(
        &world,
        &format!("{command} --timeout 300ms --output json"),
        "",
    );
    assert_eq!(unheard.code, 14, "{unheard:?}");
    let shown: serde_json::Value = serde_json::from_str(&unheard.out).expect("JSON");
    assert_eq!(shown[0]["outcome"], "none", "{unheard:?}");
    assert!(unheard.notes.contains("/health/ready"), "{unheard:?}");
}

#[test]
fn a_file_that_is_none_of_ours_sends_nothing() {
    let world = with_rows_kept_secret();
    let said = |name: &str, text: &str, options: &str, code: i32, said: &str| {
        let (_folder, command) = file(name, text);
        let ran = run(&world, &format!("{command} {options}"), "");
        assert_eq!((ran.code, ran.out.as_str()), (code, ""), "{ran:?}");
        assert!(ran.notes.contains(said), "{ran:?}");
    };
    let row = format!("pb,login,{}\n", ROWS[0]);
    let many = format!("tenant,type,mobile\n{}", row.repeat(1_001));
    said("rows.xlsx", "PK", "", 1, "must end in .csv");
    said(
        "rows.csv",
        &row,
        "",
        1,
        "its first line must name its columns",
    );
    said("rows.csv", &many, "", 2, "user-otp resend FILE");
    said(
        "rows.csv",
        "tenant,type,mobile\n",
        "",
        0,
        "there are no rows in it",
    );
    let nameless = run(&world, "send --file -", "");
    assert_eq!(nameless.code, 2, "{nameless:?}");
    assert!(nameless.notes.contains("say --format csv"), "{nameless:?}");
    let bad = run(
        &world,
        "send --file - --format csv --strict",
        &format!("tenant,type,mobile\npb,login,{}x\n", ROWS[0]),
    );
    assert_eq!(bad.code, 15, "{bad:?}");
    assert_eq!(world.kafka.read(&world.topics.requests).len(), 0);
}
