//! Requests that mean harm, all at once, at a program of its own whose memory is looked at: each is refused in so many words or
//! its connection is closed, and the program serves on.

use std::io::{BufRead, BufReader};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::binary::{Serving, orchestrator};
use super::support::Redis;

const KEY: &str = "an-agents-key-for-the-tests";
/// Bytes of memory that the program may take at most. Fifty requests of 20 MB each would be a gigabyte.
const MEMORY_MAX: u64 = 400 << 20;

/// A head, and what follows it so many times.
type Request = (String, Vec<u8>, usize);

/// Sends a head and then `piece` so often; what comes back, up to the end of the connection.
async fn send(port: u16, head: &str, piece: &[u8], times: usize) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let (mut from, mut to) = stream.split();
    let mut answer = Vec::new();
    let sending = async {
        let mut sent = to.write_all(head.as_bytes()).await;
        for _ in 0..times {
            if sent.is_ok() {
                sent = to.write_all(piece).await;
            }
        }
        // Whoever is cut off while it sends still reads what was said.
        std::future::pending::<()>().await;
    };
    let reading = async { tokio::time::timeout(Duration::from_secs(50), from.read_to_end(&mut answer)).await };
    tokio::select! {
        () = sending => {}
        read = reading => drop(read.expect("an end")),
    }
    String::from_utf8_lossy(&answer).into_owned()
}

fn head(more: &str) -> String {
    format!(
        "POST /tasks HTTP/1.1\r\nHost: h\r\nConnection: close\r\nX-API-Key: {KEY}\r\nContent-Type: application/json\r\n{more}\r\n"
    )
}

#[cfg(target_os = "linux")]
fn most_memory(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

#[cfg(not(target_os = "linux"))]
fn most_memory(_: u32) -> u64 {
    0
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_requests_are_refused_in_bounded_memory_and_the_program_serves_on() {
    let redis = Redis::start();
    let mut command = orchestrator(&["serve", "--host", "127.0.0.1", "--port", "0", "--json"]);
    command.env("REDIS_URL", redis.url()).env("ORCHESTRATOR_API_KEY_DEV", format!("{KEY}:agent"));
    command.env("ORCHESTRATOR_RATE_LIMIT_TASKS", "0").env("LOG_LEVEL", "warn");
    let mut serving = Serving::start(command);
    let mut line = String::new();
    BufReader::new(serving.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let url = serde_json::from_str::<Value>(&line).unwrap()["url"].as_str().unwrap().to_owned();
    let port: u16 = url.rsplit(':').next().unwrap().parse().unwrap();

    let piece = vec![b'0'; 1 << 16];
    let chunk = [format!("{:x}\r\n", piece.len()).as_bytes(), &piece, b"\r\n"].concat();
    let deep = |n: usize| format!(r#"{{"type":"faq","payload":{}{}}}"#, "[".repeat(n), "]".repeat(n));
    let wide = format!(r#"{{"type":"faq","payload":[{}0]}}"#, "0,".repeat(500_000));
    let sized = |body: &str| (head(&format!("Content-Length: {}\r\n", body.len())), body.as_bytes().to_vec(), 1);
    let twenty = 20 << 20;
    let tries: Vec<(&str, Request)> = vec![
        ("413", (head(&format!("Content-Length: {twenty}\r\n")), piece.clone(), twenty / piece.len())),
        ("413", (head("Transfer-Encoding: chunked\r\n"), chunk, twenty / piece.len())),
        ("413", (head("Content-Length: 4294967296\r\n"), piece.clone(), 64)),
        ("400", sized(&deep(100_000))),
        ("400", sized(r#"{"type":"faq","payload":NaN}"#)),
        ("400", sized(r#"{"type":"faq","payload":"\ud800"}"#)),
        ("422", sized(r#"{"type":"faq","payload":123456789012345678901234567890}"#)),
        ("200", sized(&wide)),
        // Lengths that contradict each other, or are none.
        ("400", (head("Content-Length: 4\r\nTransfer-Encoding: chunked\r\n"), b"0\r\n\r\n".to_vec(), 1)),
        ("400", (head("Content-Length: 2\r\nContent-Length: 3\r\n"), b"{}".to_vec(), 1)),
        ("400", (head("Content-Length: -1\r\n"), b"{}".to_vec(), 1)),
        ("400", (head("Transfer-Encoding: chunked\r\n"), b"fffffffffffffffff\r\n".to_vec(), 1)),
        ("431", (head(&format!("X-Long: {}\r\n", "x".repeat(100_000))), Vec::new(), 0)),
        ("", ("\0\0\0\0".into(), piece.clone(), 4)),
    ];
    let mut sending = Vec::new();
    for _ in 0..4 {
        for (status, (head, piece, times)) in tries.clone() {
            sending.push(tokio::spawn(async move { (status, head.clone(), send(port, &head, &piece, times).await) }));
        }
    }
    // These send a head that never ends, one byte at a time, as long as they are let.
    for _ in 0..8 {
        sending.push(tokio::spawn(async move {
            ("", "slow".into(), send(port, "GET / HTTP/1.1\r\nX-Slow: ", b"", 0).await)
        }));
    }
    for sending in sending {
        let (status, head, answer) = sending.await.unwrap();
        let told = answer.split(' ').nth(1).unwrap_or_default();
        // What cannot be read as HTTP may be closed without a word.
        let is_closed = answer.is_empty() || told == "400" || told == "408";
        assert!(if status.is_empty() { is_closed } else { told == status }, "{status}: {head:.300}: {answer:.500}");
        assert!(!answer.contains("panicked"), "{answer}");
    }
    let memory = most_memory(serving.0.id());
    assert!(memory < MEMORY_MAX, "it took {} MiB", memory >> 20);
    let health = send(port, "GET /health HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", b"", 0).await;
    assert!(health.starts_with("HTTP/1.1 200"), "{health}");
    let (code, _, log) = serving.interrupt();
    assert_eq!(code, Some(0), "{log}");
    assert!(!log.contains("ERROR") && !log.contains("panicked") && !log.contains(KEY), "{log}");
}
