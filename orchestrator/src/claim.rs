//! A task in a worker's hands, and the ways to let go of it. Each way takes the claim, so none happens twice.

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use serde::de::DeserializeOwned;

use crate::record::{Body, Ending, Header, flag, letter};
use crate::telling::Telling;
use crate::{Backoff, Error, Priority, Result, Source, TaskId};

/// Longest error text that is kept with a task, in bytes.
pub const ERROR_BYTES_MAX: usize = 4096;

/// Proof of one claim: the task and its epoch, the fencing token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ticket {
    /// The task.
    pub id: TaskId,
    /// How often it had left a worker when it was claimed. Rises with every claim; hand it to what lies downstream as
    /// a fencing token.
    pub epoch: u32,
}

impl Ticket {
    /// Length of a ticket in Redis.
    pub(crate) const BYTES: usize = crate::id::ID_BYTES + 4;

    pub(crate) fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..14].copy_from_slice(self.id.as_bytes());
        bytes[14..].copy_from_slice(&self.epoch.to_be_bytes());
        bytes
    }

    pub(crate) fn from_slice(bytes: &[u8]) -> Option<Self> {
        let (id, epoch) = bytes.split_at_checked(14)?;
        Some(Self { id: TaskId::from_slice(id)?, epoch: u32::from_be_bytes(epoch.try_into().ok()?) })
    }

    /// Tickets lying one behind the other.
    pub(crate) fn list(bytes: &[u8]) -> Vec<Self> {
        bytes.chunks(Self::BYTES).filter_map(Self::from_slice).collect()
    }
}

/// A claimed task, to be read by whoever works on it.
#[derive(Debug)]
pub struct Assignment {
    ticket: Ticket,
    header: Header,
    body: Body,
    payload: Vec<u8>,
    claimed_at_ms: u64,
}

impl Assignment {
    /// The claim's fencing token.
    #[must_use]
    pub fn ticket(&self) -> Ticket {
        self.ticket
    }

    /// The task's type.
    #[must_use]
    pub fn task_type(&self) -> &str {
        &self.body.task_type
    }

    /// The queue that it came from.
    #[must_use]
    pub fn queue(&self) -> &str {
        &self.header.queue
    }

    /// Its priority.
    #[must_use]
    pub fn priority(&self) -> Priority {
        self.header.priority
    }

    /// Who asked for it.
    #[must_use]
    pub fn source(&self) -> Source {
        self.body.source
    }

    /// The trace that it belongs to.
    #[must_use]
    pub fn trace_id(&self) -> String {
        self.body.trace_id.clone().unwrap_or_else(|| self.ticket.id.as_trace_id())
    }

    /// The submitter's free fields.
    #[must_use]
    pub fn metadata(&self) -> &serde_json::Map<String, serde_json::Value> {
        &self.body.metadata
    }

    /// Number of this attempt, from 1; attempts lost to crashes count.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        u32::from(self.header.attempts) + u32::from(self.header.crashes) + 1
    }

    /// The caller on whose behalf it was submitted.
    #[must_use]
    pub fn requested_by(&self) -> Option<&str> {
        self.body.requested_by.as_deref()
    }

    /// Who had its schedule make it by hand, unless that is who submits it.
    #[doc(hidden)]
    #[must_use]
    pub fn asked_by(&self) -> Option<&str> {
        self.body.asked_by.as_deref()
    }

    /// The tenant that it belongs to, if to any.
    #[must_use]
    pub fn tenant(&self) -> Option<&str> {
        self.body.tenant.as_deref()
    }

    /// The payload as JSON.
    #[must_use]
    pub fn args(&self) -> serde_json::Value {
        crate::task::to_json(&self.payload)
    }

    /// Whether somebody approved it before its first attempt.
    #[must_use]
    pub fn has_passed_its_gate(&self) -> bool {
        self.header.flags & flag::PASSED != 0
    }

    /// Whether it has durable steps behind it.
    #[must_use]
    pub fn has_journal(&self) -> bool {
        self.header.flags & flag::JOURNAL != 0
    }

    /// Attempts that failed before this one.
    #[must_use]
    pub fn failures(&self) -> u32 {
        self.header.attempts.into()
    }

    /// Attempts that may follow the first one, as the task says.
    #[must_use]
    pub fn max_retries(&self) -> u8 {
        self.header.max_retries
    }

    /// The wait between its attempts, if the task has its own.
    #[must_use]
    pub fn backoff(&self) -> Option<Backoff> {
        self.body.backoff
    }

    /// The payload as stored: one MessagePack value, checked for depth and size.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// The payload as a `P`.
    ///
    /// # Errors
    /// [`Error::Invalid`] with the path to the first mistake.
    pub fn payload_as<P: DeserializeOwned>(&self) -> Result<P> {
        let mut reader = rmp_serde::Deserializer::from_read_ref(&self.payload);
        serde_path_to_error::deserialize(&mut reader).map_err(|error| {
            let at = match error.path().to_string() {
                path if path == "." => String::new(),
                path => format!(" at `{path}`"),
            };
            Error::invalid(format!("the payload does not fit `{}`{at}: {}", self.body.task_type, error.inner()))
        })
    }

    /// When it was claimed: Unix milliseconds of the server's clock.
    #[must_use]
    pub fn claimed_at_ms(&self) -> u64 {
        self.claimed_at_ms
    }

    /// Whether its handler is not to be begun any more at an instant, in Unix milliseconds of the server's clock. Of one with a
    /// journal nobody says so here: what its handler has begun goes on.
    #[doc(hidden)]
    #[must_use]
    pub fn has_expired(&self, now_ms: u64) -> bool {
        self.header.flags & flag::EXPIRES != 0 && !self.has_journal() && self.body.expires_at_ms <= now_ms
    }

    /// How long it could have run before it was claimed; `None` unless this is its first claim and no person was waited for:
    /// of later ones nobody notes since when they can run.
    #[doc(hidden)]
    #[must_use]
    pub fn waited(&self) -> Option<Duration> {
        let is_first = self.ticket.epoch == 0 && !self.has_passed_its_gate();
        let since_ms = self.ticket.id.created_at_ms().max(self.body.run_at_ms);
        is_first.then(|| Duration::from_millis(self.claimed_at_ms.saturating_sub(since_ms)))
    }

    /// The body to go on with after a failed attempt.
    pub(crate) fn body_with_error(&self, error: &str) -> Result<Vec<u8>> {
        let mut bytes = Vec::with_capacity(self.payload.len() + 128);
        Body { error: Some(shorten(error)), ..self.body.clone() }.write(&self.payload, &mut bytes)?;
        Ok(bytes)
    }
}

/// The right and the duty to let go of a claimed task, once.
#[derive(Debug)]
#[must_use = "a claim that is dropped is rescued only when the worker's lease ends"]
pub struct Claim(Arc<Assignment>);

impl Deref for Claim {
    type Target = Assignment;

    fn deref(&self) -> &Assignment {
        &self.0
    }
}

impl Claim {
    pub(crate) fn read(ticket: Ticket, record: &[u8], claimed_at_ms: u64) -> Result<Self> {
        let (header, rest) = Header::read(record)?;
        let (body, payload) = Body::read(rest)?;
        Ok(Self(Arc::new(Assignment { ticket, header, body, payload: payload.to_vec(), claimed_at_ms })))
    }

    /// The task itself, for whoever works on it.
    #[must_use]
    pub fn assignment(&self) -> Arc<Assignment> {
        Arc::clone(&self.0)
    }

    /// A second copy of this claim, as a call that was sent twice would carry it.
    #[cfg(feature = "test-clock")]
    #[doc(hidden)]
    pub fn duplicate_for_tests(&self) -> Self {
        Self(Arc::clone(&self.0))
    }

    /// It is done; `result` is one MessagePack value.
    pub fn complete(self, result: &[u8]) -> Finish {
        self.finish(letter::COMPLETED, None, None, result)
    }

    /// It has failed for good; `reason` is one word for machines.
    pub fn fail(self, reason: &str, error: &str) -> Finish {
        self.finish(letter::FAILED, Some(reason), Some(error), &[])
    }

    /// It was stopped because cancelling was asked for.
    pub fn cancelled(self) -> Finish {
        self.finish(letter::CANCELLED, Some("request"), None, &[])
    }

    /// It ends because a person said no, or because nobody decided: `reason` is `rejected` or `timeout`.
    pub fn rejected(self, reason: &str, error: &str) -> Finish {
        self.finish(letter::CANCELLED, Some(reason), Some(error), &[])
    }

    fn finish(self, letter: u8, reason: Option<&str>, error: Option<&str>, result: &[u8]) -> Finish {
        let ending = Ending {
            started_after_ms: Some(self.claimed_at_ms.saturating_sub(self.ticket.id.created_at_ms())),
            error: error.map(shorten),
            reason: reason.map(Into::into),
        };
        Finish { ticket: self.ticket, tail: ending.write(letter, result), tellings: Vec::new() }
    }
}

/// How a task ended, on its way to Redis: it rides along with the worker's next step.
#[derive(Clone, Debug)]
#[must_use = "a finish counts only once it was sent"]
pub struct Finish {
    pub(crate) ticket: Ticket,
    pub(crate) tail: Vec<u8>,
    pub(crate) tellings: Vec<Telling>,
}

impl Finish {
    /// Adds what its handler has told: it is in the stream when the task has ended.
    #[doc(hidden)]
    pub fn telling(mut self, tellings: Vec<Telling>) -> Self {
        self.tellings = tellings;
        self
    }

    /// How many events it tells.
    #[doc(hidden)]
    #[must_use]
    pub fn tells(&self) -> usize {
        self.tellings.len()
    }

    /// For a task whose record cannot be read by this program: it fails for good, its bytes are kept.
    pub(crate) fn unreadable(ticket: Ticket, error: &Error) -> Self {
        let ending =
            Ending { error: Some(shorten(&error.to_string())), reason: Some("malformed".into()), ..Ending::default() };
        Self { ticket, tail: ending.write(letter::FAILED, &[]), tellings: Vec::new() }
    }

    /// The claim that it ends.
    #[must_use]
    pub fn ticket(&self) -> Ticket {
        self.ticket
    }
}

/// What a script files when it finds that a task's cancelling was asked for.
pub(crate) fn cancelled_tail() -> Vec<u8> {
    Ending { reason: Some("request".into()), ..Ending::default() }.write(letter::CANCELLED, &[])
}

/// What a run of a schedule is filed with when the next one takes its place.
pub(crate) fn replaced_tail() -> Vec<u8> {
    let error = Some("the next run of its schedule took its place".into());
    Ending { reason: Some("replaced".into()), error, ..Ending::default() }.write(letter::CANCELLED, &[])
}

/// What a rescue files for a task that took its worker down once too often.
pub(crate) fn poison_tail(crashes: u8) -> Vec<u8> {
    let ending = Ending {
        error: Some(format!("its worker died or fell silent {crashes} times while it ran")),
        reason: Some("poison".into()),
        ..Ending::default()
    };
    ending.write(letter::FAILED, &[])
}

/// `text` cut to [`ERROR_BYTES_MAX`] bytes.
pub(crate) fn shorten(text: &str) -> String {
    let mut end = text.len().min(ERROR_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}
