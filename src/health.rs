//! Whether the process lives, and whether it is ready: reports made of a snapshot, pure.
//!
//! *Dead* is what only a restart mends. Lag, a service or Kafka being down are not: a restart
//! would make each of them worse. *Ready* is whether requests that come now are taken and
//! finished; a service being down is said, and changes nothing, since requests wait for it.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use crate::egov::ServiceState;
use crate::engine::poison::Share;
use crate::engine::state::Partition;
use crate::engine::trouble::Trouble;
use crate::engine::window::Span;
use crate::known_topics::Refusal;

/// The name of the consumer.
pub const CONSUMER: &str = "kafka-consumer";

/// A producer call that is older will never return. The watchdog ends the process then.
pub const HUNG: Duration = Duration::from_secs(60);

/// What has waited longer for its commit, or for one call, is not confirmed.
const UNCONFIRMED: Duration = Duration::from_secs(30);

/// So many of the consumer's troubles are named.
const SHOWN_TROUBLES: usize = 5;

/// How long a request may stay past its deadline, and for how long transactions must have gone
/// through, before that is a defect: after an outage what waited is finished first.
const STUCK: Duration = Duration::from_secs(60);

/// What the reports are made of.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// The engine, where it runs here.
    pub engine: Option<Engine>,
    /// The consumer group, where the engine runs elsewhere.
    pub group: Option<Group>,
    /// Each door's producer.
    pub producers: Vec<Producer>,
    /// The services that are called.
    pub services: Vec<ServiceState>,
    /// Whether the SMS and the email topic are there; none where each tenant has its own.
    pub senders: Option<Senders>,
    /// Why the brokers refuse the consumer, and what to do.
    pub consumer_refusal: Option<String>,
    /// Topics that take no records now.
    pub refusing: Vec<Refusing>,
    /// Topics much of whose input cannot be read.
    pub floods: Vec<Share>,
    /// What keeps records from being read.
    pub consumer_troubles: Vec<Trouble>,
    /// What cannot be decoded of our own topics: these partitions wait for an operator.
    pub unreadable: Vec<(Partition, Span)>,
    /// Topics that are named like retry topics and are none.
    pub foreign_topics: BTreeSet<Arc<str>>,
    /// Redis, where it is configured.
    pub redis: Option<Redis>,
    /// How this machine's clock compares with the brokers'.
    pub clock: ClockHealth,
}

/// The engine's signs of life.
#[derive(Debug, Clone, Copy, Default)]
pub struct Engine {
    /// How long ago the poll loop last turned.
    pub since_poll: Duration,
    /// The longest that it may stand still, `max.poll.interval.ms`.
    pub max_poll_interval: Duration,
    /// Whether it is in its group.
    pub joined: bool,
    /// Partitions whose start is not known yet.
    pub pending: usize,
    /// How long ago the request that is most overdue should have had its end.
    pub overdue: Option<Duration>,
    /// For how long transactions have been going through, without one that did not.
    pub committing_for: Option<Duration>,
    /// How long ago the last one did.
    pub since_commit: Option<Duration>,
}

/// A producer's signs of life.
#[derive(Debug, Clone)]
pub struct Producer {
    /// Whose it is.
    pub name: &'static str,
    /// How long its call under way has been waiting.
    pub call_age: Option<Duration>,
    /// For how long there has been something to commit that is not, over all attempts.
    pub unconfirmed_for: Option<Duration>,
    /// Whether transactions with results have failed for too long, though brokers answer.
    pub stalled: bool,
    /// Why the brokers refuse it, and what to do.
    pub refusal: Option<String>,
}

/// Whether any engine of the group is alive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    /// So many members.
    Members(usize),
    /// The brokers do not say: the group uses the newer protocol.
    Untold,
    /// No broker answered.
    Unreachable,
}

/// The topics of the platform's senders.
#[derive(Debug, Clone, Copy)]
pub struct Senders {
    /// The SMS topic is there.
    pub sms: bool,
    /// The email topic is there.
    pub email: bool,
}

/// A topic that takes no records; what is for it waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusing {
    /// Its name.
    pub topic: String,
    /// Why.
    pub why: Refusal,
    /// Whether no OTP gets out without it.
    pub every: bool,
}

/// The shared state of sending limits and idempotency keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Redis {
    /// It answers.
    Up,
    /// It does not; each instance goes by its own memory.
    Down,
}

/// How this machine's clock compares with the brokers', by the time that they give to a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ClockHealth {
    /// No record came yet to compare by.
    #[default]
    NothingYet,
    /// The topic has its producers' times, or may not be described.
    NotCompared,
    /// Within `request.min_life`.
    Agrees,
    /// Ahead by so much: requests end too early.
    Ahead(Duration),
    /// Behind by so much: requests are served too late.
    Behind(Duration),
}

impl ClockHealth {
    /// By how many seconds this machine's clock is ahead, where it is compared; negative if it is behind.
    #[must_use]
    pub fn seconds_ahead(self) -> Option<f64> {
        match self {
            Self::NothingYet | Self::NotCompared => None,
            Self::Agrees => Some(0.0),
            Self::Ahead(by) => Some(by.as_secs_f64()),
            Self::Behind(by) => Some(-by.as_secs_f64()),
        }
    }
}

/// How something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Status {
    /// As it should be.
    Up,
    /// Less is done than should be, and the rest goes on.
    Degraded,
    /// Not at all.
    Down,
}

/// One dependency.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// Which.
    pub name: &'static str,
    /// How it is.
    pub status: Status,
    /// Why it is not up, or what is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Cow<'static, str>>,
    /// Whether the whole is no better than this.
    #[serde(skip)]
    decides: bool,
}

/// The answer of a health endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The worst of what decides.
    pub status: Status,
    /// Each dependency.
    pub checks: Vec<Check>,
}

impl Report {
    fn of(checks: Vec<Check>) -> Self {
        let deciding = checks.iter().filter(|check| check.decides);
        let status = deciding.map(|check| check.status).max();
        Self {
            status: status.unwrap_or(Status::Up),
            checks,
        }
    }
}

/// Whether the process lives; down: only a restart helps.
#[must_use]
pub fn live(snapshot: &Snapshot) -> Report {
    let mut checks = Vec::new();
    if let Some(engine) = &snapshot.engine {
        let stands = engine.since_poll >= engine.max_poll_interval;
        checks.push(check(
            "poll-loop",
            stands.then_some((Status::Down, "it does not turn")),
        ));
        let committing = at_least(engine.committing_for, STUCK)
            && engine.since_commit.is_some_and(|age| age < STUCK);
        // What waits for a topic that takes nothing is overdue without a defect.
        let waits = !snapshot.refusing.is_empty();
        let stuck = committing && !waits && at_least(engine.overdue, STUCK);
        let reason = "one is unfinished a minute past its deadline";
        checks.push(check("requests", stuck.then_some((Status::Down, reason))));
    }
    checks.extend(snapshot.producers.iter().map(|producer| {
        let reason = if at_least(producer.call_age, HUNG) {
            Some("a call to Kafka does not return")
        } else if producer.stalled {
            Some("results wait, and no transaction goes through, though brokers answer: restart once")
        } else {
            None
        };
        check(producer.name, reason.map(|reason| (Status::Down, reason)))
    }));
    Report::of(checks)
}

/// Whether requests that come now are taken and finished.
#[must_use]
pub fn ready(snapshot: &Snapshot) -> Report {
    let mut checks = Vec::new();
    let troubles = &snapshot.consumer_troubles;
    let refusal = snapshot.consumer_refusal.as_deref();
    checks.extend(
        snapshot
            .engine
            .as_ref()
            .map(|engine| consumer(engine, troubles, refusal)),
    );
    checks.extend(snapshot.group.map(group));
    checks.extend(snapshot.producers.iter().map(producer));
    checks.extend(snapshot.senders.into_iter().flat_map(senders));
    checks.extend(output_topics(&snapshot.refusing));
    checks.extend(input(&snapshot.floods));
    checks.extend(unreadable(&snapshot.unreadable));
    checks.extend(foreign(&snapshot.foreign_topics));
    checks.extend(snapshot.redis.map(redis));
    checks.push(clock(snapshot.clock));
    checks.extend(snapshot.services.iter().map(service));
    Report::of(checks)
}

fn at_least(age: Option<Duration>, bound: Duration) -> bool {
    age.is_some_and(|age| age >= bound)
}

fn check(name: &'static str, trouble: Option<(Status, &'static str)>) -> Check {
    told(
        name,
        trouble.map(|(status, reason)| (status, reason.into())),
    )
}

fn told(name: &'static str, trouble: Option<(Status, Cow<'static, str>)>) -> Check {
    let (status, reason) = trouble.map_or((Status::Up, None), |(status, reason)| {
        (status, Some(reason))
    });
    Check {
        name,
        status,
        reason,
        decides: true,
    }
}

fn consumer(engine: &Engine, troubles: &[Trouble], refusal: Option<&str>) -> Check {
    let (status, state) = if !engine.joined {
        (Status::Down, Some("not a member of the consumer group"))
    } else if engine.pending > 0 {
        let reason = "where a partition starts is not known yet";
        (Status::Down, Some(reason))
    } else if troubles.is_empty() && refusal.is_none() {
        (Status::Up, None)
    } else {
        (Status::Degraded, None)
    };
    let shown = troubles.iter().take(SHOWN_TROUBLES).map(|one| &*one.text);
    let more = troubles.len().saturating_sub(SHOWN_TROUBLES);
    let more = (more > 0).then(|| format!("and {more} more"));
    let state = match (state, refusal) {
        (state, None) => state.map(Cow::from),
        (state, Some(refusal)) => {
            let state = state.unwrap_or("the brokers refuse it");
            Some(format!("{state}: {refusal}").into())
        }
    };
    let reasons: Vec<_> = state
        .as_deref()
        .into_iter()
        .chain(shown)
        .chain(more.as_deref())
        .collect();
    let reason = Cow::from(reasons.join("; "));
    told(CONSUMER, (status != Status::Up).then_some((status, reason)))
}

/// The same with the brokers' reason, which alone is no better than less than there should be.
fn refused(
    name: &'static str,
    trouble: Option<(Status, &'static str)>,
    refusal: Option<&str>,
) -> Check {
    let Some(refusal) = refusal else {
        return check(name, trouble);
    };
    let (status, reason) = trouble.unwrap_or((Status::Degraded, "the brokers refuse it"));
    told(name, Some((status, format!("{reason}: {refusal}").into())))
}

fn group(group: Group) -> Check {
    let trouble = match group {
        Group::Members(0) => Some((Status::Down, "no engine of the group is alive")),
        Group::Members(_) => None,
        Group::Untold => Some((Status::Degraded, "whether an engine is alive is not told")),
        Group::Unreachable => Some((Status::Down, "no broker answers")),
    };
    check("engines", trouble)
}

fn producer(producer: &Producer) -> Check {
    let late = at_least(producer.unconfirmed_for.max(producer.call_age), UNCONFIRMED);
    let trouble = late.then_some((Status::Down, "Kafka does not confirm"));
    refused(producer.name, trouble, producer.refusal.as_deref())
}

fn senders(there: Senders) -> [Check; 2] {
    let sms = (!there.sms).then_some((Status::Down, "it is missing: no SMS can be sent"));
    let email = (!there.email).then_some((Status::Degraded, "it is missing: SMS go alone"));
    [check("sms-topic", sms), check("email-topic", email)]
}

fn output_topics(refusing: &[Refusing]) -> Option<Check> {
    let status = |one: &Refusing| {
        let every = one.every && one.why == Refusal::Away;
        if every {
            Status::Down
        } else {
            Status::Degraded
        }
    };
    let reason = |one: &Refusing| match one.why {
        Refusal::Away => format!("{} is missing or forbidden", one.topic),
        Refusal::TooSmall => format!("max.message.bytes of {} is too small", one.topic),
    };
    let worst = refusing.iter().map(status).max()?;
    let reasons: Vec<_> = refusing.iter().map(reason).collect();
    let reason = format!("{}: what is for it waits", reasons.join(", "));
    Some(told("output-topics", Some((worst, reason.into()))))
}

fn input(floods: &[Share]) -> Option<Check> {
    let part = |share: &Share| format!("{} % of what came on {}", share.percent(), share.topic);
    let parts: Vec<_> = floods.iter().map(part).collect();
    let reason = format!("{} lately cannot be read", parts.join(", "));
    (!floods.is_empty()).then(|| told("input", Some((Status::Degraded, reason.into()))))
}

fn unreadable(held: &[(Partition, Span)]) -> Option<Check> {
    let part = |(partition, range): &(Partition, Span)| {
        let last = range.until - 1;
        format!("{partition} from {} to {last}", range.from)
    };
    let parts: Vec<_> = held.iter().map(part).collect();
    let reason = format!(
        "{} cannot be decoded, and the partition waits: check the brokers' disks, then see user-otp topics skip-unreadable",
        parts.join(", ")
    );
    (!held.is_empty()).then(|| {
        told(
            "unreadable-batches",
            Some((Status::Degraded, reason.into())),
        )
    })
}

fn foreign(topics: &BTreeSet<Arc<str>>) -> Option<Check> {
    let names: Vec<&str> = topics.iter().map(|topic| &**topic).collect();
    let reason = format!(
        "named like a retry topic, without a delay that can be read: {} is not read; move it out of topics.retry_prefix",
        names.join(", ")
    );
    (!names.is_empty()).then(|| told("retry-topics", Some((Status::Degraded, reason.into()))))
}

fn clock(clock: ClockHealth) -> Check {
    let (status, reason) = match clock {
        ClockHealth::NothingYet | ClockHealth::Agrees => return check("clock", None),
        ClockHealth::NotCompared => {
            let reason = "not compared with the brokers': the outcome topic has no LogAppendTime";
            (Status::Up, reason.into())
        }
        ClockHealth::Ahead(by) => {
            let reason = format!(
                "this machine's clock is {} ahead of the brokers': requests end as deadline-near; set the clock",
                humantime::format_duration(by)
            );
            (Status::Degraded, reason.into())
        }
        ClockHealth::Behind(by) => {
            let reason = format!(
                "this machine's clock is {} behind the brokers': requests are served past their deadline; set the clock",
                humantime::format_duration(by)
            );
            (Status::Degraded, reason.into())
        }
    };
    told("clock", Some((status, reason)))
}

fn redis(redis: Redis) -> Check {
    let trouble = match redis {
        Redis::Up => None,
        Redis::Down => Some((Status::Degraded, "each instance goes by its own memory")),
    };
    check("redis", trouble)
}

fn service(service: &ServiceState) -> Check {
    let failed = service.last.and_then(Result::err);
    Check {
        decides: false,
        ..check(
            service.service.as_str(),
            failed.map(|code| (Status::Down, code.as_str())),
        )
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::egov::{Load, Service};
    use crate::engine::trouble::TroubleKind;
    use crate::outcome::Code;

    const SECOND: Duration = Duration::from_secs(1);

    fn well() -> Snapshot {
        Snapshot {
            engine: Some(Engine {
                max_poll_interval: 120 * SECOND,
                joined: true,
                committing_for: Some(3_600 * SECOND),
                since_commit: Some(SECOND),
                ..Engine::default()
            }),
            producers: vec![producer("kafka-producer", 1)],
            senders: Some(Senders {
                sms: true,
                email: true,
            }),
            services: vec![service_with(Ok(()))],
            ..Snapshot::default()
        }
    }

    fn engine(change: impl FnOnce(&mut Engine)) -> Snapshot {
        let mut snapshot = well();
        change(snapshot.engine.as_mut().unwrap());
        snapshot
    }

    fn producer(name: &'static str, seconds: u32) -> Producer {
        Producer {
            name,
            call_age: Some(seconds * SECOND),
            unconfirmed_for: None,
            stalled: false,
            refusal: None,
        }
    }

    fn unconfirmed(seconds: u32) -> Snapshot {
        let producer = Producer {
            unconfirmed_for: Some(seconds * SECOND),
            ..producer("kafka-producer", 5)
        };
        Snapshot {
            producers: vec![producer],
            ..well()
        }
    }

    fn producer_is(change: impl FnOnce(&mut Producer)) -> Snapshot {
        let mut snapshot = well();
        change(&mut snapshot.producers[0]);
        snapshot
    }

    fn service_with(last: Result<(), Code>) -> ServiceState {
        ServiceState {
            service: Service::Otp,
            load: Load {
                limit: 256,
                in_use: 256,
                waiting: 4_000,
            },
            last: Some(last),
        }
    }

    fn troubled(count: usize, joined: bool) -> Snapshot {
        let troubles = (0..count).map(|number| Trouble {
            kind: TroubleKind::Stalled,
            text: format!("partition {number}"),
        });
        Snapshot {
            consumer_troubles: troubles.collect(),
            ..engine(|one| one.joined = joined)
        }
    }

    fn without_engine(group: Group) -> Snapshot {
        Snapshot {
            engine: None,
            group: Some(group),
            ..well()
        }
    }

    fn senders_are(sms: bool, email: bool) -> Snapshot {
        Snapshot {
            senders: Some(Senders { sms, email }),
            ..well()
        }
    }

    fn clock_is(clock: ClockHealth) -> Snapshot {
        Snapshot { clock, ..well() }
    }

    fn refusing(topic: &str, why: Refusal, every: bool) -> Snapshot {
        let topic = topic.to_owned();
        Snapshot {
            refusing: vec![Refusing { topic, why, every }],
            ..well()
        }
    }

    fn flood(topic: &str, poison: u64) -> Share {
        Share {
            topic: topic.into(),
            records: 100,
            poison,
        }
    }

    /// The status, and the first dependency that is not up with its reason.
    fn said(report: &Report) -> (Status, Option<(&'static str, &str)>) {
        let trouble = report
            .checks
            .iter()
            .find_map(|check| Some((check.name, check.reason.as_deref()?)));
        (report.status, trouble)
    }

    #[rstest]
    #[case::well(well(), None)]
    #[case::no_engine(without_engine(Group::Unreachable), None)]
    #[case::polls_late(engine(|one| one.since_poll = 119 * SECOND), None)]
    #[case::does_not_poll(engine(|one| one.since_poll = 120 * SECOND), Some(("poll-loop", "it does not turn")))]
    #[case::operators_interval(
        engine(|one| { one.since_poll = 10 * SECOND; one.max_poll_interval = 10 * SECOND; }),
        Some(("poll-loop", "it does not turn"))
    )]
    #[case::not_joined(engine(|one| one.joined = false), None)]
    #[case::slow_call(Snapshot { producers: vec![producer("http-producer", 59)], ..well() }, None)]
    #[case::hung_call(
        Snapshot { producers: vec![producer("kafka-producer", 1), producer("http-producer", 60)], ..well() },
        Some(("http-producer", "a call to Kafka does not return"))
    )]
    #[case::unconfirmed(unconfirmed(600), None)]
    #[case::refused(producer_is(|one| one.refusal = Some("INVALID: fix it".into())), None)]
    #[case::commits_stalled(
        producer_is(|one| one.stalled = true),
        Some((
            "kafka-producer",
            "results wait, and no transaction goes through, though brokers answer: restart once"
        ))
    )]
    #[case::a_little_overdue(engine(|one| one.overdue = Some(59 * SECOND)), None)]
    #[case::stuck(
        engine(|one| one.overdue = Some(60 * SECOND)),
        Some(("requests", "one is unfinished a minute past its deadline"))
    )]
    #[case::overdue_while_kafka_is_away(
        engine(|one| { one.overdue = Some(600 * SECOND); one.committing_for = None; }),
        None
    )]
    #[case::overdue_for_a_topic_that_takes_nothing(
        Snapshot {
            engine: Some(Engine {
                overdue: Some(600 * SECOND),
                ..well().engine.unwrap()
            }),
            ..refusing("dead", Refusal::TooSmall, false)
        },
        None
    )]
    #[case::overdue_just_after_an_outage(
        engine(|one| { one.overdue = Some(600 * SECOND); one.committing_for = Some(SECOND); }),
        None
    )]
    #[case::overdue_while_nothing_commits(
        engine(|one| { one.overdue = Some(600 * SECOND); one.since_commit = Some(60 * SECOND); }),
        None
    )]
    #[case::service_down(Snapshot { services: vec![service_with(Err(Code::ServiceTimeout))], ..well() }, None)]
    fn dead_is_what_only_a_restart_mends(
        #[case] snapshot: Snapshot,
        #[case] trouble: Option<(&'static str, &'static str)>,
    ) {
        let status = trouble.map_or(Status::Up, |_| Status::Down);
        assert_eq!(said(&live(&snapshot)), (status, trouble));
    }

    #[rstest]
    #[case::well(well(), Status::Up, None)]
    #[case::not_joined(
        engine(|one| one.joined = false),
        Status::Down,
        Some(("kafka-consumer", "not a member of the consumer group"))
    )]
    #[case::not_joined_for_a_reason(
        Snapshot {
            consumer_refusal: Some("INVALID_GROUP_ID: fix it".into()),
            ..engine(|one| one.joined = false)
        },
        Status::Down,
        Some((
            "kafka-consumer",
            "not a member of the consumer group: INVALID_GROUP_ID: fix it"
        ))
    )]
    #[case::refused_and_still_a_member(
        Snapshot { consumer_refusal: Some("INVALID_GROUP_ID: fix it".into()), ..well() },
        Status::Degraded,
        Some(("kafka-consumer", "the brokers refuse it: INVALID_GROUP_ID: fix it"))
    )]
    #[case::producer_is_refused(
        producer_is(|one| one.refusal = Some("NOT_ENOUGH_REPLICAS: fix it".into())),
        Status::Degraded,
        Some(("kafka-producer", "the brokers refuse it: NOT_ENOUGH_REPLICAS: fix it"))
    )]
    #[case::a_start_is_pending(
        engine(|one| one.pending = 1),
        Status::Down,
        Some(("kafka-consumer", "where a partition starts is not known yet"))
    )]
    #[case::a_partition_stalls(
        troubled(1, true),
        Status::Degraded,
        Some(("kafka-consumer", "partition 0"))
    )]
    #[case::many_partitions_stall(
        troubled(7, true),
        Status::Degraded,
        Some((
            "kafka-consumer",
            "partition 0; partition 1; partition 2; partition 3; partition 4; and 2 more"
        ))
    )]
    #[case::an_error_says_why_it_is_not_joined(
        troubled(1, false),
        Status::Down,
        Some(("kafka-consumer", "not a member of the consumer group; partition 0"))
    )]
    #[case::confirms_late(unconfirmed(29), Status::Up, None)]
    #[case::does_not_confirm(
        unconfirmed(30),
        Status::Down,
        Some(("kafka-producer", "Kafka does not confirm"))
    )]
    #[case::one_call_waits(
        Snapshot { producers: vec![producer("http-producer", 30)], ..well() },
        Status::Down,
        Some(("http-producer", "Kafka does not confirm"))
    )]
    #[case::no_email_topic(
        senders_are(true, false),
        Status::Degraded,
        Some(("email-topic", "it is missing: SMS go alone"))
    )]
    #[case::no_sms_topic(
        senders_are(false, true),
        Status::Down,
        Some(("sms-topic", "it is missing: no SMS can be sent"))
    )]
    #[case::sms_forbidden(
        refusing("sms", Refusal::Away, true),
        Status::Down,
        Some(("output-topics", "sms is missing or forbidden: what is for it waits"))
    )]
    #[case::dead_letters_forbidden(
        refusing("dead", Refusal::Away, false),
        Status::Degraded,
        Some(("output-topics", "dead is missing or forbidden: what is for it waits"))
    )]
    #[case::outcomes_too_small(
        refusing("outcomes", Refusal::TooSmall, true),
        Status::Degraded,
        Some((
            "output-topics",
            "max.message.bytes of outcomes is too small: what is for it waits"
        ))
    )]
    #[case::poison(
        Snapshot { floods: vec![flood("requests", 90)], ..well() },
        Status::Degraded,
        Some(("input", "90 % of what came on requests lately cannot be read"))
    )]
    #[case::foreign_topic(
        Snapshot { foreign_topics: BTreeSet::from(["retry.5x".into()]), ..well() },
        Status::Degraded,
        Some((
            "retry-topics",
            "named like a retry topic, without a delay that can be read: retry.5x is not read; move it out of topics.retry_prefix"
        ))
    )]
    #[case::clock_ahead(
        clock_is(ClockHealth::Ahead(120 * SECOND)),
        Status::Degraded,
        Some(("clock", "this machine's clock is 2m ahead of the brokers': requests end as deadline-near; set the clock"))
    )]
    #[case::clock_behind(
        clock_is(ClockHealth::Behind(90 * SECOND)),
        Status::Degraded,
        Some(("clock", "this machine's clock is 1m 30s behind the brokers': requests are served past their deadline; set the clock"))
    )]
    #[case::clock_agrees(clock_is(ClockHealth::Agrees), Status::Up, None)]
    #[case::clock_not_compared(
        clock_is(ClockHealth::NotCompared),
        Status::Up,
        Some((
            "clock",
            "not compared with the brokers': the outcome topic has no LogAppendTime"
        ))
    )]
    #[case::no_redis(Snapshot { redis: Some(Redis::Up), ..well() }, Status::Up, None)]
    #[case::redis_down(
        Snapshot { redis: Some(Redis::Down), ..well() },
        Status::Degraded,
        Some(("redis", "each instance goes by its own memory"))
    )]
    #[case::service_down_is_said_and_changes_nothing(
        Snapshot { services: vec![service_with(Err(Code::ServiceTimeout))], ..well() },
        Status::Up,
        Some(("otp", "service-timeout"))
    )]
    #[case::engines_elsewhere(without_engine(Group::Members(2)), Status::Up, None)]
    #[case::no_engine_anywhere(
        without_engine(Group::Members(0)),
        Status::Down,
        Some(("engines", "no engine of the group is alive"))
    )]
    #[case::engines_not_told(
        without_engine(Group::Untold),
        Status::Degraded,
        Some(("engines", "whether an engine is alive is not told"))
    )]
    #[case::no_broker(
        without_engine(Group::Unreachable),
        Status::Down,
        Some(("engines", "no broker answers"))
    )]
    fn ready_is_who_takes_and_finishes_requests(
        #[case] snapshot: Snapshot,
        #[case] status: Status,
        #[case] trouble: Option<(&'static str, &'static str)>,
    ) {
        assert_eq!(said(&ready(&snapshot)), (status, trouble));
    }
}
