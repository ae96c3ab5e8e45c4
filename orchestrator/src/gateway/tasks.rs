//! Tasks over HTTP.

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::{Extension, Json};
use serde_json::{Value, json};

use super::new_event::traceparent;
use super::new_task::NewTaskBody;
use super::{Caller, Gateway, Problem};
use crate::{BUILT_IN, BlockedOn, Error, NewTask, Task, TaskId};

/// `POST /tasks`
#[utoipa::path(post, path = "/tasks")]
pub(super) async fn create(
    State(gateway): State<Gateway>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    request: Request,
) -> Result<Json<Value>, Problem> {
    let (asked, place) = gateway.read_body::<NewTaskBody>(request).await?;
    check_known(&gateway, &asked.task_type).await?;
    let parent = match asked.parent_task_id {
        Some(parent) => Some(parent_of(&gateway, &caller, parent).await?),
        None => None,
    };
    let task: NewTask = asked.into_task(parent.as_ref(), trace(&headers).as_deref()).requested_by(&caller.name);
    let task = match &caller.tenant {
        Some(tenant) => task.tenant(tenant),
        None => task,
    };
    drop(place);
    let id = gateway.orch.enqueue(task).await.map_err(|error| refused(&error))?.id();
    // The task is stored: whatever goes wrong from here on is no failure of the request.
    Ok(Json(match gateway.ask(gateway.orch.get(id)).await {
        Ok(task) => created(&task),
        Err(error) => {
            tracing::warn!(%error, task_id = %id, "a task was stored and could not be read back");
            json!({"success": true, "task_id": id, "message": "Task created", "task": null})
        }
    }))
}

/// The trace that a request belongs to.
fn trace(headers: &HeaderMap) -> Option<String> {
    crate::trace_of(&traceparent(headers)?).ok().map(Into::into)
}

fn created(task: &Task) -> Value {
    let waits = task.approval_id.filter(|_| task.blocked_on == Some(BlockedOn::Approval));
    let message = match waits {
        Some(approval) => {
            format!("Task created; it waits for {approval} and goes to {} once that is given", task.assigned_to)
        }
        None => format!("Task created and assigned to {}", task.assigned_to),
    };
    let mut told = json!({"success": true, "task_id": task.task_id, "message": message, "task": task});
    if let (Some(approval), Value::Object(members)) = (waits, &mut told) {
        members.insert("approval_id".into(), approval.to_string().into());
    }
    told
}

/// `GET /tasks/{id}`
#[utoipa::path(get, path = "/tasks/{id}")]
pub(super) async fn read(
    State(gateway): State<Gateway>,
    Extension(caller): Extension<Caller>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<Value>, Problem> {
    let id = id_of(id)?;
    let task = gateway.task_of(&caller, id).await?;
    Ok(Json(json!({"success": true, "task_id": id, "task": task})))
}

/// What is no task's id is the id of none.
pub(super) fn id_of(id: Result<Path<String>, PathRejection>) -> Result<TaskId, Problem> {
    let unknown = |what: String| Problem::new(StatusCode::NOT_FOUND, what);
    let Path(id) = id.map_err(|_| unknown("a task id is plain text".into()))?;
    id.parse().map_err(|error: Error| unknown(error.to_string()))
}

/// Refuses a type that is not built in, has no rule and was published by no worker.
async fn check_known(gateway: &Gateway, task_type: &str) -> Result<(), Problem> {
    if crate::built_in(task_type).is_some() || gateway.has_rule(task_type) {
        return Ok(());
    }
    let offers = gateway.ask(gateway.orch.offers()).await?;
    if offers.contains_key(task_type) {
        return Ok(());
    }
    let mut known: Vec<&str> =
        BUILT_IN.iter().map(|(known, _)| *known).chain(offers.keys().map(String::as_str)).collect();
    known.sort_unstable();
    known.dedup();
    let hint = crate::nearest(task_type, &known).map(|near| format!(" Did you mean `{near}`?")).unwrap_or_default();
    let shown: String = task_type.chars().take(64).collect();
    let said = format!("type: `{shown}` is no known task type.{hint} Known are: {}", known.join(", "));
    Err(Problem::new(StatusCode::BAD_REQUEST, said).with("known_types", known))
}

async fn parent_of(gateway: &Gateway, caller: &Caller, parent: TaskId) -> Result<Task, Problem> {
    gateway.task_of(caller, parent).await.map_err(|problem| problem.of_field("parent_task_id"))
}

/// A task that could not be stored, or of which nobody knows.
fn refused(error: &Error) -> Problem {
    match error {
        Error::Unavailable { .. } => {
            let state = super::health::state(error);
            tracing::warn!(%error, "a task was submitted and no answer came");
            let said = format!("Redis does not serve now: {state}. Whether the task was stored is not known");
            Problem::unavailable(said, 2).with("redis", state)
        }
        other => Problem::of(other),
    }
}
