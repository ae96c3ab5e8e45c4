//! The loop of a worker: slots, claims with finishes riding along, wake-ups, and letting go.
//!
//! **Invariant:** one step is in flight at a time, and after any call whose answer was lost nothing is sent before
//! [`Incarnation::reconcile`] has told what this worker holds.

mod wanting;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt, OptionFuture, join_all};
use orchestrator::{
    Claim, Doorbell, Error, FINISH_MAX, Finish, Held, Incarnation, LetGo, Result, TELLS_MAX, TaskId, Telling, Ticket,
};
use tokio::task::{AbortHandle, Id, JoinError, JoinSet};
use tokio_util::task::AbortOnDropHandle;
use tracing::{Instrument, Span};

use self::wanting::Listening;
use crate::attempt::{self, Outcome};
use crate::cancelling::Cancelling;
use crate::counted::Rare;
use crate::heart::{Heart, Roster};
use crate::metrics::Begun;
use crate::park::Park;
use crate::{Stop, Worker};

/// Pause before trying again what Redis did not take.
const BREATH: Duration = Duration::from_millis(100);
/// Longest time for leaving in order.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long handlers are given to notice that they were aborted.
const ABORT_GRACE: Duration = Duration::from_secs(1);

/// A task in a slot.
struct Running {
    claim: Claim,
    cancel: Cancelling,
    /// Its handler has, or waits for, a thread of its own.
    blocking: bool,
    abort: AbortHandle,
    begun: Begun,
    /// What is said about the attempt is said in here.
    span: Span,
}

/// What an attempt came to, and what it has told.
type Ended = (Ticket, (Outcome, Vec<Telling>));

/// An attempt that failed, on its way to its next one.
struct Retry {
    claim: Claim,
    delay: Duration,
    error: String,
    /// Whether it counts for nothing.
    snoozes: bool,
}

impl Retry {
    async fn send(&self, life: &Incarnation) -> Result<LetGo> {
        match self.snoozes {
            true => life.snooze(&self.claim, self.delay, &self.error).await,
            false => life.retry(&self.claim, self.delay, &self.error).await,
        }
    }
}

/// One life of the worker in Redis.
struct Life {
    incarnation: Incarnation,
    doorbell: Doorbell,
    roster: Roster,
    heart: Heart,
}

impl Life {
    async fn begin(worker: &Worker) -> Result<Self> {
        let offers = worker.offers();
        let task_types = offers.iter().map(|offer| offer.task_type.clone()).collect();
        let incarnation = Incarnation::join(&worker.orch, &worker.queues, &offers, worker.lease).await?;
        let roster = Roster::default();
        let life = (incarnation.clone(), worker.orch.clone());
        let heart = Heart::start(life, task_types, Arc::clone(&roster), worker.metrics.meter.clone())?;
        tracing::info!(
            worker = incarnation.name(),
            queues = worker.queues.join(","),
            slots = worker.slots,
            "worker is up"
        );
        Ok(Self { doorbell: incarnation.doorbell(), incarnation, roster, heart })
    }
}

/// A running worker.
pub(crate) struct Run {
    // Dropped first: the heart must not outlive a private Redis, which ends with the last client.
    life: Life,
    worker: Worker,
    running: HashMap<TaskId, Running>,
    slots: HashMap<Id, TaskId>,
    attempts: JoinSet<Ended>,
    finishes: Vec<Finish>,
    retries: Vec<Retry>,
    shelving: Vec<Claim>,
    parks: Vec<Park>,
    listening: Option<Listening>,
    /// The queues may hold more than was claimed.
    hungry: bool,
    /// The threads for blocking handlers are taken, so that some queues were left out.
    narrowed: bool,
    /// The queue whose token we took and owe a claim for.
    woken: Option<String>,
    /// An answer was lost: reconcile first.
    unsure: bool,
    /// What is adopted is to be given back, because its handler was stopped.
    give_back: bool,
    draining: bool,
    /// The heart has told that the lease is gone.
    woe: bool,
}

impl Run {
    pub(crate) async fn new(worker: Worker) -> Result<Self> {
        Ok(Self {
            life: Life::begin(&worker).await?,
            worker,
            running: HashMap::new(),
            slots: HashMap::new(),
            attempts: JoinSet::new(),
            finishes: Vec::new(),
            retries: Vec::new(),
            shelving: Vec::new(),
            parks: Vec::new(),
            listening: None,
            hungry: true,
            narrowed: false,
            woken: None,
            unsure: false,
            give_back: false,
            draining: false,
            woe: false,
        })
    }

    /// The loop. Each turn sends what there is to send, then waits for the first thing to happen.
    pub(crate) async fn until(mut self, stop: Stop) -> Result {
        let orch = self.worker.orch.clone();
        let _forecasting = AbortOnDropHandle::new(tokio::spawn(async move { orch.keep_forecasting().await }));
        let mut grace: OptionFuture<BoxFuture<'static, ()>> = None.into();
        loop {
            let draining = self.draining;
            let exchange = async {
                if std::mem::take(&mut self.woe) {
                    return self.begin_again().await;
                }
                match self.exchange().await {
                    Err(Error::LeaseLost) => self.begin_again().await,
                    outcome => outcome,
                }
            };
            let sent = tokio::select! {
                biased;
                () = stop.immediate() => break,
                Some(()) = &mut grace => break,
                () = stop.draining(), if !draining => None,
                sent = exchange => Some(sent),
            };
            let Some(sent) = sent else {
                // What was under way may have been taken; reconciling tells.
                grace = self.drain();
                continue;
            };
            if let Err(error) = sent {
                self.worker.metrics.meter.rare(Rare::RedisError);
                tracing::warn!(%error, "Redis did not take what this worker sent; it tries again");
                tokio::time::sleep(BREATH).await;
                continue;
            }
            if self.draining && self.running.is_empty() && self.nothing_to_send() {
                break;
            }
            if self.wants_to_send() {
                continue;
            }
            self.listen();
            self.worker.metrics.meter.running(self.running.len());
            let listening = async {
                match &mut self.listening {
                    Some(listening) => listening.wait.as_mut().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = stop.immediate() => break,
                Some(()) = &mut grace => break,
                () = stop.draining(), if !draining => grace = self.drain(),
                () = self.life.heart.lost() => self.woe = true,
                Some(ended) = self.attempts.join_next_with_id(), if !self.attempts.is_empty() => {
                    self.note(ended);
                    while let Some(ended) = self.attempts.try_join_next_with_id() {
                        self.note(ended);
                    }
                }
                () = self.worker.pool.eased() => self.widen(),
                rung = listening => self.hear(rung).await,
            }
        }
        self.leave().await
    }

    /// Claims nothing more; what it returns ends with the grace.
    fn drain(&mut self) -> OptionFuture<BoxFuture<'static, ()>> {
        self.worker.metrics.meter.draining();
        self.draining = true;
        self.worker.pool.close();
        Some(tokio::time::sleep(self.worker.grace).boxed()).into()
    }

    fn nothing_to_send(&self) -> bool {
        let waiting = self.retries.is_empty() && self.shelving.is_empty() && self.parks.is_empty();
        self.finishes.is_empty() && waiting && !self.unsure
    }

    fn wants_to_send(&self) -> bool {
        !self.nothing_to_send() || (self.hungry && self.wants().0 > 0)
    }

    /// Sends what waits: retries, shelved tasks, and a step with the finishes and for the free slots.
    async fn exchange(&mut self) -> Result {
        if self.unsure {
            self.reconcile().await?;
        }
        self.let_go().await?;
        let (want, queues) = if self.hungry || !self.finishes.is_empty() { self.wants() } else { (0, &[][..]) };
        let narrowed = queues.len() < self.worker.queues.len();
        if want == 0 && self.finishes.is_empty() {
            return Ok(());
        }
        let sent = self.fits_one_step();
        let woken = self.woken.clone();
        // Until an answer came, the outcome is unknown; this holds also when this future is dropped here.
        (self.unsure, self.hungry, self.narrowed) = (true, true, narrowed);
        let mut queues = self.wants().1;
        if woken.as_ref().is_some_and(|woken| !queues.contains(woken)) {
            queues = &self.worker.queues;
        }
        let step = self.life.incarnation.step(&self.finishes[..sent], want, queues, woken.as_deref());
        let stepped = step.await?;
        self.unsure = false;
        self.woken = None;
        self.finishes.drain(..sent);
        for ticket in &stepped.stale {
            self.worker.metrics.meter.rare(Rare::StaleOutcome);
            tracing::warn!(task_id = %ticket.id, "the task had been taken from this worker; its outcome was not accepted");
        }
        if want > 0 {
            self.hungry =
                stepped.again || stepped.claims.len() + stepped.unreadable.len() >= want.min(orchestrator::CLAIM_MAX);
        }
        if let Some(wait) = stepped.due {
            self.life.heart.expect(wait);
        }
        self.finishes.extend(stepped.unreadable);
        for claim in stepped.claims {
            self.start(claim);
        }
        Ok(())
    }

    /// How many of the finishes fit one step.
    fn fits_one_step(&self) -> usize {
        let mut tells = 0;
        let fits = self.finishes.iter().take(FINISH_MAX).take_while(|finish| {
            tells += finish.tells();
            tells <= TELLS_MAX
        });
        fits.count().max(self.finishes.len().min(1))
    }

    /// Sends retries and shelved tasks, all at once.
    async fn let_go(&mut self) -> Result {
        if self.retries.is_empty() && self.shelving.is_empty() && self.parks.is_empty() {
            return Ok(());
        }
        let life = &self.life.incarnation;
        let retries = join_all(self.retries.iter().map(|retry| retry.send(life)));
        let shelved = join_all(self.shelving.iter().map(|claim| life.shelve(claim)));
        let parked = join_all(self.parks.iter().map(|park| life.park(&park.claim, &park.wait, &park.tellings)));
        self.unsure = true;
        let (retries, shelved, parked) = futures::join!(retries, shelved, parked);
        let mut lost = None;
        let mut keep = |outcome: Result<LetGo>| match outcome {
            Ok(_) => false,
            Err(error) => {
                lost = Some(error);
                true
            }
        };
        if let Some(wait) = self.retries.iter().map(|retry| retry.delay).min() {
            self.life.heart.expect(wait);
        }
        let sleeps = self.parks.iter().map(|park| park.wakes_in(life.now_ms()));
        if let Some(wait) = sleeps.min() {
            self.life.heart.expect(wait);
        }
        let (mut retries, mut shelved) = (retries.into_iter(), shelved.into_iter());
        self.retries.retain(|_| retries.next().is_some_and(&mut keep));
        self.shelving.retain(|_| shelved.next().is_some_and(&mut keep));
        for (park, outcome) in std::mem::take(&mut self.parks).into_iter().zip(parked) {
            match outcome {
                // It is still held: what it asks for cannot be.
                Err(Error::Invalid { what }) => {
                    self.finishes.push(park.claim.fail("journal", &what).telling(park.tellings));
                }
                outcome => {
                    if keep(outcome) {
                        self.parks.push(park);
                    }
                }
            }
        }
        self.unsure = lost.is_some();
        lost.map_or(Ok(()), Err)
    }

    /// Puts a claimed task into a slot, or on the shelf when there is no handler for it.
    fn start(&mut self, claim: Claim) {
        let Some(registered) = self.worker.registry.get(claim.task_type()).cloned() else {
            tracing::warn!(task_id = %claim.ticket().id, task_type = claim.task_type(), "no handler here for this type: shelved");
            self.shelving.push(claim);
            return;
        };
        let ticket = claim.ticket();
        let cancel = Cancelling::new();
        let blocking = registered.spec.blocking == Some(true);
        let attempt = attempt::run(
            registered,
            claim.assignment(),
            self.worker.orch.clone(),
            (self.life.incarnation.clone(), ticket),
            Arc::clone(&self.worker.state),
            cancel.clone(),
            self.life.heart.halt(),
        );
        // At the highest level, so that whatever is told of an attempt names it.
        let number = claim.attempt();
        let span = tracing::error_span!("attempt", task_id = %ticket.id, trace_id = claim.trace_id(), attempt = number);
        let attempt = attempt.instrument(span.clone());
        let abort = self.attempts.spawn(attempt.map(move |outcome| (ticket, outcome)));
        self.slots.insert(abort.id(), ticket.id);
        self.roster(|roster| roster.insert(ticket.id, claim.claimed_at_ms()));
        let begun = self.worker.metrics.meter.begin(&claim);
        self.running.insert(ticket.id, Running { claim, cancel, blocking, abort, begun, span });
    }

    fn roster<T>(&self, change: impl FnOnce(&mut HashMap<TaskId, u64>) -> T) -> T {
        change(&mut self.life.roster.lock().unwrap_or_else(|poisoned| poisoned.into_inner()))
    }

    /// An attempt has ended: its slot is free, its outcome waits to be sent.
    fn note(&mut self, ended: Result<(Id, Ended), JoinError>) {
        let (slot, outcome) = match ended {
            Ok((slot, (_, outcome))) => (slot, Some(outcome)),
            // Its destructor panicked after its time was over.
            Err(error) if error.is_panic() => {
                let outcome =
                    Outcome::Failed { error: "the handler panicked while it was dropped".into(), delay: BREATH };
                (error.id(), Some((outcome, Vec::new())))
            }
            // Aborted: whoever aborted it sees to its claim.
            Err(error) => (error.id(), None),
        };
        let Some(id) = self.slots.remove(&slot) else { return };
        let Some((outcome, tellings)) = outcome else { return };
        // The slot may have been given up meanwhile, and even been taken by a later claim of the same task.
        if self.running.get(&id).is_none_or(|running| running.abort.id() != slot) {
            return;
        }
        let Some(Running { claim, begun, span, .. }) = self.running.remove(&id) else { return };
        let _within = span.entered();
        self.roster(|roster| roster.remove(&id));
        self.widen();
        let is_last = claim.failures() >= claim.max_retries().into();
        begun.end(outcome.counted(is_last));
        // What was told goes with the end, whatever it is; what is tried again is told again.
        match outcome {
            Outcome::Completed(output) => self.finishes.push(claim.complete(&output).telling(tellings)),
            Outcome::Cancelled => self.finishes.push(claim.cancelled().telling(tellings)),
            // Its claim is seen to by reconciling, as if its answer had been lost.
            Outcome::Halted => (self.unsure, self.give_back) = (true, true),
            Outcome::Parked(wait) => {
                tracing::info!(task_type = claim.task_type(), "waits without holding anything");
                self.parks.push(Park { claim, wait: *wait, tellings });
            }
            Outcome::Rejected { error, reason } => {
                tracing::info!(task_type = claim.task_type(), error, "is not to be done");
                self.finishes.push(claim.rejected(reason, &error).telling(tellings));
            }
            Outcome::Fatal { error, reason } => {
                // What does not fit may quote the payload; that is for those who may read the task.
                let told = if reason == "payload" { "its payload does not fit; the task says where" } else { &error };
                tracing::warn!(task_type = claim.task_type(), error = told, "failed for good");
                self.finishes.push(claim.fail(reason, &error).telling(tellings));
            }
            Outcome::Failed { error, .. } if is_last => {
                tracing::warn!(task_type = claim.task_type(), error, "failed for good: no retries left");
                self.finishes.push(claim.fail("retries", &error).telling(tellings));
            }
            Outcome::Failed { error, delay } => {
                tracing::info!(task_type = claim.task_type(), error, ?delay, "failed; another attempt follows");
                self.retries.push(Retry { claim, delay, error, snoozes: false });
            }
            Outcome::Snoozed { message, delay } => {
                tracing::info!(task_type = claim.task_type(), message, ?delay, "put off; another attempt follows");
                self.retries.push(Retry { claim, delay, error: message, snoozes: true });
            }
        }
    }

    fn cancel(&self, id: TaskId, within: Option<Duration>) {
        if let Some(running) = self.running.get(&id) {
            tracing::info!(task_id = %id, ?within, "cancelling was asked for");
            running.cancel.ask(within);
        }
    }

    /// Stops all handlers; their claims are for [`Run::reconcile`] or a rescue to see to.
    fn abort_all(&mut self) {
        for (id, running) in std::mem::take(&mut self.running) {
            running.cancel.ask(None);
            running.abort.abort();
            self.roster(|roster| roster.remove(&id));
        }
    }

    /// The old life is over, with all that it held: begins a new one.
    async fn begin_again(&mut self) -> Result {
        self.worker.metrics.meter.rare(Rare::LostLease);
        tracing::error!(running = self.running.len(), "the lease was lost; others may have the tasks. Beginning anew");
        self.abort_all();
        self.finishes.clear();
        self.retries.clear();
        self.shelving.clear();
        self.parks.clear();
        self.listening = None;
        self.woe = true;
        self.life = Life::begin(&self.worker).await?;
        self.woe = false;
        (self.unsure, self.give_back, self.hungry, self.woken) = (false, false, true, None);
        Ok(())
    }

    /// After a lost answer: what do we hold?
    async fn reconcile(&mut self) -> Result {
        let known: HashSet<Ticket> = (self.running.values().map(|running| running.claim.ticket()))
            .chain(self.finishes.iter().map(Finish::ticket))
            .chain(self.retries.iter().map(|retry| retry.claim.ticket()))
            .chain(self.shelving.iter().map(|claim| claim.ticket()))
            .chain(self.parks.iter().map(|park| park.claim.ticket()))
            .collect();
        let Held { tickets, adopted, unreadable } = self.life.incarnation.reconcile(|t| known.contains(&t)).await?;
        // What was sent and is not held any more was taken.
        self.finishes.retain(|finish| tickets.contains(&finish.ticket()));
        self.retries.retain(|retry| tickets.contains(&retry.claim.ticket()));
        self.shelving.retain(|claim| tickets.contains(&claim.ticket()));
        self.parks.retain(|park| tickets.contains(&park.claim.ticket()));
        let gone: Vec<TaskId> = self
            .running
            .iter()
            .filter(|(_, running)| !tickets.contains(&running.claim.ticket()))
            .map(|(id, _)| *id)
            .collect();
        for id in gone {
            if let Some(running) = self.running.remove(&id) {
                tracing::warn!(task_id = %id, "the task was taken from this worker; its handler is stopped");
                running.cancel.ask(None);
                running.abort.abort();
                self.roster(|roster| roster.remove(&id));
            }
        }
        self.finishes.extend(unreadable);
        if self.give_back || self.draining {
            let back: Vec<Ticket> = adopted.iter().map(|claim| claim.ticket()).collect();
            release(&self.life.incarnation, &back).await?;
        } else {
            adopted.into_iter().for_each(|claim| self.start(claim));
        }
        (self.unsure, self.give_back, self.hungry) = (false, false, true);
        Ok(())
    }

    /// Lets go of everything and ends this life in order, if Redis answers in time; else its tasks are rescued.
    async fn leave(self) -> Result {
        match tokio::time::timeout(LEAVE_TIMEOUT, self.let_go_of_all()).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Error::Unavailable {
                reason: format!("no answer for {LEAVE_TIMEOUT:?} while leaving; what was held will be rescued"),
                source: None,
            }),
        }
    }

    async fn let_go_of_all(mut self) -> Result {
        self.draining = true;
        for running in self.running.values() {
            running.abort.abort();
        }
        // Handlers that end in this very moment have ended well.
        let _ = tokio::time::timeout(ABORT_GRACE, async {
            while let Some(ended) = self.attempts.join_next_with_id().await {
                self.note(ended);
            }
        })
        .await;
        self.silence().await;
        let mut tries = 0;
        loop {
            let back: Vec<Ticket> = self.running.values().map(|running| running.claim.ticket()).collect();
            let left = async {
                self.exchange().await?;
                release(&self.life.incarnation, &back).await?;
                let reported: Vec<TaskId> = self.roster(|roster| roster.keys().copied().collect());
                self.life.incarnation.leave(&reported).await
            };
            match left.await {
                Ok(0) => {
                    tracing::info!(worker = self.life.incarnation.name(), released = back.len(), "worker has left");
                    return Ok(());
                }
                Err(Error::LeaseLost) => return Ok(()),
                Ok(_) | Err(_) if tries < 5 => {
                    tries += 1;
                    self.running.clear();
                    self.unsure = true;
                    tokio::time::sleep(BREATH).await;
                }
                Ok(tasks) => {
                    tracing::warn!(tasks, "left with tasks still held; they will be rescued");
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
    }
}

async fn release(life: &Incarnation, tickets: &[Ticket]) -> Result {
    for some in tickets.chunks(1000) {
        life.release(some).await?;
    }
    Ok(())
}
