//! `task retry`.

use clap::{ArgGroup, Args};
use indicatif::{ProgressBar, ProgressStyle};
use orchestrator::{Error, LIST_MAX, Orchestrator, Status, TaskFilter, TaskId};
use serde_json::json;
use tokio::task::JoinSet;

use super::approve::user;
use super::cancel::{Outcomes, parse};
use super::failure::Failure;
use super::output::{Output, is_watched, note};

/// Calls under way at once.
const CALLS_MAX: usize = 32;

#[derive(Debug, Args)]
#[command(group(ArgGroup::new("which").required(true).args(["ids", "dead"])))]
pub(crate) struct Retry {
    /// The tasks
    #[arg(value_name = "ID")]
    ids: Vec<String>,
    /// All tasks that have failed and are still kept
    #[arg(long)]
    dead: bool,
    /// With --dead: only this type
    #[arg(long = "type", value_name = "TYPE", conflicts_with = "ids")]
    task_type: Option<String>,
    /// With --dead: only count them
    #[arg(long, conflicts_with = "ids")]
    dry_run: bool,
}

pub(super) async fn run(orch: &Orchestrator, command: Retry, out: &mut Output) -> Result<(), Failure> {
    if command.dead {
        return all_dead(orch, command, out).await;
    }
    let mut outcomes = Outcomes::default();
    for id in parse(&command.ids)? {
        let outcome = orch.retry_by(id, &user().unwrap_or_default()).await;
        outcomes.tell(id, outcome.map(|()| (Status::Assigned, "assigned")), out)?;
    }
    outcomes.end()
}

async fn all_dead(orch: &Orchestrator, command: Retry, out: &mut Output) -> Result<(), Failure> {
    let ids = dead(orch, command.task_type).await?;
    let found = ids.len();
    if command.dry_run {
        return match out.is_json() {
            true => out.object(&json!({ "found": found })),
            false => out.line(&format!("{found} failed tasks would be retried")),
        };
    }
    if !out.is_json() {
        note(&format!("{found} failed tasks"));
    }
    let bar = if is_watched() { ProgressBar::new(found as u64) } else { ProgressBar::hidden() };
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {pos}/{len}, {eta} to go") {
        bar.set_style(style);
    }
    let mut ids = ids.into_iter();
    let (mut calls, mut retried) = (JoinSet::new(), 0_usize);
    loop {
        while calls.len() < CALLS_MAX
            && let Some(id) = ids.next()
        {
            let orch = orch.clone();
            calls.spawn(async move { orch.retry_by(id, &user().unwrap_or_default()).await });
        }
        let Some(call) = calls.join_next().await else { break };
        match call.map_err(|error| Failure::refused(error.to_string()))? {
            Ok(()) => retried += 1,
            // Retried by somebody else meanwhile, or forgotten.
            Err(Error::Conflict { .. } | Error::NotFound { .. }) => {}
            Err(error) => {
                bar.abandon();
                note(&format!("{retried} of {found} were retried"));
                return Err(error.into());
            }
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    if out.is_json() {
        return out.object(&json!({ "found": found, "retried": retried }));
    }
    match found - retried {
        0 => out.line(&format!("{retried} tasks retried")),
        gone => out.line(&format!("{retried} tasks retried, {gone} were failed ones no more")),
    }
}

/// The ids of all dead letters.
async fn dead(orch: &Orchestrator, task_type: Option<String>) -> Result<Vec<TaskId>, Failure> {
    let filter = TaskFilter { statuses: vec![Status::Failed], task_type, ..TaskFilter::default() };
    let (mut ids, mut cursor) = (Vec::new(), None::<String>);
    loop {
        let page = orch.list(&filter, cursor.as_deref(), LIST_MAX).await?;
        ids.extend(page.tasks.iter().map(|task| task.task_id));
        cursor = page.cursor;
        if cursor.is_none() {
            return Ok(ids);
        }
    }
}
