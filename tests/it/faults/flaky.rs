//! A line that loses one request and one reply in so many: every task runs just once all the same.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use orchestrator::Config;
use orchestrator_tests::{Proxy, namespace, server, until, within};
use orchestrator_worker::{Data, Orchestrator, TaskContext, TaskResult, task_handler};

use super::look::Look;
use super::{run, worker};

const TASKS: usize = 1_500;
/// One in so many is lost, in either direction.
const LOSS: u32 = 40;

/// How often each task ran.
type Runs = Arc<Mutex<Vec<u32>>>;

/// Every tenth fails once.
#[task_handler("once", queue = "once", backoff = "fixed(1ms)")]
async fn once(n: usize, runs: Data<Runs>, ctx: TaskContext) -> TaskResult<usize> {
    runs.lock().unwrap()[n] += 1;
    tokio::time::sleep(Duration::from_millis(2)).await;
    if n.is_multiple_of(10) && ctx.attempt() == 1 { Err("once more".into()) } else { Ok(n) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_lossy_line_every_task_runs_once() {
    let runs: Runs = Arc::new(Mutex::new(vec![0; TASKS]));
    let namespace = namespace();
    let mut lines = Vec::new();
    let mut workers = Vec::new();
    for _ in 0..2 {
        let line = Proxy::before(server::shared());
        let config = Config { namespace: namespace.clone(), ..Config::new(&line.url()) };
        let orch = Orchestrator::with_config(config).await.unwrap();
        workers.push(run(worker(&orch).data(Arc::clone(&runs)).register::<once>().slots(16)));
        line.lose_one_in(LOSS);
        lines.push((line, orch));
    }
    // Submitted over a lossy line, too, in small calls.
    let mut handles = Vec::new();
    for n in (0..TASKS).step_by(5) {
        let tasks = (n..n + 5).map(once::with);
        handles.extend(lines[n / 5 % 2].1.enqueue_all(tasks).await.unwrap());
    }
    for (n, handle) in handles.iter().enumerate() {
        assert_eq!(handle.result().await.unwrap(), n);
    }
    let asked: Vec<u32> = (0..TASKS).map(|n| if n.is_multiple_of(10) { 2 } else { 1 }).collect();
    assert!(*runs.lock().unwrap() == asked, "a task ran too often");
    let whole = Orchestrator::with_config(Config { namespace, ..Config::new(&server::shared().url()) }).await.unwrap();
    until("nothing left", || async { (whole.stats().await.unwrap().total_tasks == 0).then_some(()) }).await;
    for (line, _) in &lines {
        line.lose_one_in(0);
    }
    let mut look = Look::at(&whole, server::shared().raw().await);
    let events = look.all_events().await;
    let created = events.iter().filter(|event| event.event_type == "task.created").count();
    let completed = events.iter().filter(|event| event.event_type == "task.completed").count();
    assert_eq!((created, completed), (TASKS, TASKS));
    for (stop, running) in workers {
        stop.drain();
        within("a worker's end", running).await.unwrap().unwrap();
    }
}
