//! How the model expires: no attempt is begun after a task's instant, and what was begun in time goes on.

use orchestrator::{Cause, TaskId};

use super::reference::{Ending, Place, Reference};

/// So far ahead lies the timer of a task that goes on.
pub(crate) const FAR: u64 = 1 << 50;

/// Until when an attempt of a task may begin.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Expiry {
    pub(crate) at: u64,
    /// It waits to begin; else it goes on with what was begun in time.
    pub(crate) waits: bool,
}

impl Expiry {
    /// Where its timer lies.
    pub(crate) fn timer(self) -> u64 {
        if self.waits { self.at } else { self.at + FAR }
    }
}

impl Reference {
    /// Whether no attempt of it is to begin any more.
    pub(crate) fn has_expired(&self, id: TaskId) -> bool {
        self.tasks[&id].expiry.is_some_and(|expiry| expiry.waits && expiry.at <= self.now)
    }

    /// Whether it may expire from now on.
    pub(crate) fn may_expire(&mut self, id: TaskId, may: bool) {
        let now = self.now;
        let Some(expiry) = self.tasks.get_mut(&id).and_then(|entry| entry.expiry.as_mut()) else { return };
        expiry.waits = may;
        if may && expiry.at <= now {
            self.meet("a task that was let go of had expired", ());
        }
    }

    /// It is to begin anew, whenever that is.
    pub(crate) fn waits_to_begin(&mut self, id: TaskId) {
        self.tasks.get_mut(&id).expect("a task").going = false;
        self.may_expire(id, true);
    }

    /// It ends, because it was not begun in time.
    pub(crate) fn lapse(&mut self, id: TaskId) {
        if let Place::Parked { approval: Some(number), .. } = self.tasks[&id].place {
            self.withdraw(id, number, "the task has expired");
        }
        self.end(id, Cause::Lapse, Ending::expired());
    }

    /// Its timer has fired.
    pub(crate) fn time_is_up(&mut self, id: TaskId) {
        let entry = &self.tasks[&id];
        let what = match entry.place {
            Place::Ready { .. } => "a task expired in its queue",
            Place::Timer { .. } => "a task expired before its instant",
            Place::Shelf { .. } => "a task expired on the shelf",
            Place::Parked { approval: Some(_), .. } if entry.gated => "a task expired before its gate",
            _ => {
                self.may_expire(id, false);
                return self.meet("what had begun in time went on", ());
            }
        };
        self.meet(what, ());
        self.lapse(id);
    }

    /// No attempt is begun after its instant. What its handler has begun, and has waited for, goes on.
    pub(crate) fn begins_in_time(&mut self, id: TaskId) {
        let entry = &self.tasks[&id];
        let late = entry.expiry.is_some_and(|expiry| expiry.at <= self.now);
        assert!(!late || entry.going, "an attempt of {id} begins after its instant");
        if late {
            self.meet("a task went on after it would have expired", ());
        }
    }
}
