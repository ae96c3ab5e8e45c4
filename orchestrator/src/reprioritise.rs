//! Another priority for a task that has not ended.

use serde_json::{Value, json};

use crate::condition::Facts;
use crate::record::flag;
use crate::store::Items;
use crate::{ApprovalRule, Error, NewEvent, Orchestrator, Priority, Result, Status, Task, TaskId};

/// The event that tells of it.
const REPRIORITISED: &str = "task.reprioritised";

impl Orchestrator {
    /// Gives a task another priority. One that waits takes the place in its queue that it would have, had it been submitted
    /// with it; one that is scheduled, waits for its next attempt or for people takes it along. One that runs keeps running,
    /// and the new priority counts from its next attempt.
    ///
    /// Returns how the task stands. It is told by the event `task.reprioritised`; reports count a task by the priority that it
    /// ends with. To ask for the priority that it has already changes nothing.
    ///
    /// # Errors
    /// [`Error::Conflict`] when it has ended, and when people decide on whether it may begin: they have seen its priority;
    /// [`Error::Forbidden`] when an approval rule holds back tasks of that priority, and not those of the one that it has;
    /// [`Error::NotFound`].
    pub async fn set_priority(&self, id: TaskId, priority: Priority) -> Result<Status> {
        self.set_priority_by(id, priority, "", false).await
    }

    /// [`Orchestrator::set_priority`] in the name of `by`; with `override_rules` whatever the approval rules say.
    ///
    /// # Errors
    /// As [`Orchestrator::set_priority`].
    pub async fn set_priority_by(
        &self,
        id: TaskId,
        priority: Priority,
        by: &str,
        override_rules: bool,
    ) -> Result<Status> {
        self.store.freshen_time().await?;
        let event_id = self.store.new_id(self.store.now_ms());
        loop {
            let (task, flags) = self.seen(id).await?;
            if task.status.is_terminal() {
                return Err(ended(id, task.status.as_str()));
            }
            let is_bound = task.priority != priority && !override_rules;
            if is_bound && flags & flag::GATED != 0 {
                return Err(Error::Conflict {
                    what: format!(
                        "task {id} waits for an approval, and whoever decides has seen its priority {}: decide first, or cancel \
                         it and submit it anew",
                        task.priority
                    ),
                });
            }
            if is_bound && let Some(rule) = self.newly_stopped_by(&task, priority) {
                return Err(Error::Forbidden {
                    what: format!(
                        "a task of priority {priority} needs an approval ({}), and {id} {}: submit it anew with that \
                         priority, so that somebody can decide on it",
                        rule.reason,
                        match flags & flag::PASSED {
                            0 => "was submitted without one",
                            _ => "was approved for another reason",
                        }
                    ),
                });
            }
            let told = json!({"from": task.priority, "to": priority, "by": by, "task_type": task.task_type});
            let event = NewEvent::new(REPRIORITISED, &told).task(id).source(&printable(by)).trace_id(&task.trace_id);
            let event = task.tenant.iter().fold(event, |event, tenant| event.metadata("tenant", tenant.as_str()));
            let (event, names) = (event.write()?, event.names());
            let call = |_| {
                let call = self.store.call(&self.store.scripts().reprioritise).arg(id.as_bytes()).arg(priority as u8);
                let call = call.arg(task.priority as u8).arg(&task.task_type).arg(event_id.as_bytes());
                call.arg(event.as_slice()).arg(&names)
            };
            let mut items = Items::of(self.store.repeat(call).await?)?;
            self.store.set_now_ms(items.next()?);
            let (stands, woken) = (items.next::<String>()?, items.next::<u64>()?);
            if woken > 0 {
                self.store.tick_in(0);
            }
            return match stands.as_str() {
                // Somebody else was faster: what is told has to be what was.
                "changed" => continue,
                "ready" => Ok(Status::Assigned),
                "shelf" | "timer" => Ok(Status::Pending),
                "parked" => Ok(Status::Blocked),
                "running" => Ok(Status::InProgress),
                "c" => Err(ended(id, "completed")),
                "f" => Err(ended(id, "failed")),
                "x" => Err(ended(id, "cancelled")),
                _ => Err(Error::NotFound { what: format!("task {id}") }),
            };
        }
    }

    /// The task, and its flags.
    async fn seen(&self, id: TaskId) -> Result<(Task, u16)> {
        let parts = self.parts(id).await?;
        let part = |i: usize| parts.get(i).map(Vec::as_slice).unwrap_or_default();
        let task = Task::told(id, [part(0), part(1), part(2), part(3)])?;
        let task = task.ok_or_else(|| Error::NotFound { what: format!("task {id}") })?;
        // The flags lie in front of the queue's name, at the same place in live and ended ones.
        let flags = part(1).get(13..15).map_or(0, |at| u16::from_be_bytes([at[0], at[1]]));
        Ok((task, flags))
    }

    /// The rule that stops the task with this priority, unless it is the one that stops it with its own.
    fn newly_stopped_by(&self, task: &Task, priority: Priority) -> Option<&ApprovalRule> {
        let stops = |priority| {
            let facts = Facts {
                task_type: &task.task_type,
                priority,
                source: task.source,
                metadata: &task.metadata,
                args: &Value::Null,
            };
            self.config().approvals.stops(&facts, || task.payload.clone())
        };
        let rule = stops(priority)?;
        (stops(task.priority) != Some(rule)).then_some(rule)
    }
}

fn ended(id: TaskId, how: &str) -> Error {
    let how = if how == "cancelled" { "was cancelled".to_owned() } else { format!("has {how}") };
    Error::Conflict { what: format!("task {id} {how}; its priority cannot be changed any more") }
}

/// A name as events carry it.
pub(crate) fn printable(name: &str) -> String {
    name.chars().filter(|c| (' '..='~').contains(c)).take(128).collect()
}
