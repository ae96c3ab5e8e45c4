//! Events that a group could not handle: looked at, sent anew, given up on. And how the groups stand.

use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::bus::{Event, EventCursor};
use crate::store::{EntryId, entry_id, read};
use crate::task::instant;
use crate::{Error, Orchestrator, Result, check_name, codec};

/// Dead letters of one call at most.
pub const DEAD_EVENTS_PAGE_MAX: usize = 100;

/// An event that a group has given up on.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct DeadEvent {
    /// Its name among the dead letters of the group.
    pub id: String,
    /// Why the last attempt failed.
    pub error: String,
    /// How often it was tried; attempts lost to crashes count.
    pub attempts: u8,
    /// When it was given up on.
    pub died_at: DateTime<Utc>,
    /// The event as it was told.
    pub event: Event,
}

/// How a consumer group stands.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct GroupStatus {
    /// Its name.
    pub name: String,
    /// Entries of the stream that it has not looked at; `None` when Redis cannot say. One entry may hold many events.
    pub behind: Option<u64>,
    /// Entries that were dropped before it looked at them; `None` when Redis cannot say.
    pub missed: Option<u64>,
    /// Entries that it has looked at and not let go of.
    pub pending: u64,
    /// Events that it has given up on.
    pub dead: u64,
    /// The process that handles its events now.
    pub consumer: Option<String>,
    /// The last entry that it has looked at.
    pub seen: EventCursor,
}

impl Orchestrator {
    /// Dead letters of a group, newest first; those before `before`, if it is given. At most [`DEAD_EVENTS_PAGE_MAX`] a call.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an id that is none; [`Error::Unavailable`].
    pub async fn dead_events(&self, group: &str, before: Option<&str>, count: usize) -> Result<Vec<DeadEvent>> {
        check_name("group", group)?;
        let before = before.map(letter_id).transpose()?;
        let entries = self.store.dead_events(group, before, count.min(DEAD_EVENTS_PAGE_MAX)).await?;
        let read = |((ms, seq), fields): (EntryId, crate::store::Fields)| {
            let field = |name: &[u8]| fields.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_slice());
            Some(DeadEvent {
                id: format!("{ms}-{seq}"),
                error: String::from_utf8_lossy(field(b"e")?).into_owned(),
                attempts: field(b"a")?.last().copied()?,
                died_at: instant(ms),
                event: codec::decode("a dead letter", field(b"v")?).ok()?,
            })
        };
        // What cannot be read was not written by us.
        Ok(entries.into_iter().filter_map(read).collect())
    }

    /// Sends dead letters anew, to their group alone; at most [`DEAD_EVENTS_PAGE_MAX`] a call. They keep their event ids and
    /// begin with a first attempt. Returns how many were there.
    ///
    /// # Errors
    /// As [`Orchestrator::dead_events`].
    pub async fn replay_dead_events(&self, group: &str, ids: &[String]) -> Result<usize> {
        check_letters(group, ids)?;
        let call = |_| self.store.call(&self.store.scripts().replay).arg(group).args(ids);
        read(self.store.repeat(call).await?)
    }

    /// Gives dead letters up for good; at most [`DEAD_EVENTS_PAGE_MAX`] a call. Returns how many were there.
    ///
    /// # Errors
    /// As [`Orchestrator::dead_events`].
    pub async fn forget_dead_events(&self, group: &str, ids: &[String]) -> Result<usize> {
        check_letters(group, ids)?;
        self.store.forget_dead_events(group, ids).await
    }

    /// How the consumer groups stand, by name.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn groups(&self) -> Result<Vec<GroupStatus>> {
        let mut groups = self.store.groups().await?;
        groups.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(groups)
    }

    /// Removes a group that nobody serves, with its place in the stream and its dead letters. Whoever serves it again begins
    /// anew. Returns whether there was one.
    ///
    /// # Errors
    /// [`Error::Conflict`] while a process serves it; [`Error::Unavailable`].
    pub async fn remove_group(&self, group: &str) -> Result<bool> {
        check_name("group", group)?;
        self.store.remove_group(group).await
    }
}

fn check_letters(group: &str, ids: &[String]) -> Result {
    check_name("group", group)?;
    if ids.is_empty() || ids.len() > DEAD_EVENTS_PAGE_MAX {
        let n = ids.len();
        return Err(Error::invalid(format!("one call takes 1 to {DEAD_EVENTS_PAGE_MAX} dead letters, not {n}")));
    }
    ids.iter().try_for_each(|id| letter_id(id).map(drop))
}

fn letter_id(text: &str) -> Result<EntryId> {
    entry_id(text).ok_or_else(|| {
        let text = crate::error::excerpt(text);
        Error::invalid(format!("`{text}` is no dead letter; one is called 1790000000000-0"))
    })
}
