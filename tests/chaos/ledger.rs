//! The account of every request: what was asked, what was answered, what an independent reader
//! saw of it; [`verdict`] says whether that is what was promised. Pure.

mod shifts;
mod verdict;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashSet};

use serde_json::Value;

use self::shifts::Shifts;
use crate::people::{Expect, Person, Wish, poison};

/// What the instances were told.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Promise {
    /// `request.lifetime`, in milliseconds, as all times here.
    pub(crate) lifetime: i64,
    /// `request.min_life`.
    pub(crate) min_life: i64,
    /// The first of `retry.delays`.
    pub(crate) first_delay: i64,
    /// `limits.number_type_count`; no person asks so often that another limit counts.
    pub(crate) limit: usize,
}

/// How a request came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Door {
    Stream,
    Http,
}

/// What became of a request on its way in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Entry {
    /// Not known yet, or never: no answer came.
    Unknown,
    /// It is in the log.
    InLog,
    /// 201.
    Created,
    /// 400.
    Rejected,
    /// 429.
    Limited,
    /// 503, and not sent.
    Withdrawn,
    /// 503, and it may still arrive.
    Unconfirmed,
    /// Nobody listened.
    NotAsked,
    /// Any other status.
    Failed,
}

/// A topic's part in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Request,
    Outcome,
    Sms,
    Email,
    DeadLetter,
    Accepted,
}

/// A record that was read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen<'a> {
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) time: i64,
    pub(crate) value: Option<&'a [u8]>,
}

/// What does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Breach {
    pub(crate) request: u32,
    pub(crate) promise: &'static str,
    pub(crate) detail: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Final {
    Published,
    Rejected,
    Limited,
    Superseded,
    Poison,
    Expired,
    Other,
}

#[derive(Debug)]
struct Request {
    person: u32,
    wish: Wish,
    email: bool,
    door: Door,
    sent: i64,
    entry: Entry,
    /// Where it is in the log: the partition, how often the topic had been created again, and the offset.
    place: (i32, u32, i64),
    /// How often it is in the log.
    copies: u8,
    /// How often it was in a log that has been deleted.
    deleted: u8,
    /// How often it was in one, at or above the committed offset: it may have had no outcome yet.
    unread: u8,
    outcomes: u8,
    outcome: Option<Final>,
    published: u8,
    email_left_out: bool,
    retried: bool,
    received: i64,
    finished: i64,
    sms: u8,
    sms_place: (i32, i64),
    sms_time: i64,
    sms_expires: i64,
    emails: u8,
    letters: u8,
    accepted: u8,
}

impl Request {
    fn deadline(&self, promise: &Promise) -> i64 {
        let received = if self.received == 0 {
            self.sent
        } else {
            self.received
        };
        let whole = received + promise.lifetime;
        self.wish.life.map_or(whole, |life| {
            whole.min(self.sent + i64::try_from(life).unwrap_or(i64::MAX))
        })
    }

    /// How many outcomes it is to have. Where a broker has forgotten the load's producer, that one sends
    /// again what is there already, and each record is a request of its own to the service.
    fn records(&self) -> u8 {
        self.copies.saturating_add(self.deleted).max(1)
    }

    /// How many outcomes it must have at least: what was deleted unread is owed none.
    fn owed(&self) -> u8 {
        if self.is_owed() {
            self.records().saturating_sub(self.unread)
        } else {
            0
        }
    }

    /// Whether it must have an outcome.
    fn is_owed(&self) -> bool {
        matches!(self.entry, Entry::InLog | Entry::Created) || self.accepted > 0
    }

    /// Whether anything at all may be written for it.
    fn is_possible(&self) -> bool {
        matches!(
            self.entry,
            Entry::InLog | Entry::Created | Entry::Unknown | Entry::Unconfirmed
        )
    }
}

/// All requests of a run.
#[derive(Debug)]
pub(crate) struct Ledger {
    promise: Promise,
    requests: Vec<Request>,
    /// Each person's requests, in the order in which they were made.
    people: BTreeMap<u32, Vec<u32>>,
    numbers: fn(u32) -> String,
    otps: Vec<bool>,
    /// Breaches that only the record itself shows.
    seen: Vec<Breach>,
    strangers: usize,
    /// How often the request topic has been created again.
    logs: u32,
    shifts: Shifts,
}

impl Ledger {
    /// `numbers` tells each person's number.
    pub(crate) fn new(promise: Promise, numbers: fn(u32) -> String) -> Self {
        Self {
            promise,
            requests: Vec::new(),
            people: BTreeMap::new(),
            numbers,
            otps: vec![false; 1_000_000],
            seen: Vec::new(),
            strangers: 0,
            logs: 0,
            shifts: Shifts::default(),
        }
    }

    /// Enters a request that is about to be made at `now`; its number is its id from then on.
    pub(crate) fn enter(
        &mut self,
        person: (u32, &Person),
        wish: &Wish,
        door: Door,
        now: i64,
    ) -> u32 {
        let request = u32::try_from(self.requests.len()).expect("fewer requests");
        self.people.entry(person.0).or_default().push(request);
        self.requests.push(Request {
            person: person.0,
            wish: *wish,
            email: person.1.email && person.1.registered,
            door,
            sent: now,
            entry: Entry::Unknown,
            place: (0, 0, 0),
            copies: 0,
            deleted: 0,
            unread: 0,
            outcomes: 0,
            outcome: None,
            published: 0,
            email_left_out: false,
            retried: false,
            received: 0,
            finished: 0,
            sms: 0,
            sms_place: (0, 0),
            sms_time: 0,
            sms_expires: 0,
            emails: 0,
            letters: 0,
            accepted: 0,
        });
        request
    }

    pub(crate) fn in_log(&mut self, request: u32, (partition, offset): (i32, i64)) {
        let request = &mut self.requests[request as usize];
        request.entry = Entry::InLog;
        request.place = (partition, self.logs, offset);
    }

    /// The request topic is about to be deleted and created again, while nobody writes to it. `records` are
    /// all that it holds: the request of each, its partition and offset. What is at or above a partition's
    /// `committed` offset may have no outcome yet, and will have none if it has not.
    pub(crate) fn log_is_deleted(
        &mut self,
        records: &[(u32, i32, i64)],
        committed: &BTreeMap<i32, i64>,
    ) {
        self.logs += 1;
        for (id, partition, offset) in records {
            let Some(request) = self.requests.get_mut(*id as usize) else {
                continue;
            };
            request.deleted = request.deleted.saturating_add(1);
            let committed = committed.get(partition).copied().unwrap_or(0);
            if *offset >= committed {
                request.unread = request.unread.saturating_add(1);
            }
        }
    }

    /// From `now` on an instance's clock differs by so many milliseconds; 0: it is right again.
    pub(crate) fn clock_is_shifted(&mut self, now: i64, by: i64) {
        self.shifts.set(now, by);
    }

    pub(crate) fn answered(&mut self, request: u32, entry: Entry) {
        self.requests[request as usize].entry = entry;
    }

    /// Everything that was read is read again: what was asked and answered stays.
    pub(crate) fn read_again(&mut self) {
        for request in &mut self.requests {
            (request.outcomes, request.sms, request.emails) = (0, 0, 0);
            (request.letters, request.accepted) = (0, 0);
            (request.copies, request.published) = (0, 0);
            request.outcome = None;
        }
        self.otps.fill(false);
        self.seen.clear();
        self.strangers = 0;
    }

    /// Takes a record with the id of a request; true: a request has its outcome.
    pub(crate) fn read(&mut self, role: Role, id: Option<u32>, record: &Seen<'_>) -> bool {
        let Some((id, index)) = id
            .and_then(|id| Some((id, usize::try_from(id).ok()?)))
            .filter(|(_, index)| *index < self.requests.len())
        else {
            self.strangers += 1;
            return false;
        };
        let request = &mut self.requests[index];
        match role {
            Role::Request => request.copies = request.copies.saturating_add(1),
            Role::Outcome => {
                request.outcomes = request.outcomes.saturating_add(1);
                let slack = self.shifts.slack(request.sent, record.time);
                if let Err(detail) = outcome(request, record, slack) {
                    self.breach(id, "outcomes can be read", detail);
                }
                return true;
            }
            Role::Sms => {
                request.sms = request.sms.saturating_add(1);
                request.sms_place = (record.partition, record.offset);
                request.sms_time = record.time;
                let number = (self.numbers)(request.person);
                let text = request.wish.text();
                match sms(record, &number, &text) {
                    Ok((otp, expires)) => {
                        request.sms_expires = expires;
                        if std::mem::replace(&mut self.otps[otp], true) {
                            self.breach(
                                id,
                                "its own message",
                                "its OTP went out before".to_owned(),
                            );
                        }
                    }
                    Err(detail) => self.breach(id, "its own message", detail.to_owned()),
                }
            }
            Role::Email => request.emails = request.emails.saturating_add(1),
            Role::Accepted => request.accepted = request.accepted.saturating_add(1),
            Role::DeadLetter => {
                request.letters = request.letters.saturating_add(1);
                let is_poison = request.wish.expect == Expect::Poison;
                if is_poison
                    && poison(id).as_deref().unwrap_or_default() != record.value.unwrap_or_default()
                {
                    self.breach(id, "poison is kept", "its value is another".to_owned());
                }
            }
        }
        false
    }

    fn breach(&mut self, request: u32, promise: &'static str, detail: String) {
        self.seen.push(Breach {
            request,
            promise,
            detail,
        });
    }

    /// What was asked, a line each.
    pub(crate) fn write_down(&self, out: &mut impl std::io::Write) -> std::io::Result<()> {
        for (id, request) in self.requests.iter().enumerate() {
            let Request {
                person,
                wish,
                door,
                sent,
                entry,
                place,
                ..
            } = request;
            let (kind, expect, life) = (wish.kind, wish.expect, wish.life);
            writeln!(
                out,
                "c-{id} {door:?} p-{person} {kind:?} {expect:?} {sent} {life:?} {entry:?} {place:?} {:?}",
                request.outcome
            )?;
        }
        Ok(())
    }

    /// Everybody's number.
    pub(crate) fn all_numbers(&self) -> HashSet<String> {
        self.people
            .keys()
            .map(|person| (self.numbers)(*person))
            .collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.requests.len()
    }

    /// Requests whose outcome is still to come.
    pub(crate) fn open(&self) -> usize {
        let open = |request: &&Request| request.outcomes < request.owed();
        self.requests.iter().filter(open).count()
    }

    /// The first of them.
    pub(crate) fn first_open(&self, most: usize) -> Vec<String> {
        let open = self.requests.iter().enumerate();
        open.filter(|(_, request)| request.outcomes < request.owed())
            .take(most)
            .map(|(id, request)| {
                format!(
                    "c-{id} {:?} {:?} at {:?}",
                    request.door, request.entry, request.place
                )
            })
            .collect()
    }

    /// Requests that have more than one outcome or SMS by now, for each time that they are in the log.
    pub(crate) fn twice(&self) -> usize {
        let twice = |request: &&Request| request.outcomes.max(request.sms) > request.records();
        self.requests.iter().filter(twice).count()
    }

    /// Requests that the load's own producer wrote more than once.
    pub(crate) fn copied(&self) -> usize {
        let copied = |request: &&Request| request.copies > 1;
        self.requests.iter().filter(copied).count()
    }

    /// Requests that were in the log when that was deleted, and had no outcome yet.
    pub(crate) fn deleted_unread(&self) -> usize {
        let unread =
            |request: &&Request| request.outcomes < request.records() && request.unread > 0;
        self.requests.iter().filter(unread).count()
    }

    /// How many there are of each end, by door.
    pub(crate) fn tally(&self) -> BTreeMap<(Door, Option<Final>, Entry), usize> {
        let mut tally = BTreeMap::new();
        for request in &self.requests {
            *tally
                .entry((request.door, request.outcome, request.entry))
                .or_default() += 1;
        }
        tally
    }

    /// Published requests that were retried, and handed over, and milliseconds from request to end:
    /// median, 99 of 100, most.
    pub(crate) fn life(&self) -> (usize, usize, [i64; 3]) {
        let published = || {
            self.requests
                .iter()
                .filter(|request| request.outcome == Some(Final::Published))
        };
        let mut times: Vec<i64> = published().map(|one| one.finished - one.sent).collect();
        times.sort_unstable();
        let at = |share: usize| times.get(times.len().saturating_sub(1) * share / 100);
        (
            published().filter(|one| one.retried).count(),
            self.requests.iter().filter(|one| one.accepted > 0).count(),
            [50, 99, 100].map(|share| at(share).copied().unwrap_or(0)),
        )
    }
}

fn outcome(request: &mut Request, record: &Seen<'_>, slack: i64) -> Result<(), String> {
    let value: Value = serde_json::from_slice(record.value.unwrap_or_default())
        .map_err(|error| format!("{:?} at {}", error.classify(), error.column()))?;
    let word = |name: &str| value[name].as_str().unwrap_or_default();
    let moment = |name: &str| value[name].as_i64().unwrap_or_default();
    request.outcome = Some(match (word("outcome"), word("disposition")) {
        ("published", _) => Final::Published,
        ("rejected", _) => Final::Rejected,
        ("limited", _) => Final::Limited,
        ("superseded", _) => Final::Superseded,
        ("dead-lettered", "poison") => Final::Poison,
        ("dead-lettered", "expired") => Final::Expired,
        _ => Final::Other,
    });
    request.published += u8::from(request.outcome == Some(Final::Published));
    request.email_left_out = word("code") == "email-topic-missing";
    request.retried = value["attempts"] != 1;
    request.received = moment("receivedAtMs");
    request.finished = moment("finishedAtMs");
    // Where no clock is shifted, this machine has one.
    if request.received + slack < request.sent {
        return Err("received before it was sent".to_owned());
    }
    // A record from the future counts as received now.
    if request.door == Door::Stream && (request.received - request.sent).abs() > slack {
        return Err("received at another time than its record's".to_owned());
    }
    Ok(())
}

/// The OTP, and when the message expires.
fn sms(record: &Seen<'_>, number: &str, text: &str) -> Result<(usize, i64), &'static str> {
    let value: Value = serde_json::from_slice(record.value.unwrap_or_default())
        .map_err(|_| "it cannot be read")?;
    if value["mobileNumber"] != *number {
        return Err("it is for another number");
    }
    let message = value["message"].as_str().unwrap_or_default();
    let otp = message
        .strip_prefix(text)
        .and_then(|rest| rest.strip_suffix('.'))
        .ok_or("it has another text")?;
    let otp = Some(otp)
        .filter(|otp| otp.len() == 6)
        .and_then(|otp| otp.parse().ok())
        .ok_or("it has no OTP")?;
    let expires = value["expiryTime"].as_i64().ok_or("it does not expire")?;
    Ok((otp, expires))
}
