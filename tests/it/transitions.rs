//! Every edge of the state machine is walked on a real Redis, and every move that is not in the table is refused: the
//! task, its events and its place stay as they were.

use std::time::Duration;

use orchestrator::{
    ApprovalId, ApprovalStatus, Approver, Asking, Ballot, Cause, Claim, Entry, Error, Gate, Incarnation, LetGo,
    NewTask, Noted, Orchestrator, Status, TRANSITIONS, TaskId, Terms, Until, Wait, encode_value, next,
};
use orchestrator_tests::{orch, raw, until};
use serde_json::json;

const QUEUE: &str = "q";

/// How a task can stand, finer than its status where that decides what may follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Unknown,
    WaitingForRetry,
    Shelved,
    Ready,
    Running,
    /// Waits for a person before its next attempt.
    Gated,
    /// The same, and it is not to start before an instant either.
    GatedLater,
    /// Its handler asks a person.
    Asking,
    Asleep,
    Completed,
    Failed,
    Cancelled,
}

impl Standing {
    const ALL: [Self; 12] = [
        Self::Unknown,
        Self::WaitingForRetry,
        Self::Shelved,
        Self::Ready,
        Self::Running,
        Self::Gated,
        Self::GatedLater,
        Self::Asking,
        Self::Asleep,
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
            Self::Gated | Self::GatedLater | Self::Asking | Self::Asleep => Some(Status::Blocked),
            Self::Completed => Some(Status::Completed),
            Self::Failed => Some(Status::Failed),
            Self::Cancelled => Some(Status::Cancelled),
        }
    }

    /// What the table says, where one status covers several ways of waiting: the row that is walked, if one is.
    fn leads_to(self, cause: Cause) -> Option<(Cause, Status)> {
        let cause = match (self, cause) {
            (Self::Shelved, Cause::Promote) | (Self::WaitingForRetry, Cause::Unshelve) => return None,
            // A yes leads to the queue or to the timer, never to a choice of both.
            (Self::Gated | Self::Asking | Self::Asleep, Cause::Postpone) | (Self::GatedLater, Cause::Resume) => {
                return None;
            }
            // Nobody can refuse a sleep, and its end is what it waits for.
            (Self::Asleep, Cause::Reject) => return None,
            (Self::Asleep, Cause::Expire) => Cause::Resume,
            // Their handler has begun in time.
            (Self::Asking | Self::Asleep, Cause::Lapse) => return None,
            // A handler hears a no and a silence too.
            (Self::Asking, Cause::Reject | Cause::Expire) => Cause::Resume,
            (_, cause) => cause,
        };
        next(self.status(), cause).map(|to| (cause, to))
    }
}

const CAUSES: [Cause; 21] = [
    Cause::Enqueue,
    Cause::Schedule,
    Cause::Ask,
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
    Cause::Park,
    Cause::Resume,
    Cause::Postpone,
    Cause::Reject,
    Cause::Expire,
    Cause::Lapse,
    Cause::Cancel,
    Cause::Revive,
];

/// One task brought to a standing, with the worker that had it and a claim that it has, or had before.
struct Scene {
    standing: Standing,
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
    async fn set_up(standing: Standing, crashes: u32) -> Self {
        let orch = orch().await;
        let handle = orch.enqueue(NewTask::<()>::new("t", "payload").queue(QUEUE).expires("1d")).await.unwrap();
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
                return Self { standing, orch, worker, id, claim: held };
            }
            Standing::WaitingForRetry => {
                assert_eq!(worker.retry(&held, Duration::ZERO, "once more").await.unwrap(), LetGo::Done);
            }
            Standing::Shelved => assert_eq!(worker.shelve(&held).await.unwrap(), LetGo::Done),
            Standing::Ready => assert!(worker.release(&[held.ticket()]).await.unwrap().is_empty()),
            Standing::Running => {}
            Standing::Gated => {
                let asking = Asking::at_gate(&held, &Gate::new()).unwrap().expect("a gate");
                assert_eq!(worker.park(&held, &Wait::Gate(asking), &[]).await.unwrap(), LetGo::Done);
            }
            // Never claimed: the claim is of another task.
            Standing::GatedLater => {
                let task = NewTask::<()>::new("t", "payload").queue("later").delay("1h").expires("1d");
                let id = orch.enqueue(task.policies(Some(Gate::new()), None)).await.unwrap().id();
                return Self { standing, orch, worker, id, claim: held };
            }
            Standing::Asking => {
                let asking = Asking::about(&held, json!(7), "Really?", Vec::new(), Terms::default()).unwrap();
                let status = ApprovalStatus::Pending;
                let entry = entry(Noted::Asked { number: 0, status, hash: [0; 32], decision: Default::default() });
                let wait = Wait::Person { name: "question".into(), entry, asking };
                assert_eq!(worker.park(&held, &wait, &[]).await.unwrap(), LetGo::Done);
            }
            Standing::Asleep => assert_eq!(worker.park(&held, &asleep(), &[]).await.unwrap(), LetGo::Done),
            Standing::Completed => finish(&worker, again(&worker).await.complete(&result())).await,
            Standing::Failed => finish(&worker, again(&worker).await.fail("fatal", "no")).await,
            Standing::Cancelled => {
                worker.release(&[held.ticket()]).await.unwrap();
                assert_eq!(orch.cancel(id).await.unwrap(), Status::Cancelled);
            }
        }
        Self { standing, orch, worker, id, claim: held }
    }

    /// A person says yes or no. Nobody may be asking.
    async fn decide(&self, yes: bool) {
        let number = u16::from(self.standing == Standing::Asking);
        let ballot = if yes { Ballot::approve } else { Ballot::reject }(Approver::named("ann"));
        drop(self.orch.decide(ApprovalId { task: self.id, number }, &ballot).await);
    }

    /// What it waits for is over.
    async fn time_is_up(&self) {
        self.fire("P").await;
    }

    /// Timers of a kind are moved, so that nobody has to wait, and fired.
    async fn fire(&self, kind: &str) {
        self.set(kind, 0).await;
        self.worker.tick().await.unwrap();
    }

    /// Has all timers of a kind be due at an instant.
    async fn set(&self, kind: &str, due_ms: u64) {
        let waits = format!("{{{}.0}}:{kind}", self.orch.config().namespace);
        let mut raw = raw().await;
        let mut ask = redis::cmd("ZRANGE");
        let timers: Vec<Vec<u8>> = ask.arg(&waits).arg(0).arg(-1).query_async(&mut raw).await.unwrap();
        for timer in timers {
            redis::cmd("ZADD").arg(&waits).arg(due_ms).arg(timer).query_async::<()>(&mut raw).await.unwrap();
        }
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
        let Self { standing, orch, worker, id, claim } = self;
        let new = || NewTask::<()>::new("t", "payload").queue(QUEUE).id(*id);
        match cause {
            // An id older than a minute is refused; what is known already is left as it is.
            Cause::Enqueue => drop(orch.enqueue(new()).await),
            Cause::Schedule => drop(orch.enqueue(new().delay("1h")).await),
            Cause::Ask => drop(orch.enqueue(new().policies(Some(Gate::new()), None)).await),
            Cause::Park => drop(worker.park(claim, &asleep(), &[]).await.unwrap()),
            Cause::Resume if *standing == Standing::Asleep => self.time_is_up().await,
            // What this way of waiting does not know: the yes leads elsewhere, as its own row says.
            Cause::Resume | Cause::Postpone if self.status().await.is_some_and(|(s, _)| s == Status::Blocked) => {
                match standing.leads_to(cause) {
                    Some(_) => self.decide(true).await,
                    None => drop(worker.tick().await.unwrap()),
                }
            }
            Cause::Resume | Cause::Postpone => self.decide(true).await,
            Cause::Reject if *standing == Standing::Running => {
                try_finish(worker, duplicate(claim).rejected("rejected", "no")).await;
            }
            Cause::Reject => {
                self.decide(false).await;
                try_finish(worker, duplicate(claim).rejected("rejected", "no")).await;
            }
            Cause::Expire => {
                if self.status().await.is_some_and(|(s, _)| s == Status::Blocked) {
                    self.time_is_up().await;
                }
                try_finish(worker, duplicate(claim).rejected("timeout", "nobody decided")).await;
            }
            Cause::Lapse => {
                // The next attempt is due already: it would come first.
                self.set("z", 9_000_000_000_000).await;
                self.fire("y").await;
            }
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

fn entry(noted: Noted) -> Entry {
    Entry { order: 1, side_by_side: false, code: 0, digest: [0; 8], noted }
}

fn asleep() -> Wait {
    let until = Until::After(Duration::from_secs(3600));
    Wait::Sleep { name: "sleep".into(), entry: entry(Noted::Sleep(0)), until }
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
            let scene = Scene::set_up(standing, crashes).await;
            let before = scene.status().await;
            assert_eq!(before.map(|(status, _)| status), standing.status(), "{standing:?} could not be reached");
            if standing == Standing::Unknown && matches!(cause, Cause::Enqueue | Cause::Schedule | Cause::Ask) {
                // The scene's id is too old to be stored; new tasks are walked below.
                continue;
            }
            if standing == Standing::Unknown {
                // The claim at hand is another task's.
                assert_eq!(next(None, cause), None);
                drop(scene.orch.cancel(scene.id).await.expect_err("unknown"));
                drop(scene.orch.retry(scene.id).await.expect_err("unknown"));
                scene.decide(true).await;
                assert_eq!(scene.status().await, None);
                continue;
            }
            scene.apply(cause).await;
            let after = scene.status().await;
            match standing.leads_to(cause) {
                Some((cause, to)) => {
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
    // Two changes in one: it comes into being, and then it waits.
    let gated = NewTask::<()>::new("t", "payload").queue(QUEUE).policies(Some(Gate::new()), None);
    let task = orch.enqueue(gated).await.unwrap().task().await.unwrap();
    assert_eq!((Some(task.status), task.changes), (next(None, Cause::Ask), 2));
    walked.push((None, Cause::Ask, task.status));
    for row in TRANSITIONS {
        assert!(walked.contains(row), "nobody walked {row:?}");
    }
}

#[tokio::test]
async fn refusals_say_what_stands_in_the_way() {
    let text = |error: Error| error.to_string();
    let done = Scene::set_up(Standing::Completed, 0).await;
    assert!(text(done.orch.cancel(done.id).await.unwrap_err()).contains("has completed"));
    assert!(text(done.orch.retry(done.id).await.unwrap_err()).contains("has completed"));
    let failed = Scene::set_up(Standing::Failed, 0).await;
    assert!(text(failed.orch.cancel(failed.id).await.unwrap_err()).contains("has failed"));
    let ready = Scene::set_up(Standing::Ready, 0).await;
    assert!(text(ready.orch.retry(ready.id).await.unwrap_err()).contains("has not ended"));
    let gated = Scene::set_up(Standing::Gated, 0).await;
    assert_eq!(gated.orch.cancel(gated.id).await.unwrap(), Status::Cancelled);
    assert!(text(gated.orch.retry(gated.id).await.unwrap_err()).contains("was never approved"));
    let stale = done.worker.step(&[duplicate(&done.claim).complete(&result())], 0, &[], None).await.unwrap().stale;
    assert_eq!(stale, [done.claim.ticket()]);
}

#[tokio::test]
async fn a_manual_retry_starts_over_and_keeps_the_number_line() {
    let scene = Scene::set_up(Standing::Failed, 2).await;
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
