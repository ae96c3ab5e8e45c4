//! Dead letters are deleted for good.

use orchestrator::{DeadFilter, DeadSweep, Status, TaskId};
use rand::Rng;
use rand::seq::IndexedRandom;

use super::reference::Reference;
use super::world::{World, kind};

impl Reference {
    /// Nothing is left of a task but what was decided about it.
    fn delete(&mut self, id: TaskId, by: &str) {
        self.dead.retain(|(_, dead)| *dead != id);
        self.forget(id);
        self.journals.remove(&id);
        self.forget_output(id);
        self.children.remove(&id);
        self.audited.push(("deleted", id, 0, by.into(), String::new(), String::new(), self.now));
    }

    fn delete_dead_letter(&mut self, id: TaskId, by: &str) -> Result<(), &'static str> {
        let refused = match self.known(id).map(|entry| entry.status()) {
            Some(Status::Failed) => {
                self.delete(id, by);
                return self.meet("a dead letter was deleted", Ok(()));
            }
            Some(_) => "Conflict",
            None => self.unknown(id),
        };
        self.meet("no dead letter was to be deleted", Err(refused))
    }
}

impl World {
    /// Somebody deletes a dead letter, or the newest of them.
    pub(crate) async fn bury(&mut self) {
        let by = self.anybody();
        let dead: Vec<TaskId> = self.model.dead.iter().map(|(_, id)| *id).collect();
        if self.rng.random_bool(0.3) {
            let limit = self.rng.random_range(1..4);
            let newest: Vec<TaskId> = dead.iter().rev().take(limit).copied().collect();
            self.log.say(format!("{by} deletes the newest dead letters: {newest:?}"));
            let sweep = DeadSweep { by: by.clone(), limit: Some(limit), ..DeadSweep::default() };
            let swept = self.orch.delete_dead(&DeadFilter::default(), &sweep, |_, _| {}).await.expect("a reply");
            let told = (swept.found, swept.done, swept.left, swept.gone, swept.complete);
            let left = dead.len() - newest.len();
            assert_eq!(told, (dead.len() as u64, newest.len() as u64, left as u64, 0, true), "what was deleted");
            newest.iter().for_each(|id| self.model.delete(*id, &by));
            self.hear_of(&newest, "task.deleted", &by).await;
            if let Some(id) = newest.first() {
                self.get(*id).await;
            }
            return self.model.meet("the newest dead letters were deleted", ());
        }
        let any = self.any_task();
        let id = dead.choose(&mut self.rng).copied().filter(|_| self.rng.random_bool(0.7)).unwrap_or(any);
        let expected = self.model.delete_dead_letter(id, &by);
        let name = self.name(id);
        self.log.say(format!("{by} deletes {name}: {expected:?}"));
        let reply = self.orch.delete_dead_letter(id, &by).await;
        assert_eq!(kind(&reply), expected, "{reply:?}");
        if expected.is_ok() {
            self.hear_of(&[id], "task.deleted", &by).await;
        }
        self.get(id).await;
    }
}
