//! `deploy`: publishes what was built of a commit, looks at it as its readers do, and takes it back when it is not fine.

use std::net::SocketAddr;
use std::path::PathBuf;

use orchestrator_worker::{TaskContext, TaskError, TaskResult, task_handler};
use serde::{Deserialize, Serialize};

use crate::children;
use crate::rollout::{Live, Plan, RolloutError, prepare};

/// What to deploy, and where to. The environment is a field of the task's metadata: `staging` unless it says otherwise.
/// Approvals do not exist yet: nothing holds a deployment to any other environment back.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Deploy {
    /// A git repository with a suite that `python3 -m unittest` runs.
    pub repo: PathBuf,
    /// The commit, or a name for one.
    pub rev: String,
    /// The folder of the site; it is made when there is none.
    pub site: PathBuf,
    /// Where the site is served, on this machine; a server for the check alone is started when nothing is said.
    #[serde(default)]
    pub address: Option<SocketAddr>,
}

/// What is live now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deployed {
    /// The environment that it is live in.
    pub environment: String,
    /// The release and the page that was served.
    pub live: Live,
}

/// Builds the site of a commit, switches to it, and switches back when its health check fails: then the task fails.
#[task_handler("deploy", queue = "ops_agent", retries = 2, backoff = "exp(1s, 30s)", timeout = "5m")]
pub async fn deploy(args: Deploy, ctx: TaskContext) -> TaskResult<Deployed> {
    let Deploy { repo, rev, site, address } = args;
    let environment = children::environment(&ctx).to_owned();
    // The release has the id of the task, not of the attempt: nothing is published twice.
    let task = ctx.task_id().to_string();
    let plan = Plan { task, repo, rev, site, environment: environment.clone(), address };
    let prepared = tokio::select! {
        prepared = prepare(plan) => prepared.map_err(task_error)?,
        // Dropping it ends the build; readers have seen nothing of it.
        () = ctx.cancelled() => return Err(TaskError::fatal("called off")),
    };
    // From here on it is seconds, and half a switch is worse than a whole one: it is not called off any more.
    let live = prepared.go_live().await.map_err(task_error)?;
    Ok(Deployed { environment, live })
}

fn task_error(error: RolloutError) -> TaskError {
    if error.is_final() { TaskError::fatal(error) } else { TaskError::from(error) }
}
