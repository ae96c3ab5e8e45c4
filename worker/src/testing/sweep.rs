//! Runs of one task in which the worker dies, each time at another await.

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, resume_unwind};

use futures::FutureExt;
use orchestrator::{ApprovalId, Decided, NewTask, Span, Status, Task, TaskHandle, TaskId};
use serde_json::Value;

use super::drive::{Death, Plan};
use super::harness::{Harness, lock};
use super::people::{Answer, Ended};
use super::tally::Counts;
use crate::attempt::panic_text;
use crate::handler::Payload;

/// Crash points at most.
const POINTS_MAX: usize = 10_000;

/// One run of the task, in the hands of the test's people.
#[derive(Debug)]
pub struct Run<T> {
    harness: Harness,
    task: TaskHandle<T>,
}

impl<T: Payload> Run<T> {
    /// The task's id.
    #[must_use]
    pub fn id(&self) -> TaskId {
        self.task.id()
    }

    /// The harness, for whatever else there is to do.
    #[must_use]
    pub fn harness(&self) -> &Harness {
        &self.harness
    }

    /// As [`Harness::until_parked`].
    pub async fn until_parked(&self) -> Option<ApprovalId> {
        self.harness.until_parked(&self.task).await
    }

    /// As [`Harness::answer`].
    pub async fn answer(&self, answer: Answer) -> Decided {
        self.harness.answer(&self.task, answer).await
    }

    /// As [`Harness::approve_as`].
    pub async fn approve_as(&self, name: &str) -> Decided {
        self.answer(Answer::yes(name)).await
    }

    /// As [`Harness::approve_as_role`].
    pub async fn approve_as_role(&self, name: &str, role: &str) -> Decided {
        self.answer(Answer::yes(name).role(role)).await
    }

    /// As [`Harness::reject_as`].
    pub async fn reject_as(&self, name: &str, why: &str) -> Decided {
        self.answer(Answer::no(name, why)).await
    }

    /// As [`Harness::advance`].
    pub async fn advance(&self, span: impl Into<Span>) {
        self.harness.advance(span).await;
    }

    /// As [`Harness::task`].
    pub async fn task(&self) -> Task {
        self.harness.task(&self.task).await
    }

    /// As [`Harness::finish`].
    ///
    /// # Errors
    /// As it.
    pub async fn finish(&self) -> Result<T, Ended> {
        self.harness.finish(&self.task).await
    }

    /// How often this effect has happened in this run, as told to [`Harness::effects`].
    #[must_use]
    pub fn effect(&self, name: &str) -> u32 {
        self.harness.0.effects.count(name)
    }
}

/// What a sweep over all crash points has shown.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Sweep {
    /// How many crash points there are: one run each.
    pub points: usize,
    /// Where they are, in order.
    pub places: Vec<String>,
    /// What the durable calls went through in all these runs together.
    pub steps: BTreeMap<String, Counts>,
}

impl fmt::Display for Sweep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} crash points, each survived", self.points)?;
        self.steps.iter().try_for_each(|(name, counts)| writeln!(f, "  {name}  {counts}"))
    }
}

/// What one run came to.
struct Course {
    end: (Status, Option<String>, Option<Value>),
    calls: BTreeMap<String, Counts>,
    effects: BTreeMap<String, u32>,
    points: usize,
    death: Option<Death>,
}

impl Harness {
    /// Runs a task again and again, and in each run its worker dies once: at the first await of its handler, at the second,
    /// and so on through all of them, and between the end of each attempt and the worker's word of it. Whatever the handler
    /// was waiting for then, it never hears of; what it had sent to Redis arrives. The lease passes, another worker takes the
    /// task back, and the run goes on to its end.
    ///
    /// `people` plays everybody else, once a run: it waits for the task to park, decides, lets time pass. It is the same for
    /// every run, so it also says what must hold after any crash.
    ///
    /// Each run must end as one without a crash does: the same status and output, the same durable calls, each step's work
    /// ended once and noted once, no effect begun twice, and the [`Effects`](super::Effects) of [`Harness::effects`] as often. `once` may
    /// come to [`Once::Unknown`](crate::Once) where the worker died between its intent and its note, nowhere else. Shared state of the test
    /// is shared by all runs, and is for the test to look after.
    ///
    /// A step's work that awaits anything may be begun twice, and what it did before that await is then done twice: this
    /// sweep finds it if it is counted as an effect. That a worker dies between the end of a step's work and the sending of
    /// its note, it cannot show, because there is no await in between; a real crash can fall there, and then the work is
    /// done again. What must not be done again belongs into [`TaskContext::once`](crate::TaskContext::once).
    ///
    /// The handler should await the same things in each run, and the runtime have one thread (as under
    /// `#[orchestrator_worker::test]` and `#[tokio::test]`); else some awaits may be passed over.
    ///
    /// # Panics
    /// At the first run that does otherwise, with the crash point's number and place; and at more than 10,000 of them.
    pub async fn crash_everywhere<T, N, P, F>(&self, task: N, people: P) -> Sweep
    where
        T: Payload,
        N: Fn() -> NewTask<T>,
        P: Fn(Run<T>) -> F,
        F: Future<Output = ()>,
    {
        let calm = match self.course(task(), &people, None).await {
            Ok(course) => course,
            Err(panic) => resume_unwind(panic),
        };
        let mut sweep = Sweep { points: 0, places: Vec::new(), steps: BTreeMap::new() };
        for point in 1.. {
            assert!(
                point <= POINTS_MAX,
                "the handler awaits more than {POINTS_MAX} times: make it smaller for this test"
            );
            let course = self.course(task(), &people, Some(point)).await;
            let died = match &course {
                Ok(course) => course.death.clone(),
                Err(_) => lock(&self.0.plan).death.clone(),
            };
            let place = died.map(|death| death.place);
            let told = place.clone().unwrap_or_else(|| "no crash in this run".into());
            let faults = match &course {
                Ok(course) => course.faults(&calm),
                Err(panic) => vec![panic_text(&**panic).to_owned()],
            };
            assert!(faults.is_empty(), "crash point {point} of about {} ({told}): {}", calm.points, faults.join("; "));
            let (Some(place), Ok(course)) = (place, course) else { break };
            sweep.points = point;
            sweep.places.push(place);
            for (name, counts) in &course.calls {
                sweep.steps.entry(name.clone()).or_default().add(counts);
            }
        }
        *lock(&self.0.plan) = Plan::default();
        sweep
    }

    /// One run. An error is what the test's people panicked with.
    async fn course<T, P, F>(
        &self,
        task: NewTask<T>,
        people: &P,
        die_at: Option<usize>,
    ) -> Result<Course, Box<dyn Any + Send>>
    where
        T: Payload,
        P: Fn(Run<T>) -> F,
        F: Future<Output = ()>,
    {
        self.0.tally.clear();
        self.0.effects.clear();
        *lock(&self.0.plan) = Plan { die_at, ..Plan::default() };
        let course = async {
            let task = self.enqueue(task).await;
            people(Run { harness: self.clone(), task: task.clone() }).await;
            self.drain().await;
            let told = self.task(&task).await;
            assert!(told.status.is_terminal(), "{} has not ended: {}", told.task_id, self.told(&told));
            let plan = lock(&self.0.plan);
            Course {
                end: (told.status, told.reason, told.result.map(|result| unnamed(result, told.task_id))),
                calls: self.0.tally.calls(),
                effects: self.0.effects.all(),
                points: plan.points,
                death: plan.death.clone(),
            }
        };
        AssertUnwindSafe(course).catch_unwind().await
    }
}

/// A result without the task's own name, which is another in each run.
fn unnamed(result: Value, task: TaskId) -> Value {
    let text = result.to_string().replace(&task.to_string(), "(the task)");
    serde_json::from_str(&text).unwrap_or(result)
}

impl Course {
    /// What is other than in a run without a crash and ought not to be.
    fn faults(&self, calm: &Self) -> Vec<String> {
        let mut faults = Vec::new();
        if self.end != calm.end {
            let told = |(status, reason, result): &(Status, Option<String>, Option<Value>)| {
                let why = reason.as_deref().map(|reason| format!(" ({reason})")).unwrap_or_default();
                let with = result.as_ref().map(|result| format!(" with {result}")).unwrap_or_default();
                format!("{status}{why}{with}")
            };
            faults.push(format!("the task ended as {}, without a crash as {}", told(&self.end), told(&calm.end)));
        }
        let open = self.death.as_ref().map(|death| death.open.as_slice()).unwrap_or_default();
        for (name, counts) in &self.calls {
            match calm.calls.get(name) {
                Some(was) => counts.check(was, open.contains(name), name, &mut faults),
                // Who does not know what became of an effect may have to find out.
                None if !open.is_empty() => {}
                None => faults.push(format!("the {} `{name}` is not made without a crash", counts.kind)),
            }
        }
        for (name, was) in calm.calls.iter().filter(|(name, _)| !self.calls.contains_key(*name)) {
            faults.push(format!("the {} `{name}` was not made", was.kind));
        }
        let names = self.effects.keys().chain(calm.effects.keys().filter(|name| !self.effects.contains_key(*name)));
        for name in names {
            let count = |course: &Self| course.effects.get(name).copied().unwrap_or(0);
            if count(self) != count(calm) {
                faults.push(format!("the effect `{name}` happened {}×, without a crash {}×", count(self), count(calm)));
            }
        }
        faults
    }
}

impl Counts {
    /// Holds this against what it `was` without a crash; `open` when the worker died while its outcome was not noted.
    fn check(&self, was: &Self, open: bool, name: &str, faults: &mut Vec<String>) {
        let Self { kind, begun, ended, noted, intended, unknown } = *self;
        if kind != was.kind {
            faults.push(format!("`{name}` was a {kind}, without a crash a {}", was.kind));
        }
        // An intent whose work never began counts as open too: then nothing has ended.
        if ended != was.ended && !(open && ended < was.ended) {
            faults.push(format!("the work of `{name}` ended {ended}×, without a crash {}×", was.ended));
        }
        if noted != was.noted && !(open && noted < was.noted) {
            faults.push(format!("`{name}` was noted {noted}×, without a crash {}×", was.noted));
        }
        if kind == "once" && (begun > was.begun || intended > was.intended) {
            faults.push(format!(
                "the effect `{name}` was begun {}×, without a crash {}×",
                begun.max(intended),
                was.begun
            ));
        }
        if unknown != was.unknown && !open {
            faults.push(format!("nobody knew of the effect `{name}`, and yet the worker did not die in it"));
        }
    }
}
