//! Redis does the work and its answer is lost: everything ends as if the answer had come.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use orchestrator::{ApprovalId, Approver, Ballot, Config, Decided, Gate, Incarnation};
use orchestrator_tests::{Exchange, Proxy, namespace, server, until, within};
use orchestrator_worker::{
    Data, Orchestrator, Status, Task, TaskContext, TaskError, TaskId, TaskResult, WorkerBuilder, task_handler,
};
use tokio::sync::Notify;

use super::look::Look;
use super::{SHORT, run, worker};

/// What the handler shares with its test.
#[derive(Default)]
struct Bench {
    runs: AtomicU32,
    steps: AtomicU32,
    started: Notify,
}

type Shared = Arc<Bench>;

/// On its first run does what it is told.
#[task_handler("act", queue = "act", retries = 2, backoff = "fixed(1ms)")]
async fn act(how: String, bench: Data<Shared>, ctx: TaskContext) -> TaskResult<String> {
    let runs = bench.runs.fetch_add(1, Ordering::SeqCst) + 1;
    bench.started.notify_one();
    match how.as_str() {
        "fail" if runs == 1 => Err("not yet".into()),
        "despair" if runs == 1 => Err(TaskError::fatal("no way")),
        "hold" if runs == 1 => {
            ctx.cancelled().await;
            Err("stopped".into())
        }
        _ => Ok(format!("{how} is done")),
    }
}

/// Asks, sleeps, and counts its steps.
#[task_handler("ask", queue = "act", retries = 0)]
async fn ask(how: String, bench: Data<Shared>, ctx: TaskContext) -> TaskResult<String> {
    bench.runs.fetch_add(1, Ordering::SeqCst);
    let step = || async { Ok::<_, TaskError>(bench.steps.fetch_add(1, Ordering::SeqCst)) };
    ctx.step("first", step).await?;
    let how = ctx.approve(how).await?;
    ctx.sleep("10ms").await;
    ctx.once("second", |_| step()).await?;
    Ok(format!("{} by {}", *how, how.by()))
}

#[task_handler("idle", queue = "act")]
async fn idle(_: ()) -> TaskResult {
    Ok(())
}

/// A namespace behind a line that is to be cut.
struct Ground {
    orch: Orchestrator,
    bench: Shared,
    look: Look,
}

impl Ground {
    fn worker(&self) -> WorkerBuilder {
        worker(&self.orch).data(Arc::clone(&self.bench)).register::<act>().register::<ask>()
    }

    async fn task(&self, how: &str) -> TaskId {
        self.orch.enqueue(act::with(how.into())).await.unwrap().id()
    }

    async fn result(&self, id: TaskId) -> String {
        self.orch.handle(id).result().await.unwrap()
    }

    /// Runs a worker until the task has ended, and to its orderly end.
    async fn work(&self, id: TaskId) {
        let (stop, running) = run(self.worker());
        let _ = self.orch.handle::<String>(id).result().await;
        stop.drain();
        within("the worker's end", running).await.unwrap().unwrap();
    }

    async fn ready(&self) -> u64 {
        self.orch.stats().await.unwrap().queues.iter().map(|queue| queue.ready).sum()
    }
}

/// What is left of a task: all but its name and its times, its events, and how often its handler ran.
type Left = (Task, Vec<(&'static str, u32)>, u32);

/// A reply to be cut: to which script, and which of them.
type Cut = (&'static str, fn(&Exchange) -> bool);

fn any(_: &Exchange) -> bool {
    true
}

fn with_finish(step: &Exchange) -> bool {
    step.args.len() > 3 + usize::from(step.args[2][2])
}

fn with_claim(step: &Exchange) -> bool {
    !step.item(3).is_empty()
}

/// Acts once with a whole line and once for each list of cuts, and compares what is left.
async fn same(cuts: &[&[Cut]], scenario: impl AsyncFn(&mut Ground) -> TaskId) {
    let mut whole: Option<Left> = None;
    for cuts in std::iter::once(&[].as_slice()).chain(cuts) {
        let line = Proxy::before(server::shared());
        let config = Config { namespace: namespace(), ..Config::new(&line.url()) };
        let orch = Orchestrator::with_config(config).await.unwrap();
        let look = Look::at(&orch, server::shared().raw().await);
        let mut ground = Ground { orch, bench: Shared::default(), look };
        for (name, when) in cuts.iter().copied() {
            line.cut(name, when);
        }
        let id = scenario(&mut ground).await;
        line.struck(cuts.len()).await;
        let mut task = ground.orch.get(id).await.unwrap();
        task.task_id = "019aa1b2-c3d4-7e5f-8a6b-7c8d9e0f1000".parse().unwrap();
        task.trace_id.clear();
        task.created_at = Default::default();
        task.run_at = None;
        task.sla_clock = None;
        task.approval_id = task.approval_id.map(|id| ApprovalId { task: task.task_id, ..id });
        (task.started_at, task.completed_at) = (task.started_at.map(|_| Default::default()), None);
        let left = (task, ground.look.events(id).await, ground.bench.runs.load(Ordering::SeqCst));
        assert_eq!(ground.look.held_by_all().await, 0, "a worker that is gone holds nothing");
        let names: Vec<&str> = cuts.iter().map(|(name, _)| *name).collect();
        match &whole {
            None => whole = Some(left),
            Some(whole) => assert_eq!(&left, whole, "after the lost reply of {names:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_submission_is_stored_once() {
    same(&[&[("enqueue", any)], &[("HGETALL", any), ("enqueue", any), ("enqueue", any)]], async |ground| {
        let id = ground.task("sum").await;
        assert_eq!(ground.ready().await, 1);
        ground.work(id).await;
        id
    })
    .await;
    same(&[&[("enqueue", any)]], async |ground| {
        let tasks = ["a", "b", "c"].map(|how| act::with(how.into()).delay("50ms"));
        let handles = ground.orch.enqueue_all(tasks).await.unwrap();
        assert_eq!(ground.orch.stats().await.unwrap().scheduled_tasks, 3);
        for handle in &handles {
            ground.work(handle.id()).await;
        }
        handles[1].id()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_finish_counts_once_and_an_unseen_claim_is_adopted() {
    let cuts: &[&[Cut]] = &[
        &[("step", with_finish)],
        &[("step", with_claim)],
        &[("step", with_claim), ("reconcile", any), ("step", with_finish), ("reconcile", any)],
        &[("join", any), ("await_end", any), ("leave", any)],
    ];
    same(cuts, async |ground| {
        let id = ground.task("sum").await;
        ground.work(id).await;
        assert_eq!(ground.result(id).await, "sum is done");
        id
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retry_counts_one_attempt() {
    same(&[&[("retry", any)], &[("tick", any)], &[("retry", any), ("reconcile", any)]], async |ground| {
        let id = ground.task("fail").await;
        ground.work(id).await;
        let seen = ground.orch.get(id).await.unwrap();
        assert_eq!((seen.status, seen.attempt, seen.retry_count), (Status::Completed, 2, 1));
        id
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_release_counts_nothing() {
    same(&[&[("release", any)], &[("release", any), ("reconcile", any)]], async |ground| {
        let id = ground.task("hold").await;
        let (stop, running) = run(ground.worker().drain_grace(Duration::ZERO));
        ground.bench.started.notified().await;
        stop.drain();
        within("the worker's end", running).await.unwrap().unwrap();
        let seen = ground.orch.get(id).await.unwrap();
        assert_eq!((seen.status, seen.attempt), (Status::Assigned, 0));
        ground.work(id).await;
        id
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_task_stays_cancelled_and_a_revived_one_is_revived_once() {
    same(&[&[("cancel", any)]], async |ground| {
        let id = ground.task("sum").await;
        assert_eq!(ground.orch.cancel(id).await.unwrap(), Status::Cancelled);
        id
    })
    .await;
    same(&[&[("cancel", any)], &[("cancel", any), ("step", with_finish)]], async |ground| {
        let id = ground.task("hold").await;
        let (stop, running) = run(ground.worker());
        ground.bench.started.notified().await;
        // Asked again after a lost answer, it may have stopped already.
        let told = ground.orch.cancel(id).await.unwrap();
        assert!(matches!(told, Status::InProgress | Status::Cancelled), "{told}");
        ground.orch.handle::<String>(id).result().await.expect_err("cancelled");
        stop.drain();
        within("the worker's end", running).await.unwrap().unwrap();
        id
    })
    .await;
    same(&[&[("revive", any)], &[("revive", any), ("revive", any)]], async |ground| {
        let id = ground.task("despair").await;
        ground.work(id).await;
        assert_eq!(ground.orch.get(id).await.unwrap().status, Status::Failed);
        ground.orch.retry(id).await.unwrap();
        ground.work(id).await;
        assert_eq!(ground.result(id).await, "despair is done");
        id
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_shelf_and_the_pause_survive_lost_answers() {
    same(&[&[("shelve", any)], &[("unshelve", any)], &[("beat", any)]], async |ground| {
        let id = ground.task("sum").await;
        let (stop, running) = run(worker(&ground.orch).register::<idle>());
        until("the shelf", || async { (ground.orch.stats().await.unwrap().shelved_tasks == 1).then_some(()) }).await;
        stop.drain();
        within("the worker's end", running).await.unwrap().unwrap();
        ground.work(id).await;
        id
    })
    .await;
    same(&[&[("pause", any)], &[("pause", |pause| pause.args[1] == b"0")]], async |ground| {
        let id = ground.task("sum").await;
        ground.orch.pause("act").await.unwrap();
        assert!(ground.orch.stats().await.unwrap().queues[0].paused);
        ground.orch.resume("act").await.unwrap();
        ground.work(id).await;
        id
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rescue_counts_one_crash() {
    same(&[&[("rescue", any)]], async |ground| {
        let id = ground.task("sum").await;
        let dead = Incarnation::join(&ground.orch, &["act".into()], &[], SHORT).await.unwrap();
        let held = dead.step(&[], 1, &["act".into()], None).await.unwrap().claims;
        assert_eq!(held.len(), 1);
        let (stop, running) = run(ground.worker().lease(SHORT));
        assert_eq!(ground.result(id).await, "sum is done");
        assert_eq!(ground.orch.get(id).await.unwrap().crashes, 1);
        stop.drain();
        within("the worker's end", running).await.unwrap().unwrap();
        id
    })
    .await;
}

/// Waits until the task waits for a person, and says yes.
async fn approve(ground: &Ground, id: TaskId) {
    let approval = until("a question", || async {
        ground.orch.get(id).await.ok().filter(|task| task.status == Status::Blocked)?.approval_id
    });
    let ballot = Ballot::approve(Approver::named("alice"));
    let decided = ground.orch.decide(approval.await, &ballot).await.unwrap();
    assert!(matches!(decided, Decided::Done(_)), "{decided:?}");
}

fn sleep_over(tick: &Exchange) -> bool {
    tick.item(0) != b"0"
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_question_is_asked_once_its_answer_is_kept_and_steps_stay_done() {
    let cuts: &[&[Cut]] = &[
        &[("journal", any)],
        &[("journal", any), ("journal", any), ("journal", any)],
        &[("park", any)],
        &[("park", any), ("reconcile", any), ("park", any), ("reconcile", any)],
        &[("decide", any)],
        &[("tick", sleep_over)],
        &[("step", with_claim), ("park", any), ("decide", any), ("journal", any), ("step", with_finish)],
    ];
    same(cuts, async |ground| {
        let id = ground.orch.enqueue(ask::with("sum".into())).await.unwrap().id();
        let (stop, running) = run(ground.worker());
        approve(ground, id).await;
        assert_eq!(ground.result(id).await, "sum by alice");
        stop.drain();
        within("the worker's end", running).await.unwrap().unwrap();
        assert_eq!(ground.bench.steps.swap(0, Ordering::SeqCst), 2, "each step was done once");
        assert_eq!(ground.orch.approvals_history(0, 10).await.unwrap().total, 1);
        id
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gated_task_is_stored_once_and_let_through_once() {
    let cuts: &[&[Cut]] = &[&[("admit", any)], &[("admit", any), ("admit", any), ("decide", any), ("decide", any)]];
    same(cuts, async |ground| {
        let task = act::with("sum".into()).policies(Some(Gate::new()), None).sla_target("1h");
        let id = ground.orch.enqueue(task).await.unwrap().id();
        assert_eq!(ground.orch.approvals_pending(0, 10).await.unwrap().total, 1);
        approve(ground, id).await;
        ground.work(id).await;
        assert_eq!(ground.result(id).await, "sum is done");
        id
    })
    .await;
}
