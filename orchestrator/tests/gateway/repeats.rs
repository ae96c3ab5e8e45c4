//! Requests that are sent again: under an Idempotency-Key they are carried out once.

use serde_json::json;

use super::support::{Answer, Running, config, gateway, strict};
use orchestrator::gateway::Role;
use orchestrator::{Status, TaskFilter};

async fn post(gateway: &Running, path: &str, key: &str, idempotency: &str, body: &serde_json::Value) -> Answer {
    let headers = [("X-API-Key", key), ("Content-Type", "application/json"), ("Idempotency-Key", idempotency)];
    gateway.send("POST", path, &headers, body.to_string().as_bytes()).await
}

#[tokio::test]
async fn the_same_request_makes_one_task_and_another_one_is_a_conflict() {
    let config = config().api_key("OTHER", "other-agents-key", Role::Agent).unwrap();
    let gateway = super::support::gateway_with(config).await;
    let body = json!({"type": "faq", "payload": {"b": 1, "a": 2}, "delay": "1h", "metadata": {"x": "y"}});
    let sends: Vec<_> = (0..8).map(|_| post(&gateway, "/tasks", "agent-key", "k 1", &body)).collect();
    let mut ids = Vec::new();
    for send in sends {
        let answer = send.await;
        assert_eq!(answer.status, 200, "{answer:?}");
        ids.push(answer.body["task_id"].clone());
    }
    ids.dedup();
    assert_eq!(ids.len(), 1, "the order of members does not matter, nor does when it is sent: {ids:?}");
    let other_order = r#"{"delay":"1h","type":"faq","metadata":{"x":"y"},"payload":{"a":2,"b":1}}"#;
    let headers = [("X-API-Key", "agent-key"), ("Content-Type", "application/json"), ("Idempotency-Key", "k 1")];
    let again = gateway.send("POST", "/tasks", &headers, other_order.as_bytes()).await;
    assert_eq!((&again.body["task_id"], &again.body["task"]["status"]), (&ids[0], &json!("pending")), "{again:?}");

    for other in [
        json!({"type": "faq", "payload": {"b": 1, "a": 3}, "delay": "1h", "metadata": {"x": "y"}}),
        json!({"type": "faq", "payload": {"b": 1, "a": 2}, "delay": "2h", "metadata": {"x": "y"}}),
        json!({"type": "faq", "payload": {"b": 1, "a": 2}, "delay": "1h", "metadata": {"x": "y"}, "priority": "P0"}),
        json!({"type": "bugfix", "payload": {"b": 1, "a": 2}, "delay": "1h", "metadata": {"x": "y"}}),
    ] {
        post(&gateway, "/tasks", "agent-key", "k 1", &other).await.refuses(409, "idempotency key");
    }
    let theirs = post(&gateway, "/tasks", "other-agents-key", "k 1", &body).await;
    assert_ne!(theirs.body["task_id"], ids[0], "keys of two callers are two");
    for bad in ["", &"x".repeat(256)] {
        post(&gateway, "/tasks", "agent-key", bad, &body).await.refuses(422, "idempotency key");
    }
    let twice = [headers[0], headers[1], headers[2], ("Idempotency-Key", "k 2")];
    gateway.send("POST", "/tasks", &twice, body.to_string().as_bytes()).await.refuses(422, "one Idempotency-Key");
    let all = gateway.orch.list(&TaskFilter::default(), None, 100).await.unwrap();
    assert_eq!(all.tasks.len(), 2);
}

#[tokio::test]
async fn a_gated_task_is_asked_about_once_and_an_ended_one_is_told_as_it_is() {
    let gateway = strict().await;
    let body = json!({"type": "deploy", "payload": {"environment": "production"}});
    let first = post(&gateway, "/tasks", "agent-key", "d-1", &body).await;
    let again = post(&gateway, "/tasks", "agent-key", "d-1", &body).await;
    assert_eq!((first.status, &first.body), (200, &again.body));
    assert_eq!(gateway.get("/approvals/pending", "user-key").await.body["count"], 1);
    let id = first.body["task_id"].as_str().unwrap();
    gateway.post(&format!("/tasks/{id}/cancel"), "agent-key", "").await;
    let ended = post(&gateway, "/tasks", "agent-key", "d-1", &body).await;
    assert_eq!((&ended.body["task_id"], &ended.body["task"]["status"]), (&json!(id), &json!("cancelled")));
}

#[tokio::test]
async fn an_event_is_told_once_under_its_key() {
    let gateway = gateway().await;
    let body = json!({"event_type": "deploy.started", "payload": {"n": 1}});
    let first = post(&gateway, "/events/publish", "agent-key", "e", &body).await;
    let again = post(&gateway, "/events/publish", "agent-key", "e", &body).await;
    assert_eq!((first.status, &first.body), (200, &again.body));
    let other = json!({"event_type": "deploy.started", "payload": {"n": 2}});
    post(&gateway, "/events/publish", "agent-key", "e", &other).await.refuses(409, "idempotency key");
    let from = orchestrator::EventsFrom::Oldest;
    let mut events = gateway.orch.events(&orchestrator::patterns("deploy.*").unwrap(), from);
    let mut told = 0;
    while events.next_if_any().await.unwrap().is_some() {
        told += 1;
    }
    assert_eq!(told, 1);
}

#[tokio::test]
async fn many_who_submit_at_once_all_get_their_own_task() {
    let gateway = gateway().await;
    let submitting: Vec<_> = (0..200)
        .map(|n| {
            let orch = gateway.orch.clone();
            tokio::spawn(async move {
                // One in ten is refused, and spoils nothing for the others.
                let queue = if n % 10 == 0 {
                    "Not A Queue"
                } else if n % 2 == 0 {
                    "even"
                } else {
                    "odd"
                };
                let task = orchestrator::NewTask::<serde_json::Value>::new("faq", &n).queue(queue);
                (n, orch.submit(task).await)
            })
        })
        .collect();
    for submitting in submitting {
        let (n, outcome) = submitting.await.unwrap();
        match outcome {
            Ok(submitted) => {
                let told = submitted.task.unwrap();
                let stored = gateway.orch.get(submitted.id).await.unwrap();
                assert_eq!((&stored.payload, stored.status), (&json!(n), Status::Assigned));
                assert_eq!(told, stored, "what is told is what is stored");
            }
            Err(error) => assert!(n % 10 == 0, "{n}: {error}"),
        }
    }
    let stats = gateway.orch.stats().await.unwrap();
    assert_eq!(stats.pending_tasks, 180);
}

#[tokio::test]
async fn a_full_queue_takes_as_many_of_a_crowd_as_fit() {
    let settings = orchestrator::Config { queue_max: 25, ..super::support::settings() };
    let gateway = super::support::gateway_of(settings).await;
    let submitting: Vec<_> = (0..100)
        .map(|n| {
            let orch = gateway.orch.clone();
            tokio::spawn(async move { orch.submit(orchestrator::NewTask::<()>::new("faq", &n)).await })
        })
        .collect();
    let mut taken = 0;
    for submitting in submitting {
        match submitting.await.unwrap() {
            Ok(_) => taken += 1,
            Err(error) => assert!(error.to_string().contains("full at its bound of 25"), "{error}"),
        }
    }
    assert_eq!(taken, 25);
}

#[tokio::test]
async fn callers_of_one_name_in_two_tenants_do_not_share_their_keys() {
    let gateway = gateway().await;
    let token = |tenant: Option<&str>| {
        let life = std::time::Duration::from_secs(60);
        format!("Bearer {}", super::support::tokens().mint_for("ada", Role::Agent, &[], tenant, life).unwrap())
    };
    let mut ids = Vec::new();
    for tenant in [Some("acme"), Some("beta"), None] {
        for (path, id, body) in [
            ("/tasks", "task_id", json!({"type": "faq", "payload": {}})),
            ("/events/publish", "event_id", json!({"event_type": "deploy.started"})),
        ] {
            let token = token(tenant);
            let headers =
                [("Authorization", token.as_str()), ("Content-Type", "application/json"), ("Idempotency-Key", path)];
            let answer = gateway.send("POST", path, &headers, body.to_string().as_bytes()).await;
            assert_eq!(answer.status, 200, "{answer:?}");
            assert!(!ids.contains(&answer.body[id]), "{answer:?}");
            ids.push(answer.body[id].clone());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn who_comes_just_when_the_last_ones_are_done_is_not_forgotten() {
    let gateway = gateway().await;
    let submitting: Vec<_> = (0..4)
        .map(|_| {
            let orch = gateway.orch.clone();
            tokio::spawn(async move {
                for n in 0..1500 {
                    orch.submit(orchestrator::NewTask::<()>::new("faq", &n)).await.unwrap();
                }
            })
        })
        .collect();
    for submitting in submitting {
        submitting.await.unwrap();
    }
    assert_eq!(gateway.orch.stats().await.unwrap().pending_tasks, 6000);
}
