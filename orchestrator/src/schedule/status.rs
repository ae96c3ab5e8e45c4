//! A schedule as people and programs see it.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::definition::{Definition, State, Timing, next_of};
use super::{CatchUp, Overlap};
use crate::task::{instant, to_json};
use crate::{Priority, Source, TaskId};

/// What a schedule makes at each tick.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "gateway", derive(utoipa::ToSchema))]
#[non_exhaustive]
pub struct ScheduledTask {
    /// What kind of work it is.
    #[serde(rename = "type")]
    pub task_type: String,
    /// The handler's input.
    pub payload: Value,
    /// Its queue, where routing by type is not wanted.
    pub queue: Option<String>,
    /// Its order within the queue.
    pub priority: Priority,
    /// Who asks.
    pub source: Source,
    /// Attempts that may follow the first.
    pub max_retries: u8,
    /// Free fields; `schedule` and `scheduled_for` are added at each tick.
    pub metadata: Map<String, Value>,
    /// Total time that it may take, from its tick.
    pub sla_target: Option<String>,
    /// Whoever it is submitted for.
    pub requested_by: Option<String>,
    /// The tenant that schedule and tasks belong to.
    pub tenant: Option<String>,
}

/// Why a tick of a schedule could not become a task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "gateway", derive(utoipa::ToSchema))]
pub struct ScheduleError {
    /// When that was.
    pub at: DateTime<Utc>,
    /// What stood in the way.
    pub error: String,
}

/// One schedule in full: when it comes, what it makes, how it stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "gateway", derive(utoipa::ToSchema))]
#[non_exhaustive]
pub struct ScheduleStatus {
    /// Its name.
    pub name: String,
    /// The cron expression, unless it comes every so often.
    pub cron: Option<String>,
    /// The time zone of the cron expression.
    pub time_zone: Option<String>,
    /// The time from tick to tick, unless it has a cron expression.
    pub every: Option<String>,
    /// What is made at each tick.
    pub task: ScheduledTask,
    /// What becomes of a tick while the last run has not ended.
    pub overlap: Overlap,
    /// What becomes of ticks that came while nobody was there.
    pub catch_up: CatchUp,
    /// How far back those are made up for.
    pub catch_up_within: String,
    /// Who made it.
    pub made_by: Option<String>,
    /// When it was made.
    pub created_at: Option<DateTime<Utc>>,
    /// When it was last put with something changed.
    pub changed_at: Option<DateTime<Utc>>,
    /// Whether it is paused.
    pub paused: bool,
    /// Who paused it.
    pub paused_by: Option<String>,
    /// Its next ticks; none while it is paused.
    pub upcoming: Vec<DateTime<Utc>>,
    /// The last tick that became a task.
    pub last_tick: Option<DateTime<Utc>>,
    /// That task.
    pub last_task_id: Option<TaskId>,
    /// Whether that one has not ended.
    pub last_is_live: bool,
    /// Ticks that wait until it has ended, oldest first.
    pub waiting: Vec<DateTime<Utc>>,
    /// Ticks that became tasks.
    pub fired: u64,
    /// Ticks that were left out because of a run that had not ended.
    pub skipped: u64,
    /// Ticks that were left out because nobody was there, or no task could be made.
    pub missed: u64,
    /// What stood in the way of the last tick, until one comes through.
    pub error: Option<ScheduleError>,
}

impl ScheduleStatus {
    pub(crate) fn new(
        name: &str,
        (definition, timing): (&Definition, &Timing),
        state: &State,
        live: bool,
        n: usize,
    ) -> Self {
        let span = |ms| humantime::format_duration(std::time::Duration::from_millis(ms)).to_string();
        let template = &definition.template;
        let upcoming = state.next_ms().filter(|_| n > 0 && state.paused.is_none()).map(|next| {
            let mut ticks = vec![instant(next)];
            ticks.extend(next_of(timing, next, n - 1));
            ticks
        });
        Self {
            name: name.into(),
            cron: definition.cron.clone(),
            time_zone: definition.zone.clone(),
            every: definition.every_ms.map(span),
            task: ScheduledTask {
                task_type: template.task_type.clone(),
                payload: to_json(&template.payload),
                queue: template.queue.clone(),
                priority: template.priority,
                source: template.source,
                max_retries: template.max_retries,
                metadata: template.metadata.clone(),
                sla_target: template.sla_target.clone(),
                requested_by: template.requested_by.clone(),
                tenant: template.tenant.clone(),
            },
            overlap: definition.overlap,
            catch_up: definition.catch_up,
            catch_up_within: span(definition.within_ms),
            made_by: definition.made_by.clone(),
            created_at: state.created.map(instant),
            changed_at: state.changed.map(instant),
            paused: state.paused.is_some(),
            paused_by: state.paused.clone().filter(|who| !who.is_empty()),
            upcoming: upcoming.unwrap_or_default(),
            last_tick: state.last_tick.map(instant),
            last_task_id: state.last_id,
            last_is_live: live,
            waiting: state.waiting.iter().copied().map(instant).collect(),
            fired: state.fired,
            skipped: state.skipped,
            missed: state.missed,
            error: state.error.clone().map(|(at, error)| ScheduleError { at: instant(at), error }),
        }
    }
}
