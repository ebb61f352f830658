//! `user-otp health`: whether the process on this machine serves, for health checks in images without a shell.

use anyhow::Context as _;

use crate::config::{Config, ServiceUrl};
use crate::management::ask::Asker;

/// Asks the HTTP port, or the management port where HTTP is off.
///
/// # Errors
///
/// When nobody answers there, or something else does.
pub async fn run(config: &Config) -> anyhow::Result<i32> {
    let (port, path) = if config.http.enabled {
        let path = format!("{}/health", config.http.context_path);
        (config.http.port, path)
    } else {
        (config.management.port, "/health/live".to_owned())
    };
    let address = format!("http://127.0.0.1:{port}");
    let here = ServiceUrl::parse(&address).map_err(anyhow::Error::msg)?;
    let answer = Asker::new()?.serves(&here, &path).await;
    answer.with_context(|| format!("{address}{path}"))?;
    Ok(0)
}
