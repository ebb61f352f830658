//! What a request turns into: every row of the decision table, read back as bytes.

use user_otp::egov::Service;
use user_otp::egov::standin::{Text, User};

use crate::kafka::wait_until;
use crate::request::Request;
use crate::world::{Outcome, Setup, World, now};

/// What must be readable once a request has its outcome.
enum Expected<'a> {
    /// One SMS, and perhaps an email; `%s` stands for the OTP.
    Published {
        sms_to: &'a str,
        text: &'a str,
        email: Option<Email<'a>>,
    },
    /// Nothing but an outcome with this code.
    Rejected(&'a str),
}

struct Email<'a> {
    to: &'a str,
    subject: &'a str,
    body: &'a str,
}

#[test]
fn every_row_of_the_decision_table() {
    const REGISTER: &str = "Dear Citizen, Your OTP to complete your mSeva Registration is %s.";
    const LOGIN: &str = "Dear Citizen, Your Login OTP is %s.";
    const RESET: &str = "Dear Citizen, Your OTP for recovering password is %s.";
    const RESET_MAIL: &str = "Your OTP for recovering password is %s.";
    let world = World::new();
    world
        .egov
        .set_text(Text::new("en_IN", "email.login.otp.body", LOGIN));
    let _process = world.start("a");
    let citizen = |mobile: &str| User::citizen(mobile, "pb");
    let sms = |sms_to, text| Expected::Published {
        sms_to,
        text,
        email: None,
    };

    check(
        &world,
        "register-new",
        &Request::register("9876510001"),
        None,
        &sms("9876510001", REGISTER),
    );
    let known = citizen("9876510002").with_email(&world.address("register"));
    check(
        &world,
        "register-known",
        &Request::register("9876510002"),
        Some(known),
        &Expected::Rejected("OTP.MOBILENUMBER"),
    );
    check(
        &world,
        "login-unknown",
        &Request::login("9876510003"),
        None,
        &Expected::Rejected("OTP.UNKNOWN_CREDENTIAL"),
    );
    check(
        &world,
        "login",
        &Request::login("9876510004"),
        Some(citizen("9876510004")),
        &sms("9876510004", LOGIN),
    );
    let to = &world.address("login");
    let expected = Expected::Published {
        sms_to: "9876510005",
        text: LOGIN,
        email: Some(Email {
            to,
            subject: "Login OTP",
            body: LOGIN,
        }),
    };
    check(
        &world,
        "login-email",
        &Request::login("9876510005"),
        Some(citizen("9876510005").with_email(to)),
        &expected,
    );
    // A login goes to the number that was asked for, whatever is stored.
    let other = citizen("9876510006").storing(Some("9876519006"));
    check(
        &world,
        "login-other",
        &Request::login("9876510006"),
        Some(other),
        &sms("9876510006", LOGIN),
    );
    check(
        &world,
        "reset-unknown",
        &Request::password_reset("9876510007"),
        None,
        &Expected::Rejected("OTP.UNKNOWN_MOBILE_NUMBER"),
    );
    check(
        &world,
        "reset",
        &Request::password_reset("9876510008"),
        Some(citizen("9876510008")),
        &sms("9876510008", RESET),
    );
    // A password reset goes to the stored number, never to the one that was asked for.
    let to = &world.address("reset");
    let expected = Expected::Published {
        sms_to: "9876519009",
        text: RESET,
        email: Some(Email {
            to,
            subject: "Password Reset",
            body: RESET_MAIL,
        }),
    };
    let other = citizen("9876510009")
        .storing(Some("9876519009"))
        .with_email(to);
    check(
        &world,
        "reset-other",
        &Request::password_reset("9876510009"),
        Some(other),
        &expected,
    );
    let without = citizen("9876510010").storing(None);
    check(
        &world,
        "reset-without",
        &Request::password_reset("9876510010"),
        Some(without),
        &Expected::Rejected("OTP.MOBILE_NUMBER"),
    );

    assert_eq!(world.outcomes().len(), 10, "one outcome a request");
    assert_eq!(
        (world.sms().len(), world.emails().len()),
        (6, 2),
        "nothing else was sent"
    );
    assert_eq!(world.dead_letters().len(), 0);
    world.wait_for_no_lag();
}

/// Plays one request and compares everything that is readable afterwards, byte for byte.
#[track_caller]
fn check(world: &World, id: &str, request: &Request, user: Option<User>, expected: &Expected<'_>) {
    if let Some(user) = user {
        world.egov.add_user(user);
    }
    let before = now();
    let request = request.clone().id(id);
    let place = world.request(&request);
    let outcome = world.wait_for_outcome(id);
    assert!(outcome.moment("receivedAtMs") >= before, "{id}");
    let position = format!(
        "{}-{}-{}",
        world.topics.requests, place.partition, place.offset
    );
    let (word, code) = match expected {
        Expected::Published { .. } => ("published", "null".to_owned()),
        Expected::Rejected(code) => ("rejected", format!("\"{code}\"")),
    };
    assert_eq!(
        outcome.0.text(),
        format!(
            r#"{{"eventId":"{id}","outcome":"{word}","disposition":null,"code":{code},"stage":null,"tenantId":"{}","type":"{}","door":"stream","attempts":1,"receivedAtMs":{},"finishedAtMs":{},"source":"{position}","replayId":null,"topic":"{}","partition":{},"offset":{}}}"#,
            request.tenant,
            request.kind,
            outcome.moment("receivedAtMs"),
            outcome.moment("finishedAtMs"),
            world.topics.requests,
            place.partition,
            place.offset,
        )
    );
    match expected {
        Expected::Published {
            sms_to,
            text,
            email,
        } => {
            let otp = only_otp(world, &request.mobile);
            check_sms(
                world,
                &request,
                sms_to,
                &text.replace("%s", &otp),
                before,
                &outcome,
            );
            check_email(world, &request, email.as_ref(), &otp);
        }
        Expected::Rejected(_) => {
            assert_eq!(
                world.egov.otp_of(&request.mobile),
                Vec::<String>::new(),
                "{id}: an OTP was created"
            );
            assert_eq!(of_event(world.sms(), id).len(), 0, "{id}: an SMS was sent");
            assert_eq!(
                of_event(world.emails(), id).len(),
                0,
                "{id}: an email was sent"
            );
        }
    }
}

#[track_caller]
fn check_sms(
    world: &World,
    request: &Request,
    to: &str,
    text: &str,
    before: i64,
    outcome: &Outcome,
) {
    let id = request.event_id.as_deref().unwrap_or_default();
    let sms = of_event(world.sms(), id);
    assert_eq!(sms.len(), 1, "{id}: {sms:?}");
    let expiry = sms[0].json()["expiryTime"]
        .as_i64()
        .expect("an expiry in milliseconds");
    assert!(
        (before..=outcome.moment("finishedAtMs")).contains(&(expiry - 60_000)),
        "{id}: expires at {expiry}"
    );
    let country_code = request
        .country_code
        .map_or_else(|| "null".to_owned(), |code| format!("\"{code}\""));
    assert_eq!(
        sms[0].text(),
        format!(
            r#"{{"mobileNumber":"{to}","message":"{text}","category":"OTP","expiryTime":{expiry},"countryCode":{country_code}}}"#
        )
    );
    assert_eq!(
        sms[0].key_text(),
        format!("{}:{}", request.tenant, request.mobile)
    );
    assert_eq!(sms[0].header_names(), ["otp-event-id"], "{id}");
}

#[track_caller]
fn check_email(world: &World, request: &Request, expected: Option<&Email<'_>>, otp: &str) {
    let id = request.event_id.as_deref().unwrap_or_default();
    let emails = of_event(world.emails(), id);
    assert_eq!(
        emails.len(),
        usize::from(expected.is_some()),
        "{id}: {emails:?}"
    );
    let Some(Email { to, subject, body }) = expected else {
        return;
    };
    let body = body.replace("%s", otp);
    assert_eq!(
        emails[0].text(),
        format!(
            r#"{{"requestInfo":{{"apiId":null,"ver":null,"ts":null,"action":null,"did":null,"key":null,"msgId":null,"authToken":null,"correlationId":null,"plainAccessRequest":null,"userInfo":null}},"email":{{"emailTo":["{to}"],"subject":"{subject}","body":"{body}"}}}}"#
        )
    );
    assert_eq!(
        emails[0].key_text(),
        format!("{}:{}", request.tenant, request.mobile)
    );
    assert_eq!(emails[0].header_names(), ["otp-event-id"], "{id}");
}

#[test]
fn texts_are_in_the_locale_that_was_asked_for() {
    let world = World::new();
    let process = world.start("a");
    let message = |id: &str, mobile: &str, locale| {
        world
            .egov
            .add_user(User::citizen(mobile, "pb").with_email(&world.address(id)));
        world.request(&Request {
            locale,
            ..Request::login(mobile).id(id)
        });
        assert_eq!(world.wait_for_outcome(id).summary(), "published");
        let sms = of_event(world.sms(), id);
        let message = sms[0].json()["message"]
            .as_str()
            .expect("a text")
            .to_owned();
        message.replace(&only_otp(&world, mobile), "%s")
    };
    let english = "Dear Citizen, Your Login OTP is %s.";
    assert_eq!(
        message("hindi", "9876510101", Some("hi_IN")),
        "प्रिय नागरिक, आपका लॉगिन ओटीपी %s है।"
    );
    assert_eq!(message("english", "9876510102", Some("en_IN")), english);
    assert_eq!(message("none", "9876510103", None), english);
    assert_eq!(message("no-texts", "9876510104", Some("ta_IN")), english);
    // What a locale lacks comes from the default one: there is no email in Hindi.
    let email = of_event(world.emails(), "hindi");
    assert_eq!(email[0].json()["email"]["subject"], "Login OTP");
    // The text passes through unchanged but for the code.
    let odd = "100% <#> {0} #1 — “OTP” %d %s %s";
    world
        .egov
        .set_text(Text::new("mr_IN", "sms.login.otp.msg", odd));
    assert_eq!(message("odd", "9876510105", Some("mr_IN")), odd);
    // Phones fill in what is in such a last line. A subject shows on locked screens.
    let texts = [
        ("sms.login.otp.msg", "OTP %1$s%n@example.org #%1$s"),
        ("email.login.otp.sub", "%s"),
    ];
    for (code, text) in texts {
        world.egov.set_text(Text::new("gu_IN", code, text));
    }
    let filled = message("numbered", "9876510107", Some("gu_IN"));
    assert_eq!(filled, "OTP %s\n@example.org #%s");
    let email = of_event(world.emails(), "numbered");
    assert_eq!(email[0].json()["email"]["subject"], "%s");
    drop(process);

    // Without egov-localization the built-in texts serve.
    let _process = {
        let mut process = world.spawn_with("b", &[("LOCALIZATION__URL", "")]);
        process.wait_ready();
        process
    };
    world.request(&Request::register("9876510106").id("built-in"));
    assert_eq!(world.wait_for_outcome("built-in").summary(), "published");
    let otp = only_otp(&world, "9876510106");
    let expected = format!("Dear Citizen, Your OTP to complete your DIGIT Registration is {otp}.");
    assert_eq!(
        of_event(world.sms(), "built-in")[0].json()["message"],
        expected
    );
}

#[test]
fn an_employee_is_looked_up_at_the_full_tenant_and_everybody_else_at_the_states() {
    let world = World::new();
    let _process = world.start("a");
    world
        .egov
        .add_user(User::employee("9876510201", "pb.amritsar"));
    world.egov.add_user(User::citizen("9876510202", "pb"));
    world.request(&Request {
        user_type: Some("EMPLOYEE"),
        ..Request::login("9876510201").id("employee")
    });
    world.request(&Request {
        user_type: Some("CITIZEN"),
        ..Request::login("9876510202").id("citizen")
    });
    world.request(&Request {
        user_type: None,
        ..Request::login("9876510202").id("nobody")
    });
    for id in ["employee", "citizen", "nobody"] {
        assert_eq!(world.wait_for_outcome(id).summary(), "published", "{id}");
    }
    for call in world.egov.journal() {
        let employee = call.mobile.as_deref() == Some("9876510201");
        let (tenant, header) = (call.tenant.as_deref(), call.tenant_header.as_deref());
        match call.service {
            Service::Users if employee => {
                assert_eq!((tenant, header), (Some("pb.amritsar"), Some("pb.amritsar")))
            }
            Service::Users => assert_eq!((tenant, header), (Some("pb"), Some("pb"))),
            Service::Otp => assert_eq!(tenant, Some("pb.amritsar")),
            Service::Texts => assert_eq!(tenant, Some("pb")),
            Service::Rules => panic!("egov-mdms is not configured"),
        }
    }
}

#[test]
fn a_country_code_is_kept_and_a_foreign_one_is_rejected() {
    let world = World::new();
    let _process = world.start("a");
    let request = Request {
        country_code: Some("+91"),
        ..Request::register("9876510301")
    };
    let expected = Expected::Published {
        sms_to: "9876510301",
        text: "Dear Citizen, Your OTP to complete your mSeva Registration is %s.",
        email: None,
    };
    check(&world, "india", &request, None, &expected);
    let request = Request {
        country_code: Some("+882"),
        ..Request::register("9876510302")
    };
    check(
        &world,
        "abroad",
        &request,
        None,
        &Expected::Rejected("OTP.MOBILE_NUMBER_VALIDATION_FAILED"),
    );
}

#[test]
fn the_rules_of_the_state_decide_where_there_is_an_mdms() {
    let world = World::new();
    let _process = {
        let mut process = world.spawn_with("a", &[("MDMS__URL", &world.egov.url())]);
        process.wait_ready();
        process
    };
    let ethiopia = Request {
        country_code: Some("+251"),
        ..Request::register("987651040")
    };
    let expected = Expected::Published {
        sms_to: "987651040",
        text: "Dear Citizen, Your OTP to complete your mSeva Registration is %s.",
        email: None,
    };
    check(&world, "ethiopia", &ethiopia, None, &expected);
    let india = Request {
        country_code: Some("+91"),
        ..Request::register("987651041")
    };
    check(
        &world,
        "india",
        &india,
        None,
        &Expected::Rejected("OTP.MOBILE_NUMBER_VALIDATION_FAILED"),
    );
    // The default rule's country code becomes the request's.
    world.request(&Request::register("9876510402").id("default"));
    assert_eq!(world.wait_for_outcome("default").summary(), "published");
    assert_eq!(
        of_event(world.sms(), "default")[0].json()["countryCode"],
        "+91"
    );
    let rules = world
        .egov
        .journal()
        .into_iter()
        .filter(|call| call.service == Service::Rules);
    assert!(
        rules
            .into_iter()
            .all(|call| call.tenant.as_deref() == Some("pb")),
        "rules are asked for at the state"
    );
}

#[test]
fn a_central_instance_sends_to_the_states_own_topics() {
    let world = World::with(
        Setup {
            sms: false,
            email: false,
            ..Setup::default()
        }
        .set("TENANCY__CENTRAL_INSTANCE", "true"),
    );
    let sms = format!("amritsar-{}", world.topics.sms);
    let email = format!("amritsar-{}", world.topics.email);
    world.kafka.create_topic(&sms, 1, &[]);
    world.kafka.create_topic(&email, 1, &[]);
    let _process = world.start("a");
    world
        .egov
        .add_user(User::citizen("9876510501", "pb").with_email(&world.address("central")));
    world.request(&Request::login("9876510501").id("known"));
    assert_eq!(world.wait_for_outcome("known").summary(), "published");
    assert_eq!(of_event(world.kafka.read(&sms), "known").len(), 1);
    assert_eq!(of_event(world.kafka.read(&email), "known").len(), 1);

    // Strangers choose tenants: one without a topic is found out before anything is called.
    world.request(&Request {
        tenant: "pb.nowhere",
        ..Request::register("9876510502").id("unknown")
    });
    let outcome = world.wait_for_outcome("unknown");
    let (kind, code) = (outcome.word("disposition"), outcome.word("code"));
    assert_eq!(
        (kind.as_str(), code.as_str()),
        ("refused", "unknown-output-topic")
    );
    let letters = world.dead_letters();
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0].header("otp-disposition"), Some("refused"));
    assert_eq!(
        letters[0].header("otp-error-code"),
        Some("unknown-output-topic")
    );
    assert_eq!(world.egov.otp_of("9876510502"), Vec::<String>::new());
    assert!(
        !world
            .egov
            .journal()
            .iter()
            .any(|call| call.mobile.as_deref() == Some("9876510502")),
        "nothing is called"
    );
}

#[test]
fn own_topics_are_created_and_the_senders_are_not() {
    let world = World::with(Setup {
        email: false,
        ..Setup::default()
    });
    world.kafka.delete_topics(&[&world.topics.requests]);
    // It is told before it is so.
    wait_until("the topic is gone", || {
        let there = world.kafka.topics(&world.topics.requests);
        !there.contains(&world.topics.requests)
    });
    let _process = world.start("a");
    let there = world.kafka.topics(&format!("{}.", world.name));
    let topics = &world.topics;
    let own = [&topics.dead_letters, &topics.outcomes, &topics.job_log].map(Clone::clone);
    for topic in topics.inputs().into_iter().chain(own) {
        assert!(there.contains(&topic), "{topic} is missing of {there:?}");
    }
    assert!(
        !there.contains(&topics.email),
        "topics of others are not created"
    );
    world.assert_works("9876510601", "first");
}

/// The one OTP that was created for a number.
#[track_caller]
fn only_otp(world: &World, mobile: &str) -> String {
    let mut otps = world.egov.otp_of(mobile);
    assert_eq!(otps.len(), 1, "OTPs of one request");
    otps.remove(0)
}

fn of_event(records: Vec<crate::kafka::Record>, id: &str) -> Vec<crate::kafka::Record> {
    records
        .into_iter()
        .filter(|record| record.header("otp-event-id") == Some(id))
        .collect()
}
