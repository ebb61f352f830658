//! Believable stand-ins of the four services, over real HTTP on one port: for the demo, the
//! tests, the benchmark and people's own trials (`user-otp standin`).
//!
//! They answer on the services' default paths:
//!
//! | service | path |
//! | --- | --- |
//! | `users` (egov-user) | `POST /user/_search` |
//! | `otp` (egov-otp) | `POST /otp/v1/_create` |
//! | `texts` (egov-localization) | `POST /localization/messages/v1/_search` |
//! | `rules` (egov-mdms) | `POST /egov-mdms-service/v1/_search` |
//!
//! What they do is a script, set through [`Standin`] or over HTTP:
//!
//! | call | effect |
//! | --- | --- |
//! | `GET /_standin/health` | 200 as soon as it listens |
//! | `GET /_standin/journal` | the calls so far, a JSON array, oldest first |
//! | `PUT /_standin/behaviour/{service}` | a [`Behaviour`] for `users`, `otp`, `texts` or `rules`; `{}` heals |
//! | `PUT /_standin/users` | adds users or replaces them: an array of [`User`] |
//! | `PUT /_standin/everyone` | `true`: every number is a known citizen without email |
//! | `PUT /_standin/texts` | an array of [`Text`] |
//! | `PUT /_standin/rules` | a [`RulesOf`] |
//!
//! For example, an egov-otp that is down for ten seconds:
//! `curl -X PUT localhost:9000/_standin/behaviour/otp -d '{"fault":{"kind":"status","status":503},"healsAfterMs":10000}'`

mod behaviour;
mod control;
mod journal;
mod line;
mod population;
mod services;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use behaviour::{Behaviour, Fault};
pub use journal::Call;
pub use population::{RulesOf, Text, User};

use self::behaviour::Stage;
use self::journal::Journal;
use self::population::Population;
use super::Service;
use crate::clock::Clock;

/// How long [`Standin::stop`] waits for answers under way.
const GRACE: Duration = Duration::from_secs(1);

/// What the stand-ins do from the start.
#[derive(Debug, Clone)]
pub struct Script {
    /// What egov-user does.
    pub users: Behaviour,
    /// What egov-otp does.
    pub otp: Behaviour,
    /// What egov-localization does.
    pub texts: Behaviour,
    /// What egov-mdms does.
    pub rules: Behaviour,
    /// Every number is a known citizen without email.
    pub everyone: bool,
    /// Calls that the journal keeps, the newest; 0: none.
    pub journal: usize,
    /// Tells the time of a call.
    pub clock: Clock,
}

impl Default for Script {
    /// Everything answers at once; the journal keeps 100,000 calls.
    fn default() -> Self {
        Self {
            users: Behaviour::default(),
            otp: Behaviour::default(),
            texts: Behaviour::default(),
            rules: Behaviour::default(),
            everyone: false,
            journal: 100_000,
            clock: Clock::system(),
        }
    }
}

/// The running stand-ins. When it is dropped they end; [`Standin::stop`] also waits for the end.
#[derive(Debug)]
pub struct Standin {
    shared: Arc<Shared>,
    address: SocketAddr,
    tasks: TaskTracker,
}

/// What the handlers share with the handle.
#[derive(Debug)]
struct Shared {
    population: Population,
    stages: [Stage; Service::ALL.len()],
    journal: Journal,
    clock: Clock,
    /// Cancelled when the stand-ins stop: who waits then gets a reset connection.
    closed: CancellationToken,
}

impl Shared {
    fn stage(&self, service: Service) -> &Stage {
        &self.stages[service as usize]
    }
}

impl Standin {
    /// Serves on `listener`.
    ///
    /// # Errors
    /// The listener has no local address.
    pub async fn start(listener: TcpListener, script: Script) -> std::io::Result<Self> {
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            population: Population::new(script.everyone),
            stages: [script.users, script.otp, script.texts, script.rules].map(Stage::new),
            journal: Journal::new(script.journal),
            clock: script.clock,
            closed: CancellationToken::new(),
        });
        let routes = services::routes()
            .merge(control::routes())
            .with_state(Arc::clone(&shared))
            .into_make_service_with_connect_info::<line::Wire>();
        let closed = shared.closed.clone();
        let tasks = TaskTracker::new();
        tasks.spawn(async move {
            let serve = axum::serve(line::Listener::new(listener), routes)
                .with_graceful_shutdown(closed.clone().cancelled_owned());
            let grace = async {
                closed.cancelled().await;
                tokio::time::sleep(GRACE).await;
            };
            tokio::select! {
                // It retries what fails on accepting, so it ends without an error.
                _ = serve => {}
                () = grace => {}
            }
        });
        tasks.close();
        Ok(Self {
            shared,
            address,
            tasks,
        })
    }

    /// The base address: `http://127.0.0.1:PORT`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Adds a user, or replaces the one who is found alike.
    pub fn add_user(&self, user: User) {
        self.shared.population.add_user(user);
    }

    /// Whether every number is a known citizen without email.
    pub fn everyone(&self, known: bool) {
        self.shared.population.set_everyone(known);
    }

    /// Sets one text; `None` removes it.
    pub fn set_text(&self, text: Text) {
        self.shared.population.set_text(text);
    }

    /// Sets a tenant's rules for mobile numbers.
    pub fn set_rules(&self, rules: RulesOf) {
        self.shared.population.set_rules(rules);
    }

    /// Changes what a service does, from the next call on.
    pub fn set(&self, service: Service, behaviour: Behaviour) {
        self.shared.stage(service).set(behaviour);
    }

    /// Calls that have arrived at a service.
    #[must_use]
    pub fn calls(&self, service: Service) -> usize {
        self.shared.stage(service).calls()
    }

    /// The calls that the journal keeps, oldest first.
    #[must_use]
    pub fn journal(&self) -> Vec<Call> {
        self.shared.journal.calls()
    }

    /// The OTPs created for a number, oldest first.
    #[must_use]
    pub fn otp_of(&self, mobile: &str) -> Vec<String> {
        let of_number = |call: Call| call.otp.filter(|_| call.mobile.as_deref() == Some(mobile));
        self.journal().into_iter().filter_map(of_number).collect()
    }

    /// Waits until the journal fulfils `predicate`, which is asked again after each call.
    /// False when that did not happen within `limit`.
    pub async fn wait_for(&self, limit: Duration, predicate: impl FnMut(&[Call]) -> bool) -> bool {
        let fulfilled = self.shared.journal.until(predicate);
        tokio::time::timeout(limit, fulfilled).await.is_ok()
    }

    /// Stops listening, resets what is under way, and waits for the end.
    pub async fn stop(self) {
        self.shared.closed.cancel();
        self.tasks.wait().await;
    }
}

impl Drop for Standin {
    fn drop(&mut self) {
        self.shared.closed.cancel();
    }
}

/// A well-mixed number from a counter (`splitmix64`): cheap, and good enough for a stand-in.
fn mix(counter: u64) -> u64 {
    let mut z = counter.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;

    const LONG: Duration = Duration::from_secs(20);

    async fn standin(script: Script) -> Standin {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Standin::start(listener, script).await.unwrap()
    }

    fn http() -> reqwest::Client {
        reqwest::Client::builder().timeout(LONG).build().unwrap()
    }

    async fn put(standin: &Standin, path: &str, body: &Value) -> u16 {
        let url = format!("{}/_standin/{path}", standin.url());
        let answer = http().put(url).body(body.to_string()).send().await.unwrap();
        answer.status().as_u16()
    }

    async fn post(standin: &Standin, path: &str, body: &Value) -> Value {
        let url = format!("{}{path}", standin.url());
        let answer = http()
            .post(url)
            .body(body.to_string())
            .send()
            .await
            .unwrap();
        serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap()
    }

    fn search(mobile: &str, tenant: &str) -> Value {
        json!({"userName": null, "tenantId": tenant, "userType": "CITIZEN",
               "mobileNumber": mobile})
    }

    fn creation(mobile: &str) -> Value {
        json!({"otp": {"identity": mobile, "tenantId": "pb.amritsar",
                       "isValidationSuccessful": false}})
    }

    #[tokio::test]
    async fn people_change_the_script_over_http() {
        let standin = standin(Script::default()).await;
        let users = json!([{"mobileNumber": "9876500042", "emailId": "a@b.c", "tenantId": "dl"}]);
        assert_eq!(put(&standin, "users", &users).await, 200);
        let found = post(&standin, "/user/_search", &search("9876500042", "dl")).await;
        assert_eq!(found["user"][0]["emailId"], "a@b.c");

        assert_eq!(put(&standin, "everyone", &json!(true)).await, 200);
        let found = post(&standin, "/user/_search", &search("9876500043", "dl")).await;
        assert_eq!(found["user"][0]["mobileNumber"], "9876500043");

        let texts = json!([{"tenantId": "*", "locale": "ta_IN", "code": "c", "message": "%s"}]);
        assert_eq!(put(&standin, "texts", &texts).await, 200);
        let path = "/localization/messages/v1/_search?tenantId=pb&module=m&locale=ta_IN";
        let found = post(&standin, path, &json!({})).await;
        assert_eq!(found["messages"][0]["message"], "%s");

        let rules = json!({"tenantId": "*", "entries": []});
        assert_eq!(put(&standin, "rules", &rules).await, 200);
        let criteria = json!({"MdmsCriteria": {"tenantId": "pb", "moduleDetails": [
            {"moduleName": "m", "masterDetails": [{"name": "n"}]}]}});
        let found = post(&standin, "/egov-mdms-service/v1/_search", &criteria).await;
        assert_eq!(found["MdmsRes"]["m"]["n"], json!([]));

        let down = json!({"fault": {"kind": "tracer", "code": "QUERY_EXECUTION_ERROR"}});
        assert_eq!(put(&standin, "behaviour/otp", &down).await, 200);
        let answer = post(&standin, "/otp/v1/_create", &creation("9876543210")).await;
        assert_eq!(answer["Errors"][0]["code"], "QUERY_EXECUTION_ERROR");

        assert_eq!(
            put(&standin, "behaviour/otp", &json!({"dealyMs": 1})).await,
            400
        );
        assert_eq!(put(&standin, "behaviour/sms", &json!({})).await, 404);
    }

    #[tokio::test]
    async fn the_journal_says_what_was_asked_newest_kept() {
        let script = Script {
            journal: 2,
            ..Script::default()
        };
        let standin = standin(script).await;
        for mobile in ["9876500001", "9876500002", "9876500003"] {
            let answer = post(&standin, "/otp/v1/_create", &creation(mobile)).await;
            assert_eq!(
                standin.otp_of(mobile),
                [answer["otp"]["otp"].as_str().unwrap()]
            );
        }
        let url = format!("{}/_standin/journal", standin.url());
        let answer = http().get(url).send().await.unwrap();
        let journal: Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
        assert_eq!(journal.as_array().unwrap().len(), 2);
        assert_eq!(journal[0]["mobile"], "9876500002");
        assert_eq!(journal[0]["service"], "otp");
        assert!(!format!("{:?}", standin.journal()).contains("98765"));
    }

    #[tokio::test]
    async fn a_test_can_wait_for_the_moment_an_otp_is_created() {
        let standin = standin(Script::default()).await;
        let slow = Behaviour::failing(Fault::SlowHeader { pause_ms: 60_000 });
        standin.set(Service::Otp, slow);
        let body = creation("9876543210");
        let created = standin.wait_for(LONG, |calls| calls.iter().any(|call| call.otp.is_some()));
        tokio::select! {
            created = created => assert!(created),
            _ = post(&standin, "/otp/v1/_create", &body) => panic!("the answer is minutes away"),
        }
        assert!(
            !standin
                .wait_for(Duration::ZERO, |calls| calls.len() > 1)
                .await
        );
    }

    #[tokio::test]
    async fn a_reset_is_a_reset_and_a_cut_answer_just_ends() {
        let standin = standin(Script::default()).await;
        let end_of = async |fault| {
            standin.set(Service::Otp, Behaviour::failing(fault));
            let body = creation("9876543210").to_string();
            let head = format!(
                "POST /otp/v1/_create HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n",
                body.len()
            );
            let mut stream = TcpStream::connect(standin.address).await.unwrap();
            stream.write_all((head + &body).as_bytes()).await.unwrap();
            let mut answer = Vec::new();
            let ended = stream.read_to_end(&mut answer).await;
            (ended.map_err(|error| error.kind()), answer)
        };
        let (ended, answer) = end_of(Fault::Reset).await;
        assert_eq!(ended, Err(std::io::ErrorKind::ConnectionReset));
        assert!(answer.is_empty());
        let (ended, answer) = end_of(Fault::Truncated).await;
        assert_eq!(ended, Ok(answer.len()));
        let answer = String::from_utf8(answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 201 Created\r\n"), "{answer}");
        assert!(
            answer.contains("\r\n\r\n{") && !answer.ends_with('}'),
            "{answer}"
        );
    }

    #[tokio::test]
    async fn it_stops_at_once_though_somebody_waits() {
        let standin = standin(Script::default()).await;
        standin.set(Service::Users, Behaviour::failing(Fault::Hang));
        let url = format!("{}/user/_search", standin.url());
        let body = search("9876543210", "pb").to_string();
        let request = http().post(url).body(body).send();
        let stops = async {
            assert!(standin.wait_for(LONG, |calls| calls.len() == 1).await);
            let address = standin.address;
            tokio::time::timeout(LONG, standin.stop()).await.unwrap();
            address
        };
        let (answer, address) = tokio::join!(request, stops);
        assert!(answer.is_err());
        assert!(
            TcpListener::bind(address).await.is_ok(),
            "its port is free again"
        );
    }
}
