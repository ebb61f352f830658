//! Which records a command is about: options that combine, each of which leaves fewer.

use std::fmt;
use std::time::Duration;

use clap::Args;

use super::Usage;
use super::letter::Letter;
use super::moment::{Moment, rfc3339_exact};
use super::numbers::Numbers;
use super::shown::without_numbers;
use crate::clock::EpochMs;
use crate::domain::request::RequestType;
use crate::domain::tenant::TenantId;
use crate::engine::window::Bounds;
use crate::outcome::{Code, Disposition, Stage};

/// The options. Of one that is given several times, any value will do; of several, all must hold.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Which ones (options combine)")]
pub struct Filter {
    /// Of this tenant; `pb.*` is every tenant below pb.
    #[arg(long, value_name = "TENANT", value_parser = Tenants::parse)]
    tenant: Vec<Tenants>,
    /// login, register or passwordreset.
    #[arg(long = "type", value_name = "TYPE", value_parser = kind)]
    kind: Vec<RequestType>,
    /// poison, refused or expired.
    #[arg(long, value_name = "WORD", value_parser = disposition)]
    disposition: Vec<Disposition>,
    /// What happened, as service-refused.
    #[arg(long, value_name = "WORD", value_parser = code)]
    code: Vec<Code>,
    /// Where it happened, as user.
    #[arg(long, value_name = "WORD", value_parser = stage)]
    stage: Vec<Stage>,
    /// Written then or later: 2h (ago), or a time with its zone.
    #[arg(long, value_name = "TIME")]
    since: Option<Moment>,
    /// Written before then.
    #[arg(long, value_name = "TIME")]
    until: Option<Moment>,
    /// Written longer ago than this.
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    older_than: Option<Duration>,
    /// With this event id.
    #[arg(long, value_name = "ID")]
    event_id: Vec<String>,
    /// On this partition.
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(i32).range(0..))]
    partition: Vec<i32>,
    /// At this offset of the partition.
    #[arg(long, value_name = "NUMBER", requires = "partition", value_parser = clap::value_parser!(i64).range(0..))]
    offset: Option<i64>,
    /// Always "-": of the numbers on standard input, one a line.
    #[arg(long, value_name = "-")]
    mobile: Option<String>,
    /// So many at most.
    #[arg(long, value_name = "COUNT")]
    limit: Option<u64>,
}

impl Filter {
    /// Whether the numbers on standard input are asked for.
    ///
    /// # Errors
    ///
    /// When one was typed on the command line. It is not repeated.
    pub fn wants_numbers(&self) -> Result<bool, Usage> {
        match self.mobile.as_deref() {
            None => Ok(false),
            Some("-") => Ok(true),
            Some(_) => Err(NUMBER_TYPED),
        }
    }

    /// The one record that it names, if it does.
    #[must_use]
    pub fn place(&self) -> Option<(i32, i64)> {
        match (self.partition.as_slice(), self.offset) {
            ([partition], Some(offset)) => Some((*partition, offset)),
            _ => None,
        }
    }

    /// Whether it names records by their event ids.
    #[must_use]
    pub fn names_events(&self) -> bool {
        !self.event_id.is_empty()
    }

    /// Whether it leaves everything in.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let times = self.since.is_some() || self.until.is_some() || self.older_than.is_some();
        let words = !self.tenant.is_empty() || !self.kind.is_empty() || self.is_of_dead_letters();
        let places = !self.partition.is_empty() || !self.event_id.is_empty();
        !(times || words || places || self.mobile.is_some() || self.limit.is_some())
    }

    /// Whether it asks for what only dead letters have.
    #[must_use]
    pub fn is_of_dead_letters(&self) -> bool {
        !(self.disposition.is_empty() && self.code.is_empty() && self.stage.is_empty())
    }

    /// Whether it says how old something may be.
    #[must_use]
    pub fn has_since(&self) -> bool {
        self.since.is_some()
    }

    /// The same, between these two; none where it has times of its own.
    #[must_use]
    pub fn between(&self, from: Moment, to: Moment) -> Option<Self> {
        let own = self.since.is_some() || self.until.is_some() || self.older_than.is_some();
        (!own).then(|| Self {
            since: Some(from),
            until: Some(to),
            ..self.clone()
        })
    }

    /// As it was typed, without numbers.
    #[must_use]
    pub fn typed(&self) -> Vec<String> {
        let typed = |moment: Option<Moment>| moment.map(|moment| moment.to_string());
        let words = self.words(typed(self.since), typed(self.until)).into_iter();
        let older = self.older_than.map(|age| format!("older-than {age:?}"));
        let words = words.map(|(name, value)| format!("{name} {value}"));
        words.chain(older).collect()
    }

    fn words(&self, since: Option<String>, until: Option<String>) -> Vec<(&'static str, String)> {
        let mut words: Vec<(&str, String)> = Vec::new();
        words.extend(self.tenant.iter().map(|one| ("tenant", one.to_string())));
        words.extend(self.kind.iter().map(|one| ("type", one.as_str().into())));
        let dispositions = self.disposition.iter();
        words.extend(dispositions.map(|one| ("disposition", one.as_str().into())));
        words.extend(self.code.iter().map(|one| ("code", one.as_str().into())));
        words.extend(self.stage.iter().map(|one| ("stage", one.as_str().into())));
        words.extend(since.map(|at| ("since", at)));
        words.extend(until.map(|at| ("until", at)));
        words.extend(self.event_id.iter().map(|id| ("event-id", id.clone())));
        let partitions = self.partition.iter();
        words.extend(partitions.map(|one| ("partition", one.to_string())));
        words.extend(self.offset.map(|one| ("offset", one.to_string())));
        words.extend(self.mobile.as_ref().map(|_| ("mobile", "-".to_owned())));
        words.extend(self.limit.map(|one| ("limit", one.to_string())));
        words
    }

    /// Fixes its times, and the numbers that it is about.
    #[must_use]
    pub fn at(&self, now: EpochMs, numbers: Option<Numbers>) -> Selection<'_> {
        let until = self.until.map(|moment| moment.at(now));
        let older = self.older_than.map(|age| now.minus(age));
        Selection {
            filter: self,
            since: self.since.map(|moment| moment.at(now)),
            until: until.into_iter().chain(older).min(),
            numbers,
        }
    }
}

/// A number was typed where others can see it.
pub(crate) const NUMBER_TYPED: Usage =
    Usage("write --mobile -, and the number to standard input: others can see arguments");

/// A filter whose times are fixed.
#[derive(Debug, Clone)]
pub struct Selection<'a> {
    filter: &'a Filter,
    since: Option<EpochMs>,
    until: Option<EpochMs>,
    numbers: Option<Numbers>,
}

impl Selection<'_> {
    /// Where it is worth looking.
    #[must_use]
    pub fn bounds(&self) -> Bounds {
        Bounds {
            partitions: self.filter.partition.clone(),
            offset: self.filter.offset,
            since: self.since,
        }
    }

    /// So many at most.
    #[must_use]
    pub fn limit(&self) -> u64 {
        self.filter.limit.unwrap_or(u64::MAX)
    }

    /// Whether it is about this record.
    #[must_use]
    pub fn takes(&self, letter: &Letter) -> bool {
        let filter = self.filter;
        let position = &letter.record().position;
        self.takes_time(letter.written())
            && any(&filter.disposition, letter.disposition())
            && any(&filter.code, letter.code())
            && any(&filter.stage, letter.stage())
            && (filter.partition.is_empty() || filter.partition.contains(&position.partition))
            && filter.offset.is_none_or(|offset| offset == position.offset)
            && any(&filter.kind, letter.kind().and_then(RequestType::parse))
            && (filter.tenant.is_empty()
                || letter
                    .tenant()
                    .is_some_and(|tenant| filter.tenant.iter().any(|one| one.have(tenant))))
            && (filter.event_id.is_empty() || filter.event_id.contains(&letter.event_id()))
            && self.numbers.as_ref().is_none_or(|all| matches(all, letter))
    }

    /// A record without a time is never within one.
    fn takes_time(&self, written: Option<EpochMs>) -> bool {
        let after = |since| written.is_some_and(|at| at >= since);
        let before = |until| written.is_some_and(|at| at < until);
        self.since.is_none_or(after) && self.until.is_none_or(before)
    }
}

fn matches(numbers: &Numbers, letter: &Letter) -> bool {
    match letter.submission() {
        Ok(submission) => submission.mobile().is_some_and(|one| numbers.has(one)),
        Err(_) => numbers.are_in(letter.record().value.as_deref().unwrap_or_default()),
    }
}

fn any<T: PartialEq>(wanted: &[T], is: Option<T>) -> bool {
    wanted.is_empty() || is.is_some_and(|is| wanted.contains(&is))
}

impl Selection<'_> {
    /// Since when, if it says so.
    #[must_use]
    pub fn since(&self) -> Option<EpochMs> {
        self.since
    }

    /// As it would be typed to select the same again; of numbers, that there are some.
    #[must_use]
    pub fn words(&self) -> Vec<(&'static str, String)> {
        let exact = |at: Option<EpochMs>| at.map(rfc3339_exact);
        self.filter.words(exact(self.since), exact(self.until))
    }
}

/// As it would be typed, without numbers: for plans and audit records.
impl fmt::Display for Selection<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = self.words().into_iter().map(|(name, value)| {
            let value = match name {
                "event-id" => without_numbers(&value),
                _ => value,
            };
            format!("--{name} {value}")
        });
        f.write_str(&words.collect::<Vec<_>>().join(" "))
    }
}

/// A tenant, or all below one.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Tenants {
    id: String,
    below: bool,
}

impl Tenants {
    fn parse(text: &str) -> Result<Self, &'static str> {
        let (id, below) = match text.strip_suffix(".*") {
            Some(id) => (id, true),
            None => (text, false),
        };
        if !TenantId::is_valid(id) {
            return Err("write a tenant id as pb.amritsar, or pb.* for all below pb");
        }
        let id = id.to_owned();
        Ok(Self { id, below })
    }

    fn have(&self, tenant: &str) -> bool {
        if !self.below {
            return tenant == self.id;
        }
        let rest = tenant.strip_prefix(self.id.as_str());
        rest.is_some_and(|rest| rest.starts_with('.'))
    }
}

impl fmt::Display for Tenants {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.id, if self.below { ".*" } else { "" })
    }
}

/// One of the request types.
///
/// # Errors
///
/// With the words that there are.
pub(super) fn kind(text: &str) -> Result<RequestType, String> {
    RequestType::parse(text).ok_or_else(|| "one of login, register, passwordreset".to_owned())
}

fn disposition(text: &str) -> Result<Disposition, String> {
    let words = Disposition::ALL.iter().map(|one| one.as_str());
    Disposition::from_word(text).ok_or_else(|| one_of(words))
}

fn code(text: &str) -> Result<Code, String> {
    Code::from_word(text).ok_or_else(|| one_of(Code::ALL.iter().map(|one| one.as_str())))
}

fn stage(text: &str) -> Result<Stage, String> {
    Stage::from_word(text).ok_or_else(|| one_of(Stage::ALL.iter().map(|one| one.as_str())))
}

fn one_of<'a>(words: impl Iterator<Item = &'a str>) -> String {
    format!("one of {}", words.collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use rstest::rstest;

    use super::super::letter::tests::{LOGIN, REFUSED, letter};
    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        filter: Filter,
    }

    const WRITTEN: EpochMs = EpochMs(1_764_165_600_000);

    fn filter(line: &str) -> Filter {
        let words = std::iter::once("dlq").chain(line.split_whitespace());
        Line::try_parse_from(words).expect("a filter").filter
    }

    fn takes(line: &str) -> bool {
        let filter = filter(line);
        let numbers = filter
            .wants_numbers()
            .expect("no number typed")
            .then(|| Numbers::read(&mut &b"+91 98765 43210\n"[..]).expect("a number"));
        let now = WRITTEN.plus(Duration::from_secs(3_600));
        filter.at(now, numbers).takes(&letter(LOGIN, REFUSED))
    }

    #[rstest]
    #[case::no_option("", true)]
    #[case::tenant("--tenant pb.amritsar", true)]
    #[case::all_below("--tenant pb.*", true)]
    #[case::not_the_state_itself("--tenant pb", false)]
    #[case::not_what_begins_alike("--tenant p.*", false)]
    #[case::any_of_several("--tenant mh --tenant pb.amritsar", true)]
    #[case::kind("--type login", true)]
    #[case::another_kind("--type register", false)]
    #[case::disposition("--disposition refused", true)]
    #[case::another_disposition("--disposition poison --disposition expired", false)]
    #[case::code("--code service-refused", true)]
    #[case::another_code("--code not-json", false)]
    #[case::stage("--stage user", true)]
    #[case::another_stage("--stage otp", false)]
    #[case::since_takes_its_edge("--since 2025-11-26T14:00:00Z", true)]
    #[case::since_later("--since 59m", false)]
    #[case::until_leaves_its_edge_out("--until 2025-11-26T19:30:00+05:30", false)]
    #[case::until_later("--until 59m", true)]
    #[case::older("--older-than 59m", true)]
    #[case::not_older("--older-than 61m", false)]
    #[case::the_earlier_of_both("--until 59m --older-than 61m", false)]
    #[case::event("--event-id order-17", true)]
    #[case::another_event("--event-id order-1", false)]
    #[case::partition("--partition 3 --partition 0", true)]
    #[case::another_partition("--partition 0", false)]
    #[case::offset("--partition 3 --offset 42", true)]
    #[case::another_offset("--partition 3 --offset 43", false)]
    #[case::number("--mobile -", true)]
    #[case::all_of_them(
        "--tenant pb.amritsar --type login --code service-refused --since 2h --mobile -",
        true
    )]
    #[case::all_but_one(
        "--tenant pb.amritsar --type login --code not-json --since 2h --mobile -",
        false
    )]
    fn options_combine(#[case] line: &str, #[case] taken: bool) {
        assert_eq!(takes(line), taken, "{line}");
    }

    #[rstest]
    #[case::word("--code nonsense", "one of empty-value, not-utf8")]
    #[case::tenant("--tenant p*", "pb.* for all below pb")]
    #[case::zone("--since 2025-11-26T14:00:00", "with its zone")]
    #[case::offset_alone("--offset 3", "--partition")]
    fn a_wrong_word_is_told_with_the_right_ones(#[case] line: &str, #[case] told: &str) {
        let words = std::iter::once("dlq").chain(line.split_whitespace());
        let error = Line::try_parse_from(words).err().expect("a wrong filter");
        assert!(error.to_string().contains(told), "{error}");
    }

    #[test]
    fn a_number_on_the_command_line_is_refused_and_not_repeated() {
        let error = filter("--mobile 9876543210").wants_numbers();
        assert_eq!(error, Err(NUMBER_TYPED));
        assert!(!NUMBER_TYPED.to_string().contains("98765"));
    }

    #[test]
    fn it_is_told_without_numbers() {
        let filter = filter("--tenant pb.* --event-id x9876543210 --since 1h --mobile - --limit 5");
        let numbers = Numbers::read(&mut &b"9876543210"[..]).expect("a number");
        assert_eq!(
            filter.at(WRITTEN, Some(numbers)).to_string(),
            "--tenant pb.* --since 2025-11-26T13:00:00Z --event-id x*** --mobile - --limit 5"
        );
    }
}
