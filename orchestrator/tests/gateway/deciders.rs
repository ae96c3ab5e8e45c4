//! Who may decide: roles of credentials, groups of tokens, roles that the environment gives.

use std::time::Duration;

use orchestrator::ApprovalPolicy;
use orchestrator::gateway::Role;
use serde_json::json;

use super::support::{Answer, Running, config, gated, strict, tokens};

/// Every FAQ needs somebody of `by`.
fn policy(by: &[&str]) -> ApprovalPolicy {
    let rules = json!([{"reason": "always", "when": "type == 'faq'", "terms": {"by": by}}]).to_string();
    ApprovalPolicy { rules: ApprovalPolicy::rules_from_json(&rules).unwrap(), ..ApprovalPolicy::none() }
}

async fn asked(gateway: &Running) -> String {
    let created = gateway.create(r#"{"type":"faq","payload":{}}"#).await;
    created.body["approval_id"].as_str().unwrap().to_owned()
}

async fn by_token(gateway: &Running, path: &str, name: &str, role: Role, groups: &[&str], body: &str) -> Answer {
    let groups: Vec<String> = groups.iter().map(|group| (*group).to_owned()).collect();
    let token = tokens().mint_in(name, role, &groups, Duration::from_secs(60)).unwrap();
    let bearer = format!("Bearer {token}");
    let headers = [("Authorization", bearer.as_str()), ("Content-Type", "application/json")];
    gateway.send("POST", path, &headers, body.as_bytes()).await
}

#[tokio::test]
async fn groups_of_a_token_are_roles_and_others_are_told_who_is_meant() {
    let gateway = gated(policy(&["role:sre"]), config()).await;
    let path = format!("/approvals/{}/approve", asked(&gateway).await);
    gateway.post(&path, "admin-key", "").await.refuses(403, "it is for role:sre. Their roles are: admin");
    by_token(&gateway, &path, "dave", Role::Agent, &["dev", "sres"], "").await.refuses(403, "agent, dev, sres");
    by_token(&gateway, &path, "dave", Role::User, &["sre"], "").await.refuses(403, "needs the role agent");
    assert_eq!(by_token(&gateway, &path, "alice", Role::Agent, &["dev", "sre"], "").await.status, 200);
}

#[tokio::test]
async fn the_role_of_a_credential_counts_and_names_are_compared_in_any_case() {
    let gateway = gated(policy(&["role:admin", "carol"]), config()).await;
    let path = format!("/approvals/{}/approve", asked(&gateway).await);
    by_token(&gateway, &path, "dave", Role::Agent, &[], "").await.refuses(403, "role:admin, carol");
    assert_eq!(gateway.post(&path, "admin-key", "").await.status, 200);
    let path = format!("/approvals/{}/approve", asked(&gateway).await);
    assert_eq!(by_token(&gateway, &path, "Carol", Role::Agent, &[], "").await.status, 200);
}

#[tokio::test]
async fn roles_are_given_to_names_of_keys_and_tokens_in_any_case() {
    let config = config().role("sre", &["admin", "Alice"]).unwrap();
    let gateway = gated(policy(&["role:sre"]), config).await;
    let path = format!("/approvals/{}/approve", asked(&gateway).await);
    by_token(&gateway, &path, "dave", Role::Agent, &[], "").await.refuses(403, "it is for role:sre");
    assert_eq!(gateway.post(&path, "admin-key", "").await.status, 200);
    let path = format!("/approvals/{}/reject", asked(&gateway).await);
    assert_eq!(by_token(&gateway, &path, "alice", Role::Agent, &[], "").await.status, 200);
}

#[tokio::test]
async fn an_approver_role_narrows_who_decides() {
    let mut narrow = config().api_key("OTHER", "other-key", Role::Agent).unwrap();
    narrow.approver_role = Role::Admin;
    let gateway = gated(ApprovalPolicy::default(), narrow).await;
    let (_, id) = gateway.gated_task(&json!({})).await;
    for (deed, body) in [("approve", ""), ("reject", ""), ("delegate", r#"{"to":"bob"}"#)] {
        let refused = gateway.post(&format!("/approvals/{id}/{deed}"), "other-key", body).await;
        refused.refuses(403, "needs the role admin; OTHER has the role agent");
    }
    assert_eq!(gateway.get("/approvals/pending", "user-key").await.body["count"], 1);
    assert_eq!(gateway.post(&format!("/approvals/{id}/approve"), "admin-key", "").await.status, 200);
}

#[tokio::test]
async fn delegating_lets_one_more_decide_and_never_the_submitter() {
    let gateway = gated(policy(&["role:admin"]), config()).await;
    let id = asked(&gateway).await;
    let (delegate, approve) = (format!("/approvals/{id}/delegate"), format!("/approvals/{id}/approve"));
    by_token(&gateway, &approve, "bob", Role::Agent, &[], "").await.refuses(403, "it is for role:admin");
    by_token(&gateway, &delegate, "bob", Role::Agent, &[], r#"{"to":"bob"}"#)
        .await
        .refuses(403, "it is for role:admin");
    for (body, part) in [
        ("", "say to whom"),
        ("{}", "missing field `to`"),
        (r#"{"to":"two words"}"#, "names no approver"),
        (r#"{"to":"AGENT"}"#, "submitted the task"),
        (r#"{"to":"name:agent"}"#, "submitted the task"),
    ] {
        gateway.post(&delegate, "admin-key", body).await.refuses(422, part);
    }
    let told = gateway.post(&delegate, "admin-key", r#"{"to":"bob"}"#).await;
    assert_eq!((told.status, &told.body["message"]), (200, &json!("Delegated to bob by ADMIN")));
    let read = gateway.get(&format!("/approvals/{id}"), "user-key").await;
    assert_eq!(read.body["approval"]["by"], json!(["role:admin", "bob"]));
    let approved = by_token(&gateway, &approve, "bob", Role::Agent, &[], "").await;
    assert_eq!(approved.body["message"], "Approved by bob");
}

#[tokio::test]
async fn a_name_that_no_approver_has_cannot_decide() {
    let gateway = strict().await;
    let (_, id) = gateway.gated_task(&json!({})).await;
    let odd = by_token(&gateway, &format!("/approvals/{id}/approve"), "Mallory M.", Role::Admin, &[], "").await;
    odd.refuses(403, "`Mallory M.` cannot decide");
}
