//! The requests of the documentation that clients were written by, word for word, as a shell sends them.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::binary::{Serving, orchestrator};
use super::support::Redis;

/// The documentation's own secret is too short to be safe and is refused.
const SECRET: &str = "your-secret-key-here-with-32-bytes-or-more";

const CREATE: &str = r#"curl -X POST http://localhost:8000/tasks \
  -H "Content-Type: application/json" \
  -d '{
    "type": "bugfix",
    "payload": {"issue_id": "123", "description": "Fix login bug"},
    "priority": "P1",
    "source": "ops"
  }'"#;
const LIST_BY_TOKEN: &str = r#"curl -H "Authorization: Bearer $TOKEN" http://localhost:8000/tasks"#;
const LIST_BY_KEY: &str = r#"curl -H "X-API-Key: dev-key-123" http://localhost:8000/tasks"#;
const PENDING: &str = r#"curl -H "Authorization: Bearer $TOKEN" http://localhost:8000/approvals/pending"#;
const READ: &str = r#"curl -H "Authorization: Bearer $TOKEN" http://localhost:8000/approvals/{approval_id}"#;
const APPROVE: &str = r#"curl -X POST -H "Authorization: Bearer $TOKEN" \
  http://localhost:8000/approvals/{approval_id}/approve"#;
const REJECT: &str = r#"curl -X POST -H "Authorization: Bearer $TOKEN" \
  http://localhost:8000/approvals/{approval_id}/reject?reason=Not+ready"#;
const HISTORY: &str = r#"curl -H "Authorization: Bearer $TOKEN" \
  http://localhost:8000/approvals/history?limit=50"#;

/// Somebody's shell with `$TOKEN`.
struct Shell {
    token: String,
    port: u16,
}

impl Shell {
    /// Status and body. The port is another one only where 8000 is taken.
    fn run(&self, line: &str) -> (u16, Value) {
        let line = line.replacen("curl ", "curl -s -w '\\n%{http_code}' ", 1);
        let line = line.replace("localhost:8000", &format!("localhost:{}", self.port));
        let done = Command::new("/bin/sh").args(["-c", &line]).env("TOKEN", &self.token).output().unwrap();
        let text = String::from_utf8(done.stdout).unwrap();
        let (body, status) = text.rsplit_once('\n').unwrap_or_else(|| panic!("{line}: {:?}", done.stderr));
        (status.parse().unwrap(), serde_json::from_str(body).unwrap_or_else(|_| panic!("{line}: {text}")))
    }

    #[track_caller]
    fn ok(&self, line: &str) -> Value {
        let (status, body) = self.run(line);
        assert_eq!(status, 200, "{line}: {body}");
        body
    }
}

#[test]
fn every_documented_request_does_what_it_is_documented_for() {
    let redis = Redis::start();
    let port = if TcpListener::bind("0.0.0.0:8000").is_ok() { "8000" } else { "0" };
    let mut command = orchestrator(&["serve", "--host", "127.0.0.1", "--json"]);
    command.env("REDIS_URL", redis.url()).env("ORCHESTRATOR_PORT", port).env("ORCHESTRATOR_JWT_SECRET", SECRET);
    command
        .env("ORCHESTRATOR_API_KEY_DEV", "dev-key-123:agent")
        .env("ORCHESTRATOR_API_KEY_ADMIN", "admin-key-456:admin");
    command.env("CORS_ORIGINS", "http://localhost:3000,http://localhost:5173,https://yourdomain.com");
    command.stderr(Stdio::null());
    let mut serving = Serving::start(command);
    let mut line = String::new();
    BufReader::new(serving.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let told: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("{line}"));
    let port = told["url"].as_str().unwrap().rsplit(':').next().unwrap().parse().unwrap();
    let mut mint = orchestrator(&["token", "create", "--sub", "user123", "--role", "agent"]);
    let minted = mint.env("ORCHESTRATOR_JWT_SECRET", SECRET).output().unwrap();
    let shell = Shell { token: String::from_utf8(minted.stdout).unwrap().trim().to_owned(), port };

    // The first request of the documentation is shown without a credential.
    let (status, refused) = shell.run(CREATE);
    assert_eq!(status, 401, "{refused}");
    assert!(refused["detail"].as_str().is_some_and(|said| said.contains("X-API-Key")), "{refused}");
    let create = format!("{CREATE} -H \"X-API-Key: dev-key-123\"");
    let created: Vec<Value> = (0..2).map(|_| shell.ok(&create)).collect();
    let ids: Vec<&str> = created.iter().map(|one| one["task_id"].as_str().unwrap()).collect();
    assert_eq!((&created[0]["task"]["type"], &created[0]["task"]["status"]), (&"bugfix".into(), &"blocked".into()));
    for line in [LIST_BY_TOKEN, LIST_BY_KEY] {
        let listed = shell.ok(line);
        let listed: Vec<&str> =
            listed["tasks"].as_array().unwrap().iter().filter_map(|t| t["task_id"].as_str()).collect();
        assert!(ids.iter().all(|id| listed.contains(id)), "{listed:?}");
    }
    assert_eq!(shell.ok(PENDING)["count"], 2);
    let about = |line: &str, one: &Value| line.replace("{approval_id}", one["approval_id"].as_str().unwrap());
    assert_eq!(shell.ok(&about(READ, &created[0]))["approval"]["status"], "pending");
    assert_eq!(shell.ok(&about(APPROVE, &created[0]))["message"], "Approved by user123");
    assert_eq!(shell.ok(&about(REJECT, &created[1]))["message"], "Rejected by user123");
    let told = shell.ok(HISTORY);
    assert_eq!((&told["count"], &told["history"][0]["rejection_reason"]), (&2.into(), &"Not ready".into()), "{told}");
    let (status, again) = shell.run(&about(REJECT, &created[0]));
    assert_eq!(status, 409, "{again}");
}
