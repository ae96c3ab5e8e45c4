//! Giving tasks to agents that speak HTTP, in whatever language.

use std::time::Duration;

use axum::extract::{RawQuery, Request, State};
use axum::{Extension, Json};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::new_task::span;
use super::query::Pairs;
use super::schemas::{Name, SpanText};
use super::tasks::unfit;
use super::{Caller, Gateway, Problem};
use crate::{Hold, Span, Task, Wanted};

/// Lease of a claimed task unless the claim says otherwise.
pub(super) const LEASE_DEFAULT: Duration = Duration::from_secs(60);
/// Longest wait for a task.
const WAIT_MAX: Duration = Duration::from_secs(25);

/// What is claimed.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, expecting = "an object with types, and optionally queues, max and lease")]
#[schema(as = Claim, example = json!({"types": ["bugfix", "refactor"], "max": 2, "lease": "60s"}))]
pub(super) struct ClaimBody {
    /// The types that the agent handles; one that nobody has handled before becomes known.
    #[schema(value_type = Vec<Name>, min_items = 1, max_items = 100)]
    types: Vec<String>,
    /// Where to look; where tasks of these types are routed unless told.
    #[serde(default)]
    #[schema(value_type = Vec<Name>, max_items = 8)]
    queues: Vec<String>,
    /// Tasks at most.
    #[serde(default = "one")]
    #[schema(minimum = 1, maximum = 100)]
    max: usize,
    /// How long the tasks stay the agent's own without a heartbeat, 5 s to 24 h: seconds, or a text with a unit. 60 s unless told.
    #[serde(default, deserialize_with = "span")]
    #[schema(value_type = Option<Span>)]
    lease: Option<Span>,
}

/// Tasks that are the agent's own now.
#[derive(Serialize, ToSchema)]
pub(super) struct Claimed {
    success: bool,
    count: usize,
    tasks: Vec<ClaimedTask>,
}

/// A task with its lease.
#[derive(Serialize, ToSchema)]
pub(super) struct ClaimedTask {
    task: Task,
    /// Proves that the agent has the task; send it with everything that you say of it.
    #[schema(example = "00000000-8f3a1c5e9b7d2046")]
    lease_token: String,
    /// When the task goes to somebody else unless a heartbeat comes before.
    lease_expires_at: DateTime<Utc>,
}

fn one() -> usize {
    1
}

/// Claim tasks
///
/// For agents in any language. Gives runnable tasks of the types named, each under a lease of its own: renew it by
/// `/tasks/{id}/lease/heartbeat`, end it by `complete`, `fail`, `release` or `park`. A task whose lease ends goes to somebody
/// else. Waits for a task as long as `wait` says; no tasks are no error.
#[utoipa::path(
    post, path = "/tasks/claim", tag = "tasks", operation_id = "claim_tasks",
    params(("wait" = inline(Option<SpanText>), Query, description = "How long to wait for a task, at most 25s; 0s unless told", example = "20s")),
    request_body = ClaimBody,
    responses(
        (status = 200, description = "The tasks, perhaps none", body = Claimed),
        (status = 409, description = "There are too many leases, or too many types are known already"),
    )
)]
pub(super) async fn claim(
    State(gateway): State<Gateway>,
    Extension(caller): Extension<Caller>,
    RawQuery(query): RawQuery,
    request: Request,
) -> Result<Json<Claimed>, Problem> {
    let wait = match Pairs::read(query.unwrap_or_default().as_bytes()).one("wait")? {
        None => Duration::ZERO,
        Some(text) => Span::from(text).duration().ok().filter(|wait| *wait <= WAIT_MAX).ok_or_else(|| {
            unfit(&format!("wait: `{}` is no span of time up to 25s; write 20s", crate::error::excerpt(text)))
        })?,
    };
    let (asked, place) = gateway.read_body::<ClaimBody>(request).await?;
    drop(place);
    let lease = asked.lease.map_or(Ok(LEASE_DEFAULT), |lease| lease.duration())?;
    let wanted = Wanted { types: asked.types, queues: asked.queues, tenant: caller.tenant.clone() };
    let mut stopped = gateway.stopped.clone();
    let claim = gateway.orch.hold_next(&caller.name, &wanted, asked.max, lease, wait);
    let holds = tokio::select! {
        holds = claim => holds?,
        // Nothing is claimed while it waits.
        _ = stopped.changed() => Vec::new(),
    };
    let tasks: Vec<ClaimedTask> = holds.into_iter().map(ClaimedTask::from).collect();
    Ok(Json(Claimed { success: true, count: tasks.len(), tasks }))
}

impl From<Hold> for ClaimedTask {
    fn from(Hold { task, token, expires_at, .. }: Hold) -> Self {
        Self { task, lease_token: token.to_string(), lease_expires_at: expires_at }
    }
}
