//! Firing schedules: what is due becomes tasks. Any number of processes do it at the same time; a script lets one of them.

use std::time::{Duration, Instant};

use rand::seq::SliceRandom;

use crate::new_task::Draft;
use crate::schedule::{CatchUp, Definition, Overlap, State, tick_id};
use crate::store::{Change, Fault, Fired, Stored, Ticks};
use crate::{Error, Orchestrator, Result, TaskId};

/// Schedules looked at in one go.
const AT_ONCE: usize = 25;
/// How long one call fires before it lets its caller see to other things.
const FOR: Duration = Duration::from_millis(500);
/// When a tick that found no room in memory is tried again.
const MEMORY_PAUSE_MS: u64 = 5_000;
/// When one that found no room in its queue is tried again.
const QUEUE_PAUSE_MS: u64 = 10_000;
/// When one is tried again that failed as nobody expects.
const TROUBLE_PAUSE_MS: u64 = 60_000;

impl Orchestrator {
    /// The task of one tick, as it is to be stored. Whose schedule it is has submitted it; `by`, who has it made now, if the
    /// schedule names nobody. Neither may decide on it.
    pub(crate) async fn run_of(
        &self,
        name: &str,
        definition: &Definition,
        (tick_ms, id): (u64, TaskId),
        by: Option<&str>,
    ) -> Result<Draft> {
        let mut task = definition.task(name, tick_ms).requested_by_default(by);
        if let Some(by) = by.filter(|by| definition.template.requested_by.is_some() && !is_maker(definition, by)) {
            task = task.asked_by(by);
        }
        let mut draft = crate::submit::draft_of(self, task, id).await?;
        if definition.overlap == Overlap::Queue {
            crate::record::make_followed(&mut draft.record);
        }
        Ok(draft)
    }

    /// Fires schedules that are due, for half a second or so. Returns whether some may be left.
    ///
    /// # Errors
    /// [`Error::Unavailable`]. What is wrong with one schedule is noted on it and stops no other.
    pub(crate) async fn fire_schedules(&self) -> Result<bool> {
        let started = Instant::now();
        loop {
            let (now_ms, mut due) = self.store.schedules_due(AT_ONCE).await?;
            if due.is_empty() {
                return Ok(false);
            }
            // Whoever does the same now begins elsewhere.
            due.shuffle(&mut rand::rng());
            for schedule in &due {
                self.fire_one(schedule, now_ms).await?;
                if started.elapsed() > FOR {
                    return Ok(true);
                }
            }
        }
    }

    /// Sees to one schedule that is due: fires it, or puts it off.
    pub(crate) async fn fire_one(&self, stored: &Stored, now_ms: u64) -> Result {
        let (name, digest, state) = (stored.name.as_str(), stored.digest(), State::read(&stored.state));
        let awaited = state.next.as_str();
        let (definition, timing) = match Definition::read(&stored.definition) {
            Ok(read) => read,
            Err(error) => {
                // Others may be of a later version, and able to.
                tracing::error!(schedule = name, %error, "a schedule cannot be read and is put off");
                let why = error.to_string();
                let look_ms = Some(now_ms + TROUBLE_PAUSE_MS);
                let change = Change::Defer { digest, awaited, look_ms, why: &why };
                return self.store.change_schedule(name, change).await.map(drop);
            }
        };
        let waiting = state.waiting.first().copied().filter(|_| !stored.live);
        let due_ms = state.next_ms().filter(|due_ms| *due_ms <= now_ms);
        let (ticks, runs, next_ms, missed) = match (waiting, due_ms) {
            (Some(tick), _) => (Ticks::Waiting, vec![tick], state.next_ms(), 1),
            (None, Some(due_ms)) => {
                let plan = definition.plan(&timing, due_ms, now_ms);
                let due = Ticks::Due { awaited, next_ms: plan.next, missed: plan.missed };
                let all = plan.missed + plan.runs.len() as u64;
                (due, plan.runs, plan.next, all)
            }
            // Somebody else was first, or the run that it waited for has come back to life.
            (None, None) => {
                let change = match (state.next_ms(), timing.next_after(now_ms)) {
                    // What it waits for is gone, or nobody can read it.
                    (None, next_ms @ Some(_)) if state.paused.is_none() => {
                        Change::Drop { digest, awaited, next_ms, why: "", missed: 0, waiting: None }
                    }
                    (look_ms, _) => Change::Defer { digest, awaited, look_ms, why: "" },
                };
                return self.store.change_schedule(name, change).await.map(drop);
            }
        };
        let latest_ms = runs.last().copied().unwrap_or(now_ms);
        let mut drafts = Vec::with_capacity(runs.len());
        let mut fault = None;
        for tick_ms in runs {
            match self.run_of(name, &definition, (tick_ms, tick_id(name, tick_ms)), None).await {
                Ok(draft) => drafts.push((tick_ms, draft)),
                Err(error @ Error::Unavailable { .. }) => return Err(error),
                Err(error) => fault = Some(error),
            }
        }
        let fault = match fault {
            Some(fault) => fault,
            None => match self.store.fire(stored, ticks, definition.overlap, &drafts).await {
                Ok(_) => return Ok(()),
                Err(Fault::Final(error)) => error,
                Err(fault @ (Fault::Lost(_) | Fault::NotNow(_))) => return Err(fault.into_error()),
                Err(fault @ Fault::WrongType(_)) => fault.into_error(),
            },
        };
        let is_recent = now_ms.saturating_sub(latest_ms) < definition.within_ms && definition.catch_up != CatchUp::Skip;
        let pause_ms = match fault {
            Error::OutOfMemory => Some(MEMORY_PAUSE_MS),
            Error::QueueFull { .. } if is_recent => Some(QUEUE_PAUSE_MS),
            Error::QueueFull { .. } | Error::Invalid { .. } => None,
            _ => Some(TROUBLE_PAUSE_MS),
        };
        let why = match &fault {
            Error::QueueFull { queue, .. } => {
                Error::QueueFull { queue: queue.clone(), bound: self.config().queue_max }.to_string()
            }
            other => other.to_string(),
        };
        tracing::warn!(
            schedule = name,
            error = why,
            tried_again = pause_ms.is_some(),
            "a tick could not become a task"
        );
        let change = match pause_ms {
            Some(pause_ms) => Change::Defer { digest, awaited, look_ms: Some(now_ms + pause_ms), why: &why },
            None => Change::Drop { digest, awaited, next_ms, why: &why, missed, waiting },
        };
        self.store.change_schedule(name, change).await.map(drop)
    }

    /// A tick that comes now, and the id of its task.
    pub(crate) fn new_run(&self) -> (u64, TaskId) {
        let now_ms = self.store.now_ms();
        (now_ms, self.store.new_id(now_ms))
    }

    /// Fires once by hand, as by this tick.
    pub(crate) async fn fire_by_hand(
        &self,
        stored: &Stored,
        by: Option<&str>,
        (tick_ms, id): (u64, TaskId),
    ) -> Result<(TaskId, Fired)> {
        let (definition, _) = Definition::read(&stored.definition)?;
        let runs = [(tick_ms, self.run_of(&stored.name, &definition, (tick_ms, id), by).await?)];
        // A tick that waits keeps no name.
        let ticks = Ticks::ByHand { may_wait: by.is_none_or(|by| is_maker(&definition, by)) };
        let mut pause = Duration::from_millis(20);
        loop {
            match self.store.fire(stored, ticks, definition.overlap, &runs).await {
                Ok(fired) => return Ok((id, fired)),
                // The id tells a repeated call from another one.
                Err(Fault::Lost(_) | Fault::NotNow(_)) if pause < Duration::from_secs(5) => {
                    tokio::time::sleep(pause).await;
                    pause *= 2;
                }
                Err(fault) => {
                    return Err(match fault.into_error() {
                        Error::QueueFull { queue, .. } => Error::QueueFull { queue, bound: self.config().queue_max },
                        other => other,
                    });
                }
            }
        }
    }
}

/// Whether the tasks of a schedule are submitted in the name of `by`. Case says nothing about who somebody is.
fn is_maker(definition: &Definition, by: &str) -> bool {
    definition.template.requested_by.as_deref().is_some_and(|maker| maker.eq_ignore_ascii_case(by))
}
