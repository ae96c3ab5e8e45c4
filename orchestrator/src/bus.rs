//! Telling events and reading them: one stream holds what scripts and people told, in one order; readers follow it from
//! wherever they like.

use std::collections::{HashSet, VecDeque};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::idempotency::{Key, Seen};
use crate::new_event::{EventPriority, NewEvent};
use crate::pattern::EventPattern;
use crate::store::{Bell, EntryId, Items, entry_id};
use crate::untold::{Untold, count, untold};
use crate::{Error, Orchestrator, Result, TaskId};

/// Events of one call at most.
pub const EVENTS_PUBLISHED_MAX: usize = 100;
/// A send that arrives later than this after its ids were made is void.
const SEND_WINDOW_MS: u64 = 60_000;
/// Entries read at once: of the largest events 8 MB. They are kept as bytes until they are told, because JSON can take
/// thirty times as much memory.
const PAGE: usize = 32;
/// Longest blocking read.
const PATIENCE: Duration = Duration::from_secs(20);

/// One event, as readers see it; its payload is JSON, or what it was read as.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "gateway", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "gateway", schema(as = Event))]
#[non_exhaustive]
pub struct Event<P = Value> {
    /// Its name for all time. Handle an event at most once by remembering it. A place in the stream for what happened to a
    /// task, a UUID for what somebody told, whatever its type says.
    pub event_id: String,
    /// What happened: `task.completed`, `deploy.succeeded` …
    pub event_type: String,
    /// How urgent it is.
    pub priority: EventPriority,
    /// Who told it.
    pub source_agent: String,
    /// The trace that it belongs to.
    pub trace_id: String,
    /// Where in that trace it was told, as W3C Trace Context writes it, if whoever told it said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
    /// The task that it is about.
    pub task_id: Option<TaskId>,
    /// What else it is about: a commit, an order … Whoever waits for an event names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// What was told.
    #[cfg_attr(feature = "gateway", schema(value_type = Value))]
    pub payload: P,
    /// When it was told.
    pub timestamp: DateTime<Utc>,
    /// Free fields of whoever told it.
    pub metadata: Map<String, Value>,
    /// Where it stands in the stream: read on behind it.
    pub cursor: EventCursor,
}

impl Event {
    /// The same event, its payload read as a `P`.
    ///
    /// # Errors
    /// [`Error::Invalid`] with the path to the first mistake.
    pub fn typed<P: DeserializeOwned>(self) -> Result<Event<P>> {
        let payload = serde_path_to_error::deserialize(self.payload).map_err(|error| {
            let at = match error.path().to_string() {
                path if path == "." => String::new(),
                path => format!(" at `{path}`"),
            };
            Error::invalid(format!("the payload of `{}` does not fit{at}: {}", self.event_type, error.inner()))
        })?;
        Ok(Event {
            event_id: self.event_id,
            event_type: self.event_type,
            priority: self.priority,
            source_agent: self.source_agent,
            trace_id: self.trace_id,
            traceparent: self.traceparent,
            task_id: self.task_id,
            key: self.key,
            payload,
            timestamp: self.timestamp,
            metadata: self.metadata,
            cursor: self.cursor,
        })
    }
}

/// A place in the stream, behind one event. Told as `1790000000000-0.2`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventCursor {
    pub(crate) entry: EntryId,
    /// Number of the event within its entry, from 0.
    pub(crate) index: u32,
}

impl EventCursor {
    /// Behind everything that was told before an instant.
    #[must_use]
    pub fn at(instant: DateTime<Utc>) -> Self {
        let ms = u64::try_from(instant.timestamp_millis()).unwrap_or(0);
        Self { entry: (ms.saturating_sub(1), u64::MAX), index: u32::MAX }
    }
}

impl fmt::Display for EventCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}.{}", self.entry.0, self.entry.1, self.index)
    }
}

impl FromStr for EventCursor {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let parts = || {
            let (entry, index) = text.split_once('.')?;
            let index = index.bytes().all(|b| b.is_ascii_digit()).then(|| index.parse().ok()).flatten()?;
            Some(Self { entry: entry_id(entry)?, index })
        };
        parts().ok_or_else(|| {
            let text = crate::error::excerpt(text);
            Error::invalid(format!("`{text}` is no place in the event stream; one looks like 1790000000000-0.0"))
        })
    }
}

impl Serialize for EventCursor {
    fn serialize<S: serde::Serializer>(&self, writer: S) -> std::result::Result<S::Ok, S::Error> {
        writer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for EventCursor {
    fn deserialize<D: serde::Deserializer<'de>>(reader: D) -> std::result::Result<Self, D::Error> {
        String::deserialize(reader)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Where a reader begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EventsFrom {
    /// With the oldest event that is kept.
    Oldest,
    /// With the next one.
    #[default]
    Now,
    /// Behind a place.
    Behind(EventCursor),
}

/// What a reader is told.
#[derive(Clone, Debug, PartialEq)]
pub enum Heard {
    /// An event.
    Event(Box<Event>),
    /// Events between where it was and here may have been missed: they are not kept any more.
    Gap,
}

/// A reader of events; see [`Orchestrator::events`]. Holds a connection of its own while it waits.
#[derive(Debug)]
pub struct Events {
    orch: Orchestrator,
    bell: Bell,
    wanted: Vec<EventPattern>,
    from: EventsFrom,
    /// Behind what was read; `None` before the first read.
    seen: Option<EventCursor>,
    /// Whether the entry at `seen` has been read, so that it is there until it is dropped.
    read: bool,
    /// How many entries had been dropped when all were, and `seen` was the last of them.
    before: Option<u64>,
    /// Read and not told yet.
    ready: VecDeque<Ready>,
}

/// Read and not told yet.
#[derive(Debug)]
enum Ready {
    Gap,
    Event(Untold),
}

impl Orchestrator {
    /// Tells an event; it is in the stream when this returns. Repeated by itself when an answer is lost, under the same id,
    /// so that it is told once. Returns its id.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a type that is none and for more than [`EVENT_BYTES_MAX`](crate::EVENT_BYTES_MAX);
    /// [`Error::OutOfMemory`]; [`Error::Unavailable`] when no answer came for 15 seconds: then it may have been told.
    pub async fn publish(&self, event: &NewEvent) -> Result<String> {
        self.publish_all(std::slice::from_ref(event))
            .await?
            .pop()
            .ok_or_else(|| Error::corrupt("an event without an id"))
    }

    /// Tells up to [`EVENTS_PUBLISHED_MAX`] events, in one round trip.
    ///
    /// # Errors
    /// As [`Orchestrator::publish`].
    pub async fn publish_all(&self, events: &[NewEvent]) -> Result<Vec<String>> {
        if events.is_empty() || events.len() > EVENTS_PUBLISHED_MAX {
            let n = events.len();
            return Err(Error::invalid(format!("one call tells 1 to {EVENTS_PUBLISHED_MAX} events, not {n}")));
        }
        self.store.freshen_time().await?;
        let now_ms = self.store.now_ms();
        let mut ids: Vec<TaskId> =
            events.iter().map(|event| event.id.unwrap_or_else(|| self.store.new_id(now_ms))).collect();
        if ids.iter().collect::<HashSet<_>>().len() < ids.len() {
            return Err(Error::invalid("two events of one call have the same id"));
        }
        let write = |(event, id): (&NewEvent, &TaskId)| {
            let mut address = id.as_bytes().to_vec();
            address.extend(event.key_of_its_own()?.into_iter().flat_map(Key::to_bytes));
            Ok((address, event.write()?, event.names()))
        };
        let told: Vec<(Vec<u8>, Vec<u8>, String)> = events.iter().zip(&ids).map(write).collect::<Result<_>>()?;
        let keyed: Vec<&[u8]> = told.iter().filter_map(|(address, ..)| address.get(14..30)).collect();
        if keyed.iter().collect::<HashSet<_>>().len() < keyed.len() {
            return Err(Error::invalid("two events of one call have the same idempotency key"));
        }
        let void = ids.iter().map(TaskId::created_at_ms).min().unwrap_or(now_ms) + SEND_WINDOW_MS;
        let call = |_| {
            let call = self.store.call(&self.store.scripts().publish).arg(void);
            told.iter()
                .fold(call, |call, (address, told, names)| call.arg(address.as_slice()).arg(told.as_slice()).arg(names))
        };
        let mut items = Items::of(self.store.repeat(call).await?)?;
        let (now_ms, woken): (u64, u64) = (items.next()?, items.next()?);
        self.store.set_now_ms(now_ms);
        for id in &mut ids {
            match Seen::read(&items.next::<Vec<u8>>()?) {
                Seen::New => {}
                Seen::Same(before) => *id = before,
                Seen::Other => return Err(Seen::conflict()),
            }
        }
        if woken > 0 {
            self.store.tick_in(0);
        }
        Ok(ids.iter().map(ToString::to_string).collect())
    }

    /// Reads events whose type one of `wanted` means (all when there is none), from a place on, without end.
    #[must_use]
    pub fn events(&self, wanted: &[EventPattern], from: EventsFrom) -> Events {
        Events {
            orch: self.clone(),
            bell: Bell::new(&self.store),
            wanted: wanted.to_vec(),
            from,
            seen: None,
            read: false,
            before: None,
            ready: VecDeque::new(),
        }
    }
}

impl Events {
    /// The next event, as soon as there is one, or that some were missed. Cancel-safe. After an error it may be called
    /// again, and goes on where it was.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn next(&mut self) -> Result<Heard> {
        loop {
            if let Some(heard) = self.tell() {
                return Ok(heard);
            }
            self.fill(PATIENCE).await?;
        }
    }

    /// As [`Events::next`], but `None` when there is nothing to be told now.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn next_if_any(&mut self) -> Result<Option<Heard>> {
        loop {
            if let Some(heard) = self.tell() {
                return Ok(Some(heard));
            }
            let before = self.seen;
            self.fill(Duration::ZERO).await?;
            if self.ready.is_empty() && before == self.seen && before.is_some() {
                return Ok(None);
            }
        }
    }

    /// As [`Events::next`], but `None` when nothing was told for `patience`: then all that was read was told.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn next_within(&mut self, patience: Duration) -> Result<Option<Heard>> {
        let until = tokio::time::Instant::now() + patience;
        loop {
            if let Some(heard) = self.tell() {
                return Ok(Some(heard));
            }
            let left = until.saturating_duration_since(tokio::time::Instant::now());
            if left < Duration::from_millis(1) {
                // Redis would take no time for all time.
                return Ok(None);
            }
            self.fill(left.min(PATIENCE)).await?;
        }
    }

    /// Behind what was read so far.
    #[must_use]
    pub fn cursor(&self) -> Option<EventCursor> {
        self.seen
    }

    /// Tells what was read.
    fn tell(&mut self) -> Option<Heard> {
        while let Some(ready) = self.ready.pop_front() {
            match ready {
                Ready::Gap => return Some(Heard::Gap),
                Ready::Event(untold) => {
                    if let Some(event) = untold.event() {
                        return Some(Heard::Event(Box::new(event)));
                    }
                }
            }
        }
        None
    }

    /// Reads a page; waits for `patience` when there is nothing.
    async fn fill(&mut self, patience: Duration) -> Result<()> {
        let Some(seen) = self.seen else {
            self.seen = Some(self.begin().await?);
            return Ok(());
        };
        let store = self.orch.store();
        // The entry at the cursor is read again for what lies behind the cursor in it.
        let mut entries = store.events_from(seen.entry, PAGE).await?;
        let mut gap = false;
        if self.read && entries.first().is_none_or(|(id, _)| *id != seen.entry) {
            // It was dropped; whether others were too shows in the newest id that the stream has ever given.
            let (newest, dropped) = store.events_span().await?.map_or(((0, 0), 0), |span| (span.newest, span.dropped));
            if newest < seen.entry {
                // Another stream has taken its place.
                self.ready.push_back(Ready::Gap);
                (self.seen, self.read, self.before) = (Some(EventCursor::default()), false, None);
                return Ok(());
            }
            gap = newest > seen.entry && self.before.is_none_or(|before| dropped > before);
            if newest == seen.entry {
                // It was the last one: as many were dropped as had been given, and none of them unread.
                self.before = Some(dropped);
            }
        }
        let nothing =
            entries.iter().all(|(id, fields)| *id == seen.entry && count(fields) <= seen.index.saturating_add(1));
        if nothing && !gap && !patience.is_zero() {
            entries = self.bell.events(seen.entry, PAGE, patience).await?;
        }
        let mut last = seen;
        for (id, fields) in &entries {
            last = last.max(EventCursor { entry: *id, index: count(fields).saturating_sub(1) });
        }
        let events = untold(&self.orch, &entries, seen, &self.wanted, None).await?;
        // Nothing is noted before the last await: a call that fails or is given up on has told nothing.
        self.ready.extend(gap.then_some(Ready::Gap));
        // A gap with nothing behind it is told once.
        self.read = !entries.is_empty() || self.read && !gap;
        self.ready.extend(events.into_iter().map(Ready::Event));
        self.before = self.before.filter(|_| last == seen);
        self.seen = Some(last);
        Ok(())
    }

    /// Where to begin; notes a gap when events behind the place are not kept any more.
    async fn begin(&mut self) -> Result<EventCursor> {
        let store = self.orch.store();
        let cursor = match self.from {
            EventsFrom::Oldest => return Ok(EventCursor::default()),
            EventsFrom::Now => {
                let entry = store.events_end().await?;
                self.read = entry != (0, 0);
                return Ok(EventCursor { entry, index: u32::MAX });
            }
            EventsFrom::Behind(cursor) => cursor,
        };
        let span = store.events_span().await?;
        // Of an instant only what was dropped after it counts; of an event that was read, that it is there itself.
        let (oldest, newest, dropped) =
            span.map_or((None, (0, 0), false), |span| (span.oldest, span.newest, span.dropped > 0));
        let is_instant = cursor.entry.1 == u64::MAX || cursor.entry == (0, 0);
        let is_before = oldest.map_or(newest > cursor.entry, |oldest| oldest > cursor.entry);
        if is_before && (dropped || !is_instant) {
            self.ready.push_back(Ready::Gap);
        } else if newest < cursor.entry && !is_instant {
            // It was a place in another stream.
            self.ready.push_back(Ready::Gap);
            return Ok(EventCursor::default());
        }
        Ok(cursor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_text_and_sorts_by_place() {
        let cursor = EventCursor { entry: (1_790_000_000_000, 3), index: 2 };
        assert_eq!(cursor.to_string().parse::<EventCursor>().ok(), Some(cursor));
        assert!(cursor < EventCursor { entry: (1_790_000_000_000, 4), index: 0 });
        for wrong in ["", "1-2", "1.2", "a-0.0", "1-0.x", "+1-0.0"] {
            assert!(wrong.parse::<EventCursor>().is_err(), "{wrong}");
        }
    }
}
