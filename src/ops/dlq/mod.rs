//! `user-otp dlq`: what is on the dead-letter topic, from where it begins to where it ended when the
//! command began. Nothing here consumes as the service does, or changes anything.

use std::time::{Duration, Instant};

use clap::{Args, Subcommand};

use super::filter::{Filter, Selection};
use super::letter::Letter;
use super::shown::Output;
use super::terminal::Terminal;
use super::{Usage, audit, run as start};
use crate::config::Config;
use crate::engine::window::Window;
use crate::service;

mod export;
mod ls;
mod show;
mod stats;

/// What is to be done.
#[derive(Debug, Subcommand)]
pub enum Action {
    /// Counts dead letters by reason, tenant and hour.
    #[command(after_help = "Examples:\n  \
        user-otp dlq stats --since 24h\n  \
        user-otp dlq stats --tenant 'pb.*' --output json")]
    Stats(Counting),
    /// Lists dead letters, one a line.
    #[command(after_help = "Examples:\n  \
        user-otp dlq ls --disposition refused --since 2h\n  \
        echo 98765xxxxx | user-otp dlq ls --mobile -\n  \
        user-otp dlq ls --output ndjson | jq .code")]
    Ls(Listing),
    /// Shows one dead letter, and what to do about it.
    #[command(after_help = "Examples:\n  \
        user-otp dlq show --partition 3 --offset 42\n  \
        user-otp dlq show --event-id 8f14e45f")]
    Show(Listing),
    /// Writes dead letters as NDJSON, byte for byte: with their numbers, so --reveal is needed.
    #[command(after_help = "Example:\n  user-otp dlq export --reveal --since 24h > letters.ndjson")]
    Export(Exporting),
}

/// Which to count, and how to show it.
#[derive(Debug, Args)]
pub struct Counting {
    #[command(flatten)]
    filter: Filter,
    /// For people, or for programs.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

/// Which to show, and how.
#[derive(Debug, Args)]
pub struct Listing {
    #[command(flatten)]
    filter: Filter,
    /// For people, or for programs.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
    /// With numbers and all that was sent; it is put down on the job log.
    #[arg(long)]
    reveal: bool,
}

/// Which to export.
#[derive(Debug, Args)]
pub struct Exporting {
    #[command(flatten)]
    filter: Filter,
    /// Yes, with numbers and all that was sent; it is put down on the job log.
    #[arg(long)]
    reveal: bool,
}

/// How much may be seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sight {
    /// No number, no address.
    Masked,
    /// Everything.
    Revealed,
}

impl Action {
    fn filter(&self) -> &Filter {
        match self {
            Self::Stats(Counting { filter, .. })
            | Self::Ls(Listing { filter, .. })
            | Self::Show(Listing { filter, .. })
            | Self::Export(Exporting { filter, .. }) => filter,
        }
    }

    fn sight(&self) -> Sight {
        match self {
            Self::Ls(Listing { reveal: true, .. })
            | Self::Show(Listing { reveal: true, .. })
            | Self::Export(Exporting { reveal: true, .. }) => Sight::Revealed,
            Self::Stats(_) | Self::Ls(_) | Self::Show(_) | Self::Export(_) => Sight::Masked,
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Stats(_) => "dlq stats",
            Self::Ls(_) => "dlq ls",
            Self::Show(_) => "dlq show",
            Self::Export(_) => "dlq export",
        }
    }

    fn check(&self) -> Result<(), Usage> {
        let names_one = |filter: &Filter| filter.place().is_some() || filter.names_events();
        match self {
            Self::Show(listing) if !names_one(&listing.filter) => Err(Usage(
                "say which one: --partition and --offset, or --event-id, as `user-otp dlq ls` shows them",
            )),
            Self::Export(Exporting { reveal: false, .. }) => Err(Usage(
                "an export holds citizens' numbers: say --reveal, which is put down on the job log; without numbers: \
                 user-otp dlq ls --output ndjson",
            )),
            Self::Stats(_) | Self::Ls(_) | Self::Show(_) | Self::Export(_) => Ok(()),
        }
    }
}

/// Does it. The exit code.
///
/// # Errors
///
/// In a sentence that says what to do: the command line is wrong, Kafka does not answer, or nobody
/// reads what is written.
pub async fn run(
    config: &Config,
    action: &Action,
    terminal: &mut Terminal<'_>,
) -> anyhow::Result<i32> {
    action.check()?;
    let filter = action.filter();
    let numbers = terminal.numbers(filter.wants_numbers()?)?;
    let selection = filter.at(terminal.now, numbers);
    // Says better than a reader why no broker answers.
    start::reach(config).await?;
    let topic = &config.topics.dead_letters;
    let mut window = Window::open(&service::connection(config), topic, &selection.bounds())?;
    let sight = action.sight();
    if sight == Sight::Revealed {
        audit::reveal(config, terminal, action.name(), &selection.to_string()).await?;
    }
    let looking = Looking {
        window: &mut window,
        selection: &selection,
        sight,
    };
    let code = match action {
        Action::Stats(counting) => stats::run(looking, counting.output, terminal),
        Action::Ls(listing) => ls::run(looking, listing.output, terminal),
        Action::Show(listing) => show::run(looking, listing.output, terminal),
        Action::Export(_) => export::run(looking, terminal),
    }?;
    terminal.out.flush()?;
    Ok(code)
}

/// A look at the topic under way.
struct Looking<'a> {
    window: &'a mut Window,
    selection: &'a Selection<'a>,
    sight: Sight,
}

/// What a look came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Looked {
    /// Records that were read.
    records: u64,
    /// Those of them that the filter takes.
    taken: u64,
    /// It ended at `--limit`, and not at the end of the topic.
    limited: bool,
}

impl Looking<'_> {
    /// Gives `act` each record that the filter takes, one at a time.
    fn each(self, mut act: impl FnMut(&Letter) -> anyhow::Result<()>) -> anyhow::Result<Looked> {
        let mut looked = Looked::default();
        loop {
            if looked.taken >= self.selection.limit() {
                looked.limited = true;
                return Ok(looked);
            }
            let Some(record) = self.window.next_record()? else {
                return Ok(looked);
            };
            looked.records += 1;
            let letter = Letter::new(record);
            if self.selection.takes(&letter) {
                looked.taken += 1;
                act(&letter)?;
            }
        }
    }
}

impl Looked {
    /// The sentence under what was shown.
    fn sentence(self) -> String {
        let Self { records, taken, .. } = self;
        let end = if self.limited {
            "stopped at --limit"
        } else if taken == 0 && records > 0 {
            "none is of that kind: leave an option out, or look with `user-otp dlq stats`"
        } else if records == 0 {
            "there is nothing on the topic in that window"
        } else {
            "that is all there was when the command began"
        };
        format!("{taken} of {records} records looked at; {end}")
    }
}

/// When to write out what was buffered: at once at first, then a few times a second.
struct Pace(Option<Instant>);

impl Pace {
    fn new() -> Self {
        Self(None)
    }

    fn keep(&mut self, terminal: &mut Terminal<'_>) -> std::io::Result<()> {
        const EVERY: Duration = Duration::from_millis(250);
        if self.0.is_some_and(|last| last.elapsed() < EVERY) {
            return Ok(());
        }
        self.0 = Some(Instant::now());
        terminal.out.flush()
    }
}

/// A word, or the sign that there is none.
fn or_dash(word: Option<&str>) -> &str {
    word.unwrap_or("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_sentence_says_what_to_do_next() {
        let said = |records, taken, limited| {
            let looked = Looked {
                records,
                taken,
                limited,
            };
            looked.sentence()
        };
        assert!(said(0, 0, false).ends_with("nothing on the topic in that window"));
        assert!(said(9, 0, false).contains("user-otp dlq stats"));
        assert!(said(9, 5, true).starts_with("5 of 9 records looked at; stopped"));
        assert!(said(9, 9, false).contains("that is all"));
    }
}
