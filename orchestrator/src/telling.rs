//! Events that a handler has told, on their way: they are in the stream when what it noted, or its end, is.

use crate::bus::EVENTS_PUBLISHED_MAX;
use crate::journal::{Entry, Noted};
use crate::new_event::NewEvent;
use crate::store::Call;
use crate::{Error, Result, TaskId};

/// Bytes of events that one attempt may tell between two notes.
pub const TOLD_BYTES_MAX: usize = 1 << 20;

/// One event that a handler has told.
#[derive(Clone, Debug)]
#[doc(hidden)]
pub struct Telling {
    /// Name of the call in the journal.
    pub name: String,
    /// The journal's entry: an attempt that finds it does not tell again.
    pub entry: Entry,
    id: TaskId,
    event: Vec<u8>,
    names: String,
}

impl Telling {
    /// Puts an event on its way, with this id unless it has one; `entry` is one of the call without what came of it.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an event that cannot be told.
    pub fn new(event: &NewEvent, name: &str, mut entry: Entry, id: TaskId) -> Result<Self> {
        let id = event.id.unwrap_or(id);
        entry.noted = Noted::Told(id);
        Ok(Self { name: name.into(), entry, id, event: event.write()?, names: event.names() })
    }

    /// The event's id.
    #[must_use]
    pub fn event_id(&self) -> TaskId {
        self.id
    }

    /// Refuses one more than an attempt may tell between two notes.
    ///
    /// # Errors
    /// [`Error::Invalid`], naming the bound.
    pub fn check_room(&self, others: &[Self]) -> Result {
        let bytes: usize = others.iter().chain([self]).map(|telling| telling.event.len()).sum();
        match others.len() < EVENTS_PUBLISHED_MAX && bytes <= TOLD_BYTES_MAX {
            true => Ok(()),
            false => Err(Error::invalid(format!(
                "a handler tells at most {EVENTS_PUBLISHED_MAX} events and {TOLD_BYTES_MAX} bytes of them between two steps; \
                 put a step between them"
            ))),
        }
    }

    /// As the stream holds it.
    #[cfg(feature = "test-clock")]
    pub(crate) fn bytes(&self) -> Vec<u8> {
        [self.id.as_bytes().as_slice(), &self.event].concat()
    }

    /// As the scripts of the journal take it.
    pub(crate) fn put_noted(tellings: &[Self], call: Call) -> Call {
        tellings.iter().fold(call, |call, telling| {
            let call = call.arg(&telling.name).arg(telling.entry.write()).arg(telling.id.as_bytes());
            call.arg(telling.event.as_slice()).arg(&telling.names)
        })
    }

    /// As the script of the ends takes it, behind who tells it.
    pub(crate) fn put(&self, call: Call) -> Call {
        call.arg(self.id.as_bytes()).arg(self.event.as_slice()).arg(&self.names)
    }
}
