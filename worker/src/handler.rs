//! What the attribute makes of an async function.

use std::panic::Location;
use std::time::Duration;

use async_trait::async_trait;
use orchestrator::{Backoff, CatchUp, Gate, NewTask, Overlap, Priority, QUEUE_DEFAULT, SlaTerms, Unique, built_in};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::NoRetry;
use crate::extract::Needs;
use crate::output::Output;
use crate::schedules::Comes;
use crate::{TaskContext, TaskError};

/// Longest attempt unless the handler says otherwise.
pub const TIMEOUT_DEFAULT: Duration = Duration::from_secs(15 * 60);

/// A handler with its types put away. Made by `#[task_handler]`, or by hand for handlers that are made at run time.
#[async_trait]
pub trait TaskHandler: Send + Sync + 'static {
    /// What it handles, and how.
    fn spec(&self) -> HandlerSpec;

    /// One attempt.
    ///
    /// # Errors
    /// What the handler returned, or that the payload does not fit.
    async fn call(&self, ctx: TaskContext) -> Result<Output, TaskError>;
}

/// What can travel as a payload or an output: everything that serde can write and read back.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the payload or the output of a task",
    label = "this type cannot be sent",
    note = "put `#[payload]` on it, or derive serde's `Serialize` and `Deserialize`"
)]
pub trait Payload: Serialize + DeserializeOwned {}

#[diagnostic::do_not_recommend]
impl<T: Serialize + DeserializeOwned> Payload for T {}

/// A handler whose types are known, so that its tasks can be made and their results read.
///
/// The types carry no bounds here: an unfit one is told of once, where it is used.
pub trait TypedHandler: TaskHandler + Default {
    /// The payload.
    type Args;
    /// The result.
    type Output;
}

/// What a handler handles, and how. What is `None` has its default.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct HandlerSpec {
    /// The task type.
    pub task_type: &'static str,
    /// The queue of its tasks.
    pub queue: Option<&'static str>,
    /// The priority of the tasks made by its `with`.
    pub priority: Option<Priority>,
    /// The retries of the tasks made by its `with`.
    pub retries: Option<u8>,
    /// The wait between attempts.
    pub backoff: Option<Backoff>,
    /// The errors after which no other attempt follows, whatever retries are left.
    pub no_retry: Option<Vec<NoRetry>>,
    /// The longest attempt.
    pub timeout: Option<Duration>,
    /// How long it may go on when cancelling was asked for, at most [`CANCEL_GRACE_MAX`](orchestrator::CANCEL_GRACE_MAX).
    pub cancel_grace: Option<Duration>,
    /// Whether it blocks its thread, and so has one of its own; for what `#[task_handler(.., blocking = true)]` makes.
    pub blocking: Option<bool>,
    /// The approval that its tasks need before their first attempt.
    pub approval: Option<Gate>,
    /// What is promised for the total time of its tasks.
    pub sla: Option<SlaTerms>,
    /// How long after its start an attempt of a task may still begin; see [`NewTask::expires`].
    pub expires: Option<Duration>,
    /// What makes its tasks the only ones; see [`NewTask::unique`].
    pub unique: Option<Unique>,
    /// When it runs by itself.
    pub cron: Option<Comes>,
    /// The time zone of that.
    pub tz: Option<&'static str>,
    /// What becomes of a tick while the last run has not ended.
    pub overlap: Option<Overlap>,
    /// What becomes of ticks that nobody was there for.
    pub catch_up: Option<CatchUp>,
    /// What it does, in its author's words.
    pub doc: &'static str,
    /// Tells its code from another's, for parked tasks to notice that it has changed; 0 when nobody can say.
    pub code: u32,
    /// The shared state that it needs.
    pub needs: Needs,
    pub(crate) location: &'static Location<'static>,
}

impl HandlerSpec {
    /// All defaults for `task_type`. The caller's place in the source tells handlers apart.
    #[track_caller]
    #[must_use]
    pub fn new(task_type: &'static str) -> Self {
        Self {
            task_type,
            queue: None,
            priority: None,
            retries: None,
            backoff: None,
            no_retry: None,
            timeout: None,
            cancel_grace: None,
            blocking: None,
            approval: None,
            sla: None,
            expires: None,
            unique: None,
            cron: None,
            tz: None,
            overlap: None,
            catch_up: None,
            doc: "",
            code: 0,
            needs: Needs::default(),
            location: Location::caller(),
        }
    }

    /// The queue of its tasks: its own, the built-in one of its type, or `default`.
    #[must_use]
    pub fn home(&self) -> &'static str {
        self.queue.or_else(|| built_in(self.task_type)).unwrap_or(QUEUE_DEFAULT)
    }

    /// As it is published.
    pub(crate) fn expires_ms(&self) -> Option<u64> {
        self.expires.map(|span| u64::try_from(span.as_millis()).unwrap_or(u64::MAX))
    }
}

/// A task for handler `H`.
pub fn new_task<H: TypedHandler<Args: Payload>>(args: &H::Args) -> NewTask<H::Output> {
    let spec = H::default().spec();
    let mut task = NewTask::new(spec.task_type, args).home(spec.home()).policies(spec.approval, spec.sla);
    task = task.handler_rules(spec.expires, spec.unique);
    if let Some(priority) = spec.priority {
        task = task.priority(priority);
    }
    match spec.retries {
        Some(retries) => task.max_retries(retries),
        None => task,
    }
}

/// The payload of the attempt as a `P`; a mistake is told with its path and ends the task for good.
pub fn payload<P: Payload>(ctx: &TaskContext) -> Result<P, TaskError> {
    ctx.assignment().payload_as().map_err(TaskError::payload)
}

/// The output within its bounds; one that does not fit ends the task for good.
pub fn output<T: Payload>(value: &T) -> Result<Output, TaskError> {
    Output::new(value)
}
