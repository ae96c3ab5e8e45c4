//! What tasks put out, over HTTP: told by agents outside, read live by their users.

use std::time::{Duration, Instant};

use orchestrator::gateway::Role;
use serde_json::{Value, json};

use super::follower::Follower;
use super::support::{Answer, Running, config, gateway, gateway_with};

/// A task that an agent has claimed: its id and lease token.
async fn claimed(gateway: &Running) -> (String, String) {
    let created = gateway.create(r#"{"type": "faq", "payload": {}}"#).await;
    let id = created.body["task_id"].as_str().unwrap().to_owned();
    let held = gateway.post("/tasks/claim", "agent-key", r#"{"types": ["faq"]}"#).await;
    (id, held.body["tasks"][0]["lease_token"].as_str().unwrap_or_else(|| panic!("{held:?}")).to_owned())
}

async fn lease(gateway: &Running, (id, token): &(String, String), what: &str, more: Value) -> Answer {
    let mut body = json!({"lease_token": token});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    gateway.post(&format!("/tasks/{id}/lease/{what}"), "agent-key", &body.to_string()).await
}

async fn page(gateway: &Running, id: &str, query: &str) -> Answer {
    let headers = [("X-API-Key", "user-key"), ("Accept", "application/json")];
    gateway.send("GET", &format!("/tasks/{id}/output{query}"), &headers, b"").await
}

#[tokio::test]
async fn what_an_agent_puts_out_is_read_live_up_to_the_end() {
    let gateway = gateway().await;
    let task = claimed(&gateway).await;
    let path = format!("/tasks/{}/output", task.0);
    let mut early = Follower::open(&gateway, &path, None).await;
    assert!(early.head.to_lowercase().contains("content-type: text/event-stream"), "{}", early.head);
    let first = lease(&gateway, &task, "output", json!({"text": "Once\n upon"})).await;
    assert_eq!((first.status, &first.body["number"], &first.body["cancel_requested"]), (200, &json!(1), &json!(false)));
    let told = early.next().await.unwrap();
    assert_eq!((told.name.as_str(), told.id.as_deref()), ("chunk", Some("1")));
    assert_eq!(told.data, json!({"number": 1, "attempt": 1, "epoch": 0, "missed": 0, "text": "Once\n upon"}));
    for piece in [json!({"base64": "AP8="}), json!({"value": {"n": [1, null]}})] {
        assert_eq!(lease(&gateway, &task, "output", piece.clone()).await.status, 200);
        let (name, value) = piece.as_object().unwrap().iter().next().unwrap();
        assert_eq!(early.next().await.unwrap().data[name], *value);
    }
    let mut late = Follower::open(&gateway, &path, Some("2")).await;
    assert_eq!(late.id.as_deref(), Some("2"), "the place where it begins");
    assert_eq!(late.next().await.unwrap().data["number"], 3);
    assert_eq!(lease(&gateway, &task, "complete", json!({"result": "told"})).await.status, 200);
    for reader in [&mut early, &mut late] {
        let end = reader.next().await.unwrap();
        assert_eq!((end.name.as_str(), &end.data), ("end", &json!({"status": "completed"})));
        assert!(reader.next().await.is_none(), "and then it is over");
    }
    // Who comes when it is over reads it all the same.
    let mut after = Follower::open(&gateway, &format!("{path}?after=2"), None).await;
    assert_eq!(after.next().await.unwrap().data["number"], 3);
    assert_eq!(after.next().await.unwrap().name, "end");
    let told = gateway.get(&format!("/tasks/{}", task.0), "user-key").await;
    assert_eq!(told.body["task"]["result"], "told", "the result stays what it was");
}

#[tokio::test]
async fn pages_tell_what_there_is() {
    let gateway = gateway().await;
    let task = claimed(&gateway).await;
    let none = page(&gateway, &task.0, "").await;
    let expected = json!({
        "success": true, "task_id": task.0, "status": "in_progress", "count": 0, "chunks": [], "place": 0, "more": false,
    });
    assert_eq!(none.body, expected);
    for n in 1..=3 {
        lease(&gateway, &task, "output", json!({"value": n})).await;
    }
    let some = page(&gateway, &task.0, "?after=1").await.body;
    assert_eq!((&some["count"], &some["place"], &some["more"]), (&json!(2), &json!(3), &json!(false)));
    assert_eq!((&some["chunks"][0]["value"], &some["chunks"][1]["number"]), (&json!(2), &json!(3)));
    assert_eq!(page(&gateway, &task.0, "?after=99").await.body["place"], 3, "what is not there yet means the newest");
    lease(&gateway, &task, "fail", json!({"error": "no", "retryable": false})).await;
    assert_eq!(page(&gateway, &task.0, "").await.body["status"], "failed");
    page(&gateway, &task.0, "?after=x").await.refuses(422, "`x` is no number of a chunk");
    page(&gateway, &task.0, "?from=3").await.refuses(422, "known are: after");
    page(&gateway, "019aa1b2-c3d4-7e5f-8a6b-7c8d9e0f1000", "").await.refuses(404, "is not known");
}

#[tokio::test]
async fn a_long_output_comes_in_pages() {
    let gateway = gateway().await;
    let task = claimed(&gateway).await;
    let id = task.0.parse().unwrap();
    let holder = gateway.orch.holder("AGENT", id, Some(task.1.parse().unwrap()));
    for n in 0..1005 {
        holder.put_out(json!(n).into(), None, Duration::from_secs(60)).await.unwrap();
    }
    let first = page(&gateway, &task.0, "").await.body;
    let told = |body: &Value| (body["place"].as_u64().unwrap(), body["more"].as_bool().unwrap());
    let (place, more) = told(&first);
    assert!(more && place <= 1000, "{place}");
    let mut places = vec![place];
    while places.len() < 50 {
        let body = page(&gateway, &task.0, &format!("?after={}", places.last().unwrap())).await.body;
        places.push(told(&body).0);
        if !told(&body).1 {
            break;
        }
    }
    assert_eq!(places.last(), Some(&1005));
}

#[tokio::test]
async fn a_piece_has_its_bounds_and_is_taken_once_under_its_key() {
    let gateway = gateway().await;
    let task = claimed(&gateway).await;
    for (piece, said) in [
        (json!({}), "one of text, base64 and value"),
        (json!({"text": "a", "value": 1}), "one of text, base64 and value"),
        (json!({"text": ""}), "nothing in this piece"),
        (json!({"base64": "%"}), "base64: "),
        (json!({"text": "x".repeat(65_537)}), "at most 65536 bytes, not 65537"),
        (json!({"text": "a", "lease": "1s"}), "between 5 seconds and 24 hours"),
    ] {
        lease(&gateway, &task, "output", piece).await.refuses(422, said);
    }
    let body = json!({"lease_token": task.1, "text": "a"}).to_string();
    let keyed = [("X-API-Key", "agent-key"), ("Content-Type", "application/json"), ("Idempotency-Key", "piece 1")];
    for _ in 0..2 {
        let taken = gateway.send("POST", &format!("/tasks/{}/lease/output", task.0), &keyed, body.as_bytes()).await;
        assert_eq!((taken.status, &taken.body["number"]), (200, &json!(1)));
    }
    let cancelled = gateway.post(&format!("/tasks/{}/cancel?within=10s", task.0), "agent-key", "").await;
    assert_eq!(cancelled.body["status"], "in_progress", "{cancelled:?}");
    assert_eq!(lease(&gateway, &task, "output", json!({"text": "b"})).await.body["cancel_requested"], true);
    lease(&gateway, &(task.0.clone(), "00000007-8f3a1c5e9b7d2046".into()), "output", json!({"text": "c"}))
        .await
        .refuses(409, "has not got it");
    for (query, said) in
        [("?within=11m", "at most 10 minutes"), ("?within=soon", "soon"), ("?in=1s", "known are: within")]
    {
        gateway.post(&format!("/tasks/{}/cancel{query}", task.0), "agent-key", "").await.refuses(422, said);
    }
}

#[tokio::test]
async fn readers_have_their_number_and_a_tenant_reads_its_own() {
    let mut settings = config();
    settings.streams_max = 1;
    let gateway = gateway_with(settings).await;
    let key = gateway.orch.create_key("ann", Role::Admin, Some("acme"), None).await.unwrap().1.reveal().to_owned();
    let task = claimed(&gateway).await;
    let path = format!("/tasks/{}/output", task.0);
    gateway.get(&path, &key).await.refuses(404, "is not known");
    let body = json!({"lease_token": task.1, "text": "a"}).to_string();
    gateway.post(&format!("/tasks/{}/lease/output", task.0), &key, &body).await.refuses(404, "is not known");
    let open = Follower::open(&gateway, &path, None).await;
    let refused = gateway.get(&path, "user-key").await;
    refused.refuses(503, "as many event streams");
    assert_eq!(refused.headers["retry-after"], "10");
    assert_eq!(page(&gateway, &task.0, "").await.status, 200, "a page takes no place");
    drop(open);
    // From now on a reading ends by itself.
    assert_eq!(lease(&gateway, &task, "complete", json!({})).await.status, 200);
    let free = async {
        while gateway.get(&path, "user-key").await.status != 200 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), free).await.expect("the place is free again");
}

#[tokio::test]
async fn a_reader_waits_for_the_end_of_a_task_without_asking_again() {
    let gateway = gateway().await;
    let task = claimed(&gateway).await;
    let path = format!("/tasks/{}", task.0);
    let asked = Instant::now();
    let none = gateway.get(&format!("{path}?wait=50ms"), "user-key").await;
    assert_eq!((none.status, &none.body["task"]["status"]), (200, &json!("in_progress")));
    assert!(asked.elapsed() >= Duration::from_millis(50));
    let waits = format!("{path}?wait=30s");
    let (told, _) = tokio::join!(gateway.get(&waits, "user-key"), async {
        tokio::task::yield_now().await;
        lease(&gateway, &task, "complete", json!({"result": 42})).await
    });
    assert_eq!((&told.body["task"]["status"], &told.body["task"]["result"]), (&json!("completed"), &json!(42)));
    assert!(asked.elapsed() < Duration::from_secs(20), "it is told when it has ended");
    assert_eq!(gateway.get(&waits, "user-key").await.body["task"]["result"], 42, "and at once when it had");
    for wrong in ["31s", "soon", ""] {
        gateway.get(&format!("{path}?wait={wrong}"), "user-key").await.refuses(422, "span of time up to 30s");
    }
}
