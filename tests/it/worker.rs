//! The worker runtime against a real Redis: what a handler's author and an operator rely on.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use orchestrator_tests::{orch, until};
use orchestrator_worker::{
    Data, Error, NewTask, Orchestrator, Priority, Status, Stop, TaskContext, TaskError, TaskResult, Worker,
    WorkerBuilder, payload, task_handler,
};
use tokio::sync::{Barrier, Notify};

/// What the tests' handlers share.
#[derive(Default)]
struct Bench {
    calls: AtomicU32,
    started: Notify,
    go: Notify,
}

type Shared = Arc<Bench>;

#[payload]
struct Sum {
    a: i64,
    b: i64,
}

/// Adds.
#[task_handler("sum", queue = "sums", priority = P1, retries = 1)]
async fn sum(args: Sum) -> TaskResult<i64> {
    Ok(args.a + args.b)
}

#[task_handler("flaky", retries = 2, backoff = "fixed(1ms)")]
async fn flaky(until_attempt: u32, bench: Data<Shared>, ctx: TaskContext) -> TaskResult<u32> {
    bench.calls.fetch_add(1, Ordering::SeqCst);
    if ctx.attempt() < until_attempt {
        return Err("not yet".into());
    }
    Ok(ctx.attempt())
}

#[task_handler("hopeless", retries = 5, backoff = "fixed(1ms)")]
async fn hopeless(_: (), bench: Data<Shared>) -> TaskResult {
    bench.calls.fetch_add(1, Ordering::SeqCst);
    Err(TaskError::fatal("no such repository"))
}

#[task_handler("panics", retries = 0)]
async fn panics(_: ()) -> TaskResult {
    panic!("boom at {}", 7)
}

#[task_handler("slow", retries = 0, timeout = "50ms")]
async fn slow(_: ()) -> TaskResult {
    std::future::pending().await
}

#[task_handler("waits")]
async fn waits(_: (), bench: Data<Shared>) -> TaskResult<String> {
    bench.calls.fetch_add(1, Ordering::SeqCst);
    bench.started.notify_one();
    bench.go.notified().await;
    Ok("went".into())
}

#[task_handler("polite")]
async fn polite(_: (), bench: Data<Shared>, ctx: TaskContext) -> TaskResult {
    bench.started.notify_one();
    ctx.cancelled().await;
    Err("stopped on request".into())
}

fn worker(orch: &Orchestrator, bench: &Shared) -> WorkerBuilder {
    Worker::builder(orch.clone())
        .discover(false)
        .data(Arc::clone(bench))
        .register::<sum>()
        .register::<flaky>()
        .register::<hopeless>()
        .register::<panics>()
        .register::<slow>()
        .register::<waits>()
        .register::<polite>()
}

fn run(builder: WorkerBuilder) -> (Stop, tokio::task::JoinHandle<orchestrator_worker::Result>) {
    let stop = Stop::new();
    let worker = builder.build().expect("a fair worker");
    (stop.clone(), tokio::spawn(worker.run_until(stop)))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_typed_task_goes_all_the_way() {
    let orch = orch().await;
    let (stop, running) = run(worker(&orch, &Shared::default()));
    let task = orch.enqueue(sum::with(Sum { a: 40, b: 2 })).await.unwrap();
    assert_eq!(task.result().await.unwrap(), 42);
    let seen = task.task().await.unwrap();
    assert_eq!((seen.status, seen.attempt, seen.retry_count), (Status::Completed, 1, 0));
    assert_eq!((seen.queue.as_str(), seen.priority, seen.max_retries), ("sums", Priority::P1, 1));
    assert!(seen.created_at <= seen.started_at.unwrap() && seen.started_at <= seen.completed_at);
    assert_eq!(sum(Sum { a: 1, b: 1 }).await.unwrap(), 2, "the function stays callable");
    stop.drain();
    running.await.unwrap().unwrap();
    assert_eq!(orch.stats().await.unwrap().workers, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failures_are_retried_and_the_hopeless_are_not() {
    let orch = orch().await;
    let bench = Shared::default();
    let (stop, running) = run(worker(&orch, &bench));
    let third_time = orch.enqueue(flaky::with(3)).await.unwrap();
    assert_eq!(third_time.result().await.unwrap(), 3);
    let seen = third_time.task().await.unwrap();
    assert_eq!((seen.attempt, seen.retry_count, seen.error.as_deref()), (3, 2, Some("not yet")));

    let never = orch.enqueue(flaky::with(99)).await.unwrap();
    let error = never.result().await.expect_err("retries end");
    assert!(matches!(&error, Error::TaskEnded { status: Status::Failed, error, .. } if error == "not yet"), "{error}");
    let seen = never.task().await.unwrap();
    assert_eq!((seen.attempt, seen.reason.as_deref()), (3, Some("retries")));

    bench.calls.store(0, Ordering::SeqCst);
    let fatal = orch.enqueue(hopeless::with(())).await.unwrap();
    fatal.result().await.expect_err("fatal");
    assert_eq!(bench.calls.load(Ordering::SeqCst), 1);
    assert_eq!(fatal.task().await.unwrap().reason.as_deref(), Some("fatal"));

    let panicked = orch.enqueue(panics::with(())).await.unwrap();
    let error = panicked.result().await.expect_err("a panic").to_string();
    assert!(error.contains("the handler panicked: boom at 7"), "{error}");
    let late = orch.enqueue(slow::with(())).await.unwrap();
    let error = late.result().await.expect_err("a timeout").to_string();
    assert!(error.contains("took longer than its timeout of 50ms"), "{error}");
    assert_eq!(orch.stats().await.unwrap().dead_tasks, 4);
    stop.drain();
    running.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_payload_that_does_not_fit_fails_for_good_with_the_path() {
    let orch = orch().await;
    let (stop, running) = run(worker(&orch, &Shared::default()));
    let task =
        orch.enqueue(NewTask::<i64>::new("sum", &serde_json::json!({"a": 1, "b": "two"})).queue("sums")).await.unwrap();
    let error = task.result().await.expect_err("a misfit").to_string();
    assert!(error.contains("does not fit `sum` at `b`"), "{error}");
    let seen = task.task().await.unwrap();
    assert_eq!((seen.attempt, seen.reason.as_deref()), (1, Some("payload")));
    stop.drain();
    running.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cancelling_reaches_a_running_handler() {
    let orch = orch().await;
    let bench = Shared::default();
    let (stop, running) = run(worker(&orch, &bench));
    let task = orch.enqueue(polite::with(())).await.unwrap();
    bench.started.notified().await;
    assert_eq!(task.cancel().await.unwrap(), Status::InProgress);
    let error = task.result().await.expect_err("cancelled");
    assert!(matches!(error, Error::TaskEnded { status: Status::Cancelled, .. }), "{error}");
    assert_eq!(task.cancel().await.unwrap(), Status::Cancelled, "asking again says the same");
    stop.drain();
    running.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_draining_worker_finishes_what_runs_and_claims_nothing_more() {
    let orch = orch().await;
    let bench = Shared::default();
    let (stop, running) = run(worker(&orch, &bench));
    let held = orch.enqueue(waits::with(())).await.unwrap();
    bench.started.notified().await;
    stop.drain();
    let later = orch.enqueue(sum::with(Sum { a: 1, b: 2 })).await.unwrap();
    bench.go.notify_one();
    running.await.unwrap().unwrap();
    assert_eq!(held.task().await.unwrap().status, Status::Completed);
    assert_eq!(later.task().await.unwrap().status, Status::Assigned);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_outlives_the_grace_is_released_uncounted_and_runs_elsewhere() {
    let orch = orch().await;
    let bench = Shared::default();
    let (stop, running) = run(worker(&orch, &bench).drain_grace(Duration::ZERO));
    let held = orch.enqueue(waits::with(())).await.unwrap();
    bench.started.notified().await;
    stop.drain();
    running.await.unwrap().unwrap();
    let seen = held.task().await.unwrap();
    assert_eq!((seen.status, seen.attempt, seen.crashes), (Status::Assigned, 0, 0));

    let (stop, running) = run(worker(&orch, &bench));
    bench.go.notify_one();
    assert_eq!(held.result().await.unwrap(), "went");
    assert_eq!(held.task().await.unwrap().attempt, 1);
    stop.now();
    running.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slots_bound_what_runs_and_priority_decides_what_comes_first() {
    #[derive(Default)]
    struct Log(std::sync::Mutex<Vec<u32>>);
    #[task_handler("logged", queue = "logged")]
    async fn logged(n: u32, log: Data<Arc<Log>>) -> TaskResult {
        log.0.lock().unwrap().push(n);
        Ok(())
    }
    let orch = orch().await;
    let mut handles = Vec::new();
    for (n, priority) in [(1, Priority::P3), (2, Priority::P2), (3, Priority::P0), (4, Priority::P2), (5, Priority::P1)]
    {
        handles.push(orch.enqueue(logged::with(n).priority(priority)).await.unwrap());
    }
    let log = Arc::new(Log::default());
    let builder = Worker::builder(orch.clone()).discover(false).register::<logged>().data(Arc::clone(&log)).slots(1);
    let (stop, running) = run(builder);
    for handle in handles {
        handle.result().await.unwrap();
    }
    assert_eq!(*log.0.lock().unwrap(), [3, 5, 2, 4, 1]);
    stop.drain();
    running.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn as_many_run_at_once_as_there_are_slots() {
    #[task_handler("meets", queue = "meets")]
    async fn meets(_: (), all: Data<Arc<Barrier>>) -> TaskResult {
        all.wait().await;
        Ok(())
    }
    let orch = orch().await;
    let builder =
        Worker::builder(orch.clone()).discover(false).register::<meets>().data(Arc::new(Barrier::new(8))).slots(8);
    let (stop, running) = run(builder);
    let handles = orch.enqueue_all((0..16).map(|_| meets::with(()))).await.unwrap();
    for handle in handles {
        handle.result().await.unwrap();
    }
    stop.drain();
    running.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_type_nobody_handles_waits_on_the_shelf_until_somebody_does() {
    let orch = orch().await;
    let bench = Shared::default();
    let only_flaky =
        Worker::builder(orch.clone()).discover(false).data(Arc::clone(&bench)).register::<flaky>().queues(["sums"]);
    let (stop, running) = run(only_flaky);
    let task = orch.enqueue(sum::with(Sum { a: 2, b: 3 })).await.unwrap();
    until("the shelf", || async { (orch.stats().await.unwrap().shelved_tasks == 1).then_some(()) }).await;
    let seen = task.task().await.unwrap();
    assert_eq!((seen.status, seen.shelved, seen.attempt), (Status::Pending, true, 0));
    stop.drain();
    running.await.unwrap().unwrap();

    let (stop, running) = run(worker(&orch, &bench));
    assert_eq!(task.result().await.unwrap(), 5);
    assert_eq!(task.task().await.unwrap().attempt, 1, "the shelf counts no attempt");
    stop.drain();
    running.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scheduled_tasks_start_at_their_time_and_paused_queues_do_not() {
    let orch = orch().await;
    let (stop, running) = run(worker(&orch, &Shared::default()));
    let task = orch.enqueue(sum::with(Sum { a: 1, b: 1 }).delay("300ms")).await.unwrap();
    assert_eq!(task.task().await.unwrap().status, Status::Pending);
    task.result().await.unwrap();
    let seen = task.task().await.unwrap();
    let waited = seen.started_at.unwrap() - seen.run_at.unwrap();
    assert!((0..1000).contains(&waited.num_milliseconds()), "started {waited} after its time");

    assert!(orch.pause("sums").await.unwrap());
    assert!(!orch.pause("sums").await.unwrap(), "twice is no change");
    let held = orch.enqueue(sum::with(Sum { a: 1, b: 2 })).await.unwrap();
    let other = orch.enqueue(flaky::with(1)).await.unwrap();
    other.result().await.unwrap();
    assert_eq!(held.task().await.unwrap().status, Status::Assigned);
    assert!(orch.resume("sums").await.unwrap());
    assert_eq!(held.result().await.unwrap(), 3);
    stop.drain();
    running.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_worker_that_cannot_work_refuses_to_start() {
    #[task_handler("sum")]
    async fn other_sum(_: ()) -> TaskResult {
        Ok(())
    }
    let orch = orch().await;
    let bare = || Worker::builder(orch.clone()).discover(false);
    let fault = |builder: WorkerBuilder| builder.build().err().expect("a fault").to_string();
    assert!(fault(bare()).contains("has no task handler"));
    assert!(fault(bare().register::<sum>().register::<other_sum>()).contains("task type `sum` has two handlers"));
    assert!(fault(bare().register::<flaky>()).contains("takes Data<"));
    assert!(fault(bare().register::<sum>().expect(["sum", "deploy"])).contains("expected task type `deploy`"));
    assert!(fault(bare().register::<sum>().slots(0)).contains("1 to 4096 slots"));
    assert!(fault(bare().register::<sum>().data(1u8).data(2u8)).contains("two values of type u8"));
    assert!(
        fault(bare().register::<sum>().queues(["a", "b", "c", "d", "e", "f", "g", "h", "i"])).contains("1 to 8 queues")
    );
    assert!(bare().register::<sum>().register::<sum>().build().is_ok(), "the same one twice is one");
}
