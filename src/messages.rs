//! The texts that citizens read: which one is taken, and how the OTP gets into it.
//!
//! In India a text must match a template that is registered with the operators to the letter, so a
//! text passes through unchanged but for the OTP. An email's subject is sent as it is. A text that cannot be used (it has no place for
//! the OTP, or the SMS consumer would refuse its length) is treated as if it were not there.

use std::fmt;

use crate::domain::request::RequestType;
use crate::domain::secret::Otp;
use crate::template::{self, has_place};

/// The longest SMS that egov-notification-sms takes, in UTF-16 units, as Java counts.
pub const MAX_SMS_LENGTH: usize = 1_000;

/// The longest template that is kept, in bytes: room for a mail, none for an answer gone wrong.
const MAX_TEMPLATE_LENGTH: usize = 64 * 1024;

/// The texts that this service uses, by their localization code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TextCode {
    /// The SMS of a registration.
    SmsRegister,
    /// The SMS of a login.
    SmsLogin,
    /// The SMS of a password reset.
    SmsPasswordReset,
    /// The subject of a login's email.
    EmailLoginSubject,
    /// The body of a login's email.
    EmailLoginBody,
    /// The subject of a password reset's email.
    EmailPasswordResetSubject,
    /// The body of a password reset's email.
    EmailPasswordResetBody,
}

/// One locale's texts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TextSet {
    templates: [Option<Box<str>>; TextCode::ALL.len()],
}

/// A text with its place for the OTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Template<'a>(&'a str);

/// The texts of one request, the OTP in them. They print themselves masked.
#[derive(Clone, PartialEq, Eq)]
pub struct Texts {
    /// The SMS, at most 1,000 characters.
    pub sms: String,
    /// The email's subject and body, for the types that have one.
    pub email: Option<(String, String)>,
}

impl fmt::Debug for Texts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Texts(***)")
    }
}

/// Composes the texts of a request from the wanted locale's, else the default locale's, else the
/// built-in ones. Each text is chosen by itself.
///
/// An SMS that comes out longer than its consumer takes is not cut, since a cut text matches no
/// registered template: the next choice is taken, and the built-in texts are short.
#[must_use]
pub fn compose(kind: RequestType, otp: &Otp, wanted: &TextSet, fallback: &TextSet) -> Texts {
    let code = sms_code(kind);
    let sms = choices(code, wanted, fallback)
        .into_iter()
        .flatten()
        .map(|template| fill(template, otp))
        .find(|text| text.encode_utf16().count() <= MAX_SMS_LENGTH)
        .unwrap_or_else(|| fill(code.built_in(), otp));
    let email = email_codes(kind).map(|(subject, body)| {
        (
            // It shows on locked screens, and Java does not fill it.
            pick(subject, wanted, fallback).0.to_owned(),
            fill(pick(body, wanted, fallback), otp),
        )
    });
    Texts { sms, email }
}

/// The text for a code: the wanted locale's, else the default locale's, else the built-in one.
#[must_use]
pub fn pick<'a>(code: TextCode, wanted: &'a TextSet, fallback: &'a TextSet) -> Template<'a> {
    choices(code, wanted, fallback)
        .into_iter()
        .flatten()
        .next()
        .unwrap_or(code.built_in())
}

/// Puts the OTP into a text, at each of its places ([`crate::template`]).
#[must_use]
pub fn fill(template: Template<'_>, otp: &Otp) -> String {
    template::fill(template.0, otp.expose())
}

/// The code of a type's SMS.
#[must_use]
pub fn sms_code(kind: RequestType) -> TextCode {
    match kind {
        RequestType::Register => TextCode::SmsRegister,
        RequestType::Login => TextCode::SmsLogin,
        RequestType::PasswordReset => TextCode::SmsPasswordReset,
    }
}

/// The codes of a type's email, subject and body; a registration has none.
#[must_use]
pub fn email_codes(kind: RequestType) -> Option<(TextCode, TextCode)> {
    match kind {
        RequestType::Register => None,
        RequestType::Login => Some((TextCode::EmailLoginSubject, TextCode::EmailLoginBody)),
        RequestType::PasswordReset => Some((
            TextCode::EmailPasswordResetSubject,
            TextCode::EmailPasswordResetBody,
        )),
    }
}

impl TextCode {
    /// Every code.
    pub const ALL: [Self; 7] = [
        Self::SmsRegister,
        Self::SmsLogin,
        Self::SmsPasswordReset,
        Self::EmailLoginSubject,
        Self::EmailLoginBody,
        Self::EmailPasswordResetSubject,
        Self::EmailPasswordResetBody,
    ];

    /// The code in egov-localization.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SmsRegister => "sms.register.otp.msg",
            Self::SmsLogin => "sms.login.otp.msg",
            Self::SmsPasswordReset => "sms.pwd.reset.otp.msg",
            Self::EmailLoginSubject => "email.login.otp.sub",
            Self::EmailLoginBody => "email.login.otp.body",
            Self::EmailPasswordResetSubject => "email.pwd.reset.otp.sub",
            Self::EmailPasswordResetBody => "email.pwd.reset.otp.body",
        }
    }

    /// The text where localization has none.
    #[must_use]
    pub fn built_in(self) -> Template<'static> {
        Template(match self {
            Self::SmsRegister => {
                "Dear Citizen, Your OTP to complete your DIGIT Registration is %s."
            }
            Self::SmsLogin | Self::EmailLoginBody => "Dear Citizen, Your Login OTP is %s.",
            Self::SmsPasswordReset => "Dear Citizen, Your OTP for recovering password is %s.",
            Self::EmailLoginSubject => "Login OTP",
            Self::EmailPasswordResetSubject => "Password Reset",
            Self::EmailPasswordResetBody => "Your OTP for recovering password is %s.",
        })
    }

    /// Whether a text can serve: subjects need no place for the OTP, but something to read.
    fn takes(self, text: &str) -> bool {
        if self.is_subject() {
            !text.trim().is_empty()
        } else {
            has_place(text)
        }
    }

    /// Whether it is an email's subject.
    #[must_use]
    pub fn is_subject(self) -> bool {
        match self {
            Self::EmailLoginSubject | Self::EmailPasswordResetSubject => true,
            Self::SmsRegister
            | Self::SmsLogin
            | Self::SmsPasswordReset
            | Self::EmailLoginBody
            | Self::EmailPasswordResetBody => false,
        }
    }
}

impl TextSet {
    /// The texts among these messages (code, text) that this service uses; where a code occurs
    /// twice, the last one.
    #[must_use]
    pub fn from_messages(messages: Vec<(String, String)>) -> Self {
        let mut texts = Self::default();
        for (code, text) in &messages {
            texts.put(code, text);
        }
        texts
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.templates.iter().all(Option::is_none)
    }

    /// The bytes of all texts.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.templates.iter().flatten().map(|text| text.len()).sum()
    }

    /// Keeps a text, where this service uses its code.
    pub(crate) fn put(&mut self, code: &str, text: &str) {
        if let Some(known) = TextCode::ALL
            .into_iter()
            .find(|known| known.as_str() == code)
            && text.len() <= MAX_TEMPLATE_LENGTH
        {
            self.templates[known as usize] = Some(text.into());
        }
    }

    /// The codes whose text is there and cannot be used.
    pub fn unusable(&self) -> impl Iterator<Item = TextCode> {
        TextCode::ALL.into_iter().filter(|code| {
            let text = self.templates[*code as usize].as_deref();
            text.is_some_and(|text| !code.takes(text))
        })
    }

    /// The text that is there for a code, whether it can be used or not.
    #[must_use]
    pub fn found(&self, code: TextCode) -> Option<&str> {
        self.templates[code as usize].as_deref()
    }

    /// The SMS of a type as these texts make it, if they can: not for lack of the text or its place
    /// for the OTP. It may be longer than its consumer takes.
    #[must_use]
    pub fn sms(&self, kind: RequestType, otp: &Otp) -> Option<String> {
        self.get(sms_code(kind)).map(|template| fill(template, otp))
    }

    fn get(&self, code: TextCode) -> Option<Template<'_>> {
        self.templates[code as usize]
            .as_deref()
            .filter(|text| code.takes(text))
            .map(Template)
    }
}

/// The usable texts for a code, best first.
fn choices<'a>(
    code: TextCode,
    wanted: &'a TextSet,
    fallback: &'a TextSet,
) -> [Option<Template<'a>>; 3] {
    [wanted.get(code), fallback.get(code), Some(code.built_in())]
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn otp() -> Otp {
        Otp::new("482915".to_owned()).expect("an OTP")
    }

    fn texts(messages: &[(&str, &str)]) -> TextSet {
        TextSet::from_messages(
            messages
                .iter()
                .map(|(code, text)| ((*code).to_owned(), (*text).to_owned()))
                .collect(),
        )
    }

    #[rstest]
    #[case::wanted(&[("sms.login.otp.msg", "wanted %s")], &[("sms.login.otp.msg", "default %s")], "wanted %s")]
    #[case::default_locale(&[("sms.register.otp.msg", "other %s")], &[("sms.login.otp.msg", "default %s")], "default %s")]
    #[case::built_in(&[], &[], "Dear Citizen, Your Login OTP is %s.")]
    #[case::wanted_without_place(&[("sms.login.otp.msg", "wanted")], &[("sms.login.otp.msg", "default %s")], "default %s")]
    #[case::neither_has_a_place(&[("sms.login.otp.msg", "%%s %2$s")], &[("sms.login.otp.msg", "%d")], "Dear Citizen, Your Login OTP is %s.")]
    #[case::last_of_a_code(&[("sms.login.otp.msg", "one %s"), ("sms.login.otp.msg", "two %s")], &[], "two %s")]
    fn the_best_usable_text_is_taken(
        #[case] wanted: &[(&str, &str)],
        #[case] fallback: &[(&str, &str)],
        #[case] expected: &str,
    ) {
        assert_eq!(
            pick(TextCode::SmsLogin, &texts(wanted), &texts(fallback)),
            Template(expected)
        );
    }

    #[test]
    fn a_subject_needs_no_place_but_something_to_read() {
        let wanted = texts(&[("email.login.otp.sub", "लॉगिन")]);
        let blank = texts(&[("email.login.otp.sub", " ")]);
        let none = TextSet::default();
        assert_eq!(
            pick(TextCode::EmailLoginSubject, &wanted, &none),
            Template("लॉगिन")
        );
        assert_eq!(
            pick(TextCode::EmailLoginSubject, &blank, &none),
            Template("Login OTP")
        );
    }

    #[rstest]
    #[case(
        RequestType::Register,
        "Dear Citizen, Your OTP to complete your DIGIT Registration is 482915.",
        None
    )]
    #[case(
        RequestType::Login,
        "Dear Citizen, Your Login OTP is 482915.",
        Some(("Login OTP", "Dear Citizen, Your Login OTP is 482915."))
    )]
    #[case(
        RequestType::PasswordReset,
        "Dear Citizen, Your OTP for recovering password is 482915.",
        Some(("Password Reset", "Your OTP for recovering password is 482915."))
    )]
    fn built_in_texts_are_the_platforms(
        #[case] kind: RequestType,
        #[case] sms: &str,
        #[case] email: Option<(&str, &str)>,
    ) {
        let composed = compose(kind, &otp(), &TextSet::default(), &TextSet::default());
        assert_eq!(composed.sms, sms);
        assert_eq!(
            composed.email,
            email.map(|(subject, body)| (subject.to_owned(), body.to_owned()))
        );
    }

    #[test]
    fn each_text_is_chosen_by_itself() {
        let wanted = texts(&[
            ("sms.login.otp.msg", "साइन %s"),
            ("email.login.otp.body", "no place"),
        ]);
        let fallback = texts(&[
            ("email.login.otp.body", "body %s"),
            ("sms.login.otp.msg", "sms %s"),
        ]);
        let composed = compose(RequestType::Login, &otp(), &wanted, &fallback);
        assert_eq!(composed.sms, "साइन 482915");
        assert_eq!(
            composed.email,
            Some(("Login OTP".to_owned(), "body 482915".to_owned()))
        );
    }

    #[rstest]
    #[case::as_long_as_it_may_be("x".repeat(994) + "%s", true)]
    #[case::one_longer("x".repeat(995) + "%s", false)]
    #[case::counted_as_java_does("😀".repeat(498) + "%s", false)]
    #[case::characters_not_bytes("है".repeat(497) + "%s", true)]
    fn an_sms_that_would_be_refused_gives_way_to_the_next(
        #[case] long: String,
        #[case] taken: bool,
    ) {
        let wanted = texts(&[("sms.login.otp.msg", &long)]);
        let fallback = texts(&[("sms.login.otp.msg", "short %s")]);
        let composed = compose(RequestType::Login, &otp(), &wanted, &fallback);
        assert_eq!(composed.sms != "short 482915", taken);
    }

    #[test]
    fn only_texts_of_this_service_are_kept() {
        assert!(texts(&[("other.code", "text %s")]).is_empty());
        assert!(texts(&[("sms.login.otp.msg", &"x".repeat(70_000))]).is_empty());
        assert!(!texts(&[("sms.login.otp.msg", "%s")]).is_empty());
    }

    #[test]
    fn every_built_in_text_can_serve() {
        for code in TextCode::ALL {
            assert!(code.takes(code.built_in().0), "{code:?}");
        }
    }

    #[test]
    fn debug_shows_no_otp() {
        let composed = compose(
            RequestType::Login,
            &otp(),
            &TextSet::default(),
            &TextSet::default(),
        );
        assert!(!format!("{composed:?}").contains("482915"));
    }

    #[test]
    fn a_subject_is_sent_as_it_is() {
        let wanted = texts(&[("email.login.otp.sub", "100%% %s %1$s %n")]);
        let composed = compose(RequestType::Login, &otp(), &wanted, &TextSet::default());
        let (subject, _) = composed.email.expect("a login has an email");
        assert_eq!(subject, "100%% %s %1$s %n");
    }
}
