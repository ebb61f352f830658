//! The texts that citizens read: which one is taken, and how the OTP gets into it.
//!
//! In India a text must match a template that is registered with the operators to the letter, so a
//! text passes through unchanged but for the OTP. A text that cannot be used (it has no place for
//! the OTP, or the SMS consumer would refuse its length) is treated as if it were not there.

use std::fmt;

use crate::domain::request::RequestType;
use crate::domain::secret::Otp;

/// The longest SMS that egov-notification-sms takes, in UTF-16 units, as Java counts.
const MAX_SMS_LENGTH: usize = 1_000;

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
    let choices = choices(sms_code(kind), wanted, fallback);
    let sms = choices
        .into_iter()
        .flatten()
        .map(|template| fill(template, otp));
    let sms = sms
        .filter(|text| text.encode_utf16().count() <= MAX_SMS_LENGTH)
        .next();
    let email = email_codes(kind).map(|(subject, body)| {
        (
            fill(pick(subject, wanted, fallback), otp),
            fill(pick(body, wanted, fallback), otp),
        )
    });
    Texts {
        sms: sms.unwrap_or_else(|| fill(sms_code(kind).built_in(), otp)),
        email,
    }
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

/// Puts the OTP into a text: the first `%s` is replaced, `%%` becomes `%`, and every other
/// character stays as it is.
#[must_use]
pub fn fill(template: Template<'_>, otp: &Otp) -> String {
    let mut filled = String::with_capacity(template.0.len() + otp.expose().len());
    let mut place = Some(otp.expose());
    let mut rest = template.0;
    while let Some(at) = rest.find('%') {
        filled.push_str(&rest[..at]);
        rest = &rest[at..];
        let after = match (rest.as_bytes().get(1), place) {
            (Some(b's'), Some(otp)) => {
                filled.push_str(otp);
                place = None;
                2
            }
            (Some(b'%'), _) => {
                filled.push('%');
                2
            }
            (Some(_) | None, _) => {
                filled.push('%');
                1
            }
        };
        rest = &rest[after..];
    }
    filled.push_str(rest);
    filled
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
        match self {
            Self::EmailLoginSubject | Self::EmailPasswordResetSubject => !text.trim().is_empty(),
            Self::SmsRegister
            | Self::SmsLogin
            | Self::SmsPasswordReset
            | Self::EmailLoginBody
            | Self::EmailPasswordResetBody => has_place(text),
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

/// Whether there is a `%s` in a text, `%%` read as one percent sign.
fn has_place(text: &str) -> bool {
    let mut rest = text;
    while let Some(at) = rest.find('%') {
        match rest.as_bytes().get(at + 1) {
            Some(b's') => return true,
            Some(b'%') => rest = &rest[at + 2..],
            Some(_) | None => rest = &rest[at + 1..],
        }
    }
    false
}
