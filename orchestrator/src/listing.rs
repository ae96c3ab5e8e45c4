//! Pages of tasks, read without an index of their own: every page is a bounded amount of work, at any number of tasks.

mod cursor;
mod ended;
mod live;

use chrono::{DateTime, Utc};
use serde::Serialize;

use self::cursor::{Position, Step, floor, top};
use crate::store::{Place, Store};
use crate::{Error, Priority, Result, Status, Task, TaskId};

/// Tasks on one page at most.
pub const LIST_MAX: usize = 1000;
/// What one page may read: records, entries of the event stream and steps through keys, all together.
const READS_MAX: usize = 1000;
/// Bytes of records after which a page ends.
const PAGE_BYTES: usize = 16 << 20;
/// Tasks of one look-up at most.
const LOOKUP_MAX: usize = 200;

const LIVE: [Status; 4] = [Status::Pending, Status::Assigned, Status::InProgress, Status::Blocked];
/// The ended ones that are not dead letters.
const QUIET: [Status; 2] = [Status::Completed, Status::Cancelled];

/// Which tasks a listing tells. What is left empty takes all.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TaskFilter {
    /// Any of these states.
    pub statuses: Vec<Status>,
    /// This type.
    pub task_type: Option<String>,
    /// This queue; the queue is the agent.
    pub queue: Option<String>,
    /// This tenant.
    pub tenant: Option<String>,
    /// This priority.
    pub priority: Option<Priority>,
    /// Created at this instant or later, to the millisecond.
    pub created_from: Option<DateTime<Utc>>,
    /// Created before this instant, to the millisecond.
    pub created_before: Option<DateTime<Utc>>,
}

impl TaskFilter {
    fn wants(&self, statuses: &[Status]) -> bool {
        self.statuses.is_empty() || statuses.iter().any(|status| self.statuses.contains(status))
    }

    fn takes(&self, task: &Task) -> bool {
        self.wants(&[task.status])
            && self.task_type.as_ref().is_none_or(|task_type| *task_type == task.task_type)
            && self.queue.as_ref().is_none_or(|queue| *queue == task.queue)
            && (self.tenant.is_none() || self.tenant == task.tenant)
            && self.priority.is_none_or(|priority| priority == task.priority)
            && (self.oldest()..self.above()).contains(&task.task_id)
    }

    /// Whether more than the state is asked for, so that much of what is read may not be told.
    fn is_narrow(&self) -> bool {
        self.task_type.is_some()
            || self.queue.is_some()
            || self.tenant.is_some()
            || self.priority.is_some()
            || self.created_before.is_some()
    }

    fn earliest_ms(&self) -> u64 {
        self.created_from.map_or(0, |from| u64::try_from(from.timestamp_millis()).unwrap_or(0))
    }

    /// No smaller id is wanted.
    fn oldest(&self) -> TaskId {
        floor(self.earliest_ms())
    }

    /// Only smaller ids are wanted.
    fn above(&self) -> TaskId {
        self.created_before.map_or_else(top, |to| floor(u64::try_from(to.timestamp_millis()).unwrap_or(0)))
    }
}

/// One page of a listing.
///
/// **Order.** Live tasks first, newest first by id; then ended tasks, by when they ended, newest first, as far back as
/// the event stream reaches; then older failed tasks, by when they failed, newest first; then older completed and
/// cancelled ones by the four hours in which they ended, newest first, in no order within them. A filter that asks for
/// failed tasks alone tells all of them by when they failed. A slice of 65 seconds of creation that holds more than
/// 10,000 live tasks is told in no order within it.
///
/// **Bounds.** A page reads at most about 1,000 records, events and keys, and ends early behind 16 MiB of records. So a
/// page may hold fewer tasks than asked for, even none, while more are to come: only a page without a cursor is the last.
///
/// **While tasks change** every task that exists throughout is told, a manual retry aside, and each is told once, with
/// these exceptions: one that ends between two pages may be told twice, live and ended, and one may be told twice when
/// Redis rehashes a large slice or bucket, or trims the event stream beyond the cursor, between two pages. A task that is
/// submitted during the listing may be missing from it.
#[derive(Clone, Debug, Default, Serialize)]
#[non_exhaustive]
pub struct TaskPage {
    /// The tasks, at most as many as asked for.
    pub tasks: Vec<Task>,
    /// Where the next page begins; `None` on the last page. Opaque: letters, digits, `.` and `-`, at most 120 of them.
    /// It stays good for as long as the tasks do.
    pub cursor: Option<String>,
    /// Records that were met on the way and cannot be read; they are left where they are.
    pub unreadable: usize,
}

pub(crate) async fn page(store: &Store, filter: &TaskFilter, cursor: Option<&str>, limit: usize) -> Result<TaskPage> {
    if !(1..=LIST_MAX).contains(&limit) {
        return Err(Error::invalid(format!("a page holds 1 to {LIST_MAX} tasks, not {limit}")));
    }
    let untold_ends = store.has_untold_ends().await?;
    let mut reader = Reader {
        store,
        filter,
        limit,
        reads: READS_MAX,
        bytes: PAGE_BYTES,
        tasks: Vec::new(),
        unreadable: 0,
        untold_ends,
    };
    let mut position = match cursor {
        Some(text) => Some(text.parse()?),
        None => Some(Position::Live { below: top() }),
    };
    while let Some(at) = position
        && reader.has_room()
    {
        position = reader.advance(at).await?;
    }
    let cursor = position.map(|position| position.to_string());
    Ok(TaskPage { tasks: reader.tasks, cursor, unreadable: reader.unreadable })
}

/// A page being filled.
#[derive(Debug)]
struct Reader<'a> {
    store: &'a Store,
    filter: &'a TaskFilter,
    limit: usize,
    /// What may still be read.
    reads: usize,
    bytes: usize,
    tasks: Vec<Task>,
    unreadable: usize,
    /// Whether there are ends that the event stream does not tell.
    untold_ends: bool,
}

impl Reader<'_> {
    fn has_room(&self) -> bool {
        self.tasks.len() < self.limit && self.reads > 0 && self.bytes > 0
    }

    fn spend(&mut self, reads: usize) {
        self.reads = self.reads.saturating_sub(reads);
    }

    /// Reads on from `at`; returns where the page stands then, `None` at the end of the listing.
    async fn advance(&mut self, at: Position) -> Result<Option<Position>> {
        match at {
            Position::Live { below } if self.filter.wants(&LIVE) => self.live(below.min(self.filter.above())).await,
            Position::Crowd { below, slice, step } if self.filter.wants(&LIVE) => self.crowd(below, slice, step).await,
            Position::Live { .. } | Position::Crowd { .. } => Ok(self.behind_live()),
            Position::Recent { entry, done } => self.recent(entry, done).await,
            Position::Dead { until, below } if self.filter.wants(&[Status::Failed]) => self.dead(until, below).await,
            Position::Dead { until, .. } => Ok(self.behind_dead(until)),
            Position::Bucket { until, number, step } => self.bucket(until, number, step).await,
        }
    }

    fn behind_live(&self) -> Option<Position> {
        if self.filter.wants(&QUIET) {
            Some(Position::Recent { entry: (u64::MAX, u64::MAX), done: 0 })
        } else {
            // Failed ones alone are told by their own set from the start.
            let whole = Position::Dead { until: u64::MAX, below: (u64::MAX, top()) };
            self.filter.wants(&[Status::Failed]).then_some(whole)
        }
    }

    fn behind_dead(&self, until: u64) -> Option<Position> {
        self.filter.wants(&QUIET).then(|| Position::Bucket { until, number: u64::MAX, step: Step::at(0) })
    }

    /// Looks `ids` up in their order and takes those that are wanted and that `fits` likes, until the page is full.
    /// Returns how many of `ids` are dealt with.
    async fn take(&mut self, ids: &[TaskId], place: Place, fits: impl Fn(usize, &Task) -> bool) -> Result<usize> {
        let mut done = 0;
        while done < ids.len() && self.has_room() {
            let wanted = if self.filter.is_narrow() { LOOKUP_MAX } else { self.limit - self.tasks.len() };
            let rest = &ids[done..];
            let batch = &rest[..rest.len().min(wanted).min(LOOKUP_MAX).min(self.reads)];
            let (looked, found) = self.store.look_up(batch, place).await?;
            let mut found = found.into_iter().peekable();
            for id in &batch[..looked.min(batch.len())] {
                if self.tasks.len() == self.limit {
                    return Ok(done);
                }
                if let Some(found) = found.next_if(|found| found.id == *id) {
                    self.bytes = self.bytes.saturating_sub(found.parts[1].len());
                    let [place, record, children, number] = &found.parts;
                    match Task::told(*id, [place, record, children, number]) {
                        Ok(Some(task)) if self.filter.takes(&task) && fits(done, &task) => self.tasks.push(task),
                        Ok(_) => {}
                        Err(error) => {
                            tracing::warn!(task = %id, %error, "a record cannot be read; a listing goes on without it");
                            self.unreadable += 1;
                        }
                    }
                }
                self.spend(1);
                done += 1;
            }
        }
        Ok(done)
    }
}
