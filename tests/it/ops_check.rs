//! `user-otp check`: each thing that is as it should be, or is not, with what to type; nothing is touched.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, UNIX_EPOCH};

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use serde_json::Value;
use user_otp::egov::Service;
use user_otp::egov::standin::{Behaviour, Fault, Text};

use crate::acl::{Operation, Pattern, Permission, Resource, revoke};
use crate::command::{Ran, run, run_unheard};
use crate::kafka::{Draft, wait_until};
use crate::secure::{Secured, USER};
use crate::world::{Setup, TIERS, World};

/// A world whose request topic is as the list has it; the others are not there yet.
fn setup() -> Setup {
    let bounds = [
        ("message.timestamp.before.max.ms", "604800000"),
        ("message.timestamp.after.max.ms", "3600000"),
    ];
    Setup {
        partitions: 8,
        request_topic: bounds.to_vec(),
        sms: false,
        email: false,
        ..Setup::default()
    }
    .set("TEXTS__PINNED_LOCALES", "hi_IN")
}

/// What check says, by area and name.
struct Said {
    code: i32,
    items: BTreeMap<String, Value>,
}

impl Said {
    fn of(ran: &Ran) -> Self {
        let item = |item: Value| {
            let word = |name: &str| item[name].as_str().expect("a word").to_owned();
            (format!("{}: {}", word("area"), word("name")), item)
        };
        let lines = ran.json_lines();
        let count = lines.len();
        let items: BTreeMap<_, _> = lines.into_iter().map(item).collect();
        assert_eq!(items.len(), count, "each item has a name of its own");
        Self {
            code: ran.code,
            items,
        }
    }

    /// The names of those with a verdict.
    fn with(&self, verdict: &str) -> Vec<&str> {
        let found = self
            .items
            .iter()
            .filter(|(_, item)| item["verdict"] == verdict);
        found.map(|(name, _)| name.as_str()).collect()
    }

    #[track_caller]
    fn assert(&self, name: &str, verdict: &str, fix: &str) {
        let item = self.items.get(name);
        let item = item.unwrap_or_else(|| panic!("no {name} in {:?}", self.items.keys()));
        assert_eq!(item["verdict"], verdict, "{item}");
        assert!(
            item["fix"].to_string().contains(fix),
            "{item} without {fix}"
        );
    }
}

fn check(world: &World, options: &str) -> Said {
    // A new broker on a busy machine takes its time for the first transaction.
    let patience = match options.contains("--timeout") {
        true => "",
        false => "--timeout 60s",
    };
    let line = format!("check --output ndjson {options} {patience}");
    Said::of(&run(world, &line, ""))
}

/// Every topic of the world.
fn topics(world: &World) -> Vec<String> {
    let topics = &world.topics;
    let own = [
        &topics.dead_letters,
        &topics.outcomes,
        &topics.job_log,
        &topics.sms,
        &topics.email,
    ];
    let mut all = topics.inputs();
    all.extend(own.into_iter().cloned());
    all
}

/// How many records a reader sees that takes whatever is there.
fn seen_uncommitted(world: &World, topic: &str) -> usize {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", &world.kafka.broker)
        .set("group.id", "nobody")
        .set("isolation.level", "read_uncommitted")
        .set("enable.partition.eof", "true")
        .set("enable.auto.commit", "false")
        .create()
        .expect("a consumer");
    let mut from = TopicPartitionList::new();
    for partition in world.kafka.partitions(topic) {
        from.add_partition_offset(topic, partition, Offset::Beginning)
            .expect("a valid offset");
    }
    consumer.assign(&from).expect("a valid assignment");
    let (mut seen, mut open) = (0, from.count());
    let deadline = Instant::now() + Duration::from_secs(60);
    while open > 0 {
        assert!(Instant::now() < deadline, "{topic} is not read to its end");
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(_)) => seen += 1,
            Some(Err(KafkaError::PartitionEOF(_))) => open -= 1,
            Some(Err(_)) | None => {}
        }
    }
    seen
}

/// Who reads topics of the platform's, as far as Kafka sees it.
pub(crate) fn reader(world: &World, group: &str, topics: &[&str]) -> BaseConsumer {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", &world.kafka.broker)
        .set("group.id", format!("{}-{group}", world.name))
        .create()
        .expect("a consumer");
    consumer.subscribe(topics).expect("topics");
    wait_until("it has partitions", || {
        let _ = consumer.poll(Duration::from_millis(100));
        consumer.assignment().is_ok_and(|list| list.count() > 0)
    });
    consumer
}

#[test]
fn a_system_that_is_well_is_ok_in_everything_and_is_not_touched() {
    let world = World::with(setup());
    run(&world, "topics apply --with-platform-topics", "").well();
    let outputs = [world.topics.sms.as_str(), &world.topics.email];
    let _reader = reader(&world, "notification", &outputs);
    let mut process = world.start("a");
    world.assert_works("9876590001", "works");
    let said = check(&world, "");
    let found = (said.code, said.with("warning"), said.with("failure"));
    assert_eq!(found, (0, vec![], vec![]));
    for name in [
        "texts: pb en_IN",
        "texts: pb hi_IN",
        "clocks: egov-user",
        "clocks: broker",
        "kafka: exactly once",
    ] {
        said.assert(name, "ok", "[]");
    }
    let written = &said.items["permissions: Write topics"]["detail"];
    let count = 7 + TIERS.len();
    assert_eq!(*written, format!("{count} written to, and taken back"));
    assert!(process.is_running(), "it is not fenced");
    // Also on topics that never had a record but the marks of its abort.
    world.wait_for_no_lag();
    world.assert_works("9876590002", "still works");
    assert!(process.terminate().success(), "it ends in order");

    let look = || {
        let of = |topic: &String| (world.kafka.read(topic), seen_uncommitted(&world, topic));
        let records: Vec<_> = topics(&world).iter().map(of).collect();
        // A broker names them in any order.
        let names: BTreeSet<_> = world.kafka.topics(&world.name).into_iter().collect();
        (records, names, world.committed())
    };
    let (before, asked) = (look(), world.egov.calls(Service::Otp));
    assert_eq!(check(&world, "").code, 0);
    assert_eq!(look(), before, "no reader sees anything of it");
    assert_eq!(world.egov.calls(Service::Otp), asked, "no OTP is created");
}

#[test]
fn topics_of_the_platform_that_are_missing_do_not_fail_what_creates_ours() {
    let world = World::with(Setup {
        sms: false,
        ..setup()
    });
    let applied = run(&world, "topics apply", "").well();
    assert!(
        applied.out.contains("The platform creates its own topics"),
        "{applied:?}"
    );
    assert_eq!(run(&world, "topics plan", "").code, 1, "one is missing");
    run(&world, "topics apply --with-platform-topics", "").well();
    run(&world, "topics plan", "").well();
}

#[test]
fn a_reader_that_has_left_is_no_defect() {
    let world = World::with(setup());
    /// Of a Rust program that panics.
    const PANICKED: i32 = 101;
    let lines = [
        "config",
        "topics plan",
        "topics apply",
        "man",
        "status",
        "limits show --mobile 1",
        "job resume redrive-0",
        "health",
    ];
    for line in lines {
        let code = run_unheard(&world, line);
        assert!(
            code.is_some_and(|code| code != PANICKED),
            "{line}: {code:?}"
        );
    }
}

#[test]
fn what_is_wrong_is_said_with_what_to_type() {
    let world = World::with(setup().set("OTP__URL", "http://127.0.0.1:1/otp"));
    run(&world, "topics apply", "");
    let names = &world.topics;
    world
        .kafka
        .set_topic(&names.dead_letters, "retention.ms", "60000");
    world
        .kafka
        .set_topic(&names.outcomes, "max.message.bytes", "512");
    world
        .egov
        .set_text(Text::new("en_IN", "sms.login.otp.msg", "Your OTP."));
    let wrong = UNIX_EPOCH
        + Duration::from_millis(u64::try_from(crate::world::now()).expect("after 1970"))
        + Duration::from_secs(600);
    let clock = Fault::Status {
        status: 200,
        headers: BTreeMap::from([("date".to_owned(), httpdate::fmt_http_date(wrong))]),
        body: r#"{"user": []}"#.to_owned(),
    };
    world.egov.set(Service::Users, Behaviour::failing(clock));

    // As the mark of an abort is dated where the broker's clock is wrong.
    let ahead = Draft::of("audit").timestamp(crate::world::now() + 3_600_000);
    world.kafka.publish(&names.job_log, &ahead);

    let said = check(&world, "--tenant pb.amritsar --otp-ttl 1m");
    assert_eq!(said.code, 2);
    let create = format!("--create --topic {} --partitions 4", names.sms);
    said.assert(&format!("topics: {}", names.sms), "failure", &create);
    said.assert(&format!("topics: {}", names.email), "warning", "--create");
    let longer = format!("--entity-name {} --add-config", names.dead_letters);
    said.assert(
        &format!("topics: {}", names.dead_letters),
        "failure",
        &longer,
    );
    let larger = "max.message.bytes=65536";
    said.assert(&format!("topics: {}", names.outcomes), "failure", larger);
    said.assert(
        "services: egov-otp",
        "failure",
        "check otp.url, and that egov-otp is up",
    );
    said.assert("services: egov-user", "ok", "[]");
    said.assert("clocks: egov-user", "failure", "date -u");
    said.assert("clocks: broker", "failure", "date -u");
    let text = "texts: pb en_IN sms.login.otp.msg";
    said.assert(text, "failure", "module egov-user, locale en_IN, with %s");
    said.assert("settings: request.lifetime", "failure", "egov.otp.ttl");
    let retry = said
        .items
        .keys()
        .filter(|name| name.contains(&names.retry_prefix));
    assert_eq!(
        retry.count(),
        TIERS.len(),
        "the others are checked all the same"
    );
}

#[test]
fn topics_that_are_missing_are_created_by_nobody_and_tenants_are_asked_for() {
    let world = World::with(setup().set("TOPICS__CREATE", "false"));
    let said = check(&world, "");
    assert_eq!(said.code, 2);
    let own = format!("topics: {}", world.topics.outcomes);
    said.assert(&own, "failure", "user-otp topics apply");
    said.assert(
        "services: egov-localization",
        "warning",
        "check --tenant TENANT",
    );
    assert_eq!(
        world.kafka.topics(&world.name),
        std::slice::from_ref(&world.topics.requests)
    );
    let wrong = run(&world, "check --tenant 1", "");
    assert!(
        wrong.code == 2 && wrong.notes.contains("not a tenant id"),
        "{wrong:?}"
    );
}

#[test]
fn while_kafka_and_a_service_hang_the_rest_is_checked() {
    // Connections are taken by the system, and nobody ever answers.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = silent.local_addr().expect("an address").to_string();
    let world = World::with(
        setup()
            .set("KAFKA__BROKERS", address)
            .set("USERS__TIMEOUT", "300ms"),
    );
    world
        .egov
        .set(Service::Users, Behaviour::failing(Fault::Hang));
    let said = check(&world, "--tenant pb --timeout 300ms");
    assert_eq!(said.code, 2);
    assert_eq!(
        said.with("failure"),
        ["kafka: brokers", "services: egov-user"]
    );
    said.assert("services: egov-user", "failure", "within users.timeout");
    said.assert("kafka: brokers", "failure", "check kafka.brokers");
    said.assert("texts: pb en_IN", "ok", "[]");

    // What is known is shown while Kafka is waited for.
    let mut child = Command::new(env!("CARGO_BIN_EXE_user-otp"))
        .args(["check", "--tenant", "pb", "--timeout", "1h"])
        .env_clear()
        .envs(world.environment("operator", &[]))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("user-otp starts");
    let shown = BufReader::new(child.stdout.take().expect("it is piped"));
    let lines = shown.lines().map_while(Result::ok);
    let found = lines
        .into_iter()
        .any(|line| line.contains("egov-localization"));
    child.kill().expect("it still waits");
    child.wait().expect("it has ended");
    assert!(found);
}

#[test]
fn a_permission_that_is_lost_is_named_with_the_command_that_gives_it() {
    let secured = Secured::shared();
    let world = secured.permitted_world();
    run(&world, "topics apply", "");
    let names = &world.topics;
    let said = check(&world, "--tenant pb");
    assert_eq!(
        (said.code, said.with("failure")),
        (1, vec![]),
        "{:?}",
        said.items
    );
    let read = format!("permissions: Read {}", names.outcomes);
    said.assert(
        &read,
        "warning",
        &format!(
            "--operation Read --operation Describe --topic {}",
            names.outcomes
        ),
    );
    said.assert(
        "kafka: __transaction_state",
        "warning",
        "--topic __transaction_state",
    );

    let of_group = |operation| Permission {
        resource: Resource::Group,
        name: world.name.clone(),
        pattern: Pattern::Literal,
        operation,
    };
    secured.forbid(Operation::Write, &names.sms);
    secured.forbid(Operation::Read, &names.requests);
    for operation in [Operation::Read, Operation::Describe] {
        revoke(secured.address(), USER, &of_group(operation));
    }
    let said = check(&world, "--tenant pb");
    assert_eq!(said.code, 2);
    let lost = [
        format!("permissions: Describe group {}", world.name),
        format!("permissions: Read {}", names.requests),
        format!("permissions: Write {}", names.sms),
    ];
    assert_eq!(said.with("failure"), lost);
    let grant = format!(
        "--allow-principal User:{USER} --operation Read --operation Describe --group {}",
        world.name
    );
    said.assert(&lost[0], "failure", &grant);
    said.assert(&lost[1], "failure", &format!("--topic {}", names.requests));
    said.assert(
        &lost[2],
        "failure",
        &format!(
            "--operation Write --operation Describe --topic {}",
            names.sms
        ),
    );

    for operation in [Operation::Write, Operation::Describe] {
        let of_id = Permission {
            resource: Resource::TransactionalId,
            name: format!("{}-", world.name),
            pattern: Pattern::Prefixed,
            operation,
        };
        revoke(secured.address(), USER, &of_id);
    }
    let said = check(&world, "--tenant pb");
    let id = format!(
        "--transactional-id {}- --resource-pattern-type prefixed",
        world.name
    );
    said.assert("permissions: transactional id", "failure", &id);
}
