//! Events on their way to a reader: what an entry of the stream holds, made whole with what is known of its task.

use std::collections::HashMap;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::bus::{Event, EventCursor};
use crate::event::unpack;
use crate::id::ID_BYTES;
use crate::new_event::{EventPriority, Told};
use crate::pattern::EventPattern;
use crate::store::{BUCKET_MS, EntryId, Fields, Place};
use crate::task::instant;
use crate::window::Line;
use crate::{ApprovalId, Orchestrator, Priority, Result, Task, TaskId, codec};

/// Tasks of one look-up at most.
const LOOKUP_MAX: usize = 200;

/// What lies behind `seen` in entries and is wanted, with what the entries do not hold themselves from the tasks. What was
/// sent anew to one group is told to that `group` alone.
pub(crate) async fn untold(
    orch: &Orchestrator,
    entries: &[(EntryId, Fields)],
    seen: EventCursor,
    wanted: &[EventPattern],
    group: Option<&str>,
) -> Result<Vec<Untold>> {
    let mut found = Vec::new();
    for (id, fields) in entries {
        for (index, told) in told(fields, group).into_iter().enumerate() {
            let cursor = EventCursor { entry: *id, index: index as u32 };
            let anew = matches!(told, One::Anew(_));
            let meant = anew || wanted.is_empty() || wanted.iter().any(|want| want.matches(told.event_type()));
            if meant && (cursor > seen || seen == EventCursor::default()) {
                found.push(Untold { cursor, one: told, task: None });
            }
        }
    }
    let store = orch.store();
    let mut ids: Vec<TaskId> = found.iter().filter_map(|untold| untold.one.unknown_task()).collect();
    ids.sort_unstable();
    ids.dedup();
    let mut tasks: HashMap<TaskId, Arc<About>> = HashMap::new();
    for place in [Place::Live, Place::Ended(store.now_ms() / BUCKET_MS)] {
        let mut missing: Vec<TaskId> = ids.iter().filter(|id| !tasks.contains_key(id)).copied().collect();
        while !missing.is_empty() {
            let some = &missing[..missing.len().min(LOOKUP_MAX)];
            let (looked, known) = store.look_up(some, place).await?;
            for task in &known {
                let [place, record, children, number] = &task.parts;
                if let Ok(Some(told)) = Task::told(task.id, [place, record, children, number]) {
                    tasks.insert(task.id, Arc::new(About::of(told)));
                }
            }
            missing.drain(..looked.clamp(1, missing.len()));
        }
    }
    for untold in &mut found {
        untold.task = untold.one.unknown_task().and_then(|id| tasks.get(&id).cloned());
    }
    Ok(found)
}

/// What events tell of their task.
#[derive(Debug)]
struct About {
    task_type: String,
    queue: String,
    priority: Priority,
    trace_id: String,
}

impl About {
    fn of(task: Task) -> Self {
        Self { task_type: task.task_type, queue: task.queue, priority: task.priority, trace_id: task.trace_id }
    }
}

/// An event on its way to a reader.
#[derive(Debug)]
pub(crate) struct Untold {
    cursor: EventCursor,
    one: One,
    task: Option<Arc<About>>,
}

/// One event of an entry, before it is made whole.
#[derive(Debug)]
enum One {
    Task {
        id: TaskId,
        event_type: &'static str,
        number: u32,
        approval: Option<ApprovalId>,
        worker: Arc<str>,
    },
    Told {
        id: TaskId,
        head: Head,
        body: Vec<u8>,
    },
    /// A dead letter that is sent anew to one group.
    Anew(Box<Event>),
}

/// The part of a [`Told`] that says whether it is wanted.
#[derive(Debug, Deserialize)]
struct Head {
    #[serde(rename = "t")]
    event_type: String,
    #[serde(rename = "tr", default)]
    trace_id: String,
    #[serde(rename = "id", default)]
    task_id: Option<TaskId>,
    #[serde(rename = "k", default)]
    key: Option<String>,
}

/// The events of one entry, in their order.
fn told(fields: &Fields, group: Option<&str>) -> Vec<One> {
    if let [(name, bytes)] = fields.as_slice()
        && name == b"R"
    {
        let Some((length, rest)) = bytes.split_first() else { return Vec::new() };
        let Some((whom, event)) = rest.split_at_checked((*length).into()) else { return Vec::new() };
        return match codec::decode("a dead letter", event) {
            Ok(event) if group.is_some_and(|group| group.as_bytes() == whom) => vec![One::Anew(Box::new(event))],
            _ => Vec::new(),
        };
    }
    if let [(name, bytes)] = fields.as_slice()
        && name == b"P"
    {
        let Some((id, body)) = bytes.split_at_checked(ID_BYTES) else { return Vec::new() };
        return match (TaskId::from_slice(id), codec::decode("an event", body)) {
            (Some(id), Ok(head)) => vec![One::Told { id, head, body: body.to_vec() }],
            // It was not written by us.
            _ => Vec::new(),
        };
    }
    let worker =
        fields.iter().find(|(name, _)| name == b"w").map(|(_, worker)| String::from_utf8_lossy(worker).into_owned());
    let worker: Arc<str> = worker.map_or_else(|| "orchestrator".into(), Arc::from);
    let one = |event: crate::event::TaskEvent| One::Task {
        id: event.task_id,
        event_type: event.event_type,
        number: event.number,
        approval: event.approval_id,
        worker: worker.clone(),
    };
    unpack(fields).into_iter().map(one).collect()
}

/// An event that somebody told, from its id and its bytes.
pub(crate) fn told_event(cursor: EventCursor, bytes: &[u8]) -> Option<Event> {
    let one = told(&vec![(b"P".to_vec(), bytes.to_vec())], None).pop()?;
    Untold { cursor, one, task: None }.event()
}

/// Whether an entry tells how far a task is.
pub(crate) fn tells_progress(fields: &Fields, task: TaskId) -> bool {
    // Most entries are told apart by their first letter.
    let one = if fields.first().is_some_and(|(name, _)| name == b"P") { told(fields, None).pop() } else { None };
    matches!(one, Some(One::Told { head, .. }) if head.task_id == Some(task) && head.event_type == "task.progress")
}

/// How many events an entry holds.
pub(crate) fn count(fields: &Fields) -> u32 {
    match fields.as_slice() {
        [(name, _)] if name == b"P" || name == b"R" => 1,
        _ => unpack(fields).len() as u32,
    }
}

impl One {
    fn event_type(&self) -> &str {
        match self {
            Self::Task { event_type, .. } => event_type,
            Self::Told { head, .. } => &head.event_type,
            Self::Anew(event) => &event.event_type,
        }
    }

    /// The task that has to be looked at to tell this event.
    fn unknown_task(&self) -> Option<TaskId> {
        match self {
            Self::Task { id, .. } => Some(*id),
            Self::Told { head, .. } => head.task_id.filter(|_| head.trace_id.is_empty()),
            Self::Anew(_) => None,
        }
    }
}

impl Untold {
    /// Where it stands in the stream.
    pub(crate) fn at(&self) -> EventCursor {
        self.cursor
    }

    /// Bytes that it takes, about.
    pub(crate) fn weight(&self) -> usize {
        match &self.one {
            One::Task { .. } => 256,
            One::Told { body, .. } => body.len() + 256,
            // JSON in pieces takes many times its text.
            One::Anew(_) => crate::EVENT_BYTES_MAX,
        }
    }

    /// The events that it has to be handled behind.
    pub(crate) fn line(&self) -> Line {
        let (task, key) = match &self.one {
            One::Task { id, .. } => (Some(*id), None),
            One::Told { head, .. } => (head.task_id, head.key.as_ref()),
            One::Anew(event) => (event.task_id, event.key.as_ref()),
        };
        match (task, key) {
            (Some(task), _) => Line::About(task.as_bytes().to_vec()),
            (None, Some(key)) => Line::About([b"key ", key.as_bytes()].concat()),
            (None, None) => Line::Alone(self.cursor),
        }
    }

    /// The event; `None` when its bytes were not written by us.
    pub(crate) fn event(&self) -> Option<Event> {
        let (cursor, task) = (self.cursor, self.task.as_deref());
        let timestamp = instant(cursor.entry.0);
        Some(match &self.one {
            One::Anew(event) => (**event).clone(),
            One::Task { id, event_type, number, approval, worker } => {
                let (id, number, approval) = (*id, *number, *approval);
                let mut payload = json!({"task_id": id});
                if let (Value::Object(payload), Some(task)) = (&mut payload, task) {
                    payload.insert("task_type".into(), task.task_type.clone().into());
                    payload.insert("priority".into(), task.priority.to_string().into());
                    payload.insert("queue".into(), task.queue.clone().into());
                }
                if let (Value::Object(payload), Some(approval)) = (&mut payload, approval) {
                    payload.insert("approval_id".into(), approval.to_string().into());
                }
                if let (Value::Object(payload), true) = (&mut payload, number > 0) {
                    payload.insert("number".into(), number.into());
                }
                Event {
                    event_id: format!("{}-{}-{}", cursor.entry.0, cursor.entry.1, cursor.index),
                    event_type: (*event_type).into(),
                    priority: task.map_or(EventPriority::Medium, |task| task.priority.into()),
                    source_agent: worker.to_string(),
                    trace_id: task.map_or_else(|| id.as_trace_id(), |task| task.trace_id.clone()),
                    traceparent: None,
                    task_id: Some(id),
                    key: None,
                    payload,
                    timestamp,
                    metadata: Map::new(),
                    cursor,
                }
            }
            One::Told { id, body, .. } => {
                let told: Told = codec::decode("an event", body).ok()?;
                let trace_id = match told.trace_id.as_str() {
                    "" => task
                        .map(|task| task.trace_id.clone())
                        .unwrap_or_else(|| told.task_id.unwrap_or(*id).as_trace_id()),
                    given => given.to_owned(),
                };
                Event {
                    event_id: id.to_string(),
                    event_type: told.event_type,
                    priority: told.priority,
                    source_agent: if told.source_agent.is_empty() { "orchestrator".into() } else { told.source_agent },
                    trace_id,
                    traceparent: told.traceparent,
                    task_id: told.task_id,
                    key: told.key,
                    payload: told.payload,
                    timestamp,
                    metadata: told.metadata,
                    cursor,
                }
            }
        })
    }
}
