//! What a handler of events knows, may ask for, and does.

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use orchestrator::{Event, NewEvent, NewTask, Orchestrator, RESULT_BYTES_MAX, TaskHandle, check_name};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::extract::{Needs, State};
use crate::handler::{Payload, TypedHandler};
use crate::{Once, TaskError, TaskResult};

/// One attempt at one event, as its handler sees it. Cheap to clone.
#[derive(Clone)]
pub struct EventContext(Arc<Inner>);

struct Inner {
    orch: Orchestrator,
    group: &'static str,
    event: Event,
    attempt: u32,
    state: Arc<State>,
}

impl EventContext {
    pub(crate) fn new(orch: Orchestrator, group: &'static str, event: Event, attempt: u32, state: Arc<State>) -> Self {
        Self(Arc::new(Inner { orch, group, event, attempt, state }))
    }

    /// The event, its payload as JSON.
    #[must_use]
    pub fn event(&self) -> &Event {
        &self.0.event
    }

    /// The group that handles it here.
    #[must_use]
    pub fn group(&self) -> &str {
        self.0.group
    }

    /// Number of this attempt, from 1; attempts lost to crashes count.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.0.attempt
    }

    /// The client, for whatever else the handler needs of it.
    #[must_use]
    pub fn orchestrator(&self) -> &Orchestrator {
        &self.0.orch
    }

    /// Tells an event of the same trace and about the same task, at once. Returns its id.
    ///
    /// # Errors
    /// As [`Orchestrator::publish`].
    pub async fn publish<P: Serialize + ?Sized>(&self, event_type: &str, payload: &P) -> orchestrator::Result<String> {
        self.publish_event(NewEvent::new(event_type, payload)).await
    }

    /// [`EventContext::publish`], with all that can be said of an event. What it does not name is that of this one: task and
    /// trace; and as who tells it, the group.
    ///
    /// # Errors
    /// As [`Orchestrator::publish`].
    pub async fn publish_event(&self, event: NewEvent) -> orchestrator::Result<String> {
        let event = event.source_default(self.0.group);
        let event = event.task_default(self.0.event.task_id).trace_default(&self.0.event.trace_id);
        self.0.orch.publish(&event).await
    }

    /// Submits a task because of this event: however often the event is handled, it is one task of its type, for as long as
    /// that is kept. It joins the event's trace and, if the event is about a task, becomes its child. Unless it says otherwise it
    /// was asked for by whoever asked for that task, or else by whoever told the event: they may not approve it.
    ///
    /// # Errors
    /// As [`Orchestrator::enqueue`].
    pub async fn start<T>(&self, task: NewTask<T>) -> orchestrator::Result<TaskHandle<T>> {
        let Inner { orch, event, group, .. } = &*self.0;
        let cause = match event.task_id {
            Some(cause) => orch.get(cause).await.map(Some).or_else(|error| match error {
                orchestrator::Error::NotFound { .. } => Ok(None),
                error => Err(error),
            })?,
            None => None,
        };
        let (asked_for, asked_by, tenant) =
            cause.map_or((None, None, None), |cause| (cause.requested_by, cause.asked_by, cause.tenant));
        // Gateways put a caller's tenant there.
        let told = event.metadata.get("tenant").and_then(|name| name.as_str());
        let tenant = tenant.as_deref().or(told.filter(|name| check_name("tenant", name).is_ok()));
        let asked_for = asked_for.unwrap_or_else(|| event.source_agent.clone());
        let asked_for = Some(asked_for.as_str()).filter(|who| !who.is_empty());
        let task = task.because_of(event, group).asked_for_default(asked_for, asked_by.as_deref());
        orch.enqueue(task.tenant_default(tenant)).await
    }

    /// Does an effect once for this event, by its id, however often it is handled in this group within a week. The intent is
    /// noted before, the output after; `work` gets an idempotency key that is the same in every attempt. When an earlier
    /// attempt ended in between, by a crash or by an error of `work`, nobody here knows whether it happened:
    /// [`Once::Unknown`].
    ///
    /// # Errors
    /// What `work` returned; the handler is tried again when Redis does not serve.
    pub async fn once<F, Work, T, E>(&self, work: F) -> TaskResult<Once<T>>
    where
        F: FnOnce(String) -> Work,
        Work: Future<Output = Result<T, E>>,
        T: Payload,
        E: Into<TaskError>,
    {
        let key = format!("{}:{}", self.0.group, self.0.event.event_id);
        match self.0.orch.intend(&key).await? {
            None => {}
            Some(output) if output.is_empty() => return Ok(Once::Unknown(key)),
            Some(output) => return Ok(Once::Done(orchestrator::decode_value(&output)?)),
        }
        let value = work(key.clone()).await.map_err(Into::into)?;
        let output = orchestrator::encode_value("output", &value, RESULT_BYTES_MAX).map_err(TaskError::fatal)?;
        self.0.orch.intended(&key, &output).await?;
        Ok(Once::Done(value))
    }

    pub(crate) fn state(&self) -> &State {
        &self.0.state
    }
}

impl fmt::Debug for EventContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { group, event, attempt, .. } = &*self.0;
        write!(f, "EventContext({} {} for {group}, attempt {attempt})", event.event_type, event.event_id)
    }
}

/// A type that a handler of events can take as a parameter after its event.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a parameter of an event handler",
    label = "only the first parameter is the event; the others are taken from the context",
    note = "a handler takes its event first, then any of: `EventContext`, `Data<T>`, or a type that implements `FromEvent`"
)]
pub trait FromEvent: Sized {
    /// Takes it from the context of one attempt.
    ///
    /// # Errors
    /// What is missing. The attempt fails with it.
    fn from_event(ctx: &EventContext) -> Result<Self, TaskError>;

    /// Adds the shared state that it needs, so that a worker without it refuses to start.
    fn needs(_needs: &mut Needs) {}
}

impl FromEvent for EventContext {
    fn from_event(ctx: &EventContext) -> Result<Self, TaskError> {
        Ok(ctx.clone())
    }
}

/// The event with its payload as a `P`; a mistake is told with its path, and no attempt will change it.
pub fn event<P: DeserializeOwned>(ctx: &EventContext) -> Result<Event<P>, TaskError> {
    ctx.event().clone().typed().map_err(TaskError::payload)
}

/// What a function under `#[event_handler(.., start = …)]` may return: the payload of the task, or that there is none.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not carry the payload of the task that is to be started, `{A}`",
    label = "return an `Option` of that payload, or a `TaskResult` of such an `Option`",
    note = "`Some(payload)` starts the task, `None` starts none"
)]
pub trait Decision<A> {
    /// The payload, if the task is to be started.
    ///
    /// # Errors
    /// Those of the function.
    fn decided(self) -> Result<Option<A>, TaskError>;
}

impl<A> Decision<A> for Option<A> {
    fn decided(self) -> Result<Option<A>, TaskError> {
        Ok(self)
    }
}

impl<A, E: Into<TaskError>> Decision<A> for Result<Option<A>, E> {
    fn decided(self) -> Result<Option<A>, TaskError> {
        self.map_err(Into::into)
    }
}

/// Starts the task of handler `H` because of an event, if that was decided.
pub async fn start<H>(ctx: &EventContext, decision: impl Decision<H::Args>) -> Result<(), TaskError>
where
    H: TypedHandler<Args: Payload>,
{
    if let Some(args) = decision.decided()? {
        let task = crate::handler::new_task::<H>(&args);
        ctx.start(task).await.map_err(refused)?;
    }
    Ok(())
}

/// What can never be submitted is not tried again.
fn refused(error: orchestrator::Error) -> TaskError {
    match error {
        orchestrator::Error::Invalid { .. } => TaskError::fatal(error),
        error => error.into(),
    }
}
