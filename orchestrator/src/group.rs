//! A consumer group: processes that share the events that they want. Each event is handled by one of them, those of one
//! task in their order.

use std::time::Duration;

use crate::bus::{Event, EventCursor, EventsFrom};
use crate::pattern::{EventPattern, PATTERNS_MAX};
use crate::store::EntryId;
use crate::{Backoff, Error, LEASE, Result, check_name};

/// Attempts that may follow the first one, unless the group says otherwise.
pub const EVENT_RETRIES_DEFAULT: u8 = 5;
/// Events of one group that are handled at once, unless it says otherwise.
pub const EVENTS_AT_ONCE_DEFAULT: usize = 32;
/// Events of one group that are handled at once, at most.
pub const EVENTS_AT_ONCE_MAX: usize = 1024;

/// A consumer group: its name, what it wants, and what becomes of an event that cannot be handled.
#[derive(Clone, Debug)]
#[must_use = "a group does nothing until it is given to `Orchestrator::consume`"]
pub struct Group {
    pub(crate) name: String,
    pub(crate) wanted: Vec<EventPattern>,
    pub(crate) retries: u8,
    pub(crate) backoff: Backoff,
    pub(crate) from: EventsFrom,
    pub(crate) at_once: usize,
    /// How long the process that handles its events keeps them without a word: a third of it is the time between two.
    pub(crate) lease: Duration,
}

impl Group {
    /// A group that wants the events whose type one of `wanted` means; all when there is none. Processes that give the same
    /// name share its events, and have to want the same.
    pub fn new(name: &str, wanted: &[EventPattern]) -> Self {
        Self {
            name: name.into(),
            wanted: wanted.to_vec(),
            retries: EVENT_RETRIES_DEFAULT,
            backoff: Backoff::exponential(Duration::from_secs(1), Duration::from_secs(60)),
            from: EventsFrom::Now,
            at_once: EVENTS_AT_ONCE_DEFAULT,
            lease: LEASE,
        }
    }

    /// Attempts that may follow the first one, before an event becomes a dead letter.
    pub fn retries(mut self, retries: u8) -> Self {
        self.retries = retries;
        self
    }

    /// The wait between two attempts; `exp(1s, 1m)` unless called.
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// Where a group that is new begins; with the next event unless called. One that was there goes on where it was.
    pub fn from(mut self, from: EventsFrom) -> Self {
        self.from = from;
        self
    }

    /// How many events are handled at once, 1 to [`EVENTS_AT_ONCE_MAX`]. Those of one task are handled one after the other.
    pub fn at_once(mut self, at_once: usize) -> Self {
        self.at_once = at_once;
        self
    }

    /// How long its events stay with a process that says nothing: for tests of what happens then.
    #[doc(hidden)]
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = lease.max(Duration::from_millis(100));
        self
    }

    /// The entry behind which it begins when it is new; `None` for the end of the stream.
    pub(crate) fn begin(&self) -> Option<EntryId> {
        match self.from {
            EventsFrom::Oldest => Some((0, 0)),
            EventsFrom::Now => None,
            // An instant has no entry of its own.
            EventsFrom::Behind(EventCursor { entry, index: u32::MAX }) => Some(entry),
            // Some of that entry may lie behind the place.
            EventsFrom::Behind(EventCursor { entry: (ms, seq), .. }) => {
                Some(seq.checked_sub(1).map_or((ms.saturating_sub(1), u64::MAX), |seq| (ms, seq)))
            }
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Refuses what cannot be.
    ///
    /// # Errors
    /// [`Error::Invalid`], saying what is right.
    pub fn check(&self) -> Result {
        check_name("group", &self.name)?;
        if self.wanted.len() > PATTERNS_MAX {
            return Err(Error::invalid(format!(
                "a group takes at most {PATTERNS_MAX} patterns, not {}",
                self.wanted.len()
            )));
        }
        match (1..=EVENTS_AT_ONCE_MAX).contains(&self.at_once) {
            true => Ok(()),
            false => Err(Error::invalid(format!(
                "a group handles 1 to {EVENTS_AT_ONCE_MAX} events at once, not {}",
                self.at_once
            ))),
        }
    }
}

/// An event in the hands of one consumer of a group.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Delivery {
    /// The event.
    pub event: Event,
    /// Number of this attempt at it within the group, from 1; attempts lost to crashes count.
    pub attempt: u32,
}

/// Why an event was not handled, and what is to follow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unhandled {
    /// Another attempt, after this time or else the group's backoff, while retries are left.
    Retry {
        /// What went wrong.
        error: String,
        /// The wait, if it is not to be the backoff.
        delay: Option<Duration>,
    },
    /// None: it becomes a dead letter.
    Never {
        /// What went wrong.
        error: String,
    },
}
