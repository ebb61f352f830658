//! `user-otp topics skip-unreadable`: lets a partition of our own topics go on behind a batch that cannot be decoded.
//!
//! The instance that has the partition waits, because the requests in the batch are owed an outcome. The command proves
//! once more that nothing of it can be read, and writes the operator's word on the job log, where the instance looks.

use std::fmt::Write as _;

use anyhow::{Context as _, bail};
use clap::Args;

use super::EXIT_NOT_FOUND;
use super::terminal::Terminal;
use crate::config::Config;
use crate::engine::progress;
use crate::engine::sender::Sender;
use crate::engine::state::Partition;
use crate::engine::unreadable::first_range;
use crate::engine::unreadable::hold::{Approval, Kind};
use crate::engine::window::Span;
use crate::service;

/// Which partition, and whether to do it.
#[derive(Debug, Args)]
pub struct SkipUnreadable {
    /// The topic: accepted requests, jobs or a retry topic.
    #[arg(long)]
    topic: String,
    /// Its partition.
    #[arg(long)]
    partition: i32,
    /// Does it: without this the command only says what it would do.
    #[arg(long, requires = "reason")]
    execute: bool,
    /// Why, for the audit record.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

/// Looks for the first range that cannot be decoded, and with `--execute` lets the partition go on behind it.
///
/// # Errors
///
/// When the topic is none of ours, Kafka does not answer, or it is not proved that nothing can be read.
pub async fn run(
    config: &Config,
    args: &SkipUnreadable,
    terminal: &mut Terminal<'_>,
) -> anyhow::Result<i32> {
    let topic = args.topic.as_str();
    if topic == config.topics.requests {
        bail!("on {topic} the service passes over such batches by itself, each as a dead letter");
    }
    let is_retry = topic.starts_with(&format!("{}.", config.topics.retry_prefix));
    if topic != config.topics.accepted && topic != config.topics.jobs && !is_retry {
        bail!(
            "{topic} is no topic that the service holds: name {}, {} or a retry topic",
            config.topics.accepted,
            config.topics.jobs
        );
    }
    let connection = service::connection(config);
    let partition = Partition {
        topic: topic.into(),
        number: args.partition,
    };
    let committed = progress::committed_at(&connection, &partition)?;
    let found = first_range(&connection, partition.clone(), committed)
        .with_context(|| format!("{partition}: nothing is proved, so nothing is passed over"))?;
    let Some(range) = found else {
        terminal.note(&format!(
            "user-otp: {partition}: all that the group has not finished can be decoded"
        ))?;
        return Ok(EXIT_NOT_FOUND);
    };
    let mut text = plan(&partition, range);
    if let (true, Some(reason)) = (args.execute, &args.reason) {
        let approval = Approval {
            audit: Kind::SkipUnreadable,
            topic: topic.to_owned(),
            partition: args.partition,
            first_offset: range.from,
            last_offset: range.until - 1,
            by: terminal.operator.clone(),
            at_ms: terminal.now.0,
            reason: reason.clone(),
        };
        let sender = Sender::new(&connection)
            .map_err(|stopped| anyhow::anyhow!("no producer: {stopped}"))?;
        let at = sender
            .send(&approval.outgoing(&config.topics.job_log)?)
            .await?;
        writeln!(
            text,
            "Approved at {at}: the instance that has the partition goes on within seconds."
        )?;
    } else {
        writeln!(
            text,
            "Nothing is changed. With --execute --reason TEXT the partition goes on behind it."
        )?;
    }
    write!(terminal.out, "{text}")?;
    terminal.out.flush()?;
    Ok(0)
}

fn plan(partition: &Partition, range: Span) -> String {
    format!(
        "{partition}, offsets {} to {} ({} in all), cannot be decoded: proved by three fetches.\n\
         Requests in it are lost. They get one dead letter, poison/unreadable-batch, and one outcome.\n",
        range.from,
        range.until - 1,
        range.length()
    )
}
