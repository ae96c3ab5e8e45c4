//! A schedule as one process has read it, for tests that let others come in between.

use crate::schedules::{Whose, triggered};
use crate::store::Stored;
use crate::{Orchestrator, Result, Schedule, ScheduleChange, TaskId, Triggered};

/// What a process has read.
#[derive(Debug)]
pub struct SeenSchedule {
    now_ms: u64,
    stored: Stored,
}

impl SeenSchedule {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.stored.name
    }
}

#[doc(hidden)]
impl Orchestrator {
    /// Reads the schedules that are due, at most so many.
    ///
    /// # Errors
    /// [`Error::Unavailable`](crate::Error::Unavailable).
    pub async fn see_due_schedules(&self, most: usize) -> Result<Vec<SeenSchedule>> {
        let (now_ms, found) = self.store.schedules_due(most).await?;
        Ok(found.into_iter().map(|stored| SeenSchedule { now_ms, stored }).collect())
    }

    /// Reads a schedule, if it is there.
    ///
    /// # Errors
    /// [`Error::Unavailable`](crate::Error::Unavailable).
    pub async fn see_schedule(&self, name: &str) -> Result<Option<SeenSchedule>> {
        let (now_ms, mut found) = self.store.schedules_named(&[name.to_owned()]).await?;
        Ok(found.pop().map(|stored| SeenSchedule { now_ms, stored }))
    }

    /// What whoever finds it due does about it.
    ///
    /// # Errors
    /// As [`Orchestrator::tick`].
    pub async fn fire_seen(&self, seen: &SeenSchedule) -> Result {
        self.fire_one(&seen.stored, seen.now_ms).await
    }

    /// [`Schedules::trigger_by`](crate::Schedules::trigger_by), once, with this tick and task; `None` when it is not as it was seen.
    ///
    /// # Errors
    /// As there.
    pub async fn trigger_seen(
        &self,
        seen: &SeenSchedule,
        by: Option<&str>,
        run: (u64, TaskId),
    ) -> Result<Option<Triggered>> {
        triggered(seen.name(), self.fire_by_hand(&seen.stored, by, run).await?)
    }

    /// [`Schedules::put`](crate::Schedules::put), once, over what was seen under its name; `None` when that is not so any more.
    ///
    /// # Errors
    /// As there.
    pub async fn put_over_seen(
        &self,
        schedule: &Schedule,
        seen: Option<&SeenSchedule>,
    ) -> Result<Option<ScheduleChange>> {
        let there = seen.map_or((self.store.now_ms(), None), |seen| (seen.now_ms, Some(&seen.stored)));
        self.schedules().put_over(schedule.name(), schedule.define()?, Whose::Anybodys, there).await
    }

    /// [`Schedules::resume`](crate::Schedules::resume), once; `None` when it is not as it was seen.
    ///
    /// # Errors
    /// As there.
    pub async fn resume_seen(&self, seen: &SeenSchedule) -> Result<Option<bool>> {
        self.schedules().resume_as_read(seen.now_ms, &seen.stored).await
    }
}
