//! One request, from its body to its answer.
//!
//! ```text
//! decode ─▶ handler, within the budget ─┬─ published ───────────┐
//!                                       ├─ unavailable, or late ─┴▶ the door's committer ─▶ 201, 503
//!                                       └─ rejected, limited, refused ─▶ 400, 429, 502
//! ```

use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::http::HeaderMap;
use bytes::Bytes;
use ipnet::IpNet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::answer::{Answer, Delivery};
use super::head;
use super::room::{Room, Seat};
use crate::clock::Clock;
use crate::config::{Config, HttpAnswers};
use crate::domain::request::Submission;
use crate::egov::{AtFloor, Queue};
use crate::engine::door::records::{Content, Visit};
use crate::engine::door::{Confirmation, Outbox, Receipt};
use crate::engine::headers;
use crate::engine::record::Door;
use crate::handler::{Context, Handler};
use crate::idempotency::{Begin, Fingerprint, Idempotency, Lease};
use crate::limits::{Charge, Clients, Source};
use crate::metrics::Metrics;
use crate::outcome::{Code, Failure, Outcome};

/// With a transaction open for this long, a request would create an OTP that cannot be sent.
const HUNG: Duration = Duration::from_secs(2);

/// What every request goes through.
pub(super) struct Flow<H> {
    handler: H,
    outbox: Outbox,
    keys: Idempotency,
    clock: Clock,
    metrics: Metrics,
    lifetime: Duration,
    answers: HttpAnswers,
    trusted: Vec<IpNet>,
    /// None where no limit asks who a client is.
    clients: Option<Clients>,
    budget: Duration,
    confirm_timeout: Duration,
    pub(super) room: Room,
    /// Requests under way: a client that hangs up cancels nothing.
    tasks: TaskTracker,
    /// The waits for what became of results that were unconfirmed: they go on after the requests, until
    /// the committer ends.
    unconfirmed: TaskTracker,
}

impl<H: Handler> Flow<H> {
    pub(super) fn new(
        handler: H,
        outbox: Outbox,
        keys: Idempotency,
        clock: Clock,
        metrics: Metrics,
        unconfirmed: TaskTracker,
        config: &Config,
    ) -> Self {
        let settings = &config.http;
        Self {
            handler,
            outbox,
            keys,
            clock,
            room: Room::new(settings, metrics.clone()),
            metrics,
            lifetime: config.request.lifetime,
            answers: settings.answers,
            trusted: settings.trusted_proxies.clone(),
            clients: Clients::of(config),
            budget: settings.budget,
            confirm_timeout: settings.confirm_timeout,
            tasks: TaskTracker::new(),
            unconfirmed,
        }
    }

    /// Answers a request. Once it is begun it goes on to its end, whether or not anybody waits.
    pub(super) async fn answer(
        self: Arc<Self>,
        peer: IpAddr,
        headers: HeaderMap,
        body: Bytes,
        seat: Seat,
    ) -> Answer {
        let Ok(submission) = Submission::decode(&body) else {
            return Answer::Unreadable;
        };
        let key = match head::idempotency_key(&headers) {
            Ok(key) => key,
            Err(answer) => return answer,
        };
        let visit = self.visit(peer, &headers, body, submission);
        // They hold the connection's buffer, and there may be long to wait.
        drop(headers);
        let tasks = self.tasks.clone();
        let task = tasks.spawn(async move {
            let _held = (seat, self.metrics.http_request());
            match key {
                Some(key) => self.serve_once(&key, visit).await,
                None => self.serve(visit, None).await,
            }
        });
        task.await.unwrap_or(Answer::Defect)
    }

    /// Waits until every request that was begun has its end.
    pub(super) async fn drain(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }

    fn visit(
        &self,
        peer: IpAddr,
        headers: &HeaderMap,
        body: Bytes,
        submission: Submission,
    ) -> Box<Visit> {
        let number = submission.mobile().unwrap_or_default().as_bytes();
        let id = |name: &str| headers::clean_id(headers.get(name)?.as_bytes(), number);
        let received = self.clock.now();
        let address = head::client(peer, headers, &self.trusted);
        let client = self.clients.as_ref().zip(address);
        let client = client.map(|(clients, address)| clients.name(address));
        let event_id = uuid::Uuid::new_v4().to_string();
        Box::new(Visit {
            received,
            context: Context {
                deadline: received.plus(self.lifetime),
                correlation_id: id(headers::CORRELATION_ID),
                traceparent: id(headers::TRACEPARENT),
                tenant_header: id(headers::TENANT_ID),
                queue: Queue::Live,
                at_floor: AtFloor::Leave,
                charge: Charge::due(Source::new(&event_id), received).from_client(client),
            },
            event_id,
            body,
            submission,
        })
    }

    /// A request with an idempotency key.
    async fn serve_once(self: &Arc<Self>, key: &str, visit: Box<Visit>) -> Answer {
        let fingerprint = Fingerprint::of(&visit.submission);
        match self.keys.begin(key, &fingerprint).await {
            Begin::First(lease) => self.serve(visit, Some(lease)).await,
            // Which of the two the first one was is not kept: this is true of both.
            Begin::Done => Answer::Created(Delivery::Queued),
            Begin::Unconfirmed => Answer::Unconfirmed,
            Begin::Conflict => Answer::KeyTaken,
            Begin::Busy => Answer::Busy,
        }
    }

    async fn serve(self: &Arc<Self>, visit: Box<Visit>, mut lease: Option<Lease>) -> Answer {
        let result = if self.outbox.open_for().is_some_and(|age| age >= HUNG) {
            Err(Answer::Withdrawn)
        } else {
            match self.answers {
                HttpAnswers::Platform => self.handle(&visit).await,
                HttpAnswers::Uniform => self.admit(&visit).await,
            }
        };
        let charge = visit.context.charge.clone();
        match result {
            Ok(result) => {
                // Before its transaction can begin: a crash from here on must not let the key send again.
                if let Some(lease) = &mut lease
                    && !lease.sending().await
                {
                    return self.end(Answer::Withdrawn, None, &charge);
                }
                let receipt = self.outbox.submit(visit, result);
                self.confirm(receipt, lease, charge).await
            }
            Err(answer) => self.end(answer, lease, &charge),
        }
    }

    async fn confirm(
        self: &Arc<Self>,
        mut receipt: Receipt,
        mut lease: Option<Lease>,
        charge: Charge,
    ) -> Answer {
        let delivery = match receipt.confirm(self.confirm_timeout).await {
            Confirmation::Committed => Delivery::Committed,
            Confirmation::Queued => Delivery::Queued,
            Confirmation::Withdrawn => return self.end(Answer::Withdrawn, lease, &charge),
            Confirmation::TooLarge => {
                self.metrics.refused(Code::OutputTooLarge);
                return self.end(Answer::Refused, lease, &charge);
            }
            Confirmation::Unconfirmed => {
                if let Some(lease) = &mut lease {
                    lease.unconfirmed();
                }
                let late = Arc::clone(self).learn(receipt, lease, charge);
                self.unconfirmed.spawn(late);
                return Answer::Unconfirmed;
            }
        };
        if let Some(lease) = lease {
            lease.done().await;
        }
        Answer::Created(delivery)
    }

    /// Waits for what became of a result after all: its key is answered by it from then on.
    async fn learn(self: Arc<Self>, receipt: Receipt, lease: Option<Lease>, charge: Charge) {
        match receipt.late().await {
            Confirmation::Committed | Confirmation::Queued => {
                if let Some(lease) = lease {
                    lease.done().await;
                }
            }
            Confirmation::Withdrawn | Confirmation::TooLarge => {
                self.end(Answer::Withdrawn, lease, &charge);
            }
            // Its key stays as it is until its window ends.
            Confirmation::Unconfirmed => {}
        }
    }

    /// The end of a request for which nothing is sent: its key stands for nothing, and what was our
    /// failure costs nothing.
    fn end(&self, answer: Answer, lease: Option<Lease>, charge: &Charge) -> Answer {
        if let Some(lease) = lease {
            lease.forget();
        }
        if answer.is_our_failure() && charge.is_done() {
            self.handler.give_back(charge);
        }
        answer
    }

    /// What is to be written for a request, or its answer.
    ///
    /// Until egov-otp's answer has been read a request may be handed over: the OTP that may have been
    /// created is never seen. Afterwards it may not, or the citizen would get two. That answer is the
    /// handler's last await, so its future is done in the very poll in which the answer is read; one
    /// that is dropped because the time is over had not read it.
    async fn handle(&self, visit: &Visit) -> Result<Content, Answer> {
        let stop = CancellationToken::new();
        let handled = self
            .handler
            .handle(&visit.submission, &visit.context, &stop);
        // Pinned in its place: it is most of what a waiting request takes.
        let handled = pin!(handled);
        match tokio::time::timeout(self.budget, handled).await {
            Ok(Some(outcome)) => self.judged(outcome),
            Ok(None) | Err(_) => Ok(Content::HandedOver { tries: 1 }),
        }
    }

    /// The same where no answer may tell who is registered: nobody is looked up, the stream decides.
    async fn admit(&self, visit: &Visit) -> Result<Content, Answer> {
        let stop = CancellationToken::new();
        let admitted = self.handler.admit(&visit.submission, &visit.context, &stop);
        match tokio::time::timeout(self.budget, admitted).await {
            Ok(Some(Err(outcome))) => self.judged(outcome),
            Ok(Some(Ok(())) | None) | Err(_) => Ok(Content::HandedOver { tries: 0 }),
        }
    }

    /// The answer to what would be a dead letter on the stream.
    fn failed(&self, failure: Failure) -> Answer {
        let answer = Answer::failed(failure);
        if let Answer::Rejected(rejection) = &answer {
            let rejected = Outcome::Rejected(rejection.clone());
            self.metrics.finished(Door::Http, &rejected, Duration::ZERO);
        } else if answer == Answer::Refused {
            self.metrics.refused(failure.code);
        }
        answer
    }

    /// A refusal is final here; what is to be written has its end once it is committed.
    fn judged(&self, outcome: Outcome) -> Result<Content, Answer> {
        match &outcome {
            Outcome::Rejected(_) | Outcome::Limited(_) => {
                self.metrics.finished(Door::Http, &outcome, Duration::ZERO);
            }
            Outcome::Published(_) | Outcome::Retried(_) | Outcome::DeadLettered(_) => {}
        }
        match outcome {
            Outcome::Published(published) => Ok(Content::Published(published)),
            Outcome::Retried(_) => Ok(Content::HandedOver { tries: 1 }),
            Outcome::Rejected(rejection) => Err(Answer::Rejected(rejection)),
            Outcome::Limited(limited) => Err(Answer::limited(limited)),
            Outcome::DeadLettered(failure) => Err(self.failed(failure)),
        }
    }
}
