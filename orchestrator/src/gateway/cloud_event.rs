//! Events as CloudEvents 1.0 in JSON.
//!
//! What has a place of its own here has an attribute; metadata are extension attributes as far as they can be ones, and
//! the rest of them goes together, as one text of JSON.

use chrono::SecondsFormat;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use crate::{Event, EventPriority, TaskId};

/// One CloudEvent.
pub(super) const ONE: &str = "application/cloudevents+json";
/// A list of them.
pub(super) const MANY: &str = "application/cloudevents-batch+json";

/// The version that is spoken.
pub(super) const VERSION: &str = "1.0";
/// What of the metadata can be no attribute.
pub(super) const REST: &str = "orchestratormetadata";
/// Names that mean something; metadata of these names go to the rest.
const TAKEN: [&str; 17] = [
    "specversion",
    "id",
    "source",
    "type",
    "subject",
    "time",
    "datacontenttype",
    "dataschema",
    "data",
    "data_base64",
    "traceparent",
    "traceid",
    "taskid",
    "key",
    "priority",
    "cursor",
    REST,
];

/// An event as CloudEvents 1.0 writes it in JSON. Metadata are extension attributes: names of `a-z` and digits, with texts,
/// numbers, `true` and `false`.
#[derive(ToSchema)]
#[schema(example = json!({
    "specversion": "1.0", "id": "019aa1b2-c3d4-7e5f-8a6b-7c8d9e0f1000", "source": "https://ci.example.com/jobs/7",
    "type": "deploy.succeeded", "subject": "4b825dc6", "time": "2030-01-31T12:00:00Z", "data": {"version": "1.2.3"},
}))]
#[allow(dead_code, reason = "it is only described; events are read and written attribute by attribute")]
pub(super) struct CloudEvent {
    /// The version of CloudEvents: `1.0`.
    #[schema(pattern = "^1\\.0$", example = "1.0")]
    specversion: String,
    /// Its name. A UUID of version 7 that is sent again within a minute is the same event; any other id is kept as metadata.
    #[schema(min_length = 1)]
    id: String,
    /// Who tells it.
    #[schema(min_length = 1, max_length = 128, pattern = "^[ -~]*$")]
    source: String,
    /// What happened: words of `a-z`, `0-9` and `_` with dots between them.
    #[schema(max_length = 128, pattern = r"^[a-z0-9_]+(\.[a-z0-9_]+)+$", example = "deploy.succeeded")]
    r#type: String,
    /// What it is about: a task, or a key.
    subject: Option<String>,
    /// When it was told.
    #[schema(format = DateTime)]
    time: Option<String>,
    datacontenttype: Option<String>,
    dataschema: Option<String>,
    /// Where in a trace it was told, as W3C Trace Context writes it.
    #[schema(pattern = "^00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}$")]
    traceparent: Option<String>,
    /// The trace that it belongs to.
    #[schema(max_length = 128, pattern = "^[ -~]*$")]
    traceid: Option<String>,
    /// The task that it is about.
    taskid: Option<TaskId>,
    /// What else it is about.
    #[schema(max_length = 128, pattern = "^[ -~]*$")]
    key: Option<String>,
    /// How urgent it is.
    priority: Option<EventPriority>,
    /// Where it stands in the stream.
    cursor: Option<String>,
    /// What was told: any JSON.
    #[schema(required = false)]
    data: Value,
}

/// An event of the namespace as a CloudEvent.
pub(super) fn told(event: &Event, namespace: &str) -> Value {
    let (mut members, mut rest) = (Map::new(), Map::new());
    for (name, value) in &event.metadata {
        let part = if can_be_attribute(name, value) { &mut members } else { &mut rest };
        part.insert(name.clone(), value.clone());
    }
    if !rest.is_empty() {
        members.insert(REST.into(), escaped(&Value::Object(rest).to_string()).into());
    }
    let task = event.task_id.map(|id| id.to_string());
    let key = event.key.clone().filter(|key| !key.is_empty());
    let time = event.timestamp.to_rfc3339_opts(SecondsFormat::Millis, true);
    let priority = json!(event.priority);
    for (name, text) in [
        ("specversion", Some(VERSION)),
        ("id", Some(event.event_id.as_str())),
        ("source", Some(&source(namespace, Some(&event.source_agent)))),
        ("type", Some(&event.event_type)),
        ("subject", task.as_deref().or(key.as_deref())),
        ("time", Some(&time)),
        ("datacontenttype", Some("application/json")),
        ("traceparent", event.traceparent.as_deref()),
        ("traceid", Some(&event.trace_id)),
        ("taskid", task.as_deref()),
        ("key", key.as_deref()),
        ("priority", priority.as_str()),
        ("cursor", Some(&event.cursor.to_string())),
    ] {
        if let Some(text) = text {
            members.insert(name.into(), text.chars().filter(|c| is_fair(*c)).collect::<String>().into());
        }
    }
    members.insert("data".into(), event.payload.clone());
    Value::Object(members)
}

/// That events were missed, for readers who take everything for a CloudEvent; `id` is a new one.
pub(super) fn gap(namespace: &str, id: &str, detail: &str) -> Value {
    json!({
        "specversion": VERSION, "id": id, "source": source(namespace, None), "type": "orchestrator.gap",
        "datacontenttype": "application/json", "data": {"detail": detail},
    })
}

/// Whether an attribute can be called so.
pub(super) fn is_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
}

/// Whether metadata can be an extension attribute: its name, and texts, whole numbers of 32 bits, true and false.
fn can_be_attribute(name: &str, value: &Value) -> bool {
    let fits = match value {
        Value::Bool(_) => true,
        Value::Number(number) => number.as_i64().is_some_and(|number| i32::try_from(number).is_ok()),
        Value::String(text) => text.chars().all(is_fair),
        _ => false,
    };
    fits && is_name(name) && !TAKEN.contains(&name)
}

/// Whether the text of an attribute may have it: no control character, and none that Unicode calls no character.
fn is_fair(c: char) -> bool {
    !c.is_control() && !matches!(c, '\u{fdd0}'..='\u{fdef}') && u32::from(c) & 0xfffe != 0xfffe
}

/// The same JSON, fit for the text of an attribute.
fn escaped(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for c in json.chars() {
        match is_fair(c) {
            true => text.push(c),
            false => c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| text.push_str(&format!("\\u{unit:04x}"))),
        }
    }
    text
}

/// `/<namespace>/<agent>`, as a reference to a URI.
pub(super) fn source(namespace: &str, agent: Option<&str>) -> String {
    let mut text = String::new();
    for part in [Some(namespace), agent].into_iter().flatten() {
        text.push('/');
        for byte in part.bytes() {
            match byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@".contains(&byte) {
                true => text.push(char::from(byte)),
                false => text.push_str(&format!("%{byte:02X}")),
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(change: &Value) -> Event {
        let mut event = json!({
            "event_id": "7-0-0", "event_type": "deploy.succeeded", "priority": "high", "source_agent": "ops/eu ü",
            "trace_id": "t", "task_id": null, "payload": [1, null], "timestamp": "2030-01-31T12:00:00Z",
            "metadata": {}, "cursor": "7-0.0",
        });
        for (name, value) in change.as_object().expect("an object") {
            event[name] = value.clone();
        }
        serde_json::from_value(event).expect("an event")
    }

    #[test]
    fn an_event_is_a_cloud_event() {
        let plain = json!({
            "specversion": "1.0", "id": "7-0-0", "source": "/prod/ops%2Feu%20%C3%BC", "type": "deploy.succeeded",
            "time": "2030-01-31T12:00:00.000Z", "datacontenttype": "application/json", "traceid": "t",
            "priority": "high", "cursor": "7-0.0", "data": [1, null],
        });
        assert_eq!(told(&event(&json!({})), "prod"), plain);
        let task = "019aa1b2-c3d4-7e5f-8a6b-7c8d9e0f1000";
        let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let full = told(&event(&json!({"task_id": task, "key": "abc", "traceparent": parent})), "prod");
        for (name, text) in [("subject", task), ("taskid", task), ("key", "abc"), ("traceparent", parent)] {
            assert_eq!(full[name], text, "{name}");
        }
        assert_eq!(told(&event(&json!({"key": "abc"})), "prod")["subject"], "abc");
        assert_eq!(told(&event(&json!({"key": ""})), "prod").get("subject"), None);
    }

    #[test]
    fn metadata_are_attributes_as_far_as_they_can_be() {
        let kept = json!({"team": "a ü", "n": -2147483648i64, "yes": true});
        let rest = json!({
            "Team": "a", "a_b": 1, "": 2, "n2": 2147483648u64, "half": 0.5, "list": [1], "none": null, "type": "x",
            "data": "y", "cursor": "z", "lines": "a\n\u{85}", "odd": "\u{fdd0}\u{1ffff}",
        });
        let mut all = kept.clone();
        all.as_object_mut().expect("an object").extend(rest.as_object().expect("an object").clone());
        let told = told(&event(&json!({"metadata": all})), "prod");
        for (name, value) in kept.as_object().expect("an object") {
            assert_eq!(&told[name], value, "{name}");
        }
        assert_eq!((&told["type"], told.get("half")), (&json!("deploy.succeeded"), None));
        let text = told[REST].as_str().expect("a text");
        assert!(text.chars().all(is_fair), "{text:?}");
        assert_eq!(serde_json::from_str::<Value>(text).ok(), Some(rest));
    }
}
