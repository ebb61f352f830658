//! What several instances share: Redis. It is never waited for longer than `limits.redis_timeout`, and
//! whoever asks it has an answer of their own for when it has none.
//!
//! ```text
//! well ──── an answer is late, or an error ───▶ away: nobody asks
//!   ▲                                             │
//!   └── a new connection that writes in time ◀── the keeper, once a second
//! ```
//!
//! So a frozen Redis costs the requests that were under way their one timeout, and those after them
//! nothing. A script is one atomic step; each of its answers is a list of texts. Keys are HMACs: a
//! number, an address or a client's key is never written in clear, and all of them expire.
//! One Redis, or one primary: a script names keys that a cluster would spread.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use parking_lot::Mutex;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, RedisError};
use secrecy::ExposeSecret as _;
use sha2::Sha256;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::Config;

/// How often it is looked whether Redis is well again.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Deadline for a new connection.
const CONNECT: Duration = Duration::from_secs(1);

/// Leaves nothing behind.
const PROBE: &str = "redis.call('SET', KEYS[1], '', 'PX', 1) redis.call('DEL', KEYS[1])";

const LATE: &str = "no answer in time";

/// A program that Redis runs in one step.
pub(crate) struct Script(pub(crate) &'static str);

/// A handle to Redis; cheap to clone. Its tasks end with [`Store::close`], or the last handle.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

struct Inner {
    link: Arc<Link>,
    hmac: Hmac<Sha256>,
    timeout: Duration,
    tasks: TaskTracker,
    runtime: Handle,
    stop: CancellationToken,
}

/// The connection while Redis is well.
#[derive(Default)]
struct Link {
    connection: Mutex<Option<MultiplexedConnection>>,
    lost: Notify,
}

impl Store {
    /// Connects to `limits.redis`, where it is set. Redis need not be there: until it is, the store is
    /// away. To be called on a tokio runtime.
    ///
    /// # Errors
    ///
    /// When the address cannot be used at all.
    pub async fn open(config: &Config) -> Result<Option<Self>, StoreError> {
        let Some(url) = &config.limits.redis else {
            return Ok(None);
        };
        let client = Client::open(url.expose()).map_err(|error| StoreError::new(&error))?;
        let link = Arc::new(Link::default());
        let keeper = Keeper {
            client,
            link: Arc::clone(&link),
            timeout: config.limits.redis_timeout,
        };
        if let Err(error) = keeper.connect().await {
            tracing::warn!(why = %error, "Redis is away; until it is there, each instance limits alone");
        }
        if config.limits.key.expose_secret().is_empty() {
            tracing::warn!(
                "limits.key is not set: whoever can read Redis could find numbers by trying all there are"
            );
        }
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let stopped = stop.clone();
        tasks.spawn(async move { stopped.run_until_cancelled(keeper.run()).await });
        Ok(Some(Self(Arc::new(Inner {
            link,
            hmac: hmac(config),
            timeout: config.limits.redis_timeout,
            tasks,
            runtime: Handle::current(),
            stop,
        }))))
    }

    /// Whether Redis answered in time when last asked.
    #[must_use]
    pub fn is_well(&self) -> bool {
        self.0.link.connection.lock().is_some()
    }

    /// The key for `what`, which must not be told from it.
    pub(crate) fn key(&self, what: &str) -> String {
        let mut hmac = self.0.hmac.clone();
        hmac.update(what.as_bytes());
        let digest = hmac.finalize().into_bytes();
        format!("user-otp:{}", URL_SAFE_NO_PAD.encode(&digest[..16]))
    }

    /// Runs a script. None: Redis is away, or has just turned out to be.
    pub(crate) async fn ask(
        &self,
        script: &Script,
        keys: &[String],
        args: &[String],
    ) -> Option<Vec<String>> {
        let mut connection = self.0.link.connection.lock().clone()?;
        let script = redis::Script::new(script.0);
        let mut invocation = script.prepare_invoke();
        for key in keys {
            invocation.key(key);
        }
        for arg in args {
            invocation.arg(arg);
        }
        let answer = invocation.invoke_async(&mut connection);
        match tokio::time::timeout(self.0.timeout, answer).await {
            Ok(Ok(answer)) => Some(answer),
            Ok(Err(error)) => {
                self.0.link.lose(&StoreError::new(&error).to_string());
                None
            }
            Err(_) => {
                self.0.link.lose(LATE);
                None
            }
        }
    }

    /// Runs a script in the background: nobody waits for what it does.
    pub(crate) fn tell(&self, script: &'static Script, keys: Vec<String>, args: Vec<String>) {
        if self.is_well() {
            let store = self.clone();
            let telling = async move {
                let _ = store.ask(script, &keys, &args).await;
            };
            self.0.tasks.spawn_on(telling, &self.0.runtime);
        }
    }

    /// Ends what runs in the background, once it has said what it had to.
    pub async fn close(&self) {
        self.0.stop.cancel();
        self.0.tasks.close();
        self.0.tasks.wait().await;
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Link {
    /// Takes the connection out: nobody asks until the keeper has a new one.
    fn lose(&self, why: &str) {
        if self.connection.lock().take().is_some() {
            tracing::warn!(
                why,
                "Redis is away; until it is back, each instance limits alone"
            );
            self.lost.notify_one();
        }
    }
}

/// Keeps the connection.
struct Keeper {
    client: Client,
    link: Arc<Link>,
    timeout: Duration,
}

impl Keeper {
    async fn run(self) {
        loop {
            if self.link.connection.lock().is_some() {
                self.link.lost.notified().await;
            }
            tokio::time::sleep(LOOK_EVERY).await;
            match self.connect().await {
                Ok(()) => tracing::info!("Redis is back"),
                Err(error) => tracing::debug!(why = %error, "Redis is still away"),
            }
        }
    }

    /// A new connection, on which a script can write, in time: a replica, or one without permission,
    /// would be found well and lost again for ever.
    async fn connect(&self) -> Result<(), StoreError> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT))
            .set_response_timeout(Some(CONNECT));
        let connecting = self
            .client
            .get_multiplexed_async_connection_with_config(&config);
        let mut connection = connecting.await.map_err(|error| StoreError::new(&error))?;
        let probe = redis::Script::new(PROBE);
        let probe = probe.key("user-otp:probe");
        let answer = probe.invoke_async::<()>(&mut connection);
        match tokio::time::timeout(self.timeout, answer).await {
            Ok(answer) => answer.map_err(|error| StoreError::new(&error))?,
            Err(_) => return Err(StoreError(LATE.to_owned())),
        }
        *self.link.connection.lock() = Some(connection);
        Ok(())
    }
}

/// Under a key of the operator's, else under the group's name: then it keeps different groups apart, and
/// hides nothing from those who know the name.
pub(crate) fn hmac(config: &Config) -> Hmac<Sha256> {
    let (key, group) = (config.limits.key.expose_secret(), &config.kafka.group);
    let secret = if key.is_empty() { group } else { key };
    let mut hmac = Hmac::new_from_slice(secret.as_bytes()).expect("a key of any length will do");
    hmac.update(group.as_bytes());
    hmac.update(b"\0");
    hmac
}

/// Redis's address cannot be used, or a call failed; the kind alone, since its text may quote what was sent.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct StoreError(String);

impl StoreError {
    fn new(error: &RedisError) -> Self {
        Self(error.category().to_owned())
    }
}
