//! What an agent that speaks HTTP does with a task that it has claimed: all of it by the token of the lease.

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::{Extension, Json};
use chrono::{DateTime, Utc};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::claim::LEASE_DEFAULT;
use super::new_task::span;
use super::tasks::{id_of, moved};
use super::{Caller, Gateway, Problem};
use crate::{Answer, ApprovalId, ApprovalStatus, HoldToken, Holder, Renewed, Span, Status, TaskId, Terms};

/// Name of a question in the task's journal unless the agent gives one.
const QUESTION: &str = "approval";

/// A heartbeat.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, expecting = "an object with lease_token, and optionally lease")]
#[schema(as = Heartbeat)]
pub(super) struct HeartbeatBody {
    /// As the claim has told it.
    #[schema(pattern = "^[0-9a-f]{8}-[0-9a-f]{16}$", example = "00000000-8f3a1c5e9b7d2046")]
    lease_token: String,
    /// How long the lease lasts from now on, 5 s to 24 h: seconds, or a text with a unit. 60 s unless told.
    #[serde(default, deserialize_with = "span")]
    #[schema(value_type = Option<Span>)]
    lease: Option<Span>,
}

/// How far a task is.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, expecting = "an object with lease_token and progress, and optionally note and lease")]
#[schema(as = Progress)]
pub(super) struct ProgressBody {
    /// As the claim has told it.
    #[schema(pattern = "^[0-9a-f]{8}-[0-9a-f]{16}$", example = "00000000-8f3a1c5e9b7d2046")]
    lease_token: String,
    /// From 0 to 1.
    #[schema(minimum = 0, maximum = 1)]
    progress: f64,
    /// What it is about to do.
    #[serde(default)]
    #[schema(max_length = 1000)]
    note: String,
    /// How long the lease lasts from now on, 5 s to 24 h: seconds, or a text with a unit. 60 s unless told.
    #[serde(default, deserialize_with = "span")]
    #[schema(value_type = Option<Span>)]
    lease: Option<Span>,
}

/// The end of a task that was done.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, expecting = "an object with lease_token, and optionally result")]
#[schema(as = Completion)]
pub(super) struct CompleteBody {
    /// As the claim has told it.
    #[schema(pattern = "^[0-9a-f]{8}-[0-9a-f]{16}$", example = "00000000-8f3a1c5e9b7d2046")]
    lease_token: String,
    /// What the task has brought, at most 1 MiB.
    #[serde(default)]
    result: Value,
}

/// An attempt that failed.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, expecting = "an object with lease_token and error, and optionally retryable and retry_in")]
#[schema(as = Failure)]
pub(super) struct FailBody {
    /// As the claim has told it.
    #[schema(pattern = "^[0-9a-f]{8}-[0-9a-f]{16}$", example = "00000000-8f3a1c5e9b7d2046")]
    lease_token: String,
    /// What went wrong; the first 4,096 bytes are kept.
    error: String,
    /// Whether another attempt may help; it follows when retries are left.
    #[serde(default = "yes")]
    retryable: bool,
    /// When that follows; spread by its number unless told.
    #[serde(default, deserialize_with = "span")]
    #[schema(value_type = Option<Span>)]
    retry_in: Option<Span>,
}

fn yes() -> bool {
    true
}

/// A task that is given back.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, expecting = "an object with lease_token")]
#[schema(as = Release)]
pub(super) struct ReleaseBody {
    /// As the claim has told it.
    #[schema(pattern = "^[0-9a-f]{8}-[0-9a-f]{16}$", example = "00000000-8f3a1c5e9b7d2046")]
    lease_token: String,
}

/// What people are asked.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, expecting = "an object with lease_token, show and question, and terms of the approval")]
#[schema(as = Question)]
pub(super) struct ParkBody {
    /// As the claim has told it.
    #[schema(pattern = "^[0-9a-f]{8}-[0-9a-f]{16}$", example = "00000000-8f3a1c5e9b7d2046")]
    lease_token: String,
    /// What they decide on, at most 64 KiB: the decision is bound to its SHA-256.
    #[serde(default)]
    show: Value,
    /// What is asked, in words.
    #[serde(default)]
    #[schema(max_length = 1000)]
    question: String,
    /// Its name among the questions of the task; `approval` unless told.
    #[schema(min_length = 1, max_length = 128)]
    name: Option<String>,
    /// Names of fields that the approver fills in.
    #[serde(default)]
    form: Vec<String>,
    /// Who may decide: names, and roles such as `role:sre`; everybody with the right unless told.
    #[serde(default)]
    by: Vec<String>,
    /// How many have to say yes; 1 unless told.
    #[schema(minimum = 1, maximum = 20)]
    quorum: Option<u8>,
    /// When it is closed without a decision: seconds, or a text with a unit.
    #[serde(default, deserialize_with = "span")]
    #[schema(value_type = Option<Span>)]
    expires: Option<Span>,
    /// Time between two reminders.
    #[serde(default, deserialize_with = "span")]
    #[schema(value_type = Option<Span>)]
    remind: Option<Span>,
}

/// A lease that was renewed.
#[derive(Serialize, ToSchema)]
pub(super) struct LeaseRenewed {
    success: bool,
    task_id: TaskId,
    lease_expires_at: DateTime<Utc>,
    /// Whether somebody wants the task to be stopped: release it, and it ends as cancelled.
    cancel_requested: bool,
}

/// How a task stands now.
#[derive(Serialize, ToSchema)]
pub(super) struct TaskMoved {
    success: bool,
    task_id: TaskId,
    status: Status,
}

/// A question that was asked, or its answer.
#[derive(Serialize, ToSchema)]
pub(super) struct Asked {
    success: bool,
    task_id: TaskId,
    /// `blocked` when people were asked: the task is out of your hands. `in_progress` when they have decided before.
    status: Status,
    approval_id: ApprovalId,
    decision: Option<Answered>,
}

/// What people have decided.
#[derive(Serialize, ToSchema)]
pub(super) struct Answered {
    status: ApprovalStatus,
    /// Who; empty when nobody did in time.
    by: String,
    note: String,
    /// What they have filled in.
    form: Value,
}

pub(super) type AskedId = Result<Path<String>, PathRejection>;

/// Keep a task
///
/// Extends its lease, and tells whether somebody wants it to be stopped.
#[utoipa::path(
    post, path = "/tasks/{id}/lease/heartbeat", tag = "tasks", operation_id = "heartbeat",
    params(("id" = TaskId, Path, description = "The task")),
    request_body = HeartbeatBody,
    responses(
        (status = 200, description = "The lease is renewed", body = LeaseRenewed),
        (status = 409, description = "The caller has not got the task; `task_status` tells how it stands"),
    )
)]
pub(super) async fn heartbeat(
    State(gateway): State<Gateway>,
    Extension(caller): Extension<Caller>,
    id: AskedId,
    request: Request,
) -> Result<Json<LeaseRenewed>, Problem> {
    let (id, HeartbeatBody { lease_token, lease }) = asked(&gateway, &caller, id, request).await?;
    let lease = lease.map_or(Ok(LEASE_DEFAULT), |lease| lease.duration())?;
    let holder = holder(&gateway, &caller, id, &lease_token)?;
    Ok(renewed_as(id, moved(&gateway, id, holder.renew(lease)).await?))
}

/// Tell how far a task is
///
/// The task shows it, the event `task.progress` tells it, and the lease is extended.
#[utoipa::path(
    post, path = "/tasks/{id}/lease/progress", tag = "tasks", operation_id = "tell_progress",
    params(("id" = TaskId, Path, description = "The task")),
    request_body = ProgressBody,
    responses(
        (status = 200, description = "It is told", body = LeaseRenewed),
        (status = 409, description = "The caller has not got the task; `task_status` tells how it stands"),
    )
)]
pub(super) async fn progress(
    State(gateway): State<Gateway>,
    Extension(caller): Extension<Caller>,
    id: AskedId,
    request: Request,
) -> Result<Json<LeaseRenewed>, Problem> {
    let (id, ProgressBody { lease_token, progress, note, lease }) = asked(&gateway, &caller, id, request).await?;
    let lease = lease.map_or(Ok(LEASE_DEFAULT), |lease| lease.duration())?;
    let holder = holder(&gateway, &caller, id, &lease_token)?;
    Ok(renewed_as(id, moved(&gateway, id, holder.progress(progress, &note, lease)).await?))
}

/// Complete a task
///
/// Sent again it answers the same.
#[utoipa::path(
    post, path = "/tasks/{id}/lease/complete", tag = "tasks", operation_id = "complete_task",
    params(("id" = TaskId, Path, description = "The task")),
    request_body = CompleteBody,
    responses(
        (status = 200, description = "It is completed", body = TaskMoved),
        (status = 409, description = "The caller has not got the task; `task_status` tells how it stands"),
    )
)]
pub(super) async fn complete(
    State(gateway): State<Gateway>,
    Extension(caller): Extension<Caller>,
    id: AskedId,
    request: Request,
) -> Result<Json<TaskMoved>, Problem> {
    let (id, CompleteBody { lease_token, result }) = asked(&gateway, &caller, id, request).await?;
    let holder = holder(&gateway, &caller, id, &lease_token)?;
    moved(&gateway, id, holder.complete(result)).await?;
    Ok(stands(id, Status::Completed))
}

/// Fail an attempt
///
/// Another follows when it is `retryable` and retries are left: then the task is `pending`, else `failed`.
#[utoipa::path(
    post, path = "/tasks/{id}/lease/fail", tag = "tasks", operation_id = "fail_task",
    params(("id" = TaskId, Path, description = "The task")),
    request_body = FailBody,
    responses(
        (status = 200, description = "How it stands", body = TaskMoved),
        (status = 409, description = "The caller has not got the task; `task_status` tells how it stands"),
    )
)]
pub(super) async fn fail(
    State(gateway): State<Gateway>,
    Extension(caller): Extension<Caller>,
    id: AskedId,
    request: Request,
) -> Result<Json<TaskMoved>, Problem> {
    let (id, FailBody { lease_token, error, retryable, retry_in }) = asked(&gateway, &caller, id, request).await?;
    let retry_in = retry_in.map(|span| span.duration()).transpose()?;
    let holder = holder(&gateway, &caller, id, &lease_token)?;
    Ok(stands(id, moved(&gateway, id, holder.fail(&error, retryable, retry_in)).await?))
}

/// Give a task back
///
/// Unharmed, and without counting an attempt; a task that was to be stopped ends as `cancelled`.
#[utoipa::path(
    post, path = "/tasks/{id}/lease/release", tag = "tasks", operation_id = "release_task",
    params(("id" = TaskId, Path, description = "The task")),
    request_body = ReleaseBody,
    responses(
        (status = 200, description = "How it stands", body = TaskMoved),
        (status = 409, description = "The caller has not got the task; `task_status` tells how it stands"),
    )
)]
pub(super) async fn release(
    State(gateway): State<Gateway>,
    Extension(caller): Extension<Caller>,
    id: AskedId,
    request: Request,
) -> Result<Json<TaskMoved>, Problem> {
    let (id, ReleaseBody { lease_token }) = asked(&gateway, &caller, id, request).await?;
    let holder = holder(&gateway, &caller, id, &lease_token)?;
    Ok(stands(id, moved(&gateway, id, holder.release()).await?))
}

/// Ask people
///
/// Parks the task until they have decided; then it is runnable again, and this call, made again by whoever has it then with the same `name` and `show`, answers with the decision.
#[utoipa::path(
    post, path = "/tasks/{id}/lease/park", tag = "tasks", operation_id = "ask_people",
    params(("id" = TaskId, Path, description = "The task")),
    request_body = ParkBody,
    responses(
        (status = 200, description = "It was asked, or had been decided", body = Asked),
        (status = 409, description = "The caller has not got the task; `task_status` tells how it stands"),
    )
)]
pub(super) async fn park(
    State(gateway): State<Gateway>,
    Extension(caller): Extension<Caller>,
    id: AskedId,
    request: Request,
) -> Result<Json<Asked>, Problem> {
    let (id, asked): (_, ParkBody) = asked(&gateway, &caller, id, request).await?;
    let millis = |span: Option<Span>| {
        span.map(|span| span.duration().map(|span| u64::try_from(span.as_millis()).unwrap_or(u64::MAX))).transpose()
    };
    let (expires_ms, remind_ms) = (millis(asked.expires)?, millis(asked.remind)?);
    let terms = Terms { by: asked.by, quorum: asked.quorum.unwrap_or(1), expires_ms, remind_ms, escalate: None };
    let name = asked.name.as_deref().unwrap_or(QUESTION);
    let holder = holder(&gateway, &caller, id, &asked.lease_token)?;
    let asking = holder.ask(name, &asked.question, asked.show, asked.form, terms);
    let (status, approval_id, decision) = match moved(&gateway, id, asking).await? {
        Answer::Asked(approval) => (Status::Blocked, approval, None),
        Answer::Decided { approval, status, by, note, form } => {
            (Status::InProgress, approval, Some(Answered { status, by, note, form }))
        }
    };
    Ok(Json(Asked { success: true, task_id: id, status, approval_id, decision }))
}

/// Which task is meant, and what is said of it.
pub(super) async fn asked<T: DeserializeOwned>(
    gateway: &Gateway,
    caller: &Caller,
    id: AskedId,
    request: Request,
) -> Result<(TaskId, T), Problem> {
    let id = id_of(id)?;
    gateway.check_task(caller, id).await?;
    let (asked, _place) = gateway.read_body(request).await?;
    Ok((id, asked))
}

pub(super) fn holder(gateway: &Gateway, caller: &Caller, id: TaskId, token: &str) -> Result<Holder, Problem> {
    let token: HoldToken = token.parse()?;
    Ok(gateway.orch.holder(&caller.name, id, Some(token)))
}

fn renewed_as(id: TaskId, Renewed { expires_at, cancel_requested, .. }: Renewed) -> Json<LeaseRenewed> {
    Json(LeaseRenewed { success: true, task_id: id, lease_expires_at: expires_at, cancel_requested })
}

pub(super) fn stands(id: TaskId, status: Status) -> Json<TaskMoved> {
    Json(TaskMoved { success: true, task_id: id, status })
}
