//! A cluster that asks who we are: TLS, SASL and permissions, as `config/tls.toml` and
//! `topics/README.md` say.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tempfile::TempDir;
use user_otp::egov::Service;
use user_otp::egov::standin::{Behaviour, Fault, User};

use crate::acl::{Operation, Pattern, Permission, Resource, grant, revoke};
use crate::broker::{Broker, Entrance};
use crate::client::Client;
use crate::kafka::{Draft, wait_until};
use crate::management::{health, trouble};
use crate::port::Port;
use crate::redis_server::Redis;
use crate::request::Request;
use crate::world::{Setup, World, own_prefix};

/// The account of `config/tls.toml`.
pub(crate) const USER: &str = "user-otp";

/// That of who only looks, and that of who sends as well.
pub(crate) const VIEWER: &str = "otp-viewer";
pub(crate) const OPERATOR: &str = "otp-operator";

/// That of one test alone: brokers ask some whether they may write to any topic, and so of another test's.
pub(crate) const NEWCOMER: &str = "otp-newcomer";

/// Of each.
const PASSWORD: &str = "correct-horse-battery-staple";

/// A broker whose second listener speaks TLS, wants SCRAM, and allows what it is told to. The tests
/// themselves come in by the first one, and may do everything.
pub(crate) struct Secured {
    broker: Broker,
    files: TempDir,
    port: u16,
}

impl Secured {
    /// One for all tests that run now: each has topics and permissions of its own.
    pub(crate) fn shared() -> Arc<Self> {
        static SHARED: Mutex<Weak<Secured>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        shared.upgrade().unwrap_or_else(|| {
            let started = Arc::new(Self::start());
            *shared = Arc::downgrade(&started);
            started
        })
    }

    fn start() -> Self {
        let files = TempDir::new().expect("a folder");
        make_authority(files.path(), "ca");
        make_authority(files.path(), "stranger");
        make_certificate(files.path());
        let reserved = Port::reserve();
        let port = reserved.number();
        let entrance = Entrance {
            name: "SECURE",
            protocol: "SASL_SSL",
            port: reserved,
            advertised: port,
        };
        let keys = files.path().join("broker.pem");
        let properties = [
            "listener.name.secure.ssl.keystore.type=PEM".to_owned(),
            format!("listener.name.secure.ssl.keystore.location={}", keys.display()),
            "listener.name.secure.sasl.enabled.mechanisms=SCRAM-SHA-512".to_owned(),
            "listener.name.secure.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;".to_owned(),
            "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer".to_owned(),
            "super.users=User:ANONYMOUS".to_owned(),
        ];
        let accounts = [USER, VIEWER, OPERATOR, NEWCOMER].map(|user| format!("{user}={PASSWORD}"));
        let broker = Broker::with_entrance(entrance, &properties, &accounts);
        Self {
            broker,
            files,
            port,
        }
    }

    /// Where the tests themselves come in.
    pub(crate) fn address(&self) -> &str {
        &self.broker.address
    }

    fn authority(&self, name: &str) -> String {
        let file = self.files.path().join(format!("{name}.pem"));
        file.display().to_string()
    }

    /// A world whose processes come in by the secured listener, as the example file says.
    fn world(&self) -> World {
        let setup = Setup {
            broker: Some(self.broker.address.clone()),
            ..Setup::default()
        }
        .set(
            "CONFIG",
            concat!(env!("CARGO_MANIFEST_DIR"), "/config/tls.toml"),
        )
        .set("KAFKA__BROKERS", format!("127.0.0.1:{}", self.port))
        .set("KAFKA__SSL_CA_LOCATION", self.authority("ca"))
        .set("KAFKA__SASL_PASSWORD", PASSWORD)
        // What may be created is created, and else refused by the broker.
        .set("TOPICS__CREATE", "true");
        let world = World::with(setup);
        world.keep_secret(PASSWORD);
        world
    }

    /// A world that has exactly the permissions that the documentation lists, and its outcome
    /// topic, which they do not let it create.
    pub(crate) fn permitted_world(&self) -> World {
        let world = self.world();
        world.kafka.create_topic(&world.topics.outcomes, 2, &[]);
        self.permit(&world, USER, USER);
        world
    }

    /// Gives an account exactly the permissions that the documentation lists for `listed`.
    pub(crate) fn permit(&self, world: &World, user: &str, listed: &str) {
        grant(&self.broker.address, user, &documented(world, listed));
    }

    /// Until the returned permission is given back, the topic may not be written to, or not even be
    /// looked at.
    pub(crate) fn forbid(&self, operation: Operation, topic: &str) -> Permission {
        let permission = Permission::on_topic(operation, topic);
        revoke(&self.broker.address, USER, &permission);
        permission
    }

    pub(crate) fn allow(&self, permissions: &[Permission]) {
        grant(&self.broker.address, USER, permissions);
    }
}

/// `openssl` with these arguments, in a folder.
fn openssl(folder: &Path, arguments: &str) {
    let output = Command::new("openssl")
        .args(arguments.split(' '))
        .current_dir(folder)
        .output()
        .expect("openssl runs");
    assert!(
        output.status.success(),
        "openssl {arguments}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

const NEW_KEY: &str = "req -x509 -days 2 -nodes -newkey ec -pkeyopt ec_paramgen_curve:prime256v1";

fn make_authority(folder: &Path, name: &str) {
    openssl(
        folder,
        &format!("{NEW_KEY} -subj /CN={name} -keyout {name}.key -out {name}.pem"),
    );
}

/// The broker's own, and its key, as one file.
fn make_certificate(folder: &Path) {
    openssl(
        folder,
        &format!(
            "{NEW_KEY} -subj /CN=broker -addext subjectAltName=IP:127.0.0.1 -addext basicConstraints=critical,CA:FALSE \
             -CA ca.pem -CAkey ca.key -keyout broker.key -out broker.crt"
        ),
    );
    let read = |name| std::fs::read_to_string(folder.join(name)).expect("openssl has written it");
    std::fs::write(
        folder.join("broker.pem"),
        read("broker.key") + &read("broker.crt"),
    )
    .expect("a file");
}

/// The permissions that `topics/README.md` gives an account, with the names of this world.
pub(crate) fn documented(world: &World, user: &str) -> Vec<Permission> {
    let text = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/topics/README.md"));
    let text = text.replace("\\\n", " ");
    let account = format!("User:{user}");
    let (mut is_theirs, mut listed) = (false, Vec::new());
    for line in text.lines().map(str::trim) {
        if let Some(start) = line.strip_prefix("acl=") {
            let words = start.trim_matches('"').split_whitespace();
            is_theirs = words.into_iter().any(|word| word == account);
        } else if let Some(command) = line.strip_prefix("$acl ")
            && is_theirs
        {
            listed.extend(permissions(world, command));
        }
    }
    assert!(!listed.is_empty(), "the documentation lists {user}'s");
    listed
}

fn permissions(world: &World, command: &str) -> Vec<Permission> {
    let words: Vec<_> = command.split_whitespace().collect();
    let (mut operations, mut resources, mut pattern) = (Vec::new(), Vec::new(), Pattern::Literal);
    for option in words.chunks(2) {
        match option {
            ["--operation", "All"] => operations.push(Operation::All),
            ["--operation", "Read"] => operations.push(Operation::Read),
            ["--operation", "Write"] => operations.push(Operation::Write),
            ["--operation", "Describe"] => operations.push(Operation::Describe),
            ["--operation", "DescribeConfigs"] => operations.push(Operation::DescribeConfigs),
            ["--topic", name] => resources.push((Resource::Topic, topic(world, name))),
            ["--group", name] => {
                let name = match *name {
                    "user-otp" => world.name.clone(),
                    // Somebody else's.
                    name => format!("{}-{name}", world.name),
                };
                resources.push((Resource::Group, name));
            }
            ["--transactional-id", name] => {
                let rest = name.strip_prefix("user-otp").expect("an id of ours");
                let name = format!("{}{rest}", world.name);
                resources.push((Resource::TransactionalId, name));
            }
            ["--resource-pattern-type", "prefixed"] => pattern = Pattern::Prefixed,
            other => panic!("the test does not know {other:?}"),
        }
    }
    let each = resources.iter().flat_map(|(resource, name)| {
        operations.iter().map(move |operation| Permission {
            resource: *resource,
            name: name.clone(),
            pattern,
            operation: *operation,
        })
    });
    each.collect()
}

/// What this world calls a topic of the documentation.
fn topic(world: &World, name: &str) -> String {
    match name {
        "user-otp." => own_prefix(&world.name),
        "egov.core.otp.request" => world.topics.requests.clone(),
        "egov.core.otp.outcome" => world.topics.outcomes.clone(),
        "egov.core.notification.sms.otp" => world.topics.sms.clone(),
        "org.egov.core.notification.email" => world.topics.email.clone(),
        "user-otp.jobs.request" => world.topics.jobs.clone(),
        "user-otp.jobs" => world.topics.job_log.clone(),
        // The brokers' own.
        "__transaction_state" | "__consumer_offsets" => name.to_owned(),
        other => panic!("the test does not know {other}"),
    }
}

#[test]
fn with_tls_a_password_and_the_listed_permissions_every_end_is_reached() {
    let secured = Secured::shared();
    let world = secured.permitted_world();
    let mut process = world.start("a");
    world
        .egov
        .add_user(User::citizen("9876530001", "pb").with_email(&world.address("secure")));
    world.request(&Request::login("9876530001").id("sent"));
    assert_eq!(world.wait_for_outcome("sent").summary(), "published");
    assert_eq!((world.sms().len(), world.emails().len()), (1, 1));
    world.publish(&Draft::of("junk").header("otp-event-id", "junk"));
    world.wait_for_outcome("junk");
    assert_eq!(world.dead_letters().len(), 1);
    let outage = Behaviour::failing(Fault::status(503)).times(3);
    world.egov.set(Service::Otp, outage);
    world.request(&Request::register("9876530002").id("retried"));
    let retried = world.wait_for_outcome("retried");
    assert_eq!(
        (retried.summary().as_str(), retried.get("attempts")),
        ("published", 2.into())
    );
    world.wait_for_no_lag();
    assert!(process.terminate().success(), "it ends in order");
}

#[test]
fn a_wrong_password_authority_or_protocol_ends_the_start_with_a_sentence() {
    let secured = Secured::shared();
    let world = secured.world();
    let wrong = "incorrect-horse-battery-staple";
    world.keep_secret(wrong);
    let stranger = secured.authority("stranger");
    let mistakes = [
        ("KAFKA__SASL_PASSWORD", wrong, "sasl.password"),
        ("KAFKA__SSL_CA_LOCATION", &stranger, "ssl.ca.location"),
        ("KAFKA__SECURITY_PROTOCOL", "PLAINTEXT", "security.protocol"),
    ];
    let processes = mistakes.map(|(setting, value, word)| {
        let settings = [(setting, value), ("KAFKA__STARTUP_TIMEOUT", "15s")];
        (world.spawn_with(word, &settings), word)
    });
    for (mut process, word) in processes {
        assert_eq!(process.wait_ended().code(), Some(1), "{word}");
        let said = process.output.text();
        let last = said.lines().last().unwrap_or_default();
        assert!(last.contains(word), "it names {word} at its end:\n{said}");
        assert!(!process.is_ready());
    }
}

#[test]
fn while_sms_may_not_be_written_requests_wait_and_nothing_else_does() {
    let secured = Secured::shared();
    let world = secured.permitted_world();
    let mut process = world.start("a");
    world.assert_works("9876530101", "before");
    // The one that is looked for first, and then the other: a topic that may be seen and not be
    // written to, and one that is not seen at all, are found out by different answers.
    let mut permissions = vec![secured.forbid(Operation::Write, &world.topics.sms)];
    world.request(&Request::register("9876530102").id("held"));
    let reason = format!(
        "{} is missing or forbidden: what is for it waits",
        world.topics.sms
    );
    let ready = || health(&process, "/health/ready");
    wait_until("health says so", || {
        ready() == (503, "DOWN".to_owned(), trouble("output-topics", &reason))
    });
    world.requests(&[
        Request::register("9876530103").id("behind"),
        // Who has an account is not registered again: that needs no SMS.
        Request::register("9876530101").id("refused"),
    ]);
    assert_eq!(
        world.wait_for_outcome("refused").word("outcome"),
        "rejected"
    );
    let before = process.output.text().len();
    permissions.push(secured.forbid(Operation::Describe, &world.topics.sms));
    wait_until("it is tried without a look at the topic", || {
        process.output.text()[before..]
            .contains("Message production error: TopicAuthorizationFailed")
    });
    assert_eq!(world.egov.otp_of("9876530103"), Vec::<String>::new());
    secured.allow(&permissions);
    for id in ["held", "behind"] {
        let outcome = world.wait_for_outcome(id);
        assert_eq!(outcome.summary(), "published");
        assert_eq!(outcome.get("attempts"), 1, "no try is spent");
    }
    assert_eq!((world.sms().len(), world.dead_letters().len()), (3, 0));
    assert_eq!(ready().0, 200);
    world.wait_for_no_lag();
    assert!(process.is_running(), "it needed no restart");
}

#[test]
fn while_emails_may_not_be_written_sms_go_alone() {
    let secured = Secured::shared();
    let world = secured.permitted_world();
    let mut process = world.start("a");
    world
        .egov
        .add_user(User::citizen("9876530201", "pb").with_email(&world.address("alone")));
    let permission = secured.forbid(Operation::Write, &world.topics.email);
    world.request(&Request::login("9876530201").id("alone"));
    let alone = world.wait_for_outcome("alone");
    assert_eq!(alone.summary(), "published/email-topic-missing");
    assert_eq!((world.sms().len(), world.emails().len()), (1, 0));
    secured.allow(&[permission]);
    world.request(&Request::login("9876530201").id("both"));
    assert_eq!(world.wait_for_outcome("both").summary(), "published");
    assert_eq!((world.sms().len(), world.emails().len()), (2, 1));
    assert!(process.is_running(), "it needed no restart");
}

#[test]
fn while_outcomes_may_not_be_written_everything_waits_and_then_goes_on() {
    let secured = Secured::shared();
    let world = secured.permitted_world();
    let mut process = world.start("a");
    world.assert_works("9876530301", "before");
    let permission = secured.forbid(Operation::Write, &world.topics.outcomes);
    world.request(&Request::register("9876530302").id("held"));
    let warning = |line: &str| line.contains("WARN") && line.contains(&world.topics.outcomes);
    wait_until("it says what it waits for", || {
        process.output.has_line(warning)
    });
    assert_eq!(world.sms().len(), 1, "no SMS without its outcome");
    secured.allow(&[permission]);
    assert_eq!(world.wait_for_outcome("held").summary(), "published");
    assert_eq!((world.sms().len(), world.dead_letters().len()), (2, 0));
    let warnings = process.output.text();
    let warnings = warnings.lines().filter(|line| warning(line)).count();
    assert_eq!(warnings, 1, "it says so once");
    assert!(process.is_running(), "it needed no restart");
}

#[test]
fn redis_is_asked_over_tls_where_its_certificate_is_trusted_and_is_away_where_not() {
    let files = TempDir::new().expect("a folder");
    make_authority(files.path(), "ca");
    make_authority(files.path(), "stranger");
    make_certificate(files.path());
    let file = |name: &str| files.path().join(name).display().to_string();
    let reserved = Port::reserve();
    let port = reserved.number();
    let options = [
        ("--tls-port", port.to_string()),
        ("--tls-cert-file", file("broker.crt")),
        ("--tls-key-file", file("broker.key")),
        ("--tls-auth-clients", "no".to_owned()),
    ];
    let _redis = Redis::with(
        &options
            .map(|(name, value)| [name.to_owned(), value])
            .concat(),
    );
    let world = World::with(
        Setup::default()
            .set("LIMITS__REDIS", format!("rediss://127.0.0.1:{port}"))
            .set("LIMITS__REDIS_TIMEOUT", "1s"),
    );
    let ask = |authority: &str| {
        let process = world.spawn_with("a", &[("SSL_CERT_FILE", &file(authority))]);
        let body = Request::register("9876570001").body();
        let answer = Client::connect(&process).post(&body, &[("Idempotency-Key", "key")]);
        assert_eq!(answer.status, 201, "{authority}");
        process
            .output
            .has_line(|line| line.contains("Redis is away"))
    };
    assert!(!ask("ca.pem"), "it is well");
    assert!(!ask("ca.pem"), "it is well");
    assert_eq!(world.sms().len(), 1, "it knew the key");
    assert!(ask("stranger.pem"), "anybody could be this Redis");
    assert_eq!(world.sms().len(), 2, "this instance had not seen the key");
}

/// Ends the server with the test.
struct TlsServer(Child);

impl Drop for TlsServer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_service_over_tls_must_show_a_certificate_that_the_system_trusts() {
    let folder = TempDir::new().expect("a folder");
    make_authority(folder.path(), "ca");
    make_certificate(folder.path());
    let server = Command::new("openssl")
        .args("s_server -www -accept 127.0.0.1:0 -cert broker.crt -key broker.key".split(' '))
        .current_dir(folder.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    let mut server = TlsServer(server.expect("openssl runs"));
    let said = BufReader::new(server.0.stdout.take().expect("it is piped"));
    let mut lines = said.lines().map_while(Result::ok);
    let address = lines.find_map(|line| Some(line.strip_prefix("ACCEPT ")?.to_owned()));
    let url = format!("https://{}", address.expect("it says where it is"));

    let world = World::new();
    let check = |trusted: &str| {
        let checked = Command::new(env!("CARGO_BIN_EXE_user-otp"))
            .args(["check", "--timeout", "5s"])
            .env_clear()
            .envs(world.environment("operator", &[("OTP__URL", &url)]))
            .env("SSL_CERT_FILE", folder.path().join(trusted))
            .output();
        let out = checked.expect("user-otp runs").stdout;
        let out = String::from_utf8(out).expect("it is text");
        let otp = out
            .lines()
            .find(|line| line.contains(" services ") && line.contains("egov-otp"));
        otp.expect("it looks at egov-otp").to_owned()
    };
    make_authority(folder.path(), "other");
    let (trusted, other) = (check("ca.pem"), check("other.pem"));
    assert!(other.contains("no connection"), "{other}");
    assert!(trusted.contains("no answer"), "{trusted}");
}
