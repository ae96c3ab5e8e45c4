//! Timers fire without a worker.

use std::time::{Duration, Instant};

use orchestrator::{ApprovalPolicy, Config, Embedded, Orchestrator};
use serde_json::json;

use super::support::{config, gated};

/// Whoever sets a timer of up to 3 seconds sees to it; a longer one is left to those who keep time.
const TIMEOUT: Duration = Duration::from_millis(3500);

fn hasty() -> ApprovalPolicy {
    ApprovalPolicy { timeout: TIMEOUT, ..ApprovalPolicy::default() }
}

#[tokio::test]
async fn a_gateway_closes_what_nobody_decides_on_in_time() {
    let gateway = gated(hasty(), config()).await;
    let (task, id) = gateway.gated_task(&json!({})).await;
    let started = Instant::now();
    let ended = loop {
        let read = gateway.get(&format!("/tasks/{task}"), "user-key").await;
        if read.body["task"]["status"] != "blocked" {
            break read.body["task"].clone();
        }
        assert!(started.elapsed() < Duration::from_secs(20), "it expires: {read:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert_eq!((&ended["status"], &ended["reason"]), (&json!("cancelled"), &json!("timeout")));
    let approval = gateway.get(&format!("/approvals/{id}"), "user-key").await.body["approval"].clone();
    assert_eq!((&approval["status"], &approval["approved_by"]), (&json!("timeout"), &json!(null)));
    let late = gateway.post(&format!("/approvals/{id}/approve"), "admin-key", "").await;
    late.refuses(409, "nobody decided in time");
    assert_eq!(gateway.get("/approvals/history", "user-key").await.body["count"], 1);
}

#[tokio::test]
async fn whoever_keeps_time_fires_timers_until_the_future_is_dropped() {
    let server = Embedded::start().unwrap();
    let settings = Config { approvals: hasty(), ..Config::new("") };
    let orch = Orchestrator::on(server, settings).await.unwrap();
    let id = orch.enqueue(orchestrator::NewTask::<()>::new("deploy", &json!({}))).await.unwrap().id();
    tokio::time::sleep(TIMEOUT + Duration::from_millis(500)).await;
    assert!(!orch.get(id).await.unwrap().status.is_terminal(), "nobody keeps time yet");
    let ended = async {
        while !orch.get(id).await.unwrap().status.is_terminal() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::select! {
        never = orch.keep_time() => match never {},
        ended = tokio::time::timeout(Duration::from_secs(20), ended) => ended.expect("it expires"),
    }
}
