//! What `POST /events/publish` takes: an event in words of ours, or a CloudEvent.

use axum::http::HeaderMap;
use chrono::DateTime;
use serde::Deserialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::cloud_event::{REST, VERSION, is_name, source};
use super::new_task::word;
use crate::{EventPriority, NewEvent, TaskId};

/// What a CloudEvent says and an event has no place for is kept as metadata.
const KEPT: [(&str, &str); 2] = [("time", "cloudeventtime"), ("dataschema", "cloudeventdataschema")];

/// An event as a client tells it. What is left out takes its default; a field that is not known is refused, because it
/// was meant to say something.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, expecting = "an object that describes an event")]
#[schema(as = NewEvent, example = json!({
    "event_type": "deploy.succeeded",
    "payload": {"deployment_id": "d-7", "version": "1.2.3"},
    "priority": "high",
    "source_agent": "ops_agent",
}))]
pub(super) struct NewEventBody {
    /// What happened: words of `a-z`, `0-9` and `_` with dots between them.
    #[schema(max_length = 128, pattern = r"^[a-z0-9_]+(\.[a-z0-9_]+)+$", example = "deploy.succeeded")]
    pub(super) event_type: String,
    /// What is told: any JSON; an empty object unless told.
    #[serde(default = "nothing")]
    payload: Value,
    /// How urgent it is; `medium` unless told.
    #[serde(default, deserialize_with = "word")]
    priority: Option<EventPriority>,
    /// Who tells it; the caller unless told.
    #[schema(max_length = 128, pattern = "^[ -~]*$")]
    source_agent: Option<String>,
    /// The trace that it belongs to. Else that of `traceparent`, else a new one.
    #[schema(max_length = 128, pattern = "^[ -~]*$")]
    trace_id: Option<String>,
    /// Where in a trace it is told, as W3C Trace Context writes it; else that of the header.
    #[schema(pattern = "^00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}$")]
    traceparent: Option<String>,
    /// The task that it is about.
    task_id: Option<TaskId>,
    /// What else it is about: a commit, an order … Whoever waits for an event names it.
    #[schema(max_length = 128, pattern = "^[ -~]*$")]
    key: Option<String>,
    /// Free fields of yours.
    metadata: Option<Map<String, Value>>,
}

impl NewEventBody {
    /// The event itself; `caller` tells it unless the body names somebody, in the trace of the request unless it names one.
    pub(super) fn into_event(self, caller: &str, traceparent: Option<&str>) -> NewEvent {
        let source = self.source_agent.as_deref().filter(|source| !source.is_empty());
        let mut event = NewEvent::new(&self.event_type, &self.payload)
            .priority(self.priority.unwrap_or_default())
            .source(source.unwrap_or(caller))
            .trace_id(self.trace_id.as_deref().unwrap_or_default());
        if let Some(task) = self.task_id {
            event = event.task(task);
        }
        if let Some(traceparent) = self.traceparent.as_deref().or(traceparent) {
            event = event.traceparent(traceparent);
        }
        if let Some(key) = &self.key {
            event = event.key(key);
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

/// The `traceparent` of a request: one header of W3C Trace Context. What is none is as good as not sent, as it says.
pub(super) fn traceparent(headers: &HeaderMap) -> Option<String> {
    let mut given = headers.get_all("traceparent").iter();
    let one = given.next().filter(|_| given.next().is_none())?.to_str().ok()?.trim();
    let (version, rest) = one.split_once('-')?;
    let text = match version {
        "00" => one.to_owned(),
        "ff" => return None,
        _ => {
            // A later version begins as this one does, may go on behind it, and may have flags that nobody knows yet.
            let is_version = version.len() == 2 && version.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
            let begins = is_version && matches!(rest.as_bytes().get(52), None | Some(b'-'));
            let (trace, flags) = rest.get(..52).filter(|_| begins)?.rsplit_once('-')?;
            format!("00-{trace}-{:02x}", u8::from_str_radix(flags, 16).ok()? & 1)
        }
    };
    crate::trace_of(&text).is_ok().then_some(text)
}

/// An event as a CloudEvent says it, with its type, in the trace of the request unless it names one; `attributes` hold its
/// `data` too.
///
/// # Errors
/// What is wrong, and what is right.
pub(super) fn from_cloud_event(
    attributes: Map<String, Value>,
    namespace: &str,
    traceparent: Option<&str>,
) -> Result<(String, NewEvent), String> {
    let mut said = Said(attributes);
    match said.needed("specversion")?.as_str() {
        VERSION => {}
        other => {
            let other = crate::error::excerpt(other);
            return Err(format!(
                "specversion: `{other}` is not understood here; send CloudEvents of version {VERSION}"
            ));
        }
    }
    if said.0.contains_key("data_base64") {
        return Err("data_base64: bytes are not taken here; send JSON in `data`, and keep large data elsewhere".into());
    }
    let data = said.0.remove("data").unwrap_or_else(nothing);
    let event_type = said.needed("type")?;
    let mut event = NewEvent::new(&event_type, &data).source(&agent(&said.needed("source")?, namespace));
    let id = said.needed("id")?;
    match id.parse::<TaskId>() {
        Ok(id) => event = event.id(id),
        Err(_) => event = event.metadata("cloudeventid", id),
    }
    if let Some(word) = said.text("priority")? {
        event = event.priority(word.parse::<EventPriority>().map_err(|error| format!("priority: {error}"))?);
    }
    if let Some(trace) = said.text("traceid")? {
        event = event.trace_id(&trace);
    }
    let own = said.text("traceparent")?;
    if let Some(traceparent) = own.as_deref().or(traceparent) {
        crate::trace_of(traceparent).map_err(|error| format!("traceparent: {error}"))?;
        event = event.traceparent(traceparent);
    }
    let task = said.text("taskid")?.map(|id| id.parse::<TaskId>().map_err(|error| format!("taskid: {error}")));
    let (mut task, mut key) = (task.transpose()?, said.text("key")?);
    if let Some(subject) = said.text("subject")?.filter(|subject| !subject.is_empty()) {
        // Who knows no attributes of ours names one of the two as the subject.
        let alone = task.is_none() && key.is_none();
        match subject.parse::<TaskId>() {
            Ok(id) if alone => task = Some(id),
            Err(_) if alone => key = Some(subject),
            Ok(id) if task == Some(id) => {}
            _ if key.as_ref() == Some(&subject) => {}
            _ => event = event.metadata("cloudeventsubject", subject),
        }
    }
    if let Some(task) = task {
        event = event.task(task);
    }
    if let Some(key) = &key {
        event = event.key(key);
    }
    // A place in a stream means nothing outside of it.
    said.0.remove("cursor");
    for (name, value) in said.metadata()? {
        event = event.metadata(&name, value);
    }
    Ok((event_type, event))
}

/// Attributes that were not looked at yet.
struct Said(Map<String, Value>);

impl Said {
    fn text(&mut self, name: &str) -> Result<Option<String>, String> {
        match self.0.remove(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(format!("{name}: this attribute is a text")),
        }
    }

    fn needed(&mut self, name: &str) -> Result<String, String> {
        let text = self.text(name)?.filter(|text| !text.is_empty());
        text.ok_or_else(|| format!("a CloudEvent has the attribute `{name}`, a text that is not empty"))
    }

    /// What is left.
    fn metadata(&mut self) -> Result<Map<String, Value>, String> {
        let mut metadata = match self.text(REST)? {
            None => Map::new(),
            Some(text) => {
                serde_json::from_str(&text).map_err(|_| format!("{REST}: this is a JSON object as a text"))?
            }
        };
        if let Some(kind) = self.text("datacontenttype")?.filter(|kind| !is_json(kind)) {
            metadata.insert("cloudeventdatacontenttype".into(), kind.into());
        }
        for (name, kept) in KEPT {
            let Some(text) = self.text(name)? else { continue };
            if name == "time" && DateTime::parse_from_rfc3339(&text).is_err() {
                return Err("time: this is an instant with its zone: 2030-01-31T12:00:00Z".into());
            }
            metadata.insert(kept.into(), text.into());
        }
        for (name, value) in std::mem::take(&mut self.0) {
            if !is_name(&name) {
                let name = crate::error::excerpt(&name);
                return Err(format!("`{name}` is no attribute of a CloudEvent; one has letters a-z and digits only"));
            }
            match value {
                Value::Null => {}
                Value::Array(_) | Value::Object(_) => {
                    let name = crate::error::excerpt(&name);
                    return Err(format!("{name}: an attribute is a text, a number, true or false; put it into `data`"));
                }
                value => drop(metadata.insert(name, value)),
            }
        }
        Ok(metadata)
    }
}

/// The attributes of a CloudEvent whose data are the body, in headers `ce-…`; `None` when the request is none such.
///
/// # Errors
/// What is wrong, and what is right.
pub(super) fn in_headers(headers: &HeaderMap) -> Result<Option<Map<String, Value>>, String> {
    if !["ce-specversion", "ce-type", "ce-source", "ce-id"].iter().any(|name| headers.contains_key(*name)) {
        return Ok(None);
    }
    let mut attributes = Map::new();
    for (header, value) in headers {
        let Some(name) = header.as_str().strip_prefix("ce-") else { continue };
        if matches!(name, "data" | "data_base64" | "datacontenttype") {
            return Err(format!("{header}: this is no header; the body is the data, and Content-Type tells its type"));
        }
        let text = std::str::from_utf8(value.as_bytes()).ok();
        let text = text.and_then(|text| decoded(&unquoted(text)));
        let text = text.ok_or_else(|| format!("{header}: this is no percent-encoded UTF-8"))?;
        if attributes.insert(name.into(), text.into()).is_some() {
            return Err(format!("{header} is given twice; give it once"));
        }
    }
    Ok(Some(attributes))
}

/// What a quoted text says; any other as it is.
fn unquoted(text: &str) -> String {
    let Some(inner) = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')) else { return text.into() };
    let mut chars = inner.chars();
    std::iter::from_fn(|| chars.next().and_then(|c| if c == '\\' { chars.next() } else { Some(c) })).collect()
}

fn is_json(kind: &str) -> bool {
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    kind == "application/json" || kind.ends_with("+json")
}

/// Who told it: of the namespace the agent, of the rest of the world the whole source.
fn agent(given: &str, namespace: &str) -> String {
    let ours = format!("{}/", source(namespace, None));
    let agent = given.strip_prefix(&ours).filter(|agent| !agent.is_empty() && !agent.contains('/'));
    agent.and_then(decoded).unwrap_or_else(|| given.into())
}

/// A percent-encoded text, decoded once; a `%` that begins no byte stands for itself.
fn decoded(text: &str) -> Option<String> {
    let (bytes, mut plain, mut at) = (text.as_bytes(), Vec::new(), 0);
    while let Some(byte) = bytes.get(at) {
        let digits = bytes.get(at + 1..at + 3).filter(|digits| digits.iter().all(u8::is_ascii_hexdigit));
        let escape = digits.filter(|_| *byte == b'%').and_then(|digits| std::str::from_utf8(digits).ok());
        let coded = escape.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        plain.push(coded.unwrap_or(*byte));
        at += if coded.is_some() { 3 } else { 1 };
    }
    String::from_utf8(plain).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_has_one_traceparent_or_none() {
        const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let read = |given: &[&str]| {
            let mut headers = HeaderMap::new();
            for given in given {
                headers.append("traceparent", given.parse().expect("a value"));
            }
            traceparent(&headers)
        };
        assert_eq!(read(&[GOOD]).as_deref(), Some(GOOD));
        let later = |flags: &str| GOOD.replace("00-0a", "cc-0a").replace("-01", flags);
        for (later, flags) in [(later("-01"), "-01"), (later("-ff-more"), "-01"), (later("-08-"), "-00")] {
            assert_eq!(read(&[&later]), Some(GOOD.replace("-01", flags)), "{later}");
        }
        for bad in [
            &[][..],
            &[""],
            &[GOOD, GOOD],
            &["00"],
            &[&GOOD.to_uppercase()],
            &[&format!("{GOOD}-more")],
            &[&later("-01more")],
            &[&later("-0")],
            &[&later("-01").replace("cc-", "ff-")],
            &[&later("-01").replace("cc-", "CC-")],
            &[&later("-01").replace("cc-", "1-")],
            &[&later("-01").replace("0af7651916cd43dd8448eb211c80319c", &"0".repeat(32))],
        ] {
            assert_eq!(read(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn texts_of_headers_and_sources_are_decoded_once() {
        for (coded, plain) in [("a%20b", "a b"), ("%C3%BC%2520", "ü%20"), ("100%", "100%"), ("%zz%4", "%zz%4")] {
            assert_eq!(decoded(coded).as_deref(), Some(plain));
        }
        assert_eq!(decoded("%ff"), None);
        for (quoted, plain) in [("a", "a"), (r#""a b""#, "a b"), (r#""a\"\\""#, r#"a"\"#), ("\"", "\"")] {
            assert_eq!(unquoted(quoted), plain);
        }
        for (given, who) in [
            ("/prod/ops%2Feu", "ops/eu"),
            ("/prod/ops/eu", "/prod/ops/eu"),
            ("/prod/", "/prod/"),
            ("/test/ops", "/test/ops"),
            ("/prod/%ff", "/prod/%ff"),
            ("https://ci.example", "https://ci.example"),
        ] {
            assert_eq!(agent(given, "prod"), who);
        }
    }
}
