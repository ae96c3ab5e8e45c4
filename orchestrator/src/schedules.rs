//! Which schedules a namespace has. Workers and gateways fire them.

use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::schedule::{
    Definition, OF_HANDLERS, Overlap, SCHEDULES_MAX, State, Timing, check_schedule_name, far_off, next_of, tick_id,
};
use crate::store::{Change, Changed, Fired, SCHEDULES_READ_MAX, Stored};
use crate::{Error, Orchestrator, Result, Schedule, ScheduleStatus, TaskId};

/// Schedules of one page at most.
pub const SCHEDULES_PAGE_MAX: usize = 100;
/// Ticks that are told of a schedule that is looked at.
const UPCOMING: usize = 5;
/// How often a schedule is put that others change meanwhile.
const TRIES_MAX: usize = 20;
/// A last tick further ahead than this comes of a clock that had jumped.
const AHEAD_MAX_MS: u64 = 24 * 3_600_000;

/// What putting a schedule came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScheduleChange {
    /// There was none of that name.
    Created,
    /// There was one that was not the same.
    Changed,
    /// It was there as it is.
    Same,
}

/// What starting a run by hand came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Triggered {
    /// It runs, or will when a worker is free.
    Started(TaskId),
    /// It waits for the end of the last run.
    Waits,
}

/// One page of schedules, by name.
#[derive(Clone, Debug)]
pub struct SchedulePage {
    /// The schedules.
    pub schedules: Vec<ScheduleStatus>,
    /// What asks for the next page; `None` when this was the last.
    pub next: Option<String>,
}

/// The schedules of a namespace: [`Orchestrator::schedules`].
#[derive(Clone, Copy, Debug)]
pub struct Schedules<'o> {
    orch: &'o Orchestrator,
}

impl Orchestrator {
    /// The schedules of this namespace.
    #[must_use]
    pub fn schedules(&self) -> Schedules<'_> {
        Schedules { orch: self }
    }
}

impl Schedules<'_> {
    /// Adds a schedule, or puts it in the place of the one of its name. One that is the same is left as it is; one that comes at
    /// the same times keeps the tick that it waits for, also one that is due; another one begins with its next tick. Whether
    /// it is paused, and what is counted of it, stays.
    ///
    /// # Errors
    /// [`Error::Invalid`] for what cannot be; [`Error::Conflict`] for more than [`SCHEDULES_MAX`]; [`Error::Unavailable`].
    pub async fn put(&self, schedule: &Schedule) -> Result<ScheduleChange> {
        refuse_of_handlers(schedule.name())?;
        self.put_any(schedule, Whose::Anybodys).await
    }

    /// Adds a schedule of a new name. Adding the same one again changes nothing.
    ///
    /// # Errors
    /// As [`Schedules::put`]; [`Error::Conflict`] when another schedule has this name.
    pub async fn add(&self, schedule: &Schedule) -> Result<ScheduleChange> {
        self.put_by(schedule, Whose::Nobodys).await
    }

    /// [`Schedules::put`], as far as what is there may be replaced.
    pub(crate) async fn put_by(&self, schedule: &Schedule, whose: Whose<'_>) -> Result<ScheduleChange> {
        refuse_of_handlers(schedule.name())?;
        self.put_any(schedule, whose).await
    }

    async fn put_any(&self, schedule: &Schedule, whose: Whose<'_>) -> Result<ScheduleChange> {
        let name = schedule.name();
        check_schedule_name(name)?;
        let defined = schedule.define()?;
        for _ in 0..TRIES_MAX {
            let (now_ms, found) = self.orch.store.schedules_named(&[name.to_owned()]).await?;
            // Else somebody else has changed it meanwhile, or an earlier copy of this call did.
            if let Some(change) = self.put_over(name, defined.clone(), whose, (now_ms, found.first())).await? {
                return Ok(change);
            }
        }
        Err(Error::Conflict { what: format!("the schedule `{name}` changes all the time; try again later") })
    }

    /// Puts a schedule in the place of what was read under its name; `None` when that is not there any more.
    pub(crate) async fn put_over(
        &self,
        name: &str,
        (mut definition, timing): (Definition, Timing),
        whose: Whose<'_>,
        (now_ms, there): (u64, Option<&Stored>),
    ) -> Result<Option<ScheduleChange>> {
        // One that nobody can read belongs to nobody.
        let before = there.and_then(|there| Definition::read(&there.definition).ok()).map(|(before, _)| before);
        let owner = before.as_ref().and_then(|before| before.template.tenant.clone());
        if matches!(whose, Whose::Tenants(None)) && definition.template.tenant.is_none() {
            definition.template.tenant.clone_from(&owner);
        }
        let bytes = definition.write()?;
        // The same is put all the same: nobody may have been able to look at it for a while.
        let is_same = there.is_some_and(|there| there.definition == bytes);
        let is_taken = match whose {
            _ if is_same => false,
            Whose::Nobodys => there.is_some(),
            Whose::Tenants(Some(tenant)) => there.is_some() && owner.as_deref() != Some(tenant),
            Whose::Tenants(None) | Whose::Anybodys => false,
        };
        if is_taken {
            return Err(Error::Conflict {
                what: format!(
                    "another schedule has the name `{name}`; choose another name, or put this one in its place"
                ),
            });
        }
        // What would fail at every tick is refused now.
        if !is_same {
            self.orch.run_of(name, &definition, (now_ms, tick_id(name, now_ms)), None).await?;
        }
        let state = there.map(|there| State::read(&there.state)).unwrap_or_default();
        let kept = before.as_ref().and_then(|before| {
            let next_ms = state.next_ms()?;
            // A tick that is due and would come of the new one, too, is not lost.
            let is_ours = || timing.next_after(next_ms.saturating_sub(1)) == Some(next_ms);
            (before.comes_as(&definition) || next_ms <= now_ms && is_ours()).then_some(next_ms)
        });
        // A clock that was set back brings no tick again that has come.
        let from_ms = not_before(now_ms, &state);
        let next_ms = kept.or_else(|| timing.next_after(from_ms)).ok_or_else(|| far_off(name))?;
        let change = Change::Put {
            digest: there.map(Stored::digest).unwrap_or_default(),
            awaited: &state.next,
            definition: &bytes,
            next_ms,
            max: SCHEDULES_MAX,
            may_wait: definition.overlap == Overlap::Queue,
        };
        match self.orch.store.change_schedule(name, change).await? {
            Changed::Full => Err(Error::Conflict {
                what: format!("there are {SCHEDULES_MAX} schedules, as many as there may be; remove one"),
            }),
            Changed::Done => {
                self.look_soon(next_ms.saturating_sub(now_ms));
                Ok(Some(match there {
                    Some(_) if is_same => ScheduleChange::Same,
                    Some(_) => ScheduleChange::Changed,
                    None => ScheduleChange::Created,
                }))
            }
            _ => Ok(None),
        }
    }

    /// Sees to a tick that comes before workers and gateways have heard of it: they look every 2 seconds.
    fn look_soon(&self, wait_ms: u64) {
        #[cfg(feature = "test-clock")]
        if self.orch.config().test_clock {
            return;
        }
        if wait_ms <= 3000 {
            let orch = self.orch.clone();
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(wait_ms)).await;
                if let Err(error) = orch.tick().await {
                    tracing::debug!(%error, "a schedule is left to others");
                }
            });
        }
    }

    async fn stored(&self, name: &str) -> Result<(u64, Stored)> {
        check_schedule_name(name)?;
        let (now_ms, mut found) = self.orch.store.schedules_named(&[name.to_owned()]).await?;
        let stored = found.pop().ok_or_else(|| Error::NotFound { what: format!("schedule `{name}`") })?;
        Ok((now_ms, stored))
    }

    /// One schedule, with its next five ticks.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Unavailable`].
    pub async fn get(&self, name: &str) -> Result<ScheduleStatus> {
        status(&self.stored(name).await?.1, UPCOMING)
    }

    /// A page of schedules by name, 1 to [`SCHEDULES_PAGE_MAX`]; `cursor` comes from the page before. Of all tenants, or of one.
    /// One that cannot be read is left out, and logged.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a limit out of its bounds; [`Error::Unavailable`].
    pub async fn list(&self, tenant: Option<&str>, cursor: Option<&str>, limit: usize) -> Result<SchedulePage> {
        if !(1..=SCHEDULES_PAGE_MAX).contains(&limit) {
            return Err(Error::invalid(format!("a page has 1 to {SCHEDULES_PAGE_MAX} schedules, not {limit}")));
        }
        let mut names = self.orch.store.schedule_names().await?;
        names.drain(..names.partition_point(|name| cursor.is_some_and(|cursor| name.as_str() <= cursor)));
        let mut schedules: Vec<ScheduleStatus> = Vec::new();
        for names in names.chunks(SCHEDULES_READ_MAX) {
            for stored in &self.orch.store.schedules_named(names).await?.1 {
                match status(stored, 1) {
                    Ok(one) if tenant.is_none() || one.task.tenant.as_deref() == tenant => {
                        if schedules.len() == limit {
                            let next = schedules.last().map(|last| last.name.clone());
                            return Ok(SchedulePage { schedules, next });
                        }
                        schedules.push(one);
                    }
                    Ok(_) => {}
                    Err(error) => tracing::warn!(schedule = stored.name, %error, "a schedule cannot be read"),
                }
            }
        }
        Ok(SchedulePage { schedules, next: None })
    }

    /// Removes a schedule. Its runs go on.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Unavailable`].
    pub async fn remove(&self, name: &str) -> Result {
        self.stored(name).await?;
        // That it is not there any more may be the work of an earlier copy of this call.
        self.orch.store.change_schedule(name, Change::Remove).await.map(drop)
    }

    /// Stops a schedule until it is resumed; ticks that come meanwhile are not made up for. `by` says who. Returns whether
    /// that was a change.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Unavailable`].
    pub async fn pause(&self, name: &str, by: Option<&str>) -> Result<bool> {
        check_schedule_name(name)?;
        let who: String = by.unwrap_or_default().chars().take(128).collect();
        self.changed(name, Change::Pause { who: &who }).await.map(|changed| changed == Changed::Done)
    }

    async fn changed(&self, name: &str, change: Change<'_>) -> Result<Changed> {
        match self.orch.store.change_schedule(name, change).await? {
            Changed::None => Err(Error::NotFound { what: format!("schedule `{name}`") }),
            changed => Ok(changed),
        }
    }

    /// Lets a paused schedule go on with its next tick. Returns whether that was a change.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Unavailable`].
    pub async fn resume(&self, name: &str) -> Result<bool> {
        loop {
            let (now_ms, stored) = self.stored(name).await?;
            if let Some(changed) = self.resume_as_read(now_ms, &stored).await? {
                return Ok(changed);
            }
        }
    }

    /// Lets a schedule go on that was read; `None` when it is not so any more.
    pub(crate) async fn resume_as_read(&self, now_ms: u64, stored: &Stored) -> Result<Option<bool>> {
        let name = &stored.name;
        let (_, timing) = Definition::read(&stored.definition)?;
        let from_ms = not_before(now_ms, &State::read(&stored.state));
        let next_ms = timing.next_after(from_ms).ok_or_else(|| Error::Conflict {
            what: format!("the schedule `{name}` does not come within five years; put another one in its place"),
        })?;
        match self.changed(name, Change::Resume { digest: stored.digest(), next_ms }).await? {
            Changed::Other => Ok(None),
            Changed::Done => {
                self.look_soon(next_ms.saturating_sub(now_ms));
                Ok(Some(true))
            }
            _ => Ok(Some(false)),
        }
    }

    /// Starts a run now, as a tick would; also of a paused schedule. Its ticks come as before.
    ///
    /// # Errors
    /// [`Error::Conflict`] when the last run has not ended, and the schedule says that then none begins; what
    /// [`Orchestrator::enqueue`] fails with; [`Error::NotFound`].
    pub async fn trigger(&self, name: &str) -> Result<Triggered> {
        self.trigger_by(name, None).await
    }

    /// [`Schedules::trigger`] in the name of `by`, who may not approve that run; nor may who submits the schedule's tasks. Where
    /// that is somebody else, it does not wait for the end of the last run: [`Error::Conflict`].
    ///
    /// # Errors
    /// As [`Schedules::trigger`].
    pub async fn trigger_by(&self, name: &str, by: Option<&str>) -> Result<Triggered> {
        loop {
            let (_, stored) = self.stored(name).await?;
            let fired = self.orch.fire_by_hand(&stored, by, self.orch.new_run()).await?;
            // Else it was changed meanwhile.
            if let Some(triggered) = triggered(name, fired)? {
                return Ok(triggered);
            }
        }
    }

    /// The next `n` ticks of a schedule, 100 at most; also of a paused one, as if it were resumed now.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Unavailable`].
    pub async fn upcoming(&self, name: &str, n: usize) -> Result<Vec<DateTime<Utc>>> {
        let (now_ms, stored) = self.stored(name).await?;
        let (_, timing) = Definition::read(&stored.definition)?;
        let from_ms = State::read(&stored.state).next_ms().map_or(now_ms, |next_ms| next_ms.saturating_sub(1));
        Ok(next_of(&timing, from_ms, n))
    }

    /// What a worker's handlers have as schedules, by task type: put where they are new or have changed, removed where there is
    /// none any more. Returns what was changed, by name.
    #[doc(hidden)]
    pub async fn settle(&self, handlers: &[(&str, Option<Schedule>)]) -> Result<Vec<(String, bool)>> {
        let names: Vec<String> = handlers.iter().map(|(task_type, _)| Self::of_handler(task_type)).collect();
        let mut there = Vec::new();
        for names in names.chunks(SCHEDULES_READ_MAX) {
            there.extend(self.orch.store.schedules_named(names).await?.1.into_iter().map(|stored| stored.name));
        }
        let mut changed = Vec::new();
        for ((_, schedule), name) in handlers.iter().zip(names) {
            match schedule {
                Some(schedule) if self.put_any(schedule, Whose::Anybodys).await? != ScheduleChange::Same => {
                    changed.push((name, true));
                }
                Some(_) => {}
                None if there.contains(&name) => {
                    self.orch.store.change_schedule(&name, Change::Remove).await?;
                    changed.push((name, false));
                }
                None => {}
            }
        }
        Ok(changed)
    }

    /// The name of the schedule that a handler of a type has.
    #[doc(hidden)]
    #[must_use]
    pub fn of_handler(task_type: &str) -> String {
        format!("{OF_HANDLERS}{task_type}")
    }
}

/// Which schedules may be replaced by one that is put.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(not(feature = "gateway"), allow(dead_code, reason = "gateways alone tell tenants apart"))]
pub(crate) enum Whose<'w> {
    /// None.
    Nobodys,
    /// Those of this tenant; for `None` those of all, which go on belonging to theirs.
    Tenants(Option<&'w str>),
    /// All.
    Anybodys,
}

/// Where the ticks of a schedule go on: a clock that was set back brings none again that has come.
fn not_before(now_ms: u64, state: &State) -> u64 {
    let last_ms = state.last_tick.filter(|last_ms| *last_ms <= now_ms.saturating_add(AHEAD_MAX_MS));
    last_ms.map_or(now_ms, |last_ms| last_ms.max(now_ms))
}

/// What a run by hand came to; `None` when the schedule is not as it was read any more.
pub(crate) fn triggered(name: &str, fired: (TaskId, Fired)) -> Result<Option<Triggered>> {
    match fired {
        (id, Fired::Done) => Ok(Some(Triggered::Started(id))),
        (_, Fired::Waits) => Ok(Some(Triggered::Waits)),
        (_, Fired::Live(last)) => {
            let last = last.map_or("its last run".into(), |last| format!("task {last}"));
            Err(Error::Conflict {
                what: format!("{last} has not ended, and `{name}` lets no other run begin beside it"),
            })
        }
        (_, Fired::Other) => Ok(None),
    }
}

fn refuse_of_handlers(name: &str) -> Result {
    match name.starts_with(OF_HANDLERS) {
        true => Err(Error::invalid(format!(
            "names that begin with `{OF_HANDLERS}` are of handlers with an attribute `cron`; choose another name"
        ))),
        false => Ok(()),
    }
}

fn status(stored: &Stored, upcoming: usize) -> Result<ScheduleStatus> {
    let (definition, timing) = Definition::read(&stored.definition)?;
    let state = State::read(&stored.state);
    Ok(ScheduleStatus::new(&stored.name, (&definition, &timing), &state, stored.live, upcoming))
}
