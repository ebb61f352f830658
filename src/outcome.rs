//! What can become of a request, as closed sets: one enum per question, each with the
//! word that goes on the wire. An [`Outcome`] is what the handler returns, never an error.

use std::time::Duration;

use crate::domain::rejection::Rejection;
use crate::known_topics::Probe;
use crate::notification::{Notification, Sms};

/// What one try of a request came to. All but [`Outcome::Retried`] are final.
#[must_use]
#[derive(Debug)]
pub enum Outcome {
    /// An OTP was created: its messages go out.
    Published(Published),
    /// The business rules say no; nothing is sent.
    Rejected(Rejection),
    /// A sending limit says no; nothing is sent.
    Limited(Limited),
    /// It can never be done; the request goes on the dead-letter topic.
    DeadLettered(Failure),
    /// A service is unavailable; the request goes on a retry topic while its deadline leaves room.
    Retried(Setback),
}

/// The messages of a published request.
#[derive(Debug)]
pub struct Published {
    /// The SMS: there always is one.
    pub sms: Sms,
    /// The email, where the user has an address and its topic exists.
    pub email: Option<Notification>,
    /// What was left out, if anything was.
    pub code: Option<Code>,
    /// Where it finds out for others whether the SMS topic takes records again.
    pub probe: Option<Box<Probe>>,
}

impl Published {
    /// Whether there is an email, and it goes to `topic`.
    #[must_use]
    pub fn emails_to(&self, topic: &str) -> bool {
        self.email
            .as_ref()
            .is_some_and(|email| email.topic == topic)
    }

    /// Its records are committed.
    pub fn committed(&self) {
        if let Some(probe) = &self.probe {
            probe.taken();
        }
    }

    /// Lets the SMS go alone: the email's topic is away.
    pub fn leave_out_email(&mut self) {
        self.email = None;
        self.code = Some(Code::EmailTopicMissing);
    }
}

/// Which sending limit was reached, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limited {
    /// The limit.
    pub limit: Limit,
    /// When it would be taken again.
    pub retry_after: Duration,
}

/// Why a request is dead-lettered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failure {
    /// The kind of end.
    pub disposition: Disposition,
    /// What happened.
    pub code: Code,
    /// Where it happened.
    pub stage: Stage,
}

/// Why a try did not come to an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setback {
    /// What happened.
    pub code: Code,
    /// Where it happened.
    pub stage: Stage,
    /// How long the service asked to be left alone (`Retry-After`).
    pub retry_after: Option<Duration>,
}

impl Setback {
    /// The SMS topic is missing or forbidden.
    pub const TOPIC_AWAY: Self = Self {
        code: Code::OutputTopicUnavailable,
        stage: Stage::Publish,
        retry_after: None,
    };

    /// The end of a request that has no time left to try again.
    #[must_use]
    pub fn expired(self) -> Failure {
        Failure {
            disposition: Disposition::Expired,
            code: self.code,
            stage: self.stage,
        }
    }
}

/// A closed set of words on the wire.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$vdoc])* $variant,)+ }

        impl $name {
            /// Every member, in the order of the documentation.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// The word on the wire.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }

            /// The member with this word.
            #[must_use]
            pub fn from_word(word: &str) -> Option<Self> {
                match word { $($word => Some(Self::$variant),)+ _ => None }
            }
        }
    };
}

words! {
    /// The kind of dead letter (`otp-disposition`).
    Disposition {
        /// The record cannot be read.
        Poison = "poison",
        /// A service or a topic will never take it.
        Refused = "refused",
        /// Its deadline is too near.
        Expired = "expired",
    }
}

words! {
    /// What happened (`otp-error-code`).
    Code {
        /// The record has no value, or an empty one.
        EmptyValue = "empty-value",
        /// The value is not UTF-8.
        NotUtf8 = "not-utf8",
        /// The value is not JSON.
        NotJson = "not-json",
        /// The value is JSON of another shape than a request's.
        WrongShape = "wrong-shape",
        /// The batch that holds the record cannot be decompressed, or is damaged.
        UnreadableBatch = "unreadable-batch",
        /// The tenant's SMS topic does not exist.
        UnknownOutputTopic = "unknown-output-topic",
        /// A service answered with a 4xx that asking again will not change.
        ServiceRefused = "service-refused",
        /// A service could not be reached, or answered that it is unavailable.
        ServiceUnavailable = "service-unavailable",
        /// A service did not answer in time.
        ServiceTimeout = "service-timeout",
        /// A service's answer was not what its contract says.
        ServiceBrokenAnswer = "service-broken-answer",
        /// Less than `request.min_life` was left before the deadline.
        DeadlineNear = "deadline-near",
        /// The same person had `engine.lane` requests waiting already.
        LaneFull = "lane-full",
        /// A record was larger than its topic takes.
        OutputTooLarge = "output-too-large",
        /// The SMS topic could not be written to.
        OutputTopicUnavailable = "output-topic-unavailable",
        /// The email topic does not exist: the SMS went out alone.
        EmailTopicMissing = "email-topic-missing",
        /// A defect in this program ended the try.
        InternalError = "internal-error",
    }
}

words! {
    /// Where it happened (`otp-error-stage`).
    Stage {
        /// Reading the record.
        Decode = "decode",
        /// Waiting for its turn.
        Queue = "queue",
        /// Asking for the mobile-number rules (egov-mdms).
        Rules = "rules",
        /// Looking the user up (egov-user).
        User = "user",
        /// Asking for the texts (egov-localization).
        Texts = "texts",
        /// Creating the OTP (egov-otp).
        Otp = "otp",
        /// Writing the records.
        Publish = "publish",
    }
}

words! {
    /// A sending limit, as the `code` of an outcome.
    Limit {
        /// The same number asked for the same type again too soon.
        NumberType = "limit-number-type",
        /// The same number asked too often.
        Number = "limit-number",
        /// The same number asked too often within a day.
        NumberDay = "limit-number-day",
        /// Numbers that differ in their last digits alone asked too often.
        Prefix = "limit-prefix",
        /// The tenant's requests are too many.
        Tenant = "limit-tenant",
        /// One address sent too many requests over HTTP.
        Address = "limit-address",
    }
}

words! {
    /// A final outcome's name (`outcome` in an outcome record).
    FinalOutcome {
        /// The messages were written.
        Published = "published",
        /// The business rules said no.
        Rejected = "rejected",
        /// A sending limit said no.
        Limited = "limited",
        /// An equal request of the same person was published in its place.
        Superseded = "superseded",
        /// On the dead-letter topic.
        DeadLettered = "dead-lettered",
    }
}
