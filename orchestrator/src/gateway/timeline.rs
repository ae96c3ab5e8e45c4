//! The timeline of one task: what was told about it, oldest first.

use std::time::{Duration, Instant};

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::header::{CONTENT_TYPE, HeaderName};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use chrono::TimeDelta;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::cloud_event::CloudEvent;
use super::events::asks_for;
use super::tasks::id_of;
use super::{Caller, Gateway, Problem, cloud_event};
use crate::{Event, EventCursor, EventsFrom, Heard, Result, TaskId};

/// Events looked at, of whatever task.
const LOOKED_AT_MAX: usize = 10_000;
/// Bytes of events in one answer, roughly.
const BYTES_MAX: usize = 8 << 20;
/// Longest search.
const TIME_MAX: Duration = Duration::from_secs(10);
/// A task's id is made by its submitter, whose clock may be a little ahead of that of the stream.
const AHEAD: TimeDelta = TimeDelta::seconds(1);

/// Whether a list of CloudEvents is all that there were.
const COMPLETE: HeaderName = HeaderName::from_static("x-complete");

/// What was told about a task.
#[derive(Serialize, ToSchema)]
pub(super) struct TaskEvents {
    success: bool,
    task_id: TaskId,
    count: usize,
    /// Oldest first.
    events: Vec<Event>,
    /// Whether these are all that there were.
    complete: bool,
}

/// Read a task's events
///
/// Its timeline, oldest first, as far back as events are kept. Ask for `application/cloudevents+json` to get CloudEvents.
#[utoipa::path(
    get, path = "/tasks/{id}/events", tag = "events", operation_id = "read_task_events",
    params(("id" = TaskId, Path, description = "The task")),
    responses((status = 200, description = "The events",
        content((TaskEvents = "application/json"), (Vec<CloudEvent> = "application/cloudevents-batch+json")),
        headers(("X-Complete" = Option<String>, description = "Of CloudEvents: whether these are all, `true` or `false`")),
    )),
)]
pub(super) async fn events(
    State(gateway): State<Gateway>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    id: Result<Path<String>, PathRejection>,
) -> Result<Response, Problem> {
    let task_id = id_of(id)?;
    let task = gateway.task_of(&caller, task_id).await?;
    let from = EventsFrom::Behind(EventCursor::at(task.created_at - AHEAD));
    let (events, whole) = about(&gateway, task_id, from).await?;
    // Its creation is its first change.
    let complete = whole && events.iter().any(|event| event.payload["number"] == 1);
    if asks_for(&headers, &[cloud_event::ONE, cloud_event::MANY]) {
        let namespace = &gateway.orch.config().namespace;
        let events = events.iter().map(|event| cloud_event::told(event, namespace)).collect();
        let complete = HeaderValue::from_static(if complete { "true" } else { "false" });
        let kind = HeaderValue::from_static(cloud_event::MANY);
        return Ok(([(CONTENT_TYPE, kind), (COMPLETE, complete)], Value::Array(events).to_string()).into_response());
    }
    Ok(Json(TaskEvents { success: true, task_id, count: events.len(), events, complete }).into_response())
}

/// The task's events, and whether they are all that there were.
async fn about(gateway: &Gateway, id: TaskId, from: EventsFrom) -> Result<(Vec<Event>, bool)> {
    let started = Instant::now();
    let mut reader = gateway.orch.events(&[], from);
    let (mut found, mut looked_at, mut bytes, mut complete) = (Vec::new(), 0, 0, true);
    while let Some(heard) = gateway.ask(reader.next_if_any()).await? {
        let event = match heard {
            Heard::Gap => {
                complete = false;
                continue;
            }
            Heard::Event(event) => event,
        };
        if looked_at == LOOKED_AT_MAX || bytes > BYTES_MAX || started.elapsed() > TIME_MAX {
            return Ok((found, false));
        }
        looked_at += 1;
        if event.task_id == Some(id) {
            bytes += serde_json::to_vec(&event).map_or(0, |text| text.len());
            found.push(*event);
        }
    }
    Ok((found, complete))
}
