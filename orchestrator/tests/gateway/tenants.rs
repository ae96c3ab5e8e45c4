//! Callers with a tenant: their own is there for them, and nothing else is.

use std::time::Duration;

use orchestrator::gateway::{Access, Role, rules};
use orchestrator::{Approver, Ballot, NewEvent, NewTask, TaskFilter};
use serde_json::{Value, json};

use super::follower::Follower;
use super::support::{Answer, Running, strict, tokens};

const GATED: &str = r#"{"type":"deploy","payload":{"environment":"production"}}"#;
const PLAIN: &str = r#"{"type":"faq","payload":{}}"#;

/// A gateway, and a key of an admin of each of two tenants.
async fn tenants() -> (Running, String, String) {
    let gateway = strict().await;
    let (acme, beta) = (key(&gateway, "ann", "acme").await, key(&gateway, "bob", "beta").await);
    (gateway, acme, beta)
}

async fn key(gateway: &Running, name: &str, tenant: &str) -> String {
    gateway.orch.create_key(name, Role::Admin, Some(tenant), None).await.unwrap().1.reveal().to_owned()
}

async fn made(gateway: &Running, key: &str, body: &str) -> Value {
    let answer = gateway.post("/tasks", key, body).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.body["task"].clone()
}

fn text(value: &Value) -> &str {
    value.as_str().expect("a text")
}

/// The words of an answer, without the id that was asked for.
fn words(answer: &Answer, id: &str) -> String {
    answer.detail().replace(id, "ID")
}

#[tokio::test]
async fn every_route_with_an_id_hides_what_is_not_ones_own() {
    let (gateway, acme, beta) = tenants().await;
    let own = made(&gateway, &acme, GATED).await;
    let (other, nobodys) = (made(&gateway, &beta, GATED).await, made(&gateway, "agent-key", GATED).await);
    let hidden = [&other, &nobodys];
    assert_eq!([&own["tenant"], &other["tenant"], &nobodys["tenant"]], [&json!("acme"), &json!("beta"), &Value::Null]);
    let mut seen = 0;
    for rule in rules() {
        let (name, body) = match rule.path.split_once('{').and_then(|(_, rest)| rest.split_once('}')) {
            Some(("approval_id", _)) => ("approval_id", r#"{"to":"carol"}"#),
            // Schedules have names, not ids of tasks: schedules.rs.
            Some(("token" | "*file" | "name", _)) | None => continue,
            Some((name, _)) => (name, "{}"),
        };
        assert!(matches!(rule.access, Access::Role(_) | Access::Approver), "{rule:?}");
        let of = |task: &Value| text(&task[if name == "approval_id" { name } else { "task_id" }]).to_owned();
        let body = if rule.method == "GET" { "" } else { body };
        let ask = async |id: &str, key: &str| {
            let path = rule.path.replace(&format!("{{{name}}}"), id);
            let headers = [("X-API-Key", key), ("Content-Type", "application/json")];
            gateway.send(rule.method.as_str(), &path, &headers, body.as_bytes()).await
        };
        for task in hidden {
            let stored = async || gateway.orch.get(text(&task["task_id"]).parse().unwrap()).await.unwrap().changes;
            let before = stored().await;
            let refused = ask(&of(task), &acme).await;
            refused.refuses(404, "is not known here");
            assert!(!refused.text.contains("beta"), "{refused:?}");
            assert_eq!(stored().await, before, "nothing was done: {rule:?}");
        }
        // Who is not kept to a tenant gets further, and so does the tenant itself.
        for (key, task) in [("admin-key", &own), ("admin-key", &other), (acme.as_str(), &own)] {
            assert_ne!(ask(&of(task), key).await.status, 404, "{rule:?}");
        }
        seen += 1;
    }
    assert!(seen >= 8, "{seen}");
    let unknown = "0190a000-0000-7000-8000-000000000000";
    let never = gateway.get(&format!("/tasks/{unknown}"), &acme).await;
    for task in hidden {
        let id = text(&task["task_id"]);
        let refused = gateway.get(&format!("/tasks/{id}"), &acme).await;
        assert_eq!(words(&refused, id), words(&never, unknown), "it is as if there was no such task");
    }
}

#[tokio::test]
async fn lists_of_approvals_tell_ones_own_and_only_they_can_be_decided() {
    let (gateway, acme, beta) = tenants().await;
    let eve = key(&gateway, "eve", "acme").await;
    let mut own = Vec::new();
    for _ in 0..3 {
        own.push(text(&made(&gateway, &acme, GATED).await["approval_id"]).to_owned());
        made(&gateway, &beta, GATED).await;
        made(&gateway, "agent-key", GATED).await;
    }
    own.reverse();
    let ids = |answer: &Answer, list: &str| -> Vec<String> {
        answer.body[list].as_array().expect("a list").iter().map(|one| text(&one["approval_id"]).to_owned()).collect()
    };
    let pending = gateway.get("/approvals/pending", &acme).await;
    assert_eq!((ids(&pending, "approvals"), &pending.body["total"]), (own.clone(), &json!(3)), "{pending:?}");
    assert_eq!(pending.body["approvals"][0]["tenant"], "acme");
    let page = gateway.get("/approvals/pending?offset=1&limit=1", &acme).await;
    assert_eq!((ids(&page, "approvals"), &page.body["count"]), (own[1..2].to_vec(), &json!(1)));
    assert!(ids(&gateway.get("/approvals/pending?offset=3", &acme).await, "approvals").is_empty());
    assert_eq!(gateway.get("/approvals/pending", "user-key").await.body["total"], 9);

    for id in &own {
        gateway.post(&format!("/approvals/{id}/approve"), &beta, "").await.refuses(404, "is not known here");
    }
    let done = gateway.post(&format!("/approvals/{}/approve", own[0]), &eve, "").await;
    assert_eq!(done.body["message"], "Approved by eve", "{done:?}");
    gateway.post(&format!("/approvals/{}/approve", own[1]), &acme, "").await.refuses(403, "");
    let history = gateway.get("/approvals/history", &acme).await;
    assert_eq!((ids(&history, "history"), &history.body["total"]), (own[..1].to_vec(), &json!(1)));
    let none = gateway.get("/approvals/history", &beta).await;
    assert!(none.body["count"] == 0 && none.body["total"] == 0, "{none:?}");
    let approver = Approver::named("root");
    gateway.orch.decide(own[1].parse().unwrap(), &Ballot::approve(approver)).await.unwrap();
    assert_eq!(
        gateway.get("/approvals/history", &acme).await.body["total"],
        2,
        "decided by somebody else, and still theirs"
    );
}

#[tokio::test]
async fn figures_of_the_whole_namespace_are_not_for_one_tenant() {
    let (gateway, acme, _) = tenants().await;
    for path in ["/sla/report", "/sla/risk"] {
        gateway.get(path, &acme).await.refuses(403, "ann belongs to the tenant acme");
        assert_eq!(gateway.get(path, "user-key").await.status, 200);
    }
}

#[tokio::test]
async fn tasks_are_stamped_and_children_are_of_their_parents_tenant() {
    let (gateway, acme, beta) = tenants().await;
    let child_of =
        |parent: &Value| format!(r#"{{"type":"faq","payload":{{}},"parent_task_id":{}}}"#, parent["task_id"]);
    let own = made(&gateway, &acme, PLAIN).await;
    assert_eq!(made(&gateway, &acme, &child_of(&own)).await["tenant"], "acme");
    assert_eq!(made(&gateway, "agent-key", &child_of(&own)).await["tenant"], "acme", "whoever makes it");
    let (other, nobodys) = (made(&gateway, &beta, PLAIN).await, made(&gateway, "agent-key", PLAIN).await);
    assert_eq!(made(&gateway, "agent-key", &child_of(&nobodys)).await["tenant"], Value::Null);
    for parent in [&other, &nobodys] {
        gateway.post("/tasks", &acme, &child_of(parent)).await.refuses(422, "parent_task_id: task");
    }
    let unknown = json!({"task_id": "0190a000-0000-7000-8000-000000000000"});
    let refused = gateway.post("/tasks", &acme, &child_of(&unknown)).await;
    let twin = gateway.post("/tasks", &acme, &child_of(&other)).await;
    let words = |answer: &Answer, id: &Value| answer.detail().replace(text(id), "ID");
    assert_eq!((twin.status, words(&twin, &other["task_id"])), (refused.status, words(&refused, &unknown["task_id"])));
    gateway.post("/tasks", &acme, r#"{"type":"faq","payload":{},"tenant":"beta"}"#).await.refuses(422, "tenant");

    // By a token as by a key.
    let token = tokens().mint_for("ada", Role::Agent, &[], Some("acme"), Duration::from_secs(60)).unwrap();
    let bearer = format!("Bearer {token}");
    let by_token = async |id: &Value| {
        gateway.send("GET", &format!("/tasks/{}", text(id)), &[("Authorization", &bearer)], b"").await
    };
    assert_eq!(by_token(&own["task_id"]).await.body["task"]["tenant"], "acme");
    by_token(&other["task_id"]).await.refuses(404, "is not known here");

    // From code, too; and lists can be narrowed.
    let id = gateway.orch.enqueue(NewTask::<Value>::new("faq", &()).tenant("acme")).await.unwrap().id();
    assert_eq!(gateway.get(&format!("/tasks/{id}"), &acme).await.status, 200);
    assert!(gateway.orch.enqueue(NewTask::<Value>::new("faq", &()).tenant("ACME")).await.is_err());
    let filter = TaskFilter { tenant: Some("acme".into()), ..TaskFilter::default() };
    let listed = gateway.orch.list(&filter, None, 100).await.unwrap().tasks;
    assert!(listed.len() == 4 && listed.iter().all(|task| task.tenant.as_deref() == Some("acme")), "{listed:?}");
}

#[tokio::test]
async fn events_about_others_are_not_heard() {
    let (gateway, acme, beta) = tenants().await;
    let live = Follower::open_with(&gateway, "/events", &[("X-API-Key", &acme)]).await;
    let own = made(&gateway, &acme, PLAIN).await;
    let (other, nobodys) = (made(&gateway, &beta, PLAIN).await, made(&gateway, "agent-key", PLAIN).await);
    let publish = async |key: &str, event: Value| gateway.post("/events/publish", key, &event.to_string()).await;
    for (key, said) in [(acme.as_str(), "own"), (&beta, "of beta"), ("agent-key", "of nobody")] {
        assert_eq!(publish(key, json!({"event_type": "deploy.done", "payload": said})).await.status, 200);
    }
    // Nobody can speak in another's name, nor of another's task.
    let forged = json!({"event_type": "deploy.done", "payload": "forged", "metadata": {"tenant": "acme", "a": 1}});
    assert_eq!(publish(&beta, forged).await.status, 200);
    for task in [&own, &nobodys] {
        let about = json!({"event_type": "deploy.done", "task_id": task["task_id"]});
        publish(&beta, about).await.refuses(422, "task_id: task");
    }
    let cloud =
        json!({"specversion": "1.0", "type": "deploy.done", "source": "x", "id": "1", "subject": own["task_id"]});
    let headers = [("X-API-Key", beta.as_str()), ("Content-Type", "application/cloudevents+json")];
    let refused = gateway.send("POST", "/events/publish", &headers, cloud.to_string().as_bytes()).await;
    refused.refuses(422, "task_id: task");
    // What is told from within about a task is heard by its tenant.
    for task in [&other, &own, &nobodys] {
        let event = NewEvent::new("deploy.within", &task["task_id"]).task(text(&task["task_id"]).parse().unwrap());
        gateway.orch.publish(&event.trace_id("a-trace")).await.unwrap();
    }
    assert_eq!(publish(&acme, json!({"event_type": "deploy.last"})).await.status, 200);

    let expected = [
        ("task.created", Value::Null),
        ("deploy.done", json!("own")),
        ("deploy.within", own["task_id"].clone()),
        ("deploy.last", json!({})),
    ];
    let again = Follower::open_with(&gateway, "/events?from=oldest", &[("X-API-Key", &acme)]).await;
    for mut follower in [live, again] {
        for (name, payload) in &expected {
            let block = follower.next().await.expect("an event");
            assert_eq!(block.name, *name, "{block:?}");
            match payload {
                Value::Null => assert_eq!(block.data["task_id"], own["task_id"]),
                payload => assert_eq!(block.data["payload"], *payload),
            }
            if *name == "deploy.done" {
                assert_eq!(block.data["metadata"], json!({"tenant": "acme"}));
                // A client that comes again goes on there, over what is not for it.
                let headers = [("X-API-Key", acme.as_str()), ("Last-Event-ID", block.id.as_deref().expect("a place"))];
                let mut again = Follower::open_with(&gateway, "/events", &headers).await;
                assert_eq!(again.next().await.expect("an event").name, "deploy.within");
            }
        }
    }
    let timeline = gateway.get(&format!("/tasks/{}/events", text(&own["task_id"])), &acme).await;
    assert_eq!(timeline.body["count"], 2, "{timeline:?}");
    gateway.get(&format!("/tasks/{}/events", text(&other["task_id"])), &acme).await.refuses(404, "is not known here");
    // Whoever is kept to no tenant hears everything.
    let mut all = Follower::open(&gateway, "/events?from=oldest&types=deploy.*", None).await;
    for payload in ["own", "of beta", "of nobody", "forged"] {
        assert_eq!(all.next().await.expect("an event").data["payload"], payload);
    }
}

#[tokio::test]
async fn idempotency_keys_of_two_tenants_callers_with_one_name_are_apart() {
    let gateway = strict().await;
    let keys = ["acme", "beta"]
        .map(|tenant| tokens().mint_for("ada", Role::Agent, &[], Some(tenant), Duration::from_secs(60)).unwrap());
    for (path, body, id) in
        [("/tasks", PLAIN, "task_id"), ("/events/publish", r#"{"event_type":"deploy.done","payload":{}}"#, "event_id")]
    {
        let mut ids = Vec::new();
        for key in &keys {
            let bearer = format!("Bearer {key}");
            let headers =
                [("Authorization", bearer.as_str()), ("Content-Type", "application/json"), ("Idempotency-Key", path)];
            let first = gateway.send("POST", path, &headers, body.as_bytes()).await;
            assert_eq!(first.status, 200, "another tenant's key is in nobody's way: {first:?}");
            let again = gateway.send("POST", path, &headers, body.as_bytes()).await;
            assert_eq!(again.body[id], first.body[id], "{again:?}");
            ids.push(first.body[id].clone());
        }
        assert_ne!(ids[0], ids[1]);
    }
}

#[tokio::test]
async fn a_tenant_makes_no_types_known_and_is_told_none_of_others() {
    let (gateway, acme, _) = tenants().await;
    let claimed = gateway.post("/tasks/claim", "agent-key", r#"{"types":["secret_project"]}"#).await;
    assert_eq!(claimed.status, 200, "{claimed:?}");
    let refused = gateway.post("/tasks", &acme, r#"{"type":"nope","payload":{}}"#).await;
    refused.refuses(400, "`nope` is no known task type");
    assert!(refused.text.contains("bugfix") && !refused.text.contains("secret_project"), "{refused:?}");
    gateway.post("/tasks/claim", &acme, r#"{"types":["invented"]}"#).await.refuses(422, "`invented` is no task type");
    let fair = gateway.post("/tasks/claim", &acme, r#"{"types":["secret_project","faq"]}"#).await;
    assert_eq!(fair.status, 200, "{fair:?}");
}
