//! `deploy`: builds a commit, asks people about what was built when it is for production, publishes it, looks at it as its
//! readers do, and takes it back when it is not fine.

use std::net::SocketAddr;
use std::path::PathBuf;

use orchestrator_worker::{TaskContext, TaskError, TaskResult, task_handler};
use serde::{Deserialize, Serialize};

use crate::chain::Succeeded;
use crate::rollout::{Live, Plan, RolloutError, prepare};
use crate::site::Health;

/// What to deploy, and where to.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Deploy {
    /// A git repository with a suite that `python3 -m unittest` runs.
    pub repo: PathBuf,
    /// The commit, or a name for one.
    pub rev: String,
    /// The folder of the site; it is made when there is none.
    pub site: PathBuf,
    /// Where the site is served, on this machine; a server for the check alone is started when nothing is said.
    #[serde(default, with = "crate::service::written")]
    pub address: Option<SocketAddr>,
    /// Who the readers are; production when nothing is said. The policy for new tasks reads it too.
    #[serde(default = "production")]
    pub environment: String,
    /// The folder of the knowledge base that is to know of it, if any.
    #[serde(default)]
    pub kb: Option<PathBuf>,
}

/// The environment of whoever names none.
pub(crate) fn production() -> String {
    "production".to_owned()
}

/// Environments that may be changed without asking.
const FREE: [&str; 5] = ["staging", "dev", "development", "test", "preview"];

/// What people are asked about: what readers will get.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// Who the readers are.
    pub environment: String,
    /// The commit that was built.
    pub commit: String,
    /// How its tests went: `passing` or `failing`.
    pub status: String,
    /// How many tests there are.
    pub tests: u32,
    /// How many of them do not pass.
    pub failures: usize,
}

/// What is live now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deployed {
    /// The environment that it is live in.
    pub environment: String,
    /// The release and the page that was served.
    pub live: Live,
}

/// Builds the site of a commit, asks people when it is for production, switches to it, and switches back when its health
/// check fails: then the task fails. What was built is not built again, however long people take. When it is live, it tells
/// `deploy.succeeded`.
#[task_handler("deploy", queue = "ops_agent", retries = 2, backoff = "exp(1s, 30s)", timeout = "5m")]
pub async fn deploy(args: Deploy, ctx: TaskContext) -> TaskResult<Deployed> {
    let Deploy { repo, rev, site, address, environment, kb } = args;
    // The release has the id of the task, not of the attempt: nothing is published twice.
    let task = ctx.task_id().to_string();
    let plan = Plan { task, repo: repo.clone(), rev, site, environment: environment.clone(), address };
    let build = async || {
        tokio::select! {
            prepared = prepare(plan.clone()) => prepared.map(|prepared| prepared.health().clone()).map_err(task_error),
            // Dropping it ends the build; readers have seen nothing of it.
            () = ctx.cancelled() => Err(TaskError::fatal("called off")),
        }
    };
    let Health { commit, status, tests, failures, .. } = ctx.step("build", build).await?;
    if !FREE.contains(&environment.trim().to_lowercase().as_str()) {
        let release = Release { environment: environment.clone(), commit, status, tests, failures };
        ctx.approve(release).question("Let readers have this build?").expires("1d").await?;
    }
    // From here on it is seconds, and half a switch is worse than a whole one: it is not called off any more.
    let switch = async || prepare(plan.clone()).await.map_err(task_error)?.go_live().await.map_err(task_error);
    let live = ctx.step("switch", switch).await?;
    let told = Succeeded {
        environment: environment.clone(),
        repo,
        summary: format!("commit {:.10} is live in {environment}", live.commit),
        live: live.clone(),
        kb,
    };
    ctx.publish("deploy.succeeded", &told).await?;
    Ok(Deployed { environment, live })
}

fn task_error(error: RolloutError) -> TaskError {
    if error.is_final() { TaskError::fatal(error) } else { TaskError::from(error) }
}
