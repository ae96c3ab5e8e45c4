//! Another priority for a task that has not ended.

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::new_task::word;
use super::tasks::{id_of, moved, unfit};
use super::{Caller, Gateway, Problem, Role};
use crate::{Priority, Status, TaskId};

/// The priority that a task is to have.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, expecting = "an object with priority")]
#[schema(as = NewPriority, example = json!({"priority": "P0"}))]
pub(super) struct PriorityBody {
    #[serde(default, deserialize_with = "word")]
    #[schema(required, value_type = Priority)]
    priority: Option<Priority>,
    /// Also when an approval rule holds back tasks of that priority and nobody has approved this one; for admins.
    #[serde(default)]
    force: bool,
}

/// The priority of a task, and how it stands.
#[derive(Serialize, ToSchema)]
pub(super) struct TaskReprioritised {
    success: bool,
    task_id: TaskId,
    priority: Priority,
    /// `in_progress`: it keeps running, and the priority counts from its next attempt.
    status: Status,
}

/// Change a task's priority
///
/// One that waits in a queue takes the place there that it would have, had it been submitted with it; one that is scheduled or
/// blocked takes it along. To ask for the priority that it has already changes nothing.
#[utoipa::path(
    patch, path = "/tasks/{id}/priority", tag = "tasks", operation_id = "set_priority",
    params(("id" = TaskId, Path, description = "The task")),
    request_body = PriorityBody,
    responses(
        (status = 200, description = "How it stands", body = TaskReprioritised),
        (status = 409, description = "It has ended, or waits for an approval; `task_status` tells"),
    )
)]
pub(super) async fn change(
    State(gateway): State<Gateway>,
    Extension(caller): Extension<Caller>,
    id: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Json<TaskReprioritised>, Problem> {
    let task_id = id_of(id)?;
    gateway.check_task(&caller, task_id).await?;
    let (PriorityBody { priority, force }, _) = gateway.read_body(request).await?;
    let priority = priority.ok_or_else(|| unfit("priority: say which: P0 P1 P2 P3"))?;
    if force && caller.role < Role::Admin {
        let said = format!("force is for admins; {} has the role {}", caller.name, caller.role);
        return Err(Problem::new(StatusCode::FORBIDDEN, said));
    }
    let changing = gateway.orch.set_priority_by(task_id, priority, &caller.name, force);
    let status = moved(&gateway, task_id, changing).await?;
    Ok(Json(TaskReprioritised { success: true, task_id, priority, status }))
}
