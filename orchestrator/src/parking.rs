//! What a worker does for tasks that have durable steps or wait: notes in their journals, and letting go of them until
//! somebody decides or an instant comes.

use std::time::Duration;

use crate::asking::Asking;
use crate::bus::EventCursor;
use crate::claim::{Claim, Ticket, cancelled_tail};
use crate::journal::{Entry, JOURNAL_BYTES_MAX, JOURNAL_ENTRIES_MAX};
use crate::new_event::event_name;
use crate::store::{Fault, read};
use crate::telling::Telling;
use crate::{Error, Incarnation, LetGo, Result};

/// What a parked task waits for.
#[derive(Clone, Debug)]
#[non_exhaustive]
#[doc(hidden)]
pub enum Wait {
    /// A person's decision before its first attempt.
    Gate(Asking),
    /// A person's decision on something that its handler shows.
    Person {
        /// Name in the journal.
        name: String,
        /// Entry of the journal.
        entry: Entry,
        /// What is asked.
        asking: Asking,
    },
    /// An event, until an instant.
    Event {
        /// Name in the journal.
        name: String,
        /// Entry of the journal.
        entry: Entry,
        /// Its end.
        until: Until,
        /// The name of the event.
        awaited: String,
        /// Behind the last of its name that was found.
        behind: Option<EventCursor>,
    },
    /// An instant.
    Sleep {
        /// Name in the journal.
        name: String,
        /// Entry of the journal.
        entry: Entry,
        /// Its end.
        until: Until,
    },
}

impl Wait {
    /// The name of an event of a type about a key.
    #[must_use]
    pub fn name_of(event_type: &str, key: &str) -> String {
        event_name(event_type, key)
    }
}

/// The end of a sleep.
#[derive(Clone, Copy, Debug)]
#[doc(hidden)]
pub enum Until {
    /// So long after it begins.
    After(Duration),
    /// Unix milliseconds.
    Instant(u64),
}

fn journal_full(name: &str) -> Error {
    Error::invalid(format!(
        "there is no room for `{name}` in the task's journal: it holds at most {JOURNAL_ENTRIES_MAX} entries and \
         {JOURNAL_BYTES_MAX} bytes. Put large outputs elsewhere and note a reference, or split the task"
    ))
}

impl Incarnation {
    /// Notes in the journal of a task what it has done for good and what it has told meanwhile, and renews the lease. Repeated until an answer comes,
    /// for at most 15 seconds.
    ///
    /// # Errors
    /// [`Error::LeaseLost`] when the task is not this worker's any more; [`Error::Conflict`] when another entry has the
    /// name, [`Error::Invalid`] when the journal is full; [`Error::Unavailable`].
    #[doc(hidden)]
    pub async fn note(&self, ticket: Ticket, name: &str, entry: &Entry, tellings: &[Telling]) -> Result {
        let entry = entry.write();
        let call = |_| {
            let call = self.store.call(&self.store.scripts().journal).arg(self.name()).arg(self.generation());
            let call = call.arg(&ticket.to_bytes()).arg(self.lease_ms()).arg(name).arg(entry.as_slice());
            Telling::put_noted(tellings, call.arg(JOURNAL_ENTRIES_MAX).arg(JOURNAL_BYTES_MAX))
        };
        match read::<String>(self.store.repeat(call).await?)?.as_str() {
            "noted" => Ok(()),
            "woke" => {
                self.store.tick_in(0);
                Ok(())
            }
            "taken" => Err(Error::Conflict { what: format!("another entry of the journal has the name `{name}`") }),
            "full" => Err(journal_full(name)),
            _ => Err(Error::LeaseLost),
        }
    }

    /// The journal of a task, by name.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    #[doc(hidden)]
    pub async fn journal(&self, ticket: Ticket) -> Result<Vec<(String, Entry)>> {
        let stored = self.store.journal(ticket.id).await?.into_iter().filter(|(name, _)| name.first() != Some(&0));
        stored.map(|(name, entry)| Ok((String::from_utf8_lossy(&name).into_owned(), Entry::read(&entry)?))).collect()
    }

    /// Whether a task has passed the gate with this digest.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    #[doc(hidden)]
    pub async fn has_passed(&self, ticket: Ticket, gate: &str) -> Result<bool> {
        self.store.has_passed(ticket.id, gate).await
    }

    /// Lets a task wait for a person, for an instant or for an event; nothing of it stays here. What it has told is told.
    ///
    /// # Errors
    /// As [`Incarnation::step`]; [`Error::Invalid`] when the journal is full or what is asked is out of its bounds: then
    /// the task is still held.
    pub async fn park(&self, claim: &Claim, wait: &Wait, tellings: &[Telling]) -> Result<LetGo> {
        let call = self.store.call(&self.store.scripts().park).arg(self.name()).arg(self.generation());
        let call = call.arg(&claim.ticket().to_bytes()).arg(cancelled_tail());
        let timeout = self.store.config().approvals.timeout;
        let call = match wait {
            Wait::Gate(asking) => call.arg("").arg("").arg(asking.pack(timeout)?).arg(""),
            Wait::Person { name, entry, asking } => {
                call.arg(name).arg(entry.write()).arg(asking.pack(timeout)?).arg("")
            }
            Wait::Sleep { name, entry, until } | Wait::Event { name, entry, until, .. } => {
                let until = match until {
                    Until::After(delay) => format!("+{}", delay.as_millis()),
                    Until::Instant(ms) => ms.to_string(),
                };
                call.arg(name).arg(entry.write()).arg("").arg(until)
            }
        };
        let (awaited, behind) = match wait {
            Wait::Event { awaited, behind, .. } => (awaited.as_str(), *behind),
            _ => ("", None),
        };
        let behind = behind.map(|EventCursor { entry: (ms, seq), .. }| format!("{ms} {seq}")).unwrap_or_default();
        let call = call.arg(JOURNAL_ENTRIES_MAX).arg(JOURNAL_BYTES_MAX).arg(awaited).arg(behind);
        let call = Telling::put_noted(tellings, call);
        match read::<String>(self.store.send(&call).await.map_err(Fault::into_error)?)?.as_str() {
            "parked" => Ok(LetGo::Done),
            "woke" => {
                self.store.tick_in(0);
                Ok(LetGo::Done)
            }
            "crowded" => Err(Error::invalid(format!("1,000 tasks wait for `{awaited}` already"))),
            "cancelled" => Ok(LetGo::Cancelled),
            "full" => Err(journal_full(match wait {
                Wait::Person { name, .. } | Wait::Sleep { name, .. } | Wait::Event { name, .. } => name,
                Wait::Gate(_) => "",
            })),
            _ => Ok(LetGo::Stale),
        }
    }
}
