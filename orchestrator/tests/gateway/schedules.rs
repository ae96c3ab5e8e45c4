//! Schedules over HTTP: what they say, who may what, and that the gateway fires them.

use std::time::{Duration, Instant};

use orchestrator::gateway::Role;
use serde_json::{Value, json};

use super::support::{Answer, Running, strict};

const AGENT: &str = "agent-key";

fn daily(name: &str) -> Value {
    json!({"name": name, "cron": "30 2 * * mon-fri", "time_zone": "Europe/Berlin", "task": {"type": "faq", "payload": {"q": 1}}})
}

async fn create(gateway: &Running, key: &str, body: &Value) -> Answer {
    gateway.post("/schedules", key, &body.to_string()).await
}

async fn send(gateway: &Running, method: &str, path: &str, key: &str, body: &Value) -> Answer {
    let headers = [("X-API-Key", key), ("Content-Type", "application/json")];
    let body = if body.is_null() { String::new() } else { body.to_string() };
    gateway.send(method, path, &headers, body.as_bytes()).await
}

#[tokio::test]
async fn a_schedule_is_created_read_changed_paused_and_removed() {
    let gateway = strict().await;
    let made = create(&gateway, AGENT, &daily("nightly")).await;
    assert_eq!((made.status, &made.body["changed"]), (200, &json!(true)), "{made:?}");
    let schedule = &made.body["schedule"];
    assert_eq!(schedule["upcoming"].as_array().map(Vec::len), Some(5), "{schedule}");
    assert_eq!(schedule["task"]["payload"], json!({"q": 1}));
    assert_eq!((&schedule["overlap"], &schedule["catch_up_within"]), (&json!("skip"), &json!("1day")));
    assert_eq!(create(&gateway, AGENT, &daily("nightly")).await.body["changed"], json!(false));
    let mut other = daily("nightly");
    other["overlap"] = json!("queue");
    create(&gateway, AGENT, &other).await.refuses(409, "another schedule has the name `nightly`");
    other.as_object_mut().unwrap().remove("name");
    let put = send(&gateway, "PUT", "/schedules/nightly", AGENT, &other).await;
    assert_eq!((put.status, &put.body["schedule"]["overlap"]), (200, &json!("queue")), "{put:?}");

    let paused = gateway.post("/schedules/nightly/pause", AGENT, "").await;
    assert_eq!((&paused.body["changed"], &paused.body["schedule"]["paused"]), (&json!(true), &json!(true)));
    assert!(paused.body["schedule"]["paused_by"].is_string());
    let run = gateway.post("/schedules/nightly/trigger", AGENT, "").await;
    let task = gateway.get(&format!("/tasks/{}", run.body["task_id"].as_str().unwrap()), "user-key").await;
    assert_eq!(task.body["task"]["metadata"]["schedule"], "nightly", "{task:?}");
    let waits = gateway.post("/schedules/nightly/trigger", AGENT, "").await;
    assert_eq!((waits.status, &waits.body["task_id"]), (200, &Value::Null), "{waits:?}");
    let resumed = gateway.post("/schedules/nightly/resume", AGENT, "").await;
    assert_eq!((&resumed.body["changed"], &resumed.body["schedule"]["paused"]), (&json!(true), &json!(false)));

    assert_eq!(create(&gateway, AGENT, &daily("a")).await.status, 200);
    let listed = gateway.get("/schedules?limit=1", "user-key").await;
    assert_eq!((&listed.body["count"], &listed.body["cursor"]), (&json!(1), &json!("a")), "{listed:?}");
    let rest = gateway.get("/schedules?cursor=a", "user-key").await;
    assert_eq!((&rest.body["schedules"][0]["name"], &rest.body["cursor"]), (&json!("nightly"), &Value::Null));
    assert_eq!(send(&gateway, "DELETE", "/schedules/nightly", AGENT, &Value::Null).await.status, 200);
    gateway.get("/schedules/nightly", "user-key").await.refuses(404, "schedule `nightly` is not known");
}

#[tokio::test]
async fn what_cannot_be_a_schedule_is_refused_with_what_is_right() {
    let gateway = strict().await;
    let with = |name: &str, value: Value| {
        let mut body = daily("x");
        body[name] = value;
        body
    };
    for (body, status, said) in [
        (with("cron", json!("30 25 * * *")), 422, "`25` is no hour; that is 0 to 23"),
        (with("cron", json!("0 0 30 2 *")), 422, "never comes"),
        (with("time_zone", json!("Europe/Berln")), 422, "Did you mean Europe/Berlin?"),
        (with("every", json!("1h")), 422, "`cron` or `every`, one of the two"),
        (with("overlap", json!("maybe")), 422, "known are skip, queue, replace, allow"),
        (with("catch_up", json!("maybe")), 422, "known are latest, all, skip"),
        (with("catch_up_within", json!("1s")), 422, "within 1 minute"),
        (with("name", json!("No Name")), 422, "no name for a schedule"),
        (with("name", json!("handler.faq")), 422, "are of handlers"),
        (with("color", json!("red")), 422, "unknown field `color`"),
        (with("task", json!({"type": "bugfx", "payload": {}})), 400, "Did you mean `bugfix`?"),
        (with("task", json!({"type": "faq", "payload": {}, "trace_id": "t"})), 422, "cannot have a trace"),
        (with("task", json!({"type": "faq", "payload": {}, "delay": "1m"})), 422, "to start after"),
        (
            with(
                "task",
                json!({"type": "faq", "payload": {}, "parent_task_id": "019aa1b2-c3d4-7e5f-8a6b-7c8d9e0f1000"}),
            ),
            422,
            "it has no parent",
        ),
    ] {
        create(&gateway, AGENT, &body).await.refuses(status, said);
    }
    assert_eq!(gateway.get("/schedules", "user-key").await.body["count"], 0);
    gateway.get("/schedules?limit=0", "user-key").await.refuses(422, "1 to 100");
    gateway.get("/schedules?limt=1", "user-key").await.refuses(422, "`limt` means nothing here");
}

#[tokio::test]
async fn a_tenant_sees_and_changes_its_own_alone() {
    let gateway = strict().await;
    let key = async |name: &str, tenant: &str| {
        gateway.orch.create_key(name, Role::Admin, Some(tenant), None).await.unwrap().1.reveal().to_owned()
    };
    let (acme, beta) = (key("ann", "acme").await, key("bob", "beta").await);
    for (key, name) in [(acme.as_str(), "ours"), (&beta, "theirs"), (AGENT, "nobodys")] {
        assert_eq!(create(&gateway, key, &daily(name)).await.status, 200);
    }
    let listed = gateway.get("/schedules", &acme).await;
    assert_eq!((&listed.body["count"], &listed.body["schedules"][0]["name"]), (&json!(1), &json!("ours")));
    assert_eq!(gateway.get("/schedules", "user-key").await.body["count"], 3);
    for name in ["theirs", "nobodys"] {
        for (method, path) in [
            ("GET", format!("/schedules/{name}")),
            ("DELETE", format!("/schedules/{name}")),
            ("POST", format!("/schedules/{name}/pause")),
            ("POST", format!("/schedules/{name}/resume")),
            ("POST", format!("/schedules/{name}/trigger")),
        ] {
            let answer = send(&gateway, method, &path, &acme, &Value::Null).await;
            answer.refuses(404, &format!("schedule `{name}` is not known here"));
        }
        let mut body = daily(name);
        create(&gateway, &acme, &body).await.refuses(409, "another schedule has the name");
        body.as_object_mut().unwrap().remove("name");
        send(&gateway, "PUT", &format!("/schedules/{name}"), &acme, &body).await.refuses(409, "has the name");
    }
    // Its tasks are the tenant's, and stay so when somebody who sees all changes the schedule.
    let run = gateway.post("/schedules/ours/trigger", &acme, "").await;
    let id = run.body["task_id"].as_str().unwrap().to_owned();
    assert_eq!(gateway.get(&format!("/tasks/{id}"), &acme).await.body["task"]["tenant"], "acme");
    gateway.get(&format!("/tasks/{id}"), &beta).await.refuses(404, "not known");
    let body = json!({"every": "1h", "task": {"type": "faq", "payload": {}}});
    let put = send(&gateway, "PUT", "/schedules/ours", "admin-key", &body).await;
    assert_eq!((put.status, &put.body["schedule"]["task"]["tenant"]), (200, &json!("acme")), "{put:?}");
}

#[tokio::test]
async fn a_gateway_fires_what_is_due_without_a_worker() {
    let gateway = strict().await;
    let body = json!({"name": "pulse", "every": "1s", "overlap": "allow", "task": {"type": "faq", "payload": {}}});
    assert_eq!(create(&gateway, AGENT, &body).await.status, 200);
    let started = Instant::now();
    loop {
        let schedule = gateway.get("/schedules/pulse", "user-key").await.body["schedule"].clone();
        if schedule["fired"].as_u64() >= Some(2) {
            break;
        }
        assert!(started.elapsed() < Duration::from_secs(20), "{schedule}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
