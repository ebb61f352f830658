//! Which request is meant, and what happens to it.

use std::time::Duration;

/// The kind of a request: Kafka's API key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Api(pub(crate) i16);

impl Api {
    pub(crate) const PRODUCE: Self = Self(0);
    pub(crate) const FETCH: Self = Self(1);
    pub(crate) const INIT_PRODUCER_ID: Self = Self(22);
    pub(crate) const ADD_PARTITIONS: Self = Self(24);
    pub(crate) const ADD_OFFSETS: Self = Self(25);
    pub(crate) const END_TXN: Self = Self(26);
    pub(crate) const TXN_OFFSET_COMMIT: Self = Self(28);
}

/// What a network can do to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Its bytes stay here, and its client is cut off. The broker's end stays open, and gets them when they are
    /// released.
    Hold,
    /// It waits until no rule holds any more.
    Block,
    /// It is passed on later.
    Delay(Duration),
    /// It is lost, with its connection.
    CutBefore,
    /// It arrives; its connection is cut instead of its answer.
    CutAfter,
    /// It arrives twice, and is answered once.
    Twice,
    /// It arrives, and is never answered, nor is what follows on its connection: brokers answer in order, and clients
    /// rely on it (librdkafka aborts the process where an EndTxn is answered before an AddPartitionsToTxn).
    DropAnswer,
    /// It arrives, and from then on every connection stands still.
    StallAfter,
    /// It is lost, and from then on every connection stands still.
    StallBefore,
}

/// What happens to which requests.
#[derive(Clone, Debug)]
pub(crate) struct Rule {
    api: Api,
    action: Action,
    /// Bytes that the request holds: a topic, a transactional id.
    text: Option<Vec<u8>>,
    /// What an EndTxn is to do.
    commits: Option<bool>,
    /// It waits until a request is held.
    once_held: bool,
    times: usize,
}

impl Rule {
    /// For the next request of this kind.
    pub(crate) fn next(api: Api, action: Action) -> Self {
        Self {
            api,
            action,
            text: None,
            commits: None,
            once_held: false,
            times: 1,
        }
    }

    /// For every request of this kind.
    pub(crate) fn each(api: Api, action: Action) -> Self {
        Self::next(api, action).times(usize::MAX)
    }

    /// For so many requests.
    pub(crate) fn times(self, times: usize) -> Self {
        Self { times, ..self }
    }

    /// For those alone that hold `text`.
    pub(crate) fn holding(self, text: &str) -> Self {
        Self {
            text: Some(text.into()),
            ..self
        }
    }

    /// For those alone that come once a request has been held.
    pub(crate) fn once_held(self) -> Self {
        Self {
            once_held: true,
            ..self
        }
    }

    /// The next EndTxn that commits.
    pub(crate) fn next_commit(action: Action) -> Self {
        Self {
            commits: Some(true),
            ..Self::next(Api::END_TXN, action)
        }
    }

    /// The next EndTxn that aborts.
    pub(crate) fn next_abort(action: Action) -> Self {
        Self {
            commits: Some(false),
            ..Self::next(Api::END_TXN, action)
        }
    }

    fn fits(&self, frame: &[u8], has_held: bool) -> bool {
        let text = self.text.as_deref();
        self.times > 0
            && (has_held || !self.once_held)
            && self.api == api(frame)
            && text.is_none_or(|text| frame.windows(text.len()).any(|part| part == text))
            // In the versions that clients without KIP-890 send, it is the last byte.
            && self.commits.is_none_or(|commits| frame.last() == Some(&u8::from(commits)))
    }
}

/// What is to happen to this request; the rule that says so is used up by one.
pub(super) fn decide(rules: &mut [Rule], frame: &[u8], has_held: bool) -> Option<Action> {
    let rule = rules.iter_mut().find(|rule| rule.fits(frame, has_held))?;
    rule.times -= 1;
    Some(rule.action)
}

/// A request's kind.
pub(super) fn api(frame: &[u8]) -> Api {
    Api(i16::from_be_bytes([frame[4], frame[5]]))
}

/// A request's correlation id.
pub(super) fn request_id(frame: &[u8]) -> i32 {
    i32::from_be_bytes([frame[8], frame[9], frame[10], frame[11]])
}

/// The correlation id of the request that this answers.
pub(super) fn answer_id(frame: &[u8]) -> i32 {
    i32::from_be_bytes([frame[4], frame[5], frame[6], frame[7]])
}
