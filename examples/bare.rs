//! The baseline of `scripts/bench`: the same work with nothing promised, which nobody would
//! ship. Offsets are committed by a timer, records are produced and forgotten; there is no
//! order, no retry, no deadline and no transaction. What `user-otp run` costs is measured
//! against this.
//!
//! ```text
//! bare BROKERS GROUP REQUESTS SMS USER_URL OTP_URL CALLS
//! ```
#![expect(
    clippy::print_stderr,
    reason = "the driver waits for the line that says ready"
)]

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, Rebalance, StreamConsumer};
use rdkafka::message::{BorrowedMessage, Message as _};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, ThreadedProducer};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [brokers, group, requests, sms, user_url, otp_url, calls] = arguments.as_slice() else {
        anyhow::bail!("usage: bare BROKERS GROUP REQUESTS SMS USER_URL OTP_URL CALLS");
    };
    let calls: usize = calls.parse().context("CALLS is not a number")?;
    let consumer = consumer(brokers, group)?;
    consumer.subscribe(&[requests])?;
    let worker = Arc::new(Worker::new(brokers, sms, user_url, otp_url, calls)?);
    let permits = Arc::new(Semaphore::new(calls));
    let tasks = TaskTracker::new();
    loop {
        let Ok(message) = consumer.recv().await else {
            continue;
        };
        let Some(request) = request(&message) else {
            continue;
        };
        let permit = Arc::clone(&permits).acquire_owned().await?;
        let worker = Arc::clone(&worker);
        tasks.spawn(async move {
            if let Err(error) = worker.handle(&request).await {
                eprintln!("a request is lost: {error:#}");
            }
            drop(permit);
        });
    }
}

fn consumer(brokers: &str, group: &str) -> anyhow::Result<StreamConsumer<SaysReady>> {
    let consumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", group)
        .set("enable.auto.commit", "true")
        .set("auto.offset.reset", "earliest")
        .set("fetch.queue.backoff.ms", "10")
        // The same amount read ahead as ours, so that memory can be compared.
        .set("queued.min.messages", "2000")
        .set("queued.max.messages.kbytes", "16384")
        .create_with_context(SaysReady)?;
    Ok(consumer)
}

struct SaysReady;

impl ClientContext for SaysReady {}

impl ConsumerContext for SaysReady {
    fn post_rebalance(&self, _: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        if let Rebalance::Assign(partitions) = rebalance {
            eprintln!("ready: {} partitions", partitions.count());
        }
    }
}

fn request(message: &BorrowedMessage<'_>) -> Option<OtpRequest> {
    serde_json::from_slice::<Envelope>(message.payload()?)
        .ok()
        .map(|envelope| envelope.otp)
}

#[derive(Deserialize)]
struct Envelope {
    otp: OtpRequest,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OtpRequest {
    mobile_number: String,
    tenant_id: String,
}

struct Worker {
    http: reqwest::Client,
    producer: ThreadedProducer<DefaultProducerContext>,
    sms: String,
    user_url: String,
    otp_url: String,
}

impl Worker {
    fn new(
        brokers: &str,
        sms: &str,
        user_url: &str,
        otp_url: &str,
        calls: usize,
    ) -> anyhow::Result<Self> {
        let http = reqwest::Client::builder()
            .timeout(Duration::from_secs(10))
            .pool_max_idle_per_host(calls)
            .build()?;
        let producer = ClientConfig::new()
            .set("bootstrap.servers", brokers)
            .set("compression.type", "lz4")
            .set("linger.ms", "5")
            .create()?;
        let (sms, user_url, otp_url) = (sms.to_owned(), user_url.to_owned(), otp_url.to_owned());
        Ok(Self {
            http,
            producer,
            sms,
            user_url,
            otp_url,
        })
    }

    async fn handle(&self, request: &OtpRequest) -> anyhow::Result<()> {
        let OtpRequest {
            mobile_number,
            tenant_id,
        } = request;
        let search = UserSearch {
            user_name: None,
            tenant_id: tenant_id.split('.').next().unwrap_or(tenant_id),
            user_type: "CITIZEN",
            mobile_number,
        };
        let found = self
            .http
            .post(&self.user_url)
            .json(&search)
            .send()
            .await?
            .error_for_status()?;
        let users: Users = serde_json::from_slice(&found.bytes().await?)?;
        ensure!(!users.user.is_empty(), "no such user");
        let create = OtpCreate {
            otp: NewOtp {
                identity: mobile_number,
                tenant_id,
                is_validation_successful: false,
            },
        };
        let created = self
            .http
            .post(&self.otp_url)
            .json(&create)
            .send()
            .await?
            .error_for_status()?;
        let created: OtpAnswer = serde_json::from_slice(&created.bytes().await?)?;
        let sms = Sms {
            mobile_number,
            message: format!("Dear Citizen, Your Login OTP is {}.", created.otp.otp),
            category: "OTP",
            expiry_time: user_otp::clock::Clock::system()
                .now()
                .plus(Duration::from_secs(60))
                .0,
            country_code: None,
        };
        let value = serde_json::to_vec(&sms)?;
        self.producer
            .send(BaseRecord::to(&self.sms).key(mobile_number).payload(&value))
            .map_err(|(error, _)| error)?;
        Ok(())
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct UserSearch<'a> {
    user_name: Option<&'a str>,
    tenant_id: &'a str,
    user_type: &'a str,
    mobile_number: &'a str,
}

#[derive(Deserialize)]
struct Users {
    user: Vec<User>,
}

#[derive(Deserialize)]
struct User {}

#[derive(Serialize)]
struct OtpCreate<'a> {
    otp: NewOtp<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct NewOtp<'a> {
    identity: &'a str,
    tenant_id: &'a str,
    is_validation_successful: bool,
}

#[derive(Deserialize)]
struct OtpAnswer {
    otp: CreatedOtp,
}

#[derive(Deserialize)]
struct CreatedOtp {
    otp: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Sms<'a> {
    mobile_number: &'a str,
    message: String,
    category: &'a str,
    expiry_time: i64,
    country_code: Option<&'a str>,
}
