//! The limits in Redis: one script, and so one atomic step, for each request. What a script decides is
//! what `window.rs` and `memory.rs` decide; a test runs both through the same steps.

use std::time::Duration;

use super::memory::{Judged, Verdict};
use super::window::Rule;
use super::{Source, number_key, number_type_key, rules};
use crate::clock::EpochMs;
use crate::config::Config;
use crate::domain::contact::MobileNumber;
use crate::domain::request::RequestType;
use crate::outcome::Limit;
use crate::store::{Script, Store};

const CHARGE: Script = Script(include_str!("charge.lua"));
const GIVE_BACK: Script = Script(include_str!("give_back.lua"));
const SHOW: Script = Script(include_str!("show.lua"));
const CLEAR: Script = Script(include_str!("clear.lua"));

/// Charges a request whose keys are these, one for each rule. None: Redis did not decide.
pub(super) async fn charge(
    store: &Store,
    rules: &[Rule],
    source: Source,
    keys: &[Option<String>],
    received: EpochMs,
) -> Option<Judged> {
    let lateness = rules.first()?.lateness;
    let (kept_under, name) = names(store, source);
    let concerned = rules
        .iter()
        .zip(keys)
        .filter_map(|(rule, key)| Some((rule, key.as_ref()?)));
    let mut keys = vec![kept_under];
    let mut args = vec![received.0.to_string(), name, ms(lateness)];
    for (rule, key) in concerned {
        keys.push(key.clone());
        args.push(rule.limit.as_str().to_owned());
        args.push(u8::from(rule.refuses).to_string());
        args.push(rule.count.to_string());
        args.push(ms(rule.window));
        args.push(rule.most().to_string());
    }
    let answer = store.ask(&CHARGE, &keys, &args).await?;
    let [again, refused_by, until, shadows @ ..] = answer.as_slice() else {
        return None;
    };
    let verdict = match Limit::from_word(refused_by) {
        None => Verdict::Taken,
        Some(limit) => Verdict::Refused {
            limit,
            until: EpochMs(until.parse().ok()?),
        },
    };
    Some(Judged {
        verdict,
        shadows: shadows
            .iter()
            .filter_map(|word| Limit::from_word(word))
            .collect(),
        again: again == "1",
    })
}

/// Gives back what was charged, in the background.
pub(super) fn give_back(store: &Store, source: Source) {
    let (kept_under, name) = names(store, source);
    store.tell(&GIVE_BACK, vec![kept_under], vec![name]);
}

/// The key that a source's verdict is under, and the source's name among a key's charges.
fn names(store: &Store, source: Source) -> (String, String) {
    let name = crate::engine::headers::hex(&source.0);
    (store.key(&format!("source {name}")), name)
}

fn ms(duration: Duration) -> String {
    duration.as_millis().to_string()
}

/// What one limit has counted of a number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// The limit.
    pub limit: Limit,
    /// Of which type, where the limit is for each type.
    pub kind: Option<RequestType>,
    /// Whether it refuses.
    pub refuses: bool,
    /// Requests within the window.
    pub charged: usize,
    /// How many it takes.
    pub count: usize,
    /// Within how long.
    pub window: Duration,
    /// How long until it takes one more.
    pub free_in: Duration,
}

/// What the limits of a number have counted. None: Redis did not answer.
pub async fn show(
    store: &Store,
    config: &Config,
    mobile: &MobileNumber,
    now: EpochMs,
) -> Option<Vec<Shown>> {
    let found = of_a_number(store, &rules(config), mobile);
    if found.is_empty() {
        return Some(Vec::new());
    }
    let keys: Vec<String> = found.iter().map(|(_, _, key)| key.clone()).collect();
    let mut args = vec![now.0.to_string()];
    for (rule, _, _) in &found {
        args.extend([rule.count.to_string(), ms(rule.window)]);
    }
    let answer = store.ask(&SHOW, &keys, &args).await?;
    let shown = found
        .iter()
        .zip(answer.chunks_exact(2))
        .map(|((rule, kind, _), pair)| {
            Some(Shown {
                limit: rule.limit,
                kind: *kind,
                refuses: rule.refuses,
                charged: pair[0].parse().ok()?,
                count: rule.count,
                window: rule.window,
                free_in: EpochMs(pair[1].parse().ok()?).left(now),
            })
        });
    shown.collect()
}

/// Forgets what the limits of a number have counted: how many of them had anything. None: Redis did
/// not answer. What its neighbours, its tenant or its address are charged stays.
pub async fn clear(store: &Store, config: &Config, mobile: &MobileNumber) -> Option<usize> {
    let found = of_a_number(store, &rules(config), mobile);
    if found.is_empty() {
        return Some(0);
    }
    let keys: Vec<String> = found.into_iter().map(|(_, _, key)| key).collect();
    store.ask(&CLEAR, &keys, &[]).await?.first()?.parse().ok()
}

/// The keys of one number.
fn of_a_number(
    store: &Store,
    rules: &[Rule],
    mobile: &MobileNumber,
) -> Vec<(Rule, Option<RequestType>, String)> {
    const KINDS: [RequestType; 3] = [
        RequestType::Register,
        RequestType::Login,
        RequestType::PasswordReset,
    ];
    let mut found = Vec::new();
    for rule in rules {
        match rule.limit {
            Limit::NumberType => found.extend(KINDS.map(|kind| {
                let key = store.key(&number_type_key(mobile, kind));
                (*rule, Some(kind), key)
            })),
            Limit::Number | Limit::NumberDay => {
                let key = store.key(&number_key(rule.limit, mobile));
                found.push((*rule, None, key));
            }
            Limit::Prefix | Limit::Tenant | Limit::Address => {}
        }
    }
    found
}
