//! The ended tasks: by the event stream as far back as it reaches, older ones by the set of dead letters and by bucket.
//!
//! Who tells what is decided by the instant at which a task ended, against the *horizon*: the millisecond of the oldest
//! entry in the stream. An entry is written by the script that ends the task and is never stamped earlier than the end;
//! so what ended above the horizon has its entry in the stream, and is told from there; what ended at the horizon or
//! before is left to the other two. A stream that is trimmed meanwhile raises the horizon for what is not told yet.

use std::ops::RangeInclusive;

use super::cursor::{Position, Step, top};
use super::live::{below_last, falling};
use super::{LOOKUP_MAX, Reader};
use crate::event;
use crate::store::{BUCKET_MS, EntryId, Fields, Hash, Place};
use crate::{Result, Status, Task, TaskId};

/// Entries of the stream asked for at once, at most.
const ENTRIES: usize = 100;
/// How far the clocks of those who make ids may be ahead of the server's, in milliseconds.
const AHEAD_MS: u64 = 60_000;

/// One end of one task, as an event tells it.
#[derive(Debug)]
struct End {
    id: TaskId,
    /// The task's number of changes when it had ended.
    changes: u32,
    entry: EntryId,
    /// How many ends of the entry are told when this one is.
    done: usize,
}

/// The ends in an entry, last first, with those to be told behind the first `skip`.
fn ends((entry, fields): &(EntryId, Fields), skip: usize, wants: impl Fn(Status) -> bool) -> (usize, Vec<End>) {
    let told = event::unpack(fields).into_iter().rev().filter_map(|event| {
        let status = Status::ALL.into_iter().find(|status| {
            status.is_terminal() && event.event_type.strip_prefix("task.").is_some_and(|word| word == status.as_str())
        })?;
        Some((event.task_id, event.number, status))
    });
    let all: Vec<_> = told.collect();
    let ends = all
        .iter()
        .enumerate()
        .skip(skip)
        .filter(|(_, (_, _, status))| wants(*status))
        .map(|(i, (id, changes, _))| End { id: *id, changes: *changes, entry: *entry, done: i + 1 });
    (all.len(), ends.collect())
}

fn ended_ms(task: &Task) -> u64 {
    task.completed_at.map_or(0, |at| u64::try_from(at.timestamp_millis()).unwrap_or(0))
}

impl Reader<'_> {
    /// What ended at this millisecond or later may have been created late enough.
    fn ended_from(&self) -> u64 {
        self.filter.earliest_ms().saturating_sub(AHEAD_MS)
    }

    /// Tells ended tasks by their events, from an entry backwards.
    pub(super) async fn recent(&mut self, entry: EntryId, done: usize) -> Result<Option<Position>> {
        // Two at least: the first is the one where the page before stopped.
        let count = (self.limit - self.tasks.len()).clamp(10, ENTRIES).min(self.reads.max(2));
        let entries = self.store.events_back(entry, count).await?;
        self.spend(entries.len());
        // Asked after the entries, so that nothing is trimmed unseen between them and the horizon.
        let begin = self.store.events_begin().await?;
        let fresh = entry.0 == u64::MAX;
        let older = |until| Ok(Some(Position::Dead { until, below: (until, top()) }));
        if fresh && self.untold_ends {
            // The stream does not know them all.
            return older(entry.0);
        }
        let Some(begin) = begin.filter(|begin| fresh || *begin <= entry) else {
            // Trimmed beyond the cursor, or not there at all.
            return older(entry.0);
        };
        let mut told = Vec::new();
        let mut last = (entry, done);
        for item in &entries {
            let skip = if item.0 == entry { done } else { 0 };
            let (all, some) = ends(item, skip, |status| self.filter.wants(&[status]));
            last = (item.0, all);
            told.extend(some);
        }
        let ids: Vec<TaskId> = told.iter().map(|end| end.id).collect();
        let near = entries.first().map_or(0, |((ms, _), _)| ms / BUCKET_MS);
        // A task that ended, was given a new life and ended again is told by its last end alone.
        let fits = |i: usize, task: &Task| told[i].changes == task.changes && ended_ms(task) > begin.0;
        let taken = self.take(&ids, Place::Ended(near), fits).await?;
        if taken < ids.len() {
            let at = taken.checked_sub(1).map_or((entry, done), |i| (told[i].entry, told[i].done));
            return Ok(Some(Position::Recent { entry: at.0, done: at.1 }));
        }
        if last.0.0 < self.ended_from() {
            return Ok(None);
        }
        if entries.len() < count { older(begin.0) } else { Ok(Some(Position::Recent { entry: last.0, done: last.1 })) }
    }

    /// Tells dead letters that failed until a millisecond, below the last one told.
    pub(super) async fn dead(&mut self, until: u64, below: (u64, TaskId)) -> Result<Option<Position>> {
        let mut skip = 0;
        let (ids, whole) = loop {
            let (read, mut ids) = self.store.dead(below.0.min(until), self.ended_from(), skip, LOOKUP_MAX).await?;
            ids.retain(|letter| *letter < below);
            if read < LOOKUP_MAX || !ids.is_empty() {
                break (ids, read < LOOKUP_MAX);
            }
            // As many as were asked for failed in the millisecond of the last one told.
            skip += LOOKUP_MAX;
        };
        let names: Vec<TaskId> = ids.iter().map(|(_, id)| *id).collect();
        let taken = self.take(&names, Place::Ended(0), |_, task| task.status == Status::Failed).await?;
        if taken < ids.len() || !whole {
            let below = taken.checked_sub(1).map_or(below, |last| ids[last]);
            return Ok(Some(Position::Dead { until, below }));
        }
        Ok(self.behind_dead(until))
    }

    /// Tells completed and cancelled tasks that ended until a millisecond, one step through a bucket.
    pub(super) async fn bucket(&mut self, until: u64, number: u64, step: Step) -> Result<Option<Position>> {
        let span: RangeInclusive<u64> = self.ended_from() / BUCKET_MS..=number.min(until / BUCKET_MS);
        let present = match step.place {
            0 => self.store.buckets().await?.into_iter().find(|n| span.contains(n)),
            _ => Some(number),
        };
        let Some(present) = present else { return Ok(None) };
        let step = if present == number { step } else { Step::at(0) };
        let (next, ids) = self.store.hash_step(Hash::Bucket(present), step.place).await?;
        self.spend(1);
        let ids = falling(ids, self.filter.oldest(), step.below);
        let fits = |_: usize, task: &Task| task.status != Status::Failed && ended_ms(task) <= until;
        let taken = self.take(&ids, Place::Ended(present), fits).await?;
        Ok(Some(if taken < ids.len() {
            let below = below_last(&ids, taken, step.below);
            Position::Bucket { until, number: present, step: Step { below, ..step } }
        } else if next > 0 {
            Position::Bucket { until, number: present, step: Step::at(next) }
        } else if let Some(number) = present.checked_sub(1) {
            Position::Bucket { until, number, step: Step::at(0) }
        } else {
            return Ok(None);
        }))
    }
}
