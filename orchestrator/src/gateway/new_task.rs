//! The body of `POST /tasks`.

use std::str::FromStr;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::schemas::{BackoffText, Name};
use crate::{Backoff, Error, NewTask, Priority, Source, Span, Task, TaskId, Unique, UniqueUntil};

/// A task as a client asks for it. What is left out or null takes its default; a field that is not known is refused,
/// because it was meant to say something.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, expecting = "an object that describes a task")]
#[schema(as = NewTask, example = json!({
    "type": "bugfix",
    "payload": {"issue_id": "123", "description": "Fix login bug"},
    "priority": "P1",
    "source": "ops",
}))]
pub(super) struct NewTaskBody {
    /// What kind of work it is: `faq`, `bugfix`, `deploy`, `investigate`, `monitor`, `alert`, `refactor`, `feature`,
    /// `kb_update`, or any type that a live worker handles or a routing rule names.
    #[serde(rename = "type")]
    #[schema(value_type = Name, example = "bugfix")]
    pub(super) task_type: String,
    /// The handler's input: any JSON, with whole numbers of 64 bits at most.
    #[schema(required)]
    payload: Value,
    /// The order within its queue; `P2` unless told.
    #[serde(default, deserialize_with = "word")]
    priority: Option<Priority>,
    /// Who asks; `user` unless told.
    #[serde(default, deserialize_with = "word")]
    source: Option<Source>,
    /// Shared by all that belongs together: 1 to 128 printable ASCII characters. Else the trace of `traceparent`, else the
    /// parent's, else a new one.
    #[schema(min_length = 1, max_length = 128, pattern = "^[ -~]*$")]
    trace_id: Option<String>,
    /// The task that asks for this one.
    pub(super) parent_task_id: Option<TaskId>,
    /// Free fields of yours, 16 KiB at most.
    metadata: Option<Map<String, Value>>,
    /// Total time that it may take, from its creation.
    #[serde(default, deserialize_with = "span")]
    #[schema(value_type = Option<Span>)]
    sla_target: Option<Span>,
    /// The instant by which it has to have ended.
    #[serde(default, deserialize_with = "instant")]
    sla_deadline: Option<DateTime<Utc>>,
    /// Attempts that may follow the first; 3 unless told.
    #[serde(default, deserialize_with = "retries")]
    #[schema(maximum = 255)]
    max_retries: Option<u8>,
    /// The queue, where routing by type is not wanted.
    #[schema(value_type = Option<Name>)]
    queue: Option<String>,
    /// The instant before which it does not start, at most 366 days ahead; not together with `delay`.
    #[serde(default, deserialize_with = "instant")]
    run_at: Option<DateTime<Utc>>,
    /// How long it waits before it may start; not together with `run_at`.
    #[serde(default, deserialize_with = "span")]
    #[schema(value_type = Option<Span>)]
    delay: Option<Span>,
    /// How long after its start, that is its creation, `run_at` or `delay`, an attempt may still begin; it then ends as
    /// `failed`, for the reason `expired`. Not together with `expires_at`.
    #[serde(default, deserialize_with = "span")]
    #[schema(value_type = Option<Span>)]
    expires: Option<Span>,
    /// The instant after which no attempt begins; not together with `expires`.
    #[serde(default, deserialize_with = "instant")]
    expires_at: Option<DateTime<Utc>>,
    /// The wait between its attempts: `fixed(DELAY)`, or `exp(FIRST, LONGEST)`, which doubles and is drawn by chance below that.
    #[serde(default, deserialize_with = "word")]
    #[schema(value_type = Option<BackoffText>)]
    backoff: Option<Backoff>,
    /// Of several tasks of this type with the same key one is stored at a time: another is answered with the one that is there,
    /// and `existing` is true.
    unique: Option<UniqueBody>,
}

/// A key that one task holds at a time.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, expecting = "an object with key and until")]
#[schema(as = Unique)]
pub(super) struct UniqueBody {
    /// 1 to 255 bytes without control characters.
    #[schema(min_length = 1, max_length = 255, pattern = "^[ -~]*$")]
    key: String,
    /// `done` unless told.
    #[serde(default, deserialize_with = "word")]
    until: Option<UniqueUntil>,
}

impl NewTaskBody {
    /// The task itself, in the trace that the body names, else in that of the request, else in its parent's.
    pub(super) fn into_task(self, parent: Option<&Task>, trace: Option<&str>) -> NewTask {
        let mut task = NewTask::new(&self.task_type, &self.payload)
            .priority(self.priority.unwrap_or_default())
            .source(self.source.unwrap_or_default());
        if let Some(parent) = parent {
            task = task.child_of(parent);
        }
        if let Some(trace_id) = self.trace_id.as_deref().or(trace) {
            task = task.trace_id(trace_id);
        }
        for (key, value) in self.metadata.unwrap_or_default() {
            task = task.metadata(&key, value);
        }
        if let Some(target) = self.sla_target {
            task = task.sla_target(target);
        }
        if let Some(deadline) = self.sla_deadline {
            task = task.sla_deadline(deadline);
        }
        if let Some(retries) = self.max_retries {
            task = task.max_retries(retries);
        }
        if let Some(queue) = &self.queue {
            task = task.queue(queue);
        }
        if let Some(instant) = self.run_at {
            task = task.run_at(instant);
        }
        if let Some(delay) = self.delay {
            task = task.delay(delay);
        }
        if let Some(expires) = self.expires {
            task = task.expires(expires);
        }
        if let Some(instant) = self.expires_at {
            task = task.expires_at(instant);
        }
        if let Some(backoff) = self.backoff {
            task = task.backoff(backoff);
        }
        if let Some(UniqueBody { key, until }) = self.unique {
            task = task.unique(Unique::until_done(&key).until(until.unwrap_or_default()));
        }
        task
    }
}

/// A word of a closed list.
pub(super) fn word<'de, D: Deserializer<'de>, T: FromStr<Err = Error>>(reader: D) -> Result<Option<T>, D::Error> {
    match Option::<Value>::deserialize(reader)? {
        None => Ok(None),
        Some(Value::String(word)) => word.parse().map(Some).map_err(D::Error::custom),
        // What is no text is no word of the list either: the error tells the list.
        Some(other) => other.to_string().parse().map(Some).map_err(D::Error::custom),
    }
}

/// A number of seconds, or text with a unit.
pub(super) fn span<'de, D: Deserializer<'de>>(reader: D) -> Result<Option<Span>, D::Error> {
    let span = match Option::<Value>::deserialize(reader)? {
        None => return Ok(None),
        Some(Value::String(text)) => Span::from(text.as_str()),
        Some(Value::Number(seconds)) => {
            let seconds = seconds.as_f64().unwrap_or(-1.0);
            Span::from(Duration::try_from_secs_f64(seconds).map_err(|_| D::Error::custom(SPAN))?)
        }
        Some(_) => return Err(D::Error::custom(SPAN)),
    };
    span.duration().map_err(D::Error::custom)?;
    Ok(Some(span))
}

const SPAN: &str = "a span of time is a number of seconds, or a text with a unit: \"250ms\", \"15m\", \"2d\"";

pub(super) fn instant<'de, D: Deserializer<'de>>(reader: D) -> Result<Option<DateTime<Utc>>, D::Error> {
    let said = "an instant is a text with its zone: \"2030-01-31T12:00:00Z\"";
    match Option::<Value>::deserialize(reader)? {
        None => Ok(None),
        Some(Value::String(text)) => DateTime::parse_from_rfc3339(&text)
            .map(|instant| Some(instant.to_utc()))
            .map_err(|_| D::Error::custom(said)),
        Some(_) => Err(D::Error::custom(said)),
    }
}

fn retries<'de, D: Deserializer<'de>>(reader: D) -> Result<Option<u8>, D::Error> {
    let said = || D::Error::custom("a number of retries is a whole number from 0 to 255");
    match Option::<Value>::deserialize(reader)? {
        None => Ok(None),
        Some(value) => value.as_u64().and_then(|n| u8::try_from(n).ok()).map(Some).ok_or_else(said),
    }
}
