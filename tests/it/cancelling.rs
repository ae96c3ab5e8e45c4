//! Cancelling what runs: how much time a handler has to stop, and what becomes of one that does not.

use std::sync::Arc;
use std::time::{Duration, Instant};

use orchestrator::{CANCEL_GRACE_MAX, Error, HOLD_LEASE_MIN, NewTask};
use orchestrator_tests::{orch, within};
use orchestrator_worker::{
    Data, HandlerSpec, Orchestrator, Status, Stop, TaskContext, TaskError, TaskHandle, TaskHandler, TaskResult, Worker,
    WorkerBuilder, task_handler,
};
use tokio::sync::Notify;

type Started = Arc<Notify>;

/// Never looks up.
#[task_handler("deaf", retries = 0, cancel_grace = "0s")]
async fn deaf(_: (), started: Data<Started>) -> TaskResult {
    started.notify_one();
    std::future::pending().await
}

/// Never looks up, and has long to do so.
#[task_handler("stubborn", retries = 0, cancel_grace = "10m")]
async fn stubborn(_: (), started: Data<Started>) -> TaskResult {
    started.notify_one();
    std::future::pending().await
}

/// Tidies up for longer than the usual grace.
#[task_handler("tidy", retries = 0, cancel_grace = "1m")]
async fn tidy(_: (), started: Data<Started>, ctx: TaskContext) -> TaskResult<String> {
    started.notify_one();
    ctx.cancelled().await;
    tokio::time::sleep(Duration::from_millis(5500)).await;
    Ok("tidied up".into())
}

struct Patient;

#[orchestrator_worker::__private::async_trait]
impl TaskHandler for Patient {
    fn spec(&self) -> HandlerSpec {
        let mut spec = HandlerSpec::new("patient");
        spec.cancel_grace = Some(CANCEL_GRACE_MAX + Duration::from_secs(1));
        spec
    }

    async fn call(&self, _: TaskContext) -> Result<orchestrator_worker::Output, TaskError> {
        std::future::pending().await
    }
}

fn builder(orch: &Orchestrator, started: &Started) -> WorkerBuilder {
    let builder = Worker::builder(orch.clone()).discover(false).data(Arc::clone(started));
    builder.register::<deaf>().register::<stubborn>().register::<tidy>()
}

async fn ended<T: serde::de::DeserializeOwned + 'static>(task: &TaskHandle<T>) -> Status {
    match within("the end", task.result()).await {
        Ok(_) => Status::Completed,
        Err(Error::TaskEnded { status, .. }) => status,
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_that_does_not_stop_is_dropped_when_its_time_is_over() {
    let (orch, started) = (orch().await, Started::default());
    let stop = Stop::new();
    let running = tokio::spawn(builder(&orch, &started).build().unwrap().run_until(stop.clone()));

    // Its own time counts.
    let task = orch.enqueue(deaf::with(())).await.unwrap();
    started.notified().await;
    let asked = Instant::now();
    assert_eq!(task.cancel_within("10m").await.unwrap(), Status::InProgress);
    assert_eq!(ended(&task).await, Status::Cancelled);
    assert!(asked.elapsed() < Duration::from_secs(5), "no more than it has itself: {:?}", asked.elapsed());

    // Or that of whoever asks, also when somebody without a hurry had asked before.
    for before in [false, true] {
        let task = orch.enqueue(stubborn::with(())).await.unwrap();
        started.notified().await;
        if before {
            task.cancel().await.unwrap();
        }
        let asked = Instant::now();
        assert_eq!(task.cancel_within("300ms").await.unwrap(), Status::InProgress);
        assert_eq!(ended(&task).await, Status::Cancelled);
        let took = asked.elapsed();
        assert!((300..5000).contains(&took.as_millis()), "dropped after {took:?}");
        assert_eq!(task.cancel_within("1s").await.unwrap(), Status::Cancelled, "asking again says the same");
    }
    let task = orch.enqueue(stubborn::with(())).await.unwrap();
    started.notified().await;
    task.cancel_within("0s").await.unwrap();
    assert_eq!(ended(&task).await, Status::Cancelled);

    // A handler that says so has longer than the usual five seconds; what it returns then counts.
    let task = orch.enqueue(tidy::with(())).await.unwrap();
    started.notified().await;
    task.cancel().await.unwrap();
    assert_eq!(ended(&task).await, Status::Completed);
    stop.drain();
    running.await.unwrap().unwrap();
}

#[tokio::test]
async fn what_nobody_runs_is_cancelled_at_once_and_bounds_are_told() {
    let orch = orch().await;
    let task = orch.enqueue(NewTask::<()>::new("faq", &())).await.unwrap();
    let error = task.cancel_within("11m").await.expect_err("too long").to_string();
    assert!(error.contains("at most 10 minutes to stop, not 660s"), "{error}");
    assert!(matches!(task.cancel_within("soon").await, Err(Error::Invalid { .. })));
    assert_eq!(task.cancel_within("10m").await.unwrap(), Status::Cancelled);
    // An agent outside is told that it is to stop.
    let task = orch.enqueue(NewTask::<()>::new("faq", &())).await.unwrap();
    let hold = orch.hold("ann", task.id(), HOLD_LEASE_MIN).await.unwrap();
    assert_eq!(task.cancel_within("1s").await.unwrap(), Status::InProgress);
    let holder = orch.holder("ann", task.id(), Some(hold.token));
    assert!(holder.renew(HOLD_LEASE_MIN).await.unwrap().cancel_requested);
    assert_eq!(holder.release().await.unwrap(), Status::Cancelled);
}

#[tokio::test]
async fn a_worker_refuses_a_handler_that_wants_too_long() {
    let orch = orch().await;
    let refused = Worker::builder(orch).discover(false).handler(Patient).build().err().expect("too long").to_string();
    assert!(refused.contains("its cancel_grace of 601s is longer than 600s"), "{refused}");
}
