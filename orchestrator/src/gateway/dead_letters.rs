//! Dead letters over HTTP: read, grouped, retried, deleted.

use std::time::Duration;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, Request, State};
use axum::{Extension, Json};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::list::instant_of;
use super::new_task::instant;
use super::query::Pairs;
use super::tasks::{id_of, moved, unfit};
use super::{Caller, Gateway, Problem};
use crate::{
    DEAD_LETTERS_PAGE_MAX, DeadFilter, DeadGroup, DeadLetter, DeadRefusal, DeadSweep, DeadSwept, Error, TaskId,
};

/// Letters on a page unless the caller says how many.
const LIMIT_DEFAULT: usize = 50;
/// How long one request looks for letters, and then deals with them.
const PATIENCE: Duration = Duration::from_secs(3);
/// Letters that one request deals with at most.
const SWEEP_MAX: u64 = 10_000;
/// What both lists take.
const FILTER: [&str; 7] = ["type", "queue", "reason", "fingerprint", "error", "since", "until"];

/// A page of dead letters.
#[derive(Serialize, ToSchema)]
pub(super) struct DeadLetters {
    success: bool,
    count: usize,
    /// Newest first.
    dead_letters: Vec<DeadLetter>,
    /// Where the next page begins; null on the last one. A page may hold fewer than asked for while more are to come.
    cursor: Option<String>,
}

/// One dead letter.
#[derive(Serialize, ToSchema)]
pub(super) struct DeadLetterTold {
    success: bool,
    task_id: TaskId,
    dead_letter: DeadLetter,
}

/// Dead letters by what they have in common.
#[derive(Serialize, ToSchema)]
pub(super) struct DeadLetterGroups {
    success: bool,
    count: usize,
    /// The largest first.
    groups: Vec<DeadGroup>,
    /// Letters in all groups.
    letters: u64,
    /// Letters of further groups, beyond 10,000.
    others: u64,
    /// Whether all letters were looked at; else only the newest ones were, because time ran out.
    complete: bool,
}

/// Which dead letters are meant; what is left out takes all.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, expecting = "an object that says which dead letters are meant")]
pub(super) struct DeadLetterFilter {
    #[serde(rename = "type")]
    task_type: Option<String>,
    queue: Option<String>,
    /// Why they ended: `retries`, `fatal`, `poison` …
    reason: Option<String>,
    /// Failures that are alike.
    fingerprint: Option<String>,
    /// A text in the error; large and small letters are the same.
    error: Option<String>,
    /// Failed at this instant or later.
    #[serde(default, deserialize_with = "instant")]
    since: Option<DateTime<Utc>>,
    /// Failed before this instant.
    #[serde(default, deserialize_with = "instant")]
    until: Option<DateTime<Utc>>,
}

/// What is to be done with which dead letters.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, expecting = "an object with filter")]
#[schema(as = Sweep, example = json!({"filter": {"type": "deploy", "reason": "retries"}, "dry_run": true}))]
pub(super) struct SweepBody {
    /// An empty object means all.
    #[schema(required, value_type = DeadLetterFilter)]
    filter: Option<DeadLetterFilter>,
    /// Only count them: true unless told otherwise.
    dry_run: Option<bool>,
    /// How many there were when they were counted: when more are found nothing is done.
    #[schema(format = "uint64")]
    expected: Option<u64>,
    /// How many are dealt with at most, the newest first: 10,000 unless told.
    #[schema(minimum = 1, maximum = 10_000)]
    limit: Option<u64>,
}

/// What became of the dead letters that were meant.
#[derive(Serialize, ToSchema)]
pub(super) struct SweptTold {
    success: bool,
    /// Whether they were only counted.
    dry_run: bool,
    /// How many are meant.
    found: u64,
    /// How many were dealt with.
    done: u64,
    /// How many were refused, and stay dead letters.
    refused: u64,
    /// How many somebody else was faster with.
    gone: u64,
    /// How many are left: send the same again.
    left: u64,
    /// Whether all dead letters were looked at; else there may be more that are meant.
    complete: bool,
    /// Some of those that were refused.
    examples: Vec<DeadRefusal>,
}

type AskedId = Result<Path<String>, PathRejection>;

fn filter(caller: &Caller, pairs: &Pairs) -> Result<DeadFilter, Problem> {
    let name = |what: &str| pairs.one(what).map(|name| name.filter(|name| !name.is_empty()).map(str::to_owned));
    Ok(DeadFilter {
        task_type: name("type")?,
        queue: name("queue")?,
        reason: name("reason")?,
        fingerprint: name("fingerprint")?,
        error: name("error")?,
        since: instant_of(pairs, "since")?,
        until: instant_of(pairs, "until")?,
        tenant: caller.tenant.clone(),
    })
}

/// List dead letters
///
/// Tasks that have failed, newest first; they are kept for 30 days unless set otherwise.
#[utoipa::path(
    get, path = "/dead-letters", tag = "dead letters", operation_id = "list_dead_letters",
    params(
        ("type" = Option<String>, Query, description = "Only this type"),
        ("queue" = Option<String>, Query, description = "Only this queue"),
        ("reason" = Option<String>, Query, description = "Only this reason: `retries`, `fatal`, `poison` …"),
        ("fingerprint" = Option<String>, Query, description = "Only failures that are alike"),
        ("error" = Option<String>, Query, description = "Only those with this text in the error"),
        ("since" = Option<DateTime<Utc>>, Query, description = "Failed at this instant or later"),
        ("until" = Option<DateTime<Utc>>, Query, description = "Failed before this instant"),
        ("limit" = Option<usize>, Query, minimum = 1, maximum = 1000, description = "How many at most; 50 unless told"),
        ("cursor" = Option<String>, Query, description = "Where to go on: the `cursor` of the page before"),
    ),
    responses((status = 200, description = "A page", body = DeadLetters)),
)]
pub(super) async fn list(
    State(gateway): State<Gateway>,
    Extension(caller): Extension<Caller>,
    RawQuery(query): RawQuery,
) -> Result<Json<DeadLetters>, Problem> {
    let pairs = Pairs::read(query.unwrap_or_default().as_bytes());
    pairs.only(&[&FILTER[..], &["limit", "cursor"]].concat())?;
    let filter = filter(&caller, &pairs)?;
    let limit = match pairs.one("limit")? {
        None => LIMIT_DEFAULT,
        Some(text) => text
            .parse()
            .ok()
            .filter(|limit| (1..=DEAD_LETTERS_PAGE_MAX).contains(limit))
            .ok_or_else(|| unfit(&format!("limit: write a number from 1 to {DEAD_LETTERS_PAGE_MAX}")))?,
    };
    let cursor = pairs.one("cursor")?.filter(|cursor| !cursor.is_empty());
    let page = gateway.ask(gateway.orch.dead_letters(&filter, cursor, limit)).await?;
    Ok(Json(DeadLetters { success: true, count: page.letters.len(), dead_letters: page.letters, cursor: page.cursor }))
}

/// Group dead letters
///
/// By fingerprint: failures of one type for one reason, whose errors differ only in numbers, ids, quoted texts and the like.
#[utoipa::path(
    get, path = "/dead-letters/groups", tag = "dead letters", operation_id = "group_dead_letters",
    params(
        ("type" = Option<String>, Query, description = "Only this type"),
        ("queue" = Option<String>, Query, description = "Only this queue"),
        ("reason" = Option<String>, Query, description = "Only this reason: `retries`, `fatal`, `poison` …"),
        ("fingerprint" = Option<String>, Query, description = "Only this group"),
        ("error" = Option<String>, Query, description = "Only those with this text in the error"),
        ("since" = Option<DateTime<Utc>>, Query, description = "Failed at this instant or later"),
        ("until" = Option<DateTime<Utc>>, Query, description = "Failed before this instant"),
    ),
    responses((status = 200, description = "The groups", body = DeadLetterGroups)),
)]
pub(super) async fn groups(
    State(gateway): State<Gateway>,
    Extension(caller): Extension<Caller>,
    RawQuery(query): RawQuery,
) -> Result<Json<DeadLetterGroups>, Problem> {
    let pairs = Pairs::read(query.unwrap_or_default().as_bytes());
    pairs.only(&FILTER)?;
    let filter = filter(&caller, &pairs)?;
    let sweep = DeadSweep { patience: Some(PATIENCE), ..DeadSweep::default() };
    let told = gateway.ask(gateway.orch.dead_groups(&filter, &sweep, |_, _| ())).await?;
    Ok(Json(DeadLetterGroups {
        success: true,
        count: told.groups.len(),
        groups: told.groups,
        letters: told.letters,
        others: told.others,
        complete: told.complete,
    }))
}

/// Read a dead letter
///
/// The failed task, and who had it last, as long as that is known.
#[utoipa::path(
    get, path = "/dead-letters/{id}", tag = "dead letters", operation_id = "read_dead_letter",
    params(("id" = TaskId, Path, description = "The task")),
    responses(
        (status = 200, description = "The dead letter", body = DeadLetterTold),
        (status = 409, description = "The task has not failed; `task_status` tells how it stands"),
    )
)]
pub(super) async fn read(
    State(gateway): State<Gateway>,
    Extension(caller): Extension<Caller>,
    id: AskedId,
) -> Result<Json<DeadLetterTold>, Problem> {
    let task_id = id_of(id)?;
    gateway.check_task(&caller, task_id).await?;
    let dead_letter = moved(&gateway, task_id, gateway.orch.dead_letter(task_id)).await?;
    Ok(Json(DeadLetterTold { success: true, task_id, dead_letter }))
}

/// A dead letter that was deleted.
#[derive(Serialize, ToSchema)]
pub(super) struct DeadLetterDeleted {
    success: bool,
    task_id: TaskId,
}

/// Delete a dead letter
///
/// For good, with its journal. It is told by the event `task.deleted` and stands in the audit. To give it a new life instead,
/// use `POST /tasks/{id}/retry`.
#[utoipa::path(
    delete, path = "/dead-letters/{id}", tag = "dead letters", operation_id = "delete_dead_letter",
    params(("id" = TaskId, Path, description = "The task")),
    responses(
        (status = 200, description = "It is deleted", body = DeadLetterDeleted),
        (status = 409, description = "The task has not failed; `task_status` tells how it stands"),
    )
)]
pub(super) async fn delete(
    State(gateway): State<Gateway>,
    Extension(caller): Extension<Caller>,
    id: AskedId,
) -> Result<Json<DeadLetterDeleted>, Problem> {
    let task_id = id_of(id)?;
    gateway.check_task(&caller, task_id).await?;
    moved(&gateway, task_id, gateway.orch.delete_dead_letter(task_id, &caller.name)).await?;
    Ok(Json(DeadLetterDeleted { success: true, task_id }))
}

/// Retry dead letters
///
/// Counts those that are meant, and with `dry_run: false` gives them a new life, with all their retries. When `left` is not 0,
/// send the same again.
#[utoipa::path(
    post, path = "/dead-letters/retry", tag = "dead letters", operation_id = "retry_dead_letters",
    request_body = SweepBody,
    responses(
        (status = 200, description = "How many there are, and what became of them", body = SweptTold),
        (status = 409, description = "There are more than `expected`; nothing was done"),
    )
)]
pub(super) async fn retry(
    State(gateway): State<Gateway>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Result<Json<SweptTold>, Problem> {
    sweep(gateway, caller, request, false).await
}

/// Delete dead letters
///
/// Counts those that are meant, and with `dry_run: false` deletes them for good, with their journals. When `left` is not 0, send
/// the same again.
#[utoipa::path(
    post, path = "/dead-letters/delete", tag = "dead letters", operation_id = "delete_dead_letters",
    request_body = SweepBody,
    responses(
        (status = 200, description = "How many there are, and what became of them", body = SweptTold),
        (status = 409, description = "There are more than `expected`; nothing was done"),
    )
)]
pub(super) async fn delete_all(
    State(gateway): State<Gateway>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Result<Json<SweptTold>, Problem> {
    sweep(gateway, caller, request, true).await
}

async fn sweep(gateway: Gateway, caller: Caller, request: Request, delete: bool) -> Result<Json<SweptTold>, Problem> {
    let (asked, place) = gateway.read_body::<SweepBody>(request).await?;
    drop(place);
    let meant = asked.filter.ok_or_else(|| unfit("filter: say which are meant; {} means all"))?;
    let limit = asked.limit.unwrap_or(SWEEP_MAX);
    if !(1..=SWEEP_MAX).contains(&limit) {
        return Err(unfit(&format!("limit: write a number from 1 to {SWEEP_MAX}")));
    }
    let filter = DeadFilter {
        task_type: meant.task_type,
        queue: meant.queue,
        reason: meant.reason,
        fingerprint: meant.fingerprint,
        error: meant.error,
        since: meant.since,
        until: meant.until,
        tenant: caller.tenant,
    };
    let sweep = DeadSweep {
        by: caller.name,
        expected: asked.expected,
        limit: usize::try_from(limit).ok(),
        patience: Some(PATIENCE),
    };
    let (orch, dry_run) = (&gateway.orch, asked.dry_run.unwrap_or(true));
    let swept = match (dry_run, delete) {
        (true, _) => gateway.ask(orch.count_dead(&filter, &sweep, |_, _| ())).await,
        (false, true) => gateway.change(orch.delete_dead(&filter, &sweep, |_, _| ())).await,
        (false, false) => gateway.change(orch.retry_dead(&filter, &sweep, |_, _| ())).await,
    };
    let swept: DeadSwept = swept.map_err(|error| match error {
        Error::Unavailable { .. } if !dry_run => {
            let state = super::health::state(&error);
            tracing::warn!(%error, "dead letters were to be dealt with and no answer came");
            let said = format!("Redis does not serve now: {state}. How many were dealt with is not known; count them");
            Problem::unavailable(said, 2).with("redis", state)
        }
        other => Problem::of(&other),
    })?;
    let DeadSwept { found, done, refused, gone, left, complete, examples } = swept;
    Ok(Json(SweptTold { success: true, dry_run, found, done, refused, gone, left, complete, examples }))
}
