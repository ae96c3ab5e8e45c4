//! What handlers tell is told with what they note, and once; what they wait for is found, whenever it came.

use std::sync::Arc;

use orchestrator::{BlockedOn, Config, Event, NewEvent, NewTask, Orchestrator, Status, TaskId};
use orchestrator_tests::{Proxy, all_events, blocked, config, key, orch, raw, server, until, within};
use orchestrator_worker::testing::{Harness, Solo};
use orchestrator_worker::{Data, TaskContext, TaskError, TaskResult, Worker, payload, task_handler};
use redis::AsyncCommands;
use serde_json::{Value, json};
use tokio::sync::Notify;

#[payload]
struct Plan {
    /// What the handler does after it has told of its beginning.
    then: String,
    key: String,
}

fn plan(then: &str, key: &str) -> Plan {
    Plan { then: then.into(), key: key.into() }
}

#[task_handler("teller", queue = "teller", retries = 1, backoff = "fixed(10ms)", crate = "orchestrator_worker")]
async fn teller(plan: Plan, gate: Data<Arc<Notify>>, ctx: TaskContext) -> TaskResult<Vec<String>> {
    let mut told = vec![ctx.publish("teller.began", &json!({"attempt": ctx.attempt()})).await?];
    match plan.then.as_str() {
        "hold" => gate.notified().await,
        "fail once" if ctx.attempt() == 1 => return Err("the first attempt".into()),
        "fail" => return Err(TaskError::fatal("for good")),
        "steps" => {
            let step = ctx.step("one", || async { Ok::<_, TaskError>(1) });
            step.await?;
            told.push(ctx.publish("teller.stepped", &()).await?);
            ctx.sleep("10ms").await;
            told.push(ctx.publish("teller.slept", &()).await?);
            if ctx.attempt() == 1 {
                return Err("after the sleep".into());
            }
        }
        "wrong" => {
            ctx.publish("Wrong", &()).await?;
        }
        "much" => {
            for n in 0..100 {
                ctx.publish("teller.more", &n).await?;
            }
        }
        _ => {}
    }
    ctx.publish_event(NewEvent::new("teller.ends", &()).key(&plan.key)).await?;
    Ok(told)
}

#[payload]
struct Smoke {
    green: bool,
}

#[task_handler("waiter", queue = "waiter", crate = "orchestrator_worker")]
async fn waiter(plan: Plan, ctx: TaskContext) -> TaskResult<Vec<bool>> {
    let mut found = Vec::new();
    let timeout = if plan.then == "soon" { "50ms" } else { "1h" };
    let first = ctx.wait_event::<Smoke>("smoke.done").key(&plan.key).timeout(timeout).await;
    match (plan.then.as_str(), first) {
        (_, Ok(smoke)) => found.push(smoke.green),
        ("soon", Err(_)) => return Ok(found),
        (_, Err(error)) => Err(error)?,
    }
    if plan.then == "twice" {
        let second = ctx.wait_event::<Smoke>("smoke.done").key(&plan.key).told().await?;
        assert_eq!(second.key.as_deref(), Some(plan.key.as_str()));
        found.push(second.payload.green);
    }
    Ok(found)
}

#[task_handler("mine", queue = "waiter", crate = "orchestrator_worker")]
async fn mine(_: (), ctx: TaskContext) -> TaskResult<u32> {
    Ok(ctx.wait_event("number.given").await?)
}

fn worker(orch: &Orchestrator) -> (Arc<Notify>, orchestrator_worker::Running) {
    let gate = Arc::new(Notify::new());
    let builder = Worker::builder(orch.clone()).discover(false).data(Arc::clone(&gate));
    let worker = builder.register::<teller>().register::<waiter>().register::<mine>().build().unwrap();
    (gate, worker.start())
}

/// All events about a task, in order.
async fn about(orch: &Orchestrator, task: TaskId) -> Vec<Event> {
    all_events(orch).await.into_iter().filter(|event| event.task_id == Some(task)).collect()
}

fn types(events: &[Event]) -> Vec<&str> {
    events.iter().map(|event| event.event_type.as_str()).collect()
}

#[tokio::test]
async fn what_a_handler_tells_is_there_when_its_task_has_ended_and_not_before() {
    let orch = orch().await;
    let (gate, running) = worker(&orch);
    let task = orch.enqueue(teller::with(plan("hold", "k"))).await.unwrap();
    until("it runs", async || (orch.get(task.id()).await.unwrap().status == Status::InProgress).then_some(())).await;
    assert_eq!(types(&about(&orch, task.id()).await), ["task.created", "task.started"]);
    gate.notify_one();
    let told = within("the result", task.result()).await.unwrap();
    let events = about(&orch, task.id()).await;
    assert_eq!(
        types(&events),
        ["task.created", "task.started", "teller.began", "teller.ends", "task.completed"],
        "what was told comes before the end"
    );
    assert_eq!((events[2].event_id.as_str(), events[2].source_agent.as_str()), (told[0].as_str(), "teller"));
    assert_eq!(events[2].trace_id, orch.get(task.id()).await.unwrap().trace_id);
    assert_eq!(events[3].key.as_deref(), Some("k"));
    running.stop().await.unwrap();
}

#[tokio::test]
async fn an_attempt_that_is_tried_again_tells_nothing_and_one_that_failed_for_good_does() {
    let orch = orch().await;
    let (_, running) = worker(&orch);
    let task = orch.enqueue(teller::with(plan("fail once", "k"))).await.unwrap();
    within("the result", task.result()).await.unwrap();
    let told: Vec<Value> = about(&orch, task.id())
        .await
        .into_iter()
        .filter(|event| event.event_type == "teller.began")
        .map(|event| event.payload)
        .collect();
    assert_eq!(told, [json!({"attempt": 2})]);
    for (then, text) in [("fail", "for good"), ("wrong", "is no event type"), ("much", "at most 100 events")] {
        let task = orch.enqueue(teller::with(plan(then, "k"))).await.unwrap();
        let error = within("the failure", task.result()).await.expect_err(then).to_string();
        assert!(error.contains(text), "{error}");
        let events = about(&orch, task.id()).await;
        let began = events.iter().filter(|event| event.event_type == "teller.began").count();
        assert_eq!((began, types(&events).last().copied()), (1, Some("task.failed")), "{then}");
    }
    running.stop().await.unwrap();
}

#[tokio::test]
async fn what_is_told_between_steps_and_waits_is_told_once_however_often_the_handler_is_entered() {
    let orch = orch().await;
    let (_, running) = worker(&orch);
    let task = orch.enqueue(teller::with(plan("steps", "k"))).await.unwrap();
    let told = within("the result", task.result()).await.unwrap();
    let events = about(&orch, task.id()).await;
    let ours: Vec<&Event> = events.iter().filter(|event| event.event_type.starts_with("teller.")).collect();
    let names: Vec<&str> = ours.iter().map(|event| event.event_type.as_str()).collect();
    assert_eq!(names, ["teller.began", "teller.stepped", "teller.slept", "teller.ends"]);
    let ids: Vec<&str> = ours.iter().take(3).map(|event| event.event_id.as_str()).collect();
    assert_eq!(ids, told, "every attempt was told the same ids");
    assert_eq!(ours[0].payload, json!({"attempt": 1}), "the first attempt's step took it along");
    let order: Vec<&str> = types(&events).into_iter().filter(|name| *name != "task.retrying").collect();
    let at = |name: &str| order.iter().position(|one| *one == name);
    assert!(at("teller.stepped") < at("task.blocked") && at("task.blocked") < at("teller.slept"), "{order:?}");
    running.stop().await.unwrap();
}

#[tokio::test]
async fn a_wait_holds_nothing_and_is_over_when_the_event_is_told() {
    let orch = orch().await;
    let (_, running) = worker(&orch);
    let tasks = orch
        .enqueue_all((0..3).map(|n| waiter::with(plan("once", if n < 2 { "sha 1" } else { "sha 2" }))))
        .await
        .unwrap();
    for task in &tasks {
        blocked(&orch, task.id()).await;
    }
    let waiting = orch.get(tasks[0].id()).await.unwrap();
    assert_eq!(waiting.blocked_on, Some(BlockedOn::Event));
    assert!(waiting.blocked_until.is_some_and(|until| until > chrono::Utc::now() + chrono::Duration::minutes(50)));
    orch.publish(&NewEvent::new("smoke.done", &json!({"green": true})).key("sha 3")).await.unwrap();
    orch.publish(&NewEvent::new("smoke.began", &json!({"green": true})).key("sha 1")).await.unwrap();
    orch.publish(&NewEvent::new("smoke.done", &json!({"green": true})).key("sha 1")).await.unwrap();
    for task in &tasks[..2] {
        assert_eq!(within("the event", task.result()).await.unwrap(), [true]);
    }
    assert_eq!(orch.get(tasks[2].id()).await.unwrap().status, Status::Blocked);
    // Cancelled while it waits: nobody waits any more.
    orch.cancel(tasks[2].id()).await.unwrap();
    let waiters: Vec<String> = raw().await.hkeys(key(&orch, "O")).await.unwrap();
    assert_eq!(waiters, [""; 0]);
    running.stop().await.unwrap();
}

#[tokio::test]
async fn an_event_that_came_before_the_wait_is_found_and_each_only_once() {
    let orch = orch().await;
    let task = orch.enqueue(waiter::with(plan("twice", "sha"))).await.unwrap();
    orch.publish(&NewEvent::new("smoke.done", &json!({"green": true})).key("sha")).await.unwrap();
    let (_, running) = worker(&orch);
    until("the second wait", async || {
        let journal = orch.journal(task.id()).await.unwrap();
        (journal.len() == 2 && journal[0].state.starts_with("found")).then_some(())
    })
    .await;
    blocked(&orch, task.id()).await;
    orch.publish(&NewEvent::new("smoke.done", &json!({"green": false})).key("sha")).await.unwrap();
    assert_eq!(within("both events", task.result()).await.unwrap(), [true, false]);
    // Named by the task itself.
    let task = orch.enqueue(mine::with(())).await.unwrap();
    orch.publish(&NewEvent::new("number.given", &7).task(task.id())).await.unwrap();
    assert_eq!(within("the number", task.result()).await.unwrap(), 7);
    running.stop().await.unwrap();
}

#[tokio::test]
async fn a_handler_wakes_another_with_its_step_its_wait_or_its_end() {
    let orch = orch().await;
    let (_, running) = worker(&orch);
    let waiting = orch.enqueue(mine::with(())).await.unwrap();
    blocked(&orch, waiting.id()).await;
    let event = NewEvent::new("number.given", &1).task(waiting.id());
    orch.publish_all(&[event.clone(), NewEvent::new("other.thing", &())]).await.unwrap();
    assert_eq!(within("the number", waiting.result()).await.unwrap(), 1);

    #[task_handler("giver", queue = "giver", crate = "orchestrator_worker")]
    async fn giver(whom: (TaskId, u8), ctx: TaskContext) -> TaskResult {
        let told = ctx.publish_event(NewEvent::new("number.given", &whom.1).task(whom.0));
        told.await?;
        match whom.1 {
            2 => ctx.step("take along", || async { Ok::<_, TaskError>(()) }).await?,
            3 => ctx.sleep("1h").await,
            _ => {}
        }
        std::future::pending::<()>().await;
        Ok(())
    }
    let givers = Worker::builder(orch.clone()).discover(false).register::<giver>().build().unwrap().start();
    for n in [2, 3] {
        let waiting = orch.enqueue(mine::with(())).await.unwrap();
        blocked(&orch, waiting.id()).await;
        let giver = orch.enqueue(giver::with((waiting.id(), n))).await.unwrap();
        assert_eq!(within("the number", waiting.result()).await.unwrap(), u32::from(n));
        orch.cancel(giver.id()).await.unwrap();
    }
    for running in [running, givers] {
        running.stop().await.unwrap();
    }
}

#[tokio::test]
async fn a_wait_that_is_in_vain_ends_when_its_time_is_over() {
    let orch = orch().await;
    let (_, running) = worker(&orch);
    let task = orch.enqueue(waiter::with(plan("soon", "never"))).await.unwrap();
    assert_eq!(within("the end of the wait", task.result()).await.unwrap(), [false; 0]);
    let waiters: u64 = raw().await.hlen(key(&orch, "O")).await.unwrap();
    assert_eq!(waiters, 0);
    running.stop().await.unwrap();
}

#[tokio::test]
async fn a_quiet_queue_tells_nothing_of_its_tasks_and_they_are_listed_all_the_same() {
    let orch = orch().await;
    let (_, running) = worker(&orch);
    assert!(orch.set_queue_events("teller", false).await.unwrap());
    assert!(!orch.set_queue_events("teller", false).await.unwrap(), "it was quiet already");
    let plans = ["", "steps", "fail"].map(|then| teller::with(plan(then, "k")));
    let tasks = orch.enqueue_all(plans).await.unwrap();
    for task in &tasks {
        let _ = within("the end", task.result()).await;
        let events = about(&orch, task.id()).await;
        assert!(events.iter().all(|event| event.event_type.starts_with("teller.")), "{:?}", types(&events));
        assert!(!events.is_empty(), "what a handler tells is told");
    }
    let page = orch.list(&orchestrator::TaskFilter::default(), None, 10).await.unwrap();
    let mut listed: Vec<TaskId> = page.tasks.iter().map(|task| task.task_id).collect();
    let mut all: Vec<TaskId> = tasks.iter().map(orchestrator::TaskHandle::id).collect();
    listed.sort_unstable();
    all.sort_unstable();
    assert_eq!(listed, all);
    let loud = orch.enqueue(NewTask::<()>::new("waiter", &plan("once", "k")).queue("waiter")).await.unwrap();
    orch.set_queue_events("teller", true).await.unwrap();
    let again = orch.enqueue(teller::with(plan("", "k"))).await.unwrap();
    within("the end", again.result()).await.unwrap();
    assert_eq!(types(&about(&orch, again.id()).await).first(), Some(&"task.created"));
    blocked(&orch, loud.id()).await;
    assert_eq!(types(&about(&orch, loud.id()).await), ["task.created", "task.started", "task.blocked"]);
    running.stop().await.unwrap();
}

#[tokio::test]
async fn the_test_kit_tells_and_hears_events() {
    let solo = Solo::new().register::<waiter>();
    let solo = solo.tell(NewEvent::new("smoke.done", &json!({"green": true})).key("sha"));
    assert_eq!(solo.run(waiter::with(plan("once", "sha"))).await.as_deref(), Ok(&[true][..]));
    let ended = Solo::new().register::<waiter>().run(waiter::with(plan("once", "sha"))).await.unwrap_err();
    assert_eq!(
        (ended.reason.as_str(), ended.error.as_str()),
        ("timeout", "no event smoke.done about sha was told in time")
    );
    let solo = Solo::new().data(Arc::new(Notify::new())).register::<teller>();
    solo.run(teller::with(plan("steps", "k"))).await.unwrap();
    assert_eq!(types(&solo.events()), ["teller.began", "teller.stepped", "teller.slept", "teller.ends"]);

    let harness = Harness::start().await;
    harness.register::<waiter>();
    let task = harness.enqueue(waiter::with(plan("once", "sha"))).await;
    harness.until_parked(&task).await;
    harness.advance("59m").await;
    assert_eq!(harness.task(&task).await.status, Status::Blocked);
    harness.orchestrator().publish(&NewEvent::new("smoke.done", &json!({"green": false})).key("sha")).await.unwrap();
    harness.drain().await;
    assert_eq!(harness.output::<Vec<bool>>(&task).await, [false]);
    let late = harness.enqueue(waiter::with(plan("once", "sha 2"))).await;
    harness.until_parked(&late).await;
    harness.advance("61m").await;
    assert_eq!(harness.task(&late).await.reason.as_deref(), Some("timeout"));
}

#[task_handler("sweep", queue = "sweep", retries = 3, backoff = "fixed(10ms)", crate = "orchestrator_worker")]
async fn sweep(_: (), ctx: TaskContext) -> TaskResult<bool> {
    ctx.publish("sweep.began", &()).await?;
    ctx.step("work", || async { Ok::<_, TaskError>(()) }).await?;
    ctx.publish("sweep.worked", &()).await?;
    let smoke = ctx.wait_event::<Smoke>("smoke.done").timeout("1h").await?;
    ctx.publish("sweep.waited", &()).await?;
    Ok(smoke.green)
}

#[orchestrator_worker::test]
async fn wherever_the_worker_dies_each_event_is_told_once_and_the_one_awaited_is_found(h: Harness) {
    h.register::<sweep>();
    let sweep = h.crash_everywhere(
        || sweep::with(()),
        |run| async move {
            let (h, task) = (run.harness(), run.id());
            h.drain().await;
            h.orchestrator().publish(&NewEvent::new("smoke.done", &json!({"green": true})).task(task)).await.unwrap();
            h.drain().await;
            let told = about(h.orchestrator(), task).await;
            let ours: Vec<&str> = types(&told).into_iter().filter(|name| name.starts_with("sweep.")).collect();
            assert_eq!(ours, ["sweep.began", "sweep.worked", "sweep.waited"]);
            assert_eq!(run.finish().await, Ok(true));
        },
    );
    let sweep = sweep.await;
    assert!(sweep.points >= 4, "{sweep:?}");
}

#[tokio::test]
async fn a_lost_answer_tells_nothing_twice() {
    let line = Proxy::before(server::shared());
    let orch = Orchestrator::with_config(Config { url: line.url(), ..config() }).await.unwrap();
    let (_, running) = worker(&orch);
    for (struck, script) in ["journal", "park", "step"].into_iter().enumerate() {
        // The step that ends the task, not one that claims.
        line.cut(script, move |exchange| script != "step" || exchange.item(3).is_empty());
        let task = orch.enqueue(teller::with(plan("steps", "k"))).await.unwrap();
        within("the result", task.result()).await.unwrap();
        within("the cut", line.struck(struck + 1)).await;
        let events = about(&orch, task.id()).await;
        let ours: Vec<&str> = types(&events).into_iter().filter(|name| name.starts_with("teller.")).collect();
        assert_eq!(ours, ["teller.began", "teller.stepped", "teller.slept", "teller.ends"], "{script}");
    }
    running.stop().await.unwrap();
}

#[tokio::test]
async fn a_manual_retry_waits_anew_for_what_did_not_come() {
    let orch = orch().await;
    let task = orch.enqueue(brief::with(())).await.unwrap();
    let running = Worker::builder(orch.clone()).discover(false).register::<brief>().build().unwrap().start();
    let error = within("the end of the wait", task.result()).await.expect_err("nobody told it").to_string();
    assert!(error.contains("no event late.word about k was told in time"), "{error}");
    orch.publish(&NewEvent::new("late.word", &7).key("k")).await.unwrap();
    orch.retry(task.id()).await.unwrap();
    assert_eq!(within("the event", task.result()).await.unwrap(), 7);
    running.stop().await.unwrap();
}

#[task_handler("brief", queue = "brief", crate = "orchestrator_worker")]
async fn brief(_: (), ctx: TaskContext) -> TaskResult<u32> {
    Ok(ctx.wait_event("late.word").key("k").timeout("50ms").await?)
}
