//! Following one task as it changes: one blocking read of the event stream, no polling.

use std::time::{Duration, Instant};

use crate::event::{TaskEvent, unpack};
use crate::store::{Bell, EntryId};
use crate::untold::tells_progress;
use crate::{Orchestrator, Result, Task, TaskId};

/// Longest blocking read.
const PATIENCE: Duration = Duration::from_secs(5);
/// As long a one for a task that tells no events: it is looked at instead.
const GLANCE: Duration = Duration::from_millis(500);
/// Longest time between two looks at the task, should its events pass unseen: the stream is bounded.
const LOOK_AGAIN: Duration = Duration::from_secs(30);
/// Entries read at once.
const PAGE: usize = 1000;
/// Pause after a read that failed.
const PAUSE: Duration = Duration::from_millis(200);

/// One task as it changes; see [`Orchestrator::watch`]. It holds a connection of its own from its second
/// [`TaskWatch::next`] on.
#[derive(Debug)]
pub struct TaskWatch {
    orch: Orchestrator,
    bell: Bell,
    id: TaskId,
    /// The last entry of the stream that was read; `None` before the first look.
    seen: Option<EntryId>,
    told: Option<Task>,
    looked: Instant,
}

impl TaskWatch {
    pub(crate) fn new(orch: &Orchestrator, id: TaskId) -> Self {
        Self { orch: orch.clone(), bell: Bell::new(orch.store()), id, seen: None, told: None, looked: Instant::now() }
    }

    /// The task as it stands, the first time; then, whenever it has changed or is further, as it stands then: changes in quick
    /// succession may be told as one. `None` once it was told as ended.
    ///
    /// Cancel-safe. After an error it may be called again.
    ///
    /// # Errors
    /// [`Error::NotFound`](crate::Error::NotFound) when the task is unknown or its retention has passed; [`Error::Unavailable`](crate::Error::Unavailable).
    pub async fn next(&mut self) -> Result<Option<Task>> {
        if self.told.as_ref().is_some_and(|task| task.status.is_terminal()) {
            return Ok(None);
        }
        if self.seen.is_none() {
            // Before the look, so that no change falls in between.
            self.seen = Some(self.orch.store().events_end().await?);
        }
        let mut look = self.told.is_none();
        loop {
            let blind = self.told.as_ref().is_some_and(|told| told.quiet);
            if look || blind || self.looked.elapsed() >= LOOK_AGAIN {
                let task = self.orch.get(self.id).await?;
                self.looked = Instant::now();
                let same = |told: &Task| {
                    (told.changes, told.status, told.progress) == (task.changes, task.status, task.progress)
                        && told.progress_note == task.progress_note
                };
                if !self.told.as_ref().is_some_and(same) {
                    self.told = Some(task.clone());
                    return Ok(Some(task));
                }
            }
            look = self.hear().await;
        }
    }

    /// Waits for events; returns whether one of them may be news of the task.
    async fn hear(&mut self) -> bool {
        let seen = self.seen.unwrap_or_default();
        let known = self.told.as_ref().map_or(0, |task| task.changes);
        let patience = if self.told.as_ref().is_some_and(|told| told.quiet) { GLANCE } else { PATIENCE };
        match self.bell.events(seen, PAGE, patience).await {
            Ok(entries) => {
                self.seen = entries.last().map(|(id, _)| *id).or(self.seen);
                entries.iter().any(|(_, fields)| {
                    let is_news = |event: &TaskEvent| event.task_id == self.id && event.number > known;
                    unpack(fields).iter().any(is_news) || tells_progress(fields, self.id)
                })
            }
            Err(_) => {
                tokio::time::sleep(PAUSE).await;
                true
            }
        }
    }
}
