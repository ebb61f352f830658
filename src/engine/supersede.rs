//! Requests of one person that end together: after an outage each citizen gets one message, not six.
//!
//! ```text
//! lane:  head ─ equal ─ equal ─ other ─ equal          the head has its OTP, late
//!        └───── one result ────┘  next    …            one published, two superseded
//! ```
//!
//! A head that has waited longer than `engine.supersede_after` takes along what waits directly behind
//! it, asks for the same, and came from the same partition in the same assignment, so that all of it is
//! committed, or dropped, as one. A retry also takes those that wait beside it for their time: else who
//! asked six times while few others did would have six retries, and six messages. The one that lives longest is published, so that the message is good
//! for as long as any of them. Only a head with its OTP takes others along, and only while it can be
//! published: else each has an end of its own. So no request is cancelled by another that never reached
//! the citizen.
//!
//! One message is one charge: what waited was not charged, since nothing was done for it; where some
//! were, in an earlier try, all but one get it back.

use std::time::Duration;

use super::output::{Outgoing, Writer};
use super::record::Request;
use super::state::{State, Ticket};
use crate::clock::EpochMs;
use crate::limits::Charge;
use crate::outcome::{Disposition, Failure, Outcome, Setback};

/// A request that has its result, and those that end with it.
#[derive(Debug)]
pub struct Group {
    published: Ticket,
    superseded: Vec<Ticket>,
}

impl Group {
    /// A request by itself.
    #[must_use]
    pub fn alone(ticket: Ticket) -> Self {
        Self {
            published: ticket,
            superseded: Vec::new(),
        }
    }

    /// A head that has its OTP, with those behind it that end with it; none where `after` is zero.
    #[must_use]
    pub fn gather(head: Ticket, state: &mut State, after: Duration, now: EpochMs) -> Self {
        let mut group = Self::alone(head);
        let waited = group.published.request.envelope.received.age(now);
        if after.is_zero() || waited <= after {
            return group;
        }
        let head = &group.published;
        for mut next in state.take_behind(head, |next| is_same(&head.request, next)) {
            if deadline(&next) >= deadline(&group.published) {
                std::mem::swap(&mut next, &mut group.published);
            }
            group.superseded.push(next);
        }
        group
    }

    /// The one that stands for all: whose deadline is the latest, the last of several.
    #[must_use]
    pub fn published(&self) -> &Ticket {
        &self.published
    }

    /// All of them.
    pub fn tickets(&self) -> impl Iterator<Item = &Ticket> {
        std::iter::once(&self.published).chain(&self.superseded)
    }

    /// The others.
    #[must_use]
    pub fn superseded(&self) -> &[Ticket] {
        &self.superseded
    }

    /// What the sending limits get back once it is published: all that was charged but one.
    pub fn spare_charges(&self) -> impl Iterator<Item = &Charge> {
        let charges = self
            .tickets()
            .map(|ticket| &ticket.request.envelope.context.charge);
        charges.filter(|charge| charge.is_done()).skip(1)
    }

    /// Everything that is to be written for `outcome`, at `now`.
    #[must_use]
    pub fn write(&self, writer: &Writer, outcome: &Outcome, now: EpochMs) -> Vec<Outgoing> {
        let mut records = writer.write(&self.published.request, outcome, now);
        let superseded = self.superseded.iter();
        records.extend(superseded.map(|one| writer.superseded(&one.request, now)));
        records
    }

    /// It cannot be published after all: what each of them ends with, by itself from now on, in the order
    /// in which they came.
    #[must_use]
    pub fn apart(self, end: Instead) -> Vec<(Self, Outcome)> {
        let others = self.superseded.into_iter();
        let mut each: Vec<_> = others.map(|one| (one, end.of_others())).collect();
        each.push((self.published, end.own()));
        each.sort_by_key(|(ticket, _)| ticket.request.record.position.offset);
        each.into_iter()
            .map(|(ticket, outcome)| (Self::alone(ticket), outcome))
            .collect()
    }
}

/// What a request ends with, when it cannot be published.
#[derive(Debug, Clone, Copy)]
pub enum Instead {
    /// On the dead-letter topic.
    DeadLettered(Failure),
    /// On a retry topic.
    Retried(Setback),
}

impl Instead {
    fn own(self) -> Outcome {
        match self {
            Self::DeadLettered(failure) => Outcome::DeadLettered(failure),
            Self::Retried(setback) => Outcome::Retried(setback),
        }
    }

    /// Whose deadline is no later is as late. What was refused to one was not tried for the others:
    /// each has its own try.
    fn of_others(self) -> Outcome {
        match self {
            Self::DeadLettered(Failure {
                disposition: Disposition::Poison | Disposition::Refused,
                code,
                stage,
            }) => Outcome::Retried(Setback {
                code,
                stage,
                retry_after: None,
            }),
            Self::DeadLettered(Failure {
                disposition: Disposition::Expired,
                ..
            })
            | Self::Retried(_) => self.own(),
        }
    }
}

fn deadline(ticket: &Ticket) -> EpochMs {
    ticket.request.envelope.context.deadline
}

fn is_same(head: &Request, other: &Request) -> bool {
    match (&head.submission, &other.submission) {
        (Ok(head), Ok(other)) => head.asks_the_same(other),
        (Ok(_) | Err(_), _) => false,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::HashMap;

    use rstest::rstest;

    use super::*;
    use crate::clock::Uptime;
    use crate::engine::offsets::Tracker;
    use crate::engine::output::{EXPIRED, tests::writer};
    use crate::engine::record::{Header, Origin, Position, Reading, Record};
    use crate::engine::state::{Admission, Bounds, Partition};
    use crate::notification::Sms;
    use crate::outcome::{Code, Published, Stage};

    pub(in crate::engine) const NOW: EpochMs = EpochMs(10_000_000);
    pub(in crate::engine) const AFTER: Duration = Duration::from_secs(2);
    /// Longer ago than that.
    pub(in crate::engine) const LATE: i64 = NOW.0 - 2_001;
    pub(in crate::engine) const LIFETIME: Duration = Duration::from_secs(300);
    pub(in crate::engine) const SAME: &str =
        r#"{"otp":{"mobileNumber":"9876543210","tenantId":"pb","type":"login"}}"#;

    /// A lane whose head is being handled, on one partition.
    pub(in crate::engine) struct Lane {
        pub(in crate::engine) state: State,
        pub(in crate::engine) partition: Partition,
        head: Option<Ticket>,
        offsets: i64,
    }

    impl Lane {
        pub(in crate::engine) fn new() -> Self {
            let mut lane = Self {
                state: State::new(bounds()),
                partition: partition(0),
                head: None,
                offsets: 0,
            };
            lane.assign(0);
            lane
        }

        /// From here on requests come from this partition, in a new assignment.
        fn assign(&mut self, number: i32) {
            self.assign_as(number, Origin::Requests);
        }

        fn assign_as(&mut self, number: i32, origin: Origin) {
            self.partition = partition(number);
            let (partition, tracker) = (self.partition.clone(), Tracker::foreign(0, 0));
            self.state.assign(partition, origin, tracker);
        }

        /// A request of this time.
        pub(in crate::engine) fn ask(&mut self, value: &str, time: i64, deadline: Option<i64>) {
            let (number, offset) = (self.partition.number, self.offsets);
            self.offsets += 1;
            let time = Some(EpochMs(time));
            let epoch = self
                .state
                .deliver(&self.partition, offset, time, NOW)
                .expect("ours");
            let deadline = deadline.map(|ms| Header {
                name: "otp-deadline-ms".to_owned(),
                value: Some(ms.to_string().into_bytes()),
            });
            let record = Record {
                position: Position {
                    topic: self.partition.topic.clone(),
                    partition: number,
                    offset,
                },
                timestamp: time,
                key: None,
                value: Some(value.as_bytes().to_vec()),
                headers: deadline.into_iter().collect(),
            };
            let reading = Reading {
                lifetime: LIFETIME,
                accepted: "accepted".into(),
            };
            let request = Request::read(record, Origin::Requests, NOW, &reading);
            match self.state.admit(request, epoch, NOW, Uptime::default()) {
                Admission::Start(ticket) => self.head = Some(ticket),
                Admission::Waits | Admission::LaneFull(_) => {}
            }
        }

        pub(in crate::engine) fn gather(&mut self, after: Duration) -> Group {
            let head = self.head.take().expect("a head");
            Group::gather(head, &mut self.state, after, NOW)
        }
    }

    pub(in crate::engine) fn bounds() -> Bounds {
        Bounds {
            window: 100,
            window_bytes: 100_000,
            lane: 100,
            jobs: 100,
            parked: 100,
            waiting_bytes: 1_000_000,
            lifetime: LIFETIME,
        }
    }

    fn partition(number: i32) -> Partition {
        Partition {
            topic: "requests".into(),
            number,
        }
    }

    pub(in crate::engine) fn published(expires: EpochMs) -> Outcome {
        use crate::domain::contact::MobileNumber;
        Outcome::Published(Published {
            sms: Sms {
                topic: "sms".to_owned(),
                key: "key".to_owned(),
                to: MobileNumber::stored("1".to_owned()).expect("a number"),
                text: "text".to_owned(),
                country_code: None,
                expires,
            },
            email: None,
            code: None,
            probe: None,
        })
    }

    /// Topic, offset of the request, and a word of the value of each record.
    pub(in crate::engine) fn shown(records: &[Outgoing], word: &str) -> Vec<String> {
        let show = |record: &Outgoing| {
            let id = &record.headers[0].value.clone().unwrap_or_default();
            let id = String::from_utf8_lossy(id).into_owned();
            let value: serde_json::Value =
                serde_json::from_slice(record.value.as_deref().unwrap_or_default()).expect("JSON");
            format!("{} {id} {}", record.topic, value[word])
        };
        records.iter().map(show).collect()
    }

    #[test]
    fn the_last_of_them_is_published_and_lends_its_deadline() {
        let mut lane = Lane::new();
        for second in 0..3 {
            lane.ask(SAME, LATE + second * 1_000, None);
        }
        let group = lane.gather(AFTER);
        let lane_id = group.published().lane;
        assert!(lane.state.handled(lane_id).is_none(), "nobody is left");
        let last = EpochMs(LATE + 2_000).plus(LIFETIME);
        let records = group.write(&writer(), &published(EpochMs(i64::MAX)), NOW);
        assert_eq!(
            shown(&records, "outcome"),
            [
                "sms requests-0-2 null",
                "outcomes requests-0-2 \"published\"",
                "outcomes requests-0-0 \"superseded\"",
                "outcomes requests-0-1 \"superseded\"",
            ]
        );
        assert_eq!(
            shown(&records[..1], "expiryTime"),
            [format!("sms requests-0-2 {}", last.0)]
        );

        // One result: all of their offsets, and all of their places.
        assert_eq!(lane.state.open(), 3);
        let commits = lane.state.commits(group.tickets());
        assert_eq!(commits[0].tag.commit_point, 3);
        lane.state.committed(commits, group.tickets());
        assert_eq!((lane.state.open(), lane.state.room()), (0, 100));
    }

    #[rstest]
    #[case::equal(SAME, 1)]
    #[case::another_type(&SAME.replace("login", "register"), 0)]
    #[case::a_user_type(&SAME.replace("login\"", "login\",\"userType\":\"CITIZEN\""), 0)]
    #[case::a_country_code(&SAME.replace("login\"", "login\",\"countryCode\":\"+91\""), 0)]
    #[case::a_locale(&SAME.replace("{\"otp\"", "{\"RequestInfo\":{\"msgId\":\"1|hi_IN\"},\"otp\""), 0)]
    fn what_differs_stays_apart(#[case] other: &str, #[case] superseded: usize) {
        let mut lane = Lane::new();
        lane.ask(SAME, LATE, None);
        lane.ask(other, LATE, None);
        lane.ask(other, LATE, None);
        let group = lane.gather(AFTER);
        assert_eq!(group.superseded().len(), 2 * superseded);
        let next = lane.state.handled(group.published().lane);
        assert_eq!(next.is_some(), superseded == 0, "it has its own turn");
    }

    #[test]
    fn nobody_joins_past_one_that_differs() {
        let mut lane = Lane::new();
        let other = SAME.replace("login", "register");
        for value in [SAME, SAME, &other, SAME] {
            lane.ask(value, LATE, None);
        }
        let group = lane.gather(AFTER);
        assert_eq!(group.published().request.record.position.offset, 1);
        let next = lane
            .state
            .handled(group.published().lane)
            .expect("the other");
        assert_eq!(next.request.record.position.offset, 2);
    }

    #[test]
    fn retries_that_wait_for_their_time_join_one_of_their_partition() {
        let mut lane = Lane::new();
        lane.assign_as(0, Origin::Retry(AFTER));
        lane.ask(SAME, LATE, None);
        let other = SAME.replace("login", "register");
        for value in [&other, SAME, SAME] {
            lane.ask(value, NOW.0, None);
        }
        let group = lane.gather(AFTER);
        assert_eq!(group.published().request.record.position.offset, 3);
        assert_eq!(group.superseded().len(), 2);
        let parked = |lane: &Lane| lane.state.gauges(&HashMap::new(), NOW).parked;
        assert_eq!(
            (parked(&lane), lane.state.open(), lane.state.room()),
            (1, 3, 97)
        );

        let commits = lane.state.commits(group.tickets());
        lane.state.committed(commits, group.tickets());
        assert_eq!((lane.state.open(), lane.state.room()), (0, 100));
        assert_eq!(parked(&lane), 1, "the one that differs has its own turn");
    }

    #[rstest]
    #[case::late(LATE, AFTER, 1)]
    #[case::not_late(LATE + 1, AFTER, 0)]
    #[case::off(LATE, Duration::ZERO, 0)]
    fn only_a_head_that_waited_takes_others_along(
        #[case] time: i64,
        #[case] after: Duration,
        #[case] superseded: usize,
    ) {
        let mut lane = Lane::new();
        lane.ask(SAME, time, None);
        lane.ask(SAME, time, None);
        assert_eq!(lane.gather(after).superseded().len(), superseded);
    }

    #[rstest]
    #[case::another_partition(1)]
    #[case::another_assignment(0)]
    fn what_came_otherwise_stays_apart(#[case] number: i32) {
        let mut lane = Lane::new();
        lane.ask(SAME, LATE, None);
        lane.assign(number);
        lane.ask(SAME, LATE, None);
        let group = lane.gather(AFTER);
        assert_eq!(group.superseded().len(), 0);
    }

    #[test]
    fn the_latest_deadline_is_published_wherever_it_stands() {
        let mut lane = Lane::new();
        for left in [20_000, 60_000, 40_000] {
            lane.ask(SAME, LATE, Some(NOW.0 + left));
        }
        let group = lane.gather(AFTER);
        assert_eq!(group.published().request.record.position.offset, 1);
        assert_eq!(group.superseded().len(), 2);
    }

    #[rstest]
    #[case::expired(
        Instead::DeadLettered(EXPIRED),
        "dead-lettered deadline-near",
        "dead-lettered deadline-near"
    )]
    #[case::refused(
        Instead::DeadLettered(Failure {
            disposition: Disposition::Refused,
            code: Code::OutputTooLarge,
            stage: Stage::Publish,
        }),
        "dead-lettered output-too-large",
        "retried output-too-large"
    )]
    #[case::away(
        Instead::Retried(Setback {
            code: Code::OutputTopicUnavailable,
            stage: Stage::Publish,
            retry_after: None,
        }),
        "retried output-topic-unavailable",
        "retried output-topic-unavailable"
    )]
    fn each_has_its_own_end_when_it_cannot_be_published(
        #[case] end: Instead,
        #[case] own: &str,
        #[case] other: &str,
    ) {
        let mut lane = Lane::new();
        for _ in 0..3 {
            lane.ask(SAME, LATE, None);
        }
        let ends: Vec<_> =
            lane.gather(AFTER)
                .apart(end)
                .into_iter()
                .map(|(group, outcome)| {
                    assert_eq!(group.superseded().len(), 0);
                    let (word, code) = match outcome {
                        Outcome::DeadLettered(failure) => ("dead-lettered", failure.code),
                        Outcome::Retried(setback) => ("retried", setback.code),
                        other @ (Outcome::Published(_)
                        | Outcome::Rejected(_)
                        | Outcome::Limited(_)) => panic!("{other:?}"),
                    };
                    let offset = group.published().request.record.position.offset;
                    format!("{offset} {word} {}", code.as_str())
                })
                .collect();
        assert_eq!(
            ends,
            [
                format!("0 {other}"),
                format!("1 {other}"),
                format!("2 {own}")
            ]
        );
    }

    #[rstest]
    #[case::none(&[], &[])]
    #[case::the_head_as_it_is(&[0], &[])]
    #[case::two_of_an_earlier_try(&[0, 1], &[1])]
    #[case::all(&[0, 1, 2], &[0, 1])]
    fn one_charge_stands(#[case] charged: &[i64], #[case] spare: &[i64]) {
        let mut lane = Lane::new();
        for _ in 0..3 {
            lane.ask(SAME, LATE, None);
        }
        let group = lane.gather(AFTER);
        for ticket in group.tickets() {
            if charged.contains(&ticket.request.record.position.offset) {
                ticket.request.envelope.context.charge.mark();
            }
        }
        let given_back: Vec<_> = group
            .spare_charges()
            .filter_map(|charge| {
                group
                    .tickets()
                    .find(|one| std::ptr::eq(&one.request.envelope.context.charge, charge))
                    .map(|one| one.request.record.position.offset)
            })
            .collect();
        assert_eq!(given_back, spare);
    }
}
