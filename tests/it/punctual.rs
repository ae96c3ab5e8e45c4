//! Many tasks for one instant: none before it, all soon after it.

use std::sync::Mutex;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use orchestrator_tests::{orch, until};
use orchestrator_worker::{Data, TaskContext, TaskId, TaskResult, Worker, task_handler};
use std::sync::Arc;

const TASKS: usize = 10_000;

type Starts = Arc<Mutex<Vec<(TaskId, DateTime<Utc>)>>>;

#[task_handler("punctual")]
async fn punctual(_: (), starts: Data<Starts>, ctx: TaskContext) -> TaskResult {
    starts.lock().expect("the starts").push((ctx.task_id(), Utc::now()));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_tasks_for_one_instant_start_within_a_second_of_it_and_none_early() {
    let orch = orch().await;
    let starts = Starts::default();
    let worker = || {
        let builder = Worker::builder(orch.clone()).discover(false).data(Arc::clone(&starts)).register::<punctual>();
        builder.build().expect("a worker").start()
    };
    let workers = [worker(), worker()];
    // Far enough for all of them to be stored before it.
    let instant = Utc::now() + TimeDelta::seconds(8);
    let tasks = (0..TASKS).map(|_| punctual::with(()).run_at(instant));
    orch.enqueue_all(tasks).await.expect("the tasks");
    assert!(Utc::now() + TimeDelta::seconds(1) < instant, "the machine took too long to store them");

    until("all have started", async || (starts.lock().expect("the starts").len() >= TASKS).then_some(())).await;
    for worker in workers {
        worker.stop().await.expect("a worker that ends in order");
    }
    let starts = std::mem::take(&mut *starts.lock().expect("the starts"));
    let ids: std::collections::HashSet<TaskId> = starts.iter().map(|(id, _)| *id).collect();
    assert_eq!((starts.len(), ids.len()), (TASKS, TASKS), "each once");
    let first = starts.iter().map(|(_, at)| *at).min().expect("a start");
    let last = starts.iter().map(|(_, at)| *at).max().expect("a start");
    // Instants are whole milliseconds for Redis.
    assert!(first.timestamp_millis() >= instant.timestamp_millis(), "one started {:?} early", instant - first);
    assert!(
        (last - instant).to_std().expect("later") <= Duration::from_secs(1),
        "the last started {:?} late",
        last - instant
    );
}
