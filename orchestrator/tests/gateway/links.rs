//! Links that decide once: a page, a form, and everything that must not pass.

use std::time::Duration;

use orchestrator::gateway::{GatewayConfig, Role};
use orchestrator::{Approval, ApprovalPolicy, Approver, Terms};
use serde_json::{Value, json};

use super::support::{Answer, Running, SECRET, config, gated, strict, tokens};
use super::tokens::{HEADER, now, signed};

const FORM: (&str, &str) = ("Content-Type", "application/x-www-form-urlencoded");

async fn approval(gateway: &Running, id: &str) -> Approval {
    gateway.orch.approval(id.parse().unwrap()).await.unwrap()
}

/// The path of a link for `approver`.
async fn link(gateway: &Running, id: &str, approver: &Approver) -> String {
    let token = tokens().mint_link(&approval(gateway, id).await, approver, Duration::from_secs(600)).unwrap();
    format!("/approvals/link/{token}")
}

async fn look(gateway: &Running, path: &str) -> Answer {
    gateway.send("GET", path, &[], b"").await
}

async fn post(gateway: &Running, path: &str, form: &str) -> Answer {
    gateway.send("POST", path, &[FORM], form.as_bytes()).await
}

/// Checks that this is a page of ours that says `part`.
#[track_caller]
fn tells(answer: &Answer, status: u16, part: &str) {
    assert_eq!(answer.status, status, "{answer:?}");
    assert!(answer.text.contains(part), "{part:?} is not in {}", answer.text);
    assert!(answer.text.starts_with("<!doctype html>") && !answer.text.contains("<script"), "{}", answer.text);
    let policy = &answer.headers["content-security-policy"];
    assert!(policy.starts_with("default-src 'none'; style-src 'unsafe-inline'; form-action 'self'"), "{policy}");
    for (name, value) in [
        ("content-type", "text/html; charset=utf-8"),
        ("cache-control", "no-store"),
        ("referrer-policy", "no-referrer"),
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
    ] {
        assert_eq!(answer.headers[name], value);
    }
}

#[tokio::test]
async fn looking_decides_nothing_and_the_form_decides_once() {
    let gateway = strict().await;
    let (task, id) = gateway.gated_task(&json!({"service": "web"})).await;
    let path = link(&gateway, &id, &Approver::named("alice")).await;
    for _ in 0..2 {
        let page = look(&gateway, &path).await;
        tells(&page, 200, "&quot;service&quot;: &quot;web&quot;");
        for part in
            ["AGENT", "alice", "a change of production", "method=\"post\"", "value=\"approve\"", "value=\"reject\""]
        {
            assert!(page.text.contains(part), "{part}: {}", page.text);
        }
        assert_eq!(gateway.send("HEAD", &path, &[], b"").await.status, 200);
    }
    assert_eq!(gateway.get("/approvals/pending", "user-key").await.body["count"], 1);

    tells(&post(&gateway, &path, "note=hm").await, 422, "nothing was decided");
    tells(&post(&gateway, &path, "decision=approve&decision=reject").await, 422, "given twice");
    tells(&post(&gateway, &path, "decision=approve&form.x=1").await, 422, "no form is asked for");
    let json = gateway.send("POST", &path, &[("Content-Type", "application/json")], b"{}").await;
    tells(&json, 415, "x-www-form-urlencoded");
    tells(&post(&gateway, &path, "decision=approve&note=looks+g%C3%B6od").await, 200, "Approved by alice");
    tells(&post(&gateway, &path, "decision=reject").await, 409, "approved by alice");
    tells(&look(&gateway, &path).await, 409, "approved by alice");
    let read = approval(&gateway, &id).await;
    assert_eq!((read.approved_by.as_deref(), read.votes[0].note.as_str()), (Some("alice"), "looks göod"));
    let task = gateway.get(&format!("/tasks/{task}"), "user-key").await;
    assert_eq!(task.body["task"]["status"], "assigned");
}

#[tokio::test]
async fn two_posts_at_once_decide_once() {
    let gateway = strict().await;
    let (_, id) = gateway.gated_task(&json!({})).await;
    let path = link(&gateway, &id, &Approver::named("alice")).await;
    let (a, b) = tokio::join!(post(&gateway, &path, "decision=approve"), post(&gateway, &path, "decision=reject"));
    let mut codes = [a.status, b.status];
    codes.sort_unstable();
    assert_eq!(codes, [200, 409], "{a:?} {b:?}");
}

#[tokio::test]
async fn a_vote_of_several_uses_the_link_up_too() {
    let rules = r#"[{"reason": "r", "when": "type == 'deploy'", "terms": {"by": ["role:sre"], "quorum": 2}}]"#;
    let policy = ApprovalPolicy { rules: ApprovalPolicy::rules_from_json(rules).unwrap(), ..ApprovalPolicy::none() };
    let gateway = gated(policy, config().role("sre", &["BOB"]).unwrap()).await;
    let (_, id) = gateway.gated_task(&json!({})).await;
    let alice = link(&gateway, &id, &Approver::named("alice").role("sre")).await;
    tells(&post(&gateway, &alice, "decision=approve").await, 200, "Vote of alice counted: 1 of 2");
    tells(&post(&gateway, &alice, "decision=approve").await, 409, "has voted");
    tells(&look(&gateway, &alice).await, 409, "has been used");
    let dave = link(&gateway, &id, &Approver::named("dave").role("dev")).await;
    tells(&post(&gateway, &dave, "decision=approve").await, 403, "it is for 2 of: role:sre");
    // The gateway knows the role that the link does not tell.
    let bob = link(&gateway, &id, &Approver::named("bob")).await;
    tells(&post(&gateway, &bob, "decision=reject&note=no").await, 200, "Rejected by bob");
    assert_eq!(approval(&gateway, &id).await.rejection_reason.as_deref(), Some("no"));
}

#[tokio::test]
async fn the_submitter_is_refused_and_a_form_is_filled_in() {
    let gateway = strict().await;
    let (_, id) = gateway.gated_task(&json!({})).await;
    let own = link(&gateway, &id, &Approver::named("agent")).await;
    tells(&post(&gateway, &own, "decision=approve").await, 403, "submitted the task");

    let shown = json!({"replicas": 6});
    let id = gateway.question("bob", "Scale?", &["start", "replicas"], shown, Terms::default()).await.to_string();
    let path = link(&gateway, &id, &Approver::named("alice")).await;
    let page = look(&gateway, &path).await;
    tells(&page, 200, "<h1>Scale?</h1>");
    assert!(page.text.contains("name=\"form.start\"") && page.text.contains("name=\"form.replicas\""));
    tells(&post(&gateway, &path, "decision=approve&form.begin=noon").await, 422, "no field `begin`");
    tells(&post(&gateway, &path, "decision=approve&form.start=noon&form.replicas=4").await, 200, "Approved by alice");
    assert_eq!(approval(&gateway, &id).await.form_values, Some(json!({"start": "noon", "replicas": 4})));
}

#[tokio::test]
async fn nothing_of_what_somebody_wrote_becomes_markup() {
    let gateway = strict().await;
    let img = "<img src=x onerror=alert(1)>";
    let shown = json!({img: [img, "\u{202e}txt.exe", "\"quoted'"]});
    let question = format!("{img}</h1><script>alert(1)</script>");
    let id = gateway.question(img, &question, &["\"><b>", img], shown, Terms::default()).await.to_string();
    let path = link(&gateway, &id, &Approver::named("alice")).await;
    let page = look(&gateway, &path).await;
    tells(&page, 200, "&lt;img src=x onerror=alert(1)&gt;");
    assert!(
        !page.text.contains("<img") && !page.text.contains("<b>") && !page.text.contains('\u{202e}'),
        "{}",
        page.text
    );
    assert_eq!(
        page.text.matches("&lt;img").count(),
        7,
        "title, heading, name, key, value, label and its field: {}",
        page.text
    );
    let rejected = post(&gateway, &path, "decision=reject&note=%3Cimg%20src%3Dx%3E").await;
    tells(&rejected, 200, "Rejected by alice");
    let late = look(&gateway, &path).await;
    tells(&late, 409, "&lt;img src=x&gt;");
    assert!(!late.text.contains("<img"));
}

#[tokio::test]
async fn links_that_must_not_pass() {
    let gateway = strict().await;
    let (_, id) = gateway.gated_task(&json!({})).await;
    let hash = approval(&gateway, &id).await.payload_hash;
    let claims = |change: Value| {
        let mut claims = json!({
            "aud": "orchestrator.approval", "sub": "alice", "groups": [], "apr": id, "hash": hash, "exp": now() + 600,
            "jti": "once",
        });
        for (name, value) in change.as_object().unwrap() {
            match value {
                Value::Null => drop(claims.as_object_mut().unwrap().remove(name)),
                value => claims[name] = value.clone(),
            }
        }
        claims.to_string()
    };
    let good = signed(HEADER, &claims(json!({})), SECRET);
    tells(&look(&gateway, &format!("/approvals/link/{good}")).await, 200, "alice");
    let other_task = "approval_019aa1b2-c3d4-7e5f-8a6b-7c8d9e0f1000";
    let mut cases = vec![];
    for (change, status, part) in [
        (json!({"exp": now() - 60}), 410, "has expired"),
        (json!({"exp": null}), 403, "not good"),
        (json!({"aud": null}), 403, "not good"),
        (json!({"aud": "another"}), 403, "not good"),
        (json!({"sub": null}), 403, "not good"),
        (json!({"sub": "two words"}), 403, "not good"),
        (json!({"apr": "x"}), 403, "not good"),
        (json!({"apr": other_task}), 404, "not known"),
        (json!({"hash": "0".repeat(64)}), 409, "outdated"),
        (json!({"hash": ""}), 403, "not good"),
        (json!({"jti": ""}), 403, "not good"),
        (json!({"jti": null}), 403, "not good"),
        (json!({"groups": vec!["x"; 51]}), 403, "not good"),
    ] {
        cases.push((signed(HEADER, &claims(change), SECRET), status, part));
    }
    cases.push((signed(HEADER, &claims(json!({})), "another secret of the right length, HS256"), 403, "not good"));
    cases.push((signed(r#"{"alg":"none"}"#, &claims(json!({})), SECRET), 403, "not good"));
    cases.push((signed(r#"{"alg":"HS256","crit":["x"]}"#, &claims(json!({})), SECRET), 403, "not good"));
    let (head, rest) = good.split_at(good.len() / 2);
    cases.push((format!("{head}{}{}", if rest.starts_with('A') { "B" } else { "A" }, &rest[1..]), 403, "not good"));
    // A caller's token is no link.
    cases.push((tokens().mint("alice", Role::Admin, Duration::from_secs(60)).unwrap(), 403, "not good"));
    cases.extend(["x", "a.b.c", "%00", "%ff"].map(|junk| (junk.to_owned(), 403, "not good")));
    for (token, status, part) in cases {
        let path = format!("/approvals/link/{token}");
        tells(&look(&gateway, &path).await, status, part);
        tells(&post(&gateway, &path, "decision=approve").await, status, part);
    }
    assert_eq!(gateway.get("/approvals/pending", "user-key").await.body["count"], 1, "nothing was decided");
    // And a link is no caller's token.
    for (token, part) in
        [(good, "cannot be read"), (signed(HEADER, &claims(json!({"role": "admin"})), SECRET), "another audience")]
    {
        let bearer = format!("Bearer {token}");
        gateway.send("GET", "/approvals/pending", &[("Authorization", &bearer)], b"").await.refuses(401, part);
    }
}

#[tokio::test]
async fn a_gateway_without_a_secret_takes_no_links() {
    let policy = ApprovalPolicy::default();
    let keys = GatewayConfig::default().api_key("AGENT", "agent-key", Role::Agent).unwrap();
    let gateway = gated(policy, keys).await;
    let (_, id) = gateway.gated_task(&json!({})).await;
    let path = link(&gateway, &id, &Approver::named("alice")).await;
    tells(&look(&gateway, &path).await, 404, "no secret");
    tells(&post(&gateway, &path, "decision=approve").await, 404, "no secret");
}
