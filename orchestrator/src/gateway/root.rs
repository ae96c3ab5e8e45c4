//! What the gateway says of itself and of everything that it serves.

use axum::Json;
use axum::extract::State;
use chrono::{SecondsFormat, Utc};
use serde::Serialize;
use utoipa::ToSchema;

use super::{Gateway, Problem};
use crate::Stats;

/// What serves here.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({"service": "MorningAI Orchestrator", "version": "0.1.0", "status": "running"}))]
pub(super) struct About {
    service: &'static str,
    version: &'static str,
    status: &'static str,
}

/// Counts of everything, all taken at one instant.
#[derive(Serialize, ToSchema)]
pub(super) struct Counted {
    queue: Stats,
    /// When they were taken.
    #[schema(format = DateTime)]
    timestamp: String,
}

/// Read what serves here
#[utoipa::path(
    get, path = "/", tag = "monitoring", operation_id = "read_about",
    responses((status = 200, description = "Name and version", body = About)),
)]
pub(super) async fn about() -> Json<About> {
    Json(About { service: "MorningAI Orchestrator", version: env!("CARGO_PKG_VERSION"), status: "running" })
}

/// Count everything
///
/// How many tasks wait, run and are set aside, and how many are ready in each queue.
#[utoipa::path(
    get, path = "/stats", tag = "monitoring", operation_id = "read_stats",
    responses((status = 200, description = "The counts", body = Counted)),
)]
pub(super) async fn stats(State(gateway): State<Gateway>) -> Result<Json<Counted>, Problem> {
    let queue = gateway.ask(gateway.orch.stats()).await?;
    Ok(Json(Counted { queue, timestamp: Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true) }))
}
