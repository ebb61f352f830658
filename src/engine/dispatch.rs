//! From an admitted request to its result: one task for each lane's head.

use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;

use super::core::Core;
use super::output::Writer;
use super::state::{Admission, Ticket};
use super::supersede::Group;
use super::transaction::{Finished, Note};
use crate::handler::Handler;
use crate::outcome::{Code, Disposition, Failure, Outcome, Setback, Stage};

/// Starts handlers and passes on what they return.
pub(crate) struct Dispatcher<H> {
    pub(crate) core: Arc<Core>,
    handler: Arc<H>,
    runtime: Handle,
    pub(crate) tasks: TaskTracker,
    /// Bounded by the window: each request in it has one result.
    notes: Sender<Note>,
    writer: Arc<Writer>,
}

impl<H: Handler> Dispatcher<H> {
    pub(crate) fn new(
        core: Arc<Core>,
        handler: Arc<H>,
        runtime: Handle,
        notes: Sender<Note>,
        writer: Arc<Writer>,
    ) -> Self {
        Self {
            core,
            handler,
            runtime,
            tasks: TaskTracker::new(),
            notes,
            writer,
        }
    }

    /// Does what an admission asks for.
    pub(crate) fn admitted(self: &Arc<Self>, admission: Admission) {
        match admission {
            Admission::Start(ticket) => self.start(ticket),
            Admission::LaneFull(ticket) => {
                self.finish(
                    Group::alone(ticket),
                    Outcome::Retried(setback(Code::LaneFull)),
                );
            }
            Admission::Waits => {}
        }
    }

    /// Tells the committer about something other than a result.
    pub(crate) fn note(&self, note: Note) {
        // It ends only after everything else has.
        let _ = self.notes.send(note);
    }

    fn start(self: &Arc<Self>, ticket: Ticket) {
        if let Some(due) = ticket.due {
            self.core
                .metrics
                .retry_started(due.age(self.core.clock.uptime()));
        }
        if let Err(error) = &ticket.request.submission {
            let failure = Failure {
                disposition: Disposition::Poison,
                code: error.code,
                stage: Stage::Decode,
            };
            let head = Head {
                dispatcher: Arc::clone(self),
                ticket: Some(ticket),
            };
            return head.end(Some(Outcome::DeadLettered(failure)));
        }
        let stop = self.core.lock().token(ticket.epoch);
        let head = Head {
            dispatcher: Arc::clone(self),
            ticket: Some(ticket),
        };
        self.tasks.spawn_on(
            async move {
                let outcome = match head.ticket.as_ref().map(|ticket| &ticket.request) {
                    Some(request) => match &request.submission {
                        Ok(submission) => {
                            head.dispatcher
                                .handler
                                .handle(submission, &request.envelope.context, &stop)
                                .await
                        }
                        Err(_) => None,
                    },
                    None => None,
                };
                head.end(outcome);
            },
            &self.runtime,
        );
    }

    /// The request with those that end with it.
    fn group(&self, head: Ticket, outcome: &Outcome) -> Group {
        match outcome {
            Outcome::Published(_) => {
                let (after, now) = (self.core.settings.supersede_after, self.core.clock.now());
                Group::gather(head, &mut self.core.lock().state, after, now)
            }
            Outcome::Rejected(_)
            | Outcome::Limited(_)
            | Outcome::DeadLettered(_)
            | Outcome::Retried(_) => Group::alone(head),
        }
    }

    fn finish(&self, group: Group, outcome: Outcome) {
        let now = self.core.clock.now();
        let finished = Finished::new(group, outcome, &self.writer, now);
        self.note(Note::Finished(Box::new(finished)));
    }
}

fn setback(code: Code) -> Setback {
    Setback {
        code,
        stage: Stage::Queue,
        retry_after: None,
    }
}

/// A lane's head while it is handled. Dropped without an end, by a defect that unwinds, it is
/// retried: no request is ever forgotten.
struct Head<H: Handler> {
    dispatcher: Arc<Dispatcher<H>>,
    ticket: Option<Ticket>,
}

impl<H: Handler> Head<H> {
    fn end(mut self, outcome: Option<Outcome>) {
        if let Some(ticket) = self.ticket.take() {
            self.pass_on(ticket, outcome);
        }
    }

    /// The result goes to the committer before the next of the lane starts, so that one person's
    /// records are written in order.
    fn pass_on(&self, ticket: Ticket, outcome: Option<Outcome>) {
        let lane = ticket.lane;
        match outcome {
            Some(outcome) => {
                let group = self.dispatcher.group(ticket, &outcome);
                self.dispatcher.finish(group, outcome);
            }
            None => {
                self.dispatcher.core.lock().state.forget(&ticket);
                self.dispatcher.core.places_freed();
            }
        }
        let next = self.dispatcher.core.lock().state.handled(lane);
        if let Some(next) = next {
            self.dispatcher.start(next);
        }
    }
}

impl<H: Handler> Drop for Head<H> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            tracing::error!("a handler ended without an outcome; its request is retried");
            self.pass_on(ticket, Some(Outcome::Retried(setback(Code::InternalError))));
        }
    }
}

/// Takes parked requests into the window when they are due.
pub(crate) async fn run_retries<H: Handler>(dispatcher: Arc<Dispatcher<H>>) {
    let core = Arc::clone(&dispatcher.core);
    loop {
        let woken = core.retries.notified();
        let now = core.clock.uptime();
        let (admissions, next_due) = {
            let mut shared = core.lock();
            (shared.state.take_due(now), shared.state.next_due())
        };
        admissions
            .into_iter()
            .for_each(|admission| dispatcher.admitted(admission));
        let pause = next_due.map_or(Duration::from_secs(3600), |due| due.left(now));
        tokio::select! {
            () = woken => {}
            () = tokio::time::sleep(pause) => {}
            () = core.stopping.cancelled() => return,
            () = core.failed.cancelled() => return,
        }
    }
}
