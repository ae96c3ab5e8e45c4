//! The mirror: events on Pub/Sub channels, for listeners who know no streams.

use std::convert::Infallible;
use std::time::{Duration, Instant};

use crate::bus::{Event, EventCursor};
use crate::store::{EntryId, Fields};
use crate::{Orchestrator, Result};

/// Name of the consumer group: several gateways share the work, and each event is mirrored by one of them.
const GROUP: &str = "mirror";
/// Entries taken at once.
const PAGE: usize = 200;
/// Longest wait for entries.
const PATIENCE: Duration = Duration::from_secs(2);
/// Pause after a fault.
const PAUSE: Duration = Duration::from_secs(1);
/// Entries that another gateway has taken and not mirrored for so long are taken over: it has died.
const STALE: Duration = Duration::from_secs(10);

impl Orchestrator {
    /// Publishes every event as JSON on the channel `<namespace>:events:<event type>`, until the future is dropped. Any number
    /// of processes may do so: one of them mirrors each event. Gateways do this by themselves.
    ///
    /// Pub/Sub keeps nothing: who is not connected misses what is told meanwhile. The stream is the truth.
    pub async fn keep_mirroring(&self) -> Infallible {
        let name = format!("{}-{:08x}", std::process::id(), rand::random::<u32>());
        let mut looked: Option<Instant> = None;
        loop {
            // Now and then what a gateway has taken that died since.
            let stale = looked.is_none_or(|at| at.elapsed() > STALE);
            match self.mirror(&name, stale).await {
                Ok(()) if stale => looked = Some(Instant::now()),
                Ok(()) => {}
                Err(error) => {
                    tracing::debug!(%error, "the mirror of events has to wait");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    /// One turn.
    async fn mirror(&self, name: &str, stale: bool) -> Result<()> {
        let prefix = format!("{}:events:", self.config().namespace);
        let entries = match stale {
            true => self.store.claim_events(GROUP, name, STALE, PAGE).await?,
            false => self.take(name).await?,
        };
        if !entries.is_empty() && self.store.anybody_listens(&prefix).await? {
            for event in self.whole(&entries).await? {
                let text = serde_json::to_string(&event).unwrap_or_default();
                self.store.tell_channel(&format!("{prefix}{}", event.event_type), &text).await?;
            }
        }
        let ids: Vec<EntryId> = entries.iter().map(|(id, _)| *id).collect();
        self.store.ack_events(GROUP, &ids).await
    }

    async fn take(&self, name: &str) -> Result<Vec<(EntryId, Fields)>> {
        crate::store::Bell::new(&self.store).group(GROUP, name, PAGE, PATIENCE).await
    }

    /// The events of entries.
    async fn whole(&self, entries: &[(EntryId, Fields)]) -> Result<Vec<Event>> {
        crate::bus::whole(self, entries, EventCursor::default(), &[]).await
    }
}
