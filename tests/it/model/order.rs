//! The order within queues: a task takes another priority, and with aging a low one gets on by its age.

use std::collections::BTreeSet;

use orchestrator::{Priority, Status, TaskId};
use rand::Rng;
use rand::seq::IndexedRandom;

use super::reference::{Entry, Place, Reference};
use super::world::{World, kind};

impl Reference {
    /// A task takes another priority: how it stands, and whether that was a change.
    fn reprioritise(&mut self, id: TaskId, priority: Priority) -> Result<(Status, bool), &'static str> {
        let Some(entry) = self.known(id) else { return Err(self.unknown(id)) };
        let status = entry.status();
        if status.is_terminal() {
            return Err(self.meet("a finished task was to take another priority", "Conflict"));
        }
        if entry.priority == priority {
            return Ok(self.meet("a task had that priority already", (status, false)));
        }
        if entry.gated {
            return Err(self.meet("a task at its gate was to take another priority", "Conflict"));
        }
        let entry = self.tasks.get_mut(&id).expect("a task");
        let before = std::mem::replace(&mut entry.priority, priority);
        let what = match &mut entry.place {
            Place::Shelf { priority: place } => {
                let raised = *place != before;
                *place = priority;
                match raised {
                    true => "a task that was raised on the shelf took another priority",
                    false => "a task on the shelf took another priority",
                }
            }
            Place::Held { .. } => "a running task took another priority",
            Place::Parked { .. } => "a parked task took another priority",
            _ => "a waiting task took another priority",
        };
        Ok(self.meet(what, (status, true)))
    }

    /// The tasks of a queue that are to be claimed, in their order.
    pub(crate) fn look_at_the_front(&mut self, ready: &BTreeSet<(u64, TaskId)>) {
        let mut priorities = ready.iter().map(|(_, id)| self.tasks[id].priority);
        let first = priorities.next();
        if first.is_some_and(|first| priorities.any(|other| other < first)) {
            assert!(self.limits.class < 1 << 42, "without aging the highest priority comes first");
            self.meet("a task came before one of higher priority, by its age", ());
        }
    }
}

impl World {
    /// Somebody gives a task another priority.
    pub(crate) async fn reprioritise(&mut self) {
        let mut id = self.any_task();
        // At times one on the shelf, at best one that was raised there.
        let among = self.rng.random_range(0..10);
        let raised = |entry: &Entry| matches!(entry.place, Place::Shelf { priority } if priority != entry.priority);
        let wanted = |entry: &&Entry| match among {
            0..4 if self.model.live().any(raised) => raised(entry),
            0..2 => matches!(entry.place, Place::Shelf { .. }),
            _ => true,
        };
        let live: Vec<TaskId> = self.model.live().filter(wanted).map(|entry| entry.asked.id).collect();
        if self.rng.random_bool(0.7) {
            id = live.choose(&mut self.rng).copied().unwrap_or(id);
        }
        self.give_priority(id).await;
    }

    /// Once, or twice the same.
    pub(crate) async fn give_priority(&mut self, id: TaskId) {
        let priority = self.priority();
        let name = self.name(id);
        for _ in 0..self.rng.random_range(1..3) {
            let expected = self.model.reprioritise(id, priority);
            self.log.say(format!("{name} takes {priority}: {expected:?}"));
            let reply = self.orch.set_priority_by(id, priority, "ann", false).await;
            assert_eq!(kind(&reply), expected.map(drop), "{reply:?}");
            let Ok((status, told)) = expected else { return };
            assert_eq!(reply.ok(), Some(status), "how {name} stands");
            if told {
                self.hear_of(&[id], "task.reprioritised", "ann").await;
            }
        }
        self.get(id).await;
    }
}
