//! A task that is too slow on purpose.

use std::time::Duration;

use orchestrator_worker::{TaskContext, TaskResult, task_handler};

/// Takes twice the time that is promised for it: halfway there is a warning, at the end of the promise a violation.
#[task_handler("survey", queue = "ops_agent", sla(target = "800ms", warn = 0.5))]
pub(crate) async fn survey(_args: (), _ctx: TaskContext) -> TaskResult<()> {
    tokio::time::sleep(Duration::from_millis(1600)).await;
    Ok(())
}
