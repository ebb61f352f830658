//! Two instances on one Redis under HTTP load, while Redis stands still, is killed, and comes back
//! empty: every request gets its answer, what got 201 is in Kafka once, and each instance keeps its own
//! word whatever Redis does.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::UNIX_EPOCH;

use crate::client::{Answer, Client};
use crate::kafka::{wait_for, wait_until};
use crate::management::{health, trouble};
use crate::process::Process;
use crate::redis_server::Redis;
use crate::request::Request;
use crate::world::{Setup, World, now};

/// Threads that ask: half of them one instance first, half of them the other.
const CLIENTS: u32 = 4;

/// People that are served in each phase.
const PEOPLE: usize = 40;

/// What one person does, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// With a key.
    First,
    /// With it again, at the same instance.
    Repeat,
    /// Without a key, at the same instance: too early.
    Impatient,
    /// With the key, at the other instance.
    Moved,
    /// Without a key there: too early.
    ImpatientThere,
}

const STEPS: [Step; 5] = [
    Step::First,
    Step::Repeat,
    Step::Impatient,
    Step::Moved,
    Step::ImpatientThere,
];

/// What both instances make of Redis while a person is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Times {
    /// It decides.
    Well,
    /// Each instance decides.
    Away,
    /// One notices, or not both have.
    Changing,
}

/// When an instance noticed something, and whether it was that Redis is away.
type Notice = (i64, bool);

/// What an instance said of Redis, in order.
fn notices(process: &Process) -> Vec<Notice> {
    let said = process.output.text();
    let notices = said.lines().filter_map(|line| {
        let away = line.contains("Redis is away");
        let when = humantime::parse_rfc3339(line.split(' ').next()?).ok()?;
        let when = when.duration_since(UNIX_EPOCH).ok()?.as_millis();
        (away || line.contains("Redis is back")).then_some((i64::try_from(when).ok()?, away))
    });
    notices.collect()
}

/// Whether Redis was away for an instance during all of this; none: it changed.
fn away(notices: &[Notice], during: &Range<i64>) -> Option<bool> {
    let before = notices.iter().rfind(|(when, _)| *when < during.start);
    let meanwhile = notices.iter().any(|(when, _)| during.contains(when));
    (!meanwhile).then(|| before.is_some_and(|(_, away)| *away))
}

#[derive(Clone, Debug)]
struct Seen {
    id: String,
    step: Step,
    /// The person's whole time, in milliseconds.
    during: Range<i64>,
    answer: Option<Answer>,
}

impl Seen {
    fn times(&self, instances: &[Vec<Notice>; 2]) -> Times {
        match instances.each_ref().map(|one| away(one, &self.during)) {
            [Some(false), Some(false)] => Times::Well,
            [Some(true), Some(true)] => Times::Away,
            _ => Times::Changing,
        }
    }
}

#[derive(Default)]
struct Load {
    people: AtomicU32,
    served: AtomicU32,
    stop: AtomicBool,
    seen: Mutex<Vec<Seen>>,
}

fn ask(client: &mut Client, mobile: &str, id: &str, key: Option<&str>) -> Option<Answer> {
    let mut headers = vec![("X-Correlation-Id", id)];
    headers.extend(key.map(|key| ("Idempotency-Key", key)));
    let body = Request::register(mobile).body();
    client
        .write(crate::client::post(&body, &headers))
        .and_then(|()| client.answer())
        .ok()
}

impl Load {
    /// One person after another, until told to stop.
    fn run(&self, [here, there]: [u16; 2]) {
        let mut clients = [here, there].map(|port| Client::to(port).expect("it listens"));
        while !self.stop.load(Ordering::SeqCst) {
            let person = self.people.fetch_add(1, Ordering::SeqCst);
            let (mobile, key) = (format!("98765{person:05}"), format!("key-{person}"));
            let began = now();
            let answers = STEPS.map(|step| {
                let (at, key) = match step {
                    Step::First | Step::Repeat => (0, Some(key.as_str())),
                    Step::Impatient => (0, None),
                    Step::Moved => (1, Some(key.as_str())),
                    Step::ImpatientThere => (1, None),
                };
                let id = format!("{person}-{step:?}");
                let answer = ask(&mut clients[at], &mobile, &id, key);
                (id, step, answer)
            });
            let during = began..now() + 1;
            let seen = answers.map(|(id, step, answer)| Seen {
                id,
                step,
                during: during.clone(),
                answer,
            });
            let mut all = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            all.extend(seen);
            self.served.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Something happens to Redis, until both instances say so; then people are served meanwhile.
    #[track_caller]
    fn phase(&self, happens: impl FnOnce(), noticed: impl Fn() -> bool) {
        happens();
        wait_until("it is noticed, and said", noticed);
        self.serve();
    }

    #[track_caller]
    fn serve(&self) {
        let wanted = self.served.load(Ordering::SeqCst) as usize + PEOPLE;
        wait_for("people are served", || {
            let served = self.served.load(Ordering::SeqCst) as usize;
            if served >= wanted {
                Ok(())
            } else {
                Err(served)
            }
        });
    }
}

/// Ends the load, also when a test fails.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// The answers that a step may have, and how many messages each of them comes with.
fn expected(step: Step, times: Times) -> &'static [(u16, usize)] {
    match (step, times) {
        (Step::First, _) => &[(201, 1)],
        (Step::Repeat, _) => &[(201, 0)],
        (Step::Impatient | Step::ImpatientThere, Times::Well | Times::Away) => &[(429, 0)],
        (Step::Moved, Times::Well) => &[(201, 0)],
        // Nobody there knows of it.
        (Step::Moved, Times::Away) => &[(201, 1)],
        // What one knows, the other may not.
        (Step::Impatient | Step::ImpatientThere, Times::Changing) => &[(201, 1), (429, 0)],
        (Step::Moved, Times::Changing) => &[(201, 0), (201, 1), (429, 0)],
    }
}

/// How many messages came of each request.
fn messages(world: &World) -> BTreeMap<String, usize> {
    let mut count = BTreeMap::new();
    for sms in world.sms() {
        let id = sms
            .header("x-correlation-id")
            .expect("every request has one");
        *count.entry(id.to_owned()).or_default() += 1;
    }
    count
}

fn unexpected(world: &World, instances: &[Vec<Notice>; 2], seen: &[Seen]) -> Vec<String> {
    let messages = messages(world);
    let wrong = seen.iter().filter_map(|one| {
        let status = one.answer.as_ref().map_or(0, |answer| answer.status);
        let sent = messages.get(&one.id).copied().unwrap_or_default();
        let times = one.times(instances);
        let fits = expected(one.step, times).contains(&(status, sent));
        (!fits).then(|| format!("{times:?}, {sent} messages: {one:?}"))
    });
    wrong.collect()
}

#[test]
fn whatever_becomes_of_redis_under_load_every_request_has_its_answer_and_one_message() {
    let mut redis = Redis::start();
    let setup = Setup::default()
        .set("LIMITS__MODE", "on")
        .set("LIMITS__NUMBER_TYPE_WINDOW", "1h")
        .set("LIMITS__REDIS", redis.address())
        .set("LIMITS__REDIS_TIMEOUT", "1s");
    let world = World::with(setup);
    let instances = ["a", "b"].map(|name| world.start(name));
    let ports = [0, 1].map(|instance| instances[instance].http_port());
    let says = |state: &(u16, String, BTreeMap<String, String>)| {
        let each = |process: &Process| health(process, "/health/ready") == *state;
        instances.iter().all(each)
    };
    let well = (200, "UP".to_owned(), BTreeMap::new());
    let away = (
        200,
        "DEGRADED".to_owned(),
        trouble("redis", "each instance goes by its own memory"),
    );
    // Somebody who was there before all of it.
    let old = |instance: usize, id: &str| {
        let mut client = Client::to(ports[instance]).expect("it listens");
        let answer = ask(&mut client, "9870000001", id, Some("old"));
        assert_eq!(answer.expect("an answer").status, 201, "{id}");
    };
    wait_until("Redis is well", || says(&well));
    old(0, "old-first");
    let load = Load::default();
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            let (load, mut ports) = (&load, ports);
            ports.rotate_left(client as usize % 2);
            scope.spawn(move || load.run(ports));
        }
        let _end = End(&load.stop);
        load.serve();
        load.phase(|| redis.freeze(), || says(&away));
        load.phase(|| redis.thaw(), || says(&well));
        old(1, "old-elsewhere");
        load.phase(|| redis.kill(), || says(&away));
        load.phase(|| redis.start_again(), || says(&well));
        // It is empty now: what an instance began itself it knows all the same.
        old(0, "old-again");
        old(1, "old-unknown");
    });
    let seen = load.seen.lock().unwrap_or_else(PoisonError::into_inner);
    let noticed = instances.each_ref().map(notices);
    // What was handed over, on a slow machine, comes later.
    wait_for("every request has its answer and its messages", || {
        let wrong = unexpected(&world, &noticed, &seen);
        if wrong.is_empty() { Ok(()) } else { Err(wrong) }
    });
    let messages = messages(&world);
    let sent = ["old-first", "old-elsewhere", "old-again", "old-unknown"]
        .map(|id| messages.get(id).copied().unwrap_or_default());
    assert_eq!(sent, [1, 0, 0, 1]);
    let early = seen.iter().filter_map(|one| one.answer.as_ref());
    let mut early = early.filter(|answer| answer.status == 429);
    assert!(early.all(|answer| answer.header("retry-after").is_some()));
    assert_eq!(world.outcomes().len(), world.sms().len());
    let during = |times| {
        seen.iter()
            .filter(|one| one.times(&noticed) == times)
            .count()
    };
    let each = [Times::Well, Times::Away, Times::Changing].map(during);
    assert!(each[..2].iter().all(|count| *count > 0), "{each:?}");
    eprintln!("{} requests: well, away, changing {each:?}", seen.len());
}
