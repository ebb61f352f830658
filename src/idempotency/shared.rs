//! Idempotency keys in Redis: one script, and so one atomic step, for each change.

use std::time::Duration;

use super::memory::Standing;
use crate::clock::EpochMs;
use crate::store::{Script, Store};

const KEYS: Script = Script(include_str!("keys.lua"));

/// A change that the holder of a key makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Sending,
    Done,
    LeaveOpen,
    Forget,
}

impl Step {
    fn as_str(self) -> &'static str {
        match self {
            Self::Sending => "sending",
            Self::Done => "done",
            Self::LeaveOpen => "leave_open",
            Self::Forget => "forget",
        }
    }
}

/// A key, and who holds it if it stands for nothing yet.
#[derive(Debug, Clone)]
pub(super) struct Held {
    pub(super) key: String,
    pub(super) holder: String,
}

/// What the key stands for. None: Redis did not say.
pub(super) async fn begin(
    store: &Store,
    held: &Held,
    request: &str,
    answered_by: EpochMs,
    window: Duration,
    now: EpochMs,
) -> Option<Standing> {
    let args = [
        "begin".to_owned(),
        held.holder.clone(),
        now.0.to_string(),
        request.to_owned(),
        answered_by.0.to_string(),
        window.as_millis().to_string(),
    ];
    let keys = std::slice::from_ref(&held.key);
    let answer = store.ask(&KEYS, keys, &args).await?;
    let [standing, until] = answer.as_slice() else {
        return None;
    };
    match standing.as_str() {
        "first" => Some(Standing::First),
        "conflict" => Some(Standing::Conflict),
        "done" => Some(Standing::Done),
        "unconfirmed" => Some(Standing::Unconfirmed),
        "busy" => Some(Standing::Busy(EpochMs(until.parse().ok()?))),
        _ => None,
    }
}

/// Makes a change, and waits until Redis has it, or is away. False: somebody else has the key by now.
pub(super) async fn step(store: &Store, held: &Held, step: Step, now: EpochMs) -> bool {
    let (keys, args) = change(held, step, now);
    let answer = store.ask(&KEYS, &keys, &args).await;
    answer.is_none_or(|answer| answer.is_empty())
}

/// Makes a change in the background.
pub(super) fn step_later(store: &Store, held: &Held, step: Step, now: EpochMs) {
    let (keys, args) = change(held, step, now);
    store.tell(&KEYS, keys, args);
}

fn change(held: &Held, step: Step, now: EpochMs) -> (Vec<String>, Vec<String>) {
    let step = step.as_str().to_owned();
    let args = vec![step, held.holder.clone(), now.0.to_string()];
    (vec![held.key.clone()], args)
}
