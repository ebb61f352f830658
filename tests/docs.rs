//! What `docs/` and `ops/` tell people, against what the program does.

#![expect(clippy::panic, reason = "a helper that cannot go on says with what")]

use std::path::{Path, PathBuf};

use clap::CommandFactory as _;
use rstest::rstest;
use saphyr::{LoadableYamlNode as _, YamlOwned};
use serde_json::Value;
use user_otp::cli::Cli;
use user_otp::config::Config;
use user_otp::domain::request::Submission;
use user_otp::engine::trouble::TroubleKind;
use user_otp::metrics::{ALL, Kind, Metric};
use user_otp::ops::letter::advice;
use user_otp::outcome::Code;

const SEND: &str = "v1/_send";

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn text(file: &str) -> String {
    let path = root().join(file);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{file}: {error}"))
}

fn json(file: &str) -> Value {
    serde_json::from_str(&text(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// The path of `_send` without its first slash, by the default settings.
fn send_path() -> String {
    let (config, _) = Config::load(None, []).expect("the defaults are right");
    format!(
        "{}/{SEND}",
        config.http.context_path.trim_start_matches('/')
    )
}

/// A metric's name as a scraper sees it, without a histogram's suffixes.
fn shown(metric: &Metric) -> String {
    match metric.kind {
        Kind::Counter => format!("{}_total", metric.name),
        Kind::Gauge | Kind::Histogram => metric.name.to_owned(),
    }
}

#[test]
fn the_table_of_metrics_is_the_list_of_metrics() {
    let rows = ALL.iter().map(|metric| {
        let kind = match metric.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        let labels: Vec<_> = metric
            .labels
            .iter()
            .map(|label| format!("`{label}`"))
            .collect();
        let labels = if labels.is_empty() {
            "-".to_owned()
        } else {
            labels.join(", ")
        };
        format!(
            "| `{}` | {kind} | {labels} | {} |",
            shown(metric),
            metric.help
        )
    });
    let docs = text("docs/metrics.md");
    let told: Vec<_> = docs
        .lines()
        .filter(|line| line.starts_with("| `user_otp_"))
        .collect();
    assert_eq!(told, rows.collect::<Vec<_>>());
}

/// The words of a text that begin as a metric's name does.
fn metrics_in(text: &str) -> impl Iterator<Item = &str> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("user_otp_"))
}

#[test]
fn alerts_and_documents_name_metrics_that_there_are() {
    for rule in alerts() {
        let expression = rule["expr"].as_str().expect("a rule has an expression");
        assert!(metrics_in(expression).count() > 0, "{expression}");
        assert!(rule["alert"].as_str().is_some(), "{expression}");
    }
    let known: Vec<String> = ALL
        .iter()
        .flat_map(|metric| {
            let suffixes: &[&str] = match metric.kind {
                Kind::Counter | Kind::Gauge => &[""],
                Kind::Histogram => &["", "_bucket", "_sum", "_count"],
            };
            suffixes.iter().map(move |suffix| shown(metric) + suffix)
        })
        .collect();
    for file in [
        "ops/alerts.yaml",
        "docs/metrics.md",
        "docs/runbook.md",
        "docs/moving-from-java.md",
    ] {
        for name in metrics_in(&text(file)) {
            assert!(known.iter().any(|one| one == name), "{file} names {name}");
        }
    }
}

/// The alert rules.
fn alerts() -> Vec<YamlOwned> {
    let text = text("ops/alerts.yaml");
    let parsed = YamlOwned::load_from_str(&text).expect("ops/alerts.yaml is YAML");
    let rules = parsed[0]["groups"][0]["rules"].as_vec();
    rules.expect("rules").clone()
}

#[test]
fn each_alert_leads_to_its_section_of_the_runbook() {
    let runbook = text("docs/runbook.md");
    let headings = runbook.lines().filter_map(|line| line.strip_prefix("## "));
    let anchors: Vec<_> = headings.map(anchor).collect();
    for rule in alerts() {
        let name = rule["alert"].as_str().expect("an alert has a name");
        let link = rule["annotations"]["runbook"].as_str().expect("a link");
        let place = link.strip_prefix("docs/runbook.md#").expect("the runbook");
        assert!(anchors.iter().any(|one| one == place), "{name}: {place}");
        let is_row = |line: &&str| line.starts_with("| [") && line.contains(place);
        let row = runbook.lines().find(is_row).expect("a row");
        assert!(row.contains(&format!("`{name}`")), "{name}: {row}");
    }
}

/// As GitHub makes it of a heading.
fn anchor(heading: &str) -> String {
    let kept = heading
        .chars()
        .filter(|c| c.is_alphanumeric() || " -".contains(*c));
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}

#[test]
fn each_trouble_of_the_consumer_has_an_alert() {
    let rules = alerts();
    let expressions = rules.iter().filter_map(|rule| rule["expr"].as_str());
    let of_troubles: Vec<_> = expressions
        .filter(|one| one.contains("user_otp_consumer_troubles"))
        .flat_map(|one| one.split(['"', '|']))
        .collect();
    for kind in TroubleKind::ALL {
        assert!(of_troubles.contains(&kind.as_str()), "{kind:?}");
    }
}

#[test]
fn every_variable_of_the_platform_is_told() {
    let docs = text("docs/moving-from-java.md");
    let aliases = text("src/config/aliases.rs");
    let is_variable =
        |word: &&str| word.len() > 4 && word.bytes().all(|b| b == b'_' || b.is_ascii_uppercase());
    let variables: Vec<_> = aliases.split('"').filter(is_variable).collect();
    assert!(variables.len() > 20, "the aliases are somewhere else now");
    for variable in variables {
        assert!(docs.contains(&format!("`{variable}`")), "{variable}");
    }
}

/// A cell of a table without its links.
fn without_links(cell: &str) -> String {
    let mut parts = cell.split("](");
    let first = parts.next().unwrap_or_default().to_owned();
    let rest = parts.map(|part| part.split_once(')').map_or(part, |(_, after)| after));
    rest.fold(first, |text, part| text + part).replace('[', "")
}

#[test]
fn what_to_do_is_told_as_the_command_tells_it() {
    let readme = text("topics/README.md");
    for code in Code::ALL {
        let row = format!("| `{}` |", code.as_str());
        let row = readme.lines().find(|line| line.starts_with(&row));
        let cell = row.and_then(|row| row.trim_end_matches([' ', '|']).rsplit(" | ").next());
        let told = cell.map(without_links);
        assert_eq!(told.as_deref(), Some(advice(*code)), "{code:?}");
    }
}

#[test]
fn links_lead_somewhere() {
    for file in [
        "README.md",
        "ARCHITECTURE.md",
        "docs/commands.md",
        "docs/metrics.md",
        "docs/runbook.md",
        "docs/moving-from-java.md",
        "topics/README.md",
    ] {
        let text = text(file);
        let folder = root().join(Path::new(file).parent().expect("a file in a folder"));
        for link in text.split("](").skip(1) {
            let target = link.split([')', '#']).next().unwrap_or_default();
            let local = !target.is_empty() && !target.contains("://");
            assert!(
                !local || folder.join(target).exists(),
                "{file} links to {target}"
            );
        }
    }
}

#[test]
fn the_role_action_rows_are_of_mdms_form_and_name_the_path() {
    let (actions, roles) = (json("ops/actions-test.json"), json("ops/roleactions.json"));
    assert_eq!(actions["moduleName"], "ACCESSCONTROL-ACTIONS-TEST");
    assert_eq!(roles["moduleName"], "ACCESSCONTROL-ROLEACTIONS");
    assert_eq!(actions["tenantId"], roles["tenantId"]);
    let [action] = actions["actions-test"].as_array().expect("rows").as_slice() else {
        panic!("one action");
    };
    assert_eq!(action["url"], format!("/{}", send_path()));
    for name in [
        "name",
        "displayName",
        "serviceCode",
        "parentModule",
        "code",
        "path",
    ] {
        assert!(action[name].is_string(), "{name}");
    }
    assert!(
        action["id"].is_u64() && action["orderNumber"].is_u64() && action["enabled"].is_boolean()
    );
    let rows = roles["roleactions"].as_array().expect("rows");
    assert!(!rows.is_empty());
    for row in rows {
        assert_eq!(row["actionid"], action["id"], "{row}");
        assert_eq!(row["tenantId"], roles["tenantId"], "{row}");
        assert!(
            row["rolecode"].is_string() && row["actioncode"].is_string(),
            "{row}"
        );
    }
}

#[test]
fn the_postman_collection_asks_what_is_served() {
    let collection = json("docs/api/user-otp.postman_collection.json");
    assert_eq!(
        collection["info"]["schema"],
        "https://schema.getpostman.com/json/collection/v2.1.0/collection.json"
    );
    let folders = collection["item"].as_array().expect("folders").iter();
    let requests: Vec<_> = folders
        .flat_map(|folder| folder["item"].as_array().expect("requests"))
        .map(|item| &item["request"])
        .collect();
    let health = send_path().replace(SEND, "health");
    for request in &requests {
        let url = &request["url"];
        let (host, path) = (
            strings(&url["host"]).concat(),
            strings(&url["path"]).join("/"),
        );
        assert_eq!(url["raw"], format!("{host}/{path}"));
        match (request["method"].as_str(), host.as_str()) {
            (Some("POST"), "{{host}}") => {
                assert_eq!(path, send_path());
                let body = request["body"]["raw"].as_str().expect("a body");
                assert!(Submission::decode(body.as_bytes()).is_ok(), "{body}");
            }
            (Some("GET"), "{{host}}") => assert_eq!(path, health),
            (Some("GET"), "{{management}}") => {
                assert!(
                    ["health/live", "health/ready", "metrics"].contains(&path.as_str()),
                    "{path}"
                );
            }
            other => panic!("{other:?}"),
        }
    }
    let variables: Vec<_> = collection["variable"]
        .as_array()
        .expect("variables")
        .iter()
        .collect();
    let whole = collection.to_string();
    for used in whole
        .split("{{")
        .skip(1)
        .filter_map(|rest| rest.split("}}").next())
    {
        assert!(
            variables.iter().any(|one| one["key"] == used),
            "{used} has no value"
        );
    }
    assert_eq!(requests.len(), 9);
}

fn strings(list: &Value) -> Vec<&str> {
    let list = list.as_array().expect("a list");
    list.iter().map(|one| one.as_str().expect("text")).collect()
}

/// The commands of ours that a document tells to type: in its code blocks, without what they are piped into.
fn commands_in(text: &str) -> impl Iterator<Item = &str> {
    let typed = text.lines().filter_map(|line| line.strip_prefix("    "));
    typed.filter_map(|line| {
        let start = line.find("user-otp ").filter(|start| {
            let before = line[..*start].trim_end();
            before.is_empty() || before == "$" || before.ends_with('|')
        })?;
        let rest = &line[start..];
        let end = [" | ", " > ", "  #", "   "]
            .into_iter()
            .filter_map(|mark| rest.find(mark))
            .min();
        Some(rest[..end.unwrap_or(rest.len())].trim_end())
    })
}

/// At three in the morning what is to be typed must work.
#[rstest]
#[case("README.md")]
#[case("docs/commands.md")]
#[case("docs/runbook.md")]
#[case("docs/transcripts.md")]
#[case("topics/README.md")]
fn every_command_that_is_told_can_be_typed(#[case] file: &str) {
    let text = text(file);
    assert!(commands_in(&text).count() > 0, "{file} tells none");
    for line in commands_in(&text) {
        let words = shlex::split(line).unwrap_or_else(|| panic!("{file}: {line}"));
        if let Err(error) = Cli::command().try_get_matches_from(words) {
            panic!("{file}: {line}: {error}");
        }
    }
}
