//! `bugfix`: finds the one line that makes a failing Python suite pass, and commits it on a branch.

use std::path::PathBuf;

use orchestrator_worker::{TaskContext, TaskError, TaskResult, task_handler};
use serde::{Deserialize, Serialize};

use crate::repair::{Plan, Repair, repair};

/// What to repair.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Bugfix {
    /// A git repository with a suite that `python3 -m unittest` runs.
    pub repo: PathBuf,
    /// Files that are suspected already, relative to the repository.
    #[serde(default)]
    pub suspects: Vec<PathBuf>,
}

/// Tries small changes until every test passes, and commits the right one on a branch of its own.
#[task_handler("bugfix", queue = "dev_agent", retries = 2, backoff = "exp(1s, 30s)", timeout = "5m")]
pub async fn bugfix(args: Bugfix, ctx: TaskContext) -> TaskResult<Repair> {
    // The id of the task, not of the attempt: a second attempt finds what the first one committed.
    let plan = Plan { hints: args.suspects, ..Plan::new(&ctx.task_id().to_string()) };
    let done = tokio::select! {
        done = repair(&args.repo, &plan, &|_| {}) => done,
        // Dropping the repair ends its test runs; the repository is as it was.
        () = ctx.cancelled() => return Err(TaskError::fatal("called off")),
    };
    done.map_err(|error| if error.is_final() { TaskError::fatal(error) } else { TaskError::from(error) })
}
