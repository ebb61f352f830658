//! Believable stand-ins of the four services, over real HTTP on one port: for the demo, the
//! tests, the benchmark and people's own trials (`user-otp standin`).
//!
//! They answer on the services' default paths:
//!
//! | service | path |
//! | --- | --- |
//! | `users` (egov-user) | `POST /user/_search` |
//! | `otp` (egov-otp) | `POST /otp/v1/_create` |
//! | `texts` (egov-localization) | `POST /localization/messages/v1/_search` |
//! | `rules` (egov-mdms) | `POST /egov-mdms-service/v1/_search` |
//!
//! What they do is a script, set through [`Standin`] or over HTTP:
//!
//! | call | effect |
//! | --- | --- |
//! | `GET /_standin/health` | 200 as soon as it listens |
//! | `GET /_standin/journal` | the calls so far, a JSON array, oldest first |
//! | `PUT /_standin/behaviour/{service}` | a [`Behaviour`] for `users`, `otp`, `texts` or `rules`; `{}` heals |
//! | `PUT /_standin/users` | adds users or replaces them: an array of [`User`] |
//! | `PUT /_standin/everyone` | `true`: every number is a known citizen without email |
//! | `PUT /_standin/texts` | an array of [`Text`] |
//! | `PUT /_standin/rules` | a [`RulesOf`] |
//!
//! For example, an egov-otp that is down for ten seconds:
//! `curl -X PUT localhost:9000/_standin/behaviour/otp -d '{"fault":{"kind":"status","status":503},"healsAfterMs":10000}'`

mod behaviour;
mod control;
mod journal;
mod line;
mod population;
mod services;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use behaviour::{Behaviour, Fault};
pub use journal::Call;
pub use population::{RulesOf, Text, User};

use self::behaviour::Stage;
use self::journal::Journal;
use self::population::Population;
use super::Service;
use crate::clock::Clock;

/// How long [`Standin::stop`] waits for answers under way.
const GRACE: Duration = Duration::from_secs(1);

/// What the stand-ins do from the start.
#[derive(Debug, Clone)]
pub struct Script {
    /// What egov-user does.
    pub users: Behaviour,
    /// What egov-otp does.
    pub otp: Behaviour,
    /// What egov-localization does.
    pub texts: Behaviour,
    /// What egov-mdms does.
    pub rules: Behaviour,
    /// Every number is a known citizen without email.
    pub everyone: bool,
    /// Calls that the journal keeps, the newest; 0: none.
    pub journal: usize,
    /// Tells the time of a call.
    pub clock: Clock,
}

impl Default for Script {
    /// Everything answers at once; the journal keeps 100,000 calls.
    fn default() -> Self {
        Self {
            users: Behaviour::default(),
            otp: Behaviour::default(),
            texts: Behaviour::default(),
            rules: Behaviour::default(),
            everyone: false,
            journal: 100_000,
            clock: Clock::system(),
        }
    }
}

/// The running stand-ins. When it is dropped they end; [`Standin::stop`] also waits for the end.
#[derive(Debug)]
pub struct Standin {
    shared: Arc<Shared>,
    address: SocketAddr,
    tasks: TaskTracker,
}

/// What the handlers share with the handle.
#[derive(Debug)]
struct Shared {
    population: Population,
    stages: [Stage; Service::ALL.len()],
    journal: Journal,
    clock: Clock,
    /// Cancelled when the stand-ins stop: who waits then gets a reset connection.
    closed: CancellationToken,
}

impl Shared {
    fn stage(&self, service: Service) -> &Stage {
        &self.stages[service as usize]
    }
}

impl Standin {
    /// Serves on `listener`.
    ///
    /// # Errors
    /// The listener has no local address.
    pub async fn start(listener: TcpListener, script: Script) -> std::io::Result<Self> {
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            population: Population::new(script.everyone),
            stages: [script.users, script.otp, script.texts, script.rules].map(Stage::new),
            journal: Journal::new(script.journal),
            clock: script.clock,
            closed: CancellationToken::new(),
        });
        let routes = services::routes()
            .merge(control::routes())
            .with_state(Arc::clone(&shared))
            .into_make_service_with_connect_info::<line::Wire>();
        let closed = shared.closed.clone();
        let tasks = TaskTracker::new();
        tasks.spawn(async move {
            let serve = axum::serve(line::Listener::new(listener), routes)
                .with_graceful_shutdown(closed.clone().cancelled_owned());
            let grace = async {
                closed.cancelled().await;
                tokio::time::sleep(GRACE).await;
            };
            tokio::select! {
                // It retries what fails on accepting, so it ends without an error.
                _ = serve => {}
                () = grace => {}
            }
        });
        tasks.close();
        Ok(Self {
            shared,
            address,
            tasks,
        })
    }

    /// The base address: `http://127.0.0.1:PORT`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Adds a user, or replaces the one who is found alike.
    pub fn add_user(&self, user: User) {
        self.shared.population.add_user(user);
    }

    /// Whether every number is a known citizen without email.
    pub fn everyone(&self, known: bool) {
        self.shared.population.set_everyone(known);
    }

    /// Sets one text; `None` removes it.
    pub fn set_text(&self, text: Text) {
        self.shared.population.set_text(text);
    }

    /// Sets a tenant's rules for mobile numbers.
    pub fn set_rules(&self, rules: RulesOf) {
        self.shared.population.set_rules(rules);
    }

    /// Changes what a service does, from the next call on.
    pub fn set(&self, service: Service, behaviour: Behaviour) {
        self.shared.stage(service).set(behaviour);
    }

    /// Calls that have arrived at a service.
    #[must_use]
    pub fn calls(&self, service: Service) -> usize {
        self.shared.stage(service).calls()
    }

    /// The calls that the journal keeps, oldest first.
    #[must_use]
    pub fn journal(&self) -> Vec<Call> {
        self.shared.journal.calls()
    }

    /// The OTPs created for a number, oldest first.
    #[must_use]
    pub fn otp_of(&self, mobile: &str) -> Vec<String> {
        let of_number = |call: Call| call.otp.filter(|_| call.mobile.as_deref() == Some(mobile));
        self.journal().into_iter().filter_map(of_number).collect()
    }

    /// Waits until the journal fulfils `predicate`, which is asked again after each call.
    /// False when that did not happen within `limit`.
    pub async fn wait_for(&self, limit: Duration, predicate: impl FnMut(&[Call]) -> bool) -> bool {
        let fulfilled = self.shared.journal.until(predicate);
        tokio::time::timeout(limit, fulfilled).await.is_ok()
    }

    /// Stops listening, resets what is under way, and waits for the end.
    pub async fn stop(self) {
        self.shared.closed.cancel();
        self.tasks.wait().await;
    }
}

impl Drop for Standin {
    fn drop(&mut self) {
        self.shared.closed.cancel();
    }
}

/// A well-mixed number from a counter (`splitmix64`): cheap, and good enough for a stand-in.
fn mix(counter: u64) -> u64 {
    let mut z = counter.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}
