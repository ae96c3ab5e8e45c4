//! What an agent outside does with a task that it has: keeping it, ending it, giving it back, asking people.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::Value;

use crate::asking::Asking;
use crate::claim::{Claim, Ticket, shorten};
use crate::hold::{HOLD_LEASE_MAX, HOLD_LEASE_MIN, HoldToken, check, holder};
use crate::journal::{Decision, Entry, Noted, hash_bytes};
use crate::output::{ChunkBatch, ChunkData, PackedChunk};
use crate::parking::Wait;
use crate::progress::Progress;
use crate::record::{Finished, Header};
use crate::task::instant;
use crate::{
    ApprovalId, ApprovalStatus, Error, Finish, Incarnation, LetGo, Orchestrator, RESULT_BYTES_MAX, Result, Status,
    Task, TaskId, Terms, codec,
};

/// How often an end is sent when no answer comes.
const SENDS_MAX: usize = 3;

/// What a renewed lease tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Renewed {
    /// When it ends now unless it is renewed again.
    pub expires_at: DateTime<Utc>,
    /// Whether somebody wants the task to be stopped: let go of it, and it ends as cancelled.
    pub cancel_requested: bool,
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

impl Orchestrator {
    /// What `agent` may do with a task that it has. Without a token the agent's name alone is its proof.
    #[must_use]
    pub fn holder(&self, agent: &str, id: TaskId, token: Option<HoldToken>) -> Holder {
        Holder { orch: self.clone(), agent: agent.into(), id, token }
    }
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

    /// Tells how far the task is, from 0 to 1, with a note of at most [`PROGRESS_NOTE_MAX`](crate::PROGRESS_NOTE_MAX) bytes, and extends the lease.
    /// The task shows it, and the event `task.progress` tells it.
    ///
    /// # Errors
    /// As [`Holder::renew`]; [`Error::Invalid`] for what is no fraction.
    pub async fn progress(&self, fraction: f64, note: &str, lease: Duration) -> Result<Renewed> {
        check(&self.agent, lease)?;
        let progress = Progress::new(fraction, note)?;
        let Held { life, claim } = self.held().await?;
        let told = life.tell_progress(&claim, &self.agent, &progress, lease, life.new_id()).await;
        let (ends_ms, cancel_requested) = self.heard(told).await?;
        Ok(Renewed { expires_at: instant(ends_ms), cancel_requested })
    }

    /// Appends to what the task puts out, for whoever reads it, and extends the lease. `key` names this piece: sent again before
    /// another one, it is appended once. Returns its number too.
    ///
    /// # Errors
    /// As [`Holder::renew`]; [`Error::Invalid`] for an empty piece and for one of more than
    /// [`CHUNK_BYTES_MAX`](crate::CHUNK_BYTES_MAX) bytes; [`Error::OutOfMemory`].
    pub async fn put_out(&self, data: ChunkData, key: Option<&str>, lease: Duration) -> Result<(Renewed, u64)> {
        check(&self.agent, lease)?;
        let chunk =
            PackedChunk::new(data)?.ok_or_else(|| Error::invalid("there is nothing in this piece of output"))?;
        let name = key.map_or_else(rand::random, |key| crate::journal::digest(key.as_bytes()));
        let batch = ChunkBatch { name, chunks: vec![chunk], at: 0, lost: 0 };
        let Held { life, claim } = self.held().await?;
        let (number, now_ms, cancel_requested) = self.heard(life.put_out(&claim, &batch, Some(lease)).await).await?;
        let lease_ms = u64::try_from(lease.as_millis()).unwrap_or(u64::MAX);
        Ok((Renewed { expires_at: instant(now_ms.saturating_add(lease_ms)), cancel_requested }, number))
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

    /// Ends the task as failed; or has it tried again, after `retry_in`, its own backoff or the default one, when it is
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
            let delay =
                retry_in.unwrap_or_else(|| claim.backoff().unwrap_or_default().draw(failures)).min(HOLD_LEASE_MAX);
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
        // It may have been decided on, or cancelled, by now; what it then names is the gate that it has passed.
        task.approval_id.filter(|_| task.status == Status::Blocked).map(Answer::Asked).ok_or_else(|| Error::Conflict {
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
