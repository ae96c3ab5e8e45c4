//! `alert`: something is beyond its threshold; somebody has to look at the service that runs there.

use std::path::PathBuf;

use orchestrator_worker::{TaskContext, TaskError, TaskId, TaskResult, task_handler};
use serde::{Deserialize, Serialize};

use crate::children;
use crate::figures::Finding;
use crate::investigate::{Investigate, Question, investigate};
use crate::search::Bounds;

/// A service, and where its source is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// What it is called.
    pub name: String,
    /// Its repository: Python, with a suite that `python3 -m unittest` runs.
    pub repo: PathBuf,
}

/// What is wrong, and with what.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Alert {
    /// The service that runs where it was measured.
    pub service: Service,
    /// What is beyond its threshold, the most pressing first.
    pub findings: Vec<Finding>,
}

/// What follows from an alert.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Raised {
    /// The service.
    pub service: String,
    /// The alert in one line.
    pub summary: String,
    /// The child task that looks for the cause; it has a child of its own when there is something to repair.
    pub investigation: TaskId,
}

/// Has the service looked into: figures say that something is wrong, its tests may say what.
#[task_handler("alert", queue = "ops_agent", retries = 3, backoff = "exp(1s, 30s)", timeout = "30s")]
pub async fn alert(args: Alert, ctx: TaskContext) -> TaskResult<Raised> {
    let Alert { service, findings } = args;
    if findings.is_empty() {
        return Err(TaskError::fatal(format!("an alert about {} without a finding", service.name)));
    }
    if !service.repo.is_dir() {
        return Err(TaskError::fatal(format!("{} has no repository at {}", service.name, service.repo.display())));
    }
    let words: Vec<&str> = findings.iter().map(|finding| finding.message.as_str()).collect();
    let summary = format!("{}: {}", service.name, words.join("; "));
    let look = Investigate { root: service.repo, question: Question::FailingTests, bounds: Bounds::default() };
    let investigation = children::once(&ctx, "investigate", investigate::with(look)).await?;
    Ok(Raised { service: service.name, summary, investigation })
}
