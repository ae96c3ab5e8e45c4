//! What an agent that speaks HTTP does with a task that it has claimed: all of it by the token of the lease.

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::{Extension, Json};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::claims::LEASE_DEFAULT;
use super::new_task::span;
use super::tasks::{id_of, moved};
use super::{Caller, Gateway, Problem};
use crate::{Answer, HoldToken, Holder, Renewed, Span, Status, TaskId, Terms};

/// Name of a question in the task's journal unless the agent gives one.
const QUESTION: &str = "approval";

/// `POST /tasks/{id}/lease/heartbeat` and `/release`
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object with lease_token, and optionally lease")]
struct HeartbeatBody {
    lease_token: String,
    #[serde(default, deserialize_with = "span")]
    lease: Option<Span>,
}

/// `POST /tasks/{id}/lease/progress`
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object with lease_token and progress, and optionally note and lease")]
struct ProgressBody {
    lease_token: String,
    progress: f64,
    #[serde(default)]
    note: String,
    #[serde(default, deserialize_with = "span")]
    lease: Option<Span>,
}

/// `POST /tasks/{id}/lease/complete`
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object with lease_token, and optionally result")]
struct CompleteBody {
    lease_token: String,
    #[serde(default)]
    result: Value,
}

/// `POST /tasks/{id}/lease/fail`
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object with lease_token and error, and optionally retryable and retry_in")]
struct FailBody {
    lease_token: String,
    error: String,
    #[serde(default = "yes")]
    retryable: bool,
    #[serde(default, deserialize_with = "span")]
    retry_in: Option<Span>,
}

fn yes() -> bool {
    true
}

/// `POST /tasks/{id}/lease/release`
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object with lease_token")]
struct ReleaseBody {
    lease_token: String,
}

/// `POST /tasks/{id}/lease/park`
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object with lease_token, show and question, and terms of the approval")]
struct ParkBody {
    lease_token: String,
    #[serde(default)]
    show: Value,
    #[serde(default)]
    question: String,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    form: Vec<String>,
    #[serde(default)]
    by: Vec<String>,
    #[serde(default)]
    quorum: Option<u8>,
    #[serde(default, deserialize_with = "span")]
    expires: Option<Span>,
    #[serde(default, deserialize_with = "span")]
    remind: Option<Span>,
}

type AskedId = Result<Path<String>, PathRejection>;

/// `POST /tasks/{id}/lease/heartbeat`
#[utoipa::path(post, path = "/tasks/{id}/lease/heartbeat")]
pub(super) async fn heartbeat(
    State(gateway): State<Gateway>,
    Extension(caller): Extension<Caller>,
    id: AskedId,
    request: Request,
) -> Result<Json<Value>, Problem> {
    let (id, HeartbeatBody { lease_token, lease }) = asked(&gateway, id, request).await?;
    let lease = lease.map_or(Ok(LEASE_DEFAULT), |lease| lease.duration())?;
    let renewed = holder(&gateway, &caller, id, &lease_token)?.renew(lease).await;
    Ok(renewed_as(id, moved(&gateway, id, renewed).await?))
}

/// `POST /tasks/{id}/lease/progress`
#[utoipa::path(post, path = "/tasks/{id}/lease/progress")]
pub(super) async fn progress(
    State(gateway): State<Gateway>,
    Extension(caller): Extension<Caller>,
    id: AskedId,
    request: Request,
) -> Result<Json<Value>, Problem> {
    let (id, ProgressBody { lease_token, progress, note, lease }) = asked(&gateway, id, request).await?;
    let lease = lease.map_or(Ok(LEASE_DEFAULT), |lease| lease.duration())?;
    let renewed = holder(&gateway, &caller, id, &lease_token)?.progress(progress, &note, lease).await;
    Ok(renewed_as(id, moved(&gateway, id, renewed).await?))
}

/// `POST /tasks/{id}/lease/complete`
#[utoipa::path(post, path = "/tasks/{id}/lease/complete")]
pub(super) async fn complete(
    State(gateway): State<Gateway>,
    Extension(caller): Extension<Caller>,
    id: AskedId,
    request: Request,
) -> Result<Json<Value>, Problem> {
    let (id, CompleteBody { lease_token, result }) = asked(&gateway, id, request).await?;
    let done = holder(&gateway, &caller, id, &lease_token)?.complete(&result).await;
    moved(&gateway, id, done).await?;
    Ok(stands(id, Status::Completed))
}

/// `POST /tasks/{id}/lease/fail`
#[utoipa::path(post, path = "/tasks/{id}/lease/fail")]
pub(super) async fn fail(
    State(gateway): State<Gateway>,
    Extension(caller): Extension<Caller>,
    id: AskedId,
    request: Request,
) -> Result<Json<Value>, Problem> {
    let (id, FailBody { lease_token, error, retryable, retry_in }) = asked(&gateway, id, request).await?;
    let retry_in = retry_in.map(|span| span.duration()).transpose()?;
    let failed = holder(&gateway, &caller, id, &lease_token)?.fail(&error, retryable, retry_in).await;
    Ok(stands(id, moved(&gateway, id, failed).await?))
}

/// `POST /tasks/{id}/lease/release`
#[utoipa::path(post, path = "/tasks/{id}/lease/release")]
pub(super) async fn release(
    State(gateway): State<Gateway>,
    Extension(caller): Extension<Caller>,
    id: AskedId,
    request: Request,
) -> Result<Json<Value>, Problem> {
    let (id, ReleaseBody { lease_token }) = asked(&gateway, id, request).await?;
    let released = holder(&gateway, &caller, id, &lease_token)?.release().await;
    Ok(stands(id, moved(&gateway, id, released).await?))
}

/// `POST /tasks/{id}/lease/park`
#[utoipa::path(post, path = "/tasks/{id}/lease/park")]
pub(super) async fn park(
    State(gateway): State<Gateway>,
    Extension(caller): Extension<Caller>,
    id: AskedId,
    request: Request,
) -> Result<Json<Value>, Problem> {
    let (id, asked): (_, ParkBody) = asked(&gateway, id, request).await?;
    let millis = |span: Option<Span>| {
        span.map(|span| span.duration().map(|span| u64::try_from(span.as_millis()).unwrap_or(u64::MAX))).transpose()
    };
    let (expires_ms, remind_ms) = (millis(asked.expires)?, millis(asked.remind)?);
    let terms = Terms { by: asked.by, quorum: asked.quorum.unwrap_or(1), expires_ms, remind_ms, escalate: None };
    let name = asked.name.as_deref().unwrap_or(QUESTION);
    let holder = holder(&gateway, &caller, id, &asked.lease_token)?;
    let answer = holder.ask(name, &asked.question, asked.show, asked.form, terms).await;
    Ok(Json(match moved(&gateway, id, answer).await? {
        Answer::Asked(approval) => {
            json!({"success": true, "task_id": id, "status": Status::Blocked, "approval_id": approval, "decision": null})
        }
        Answer::Decided { approval, status, by, note, form } => json!({
            "success": true, "task_id": id, "status": Status::InProgress, "approval_id": approval,
            "decision": {"status": status, "by": by, "note": note, "form": form},
        }),
    }))
}

/// Which task is meant, and what is said of it.
async fn asked<T: DeserializeOwned>(gateway: &Gateway, id: AskedId, request: Request) -> Result<(TaskId, T), Problem> {
    let id = id_of(id)?;
    let (asked, _place) = gateway.read_body(request).await?;
    Ok((id, asked))
}

fn holder(gateway: &Gateway, caller: &Caller, id: TaskId, token: &str) -> Result<Holder, Problem> {
    let token: HoldToken = token.parse()?;
    Ok(gateway.orch.holder(&caller.name, id, Some(token)))
}

fn renewed_as(id: TaskId, renewed: Renewed) -> Json<Value> {
    Json(json!({
        "success": true, "task_id": id, "lease_expires_at": renewed.expires_at,
        "cancel_requested": renewed.cancel_requested,
    }))
}

pub(super) fn stands(id: TaskId, status: Status) -> Json<Value> {
    Json(json!({"success": true, "task_id": id, "status": status}))
}
