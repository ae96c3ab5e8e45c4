//! A handler by itself: no Redis, the journal in memory, a clock that jumps.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use orchestrator::{
    Alone, ApprovalStatus, Asking, Assignment, ChunkBatch, ChunkData, Decision, Entry, Error, Event, NewEvent, NewTask,
    Noted, PackedChunk, Progress, RESULT_BYTES_MAX, Status, TaskId, Telling, Until, Wait,
};
use tokio_util::sync::CancellationToken;

use super::people::{Answer, Ended, Verdict};
use super::setup::Setup;
use super::tally::{Counts, Tally};
use super::{EPOCH_MS, sure};
use crate::attempt::{self, Outcome};
use crate::cancelling::Cancelling;
use crate::durable::Ledger;
use crate::handler::{Payload, TaskHandler};
use crate::voice::Mouth;

/// Times that a handler is entered at most.
const ENTERED_MAX: u32 = 10_000;
/// How long a question waits unless it says otherwise.
const EXPIRES_MS: u64 = 24 * 3600 * 1000;

/// Runs a handler by itself, without a Redis: steps are noted in memory, questions are answered in the order of
/// [`Solo::approve_as`] and its kin, sleeps and retries take no time.
///
/// The gate of `#[task_handler(approval ..)]` is not asked here, and `ctx.enqueue` fails: for what happens between tasks
/// and people there is [`Harness`](super::Harness).
///
/// ```
/// use orchestrator_worker::testing::{Answer, Solo};
/// use orchestrator_worker::{TaskContext, TaskResult, payload, task_handler};
///
/// #[payload]
/// struct Order { amount: u32 }
///
/// #[task_handler("refund")]
/// async fn refund(order: Order, ctx: TaskContext) -> TaskResult<String> {
///     let order = ctx.approve(order).by("role:finance").await?;
///     ctx.sleep("3d").await;
///     ctx.step("pay", || async { Ok::<_, std::io::Error>(format!("{} € back", order.amount)) }).await
/// }
///
/// # /*
/// #[orchestrator_worker::test]
/// # */
/// async fn pays_back_after_three_days() {
///     let solo = Solo::new().approve_as_role("alice", "finance");
///     let back = solo.run(refund::with(Order { amount: 5 })).await;
///     assert_eq!(back.as_deref(), Ok("5 € back"));
///     assert_eq!((solo.ran("pay"), solo.passed().as_secs()), (1, 3 * 24 * 3600));
///
///     let solo = Solo::new().answer(Answer::no("bob", "too late").role("finance"));
///     let ended = solo.run(refund::with(Order { amount: 5 })).await.unwrap_err();
///     assert_eq!(ended.reason, "rejected");
/// }
/// # fn main() {
/// #     let runtime = orchestrator_worker::tokio::runtime::Builder::new_current_thread().enable_all().build();
/// #     runtime.unwrap().block_on(pays_back_after_three_days());
/// # }
/// ```
#[derive(Default)]
pub struct Solo {
    setup: Setup,
    answers: Mutex<VecDeque<Answer>>,
    told: Mutex<VecDeque<NewEvent>>,
    published: Mutex<Vec<Event>>,
    tally: Tally,
    heard: Heard,
    entered: AtomicU32,
    passed_ms: AtomicU64,
}

impl fmt::Debug for Solo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Solo").field("answers", &self.answers).field("steps", &self.steps()).finish_non_exhaustive()
    }
}

impl Solo {
    /// No shared state, no answers, and all handlers that the linker finds.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Gives the handler a shared value, taken by it as `Data<T>`.
    #[must_use]
    pub fn data<T: Send + Sync + 'static>(mut self, value: T) -> Self {
        self.setup.data(value);
        self
    }

    /// Takes this handler, and others so named, instead of those that the linker finds.
    #[must_use]
    pub fn register<H: TaskHandler + Default>(mut self) -> Self {
        self.setup.register(H::default());
        self
    }

    /// The next question is answered like this.
    #[must_use]
    pub fn answer(self, answer: Answer) -> Self {
        self.answers().push_back(answer);
        self
    }

    /// The next question gets a yes of `name`.
    #[must_use]
    pub fn approve_as(self, name: &str) -> Self {
        self.answer(Answer::yes(name))
    }

    /// The next question gets a yes of `name`, who has this role.
    #[must_use]
    pub fn approve_as_role(self, name: &str, role: &str) -> Self {
        self.answer(Answer::yes(name).role(role))
    }

    /// The next question gets a no of `name`.
    #[must_use]
    pub fn reject_as(self, name: &str, why: &str) -> Self {
        self.answer(Answer::no(name, why))
    }

    /// The next question expires.
    #[must_use]
    pub fn expire(self) -> Self {
        self.answer(Answer::nobody())
    }

    fn answers(&self) -> MutexGuard<'_, VecDeque<Answer>> {
        self.answers.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// This event is told, once: a wait for it finds it. A wait that finds none is over when its time is.
    #[must_use]
    pub fn tell(self, event: NewEvent) -> Self {
        self.told().push_back(event);
        self
    }

    fn told(&self) -> MutexGuard<'_, VecDeque<NewEvent>> {
        self.told.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn published(&self) -> MutexGuard<'_, Vec<Event>> {
        self.published.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// The events that the handler has told, in order.
    #[must_use]
    pub fn events(&self) -> Vec<Event> {
        self.published().clone()
    }

    /// What the handler has reported of its progress, in order.
    #[must_use]
    pub fn progress(&self) -> Vec<(f64, String)> {
        let heard = self.heard.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        heard.progress.iter().map(|told| (told.fraction, told.note.clone())).collect()
    }

    /// What the handler has put out, in order, over all attempts.
    #[must_use]
    pub fn output(&self) -> Vec<ChunkData> {
        self.heard.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).output.clone()
    }

    /// How often the work of this step ran to its end.
    #[must_use]
    pub fn ran(&self, step: &str) -> u32 {
        self.tally.of(step).ended
    }

    /// What the durable calls went through, by name.
    #[must_use]
    pub fn steps(&self) -> BTreeMap<String, Counts> {
        self.tally.calls()
    }

    /// How often the handler was entered.
    #[must_use]
    pub fn entered(&self) -> u32 {
        self.entered.load(Ordering::Relaxed)
    }

    /// How much virtual time has passed.
    #[must_use]
    pub fn passed(&self) -> Duration {
        Duration::from_millis(self.passed_ms.load(Ordering::Relaxed))
    }

    fn now_ms(&self) -> u64 {
        EPOCH_MS + self.passed_ms.load(Ordering::Relaxed)
    }

    fn wait_until(&self, at_ms: u64) {
        self.passed_ms.fetch_max(at_ms.saturating_sub(EPOCH_MS), Ordering::Relaxed);
    }

    /// Runs the task to its end.
    ///
    /// # Errors
    /// How it ended when it did not complete.
    ///
    /// # Panics
    /// When there is no handler for it, when it needs shared state that was not given, when it asks and no answer is
    /// left, when somebody answers who may not, and when it is entered 10,000 times.
    pub async fn run<T: Payload>(&self, task: NewTask<T>) -> Result<T, Ended> {
        let task = sure("the task", Alone::new(task, self.now_ms()));
        let journal = Memory(Arc::default(), self.heard.clone());
        let mut failures = 0;
        for epoch in 0..ENTERED_MAX {
            let claim = sure("the task", task.claim(epoch, failures, journal.begun(), self.now_ms()));
            let registry = self.setup.registry();
            let Some(handler) = registry.get(claim.task_type()).cloned() else {
                panic!("there is no handler for `{}`", claim.task_type());
            };
            self.setup.check(&handler);
            self.entered.fetch_add(1, Ordering::Relaxed);
            journal.set_now_ms(self.now_ms());
            let ledger = self.tally.over(journal.clone(), claim.ticket().id);
            let (cancel, halt) = (Cancelling::new(), CancellationToken::new());
            let assignment = claim.assignment();
            let attempt = attempt::run(handler, assignment, None, ledger, self.setup.state(), cancel, halt);
            let (outcome, tellings) = attempt.await;
            let tried_again = matches!(outcome, Outcome::Snoozed { .. })
                || matches!(outcome, Outcome::Failed { .. }) && claim.failures() < claim.max_retries().into();
            if !tried_again {
                journal.tell(&tellings);
            }
            self.published().extend(journal.take_told());
            match outcome {
                Outcome::Completed(output) => return Ok(sure("the output", orchestrator::decode_value(&output))),
                Outcome::Failed { delay, .. } if claim.failures() < claim.max_retries().into() => {
                    failures = failures.saturating_add(1);
                    self.wait_until(self.now_ms() + u64::try_from(delay.as_millis()).unwrap_or(u64::MAX >> 1));
                }
                Outcome::Snoozed { delay, .. } => {
                    self.wait_until(self.now_ms() + u64::try_from(delay.as_millis()).unwrap_or(u64::MAX >> 1));
                }
                Outcome::Failed { error, .. } => return Err(Ended::failed("retries", error)),
                Outcome::Fatal { error, reason } => return Err(Ended::failed(reason, error)),
                Outcome::Rejected { error, reason } => {
                    return Err(Ended { status: Status::Cancelled, reason: reason.into(), error });
                }
                Outcome::Parked(wait) => self.wait(&journal, *wait),
                other => panic!("nobody has stopped the handler, and yet its attempt ended as {other:?}"),
            }
        }
        panic!("the handler was entered {ENTERED_MAX} times and has not ended");
    }

    fn end_of(&self, until: Until) -> u64 {
        match until {
            Until::After(span) => self.now_ms() + u64::try_from(span.as_millis()).unwrap_or(u64::MAX >> 1),
            Until::Instant(at) => at,
        }
    }

    /// Lets what the handler waits for come.
    fn wait(&self, journal: &Memory, wait: Wait) {
        match wait {
            Wait::Sleep { name, entry, until } => {
                let at = self.end_of(until);
                journal.put(name, Entry { noted: Noted::Sleep(at), ..entry });
                self.wait_until(at);
            }
            Wait::Person { name, entry, asking } => {
                let noted = self.ask(&asking, &entry.noted);
                journal.put(name, Entry { noted, ..entry });
            }
            Wait::Event { name, entry, until, awaited, .. } => {
                let place = self.told().iter().position(|event| event.is_named(&awaited));
                match place.and_then(|place| self.told().remove(place)) {
                    Some(event) => {
                        let event = Box::new(sure("the event", event.alone(self.now_ms())));
                        journal.put(name, Entry { noted: Noted::Found(event), ..entry });
                    }
                    None => {
                        let at = self.end_of(until);
                        journal.put(name, Entry { noted: Noted::Waiting(at), ..entry });
                        self.wait_until(at);
                    }
                }
            }
            other => panic!("a handler cannot wait like this: {other:?}"),
        }
    }

    /// Has people answer; what the journal says of it afterwards.
    fn ask(&self, asking: &Asking, asked: &Noted) -> Noted {
        let (terms, hash) = (asking.terms(), asked_hash(asked));
        let question = match asking.question() {
            "" => format!("about {}", asking.shown()),
            question => format!("«{question}» about {}", asking.shown()),
        };
        let decided = |status, decision| Noted::Asked { number: 1, status, hash, decision };
        let mut voters: Vec<String> = Vec::new();
        loop {
            let Some(Answer { verdict, approver, note, form }) = self.answers().pop_front() else {
                panic!("the handler asks {question}, and no answer is left: add `.approve_as(..)` or another");
            };
            if verdict == Verdict::Nobody {
                self.wait_until(self.now_ms() + terms.expires_ms.unwrap_or(EXPIRES_MS));
                let why = "nobody decided in time".into();
                return decided(ApprovalStatus::Timeout, Decision { why, ..Decision::default() });
            }
            let who = approver.name.clone();
            assert!(asking.requested_by() != Some(&who), "{who} submitted the task and may not decide {question}");
            assert!(
                approver.is_meant(&terms.by),
                "{who} may not decide {question}: it is for {}; their roles are: {}",
                terms.by.join(", "),
                approver.roles.join(", ")
            );
            if verdict == Verdict::No {
                return decided(ApprovalStatus::Rejected, Decision { who, why: note, form: Vec::new() });
            }
            assert!(!voters.contains(&who), "{who} has voted before {question}");
            voters.push(who.clone());
            let form = match form {
                Some(form) => sure("the form", orchestrator::encode_value("form", &form, RESULT_BYTES_MAX)),
                None if asking.form().is_empty() => Vec::new(),
                None => panic!("{who} has to fill in the form {question}: {}", asking.form().join(", ")),
            };
            if voters.len() >= usize::from(terms.quorum) {
                return decided(ApprovalStatus::Approved, Decision { who, why: note, form });
            }
        }
    }
}

fn asked_hash(asked: &Noted) -> [u8; 32] {
    match asked {
        Noted::Asked { hash, .. } => *hash,
        _ => [0; 32],
    }
}

/// A journal in memory.
#[derive(Clone, Debug)]
struct Memory(Arc<Kept>, Heard);

#[derive(Debug, Default)]
struct Kept {
    entries: Mutex<HashMap<String, Entry>>,
    now_ms: AtomicU64,
    told: Mutex<Vec<Event>>,
}

impl Memory {
    fn entries(&self) -> MutexGuard<'_, HashMap<String, Entry>> {
        self.0.entries.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn begun(&self) -> bool {
        !self.entries().is_empty()
    }

    fn put(&self, name: String, entry: Entry) {
        self.entries().insert(name, entry);
    }

    /// Notes what was told.
    fn tell(&self, tellings: &[Telling]) {
        let mut told = self.0.told.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        for telling in tellings {
            self.put(telling.name.clone(), telling.entry.clone());
            told.push(sure("the event", telling.event()));
        }
    }

    fn take_told(&self) -> Vec<Event> {
        std::mem::take(&mut *self.0.told.lock().unwrap_or_else(|poisoned| poisoned.into_inner()))
    }

    fn set_now_ms(&self, now_ms: u64) {
        self.0.now_ms.store(now_ms, Ordering::Relaxed);
    }
}

#[async_trait]
impl Ledger for Memory {
    async fn load(&self) -> orchestrator::Result<Vec<(String, Entry)>> {
        Ok(self.entries().iter().map(|(name, entry)| (name.clone(), entry.clone())).collect())
    }

    async fn note(&self, name: &str, entry: &Entry, tellings: &[Telling]) -> orchestrator::Result {
        self.tell(tellings);
        let mut entries = self.entries();
        match entries.get(name).map(|present| &present.noted) {
            None | Some(Noted::Begun) => {
                entries.insert(name.into(), entry.clone());
                Ok(())
            }
            Some(_) => Err(Error::Conflict { what: format!("another entry of the journal has the name `{name}`") }),
        }
    }

    /// A handler by itself has no gate before it.
    async fn has_passed(&self, _: &str, _: bool) -> orchestrator::Result<bool> {
        Ok(true)
    }

    fn now_ms(&self) -> u64 {
        self.0.now_ms.load(Ordering::Relaxed)
    }

    fn new_id(&self) -> TaskId {
        Alone::new_id(self.now_ms())
    }

    fn mouth(&self) -> Box<dyn Mouth> {
        Box::new(self.clone())
    }
}

/// What the handler has told of its work.
#[derive(Clone, Debug, Default)]
struct Heard(Arc<Mutex<Words>>);

#[derive(Debug, Default)]
struct Words {
    progress: Vec<Progress>,
    output: Vec<ChunkData>,
}

#[async_trait]
impl Mouth for Memory {
    async fn progress(&self, _: &Assignment, _: &Progress, _: TaskId) -> orchestrator::Result {
        Ok(())
    }

    async fn put_out(&self, _: &Assignment, batch: &ChunkBatch) -> orchestrator::Result<u64> {
        let mut heard = self.1.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        heard.output.extend(batch.chunks.iter().map(PackedChunk::data));
        Ok(heard.output.len() as u64)
    }

    fn new_id(&self) -> TaskId {
        Ledger::new_id(self)
    }

    fn hear(&self, progress: &Progress) {
        self.1.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).progress.push(progress.clone());
    }
}
