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

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::demo::arrival::Setback;
    use crate::demo::story::scenes;
    use crate::engine::record::Position;

    const OTP: &str = "135790";

    /// All that the story must bring.
    fn all() -> Vec<Arrival> {
        scenes().iter().flat_map(all_of).collect()
    }

    fn all_of(scene: &Scene) -> Vec<Arrival> {
        let arrival = |what| Arrival {
            event: scene.event.to_owned(),
            at: Position {
                topic: "out".into(),
                partition: 0,
                offset: 7,
            },
            what,
        };
        let outcome = |end: FinalOutcome, disposition: Option<&str>, code: Option<&str>| {
            arrival(What::Outcome(Outcome {
                outcome: end.as_str().to_owned(),
                disposition: disposition.map(str::to_owned),
                code: code.map(str::to_owned),
                attempts: 1,
                received_at_ms: 0,
                finished_at_ms: 1,
                source: None,
            }))
        };
        match &scene.end {
            End::Published { sms, email, .. } => {
                let mut published = vec![arrival(What::Sms(Sms {
                    mobile_number: sms.to.to_owned(),
                    message: format!("{} {OTP}", sms.says),
                }))];
                published.extend(email.iter().map(|email| {
                    arrival(What::Email(Email {
                        email_to: vec![email.to.to_owned()],
                        subject: String::new(),
                        body: format!("{} {OTP}", email.says),
                    }))
                }));
                published.push(outcome(FinalOutcome::Published, None, None));
                published
            }
            End::Rejected { code } => vec![outcome(FinalOutcome::Rejected, None, Some(code))],
            End::DeadLettered { disposition, code } => {
                let letter = Setback {
                    disposition: String::new(),
                    code: String::new(),
                    stage: String::new(),
                    attempt: String::new(),
                };
                let (disposition, code) = (disposition.as_str(), code.as_str());
                let end = FinalOutcome::DeadLettered;
                vec![
                    arrival(What::DeadLetter(letter)),
                    outcome(end, Some(disposition), Some(code)),
                ]
            }
        }
    }

    fn judged(arrivals: &[Arrival]) -> Verdict {
        judge(&scenes(), arrivals, |_| vec![OTP.to_owned()])
    }

    fn is_sms(arrival: &Arrival) -> bool {
        matches!(arrival.what, What::Sms(_))
    }

    fn is_email(arrival: &Arrival) -> bool {
        matches!(arrival.what, What::Email(_))
    }

    fn is_letter(arrival: &Arrival) -> bool {
        matches!(arrival.what, What::DeadLetter(_))
    }

    fn is_outcome(arrival: &Arrival) -> bool {
        matches!(arrival.what, What::Outcome(_))
    }

    #[test]
    fn the_whole_story_is_as_it_should_be() {
        let verdict = judged(&all());
        assert_eq!(verdict.faults, [""; 0]);
        assert_eq!(
            verdict.tally,
            "7 requests: 5 published (5 SMS, 2 emails), 1 rejected, 1 dead-lettered; nothing lost, nothing twice"
        );
    }

    #[rstest]
    #[case::sms(is_sms, "Asha registers: the SMS to 9876501001 is missing")]
    #[case::email(is_email, "Bala logs in: the email to bala@example.org is missing")]
    #[case::letter(is_letter, "Half a request comes in: 0 dead letters instead of 1")]
    #[case::outcome(is_outcome, "Asha registers: the outcome is missing")]
    fn what_is_lost_is_named(#[case] lost: fn(&Arrival) -> bool, #[case] fault: &str) {
        let mut arrivals = all();
        arrivals.remove(arrivals.iter().position(lost).unwrap());
        let verdict = judged(&arrivals);
        assert_eq!(verdict.faults, [fault]);
        assert!(verdict.tally.ends_with("; not as it should be"));
    }

    #[rstest]
    #[case::sms(is_sms, "Asha registers: 2 SMS to 9876501001 instead of one")]
    #[case::email(is_email, "Bala logs in: 2 email to bala@example.org instead of one")]
    #[case::letter(is_letter, "Half a request comes in: 2 dead letters instead of 1")]
    #[case::outcome(is_outcome, "Asha registers: 2 outcomes instead of one")]
    fn what_comes_twice_is_named(#[case] twice: fn(&Arrival) -> bool, #[case] fault: &str) {
        let mut arrivals = all();
        arrivals.push(arrivals.iter().find(|a| twice(a)).unwrap().clone());
        assert_eq!(judged(&arrivals).faults, [fault]);
    }

    #[rstest]
    #[case::to_another(|sms: &mut Sms| sms.mobile_number = "9876599999".to_owned(), "went elsewhere")]
    #[case::in_other_words(|sms: &mut Sms| sms.message = OTP.to_owned(), "has another text")]
    #[case::without_otp(|sms: &mut Sms| sms.message = "Registration".to_owned(), "has no OTP of egov-otp's")]
    fn what_is_wrong_with_a_message_is_named(#[case] spoil: fn(&mut Sms), #[case] problem: &str) {
        let mut arrivals = all();
        let sms = arrivals
            .iter_mut()
            .find_map(|arrival| match &mut arrival.what {
                What::Sms(sms) => Some(sms),
                What::Email(_)
                | What::Retry(_)
                | What::DeadLetter(_)
                | What::Outcome(_)
                | What::Unreadable => None,
            });
        spoil(sms.unwrap());
        let fault = format!("Asha registers: the SMS to 9876501001 {problem}");
        assert_eq!(judged(&arrivals).faults, [fault]);
    }

    #[test]
    fn a_message_to_somebody_who_was_refused_is_named() {
        let mut arrivals = all();
        let mut stray = arrivals.iter().find(|a| is_sms(a)).unwrap().clone();
        stray.event = "demo-4".to_owned();
        arrivals.push(stray);
        let fault = "Somebody unknown logs in: 1 SMS that nobody asked for";
        assert_eq!(judged(&arrivals).faults, [fault]);
    }

    #[test]
    fn a_record_of_no_request_is_named() {
        let mut arrivals = all();
        let mut stray = arrivals[0].clone();
        stray.event = "another".to_owned();
        arrivals.push(stray);
        let fault = "the record out-0-7 belongs to no request";
        assert_eq!(judged(&arrivals).faults, [fault]);
    }

    #[test]
    fn a_scene_is_complete_when_its_last_record_is_there() {
        for scene in scenes() {
            let arrivals = all_of(&scene);
            for missing in 0..arrivals.len() {
                let mut some = arrivals.clone();
                some.remove(missing);
                assert!(!is_complete(&scene, &some), "{}", scene.title);
            }
            assert!(is_complete(&scene, &arrivals), "{}", scene.title);
        }
    }
}
