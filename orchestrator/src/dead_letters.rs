//! Dead letters: tasks that have failed, kept for longer than others so that people can look at them. Newest first; filters
//! are applied to what is read, and each page is a bounded amount of work.

use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::dead_filter::DeadFilter;
use crate::store::{Place, Store};
use crate::task::instant;
use crate::{Error, Orchestrator, Result, Status, Task, TaskId};

/// Dead letters on one page at most.
pub const DEAD_LETTERS_PAGE_MAX: usize = 1000;
/// Letters that one page looks at.
const READS_MAX: usize = 1000;
/// Bytes of tasks after which a page ends.
const PAGE_BYTES: usize = 16 << 20;
/// Letters of one look-up at most.
const LOOKUP_MAX: usize = 200;
/// Entries of the event stream among which the end of a task is looked for.
const ENTRIES_MAX: usize = 200;

/// A task that has failed, and is still kept.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(feature = "gateway", derive(utoipa::ToSchema))]
#[non_exhaustive]
pub struct DeadLetter {
    /// When it failed.
    pub died_at: DateTime<Utc>,
    /// The same for failures that are alike; see [`fingerprint`](crate::fingerprint).
    pub fingerprint: String,
    /// Who had it when it failed, as long as the events of that time are kept; lists leave it out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub worker: Option<String>,
    /// The task, with its error, its attempts and its crashes.
    pub task: Task,
}

/// Some dead letters, newest first.
///
/// A page may hold fewer than asked for, even none, while more are to come: only a page without a cursor is the last. While
/// letters come and go every one that exists throughout is told once; those that come during the listing are not.
#[derive(Clone, Debug, Default, Serialize)]
#[non_exhaustive]
pub struct DeadPage {
    /// The letters.
    pub letters: Vec<DeadLetter>,
    /// Where the next page begins; `None` on the last page. Opaque.
    pub cursor: Option<String>,
    /// Letters that were met on the way and cannot be read.
    pub unreadable: usize,
}

impl DeadLetter {
    fn of(task: Task) -> Self {
        let (reason, error) = (task.reason.as_deref().unwrap_or_default(), task.error.as_deref().unwrap_or_default());
        let fingerprint = crate::fingerprint(&task.task_type, reason, error);
        Self { died_at: task.completed_at.unwrap_or_default(), fingerprint, worker: None, task }
    }
}

impl Orchestrator {
    /// A page of dead letters; `cursor` comes from the page before, `limit` is 1 to [`DEAD_LETTERS_PAGE_MAX`] letters.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a filter that means nothing, a limit out of its bounds and a text that is no cursor;
    /// [`Error::Unavailable`].
    pub async fn dead_letters(&self, filter: &DeadFilter, cursor: Option<&str>, limit: usize) -> Result<DeadPage> {
        if !(1..=DEAD_LETTERS_PAGE_MAX).contains(&limit) {
            let what = format!("a page holds 1 to {DEAD_LETTERS_PAGE_MAX} dead letters, not {limit}");
            return Err(Error::invalid(what));
        }
        let mut reader = Reader::new(&self.store, filter)?;
        if let Some(text) = cursor {
            reader.below = place(text)?;
        }
        let (mut page, mut reads, mut bytes) = (DeadPage::default(), READS_MAX, PAGE_BYTES);
        while page.letters.len() < limit && reads > 0 && bytes > 0 && !reader.ended {
            let looked = reader.step(reads, limit - page.letters.len()).await?;
            reads = reads.saturating_sub(looked.letters.max(1));
            bytes = bytes.saturating_sub(looked.bytes);
            page.letters.extend(looked.meant);
            page.unreadable += looked.unreadable;
        }
        let (ms, id) = reader.below;
        page.cursor = (!reader.ended).then(|| format!("x.{ms}.{id}"));
        Ok(page)
    }

    /// One dead letter, with whoever had it last, if that is known still.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Conflict`] when the task has not failed; [`Error::Unavailable`].
    pub async fn dead_letter(&self, id: TaskId) -> Result<DeadLetter> {
        let task = self.get(id).await?;
        if task.status != Status::Failed {
            return Err(Error::Conflict { what: format!("task {id} is {}: it is no dead letter", task.status) });
        }
        let letter = DeadLetter::of(task);
        let worker = self.last_worker(&letter).await?;
        Ok(DeadLetter { worker, ..letter })
    }

    /// Who told of the end of a letter's task.
    async fn last_worker(&self, letter: &DeadLetter) -> Result<Option<String>> {
        let died_ms = u64::try_from(letter.died_at.timestamp_millis()).unwrap_or(0);
        let entries = self.store.events_from((died_ms, 0), ENTRIES_MAX).await?;
        let ends = |fields: &crate::store::Fields| {
            crate::event::unpack(fields).iter().any(|event| {
                event.task_id == letter.task.task_id
                    && event.number == letter.task.changes
                    && event.event_type == "task.failed"
            })
        };
        let entry = entries.iter().find(|(_, fields)| ends(fields));
        let worker = entry.and_then(|(_, fields)| fields.iter().find(|(name, _)| name == b"w"));
        Ok(worker.map(|(_, worker)| String::from_utf8_lossy(worker).into_owned()))
    }
}

/// Where a page begins: behind a letter, by the millisecond of its failure and its id.
fn place(text: &str) -> Result<(u64, TaskId)> {
    let read = || {
        let (ms, id) = text.strip_prefix("x.")?.split_once('.')?;
        Some((ms.parse().ok()?, id.parse().ok()?))
    };
    read().ok_or_else(|| {
        let text = crate::error::excerpt(text);
        Error::invalid(format!("`{text}` is no cursor of dead letters; give back the one that came with a page"))
    })
}

/// Reads dead letters, newest first.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    store: &'a Store,
    filter: &'a DeadFilter,
    /// Older ones are still to be read.
    below: (u64, TaskId),
    /// Whether there are no more.
    pub(crate) ended: bool,
}

/// What one step has found.
#[derive(Debug, Default)]
pub(crate) struct Looked {
    /// Letters that it looked at.
    pub(crate) letters: usize,
    pub(crate) bytes: usize,
    pub(crate) unreadable: usize,
    /// Those that the filter means.
    pub(crate) meant: Vec<DeadLetter>,
}

impl<'a> Reader<'a> {
    /// # Errors
    /// [`Error::Invalid`] for a filter that means nothing.
    pub(crate) fn new(store: &'a Store, filter: &'a DeadFilter) -> Result<Self> {
        filter.check()?;
        let (_, newest) = filter.span();
        Ok(Self { store, filter, below: (newest, TaskId::from_bytes([u8::MAX; 14])), ended: false })
    }

    /// Looks at up to `reads` letters, until `room` of them are meant.
    pub(crate) async fn step(&mut self, reads: usize, room: usize) -> Result<Looked> {
        let most = if self.filter.is_narrow() { LOOKUP_MAX } else { room.min(LOOKUP_MAX) }.min(reads);
        let (ids, whole) = self.ids().await?;
        let batch: Vec<TaskId> = ids.iter().take(most).map(|(_, id)| *id).collect();
        if batch.is_empty() {
            self.ended = true;
            return Ok(Looked::default());
        }
        let (looked, found) = self.store.look_up(&batch, Place::Ended(0)).await?;
        let mut found = found.into_iter().peekable();
        let mut told = Looked::default();
        for (ms, id) in &ids[..looked.clamp(1, batch.len())] {
            if let Some(found) = found.next_if(|found| found.id == *id) {
                told.bytes += found.parts[1].len();
                let [place, record, children, number] = &found.parts;
                match Task::told(*id, [place, record, children, number]) {
                    // One that was given a new life meanwhile is none any more.
                    Ok(Some(task)) if task.status == Status::Failed => {
                        let letter = DeadLetter { died_at: instant(*ms), ..DeadLetter::of(task) };
                        told.meant.extend(Some(letter).filter(|letter| self.filter.takes(letter)));
                    }
                    Ok(_) => {}
                    Err(error) => {
                        tracing::warn!(task = %id, %error, "a record cannot be read; a listing goes on without it");
                        told.unreadable += 1;
                    }
                }
            }
            told.letters += 1;
            self.below = (*ms, *id);
            if told.meant.len() == room {
                break;
            }
        }
        self.ended = whole && ids.last() == Some(&self.below);
        Ok(told)
    }

    /// The next letters, and whether there are no others.
    async fn ids(&self) -> Result<(Vec<(u64, TaskId)>, bool)> {
        let ((oldest, newest), mut skip) = (self.filter.span(), 0);
        loop {
            let (read, mut ids) = self.store.dead(self.below.0.min(newest), oldest, skip, LOOKUP_MAX).await?;
            ids.retain(|letter| *letter < self.below);
            if read < LOOKUP_MAX || !ids.is_empty() {
                return Ok((ids, read < LOOKUP_MAX));
            }
            // As many as were asked for failed in the millisecond of the last one told.
            skip += LOOKUP_MAX;
        }
    }
}
