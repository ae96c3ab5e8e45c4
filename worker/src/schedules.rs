//! Schedules of handlers: what the attribute says of when a handler runs by itself.

use orchestrator::{Error, NewTask, Orchestrator, Result, Schedule, Schedules, check_name};

use crate::handler::{HandlerSpec, Payload, TypedHandler, new_task};
use crate::registry::Registry;

/// The payload of a handler that runs by itself.
#[diagnostic::on_unimplemented(
    message = "a handler with `cron` needs a payload that has a default, and `{Self}` has none",
    label = "nobody says what this is when a schedule makes the task",
    note = "derive `Default` for it, take `()`, or leave out `cron` and add a schedule with a payload"
)]
pub trait ScheduledPayload: Payload {
    /// What a task that nobody submits is made with.
    fn scheduled() -> Self;
}

#[diagnostic::do_not_recommend]
impl<T: Payload + Default> ScheduledPayload for T {
    fn scheduled() -> Self {
        T::default()
    }
}

/// When a handler runs by itself, and what it runs with.
#[derive(Clone, Copy, Debug)]
pub struct Comes {
    expression: &'static str,
    task: fn() -> NewTask,
}

impl Comes {
    /// Used by the code that `#[task_handler]` makes.
    #[must_use]
    pub fn new<H: TypedHandler<Args: ScheduledPayload>>(expression: &'static str) -> Self {
        Self { expression, task: || new_task::<H>(&H::Args::scheduled()).untyped() }
    }
}

/// The schedule of a handler, if it has one.
fn schedule(spec: &HandlerSpec) -> Option<Schedule> {
    let comes = spec.cron?;
    let name = Schedules::of_handler(spec.task_type);
    let schedule = Schedule::cron(&name, comes.expression, (comes.task)())
        .overlap(spec.overlap.unwrap_or_default())
        .catch_up(spec.catch_up.unwrap_or_default())
        .made_by("its handler's attribute");
    Some(match spec.tz {
        Some(zone) => schedule.tz(zone),
        None => schedule,
    })
}

/// Refuses a schedule that cannot be.
pub(crate) fn check(spec: &HandlerSpec) -> Result {
    check_name("task type", spec.task_type)?;
    match schedule(spec) {
        Some(schedule) => schedule.check(),
        None if spec.tz.is_some() || spec.overlap.is_some() || spec.catch_up.is_some() => {
            Err(Error::Invalid { what: "`tz`, `overlap` and `catch_up` go with `cron`, which it has not".into() })
        }
        None => Ok(()),
    }
}

/// Puts the schedules of the handlers, and removes those of handlers that have none any more.
pub(crate) async fn settle(orch: &Orchestrator, registry: &Registry) -> Result {
    let handlers: Vec<_> = registry.specs().into_iter().map(|spec| (spec.task_type, schedule(spec))).collect();
    for (name, put) in orch.schedules().settle(&handlers).await? {
        match put {
            true => tracing::info!(schedule = name, "the schedule of a handler is new or has changed"),
            false => tracing::info!(schedule = name, "the handler has no schedule any more: it is removed"),
        }
    }
    Ok(())
}
