//! Whether the gateway lives, is ready, and finds Redis in order.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::{Gateway, Problem};
use crate::{Error, Stats};

/// Longest wait for Redis when somebody asks how it is.
const HEALTH_TIME: Duration = Duration::from_secs(2);
const READY_TIME: Duration = Duration::from_secs(1);

/// What Redis says when it does not serve, and what that means.
const STATES: [(&str, &str); 9] = [
    ("MISCONF", "it cannot save to disk and refuses writes (MISCONF)"),
    ("LOADING", "it is loading its data (LOADING)"),
    ("READONLY", "it is a read-only replica (READONLY)"),
    ("MASTERDOWN", "its master is down (MASTERDOWN)"),
    ("NOREPLICAS", "it has too few replicas and refuses writes (NOREPLICAS)"),
    ("CLUSTERDOWN", "its cluster is down (CLUSTERDOWN)"),
    ("BUSY", "it is busy with a script (BUSY)"),
    ("NOPERM", "its user lacks a permission (NOPERM)"),
    ("NOAUTH", "it wants a password (NOAUTH)"),
];

/// In a few words, why Redis does not serve.
pub(super) fn state(error: &Error) -> &'static str {
    if matches!(error, Error::OutOfMemory) {
        return "it is out of memory and takes no new task (OOM)";
    }
    // The client spells some of the server's words in its own way: ReadOnly, BusyLoading.
    let text = error.to_string().to_ascii_uppercase();
    STATES.iter().find(|(code, _)| text.contains(code)).map_or("it does not answer", |(_, state)| state)
}

/// That all is well, in a word.
#[derive(Serialize, ToSchema)]
pub(super) struct Well {
    /// `alive` or `ready`.
    status: &'static str,
}

/// That all is well, and how much there is to do.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "status": "healthy",
    "redis": "connected",
    "queue_stats": {"pending_tasks": 3, "processing_tasks": 1, "total_tasks": 4},
}))]
pub(super) struct Healthy {
    /// Always `healthy`; what is not is a `Problem`.
    status: &'static str,
    /// Always `connected`.
    redis: &'static str,
    queue_stats: QueueCounts,
}

/// Live tasks.
#[derive(Serialize, ToSchema)]
struct QueueCounts {
    /// Runnable and scheduled ones.
    pending_tasks: u64,
    /// Held by workers.
    processing_tasks: u64,
    /// The sum of both.
    total_tasks: u64,
}

/// Ask whether this process answers
#[utoipa::path(
    get, path = "/livez", tag = "monitoring", operation_id = "read_liveness",
    responses((status = 200, description = "It does", body = Well)),
)]
pub(super) async fn livez() -> Json<Well> {
    Json(Well { status: "alive" })
}

/// Ask whether requests may be sent here
///
/// They may while the gateway is not stopping and Redis answers. A Redis out of memory still serves everything but new
/// tasks.
#[utoipa::path(
    get, path = "/readyz", tag = "monitoring", operation_id = "read_readiness",
    responses((status = 200, description = "They may", body = Well)),
)]
pub(super) async fn readyz(State(gateway): State<Gateway>) -> Result<Json<Well>, Problem> {
    if gateway.stopping() {
        return Err(Problem::unavailable("the gateway is stopping", 5));
    }
    match tokio::time::timeout(READY_TIME, gateway.orch.check_writable()).await {
        Ok(Ok(()) | Err(Error::OutOfMemory)) => Ok(Json(Well { status: "ready" })),
        Ok(Err(error)) => Err(Problem::of(&error)),
        Err(_) => Err(silent(READY_TIME)),
    }
}

/// Ask whether all is well
///
/// It is when Redis takes writes and counts its tasks; else the `Problem` says what is wrong with it.
#[utoipa::path(
    get, path = "/health", tag = "monitoring", operation_id = "read_health",
    responses((status = 200, description = "It is", body = Healthy)),
)]
pub(super) async fn health(State(gateway): State<Gateway>) -> Result<Json<Healthy>, Problem> {
    let asked = async {
        gateway.orch.check_writable().await?;
        gateway.orch.stats().await
    };
    match tokio::time::timeout(HEALTH_TIME, asked).await {
        Ok(Ok(Stats { pending_tasks, processing_tasks, total_tasks, .. })) => Ok(Json(Healthy {
            status: "healthy",
            redis: "connected",
            queue_stats: QueueCounts { pending_tasks, processing_tasks, total_tasks },
        })),
        Ok(Err(error)) => Err(Problem::of(&error)),
        Err(_) => Err(silent(HEALTH_TIME)),
    }
}

fn silent(waited: Duration) -> Problem {
    Problem::of(&Error::Unavailable { reason: format!("no answer within {waited:?}"), source: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_redis_says_is_named() {
        let unavailable = |reason: &str| state(&Error::Unavailable { reason: reason.into(), source: None });
        assert!(unavailable("MISCONF: Errors writing to the AOF file").contains("MISCONF"));
        assert!(unavailable("An error was signalled by the server - BusyLoading: data").contains("LOADING"));
        assert!(unavailable("An error was signalled by the server - ReadOnly: You can't").contains("READONLY"));
        assert_eq!(unavailable("Connection refused (os error 111)"), "it does not answer");
        assert!(state(&Error::OutOfMemory).contains("OOM"));
    }
}
