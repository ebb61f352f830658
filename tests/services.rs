//! Each service × each failure, over real HTTP: what becomes of the request. What is expected is the
//! table of `docs/failures.md`, so that it can be read, and cannot be wrong.
#![expect(clippy::panic, reason = "a table that cannot be read says with what")]

use std::time::Duration;

use rstest::rstest;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use user_otp::clock::{Clock, EpochMs};
use user_otp::config::Config;
use user_otp::domain::request::Submission;
use user_otp::egov::standin::{Behaviour, Fault, Script, Standin};
use user_otp::egov::{AtFloor, Queue, Service, Services};
use user_otp::handler::{Context, Handler as _, OtpHandler, Rules};
use user_otp::known_topics::KnownTopics;
use user_otp::limits::{Charge, Limits};
use user_otp::metrics::Metrics;
use user_otp::outcome::{Outcome, Stage};

/// 2024-11-23 07:28:00 UTC.
const NOW: EpochMs = EpochMs(1_732_346_880_000);
/// Known to the stand-in of egov-user.
const NUMBER: &str = "9876543210";
/// How long a service may take where it is not late.
const LONG: &str = "20s";

const TABLE: &str = include_str!("../docs/failures.md");

/// A failure of the table: its name, and how the stand-in fails so.
#[derive(Debug, Clone, Copy)]
enum Failure {
    Refused,
    Reset,
    Silent,
    SlowHeader,
    SlowBody,
    Truncated,
    TooLarge,
    NotJson,
    WrongShape,
    Html,
    Redirect,
    Outage,
    Status(u16),
    Busy(u16, &'static str),
}

use Failure::{Busy, Status};

const DATE: &str = "Sat, 23 Nov 2024 07:29:30 GMT";

const ALL: [Failure; 22] = [
    Failure::Refused,
    Failure::Reset,
    Failure::Silent,
    Failure::SlowHeader,
    Failure::SlowBody,
    Failure::Truncated,
    Failure::TooLarge,
    Failure::NotJson,
    Failure::WrongShape,
    Failure::Html,
    Failure::Redirect,
    Status(400),
    Failure::Outage,
    Status(401),
    Status(403),
    Status(404),
    Status(408),
    Status(429),
    Busy(429, "7"),
    Status(500),
    Status(503),
    Busy(503, DATE),
];

impl Failure {
    fn name(self) -> String {
        let name = match self {
            Self::Refused => "connection refused",
            Self::Reset => "connection reset",
            Self::Silent => "no answer",
            Self::SlowHeader => "slow header",
            Self::SlowBody => "slow body",
            Self::Truncated => "truncated body",
            Self::TooLarge => "too large a body",
            Self::NotJson => "200, not JSON",
            Self::WrongShape => "200, JSON of another shape",
            Self::Html => "200, HTML",
            Self::Redirect => "307, a redirect",
            Self::Outage => "400, an outage's code",
            Status(status) => return status.to_string(),
            Busy(status, DATE) => return format!("{status}, Retry-After: a date"),
            Busy(status, wish) => return format!("{status}, Retry-After: {wish}"),
        };
        name.to_owned()
    }

    /// None: nobody listens.
    fn fault(self) -> Option<Fault> {
        Some(match self {
            Self::Refused => return None,
            Self::Reset => Fault::Reset,
            Self::Silent => Fault::Hang,
            Self::SlowHeader => Fault::SlowHeader { pause_ms: 100 },
            Self::SlowBody => Fault::SlowBody { pause_ms: 100 },
            Self::Truncated => Fault::Truncated,
            Self::TooLarge => Fault::Oversized { bytes: 1_048_576 },
            Self::NotJson => Fault::NotJson,
            Self::WrongShape => Fault::WrongShape,
            Self::Html => Fault::Html,
            Self::Redirect => Fault::status_with(307, "location", "/_standin/health"),
            Self::Outage => Fault::tracer("QUERY_EXECUTION_ERROR", ""),
            Status(status) => Fault::status(status),
            Busy(status, wish) => Fault::status_with(status, "retry-after", wish),
        })
    }

    /// What the table says of it, in one of its columns.
    fn expected(self, column: usize) -> String {
        let name = self.name();
        let rows = rows().into_iter();
        let mut rows = rows.filter(|row| row[0] == name);
        let row = rows.next().unwrap_or_else(|| panic!("no row for {name}"));
        row[column].to_owned()
    }
}

fn rows() -> Vec<Vec<&'static str>> {
    let rows = TABLE.lines().filter(|line| line.starts_with("| "));
    rows.skip(2)
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect()
}

/// The stand-ins, one of which is to fail, and a handler that asks each service once.
struct World {
    /// Gone where nobody is to listen.
    broken: Option<Standin>,
    _others: Standin,
    clock: Clock,
    handler: OtpHandler,
}

impl World {
    /// Where `broken` is going to fail as `failure` does.
    async fn new(broken: Service, failure: Failure) -> Self {
        let (to_break, others) = (standin().await, standin().await);
        let late = matches!(
            failure,
            Failure::Silent | Failure::SlowHeader | Failure::SlowBody
        );
        let settings = Service::ALL.into_iter().flat_map(|service| {
            let section = section(service);
            let breaks = service == broken;
            let url = if breaks { &to_break } else { &others }.url();
            let patience = if breaks && late { "300ms" } else { LONG };
            [
                (format!("{section}__URL"), url),
                (format!("{section}__TIMEOUT"), patience.to_owned()),
            ]
        });
        let clock = Clock::fixed(NOW);
        let handler = handler(settings.collect(), &clock);
        Self {
            broken: Some(to_break),
            _others: others,
            clock,
            handler,
        }
    }

    /// What becomes of a request while `service` fails.
    async fn fails(&mut self, service: Service, failure: Failure) -> Outcome {
        match (failure.fault(), &self.broken) {
            (Some(fault), Some(broken)) => broken.set(service, Behaviour::failing(fault)),
            (Some(_) | None, _) => {
                if let Some(broken) = self.broken.take() {
                    broken.stop().await;
                }
            }
        }
        ask(&self.handler, &self.clock).await
    }

    fn calls(&self, service: Service) -> Option<usize> {
        let broken = self.broken.as_ref()?;
        Some(broken.calls(service))
    }
}

async fn standin() -> Standin {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let standin = Standin::start(listener, Script::default()).await;
    standin.expect("it listens")
}

async fn ask(handler: &OtpHandler, clock: &Clock) -> Outcome {
    let body = format!(
        r#"{{"otp": {{"mobileNumber": "{NUMBER}", "tenantId": "pb.amritsar", "type": "login",
                 "userType": "CITIZEN"}}}}"#
    );
    let submission = Submission::decode(body.as_bytes()).expect("a request");
    let context = Context {
        deadline: clock.now().plus(Duration::from_secs(300)),
        correlation_id: None,
        traceparent: None,
        tenant_header: None,
        queue: Queue::Live,
        at_floor: AtFloor::Wait,
        charge: Charge::never(),
    };
    let stop = CancellationToken::new();
    let outcome = handler.handle(&submission, &context, &stop).await;
    outcome.expect("nobody stopped it")
}

fn section(service: Service) -> &'static str {
    match service {
        Service::Users => "USERS",
        Service::Otp => "OTP",
        Service::Texts => "LOCALIZATION",
        Service::Rules => "MDMS",
    }
}

fn stage(service: Service) -> Stage {
    match service {
        Service::Users => Stage::User,
        Service::Otp => Stage::Otp,
        Service::Texts => Stage::Texts,
        Service::Rules => Stage::Rules,
    }
}

fn handler(settings: Vec<(String, String)>, clock: &Clock) -> OtpHandler {
    let ours = [
        ("SERVICES__TRIES", "1"),
        ("TEXTS__TTL", "1s"),
        ("RULES__TTL_SECONDS", "1"),
        ("OTP__PATH", "/otp/v1/_create"),
    ];
    let ours = ours.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let settings = settings.into_iter().chain(ours);
    let settings = settings.map(|(name, value)| (format!("USER_OTP__{name}"), value));
    let (config, _) = Config::load(None, settings).expect("right settings");
    let services = Services::new(&config, clock.clone(), Metrics::default()).expect("a client");
    let limits = Limits::new(&config, None, clock.clone());
    OtpHandler::new(
        services,
        limits,
        KnownTopics::default(),
        Rules::of(&config),
        clock.clone(),
    )
}

/// In the words of the table; `stage`: where it must have failed.
fn told(outcome: &Outcome, stage: Stage) -> String {
    match outcome {
        Outcome::Retried(setback) => {
            assert_eq!(setback.stage, stage);
            let after = setback.retry_after;
            let after = after.map_or(String::new(), |wish| format!(" after {} s", wish.as_secs()));
            format!("retried{after}, `{}`", setback.code.as_str())
        }
        Outcome::DeadLettered(failure) => {
            assert_eq!(failure.stage, stage);
            assert_eq!(failure.disposition.as_str(), "refused");
            format!("dead letter, `{}`", failure.code.as_str())
        }
        Outcome::Published(_) => "published".to_owned(),
        Outcome::Rejected(_) => "rejected".to_owned(),
        Outcome::Limited(_) => "limited".to_owned(),
    }
}

#[rstest]
#[tokio::test]
async fn each_failure_of_each_service_ends_as_the_table_says(
    #[values(Service::Users, Service::Otp, Service::Texts, Service::Rules)] service: Service,
) {
    for failure in ALL {
        let column = match service {
            Service::Users | Service::Otp => 1,
            Service::Texts | Service::Rules => 2,
        };
        let mut world = World::new(service, failure).await;
        let outcome = world.fails(service, failure).await;
        let told = told(&outcome, stage(service));
        assert_eq!(told, failure.expected(column), "{service:?}: {failure:?}");
    }
}

#[rstest]
#[tokio::test]
async fn where_there_is_a_copy_it_serves_whatever_fails(
    #[values(Service::Texts, Service::Rules)] service: Service,
) {
    for failure in ALL {
        let mut world = World::new(service, failure).await;
        let first = ask(&world.handler, &world.clock).await;
        assert_eq!(told(&first, stage(service)), "published");
        // The copy is no longer fresh.
        world.clock.set(NOW.plus(Duration::from_secs(100)));
        let asked = world.calls(service);
        let outcome = world.fails(service, failure).await;
        let told = told(&outcome, stage(service));
        assert_eq!(told, "published", "{service:?}: {failure:?}");
        let again = world.calls(service);
        assert!(
            again.is_none_or(|_| again > asked),
            "{failure:?}: it was asked"
        );
    }
}

#[test]
fn the_table_has_a_row_for_each_failure_and_no_other() {
    let names: Vec<_> = rows().iter().map(|row| row[0].to_owned()).collect();
    assert_eq!(names, ALL.map(Failure::name));
}
