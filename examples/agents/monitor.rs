//! `monitor`: the figures of the machine that the worker runs on, and what in them needs a look.

use std::path::PathBuf;

use orchestrator_worker::{TaskContext, TaskError, TaskId, TaskResult, task_handler};
use serde::{Deserialize, Serialize};

use crate::alert::{Alert, alert};
use crate::children;
use crate::figures::{self, Figures, FiguresError, Finding, Thresholds};
use crate::service::Service;

/// What to look at.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Monitor {
    /// A path on the file system that must not fill up.
    pub disk: PathBuf,
    /// From where on a figure is a finding.
    #[serde(default)]
    pub thresholds: Thresholds,
    /// The service that runs here: a finding raises an `alert` about it. Without one, findings are only reported.
    #[serde(default)]
    pub service: Option<Service>,
}

/// How the machine is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Health {
    /// What was measured.
    pub figures: Figures,
    /// What is beyond its threshold; nothing when all is well.
    pub findings: Vec<Finding>,
    /// The child task that cares about them.
    #[serde(default)]
    pub alert: Option<TaskId>,
}

/// Holds load, memory, disk and processes of this machine against thresholds, and raises an alert beyond them.
#[task_handler("monitor", queue = "ops_agent", retries = 2, timeout = "30s")]
pub async fn monitor(args: Monitor, ctx: TaskContext) -> TaskResult<Health> {
    let Monitor { disk, thresholds, service } = args;
    let figures = match tokio::task::spawn_blocking(move || figures::read(&disk)).await? {
        // Another attempt would find the same machine.
        Err(error @ FiguresError::NotLinux(_)) => return Err(TaskError::fatal(error)),
        read => read?,
    };
    let findings = figures.findings(&thresholds);
    let alert = match service.filter(|_| !findings.is_empty()) {
        Some(service) => {
            let raised = Alert { service, findings: findings.clone() };
            Some(children::once(&ctx, "alert", alert::with(raised)).await?)
        }
        None => None,
    };
    Ok(Health { figures, findings, alert })
}
