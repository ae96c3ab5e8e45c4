//! Consumer groups of the event stream, and channels.

use std::time::Duration;

use super::walk::{EntryId, Fields, entries};
use super::{Call, Fault, Store, read};
use crate::{Error, Result};

impl Store {
    /// Whether somebody is subscribed to a channel that begins so, or to any pattern.
    pub(crate) async fn anybody_listens(&self, prefix: &str) -> Result<bool> {
        let mut channels = redis::cmd("PUBSUB");
        channels.arg("CHANNELS").arg(format!("{prefix}*"));
        let channels: Vec<String> = read(self.repeat(|_| Call::plain(channels.clone())).await?)?;
        let mut patterns = redis::cmd("PUBSUB");
        patterns.arg("NUMPAT");
        Ok(!channels.is_empty() || read::<u64>(self.repeat(|_| Call::plain(patterns.clone())).await?)? > 0)
    }

    /// Publishes on a channel.
    pub(crate) async fn tell_channel(&self, channel: &str, text: &str) -> Result<()> {
        let mut command = redis::cmd("PUBLISH");
        command.arg(channel).arg(text);
        self.plain(&command).await.map(drop).map_err(Fault::into_error)
    }

    /// Makes a group that begins behind an entry, or at the end of the stream, unless there is one.
    async fn make_group(&self, group: &str, behind: Option<EntryId>) -> Result<()> {
        let behind = behind.map_or_else(|| "$".into(), |(ms, seq)| format!("{ms}-{seq}"));
        let mut make = redis::cmd("XGROUP");
        make.arg("CREATE").arg(self.keys().events()).arg(group).arg(behind).arg("MKSTREAM");
        match self.repeat(|_| Call::plain(make.clone())).await {
            Err(Error::Corrupt { what }) if what.contains("BUSYGROUP") => Ok(()),
            outcome => outcome.map(drop),
        }
    }

    /// Takes over up to `count` entries that other consumers have held for longer than `stale`. A group that is not there is
    /// made, and begins behind `last`, or at the end of the stream.
    pub(crate) async fn claim_events(
        &self,
        group: &str,
        consumer: &str,
        stale: Duration,
        count: usize,
        last: Option<EntryId>,
    ) -> Result<Vec<(EntryId, Fields)>> {
        type Claimed = (String, Vec<(String, Vec<Vec<u8>>)>);
        let mut command = redis::cmd("XAUTOCLAIM");
        command.arg(self.keys().events()).arg(group).arg(consumer).arg(stale.as_millis() as u64);
        command.arg("0-0").arg("COUNT").arg(count);
        match self.repeat(|_| Call::plain(command.clone())).await {
            Ok(reply) => {
                let mut items = super::Items::of(reply)?;
                let (_, told): Claimed = (items.next()?, items.next()?);
                Ok(entries(told))
            }
            Err(Error::Corrupt { what }) if what.contains("NOGROUP") => {
                self.make_group(group, last).await?;
                Ok(Vec::new())
            }
            Err(error) => Err(error),
        }
    }

    /// Says that these entries are done with.
    pub(crate) async fn ack_events(&self, group: &str, ids: &[EntryId]) -> Result<()> {
        if ids.is_empty() {
            return Ok(());
        }
        let mut command = redis::cmd("XACK");
        command.arg(self.keys().events()).arg(group);
        for (ms, seq) in ids {
            command.arg(format!("{ms}-{seq}"));
        }
        self.repeat(|_| Call::plain(command.clone())).await.map(drop)
    }
}
