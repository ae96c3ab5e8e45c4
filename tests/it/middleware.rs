//! What goes around handlers: its order, what it makes of errors, and that durable calls hold within it.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use orchestrator_tests::{blocked, orch, until, within};
use orchestrator_worker::{
    Approver, Ballot, Data, HandlerError, HandlerService, Middleware, Next, Orchestrator, Output, Status, Stop,
    TaskContext, TaskError, TaskResult, Worker, WorkerBuilder, async_trait, task_handler,
};
use tokio::sync::Notify;
use tower::limit::{ConcurrencyLimitLayer, GlobalConcurrencyLimitLayer};
use tower::timeout::TimeoutLayer;
use tower::{Layer, Service};

/// What happened, in order.
type Log = Arc<Mutex<Vec<String>>>;

fn note(log: &Log, what: impl Into<String>) {
    log.lock().unwrap().push(what.into());
}

fn taken(log: &Log) -> Vec<String> {
    std::mem::take(&mut log.lock().unwrap())
}

#[task_handler("greeted", retries = 1, backoff = "fixed(1ms)")]
async fn greeted(name: String, log: Data<Log>) -> TaskResult<String> {
    note(&log, "handler");
    Ok(format!("hello {name}"))
}

#[task_handler("failing", retries = 1, backoff = "fixed(1ms)")]
async fn failing(kind: String, log: Data<Log>) -> TaskResult {
    note(&log, "handler");
    Err(match kind.as_str() {
        "fatal" => TaskError::fatal("no such thing"),
        "reject" => TaskError::reject("not wanted"),
        _ => "not now".into(),
    })
}

#[task_handler("patient", retries = 0)]
async fn patient(_: (), log: Data<Log>, ctx: TaskContext) -> TaskResult<u32> {
    let n = ctx.step("count", || async { Ok::<_, TaskError>(7) }).await?;
    let n = ctx.approve(n).await?;
    note(&log, "decided");
    Ok(*n)
}

#[derive(Default)]
struct Bench {
    at_once: AtomicU32,
    most: AtomicU32,
    go: Notify,
}

#[task_handler("crowded", retries = 0)]
async fn crowded(_: (), bench: Data<Arc<Bench>>) -> TaskResult {
    let now = bench.at_once.fetch_add(1, Ordering::SeqCst) + 1;
    bench.most.fetch_max(now, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_millis(5)).await;
    bench.at_once.fetch_sub(1, Ordering::SeqCst);
    Ok(())
}

#[task_handler("endless", retries = 0)]
async fn endless(_: (), bench: Data<Arc<Bench>>) -> TaskResult {
    bench.go.notified().await;
    Ok(())
}

/// Notes when it is entered and when it is left, and how.
struct Noting(&'static str, Log);

/// Notes that what was around a handler is gone.
struct Gone(&'static str, Log);

impl Drop for Gone {
    fn drop(&mut self) {
        note(&self.1, format!("{} is gone", self.0));
    }
}

#[async_trait]
impl Middleware for Noting {
    async fn call(&self, ctx: TaskContext, next: Next<'_>) -> Result<Output, TaskError> {
        let _gone = Gone(self.0, Arc::clone(&self.1));
        note(&self.1, format!("into {}", self.0));
        let outcome = next.run(ctx).await;
        note(&self.1, format!("out of {}", self.0));
        outcome
    }
}

/// The same as a layer of tower.
#[derive(Clone)]
struct NotingLayer(&'static str, Log);

#[derive(Clone)]
struct NotingService<S>(S, &'static str, Log);

impl<S> Layer<S> for NotingLayer {
    type Service = NotingService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        NotingService(inner, self.0, Arc::clone(&self.1))
    }
}

impl<S: Service<TaskContext, Future: Send + 'static>> Service<TaskContext> for NotingService<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<S::Response, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        note(&self.2, format!("is {} ready", self.1));
        self.0.poll_ready(cx)
    }

    fn call(&mut self, ctx: TaskContext) -> Self::Future {
        note(&self.2, format!("into {}", self.1));
        let (called, name, log) = (self.0.call(ctx), self.1, Arc::clone(&self.2));
        Box::pin(async move {
            let outcome = called.await;
            note(&log, format!("out of {name}"));
            outcome
        })
    }
}

/// Makes of an error, or of the task, what it was told to.
struct Mapping(fn(Result<Output, TaskError>) -> Result<Output, TaskError>);

#[async_trait]
impl Middleware for Mapping {
    async fn call(&self, ctx: TaskContext, next: Next<'_>) -> Result<Output, TaskError> {
        self.0(next.run(ctx).await)
    }
}

/// Answers in the handler's place.
struct Cache(String);

#[async_trait]
impl Middleware for Cache {
    async fn call(&self, ctx: TaskContext, next: Next<'_>) -> Result<Output, TaskError> {
        if ctx.task_type() == "greeted" {
            return Output::new(&self.0);
        }
        next.run(ctx).await
    }
}

fn worker(orch: &Orchestrator, log: &Log, bench: &Arc<Bench>) -> WorkerBuilder {
    Worker::builder(orch.clone())
        .discover(false)
        .data(Arc::clone(log))
        .data(Arc::clone(bench))
        .register::<greeted>()
        .register::<failing>()
        .register::<patient>()
        .register::<crowded>()
        .register::<endless>()
}

fn begin(builder: WorkerBuilder) -> Stop {
    let stop = Stop::new();
    tokio::spawn(builder.build().expect("a fair worker").run_until(stop.clone()));
    stop
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_added_first_is_outermost() {
    let (orch, log) = (orch().await, Log::default());
    let around = worker(&orch, &log, &Arc::default())
        .middleware(Noting("a", Arc::clone(&log)))
        .layer(NotingLayer("b", Arc::clone(&log)))
        .middleware(Noting("c", Arc::clone(&log)));
    let stop = begin(around);
    let task = orch.enqueue(greeted::with("you".into())).await.unwrap();
    assert_eq!(within("the result", task.result()).await.unwrap(), "hello you");
    let expected = [
        "into a",
        "is b ready",
        "into b",
        "into c",
        "handler",
        "out of c",
        "c is gone",
        "out of b",
        "out of a",
        "a is gone",
    ];
    assert_eq!(taken(&log), expected);
    stop.drain();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_made_of_an_error_counts_as_the_handlers() {
    let (orch, log) = (orch().await, Log::default());
    // Through a middleware and a layer the meaning of the handler's own errors stays what it was.
    let kept = worker(&orch, &log, &Arc::default())
        .layer(TimeoutLayer::new(Duration::from_secs(60)))
        .middleware(Mapping(|outcome| outcome.map_err(|error| error.context("around"))));
    let stop = begin(kept);
    for (kind, attempts, reason, status) in [
        ("fatal", 1, "fatal", Status::Failed),
        ("reject", 1, "rejected", Status::Cancelled),
        ("other", 2, "retries", Status::Failed),
    ] {
        let task = orch.enqueue(failing::with(kind.into())).await.unwrap();
        let error = within("the end", task.result()).await.unwrap_err().to_string();
        assert!(error.contains("around: no"), "{error}");
        let task = task.task().await.unwrap();
        assert_eq!((task.status, task.attempt, task.reason.as_deref()), (status, attempts, Some(reason)), "{kind}");
        assert_eq!(taken(&log).len(), attempts as usize, "{kind}");
    }
    stop.drain();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_middleware_may_forgive_and_may_refuse() {
    let (orch, log) = (orch().await, Log::default());
    let forgiving = worker(&orch, &log, &Arc::default()).middleware(Mapping(|outcome| match outcome {
        Ok(_) => Err(TaskError::fatal("too good to be true")),
        Err(_) => Output::new(&()),
    }));
    let stop = begin(forgiving);
    let task = orch.enqueue(failing::with("fatal".into())).await.unwrap();
    within("the result", task.result()).await.unwrap();
    let task = orch.enqueue(greeted::with("you".into())).await.unwrap();
    let error = within("the end", task.result()).await.unwrap_err().to_string();
    assert!(error.contains("too good to be true"), "{error}");
    assert_eq!(task.task().await.unwrap().attempt, 1);
    stop.drain();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_middleware_may_answer_in_the_handlers_place() {
    let (orch, log) = (orch().await, Log::default());
    let stop = begin(worker(&orch, &log, &Arc::default()).middleware(Cache("from the cache".into())));
    let task = orch.enqueue(greeted::with("you".into())).await.unwrap();
    assert_eq!(within("the result", task.result()).await.unwrap(), "from the cache");
    assert_eq!(taken(&log), [""; 0], "the handler was not called");
    stop.drain();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_that_waits_leaves_with_all_that_is_around_it() {
    let (orch, log) = (orch().await, Log::default());
    let around = worker(&orch, &log, &Arc::default())
        .layer(TimeoutLayer::new(Duration::from_secs(60)))
        .layer(ConcurrencyLimitLayer::new(1))
        .middleware(Noting("a", Arc::clone(&log)))
        // Nothing of it can hold the wait up, or take it for an error.
        .middleware(Mapping(|_| Err(TaskError::fatal("taken for an end"))));
    let stop = begin(around);
    let first = orch.enqueue(patient::with(())).await.unwrap();
    blocked(&orch, first.id()).await;
    assert_eq!(taken(&log), ["into a", "a is gone"]);
    // The one place of the limit is free again, although the first task is not done.
    let second = orch.enqueue(patient::with(())).await.unwrap();
    blocked(&orch, second.id()).await;
    taken(&log);
    let approval = orch.get(first.id()).await.unwrap().approval_id.unwrap();
    orch.decide(approval, &Ballot::approve(Approver::named("alice"))).await.unwrap();
    let error = within("the end", first.result()).await.unwrap_err().to_string();
    assert!(error.contains("taken for an end"), "{error}");
    assert_eq!(taken(&log), ["into a", "decided", "out of a", "a is gone"]);
    stop.drain();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_timeout_of_a_layer_fails_the_attempt() {
    let (orch, log) = (orch().await, Log::default());
    let stop = begin(worker(&orch, &log, &Arc::default()).layer(TimeoutLayer::new(Duration::from_millis(20))));
    let task = orch.enqueue(endless::with(())).await.unwrap();
    let error = within("the end", task.result()).await.unwrap_err().to_string();
    assert!(error.contains("request timed out"), "{error}");
    assert_eq!(task.task().await.unwrap().reason.as_deref(), Some("retries"));
    stop.drain();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_layer_that_is_not_ready_is_waited_for() {
    let (orch, log, bench) = (orch().await, Log::default(), Arc::<Bench>::default());
    let stop = begin(worker(&orch, &log, &bench).layer(GlobalConcurrencyLimitLayer::new(2)));
    let tasks = orch.enqueue_all((0..12).map(|_| crowded::with(()))).await.unwrap();
    for task in tasks {
        within("the result", task.result()).await.unwrap();
    }
    assert_eq!(bench.most.load(Ordering::SeqCst), 2);
    stop.drain();
}

/// Refuses in its `poll_ready`.
#[derive(Clone)]
struct Closed;

impl Layer<HandlerService> for Closed {
    type Service = Self;

    fn layer(&self, _: HandlerService) -> Self {
        Self
    }
}

impl Service<TaskContext> for Closed {
    type Response = Output;
    type Error = HandlerError;
    type Future = futures::future::Pending<Result<Output, HandlerError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), HandlerError>> {
        Poll::Ready(Err(TaskError::fatal("closed for today").into()))
    }

    fn call(&mut self, _: TaskContext) -> Self::Future {
        unreachable!("it is never ready")
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_layer_that_refuses_is_not_called() {
    let (orch, log) = (orch().await, Log::default());
    let stop = begin(worker(&orch, &log, &Arc::default()).layer(Closed));
    let task = orch.enqueue(greeted::with("you".into())).await.unwrap();
    let error = within("the end", task.result()).await.unwrap_err().to_string();
    assert!(error.contains("closed for today"), "{error}");
    assert_eq!(task.task().await.unwrap().reason.as_deref(), Some("fatal"));
    stop.drain();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_around_a_handler_is_the_attempts() {
    let (orch, log) = (orch().await, Log::default());
    let stop = begin(worker(&orch, &log, &Arc::default()).middleware(Mapping(|_| panic!("in the middle"))));
    let task = orch.enqueue(greeted::with("you".into())).await.unwrap();
    let error = within("the end", task.result()).await.unwrap_err().to_string();
    assert!(error.contains("the handler panicked: in the middle"), "{error}");
    until("both attempts", async || (taken(&log).len() == 2).then_some(())).await;
    stop.drain();
}
