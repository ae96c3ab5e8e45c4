//! A task in hand that no server knows, for running a handler without one. Tests only.

use serde_json::Value;

use crate::asking::Asking;
use crate::claim::{Claim, Ticket};
use crate::policy::Terms;
use crate::record::{Header, flag};
use crate::telling::Telling;
use crate::untold::told_event;
use crate::{ApprovalPolicy, Config, Error, Event, EventCursor, NewEvent, NewTask, QUEUE_DEFAULT, Result, TaskId};

/// A task that was never submitted.
#[derive(Debug)]
pub struct Alone {
    id: TaskId,
    record: Vec<u8>,
}

impl Alone {
    /// Checks it as submitting does. No gate stops it.
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::Error::Invalid) for what could not be submitted.
    pub fn new<T>(task: NewTask<T>, now_ms: u64) -> Result<Self> {
        let config = Config { approvals: ApprovalPolicy::none(), ..Config::new("") };
        let id = task.id.unwrap_or_else(|| TaskId::at_moved_clock(now_ms));
        let queue = task.queue.clone().or_else(|| task.home.clone()).unwrap_or_else(|| QUEUE_DEFAULT.into());
        let record = task.into_draft(id, queue, now_ms, &config, None)?.record;
        Ok(Self { id, record })
    }

    /// An id for something that it tells.
    #[must_use]
    pub fn new_id(now_ms: u64) -> TaskId {
        TaskId::at_moved_clock(now_ms)
    }

    /// Claims it, after so many other claims and failed attempts.
    ///
    /// # Errors
    /// None in practice: the record is our own.
    pub fn claim(&self, epoch: u32, failures: u8, has_journal: bool, now_ms: u64) -> Result<Claim> {
        let (header, body) = Header::read(&self.record)?;
        let flags = flag::PASSED | if has_journal { flag::JOURNAL } else { 0 };
        let mut record = Vec::with_capacity(self.record.len());
        Header { epoch, attempts: failures, flags, ..header }.write(&mut record);
        record.extend(body);
        Claim::read(Ticket { id: self.id, epoch }, &record, now_ms)
    }
}

impl NewEvent {
    /// Whether a wait for this name finds it.
    #[must_use]
    pub fn is_named(&self, name: &str) -> bool {
        self.names().lines().any(|own| own == name)
    }

    /// As it would be told, without a server.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an event that cannot be told.
    pub fn alone(&self, now_ms: u64) -> Result<Event> {
        let id = self.id.unwrap_or_else(|| TaskId::at_moved_clock(now_ms));
        let cursor = EventCursor { entry: (now_ms, 0), index: 0 };
        let event = told_event(cursor, &[id.as_bytes().as_slice(), &self.write()?].concat());
        event.ok_or_else(|| Error::corrupt("an event that was just written"))
    }
}

impl Telling {
    /// As it would be told, without a server.
    ///
    /// # Errors
    /// None in practice: it is our own.
    pub fn event(&self) -> Result<Event> {
        let cursor = EventCursor { entry: (self.event_id().created_at_ms(), 0), index: 0 };
        told_event(cursor, &self.bytes()).ok_or_else(|| Error::corrupt("an event that was just written"))
    }
}

impl Asking {
    /// Who must approve.
    #[must_use]
    pub fn terms(&self) -> &Terms {
        &self.terms
    }

    /// What is shown.
    #[must_use]
    pub fn shown(&self) -> &Value {
        &self.request.shown
    }

    /// What is asked, in words.
    #[must_use]
    pub fn question(&self) -> &str {
        &self.request.question
    }

    /// The fields to be filled in.
    #[must_use]
    pub fn form(&self) -> &[String] {
        &self.request.form
    }

    /// Who submitted the task.
    #[must_use]
    pub fn requested_by(&self) -> Option<&str> {
        self.requested_by.as_deref()
    }
}
