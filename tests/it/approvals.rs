//! People who decide: the gate at submission, questions of handlers, who may, and the audit.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use orchestrator::{
    ApprovalId, ApprovalStatus, Approver, Ballot, BlockedOn, Decided, Error, NewTask, Orchestrator, Priority, Status,
    TaskId,
};
use orchestrator_tests::{orch, strict, until};
use orchestrator_worker::{Approved, Data, TaskContext, TaskResult, Worker, payload, task_handler};
use serde_json::json;

fn gate(task: TaskId) -> ApprovalId {
    ApprovalId { task, number: 0 }
}

fn alice() -> Approver {
    Approver::named("alice").role("sre")
}

async fn parked(orch: &Orchestrator, id: TaskId) -> ApprovalId {
    let task = until("the task waits for a person", || async {
        orch.get(id).await.ok().filter(|task| task.status == Status::Blocked)
    })
    .await;
    assert_eq!(task.blocked_on, Some(BlockedOn::Approval));
    task.approval_id.expect("its approval")
}

#[tokio::test]
async fn a_gated_task_is_in_no_queue_until_somebody_else_approves() {
    let orch = strict().await;
    let task = NewTask::<()>::new("deploy", &json!({"environment": "Production"})).requested_by("bob");
    let id = orch.enqueue(task).await.expect("stored").id();
    let task = orch.get(id).await.expect("known");
    assert_eq!((task.status, task.blocked_on), (Status::Blocked, Some(BlockedOn::Approval)));
    assert_eq!(task.approval_id, Some(gate(id)));
    let stats = orch.stats().await.expect("counts");
    assert_eq!((stats.pending_tasks, stats.blocked_tasks), (0, 1));

    let approval = orch.approval(gate(id)).await.expect("known");
    assert_eq!(approval.shown, json!({"environment": "Production"}));
    assert_eq!(approval.payload_hash, orchestrator::payload_hash(&approval.shown));
    assert_eq!(orch.approvals_pending(0, 10).await.expect("a page").approvals, [approval.clone()]);

    let own = orch.decide(gate(id), &Ballot::approve(Approver::named("bob"))).await.expect_err("their own");
    assert!(matches!(&own, Error::Forbidden { what } if what.contains("bob submitted the task")), "{own}");
    let stale = Ballot::approve(alice()).shown(&"0".repeat(64));
    let stale = orch.decide(gate(id), &stale).await.expect_err("something else was shown");
    assert!(matches!(&stale, Error::Conflict { what } if what.contains("not what")), "{stale}");

    let ballot = Ballot::approve(alice()).note("go").shown(&approval.payload_hash);
    assert_eq!(orch.decide(gate(id), &ballot).await.expect("counts"), Decided::Done(ApprovalStatus::Approved));
    assert_eq!(orch.get(id).await.expect("known").status, Status::Assigned);
    let late = orch.decide(gate(id), &Ballot::reject(Approver::named("carol"))).await.expect_err("too late");
    assert!(late.to_string().contains("was approved before, by alice"), "{late}");

    let approval = orch.approval(gate(id)).await.expect("known");
    assert_eq!((approval.status, approval.approved_by.as_deref()), (ApprovalStatus::Approved, Some("alice")));
    assert_eq!(approval.votes[0].note, "go");
    assert_eq!(orch.approvals_history(0, 10).await.expect("a page").approvals, [approval]);
    assert_eq!(orch.approvals_pending(0, 10).await.expect("a page").total, 0);
    let verdict = orch.verify_audit(|_| ()).await.expect("an audit");
    assert_eq!((verdict.entries, verdict.fault), (2, None));
}

#[tokio::test]
async fn a_rejected_task_ends_with_the_reason_and_cannot_be_brought_back() {
    let orch = strict().await;
    let id = orch.enqueue(NewTask::<()>::new("faq", &json!({})).priority(Priority::P0)).await.expect("stored").id();
    orch.decide(gate(id), &Ballot::reject(alice()).note("not today")).await.expect("counts");
    let task = orch.get(id).await.expect("known");
    assert_eq!((task.status, task.reason.as_deref()), (Status::Cancelled, Some("rejected")));
    assert_eq!(task.error.as_deref(), Some("rejected by alice: not today"));
    let error = orch.retry(id).await.expect_err("never approved");
    assert!(error.to_string().contains("never approved"), "{error}");
}

#[payload]
struct Plan {
    replicas: u32,
}

#[payload]
#[derive(Debug, PartialEq)]
struct Window {
    start: String,
}

struct Effects(Arc<AtomicU32>, Arc<AtomicU32>);

fn apply(plan: &Approved<Plan, Window>) -> String {
    format!("{} at {} by {}", plan.replicas, plan.form.start, plan.by())
}

#[task_handler("scale", crate = "orchestrator_worker")]
async fn scale(args: Plan, effects: Data<Effects>, ctx: TaskContext) -> TaskResult<String> {
    let plan = ctx
        .step("plan", || async {
            effects.0.fetch_add(1, Ordering::SeqCst);
            Ok::<_, std::io::Error>(Plan { replicas: args.replicas * 2 })
        })
        .await?;
    let plan = ctx.approve(plan).by("role:sre").quorum(2).form::<Window>().question("Scale?").await?;
    ctx.sleep("20ms").await;
    ctx.step("apply", || async {
        effects.1.fetch_add(1, Ordering::SeqCst);
        Ok::<_, std::io::Error>(apply(&plan))
    })
    .await
}

#[tokio::test]
async fn a_handler_asks_waits_without_holding_anything_and_goes_on_where_it_was() {
    let orch = orch().await;
    let (planned, applied) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let worker = |orch: &Orchestrator| {
        let effects = Effects(Arc::clone(&planned), Arc::clone(&applied));
        Worker::builder(orch.clone())
            .discover(false)
            .register::<scale>()
            .data(effects)
            .build()
            .expect("a worker")
            .start()
    };
    let first = worker(&orch);
    let handle = orch.enqueue(scale::with(Plan { replicas: 3 }).requested_by("bob")).await.expect("stored");
    let id = parked(&orch, handle.id()).await;
    assert_eq!(id.number, 1);
    first.stop().await.expect("left");
    assert_eq!(orch.stats().await.expect("counts").processing_tasks, 0);

    let approval = orch.approval(id).await.expect("known");
    assert_eq!((approval.form.as_slice(), approval.shown.clone()), (&["start".to_owned()][..], json!({"replicas": 6})));
    let form = json!({"start": "noon"});
    let no = orch.decide(id, &Ballot::approve(Approver::named("dave"))).await.expect_err("no sre");
    assert!(matches!(&no, Error::Forbidden { what } if what.contains("role:sre")), "{no}");
    let no = orch.decide(id, &Ballot::approve(alice())).await.expect_err("no form");
    assert!(no.to_string().contains("start"), "{no}");
    let vote = Ballot::approve(alice()).form(form.clone());
    assert_eq!(orch.decide(id, &vote).await.expect("counts"), Decided::Counted { votes: 1, quorum: 2 });
    let twice = orch.decide(id, &vote).await.expect_err("one vote each");
    assert!(twice.to_string().contains("has voted"), "{twice}");
    let second = Ballot::approve(Approver::named("erin").role("sre")).form(form);
    assert_eq!(orch.decide(id, &second).await.expect("counts"), Decided::Done(ApprovalStatus::Approved));

    let other = worker(&orch);
    let result = handle.result().timeout("20s").await.expect("completed");
    assert_eq!(result, "6 at noon by erin");
    assert_eq!((planned.load(Ordering::SeqCst), applied.load(Ordering::SeqCst)), (1, 1));
    other.stop().await.expect("left");
    let journal = orch.journal(handle.id()).await.expect("kept");
    let names: Vec<&str> = journal.iter().map(|entry| entry.name.as_str()).collect();
    assert_eq!(names, ["plan", "approval#1", "sleep#1", "apply"]);
    assert_eq!(orch.get(handle.id()).await.expect("known").retry_count, 0);
}

#[tokio::test]
async fn a_no_to_a_handlers_question_ends_the_task_as_rejected() {
    let orch = orch().await;
    let effects = Effects(Arc::default(), Arc::default());
    let worker = Worker::builder(orch.clone())
        .discover(false)
        .register::<scale>()
        .data(effects)
        .build()
        .expect("a worker")
        .start();
    let handle = orch.enqueue(scale::with(Plan { replicas: 3 })).await.expect("stored");
    let id = parked(&orch, handle.id()).await;
    orch.decide(id, &Ballot::reject(alice()).note("too many")).await.expect("counts");
    let task =
        until("the end", || async { orch.get(handle.id()).await.ok().filter(|task| task.status.is_terminal()) }).await;
    assert_eq!((task.status, task.reason.as_deref()), (Status::Cancelled, Some("rejected")));
    assert_eq!(task.error.as_deref(), Some("rejected by alice: too many"));
    worker.stop().await.expect("left");
}
