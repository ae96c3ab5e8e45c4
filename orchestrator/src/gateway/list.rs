//! Tasks page by page.

use axum::extract::{RawQuery, State};
use axum::{Extension, Json};
use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;

use super::query::Pairs;
use super::tasks::unfit;
use super::{Caller, Gateway, Problem};
use crate::{LIST_MAX, Priority, Status, Task, TaskFilter};

/// Tasks on a page unless the caller says how many.
const LIMIT_DEFAULT: usize = 50;

/// A page of tasks.
#[derive(Serialize, ToSchema)]
pub(super) struct TasksListed {
    success: bool,
    count: usize,
    tasks: Vec<Task>,
    /// Where the next page begins; null on the last one. A page may hold fewer tasks than asked for while more are to come.
    cursor: Option<String>,
}

/// List tasks
///
/// Live ones first, newest first; then those that have ended, by when they did.
#[utoipa::path(
    get, path = "/tasks", tag = "tasks", operation_id = "list_tasks",
    params(
        ("status" = Option<String>, Query, description = "Only these states, separated by commas", example = "pending,assigned"),
        ("type" = Option<String>, Query, description = "Only this type"),
        ("agent" = Option<String>, Query, description = "Only those assigned to this agent, which is their queue"),
        ("priority" = inline(Option<Priority>), Query, description = "Only this priority"),
        ("created_from" = Option<DateTime<Utc>>, Query, description = "Created at this instant or later"),
        ("created_before" = Option<DateTime<Utc>>, Query, description = "Created before this instant"),
        ("limit" = Option<usize>, Query, minimum = 1, maximum = 1000, description = "How many at most; 50 unless told"),
        ("cursor" = Option<String>, Query, description = "Where to go on: the `cursor` of the page before"),
    ),
    responses((status = 200, description = "A page", body = TasksListed)),
)]
pub(super) async fn list(
    State(gateway): State<Gateway>,
    Extension(caller): Extension<Caller>,
    RawQuery(query): RawQuery,
) -> Result<Json<TasksListed>, Problem> {
    let pairs = Pairs::read(query.unwrap_or_default().as_bytes());
    pairs.only(&["status", "type", "agent", "priority", "created_from", "created_before", "limit", "cursor"])?;
    let name = |what: &str| pairs.one(what).map(|name| name.filter(|name| !name.is_empty()).map(str::to_owned));
    let filter = TaskFilter {
        statuses: statuses(pairs.one("status")?)?,
        tenant: caller.tenant.clone(),
        task_type: name("type")?,
        queue: name("agent")?,
        priority: pairs.one("priority")?.map(str::parse).transpose()?,
        created_from: instant_of(&pairs, "created_from")?,
        created_before: instant_of(&pairs, "created_before")?,
    };
    let limit = match pairs.one("limit")? {
        None => LIMIT_DEFAULT,
        Some(text) => text
            .parse()
            .ok()
            .filter(|limit| (1..=LIST_MAX).contains(limit))
            .ok_or_else(|| unfit(&format!("limit: write a number from 1 to {LIST_MAX}")))?,
    };
    let cursor = name("cursor")?;
    let page = gateway.ask(gateway.orch.list(&filter, cursor.as_deref(), limit)).await?;
    Ok(Json(TasksListed { success: true, count: page.tasks.len(), tasks: page.tasks, cursor: page.cursor }))
}

/// States, separated by commas.
fn statuses(text: Option<&str>) -> Result<Vec<Status>, Problem> {
    let words = text.unwrap_or_default().split(',').map(str::trim).filter(|word| !word.is_empty());
    let known = |word: &str| Status::ALL.into_iter().find(|status| status.as_str() == word);
    words
        .map(|word| {
            known(word).ok_or_else(|| {
                let all = Status::ALL.map(Status::as_str).join(" ");
                unfit(&format!("status: `{}` is no status; known are: {all}", crate::error::excerpt(word)))
            })
        })
        .collect()
}

/// An instant in a query.
pub(super) fn instant_of(pairs: &Pairs, name: &str) -> Result<Option<DateTime<Utc>>, Problem> {
    let Some(text) = pairs.one(name)? else { return Ok(None) };
    let instant = DateTime::parse_from_rfc3339(text).map_err(|_| {
        unfit(&format!("{name}: an instant is written with its zone: 2030-01-31T12:00:00Z (in a URL, + is %2B)"))
    })?;
    Ok(Some(instant.to_utc()))
}
