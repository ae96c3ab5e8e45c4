//! `monitor`: the figures of the machine that the worker runs on, and what in them needs a look.

use std::path::PathBuf;

use orchestrator_worker::{TaskError, TaskResult, task_handler};
use serde::{Deserialize, Serialize};

use crate::figures::{self, Figures, FiguresError, Finding, Thresholds};

/// What to look at.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Monitor {
    /// A path on the file system that must not fill up.
    pub disk: PathBuf,
    /// From where on a figure is a finding.
    #[serde(default)]
    pub thresholds: Thresholds,
}

/// How the machine is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Health {
    /// What was measured.
    pub figures: Figures,
    /// What is beyond its threshold; nothing when all is well.
    pub findings: Vec<Finding>,
}

/// Reads load, memory, disk and processes of this machine and holds them against thresholds.
#[task_handler("monitor", queue = "ops_agent", retries = 2, timeout = "30s")]
pub async fn monitor(args: Monitor) -> TaskResult<Health> {
    let Monitor { disk, thresholds } = args;
    let figures = match tokio::task::spawn_blocking(move || figures::read(&disk)).await? {
        // Another attempt would find the same machine.
        Err(error @ FiguresError::NotLinux(_)) => return Err(TaskError::fatal(error)),
        read => read?,
    };
    let findings = figures.findings(&thresholds);
    Ok(Health { figures, findings })
}
