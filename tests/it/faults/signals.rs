//! A worker process is told to stop: once in order, twice at once.

use std::time::{Duration, Instant};

use orchestrator::{NewTask, Status};
use orchestrator_tests::{Fixture, Process, Server, orch};
use orchestrator_worker::{Orchestrator, TaskHandle};
use redis::AsyncCommands;
use redis::aio::MultiplexedConnection;

use super::fixture;

/// Both slots of a process are taken, and a third task waits.
async fn busy(
    orch: &Orchestrator,
    worker: &Fixture,
    told: &mut MultiplexedConnection,
) -> (Process, Vec<TaskHandle<String>>) {
    let process = Fixture { slots: 2, ..worker.clone() }.start();
    let tasks = ["short", "endless", "waiting"].map(|name| NewTask::new("linger", name).queue("linger"));
    let handles = orch.enqueue_all(tasks).await.unwrap();
    for _ in 0..2 {
        let _: (String, String) = told.blpop("started:a", 20.0).await.expect("a task in its hands");
    }
    process.signal("TERM");
    process.says("stopping: claiming nothing more").await;
    (process, handles)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_signal_lets_short_tasks_end_and_releases_the_rest_uncounted() {
    let orch = orch().await;
    let effects = Server::start(&[]);
    let mut told = effects.raw().await;
    let worker = Fixture { grace: Duration::from_millis(1500), ..fixture(&orch, &effects) };
    let (mut process, handles) = busy(&orch, &worker, &mut told).await;
    let _: String = told.xadd("open:short", "*", &[("x", "x")]).await.unwrap();
    assert_eq!(handles[0].result().await.unwrap(), "a", "a task that ends within the grace ends well");
    assert_eq!(process.ended().await.code(), Some(0));
    for handle in &handles[1..] {
        let seen = handle.task().await.unwrap();
        assert_eq!((seen.status, seen.attempt, seen.crashes), (Status::Assigned, 0, 0));
    }
    let started: Vec<String> = told.lrange("started:a", 0, -1).await.unwrap();
    assert!(started.is_empty(), "claimed after the signal: {started:?}");
    let stats = orch.stats().await.unwrap();
    assert_eq!((stats.workers, stats.processing_tasks, stats.pending_tasks), (0, 0, 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_second_signal_releases_at_once() {
    let orch = orch().await;
    let effects = Server::start(&[]);
    let mut told = effects.raw().await;
    let worker = Fixture { grace: Duration::from_secs(3600), ..fixture(&orch, &effects) };
    let (mut process, handles) = busy(&orch, &worker, &mut told).await;
    let second = Instant::now();
    process.signal("TERM");
    assert_eq!(process.ended().await.code(), Some(0));
    let took = second.elapsed();
    assert!(took < Duration::from_secs(5), "it took {took:?}");
    for handle in &handles {
        let seen = handle.task().await.unwrap();
        assert_eq!((seen.status, seen.attempt, seen.crashes), (Status::Assigned, 0, 0));
    }
    // The handlers had been stopped, and another worker has all three.
    for name in ["short", "endless", "waiting"] {
        let _: String = told.xadd(format!("open:{name}"), "*", &[("x", "x")]).await.unwrap();
    }
    let _next = worker.tagged("b").start();
    for handle in &handles {
        assert_eq!(handle.result().await.unwrap(), "b");
        assert_eq!(handle.task().await.unwrap().attempt, 1);
    }
}
