//! `task list`.

use chrono::Utc;
use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use comfy_table::Cell;
use orchestrator::{BlockedOn, LIST_MAX, Orchestrator, Priority, Span, Status, Task, TaskFilter};
use serde::Serialize;

use super::failure::Failure;
use super::output::{Output, cell, distance, note, status};

/// Pages read for one command at most: with a rare type among many tasks the command is to end some day.
const PAGES_MAX: usize = 200;

#[derive(Debug, Args)]
pub(crate) struct List {
    /// Only this state; may be given again
    #[arg(long, value_name = "STATUS", value_parser = PossibleValuesParser::new(Status::ALL.map(Status::as_str)).map(status_of))]
    status: Vec<Status>,
    /// Only this type
    #[arg(long = "type", value_name = "TYPE")]
    task_type: Option<String>,
    /// Only this queue
    #[arg(long, value_name = "NAME")]
    queue: Option<String>,
    /// Only this priority
    #[arg(long, value_parser = PossibleValuesParser::new(["P0", "P1", "P2", "P3"]).try_map(|p| p.parse::<Priority>()))]
    priority: Option<Priority>,
    /// Only those created within this time: 1h, 2d
    #[arg(long, value_name = "SPAN", value_parser = super::new_task::span)]
    since: Option<Span>,
    /// Tasks at most
    #[arg(long, short = 'n', value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    limit: u32,
    /// Go on where an earlier list stopped
    #[arg(long, value_name = "CURSOR")]
    cursor: Option<String>,
}

#[expect(clippy::needless_pass_by_value, reason = "the signature that a value parser calls")]
fn status_of(word: String) -> Status {
    Status::ALL.into_iter().find(|status| status.as_str() == word).unwrap_or(Status::Pending)
}

pub(super) async fn run(orch: &Orchestrator, command: List, out: &mut Output) -> Result<(), Failure> {
    let since = command.since.map(|since| since.duration()).transpose()?;
    let filter = TaskFilter {
        statuses: command.status,
        task_type: command.task_type,
        queue: command.queue,
        priority: command.priority,
        created_from: since.map(|since| Utc::now() - since),
        ..TaskFilter::default()
    };
    let limit = usize::try_from(command.limit).unwrap_or(LIST_MAX);
    let (mut tasks, mut cursor, mut unreadable): (Vec<Task>, _, usize) = (Vec::new(), command.cursor, 0);
    for _ in 0..PAGES_MAX {
        let page = orch.list(&filter, cursor.as_deref(), (limit - tasks.len()).min(LIST_MAX)).await?;
        tasks.extend(page.tasks);
        unreadable += page.unreadable;
        cursor = page.cursor;
        if cursor.is_none() || tasks.len() >= limit {
            break;
        }
    }
    if unreadable > 0 {
        note(&format!("{unreadable} records cannot be read and are left out"));
    }
    if out.is_json() {
        return out.object(&Listed { tasks, cursor });
    }
    out.table(&["ID", "TYPE", "STATUS", "PRIO", "QUEUE", "AGE", "TRY", "LAST ERROR"], tasks.iter().map(row).collect())?;
    if let Some(cursor) = cursor {
        note(&format!("there may be more: add --cursor {cursor}"));
    }
    Ok(())
}

/// The list for programs.
#[derive(Serialize)]
struct Listed {
    tasks: Vec<Task>,
    cursor: Option<String>,
}

fn row(task: &Task) -> Vec<Cell> {
    vec![
        Cell::new(task.task_id),
        cell(&task.task_type, 32),
        status(task.status),
        Cell::new(task.priority),
        cell(&task.queue, 32),
        Cell::new(distance(task.created_at)),
        Cell::new(task.attempt),
        cell(&remark(task), 60),
    ]
}

/// What explains a status.
pub(super) fn remark(task: &Task) -> String {
    if let Some(error) = &task.error {
        return error.clone();
    }
    match task.status {
        Status::Pending if task.shelved => "no worker handles this type".into(),
        Status::Pending => match task.run_at {
            Some(at) if at > Utc::now() => format!("starts in {}", distance(at)),
            _ => "starts now".into(),
        },
        Status::Blocked => match (task.blocked_on, task.approval_id) {
            (Some(BlockedOn::Approval), Some(approval)) => format!("waits for {approval}"),
            (Some(BlockedOn::Timer), _) => {
                task.blocked_until.map_or_else(|| "sleeps".into(), |at| format!("sleeps for {}", distance(at)))
            }
            _ => String::new(),
        },
        Status::InProgress if task.cancel_requested => "asked to stop".into(),
        _ => String::new(),
    }
}
