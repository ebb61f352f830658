use proptest::prelude::*;
use rstest::rstest;

use super::*;

/// A log of batches, one after the other, with gaps between them.
#[derive(Debug, Clone)]
struct Log {
    batches: Vec<Batch>,
    end: i64,
    fetches: usize,
    /// What the fetch of this number gives instead.
    instead: Option<(usize, Result<Fetched, Unproven>)>,
}

#[derive(Debug, Clone, Copy)]
struct Batch {
    first: i64,
    last: i64,
    readable: bool,
}

impl Log {
    /// Batches by their lengths and the gaps before them.
    fn of(batches: &[(i64, i64, bool)]) -> Self {
        let mut end = 0;
        let mut place = |(gap, length, readable): &(i64, i64, bool)| {
            let first = end + gap;
            end = first + length;
            Batch {
                first,
                last: end - 1,
                readable: *readable,
            }
        };
        Self {
            batches: batches.iter().map(&mut place).collect(),
            end,
            fetches: 0,
            instead: None,
        }
    }

    fn batch_at(&self, offset: i64) -> Option<Batch> {
        self.batches.iter().copied().find(|one| one.last >= offset)
    }
}

fn error(first: i64) -> DecodeError {
    let sentence = format!(
        "Decompression (codec 0x4) of message at {first} of 9500 bytes failed: Local: Invalid compressed data"
    );
    DecodeError::parse(&sentence).expect("a decode error")
}

impl Probe for Log {
    fn fetch(&mut self, offset: i64) -> Result<Fetched, Unproven> {
        assert!((0..=self.end).contains(&offset), "{offset} is out of range");
        self.fetches += 1;
        if let Some((number, instead)) = &self.instead
            && *number == self.fetches
        {
            return instead.clone();
        }
        Ok(match self.batch_at(offset) {
            Some(batch) if !batch.readable => Fetched::Undecodable(error(batch.first)),
            Some(_) | None => Fetched::Readable,
        })
    }

    fn end(&mut self) -> Result<i64, Unproven> {
        Ok(self.end)
    }

    fn renew(&mut self) -> Result<(), Unproven> {
        Ok(())
    }
}

const GOOD: bool = true;
const BAD: bool = false;

#[rstest]
#[case::readable(&[(0, 3, GOOD)], 0, None)]
#[case::the_end(&[(0, 3, BAD)], 3, None)]
#[case::one_at_the_end(&[(0, 3, GOOD), (0, 4, BAD)], 3, Some((3, 7)))]
#[case::one_of_one(&[(0, 1, BAD), (0, 1, GOOD)], 0, Some((0, 1)))]
#[case::a_long_one(&[(0, 100_000, BAD), (0, 1, GOOD)], 0, Some((0, 100_000)))]
#[case::good_between(&[(0, 3, BAD), (0, 1, GOOD), (0, 9, BAD), (0, 50, GOOD)], 0, Some((0, 3)))]
#[case::several_in_a_row(&[(0, 3, BAD), (0, 1, BAD), (0, 9, BAD), (0, 1, GOOD)], 0, Some((0, 13)))]
#[case::gaps_between(&[(0, 3, BAD), (5, 4, BAD), (7, 1, GOOD)], 0, Some((0, 12)))]
#[case::behind_a_gap(&[(0, 2, GOOD), (8, 4, BAD), (0, 1, GOOD)], 2, Some((10, 14)))]
#[case::begun_in_the_middle(&[(0, 2, GOOD), (0, 9, BAD), (0, 1, GOOD)], 5, Some((5, 11)))]
fn the_range_ends_at_the_first_readable_offset(
    #[case] batches: &[(i64, i64, bool)],
    #[case] position: i64,
    #[case] expected: Option<(i64, i64)>,
) {
    let mut log = Log::of(batches);
    let expected = expected.map(|(from, until)| Span { from, until });
    assert_eq!(prove(position, &mut log), Ok(expected));
}

#[test]
fn no_other_answer_is_taken_for_proof() {
    let batches = [(0, 2, GOOD), (0, 40, BAD), (0, 3, GOOD)];
    let mut log = Log::of(&batches);
    assert!(prove(2, &mut log).expect("proved").is_some());
    let all = log.fetches;
    assert!(all > FETCHES);
    for number in 1..=all {
        for instead in [Unproven::Memory, Unproven::Kafka("timed out".to_owned())] {
            let mut log = Log::of(&batches);
            log.instead = Some((number, Err(instead.clone())));
            assert_eq!(prove(2, &mut log), Err(instead), "fetch {number}");
        }
    }
    // The three fetches, and the last one before the end.
    for number in [2, 3, all - 1] {
        let mut log = Log::of(&batches);
        log.instead = Some((number, Ok(Fetched::Readable)));
        assert_eq!(prove(2, &mut log), Err(Unproven::Differs), "fetch {number}");
    }
}

#[rstest]
#[case::zstd(
    "Decompression (codec 0x4) of message at 12 of 9538 bytes failed: Local: Invalid compressed data",
    Some((12, 9538))
)]
#[case::checksum(
    "MessageSet at offset 7 (120 bytes) failed CRC32C check (original 0x1 != calculated 0x2)",
    Some((7, 120))
)]
#[case::old_checksum(
    "Message at offset 8 (99 bytes) failed CRC32 check (original 0x1 != calculated 0x2)",
    Some((8, 99))
)]
#[case::magic("Unsupported Message(Set) MagicByte 9 at offset 33", Some((33, 0)))]
#[case::too_large(
    "Message at offset 8 might be too large to fetch, try increasing receive.message.max.bytes",
    None
)]
#[case::permission("Fetch from broker 1 failed: Broker: Topic authorization failed", None)]
#[case::transport("127.0.0.1:9092/1: Disconnected (after 3ms in state UP)", None)]
#[case::no_offset("Decompression (codec 0x4) of message at ? of 9538 bytes failed", None)]
#[case::nothing("", None)]
fn decode_errors_are_told_by_their_sentence(
    #[case] sentence: &str,
    #[case] expected: Option<(i64, usize)>,
) {
    let found = DecodeError::parse(sentence).map(|error| (error.first, error.bytes));
    assert_eq!(found, expected);
}

proptest! {
    #[test]
    fn nothing_readable_is_passed_over(
        batches in proptest::collection::vec((0..3_i64, 1..40_i64, any::<bool>()), 1..12),
        start in any::<prop::sample::Index>(),
    ) {
        let mut log = Log::of(&batches);
        let position = start.index(usize::try_from(log.end).unwrap_or(0) + 1) as i64;
        let found = prove(position, &mut log);
        let at = log.batch_at(position);
        let bad = at.filter(|batch| !batch.readable);
        match found {
            Ok(None) => prop_assert!(bad.is_none()),
            Ok(Some(span)) => {
                let first = bad.expect("it stands before an unreadable batch").first;
                prop_assert_eq!(span.from, first.max(position));
                for batch in log.batches.iter().filter(|one| one.last >= position && one.first < span.until) {
                    prop_assert!(!batch.readable, "{:?} in {:?}", batch, span);
                    prop_assert!(batch.last < span.until, "{:?} is cut by {:?}", batch, span);
                }
                let next = log.batch_at(span.until);
                prop_assert!(next.is_none_or(|one| one.readable), "{:?} behind {:?}", next, span);
            }
            Err(error) => prop_assert!(false, "{}", error),
        }
    }
}
