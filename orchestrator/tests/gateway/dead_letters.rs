//! Dead letters and priorities over HTTP: who may, what is counted, and what is there for whom.

use std::time::Duration;

use orchestrator::gateway::Role;
use orchestrator::{Incarnation, NewTask, Priority, TaskId};
use serde_json::{Value, json};

use super::support::{Answer, Running, gateway, strict};

/// Has tasks of these tenants fail.
async fn fail(gateway: &Running, tenants: &[&str]) -> Vec<TaskId> {
    let queue = ["q".to_owned()];
    let life = Incarnation::join(&gateway.orch, &queue, &[], Duration::from_secs(60)).await.unwrap();
    let mut failed = Vec::new();
    for (i, tenant) in tenants.iter().enumerate() {
        let task = NewTask::<()>::new(["a", "b"][i % 2], &i).queue("q");
        let task = if tenant.is_empty() { task } else { task.tenant(tenant) };
        failed.push(gateway.orch.enqueue(task).await.unwrap().id());
        let claim = life.step(&[], 1, &queue, None).await.unwrap().claims.pop().unwrap();
        life.step(&[claim.fail("fatal", &format!("order {i} not found"))], 0, &queue, None).await.unwrap();
    }
    life.leave(&[]).await.unwrap();
    failed
}

async fn key(gateway: &Running, name: &str, role: Role, tenant: &str) -> String {
    gateway.orch.create_key(name, role, Some(tenant), None).await.unwrap().1.reveal().to_owned()
}

fn ids(answer: &Answer) -> Vec<TaskId> {
    let letters = answer.body["dead_letters"].as_array().unwrap_or_else(|| panic!("{answer:?}"));
    letters.iter().map(|letter| letter["task"]["task_id"].as_str().unwrap().parse().unwrap()).collect()
}

async fn delete(gateway: &Running, path: &str, key: &str) -> Answer {
    gateway.send("DELETE", path, &[("X-API-Key", key)], b"").await
}

#[tokio::test]
async fn they_are_listed_by_pages_and_grouped() {
    let gateway = gateway().await;
    let failed = fail(&gateway, &[""; 7]).await;
    let page = gateway.get("/dead-letters?limit=3", "user-key").await;
    assert_eq!(ids(&page), [failed[6], failed[5], failed[4]]);
    let cursor = page.body["cursor"].as_str().unwrap();
    let rest = gateway.get(&format!("/dead-letters?cursor={cursor}"), "user-key").await;
    assert_eq!((ids(&rest).len(), &rest.body["cursor"]), (4, &Value::Null));
    let groups = gateway.get("/dead-letters/groups", "user-key").await.body;
    assert_eq!((&groups["count"], &groups["letters"], &groups["complete"]), (&json!(2), &json!(7), &json!(true)));
    let name = groups["groups"][0]["fingerprint"].as_str().unwrap();
    assert_eq!((&groups["groups"][0]["type"], &groups["groups"][0]["count"]), (&json!("a"), &json!(4)));
    let alike = gateway.get(&format!("/dead-letters?fingerprint={name}&queue=q&type=a&error=ORDER"), "user-key").await;
    assert_eq!(ids(&alike).len(), 4);
    assert!(ids(&gateway.get("/dead-letters?until=2020-01-01T00:00:00Z", "user-key").await).is_empty());
    let one = gateway.get(&format!("/dead-letters/{}", failed[0]), "user-key").await;
    assert_eq!((one.status, &one.body["dead_letter"]["task"]["error"]), (200, &json!("order 0 not found")));
    assert!(one.body["dead_letter"]["worker"].is_string(), "{one:?}");
    for (query, says) in [
        ("fingerprint=xyz", "is no fingerprint"),
        ("limit=0", "1 to 1000"),
        ("cursor=l.x", "no cursor"),
        ("colour=red", "means nothing here"),
        ("since=2030-01-01T00:00:00Z&until=2029-01-01T00:00:00Z", "nothing failed"),
    ] {
        gateway.get(&format!("/dead-letters?{query}"), "user-key").await.refuses(422, says);
    }
}

#[tokio::test]
async fn they_are_counted_before_anything_is_done() {
    let gateway = gateway().await;
    fail(&gateway, &[""; 6]).await;
    let of_a = r#"{"filter": {"type": "a"}}"#;
    for path in ["/dead-letters/retry", "/dead-letters/delete"] {
        let counted = gateway.post(path, "admin-key", of_a).await.body;
        assert_eq!((&counted["dry_run"], &counted["found"], &counted["done"]), (&json!(true), &json!(3), &json!(0)));
        let grown = r#"{"filter": {}, "dry_run": false, "expected": 5}"#;
        gateway.post(path, "admin-key", grown).await.refuses(409, "6 dead letters are meant by now, not 5");
        gateway.post(path, "admin-key", "{}").await.refuses(422, "{} means all");
        gateway.post(path, "admin-key", r#"{"filter": {"typ": "a"}}"#).await.refuses(422, "unknown field `typ`");
        gateway.post(path, "admin-key", r#"{"filter": {}, "limit": 0}"#).await.refuses(422, "1 to 10000");
    }
    gateway.post("/dead-letters/delete", "agent-key", of_a).await.refuses(403, "");
    assert_eq!(gateway.orch.stats().await.unwrap().dead_tasks, 6);
    let some = r#"{"filter": {"type": "a"}, "dry_run": false, "expected": 3, "limit": 2}"#;
    let swept = gateway.post("/dead-letters/retry", "agent-key", some).await.body;
    assert_eq!((&swept["done"], &swept["left"], &swept["complete"]), (&json!(2), &json!(1), &json!(true)));
    let swept = gateway.post("/dead-letters/delete", "admin-key", r#"{"filter": {}, "dry_run": false}"#).await.body;
    assert_eq!((&swept["found"], &swept["done"]), (&json!(4), &json!(4)));
    assert_eq!(gateway.orch.stats().await.unwrap().dead_tasks, 0);
}

#[tokio::test]
async fn a_tenant_sees_and_changes_its_own_alone() {
    let gateway = gateway().await;
    let failed = fail(&gateway, &["acme", "beta", "", "acme", "beta"]).await;
    let admin = key(&gateway, "ann", Role::Admin, "acme").await;
    let agent = key(&gateway, "bob", Role::Agent, "acme").await;
    assert_eq!(ids(&gateway.get("/dead-letters", &agent).await), [failed[3], failed[0]]);
    let groups = gateway.get("/dead-letters/groups", &agent).await;
    assert_eq!(groups.body["letters"], 2);
    assert!(!groups.text.contains("order 1 "), "{groups:?}");
    for id in [failed[1], failed[2]] {
        let path = format!("/dead-letters/{id}");
        gateway.get(&path, &admin).await.refuses(404, "is not known here");
        delete(&gateway, &path, &admin).await.refuses(404, "is not known here");
    }
    delete(&gateway, &format!("/dead-letters/{}", failed[0]), &agent).await.refuses(403, "");
    let all = r#"{"filter": {}, "dry_run": false}"#;
    assert_eq!(gateway.post("/dead-letters/retry", &agent, r#"{"filter": {}}"#).await.body["found"], 2);
    // The tenant cannot be named: it is the caller's.
    gateway.post("/dead-letters/retry", &agent, r#"{"filter": {"tenant": "beta"}}"#).await.refuses(422, "tenant");
    assert_eq!(delete(&gateway, &format!("/dead-letters/{}", failed[0]), &admin).await.status, 200);
    assert_eq!(gateway.post("/dead-letters/retry", &agent, all).await.body["done"], 1);
    assert_eq!(gateway.post("/dead-letters/delete", &admin, all).await.body["found"], 0);
    assert_eq!(gateway.orch.stats().await.unwrap().dead_tasks, 3);
    let audit = gateway.orch.audit(0).await.unwrap();
    let told: Vec<_> = audit.iter().map(|entry| (entry.op.as_str(), entry.who.as_str())).collect();
    assert_eq!(told, [("deleted", "ann"), ("retried", "bob")]);
    // Those without a tenant see all.
    assert_eq!(ids(&gateway.get("/dead-letters", "user-key").await).len(), 3);
}

#[tokio::test]
async fn a_priority_is_changed_and_rules_are_not_got_round() {
    let gateway = strict().await;
    let made = gateway.create(r#"{"type": "faq", "payload": {}, "priority": "P3"}"#).await;
    let id = made.body["task_id"].as_str().unwrap().to_owned();
    let patch = async |key: &str, body: &str| {
        let headers = [("X-API-Key", key), ("Content-Type", "application/json")];
        gateway.send("PATCH", &format!("/tasks/{id}/priority"), &headers, body.as_bytes()).await
    };
    for _ in 0..2 {
        let answer = patch("agent-key", r#"{"priority": "P2"}"#).await;
        let expected = json!({"success": true, "task_id": id, "priority": "P2", "status": "assigned"});
        assert_eq!((answer.status, answer.body), (200, expected));
    }
    patch("agent-key", r#"{"priority": "P0"}"#).await.refuses(403, "needs an approval");
    patch("agent-key", r#"{"priority": "P0", "force": true}"#).await.refuses(403, "force is for admins");
    patch("user-key", r#"{"priority": "P2"}"#).await.refuses(403, "");
    patch("agent-key", "{}").await.refuses(422, "P0 P1 P2 P3");
    patch("agent-key", r#"{"priority": "P7"}"#).await.refuses(422, "P7");
    assert_eq!(patch("admin-key", r#"{"priority": "P0", "force": true}"#).await.status, 200);
    assert_eq!(gateway.orch.get(id.parse().unwrap()).await.unwrap().priority, Priority::P0);
    gateway.orch.cancel(id.parse().unwrap()).await.unwrap();
    let ended = patch("agent-key", r#"{"priority": "P3"}"#).await;
    ended.refuses(409, "was cancelled");
    assert_eq!(ended.body["task_status"], "cancelled");
}
