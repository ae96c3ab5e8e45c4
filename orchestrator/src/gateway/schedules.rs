//! Schedules over HTTP.

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, Request, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::new_task::{NewTaskBody, span, word};
use super::query::Pairs;
use super::schemas::Name;
use super::tasks::{check_known, unfit};
use super::{Caller, Gateway, Problem};
use crate::schedules::Whose;
use crate::{
    CatchUp, Error, NewTask, Overlap, SCHEDULES_PAGE_MAX, Schedule, ScheduleChange, ScheduleStatus, Span, TaskId,
    Triggered,
};

/// Schedules on a page unless the caller says how many.
const LIMIT_DEFAULT: usize = 50;

/// Both bodies say the same but for the name: what serde can flatten lets through fields that nobody knows.
macro_rules! bodies {
    ($($(#[$about:meta])* $field:ident: $type:ty,)+) => {
        /// When a task is made again and again, and what becomes of ticks that cannot be had as they come.
        #[derive(Deserialize, ToSchema)]
        #[serde(deny_unknown_fields, expecting = "an object that describes a schedule")]
        #[schema(as = NewSchedule, example = json!({
            "cron": "30 2 * * mon-fri",
            "time_zone": "Europe/Berlin",
            "task": {"type": "monitor", "payload": {"service": "shop"}},
            "overlap": "skip",
        }))]
        pub(super) struct ScheduleBody {
            $($(#[$about])* $field: $type,)+
        }

        /// A schedule and its name.
        #[derive(Deserialize, ToSchema)]
        #[serde(deny_unknown_fields, expecting = "an object that describes a schedule")]
        #[schema(as = NamedSchedule, example = json!({
            "name": "nightly",
            "cron": "30 2 * * mon-fri",
            "time_zone": "Europe/Berlin",
            "task": {"type": "monitor", "payload": {"service": "shop"}},
        }))]
        pub(super) struct NamedBody {
            /// Its name, in this namespace. Names that begin with `handler.` are of handlers.
            #[schema(value_type = Name, example = "nightly")]
            name: String,
            $($(#[$about])* $field: $type,)+
        }

        impl From<NamedBody> for (String, ScheduleBody) {
            fn from(body: NamedBody) -> Self {
                (body.name, ScheduleBody { $($field: body.$field,)+ })
            }
        }
    };
}

bodies! {
    /// Five fields (minute, hour, day of the month, month, day of the week), six with a second before them, or one of
    /// `@hourly`, `@daily`, `@weekly`, `@monthly`, `@yearly`. Not together with `every`.
    #[schema(max_length = 256)]
    cron: Option<String>,
    /// The time zone of `cron`, UTC unless told.
    #[schema(example = "Europe/Berlin")]
    time_zone: Option<String>,
    /// From tick to tick: one at each multiple of this time since 1970, UTC. At least a second.
    #[serde(default, deserialize_with = "span")]
    #[schema(value_type = Option<Span>)]
    every: Option<Span>,
    /// What is made at each tick. It takes nothing that is of one task alone: no parent, trace, deadline or instant.
    task: NewTaskBody,
    /// What becomes of a tick while the last run has not ended; `skip` unless told.
    #[serde(default, deserialize_with = "word")]
    overlap: Option<Overlap>,
    /// What becomes of ticks that came while nobody was there; `latest` unless told.
    #[serde(default, deserialize_with = "word")]
    catch_up: Option<CatchUp>,
    /// How far back those are made up for, from 1 minute on; a day unless told.
    #[serde(default, deserialize_with = "span")]
    #[schema(value_type = Option<Span>)]
    catch_up_within: Option<Span>,
}

/// One schedule.
#[derive(Serialize, ToSchema)]
pub(super) struct ScheduleTold {
    success: bool,
    schedule: ScheduleStatus,
}

/// What became of a schedule.
#[derive(Serialize, ToSchema)]
pub(super) struct ScheduleChanged {
    success: bool,
    /// Whether it was otherwise before.
    changed: bool,
    schedule: ScheduleStatus,
}

/// A page of schedules.
#[derive(Serialize, ToSchema)]
pub(super) struct SchedulesListed {
    success: bool,
    count: usize,
    /// By name; each with its next tick alone.
    schedules: Vec<ScheduleStatus>,
    /// Where the next page begins; null on the last one.
    cursor: Option<String>,
}

/// A schedule that is gone.
#[derive(Serialize, ToSchema)]
pub(super) struct ScheduleRemoved {
    success: bool,
    name: String,
}

/// A run that was started by hand.
#[derive(Serialize, ToSchema)]
pub(super) struct ScheduleTriggered {
    success: bool,
    /// The run; null while it waits for the end of the last one.
    task_id: Option<TaskId>,
    /// What became of it, in words.
    message: String,
}

type Named = Result<Path<String>, PathRejection>;

/// What is no name is the name of no schedule.
fn name_of(name: Named) -> Result<String, Problem> {
    let unknown = |what: String| Problem::new(StatusCode::NOT_FOUND, what);
    let Path(name) = name.map_err(|_| unknown("the name of a schedule is plain text".into()))?;
    crate::schedule::check_schedule_name(&name).map_err(|error| unknown(error.to_string()))?;
    Ok(name)
}

impl Gateway {
    /// The schedule, when it is there for this caller.
    async fn schedule_of(&self, caller: &Caller, name: &str) -> Result<ScheduleStatus, Problem> {
        let schedule = self.ask(self.orch.schedules().get(name)).await?;
        match caller.sees(schedule.task.tenant.as_deref()) {
            true => Ok(schedule),
            // In the words for one that nobody knows.
            false => Err(Error::NotFound { what: format!("schedule `{name}`") }.into()),
        }
    }

    /// Changes a schedule that this caller knows; `change` tells whether it was otherwise before.
    async fn change_schedule(
        &self,
        caller: &Caller,
        name: &str,
        change: impl Future<Output = Result<bool, Error>>,
    ) -> Result<Json<ScheduleChanged>, Problem> {
        self.schedule_of(caller, name).await?;
        let changed = self.change(change).await?;
        let schedule = self.schedule_of(caller, name).await?;
        Ok(Json(ScheduleChanged { success: true, changed, schedule }))
    }

    /// Puts what was asked for.
    async fn put_schedule(
        &self,
        caller: &Caller,
        name: &str,
        asked: ScheduleBody,
        is_new: bool,
    ) -> Result<ScheduleChanged, Problem> {
        check_known(self, caller, &asked.task.task_type).await.map_err(|problem| problem.of_field("task"))?;
        if asked.task.parent_task_id.is_some() {
            return Err(unfit("task.parent_task_id: a schedule makes its task at each tick; it has no parent"));
        }
        let task: NewTask = asked.task.into_task(None, None).requested_by(&caller.name);
        let task = match &caller.tenant {
            Some(tenant) => task.tenant(tenant),
            None => task,
        };
        let mut schedule = match (&asked.cron, asked.every) {
            (Some(cron), None) => Schedule::cron(name, cron, task),
            (None, Some(every)) => Schedule::every(name, every, task),
            _ => return Err(unfit("say when it comes: `cron` or `every`, one of the two")),
        };
        if let Some(zone) = &asked.time_zone {
            schedule = schedule.tz(zone);
        }
        if let Some(within) = asked.catch_up_within {
            schedule = schedule.catch_up_within(within);
        }
        let schedule = schedule
            .overlap(asked.overlap.unwrap_or_default())
            .catch_up(asked.catch_up.unwrap_or_default())
            .made_by(&caller.name);
        let whose = if is_new { Whose::Nobodys } else { Whose::Tenants(caller.tenant.as_deref()) };
        let change = self.change(self.orch.schedules().put_by(&schedule, whose)).await?;
        let schedule = self.schedule_of(caller, name).await?;
        Ok(ScheduleChanged { success: true, changed: change != ScheduleChange::Same, schedule })
    }
}

/// List schedules
#[utoipa::path(
    get, path = "/schedules", tag = "schedules", operation_id = "list_schedules",
    params(
        ("limit" = Option<usize>, Query, minimum = 1, maximum = 100, description = "How many at most; 50 unless told"),
        ("cursor" = Option<String>, Query, description = "Where to go on: the `cursor` of the page before"),
    ),
    responses((status = 200, description = "A page", body = SchedulesListed)),
)]
pub(super) async fn list(
    State(gateway): State<Gateway>,
    Extension(caller): Extension<Caller>,
    RawQuery(query): RawQuery,
) -> Result<Json<SchedulesListed>, Problem> {
    let pairs = Pairs::read(query.unwrap_or_default().as_bytes());
    pairs.only(&["limit", "cursor"])?;
    let limit = match pairs.one("limit")? {
        None => LIMIT_DEFAULT,
        Some(text) => text
            .parse()
            .ok()
            .filter(|limit| (1..=SCHEDULES_PAGE_MAX).contains(limit))
            .ok_or_else(|| unfit(&format!("limit: write a number from 1 to {SCHEDULES_PAGE_MAX}")))?,
    };
    let cursor = pairs.one("cursor")?.filter(|cursor| !cursor.is_empty());
    let page = gateway.ask(gateway.orch.schedules().list(caller.tenant.as_deref(), cursor, limit)).await?;
    Ok(Json(SchedulesListed {
        success: true,
        count: page.schedules.len(),
        schedules: page.schedules,
        cursor: page.next,
    }))
}

/// Create a schedule
///
/// From its next tick on, a task is made at each: once, whichever worker or gateway sees to it. Creating the same one again
/// changes nothing.
#[utoipa::path(
    post, path = "/schedules", tag = "schedules", operation_id = "create_schedule",
    request_body = NamedBody,
    responses(
        (status = 200, description = "The schedule", body = ScheduleChanged),
        (status = 400, description = "The body is not sound JSON, or the type is not known; `known_types` lists those that are"),
        (status = 409, description = "Another schedule has this name, or there are 10,000"),
    ),
)]
pub(super) async fn create(
    State(gateway): State<Gateway>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Result<Json<ScheduleChanged>, Problem> {
    let (body, _place) = gateway.read_body::<NamedBody>(request).await?;
    let (name, schedule) = body.into();
    Ok(Json(gateway.put_schedule(&caller, &name, schedule, true).await?))
}

/// Read a schedule
///
/// When it comes, what it makes, how it stands, and its next five ticks.
#[utoipa::path(
    get, path = "/schedules/{name}", tag = "schedules", operation_id = "read_schedule",
    params(("name" = Name, Path, description = "The schedule")),
    responses((status = 200, description = "The schedule", body = ScheduleTold)),
)]
pub(super) async fn read(
    State(gateway): State<Gateway>,
    Extension(caller): Extension<Caller>,
    name: Named,
) -> Result<Json<ScheduleTold>, Problem> {
    let schedule = gateway.schedule_of(&caller, &name_of(name)?).await?;
    Ok(Json(ScheduleTold { success: true, schedule }))
}

/// Create or replace a schedule
///
/// A tick that is due stays due when the new one has it too; whether it is paused, and what is counted of it, stays.
#[utoipa::path(
    put, path = "/schedules/{name}", tag = "schedules", operation_id = "put_schedule",
    params(("name" = Name, Path, description = "The schedule")),
    request_body = ScheduleBody,
    responses(
        (status = 200, description = "The schedule", body = ScheduleChanged),
        (status = 400, description = "The body is not sound JSON, or the type is not known; `known_types` lists those that are"),
        (status = 409, description = "A schedule that is not there for this caller has this name, or there are 10,000"),
    ),
)]
pub(super) async fn put(
    State(gateway): State<Gateway>,
    Extension(caller): Extension<Caller>,
    name: Named,
    request: Request,
) -> Result<Json<ScheduleChanged>, Problem> {
    let name = name_of(name)?;
    let (schedule, _place) = gateway.read_body(request).await?;
    Ok(Json(gateway.put_schedule(&caller, &name, schedule, false).await?))
}

/// Remove a schedule
///
/// Runs that it has made go on.
#[utoipa::path(
    delete, path = "/schedules/{name}", tag = "schedules", operation_id = "remove_schedule",
    params(("name" = Name, Path, description = "The schedule")),
    responses((status = 200, description = "It is gone", body = ScheduleRemoved)),
)]
pub(super) async fn remove(
    State(gateway): State<Gateway>,
    Extension(caller): Extension<Caller>,
    name: Named,
) -> Result<Json<ScheduleRemoved>, Problem> {
    let name = name_of(name)?;
    gateway.schedule_of(&caller, &name).await?;
    gateway.change(gateway.orch.schedules().remove(&name)).await?;
    Ok(Json(ScheduleRemoved { success: true, name }))
}

/// Pause a schedule
///
/// Ticks that come until it is resumed are not made up for.
#[utoipa::path(
    post, path = "/schedules/{name}/pause", tag = "schedules", operation_id = "pause_schedule",
    params(("name" = Name, Path, description = "The schedule")),
    responses((status = 200, description = "How it stands", body = ScheduleChanged)),
)]
pub(super) async fn pause(
    State(gateway): State<Gateway>,
    Extension(caller): Extension<Caller>,
    name: Named,
) -> Result<Json<ScheduleChanged>, Problem> {
    let name = name_of(name)?;
    gateway.change_schedule(&caller, &name, gateway.orch.schedules().pause(&name, Some(&caller.name))).await
}

/// Resume a schedule
///
/// It goes on with its next tick.
#[utoipa::path(
    post, path = "/schedules/{name}/resume", tag = "schedules", operation_id = "resume_schedule",
    params(("name" = Name, Path, description = "The schedule")),
    responses(
        (status = 200, description = "How it stands", body = ScheduleChanged),
        (status = 409, description = "It does not come within five years"),
    ),
)]
pub(super) async fn resume(
    State(gateway): State<Gateway>,
    Extension(caller): Extension<Caller>,
    name: Named,
) -> Result<Json<ScheduleChanged>, Problem> {
    let name = name_of(name)?;
    gateway.change_schedule(&caller, &name, gateway.orch.schedules().resume(&name)).await
}

/// Start a run now
///
/// As a tick would, by the same rules; also of a paused schedule. Whoever asks for it may not approve it.
#[utoipa::path(
    post, path = "/schedules/{name}/trigger", tag = "schedules", operation_id = "trigger_schedule",
    params(("name" = Name, Path, description = "The schedule")),
    responses(
        (status = 200, description = "It is there, or waits", body = ScheduleTriggered),
        (status = 409, description = "The last run has not ended, and its overlap lets no other one begin"),
        (status = 429, description = "Too many requests, or the queue is full; `Retry-After` tells when to come again"),
    ),
)]
pub(super) async fn trigger(
    State(gateway): State<Gateway>,
    Extension(caller): Extension<Caller>,
    name: Named,
) -> Result<Json<ScheduleTriggered>, Problem> {
    let name = name_of(name)?;
    gateway.schedule_of(&caller, &name).await?;
    let triggered = gateway.change(gateway.orch.schedules().trigger_by(&name, Some(&caller.name))).await?;
    let (task_id, message) = match triggered {
        Triggered::Started(id) => (Some(id), format!("A run of {name} is created")),
        Triggered::Waits => (None, format!("A run of {name} waits for the end of the last one")),
    };
    Ok(Json(ScheduleTriggered { success: true, task_id, message }))
}
