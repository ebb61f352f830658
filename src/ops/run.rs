//! `user-otp run`: check what is needed, start, say so, and end in order.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail};
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::budgets::Budgets;
use crate::cli::{EXIT_CUT_SHORT, EXIT_SECOND_SIGNAL};
use crate::clock::Clock;
use crate::config::Config;
use crate::engine::Drained;
use crate::engine::admin::{Admin, AdminError, SET_ADVERTISED};
use crate::engine::broker_clock::{BrokerClock, ClockWatch};
use crate::http::server;
use crate::known_topics::KnownTopics;
use crate::service::{self, Brokers, Service};
use crate::topics::{self, Found, Item, Owner, Role, State, Timestamps};
use crate::{management, topology};

/// One question to the cluster at start may take this long.
const QUESTION: Duration = Duration::from_secs(10);

/// And at the end of the time as long.
const LEAST: Duration = Duration::from_millis(100);

/// A look at the addresses of all brokers may take this long.
const REACH: Duration = Duration::from_secs(5);

/// Until brokers that could not be reached are asked again.
const ASK_AGAIN: Duration = Duration::from_millis(500);

/// Runs the service until a signal, or until it cannot go on. The exit code.
///
/// # Errors
///
/// Why it could not start, or had to end, in a sentence that says what to do.
pub async fn run(config: &Config) -> anyhow::Result<i32> {
    let mut signals = Signals::listen()?;
    let starting = start(config);
    let running = tokio::select! {
        running = starting => running?,
        () = signals.next() => {
            tracing::info!("ended by a signal before it had started");
            return Ok(0);
        }
    };
    tokio::select! {
        () = signals.next() => tracing::info!("signal received: finishing what was begun"),
        () = running.service.failed() => {}
    }
    end(config, running, signals).await
}

struct Running {
    service: Service,
    /// The HTTP door, which stops first: it needs its committer.
    http: TaskTracker,
    stop_http: CancellationToken,
    servers: TaskTracker,
    stop: CancellationToken,
}

async fn start(config: &Config) -> anyhow::Result<Running> {
    let deadline = Instant::now() + config.kafka.startup_timeout;
    let admin = connect(config, deadline).await?;
    let (found, names) = patiently(deadline, async || {
        let found = prepare_topics(config, &admin).await?;
        Ok((found, admin.list_topics().await?))
    })
    .await?;
    let topics = KnownTopics::default();
    topics.set(names);
    let mut settings = service::engine_settings(config, &found);
    if let Some(longest) = admin.longest_transaction().await {
        settings.longest_transaction = longest;
    }
    let left = deadline.saturating_duration_since(Instant::now());
    let clock = Clock::system();
    let service = service::start(config, settings, topics.clone(), clock.clone(), left).await?;
    watch(config, &admin, &service)?;
    let (servers, stop) = (TaskTracker::new(), CancellationToken::new());
    let (http, stop_http) = (TaskTracker::new(), CancellationToken::new());
    let compared = watch_clock(config, &found, clock.clone(), &servers, &stop)?;
    if let Some(door) = service.http(config, clock) {
        let listener = listen(config.http.bind, config.http.port, "http")?;
        tracing::info!(
            port = listener.local_addr()?.port(),
            path = config.http.context_path,
            "HTTP"
        );
        http.spawn(door.serve(listener, stop_http.clone()));
    }
    if !config.engine.enabled {
        servers.spawn(keep_topics(admin.clone(), topics, stop.clone()));
    }
    let listener = listen(config.management.bind, config.management.port, "management")?;
    tracing::info!(port = listener.local_addr()?.port(), "management");
    servers.spawn(management::serve(
        listener,
        service.management(config, &admin, compared),
        stop.clone(),
    ));
    introduce(config);
    Ok(Running {
        service,
        http,
        stop_http,
        servers,
        stop,
    })
}

/// Watches the producers, with an eye on what they write to: the topics that the configuration names, and the brokers'
/// own that a transaction needs.
fn watch(config: &Config, admin: &Admin, service: &Service) -> anyhow::Result<()> {
    let named = topology::wanted(config)?.into_iter().map(|(name, _)| name);
    let own = ["__transaction_state", "__consumer_offsets"].map(str::to_owned);
    let topics: Vec<String> = named.chain(own).collect();
    let (admin, runtime) = (admin.clone(), Handle::current());
    let ask = move || match runtime.block_on(admin.lacks_leader(&topics)) {
        Ok(false) => Brokers::Answer,
        Ok(true) => Brokers::LackLeader,
        Err(_) => Brokers::Silent,
    };
    service::watch(
        service.producers(),
        config.management.commits_stalled_after,
        ask,
    );
    Ok(())
}

/// Compares this machine's clock with the brokers', where they give outcomes their own time.
fn watch_clock(
    config: &Config,
    found: &HashMap<String, Found>,
    clock: Clock,
    servers: &TaskTracker,
    stop: &CancellationToken,
) -> anyhow::Result<BrokerClock> {
    let outcomes = &config.topics.outcomes;
    let compares = found
        .get(outcomes)
        .is_some_and(|topic| topic.has_timestamps(Timestamps::Append));
    let seen = BrokerClock::new(compares);
    if compares {
        let connection = service::connection(config);
        let bound = config.request.min_life;
        let watch = ClockWatch::new(&connection, outcomes, bound, clock, seen.clone())?;
        servers.spawn(watch.run(stop.clone()));
    } else {
        tracing::info!(
            topic = outcomes,
            "this machine's clock is not compared with the brokers': the topic has no message.timestamp.type=LogAppendTime, \
             or may not be described"
        );
    }
    Ok(seen)
}

/// Reads the list of topics again and again, as the engine does where it runs.
async fn keep_topics(admin: Admin, topics: KnownTopics, stop: CancellationToken) {
    const EVERY: Duration = Duration::from_secs(10);
    while stop
        .run_until_cancelled(tokio::time::sleep(EVERY))
        .await
        .is_some()
    {
        match admin.list_topics().await {
            Ok(names) => topics.set(names),
            Err(error) => tracing::debug!(%error, "the list of topics could not be read again"),
        }
    }
}

async fn end(config: &Config, running: Running, mut signals: Signals) -> anyhow::Result<i32> {
    let deadline = config.shutdown.deadline;
    let drained = tokio::select! {
        drained = drain(running, deadline) => drained,
        () = tokio::time::sleep(deadline) => Ok(Drained::CutShort),
        () = signals.next() => {
            tracing::warn!("second signal: ending at once; what was begun will be handled again");
            return Ok(EXIT_SECOND_SIGNAL);
        }
    };
    match drained? {
        Drained::Clean => {
            tracing::info!("ended: everything that was begun is finished and committed");
            Ok(0)
        }
        Drained::CutShort => {
            tracing::warn!(
                ?deadline,
                "ended at the deadline; what was begun will be handled again"
            );
            Ok(EXIT_CUT_SHORT)
        }
    }
}

/// Answers what was read over HTTP, then drains the engine.
async fn drain(running: Running, deadline: Duration) -> anyhow::Result<Drained> {
    let started = Instant::now();
    running.stop_http.cancel();
    running.http.close();
    running.http.wait().await;
    running.stop.cancel();
    running.servers.close();
    let left = deadline.saturating_sub(started.elapsed());
    running.service.shut_down(left).await
}

/// Connects for a command, within `kafka.startup_timeout` from now.
///
/// # Errors
///
/// As [`connect`].
pub async fn reach(config: &Config) -> anyhow::Result<Admin> {
    connect(config, Instant::now() + config.kafka.startup_timeout).await
}

/// Waits for a broker until the start-up deadline.
///
/// # Errors
///
/// When none answered, or the properties are wrong.
pub async fn connect(config: &Config, deadline: Instant) -> anyhow::Result<Admin> {
    let connection = service::connection(config);
    if let Err((property, problem)) = connection.check_properties() {
        bail!("kafka.\"{property}\": {problem}; see librdkafka's CONFIGURATION.md");
    }
    let mut astray = None;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let patience = left.min(QUESTION).max(LEAST);
        match Admin::connect(connection.admin(), patience).await {
            Ok(admin) => {
                warn_of_unreached(&admin, deadline).await?;
                return Ok(admin);
            }
            Err(AdminError::Astray(reach)) => {
                let brokers = reach.sentence();
                if astray.as_ref() != Some(&brokers) {
                    tracing::warn!(
                        "no broker answers yet at the address that it advertises: {brokers}"
                    );
                }
                astray = Some(brokers);
            }
            Err(AdminError::Unreachable { .. }) => {
                let brokers = &config.kafka.brokers;
                tracing::warn!(brokers, "Kafka does not answer yet");
            }
            Err(error) => return Err(error.into()),
        }
        if Instant::now() + ASK_AGAIN >= deadline {
            tokio::time::sleep_until(deadline.into()).await;
            return Err(unreached(config, astray));
        }
        tokio::time::sleep(ASK_AGAIN).await;
    }
}

/// Why the start ends; `astray` are the brokers that do not answer at their own addresses, where any answered.
fn unreached(config: &Config, astray: Option<String>) -> anyhow::Error {
    let (brokers, timeout) = (&config.kafka.brokers, config.kafka.startup_timeout);
    match astray {
        Some(astray) => anyhow!(
            "{brokers} answers, but no broker answered at the address that it advertises within kafka.startup_timeout \
             ({timeout:?}): {astray}; {SET_ADVERTISED}"
        ),
        None => anyhow!(
            "no broker of {brokers} answered within kafka.startup_timeout ({timeout:?}): check kafka.brokers, \
             kafka.\"security.protocol\", and that they are up"
        ),
    }
}

/// Says which brokers cannot be reached at the addresses that they advertise, where others can.
async fn warn_of_unreached(admin: &Admin, deadline: Instant) -> anyhow::Result<()> {
    let left = deadline.saturating_duration_since(Instant::now());
    let reach = admin.reach_brokers(left.clamp(LEAST, REACH)).await?;
    let unreached = reach.sentence();
    if !unreached.is_empty() {
        tracing::warn!(
            "brokers cannot be reached at the addresses that they advertise: {unreached}; {SET_ADVERTISED}"
        );
    }
    Ok(())
}

/// Asks again until the start-up deadline where brokers went away after they had answered.
async fn patiently<T>(
    deadline: Instant,
    ask: impl AsyncFn() -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    loop {
        let asked = tokio::time::timeout_at(deadline.into(), ask()).await;
        let Ok(result) = asked else {
            bail!(
                "the brokers did not answer within kafka.startup_timeout: check that they are up"
            );
        };
        match result {
            Err(error) if is_unreachable(&error) && Instant::now() < deadline => {
                tracing::warn!(%error, "Kafka does not answer any more; asking again");
            }
            result => return result,
        }
    }
}

fn is_unreachable(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(AdminError::Unreachable { .. }))
}

/// Creates what is missing of our own topics, where it may; then says what is still missing.
async fn prepare_topics(config: &Config, admin: &Admin) -> anyhow::Result<HashMap<String, Found>> {
    let brokers = admin.brokers().await?;
    let wanted = topology::wanted_on(config, brokers)?;
    let names: Vec<String> = wanted.iter().map(|(name, _)| name.clone()).collect();
    let mut found = admin.found(&names).await?;
    let missing = |found: &HashMap<String, Found>| {
        let plan = topics::plan(&wanted, found);
        plan.into_iter()
            .filter(|item| item.state == State::Missing)
            .collect::<Vec<Item>>()
    };
    let ours: Vec<_> = missing(&found)
        .into_iter()
        .filter(|item| config.topics.create && item.spec.owner == Owner::Ours)
        .map(|item| (item.name, item.spec))
        .collect();
    if !ours.is_empty() {
        let names: Vec<&str> = ours.iter().map(|(name, _)| name.as_str()).collect();
        tracing::info!(topics = names.join(" "), "creating topics");
        if let Err(error) = admin.create(&ours, brokers).await {
            tracing::warn!(%error, "topics could not be created");
        }
    }
    // One that was just created is unknown to some brokers for a moment.
    found = admin.found_within(&names, Duration::from_secs(3)).await?;
    let (email, missing): (Vec<Item>, Vec<Item>) = missing(&found)
        .into_iter()
        .partition(|item| item.spec.role == Role::Email);
    for item in email {
        tracing::warn!(
            topic = item.name,
            "there is no email topic: OTPs go out by SMS alone"
        );
    }
    if !missing.is_empty() {
        let commands: Vec<_> = missing
            .iter()
            .map(|item| item.create_command(&config.kafka.brokers))
            .collect();
        bail!(
            "{} of the topics it needs {} missing; create with\n  {}",
            missing.len(),
            if missing.len() == 1 { "is" } else { "are" },
            commands.join("\n  ")
        );
    }
    let short = found
        .get(&config.topics.requests)
        .zip(found.get(&config.topics.dead_letters))
        .and_then(|(requests, letters)| topics::dead_letter_shortfall(requests, letters));
    if let Some(bytes) = short {
        tracing::warn!(
            topic = config.topics.dead_letters,
            bytes,
            "the dead-letter topic takes too little: raise its max.message.bytes by that much, or the largest dead \
             letters will come without their value"
        );
    }
    Ok(found)
}

fn introduce(config: &Config) {
    let retries = topology::retry_topics(config);
    tracing::info!(
        brokers = config.kafka.brokers,
        group = config.kafka.group,
        instance = config.kafka.instance,
        requests = config.topics.requests,
        sms = config.topics.sms,
        email = config.topics.email,
        retries = retries.join(" "),
        dead_letters = config.topics.dead_letters,
        outcomes = config.topics.outcomes,
        "user-otp {} is connected",
        env!("CARGO_PKG_VERSION")
    );
    tracing::info!(
        lifetime = ?config.request.lifetime,
        min_life = ?config.request.min_life,
        localization = config.localization.url.is_some(),
        mdms = config.mdms.url.is_some(),
        central_instance = config.tenancy.central_instance,
        "each request ends once: published, rejected, limited, or dead-lettered"
    );
    let budgets = Budgets::of(config);
    tracing::info!(
        sum_mib = budgets.sum().div_ceil(1 << 20),
        parts = %budgets,
        "memory budgets; one compressed batch comes on top"
    );
    tracing::info!(
        "consumers of the SMS and email topics need isolation.level=read_committed; others may also see messages of \
         a transaction that a crash aborted"
    );
}

fn listen(address: IpAddr, port: u16, section: &str) -> anyhow::Result<TcpListener> {
    server::listen(address, port).with_context(|| {
        format!(
            "port {port} of {address} cannot be listened on: set {section}.port to one that is free, and {section}.bind to \
             an address of this machine"
        )
    })
}

/// SIGTERM and SIGINT.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use rdkafka::error::{KafkaError, RDKafkaErrorCode};

    use super::*;

    /// Asks `patiently` what has no answer twice.
    async fn asked(patience: Duration) -> (usize, bool) {
        let tries = Cell::new(0);
        let deadline = Instant::now() + patience;
        let result = patiently(deadline, async || {
            tries.set(tries.get() + 1);
            if tries.get() > 2 {
                return Ok(());
            }
            let silence = KafkaError::MetadataFetch(RDKafkaErrorCode::OperationTimedOut);
            Err(AdminError::Unreachable(silence).into())
        })
        .await;
        (tries.get(), result.is_ok())
    }

    #[tokio::test]
    async fn brokers_that_go_away_during_the_start_are_asked_again() {
        assert_eq!(asked(Duration::from_secs(60)).await, (3, true));
        assert_eq!(asked(Duration::ZERO).await, (1, false));
    }

    #[tokio::test]
    async fn what_is_wrong_for_good_ends_the_start() {
        let tries = Cell::new(0);
        let deadline = Instant::now() + Duration::from_secs(60);
        let result = patiently(deadline, async || {
            tries.set(tries.get() + 1);
            Err::<(), _>(anyhow::anyhow!("a topic is missing"))
        });
        assert!(result.await.is_err());
        assert_eq!(tries.get(), 1);
    }
}
