//! Bodies that must not pass, and what is said about them.

use std::time::Duration;

use serde_json::json;
use tokio::io::AsyncWriteExt;

use super::support::{Answer, config, gateway, gateway_with};

const MIB: usize = 1 << 20;

/// A body of exactly `bytes` bytes that would make a fair task if it were short enough.
fn task_of(bytes: usize) -> Vec<u8> {
    let (head, tail) = (r#"{"type":"faq","payload":""#, r#""}"#);
    [head.as_bytes(), &vec![b'x'; bytes - head.len() - tail.len()], tail.as_bytes()].concat()
}

fn chunked(body: &[u8]) -> Vec<u8> {
    let head = "POST /tasks HTTP/1.1\r\nHost: h\r\nConnection: close\r\nX-API-Key: agent-key\r\n\
                Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
    let mut bytes = head.as_bytes().to_vec();
    for chunk in body.chunks(60_000) {
        bytes.extend(format!("{:x}\r\n", chunk.len()).bytes());
        bytes.extend(chunk);
        bytes.extend(b"\r\n");
    }
    bytes.extend(b"0\r\n\r\n");
    bytes
}

#[tokio::test]
async fn a_mebibyte_passes_and_a_byte_more_does_not() {
    let gateway = gateway().await;
    let headers = [("X-API-Key", "agent-key"), ("Content-Type", "application/json")];
    assert_eq!(gateway.send("POST", "/tasks", &headers, &task_of(MIB)).await.status, 200);
    assert_eq!(gateway.raw(&chunked(&task_of(MIB))).await.status, 200);
    for bytes in [MIB + 1, 3 * MIB] {
        gateway.send("POST", "/tasks", &headers, &task_of(bytes)).await.refuses(413, "1048576 bytes");
        gateway.raw(&chunked(&task_of(bytes))).await.refuses(413, "1048576 bytes");
    }
    // Announced and never sent: told at once.
    let head = "POST /tasks HTTP/1.1\r\nHost: h\r\nConnection: close\r\nX-API-Key: agent-key\r\nExpect: 100-continue\r\n\
                Content-Type: application/json\r\nContent-Length: 99999999999\r\n\r\n";
    gateway.raw(head.as_bytes()).await.refuses(413, "1048576 bytes");
}

#[tokio::test]
async fn text_that_is_no_json_is_400() {
    let gateway = gateway().await;
    let deep = format!(r#"{{"type":"faq","payload":{}{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
    for (body, part) in [
        (" ", "empty"),
        ("{", "EOF"),
        (r#"{"type":"faq","payload":NaN}"#, "not JSON: payload"),
        (r#"{"type":"faq","payload":{"a":[1,Infinity]}}"#, "not JSON: payload"),
        (r#"{"type":"faq","payload":"\ud800"}"#, "surrogate"),
        (r#"{"type":"faq","payload":"\udc00x"}"#, "surrogate"),
        (r#"{"type":"faq","payload":{"\ud800\ud800":1}}"#, "surrogate"),
        (r#"{"type":"faq","payload":1e999}"#, "number out of range"),
        (r#"{"type":"faq","payload":01}"#, "not JSON"),
        (r#"{"type":"faq","payload":{}} x"#, "trailing"),
        ("{\"type\":\"faq\",\"payload\":\"a\nb\"}", "control character"),
        ("\u{feff}{}", "not JSON"),
        (deep.as_str(), "recursion limit"),
    ] {
        gateway.create(body).await.refuses(400, part);
    }
    let headers = [("X-API-Key", "agent-key"), ("Content-Type", "application/json")];
    gateway.send("POST", "/tasks", &headers, b"{\"type\":\"\xff\"}").await.refuses(400, "not JSON");
    gateway.send("POST", "/tasks", &headers, b"").await.refuses(400, "empty");
}

#[tokio::test]
async fn json_of_the_wrong_shape_is_422_with_the_path() {
    let gateway = gateway().await;
    let task = |field: &str| format!(r#"{{"type":"faq","payload":{{}},{field}}}"#);
    for (body, part) in [
        ("[]".into(), "send a JSON object"),
        (r#"["faq",{}]"#.into(), "send a JSON object"),
        ("7".into(), "expected an object that describes a task"),
        ("{}".into(), "missing field `type`"),
        (r#"{"type":"faq"}"#.into(), "missing field `payload`"),
        (r#"{"type":7,"payload":{}}"#.into(), "type: invalid type: integer `7`"),
        (r#"{"type":null,"payload":{}}"#.into(), "type: "),
        (task(r#""priority":"P9""#), "priority: `P9` is no priority; known are: P0 P1 P2 P3"),
        (task(r#""priority":1"#), "priority: `1` is no priority"),
        (task(r#""priority":{"P1":null}"#), "priority: "),
        (task(r#""source":"mars""#), "source: `mars` is no source; known are: faq"),
        (task(r#""prioirty":"P1""#), "unknown field `prioirty`"),
        (task(r#""source":"ops","source":"dev""#), "duplicate field `source`"),
        (task(r#""metadata":[1]"#), "metadata: "),
        (task(r#""max_retries":256"#), "max_retries: a number of retries is a whole number from 0 to 255"),
        (task(r#""max_retries":-1"#), "max_retries: "),
        (task(r#""sla_target":"soon""#), "sla_target: `soon` is not a span"),
        (task(r#""sla_target":-5"#), "sla_target: "),
        (task(r#""sla_target":[]"#), "sla_target: "),
        (task(r#""delay":"400d""#), "delay: a span of time may be at most 366 days"),
        (task(r#""delay":1e300"#), "delay: "),
        (task(r#""run_at":"2030-01-01""#), "run_at: an instant"),
        (task(r#""run_at":"2030-01-01T00:00:00""#), "run_at: an instant is a text with its zone"),
        (task(r#""sla_deadline":1893456000"#), "sla_deadline: an instant"),
        (task(r#""delay":"1m","run_at":"2030-01-01T00:00:00Z""#), "either `delay` or `run_at`"),
        (task(r#""run_at":"9999-12-31T23:59:59Z""#), "366 days"),
        (task(r#""parent_task_id":"x""#), "parent_task_id: `x` is not a task id"),
        (task(r#""parent_task_id":"019aa1b2-c3d4-7e5f-8a6b-7c8d9e0f1000""#), "parent_task_id: task 019aa1b2"),
        (task(r#""trace_id":"""#), "trace id has 1 to 128"),
        (task("\"trace_id\":\"\\u0000\""), "trace id has 1 to 128"),
        (task(r#""queue":"Not A Name""#), "no name for a queue"),
        (r#"{"type":"faq","payload":{"n":18446744073709551616}}"#.into(), "line 1 column 30 does not fit into 64 bits"),
        (task(r#""metadata":{"n":-99999999999999999999}"#), "64 bits"),
        (format!(r#"{{"type":"faq","payload":{}1{}}}"#, "[".repeat(65), "]".repeat(65)), "deeper than 64"),
        (task(&format!(r#""metadata":{{"a":"{}"}}"#, "x".repeat(20_000))), "metadata has"),
    ] {
        gateway.create(&body).await.refuses(422, part);
    }
    let deepest = format!(r#"{{"type":"faq","payload":{}1{}}}"#, "[".repeat(64), "]".repeat(64));
    assert_eq!(gateway.create(&deepest).await.status, 200);
}

#[tokio::test]
async fn what_is_not_declared_as_plain_json_is_415() {
    let gateway = gateway().await;
    let body = json!({"type": "faq", "payload": {}}).to_string();
    for kind in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "application/jsonx", ""] {
        let headers = [("X-API-Key", "agent-key"), ("Content-Type", kind)];
        gateway.send("POST", "/tasks", &headers, body.as_bytes()).await.refuses(415, "application/json");
    }
    let packed = [("X-API-Key", "agent-key"), ("Content-Type", "application/json"), ("Content-Encoding", "gzip")];
    gateway.send("POST", "/tasks", &packed, body.as_bytes()).await.refuses(415, "Content-Encoding");
    let json = [("X-API-Key", "agent-key"), ("Content-Type", "application/vnd.api+json")];
    assert_eq!(gateway.send("POST", "/tasks", &json, body.as_bytes()).await.status, 200);
}

#[tokio::test]
async fn a_client_that_dawdles_is_let_go() {
    let mut patience = config();
    patience.head_timeout = Duration::from_secs(1);
    patience.body_timeout = Duration::from_millis(500);
    let gateway = gateway_with(patience).await;
    let mut body = gateway.connect().await;
    let head = "POST /tasks HTTP/1.1\r\nHost: h\r\nConnection: close\r\nX-API-Key: agent-key\r\n\
                Content-Type: application/json\r\nContent-Length: 50\r\n\r\n{\"type\"";
    body.write_all(head.as_bytes()).await.unwrap();
    Answer::read(body).await.refuses(408, "within 0.5 s");
    // An unfinished head is answered by the end of the connection.
    let mut head = gateway.connect().await;
    head.write_all(b"GET /health HTTP/1.1\r\nHost:").await.unwrap();
    let mut rest = Vec::new();
    let closed =
        tokio::time::timeout(Duration::from_secs(20), tokio::io::AsyncReadExt::read_to_end(&mut head, &mut rest));
    closed.await.expect("the connection is closed").unwrap();
    let large = gateway.send("GET", "/health", &[("X-Pad", &"x".repeat(60_000))], b"").await;
    assert_eq!(large.status, 431);
}
