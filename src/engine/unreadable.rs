//! Batches that the broker takes and the library cannot decode: the proof that one is such a batch.
//!
//! A partition stops for ever at a batch that cannot be decompressed. The position may move past it only when
//! this is proved, because a readable record that is passed over is lost:
//!
//! ```text
//! fetch at the position, three times: the same error ─▶ bisect for the batch's end ─▶ the error just before
//! the end, once more, by another client ─▶ the range from the batch's first offset to its end
//! ```
//!
//! The library's error names the batch's first offset. A fetch inside the batch gives the same batch and the same
//! error; a fetch behind it gives anything else. So the end can be found by bisection, whatever lies behind it:
//! readable records, gaps, other unreadable batches, or the end of the log. Every other error, silence and a lack
//! of memory prove nothing.

use self::reader::Reader;
use super::clients::Connection;
use super::state::Partition;
use super::window::Span;

pub(crate) mod hold;
pub(crate) mod inspect;
pub(crate) mod reader;
pub(crate) mod step_over;
pub(crate) mod suspects;

/// Fetches that must give the same error.
const FETCHES: usize = 3;

/// Unreadable batches in a row that are one range at most: what is found is committed now and then.
const BATCHES: usize = 100;

/// A decode error of the library, which names its batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DecodeError {
    /// The batch's first offset.
    pub(crate) first: i64,
    /// How large it is compressed, where that is said.
    pub(crate) bytes: usize,
    /// The library's sentence.
    sentence: String,
}

/// The sentences of the library's decode errors, up to the offset, and the word between it and the size.
const SENTENCES: [(&str, &str, &str); 4] = [
    ("Decompression (codec 0x", ") of message at ", " of "),
    ("MessageSet at offset ", "", " ("),
    ("Message at offset ", "", " ("),
    ("Unsupported Message(Set) MagicByte ", " at offset ", ""),
];

impl DecodeError {
    /// Reads the library's sentence; none: it is about something else.
    pub(crate) fn parse(sentence: &str) -> Option<Self> {
        let (start, to_offset, to_size) = SENTENCES
            .into_iter()
            .find(|(start, _, _)| sentence.starts_with(start))?;
        let rest = sentence.strip_prefix(start)?;
        let is_checksum = to_offset.is_empty();
        if is_checksum && !sentence.contains("failed CRC32") {
            return None;
        }
        let (_, rest) = rest.split_once(to_offset)?;
        let digits =
            |text: &str| -> String { text.chars().take_while(char::is_ascii_digit).collect() };
        let offset = digits(rest);
        let size = rest.get(offset.len()..)?.strip_prefix(to_size)?;
        Some(Self {
            first: offset.parse().ok()?,
            bytes: digits(size).parse().unwrap_or(0),
            sentence: sentence.to_owned(),
        })
    }
}

/// What a fresh fetch at an offset begins with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fetched {
    /// A record, or the end of the partition.
    Readable,
    /// A batch that cannot be decoded.
    Undecodable(DecodeError),
}

/// Why nothing is proved.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unproven {
    /// Another error than a decode error, or silence.
    #[error("{0}")]
    Kafka(String),
    /// It may be that memory is short.
    #[error("there is not enough memory to tell")]
    Memory,
    /// The same fetch gave something else the next time.
    #[error("the same fetch gave different answers")]
    Differs,
}

/// Reads one partition.
pub(crate) trait Probe {
    /// What a fresh fetch at `offset` begins with.
    fn fetch(&mut self, offset: i64) -> Result<Fetched, Unproven>;

    /// Where the partition ends now, as a `read_committed` consumer sees it.
    fn end(&mut self) -> Result<i64, Unproven>;

    /// Takes another client for what follows.
    fn renew(&mut self) -> Result<(), Unproven>;
}

/// What [`prove`] says of a partition at `position`. Blocks.
pub(crate) fn range_at(
    connection: &Connection,
    partition: Partition,
    position: i64,
) -> Result<Option<Span>, Unproven> {
    prove(position, &mut Reader::new(connection, partition)?)
}

/// The first range at or behind `position` of which nothing can be decoded; none: all can be read, to the end. Blocks.
pub(crate) fn first_range(
    connection: &Connection,
    partition: Partition,
    position: Option<i64>,
) -> Result<Option<Span>, Unproven> {
    let mut reader = Reader::new(connection, partition)?;
    let low = reader.low()?;
    let position = position.unwrap_or(low).max(low);
    match reader.read_on(position)? {
        Some(stopped) => prove(stopped, &mut reader),
        None => Ok(None),
    }
}

/// Proves that nothing in a range that begins at `position`, or behind a gap there, can be read: its first offset,
/// and the first behind it. None: what is at `position` can be read.
pub(crate) fn prove(position: i64, probe: &mut impl Probe) -> Result<Option<Span>, Unproven> {
    let (mut from, mut until) = (None, position);
    for _ in 0..BATCHES {
        let Fetched::Undecodable(error) = probe.fetch(until)? else {
            break;
        };
        for _ in 1..FETCHES {
            probe.renew()?;
            expect(probe, until, &error)?;
        }
        from.get_or_insert(error.first.max(until));
        until = end_of(&error, until, probe)?;
    }
    Ok(from.map(|from| Span { from, until }))
}

/// The first offset behind the batch with this error, which `inside` gives.
fn end_of(error: &DecodeError, inside: i64, probe: &mut impl Probe) -> Result<i64, Unproven> {
    let (mut low, mut high) = (inside.max(error.first), probe.end()?);
    let mut step = 1;
    // Most batches are small, and the log may be long.
    while low + step < high {
        if gives(probe, low + step, error)? {
            low += step;
            step *= 2;
        } else {
            high = low + step;
        }
    }
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if gives(probe, middle, error)? {
            low = middle;
        } else {
            high = middle;
        }
    }
    // All from the first offset to this one are of the one batch.
    probe.renew()?;
    expect(probe, low, error)?;
    Ok(low + 1)
}

fn gives(probe: &mut impl Probe, offset: i64, error: &DecodeError) -> Result<bool, Unproven> {
    Ok(matches!(probe.fetch(offset)?, Fetched::Undecodable(found) if found == *error))
}

fn expect(probe: &mut impl Probe, offset: i64, error: &DecodeError) -> Result<(), Unproven> {
    if gives(probe, offset, error)? {
        Ok(())
    } else {
        Err(Unproven::Differs)
    }
}

#[cfg(test)]
mod tests;
