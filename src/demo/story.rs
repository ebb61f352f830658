//! The story: who is in it, what each asks for, and how it must end. Values only.
//!
//! Numbers and addresses are made up; `example.org` is nobody's.

use serde_json::json;

use crate::egov::standin::{Text, User};
use crate::outcome::{Code, Disposition};

/// Where everybody lives.
const TENANT: &str = "pb.amritsar";

/// Where egov-user keeps citizens: at their state.
const STATE: &str = "pb";

/// One request, and how it must end.
#[derive(Debug)]
pub(crate) struct Scene {
    /// Its event id, on every record that comes of it.
    pub(crate) event: &'static str,
    /// What happens, in a few words.
    pub(crate) title: &'static str,
    /// What to look at.
    pub(crate) aside: &'static str,
    /// The request in a few words.
    pub(crate) summary: String,
    /// The request record's value.
    pub(crate) value: Vec<u8>,
    /// How the services are when it comes in.
    pub(crate) services: Condition,
    /// How it must end.
    pub(crate) end: End,
}

/// How the services are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Condition {
    /// All of them answer.
    Well,
    /// egov-otp is down until the request has been on every retry topic.
    OtpDown,
}

/// A request's one final outcome, and what it sends.
#[derive(Debug)]
pub(crate) enum End {
    Published {
        /// The number in the request: the one that egov-otp creates the OTP for.
        asked_with: &'static str,
        sms: Message,
        email: Option<Message>,
    },
    Rejected {
        code: &'static str,
    },
    DeadLettered {
        disposition: Disposition,
        code: Code,
    },
}

/// A message that must arrive.
#[derive(Debug)]
pub(crate) struct Message {
    /// The phone or the mailbox.
    pub(crate) to: &'static str,
    /// A part of its text; the OTP is in it, too.
    pub(crate) says: &'static str,
}

/// Whom egov-user knows.
pub(crate) fn cast() -> Vec<User> {
    vec![
        User::citizen("9876501002", STATE).with_email("bala@example.org"),
        User::citizen("9876501003", STATE)
            .storing(Some("9876501033"))
            .with_email("chitra@example.org"),
        User::citizen("9876501005", STATE),
        User::citizen("9876501006", STATE),
    ]
}

/// What egov-localization says, so that the story need not know what else the stand-ins do.
pub(crate) fn texts() -> Vec<Text> {
    [
        (
            "en_IN",
            "sms.register.otp.msg",
            "Dear Citizen, Your OTP to complete your mSeva Registration is %s.",
        ),
        (
            "en_IN",
            "sms.login.otp.msg",
            "Dear Citizen, Your Login OTP is %s.",
        ),
        (
            "en_IN",
            "sms.pwd.reset.otp.msg",
            "Dear Citizen, Your OTP for recovering password is %s.",
        ),
        ("en_IN", "email.login.otp.sub", "Login OTP"),
        (
            "en_IN",
            "email.login.otp.body",
            "Dear Citizen, Your Login OTP is %s.",
        ),
        ("en_IN", "email.pwd.reset.otp.sub", "Password Reset"),
        (
            "en_IN",
            "email.pwd.reset.otp.body",
            "Your OTP for recovering password is %s.",
        ),
        (
            "hi_IN",
            "sms.login.otp.msg",
            "प्रिय नागरिक, आपका लॉगिन ओटीपी %s है।",
        ),
    ]
    .map(|(locale, code, message)| Text::new(locale, code, message))
    .into()
}

/// The scenes in their order.
pub(crate) fn scenes() -> Vec<Scene> {
    vec![
        Scene {
            aside: "No account has this number yet, so its owner may prove that it is theirs.",
            ..told(
                "demo-1",
                "Asha registers",
                &Ask::new("register", "9876501001"),
                published("9876501001", sms("9876501001", "Registration"), None),
            )
        },
        Scene {
            aside: "His account has an email address: the same OTP goes there, too.",
            ..told(
                "demo-2",
                "Bala logs in",
                &Ask::new("login", "9876501002"),
                published(
                    "9876501002",
                    sms("9876501002", "Login"),
                    Some(mail("bala@example.org", "Login")),
                ),
            )
        },
        Scene {
            aside: "Whoever asks: the OTP goes to the number stored on the account, not to the one typed in.",
            ..told(
                "demo-3",
                "Chitra has forgotten her password",
                &Ask::new("passwordreset", "9876501003"),
                published(
                    "9876501003",
                    sms("9876501033", "recovering password"),
                    Some(mail("chitra@example.org", "recovering password")),
                ),
            )
        },
        Scene {
            aside: "egov-user knows nobody with this number: nothing is sent, and the outcome says why.",
            ..told(
                "demo-4",
                "Somebody unknown logs in",
                &Ask::new("login", "9876501004"),
                End::Rejected {
                    code: "OTP.UNKNOWN_CREDENTIAL",
                },
            )
        },
        junk(),
        Scene {
            aside: "An outage is an outage: the request waits on retry topics until its deadline, and nobody is refused.",
            services: Condition::OtpDown,
            ..told(
                "demo-6",
                "Deepak logs in while egov-otp is down",
                &Ask::new("login", "9876501005"),
                published("9876501005", sms("9876501005", "Login"), None),
            )
        },
        Scene {
            aside: "Her app is in Hindi, and so is the text that egov-localization has for her.",
            ..told(
                "demo-7",
                "Esha logs in, in Hindi",
                &Ask::new("login", "9876501006").in_locale("hi_IN"),
                published("9876501006", sms("9876501006", "लॉगिन"), None),
            )
        },
    ]
}

/// A request of the kind that a citizen's app sends.
pub(crate) struct Ask<'a> {
    kind: &'a str,
    number: &'a str,
    locale: &'a str,
}

impl<'a> Ask<'a> {
    pub(crate) fn new(kind: &'a str, number: &'a str) -> Self {
        Self {
            kind,
            number,
            locale: "en_IN",
        }
    }

    fn in_locale(self, locale: &'a str) -> Self {
        Self { locale, ..self }
    }

    /// The record's value.
    pub(crate) fn value(&self) -> String {
        json!({
            "RequestInfo": {"apiId": "Rainmaker", "msgId": format!("20170310130900|{}", self.locale)},
            "otp": {"tenantId": TENANT, "type": self.kind, "mobileNumber": self.number},
        })
        .to_string()
    }
}

fn told(event: &'static str, title: &'static str, ask: &Ask<'_>, end: End) -> Scene {
    Scene {
        event,
        title,
        aside: "",
        summary: format!("{} of {} in {TENANT}", ask.kind, ask.number),
        value: ask.value().into_bytes(),
        services: Condition::Well,
        end,
    }
}

fn junk() -> Scene {
    let value = r#"{"otp": {"tenantId": "pb.amri"#;
    Scene {
        event: "demo-5",
        title: "Half a request comes in",
        aside: "It can never be read: it is kept on the dead-letter topic, as it came, and holds nobody up.",
        summary: value.to_owned(),
        value: value.into(),
        services: Condition::Well,
        end: End::DeadLettered {
            disposition: Disposition::Poison,
            code: Code::NotJson,
        },
    }
}

fn published(asked_with: &'static str, sms: Message, email: Option<Message>) -> End {
    End::Published {
        asked_with,
        sms,
        email,
    }
}

fn sms(to: &'static str, says: &'static str) -> Message {
    Message { to, says }
}

fn mail(to: &'static str, says: &'static str) -> Message {
    Message { to, says }
}
