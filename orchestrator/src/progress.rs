//! How far a task is, as whoever has it says.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::claim::{Assignment, Ticket};
use crate::store::read;
use crate::{Error, Incarnation, NewEvent, Result, TaskId, codec};

/// Longest word on how far a task is, in bytes.
pub const PROGRESS_NOTE_MAX: usize = 1000;

/// How far a task is, as its journal keeps it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[doc(hidden)]
pub struct Progress {
    /// From 0 to 1.
    #[serde(rename = "p")]
    pub fraction: f64,
    /// In words.
    #[serde(rename = "n", default, skip_serializing_if = "String::is_empty")]
    pub note: String,
}

impl Progress {
    /// # Errors
    /// [`Error::Invalid`] for what is no fraction, and for a note that is too long.
    pub fn new(fraction: f64, note: &str) -> Result<Self> {
        if !(0.0..=1.0).contains(&fraction) {
            return Err(Error::invalid(format!("progress is a number from 0 to 1, not {fraction}")));
        }
        if note.len() > PROGRESS_NOTE_MAX {
            let length = note.len();
            return Err(Error::invalid(format!(
                "a note on progress has at most {PROGRESS_NOTE_MAX} bytes, not {length}"
            )));
        }
        Ok(Self { fraction, note: note.into() })
    }
}

impl Incarnation {
    /// Extends the lease of one task, and notes how far it is. Returns when the lease ends, and whether cancelling was asked
    /// for.
    pub(crate) async fn renew(
        &self,
        ticket: Ticket,
        lease: Duration,
        told: Option<(&Progress, TaskId, &NewEvent)>,
    ) -> Result<(u64, bool)> {
        let lease_ms = u64::try_from(lease.as_millis()).unwrap_or(u64::MAX);
        let (progress, id, event, names) = match told {
            None => Default::default(),
            Some((progress, id, event)) => {
                let progress = codec::encode("progress", progress, 2 * PROGRESS_NOTE_MAX)?;
                (progress, id.as_bytes().to_vec(), event.write()?, event.names())
            }
        };
        let call = |_| {
            let call = self.store.call(&self.store.scripts().renew).arg(self.name()).arg(self.generation());
            let call = call.arg(&ticket.to_bytes()).arg(lease_ms).arg(progress.as_slice());
            call.arg(id.as_slice()).arg(event.as_slice()).arg(&names)
        };
        let (now_ms, cancel, woke): (u64, bool, bool) = read(self.store.repeat(call).await?)?;
        self.store.set_now_ms(now_ms);
        if woke {
            self.store.tick_in(0);
        }
        Ok((now_ms.saturating_add(lease_ms), cancel))
    }

    /// Notes how far a task is, and tells the event `task.progress` in the name of `agent`, once by its id; as [`Incarnation::renew`].
    pub(crate) async fn tell_progress(
        &self,
        task: &Assignment,
        agent: &str,
        progress: &Progress,
        lease: Duration,
        id: TaskId,
    ) -> Result<(u64, bool)> {
        let shown = serde_json::json!({"progress": progress.fraction, "note": progress.note});
        let ticket = task.ticket();
        let event = NewEvent::new("task.progress", &shown).task(ticket.id).source(agent).trace_id(&task.trace_id());
        self.renew(ticket, lease, Some((progress, id, &event))).await
    }

    /// Notes how far a task of this worker is, and tells it as the event of this id.
    ///
    /// # Errors
    /// [`Error::LeaseLost`] when the task is not this worker's any more; [`Error::Unavailable`].
    #[doc(hidden)]
    pub async fn note_progress(&self, task: &Assignment, progress: &Progress, id: TaskId) -> Result {
        self.tell_progress(task, task.queue(), progress, self.lease(), id).await.map(drop)
    }
}
