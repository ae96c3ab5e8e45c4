//! What a handler knows of its own attempt.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use chrono::{DateTime, Utc};
use orchestrator::{Assignment, Error, NewEvent, NewTask, Orchestrator, Priority, Source, TaskHandle, TaskId};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::TaskResult;
use crate::blocking::Blocking;
use crate::durable::Durable;
use crate::extract::State;
use crate::voice::Voice;

/// Where a handler is that has no client.
const ALONE: &str = "this handler runs in a test without a Redis";

/// One attempt at one task, as its handler sees it. Cheap to clone.
#[derive(Clone)]
pub struct TaskContext(Arc<Inner>);

struct Inner {
    task: Arc<Assignment>,
    /// None for a handler that is tested without a Redis.
    orch: Option<Orchestrator>,
    state: Arc<State>,
    cancel: CancellationToken,
    deadline: Instant,
    durable: Durable,
    voice: Voice,
    /// Of a blocking handler alone.
    blocking: Option<Blocking>,
}

impl TaskContext {
    pub(crate) fn new(
        task: Arc<Assignment>,
        orch: Option<Orchestrator>,
        state: Arc<State>,
        cancel: CancellationToken,
        deadline: Instant,
        durable: Durable,
        (voice, blocking): (Voice, Option<Blocking>),
    ) -> Self {
        Self(Arc::new(Inner { task, orch, state, cancel, deadline, durable, voice, blocking }))
    }

    /// The task's id. Together with a step's name it makes an idempotency key for effects outside.
    #[must_use]
    pub fn task_id(&self) -> TaskId {
        self.0.task.ticket().id
    }

    /// The task's type.
    #[must_use]
    pub fn task_type(&self) -> &str {
        self.0.task.task_type()
    }

    /// Number of this attempt, from 1; attempts lost to crashes count.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.0.task.attempt()
    }

    /// Rises with every claim of this task: hand it to what lies downstream, so that it can refuse an older attempt.
    #[must_use]
    pub fn fencing_token(&self) -> u32 {
        self.0.task.ticket().epoch
    }

    /// The trace that the task belongs to.
    #[must_use]
    pub fn trace_id(&self) -> String {
        self.0.task.trace_id()
    }

    /// Its priority.
    #[must_use]
    pub fn priority(&self) -> Priority {
        self.0.task.priority()
    }

    /// Who asked for it.
    #[must_use]
    pub fn source(&self) -> Source {
        self.0.task.source()
    }

    /// The queue that it came from.
    #[must_use]
    pub fn queue(&self) -> &str {
        self.0.task.queue()
    }

    /// The submitter's free fields.
    #[must_use]
    pub fn metadata(&self) -> &serde_json::Map<String, serde_json::Value> {
        self.0.task.metadata()
    }

    /// The tick of the schedule that made this task: when it was to come, however late it is. `None` for a task that no
    /// schedule made.
    #[must_use]
    pub fn scheduled_for(&self) -> Option<DateTime<Utc>> {
        self.metadata().get("schedule")?;
        self.metadata().get("scheduled_for")?.as_str()?.parse().ok()
    }

    /// When the attempt will be ended for taking too long.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        self.0.deadline
    }

    /// Whether cancelling was asked for. A handler that sees it should stop; when its `cancel_grace` is over (5 s unless told),
    /// or what whoever asked has set, it is dropped where it waits. In a blocking handler, whose thread goes on when its attempt
    /// was ended, it is true from then on, too.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.0.cancel.is_cancelled() || self.0.blocking.as_ref().is_some_and(|blocking| blocking.over().is_cancelled())
    }

    /// Resolves when cancelling is asked for; see [`TaskContext::is_cancelled`].
    pub async fn cancelled(&self) {
        self.0.cancel.cancelled().await;
    }

    /// The client, for whatever else the handler needs of it.
    ///
    /// # Panics
    /// In a handler that a test runs without a Redis (`testing::Solo`); never in a worker.
    #[must_use]
    pub fn orchestrator(&self) -> &Orchestrator {
        match &self.0.orch {
            Some(orch) => orch,
            None => panic!("{ALONE}: there is no client; run this handler in a `testing::Harness`"),
        }
    }

    /// Submits a child of this task: it joins the trace, this task lists it, and whoever asked for this one asks for it.
    /// A handler that waits is entered anew: submit from within a step there, so that one child comes of it.
    ///
    /// # Errors
    /// As [`Orchestrator::enqueue`].
    pub async fn enqueue<T>(&self, task: NewTask<T>) -> orchestrator::Result<TaskHandle<T>> {
        let Some(orch) = &self.0.orch else {
            let what = format!("{ALONE}: no child can be submitted; run this handler in a `testing::Harness`");
            return Err(Error::Invalid { what });
        };
        let task = task.trace_id(&self.trace_id()).parent_id(self.task_id());
        let parent = &self.0.task;
        let task = task.asked_for_default(parent.requested_by(), parent.asked_by()).tenant_default(parent.tenant());
        orch.enqueue(task).await
    }

    /// Tells an event about this task, of its trace, from its handler: it is in the stream when the next step or wait is
    /// noted, or when the task has ended, and only then; what an attempt tells that is tried again is told by the next one.
    /// So it is told once, however often the handler is entered. To tell it at once: [`Orchestrator::publish`]. Returns its id.
    ///
    /// # Errors
    /// A fatal one for an event that cannot be told, and for more than 100 or 1 MiB of them between two steps.
    pub async fn publish<P: Serialize + ?Sized>(&self, event_type: &str, payload: &P) -> TaskResult<String> {
        self.publish_event(NewEvent::new(event_type, payload)).await
    }

    /// [`TaskContext::publish`], with all that can be said of an event. What it does not name is named after this task: task,
    /// trace, and as who tells it the queue.
    ///
    /// # Errors
    /// As [`TaskContext::publish`].
    pub async fn publish_event(&self, event: NewEvent) -> TaskResult<String> {
        let event = event.task_default(Some(self.task_id())).trace_default(&self.trace_id());
        self.durable().tell(&event.source_default(self.queue())).await
    }

    pub(crate) fn durable(&self) -> &Durable {
        &self.0.durable
    }

    pub(crate) fn voice(&self) -> &Voice {
        &self.0.voice
    }

    pub(crate) fn blocking(&self) -> Option<&Blocking> {
        self.0.blocking.as_ref()
    }

    pub(crate) fn assignment(&self) -> &Assignment {
        &self.0.task
    }

    pub(crate) fn state(&self) -> &State {
        &self.0.state
    }
}

impl fmt::Debug for TaskContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TaskContext({} {}, attempt {})", self.task_type(), self.task_id(), self.attempt())
    }
}
