//! What happened to one task, in its order.

use orchestrator::{Config, Incarnation, LEASE, NewEvent};
use serde_json::{Value, json};

use super::support::{Redis, Running, gateway, gateway_of};

/// Creates a task and works it off, among others; returns its path.
async fn finished_task(gateway: &Running) -> String {
    let queues = vec!["askers".to_owned()];
    let life = Incarnation::join(&gateway.orch, &queues, &[], 10 * LEASE).await.unwrap();
    gateway.create(r#"{"type":"faq","payload":{}}"#).await;
    let created = gateway.create(r#"{"type":"faq","payload":{},"queue":"askers"}"#).await;
    gateway.create(r#"{"type":"faq","payload":{}}"#).await;
    let claim = life.step(&[], 1, &queues, None).await.unwrap().claims.pop().unwrap();
    let id = claim.ticket().id;
    gateway.orch.publish(&NewEvent::new("kitchen.tasted", &"good").task(id)).await.unwrap();
    gateway.orch.publish(&NewEvent::new("kitchen.tasted", &"nobody's")).await.unwrap();
    life.step(&[claim.complete(&[0xc0])], 0, &queues, None).await.unwrap();
    assert_eq!(created.body["task_id"], id.to_string());
    format!("/tasks/{id}/events")
}

#[tokio::test]
async fn the_timeline_of_a_finished_task_has_no_gap() {
    let gateway = gateway().await;
    let path = finished_task(&gateway).await;
    let told = gateway.get(&path, "user-key").await;
    assert_eq!((told.status, &told.body["success"], &told.body["complete"]), (200, &json!(true), &json!(true)));
    let events = told.body["events"].as_array().unwrap();
    assert_eq!(told.body["count"], events.len());
    assert!(events.iter().all(|event| event["task_id"] == told.body["task_id"]), "{events:?}");
    let types: Vec<&Value> = events.iter().map(|event| &event["event_type"]).collect();
    assert_eq!(types, ["task.created", "task.started", "kitchen.tasted", "task.completed"]);
    let numbers: Vec<u64> = events.iter().filter_map(|event| event["payload"]["number"].as_u64()).collect();
    assert_eq!(numbers, [1, 2, 3]);
}

#[tokio::test]
async fn a_timeline_with_holes_says_so() {
    let redis = Redis::start();
    let settings = Config { approvals: orchestrator::ApprovalPolicy::none(), ..Config::new(&redis.url()) };
    let gateway = gateway_of(settings).await;
    let path = finished_task(&gateway).await;
    assert_eq!(gateway.get(&path, "user-key").await.body["complete"], true);
    redis.command(&["XTRIM", "{orchestrator.0}:e", "MAXLEN", "2"]).await;
    let told = gateway.get(&path, "user-key").await;
    assert_eq!((told.status, &told.body["complete"], &told.body["count"]), (200, &json!(false), &json!(1)), "{told:?}");
}

#[tokio::test]
async fn no_more_than_ten_thousand_events_are_looked_at() {
    let gateway = gateway().await;
    let path = finished_task(&gateway).await;
    let others: Vec<NewEvent> = (0..100).map(|n| NewEvent::new("count.up", &n)).collect();
    for _ in 0..100 {
        gateway.orch.publish_all(&others).await.unwrap();
    }
    let told = gateway.get(&path, "user-key").await;
    assert_eq!((&told.body["complete"], &told.body["count"]), (&json!(false), &json!(4)));
}

#[tokio::test]
async fn a_task_that_nobody_knows_has_no_timeline() {
    let gateway = gateway().await;
    for id in ["x", "019aa1b2-c3d4-7e5f-8a6b-7c8d9e0f1000", "%ff"] {
        gateway.get(&format!("/tasks/{id}/events"), "user-key").await.refuses(404, "task");
    }
}
