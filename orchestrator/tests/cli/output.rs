//! What tasks put out, how far they are, and what they came to, on the command line.

use std::process::Stdio;
use std::time::Duration;

use orchestrator::{ChunkBatch, ChunkData, Claim, PackedChunk, Progress, RESULT_BYTES_MAX, encode_value};
use serde_json::json;
use tokio::io::AsyncReadExt;

use crate::bench::{Bench, Worker};

async fn put_out(worker: &Worker, claim: &Claim, name: u8, data: impl Into<ChunkData>, lost: u64) {
    let chunks = vec![PackedChunk::new(data.into()).unwrap().unwrap()];
    let batch = ChunkBatch { name: [name; 8], chunks, at: 0, lost };
    worker.life.put_out(claim, &batch, None).await.expect("it is taken");
}

async fn say(worker: &Worker, claim: &Claim, fraction: f64, note: &str) {
    let progress = Progress::new(fraction, note).unwrap();
    worker.life.note_progress(claim, &progress, worker.life.new_id()).await.expect("it is taken");
}

fn result(value: &serde_json::Value) -> Vec<u8> {
    encode_value("result", value, RESULT_BYTES_MAX).expect("a fair result")
}

#[tokio::test]
async fn output_is_printed_as_it_comes() {
    let bench = Bench::new().await;
    let worker = bench.worker("hall").await;
    let id = bench.run(&["task", "submit", "greet"]).await.ok().to_owned();
    let claim = worker.claim().await;
    assert_eq!(bench.run(&["task", "output", &id]).await.ok(), "");
    put_out(&worker, &claim, 1, "Once ", 0).await;

    let mut command = bench.command(&["task", "output", &id, "--follow"]);
    let mut child = command.stderr(Stdio::piped()).spawn().expect("the program");
    let mut printed = child.stdout.take().expect("a pipe");
    let mut expect = async |text: &str| {
        let mut bytes = vec![0; text.len()];
        let read = tokio::time::timeout(Duration::from_secs(20), printed.read_exact(&mut bytes)).await;
        read.expect("output in time").expect("output");
        assert_eq!(String::from_utf8_lossy(&bytes), text);
    };
    expect("Once ").await;
    put_out(&worker, &claim, 2, "upon", 0).await;
    expect("upon").await;
    put_out(&worker, &claim, 3, " a time", 2).await;
    expect(" a time").await;
    worker.life.retry(&claim, Duration::ZERO, "once more").await.expect("let go");
    worker.life.tick().await.expect("a tick");
    let second = worker.claim().await;
    put_out(&worker, &second, 4, json!({"n": 1}), 0).await;
    expect("\n{\"n\":1}\n").await;
    worker.finish(second.complete(&result(&json!("the end")))).await;
    let mut told = String::new();
    child.stderr.take().expect("a pipe").read_to_string(&mut told).await.expect("notes");
    assert!(child.wait().await.expect("an end").success());
    assert_eq!(told, "2 pieces are missing here\nattempt 2: the handler begins anew\n");

    let run = bench.run(&["task", "output", &id, "--after", "2", "--json"]).await;
    let lines = run.lines();
    let expected = [
        json!({"number": 5, "attempt": 1, "epoch": 0, "missed": 2, "text": " a time"}),
        json!({"number": 6, "attempt": 2, "epoch": 1, "missed": 0, "value": {"n": 1}}),
    ];
    assert_eq!(lines[lines.len() - 2..], expected);
    let run = bench.run(&["task", "output", "019aa1b2-c3d4-7e5f-8a6b-7c8d9e0f1000"]).await;
    assert!(run.code == 3 && run.err.contains("is not known"), "{}", run.err);

    let failed = bench.run(&["task", "submit", "greet"]).await.ok().to_owned();
    let claim = worker.claim().await;
    put_out(&worker, &claim, 1, vec![b'o', b'k', b'\n'], 0).await;
    worker.finish(claim.fail("fatal", "no")).await;
    let run = bench.run(&["task", "output", &failed, "--follow"]).await;
    assert_eq!((run.code, run.out.as_str(), run.err.as_str()), (1, "ok\n", "the task has ended as failed\n"));
}

#[tokio::test]
async fn progress_is_shown_and_watched() {
    let bench = Bench::new().await;
    let worker = bench.worker("hall").await;
    let id = bench.run(&["task", "submit", "greet"]).await.ok().to_owned();
    let claim = worker.claim().await;
    say(&worker, &claim, 0.4, "indexing").await;
    let run = bench.run(&["task", "get", &id]).await;
    assert!(run.ok().lines().any(|line| line == "progress  40 % indexing"), "{}", run.out);
    let watched = bench.command(&["task", "watch", &id]).spawn().expect("the program");
    let mut watched = watched;
    let mut printed = watched.stdout.take().expect("a pipe");
    let mut text = String::new();
    let mut until = async |part: &str| {
        let mut bytes = [0; 1024];
        while !text.contains(part) {
            let read = tokio::time::timeout(Duration::from_secs(20), printed.read(&mut bytes)).await;
            let read = read.expect("news in time").expect("news");
            assert!(read > 0, "{text}");
            text.push_str(&String::from_utf8_lossy(&bytes[..read]));
        }
    };
    until(" in_progress attempt 1  40 % indexing\n").await;
    say(&worker, &claim, 0.8, "").await;
    until(" in_progress attempt 1  80 %\n").await;
    worker.finish(claim.complete(&result(&json!(null)))).await;
    until(" completed ").await;
    assert!(watched.wait().await.expect("an end").success());
}

#[tokio::test]
async fn a_result_is_printed_alone_and_waited_for() {
    let bench = Bench::new().await;
    let worker = bench.worker("hall").await;
    let id = bench.run(&["task", "submit", "greet"]).await.ok().to_owned();
    let run = bench.run(&["task", "result", &id]).await;
    assert!(run.code == 1 && run.err.contains("is assigned: it has no result yet; --wait"), "{}", run.err);
    let run = bench.run(&["task", "result", &id, "--wait", "50ms"]).await;
    assert!(run.code == 1 && run.err.contains("did not finish within 50ms"), "{}", run.err);
    let waits = ["task", "result", &id, "--wait", "1m"];
    let (run, ()) = tokio::join!(bench.run(&waits), async {
        worker.finish(worker.claim().await.complete(&result(&json!({"n": 1})))).await;
    });
    assert_eq!(run.ok(), "{\n  \"n\": 1\n}");
    assert_eq!(bench.run(&["task", "result", &id, "--json"]).await.ok(), r#"{"n":1}"#);

    let failed = bench.run(&["task", "submit", "greet"]).await.ok().to_owned();
    worker.finish(worker.claim().await.fail("fatal", "no such person")).await;
    let run = bench.run(&["task", "result", &failed]).await;
    assert!(run.code == 1 && run.err.contains("ended as failed: no such person"), "{}", run.err);
    let run = bench.run(&["task", "result", &failed, "--json"]).await;
    assert_eq!((run.code, run.json()["status"].as_str()), (1, Some("failed")));
    assert_eq!(bench.run(&["task", "result", "019aa1b2-c3d4-7e5f-8a6b-7c8d9e0f1000"]).await.code, 3);
}

#[tokio::test]
async fn cancelling_may_be_urgent() {
    let bench = Bench::new().await;
    let worker = bench.worker("hall").await;
    let id = bench.run(&["task", "submit", "greet"]).await.ok().to_owned();
    let claim = worker.claim().await;
    let bell = worker.life.doorbell();
    assert_eq!(bench.run(&["task", "cancel", &id, "--within", "1500ms"]).await.ok(), format!("{id} asked to stop"));
    let wake = bell.wait(&[], Duration::from_secs(20)).await.expect("a wait");
    assert_eq!(wake, Some(orchestrator::Wake::CancelWithin(claim.ticket().id, Duration::from_millis(1500))));
    let run = bench.run(&["task", "cancel", &id, "--within", "11m"]).await;
    assert!(run.code != 0 && run.err.contains("at most 10 minutes"), "{}", run.err);
}
