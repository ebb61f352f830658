//! The load: topics of its own, requests on the one side, readable SMS on the other.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, Message as _, OwnedHeaders};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
use rdkafka::util::Timeout;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use crate::contender::pause;

/// How long nothing may arrive before a run is given up.
const PATIENCE: Duration = Duration::from_secs(60);

/// Different people: the numbers are obviously fake, and there are this many of them.
pub(crate) const PEOPLE: u32 = 100_000;

/// The people of jobs come after those of live requests.
const JOBS_FROM: u32 = PEOPLE / 2;

static RUNS: AtomicU32 = AtomicU32::new(0);

/// How requests are written.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Pace {
    /// As fast as the broker takes them.
    Flood,
    /// One at a time, this far apart, whatever becomes of them: an open loop.
    Every(Duration),
}

/// The topics of one run, their writer and their reader.
pub(crate) struct Load {
    pub(crate) name: String,
    pub(crate) requests: String,
    pub(crate) sms: String,
    pub(crate) email: String,
    broker: String,
    flood: ThreadedProducer<DefaultProducerContext>,
    prompt: ThreadedProducer<DefaultProducerContext>,
    arrivals: Arrivals,
}

impl Load {
    pub(crate) fn new(broker: &str, partitions: i32) -> anyhow::Result<Self> {
        let name = format!(
            "bench-{}-{}",
            std::process::id(),
            RUNS.fetch_add(1, Ordering::Relaxed)
        );
        let (requests, sms, email) = (
            format!("{name}.request"),
            format!("{name}.sms"),
            format!("{name}.email"),
        );
        create_topics(broker, &[(&requests, partitions), (&sms, 8), (&email, 1)])?;
        let arrivals = Arrivals::start(broker, &sms, 8)?;
        let broker = broker.to_owned();
        let (flood, prompt) = (producer(&broker, "20")?, producer(&broker, "0")?);
        Ok(Self {
            name,
            requests,
            sms,
            email,
            broker,
            flood,
            prompt,
            arrivals,
        })
    }

    /// Requests a second, from the first to the last readable SMS.
    pub(crate) fn burst(&self, count: u32) -> anyhow::Result<f64> {
        self.arrivals.forget();
        self.publish(count, Pace::Flood)?;
        let arrived = self.arrivals.wait_for(count)?;
        let first = arrived
            .iter()
            .map(|(_, at)| *at)
            .min()
            .context("something arrived")?;
        let last = arrived
            .iter()
            .map(|(_, at)| *at)
            .max()
            .context("something arrived")?;
        Ok(f64::from(count - 1) / last.duration_since(first).as_secs_f64())
    }

    /// From the moment each request is handed to the producer until its SMS can be read.
    pub(crate) fn open_loop(&self, per_second: u32, seconds: u32) -> anyhow::Result<Vec<Duration>> {
        let count = per_second * seconds;
        ensure!(count <= PEOPLE, "one request a person: at most {PEOPLE}");
        self.arrivals.forget();
        let sent = self.publish(count, Pace::Every(Duration::from_secs(1) / per_second))?;
        let arrived = self.arrivals.wait_for(count)?;
        let latencies = arrived.into_iter().map(|(person, at)| {
            let sent = sent
                .get(person as usize)
                .context("somebody who asked for nothing")?;
            Ok(at.duration_since(*sent))
        });
        latencies.collect()
    }

    /// Waits until as many SMS can be read as requests were answered with 201; more or fewer is an error.
    pub(crate) fn wait_for_sms(&self, count: u32) -> anyhow::Result<()> {
        self.arrivals.wait_for(count).map(drop)
    }

    /// Requests a second, from the first to the last readable SMS of as many as `act` brings about.
    pub(crate) fn rate_of(
        &self,
        count: u32,
        act: impl FnOnce() -> anyhow::Result<()>,
    ) -> anyhow::Result<f64> {
        self.arrivals.forget();
        act()?;
        let arrived = self.arrivals.wait_for(count)?;
        let moments = || arrived.iter().map(|(_, at)| *at);
        let span = moments().max().zip(moments().min());
        let (last, first) = span.context("something arrived")?;
        Ok(f64::from(count - 1) / last.duration_since(first).as_secs_f64())
    }

    /// From the moment each live request is handed to the producer until its SMS can be read, while requests of
    /// jobs are handled too: those are of other people.
    pub(crate) fn open_loop_beside_jobs(
        &self,
        per_second: u32,
        seconds: u32,
    ) -> anyhow::Result<Vec<Duration>> {
        let count = per_second * seconds;
        ensure!(count <= JOBS_FROM, "live people are below {JOBS_FROM}");
        self.arrivals.forget();
        let sent = self.publish(count, Pace::Every(Duration::from_secs(1) / per_second))?;
        let live = |person: u32| person < JOBS_FROM;
        let arrived = self.arrivals.wait_for_those(count, live)?;
        let latencies = arrived.into_iter().map(|(person, at)| {
            let sent = sent.get(person as usize);
            let sent = sent.context("somebody who asked for nothing")?;
            Ok(at.duration_since(*sent))
        });
        latencies.collect()
    }

    /// Writes requests of jobs, of people who have no live ones.
    pub(crate) fn jobs(&self, count: u32) -> anyhow::Result<()> {
        let topic = format!("{}.jobs.request", self.name);
        for number in 0..count {
            let person = JOBS_FROM + number % (PEOPLE - JOBS_FROM);
            self.write(&topic, person, OwnedHeaders::new())?;
        }
        self.flush()
    }

    /// Writes dead letters, and the outcomes that say so, as the engine does.
    pub(crate) fn dead_letters(&self, count: u32) -> anyhow::Result<()> {
        let (letters, outcomes) = (format!("{}.dlq", self.name), self.outcomes());
        let now = user_otp::clock::Clock::system().now().0;
        let failed = now.to_string();
        for number in 0..count {
            // Of no partition that there is: nothing else speaks against them.
            let source = format!("{}-99-{number}", self.requests);
            let headers = [
                ("otp-event-id", source.as_str()),
                ("otp-source", &source),
                ("otp-disposition", "expired"),
                ("otp-error-code", "service-unavailable"),
                ("otp-error-stage", "user"),
                ("otp-tenant", "pb.amritsar"),
                ("otp-type", "login"),
                ("otp-failed-ms", &failed),
            ];
            self.write(&letters, number % PEOPLE, all(headers))?;
            let outcome = format!(
                r#"{{"eventId":"{source}","outcome":"dead-lettered","disposition":"expired","code":"service-unavailable","stage":"user","tenantId":"pb.amritsar","type":"login","door":"stream","attempts":3,"receivedAtMs":{now},"finishedAtMs":{now},"source":"{source}","replayId":null,"topic":"{}","partition":0,"offset":{number}}}"#,
                self.requests
            );
            put(
                &self.flood,
                BaseRecord::to(&outcomes).key(&source).payload(&outcome),
            )?;
        }
        self.flush()
    }

    fn write(&self, topic: &str, person: u32, headers: OwnedHeaders) -> anyhow::Result<()> {
        let (key, value) = (format!("pb.amritsar:98765{person:05}"), login(person));
        let record = BaseRecord::to(topic).key(&key).payload(&value);
        put(&self.flood, record.headers(headers))
    }

    fn flush(&self) -> anyhow::Result<()> {
        let flushed = self.flood.flush(Timeout::After(PATIENCE));
        flushed.context("the records are not written")
    }

    /// Where outcomes go.
    pub(crate) fn outcomes(&self) -> String {
        format!("{}.outcome", self.name)
    }

    /// Where requests wait for so long.
    pub(crate) fn retry(&self, delay: Duration) -> String {
        format!("{}.retry.{}s", self.name, delay.as_secs())
    }

    /// Writes retries `retry-0` and so on of one person after the other, steadily, which expire when they
    /// are handled; the record time of each.
    pub(crate) fn retries(
        &self,
        delay: Duration,
        per_second: u32,
        count: u32,
    ) -> anyhow::Result<Vec<i64>> {
        let (topic, gap) = (self.retry(delay), Duration::from_secs(1) / per_second);
        let start = Instant::now();
        let mut written = Vec::with_capacity(count as usize);
        for number in 0..count {
            pause((start + gap * number).saturating_duration_since(Instant::now()));
            let now = user_otp::clock::Clock::system().now().0;
            let (key, value) = (format!("{number}"), login(number % PEOPLE));
            let (id, time) = (format!("retry-{number}"), now.to_string());
            let headers = all([("otp-event-id", &id), ("otp-deadline-ms", &time)]);
            let record = BaseRecord::to(&topic).key(&key).payload(&value);
            let record = record.timestamp(now).headers(headers);
            let sent = self.prompt.send(record);
            sent.map_err(|(error, _)| error)
                .context("a retry is not taken")?;
            written.push(now);
        }
        self.prompt.flush(Timeout::After(PATIENCE))?;
        Ok(written)
    }

    /// Writes login requests of one person after the other; returns when each was sent.
    pub(crate) fn publish(&self, count: u32, pace: Pace) -> anyhow::Result<Vec<Instant>> {
        let start = Instant::now();
        let mut sent = Vec::with_capacity(count as usize);
        let producer = match pace {
            Pace::Flood => &self.flood,
            Pace::Every(_) => &self.prompt,
        };
        for number in 0..count {
            if let Pace::Every(gap) = pace {
                pause((start + gap * number).saturating_duration_since(Instant::now()));
            }
            sent.push(Instant::now());
            self.send(producer, number % PEOPLE)?;
        }
        producer
            .flush(Timeout::After(PATIENCE))
            .context("the requests are not written")?;
        Ok(sent)
    }

    fn send(
        &self,
        producer: &ThreadedProducer<DefaultProducerContext>,
        person: u32,
    ) -> anyhow::Result<()> {
        let key = format!("pb.amritsar:98765{person:05}");
        let value = login(person);
        put(
            producer,
            BaseRecord::to(&self.requests).key(&key).payload(&value),
        )
    }
}

/// Hands a record over, however long the queue is.
fn put(
    producer: &ThreadedProducer<DefaultProducerContext>,
    mut record: BaseRecord<'_, String, String>,
) -> anyhow::Result<()> {
    loop {
        match producer.send(record) {
            Ok(()) => return Ok(()),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), again)) => {
                record = again;
                pause(Duration::from_millis(5));
            }
            Err((error, _)) => return Err(error).context("a record is not taken"),
        }
    }
}

fn all<const N: usize>(headers: [(&str, &str); N]) -> OwnedHeaders {
    headers
        .into_iter()
        .fold(OwnedHeaders::new(), |headers, (key, value)| {
            headers.insert(Header {
                key,
                value: Some(value),
            })
        })
}

/// A login request of one person, as apps send it.
pub(crate) fn login(person: u32) -> String {
    format!(
        r#"{{"RequestInfo":{{"apiId":"Rainmaker","ver":".01","ts":"","action":"","did":"1","key":"","msgId":"20170310130900|en_IN","requesterId":"","authToken":null}},"otp":{{"mobileNumber":"98765{person:05}","tenantId":"pb.amritsar","type":"login","userType":"CITIZEN"}}}}"#
    )
}

impl Drop for Load {
    fn drop(&mut self) {
        // The next run has the broker to itself.
        let _ = delete_topics(&self.broker, &self.name);
    }
}

fn producer(
    broker: &str,
    linger: &str,
) -> anyhow::Result<ThreadedProducer<DefaultProducerContext>> {
    let producer = ClientConfig::new()
        .set("bootstrap.servers", broker)
        .set("linger.ms", linger)
        .set("compression.type", "lz4")
        .set("partitioner", "murmur2_random")
        .create()?;
    Ok(producer)
}

fn admin(
    broker: &str,
) -> anyhow::Result<(
    AdminClient<DefaultClientContext>,
    AdminOptions,
    tokio::runtime::Runtime,
)> {
    let client = ClientConfig::new()
        .set("bootstrap.servers", broker)
        .create()?;
    let options = AdminOptions::new()
        .operation_timeout(Some(PATIENCE))
        .request_timeout(Some(PATIENCE));
    Ok((
        client,
        options,
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?,
    ))
}

fn create_topics(broker: &str, topics: &[(&str, i32)]) -> anyhow::Result<()> {
    let (client, options, runtime) = admin(broker)?;
    let wanted: Vec<_> = topics
        .iter()
        .map(|(name, count)| NewTopic::new(name, *count, TopicReplication::Fixed(1)))
        .collect();
    for created in runtime.block_on(client.create_topics(&wanted, &options))? {
        created.map_err(|(name, code)| anyhow::anyhow!("{name}: {code}"))?;
    }
    Ok(())
}

fn delete_topics(broker: &str, prefix: &str) -> anyhow::Result<()> {
    let (client, options, runtime) = admin(broker)?;
    let metadata = client.inner().fetch_metadata(None, PATIENCE)?;
    let names = metadata
        .topics()
        .iter()
        .map(rdkafka::metadata::MetadataTopic::name);
    let ours: Vec<&str> = names.filter(|name| name.starts_with(prefix)).collect();
    runtime.block_on(client.delete_topics(&ours, &options))?;
    Ok(())
}

/// Who got an SMS, and when it could be read.
type Arrived = Vec<(u32, Instant)>;

/// A `read_committed` reader of the SMS topic, in a thread of its own.
struct Arrivals {
    seen: Arc<Mutex<Arrived>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Arrivals {
    fn start(broker: &str, topic: &str, partitions: i32) -> anyhow::Result<Self> {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", broker)
            .set("group.id", "bench-reader")
            .set("isolation.level", "read_committed")
            .set("enable.auto.commit", "false")
            .set("fetch.queue.backoff.ms", "1")
            .create()?;
        let mut list = TopicPartitionList::new();
        for partition in 0..partitions {
            list.add_partition_offset(topic, partition, Offset::Beginning)?;
        }
        consumer.assign(&list)?;
        let (seen, stop) = (
            Arc::new(Mutex::new(Vec::new())),
            Arc::new(AtomicBool::new(false)),
        );
        let (shared, stopped) = (Arc::clone(&seen), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                let Some(Ok(message)) = consumer.poll(Duration::from_millis(50)) else {
                    continue;
                };
                let at = Instant::now();
                if let Some(person) = message.payload().and_then(person) {
                    shared
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .push((person, at));
                }
            }
        });
        Ok(Self {
            seen,
            stop,
            thread: Some(thread),
        })
    }

    fn forget(&self) {
        self.lock().clear();
    }

    /// Waits for as many SMS; more or fewer is an error.
    fn wait_for(&self, count: u32) -> anyhow::Result<Arrived> {
        self.wait_for_those(count, |_| true)
    }

    /// The same of some people alone.
    fn wait_for_those(&self, count: u32, of: impl Fn(u32) -> bool) -> anyhow::Result<Arrived> {
        let (mut before, mut since) = (0, Instant::now());
        loop {
            let arrived = self.lock().iter().filter(|(person, _)| of(*person)).count();
            if arrived >= count as usize {
                break;
            }
            if arrived > before {
                (before, since) = (arrived, Instant::now());
            }
            if since.elapsed() > PATIENCE {
                bail!("{arrived} of {count} SMS arrived, then nothing for {PATIENCE:?}");
            }
            pause(Duration::from_millis(10));
        }
        let mut arrived = std::mem::take(&mut *self.lock());
        arrived.retain(|(person, _)| of(*person));
        ensure!(
            arrived.len() == count as usize,
            "{} SMS for {count} requests",
            arrived.len()
        );
        Ok(arrived)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Arrived> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Arrivals {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The person of an SMS, told by the number's last five digits.
fn person(sms: &[u8]) -> Option<u32> {
    const BEFORE: &[u8] = br#""mobileNumber":"98765"#;
    let start = sms
        .windows(BEFORE.len())
        .position(|window| window == BEFORE)?
        + BEFORE.len();
    std::str::from_utf8(sms.get(start..start + 5)?)
        .ok()?
        .parse()
        .ok()
}
