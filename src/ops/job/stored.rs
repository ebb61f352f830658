//! Jobs about what is on a topic: dead letters that are redriven, a window that is replayed.

use std::collections::BTreeMap;

use anyhow::bail;
use clap::{Args, Parser};

use super::choice::{Candidates, Choice, Rules, Sample};
use super::feed::{Stamp, Topic, left};
use super::health::still_failing;
use super::plan::Plan;
use super::record::{JobRecord, Jobs, Kind};
use super::{NO_FILTER, Planned, Sending, Worker, id_of, new_record, source_is_free};
use crate::clock::EpochMs;
use crate::config::Config;
use crate::engine::record::Record;
use crate::engine::window::{Bounds, Window, WindowError};
use crate::ops::Usage;
use crate::ops::filter::{Filter, Selection};
use crate::ops::letter::Letter;
use crate::ops::moment::Moment;
use crate::ops::terminal::Terminal;
use crate::retry_topics::RetryTopics;

/// Older logins are left out where nothing is said about it: nobody waits for them.
const LOGINS: std::time::Duration = std::time::Duration::from_secs(3_600);

/// Which records to send again, and how; alone, of dead letters.
#[derive(Debug, Clone, Args)]
pub struct Redrive {
    #[command(flatten)]
    filter: Filter,
    #[command(flatten)]
    again: Again,
    #[command(flatten)]
    sending: Sending,
}

/// Which window of a topic to send again, and how.
#[derive(Debug, Clone, Args)]
pub struct Replay {
    /// The request topic, or another one with requests: accepted, jobs or a retry topic.
    #[arg(long, value_name = "TOPIC")]
    topic: String,
    /// From then on, by record time: 2h (ago), or a time with its zone.
    #[arg(long, value_name = "TIME")]
    from: Moment,
    /// Before then.
    #[arg(long, value_name = "TIME")]
    to: Moment,
    /// Also those that were published: their people get another message.
    #[arg(long)]
    even_published: bool,
    #[command(flatten)]
    which: Redrive,
}

/// When something is not sent again.
#[derive(Debug, Clone, Args)]
struct Again {
    /// What was sent again so often is left out.
    #[arg(long, value_name = "COUNT", default_value_t = 3)]
    max_replays: u32,
    /// Yes, everything that is on the topic.
    #[arg(long)]
    yes: bool,
    /// Sends although the service that failed is still down.
    #[arg(long)]
    ignore_health: bool,
}

/// A job's options, read again from the job log.
#[derive(Parser)]
struct Line<T: Args> {
    #[command(flatten)]
    args: T,
}

/// One of the two, with what is fixed when it is typed.
struct About<'a> {
    kind: Kind,
    topic: &'a str,
    selection: Selection<'a>,
    /// The filter as it was typed: the plan and its execution have the same.
    typed: Vec<String>,
    rules: Rules<'a>,
    read: fn(Record) -> Letter,
    ignore_health: bool,
    sending: &'a Sending,
}

/// `user-otp dlq redrive`. The exit code.
///
/// # Errors
///
/// In a sentence that says what to do.
pub async fn redrive(
    config: &Config,
    args: &Redrive,
    terminal: &mut Terminal<'_>,
) -> anyhow::Result<i32> {
    if args.filter.is_empty() && args.sending.execute && !args.again.yes {
        return Err(NO_FILTER.into());
    }
    let numbers = terminal.numbers(args.filter.wants_numbers()?)?;
    let worker = Worker::start(config).await?;
    let about = args.about(config, args.filter.at(terminal.now, numbers), terminal.now);
    worker.begin(&about, terminal).await
}

/// `user-otp replay`. The exit code.
///
/// # Errors
///
/// In a sentence that says what to do.
pub async fn replay(
    config: &Config,
    args: &Replay,
    terminal: &mut Terminal<'_>,
) -> anyhow::Result<i32> {
    let filter = args.window()?;
    let read = args.reading(config)?;
    let numbers = terminal.numbers(filter.wants_numbers()?)?;
    let worker = Worker::start(config).await?;
    let about = args.about(filter.at(terminal.now, numbers), read);
    worker.begin(&about, terminal).await
}

/// Goes on with one of them. The exit code.
///
/// # Errors
///
/// In a sentence that says what to do.
pub(super) async fn resume(
    worker: &Worker<'_>,
    job: &JobRecord,
    terminal: &mut Terminal<'_>,
) -> anyhow::Result<i32> {
    let words = std::iter::once(&job.job).chain(&job.args);
    let unknown =
        "the job was begun by another version of user-otp: resume it with that one, or cancel it";
    match job.kind {
        Kind::Replay => {
            let Line { args } =
                Line::<Replay>::try_parse_from(words).map_err(|_| Usage(unknown))?;
            let filter = args.window()?;
            let read = args.reading(worker.config)?;
            let numbers = terminal.numbers(filter.wants_numbers()?)?;
            let about = args.about(filter.at(terminal.now, numbers), read);
            worker.go_on(&about, job, terminal).await
        }
        Kind::Redrive | Kind::Resend => {
            let Line { args } =
                Line::<Redrive>::try_parse_from(words).map_err(|_| Usage(unknown))?;
            let numbers = terminal.numbers(args.filter.wants_numbers()?)?;
            let began = EpochMs(job.started_at_ms);
            let about = args.about(worker.config, args.filter.at(terminal.now, numbers), began);
            worker.go_on(&about, job, terminal).await
        }
    }
}

impl Redrive {
    fn about<'a>(
        &'a self,
        config: &'a Config,
        selection: Selection<'a>,
        now: EpochMs,
    ) -> About<'a> {
        let logins = (!self.filter.has_since()).then(|| now.minus(LOGINS));
        About {
            kind: Kind::Redrive,
            topic: &config.topics.dead_letters,
            rules: Rules {
                of_dead_letters: true,
                max_replays: self.again.max_replays,
                logins_since: logins,
                even_published: false,
                own: None,
                limit: selection.limit(),
            },
            selection,
            typed: self.filter.typed(),
            read: Letter::new,
            ignore_health: self.again.ignore_health,
            sending: &self.sending,
        }
    }
}

impl Replay {
    /// The filter with the window in it.
    fn window(&self) -> Result<Filter, Usage> {
        if self.which.filter.is_of_dead_letters() {
            return Err(Usage(
                "a request topic has no dispositions, codes or stages: dead letters are sent again by `user-otp dlq redrive`",
            ));
        }
        self.which.filter.between(self.from, self.to).ok_or(Usage(
            "say the window by --from and --to alone, not by --since, --until or --older-than as well",
        ))
    }

    fn reading(&self, config: &Config) -> Result<fn(Record) -> Letter, Usage> {
        let topics = &config.topics;
        if self.topic == topics.requests {
            return Ok(Letter::upstream);
        }
        let ours = [&topics.accepted, &topics.jobs];
        let retry = RetryTopics::new(topics.retry_prefix.as_str())
            .delay_of(&self.topic)
            .is_some();
        if retry || ours.contains(&&self.topic) {
            return Ok(Letter::new);
        }
        Err(Usage(
            "say a topic with requests: topics.requests, topics.accepted, topics.jobs or a retry topic of the configuration; \
             dead letters are sent again by `user-otp dlq redrive`",
        ))
    }

    fn about<'a>(&'a self, selection: Selection<'a>, read: fn(Record) -> Letter) -> About<'a> {
        let mut typed = self.which.filter.typed();
        typed.extend([self.from.to_string(), self.to.to_string()]);
        About {
            kind: Kind::Replay,
            topic: &self.topic,
            rules: Rules {
                of_dead_letters: false,
                max_replays: self.which.again.max_replays,
                logins_since: None,
                even_published: self.even_published,
                own: None,
                limit: selection.limit(),
            },
            selection,
            typed,
            read,
            ignore_health: self.which.again.ignore_health,
            sending: &self.which.sending,
        }
    }
}

impl About<'_> {
    /// The options that select the same again, of this command.
    fn words(&self) -> Vec<String> {
        let mut words = vec![
            "--max-replays".to_owned(),
            self.rules.max_replays.to_string(),
        ];
        if self.kind == Kind::Replay {
            words.extend(["--topic".to_owned(), self.topic.to_owned()]);
        }
        if self.ignore_health {
            words.push("--ignore-health".to_owned());
        }
        if self.rules.even_published {
            words.push("--even-published".to_owned());
        }
        for (name, value) in self.selection.words() {
            let name = match (self.kind, name) {
                (Kind::Replay, "since") => "from",
                (Kind::Replay, "until") => "to",
                (_, name) => name,
            };
            words.extend([format!("--{name}"), value]);
        }
        words
    }
}

impl Worker<'_> {
    async fn begin(&self, about: &About<'_>, terminal: &mut Terminal<'_>) -> anyhow::Result<i32> {
        terminal.note(&format!(
            "user-otp: looking at {}, as it is now, and at what has been sent already",
            about.topic
        ))?;
        let window = Window::open(&self.connection, about.topic, &about.selection.bounds())?;
        let ends: BTreeMap<i32, i64> = window
            .spans()
            .iter()
            .map(|(partition, span)| (*partition, span.until))
            .collect();
        let (choice, looked_at) = self.choose(window, about)?;
        let words = about.words();
        let mut about_what = about.typed.clone();
        about_what.extend(ends.iter().map(|end| format!("{end:?}")));
        let parts = about_what.iter().map(String::as_str);
        let parts: Vec<&str> = std::iter::once(about.topic).chain(parts).collect();
        let pace = about.sending.pace();
        let mut id = id_of(about.kind, &parts);
        if about.sending.execute {
            let jobs = Jobs::read(self.config, &self.connection)?;
            // Said before anything is taken over.
            source_is_free(&jobs, about.topic, terminal)?;
            // What the same command has sent before speaks against itself.
            id = jobs.free_id(&id);
        }
        let plan = Plan {
            job: id,
            kind: about.kind,
            source: about.topic.to_owned(),
            filter: about.selection.to_string(),
            looked_at,
            matched: choice.matched,
            to_send: choice.len(),
            skipped: Plan::skipping(&choice.skipped),
            rate: pace.rate,
            ahead: pace.ahead,
            takes_s: Plan::time(choice.len(), pace),
            sample: choice.samples.clone(),
        };
        let record = JobRecord {
            ends: ends.clone(),
            ..new_record(&plan, words, about.sending, terminal)
        };
        if choice.len() > 0 {
            self.look_at_health(about, &choice, about.sending.execute, terminal)
                .await?;
        }
        let planned = Planned {
            skipped: choice.skipped.clone(),
            plan,
            record,
        };
        let feed = |stamp| self.feed(about, choice, stamp, &ends, BTreeMap::new());
        self.plan_or_begin(planned, about.sending, feed, terminal)
    }

    async fn go_on(
        &self,
        about: &About<'_>,
        job: &JobRecord,
        terminal: &mut Terminal<'_>,
    ) -> anyhow::Result<i32> {
        let (steps, record, tail) = self.take_up(job, terminal)?;
        let own = record.job.clone();
        let about = About {
            rules: Rules {
                own: Some(&own),
                ..about.rules
            },
            selection: about.selection.clone(),
            typed: Vec::new(),
            ..*about
        };
        let ends = left(&record.ends, &BTreeMap::new());
        let bounds = about.selection.bounds();
        let window = Window::open_within(&self.connection, about.topic, &bounds, &ends)?;
        let (choice, _) = self.choose(window, &about)?;
        self.look_at_health(&about, &choice, true, terminal).await?;
        let (ends, position) = (record.ends.clone(), record.position.clone());
        let feed = |stamp| self.feed(&about, choice, stamp, &ends, position);
        self.work(steps, record, tail, about.sending, feed, terminal)
    }

    /// Says which of the services that failed would fail again; where something is to be sent, that is the end of it.
    async fn look_at_health(
        &self,
        about: &About<'_>,
        choice: &Choice,
        execute: bool,
        terminal: &mut Terminal<'_>,
    ) -> anyhow::Result<()> {
        if about.ignore_health {
            return Ok(());
        }
        let tenant = choice.samples.iter().find_map(Sample::tenant);
        let failing = still_failing(self.config, &choice.stages, tenant).await?;
        let Some((service, how)) = failing.first() else {
            return Ok(());
        };
        let told = format!(
            "{}, at which some of them failed, {how}: `user-otp check` says more",
            service.platform_name()
        );
        if execute {
            bail!("{told}. Send when it is mended, or anyway with --ignore-health");
        }
        terminal.note(&format!("user-otp: {told}"))?;
        Ok(())
    }

    /// Looks through all of it, and at what speaks against sending it; also how many records that were.
    fn choose(&self, mut window: Window, about: &About<'_>) -> anyhow::Result<(Choice, u64)> {
        let rules = about.rules;
        let mut candidates = Candidates::among(window.spans())?;
        let mut looked_at = 0;
        while let Some(record) = window.next_record()? {
            looked_at += 1;
            let letter = (about.read)(record);
            if about.selection.takes(&letter) {
                candidates.add(&letter, rules);
            }
        }
        candidates.complete();
        let Some(since) = candidates.since() else {
            return Ok((candidates.choose(rules), looked_at));
        };
        let topics = &self.config.topics;
        let window = each_since(window, &topics.outcomes, since, |record| {
            candidates.outcome(record.value.as_deref().unwrap_or_default(), rules);
        })?;
        // One that is replayed itself says nothing about itself.
        if about.topic != topics.jobs {
            each_since(window, &topics.jobs, since, |record| {
                candidates.sent_again(&Letter::new(record), rules);
            })?;
        }
        Ok((candidates.choose(rules), looked_at))
    }

    fn feed(
        &self,
        about: &About<'_>,
        choice: Choice,
        stamp: Stamp,
        ends: &BTreeMap<i32, i64>,
        position: BTreeMap<i32, i64>,
    ) -> anyhow::Result<Topic> {
        let bounds = Bounds {
            since: about.selection.since(),
            ..Bounds::default()
        };
        let left = left(ends, &position);
        let window = Window::open_within(&self.connection, about.topic, &bounds, &left)?;
        Ok(Topic::new(window, choice, stamp, about.read, position))
    }
}

/// Looks through another topic with what `window` was looked at with.
fn each_since(
    window: Window,
    topic: &str,
    since: EpochMs,
    mut act: impl FnMut(Record),
) -> Result<Window, WindowError> {
    let bounds = Bounds {
        since: Some(since),
        ..Bounds::default()
    };
    let mut window = window.then(topic, &bounds)?;
    while let Some(record) = window.next_record()? {
        act(record);
    }
    Ok(window)
}
