//! `feature`: adds a function that was asked for by examples, with the examples as tests.

use std::path::PathBuf;

use orchestrator_worker::{TaskContext, TaskError, TaskResult, task_handler};
use serde::{Deserialize, Serialize};

use crate::deploy::production;
use crate::refactor::task_error;
use crate::synthesis::{Spec, write};

/// What is wanted.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Feature {
    /// A git repository with a suite that `python3 -m unittest` runs, in a package `tests`.
    pub repo: PathBuf,
    /// The module that gets the function, relative to the repository.
    pub module: PathBuf,
    /// The function.
    pub spec: Spec,
    /// Who will feel it; production when nothing is said. The policy for new tasks reads it.
    #[serde(default = "production")]
    pub environment: String,
}

/// What was added.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Added {
    /// The branch it is on, checked out now.
    pub branch: String,
    /// Its commit.
    pub commit: String,
    /// The function.
    pub function: String,
    /// What it returns.
    pub expression: String,
    /// How many expressions were evaluated until this one.
    pub tried: u64,
    /// How many tests pass now: all there are.
    pub tests_passed: u32,
}

/// Looks for an expression that does what the examples say, and commits it as a function, with tests, on a branch.
#[task_handler("feature", queue = "dev_agent", retries = 2, backoff = "exp(1s, 30s)", timeout = "5m")]
pub async fn feature(args: Feature, ctx: TaskContext) -> TaskResult<Added> {
    let Feature { repo, module, spec, .. } = args;
    // The id of the task, not of the attempt: a second attempt finds what the first one committed.
    let task = ctx.task_id().to_string();
    let done = tokio::select! {
        done = write(&repo, &task, &module, &spec) => done,
        // Dropping it ends its test runs; the repository is as it was.
        () = ctx.cancelled() => return Err(TaskError::fatal("called off")),
    };
    let done = done.map_err(task_error)?;
    Ok(Added {
        branch: done.branch,
        commit: done.commit,
        function: spec.name,
        expression: done.outcome.expression,
        tried: done.outcome.tried,
        tests_passed: done.outcome.tests_after,
    })
}
