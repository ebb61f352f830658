//! A mobile-number pattern: a regular expression from outside, in Java's dialect.
//!
//! Who writes the rules may have made a mistake, or may mean harm, and one number must not hang a
//! worker. So everything about a pattern is bounded: its length, how often it repeats something,
//! the size it compiles to, and the steps that one verdict may take. What is over a bound is
//! treated as a pattern that does not compile.
//!
//! What is compiled is a translation ([`translate`]), since the dialects differ in small things. It
//! has to be right for what a number can consist of (digits, `+`, `-` and spaces) and for nothing
//! else. A construct that Java does not have does not compile here either. One thing is given up:
//! Java's `(?x)` (comments in the pattern).

use std::sync::{Arc, OnceLock};

use fancy_regex::{Regex, RegexBuilder};

/// The longest pattern that is compiled or shown, in bytes. Those of whole countries have fewer
/// than 100.
const MAX_LENGTH: usize = 1_000;

/// How often a pattern may repeat something, nested repetitions multiplied. A number has 20
/// characters.
const MAX_REPETITION: u64 = 10_000;

/// The steps back that one verdict may take. Honest patterns need some dozens, and this many take
/// about a millisecond.
const BACKTRACK_LIMIT: usize = 10_000;

/// What a pattern, or a part that is handed to the linear-time engine, may compile to, in bytes.
const SIZE_LIMIT: usize = 256 * 1024;

/// The instructions that a pattern may compile to for the backtracking engine.
const PROGRAM_LIMIT: usize = 20_000;

/// A pattern, compiled at its first use and kept; clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Pattern {
    text: Arc<str>,
    compiled: Arc<OnceLock<Option<Regex>>>,
}

/// What a pattern says of a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The whole number matches.
    Match,
    /// It does not.
    Mismatch,
    /// The pattern does not compile, or came to no end within its limit.
    Broken,
}

impl Pattern {
    /// A pattern that is too long to be compiled keeps as much of its text as is shown.
    pub(crate) fn new(text: &str) -> Self {
        let compiled = OnceLock::new();
        if text.len() > MAX_LENGTH {
            compiled.get_or_init(|| None);
        }
        Self {
            text: text[..text.floor_char_boundary(MAX_LENGTH)].into(),
            compiled: Arc::new(compiled),
        }
    }

    /// The pattern as it was written.
    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it can be used: it compiles, within its bounds.
    pub(crate) fn is_usable(&self) -> bool {
        self.regex().is_some()
    }

    fn regex(&self) -> Option<&Regex> {
        let regex = self.compiled.get_or_init(|| compile(&self.text));
        regex.as_ref()
    }

    /// Whether the *whole* number matches, as Java's `matches` has it.
    pub(crate) fn judge(&self, number: &str) -> Verdict {
        match self.regex().map(|regex| regex.is_match(number)) {
            Some(Ok(true)) => Verdict::Match,
            Some(Ok(false)) => Verdict::Mismatch,
            Some(Err(_)) | None => Verdict::Broken,
        }
    }
}

fn compile(pattern: &str) -> Option<Regex> {
    let translated = translate(pattern)?;
    // The group keeps `a|b` whole; `$` would also match before a line end.
    RegexBuilder::new(&format!(r"\A(?:{translated})\z"))
        .backtrack_limit(BACKTRACK_LIMIT)
        .delegate_size_limit(SIZE_LIMIT)
        .delegate_dfa_size_limit(SIZE_LIMIT)
        .max_prog_size(PROGRAM_LIMIT)
        .build()
        .ok()
}

/// The same pattern in our engine's dialect; none where it is over a bound, is not balanced, or has
/// a construct that Java does not know.
fn translate(pattern: &str) -> Option<String> {
    let mut translation = Translation {
        rest: pattern,
        out: String::new(),
        groups: vec![Group::default()],
    };
    while let Some(next) = translation.next() {
        match next {
            '\\' => translation.escape()?,
            '[' => translation.class()?,
            '(' => translation.open_group()?,
            ')' => translation.close_group()?,
            '{' => translation.repetition()?,
            other => translation.atom(other),
        }
    }
    (translation.groups.len() == 1).then_some(translation.out)
}

struct Translation<'a> {
    rest: &'a str,
    out: String,
    groups: Vec<Group>,
}

/// How often the parts of an open group repeat something.
#[derive(Default)]
struct Group {
    /// The part that a repetition would be of: the last one.
    last: u64,
    /// The most of any part.
    most: u64,
}

/// Where in a range the reading of a class is.
#[derive(Clone, Copy)]
enum Range {
    /// A dash here would be a character.
    No,
    /// A character was read: a dash would open a range.
    Possible,
    /// The dash was read.
    Open,
}

impl Range {
    fn after_character(self) -> Self {
        match self {
            Self::No | Self::Possible => Self::Possible,
            Self::Open => Self::No,
        }
    }
}

impl Translation<'_> {
    fn next(&mut self) -> Option<char> {
        let next = self.rest.chars().next()?;
        self.rest = &self.rest[next.len_utf8()..];
        Some(next)
    }

    fn eat(&mut self, prefix: &str) -> bool {
        match self.rest.strip_prefix(prefix) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    /// Takes the text up to `end` and passes over `end`.
    fn until(&mut self, end: &str) -> Option<&str> {
        let (taken, rest) = self.rest.split_once(end)?;
        self.rest = rest;
        Some(taken)
    }

    fn part(&mut self, repeated: u64) {
        if let Some(group) = self.groups.last_mut() {
            group.last = repeated;
            group.most = group.most.max(repeated);
        }
    }

    fn atom(&mut self, character: char) {
        self.out.push(character);
        if !matches!(character, '*' | '+' | '?') {
            self.part(1);
        }
    }

    fn literal(&mut self, character: char) {
        if character.is_ascii_punctuation() {
            // Spelt as a number, since some escaped characters mean something to our engine.
            self.out
                .push_str(&format!(r"\x{:02X}", u32::from(character)));
        } else {
            self.out.push(character);
        }
        self.part(1);
    }

    fn escape(&mut self) -> Option<()> {
        match self.next()? {
            'Q' => {
                while !self.rest.is_empty() && !self.eat(r"\E") {
                    let quoted = self.next()?;
                    self.literal(quoted);
                }
                return Some(());
            }
            // Java's are of ASCII.
            'd' => self.out.push_str("[0-9]"),
            'D' => self.out.push_str("[^0-9]"),
            'w' => self.out.push_str("[0-9A-Za-z_]"),
            'W' => self.out.push_str("[^0-9A-Za-z_]"),
            's' => self.out.push_str(r"[ \t\n\x0B\x0C\r]"),
            'S' => self.out.push_str(r"[^ \t\n\x0B\x0C\r]"),
            // Horizontal and vertical white space; to our engine `\h` is a hexadecimal digit.
            'h' => self.out.push_str(r"[ \t]"),
            'H' => self.out.push_str(r"[^ \t]"),
            'v' => self.out.push_str(r"[\n\x0B\x0C\r]"),
            'V' => self.out.push_str(r"[^\n\x0B\x0C\r]"),
            property @ ('p' | 'P') => self.property(property)?,
            same @ ('A' | 'B' | 'G' | 'R' | 'Z' | 'a' | 'b' | 'e' | 'f' | 'k' | 'n' | 'r' | 't'
            | 'u' | 'x' | 'z')
            | same @ '1'..='9' => {
                self.out.push('\\');
                self.out.push(same);
            }
            letter if letter.is_ascii_alphanumeric() => return None,
            literal => self.literal(literal),
        }
        self.part(1);
        Some(())
    }

    /// `\p{…}`: Java's names for classes of ASCII; other names are the same in both.
    fn property(&mut self, letter: char) -> Option<()> {
        if !self.eat("{") {
            let name = self.next()?;
            self.out.extend(['\\', letter, name]);
            return Some(());
        }
        let name = self.until("}")?.to_owned();
        let ascii = match name.as_str() {
            "Lower" => "a-z",
            "Upper" => "A-Z",
            "ASCII" => r"\x00-\x7F",
            "Alpha" => "A-Za-z",
            "Digit" | "IsDigit" => "0-9",
            "Alnum" => "0-9A-Za-z",
            "Punct" => r"!-/:-@\[-`{-\x7E",
            "Graph" => r"!-\x7E",
            "Print" => r" -\x7E",
            "Blank" => r" \t",
            "Cntrl" => r"\x00-\x1F\x7F",
            "XDigit" => "0-9A-Fa-f",
            "Space" => r" \t\n\x0B\x0C\r",
            _ => {
                self.out.push_str(&format!("\\{letter}{{{name}}}"));
                return Some(());
            }
        };
        let negation = if letter == 'P' { "^" } else { "" };
        self.out.push_str(&format!("[{negation}{ascii}]"));
        Some(())
    }

    /// A class, up to its end, with the classes in it. What our engine would take for an operation
    /// on sets (`--`, `~~`) is spelt so that it does not.
    fn class(&mut self) -> Option<()> {
        self.open_class();
        let mut depth = 1;
        let mut range = Range::No;
        while depth > 0 {
            range = match (range, self.next()?) {
                // No range ends in a class.
                (Range::Open, '\\') if self.rest.starts_with(is_class) => return None,
                (_, '\\') if self.rest.starts_with(is_class) => {
                    self.escape()?;
                    Range::No
                }
                (before, '\\') => {
                    self.escape()?;
                    before.after_character()
                }
                // A named class to our engine, to Java a class of a colon and letters: a mistake.
                (_, '[') if self.rest.starts_with(':') => return None,
                (_, '[') => {
                    self.open_class();
                    depth += 1;
                    Range::No
                }
                (_, ']') => {
                    self.out.push(']');
                    depth -= 1;
                    Range::No
                }
                (Range::Possible, '-') if !self.rest.starts_with(['[', ']']) => {
                    self.out.push('-');
                    Range::Open
                }
                (before, character @ ('-' | '~')) => {
                    self.literal(character);
                    before.after_character()
                }
                (before, other) => {
                    self.out.push(other);
                    before.after_character()
                }
            };
        }
        self.part(1);
        Some(())
    }

    fn open_class(&mut self) {
        self.out.push('[');
        if self.eat("^") {
            self.out.push('^');
        }
        if self.eat("]") {
            self.literal(']');
        }
    }

    fn open_group(&mut self) -> Option<()> {
        if self.rest.starts_with('*') {
            return None;
        }
        if !self.eat("?") {
            self.out.push('(');
        } else if self.rest.starts_with([':', '=', '!', '>', '<']) {
            self.out.push_str("(?");
        } else {
            return self.flags();
        }
        self.groups.push(Group::default());
        Some(())
    }

    /// `(?i)` and `(?i:`. Of Java's flags `d`, `u` and `U` are about other characters than a
    /// number's, and `x` is not taken.
    fn flags(&mut self) -> Option<()> {
        let end = self.rest.find([')', ':'])?;
        let (flags, rest) = self.rest.split_at(end);
        if !flags
            .chars()
            .all(|flag| matches!(flag, 'i' | 'm' | 's' | 'd' | 'u' | 'U' | '-'))
        {
            return None;
        }
        self.rest = rest;
        let (on, off) = flags.split_once('-').unwrap_or((flags, ""));
        let known = |flags: &str| {
            flags
                .chars()
                .filter(|flag| matches!(flag, 'i' | 'm' | 's'))
                .collect::<String>()
        };
        let (on, off) = (known(on), known(off));
        let dash = if off.is_empty() { "" } else { "-" };
        match self.next()? {
            ':' => {
                self.out.push_str(&format!("(?{on}{dash}{off}:"));
                self.groups.push(Group::default());
            }
            _ if on.is_empty() && off.is_empty() => {}
            _ => self.out.push_str(&format!("(?{on}{dash}{off})")),
        }
        Some(())
    }

    fn close_group(&mut self) -> Option<()> {
        let group = self.groups.pop()?;
        self.out.push(')');
        self.part(group.most.max(1));
        (!self.groups.is_empty()).then_some(())
    }

    /// `{n}`, `{n,}`, `{n,m}`: of the part before it.
    fn repetition(&mut self) -> Option<()> {
        let bounds = self.until("}")?.to_owned();
        let (least, most) = match bounds.split_once(',') {
            Some((least, "")) => (count(least)?, count(least)?),
            Some((least, most)) => (count(least)?, count(most)?),
            None => (count(&bounds)?, count(&bounds)?),
        };
        let last = self.groups.last()?.last;
        let repeated = last
            .checked_mul(most.max(1))
            .filter(|repeated| (1..=MAX_REPETITION).contains(repeated))?;
        if least > most {
            return None;
        }
        self.out.push_str(&format!("{{{bounds}}}"));
        self.part(repeated);
        Some(())
    }
}

/// Whether an escape with this letter is a class of characters.
fn is_class(letter: char) -> bool {
    matches!(
        letter.to_ascii_lowercase(),
        'd' | 'w' | 's' | 'h' | 'v' | 'p'
    )
}

fn count(digits: &str) -> Option<u64> {
    digits
        .bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| digits.parse().ok())
        .flatten()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    fn verdict(pattern: &str, number: &str) -> Verdict {
        Pattern::new(pattern).judge(number)
    }

    #[rstest]
    #[case::the_platforms(r"^[6-9][0-9]{9}$", "9876543210")]
    #[case::unanchored(r"[6-9][0-9]{9}", "9876543210")]
    #[case::alternatives(r"9876|9876543210", "9876543210")]
    #[case::anchored_alternatives(r"^98$|^76$", "76")]
    #[case::digit_class(r"\d{10}", "9876543210")]
    #[case::digit_class_in_a_class(r"[+\d\s-]+", "+91 98765-43210")]
    #[case::look_ahead(r"(?=9)(?!98\d{3}0)\d{10}", "9876543210")]
    #[case::look_behind(r"\d{9}(?<=9)\d(?<!9)", "9876543290")]
    #[case::possessive(r"9?+\d{9}+", "9876543210")]
    #[case::atomic(r"(?>98|9)\d{8}", "9876543210")]
    #[case::back_reference(r"(\d)\1+", "9999")]
    #[case::named_group(r"(?<first>\d)\k<first>", "99")]
    #[case::quoted(r"\Q+91\E\d{10}", "+919876543210")]
    #[case::quoted_to_the_end(r"\d\Q+-", "9+-")]
    #[case::horizontal_space(r"\d+\h\d+", "98765 43210")]
    #[case::ascii_class(r"\p{Digit}{10}", "9876543210")]
    #[case::ascii_class_in_a_class(r"[\p{Punct}\p{Digit}]+", "+91-98")]
    #[case::unicode_class(r"\p{Nd}+", "98")]
    #[case::negated_ascii_class(r"\P{Alpha}+", "98")]
    #[case::intersection(r"[0-9&&[^01]]+", "9876")]
    #[case::union(r"[0-4[5-9]]+", "9876")]
    #[case::range_to_a_dash(r"[+--]+", "+-")]
    #[case::range_from_a_dash(r"[--9]+", "-9")]
    #[case::dash_after_a_range(r"[0-9-\s]+", "98765-43 210")]
    #[case::dash_after_a_class(r"[\d-+]+", "+98-76")]
    #[case::dash_before_a_class(r"[+-[0-9]]+", "+98-76")]
    #[case::colon_in_a_class(r"[^:][:0-9]+", "98")]
    #[case::case_flag(r"(?i)\d+", "98")]
    #[case::flags_without_effect(r"(?u)(?d:\d)(?-U)+", "98")]
    #[case::escaped_plus(r"\+91\d+", "+9198")]
    #[case::code_point(r"\x2B\u0039\d", "+98")]
    #[case::closing_brace_alone(r"9}?8", "98")]
    #[case::lower_bound_alone(r"\d{2,}", "98765")]
    fn matches_as_java_does(#[case] pattern: &str, #[case] number: &str) {
        assert_eq!(verdict(pattern, number), Verdict::Match);
    }

    #[rstest]
    #[case::a_part_only(r"[6-9][0-9]{9}", "98765432101")]
    #[case::a_part_of_an_alternative(r"98|76", "98-76")]
    #[case::possessive_gives_nothing_back(r"\d++0", "9876543210")]
    #[case::counted_possessive_gives_nothing_back(r"\d{2,4}+9", "999")]
    #[case::atomic_gives_nothing_back(r"(?>9|98)7", "987")]
    #[case::hexadecimal_is_not_horizontal(r"\h", "9")]
    #[case::escaped_angle_is_a_character(r"\<98", "98")]
    #[case::back_reference_to_a_later_group(r"\1(9)", "99")]
    #[case::multiline_flag_moves_no_end(r"(?m)98$", "98-")]
    fn does_not_match_as_java_does_not(#[case] pattern: &str, #[case] number: &str) {
        assert_eq!(verdict(pattern, number), Verdict::Mismatch);
    }

    #[rstest]
    #[case::open_group("(98")]
    #[case::closed_group("98)")]
    #[case::closed_and_opened("98)|(76")]
    #[case::open_class("[0-9")]
    #[case::open_brace("9{")]
    #[case::letters_in_braces("9{x}")]
    #[case::no_lower_bound("9{,3}")]
    #[case::bounds_reversed("9{3,2}")]
    #[case::nothing_to_repeat("*9")]
    #[case::braces_first("{3}")]
    #[case::braces_first_in_a_group("9({3})")]
    #[case::backslash_last(r"9\")]
    #[case::unknown_escape(r"\y")]
    #[case::keep_out(r"9\K8")]
    #[case::subroutine(r"(9\g<1>?)")]
    #[case::recursion("9(?R)?")]
    #[case::condition("(9)?(?(1)8|7)")]
    #[case::verb("(*FAIL)")]
    #[case::comments("(?x)9 # nine")]
    #[case::python_group("(?P<a>9)")]
    #[case::back_reference_to_nothing(r"\2(9)")]
    #[case::class_of_a_colon_and_letters(r"[[:digit:]]+")]
    #[case::range_to_a_class(r"[9-\d]+")]
    fn what_java_does_not_take_is_broken(#[case] pattern: &str) {
        assert_eq!(verdict(pattern, "98"), Verdict::Broken);
    }

    #[rstest]
    #[case::exponential("(?=9)(9+)+8".to_owned())]
    #[case::exponential_with_back_reference(r"(9|99)+\1x".to_owned())]
    #[case::nested_counts("((((9{100}){100}){100}){100}){100}".to_owned())]
    #[case::counts_that_overflow(format!("{}9{}", "(?:".repeat(12), "{60000})".repeat(12)))]
    #[case::look_around_repeated("(?:(?=9)9{0,100}){0,100}(?!9)8".to_owned())]
    #[case::deep("(".repeat(499) + "9" + &")".repeat(499))]
    #[case::wide(r"\pL{9000}".to_owned())]
    #[case::many_wide(r"(?:\PL{99}){99}|".repeat(60))]
    #[case::too_long("9".repeat(1_001))]
    #[case::a_megabyte("[".repeat(1 << 20))]
    #[case::variable_look_behind(r"(?<=9{1,5000}\pL{0,1000})8".to_owned())]
    fn a_hostile_pattern_ends_soon(#[case] pattern: String) {
        let start = Instant::now();
        let verdict = verdict(&pattern, "99999999999999999999");
        assert_ne!(verdict, Verdict::Match);
        assert!(
            start.elapsed() < Duration::from_secs(10),
            "took {:?}",
            start.elapsed()
        );
    }

    #[test]
    fn nested_repetitions_are_multiplied() {
        assert!(translate("(?:9{0,100}8){2,100}").is_some());
        assert_eq!(translate("(?:9{0,101}8){2,100}"), None);
        assert_eq!(translate("(?:9{101,}8){100}"), None);
        assert!(translate("9{100}8{100}|7{100}").is_some());
    }

    #[test]
    fn an_exponential_pattern_is_broken_not_a_mismatch() {
        assert_eq!(
            verdict(r"(?:9+|9{2})+(?!9)(?<!9)", "99999999999999999999"),
            Verdict::Broken
        );
    }

    #[test]
    fn a_long_pattern_is_shown_in_part() {
        let pattern = Pattern::new(&"९".repeat(1_000));
        assert_eq!(pattern.as_str(), "९".repeat(333));
        assert_eq!(pattern.judge("9"), Verdict::Broken);
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(pattern in r"[\[\](){}\\|^$?*+,.:<>=!&~0-9a-zA-Z-]{0,40}", number in "[0-9+ -]{1,20}") {
            let _ = verdict(&pattern, &number);
        }

        #[test]
        fn a_quoted_number_matches_itself_alone(number in "[0-9+ -]{1,20}", other in "[0-9+ -]{1,20}") {
            let pattern = format!(r"\Q{number}\E");
            prop_assert_eq!(verdict(&pattern, &number), Verdict::Match);
            prop_assert_eq!(verdict(&pattern, &other) == Verdict::Match, number == other);
        }
    }
}
