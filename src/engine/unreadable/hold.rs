//! An operator's word, on the job log, that a range which cannot be decoded may be passed over.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::EpochMs;
use crate::engine::clients::Connection;
use crate::engine::output::Outgoing;
use crate::engine::record::Record;
use crate::engine::state::Partition;
use crate::engine::window::{Bounds, Span, Window, WindowError};

/// An approval that is older says nothing: the topic may have been created again.
const VALID: Duration = Duration::from_secs(24 * 3_600);

/// The value of such a record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Approval {
    /// Which audit record this is.
    pub(crate) audit: Kind,
    /// The topic.
    pub(crate) topic: String,
    /// The partition.
    pub(crate) partition: i32,
    /// The first offset of the range.
    pub(crate) first_offset: i64,
    /// Its last offset.
    pub(crate) last_offset: i64,
    /// Who says so.
    pub(crate) by: String,
    /// When, in epoch milliseconds.
    pub(crate) at_ms: i64,
    /// Why, in their words.
    pub(crate) reason: String,
}

/// The one kind of audit record that lets a partition go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kind {
    /// A range that cannot be decoded is passed over.
    SkipUnreadable,
}

impl Approval {
    /// The record for the job log.
    ///
    /// # Errors
    ///
    /// Never, for what this program makes.
    pub(crate) fn outgoing(&self, job_log: &str) -> serde_json::Result<Outgoing> {
        Ok(Outgoing {
            topic: job_log.into(),
            key: Some(b"audit".to_vec()),
            value: Some(serde_json::to_vec(self)?),
            headers: Vec::new(),
        })
    }

    fn parse(record: &Record) -> Option<Self> {
        serde_json::from_slice(record.value.as_deref()?).ok()
    }

    /// Whether all of this range may be passed over.
    pub(crate) fn is_of(&self, partition: &Partition, range: Span) -> bool {
        self.topic == *partition.topic
            && self.partition == partition.number
            && self.first_offset <= range.from
            && range.until <= self.last_offset.saturating_add(1)
    }
}

/// What operators have approved lately. Blocks.
pub(crate) fn approvals(
    connection: &Connection,
    job_log: &str,
    now: EpochMs,
) -> Result<Vec<Approval>, WindowError> {
    let since = EpochMs(now.0 - i64::try_from(VALID.as_millis()).unwrap_or(0));
    let bounds = Bounds {
        since: Some(since),
        ..Bounds::default()
    };
    let mut window = Window::open(connection, job_log, &bounds)?.quiet();
    let mut approvals = Vec::new();
    while let Some(record) = window.next_record()? {
        approvals.extend(Approval::parse(&record).filter(|one| one.at_ms >= since.0));
    }
    Ok(approvals)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;

    fn approval() -> Approval {
        Approval {
            audit: Kind::SkipUnreadable,
            topic: "user-otp.accepted".to_owned(),
            partition: 3,
            first_offset: 10,
            last_offset: 12,
            by: "asha (uid 1000) at ops-1".to_owned(),
            at_ms: 7,
            reason: "a broken disk".to_owned(),
        }
    }

    #[test]
    fn the_record_is_frozen() {
        let text = serde_json::to_string(&approval()).expect("JSON");
        assert_eq!(
            text,
            r#"{"audit":"skip-unreadable","topic":"user-otp.accepted","partition":3,"firstOffset":10,"lastOffset":12,"by":"asha (uid 1000) at ops-1","atMs":7,"reason":"a broken disk"}"#
        );
        let schema: Value =
            serde_json::from_str(include_str!("../../../topics/schemas/skip-unreadable.json"))
                .expect("JSON");
        let written: Value = serde_json::from_str(&text).expect("JSON");
        let names = |of: &Value| -> BTreeSet<String> {
            let object = of.as_object().expect("an object");
            object.keys().cloned().collect()
        };
        assert_eq!(names(&schema["properties"]), names(&written));
        let sample = include_str!("../../../topics/samples/skip-unreadable.json");
        let sample: Value = serde_json::from_str(sample).expect("JSON");
        let read: Result<Approval, _> = serde_json::from_value(sample["value"].clone());
        assert_eq!(read.expect("an approval").audit, Kind::SkipUnreadable);
    }

    #[test]
    fn it_is_about_a_range_of_one_partition() {
        let partition = |topic: &str, number| Partition {
            topic: topic.into(),
            number,
        };
        let range = Span {
            from: 10,
            until: 13,
        };
        let is_of = |topic, number, range| approval().is_of(&partition(topic, number), range);
        assert!(is_of("user-otp.accepted", 3, range));
        assert!(is_of("user-otp.accepted", 3, Span { until: 11, ..range }));
        assert!(!is_of("user-otp.accepted", 2, range));
        assert!(!is_of("user-otp.retry.5s", 3, range));
        assert!(!is_of("user-otp.accepted", 3, Span { until: 14, ..range }));
        assert!(!is_of("user-otp.accepted", 3, Span { from: 9, ..range }));
    }
}
