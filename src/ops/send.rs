//! `user-otp send`: publishes a request as an upstream service does, or the few of a file, and waits for
//! what becomes of them. Real ones: whoever has the number gets an OTP, and the sending limits count it.

mod many;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;

use super::filter::{NUMBER_TYPED, kind};
use super::moment::in_short;
use super::numbers;
use super::rows::Format;
use super::shown::{Output, masked};
use super::terminal::Terminal;
use super::{Usage, run as start};
use crate::clock::EpochMs;
use crate::config::Config;
use crate::domain::contact::{CountryCode, MobileNumber};
use crate::domain::request::{Locale, RequestType, Submission};
use crate::domain::tenant::TenantId;
use crate::engine::headers;
use crate::engine::output::Outgoing;
use crate::engine::record::{Header, Record};
use crate::engine::sender::Sender;
use crate::engine::tail::Tail;
use crate::outcome::FinalOutcome;
use crate::service;
use crate::wire::{self, OutcomeSeen};

/// Exit code: no outcome came in time.
pub const EXIT_NO_OUTCOME: i32 = 14;

/// Exit code: a row of the file is no request.
pub const EXIT_BAD_ROWS: i32 = 15;

/// The request, or a file of them.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    echo 98765xxxxx | user-otp send --tenant pb.amritsar --type login --mobile -\n  \
    user-otp send --file requests.csv\n  \
    jq -c '…' letters.json | user-otp send --file - --format ndjson --output ndjson\n\n\
    A CSV file names its columns in its first line: tenant, type, mobile, and where they are wanted userType, \
    countryCode, locale, eventId. A line of NDJSON has the same names, or is the body of a request.\n\n\
    Exit codes: 0 published; 10 rejected; 11 limited; 12 superseded; 13 dead-lettered; 14 no outcome in time; \
    15 a row is no request. Of a file, the first of 14, 13, 15, 11, 10, 12 that is true of a row.")]
pub struct SendArgs {
    /// Whose citizen asks.
    #[arg(long, value_name = "TENANT", value_parser = TenantId::parse, required_unless_present = "file")]
    tenant: Option<TenantId>,
    /// login, register or passwordreset.
    #[arg(long = "type", value_name = "TYPE", value_parser = kind, required_unless_present = "file")]
    kind: Option<RequestType>,
    /// Always "-": the number comes in on standard input, since others can see arguments.
    #[arg(long, value_name = "-", required_unless_present = "file")]
    mobile: Option<String>,
    /// CITIZEN or EMPLOYEE.
    #[arg(long, value_name = "TYPE", default_value = "CITIZEN")]
    user_type: String,
    /// The dialling prefix, as +91.
    #[arg(long, value_name = "PREFIX", value_parser = country_code)]
    country_code: Option<CountryCode>,
    /// The language, as hi_IN.
    #[arg(long, value_name = "LOCALE", value_parser = locale)]
    locale: Option<Locale>,
    /// Each request of a CSV or NDJSON file of 1,000 rows at most; "-": on standard input.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["tenant", "kind", "mobile", "user_type", "country_code", "locale"])]
    file: Option<PathBuf>,
    /// How the file is written, where its name does not say.
    #[arg(long, value_enum, requires = "file", conflicts_with = "mobile")]
    format: Option<Format>,
    /// Sends nothing if a row is no request.
    #[arg(long, requires = "file", conflicts_with = "mobile")]
    strict: bool,
    /// How long to wait for the outcome, or for the last one of a file.
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = humantime::parse_duration)]
    timeout: Duration,
    /// For people, or for programs: then the outcome record as it is, or one object a row of the file.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

/// One request, of which the command line says all but the number.
#[derive(Debug)]
struct One<'a> {
    args: &'a SendArgs,
    tenant: &'a TenantId,
    kind: RequestType,
    mobile: MobileNumber,
}

fn country_code(text: &str) -> Result<CountryCode, &'static str> {
    CountryCode::parse(text).ok_or("a dialling prefix has one to four digits, as +91")
}

fn locale(text: &str) -> Result<Locale, &'static str> {
    Locale::parse(text).ok_or("a locale is a language, or one with a country, as hi_IN")
}

/// Publishes it, or them, and waits. The exit code says what became of it.
///
/// # Errors
///
/// When it could not be published, or its outcome cannot be read.
pub async fn run(
    config: &Config,
    args: &SendArgs,
    terminal: &mut Terminal<'_>,
) -> anyhow::Result<i32> {
    match &args.file {
        Some(file) => many::run(config, args, file, terminal).await,
        None => run_one(config, &args.one(terminal)?, terminal).await,
    }
}

async fn run_one(
    config: &Config,
    one: &One<'_>,
    terminal: &mut Terminal<'_>,
) -> anyhow::Result<i32> {
    let (mut tail, sender) = connect(config).await?;
    let event_id = new_event_id();
    let request = outgoing(&config.topics.requests, &one.submission(), &event_id);
    let timeout = one.args.timeout;
    let begun = Instant::now();
    let place = sender.send(&request).await?;
    terminal.note(&format!(
        "user-otp: request {event_id} is published at {place}; waiting for its outcome, {} at most",
        in_short(timeout)
    ))?;
    let deadline = begun + timeout;
    while let Some(record) = tail.next_until(deadline)? {
        if record.key.as_deref() != Some(event_id.as_bytes()) {
            continue;
        }
        let Some(seen) = record.value.as_deref().and_then(OutcomeSeen::parse) else {
            continue;
        };
        return show(&record, &seen, one, &event_id, terminal);
    }
    terminal.note(&format!("user-otp: {}", nothing_within(timeout)))?;
    Ok(EXIT_NO_OUTCOME)
}

/// Where outcomes will be seen, and what publishes.
async fn connect(config: &Config) -> anyhow::Result<(Tail, Sender)> {
    start::reach(config).await?;
    let connection = service::connection(config);
    // Before a request is there, or its outcome could be missed.
    let tail = Tail::open(&connection, &config.topics.outcomes)?;
    let sender =
        Sender::new(&connection).map_err(|stopped| anyhow::anyhow!("no producer: {stopped}"))?;
    Ok((tail, sender))
}

fn new_event_id() -> String {
    uuid::Uuid::new_v4().to_string()
}

/// A request as an upstream service publishes it.
pub(super) fn outgoing(topic: &str, submission: &Submission, event_id: &str) -> Outgoing {
    let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
    // A person's requests are in order where they are in one partition.
    let key = format!(
        "{}:{}",
        text(submission.tenant()),
        text(submission.mobile())
    );
    Outgoing {
        topic: topic.into(),
        key: Some(key.into_bytes()),
        value: Some(wire::request_body(submission)),
        headers: vec![Header {
            name: headers::EVENT_ID.to_owned(),
            value: Some(event_id.as_bytes().to_vec()),
        }],
    }
}

fn nothing_within(timeout: Duration) -> String {
    format!(
        "no outcome within {}: it may still come. Is `user-otp run` up, and does it keep up? /health/ready on its \
         management port says",
        in_short(timeout)
    )
}

impl SendArgs {
    fn one(&self, terminal: &mut Terminal<'_>) -> anyhow::Result<One<'_>> {
        let (Some(tenant), Some(kind)) = (&self.tenant, self.kind) else {
            return Err(Usage("say --tenant, --type and --mobile -, or --file FILE").into());
        };
        if self.mobile.as_deref() != Some("-") {
            return Err(NUMBER_TYPED.into());
        }
        Ok(One {
            args: self,
            tenant,
            kind,
            mobile: numbers::one(terminal.input)?,
        })
    }
}

impl One<'_> {
    fn submission(&self) -> Submission {
        let code = self.args.country_code.as_ref();
        Submission {
            tenant: Some(self.tenant.as_str().to_owned()),
            mobile: Some(self.mobile.expose().to_owned()),
            kind: Some(self.kind.as_str().to_owned()),
            user_type: Some(self.args.user_type.clone()),
            country_code: code.map(|code| code.as_str().to_owned()),
            locale: self.args.locale.clone(),
            missing: None,
        }
    }
}

fn show(
    record: &Record,
    seen: &OutcomeSeen,
    one: &One<'_>,
    event_id: &str,
    terminal: &mut Terminal<'_>,
) -> anyhow::Result<i32> {
    match one.args.output {
        Output::Table => writeln!(terminal.out, "{}", sentence(seen, one))?,
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

fn sentence(seen: &OutcomeSeen, one: &One<'_>) -> String {
    let why = why(seen);
    let colon = if why.is_empty() { "" } else { ": " };
    format!(
        "{}{colon}{why}; {} for {} of {}, in {}, tries: {}",
        seen.outcome.as_str(),
        one.kind.as_str(),
        masked(one.mobile.expose()),
        one.tenant.as_str(),
        in_short(took(seen)),
        seen.attempts
    )
}

fn took(seen: &OutcomeSeen) -> Duration {
    EpochMs(seen.finished_at_ms).left(EpochMs(seen.received_at_ms))
}

fn why(seen: &OutcomeSeen) -> String {
    let mut words: Vec<&str> = Vec::new();
    words.extend(seen.disposition.as_deref());
    words.extend(seen.code.as_deref());
    let words = words.join(", ");
    match &seen.stage {
        Some(stage) => format!("{words} at {stage}"),
        None => words,
    }
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

    fn args(line: &str) -> Result<SendArgs, clap::Error> {
        Line::try_parse_from(line.split(' ')).map(|line| line.args)
    }

    const ONE: &str = "send --tenant pb.amritsar --type login --mobile - --locale hi_IN";

    fn one(args: &SendArgs) -> One<'_> {
        One {
            args,
            tenant: args.tenant.as_ref().expect("a tenant"),
            kind: args.kind.expect("a type"),
            mobile: MobileNumber::parse("9876543210").expect("a number"),
        }
    }

    #[test]
    fn it_is_one_request_or_a_file_of_them() {
        for line in [
            ONE,
            "send --file rows.csv --strict",
            "send --file - --format ndjson",
        ] {
            assert!(args(line).is_ok(), "{line}");
        }
        for line in [
            "send",
            "send --tenant pb --type login",
            "send --file rows.csv --tenant pb",
            "send --file rows.csv --mobile -",
            "send --tenant pb --type login --mobile - --strict",
        ] {
            assert!(args(line).is_err(), "{line}");
        }
    }

    #[test]
    fn the_request_is_one_that_upstream_would_send() {
        let args = args(ONE).expect("a line");
        let request = outgoing("requests", &one(&args).submission(), "e-1");
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
        let args = args(ONE).expect("a line");
        assert_eq!(
            sentence(&seen, &one(&args)),
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
