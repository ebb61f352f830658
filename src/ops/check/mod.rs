//! `user-otp check`: is everything that the service needs there, and right?
//!
//! ```text
//!   settings ───────────┐
//!   Kafka ── tenants ─┐ ├─▶ items, as they come ─▶ report
//!   services, texts ◀─┘ ┘
//! ```
//!
//! Nothing is changed: what is tried is taken back, and the service's consumer group is looked at alone. All
//! looks go on at the same time, each with its own end, so that a Kafka or a service that hangs is one failure
//! and the rest is checked all the same. Here it is asked; what an answer means is said in the other files.

mod cluster;
mod consumers;
mod item;
mod kafka;
mod permissions;
mod segments;
mod services;
mod settings;
mod texts;
mod topics;

use std::time::Duration;

use clap::{Args, ValueEnum};
use tokio::sync::{mpsc, oneshot};

use self::item::{Area, Item, Report};
use self::kafka::Kafka;
use self::texts::Whose;
use super::shown::Output;
use super::terminal::Terminal;
use crate::clock::Clock;
use crate::config::Config;
use crate::domain::request::Locale;
use crate::domain::tenant::{InvalidTenant, TenantId};
use crate::egov::Service;
use crate::egov::probe::{Look, Probe};

/// Items that wait to be shown.
const WAITING: usize = 64;

/// Whose permissions are judged: what is not needed for it is not tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum AccountRole {
    /// The account that `user-otp run` has.
    #[default]
    Service,
    /// That of an operator who looks.
    Viewer,
    /// That of an operator who sends as well.
    Operator,
}

/// What is looked at, and how it is shown.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  user-otp check\n  user-otp check --tenant pb --tenant mh\n  user-otp check --account viewer\n  \
                  user-otp check --output json | jq '.items[] | select(.verdict != \"ok\")'\n\n\
                  Exit codes: 0 all is well; 1 there are warnings; 2 there are failures."
)]
pub struct CheckArgs {
    /// Whose texts and rules; several times for several. None: those of the outcomes of the last hour.
    #[arg(long = "tenant", value_name = "TENANT", value_parser = tenant)]
    tenants: Vec<TenantId>,
    /// Whose account this is, by what it is to do: its permissions are judged by that.
    #[arg(long, value_enum, value_name = "WHOSE", default_value_t)]
    account: AccountRole,
    /// How long egov-otp keeps an OTP (egov.otp.ttl there), which it does not tell.
    #[arg(long, value_name = "DURATION", default_value = "15m", value_parser = humantime::parse_duration)]
    otp_ttl: Duration,
    /// How long one question to Kafka may take.
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = humantime::parse_duration)]
    timeout: Duration,
    /// For people, or for programs.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

fn tenant(text: &str) -> Result<TenantId, InvalidTenant> {
    TenantId::parse(text)
}

/// Where items go.
#[derive(Debug, Clone)]
struct Items(mpsc::Sender<Item>);

impl Items {
    async fn add(&self, item: Item) {
        // Nobody listens any more: the output is closed, which ends the command.
        let _ = self.0.send(item).await;
    }

    async fn add_all(&self, items: impl IntoIterator<Item = Item>) {
        for item in items {
            self.add(item).await;
        }
    }
}

/// Looks at everything, and shows it as it comes. The exit code: 0, 1 with warnings, 2 with failures.
///
/// # Errors
///
/// When it cannot be shown.
pub async fn run(
    config: &Config,
    args: &CheckArgs,
    terminal: &mut Terminal<'_>,
) -> anyhow::Result<i32> {
    let mut report = Report::begin(terminal.out, args.output, terminal.paint)?;
    let (items, mut came) = mpsc::channel(WAITING);
    let items = Items(items);
    let (tell, told) = oneshot::channel();
    let kafka = Kafka::new(config, args, terminal.now, items.clone());
    let looks = async move {
        items.add_all(settings::judge(config, args.otp_ttl)).await;
        tokio::join!(
            Box::pin(kafka.check(&args.tenants, tell)),
            Box::pin(services(config, told, &items)),
        );
        anyhow::Ok(())
    };
    let shown = async {
        while let Some(item) = came.recv().await {
            report.add(item)?;
        }
        anyhow::Ok(())
    };
    tokio::try_join!(looks, shown)?;
    report.end()
}

/// The services, and the texts. Whose texts is told once it is known; never, where Kafka does not answer.
async fn services(config: &Config, told: oneshot::Receiver<Vec<TenantId>>, items: &Items) {
    let probe = match Probe::new(config, Clock::system()) {
        Ok(probe) => probe,
        Err(error) => {
            let item = Item::failure(Area::Services, "TLS", error.to_string());
            items.add(item.fix("mend the system's OpenSSL")).await;
            return;
        }
    };
    let otp = async {
        let look = probe.otp().await;
        tell(items, config, Service::Otp, &look, "its path is there").await;
    };
    let others = async {
        let tenants = told.await.unwrap_or_default();
        tokio::join!(
            users(config, &probe, tenants.first(), items),
            rules(config, &probe, tenants.first(), items),
            texts_of(config, &probe, &tenants, items),
        );
    };
    tokio::join!(otp, others);
}

async fn users(config: &Config, probe: &Probe, tenant: Option<&TenantId>, items: &Items) {
    let look = probe.users(tenant).await;
    let what = match tenant {
        Some(_) => "answers a search",
        None => "its path is there",
    };
    tell(items, config, Service::Users, &look, what).await;
}

async fn rules(config: &Config, probe: &Probe, tenant: Option<&TenantId>, items: &Items) {
    let service = Service::Rules;
    let look = match tenant {
        _ if config.mdms.url.is_none() => return items.add(services::absent(service)).await,
        None => return items.add(services::unasked(service)).await,
        Some(tenant) => probe.rules(tenant).await,
    };
    if let Some(look) = look {
        let what = match look.result {
            Ok(0) => "no rules for mobile numbers: rules.default_pattern decides".to_owned(),
            Ok(count) => format!("rules for mobile numbers: {count}"),
            Err(_) => String::new(),
        };
        tell(items, config, service, &look, &what).await;
    }
}

/// Each tenant that egov-localization knows, in each locale that is configured.
async fn texts_of(config: &Config, probe: &Probe, tenants: &[TenantId], items: &Items) {
    let service = Service::Texts;
    let strip = config.localization.strip_suffix_count;
    let mut names: Vec<&str> = tenants
        .iter()
        .map(|one| one.for_localization(strip))
        .collect();
    names.sort_unstable();
    names.dedup();
    if config.localization.url.is_none() {
        return items
            .add_all([services::absent(service), texts::built_in()])
            .await;
    }
    if names.is_empty() {
        return items.add(services::unasked(service)).await;
    }
    let locales = &config.texts.pinned_locales;
    let locales: Vec<Locale> = locales
        .iter()
        .filter_map(|text| Locale::parse(text))
        .collect();
    let pairs = names
        .iter()
        .flat_map(|tenant| locales.iter().map(move |locale| (*tenant, locale)));
    for (index, (tenant, locale)) in pairs.enumerate() {
        let Some(look) = probe.texts(tenant, locale).await else {
            continue;
        };
        if index == 0 {
            tell(items, config, service, &look, "answers a search").await;
        }
        let whose = Whose {
            tenant,
            locale: locale.as_str(),
            module: &config.localization.module,
            default: locale.as_str() == config.localization.default_locale,
        };
        match &look.result {
            Ok(found) => items.add_all(texts::judge(found, whose)).await,
            // The service's own item says so.
            Err(_) if index == 0 => return,
            Err(_) => items.add(services::judge(service, &look, "")).await,
        }
    }
}

async fn tell<T>(items: &Items, config: &Config, service: Service, look: &Look<T>, what: &str) {
    items.add(services::judge(service, look, what)).await;
    items.add_all(services::clock(service, look, config)).await;
}
