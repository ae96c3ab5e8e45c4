//! What is known of one task beside its record: where its time went, and what it has done for good.

use std::time::Duration;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::{Extension, Json};
use serde_json::{Value, json};

use super::tasks::id_of;
use super::{Caller, Gateway, Problem};
use crate::SlaClock;

/// `GET /tasks/{id}/sla`
#[utoipa::path(get, path = "/tasks/{id}/sla")]
pub(super) async fn sla(
    State(gateway): State<Gateway>,
    Extension(caller): Extension<Caller>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<Value>, Problem> {
    let id = id_of(id)?;
    let task = gateway.task_of(&caller, id).await?;
    let clock = task.sla_clock.as_ref().map(told);
    Ok(Json(json!({"success": true, "task_id": id, "sla": task.sla, "clock": clock})))
}

/// `GET /tasks/{id}/journal`
#[utoipa::path(get, path = "/tasks/{id}/journal")]
pub(super) async fn journal(
    State(gateway): State<Gateway>,
    Extension(caller): Extension<Caller>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<Value>, Problem> {
    let id = id_of(id)?;
    // A task without durable steps has no journal; one that nobody knows is 404.
    gateway.task_of(&caller, id).await?;
    let journal = gateway.ask(gateway.orch.journal(id)).await?;
    Ok(Json(json!({"success": true, "task_id": id, "count": journal.len(), "journal": journal})))
}

/// A clock for people (spans as text) and for programs (milliseconds).
fn told(clock: &SlaClock) -> Value {
    let text = |ms: u64| humantime::format_duration(Duration::from_millis(ms)).to_string();
    let left = clock.left_ms.map(|ms| format!("{}{}", if ms < 0 { "-" } else { "" }, text(ms.unsigned_abs())));
    json!({
        "queue": text(clock.queue_ms),
        "machine": text(clock.machine_ms),
        "human": text(clock.human_ms),
        "left": left,
        "queue_ms": clock.queue_ms,
        "machine_ms": clock.machine_ms,
        "human_ms": clock.human_ms,
        "left_ms": clock.left_ms,
        "state": clock.state,
        "due": clock.due,
    })
}
