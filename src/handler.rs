//! One request, top to bottom: every await of it is here, in one function; everything it decides
//! is pure code elsewhere.

use std::future::Future;

use tokio_util::sync::CancellationToken;

use crate::clock::EpochMs;
use crate::domain::request::Submission;
use crate::outcome::Outcome;

/// In which queue a request's calls wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Queue {
    /// Somebody waits for it.
    Live,
    /// A command sent it again; it takes what nobody live waits for.
    Job,
}

/// What goes with a request besides the request itself.
#[derive(Debug, Clone)]
pub struct Context {
    /// After this nothing is created or sent.
    pub deadline: EpochMs,
    /// Passed on as `x-correlation-id`.
    pub correlation_id: Option<String>,
    /// Passed on as `traceparent`.
    pub traceparent: Option<String>,
    /// Passed on as `tenantId`.
    pub tenant_header: Option<String>,
    /// In which queue its calls wait.
    pub queue: Queue,
}

/// What turns a request into its outcome. Both doors call it.
pub trait Handler: Send + Sync + 'static {
    /// Tries `submission` once. `None`: `stop` was cancelled while it still waited for a permit,
    /// nothing was created, and somebody else will take it up.
    fn handle(
        &self,
        submission: &Submission,
        context: &Context,
        stop: &CancellationToken,
    ) -> impl Future<Output = Option<Outcome>> + Send;
}
