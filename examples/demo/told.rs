//! What the agents tell, heard while they tell it.

use std::sync::{Mutex, MutexGuard, PoisonError};

use orchestrator_worker::{Event, EventsFrom, Heard, Orchestrator, patterns};

use crate::Failure;
use crate::timeline::now_ms;

/// What somebody tells. What the library tells of each task, approval and promise is left to the timeline.
const WANTED: &str = "investigation.*, alert.*, pr.*, deploy.*";

/// The events that were heard so far, and what people did, with the Unix milliseconds of that, until it is shown.
#[derive(Debug, Default)]
pub(crate) struct Told {
    events: Mutex<Vec<Event>>,
    notes: Mutex<Vec<(i64, String)>>,
}

impl Told {
    /// Reads the stream as long as the demo lasts.
    pub(crate) async fn listen(&self, orch: &Orchestrator) -> Result<(), Failure> {
        let mut events = orch.events(&patterns(WANTED)?, EventsFrom::Oldest);
        loop {
            match events.next().await? {
                Heard::Event(event) => lock(&self.events).push(*event),
                Heard::Gap => return Err("events of this run are not kept any more".into()),
            }
        }
    }

    /// The events, but for the first `heard`.
    pub(crate) fn since(&self, heard: usize) -> Vec<Event> {
        lock(&self.events).iter().skip(heard).cloned().collect()
    }

    /// Has a line shown at its place in time, which is now.
    pub(crate) fn note(&self, line: String) {
        lock(&self.notes).push((now_ms(), line));
    }

    /// The lines that have not been taken yet.
    pub(crate) fn take_notes(&self) -> Vec<(i64, String)> {
        std::mem::take(&mut *lock(&self.notes))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
