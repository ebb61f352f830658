//! Whether everything came that must come, once, and nothing else.

use super::arrival::{Arrival, Email, Outcome, Sms, What};
use super::story::{End, Message, Scene};
use crate::outcome::FinalOutcome;

/// How the story ended.
#[derive(Debug)]
pub(crate) struct Verdict {
    /// One line of figures.
    pub(crate) tally: String,
    /// What is not as it must be; none: all is well.
    pub(crate) faults: Vec<String>,
}

/// Whether everything that must come of the scene's request is among the arrivals.
pub(crate) fn is_complete(scene: &Scene, arrivals: &[Arrival]) -> bool {
    let seen = Seen::of(scene.event, arrivals);
    let (sms, emails, letters) = match &scene.end {
        End::Published { email, .. } => (1, usize::from(email.is_some()), 0),
        End::Rejected { .. } => (0, 0, 0),
        End::DeadLettered { .. } => (0, 0, 1),
    };
    !seen.outcomes.is_empty()
        && seen.sms.len() >= sms
        && seen.emails.len() >= emails
        && seen.letters >= letters
}

/// Judges all that arrived; `otps_of` says which OTPs were created for a number.
pub(crate) fn judge(
    scenes: &[Scene],
    arrivals: &[Arrival],
    otps_of: impl Fn(&str) -> Vec<String>,
) -> Verdict {
    let mut faults = Vec::new();
    for scene in scenes {
        let seen = Seen::of(scene.event, arrivals);
        let mut note = |fault: String| faults.push(format!("{}: {fault}", scene.title));
        note_outcome(&scene.end, &seen, &mut note);
        let (otps, sms, email) = match &scene.end {
            End::Published {
                asked_with,
                sms,
                email,
            } => (otps_of(asked_with), Some(sms), email.as_ref()),
            End::Rejected { .. } | End::DeadLettered { .. } => (Vec::new(), None, None),
        };
        let texts: Vec<_> = seen.sms.iter().map(|sms| sms_text(sms)).collect();
        note_messages("SMS", sms, &texts, &otps, &mut note);
        let texts: Vec<_> = seen.emails.iter().map(|email| email_text(email)).collect();
        note_messages("email", email, &texts, &otps, &mut note);
    }
    let of_the_story = |arrival: &&Arrival| scenes.iter().any(|s| s.event == arrival.event);
    let strays = arrivals.iter().filter(|arrival| !of_the_story(arrival));
    for stray in strays {
        faults.push(format!("the record {} belongs to no request", stray.at));
    }
    Verdict {
        tally: tally(scenes.len(), arrivals, faults.is_empty()),
        faults,
    }
}

/// What arrived for one request.
#[derive(Default)]
struct Seen<'a> {
    outcomes: Vec<&'a Outcome>,
    sms: Vec<&'a Sms>,
    emails: Vec<&'a Email>,
    letters: usize,
    unreadable: usize,
}

impl<'a> Seen<'a> {
    fn of(event: &str, arrivals: &'a [Arrival]) -> Self {
        let mut seen = Self::default();
        for arrival in arrivals.iter().filter(|arrival| arrival.event == event) {
            match &arrival.what {
                What::Outcome(outcome) => seen.outcomes.push(outcome),
                What::Sms(sms) => seen.sms.push(sms),
                What::Email(email) => seen.emails.push(email),
                What::DeadLetter(_) => seen.letters += 1,
                What::Unreadable => seen.unreadable += 1,
                What::Retry(_) => {}
            }
        }
        seen
    }
}

fn note_outcome(end: &End, seen: &Seen<'_>, note: &mut impl FnMut(String)) {
    let (outcome, disposition, code) = match end {
        End::Published { .. } => (FinalOutcome::Published, None, None),
        End::Rejected { code } => (FinalOutcome::Rejected, None, Some(*code)),
        End::DeadLettered { disposition, code } => (
            FinalOutcome::DeadLettered,
            Some(disposition.as_str()),
            Some(code.as_str()),
        ),
    };
    match seen.outcomes.as_slice() {
        [] => note("the outcome is missing".to_owned()),
        [one] => {
            let found = (
                one.outcome.as_str(),
                one.disposition.as_deref(),
                one.code.as_deref(),
            );
            let expected = (outcome.as_str(), disposition, code);
            if found != expected {
                note(format!("the outcome is {found:?}, not {expected:?}"));
            }
        }
        several => note(format!("{} outcomes instead of one", several.len())),
    }
    let letters = usize::from(matches!(end, End::DeadLettered { .. }));
    if seen.letters != letters {
        note(format!(
            "{} dead letters instead of {letters}",
            seen.letters
        ));
    }
    if seen.unreadable > 0 {
        note(format!("{} records that nobody can read", seen.unreadable));
    }
}

/// To whom, and everything that is said.
type Text<'a> = (Option<&'a str>, String);

fn sms_text(sms: &Sms) -> Text<'_> {
    (Some(&sms.mobile_number), sms.message.clone())
}

fn email_text(email: &Email) -> Text<'_> {
    let to = match email.email_to.as_slice() {
        [one] => Some(one.as_str()),
        [] | [_, ..] => None,
    };
    (to, email.body.clone())
}

fn note_messages(
    kind: &str,
    expected: Option<&Message>,
    found: &[Text<'_>],
    otps: &[String],
    note: &mut impl FnMut(String),
) {
    match (expected, found) {
        (None, []) => {}
        (None, _) => note(format!("{} {kind} that nobody asked for", found.len())),
        (Some(message), []) => note(format!("the {kind} to {} is missing", message.to)),
        (Some(message), [(to, text)]) => {
            if *to != Some(message.to) {
                note(format!("the {kind} to {} went elsewhere", message.to));
            }
            if !text.contains(message.says) {
                note(format!("the {kind} to {} has another text", message.to));
            }
            if !otps.iter().any(|otp| text.contains(otp.as_str())) {
                note(format!(
                    "the {kind} to {} has no OTP of egov-otp's",
                    message.to
                ));
            }
        }
        (Some(message), [_, _, ..]) => {
            note(format!(
                "{} {kind} to {} instead of one",
                found.len(),
                message.to
            ));
        }
    }
}

fn tally(requests: usize, arrivals: &[Arrival], well: bool) -> String {
    let count = |fits: &dyn Fn(&What) -> bool| arrivals.iter().filter(|a| fits(&a.what)).count();
    let ended = |end: FinalOutcome| {
        count(&|what| matches!(what, What::Outcome(outcome) if outcome.outcome == end.as_str()))
    };
    let end = if well {
        "nothing lost, nothing twice"
    } else {
        "not as it should be"
    };
    format!(
        "{requests} requests: {} published ({} SMS, {} emails), {} rejected, {} dead-lettered; {end}",
        ended(FinalOutcome::Published),
        count(&|what| matches!(what, What::Sms(_))),
        count(&|what| matches!(what, What::Email(_))),
        ended(FinalOutcome::Rejected),
        ended(FinalOutcome::DeadLettered),
    )
}
