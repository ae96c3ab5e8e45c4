//! Redis away, full, unwilling.

use std::time::{Duration, Instant};

use super::support::{Redis, config, gateway_on};

const TASK: &str = r#"{"type":"faq","payload":{}}"#;

#[tokio::test]
async fn a_redis_that_is_away_is_told_and_its_return_is_noticed() {
    let mut redis = Redis::start();
    let gateway = gateway_on(&redis.url(), config()).await;
    let id = gateway.create(TASK).await.body["task_id"].as_str().unwrap().to_owned();
    redis.kill();
    let started = Instant::now();
    for path in ["/health", "/readyz"] {
        let answer = gateway.send("GET", path, &[], b"").await;
        answer.refuses(503, "Redis does not serve now");
        assert!(answer.headers["retry-after"].parse::<u32>().is_ok() && answer.body["redis"].is_string());
    }
    assert!(started.elapsed() < Duration::from_secs(10), "health does not hang: {:?}", started.elapsed());
    assert_eq!(gateway.send("GET", "/livez", &[], b"").await.status, 200);
    let path = format!("/tasks/{id}");
    let started = Instant::now();
    let (create, read, stats) =
        tokio::join!(gateway.create(TASK), gateway.get(&path, "user-key"), gateway.get("/stats", "user-key"));
    create.refuses(503, "Whether the task was stored is not known");
    for answer in [create, read, stats] {
        answer.refuses(503, "Redis does not serve now");
        assert!(answer.headers.contains_key("retry-after"));
    }
    assert!(started.elapsed() < Duration::from_secs(11), "who waits ten seconds is told: {:?}", started.elapsed());
    redis.restart();
    let started = Instant::now();
    while gateway.send("GET", "/health", &[], b"").await.status != 200 {
        assert!(started.elapsed() < Duration::from_secs(20), "the return of Redis is noticed");
    }
    assert_eq!(gateway.create(TASK).await.status, 200);
}

#[tokio::test]
async fn a_full_redis_takes_no_task_and_reads_go_on() {
    let redis = Redis::start();
    let gateway = gateway_on(&redis.url(), config()).await;
    let id = gateway.create(TASK).await.body["task_id"].as_str().unwrap().to_owned();
    redis.command(&["CONFIG", "SET", "maxmemory", "1"]).await;
    let refused = gateway.create(TASK).await;
    refused.refuses(503, "out of memory");
    assert!(refused.headers.contains_key("retry-after"));
    let health = gateway.send("GET", "/health", &[], b"").await;
    health.refuses(503, "out of memory");
    assert!(health.body["redis"].as_str().unwrap().contains("OOM"));
    assert_eq!(gateway.get(&format!("/tasks/{id}"), "user-key").await.status, 200);
    assert_eq!(gateway.send("GET", "/readyz", &[], b"").await.status, 200, "it serves everything but new tasks");
    redis.command(&["CONFIG", "SET", "maxmemory", "0"]).await;
    assert_eq!(gateway.create(TASK).await.status, 200);
}

#[tokio::test]
async fn a_redis_that_answers_and_refuses_writes_is_not_healthy() {
    let redis = Redis::start();
    let gateway = gateway_on(&redis.url(), config()).await;
    redis.command(&["REPLICAOF", "127.0.0.1", "1"]).await;
    for path in ["/health", "/readyz"] {
        gateway.send("GET", path, &[], b"").await.refuses(503, "READONLY");
    }
    redis.command(&["REPLICAOF", "NO", "ONE"]).await;
    redis.command(&["CONFIG", "SET", "min-replicas-to-write", "1"]).await;
    gateway.send("GET", "/health", &[], b"").await.refuses(503, "NOREPLICAS");
    redis.command(&["CONFIG", "SET", "min-replicas-to-write", "0"]).await;
    assert_eq!(gateway.send("GET", "/health", &[], b"").await.status, 200);
}

#[tokio::test]
async fn a_full_queue_is_429() {
    let redis = Redis::start();
    let gateway =
        super::support::gateway_of(orchestrator::Config { queue_max: 1, ..orchestrator::Config::new(&redis.url()) })
            .await;
    assert_eq!(gateway.create(TASK).await.status, 200);
    let full = gateway.create(TASK).await;
    full.refuses(429, "full at its bound of 1");
    assert!(full.headers.contains_key("retry-after"));
}
