//! The HTTP door when all is well: every answer of the contract on the wire, and what it wrote.

use rstest::rstest;
use serde_json::json;
use user_otp::egov::Service;
use user_otp::egov::standin::{Behaviour, Fault, RulesOf, User};

use crate::client::{Answer, Client, post};
use crate::command::start_with;
use crate::request::Request;
use crate::world::{Setup, World, now};

/// The body of a 201.
pub(crate) const CREATED: &str = r#"{"responseInfo":null,"isSuccessful":true}"#;

/// A field of an error: code, message, and which it is.
type Field = (&'static str, &'static str, &'static str);

/// The body of an error with these fields.
fn error(code: u16, message: &str, fields: &[Field]) -> String {
    let fields: Vec<_> = fields
        .iter()
        .map(|(code, message, field)| {
            format!(r#"{{"code":"{code}","message":"{message}","field":"{field}"}}"#)
        })
        .collect();
    format!(
        r#"{{"responseInfo":null,"error":{{"code":{code},"message":"{message}","description":null,"fields":[{}]}}}}"#,
        fields.join(",")
    )
}

#[track_caller]
fn assert_is(answer: &Answer, status: u16, body: &str) {
    assert_eq!((answer.status, answer.body.as_str()), (status, body));
    assert_eq!(answer.header("content-type"), Some("application/json"));
}

const TENANT: Field = (
    "OTP.TENANT_ID_MANDATORY",
    "Tenant field is mandatory",
    "otp.tenantId",
);
const NUMBER: Field = (
    "OTP.MOBILE_NUMBER_MANDATORY",
    "Mobile number field is mandatory",
    "otp.mobileNumber",
);
const TYPE: Field = (
    "OTP.REQUEST_TYPE_MANDATORY",
    "Request type (register, passwordreset,login) is mandatory",
    "otp.type",
);
const TENANT_INVALID: Field = (
    "OTP.TENANT_ID_INVALID",
    "Tenant id is not valid",
    "otp.tenantId",
);
const PATTERN: Field = (
    "OTP.MOBILE_NUMBER_VALIDATION_FAILED",
    "Mobile number must match the configured pattern: ^[6-9][0-9]{9}$",
    "otp.mobileNumber",
);
const COUNTRY: Field = (
    "OTP.MOBILE_NUMBER_VALIDATION_FAILED",
    "Mobile number validation configuration not found for country code: +44",
    "otp.mobileNumber",
);
const NO_COUNTRY: Field = (
    "OTP.MOBILE_NUMBER_VALIDATION_FAILED",
    "Mobile number validation configuration not found for country code: (invalid)",
    "otp.mobileNumber",
);

#[rstest]
#[case::both_families("::", true, true)]
#[case::ipv6_alone("::1", false, true)]
#[case::ipv4_alone("127.0.0.1", true, false)]
fn both_ports_listen_on_the_addresses_that_they_are_given(
    #[case] bind: &str,
    #[case] ipv4: bool,
    #[case] ipv6: bool,
) {
    let setup = Setup::default().set("HTTP__BIND", bind);
    let world = World::with(setup.set("MANAGEMENT__BIND", bind));
    let process = world.spawn("a");
    let http = (process.http_port(), "/user-otp/health");
    let management = crate::kafka::wait_for("the management port listens", || {
        process.management_port().ok_or("it does not")
    });
    for (port, path) in [http, (management, "/health/live")] {
        for (address, listens) in [("127.0.0.1", ipv4), ("::1", ipv6)] {
            let client = Client::at(address, port);
            assert_eq!(client.is_ok(), listens, "{path} of {address}");
            let Ok(mut client) = client else { continue };
            let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n");
            client.write(&request).expect("it is taken");
            assert_eq!(client.answer().expect("it is answered").status, 200);
        }
    }
}

#[test]
fn the_health_command_says_whether_the_process_serves() {
    let world = World::new();
    let mut process = world.start("a");
    let port = process.http_port().to_string();
    let health = |port: &str| {
        let running = start_with(&world, &[("HTTP__PORT", port)], "health", "");
        running.ended(&world)
    };
    health(&port).well();
    assert!(process.terminate().success());
    let gone = health(&port);
    assert_eq!(gone.code, 1, "{gone:?}");
    assert!(gone.notes.contains("nobody answers"), "{gone:?}");
}

#[test]
fn every_answer_of_the_contract_is_to_the_letter() {
    let world = World::new();
    let process = world.start("a");
    world.egov.add_user(User::citizen("9876530001", "pb"));
    let mut client = Client::connect(&process);

    let created = client.send(&Request::login("9876530001"));
    assert_is(&created, 201, CREATED);
    assert_is(&client.send(&Request::register("9876530002")), 201, CREATED);
    let reset = client.send(&Request::password_reset("9876530001"));
    assert_is(&reset, 201, CREATED);
    assert_eq!(reset.header("otp-delivery"), Some("committed"));

    let invalid = |otp: &str| format!(r#"{{"RequestInfo":{{}},"otp":{otp}}}"#);
    let rows: &[(&str, String, &[Field])] = &[
        ("no otp", "{}".to_owned(), &[TENANT, NUMBER, TYPE]),
        ("null", invalid("null"), &[TENANT, NUMBER, TYPE]),
        ("empty", invalid("{}"), &[TENANT, NUMBER]),
        (
            "all at once",
            invalid(r#"{"type":"other"}"#),
            &[TENANT, NUMBER, TYPE],
        ),
        (
            "tenant",
            invalid(r#"{"tenantId":"p b","mobileNumber":"9876530001","type":"login"}"#),
            &[TENANT_INVALID],
        ),
        (
            "control characters",
            invalid(r#"{"tenantId":"pb\r\nx","mobileNumber":"98765\u00003000","type":"login"}"#),
            &[TENANT_INVALID],
        ),
        (
            "control characters in the number",
            invalid(r#"{"tenantId":"pb","mobileNumber":"98765\n30001","type":"login"}"#),
            &[PATTERN],
        ),
        (
            "pattern",
            invalid(r#"{"tenantId":"pb","mobileNumber":"12345","type":"login"}"#),
            &[PATTERN],
        ),
        (
            "country",
            invalid(
                r#"{"tenantId":"pb","mobileNumber":"9876530001","type":"login","countryCode":"+44"}"#,
            ),
            &[COUNTRY],
        ),
        (
            "no country",
            invalid(r#"{"tenantId":"pb","mobileNumber":"9876530001","countryCode":"0"}"#),
            &[NO_COUNTRY],
        ),
        (
            "a reset's number",
            invalid(r#"{"tenantId":"pb","mobileNumber":"9876530001x","type":"passwordreset"}"#),
            &[PATTERN],
        ),
        (
            "a reset's long number",
            invalid(
                r#"{"tenantId":"pb","mobileNumber":"987653000198765300019","type":"passwordreset"}"#,
            ),
            &[PATTERN],
        ),
        (
            "a reset's country",
            invalid(
                r#"{"tenantId":"pb","mobileNumber":"9876530001","type":"passwordreset","countryCode":"0"}"#,
            ),
            &[NO_COUNTRY],
        ),
    ];
    for (name, body, fields) in rows {
        let answer = client.post(body, &[]);
        assert_eq!(
            (answer.status, answer.body.as_str()),
            (400, error(400, "Invalid OTP request", fields).as_str()),
            "{name}"
        );
    }
    let no_request = [("OTP.INVALID_REQUEST", "Invalid OTP request", "otp")];
    for body in [
        "",
        "x",
        "[]",
        "null",
        r#"{"otp":[]}"#,
        r#"{"otp":{"tenantId":{}}}"#,
    ] {
        let answer = client.post(body, &[]);
        assert_is(
            &answer,
            400,
            &error(400, "Invalid OTP request", &no_request),
        );
    }

    let number = |code, message| [(code, message, "otp.mobileNumber")];
    let registered = number(
        "OTP.MOBILENUMBER",
        "This MobileNumber Already Register as UserName in System. Pls try Another UserName",
    );
    assert_is(
        &client.send(&Request::register("9876530001")),
        400,
        &error(400, "OTP request for register failed", &registered),
    );
    let unknown = number("OTP.UNKNOWN_CREDENTIAL", "No such username or password");
    assert_is(
        &client.send(&Request::login("9876530003")),
        400,
        &error(400, "OTP request for login failed", &unknown),
    );
    let unknown = number("OTP.UNKNOWN_MOBILE_NUMBER", "Mobile number is unknown.");
    assert_is(
        &client.send(&Request::password_reset("9876530003")),
        400,
        &error(400, "OTP request for password reset failed", &unknown),
    );
    let numberless = User::citizen("9876530005", "pb").storing(None);
    world.egov.add_user(numberless);
    let no_number = number("OTP.MOBILE_NUMBER", "MobileNumber Not Found For This User.");
    assert_is(
        &client.send(&Request::password_reset("9876530005")),
        400,
        &error(400, "OTP request for password reset failed", &no_number),
    );
    world
        .egov
        .set(Service::Otp, Behaviour::failing(Fault::status(403)));
    let cannot = "The OTP request cannot be served";
    let fields = [("OTP.CANNOT_BE_SERVED", cannot, "otp")];
    assert_is(
        &client.send(&Request::register("9876530004")),
        502,
        &error(502, cannot, &fields),
    );

    let said = process.output.text();
    let loud = said
        .lines()
        .find(|line| line.contains("user_otp::http") && !line.contains(" DEBUG "));
    assert_eq!(loud, None, "nothing above debug for a request");
    assert_eq!(world.sms().len(), 3, "what is not 201 writes nothing");
    assert_eq!(world.outcomes().len(), 3);
    assert_eq!(world.dead_letters().len(), 0);
    assert_eq!(world.kafka.read(&world.topics.accepted).len(), 0);
}

#[test]
fn a_pattern_that_cannot_be_used_is_said() {
    let world = World::new();
    let process = world.spawn_with("a", &[("MDMS__URL", &world.egov.url())]);
    let broken = json!({"countryCode": "+91", "mobileNumberRegex": "(", "default": true});
    world.egov.set_rules(RulesOf::everywhere(vec![broken]));
    let field = (
        "OTP.MOBILE_NUMBER_VALIDATION_FAILED",
        "Invalid mobile number validation pattern configured.",
        "otp.mobileNumber",
    );
    assert_is(
        &Client::connect(&process).send(&Request::login("9876531001")),
        400,
        &error(400, "Invalid OTP request", &[field]),
    );
}

#[test]
fn a_published_request_has_its_messages_and_one_outcome() {
    let world = World::new();
    let process = world.start("a");
    let user = User::citizen("9876531001", "pb").with_email(&world.address("asha"));
    world.egov.add_user(user);
    let before = now();
    let ids = [
        ("X-Correlation-Id", "correlation-1"),
        (
            "traceparent",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        ),
        // Nobody outside gives event ids or deadlines.
        ("otp-event-id", "mine"),
        ("otp-deadline-ms", "1"),
    ];
    let answer = Client::connect(&process).post(&Request::login("9876531001").body(), &ids);
    assert_is(&answer, 201, CREATED);

    // Committed before it was answered: there is nothing to wait for.
    let (sms, emails, outcomes) = (world.sms(), world.emails(), world.outcomes());
    assert_eq!((sms.len(), emails.len(), outcomes.len()), (1, 1, 1));
    assert_eq!(sms[0].key_text(), "pb.amritsar:9876531001");
    let outcome = &outcomes[0];
    let event_id = outcome.event_id();
    assert_ne!(event_id, "mine");
    for record in [&sms[0], &emails[0], outcome.record()] {
        assert_eq!(
            record.header_names(),
            ["otp-event-id", "traceparent", "x-correlation-id"]
        );
        assert_eq!(record.header("otp-event-id"), Some(event_id.as_str()));
        assert_eq!(record.header("x-correlation-id"), Some("correlation-1"));
    }
    assert_eq!(
        (
            outcome.summary(),
            outcome.word("door"),
            outcome.get("attempts")
        ),
        ("published".into(), "http".into(), 1.into())
    );
    for nothing in ["source", "topic", "partition", "offset"] {
        assert!(outcome.get(nothing).is_null(), "{nothing}");
    }
    let (received, finished) = (
        outcome.moment("receivedAtMs"),
        outcome.moment("finishedAtMs"),
    );
    assert!(before <= received && received <= finished && finished <= now());
    let calls = world.egov.journal();
    assert!(
        calls
            .iter()
            .all(|call| call.correlation_id.as_deref() == Some("correlation-1"))
    );
}

#[rstest]
#[case::the_number("order-9876531101")]
#[case::binary("\u{1}")]
fn an_id_that_is_not_fit_to_be_passed_on_is_not(#[case] id: &str) {
    let world = World::new();
    let process = world.start("a");
    let answer = Client::connect(&process).post(
        &Request::register("9876531101").body(),
        &[("X-Correlation-Id", id)],
    );
    assert!(matches!(answer.status, 201 | 400), "{answer:?}");
    for sms in world.sms() {
        assert!(
            sms.header("x-correlation-id")
                .is_none_or(|id| id.starts_with("sha256-"))
        );
    }
}

#[test]
fn what_is_no_request_gets_its_status_at_once_and_in_the_platforms_shape() {
    let world = World::with(Setup::default().set("HTTP__BODY_LIMIT", "4096"));
    let process = world.start("a");
    let body = Request::register("9876532001").body();
    let with = |line: &str, headers: &str| {
        format!(
            "{line} HTTP/1.1\r\nHost: x\r\n{headers}Content-Length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    let send = "POST /user-otp/v1/_send";
    let json = "Content-Type: application/json\r\n";
    let cases = [
        ("path", 404, with("POST /user-otp/v1/_sent", json)),
        ("root", 404, with("GET /", "")),
        ("method", 405, with("GET /user-otp/v1/_send", json)),
        ("other method", 405, with("PURGE /user-otp/v1/_send", json)),
        ("no type", 415, with(send, "")),
        ("type", 415, with(send, "Content-Type: text/plain\r\n")),
        (
            "charset",
            415,
            with(send, "Content-Type: application/json; charset=utf-16\r\n"),
        ),
        (
            "gzip",
            415,
            with(send, &format!("{json}Content-Encoding: gzip\r\n")),
        ),
        ("large", 413, post(&" ".repeat(4_097), &[])),
        (
            "large without a length",
            413,
            format!(
                "{send} HTTP/1.1\r\nHost: x\r\n{json}Transfer-Encoding: chunked\r\n\r\n2000\r\n{}\r\n",
                " ".repeat(0x2000)
            ),
        ),
    ];
    for (name, status, request) in cases {
        let mut client = Client::connect(&process);
        client.write(request).expect("it is taken");
        let answer = client.answer().expect(name);
        assert_eq!(answer.status, status, "{name}");
        assert!(
            answer.body.starts_with(&format!(
                r#"{{"responseInfo":null,"error":{{"code":{status},"message":""#
            )) && answer.body.ends_with(r#"","field":"otp"}]}}"#),
            "{name}: {}",
            answer.body
        );
        assert_eq!(
            answer.body.matches(r#""code":"OTP."#).count(),
            1,
            "{name}: the platform's web UI shows the first field's message"
        );
        assert!(!answer.text().contains("98765"), "{name}");
        if status == 405 {
            assert_eq!(answer.header("allow"), Some("POST"), "{name}");
        }
    }
    // A byte order mark, and a type of a vendor's, are fine.
    let answer = Client::connect(&process).post(&format!("\u{feff}{body}"), &[]);
    assert_eq!(answer.status, 201);
    assert_eq!(world.sms().len(), 1);
}

#[test]
fn a_connection_carries_one_request_after_another_and_several_at_once() {
    let world = World::new();
    let process = world.start("a");
    let mut client = Client::connect(&process);
    for number in 0..3 {
        let request = Request::register(&format!("987653300{number}"));
        assert_eq!(client.send(&request).status, 201);
    }
    let pipelined: String = (3..6)
        .map(|number| {
            post(
                &Request::register(&format!("987653300{number}")).body(),
                &[],
            )
        })
        .collect();
    client.write(pipelined).expect("they are taken");
    for _ in 0..3 {
        assert_eq!(client.answer().expect("each is answered").status, 201);
    }
    for path in ["health", "actuator/health"] {
        client
            .write(format!("GET /user-otp/{path} HTTP/1.1\r\nHost: x\r\n\r\n"))
            .expect("it is taken");
        let health = client.answer().expect("it is answered");
        assert_eq!(
            (health.status, health.body.as_str()),
            (200, r#"{"status":"UP"}"#)
        );
    }
    assert_eq!(world.sms().len(), 6);
}

#[test]
fn a_uniform_answer_tells_nobody_who_is_registered_and_the_stream_decides() {
    let world = World::with(Setup::default().set("HTTP__ANSWERS", "uniform"));
    let process = world.start("a");
    world.egov.add_user(User::citizen("9876534001", "pb"));
    let mut client = Client::connect(&process);
    for mobile in ["9876534001", "9876534002"] {
        assert_is(&client.send(&Request::login(mobile)), 201, CREATED);
    }
    let invalid = client.post("{}", &[]);
    assert_is(
        &invalid,
        400,
        &error(400, "Invalid OTP request", &[TENANT, NUMBER, TYPE]),
    );
    let accepted = world.kafka.read(&world.topics.accepted);
    assert_eq!(accepted.len(), 2);
    assert!(
        accepted
            .iter()
            .all(|one| one.header("otp-attempt") == Some("0"))
    );
    let outcomes = world.wait_for_outcomes(2);
    let mut ends: Vec<_> = outcomes
        .iter()
        .map(|one| {
            (
                one.summary(),
                one.word("door"),
                one.get("attempts").to_string(),
            )
        })
        .collect();
    ends.sort();
    let end = |summary: &str| (summary.to_owned(), "http".to_owned(), "1".to_owned());
    assert_eq!(
        ends,
        [end("published"), end("rejected/OTP.UNKNOWN_CREDENTIAL")]
    );
}

#[test]
fn in_a_central_instance_a_tenant_without_topics_is_not_valid() {
    let world = World::with(
        Setup::default()
            .set("TENANCY__CENTRAL_INSTANCE", "true")
            .set("ENGINE__ENABLED", "false"),
    );
    let process = world.spawn("a");
    let answer = Client::connect(&process).send(&Request::register("9876535001"));
    let expected = error(400, "Invalid OTP request", &[TENANT_INVALID]);
    assert_is(&answer, 400, &expected);
    let (_, metrics) = process.get("/metrics");
    let counted =
        r#"user_otp_requests_total{door="http",outcome="rejected",code="OTP.TENANT_ID_INVALID"} 1"#;
    assert!(metrics.contains(counted), "{metrics}");
    let topic = format!("amritsar-{}", world.topics.sms);
    world.kafka.create_topic(&topic, 1, &[]);
    crate::kafka::wait_until("the new topic is known, without an engine", || {
        let answer = Client::connect(&process).send(&Request::register("9876535001"));
        answer.status == 201
    });
    assert_eq!(world.kafka.read(&topic).len(), 1);
    assert_eq!(world.egov.otp_of("9876535001").len(), 1);
}
