//! The tag that every offset commit carries in its metadata: whose commit it is, and what
//! is finished above the commit point.
//!
//! ```text
//! user-otp/1 <commit point> <until, or -> <form><base64>
//! ```
//!
//! `form` is `-` (nothing finished above), `r` (run lengths: unfinished, finished, unfinished, …
//! from the commit point, as LEB128) or `b` (a bitmap from the commit point, low bit first);
//! the shorter one is written. The commit point is in the tag because tools that mirror or
//! copy offsets copy the metadata along: a tag found at another offset says nothing here.

use std::ops::Range;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD as BASE64;

/// The broker's limit on commit metadata (`offset.metadata.max.bytes`), in ASCII characters.
pub const METADATA_LIMIT: usize = 4096;

/// What remains of [`METADATA_LIMIT`] for the base64, the three numbers at their longest.
const PAYLOAD_LIMIT: usize = METADATA_LIMIT - 64;

const MARK: &str = "user-otp/";
const VERSION: &str = "1";

/// Everything about one partition that a later owner needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tag {
    /// The lowest offset that is not finished; the offset committed to Kafka.
    pub commit_point: i64,
    /// Below this offset, records older than a request's lifetime are skipped.
    pub until: Option<i64>,
    /// What is finished at or above the commit point: ascending, disjoint, not empty.
    pub finished: Vec<Range<i64>>,
}

/// What the metadata of a committed offset turned out to be.
#[derive(Debug, PartialEq, Eq)]
pub enum Found {
    /// Our tag, written for this very offset.
    Ours(Tag),
    /// Somebody else's, nobody's, or ours for another offset.
    NotOurs,
    /// Ours, of a version or form that this program does not know; what follows the mark.
    Unknown(String),
}

impl Tag {
    /// The metadata text, ASCII, at most [`METADATA_LIMIT`] characters where the tracker's
    /// room check was respected.
    #[must_use]
    pub fn encode(&self) -> String {
        let until = self
            .until
            .map_or_else(|| "-".to_owned(), |offset| offset.to_string());
        let (form, payload) = self.payload();
        format!(
            "{MARK}{VERSION} {} {until} {form}{}",
            self.commit_point,
            BASE64.encode(payload)
        )
    }

    /// Reads the metadata of the committed `offset`.
    #[must_use]
    pub fn decode(metadata: &str, offset: i64) -> Found {
        let Some(rest) = metadata.strip_prefix(MARK) else {
            return Found::NotOurs;
        };
        match Self::parse(rest) {
            Some(tag) if tag.commit_point == offset => Found::Ours(tag),
            Some(_) => Found::NotOurs,
            None => Found::Unknown(rest.chars().take(40).collect()),
        }
    }

    /// Whether `offset` is finished.
    #[must_use]
    pub fn covers(&self, offset: i64) -> bool {
        offset < self.commit_point || self.finished.iter().any(|run| run.contains(&offset))
    }

    /// Whether a broker takes its text as metadata.
    #[must_use]
    pub fn is_within_limit(&self) -> bool {
        self.encode().len() <= METADATA_LIMIT
    }

    fn payload(&self) -> (char, Vec<u8>) {
        let Some(last) = self.finished.last() else {
            return ('-', Vec::new());
        };
        let runs = self.runs();
        let bits =
            usize::try_from(last.end.saturating_sub(self.commit_point)).unwrap_or(usize::MAX);
        if runs.len() <= bits.div_ceil(8) {
            return ('r', runs);
        }
        let mut bitmap = vec![0_u8; bits.div_ceil(8)];
        for offset in self.finished.iter().cloned().flatten() {
            let bit = usize::try_from(offset - self.commit_point).unwrap_or(0);
            bitmap[bit / 8] |= 1 << (bit % 8);
        }
        ('b', bitmap)
    }

    fn runs(&self) -> Vec<u8> {
        run_lengths(self.commit_point, self.finished.iter())
    }

    fn parse(rest: &str) -> Option<Self> {
        let mut words = rest.split(' ');
        if words.next()? != VERSION {
            return None;
        }
        let commit_point = words.next()?.parse().ok().filter(|offset| *offset >= 0)?;
        let until = match words.next()? {
            "-" => None,
            number => Some(number.parse().ok()?),
        };
        let payload = words.next()?;
        if words.next().is_some() {
            return None;
        }
        let form = payload.chars().next()?;
        let bytes = BASE64.decode(payload.get(1..)?).ok()?;
        let finished = match form {
            '-' if bytes.is_empty() => Vec::new(),
            'r' => parse_runs(commit_point, &bytes)?,
            'b' => parse_bitmap(commit_point, &bytes)?,
            _ => return None,
        };
        Some(Self {
            commit_point,
            until,
            finished,
        })
    }
}

/// How long commit metadata may become: at all, before its partition is held, and before that is let go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fill {
    /// The limit.
    Full,
    /// Three quarters of the limit.
    High,
    /// Half of that.
    Low,
}

/// Whether the tag of a partition stays within `fill` for certain, whatever finishes next:
/// `unfinished` single offsets, and finished ranges that take `inherited` bytes as run lengths, over
/// `span` offsets above the commit point.
#[must_use]
pub fn fits(unfinished: usize, inherited: usize, span: i64, fill: Fill) -> bool {
    let high = PAYLOAD_LIMIT * 3 / 4;
    let characters = match fill {
        Fill::Full => PAYLOAD_LIMIT,
        Fill::High => high,
        Fill::Low => high / 2,
    };
    let room = characters / 4 * 3;
    let span_length = varint_length(span);
    let bitmap = usize::try_from(span).unwrap_or(usize::MAX).div_ceil(8);
    let runs = unfinished * (1 + span_length) + unfinished / 64 + inherited + 2 * span_length;
    bitmap <= room || runs <= room
}

/// Finished `runs` from `at`, as unfinished and finished lengths in turn.
pub(super) fn run_lengths<'a>(mut at: i64, runs: impl Iterator<Item = &'a Range<i64>>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for run in runs {
        write_varint(&mut bytes, run.start - at);
        write_varint(&mut bytes, run.end - run.start);
        at = run.end;
    }
    bytes
}

fn varint_length(value: i64) -> usize {
    let bits = 64 - value.max(1).leading_zeros() as usize;
    bits.div_ceil(7)
}

fn write_varint(bytes: &mut Vec<u8>, value: i64) {
    let mut rest = value.max(0).cast_unsigned();
    loop {
        let low = (rest & 0x7f) as u8;
        rest >>= 7;
        if rest == 0 {
            bytes.push(low);
            return;
        }
        bytes.push(low | 0x80);
    }
}

fn read_varint(bytes: &mut &[u8]) -> Option<i64> {
    let mut value = 0_u64;
    for shift in (0..63).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return i64::try_from(value).ok();
        }
    }
    None
}

fn parse_runs(commit_point: i64, mut bytes: &[u8]) -> Option<Vec<Range<i64>>> {
    let mut finished = Vec::new();
    let mut at = commit_point;
    while !bytes.is_empty() {
        let start = at.checked_add(read_varint(&mut bytes)?)?;
        let end = start.checked_add(read_varint(&mut bytes)?)?;
        if end == start || (start == at && !finished.is_empty()) {
            return None;
        }
        finished.push(start..end);
        at = end;
    }
    Some(finished)
}

fn parse_bitmap(commit_point: i64, bytes: &[u8]) -> Option<Vec<Range<i64>>> {
    let bits = i64::try_from(bytes.len()).ok()?.checked_mul(8)?;
    commit_point.checked_add(bits)?;
    let mut finished: Vec<Range<i64>> = Vec::new();
    for (offset, set) in (commit_point..).zip(
        bytes
            .iter()
            .flat_map(|byte| (0..8).map(move |bit| byte >> bit & 1 == 1)),
    ) {
        match finished.last_mut() {
            _ if !set => {}
            Some(run) if run.end == offset => run.end += 1,
            Some(_) | None => finished.push(offset..offset + 1),
        }
    }
    Some(finished)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Builds a tag from alternating run lengths.
    fn tag(commit_point: i64, until: Option<i64>, lengths: &[(i64, i64)]) -> Tag {
        let mut at = commit_point;
        let mut finished = Vec::new();
        for (index, (skip, take)) in lengths.iter().enumerate() {
            let start = at + skip + i64::from(index > 0);
            finished.push(start..start + take + 1);
            at = start + take + 1;
        }
        Tag {
            commit_point,
            until,
            finished,
        }
    }

    #[test]
    fn the_format_is_frozen() {
        let cases = [
            (tag(7, None, &[]), "user-otp/1 7 - -"),
            (tag(7, Some(900), &[]), "user-otp/1 7 900 -"),
            (tag(7, None, &[(1, 299)]), "user-otp/1 7 - rAawC"),
            (
                tag(0, None, &[(1, 0), (0, 0), (0, 0), (0, 0), (0, 0)]),
                "user-otp/1 0 - bqgI",
            ),
        ];
        for (tag, text) in cases {
            assert_eq!(tag.encode(), text);
            assert_eq!(Tag::decode(text, tag.commit_point), Found::Ours(tag));
        }
    }

    #[test]
    fn foreign_unknown_and_moved_tags_are_told_apart() {
        let cases = [
            ("", Found::NotOurs),
            ("some other tool", Found::NotOurs),
            ("user-otp/1 8 - -", Found::NotOurs),
            ("user-otp/2 7 - -", Found::Unknown("2 7 - -".into())),
            ("user-otp/99", Found::Unknown("99".into())),
            ("user-otp/1 7 - z", Found::Unknown("1 7 - z".into())),
            ("user-otp/1 7 -", Found::Unknown("1 7 -".into())),
            (
                "user-otp/1 7 - - more",
                Found::Unknown("1 7 - - more".into()),
            ),
            (
                "user-otp/1 7 - r/////////////w",
                Found::Unknown("1 7 - r/////////////w".into()),
            ),
        ];
        for (text, found) in cases {
            assert_eq!(Tag::decode(text, 7), found, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(
            commit_point in 0..i64::from(u32::MAX),
            until in proptest::option::of(0..i64::from(u32::MAX)),
            lengths in proptest::collection::vec((0..300_i64, 0..300_i64), 0..40),
        ) {
            let tag = tag(commit_point, until, &lengths);
            prop_assert_eq!(Tag::decode(&tag.encode(), commit_point), Found::Ours(tag));
        }

        #[test]
        fn any_text_is_told_apart(text in "\\PC*", offset in 0..i64::MAX) {
            prop_assert_eq!(Tag::decode(&text, offset), Found::NotOurs);
            let ours = format!("user-otp/{text}");
            prop_assert!(!matches!(Tag::decode(&ours, -1), Found::Ours(_)));
        }

        #[test]
        fn what_fits_stays_within_the_limit(
            gaps in proptest::collection::vec(1..40_000_i64, 1..1200),
        ) {
            let finished: Vec<_> = gaps.iter().scan(0, |at, gap| { let start = *at + 1; *at = start + gap; Some(start..*at) }).collect();
            let span = finished.last().map_or(0, |run| run.end);
            let tag = Tag { commit_point: 0, until: Some(i64::MAX), finished };
            if fits(gaps.len(), 0, span, Fill::High) {
                prop_assert!(tag.encode().len() <= METADATA_LIMIT);
            }
        }
    }
}
