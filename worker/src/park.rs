//! A task that is to wait, on its way to Redis.

use std::time::Duration;

use orchestrator::{Claim, Telling, Until, Wait};

/// What it waits for, and what it has told before.
pub(crate) struct Park {
    pub(crate) claim: Claim,
    pub(crate) wait: Wait,
    pub(crate) tellings: Vec<Telling>,
}

impl Park {
    /// When the first timer of the wait is due.
    pub(crate) fn wakes_in(&self, now_ms: u64) -> Duration {
        match &self.wait {
            Wait::Sleep { until: Until::After(wait), .. } | Wait::Event { until: Until::After(wait), .. } => *wait,
            Wait::Sleep { until: Until::Instant(at), .. } | Wait::Event { until: Until::Instant(at), .. } => {
                Duration::from_millis(at.saturating_sub(now_ms))
            }
            // The terms are told by the next beat; a second is the shortest that they may have.
            _ => Duration::from_secs(1),
        }
    }
}
