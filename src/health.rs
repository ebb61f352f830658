//! Health over HTTP, on the management port: whether each door lives and is ready.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::engine::vitals::Vitals;

/// Dead: the poll loop has not turned for `max.poll.interval.ms`.
const POLL_LIMIT: Duration = Duration::from_secs(120);

/// Not ready: a producer call is older than this. The watchdog ends the process at twice that.
const CALL_LIMIT: Duration = Duration::from_secs(30);

/// Serves `/health/live` and `/health/ready`.
///
/// # Errors
///
/// When the listener fails.
pub async fn serve_management(
    listener: TcpListener,
    vitals: Vec<Arc<Vitals>>,
    stop: CancellationToken,
) -> std::io::Result<()> {
    let ready = vitals.clone();
    let router = Router::new()
        .route(
            "/health/live",
            get(move || std::future::ready(live(&vitals))),
        )
        .route(
            "/health/ready",
            get(move || std::future::ready(is_ready(&ready))),
        );
    axum::serve(listener, router)
        .with_graceful_shutdown(stop.cancelled_owned())
        .await
}

fn live(vitals: &[Arc<Vitals>]) -> (StatusCode, &'static str) {
    if vitals.iter().all(|one| one.since_poll() < POLL_LIMIT) {
        (StatusCode::OK, r#"{"status":"UP"}"#)
    } else {
        (
            StatusCode::SERVICE_UNAVAILABLE,
            r#"{"status":"DOWN","reason":"the poll loop does not turn"}"#,
        )
    }
}

fn is_ready(vitals: &[Arc<Vitals>]) -> (StatusCode, &'static str) {
    if !vitals.iter().all(|one| one.has_joined()) {
        (
            StatusCode::SERVICE_UNAVAILABLE,
            r#"{"status":"DOWN","reason":"not yet a member of the consumer group"}"#,
        )
    } else if vitals
        .iter()
        .filter_map(|one| one.call_age())
        .any(|age| age >= CALL_LIMIT)
    {
        (
            StatusCode::SERVICE_UNAVAILABLE,
            r#"{"status":"DOWN","reason":"Kafka does not confirm"}"#,
        )
    } else {
        (StatusCode::OK, r#"{"status":"UP"}"#)
    }
}
