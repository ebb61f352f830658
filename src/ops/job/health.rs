//! Whether the services that had failed answer again: what is sent before ends where it was.

use crate::clock::Clock;
use crate::config::Config;
use crate::domain::request::Locale;
use crate::domain::tenant::TenantId;
use crate::egov::probe::Probe;
use crate::egov::{CallError, Service};
use crate::outcome::Stage;

/// The services at which something failed that would fail again, and what they do; `tenant` is whose
/// requests they are.
///
/// # Errors
///
/// When nobody can be asked.
pub(super) async fn still_failing(
    config: &Config,
    stages: &[Stage],
    tenant: Option<&str>,
) -> anyhow::Result<Vec<(Service, &'static str)>> {
    let probe = Probe::new(config, Clock::system())?;
    let tenant = tenant.and_then(|text| TenantId::parse(text).ok());
    let mut failing = Vec::new();
    for stage in stages {
        let found = match stage {
            Stage::User => Some((Service::Users, probe.users(tenant.as_ref()).await.result)),
            Stage::Otp => Some((Service::Otp, probe.otp().await.result)),
            Stage::Texts => texts(config, &probe, tenant.as_ref()).await,
            Stage::Rules => rules(&probe, tenant.as_ref()).await,
            Stage::Decode | Stage::Queue | Stage::Publish => None,
        };
        let Some((service, Err(error))) = found else {
            continue;
        };
        match (service, error) {
            (_, CallError::Unavailable { .. }) => failing.push((service, "is still away")),
            // A wrong route or credential: of texts and rules a copy serves, and egov-otp was asked
            // what it may well refuse to say.
            (
                Service::Users,
                CallError::Refused {
                    status: 401 | 403 | 404,
                },
            ) => {
                failing.push((service, "still refuses"));
            }
            (_, CallError::Refused { .. } | CallError::Abandoned) => {}
        }
    }
    Ok(failing)
}

type Found = Option<(Service, Result<(), CallError>)>;

async fn texts(config: &Config, probe: &Probe, tenant: Option<&TenantId>) -> Found {
    let locale = config.texts.pinned_locales.first()?;
    let strip = config.localization.strip_suffix_count;
    let look = probe
        .texts(tenant?.for_localization(strip), &Locale::parse(locale)?)
        .await?;
    Some((Service::Texts, look.result.map(drop)))
}

async fn rules(probe: &Probe, tenant: Option<&TenantId>) -> Found {
    let look = probe.rules(tenant?).await?;
    Some((Service::Rules, look.result.map(drop)))
}
