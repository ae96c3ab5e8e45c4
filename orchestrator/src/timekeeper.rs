//! Timers, fired by whoever lives: a namespace without workers still has approvals that expire and promises that break.

use std::convert::Infallible;
use std::time::Duration;

use crate::Orchestrator;

/// Longest pause between two looks: a timer that somebody else sets meanwhile waits no longer.
const PAUSE_MAX: Duration = Duration::from_millis(500);
/// Shortest pause, should many timers be due one behind the other.
const PAUSE_MIN: Duration = Duration::from_millis(5);

impl Orchestrator {
    /// Fires the timers of this namespace as they come due, at most half a second late, until the future is dropped.
    ///
    /// Workers and gateways do this by themselves; any number of processes may do it at the same time, nothing fires
    /// twice. When Redis does not serve, the log says so once and once more when it serves again; timers that came due
    /// meanwhile fire then.
    pub async fn keep_time(&self) -> Infallible {
        let mut away = false;
        loop {
            let pause = match self.tick().await {
                Ok(due) => {
                    if std::mem::take(&mut away) {
                        tracing::info!("timers fire again");
                    }
                    due.map_or(PAUSE_MAX, |due| due.clamp(PAUSE_MIN, PAUSE_MAX))
                }
                Err(error) => {
                    if !std::mem::replace(&mut away, true) {
                        tracing::warn!(%error, "no timer can fire; trying on, and silent until it works again");
                    }
                    PAUSE_MAX
                }
            };
            tokio::time::sleep(pause).await;
        }
    }
}
