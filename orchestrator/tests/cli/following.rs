//! Waiting for tasks and watching them.

use std::time::{Duration, Instant};

use orchestrator::{RESULT_BYTES_MAX, TaskId, encode_value};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::bench::{Bench, finish};

fn result() -> Vec<u8> {
    encode_value("result", &json!({ "text": "Hello" }), RESULT_BYTES_MAX).expect("a fair result")
}

#[tokio::test]
async fn submit_waits_for_the_result_of_a_worker() {
    let bench = Bench::new().await;
    let worker = bench.worker("hall").await;
    let serve = async {
        worker.finish(worker.claim().await.complete(&result())).await;
        worker.finish(worker.claim().await.complete(&result())).await;
        worker.finish(worker.claim().await.fail("fatal", "no such person")).await;
        worker.finish(worker.claim().await.fail("fatal", "no such person")).await;
    };
    let ask = async {
        let run = bench.run(&["task", "submit", "greet", "--wait"]).await;
        assert_eq!(serde_json::from_str::<Value>(run.ok()).expect("JSON"), json!({ "text": "Hello" }));
        assert!(run.err.starts_with("task 01"), "{}", run.err);
        let run = bench.run(&["task", "submit", "greet", "--wait", "30s", "--json"]).await;
        assert_eq!((run.code, run.json()["result"]["text"].as_str()), (0, Some("Hello")));

        let run = bench.run(&["task", "submit", "greet", "--wait", "30s"]).await;
        assert!(run.code == 1 && run.err.contains("ended as failed: no such person"), "{}", run.err);
        let run = bench.run(&["task", "submit", "greet", "--wait", "--json"]).await;
        assert_eq!((run.code, run.json()["status"].as_str()), (1, Some("failed")));
    };
    tokio::join!(serve, ask);

    let run = finish(bench.command(&["task", "submit", "greet", "--wait", "100ms"]), b"").await;
    assert!(run.code == 1 && run.err.contains("did not finish within 100ms; it goes on"), "{}", run.err);
}

#[tokio::test]
async fn watch_tells_every_change_as_it_happens() {
    let bench = Bench::new().await;
    let worker = bench.worker("hall").await;
    let id = bench.run(&["task", "submit", "greet"]).await.ok().to_owned();
    let mut child = bench.command(&["task", "watch", &id, "--json"]).spawn().expect("the program");
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    let mut told = async || {
        let line = tokio::time::timeout(Duration::from_secs(20), lines.next_line()).await.expect("news in time");
        line.expect("a line").map(|line| serde_json::from_str::<Value>(&line).expect("JSON")["status"].clone())
    };
    assert_eq!(told().await, Some(json!("assigned")));
    let first = worker.claim().await;
    let claimed = Instant::now();
    assert_eq!(told().await, Some(json!("in_progress")));
    assert!(claimed.elapsed() < Duration::from_secs(4), "told only after {:?}", claimed.elapsed());
    worker.life.retry(&first, Duration::ZERO, "once more").await.expect("let go");
    assert_eq!(told().await, Some(json!("pending")));
    worker.life.tick().await.expect("a tick");
    assert_eq!(told().await, Some(json!("assigned")));
    let second = worker.claim().await;
    assert_eq!(told().await, Some(json!("in_progress")));
    worker.finish(second.complete(&result())).await;
    assert_eq!(told().await, Some(json!("completed")));
    assert_eq!(told().await, None);
    assert!(child.wait().await.expect("an end").success());

    // What has ended is told at once, and the exit code tells how.
    let run = bench.run(&["task", "watch", &id]).await;
    assert!(run.ok().contains(" completed   attempt 2  ") && run.ok().ends_with(r#"{"text":"Hello"}"#), "{}", run.out);
    let other = bench.run(&["task", "submit", "greet"]).await.ok().to_owned();
    bench.orch.cancel(other.parse::<TaskId>().expect("an id")).await.expect("cancelled");
    assert_eq!(bench.run(&["task", "watch", &other]).await.code, 1);
}
