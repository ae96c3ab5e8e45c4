//! The body of `POST /events/publish`.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::new_task::word;
use crate::{EventPriority, NewEvent, TaskId};

/// An event as a client tells it. What is left out takes its default; a field that is not known is refused, because it
/// was meant to say something.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object that describes an event")]
pub(super) struct NewEventBody {
    pub(super) event_type: String,
    #[serde(default = "nothing")]
    payload: Value,
    #[serde(default, deserialize_with = "word")]
    priority: Option<EventPriority>,
    source_agent: Option<String>,
    trace_id: Option<String>,
    task_id: Option<TaskId>,
    metadata: Option<Map<String, Value>>,
}

impl NewEventBody {
    /// The event itself; `caller` tells it unless the body names somebody.
    pub(super) fn into_event(self, caller: &str) -> NewEvent {
        let source = self.source_agent.as_deref().filter(|source| !source.is_empty());
        let mut event = NewEvent::new(&self.event_type, &self.payload)
            .priority(self.priority.unwrap_or_default())
            .source(source.unwrap_or(caller))
            .trace_id(self.trace_id.as_deref().unwrap_or_default());
        if let Some(task) = self.task_id {
            event = event.task(task);
        }
        for (key, value) in self.metadata.unwrap_or_default() {
            event = event.metadata(&key, value);
        }
        event
    }
}

fn nothing() -> Value {
    Value::Object(Map::new())
}
