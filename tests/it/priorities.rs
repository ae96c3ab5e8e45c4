//! Another priority for a task that is there already: in its place, once, whatever its state; and what stands against it.

use std::time::Duration;

use orchestrator::{
    ApprovalId, ApprovalPolicy, Approver, Ballot, Claim, Config, Error, Event, Gate, Incarnation, LEASE, LetGo,
    NewTask, OnViolation, Orchestrator, Priority, SlaTerms, Status, TaskId,
};
use orchestrator_tests::{Proxy, all_events, key, namespace, orch, raw, server, strict};
use redis::AsyncCommands;

use crate::model::bytes::id_bytes;

const QUEUE: &str = "order";

fn new(priority: Priority) -> NewTask<()> {
    NewTask::new("order", &()).queue(QUEUE).priority(priority)
}

async fn enqueue(orch: &Orchestrator, task: NewTask<()>) -> TaskId {
    orch.enqueue(task).await.unwrap().id()
}

async fn join(orch: &Orchestrator) -> Incarnation {
    Incarnation::join(orch, &[QUEUE.into()], &[], LEASE).await.unwrap()
}

async fn claim(worker: &Incarnation) -> Claim {
    worker.step(&[], 1, &[QUEUE.into()], None).await.unwrap().claims.pop().expect("a task")
}

async fn score(orch: &Orchestrator, name: &str, id: TaskId) -> Option<f64> {
    raw().await.zscore(key(orch, name), id_bytes(id)).await.unwrap()
}

async fn told(orch: &Orchestrator) -> Vec<Event> {
    all_events(orch).await.into_iter().filter(|event| event.event_type == "task.reprioritised").collect()
}

const CLASS: f64 = (1_u64 << 42) as f64;

#[tokio::test]
async fn a_task_takes_the_place_that_it_would_have_had_and_it_is_told_once() {
    let orch = orch().await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(enqueue(&orch, new(Priority::P3)).await);
    }
    let urgent = enqueue(&orch, new(Priority::P0)).await;
    let before = score(&orch, "r:order", ids[1]).await.unwrap();
    for _ in 0..2 {
        let stands = orch.set_priority_by(ids[1], Priority::P0, "ann", false).await.unwrap();
        assert_eq!(stands, Status::Assigned, "sent twice it is answered as once");
    }
    assert_eq!(score(&orch, "r:order", ids[1]).await, Some(before - 3.0 * CLASS));
    let task = orch.get(ids[1]).await.unwrap();
    assert_eq!((task.priority, task.changes), (Priority::P0, 1), "it is no change of state");
    let events = told(&orch).await;
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].payload, serde_json::json!({"from": "P3", "to": "P0", "by": "ann", "task_type": "order"}));
    assert_eq!((events[0].task_id, events[0].source_agent.as_str()), (Some(ids[1]), "ann"));
    // Down again, and the first two change places with nobody.
    orch.set_priority(ids[2], Priority::P1).await.unwrap();
    orch.set_priority(ids[2], Priority::P3).await.unwrap();
    let worker = join(&orch).await;
    // It came before the one that was urgent from the start.
    for id in [ids[1], urgent, ids[0], ids[2]] {
        assert_eq!(claim(&worker).await.ticket().id, id);
    }
}

#[tokio::test]
async fn whatever_waits_takes_it_along_and_what_has_ended_does_not() {
    let orch = orch().await;
    let worker = join(&orch).await;
    let scheduled = enqueue(&orch, new(Priority::P2).delay("1h")).await;
    assert_eq!(orch.set_priority(scheduled, Priority::P0).await.unwrap(), Status::Pending);
    assert_eq!(orch.get(scheduled).await.unwrap().priority, Priority::P0);
    assert_eq!(score(&orch, "r:order", scheduled).await, None, "it is in no queue before its time");

    let shelved = enqueue(&orch, new(Priority::P2)).await;
    assert_eq!(worker.shelve(&claim(&worker).await).await.unwrap(), LetGo::Done);
    let before = score(&orch, "u:order", shelved).await.unwrap();
    assert_eq!(orch.set_priority(shelved, Priority::P1).await.unwrap(), Status::Pending);
    assert_eq!(score(&orch, "u:order", shelved).await, Some(before - CLASS));
    worker.unshelve(&["order".into()]).await.unwrap();
    assert_eq!(claim(&worker).await.priority(), Priority::P1);

    let gated = enqueue(&orch, new(Priority::P3).policies(Some(Gate::new()), None)).await;
    // Whoever decides has seen its priority.
    let error = orch.set_priority(gated, Priority::P1).await.unwrap_err();
    assert!(matches!(&error, Error::Conflict { what } if what.contains("waits for an approval")), "{error}");
    orch.decide(ApprovalId { task: gated, number: 0 }, &Ballot::approve(Approver::named("bob"))).await.unwrap();
    assert_eq!(orch.set_priority(gated, Priority::P1).await.unwrap(), Status::Assigned);
    let held = claim(&worker).await;
    assert_eq!((held.ticket().id, held.priority()), (gated, Priority::P1));

    // What runs keeps running; its next attempt has the new one.
    assert_eq!(orch.set_priority(gated, Priority::P0).await.unwrap(), Status::InProgress);
    assert_eq!(held.priority(), Priority::P1);
    worker.retry(&held, Duration::ZERO, "once more").await.unwrap();
    orch.set_priority(gated, Priority::P2).await.unwrap();
    orch.tick().await.unwrap();
    let held = claim(&worker).await;
    assert_eq!((held.ticket().id, held.priority()), (gated, Priority::P2));
    worker.step(&[held.complete(&[0xc0])], 0, &[QUEUE.into()], None).await.unwrap();
    let error = orch.set_priority(gated, Priority::P0).await.unwrap_err();
    assert!(matches!(&error, Error::Conflict { what } if what.contains("has completed")), "{error}");
    assert_eq!(orch.get(gated).await.unwrap().priority, Priority::P2);

    let cancelled = enqueue(&orch, new(Priority::P2)).await;
    orch.cancel(cancelled).await.unwrap();
    let error = orch.set_priority(cancelled, Priority::P2).await.unwrap_err();
    assert!(error.to_string().contains("was cancelled"), "{error}");
    let unknown: TaskId = "01890000-0000-7000-8000-000000000000".parse().unwrap();
    assert!(matches!(orch.set_priority(unknown, Priority::P0).await, Err(Error::NotFound { .. })));
}

#[tokio::test]
async fn of_many_at_once_the_last_holds_and_each_tells_from_where_to_where() {
    let orch = orch().await;
    let id = enqueue(&orch, new(Priority::P2)).await;
    let all = [Priority::P0, Priority::P1, Priority::P2, Priority::P3];
    let set = (0..40).map(|i| orch.set_priority(id, all[i % 4]));
    for outcome in futures::future::join_all(set).await {
        assert_eq!(outcome.unwrap(), Status::Assigned);
    }
    let mut at = serde_json::json!("P2");
    for event in told(&orch).await {
        assert_eq!(event.payload["from"], at, "a step is missing");
        at = event.payload["to"].clone();
    }
    let last = orch.get(id).await.unwrap().priority;
    assert_eq!(at, serde_json::json!(last.to_string()));
    let place = score(&orch, "r:order", id).await.unwrap();
    assert_eq!((place / CLASS) as u8, last as u8);
}

#[tokio::test]
async fn a_lost_answer_changes_and_tells_once() {
    let line = Proxy::before(server::shared());
    let config = Config { namespace: namespace(), approvals: ApprovalPolicy::none(), ..Config::new(&line.url()) };
    let orch = Orchestrator::with_config(config).await.unwrap();
    let id = enqueue(&orch, new(Priority::P2)).await;
    line.cut("reprioritise", |_| true);
    assert_eq!(orch.set_priority(id, Priority::P0).await.unwrap(), Status::Assigned);
    line.struck(1).await;
    assert_eq!(told(&orch).await.len(), 1);
}

#[tokio::test]
async fn nobody_gets_past_an_approval_by_a_priority() {
    let orch = strict().await;
    let id = enqueue(&orch, new(Priority::P3)).await;
    let error = orch.set_priority(id, Priority::P1).await.unwrap_err();
    assert!(matches!(&error, Error::Forbidden { what } if what.contains("high priority")), "{error}");
    assert_eq!(orch.get(id).await.unwrap().priority, Priority::P3);
    assert_eq!(orch.set_priority(id, Priority::P2).await.unwrap(), Status::Assigned);
    assert_eq!(orch.set_priority_by(id, Priority::P0, "ops", true).await.unwrap(), Status::Assigned);
    // What people are deciding on stays as they see it; whoever was approved needs no second time by the same rule.
    let held = enqueue(&orch, new(Priority::P1)).await;
    let error = orch.set_priority(held, Priority::P0).await.unwrap_err();
    assert!(matches!(&error, Error::Conflict { what } if what.contains("waits for an approval")), "{error}");
    assert_eq!(orch.set_priority(held, Priority::P1).await.unwrap(), Status::Blocked);
    assert_eq!(orch.get(held).await.unwrap().priority, Priority::P1);
    orch.decide(ApprovalId { task: held, number: 0 }, &Ballot::approve(Approver::named("bob"))).await.unwrap();
    assert_eq!(orch.set_priority(held, Priority::P0).await.unwrap(), Status::Assigned);
}

#[tokio::test]
async fn reports_count_a_task_once_by_the_priority_that_it_ends_with() {
    let orch = orch().await;
    let worker = join(&orch).await;
    let sla = SlaTerms::new(Duration::from_secs(600)).on_violation(OnViolation::Raise);
    let waiting = enqueue(&orch, new(Priority::P3).sla(sla.clone())).await;
    let running = enqueue(&orch, new(Priority::P3).sla(sla)).await;
    orch.set_priority(waiting, Priority::P1).await.unwrap();
    let first = claim(&worker).await;
    assert_eq!(first.ticket().id, waiting);
    let second = claim(&worker).await;
    orch.set_priority(running, Priority::P0).await.unwrap();
    let clock = orch.get(running).await.unwrap().sla_clock.expect("its promise stands");
    assert!(clock.left_ms.is_some_and(|left| left > 500_000), "{clock:?}");
    worker.step(&[first.complete(&[0xc0]), second.complete(&[0xc0])], 0, &[QUEUE.into()], None).await.unwrap();
    let report = orch.sla_report("1h").await.unwrap();
    let rows: Vec<_> = report.rows.iter().map(|row| (row.priority.as_str(), row.ended)).collect();
    assert_eq!(rows, [("P0", 1), ("P1", 1)], "{report:?}");
}

/// A record that somebody has spoilt is set aside as everywhere; a queue of the wrong type does not stop it either.
#[tokio::test]
async fn spoilt_keys_stop_nothing() {
    let orch = orch().await;
    let id = enqueue(&orch, new(Priority::P2)).await;
    let slice = [key(&orch, "t").as_bytes(), &id_bytes(id)[..4]].concat();
    let _: () = raw().await.hset(slice, id_bytes(id), "x").await.unwrap();
    assert!(orch.set_priority(id, Priority::P0).await.is_err());
    let id = enqueue(&orch, new(Priority::P2)).await;
    let _: () = raw().await.set(key(&orch, "r:order"), "x").await.unwrap();
    assert_eq!(orch.set_priority(id, Priority::P0).await.unwrap(), Status::InProgress, "it is in no queue any more");
    assert_eq!(orch.get(id).await.unwrap().priority, Priority::P0);
}
