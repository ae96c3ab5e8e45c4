//! The mirror: events on Pub/Sub channels, for listeners who know no streams.

use std::convert::Infallible;
use std::time::{Duration, Instant};

use crate::bus::EventCursor;
use crate::store::{Bell, EntryId, Fields};
use crate::untold::untold;
use crate::{Error, Orchestrator, Result};

/// Name of the consumer group: several gateways share the work, and each event is mirrored by one of them.
pub(crate) const GROUP: &str = "mirror";
/// All gateways go by one name: whose an entry is shows in how long it has been held, and none is left behind by gateways
/// that are gone.
const CONSUMER: &str = "gateway";
/// Entries taken at once.
const PAGE: usize = 32;
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
        let bell = Bell::new(&self.store);
        let (mut looked, mut last): (Option<Instant>, Option<EntryId>) = (None, None);
        loop {
            // Now and then what a gateway has taken that died since.
            let stale = looked.is_none_or(|at| at.elapsed() > STALE);
            let taken = match stale {
                true => self.store.claim_events(GROUP, CONSUMER, STALE, PAGE, last).await,
                false => bell.group(GROUP, CONSUMER, PAGE, PATIENCE).await,
            };
            let outcome = async {
                let entries = taken?;
                self.mirror(&entries).await?;
                Ok::<_, Error>((entries.len(), entries.iter().map(|(id, _)| *id).max()))
            };
            match outcome.await {
                Ok((mirrored, newest)) => {
                    last = last.max(newest);
                    if stale && mirrored < PAGE {
                        looked = Some(Instant::now());
                    }
                }
                Err(error) => {
                    // The group itself may be gone: the next turn makes it anew, behind what was mirrored last.
                    looked = None;
                    tracing::debug!(%error, "the mirror of events has to wait");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    async fn mirror(&self, entries: &[(EntryId, Fields)]) -> Result<()> {
        let prefix = format!("{}:events:", self.config().namespace);
        if !entries.is_empty() && self.store.anybody_listens(&prefix).await? {
            for event in untold(self, entries, EventCursor::default(), &[], None).await? {
                let Some(event) = event.event() else { continue };
                let text = serde_json::to_string(&event).unwrap_or_default();
                self.store.tell_channel(&format!("{prefix}{}", event.event_type), &text).await?;
            }
        }
        let ids: Vec<EntryId> = entries.iter().map(|(id, _)| *id).collect();
        self.store.ack_events(GROUP, &ids).await
    }
}
