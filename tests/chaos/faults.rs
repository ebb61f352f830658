//! What goes wrong with processes, brokers, Redis and the services, and when: four tracks, each by its
//! own numbers of the seed, that undo what they did before they end. More are in [`crate::topics`],
//! [`crate::clocks`] and [`crate::packets`].

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use user_otp::egov::Service;
use user_otp::egov::standin::{Behaviour, Fault, Standin};

use crate::chance::{Chance, Deck, Stop};
use crate::cluster::{BROKERS, Cluster, SMALL_DISK};
use crate::fleet::{Fleet, NAMES};
use crate::gate::Gate;
use crate::journal::{Journal, Whom};
use crate::redis_server::Redis;

/// What the tracks share.
pub(crate) struct Stage<'a> {
    pub(crate) seed: u64,
    pub(crate) stop: &'a Stop,
    pub(crate) journal: &'a Journal,
    /// Whether there is time for what takes minutes.
    pub(crate) long: bool,
    /// Whether the version before takes part, which does not survive everything.
    pub(crate) mixed: bool,
}

impl Stage<'_> {
    /// Waits for so long, or until the end.
    pub(crate) fn hold(&self, time: Duration) {
        self.stop.wait(time);
    }
}

// --- processes

#[derive(Clone, Copy, Debug)]
enum OnProcess {
    Kill,
    Terminate,
    Freeze,
    FreezeForLong,
}

/// Longer than the session's time-out.
const FROZEN: (u64, u64) = (12_000, 16_000);

/// Longer than the watchdog lets a call take, and than a transaction may stay open.
const FROZEN_LONG: (u64, u64) = (62_000, 70_000);

pub(crate) fn processes(stage: &Stage<'_>, fleet: &Fleet) {
    use OnProcess::{Freeze, FreezeForLong, Kill, Terminate};
    let mut chance = Chance::new(stage.seed, 1);
    let mut cards = vec![Kill, Freeze, Kill, Terminate];
    if stage.long {
        cards.extend([Kill, Freeze, Terminate, FreezeForLong]);
    }
    let mut deck = Deck::new(cards);
    let mut next = Instant::now() + Duration::from_secs(3);
    while stage.stop.wait_until(next) {
        next = Instant::now() + chance.time(20_000, 20_500);
        let victim = chance.index(NAMES.len());
        let fault = deck.draw(&mut chance);
        let bounds = match fault {
            FreezeForLong => FROZEN_LONG,
            Kill | Terminate | Freeze => FROZEN,
        };
        let (pause, frozen) = (chance.time(0, 4_000), chance.time(bounds.0, bounds.1));
        stage
            .journal
            .fault(Whom::Process, &format!("{fault:?}"), NAMES[victim]);
        match fault {
            Kill => {
                fleet.kill(victim);
                stage.hold(pause);
                fleet.start_again(victim);
            }
            Terminate => {
                let (begin, status) = (Instant::now(), fleet.terminate(victim));
                let took = begin.elapsed().as_secs_f64();
                let how = status.map_or("killed".to_owned(), |status| status.to_string());
                let text = format!("{} ended {took:.1} s after SIGTERM: {how}", NAMES[victim]);
                if status.is_some_and(|status| status.success()) {
                    stage.journal.note(&text);
                } else {
                    stage.journal.odd(text);
                }
                fleet.start_again(victim);
            }
            Freeze | FreezeForLong => {
                fleet.signal(victim, Signal::SIGSTOP);
                stage.hold(frozen);
                fleet.signal(victim, Signal::SIGCONT);
            }
        }
        stage.journal.note(&format!("{} is back", NAMES[victim]));
    }
}

// --- brokers

#[derive(Clone, Copy, Debug)]
enum OnBroker {
    Kill,
    Restart,
    Freeze,
    KillGroupCoordinator,
    FreezeGroupCoordinator,
    KillTransactionCoordinator,
    FreezeTransactionCoordinator,
    KillAll,
    FillDisk,
}

/// At least this long everything is up between two faults on brokers.
const BREATH: Duration = Duration::from_secs(15);

/// `gap`: from one fault to the next, in milliseconds. Only a long run has the time to kill all at once.
pub(crate) fn brokers(stage: &Stage<'_>, cluster: &Cluster, group: &str, gap: (u64, u64)) {
    use OnBroker::{
        FillDisk, Freeze, FreezeGroupCoordinator, FreezeTransactionCoordinator, Kill, KillAll,
        KillGroupCoordinator, KillTransactionCoordinator, Restart,
    };
    let mut chance = Chance::new(stage.seed, 2);
    let mut cards = vec![
        Kill,
        Restart,
        Freeze,
        KillGroupCoordinator,
        FreezeGroupCoordinator,
        KillTransactionCoordinator,
        FreezeTransactionCoordinator,
    ];
    cards.extend(stage.long.then_some(KillAll));
    cards.extend(cluster.disk.is_some().then_some(FillDisk));
    let mut deck = Deck::new(cards);
    let mut next = Instant::now() + Duration::from_secs(8);
    while stage.stop.wait_until(next) {
        next = Instant::now() + chance.time(gap.0, gap.1);
        let fault = deck.draw(&mut chance);
        let any = chance.index(BROKERS);
        let instance = chance.pick(&NAMES);
        let (down, frozen) = (chance.time(1_000, 8_000), chance.time(4_000, 20_000));
        let of_group = || cluster.coordinator("__consumer_offsets", group);
        let of_transactions =
            || cluster.coordinator("__transaction_state", &format!("{group}-{instance}"));
        let victim = match fault {
            KillGroupCoordinator | FreezeGroupCoordinator => of_group().unwrap_or(any),
            KillTransactionCoordinator | FreezeTransactionCoordinator => {
                of_transactions().unwrap_or(any)
            }
            FillDisk => SMALL_DISK,
            Kill | Restart | Freeze | KillAll => any,
        };
        let number = (victim + 1).to_string();
        stage
            .journal
            .fault(Whom::Broker, &format!("{fault:?}"), &number);
        match fault {
            Kill | KillGroupCoordinator | KillTransactionCoordinator => {
                cluster.kill(victim);
                stage.hold(down);
            }
            Restart => cluster.stop(victim),
            Freeze | FreezeGroupCoordinator | FreezeTransactionCoordinator => {
                cluster.signal(victim, Signal::SIGSTOP);
                stage.hold(frozen);
                cluster.signal(victim, Signal::SIGCONT);
            }
            KillAll => {
                for broker in 0..BROKERS {
                    cluster.kill(broker);
                }
                stage.hold(down);
                cluster.start_all();
            }
            FillDisk => fill_disk(stage, cluster, frozen),
        }
        start_what_is_down(stage, cluster, fault, victim);
        // All three take their time to start, and what has to come of it is seen.
        next = next.max(Instant::now() + BREATH);
    }
}

/// A broker ends, or only half works, once it cannot write. With room again it is started again.
fn fill_disk(stage: &Stage<'_>, cluster: &Cluster, time: Duration) {
    let Some(disk) = &cluster.disk else { return };
    if let Err(error) = disk.fill() {
        stage.journal.odd(format!("the disk is not full: {error}"));
    }
    stage.hold(time);
    let state = if cluster.is_running(SMALL_DISK) {
        "still runs"
    } else {
        "has ended"
    };
    stage
        .journal
        .note(&format!("broker {} {state}, its disk full", SMALL_DISK + 1));
    cluster.kill(SMALL_DISK);
    if let Err(error) = disk.free() {
        stage.journal.odd(format!("the disk stays full: {error}"));
    }
}

/// The victim, and whatever ended by itself, which is written down.
fn start_what_is_down(stage: &Stage<'_>, cluster: &Cluster, fault: OnBroker, victim: usize) {
    for broker in (0..BROKERS).filter(|broker| !cluster.is_running(*broker)) {
        if broker != victim && !matches!(fault, OnBroker::KillAll) {
            stage
                .journal
                .odd(format!("broker {} had ended by itself", broker + 1));
        }
        if !cluster.start_again(broker) {
            stage
                .journal
                .odd(format!("broker {} does not start", broker + 1));
        }
    }
    stage
        .journal
        .note(&format!("broker {} is back", victim + 1));
}

// --- redis

#[derive(Clone, Copy, Debug)]
enum OnRedis {
    Kill,
    Freeze,
    Refuse,
}

pub(crate) fn redis(stage: &Stage<'_>, redis: &Mutex<Redis>, gate: &Gate, gap: (u64, u64)) {
    let mut redis = redis.lock().unwrap_or_else(PoisonError::into_inner);
    let mut chance = Chance::new(stage.seed, 3);
    let mut deck = Deck::new(vec![OnRedis::Kill, OnRedis::Freeze, OnRedis::Refuse]);
    let mut next = Instant::now() + Duration::from_secs(6);
    while stage.stop.wait_until(next) {
        next = Instant::now() + chance.time(gap.0, gap.1);
        let fault = deck.draw(&mut chance);
        let time = chance.time(500, 8_000);
        stage.journal.fault(Whom::Redis, &format!("{fault:?}"), "");
        match fault {
            // It comes back empty, and elsewhere: its port may be somebody's by then.
            OnRedis::Kill => {
                redis.kill();
                stage.hold(time);
                *redis = Redis::start();
                gate.lead_to(redis.address().parse().expect("an address"));
            }
            OnRedis::Freeze => {
                redis.freeze();
                stage.hold(time);
                redis.thaw();
            }
            OnRedis::Refuse => {
                gate.close();
                stage.hold(time);
                gate.open();
            }
        }
    }
}

// --- services

#[derive(Clone, Copy, Debug)]
enum OnService {
    Slow,
    Unavailable,
    Sometimes,
    InternalError,
    TooMany,
    Outage400,
    Reset,
    Refuse,
    Hang,
    NotJson,
    WrongShape,
    Html,
    Truncated,
    SlowBody,
    LongOutage,
}

const ON_SERVICE: [OnService; 15] = [
    OnService::Slow,
    OnService::Unavailable,
    OnService::Sometimes,
    OnService::InternalError,
    OnService::TooMany,
    OnService::Outage400,
    OnService::Reset,
    OnService::Refuse,
    OnService::Hang,
    OnService::NotJson,
    OnService::WrongShape,
    OnService::Html,
    OnService::Truncated,
    OnService::SlowBody,
    OnService::LongOutage,
];

/// How a service is when nothing is wrong with it.
pub(crate) fn well(service: Service) -> Behaviour {
    match service {
        Service::Otp => {
            Behaviour::slow(Duration::from_millis(20)).jittered(Duration::from_millis(60))
        }
        Service::Users | Service::Texts | Service::Rules => {
            Behaviour::slow(Duration::from_millis(2)).jittered(Duration::from_millis(10))
        }
    }
}

/// None: nobody listens.
fn behaviour(fault: OnService, service: Service) -> Option<Behaviour> {
    let fault = match fault {
        OnService::Slow => {
            let slow = Behaviour::slow(Duration::from_millis(300));
            return Some(slow.jittered(Duration::from_millis(3_000)));
        }
        OnService::Refuse => return None,
        OnService::Unavailable | OnService::LongOutage | OnService::Sometimes => Fault::status(503),
        OnService::InternalError => Fault::status(500),
        OnService::TooMany => Fault::status_with(429, "retry-after", "2"),
        OnService::Outage400 => {
            Fault::tracer("Exception", "An unhandled exception occurred on the server")
        }
        OnService::Reset => Fault::Reset,
        OnService::Hang => Fault::Hang,
        OnService::NotJson => Fault::NotJson,
        OnService::WrongShape => Fault::WrongShape,
        OnService::Html => Fault::Html,
        OnService::Truncated => Fault::Truncated,
        OnService::SlowBody => Fault::SlowBody { pause_ms: 50 },
    };
    let well = well(service);
    Some(Behaviour {
        fault: Some(fault),
        ..well
    })
}

/// The services, each behind a gate of its own.
pub(crate) struct Services {
    pub(crate) standin: Arc<Standin>,
    pub(crate) gates: [Gate; Service::ALL.len()],
}

impl Services {
    fn heal(&self, service: Service, shut: &mut bool) {
        self.standin.set(service, well(service));
        if std::mem::take(shut) {
            self.gates[service as usize].open();
        }
    }
}

pub(crate) fn services(stage: &Stage<'_>, services: &Services, gap: (u64, u64)) {
    let mut chance = Chance::new(stage.seed, 4);
    let mut deck = Deck::new(ON_SERVICE.to_vec());
    let mut heals: [Option<Instant>; Service::ALL.len()] = [None; Service::ALL.len()];
    let mut shut = [false; Service::ALL.len()];
    let mut next = Instant::now() + Duration::from_secs(2);
    loop {
        let first = heals.iter().flatten().min().copied().unwrap_or(next);
        let on = stage.stop.wait_until(next.min(first));
        let now = Instant::now();
        for service in Service::ALL {
            let index = service as usize;
            if heals[index].is_some_and(|at| at <= now || !on) {
                heals[index] = None;
                services.heal(service, &mut shut[index]);
            }
        }
        if !on {
            return;
        }
        if now < next {
            continue;
        }
        next = now + chance.time(gap.0, gap.1);
        let service = chance.pick(&Service::ALL);
        let fault = deck.draw(&mut chance);
        let time = if matches!(fault, OnService::LongOutage) {
            chance.time(15_000, 30_000)
        } else {
            chance.time(500, 6_000)
        };
        let sometimes = matches!(fault, OnService::Sometimes);
        let share = chance.pick(&[0.1, 0.3, 0.6]);
        let index = service as usize;
        // One that is down already is left as it is.
        if heals[index].is_some() {
            continue;
        }
        stage
            .journal
            .fault(Whom::Service, &format!("{fault:?}"), service.as_str());
        heals[index] = Some(now + time);
        match behaviour(fault, service) {
            None => {
                shut[index] = true;
                services.gates[index].close();
            }
            Some(behaviour) if sometimes => services
                .standin
                .set(service, behaviour.with_probability(share)),
            Some(behaviour) => services.standin.set(service, behaviour),
        }
    }
}
