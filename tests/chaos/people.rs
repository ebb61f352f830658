//! Who asks for what, and what has to come of it.

use serde_json::{Value, json};

use crate::chance::Chance;

/// What an OTP is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Register,
    Login,
    Reset,
}

impl Kind {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Register => "register",
            Self::Login => "login",
            Self::Reset => "passwordreset",
        }
    }
}

/// What comes of a request where nothing fails and no limit is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expect {
    Sms,
    Rejection,
    Poison,
}

/// A person's request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wish {
    pub(crate) kind: Kind,
    pub(crate) expect: Expect,
    /// After the one before, in milliseconds.
    pub(crate) after: u64,
    /// A life shorter than all have, in milliseconds.
    pub(crate) life: Option<u64>,
    pub(crate) locale: Option<&'static str>,
}

impl Wish {
    fn new(kind: Kind, expect: Expect) -> Self {
        Self {
            kind,
            expect,
            after: 0,
            life: None,
            locale: None,
        }
    }

    fn after(self, ms: u64) -> Self {
        Self { after: ms, ..self }
    }

    /// How its SMS begins; the OTP and a full stop follow.
    pub(crate) fn text(&self) -> String {
        text(self.kind, self.language())
    }

    /// The language of its text: there are none in any other.
    fn language(&self) -> &'static str {
        match self.locale {
            Some("hi_IN") => "hi_IN",
            _ => "en_IN",
        }
    }
}

/// The texts that egov-localization knows: none is the service's built-in one.
pub(crate) fn text(kind: Kind, locale: &str) -> String {
    format!("Chaos {} {locale} ", kind.word())
}

pub(crate) const LOCALES: [&str; 2] = ["en_IN", "hi_IN"];
const TENANTS: [&str; 4] = ["pb.amritsar", "pb.jalandhar", "dl.south", "ka"];

/// Somebody who asks a few times within seconds, and never again.
#[derive(Clone, Debug)]
pub(crate) struct Person {
    pub(crate) number: String,
    pub(crate) tenant: &'static str,
    pub(crate) registered: bool,
    pub(crate) email: bool,
    pub(crate) wishes: Vec<Wish>,
}

impl Person {
    /// One of those who ask on the request topic.
    pub(crate) fn on_the_stream(index: u32, seed: u64) -> Self {
        use Expect::{Poison, Rejection, Sms};
        use Kind::{Login, Register, Reset};
        let mut chance = Chance::new(seed, u64::from(index) + 1_000);
        let story = chance.below(100);
        let mut gap = || chance.between(0, 1_500);
        let wish = Wish::new;
        let (registered, wishes) = match story {
            0..25 => (true, vec![wish(Login, Sms)]),
            25..40 => (true, vec![wish(Login, Sms), wish(Reset, Sms).after(gap())]),
            // More than the limits take.
            40..50 => (
                true,
                (0..4).map(|_| wish(Login, Sms).after(gap())).collect(),
            ),
            50..60 => (
                true,
                vec![
                    wish(Reset, Sms),
                    wish(Login, Sms).after(gap()),
                    wish(Reset, Sms).after(gap()),
                ],
            ),
            60..65 => (
                true,
                vec![wish(Register, Rejection), wish(Login, Sms).after(gap())],
            ),
            65..80 => (false, vec![wish(Register, Sms)]),
            80..85 => (
                false,
                vec![wish(Register, Sms), wish(Register, Sms).after(gap())],
            ),
            85..93 => (false, vec![wish(Login, Rejection)]),
            93..96 => {
                let life = Some(chance.between(11_000, 25_000));
                (
                    true,
                    vec![Wish {
                        life,
                        ..wish(Login, Sms)
                    }],
                )
            }
            _ => (false, vec![wish(Login, Poison)]),
        };
        // Of those who are unknown some give a number that is none.
        let number = if (90..93).contains(&story) {
            no_number(index)
        } else {
            number(index)
        };
        Self::new(number, registered, wishes, &mut chance)
    }

    /// One of those who ask over HTTP, once.
    pub(crate) fn over_http(index: u32, seed: u64) -> Self {
        let mut chance = Chance::new(seed, u64::from(index) + 1_000);
        let (registered, kind, expect) = match chance.below(100) {
            0..50 => (true, Kind::Login, Expect::Sms),
            50..70 => (true, Kind::Reset, Expect::Sms),
            70..90 => (false, Kind::Register, Expect::Sms),
            90..95 => (true, Kind::Register, Expect::Rejection),
            _ => (false, Kind::Login, Expect::Rejection),
        };
        let wishes = vec![Wish::new(kind, expect)];
        Self::new(number(index), registered, wishes, &mut chance)
    }

    fn new(number: String, registered: bool, mut wishes: Vec<Wish>, chance: &mut Chance) -> Self {
        // "ta_IN" has no texts: the default locale's serve.
        let locale = chance.pick(&[None, Some("en_IN"), Some("hi_IN"), Some("ta_IN")]);
        for wish in &mut wishes {
            wish.locale = locale;
        }
        Self {
            number,
            tenant: chance.pick(&TENANTS),
            registered,
            email: chance.below(4) == 0,
            wishes,
        }
    }

    pub(crate) fn address(&self) -> Option<String> {
        self.email.then(|| format!("c{}@example.org", self.number))
    }

    /// The state, where citizens are registered.
    pub(crate) fn state(&self) -> &'static str {
        self.tenant.split('.').next().unwrap_or(self.tenant)
    }

    /// The request's value; none for one that cannot be read.
    pub(crate) fn body(&self, wish: &Wish) -> Vec<u8> {
        let message_id = wish.locale.map_or_else(
            || "20170310130900".to_owned(),
            |l| format!("20170310130900|{l}"),
        );
        let info =
            json!({"apiId": "Rainmaker", "ts": "", "msgId": message_id, "authToken": Value::Null});
        let otp = json!({"mobileNumber": self.number, "tenantId": self.tenant, "type": wish.kind.word(),
                         "userType": "CITIZEN"});
        json!({"RequestInfo": info, "otp": otp})
            .to_string()
            .into_bytes()
    }
}

/// A value that cannot be read as a request.
pub(crate) fn poison(request: u32) -> Option<Vec<u8>> {
    match request % 5 {
        0 => None,
        1 => Some(Vec::new()),
        2 => Some(vec![0xff, 0xfe, 0x00, b'x']),
        3 => Some(b"{\"otp\": {\"type\": ".to_vec()),
        _ => Some(b"[\"another\", \"shape\"]".to_vec()),
    }
}

/// A number that nobody else has.
pub(crate) fn number(person: u32) -> String {
    format!("{}{:09}", 6 + person % 4, scrambled(person))
}

/// One that the rules refuse.
fn no_number(person: u32) -> String {
    format!("5{:09}", scrambled(person))
}

fn scrambled(person: u32) -> u64 {
    // No factor of ten: each has one image.
    u64::from(person) * 387_420_489 % 1_000_000_000
}
