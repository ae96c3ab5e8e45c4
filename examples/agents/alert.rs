//! `alert`: something is beyond its threshold. The service that runs there is looked into; when it is broken, that is told.

use orchestrator_worker::{TaskContext, TaskError, TaskResult, task_handler};
use serde::{Deserialize, Serialize};

use crate::chain::{Investigated, Triggered};
use crate::children;
use crate::figures::Finding;
use crate::investigate::{Investigate, Question, investigate};
use crate::search::Bounds;
use crate::service::Service;

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
    /// How many of its tests fail, as the child task has found that looks for the cause.
    pub failing: usize,
}

/// Has the service looked into: figures say that something is wrong, its tests may say what. Until that is done it waits
/// and holds nothing; when some tests fail, it tells `alert.triggered`.
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
    let (root, name) = (service.repo.clone(), service.name.clone());
    let look = Investigate { root, question: Question::FailingTests, bounds: Bounds::default() };
    let ask = || children::once(&ctx, "investigate", investigate::with(look));
    let investigation = ctx.step("investigate", ask).await?;
    let wait = ctx.wait_event("investigation.done").key(investigation).timeout("15m");
    let Investigated { failing, suspects } = wait.await?;
    if failing > 0 {
        ctx.publish("alert.triggered", &Triggered { service, summary: summary.clone(), suspects }).await?;
    }
    Ok(Raised { service: name, summary, failing })
}
