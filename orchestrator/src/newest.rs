//! The newest entry of the event stream, watched over one connection for everybody in this process who waits for events.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use crate::Result;
use crate::store::{Bell, EntryId, Store};

/// Longest blocking read.
const PATIENCE: Duration = Duration::from_secs(20);
/// Pause after a fault.
const PAUSE: Duration = Duration::from_millis(500);

/// Who watches, if anybody does.
#[derive(Debug, Default)]
pub(crate) struct Newest(Mutex<Option<watch::Sender<EntryId>>>);

impl Newest {
    /// Changes whenever something was appended. The watching ends with the last receiver.
    pub(crate) fn watch(&self, store: &Store) -> watch::Receiver<EntryId> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sender) = kept.as_ref().filter(|sender| sender.receiver_count() > 0) {
            return sender.subscribe();
        }
        let (sender, receiver) = watch::channel((0, 0));
        *kept = Some(sender.clone());
        let store = store.clone();
        tokio::spawn(async move {
            let bell = Bell::new(&store);
            let watching = async {
                loop {
                    if let Err(error) = look(&store, &bell, &sender).await {
                        tracing::debug!(%error, "the event stream cannot be watched now");
                        tokio::time::sleep(PAUSE).await;
                    }
                }
            };
            tokio::select! {
                () = sender.closed() => {}
                () = watching => {}
            }
        });
        receiver
    }
}

async fn look(store: &Store, bell: &Bell, sender: &watch::Sender<EntryId>) -> Result<()> {
    let seen = *sender.borrow();
    if !bell.events(seen, 1, PATIENCE).await?.is_empty() {
        sender.send_replace(store.events_end().await?);
    }
    Ok(())
}
