//! Results: bounded, typed, and waited for without asking again and again.

use orchestrator::{ApprovalPolicy, NewTask, RESULT_BYTES_MAX};
use orchestrator_tests::{Proxy, namespace, orch, server, until, within};
use orchestrator_worker::{Config, Error, Orchestrator, Status, Stop, TaskContext, TaskResult, Worker, task_handler};

/// Returns a text of so many bytes.
#[task_handler("sized", retries = 3)]
async fn sized(bytes: usize, ctx: TaskContext) -> TaskResult<String> {
    ctx.emit_chunk("it was entered").await?;
    Ok("x".repeat(bytes))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_result_that_is_too_large_fails_the_task_for_good_and_says_why() {
    let orch = orch().await;
    let stop = Stop::new();
    let worker = Worker::builder(orch.clone()).discover(false).register::<sized>().build().unwrap();
    let running = tokio::spawn(worker.run_until(stop.clone()));
    // Five bytes tell how long a long text is.
    let fits = orch.enqueue(sized::with(RESULT_BYTES_MAX - 5)).await.unwrap();
    assert_eq!(fits.result().await.unwrap().len(), RESULT_BYTES_MAX - 5);
    let large = orch.enqueue(sized::with(RESULT_BYTES_MAX - 4)).await.unwrap();
    let error = large.result().await.expect_err("it does not fit");
    assert!(matches!(error, Error::TaskEnded { status: Status::Failed, .. }));
    let said =
        "the result has 1048577 bytes; at most 1048576 are allowed. Keep large data elsewhere and pass a reference";
    assert!(error.to_string().contains(said), "{error}");
    let task = large.task().await.unwrap();
    assert_eq!((task.attempt, task.reason.as_deref()), (1, Some("fatal")), "trying again does not help");
    let (mut chunks, mut entered) = (large.chunks(), 0);
    while chunks.next().await.unwrap().is_some() {
        entered += 1;
    }
    assert_eq!(entered, 1);
    stop.drain();
    running.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_for_a_result_or_for_output_asks_once() {
    let line = Proxy::before(server::shared());
    let config = Config { namespace: namespace(), approvals: ApprovalPolicy::none(), ..Config::new(&line.url()) };
    let plain = Orchestrator::with_config(Config { url: server::shared().url(), ..config.clone() }).await.unwrap();
    let waiting = Orchestrator::with_config(config).await.unwrap();
    let task = plain.enqueue(NewTask::<()>::new("held", &()).queue("nobody")).await.unwrap();
    let handle = waiting.handle::<()>(task.id());
    let mut chunks = handle.chunks();
    let waits = tokio::spawn(async move { handle.result().timeout("1m").await });
    let reads = tokio::spawn(async move { chunks.next().await });
    let asked = |name: &str| line.calls().iter().filter(|call| *call == name).count();
    until("both have asked", async || (asked("await_end") + asked("output") == 2).then_some(())).await;
    // Longer than anybody who polls would wait, and one round of the listener.
    let listened = asked("BZPOPMIN");
    until("the listener has listened on", async || (asked("BZPOPMIN") > listened).then_some(())).await;
    assert_eq!((asked("await_end"), asked("output")), (1, 1));
    plain.cancel(task.id()).await.unwrap();
    assert!(within("the result", waits).await.unwrap().is_err());
    assert_eq!(within("the output", reads).await.unwrap().unwrap(), None);
    assert!(asked("await_end") + asked("output") <= 4, "and once more when it has ended");
}
