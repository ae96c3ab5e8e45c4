//! What one caller hears of the events: all of them, or those of his tenant.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::{Error, Event, EventCursor, Events, Heard, Orchestrator, Result, TaskId};

/// Tasks whose tenant is remembered; then all are forgotten.
const KNOWN_MAX: usize = 4096;

/// A reader of events, as one caller hears them.
#[derive(Debug)]
pub(super) struct Audience {
    events: Events,
    tenant: Option<Tenant>,
}

/// A caller's tenant, and what it takes to judge for it.
#[derive(Debug)]
struct Tenant {
    name: String,
    orch: Orchestrator,
    known: HashMap<TaskId, bool>,
    /// Read and not judged yet: a call that is given up on loses nothing.
    held: Option<Heard>,
    /// Behind what was judged last.
    place: Option<EventCursor>,
}

impl Audience {
    /// `tenant` is the one whose events alone are heard.
    pub(super) fn new(orch: &Orchestrator, events: Events, tenant: Option<&str>) -> Self {
        let tenant = tenant.map(|name| Tenant {
            name: name.into(),
            orch: orch.clone(),
            known: HashMap::new(),
            held: None,
            place: None,
        });
        Self { events, tenant }
    }

    /// As [`Events::next_if_any`].
    pub(super) async fn next_if_any(&mut self) -> Result<Option<Heard>> {
        loop {
            if self.tenant.as_ref().is_none_or(|tenant| tenant.held.is_none()) {
                let heard = self.events.next_if_any().await?;
                if let Some(done) = self.hold(heard) {
                    return Ok(done);
                }
            }
            if let Some(heard) = self.judge().await? {
                return Ok(Some(heard));
            }
        }
    }

    /// As [`Events::next_within`].
    pub(super) async fn next_within(&mut self, patience: Duration) -> Result<Option<Heard>> {
        let until = Instant::now() + patience;
        loop {
            if self.tenant.as_ref().is_none_or(|tenant| tenant.held.is_none()) {
                let heard = self.events.next_within(until.saturating_duration_since(Instant::now())).await?;
                if let Some(done) = self.hold(heard) {
                    return Ok(done);
                }
            }
            if let Some(heard) = self.judge().await? {
                return Ok(Some(heard));
            }
        }
    }

    /// Behind what was read so far, and judged.
    pub(super) fn cursor(&self) -> Option<EventCursor> {
        match &self.tenant {
            None => self.events.cursor(),
            Some(tenant) => tenant.place,
        }
    }

    /// Keeps what was read until it is judged; returns it when there is nothing to judge.
    fn hold(&mut self, heard: Option<Heard>) -> Option<Option<Heard>> {
        let Some(tenant) = &mut self.tenant else { return Some(heard) };
        match heard {
            Some(Heard::Event(_)) => {
                tenant.held = heard;
                None
            }
            // All that was read is judged, or the reader begins anew.
            None => {
                tenant.place = self.events.cursor();
                Some(None)
            }
            Some(Heard::Gap) => {
                if self.events.cursor() == Some(EventCursor::default()) {
                    tenant.place = self.events.cursor();
                }
                Some(Some(Heard::Gap))
            }
        }
    }

    /// What was held, if it is for this caller.
    async fn judge(&mut self) -> Result<Option<Heard>> {
        let Some(tenant) = &mut self.tenant else { return Ok(None) };
        let Some(Heard::Event(event)) = &tenant.held else { return Ok(tenant.held.take()) };
        let (named, about, cursor) = (is_of(event, &tenant.name), event.task_id, event.cursor);
        let hears = named
            || match about {
                Some(task) => tenant.owns(task).await?,
                None => false,
            };
        tenant.place = Some(cursor);
        Ok(tenant.held.take().filter(|_| hears))
    }
}

/// Whether an event was told in the name of a tenant.
fn is_of(event: &Event, tenant: &str) -> bool {
    event.metadata.get("tenant").and_then(|name| name.as_str()) == Some(tenant)
}

impl Tenant {
    /// A task keeps its tenant; one that is not known any more is nobody's.
    async fn owns(&mut self, id: TaskId) -> Result<bool> {
        if let Some(owns) = self.known.get(&id) {
            return Ok(*owns);
        }
        let owns = match self.orch.get(id).await {
            Ok(task) => task.tenant.as_ref() == Some(&self.name),
            Err(Error::NotFound { .. }) => return Ok(false),
            Err(error) => return Err(error),
        };
        if self.known.len() >= KNOWN_MAX {
            self.known.clear();
        }
        self.known.insert(id, owns);
        Ok(owns)
    }
}
