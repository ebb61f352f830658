//! One test's world: topics, group and stand-ins of its own on the shared broker, and verbs
//! to act on it and to look at it from outside.
//!
//! A world that goes away looks back: nothing that any of its processes printed, and no
//! outcome, may hold a number, an address or an OTP; and no request may have been lost ([`crate::progress`]).

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;
use tokio::runtime::{Builder, Runtime};
use user_otp::egov::standin::{Call, Script, Standin, User};

use crate::kafka::{
    Committed, DEADLINE, Draft, Kafka, Partition, Place, Record, wait_for, wait_until,
};
use crate::leaks::Secrets;
use crate::process::{Output, Process};
use crate::progress::{Input, Progress, assert_accounted};
use crate::request::Request;

/// The retry tiers of a world, as `retry.delays` and as the ends of topic names.
pub(crate) const TIERS: [&str; 2] = ["500ms", "2s"];

/// What can differ between worlds.
pub(crate) struct Setup {
    /// Partitions of the request topic.
    pub(crate) partitions: i32,
    /// Settings of the request topic.
    pub(crate) request_topic: Vec<(&'static str, &'static str)>,
    /// Whether there is an SMS topic.
    pub(crate) sms: bool,
    /// Whether there is an email topic.
    pub(crate) email: bool,
    /// More variables for every process, without `USER_OTP__`, `CONFIG` for a file, OpenSSL's
    /// `SSL_CERT_FILE`, and those of a fake clock; they win.
    pub(crate) settings: Vec<(&'static str, String)>,
    /// Another broker than the shared one.
    pub(crate) broker: Option<String>,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            partitions: 2,
            request_topic: Vec::new(),
            sms: true,
            email: true,
            settings: Vec::new(),
            broker: None,
        }
    }
}

impl Setup {
    pub(crate) fn set(mut self, key: &'static str, value: impl Into<String>) -> Self {
        self.settings.push((key, value.into()));
        self
    }
}

/// How the names of a world's own topics begin.
pub(crate) fn own_prefix(world: &str) -> String {
    format!("{world}.own.")
}

/// The topics of a world, by role.
pub(crate) struct Topics {
    pub(crate) requests: String,
    pub(crate) accepted: String,
    pub(crate) jobs: String,
    pub(crate) retry_prefix: String,
    pub(crate) dead_letters: String,
    pub(crate) outcomes: String,
    pub(crate) job_log: String,
    pub(crate) sms: String,
    pub(crate) email: String,
}

impl Topics {
    fn of(world: &str) -> Self {
        let named = |role: &str| format!("{world}.{role}");
        // As on a real cluster, the service's own share a prefix that the others do not have.
        let own = |role: &str| format!("{}{role}", own_prefix(world));
        Self {
            requests: named("request"),
            accepted: own("accepted"),
            jobs: own("jobs.request"),
            retry_prefix: own("retry"),
            dead_letters: own("dlq"),
            outcomes: named("outcome"),
            job_log: own("jobs"),
            sms: named("sms"),
            email: named("email"),
        }
    }

    /// The retry topic of a delay.
    pub(crate) fn retry(&self, delay: &str) -> String {
        format!("{}.{delay}", self.retry_prefix)
    }

    /// What `user-otp run` consumes.
    pub(crate) fn inputs(&self) -> Vec<String> {
        let live = [
            self.requests.clone(),
            self.accepted.clone(),
            self.jobs.clone(),
        ];
        live.into_iter()
            .chain(TIERS.iter().map(|delay| self.retry(delay)))
            .collect()
    }
}

pub(crate) struct World {
    /// The beginning of all its topics' names, and its group.
    pub(crate) name: String,
    pub(crate) topics: Topics,
    pub(crate) kafka: Kafka,
    /// The four services.
    pub(crate) egov: Standin,
    settings: Vec<(&'static str, String)>,
    outputs: Mutex<Vec<(String, Output)>>,
    /// What no process may print.
    texts: Mutex<BTreeSet<String>>,
    /// How far the last process had come that ran until it was dropped.
    progress: Arc<Mutex<Option<Progress>>>,
    /// Records from this time on must have an outcome, in epoch milliseconds.
    owed_from: i64,
    // Last: the stand-ins and the admin client run on it.
    runtime: Runtime,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(Setup::default())
    }

    pub(crate) fn with(setup: Setup) -> Self {
        static WORLDS: AtomicU32 = AtomicU32::new(0);
        let number = WORLDS.fetch_add(1, Ordering::Relaxed);
        // Process ids come again: a broker may have topics of an earlier run.
        let unique = uuid::Uuid::new_v4().simple().to_string();
        let name = format!("it-{number}-{}", &unique[..8]);
        let topics = Topics::of(&name);
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let broker = setup.broker.unwrap_or_else(shared_broker);
        let kafka = Kafka::new(&broker, runtime.handle().clone());
        kafka.create_topic(&topics.requests, setup.partitions, &setup.request_topic);
        if setup.sms {
            kafka.create_topic(&topics.sms, 2, &[]);
        }
        if setup.email {
            kafka.create_topic(&topics.email, 2, &[]);
        }
        let egov = runtime.block_on(async {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
                .await
                .expect("a free port");
            let script = Script {
                // Also of minutes of load.
                journal: 1_000_000,
                ..Script::default()
            };
            Standin::start(listener, script)
                .await
                .expect("the stand-ins listen")
        });
        Self {
            name,
            topics,
            kafka,
            egov,
            settings: setup.settings,
            outputs: Mutex::default(),
            texts: Mutex::default(),
            progress: Arc::default(),
            owed_from: now() - 60_000,
            runtime,
        }
    }

    /// Starts `user-otp run` and waits until it has its partitions.
    #[track_caller]
    pub(crate) fn start(&self, instance: &str) -> Process {
        let mut process = self.spawn(instance);
        process.wait_ready();
        process
    }

    /// Starts `user-otp run`.
    pub(crate) fn spawn(&self, instance: &str) -> Process {
        self.spawn_with(instance, &[])
    }

    /// Starts `user-otp run` with more variables, without `USER_OTP__`; they win.
    pub(crate) fn spawn_with(&self, instance: &str, more: &[(&str, &str)]) -> Process {
        let environment = self.environment(instance, more);
        let mut process = Process::spawn(instance, &environment);
        *lock(&self.progress) = None;
        if let Some(input) = self.input(&environment) {
            let progress = Arc::clone(&self.progress);
            process.at_the_end(Box::new(move |process| {
                let found = input.wait_for_progress(process);
                *lock(&progress) = Some(found);
            }));
        }
        let mut outputs = lock(&self.outputs);
        outputs.push((instance.to_owned(), process.output.clone()));
        process
    }

    /// What a process with this environment reads; none: nothing.
    fn input(&self, environment: &[(String, String)]) -> Option<Input> {
        let value = |key: &str| {
            let mut found = environment.iter();
            let (_, value) =
                found.find(|(name, _)| name.strip_prefix("USER_OTP__") == Some(key))?;
            Some(value.clone())
        };
        if value("ENGINE__ENABLED").as_deref() == Some("false") {
            return None;
        }
        let topics = ["TOPICS__REQUESTS", "TOPICS__ACCEPTED", "TOPICS__JOBS"];
        Some(Input {
            broker: self.kafka.broker.clone(),
            group: value("KAFKA__GROUP")?,
            topics: topics.into_iter().filter_map(value).collect(),
            retries: format!("{}.", value("TOPICS__RETRY_PREFIX")?),
        })
    }

    /// For a test that starts in the middle of what it has written.
    pub(crate) fn owes_nothing(&mut self) {
        self.owed_from = i64::MAX;
    }

    /// Looks for secrets in what a command printed, as in a process's output.
    pub(crate) fn keep_output(&self, name: &str, text: &str) {
        let mut outputs = lock(&self.outputs);
        let name = name.replace(|one: char| !one.is_ascii_alphanumeric(), "-");
        outputs.push((name, Output::of(text)));
    }

    /// What a process of this world is told.
    pub(crate) fn environment(
        &self,
        instance: &str,
        more: &[(&str, &str)],
    ) -> Vec<(String, String)> {
        let (url, topics) = (self.egov.url(), &self.topics);
        let mut settings: BTreeMap<&str, String> = BTreeMap::from([
            ("KAFKA__BROKERS", self.kafka.broker.clone()),
            ("KAFKA__GROUP", self.name.clone()),
            ("KAFKA__INSTANCE", instance.to_owned()),
            // A killed process's partitions wait for this.
            ("KAFKA__SESSION_TIMEOUT_MS", "6000".to_owned()),
            ("KAFKA__HEARTBEAT_INTERVAL_MS", "500".to_owned()),
            ("TOPICS__REQUESTS", topics.requests.clone()),
            ("TOPICS__ACCEPTED", topics.accepted.clone()),
            ("TOPICS__JOBS", topics.jobs.clone()),
            ("TOPICS__RETRY_PREFIX", topics.retry_prefix.clone()),
            ("TOPICS__DEAD_LETTERS", topics.dead_letters.clone()),
            ("TOPICS__OUTCOMES", topics.outcomes.clone()),
            ("TOPICS__JOB_LOG", topics.job_log.clone()),
            ("TOPICS__SMS", topics.sms.clone()),
            ("TOPICS__EMAIL", topics.email.clone()),
            ("RETRY__DELAYS", TIERS.join(",")),
            ("USERS__URL", url.clone()),
            ("OTP__URL", format!("{url}/otp")),
            ("LOCALIZATION__URL", url),
            // Most tests ask for one number again and again.
            ("LIMITS__MODE", "off".to_owned()),
            // And looks for each request's own message.
            ("ENGINE__SUPERSEDE_AFTER", "0s".to_owned()),
            ("HTTP__PORT", "0".to_owned()),
            // A busy machine is no outage.
            ("HTTP__BUDGET", "5s".to_owned()),
            ("HTTP__CONFIRM_TIMEOUT", "20s".to_owned()),
            ("SHUTDOWN__DEADLINE", "60s".to_owned()),
            ("MANAGEMENT__PORT", "0".to_owned()),
            // The more it says, the more there is to search for secrets.
            ("LOG__LEVEL", "debug".to_owned()),
        ]);
        settings.extend(self.settings.iter().cloned());
        settings.extend(more.iter().map(|(key, value)| (*key, (*value).to_owned())));
        settings
            .into_iter()
            .map(|(key, value)| match key {
                "CONFIG" => ("USER_OTP_CONFIG".to_owned(), value),
                // OpenSSL's own: whose certificates are trusted.
                "SSL_CERT_FILE" => (key.to_owned(), value),
                // A fake clock's.
                key if key == "LD_PRELOAD" || key.starts_with("FAKETIME_") => {
                    (key.to_owned(), value)
                }
                key => (format!("USER_OTP__{key}"), value),
            })
            .collect()
    }

    /// An address that must not show up in any log.
    pub(crate) fn address(&self, person: &str) -> String {
        let address = format!("{person}@example.org");
        self.keep_secret(&address);
        address
    }

    /// A text that must not show up in any log.
    pub(crate) fn keep_secret(&self, text: &str) {
        self.texts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(text.to_owned());
    }

    /// Publishes a request as upstream does, keyed by person.
    pub(crate) fn request(&self, request: &Request) -> Place {
        self.publish(&request.draft())
    }

    /// Publishes requests in this order.
    pub(crate) fn requests(&self, requests: &[Request]) -> Vec<Place> {
        let drafts: Vec<_> = requests.iter().map(Request::draft).collect();
        self.kafka.publish_all(&self.topics.requests, &drafts)
    }

    /// Publishes anything at all on the request topic.
    pub(crate) fn publish(&self, draft: &Draft) -> Place {
        self.kafka.publish(&self.topics.requests, draft)
    }

    pub(crate) fn sms(&self) -> Vec<Record> {
        self.kafka.read(&self.topics.sms)
    }

    pub(crate) fn emails(&self) -> Vec<Record> {
        self.kafka.read(&self.topics.email)
    }

    pub(crate) fn dead_letters(&self) -> Vec<Record> {
        self.kafka.read(&self.topics.dead_letters)
    }

    pub(crate) fn outcomes(&self) -> Vec<Outcome> {
        self.kafka
            .read(&self.topics.outcomes)
            .into_iter()
            .map(Outcome)
            .collect()
    }

    pub(crate) fn retries(&self, delay: &str) -> Vec<Record> {
        self.kafka.read(&self.topics.retry(delay))
    }

    /// Waits until there are at least so many outcomes, and returns all there are.
    #[track_caller]
    pub(crate) fn wait_for_outcomes(&self, count: usize) -> Vec<Outcome> {
        wait_for("every request has its outcome", || {
            let outcomes = self.outcomes();
            if outcomes.len() >= count {
                Ok(outcomes)
            } else {
                Err(outcomes.len())
            }
        })
    }

    /// Waits for the one outcome of this event.
    #[track_caller]
    pub(crate) fn wait_for_outcome(&self, event_id: &str) -> Outcome {
        let mut found = Vec::new();
        wait_until("the request has its outcome", || {
            found = self.outcomes();
            found.retain(|outcome| outcome.0.key.as_deref() == Some(event_id.as_bytes()));
            !found.is_empty()
        });
        assert_eq!(found.len(), 1, "outcomes of {event_id}: {found:?}");
        found.remove(0)
    }

    /// Waits until what the stand-ins were asked fulfils `predicate`; false: it never did.
    pub(crate) fn wait_for_journal(&self, predicate: impl FnMut(&[Call]) -> bool) -> bool {
        self.runtime
            .block_on(self.egov.wait_for(DEADLINE, predicate))
    }

    /// Asks for a login, publishes it and waits for its SMS: the service works.
    #[track_caller]
    pub(crate) fn assert_works(&self, mobile: &str, event_id: &str) {
        self.egov.add_user(User::citizen(mobile, "pb"));
        self.request(&Request::login(mobile).id(event_id));
        let outcome = self.wait_for_outcome(event_id);
        assert_eq!(outcome.word("outcome"), "published", "{outcome:?}");
    }

    /// What the group has committed for everything that is consumed.
    pub(crate) fn committed(&self) -> BTreeMap<Partition, Option<Committed>> {
        self.topics
            .inputs()
            .iter()
            .flat_map(|topic| self.kafka.committed(&self.name, topic))
            .collect()
    }

    /// The partitions whose committed offset is not at the end of the log: committed, and end.
    pub(crate) fn lag(&self) -> Vec<(Partition, Option<i64>, i64)> {
        let committed = self.committed();
        let ends = self
            .topics
            .inputs()
            .into_iter()
            .flat_map(|topic| self.kafka.ends(&topic));
        let behind = ends.filter_map(|(partition, end)| {
            let committed = committed
                .get(&partition)
                .and_then(Option::as_ref)
                .map(|committed| committed.offset);
            (committed != Some(end)).then_some((partition, committed, end))
        });
        behind.collect()
    }

    /// How much of the log is not committed yet, over all partitions.
    pub(crate) fn left(&self) -> i64 {
        let behind = self.lag().into_iter();
        behind
            .map(|(_, committed, end)| end - committed.unwrap_or(0))
            .sum()
    }

    /// Waits until the committed offsets are at the end of the log on every partition.
    #[track_caller]
    pub(crate) fn wait_for_no_lag(&self) {
        wait_for("the committed offsets are at the end of the log", || {
            let lag = self.lag();
            if lag.is_empty() { Ok(()) } else { Err(lag) }
        });
    }

    fn secrets(&self) -> Secrets {
        let mut words = HashSet::new();
        for call in self.egov.journal() {
            words.extend(call.mobile);
            words.extend(call.otp);
        }
        let texts = self
            .texts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        Secrets { words, texts }
    }

    fn look_for_leaks(&self, outcomes: &[Outcome]) {
        let secrets = self.secrets();
        for (process, output) in self
            .outputs
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
        {
            if let Some(line) = secrets.leak(&output.text()) {
                panic!("process {process} printed a secret: {line}");
            }
        }
        for outcome in outcomes {
            for text in std::iter::once(outcome.0.text())
                .chain(outcome.0.headers.iter().map(|(key, _)| key.as_str()))
            {
                assert_eq!(secrets.leak(text), None, "an outcome holds a secret");
            }
        }
    }

    /// Every request has its outcome, but for those that a first start passes over, and what is on a topic with a
    /// batch that cannot be decoded.
    fn account(&self, outcomes: &[Outcome]) {
        let owed = |topic: &String| {
            let records = self.kafka.read_readable(topic).unwrap_or_default();
            let owed = records.into_iter();
            owed.filter(|record| record.timestamp >= self.owed_from)
                .collect::<Vec<_>>()
        };
        let handed = [&self.topics.accepted, &self.topics.jobs];
        let handed: Vec<Record> = handed.into_iter().flat_map(owed).collect();
        assert_accounted(&owed(&self.topics.requests), &handed, outcomes);
    }

    /// The end of what each process printed, and where all of it is.
    fn show_outputs(&self) {
        let outputs = lock(&self.outputs);
        for (number, (process, output)) in outputs.iter().enumerate() {
            let text = output.text();
            let file = format!(
                "{}/{}-{number}-{process}.log",
                env!("CARGO_TARGET_TMPDIR"),
                self.name
            );
            let kept = std::fs::write(&file, &text);
            let lines: Vec<&str> = text.lines().collect();
            let last = lines[lines.len().saturating_sub(20)..].join("\n");
            eprintln!("--- the end of process {process}, all of it in {file} ({kept:?}):\n{last}");
        }
    }

    fn delete_topics(&self) {
        let all = self.kafka.topics(&format!("{}.", self.name));
        let names: Vec<&str> = all.iter().map(String::as_str).collect();
        self.kafka.delete_topics(&names);
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.show_outputs();
            return;
        }
        let outcomes = self.outcomes();
        self.look_for_leaks(&outcomes);
        if *lock(&self.progress) == Some(Progress::AtTheEnd) {
            self.account(&outcomes);
        }
        self.delete_topics();
    }
}

/// A record of the outcome topic.
#[derive(Clone, Debug)]
pub(crate) struct Outcome(pub(crate) Record);

impl Outcome {
    pub(crate) fn get(&self, name: &str) -> Value {
        self.0
            .json()
            .get(name)
            .unwrap_or_else(|| panic!("an outcome without {name}"))
            .clone()
    }

    /// A property that is text; null is the empty text.
    pub(crate) fn word(&self, name: &str) -> String {
        match self.get(name) {
            Value::String(word) => word,
            Value::Null => String::new(),
            other => panic!("{name} of an outcome is {other}"),
        }
    }

    /// The record that it is.
    pub(crate) fn record(&self) -> &Record {
        &self.0
    }

    pub(crate) fn event_id(&self) -> String {
        self.word("eventId")
    }

    /// A property that is a moment.
    pub(crate) fn moment(&self, name: &str) -> i64 {
        self.get(name)
            .as_i64()
            .unwrap_or_else(|| panic!("{name} of an outcome is no moment"))
    }

    /// `outcome`, and after slashes what there is of `disposition`, `code` and `stage`.
    pub(crate) fn summary(&self) -> String {
        let words = ["outcome", "disposition", "code", "stage"].map(|name| self.word(name));
        words
            .into_iter()
            .filter(|word| !word.is_empty())
            .collect::<Vec<_>>()
            .join("/")
    }
}

/// Now, in epoch milliseconds.
pub(crate) fn now() -> i64 {
    user_otp::clock::Clock::system().now().0
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn shared_broker() -> String {
    #[expect(
        clippy::disallowed_methods,
        reason = "where the tests' broker is comes from scripts/test"
    )]
    let broker = std::env::var("OTP_TEST_KAFKA");
    broker.expect("these tests need a real Kafka: run scripts/test, or set OTP_TEST_KAFKA to the address that `scripts/kafka start` prints")
}
