//! What keeps records from being read, for health and metrics; pure.

/// What keeps records from being read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// Of which kind it is.
    pub kind: TroubleKind,
    /// What it is, in words.
    pub text: String,
}

/// The kinds of what keeps records from being read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TroubleKind {
    /// A partition has records and gives none.
    Stalled,
    /// An error that librdkafka reported, and that is not known to be over.
    Error,
    /// A topic that we read is not there, as far as we may see.
    MissingTopic,
    /// Where a partition starts is not known for too long.
    Pending,
    /// A partition is held for too long.
    Held,
    /// A foreign transaction is open for too long.
    OpenTransaction,
    /// Brokers do not say for too long where partitions end.
    EndsUnknown,
}

impl TroubleKind {
    /// Every kind.
    pub const ALL: &[Self] = &[
        Self::Stalled,
        Self::Error,
        Self::MissingTopic,
        Self::Pending,
        Self::Held,
        Self::OpenTransaction,
        Self::EndsUnknown,
    ];

    /// As metrics have it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stalled => "stalled",
            Self::Error => "error",
            Self::MissingTopic => "missing-topic",
            Self::Pending => "pending",
            Self::Held => "held",
            Self::OpenTransaction => "open-transaction",
            Self::EndsUnknown => "ends-unknown",
        }
    }
}
