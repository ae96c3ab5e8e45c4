//! Tasks of which one at a time is there: who submits another gets that one, until it begins or until it has ended.

use std::collections::HashSet;
use std::time::Duration;

use futures::future::join_all;
use orchestrator::{
    ApprovalId, Approver, Ballot, Claim, Config, Error, Gate, HOLD_LEASE_MAX, Incarnation, NewTask, Orchestrator,
    Status, TaskHandle, TaskId, Unique, UniqueUntil, encode_value,
};
use orchestrator_tests::{Server, all_events, config, key, orch, raw, taken_back, until};
use orchestrator_worker::{TaskContext, TaskResult, Worker, payload, task_handler};
use redis::AsyncCommands;
use serde_json::{Value, json};

const QUEUE: &str = "q";

fn job() -> NewTask {
    NewTask::new("job", &json!({"repo": "a", "issue": 1})).queue(QUEUE)
}

fn done(key: &str) -> NewTask {
    job().unique(Unique::until_done(key))
}

fn started(key: &str) -> NewTask {
    job().unique(Unique::until_started(key))
}

async fn submit(orch: &Orchestrator, task: NewTask) -> TaskHandle {
    orch.enqueue(task).await.unwrap()
}

async fn life(orch: &Orchestrator, lease: Duration) -> Incarnation {
    Incarnation::join(orch, &[QUEUE.into()], &[], lease).await.unwrap()
}

async fn worker(orch: &Orchestrator) -> Incarnation {
    life(orch, Duration::from_secs(6)).await
}

async fn claim(worker: &Incarnation) -> Claim {
    worker.step(&[], 1, &[QUEUE.into()], None).await.unwrap().claims.pop().expect("a task is ready")
}

async fn finish(worker: &Incarnation, finish: orchestrator::Finish) {
    assert!(worker.step(&[finish], 0, &[], None).await.unwrap().stale.is_empty());
}

fn result() -> Vec<u8> {
    encode_value("result", &(), 100).unwrap()
}

/// Whoever submits this now gets a task of its own.
async fn is_free(orch: &Orchestrator, task: NewTask) {
    let handle = submit(orch, task).await;
    assert!(!handle.existing(), "{} still has the key", handle.id());
    handle.cancel().await.unwrap();
}

/// Whoever submits this now gets `holder`.
async fn is_held(orch: &Orchestrator, task: NewTask, holder: TaskId) {
    let handle = submit(orch, task).await;
    assert_eq!((handle.id(), handle.existing()), (holder, true));
}

/// Nothing is held any more.
async fn nothing_is_left(orch: &Orchestrator) {
    let locks: u64 = raw().await.hlen(key(orch, "l")).await.unwrap();
    assert_eq!(locks, 0);
}

#[tokio::test]
async fn fifty_who_submit_the_same_get_one_task() {
    let one = orch().await;
    let other = Orchestrator::with_config(one.config().clone()).await.unwrap();
    let submit = |n: usize| {
        let orch = if n.is_multiple_of(2) { one.clone() } else { other.clone() };
        async move {
            match n % 3 {
                0 => orch.submit(done("k")).await.map(|submitted| (submitted.id, submitted.existing)).unwrap(),
                _ => orch.enqueue(done("k")).await.map(|handle| (handle.id(), handle.existing())).unwrap(),
            }
        }
    };
    let told = join_all((0..50).map(submit)).await;
    assert_eq!(told.iter().map(|(id, _)| *id).collect::<HashSet<_>>().len(), 1);
    assert_eq!(told.iter().filter(|(_, existing)| !existing).count(), 1, "one has made it");
    let stats = one.stats().await.unwrap();
    assert_eq!((stats.pending_tasks, stats.total_tasks), (1, 1));
    assert_eq!(all_events(&one).await.len(), 1);
}

#[tokio::test]
async fn a_batch_is_sifted_and_its_handles_come_in_order() {
    let orch = orch().await;
    let before = submit(&orch, done("b")).await.id();
    let tasks = ["a", "b", "a", "c"].map(done).into_iter().chain([job(), job()]);
    let handles = orch.enqueue_all(tasks).await.unwrap();
    assert_eq!(handles.iter().map(TaskHandle::existing).collect::<Vec<_>>(), [false, true, true, false, false, false]);
    assert_eq!((handles[1].id(), handles[2].id()), (before, handles[0].id()));
    assert_eq!(orch.stats().await.unwrap().pending_tasks, 5);
    for handle in handles {
        assert!(handle.task().await.is_ok());
    }
}

#[tokio::test]
async fn a_key_is_its_tenants_and_its_types() {
    let orch = orch().await;
    let one = submit(&orch, done("k")).await.id();
    is_held(&orch, done("k"), one).await;
    is_held(&orch, started("k"), one).await;
    is_free(&orch, done("k").tenant("acme")).await;
    is_free(&orch, done("K")).await;
    let other: NewTask = NewTask::new("other", &()).queue(QUEUE).unique(Unique::until_done("k"));
    is_free(&orch, other).await;
    is_free(&orch, job()).await;
    // Whoever asks for it, and whatever else it says.
    is_held(&orch, done("k").requested_by("bob").delay("1h").priority(orchestrator::Priority::P0), one).await;
    let task = orch.get(one).await.unwrap();
    assert_eq!((task.unique, task.requested_by), (Some(UniqueUntil::Done), None));
}

#[tokio::test]
async fn until_started_is_free_with_the_first_claim() {
    let orch = orch().await;
    let first = submit(&orch, started("k")).await.id();
    is_held(&orch, started("k"), first).await;
    let worker = worker(&orch).await;
    let held = claim(&worker).await;
    let second = submit(&orch, started("k")).await;
    assert!(!second.existing());
    // The first one coming back takes nothing from the second.
    worker.release(&[held.ticket()]).await.unwrap();
    let again = claim(&worker).await;
    assert_eq!(again.ticket().id, first);
    is_held(&orch, started("k"), second.id()).await;
    finish(&worker, again.complete(&result())).await;
    is_held(&orch, started("k"), second.id()).await;
    // An agent outside is one who begins, too.
    orch.hold("agent", second.id(), HOLD_LEASE_MAX).await.unwrap();
    is_free(&orch, started("k")).await;
    // Whoever never begins frees it by ending.
    submit(&orch, started("k")).await.cancel().await.unwrap();
    is_free(&orch, started("k")).await;
    nothing_is_left(&orch).await;
}

#[tokio::test]
async fn until_done_is_free_with_every_end_and_with_nothing_else() {
    let orch = orch().await;
    let worker = worker(&orch).await;
    let id = submit(&orch, done("k")).await.id();
    // Nothing that is no end.
    let held = claim(&worker).await;
    is_held(&orch, done("k"), id).await;
    worker.retry(&held, Duration::ZERO, "once more").await.unwrap();
    is_held(&orch, done("k"), id).await;
    orch.tick().await.unwrap();
    let held = claim(&worker).await;
    worker.shelve(&held).await.unwrap();
    is_held(&orch, done("k"), id).await;
    worker.unshelve(&["job".into()]).await.unwrap();
    let held = claim(&worker).await;
    assert_eq!(held.ticket().id, id, "its own retry is not kept out");
    finish(&worker, held.complete(&result())).await;
    assert_eq!(orch.get(id).await.unwrap().status, Status::Completed);
    is_free(&orch, done("k")).await;

    submit(&orch, done("k")).await;
    let held = claim(&worker).await;
    finish(&worker, held.fail("fatal", "no")).await;
    is_free(&orch, done("k")).await;

    // Cancelled while it waits, and while it runs.
    submit(&orch, done("k")).await.cancel().await.unwrap();
    let id = submit(&orch, done("k")).await.id();
    let held = claim(&worker).await;
    assert_eq!(orch.cancel(id).await.unwrap(), Status::InProgress);
    is_held(&orch, done("k"), id).await;
    finish(&worker, held.cancelled()).await;
    is_free(&orch, done("k")).await;

    // A person said no.
    let id = submit(&orch, done("k").policies(Some(Gate::new()), None)).await.id();
    is_held(&orch, done("k"), id).await;
    let no = Ballot::reject(Approver::named("ann"));
    orch.decide(ApprovalId { task: id, number: 0 }, &no).await.unwrap();
    is_free(&orch, done("k")).await;

    // It expired: by its timer, in the hands of a worker, of an agent outside.
    for way in 0..3 {
        let handle = submit(&orch, done("k").expires("1h")).await;
        let timers = key(&orch, "y");
        let timer: Vec<Vec<u8>> = raw().await.zrange(&timers, 0, -1).await.unwrap();
        let _: () = raw().await.zadd(&timers, &timer[0], 1).await.unwrap();
        match way {
            0 => drop(orch.tick().await.unwrap()),
            1 => assert!(worker.step(&[], 1, &[QUEUE.into()], None).await.unwrap().again),
            _ => drop(orch.hold("agent", handle.id(), HOLD_LEASE_MAX).await.unwrap_err()),
        }
        assert_eq!(handle.task().await.unwrap().reason.as_deref(), Some("expired"));
        is_free(&orch, done("k")).await;
    }
    nothing_is_left(&orch).await;
}

#[tokio::test]
async fn a_crash_keeps_the_key_and_the_third_one_frees_it() {
    let orch = orch().await;
    let id = submit(&orch, done("k")).await.id();
    for crashes in 1..=3 {
        let dying = life(&orch, Duration::from_millis(1)).await;
        let _ = claim(&dying).await;
        is_held(&orch, done("k"), id).await;
        taken_back(&orch, QUEUE, id, crashes).await;
    }
    let task = orch.get(id).await.unwrap();
    assert_eq!((task.status, task.reason.as_deref()), (Status::Failed, Some("poison")));
    is_free(&orch, done("k")).await;
    nothing_is_left(&orch).await;
}

#[tokio::test]
async fn a_key_outlives_everybody_but_its_task() {
    let mut server = Server::start(&["--appendonly", "yes", "--appendfsync", "always"]);
    let config = Config { url: server.url(), ..config() };
    let orch = Orchestrator::with_config(config.clone()).await.unwrap();
    let id = submit(&orch, done("k")).await.id();
    let _ = claim(&worker(&orch).await).await;
    drop(orch);
    server.kill();
    server.restart();
    let orch = Orchestrator::with_config(config).await.unwrap();
    is_held(&orch, done("k"), id).await;
}

#[tokio::test]
async fn a_key_whose_task_is_gone_is_taken_over() {
    let orch = orch().await;
    let gone = submit(&orch, done("k")).await.id();
    let slices: Vec<Vec<u8>> = raw().await.zrange(key(&orch, "T"), 0, -1).await.unwrap();
    let removed: u64 = raw().await.del([key(&orch, "t").as_bytes(), &slices[0]].concat()).await.unwrap();
    assert_eq!(removed, 1, "somebody has deleted its record");
    let next = submit(&orch, done("k")).await;
    assert!(!next.existing() && next.id() != gone);
    next.cancel().await.unwrap();
    nothing_is_left(&orch).await;
}

#[tokio::test]
async fn a_repeated_request_is_answered_as_before() {
    let orch = orch().await;
    let first = submit(&orch, done("k")).await;
    // Under a key of its own, and again when the first has ended: the answer stands.
    let asked = || done("k").idempotency_key("request-2");
    is_held(&orch, asked(), first.id()).await;
    first.cancel().await.unwrap();
    assert_eq!(submit(&orch, asked()).await.id(), first.id());
    // The very same task sent twice is known, not its own rival.
    let id = worker(&orch).await.new_id();
    for _ in 0..2 {
        let handle = submit(&orch, done("k").id(id)).await;
        assert_eq!((handle.id(), handle.existing()), (id, false));
    }
    assert_eq!(orch.stats().await.unwrap().pending_tasks, 1);
}

#[tokio::test]
async fn a_new_life_takes_the_key_or_is_told_who_has_it() {
    let orch = orch().await;
    let first = submit(&orch, done("k")).await;
    first.cancel().await.unwrap();
    let second = submit(&orch, done("k")).await;
    let error = orch.retry(first.id()).await.unwrap_err();
    let told = error.to_string();
    assert!(matches!(error, Error::Conflict { .. }) && told.contains(&second.id().to_string()), "{told}");
    assert_eq!(first.task().await.unwrap().status, Status::Cancelled);
    second.cancel().await.unwrap();
    orch.retry(first.id()).await.unwrap();
    is_held(&orch, done("k"), first.id()).await;
    let worker = worker(&orch).await;
    let held = claim(&worker).await;
    finish(&worker, held.complete(&result())).await;
    is_free(&orch, done("k")).await;
    nothing_is_left(&orch).await;
}

#[payload]
struct Issue {
    repo: String,
    issue: u64,
    note: String,
}

fn issue(repo: &str, issue: u64, note: &str) -> Issue {
    Issue { repo: repo.into(), issue, note: note.into() }
}

/// One at a time for each issue.
#[task_handler("unique.fix", queue = "unique", unique(by = ["args.repo", "args.issue"]), crate = "orchestrator_worker")]
async fn fix(args: Issue, ctx: TaskContext) -> TaskResult<String> {
    ctx.approve(json!({"go": true})).await?;
    Ok(args.note)
}

/// At most one that waits.
#[task_handler(
    "unique.refresh",
    queue = "unique",
    unique(by = "args.repo", until = "started"),
    crate = "orchestrator_worker"
)]
async fn refresh(args: Issue, ctx: TaskContext) -> TaskResult<String> {
    ctx.approve(json!({"go": true})).await?;
    Ok(args.note)
}

#[tokio::test]
async fn a_handler_says_what_makes_its_tasks_unique() {
    let orch = orch().await;
    // Nobody has published it yet: the submitter has the handler itself.
    let first = orch.enqueue(fix::with(issue("a", 1, "first"))).await.unwrap();
    let second = orch.enqueue(fix::with(issue("a", 1, "second"))).await.unwrap();
    let third = orch.enqueue(fix::with(issue("a", 2, "third"))).await.unwrap();
    assert_eq!((second.existing(), second.id(), third.existing()), (true, first.id(), false));
    let builder = Worker::builder(orch.clone()).discover(false).register::<fix>().register::<refresh>();
    let running = builder.build().unwrap().start();
    until("the handlers are published", async || {
        orch.offers().await.unwrap().contains_key("unique.refresh").then_some(())
    })
    .await;
    // Who has not got the handler hears of it, in a client of its own.
    let other = Orchestrator::with_config(orch.config().clone()).await.unwrap();
    let by_name = |task_type, args: Value| NewTask::<String>::new(task_type, &args);
    let rival = other.enqueue(by_name("unique.fix", json!({"repo": "a", "issue": 1, "note": ""}))).await.unwrap();
    assert_eq!((rival.existing(), rival.id()), (true, first.id()));
    let error = other.enqueue(by_name("unique.fix", json!({"repo": "a"}))).await.unwrap_err().to_string();
    assert!(error.contains("unique by args.issue"), "{error}");
    // The submitter's own word goes before the handler's.
    let own = other.enqueue(fix::with(issue("a", 1, "own")).unique(Unique::until_done("x"))).await.unwrap();
    assert!(!own.existing());

    orchestrator_tests::blocked(&orch, first.id()).await;
    assert!(orch.enqueue(fix::with(issue("a", 1, "while it asks"))).await.unwrap().existing());
    let early = orch.enqueue(refresh::with(issue("a", 1, "early"))).await.unwrap();
    orchestrator_tests::blocked(&orch, early.id()).await;
    let late = orch.enqueue(refresh::with(issue("a", 9, "late"))).await.unwrap();
    assert!(!late.existing());
    let approval = orch.get(first.id()).await.unwrap().approval_id.unwrap();
    orch.decide(approval, &Ballot::approve(Approver::named("ann"))).await.unwrap();
    assert_eq!(second.result().await.unwrap(), "first", "whoever came second hears of the one there is");
    assert!(!orch.enqueue(fix::with(issue("a", 1, "after"))).await.unwrap().existing());
    running.stop().await.unwrap();
}
