//! The texts of one tenant and locale: whether each has its place for the OTP, and what the network makes
//! of it.

use super::item::{Area, Item};
use super::segments::Segments;
use crate::domain::request::RequestType;
use crate::domain::secret::Otp;
use crate::messages::{MAX_SMS_LENGTH, TextCode, TextSet, compose, sms_code};

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
        "{} SMS with a place for the OTP; the longest: {} segment(s), {}, {} places",
        texts.len(),
        longest.count,
        longest.alphabet.as_str(),
        longest.length
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
    #[case::too_long("sms.login.otp.msg", Some(&*"%s".repeat(600)), Verdict::Failure)]
    #[case::many_segments("sms.login.otp.msg", Some(&*("ह".repeat(202) + "%s")), Verdict::Warning)]
    #[case::email_without_place("email.login.otp.body", Some("Your OTP."), Verdict::Warning)]
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
        let said = "3 SMS with a place for the OTP; the longest: 1 segment(s), UCS-2, 21 places";
        assert_eq!(items[0].detail, said);
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
