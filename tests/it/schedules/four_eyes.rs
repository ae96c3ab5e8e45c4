//! Who may decide on a run that somebody had a schedule make by hand.

use orchestrator::{
    Answer, ApprovalId, Approver, Ballot, Gate, HOLD_LEASE_MAX, Overlap, Schedule, Status, Terms, Triggered,
};
use orchestrator_tests::{orch, until};
use orchestrator_worker::{Event, EventContext, TaskContext, TaskResult, Worker, event_handler, task_handler};

use super::*;

async fn triggered(orch: &Orchestrator, name: &str, by: &str) -> orchestrator::TaskId {
    match orch.schedules().trigger_by(name, Some(by)).await.unwrap() {
        Triggered::Started(id) => id,
        Triggered::Waits => panic!("it starts"),
    }
}

async fn refused(orch: &Orchestrator, approval: ApprovalId, name: &str) {
    for ballot in [Ballot::reject(Approver::named(name)), Ballot::approve(Approver::named(name))] {
        let error = orch.decide(approval, &ballot).await.expect_err(name);
        assert!(matches!(error, Error::Forbidden { .. }), "{name}: {error}");
    }
}

/// Ann submits it and Bob had it made: neither may decide, and Carol may.
async fn takes_a_third(orch: &Orchestrator, approval: ApprovalId) {
    let told = orch.approval(approval).await.unwrap();
    assert_eq!((told.requested_by.as_deref(), told.asked_by.as_deref()), (Some("ann"), Some("bob")));
    for name in ["ann", "ANN", "bob", "Bob"] {
        refused(orch, approval, name).await;
    }
    orch.decide(approval, &Ballot::approve(Approver::named("carol"))).await.unwrap();
}

fn gated() -> NewTask<()> {
    report().policies(Some(Gate::new()), None)
}

#[tokio::test]
async fn neither_its_maker_nor_who_triggers_it_decides() {
    let orch = still().await;
    put(&orch, Schedule::cron("a", "0 * * * *", gated().requested_by("ann"))).await;
    let run = triggered(&orch, "a", "bob").await;
    let gate = |task| ApprovalId { task, number: 0 };
    takes_a_third(&orch, gate(run)).await;
    assert_eq!(orch.get(run).await.unwrap().status, Status::Assigned);
    orch.cancel(run).await.unwrap();
    // Its maker is one person, however the name is written.
    let run = triggered(&orch, "a", "Ann").await;
    let told = orch.approval(gate(run)).await.unwrap();
    assert_eq!((told.requested_by.as_deref(), told.asked_by), (Some("ann"), None));
    refused(&orch, gate(run), "ann").await;
    orch.decide(gate(run), &Ballot::approve(Approver::named("bob"))).await.unwrap();
    // Nobody has made it in particular: who triggers it submits it.
    put(&orch, Schedule::cron("b", "0 * * * *", gated())).await;
    let run = triggered(&orch, "b", "bob").await;
    let told = orch.approval(gate(run)).await.unwrap();
    assert_eq!((told.requested_by.as_deref(), told.asked_by), (Some("bob"), None));
    refused(&orch, gate(run), "bob").await;
    let named = "x".repeat(129);
    assert!(matches!(orch.schedules().trigger_by("a", Some(&named)).await, Err(Error::Invalid { .. })));
}

#[tokio::test]
async fn a_tick_that_waits_would_forget_who_triggered_it() {
    let orch = still().await;
    put(&orch, Schedule::cron("a", "0 * * * *", gated().requested_by("ann")).overlap(Overlap::Queue)).await;
    let run = triggered(&orch, "a", "bob").await;
    let error = orch.schedules().trigger_by("a", Some("bob")).await.expect_err("a conflict");
    assert!(matches!(&error, Error::Conflict { what } if what.contains(&run.to_string())), "{error}");
    assert!(status(&orch, "a").await.waiting.is_empty());
    assert_eq!(orch.schedules().trigger_by("a", Some("ann")).await.unwrap(), Triggered::Waits);
}

#[tokio::test]
async fn where_an_agent_outside_asks_it_is_one_more_who_may_not_decide() {
    let orch = orch().await;
    put(&orch, Schedule::cron("a", "@yearly", report().requested_by("ann"))).await;
    let run = triggered(&orch, "a", "bob").await;
    let hold = orch.hold("agent", run, HOLD_LEASE_MAX).await.unwrap();
    let holder = orch.holder("agent", run, Some(hold.token));
    let asked = holder.ask("q", "May I?", serde_json::json!(1), Vec::new(), Terms::default()).await.unwrap();
    let Answer::Asked(approval) = asked else { panic!("nobody has decided: {asked:?}") };
    for name in ["ann", "bob", "agent"] {
        refused(&orch, approval, name).await;
    }
    orch.decide(approval, &Ballot::approve(Approver::named("carol"))).await.unwrap();
}

/// Has a gate, fails once, and asks on its way.
#[task_handler(
    "four_eyes.asks",
    queue = "four_eyes",
    retries = 1,
    backoff = "fixed(1ms)",
    approval(expires = "1h"),
    crate = "orchestrator_worker"
)]
async fn asks(_: (), ctx: TaskContext) -> TaskResult {
    if ctx.attempt() == 1 {
        return Err("not yet".into());
    }
    ctx.approve(7).await?;
    Ok(())
}

/// Whoever had the schedule make it did not know of the gate, nor did Redis.
#[tokio::test]
async fn what_is_asked_later_asks_neither_of_them() {
    let orch = orch().await;
    let task = NewTask::<()>::new("four_eyes.asks", &()).queue("four_eyes").requested_by("ann");
    put(&orch, Schedule::cron("a", "@yearly", task)).await;
    let run = triggered(&orch, "a", "bob").await;
    assert_eq!(orch.get(run).await.unwrap().status, Status::Assigned);
    let running = Worker::builder(orch.clone()).discover(false).register::<asks>().build().unwrap().start();
    let mut before = None;
    for _ in ["its gate", "its question"] {
        let approval = until("it asks", async || {
            let task = orch.get(run).await.unwrap();
            task.approval_id.filter(|id| task.status == Status::Blocked && Some(*id) != before)
        })
        .await;
        takes_a_third(&orch, approval).await;
        before = Some(approval);
    }
    until("its end", async || (orch.get(run).await.unwrap().status == Status::Completed).then_some(())).await;
    assert_eq!(orch.get(run).await.unwrap().attempt, 2);
    running.stop().await.unwrap();
}

/// Has work done that somebody has to approve, as its child and by an event about itself.
#[task_handler("four_eyes.parent", queue = "four_eyes", crate = "orchestrator_worker")]
async fn parent(_: (), ctx: TaskContext) -> TaskResult {
    ctx.enqueue(gated()).await?;
    ctx.publish("four_eyes.told", &serde_json::json!({})).await?;
    Ok(())
}

#[event_handler("four_eyes.told", group = "four_eyes", from = "oldest", crate = "orchestrator_worker")]
async fn on_told(_: Event<serde_json::Value>, ctx: EventContext) -> TaskResult {
    ctx.start(gated()).await?;
    Ok(())
}

#[tokio::test]
async fn what_comes_of_the_run_asks_neither_of_them() {
    let orch = orch().await;
    let task = NewTask::<()>::new("four_eyes.parent", &()).queue("four_eyes").requested_by("ann");
    put(&orch, Schedule::cron("a", "@yearly", task)).await;
    triggered(&orch, "a", "bob").await;
    let worker = Worker::builder(orch.clone()).discover(false).register::<parent>().event_handler(on_told::default());
    let running = worker.build().unwrap().start();
    let asked = until("both ask", async || {
        let page = orch.approvals_pending(0, 9).await.unwrap();
        (page.approvals.len() == 2).then_some(page.approvals)
    })
    .await;
    for approval in asked {
        takes_a_third(&orch, approval.approval_id).await;
    }
    running.stop().await.unwrap();
}

#[tokio::test]
async fn nobody_hands_it_to_one_who_may_not_decide() {
    let orch = orch().await;
    let task = report().policies(Some(Gate::new().by("carol")), None).requested_by("ann");
    put(&orch, Schedule::cron("a", "@yearly", task)).await;
    let approval = ApprovalId { task: triggered(&orch, "a", "bob").await, number: 0 };
    for to in ["ann", "bob", "name:Bob"] {
        let error = orch.delegate(approval, &Approver::named("carol"), to).await.expect_err(to);
        assert!(matches!(error, Error::Invalid { .. }), "{to}: {error}");
    }
    orch.delegate(approval, &Approver::named("carol"), "dave").await.unwrap();
}
