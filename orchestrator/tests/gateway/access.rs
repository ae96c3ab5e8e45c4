//! Every route, every credential.

use super::support::{gateway, gateway_with, tokens};
use orchestrator::gateway::{GatewayConfig, Role};
use std::time::Duration;

const PUBLIC: &[&str] = &["/", "/livez", "/readyz", "/health", "/stats", "/openapi.json", "/docs"];
const TASK: &str = r#"{"type":"faq","payload":{}}"#;

#[tokio::test]
async fn public_routes_ask_for_nothing() {
    let gateway = gateway().await;
    for path in PUBLIC {
        for headers in [&[][..], &[("X-API-Key", "wrong")], &[("Authorization", "Bearer wrong")]] {
            let answer = gateway.send("GET", path, headers, b"").await;
            assert_eq!(answer.status, 200, "{path} {headers:?} {answer:?}");
        }
    }
}

#[tokio::test]
async fn each_route_takes_its_role_and_those_above() {
    let gateway = gateway().await;
    let id = gateway.create(TASK).await.body["task_id"].as_str().unwrap().to_owned();
    let read = format!("/tasks/{id}");
    let (sla, journal) = (format!("{read}/sla"), format!("{read}/journal"));
    let events = format!("{read}/events");
    // method, path, then the status without a credential, with a bad one, and for user, agent, admin
    let table = [
        ("GET", read.as_str(), [401, 401, 200, 200, 200]),
        ("GET", sla.as_str(), [401, 401, 200, 200, 200]),
        ("GET", journal.as_str(), [401, 401, 200, 200, 200]),
        ("GET", events.as_str(), [401, 401, 200, 200, 200]),
        // The place is no place, the task is no event: whoever may ask is told so.
        ("GET", "/events?from=x", [401, 401, 422, 422, 422]),
        ("POST", "/events/publish", [401, 401, 403, 422, 422]),
        ("GET", "/sla/report", [401, 401, 200, 200, 200]),
        ("GET", "/sla/risk", [401, 401, 200, 200, 200]),
        ("GET", "/approvals/pending", [401, 401, 200, 200, 200]),
        ("GET", "/approvals/history", [401, 401, 200, 200, 200]),
        ("GET", "/approvals/approval_x", [401, 401, 404, 404, 404]),
        ("POST", "/approvals/approval_x/approve", [401, 401, 403, 404, 404]),
        ("POST", "/approvals/approval_x/reject", [401, 401, 403, 404, 404]),
        ("POST", "/approvals/approval_x/delegate", [401, 401, 403, 404, 404]),
        ("POST", "/tasks", [401, 401, 403, 200, 200]),
    ];
    for (method, path, expected) in table {
        let body = if method == "POST" { TASK } else { "" };
        let mut credentials = vec![(0, None), (1, Some(("X-API-Key", "wrong".to_owned())))];
        credentials.push((1, Some(("Authorization", "Bearer wrong".into()))));
        credentials.push((1, Some(("Authorization", "Basic dXNlcjp1c2Vy".into()))));
        for (column, role) in [(2, Role::User), (3, Role::Agent), (4, Role::Admin)] {
            let token = tokens().mint("somebody", role, Duration::from_secs(60)).unwrap();
            credentials.push((column, Some(("X-API-Key", format!("{role}-key")))));
            credentials.push((column, Some(("Authorization", format!("Bearer {token}")))));
            credentials.push((column, Some(("Authorization", format!("bearer  {token}")))));
        }
        for (column, credential) in &credentials {
            let mut headers = vec![("Content-Type", "application/json")];
            headers.extend(credential.as_ref().map(|(name, value)| (*name, value.as_str())));
            let answer = gateway.send(method, path, &headers, body.as_bytes()).await;
            assert_eq!(answer.status, expected[*column], "{method} {path} {credential:?}: {answer:?}");
            assert_eq!(answer.headers["cache-control"], "no-store");
            assert_eq!(answer.headers.contains_key("www-authenticate"), answer.status == 401);
        }
    }
}

#[tokio::test]
async fn refusals_explain_themselves_and_two_credentials_are_one_too_many() {
    let gateway = gateway().await;
    gateway.send("GET", "/sla/risk", &[], b"").await.refuses(401, "X-API-Key");
    gateway.get("/sla/risk", "wrong").await.refuses(401, "not known");
    let answer = gateway.send("POST", "/tasks", &[("X-API-Key", "user-key")], b"").await;
    answer.refuses(403, "needs the role agent; USER has the role user");
    let both = [("X-API-Key", "agent-key"), ("Authorization", "Bearer junk")];
    gateway.send("GET", "/sla/risk", &both, b"").await.refuses(401, "not both");
    let twice = [("X-API-Key", "agent-key"), ("X-API-Key", "admin-key")];
    gateway.send("GET", "/sla/risk", &twice, b"").await.refuses(401, "one credential");
}

#[tokio::test]
async fn without_credentials_set_only_public_routes_answer() {
    let gateway = gateway_with(GatewayConfig::default()).await;
    assert_eq!(gateway.send("GET", "/health", &[], b"").await.status, 200);
    gateway.get("/sla/risk", "").await.refuses(401, "not known");
    let token = tokens().mint("somebody", Role::Admin, Duration::from_secs(60)).unwrap();
    let bearer = format!("Bearer {token}");
    gateway.send("GET", "/sla/risk", &[("Authorization", &bearer)], b"").await.refuses(401, "no secret is set");
}

#[tokio::test]
async fn credentials_are_judged_before_the_body() {
    let gateway = gateway().await;
    // The body never comes, and the answer does not wait for it.
    let head = "POST /tasks HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Type: application/json\r\n\
                Expect: 100-continue\r\nContent-Length: 900000\r\n";
    let unasked = gateway.raw(format!("{head}\r\n").as_bytes()).await;
    unasked.refuses(401, "credential");
    gateway.raw(format!("{head}X-API-Key: user-key\r\n\r\n").as_bytes()).await.refuses(403, "role");
    // A client that sends everything first still reads why it is refused.
    let large = vec![b'x'; 900_000];
    gateway.send("POST", "/tasks", &[("Content-Type", "application/json")], &large).await.refuses(401, "credential");
}

#[tokio::test]
async fn unknown_paths_and_methods_are_told_in_the_usual_shape() {
    let gateway = gateway().await;
    let unknown = gateway.send("GET", "/no/such/route?token=hidden", &[], b"").await;
    unknown.refuses(404, "no such route");
    assert_eq!(unknown.body["instance"], "/no/such/route");
    let wrong = gateway.send("DELETE", "/tasks", &[], b"").await;
    wrong.refuses(405, "method");
    for method in ["GET", "POST"] {
        assert!(wrong.headers["allow"].split(',').any(|allowed| allowed.trim() == method), "{wrong:?}");
    }
    assert_eq!(gateway.send("HEAD", "/health", &[], b"").await.status, 200);
}
