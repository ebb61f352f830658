//! The HTTP door's load: login requests over connections that are kept, and what each was answered.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::ensure;
use reqwest::header::CONTENT_TYPE;
use reqwest::{Client, StatusCode, Url};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::load::{PEOPLE, login};

/// How long a client waits for its answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// Shorter than the service's `http.idle_timeout`: a request into a connection that it closes at that
/// moment would be lost through nobody's fault.
const IDLE: Duration = Duration::from_secs(10);

/// Clients of one process, all in one thread: they share the cores with what they measure.
pub(crate) struct Clients {
    http: Http,
    runtime: Runtime,
}

/// What the requests of one load were answered.
#[derive(Debug, Default)]
pub(crate) struct Answers {
    /// For each 201, the time from when its request was due until the answer was read.
    pub(crate) created: Vec<Duration>,
    /// Other answers, or none at all, and how many.
    pub(crate) others: BTreeMap<String, u32>,
    /// When the last request was begun, and when the first answer had been read.
    last_begun: Option<Instant>,
    first_done: Option<Instant>,
}

impl Answers {
    /// Whether there was a moment at which all requests were in flight.
    pub(crate) fn all_at_once(&self) -> bool {
        self.last_begun < self.first_done
    }
}

impl Clients {
    pub(crate) fn of(port: u16) -> anyhow::Result<Self> {
        let client = Client::builder()
            .no_proxy()
            .tcp_nodelay(true)
            .pool_idle_timeout(IDLE)
            .timeout(PATIENCE);
        let url = Url::parse(&format!("http://127.0.0.1:{port}/user-otp/v1/_send"))?;
        Ok(Self {
            http: Http {
                client: client.build()?,
                url,
            },
            runtime: tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?,
        })
    }

    /// Requests at fixed times, whatever becomes of those before. A late start counts as latency.
    pub(crate) fn open_loop(&self, per_second: u32, count: u32) -> anyhow::Result<Answers> {
        ensure!(count <= PEOPLE, "one request a person: at most {PEOPLE}");
        let gap = Duration::from_secs(1) / per_second;
        self.runtime.block_on(async {
            let (start, mut asked) = (Instant::now(), JoinSet::new());
            for person in 0..count {
                let due = start + gap * person;
                sleep_until(due).await;
                asked.spawn(self.http.clone().ask(person, due));
            }
            Ok(asked.join_all().await.into_iter().collect())
        })
    }

    /// So many clients, each of which asks again as soon as it has its answer.
    pub(crate) fn closed_loop(&self, clients: u32, count: u32) -> anyhow::Result<Answers> {
        ensure!(count <= PEOPLE, "one request a person: at most {PEOPLE}");
        let (next, mut asking) = (Arc::new(AtomicU32::new(0)), JoinSet::new());
        self.runtime.block_on(async {
            for _ in 0..clients {
                let (next, http) = (Arc::clone(&next), self.http.clone());
                asking.spawn(async move {
                    let mut asked = Vec::new();
                    loop {
                        let person = next.fetch_add(1, Ordering::Relaxed);
                        if person >= count {
                            return asked;
                        }
                        asked.push(http.clone().ask(person, Instant::now()).await);
                    }
                });
            }
            Ok(asking.join_all().await.into_iter().flatten().collect())
        })
    }
}

#[derive(Debug, Clone)]
struct Http {
    client: Client,
    url: Url,
}

/// One request: when it was due and when begun, when its answer was read, and whether that was 201.
struct Asked {
    due: Instant,
    begun: Instant,
    done: Instant,
    end: Result<(), String>,
}

impl Http {
    async fn ask(self, person: u32, due: Instant) -> Asked {
        let begun = Instant::now();
        let end = match self.exchange(person).await {
            Ok(StatusCode::CREATED) => Ok(()),
            Ok(other) => Err(other.to_string()),
            Err(error) => Err(format!("no answer: {error}")),
        };
        Asked {
            due,
            begun,
            done: Instant::now(),
            end,
        }
    }

    async fn exchange(self, person: u32) -> reqwest::Result<StatusCode> {
        let request = self.client.post(self.url);
        let request = request.header(CONTENT_TYPE, "application/json");
        let answer = request.body(login(person)).send().await?;
        let status = answer.status();
        // A connection is kept only when its answer has been read to the end.
        answer.bytes().await?;
        Ok(status)
    }
}

impl FromIterator<Asked> for Answers {
    fn from_iter<I: IntoIterator<Item = Asked>>(all: I) -> Self {
        let mut answers = Self::default();
        for asked in all {
            let Asked {
                due,
                begun,
                done,
                end,
            } = asked;
            answers.last_begun = answers.last_begun.max(Some(begun));
            answers.first_done = Some(answers.first_done.map_or(done, |first| first.min(done)));
            match end {
                Ok(()) => answers.created.push(done - due),
                Err(other) => *answers.others.entry(other).or_default() += 1,
            }
        }
        answers
    }
}
