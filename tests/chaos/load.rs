//! Who asks: a producer on the request topic, and clients of the HTTP doors.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::error::KafkaError;
use rdkafka::message::{DeliveryResult, Header, Message as _, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer as _, ProducerContext, ThreadedProducer};
use rdkafka::types::RDKafkaErrorCode;
use user_otp::clock::Clock;
use user_otp::egov::standin::{Standin, User};

use crate::chance::{Chance, Stop};
use crate::fleet::{Fleet, NAMES};
use crate::ledger::{Door, Entry, Ledger};
use crate::people::{Expect, Person, Wish, poison};

/// What all who ask share.
pub(crate) struct Load {
    /// Where everybody but the instances connects.
    pub(crate) brokers: String,
    /// Who holds this, holds up the load on the request topic.
    pub(crate) producer: Mutex<RequestProducer>,
    pub(crate) ledger: Arc<Mutex<Ledger>>,
    pub(crate) egov: Arc<Standin>,
    pub(crate) seed: u64,
    pub(crate) people: AtomicU32,
    pub(crate) clock: Clock,
}

/// Between two looks at who is due.
const TICK: Duration = Duration::from_millis(10);

/// Clients of each instance's door, so that one that stands still holds up none of the others'.
const CLIENTS: u64 = 3;

/// Longer than any answer may take, but by a process that stands still.
const PATIENCE: Duration = Duration::from_secs(30);

impl Load {
    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the next person known where they are registered.
    fn next_person(&self, make: fn(u32, u64) -> Person) -> (u32, Person) {
        let index = self.people.fetch_add(1, Ordering::SeqCst);
        let person = make(index, self.seed);
        if person.registered {
            let user = User::citizen(&person.number, person.state());
            self.egov.add_user(match person.address() {
                Some(address) => user.with_email(&address),
                None => user,
            });
        }
        (index, person)
    }

    fn now(&self) -> i64 {
        self.clock.now().0
    }

    /// Publishes so many requests a second until `stop`, and waits until all of them are in the log.
    pub(crate) fn publish(&self, topic: &str, rate: u32, stop: &Stop) {
        let begin = Instant::now();
        let (mut made, mut due) = (0_u64, BTreeMap::new());
        while stop.wait(TICK) {
            let now = Instant::now();
            let wanted = begin.elapsed().as_millis() * u128::from(rate) / 1_000;
            // What a person still wants is made as well, only later.
            while u128::from(made) + (due.len() as u128) < wanted {
                let person = Arc::new(self.next_person(Person::on_the_stream));
                let mut at = now;
                for (number, wish) in person.1.wishes.iter().enumerate() {
                    at += Duration::from_millis(wish.after);
                    due.insert((at, person.0, number), Arc::clone(&person));
                }
            }
            let producer = self.producer();
            while let Some(first) = due.first_entry().filter(|first| first.key().0 <= now) {
                let ((_, _, number), person) = first.remove_entry();
                self.publish_one(&producer, topic, &person, &person.1.wishes[number]);
                made += 1;
            }
        }
        let flushed = self.producer().flush(Duration::from_secs(300));
        if let Err(error) = flushed {
            eprintln!("not all requests are known to be in the log: {error}");
        }
    }

    fn producer(&self) -> MutexGuard<'_, RequestProducer> {
        self.producer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Holds up the load on the request topic for as long as `work` takes. All that was published is in
    /// the log then; none: it is not within `limit`, and nothing was done. Later requests come from a new
    /// producer, that knows the topic as it is then.
    pub(crate) fn pause<T>(&self, limit: Duration, work: impl FnOnce() -> T) -> Option<T> {
        let mut producer = self.producer();
        producer.flush(limit).ok()?;
        let done = work();
        *producer = request_producer(&self.brokers, Arc::clone(&self.ledger));
        Some(done)
    }

    fn publish_one(
        &self,
        producer: &RequestProducer,
        topic: &str,
        (index, person): &(u32, Person),
        wish: &Wish,
    ) {
        let now = self.now();
        let request = self
            .ledger()
            .enter((*index, person), wish, Door::Stream, now);
        let id = format!("c-{request}");
        let deadline = wish
            .life
            .map(|life| (now + i64::try_from(life).unwrap_or(0)).to_string());
        let mut headers = OwnedHeaders::new().insert(Header {
            key: "otp-event-id",
            value: Some(&id),
        });
        if let Some(deadline) = &deadline {
            headers = headers.insert(Header {
                key: "otp-deadline-ms",
                value: Some(deadline),
            });
        }
        let key = format!("{}:{}", person.tenant, person.number);
        let body = match wish.expect {
            Expect::Poison => poison(request),
            Expect::Sms | Expect::Rejection => Some(person.body(wish)),
        };
        let mut record: BaseRecord<'_, str, [u8], Box<u32>> =
            BaseRecord::with_opaque_to(topic, Box::new(request))
                .key(key.as_str())
                .timestamp(now)
                .headers(headers);
        record.payload = body.as_deref();
        while let Err((error, again)) = producer.send(record) {
            if error != KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull) {
                eprintln!("a request was not taken: {error}");
                return;
            }
            let _ = producer.flush(Duration::from_secs(1));
            record = again;
        }
    }

    /// Posts to the doors of all instances until `stop`, about so often a second.
    pub(crate) async fn post(self: Arc<Self>, fleet: Arc<Fleet>, rate: u32, stop: Arc<Stop>) {
        let clients = CLIENTS * NAMES.len() as u64;
        let pace = Duration::from_millis(1_000 * clients / u64::from(rate.max(1)));
        let tasks = tokio_util::task::TaskTracker::new();
        for number in 0..clients {
            let load = Arc::clone(&self);
            let (fleet, stop) = (Arc::clone(&fleet), Arc::clone(&stop));
            let instance = usize::try_from(number).unwrap_or(0) % NAMES.len();
            tasks.spawn(async move {
                load.keep_posting(&fleet, instance, number, pace, &stop)
                    .await;
            });
        }
        tasks.close();
        tasks.wait().await;
    }

    async fn keep_posting(
        &self,
        fleet: &Fleet,
        instance: usize,
        number: u64,
        pace: Duration,
        stop: &Stop,
    ) {
        let mut chance = Chance::new(self.seed, 100 + number);
        let client = reqwest::Client::builder().build().expect("a client");
        while !stop.is_stopped() {
            let half = u64::try_from(pace.as_millis() / 2).unwrap_or(0);
            tokio::time::sleep(chance.time(half, half * 3)).await;
            let Some(port) = fleet.port(instance) else {
                continue;
            };
            let (index, person) = self.next_person(Person::over_http);
            let wish = person.wishes[0];
            let request = self
                .ledger()
                .enter((index, &person), &wish, Door::Http, self.now());
            // A few hang up early.
            let hangs_up = chance.below(20) == 0;
            let patience = if hangs_up {
                chance.time(5, 300)
            } else {
                PATIENCE
            };
            let mut post = client
                .post(format!("http://127.0.0.1:{port}/user-otp/v1/_send"))
                .header("content-type", "application/json")
                .header("x-correlation-id", format!("c-{request}"))
                .timeout(patience);
            if chance.below(2) == 0 {
                post = post.header("idempotency-key", format!("key-{request}"));
            }
            let entry = answer(post.body(person.body(&wish)).send().await);
            self.ledger().answered(request, entry);
        }
    }
}

fn answer(answer: reqwest::Result<reqwest::Response>) -> Entry {
    match answer {
        Err(error) if error.is_connect() => Entry::NotAsked,
        Err(_) => Entry::Unknown,
        Ok(answer) => match answer.status().as_u16() {
            201 => Entry::Created,
            400 => Entry::Rejected,
            429 => Entry::Limited,
            503 => match answer.headers().get("otp-delivery") {
                Some(delivery) if delivery == "unconfirmed" => Entry::Unconfirmed,
                Some(delivery) if delivery == "not-sent" => Entry::Withdrawn,
                // The version before has no such header.
                Some(_) | None => Entry::Unknown,
            },
            _ => Entry::Failed,
        },
    }
}

/// Writes down where each request is in the log.
pub(crate) struct Deliveries(Arc<Mutex<Ledger>>);

pub(crate) type RequestProducer = ThreadedProducer<Deliveries>;

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = Box<u32>;

    fn delivery(&self, result: &DeliveryResult<'_>, request: Self::DeliveryOpaque) {
        match result {
            Ok(record) => {
                let mut ledger = self.0.lock().unwrap_or_else(PoisonError::into_inner);
                ledger.in_log(*request, (record.partition(), record.offset()));
            }
            Err((error, _)) => eprintln!("c-{request} may not be in the log: {error}"),
        }
    }
}

pub(crate) fn request_producer(brokers: &str, ledger: Arc<Mutex<Ledger>>) -> RequestProducer {
    ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("enable.idempotence", "true")
        .set("partitioner", "murmur2_random")
        .set("linger.ms", "5")
        // Longer than any broker is away: what is not delivered by then is not known at all.
        .set("message.timeout.ms", "600000")
        .set("socket.timeout.ms", "10000")
        .set("log_level", "0")
        .create_with_context(Deliveries(ledger))
        .expect("a producer")
}
