//! What `topics/` tells people, against what the program does: the table, the words and the
//! samples of the documentation cannot fall behind.

#![expect(clippy::panic, reason = "a helper that cannot go on says with what")]

use serde_json::Value;
use user_otp::engine::headers;
use user_otp::outcome::{Code, Disposition, FinalOutcome, Limit, Stage};
use user_otp::topics::{Role, TopicSpec, catalog};

const README: &str = include_str!("../topics/README.md");

fn json(folder: &str, file: &str) -> Value {
    let path = format!("{}/topics/{folder}/{file}.json", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The shape of a role's value.
fn schema(role: Role) -> &'static str {
    match role {
        Role::Requests | Role::Accepted | Role::Jobs | Role::Retry | Role::DeadLetters => "request",
        Role::Outcomes => "outcome",
        Role::Sms => "sms",
        Role::Email => "email",
        Role::JobLog => "job",
    }
}

/// Each sample, with the schema of its value. Audit records are on the job log, and have shapes of their own.
fn samples() -> impl Iterator<Item = (&'static str, &'static str)> {
    let of_roles = Role::ALL.iter();
    let of_roles = of_roles.map(|role| (role.as_str(), schema(*role)));
    let audits = ["reveal", "skip-unreadable"];
    of_roles.chain(audits.map(|audit| (audit, audit)))
}

fn days(spec: &TopicSpec) -> String {
    match spec.retention.as_secs() / 86_400 {
        1 => "1 day".to_owned(),
        days => format!("{days} days"),
    }
}

#[test]
fn the_readmes_table_has_the_lists_figures() {
    for spec in catalog().unwrap() {
        let role = format!("| `{}` |", spec.role.as_str());
        let row = README.lines().find(|line| line.starts_with(&role));
        let row = row.unwrap_or_else(|| panic!("no row {role}"));
        let figures = format!("| {} | {} |", spec.partitions, days(&spec));
        assert!(row.contains(&figures), "{row}\ndoes not say {figures}");
    }
}

#[test]
fn the_readme_and_the_schema_know_every_word() {
    let codes = Code::ALL.iter().map(|code| code.as_str());
    let stages = Stage::ALL.iter().map(|stage| stage.as_str());
    let dispositions = Disposition::ALL
        .iter()
        .map(|disposition| disposition.as_str());
    let limits = Limit::ALL.iter().map(|limit| limit.as_str());
    let all = codes.chain(stages).chain(dispositions).chain(limits);
    for word in all {
        assert!(README.contains(&format!("`{word}`")), "{word}");
    }
    let outcome = json("schemas", "outcome");
    let listed = |property: &str| -> Vec<String> {
        let values = outcome["properties"][property]["enum"].as_array().unwrap();
        values
            .iter()
            .filter_map(|value| value.as_str().map(str::to_owned))
            .collect()
    };
    let outcomes: Vec<_> = FinalOutcome::ALL.iter().map(|word| word.as_str()).collect();
    let stages: Vec<_> = Stage::ALL.iter().map(|word| word.as_str()).collect();
    let dispositions: Vec<_> = Disposition::ALL.iter().map(|word| word.as_str()).collect();
    assert_eq!(listed("outcome"), outcomes);
    assert_eq!(listed("stage"), stages);
    assert_eq!(listed("disposition"), dispositions);
}

/// Each word of a closed set has one row, which says what it is and what to do.
#[test]
fn the_readme_says_what_to_do_about_every_word() {
    let codes = Code::ALL.iter().map(|code| code.as_str());
    let stages = Stage::ALL.iter().map(|stage| stage.as_str());
    let dispositions = Disposition::ALL
        .iter()
        .map(|disposition| disposition.as_str());
    for word in codes.chain(stages).chain(dispositions) {
        let start = format!("| `{word}` |");
        let mut rows = README.lines().filter(|line| line.starts_with(&start));
        let row = rows.next().unwrap_or_else(|| panic!("no row {start}"));
        let cells: Vec<_> = row.trim_matches('|').split('|').map(str::trim).collect();
        let full = cells.len() == 3 && cells.iter().all(|cell| !cell.is_empty());
        assert!(full, "{row}");
        assert_eq!(rows.next(), None, "{word} has two rows");
    }
}

#[test]
fn a_sample_has_the_properties_of_its_schema() {
    for (sample, schema) in samples() {
        let schema = json("schemas", schema);
        let value = &json("samples", sample)["value"];
        let properties = schema["properties"].as_object().unwrap();
        for name in value.as_object().unwrap().keys() {
            assert!(
                properties.contains_key(name),
                "{sample}: {name} is not in its schema"
            );
        }
        for name in schema["required"].as_array().into_iter().flatten() {
            assert!(
                value.get(name.as_str().unwrap()).is_some(),
                "{sample}: {name} is missing"
            );
        }
    }
}

#[test]
fn each_schema_has_a_sample() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/topics/schemas");
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().and_then(|name| name.to_str()).unwrap();
        assert!(samples().any(|(_, schema)| schema == name), "{name}");
    }
}

#[test]
fn the_readme_knows_every_header() {
    let ours = [
        headers::EVENT_ID,
        headers::DEADLINE,
        headers::SOURCE,
        headers::RECEIVED,
        headers::ATTEMPT,
        headers::CHARGED,
        headers::CLIENT,
        headers::DISPOSITION,
        headers::ERROR_CODE,
        headers::ERROR_STAGE,
        headers::FIRST_FAILED,
        headers::FAILED,
        headers::TENANT,
        headers::TYPE,
        headers::VALUE_SIZE,
        headers::VALUE_SHA256,
        headers::LAST_OFFSET,
        headers::TRACEPARENT,
        headers::CORRELATION_ID,
        headers::TENANT_ID,
        headers::DLQ_TOPIC,
        headers::DLQ_PARTITION,
        headers::DLQ_OFFSET,
        headers::DLQ_GROUP,
        headers::DLQ_DELIVERY_COUNT,
        headers::DLQ_MESSAGE,
    ];
    for name in ours.into_iter().chain(headers::REPLAY) {
        assert!(README.contains(&format!("`{name}`")), "{name}");
    }
}

#[test]
fn a_samples_headers_are_documented() {
    for (sample, _) in samples() {
        for (name, value) in json("samples", sample)["headers"].as_object().unwrap() {
            assert!(README.contains(&format!("`{name}`")), "{sample}: {name}");
            assert!(value.is_string(), "{sample}: {name} is not text");
        }
    }
}
