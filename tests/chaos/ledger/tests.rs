//! An account that finds nothing is worth what it would find.

use rstest::rstest;

use super::*;
use crate::people::Kind;

const PROMISE: Promise = Promise {
    lifetime: 90_000,
    min_life: 10_000,
    first_delay: 1_000,
    limit: 2,
};
const START: i64 = 1_700_000_000_000;

/// A ledger of one person, and what was seen of them.
struct Case {
    ledger: Ledger,
    person: Person,
    offset: i64,
}

fn number(_: u32) -> String {
    "9876500001".to_owned()
}

fn wish(expect: Expect) -> Wish {
    Wish {
        kind: Kind::Login,
        expect,
        after: 0,
        life: None,
        locale: Some("hi_IN"),
    }
}

impl Case {
    fn new() -> Self {
        Self {
            ledger: Ledger::new(PROMISE, number),
            person: Person {
                number: number(0),
                tenant: "pb.amritsar",
                registered: true,
                email: false,
                wishes: Vec::new(),
            },
            offset: 0,
        }
    }

    fn published(&mut self, expect: Expect) -> u32 {
        let id = self
            .ledger
            .enter((0, &self.person), &wish(expect), Door::Stream, START);
        self.ledger.in_log(id, (0, i64::from(id)));
        id
    }

    fn posted(&mut self, entry: Entry) -> u32 {
        let id = self
            .ledger
            .enter((0, &self.person), &wish(Expect::Sms), Door::Http, START);
        self.ledger.answered(id, entry);
        id
    }

    fn read(&mut self, role: Role, id: u32, time: i64, value: &str) {
        self.offset += 1;
        let seen = Seen {
            partition: 0,
            offset: self.offset,
            time,
            value: Some(value.as_bytes()),
        };
        self.ledger.read(role, Some(id), &seen);
    }

    fn outcome(&mut self, id: u32, outcome: &str, disposition: &str, finished: i64) {
        let value = serde_json::json!({"outcome": outcome, "disposition": disposition, "attempts": 1,
            "receivedAtMs": START, "finishedAtMs": finished});
        self.read(Role::Outcome, id, finished, &value.to_string());
    }

    /// Published, by an instance that received it then.
    fn outcome_received(&mut self, id: u32, received: i64) {
        let value = serde_json::json!({"outcome": "published", "attempts": 1, "receivedAtMs": received,
            "finishedAtMs": received});
        self.read(Role::Outcome, id, received, &value.to_string());
    }

    fn sms(&mut self, id: u32, otp: &str, time: i64) {
        let value = serde_json::json!({"mobileNumber": number(0), "expiryTime": START + 60_000,
            "message": format!("Chaos login hi_IN {otp}.")});
        self.read(Role::Sms, id, time, &value.to_string());
    }

    /// Published, with its SMS.
    fn served(&mut self, id: u32, otp: &str) {
        self.sms(id, otp, START + 100);
        self.outcome(id, "published", "", START + 100);
    }
}

#[rstest]
#[case::served(|case: &mut Case| { let id = case.published(Expect::Sms); case.served(id, "000001"); }, &[])]
#[case::rejected(|case: &mut Case| { let id = case.published(Expect::Rejection); case.outcome(id, "rejected", "", START); }, &[])]
#[case::no_outcome(|case: &mut Case| { case.published(Expect::Sms); }, &["one final outcome"])]
#[case::two_outcomes(|case: &mut Case| {
    let id = case.published(Expect::Rejection);
    case.outcome(id, "rejected", "", START);
    case.outcome(id, "rejected", "", START);
}, &["one final outcome", "one final outcome"])]
#[case::two_sms(|case: &mut Case| {
    let id = case.published(Expect::Sms);
    case.served(id, "000001");
    case.sms(id, "000002", START);
}, &["published once"])]
#[case::no_sms(|case: &mut Case| {
    let id = case.published(Expect::Sms);
    case.outcome(id, "published", "", START);
}, &["published once"])]
#[case::an_sms_without_outcome(|case: &mut Case| { let id = case.posted(Entry::Unknown); case.sms(id, "000001", START); },
    &["published once"])]
#[case::written_twice_and_served_twice(|case: &mut Case| {
    let id = case.published(Expect::Sms);
    for otp in ["000001", "000002"] {
        case.read(Role::Request, id, START, "{}");
        case.served(id, otp);
    }
}, &[])]
#[case::written_twice_and_served_once(|case: &mut Case| {
    let id = case.published(Expect::Sms);
    case.read(Role::Request, id, START, "{}");
    case.read(Role::Request, id, START, "{}");
    case.served(id, "000001");
}, &["one final outcome"])]
#[case::an_email_that_nobody_has(|case: &mut Case| {
    let id = case.published(Expect::Sms);
    case.served(id, "000001");
    case.read(Role::Email, id, START, "{}");
}, &["published once"])]
#[case::an_otp_twice(|case: &mut Case| {
    for _ in 0..2 {
        let id = case.published(Expect::Sms);
        case.served(id, "000001");
    }
}, &["its own message"])]
#[case::another_text(|case: &mut Case| {
    let id = case.published(Expect::Sms);
    case.read(Role::Sms, id, START, r#"{"mobileNumber": "9876500001", "message": "Dear Citizen, Your Login OTP is 000001."}"#);
    case.outcome(id, "published", "", START);
}, &["its own message"])]
#[case::another_number(|case: &mut Case| {
    let id = case.published(Expect::Sms);
    case.read(Role::Sms, id, START, r#"{"mobileNumber": "9876500002", "message": "Chaos login hi_IN 000001."}"#);
    case.outcome(id, "published", "", START);
}, &["its own message"])]
#[case::rejected_by_an_outage(|case: &mut Case| {
    let id = case.published(Expect::Sms);
    case.outcome(id, "rejected", "", START);
}, &["no outage decides"])]
#[case::published_to_a_stranger(|case: &mut Case| { let id = case.published(Expect::Rejection); case.served(id, "000001"); },
    &["no outage decides"])]
#[case::refused_by_an_outage(|case: &mut Case| {
    let id = case.published(Expect::Sms);
    case.outcome(id, "dead-lettered", "refused", START);
    case.read(Role::DeadLetter, id, START, "{}");
}, &["no outage decides"])]
#[case::limited_without_reason(|case: &mut Case| { let id = case.published(Expect::Sms); case.outcome(id, "limited", "", START); },
    &["no outage decides"])]
#[case::the_third_is_limited(|case: &mut Case| {
    for otp in ["000001", "000002"] {
        let id = case.published(Expect::Sms);
        case.served(id, otp);
    }
    let id = case.published(Expect::Sms);
    case.outcome(id, "limited", "", START);
}, &[])]
#[case::superseded(|case: &mut Case| {
    let (first, second) = (case.published(Expect::Sms), case.published(Expect::Sms));
    case.outcome(first, "superseded", "", START);
    case.served(second, "000001");
}, &[])]
#[case::superseded_by_a_copy(|case: &mut Case| {
    let (first, second) = (case.published(Expect::Sms), case.published(Expect::Sms));
    (0..2).for_each(|_| { case.read(Role::Request, second, START, ""); });
    case.outcome(first, "superseded", "", START);
    case.served(second, "000001");
    case.outcome(second, "superseded", "", START);
}, &[])]
#[case::superseded_by_nobody(|case: &mut Case| {
    let id = case.published(Expect::Sms);
    case.outcome(id, "superseded", "", START);
}, &["no outage decides"])]
#[case::sent_late(|case: &mut Case| {
    let id = case.published(Expect::Sms);
    case.sms(id, "000001", START + 90_001);
    case.outcome(id, "published", "", START + 100);
}, &["never late"])]
#[case::expired_in_time(|case: &mut Case| {
    let id = case.published(Expect::Sms);
    case.outcome(id, "dead-lettered", "expired", START + 80_000);
    case.read(Role::DeadLetter, id, START, "{}");
}, &[])]
#[case::expired_early(|case: &mut Case| {
    let id = case.published(Expect::Sms);
    case.outcome(id, "dead-lettered", "expired", START + 50_000);
    case.read(Role::DeadLetter, id, START, "{}");
}, &["never early"])]
#[case::expired_without_letter(|case: &mut Case| {
    let id = case.published(Expect::Sms);
    case.outcome(id, "dead-lettered", "expired", START + 85_000);
}, &["one dead letter"])]
#[case::poison_kept(|case: &mut Case| {
    let id = (0..=3).map(|_| case.published(Expect::Poison)).last().expect("four");
    case.outcome(id, "dead-lettered", "poison", START);
    case.read(Role::DeadLetter, id, START, "{\"otp\": {\"type\": ");
}, &["one final outcome"; 3])]
#[case::poison_changed(|case: &mut Case| {
    let id = (0..=3).map(|_| case.published(Expect::Poison)).last().expect("four");
    case.outcome(id, "dead-lettered", "poison", START);
    case.read(Role::DeadLetter, id, START, "{\"otp\": {\"type\":");
}, &["poison is kept", "one final outcome", "one final outcome", "one final outcome"])]
#[case::out_of_order(|case: &mut Case| {
    let (first, second) = (case.published(Expect::Sms), case.published(Expect::Sms));
    case.served(second, "000001");
    case.served(first, "000002");
}, &["in order"])]
#[case::created_and_nothing_came(|case: &mut Case| { case.posted(Entry::Created); }, &["one final outcome"])]
#[case::created(|case: &mut Case| { let id = case.posted(Entry::Created); case.served(id, "000001"); }, &[])]
#[case::withdrawn_and_sent(|case: &mut Case| { let id = case.posted(Entry::Withdrawn); case.served(id, "000001"); },
    &["nothing of what was refused"])]
#[case::withdrawn_and_handed_over(|case: &mut Case| {
    let id = case.posted(Entry::Withdrawn);
    case.read(Role::Accepted, id, START, "{}");
    case.served(id, "000001");
}, &["nothing of what was refused"])]
#[case::unconfirmed(|case: &mut Case| { let id = case.posted(Entry::Unconfirmed); case.served(id, "000001"); }, &[])]
#[case::no_answer(|case: &mut Case| { case.posted(Entry::Unknown); }, &[])]
#[case::handed_over_and_forgotten(|case: &mut Case| {
    let id = case.posted(Entry::Unknown);
    case.read(Role::Accepted, id, START, "{}");
}, &["one final outcome"])]
#[case::deleted_before_it_was_read(|case: &mut Case| {
    let id = case.published(Expect::Sms);
    case.ledger.log_is_deleted(&[(id, 0, 7)], &BTreeMap::from([(0, 7)]));
}, &[])]
#[case::deleted_after_it_was_read(|case: &mut Case| {
    let id = case.published(Expect::Sms);
    case.ledger.log_is_deleted(&[(id, 0, 7)], &BTreeMap::from([(0, 8)]));
}, &["one final outcome"])]
#[case::deleted_and_served(|case: &mut Case| {
    let id = case.published(Expect::Sms);
    case.ledger.log_is_deleted(&[(id, 0, 7)], &BTreeMap::from([(0, 7)]));
    case.served(id, "000001");
}, &[])]
#[case::deleted_and_served_twice(|case: &mut Case| {
    let id = case.published(Expect::Sms);
    case.ledger.log_is_deleted(&[(id, 0, 7)], &BTreeMap::from([(0, 7)]));
    case.served(id, "000001");
    case.served(id, "000002");
}, &["one final outcome", "one final outcome"])]
#[case::written_twice_and_deleted_once_unread(|case: &mut Case| {
    let id = case.published(Expect::Sms);
    case.ledger.log_is_deleted(&[(id, 0, 7), (id, 0, 8)], &BTreeMap::from([(0, 8)]));
    case.served(id, "000001");
}, &[])]
#[case::in_order_over_two_logs(|case: &mut Case| {
    let first = case.published(Expect::Sms);
    case.ledger.in_log(first, (0, 7));
    case.ledger.log_is_deleted(&[(first, 0, 7)], &BTreeMap::from([(0, 8)]));
    let second = case.published(Expect::Sms);
    case.ledger.in_log(second, (0, 0));
    case.served(first, "000001");
    case.served(second, "000002");
}, &[])]
#[case::late_by_a_shifted_clock(|case: &mut Case| {
    case.ledger.clock_is_shifted(START + 80_000, 3_000);
    let id = case.published(Expect::Sms);
    case.sms(id, "000001", START + 92_000);
    case.outcome(id, "published", "", START + 92_000);
}, &[])]
#[case::received_before_it_was_sent(|case: &mut Case| {
    let id = case.published(Expect::Sms);
    case.sms(id, "000001", START);
    case.outcome_received(id, START - 1);
}, &["outcomes can be read"])]
#[case::received_by_a_clock_that_is_behind(|case: &mut Case| {
    case.ledger.clock_is_shifted(START - 1_000, -3_000);
    let id = case.published(Expect::Sms);
    case.sms(id, "000001", START - 2_000);
    case.outcome_received(id, START - 2_000);
}, &[])]
#[case::late_by_more_than_it_was_shifted(|case: &mut Case| {
    case.ledger.clock_is_shifted(START + 80_000, -3_000);
    let id = case.published(Expect::Sms);
    case.sms(id, "000001", START + 93_001);
    case.outcome(id, "published", "", START + 92_000);
}, &["never late"])]
#[case::late_and_the_clock_had_been_right_again(|case: &mut Case| {
    case.ledger.clock_is_shifted(START - 20_000, 3_000);
    case.ledger.clock_is_shifted(START - 10_000, 0);
    let id = case.published(Expect::Sms);
    case.sms(id, "000001", START + 90_001);
    case.outcome(id, "published", "", START + 90_001);
}, &["never late"])]
#[case::refused_over_http(|case: &mut Case| { case.posted(Entry::Rejected); }, &["no outage decides"])]
#[case::a_defect(|case: &mut Case| { case.posted(Entry::Failed); }, &["no outage decides"])]
fn what_is_found(#[case] story: fn(&mut Case), #[case] promises: &[&str]) {
    let mut case = Case::new();
    story(&mut case);
    let breaches = case.ledger.breaches();
    let found: Vec<_> = breaches.iter().map(|breach| breach.promise).collect();
    assert_eq!(found, promises, "{breaches:?}");
}

#[test]
fn a_request_that_nobody_made_is_found() {
    let mut case = Case::new();
    case.read(Role::Sms, 7, START, "{}");
    assert_eq!(case.ledger.breaches()[0].promise, "nothing unasked");
}
