//! Moving a task from one state to another by its id alone.

use std::time::Duration;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, Request, State};
use axum::{Extension, Json};
use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::leases::{TaskMoved, stands};
use super::query::Pairs;
use super::schemas::SpanText;
use super::tasks::{id_of, moved, unfit};
use super::{Caller, Gateway, Problem};
use crate::{Span, Status, TaskId};

/// Lease of an agent that reports by PATCH: it may never be heard of again before it is done.
const LEASE_DEFAULT: Duration = Duration::from_secs(15 * 60);

/// What a completed task has brought.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, expecting = "an object with result")]
#[schema(as = Report)]
pub(super) struct ReportBody {
    /// At most 1 MiB.
    #[serde(default)]
    result: Value,
}

type AskedId = Result<Path<String>, PathRejection>;

/// Report the status of a task
///
/// For agents that claim nothing: `in_progress` takes a runnable task out of its queue, under a lease that the same report
/// renews; `completed` and `failed` end it, also straight from its queue; `assigned` gives it back; `cancelled` ends it or has
/// whoever has it asked to stop. The caller's name is the proof: nobody reports on what others have.
#[utoipa::path(
    patch, path = "/tasks/{id}/status", tag = "tasks", operation_id = "report_status",
    params(
        ("id" = TaskId, Path, description = "The task"),
        ("status" = inline(Reported), Query, description = "How it stands"),
        ("error" = Option<String>, Query, description = "What went wrong, of a failed one"),
        ("retryable" = Option<bool>, Query, description = "Whether a failed one is tried again while it has retries left; false unless told"),
        ("lease" = inline(Option<SpanText>), Query, description = "How long it stays the caller's own without another report, 5 s to 24 h; 15m unless told", example = "15m"),
    ),
    request_body = Option<ReportBody>,
    responses(
        (status = 200, description = "How it stands now", body = TaskMoved),
        (status = 409, description = "It does not move so; `task_status` tells how it stands"),
    )
)]
pub(super) async fn report(
    State(gateway): State<Gateway>,
    Extension(caller): Extension<Caller>,
    id: AskedId,
    RawQuery(query): RawQuery,
    request: Request,
) -> Result<Json<TaskMoved>, Problem> {
    let id = id_of(id)?;
    gateway.check_task(&caller, id).await?;
    let pairs = Pairs::read(query.unwrap_or_default().as_bytes());
    pairs.only(&["status", "error", "retryable", "lease"])?;
    let told = pairs.one("status")?.ok_or_else(|| unfit(&format!("say which status it has: {KNOWN}")))?;
    let status = Status::ALL
        .into_iter()
        .find(|status| status.as_str() == told)
        .ok_or_else(|| unfit(&format!("status: `{}` is no status; known are: {KNOWN}", crate::error::excerpt(told))))?;
    let error = pairs.one("error")?.unwrap_or_default();
    let retryable = match pairs.one("retryable")? {
        None | Some("false") => false,
        Some("true") => true,
        Some(_) => return Err(unfit("retryable: write true or false")),
    };
    let lease = match pairs.one("lease")? {
        None => LEASE_DEFAULT,
        Some(text) => Span::from(text).duration()?,
    };
    let ReportBody { result } = gateway.read_optional(request).await?.unwrap_or_default();
    let report = Report { gateway: &gateway, agent: &caller.name, id };
    let reporting = report.make(status, error, retryable, lease, result);
    Ok(stands(id, moved(&gateway, id, reporting).await?))
}

/// How an agent says that a task stands.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[allow(dead_code, reason = "it is only described")]
enum Reported {
    InProgress,
    Completed,
    Failed,
    Cancelled,
    Assigned,
}

const KNOWN: &str = "in_progress completed failed cancelled assigned";

/// What an agent says by the task's id and its own name.
struct Report<'a> {
    gateway: &'a Gateway,
    agent: &'a str,
    id: TaskId,
}

impl Report<'_> {
    async fn make(
        &self,
        status: Status,
        error: &str,
        retryable: bool,
        lease: Duration,
        result: Value,
    ) -> crate::Result<Status> {
        let orch = &self.gateway.orch;
        let holder = orch.holder(self.agent, self.id, None);
        match status {
            Status::InProgress => orch.hold(self.agent, self.id, lease).await.map(|_| status),
            Status::Completed => holder.complete(result).await.map(|()| status),
            Status::Failed => holder.fail(error, retryable, None).await,
            Status::Assigned => holder.release().await,
            Status::Cancelled => match orch.cancel(self.id).await? {
                // It may be this agent's own: then it ends here and now.
                Status::InProgress => Ok(holder.release().await.unwrap_or(Status::InProgress)),
                ended => Ok(ended),
            },
            Status::Pending | Status::Blocked => Err(crate::Error::Conflict {
                what: format!(
                    "no report makes a task {status}: `failed` with retryable=true has it tried again later, \
                     POST /tasks/{}/lease/park has it wait for people",
                    self.id
                ),
            }),
        }
    }
}

/// Cancel a task
///
/// One that waits ends at once as `cancelled`; whoever runs one is asked to stop, and it stays `in_progress` until he does.
#[utoipa::path(
    post, path = "/tasks/{id}/cancel", tag = "tasks", operation_id = "cancel_task",
    params(
        ("id" = TaskId, Path, description = "The task"),
        ("within" = inline(Option<SpanText>), Query, description = "How long a running handler has to stop, at most 10m, or less when it is declared so; then it is dropped", example = "10s"),
    ),
    responses(
        (status = 200, description = "How it stands now", body = TaskMoved),
        (status = 409, description = "It has ended otherwise; `task_status` tells how"),
    )
)]
pub(super) async fn cancel(
    State(gateway): State<Gateway>,
    Extension(caller): Extension<Caller>,
    id: AskedId,
    RawQuery(query): RawQuery,
) -> Result<Json<TaskMoved>, Problem> {
    let id = id_of(id)?;
    gateway.check_task(&caller, id).await?;
    let pairs = Pairs::read(query.unwrap_or_default().as_bytes());
    pairs.only(&["within"])?;
    let cancelled = match pairs.one("within")? {
        None => moved(&gateway, id, gateway.orch.cancel(id)).await?,
        Some(span) => moved(&gateway, id, gateway.orch.cancel_within(id, span)).await?,
    };
    Ok(stands(id, cancelled))
}

/// Retry a task
///
/// Gives a failed or cancelled task a new life under its id, with all its retries; durable steps that were done stay done.
#[utoipa::path(
    post, path = "/tasks/{id}/retry", tag = "tasks", operation_id = "retry_task",
    params(("id" = TaskId, Path, description = "The task")),
    responses(
        (status = 200, description = "It is runnable again", body = TaskMoved),
        (status = 409, description = "It has not ended, or has completed; `task_status` tells how it stands"),
    )
)]
pub(super) async fn retry(
    State(gateway): State<Gateway>,
    Extension(caller): Extension<Caller>,
    id: AskedId,
) -> Result<Json<TaskMoved>, Problem> {
    let id = id_of(id)?;
    gateway.check_task(&caller, id).await?;
    moved(&gateway, id, gateway.orch.retry_by(id, &caller.name)).await?;
    Ok(stands(id, Status::Assigned))
}
