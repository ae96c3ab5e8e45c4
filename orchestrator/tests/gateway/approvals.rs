//! Approvals over HTTP: what waits, who decides, and how they are refused.

use orchestrator::{ApprovalPolicy, Incarnation, LEASE, Terms};
use serde_json::{Value, json};

use super::support::{config, gated, strict, tokens};
use orchestrator::gateway::Role;
use std::time::Duration;

const UNKNOWN: &str = "approval_019aa1b2-c3d4-7e5f-8a6b-7c8d9e0f1000";

#[tokio::test]
async fn a_gated_task_waits_until_somebody_else_approves() {
    let gateway = strict().await;
    let body = json!({"type": "deploy", "payload": {"environment": "Production"}}).to_string();
    let created = gateway.create(&body).await;
    assert_eq!((created.status, &created.body["task"]["status"]), (200, &json!("blocked")), "{created:?}");
    let (task, id) = (created.body["task_id"].as_str().unwrap(), created.body["approval_id"].as_str().unwrap());
    assert_eq!(id, format!("approval_{task}"));
    assert_eq!((&created.body["task"]["approval_id"], &created.body["success"]), (&json!(id), &json!(true)));
    assert!(created.body["message"].as_str().unwrap().contains(&format!("waits for {id}")), "{created:?}");
    // What needs none says nothing of one.
    let free = gateway.create(r#"{"type":"deploy","payload":{"environment":"staging"}}"#).await;
    assert_eq!((&free.body["task"]["status"], free.body.get("approval_id")), (&json!("assigned"), None));

    let pending = gateway.get("/approvals/pending", "user-key").await;
    assert_eq!((&pending.body["success"], &pending.body["count"]), (&json!(true), &json!(1)));
    let approval = &pending.body["approvals"][0];
    for (field, value) in [
        ("approval_id", json!(id)),
        ("task_id", json!(task)),
        ("task_type", json!("deploy")),
        ("priority", json!("P2")),
        ("reason", json!("a change of production")),
        ("status", json!("pending")),
        ("requested_by", json!("AGENT")),
        ("kind", json!("gate")),
        ("shown", json!({"environment": "Production"})),
        ("approved_by", Value::Null),
        ("approved_at", Value::Null),
        ("rejection_reason", Value::Null),
    ] {
        assert_eq!(approval[field], value, "{field}");
    }
    assert_eq!(approval["payload_hash"].as_str().map(str::len), Some(64));
    let read = gateway.get(&format!("/approvals/{id}"), "user-key").await;
    assert_eq!((&read.body["success"], &read.body["approval"]), (&json!(true), approval));

    let path = format!("/approvals/{id}/approve");
    gateway.post(&path, "user-key", "").await.refuses(403, "needs the role agent");
    gateway.post(&path, "agent-key", "").await.refuses(403, "AGENT submitted the task");
    let token = tokens().mint("agent", Role::Admin, Duration::from_secs(60)).unwrap();
    let bearer = [("Authorization", format!("Bearer {token}"))];
    let own = gateway.send("POST", &path, &[(bearer[0].0, &bearer[0].1)], b"").await;
    own.refuses(403, "agent submitted the task");
    let note = json!({"note": "go", "form": null, "payload_hash": approval["payload_hash"]}).to_string();
    let approved = gateway.post(&path, "admin-key", &note).await;
    let told = json!({"success": true, "approval_id": id, "message": "Approved by ADMIN", "status": "approved"});
    assert_eq!((approved.status, &approved.body), (200, &told));
    let task = gateway.get(&format!("/tasks/{task}"), "user-key").await;
    assert_eq!(task.body["task"]["status"], "assigned");
    for (deed, body) in [("approve", ""), ("reject", ""), ("delegate", r#"{"to":"bob"}"#)] {
        let late = gateway.post(&format!("/approvals/{id}/{deed}"), "admin-key", body).await;
        late.refuses(409, "was approved before, by ADMIN");
    }
    let history = gateway.get("/approvals/history", "user-key").await;
    assert_eq!((&history.body["count"], &history.body["history"][0]["approved_by"]), (&json!(1), &json!("ADMIN")));
    assert_eq!(history.body["history"][0]["votes"][0]["note"], "go");
    assert_eq!(gateway.get("/approvals/pending", "user-key").await.body["count"], 0);
}

#[tokio::test]
async fn a_rejection_ends_the_task_and_its_reason_comes_by_query_or_body() {
    let gateway = strict().await;
    for (query, body, reason) in [
        ("?reason=not%20t%C3%B6day", "", "not töday"),
        ("", r#"{"reason":"too risky"}"#, "too risky"),
        ("?reason=same", r#"{"reason":"same"}"#, "same"),
        ("", "null", ""),
    ] {
        let (task, id) = gateway.gated_task(&json!({})).await;
        let rejected = gateway.post(&format!("/approvals/{id}/reject{query}"), "admin-key", body).await;
        let told = json!({"success": true, "approval_id": id, "message": "Rejected by ADMIN", "status": "rejected"});
        assert_eq!((rejected.status, &rejected.body), (200, &told), "{reason}");
        let task = gateway.get(&format!("/tasks/{task}"), "user-key").await;
        assert_eq!(
            (&task.body["task"]["status"], &task.body["task"]["reason"]),
            (&json!("cancelled"), &json!("rejected"))
        );
        let error = task.body["task"]["error"].as_str().unwrap();
        assert!(error.starts_with("rejected by ADMIN") && error.ends_with(reason), "{error}");
        gateway
            .post(&format!("/approvals/{id}/approve"), "admin-key", "")
            .await
            .refuses(409, "was rejected before, by ADMIN");
    }
    let rest = gateway.get("/approvals/history?offset=1&limit=1", "user-key").await;
    let both = gateway.get("/approvals/history?limit=2", "user-key").await;
    assert_eq!(rest.body["history"][0], both.body["history"][1]);
    gateway.get("/approvals/history?offset=-1", "user-key").await.refuses(422, "offset");
    let history = gateway.get("/approvals/history?limit=2", "user-key").await;
    assert_eq!((&history.body["count"], &history.body["total"]), (&json!(2), &json!(4)));
    assert_eq!(history.body["history"][1]["rejection_reason"], "same", "newest first");
    let (_, id) = gateway.gated_task(&json!({})).await;
    let path = format!("/approvals/{id}/reject?reason=one");
    gateway.post(&path, "admin-key", r#"{"reason":"other"}"#).await.refuses(422, "differ");
    gateway.post(&format!("{path}&reason=two"), "admin-key", "").await.refuses(422, "given twice");
}

#[tokio::test]
async fn bodies_may_be_missing_and_wrong_ones_are_told() {
    let gateway = strict().await;
    let (_, id) = gateway.gated_task(&json!({})).await;
    let path = format!("/approvals/{id}/approve");
    for (body, status, part) in [
        ("{", 400, "not JSON"),
        ("[]", 422, "not a list"),
        (r#"{"nota":"x"}"#, 422, "unknown field `nota`"),
        (r#"{"note":7}"#, 422, "note: "),
        (r#"{"payload_hash":"abc"}"#, 422, "64 hexadecimal"),
        (r#"{"form":{"a":1}}"#, 422, "no form is asked for"),
        (&json!({"note": "x".repeat(2001)}).to_string(), 422, "at most 2000 bytes"),
        (&json!({"payload_hash": "0".repeat(64)}).to_string(), 409, "not what"),
    ] {
        gateway.post(&path, "admin-key", body).await.refuses(status, part);
    }
    let form = [("X-API-Key", "admin-key"), ("Content-Type", "application/x-www-form-urlencoded")];
    gateway.send("POST", &path, &form, b"note=x").await.refuses(415, "application/json");
    // What `curl -X POST -d ''` sends.
    let empty = gateway.send("POST", &path, &[form[0], form[1], ("Content-Length", "0")], b"").await;
    assert_eq!(empty.status, 200, "{empty:?}");
}

#[tokio::test]
async fn what_nobody_knows_is_404_and_limits_out_of_bounds_are_422() {
    let gateway = strict().await;
    for id in [UNKNOWN, &format!("{UNKNOWN}_7"), "x", "approval_", "%00", "%ff", "link"] {
        gateway.get(&format!("/approvals/{id}"), "user-key").await.refuses(404, "");
        for (deed, body) in [("approve", ""), ("reject", ""), ("delegate", r#"{"to":"bob"}"#)] {
            let answer = gateway.post(&format!("/approvals/{id}/{deed}"), "agent-key", body).await;
            // `link` is the folder of the links, whose tokens nobody needs a key for.
            assert_eq!(answer.status, if id == "link" { 403 } else { 404 }, "{id} {deed} {answer:?}");
        }
    }
    for path in ["/approvals/history", "/approvals/pending"] {
        for limit in ["0", "1001", "-1", "x", "", "1&limit=2"] {
            gateway.get(&format!("{path}?limit={limit}"), "user-key").await.refuses(422, "limit");
        }
        for limit in ["1", "1000", "5&other=7"] {
            assert_eq!(gateway.get(&format!("{path}?limit={limit}"), "user-key").await.status, 200);
        }
    }
}

#[tokio::test]
async fn of_two_at_once_one_wins_and_the_other_is_told_who() {
    let gateway = strict().await;
    for round in 0..5 {
        let (task, id) = gateway.gated_task(&json!({"round": round})).await;
        let token = tokens().mint("carol", Role::Agent, Duration::from_secs(60)).unwrap();
        let bearer = format!("Bearer {token}");
        let (approve, reject) = (format!("/approvals/{id}/approve"), format!("/approvals/{id}/reject"));
        let carols = [("Authorization", bearer.as_str())];
        let (a, b) = tokio::join!(gateway.post(&approve, "admin-key", ""), gateway.send("POST", &reject, &carols, b""));
        let status = gateway.get(&format!("/tasks/{task}"), "user-key").await.body["task"]["status"].clone();
        match (a.status, b.status) {
            (200, 409) => {
                b.refuses(409, "was approved before, by ADMIN");
                assert_eq!(status, "assigned");
            }
            (409, 200) => {
                a.refuses(409, "was rejected before, by carol");
                assert_eq!(status, "cancelled");
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_quorum_counts_each_person_once() {
    let rules = r#"[{"reason": "money", "when": "type == 'faq'", "terms": {"quorum": 2}}]"#;
    let policy = ApprovalPolicy { rules: ApprovalPolicy::rules_from_json(rules).unwrap(), ..ApprovalPolicy::none() };
    let gateway = gated(policy, config().api_key("carol", "carols-key", Role::Agent).unwrap()).await;
    let created = gateway.create(r#"{"type":"faq","payload":{}}"#).await;
    let id = created.body["approval_id"].as_str().unwrap();
    let path = format!("/approvals/{id}/approve");
    let first = gateway.post(&path, "carols-key", r#"{"note":"fine"}"#).await;
    assert_eq!(first.status, 200, "{first:?}");
    assert_eq!(first.body["message"], "Vote of carol counted: 1 of 2");
    assert_eq!(
        (&first.body["status"], &first.body["votes"], &first.body["quorum"]),
        (&json!("pending"), &json!(1), &json!(2))
    );
    gateway.post(&path, "carols-key", "").await.refuses(409, "carol has voted");
    // The same person by a token, in capitals.
    let token = tokens().mint("CAROL", Role::Agent, Duration::from_secs(60)).unwrap();
    let bearer = format!("Bearer {token}");
    let again = gateway.send("POST", &path, &[("Authorization", &bearer)], b"").await;
    again.refuses(409, "CAROL has voted");
    assert_eq!(gateway.post(&path, "admin-key", "").await.body["message"], "Approved by ADMIN");
}

#[tokio::test]
async fn a_form_has_the_fields_that_are_asked_for() {
    let gateway = strict().await;
    let shown = json!({"replicas": 6});
    let id = gateway.question("bob", "Scale?", &["start"], shown.clone(), Terms::default()).await;
    let read = gateway.get(&format!("/approvals/{id}"), "user-key").await.body["approval"].clone();
    assert_eq!(
        (&read["question"], &read["form"], &read["kind"]),
        (&json!("Scale?"), &json!(["start"]), &json!("handler"))
    );
    let path = format!("/approvals/{id}/approve");
    gateway.post(&path, "agent-key", "").await.refuses(422, "start");
    gateway.post(&path, "agent-key", r#"{"form":{"begin":"noon"}}"#).await.refuses(422, "no field `begin`");
    gateway.post(&path, "agent-key", r#"{"form":"noon"}"#).await.refuses(422, "form: ");
    assert_eq!(gateway.post(&path, "agent-key", r#"{"form":{"start":"noon"}}"#).await.status, 200);
    let read = gateway.get(&format!("/approvals/{id}"), "user-key").await.body["approval"].clone();
    assert_eq!(read["form_values"], json!({"start": "noon"}));
}

#[tokio::test]
async fn the_clock_and_the_journal_of_a_task_are_told() {
    let gateway = strict().await;
    let body = r#"{"type":"faq","payload":{},"sla_target":"30m"}"#;
    let task = gateway.create(body).await.body["task_id"].as_str().unwrap().to_owned();
    let told = gateway.get(&format!("/tasks/{task}/sla"), "user-key").await;
    assert_eq!((told.status, &told.body["task_id"], &told.body["sla"]["target"]), (200, &json!(task), &json!("30m")));
    let clock = &told.body["clock"];
    assert_eq!((&clock["state"], &clock["human_ms"], &clock["human"]), (&json!("ok"), &json!(0), &json!("0s")));
    let left = clock["left_ms"].as_i64().unwrap();
    assert!((1_700_000..=1_800_000).contains(&left) && clock["left"].as_str().unwrap().contains('m'), "{clock}");
    assert!(clock["due"].is_string() && clock["queue_ms"].is_u64() && clock["machine"].is_string(), "{clock}");
    // While a person has it, the clock stands.
    let gated = r#"{"type":"faq","payload":{},"priority":"P0","sla_target":"30m"}"#;
    let gated = gateway.create(gated).await.body["task_id"].as_str().unwrap().to_owned();
    let clock = gateway.get(&format!("/tasks/{gated}/sla"), "user-key").await.body["clock"].clone();
    assert_eq!((&clock["state"], &clock["left"], &clock["due"]), (&json!("paused"), &Value::Null, &Value::Null));
    let late = r#"{"type":"faq","payload":{},"sla_target":"1ms"}"#;
    let late = gateway.create(late).await.body["task_id"].as_str().unwrap().to_owned();
    tokio::time::sleep(Duration::from_millis(5)).await;
    let clock = gateway.get(&format!("/tasks/{late}/sla"), "user-key").await.body["clock"].clone();
    assert!(clock["left"].as_str().unwrap().starts_with('-') && clock["left_ms"].as_i64().unwrap() < 0, "{clock}");
    let plain = gateway.create(r#"{"type":"faq","payload":{}}"#).await.body["task_id"].as_str().unwrap().to_owned();
    let none = gateway.get(&format!("/tasks/{plain}/sla"), "user-key").await;
    assert_eq!((none.status, &none.body["sla"], &none.body["clock"]), (200, &Value::Null, &Value::Null));
    let empty = gateway.get(&format!("/tasks/{plain}/journal"), "user-key").await;
    assert_eq!((&empty.body["count"], &empty.body["journal"]), (&json!(0), &json!([])));

    let asked = gateway.question("bob", "Go?", &[], json!(1), Terms::default()).await;
    let journal = gateway.get(&format!("/tasks/{}/journal", asked.task), "user-key").await;
    assert_eq!(
        journal.body["journal"],
        json!([
            {"name": "plan", "order": 1, "kind": "step", "state": "done", "output": 42},
            {"name": "approval#1", "order": 2, "kind": "approval", "state": "pending", "output": null},
        ])
    );
    let life = Incarnation::join(&gateway.orch, &["faq_agent".into()], &[], LEASE).await.unwrap();
    let claims = life.step(&[], 9, &["faq_agent".into()], None).await.unwrap().claims;
    let finishes: Vec<_> = claims.into_iter().map(|claim| claim.complete(&[0xc0])).collect();
    life.step(&finishes, 0, &[], None).await.unwrap();
    let report = gateway.get("/sla/report?window=1h", "user-key").await;
    // The gated one is still with a person, and the plain one has no promise.
    let row = &report.body["rows"][0];
    assert_eq!((&row["task_type"], &row["priority"]), (&json!("faq"), &json!("P2")));
    assert_eq!((&row["ended"], &row["violated"], &row["attainment"]), (&json!(2), &json!(1), &json!(0.5)));
    assert_eq!(report.body["total"]["ended"], 2);
    gateway.get("/sla/report?window=40d", "user-key").await.refuses(422, "31 days");
    gateway.get("/sla/report?window=long", "user-key").await.refuses(422, "not a span");
    let risk = gateway.get("/sla/risk", "user-key").await;
    assert_eq!((&risk.body["count"], &risk.body["at_risk"]), (&json!(0), &json!([])));
    for of in ["sla", "journal"] {
        gateway.get(&format!("/tasks/x/{of}"), "user-key").await.refuses(404, "task");
        let unknown = "019aa1b2-c3d4-7e5f-8a6b-7c8d9e0f1000";
        gateway.get(&format!("/tasks/{unknown}/{of}"), "user-key").await.refuses(404, "task");
    }
}
