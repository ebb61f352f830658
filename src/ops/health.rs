//! `user-otp health`: whether the process on this machine serves, for health checks in images without a shell.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use anyhow::Context as _;

use crate::config::{Config, ServiceUrl};
use crate::management::ask::Asker;

/// Asks the HTTP port, or the management port where HTTP is off.
///
/// # Errors
///
/// When nobody answers there, or something else does.
pub async fn run(config: &Config) -> anyhow::Result<i32> {
    let (bind, port, path) = if config.http.enabled {
        let path = format!("{}/health", config.http.context_path);
        (config.http.bind, config.http.port, path)
    } else {
        let path = "/health/live".to_owned();
        (config.management.bind, config.management.port, path)
    };
    let host = match bind {
        any if any.is_unspecified() => IpAddr::from(Ipv4Addr::LOCALHOST),
        one => one,
    };
    let address = format!("http://{}", SocketAddr::new(host, port));
    let here = ServiceUrl::parse(&address).map_err(anyhow::Error::msg)?;
    let answer = Asker::new()?.serves(&here, &path).await;
    answer.with_context(|| format!("{address}{path}"))?;
    Ok(0)
}
