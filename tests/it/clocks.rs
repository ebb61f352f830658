//! Clocks that are wrong, and are set right: of one process, while it runs.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use user_otp::egov::Service;
use user_otp::egov::standin::{Behaviour, Fault, User};

use crate::kafka::wait_until;
use crate::management::Scrape;
use crate::process::Process;
use crate::request::Request;
use crate::world::{Setup, World};

/// The wall clock of processes, by a file that they look at with each question for the time.
struct WallClock {
    file: tempfile::TempPath,
}

impl WallClock {
    fn off_by(offset: &str) -> Self {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let clock = Self {
            file: file.into_temp_path(),
        };
        clock.set(offset);
        clock
    }

    fn set(&self, offset: &str) {
        std::fs::write(&self.file, offset).expect("the file is ours");
    }

    fn settings(&self) -> [(&'static str, String); 2] {
        [
            ("LD_PRELOAD", library().display().to_string()),
            ("WALL_CLOCK_FILE", self.file.display().to_string()),
        ]
    }

    fn spawn(&self, world: &World, instance: &str, more: &[(&str, &str)]) -> Process {
        let settings = self.settings();
        let settings = settings.iter().map(|(key, value)| (*key, value.as_str()));
        let all: Vec<_> = settings.chain(more.iter().copied()).collect();
        world.spawn_with(instance, &all)
    }
}

/// `wall_clock.c`, as a library. libfaketime does not serve: it looks symbols up, which allocates, while the
/// process's allocator asks for the time to begin with.
fn library() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let build = || {
        let library = Path::new(env!("CARGO_TARGET_TMPDIR")).join("wall_clock.so");
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/wall_clock.c");
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-O1", "-o"]);
        let status = compiler.arg(&library).arg(source).status();
        assert!(status.expect("there is a C compiler").success());
        library
    };
    BUILT.get_or_init(build).clone()
}

fn clock_of(process: &Process) -> String {
    let (_, body) = process.get("/health/ready");
    let report: serde_json::Value = serde_json::from_str(&body).expect("a report");
    let checks = report["checks"].as_array().expect("checks").iter();
    let clock = checks.filter(|check| check["name"] == "clock");
    clock.map(ToString::to_string).collect()
}

#[test]
fn a_clock_that_is_set_back_holds_no_retry() {
    let setup = Setup::default()
        .set("RETRY__DELAYS", "8s")
        .set("REQUEST__LIFETIME", "30m");
    let world = World::with(setup);
    let clock = WallClock::off_by("+600");
    let mut process = clock.spawn(&world, "a", &[]);
    process.wait_ready();
    world.egov.add_user(User::citizen("9876540001", "pb"));
    let outage = Behaviour::failing(Fault::status(500)).times(3);
    world.egov.set(Service::Users, outage);
    world.request(&Request::login("9876540001").id("held"));
    wait_until("it waits for its time", || {
        Scrape::of(&process).get("user_otp_retries_parked") > 0.0
    });
    let since = Instant::now();
    clock.set("+0");
    let outcome = world.wait_for_outcome("held");
    assert_eq!(outcome.summary(), "published");
    let waited = since.elapsed();
    assert!(waited < Duration::from_secs(60), "it was held: {waited:?}");
    // Nor was it overdue meanwhile.
    let (status, body) = process.get("/health/live");
    assert_eq!(status, 200, "{body}");
}

#[test]
fn a_clock_that_differs_from_the_brokers_is_said() {
    let world = World::new();
    let clock = WallClock::off_by("+120");
    let mut process = clock.spawn(&world, "a", &[]);
    process.wait_ready();
    let http = clock.spawn(&world, "b", &[("ENGINE__ENABLED", "false")]);
    wait_until("the other is there", || http.management_port().is_some());
    let mut requests = 0;
    let mut says = |part: &str, process: &Process| {
        wait_until(part, || {
            // There is a record to compare by.
            requests += 1;
            let mobile = format!("98765{:05}", 41_000 + requests);
            world.egov.add_user(User::citizen(&mobile, "pb"));
            world.request(&Request::login(&mobile).id(format!("clock-{requests}")));
            clock_of(process).contains(part)
        });
    };
    for process in [&process, &http] {
        says("ahead of the brokers'", process);
        let said = clock_of(process);
        assert!(said.contains("DEGRADED"), "{said}");
        assert!(said.contains("\"2m") || said.contains("\"1m 5"), "{said}");
        let output = process.output.text();
        let warnings = output.lines().filter(|line| {
            line.contains("WARN") && line.contains("clock is ahead of the brokers'")
        });
        assert_eq!(warnings.count(), 1, "said once");
    }
    clock.set("+0");
    says("\"UP\"", &process);
    assert!(process.output.has_line(|line| line.contains("agree again")));
    clock.set("-120");
    says("behind the brokers'", &process);
}

#[test]
fn a_topic_with_its_producers_times_is_not_compared_with() {
    let world = World::new();
    world.kafka.create_topic(&world.topics.outcomes, 2, &[]);
    let process = world.start("a");
    wait_until("it says so", || {
        let said = clock_of(&process);
        said.contains("not compared") && said.contains("\"UP\"")
    });
}
