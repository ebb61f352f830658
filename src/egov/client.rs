//! One HTTP client for all services, and how one of them is asked.
//!
//! Each exchange, from the first byte sent to the last byte read, has one deadline. Redirects
//! are not followed and no proxy is taken from the environment: both would send numbers of
//! citizens where nobody configured them to go. Addresses are parsed once, at the start.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use reqwest::header::{ACCEPT, CONTENT_TYPE, DATE, HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::{Method, Request, Response};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};
use url::Url;

use super::failure::{Failure, Lost, Reply, classify};
use super::limit::Verdict;
use super::limiter::{Limiter, NoPermit, Permit};
use super::repeat::Repeats;
use super::schedule::AtFloor;
use super::{Call, CallError, Service, ServiceState};
use crate::clock::Clock;
use crate::config::{Config, ServiceUrl};
use crate::metrics::{Calls, Metrics};
use crate::outcome::Code;
use crate::wire::BrokenAnswer;

/// How long a connection may lie idle. Spring's Tomcat closes one after 20 s: a call that is sent
/// into a connection at that moment is lost.
const IDLE: Duration = Duration::from_secs(15);

/// A service that is well has answered by then; nor does it take half of its time.
const WELL: Duration = Duration::from_millis(500);

/// An answer over this is long: texts and rules may be, and those of egov-user and egov-otp are a few kilobytes.
pub(crate) const LONG_ANSWER: usize = 64 * 1024;

/// Long answers that are read at once; the others wait, within their calls' time.
pub(crate) const LONG_ANSWERS: usize = 8;

const CORRELATION_ID: HeaderName = HeaderName::from_static("x-correlation-id");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TENANT_ID: HeaderName = HeaderName::from_static("tenantid");

/// The client could not be set up: the system's TLS library cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("the HTTP client cannot be set up")]
pub struct BuildError(#[source] reqwest::Error);

/// The connections, and what holds for every call. A cheap handle.
#[derive(Debug, Clone)]
pub(super) struct Client {
    http: reqwest::Client,
    clock: Clock,
    pub(super) metrics: Metrics,
    repeats: Repeats,
    body_limit: usize,
    long_answers: Arc<Semaphore>,
    outage_messages: Arc<[String]>,
}

/// One service's address, timeout and permits. A cheap handle.
#[derive(Debug, Clone)]
pub(super) struct Endpoint {
    pub(super) client: Client,
    service: Service,
    pub(super) timeout: Duration,
    limiter: Limiter,
    calls: Arc<Calls>,
    /// What the last call came to.
    last: Arc<Mutex<Option<Result<(), Code>>>>,
    /// The request but for what differs from call to call. It knows the user name and password
    /// that the address may have had, so it is never printed.
    template: Arc<Template>,
}

struct Template(Request);

impl std::fmt::Debug for Template {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Template(***)")
    }
}

/// What differs from call to call.
#[derive(Debug, Clone)]
pub(super) struct Message {
    correlation_id: Option<HeaderValue>,
    traceparent: Option<HeaderValue>,
    tenant: Option<HeaderValue>,
    /// The whole address, where it is another than the endpoint's.
    url: Option<Url>,
    body: Bytes,
}

/// How a call comes to a permit.
#[derive(Debug, Clone, Copy)]
pub(super) enum Turn<'a> {
    /// It waits in its queue.
    InLine(&'a Call<'a>),
    /// It takes one that is free, or fails.
    AtOnce,
}

impl Client {
    pub(super) fn new(config: &Config, clock: Clock, metrics: Metrics) -> Result<Self, BuildError> {
        // All services may be behind one host.
        let calls = [
            config.users.calls,
            config.otp.calls,
            config.localization.calls,
            config.mdms.calls,
        ];
        let mut http = reqwest::Client::builder();
        // The system's certificates take megabytes, and are there for nothing where nobody shows one.
        let (texts, rules) = (&config.localization.url, &config.mdms.url);
        let mut urls = [&config.users.url, &config.otp.url]
            .into_iter()
            .chain(texts)
            .chain(rules);
        if !urls.any(ServiceUrl::is_encrypted) {
            http = http.tls_certs_only([]);
        }
        let http = http
            .connect_timeout(config.services.connect_timeout)
            .pool_max_idle_per_host(calls.into_iter().sum())
            .pool_idle_timeout(IDLE)
            .tcp_nodelay(true)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            // Repeats are ours alone: each needs a permit and a look at the deadline.
            .retry(reqwest::retry::never())
            .referer(false)
            .user_agent(concat!("user-otp/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(BuildError)?;
        Ok(Self {
            http,
            clock,
            metrics,
            repeats: Repeats::new(&config.services),
            body_limit: config.services.body_limit,
            long_answers: Arc::new(Semaphore::new(LONG_ANSWERS)),
            outage_messages: config.services.outage_messages.clone().into(),
        })
    }

    /// Where egov-user is.
    pub(super) fn users(&self, config: &Config) -> Result<Endpoint, BuildError> {
        let users = &config.users;
        let (url, path) = (&users.url, &users.path);
        self.endpoint(Service::Users, url, path, users.timeout, users.calls)
    }

    /// Where egov-otp is.
    pub(super) fn otp(&self, config: &Config) -> Result<Endpoint, BuildError> {
        let otp = &config.otp;
        self.endpoint(Service::Otp, &otp.url, &otp.path, otp.timeout, otp.calls)
    }

    pub(super) fn endpoint(
        &self,
        service: Service,
        base: &ServiceUrl,
        path: &str,
        timeout: Duration,
        calls: usize,
    ) -> Result<Endpoint, BuildError> {
        // Building it moves a user name and a password from the address to a header.
        let json = HeaderValue::from_static("application/json");
        let template = self
            .http
            .request(Method::POST, base.endpoint(path))
            .header(CONTENT_TYPE, json.clone())
            .header(ACCEPT, json)
            .build()
            .map_err(|problem| BuildError(problem.without_url()))?;
        Ok(Endpoint {
            client: self.clone(),
            service,
            timeout,
            limiter: Limiter::new(calls),
            calls: Arc::new(self.metrics.calls(service)),
            last: Arc::default(),
            template: Arc::new(Template(template)),
        })
    }
}

impl Endpoint {
    /// Asks the service, again while it is unavailable and the try allows it.
    ///
    /// It may be dropped at any point.
    pub(super) async fn ask<T>(
        &self,
        message: &Message,
        turn: Turn<'_>,
        parse: impl Fn(&[u8]) -> Result<T, BrokenAnswer>,
    ) -> Result<T, CallError> {
        let client = &self.client;
        let mut pauses = None;
        let mut permit = self.permit(turn).await?;
        loop {
            let exchange = UnderWay {
                endpoint: self,
                sent: Instant::now(),
                permit: Some(permit),
            };
            // On the heap, so that the thousands that wait for a permit take less.
            let received = Box::pin(self.exchange(message)).await;
            let now = client.clock.now();
            let judged = classify(self.service, &client.outage_messages, now, received, &parse);
            exchange.ended(&judged);
            let failure = match judged {
                Ok(value) => return Ok(value),
                Err(failure) => failure,
            };
            tracing::debug!(
                service = self.service.as_str(),
                code = failure.code().as_str(),
                "call failed"
            );
            let pause = match &failure {
                Failure::Refused { .. } => None,
                // The next probe is somebody else's.
                Failure::Unavailable { .. } if self.limiter.is_at_floor() => None,
                Failure::Unavailable { retry_after, .. } => pauses
                    .get_or_insert_with(|| client.repeats.pauses())
                    .next(*retry_after),
            };
            match pause {
                Some(pause) if self.leaves_time(turn, pause) => rest(turn, pause).await?,
                Some(_) | None => return Err(failure.into()),
            }
            permit = match self.permit_above_floor(turn).await? {
                Some(permit) => permit,
                None => return Err(failure.into()),
            };
        }
    }

    fn note(&self, result: Result<(), Code>, took: Duration) {
        self.calls.ended(result, took);
        *self.last.lock() = Some(result);
    }

    pub(super) fn service(&self) -> Service {
        self.service
    }

    pub(super) fn outage_messages(&self) -> &[String] {
        &self.client.outage_messages
    }

    /// What there is to say about the service.
    pub(super) fn state(&self) -> ServiceState {
        ServiceState {
            service: self.service,
            load: self.limiter.load(),
            last: *self.last.lock(),
        }
    }

    /// The address with a query.
    pub(super) fn url_with(&self, query: &[(&str, &str)]) -> Url {
        let mut url = self.template.0.url().clone();
        url.query_pairs_mut().extend_pairs(query);
        url
    }

    async fn permit(&self, turn: Turn<'_>) -> Result<Permit, CallError> {
        let at_floor = match turn {
            Turn::AtOnce => AtFloor::Leave,
            Turn::InLine(call) => call.at_floor,
        };
        let permit = self.take(turn, at_floor).await?;
        permit.ok_or_else(CallError::busy)
    }

    /// A permit to ask again within a try; none: the service is down by now.
    async fn permit_above_floor(&self, turn: Turn<'_>) -> Result<Option<Permit>, CallError> {
        if self.limiter.is_at_floor() {
            return Ok(None);
        }
        self.take(turn, AtFloor::Leave).await
    }

    /// None: the service is down, or busy with those who wait in line.
    async fn take(&self, turn: Turn<'_>, at_floor: AtFloor) -> Result<Option<Permit>, CallError> {
        let call = match turn {
            Turn::AtOnce => return Ok(self.limiter.permit_now()),
            Turn::InLine(call) => call,
        };
        let left = call.deadline.left(self.client.clock.now());
        match self
            .limiter
            .permit(call.queue, at_floor, left, call.stop)
            .await
        {
            Ok(permit) => Ok(Some(permit)),
            Err(NoPermit::AtFloor) => Ok(None),
            Err(NoPermit::Stopped) => Err(CallError::Abandoned),
            Err(NoPermit::TooLate) => Err(CallError::too_late()),
        }
    }

    fn leaves_time(&self, turn: Turn<'_>, pause: Duration) -> bool {
        match turn {
            Turn::AtOnce => true,
            Turn::InLine(call) => call.deadline.left(self.client.clock.now()) > pause,
        }
    }

    /// One request and its answer.
    async fn exchange(&self, message: &Message) -> Result<Reply, Lost> {
        let until = Instant::now() + self.timeout;
        let answer = self.send(message, Method::POST, until).await?;
        self.reply(answer, until).await
    }

    /// One request without a permit, for who looks whether the service is there: its answer, and the
    /// `Date` that it came with.
    pub(super) async fn look(
        &self,
        message: &Message,
        method: Method,
    ) -> Result<(Reply, Option<String>), Lost> {
        let until = Instant::now() + self.timeout;
        let answer = self.send(message, method, until).await?;
        let date = text_of(&answer, DATE);
        Ok((self.reply(answer, until).await?, date))
    }

    async fn send(
        &self,
        message: &Message,
        method: Method,
        until: Instant,
    ) -> Result<Response, Lost> {
        // It has no body yet, and only bodies that are streams cannot be cloned.
        let mut request = self.template.0.try_clone().ok_or(Lost::Unreachable)?;
        *request.method_mut() = method;
        message.complete(&mut request);
        let answer = timeout_at(until, self.client.http.execute(request)).await;
        // The error quotes the address: it ends here.
        answer
            .map_err(|_| Lost::Late)?
            .map_err(|_| Lost::Unreachable)
    }

    async fn reply(&self, answer: Response, until: Instant) -> Result<Reply, Lost> {
        let status = answer.status().as_u16();
        let retry_after = text_of(&answer, RETRY_AFTER);
        let body = timeout_at(
            until,
            read(answer, self.client.body_limit, &self.client.long_answers),
        )
        .await;
        Ok(Reply {
            status,
            retry_after,
            body: body.unwrap_or(Err(Lost::Late)),
        })
    }
}

fn text_of(answer: &Response, header: HeaderName) -> Option<String> {
    let value = answer.headers().get(header)?;
    value.to_str().ok().map(str::to_owned)
}

/// A call until its answer. Dropped before, by who has no more time for it, it has failed as one that
/// was late has, if a service that is well would have answered: else nobody would learn that one is
/// slower than all who ask it have time.
struct UnderWay<'a> {
    endpoint: &'a Endpoint,
    sent: Instant,
    permit: Option<Permit>,
}

impl UnderWay<'_> {
    fn ended<T>(mut self, judged: &Result<T, Failure>) {
        let result = judged.as_ref().map(drop).map_err(Failure::code);
        self.end(verdict(judged), result);
    }

    fn end(&mut self, verdict: Verdict, result: Result<(), Code>) {
        if let Some(permit) = self.permit.take() {
            permit.answered(verdict);
            self.endpoint.note(result, self.sent.elapsed());
        }
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        if self.sent.elapsed() >= WELL.min(self.endpoint.timeout / 2) {
            self.end(Verdict::Failed, Err(Code::ServiceTimeout));
        }
    }
}

/// What a call says about its service.
fn verdict<T>(judged: &Result<T, Failure>) -> Verdict {
    match judged {
        Ok(_) => Verdict::Well,
        Err(Failure::Unavailable { .. }) => Verdict::Failed,
        Err(Failure::Refused { .. }) => Verdict::Refused,
    }
}

/// The whole body. A long one is read when one of `long_answers` is free: there may be as many answers at once as
/// there are calls.
async fn read(mut answer: Response, limit: usize, long_answers: &Semaphore) -> Result<Bytes, Lost> {
    let mut next = async || answer.chunk().await.map_err(|_| Lost::CutOff);
    // Most answers are one chunk, and need no copy.
    let Some(first) = next().await? else {
        return Ok(Bytes::new());
    };
    let Some(second) = next().await? else {
        return within(first, limit);
    };
    let mut body = BytesMut::from(first);
    let mut chunk = Some(second);
    let mut turn = None;
    while let Some(bytes) = chunk {
        if body.len() + bytes.len() > limit {
            return Err(Lost::TooLarge);
        }
        if body.len() + bytes.len() > LONG_ANSWER && turn.is_none() {
            // It is never closed.
            turn = long_answers.acquire().await.ok();
        }
        body.extend_from_slice(&bytes);
        chunk = next().await?;
    }
    Ok(body.freeze())
}

fn within(body: Bytes, limit: usize) -> Result<Bytes, Lost> {
    if body.len() > limit {
        return Err(Lost::TooLarge);
    }
    Ok(body)
}

async fn rest(turn: Turn<'_>, pause: Duration) -> Result<(), CallError> {
    match turn {
        Turn::AtOnce => tokio::time::sleep(pause).await,
        Turn::InLine(call) => tokio::select! {
            biased;
            () = call.stop.cancelled() => return Err(CallError::Abandoned),
            () = tokio::time::sleep(pause) => {}
        },
    }
    Ok(())
}

impl Message {
    /// What is sent for a request. Ids that cannot be header values are left out.
    pub(super) fn new(call: &Call<'_>, body: Vec<u8>) -> Self {
        let value = |text: Option<&str>| HeaderValue::from_str(text?).ok();
        Self {
            correlation_id: value(call.correlation_id),
            traceparent: value(call.traceparent),
            tenant: value(call.tenant_header),
            url: None,
            body: body.into(),
        }
    }

    /// The same, with this `tenantId` header.
    pub(super) fn for_tenant(mut self, tenant: &str) -> Self {
        self.tenant = HeaderValue::from_str(tenant).ok();
        self
    }

    /// The same, to this address.
    pub(super) fn to(mut self, url: Url) -> Self {
        self.url = Some(url);
        self
    }

    fn complete(&self, request: &mut Request) {
        if let Some(url) = &self.url {
            *request.url_mut() = url.clone();
        }
        let headers = [
            (CORRELATION_ID, &self.correlation_id),
            (TRACEPARENT, &self.traceparent),
            (TENANT_ID, &self.tenant),
        ];
        for (name, value) in headers {
            if let Some(value) = value {
                request.headers_mut().insert(name, value.clone());
            }
        }
        *request.body_mut() = Some(self.body.clone().into());
    }
}
