//! `user-otp demo`: the whole system in one process, as a story.
//!
//! ```text
//!  upstream ──▶ Kafka: embedded, or a real broker ──▶ reader ──▶ the story, the verdict
//!                  ▲           │
//!                  └─ engine ◀─┘        the engine that `user-otp run` starts
//!                       │
//!                       └──▶ stand-ins of the four services, over real HTTP
//! ```
//!
//! No part of the engine knows of the demo: it differs from production by its settings and by
//! what it is connected to. The embedded Kafka is librdkafka's mock cluster, which keeps no
//! transactional offsets and hides no aborted transaction: exactly once is shown on a real broker
//! (`--kafka`), and proved by the tests.

mod arrival;
mod kafka;
mod play;
mod print;
mod story;
mod system;
mod verdict;

use std::io::{self, IsTerminal as _, Write};

use anyhow::bail;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::Receiver;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::kafka::Cluster;
use self::play::Play;
use self::print::{Colours, Teller};
use self::system::{Plan, System};
use crate::config::KafkaProperties;

/// Plays a story on the whole system in one process: seven requests, and what becomes of them.
#[derive(Debug, Clone, clap::Args)]
pub struct DemoArgs {
    /// Play on this broker, with topics and a group of its own that are deleted in the end; properties such
    /// as those of TLS come from the configuration.
    #[arg(long, value_name = "HOST:PORT")]
    kafka: Option<String>,
    /// Stay after the story, and show what comes of requests of your own, until ctrl-c.
    #[arg(long)]
    stay: bool,
    /// What the engine logs, on standard error: error, warn, info, debug, or by module.
    #[arg(
        long,
        value_name = "LEVEL",
        default_value = "warn,librdkafka=off,rdkafka=off"
    )]
    log: String,
    /// No colours, on a terminal too.
    #[arg(long, env = "NO_COLOR", value_parser = clap::builder::FalseyValueParser::new())]
    no_color: bool,
}

impl DemoArgs {
    /// Whether it is to be played on a broker of somebody's.
    #[must_use]
    pub fn on_real_broker(&self) -> bool {
        self.kafka.is_some()
    }
}

/// Plays the story; the exit code: 0 when all went as it must. `properties` are those to reach a
/// real broker with.
///
/// # Errors
///
/// When the system cannot be started, or cannot go on.
pub async fn run(args: &DemoArgs, properties: KafkaProperties) -> anyhow::Result<i32> {
    let out = io::stdout();
    let colours = if out.is_terminal() && !args.no_color {
        Colours::On
    } else {
        Colours::Off
    };
    let mut teller = Teller::new(out, colours);
    teller.opens()?;
    let cluster = match &args.kafka {
        Some(brokers) => Cluster::Real(brokers.clone()),
        None => Cluster::embedded()?,
    };
    teller.setting(match &cluster {
        Cluster::Embedded(_) => format!(
            "embedded, librdkafka's mock cluster at {}",
            cluster.brokers()
        ),
        Cluster::Real(brokers) => format!("at {brokers}"),
    })?;
    let plan = Plan {
        cluster,
        properties,
        log: &args.log,
    };
    let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
    tasks.spawn(cancel_at_signal(stop.clone())?);
    let system = System::start(plan, &stop).await?;
    let told = tell(args, &system, &stop, &mut teller).await;
    // Why the engine failed goes before what came of it.
    system.end().await?;
    told
}

async fn tell<W: Write>(
    args: &DemoArgs,
    system: &System,
    stop: &CancellationToken,
    teller: &mut Teller<W>,
) -> anyhow::Result<i32> {
    teller.ready(system)?;
    let scenes = story::scenes();
    let mut play = Play::new(system, teller)?;
    let verdict = tokio::select! {
        verdict = play.tell(&scenes) => verdict?,
        () = stop.cancelled() => bail!("ended by a signal before the story was over"),
    };
    if args.stay {
        tokio::select! {
            never = play.stay(typed()) => match never? {},
            () = stop.cancelled() => {}
        }
    }
    Ok(i32::from(!verdict.faults.is_empty()))
}

/// The lines of standard input, while anybody waits for them.
fn typed() -> Receiver<String> {
    let (line, lines) = tokio::sync::mpsc::channel(1);
    let read = move || {
        for text in io::stdin().lines().map_while(Result::ok) {
            if line.blocking_send(text).is_err() {
                return;
            }
        }
    };
    // Not joined: a read ends with the process.
    if let Err(error) = std::thread::Builder::new().name("typed".into()).spawn(read) {
        tracing::warn!(%error, "nothing can be typed");
    }
    lines
}

/// Ctrl-c, or SIGTERM.
fn cancel_at_signal(stop: CancellationToken) -> io::Result<impl Future<Output = ()> + Send> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        stop.cancel();
    })
}
