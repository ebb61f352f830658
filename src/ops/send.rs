//! `user-otp send`: publishes one request as an upstream service does, and waits for what becomes of it.
//! A real one: whoever has the number gets an OTP, and the sending limits count it.

use std::time::{Duration, Instant};

use clap::Args;

use super::filter::{NUMBER_TYPED, kind};
use super::moment::in_short;
use super::numbers;
use super::run as start;
use super::shown::{Output, masked};
use super::terminal::Terminal;
use crate::clock::EpochMs;
use crate::config::Config;
use crate::domain::contact::{CountryCode, MobileNumber};
use crate::domain::request::{Locale, RequestType, Submission};
use crate::domain::tenant::TenantId;
use crate::engine::headers;
use crate::engine::output::Outgoing;
use crate::engine::record::{Header, Record};
use crate::engine::sender::Sender;
use crate::engine::window::Tail;
use crate::outcome::FinalOutcome;
use crate::service;
use crate::wire::{self, OutcomeSeen};

/// Exit code: no outcome came in time.
pub const EXIT_NO_OUTCOME: i32 = 14;

/// The request.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  \
    echo 98765xxxxx | user-otp send --tenant pb.amritsar --type login --mobile -\n\n\
    Exit codes: 0 published; 10 rejected; 11 limited; 12 superseded; 13 dead-lettered; 14 no outcome in time.")]
pub struct SendArgs {
    /// Whose citizen asks.
    #[arg(long, value_name = "TENANT", value_parser = TenantId::parse)]
    tenant: TenantId,
    /// login, register or passwordreset.
    #[arg(long = "type", value_name = "TYPE", value_parser = kind)]
    kind: RequestType,
    /// Always "-": the number comes in on standard input, since others can see arguments.
    #[arg(long, value_name = "-")]
    mobile: String,
    /// CITIZEN or EMPLOYEE.
    #[arg(long, value_name = "TYPE", default_value = "CITIZEN")]
    user_type: String,
    /// The dialling prefix, as +91.
    #[arg(long, value_name = "PREFIX", value_parser = country_code)]
    country_code: Option<CountryCode>,
    /// The language, as hi_IN.
    #[arg(long, value_name = "LOCALE", value_parser = locale)]
    locale: Option<Locale>,
    /// How long to wait for the outcome.
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = humantime::parse_duration)]
    timeout: Duration,
    /// For people, or for programs: then the outcome record as it is.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

fn country_code(text: &str) -> Result<CountryCode, &'static str> {
    CountryCode::parse(text).ok_or("a dialling prefix has one to four digits, as +91")
}

fn locale(text: &str) -> Result<Locale, &'static str> {
    Locale::parse(text).ok_or("a locale is a language, or one with a country, as hi_IN")
}

/// Publishes it and waits. The exit code says what became of it.
///
/// # Errors
///
/// When it could not be published, or its outcome cannot be read.
pub async fn run(
    config: &Config,
    args: &SendArgs,
    terminal: &mut Terminal<'_>,
) -> anyhow::Result<i32> {
    if args.mobile != "-" {
        return Err(NUMBER_TYPED.into());
    }
    let mobile = numbers::one(terminal.input)?;
    start::connect(config, Instant::now() + config.kafka.startup_timeout).await?;
    let connection = service::connection(config);
    // Before the request is there, or its outcome could be missed.
    let mut tail = Tail::open(&connection, &config.topics.outcomes)?;
    let sender =
        Sender::new(&connection).map_err(|stopped| anyhow::anyhow!("no producer: {stopped}"))?;
    let event_id = uuid::Uuid::new_v4().to_string();
    let request = args.request(&config.topics.requests, &mobile, &event_id);
    let begun = Instant::now();
    let place = sender.send(&request).await?;
    terminal.note(&format!(
        "user-otp: request {event_id} is published at {place}; waiting for its outcome, {} at most",
        in_short(args.timeout)
    ))?;
    let deadline = begun + args.timeout;
    while let Some(record) = tail.next_until(deadline)? {
        if record.key.as_deref() != Some(event_id.as_bytes()) {
            continue;
        }
        let Some(seen) = record.value.as_deref().and_then(OutcomeSeen::parse) else {
            continue;
        };
        return show(&record, &seen, args, &mobile, &event_id, terminal);
    }
    terminal.note(&format!(
        "user-otp: no outcome within {}: it may still come. Is `user-otp run` up, and does it keep up? \
         /health/ready on its management port says",
        in_short(args.timeout)
    ))?;
    Ok(EXIT_NO_OUTCOME)
}

impl SendArgs {
    fn request(&self, topic: &str, mobile: &MobileNumber, event_id: &str) -> Outgoing {
        let submission = Submission {
            tenant: Some(self.tenant.as_str().to_owned()),
            mobile: Some(mobile.expose().to_owned()),
            kind: Some(self.kind.as_str().to_owned()),
            user_type: Some(self.user_type.clone()),
            country_code: self
                .country_code
                .as_ref()
                .map(|code| code.as_str().to_owned()),
            locale: self.locale.clone(),
        };
        // A person's requests are in order where they are in one partition.
        let key = format!("{}:{}", self.tenant.as_str(), mobile.expose());
        Outgoing {
            topic: topic.into(),
            key: Some(key.into_bytes()),
            value: Some(wire::request_body(&submission)),
            headers: vec![Header {
                name: headers::EVENT_ID.to_owned(),
                value: Some(event_id.as_bytes().to_vec()),
            }],
        }
    }
}

fn show(
    record: &Record,
    seen: &OutcomeSeen,
    args: &SendArgs,
    mobile: &MobileNumber,
    event_id: &str,
    terminal: &mut Terminal<'_>,
) -> anyhow::Result<i32> {
    match args.output {
        Output::Table => writeln!(terminal.out, "{}", sentence(seen, args, mobile))?,
        Output::Json | Output::Ndjson => {
            let value = record.value.as_deref().unwrap_or_default();
            writeln!(terminal.out, "{}", String::from_utf8_lossy(value))?;
        }
    }
    terminal.out.flush()?;
    if seen.outcome == FinalOutcome::DeadLettered {
        terminal.note(&format!(
            "user-otp dlq show --event-id {event_id}   says more"
        ))?;
    }
    Ok(exit_code(seen.outcome))
}

fn sentence(seen: &OutcomeSeen, args: &SendArgs, mobile: &MobileNumber) -> String {
    let took = EpochMs(seen.finished_at_ms).left(EpochMs(seen.received_at_ms));
    let mut why: Vec<&str> = Vec::new();
    why.extend(seen.disposition.as_deref());
    why.extend(seen.code.as_deref());
    let mut why = why.join(", ");
    if let Some(stage) = &seen.stage {
        why = format!("{why} at {stage}");
    }
    let colon = if why.is_empty() { "" } else { ": " };
    format!(
        "{}{colon}{why}; {} for {} of {}, in {}, tries: {}",
        seen.outcome.as_str(),
        args.kind.as_str(),
        masked(mobile.expose()),
        args.tenant.as_str(),
        in_short(took),
        seen.attempts
    )
}

fn exit_code(outcome: FinalOutcome) -> i32 {
    match outcome {
        FinalOutcome::Published => 0,
        FinalOutcome::Rejected => 10,
        FinalOutcome::Limited => 11,
        FinalOutcome::Superseded => 12,
        FinalOutcome::DeadLettered => 13,
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: SendArgs,
    }

    fn args() -> SendArgs {
        let line = "send --tenant pb.amritsar --type login --mobile - --locale hi_IN";
        Line::try_parse_from(line.split(' ')).expect("a line").args
    }

    fn mobile() -> MobileNumber {
        MobileNumber::parse("9876543210").expect("a number")
    }

    #[test]
    fn the_request_is_one_that_upstream_would_send() {
        let request = args().request("requests", &mobile(), "e-1");
        assert_eq!(request.key.as_deref(), Some(&b"pb.amritsar:9876543210"[..]));
        let value = request.value.expect("a value");
        assert_eq!(
            String::from_utf8_lossy(&value),
            r#"{"RequestInfo":{"apiId":"user-otp","msgId":"user-otp|hi_IN"},"otp":{"mobileNumber":"9876543210","tenantId":"pb.amritsar","type":"login","userType":"CITIZEN"}}"#
        );
    }

    #[test]
    fn an_outcome_is_told_without_the_number() {
        let value = br#"{"eventId":"e-1","outcome":"dead-lettered","disposition":"expired","code":"service-timeout","stage":"otp","attempts":3,"receivedAtMs":1000,"finishedAtMs":66000}"#;
        let seen = OutcomeSeen::parse(value).expect("an outcome");
        assert_eq!(
            sentence(&seen, &args(), &mobile()),
            "dead-lettered: expired, service-timeout at otp; login for ********10 of pb.amritsar, in 1m 5s, tries: 3"
        );
    }

    #[test]
    fn each_outcome_has_an_exit_code_of_its_own() {
        let codes: Vec<i32> = FinalOutcome::ALL
            .iter()
            .map(|one| exit_code(*one))
            .collect();
        assert_eq!(codes, [0, 10, 11, 12, 13]);
    }
}
