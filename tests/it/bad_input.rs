//! Whatever stands on the request topic has a defined end, and the next request works.

use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::json;
use user_otp::egov::Service;
use user_otp::egov::standin::RulesOf;

use crate::failures::assert_letter;
use crate::kafka::{Draft, Record};
use crate::request::Request;
use crate::world::{Outcome, Setup, World, now};

/// Every test's next person.
fn mobile() -> String {
    static PEOPLE: AtomicU32 = AtomicU32::new(30_000);
    format!("98765{}", PEOPLE.fetch_add(1, Ordering::Relaxed))
}

/// The otp of a good request, as text, with `more` members at its end.
fn otp(mobile: &str, more: &str) -> String {
    format!(r#"{{"mobileNumber":"{mobile}","tenantId":"pb.amritsar","type":"register"{more}}}"#)
}

/// Publishes it, compares its end (`outcome/disposition/code/stage`), and plays a good request.
#[track_caller]
fn check(world: &World, name: &str, draft: Draft, expected: &str) -> Outcome {
    let before = now();
    let letters = world.dead_letters().len();
    let sms = world.sms().len();
    let place = world.publish(&draft.header("otp-event-id", name));
    let outcome = world.wait_for_outcome(name);
    assert_eq!(outcome.summary(), expected, "{name}");
    let dead = expected.starts_with("dead-lettered");
    assert_eq!(
        world.dead_letters().len(),
        letters + usize::from(dead),
        "{name}: dead letters"
    );
    assert_eq!(
        world.sms().len(),
        sms + usize::from(expected == "published"),
        "{name}: SMS"
    );
    if dead {
        let asked = world.kafka.read(&world.topics.requests);
        let asked = asked
            .iter()
            .find(|one| (one.partition, one.offset) == (place.partition, place.offset));
        assert_dead_letter(
            world,
            name,
            asked.expect("it was published"),
            before,
            expected,
        );
    }
    world.assert_works(&mobile(), &format!("after-{name}"));
    outcome
}

/// The dead letter of an event: the record byte for byte, and why.
#[track_caller]
fn assert_dead_letter(world: &World, name: &str, asked: &Record, before: i64, expected: &str) {
    let letters = world.dead_letters();
    let letter = letters
        .iter()
        .find(|letter| letter.header("otp-event-id") == Some(name));
    let letter = letter.unwrap_or_else(|| panic!("{name}: no dead letter"));
    assert!(
        letter.key == asked.key && letter.value == asked.value,
        "{name}: not byte for byte"
    );
    assert_letter(world, letter, asked, before);
    let words = ["otp-disposition", "otp-error-code", "otp-error-stage"]
        .map(|header| letter.header(header).unwrap_or_default());
    assert_eq!(
        format!("dead-lettered/{}", words.join("/")),
        expected,
        "{name}"
    );
    let ours = ["otp-", "__dlq.errors.", "traceparent", "x-correlation-id"];
    let kept = asked
        .headers
        .iter()
        .filter(|(name, _)| !ours.iter().any(|ours| name.starts_with(ours)));
    for header in kept {
        assert!(
            letter.headers.contains(header),
            "{name}: header {} is lost",
            header.0
        );
    }
}

#[test]
fn what_cannot_be_read_is_a_dead_letter_as_it_came() {
    const NOT_JSON: &str = "dead-lettered/poison/not-json/decode";
    const WRONG_SHAPE: &str = "dead-lettered/poison/wrong-shape/decode";
    let world = World::new();
    let _process = world.start("a");
    let poison = |name: &str, value: &[u8], expected: &str| {
        let draft = Draft::of(value)
            .key(b"\xffkey\x00".as_slice())
            .header("x-upstream", b"\xff\x00".as_slice());
        check(&world, name, draft, expected);
    };
    let deep = 100_000;
    poison("empty", b"", "dead-lettered/poison/empty-value/decode");
    poison(
        "not-utf8",
        b"{\"otp\": \"\xff\xfe\"}",
        "dead-lettered/poison/not-utf8/decode",
    );
    poison(
        "binary",
        &[0, 159, 146, 150],
        "dead-lettered/poison/not-utf8/decode",
    );
    poison("text", b"hello", NOT_JSON);
    poison("half", b"{\"otp\": {\"mobileNumber\": \"98765", NOT_JSON);
    poison("two", b"{} {}", NOT_JSON);
    poison("nan", b"{\"otp\": NaN}", NOT_JSON);
    poison("blank", b"  \n ", NOT_JSON);
    poison("array", b"[]", WRONG_SHAPE);
    poison("string", b"\"otp\"", WRONG_SHAPE);
    poison("number", b"42", WRONG_SHAPE);
    poison("json-nil", b"null", WRONG_SHAPE);
    poison("no-otp", b"{}", WRONG_SHAPE);
    poison("otp-null", b"{\"otp\": null}", WRONG_SHAPE);
    poison("otp-empty", b"{\"otp\": {\"other\": 1}}", WRONG_SHAPE);
    poison(
        "connect",
        br#"{"schema":{"type":"string"},"payload":{"otp":{"tenantId":"pb"}}}"#,
        WRONG_SHAPE,
    );
    poison(
        "debezium",
        br#"{"before":null,"after":{"tenantId":"pb"},"op":"c"}"#,
        WRONG_SHAPE,
    );
    poison(
        "cloud-event",
        br#"{"specversion":"1.0","type":"t","data":{"otp":{}}}"#,
        WRONG_SHAPE,
    );
    poison("text-json", br#""{\"otp\":{}}""#, WRONG_SHAPE);
    poison("registry", b"\0\0\0\0\x01{\"otp\":{}}", NOT_JSON);
    poison("otp-array", b"{\"otp\": []}", WRONG_SHAPE);
    poison("otp-text", b"{\"otp\": \"register\"}", WRONG_SHAPE);
    poison(
        "number-object",
        br#"{"otp": {"mobileNumber": {}, "tenantId": "pb"}}"#,
        WRONG_SHAPE,
    );
    poison(
        "tenant-array",
        br#"{"otp": {"mobileNumber": "9876539999", "tenantId": ["pb"]}}"#,
        WRONG_SHAPE,
    );
    poison("deep-open", "[".repeat(deep).as_bytes(), NOT_JSON);
    poison(
        "deep-array",
        format!("{}{}", "[".repeat(deep), "]".repeat(deep)).as_bytes(),
        WRONG_SHAPE,
    );
    let nested = format!("{}1{}", r#"{"a":"#.repeat(deep), "}".repeat(deep));
    poison(
        "deep-number",
        format!(r#"{{"otp":{{"tenantId":"pb","mobileNumber":{nested}}}}}"#).as_bytes(),
        WRONG_SHAPE,
    );
    check(
        &world,
        "null",
        Draft::default(),
        "dead-lettered/poison/empty-value/decode",
    );
    world.wait_for_no_lag();
}

#[test]
fn what_can_be_read_is_taken_as_the_platform_takes_it() {
    let world = World::new();
    let _process = world.start("a");
    let good = |name: &str, body: String| drop(check(&world, name, Draft::of(body), "published"));
    good("bom", format!("\u{feff}{{\"otp\":{}}}", otp(&mobile(), "")));
    good(
        "spaces",
        format!(" \n\t{{ \"otp\" : {} }} \r\n", otp(&mobile(), "")),
    );
    good(
        "unknown",
        format!(
            r#"{{"otp":{},"more":[1,{{"x":null}}]}}"#,
            otp(&mobile(), r#","more":{}"#)
        ),
    );
    good(
        "as-number",
        format!(
            r#"{{"otp":{{"mobileNumber":{},"tenantId":"pb"}}}}"#,
            mobile()
        ),
    );
    good(
        "no-type",
        format!(
            r#"{{"otp":{{"mobileNumber":"{}","tenantId":"pb","type":null}}}}"#,
            mobile()
        ),
    );
    good(
        "upper-case",
        format!(
            r#"{{"otp":{{"mobileNumber":"{}","tenantId":"pb","type":"REGISTER"}}}}"#,
            mobile()
        ),
    );
    for (name, info) in [
        ("info-null", "null"),
        ("info-array", "[1]"),
        ("info-text", "\"x\""),
        ("info-number", "1e999"),
    ] {
        good(
            name,
            format!(r#"{{"RequestInfo":{info},"otp":{}}}"#, otp(&mobile(), "")),
        );
    }
    let odd = r#"{"msgId":{"a":[]},"ts":-1,"authToken":42,"userInfo":"x","ver":[]}"#;
    good(
        "info-odd",
        format!(r#"{{"requestInfo":{odd},"otp":{}}}"#, otp(&mobile(), "")),
    );
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    good(
        "deep-unknown",
        format!(r#"{{"more":{deep},"otp":{}}}"#, otp(&mobile(), "")),
    );
    // Of duplicate keys the last one counts, as in Jackson.
    let (first, last) = (mobile(), mobile());
    good(
        "duplicate-number",
        format!(
            r#"{{"otp":{}}}"#,
            otp(&first, &format!(r#","mobileNumber":"{last}""#))
        ),
    );
    assert_eq!(
        (
            world.egov.otp_of(&first).len(),
            world.egov.otp_of(&last).len()
        ),
        (0, 1)
    );
    let (first, last) = (mobile(), mobile());
    good(
        "duplicate-otp",
        format!(r#"{{"otp":{},"otp":{}}}"#, otp(&first, ""), otp(&last, "")),
    );
    assert_eq!(
        (
            world.egov.otp_of(&first).len(),
            world.egov.otp_of(&last).len()
        ),
        (0, 1)
    );
    world.wait_for_no_lag();
}

#[test]
fn what_the_rules_refuse_is_rejected_with_the_platforms_code() {
    let world = World::new();
    let _process = world.start("a");
    let rejected = |name: &str, body: &str, code: &str| {
        let outcome = check(&world, name, Draft::of(body), &format!("rejected/{code}"));
        // What a stranger wrote where a tenant belongs is not passed on.
        assert!(
            ["", "pb", "pb.amritsar"].contains(&outcome.word("tenantId").as_str()),
            "{name}"
        );
    };
    let of_tenant = |tenant: &str| {
        let otp =
            json!({"otp": {"mobileNumber": "9876539998", "tenantId": tenant, "type": "register"}});
        otp.to_string()
    };
    rejected(
        "no-number",
        r#"{"otp":{"tenantId":"pb","type":"login"}}"#,
        "OTP.MOBILE_NUMBER_MANDATORY",
    );
    rejected(
        "type",
        r#"{"otp":{"tenantId":"pb","mobileNumber":"9876539998","type":"delete"}}"#,
        "OTP.REQUEST_TYPE_MANDATORY",
    );
    let long = "p".repeat(300);
    let parts = vec!["pb"; 200].join(".");
    for (name, tenant) in [
        ("tenant-slash", "pb/../x"),
        ("tenant-space", "pb amritsar"),
        ("tenant-dots", "pb..x"),
        ("tenant-dot", "."),
        ("tenant-nul", "pb\u{0}"),
        ("tenant-hindi", "पंजाब"),
        ("tenant-newline", "pb\n"),
        ("tenant-long", &long),
        ("tenant-many", &parts),
    ] {
        rejected(name, &of_tenant(tenant), "OTP.TENANT_ID_INVALID");
    }
    let failed = "OTP.MOBILE_NUMBER_VALIDATION_FAILED";
    let of_number = |number: &str| {
        json!({"otp": {"mobileNumber": number, "tenantId": "pb", "type": "passwordreset"}})
            .to_string()
    };
    let megabyte = "9".repeat(1_000_000);
    for (name, number) in [
        ("letters", "98765abcde"),
        ("script", "<script>"),
        ("digits-of-another-script", "९८७६५४३२१०"),
        ("newline", "9876539998\n"),
        ("twenty-one", "987653999898765399989"),
        ("a-megabyte", &megabyte),
    ] {
        // A password reset skips the pattern, but not the bounds.
        rejected(name, &of_number(number), failed);
    }
    rejected(
        "a-megabyte-of-digits",
        &format!(r#"{{"otp":{{"mobileNumber":{megabyte},"tenantId":"pb"}}}}"#),
        failed,
    );
    let code =
        json!({"otp": {"mobileNumber": "9876539998", "tenantId": "pb", "countryCode": "+91;DROP"}});
    rejected("country-code", &code.to_string(), failed);
    assert_eq!(world.dead_letters().len(), 0);
    assert_eq!(world.egov.otp_of("9876539998"), Vec::<String>::new());
    world.wait_for_no_lag();
}

#[test]
fn a_hostile_rule_hangs_nobody_and_a_broken_one_rejects() {
    let failed = "rejected/OTP.MOBILE_NUMBER_VALIDATION_FAILED";
    let rules = [
        ("nested", "^(([0-9]+)+)+!$", failed),
        ("backtracking", "^(?=((([0-9]+)+)+)+!)[0-9]+$", failed),
        ("back-reference", r"^(([0-9])\2*)*!$", failed),
        ("unclosed", "^[6-9", failed),
        ("huge", "^([0-9]{1,1000}){1,1000}$", ""),
        ("java", "^(?!98)[6-9]\\d++$", failed),
        ("good", "^[6-9][0-9]{9}$", "published"),
    ];
    let world = World::new();
    let url = world.egov.url();
    let _process = {
        let mut process = world.spawn_with("a", &[("MDMS__URL", &url)]);
        process.wait_ready();
        process
    };
    for (name, pattern, expected) in rules {
        // Rules are cached by state: a state each.
        let tenant = format!("s_{}.city", name.replace('-', "_"));
        let state = tenant.split('.').next().unwrap_or_default().to_owned();
        let entries = Some(vec![
            json!({"countryCode": "+91", "mobileNumberRegex": pattern, "default": true}),
        ]);
        world.egov.set_rules(RulesOf {
            tenant_id: state,
            entries,
        });
        let id = format!("rule-{name}");
        let body =
            json!({"otp": {"mobileNumber": "9876538888", "tenantId": tenant, "type": "register"}});
        world.publish(&Draft::of(body.to_string()).header("otp-event-id", id.as_bytes()));
        let outcome = world.wait_for_outcome(&id);
        if expected.is_empty() {
            assert!(
                ["published", "rejected"].contains(&outcome.word("outcome").as_str()),
                "{name}"
            );
        } else {
            assert_eq!(outcome.summary(), expected, "{name}");
        }
        world.assert_works(&mobile(), &format!("after-{id}"));
    }
    world.wait_for_no_lag();
}

#[test]
fn a_hostile_locale_is_the_default_one() {
    let world = World::new();
    let _process = world.start("a");
    let long = "x".repeat(10_000);
    for (name, locale) in [
        ("path", "../../admin"),
        ("query", "en_IN&tenantId=dl"),
        ("fragment", "en_IN#"),
        ("nul", "\u{0}"),
        ("newline", "en_IN\r\nX-Evil: 1"),
        ("case", "EN_in"),
        ("long", &long),
    ] {
        let (number, id) = (mobile(), format!("locale-{name}"));
        let body = json!({
            "RequestInfo": {"msgId": format!("1|{locale}")},
            "otp": {"mobileNumber": number, "tenantId": "pb", "type": "register"},
        });
        check(&world, &id, Draft::of(body.to_string()), "published");
    }
    let asked = world
        .egov
        .journal()
        .into_iter()
        .filter(|call| call.service == Service::Texts);
    let locales: Vec<_> = asked.map(|call| (call.tenant, call.locale)).collect();
    assert!(!locales.is_empty());
    let default = (Some("pb".to_owned()), Some("en_IN".to_owned()));
    assert!(
        locales.iter().all(|locale| *locale == default),
        "{locales:?}"
    );
}

#[test]
fn a_record_as_large_as_the_broker_takes_has_its_end_too() {
    let world = World::new();
    let _process = world.start("a");
    // The topic's limit is 1,048,588 bytes for a batch, its own header, key and headers included.
    let room = 1_048_588 - 400;
    check(
        &world,
        "large-junk",
        Draft::of(vec![b'x'; room]),
        "dead-lettered/poison/not-json/decode",
    );
    check(
        &world,
        "large-binary",
        Draft::of(vec![0xff; room]),
        "dead-lettered/poison/not-utf8/decode",
    );
    let start = format!(r#"{{"otp":{},"more":""#, otp(&mobile(), ""));
    let body = format!("{start}{}\"}}", "x".repeat(room - start.len() - 2));
    check(&world, "large-good", Draft::of(body), "published");
    let key = Draft::of(format!(r#"{{"otp":{}}}"#, otp(&mobile(), ""))).key(vec![b'k'; room - 200]);
    check(&world, "large-key", key, "published");
    let headers = Draft::of("junk").header("x-large", vec![b'h'; room - 200]);
    check(
        &world,
        "large-header",
        headers,
        "dead-lettered/poison/not-json/decode",
    );
    world.wait_for_no_lag();
}

#[test]
fn headers_of_ours_from_outside_steer_nothing() {
    let world = World::new();
    let _process = world.start("a");
    let forged = |draft: Draft| {
        draft
            .header("otp-attempt", "99")
            .header("otp-charged", "true")
            .header("otp-source", "elsewhere-7-7")
            .header("otp-received-ms", "1")
            .header("otp-disposition", "refused")
            .header("otp-error-code", "forged")
            .header("otp-error-stage", "forged")
            .header("otp-first-failed-ms", "1")
            .header("otp-failed-ms", "1")
            .header("otp-replay-id", "forged")
            .header("otp-replay-count", "1000000")
            .header("otp-tenant", "forged")
            .header("otp-deadline-ms", "not a number")
            .header("__dlq.errors.topic", "forged")
            .header("__TypeId__", "org.egov.Forged")
            .header("x-kept", "kept")
    };
    let number = mobile();
    let before = now();
    let draft = forged(Draft::of(format!(r#"{{"otp":{}}}"#, otp(&number, ""))));
    let outcome = check(&world, "forged", draft, "published");
    assert_eq!(outcome.get("attempts"), 1);
    assert_eq!(outcome.word("replayId"), "");
    assert_eq!(
        outcome.word("source"),
        format!(
            "{}-{}-{}",
            world.topics.requests,
            outcome.get("partition"),
            outcome.get("offset")
        )
    );
    assert!(outcome.moment("receivedAtMs") >= before);
    let sms = world.sms();
    let sms = sms
        .iter()
        .find(|sms| sms.header("otp-event-id") == Some("forged"))
        .expect("an SMS");
    assert_eq!(sms.header_names(), ["otp-event-id"]);

    // A dead letter has our headers once each, and none of theirs.
    check(
        &world,
        "forged-unread",
        forged(Draft::of("junk")),
        "dead-lettered/poison/not-json/decode",
    );
    let letters = world.dead_letters();
    let letter = letters
        .iter()
        .find(|letter| letter.header("otp-event-id") == Some("forged-unread"))
        .expect("a letter");
    assert_eq!(letter.header("otp-attempt"), None);
    assert_eq!(
        (
            letter.header("otp-replay-id"),
            letter.header("otp-replay-count")
        ),
        (None, None)
    );
    assert_eq!(letter.header("otp-tenant"), None);
    assert_eq!(letter.header("x-kept"), Some("kept"));
}

#[test]
fn an_event_id_that_cannot_be_used_is_replaced() {
    let world = World::new();
    let _process = world.start("a");
    let number = mobile();
    let long = "x".repeat(129);
    let ids: [(&str, Option<&[u8]>); 6] = [
        ("none", None),
        ("empty", Some(b"")),
        ("binary", Some(b"\xff\xfe")),
        ("control", Some(b"a\nb")),
        ("not-ascii", Some("é".as_bytes())),
        ("long", Some(long.as_bytes())),
    ];
    for (name, id) in ids {
        let draft = Draft::of(format!(r#"{{"otp":{}}}"#, otp(&mobile(), "")));
        let draft = match id {
            Some(id) => draft.header("otp-event-id", id),
            None => draft,
        };
        let place = world.publish(&draft);
        let position = format!(
            "{}-{}-{}",
            world.topics.requests, place.partition, place.offset
        );
        let outcome = world.wait_for_outcome(&position);
        assert_eq!(
            (outcome.summary().as_str(), outcome.event_id()),
            ("published", position),
            "{name}"
        );
    }
    // One with the request's number in it is replaced by a hash.
    let draft = Draft::of(format!(r#"{{"otp":{}}}"#, otp(&number, "")));
    let draft = draft
        .header("otp-event-id", format!("otp-{number}"))
        .header("x-correlation-id", number.as_str());
    let place = world.publish(&draft);
    let outcomes = world.wait_for_outcomes(7);
    let outcome = outcomes.iter().find(|one| {
        (one.get("partition"), one.get("offset")) == (place.partition.into(), place.offset.into())
    });
    let outcome = outcome.expect("the last one's outcome");
    assert_eq!(outcome.summary(), "published");
    assert!(!outcome.0.text().contains(&number) && !outcome.0.key_text().contains(&number));
    let sms = world.sms();
    let sms = sms
        .iter()
        .find(|sms| sms.header("otp-event-id") == Some(&outcome.event_id()))
        .expect("an SMS");
    let told = |value: &Option<Vec<u8>>| {
        value
            .as_deref()
            .is_some_and(|value| value.windows(10).any(|part| part == number.as_bytes()))
    };
    assert!(
        !sms.headers.iter().any(|(_, value)| told(value)),
        "a header of ours has the number"
    );
    let calls = world.egov.journal();
    assert!(
        !calls
            .iter()
            .any(|call| call.correlation_id.as_deref() == Some(&number)),
        "a call's header has the number"
    );
}

#[test]
fn binary_repeated_and_huge_headers_are_carried_along() {
    let world = World::with(Setup {
        partitions: 1,
        ..Setup::default()
    });
    let _process = world.start("a");
    let mut draft = Draft::of("junk")
        .header("x-binary", (0..=255).collect::<Vec<u8>>())
        .header("", "nameless");
    draft.headers.push(("x-null".to_owned(), None));
    for number in 0..200 {
        draft = draft.header("x-repeated", format!("{number}"));
    }
    draft = draft
        .header("x-huge", vec![7; 500_000])
        .header("traceparent", b"\xff".as_slice());
    check(
        &world,
        "headers-unread",
        draft.clone(),
        "dead-lettered/poison/not-json/decode",
    );
    let letters = world.dead_letters();
    let repeated: Vec<_> = letters[0]
        .headers
        .iter()
        .filter(|(name, _)| name == "x-repeated")
        .cloned()
        .collect();
    assert_eq!(repeated.len(), 200, "each of them, in order");
    assert!(
        repeated
            .iter()
            .enumerate()
            .all(|(n, (_, value))| value.as_deref() == Some(n.to_string().as_bytes()))
    );
    draft.value = Some(format!(r#"{{"otp":{}}}"#, otp(&mobile(), "")).into_bytes());
    check(&world, "headers-good", draft, "published");
    // Of a header of ours that is repeated one counts, whichever: there is one outcome.
    let request = Request::register(&mobile());
    let place = world.publish(
        &request
            .draft()
            .header("otp-event-id", "one")
            .header("otp-event-id", "two"),
    );
    let mut found = None;
    crate::kafka::wait_until("it has its outcome", || {
        found = world
            .outcomes()
            .into_iter()
            .find(|one| one.get("offset") == place.offset);
        found.is_some()
    });
    assert_eq!(
        found.map(|outcome| outcome.summary()).as_deref(),
        Some("published")
    );
}
