//! What a task puts out while it runs: read live, page by page, and told by agents outside.

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, Request, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::claim::LEASE_DEFAULT;
use super::events::asks_for;
use super::feed::LAST_EVENT_ID;
use super::leases::{AskedId, asked, holder};
use super::new_task::span;
use super::query::Pairs;
use super::standing::Standing;
use super::tasks::{id_of, idempotency_key, moved, unfit};
use super::{Caller, Gateway, Problem};
use crate::{Chunk, ChunkData, Span, Status, TaskId};

/// Chunks of one page.
const PAGE_MAX: usize = 1000;

/// What a task has put out.
#[derive(Serialize, ToSchema)]
pub(super) struct TaskOutput {
    success: bool,
    task_id: TaskId,
    /// How it stands: once it has ended and there are no more, this is all.
    status: Status,
    count: usize,
    /// Oldest first.
    #[schema(value_type = Vec<OutputChunk>)]
    chunks: Vec<Chunk>,
    /// Number of the last chunk: send it as `after` to go on behind it.
    place: u64,
    /// Whether there are more by now.
    more: bool,
}

/// One piece of a task's output. It has `text`, `base64` or `value`.
#[derive(ToSchema)]
#[schema(example = json!({"number": 7, "attempt": 1, "epoch": 0, "missed": 0, "text": "Once upon"}))]
#[allow(dead_code, reason = "it is only described; `Chunk` is written")]
struct OutputChunk {
    /// Its number among all of the task, from 1.
    number: u64,
    /// The attempt that it comes from.
    attempt: u32,
    /// Rises whenever the handler is entered anew: what comes then begins anew.
    epoch: u32,
    /// How many right before it are not kept any more, or were lost.
    missed: u64,
    /// A piece of text.
    text: Option<String>,
    /// Bytes.
    base64: Option<String>,
    /// A value of its own.
    value: Option<Value>,
}

/// A piece of output.
#[derive(Deserialize, ToSchema)]
#[serde(
    deny_unknown_fields,
    expecting = "an object with lease_token, one of text, base64 and value, and optionally lease"
)]
#[schema(as = OutputPiece)]
pub(super) struct OutputBody {
    /// As the claim has told it.
    #[schema(pattern = "^[0-9a-f]{8}-[0-9a-f]{16}$", example = "00000000-8f3a1c5e9b7d2046")]
    lease_token: String,
    /// Text of at most 64 KiB.
    text: Option<String>,
    /// Bytes, at most 64 KiB.
    base64: Option<String>,
    /// Any value, at most 64 KiB as MessagePack.
    value: Option<Value>,
    /// How long the lease lasts from now on, 5 s to 24 h: seconds, or a text with a unit. 60 s unless told.
    #[serde(default, deserialize_with = "span")]
    #[schema(value_type = Option<Span>)]
    lease: Option<Span>,
}

/// A piece of output that was taken.
#[derive(Serialize, ToSchema)]
pub(super) struct OutputTaken {
    success: bool,
    task_id: TaskId,
    /// Its number among all chunks of the task.
    number: u64,
    lease_expires_at: chrono::DateTime<chrono::Utc>,
    /// Whether somebody wants the task to be stopped: release it, and it ends as cancelled.
    cancel_requested: bool,
}

/// Read what a task puts out
///
/// While it runs and for an hour after, from the first chunk that is kept: the newest MiB, 10,000 chunks. It comes as Server-Sent
/// Events: `chunk` with an `OutputChunk` as data and its number as id, and at last `end` with the task's `status`; a comment
/// when nothing else comes for 15 seconds. Who was cut off goes on with `Last-Event-ID`. Ask for `application/json` to get
/// the chunks that there are now, 1,000 at most.
#[utoipa::path(
    get, path = "/tasks/{id}/output", tag = "tasks", operation_id = "read_task_output",
    params(
        ("id" = TaskId, Path, description = "The task"),
        ("after" = Option<u64>, Query, description = "Begin behind the chunk of this number"),
        ("Last-Event-ID" = Option<String>, Header, description = "The same; wins over `after`"),
    ),
    responses(
        (status = 200, description = "The chunks", content(
            (TaskOutput = "application/json"),
            (String = "text/event-stream", example = "id: 7\nevent: chunk\ndata: {\"number\":7,\"text\":\"Once upon\"}\n\n"),
        )),
        (status = 503, description = "Redis does not serve now, or as many streams are open here as may be"),
    ),
)]
pub(super) async fn follow(
    State(gateway): State<Gateway>,
    Extension(caller): Extension<Caller>,
    Extension(standing): Extension<Standing>,
    id: Result<Path<String>, PathRejection>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let task_id = id_of(id)?;
    let task = gateway.task_of(&caller, task_id).await?;
    let place = place(&headers, query.as_deref().unwrap_or_default())?;
    let mut chunks = gateway.orch.chunks(task_id).after(place);
    let wants_page = asks_for(&headers, &["application/json"]) && !asks_for(&headers, &["text/event-stream"]);
    if !wants_page {
        let seat = gateway.seat()?;
        return Ok(gateway.stream(chunks, None, standing, seat));
    }
    let mut page = Vec::new();
    let mut weight = 0;
    let more = loop {
        if page.len() == PAGE_MAX || weight > crate::OUTPUT_BYTES_MAX {
            break gateway.ask(chunks.next_if_any()).await?.is_some();
        }
        let Some(chunk) = gateway.ask(chunks.next_if_any()).await? else { break false };
        weight += chunk.data.weight();
        page.push(chunk);
    };
    let place = page.last().map_or(chunks.place(), |chunk| chunk.number);
    let status = chunks.status().unwrap_or(task.status);
    let told = TaskOutput { success: true, task_id, status, count: page.len(), chunks: page, place, more };
    Ok(Json(told).into_response())
}

/// The number of the chunk behind which the reader begins.
fn place(headers: &HeaderMap, query: &str) -> Result<u64, Problem> {
    let pairs = Pairs::read(query.as_bytes());
    pairs.only(&["after"])?;
    let last = headers.get(LAST_EVENT_ID).filter(|last| !last.is_empty());
    let last = last.map(|last| String::from_utf8_lossy(last.as_bytes()).into_owned());
    let (name, text) = match (&last, pairs.one("after")?) {
        (Some(last), _) => ("Last-Event-ID", last.as_str()),
        (None, Some(after)) => ("after", after),
        (None, None) => return Ok(0),
    };
    text.parse().map_err(|_| {
        unfit(&format!("{name}: `{}` is no number of a chunk; write a whole number", crate::error::excerpt(text)))
    })
}

/// Put out a piece of a task's output
///
/// For those who read it while the task runs; its result is told at its end. It extends the lease. Pieces are put out one after
/// the other: one that is sent again under its `Idempotency-Key` before the next is appended once.
#[utoipa::path(
    post, path = "/tasks/{id}/lease/output", tag = "tasks", operation_id = "put_out",
    params(
        ("id" = TaskId, Path, description = "The task"),
        ("Idempotency-Key" = Option<String>, Header, min_length = 1, max_length = 255, description = "Of your choice: names this piece"),
    ),
    request_body = OutputBody,
    responses(
        (status = 200, description = "It is there for its readers", body = OutputTaken),
        (status = 409, description = "The caller has not got the task; `task_status` tells how it stands"),
    )
)]
pub(super) async fn put_out(
    State(gateway): State<Gateway>,
    Extension(caller): Extension<Caller>,
    id: AskedId,
    headers: HeaderMap,
    request: Request,
) -> Result<Json<OutputTaken>, Problem> {
    let (task_id, OutputBody { lease_token, text, base64, value, lease }) =
        asked(&gateway, &caller, id, request).await?;
    let data = match (text, base64, value) {
        (Some(text), None, None) => ChunkData::Text(text),
        (None, Some(coded), None) => {
            let bytes = STANDARD.decode(coded).map_err(|error| unfit(&format!("base64: {error}")))?;
            ChunkData::Bytes(bytes)
        }
        (None, None, Some(value)) => ChunkData::Value(value),
        _ => return Err(unfit("a piece of output has one of text, base64 and value")),
    };
    let key = idempotency_key(&headers)?;
    let lease = lease.map_or(Ok(LEASE_DEFAULT), |lease| lease.duration())?;
    let holder = holder(&gateway, &caller, task_id, &lease_token)?;
    let (renewed, number) = moved(&gateway, task_id, holder.put_out(data, key, lease)).await?;
    let (lease_expires_at, cancel_requested) = (renewed.expires_at, renewed.cancel_requested);
    Ok(Json(OutputTaken { success: true, task_id, number, lease_expires_at, cancel_requested }))
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;
    use axum::http::header::ACCEPT;

    use super::*;

    #[test]
    fn a_reader_begins_where_it_says() {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static("text/event-stream"));
        let said = |headers: &HeaderMap, query| place(headers, query).map_err(|problem| problem.said().1.to_owned());
        assert_eq!(said(&headers, ""), Ok(0));
        assert_eq!(said(&headers, "after=7"), Ok(7));
        for wrong in ["after=", "after=-1", "after=x", "after=1.5", "after=99999999999999999999"] {
            assert!(said(&headers, wrong).expect_err(wrong).contains("is no number of a chunk"), "{wrong}");
        }
        assert!(said(&headers, "from=7").expect_err("unknown").contains("known are: after"));
        headers.insert(LAST_EVENT_ID, HeaderValue::from_static("9"));
        assert_eq!(said(&headers, "after=7"), Ok(9), "the header wins");
    }
}
