//! How a worker is told to stop: first in order, then at once.

use orchestrator::{Error, Result};
use tokio_util::sync::CancellationToken;

/// Stops a worker. Clones stop the same one.
#[derive(Clone, Debug, Default)]
pub struct Stop {
    drain: CancellationToken,
    now: CancellationToken,
}

impl Stop {
    /// A worker that goes on until told otherwise.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Claim nothing more; finish what runs, within the grace; release the rest, uncounted.
    pub fn drain(&self) {
        self.drain.cancel();
    }

    /// Release what runs at once, uncounted.
    pub fn now(&self) {
        self.drain.cancel();
        self.now.cancel();
    }

    pub(crate) async fn draining(&self) {
        self.drain.cancelled().await;
    }

    /// Over when it is to drain.
    pub(crate) fn drained(&self) -> CancellationToken {
        self.drain.clone()
    }

    pub(crate) async fn immediate(&self) {
        self.now.cancelled().await;
    }

    /// Drains at the first SIGTERM or Ctrl-C, stops at once at the second.
    ///
    /// # Errors
    /// [`Error::Unfit`] when the signals cannot be listened to.
    pub fn on_signals() -> Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        let listen =
            |kind| signal(kind).map_err(|error| Error::Unfit { what: format!("no signals can be heard: {error}") });
        let (mut terminate, mut interrupt) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
        let stop = Self::new();
        let told = stop.clone();
        tokio::spawn(async move {
            for told_now in [false, true] {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
                if told_now {
                    told.now();
                } else {
                    tracing::info!("stopping: claiming nothing more, finishing what runs; once more to stop at once");
                    told.drain();
                }
            }
        });
        Ok(stop)
    }
}
