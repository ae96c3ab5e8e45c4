//! Which queues are quiet.

use std::collections::HashMap;

use super::{Call, Store, read};
use crate::Result;

/// What is noted of a queue that is quiet.
const OFF: &str = "off";

impl Store {
    /// Notes that a queue is quiet from now on, or not any more. Whether that was a change.
    pub(crate) async fn set_quiet(&self, queue: &str, quiet: bool) -> Result<bool> {
        let was_quiet = self.quiet_queues().await?.get(queue).is_some_and(|state| state == OFF);
        if was_quiet != quiet {
            let mut command = redis::cmd("HSET");
            let state = if quiet { OFF.into() } else { self.now_ms().to_string() };
            command.arg(self.keys().quiet()).arg(queue).arg(state);
            self.repeat(|_| Call::plain(command.clone())).await?;
        }
        Ok(was_quiet != quiet)
    }

    /// The queues that are quiet or were: those that are so no more keep the instant when that ended, because tasks of that
    /// time may be there still.
    async fn quiet_queues(&self) -> Result<HashMap<String, String>> {
        let mut command = redis::cmd("HGETALL");
        command.arg(self.keys().quiet());
        let call = |_| Call::plain(command.clone()).mended_by(self.mend("", &[], &[]));
        let stored: HashMap<Vec<u8>, Vec<u8>> = read(self.repeat(call).await?)?;
        // What is no text was not written by us.
        let text = |(queue, state)| Some((String::from_utf8(queue).ok()?, String::from_utf8(state).ok()?));
        Ok(stored.into_iter().filter_map(text).collect())
    }

    /// The queues that are quiet now.
    pub(crate) async fn quiet_now(&self) -> Result<Vec<String>> {
        Ok(self.quiet_queues().await?.into_iter().filter(|(_, state)| state == OFF).map(|(queue, _)| queue).collect())
    }

    /// Whether ended tasks may be kept whose ends were not told.
    pub(crate) async fn has_untold_ends(&self) -> Result<bool> {
        let kept = self.config().dead_retention.max(self.config().retention).as_millis() as u64;
        // A task that was submitted while its queue was quiet may end later: as long again.
        let oldest = self.now_ms().saturating_sub(2 * kept);
        let counts = |state: &String| state == OFF || state.parse::<u64>().is_ok_and(|ms| ms > oldest);
        Ok(self.quiet_queues().await?.values().any(counts))
    }
}
