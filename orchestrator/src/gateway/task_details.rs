//! What is known of one task beside its record: where its time went, and what it has done for good.

use std::time::Duration;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::{Extension, Json};
use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;

use super::tasks::id_of;
use super::{Caller, Gateway, Problem};
use crate::{JournalEntry, Sla, SlaClock, SlaState, TaskId};

/// The promise about a task's time, and how it stands.
#[derive(Serialize, ToSchema)]
pub(super) struct TaskSla {
    success: bool,
    task_id: TaskId,
    /// What was promised, if anything was.
    sla: Option<Sla>,
    clock: Option<Clock>,
}

/// Where a task's time went and what is left of it: for people as text, for programs in milliseconds.
#[derive(Serialize, ToSchema)]
struct Clock {
    /// Spent waiting for a worker, for its instant, or asleep.
    #[schema(example = "2s 500ms")]
    queue: String,
    /// Spent in the hands of workers.
    machine: String,
    /// Spent waiting for a person.
    human: String,
    /// Until the promise is broken; with a minus when it was. Null while the clock stands.
    left: Option<String>,
    queue_ms: u64,
    machine_ms: u64,
    human_ms: u64,
    left_ms: Option<i64>,
    state: SlaState,
    /// When the promise is broken, as things stand. Null while the clock stands.
    due: Option<DateTime<Utc>>,
}

/// What a task has done for good.
#[derive(Serialize, ToSchema)]
pub(super) struct TaskJournal {
    success: bool,
    task_id: TaskId,
    count: usize,
    /// In the order of the handler's durable calls.
    journal: Vec<JournalEntry>,
}

/// Read a task's service level
///
/// What was promised about its time, where the time went, and what is left. Both are null when nothing was promised.
#[utoipa::path(
    get, path = "/tasks/{id}/sla", tag = "service levels", operation_id = "read_task_sla",
    params(("id" = TaskId, Path, description = "The task")),
    responses((status = 200, description = "The promise and its clock", body = TaskSla)),
)]
pub(super) async fn sla(
    State(gateway): State<Gateway>,
    Extension(caller): Extension<Caller>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<TaskSla>, Problem> {
    let task_id = id_of(id)?;
    let task = gateway.task_of(&caller, task_id).await?;
    let clock = task.sla_clock.as_ref().map(told);
    Ok(Json(TaskSla { success: true, task_id, sla: task.sla, clock }))
}

/// Read a task's journal
///
/// What its handler has done for good, so that it is not done again when the handler is entered anew. A task without
/// durable steps has an empty one.
#[utoipa::path(
    get, path = "/tasks/{id}/journal", tag = "tasks", operation_id = "read_task_journal",
    params(("id" = TaskId, Path, description = "The task")),
    responses((status = 200, description = "The journal", body = TaskJournal)),
)]
pub(super) async fn journal(
    State(gateway): State<Gateway>,
    Extension(caller): Extension<Caller>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<TaskJournal>, Problem> {
    let task_id = id_of(id)?;
    // A task without durable steps has no journal; one that nobody knows is 404.
    gateway.task_of(&caller, task_id).await?;
    let journal = gateway.ask(gateway.orch.journal(task_id)).await?;
    Ok(Json(TaskJournal { success: true, task_id, count: journal.len(), journal }))
}

/// A clock for people (spans as text) and for programs (milliseconds).
fn told(clock: &SlaClock) -> Clock {
    let text = |ms: u64| humantime::format_duration(Duration::from_millis(ms)).to_string();
    let left = clock.left_ms.map(|ms| format!("{}{}", if ms < 0 { "-" } else { "" }, text(ms.unsigned_abs())));
    Clock {
        queue: text(clock.queue_ms),
        machine: text(clock.machine_ms),
        human: text(clock.human_ms),
        left,
        queue_ms: clock.queue_ms,
        machine_ms: clock.machine_ms,
        human_ms: clock.human_ms,
        left_ms: clock.left_ms,
        state: clock.state,
        due: clock.due,
    }
}
