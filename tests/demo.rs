//! The demo as people start it: on the embedded Kafka, on a real one, and with a request of one's
//! own. `scripts/test` starts a broker and sets `OTP_TEST_KAFKA`.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on says where"
)]

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::groups::GroupInfo;
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer as _, ThreadedProducer};
use user_otp::engine::admin::Admin;

const TALLY: &str = "7 requests: 5 published (5 SMS, 2 emails), 1 rejected, 1 dead-lettered; nothing lost, nothing twice";

/// Far longer than anything takes, also on a machine that is busy.
const DEADLINE: Duration = Duration::from_secs(60);

fn demo(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_user-otp"));
    command.arg("demo").args(arguments);
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// It ended well, and the story says so.
fn assert_well(output: &Output) -> String {
    let (story, log) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{story}\n{log}");
    assert_eq!(story.lines().last(), Some(TALLY), "{story}\n{log}");
    story
}

#[test]
fn the_story_is_told_on_the_embedded_kafka() {
    let story = assert_well(&demo(&[]).output().unwrap());
    assert!(
        !story.contains('\x1b'),
        "colours are for terminals: {story}"
    );
    for line in [
        "phone     9876501033  Dear Citizen, Your OTP for recovering password is ",
        "mailbox   bala@example.org  Login OTP: Dear Citizen, Your Login OTP is ",
        "outcome   rejected (OTP.UNKNOWN_CREDENTIAL) in 1 try",
        "letter    poison: not-json",
        "retry     waits after try 1: service-unavailable at otp",
        "outcome   published in 3 tries",
        "phone     9876501006  प्रिय नागरिक",
    ] {
        assert!(story.contains(line), "{line:?} is not in\n{story}");
    }
}

#[test]
fn the_log_holds_nobodys_number_or_address() {
    let output = demo(&["--log", "debug"]).output().unwrap();
    assert_well(&output);
    let log = text(&output.stderr);
    assert!(log.contains("ready: requests are taken"), "{log}");
    for secret in ["98765010", "example.org"] {
        assert!(!log.contains(secret), "{secret:?} is in\n{log}");
    }
}

#[tokio::test]
async fn the_story_is_told_on_a_real_broker_and_nothing_is_left_there() {
    let broker = broker();
    let story = assert_well(&demo(&["--kafka", &broker]).output().unwrap());
    let topic = after(&story, "takes requests from ");
    let (prefix, _) = topic.split_once('.').unwrap();
    assert!(prefix.starts_with("demo-"), "{topic}");

    let watcher: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", &broker)
        .create()
        .unwrap();
    let groups = watcher.fetch_group_list(Some(prefix), DEADLINE);
    let groups = groups.unwrap();
    let left: Vec<_> = groups.groups().iter().map(GroupInfo::name).collect();
    assert!(left.is_empty(), "{left:?}");

    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", broker);
    let admin = Admin::connect(config, DEADLINE).await;
    let topics = admin.unwrap().list_topics().await.unwrap();
    let left: Vec<_> = topics
        .iter()
        .filter(|name| name.starts_with(prefix))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn who_stays_can_send_a_request_and_end_it() {
    let mut staying = Staying::start();
    let brokers = staying.wait_for("kcat -P -b ");
    let (brokers, topic) = brokers.split_once(" -t ").unwrap();
    staying.wait_for("ctrl-c ends it");

    let producer: ThreadedProducer<DefaultProducerContext> = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .create()
        .unwrap();
    let value = r#"{"otp": {"tenantId": "pb", "type": "login", "mobileNumber": "9876501005"}}"#;
    let record = BaseRecord::<(), str>::to(topic).payload(value);
    producer.send(record).map_err(|(error, _)| error).unwrap();
    producer.flush(DEADLINE).unwrap();
    let phone = staying.wait_for("phone     ");
    assert!(phone.starts_with("9876501005  "), "{phone}");

    staying.type_in("9876501006\n");
    let phone = staying.wait_for("phone     ");
    assert!(phone.starts_with("9876501006  "), "{phone}");

    staying.type_in("what is this\n");
    let letter = staying.wait_for("letter    ");
    assert!(letter.starts_with("poison: not-json"), "{letter}");

    staying.interrupt();
    assert_eq!(staying.end(), Some(0));
}

#[test]
fn a_broker_that_is_not_there_is_an_error_with_a_sentence() {
    // Nothing listens on port 1.
    let output = demo(&["--kafka", "127.0.0.1:1"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let log = text(&output.stderr);
    assert!(log.contains("no broker of 127.0.0.1:1 answered"), "{log}");
}

/// A demo that stays. It goes when the test goes.
struct Staying {
    child: Child,
    typed: ChildStdin,
    lines: Receiver<String>,
}

impl Staying {
    fn start() -> Self {
        let mut command = demo(&["--stay"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let typed = child.stdin.take().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let (line, lines) = mpsc::channel();
        // It ends with the demo.
        std::thread::spawn(move || {
            for text in out.lines().map_while(Result::ok) {
                let _ = line.send(text);
            }
        });
        Self {
            child,
            typed,
            lines,
        }
    }

    fn type_in(&mut self, text: &str) {
        self.typed.write_all(text.as_bytes()).unwrap();
    }

    /// Waits for a line with these words, and returns what follows.
    fn wait_for(&self, words: &str) -> String {
        let deadline = Instant::now() + DEADLINE;
        let mut story = String::new();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(line) = self.lines.recv_timeout(left) else {
                panic!("{words:?} did not come\n{story}");
            };
            if line.contains(words) {
                return after(&line, words).to_owned();
            }
            story.push_str(&line);
            story.push('\n');
        }
    }

    fn interrupt(&self) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap());
        kill(pid, Signal::SIGINT).unwrap();
    }

    fn end(&mut self) -> Option<i32> {
        // Its output ends with it.
        let deadline = Instant::now() + DEADLINE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(_) => {}
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => panic!("it did not end"),
            }
        }
        self.child.wait().unwrap().code()
    }
}

impl Drop for Staying {
    fn drop(&mut self) {
        // Fails where it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What follows these words on their line.
fn after<'a>(text: &'a str, words: &str) -> &'a str {
    let rest = text.split_once(words).map(|(_, rest)| rest);
    rest.and_then(|rest| rest.lines().next())
        .unwrap_or_default()
}

#[expect(clippy::disallowed_methods, reason = "the tests' own configuration")]
fn broker() -> String {
    std::env::var("OTP_TEST_KAFKA")
        .expect("OTP_TEST_KAFKA=host:port names the broker to test with; scripts/test starts one")
}
