//! How exact retries are: from the moment each was due to its end, read off the outcomes.
//!
//! They are written on the retry topic as the engine writes them, with a deadline that has passed: such
//! a one ends as soon as it is handled, without a call, so that no service's time is in the figure.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::Message as _;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use crate::Bench;
use crate::contender::Kind;
use crate::figures::{self, Figure, Table};
use crate::load::Load;

/// A topic that is there by default, so that all that wait for it are more than are kept in memory.
const DELAY: Duration = Duration::from_secs(5);

const IDLE: u32 = 10;
const BUSY: u32 = 1_000;

/// How long nothing may arrive before a run is given up.
const PATIENCE: Duration = Duration::from_secs(60);

impl Bench {
    pub(crate) fn retries(&self, kind: Kind, table: &mut Table) -> anyhow::Result<()> {
        use Figure::{
            RetryBusyMax, RetryBusyMedian, RetryBusyP99, RetryIdleMax, RetryIdleMedian,
            RetryIdleP99,
        };
        let idle = [RetryIdleMedian, RetryIdleP99, RetryIdleMax];
        let busy = [RetryBusyMedian, RetryBusyP99, RetryBusyMax];
        for (figures, per_second) in [(idle, IDLE), (busy, BUSY)] {
            if self.wants(&figures) {
                let lateness = self.lateness(kind, per_second)?;
                for (figure, percent) in figures.into_iter().zip([50, 99, 100]) {
                    let value = figures::percentile(&lateness, percent);
                    table.add(figure, kind, value);
                }
            }
        }
        Ok(())
    }

    fn lateness(&self, kind: Kind, per_second: u32) -> anyhow::Result<Vec<Duration>> {
        let load = Load::new(&self.args.broker, 8)?;
        let contender = self.start(kind, &load, &self.at_once)?;
        self.warm_up(&load)?;
        let written = load.retries(DELAY, per_second, per_second * self.plan.seconds)?;
        let ends = ends(&self.args.broker, &load, written.len())?;
        contender.end()?;
        let late = ends.into_iter().map(|(number, at)| {
            let written = written.get(number).context("an outcome of no retry")?;
            let due = written + i64::try_from(DELAY.as_millis())?;
            let late = u64::try_from(at - due).context("it was handled before it was due")?;
            Ok(Duration::from_millis(late))
        });
        late.collect()
    }
}

/// When each of so many retries ended, by number.
fn ends(broker: &str, load: &Load, count: usize) -> anyhow::Result<Vec<(usize, i64)>> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", broker)
        .set("group.id", "bench-outcomes")
        .set("isolation.level", "read_committed")
        .set("enable.auto.commit", "false")
        .create()?;
    let topic = load.outcomes();
    let metadata = consumer.fetch_metadata(Some(&topic), PATIENCE)?;
    let partitions = metadata.topics().first().context("no outcome topic")?;
    let mut list = TopicPartitionList::new();
    for partition in partitions.partitions() {
        list.add_partition_offset(&topic, partition.id(), Offset::Beginning)?;
    }
    consumer.assign(&list)?;
    let (mut ends, mut since) = (Vec::with_capacity(count), Instant::now());
    while ends.len() < count {
        if since.elapsed() > PATIENCE {
            bail!("{} of {count} retries ended", ends.len());
        }
        let Some(message) = consumer.poll(Duration::from_millis(50)) else {
            continue;
        };
        let message = message?;
        let outcome: serde_json::Value =
            serde_json::from_slice(message.payload().unwrap_or_default())?;
        let number = outcome["eventId"].as_str();
        let Some(number) = number.and_then(|id| id.strip_prefix("retry-")) else {
            continue;
        };
        ensure!(outcome["disposition"] == "expired", "a retry is {outcome}");
        let at = outcome["finishedAtMs"].as_i64().context("no moment")?;
        ends.push((number.parse()?, at));
        since = Instant::now();
    }
    Ok(ends)
}
