//! Topics that take no records: what is for them waits, spends no try, and everything else goes on.

use user_otp::egov::Service;
use user_otp::egov::standin::{Behaviour, Fault};

use crate::failures::find;
use crate::kafka::{Draft, wait_until};
use crate::management::{health, trouble};
use crate::process::Process;
use crate::request::Request;
use crate::world::{Setup, TIERS, World, now};

fn delete_sms_topic(world: &World) {
    world.kafka.delete_topics(&[&world.topics.sms]);
    wait_until("the topic is gone", || {
        world.kafka.partitions(&world.topics.sms).is_empty()
    });
}

fn tries_spent(world: &World) -> usize {
    TIERS.iter().map(|tier| world.retries(tier).len()).sum()
}

/// Requests until health says that the SMS topic takes nothing: a topic is not gone at once when it is
/// deleted. How many went into it.
fn wait_until_away(world: &World, process: &Process) -> usize {
    let reason = format!(
        "{} is missing or forbidden: what is for it waits",
        world.topics.sms
    );
    let mut sent = 0;
    wait_until("health says that it is away", || {
        let (status, _, troubles) = health(process, "/health/ready");
        if status == 503 && troubles.get("output-topics") == Some(&reason) {
            return true;
        }
        if sent == world.outcomes().len() {
            sent += 1;
            let mobile = format!("98765{:05}", 70_000 + sent);
            world.request(&Request::register(&mobile).id(format!("held-{sent}")));
        }
        false
    });
    sent
}

#[test]
fn an_sms_topic_that_goes_away_and_comes_back_costs_time_alone() {
    let world = World::new();
    let mut process = world.start("a");
    delete_sms_topic(&world);
    let first = wait_until_away(&world, &process);
    let behind: Vec<_> = (0..50)
        .map(|number| Request::register(&format!("98765{:05}", 71_000 + number)))
        .collect();
    world.requests(&behind);
    // What needs no SMS goes on: it came after them, and has its end before.
    world
        .egov
        .add_user(user_otp::egov::standin::User::citizen("9876572000", "pb"));
    world.request(&Request::register("9876572000").id("refused"));
    assert_eq!(
        world.wait_for_outcome("refused").word("outcome"),
        "rejected"
    );
    world.publish(&Draft::of("junk").header("otp-event-id", "poison"));
    assert_eq!(
        world.wait_for_outcome("poison").word("disposition"),
        "poison"
    );
    for request in &behind {
        let created = world.egov.otp_of(&request.mobile);
        assert_eq!(created, Vec::<String>::new(), "no OTP that cannot be sent");
    }
    assert_eq!(world.outcomes().len(), first - 1 + 2);
    world.kafka.create_topic(&world.topics.sms, 2, &[]);
    let outcomes = world.wait_for_outcomes(first + behind.len() + 2);
    let published = outcomes
        .iter()
        .filter(|outcome| outcome.summary() == "published" && outcome.get("attempts") == 1);
    assert_eq!(published.count(), first + behind.len());
    assert_eq!((tries_spent(&world), world.dead_letters().len()), (0, 1));
    wait_until("health says that it is back", || {
        health(&process, "/health/ready").0 == 200
    });
    // Those before the last of the first ones went with the topic.
    assert_eq!(world.sms().len(), 1 + behind.len());
    assert!(process.is_running(), "it needed no restart");
}

#[test]
fn what_waits_for_the_sms_topic_expires_at_its_deadline_and_not_before() {
    let world = World::with(
        Setup::default()
            .set("REQUEST__LIFETIME", "12s")
            .set("REQUEST__MIN_LIFE", "4s"),
    );
    let process = world.start("a");
    delete_sms_topic(&world);
    let first = wait_until_away(&world, &process);
    let held = format!("held-{first}");
    world.request(&Request::register("9876573001").id("behind"));
    for (id, left) in [(&*held, 0), ("behind", 4_000)] {
        let outcome = world.wait_for_outcome(id);
        assert_eq!(
            outcome.summary(),
            "dead-lettered/expired/output-topic-unavailable/publish"
        );
        let letter = find(&world.dead_letters(), id);
        let deadline = letter.number("otp-deadline-ms");
        assert!(letter.number("otp-failed-ms") >= deadline - left, "{id}");
    }
    assert_eq!(tries_spent(&world), 0);
    world.wait_for_no_lag();
    world.kafka.create_topic(&world.topics.sms, 2, &[]);
    world.assert_works("9876573002", "after");
}

/// Requests of ten people, and records of theirs that have this long to live, in milliseconds.
fn ten_with(left: i64, first: usize) -> (Vec<Request>, Vec<Draft>) {
    let deadline = (now() + left).to_string();
    let requests: Vec<_> = (first..first + 10)
        .map(|number| Request::register(&format!("98765{number:05}")).id(format!("n-{number}")))
        .collect();
    let drafts = requests.iter().map(Request::draft);
    let drafts = drafts.map(|draft| draft.header("otp-deadline-ms", deadline.clone()));
    let drafts = drafts.collect();
    (requests, drafts)
}

#[test]
fn when_nothing_is_left_to_try_with_one_request_finds_out_for_all() {
    let world = World::with(
        Setup::default()
            .set("REQUEST__LIFETIME", "8s")
            .set("REQUEST__MIN_LIFE", "1s"),
    );
    let process = world.start("a");
    delete_sms_topic(&world);
    let first = wait_until_away(&world, &process);
    // The first that try find out nothing: others go on instead.
    let refused = Behaviour::failing(Fault::status(403)).times(3);
    world.egov.set(Service::Otp, refused);
    let calls = world.egov.calls(Service::Otp);
    // What was handed over says its deadline itself.
    let (short, mut drafts) = ten_with(13_000, 75_000);
    let (long, more) = ten_with(300_000, 75_100);
    drafts.extend(more);
    world.kafka.publish_all(&world.topics.accepted, &drafts);
    let created = |requests: &[Request]| -> Vec<usize> {
        let otps = |request: &Request| world.egov.otp_of(&request.mobile).len();
        requests.iter().map(otps).collect()
    };
    let sum = |requests: &[Request]| created(requests).iter().sum::<usize>();
    for request in &short {
        let id = request.event_id.as_deref().expect("it has one");
        assert_eq!(world.wait_for_outcome(id).word("outcome"), "dead-lettered");
    }
    wait_until("one of the others tries", || sum(&long) > 0);
    assert_eq!(sum(&long), 1, "{:?}", created(&long));
    assert!(sum(&short) <= 1, "{:?}", created(&short));
    let tried = world.egov.calls(Service::Otp) - calls;
    assert!((4..=5).contains(&tried), "{tried} calls");
    assert_eq!(health(&process, "/health/ready").0, 503);

    world.kafka.create_topic(&world.topics.sms, 2, &[]);
    let outcomes = world.wait_for_outcomes(first + 20);
    let count = |end: &str| {
        let ends = outcomes.iter().filter(|outcome| outcome.summary() == end);
        ends.count()
    };
    assert_eq!(count("dead-lettered/refused/service-refused/otp"), 3);
    assert_eq!(world.sms().len(), sum(&long), "each was created once");
    assert_eq!(tries_spent(&world), 0);
    world.wait_for_no_lag();
}

#[test]
fn an_instance_that_ends_leaves_what_waits_for_the_sms_topic_to_the_next() {
    let world = World::new();
    let mut process = world.start("a");
    delete_sms_topic(&world);
    let first = wait_until_away(&world, &process);
    world.request(&Request::register("9876574001").id("behind"));
    assert!(process.terminate().success(), "nothing keeps it");
    world.kafka.create_topic(&world.topics.sms, 2, &[]);
    let _process = world.start("a");
    for id in [&*format!("held-{first}"), "behind"] {
        assert_eq!(world.wait_for_outcome(id).summary(), "published");
    }
    assert_eq!((world.sms().len(), world.dead_letters().len()), (2, 0));
}

#[test]
fn in_a_central_instance_one_states_topic_costs_only_its_own_requests() {
    let world = World::with(Setup::default().set("TENANCY__CENTRAL_INSTANCE", "true"));
    let topic = |state: &str| format!("{state}-{}", world.topics.sms);
    let states = ["amritsar", "patiala"];
    for state in states {
        world.kafka.create_topic(&topic(state), 1, &[]);
    }
    let process = world.start("a");
    let request = |mobile: &str, tenant, id| Request {
        tenant,
        ..Request::register(mobile).id(id)
    };
    world.kafka.delete_topics(&[&topic("amritsar")]);
    wait_until("the topic is gone", || {
        world.kafka.partitions(&topic("amritsar")).is_empty()
    });
    world.request(&request("9876575001", "pb.amritsar", "away"));
    wait_until("it is retried", || tries_spent(&world) > 0);
    world.request(&request("9876575002", "pb.patiala", "other"));
    let other = world.wait_for_outcome("other");
    assert_eq!(other.summary(), "published");
    assert_eq!(health(&process, "/health/ready").0, 200);
    let retry = world.retries(TIERS[0]).remove(0);
    let code = retry.header("otp-error-code");
    assert_eq!(code, Some("output-topic-unavailable"));
    world.kafka.create_topic(&topic("amritsar"), 1, &[]);
    assert_eq!(world.wait_for_outcome("away").summary(), "published");
    assert_eq!(world.kafka.read(&topic("amritsar")).len(), 1);
}

#[test]
fn a_dead_letter_that_its_topic_never_takes_waits_alone() {
    let world = World::new();
    let mut process = world.start("a");
    let topic = &world.topics.dead_letters;
    let reason = format!("max.message.bytes of {topic} is too small: what is for it waits");
    world.kafka.set_topic(topic, "max.message.bytes", "100");
    let junk = |id| Draft::of("junk").key("k").header("otp-event-id", id);
    world.publish(&junk("first"));
    let told = (
        200,
        "DEGRADED".to_owned(),
        trouble("output-topics", &reason),
    );
    wait_until("health says so", || {
        health(&process, "/health/ready") == told
    });
    world.publish(&junk("second"));
    world.assert_works("9876576001", "goes on");
    let error = |line: &str| line.contains("ERROR") && line.contains(topic.as_str());
    let errors = |text: String| text.lines().filter(|line| error(line)).count();
    let said = process.output.text();
    let setting = said.lines().find(|line| error(line)).unwrap_or_default();
    assert!(setting.contains("max.message.bytes"), "{setting}");
    assert_eq!(world.outcomes().len(), 1);
    world.kafka.set_topic(topic, "max.message.bytes", "100000");
    for id in ["first", "second"] {
        assert_eq!(world.wait_for_outcome(id).word("disposition"), "poison");
        let letter = find(&world.dead_letters(), id);
        assert_eq!((letter.value, letter.key), (None, None));
        assert!(
            letter
                .headers
                .iter()
                .any(|(name, _)| name == "otp-value-sha256")
        );
    }
    assert_eq!(errors(process.output.text()), 1, "it says so once");
    world.wait_for_no_lag();
    assert_eq!(health(&process, "/health/ready").0, 200);
    assert!(process.is_running(), "it needed no restart");
}

#[test]
fn a_dead_letter_topic_that_is_away_costs_the_dead_letters_time_alone() {
    let world = World::new();
    let process = world.start("a");
    let topic = &world.topics.dead_letters;
    world.assert_works("9876577001", "before");
    world.kafka.delete_topics(&[topic]);
    wait_until("the topic is gone", || {
        world.kafka.partitions(topic).is_empty()
    });
    let junk = |id: &str| Draft::of("junk").header("otp-event-id", id);
    // A topic is not gone at once when it is deleted.
    let mut letters = 0;
    wait_until("health says that it is away", || {
        if world.outcomes().len() == 1 + letters {
            letters += 1;
            world.publish(&junk(&format!("n-{letters}")));
        }
        health(&process, "/health/ready").1 == "DEGRADED"
    });
    world.publish(&junk("behind"));
    let before = world.outcomes().len();
    world.assert_works("9876577002", "goes on");
    assert_eq!(world.outcomes().len(), before + 1);
    assert_eq!(health(&process, "/health/live").0, 200);
    world.kafka.create_topic(topic, 2, &[]);
    for id in [&*format!("n-{letters}"), "behind"] {
        assert_eq!(world.wait_for_outcome(id).word("disposition"), "poison");
    }
    assert_eq!(world.dead_letters().len(), 2);
    assert_eq!(health(&process, "/health/ready").0, 200);
}
