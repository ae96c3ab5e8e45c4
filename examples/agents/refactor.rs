//! `refactor`: gives a function or a parameter another name and keeps what the program does.

use std::path::PathBuf;

use orchestrator_worker::{TaskContext, TaskError, TaskResult, task_handler};
use serde::{Deserialize, Serialize};

use crate::branch::WorkError;
use crate::deploy::production;
use crate::rename::{Rename, Touched, rename};

/// What to change.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Refactor {
    /// A git repository with a suite that `python3 -m unittest` runs.
    pub repo: PathBuf,
    /// What gets another name.
    pub rename: Rename,
    /// Who will feel it; production when nothing is said. The policy for new tasks reads it.
    #[serde(default = "production")]
    pub environment: String,
}

/// What was changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refactored {
    /// The branch it is on, checked out now.
    pub branch: String,
    /// Its commit.
    pub commit: String,
    /// The files it touched.
    pub files: Vec<Touched>,
    /// How many tests pass, as many as before: all there are.
    pub tests_passed: u32,
}

/// Renames across the package, and commits it on a branch of its own when all tests pass before and after.
#[task_handler("refactor", queue = "dev_agent", retries = 2, backoff = "exp(1s, 30s)", timeout = "5m")]
pub async fn refactor(args: Refactor, ctx: TaskContext) -> TaskResult<Refactored> {
    // The id of the task, not of the attempt: a second attempt finds what the first one committed.
    let task = ctx.task_id().to_string();
    let done = tokio::select! {
        done = rename(&args.repo, &task, &args.rename) => done,
        // Dropping it ends its test runs; the repository is as it was.
        () = ctx.cancelled() => return Err(TaskError::fatal("called off")),
    };
    let done = done.map_err(task_error)?;
    let (files, tests_passed) = (done.outcome.files, done.outcome.tests_after);
    Ok(Refactored { branch: done.branch, commit: done.commit, files, tests_passed })
}

/// Whether another attempt may follow is known to the error.
pub(crate) fn task_error(error: WorkError) -> TaskError {
    if error.is_final() { TaskError::fatal(error) } else { TaskError::from(error) }
}
