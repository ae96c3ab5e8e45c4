//! Durable steps: done once, replayed by name, and told apart from those of another handler.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use orchestrator::{ApprovalId, Approver, Ballot, JOURNAL_ENTRIES_MAX, NewTask, Orchestrator, Status, Task, TaskId};
use orchestrator_tests::{orch, until};
use orchestrator_worker::{
    Data, Once, Running, TaskContext, TaskError, TaskHandler, TaskResult, Worker, task_handler, tokio,
};

type Counts = Arc<[AtomicU32; 4]>;

fn worker<H: TaskHandler + Default>(orch: &Orchestrator, counts: &Counts) -> Running {
    let worker = Worker::builder(orch.clone()).discover(false).register::<H>().data(Arc::clone(counts));
    worker.build().unwrap().start()
}

/// A task of the type that all handlers here have.
async fn task_of(orch: &Orchestrator) -> TaskId {
    orch.enqueue(NewTask::<()>::new("job", &7u32).queue("job").max_retries(1)).await.unwrap().id()
}

async fn ended(orch: &Orchestrator, id: TaskId) -> Task {
    until("the end", || async { orch.get(id).await.ok().filter(|task| task.status.is_terminal()) }).await
}

async fn parked(orch: &Orchestrator, id: TaskId) -> ApprovalId {
    until("a question", || async { orch.get(id).await.ok().filter(|task| task.status == Status::Blocked)?.approval_id })
        .await
}

async fn count(counts: &Counts, which: usize) -> TaskResult<u32> {
    Ok(counts[which].fetch_add(1, Ordering::SeqCst))
}

fn counted(counts: &Counts) -> Vec<u32> {
    counts.iter().map(|count| count.load(Ordering::SeqCst)).collect()
}

mod first {
    use super::*;

    #[task_handler("job", queue = "job", retries = 0)]
    pub(super) async fn job(n: u32, counts: Data<Counts>, ctx: TaskContext) -> TaskResult<u32> {
        ctx.step("a", || count(&counts, 0)).input(&n).await?;
        ctx.approve(n).await?;
        ctx.step("b", || count(&counts, 1)).await
    }
}

/// The same with a step put in before the others.
mod inserted {
    use super::*;

    #[task_handler("job", queue = "job", retries = 0)]
    pub(super) async fn job(n: u32, counts: Data<Counts>, ctx: TaskContext) -> TaskResult<u32> {
        ctx.step("new", || count(&counts, 3)).await?;
        ctx.step("a", || count(&counts, 0)).input(&n).await?;
        ctx.approve(n).await?;
        ctx.step("b", || count(&counts, 1)).await
    }
}

/// The same without the first step.
mod removed {
    use super::*;

    #[task_handler("job", queue = "job", retries = 0)]
    pub(super) async fn job(n: u32, counts: Data<Counts>, ctx: TaskContext) -> TaskResult<u32> {
        ctx.approve(n).await?;
        ctx.step("b", || count(&counts, 3)).await
    }
}

/// The same with another input, and with an output of another type.
mod other_input {
    use super::*;

    #[task_handler("job", queue = "job", retries = 0)]
    pub(super) async fn job(n: u32, counts: Data<Counts>, ctx: TaskContext) -> TaskResult<u32> {
        ctx.step("a", || count(&counts, 3)).input(&(n + 1)).await
    }
}

mod other_output {
    use super::*;

    #[task_handler("job", queue = "job", retries = 0)]
    pub(super) async fn job(n: u32, ctx: TaskContext) -> TaskResult<String> {
        ctx.step("a", || async { Ok::<_, TaskError>("text".to_owned()) }).input(&n).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_that_changed_under_a_parked_task_is_told_of_and_nothing_runs() {
    let (orch, counts) = (orch().await, Counts::default());
    let old = worker::<first::job>(&orch, &counts);
    let mut ids = Vec::new();
    for _ in 0..4 {
        let id = task_of(&orch).await;
        let approval = parked(&orch, id).await;
        ids.push((id, approval));
    }
    old.stop().await.unwrap();
    assert_eq!(counted(&counts), [4, 0, 0, 0]);
    let changed = async |at: usize, said: &str, running: Running| {
        let (id, approval) = ids[at];
        orch.decide(approval, &Ballot::approve(Approver::named("alice"))).await.unwrap();
        let task = ended(&orch, id).await;
        assert_eq!((task.status, task.reason.as_deref()), (Status::Failed, Some("changed")), "{task:?}");
        assert!(task.error.as_deref().unwrap().contains(said), "{:?}", task.error);
        running.stop().await.unwrap();
    };
    changed(0, "call 1 was `a` and is `new` now", worker::<inserted::job>(&orch, &counts)).await;
    changed(1, "call 1 was `a` and is `approval#1` now", worker::<removed::job>(&orch, &counts)).await;
    changed(2, "the input of `a` is another", worker::<other_input::job>(&orch, &counts)).await;
    changed(3, "`a` returned then cannot be read", worker::<other_output::job>(&orch, &counts)).await;
    assert_eq!(counted(&counts), [4, 0, 0, 0], "nothing of the new handlers ran");
    // The old handler is back: a retry goes on where the task was.
    let old = worker::<first::job>(&orch, &counts);
    for (id, _) in ids {
        orch.retry(id).await.unwrap();
        assert_eq!(ended(&orch, id).await.status, Status::Completed);
    }
    assert_eq!(counted(&counts), [4, 4, 0, 0]);
    old.stop().await.unwrap();
}

/// Fails once behind its first step, and once in the middle of an outside effect.
mod flaky {
    use super::*;

    #[task_handler("job", queue = "job", backoff = "fixed(1ms)")]
    pub(super) async fn job(_: u32, counts: Data<Counts>, ctx: TaskContext) -> TaskResult<String> {
        ctx.step("a", || count(&counts, 0)).await?;
        if ctx.attempt() == 1 {
            return Err("not yet".into());
        }
        let charged = ctx
            .once("charge", |key| {
                let counts = Arc::clone(&counts);
                async move {
                    count(&counts, 1).await?;
                    Err::<String, _>(TaskError::from(format!("the line broke with {key}")))
                }
            })
            .await;
        // Whether it happened is not known, here and in every attempt that follows.
        match charged {
            Ok(Once::Unknown(key)) if key == format!("{}:charge", ctx.task_id()) => Ok(key),
            Ok(other) => Err(TaskError::fatal(format!("{other:?}"))),
            Err(error) => Err(error),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn steps_stay_done_over_attempts_and_an_effect_that_broke_is_unknown() {
    let (orch, counts) = (orch().await, Counts::default());
    let running = worker::<flaky::job>(&orch, &counts);
    let task = NewTask::<()>::new("job", &7u32).queue("job").max_retries(3);
    let id = orch.enqueue(task).await.unwrap().id();
    let task = ended(&orch, id).await;
    assert_eq!((task.status, task.attempt), (Status::Completed, 3), "{task:?}");
    assert_eq!(counted(&counts), [1, 1, 0, 0]);
    running.stop().await.unwrap();
}

mod twice {
    use super::*;

    #[task_handler("job", queue = "job")]
    pub(super) async fn job(_: u32, counts: Data<Counts>, ctx: TaskContext) -> TaskResult<u32> {
        ctx.step("a", || count(&counts, 0)).await?;
        ctx.step("a", || count(&counts, 1)).await
    }
}

mod endless {
    use super::*;

    #[task_handler("job", queue = "job")]
    pub(super) async fn job(_: u32, counts: Data<Counts>, ctx: TaskContext) -> TaskResult<u32> {
        for n in 0.. {
            ctx.step(&format!("step {n}"), || count(&counts, 0)).await?;
        }
        Ok(0)
    }
}

mod heavy {
    use super::*;

    #[task_handler("job", queue = "job")]
    pub(super) async fn job(_: u32, counts: Data<Counts>, ctx: TaskContext) -> TaskResult<u32> {
        for n in 0.. {
            count(&counts, 0).await?;
            ctx.step(&format!("step {n}"), || async { Ok::<_, TaskError>("x".repeat(1_000_000)) }).await?;
        }
        Ok(0)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_twice_and_a_journal_without_room_end_the_task_with_a_clear_word() {
    let orch = orch().await;
    let fails = async |running: fn(&Orchestrator, &Counts) -> Running, reason: &str, said: &str, done: u32| {
        let counts = Counts::default();
        let running = running(&orch, &counts);
        let id = task_of(&orch).await;
        let task = ended(&orch, id).await;
        assert_eq!((task.status, task.reason.as_deref()), (Status::Failed, Some(reason)), "{task:?}");
        assert!(task.error.as_deref().unwrap().contains(said), "{:?}", task.error);
        assert_eq!(counted(&counts)[0], done);
        running.stop().await.unwrap();
    };
    fails(worker::<twice::job>, "twice", "`a` is used twice", 1).await;
    // Two fields of a journal are its counters.
    fails(worker::<endless::job>, "journal", "at most 1000 entries", JOURNAL_ENTRIES_MAX as u32).await;
    fails(worker::<heavy::job>, "journal", "8388608 bytes", 9).await;
}

/// Catches whatever it can: a wait cannot be caught.
mod greedy {
    use super::*;

    #[task_handler("job", queue = "job")]
    pub(super) async fn job(n: u32, counts: Data<Counts>, ctx: TaskContext) -> TaskResult<u32> {
        let asked = tokio::time::timeout(std::time::Duration::from_millis(1), async { ctx.approve(n).await }).await;
        count(&counts, 0).await?;
        match asked {
            Ok(Ok(approved)) => Ok(*approved),
            Ok(Err(_)) => Ok(0),
            Err(_) => Err(TaskError::fatal("the wait returned")),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wait_cannot_be_caught_and_a_refusal_can() {
    let (orch, counts) = (orch().await, Counts::default());
    let running = worker::<greedy::job>(&orch, &counts);
    for (ballot, result) in [
        (Ballot::approve(Approver::named("alice")), serde_json::json!(7)),
        (Ballot::reject(Approver::named("alice")), serde_json::json!(0)),
    ] {
        let id = task_of(&orch).await;
        let approval = parked(&orch, id).await;
        orch.decide(approval, &ballot).await.unwrap();
        let task = ended(&orch, id).await;
        assert_eq!((task.status, task.result), (Status::Completed, Some(result)));
    }
    assert_eq!(counted(&counts)[0], 2);
    running.stop().await.unwrap();
}

/// Shows something else when it comes back.
mod fickle {
    use super::*;

    #[task_handler("job", queue = "job")]
    pub(super) async fn job(_: u32, counts: Data<Counts>, ctx: TaskContext) -> TaskResult<u32> {
        let plan = counts[0].load(Ordering::SeqCst);
        Ok(*ctx.approve(plan).await?)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plan_that_changed_is_asked_about_again() {
    let (orch, counts) = (orch().await, Counts::default());
    let running = worker::<fickle::job>(&orch, &counts);
    let id = task_of(&orch).await;
    let first = parked(&orch, id).await;
    counts[0].store(1, Ordering::SeqCst);
    orch.decide(first, &Ballot::approve(Approver::named("alice"))).await.unwrap();
    let second = until("another question", || async {
        let approval = orch.get(id).await.ok().filter(|task| task.status == Status::Blocked)?.approval_id?;
        (approval != first).then_some(approval)
    })
    .await;
    assert_eq!((first.number, second.number), (1, 2));
    assert_eq!(orch.approval(second).await.unwrap().shown, serde_json::json!(1));
    orch.decide(second, &Ballot::approve(Approver::named("alice"))).await.unwrap();
    assert_eq!(ended(&orch, id).await.result, Some(serde_json::json!(1)));
    running.stop().await.unwrap();
}

/// Two branches that come to their steps in another order each time.
mod branches {
    use super::*;

    #[task_handler("job", queue = "job", backoff = "fixed(1ms)")]
    pub(super) async fn job(_: u32, counts: Data<Counts>, ctx: TaskContext) -> TaskResult<u32> {
        let second = ctx.attempt() > 1;
        let branch = |name: &'static str, which: usize, first: bool| {
            let (ctx, counts) = (ctx.clone(), Arc::clone(&counts));
            async move {
                if !first {
                    // Comes after the other, without a durable call of its own.
                    while counts[1 - which].load(Ordering::SeqCst) == 0 {
                        tokio::task::yield_now().await;
                    }
                    tokio::task::yield_now().await;
                }
                ctx.step(name, || count(&counts, which)).await
            }
        };
        let (a, b) = tokio::join!(branch("a", 0, !second), branch("b", 1, second));
        a?;
        b?;
        if ctx.attempt() < 3 {
            return Err("once more".into());
        }
        Ok(0)
    }
}

/// A question beside a step that is under way.
mod beside {
    use super::*;

    #[task_handler("job", queue = "job")]
    pub(super) async fn job(n: u32, counts: Data<Counts>, ctx: TaskContext) -> TaskResult<u32> {
        let slow = async {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            count(&counts, 0).await
        };
        let (charged, approved) = tokio::join!(ctx.step("charge", || slow), ctx.approve(n));
        charged?;
        Ok(*approved?)
    }
}

/// Would rather go on without an answer.
mod impatient {
    use super::*;

    #[task_handler("job", queue = "job")]
    pub(super) async fn job(n: u32, ctx: TaskContext) -> TaskResult<u32> {
        tokio::select! {
            biased;
            approved = ctx.approve(n) => Ok(*approved?),
            () = std::future::ready(()) => Ok(0),
        }
    }
}

/// Gives up on a step in time, and tries it again.
mod patient {
    use super::*;

    #[task_handler("job", queue = "job")]
    pub(super) async fn job(_: u32, counts: Data<Counts>, ctx: TaskContext) -> TaskResult<u32> {
        for attempt in 1..=3 {
            let fetch = async || {
                count(&counts, 0).await?;
                if attempt < 3 {
                    std::future::pending::<()>().await;
                }
                Ok::<_, TaskError>(attempt)
            };
            let fetched =
                tokio::time::timeout(std::time::Duration::from_millis(10), async { ctx.step("fetch", fetch).await });
            if let Ok(fetched) = fetched.await {
                return fetched;
            }
        }
        Err(TaskError::fatal("never"))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_side_by_side_are_told_by_name_and_cut_nothing_off() {
    let orch = orch().await;
    let retrying = || NewTask::<()>::new("job", &7u32).queue("job").max_retries(3);
    let counts = Counts::default();
    let running = worker::<branches::job>(&orch, &counts);
    let id = orch.enqueue(retrying()).await.unwrap().id();
    let task = ended(&orch, id).await;
    assert_eq!((task.status, task.attempt), (Status::Completed, 3), "{task:?}");
    assert_eq!(counted(&counts), [1, 1, 0, 0]);
    running.stop().await.unwrap();

    let counts = Counts::default();
    let running = worker::<beside::job>(&orch, &counts);
    let id = task_of(&orch).await;
    let approval = parked(&orch, id).await;
    assert_eq!(counted(&counts)[0], 1, "the step beside the question came to its end first");
    orch.decide(approval, &Ballot::approve(Approver::named("alice"))).await.unwrap();
    assert_eq!(ended(&orch, id).await.result, Some(serde_json::json!(7)));
    assert_eq!(counted(&counts)[0], 1);
    running.stop().await.unwrap();

    let running = worker::<impatient::job>(&orch, &counts);
    let id = task_of(&orch).await;
    let approval = parked(&orch, id).await;
    orch.decide(approval, &Ballot::approve(Approver::named("alice"))).await.unwrap();
    assert_eq!(ended(&orch, id).await.result, Some(serde_json::json!(7)), "nobody goes on without the answer");
    running.stop().await.unwrap();

    let counts = Counts::default();
    let running = worker::<patient::job>(&orch, &counts);
    let id = task_of(&orch).await;
    assert_eq!(
        ended(&orch, id).await.result,
        Some(serde_json::json!(3)),
        "a step that was given up on may be tried again"
    );
    assert_eq!(counted(&counts)[0], 3);
    running.stop().await.unwrap();
}

/// A form that nobody can fill in, and an output that does not read back.
mod unfit {
    use super::*;

    #[derive(serde::Deserialize)]
    pub(super) struct Rest {
        #[serde(flatten)]
        _rest: std::collections::HashMap<String, u32>,
    }

    #[derive(serde::Serialize, serde::Deserialize)]
    pub(super) struct Half {
        #[serde(skip_serializing)]
        secret: u32,
    }

    #[task_handler("job", queue = "job")]
    pub(super) async fn job(n: u32, ctx: TaskContext) -> TaskResult<u32> {
        if n == 1 {
            ctx.approve(n).form::<Rest>().await?;
        }
        let half = ctx.step("half", || async { Ok::<_, TaskError>(Half { secret: n }) }).await?;
        Ok(half.secret)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_work_is_told_at_once() {
    let (orch, counts) = (orch().await, Counts::default());
    let running = worker::<unfit::job>(&orch, &counts);
    for (n, reason, said) in [(1u32, "approval", "named fields"), (2, "output", "does not read back")] {
        let task = NewTask::<()>::new("job", &n).queue("job");
        let id = orch.enqueue(task).await.unwrap().id();
        let task = ended(&orch, id).await;
        assert_eq!((task.status, task.reason.as_deref()), (Status::Failed, Some(reason)), "{task:?}");
        assert!(task.error.as_deref().unwrap().contains(said), "{task:?}");
    }
    running.stop().await.unwrap();
}
