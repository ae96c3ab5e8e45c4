//! One life of one worker, as Redis sees it: a name, a lease, a generation, and the tasks it holds.
//!
//! This is what a worker runtime is built on. A runtime sends one [`Incarnation::step`] at a time; when any call that
//! lets go of tasks brings no answer, it calls [`Incarnation::reconcile`] before anything else.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::claim::{Claim, Finish, Ticket, cancelled_tail};
use crate::policy::Gate;
use crate::retry::SNOOZE_MIN;
use crate::silence::LeaseWatch;
use crate::sla::SlaTerms;
use crate::store::{Fault, Items, Store, read};
use crate::{Error, Orchestrator, Result, TaskId, Unique};

/// How long a worker's tasks stay its own without a heartbeat.
pub const LEASE: Duration = Duration::from_secs(6);
/// Time between two heartbeats.
pub const BEAT: Duration = Duration::from_secs(2);
/// Tasks claimed by one step at most.
pub const CLAIM_MAX: usize = 256;
/// Finishes sent by one step at most.
pub const FINISH_MAX: usize = 500;
/// Events told by one step at most: one with more finishes is cut by its sender.
pub const TELLS_MAX: usize = 2000;
/// Queues of one worker at most.
pub const QUEUES_MAX: usize = 8;
/// Longest time that a handler may take to stop when cancelling was asked for.
pub const CANCEL_GRACE_MAX: Duration = Duration::from_secs(600);
/// Crashes after which a task is poison.
pub const CRASHES_MAX: u8 = 3;
/// Tasks moved by one sweep at most.
const SWEEP_MAX: usize = 100;

/// What a worker offers for one type, as published to the namespace.
#[derive(Clone, Debug, Default, serde::Serialize, serde::Deserialize)]
pub struct Offer {
    /// The task type.
    #[serde(rename = "t")]
    pub task_type: String,
    /// The queue where its tasks belong.
    #[serde(rename = "q")]
    pub queue: String,
    /// What the handler does, in its author's words.
    #[serde(rename = "d", default, skip_serializing_if = "String::is_empty")]
    pub doc: String,
    /// The approval that its tasks need before their first attempt.
    #[serde(rename = "g", default, skip_serializing_if = "Option::is_none")]
    pub gate: Option<Gate>,
    /// What is promised for the total time of its tasks.
    #[serde(rename = "s", default, skip_serializing_if = "Option::is_none")]
    pub sla: Option<SlaTerms>,
    /// Milliseconds after which no attempt of its tasks is begun.
    #[serde(rename = "x", default, skip_serializing_if = "Option::is_none")]
    pub expires_ms: Option<u64>,
    /// What makes its tasks the only ones.
    #[serde(rename = "u", default, skip_serializing_if = "Option::is_none")]
    pub unique: Option<Unique>,
}

/// What one step brought.
#[derive(Debug, Default)]
pub struct Stepped {
    /// Tasks claimed.
    pub claims: Vec<Claim>,
    /// Finishes that came too late: the task was no longer this worker's at that epoch.
    pub stale: Vec<Ticket>,
    /// Tasks whose records cannot be read. They fail for good when these are sent.
    pub unreadable: Vec<Finish>,
    /// When nothing was claimed: time until the next timer, if one is set.
    pub due: Option<Duration>,
    /// Less was claimed than there may be, because something unsound was cleared away or something expired: look again at once.
    pub again: bool,
}

/// What one heartbeat brought.
#[derive(Debug)]
pub struct Beaten {
    /// Time until the next timer, if one is set.
    pub due: Option<Duration>,
    /// Whether tasks lie on the shelf.
    pub shelf: bool,
}

/// What became of an attempt that was let go of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LetGo {
    /// As asked.
    Done,
    /// Cancelling had been asked for: the task has ended.
    Cancelled,
    /// The task was no longer this worker's at that epoch; nothing was touched.
    Stale,
}

/// What a worker holds after a lost reply.
#[derive(Debug, Default)]
pub struct Held {
    /// Every ticket that Redis has for this worker.
    pub tickets: Vec<Ticket>,
    /// Those among them that the caller did not know: claimed by a step whose reply was lost.
    pub adopted: Vec<Claim>,
    /// Those whose records cannot be read.
    pub unreadable: Vec<Finish>,
}

/// One life of one worker. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Incarnation {
    pub(crate) store: Store,
    life: Arc<Life>,
}

#[derive(Debug)]
struct Life {
    name: String,
    lease: Duration,
    generation: AtomicU64,
    watch: LeaseWatch,
}

impl Incarnation {
    /// Begins a life under a fresh name and publishes `offers`.
    ///
    /// # Errors
    /// [`Error::Invalid`] for more than [`QUEUES_MAX`] queues, [`Error::Unavailable`] without Redis.
    pub async fn join(orch: &Orchestrator, queues: &[String], offers: &[Offer], lease: Duration) -> Result<Self> {
        if queues.len() > QUEUES_MAX {
            return Err(Error::invalid(format!("a worker serves at most {QUEUES_MAX} queues, not {}", queues.len())));
        }
        let name = format!("{}-{:08x}", std::process::id(), rand::random::<u32>());
        let life = Life { name, lease, generation: AtomicU64::new(1), watch: LeaseWatch::new(lease) };
        let this = Self { store: orch.store().clone(), life: Arc::new(life) };
        let descriptions: Vec<(String, Vec<u8>)> = offers
            .iter()
            .map(|offer| Ok((offer.task_type.clone(), crate::codec::encode("offer", offer, 64 * 1024)?)))
            .collect::<Result<_>>()?;
        let call = |_| {
            let call = this.store.call(&this.store.scripts().join);
            let call = call.arg(&this.life.name).arg(this.lease_ms()).arg(queues.len()).args(queues);
            descriptions
                .iter()
                .fold(call, |call, (task_type, description)| call.arg(task_type).arg(description.as_slice()))
        };
        match this.store.repeat(call).await {
            // The name is random: it is taken only by an earlier copy of this very call.
            Ok(_) | Err(Error::Conflict { .. }) => Ok(this),
            Err(error) => Err(error),
        }
    }

    /// The life of an agent outside, which holds one task; it began when that was given to it.
    pub(crate) fn outside(store: &Store, name: String, generation: u64) -> Self {
        let life = Life { name, lease: LEASE, generation: AtomicU64::new(generation), watch: LeaseWatch::new(LEASE) };
        Self { store: store.clone(), life: Arc::new(life) }
    }

    /// The same life over a connection of its own, for the runtime of the heartbeat.
    ///
    /// # Errors
    /// [`Error::Unavailable`] without Redis.
    pub async fn separate(&self) -> Result<Self> {
        Ok(Self { store: self.store.separate().await?, life: Arc::clone(&self.life) })
    }

    /// The client over this life's connection, for the runtime of the heartbeat.
    #[doc(hidden)]
    #[must_use]
    pub fn client(&self, orch: &Orchestrator) -> Orchestrator {
        orch.over(self.store.clone())
    }

    /// The same life as a process would hold it that has not heard of later generations: what a delayed copy of one of
    /// its calls looks like.
    #[cfg(feature = "test-clock")]
    #[must_use]
    pub fn at_generation(&self, generation: u64) -> Self {
        let life = Life {
            name: self.life.name.clone(),
            lease: self.life.lease,
            generation: AtomicU64::new(generation),
            watch: LeaseWatch::new(self.life.lease),
        };
        Self { store: self.store.clone(), life: Arc::new(life) }
    }

    /// The generation that its calls carry.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.life.generation.load(Ordering::Acquire)
    }

    /// The name of this life.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.life.name
    }

    /// How long its tasks stay its own without a heartbeat.
    #[must_use]
    pub fn lease(&self) -> Duration {
        self.life.lease
    }

    pub(crate) fn lease_ms(&self) -> u64 {
        u64::try_from(self.life.lease.as_millis()).unwrap_or(u64::MAX)
    }

    /// Ends tasks and claims others in one round trip: at most [`FINISH_MAX`] and [`CLAIM_MAX`].
    ///
    /// `woken` is the queue whose wake token the caller has taken. Not repeated: after an error other than
    /// [`Error::LeaseLost`] the outcome is unknown and [`Incarnation::reconcile`] tells it.
    ///
    /// # Errors
    /// [`Error::LeaseLost`] when this life is over; [`Error::Unavailable`].
    pub async fn step(
        &self,
        finishes: &[Finish],
        want: usize,
        queues: &[String],
        woken: Option<&str>,
    ) -> Result<Stepped> {
        let call = self.store.call(&self.store.scripts().step).arg(&self.life.name).arg(self.generation());
        let [high, low] = u16::try_from(want.min(CLAIM_MAX)).unwrap_or(u16::MAX).to_be_bytes();
        let woken = woken.and_then(|woken| queues.iter().position(|queue| queue == woken)).map_or(0, |at| at + 1);
        // A second end of one claim in one step is not sent: the first counts.
        let mut sent = HashSet::new();
        let finishes: Vec<&Finish> =
            finishes.iter().take(FINISH_MAX).filter(|finish| sent.insert(finish.ticket)).collect();
        let tells: usize = finishes.iter().map(|finish| finish.tells()).sum();
        // Both are at most 8, as checked when the worker joined.
        let [many, few] = u16::try_from(tells.min(TELLS_MAX)).unwrap_or(u16::MAX).to_be_bytes();
        let plan = [high, low, queues.len() as u8, woken as u8, many, few];
        let call = call.arg(if tells > 0 { &plan[..] } else { &plan[..4] }).args(queues);
        let call =
            finishes.iter().fold(call, |call, finish| call.arg(&finish.ticket.to_bytes()).arg(finish.tail.as_slice()));
        let told = finishes.iter().flat_map(|finish| finish.tellings.iter().map(|telling| (finish.ticket, telling)));
        let call = told.take(TELLS_MAX).fold(call, |call, (ticket, telling)| telling.put(call.arg(&ticket.to_bytes())));
        let mut slices: Vec<&[u8]> = finishes.iter().map(|finish| &finish.ticket.id.as_bytes()[..4]).collect();
        slices.dedup();
        let call = call.mended_by(self.store.mend(&self.life.name, queues, &slices));
        let mut items = Items::of(self.store.send(&call).await.map_err(Fault::into_error)?)?;
        let (now_ms, due_ms): (u64, i64) = (items.next()?, items.next()?);
        self.store.set_now_ms(now_ms);
        let (stale, tickets): (Vec<u8>, Vec<u8>) = (items.next()?, items.next()?);
        let mut stepped = Stepped { stale: Ticket::list(&stale), ..Stepped::default() };
        for ticket in Ticket::list(&tickets) {
            match Claim::read(ticket, &items.next::<Vec<u8>>()?, now_ms) {
                Ok(claim) => stepped.claims.push(claim),
                Err(error) => stepped.unreadable.push(Finish::unreadable(ticket, &error)),
            }
        }
        stepped.again = due_ms == -3;
        stepped.due = u64::try_from(due_ms).ok().map(Duration::from_millis);
        Ok(stepped)
    }

    /// Extends the lease and looks around. `begun` are tasks started since the last beat with the instant of their
    /// claim, `left` those gone since; they feed `started_at` of what runs.
    ///
    /// # Errors
    /// [`Error::LeaseLost`] when this life is over; [`Error::Unavailable`].
    pub async fn beat(&self, begun: &[(TaskId, u64)], left: &[TaskId]) -> Result<Beaten> {
        let call = |_| {
            let call = self.store.call(&self.store.scripts().beat);
            let call = call.arg(&self.life.name).arg(self.lease_ms()).arg(begun.len());
            let call = begun.iter().fold(call, |call, (id, started_ms)| {
                call.arg(id.as_bytes()).arg(format!("{started_ms} {}", self.life.name))
            });
            call.args(left.iter().map(|id| id.as_bytes()))
        };
        let mut items = Items::of(self.store.send(&call(false)).await.map_err(Fault::into_error)?)?;
        if items.next::<u8>()? == 0 {
            return Err(Error::LeaseLost);
        }
        let now_ms = items.next()?;
        self.store.set_now_ms(now_ms);
        let (due_ms, shelves): (i64, u64) = (items.next()?, items.next()?);
        let mut leases = Vec::new();
        // A name that somebody else wrote need not be text; it is rescued like any other.
        while let (Ok(worker), Ok(lease)) = (items.next::<Vec<u8>>(), items.next::<String>()) {
            leases.push((worker, lease));
        }
        self.life.watch.saw(&self.life.name, now_ms, leases);
        Ok(Beaten { due: u64::try_from(due_ms).ok().map(Duration::from_millis), shelf: shelves > 0 })
    }

    /// When the first of the watched leases will have stood still for a whole lease.
    #[must_use]
    pub fn next_rescue(&self) -> Option<Instant> {
        self.life.watch.next()
    }

    /// Takes back the tasks of workers whose lease stood still for a whole lease on this process's monotonic clock, if
    /// Redis's clock agrees that it is over. Returns how many tasks were taken back.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn rescue(&self) -> Result<usize> {
        self.life.watch.rescue(&self.store).await
    }

    /// Fires the timers that are due; returns the time until the next, if one is set. Schedules are left to
    /// [`Orchestrator::tick`].
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn tick(&self) -> Result<Option<Duration>> {
        self.store.tick().await.map(|(due, _)| due)
    }

    /// Brings the tasks of these types back from the shelf.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn unshelve(&self, task_types: &[String]) -> Result {
        loop {
            let call = |_| self.store.call(&self.store.scripts().unshelve).arg(SWEEP_MAX).args(task_types);
            if read::<usize>(self.store.repeat(call).await?)? < SWEEP_MAX {
                return Ok(());
            }
        }
    }

    /// The attempt failed; another follows after `delay`.
    ///
    /// # Errors
    /// As [`Incarnation::step`].
    pub async fn retry(&self, claim: &Claim, delay: Duration, error: &str) -> Result<LetGo> {
        self.try_again(claim, delay, error, 1).await
    }

    /// The task comes again after `delay`, at least [`SNOOZE_MIN`]; no attempt is counted.
    ///
    /// # Errors
    /// As [`Incarnation::step`].
    pub async fn snooze(&self, claim: &Claim, delay: Duration, message: &str) -> Result<LetGo> {
        self.try_again(claim, delay.max(SNOOZE_MIN), message, 0).await
    }

    async fn try_again(&self, claim: &Claim, delay: Duration, error: &str, attempts: u8) -> Result<LetGo> {
        let delay_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
        let call = self.store.call(&self.store.scripts().retry).arg(&self.life.name).arg(self.generation());
        let call = call.arg(&claim.ticket().to_bytes()).arg(delay_ms).arg(claim.body_with_error(error)?);
        self.let_go(call.arg(cancelled_tail()).arg(attempts)).await
    }

    /// The server's clock, as this process knows it, in Unix milliseconds.
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        self.store.now_ms()
    }

    /// An id for something that a task tells.
    #[doc(hidden)]
    #[must_use]
    pub fn new_id(&self) -> TaskId {
        self.store.new_id(self.store.now_ms())
    }

    /// Lays a task aside whose type this worker does not handle.
    ///
    /// # Errors
    /// As [`Incarnation::step`].
    pub async fn shelve(&self, claim: &Claim) -> Result<LetGo> {
        let call = self.store.call(&self.store.scripts().shelve).arg(&self.life.name).arg(self.generation());
        let call = call.arg(&claim.ticket().to_bytes()).arg(claim.task_type());
        self.let_go(call.arg(cancelled_tail())).await
    }

    async fn let_go(&self, call: crate::store::Call) -> Result<LetGo> {
        let reply: String = read(self.store.send(&call).await.map_err(Fault::into_error)?)?;
        Ok(match reply.as_str() {
            "stale" => LetGo::Stale,
            "cancelled" => LetGo::Cancelled,
            _ => LetGo::Done,
        })
    }

    /// Gives tasks back unharmed, at most 1,000; returns those that were no longer this worker's.
    ///
    /// # Errors
    /// As [`Incarnation::step`].
    pub async fn release(&self, tickets: &[Ticket]) -> Result<Vec<Ticket>> {
        let call = self.store.call(&self.store.scripts().release).arg(&self.life.name).arg(self.generation());
        let call = call.arg(cancelled_tail()).args(tickets.iter().map(|ticket| ticket.to_bytes().to_vec()));
        let stale: Vec<u8> = read(self.store.send(&call).await.map_err(Fault::into_error)?)?;
        Ok(Ticket::list(&stale))
    }

    /// After a lost reply: raises the generation, so that nothing still under way counts, and asks what this worker
    /// holds. Tickets that `known` does not know were claimed unseen.
    ///
    /// # Errors
    /// [`Error::LeaseLost`] when this life is over; [`Error::Unavailable`].
    pub async fn reconcile(&self, known: impl Fn(Ticket) -> bool) -> Result<Held> {
        let generation = self.generation() + 1;
        let reply = self
            .store
            .repeat(|_| {
                let call = self.store.call(&self.store.scripts().reconcile);
                call.arg(&self.life.name).arg(generation).arg(self.lease_ms())
            })
            .await?;
        self.life.generation.store(generation, Ordering::Release);
        let mut items = Items::of(reply)?;
        let now_ms: u64 = items.next()?;
        let tickets = Ticket::list(&items.next::<Vec<u8>>()?);
        let mut held = Held::default();
        for ticket in &tickets {
            let record: Vec<u8> = items.next()?;
            if known(*ticket) {
                continue;
            }
            match Claim::read(*ticket, &record, now_ms) {
                Ok(claim) => held.adopted.push(claim),
                Err(error) => held.unreadable.push(Finish::unreadable(*ticket, &error)),
            }
        }
        held.tickets = tickets;
        Ok(held)
    }

    /// Ends this life in order. Returns the number of tasks that it still holds: when that is not 0 it stays, to be
    /// rescued.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn leave(&self, reported: &[TaskId]) -> Result<u64> {
        let call = |_| {
            let call = self.store.call(&self.store.scripts().leave).arg(&self.life.name);
            call.args(reported.iter().take(1000).map(|id| id.as_bytes()))
        };
        read(self.store.repeat(call).await?)
    }

    /// Waits until a queue may have work or a note comes, for at most `patience`.
    #[must_use]
    pub fn doorbell(&self) -> Doorbell {
        Doorbell { bell: crate::store::Bell::new(&self.store), owner: self.life.name.clone() }
    }
}

/// What woke a worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wake {
    /// This queue may have work. Whoever is told so owes a [`Incarnation::step`] or [`Doorbell::put_back`].
    Work(String),
    /// Cancelling of this task was asked for.
    Cancel(TaskId),
    /// Cancelling of this task within a time was asked for.
    CancelWithin(TaskId, Duration),
}

/// A worker's blocking wait, on a connection of its own.
#[derive(Clone, Debug)]
pub struct Doorbell {
    bell: crate::store::Bell,
    owner: String,
}

impl Doorbell {
    /// Waits for work in one of `queues`, or for a note to this worker, for at most `patience`.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn wait(&self, queues: &[String], patience: Duration) -> Result<Option<Wake>> {
        Ok(match self.bell.wait(queues, &self.owner, patience).await? {
            Some(crate::store::Rung::Token(queue)) => Some(Wake::Work(queue)),
            Some(crate::store::Rung::Note(note)) => match note.split_first() {
                Some((b'c', id)) => TaskId::from_slice(id).map(Wake::Cancel),
                _ => None,
            },
            Some(crate::store::Rung::Urgent(note, span)) => match note.split_first() {
                Some((b'c', id)) => TaskId::from_slice(id).map(|id| Wake::CancelWithin(id, span)),
                _ => None,
            },
            None => None,
        })
    }

    /// Ends a [`Doorbell::wait`] that is under way: it returns `None` soon.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn nudge(&self) -> Result {
        self.bell.nudge(&self.owner).await
    }

    /// Puts the wake token of `queue` back, for somebody who can use it.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn put_back(&self, queue: &str) -> Result {
        self.bell.put_back(queue).await.map_err(Fault::into_error)
    }
}
