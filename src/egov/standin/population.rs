//! Whom and what the stand-ins know: users, texts, rules, and the OTPs still to come.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::RwLock;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::mix;

/// Stands for every tenant in a [`Text`] and in [`RulesOf`].
pub(super) const EVERY_TENANT: &str = "*";

/// A user that egov-user knows.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct User {
    /// The number in the search that finds this user; none: `mobile_number`.
    #[serde(default)]
    pub found_by: Option<String>,
    /// The number stored on the user.
    #[serde(default)]
    pub mobile_number: Option<String>,
    /// The stored email address.
    #[serde(default)]
    pub email_id: Option<String>,
    /// The tenant: state level for citizens.
    pub tenant_id: String,
    /// `CITIZEN` or `EMPLOYEE`.
    #[serde(rename = "type", default = "citizen")]
    pub user_type: String,
}

impl User {
    /// A citizen of a state, without email.
    #[must_use]
    pub fn citizen(mobile: &str, tenant: &str) -> Self {
        Self {
            found_by: None,
            mobile_number: Some(mobile.to_owned()),
            email_id: None,
            tenant_id: tenant.to_owned(),
            user_type: citizen(),
        }
    }

    /// An employee of a city, without email.
    #[must_use]
    pub fn employee(mobile: &str, tenant: &str) -> Self {
        Self {
            user_type: "EMPLOYEE".to_owned(),
            ..Self::citizen(mobile, tenant)
        }
    }

    /// The same user, with an email address.
    #[must_use]
    pub fn with_email(mut self, address: &str) -> Self {
        self.email_id = Some(address.to_owned());
        self
    }

    /// The same user, found by the number, but with another one stored, or none.
    #[must_use]
    pub fn storing(mut self, mobile: Option<&str>) -> Self {
        let found_by = self.found_by.or(self.mobile_number);
        self.found_by = found_by;
        self.mobile_number = mobile.map(str::to_owned);
        self
    }

    fn number(&self) -> &str {
        let found_by = self.found_by.as_deref();
        found_by.or(self.mobile_number.as_deref()).unwrap_or("")
    }
}

impl std::fmt::Debug for User {
    /// Without number and address.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("User")
            .field("tenant_id", &self.tenant_id)
            .field("user_type", &self.user_type)
            .finish_non_exhaustive()
    }
}

fn citizen() -> String {
    "CITIZEN".to_owned()
}

/// One text that egov-localization knows.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Text {
    /// The tenant; `*`: every tenant that has no text of its own.
    pub tenant_id: String,
    /// Such as `en_IN`.
    pub locale: String,
    /// Such as `sms.login.otp.msg`.
    pub code: String,
    /// The text; none: it is not known any more.
    pub message: Option<String>,
}

impl Text {
    /// A text for every tenant.
    #[must_use]
    pub fn new(locale: &str, code: &str, message: &str) -> Self {
        Self {
            tenant_id: EVERY_TENANT.to_owned(),
            locale: locale.to_owned(),
            code: code.to_owned(),
            message: Some(message.to_owned()),
        }
    }
}

/// A tenant's rules for mobile numbers in egov-mdms.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RulesOf {
    /// The tenant; `*`: every tenant that has no rules of its own.
    pub tenant_id: String,
    /// The entries of the master, as they are answered; none: the tenant has none of its own.
    pub entries: Option<Vec<Value>>,
}

impl RulesOf {
    /// Rules of every tenant that has none of its own.
    #[must_use]
    pub fn everywhere(entries: Vec<Value>) -> Self {
        Self {
            tenant_id: EVERY_TENANT.to_owned(),
            entries: Some(entries),
        }
    }
}

/// What the stand-ins know.
#[derive(Debug)]
pub(super) struct Population {
    everyone: AtomicBool,
    /// By the number that finds them.
    users: RwLock<HashMap<String, Vec<User>>>,
    /// By tenant and locale, then by code.
    texts: RwLock<HashMap<(String, String), BTreeMap<String, String>>>,
    rules: RwLock<HashMap<String, Vec<Value>>>,
    otps: Otps,
}

impl Population {
    /// A few users, texts in two languages, and two countries' rules.
    pub(super) fn new(everyone: bool) -> Self {
        let population = Self {
            everyone: AtomicBool::new(everyone),
            users: RwLock::default(),
            texts: RwLock::default(),
            rules: RwLock::default(),
            otps: Otps::new(u64::from(std::process::id()) ^ uuid_bits()),
        };
        for user in [
            User::citizen("9876543210", "pb").with_email("citizen@example.org"),
            User::citizen("9876543211", "pb"),
            User::citizen("9876543212", "pb").storing(None),
            User::employee("9876500001", "pb.amritsar").with_email("employee@example.org"),
        ] {
            population.add_user(user);
        }
        for (locale, code, message) in TEXTS {
            population.set_text(Text::new(locale, code, message));
        }
        population.set_rules(RulesOf::everywhere(vec![
            json!({"countryCode": "+91", "mobileNumberRegex": "^[6-9][0-9]{9}$", "default": true}),
            json!({"countryCode": "+251", "mobileNumberRegex": "^[79][0-9]{8}$", "default": false}),
        ]));
        population
    }

    pub(super) fn set_everyone(&self, known: bool) {
        self.everyone.store(known, Ordering::SeqCst);
    }

    pub(super) fn add_user(&self, user: User) {
        let mut users = self.users.write();
        let same_number = users.entry(user.number().to_owned()).or_default();
        same_number.retain(|u| u.tenant_id != user.tenant_id || u.user_type != user.user_type);
        same_number.push(user);
    }

    /// As egov-user searches: by number, tenant, and type where one is asked for.
    pub(super) fn find(&self, mobile: &str, tenant: &str, user_type: Option<&str>) -> Option<User> {
        if self.everyone.load(Ordering::SeqCst) {
            return Some(User::citizen(mobile, tenant));
        }
        let users = self.users.read();
        let fits = |user: &&User| {
            user.tenant_id == tenant && user_type.is_none_or(|asked| asked == user.user_type)
        };
        users.get(mobile)?.iter().find(fits).cloned()
    }

    pub(super) fn set_text(&self, text: Text) {
        let mut texts = self.texts.write();
        let known = texts.entry((text.tenant_id, text.locale)).or_default();
        match text.message {
            Some(message) => known.insert(text.code, message),
            None => known.remove(&text.code),
        };
    }

    /// Every tenant's texts of a locale, with the tenant's own in their place.
    pub(super) fn texts(&self, tenant: &str, locale: &str) -> BTreeMap<String, String> {
        let texts = self.texts.read();
        let of = |tenant: &str| texts.get(&(tenant.to_owned(), locale.to_owned()));
        let mut found = of(EVERY_TENANT).cloned().unwrap_or_default();
        found.extend(of(tenant).cloned().unwrap_or_default());
        found
    }

    pub(super) fn set_rules(&self, rules: RulesOf) {
        let mut known = self.rules.write();
        match rules.entries {
            Some(entries) => known.insert(rules.tenant_id, entries),
            None => known.remove(&rules.tenant_id),
        };
    }

    pub(super) fn rules(&self, tenant: &str) -> Option<Vec<Value>> {
        let rules = self.rules.read();
        rules
            .get(tenant)
            .or_else(|| rules.get(EVERY_TENANT))
            .cloned()
    }

    pub(super) fn new_otp(&self) -> String {
        self.otps.next()
    }
}

/// Texts in two languages.
const TEXTS: [(&str, &str, &str); 10] = [
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
        "Hello, your login OTP is %s.",
    ),
    ("en_IN", "email.pwd.reset.otp.sub", "Password Reset"),
    (
        "en_IN",
        "email.pwd.reset.otp.body",
        "Your OTP for recovering password is %s.",
    ),
    (
        "hi_IN",
        "sms.register.otp.msg",
        "प्रिय नागरिक, आपका पंजीकरण पूरा करने के लिए ओटीपी %s है।",
    ),
    (
        "hi_IN",
        "sms.login.otp.msg",
        "प्रिय नागरिक, आपका लॉगिन ओटीपी %s है।",
    ),
    (
        "hi_IN",
        "sms.pwd.reset.otp.msg",
        "प्रिय नागरिक, पासवर्ड पुनर्प्राप्त करने के लिए आपका ओटीपी %s है।",
    ),
];

/// Six digits at a time, in an order of its own: all million of them before one comes again, so
/// that tests can tell messages apart by their OTP.
#[derive(Debug)]
struct Otps {
    key: u64,
    issued: AtomicU64,
}

impl Otps {
    const COUNT: u64 = 1_000_000;
    /// 2^20 is the smallest even power of two that holds them all.
    const HALF_BITS: u32 = 10;
    const HALF: u64 = (1 << Self::HALF_BITS) - 1;

    fn new(key: u64) -> Self {
        Self {
            key,
            issued: AtomicU64::new(0),
        }
    }

    fn next(&self) -> String {
        let mut at = self.issued.fetch_add(1, Ordering::SeqCst) % Self::COUNT;
        loop {
            at = self.permuted(at);
            if at < Self::COUNT {
                return format!("{at:06}");
            }
        }
    }

    /// A Feistel network of four rounds over 20 bits: each number has one image.
    fn permuted(&self, number: u64) -> u64 {
        let (mut left, mut right) = (number >> Self::HALF_BITS, number & Self::HALF);
        for round in 0..4 {
            let scrambled = mix(self.key ^ (right << 8) ^ round) & Self::HALF;
            (left, right) = (right, left ^ scrambled);
        }
        (left << Self::HALF_BITS) | right
    }
}

/// Random bits, so that two runs do not issue the same OTPs in the same order.
fn uuid_bits() -> u64 {
    uuid::Uuid::new_v4().as_u64_pair().1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_million_otps_are_all_different_and_have_six_digits() {
        let otps = Otps::new(7);
        let mut seen = vec![false; 1_000_000];
        for _ in 0..1_000_000 {
            let otp = otps.next();
            assert_eq!(otp.len(), 6);
            let number: usize = otp.parse().unwrap();
            assert!(!std::mem::replace(&mut seen[number], true), "{otp} twice");
        }
    }

    #[test]
    fn a_user_is_found_by_number_tenant_and_type() {
        let known = Population::new(false);
        let check = |mobile, tenant, user_type, found: bool| {
            let user = known.find(mobile, tenant, user_type);
            assert_eq!(user.is_some(), found, "{mobile} {tenant} {user_type:?}");
        };
        check("9876543210", "pb", Some("CITIZEN"), true);
        check("9876543210", "pb", None, true);
        check("9876543210", "pb", Some("EMPLOYEE"), false);
        check("9876543210", "dl", Some("CITIZEN"), false);
        check("9876500001", "pb.amritsar", Some("EMPLOYEE"), true);
        check("9876599999", "pb", None, false);
    }

    #[test]
    fn everyone_is_a_citizen_without_email() {
        let known = Population::new(true);
        let user = known.find("9876599999", "dl", None).unwrap();
        assert_eq!(user.mobile_number.as_deref(), Some("9876599999"));
        assert_eq!(user.email_id, None);
    }

    #[test]
    fn a_tenants_own_text_goes_before_every_tenants() {
        let known = Population::new(false);
        known.set_text(Text {
            tenant_id: "pb".to_owned(),
            ..Text::new("en_IN", "sms.login.otp.msg", "Sat sri akal, %s")
        });
        assert_eq!(
            known.texts("pb", "en_IN")["sms.login.otp.msg"],
            "Sat sri akal, %s"
        );
        assert!(known.texts("dl", "en_IN")["sms.login.otp.msg"].starts_with("Dear"));
        assert!(known.texts("pb", "xx_XX").is_empty());
    }
}
