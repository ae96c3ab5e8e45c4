//! Redis has no memory left: new tasks are refused, and everything that empties the queues goes on.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use orchestrator_tests::{Server, until, within};
use orchestrator_worker::{
    Config, Data, Error, NewTask, Orchestrator, Status, TaskContext, TaskError, TaskResult, task_handler,
};
use tokio::task::AbortHandle;

use super::{run, worker};

type Count = Arc<AtomicU64>;

/// Each kind ends its own way.
#[task_handler("bulk", queue = "bulk", retries = 1, backoff = "fixed(10ms)")]
async fn bulk(args: (u64, String), runs: Data<Count>, ctx: TaskContext) -> TaskResult<u64> {
    runs.fetch_add(1, Ordering::SeqCst);
    match args.0 % 4 {
        1 if ctx.attempt() == 1 => Err("once more".into()),
        2 => Err(TaskError::fatal("hopeless")),
        _ => Ok(args.0),
    }
}

fn task(n: u64) -> NewTask<u64> {
    bulk::with((n, "x".repeat(5_000))).max_retries(1)
}

/// The namespace's clock: goes with our own, and as far ahead of it as we say.
struct Clock {
    ahead_ms: Arc<AtomicU64>,
    ticking: AbortHandle,
}

impl Clock {
    async fn start(server: &Server, key: &'static str) -> Self {
        // A plain command is refused when memory is full.
        let set = redis::Script::new("#!lua flags=allow-oom\nredis.call('HSET', KEYS[1], 's', ARGV[1], 'us', ARGV[2])");
        let (mut raw, ahead_ms) = (server.raw().await, Count::default());
        let ahead = Arc::clone(&ahead_ms);
        let mut tick = async move || {
            let ours = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
            let now = ours + Duration::from_millis(ahead.load(Ordering::SeqCst));
            let mut set = set.key(key);
            let _: () = set.arg(now.as_secs()).arg(now.subsec_micros()).invoke_async(&mut raw).await.unwrap();
        };
        tick().await;
        let ticking = tokio::spawn(async move {
            let mut pace = tokio::time::interval(Duration::from_millis(5));
            loop {
                pace.tick().await;
                tick().await;
            }
        });
        Self { ahead_ms, ticking: ticking.abort_handle() }
    }
}

impl Drop for Clock {
    fn drop(&mut self) {
        self.ticking.abort();
    }
}

/// Milliseconds from the opening of a bucket to its end, and longest retention of the test.
const BUCKET_MS: u64 = 4 * 3600 * 1000;
const RETENTION: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_redis_drains_and_takes_tasks_again() {
    let server = Server::start(&["--maxmemory", "8mb", "--maxmemory-policy", "noeviction"]);
    let config = Config {
        namespace: "full".into(),
        retention: RETENTION,
        dead_retention: RETENTION,
        test_clock: true,
        ..Config::new(&server.url())
    };
    let clock = Clock::start(&server, "{full.0}:now").await;
    let orch = Orchestrator::with_config(config).await.unwrap();
    let mut raw = server.raw().await;

    let mut handles = Vec::new();
    let refused = loop {
        match orch.enqueue(task(handles.len() as u64)).await {
            Ok(handle) => handles.push(handle),
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, Error::OutOfMemory), "{refused:?}");
    assert!(handles.len() > 200, "{} tasks fit", handles.len());
    let refused = orch.enqueue_all((0..10).map(task)).await.expect_err("no room");
    assert!(matches!(refused, Error::OutOfMemory), "{refused:?}");
    assert_eq!(orch.stats().await.unwrap().pending_tasks, handles.len() as u64, "nothing of the refused was stored");

    // Full as it is: pausing, resuming, cancelling, and the loss of all scripts.
    assert!(orch.pause("bulk").await.unwrap() && orch.resume("bulk").await.unwrap());
    for handle in handles.iter().skip(3).step_by(4) {
        assert_eq!(handle.cancel().await.unwrap(), Status::Cancelled);
    }
    let _: () = redis::cmd("SCRIPT").arg("FLUSH").query_async(&mut raw).await.unwrap();
    let runs = Count::default();
    let (stop, running) = run(worker(&orch).data(Arc::clone(&runs)).register::<bulk>().slots(1));
    let begun = Instant::now();
    for (n, handle) in handles.iter().enumerate() {
        let outcome = handle.result().await;
        let ended = match n % 4 {
            2 => matches!(outcome, Err(Error::TaskEnded { status: Status::Failed, .. })),
            3 => matches!(outcome, Err(Error::TaskEnded { status: Status::Cancelled, .. })),
            _ => outcome.as_ref().is_ok_and(|told| *told == n as u64),
        };
        assert!(ended, "task {n}: {outcome:?}");
    }
    eprintln!("{} tasks that filled Redis were done in {:.2?}", handles.len(), begun.elapsed());
    // A person asks for another try of one that failed, and a worker leaves and another comes.
    orch.retry(handles[2].id()).await.unwrap();
    handles[2].result().await.expect_err("hopeless again");
    stop.drain();
    within("the worker's end", running).await.unwrap().unwrap();
    let (stop, running) = run(worker(&orch).data(runs).register::<bulk>().slots(1));
    until("the next worker", || async { (orch.stats().await.unwrap().workers == 1).then_some(()) }).await;
    let stats = orch.stats().await.unwrap();
    assert_eq!((stats.total_tasks, stats.set_aside), (0, 0));

    // What has ended is kept for its retention; then there is room again.
    let refused = orch.enqueue(task(0)).await.expect_err("the ended tasks still fill it");
    assert!(matches!(refused, Error::OutOfMemory), "{refused:?}");
    clock.ahead_ms.fetch_add(2 * BUCKET_MS + 2 * RETENTION.as_millis() as u64, Ordering::SeqCst);
    let begun = Instant::now();
    let again = until("room for a task", || async { orch.enqueue(task(0)).await.ok() }).await;
    // The worker found the queue empty while memory was full: it must be listening all the same.
    assert_eq!(again.result().timeout("10s").await.unwrap(), 0);
    eprintln!("taken and done again {:.2?} after the retention", begun.elapsed());
    stop.drain();
    within("the worker's end", running).await.unwrap().unwrap();
}
