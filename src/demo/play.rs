//! The story at work: sends each scene's request, and follows what comes of it.

use std::convert::Infallible;
use std::io::Write;
use std::time::Duration;

use anyhow::bail;
use tokio::sync::mpsc::Receiver;
use tokio::time::Instant;

use super::arrival::{Arrival, What};
use super::kafka::{Reader, Upstream};
use super::print::Teller;
use super::story::{Ask, Condition, Scene};
use super::system::System;
use super::verdict::{self, Verdict};
use crate::egov::Service;
use crate::egov::standin::{Behaviour, Fault};

/// How long a scene may take: well below a second on an idle machine, two with the outage.
const PATIENCE: Duration = Duration::from_secs(20);

/// The story being told.
pub(crate) struct Play<'a, W> {
    system: &'a System,
    upstream: Upstream,
    reader: Reader,
    teller: &'a mut Teller<W>,
}

impl<'a, W: Write> Play<'a, W> {
    pub(crate) fn new(system: &'a System, teller: &'a mut Teller<W>) -> anyhow::Result<Self> {
        Ok(Self {
            upstream: Upstream::new(&system.config)?,
            reader: Reader::new(&system.wanted, &system.config)?,
            system,
            teller,
        })
    }

    /// Plays the scenes one after another, then reads back all that came of them.
    pub(crate) async fn tell(&mut self, scenes: &[Scene]) -> anyhow::Result<Verdict> {
        for (number, scene) in (1..).zip(scenes) {
            self.teller.scene(number, scene)?;
            self.play(scene).await?;
        }
        // By a consumer of its own: what the first one missed or saw twice is no excuse.
        let reader = Reader::new(&self.system.wanted, &self.system.config)?;
        let arrivals = reader.read_all().await?;
        let otps_of = |number: &str| self.system.standin.otp_of(number);
        let verdict = verdict::judge(scenes, &arrivals, otps_of);
        self.teller.verdict(&verdict)?;
        Ok(verdict)
    }

    /// Says how to go on, sends the lines that are typed, and shows whatever comes out, without
    /// end.
    pub(crate) async fn stay(&mut self, mut typed: Receiver<String>) -> anyhow::Result<Infallible> {
        self.teller.invites(self.system)?;
        loop {
            tokio::select! {
                arrival = self.next() => self.teller.arrival(&arrival?)?,
                Some(line) = typed.recv() => self.send_typed(line.trim()).await?,
            }
        }
    }

    /// A mobile number alone is its login.
    async fn send_typed(&mut self, line: &str) -> anyhow::Result<()> {
        if line.is_empty() {
            return Ok(());
        }
        let is_number = line.bytes().all(|byte| byte.is_ascii_digit());
        let value = if is_number {
            Ask::new("login", line).value()
        } else {
            line.to_owned()
        };
        let at = self.upstream.send(None, value.as_bytes()).await?;
        Ok(self.teller.request(&value, &at)?)
    }

    async fn play(&mut self, scene: &Scene) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        if scene.services == Condition::OtpDown {
            self.set_otp(Behaviour::failing(Fault::status(503)), "egov-otp is down")?;
        }
        let at = self.upstream.send(Some(scene.event), &scene.value).await?;
        self.teller.request(&scene.summary, &at)?;
        let mut arrivals: Vec<Arrival> = Vec::new();
        let mut waits = 0;
        while !verdict::is_complete(scene, &arrivals) {
            let Ok(arrival) = tokio::time::timeout_at(deadline, self.next()).await else {
                self.teller.late()?;
                break;
            };
            let arrival = arrival?;
            if let What::Retry(_) = arrival.what {
                self.teller.arrival(&arrival)?;
                waits += 1;
                if waits == self.system.config.retry.delays.len() {
                    self.set_otp(Behaviour::well(), "egov-otp is back")?;
                }
            }
            arrivals.push(arrival);
        }
        self.system.standin.set(Service::Otp, Behaviour::well());
        // Topics have no order among them; a reader has.
        arrivals.sort_by_key(|arrival| rank(&arrival.what));
        arrivals
            .iter()
            .filter(|arrival| rank(&arrival.what) > 0)
            .try_for_each(|arrival| self.teller.arrival(arrival))?;
        Ok(())
    }

    fn set_otp(&mut self, behaviour: Behaviour, what: &str) -> anyhow::Result<()> {
        self.system.standin.set(Service::Otp, behaviour);
        Ok(self.teller.services(what)?)
    }

    async fn next(&self) -> anyhow::Result<Arrival> {
        tokio::select! {
            arrival = self.reader.next() => arrival,
            () = self.system.service.failed() => bail!("the engine could not go on"),
        }
    }
}

/// In which order a scene's records are shown; 0: it was shown when it came.
fn rank(what: &What) -> u8 {
    match what {
        What::Retry(_) => 0,
        What::Sms(_) => 1,
        What::Email(_) => 2,
        What::DeadLetter(_) => 3,
        What::Unreadable => 4,
        What::Outcome(_) => 5,
    }
}
