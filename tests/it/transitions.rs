//! Every edge of the state machine is walked on a real Redis, and every move that is not in the table is refused: the
//! task, its events and its place stay as they were.

use std::time::Duration;

use orchestrator::{
    Cause, Claim, Error, Incarnation, LetGo, NewTask, Orchestrator, Status, TRANSITIONS, TaskId, encode_value, next,
};
use orchestrator_tests::{orch, until};

const QUEUE: &str = "q";

/// How a task can stand, finer than its status where that decides what may follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Unknown,
    WaitingForRetry,
    Shelved,
    Ready,
    Running,
    Completed,
    Failed,
    Cancelled,
}

impl Standing {
    const ALL: [Self; 8] = [
        Self::Unknown,
        Self::WaitingForRetry,
        Self::Shelved,
        Self::Ready,
        Self::Running,
        Self::Completed,
        Self::Failed,
        Self::Cancelled,
    ];

    fn status(self) -> Option<Status> {
        match self {
            Self::Unknown => None,
            Self::WaitingForRetry | Self::Shelved => Some(Status::Pending),
            Self::Ready => Some(Status::Assigned),
            Self::Running => Some(Status::InProgress),
            Self::Completed => Some(Status::Completed),
            Self::Failed => Some(Status::Failed),
            Self::Cancelled => Some(Status::Cancelled),
        }
    }

    /// What the table says, where one status covers two ways of waiting.
    fn leads_to(self, cause: Cause) -> Option<Status> {
        match (self, cause) {
            (Self::Shelved, Cause::Promote) | (Self::WaitingForRetry, Cause::Unshelve) => None,
            _ => next(self.status(), cause),
        }
    }
}

const CAUSES: [Cause; 14] = [
    Cause::Enqueue,
    Cause::Schedule,
    Cause::Promote,
    Cause::Claim,
    Cause::Complete,
    Cause::Fail,
    Cause::Retry,
    Cause::Release,
    Cause::Shelve,
    Cause::Unshelve,
    Cause::Rescue,
    Cause::Poison,
    Cause::Cancel,
    Cause::Revive,
];

/// One task brought to a standing, with the worker that had it and a claim that it has, or had before.
struct Scene {
    orch: Orchestrator,
    worker: Incarnation,
    id: TaskId,
    claim: Claim,
}

async fn join(orch: &Orchestrator) -> Incarnation {
    // The shortest lease: its end need not be waited for.
    Incarnation::join(orch, &[QUEUE.into()], &[], Duration::from_millis(1)).await.unwrap()
}

async fn claim(worker: &Incarnation) -> Option<Claim> {
    worker.step(&[], 1, &[QUEUE.into()], None).await.unwrap().claims.pop()
}

/// The same claim once more, as a second copy of a call would carry it.
async fn again(worker: &Incarnation) -> Claim {
    worker.reconcile(|_| false).await.unwrap().adopted.pop().expect("the task is held")
}

impl Scene {
    /// Crashes count towards poison: `crashes` of them before the last claim.
    async fn set(standing: Standing, crashes: u32) -> Self {
        let orch = orch().await;
        let handle = orch.enqueue(NewTask::<()>::new("t", "payload").queue(QUEUE)).await.unwrap();
        for _ in 0..crashes {
            let worker = join(&orch).await;
            let _ = claim(&worker).await.expect("the task is ready");
            rescue(&orch, &worker).await;
        }
        let worker = join(&orch).await;
        let held = claim(&worker).await.expect("the task is ready");
        let id = handle.id();
        match standing {
            // An id that was never submitted; the claim is of another task.
            Standing::Unknown => {
                let id: TaskId = "01890000-0000-7000-8000-000000000000".parse().unwrap();
                return Self { orch, worker, id, claim: held };
            }
            Standing::WaitingForRetry => {
                assert_eq!(worker.retry(&held, Duration::ZERO, "once more").await.unwrap(), LetGo::Done);
            }
            Standing::Shelved => assert_eq!(worker.shelve(&held).await.unwrap(), LetGo::Done),
            Standing::Ready => assert!(worker.release(&[held.ticket()]).await.unwrap().is_empty()),
            Standing::Running => {}
            Standing::Completed => finish(&worker, again(&worker).await.complete(&result())).await,
            Standing::Failed => finish(&worker, again(&worker).await.fail("fatal", "no")).await,
            Standing::Cancelled => {
                worker.release(&[held.ticket()]).await.unwrap();
                assert_eq!(orch.cancel(id).await.unwrap(), Status::Cancelled);
            }
        }
        Self { orch, worker, id, claim: held }
    }

    async fn status(&self) -> Option<(Status, u32)> {
        match self.orch.get(self.id).await {
            Ok(task) => Some((task.status, task.changes)),
            Err(Error::NotFound { .. }) => None,
            Err(error) => panic!("{error}"),
        }
    }

    /// Tries the move in the way in which it comes about in life.
    async fn apply(&self, cause: Cause) {
        let Self { orch, worker, id, claim } = self;
        let new = || NewTask::<()>::new("t", "payload").queue(QUEUE).id(*id);
        match cause {
            // An id older than a minute is refused; what is known already is left as it is.
            Cause::Enqueue => drop(orch.enqueue(new()).await),
            Cause::Schedule => drop(orch.enqueue(new().delay("1h")).await),
            Cause::Promote => drop(worker.tick().await.unwrap()),
            Cause::Claim => drop(claim_or_nothing(worker).await),
            Cause::Complete => try_finish(worker, duplicate(claim).complete(&result())).await,
            Cause::Fail => try_finish(worker, duplicate(claim).fail("fatal", "no")).await,
            Cause::Retry => drop(worker.retry(claim, Duration::ZERO, "once more").await.unwrap()),
            Cause::Release => drop(worker.release(&[claim.ticket()]).await.unwrap()),
            Cause::Shelve => drop(worker.shelve(claim).await.unwrap()),
            Cause::Unshelve => worker.unshelve(&["t".into()]).await.unwrap(),
            Cause::Rescue | Cause::Poison => rescue(orch, worker).await,
            Cause::Cancel => {
                // While it runs, the request is kept until the attempt ends.
                if matches!(orch.cancel(*id).await, Ok(Status::InProgress)) {
                    worker.release(&[claim.ticket()]).await.unwrap();
                }
            }
            Cause::Revive => drop(orch.retry(*id).await),
            other => panic!("a cause without a way to come about: {other:?}"),
        }
    }
}

fn result() -> Vec<u8> {
    encode_value("result", "done", 100).unwrap()
}

/// A claim is let go of once; a second copy of a call is what this stands for.
fn duplicate(claim: &Claim) -> Claim {
    claim.duplicate_for_tests()
}

async fn claim_or_nothing(worker: &Incarnation) -> Option<Claim> {
    claim(worker).await
}

async fn finish(worker: &Incarnation, finish: orchestrator::Finish) {
    assert!(worker.step(&[finish], 0, &[], None).await.unwrap().stale.is_empty());
}

async fn try_finish(worker: &Incarnation, finish: orchestrator::Finish) {
    worker.step(&[finish], 0, &[], None).await.unwrap();
}

/// Another worker takes back what `worker` holds.
async fn rescue(orch: &Orchestrator, worker: &Incarnation) {
    let rescuer = join(orch).await;
    rescuer.beat(&[], &[]).await.unwrap();
    let silent = format!("the rescue of {}", worker.name());
    until(&silent, || async {
        rescuer.beat(&[], &[]).await.unwrap();
        rescuer.rescue().await.unwrap();
        (orch.stats().await.unwrap().workers == 1).then_some(())
    })
    .await;
    rescuer.leave(&[]).await.unwrap();
}

#[tokio::test]
async fn every_legal_edge_leads_where_the_table_says_and_no_other_leads_anywhere() {
    let mut walked = Vec::new();
    for standing in Standing::ALL {
        for cause in CAUSES {
            let crashes = if cause == Cause::Poison { 2 } else { 0 };
            let scene = Scene::set(standing, crashes).await;
            let before = scene.status().await;
            assert_eq!(before.map(|(status, _)| status), standing.status(), "{standing:?} could not be reached");
            if standing == Standing::Unknown && matches!(cause, Cause::Enqueue | Cause::Schedule) {
                // The scene's id is too old to be stored; new tasks are walked below.
                continue;
            }
            if standing == Standing::Unknown {
                // The claim at hand is another task's.
                assert_eq!(next(None, cause), None);
                drop(scene.orch.cancel(scene.id).await.expect_err("unknown"));
                drop(scene.orch.retry(scene.id).await.expect_err("unknown"));
                assert_eq!(scene.status().await, None);
                continue;
            }
            scene.apply(cause).await;
            let after = scene.status().await;
            match standing.leads_to(cause) {
                Some(to) => {
                    let (status, changes) = after.expect("the task is known");
                    assert_eq!(status, to, "{standing:?} by {cause:?}");
                    assert_eq!(changes, before.unwrap().1 + 1, "{standing:?} by {cause:?}: one change, one number");
                    walked.push((standing.status(), cause, to));
                }
                None => assert_eq!(after, before, "{standing:?} is not left by {cause:?}"),
            }
        }
    }
    let orch = orch().await;
    for (task, cause) in [
        (NewTask::<()>::new("t", "payload").queue(QUEUE), Cause::Enqueue),
        (NewTask::<()>::new("t", "payload").queue(QUEUE).delay("1h"), Cause::Schedule),
    ] {
        let task = orch.enqueue(task).await.unwrap().task().await.unwrap();
        assert_eq!((Some(task.status), task.changes), (next(None, cause), 1));
        walked.push((None, cause, task.status));
    }
    for row in TRANSITIONS {
        assert!(walked.contains(row), "nobody walked {row:?}");
    }
}

#[tokio::test]
async fn refusals_say_what_stands_in_the_way() {
    let text = |error: Error| error.to_string();
    let done = Scene::set(Standing::Completed, 0).await;
    assert!(text(done.orch.cancel(done.id).await.unwrap_err()).contains("has completed"));
    assert!(text(done.orch.retry(done.id).await.unwrap_err()).contains("has completed"));
    let failed = Scene::set(Standing::Failed, 0).await;
    assert!(text(failed.orch.cancel(failed.id).await.unwrap_err()).contains("has failed"));
    let ready = Scene::set(Standing::Ready, 0).await;
    assert!(text(ready.orch.retry(ready.id).await.unwrap_err()).contains("has not ended"));
    let stale = done.worker.step(&[duplicate(&done.claim).complete(&result())], 0, &[], None).await.unwrap().stale;
    assert_eq!(stale, [done.claim.ticket()]);
}

#[tokio::test]
async fn a_manual_retry_starts_over_and_keeps_the_number_line() {
    let scene = Scene::set(Standing::Failed, 2).await;
    let before = scene.orch.get(scene.id).await.unwrap();
    assert_eq!((before.attempt, before.crashes, before.reason.as_deref()), (3, 2, Some("fatal")));
    assert_eq!(scene.orch.stats().await.unwrap().dead_tasks, 1);
    scene.orch.retry(scene.id).await.unwrap();
    let after = scene.orch.get(scene.id).await.unwrap();
    assert_eq!((after.status, after.attempt, after.crashes), (Status::Assigned, 0, 0));
    assert_eq!(after.changes, before.changes + 1);
    assert_eq!(scene.orch.stats().await.unwrap().dead_tasks, 0);
    let held = claim(&scene.worker).await.expect("it is ready");
    assert!(held.ticket().epoch > scene.claim.ticket().epoch, "the fencing token never falls");
}
