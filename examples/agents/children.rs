//! How work is handed on: one task of a type, however often the agent is attempted or the event handled that asks for it.

use orchestrator_worker::{Error, EventContext, NewTask, TaskContext, TaskId, TaskResult};

/// The field of a task's metadata that says where its effects are to be.
pub const ENVIRONMENT: &str = "environment";

/// Where a task's effects are to be: `staging` unless its submitter said otherwise.
#[must_use]
pub fn environment(ctx: &TaskContext) -> &str {
    ctx.metadata().get(ENVIRONMENT).and_then(|value| value.as_str()).unwrap_or("staging")
}

/// Submits a child of this task, at the priority and in the environment of its parent, unless an earlier attempt has
/// submitted one of that type: then that one is meant.
///
/// # Errors
/// When Redis cannot be asked, or refuses the child.
pub async fn once<T>(ctx: &TaskContext, child_type: &str, child: NewTask<T>) -> TaskResult<TaskId> {
    // Even the first attempt: one that its worker gave back is not counted.
    let this = ctx.orchestrator().get(ctx.task_id()).await?;
    for id in this.child_task_ids {
        match ctx.orchestrator().get(id).await {
            Ok(known) if known.task_type == child_type => return Ok(id),
            // Of another type, or forgotten since.
            Ok(_) | Err(Error::NotFound { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let child = child.priority(ctx.priority()).metadata(ENVIRONMENT, environment(ctx));
    Ok(ctx.enqueue(child).await?.id())
}

/// Starts a task because of an event: at the priority and in the environment of the task that the event is about, unless
/// another environment is named, and on behalf of whoever asked for that task; else on behalf of whoever told the event. So
/// nobody gets, by way of an event, to approve what they asked for themselves.
///
/// # Errors
/// When Redis cannot be asked, or refuses the task.
pub async fn because<T>(ctx: &EventContext, task: NewTask<T>, environment: Option<&str>) -> TaskResult {
    let event = ctx.event();
    let cause = match event.task_id {
        Some(id) => match ctx.orchestrator().get(id).await {
            // It may be long ago.
            Err(Error::NotFound { .. }) => None,
            known => Some(known?),
        },
        None => None,
    };
    let priority = cause.as_ref().map(|cause| cause.priority).unwrap_or_default();
    let same = cause.as_ref().and_then(|cause| cause.metadata.get(ENVIRONMENT)?.as_str());
    let task = match environment.or(same) {
        Some(environment) => task.metadata(ENVIRONMENT, environment),
        None => task,
    };
    let teller = Some(event.source_agent.clone()).filter(|teller| !teller.is_empty());
    let task = match cause.and_then(|cause| cause.requested_by).or(teller) {
        Some(requester) => task.requested_by(&requester),
        None => task,
    };
    ctx.start(task.priority(priority)).await?;
    Ok(())
}
