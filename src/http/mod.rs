//! The HTTP door: `POST {context_path}/v1/_send`, in the place of the platform's own service, and
//! the charts' probe.
//!
//! ```text
//! connection ─▶ head ─▶ room? ─▶ body ─▶ flow ─▶ answer
//!  server        axum    room     body    flow    answer
//! ```
//!
//! The guarantee: 201 says that the messages, or the request itself for the stream to carry on with,
//! are committed. Never both. What is answered otherwise has written nothing, but for a 503 with
//! `otp-delivery: unconfirmed`. Everything that a stranger can send, hold open or leave unfinished has a bound.
//! What is no HTTP at all the library answers itself, 400, 414 or 431 without a body: nobody here sees it.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use axum::middleware::map_response;
use axum::response::Response;
use axum::routing::{get, post};
use axum::{Extension, Router};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::answer::Answer;
use self::flow::Flow;
use self::server::Peer;
use crate::clock::Clock;
use crate::config::Config;
use crate::engine::door::Outbox;
use crate::handler::Handler;
use crate::idempotency::Idempotency;
use crate::metrics::Metrics;

mod answer;
mod body;
mod flow;
mod head;
mod room;
pub(crate) mod server;

/// The door, ready to be served.
pub struct Http<H> {
    flow: Arc<Flow<H>>,
    router: Router,
    bounds: server::Bounds,
}

impl<H: Handler> Http<H> {
    /// A door whose requests go through `handler` and `outbox`, and whose repeats `keys` knows. What may
    /// become known only when the committer ends, it waits for in `unconfirmed`.
    #[must_use]
    pub fn new(
        config: &Config,
        handler: H,
        outbox: Outbox,
        keys: Idempotency,
        clock: Clock,
        metrics: Metrics,
        unconfirmed: TaskTracker,
    ) -> Self {
        let settings = &config.http;
        let measured = metrics.clone();
        let flow = Flow::new(handler, outbox, keys, clock, measured, unconfirmed, config);
        let flow = Arc::new(flow);
        let bounds = body::Bounds {
            size: settings.body_limit,
            time: settings.body_timeout,
        };
        Self {
            router: router(&settings.context_path, &flow, bounds, metrics),
            flow,
            bounds: server::Bounds {
                connections: settings.connections,
                idle: settings.idle_timeout,
                drain: settings.longest_request(),
            },
        }
    }

    /// Serves until `stop`; returns when every request that was read has its end and its answer.
    pub async fn serve(self, listener: TcpListener, stop: CancellationToken) {
        server::serve(listener, self.router, self.bounds, stop).await;
        // Those whose clients have hung up.
        self.flow.drain().await;
    }
}

fn router<H: Handler>(
    context_path: &str,
    flow: &Arc<Flow<H>>,
    bounds: body::Bounds,
    metrics: Metrics,
) -> Router {
    let send = move |State(flow): State<Arc<Flow<H>>>,
                     Extension(Peer(peer)): Extension<Peer>,
                     request: Request<Body>| async move {
        let (Parts { headers, .. }, body) = request.into_parts();
        match body::read(&headers, body, bounds, &flow.room).await {
            Ok((body, seat)) => flow.answer(peer, headers, body, seat).await,
            Err(answer) => answer,
        }
    };
    // It says that the process serves, and never depends on Kafka or a service.
    let probe = async || ([(CONTENT_TYPE, "application/json")], r#"{"status":"UP"}"#);
    let count = move |response: Response| {
        // Only the probe answers so.
        if response.status() != StatusCode::OK {
            metrics.http_answered(response.status().as_u16());
        }
        std::future::ready(response)
    };
    Router::new()
        .route(&format!("{context_path}/v1/_send"), post(send))
        .route(&format!("{context_path}/health"), get(probe))
        .route(&format!("{context_path}/actuator/health"), get(probe))
        .fallback(async || Answer::NotFound)
        .method_not_allowed_fallback(async || Answer::WrongMethod)
        .layer(map_response(count))
        .with_state(Arc::clone(flow))
}
