//! Handlers that block: nothing else stands still meanwhile, and no thread is lost or counted twice.

use std::hint::black_box;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use orchestrator_tests::{all_events, blocked, orch, until, within};
use orchestrator_worker::{
    Approver, Ballot, Data, HandlerError, HandlerService, Orchestrator, Output, Status, Stop, TaskContext, TaskError,
    TaskResult, Worker, WorkerBuilder, task_handler,
};
use tower::{Layer, Service};

/// The shortest that there may be.
const LEASE: Duration = Duration::from_secs(3);

/// Handlers stand here until it is opened.
#[derive(Default)]
struct Gate {
    open: Mutex<bool>,
    opened: Condvar,
    entered: AtomicU32,
    told: AtomicBool,
    unwound: AtomicBool,
}

impl Gate {
    fn pass(&self) {
        self.entered.fetch_add(1, Ordering::SeqCst);
        let open = self.open.lock().unwrap();
        drop(self.opened.wait_while(open, |open| !*open).unwrap());
    }

    fn open(&self) {
        *self.open.lock().unwrap() = true;
        self.opened.notify_all();
    }

    fn entered(&self) -> u32 {
        self.entered.load(Ordering::SeqCst)
    }
}

type Shared = Arc<Gate>;

/// Computes for as long as it is told to.
#[task_handler("burn", queue = "heavy", retries = 0, blocking = true)]
fn burn(millis: u64) -> TaskResult<u64> {
    let (begun, mut n) = (Instant::now(), 0_u64);
    while begun.elapsed() < Duration::from_millis(millis) {
        n = black_box(n.wrapping_mul(31).wrapping_add(7));
    }
    Ok(millis)
}

#[task_handler("stand", queue = "heavy", retries = 0, blocking = true)]
fn stand(_: (), gate: Data<Shared>) -> TaskResult {
    gate.pass();
    Ok(())
}

#[task_handler("late", queue = "heavy", retries = 0, timeout = "100ms", blocking = true)]
fn late(_: (), gate: Data<Shared>, ctx: TaskContext) -> TaskResult {
    gate.pass();
    gate.told.store(ctx.is_cancelled(), Ordering::SeqCst);
    Ok(())
}

#[task_handler("polite", queue = "heavy", retries = 0, blocking = true)]
fn polite(_: (), gate: Data<Shared>, ctx: TaskContext) -> TaskResult {
    gate.entered.fetch_add(1, Ordering::SeqCst);
    while !ctx.is_cancelled() {
        std::thread::sleep(Duration::from_millis(1));
    }
    Err("stopped on request".into())
}

#[task_handler("breaks", queue = "heavy", retries = 0, blocking = true)]
fn breaks(_: ()) -> TaskResult {
    panic!("boom at {}", 7)
}

/// Notes that a thread was unwound.
struct Unwound(Shared);

impl Drop for Unwound {
    fn drop(&mut self) {
        self.0.unwound.store(true, Ordering::SeqCst);
    }
}

#[task_handler("asks", queue = "heavy", retries = 0, blocking = true)]
fn asks(n: u32, gate: Data<Shared>, ctx: TaskContext) -> TaskResult<u32> {
    let n = ctx.block_on(ctx.step("add", || async {
        gate.entered.fetch_add(1, Ordering::SeqCst);
        Ok::<_, TaskError>(n + 1)
    }))?;
    ctx.block_on(ctx.publish("sum.known", &n))?;
    let _unwound = Unwound(Arc::clone(&gate));
    Ok(*ctx.block_on(ctx.approve(n))?)
}

#[task_handler("hangs", queue = "heavy", retries = 0, timeout = "100ms", blocking = true)]
fn hangs(_: (), gate: Data<Shared>, ctx: TaskContext) -> TaskResult {
    let _unwound = Unwound(Arc::clone(&gate));
    ctx.block_on(std::future::pending())
}

/// Awaits when it is dropped.
struct Farewell(TaskContext, Shared);

impl Drop for Farewell {
    fn drop(&mut self) {
        self.0.block_on(async {
            tokio::task::yield_now().await;
            self.1.told.store(true, Ordering::SeqCst);
        });
    }
}

#[task_handler("parting", queue = "heavy", retries = 0, timeout = "100ms", blocking = true)]
fn parting(panics: bool, gate: Data<Shared>, ctx: TaskContext) -> TaskResult {
    let _farewell = Farewell(ctx.clone(), Arc::clone(&gate));
    match panics {
        true => panic!("boom"),
        false => ctx.block_on(std::future::pending()),
    }
}

/// Stands, and then awaits.
#[task_handler("again", queue = "heavy", retries = 0, blocking = true)]
fn again(_: (), gate: Data<Shared>, ctx: TaskContext) -> TaskResult<u32> {
    gate.pass();
    Ok(ctx.block_on(async { gate.entered() }))
}

#[task_handler("confused", queue = "light", retries = 0)]
async fn confused(_: (), ctx: TaskContext) -> TaskResult {
    ctx.block_on(async {});
    Ok(())
}

#[task_handler("light", queue = "light", retries = 0)]
async fn light(n: u32) -> TaskResult<u32> {
    Ok(n)
}

fn worker(orch: &Orchestrator, gate: &Shared) -> WorkerBuilder {
    Worker::builder(orch.clone())
        .discover(false)
        .lease(LEASE)
        .data(Arc::clone(gate))
        .register::<burn>()
        .register::<stand>()
        .register::<late>()
        .register::<polite>()
        .register::<breaks>()
        .register::<asks>()
        .register::<hangs>()
        .register::<parting>()
        .register::<again>()
        .register::<confused>()
        .register::<light>()
}

fn begin(builder: WorkerBuilder) -> (Stop, tokio::task::JoinHandle<orchestrator_worker::Result>) {
    let stop = Stop::new();
    let worker = builder.build().expect("a fair worker");
    (stop.clone(), tokio::spawn(worker.run_until(stop)))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn computing_on_all_cores_stalls_neither_heartbeats_nor_others() {
    let (orch, gate) = (orch().await, Shared::default());
    let cores = std::thread::available_parallelism().unwrap().get();
    let (stop, running) = begin(worker(&orch, &gate));
    // A second worker looks after silent ones, and has no handler of these types.
    let (other, watching) =
        begin(Worker::builder(orch.clone()).discover(false).lease(LEASE).queues(["idle"]).register::<light>());
    let long = u64::try_from(LEASE.as_millis()).unwrap() * 3 / 2;
    let burning = orch.enqueue_all((0..cores).map(|_| burn::with(long))).await.unwrap();
    let mut done = 0;
    until("the burning tasks to be under way", async || {
        let burns = burning.iter().map(async |task| task.task().await.unwrap().status == Status::InProgress);
        futures::future::join_all(burns).await.into_iter().all(|runs| runs).then_some(())
    })
    .await;
    while burning[0].task().await.unwrap().status == Status::InProgress {
        let task = orch.enqueue(light::with(done)).await.unwrap();
        assert_eq!(within("an async handler", task.result()).await.unwrap(), done);
        done += 1;
    }
    assert!(done > 10, "only {done} async handlers ran beside the blocking ones");
    for task in burning {
        within("the blocking handler", task.result()).await.unwrap();
        let seen = task.task().await.unwrap();
        assert_eq!((seen.attempt, seen.crashes), (1, 0), "nobody took it away");
    }
    stop.drain();
    other.drain();
    running.await.unwrap().unwrap();
    watching.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_more_is_claimed_than_runs_and_as_much_again() {
    let (orch, gate) = (orch().await, Shared::default());
    let (stop, running) = begin(worker(&orch, &gate).blocking_slots(2));
    let tasks = orch.enqueue_all((0..9).map(|_| stand::with(()))).await.unwrap();
    until("two to stand", async || (gate.entered() == 2).then_some(())).await;
    // The other queue is served as before.
    let task = orch.enqueue(light::with(1)).await.unwrap();
    within("an async handler", task.result()).await.unwrap();
    let mut claimed = 0;
    for task in &tasks {
        claimed += u32::from(task.task().await.unwrap().status == Status::InProgress);
    }
    assert_eq!((claimed, gate.entered()), (4, 2));
    gate.open();
    for task in tasks {
        within("the result", task.result()).await.unwrap();
    }
    stop.drain();
    running.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thread_keeps_its_place_after_the_timeout_and_waiting_for_it_does_not_count() {
    let (orch, gate) = (orch().await, Shared::default());
    let (stop, running) = begin(worker(&orch, &gate).blocking_slots(2));
    let first = orch.enqueue(late::with(())).await.unwrap();
    let error = within("the timeout", first.result()).await.unwrap_err().to_string();
    assert!(error.contains("longer than its timeout of 100ms"), "{error}");
    let stands = orch.enqueue(stand::with(())).await.unwrap();
    until("the other place to be taken", async || (gate.entered() == 2).then_some(())).await;
    // It cannot begin while the threads stand there, which is for longer than its own timeout.
    let second = orch.enqueue(late::with(())).await.unwrap();
    until("the second to be claimed", async || {
        (second.task().await.unwrap().status == Status::InProgress).then_some(())
    })
    .await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!((second.task().await.unwrap().status, gate.entered()), (Status::InProgress, 2));
    gate.open();
    within("the second was in time", second.result()).await.unwrap();
    within("the one that stood", stands.result()).await.unwrap();
    assert_eq!(gate.entered(), 3);
    stop.drain();
    running.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thread_is_told_that_its_time_is_over() {
    let (orch, gate) = (orch().await, Shared::default());
    let (stop, running) = begin(worker(&orch, &gate));
    let task = orch.enqueue(late::with(())).await.unwrap();
    within("the timeout", task.result()).await.unwrap_err();
    gate.open();
    until("the thread to see it", async || gate.told.load(Ordering::SeqCst).then_some(())).await;
    stop.drain();
    running.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cancelling_reaches_a_blocking_handler_and_one_that_waits_for_a_thread() {
    let (orch, gate) = (orch().await, Shared::default());
    let (stop, running) = begin(worker(&orch, &gate).blocking_slots(1));
    let runs = orch.enqueue(polite::with(())).await.unwrap();
    until("it to run", async || (gate.entered() == 1).then_some(())).await;
    let waits = orch.enqueue(polite::with(())).await.unwrap();
    until("the other to be claimed", async || (waits.task().await.unwrap().status == Status::InProgress).then_some(()))
        .await;
    for (task, entered) in [(waits, 1), (runs, 1)] {
        orch.cancel(task.id()).await.unwrap();
        within("its end", task.result()).await.unwrap_err();
        assert_eq!((task.task().await.unwrap().status, gate.entered()), (Status::Cancelled, entered));
    }
    stop.drain();
    running.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_is_the_attempts_end_and_not_the_workers() {
    let (orch, gate) = (orch().await, Shared::default());
    let (stop, running) = begin(worker(&orch, &gate).blocking_slots(1));
    for (task, text) in [
        (orch.enqueue(breaks::with(())).await.unwrap().id(), "the handler panicked: boom at 7"),
        (orch.enqueue(confused::with(())).await.unwrap().id(), "write `.await`"),
    ] {
        let error = until("its end", async || orch.get(task).await.unwrap().error).await;
        assert!(error.contains(text), "{error}");
    }
    let task = orch.enqueue(burn::with(1)).await.unwrap();
    assert_eq!(within("the next one", task.result()).await.unwrap(), 1);
    stop.drain();
    running.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn durable_calls_hold_in_a_blocking_handler_and_a_wait_unwinds_its_thread() {
    let (orch, gate) = (orch().await, Shared::default());
    let (stop, running) = begin(worker(&orch, &gate).blocking_slots(1));
    let task = orch.enqueue(asks::with(6)).await.unwrap();
    blocked(&orch, task.id()).await;
    until("the thread to be unwound", async || gate.unwound.load(Ordering::SeqCst).then_some(())).await;
    // Its place is free while it waits.
    let other = orch.enqueue(burn::with(1)).await.unwrap();
    within("another one", other.result()).await.unwrap();
    let approval = task.task().await.unwrap().approval_id.unwrap();
    orch.decide(approval, &Ballot::approve(Approver::named("alice"))).await.unwrap();
    assert_eq!(within("the result", task.result()).await.unwrap(), 7);
    assert_eq!(gate.entered(), 1, "the step was done once");
    let told = all_events(&orch).await;
    assert_eq!(told.iter().filter(|event| event.event_type == "sum.known").count(), 1);
    stop.drain();
    running.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_awaits_for_ever_is_unwound_at_its_timeout() {
    let (orch, gate) = (orch().await, Shared::default());
    let (stop, running) = begin(worker(&orch, &gate).blocking_slots(1));
    let task = orch.enqueue(hangs::with(())).await.unwrap();
    within("the timeout", task.result()).await.unwrap_err();
    until("the thread to be unwound", async || gate.unwound.load(Ordering::SeqCst).then_some(())).await;
    let task = orch.enqueue(burn::with(1)).await.unwrap();
    within("the next one has its place", task.result()).await.unwrap();
    stop.drain();
    running.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn draining_waits_for_what_runs_and_gives_back_what_waits() {
    let (orch, gate) = (orch().await, Shared::default());
    let (stop, running) = begin(worker(&orch, &gate).blocking_slots(1));
    let first = orch.enqueue(stand::with(())).await.unwrap();
    until("it to stand", async || (gate.entered() == 1).then_some(())).await;
    let second = orch.enqueue(stand::with(())).await.unwrap();
    until("the other to be claimed", async || {
        (second.task().await.unwrap().status == Status::InProgress).then_some(())
    })
    .await;
    stop.drain();
    until("the other to be given back", async || {
        (second.task().await.unwrap().status == Status::Assigned).then_some(())
    })
    .await;
    assert!(!running.is_finished());
    gate.open();
    within("the first", first.result()).await.unwrap();
    running.await.unwrap().unwrap();
    let seen = second.task().await.unwrap();
    assert_eq!((seen.status, seen.retry_count, gate.entered()), (Status::Assigned, 0, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_expires_while_it_waits_for_a_thread_is_not_begun() {
    let (orch, gate) = (orch().await, Shared::default());
    let (stop, running) = begin(worker(&orch, &gate).blocking_slots(1));
    let first = orch.enqueue(stand::with(())).await.unwrap();
    until("it to stand", async || (gate.entered() == 1).then_some(())).await;
    let second = orch.enqueue(stand::with(()).expires("2s")).await.unwrap();
    until("the other to be claimed", async || {
        (second.task().await.unwrap().status == Status::InProgress).then_some(())
    })
    .await;
    let expires = second.task().await.unwrap().expires_at.expect("it expires");
    until("its end", async || {
        orch.clock_error().await.unwrap();
        (chrono::Utc::now() > expires + Duration::from_millis(20)).then_some(())
    })
    .await;
    gate.open();
    within("the first", first.result()).await.unwrap();
    let error = within("the second", second.result()).await.unwrap_err().to_string();
    assert!(error.contains("no place was free before it expired"), "{error}");
    let seen = second.task().await.unwrap();
    assert_eq!((seen.status, seen.reason.as_deref(), gate.entered()), (Status::Failed, Some("expired"), 1));
    stop.drain();
    running.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_destructor_may_await_while_its_thread_is_unwound() {
    for panics in [true, false] {
        let (orch, gate) = (orch().await, Shared::default());
        let (stop, running) = begin(worker(&orch, &gate).blocking_slots(1));
        let task = orch.enqueue(parting::with(panics)).await.unwrap();
        within("its end", task.result()).await.unwrap_err();
        until("the destructor to be done", async || gate.told.load(Ordering::SeqCst).then_some(())).await;
        let task = orch.enqueue(burn::with(1)).await.unwrap();
        within("the next one has its place", task.result()).await.unwrap();
        stop.drain();
        running.await.unwrap().unwrap();
    }
}

/// Leaves its first call of a handler that stands, and calls it again.
#[derive(Clone)]
struct Impatient(Shared);

#[derive(Clone)]
struct Recalls(HandlerService, Shared);

impl Layer<HandlerService> for Impatient {
    type Service = Recalls;

    fn layer(&self, inner: HandlerService) -> Recalls {
        Recalls(inner, Arc::clone(&self.0))
    }
}

impl Service<TaskContext> for Recalls {
    type Response = Output;
    type Error = HandlerError;
    type Future = BoxFuture<'static, Result<Output, HandlerError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), HandlerError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, ctx: TaskContext) -> Self::Future {
        let Self(mut inner, gate) = self.clone();
        Box::pin(async move {
            if ctx.task_type() != "again" {
                return inner.call(ctx).await;
            }
            tokio::select! {
                ended = inner.call(ctx.clone()) => return ended,
                () = until("the first call to stand", async || (gate.entered() == 1).then_some(())) => {}
            }
            let mut second = inner.call(ctx);
            assert!(futures::poll!(&mut second).is_pending());
            gate.told.store(true, Ordering::SeqCst);
            second.await
        })
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_layer_that_calls_again_gets_its_turn_when_the_first_thread_has_returned() {
    let (orch, gate) = (orch().await, Shared::default());
    let (stop, running) = begin(worker(&orch, &gate).blocking_slots(2).layer(Impatient(Arc::clone(&gate))));
    let task = orch.enqueue(again::with(())).await.unwrap();
    until("the second call", async || gate.told.load(Ordering::SeqCst).then_some(())).await;
    // A place is free, as another task shows.
    let other = orch.enqueue(burn::with(1)).await.unwrap();
    within("another one", other.result()).await.unwrap();
    assert_eq!(gate.entered(), 1, "two runs of one task at once");
    gate.open();
    assert_eq!(within("the second call's result", task.result()).await.unwrap(), 2);
    assert_eq!(task.task().await.unwrap().attempt, 1);
    stop.drain();
    running.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_layer_that_calls_again_while_the_worker_drains_has_its_call() {
    let (orch, gate) = (orch().await, Shared::default());
    let (stop, running) = begin(worker(&orch, &gate).blocking_slots(3).layer(Impatient(Arc::clone(&gate))));
    let task = orch.enqueue(again::with(())).await.unwrap();
    until("the second call", async || gate.told.load(Ordering::SeqCst).then_some(())).await;
    // Two of them take the other places, and one waits.
    let mut others = Vec::new();
    for _ in 0..3 {
        others.push(orch.enqueue(stand::with(())).await.unwrap());
    }
    let all_but = async |assigned: usize| {
        let mut count = 0;
        for other in &others {
            count += usize::from(other.task().await.unwrap().status == Status::Assigned);
        }
        (count == assigned && gate.entered() == 3).then_some(())
    };
    until("all to be claimed", async || all_but(0).await).await;
    stop.drain();
    until("one to be given back", async || all_but(1).await).await;
    gate.open();
    assert_eq!(within("the second call's result", task.result()).await.unwrap(), 4);
    running.await.unwrap().unwrap();
}
