//! Telling events over HTTP, and what is refused.

use serde_json::{Value, json};

use super::follower::Follower;
use super::support::{Running, gateway};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const TRACEPARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

async fn publish(gateway: &Running, body: &Value) -> super::support::Answer {
    gateway.post("/events/publish", "agent-key", &body.to_string()).await
}

#[tokio::test]
async fn the_smallest_event_takes_its_defaults() {
    let gateway = gateway().await;
    let mut follower = Follower::open(&gateway, "/events", None).await;
    let told = publish(&gateway, &json!({"event_type": "kitchen.soup_ready"})).await;
    assert_eq!(told.status, 200, "{told:?}");
    let id = told.body["event_id"].clone();
    let expected = json!({
        "success": true, "event_type": "kitchen.soup_ready", "event_id": id,
        "message": "Event published: kitchen.soup_ready",
    });
    assert_eq!(told.body, expected);
    let block = follower.next().await.expect("the event");
    assert_eq!((block.name.as_str(), block.id.as_deref()), ("kitchen.soup_ready", block.data["cursor"].as_str()));
    for (field, value) in [
        ("event_id", id),
        ("event_type", json!("kitchen.soup_ready")),
        ("priority", json!("medium")),
        ("source_agent", json!("AGENT")),
        ("task_id", Value::Null),
        ("payload", json!({})),
        ("metadata", json!({})),
    ] {
        assert_eq!(block.data[field], value, "{field}");
    }
    assert!(block.data["trace_id"].as_str().is_some_and(|trace| !trace.is_empty()));
    assert!(block.data["timestamp"].as_str().is_some_and(|at| at.ends_with('Z')));
}

#[tokio::test]
async fn every_field_of_an_event_arrives() {
    let gateway = gateway().await;
    let mut follower = Follower::open(&gateway, "/events", None).await;
    let body = json!({
        "event_type": "a.b.c_2", "payload": ["two\nlines\r", 2.5, "ü", null], "priority": "critical",
        "source_agent": "ci_bot", "trace_id": "trace-7", "task_id": "019aa1b2-c3d4-7e5f-8a6b-7c8d9e0f1000",
        "metadata": {"team": "a", "n": 18446744073709551615u64}, "key": "order 7", "traceparent": TRACEPARENT,
    });
    assert_eq!(publish(&gateway, &body).await.status, 200);
    let data = follower.next().await.expect("the event").data;
    for (field, value) in body.as_object().unwrap() {
        assert_eq!(&data[field], value, "{field}");
    }
    // What is null takes its default; a payload is whatever it is.
    let body = json!({
        "event_type": "a.b", "payload": null, "priority": null, "source_agent": null, "trace_id": null, "task_id": null,
        "metadata": null, "key": null, "traceparent": null,
    });
    assert_eq!(publish(&gateway, &body).await.status, 200);
    let data = follower.next().await.expect("the event").data;
    assert_eq!((&data["payload"], &data["priority"]), (&Value::Null, &json!("medium")));
    assert_eq!((&data["source_agent"], &data["metadata"]), (&json!("AGENT"), &json!({})));
}

#[tokio::test]
async fn events_and_tasks_join_the_trace_of_the_request() {
    let gateway = gateway().await;
    let mut follower = Follower::open(&gateway, "/events?types=a.*", None).await;
    let other = TRACEPARENT.replace("00-0af7", "00-1bf8");
    let headers = |traceparent: &'static str| {
        [("X-API-Key", "agent-key"), ("Content-Type", "application/json"), ("traceparent", traceparent)]
    };
    for (header, body, traceparent, trace) in [
        (TRACEPARENT, json!({}), json!(TRACEPARENT), json!(TRACE)),
        (TRACEPARENT, json!({"trace_id": "own"}), json!(TRACEPARENT), json!("own")),
        (TRACEPARENT, json!({"traceparent": other}), json!(other), json!(&other[3..35])),
        ("00-x", json!({"trace_id": "own"}), Value::Null, json!("own")),
    ] {
        let mut body = body;
        body["event_type"] = "a.b".into();
        let told = gateway.send("POST", "/events/publish", &headers(header), body.to_string().as_bytes()).await;
        assert_eq!(told.status, 200, "{told:?}");
        let data = follower.next().await.expect("the event").data;
        assert_eq!((&data["traceparent"], &data["trace_id"]), (&traceparent, &trace), "{header} {body}");
    }
    // Two headers are none.
    let twice = [&headers(TRACEPARENT)[..], &[("traceparent", other.as_str())]].concat();
    gateway.send("POST", "/events/publish", &twice, br#"{"event_type":"a.b"}"#).await;
    assert_eq!(follower.next().await.expect("the event").data.get("traceparent"), None);

    for (header, body, trace) in [
        (TRACEPARENT, json!({}), Some(TRACE)),
        (TRACEPARENT, json!({"trace_id": "own"}), Some("own")),
        ("00-x", json!({}), None),
    ] {
        let mut body = body;
        (body["type"], body["payload"]) = ("faq".into(), json!({}));
        let created = gateway.send("POST", "/tasks", &headers(header), body.to_string().as_bytes()).await;
        let own = created.body["task_id"].as_str().unwrap_or_default().replace('-', "");
        assert_eq!(created.body["task"]["trace_id"], trace.unwrap_or(&own), "{header} {created:?}");
    }
}

#[tokio::test]
async fn what_is_no_event_is_refused_and_nothing_is_told() {
    let gateway = gateway().await;
    let with = |field: &str| format!(r#"{{"event_type":"a.b",{field}}}"#);
    for (status, body, part) in [
        (422, r#"{"event_type":"deployed"}"#.into(), "write two or more words"),
        (422, r#"{"event_type":"Deploy.done"}"#.into(), "`Deploy.done` is no event type"),
        (422, r#"{"event_type":"deploy.*"}"#.into(), "deploy.succeeded"),
        (422, r#"{"event_type":"a.b\ndata: x"}"#.into(), "is no event type"),
        (422, r#"{"event_type":""}"#.into(), "is no event type"),
        (422, r#"{"event_type":7}"#.into(), "event_type: invalid type"),
        (422, "{}".into(), "missing field `event_type`"),
        (422, "[]".into(), "send a JSON object"),
        (422, "7".into(), "expected an object that describes an event"),
        (422, with(r#""typo":1"#), "unknown field `typo`"),
        (422, with(r#""priority":"P1""#), "priority: `P1` is no priority of an event; known are: critical high"),
        (422, with(r#""task_id":"x""#), "task_id: `x` is not a task id"),
        (422, with(r#""metadata":[1]"#), "metadata: "),
        (422, with(r#""source_agent":"ä""#), "printable ASCII"),
        (422, with(r#""trace_id":"a\u0000""#), "printable ASCII"),
        (422, with(&format!(r#""key":"{}""#, "x".repeat(129))), "an event's key has at most 128"),
        (422, with(r#""traceparent":"00-1-2-3""#), "`00-1-2-3` is no traceparent; one looks like 00-0af7"),
        (422, with(r#""traceparent":7"#), "traceparent: invalid type"),
        (422, with(r#""payload":18446744073709551616"#), "64 bits"),
        (422, with(&format!(r#""payload":"{}""#, "x".repeat(300_000))), "at most 262144"),
        (400, "{".into(), "not JSON"),
        (400, " ".into(), "empty"),
        (413, with(&format!(r#""payload":"{}""#, "x".repeat(1 << 20))), "1048576 bytes"),
    ] {
        gateway.post("/events/publish", "agent-key", &body).await.refuses(status, part);
    }
    let headers = [("X-API-Key", "agent-key"), ("Content-Type", "text/plain")];
    gateway.send("POST", "/events/publish", &headers, b"{}").await.refuses(415, "application/json");
    gateway.post("/events/publish", "user-key", r#"{"event_type":"a.b"}"#).await.refuses(403, "role agent");
    // The first event of all is this one.
    assert_eq!(publish(&gateway, &json!({"event_type": "a.b", "payload": "first"})).await.status, 200);
    let first = Follower::open(&gateway, "/events?from=oldest", None).await.next().await.expect("an event");
    assert_eq!(first.data["payload"], "first");
}
