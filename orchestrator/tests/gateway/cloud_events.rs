//! CloudEvents 1.0: events as such, and such as events.

use orchestrator::{EventsFrom, Heard, NewEvent};
use serde_json::{Value, json};

use super::follower::Follower;
use super::support::{Answer, Running, gateway};

const ONE: &str = "application/cloudevents+json";
const TRACEPARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// What the smallest one says, and `more`; what is null is left out.
fn cloud_event(more: &Value) -> Value {
    let mut event = json!({"specversion": "1.0", "id": "1", "source": "/ci", "type": "ci.built"});
    for (name, value) in more.as_object().unwrap() {
        match value {
            Value::Null => drop(event.as_object_mut().unwrap().remove(name)),
            value => event[name] = value.clone(),
        }
    }
    event
}

async fn structured(gateway: &Running, body: &Value) -> Answer {
    let headers = [("X-API-Key", "agent-key"), ("Content-Type", "Application/CloudEvents+json; charset=utf-8")];
    gateway.send("POST", "/events/publish", &headers, body.to_string().as_bytes()).await
}

async fn binary(gateway: &Running, headers: &[(&str, &str)], body: &str) -> Answer {
    let headers = [&[("X-API-Key", "agent-key")], headers].concat();
    gateway.send("POST", "/events/publish", &headers, body.as_bytes()).await
}

/// Everything that was told, in its order.
async fn told(gateway: &Running) -> Vec<Value> {
    let mut events = gateway.orch.events(&[], EventsFrom::Oldest);
    let mut told = Vec::new();
    while let Some(heard) = events.next_if_any().await.unwrap() {
        let Heard::Event(event) = heard else { panic!("nothing was dropped") };
        told.push(serde_json::to_value(event).unwrap());
    }
    told
}

#[tokio::test]
async fn events_are_followed_as_cloud_events() {
    let gateway = gateway().await;
    let headers = [("X-API-Key", "user-key"), ("Accept", "text/event-stream, application/cloudevents+json")];
    let mut follower = Follower::open_with(&gateway, "/events", &headers).await;
    assert!(follower.head.contains("content-type: text/event-stream"), "{}", follower.head);
    let event = NewEvent::new("deploy.succeeded", &json!({"image": "api:7"})).key("abc").traceparent(TRACEPARENT);
    let id = gateway.orch.publish(&event.source("ops bot").metadata("team", "a").metadata("Big", 0.5)).await.unwrap();
    let block = follower.next().await.expect("an event");
    let time = block.data["time"].as_str().expect("a time").to_owned();
    let namespace = &gateway.orch.config().namespace;
    let expected = json!({
        "specversion": "1.0", "id": id, "source": format!("/{namespace}/ops%20bot"), "type": "deploy.succeeded",
        "subject": "abc", "time": time, "datacontenttype": "application/json", "traceparent": TRACEPARENT,
        "traceid": &TRACEPARENT[3..35], "key": "abc", "priority": "medium", "cursor": block.id, "team": "a",
        "orchestratormetadata": r#"{"Big":0.5}"#, "data": {"image": "api:7"},
    });
    assert_eq!((block.name.as_str(), &block.data), ("deploy.succeeded", &expected));
    assert!(chrono::DateTime::parse_from_rfc3339(&time).is_ok(), "{time}");

    // What went out comes in again as it was, under the same id once.
    for _ in 0..2 {
        let again = structured(&gateway, &block.data).await;
        assert_eq!((again.status, &again.body["event_id"]), (200, &json!(id)), "{again:?}");
    }
    let all = told(&gateway).await;
    assert_eq!(all.len(), 1, "{all:?}");
    let mut renamed = block.data;
    renamed["id"] = "x".into();
    assert_eq!(structured(&gateway, &renamed).await.status, 200);
    let mut copy = told(&gateway).await.pop().expect("a second");
    let metadata = copy["metadata"].as_object_mut().expect("metadata");
    assert_eq!(metadata.remove("cloudeventid"), Some(json!("x")));
    assert_eq!(metadata.remove("cloudeventtime"), Some(json!(time)));
    for own in ["event_id", "cursor", "timestamp"] {
        copy[own] = all[0][own].clone();
    }
    assert_eq!(copy, all[0]);
}

#[tokio::test]
async fn a_gap_is_a_cloud_event_too() {
    let gateway = gateway().await;
    gateway.orch.publish(&NewEvent::new("a.b", &1)).await.unwrap();
    let headers = [("X-API-Key", "user-key"), ("Accept", ONE), ("Last-Event-ID", "1790000000000-0.0")];
    let gap = Follower::open_with(&gateway, "/events", &headers).await.next().await.expect("news");
    assert_eq!((gap.name.as_str(), &gap.data["type"]), ("gap", &json!("orchestrator.gap")));
    assert_eq!((&gap.data["specversion"], gap.data["id"].is_string()), (&json!("1.0"), true));
}

#[tokio::test]
async fn a_timeline_is_a_list_of_cloud_events_for_whoever_asks() {
    let gateway = gateway().await;
    let created = gateway.create(r#"{"type":"faq","payload":{}}"#).await;
    let id = created.body["task_id"].as_str().expect("an id");
    let path = format!("/tasks/{id}/events");
    for accept in [ONE, "application/cloudevents-batch+json;q=0.5, */*;q=0.1"] {
        let list = gateway.send("GET", &path, &[("X-API-Key", "user-key"), ("Accept", accept)], b"").await;
        assert_eq!((list.status, list.headers["content-type"].as_str()), (200, "application/cloudevents-batch+json"));
        assert_eq!(list.headers["x-complete"], "true");
        let [event] = list.body.as_array().expect("a list").as_slice() else { panic!("one event: {list:?}") };
        assert_eq!((&event["type"], &event["subject"]), (&json!("task.created"), &json!(id)));
        assert_eq!((&event["taskid"], &event["data"]["number"]), (&json!(id), &json!(1)));
    }
    for accept in ["*/*", "application/json, application/cloudevents+json;q=0.9", "application/cloudevents+json;q=0"] {
        let ours = gateway.send("GET", &path, &[("X-API-Key", "user-key"), ("Accept", accept)], b"").await;
        assert_eq!((&ours.body["count"], ours.headers["content-type"].as_str()), (&json!(1), "application/json"));
    }
}

#[tokio::test]
async fn cloud_events_of_others_are_told() {
    let gateway = gateway().await;
    let mut follower = Follower::open(&gateway, "/events", None).await;
    let task = "019aa1b2-c3d4-7e5f-8a6b-7c8d9e0f1000";
    let plain = json!({"cloudeventid": "1"});
    for (more, field, value) in [
        (json!({}), "event_type", json!("ci.built")),
        (json!({}), "source_agent", json!("/ci")),
        (json!({}), "payload", json!({})),
        (json!({}), "metadata", plain.clone()),
        (json!({"data": null}), "payload", json!({})),
        (json!({"data": [1, "x"]}), "payload", json!([1, "x"])),
        (json!({"source": "https://ci.example/a b"}), "source_agent", json!("https://ci.example/a b")),
        (json!({"subject": "commit 7"}), "key", json!("commit 7")),
        (json!({"subject": task}), "task_id", json!(task)),
        (json!({"subject": "s", "key": "k"}), "metadata", json!({"cloudeventid": "1", "cloudeventsubject": "s"})),
        (json!({"subject": task, "taskid": task, "key": "k"}), "metadata", plain.clone()),
        (json!({"subject": task, "taskid": task, "key": "k"}), "key", json!("k")),
        (json!({"traceid": "t"}), "trace_id", json!("t")),
        (json!({"priority": "critical", "cursor": "7-0.0"}), "priority", json!("critical")),
        (json!({"cursor": "7-0.0", "odd": Value::Null}), "metadata", plain.clone()),
        (
            json!({"team": "a", "n": 7, "yes": true}),
            "metadata",
            json!({"cloudeventid": "1", "team": "a", "n": 7, "yes": true}),
        ),
        (
            json!({"datacontenttype": "text/plain", "data": "x"}),
            "metadata",
            json!({"cloudeventid": "1", "cloudeventdatacontenttype": "text/plain"}),
        ),
        (json!({"dataschema": "/s"}), "metadata", json!({"cloudeventid": "1", "cloudeventdataschema": "/s"})),
    ] {
        let answer = structured(&gateway, &cloud_event(&more)).await;
        assert_eq!((answer.status, &answer.body["event_type"]), (200, &json!("ci.built")), "{more} {answer:?}");
        let event = follower.next().await.expect("the event").data;
        assert_eq!(event[field], value, "{more}");
    }
}

#[tokio::test]
async fn a_cloud_event_may_lie_in_headers() {
    let gateway = gateway().await;
    let mut follower = Follower::open(&gateway, "/events", None).await;
    let id = "019aa1b2-c3d4-7e5f-8a6b-7c8d9e0f1000";
    let head = [("ce-specversion", "1.0"), ("CE-Type", "ci.built"), ("ce-source", "/ci"), ("ce-id", "1")];
    let more = [("ce-subject", id), ("ce-team", r#""k%C3%BCche \"1\" 100%""#), ("ce-key", "k")];
    let json = [("Content-Type", "application/json"), ("traceparent", TRACEPARENT)];
    for (body, payload) in [(r#"{"n":1}"#, json!({"n": 1})), (" [1,2]", json!([1, 2])), ("7", json!(7))] {
        let answer = binary(&gateway, &[&head[..], &more, &json].concat(), body).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let event = follower.next().await.expect("the event").data;
        assert_eq!((&event["payload"], &event["key"]), (&payload, &json!("k")));
        assert_eq!(event["traceparent"], TRACEPARENT);
        let metadata = json!({"cloudeventid": "1", "cloudeventsubject": id, "team": "küche \"1\" 100%"});
        assert_eq!(event["metadata"], metadata);
    }
    let other = TRACEPARENT.replace("00-0af7", "00-1bf8");
    let answer = binary(&gateway, &[&head[..], &json[1..], &[("ce-traceparent", &other)]].concat(), "").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let event = follower.next().await.expect("the event").data;
    assert_eq!((&event["payload"], &event["traceparent"]), (&json!({}), &json!(other)));

    for (status, headers, body, part) in [
        (422, &[("ce-type", "a.b")][..], "{}", "has the attribute `specversion`"),
        (422, &[("ce-id", "1"), ("ce-specversion", "2.0")], "{}", "specversion: `2.0`"),
        (422, &[("ce-id", "1"), ("ce-data_base64", "eA==")], "{}", "ce-data_base64: this is no header"),
        (422, &[("ce-id", "1"), ("ce-id", "2")], "{}", "ce-id is given twice"),
        (422, &[("ce-id", "%ff")], "{}", "ce-id: this is no percent-encoded UTF-8"),
        (400, &[("ce-id", "1")], "[1", "not JSON"),
        (422, &[("ce-id", "1")], "[18446744073709551616]", "64 bits"),
    ] {
        binary(&gateway, &[headers, &json].concat(), body).await.refuses(status, part);
    }
    binary(&gateway, &[("ce-id", "1"), ("Content-Type", "text/plain")], "x").await.refuses(415, "application/json");
}

#[tokio::test]
async fn what_is_no_cloud_event_is_refused_and_nothing_is_told() {
    let gateway = gateway().await;
    for (more, part) in [
        (json!({"specversion": "0.3"}), "specversion: `0.3` is not understood here; send CloudEvents of version 1.0"),
        (json!({"specversion": 1.0}), "specversion: this attribute is a text"),
        (json!({"specversion": null}), "has the attribute `specversion`"),
        (json!({"id": ""}), "has the attribute `id`, a text that is not empty"),
        (json!({"id": null}), "`id`"),
        (json!({"source": null}), "`source`"),
        (json!({"type": null}), "`type`"),
        (json!({"type": "Built"}), "`Built` is no event type"),
        (json!({"data_base64": "eA=="}), "data_base64: bytes are not taken here; send JSON in `data`"),
        (json!({"source": "x".repeat(129)}), "an event's source has at most 128"),
        (json!({"subject": "x".repeat(129)}), "an event's key has at most 128"),
        (json!({"subject": 7}), "subject: this attribute is a text"),
        (json!({"taskid": "x"}), "taskid: `x` is not a task id"),
        (json!({"traceparent": "00-x"}), "traceparent: `00-x` is no traceparent"),
        (json!({"priority": "P1"}), "priority: `P1` is no priority of an event"),
        (json!({"time": "yesterday"}), "time: this is an instant with its zone"),
        (json!({"Team": "a"}), "`Team` is no attribute of a CloudEvent"),
        (json!({"team": {"a": 1}}), "team: an attribute is a text, a number, true or false; put it into `data`"),
        (json!({"orchestratormetadata": "x"}), "orchestratormetadata: this is a JSON object as a text"),
    ] {
        structured(&gateway, &cloud_event(&more)).await.refuses(422, part);
    }
    structured(&gateway, &json!([])).await.refuses(422, "not a list");
    // An id of ours tells when it was made.
    let old = cloud_event(&json!({"id": "019aa1b2-c3d4-7e5f-8a6b-7c8d9e0f1000"}));
    structured(&gateway, &old).await.refuses(409, "id: this id was made more than a minute ago");
    let batch = [("X-API-Key", "agent-key"), ("Content-Type", "application/cloudevents-batch+json")];
    gateway.send("POST", "/events/publish", &batch, b"[]").await.refuses(415, "send one event at a time");
    assert_eq!(told(&gateway).await, Vec::<Value>::new());
}
