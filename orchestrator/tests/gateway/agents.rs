//! Agents that are no workers of ours: they claim, report and ask over HTTP, and what they fall silent about is not lost.

use std::time::Duration;

use orchestrator::gateway::Role;
use orchestrator::{ApprovalPolicy, EventsFrom, Heard, patterns};
use serde_json::{Value, json};

use super::support::{Answer, Running, config, gated, gateway, gateway_with};

async fn task(gateway: &Running, body: Value) -> String {
    let created = gateway.create(&body.to_string()).await;
    assert_eq!(created.status, 200, "{created:?}");
    created.body["task_id"].as_str().unwrap().to_owned()
}

async fn claim(gateway: &Running, body: Value, wait: &str) -> Vec<Value> {
    let claimed = gateway.post(&format!("/tasks/claim?wait={wait}"), "agent-key", &body.to_string()).await;
    assert_eq!(claimed.status, 200, "{claimed:?}");
    claimed.body["tasks"].as_array().unwrap().clone()
}

async fn lease(gateway: &Running, task: &str, what: &str, body: Value) -> Answer {
    gateway.post(&format!("/tasks/{task}/lease/{what}"), "agent-key", &body.to_string()).await
}

async fn patch(gateway: &Running, task: &str, query: &str, key: &str) -> Answer {
    gateway.send("PATCH", &format!("/tasks/{task}/status?{query}"), &[("X-API-Key", key)], b"").await
}

async fn read(gateway: &Running, task: &str) -> Value {
    gateway.get(&format!("/tasks/{task}"), "user-key").await.body["task"].clone()
}

#[tokio::test]
async fn an_agent_claims_reports_and_completes() {
    let gateway = gateway().await;
    let id = task(&gateway, json!({"type": "bugfix", "payload": {"n": 1}})).await;
    let other = task(&gateway, json!({"type": "refactor", "payload": {}})).await;
    let held = claim(&gateway, json!({"types": ["bugfix"], "max": 5, "lease": "90s"}), "0s").await;
    assert_eq!(held.len(), 1, "only its own type, though the other lies in the same queue: {held:?}");
    let (token, told) = (&held[0]["lease_token"], &held[0]["task"]);
    assert_eq!((&told["task_id"], &told["status"], &told["attempt"]), (&json!(id), &json!("in_progress"), &json!(1)));
    assert_eq!((&told["payload"], &told["started_at"].is_string()), (&json!({"n": 1}), &true));
    assert_eq!(read(&gateway, &other).await["status"], "assigned");

    let beaten = lease(&gateway, &id, "heartbeat", json!({"lease_token": token, "lease": 120})).await;
    assert_eq!((beaten.status, &beaten.body["cancel_requested"]), (200, &json!(false)), "{beaten:?}");
    assert!(beaten.body["lease_expires_at"].as_str() > held[0]["lease_expires_at"].as_str());
    let said = json!({"lease_token": token, "progress": 0.4, "note": "half of it"});
    assert_eq!(lease(&gateway, &id, "progress", said).await.status, 200);
    assert_eq!(read(&gateway, &id).await["progress"], json!(0.4));

    let done = json!({"lease_token": token, "result": {"fixed": true}});
    let completed = lease(&gateway, &id, "complete", done.clone()).await;
    assert_eq!((completed.status, &completed.body["status"]), (200, &json!("completed")), "{completed:?}");
    let again = lease(&gateway, &id, "complete", done).await;
    assert_eq!((again.status, &again.body), (200, &completed.body), "an answer that was lost can be asked for again");
    let task = read(&gateway, &id).await;
    assert_eq!(
        (&task["result"], &task["status"], &task["retry_count"]),
        (&json!({"fixed": true}), &json!("completed"), &json!(0))
    );
    let late = lease(&gateway, &id, "fail", json!({"lease_token": token, "error": "too late"})).await;
    late.refuses(409, "is completed");
    assert_eq!(late.body["task_status"], "completed");
    let stats = gateway.orch.stats().await.unwrap();
    assert_eq!((stats.processing_tasks, stats.workers), (0, 0), "nothing is left of the lease");

    let mut events = gateway.orch.events(&patterns("task.*").unwrap(), EventsFrom::Oldest);
    let mut told = Vec::new();
    while let Some(Heard::Event(event)) = events.next_if_any().await.unwrap() {
        if event.task_id.map(|id| id.to_string()) == Some(id.clone()) {
            told.push((event.event_type.clone(), event.payload["number"].as_u64(), event.source_agent.clone()));
        }
    }
    let told: Vec<(&str, Option<u64>, &str)> = told.iter().map(|(t, n, s)| (t.as_str(), *n, s.as_str())).collect();
    let expected = [
        ("task.created", Some(1), "orchestrator"),
        ("task.started", Some(2), "AGENT"),
        ("task.progress", None, "AGENT"),
        ("task.completed", Some(3), told[3].2),
    ];
    assert_eq!(told, expected);
}

#[tokio::test]
async fn a_claim_waits_for_a_task_and_the_first_of_many_gets_it() {
    let gateway = gateway().await;
    let waiting = (0..4).map(|_| claim(&gateway, json!({"types": ["faq"]}), "20s"));
    let submitting = async {
        // A type that nobody has asked for wakes them in vain.
        task(&gateway, json!({"type": "deploy", "payload": {}})).await;
        for n in 0..4 {
            task(&gateway, json!({"type": "faq", "payload": n})).await;
        }
    };
    let (claims, ()) = tokio::join!(futures_all(waiting), submitting);
    let mut payloads: Vec<u64> =
        claims.iter().map(|held| held[0]["task"]["payload"].as_u64().expect("one task each")).collect();
    payloads.sort_unstable();
    assert_eq!(payloads, [0, 1, 2, 3]);
    assert_eq!(claim(&gateway, json!({"types": ["faq"]}), "1ms").await, Vec::<Value>::new(), "and then there is none");
}

async fn futures_all<T>(futures: impl Iterator<Item = impl Future<Output = T>>) -> Vec<T> {
    let mut futures: Vec<_> = futures.map(Box::pin).collect();
    let mut done: Vec<Option<T>> = futures.iter().map(|_| None).collect();
    std::future::poll_fn(|cx| {
        for (future, done) in futures.iter_mut().zip(&mut done) {
            if done.is_none()
                && let std::task::Poll::Ready(outcome) = future.as_mut().poll(cx)
            {
                *done = Some(outcome);
            }
        }
        if done.iter().all(Option::is_some) { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    done.into_iter().flatten().collect()
}

#[tokio::test]
async fn a_type_becomes_known_by_whoever_claims_it_and_waits_on_the_shelf_for_them() {
    let gateway = gateway().await;
    gateway.create(r#"{"type":"translate","payload":{}}"#).await.refuses(400, "translate");
    assert!(claim(&gateway, json!({"types": ["translate"]}), "0s").await.is_empty());
    let id = task(&gateway, json!({"type": "translate", "payload": {}})).await;
    // A worker of the same queue that does not know the type lays it aside.
    let queues = ["default".to_owned()];
    let life = orchestrator::Incarnation::join(&gateway.orch, &queues, &[], orchestrator::LEASE).await.unwrap();
    let stepped = life.step(&[], 1, &queues, None).await.unwrap();
    life.shelve(&stepped.claims[0]).await.unwrap();
    assert_eq!(read(&gateway, &id).await["shelved"], true);
    let held = claim(&gateway, json!({"types": ["translate"]}), "0s").await;
    assert_eq!((&held[0]["task"]["task_id"], &held[0]["task"]["shelved"]), (&json!(id), &json!(false)));
}

#[tokio::test]
async fn failing_follows_the_retries_and_says_so() {
    let gateway = gateway().await;
    let id = task(&gateway, json!({"type": "faq", "payload": {}, "max_retries": 1})).await;
    let fail = |token: Value, more: Value| {
        let mut body = json!({"lease_token": token, "error": "no luck\nat all"});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        lease(&gateway, &id, "fail", body)
    };
    let held = claim(&gateway, json!({"types": ["faq"]}), "0s").await;
    let failed = fail(held[0]["lease_token"].clone(), json!({"retry_in": "1ms"})).await;
    assert_eq!((failed.status, &failed.body["status"]), (200, &json!("pending")), "{failed:?}");
    let held = claim(&gateway, json!({"types": ["faq"]}), "20s").await;
    assert_eq!((&held[0]["task"]["attempt"], &held[0]["task"]["error"]), (&json!(2), &json!("no luck\nat all")));
    let failed = fail(held[0]["lease_token"].clone(), json!({})).await;
    assert_eq!(failed.body["status"], "failed", "its retries are spent");
    assert_eq!(read(&gateway, &id).await["reason"], "retries");
    let again = fail(held[0]["lease_token"].clone(), json!({})).await;
    assert_eq!((again.status, &again.body), (200, &failed.body));

    let fatal = task(&gateway, json!({"type": "faq", "payload": {}})).await;
    let held = claim(&gateway, json!({"types": ["faq"]}), "0s").await;
    let body = json!({"lease_token": held[0]["lease_token"], "error": "never", "retryable": false});
    assert_eq!(lease(&gateway, &fatal, "fail", body).await.body["status"], "failed");
    assert_eq!(read(&gateway, &fatal).await["reason"], "fatal");
    // And by hand it lives again.
    let retried = gateway.post(&format!("/tasks/{fatal}/retry"), "agent-key", "").await;
    assert_eq!((retried.status, &retried.body["status"]), (200, &json!("assigned")), "{retried:?}");
    gateway.post(&format!("/tasks/{fatal}/retry"), "agent-key", "").await.refuses(409, "has not ended");
}

#[tokio::test]
async fn only_who_has_the_lease_moves_the_task() {
    let gateway = gateway_with(config().api_key("OTHER", "other-agents-key", Role::Agent).unwrap()).await;
    let id = task(&gateway, json!({"type": "faq", "payload": {}})).await;
    let held = claim(&gateway, json!({"types": ["faq"]}), "0s").await;
    let token = held[0]["lease_token"].as_str().unwrap();
    let path = format!("/tasks/{id}/lease/complete");
    let body = json!({"lease_token": token}).to_string();
    gateway.post(&path, "other-agents-key", &body).await.refuses(409, "OTHER has not got it");
    gateway.post(&path, "user-key", &body).await.refuses(403, "agent");
    let (epoch, secret) = token.split_once('-').unwrap();
    let guess = json!({"lease_token": format!("{epoch}-{:016x}", u64::from_str_radix(secret, 16).unwrap() ^ 1)});
    lease(&gateway, &id, "complete", guess.clone()).await.refuses(409, "the lease is over");
    lease(&gateway, &id, "heartbeat", guess).await.refuses(409, "the lease");
    lease(&gateway, &id, "complete", json!({"lease_token": "x"})).await.refuses(422, "lease token");
    lease(&gateway, &id, "complete", json!({})).await.refuses(422, "lease_token");
    let released = lease(&gateway, &id, "release", json!({"lease_token": token})).await;
    assert_eq!((released.status, &released.body["status"]), (200, &json!("assigned")), "{released:?}");
    lease(&gateway, &id, "complete", json!({"lease_token": token})).await.refuses(409, "is assigned");
    let next = claim(&gateway, json!({"types": ["faq"]}), "0s").await;
    assert_eq!(next[0]["task"]["attempt"], 1, "giving back counts no attempt");
    lease(&gateway, &id, "complete", json!({"lease_token": token})).await.refuses(409, "has not got it");
    assert_eq!(read(&gateway, &id).await["status"], "in_progress");
}

#[tokio::test]
async fn what_a_silent_agent_had_goes_to_another_one_without_any_worker() {
    let gateway = gateway().await;
    let id = task(&gateway, json!({"type": "faq", "payload": {}})).await;
    let held = claim(&gateway, json!({"types": ["faq"], "lease": "5s"}), "0s").await;
    // Nobody beats; the gateway itself takes it back.
    let next = claim(&gateway, json!({"types": ["faq"]}), "25s").await;
    assert_eq!((&next[0]["task"]["task_id"], &next[0]["task"]["crashes"]), (&json!(id), &json!(1)), "{next:?}");
    let body = json!({"lease_token": held[0]["lease_token"]});
    lease(&gateway, &id, "complete", body).await.refuses(409, "has not got it");
}

#[tokio::test]
async fn an_agent_asks_people_and_goes_on_with_their_decision() {
    let gateway = gated(ApprovalPolicy::none(), config()).await;
    let id = task(&gateway, json!({"type": "faq", "payload": {}})).await;
    let held = claim(&gateway, json!({"types": ["faq"]}), "0s").await;
    let ask = |token: &Value| json!({"lease_token": token, "question": "Send it?", "show": {"to": "all"}, "form": ["subject"], "expires": "1h"});
    let parked = lease(&gateway, &id, "park", ask(&held[0]["lease_token"])).await;
    assert_eq!((parked.status, &parked.body["status"]), (200, &json!("blocked")), "{parked:?}");
    let approval = parked.body["approval_id"].as_str().unwrap();
    assert!(claim(&gateway, json!({"types": ["faq"]}), "0s").await.is_empty(), "nobody can take it meanwhile");
    let pending = gateway.get(&format!("/approvals/{approval}"), "user-key").await;
    assert_eq!(
        (&pending.body["approval"]["question"], &pending.body["approval"]["shown"]),
        (&json!("Send it?"), &json!({"to": "all"}))
    );
    let yes = json!({"note": "fine", "form": {"subject": "News"}}).to_string();
    let path = format!("/approvals/{approval}/approve");
    gateway.post(&path, "agent-key", &yes).await.refuses(403, "AGENT submitted the task");
    assert_eq!(gateway.post(&path, "admin-key", &yes).await.status, 200);
    let held = claim(&gateway, json!({"types": ["faq"]}), "20s").await;
    let answered = lease(&gateway, &id, "park", ask(&held[0]["lease_token"])).await;
    assert_eq!((answered.status, &answered.body["status"]), (200, &json!("in_progress")), "{answered:?}");
    let decision = json!({"status": "approved", "by": "ADMIN", "note": "fine", "form": {"subject": "News"}});
    assert_eq!(answered.body["decision"], decision);
    // The decision is for whoever has the lease.
    let (epoch, _) = held[0]["lease_token"].as_str().unwrap().split_once('-').unwrap();
    let forged = lease(&gateway, &id, "park", ask(&json!(format!("{epoch}-0000000000000000")))).await;
    forged.refuses(409, "the lease is over");
    // What is shown now is something else: it is asked anew.
    let mut other = ask(&held[0]["lease_token"]);
    other["show"] = json!({"to": "nobody"});
    let parked = lease(&gateway, &id, "park", other).await;
    assert_eq!(parked.body["status"], "blocked", "{parked:?}");
    assert_ne!(parked.body["approval_id"], json!(approval));
}

#[tokio::test]
async fn a_claim_finds_its_type_behind_a_thousand_others() {
    let gateway = gateway().await;
    let others = (0..1100).map(|n| orchestrator::NewTask::<Value>::new("bugfix", &n));
    gateway.orch.enqueue_all(others).await.unwrap();
    let id = task(&gateway, json!({"type": "refactor", "payload": {}})).await;
    let held = claim(&gateway, json!({"types": ["refactor"]}), "0s").await;
    assert_eq!(held[0]["task"]["task_id"], json!(id), "both types have the same queue: {held:?}");
}

#[tokio::test]
async fn a_tenant_finds_its_task_on_the_shelf_behind_those_of_others() {
    let gateway = gateway().await;
    assert!(claim(&gateway, json!({"types": ["translate"]}), "0s").await.is_empty());
    let queues = ["default".to_owned()];
    let life = orchestrator::Incarnation::join(&gateway.orch, &queues, &[], orchestrator::LEASE).await.unwrap();
    for tenant in ["beta", "acme"] {
        let task = orchestrator::NewTask::<Value>::new("translate", &json!({})).tenant(tenant);
        gateway.orch.enqueue(task).await.unwrap();
        let stepped = life.step(&[], 1, &queues, None).await.unwrap();
        life.shelve(&stepped.claims[0]).await.unwrap();
    }
    let key = gateway.orch.create_key("ann", Role::Agent, Some("acme"), None).await.unwrap().1.reveal().to_owned();
    let claimed = gateway.post("/tasks/claim", &key, r#"{"types":["translate"]}"#).await;
    assert_eq!(claimed.body["tasks"][0]["task"]["tenant"], "acme", "{claimed:?}");
}

#[tokio::test]
async fn who_asks_does_not_answer() {
    let gateway = gated(ApprovalPolicy::none(), config()).await;
    let body = json!({"type": "faq", "payload": {}}).to_string();
    let id = gateway.post("/tasks", "admin-key", &body).await.body["task_id"].as_str().unwrap().to_owned();
    let held = claim(&gateway, json!({"types": ["faq"]}), "0s").await;
    let ask = json!({"lease_token": held[0]["lease_token"], "question": "May I?", "show": {"to": "all"}});
    let parked = lease(&gateway, &id, "park", ask).await;
    let approval = parked.body["approval_id"].as_str().unwrap();
    for word in ["approve", "reject"] {
        let refused = gateway.post(&format!("/approvals/{approval}/{word}"), "agent-key", "").await;
        refused.refuses(403, "AGENT asks this and may not decide on it");
    }
    let told = gateway.get(&format!("/approvals/{approval}"), "user-key").await;
    assert_eq!(told.body["approval"]["asked_by"], "AGENT", "{told:?}");
    assert_eq!(told.body["approval"]["status"], "pending");
}

#[tokio::test]
async fn cancelling_reaches_the_agent_by_its_heartbeat() {
    let gateway = gateway().await;
    let id = task(&gateway, json!({"type": "faq", "payload": {}})).await;
    let held = claim(&gateway, json!({"types": ["faq"]}), "0s").await;
    let token = &held[0]["lease_token"];
    let asked = gateway.post(&format!("/tasks/{id}/cancel"), "agent-key", "").await;
    assert_eq!((asked.status, &asked.body["status"]), (200, &json!("in_progress")), "{asked:?}");
    let beaten = lease(&gateway, &id, "heartbeat", json!({"lease_token": token})).await;
    assert_eq!(beaten.body["cancel_requested"], true);
    let released = lease(&gateway, &id, "release", json!({"lease_token": token})).await;
    assert_eq!(released.body["status"], "cancelled", "{released:?}");
    gateway.post(&format!("/tasks/{id}/cancel"), "user-key", "").await.refuses(403, "agent");
    let waiting = task(&gateway, json!({"type": "faq", "payload": {}})).await;
    let cancelled = gateway.post(&format!("/tasks/{waiting}/cancel"), "agent-key", "").await;
    assert_eq!(cancelled.body["status"], "cancelled");
}

#[tokio::test]
async fn reports_by_patch_move_a_task_as_they_say_and_not_otherwise() {
    let gateway = gateway_with(config().api_key("OTHER", "other-agents-key", Role::Agent).unwrap()).await;
    let id = task(&gateway, json!({"type": "faq", "payload": {}})).await;
    let told = patch(&gateway, &id, "status=in_progress", "agent-key").await;
    let expected = json!({"success": true, "task_id": id, "status": "in_progress"});
    assert_eq!((told.status, &told.body), (200, &expected));
    assert!(claim(&gateway, json!({"types": ["faq"]}), "0s").await.is_empty(), "it is in no queue any more");
    assert_eq!(patch(&gateway, &id, "status=in_progress&lease=1h", "agent-key").await.status, 200, "a heartbeat");
    let other = patch(&gateway, &id, "status=in_progress", "other-agents-key").await;
    other.refuses(409, "in other hands");
    assert_eq!(other.body["task_status"], "in_progress");
    patch(&gateway, &id, "status=completed", "other-agents-key").await.refuses(409, "in other hands");
    assert_eq!(patch(&gateway, &id, "status=completed", "agent-key").await.body["status"], "completed");
    for status in ["completed", "failed", "in_progress", "cancelled", "assigned"] {
        let refused = patch(&gateway, &id, &format!("status={status}"), "agent-key").await;
        refused.refuses(409, "task");
        assert_eq!(refused.body["task_status"], "completed");
    }

    // Straight to its end, with an error that has strange characters in it.
    let id = task(&gateway, json!({"type": "faq", "payload": {}})).await;
    assert_eq!(patch(&gateway, &id, "status=failed&error=no+%3Cluck%3E", "agent-key").await.body["status"], "failed");
    let failed = read(&gateway, &id).await;
    assert_eq!((&failed["error"], &failed["reason"]), (&json!("no <luck>"), &json!("fatal")));
    let id = task(&gateway, json!({"type": "faq", "payload": {}})).await;
    let retried = patch(&gateway, &id, "status=failed&error=later&retryable=true", "agent-key").await;
    assert_eq!(retried.body["status"], "pending", "{retried:?}");
    let id = task(&gateway, json!({"type": "faq", "payload": {}, "delay": "1h"})).await;
    for status in ["in_progress", "completed", "failed"] {
        patch(&gateway, &id, &format!("status={status}"), "agent-key").await.refuses(409, "pending");
    }
    assert_eq!(patch(&gateway, &id, "status=cancelled", "agent-key").await.body["status"], "cancelled");
    let id = task(&gateway, json!({"type": "faq", "payload": {}})).await;
    patch(&gateway, &id, "status=in_progress", "agent-key").await;
    assert_eq!(patch(&gateway, &id, "status=cancelled", "agent-key").await.body["status"], "cancelled", "its own");

    for (query, said) in [
        ("", "say which status"),
        ("status=done", "`done` is no status"),
        ("status=failed&retryable=maybe", "true or false"),
        ("status=in_progress&lease=soon", "soon"),
        ("status=in_progress&lease=1ms", "between 5 seconds"),
        ("status=completed&eror=x", "`eror` means nothing here"),
    ] {
        patch(&gateway, &id, query, "agent-key").await.refuses(422, said);
    }
    patch(&gateway, "019aa1b2-c3d4-7e5f-8a6b-7c8d9e0f1000", "status=completed", "agent-key").await.refuses(404, "task");
    patch(&gateway, &id, "status=completed", "user-key").await.refuses(403, "agent");
}

#[tokio::test]
async fn a_task_that_needs_an_approval_cannot_be_reported_past_it() {
    let gateway = super::support::strict().await;
    let (id, _) = gateway.gated_task(&json!({"environment": "production"})).await;
    for status in ["in_progress", "completed", "failed", "assigned"] {
        patch(&gateway, &id, &format!("status={status}"), "agent-key").await.refuses(409, "blocked");
    }
    assert!(claim(&gateway, json!({"types": ["deploy"]}), "0s").await.is_empty());
}

#[tokio::test]
async fn tasks_are_listed_page_by_page() {
    let gateway = gateway().await;
    for n in 0..7 {
        task(&gateway, json!({"type": if n % 2 == 0 { "faq" } else { "bugfix" }, "payload": n, "priority": "P3"}))
            .await;
    }
    let page = gateway.get("/tasks?limit=3&type=faq", "user-key").await;
    assert_eq!((page.status, &page.body["count"], &page.body["success"]), (200, &json!(3), &json!(true)), "{page:?}");
    let payloads = |page: &Answer| {
        page.body["tasks"].as_array().unwrap().iter().map(|task| task["payload"].as_u64().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(payloads(&page), [6, 4, 2]);
    let cursor = page.body["cursor"].as_str().unwrap();
    let rest = gateway.get(&format!("/tasks?limit=3&type=faq&cursor={cursor}"), "user-key").await;
    assert_eq!(payloads(&rest), [0]);
    let filtered = "/tasks?status=assigned,blocked&agent=dev_agent&priority=P3&created_from=2020-01-01T00:00:00Z";
    assert_eq!(payloads(&gateway.get(filtered, "user-key").await), [5, 3, 1]);
    assert_eq!(payloads(&gateway.get("/tasks?created_before=2020-01-01T00:00:00Z", "user-key").await), [0u64; 0]);
    for (query, said) in [
        ("status=done", "`done` is no status"),
        ("priority=P9", "P9"),
        ("limit=0", "limit"),
        ("limit=x", "limit"),
        ("created_from=yesterday", "created_from"),
        ("cursor=x", "cursor"),
        ("colour=red", "`colour` means nothing here"),
        ("limit=1&limit=2", "given twice"),
    ] {
        gateway.get(&format!("/tasks?{query}"), "user-key").await.refuses(422, said);
    }
}

#[tokio::test]
async fn claims_out_of_their_bounds_are_refused() {
    let gateway = gateway().await;
    for (body, said) in [
        (json!({"types": []}), "1 to 100 types"),
        (json!({"types": ["faq"], "max": 0}), "1 to 100 types"),
        (json!({"types": ["faq"], "max": 101}), "1 to 100 types"),
        (json!({"types": ["FAQ"]}), "`FAQ` is no name"),
        (json!({"types": ["faq"], "queues": ["a", "b", "c", "d", "e", "f", "g", "h", "i"]}), "at most 8 queues"),
        (json!({"types": ["faq"], "lease": "1s"}), "between 5 seconds and 24 hours"),
        (json!({"type": "faq"}), "types"),
    ] {
        gateway.post("/tasks/claim", "agent-key", &body.to_string()).await.refuses(422, said);
    }
    gateway.post("/tasks/claim?wait=1h", "agent-key", r#"{"types":["faq"]}"#).await.refuses(422, "wait");
    gateway.post("/tasks/claim", "user-key", r#"{"types":["faq"]}"#).await.refuses(403, "agent");
    let stop = std::time::Instant::now();
    let mut gateway = gateway;
    let waiting = gateway.connect().await;
    drop(waiting);
    gateway.stop();
    (&mut gateway.served).await.unwrap();
    assert!(stop.elapsed() < Duration::from_secs(20), "a stopping gateway waits for no claim");
}
