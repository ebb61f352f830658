//! `user-otp limits show|clear`: what a number was charged, for support. The number comes in on standard
//! input, since arguments are in process lists and histories, and never goes out.

use std::fmt::Write as _;
use std::io::Read;

use anyhow::{Context as _, bail};

use super::numbers;
use crate::clock::EpochMs;
use crate::config::Config;
use crate::limits::{self, Shown};
use crate::store::Store;

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Show what its limits have counted.
    Show,
    /// Forget it.
    Clear,
}

/// Does it for the number on `input`: what to print.
///
/// # Errors
///
/// When limits are not in Redis, or Redis does not answer, or there is no number.
pub async fn run(
    config: &Config,
    action: Action,
    mut input: impl Read,
    now: EpochMs,
) -> anyhow::Result<String> {
    let store = Store::open(config)
        .await
        .context("limits.redis cannot be used")?;
    let Some(store) = store else {
        bail!(
            "limits.redis is not set: each instance has its limits in its own memory, where no command reaches \
             them; a restart clears them"
        );
    };
    let mobile = numbers::one(&mut input)?;
    let said = match action {
        Action::Show => limits::show(&store, config, &mobile, now)
            .await
            .map(|shown| render(&shown)),
        Action::Clear => limits::clear(&store, config, &mobile).await.map(|cleared| {
            format!("cleared: {cleared} of this number's limits had counted something\n")
        }),
    };
    said.context("Redis does not answer: check limits.redis, and that it is up")
}

const HEADINGS: [&str; 5] = ["LIMIT", "TYPE", "MODE", "REQUESTS", "NEXT"];

fn render(shown: &[Shown]) -> String {
    if shown.is_empty() {
        return "no limit of single numbers is on, nor a shadow\n".to_owned();
    }
    let mut text = String::new();
    let headings = HEADINGS.map(str::to_owned);
    for [limit, kind, mode, requests, next] in
        std::iter::once(headings).chain(shown.iter().map(row))
    {
        let _ = writeln!(
            text,
            "{limit:17}  {kind:13}  {mode:6}  {requests:15}  {next}"
        );
    }
    text
}

fn row(one: &Shown) -> [String; 5] {
    let window = humantime::format_duration(one.window);
    let next = match one.free_in.as_millis().div_ceil(1_000) {
        0 => "now".to_owned(),
        seconds => format!("in {seconds}s"),
    };
    [
        one.limit.as_str().to_owned(),
        one.kind.map_or("any", |kind| kind.as_str()).to_owned(),
        if one.refuses { "on" } else { "shadow" }.to_owned(),
        format!("{} of {} in {window}", one.charged, one.count),
        next,
    ]
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::domain::request::RequestType;
    use crate::outcome::Limit;

    #[test]
    fn what_a_number_was_charged_is_a_table() {
        let shown = [
            Shown {
                limit: Limit::NumberType,
                kind: Some(RequestType::Login),
                refuses: true,
                charged: 1,
                count: 1,
                window: Duration::from_secs(30),
                free_in: Duration::from_millis(19_001),
            },
            Shown {
                limit: Limit::NumberDay,
                kind: None,
                refuses: false,
                charged: 1,
                count: 20,
                window: Duration::from_secs(86_400),
                free_in: Duration::ZERO,
            },
        ];
        let lines = [
            "LIMIT              TYPE           MODE    REQUESTS         NEXT",
            "limit-number-type  login          on      1 of 1 in 30s    in 20s",
            "limit-number-day   any            shadow  1 of 20 in 1day  now",
        ];
        assert_eq!(render(&shown), lines.join("\n") + "\n");
    }

    #[tokio::test]
    async fn without_redis_it_says_why_it_cannot() {
        let config = Config::load(None, []).expect("the defaults are right").0;
        let said = run(&config, Action::Show, &b"9876543210\n"[..], EpochMs(0)).await;
        let error = said.expect_err("there is nothing to look at").to_string();
        assert!(error.starts_with("limits.redis is not set"), "{error}");
    }
}
