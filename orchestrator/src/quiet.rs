//! Queues whose tasks tell no events of their own: less work for Redis where nobody listens.

use crate::router::check_name;
use crate::{Orchestrator, Result};

impl Orchestrator {
    /// Has the tasks of a queue that are submitted from now on tell no events of their changes of state, or tell them again.
    /// Events of approvals and of service-level clocks, and what handlers tell, are told all the same. Clients hear of it within
    /// 5 seconds. Returns whether that was a change.
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::Error::Invalid) for a bad name; [`Error::Unavailable`](crate::Error::Unavailable).
    pub async fn set_queue_events(&self, queue: &str, told: bool) -> Result<bool> {
        check_name("queue", queue)?;
        let changed = self.store.set_quiet(queue, !told).await?;
        self.offers.forget();
        Ok(changed)
    }
}
