//! The HTTP gateway: tasks for those who speak HTTP instead of Redis.
//!
//! | method, path | role | |
//! |---|---|---|
//! | GET `/` | anybody | name and version |
//! | GET `/livez` | anybody | this process answers |
//! | GET `/readyz` | anybody | not stopping, and Redis answers; else 503 |
//! | GET `/health` | anybody | Redis takes writes, and how many tasks it has; else 503 |
//! | GET `/stats` | user | counts of everything |
//! | POST `/tasks` | agent | creates a task |
//! | GET `/tasks/{id}` | user | one task in full |
//!
//! A caller shows an API key (`X-API-Key`) or a token (`Authorization: Bearer`); either alone suffices. Errors are JSON
//! with `detail`, `type`, `title`, `status` and `instance`; every answer has `X-Request-Id`, under which the log knows it.
//!
//! Approvals are not enforced yet: a task of any priority and environment runs at once.

mod body;
mod caller;
mod config;
mod edge;
mod health;
mod keys;
mod new_task;
mod origin;
mod problem;
mod role;
mod serve;
mod strict;
mod tasks;
mod token;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::extract::State;
use axum::middleware::from_fn_with_state;
use axum::routing::{MethodRouter, get, post};
use axum::{Json, Router};
use chrono::{SecondsFormat, Utc};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use self::caller::{Caller, Judge, require};
pub use self::config::GatewayConfig;
pub use self::origin::Origin;
use self::problem::Problem;
pub use self::role::Role;
pub use self::serve::serve;
pub use self::token::{SECRET_BYTES_MIN, TOKEN_LIFE_MAX, Tokens};
use crate::{Error, Orchestrator, Result};

/// Longest wait for Redis when a request only reads.
const READ_TIME: Duration = Duration::from_secs(5);

/// Bodies that are held as read JSON at the same time; a mebibyte of text can take 35 of them.
const ROOM: usize = 64;

/// What the routes share.
#[derive(Clone, Debug)]
struct Gateway {
    orch: Orchestrator,
    body: body::Bounds,
    /// Places for bodies that are held as read JSON.
    room: Arc<Semaphore>,
    stopping: Arc<AtomicBool>,
    warned: Arc<AtomicBool>,
}

impl Gateway {
    fn stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// A call that only reads, for as long as somebody may be kept waiting for it.
    async fn ask<T>(&self, call: impl Future<Output = Result<T>>) -> Result<T> {
        tokio::time::timeout(READ_TIME, call).await.unwrap_or_else(|_| {
            Err(Error::Unavailable { reason: format!("no answer within {READ_TIME:?}"), source: None })
        })
    }

    /// Whether a custom route names this type or a prefix of it. A rule for all types makes none of them known.
    fn has_rule(&self, task_type: &str) -> bool {
        self.orch.config().router.rules().iter().any(|rule| match rule.task_type.strip_suffix('*') {
            Some(prefix) => !prefix.is_empty() && task_type.starts_with(prefix),
            None => rule.task_type == task_type,
        })
    }

    /// Says once that nothing waits for approval yet.
    fn warn_of_missing_gate(&self) {
        if !self.warned.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                "a task came in that people should approve first; approvals are not enforced yet, it runs at once"
            );
        }
    }
}

/// All routes; each says which role it needs.
fn routes(gateway: Gateway, judge: &Judge) -> Router {
    let needs = |role: Role, route: MethodRouter<Gateway>| {
        route.route_layer(from_fn_with_state((judge.clone(), role), require))
    };
    Router::new()
        .route("/", get(about))
        .route("/livez", get(health::livez))
        .route("/readyz", get(health::readyz))
        .route("/health", get(health::health))
        .route("/stats", needs(Role::User, get(stats)))
        .route("/tasks", needs(Role::Agent, post(tasks::create)))
        .route("/tasks/{id}", needs(Role::User, get(tasks::read)))
        .with_state(gateway)
}

/// `GET /`
async fn about() -> Json<Value> {
    Json(json!({"service": "MorningAI Orchestrator", "version": env!("CARGO_PKG_VERSION"), "status": "running"}))
}

/// `GET /stats`
async fn stats(State(gateway): State<Gateway>) -> Result<Json<Value>, Problem> {
    let stats = gateway.ask(gateway.orch.stats()).await?;
    Ok(Json(json!({"queue": stats, "timestamp": Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true)})))
}
