//! `bugfix`: finds the one line that makes a failing Python suite pass, and commits it on a branch.

use std::path::PathBuf;

use orchestrator_worker::{TaskContext, TaskError, TaskId, TaskResult, task_handler};
use serde::{Deserialize, Serialize};

use crate::chain::Merged;
use crate::repair::{Plan, Repair, repair};
use crate::scratch;
use crate::service::Target;

/// What to repair.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Bugfix {
    /// A git repository with a suite that `python3 -m unittest` runs. Left out, the agent practises on a scratch
    /// repository with a planted bug, in the system's temporary folder under the task's id.
    #[serde(default)]
    pub repo: PathBuf,
    /// Files that are suspected already, relative to the repository.
    #[serde(default)]
    pub suspects: Vec<PathBuf>,
    /// Where the repair goes from there, if anywhere.
    #[serde(default)]
    pub target: Option<Target>,
}

/// Tries small changes until every test passes, commits the right one on a branch of its own, and tells `pr.merged`.
#[task_handler("bugfix", queue = "dev_agent", retries = 2, backoff = "exp(1s, 30s)", timeout = "5m")]
pub async fn bugfix(args: Bugfix, ctx: TaskContext) -> TaskResult<Repair> {
    let repo = if args.repo.as_os_str().is_empty() { practice(ctx.task_id()).await? } else { args.repo };
    // The id of the task, not of the attempt: a second attempt finds what the first one committed.
    let plan = Plan { hints: args.suspects, ..Plan::new(&ctx.task_id().to_string()) };
    let done = tokio::select! {
        done = repair(&repo, &plan, &|_| {}) => done,
        // Dropping the repair ends its test runs; the repository is as it was.
        () = ctx.cancelled() => return Err(TaskError::fatal("called off")),
    };
    let done = done.map_err(|error| if error.is_final() { TaskError::fatal(error) } else { TaskError::from(error) })?;
    let Repair { commit, file, line, .. } = &done;
    let summary = format!("line {line} of {} repaired by commit {commit:.10}", file.display());
    ctx.publish("pr.merged", &Merged { repo, commit: commit.clone(), summary, target: args.target }).await?;
    Ok(done)
}

/// The scratch repository of a task that names none; a second attempt finds the one of the first.
async fn practice(task: TaskId) -> TaskResult<PathBuf> {
    let dir = std::env::temp_dir().join(format!("orchestrator-practice-{task}"));
    if !dir.join(".git").exists() {
        std::fs::create_dir_all(&dir)?;
        let seed = task.to_string().bytes().fold(0, |seed: u64, byte| seed.wrapping_mul(31).wrapping_add(byte.into()));
        scratch::make(&dir, seed).await?;
    }
    Ok(dir)
}
