//! Giving tasks to agents that speak HTTP, in whatever language.

use std::time::Duration;

use axum::extract::{RawQuery, Request, State};
use axum::{Extension, Json};
use serde::Deserialize;
use serde_json::{Value, json};

use super::new_task::span;
use super::query::Pairs;
use super::tasks::unfit;
use super::{Caller, Gateway, Problem};
use crate::{Hold, Span};

/// Lease of a claimed task unless the claim says otherwise.
pub(super) const LEASE_DEFAULT: Duration = Duration::from_secs(60);
/// Longest wait for a task.
const WAIT_MAX: Duration = Duration::from_secs(25);

/// `POST /tasks/claim`
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object with types, and optionally queues, max and lease")]
struct ClaimBody {
    types: Vec<String>,
    #[serde(default)]
    queues: Vec<String>,
    #[serde(default = "one")]
    max: usize,
    #[serde(default, deserialize_with = "span")]
    lease: Option<Span>,
}

fn one() -> usize {
    1
}

/// `POST /tasks/claim?wait=`
#[utoipa::path(post, path = "/tasks/claim")]
pub(super) async fn claim(
    State(gateway): State<Gateway>,
    Extension(caller): Extension<Caller>,
    RawQuery(query): RawQuery,
    request: Request,
) -> Result<Json<Value>, Problem> {
    let wait = match Pairs::read(query.unwrap_or_default().as_bytes()).one("wait")? {
        None => Duration::ZERO,
        Some(text) => Span::from(text).duration().ok().filter(|wait| *wait <= WAIT_MAX).ok_or_else(|| {
            unfit(&format!("wait: `{}` is no span of time up to 25s; write 20s", crate::error::excerpt(text)))
        })?,
    };
    let (asked, place) = gateway.read_body::<ClaimBody>(request).await?;
    drop(place);
    let lease = asked.lease.map_or(Ok(LEASE_DEFAULT), |lease| lease.duration())?;
    let mut stopped = gateway.stopped.clone();
    let claim = gateway.orch.hold_next(&caller.name, &asked.types, &asked.queues, asked.max, lease, wait);
    let holds = tokio::select! {
        holds = claim => holds?,
        // Nothing is claimed while it waits.
        _ = stopped.changed() => Vec::new(),
    };
    let tasks: Vec<Value> = holds.iter().map(told).collect();
    Ok(Json(json!({"success": true, "count": tasks.len(), "tasks": tasks})))
}

fn told(hold: &Hold) -> Value {
    json!({"task": hold.task, "lease_token": hold.token.to_string(), "lease_expires_at": hold.expires_at})
}
