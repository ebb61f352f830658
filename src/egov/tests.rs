//! The services against their stand-ins, over real HTTP.

use std::time::Duration;

use rstest::rstest;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::standin::{Behaviour, Fault, RulesOf, Script, Standin, Text, User};
use super::*;
use crate::domain::request::Submission;
use crate::messages::TextCode;
use crate::metrics::Metrics;

const NUMBER: &str = "9876543210";
const NOW: EpochMs = EpochMs(1_732_346_880_000);
/// No test waits for as long, unless it fails.
const LONG: Duration = Duration::from_secs(20);

/// The stand-ins, and the services configured to ask them once.
struct World {
    standin: Standin,
    services: Services,
    clock: Clock,
    stop: CancellationToken,
}

impl World {
    async fn new() -> Self {
        Self::with(&[]).await
    }

    async fn with(settings: &[(&str, &str)]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let standin = Standin::start(listener, Script::default()).await.unwrap();
        let clock = Clock::fixed(NOW);
        Self {
            services: services(&standin.url(), settings, &clock),
            standin,
            clock,
            stop: CancellationToken::new(),
        }
    }

    fn call(&self) -> Call<'_> {
        Call {
            correlation_id: Some("correlation-1"),
            traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
            tenant_header: Some("pb.patiala"),
            deadline: NOW.plus(Duration::from_secs(300)),
            queue: Queue::Live,
            at_floor: AtFloor::Wait,
            stop: &self.stop,
        }
    }

    /// Any call of a service.
    async fn ask(&self, service: Service) -> Result<(), CallError> {
        let call = self.call();
        let tenant = TenantId::parse("pb.amritsar").unwrap();
        match service {
            Service::Users => self.services.find_user(&request(), &call).await.map(drop),
            Service::Otp => self.services.create_otp(&request(), &call).await.map(drop),
            Service::Texts => self.services.texts(&tenant, None, &call).await.map(drop),
            Service::Rules => self.services.number_rules(&tenant, &call).await.map(drop),
        }
    }

    async fn texts(&self, tenant: &str, locale: &str) -> Result<TextsFor, CallError> {
        let tenant = TenantId::parse(tenant).unwrap();
        let locale = Locale::parse(locale).unwrap();
        let call = self.call();
        self.services.texts(&tenant, Some(&locale), &call).await
    }
}

fn services(url: &str, settings: &[(&str, &str)], clock: &Clock) -> Services {
    let otp = format!("{url}/otp/");
    let defaults = [
        ("USER_OTP__USERS__URL", url),
        ("USER_OTP__OTP__URL", &otp),
        ("USER_OTP__LOCALIZATION__URL", url),
        ("USER_OTP__MDMS__URL", url),
        ("USER_OTP__USERS__TIMEOUT", "20s"),
        ("USER_OTP__OTP__TIMEOUT", "20s"),
        ("USER_OTP__LOCALIZATION__TIMEOUT", "20s"),
        ("USER_OTP__MDMS__TIMEOUT", "20s"),
        ("USER_OTP__SERVICES__TRIES", "1"),
        ("USER_OTP__SERVICES__BACKOFF", "1ms"),
        ("USER_OTP__SERVICES__BACKOFF_MAX", "1ms"),
    ];
    let env = defaults.iter().chain(settings);
    let env = env.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let (config, _) = Config::load(None, env).expect("the settings are right");
    Services::new(&config, clock.clone(), Metrics::default()).unwrap()
}

fn request() -> OtpRequest {
    let value = format!(
        r#"{{"otp": {{"mobileNumber": "{NUMBER}", "tenantId": "pb.amritsar",
             "type": "login", "userType": "CITIZEN"}}}}"#
    );
    let rules = NumberRules::without_mdms("^[6-9][0-9]{9}$", &[]);
    let submission = Submission::decode(value.as_bytes()).unwrap();
    submission.validate(Some(&rules)).unwrap()
}

fn unavailable(code: Code) -> CallError {
    CallError::Unavailable {
        code,
        retry_after: None,
    }
}

fn after(seconds: u64) -> CallError {
    CallError::Unavailable {
        code: Code::ServiceUnavailable,
        retry_after: Some(Duration::from_secs(seconds)),
    }
}

#[rstest]
#[case::s500(Fault::status(500), unavailable(Code::ServiceUnavailable))]
#[case::s502(Fault::status(502), unavailable(Code::ServiceUnavailable))]
#[case::s408(Fault::status(408), unavailable(Code::ServiceUnavailable))]
#[case::s503_seconds(Fault::status_with(503, "retry-after", "7"), after(7))]
#[case::s429_date(
    Fault::status_with(429, "retry-after", "Sat, 23 Nov 2024 07:29:30 GMT"),
    after(90)
)]
#[case::query(
    Fault::tracer("QUERY_EXECUTION_ERROR", ""),
    unavailable(Code::ServiceUnavailable)
)]
#[case::uncaught(
    Fault::tracer("X", "An unhandled exception occurred on the server"),
    unavailable(Code::ServiceUnavailable)
)]
#[case::reset(Fault::Reset, unavailable(Code::ServiceUnavailable))]
#[case::truncated(Fault::Truncated, unavailable(Code::ServiceBrokenAnswer))]
#[case::not_json(Fault::NotJson, unavailable(Code::ServiceBrokenAnswer))]
#[case::wrong_shape(Fault::WrongShape, unavailable(Code::ServiceBrokenAnswer))]
#[case::html(Fault::Html, unavailable(Code::ServiceBrokenAnswer))]
#[case::no_content(Fault::status(204), unavailable(Code::ServiceBrokenAnswer))]
#[case::redirect(
    Fault::status_with(307, "location", "/_standin/health"),
    unavailable(Code::ServiceBrokenAnswer)
)]
#[case::oversized(Fault::Oversized { bytes: 1_048_576 }, unavailable(Code::ServiceBrokenAnswer))]
#[case::refused(Fault::status(404), CallError::Refused { status: 404 })]
#[case::forbidden(Fault::status(403), CallError::Refused { status: 403 })]
#[case::binding(
    Fault::tracer("JsonMappingException", "not readable"),
    CallError::Refused { status: 400 }
)]
#[tokio::test]
async fn each_fault_of_each_service_has_its_meaning(
    #[case] fault: Fault,
    #[case] meaning: CallError,
) {
    let world = World::new().await;
    for service in Service::ALL {
        world
            .standin
            .set(service, Behaviour::failing(fault.clone()));
        let expected = match (service, &meaning) {
            // What a copy could serve is never refused.
            (Service::Texts | Service::Rules, CallError::Refused { .. }) => CallError::busy(),
            (_, meaning) => meaning.clone(),
        };
        assert_eq!(world.ask(service).await, Err(expected), "{service:?}");
        assert_eq!(world.standin.calls(service), 1, "{service:?}");
        world.standin.set(service, Behaviour::well());
        assert_eq!(world.ask(service).await, Ok(()), "{service:?} heals");
    }
}

#[rstest]
#[case::hang(Fault::Hang)]
#[case::slow_header(Fault::SlowHeader { pause_ms: 100 })]
#[case::slow_body(Fault::SlowBody { pause_ms: 100 })]
#[tokio::test]
async fn the_whole_exchange_has_one_timeout(#[case] fault: Fault) {
    let world = World::with(&[
        ("USER_OTP__USERS__TIMEOUT", "250ms"),
        ("USER_OTP__OTP__TIMEOUT", "250ms"),
        ("USER_OTP__LOCALIZATION__TIMEOUT", "250ms"),
        ("USER_OTP__MDMS__TIMEOUT", "250ms"),
    ])
    .await;
    for service in Service::ALL {
        world
            .standin
            .set(service, Behaviour::failing(fault.clone()));
        let expected = unavailable(Code::ServiceTimeout);
        assert_eq!(world.ask(service).await, Err(expected), "{service:?}");
    }
}

#[tokio::test]
async fn who_is_not_there_is_unavailable() {
    let world = World::new().await;
    let World {
        standin,
        services,
        clock,
        stop,
    } = world;
    standin.stop().await;
    let call = Call {
        correlation_id: None,
        traceparent: None,
        tenant_header: None,
        deadline: clock.now().plus(LONG),
        queue: Queue::Live,
        at_floor: AtFloor::Wait,
        stop: &stop,
    };
    let error = services.find_user(&request(), &call).await.unwrap_err();
    assert_eq!(error, unavailable(Code::ServiceUnavailable));
}

#[rstest]
#[case::heals(Behaviour::failing(Fault::status(503)).times(2), 3, 3, true)]
#[case::stays_down(Behaviour::failing(Fault::status(503)), 3, 3, false)]
#[case::connection_lost(Behaviour::failing(Fault::Reset).times(1), 3, 2, true)]
#[case::one_try(Behaviour::failing(Fault::status(503)).times(1), 1, 1, false)]
#[case::refused(Behaviour::failing(Fault::status(404)), 3, 1, false)]
#[case::asks_for_rest(
    Behaviour::failing(Fault::status_with(503, "retry-after", "1")).times(1), 3, 1, false
)]
#[case::asks_for_no_rest(
    Behaviour::failing(Fault::status_with(503, "retry-after", "0")).times(1), 3, 2, true
)]
#[tokio::test]
async fn an_unavailable_service_is_asked_again_within_the_try(
    #[case] script: Behaviour,
    #[case] tries: u32,
    #[case] calls: usize,
    #[case] ends_well: bool,
) {
    let world = World::with(&[("USER_OTP__SERVICES__TRIES", &tries.to_string())]).await;
    for service in Service::ALL {
        world.standin.set(service, script.clone());
        assert_eq!(world.ask(service).await.is_ok(), ends_well, "{service:?}");
        assert_eq!(world.standin.calls(service), calls, "{service:?}");
    }
}

#[tokio::test]
async fn nothing_is_asked_after_the_deadline() {
    let world = World::new().await;
    world.clock.set(NOW.plus(Duration::from_secs(300)));
    for service in Service::ALL {
        let late = Err(unavailable(Code::ServiceTimeout));
        assert_eq!(world.ask(service).await, late, "{service:?}");
        assert_eq!(world.standin.calls(service), 0, "{service:?}");
    }
}

#[tokio::test]
async fn a_repeat_is_not_sent_after_the_deadline() {
    let world = World::with(&[
        ("USER_OTP__SERVICES__TRIES", "3"),
        ("USER_OTP__SERVICES__BACKOFF", "10s"),
        ("USER_OTP__SERVICES__BACKOFF_MAX", "10s"),
    ])
    .await;
    let script = Behaviour::failing(Fault::status(500));
    world.standin.set(Service::Otp, script);
    let call = Call {
        deadline: NOW.plus(Duration::from_millis(1)),
        ..world.call()
    };
    let request = request();
    let asked = world.services.create_otp(&request, &call);
    let answer = tokio::time::timeout(LONG, asked).await.unwrap();
    assert_eq!(answer.unwrap_err(), unavailable(Code::ServiceUnavailable));
    assert_eq!(world.standin.calls(Service::Otp), 1);
}

#[tokio::test]
async fn an_otp_is_what_egov_otp_created() {
    let world = World::new().await;
    let call = world.call();
    let otp = world.services.create_otp(&request(), &call).await.unwrap();
    assert_eq!(world.standin.otp_of(NUMBER), [otp.expose()]);
}

#[tokio::test]
async fn an_otp_whose_answer_was_lost_is_created_anew() {
    let world = World::with(&[("USER_OTP__SERVICES__TRIES", "2")]).await;
    let script = Behaviour::failing(Fault::Truncated).times(1);
    world.standin.set(Service::Otp, script);
    let call = world.call();
    let otp = world.services.create_otp(&request(), &call).await.unwrap();
    let created = world.standin.otp_of(NUMBER);
    assert_eq!(created.len(), 2);
    assert_eq!(created[1], otp.expose());
}

#[tokio::test]
async fn a_user_is_found_with_their_contacts_or_not_at_all() {
    let world = World::new().await;
    let call = world.call();
    let found = world.services.find_user(&request(), &call).await.unwrap();
    let user = found.expect("the number is known");
    assert_eq!(user.mobile.unwrap().expose(), NUMBER);
    assert_eq!(user.email.unwrap().expose(), "citizen@example.org");

    let stored = User::citizen(NUMBER, "pb").storing(Some("9876500099"));
    world.standin.add_user(stored);
    let found = world.services.find_user(&request(), &call).await.unwrap();
    let user = found.expect("the number is known");
    assert_eq!(user.mobile.unwrap().expose(), "9876500099");
    assert!(user.email.is_none());

    let mut stranger = request();
    stranger.user_type = Some("EMPLOYEE".to_owned());
    let found = world.services.find_user(&stranger, &call).await.unwrap();
    assert!(found.is_none());
}

#[tokio::test]
async fn ids_and_tenants_are_passed_on() {
    let world = World::new().await;
    for service in Service::ALL {
        world.ask(service).await.unwrap();
    }
    let call = world.call();
    for asked in world.standin.journal() {
        let tenant = match asked.service {
            Service::Users => "pb",
            Service::Otp | Service::Texts | Service::Rules => "pb.patiala",
        };
        assert_eq!(asked.tenant_header.as_deref(), Some(tenant), "{asked:?}");
        assert_eq!(asked.correlation_id.as_deref(), call.correlation_id);
        assert_eq!(asked.traceparent.as_deref(), call.traceparent);
    }
    let tenants: Vec<_> = world.standin.journal();
    let tenants: Vec<_> = tenants.iter().map(|call| call.tenant.as_deref()).collect();
    assert_eq!(
        tenants,
        [Some("pb"), Some("pb.amritsar"), Some("pb"), Some("pb")]
    );
}

#[tokio::test]
async fn an_id_that_is_no_header_is_left_out() {
    let world = World::new().await;
    let call = Call {
        correlation_id: Some("two\r\nlines: 1"),
        traceparent: Some("\u{7f}"),
        tenant_header: None,
        ..world.call()
    };
    world.services.create_otp(&request(), &call).await.unwrap();
    let journal = world.standin.journal();
    assert_eq!(journal[0].correlation_id, None);
    assert_eq!(journal[0].traceparent, None);
    assert_eq!(journal[0].tenant_header, None);
}

#[tokio::test]
async fn who_waits_for_a_permit_can_be_stopped() {
    let world = World::with(&[("USER_OTP__USERS__CALLS", "1")]).await;
    world.standin.set(Service::Users, Behaviour::slow(LONG * 3));
    let holds = world.ask(Service::Users);
    let waits = world.ask(Service::Users);
    let stops = async {
        // The first call has arrived; the second stands behind it, since it was polled before.
        while world.standin.calls(Service::Users) < 1 {
            tokio::task::yield_now().await;
        }
        world.stop.cancel();
    };
    let stopped = async { tokio::join!(waits, stops).0 };
    let stopped = async {
        tokio::select! {
            biased;
            _ = holds => panic!("its answer is a minute away"),
            stopped = stopped => stopped,
        }
    };
    let stopped = tokio::time::timeout(LONG, stopped).await.unwrap();
    assert_eq!(stopped, Err(CallError::Abandoned));
    assert_eq!(world.standin.calls(Service::Users), 1);
}

/// Quick repeats included, it takes 20 failures to the floor: a try that is under way ends there.
#[tokio::test]
async fn a_service_that_is_down_is_not_asked_again_within_the_try() {
    let world = World::with(&[("USER_OTP__SERVICES__TRIES", "3")]).await;
    for service in [Service::Users, Service::Otp] {
        let script = Behaviour::failing(Fault::status(503));
        world.standin.set(service, script);
        for _ in 0..7 {
            world.ask(service).await.unwrap_err();
        }
        assert_eq!(world.standin.calls(service), 20, "{service:?}");
        world.ask(service).await.unwrap_err();
        assert_eq!(world.standin.calls(service), 21, "{service:?}: one probe");
        let states = world.services.states();
        let state = states.iter().find(|state| state.service == service);
        assert_eq!(state.unwrap().load.limit, 1);
        world.standin.set(service, Behaviour::well());
        assert_eq!(world.ask(service).await, Ok(()), "{service:?} heals");
    }
}

#[tokio::test]
async fn a_service_that_is_down_is_not_waited_for_where_that_is_not_wanted() {
    let world = World::new().await;
    let script = Behaviour::failing(Fault::status(503));
    world.standin.set(Service::Otp, script);
    for _ in 0..20 {
        world.ask(Service::Otp).await.unwrap_err();
    }
    let request = request();
    let call = Call {
        at_floor: AtFloor::Leave,
        ..world.call()
    };
    let leaves = world.services.create_otp(&request, &call).await;
    assert_eq!(leaves.unwrap_err(), CallError::busy());
    assert_eq!(world.standin.calls(Service::Otp), 20, "nothing was asked");
    assert_eq!(world.ask(Service::Users).await, Ok(()), "others are well");
}

/// The time that is over may be the caller's: the HTTP door's is shorter than a hanging call's.
#[tokio::test]
async fn a_call_that_is_given_up_counts_as_late_where_a_well_service_had_answered() {
    for (patience, down) in [(50, false), (700, true)] {
        let world = World::new().await;
        let script = Behaviour::failing(Fault::Hang);
        world.standin.set(Service::Otp, script);
        let patience = Duration::from_millis(patience);
        let give_up = || tokio::time::timeout(patience, world.ask(Service::Otp));
        for _ in 0..5 {
            let four = tokio::join!(give_up(), give_up(), give_up(), give_up());
            assert!(four.0.is_err() && four.1.is_err() && four.2.is_err() && four.3.is_err());
        }
        let state = |state: &ServiceState| (state.load.limit, state.last);
        let states = world.services.states();
        let of_otp = states.iter().find(|one| one.service == Service::Otp);
        let expected = if down {
            // Half of those that were under way at once.
            (2, Some(Err(Code::ServiceTimeout)))
        } else {
            (256, None)
        };
        assert_eq!(of_otp.map(state), Some(expected));
    }
}

#[tokio::test]
async fn calls_at_once_are_limited() {
    let world = World::with(&[("USER_OTP__OTP__CALLS", "1")]).await;
    let script = Behaviour::slow(Duration::from_millis(20));
    world.standin.set(Service::Otp, script);
    let started = tokio::time::Instant::now();
    let ask = || world.ask(Service::Otp);
    let all = tokio::join!(ask(), ask(), ask(), ask(), ask());
    assert_eq!(all, (Ok(()), Ok(()), Ok(()), Ok(()), Ok(())));
    assert!(started.elapsed() >= Duration::from_millis(100));
}

#[tokio::test]
async fn texts_without_a_copy_do_not_wait_for_a_permit() {
    let world = World::with(&[("USER_OTP__LOCALIZATION__CALLS", "1")]).await;
    world.standin.set(Service::Texts, Behaviour::slow(LONG * 3));
    let holds = world.texts("dl.delhi", "en_IN");
    let asks = async {
        while world.standin.calls(Service::Texts) < 1 {
            tokio::task::yield_now().await;
        }
        world.texts("pb.amritsar", "en_IN").await
    };
    let refused = async {
        tokio::select! {
            biased;
            _ = holds => panic!("its answer is a minute away"),
            refused = asks => refused,
        }
    };
    let refused = tokio::time::timeout(LONG, refused).await.unwrap();
    assert_eq!(refused.unwrap_err(), CallError::busy());
}

#[tokio::test]
async fn an_answer_of_unknown_length_is_read_to_the_limit_and_no_further() {
    for (chunks, ends_well) in [(15, true), (16, false)] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let clock = Clock::fixed(NOW);
        let services = services(&url, &[], &clock);
        let stop = CancellationToken::new();
        let request = request();
        let call = Call {
            correlation_id: None,
            traceparent: None,
            tenant_header: None,
            deadline: NOW.plus(LONG),
            queue: Queue::Live,
            at_floor: AtFloor::Wait,
            stop: &stop,
        };
        let answers = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
            let body = "c\r\n{\"user\": []}\r\n";
            let chunk = format!("10000\r\n{}\r\n", " ".repeat(0x1_0000));
            let answer = [head, body, &chunk.repeat(chunks), "0\r\n\r\n"];
            assert!(stream.read(&mut [0; 4_096]).await.unwrap() > 0);
            // The reader may have gone at the limit.
            let _ = stream.write_all(answer.concat().as_bytes()).await;
            stream
        };
        let (found, _open) = tokio::join!(services.find_user(&request, &call), answers);
        let broken = unavailable(Code::ServiceBrokenAnswer);
        let expected = if ends_well { Ok(None) } else { Err(broken) };
        assert_eq!(found, expected);
    }
}

#[tokio::test]
async fn texts_are_the_wanted_locales_and_the_default_ones() {
    let world = World::new().await;
    let texts = world.texts("pb.amritsar", "hi_IN").await.unwrap();
    assert!(has(&texts.wanted, TextCode::SmsLogin));
    assert!(!has(&texts.wanted, TextCode::EmailLoginBody));
    assert_eq!(
        pick_text(&texts, TextCode::EmailLoginBody),
        "Hello, your login OTP is 123456."
    );
    let again = world.texts("pb.amritsar", "hi_IN").await.unwrap();
    assert!(Arc::ptr_eq(&texts.wanted, &again.wanted));
    assert_eq!(world.standin.calls(Service::Texts), 2);
}

/// Whether there is a text that is not the built-in one.
fn has(texts: &crate::messages::TextSet, code: TextCode) -> bool {
    crate::messages::pick(code, texts, &crate::messages::TextSet::default()) != code.built_in()
}

fn pick_text(texts: &TextsFor, code: TextCode) -> String {
    let otp = Otp::new("123456".to_owned()).unwrap();
    let template = crate::messages::pick(code, &texts.wanted, &texts.fallback);
    crate::messages::fill(template, &otp)
}

#[tokio::test]
async fn a_large_answer_is_read_whole() {
    let world = World::new().await;
    let long = format!("%s{}", "x".repeat(60_000));
    for code in TextCode::ALL {
        let text = Text::new("ta_IN", code.as_str(), &long);
        world.standin.set_text(text);
    }
    let texts = world.texts("pb", "ta_IN").await.unwrap();
    assert!(
        TextCode::ALL
            .into_iter()
            .all(|code| has(&texts.wanted, code))
    );
}

#[tokio::test]
async fn during_an_outage_there_are_copies_or_nothing_is_decided() {
    let world = World::with(&[("USER_OTP__TEXTS__TTL", "1s")]).await;
    world.texts("pb.amritsar", "en_IN").await.unwrap();
    world.clock.set(NOW.plus(Duration::from_secs(250)));
    let script = Behaviour::failing(Fault::status(503));
    world.standin.set(Service::Texts, script);
    world
        .standin
        .set(Service::Rules, Behaviour::failing(Fault::status(404)));
    assert!(world.texts("pb.patiala", "en_IN").await.is_ok());
    assert_eq!(
        world.standin.calls(Service::Texts),
        2,
        "a refresh was tried"
    );
    let without = unavailable(Code::ServiceUnavailable);
    assert_eq!(world.texts("dl", "en_IN").await.unwrap_err(), without);
    assert_eq!(world.texts("pb", "hi_IN").await.unwrap_err(), without);
    assert_eq!(world.ask(Service::Rules).await, Err(without));
}

#[tokio::test]
async fn the_built_in_texts_serve_an_outage_where_that_is_configured() {
    let world = World::with(&[("USER_OTP__TEXTS__ON_OUTAGE", "default")]).await;
    let script = Behaviour::failing(Fault::status(503));
    world.standin.set(Service::Texts, script);
    let texts = world.texts("pb", "hi_IN").await.unwrap();
    assert!(texts.wanted.is_empty() && texts.fallback.is_empty());
}

#[tokio::test]
async fn services_that_are_not_configured_are_not_asked() {
    let world = World::with(&[
        ("USER_OTP__LOCALIZATION__URL", ""),
        ("USER_OTP__MDMS__URL", ""),
    ])
    .await;
    let texts = world.texts("pb", "hi_IN").await.unwrap();
    assert!(texts.wanted.is_empty() && texts.fallback.is_empty());
    assert_eq!(world.ask(Service::Rules).await, Ok(()));
    assert_eq!(world.standin.calls(Service::Texts), 0);
    assert_eq!(world.standin.calls(Service::Rules), 0);
}

#[tokio::test]
async fn rules_are_the_states_and_cached_for_it() {
    let world = World::new().await;
    let entry = serde_json::json!({"countryCode": "+91", "mobileNumberRegex": "^5[0-9]{4}$",
                                   "default": true});
    world.standin.set_rules(RulesOf {
        tenant_id: "pb".to_owned(),
        entries: Some(vec![entry]),
    });
    let call = world.call();
    let rules = async |tenant: &str| {
        let tenant = TenantId::parse(tenant).unwrap();
        world.services.number_rules(&tenant, &call).await.unwrap()
    };
    let check = crate::domain::rules::Check::Full;
    assert!(
        rules("pb.amritsar")
            .await
            .check("51234", None, check)
            .is_ok()
    );
    assert!(
        rules("pb.patiala")
            .await
            .check(NUMBER, None, check)
            .is_err()
    );
    assert_eq!(world.standin.calls(Service::Rules), 1);
    assert!(rules("dl.delhi").await.check(NUMBER, None, check).is_ok());
    assert_eq!(world.standin.calls(Service::Rules), 2);
}

#[tokio::test]
async fn errors_do_not_say_who_was_asked_for_what() {
    let world = World::new().await;
    world
        .standin
        .set(Service::Users, Behaviour::failing(Fault::Reset));
    let error = world.ask(Service::Users).await.unwrap_err();
    let said = format!("{error} {error:?} {:?}", world.services);
    assert!(
        !said.contains("127.0.0.1") && !said.contains(NUMBER),
        "{said}"
    );
}

#[tokio::test]
async fn a_user_name_in_an_address_becomes_a_header() {
    let world = World::new().await;
    let url = world
        .standin
        .url()
        .replace("http://", "http://someone:secret@");
    let services = services(&url, &[], &world.clock);
    let call = world.call();
    assert!(services.find_user(&request(), &call).await.is_ok());
    assert!(!format!("{services:?}").contains("secret"));
}

#[tokio::test]
async fn closing_ends_what_is_fetched_in_the_background() {
    let world = World::new().await;
    world
        .standin
        .set(Service::Texts, Behaviour::failing(Fault::Hang));
    let asks = world.texts("pb", "en_IN");
    let closes = async {
        while world.standin.calls(Service::Texts) < 1 {
            tokio::task::yield_now().await;
        }
        tokio::time::timeout(LONG, world.services.close()).await
    };
    let (texts, closed) = tokio::join!(asks, closes);
    assert!(closed.is_ok());
    assert_eq!(texts.unwrap_err(), CallError::busy());
}
