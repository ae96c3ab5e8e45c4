//! What is done with many dead letters at once: counted first, then given a new life, or deleted for good.

use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::json;
use tokio::task::JoinSet;

use crate::dead_letters::{DeadLetter, Reader};
use crate::reprioritise::printable;
use crate::store::Items;
use crate::{DeadFilter, Error, NewEvent, Orchestrator, Result, TaskId};

/// Retries under way at once.
const CALLS_MAX: usize = 32;
/// Letters that one call of the script deletes: each is audited, which takes it 200 µs.
const FORGET_MAX: usize = 20;
/// Letters that are asked for in one step.
const STEP: usize = 200;
/// Refusals of which an example is told.
const EXAMPLES_MAX: usize = 10;

/// In whose name many dead letters are dealt with, and within which bounds.
#[derive(Clone, Debug, Default)]
pub struct DeadSweep {
    /// Who asks for it, for the audit.
    pub by: String,
    /// How many there were when they were counted: when more are found nothing is done.
    pub expected: Option<u64>,
    /// How many are dealt with at most, the newest first.
    pub limit: Option<usize>,
    /// How long letters are looked for, and then dealt with, at most.
    pub patience: Option<Duration>,
}

/// What became of the dead letters that were meant.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct DeadSwept {
    /// How many were meant.
    pub found: u64,
    /// How many were retried or deleted.
    pub done: u64,
    /// How many were refused: they stay dead letters.
    pub refused: u64,
    /// How many were no dead letters any more: retried or deleted by somebody else meanwhile.
    pub gone: u64,
    /// How many were left for another call, at the limit or when patience ran out.
    pub left: u64,
    /// Whether all dead letters were looked at. If not, there may be more that are meant.
    pub complete: bool,
    /// Some of those that were refused.
    pub examples: Vec<DeadRefusal>,
}

/// A dead letter that was not retried.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(feature = "gateway", derive(utoipa::ToSchema))]
#[non_exhaustive]
pub struct DeadRefusal {
    /// The task.
    pub task_id: TaskId,
    /// Why.
    pub error: String,
}

/// What is to be known of a letter that is deleted.
struct Doomed {
    id: TaskId,
    event: NewEvent,
}

impl Orchestrator {
    /// Counts dead letters. `progress` is told how many were looked at, of how many.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a filter that means nothing; [`Error::Unavailable`].
    pub async fn count_dead(
        &self,
        filter: &DeadFilter,
        sweep: &DeadSweep,
        progress: impl FnMut(u64, u64),
    ) -> Result<DeadSwept> {
        let mut swept = DeadSwept::default();
        swept.complete = self.each_dead(filter, sweep.patience, |_| swept.found += 1, progress).await?;
        Ok(swept)
    }

    /// Gives all dead letters that are meant a new life, as [`Orchestrator::retry_by`] does: those that are there when it
    /// begins, newest first. `progress` is told how many letters were looked at or dealt with, of how many.
    ///
    /// # Errors
    /// [`Error::Conflict`] when there are more than expected; nothing was done then. [`Error::Invalid`] for a filter that means
    /// nothing; [`Error::Unavailable`]: those that come later were not retried.
    pub async fn retry_dead(
        &self,
        filter: &DeadFilter,
        sweep: &DeadSweep,
        mut progress: impl FnMut(u64, u64),
    ) -> Result<DeadSwept> {
        let mut ids = Vec::new();
        let complete =
            self.each_dead(filter, sweep.patience, |letter| ids.push(letter.task.task_id), &mut progress).await?;
        let mut swept = begin(ids.len(), complete, sweep)?;
        let (mut calls, started) = (JoinSet::new(), Instant::now());
        let mut ids = ids.into_iter().take(sweep.limit.unwrap_or(usize::MAX));
        loop {
            while calls.len() < CALLS_MAX
                && sweep.patience.is_none_or(|patience| started.elapsed() < patience)
                && let Some(id) = ids.next()
            {
                let (orch, by) = (self.clone(), sweep.by.clone());
                calls.spawn(async move { (id, orch.retry_by(id, &by).await) });
            }
            let Some(call) = calls.join_next().await else { break };
            let (id, outcome) = call.map_err(|error| Error::corrupt(format!("a retry: {error}")))?;
            match outcome {
                Ok(()) => swept.done += 1,
                Err(Error::NotFound { .. }) if !self.store.is_dead(id).await? => swept.gone += 1,
                Err(error @ (Error::Conflict { .. } | Error::NotFound { .. })) => {
                    if !self.store.is_dead(id).await? {
                        swept.gone += 1;
                        continue;
                    }
                    swept.refused += 1;
                    if swept.examples.len() < EXAMPLES_MAX {
                        swept.examples.push(DeadRefusal { task_id: id, error: error.to_string() });
                    }
                }
                Err(error) => return Err(error),
            }
            progress(swept.done + swept.refused + swept.gone, swept.found);
        }
        Ok(ended(swept))
    }

    /// Deletes all dead letters that are meant, for good, with their journals: those that are there when it begins, newest
    /// first. Each is told by the event `task.deleted` and stands in the audit.
    ///
    /// # Errors
    /// As [`Orchestrator::retry_dead`].
    pub async fn delete_dead(
        &self,
        filter: &DeadFilter,
        sweep: &DeadSweep,
        mut progress: impl FnMut(u64, u64),
    ) -> Result<DeadSwept> {
        let mut doomed = Vec::new();
        let by = &sweep.by;
        let complete =
            self.each_dead(filter, sweep.patience, |letter| doomed.push(doom(&letter, by)), &mut progress).await?;
        let mut swept = begin(doomed.len(), complete, sweep)?;
        doomed.truncate(sweep.limit.unwrap_or(usize::MAX));
        let started = Instant::now();
        for some in doomed.chunks(FORGET_MAX) {
            if sweep.patience.is_some_and(|patience| started.elapsed() > patience) {
                break;
            }
            for word in self.forget(some, by).await? {
                if word == "deleted" { swept.done += 1 } else { swept.gone += 1 }
            }
            progress(swept.done + swept.gone, swept.found);
        }
        Ok(ended(swept))
    }

    /// Deletes one dead letter for good, in the name of `by`.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Conflict`] when the task has not failed; [`Error::Unavailable`].
    pub async fn delete_dead_letter(&self, id: TaskId, by: &str) -> Result {
        let letter = self.dead_letter(id).await?;
        match self.forget(&[doom(&letter, by)], by).await?.pop().as_deref() {
            Some("deleted") => Ok(()),
            Some("unknown") | None => Err(Error::NotFound { what: format!("task {id}") }),
            Some(_) => Err(Error::Conflict { what: format!("task {id} is no dead letter any more: it was retried") }),
        }
    }

    /// Has the script delete some letters; a word for each.
    async fn forget(&self, doomed: &[Doomed], by: &str) -> Result<Vec<String>> {
        self.store.freshen_time().await?;
        let now_ms = self.store.now_ms();
        let told =
            doomed.iter().map(|letter| Ok((self.store.new_id(now_ms), letter.event.write()?, letter.event.names())));
        let told: Vec<(TaskId, Vec<u8>, String)> = told.collect::<Result<_>>()?;
        let call = |_| {
            let call = self.store.call(&self.store.scripts().forget).arg(by);
            doomed.iter().zip(&told).fold(call, |call, (letter, (event_id, event, names))| {
                call.arg(letter.id.as_bytes()).arg(event_id.as_bytes()).arg(event.as_slice()).arg(names)
            })
        };
        let mut items = Items::of(self.store.repeat(call).await?)?;
        self.store.set_now_ms(items.next()?);
        if items.next::<u64>()? > 0 {
            self.store.tick_in(0);
        }
        doomed.iter().map(|_| items.next()).collect()
    }

    /// Shows all dead letters that are meant to `visit`, newest first. Returns whether all were looked at.
    pub(crate) async fn each_dead(
        &self,
        filter: &DeadFilter,
        patience: Option<Duration>,
        mut visit: impl FnMut(DeadLetter),
        mut progress: impl FnMut(u64, u64),
    ) -> Result<bool> {
        let mut reader = Reader::new(&self.store, filter)?;
        let (all, started, mut looked) = (self.store.dead_count().await?, Instant::now(), 0);
        while !reader.ended {
            if patience.is_some_and(|patience| started.elapsed() > patience) {
                return Ok(false);
            }
            let step = reader.step(STEP, STEP).await?;
            looked += step.letters as u64;
            step.meant.into_iter().for_each(&mut visit);
            progress(looked.min(all), all);
        }
        Ok(true)
    }
}

/// Refuses to do more than was expected.
fn begin(found: usize, complete: bool, sweep: &DeadSweep) -> Result<DeadSwept> {
    let found = found as u64;
    match sweep.expected {
        Some(expected) if found > expected => Err(Error::Conflict {
            what: format!(
                "{found} dead letters are meant by now, not {expected}: nothing was done. Look at them again"
            ),
        }),
        _ => Ok(DeadSwept { found, complete, ..DeadSwept::default() }),
    }
}

fn ended(swept: DeadSwept) -> DeadSwept {
    DeadSwept { left: swept.found - swept.done - swept.refused - swept.gone, ..swept }
}

fn doom(letter: &DeadLetter, by: &str) -> Doomed {
    let task = &letter.task;
    let told = json!({
        "task_type": task.task_type,
        "queue": task.queue,
        "reason": task.reason,
        "fingerprint": letter.fingerprint,
        "by": by,
    });
    let event = NewEvent::new("task.deleted", &told).task(task.task_id).source(&printable(by)).trace_id(&task.trace_id);
    // Its readers cannot ask the task any more whose it was.
    let event = task.tenant.iter().fold(event, |event, tenant| event.metadata("tenant", tenant.as_str()));
    Doomed { id: task.task_id, event }
}
