//! One request, top to bottom: every await of it is here, in one function; everything it decides
//! is pure code elsewhere.
//!
//! ```text
//! validate ─▶ limits ─▶ user ┐
//!   (rules)                  ├─▶ decide ─▶ deadline ─▶ OTP ─▶ compose
//!                       texts┘                      the last external call
//! ```

use std::future::Future;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::clock::{Clock, EpochMs};
use crate::config::Config;
use crate::decide::{Recipients, decide};
use crate::domain::request::{OtpRequest, Submission};
use crate::domain::secret::Otp;
use crate::domain::tenant::Tenancy;
use crate::egov::{AtFloor, Call, CallError, Queue, Services, TextsFor};
use crate::known_topics::{Gate, KnownTopics, Probe};
use crate::limits::{Charge, Limits};
use crate::messages;
use crate::notification::{self, Sms};
use crate::outcome::{Code, Disposition, Failure, Outcome, Published, Setback, Stage};

/// What goes with a request besides the request itself.
#[derive(Debug, Clone)]
pub struct Context {
    /// After this nothing is created or sent.
    pub deadline: EpochMs,
    /// Passed on as `x-correlation-id`.
    pub correlation_id: Option<String>,
    /// Passed on as `traceparent`.
    pub traceparent: Option<String>,
    /// Passed on as `tenantId`.
    pub tenant_header: Option<String>,
    /// In which queue its calls wait.
    pub queue: Queue,
    /// Whether its calls wait for a service that is down.
    pub at_floor: AtFloor,
    /// What it costs of the sending limits; once the handler has charged it, it says so.
    pub charge: Charge,
}

/// What turns a request into its outcome. Both doors call it.
pub trait Handler: Send + Sync + 'static {
    /// Tries `submission` once. `None`: `stop` was cancelled while it still waited for a permit,
    /// nothing was created, and somebody else will take it up.
    fn handle(
        &self,
        submission: &Submission,
        context: &Context,
        stop: &CancellationToken,
    ) -> impl Future<Output = Option<Outcome>> + Send;

    /// Judges `submission` without looking anybody up: the outcome, where it already has one. `None`
    /// as above.
    fn admit(
        &self,
        submission: &Submission,
        context: &Context,
        stop: &CancellationToken,
    ) -> impl Future<Output = Option<Result<(), Outcome>>> + Send;
    /// A request ended for good by a failure that is ours: what it was charged is given back.
    fn give_back(&self, charge: &Charge);
}

/// The rules of the handler.
#[derive(Debug, Clone)]
pub struct Rules {
    /// `request.min_life`: with less than this left, no OTP is created.
    pub min_life: Duration,
    /// `sms.expiry`.
    pub sms_expiry: Duration,
    /// How tenant ids are read.
    pub tenancy: Tenancy,
    /// The SMS topic, without a tenant's prefix.
    pub sms_topic: String,
    /// The email topic, without a tenant's prefix.
    pub email_topic: String,
}

impl Rules {
    /// As they are configured.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        Self {
            min_life: config.request.min_life,
            sms_expiry: config.sms.expiry,
            tenancy: config.tenancy.clone(),
            sms_topic: config.topics.sms.clone(),
            email_topic: config.topics.email.clone(),
        }
    }
}

/// The handler of OTP requests.
#[derive(Clone)]
pub struct OtpHandler {
    services: Services,
    limits: Limits,
    topics: KnownTopics,
    rules: Rules,
    clock: Clock,
}

/// Why a try ends before its messages are composed.
enum Ended {
    With(Box<Outcome>),
    Abandoned,
}

impl OtpHandler {
    /// A handler that calls `services`, for whom `limits` lets through.
    #[must_use]
    pub fn new(
        services: Services,
        limits: Limits,
        topics: KnownTopics,
        rules: Rules,
        clock: Clock,
    ) -> Self {
        Self {
            services,
            limits,
            topics,
            rules,
            clock,
        }
    }

    /// What is judged before anybody is looked up: the request, its SMS topic, and its sending limits.
    async fn validate(
        &self,
        submission: &Submission,
        charge: &Charge,
        call: &Call<'_>,
    ) -> Result<(OtpRequest, String), Ended> {
        self.look_at_the_deadline(call)?;
        let rules = match submission.number_tenant() {
            Some(tenant) => Some(
                self.services
                    .number_rules(&tenant, call)
                    .await
                    .map_err(at(Stage::Rules))?,
            ),
            None => None,
        };
        let request = submission
            .validate(rules.as_deref())
            .map_err(|rejection| with(Outcome::Rejected(rejection)))?;
        let sms_topic = request
            .tenant
            .topic(&self.rules.tenancy, &self.rules.sms_topic);
        if self.rules.tenancy.central_instance && !self.topics.contains(&sms_topic) {
            return Err(refused(Code::UnknownOutputTopic, Stage::Publish));
        }
        self.limits
            .charge(&request, charge)
            .await
            .map_err(|limited| with(Outcome::Limited(limited)))?;
        Ok((request, sms_topic))
    }

    async fn try_once(
        &self,
        submission: &Submission,
        charge: &Charge,
        call: &Call<'_>,
    ) -> Result<Published, Ended> {
        let (request, sms_topic) = self.validate(submission, charge, call).await?;
        let (user, texts) = tokio::join!(
            self.services.find_user(&request, call),
            // On the heap: while a request waits for egov-user's permit, its texts are long there.
            Box::pin(
                self.services
                    .texts(&request.tenant, request.locale.as_ref(), call)
            ),
        );
        let user = user.map_err(at(Stage::User))?;
        // A refusal needs no texts.
        let recipients = decide(&request, user.as_ref())
            .map_err(|rejection| with(Outcome::Rejected(rejection)))?;
        let texts = texts.map_err(at(Stage::Texts))?;
        let probe = if self.topics.is_away(&sms_topic) {
            Box::pin(self.wait_for_topic(&sms_topic, call)).await?
        } else {
            None
        };
        self.look_at_the_deadline(call)?;
        let otp = self
            .services
            .create_otp(&request, call)
            .await
            .map_err(at(Stage::Otp))?;
        Ok(Published {
            probe,
            ..self.compose(&request, &recipients, &texts, &otp, sms_topic)
        })
    }

    /// No OTP is created for an SMS that its topic would not take, but for the one that finds out.
    async fn wait_for_topic(
        &self,
        topic: &str,
        call: &Call<'_>,
    ) -> Result<Option<Box<Probe>>, Ended> {
        match (self.topics.gate(topic), call.at_floor) {
            (Gate::Open, _) => return Ok(None),
            (Gate::Probe(probe), _) => return Ok(Some(probe)),
            (Gate::Closed, AtFloor::Leave) => {
                return Err(with(Outcome::Retried(Setback::TOPIC_AWAY)));
            }
            (Gate::Closed, AtFloor::Wait) => {}
        }
        tokio::select! {
            biased;
            () = call.stop.cancelled() => Err(Ended::Abandoned),
            probe = self.topics.back(topic) => Ok(probe),
            () = tokio::time::sleep(call.deadline.left(self.clock.now())) => {
                Err(with(Outcome::DeadLettered(Setback::TOPIC_AWAY.expired())))
            }
        }
    }

    fn look_at_the_deadline(&self, call: &Call<'_>) -> Result<(), Ended> {
        if self.clock.now() <= call.deadline {
            return Ok(());
        }
        let failure = Failure {
            disposition: Disposition::Expired,
            code: Code::DeadlineNear,
            stage: Stage::Queue,
        };
        Err(with(Outcome::DeadLettered(failure)))
    }

    fn compose(
        &self,
        request: &OtpRequest,
        recipients: &Recipients,
        texts: &TextsFor,
        otp: &Otp,
        sms_topic: String,
    ) -> Published {
        let texts = messages::compose(request.kind, otp, &texts.wanted, &texts.fallback);
        let expires = self.clock.now().plus(self.rules.sms_expiry);
        let sms = Sms::new(sms_topic, request, &recipients.sms_to, texts.sms, expires);
        let email_topic = request
            .tenant
            .topic(&self.rules.tenancy, &self.rules.email_topic);
        let (mut email, mut code) = (None, None);
        if let (Some(to), Some((subject, body))) = (&recipients.email_to, &texts.email) {
            if self.topics.contains(&email_topic) {
                email = Some(notification::email(email_topic, request, to, subject, body));
            } else {
                code = Some(Code::EmailTopicMissing);
            }
        }
        Published {
            sms,
            email,
            code,
            probe: None,
        }
    }
}

impl Handler for OtpHandler {
    async fn handle(
        &self,
        submission: &Submission,
        context: &Context,
        stop: &CancellationToken,
    ) -> Option<Outcome> {
        match self
            .try_once(
                submission,
                &context.charge,
                &context.call(stop, self.rules.min_life),
            )
            .await
        {
            Ok(published) => Some(Outcome::Published(published)),
            Err(Ended::With(outcome)) => Some(*outcome),
            Err(Ended::Abandoned) => None,
        }
    }

    async fn admit(
        &self,
        submission: &Submission,
        context: &Context,
        stop: &CancellationToken,
    ) -> Option<Result<(), Outcome>> {
        match self
            .validate(
                submission,
                &context.charge,
                &context.call(stop, self.rules.min_life),
            )
            .await
        {
            Ok(_) => Some(Ok(())),
            Err(Ended::With(outcome)) => Some(Err(*outcome)),
            Err(Ended::Abandoned) => None,
        }
    }

    fn give_back(&self, charge: &Charge) {
        self.limits.give_back(charge);
    }
}

impl Context {
    /// With less than `min_life` left nothing is asked: who waits for a permit until then gets none.
    fn call<'a>(&'a self, stop: &'a CancellationToken, min_life: Duration) -> Call<'a> {
        Call {
            correlation_id: self.correlation_id.as_deref(),
            traceparent: self.traceparent.as_deref(),
            tenant_header: self.tenant_header.as_deref(),
            deadline: self.deadline.minus(min_life),
            queue: self.queue,
            at_floor: self.at_floor,
            stop,
        }
    }
}

fn with(outcome: Outcome) -> Ended {
    Ended::With(Box::new(outcome))
}

fn refused(code: Code, stage: Stage) -> Ended {
    with(Outcome::DeadLettered(Failure {
        disposition: Disposition::Refused,
        code,
        stage,
    }))
}

/// What a failed call at `stage` means for the request.
fn at(stage: Stage) -> impl Fn(CallError) -> Ended {
    move |error| match error {
        CallError::Abandoned => Ended::Abandoned,
        CallError::Refused { .. } => refused(Code::ServiceRefused, stage),
        CallError::Unavailable { code, retry_after } => with(Outcome::Retried(Setback {
            code,
            stage,
            retry_after,
        })),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::Source;
    use crate::metrics::Metrics;

    /// Thousands wait in the window; what a call needs is allocated once it has its permit.
    #[test]
    fn a_request_that_waits_takes_a_few_kilobytes() {
        let (config, _) = Config::load(None, []).expect("the defaults are right");
        let clock = Clock::system();
        let services = Services::new(&config, clock.clone(), Metrics::default()).expect("a client");
        let rules = Rules::of(&config);
        let limits = Limits::new(&config, None, clock.clone());
        let handler = OtpHandler::new(services, limits, KnownTopics::default(), rules, clock);
        let submission = Submission::default();
        let context = Context {
            deadline: EpochMs(0),
            correlation_id: None,
            traceparent: None,
            tenant_header: None,
            queue: Queue::Live,
            at_floor: AtFloor::Wait,
            charge: Charge::due(Source::new("requests-0-1"), EpochMs(0)),
        };
        let stop = CancellationToken::new();
        let size = std::mem::size_of_val(&handler.handle(&submission, &context, &stop));
        assert!(size <= 1280, "{size} bytes");
    }
}
