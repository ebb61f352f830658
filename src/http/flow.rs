//! One request, from its body to its answer.
//!
//! ```text
//! decode ─▶ room? ─▶ handler, within the budget ─┬─ published ───────────┐
//!                                                ├─ unavailable, or late ─┴▶ the door's committer ─▶ 201, 503
//!                                                └─ rejected, limited, refused ─▶ 400, 429, 502
//! ```

use std::sync::Arc;
use std::time::Duration;

use axum::http::HeaderMap;
use bytes::Bytes;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::answer::Answer;
use crate::clock::Clock;
use crate::config::{self, HttpAnswers};
use crate::domain::request::Submission;
use crate::egov::{AtFloor, Queue};
use crate::engine::door::records::{Result as DoorResult, Visit};
use crate::engine::door::{Confirmation, Outbox};
use crate::engine::headers;
use crate::handler::{Context, Handler};
use crate::limits::{Charge, Source};
use crate::outcome::Outcome;

/// With a transaction open for this long, a request would create an OTP that cannot be sent.
const HUNG: Duration = Duration::from_secs(2);

/// What every request goes through.
pub(super) struct Flow<H> {
    handler: H,
    outbox: Outbox,
    clock: Clock,
    lifetime: Duration,
    answers: HttpAnswers,
    budget: Duration,
    confirm_timeout: Duration,
    places: Arc<Semaphore>,
    /// Requests under way: a client that hangs up cancels nothing.
    tasks: TaskTracker,
}

impl<H: Handler> Flow<H> {
    pub(super) fn new(
        handler: H,
        outbox: Outbox,
        clock: Clock,
        lifetime: Duration,
        settings: &config::Http,
    ) -> Self {
        Self {
            handler,
            outbox,
            clock,
            lifetime,
            answers: settings.answers,
            budget: settings.budget,
            confirm_timeout: settings.confirm_timeout,
            places: Arc::new(Semaphore::new(settings.requests)),
            tasks: TaskTracker::new(),
        }
    }

    /// Answers a request. Once it is begun it goes on to its end, whether or not anybody waits.
    pub(super) async fn answer(self: Arc<Self>, headers: &HeaderMap, body: Bytes) -> Answer {
        let Ok(submission) = Submission::decode(Some(&body)) else {
            return Answer::Unreadable;
        };
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            return Answer::Busy;
        };
        if self.outbox.open_for().is_some_and(|age| age >= HUNG) {
            return Answer::Withdrawn;
        }
        let visit = self.visit(headers, body, submission);
        let tasks = self.tasks.clone();
        let task = tasks.spawn(async move {
            let _place = place;
            self.serve(visit).await
        });
        task.await.unwrap_or(Answer::Defect)
    }

    /// Waits until every request that was begun has its end.
    pub(super) async fn drain(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }

    fn visit(&self, headers: &HeaderMap, body: Bytes, submission: Submission) -> Visit {
        let number = submission.mobile().unwrap_or_default().as_bytes();
        let id = |name: &str| headers::clean_id(headers.get(name)?.as_bytes(), number);
        let received = self.clock.now();
        let event_id = uuid::Uuid::new_v4().to_string();
        Visit {
            received,
            context: Context {
                deadline: received.plus(self.lifetime),
                correlation_id: id(headers::CORRELATION_ID),
                traceparent: id(headers::TRACEPARENT),
                tenant_header: id(headers::TENANT_ID),
                queue: Queue::Live,
                at_floor: AtFloor::Leave,
                charge: Charge::due(Source::new(&event_id), received),
            },
            event_id,
            body,
            submission,
        }
    }

    async fn serve(&self, visit: Visit) -> Answer {
        let result = match self.answers {
            HttpAnswers::Platform => self.handle(&visit).await,
            HttpAnswers::Uniform => self.admit(&visit).await,
        };
        let charge = visit.context.charge.clone();
        let answer = match result {
            Ok(result) => {
                let mut receipt = self.outbox.submit(visit, result);
                confirmed(receipt.confirm(self.confirm_timeout).await)
            }
            Err(answer) => answer,
        };
        if answer.is_our_failure() && charge.is_done() {
            self.handler.give_back(&charge);
        }
        answer
    }

    /// What is to be written for a request, or its answer.
    ///
    /// Until egov-otp's answer has been read a request may be handed over: the OTP that may have been
    /// created is never seen. Afterwards it may not, or the citizen would get two. That answer is the
    /// handler's last await, so its future is done in the very poll in which the answer is read; one
    /// that is dropped because the time is over had not read it.
    async fn handle(&self, visit: &Visit) -> Result<DoorResult, Answer> {
        let stop = CancellationToken::new();
        let handled = self
            .handler
            .handle(&visit.submission, &visit.context, &stop);
        match tokio::time::timeout(self.budget, handled).await {
            Ok(Some(outcome)) => judged(outcome),
            Ok(None) | Err(_) => Ok(DoorResult::HandedOver { tries: 1 }),
        }
    }

    /// The same where no answer may tell who is registered: nobody is looked up, the stream decides.
    async fn admit(&self, visit: &Visit) -> Result<DoorResult, Answer> {
        let stop = CancellationToken::new();
        let admitted = self.handler.admit(&visit.submission, &visit.context, &stop);
        match tokio::time::timeout(self.budget, admitted).await {
            Ok(Some(Err(outcome))) => judged(outcome),
            Ok(Some(Ok(())) | None) | Err(_) => Ok(DoorResult::HandedOver { tries: 0 }),
        }
    }
}

fn judged(outcome: Outcome) -> Result<DoorResult, Answer> {
    match outcome {
        Outcome::Published(published) => Ok(DoorResult::Published(published)),
        Outcome::Retried(_) => Ok(DoorResult::HandedOver { tries: 1 }),
        Outcome::Rejected(rejection) => Err(Answer::Rejected(rejection)),
        Outcome::Limited(limited) => Err(Answer::limited(limited)),
        Outcome::DeadLettered(failure) => Err(Answer::failed(failure)),
    }
}

fn confirmed(confirmation: Confirmation) -> Answer {
    match confirmation {
        Confirmation::Committed => Answer::Created,
        Confirmation::Withdrawn => Answer::Withdrawn,
        Confirmation::Unconfirmed => Answer::Unconfirmed,
        Confirmation::TooLarge => Answer::Refused,
    }
}
