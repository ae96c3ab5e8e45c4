//! The log of a gateway: a line an event, which nobody outside can forge, with ids to find things by and no secrets.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use orchestrator::gateway::Role;
use serde_json::{Value, json};

use super::binary::{Serving, orchestrator};
use super::support::{Redis, SECRET, tokens};

const KEY: &str = "a-key-that-nobody-may-read";
const MARK: &str = "payload-marker-5417";
const EVE: &str = r#"eve","level":"FORGED"}\"#;
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

/// Sends one request and returns the answer's body.
fn send(address: &str, request: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    let head = format!("{request}\r\nHost: h\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len());
    stream.write_all((head + body).as_bytes()).unwrap();
    let mut told = Vec::new();
    stream.read_to_end(&mut told).unwrap();
    let told = String::from_utf8_lossy(&told).into_owned();
    told.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{request:?}: {told:?}")).1.to_owned()
}

/// What a gateway logs while it is asked all this, and the token that was used.
fn log_of(format: &str) -> (String, String) {
    let redis = Redis::start();
    let file = std::env::temp_dir().join(format!("orch-log-{}-{format}", std::process::id()));
    let mut command = orchestrator(&["serve", "--host", "127.0.0.1", "--port", "0", "--json"]);
    command.env("REDIS_URL", redis.url()).env("ORCHESTRATOR_JWT_SECRET", SECRET).env("LOG_FORMAT", format);
    command.env("ORCHESTRATOR_API_KEY_DEV", format!("{KEY}:agent")).env("LOG_LEVEL", "trace");
    let mut serving = Serving::start({
        command.stderr(File::create(&file).unwrap());
        command
    });
    let mut line = String::new();
    BufReader::new(serving.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let told: Value = serde_json::from_str(&line).unwrap();
    let address = told["url"].as_str().unwrap().strip_prefix("http://").unwrap().to_owned();
    let token = tokens().mint(EVE, Role::Agent, Duration::from_secs(60)).unwrap();
    let task = json!({"type": "faq", "payload": {"question": MARK}, "metadata": {"note": MARK}}).to_string();
    let created = send(
        &address,
        &format!(
            "POST /tasks HTTP/1.1\r\nX-API-Key: {KEY}\r\nContent-Type: application/json\r\nX-Request-Id: my-request.1\r\n\
             traceparent: 00-{TRACE}-00f067aa0ba902b7-01"
        ),
        &task,
    );
    assert!(created.contains("task_id"), "{created}");
    let bearer = format!("Authorization: Bearer {token}\r\nContent-Type: application/json");
    assert!(send(&address, &format!("POST /tasks HTTP/1.1\r\n{bearer}"), &task).contains("task_id"));
    send(&address, &format!("POST /tasks HTTP/1.1\r\n{bearer}"), &format!("{{\"{MARK}\":"));
    send(&address, "GET /stats?a=%0AERROR%20FORGED HTTP/1.1\r\nX-API-Key: wrong-key-0001", "");
    send(&address, "GET /x%0d%0aFORGED HTTP/1.1\r\nX-Request-Id: FORGED \"}", "");
    send(&address, &format!("GET /tasks/FORGED HTTP/1.1\r\nX-API-Key: {KEY}\r\ntraceparent: FORGED"), "");
    serving.interrupt();
    let log = std::fs::read_to_string(&file).unwrap();
    std::fs::remove_file(&file).unwrap();
    (log, token)
}

#[test]
fn json_logs_name_request_and_trace_and_hold_no_secret() {
    let (log, token) = log_of("json");
    for hidden in [KEY, &token, SECRET, MARK, "wrong-key-0001"] {
        assert!(!log.contains(hidden), "{hidden} is in the log:\n{log}");
    }
    let lines: Vec<Value> =
        log.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("no object: {line}"))).collect();
    let answered: Vec<&Value> = lines.iter().filter(|line| line["message"] == "answered").collect();
    assert_eq!(answered.len(), 6, "{log}");
    let first = answered[0];
    assert_eq!(
        (
            &first["request_id"],
            &first["trace_id"],
            &first["route"],
            &first["status"],
            &first["caller"],
            &first["method"]
        ),
        (&json!("my-request.1"), &json!(TRACE), &json!("/tasks"), &json!(200), &json!("DEV"), &json!("POST"))
    );
    assert!(first["ms"].is_u64() && first["timestamp"].is_string() && first["level"] == "INFO", "{first}");
    assert_eq!(answered[1]["caller"], EVE, "a name is told as it is, escaped");
    for line in &answered[3..] {
        assert!(!line.to_string().contains("FORGED"), "ids and paths are not told: {line}");
        assert_eq!(line["request_id"].as_str().unwrap().len(), 32, "{line}");
        assert!(line.get("trace_id").is_none(), "{line}");
    }
    assert!(lines.iter().all(|line| line["level"] != "FORGED"), "{log}");
}

#[test]
fn text_logs_cannot_be_forged_either() {
    let (log, token) = log_of("text");
    for hidden in [KEY, &token, SECRET, MARK, "wrong-key-0001"] {
        assert!(!log.contains(hidden), "{hidden} is in the log:\n{log}");
    }
    assert!(!log.contains(|c: char| c.is_control() && c != '\n'), "{log:?}");
    let levels = ["TRACE", "DEBUG", "INFO", "WARN", "ERROR"];
    for line in log.lines() {
        let level = line.split_whitespace().nth(1).unwrap_or_default();
        assert!(levels.contains(&level), "no line of ours: {line:?}");
    }
    assert!(log.contains("request_id=\"my-request.1\"") && log.contains(TRACE), "{log}");
}
