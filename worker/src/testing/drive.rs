//! The harness's worker: claims, attempts, and the ways in which it dies.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use futures::task::AtomicWaker;
use orchestrator::{Claim, Error, Incarnation, LEASE, Offer, QUEUES_MAX, Telling};
use tokio_util::sync::CancellationToken;

use super::harness::{Harness, lock};
use super::sure;
use crate::HandlerSpec;
use crate::attempt::{self, Outcome};
use crate::cancelling::Cancelling;
use crate::registry::Registry;

/// What is left to say when Redis does.
const BROKEN: &str = "the harness's worker";

/// The worker.
#[derive(Default)]
pub(super) struct Drive(Option<Life>);

/// One life of it.
struct Life {
    incarnation: Incarnation,
    registry: Registry,
    queues: Vec<String>,
}

/// When the worker is to die.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// Points so far at which it could have died.
    pub(super) points: usize,
    /// At which of them it does.
    pub(super) die_at: Option<usize>,
    pub(super) death: Option<Death>,
}

/// How it died.
#[derive(Clone, Debug)]
pub(super) struct Death {
    /// Where the handler was.
    pub(super) place: String,
    /// Effects whose outcome nobody knows since.
    pub(super) open: Vec<String>,
}

impl Harness {
    /// Begins the worker's life unless it has begun, so that its handlers are known.
    pub(super) async fn join(&self) {
        let mut drive = self.0.drive.lock().await;
        self.life(&mut drive).await;
    }

    async fn life<'d>(&self, drive: &'d mut Drive) -> &'d Life {
        if drive.0.is_none() {
            let registry = lock(&self.0.setup).registry();
            let offers: Vec<Offer> = registry.specs().into_iter().map(offer).collect();
            let mut queues: Vec<String> = offers.iter().map(|offer| offer.queue.clone()).collect();
            queues.push(orchestrator::QUEUE_DEFAULT.into());
            queues.sort_unstable();
            queues.dedup();
            // A worker names eight queues at most when it joins; this one looks into all.
            let named = &queues[..queues.len().min(QUEUES_MAX)];
            let incarnation = sure(BROKEN, Incarnation::join(&self.0.orch, named, &offers, LEASE).await);
            drive.0 = Some(Life { incarnation, registry, queues });
        }
        match &drive.0 {
            Some(life) => life,
            None => unreachable!("it has just begun"),
        }
    }

    /// Moves the clock; the worker's lease moves with it.
    pub(super) async fn set_clock(&self, to_ms: u64) {
        self.0.clock.set(&self.0.orch, to_ms).await;
        let drive = self.0.drive.lock().await;
        if let Some(life) = &drive.0 {
            sure(BROKEN, life.incarnation.beat(&[], &[]).await);
        }
    }

    /// Runs tasks until none is runnable; the time until the next timer.
    pub(super) async fn run_all(&self) -> Option<Duration> {
        let mut drive = self.0.drive.lock().await;
        loop {
            let due = sure("the timers", self.0.orch.tick().await);
            let life = self.life(&mut drive).await;
            let Some(claim) = life.claim().await else { return due };
            if !self.attempt(life, claim).await {
                drive.0 = None;
                self.take_back().await;
            }
        }
    }

    /// One attempt. False when the worker died at it.
    async fn attempt(&self, life: &Life, claim: Claim) -> bool {
        let Some(registered) = life.registry.get(claim.task_type()).cloned() else {
            sure(BROKEN, life.incarnation.shelve(&claim).await);
            return true;
        };
        let (id, ticket) = (claim.ticket().id, claim.ticket());
        let state = {
            let setup = lock(&self.0.setup);
            setup.check(&registered);
            setup.state()
        };
        let ledger = self.0.tally.over((life.incarnation.clone(), ticket), id);
        let (cancel, halt) = (Cancelling::new(), CancellationToken::new());
        let orch = self.0.orch.clone();
        let attempt = attempt::run(registered, claim.assignment(), orch, ledger, state, cancel, halt);
        let Some(outcome) = self.in_turns(attempt).await else { return false };
        if self.dies_at(|| "after the attempt, before its end was sent".into()) {
            return false;
        }
        if let Outcome::Completed(output) = &outcome.0 {
            lock(&self.0.outputs).insert(id, output.clone());
        }
        life.end(claim, outcome).await;
        true
    }

    /// Polls an attempt to its end, or until the worker dies.
    ///
    /// After each turn that ends in an await, a call of our own makes sure that whatever the handler has sent has arrived and
    /// is answered: it goes over the same connection, so its answer comes last. So the awaits of two runs are the same ones,
    /// and a handler that is dropped then has left nothing half sent.
    async fn in_turns<T>(&self, attempt: impl Future<Output = T>) -> Option<T> {
        // Without the runtime's budget, which would end an await here and there by itself.
        let mut attempt = pin!(tokio::task::unconstrained(attempt));
        let bell = Arc::new(Bell::default());
        let waker = Waker::from(Arc::clone(&bell));
        loop {
            if let Poll::Ready(outcome) = attempt.as_mut().poll(&mut Context::from_waker(&waker)) {
                return Some(outcome);
            }
            sure("the test's clock", self.0.orch.clock_error().await);
            if self.dies_at(|| self.0.tally.place()) {
                return None;
            }
            bell.rung().await;
        }
    }

    /// Counts a point at which the worker could die, and tells whether it does.
    fn dies_at(&self, place: impl FnOnce() -> String) -> bool {
        let mut plan = lock(&self.0.plan);
        if plan.death.is_some() {
            return false;
        }
        plan.points += 1;
        if plan.die_at != Some(plan.points) {
            return false;
        }
        plan.death = Some(Death { place: place(), open: self.0.tally.open() });
        true
    }

    /// The worker has died: time passes until its lease is over, and another takes its tasks back.
    async fn take_back(&self) {
        let lost = u64::try_from(LEASE.as_millis()).unwrap_or(0) + 1;
        self.0.lost_ms.fetch_add(lost, Ordering::Relaxed);
        self.0.clock.set(&self.0.orch, self.0.clock.now_ms() + lost).await;
        // A rescuer looks for one lease of its own on real time before it acts: this one's lease is nothing.
        let rescuer = sure(BROKEN, Incarnation::join(&self.0.orch, &[], &[], Duration::ZERO).await);
        sure(BROKEN, rescuer.beat(&[], &[]).await);
        let rescued = sure(BROKEN, rescuer.rescue().await);
        assert!(rescued > 0, "the dead worker's task was not taken back");
        sure(BROKEN, rescuer.leave(&[]).await);
    }
}

/// Tells whether the attempt was woken: it shares its task with calls that are woken too.
#[derive(Default)]
struct Bell {
    rung: AtomicBool,
    listener: AtomicWaker,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.rung.store(true, Ordering::Release);
        self.listener.wake();
    }
}

impl Bell {
    async fn rung(&self) {
        poll_fn(|turn| {
            self.listener.register(turn.waker());
            if self.rung.swap(false, Ordering::AcqRel) { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}

/// What is published of a handler.
fn offer(spec: &HandlerSpec) -> Offer {
    Offer {
        task_type: spec.task_type.into(),
        queue: spec.home().into(),
        doc: spec.doc.into(),
        gate: spec.approval.clone(),
        sla: spec.sla.clone(),
        expires_ms: spec.expires_ms(),
        unique: spec.unique.clone(),
    }
}

impl Life {
    /// The next task of all queues.
    async fn claim(&self) -> Option<Claim> {
        for queues in self.queues.chunks(QUEUES_MAX) {
            loop {
                let stepped = sure(BROKEN, self.incarnation.step(&[], 1, queues, None).await);
                if !stepped.unreadable.is_empty() {
                    sure(BROKEN, self.incarnation.step(&stepped.unreadable, 0, queues, None).await);
                    continue;
                }
                if let Some(claim) = stepped.claims.into_iter().next() {
                    return Some(claim);
                }
                if !stepped.again {
                    break;
                }
            }
        }
        None
    }

    /// Sends how an attempt ended, as a worker does.
    async fn end(&self, claim: Claim, (outcome, tellings): (Outcome, Vec<Telling>)) {
        let finish = match outcome {
            Outcome::Completed(output) => claim.complete(&output).telling(tellings),
            Outcome::Cancelled => claim.cancelled().telling(tellings),
            Outcome::Halted => panic!("{BROKEN} has lost task {}", claim.ticket().id),
            Outcome::Rejected { error, reason } => claim.rejected(reason, &error).telling(tellings),
            Outcome::Fatal { error, reason } => claim.fail(reason, &error).telling(tellings),
            Outcome::Failed { error, .. } if claim.failures() >= claim.max_retries().into() => {
                claim.fail("retries", &error).telling(tellings)
            }
            Outcome::Failed { error, delay } => {
                sure(BROKEN, self.incarnation.retry(&claim, delay, &error).await);
                return;
            }
            Outcome::Snoozed { message, delay } => {
                sure(BROKEN, self.incarnation.snooze(&claim, delay, &message).await);
                return;
            }
            Outcome::Parked(wait) => match self.incarnation.park(&claim, &wait, &tellings).await {
                // It is still held: what it asks for cannot be.
                Err(Error::Invalid { what }) => claim.fail("journal", &what).telling(tellings),
                outcome => {
                    sure(BROKEN, outcome);
                    return;
                }
            },
        };
        sure(BROKEN, self.incarnation.step(&[finish], 0, &[], None).await);
    }
}
