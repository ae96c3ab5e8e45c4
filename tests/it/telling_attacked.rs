//! What is told and waited for when branches change, answers are lost, clocks lie and much comes at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use orchestrator::{Config, NewEvent, NewTask, Orchestrator, Status, TaskHandle, TaskId};
use orchestrator_tests::{Proxy, Server, all_events, blocked, config, key, orch, raw, server, until, within};
use orchestrator_worker::{Data, Running, TaskContext, TaskError, TaskResult, Worker, WorkerBuilder, task_handler};
use redis::AsyncCommands;
use tokio::sync::Notify;

/// What handlers and their test share.
#[derive(Default)]
struct Stage {
    gates: [Notify; 2],
    work: AtomicU32,
}

type Shared = Data<Arc<Stage>>;

async fn nothing() -> TaskResult {
    Ok(())
}

#[task_handler("inner", queue = "h", crate = "orchestrator_worker")]
async fn inner(_: (), ctx: TaskContext) -> TaskResult {
    let step = ctx.step("build", || async { ctx.publish("built.one", &1).await.map(drop) });
    step.await?;
    // Entered anew, the step's work does not run, nor does it tell.
    ctx.sleep("10ms").await;
    ctx.publish("shipped.two", &2).await?;
    Ok(())
}

#[task_handler("branch", queue = "h", retries = 1, backoff = "fixed(10ms)", crate = "orchestrator_worker")]
async fn branch(_: (), ctx: TaskContext) -> TaskResult {
    if ctx.attempt() == 1 {
        ctx.publish("first.attempt", &1).await?;
    }
    ctx.step("one", nothing).await?;
    if ctx.attempt() == 1 {
        return Err("once more".into());
    }
    ctx.publish("second.attempt", &2).await?;
    Ok(())
}

#[task_handler("side", queue = "h", retries = 1, backoff = "fixed(10ms)", crate = "orchestrator_worker")]
async fn side(_: (), stage: Shared, ctx: TaskContext) -> TaskResult {
    let a = async {
        let gate = || async {
            stage.gates[0].notified().await;
            Ok::<_, TaskError>(())
        };
        ctx.step("a", gate).await?;
        if ctx.attempt() == 1 {
            return Err(TaskError::from("it broke"));
        }
        ctx.publish("told.a", &()).await
    };
    let b = async {
        ctx.step("b", nothing).await?;
        ctx.publish("told.b", &()).await?;
        ctx.step("c", nothing).await?;
        stage.gates[0].notify_one();
        TaskResult::Ok(())
    };
    let (a, b) = tokio::join!(a, b);
    a?;
    b
}

#[task_handler("much", queue = "h", retries = 0, crate = "orchestrator_worker")]
async fn much(_: (), ctx: TaskContext) -> TaskResult {
    let ctx = &ctx;
    let tell = |name: String| async move {
        for n in 0..100 {
            ctx.publish("much.told", &n).await?;
        }
        ctx.step(&name, nothing).await
    };
    for round in 0..9 {
        tell(format!("round {round}")).await?;
    }
    // More than a journal takes, and three times as much as a note takes.
    tokio::try_join!(tell("a".into()), tell("b".into()), tell("c".into())).map(drop)
}

#[task_handler("idle", queue = "h", crate = "orchestrator_worker")]
async fn idle(_: (), _ctx: TaskContext) -> TaskResult {
    Ok(())
}

#[task_handler("own-end", queue = "h", crate = "orchestrator_worker")]
async fn own_end(_: (), ctx: TaskContext) -> TaskResult {
    ctx.publish("was.told", &()).await?;
    let _ = ctx.orchestrator().cancel(ctx.task_id()).await;
    ctx.sleep("1h").await;
    Ok(())
}

#[task_handler("dropped", queue = "h", retries = 0, crate = "orchestrator_worker")]
async fn dropped(_: (), stage: Shared, ctx: TaskContext) -> TaskResult {
    ctx.publish("was.told", &()).await?;
    tokio::select! {
        _ = async { ctx.step("a", nothing).await } => {}
        () = stage.gates[0].notified() => {}
    }
    stage.gates[1].notified().await;
    ctx.step("b", nothing).await
}

#[task_handler("ending", queue = "h", crate = "orchestrator_worker")]
async fn ending(about: String, ctx: TaskContext) -> TaskResult {
    ctx.publish_event(NewEvent::new("x.y", &1).key(&about)).await.map(drop)
}

#[task_handler("one", queue = "h", crate = "orchestrator_worker")]
async fn one(about: String, ctx: TaskContext) -> TaskResult<u32> {
    Ok(ctx.wait_event("x.y").key(&about).timeout("1h").await?)
}

#[task_handler("either", queue = "h", retries = 0, crate = "orchestrator_worker")]
async fn either(_: (), ctx: TaskContext) -> TaskResult {
    let good = ctx.wait_event::<u32>("x.good").timeout("10ms");
    let bad = ctx.wait_event::<u32>("x.bad").timeout("10ms");
    tokio::select! {
        _ = async { good.await } => Ok(()),
        _ = async { bad.await } => Ok(()),
    }
}

#[task_handler("within", queue = "h", retries = 0, crate = "orchestrator_worker")]
async fn waits_within(_: (), ctx: TaskContext) -> TaskResult<u32> {
    let step = ctx.step("all", || async { Ok::<u32, TaskError>(ctx.wait_event("x.y").key("k").await?) });
    step.await
}

#[task_handler("given-up", queue = "h", retries = 0, crate = "orchestrator_worker")]
async fn given_up(_: (), stage: Shared, ctx: TaskContext) -> TaskResult {
    tokio::select! {
        biased;
        _ = async { ctx.wait_event::<()>("x.y").timeout("10ms").await } => {}
        () = std::future::ready(()) => {}
    }
    let step = ctx.step("work", || async {
        stage.work.fetch_add(1, Ordering::SeqCst);
        // Until the worker has looked at all that it has to do.
        ctx.orchestrator().enqueue(idle::with(())).await?.result().await.map_err(TaskError::from)
    });
    step.await
}

#[task_handler("failing", queue = "quiet", retries = 0, crate = "orchestrator_worker")]
async fn failing(_: (), _ctx: TaskContext) -> TaskResult {
    Err("no".into())
}

fn builder(orch: &Orchestrator, stage: &Arc<Stage>) -> WorkerBuilder {
    let builder = Worker::builder(orch.clone()).discover(false).data(Arc::clone(stage));
    let builder = builder.register::<inner>().register::<branch>().register::<side>().register::<much>();
    let builder = builder.register::<idle>().register::<own_end>().register::<dropped>().register::<ending>();
    let builder = builder.register::<one>().register::<either>().register::<waits_within>();
    builder.register::<given_up>().register::<failing>()
}

fn worker(orch: &Orchestrator) -> (Arc<Stage>, Running) {
    let stage = Arc::default();
    let running = builder(orch, &stage).build().unwrap().start();
    (stage, running)
}

/// The types of what handlers told, in order.
async fn told(orch: &Orchestrator) -> Vec<String> {
    let types = all_events(orch).await.into_iter().map(|event| event.event_type);
    types.filter(|event_type| !event_type.starts_with("task.")).collect()
}

async fn tell(orch: &Orchestrator, n: u32) {
    orch.publish(&NewEvent::new("x.y", &n).key("k")).await.unwrap();
}

/// A task that waits for `x.y` about `k`.
async fn waiting(orch: &Orchestrator) -> TaskHandle<u32> {
    let task = orch.enqueue(one::with("k".into())).await.unwrap();
    blocked(orch, task.id()).await;
    task
}

#[tokio::test]
async fn what_is_told_behind_a_step_that_told_something_is_told_as_well() {
    let orch = orch().await;
    let (_, running) = worker(&orch);
    within("the end", orch.enqueue(inner::with(())).await.unwrap().result()).await.unwrap();
    assert_eq!(told(&orch).await, ["built.one", "shipped.two"]);
    running.stop().await.unwrap();
}

#[tokio::test]
async fn what_another_branch_tells_is_told_as_well() {
    let orch = orch().await;
    let (_, running) = worker(&orch);
    within("the end", orch.enqueue(branch::with(())).await.unwrap().result()).await.unwrap();
    assert_eq!(told(&orch).await, ["first.attempt", "second.attempt"]);
    running.stop().await.unwrap();
}

#[tokio::test]
async fn of_two_branches_side_by_side_each_tells_its_own_once() {
    let orch = orch().await;
    let (_, running) = worker(&orch);
    within("the end", orch.enqueue(side::with(())).await.unwrap().result()).await.unwrap();
    assert_eq!(told(&orch).await, ["told.b", "told.a"]);
    running.stop().await.unwrap();
}

#[tokio::test]
async fn a_task_that_tells_more_than_is_kept_fails_and_holds_up_nobody() {
    let orch = orch().await;
    let (_, running) = worker(&orch);
    let task = orch.enqueue(much::with(())).await.unwrap();
    within("the end", task.result()).await.unwrap_err();
    assert_eq!(orch.get(task.id()).await.unwrap().reason.as_deref(), Some("journal"));
    within("another task", orch.enqueue(idle::with(())).await.unwrap().result()).await.unwrap();
    running.stop().await.unwrap();
}

#[tokio::test]
async fn what_a_task_told_before_it_was_cancelled_is_told_though_it_was_about_to_wait() {
    let orch = orch().await;
    let (_, running) = worker(&orch);
    let tasks = orch.enqueue_all((0..30).map(|_| own_end::with(()))).await.unwrap();
    for task in &tasks {
        within("the end", task.result()).await.unwrap_err();
    }
    assert_eq!(told(&orch).await, ["was.told"; 30]);
    running.stop().await.unwrap();
}

#[tokio::test]
async fn what_a_step_told_that_was_given_up_on_is_told_once_however_late_it_is_sent_again() {
    let line = Proxy::before(server::shared());
    let orch = Orchestrator::with_config(Config { url: line.url(), ..config() }).await.unwrap();
    let (stage, running) = worker(&orch);
    let giving_up = Arc::clone(&stage);
    line.cut("journal", move |_| {
        giving_up.gates[0].notify_one();
        true
    });
    let task = orch.enqueue(dropped::with(())).await.unwrap();
    line.struck(1).await;
    // As after two minutes, when ids of events are forgotten.
    raw().await.del::<_, ()>(key(&orch, "x")).await.unwrap();
    stage.gates[1].notify_one();
    within("the end", task.result()).await.unwrap();
    assert_eq!(told(&orch).await, ["was.told"]);
    running.stop().await.unwrap();
}

#[tokio::test]
async fn whoever_waits_is_woken_though_the_names_of_the_hour_are_spoilt() {
    let orch = orch().await;
    let (_, running) = worker(&orch);
    let task = waiting(&orch).await;
    let hour = chrono::Utc::now().timestamp() / 3600;
    for hour in [hour, hour + 1] {
        raw().await.set::<_, _, ()>(key(&orch, &format!("v{hour}")), "junk").await.unwrap();
    }
    within("the teller", orch.enqueue(ending::with("k".into())).await.unwrap().result()).await.unwrap();
    assert_eq!(within("the event", task.result()).await.unwrap(), 1);
    running.stop().await.unwrap();
}

#[tokio::test]
async fn whoever_waits_is_woken_though_the_hour_has_no_room_for_another_name() {
    let orch = Orchestrator::with_config(Config { events_max: 200, ..config() }).await.unwrap();
    let (_, running) = worker(&orch);
    let task = waiting(&orch).await;
    let others: Vec<_> = (0..200).map(|n| NewEvent::new("other.thing", &n).key(&n.to_string())).collect();
    for some in others.chunks(100) {
        orch.publish_all(some).await.unwrap();
    }
    tell(&orch, 7).await;
    assert_eq!(within("the event", task.result()).await.unwrap(), 7);
    running.stop().await.unwrap();
}

#[tokio::test]
async fn whoever_waits_is_woken_though_the_clock_of_redis_went_back() {
    let orch = orch().await;
    let (_, running) = worker(&orch);
    let task = waiting(&orch).await;
    // Ids of the stream never go back.
    let ahead = chrono::Utc::now() + chrono::Duration::hours(2);
    let mut set = redis::cmd("XSETID");
    set.arg(key(&orch, "e")).arg(format!("{}-0", ahead.timestamp_millis()));
    set.query_async::<()>(&mut raw().await).await.unwrap();
    tell(&orch, 7).await;
    assert_eq!(within("the event", task.result()).await.unwrap(), 7);
    running.stop().await.unwrap();
}

#[tokio::test]
async fn a_task_whose_id_is_ahead_of_the_clock_hears_what_is_told_while_it_waits() {
    let orch = orch().await;
    let (_, running) = worker(&orch);
    let ahead = format!("{:012x}", (chrono::Utc::now() + chrono::Duration::seconds(30)).timestamp_millis());
    let some = orch.enqueue(NewTask::<()>::new("faq", &1)).await.unwrap().id().to_string();
    let id: TaskId = format!("{}-{}{}", &ahead[..8], &ahead[8..], &some[13..]).parse().unwrap();
    let task = orch.enqueue(one::with("k".into()).id(id)).await.unwrap();
    blocked(&orch, id).await;
    tell(&orch, 7).await;
    assert_eq!(within("the event", task.result()).await.unwrap(), 7);
    running.stop().await.unwrap();
}

#[tokio::test]
async fn waits_that_are_begun_in_another_order_are_no_change_of_the_handler() {
    let orch = orch().await;
    let (_, running) = worker(&orch);
    // `select!` begins with either.
    for task in orch.enqueue_all((0..20).map(|_| either::with(()))).await.unwrap() {
        within("the end", task.result()).await.unwrap();
    }
    running.stop().await.unwrap();
}

#[tokio::test]
async fn a_wait_within_a_step_fails_at_once() {
    let orch = orch().await;
    let (_, running) = worker(&orch);
    let task = orch.enqueue(waits_within::with(())).await.unwrap();
    let error = within("the failure", task.result()).await.unwrap_err().to_string();
    assert!(error.contains("within the step `all` nothing can be waited for"), "{error}");
    assert_eq!(orch.get(task.id()).await.unwrap().reason.as_deref(), Some("step"));
    running.stop().await.unwrap();
}

#[tokio::test]
async fn what_was_told_before_a_task_was_created_is_not_what_it_waits_for() {
    let orch = orch().await;
    tell(&orch, 1).await;
    let at = all_events(&orch).await[0].timestamp;
    until("that is the past", async || (chrono::Utc::now() - at > chrono::Duration::milliseconds(100)).then_some(()))
        .await;
    let (_, running) = worker(&orch);
    let task = waiting(&orch).await;
    tell(&orch, 2).await;
    assert_eq!(within("the event", task.result()).await.unwrap(), 2);
    running.stop().await.unwrap();
}

#[tokio::test]
async fn a_thousand_tasks_wait_for_one_event_and_no_call_takes_long() {
    let server = Server::start(&["--slowlog-log-slower-than", "100000"]);
    let orch = Orchestrator::with_config(Config { url: server.url(), ..config() }).await.unwrap();
    let running = builder(&orch, &Arc::default()).slots(100).build().unwrap().start();
    let tasks = orch.enqueue_all((0..1000).map(|_| one::with("k".into()))).await.unwrap();
    let mut link = server.raw().await;
    for task in &tasks {
        blocked(&orch, task.id()).await;
    }
    redis::cmd("SLOWLOG").arg("RESET").query_async::<()>(&mut link).await.unwrap();
    tell(&orch, 7).await;
    for task in &tasks {
        assert_eq!(within("the event", task.result()).await.unwrap(), 7);
    }
    let slow: u64 = redis::cmd("SLOWLOG").arg("LEN").query_async(&mut link).await.unwrap();
    assert_eq!(slow, 0, "calls that took more than 100 ms");
    running.stop().await.unwrap();
}

#[tokio::test]
async fn a_wait_that_was_given_up_on_cuts_no_work_off() {
    let orch = orch().await;
    let (stage, running) = worker(&orch);
    within("the end", orch.enqueue(given_up::with(())).await.unwrap().result()).await.unwrap();
    assert_eq!(stage.work.load(Ordering::SeqCst), 1);
    running.stop().await.unwrap();
}

#[tokio::test]
async fn a_task_of_a_quiet_queue_stays_quiet_when_it_is_retried_by_hand() {
    let orch = orch().await;
    orch.set_queue_events("quiet", false).await.unwrap();
    let (_, running) = worker(&orch);
    let task = orch.enqueue(failing::with(())).await.unwrap();
    within("the end", task.result()).await.unwrap_err();
    orch.retry(task.id()).await.unwrap();
    until("it failed again", async || (orch.get(task.id()).await.unwrap().status == Status::Failed).then_some(()))
        .await;
    assert_eq!(all_events(&orch).await, []);
    running.stop().await.unwrap();
}
