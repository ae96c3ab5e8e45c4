//! Tasks of which no attempt begins after an instant: by the server's clock, whoever comes late and however they wait.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use orchestrator::{
    ApprovalId, ApprovalStatus, Approver, Ballot, Claim, Config, Error, Gate, HOLD_LEASE_MAX, HOLD_LEASE_MIN,
    Incarnation, LetGo, NewTask, Orchestrator, SlaTerms, Status, Task, TaskId, Wanted, encode_value,
};
use orchestrator_tests::{all_events, config, key, orch, raw, until};
use orchestrator_worker::{Data, TaskContext, TaskResult, Worker, task_handler};
use redis::AsyncCommands;
use serde_json::json;
use tokio::sync::Semaphore;

const START: u64 = 1_900_000_000;
const LEASE: Duration = Duration::from_secs(6);

/// A client whose time stands at [`START`] until it is moved.
async fn still() -> Orchestrator {
    let config = Config { test_clock: true, ..config() };
    let key = format!("{{{}.0}}:now", config.namespace);
    let _: () = raw().await.hset_multiple(key, &[("s", START), ("us", 0)]).await.unwrap();
    Orchestrator::with_config(config).await.unwrap()
}

/// Moves the time to so many seconds after [`START`]; no timer fires.
async fn at(orch: &Orchestrator, seconds: u64) {
    let _: () = raw().await.hset_multiple(key(orch, "now"), &[("s", START + seconds), ("us", 0)]).await.unwrap();
    orch.clock_error().await.unwrap();
}

fn job() -> NewTask<()> {
    NewTask::new("job", &()).queue("q")
}

async fn life(orch: &Orchestrator) -> Incarnation {
    Incarnation::join(orch, &queues(), &[], LEASE).await.unwrap()
}

fn queues() -> [String; 1] {
    ["q".into()]
}

async fn claim(life: &Incarnation) -> Option<Claim> {
    loop {
        let stepped = life.step(&[], 1, &queues(), None).await.unwrap();
        match stepped.claims.into_iter().next() {
            None if stepped.again => {}
            claim => return claim,
        }
    }
}

async fn complete(life: &Incarnation, claim: Claim) {
    let finish = claim.complete(&encode_value("result", &(), 100).unwrap());
    assert!(life.step(&[finish], 0, &[], None).await.unwrap().stale.is_empty());
}

async fn assert_expired(orch: &Orchestrator, id: TaskId) -> Task {
    let task = orch.get(id).await.unwrap();
    assert_eq!((task.status, task.reason.as_deref()), (Status::Failed, Some("expired")), "{task:?}");
    assert!(task.expires_at.is_some());
    task
}

/// What its events say, in order; their numbers have no gap.
async fn told(orch: &Orchestrator, id: TaskId) -> Vec<String> {
    let told = all_events(orch).await;
    told.into_iter().filter(|event| event.task_id == Some(id)).map(|event| event.event_type).collect()
}

/// Nothing of expired tasks is left but their values.
async fn assert_no_timer(orch: &Orchestrator) {
    let timers: u64 = raw().await.zcard(key(orch, "y")).await.unwrap();
    assert_eq!(timers, 0);
}

#[tokio::test]
async fn a_worker_that_comes_late_starts_none_of_a_queue_full_of_expired_ones() {
    let orch = still().await;
    let expired = (0..700).map(|_| job().expires("1m"));
    let ids: Vec<TaskId> = orch.enqueue_all(expired).await.unwrap().iter().map(|handle| handle.id()).collect();
    let good: Vec<TaskId> =
        orch.enqueue_all([job(), job().expires("2m"), job()]).await.unwrap().iter().map(|handle| handle.id()).collect();
    // At the instant itself it is too late, and nobody has fired a timer.
    at(&orch, 60).await;
    let worker = life(&orch).await;
    let mut claimed = Vec::new();
    loop {
        let stepped = worker.step(&[], 64, &queues(), None).await.unwrap();
        claimed.extend(stepped.claims.iter().map(|claim| claim.ticket().id));
        if !stepped.again && stepped.claims.is_empty() {
            break;
        }
    }
    assert_eq!(claimed, good);
    for id in &ids {
        assert_expired(&orch, *id).await;
    }
    let task = assert_expired(&orch, ids[0]).await;
    assert_eq!((task.attempt, task.retry_count, task.started_at), (0, 0, None));
    assert_eq!(task.completed_at.unwrap().timestamp() as u64, START + 60);
    assert_eq!(told(&orch, ids[0]).await, ["task.created", "task.failed"]);
    let failed = all_events(&orch).await.into_iter().filter(|event| event.event_type == "task.failed");
    assert_eq!(failed.map(|event| event.task_id).collect::<HashSet<_>>().len(), ids.len());
    let stats = orch.stats().await.unwrap();
    assert_eq!((stats.dead_tasks, stats.pending_tasks, stats.processing_tasks), (700, 0, 3));
    let error = orch.handle::<()>(ids[1]).result().await.unwrap_err();
    assert!(matches!(&error, Error::TaskEnded { status: Status::Failed, error, .. } if error == "expired"), "{error}");
    // The timers of the ended ones are gone; that of the running one goes with it.
    assert_eq!(raw().await.zcard::<_, u64>(key(&orch, "y")).await.unwrap(), 1);
    let held = worker.reconcile(|_| false).await.unwrap();
    for claim in held.adopted {
        complete(&worker, claim).await;
    }
    assert_no_timer(&orch).await;
}

#[tokio::test]
async fn an_expired_one_among_others_that_are_watched_ends_as_any_other() {
    let orch = still().await;
    let slow = SlaTerms::new(Duration::from_secs(30));
    let watched = orch.enqueue(job().expires("1m").sla(slow.clone())).await.unwrap();
    let kept = orch.enqueue(job().expires("1h").sla(slow)).await.unwrap();
    let wait = tokio::spawn({
        let handle = watched.clone();
        async move { handle.result().await }
    });
    // Whoever waits has said so before it ends.
    until("somebody waits", async || (raw().await.hlen::<_, u64>(key(&orch, "n")).await.unwrap() > 0).then_some(()))
        .await;
    at(&orch, 61).await;
    let worker = life(&orch).await;
    let claim = claim(&worker).await.unwrap();
    assert_eq!(claim.ticket().id, kept.id());
    assert!(wait.await.unwrap().is_err());
    assert_expired(&orch, watched.id()).await;
    // It ended late, and that is told though no timer had fired.
    assert_eq!(told(&orch, watched.id()).await, ["task.created", "task.failed", "sla.violation"]);
    let kept_clock = orch.get(kept.id()).await.unwrap().sla_clock.unwrap();
    assert_eq!((kept_clock.queue_ms, kept_clock.machine_ms), (61_000, 0));
}

#[tokio::test]
async fn claims_and_expiry_at_the_same_time_leave_each_task_to_one_of_them() {
    let orch = orch().await;
    let expires = chrono::Utc::now() + Duration::from_millis(700);
    let ids: Vec<TaskId> = orch
        .enqueue_all((0..1000).map(|_| job().expires_at(expires)))
        .await
        .unwrap()
        .iter()
        .map(|handle| handle.id())
        .collect();
    let expires_ms = u64::try_from(expires.timestamp_millis()).unwrap();
    let take = async |worker: &Incarnation| {
        let mut taken = Vec::new();
        loop {
            for claim in worker.step(&[], 1, &queues(), None).await.unwrap().claims {
                assert!(claim.claimed_at_ms() < expires_ms, "begun too late");
                taken.push(claim.ticket().id);
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
            if orch.stats().await.unwrap().pending_tasks == 0 {
                return taken;
            }
        }
    };
    let fire = async || {
        while orch.stats().await.unwrap().pending_tasks > 0 {
            orch.tick().await.unwrap();
        }
    };
    let (one, other) = (life(&orch).await, life(&orch).await);
    let (mut taken, more, ()) = futures::join!(take(&one), take(&other), fire());
    taken.extend(more);
    let distinct: HashSet<TaskId> = taken.iter().copied().collect();
    assert_eq!(distinct.len(), taken.len());
    assert!(!taken.is_empty() && taken.len() < ids.len(), "no race: {} of {} begun", taken.len(), ids.len());
    let failed = all_events(&orch).await.into_iter().filter(|event| event.event_type == "task.failed");
    let failed: Vec<TaskId> = failed.filter_map(|event| event.task_id).collect();
    assert_eq!(failed.len(), ids.len() - taken.len(), "each is told of once");
    for id in ids {
        match distinct.contains(&id) {
            true => assert_eq!(orch.get(id).await.unwrap().status, Status::InProgress),
            false => assert!(failed.contains(&assert_expired(&orch, id).await.task_id)),
        }
    }
}

#[tokio::test]
async fn what_runs_goes_on_and_what_comes_back_from_a_worker_is_not_begun_again() {
    let orch = still().await;
    let worker = life(&orch).await;
    let mut claims = Vec::new();
    for _ in 0..5 {
        orch.enqueue(job().expires("1m")).await.unwrap();
        claims.push(claim(&worker).await.unwrap());
    }
    // The timers fire while the tasks run, twice over.
    for seconds in [60, 61] {
        at(&orch, seconds).await;
        orch.tick().await.unwrap();
    }
    let [done, released, retried, shelved, lost] = claims.try_into().unwrap();
    let ids = [&done, &released, &retried, &shelved, &lost].map(|claim: &Claim| claim.ticket().id);
    for id in ids {
        assert_eq!(orch.get(id).await.unwrap().status, Status::InProgress);
    }
    complete(&worker, done).await;
    assert_eq!(orch.get(ids[0]).await.unwrap().status, Status::Completed);
    assert!(worker.release(&[released.ticket()]).await.unwrap().is_empty());
    assert_eq!(worker.retry(&retried, Duration::ZERO, "not yet").await.unwrap(), LetGo::Done);
    assert_eq!(worker.shelve(&shelved).await.unwrap(), LetGo::Done);
    // Nobody has fired anything since: it is in its queue, and still nobody gets it.
    assert_eq!(orch.get(ids[1]).await.unwrap().status, Status::Assigned);
    assert!(claim(&worker).await.is_none());
    assert_expired(&orch, ids[1]).await;
    orch.tick().await.unwrap();
    assert_eq!(assert_expired(&orch, ids[2]).await.error.as_deref(), Some("not yet"));
    assert_expired(&orch, ids[3]).await;
    // A worker that died.
    let rescuer = life(&orch).await;
    rescuer.beat(&[], &[]).await.unwrap();
    at(&orch, 90).await;
    until("the dead worker's task is taken back", async || {
        rescuer.beat(&[], &[]).await.unwrap();
        (rescuer.rescue().await.unwrap() > 0).then_some(())
    })
    .await;
    assert!(claim(&rescuer).await.is_none());
    let task = assert_expired(&orch, ids[4]).await;
    assert_eq!(task.crashes, 1);
    assert_eq!(
        told(&orch, ids[4]).await,
        ["task.created", "task.started", "task.rescued", "task.failed"],
        "the events tell all of it"
    );
    assert_no_timer(&orch).await;
}

#[tokio::test]
async fn what_is_not_due_yet_expires_where_it_waits() {
    let orch = still().await;
    let worker = life(&orch).await;
    // It counts from the start: this one has until 90 s.
    let delayed = orch.enqueue(job().delay("30s").expires("1m")).await.unwrap();
    assert_eq!(delayed.task().await.unwrap().expires_at.unwrap().timestamp() as u64, START + 90);
    let retried = orch.enqueue(job().expires("1m")).await.unwrap();
    let held = claim(&worker).await.unwrap();
    // The next attempt would come after its end.
    worker.retry(&held, Duration::from_secs(120), "later").await.unwrap();
    at(&orch, 60).await;
    orch.tick().await.unwrap();
    let task = assert_expired(&orch, retried.id()).await;
    assert_eq!((task.attempt, task.error.as_deref()), (1, Some("later")));
    assert_eq!(delayed.task().await.unwrap().status, Status::Assigned);
    at(&orch, 90).await;
    orch.tick().await.unwrap();
    assert_expired(&orch, delayed.id()).await;
    assert_no_timer(&orch).await;
    assert_eq!(raw().await.zcard::<_, u64>(key(&orch, "z")).await.unwrap(), 0);
}

#[tokio::test]
async fn a_gate_that_nobody_opens_in_time_stays_shut() {
    let orch = still().await;
    let gated = || job().policies(Some(Gate::new()), None).expires("1m");
    let waiting = orch.enqueue(gated()).await.unwrap().id();
    let late = orch.enqueue(gated()).await.unwrap().id();
    at(&orch, 61).await;
    // Somebody says yes before any timer has fired: it is too late all the same.
    let gate = |task| ApprovalId { task, number: 0 };
    orch.decide(gate(late), &Ballot::approve(Approver::named("ann"))).await.unwrap();
    assert!(claim(&life(&orch).await).await.is_none());
    assert_expired(&orch, late).await;
    orch.tick().await.unwrap();
    assert_expired(&orch, waiting).await;
    let approval = orch.approval(gate(waiting)).await.unwrap();
    assert_eq!(approval.status, ApprovalStatus::Cancelled);
    assert_eq!(orch.approvals_pending(0, 10).await.unwrap().total, 0);
    let error = orch.decide(gate(waiting), &Ballot::approve(Approver::named("ann"))).await.unwrap_err();
    assert!(matches!(error, Error::Conflict { .. }), "{error}");
    // Nobody has ever agreed to it; the other one may be tried again.
    assert!(orch.retry(waiting).await.unwrap_err().to_string().contains("never approved"));
    orch.retry(late).await.unwrap();
    assert_no_timer(&orch).await;
}

#[tokio::test]
async fn an_agent_outside_gets_nothing_that_has_expired() {
    let orch = still().await;
    let ready = orch.enqueue(job().expires("1m")).await.unwrap().id();
    let worker = life(&orch).await;
    let shelved = orch.enqueue(job().expires("1m").priority(orchestrator::Priority::P0)).await.unwrap().id();
    let held = claim(&worker).await.unwrap();
    assert_eq!(held.ticket().id, shelved);
    worker.shelve(&held).await.unwrap();
    let kept = orch.enqueue(job().expires("1h")).await.unwrap().id();
    at(&orch, 60).await;
    let error = orch.hold("agent", ready, HOLD_LEASE_MIN).await.unwrap_err();
    assert!(error.to_string().contains("has ended"), "{error}");
    let wanted = Wanted { types: vec!["job".into()], queues: queues().into(), tenant: None };
    let holds = orch.hold_next("agent", &wanted, 10, HOLD_LEASE_MAX, Duration::ZERO).await.unwrap();
    assert_eq!(holds.iter().map(|hold| hold.task.task_id).collect::<Vec<_>>(), [kept]);
    assert_expired(&orch, ready).await;
    assert_expired(&orch, shelved).await;
    assert_eq!(
        told(&orch, shelved).await,
        ["task.created", "task.started", "task.shelved", "task.failed"],
        "it went from the shelf straight to its end"
    );
    assert!(!orch.get(shelved).await.unwrap().shelved);
    // The lease of what it has goes on, and its release is an end.
    at(&orch, 3600).await;
    let holder = orch.holder("agent", kept, Some(holds[0].token));
    orch.tick().await.unwrap();
    holder.renew(HOLD_LEASE_MAX).await.unwrap();
    holder.release().await.unwrap();
    orch.tick().await.unwrap();
    assert_expired(&orch, kept).await;
    assert_no_timer(&orch).await;
}

#[tokio::test]
async fn a_manual_retry_does_not_expire_and_a_cancelled_one_leaves_nothing() {
    let orch = still().await;
    let id = orch.enqueue(job().expires("1m")).await.unwrap().id();
    let cancelled = orch.enqueue(job().expires("1m")).await.unwrap();
    cancelled.cancel().await.unwrap();
    at(&orch, 60).await;
    orch.tick().await.unwrap();
    assert_expired(&orch, id).await;
    orch.retry(id).await.unwrap();
    let task = orch.get(id).await.unwrap();
    assert_eq!((task.status, task.expires_at, task.reason), (Status::Assigned, None, None));
    at(&orch, 1000).await;
    orch.tick().await.unwrap();
    let worker = life(&orch).await;
    let held = claim(&worker).await.expect("the new life");
    complete(&worker, held).await;
    assert_eq!(orch.get(id).await.unwrap().status, Status::Completed);
    assert_no_timer(&orch).await;
}

#[tokio::test]
async fn bounds_are_named() {
    let orch = still().await;
    let told = async |task: NewTask<()>| orch.enqueue(task).await.unwrap_err().to_string();
    let instant = |seconds: u64| chrono::DateTime::from_timestamp((START + seconds) as i64, 0).unwrap();
    assert!(told(job().expires_at(instant(0))).await.contains("before it may start"));
    assert!(told(job().delay("1h").expires_at(instant(3600))).await.contains("before it may start"));
    assert!(told(job().expires("1h").expires_at(instant(9))).await.contains("not both"));
    assert!(told(job().expires("400d")).await.contains("366 days"));
    assert!(told(job().expires("0s")).await.contains("before it may start"));
}

/// What the handlers below wait for.
struct Steps(Semaphore);

/// Asks a person; its second attempt, if there is one, must not be.
#[task_handler(
    "expires.asks",
    queue = "asks",
    retries = 3,
    backoff = "fixed(1ms)",
    expires = "2s",
    crate = "orchestrator_worker"
)]
async fn asks(fails: bool, ctx: TaskContext) -> TaskResult<u32> {
    ctx.approve(json!({"go": true})).await?;
    match fails {
        true => Err("after the wait".into()),
        false => Ok(ctx.attempt()),
    }
}

/// Runs longer than its time.
#[task_handler("expires.runs", queue = "asks", expires = "500ms", crate = "orchestrator_worker")]
async fn runs(_: (), steps: Data<Arc<Steps>>) -> TaskResult {
    steps.0.acquire().await?.forget();
    Ok(())
}

/// Waits until the server's clock has passed the instant after which the task begins no attempt.
async fn past_its_end(orch: &Orchestrator, id: TaskId) {
    let expires = orch.get(id).await.unwrap().expires_at.expect("it expires");
    until("its end", async || {
        orch.clock_error().await.unwrap();
        (chrono::Utc::now() > expires + Duration::from_millis(5)).then_some(())
    })
    .await;
    orch.tick().await.unwrap();
}

#[tokio::test]
async fn what_its_handler_has_begun_goes_on_after_a_wait_and_is_not_begun_again() {
    let orch = orch().await;
    let steps = Arc::new(Steps(Semaphore::new(0)));
    let worker = Worker::builder(orch.clone()).discover(false).register::<asks>().register::<runs>();
    let running = worker.data(Arc::clone(&steps)).build().unwrap().start();
    let good = orch.enqueue(asks::with(false)).await.unwrap();
    let bad = orch.enqueue(asks::with(true)).await.unwrap();
    let long = orch.enqueue(runs::with(())).await.unwrap();
    for id in [good.id(), bad.id()] {
        orchestrator_tests::blocked(&orch, id).await;
    }
    until("the long one runs", async || (long.task().await.unwrap().status == Status::InProgress).then_some(())).await;
    for id in [good.id(), bad.id(), long.id()] {
        past_its_end(&orch, id).await;
    }
    for id in [good.id(), bad.id()] {
        let approval = orch.get(id).await.unwrap().approval_id.expect("it still asks");
        orch.decide(approval, &Ballot::approve(Approver::named("ann"))).await.unwrap();
    }
    assert_eq!(good.result().await.unwrap(), 1);
    assert!(bad.result().await.is_err());
    let task = assert_expired(&orch, bad.id()).await;
    assert_eq!((task.attempt, task.error.as_deref()), (1, Some("after the wait")));
    assert_eq!(long.task().await.unwrap().status, Status::InProgress);
    steps.0.add_permits(1);
    long.result().await.unwrap();
    running.stop().await.unwrap();
    assert_no_timer(&orch).await;
}

#[tokio::test]
async fn submitters_who_do_not_link_the_handler_hear_of_its_expiry() {
    let orch = orch().await;
    let running = Worker::builder(orch.clone()).discover(false).register::<asks>().build().unwrap().start();
    until("the handler is published", async || orch.offers().await.unwrap().contains_key("expires.asks").then_some(()))
        .await;
    // Kept for a while, so a client of its own.
    let other = Orchestrator::with_config(orch.config().clone()).await.unwrap();
    let task = other.enqueue(NewTask::<u32>::new("expires.asks", &false)).await.unwrap().task().await.unwrap();
    assert_eq!((task.expires_at.unwrap() - task.created_at).num_seconds(), 2);
    let own = NewTask::<u32>::new("expires.asks", &false).expires("1h");
    let task = other.enqueue(own).await.unwrap().task().await.unwrap();
    assert!((task.expires_at.unwrap() - task.created_at).num_minutes() > 50);
    running.stop().await.unwrap();
}
