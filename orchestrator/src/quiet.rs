//! Queues whose tasks tell no events of their own: less work for Redis where nobody listens.

use std::collections::HashMap;

use crate::router::check_name;
use crate::store::{Call, Store, read};
use crate::{Orchestrator, Result};

/// What is noted of a queue that is quiet.
const OFF: &str = "off";

impl Orchestrator {
    /// Has the tasks of a queue that are submitted from now on tell no events of their changes of state, or tell them again.
    /// Events of approvals and of service-level clocks, and what handlers tell, are told all the same. Clients hear of it within
    /// 5 seconds. Returns whether that was a change.
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::Error::Invalid) for a bad name; [`Error::Unavailable`](crate::Error::Unavailable).
    pub async fn set_queue_events(&self, queue: &str, told: bool) -> Result<bool> {
        check_name("queue", queue)?;
        let before = self.store.quiet_queues().await?.get(queue).is_some_and(|state| state == OFF);
        let mut command = redis::cmd("HSET");
        let state = if told { self.store.now_ms().to_string() } else { OFF.into() };
        command.arg(self.store.keys().quiet()).arg(queue).arg(state);
        if before == told {
            self.store.repeat(|_| Call::plain(command.clone())).await?;
        }
        self.offers.forget();
        Ok(before == told)
    }
}

impl Store {
    /// The queues that are quiet or were: those that are so no more keep the instant when that ended, because tasks of that
    /// time may be there still.
    async fn quiet_queues(&self) -> Result<HashMap<String, String>> {
        let mut command = redis::cmd("HGETALL");
        command.arg(self.keys().quiet());
        read(self.repeat(|_| Call::plain(command.clone())).await?)
    }

    /// The queues that are quiet now.
    pub(crate) async fn quiet_now(&self) -> Result<Vec<String>> {
        Ok(self.quiet_queues().await?.into_iter().filter(|(_, state)| state == OFF).map(|(queue, _)| queue).collect())
    }

    /// Whether ended tasks may be kept whose ends were not told.
    pub(crate) async fn has_untold_ends(&self) -> Result<bool> {
        let kept = self.config().dead_retention.max(self.config().retention).as_millis() as u64;
        let oldest = self.now_ms().saturating_sub(kept);
        // A task that was submitted while it was quiet may end later: as long again.
        let counts = |state: &String| state == OFF || state.parse::<u64>().is_ok_and(|ms| ms + kept > oldest);
        Ok(self.quiet_queues().await?.values().any(counts))
    }
}
