//! What a task costs over HTTP: POST /tasks, beside a handler in the same server that makes one pipelined round trip to Redis
//! and nothing else, and beside a naked server with that handler. They take turns in one run, with the same clients.
//!
//! `scripts/bench http [--json]`
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use axum::body::Bytes;
use axum::extract::State;
use axum::routing::post;
use axum::{Json, Router};
use orchestrator::gateway::{GatewayConfig, RateLimits, Role, serve_beside};
use orchestrator::{ApprovalPolicy, Config, Orchestrator};
use redis::aio::ConnectionManager;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// As the program has it.
#[global_allocator]
static MEMORY: mimalloc::MiMalloc = mimalloc::MiMalloc;

const CLIENTS: usize = 32;
const ROUNDS: usize = 9;
const ROUND: Duration = Duration::from_secs(2);
const KEY: &str = "a-key-that-is-long-enough";
const BODY: &str =
    r#"{"type":"bugfix","payload":{"issue_id":"123","description":"Fix login bug"},"priority":"P2","source":"ops"}"#;

/// The handler to compare with: what it is sent is stored and put in order, in one round trip.
async fn bare(State(mut link): State<ConnectionManager>, body: Bytes) -> Json<Value> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let id = NEXT.fetch_add(1, Ordering::Relaxed);
    let mut pipe = redis::pipe();
    pipe.cmd("HSET").arg("bare:records").arg(id).arg(&body[..]).ignore();
    pipe.cmd("ZADD").arg("bare:order").arg(id).arg(id).ignore();
    pipe.query_async::<()>(&mut link).await.unwrap();
    Json(json!({"success": true, "task_id": id}))
}

/// Posts as long as the round lasts; returns how many were answered.
async fn load(port: u16, path: &str) -> u64 {
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nX-API-Key: {KEY}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{BODY}",
        BODY.len()
    );
    let over = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let (request, over) = (request.clone(), Arc::clone(&over));
            tokio::spawn(async move {
                let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                stream.set_nodelay(true).unwrap();
                let (mut answered, mut buffer) = (0, vec![0; 64 * 1024]);
                while !over.load(Ordering::Relaxed) {
                    stream.write_all(request.as_bytes()).await.unwrap();
                    read_answer(&mut stream, &mut buffer).await;
                    answered += 1;
                }
                answered
            })
        })
        .collect();
    tokio::time::sleep(ROUND).await;
    over.store(true, Ordering::Relaxed);
    let mut answered = 0;
    for client in clients {
        answered += client.await.unwrap();
    }
    answered
}

async fn read_answer(stream: &mut TcpStream, buffer: &mut [u8]) {
    let mut filled = 0;
    loop {
        filled += stream.read(&mut buffer[filled..]).await.unwrap();
        let head_end = buffer[..filled].windows(4).position(|end| end == b"\r\n\r\n");
        let Some(head_end) = head_end else { continue };
        let head = std::str::from_utf8(&buffer[..head_end]).unwrap();
        assert!(head.starts_with("HTTP/1.1 200"), "{}", String::from_utf8_lossy(&buffer[..filled]));
        let length =
            head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
        let length: usize = length.unwrap();
        if filled == head_end + 4 + length {
            return;
        }
    }
}

#[tokio::main]
async fn main() {
    let url = std::env::var("REDIS_URL").unwrap();
    let client = redis::Client::open(url.as_str()).unwrap();
    let mut link = client.get_connection_manager().await.unwrap();
    let empty = async |link: &mut ConnectionManager| redis::cmd("FLUSHALL").query_async::<()>(link).await.unwrap();
    let used = async |link: &mut ConnectionManager| {
        let info: String = redis::cmd("INFO").arg("cpu").query_async(link).await.unwrap();
        let seconds = |name: &str| -> f64 {
            info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')?.trim().parse().ok()).unwrap()
        };
        seconds("used_cpu_user_main_thread") + seconds("used_cpu_sys_main_thread")
    };

    let config = Config { approvals: ApprovalPolicy::none(), ..Config::new(&url) };
    let orch = Orchestrator::with_config(config).await.unwrap();
    let mut gateway = GatewayConfig::default().api_key("BENCH", KEY, Role::Agent).unwrap();
    gateway.rate_limits = RateLimits::none();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let ours = listener.local_addr().unwrap().port();
    let beside = Some(("/bare", post(bare).with_state(link.clone())));
    tokio::spawn(serve_beside(beside, orch, gateway, listener, std::future::pending()));

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let theirs = listener.local_addr().unwrap().port();
    let router = Router::new().route("/tasks", post(bare)).with_state(link.clone());
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });

    let mut rates = [Vec::new(), Vec::new(), Vec::new()];
    let mut cpu = [Vec::new(), Vec::new(), Vec::new()];
    for round in 0..=ROUNDS {
        for (which, (port, path)) in [(ours, "/tasks"), (ours, "/bare"), (theirs, "/tasks")].into_iter().enumerate() {
            empty(&mut link).await;
            let (before, started) = (used(&mut link).await, Instant::now());
            let answered = load(port, path).await;
            let (rate, micros) = (
                answered as f64 / started.elapsed().as_secs_f64(),
                (used(&mut link).await - before) * 1e6 / answered as f64,
            );
            // The first round warms up.
            if round > 0 {
                rates[which].push(rate);
                cpu[which].push(micros);
            }
        }
    }
    let median = |values: &[f64]| {
        let mut values = values.to_vec();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    let to = |other: usize| -> Vec<f64> {
        let hundredths = |(ours, theirs): (&f64, &f64)| (ours / theirs * 100.0).round() / 100.0;
        rates[0].iter().zip(&rates[other]).map(hundredths).collect()
    };
    let row = |which: usize| json!({"a_second": median(&rates[which]).round(), "redis_us": (median(&cpu[which]) * 10.0).round() / 10.0});
    let told = json!({
        "clients": CLIENTS, "rounds": ROUNDS, "seconds": ROUND.as_secs(),
        "tasks": row(0), "bare_handler": row(1), "naked_server": row(2),
        "ratio_to_bare_handler": median(&to(1)), "ratios_to_bare_handler": to(1),
        "ratio_to_naked_server": median(&to(2)), "ratios_to_naked_server": to(2),
    });
    if std::env::args().any(|arg| arg == "--json") {
        println!("{told}");
        return;
    }
    println!("{CLIENTS} clients, {ROUNDS} rounds of {} s in turns", ROUND.as_secs());
    for (name, which) in [
        ("POST /tasks", "tasks"),
        ("a bare handler in the same server", "bare_handler"),
        ("a naked server", "naked_server"),
    ] {
        println!("{name:34} {:>8} a second, {:>5} µs of Redis each", told[which]["a_second"], told[which]["redis_us"]);
    }
    println!(
        "ratio to the bare handler {}, of each round {}",
        told["ratio_to_bare_handler"], told["ratios_to_bare_handler"]
    );
    println!(
        "ratio to the naked server {}, of each round {}",
        told["ratio_to_naked_server"], told["ratios_to_naked_server"]
    );
}
