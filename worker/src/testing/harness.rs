//! A private Redis with a virtual clock, and a worker without threads.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use orchestrator::{
    ApprovalId, ApprovalPolicy, BlockedOn, Config, Decided, NewTask, Orchestrator, Result, SlaClock, Span, Status,
    Task, TaskHandle, TaskId,
};
use serde::de::DeserializeOwned;

use super::clock::{self, Clock, Seen};
use super::drive::{Drive, Plan};
use super::people::{Answer, Effects, Ended, Verdict};
use super::setup::Setup;
use super::sure;
use super::tally::Tally;
use crate::handler::TaskHandler;

/// What names a task: its handle or its id.
pub trait Names {
    /// The task's id.
    fn task_id(&self) -> TaskId;
}

impl Names for TaskId {
    fn task_id(&self) -> TaskId {
        *self
    }
}

impl<T> Names for TaskHandle<T> {
    fn task_id(&self) -> TaskId {
        self.id()
    }
}

/// A private Redis whose clock stands still unless the test moves it, and a worker that runs one task after the other, in
/// the test's own thread, when the test says so. See [the module](super) for an example.
///
/// Each harness has a namespace of its own. Whatever goes wrong with the harness itself fails the test by a panic. Virtual
/// time begins on 2030-01-01, a Tuesday, at 00:00 UTC.
#[derive(Clone)]
pub struct Harness(pub(super) Arc<Inner>);

pub(super) struct Inner {
    pub(super) orch: Orchestrator,
    pub(super) clock: Clock,
    pub(super) setup: Mutex<Setup>,
    pub(super) tally: Tally,
    pub(super) effects: Effects,
    pub(super) plan: Mutex<Plan>,
    /// What tasks have returned, as one MessagePack value each.
    pub(super) outputs: Mutex<HashMap<TaskId, Vec<u8>>>,
    pub(super) drive: tokio::sync::Mutex<Drive>,
    /// Time that has passed until dead workers' tasks were taken back.
    pub(super) lost_ms: AtomicU64,
}

/// The value behind a lock that no panic can spoil.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

impl fmt::Debug for Harness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Harness({}, {:?} passed)", self.0.orch.config().namespace, self.passed())
    }
}

impl Harness {
    /// A harness with default settings, but that no task needs an approval before its first attempt unless its handler says
    /// so, and that what has ended is kept for 30 days.
    pub async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    /// A harness with other settings: approval rules, say. Its server, namespace and clock are not for choice.
    pub async fn start_with(change: impl FnOnce(&mut Config)) -> Self {
        let (orch, clock) = clock::begin(|config| {
            config.approvals = ApprovalPolicy::none();
            // What has ended is to be looked at, however far a test moves the clock.
            config.retention = Duration::from_secs(30 * 24 * 3600);
            change(config);
        })
        .await;
        Self(Arc::new(Inner {
            orch,
            clock,
            setup: Mutex::default(),
            tally: Tally::default(),
            effects: Effects::default(),
            plan: Mutex::default(),
            outputs: Mutex::default(),
            drive: tokio::sync::Mutex::default(),
            lost_ms: AtomicU64::new(0),
        }))
    }

    /// Gives the handlers a shared value, taken by them as `Data<T>`; returns the same harness.
    ///
    /// # Panics
    /// When one of this type was given before.
    pub fn data<T: Send + Sync + 'static>(&self, value: T) -> Self {
        lock(&self.0.setup).data(value);
        self.clone()
    }

    /// Takes this handler, and others so named, instead of those that the linker finds. Before the first task.
    ///
    /// # Panics
    /// When there is another handler for its type.
    pub fn register<H: TaskHandler + Default>(&self) -> Self {
        lock(&self.0.setup).register(H::default());
        self.clone()
    }

    /// The effects that [`Harness::crash_everywhere`] watches, for fakes to count in.
    #[must_use]
    pub fn effects(&self) -> Effects {
        self.0.effects.clone()
    }

    /// The client.
    #[must_use]
    pub fn orchestrator(&self) -> &Orchestrator {
        &self.0.orch
    }

    /// How much virtual time has passed since the start.
    #[must_use]
    pub fn passed(&self) -> Duration {
        self.0.clock.passed()
    }

    /// The present instant of virtual time.
    #[must_use]
    pub fn now(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_millis(self.0.clock.now_ms())
    }

    /// Submits a task. It does not run before the test says so.
    pub async fn enqueue<T>(&self, task: NewTask<T>) -> TaskHandle<T> {
        self.join().await;
        sure("the task was not accepted", self.0.orch.enqueue(task).await)
    }

    /// The task as it stands.
    pub async fn task(&self, task: &impl Names) -> Task {
        sure("the task", self.0.orch.get(task.task_id()).await)
    }

    /// What has happened to the task, and when.
    pub async fn events(&self, task: &impl Names) -> Vec<Seen> {
        self.0.clock.events(task.task_id()).await
    }

    /// How the promise about the task stands.
    ///
    /// # Panics
    /// When nothing was promised.
    pub async fn sla(&self, task: &impl Names) -> SlaClock {
        match self.task(task).await.sla_clock {
            Some(clock) => clock,
            None => panic!("nothing was promised about the time of task {}", task.task_id()),
        }
    }

    /// Moves the clock, and runs what there is to run on the way: every timer fires at its instant, and what it makes
    /// runnable runs then, as with a worker that has a free slot at all times. A crash on the way takes its time on top.
    pub async fn advance(&self, span: impl Into<Span>) {
        let span = sure("advance", span.into().duration());
        let lost = || self.0.lost_ms.load(Ordering::Relaxed);
        let target = (self.0.clock.now_ms() + u64::try_from(span.as_millis()).unwrap_or(0)).saturating_sub(lost());
        let mut overdue = 0;
        loop {
            let due = self.run_all().await.map(|due| u64::try_from(due.as_millis()).unwrap_or(u64::MAX >> 1));
            let (now, target) = (self.0.clock.now_ms(), target + lost());
            match due {
                // Chores that take several calls; a timer that will not fire must not hold the clock for ever.
                Some(0) if overdue < 100 => overdue += 1,
                Some(due) if now + due <= target => {
                    overdue = 0;
                    self.set_clock(now + due.max(1)).await;
                }
                _ if now < target => self.set_clock(target).await,
                _ => return,
            }
        }
    }

    /// Runs tasks one after the other until none is runnable. Those whose time has not come stay.
    pub async fn drain(&self) {
        self.run_all().await;
    }

    /// Runs tasks until this one waits: for a person, whose approval is returned, or for an instant.
    ///
    /// # Panics
    /// When it ended instead, or waits for its next attempt.
    pub async fn until_parked(&self, task: &impl Names) -> Option<ApprovalId> {
        self.drain().await;
        let task = self.task(task).await;
        match task.blocked_on {
            _ if task.status != Status::Blocked => panic!("{} does not wait: {}", task.task_id, self.told(&task)),
            Some(BlockedOn::Approval) => task.approval_id,
            _ => None,
        }
    }

    /// Answers what the task asks; it runs on by [`Harness::drain`] and its kin.
    ///
    /// # Errors
    /// As [`Orchestrator::decide`].
    ///
    /// # Panics
    /// When it asks nothing.
    pub async fn try_answer(&self, task: &impl Names, answer: Answer) -> Result<Decided> {
        let Some(id) = self.until_parked(task).await else {
            panic!("{} waits for an instant, not for a person", task.task_id());
        };
        if answer.verdict == Verdict::Nobody {
            let expires = self.0.orch.approval(id).await?.expires_at.timestamp_millis();
            let left = u64::try_from(expires).unwrap_or(0).saturating_sub(self.0.clock.now_ms());
            self.advance(Duration::from_millis(left)).await;
            return Ok(Decided::Done(self.0.orch.approval(id).await?.status));
        }
        self.0.orch.decide(id, &answer.ballot()).await
    }

    /// Answers what the task asks.
    ///
    /// # Panics
    /// When it asks nothing, and when the answer does not count.
    pub async fn answer(&self, task: &impl Names, answer: Answer) -> Decided {
        sure("the answer does not count", self.try_answer(task, answer).await)
    }

    /// `name` says yes.
    pub async fn approve_as(&self, task: &impl Names, name: &str) -> Decided {
        self.answer(task, Answer::yes(name)).await
    }

    /// `name`, who has this role, says yes.
    pub async fn approve_as_role(&self, task: &impl Names, name: &str, role: &str) -> Decided {
        self.answer(task, Answer::yes(name).role(role)).await
    }

    /// `name` says no.
    pub async fn reject_as(&self, task: &impl Names, name: &str, why: &str) -> Decided {
        self.answer(task, Answer::no(name, why)).await
    }

    /// `name`, who has this role, says no.
    pub async fn reject_as_role(&self, task: &impl Names, name: &str, role: &str, why: &str) -> Decided {
        self.answer(task, Answer::no(name, why).role(role)).await
    }

    /// Runs tasks until none is runnable; the task's result.
    ///
    /// # Errors
    /// How it ended when it did not complete.
    ///
    /// # Panics
    /// When it has not ended: it waits, and the clock stands.
    pub async fn finish<T: DeserializeOwned>(&self, task: &TaskHandle<T>) -> Result<T, Ended> {
        self.drain().await;
        let told = self.task(task).await;
        match told.status {
            Status::Completed => Ok(self.read(task.id())),
            status if status.is_terminal() => Err(Ended::of(told)),
            _ => panic!("{} has not ended: {}", told.task_id, self.told(&told)),
        }
    }

    /// What the task has returned.
    ///
    /// # Panics
    /// When it has not completed, and when that is no `T`.
    pub async fn output<T: DeserializeOwned>(&self, task: &impl Names) -> T {
        let told = self.task(task).await;
        assert!(told.status == Status::Completed, "{} has not completed: {}", told.task_id, self.told(&told));
        self.read(told.task_id)
    }

    fn read<T: DeserializeOwned>(&self, id: TaskId) -> T {
        let Some(output) = lock(&self.0.outputs).get(&id).cloned() else {
            panic!("{id} was not completed by this harness");
        };
        sure("the output", orchestrator::decode_value(&output))
    }

    /// Where a task stands, for people.
    pub(super) fn told(&self, task: &Task) -> String {
        let mut told = format!("it is {}", task.status);
        if let Some(reason) = &task.reason {
            told += &format!(" ({reason})");
        }
        match task.blocked_on {
            Some(BlockedOn::Approval) => told += " and waits for a person",
            Some(_) => told += " and waits for an instant",
            None => {}
        }
        if task.shelved {
            told += &format!("; no handler for `{}` is known here", task.task_type);
        }
        if let Some(at) = task.blocked_until.or(task.run_at).filter(|_| !task.status.is_terminal()) {
            let left = at.timestamp_millis() - i64::try_from(self.0.clock.now_ms()).unwrap_or(0);
            if left > 0 {
                told +=
                    &format!("; its time comes in {:?} of virtual time", Duration::from_millis(left.unsigned_abs()));
            }
        }
        if let Some(error) = &task.error {
            told += &format!("; its last error: {error}");
        }
        told
    }
}
