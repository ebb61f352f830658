//! The texts of one tenant and locale: whether each has its place for the OTP, and what Java, phones and the
//! network make of it.

use super::item::{Area, Item};
use super::segments::Segments;
use crate::domain::request::RequestType;
use crate::domain::secret::Otp;
use crate::messages::{MAX_SMS_LENGTH, TextCode, TextSet, compose, sms_code};
use crate::template::{Piece, pieces};

/// Citizens wait for the last one, and each is paid for.
const MANY: usize = 3;

const KINDS: [RequestType; 3] = [
    RequestType::Register,
    RequestType::Login,
    RequestType::PasswordReset,
];

/// As long as egov-otp's.
fn otp() -> Otp {
    Otp::new("000000".to_owned()).expect("six digits are an OTP")
}

/// What a set of texts is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Whose<'a> {
    /// As egov-localization knows it.
    pub(super) tenant: &'a str,
    pub(super) locale: &'a str,
    /// `localization.module`.
    pub(super) module: &'a str,
    /// Whether other locales' requests get these where they lack one.
    pub(super) default: bool,
}

/// Where there is no egov-localization.
pub(super) fn built_in() -> Item {
    let none = TextSet::default();
    let texts = KINDS.map(|kind| compose(kind, &otp(), &none, &none).sms);
    Item::ok(Area::Texts, "built-in texts", lengths(&texts))
}

/// One item where all is well, else one for each text that is not.
pub(super) fn judge(texts: &TextSet, whose: Whose<'_>) -> Vec<Item> {
    let name = format!("{} {}", whose.tenant, whose.locale);
    let mut items: Vec<Item> = KINDS
        .iter()
        .filter_map(|kind| sms(texts, *kind, whose))
        .collect();
    let unusable = texts.unusable();
    let sms = KINDS.map(sms_code);
    items.extend(
        unusable
            .filter(|code| !sms.contains(code))
            .map(|code| without_place(code, whose, Item::warning)),
    );
    items.extend(TextCode::ALL.into_iter().filter_map(|code| {
        let detail = odd(code, texts.found(code)?)?;
        Some(Item::warning(Area::Texts, &item_name(code, whose), detail).fix(upsert(code, whose)))
    }));
    let whole: Vec<String> = KINDS
        .iter()
        .filter_map(|kind| texts.sms(*kind, &otp()))
        .collect();
    if items.is_empty() {
        items.push(Item::ok(Area::Texts, &name, lengths(&whole)));
    }
    items
}

/// What is wrong with the SMS of a type, if anything.
fn sms(texts: &TextSet, kind: RequestType, whose: Whose<'_>) -> Option<Item> {
    let code = sms_code(kind);
    let name = item_name(code, whose);
    let Some(text) = texts.sms(kind, &otp()) else {
        return Some(match texts.found(code) {
            Some(_) => without_place(code, whose, Item::failure),
            None => missing(code, whose),
        });
    };
    let Segments {
        alphabet,
        length,
        count,
    } = Segments::of(&text);
    let units = text.encode_utf16().count();
    if units > MAX_SMS_LENGTH {
        let detail = format!(
            "{units} characters, more than the {MAX_SMS_LENGTH} that are sent: another text goes out"
        );
        return Some(Item::failure(Area::Texts, &name, detail).fix(upsert(code, whose)));
    }
    (count > MANY).then(|| {
        let detail = format!(
            "{count} segments ({}, {length} places): each is paid for",
            alphabet.as_str()
        );
        Item::warning(Area::Texts, &name, detail).fix(upsert(code, whose))
    })
}

/// What the Java service would have failed at, or done otherwise, in a text.
fn odd(code: TextCode, text: &str) -> Option<String> {
    let (mut plain, mut places, mut strays) = (0, 0, 0);
    for piece in pieces(text) {
        match piece {
            Piece::Place(place) => {
                places += 1;
                plain += usize::from(!place.numbered);
            }
            Piece::Stray => strays += 1,
            Piece::Text(_) | Piece::Percent | Piece::NewLine => {}
        }
    }
    if code.is_subject() {
        let said =
            "has a place for the OTP: a subject is sent as it is, since locked screens show it";
        return (places > 0).then(|| said.to_owned());
    }
    if plain > 1 {
        return Some(format!(
            "has %s {plain} times: each is the OTP here, and the Java service fails at the second; write %1$s"
        ));
    }
    (strays > 0).then(|| {
        "has a percent sign that begins no place: it is sent as it is, and the Java service fails at it; write %%"
            .to_owned()
    })
}

/// Whether browsers and phones fill the OTP in by themselves: the last line is `@host #OTP`.
fn fills_in(text: &str) -> bool {
    let last = text.lines().next_back().unwrap_or_default();
    let place = format!(" #{}", otp().expose());
    last.strip_prefix('@')
        .and_then(|rest| rest.split_once(&place))
        .is_some_and(|(host, _)| !host.is_empty() && !host.contains(' '))
}

fn missing(code: TextCode, whose: Whose<'_>) -> Item {
    let instead = if whose.default {
        "the built-in text goes out, which operators in India discard where it is not registered"
            .to_owned()
    } else {
        "the default locale's goes out".to_owned()
    };
    let detail = format!("not there: {instead}");
    Item::warning(Area::Texts, &item_name(code, whose), detail).fix(upsert(code, whose))
}

fn without_place(code: TextCode, whose: Whose<'_>, item: fn(Area, &str, String) -> Item) -> Item {
    let detail = "has no place for the OTP (%s): another text goes out".to_owned();
    item(Area::Texts, &item_name(code, whose), detail).fix(upsert(code, whose))
}

fn item_name(code: TextCode, whose: Whose<'_>) -> String {
    format!("{} {} {}", whose.tenant, whose.locale, code.as_str())
}

/// What mends it, in egov-localization.
fn upsert(code: TextCode, whose: Whose<'_>) -> String {
    format!(
        "in egov-localization, POST /localization/messages/v1/_upsert for tenantId {}: code {}, module {}, locale {}, \
         with %s where the OTP belongs",
        whose.tenant,
        code.as_str(),
        whose.module,
        whose.locale
    )
}

fn lengths(texts: &[String]) -> String {
    let longest = texts
        .iter()
        .map(|text| Segments::of(text))
        .max_by_key(|segments| (segments.count, segments.length));
    let Some(longest) = longest else {
        return "no SMS".to_owned();
    };
    format!(
        "{} SMS with a place for the OTP; the longest: {} segment(s), {}, {} places; \
         phones can fill in {} of them (last line @host #%1$s)",
        texts.len(),
        longest.count,
        longest.alphabet.as_str(),
        longest.length,
        texts.iter().filter(|text| fills_in(text)).count()
    )
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::super::item::Verdict;
    use super::*;

    const WHOSE: Whose<'_> = Whose {
        tenant: "pb",
        locale: "en_IN",
        module: "egov-user",
        default: true,
    };

    /// All SMS, with this one's text, or without it.
    fn judged(code: &str, text: Option<&str>) -> Vec<Item> {
        let all = KINDS.map(|kind| {
            (
                sms_code(kind).as_str().to_owned(),
                "Your OTP is %s.".to_owned(),
            )
        });
        let mut all: Vec<_> = all.into_iter().filter(|(one, _)| one != code).collect();
        all.extend(text.map(|text| (code.to_owned(), text.to_owned())));
        judge(&TextSet::from_messages(all), WHOSE)
    }

    #[rstest]
    #[case::no_place("sms.login.otp.msg", Some("Your OTP."), Verdict::Failure)]
    #[case::missing("sms.login.otp.msg", None, Verdict::Warning)]
    #[case::too_long("sms.login.otp.msg", Some(&*("x".repeat(1_200) + "%s")), Verdict::Failure)]
    #[case::many_segments("sms.login.otp.msg", Some(&*("ह".repeat(202) + "%s")), Verdict::Warning)]
    #[case::email_without_place("email.login.otp.body", Some("Your OTP."), Verdict::Warning)]
    #[case::twice("sms.login.otp.msg", Some("%s and %s"), Verdict::Warning)]
    #[case::stray("email.login.otp.body", Some("%s, 5% off"), Verdict::Warning)]
    #[case::in_a_subject("email.login.otp.sub", Some("%s is your OTP"), Verdict::Warning)]
    fn a_text_that_does_not_serve_is_named_with_its_fix(
        #[case] code: &str,
        #[case] text: Option<&str>,
        #[case] verdict: Verdict,
    ) {
        let items = judged(code, text);
        assert_eq!(items.len(), 1, "{items:?}");
        assert_eq!(items[0].verdict, verdict);
        assert_eq!(items[0].name, format!("pb en_IN {code}"));
        assert!(items[0].fix[0].contains(&format!("code {code}, module egov-user")));
    }

    #[test]
    fn texts_that_serve_are_one_line() {
        let items = judged("sms.login.otp.msg", Some("आपका ओटीपी %s है।"));
        assert_eq!((items.len(), items[0].verdict), (1, Verdict::Ok));
        let said = "3 SMS with a place for the OTP; the longest: 1 segment(s), UCS-2, 21 places; \
                    phones can fill in 0 of them (last line @host #%1$s)";
        assert_eq!(items[0].detail, said);
    }

    #[rstest]
    #[case::numbered_twice("OTP %1$s.\n@example.org #%1$s", 1)]
    #[case::without_a_host("OTP %1$s.\n@ #%1$s", 0)]
    #[case::not_the_last_line("@example.org #%1$s\nOTP", 0)]
    fn texts_that_phones_fill_in_are_counted(#[case] text: &str, #[case] count: usize) {
        let items = judged("sms.login.otp.msg", Some(text));
        let said = format!("phones can fill in {count} of them");
        assert_eq!(items.len(), 1, "{items:?}");
        assert!(items[0].detail.contains(&said), "{items:?}");
    }

    #[test]
    fn built_in_texts_are_short() {
        assert!(
            built_in().detail.contains("1 segment(s), GSM-7, 69 places"),
            "{:?}",
            built_in()
        );
    }
}
