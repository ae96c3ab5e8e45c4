//! What follows an attempt that did not succeed: when, how often, and for which errors not at all.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use orchestrator::{Backoff, Claim, Error, HOLD_LEASE_MAX, Incarnation, LetGo, NewTask, SNOOZE_MIN, Status};
use orchestrator_tests::{all_events, orch};
use orchestrator_worker::{Data, TaskContext, TaskError, TaskResult, Worker, task_handler};
use redis::AsyncCommands;

/// Counts attempts.
#[derive(Default)]
struct Count(AtomicU32);

#[derive(Debug)]
struct BadSha;

impl std::fmt::Display for BadSha {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("no such commit")
    }
}

impl std::error::Error for BadSha {}

/// Wraps another error, as libraries do.
#[derive(Debug)]
struct Wrapped(std::io::Error);

impl std::fmt::Display for Wrapped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the clone failed")
    }
}

impl std::error::Error for Wrapped {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.0)
    }
}

/// Fails in the way it is asked to.
#[task_handler(
    "retries.fail",
    queue = "retries",
    retries = 2,
    backoff = "fixed(1ms)",
    no_retry = [BadSha, std::io::Error],
    crate = "orchestrator_worker"
)]
async fn fail(how: String, count: Data<Arc<Count>>) -> TaskResult {
    count.0.fetch_add(1, Ordering::SeqCst);
    match how.as_str() {
        "sha" => Err(BadSha)?,
        "wrapped" => Err(TaskError::from(Wrapped(std::io::Error::other("no route"))).context("fetching")),
        "number" => Ok("x".parse::<u32>().map(drop)?),
        "decided" => Err(TaskError::retry_in("1ms", BadSha)),
        _ => Ok(()),
    }
}

/// Puts itself off three times, and fails once in between.
#[task_handler("retries.snooze", queue = "retries", retries = 1, backoff = "fixed(1ms)", crate = "orchestrator_worker")]
async fn snooze(_: (), count: Data<Arc<Count>>, ctx: TaskContext) -> TaskResult<u32> {
    match count.0.fetch_add(1, Ordering::SeqCst) {
        0 | 2 | 3 => Err(TaskError::snooze(Duration::ZERO, "the build still runs")),
        1 => Err("a real failure".into()),
        _ => Ok(ctx.attempt()),
    }
}

fn workers(orch: &orchestrator::Orchestrator, count: &Arc<Count>) -> orchestrator_worker::Running {
    let builder = Worker::builder(orch.clone()).discover(false).register::<fail>().register::<snooze>();
    builder.data(Arc::clone(count)).build().unwrap().start()
}

#[tokio::test]
async fn errors_that_no_retry_mends_end_the_task_at_once() {
    let orch = orch().await;
    let count = Arc::new(Count::default());
    let running = workers(&orch, &count);
    for (how, reason, attempts, error) in [
        ("sha", "no_retry", 1, "no such commit"),
        ("wrapped", "no_retry", 1, "fetching: the clone failed: no route"),
        ("number", "retries", 3, "invalid digit found in string"),
        // Its author has said what is to follow.
        ("decided", "retries", 3, "no such commit"),
    ] {
        count.0.store(0, Ordering::SeqCst);
        let handle = orch.enqueue(fail::with(how.into())).await.unwrap();
        handle.result().await.expect_err(how);
        let task = handle.task().await.unwrap();
        assert_eq!((task.status, task.reason.as_deref()), (Status::Failed, Some(reason)), "{how}");
        assert_eq!((task.attempt, count.0.load(Ordering::SeqCst)), (attempts, attempts), "{how}");
        assert_eq!(task.error.as_deref(), Some(error));
    }
    running.stop().await.unwrap();
}

#[tokio::test]
async fn a_task_that_is_put_off_spends_no_attempt() {
    let orch = orch().await;
    let count = Arc::new(Count::default());
    let running = workers(&orch, &count);
    let begun = Instant::now();
    let handle = orch.enqueue(snooze::with(())).await.unwrap();
    assert_eq!(handle.result().await.unwrap(), 2, "one failure, whatever else");
    assert!(begun.elapsed() >= 3 * SNOOZE_MIN, "asked for no time at all, it gets the least there is");
    let task = handle.task().await.unwrap();
    assert_eq!((task.retry_count, count.0.load(Ordering::SeqCst)), (1, 5));
    let told = all_events(&orch).await;
    let retrying = told.iter().filter(|event| event.event_type == "task.retrying").count();
    assert_eq!(retrying, 4, "it is told as any other retry");
    running.stop().await.unwrap();
}

async fn claim(life: &Incarnation) -> Claim {
    life.step(&[], 1, &["q".into()], None).await.unwrap().claims.pop().expect("a task is ready")
}

#[tokio::test]
async fn a_crash_and_a_failure_are_counted_apart() {
    let orch = orch().await;
    let id = orch.enqueue(NewTask::<()>::new("job", &()).queue("q").max_retries(9)).await.unwrap().id();
    let brief = Duration::from_millis(1);
    for crashes in 1..=3 {
        let life = Incarnation::join(&orch, &["q".into()], &[], brief).await.unwrap();
        let held = claim(&life).await;
        assert_eq!(life.retry(&held, Duration::ZERO, "a failure").await.unwrap(), LetGo::Done);
        orch.tick().await.unwrap();
        let held = claim(&life).await;
        assert_eq!(life.snooze(&held, Duration::ZERO, "too early").await.unwrap(), LetGo::Done);
        orchestrator_tests::until("it is ready again", async || {
            orch.tick().await.unwrap();
            (orch.get(id).await.unwrap().status == Status::Assigned).then_some(())
        })
        .await;
        let held = claim(&life).await;
        assert_eq!(held.failures(), crashes);
        orchestrator_tests::taken_back(&orch, "q", id, crashes).await;
    }
    let task = orch.get(id).await.unwrap();
    assert_eq!((task.status, task.reason.as_deref()), (Status::Failed, Some("poison")));
    assert_eq!(
        (task.crashes, task.attempt),
        (3, 6),
        "three failures and three crashes; what was put off counts for nothing"
    );
}

#[tokio::test]
async fn a_task_brings_its_own_backoff() {
    let orch = orch().await;
    let count = Arc::new(Count::default());
    let running = workers(&orch, &count);
    // Its handler would have it come again at once.
    let own = fail::with("number".into()).backoff(Backoff::fixed(Duration::from_secs(3600)));
    let handle = orch.enqueue(own).await.unwrap();
    let task = orchestrator_tests::until("its first attempt has failed", async || {
        handle.task().await.ok().filter(|task| task.status == Status::Pending)
    })
    .await;
    let wait = task.run_at.unwrap() - chrono::Utc::now();
    assert!((3500..=3600).contains(&wait.num_seconds()), "{wait}");
    assert_eq!(task.backoff, Some(Backoff::fixed(Duration::from_secs(3600))));
    let told = serde_json::to_value(&task).unwrap();
    assert_eq!(told["backoff"], "fixed(1h)");
    running.stop().await.unwrap();
}

#[tokio::test]
async fn an_agent_outside_that_fails_follows_the_tasks_backoff() {
    let orch = orch().await;
    let hour = Backoff::fixed(Duration::from_secs(3600));
    let id = orch.enqueue(NewTask::<()>::new("job", &()).queue("q").backoff(hour)).await.unwrap().id();
    for told in [None, Some(Duration::from_secs(60))] {
        let hold = orch.hold("agent", id, HOLD_LEASE_MAX).await.unwrap();
        let holder = orch.holder("agent", id, Some(hold.token));
        assert_eq!(holder.fail("not yet", true, told).await.unwrap(), Status::Pending);
        let wait = orch.get(id).await.unwrap().run_at.unwrap() - chrono::Utc::now();
        let most = told.map_or(3600, |told| told.as_secs() as i64);
        assert!((most - 50..=most).contains(&wait.num_seconds()), "{wait}");
        // Its next attempt begins now all the same.
        let timer = orchestrator_tests::key(&orch, "z");
        let mut raw = orchestrator_tests::raw().await;
        let members: Vec<Vec<u8>> = raw.zrange(&timer, 0, -1).await.unwrap();
        let _: () = raw.zadd(&timer, &members[0], 1).await.unwrap();
        orch.tick().await.unwrap();
    }
}

#[tokio::test]
async fn what_is_no_backoff_is_refused() {
    let orch = orch().await;
    for wrong in [
        Backoff::fixed(Duration::ZERO),
        Backoff::exponential(Duration::from_secs(2), Duration::from_secs(1)),
        Backoff::fixed(Duration::from_secs(31 * 24 * 3600)),
    ] {
        let task = NewTask::<()>::new("job", &()).queue("q").backoff(wrong);
        let error = orch.enqueue(task).await.unwrap_err();
        assert!(matches!(&error, Error::Invalid { what } if what.contains("1ms to 30d")), "{error}");
    }
    assert_eq!(orch.stats().await.unwrap().total_tasks, 0);
}
