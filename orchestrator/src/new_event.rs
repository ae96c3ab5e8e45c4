//! An event that somebody wants to tell.

use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::pattern::check_event_type;
use crate::{Error, Priority, Result, TaskId, codec};

/// Largest event, in bytes of MessagePack.
pub const EVENT_BYTES_MAX: usize = 256 * 1024;

/// How urgent an event is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventPriority {
    /// As P0.
    Critical,
    /// As P1.
    High,
    /// As P2; the default.
    #[default]
    Medium,
    /// As P3.
    Low,
}

impl From<Priority> for EventPriority {
    fn from(priority: Priority) -> Self {
        match priority {
            Priority::P0 => Self::Critical,
            Priority::P1 => Self::High,
            Priority::P2 => Self::Medium,
            Priority::P3 => Self::Low,
        }
    }
}

impl FromStr for EventPriority {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        serde_json::from_value(Value::from(text)).map_err(|_| {
            let text = crate::error::excerpt(text);
            Error::invalid(format!("`{text}` is no priority of an event; known are: critical high medium low"))
        })
    }
}

/// An event to be told.
#[derive(Clone, Debug)]
#[must_use = "an event is told once it is given to `Orchestrator::publish`"]
pub struct NewEvent {
    pub(crate) id: Option<TaskId>,
    pub(crate) told: Told,
    fault: Option<String>,
}

/// As Redis keeps it. Short names; what equals its default is left out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Told {
    #[serde(rename = "t")]
    pub(crate) event_type: String,
    #[serde(rename = "p", default, skip_serializing_if = "is_default")]
    pub(crate) priority: EventPriority,
    #[serde(rename = "s", default, skip_serializing_if = "is_default")]
    pub(crate) source_agent: String,
    #[serde(rename = "tr", default, skip_serializing_if = "is_default")]
    pub(crate) trace_id: String,
    #[serde(rename = "id", default, skip_serializing_if = "Option::is_none")]
    pub(crate) task_id: Option<TaskId>,
    #[serde(rename = "md", default, skip_serializing_if = "is_default")]
    pub(crate) metadata: Map<String, Value>,
    #[serde(rename = "v")]
    pub(crate) payload: Value,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl NewEvent {
    /// An event of a type such as `deploy.succeeded`. What cannot be told is reported when it is published.
    pub fn new<P: Serialize + ?Sized>(event_type: &str, payload: &P) -> Self {
        let (payload, fault) = match serde_json::to_value(payload) {
            Ok(payload) => (payload, None),
            Err(error) => (Value::Null, Some(format!("the event's payload cannot be written: {error}"))),
        };
        let told = Told { event_type: event_type.into(), payload, ..Told::default() };
        Self { id: None, told, fault }
    }

    /// How urgent it is.
    pub fn priority(mut self, priority: EventPriority) -> Self {
        self.told.priority = priority;
        self
    }

    /// Who tells it: at most 128 characters.
    pub fn source(mut self, agent: &str) -> Self {
        self.told.source_agent = agent.into();
        self
    }

    /// The trace that it belongs to; that of its task, or a new one, unless called.
    pub fn trace_id(mut self, trace_id: &str) -> Self {
        self.told.trace_id = trace_id.into();
        self
    }

    /// The task that it is about: events of one task are handled in their order.
    pub fn task(mut self, task: TaskId) -> Self {
        self.told.task_id = Some(task);
        self
    }

    /// One free field.
    pub fn metadata(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.told.metadata.insert(key.into(), value.into());
        self
    }

    /// Its id, for whoever wants to be able to repeat the call: the same id within a minute is one event.
    pub fn id(mut self, id: TaskId) -> Self {
        self.id = Some(id);
        self
    }

    /// Checks everything; the bytes as Redis keeps them.
    pub(crate) fn write(&self) -> Result<Vec<u8>> {
        if let Some(fault) = &self.fault {
            return Err(Error::invalid(fault.clone()));
        }
        check_event_type(&self.told.event_type)?;
        for (what, text) in [("source", &self.told.source_agent), ("trace id", &self.told.trace_id)] {
            if text.len() > 128 || !text.bytes().all(|b| (0x20..0x7f).contains(&b)) {
                return Err(Error::invalid(format!("an event's {what} has at most 128 printable ASCII characters")));
            }
        }
        codec::encode("event", &self.told, EVENT_BYTES_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_reads_back_and_a_slip_is_named() {
        let event = NewEvent::new("deploy.succeeded", &serde_json::json!({"image": "x"})).priority(EventPriority::High);
        let bytes = event.write().expect("a fair event");
        assert_eq!(codec::decode::<Told>("an event", &bytes).ok(), Some(event.told));
        let fault = |event: NewEvent| event.write().expect_err("a fault").to_string();
        assert!(fault(NewEvent::new("deployed", &())).contains("is no event type"));
        assert!(fault(NewEvent::new("a.b", &()).source("\n")).contains("printable"));
        assert!(fault(NewEvent::new("a.b", &"x".repeat(300_000))).contains("at most 262144"));
        assert_eq!("high".parse::<EventPriority>().ok(), Some(EventPriority::High));
        assert!("urgent".parse::<EventPriority>().is_err());
    }
}
