//! What a run has done, as a file for other programs: `demo.json` in the folder of the run.

use std::path::Path;

use orchestrator_examples::children::ENVIRONMENT;
use orchestrator_examples::knowledge::Source;
use orchestrator_worker::{Approval, ApprovalId, ApprovalStatus, Event, Priority, Status, Task, TaskId};
use serde::{Deserialize, Serialize};

use crate::Failure;

/// The name of the file.
pub(crate) const FILE: &str = "demo.json";

/// Folders of a run, within its own.
pub(crate) const REPO: &str = "shop";
pub(crate) const SITE: &str = "site";
pub(crate) const KB: &str = "kb";

/// A run.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Record {
    /// Which bug was planted.
    pub(crate) seed: u64,
    /// Every task, in the order in which they became known.
    pub(crate) tasks: Vec<Ran>,
    /// What the agents told, in that order.
    pub(crate) events: Vec<Told>,
    /// What people were asked and said, newest first.
    pub(crate) approvals: Vec<Approved>,
    /// The commits of the repository, each the child of the one before it.
    pub(crate) commits: Vec<Commit>,
    /// The deployment that is live.
    pub(crate) deployed: Release,
    /// The one that was not fine.
    pub(crate) rolled_back: Release,
    /// A question with an answer.
    pub(crate) answered: Answered,
    /// A question that has none.
    pub(crate) unanswered: String,
}

/// One task.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Ran {
    pub(crate) id: TaskId,
    #[serde(rename = "type")]
    pub(crate) task_type: String,
    pub(crate) status: Status,
    pub(crate) attempts: u32,
    pub(crate) queue: String,
    pub(crate) priority: Priority,
    pub(crate) environment: Option<String>,
    pub(crate) trace: String,
    pub(crate) parent: Option<TaskId>,
    pub(crate) children: Vec<TaskId>,
    pub(crate) error: Option<String>,
}

/// One event that an agent told.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Told {
    pub(crate) id: String,
    #[serde(rename = "type")]
    pub(crate) event_type: String,
    pub(crate) at: String,
    pub(crate) by: String,
    pub(crate) task: Option<TaskId>,
    pub(crate) trace: String,
}

impl From<&Event> for Told {
    fn from(event: &Event) -> Self {
        Self {
            id: event.event_id.clone(),
            event_type: event.event_type.clone(),
            at: event.timestamp.to_rfc3339(),
            by: event.source_agent.clone(),
            task: event.task_id,
            trace: event.trace_id.clone(),
        }
    }
}

/// One decision.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Approved {
    pub(crate) id: ApprovalId,
    pub(crate) task: TaskId,
    pub(crate) status: ApprovalStatus,
    pub(crate) by: Option<String>,
    pub(crate) requested_by: Option<String>,
}

impl From<&Approval> for Approved {
    fn from(approval: &Approval) -> Self {
        Self {
            id: approval.approval_id,
            task: approval.task_id,
            status: approval.status,
            by: approval.approved_by.clone(),
            requested_by: approval.requested_by.clone(),
        }
    }
}

/// One commit.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Commit {
    /// The type of the task that made it; `planted` for the first.
    pub(crate) by: String,
    pub(crate) branch: String,
    pub(crate) commit: String,
    /// How many tests pass; `None` when some fail.
    pub(crate) tests_passed: Option<u32>,
}

/// One deployment.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Release {
    /// The release; it is the id of the task too.
    pub(crate) release: TaskId,
    pub(crate) commit: String,
    /// Where the first page was served while the run lasted.
    pub(crate) url: String,
    /// The hash of what was fetched from there after the deployment had ended.
    pub(crate) sha256: String,
}

/// One question and what it was answered with.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Answered {
    pub(crate) question: String,
    pub(crate) answer: String,
    pub(crate) source: Source,
}

impl From<&Task> for Ran {
    fn from(task: &Task) -> Self {
        let environment = task.metadata.get(ENVIRONMENT).and_then(|value| value.as_str());
        Self {
            id: task.task_id,
            task_type: task.task_type.clone(),
            status: task.status,
            attempts: task.attempt,
            queue: task.queue.clone(),
            priority: task.priority,
            environment: environment.map(str::to_owned),
            trace: task.trace_id.clone(),
            parent: task.parent_task_id,
            children: task.child_task_ids.clone(),
            error: task.error.clone(),
        }
    }
}

impl Record {
    /// Writes it into the folder of the run.
    pub(crate) fn write(&self, dir: &Path) -> Result<(), Failure> {
        Ok(std::fs::write(dir.join(FILE), serde_json::to_string_pretty(self)? + "\n")?)
    }

    /// Reads that of an earlier run.
    pub(crate) fn read(dir: &Path) -> Result<Self, Failure> {
        let path = dir.join(FILE);
        let text = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        serde_json::from_str(&text).map_err(|error| format!("{}: {error}", path.display()).into())
    }
}
