//! Whom tasks belong to: it goes from a task to what its handler asks and submits, and from an event to what it starts.

use orchestrator::{EventsFrom, Heard, NewEvent, NewTask, Orchestrator, Task, TaskFilter, TaskId};
use orchestrator_tests::{orch, until};
use orchestrator_worker::{Event, TaskContext, TaskResult, Worker, event_handler, task_handler};
use serde_json::json;

/// Submits two children, one of which names a tenant itself, and asks.
#[task_handler("tenant.parent", queue = "tenants", retries = 1, backoff = "fixed(5ms)", crate = "orchestrator_worker")]
async fn parent(_nothing: (), ctx: TaskContext) -> TaskResult {
    ctx.step("children", || async {
        ctx.enqueue(child::with("a".into())).await?;
        let named = ctx.enqueue(child::with("b".into()).tenant("named")).await?;
        Ok::<_, orchestrator::Error>(named.id().to_string())
    })
    .await?;
    if ctx.attempt() == 1 {
        return Err("once more, so that its record is written anew".into());
    }
    ctx.approve(json!({"go": true})).question("Go?").await?;
    Ok(())
}

#[task_handler("tenant.child", queue = "tenants", crate = "orchestrator_worker")]
async fn child(n: String) -> TaskResult<String> {
    Ok(n)
}

/// Starts a task because of what was told.
#[event_handler("order.placed", group = "tenants", start = child, from = "oldest", crate = "orchestrator_worker")]
fn on_order(ev: Event<String>) -> Option<String> {
    Some(ev.payload)
}

async fn blocked(orch: &Orchestrator, id: TaskId) -> Task {
    until("it waits for a person", async || orch.get(id).await.ok().filter(|task| task.approval_id.is_some())).await
}

#[tokio::test]
async fn what_a_task_asks_and_submits_belongs_to_its_tenant() {
    let orch = orch().await;
    let builder = Worker::builder(orch.clone()).discover(false).register::<parent>().register::<child>();
    let running = builder.build().unwrap().start();
    for tenant in [Some("acme"), None] {
        let task = parent::with(());
        let task = tenant.into_iter().fold(task, |task, tenant| task.tenant(tenant));
        let id = orch.enqueue(task).await.unwrap().id();
        let task = blocked(&orch, id).await;
        assert_eq!(task.tenant.as_deref(), tenant);
        assert_eq!(orch.approval(task.approval_id.unwrap()).await.unwrap().tenant.as_deref(), tenant);
        let mut children = Vec::new();
        for id in &task.child_task_ids {
            children.push(orch.get(*id).await.unwrap().tenant);
        }
        assert_eq!(children, [tenant.map(Into::into), Some("named".to_owned())]);
        assert_eq!(serde_json::to_value(&task).unwrap()["tenant"], json!(tenant));
    }
    let filter = TaskFilter { tenant: Some("acme".into()), ..TaskFilter::default() };
    let listed = orch.list(&filter, None, 10).await.unwrap().tasks;
    let types: Vec<&str> = listed.iter().map(|task| task.task_type.as_str()).collect();
    assert_eq!(types.len(), 2, "{types:?}");
    running.stop().await.unwrap();
}

#[tokio::test]
async fn what_an_event_starts_belongs_to_the_tenant_of_its_task_or_of_whoever_told_it() {
    let orch = orch().await;
    let cause = orch.enqueue(NewTask::<()>::new("faq", &()).tenant("acme")).await.unwrap().id();
    let told = |n: u32| NewEvent::new("order.placed", &n.to_string());
    let events = [
        (told(0).task(cause).metadata("tenant", "beta"), Some("acme")),
        (told(1).metadata("tenant", "beta"), Some("beta")),
        // Somebody's own use of the word.
        (told(2).metadata("tenant", "Beta & Sons"), None),
        (told(3), None),
    ];
    for (event, _) in &events {
        orch.publish(event).await.unwrap();
    }
    let builder = Worker::builder(orch.clone()).discover(false).event_handler(on_order::default()).register::<child>();
    let running = builder.build().unwrap().start();
    let mut reader = orch.events(&["task.completed".parse().unwrap()], EventsFrom::Oldest);
    for _ in &events {
        let Heard::Event(event) = reader.next().await.unwrap() else { panic!("nothing was dropped") };
        let task = orch.get(event.task_id.unwrap()).await.unwrap();
        let n: usize = task.payload.as_str().unwrap().parse().unwrap();
        assert_eq!(task.tenant.as_deref(), events[n].1, "{n}");
    }
    running.stop().await.unwrap();
}
