//! Tasks in the hands of agents that are no workers of ours, each under a lease of its own: what speaks HTTP, in any language,
//! claims, reports and asks by this.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::asking::Asking;
use crate::claim::{Assignment, Claim, Ticket, shorten};
use crate::journal::{Decision, Entry, Noted, hash_bytes};
use crate::parking::Wait;
use crate::record::{Finished, Header};
use crate::store::{Items, Place, read};
use crate::task::{Whereabouts, instant};
use crate::{
    ApprovalId, ApprovalStatus, Backoff, Error, Finish, Incarnation, LetGo, NewEvent, Orchestrator, QUEUES_MAX,
    RESULT_BYTES_MAX, Result, Status, Task, TaskId, Terms, codec,
};

/// Shortest lease of an agent outside.
pub const HOLD_LEASE_MIN: Duration = Duration::from_secs(5);
/// Longest one.
pub const HOLD_LEASE_MAX: Duration = Duration::from_secs(24 * 3600);
/// Tasks given to an agent by one call at most.
pub const HOLDS_MAX: usize = 100;
/// Longest word on how far a task is, in bytes.
pub const PROGRESS_NOTE_MAX: usize = 1000;
/// Leases of a namespace beyond which no task is given to agents outside.
const LEASES_MAX: usize = 10_000;
/// Tasks of one queue or shelf looked at for one claim.
const FRONT_MAX: usize = 1000;
/// Longest pause between two looks of somebody who waits: tasks of quiet queues are told by no event.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// Longest pause before the look that follows an event.
const SPREAD: Duration = Duration::from_millis(50);
/// How often an end is sent when no answer comes.
const SENDS_MAX: usize = 3;

/// Proof that an agent has a task. It is good for that agent and that task only, until the task leaves its hands.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct HoldToken {
    epoch: u32,
    secret: u64,
}

impl fmt::Display for HoldToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}-{:016x}", self.epoch, self.secret)
    }
}

/// Tells nothing.
impl fmt::Debug for HoldToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HoldToken")
    }
}

impl FromStr for HoldToken {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let hex = |text: &str, length| {
            (text.len() == length && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)))
                .then(|| u64::from_str_radix(text, 16).ok())
                .flatten()
        };
        let parts = text.split_once('-').and_then(|(epoch, secret)| Some((hex(epoch, 8)?, hex(secret, 16)?)));
        let (epoch, secret) = parts.ok_or_else(|| {
            Error::invalid(
                "a lease token is what a claim has answered as lease_token, 25 characters; send it unchanged",
            )
        })?;
        Ok(Self { epoch: epoch as u32, secret })
    }
}

/// Which tasks an agent outside wants.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// Any of these types, 1 to [`HOLDS_MAX`].
    pub types: Vec<String>,
    /// Where to look, at most [`QUEUES_MAX`]; where tasks of these types are routed when it is empty.
    pub queues: Vec<String>,
    /// Only what belongs to this tenant.
    pub tenant: Option<String>,
}

impl Wanted {
    fn takes(&self, task: &Task) -> bool {
        self.types.contains(&task.task_type) && (self.tenant.is_none() || self.tenant == task.tenant)
    }
}

/// A task that was given to an agent outside.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Hold {
    /// The task.
    pub task: Task,
    /// What proves that the agent has it.
    pub token: HoldToken,
    /// When the lease ends unless it is renewed.
    pub expires_at: DateTime<Utc>,
}

/// What a renewed lease tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Renewed {
    /// When it ends now unless it is renewed again.
    pub expires_at: DateTime<Utc>,
    /// Whether somebody wants the task to be stopped: let go of it, and it ends as cancelled.
    pub cancel_requested: bool,
}

/// How far a task is, as its journal keeps it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Progress {
    #[serde(rename = "p")]
    pub(crate) fraction: f64,
    #[serde(rename = "n", default, skip_serializing_if = "String::is_empty")]
    pub(crate) note: String,
}

impl Progress {
    /// # Errors
    /// [`Error::Invalid`] for what is no fraction, and for a note that is too long.
    pub(crate) fn new(fraction: f64, note: &str) -> Result<Self> {
        if !(0.0..=1.0).contains(&fraction) {
            return Err(Error::invalid(format!("progress is a number from 0 to 1, not {fraction}")));
        }
        if note.len() > PROGRESS_NOTE_MAX {
            return Err(Error::invalid(format!("a note on progress has at most {PROGRESS_NOTE_MAX} bytes")));
        }
        Ok(Self { fraction, note: note.into() })
    }
}

/// How a question stands.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Answer {
    /// It was asked: the task is parked, and out of the agent's hands, until people have decided.
    Asked(ApprovalId),
    /// It had been asked before, and was decided so.
    Decided {
        /// Which approval.
        approval: ApprovalId,
        /// `approved`, `rejected` or `timeout`.
        status: ApprovalStatus,
        /// Who decided; empty when nobody did.
        by: String,
        /// What they wrote.
        note: String,
        /// The form as they filled it in.
        form: Value,
    },
}

impl Orchestrator {
    /// Gives an agent outside up to `most` runnable tasks that it wants, in the order of their queues; tasks on the shelf of
    /// a type come last. When there is none it waits for `patience`, and looks again whenever something happens, at least once
    /// a second. Each look sees the first 1,000 tasks of a queue, and 1,000 of those behind: types that an agent handles alone
    /// are found sooner in a queue of their own.
    ///
    /// # Errors
    /// [`Error::Invalid`] for no type, names that are none, more than [`QUEUES_MAX`] queues, and what is out of the bounds
    /// [`HOLDS_MAX`], [`HOLD_LEASE_MIN`] and [`HOLD_LEASE_MAX`]; [`Error::Conflict`] when the namespace has 10,000 leases
    /// already; [`Error::Unavailable`].
    pub async fn hold_next(
        &self,
        agent: &str,
        wanted: &Wanted,
        most: usize,
        lease: Duration,
        patience: Duration,
    ) -> Result<Vec<Hold>> {
        check(agent, lease)?;
        let Wanted { types, queues, .. } = wanted;
        if types.is_empty() || types.len() > HOLDS_MAX || !(1..=HOLDS_MAX).contains(&most) {
            return Err(Error::invalid(format!(
                "a claim names 1 to {HOLDS_MAX} types and takes 1 to {HOLDS_MAX} tasks"
            )));
        }
        types.iter().try_for_each(|name| crate::router::check_name("task type", name))?;
        queues.iter().try_for_each(|name| crate::router::check_name("queue", name))?;
        let queues = match queues.as_slice() {
            [] => crate::submit::homes(self, types, wanted.tenant.is_none()).await?,
            named => named.to_vec(),
        };
        if queues.len() > QUEUES_MAX {
            return Err(Error::invalid(format!("a claim looks into at most {QUEUES_MAX} queues; name them")));
        }
        let mut news = self.newest.watch(&self.store);
        let started = Instant::now();
        loop {
            news.mark_unchanged();
            let held = self.hold_now(agent, wanted, &queues, most, lease).await?;
            let left = patience.saturating_sub(started.elapsed());
            if !held.is_empty() || left.is_zero() {
                return Ok(held);
            }
            let _ = tokio::time::timeout(left.min(LOOK_AGAIN), news.changed()).await;
            // One event must not send everybody who waits to Redis in the same instant.
            let pause = SPREAD.mul_f64(rand::random());
            tokio::time::sleep(pause.min(patience.saturating_sub(started.elapsed()))).await;
        }
    }

    async fn hold_now(
        &self,
        agent: &str,
        wanted: &Wanted,
        queues: &[String],
        most: usize,
        lease: Duration,
    ) -> Result<Vec<Hold>> {
        let mut held = Vec::new();
        for queue in queues {
            if held.len() < most {
                let front = self.store.ready(queue, 0, FRONT_MAX).await?;
                let is_long = front.len() == FRONT_MAX;
                self.hold_some(agent, wanted, front, most, lease, &mut held).await?;
                if is_long && held.len() < most {
                    // By chance, so that looks that follow each other come by everything.
                    let pieces = self.store.ready_count(queue).await?.div_ceil(FRONT_MAX).max(2);
                    let skip = FRONT_MAX * rand::random_range(1..pieces);
                    let piece = self.store.ready(queue, skip, FRONT_MAX).await?;
                    self.hold_some(agent, wanted, piece, most, lease, &mut held).await?;
                }
            }
        }
        for task_type in &wanted.types {
            if held.len() < most {
                let shelf = self.store.shelf(task_type, FRONT_MAX).await?;
                self.hold_some(agent, wanted, shelf, most, lease, &mut held).await?;
            }
        }
        Ok(held)
    }

    /// Takes those of `ids` that are wanted, until there are enough.
    async fn hold_some(
        &self,
        agent: &str,
        wanted: &Wanted,
        ids: Vec<TaskId>,
        most: usize,
        lease: Duration,
        held: &mut Vec<Hold>,
    ) -> Result {
        let mut ids = ids.as_slice();
        while !ids.is_empty() && held.len() < most {
            let some = &ids[..ids.len().min(HOLDS_MAX)];
            let (looked, found) = self.store.look_up(some, Place::Live).await?;
            ids = &ids[looked.clamp(1, some.len())..];
            // What cannot be read is left to whoever sets it aside.
            let told = found.iter().filter_map(|found| {
                let [place, record, children, number] = &found.parts;
                Task::told(found.id, [place, record, children, number]).ok().flatten()
            });
            let mut tasks: Vec<Task> = told.filter(|task| wanted.takes(task)).collect();
            // Others take them at the same time: who comes too late for one goes on to the next.
            while !tasks.is_empty() && held.len() < most {
                let now: Vec<Task> = tasks.drain(..tasks.len().min(most - held.len())).collect();
                for (task, (word, hold)) in now.iter().zip(self.send_holds(agent, &now, lease, false).await?) {
                    match word.as_str() {
                        "crowded" if held.is_empty() => return Err(crowded()),
                        "crowded" => return Ok(()),
                        "paused" => tasks.retain(|other| other.assigned_to != task.assigned_to),
                        _ => held.extend(hold),
                    }
                }
            }
        }
        Ok(())
    }

    /// Gives an agent outside this one task, or renews the lease of the one that has it.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Conflict`] when it is not runnable, telling how it stands; [`Error::Invalid`] for a lease
    /// out of its bounds; [`Error::Unavailable`].
    pub async fn hold(&self, agent: &str, id: TaskId, lease: Duration) -> Result<Hold> {
        check(agent, lease)?;
        let task = self.get(id).await?;
        let (word, hold) = self.send_holds(agent, &[task], lease, true).await?.pop().unwrap_or_default();
        hold.ok_or_else(|| match word.as_str() {
            "unknown" => Error::NotFound { what: format!("task {id}") },
            "crowded" => crowded(),
            word => Error::Conflict {
                what: match word {
                    "ended" => format!("task {id} has ended; it does not change any more"),
                    "parked" => format!("task {id} is blocked; nobody can take it before what it waits for has come"),
                    "pending" => format!("task {id} is pending; it can be taken when its instant has come"),
                    "paused" => format!("task {id} is in a queue that is paused"),
                    _ => format!("task {id} is in_progress in other hands"),
                },
            },
        })
    }

    /// One word for each task, and the hold if it was given.
    async fn send_holds(
        &self,
        agent: &str,
        tasks: &[Task],
        lease: Duration,
        renews: bool,
    ) -> Result<Vec<(String, Option<Hold>)>> {
        if tasks.is_empty() {
            return Ok(Vec::new());
        }
        let secret = rand::random::<u64>();
        let lease_ms = u64::try_from(lease.as_millis()).unwrap_or(u64::MAX);
        let call = |_| {
            let call = self.store.call(&self.store.scripts().hold).arg(agent).arg(lease_ms).arg(LEASES_MAX);
            let call = call.arg(u8::from(renews));
            tasks.iter().fold(call, |call, task| {
                let call = call.arg(task.task_id.as_bytes()).arg(&task.task_type);
                call.arg(holder(agent, task.task_id)).arg(secret)
            })
        };
        let mut items = Items::of(self.store.repeat(call).await?)?;
        let now_ms: u64 = items.next()?;
        self.store.set_now_ms(now_ms);
        let mut holds = Vec::with_capacity(tasks.len());
        for task in tasks {
            let (word, secret, record): (String, String, Vec<u8>) = (items.next()?, items.next()?, items.next()?);
            if word != "held" && word != "mine" {
                holds.push((word, None));
                continue;
            }
            let (header, _) = Header::read(&record)?;
            let started_at_ms = match (word.as_str(), task.started_at) {
                ("mine", Some(at)) => u64::try_from(at.timestamp_millis()).ok(),
                _ => Some(now_ms),
            };
            let at = Whereabouts {
                status: Some(Status::InProgress),
                started_at_ms,
                children: task.child_task_ids.clone(),
                ..Whereabouts::default()
            };
            let task = Task { progress: task.progress, ..Task::live(task.task_id, &record, at)? };
            let secret = secret.parse().map_err(|_| Error::corrupt("the generation of a hold"))?;
            let token = HoldToken { epoch: header.epoch, secret };
            holds.push((word, Some(Hold { task, token, expires_at: instant(now_ms.saturating_add(lease_ms)) })));
        }
        Ok(holds)
    }

    /// What `agent` may do with a task that it has. Without a token the agent's name alone is its proof.
    #[must_use]
    pub fn holder(&self, agent: &str, id: TaskId, token: Option<HoldToken>) -> Holder {
        Holder { orch: self.clone(), agent: agent.into(), id, token }
    }
}

/// An agent outside, and the task that it has.
#[derive(Clone, Debug)]
pub struct Holder {
    orch: Orchestrator,
    agent: String,
    id: TaskId,
    token: Option<HoldToken>,
}

/// A task in an agent's hands, as it is now.
struct Held {
    life: Incarnation,
    claim: Claim,
}

impl Holder {
    /// Extends the lease.
    ///
    /// # Errors
    /// [`Error::Conflict`] when the agent has not got the task any more, telling how it stands; [`Error::NotFound`];
    /// [`Error::Invalid`] for a lease out of its bounds; [`Error::Unavailable`].
    pub async fn renew(&self, lease: Duration) -> Result<Renewed> {
        check(&self.agent, lease)?;
        let Held { life, claim } = self.held().await?;
        let (ends_ms, cancel_requested) = self.heard(life.renew(claim.ticket(), lease, None).await).await?;
        Ok(Renewed { expires_at: instant(ends_ms), cancel_requested })
    }

    /// Tells how far the task is, from 0 to 1, with a note of at most [`PROGRESS_NOTE_MAX`] bytes, and extends the lease.
    /// The task shows it, and the event `task.progress` tells it.
    ///
    /// # Errors
    /// As [`Holder::renew`]; [`Error::Invalid`] for what is no fraction.
    pub async fn progress(&self, fraction: f64, note: &str, lease: Duration) -> Result<Renewed> {
        check(&self.agent, lease)?;
        let progress = Progress::new(fraction, note)?;
        let Held { life, claim } = self.held().await?;
        let told = life.tell_progress(&claim, &self.agent, &progress, lease).await;
        let (ends_ms, cancel_requested) = self.heard(told).await?;
        Ok(Renewed { expires_at: instant(ends_ms), cancel_requested })
    }

    /// Ends the task well. Without a token, a runnable task is taken and ended.
    ///
    /// # Errors
    /// As [`Holder::renew`]; [`Error::Invalid`] for a result of more than [`RESULT_BYTES_MAX`] bytes.
    pub async fn complete(&self, result: Value) -> Result {
        // From here on only the bytes are held: read JSON takes many times their room.
        let result = {
            let value = result;
            codec::encode("result", &value, RESULT_BYTES_MAX)?
        };
        let Some(Held { life, claim }) = self.held_or_ended(Status::Completed).await? else {
            self.leave_again().await;
            return Ok(());
        };
        let ticket = claim.ticket();
        self.end(&life, ticket, claim.complete(&result), Status::Completed).await
    }

    /// Ends the task as failed; or has it tried again, after `retry_in` or as its retries are spread by default, when it is
    /// `retryable` and has retries left. Returns its status then. Without a token, a runnable task is taken and ended.
    ///
    /// # Errors
    /// As [`Holder::renew`].
    pub async fn fail(&self, error: &str, retryable: bool, retry_in: Option<Duration>) -> Result<Status> {
        let held = match self.held_or_ended(Status::Failed).await {
            Err(Error::Conflict { .. }) if retryable && self.is_tried_again(error).await? => {
                self.leave_again().await;
                return Ok(Status::Pending);
            }
            held => held?,
        };
        let Some(Held { life, claim }) = held else {
            self.leave_again().await;
            return Ok(Status::Failed);
        };
        let (failures, ticket) = (claim.failures() + 1, claim.ticket());
        if retryable && failures <= u32::from(claim.max_retries()) {
            let delay = retry_in.unwrap_or_else(|| Backoff::default().draw(failures)).min(HOLD_LEASE_MAX);
            let outcome = self.heard(life.retry(&claim, delay, error).await).await?;
            return self.let_go(&life, outcome, Status::Pending).await;
        }
        let reason = if retryable { "retries" } else { "fatal" };
        self.end(&life, ticket, claim.fail(reason, error), Status::Failed).await.map(|()| Status::Failed)
    }

    /// Gives the task back unharmed; this counts no attempt. Returns its status then: `assigned`, or `cancelled` when
    /// somebody had asked for that.
    ///
    /// # Errors
    /// As [`Holder::renew`].
    pub async fn release(&self) -> Result<Status> {
        let Held { life, claim } = self.held().await?;
        let stale = self.heard(life.release(&[claim.ticket()]).await).await?;
        let outcome = if stale.is_empty() { LetGo::Done } else { LetGo::Stale };
        let status = self.let_go(&life, outcome, Status::Assigned).await?;
        match self.orch.get(self.id).await {
            Ok(task) if task.status == Status::Cancelled => Ok(Status::Cancelled),
            _ => Ok(status),
        }
    }

    /// Asks people about `shown` and parks the task until they have decided: then it is runnable again, for whichever agent
    /// claims it, and this call, made again under the same `name` with the same `shown`, answers with the decision. The agent
    /// may not decide itself.
    ///
    /// # Errors
    /// As [`Holder::renew`]; [`Error::Invalid`] for terms out of their bounds and texts that are too long, and when the
    /// task's journal is full.
    pub async fn ask(
        &self,
        name: &str,
        question: &str,
        shown: Value,
        form: Vec<String>,
        terms: Terms,
    ) -> Result<Answer> {
        crate::journal::check_entry_name(name)?;
        let Held { life, claim } = self.held().await?;
        if self.orch.store.generation(life.name()).await? != Some(life.generation()) {
            return Err(self.lost().await);
        }
        let asking = Asking::about(&claim, shown, question, form, terms)?.asked_by(&self.agent);
        let hash = hash_bytes(asking.hash());
        let journal = life.journal(claim.ticket()).await?;
        let order = u16::try_from(journal.len() + 1).unwrap_or(u16::MAX);
        if let Some((_, entry)) = journal.into_iter().find(|(noted, _)| noted == name) {
            let Noted::Asked { number, status, hash: before, decision } = entry.noted else {
                return Err(Error::Conflict { what: format!("another entry of the journal has the name `{name}`") });
            };
            let decided = !matches!(status, ApprovalStatus::Pending | ApprovalStatus::Cancelled);
            if before == hash && decided {
                let Decision { who, why, form } = decision;
                let form = if form.is_empty() { Value::Null } else { crate::task::to_json(&form) };
                let approval = ApprovalId { task: self.id, number };
                return Ok(Answer::Decided { approval, status, by: who, note: why, form });
            }
        }
        let noted = Noted::Asked { number: 0, status: ApprovalStatus::Pending, hash, decision: Decision::default() };
        let entry = Entry { order, side_by_side: false, code: 0, digest: [0; 8], noted };
        let parked = life.park(&claim, &Wait::Person { name: name.into(), entry, asking }, &[]).await;
        let outcome = self.heard(parked).await?;
        self.let_go(&life, outcome, Status::Blocked).await?;
        let task = self.orch.get(self.id).await?;
        // It may have been decided on, or cancelled, by now.
        task.approval_id.map(Answer::Asked).ok_or_else(|| Error::Conflict {
            what: format!("task {} is {}: somebody was faster than this answer", self.id, task.status),
        })
    }

    /// The task, if the agent has it.
    async fn held(&self) -> Result<Held> {
        let parts = self.orch.parts(self.id).await?;
        let part = |i: usize| parts.get(i).map(Vec::as_slice).unwrap_or_default();
        let task = Task::told(self.id, [part(0), part(1), part(2), part(3)])?;
        let task = task.ok_or_else(|| Error::NotFound { what: format!("task {}", self.id) })?;
        let holder = holder(&self.agent, self.id);
        let not_held = || Error::Conflict {
            what: match task.status {
                Status::InProgress => format!("task {} is in_progress, and {} has not got it", self.id, self.agent),
                status => format!("task {} is {status}; {} has not got it", self.id, self.agent),
            },
        };
        let (started, by) = std::str::from_utf8(part(3)).ok().and_then(|told| told.split_once(' ')).unwrap_or_default();
        if task.status != Status::InProgress || by != holder {
            return Err(not_held());
        }
        let (header, _) = Header::read(part(1))?;
        let token = match self.token {
            Some(token) if token.epoch == header.epoch => token,
            Some(_) => return Err(not_held()),
            None => match self.orch.store.generation(&holder).await? {
                Some(secret) => HoldToken { epoch: header.epoch, secret },
                None => return Err(not_held()),
            },
        };
        let ticket = Ticket { id: self.id, epoch: token.epoch };
        let claim = Claim::read(ticket, part(1), started.parse().unwrap_or_else(|_| self.orch.store.now_ms()))?;
        Ok(Held { life: Incarnation::outside(&self.orch.store, holder, token.secret), claim })
    }

    /// The task, if the agent has it, or may take it now by its name alone; `None` when this very hold has ended so before.
    async fn held_or_ended(&self, end: Status) -> Result<Option<Held>> {
        match (self.held().await, self.token) {
            (Err(Error::Conflict { .. }), Some(token)) if self.has_ended(token.epoch, end).await? => Ok(None),
            (Err(Error::Conflict { .. }), None) => {
                self.orch.hold(&self.agent, self.id, HOLD_LEASE_MIN).await?;
                self.held().await.map(Some)
            }
            (held, _) => held.map(Some),
        }
    }

    /// Whether a hold of this epoch has ended in this way.
    async fn has_ended(&self, epoch: u32, end: Status) -> Result<bool> {
        let parts = self.orch.parts(self.id).await?;
        let (Some(b"ended"), Some(value)) = (parts.first().map(Vec::as_slice), parts.get(1)) else { return Ok(false) };
        let finished = Finished::read(value)?;
        Ok(finished.status == end && Header::read(finished.record)?.0.epoch == epoch.saturating_add(1))
    }

    /// Whether this very hold has failed with this error before, and another attempt follows.
    async fn is_tried_again(&self, error: &str) -> Result<bool> {
        let Some(token) = self.token else { return Ok(false) };
        let parts = self.orch.parts(self.id).await?;
        let part = |i: usize| parts.get(i).map(Vec::as_slice).unwrap_or_default();
        let Some(task) = Task::told(self.id, [part(0), part(1), part(2), part(3)])? else { return Ok(false) };
        Ok(!task.status.is_terminal()
            && task.error.as_deref() == Some(&shorten(error))
            && Header::read(part(1))?.0.epoch == token.epoch.saturating_add(1))
    }

    /// Sends the end of a hold until an answer comes, a few times.
    async fn end(&self, life: &Incarnation, ticket: Ticket, finish: Finish, end: Status) -> Result {
        let mut sends = 0;
        loop {
            sends += 1;
            match life.step(std::slice::from_ref(&finish), 0, &[], None).await {
                Ok(stepped) if stepped.stale.is_empty() => break,
                Ok(_) | Err(Error::LeaseLost) if self.has_ended(ticket.epoch, end).await? => break,
                Ok(_) | Err(Error::LeaseLost) => return Err(self.lost().await),
                Err(Error::Unavailable { .. }) if sends < SENDS_MAX => {}
                Err(error) => return Err(error),
            }
        }
        self.leave(life).await;
        Ok(())
    }

    async fn let_go(&self, life: &Incarnation, outcome: LetGo, then: Status) -> Result<Status> {
        match outcome {
            LetGo::Stale => return Err(self.lost().await),
            LetGo::Done | LetGo::Cancelled => self.leave(life).await,
        }
        Ok(if outcome == LetGo::Cancelled { Status::Cancelled } else { then })
    }

    /// Nothing is held any more; should this fail, the lease ends by itself and is swept.
    async fn leave(&self, life: &Incarnation) {
        if let Err(error) = life.leave(&[self.id]).await {
            tracing::debug!(%error, task = %self.id, "an empty lease is left to be swept");
        }
    }

    /// Whose first call had no answer may not have come that far.
    async fn leave_again(&self) {
        self.leave(&Incarnation::outside(&self.orch.store, holder(&self.agent, self.id), 0)).await;
    }

    /// With how the task stands, when the agent has not got it any more.
    async fn heard<T>(&self, outcome: Result<T>) -> Result<T> {
        match outcome {
            Err(Error::LeaseLost) => Err(self.lost().await),
            outcome => outcome,
        }
    }

    async fn lost(&self) -> Error {
        match self.orch.get(self.id).await {
            Ok(task) => Error::Conflict { what: format!("the lease is over; task {} is {}", self.id, task.status) },
            Err(error) => error,
        }
    }
}

impl Incarnation {
    /// Extends the lease of one task, and notes how far it is. Returns when the lease ends, and whether cancelling was asked
    /// for.
    async fn renew(
        &self,
        ticket: Ticket,
        lease: Duration,
        told: Option<(&Progress, TaskId, &NewEvent)>,
    ) -> Result<(u64, bool)> {
        let lease_ms = u64::try_from(lease.as_millis()).unwrap_or(u64::MAX);
        let (progress, id, event, names) = match told {
            None => Default::default(),
            Some((progress, id, event)) => {
                let progress = codec::encode("progress", progress, 2 * PROGRESS_NOTE_MAX)?;
                (progress, id.as_bytes().to_vec(), event.write()?, event.names())
            }
        };
        let call = |_| {
            let call = self.store.call(&self.store.scripts().renew).arg(self.name()).arg(self.generation());
            let call = call.arg(&ticket.to_bytes()).arg(lease_ms).arg(progress.as_slice());
            call.arg(id.as_slice()).arg(event.as_slice()).arg(&names)
        };
        let (now_ms, cancel, woke): (u64, bool, bool) = read(self.store.repeat(call).await?)?;
        self.store.set_now_ms(now_ms);
        if woke {
            self.store.tick_in(0);
        }
        Ok((now_ms.saturating_add(lease_ms), cancel))
    }

    /// Notes how far a task is, and tells the event `task.progress`; as [`Incarnation::renew`].
    async fn tell_progress(
        &self,
        task: &Assignment,
        agent: &str,
        progress: &Progress,
        lease: Duration,
    ) -> Result<(u64, bool)> {
        let shown = serde_json::json!({"progress": progress.fraction, "note": progress.note});
        let ticket = task.ticket();
        let event = NewEvent::new("task.progress", &shown).task(ticket.id).source(agent).trace_id(&task.trace_id());
        self.renew(ticket, lease, Some((progress, self.new_id(), &event))).await
    }
}

fn crowded() -> Error {
    Error::Conflict { what: format!("there are {LEASES_MAX} leases already; nothing is given out until some end") }
}

/// How Redis names an agent outside with one task.
fn holder(agent: &str, id: TaskId) -> String {
    format!("h:{id}:{agent}")
}

fn check(agent: &str, lease: Duration) -> Result {
    if agent.is_empty() || agent.len() > 128 || !agent.bytes().all(|b| (0x20..0x7f).contains(&b)) {
        return Err(Error::invalid("the name of an agent has 1 to 128 printable ASCII characters"));
    }
    match (HOLD_LEASE_MIN..=HOLD_LEASE_MAX).contains(&lease) {
        true => Ok(()),
        false => Err(Error::invalid("a lease lasts between 5 seconds and 24 hours")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_reads_back_and_tells_nothing_by_chance() {
        let token = HoldToken { epoch: 7, secret: 0x0123_4567_89ab_cdef };
        assert_eq!(token.to_string(), "00000007-0123456789abcdef");
        assert_eq!(token.to_string().parse::<HoldToken>().ok(), Some(token));
        assert_eq!(format!("{token:?}"), "HoldToken");
        for wrong in ["", "7-1", "00000007-0123456789ABCDEF", "00000007_0123456789abcdef", "+0000007-0123456789abcdef"]
        {
            assert!(wrong.parse::<HoldToken>().is_err(), "{wrong}");
        }
    }
}
