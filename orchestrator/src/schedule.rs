//! A schedule: when a task is made again and again, and what becomes of the ticks that cannot be had as they come. Pure.

mod definition;
mod status;

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

pub(crate) use self::definition::{Definition, State, Timing, next_of, tick_id};
pub use self::status::{ScheduleError, ScheduleStatus, ScheduledTask};
use crate::{Error, NewTask, Result, Span};

/// Schedules of a namespace at most.
pub const SCHEDULES_MAX: usize = 10_000;
/// Ticks of one schedule that wait at most ([`Overlap::Queue`]).
pub const TICKS_WAITING_MAX: usize = 100;
/// Missed ticks that are made up for at most ([`CatchUp::All`]).
pub const CATCH_UP_MAX: usize = 100;
/// How far back ticks are made up for, unless told.
pub const CATCH_UP_WITHIN_DEFAULT: Duration = Duration::from_secs(24 * 3600);
/// Largest payload of a schedule's task, in bytes of MessagePack.
pub const SCHEDULE_PAYLOAD_MAX: usize = 64 * 1024;
/// Names that begin so are of handlers.
pub(crate) const OF_HANDLERS: &str = "handler.";

/// What becomes of a tick while the last run of its schedule has not ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "gateway", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Overlap {
    /// It is left out. The default.
    #[default]
    Skip,
    /// It waits until the last run has ended; at most [`TICKS_WAITING_MAX`] do.
    Queue,
    /// The last run is cancelled, and the new one starts. A running handler is asked to stop, so both may run for a while.
    Replace,
    /// The new one starts beside it.
    Allow,
}

/// What becomes of ticks that came while no worker and no gateway was there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "gateway", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum CatchUp {
    /// One run, of the latest, for all of them. The default.
    #[default]
    Latest,
    /// Each one, the latest [`CATCH_UP_MAX`] of them, as far as the [`Overlap`] lets them.
    All,
    /// None: a tick that is more than a minute late is left out.
    Skip,
}

impl FromStr for Overlap {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "skip" => Ok(Self::Skip),
            "queue" => Ok(Self::Queue),
            "replace" => Ok(Self::Replace),
            "allow" => Ok(Self::Allow),
            _ => Err(Error::invalid(format!(
                "`{}` says nothing about an overlap; known are skip, queue, replace, allow",
                crate::error::excerpt(text)
            ))),
        }
    }
}

impl FromStr for CatchUp {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "latest" => Ok(Self::Latest),
            "all" => Ok(Self::All),
            "skip" => Ok(Self::Skip),
            _ => Err(Error::invalid(format!(
                "`{}` says nothing about catching up; known are latest, all, skip",
                crate::error::excerpt(text)
            ))),
        }
    }
}

impl fmt::Display for Overlap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(["skip", "queue", "replace", "allow"][*self as usize])
    }
}

impl fmt::Display for CatchUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(["latest", "all", "skip"][*self as usize])
    }
}

#[derive(Clone, Debug)]
enum When {
    Cron(String),
    Every(Span),
}

/// A schedule as somebody wants it. What is wrong with it is told when it is put.
#[derive(Clone, Debug)]
#[must_use = "a schedule does nothing until it is put"]
pub struct Schedule {
    name: String,
    when: When,
    zone: Option<String>,
    task: NewTask,
    overlap: Overlap,
    catch_up: CatchUp,
    within: Span,
    made_by: Option<String>,
}

impl Schedule {
    /// Makes `task` when the cron expression says so, in UTC unless [`Schedule::tz`] names a zone. The expression has five
    /// fields (minute, hour, day of the month, month, day of the week), six with a second before them, or is one of `@hourly`,
    /// `@daily`, `@weekly`, `@monthly`, `@yearly`. The name is 1 to 64 of `a-z 0-9 _ . -`.
    ///
    /// The task has the source `system`, unless it names one other than `user`.
    pub fn cron<T>(name: &str, expression: &str, task: NewTask<T>) -> Self {
        Self::new(name, When::Cron(expression.into()), task)
    }

    /// Makes `task` once in so long, from 1 second to 366 days: at the multiples of that time since 1970 (UTC), so that it is
    /// the same for whoever puts it.
    pub fn every<T>(name: &str, span: impl Into<Span>, task: NewTask<T>) -> Self {
        Self::new(name, When::Every(span.into()), task)
    }

    fn new<T>(name: &str, when: When, task: NewTask<T>) -> Self {
        Self {
            name: name.into(),
            when,
            zone: None,
            task: task.untyped(),
            overlap: Overlap::default(),
            catch_up: CatchUp::default(),
            within: CATCH_UP_WITHIN_DEFAULT.into(),
            made_by: None,
        }
    }

    /// The time zone of its cron expression: `Europe/Berlin`.
    pub fn tz(mut self, zone: &str) -> Self {
        self.zone = Some(zone.into());
        self
    }

    /// What becomes of a tick while the last run has not ended.
    pub fn overlap(mut self, overlap: Overlap) -> Self {
        self.overlap = overlap;
        self
    }

    /// What becomes of ticks that came while nobody was there.
    pub fn catch_up(mut self, catch_up: CatchUp) -> Self {
        self.catch_up = catch_up;
        self
    }

    /// How far back ticks are made up for, 1 minute to 366 days; a day unless called. Older ones are left out.
    pub fn catch_up_within(mut self, within: impl Into<Span>) -> Self {
        self.within = within.into();
        self
    }

    /// Who made it, for those who read it: at most 128 characters.
    pub fn made_by(mut self, who: &str) -> Self {
        self.made_by = Some(who.into());
        self
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Checks what can be checked without Redis.
    ///
    /// # Errors
    /// [`Error::Invalid`] for what cannot be.
    pub fn check(&self) -> Result {
        check_schedule_name(&self.name)?;
        let (_, timing) = self.define()?;
        match timing.next_after(u64::try_from(Utc::now().timestamp_millis()).unwrap_or(0)) {
            Some(_) => Ok(()),
            None => Err(far_off(&self.name)),
        }
    }

    /// Its first `n` ticks behind an instant, 100 at most.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an expression, a zone or a span that is none.
    pub fn upcoming(&self, after: DateTime<Utc>, n: usize) -> Result<Vec<DateTime<Utc>>> {
        let timing = self.timing()?;
        let after = u64::try_from(after.timestamp_millis()).unwrap_or(0);
        Ok(next_of(&timing, after, n))
    }
}

/// A schedule whose next tick nobody means.
pub(crate) fn far_off(name: &str) -> Error {
    Error::invalid(format!("the schedule `{name}` does not come within five years; nobody means that"))
}

/// Refuses what is no name for a schedule.
pub(crate) fn check_schedule_name(name: &str) -> Result {
    if matches!(name, "." | "..") {
        return Err(Error::invalid(format!(
            "`{name}` is no name for a schedule: no path of an address can end with it"
        )));
    }
    let own = name.strip_prefix(OF_HANDLERS).unwrap_or(name);
    crate::router::check_name("schedule", own)
}
