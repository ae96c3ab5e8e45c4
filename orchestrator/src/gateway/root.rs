//! What the gateway says of itself and of everything that it serves.

use axum::Json;
use axum::extract::State;
use chrono::{SecondsFormat, Utc};
use serde_json::{Value, json};

use super::{Gateway, Problem};

/// `GET /`
#[utoipa::path(get, path = "/")]
pub(super) async fn about() -> Json<Value> {
    Json(json!({"service": "MorningAI Orchestrator", "version": env!("CARGO_PKG_VERSION"), "status": "running"}))
}

/// `GET /stats`
#[utoipa::path(get, path = "/stats")]
pub(super) async fn stats(State(gateway): State<Gateway>) -> Result<Json<Value>, Problem> {
    let stats = gateway.ask(gateway.orch.stats()).await?;
    Ok(Json(json!({"queue": stats, "timestamp": Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true)})))
}
