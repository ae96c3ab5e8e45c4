//! People who decide: the gate at submission, questions of handlers, who may, and the audit.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use orchestrator::event::unpack;
use orchestrator::{
    ApprovalId, ApprovalPolicy, ApprovalStatus, Approver, Ballot, BlockedOn, Config, Decided, Error, Gate, NewTask,
    Orchestrator, Priority, Status, TaskId,
};
use orchestrator_tests::{config, orch, raw, strict, until};
use orchestrator_worker::{Approved, Data, TaskContext, TaskResult, Worker, payload, task_handler};
use redis::AsyncCommands;
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
    assert_eq!(orch.approvals_pending(0, 10).await.expect("a page").approvals, std::slice::from_ref(&approval));

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

/// Guarded by its handler.
#[task_handler(
    "guarded",
    queue = "guarded",
    approval(unless = "args.replicas == 1", by = "role:sre", expires = "1h"),
    crate = "orchestrator_worker"
)]
async fn guarded(args: Plan) -> TaskResult<u32> {
    Ok(args.replicas)
}

#[tokio::test]
async fn a_handlers_gate_holds_whoever_submits_and_whenever() {
    let orch = orch().await;
    // By hand, before anybody has published the handler: nobody knows of the gate yet.
    let raw = |replicas: u32| NewTask::<u32>::new("guarded", &json!({"replicas": replicas})).queue("guarded");
    let unknowing = orch.enqueue(raw(2)).await.expect("stored");
    assert_eq!(orch.get(unknowing.id()).await.expect("known").status, Status::Assigned);
    let exempt = orch.enqueue(raw(1)).await.expect("stored");
    let worker = Worker::builder(orch.clone()).discover(false).register::<guarded>().build().expect("a worker").start();
    assert_eq!(exempt.result().timeout("20s").await.expect("exempt"), 1);
    assert_eq!(parked(&orch, unknowing.id()).await, gate(unknowing.id()));
    // By its own `with`, and by a stranger who has read what workers publish.
    let typed = orch.enqueue(guarded::with(Plan { replicas: 3 })).await.expect("stored");
    let stranger = Orchestrator::with_config(orch.config().clone()).await.expect("a client");
    let told = stranger.enqueue(raw(4)).await.expect("stored");
    for (handle, replicas) in [(&unknowing, 2), (&typed, 3), (&told, 4)] {
        let task = orch.get(handle.id()).await.expect("known");
        assert_eq!((task.status, task.attempt), (Status::Blocked, 0), "{replicas}");
        let refused = orch.decide(gate(handle.id()), &Ballot::approve(Approver::named("dave"))).await;
        assert!(matches!(refused, Err(Error::Forbidden { .. })), "{refused:?}");
        orch.decide(gate(handle.id()), &Ballot::approve(alice())).await.expect("counts");
        assert_eq!(handle.result().timeout("20s").await.expect("let through"), replicas);
    }
    worker.stop().await.expect("left");
}

#[tokio::test]
async fn reminders_escalation_delegation_and_expiry_come_in_their_time() {
    let config = Config { test_clock: true, ..config() };
    let set = async |seconds: u64| {
        let key = format!("{{{}.0}}:now", config.namespace);
        let _: () = raw().await.hset_multiple(key, &[("s", 1_900_000_000 + seconds), ("us", 0)]).await.expect("set");
    };
    set(0).await;
    let orch = Orchestrator::with_config(config.clone()).await.expect("a client");
    let hours = |n: u64| Duration::from_secs(3600 * n);
    let terms = Gate::new().by("role:sre").remind(hours(2)).escalate(hours(5), "role:lead").expires(hours(8));
    let task = NewTask::<()>::new("job", &json!({})).queue("job").policies(Some(terms), None).requested_by("bob");
    let id = gate(orch.enqueue(task).await.expect("stored").id());
    let carol = Approver::named("carol");
    let told = async || {
        let key = format!("{{{}.0}}:e", config.namespace);
        let stream: redis::streams::StreamRangeReply = raw().await.xrange_all(key).await.expect("read");
        let bytes = |value| redis::from_redis_value::<Vec<u8>>(value).expect("bytes");
        let entries =
            stream.ids.into_iter().map(|entry| entry.map.into_iter().map(|(n, v)| (n.into_bytes(), bytes(v))));
        entries
            .flat_map(|fields| unpack(&fields.collect::<Vec<_>>()))
            .filter_map(|event| event.event_type.strip_prefix("approval."))
            .collect::<Vec<_>>()
    };
    for hour in 1..=5 {
        set(3600 * hour).await;
        orch.tick().await.expect("fired");
    }
    let mut expected = vec!["requested", "reminded", "reminded", "escalated"];
    assert_eq!(told().await, expected);
    assert_eq!(orch.approval(id).await.expect("known").by, ["role:sre", "role:lead"]);
    orch.decide(id, &Ballot::approve(carol.clone())).await.expect_err("neither sre nor lead");
    let own = orch.delegate(id, &alice(), "name:Bob").await.expect_err("the submitter");
    assert!(own.to_string().contains("submitted the task"), "{own}");
    orch.delegate(id, &alice(), "carol").await.expect("delegated");
    expected.extend(["delegated", "reminded", "expired"]);
    set(3600 * 8 - 1).await;
    orch.tick().await.expect("fired");
    assert_eq!(orch.approval(id).await.expect("known").status, ApprovalStatus::Pending);
    set(3600 * 8).await;
    // A decision that comes with the clock's strike is too late, whoever looks first.
    let late = orch.decide(id, &Ballot::approve(carol)).await.expect_err("too late");
    assert!(late.to_string().contains("nobody decided in time"), "{late}");
    orch.tick().await.expect("fired");
    assert_eq!(told().await, expected);
    let task = orch.get(id.task).await.expect("known");
    assert_eq!((task.status, task.reason.as_deref()), (Status::Cancelled, Some("timeout")));
    let ops: Vec<String> = orch.audit(0).await.expect("an audit").into_iter().map(|entry| entry.op).collect();
    assert_eq!(ops, ["requested", "escalated", "delegated", "timeout"]);
    let key = format!("{{{}.0}}:", config.namespace);
    for timers in ["P", "y", "z"] {
        assert_eq!(raw().await.zcard::<_, u64>(format!("{key}{timers}")).await.expect("counted"), 0, "{timers}");
    }
}

#[tokio::test]
async fn a_weaker_gate_does_not_open_a_stricter_one() {
    let rule = |terms: &str| {
        let rules = format!(r#"[{{"reason": "money", "when": "priority == 'P1'", "terms": {terms}}}]"#);
        ApprovalPolicy { rules: ApprovalPolicy::rules_from_json(&rules).expect("rules"), ..ApprovalPolicy::none() }
    };
    // Anybody for the rule, an SRE for the handler; and the other way round.
    for (terms, first, second) in [("{}", "intern", "alice"), (r#"{"by": ["role:finance"]}"#, "frank", "alice")] {
        let orch = Orchestrator::with_config(Config { approvals: rule(terms), ..config() }).await.expect("a client");
        let worker =
            Worker::builder(orch.clone()).discover(false).register::<guarded>().build().expect("a worker").start();
        let handle = orch.enqueue(guarded::with(Plan { replicas: 2 }).priority(Priority::P1)).await.expect("stored");
        let rules = gate(handle.id());
        let frank = Approver::named(first).role("finance");
        orch.decide(rules, &Ballot::approve(frank.clone())).await.expect("the rule's");
        let handlers = until("the handler's own gate", || async {
            let task = orch.get(handle.id()).await.ok().filter(|task| task.status == Status::Blocked)?;
            task.approval_id.filter(|id| *id != rules)
        })
        .await;
        let weak = orch.decide(handlers, &Ballot::approve(frank)).await;
        assert!(matches!(weak, Err(Error::Forbidden { .. })), "{weak:?}");
        assert_eq!(orch.approval(handlers).await.expect("known").kind, orchestrator::ApprovalKind::Gate);
        orch.decide(handlers, &Ballot::approve(Approver::named(second).role("sre"))).await.expect("the handler's");
        assert_eq!(handle.result().timeout("20s").await.expect("through both"), 2);
        assert_eq!(orch.approvals_history(0, 10).await.expect("a page").total, 2);
        worker.stop().await.expect("left");
    }
}

#[tokio::test]
async fn a_second_gate_that_is_refused_ends_the_task_for_good() {
    let policy = ApprovalPolicy {
        rules: ApprovalPolicy::rules_from_json(r#"[{"reason": "all", "when": "type == 'guarded'"}]"#).expect("rules"),
        ..ApprovalPolicy::none()
    };
    let orch = Orchestrator::with_config(Config { approvals: policy, ..config() }).await.expect("a client");
    let worker = Worker::builder(orch.clone()).discover(false).register::<guarded>().build().expect("a worker").start();
    let handle = orch.enqueue(guarded::with(Plan { replicas: 2 })).await.expect("stored");
    orch.decide(gate(handle.id()), &Ballot::approve(alice())).await.expect("the rule's");
    let second = ApprovalId { task: handle.id(), number: 1 };
    until("the handler's own gate", || async { orch.approval(second).await.ok() }).await;
    orch.decide(second, &Ballot::reject(alice()).note("no")).await.expect("counts");
    let task = orch.get(handle.id()).await.expect("known");
    assert_eq!((task.status, task.reason.as_deref()), (Status::Cancelled, Some("rejected")));
    assert!(orch.retry(handle.id()).await.expect_err("never approved").to_string().contains("never approved"));
    worker.stop().await.expect("left");
}

#[tokio::test]
async fn the_audit_shows_what_was_taken_out_of_it() {
    let orch = strict().await;
    for _ in 0..3 {
        let id = orch.enqueue(NewTask::<()>::new("deploy", &json!({}))).await.expect("stored").id();
        orch.decide(gate(id), &Ballot::approve(alice())).await.expect("counts");
    }
    let key = format!("{{{}.0}}:audit", orch.config().namespace);
    let mut raw = raw().await;
    let stream: redis::streams::StreamRangeReply = raw.xrange_all(&key).await.expect("read");
    assert_eq!((stream.ids.len(), orch.verify_audit(|_| ()).await.expect("a look").fault), (6, None));
    let oldest: Vec<String> = stream.ids[..3].iter().map(|entry| entry.id.clone()).collect();
    let _: usize = raw.xdel(&key, &oldest).await.expect("deleted");
    let verdict = orch.verify_audit(|_| ()).await.expect("a look");
    assert!(verdict.fault.as_deref().is_some_and(|fault| fault.contains("before 4 are gone")), "{verdict:?}");
    // Where so many may be dropped, the first that is kept is held to its hash all the same.
    let approvals = ApprovalPolicy { audit_max: 3, ..ApprovalPolicy::none() };
    let few = Orchestrator::with_config(Config { approvals, ..orch.config().clone() }).await.expect("a client");
    assert_eq!(few.verify_audit(|_| ()).await.expect("a look").fault, None);
    let _: () = redis::cmd("DEL").arg(&key).query_async(&mut raw).await.expect("deleted");
    for (at, entry) in stream.ids[3..].iter().enumerate() {
        let mut add = redis::cmd("XADD");
        add.arg(&key).arg(&entry.id);
        for name in ["n", "t", "op", "id", "no", "who", "note", "hash", "before", "h"] {
            let value: Vec<u8> = entry.get(name).expect("a field");
            add.arg(name).arg(if at == 0 && name == "who" { b"mallory".to_vec() } else { value });
        }
        let _: String = add.query_async(&mut raw).await.expect("added");
    }
    let verdict = few.verify_audit(|_| ()).await.expect("a look");
    assert!(
        verdict.fault.as_deref().is_some_and(|fault| fault.contains("entry 4") && fault.contains("changed")),
        "{verdict:?}"
    );
}

#[tokio::test]
async fn an_approval_that_somebody_deleted_holds_nothing_for_ever() {
    let config = Config { test_clock: true, approvals: ApprovalPolicy::default(), ..config() };
    let clock = format!("{{{}.0}}:now", config.namespace);
    let _: () = raw().await.hset_multiple(&clock, &[("s", 1_900_000_000), ("us", 0)]).await.expect("set");
    let orch = Orchestrator::with_config(config.clone()).await.expect("a client");
    let id = orch.enqueue(NewTask::<()>::new("deploy", &json!({}))).await.expect("stored").id();
    let keys: Vec<Vec<u8>> = raw().await.keys(format!("{{{}.0}}:a:*", config.namespace)).await.expect("keys");
    let _: usize = raw().await.del(keys).await.expect("deleted");
    let gone = orch.decide(gate(id), &Ballot::approve(alice())).await;
    assert!(matches!(gone, Err(Error::NotFound { .. })), "{gone:?}");
    let _: () = raw().await.hset_multiple(&clock, &[("s", 1_900_100_000), ("us", 0)]).await.expect("set");
    orch.tick().await.expect("fired");
    let task = orch.get(id).await.expect("known");
    assert_eq!((task.status, task.reason.as_deref()), (Status::Cancelled, Some("timeout")));
}
