//! Whether what was seen of each request is what was promised.
//!
//! | promise | what is looked at |
//! | --- | --- |
//! | one final outcome each | outcome records of a request that is in the log, or was answered 201 |
//! | nothing of what was refused | outcomes, SMS, emails and handed-over records of other answers |
//! | published once | one SMS, one email at most, for each `published`; none without |
//! | its own message | number, text and an OTP that no other SMS has |
//! | never late | the SMS record's time and its `expiryTime`, against the deadline |
//! | never early | the time of an `expired`, against the deadline |
//! | in order | the SMS of one person's requests of one partition, at their first try |
//! | no outage decides | rejections, limits, refusals and texts, against what had to come |
//! | poison is kept | one dead letter each, byte for byte |
//!
//! Where the load's own producer wrote a request twice, as an idempotent one does that a broker has
//! forgotten, each record is a request of its own to the service, and has an outcome of its own.
//!
//! A request that was in the request topic when that was deleted, at or above the committed offset, has
//! one outcome or none. Where the clock of an instance was shifted while a request was under way, its times
//! are held against what is promised with that much to spare.
//!
//! An SMS record's time is when its instance sent it into the transaction, and that is what the
//! service promises: it looks at the deadline before each send. When it can be read is the commit,
//! which may come later by as long as a transaction can stay open (30 s): nobody can see to that,
//! and the platform's consumer drops what is past its `expiryTime`. So that is held against the
//! deadline as well.

use super::{Breach, Entry, Final, Ledger, Request};
use crate::people::{Expect, Kind};

impl Ledger {
    /// What does not hold, once everything has its end.
    pub(crate) fn breaches(&self) -> Vec<Breach> {
        let mut found = self.seen.clone();
        if self.strangers > 0 {
            found.push(Breach {
                request: u32::MAX,
                promise: "nothing unasked",
                detail: format!("{} records of requests that nobody made", self.strangers),
            });
        }
        for (id, request) in self.requests.iter().enumerate() {
            let mut wrong = |promise, detail: String| {
                found.push(Breach {
                    request: u32::try_from(id).unwrap_or(u32::MAX),
                    promise,
                    detail: format!("{detail} ({:?}, {:?})", request.door, request.entry),
                });
            };
            self.check_counts(request, &mut wrong);
            self.check_decision(request, &mut wrong);
            self.check_times(request, &mut wrong);
        }
        self.check_order(&mut found);
        found
    }

    fn check_counts(&self, request: &Request, wrong: &mut impl FnMut(&'static str, String)) {
        let outside = request.outcomes < request.owed() || request.outcomes > request.records();
        if request.is_owed() && outside {
            wrong(
                "one final outcome",
                format!("{} outcomes", request.outcomes),
            );
        }
        if request.outcomes > request.records() || request.accepted > 1 {
            let counts = (request.outcomes, request.accepted);
            wrong(
                "one final outcome",
                format!("{counts:?} outcomes, handed over"),
            );
        }
        let written =
            u32::from(request.outcomes) + u32::from(request.sms) + u32::from(request.accepted);
        if !request.is_possible() && written > 0 {
            wrong("nothing of what was refused", format!("{written} records"));
        }
        if request.sms != request.published {
            wrong(
                "published once",
                format!("{} SMS, {:?}", request.sms, request.outcome),
            );
        }
        if request.records() > 1 {
            // Which of them ended how is not kept.
            return;
        }
        let published = request.outcome == Some(Final::Published);
        let addressed = request.email && request.wish.kind != Kind::Register;
        let emails = published && addressed && !request.email_left_out;
        if request.emails != u8::from(emails) {
            wrong(
                "published once",
                format!("{} emails, {:?}", request.emails, request.outcome),
            );
        }
        let letter = matches!(
            request.outcome,
            Some(Final::Poison | Final::Expired | Final::Other)
        );
        if request.letters != u8::from(letter) {
            wrong(
                "one dead letter",
                format!("{} letters, {:?}", request.letters, request.outcome),
            );
        }
    }

    fn check_decision(&self, request: &Request, wrong: &mut impl FnMut(&'static str, String)) {
        let expect = request.wish.expect;
        let right = match request.outcome {
            None | Some(Final::Expired) => true,
            Some(Final::Published) => expect == Expect::Sms,
            Some(Final::Rejected) => expect == Expect::Rejection,
            Some(Final::Poison) => expect == Expect::Poison,
            Some(Final::Limited) => self.is_over_limit(request),
            Some(Final::Superseded) => self.was_published_in_its_place(request),
            Some(Final::Other) => false,
        };
        if !right {
            wrong(
                "no outage decides",
                format!("{:?}, expected {expect:?}", request.outcome),
            );
        }
        let right = match request.entry {
            Entry::Rejected => expect == Expect::Rejection,
            Entry::Limited => self.is_over_limit(request),
            Entry::Failed => false,
            Entry::Unknown
            | Entry::InLog
            | Entry::Created
            | Entry::Withdrawn
            | Entry::Unconfirmed
            | Entry::NotAsked => true,
        };
        if !right {
            wrong(
                "no outage decides",
                format!("its answer, expected {expect:?}"),
            );
        }
    }

    fn check_times(&self, request: &Request, wrong: &mut impl FnMut(&'static str, String)) {
        let deadline = request.deadline(&self.promise);
        let ended = request.finished.max(request.sms_time);
        // Between a look at a clock and the next it may have been set.
        let slack = self.shifts.slack(request.sent, ended);
        if request.sms > 0 && request.sms_time > deadline + slack {
            wrong(
                "never late",
                format!("sent {} ms late", request.sms_time - deadline),
            );
        }
        if request.sms > 0 && request.sms_expires > deadline + slack {
            wrong(
                "never late",
                format!("expires {} ms late", request.sms_expires - deadline),
            );
        }
        // No tier leaves enough, and the clock that says so has milliseconds.
        let nearly = deadline - self.promise.min_life - self.promise.first_delay - 1;
        if request.outcome == Some(Final::Expired) && request.finished + slack < nearly {
            wrong(
                "never early",
                format!("expired {} ms early", nearly - request.finished),
            );
        }
    }

    fn alike<'a>(&'a self, request: &'a Request) -> impl Iterator<Item = &'a Request> {
        let all = self.people.get(&request.person).into_iter().flatten();
        all.map(|id| &self.requests[*id as usize])
            .filter(move |other| other.wish.kind == request.wish.kind)
    }

    fn is_over_limit(&self, request: &Request) -> bool {
        let records = self.alike(request).map(|one| usize::from(one.records()));
        records.sum::<usize>() > self.promise.limit
    }

    fn was_published_in_its_place(&self, request: &Request) -> bool {
        // Of one that the load has written twice, the last outcome is not all.
        self.alike(request).any(|other| other.published > 0)
    }

    fn check_order(&self, found: &mut Vec<Breach>) {
        for requests in self.people.values().filter(|requests| requests.len() > 1) {
            let mut sent: Vec<_> = requests
                .iter()
                .map(|id| (*id, &self.requests[*id as usize]))
                .filter(|(_, request)| {
                    let once = request.records() == 1 && !request.retried;
                    let ordered = request.entry == Entry::InLog && once;
                    ordered && request.outcome == Some(Final::Published) && request.sms == 1
                })
                .collect();
            sent.sort_by_key(|(_, request)| request.place);
            for pair in sent.windows(2) {
                let [(_, before), (id, after)] = pair else {
                    continue;
                };
                let one_partition = before.place.0 == after.place.0;
                if one_partition && before.sms_place >= after.sms_place {
                    found.push(Breach {
                        request: *id,
                        promise: "in order",
                        detail: format!("{:?} after {:?}", before.sms_place, after.sms_place),
                    });
                }
            }
        }
    }
}
