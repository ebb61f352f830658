//! The service in chaos: three instances of `user-otp run` that take requests from Kafka and over HTTP, on a
//! real cluster of three brokers, under load, while processes, brokers, Redis and services are killed, frozen,
//! shut and slowed down, packets come late or never, disks become full, permissions are withdrawn and topics
//! change. At the end every request is accounted for.
//!
//! ```text
//! producer ──▶ requests ─▶ ┌───────────┐ ─▶ SMS, email, outcomes, dead letters ─▶ reader ─▶ ledger
//! clients ───▶ HTTP ─────▶ │ a   b   c │                                                    ▲
//!    │                     └───────────┘                                                    │
//!    │            a proxy before each of three brokers                                      │
//!    └── what was asked, and what was answered ─────────────────────────────────────────────┘
//! ```
//!
//! What goes wrong, and when, follows from a seed; what comes of it also from the machine. As a test it is short;
//! `scripts/chaos --minutes 80 --seed 7` is the same for longer. See [`ledger`] for what is accounted.
#![expect(clippy::print_stderr, reason = "the run says what it did")]

mod admin;
mod chance;
mod clocks;
mod cluster;
mod disk;
#[path = "../shared/faketime/mod.rs"]
mod faketime;
mod faults;
mod fleet;
#[path = "../shared/frozen.rs"]
mod frozen;
mod gate;
mod journal;
#[expect(dead_code, reason = "other tests need more of it")]
#[path = "../kafka_proxy/mod.rs"]
mod kafka_proxy;
mod ledger;
mod load;
mod packets;
mod people;
mod plan;
#[path = "../shared/port.rs"]
mod port;
mod progress;
mod reader;
#[expect(dead_code, reason = "other tests need more of it")]
#[path = "../shared/server.rs"]
mod redis_server;
mod report;
mod topics;
mod versions;

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{SignalKind, signal};
use user_otp::clock::Clock;
use user_otp::egov::Service;
use user_otp::egov::standin::{Script, Standin, Text};

use crate::admin::Admin;
use crate::chance::Stop;
use crate::cluster::{BROKERS, Cluster};
use crate::faults::{Services, Stage};
use crate::fleet::Fleet;
use crate::gate::Gate;
use crate::journal::Journal;
use crate::kafka_proxy::Proxy;
use crate::ledger::Ledger;
use crate::load::Load;
use crate::plan::{GROUP, Plan};
use crate::redis_server::Redis;
use crate::topics::Topics;

/// The request topic.
const REQUESTS: &str = "egov.core.otp.request";

/// How long a start may take on a busy machine.
const STARTS: Duration = Duration::from_secs(300);

/// From the last fault until every request must have its outcome: their lifetime, a session and a
/// transaction that nobody ends, and a busy machine.
const SETTLES: Duration = Duration::from_secs(600);

#[test]
fn every_request_is_accounted_for() {
    let plan = Plan::from_environment();
    eprintln!("chaos: {} s, {}", plan.time.as_secs(), plan.again());
    let folder = tempfile::Builder::new()
        .prefix("user-otp-chaos.")
        .disable_cleanup(plan.dir.is_some())
        .tempdir_in(plan.dir.clone().unwrap_or_else(std::env::temp_dir))
        .expect("a folder");
    let verdict = World::start(&plan, folder.path()).run(&plan);
    if verdict.is_err() {
        eprintln!("the logs are kept: {}", folder.keep().display());
    }
    if let Err(broken) = verdict {
        panic!("{broken}; again with {}", plan.again());
    }
}

/// Everything that runs; what is above ends first.
struct World {
    fleet: Arc<Fleet>,
    cluster: Cluster,
    admin: Admin,
    /// One before each broker: the instances know no other way.
    proxies: [Proxy; BROKERS],
    /// What the commands are told that are not under fire.
    environment: Vec<(String, String)>,
    redis: Mutex<Redis>,
    redis_gate: Gate,
    services: Services,
    ledger: Arc<Mutex<Ledger>>,
    journal: Journal,
    /// Every request, and every record that was read of it at the end.
    trace: File,
    runtime: Runtime,
}

impl World {
    fn start(plan: &Plan, dir: &Path) -> Self {
        let runtime = Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime");
        let services = services(&runtime);
        let redis = Redis::start();
        let redis_address = redis.address().parse().expect("an address");
        let redis_gate = Gate::to(redis_address, runtime.handle());
        // They listen before the brokers start: nobody else can take a port that brokers advertise.
        let entrances =
            [(); BROKERS].map(|()| TcpListener::bind("127.0.0.1:0").expect("a free port"));
        let ports = entrances
            .each_ref()
            .map(|entrance| entrance.local_addr().expect("an address").port());
        let cluster = Cluster::start(&dir.join("kafka"), &ports);
        let mut broker = 0..;
        let proxies = entrances.map(|entrance| {
            let upstream = cluster.upstream(broker.next().unwrap_or(0));
            Proxy::start(entrance, upstream.port())
        });
        let admin = Admin::new(&cluster.addresses, runtime.handle());
        admin.allow_everything().expect("permissions are given");
        let environment = plan.environment(&cluster.addresses, &services.gates, &redis_gate);
        apply(&environment).expect("the topics are there");
        let proxied = ports.map(|port| format!("127.0.0.1:{port}")).join(",");
        let mut theirs = plan.environment(&proxied, &services.gates, &redis_gate);
        theirs.extend(plan::account());
        let fleet = Arc::new(Fleet::start(dir, theirs, plan.other.clone()));
        let journal = File::create(dir.join("journal.log")).expect("a journal");
        Self {
            fleet,
            cluster,
            admin,
            proxies,
            environment,
            redis: Mutex::new(redis),
            redis_gate,
            services,
            ledger: Arc::new(Mutex::new(Ledger::new(plan.promise(), people::number))),
            journal: Journal::new(journal),
            trace: File::create(dir.join("trace.log")).expect("a trace"),
            runtime,
        }
    }

    /// An error says how many promises were broken.
    fn run(self, plan: &Plan) -> Result<(), String> {
        wait_for("all instances are ready", STARTS, || self.fleet.is_ready());
        let (reading, supervising) = (Stop::default(), Stop::default());
        let brokers = self.cluster.addresses.clone();
        // What is there before the group has ever been, and is old by then, is passed over.
        wait_for("every partition has its start", STARTS, || {
            reader::left(&brokers, GROUP).is_ok_and(|left| left.is_empty())
        });
        let (ledger, fleet) = (Arc::clone(&self.ledger), Arc::clone(&self.fleet));
        let (settled, stood_still) = std::thread::scope(|scope| {
            let end = [End(&reading), End(&supervising)];
            let journal = &self.journal;
            scope.spawn(|| reader::follow(&brokers, &ledger, &reading, || journal.pulse()));
            scope.spawn(|| fleet.supervise(&supervising));
            let watching = scope.spawn(|| progress::watch(&brokers, GROUP, &reading, journal));
            self.storm(plan);
            let settled = self.settle(&brokers);
            drop(end);
            (settled, watching.join())
        });
        let mut broken = settled.err().into_iter().collect::<Vec<_>>();
        broken.extend(stood_still.expect("the watch goes on to the end"));
        broken.extend(self.not_ready());
        let mut ledger = self.ledger.lock().unwrap_or_else(PoisonError::into_inner);
        // Not what was seen on the way, but what is there.
        ledger.read_again();
        drop(ledger);
        let mut trace = BufWriter::new(&self.trace);
        match reader::read_all(&brokers, &self.ledger, &mut trace) {
            Ok(records) => eprintln!("{records} records read again from the first one"),
            Err(missing) => broken.push(missing),
        }
        let ledger = self.ledger.lock().unwrap_or_else(PoisonError::into_inner);
        let traced = ledger.write_down(&mut trace).and_then(|()| trace.flush());
        traced.expect("the trace is written");
        let numbers = ledger.all_numbers();
        let leaks = self.fleet.leaks(|text| numbers.contains(text));
        if leaks > 0 {
            broken.push(format!("{leaks} numbers in the logs"));
        }
        if plan.other.is_some() {
            broken.extend(versions::jobs(&self.fleet, &self.environment).err());
        }
        report::print(plan, &ledger, &self.journal, &self.fleet, broken)
    }

    /// The instances that do not say, within a while, that they are well: one that was frozen and
    /// came back must be.
    fn not_ready(&self) -> Vec<String> {
        let client = reqwest::Client::builder().timeout(Duration::from_secs(10));
        let client = client.build().expect("a client");
        let is_ready = |index: usize| {
            let port = self.fleet.management_port(index)?;
            let asked = client.get(format!("http://127.0.0.1:{port}/health/ready"));
            let answer = self.runtime.block_on(async { asked.send().await }).ok()?;
            answer.status().is_success().then_some(())
        };
        let (begin, pause) = (Instant::now(), Stop::default());
        let mut left: Vec<usize> = (0..fleet::NAMES.len()).collect();
        while !left.is_empty() && begin.elapsed() < STARTS {
            left.retain(|index| is_ready(*index).is_none());
            pause.wait(Duration::from_millis(200));
        }
        let name = |index: usize| format!("{} is not ready", fleet::NAMES[index]);
        left.into_iter().map(name).collect()
    }

    /// Load and faults, for as long as the plan says; everything is mended then.
    fn storm(&self, plan: &Plan) {
        let (loading, raging) = (Arc::new(Stop::default()), Arc::new(Stop::default()));
        let brokers = self.cluster.addresses.clone();
        let producer = load::request_producer(&brokers, Arc::clone(&self.ledger));
        let load = Arc::new(Load {
            brokers,
            producer: Mutex::new(producer),
            ledger: Arc::clone(&self.ledger),
            egov: Arc::clone(&self.services.standin),
            seed: plan.seed,
            people: AtomicU32::new(0),
            clock: Clock::system(),
        });
        let stage = Stage {
            seed: plan.seed,
            stop: &raging,
            journal: &self.journal,
            long: plan.is_long(),
            mixed: plan.other.is_some(),
        };
        let topics = Topics {
            admin: &self.admin,
            cluster: &self.cluster,
            load: &load,
            ledger: &self.ledger,
            apply: &|| apply(&self.environment),
        };
        let (fleet, cluster, services) = (&self.fleet, &self.cluster, &self.services);
        let (redis, redis_gate) = (&self.redis, &self.redis_gate);
        let posting = self.runtime.spawn(Arc::clone(&load).post(
            Arc::clone(fleet),
            plan.http_rate,
            Arc::clone(&loading),
        ));
        std::thread::scope(|scope| {
            scope.spawn(|| load.publish(REQUESTS, plan.rate, &loading));
            std::thread::scope(|scope| {
                let _end = End(&raging);
                scope.spawn(|| faults::processes(&stage, fleet));
                scope.spawn(|| faults::brokers(&stage, cluster, GROUP, plan.broker_gap()));
                scope.spawn(|| topics::track(&stage, &topics, plan.topic_gap()));
                scope.spawn(|| clocks::track(&stage, fleet, &self.ledger, plan.clock_gap()));
                scope.spawn(|| packets::track(&stage, &self.proxies, plan.packet_gap()));
                scope.spawn(|| faults::redis(&stage, redis, redis_gate, plan.redis_gap()));
                scope.spawn(|| faults::services(&stage, services, plan.service_gap()));
                self.watch(plan, &raging);
            });
            self.journal.note("no more faults");
            loading.stop();
        });
        let posted = self.runtime.block_on(posting);
        posted.expect("the clients go on to the end");
        self.journal.note("no more requests");
    }

    /// Until the time is over, or SIGTERM comes, says now and then how it goes.
    fn watch(&self, plan: &Plan, raging: &Arc<Stop>) {
        let told = Arc::clone(raging);
        self.runtime.spawn(async move {
            if let Ok(mut terminate) = signal(SignalKind::terminate()) {
                terminate.recv().await;
                eprintln!("SIGTERM: this is the end of it");
                told.stop();
            }
        });
        let end = Instant::now() + plan.time;
        while Instant::now() < end {
            let next = (Instant::now() + Duration::from_secs(60)).min(end);
            if !raging.wait_until(next) {
                return;
            }
            let ledger = self.ledger.lock().unwrap_or_else(PoisonError::into_inner);
            let (requests, open, twice) = (ledger.len(), ledger.open(), ledger.twice());
            drop(ledger);
            let faults: usize = self
                .journal
                .faults()
                .values()
                .map(|fault| fault.times)
                .sum();
            let ended = self
                .fleet
                .ended
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .len();
            eprintln!(
                "{} s left: {requests} requests, {open} open, {twice} twice, {faults} faults, {ended} ended by themselves",
                end.saturating_duration_since(Instant::now()).as_secs()
            );
        }
    }

    /// Waits until every request has its outcome and nothing is left to read.
    fn settle(&self, brokers: &str) -> Result<(), String> {
        let begin = Instant::now();
        let lag = |ledger: &Mutex<Ledger>| -> Result<(), String> {
            let ledger = ledger.lock().unwrap_or_else(PoisonError::into_inner);
            if ledger.open() > 0 {
                let first = ledger.first_open(10);
                return Err(format!(
                    "{} requests have no outcome: {first:?}",
                    ledger.open()
                ));
            }
            drop(ledger);
            match reader::left(brokers, GROUP) {
                Ok(left) if left.is_empty() => Ok(()),
                Ok(left) => Err(format!("left to read: {left:?}")),
                Err(error) => Err(format!("the brokers do not answer: {error}")),
            }
        };
        let pause = Stop::default();
        loop {
            let left = lag(&self.ledger);
            if left.is_ok() {
                eprintln!(
                    "settled {:.0} s after the last request",
                    begin.elapsed().as_secs_f64()
                );
            }
            if left.is_ok() || begin.elapsed() > SETTLES {
                return left;
            }
            pause.wait(Duration::from_secs(1));
        }
    }
}

/// Creates the topics that are missing.
fn apply(environment: &[(String, String)]) -> Result<(), String> {
    let applied = Command::new(env!("CARGO_BIN_EXE_user-otp"))
        .args(["topics", "apply", "--with-platform-topics"])
        .env_clear()
        .envs(environment.iter().cloned())
        .output()
        .expect("user-otp starts");
    if applied.status.success() {
        return Ok(());
    }
    Err(String::from_utf8_lossy(&applied.stderr).into_owned())
}

/// Tells whoever waits for it that this is the end, also when a test fails.
struct End<'a>(&'a Stop);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.stop();
    }
}

fn services(runtime: &Runtime) -> Services {
    let script = Script {
        users: faults::well(Service::Users),
        otp: faults::well(Service::Otp),
        texts: faults::well(Service::Texts),
        rules: faults::well(Service::Rules),
        journal: 0,
        ..Script::default()
    };
    let standin = runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
        Standin::start(listener.expect("a free port"), script).await
    });
    let standin = standin.expect("the stand-ins listen");
    let codes = [
        (people::Kind::Register, "sms.register.otp.msg"),
        (people::Kind::Login, "sms.login.otp.msg"),
        (people::Kind::Reset, "sms.pwd.reset.otp.msg"),
    ];
    for locale in people::LOCALES {
        for (kind, code) in codes {
            let text = format!("{}%s.", people::text(kind, locale));
            standin.set_text(Text::new(locale, code, &text));
        }
    }
    let address = standin.url();
    let address = address.trim_start_matches("http://");
    let address = address.parse().expect("an address");
    let gates = Service::ALL.map(|_| Gate::to(address, runtime.handle()));
    Services {
        standin: Arc::new(standin),
        gates,
    }
}

#[track_caller]
fn wait_for(what: &str, limit: Duration, mut holds: impl FnMut() -> bool) {
    let (begin, pause) = (Instant::now(), Stop::default());
    while !holds() {
        assert!(begin.elapsed() < limit, "waited {limit:?}: {what}");
        pause.wait(Duration::from_millis(200));
    }
}
