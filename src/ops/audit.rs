//! What commands leave on the job log: who saw or did what, kept for a year.

use anyhow::Context as _;
use serde::Serialize;

use super::terminal::Terminal;
use crate::config::Config;
use crate::engine::output::Outgoing;
use crate::engine::sender::Sender;
use crate::service;

/// The key of audit records on the job log.
const KEY: &str = "audit";

/// An audit record's value.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Audit<'a> {
    audit: &'static str,
    command: &'a str,
    by: &'a str,
    at_ms: i64,
    filter: &'a str,
}

/// Puts down that `command` is about to show numbers, and says so. Nothing may be shown where this
/// fails.
///
/// # Errors
///
/// When Kafka did not confirm the record.
pub async fn reveal(
    config: &Config,
    terminal: &mut Terminal<'_>,
    command: &str,
    filter: &str,
) -> anyhow::Result<()> {
    let value = value(command, &terminal.operator, terminal.now.0, filter);
    let record = Outgoing {
        topic: config.topics.job_log.as_str().into(),
        key: Some(KEY.into()),
        value: Some(value?),
        headers: Vec::new(),
    };
    let said = async {
        let sender = Sender::new(&service::connection(config))
            .map_err(|stopped| anyhow::anyhow!("no producer: {stopped}"))?;
        anyhow::Ok(sender.send(&record).await?)
    };
    let at = said
        .await
        .context("--reveal shows nothing, since it could not be put down on the job log")?;
    let note = format!("user-otp: numbers are shown, which is put down at {at}");
    terminal.note(&note)?;
    Ok(())
}

fn value(command: &str, by: &str, at_ms: i64, filter: &str) -> serde_json::Result<Vec<u8>> {
    serde_json::to_vec(&Audit {
        audit: "reveal",
        command,
        by,
        at_ms,
        filter,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;

    #[test]
    fn the_record_is_frozen() {
        let value = value("dlq show", "asha (uid 1000) at ops-1", 7, "--tenant pb").expect("JSON");
        assert_eq!(
            String::from_utf8_lossy(&value),
            r#"{"audit":"reveal","command":"dlq show","by":"asha (uid 1000) at ops-1","atMs":7,"filter":"--tenant pb"}"#
        );
        let schema: Value =
            serde_json::from_str(include_str!("../../topics/schemas/reveal.json")).expect("JSON");
        let written: Value = serde_json::from_slice(&value).expect("JSON");
        let names = |of: &Value| -> BTreeSet<String> {
            let object = of.as_object().expect("an object");
            object.keys().cloned().collect()
        };
        assert_eq!(names(&schema["properties"]), names(&written));
    }
}
