//! The command line: what may be typed, and who does it.

use std::io::{self, BufWriter, IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, CommandFactory as _, Parser, Subcommand};

use crate::clock::Clock;
use crate::config::{self, Config, Effective, KafkaProperties};
use crate::ops::shown::Paint;
use crate::ops::terminal::Terminal;
use crate::topics::{self, Item, Owner, State};
use crate::{demo, ops, telemetry, topology};

/// Ended at the shutdown deadline: what was begun will be handled again.
pub const EXIT_CUT_SHORT: i32 = 3;

/// The command line is wrong; clap's own code.
const EXIT_USAGE: u8 = 2;

/// A call to Kafka did not return, and the watchdog ended the process.
pub const EXIT_WATCHDOG: i32 = 4;

/// Ended at once by a second signal.
pub const EXIT_SECOND_SIGNAL: i32 = 5;

/// DIGIT's OTP requests from Kafka to SMS and email, each exactly once.
#[derive(Debug, Parser)]
#[command(name = "user-otp", version, after_help = EXIT_CODES)]
pub struct Cli {
    /// A TOML file with the settings that differ from the defaults (also USER_OTP_CONFIG).
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "Exit codes: 0 done; 1 could not start, or go on; 2 wrong usage; 3 ended at the shutdown \
deadline; 4 ended by the watchdog, because a call to Kafka did not return; 5 ended at once by a second signal; 6 what \
was asked for is not there; 10 to 15: see send; 16, 17: see dlq redrive. Those of check are its own.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the service.
    Run,
    /// Exits with 0 where the process on this machine serves, else with 1: for an image's health check.
    Health,
    /// Prints the effective configuration with the source of each key, secrets masked.
    Config,
    /// Compares the cluster's topics with what is needed, or creates what is missing.
    Topics {
        #[command(subcommand)]
        action: TopicsAction,
    },
    /// Shows or clears what the sending limits have counted of one number; they must be in Redis.
    Limits {
        #[command(subcommand)]
        action: LimitsAction,
    },
    #[command(flatten)]
    Operator(Box<Operator>),
    /// Serves stand-ins of the four services that user-otp calls.
    Standin(ops::standin::StandinArgs),
    /// Plays a story on the whole system in one process.
    Demo(demo::DemoArgs),
    /// Writes a shell's completions: user-otp completions bash > /etc/bash_completion.d/user-otp
    Completions {
        /// Whose.
        shell: clap_complete::Shell,
    },
    /// Writes the manual page of a command: user-otp man dlq ls | man -l -
    Man {
        /// Writes the pages of all commands into this folder.
        #[arg(long, value_name = "FOLDER", conflicts_with = "command")]
        into: Option<PathBuf>,
        /// Which command's; none: the program's own.
        command: Vec<String>,
    },
}

/// The commands that are given a terminal.
#[derive(Debug, Subcommand)]
enum Operator {
    /// Looks at everything that the service needs, and says of each how it is and what to type.
    Check(ops::check::CheckArgs),
    /// Shows how far the service is: what is behind, what is parked, what ended as dead letters.
    Status(ops::status::StatusArgs),
    /// Publishes one request, or the few of a file, and waits for outcomes: whoever has the number gets an OTP.
    Send(ops::send::SendArgs),
    /// Looks at dead letters, and sends them again.
    Dlq {
        #[command(subcommand)]
        action: DlqAction,
    },
    /// Publishes a window of a request topic again, as jobs.
    #[command(after_help = "Examples:\n  \
        user-otp replay --topic egov.core.otp.request --from 3h --to 2h\n  \
        user-otp replay --topic egov.core.otp.request --from 2026-11-26T14:00:00+05:30 --to 2026-11-26T14:20:00+05:30 \
        --tenant 'pb.*' --execute --reason 'the SMS provider lost them'")]
    Replay(ops::job::stored::Replay),
    /// Publishes the requests of a file, as jobs: a plan, and with --execute it is done.
    #[command(after_help = "Examples:\n  \
        user-otp resend people.csv\n  \
        user-otp resend people.csv --strict --execute --reason 'the campaign of Monday'")]
    Resend(ops::job::file::Resend),
    /// Lists jobs, goes on with one that was interrupted, or leaves its rest.
    Job {
        #[command(subcommand)]
        action: ops::job::control::Action,
    },
}

#[derive(Debug, Subcommand)]
enum DlqAction {
    #[command(flatten)]
    Look(ops::dlq::Action),
    /// Publishes dead letters again, as jobs: a plan, and with --execute it is done.
    #[command(after_help = "Examples:\n  \
        user-otp dlq redrive --since 2h --code service-unavailable\n  \
        user-otp dlq redrive --since 2h --code service-unavailable --execute --reason 'egov-user was down'\n  \
        echo 98765xxxxx | user-otp dlq redrive --mobile -")]
    Redrive(ops::job::stored::Redrive),
}

#[derive(Debug, Subcommand)]
enum TopicsAction {
    /// Shows what the cluster has against what is needed.
    Plan,
    /// Creates what is missing; never deletes or shrinks.
    Apply(Apply),
    /// Lets a partition of our own topics go on behind a batch that cannot be decoded: a plan, and with --execute it
    /// is done.
    SkipUnreadable(ops::skip::SkipUnreadable),
}

#[derive(Debug, Subcommand)]
enum LimitsAction {
    /// Shows how many requests count, and when the next one is taken.
    Show(OfNumber),
    /// Forgets them, but for what is shared with others: neighbouring numbers, tenant, address.
    Clear(OfNumber),
}

#[derive(Debug, Args)]
struct OfNumber {
    /// Always "-": the number comes in on standard input, since others can see arguments.
    #[arg(long, value_name = "-")]
    mobile: String,
}

#[derive(Debug, Args)]
struct Apply {
    /// Also creates the SMS and email topics, which the platform else owns.
    #[arg(long)]
    with_platform_topics: bool,
}

/// Blocking calls that are under way at the end have this long.
const LEFT_OVER: Duration = Duration::from_millis(500);

/// Does what the command line says.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    match dispatch(&cli) {
        Ok(code) => ExitCode::from(u8::try_from(code).unwrap_or(1)),
        Err(error) if reader_left(&error) => ExitCode::SUCCESS,
        Err(error) => {
            say_error(&error);
            let usage = error.is::<ops::Usage>();
            ExitCode::from(if usage { EXIT_USAGE } else { 1 })
        }
    }
}

fn dispatch(cli: &Cli) -> anyhow::Result<i32> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let code = match &cli.command {
        Command::Run => {
            let (config, effective) = load(cli)?;
            telemetry::start(&config.log)?;
            for variable in effective.with_newline {
                tracing::warn!(variable, "the value ends in a newline, which is left out");
            }
            runtime.block_on(ops::run::run(&config))
        }
        Command::Health => {
            let (config, _) = load(cli)?;
            runtime.block_on(ops::health::run(&config))
        }
        Command::Config => {
            let (_, effective) = load(cli)?;
            say(&ops::config::text(&effective))?;
            Ok(0)
        }
        Command::Topics {
            action: TopicsAction::SkipUnreadable(args),
        } => {
            let (config, _) = load(cli)?;
            let (mut input, mut out) = (io::stdin(), BufWriter::new(io::stdout()));
            let mut terminal = terminal(&mut input, &mut out);
            runtime.block_on(ops::skip::run(&config, args, &mut terminal))
        }
        Command::Topics { action } => {
            let (config, _) = load(cli)?;
            runtime.block_on(run_topics(&config, action))
        }
        Command::Limits { action } => {
            let (config, _) = load(cli)?;
            runtime.block_on(run_limits(&config, action))
        }
        Command::Completions { shell } => {
            ops::manual::completions(Cli::command(), *shell, &mut io::stdout())?;
            Ok(0)
        }
        Command::Man { into, command } => {
            match into {
                Some(folder) => ops::manual::pages(Cli::command(), folder)?,
                None => ops::manual::page(Cli::command(), command, &mut io::stdout())?,
            }
            Ok(0)
        }
        Command::Operator(command) => {
            let (config, _) = load(cli)?;
            let (mut input, mut out) = (io::stdin(), BufWriter::new(io::stdout()));
            let mut terminal = terminal(&mut input, &mut out);
            runtime.block_on(operate(&config, command, &mut terminal))
        }
        Command::Standin(args) => {
            runtime.block_on(ops::standin::run(args, &mut std::io::stdout()))?;
            Ok(0)
        }
        Command::Demo(args) => {
            let properties = match args.on_real_broker() {
                true => load(cli)?.0.kafka.properties,
                false => KafkaProperties::default(),
            };
            runtime.block_on(demo::run(args, properties))
        }
    };
    // What is about to end does so before OpenSSL is taken down: a thread that still used it would crash the process.
    // A client that cannot reach its broker must not keep the process from ending.
    runtime.shutdown_timeout(LEFT_OVER);
    code
}

fn terminal<'a>(input: &'a mut io::Stdin, out: &'a mut BufWriter<io::Stdout>) -> Terminal<'a> {
    let colours = out.get_ref().is_terminal() && !config::refuses_colours();
    Terminal {
        input,
        out,
        paint: if colours {
            Paint::Colours
        } else {
            Paint::Plain
        },
        now: Clock::system().now(),
        operator: config::operator(),
    }
}

/// Whoever read our output had enough, as `head` has: no failure.
fn reader_left(error: &anyhow::Error) -> bool {
    let broken = |cause: &io::Error| cause.kind() == io::ErrorKind::BrokenPipe;
    error.downcast_ref::<io::Error>().is_some_and(broken)
}

fn load(cli: &Cli) -> anyhow::Result<(Config, Effective)> {
    Ok(Config::from_process(cli.config.as_deref())?)
}

async fn run_topics(config: &Config, action: &TopicsAction) -> anyhow::Result<i32> {
    let admin = ops::run::reach(config).await?;
    let brokers = admin.brokers().await?;
    let wanted = topology::wanted_on(config, brokers)?;
    let names: Vec<String> = wanted.iter().map(|(name, _)| name.clone()).collect();
    let mut plan = topics::plan(&wanted, &admin.found(&names).await?);
    if let TopicsAction::Apply(apply) = action {
        let creates = |item: &&Item| {
            item.state == State::Missing
                && (item.spec.owner == Owner::Ours || apply.with_platform_topics)
        };
        let missing: Vec<_> = plan
            .iter()
            .filter(creates)
            .map(|item| (item.name.clone(), item.spec.clone()))
            .collect();
        admin.create(&missing, brokers).await?;
        plan = topics::plan(&wanted, &admin.found(&names).await?);
    }
    say(&ops::topics::render(&plan, &config.kafka.brokers))?;
    // What is the platform's to create does not fail what creates ours.
    let counts = |item: &&Item| match action {
        TopicsAction::Apply(apply) => apply.with_platform_topics || item.spec.owner == Owner::Ours,
        TopicsAction::Plan | TopicsAction::SkipUnreadable(_) => true,
    };
    let mut missing = plan.iter().filter(counts);
    Ok(i32::from(missing.any(|item| item.state == State::Missing)))
}

async fn operate(
    config: &Config,
    command: &Operator,
    terminal: &mut Terminal<'_>,
) -> anyhow::Result<i32> {
    match command {
        Operator::Check(args) => ops::check::run(config, args, terminal).await,
        Operator::Status(args) => ops::status::run(config, args, terminal).await,
        Operator::Send(args) => ops::send::run(config, args, terminal).await,
        Operator::Dlq {
            action: DlqAction::Look(action),
        } => ops::dlq::run(config, action, terminal).await,
        Operator::Dlq {
            action: DlqAction::Redrive(args),
        } => ops::job::stored::redrive(config, args, terminal).await,
        Operator::Replay(args) => ops::job::stored::replay(config, args, terminal).await,
        Operator::Resend(args) => ops::job::file::resend(config, args, terminal).await,
        Operator::Job { action } => ops::job::control::run(config, action, terminal).await,
    }
}

async fn run_limits(config: &Config, action: &LimitsAction) -> anyhow::Result<i32> {
    let (action, number) = match action {
        LimitsAction::Show(number) => (ops::limits::Action::Show, number),
        LimitsAction::Clear(number) => (ops::limits::Action::Clear, number),
    };
    if number.mobile != "-" {
        return Err(ops::filter::NUMBER_TYPED.into());
    }
    let (input, now) = (io::stdin(), Clock::system().now());
    say(&ops::limits::run(config, action, input, now).await?)?;
    Ok(0)
}

/// Where the reader has left, that is no defect.
fn say(text: &str) -> io::Result<()> {
    let mut out = io::stdout();
    out.write_all(text.as_bytes())?;
    out.flush()
}

fn say_error(error: &anyhow::Error) {
    // Nobody may listen, and there is nobody else to tell.
    let _ = writeln!(io::stderr(), "user-otp: {error:#}");
}
