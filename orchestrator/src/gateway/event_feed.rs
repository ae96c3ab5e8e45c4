//! Events as a stream has them.

use axum::body::Bytes;
use serde_json::json;

use super::audience::Audience;
use super::cloud_event;
use super::feed::{KEEP_ALIVE, Source, Step};
use crate::{Error, Event, EventCursor, Heard};

/// What one caller hears, as they want it written.
pub(super) struct EventFeed {
    pub(super) events: Audience,
    pub(super) form: Form,
}

/// How events are written.
#[derive(Clone, Debug)]
pub(super) enum Form {
    /// As they are.
    Ours,
    /// As CloudEvents of this namespace.
    CloudEvents { namespace: String },
}

impl Source for EventFeed {
    async fn next(&mut self) -> Result<Step, Error> {
        let heard = self.events.next_within(KEEP_ALIVE).await?;
        Ok(heard.map_or(Step::Silence, |heard| Step::Told(self.block(&heard))))
    }

    fn place(&self) -> String {
        id(self.events.cursor())
    }
}

impl EventFeed {
    /// What the client reads of what was heard last.
    pub(super) fn block(&self, heard: &Heard) -> Bytes {
        match heard {
            Heard::Event(event) => self.form.told(event).into(),
            Heard::Gap => {
                let data = self.form.gap();
                // The reader may be ahead of what it tells next, so that its place is none of the client's, which keeps
                // its own: it is told of the gap twice rather than of an event never. A reader that begins anew is not.
                let id = id(self.events.cursor().filter(|place| *place == EventCursor::default()));
                format!("{id}event: gap\ndata: {data}\n\n").into()
            }
        }
    }
}

impl Form {
    fn told(&self, event: &Event) -> String {
        // Nothing may break a line: JSON never does, and a type does not unless somebody else wrote it.
        let event_type: String = event.event_type.chars().filter(|c| !c.is_control()).collect();
        let data = match self {
            Self::Ours => serde_json::to_string(event).unwrap_or_default(),
            Self::CloudEvents { namespace } => cloud_event::told(event, namespace).to_string(),
        };
        format!("id: {}\nevent: {event_type}\ndata: {data}\n\n", event.cursor)
    }

    fn gap(&self) -> serde_json::Value {
        let detail = "events between where you were and here are not kept any more; what follows is whole again";
        match self {
            Self::Ours => json!({"detail": detail}),
            Self::CloudEvents { namespace } => {
                cloud_event::gap(namespace, &format!("{:032x}", rand::random::<u128>()), detail)
            }
        }
    }
}

/// The line that tells a place.
fn id(place: Option<EventCursor>) -> String {
    place.map(|place| format!("id: {place}\n")).unwrap_or_default()
}
