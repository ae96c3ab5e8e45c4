//! How an agent hands work on: one child of a type, however often the parent is attempted.

use orchestrator_worker::{Error, NewTask, TaskContext, TaskId, TaskResult};

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
    if ctx.attempt() > 1 {
        let this = ctx.orchestrator().get(ctx.task_id()).await?;
        for id in this.child_task_ids {
            match ctx.orchestrator().get(id).await {
                Ok(known) if known.task_type == child_type => return Ok(id),
                // Of another type, or forgotten since.
                Ok(_) | Err(Error::NotFound { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    let child = child.priority(ctx.priority()).metadata(ENVIRONMENT, environment(ctx));
    Ok(ctx.enqueue(child).await?.id())
}
