//! Packed events: what one script call did, in one stream entry, and the events it stands for.
//!
//! An entry's fields are pairs of a letter and the elements it concerns, one behind the other; an element is
//! `id (14 bytes) ‖ epoch u32 ‖ changes u32`, for `e` followed by the letter of the ending, for `c` the id alone (it is
//! always the first change). `A` holds `id ‖ number u16 ‖ letter` of approvals, `V` `id ‖ letter` of service-level clocks; `w`
//! names the worker.

use serde::Serialize;

use crate::id::ID_BYTES;
use crate::{ApprovalId, TaskId};

/// One change of one task's state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TaskEvent {
    /// The task.
    pub task_id: TaskId,
    /// What happened: `task.created`, `task.started` …
    pub event_type: &'static str,
    /// Its number among the task's changes of state: from 1, without a gap. 0 for what is no change of state: the events
    /// of approvals and of the service-level clock.
    pub number: u32,
    /// The approval that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub approval_id: Option<ApprovalId>,
}

/// The events of one entry, in the order in which they happened. Elements that cannot be read are left out.
#[must_use]
pub fn unpack(fields: &[(Vec<u8>, Vec<u8>)]) -> Vec<TaskEvent> {
    let mut events = Vec::new();
    for (letter, elements) in fields {
        // A claim writes no record: its number is one above the record's.
        let (event_type, above, length) = match letter.as_slice() {
            b"c" => ("task.created", 1, 14),
            b"s" => ("task.started", 1, 22),
            b"e" => ("", 0, 23),
            b"y" => ("task.retrying", 0, 22),
            b"l" => ("task.released", 0, 22),
            b"h" => ("task.shelved", 0, 22),
            b"u" => ("task.unshelved", 0, 22),
            b"p" => ("task.assigned", 0, 22),
            b"z" => ("task.rescued", 0, 22),
            b"m" => ("task.revived", 0, 22),
            b"b" => ("task.blocked", 0, 22),
            b"r" => ("task.resumed", 0, 22),
            b"k" => ("task.scheduled", 0, 22),
            b"A" => {
                events.extend(elements.chunks_exact(17).filter_map(approval_event));
                continue;
            }
            b"V" => {
                events.extend(elements.chunks_exact(15).filter_map(clock_event));
                continue;
            }
            _ => continue,
        };
        for element in elements.chunks_exact(length) {
            let Some(task_id) = TaskId::from_slice(&element[..ID_BYTES]) else { continue };
            let changes = element.get(18..22).map_or(0, |at| u32::from_be_bytes([at[0], at[1], at[2], at[3]]));
            let number = changes.saturating_add(above);
            let event_type = match element.get(22) {
                None => event_type,
                Some(b'c') => "task.completed",
                Some(b'f') => "task.failed",
                Some(b'x') => "task.cancelled",
                Some(_) => continue,
            };
            events.push(TaskEvent { task_id, event_type, number, approval_id: None });
        }
    }
    events
}

/// `id ‖ number u16 ‖ letter`
fn approval_event(element: &[u8]) -> Option<TaskEvent> {
    let (id, letter) = element.split_at_checked(16)?;
    let approval_id = ApprovalId::from_slice(id)?;
    let event_type = match letter {
        b"r" => "approval.requested",
        b"v" => "approval.voted",
        b"d" => "approval.delegated",
        b"m" => "approval.reminded",
        b"e" => "approval.escalated",
        b"a" => "approval.approved",
        b"j" => "approval.rejected",
        b"t" => "approval.expired",
        b"c" => "approval.cancelled",
        _ => return None,
    };
    Some(TaskEvent { task_id: approval_id.task, event_type, number: 0, approval_id: Some(approval_id) })
}

/// `id ‖ letter`
fn clock_event(element: &[u8]) -> Option<TaskEvent> {
    let (id, letter) = element.split_at_checked(ID_BYTES)?;
    let event_type = match letter {
        b"w" => "sla.warning",
        b"v" => "sla.violation",
        b"r" => "sla.at_risk",
        _ => return None,
    };
    Some(TaskEvent { task_id: TaskId::from_slice(id)?, event_type, number: 0, approval_id: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_unfolds_into_its_events_and_strange_bytes_into_none() {
        let id = TaskId::at(1_790_000_000_000);
        let element = |changes: u32| [id.as_bytes().as_slice(), &[0; 4], &changes.to_be_bytes()].concat();
        let ended = [element(3), b"f".to_vec()].concat();
        let fields = vec![
            (b"e".to_vec(), ended),
            (b"s".to_vec(), element(3)),
            (b"w".to_vec(), b"worker".to_vec()),
            (b"c".to_vec(), b"short".to_vec()),
            (b"?".to_vec(), element(9)),
        ];
        let told: Vec<(&str, u32)> = unpack(&fields).iter().map(|event| (event.event_type, event.number)).collect();
        assert_eq!(told, [("task.failed", 3), ("task.started", 4)]);
    }
}
