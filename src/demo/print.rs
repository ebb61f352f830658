//! How the story reads.

use std::fmt::Display;
use std::io::{self, Write};

use super::arrival::{Arrival, Outcome, Setback, What};
use super::story::{Ask, Scene};
use super::system::System;
use super::verdict::Verdict;
use crate::egov::Service;
use crate::engine::record::Position;
use crate::outcome::FinalOutcome;

/// Whether the story is coloured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Colours {
    On,
    Off,
}

/// How a word looks on a terminal.
#[derive(Debug, Clone, Copy)]
enum Style {
    Bold,
    Dim,
    Green,
    Yellow,
    Red,
}

/// Tells the story.
pub(crate) struct Teller<W> {
    out: W,
    colours: Colours,
}

impl<W: Write> Teller<W> {
    pub(crate) fn new(out: W, colours: Colours) -> Self {
        Self { out, colours }
    }

    /// What the demo is.
    pub(crate) fn opens(&mut self) -> io::Result<()> {
        let title = self.styled(
            Style::Bold,
            "user-otp: requests for one-time passwords in, SMS and emails out, each once",
        );
        writeln!(self.out, "{title}\n")
    }

    /// What is running, before it is ready.
    pub(crate) fn setting(&mut self, kafka: impl Display) -> io::Result<()> {
        self.line("kafka", kafka)?;
        self.line("user-otp", "starting; joining a group takes a few seconds")
    }

    /// What is running, once it is ready.
    pub(crate) fn ready(&mut self, system: &System) -> io::Result<()> {
        let words = Service::ALL.map(|service| match service {
            Service::Users => "egov-user",
            Service::Otp => "egov-otp",
            Service::Texts => "egov-localization",
            Service::Rules => "egov-mdms",
        });
        let services = format!(
            "stand-ins at {} for {}",
            system.standin.url(),
            words.join(", ")
        );
        self.line("services", services)?;
        let engine = format!(
            "ready after {:.1} s, takes requests from {}",
            system.took.as_secs_f32(),
            system.config.topics.requests
        );
        self.line("user-otp", engine)
    }

    /// A scene begins.
    pub(crate) fn scene(&mut self, number: usize, scene: &Scene) -> io::Result<()> {
        let title = self.styled(Style::Bold, &format!("{number}. {}", scene.title));
        let aside = self.styled(Style::Dim, scene.aside);
        writeln!(self.out, "\n{title}\n   {aside}")
    }

    /// A request is on the topic.
    pub(crate) fn request(&mut self, request: &str, at: &Position) -> io::Result<()> {
        let at = self.styled(Style::Dim, &format!("as {at}"));
        self.line("request", format!("{request} {at}"))
    }

    /// Something happened to the services.
    pub(crate) fn services(&mut self, what: &str) -> io::Result<()> {
        let what = self.styled(Style::Yellow, what);
        self.line("services", what)
    }

    /// A scene did not come to its end.
    pub(crate) fn late(&mut self) -> io::Result<()> {
        let late = self.styled(Style::Red, "did not come to its end in time");
        self.line("missing", late)
    }

    /// A record came out.
    pub(crate) fn arrival(&mut self, arrival: &Arrival) -> io::Result<()> {
        match &arrival.what {
            What::Sms(sms) => {
                let phone = self.styled(Style::Bold, &sms.mobile_number);
                self.line("phone", format!("{phone}  {}", sms.message))
            }
            What::Email(email) => {
                let mailbox = self.styled(Style::Bold, &email.email_to.join(", "));
                let text = format!("{mailbox}  {}: {}", email.subject, email.body);
                self.line("mailbox", text)
            }
            What::Retry(setback) => self.retry(setback, &arrival.at),
            What::DeadLetter(setback) => {
                let at = self.styled(Style::Dim, &format!("as {}", arrival.at));
                let Setback {
                    disposition,
                    code,
                    stage,
                    ..
                } = setback;
                let text = format!("{disposition}: {code}, found at {stage} {at}");
                self.line("letter", text)
            }
            What::Outcome(outcome) => self.outcome(outcome),
            What::Unreadable => {
                let text = format!("{} cannot be read", arrival.at);
                let text = self.styled(Style::Red, &text);
                self.line("record", text)
            }
        }
    }

    fn retry(&mut self, setback: &Setback, at: &Position) -> io::Result<()> {
        let waits = self.styled(Style::Yellow, "waits");
        let at = self.styled(Style::Dim, &format!("as {at}"));
        let Setback {
            code,
            stage,
            attempt,
            ..
        } = setback;
        let text = format!("{waits} after try {attempt}: {code} at {stage} {at}");
        self.line("retry", text)
    }

    fn outcome(&mut self, outcome: &Outcome) -> io::Result<()> {
        let style = match FinalOutcome::from_word(&outcome.outcome) {
            Some(FinalOutcome::Published) => Style::Green,
            Some(FinalOutcome::Rejected | FinalOutcome::Limited | FinalOutcome::Superseded) => {
                Style::Yellow
            }
            Some(FinalOutcome::DeadLettered) | None => Style::Red,
        };
        let mut text = self.styled(style, &outcome.outcome);
        if let Some(code) = &outcome.code {
            text.push_str(&format!(" ({code})"));
        }
        let tries = if outcome.attempts == 1 {
            "try"
        } else {
            "tries"
        };
        let ms = outcome.finished_at_ms - outcome.received_at_ms;
        text.push_str(&format!(" in {} {tries}, {ms} ms", outcome.attempts));
        if let Some(source) = &outcome.source {
            text.push_str(&self.styled(Style::Dim, &format!(" for {source}")));
        }
        self.line("outcome", text)
    }

    /// The last line, and what is wrong, if anything is.
    pub(crate) fn verdict(&mut self, verdict: &Verdict) -> io::Result<()> {
        let style = if verdict.faults.is_empty() {
            Style::Green
        } else {
            Style::Red
        };
        writeln!(self.out)?;
        for fault in &verdict.faults {
            let fault = self.styled(Style::Red, fault);
            writeln!(self.out, "   {fault}")?;
        }
        let tally = self.styled(style, &verdict.tally);
        writeln!(self.out, "{tally}")
    }

    /// How to go on, for those who stay.
    pub(crate) fn invites(&mut self, system: &System) -> io::Result<()> {
        let brokers = &system.config.kafka.brokers;
        let topic = &system.config.topics.requests;
        let services = system.standin.url();
        let request = Ask::new("login", "9876501002").value();
        // Java's clients do not take the mock cluster for a Kafka.
        let java = if system.is_on_real_kafka() {
            format!(
                "\n    echo '{request}' | kafka-console-producer.sh --bootstrap-server {brokers} --topic {topic}"
            )
        } else {
            String::new()
        };
        let heading = |teller: &Self, text: &str| teller.styled(Style::Bold, text);
        let (send, change, end) = (
            heading(self, "Send a request of your own"),
            heading(self, "Change what the services do"),
            heading(self, "What comes of it is shown below; ctrl-c ends it."),
        );
        writeln!(
            self.out,
            "
{send}:
  type a mobile number to log in with (9876501002 is Bala's), or a whole request, and return
  or, from another terminal
    echo '{request}' | kcat -P -b {brokers} -t {topic}{java}

{change}:
  egov-otp is down for ten seconds
    curl -X PUT {services}/_standin/behaviour/otp -d '{{\"fault\":{{\"kind\":\"status\",\"status\":503}},\"healsAfterMs\":10000}}'
  egov-user knows one citizen more
    curl -X PUT {services}/_standin/users -d '[{{\"mobileNumber\":\"9876502001\",\"emailId\":\"you@example.org\",\"tenantId\":\"pb\"}}]'
  every number is a known citizen
    curl -X PUT {services}/_standin/everyone -d true
  what they were asked so far
    curl {services}/_standin/journal

{end}
"
        )
    }

    fn line(&mut self, what: &str, text: impl Display) -> io::Result<()> {
        let what = self.styled(Style::Dim, &format!("{what:<9}"));
        writeln!(self.out, "   {what} {text}")?;
        self.out.flush()
    }

    fn styled(&self, style: Style, text: &str) -> String {
        let code = match (self.colours, style) {
            (Colours::Off, _) => return text.to_owned(),
            (Colours::On, Style::Bold) => "1",
            (Colours::On, Style::Dim) => "2",
            (Colours::On, Style::Green) => "32",
            (Colours::On, Style::Yellow) => "33",
            (Colours::On, Style::Red) => "31",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}
