//! `user-otp dlq export`: records as they are. Its numbers are citizens', so it is never masked, and
//! never without `--reveal`: half an export would be taken for a whole one.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use super::{Looking, Pace};
use crate::engine::record::Record;
use crate::ops::terminal::Terminal;

/// A record, byte for byte.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Exported<'a> {
    topic: &'a str,
    partition: i32,
    offset: i64,
    timestamp_ms: Option<i64>,
    key: Option<Bytes<'a>>,
    value: Option<Bytes<'a>>,
    headers: Vec<ExportedHeader<'a>>,
}

#[derive(Serialize)]
struct ExportedHeader<'a> {
    name: &'a str,
    value: Option<Bytes<'a>>,
}

/// Text where it is, else base64.
#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum Bytes<'a> {
    Utf8(&'a str),
    Base64(String),
}

impl<'a> Bytes<'a> {
    fn of(bytes: &'a [u8]) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self::Utf8(text),
            Err(_) => Self::Base64(STANDARD.encode(bytes)),
        }
    }
}

pub(super) fn run(looking: Looking<'_>, terminal: &mut Terminal<'_>) -> anyhow::Result<i32> {
    let mut pace = Pace::new();
    let looked = looking.each(|letter| {
        writeln!(terminal.out, "{}", line(letter.record())?)?;
        Ok(pace.keep(terminal)?)
    })?;
    terminal.out.flush()?;
    terminal.note(&looked.sentence())?;
    Ok(0)
}

fn line(record: &Record) -> serde_json::Result<String> {
    let headers = record.headers.iter().map(|header| ExportedHeader {
        name: &header.name,
        value: header.value.as_deref().map(Bytes::of),
    });
    serde_json::to_string(&Exported {
        topic: &record.position.topic,
        partition: record.position.partition,
        offset: record.position.offset,
        timestamp_ms: record.timestamp.map(|at| at.0),
        key: record.key.as_deref().map(Bytes::of),
        value: record.value.as_deref().map(Bytes::of),
        headers: headers.collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::EpochMs;
    use crate::engine::record::{Header, Position};

    #[test]
    fn every_byte_is_there() {
        let header = |name: &str, value: Option<&[u8]>| Header {
            name: name.to_owned(),
            value: value.map(<[u8]>::to_vec),
        };
        let record = Record {
            position: Position {
                topic: "user-otp.dlq".into(),
                partition: 3,
                offset: 42,
            },
            timestamp: Some(EpochMs(7)),
            key: Some(vec![0xff, 0x00]),
            value: Some(b"{\"otp\":\"\n\"}".to_vec()),
            headers: vec![
                header("a", Some(b"1")),
                header("a", None),
                header("b", Some(&[0xc3])),
            ],
        };
        assert_eq!(
            line(&record).expect("JSON"),
            r#"{"topic":"user-otp.dlq","partition":3,"offset":42,"timestampMs":7,"key":{"base64":"/wA="},"value":{"utf8":"{\"otp\":\"\n\"}"},"headers":[{"name":"a","value":{"utf8":"1"}},{"name":"a","value":null},{"name":"b","value":{"base64":"ww=="}}]}"#
        );
    }
}
