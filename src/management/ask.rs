//! The other side of the management port, for the commands: what an instance says of itself.
//!
//! Both pages together have one deadline, and a bound each. Redirects are not followed and no proxy
//! is taken from the environment: who asks an instance wants that one's answer.

use std::time::Duration;

use crate::config::ServiceUrl;

/// An instance that is well answers in milliseconds, a command waits no longer than this.
const DEADLINE: Duration = Duration::from_secs(5);

/// The longest page, in bytes: that of metrics has some tens of thousands.
const LONGEST: usize = 4 * 1024 * 1024;

/// Asks instances.
pub struct Asker(reqwest::Client);

/// An instance's pages, as they came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pages {
    /// `/health/ready`.
    pub ready: String,
    /// `/metrics`.
    pub metrics: String,
}

/// Why there are none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// There is no client.
    #[error("the system's TLS library cannot be used")]
    NoClient,
    /// Nobody is there.
    #[error("nobody answers: is it up, and is that its management.port?")]
    Unreachable,
    /// It took too long.
    #[error("no answer within {} s", DEADLINE.as_secs())]
    Late,
    /// It says that it does not serve.
    #[error("it says that it does not serve: /health/ready on its management port says why")]
    Unwell,
    /// Somebody else is there.
    #[error("something else answers: the address is that of management.port")]
    Other,
}

impl Asker {
    /// Makes the client; connects to nothing.
    ///
    /// # Errors
    ///
    /// When the system's TLS library cannot be used.
    pub fn new() -> Result<Self, AskError> {
        let http = reqwest::Client::builder()
            .timeout(DEADLINE)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .retry(reqwest::retry::never())
            .referer(false)
            .user_agent(concat!("user-otp/", env!("CARGO_PKG_VERSION")))
            .build();
        http.map(Self).map_err(|_| AskError::NoClient)
    }

    /// Asks one.
    ///
    /// # Errors
    ///
    /// When it does not answer, or is none.
    pub async fn pages(&self, instance: &ServiceUrl) -> Result<Pages, AskError> {
        let (ready, metrics) = tokio::try_join!(
            self.page(instance, "/health/ready"),
            self.page(instance, "/metrics")
        )?;
        Ok(Pages { ready, metrics })
    }

    /// Whether 200 is answered at this path.
    ///
    /// # Errors
    ///
    /// When it is not.
    pub async fn serves(&self, instance: &ServiceUrl, path: &str) -> Result<(), AskError> {
        let answer = self.0.get(instance.endpoint(path)).send().await;
        let status = answer.map_err(|error| lost(&error))?.status().as_u16();
        match status {
            200 => Ok(()),
            503 => Err(AskError::Unwell),
            _ => Err(AskError::Other),
        }
    }

    async fn page(&self, instance: &ServiceUrl, path: &str) -> Result<String, AskError> {
        let answer = self.0.get(instance.endpoint(path)).send().await;
        let mut answer = answer.map_err(|error| lost(&error))?;
        // One that is not ready says so with 503.
        if !matches!(answer.status().as_u16(), 200 | 503) {
            return Err(AskError::Other);
        }
        let mut page = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(|error| lost(&error))? {
            if page.len() + chunk.len() > LONGEST {
                return Err(AskError::Other);
            }
            page.extend_from_slice(&chunk);
        }
        String::from_utf8(page).map_err(|_| AskError::Other)
    }
}

/// The error itself quotes the address, which may have a password in it.
fn lost(error: &reqwest::Error) -> AskError {
    if error.is_timeout() {
        AskError::Late
    } else {
        AskError::Unreachable
    }
}
