//! An event that somebody wants to tell.

use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::idempotency::Key;
use crate::pattern::check_event_type;
use crate::{Error, Priority, Result, TaskId, codec};

/// Largest event, in bytes of MessagePack.
pub const EVENT_BYTES_MAX: usize = 256 * 1024;

/// How urgent an event is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "gateway", derive(utoipa::ToSchema))]
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
    /// Whose key, and the key.
    idempotency_key: Option<(String, String)>,
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
    #[serde(rename = "tp", default, skip_serializing_if = "Option::is_none")]
    pub(crate) traceparent: Option<String>,
    #[serde(rename = "k", default, skip_serializing_if = "Option::is_none")]
    pub(crate) key: Option<String>,
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
        Self { id: None, told, idempotency_key: None, fault }
    }

    /// The task that it is about.
    #[cfg(feature = "gateway")]
    pub(crate) fn task_id(&self) -> Option<TaskId> {
        self.told.task_id
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

    /// Where in its trace it is told, as W3C Trace Context writes it: `00-<32 hex digits>-<16>-<2>`. Names the trace as well,
    /// unless [`NewEvent::trace_id`] does.
    pub fn traceparent(mut self, traceparent: &str) -> Self {
        self.told.traceparent = Some(traceparent.into());
        self
    }

    /// What it is about beside a task: a commit, an order … Whoever waits for an event names its key. At most 128 characters.
    pub fn key(mut self, key: &str) -> Self {
        self.told.key = Some(key.into());
        self
    }

    /// The task that it is about: events of one task are handled in their order.
    pub fn task(mut self, task: TaskId) -> Self {
        self.told.task_id = Some(task);
        self
    }

    /// [`NewEvent::task`] unless it names one.
    #[doc(hidden)]
    pub fn task_default(mut self, task: Option<TaskId>) -> Self {
        self.told.task_id = self.told.task_id.or(task);
        self
    }

    /// [`NewEvent::source`] unless it names somebody.
    #[doc(hidden)]
    pub fn source_default(mut self, agent: &str) -> Self {
        if self.told.source_agent.is_empty() {
            self.told.source_agent = agent.into();
        }
        self
    }

    /// [`NewEvent::trace_id`] unless it names one.
    #[doc(hidden)]
    pub fn trace_default(mut self, trace_id: &str) -> Self {
        if self.told.trace_id.is_empty() && self.told.traceparent.is_none() {
            self.told.trace_id = trace_id.into();
        }
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

    /// A key of `caller` under which the same event is told once, however often it is published, for as long as
    /// [`Config::idempotency`](crate::Config::idempotency) says; another event under that key is a conflict.
    pub fn idempotency_key(mut self, caller: &str, key: &str) -> Self {
        self.idempotency_key = Some((caller.into(), key.into()));
        self
    }

    /// The key under which it is told once; the trace that it belongs to does not count.
    pub(crate) fn key_of_its_own(&self) -> Result<Option<Key>> {
        let Some((caller, key)) = &self.idempotency_key else { return Ok(None) };
        let told = Told { trace_id: String::new(), traceparent: None, ..self.told.clone() };
        let tenant = told.metadata.get("tenant").and_then(Value::as_str);
        Key::new(tenant, caller, key, &[&codec::encode("event", &told, EVENT_BYTES_MAX)?]).map(Some)
    }

    /// Its type.
    #[doc(hidden)]
    #[must_use]
    pub fn event_type(&self) -> &str {
        &self.told.event_type
    }

    /// The names by which it is waited for: a line for each thing that it is about.
    #[doc(hidden)]
    #[must_use]
    pub fn names(&self) -> String {
        let task = self.told.task_id.map(|task| task.to_string());
        let keys: Vec<&String> = self.told.key.iter().chain(&task).collect();
        keys.iter().map(|key| event_name(&self.told.event_type, key)).collect::<Vec<_>>().join("\n")
    }

    /// Checks everything; the bytes as Redis keeps them.
    pub(crate) fn write(&self) -> Result<Vec<u8>> {
        if let Some(fault) = &self.fault {
            return Err(Error::invalid(fault.clone()));
        }
        check_event_type(&self.told.event_type)?;
        let texts = [
            ("source", Some(&self.told.source_agent)),
            ("trace id", Some(&self.told.trace_id)),
            ("key", self.told.key.as_ref()),
        ];
        for (what, text) in texts {
            let text = text.map_or("", String::as_str);
            if text.len() > 128 || !text.bytes().all(|b| (0x20..0x7f).contains(&b)) {
                return Err(Error::invalid(format!("an event's {what} has at most 128 printable ASCII characters")));
            }
        }
        let Some(traceparent) = &self.told.traceparent else {
            return codec::encode("event", &self.told, EVENT_BYTES_MAX);
        };
        let trace = trace_of(traceparent)?;
        let mut told = self.told.clone();
        if told.trace_id.is_empty() {
            told.trace_id = trace.into();
        }
        codec::encode("event", &told, EVENT_BYTES_MAX)
    }
}

/// The name by which an event of a type about a key is waited for.
pub(crate) fn event_name(event_type: &str, key: &str) -> String {
    format!("{event_type} {key}")
}

/// The trace that a `traceparent` of W3C Trace Context names.
///
/// # Errors
/// [`Error::Invalid`] for what is none: version 00, and neither trace nor parent all zeros.
pub fn trace_of(traceparent: &str) -> Result<&str> {
    let parts = || {
        let mut parts = traceparent.split('-');
        let (version, trace, parent, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let hex =
            |text: &str, n| text.len() == n && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        let named = |text: &str| text.bytes().any(|b| b != b'0');
        let fits = version == "00" && hex(trace, 32) && hex(parent, 16) && hex(flags, 2) && parts.next().is_none();
        (fits && named(trace) && named(parent)).then_some(trace)
    };
    parts().ok_or_else(|| {
        Error::invalid(format!(
            "`{}` is no traceparent; one looks like 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            crate::error::excerpt(traceparent)
        ))
    })
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
        assert!(fault(NewEvent::new("a.b", &()).key("ä")).contains("an event's key has at most 128"));
        assert!(fault(NewEvent::new("a.b", &()).traceparent("00-0-0-0")).contains("no traceparent"));
        assert!(fault(NewEvent::new("a.b", &"x".repeat(300_000))).contains("at most 262144"));
        assert_eq!("high".parse::<EventPriority>().ok(), Some(EventPriority::High));
        assert!("urgent".parse::<EventPriority>().is_err());
    }

    #[test]
    fn a_traceparent_names_its_trace_and_what_is_none_is_refused() {
        let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        assert_eq!(trace_of(good).ok(), Some("0af7651916cd43dd8448eb211c80319c"));
        let bytes = NewEvent::new("a.b", &()).traceparent(good).write().expect("a fair event");
        let told: Told = codec::decode("an event", &bytes).expect("ours");
        assert_eq!(
            (told.trace_id.as_str(), told.traceparent.as_deref()),
            ("0af7651916cd43dd8448eb211c80319c", Some(good))
        );
        for bad in ["", "00", &good[..54], &good.to_uppercase(), &good.replace("00-0a", "01-0a"), &format!("{good}-00")]
        {
            assert!(trace_of(bad).is_err(), "{bad}");
        }
        assert!(trace_of("00-00000000000000000000000000000000-b7ad6b7169203331-01").is_err());
    }
}
