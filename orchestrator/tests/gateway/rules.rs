//! What a submitter lays down for the attempts of a task, and for others like it.

use serde_json::{Value, json};

use super::support::{config, gateway, gateway_with, strict};
use orchestrator::gateway::Role;
use orchestrator::{Incarnation, Offer, Unique};

#[tokio::test]
async fn an_expiry_and_a_backoff_arrive_and_are_shown() {
    let gateway = gateway().await;
    let body = json!({"type": "faq", "payload": {}, "delay": "1h", "expires": 90, "backoff": "exp(5s,1h)"});
    let created = gateway.create(&body.to_string()).await;
    assert_eq!(created.status, 200, "{created:?}");
    let task = &created.body["task"];
    let instant = |field: &str| task[field].as_str().unwrap().parse::<chrono::DateTime<chrono::Utc>>().unwrap();
    assert_eq!((instant("expires_at") - instant("run_at")).num_seconds(), 90, "it counts from the start");
    assert_eq!((&task["backoff"], &task["unique"]), (&json!("exp(5s, 1h)"), &Value::Null));
    assert_eq!(created.body.get("existing"), None);
    let far = json!({"type": "faq", "payload": {}, "expires_at": "2090-01-31T12:00:00+01:00"});
    let soon = chrono::Utc::now() + std::time::Duration::from_secs(3600);
    let created =
        gateway.create(&json!({"type": "faq", "payload": {}, "expires_at": soon.to_rfc3339()}).to_string()).await;
    let told = created.body["task"]["expires_at"].as_str().unwrap().parse::<chrono::DateTime<chrono::Utc>>().unwrap();
    assert_eq!(told.timestamp_millis(), soon.timestamp_millis());
    gateway.create(&far.to_string()).await.refuses(422, "366 days");
    for (wrong, part) in [
        (json!({"expires": "1h", "expires_at": soon.to_rfc3339()}), "not both"),
        (json!({"delay": "2h", "expires_at": soon.to_rfc3339()}), "before it may start"),
        (json!({"expires": "soon"}), "is not a span of time"),
        (json!({"expires": 0}), "before it may start"),
        (json!({"backoff": "linear(3s)"}), "is no backoff"),
        (json!({"backoff": 3}), "is no backoff"),
        (json!({"backoff": "fixed(0s)"}), "1ms to 30d"),
        (json!({"unique": "key"}), "object with key"),
        (json!({"unique": {"key": ""}}), "1 to 255 bytes"),
        (json!({"unique": {"key": "a\nb"}}), "control characters"),
        (json!({"unique": {"key": "a", "until": "tomorrow"}}), "known are: started done"),
        (json!({"unique": {"key": "a", "till": "done"}}), "unknown field `till`"),
    ] {
        let mut body = json!({"type": "faq", "payload": {}});
        body.as_object_mut().unwrap().extend(wrong.as_object().unwrap().clone());
        gateway.create(&body.to_string()).await.refuses(422, part);
    }
}

#[tokio::test]
async fn a_second_one_of_a_key_is_answered_with_the_first() {
    let config = config().api_key("OTHER", "other-agents-key", Role::Agent).unwrap();
    let gateway = gateway_with(config).await;
    let body = json!({"type": "faq", "payload": {"n": 1}, "unique": {"key": "k"}}).to_string();
    let first = gateway.create(&body).await;
    assert_eq!((first.status, &first.body["task"]["unique"]), (200, &json!("done")));
    // Another caller, another payload, another end of the same key.
    let other = json!({"type": "faq", "payload": {"n": 2}, "unique": {"key": "k", "until": "started"}}).to_string();
    for (key, body) in [("agent-key", &body), ("other-agents-key", &other)] {
        let again = gateway.post("/tasks", key, body).await;
        assert_eq!((again.status, &again.body["existing"]), (200, &json!(true)), "{again:?}");
        assert_eq!((&again.body["task_id"], &again.body["task"]), (&first.body["task_id"], &first.body["task"]));
        let message = again.body["message"].as_str().unwrap();
        assert!(message.starts_with("No task created") && message.ends_with("it is assigned"), "{message}");
    }
    let id = first.body["task_id"].as_str().unwrap();
    gateway.post(&format!("/tasks/{id}/cancel"), "agent-key", "").await;
    let next = gateway.create(&body).await;
    assert_eq!((next.status, next.body.get("existing")), (200, None));
    assert_ne!(next.body["task_id"], first.body["task_id"]);
    // The first cannot come back while the other is there.
    let refused = gateway.post(&format!("/tasks/{id}/retry"), "agent-key", "").await;
    refused.refuses(409, next.body["task_id"].as_str().unwrap());
    let counts = gateway.orch.stats().await.unwrap();
    assert_eq!(counts.total_tasks, 1);
}

#[tokio::test]
async fn a_handler_that_was_published_makes_tasks_over_http_unique() {
    let gateway = gateway().await;
    let unique = Unique::by(["args.repo", "args.issue"]);
    let offer = Offer {
        task_type: "fix".into(),
        queue: "q".into(),
        expires_ms: Some(60_000),
        unique: Some(unique),
        ..Offer::default()
    };
    let lease = std::time::Duration::from_secs(60);
    let _life = Incarnation::join(&gateway.orch, &["q".into()], &[offer], lease).await.unwrap();
    let fix = |issue: Value| json!({"type": "fix", "payload": {"repo": "a", "issue": issue}}).to_string();
    let first = gateway.create(&fix(json!(1))).await;
    assert_eq!(first.status, 200, "{first:?}");
    assert!(first.body["task"]["expires_at"].is_string());
    let again = gateway.create(&fix(json!(1))).await;
    assert_eq!((&again.body["task_id"], &again.body["existing"]), (&first.body["task_id"], &json!(true)));
    assert_eq!(gateway.create(&fix(json!(null))).await.body.get("existing"), None, "null is a value");
    let without = json!({"type": "fix", "payload": {"repo": "a"}}).to_string();
    gateway.create(&without).await.refuses(422, "unique by args.issue");
}

#[tokio::test]
async fn an_existing_one_that_waits_for_a_person_says_so() {
    let gateway = strict().await;
    let body = json!({
        "type": "deploy", "payload": {"environment": "production"}, "unique": {"key": "prod"},
    });
    let first = gateway.create(&body.to_string()).await;
    let again = gateway.create(&body.to_string()).await;
    assert_eq!(again.body["existing"], true);
    assert!(first.body["approval_id"].is_string());
    assert_eq!(again.body["approval_id"], first.body["approval_id"]);
    assert_eq!(gateway.get("/approvals/pending", "user-key").await.body["count"], 1);
}
