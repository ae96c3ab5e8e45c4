//! Handlers of events in workers: typed, retried, once by the event's id, starting tasks once.

use std::sync::{Arc, Mutex};

use orchestrator::{EventsFrom, NewEvent, NewTask, Orchestrator, Status, TaskFilter};
use orchestrator_tests::{orch, raw, until, within};
use orchestrator_worker::{
    Data, Event, EventContext, Once, Running, TaskContext, TaskError, TaskResult, Worker, WorkerBuilder, event_handler,
    payload, task_handler,
};
use redis::AsyncCommands;
use serde_json::json;

/// What handlers did, in order.
type Log = Arc<Mutex<Vec<String>>>;

#[payload]
struct Merged {
    service: String,
    branch: String,
}

/// Notes every merge; the first attempt at one fails.
#[event_handler(
    "pr.merged, pr.reverted",
    group = "notes",
    retries = 1,
    backoff = "fixed(5ms)",
    from = "oldest",
    crate = "orchestrator_worker"
)]
async fn note(ev: Event<Merged>, log: Data<Log>, ctx: EventContext) -> TaskResult {
    log.lock().unwrap().push(format!("{} {} {}", ev.event_type, ev.payload.service, ctx.attempt()));
    match (ev.payload.branch.as_str(), ctx.attempt()) {
        ("broken", _) => Err(TaskError::fatal("no such branch")),
        (_, 1) => Err("not yet".into()),
        _ => Ok(()),
    }
}

/// Tells once, whatever happens afterwards.
#[event_handler(
    "pr.merged",
    group = "once",
    retries = 2,
    backoff = "fixed(5ms)",
    from = "oldest",
    crate = "orchestrator_worker"
)]
async fn once(ev: Event<Merged>, log: Data<Log>, ctx: EventContext) -> TaskResult {
    let done = ctx
        .once(|key| async move {
            log.lock().unwrap().push(format!("effect {}", key.starts_with("once:")));
            if ev.payload.branch == "fragile" { Err(TaskError::from("it broke")) } else { Ok(7) }
        })
        .await?;
    match (done, ctx.attempt()) {
        (Once::Done(7), 1) => Err("after the effect".into()),
        (Once::Done(7), _) => ctx.publish("once.done", &()).await.map(drop).map_err(TaskError::from),
        (Once::Done(_), _) => Err(TaskError::fatal("another output")),
        (Once::Unknown(_), _) => ctx.publish("once.unknown", &()).await.map(drop).map_err(TaskError::from),
    }
}

#[task_handler("release", queue = "release", crate = "orchestrator_worker")]
async fn release(service: String, ctx: TaskContext) -> TaskResult<String> {
    ctx.publish("release.succeeded", &json!({"service": service})).await?;
    Ok(service)
}

/// Releases what was merged into the main branch.
#[event_handler("pr.merged", group = "release", start = release, from = "oldest", crate = "orchestrator_worker")]
fn on_merge(ev: Event<Merged>) -> Option<String> {
    (ev.payload.branch == "main").then_some(ev.payload.service)
}

fn merged(service: &str, branch: &str) -> NewEvent {
    NewEvent::new("pr.merged", &json!({"service": service, "branch": branch}))
}

fn builder(orch: &Orchestrator, log: &Log) -> WorkerBuilder {
    Worker::builder(orch.clone()).discover(false).data(Arc::clone(log))
}

fn start(builder: WorkerBuilder) -> Running {
    builder.build().unwrap().start()
}

async fn count(orch: &Orchestrator, event_type: &str, wanted: usize) -> Vec<Event> {
    until(event_type, async || {
        let mut events = orch.events(&[event_type.parse().unwrap()], EventsFrom::Oldest);
        let mut found = Vec::new();
        while let Some(heard) = events.next_if_any().await.unwrap() {
            if let orchestrator::Heard::Event(event) = heard {
                found.push(*event);
            }
        }
        (found.len() >= wanted).then_some(found)
    })
    .await
}

#[tokio::test]
async fn a_handler_is_tried_again_and_what_does_not_fit_is_a_dead_letter_at_once() {
    let (orch, log) = (orch().await, Log::default());
    let running = start(builder(&orch, &log).event_handler(note::default()));
    orch.publish(&merged("api", "main")).await.unwrap();
    orch.publish(&NewEvent::new("pr.merged", &json!({"service": 7, "branch": "main"}))).await.unwrap();
    orch.publish(&merged("web", "broken")).await.unwrap();
    let letters = until("two dead letters", async || {
        let letters = orch.dead_events("notes", None, 10).await.unwrap();
        (letters.len() == 2).then_some(letters)
    })
    .await;
    let mut errors: Vec<(u8, &str)> = letters.iter().map(|letter| (letter.attempts, letter.error.as_str())).collect();
    errors.sort_unstable();
    assert_eq!(errors[0], (1, "no such branch"));
    assert!(errors[1].0 == 1 && errors[1].1.contains("pr.merged") && errors[1].1.contains("service"), "{errors:?}");
    until("the second attempt", async || log.lock().unwrap().contains(&"pr.merged api 2".into()).then_some(())).await;
    running.stop().await.unwrap();
}

#[tokio::test]
async fn an_effect_happens_once_for_an_event_whatever_comes_after_it() {
    let (orch, log) = (orch().await, Log::default());
    let running = start(builder(&orch, &log).event_handler(once::default()));
    orch.publish(&merged("api", "main")).await.unwrap();
    orch.publish(&merged("api", "fragile")).await.unwrap();
    let done = count(&orch, "once.done", 1).await;
    let unknown = count(&orch, "once.unknown", 1).await;
    assert_eq!((done.len(), unknown.len()), (1, 1));
    assert_eq!(done[0].source_agent, "once");
    assert_eq!(*log.lock().unwrap(), ["effect true", "effect true"], "one for each event");
    running.stop().await.unwrap();
}

#[tokio::test]
async fn an_event_starts_one_task_however_often_it_is_handled_and_however_old_it_is() {
    let (orch, log) = (orch().await, Log::default());
    let cause = orch.enqueue(NewTask::<()>::new("faq", &())).await.unwrap();
    orch.publish(&merged("api", "main").task(cause.id()).trace_id("trace-9")).await.unwrap();
    orch.publish(&merged("web", "topic")).await.unwrap();
    let with = || builder(&orch, &log).event_handler(on_merge::default()).register::<release>();
    let running = start(with());
    let told = count(&orch, "release.succeeded", 1).await;
    let started = orch.get(told[0].task_id.unwrap()).await.unwrap();
    assert_eq!((started.trace_id.as_str(), started.parent_task_id), ("trace-9", Some(cause.id())));
    assert_eq!(told[0].trace_id, "trace-9");
    running.stop().await.unwrap();
    // The group is gone, and handles everything once more: the task that was started is known, though it has ended.
    assert!(orch.remove_group("release").await.unwrap());
    let running = start(with());
    until("the group has caught up", async || {
        let groups = orch.groups().await.unwrap();
        groups.iter().any(|group| group.pending == 0 && group.behind == Some(0)).then_some(())
    })
    .await;
    let filter = TaskFilter { task_type: Some("release".into()), ..TaskFilter::default() };
    let tasks = orch.list(&filter, None, 10).await.unwrap().tasks;
    assert_eq!(
        tasks.iter().map(|task| (task.task_id, task.status)).collect::<Vec<_>>(),
        [(started.task_id, Status::Completed)]
    );
    // Another group starts another.
    let handle = orch.enqueue(release::with("api".into()).because_of(&told[0], "other")).await.unwrap();
    assert_ne!(handle.id(), started.task_id);
    assert_eq!(
        handle.id(),
        orch.enqueue(release::with("api".into()).because_of(&told[0], "other")).await.unwrap().id()
    );
    assert_eq!(within("the other", handle.result()).await.unwrap(), "api");
    running.stop().await.unwrap();
}

#[tokio::test]
async fn an_event_of_days_ago_starts_its_task() {
    let orch = orch().await;
    let mut old = count(&orch, "old.event", 0).await;
    assert!(old.is_empty());
    orch.publish(&NewEvent::new("old.event", &())).await.unwrap();
    old = count(&orch, "old.event", 1).await;
    let mut event = old.remove(0);
    event.timestamp -= chrono::Duration::days(5);
    let task = || release::with("api".into()).because_of(&event, "late");
    let handle = orch.enqueue(task()).await.unwrap();
    let running = start(Worker::builder(orch.clone()).discover(false).register::<release>());
    assert_eq!(within("the result", handle.result()).await.unwrap(), "api");
    assert_eq!(orch.enqueue(task()).await.unwrap().id(), handle.id());
    assert_eq!(orch.get(handle.id()).await.unwrap().status, Status::Completed, "it was not stored anew");
    running.stop().await.unwrap();
}

#[tokio::test]
async fn a_worker_of_events_alone_takes_no_tasks_and_leaves_its_groups_when_it_stops() {
    let (orch, log) = (orch().await, Log::default());
    let running = start(builder(&orch, &log).event_handler(note::default()));
    until("it is served", async || orch.groups().await.unwrap().first()?.consumer.clone()).await;
    assert_eq!(orch.stats().await.unwrap().workers, 0);
    running.stop().await.unwrap();
    let seat: Option<String> = raw().await.get(format!("{{{}.0}}:G:notes", orch.config().namespace)).await.unwrap();
    assert_eq!(seat, None);
}

#[tokio::test]
async fn what_cannot_work_is_refused_before_the_first_event() {
    struct Twin;
    #[orchestrator_worker::__private::async_trait]
    impl orchestrator_worker::EventHandler for Twin {
        fn spec(&self) -> orchestrator_worker::EventSpec {
            orchestrator_worker::EventSpec::new("notes", "other.*")
        }

        async fn call(&self, _: EventContext) -> Result<(), TaskError> {
            Ok(())
        }
    }
    struct Odd;
    #[orchestrator_worker::__private::async_trait]
    impl orchestrator_worker::EventHandler for Odd {
        fn spec(&self) -> orchestrator_worker::EventSpec {
            orchestrator_worker::EventSpec::new("odd", "Deploy.*")
        }

        async fn call(&self, _: EventContext) -> Result<(), TaskError> {
            Ok(())
        }
    }
    let orch = orch().await;
    let bare = || Worker::builder(orch.clone()).discover(false);
    for (builder, text) in [
        (bare(), "no task handler"),
        (bare().event_handler(note::default()), "takes Data<"),
        (bare().data(Log::default()).event_handler(note::default()).event_handler(Twin), "has two event handlers"),
        (bare().event_handler(Odd), "is no pattern of event types"),
    ] {
        let error = builder.build().err().expect(text).to_string();
        assert!(error.contains(text), "{error}");
    }
    let twice = bare().data(Log::default()).event_handler(note::default()).event_handler(note::default());
    assert!(twice.build().is_ok(), "the same one twice is one");
}
