//! The line between a worker and Redis goes dark: its handlers stop before somebody else may start them.

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use orchestrator::{Config, LEASE};
use orchestrator_tests::{Proxy, namespace, server, until, within};
use orchestrator_worker::{Data, NewTask, Orchestrator, Status, TaskResult, task_handler};
use redis::AsyncCommands;
use tokio::sync::{Notify, watch};

use super::look::Look;
use super::{SHORT, run, worker};

/// What the handler shares with its test.
#[derive(Default)]
struct Bench {
    started: Notify,
    /// Milliseconds on this machine's clock, which is also Redis's, when the handler was stopped.
    stopped: Mutex<Option<u128>>,
    go: watch::Sender<bool>,
}

fn now_ms() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()
}

struct Watch(Arc<Bench>);

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.stopped.lock().unwrap().get_or_insert_with(now_ms);
    }
}

#[task_handler("last", queue = "last")]
async fn last(_: (), bench: Data<Arc<Bench>>) -> TaskResult<u32> {
    let watch = Watch(Arc::clone(&bench));
    bench.started.notify_one();
    bench.go.subscribe().wait_for(|go| *go).await.unwrap();
    std::mem::forget(watch);
    Ok(7)
}

/// Darkens the line while a task runs, with timers falling due all the time if so asked.
async fn cut_off(lease: Duration, timers: bool) {
    let line = Proxy::before(server::shared());
    let config = Config { namespace: namespace(), ..Config::new(&line.url()) };
    let orch = Orchestrator::with_config(config.clone()).await.unwrap();
    let near = Orchestrator::with_config(Config { url: server::shared().url(), ..config }).await.unwrap();
    let mut look = Look::at(&near, server::shared().raw().await);
    let bench = Arc::new(Bench::default());
    let (stop, running) = run(worker(&orch).data(Arc::clone(&bench)).register::<last>().lease(lease));
    let task = near.enqueue(last::with(())).await.unwrap();
    bench.started.notified().await;
    if timers {
        let later = |n: u64| NewTask::<()>::new("later", &()).queue("elsewhere").delay(Duration::from_millis(100 * n));
        near.enqueue_all((1..60).map(later)).await.unwrap();
    }
    let beats = || line.calls().iter().filter(|name| *name == "beat").count();
    let seen = beats();
    until("a beat", || async { (beats() > seen).then_some(()) }).await;
    line.darken(true);
    // A later beat may have been cut off from its answer: the lease that counts is the one that Redis knows.
    let [name] = look.workers().await.try_into().unwrap();
    let ends: f64 = look.raw.zscore(look.key("W"), &name).await.unwrap();
    let stopped = until("the handler's stop", || async { *bench.stopped.lock().unwrap() }).await;
    let left = ends - stopped as f64;
    eprintln!("lease of {lease:?}, timers {timers}: stopped {left} ms before the lease ended");
    assert!(left > 0.0, "the handler was stopped {left} ms before the lease ended");

    bench.go.send_replace(true);
    line.darken(false);
    assert_eq!(task.result().await.unwrap(), 7, "the line is back");
    let seen = task.task().await.unwrap();
    assert_eq!((seen.status, seen.crashes), (Status::Completed, 0));
    stop.now();
    within("the worker's end", running).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_cut_off_stops_its_handlers_before_its_lease_ends() {
    cut_off(SHORT, false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn so_does_one_with_the_usual_lease() {
    cut_off(LEASE, false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn timers_that_fall_due_meanwhile_do_not_delay_it() {
    cut_off(SHORT, true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_whose_nudge_is_lost_hears_of_new_work_all_the_same() {
    let line = Proxy::before(server::shared());
    let orch = Orchestrator::with_config(Config { namespace: namespace(), ..Config::new(&line.url()) }).await.unwrap();
    let bench = Arc::new(Bench::default());
    let (stop, running) = run(worker(&orch).data(Arc::clone(&bench)).register::<last>().slots(1));
    // With its only slot taken it listens to its inbox alone; when the slot is free, a nudge ends that wait.
    let first = orch.enqueue(last::with(())).await.unwrap();
    bench.started.notified().await;
    line.hold("ring");
    bench.go.send_replace(true);
    first.result().await.unwrap();
    line.struck(1).await;
    let second = orch.enqueue(last::with(())).await.unwrap();
    assert_eq!(second.result().timeout("10s").await.unwrap(), 7);
    stop.drain();
    within("the worker's end", running).await.unwrap().unwrap();
}
