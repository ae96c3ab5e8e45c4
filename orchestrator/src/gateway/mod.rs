//! The HTTP gateway: tasks for those who speak HTTP instead of Redis.
//!
//! | method, path | role | |
//! |---|---|---|
//! | GET `/` | anybody | name and version |
//! | GET `/livez` | anybody | this process answers |
//! | GET `/readyz` | anybody | not stopping, and Redis answers; else 503 |
//! | GET `/health` | anybody | Redis takes writes, and how many tasks it has; else 503 |
//! | GET `/metrics` | anybody, or [`GatewayConfig::metrics_role`] | figures as Prometheus text |
//! | GET `/stats` | anybody | counts of everything |
//! | POST `/tasks` | agent | creates a task |
//! | GET `/tasks` | user | tasks page by page: `status`, `type`, `agent`, `priority`, `created_from`, `created_before`, `limit`, `cursor` |
//! | POST `/tasks/claim` | agent | gives an agent outside tasks of its types, each under a lease; `?wait=20s` |
//! | POST `/tasks/{id}/lease/{move}` | agent | what that agent does then: `heartbeat` `progress` `output` `complete` `fail` `release` `park` |
//! | PATCH `/tasks/{id}/status` | agent | the same without a token, for the simple case: `?status=`, `error`, `retryable`, `lease` |
//! | POST `/tasks/{id}/cancel` | agent | ends a task, or has its worker asked to stop; `?within=10s` |
//! | POST `/tasks/{id}/retry` | agent | gives a failed or cancelled task a new life |
//! | GET `/tasks/{id}` | user | one task in full; `?wait=20s` waits for its end |
//! | GET `/tasks/{id}/output` | user | what it puts out, as it comes, as Server-Sent Events, or as a page; `?after=` |
//! | GET `/tasks/{id}/sla` | user | its promise, where its time went, what is left |
//! | GET `/tasks/{id}/journal` | user | what it has done for good |
//! | GET `/tasks/{id}/events` | user | its timeline: its events, oldest first |
//! | POST `/events/publish` | agent | tells an event |
//! | GET `/events` | user | follows events, as Server-Sent Events; `?types=deploy.*,task.failed`, `?from=` |
//! | GET `/approvals/pending` | user | what waits for a decision, newest first |
//! | GET `/approvals/history` | user | what was decided, newest first; `?limit=` 1 to 1,000, default 100 |
//! | GET `/approvals/{approval_id}` | user | one approval in full |
//! | POST `/approvals/{approval_id}/approve` | agent | says yes; `note`, `form`, `payload_hash` in the body |
//! | POST `/approvals/{approval_id}/reject` | agent | says no; `?reason=`, or `reason` in the body |
//! | POST `/approvals/{approval_id}/delegate` | agent | lets `to` decide too |
//! | GET `/approvals/link/{token}` | who has it | what is asked, as a page |
//! | POST `/approvals/link/{token}` | who has it | decides, once |
//! | GET `/openapi.json` | anybody | the document of all this |
//! | GET `/docs` | anybody | the same as a page, to read and to try |
//!
//! A caller shows an API key (`X-API-Key`) or a token (`Authorization: Bearer`); either alone suffices. Errors are JSON
//! with `detail`, `type`, `title`, `status` and `instance`; every answer has `X-Request-Id`, under which the log knows it.
//!
//! Keys come from the environment, or are made in Redis by [`Orchestrator::create_key`](crate::Orchestrator::create_key). A
//! caller whose key or token names a tenant sees and changes only what belongs to that: all else is 404 for him, and figures of
//! the whole namespace are 403.
//!
//! A task that the policy or its handler gates is stored, is in no queue, and waits for an approval: its answer has
//! `approval_id`. Who submitted it may not decide. [`GatewayConfig::approver_role`] narrows who may at all.
//!
//! A stream of events begins behind the header `Last-Event-ID`, else where `?from=` says: `oldest`, `now` (the default), the
//! id of an event, or an instant. An event named `gap` says that events were missed. Any gateway of the namespace goes on
//! where another one ended. A stream that was opened with a token ends when the token does.
//!
//! Events are CloudEvents 1.0 for whoever asks for them (`Accept: application/cloudevents+json`), and are taken as such, in
//! structured and in binary mode. `traceparent` (W3C Trace Context) puts events and tasks into the trace of a request.
//!
//! How often a client may ask is counted for each address and route ([`RateLimits`]), over 60 s and all gateways together:
//! answers have `X-RateLimit-Limit`, `X-RateLimit-Remaining` and `X-RateLimit-Reset` (the Unix second when there is a place
//! more), and 429 comes with `Retry-After`. Pages of the origins in [`GatewayConfig::origins`] may read answers. With
//! [`GatewayConfig::tls`] all of it is HTTPS.
//!
//! While it serves, the gateway fires the namespace's timers, so that approvals expire without a worker, and delivers
//! events to webhooks.

mod address;
mod approvals;
mod audience;
mod body;
mod caller;
mod claim;
mod claims;
mod cloud_event;
mod config;
mod cors;
mod dead_letters;
mod deliver;
mod docs;
mod edge;
mod event_feed;
mod events;
mod examples;
mod feed;
mod health;
mod jwks;
mod keys;
mod leases;
mod limit;
mod link;
mod link_token;
mod list;
mod metrics;
mod moves;
mod new_event;
mod new_task;
mod openapi;
mod origin;
mod output;
mod output_feed;
mod page;
mod patience;
mod priority;
mod problem;
mod query;
mod rate_limits;
mod role;
mod roles;
mod root;
mod routes;
mod schedules;
mod schemas;
mod sender;
mod serve;
mod sla;
mod standing;
mod stored_keys;
mod strict;
mod task_details;
mod tasks;
mod tenant;
mod timeline;
mod tls;
mod token;
mod token_settings;

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::extract::Request;
use axum::http::StatusCode;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::{Semaphore, SemaphorePermit, watch};

use self::caller::Caller;
pub use self::config::GatewayConfig;
pub(crate) use self::keys::is_key_name;
pub use self::link_token::LINK_LIFE_DEFAULT;
pub use self::openapi::document as openapi;
pub use self::origin::Origin;
use self::problem::Problem;
pub use self::rate_limits::RateLimits;
pub use self::role::Role;
use self::roles::Roles;
#[doc(hidden)]
pub use self::routes::{Access, Rule, rules};
pub use self::sender::{Unanswered, WebhookAnswer, WebhookSender};
pub use self::serve::serve;
#[doc(hidden)]
pub use self::serve::serve_beside;
pub use self::tls::ServerTls;
pub use self::token::{GROUP_CHARS_MAX, GROUPS_MAX, SECRET_BYTES_MIN, TOKEN_LIFE_MAX, Tokens};
use crate::{Error, Orchestrator, Result};

/// Longest wait for Redis when a request only reads.
const READ_TIME: Duration = Duration::from_secs(5);

/// Longest wait for Redis when a request changes something: clients who wait for ten seconds are still told.
const CHANGE_TIME: Duration = Duration::from_secs(8);

/// Bodies that are held as read JSON at the same time; a mebibyte of text can take 35 of them.
const ROOM: usize = 16;

/// What the routes share. The router copies it for every request, so a copy is a pointer.
#[derive(Clone, Debug)]
struct Gateway(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    orch: Orchestrator,
    body: body::Bounds,
    /// Places for bodies that are held as read JSON.
    room: Semaphore,
    stopping: Arc<AtomicBool>,
    /// Told when connections are closed.
    stopped: watch::Receiver<()>,
    /// Places for streams of events.
    streams: Arc<Semaphore>,
    /// How many there are in all.
    streams_max: usize,
    /// Who has which role as an approver.
    roles: Roles,
    /// What is counted.
    metrics: Arc<metrics::Metrics>,
    /// What links are judged by.
    tokens: Option<Tokens>,
}

impl Deref for Gateway {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

impl Gateway {
    fn stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// The body of a request, as JSON. Read JSON can take many times the room of its text: only so many are held at the same
    /// time, each for as long as its place is.
    async fn read_body<T: DeserializeOwned>(&self, request: Request) -> Result<(T, SemaphorePermit<'_>), Problem> {
        let bytes = body::read(request, self.body).await?;
        let place = self.room().await?;
        Ok((strict::from_slice(&bytes)?, place))
    }

    /// The body of a request, if there is one. Clients that send none name all kinds of types for it.
    async fn read_optional<T: DeserializeOwned>(&self, request: Request) -> Result<Option<T>, Problem> {
        let typed = body::check_type(request.headers());
        let bytes = body::take(request, self.body).await?;
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return Ok(None);
        }
        typed?;
        let _place = self.room().await?;
        strict::from_slice(&bytes)
    }

    /// The body of a request as any JSON, lists too; `None` when there is none.
    async fn read_value(&self, request: Request) -> Result<(Option<Value>, SemaphorePermit<'_>), Problem> {
        let typed = body::check_type(request.headers());
        let bytes = body::take(request, self.body).await?;
        let place = self.room().await?;
        if bytes.is_empty() {
            return Ok((None, place));
        }
        typed?;
        if bytes.trim_ascii_start().first() != Some(&b'[') {
            return Ok((Some(strict::from_slice(&bytes)?), place));
        }
        // Nothing else is expected here that a list could be taken for.
        let list = serde_json::from_slice(&bytes)
            .map_err(|error| Problem::new(StatusCode::BAD_REQUEST, format!("the body is not JSON: {error}")))?;
        match strict::inexact(&bytes) {
            Some((line, column)) => Err(Problem::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                format!("the number at line {line} column {column} does not fit into 64 bits; send it as a text"),
            )),
            None => Ok((Some(list), place)),
        }
    }

    /// A place for a body that is held as read JSON.
    async fn room(&self) -> Result<SemaphorePermit<'_>, Problem> {
        self.room.acquire().await.map_err(|_| Problem::unavailable("the gateway is stopping", 1))
    }

    /// How many streams of events are open.
    fn streams_open(&self) -> usize {
        self.streams_max.saturating_sub(self.streams.available_permits())
    }

    /// A call that only reads, for as long as somebody may be kept waiting for it.
    async fn ask<T>(&self, call: impl Future<Output = Result<T>>) -> Result<T> {
        tokio::time::timeout(READ_TIME, call).await.unwrap_or_else(|_| {
            Err(Error::Unavailable { reason: format!("no answer within {READ_TIME:?}"), source: None })
        })
    }

    /// A call that changes something. It goes on being repeated for longer than this where others wait for it too; whether
    /// it was done is then not known here.
    async fn change<T>(&self, call: impl Future<Output = Result<T>>) -> Result<T> {
        tokio::time::timeout(CHANGE_TIME, call).await.unwrap_or_else(|_| {
            Err(Error::Unavailable { reason: format!("no answer within {CHANGE_TIME:?}"), source: None })
        })
    }

    /// Whether a custom route names this type or a prefix of it. A rule for all types makes none of them known.
    fn has_rule(&self, task_type: &str) -> bool {
        self.orch.config().router.rules().iter().any(|rule| match rule.task_type.strip_suffix('*') {
            Some(prefix) => !prefix.is_empty() && task_type.starts_with(prefix),
            None => rule.task_type == task_type,
        })
    }
}
