//! What clients read: names and values as they have always been.

use super::support::{gateway, tokens};
use orchestrator::gateway::Role;
use serde_json::{Value, json};
use std::time::Duration;

/// A task's fields that clients rely on; none may ever be missing.
const FIELDS: &[&str] = &[
    "task_id",
    "type",
    "priority",
    "source",
    "status",
    "payload",
    "trace_id",
    "sla",
    "assigned_to",
    "created_at",
    "started_at",
    "completed_at",
    "parent_task_id",
    "child_task_ids",
    "metadata",
    "error",
    "retry_count",
    "max_retries",
    "result",
    "attempt",
    "run_at",
    "blocked_on",
    "approval_id",
    "requested_by",
    "progress",
    "queue",
];

#[tokio::test]
async fn the_well_known_request_creates_a_task() {
    let gateway = gateway().await;
    let body = r#"{
    "type": "bugfix",
    "payload": {"issue_id": "123", "description": "Fix login bug"},
    "priority": "P1",
    "source": "ops"
  }"#;
    let created = gateway.create(body).await;
    assert_eq!(created.status, 200, "{created:?}");
    assert_eq!(created.body["success"], true);
    assert_eq!(created.body["message"], "Task created and assigned to dev_agent");
    let task = &created.body["task"];
    assert_eq!(task["task_id"], created.body["task_id"]);
    assert!(FIELDS.iter().all(|field| task.get(field).is_some()), "{task}");
    for (field, value) in [
        ("type", json!("bugfix")),
        ("priority", json!("P1")),
        ("source", json!("ops")),
        ("status", json!("assigned")),
        ("payload", json!({"issue_id": "123", "description": "Fix login bug"})),
        ("assigned_to", json!("dev_agent")),
        ("requested_by", json!("AGENT")),
        ("max_retries", json!(3)),
        ("retry_count", json!(0)),
        ("sla", Value::Null),
    ] {
        assert_eq!(task[field], value, "{field}");
    }
    let path = format!("/tasks/{}", created.body["task_id"].as_str().unwrap());
    let read = gateway.get(&path, "user-key").await;
    assert_eq!((read.status, &read.body["success"], &read.body["task"]), (200, &json!(true), task));
    assert_eq!(read.body["task_id"], created.body["task_id"]);
}

#[tokio::test]
async fn every_field_of_a_request_arrives() {
    let gateway = gateway().await;
    let parent = gateway.create(r#"{"type":"faq","payload":null,"trace_id":"trace-7"}"#).await.body["task_id"].clone();
    let body = json!({
        "type": "kb_update", "payload": [1, 2.5, "ü", null], "priority": "P3", "source": "webhook", "trace_id": null,
        "parent_task_id": parent, "metadata": {"team": "a", "n": 18446744073709551615u64}, "sla_target": "30m",
        "sla_deadline": "2040-01-31T12:00:00+02:00", "max_retries": 0, "queue": "night_shift", "delay": 90,
    });
    let created = gateway.create(&body.to_string()).await;
    assert_eq!(created.status, 200, "{created:?}");
    assert_eq!(created.body["message"], "Task created and assigned to night_shift");
    let task = &created.body["task"];
    for field in ["type", "payload", "priority", "source", "parent_task_id", "metadata", "max_retries", "queue"] {
        assert_eq!(task[field], body[field], "{field}");
    }
    assert_eq!(
        (&task["status"], &task["trace_id"]),
        (&json!("pending"), &json!("trace-7")),
        "a child joins its parent's trace"
    );
    assert_eq!(task["sla"]["target"], "30m");
    assert_eq!(task["sla"]["deadline"], "2040-01-31T10:00:00Z");
    assert!(task["run_at"].is_string());
    let alone = gateway.create(r#"{"type":"faq","payload":{},"sla_deadline":"2040-01-31T12:00:00Z"}"#).await;
    assert_eq!(alone.body["task"]["sla"]["target"], Value::Null);
    let later = gateway.create(r#"{"type":"faq","payload":{},"run_at":"2000-01-01T00:00:00Z"}"#).await;
    assert_eq!(later.body["task"]["status"], "assigned", "an instant that has passed is now");
    let parent = gateway.get(&format!("/tasks/{}", parent.as_str().unwrap()), "user-key").await;
    assert_eq!(parent.body["task"]["child_task_ids"], json!([created.body["task_id"]]));
}

#[tokio::test]
async fn the_public_routes_have_their_shapes() {
    let gateway = gateway().await;
    let about = gateway.send("GET", "/", &[], b"").await;
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(about.body, json!({"service": "MorningAI Orchestrator", "version": version, "status": "running"}));
    assert_eq!(gateway.send("GET", "/livez", &[], b"").await.status, 200);
    assert_eq!(gateway.send("GET", "/readyz", &[], b"").await.body, json!({"status": "ready"}));
    gateway.create(r#"{"type":"deploy","payload":{}}"#).await;
    let health = gateway.send("GET", "/health", &[], b"").await;
    let counts = json!({"pending_tasks": 1, "processing_tasks": 0, "total_tasks": 1});
    assert_eq!(health.body, json!({"status": "healthy", "redis": "connected", "queue_stats": counts}));
    for (name, value) in [
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
        ("referrer-policy", "no-referrer"),
        ("cache-control", "no-store"),
        ("content-security-policy", "default-src 'none'; frame-ancestors 'none'"),
    ] {
        assert_eq!(health.headers[name], value);
    }
    assert!(!health.headers.contains_key("server"));
    let named = gateway.send("GET", "/health", &[("X-Request-Id", "mine-7")], b"").await;
    assert_eq!(named.headers["x-request-id"], "mine-7");
}

#[tokio::test]
async fn stats_count_by_queue_at_the_present_time() {
    let gateway = gateway().await;
    for kind in ["faq", "bugfix", "bugfix"] {
        gateway.create(&json!({"type": kind, "payload": {}}).to_string()).await;
    }
    gateway.create(r#"{"type":"faq","payload":{},"delay":"1h"}"#).await;
    let stats = gateway.get("/stats", "user-key").await;
    let queue = &stats.body["queue"];
    assert_eq!(
        (&queue["pending_tasks"], &queue["processing_tasks"], &queue["total_tasks"]),
        (&json!(4), &json!(0), &json!(4))
    );
    assert_eq!(
        queue["queues"],
        json!([{"queue": "dev_agent", "ready": 2, "paused": false}, {"queue": "faq_agent", "ready": 1, "paused": false}])
    );
    let told: chrono::DateTime<chrono::Utc> = serde_json::from_value(stats.body["timestamp"].clone()).unwrap();
    assert!((chrono::Utc::now() - told).num_seconds().abs() < 30);
}

#[tokio::test]
async fn tasks_that_nobody_knows_are_404() {
    let gateway = gateway().await;
    for id in [
        "x",
        "019aa1b2-c3d4-7e5f-8a6b-7c8d9e0f1000",
        "00000000-0000-0000-0000-000000000000",
        "%00",
        "%ff",
        "..%2Fstats",
    ] {
        gateway.get(&format!("/tasks/{id}"), "user-key").await.refuses(404, "task");
    }
    // Over the path's length nothing breaks either.
    gateway.get(&format!("/tasks/{}", "a".repeat(5000)), "user-key").await.refuses(404, "task");
}

#[tokio::test]
async fn the_caller_is_noted_by_the_name_of_his_key_or_his_token() {
    let gateway = gateway().await;
    let token = tokens().mint("ci-robot@example.com", Role::Admin, Duration::from_secs(60)).unwrap();
    let bearer = format!("Bearer {token}");
    let headers = [("Authorization", bearer.as_str()), ("Content-Type", "application/json; charset=utf-8")];
    let created = gateway.send("POST", "/tasks", &headers, br#"{"type":"faq","payload":{}}"#).await;
    assert_eq!(created.body["task"]["requested_by"], "ci-robot@example.com");
}

#[tokio::test]
async fn types_are_those_built_in_and_those_that_workers_offer() {
    let gateway = gateway().await;
    let unknown = gateway.create(r#"{"type":"bugfx","payload":{}}"#).await;
    unknown.refuses(400, "Did you mean `bugfix`?");
    assert_eq!(unknown.body["known_types"].as_array().map(Vec::len), Some(9));
    gateway.create(r#"{"type":"paint","payload":{},"queue":"painters"}"#).await.refuses(400, "kb_update");
    for odd in ["", " ", "Bugfix", "bugfix ", "a{b}", "\u{0}", &"x".repeat(10_000)] {
        gateway.create(&json!({"type": odd, "payload": {}}).to_string()).await.refuses(400, "known");
    }
    let offer = serde_json::from_value(json!({"t": "paint", "q": "painters"})).unwrap();
    let _worker = orchestrator::Incarnation::join(&gateway.orch, &["painters".into()], &[offer], orchestrator::LEASE)
        .await
        .unwrap();
    gateway.create(r#"{"type":"pant","payload":{}}"#).await.refuses(400, "paint");
    let created = gateway.create(r#"{"type":"paint","payload":{}}"#).await;
    assert_eq!(created.body["message"], "Task created and assigned to painters", "{created:?}");
}
