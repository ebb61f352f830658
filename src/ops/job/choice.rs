//! Which of the records that a job is about it sends, and why not the others. Of each it keeps 24 bytes.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};

use anyhow::ensure;
use bit_set::BitSet;
use serde::Serialize;

use crate::clock::EpochMs;
use crate::domain::contact::MobileNumber;
use crate::domain::request::{RequestType, Submission};
use crate::engine::headers;
use crate::engine::record::Position;
use crate::engine::window::Span;
use crate::ops::letter::Letter;
use crate::ops::shown::masked;
use crate::outcome::{Code, Stage};
use crate::wire::OutcomeOrigin;

/// Why a record, or a row, is not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Skip {
    /// It was sent again already, since it was written.
    AlreadySent,
    /// The request was published since, or before for a replay.
    Published,
    /// The same person asked for the same again; the latest is sent.
    DuplicatePerson,
    /// It was sent again as often as `--max-replays` allows.
    ReplayLimit,
    /// A login of more than an hour ago: nobody waits for it.
    OldLogin,
    /// There is no value: a tombstone, or one that was too large to copy.
    NoValue,
    /// It stands for a batch that cannot be decoded.
    UnreadableBatch,
    /// No dead letter of ours.
    Foreign,
    /// It comes after the first `--limit`.
    Limit,
    /// A row that is no request.
    BadRow,
}

impl Skip {
    /// The word for programs.
    #[must_use]
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::AlreadySent => "already-sent",
            Self::Published => "published",
            Self::DuplicatePerson => "duplicate-person",
            Self::ReplayLimit => "replay-limit",
            Self::OldLogin => "old-login",
            Self::NoValue => "no-value",
            Self::UnreadableBatch => "unreadable-batch",
            Self::Foreign => "foreign",
            Self::Limit => "limit",
            Self::BadRow => "bad-row",
        }
    }

    /// The words for people.
    #[must_use]
    pub(super) fn sentence(self) -> &'static str {
        match self {
            Self::AlreadySent => "were sent again already",
            Self::Published => "were published, by their outcomes",
            Self::DuplicatePerson => "are of a person who has another one that is sent",
            Self::ReplayLimit => "were sent again as often as --max-replays allows",
            Self::OldLogin => "are logins of more than an hour ago; --since takes them too",
            Self::NoValue => {
                "have no value: tombstones, or too large to be copied (user-otp dlq show)"
            }
            Self::UnreadableBatch => {
                "stand for batches that cannot be decoded: what was in them is not known"
            }
            Self::Foreign => "are no dead letters of this service",
            Self::Limit => "come after the first --limit",
            Self::BadRow => "are rows that are no request",
        }
    }
}

/// What decides.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules<'a> {
    /// The topic has dead letters, and not requests.
    pub(super) of_dead_letters: bool,
    /// `--max-replays`.
    pub(super) max_replays: u32,
    /// Logins of before then are left out.
    pub(super) logins_since: Option<EpochMs>,
    /// What was published is sent again as well.
    pub(super) even_published: bool,
    /// What this job has sent itself does not count.
    pub(super) own: Option<&'a str>,
    /// `--limit`.
    pub(super) limit: u64,
}

/// One that would be sent, for people to look at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Sample {
    event_id: String,
    tenant_id: Option<String>,
    r#type: Option<&'static str>,
    mobile: String,
    code: Option<&'static str>,
}

impl Sample {
    /// In a line.
    #[must_use]
    pub(super) fn sentence(&self) -> String {
        let word = |word: &Option<String>| word.clone().unwrap_or_else(|| "-".to_owned());
        format!(
            "{} of {}, {}, event {}{}",
            self.r#type.unwrap_or("-"),
            word(&self.tenant_id),
            self.mobile,
            self.event_id,
            self.code.map_or(String::new(), |code| format!(", {code}"))
        )
    }

    /// Whose it is.
    pub(super) fn tenant(&self) -> Option<&str> {
        self.tenant_id.as_deref()
    }

    /// Of a row.
    #[must_use]
    pub(super) fn of_row(submission: &Submission, event_id: &str) -> Self {
        Self {
            event_id: event_id.to_owned(),
            tenant_id: submission.tenant_label().map(str::to_owned),
            r#type: submission.type_label(),
            mobile: masked(submission.mobile().unwrap_or_default()),
            code: None,
        }
    }

    /// Of this record.
    #[must_use]
    pub(super) fn of(letter: &Letter) -> Self {
        Self {
            event_id: letter.event_id(),
            tenant_id: letter.tenant().map(str::to_owned),
            r#type: letter.kind(),
            mobile: masked(letter.number().unwrap_or_default()),
            code: letter.code().map(crate::outcome::Code::as_str),
        }
    }
}

/// Samples that are shown, and that are kept until it is known which are sent.
const SAMPLES: usize = 3;
const KEPT: usize = 64;

/// What may be sent, while the records are looked through. Its hashes have 64 bits and a key of their own: of
/// a million, two are alike once in 37 million times.
pub(super) struct Candidates {
    hasher: RandomState,
    ranks: Ranks,
    /// Sorted by source once all are there.
    all: Vec<Candidate>,
    /// The ranks of those that were published, and of those that were sent again.
    published: BitSet,
    sent_again: BitSet,
    samples: Vec<(u32, Sample)>,
    counts: BTreeMap<Skip, u64>,
    stages: Vec<Stage>,
    matched: u64,
}

/// 24 bytes of a record: of a million this is most of what a plan needs.
#[derive(Clone, Copy)]
struct Candidate {
    /// The hash of where the request was first.
    source: u64,
    /// The hash of who asks for what; 0: it cannot be read.
    person: u64,
    /// When it was written, or failed, in seconds.
    at: u32,
    /// Where it is.
    rank: u32,
}

/// Numbers the offsets of a window, by partition and offset.
#[derive(Debug)]
struct Ranks {
    /// Of each partition, and the rank of its first offset.
    spans: BTreeMap<i32, (Span, u32)>,
    count: u32,
}

impl Ranks {
    fn new(spans: &BTreeMap<i32, Span>) -> anyhow::Result<Self> {
        let mut ranks = Self {
            spans: BTreeMap::new(),
            count: 0,
        };
        for (partition, span) in spans {
            ranks.spans.insert(*partition, (*span, ranks.count));
            let length = u32::try_from(span.length()).ok();
            let count = length.and_then(|length| ranks.count.checked_add(length));
            ensure!(
                count.is_some(),
                "there are more than {} offsets to look through: take them in parts, by --partition or --since",
                u32::MAX
            );
            ranks.count = count.unwrap_or_default();
        }
        Ok(ranks)
    }

    /// None: it is outside of the window.
    fn of(&self, position: &Position) -> Option<u32> {
        let (span, first) = self.spans.get(&position.partition)?;
        let within = (span.from..span.until).contains(&position.offset);
        let index = u32::try_from(position.offset - span.from).ok()?;
        within.then(|| first + index)
    }
}

/// What a look through the records came to.
#[derive(Debug)]
pub(super) struct Choice {
    /// Records that the filter takes.
    pub(super) matched: u64,
    /// How many are not sent, by why.
    pub(super) skipped: BTreeMap<Skip, u64>,
    /// A few that are sent.
    pub(super) samples: Vec<Sample>,
    /// Where the dead letters failed.
    pub(super) stages: Vec<Stage>,
    ranks: Ranks,
    /// Of those that are sent.
    sent: BitSet,
    count: u64,
}

impl Choice {
    /// How many are sent.
    #[must_use]
    pub(super) fn len(&self) -> u64 {
        self.count
    }

    /// Whether the record at this position is sent.
    #[must_use]
    pub(super) fn has(&self, position: &Position) -> bool {
        let rank = self.ranks.of(position);
        rank.is_some_and(|rank| self.sent.contains(rank as usize))
    }
}

fn seconds(at: EpochMs) -> u32 {
    u32::try_from(at.0.div_euclid(1_000)).unwrap_or(0)
}

/// Memory is set aside for so many at once, and only used as they come: growing would need both.
const MOST_AT_ONCE: u32 = 4_000_000;

impl Candidates {
    /// None yet, of what lies between these points.
    ///
    /// # Errors
    ///
    /// When that are too many offsets to be numbered.
    pub(super) fn among(spans: &BTreeMap<i32, Span>) -> anyhow::Result<Self> {
        let ranks = Ranks::new(spans)?;
        Ok(Self {
            hasher: RandomState::new(),
            all: Vec::with_capacity(ranks.count.min(MOST_AT_ONCE) as usize),
            ranks,
            published: BitSet::new(),
            sent_again: BitSet::new(),
            samples: Vec::new(),
            counts: BTreeMap::new(),
            stages: Vec::new(),
            matched: 0,
        })
    }

    /// Takes a record that the filter has taken.
    pub(super) fn add(&mut self, letter: &Letter, rules: Rules<'_>) {
        let Some(rank) = self.ranks.of(&letter.record().position) else {
            return;
        };
        self.matched += 1;
        if let Some(skip) = skip_of(letter, rules) {
            *self.counts.entry(skip).or_default() += 1;
            return;
        }
        let stage = letter.stage();
        self.stages
            .extend(stage.filter(|stage| !self.stages.contains(stage)));
        if self.samples.len() < KEPT {
            self.samples.push((rank, Sample::of(letter)));
        }
        let source = letter.source().to_string();
        self.all.push(Candidate {
            source: self.hasher.hash_one(source.as_str()),
            person: self.person_of(letter),
            at: seconds(failed_at(letter)),
            rank,
        });
    }

    fn person_of(&self, letter: &Letter) -> u64 {
        let Ok(submission) = letter.submission() else {
            return 0;
        };
        let digits = submission
            .mobile()
            .and_then(MobileNumber::parse)
            .map(|one| one.digits());
        match (digits, letter.tenant(), letter.kind()) {
            (Some(digits), Some(tenant), Some(kind)) => {
                self.hasher.hash_one((digits, tenant, kind)).max(1)
            }
            _ => 0,
        }
    }

    /// Since when there can be something that speaks against sending one of them; none: there are none.
    #[must_use]
    pub(super) fn since(&self) -> Option<EpochMs> {
        let oldest = self.all.iter().map(|one| one.at).min()?;
        Some(EpochMs(i64::from(oldest) * 1_000))
    }

    /// All are there: what speaks against one of them comes next.
    pub(super) fn complete(&mut self) {
        self.all.sort_unstable_by_key(|one| one.source);
    }

    /// Hears what became of a request.
    pub(super) fn outcome(&mut self, value: &[u8], rules: Rules<'_>) {
        let Some(seen) = OutcomeOrigin::parse(value) else {
            return;
        };
        let own = seen
            .replay_id
            .as_deref()
            .is_some_and(|id| Some(id) == rules.own);
        let Some(source) = seen.source.filter(|_| !own) else {
            return;
        };
        let at = seconds(EpochMs(seen.finished_at_ms));
        if seen.outcome == "published" {
            if !rules.even_published {
                let same = of_source(&self.all, self.hasher.hash_one(&*source));
                let older = same.filter(|one| one.at <= at);
                self.published.extend(older.map(|one| one.rank as usize));
            }
        } else if seen.replay_id.is_some() {
            self.was_sent_again(&source, at);
        }
    }

    /// Hears that a request was sent again, and may not have ended.
    pub(super) fn sent_again(&mut self, letter: &Letter, rules: Rules<'_>) {
        let by = letter.id(headers::REPLAY_ID);
        if by.as_deref() == rules.own {
            return;
        }
        let at = letter.written().map_or(0, seconds);
        self.was_sent_again(&letter.source().to_string(), at);
    }

    fn was_sent_again(&mut self, source: &str, at: u32) {
        let same = of_source(&self.all, self.hasher.hash_one(source));
        let older = same.filter(|one| one.at < at);
        self.sent_again.extend(older.map(|one| one.rank as usize));
    }

    /// What is sent: of each person the latest, and the first so many.
    #[must_use]
    pub(super) fn choose(mut self, rules: Rules<'_>) -> Choice {
        // Of a person the latest counts, also where it was sent already: their older ones are done with it.
        self.all
            .sort_unstable_by_key(|one| (one.person, one.at, one.rank));
        let mut sent = BitSet::new();
        let mut counts = self.counts;
        for (index, one) in self.all.iter().enumerate() {
            let rank = one.rank as usize;
            let next = self.all.get(index + 1);
            // An outcome says more than that it was sent.
            let skip = if self.published.contains(rank) {
                Skip::Published
            } else if self.sent_again.contains(rank) {
                Skip::AlreadySent
            } else if one.person != 0 && next.is_some_and(|next| next.person == one.person) {
                Skip::DuplicatePerson
            } else {
                sent.insert(rank);
                continue;
            };
            *counts.entry(skip).or_default() += 1;
        }
        let limit = usize::try_from(rules.limit).unwrap_or(usize::MAX);
        let beyond: BitSet = sent.iter().skip(limit).collect();
        if !beyond.is_empty() {
            counts.insert(Skip::Limit, beyond.count() as u64);
            sent.difference_with(&beyond);
        }
        let samples = self.samples.into_iter();
        let samples = samples.filter(|(rank, _)| sent.contains(*rank as usize));
        Choice {
            matched: self.matched,
            skipped: counts,
            samples: samples.map(|(_, sample)| sample).take(SAMPLES).collect(),
            stages: self.stages,
            ranks: self.ranks,
            count: sent.count() as u64,
            sent,
        }
    }
}

/// Those of this source, where they are sorted by it.
fn of_source(all: &[Candidate], source: u64) -> impl Iterator<Item = &Candidate> {
    let first = all.partition_point(|one| one.source < source);
    all[first..]
        .iter()
        .take_while(move |one| one.source == source)
}

/// When a dead letter failed; when a request came.
fn failed_at(letter: &Letter) -> EpochMs {
    let written = letter.written().unwrap_or(EpochMs(0));
    letter.moment(headers::FAILED).unwrap_or(written)
}

/// What the record itself says against sending it.
fn skip_of(letter: &Letter, rules: Rules<'_>) -> Option<Skip> {
    if letter.record().value.is_none() {
        return Some(match letter.code() {
            Some(Code::UnreadableBatch) => Skip::UnreadableBatch,
            Some(_) | None => Skip::NoValue,
        });
    }
    if rules.of_dead_letters && letter.failure().is_none() {
        return Some(Skip::Foreign);
    }
    if letter.count(headers::REPLAY_COUNT).unwrap_or(0) >= rules.max_replays {
        return Some(Skip::ReplayLimit);
    }
    let is_old = |since: EpochMs| {
        letter.kind() == Some(RequestType::Login.as_str()) && failed_at(letter) < since
    };
    rules
        .logins_since
        .is_some_and(is_old)
        .then_some(Skip::OldLogin)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::engine::record::{Header, Record};
    use crate::ops::letter::tests::{LOGIN, REFUSED};

    const RULES: Rules<'_> = Rules {
        of_dead_letters: true,
        max_replays: 3,
        logins_since: None,
        even_published: false,
        own: None,
        limit: u64::MAX,
    };

    /// When the dead letters here failed.
    const FAILED: i64 = 1_764_165_600_000;

    fn letter(offset: i64, mobile: &str, changes: &[(&str, &str)]) -> Letter {
        let changed = |name: &str| changes.iter().any(|(one, _)| *one == name);
        let kept = REFUSED.iter().filter(|(name, _)| !changed(name));
        let header = |(name, value): &(&str, &str)| Header {
            name: (*name).to_owned(),
            value: Some(value.as_bytes().to_vec()),
        };
        Letter::new(Record {
            position: Position {
                topic: "dlq".into(),
                partition: 0,
                offset,
            },
            timestamp: Some(EpochMs(FAILED)),
            key: None,
            value: Some(LOGIN.replace("9876543210", mobile).into_bytes()),
            headers: kept.chain(changes).map(header).collect(),
        })
    }

    fn outcome(words: &str, source: &str, replay: Option<&str>, later_s: i64) -> Vec<u8> {
        let replay = replay.map_or("null".to_owned(), |id| format!("\"{id}\""));
        let at = FAILED + later_s * 1_000;
        format!(
            r#"{{"outcome":"{words}","source":"{source}","replayId":{replay},"finishedAtMs":{at}}}"#
        )
        .into_bytes()
    }

    fn among(offsets: i64) -> Candidates {
        let span = Span {
            from: 0,
            until: offsets,
        };
        Candidates::among(&BTreeMap::from([(0, span)])).expect("few")
    }

    fn choose(letters: &[Letter], outcomes: &[Vec<u8>], rules: Rules<'_>) -> Choice {
        let mut candidates = among(8);
        for letter in letters {
            candidates.add(letter, rules);
        }
        candidates.complete();
        for value in outcomes {
            candidates.outcome(value, rules);
        }
        candidates.choose(rules)
    }

    fn chosen(choice: &Choice, letters: &[Letter]) -> Vec<i64> {
        let all = letters.iter().map(|letter| &letter.record().position);
        all.filter(|position| choice.has(position))
            .map(|position| position.offset)
            .collect()
    }

    #[test]
    fn of_a_person_the_latest_is_sent_and_the_others_are_counted() {
        let letters = [
            letter(1, "9876543210", &[("otp-source", "r-0-1")]),
            letter(2, "9876543211", &[("otp-source", "r-0-2")]),
            letter(3, "98765 43210", &[("otp-source", "r-0-3")]),
        ];
        let choice = choose(&letters, &[], RULES);
        assert_eq!(chosen(&choice, &letters), [2, 3]);
        assert_eq!(choice.skipped, BTreeMap::from([(Skip::DuplicatePerson, 1)]));
        assert_eq!((choice.matched, choice.len()), (3, 2));
        assert!(choice.samples[0].sentence().contains("********11"));
    }

    #[test]
    fn what_is_older_than_what_a_person_got_is_not_sent() {
        let letters = [
            letter(1, "9876543210", &[("otp-source", "r-0-1")]),
            letter(2, "9876543210", &[("otp-source", "r-0-2")]),
            letter(3, "9876543210", &[("otp-source", "r-0-3")]),
        ];
        let done = outcome("published", "r-0-2", None, 60);
        let choice = choose(&letters, std::slice::from_ref(&done), RULES);
        assert_eq!(chosen(&choice, &letters), [3]);
        let choice = choose(&letters[..2], &[done], RULES);
        assert_eq!(chosen(&choice, &letters), [0; 0]);
    }

    #[rstest]
    #[case::published_since("published", None, 60, Some(Skip::Published))]
    #[case::published_by_a_job("published", Some("other"), 60, Some(Skip::Published))]
    #[case::its_own_end("dead-lettered", None, 0, None)]
    #[case::the_end_of_the_replay_that_failed("dead-lettered", Some("other"), 0, None)]
    #[case::sent_again_since("rejected", Some("other"), 60, Some(Skip::AlreadySent))]
    #[case::sent_again_before("dead-lettered", Some("other"), -60, None)]
    #[case::by_this_job("published", Some("own"), 60, None)]
    fn outcomes_speak_against_it(
        #[case] words: &str,
        #[case] replay: Option<&str>,
        #[case] later_s: i64,
        #[case] skip: Option<Skip>,
    ) {
        let letters = [letter(1, "9876543210", &[])];
        let rules = Rules {
            own: Some("own"),
            ..RULES
        };
        let outcomes = [outcome(words, "requests-0-7", replay, later_s)];
        let choice = choose(&letters, &outcomes, rules);
        assert_eq!(choice.skipped.keys().next().copied(), skip);
    }

    #[test]
    fn what_was_sent_again_and_has_not_ended_is_not_sent_again() {
        let mut candidates = among(8);
        candidates.add(&letter(1, "9876543210", &[]), RULES);
        candidates.complete();
        let mut record = letter(9, "9876543210", &[(headers::REPLAY_ID, "other")])
            .record()
            .clone();
        record.timestamp = Some(EpochMs(FAILED + 5_000));
        candidates.sent_again(&Letter::new(record), RULES);
        let choice = candidates.choose(RULES);
        assert_eq!(choice.skipped, BTreeMap::from([(Skip::AlreadySent, 1)]));
    }

    #[rstest]
    #[case::loops(&[("otp-replay-count", "3")], RULES, Skip::ReplayLimit)]
    #[case::foreign(&[("otp-disposition", "strange")], RULES, Skip::Foreign)]
    #[case::old_login(&[], Rules { logins_since: Some(EpochMs(FAILED + 1)), ..RULES }, Skip::OldLogin)]
    fn what_it_says_itself_speaks_against_it(
        #[case] changes: &[(&str, &str)],
        #[case] rules: Rules<'_>,
        #[case] skip: Skip,
    ) {
        let choice = choose(&[letter(1, "9876543210", changes)], &[], rules);
        assert_eq!(choice.skipped, BTreeMap::from([(skip, 1)]));
        assert_eq!(choice.len(), 0);
    }

    #[test]
    fn offsets_are_numbered_through_all_partitions() {
        let span = |from, until| Span { from, until };
        let spans = BTreeMap::from([(1, span(5, 8)), (4, span(0, 2))]);
        let ranks = Ranks::new(&spans).expect("few");
        let rank = |partition, offset| {
            ranks.of(&Position {
                topic: "dlq".into(),
                partition,
                offset,
            })
        };
        let all = [(1, 5), (1, 7), (4, 0), (4, 1)];
        let expected = [Some(0), Some(2), Some(3), Some(4)];
        assert_eq!(
            all.map(|(partition, offset)| rank(partition, offset)),
            expected
        );
        let outside = [(1, 4), (1, 8), (4, 2), (0, 5)];
        assert_eq!(
            outside.map(|(partition, offset)| rank(partition, offset)),
            [None; 4]
        );
        let many = BTreeMap::from([(0, span(0, 1 << 31)), (1, span(0, 1 << 31))]);
        let refused = Ranks::new(&many).expect_err("too many").to_string();
        assert!(refused.ends_with("by --partition or --since"), "{refused}");
    }

    #[test]
    fn the_limit_is_for_what_is_sent() {
        let sources = ["r-0-1", "r-0-2", "r-0-3"];
        let letters: Vec<Letter> = (1..=3)
            .map(|n| {
                let source = sources[n as usize - 1];
                letter(n, &format!("987654321{n}"), &[("otp-source", source)])
            })
            .collect();
        let rules = Rules { limit: 1, ..RULES };
        let done = outcome("published", "r-0-1", None, 60);
        let choice = choose(&letters, &[done], rules);
        assert_eq!(chosen(&choice, &letters), [2]);
        assert_eq!(
            choice.skipped,
            BTreeMap::from([(Skip::Published, 1), (Skip::Limit, 1)])
        );
    }
}
