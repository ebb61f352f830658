//! Batches that cannot be decoded, for the commands: each is stepped over once it is proved, and said once.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write as _};

use parking_lot::Mutex;
use rdkafka::error::KafkaError;

use super::range_at;
use super::reader::DECODING;
use crate::engine::clients::Connection;
use crate::engine::state::Partition;
use crate::engine::window::Span;

/// The ranges that this process has said, by their first offset: a command may read a topic more than once.
static SAID: Mutex<BTreeSet<(Partition, i64)>> = Mutex::new(BTreeSet::new());

/// Whether an error of a reader is about a batch that cannot be decoded.
pub(crate) fn is_decode_error(error: &KafkaError) -> bool {
    let code = error.rdkafka_error_code();
    code.is_some_and(|code| DECODING.contains(&code))
}

/// Moves each position at which nothing can be decoded behind that range; whether there was one. The reader's error
/// does not name its partition, so each is looked at. Blocks.
pub(crate) fn step_over(
    connection: &Connection,
    topic: &str,
    positions: &mut BTreeMap<i32, i64>,
    is_quiet: bool,
) -> bool {
    let mut found = false;
    for (number, position) in positions {
        let partition = Partition {
            topic: topic.into(),
            number: *number,
        };
        // What is not proved is looked at again with the next error.
        if let Ok(Some(range)) = range_at(connection, partition.clone(), *position) {
            found = true;
            *position = range.until;
            if !is_quiet && SAID.lock().insert((partition, range.from)) {
                say(topic, *number, range);
            }
        }
    }
    found
}

fn say(topic: &str, partition: i32, range: Span) {
    let (from, last) = (range.from, range.until - 1);
    // Nobody may listen.
    let _ = writeln!(
        io::stderr(),
        "user-otp: {topic}-{partition} from offset {from} to {last} cannot be decoded, and is passed over"
    );
}
