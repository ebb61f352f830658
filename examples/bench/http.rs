//! The figures of the HTTP door. It has no baseline: the goals are against the Java service, which
//! was measured elsewhere.

use std::time::Duration;

use anyhow::{Context as _, ensure};

use crate::Bench;
use crate::clients::{Answers, Clients};
use crate::contender::{Contender, Kind, StandIn};
use crate::figures::{self, Figure, Table};
use crate::load::Load;

/// Requests a second of the open loop.
const PER_SECOND: u32 = 1_000;

/// Clients of the closed loop: as many as there are calls at once, so that none waits for another.
const CLIENTS: u32 = 224;

/// Requests in flight while memory is measured. Most of them wait for their turn at egov-otp: `otp.calls`
/// is as it is by default, and each call a connection of its own.
const IN_FLIGHT: u32 = 2_000;

impl Bench {
    pub(crate) fn http(&self, kind: Kind, table: &mut Table) -> anyhow::Result<()> {
        use Figure::{HttpMedian, HttpOthers, HttpP99, HttpProcessor};
        if self.wants(&[HttpProcessor, HttpOthers]) {
            self.http_burst(kind, table)?;
        }
        if self.wants(&[HttpMedian, HttpP99, HttpOthers]) {
            self.http_latency(kind, table)?;
        }
        Ok(())
    }

    fn http_burst(&self, kind: Kind, table: &mut Table) -> anyhow::Result<()> {
        let (load, contender, clients) = self.http_door(kind, &self.at_once, &[])?;
        self.http_warm_up(&load, &clients)?;
        let before = contender.processor_time()?;
        let answers = clients.closed_loop(CLIENTS, self.plan.burst)?;
        let used = contender.processor_time()? - before;
        let each = used.as_secs_f64() * 1e6 / f64::from(self.plan.burst);
        table.add(Figure::HttpProcessor, kind, each);
        check(&answers, kind, &load, table)?;
        contender.end()
    }

    fn http_latency(&self, kind: Kind, table: &mut Table) -> anyhow::Result<()> {
        let (load, contender, clients) = self.http_door(kind, &self.slow, &[])?;
        self.http_warm_up(&load, &clients)?;
        let answers = clients.open_loop(PER_SECOND, PER_SECOND * self.plan.seconds)?;
        for (figure, percent) in [(Figure::HttpMedian, 50), (Figure::HttpP99, 99)] {
            let value = figures::percentile(&answers.created, percent);
            table.add(figure, kind, value);
        }
        check(&answers, kind, &load, table)?;
        contender.end()
    }

    /// The peak of a process that has done nothing else: all requests come within half a second, and
    /// wait two seconds for egov-otp.
    pub(crate) fn http_memory(&self, kind: Kind, table: &mut Table) -> anyhow::Result<()> {
        let delays = ["--user-delay=5ms", "--otp-delay=2s", "--texts-delay=5ms"];
        let stand_in = StandIn::start(&self.programs, &delays)?;
        let calls = [("OTP__CALLS", "256")];
        let (load, contender, clients) = self.http_door(kind, &stand_in, &calls)?;
        let answers = clients.open_loop(2 * IN_FLIGHT, IN_FLIGHT)?;
        let peak = contender.memory_after(Duration::ZERO)?.peak;
        table.add(Figure::HttpMemory, kind, peak);
        check(&answers, kind, &load, table)?;
        ensure!(answers.all_at_once(), "they were not all in flight at once");
        contender.end()
    }

    /// A process with localization, as today's have it, and its clients.
    fn http_door(
        &self,
        kind: Kind,
        stand_in: &StandIn,
        settings: &[(&str, &str)],
    ) -> anyhow::Result<(Load, Contender, Clients)> {
        let load = Load::new(&self.args.broker, 8)?;
        let always = [
            ("LOCALIZATION__URL", stand_in.url.as_str()),
            // Counted, at its cost, and nobody is refused.
            ("LIMITS__MODE", "shadow"),
        ];
        let settings = [&always, settings].concat();
        let contender = self.start_with(kind, &load, stand_in, &settings)?;
        let clients = Clients::of(contender.http_port()?)?;
        Ok((load, contender, clients))
    }

    fn http_warm_up(&self, load: &Load, clients: &Clients) -> anyhow::Result<()> {
        let answers = clients.closed_loop(CLIENTS, self.plan.warm_up)?;
        ensure!(
            answers.others.is_empty(),
            "the warm-up was answered {:?}",
            answers.others
        );
        load.wait_for_sms(self.plan.warm_up)
    }
}

/// Shows and counts what was not answered with 201. Where all was, each must have its SMS.
#[expect(clippy::print_stderr, reason = "what failed is shown as it comes")]
fn check(answers: &Answers, kind: Kind, load: &Load, table: &mut Table) -> anyhow::Result<()> {
    for (answer, count) in &answers.others {
        eprintln!("    {count} x {answer}");
    }
    let others: u32 = answers.others.values().sum();
    table.add(Figure::HttpOthers, kind, f64::from(others));
    if others > 0 {
        return Ok(());
    }
    let created = u32::try_from(answers.created.len())?;
    load.wait_for_sms(created)
        .context("not every 201 has its SMS")
}
