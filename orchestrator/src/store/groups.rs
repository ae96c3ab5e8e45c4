//! Consumer groups of the event stream, and channels.

use std::time::Duration;

use super::walk::{EntryId, Fields, entries, entry_id};
use super::{Call, Fault, Items, Store, field, read};
use crate::bus::EventCursor;
use crate::dead_event::GroupStatus;
use crate::window::{Mark, Notes};
use crate::{Error, Result};

/// Dead letters of one group that are kept, the newest.
const DEAD_EVENTS_MAX: usize = 10_000;

/// How long it is known what was done once for an event, in seconds.
const ONCE_KEPT_S: u64 = 7 * 24 * 3600;

/// One consumer's turn in a group.
#[derive(Clone, Debug)]
pub(crate) struct Turn {
    pub(crate) group: String,
    pub(crate) consumer: String,
    /// How long the seat is kept; nothing gives it up.
    pub(crate) lease: Duration,
    pub(crate) has_seat: bool,
    /// Most entries to read.
    pub(crate) want: usize,
    /// Pending ones from here on, instead of new ones.
    pub(crate) pending: Option<EntryId>,
    /// Where the group begins if it is new.
    pub(crate) begin: String,
}

/// What a turn brought.
#[derive(Debug)]
pub(crate) enum Turned {
    /// Entries, what was known of each that was pending, and whether another process died with them.
    Mine { pending: Option<EntryId>, entries: Vec<(EntryId, Fields)>, marks: Vec<Vec<u8>>, died: bool },
    /// Another consumer has the seat for so long.
    Taken(Duration),
    /// It was not renewed in time.
    Lost,
}

impl Store {
    /// Notes and reads what a turn says.
    pub(crate) async fn consume(&self, turn: &Turn, notes: &Notes) -> Result<Turned> {
        type Told = Vec<(String, Vec<Vec<u8>>)>;
        let text = |(ms, seq): EntryId| format!("{ms}-{seq}");
        let call = self.call(&self.scripts().consume).arg(&turn.group).arg(&turn.consumer);
        let call = call.arg(turn.lease.as_millis() as u64).arg(u8::from(turn.has_seat)).arg(turn.want);
        let call = call.arg(turn.pending.map(text).unwrap_or_default()).arg(&turn.begin).arg(DEAD_EVENTS_MAX);
        let call = call.arg(notes.acks.len()).args(notes.acks.iter().map(|id| text(*id)));
        let call = notes.marks.iter().fold(call, |call, (at, mark, _)| {
            call.arg(text(at.entry)).arg(&Mark::write(*mark, at.index)).arg("").arg("")
        });
        let call = notes.letters.iter().fold(call, |call, letter| {
            let mut item = Mark::write(None, letter.at.index);
            item[3] = letter.attempts;
            call.arg(text(letter.at.entry)).arg(&item).arg(letter.event.as_slice()).arg(&letter.error)
        });
        let mut items = Items::of(self.send(&call).await.map_err(Fault::into_error)?)?;
        Ok(match items.next::<String>()?.as_str() {
            "mine" => {
                let next: String = items.next()?;
                let told: Told = items.next()?;
                let marks: Vec<Vec<u8>> = items.next()?;
                let pending = entry_id(&next).filter(|id| *id != (0, 0));
                Turned::Mine { pending, entries: entries(told), marks, died: items.next::<u8>()? == 1 }
            }
            "taken" => Turned::Taken(Duration::from_millis(items.next::<i64>()?.max(0) as u64)),
            _ => Turned::Lost,
        })
    }

    /// Dead letters of a group before one, newest first.
    pub(crate) async fn dead_events(
        &self,
        group: &str,
        before: Option<EntryId>,
        count: usize,
    ) -> Result<Vec<(EntryId, Fields)>> {
        let mut command = redis::cmd("XREVRANGE");
        let newest = before.map_or_else(|| "+".into(), |(ms, seq)| format!("({ms}-{seq}"));
        command.arg(self.keys().dead_events(group)).arg(newest).arg("-").arg("COUNT").arg(count);
        Ok(entries(read(self.repeat(|_| Call::plain(command.clone())).await?)?))
    }

    /// Drops dead letters of a group.
    pub(crate) async fn forget_dead_events(&self, group: &str, ids: &[String]) -> Result<usize> {
        let mut command = redis::cmd("XDEL");
        command.arg(self.keys().dead_events(group)).arg(ids);
        read(self.repeat(|_| Call::plain(command.clone())).await?)
    }

    /// The consumer groups of people: those that the library makes for itself are left out.
    pub(crate) async fn groups(&self) -> Result<Vec<GroupStatus>> {
        let mut command = redis::cmd("XINFO");
        command.arg("GROUPS").arg(self.keys().events());
        let told: Vec<Vec<redis::Value>> = match self.repeat(|_| Call::plain(command.clone())).await {
            Err(Error::Corrupt { what }) if what.contains("no such key") => return Ok(Vec::new()),
            told => read(told?)?,
        };
        let Some(span) = self.events_span().await? else { return Ok(Vec::new()) };
        let mut groups = Vec::new();
        for fields in told {
            let text = |name| field(&fields, name).and_then(|value| read::<String>(value).ok());
            let number = |name| field(&fields, name).and_then(|value| read::<u64>(value).ok());
            let Some(name) = text("name").filter(|name| name != crate::relay::GROUP) else { continue };
            let (mut dead, mut seat) = (redis::cmd("XLEN"), redis::cmd("GET"));
            dead.arg(self.keys().dead_events(&name));
            seat.arg(self.keys().seat(&name));
            let entry = text("last-delivered-id").and_then(|id| entry_id(&id)).unwrap_or_default();
            // Redis 7.0 counts on from where it was when it has skipped what was dropped: its numbers count only as long as
            // the places do not say more. What was read is counted from the first entry that there ever was.
            let is_among = span.oldest.is_none_or(|oldest| entry >= oldest);
            let missed =
                if is_among { Some(0) } else { number("entries-read").map(|n| span.dropped.saturating_sub(n)) };
            let behind = if entry >= span.newest { Some(0) } else { number("lag") };
            groups.push(GroupStatus {
                behind,
                missed,
                pending: number("pending").unwrap_or(0),
                dead: read(self.repeat(|_| Call::plain(dead.clone())).await?)?,
                consumer: read(self.repeat(|_| Call::plain(seat.clone())).await?)?,
                seen: EventCursor { entry, index: u32::MAX },
                name,
            });
        }
        Ok(groups)
    }

    /// Removes a group that nobody serves; whether there was one.
    pub(crate) async fn remove_group(&self, group: &str) -> Result<bool> {
        let call = |_| self.call(&self.scripts().disband).arg(group);
        match read::<String>(self.repeat(call).await?)?.as_str() {
            "served" => Err(Error::Conflict {
                what: format!("the group `{group}` is served by a process now; stop those that serve it first"),
            }),
            outcome => Ok(outcome == "gone"),
        }
    }

    /// Notes an intent unless there is one; what was noted before.
    pub(crate) async fn intend(&self, key: &str) -> Result<Option<Vec<u8>>> {
        let mine = format!("?{:016x}", rand::random::<u64>());
        let mut command = redis::cmd("SET");
        command.arg(self.keys().once(key)).arg(&mine).arg("NX").arg("GET").arg("EX").arg(ONCE_KEPT_S);
        let noted: Option<Vec<u8>> = read(self.repeat(|_| Call::plain(command.clone())).await?)?;
        // An answer that was lost is not a second intent.
        Ok(noted.filter(|noted| *noted != mine.as_bytes()).map(|noted| match noted.strip_prefix(b"=") {
            Some(output) => output.to_vec(),
            None => Vec::new(),
        }))
    }

    /// Notes the output of what was intended.
    pub(crate) async fn intended(&self, key: &str, output: &[u8]) -> Result<()> {
        let mut command = redis::cmd("SET");
        command.arg(self.keys().once(key)).arg([b"=", output].concat()).arg("EX").arg(ONCE_KEPT_S);
        self.repeat(|_| Call::plain(command.clone())).await.map(drop)
    }

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
    pub(crate) async fn make_group(&self, group: &str, behind: Option<EntryId>) -> Result<()> {
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
                let mut items = Items::of(reply)?;
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
