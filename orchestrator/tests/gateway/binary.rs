//! The commands that serve, as somebody types them.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::authority::Authority;
use super::support::{Redis, SECRET};

pub(super) fn orchestrator(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_orchestrator"));
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        if name != "ORCHESTRATOR_REDIS_BIN" && (name.starts_with("ORCHESTRATOR_") || name == "REDIS_URL") {
            command.env_remove(name);
        }
    }
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A command that serves, ended with the test.
pub(super) struct Serving(pub(super) Child);

impl Serving {
    pub(super) fn start(mut command: Command) -> Self {
        Self(command.spawn().unwrap())
    }

    /// Sends Ctrl-C and waits; what was printed and not read before comes back.
    pub(super) fn interrupt(mut self) -> (Option<i32>, String, String) {
        let told = Command::new("kill").args(["-INT", &self.0.id().to_string()]).status().unwrap();
        assert!(told.success());
        let started = Instant::now();
        let code = loop {
            if let Some(status) = self.0.try_wait().unwrap() {
                break status.code();
            }
            assert!(started.elapsed() < Duration::from_secs(20), "it does not stop");
            std::thread::sleep(Duration::from_millis(10));
        };
        let mut printed = (String::new(), String::new());
        self.0.stdout.take().map(|mut out| out.read_to_string(&mut printed.0));
        self.0.stderr.take().map(|mut err| err.read_to_string(&mut printed.1));
        (code, printed.0, printed.1)
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn shell(line: &str) -> Value {
    let done = Command::new("/bin/sh").args(["-c", &line.replacen("curl ", "curl -s ", 1)]).output().unwrap();
    serde_json::from_slice(&done.stdout).unwrap_or_else(|_| panic!("{line}: {done:?}"))
}

fn said(done: &Output) -> String {
    String::from_utf8_lossy(&done.stderr).into_owned()
}

#[test]
fn dev_prints_requests_that_work_as_they_are() {
    let mut serving = Serving::start(orchestrator(&["dev", "--port", "0"]));
    let mut out = BufReader::new(serving.0.stdout.take().unwrap());
    let mut text = String::new();
    while !text.contains("REDIS_URL=") {
        assert!(out.read_line(&mut text).unwrap() > 0, "{text}");
    }
    let joined = text.replace("\\\n", " ");
    let lines: Vec<&str> = joined.lines().map(str::trim).filter(|line| line.starts_with("curl")).collect();
    assert_eq!(lines.len(), 4, "{text}");
    let created = shell(lines[0]);
    assert_eq!(created["message"], "Task created and assigned to dev_agent");
    let read = shell(&lines[1].replace("TASK_ID", created["task_id"].as_str().unwrap()));
    assert_eq!(read["task"]["requested_by"], "dev.throw-away");
    assert_eq!(shell(lines[2])["queue"]["pending_tasks"], 1);
    assert_eq!(shell(lines[3])["status"], "healthy");
    let url = text.lines().find_map(|line| line.trim().strip_prefix("export REDIS_URL=")).unwrap().to_owned();
    let beside = orchestrator(&["--redis", &url, "--json", "stats"]).output().unwrap();
    assert!(String::from_utf8_lossy(&beside.stdout).contains(r#""pending_tasks":1"#), "{beside:?}");
    let key = lines[2].split("X-API-Key: ").nth(1).unwrap().split('"').next().unwrap().to_owned();
    let (code, _, log) = serving.interrupt();
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("route=\"/tasks\"") && log.contains("status=200"), "{log}");
    assert!(!log.contains(&key) && !log.contains("Fix login bug"), "neither keys nor payloads are logged: {log}");
    let socket = url.strip_prefix("unix://").unwrap();
    assert!(!std::path::Path::new(socket).exists(), "the private Redis is gone");
}

#[test]
fn serve_takes_keys_and_tokens_from_the_environment() {
    let redis = Redis::start();
    let mut command = orchestrator(&["serve", "--host", "127.0.0.1", "--json"]);
    command.env("REDIS_URL", redis.url()).env("ORCHESTRATOR_PORT", "0").env("ORCHESTRATOR_JWT_SECRET", SECRET);
    command.env("ORCHESTRATOR_API_KEY_DEV", "dev-key-123:agent").env("ORCHESTRATOR_RATE_LIMIT_HEALTH", "1");
    let mut serving = Serving::start(command);
    let mut line = String::new();
    BufReader::new(serving.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let told: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("{line}"));
    let url = told["url"].as_str().unwrap();
    let by_key = shell(&format!("curl -H 'X-API-Key: dev-key-123' {url}/approvals/pending"));
    assert_eq!(by_key["count"], 0);
    let mut mint =
        orchestrator(&["token", "create", "--sub", "ada", "--role", "user", "--group", "sre", "--ttl", "5m"]);
    let minted = mint.env("ORCHESTRATOR_JWT_SECRET", SECRET).output().unwrap();
    let token = String::from_utf8(minted.stdout).unwrap();
    let by_token = shell(&format!("curl -H 'Authorization: Bearer {}' {url}/approvals/pending", token.trim()));
    assert_eq!(by_token["count"], 0);
    let health = [0; 2].map(|_| shell(&format!("curl {url}/health"))["status"].clone());
    assert_eq!(health, [Value::from("healthy"), 429.into()]);
    let (code, _, log) = serving.interrupt();
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("shorter than 16") && !log.contains("dev-key-123") && !log.contains(token.trim()), "{log}");
}

#[test]
fn the_environment_says_who_decides() {
    let redis = Redis::start();
    let rules = r#"[{"reason": "always", "when": "type == 'faq'", "terms": {"by": ["role:sre"]}}]"#;
    let mut command = orchestrator(&["serve", "--host", "127.0.0.1", "--port", "0", "--json"]);
    command.env("REDIS_URL", redis.url()).env("ORCHESTRATOR_APPROVAL_RULES", rules);
    command.env("ORCHESTRATOR_API_KEY_DEV", "a-key-for-developers:agent");
    command.env("ORCHESTRATOR_API_KEY_ALICE", "a-key-for-alice-too:admin").env("ORCHESTRATOR_ROLE_SRE", "bob,alice");
    command.env("ORCHESTRATOR_API_KEY_ROOT", "a-key-for-the-root:admin").env("ORCHESTRATOR_APPROVER_ROLE", "admin");
    let mut serving = Serving::start(command);
    let mut line = String::new();
    BufReader::new(serving.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let url = serde_json::from_str::<Value>(&line).unwrap()["url"].as_str().unwrap().to_owned();
    let body = r#"-H 'Content-Type: application/json' -d '{"type":"faq","payload":{}}'"#;
    let created = shell(&format!("curl -H 'X-API-Key: a-key-for-developers' {body} {url}/tasks"));
    let approve = format!("{url}/approvals/{}/approve", created["approval_id"].as_str().unwrap());
    let by = |key: &str| shell(&format!("curl -X POST -H 'X-API-Key: {key}' {approve}"));
    assert!(by("a-key-for-developers")["detail"].as_str().unwrap().contains("needs the role admin"));
    assert!(by("a-key-for-the-root")["detail"].as_str().unwrap().contains("it is for role:sre"));
    assert_eq!(by("a-key-for-alice-too")["message"], "Approved by ALICE");
    let (code, _, log) = serving.interrupt();
    assert!(code == Some(0) && !log.contains("no effect yet"), "{log}");
}

#[test]
fn what_cannot_be_served_is_refused_at_the_start() {
    let redis = Redis::start();
    for (name, value, part) in [
        ("ORCHESTRATOR_JWT_SECRET", "your-secret-key-here", "ORCHESTRATOR_JWT_SECRET has 20 bytes"),
        ("ORCHESTRATOR_JWT_SECRET", "", "ORCHESTRATOR_JWT_SECRET has 0 bytes"),
        ("ORCHESTRATOR_JWT_SECRET_PREVIOUS", "a-hidden-secret", "ORCHESTRATOR_JWT_SECRET is not"),
        ("ORCHESTRATOR_JWT_JWKS", "/no/such/file", "JWKS file `/no/such/file` cannot be read"),
        ("ORCHESTRATOR_API_KEY_DEV", "a-hidden-key", "ORCHESTRATOR_API_KEY_DEV lacks a role"),
        ("ORCHESTRATOR_PORT", "http", "ORCHESTRATOR_PORT is no port"),
        ("ORCHESTRATOR_JWT_SECRT", "x", "did you mean ORCHESTRATOR_JWT_SECRET?"),
        ("CORS_ORIGINS", "*", "CORS_ORIGINS is wrong"),
        ("ORCHESTRATOR_APPROVER_ROLE", "user", "ORCHESTRATOR_APPROVER_ROLE is no role that decides"),
        ("ORCHESTRATOR_ROLE_ADMIN", "eve", "ORCHESTRATOR_ROLE_ADMIN cannot give the role admin"),
    ] {
        let done = orchestrator(&["serve"]).env("REDIS_URL", redis.url()).env(name, value).output().unwrap();
        assert_eq!(done.status.code(), Some(2), "{name}: {done:?}");
        assert!(said(&done).contains(part) && !said(&done).contains("hidden"), "{name}: {}", said(&done));
    }
    let done = orchestrator(&["serve"]).output().unwrap();
    assert!(said(&done).contains("no Redis is named"), "{done:?}");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let done = orchestrator(&["serve", "--host", "127.0.0.1", "--port", &port])
        .env("REDIS_URL", redis.url())
        .output()
        .unwrap();
    assert!(said(&done).contains("cannot listen on 127.0.0.1"), "{done:?}");
    let own = orchestrator(&["dev", "--redis", "redis://localhost"]).output().unwrap();
    assert_eq!(own.status.code(), Some(2), "{own:?}");
    let unset = orchestrator(&["token", "create", "--sub", "ada", "--role", "user"]).output().unwrap();
    assert!(said(&unset).contains("ORCHESTRATOR_JWT_SECRET is not set"), "{unset:?}");
    let mut endless = orchestrator(&["token", "create", "--sub", "ada", "--role", "user", "--ttl", "366d 1s"]);
    let endless = endless.env("ORCHESTRATOR_JWT_SECRET", SECRET).output().unwrap();
    assert_eq!(endless.status.code(), Some(2), "{endless:?}");
}

#[test]
fn serve_speaks_https_with_a_certificate_and_refuses_to_start_with_half_of_one() {
    let redis = Redis::start();
    let folder = std::env::temp_dir().join(format!("orch-https-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let authority = Authority::new();
    let (one, other) = (authority.identity("localhost"), authority.identity("localhost"));
    let file = |name: &str, text: &str| {
        let path = folder.join(name);
        std::fs::write(&path, text).unwrap();
        path.to_string_lossy().into_owned()
    };
    let (certificate, key) = (file("certificate", &one.certificate), file("key", &one.key));
    let (foreign, ca) = (file("foreign", &other.key), file("ca", &authority.pem()));
    let serve = |settings: &[(&str, &str)]| {
        let mut command = orchestrator(&["serve", "--host", "127.0.0.1", "--port", "0", "--json"]);
        command.env("REDIS_URL", redis.url()).envs(settings.iter().copied());
        command
    };
    for (settings, part) in [
        (&[("ORCHESTRATOR_TLS_CERT", certificate.as_str())][..], "go together"),
        (&[("ORCHESTRATOR_TLS_CERT", "/no/such/file"), ("ORCHESTRATOR_TLS_KEY", &key)], "cannot be read"),
        (
            &[("ORCHESTRATOR_TLS_CERT", &certificate), ("ORCHESTRATOR_TLS_KEY", &foreign)],
            "not the one of the certificate",
        ),
    ] {
        let done = serve(settings).output().unwrap();
        assert!(!done.status.success() && said(&done).contains(part), "{part}: {done:?}");
    }
    let mut serving = Serving::start(serve(&[("ORCHESTRATOR_TLS_CERT", &certificate), ("ORCHESTRATOR_TLS_KEY", &key)]));
    let mut line = String::new();
    BufReader::new(serving.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let told: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("{line}"));
    let url = told["url"].as_str().unwrap();
    let port = url.strip_prefix("https://127.0.0.1:").unwrap_or_else(|| panic!("{url}"));
    let health = shell(&format!("curl --cacert {ca} https://localhost:{port}/health"));
    assert_eq!(health["status"], "healthy");
    let (code, _, log) = serving.interrupt();
    assert_eq!(code, Some(0), "{log}");
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn the_document_is_printed_without_a_redis() {
    let printed = orchestrator(&["openapi"]).output().unwrap();
    assert!(printed.status.success(), "{printed:?}");
    assert_eq!(String::from_utf8(printed.stdout).unwrap().trim_end(), orchestrator::gateway::openapi());
}
