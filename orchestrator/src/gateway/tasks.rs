//! Tasks over HTTP.

use std::time::Duration;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde::Serialize;
use utoipa::ToSchema;

use super::new_event::traceparent;
use super::new_task::NewTaskBody;
use super::query::Pairs;
use super::schemas::SpanText;
use super::{Caller, Gateway, Problem};
use crate::{ApprovalId, BUILT_IN, BlockedOn, Error, NewTask, Span, Submitted, Task, TaskId};

/// Longest wait for the end of a task.
const WAIT_MAX: Duration = Duration::from_secs(30);

/// A task that was created.
#[derive(Serialize, ToSchema)]
pub(super) struct TaskCreated {
    success: bool,
    task_id: TaskId,
    /// What became of it, in words.
    message: String,
    /// Null when it was stored and could not be read back.
    task: Option<Task>,
    /// The approval that it waits for.
    #[serde(skip_serializing_if = "Option::is_none")]
    approval_id: Option<ApprovalId>,
    /// True when nothing was stored, because this task was there and is to be the only one of its key.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[schema(required = false)]
    existing: bool,
}

/// One task.
#[derive(Serialize, ToSchema)]
pub(super) struct TaskTold {
    success: bool,
    task_id: TaskId,
    task: Task,
}

/// Create a task
///
/// It is stored for good before the answer comes, and goes to the queue of its type. A task that the approval policy holds
/// back is created too: it is `blocked`, in no queue, and the answer has its `approval_id`. Of a unique one that is there already
/// nothing is stored; the answer has that task, and `existing` is true.
#[utoipa::path(
    post, path = "/tasks", tag = "tasks", operation_id = "create_task",
    params(
        ("traceparent" = Option<String>, Header, description = "Puts the task into this trace (W3C Trace Context)"),
        ("Idempotency-Key" = Option<String>, Header, min_length = 1, max_length = 255,
         description = "Of your choice: the same request under the same key makes one task, and is answered with it, for 24 h"),
    ),
    request_body = NewTaskBody,
    responses(
        (status = 200, description = "The task is stored", body = TaskCreated, links(
            ("task" = (operation_id = "read_task", parameters(("id" = "$response.body#/task_id")))),
            ("events" = (operation_id = "read_task_events", parameters(("id" = "$response.body#/task_id")))),
            ("journal" = (operation_id = "read_task_journal", parameters(("id" = "$response.body#/task_id")))),
            ("sla" = (operation_id = "read_task_sla", parameters(("id" = "$response.body#/task_id")))),
            ("approval" = (
                operation_id = "read_approval", parameters(("approval_id" = "$response.body#/approval_id")),
            )),
        )),
        (status = 400, description = "The body is not sound JSON, or the type is not known; `known_types` lists those that are"),
        (status = 409, description = "Another task was created under this Idempotency-Key"),
        (status = 429, description = "Too many requests, or the queue is full; `Retry-After` tells when to come again"),
    )
)]
pub(super) async fn create(
    State(gateway): State<Gateway>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    request: Request,
) -> Result<Response, Problem> {
    let (asked, place) = gateway.read_body::<NewTaskBody>(request).await?;
    check_known(&gateway, &caller, &asked.task_type).await?;
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
    let task_type = task.task_type.clone();
    let task = match idempotency_key(&headers)? {
        Some(key) => task.idempotency_key(key),
        None => task,
    };
    let Submitted { id, task, existing } =
        gateway.change(gateway.orch.submit(task)).await.map_err(|error| refused(&error))?;
    let told = match existing {
        true => existed(id, task),
        false => {
            gateway.metrics.counts.created(&task_type);
            task.map(created).unwrap_or_else(|| TaskCreated {
                success: true,
                task_id: id,
                message: "Task created".into(),
                task: None,
                approval_id: None,
                existing,
            })
        }
    };
    // As `Json` would write it, but at once into enough room.
    let mut text = Vec::with_capacity(TOLD_BYTES);
    serde_json::to_writer(&mut text, &told)
        .map_err(|error| Problem::of(&Error::Corrupt { what: format!("the task cannot be told: {error}") }))?;
    Ok(([(CONTENT_TYPE, HeaderValue::from_static("application/json"))], text).into_response())
}

/// About as much as a task without much of a payload takes.
const TOLD_BYTES: usize = 2048;

/// The key under which the request is carried out once.
pub(super) fn idempotency_key(headers: &HeaderMap) -> Result<Option<&str>, Problem> {
    let mut keys = headers.get_all("idempotency-key").iter();
    match (keys.next(), keys.next()) {
        (key, None) => match key.map(|key| key.to_str()).transpose() {
            Ok(key) => Ok(key),
            Err(_) => Err(unfit("Idempotency-Key: use printable ASCII characters; a random UUID is a good key")),
        },
        _ => Err(unfit("send one Idempotency-Key, not several")),
    }
}

/// The trace that a request belongs to.
fn trace(headers: &HeaderMap) -> Option<String> {
    crate::trace_of(&traceparent(headers)?).ok().map(Into::into)
}

fn created(task: Task) -> TaskCreated {
    let approval_id = task.approval_id.filter(|_| task.blocked_on == Some(BlockedOn::Approval));
    let message = match approval_id {
        Some(approval) => {
            format!("Task created; it waits for {approval} and goes to {} once that is given", task.assigned_to)
        }
        None => format!("Task created and assigned to {}", task.assigned_to),
    };
    TaskCreated { success: true, task_id: task.task_id, message, task: Some(task), approval_id, existing: false }
}

/// The task that another one was not stored for.
fn existed(id: TaskId, task: Option<Task>) -> TaskCreated {
    let stands = task.as_ref().map(|task| format!("; it is {}", task.status)).unwrap_or_default();
    let message = format!("No task created: {id} is to be the only one of its key{stands}");
    let approval_id =
        task.as_ref().filter(|task| task.blocked_on == Some(BlockedOn::Approval)).and_then(|task| task.approval_id);
    TaskCreated { success: true, task_id: id, message, task, approval_id, existing: true }
}

/// Read a task
///
/// With `wait` the answer comes when it has ended, or when the time is over, whichever is sooner.
#[utoipa::path(
    get, path = "/tasks/{id}", tag = "tasks", operation_id = "read_task",
    params(
        ("id" = TaskId, Path, description = "The task"),
        ("wait" = inline(Option<SpanText>), Query, description = "How long to wait for its end, at most 30s; 0s unless told", example = "20s"),
    ),
    responses((status = 200, description = "The task in full", body = TaskTold)),
)]
pub(super) async fn read(
    State(gateway): State<Gateway>,
    Extension(caller): Extension<Caller>,
    id: Result<Path<String>, PathRejection>,
    RawQuery(query): RawQuery,
) -> Result<Json<TaskTold>, Problem> {
    let task_id = id_of(id)?;
    let mut task = gateway.task_of(&caller, task_id).await?;
    let wait = match Pairs::read(query.unwrap_or_default().as_bytes()).one("wait")? {
        None => Duration::ZERO,
        Some(text) => Span::from(text).duration().ok().filter(|wait| *wait <= WAIT_MAX).ok_or_else(|| {
            unfit(&format!("wait: `{}` is no span of time up to 30s; write 20s", crate::error::excerpt(text)))
        })?,
    };
    if !wait.is_zero() && !task.status.is_terminal() {
        let mut stopped = gateway.stopped.clone();
        tokio::select! {
            // Whatever comes of it, the task is told as it stands.
            _ = tokio::time::timeout(wait, gateway.orch.waiters.ended(task_id)) => {}
            _ = stopped.changed() => {}
        }
        task = gateway.task_of(&caller, task_id).await?;
    }
    Ok(Json(TaskTold { success: true, task_id, task }))
}

/// What came of a move; one that the task's state does not allow is told with that state.
pub(super) async fn moved<T>(
    gateway: &Gateway,
    id: TaskId,
    moving: impl Future<Output = crate::Result<T>>,
) -> Result<T, Problem> {
    let error = match gateway.change(moving).await {
        Ok(moved) => return Ok(moved),
        Err(error) => error,
    };
    Err(match error {
        Error::Conflict { .. } => {
            let status = gateway.ask(gateway.orch.get(id)).await.map_or("unknown", |task| task.status.as_str());
            Problem::of(&error).with("task_status", status)
        }
        Error::LeaseLost => {
            Problem::new(StatusCode::CONFLICT, format!("the lease of task {id} is over; somebody else may have it"))
        }
        Error::Unavailable { .. } => {
            let state = super::health::state(&error);
            tracing::warn!(%error, task_id = %id, "a task was to be moved and no answer came");
            let said = format!(
                "Redis does not serve now: {state}. Whether the task was moved is not known; send the same again, or look at it"
            );
            Problem::unavailable(said, 2).with("redis", state)
        }
        other => Problem::of(&other),
    })
}

pub(super) fn unfit(what: &str) -> Problem {
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, what)
}

/// What is no task's id is the id of none.
pub(super) fn id_of(id: Result<Path<String>, PathRejection>) -> Result<TaskId, Problem> {
    let unknown = |what: String| Problem::new(StatusCode::NOT_FOUND, what);
    let Path(id) = id.map_err(|_| unknown("a task id is plain text".into()))?;
    id.parse().map_err(|error: Error| unknown(error.to_string()))
}

/// Refuses a type that is not built in, has no rule and was published by no worker.
pub(super) async fn check_known(gateway: &Gateway, caller: &Caller, task_type: &str) -> Result<(), Problem> {
    if crate::built_in(task_type).is_some() || gateway.has_rule(task_type) {
        return Ok(());
    }
    let offers = gateway.ask(gateway.orch.offers()).await?;
    if offers.contains_key(task_type) {
        return Ok(());
    }
    let mut known: Vec<&str> = BUILT_IN.iter().map(|(known, _)| *known).collect();
    // What others work on is no tenant's business.
    known.extend(offers.keys().map(String::as_str).filter(|_| caller.tenant.is_none()));
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
