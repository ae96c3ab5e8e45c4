//! What a listing reads: ids in some order from the keys that hold them, and tasks by id. A key of the wrong type reads
//! as empty here; the next script that meets it sets it aside.

use redis::Cmd;

use super::{Call, Store, field, read};
use crate::{Error, Result, TaskId};

/// Fields that one step through a hash asks for. Small, because a value may have two megabytes.
const SCAN_COUNT: usize = 20;
/// Workers whose tasks are looked at; as many as the counts look at.
const WORKERS_MAX: usize = 10_000;
/// Bytes of records after which one look-up takes no further ids.
const LOOKUP_BYTES: usize = 4 << 20;
/// Width of a bucket of finished tasks in milliseconds, as in `head.lua`.
pub(crate) const BUCKET_MS: u64 = 14_400_000;

/// First four bytes of the ids in one slice.
pub(crate) type Slice = [u8; 4];
/// Milliseconds and sequence number of an entry of the event stream.
pub(crate) type EntryId = (u64, u64);

/// Where tasks are looked up.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Place {
    /// Among the live ones.
    Live,
    /// Among the ended ones, first in this bucket.
    Ended(u64),
}

/// What a look-up found for one id, as the script tells it.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) id: TaskId,
    /// Where, record or value, children, number.
    pub(crate) parts: [Vec<u8>; 4],
}

/// A hash to be stepped through.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Hash {
    /// Live tasks of a slice.
    Slice(Slice),
    /// Finished tasks of a bucket.
    Bucket(u64),
}

impl Store {
    pub(super) async fn glance<T: redis::FromRedisValue + Default>(&self, command: &Cmd) -> Result<T> {
        match self.repeat(|_| Call { command: command.clone(), mend: None }).await {
            Ok(reply) => read(reply),
            Err(Error::Corrupt { what }) => {
                tracing::warn!(what, "a key cannot be read; a listing goes on without it");
                Ok(T::default())
            }
            Err(error) => Err(error),
        }
    }

    fn hash_key(&self, hash: Hash) -> Vec<u8> {
        match hash {
            Hash::Slice(slice) => self.keys().slice(slice),
            Hash::Bucket(n) => self.keys().bucket(n).into_bytes(),
        }
    }

    /// Up to `count` slices from `newest` down to `oldest`, newest first.
    pub(crate) async fn slices(&self, newest: Slice, oldest: Slice, count: usize) -> Result<Vec<Slice>> {
        let bound = |slice: Slice| [b"[".as_slice(), &slice].concat();
        let mut command = redis::cmd("ZRANGE");
        command.arg(self.keys().slices()).arg(bound(newest)).arg(bound(oldest)).arg("BYLEX").arg("REV");
        command.arg("LIMIT").arg(0).arg(count);
        let members: Vec<Vec<u8>> = self.glance(&command).await?;
        Ok(members.iter().filter_map(|member| member.as_slice().try_into().ok()).collect())
    }

    /// Number of tasks in a slice.
    pub(crate) async fn slice_length(&self, slice: Slice) -> Result<usize> {
        self.glance(redis::cmd("HLEN").arg(self.keys().slice(slice))).await
    }

    /// All ids in a slice, in no order.
    pub(crate) async fn slice_ids(&self, slice: Slice) -> Result<Vec<TaskId>> {
        let fields: Vec<Vec<u8>> = self.glance(redis::cmd("HKEYS").arg(self.keys().slice(slice))).await?;
        Ok(fields.iter().filter_map(|field| TaskId::from_slice(field)).collect())
    }

    /// The ids at one place of a hash, in no order, and the next place; 0 is the first place, and next after the last.
    pub(crate) async fn hash_step(&self, hash: Hash, place: u64) -> Result<(u64, Vec<TaskId>)> {
        let mut command = redis::cmd("HSCAN");
        command.arg(self.hash_key(hash)).arg(place).arg("COUNT").arg(SCAN_COUNT);
        let (next, fields): (u64, Vec<Vec<u8>>) = self.glance(&command).await?;
        // Names and values alternate; the sentinel of a bucket is no id.
        Ok((next, fields.chunks(2).filter_map(|pair| TaskId::from_slice(&pair[0])).collect()))
    }

    /// The ids of all tasks that workers hold, in no order.
    pub(crate) async fn held_ids(&self) -> Result<Vec<TaskId>> {
        // Names that somebody else wrote need not be text.
        let workers: Vec<Vec<u8>> =
            self.glance(redis::cmd("ZRANGE").arg(self.keys().workers()).arg(0).arg(WORKERS_MAX - 1)).await?;
        let mut ids = Vec::new();
        for worker in workers {
            let members: Vec<Vec<u8>> = self.glance(redis::cmd("SMEMBERS").arg(self.keys().held(&worker))).await?;
            ids.extend(members.iter().filter_map(|member| TaskId::from_slice(member.get(..14)?)));
        }
        Ok(ids)
    }

    /// The numbers of the buckets of finished tasks, newest first.
    pub(crate) async fn buckets(&self) -> Result<Vec<u64>> {
        let members: Vec<Vec<u8>> = self.glance(redis::cmd("ZRANGE").arg(self.keys().buckets()).arg(0).arg(-1)).await?;
        let number = |member: &Vec<u8>| std::str::from_utf8(member).ok()?.parse().ok();
        let mut numbers: Vec<u64> = members.iter().filter_map(number).collect();
        numbers.sort_unstable_by(|a, b| b.cmp(a));
        Ok(numbers)
    }

    /// Dead letters that failed between the milliseconds `newest` and `oldest`, newest first, then by id downwards:
    /// `count` of them from the `skip`-th on. Returns how many were read beside those that are ids.
    pub(crate) async fn dead(
        &self,
        newest: u64,
        oldest: u64,
        skip: usize,
        count: usize,
    ) -> Result<(usize, Vec<(u64, TaskId)>)> {
        let mut command = redis::cmd("ZRANGE");
        command.arg(self.keys().dead()).arg(newest).arg(oldest).arg("BYSCORE").arg("REV");
        command.arg("LIMIT").arg(skip).arg(count).arg("WITHSCORES");
        let members: Vec<(Vec<u8>, f64)> = self.glance(&command).await?;
        let ids = members.iter().filter_map(|(id, ms)| Some((*ms as u64, TaskId::from_slice(id)?)));
        Ok((members.len(), ids.collect()))
    }

    /// How many dead letters there are.
    pub(crate) async fn dead_count(&self) -> Result<u64> {
        self.glance(redis::cmd("ZCARD").arg(self.keys().dead())).await
    }

    /// Whether a task is a dead letter.
    pub(crate) async fn is_dead(&self, id: TaskId) -> Result<bool> {
        let at: Option<f64> = self.glance(redis::cmd("ZSCORE").arg(self.keys().dead()).arg(id.as_bytes())).await?;
        Ok(at.is_some())
    }

    /// Up to `count` entries of the event stream from `newest` (included) backwards.
    pub(crate) async fn events_back(&self, newest: EntryId, count: usize) -> Result<Vec<(EntryId, Fields)>> {
        let mut command = redis::cmd("XREVRANGE");
        command.arg(self.keys().events()).arg(format!("{}-{}", newest.0, newest.1)).arg("-").arg("COUNT").arg(count);
        Ok(entries(self.glance(&command).await?))
    }

    /// Up to `count` entries of the event stream from `oldest` (included) on.
    pub(crate) async fn events_from(&self, oldest: EntryId, count: usize) -> Result<Vec<(EntryId, Fields)>> {
        let mut command = redis::cmd("XRANGE");
        command.arg(self.keys().events()).arg(format!("{}-{}", oldest.0, oldest.1)).arg("+").arg("COUNT").arg(count);
        Ok(entries(self.glance(&command).await?))
    }

    /// What the event stream holds and has held; `None` when there is none.
    pub(crate) async fn events_span(&self) -> Result<Option<EventSpan>> {
        let mut command = redis::cmd("XINFO");
        command.arg("STREAM").arg(self.keys().events());
        let told: Vec<redis::Value> = match self.glance(&command).await {
            Err(Error::Corrupt { what }) if what.contains("no such key") => return Ok(None),
            told => told?,
        };
        let find = |name: &str| field(&told, name);
        let number = |name: &str| find(name).and_then(|value| read::<u64>(value).ok()).unwrap_or(0);
        let newest = find("last-generated-id").and_then(|id| entry_id(&read::<String>(id).ok()?));
        let oldest = match find("first-entry") {
            Some(redis::Value::Array(entry)) => {
                entry.first().cloned().and_then(|id| entry_id(&read::<String>(id).ok()?))
            }
            _ => None,
        };
        let dropped = number("entries-added").saturating_sub(number("length"));
        Ok(Some(EventSpan { oldest, newest: newest.unwrap_or((0, 0)), dropped }))
    }

    /// The oldest entry of the event stream.
    pub(crate) async fn events_begin(&self) -> Result<Option<EntryId>> {
        let mut command = redis::cmd("XRANGE");
        command.arg(self.keys().events()).arg("-").arg("+").arg("COUNT").arg(1);
        Ok(entries(self.glance(&command).await?).first().map(|(id, _)| *id))
    }

    /// The newest entry of the event stream; (0, 0) when there is none.
    pub(crate) async fn events_end(&self) -> Result<EntryId> {
        Ok(self.events_back((u64::MAX, u64::MAX), 1).await?.first().map_or((0, 0), |(id, _)| *id))
    }

    /// Up to `count` entries of the audit behind `seen`, oldest first, and the id of the last; `None` when there is none.
    pub(crate) async fn audit(&self, seen: EntryId, count: usize) -> Result<(Vec<(EntryId, Fields)>, Option<EntryId>)> {
        let mut command = redis::cmd("XRANGE");
        command.arg(self.keys().audit()).arg(format!("({}-{}", seen.0, seen.1)).arg("+").arg("COUNT").arg(count);
        let found = entries(self.glance(&command).await?);
        let last = found.last().map(|(id, _)| *id);
        Ok((found, last))
    }

    /// Whether a task has passed the gate with this digest. There are as many gates as questions at most, and few.
    pub(crate) async fn has_passed(&self, id: TaskId, gate: &str) -> Result<bool> {
        let mut asked = redis::cmd("HGET");
        asked.arg(self.keys().journal(id.as_bytes())).arg(b"\0n");
        let asked: Option<u16> = self.glance(&asked).await?;
        for number in 0..=asked.unwrap_or(0) {
            let key = self.keys().approval(&crate::ApprovalId { task: id, number }.to_bytes());
            let told: Vec<Option<String>> = self.glance(redis::cmd("HMGET").arg(key).arg("gd").arg("st")).await?;
            if told == [Some(gate.to_owned()), Some("approved".into())] {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// A task's journal as it is stored.
    pub(crate) async fn journal(&self, id: TaskId) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        self.glance(redis::cmd("HGETALL").arg(self.keys().journal(id.as_bytes()))).await
    }

    /// Promises that break between two instants, with the instants, those due first.
    pub(crate) async fn promises(&self, from: u64, to: u64, count: usize) -> Result<Vec<(TaskId, u64)>> {
        let mut command = redis::cmd("ZRANGE");
        // Warnings lie among them, and reminders.
        command.arg(self.keys().watches()).arg(from).arg(to).arg("BYSCORE").arg("LIMIT").arg(0).arg(3 * count);
        let timers: Vec<(Vec<u8>, f64)> = self.glance(command.arg("WITHSCORES")).await?;
        let promise = |(timer, at): &(Vec<u8>, f64)| Some((TaskId::from_slice(timer.strip_prefix(b"v")?)?, *at as u64));
        Ok(timers.iter().filter_map(promise).take(count).collect())
    }

    /// Whether it is this process's turn to look ahead: one of the namespace's in 15 seconds.
    pub(crate) async fn turn_to_forecast(&self) -> Result<bool> {
        let mut command = redis::cmd("SET");
        command.arg(self.keys().forecast()).arg(1).arg("NX").arg("PX").arg(15_000);
        Ok(self.glance::<Option<String>>(&command).await?.is_some())
    }

    /// How many runnable tasks of a queue come before this one.
    pub(crate) async fn rank(&self, queue: &str, id: TaskId) -> Result<Option<u64>> {
        self.glance(redis::cmd("ZRANK").arg(self.keys().ready(queue)).arg(id.as_bytes())).await
    }

    /// Runnable tasks of a queue, in its order, behind the first `skip`.
    pub(crate) async fn ready(&self, queue: &str, skip: usize, count: usize) -> Result<Vec<TaskId>> {
        self.some_of(self.keys().ready(queue), skip, count).await
    }

    /// How many tasks of a queue are runnable.
    pub(crate) async fn ready_count(&self, queue: &str) -> Result<usize> {
        self.glance(redis::cmd("ZCARD").arg(self.keys().ready(queue))).await
    }

    /// The first tasks of a type that no worker handles, in their order.
    pub(crate) async fn shelf(&self, task_type: &str, count: usize) -> Result<Vec<TaskId>> {
        self.some_of(self.keys().shelf(task_type), 0, count).await
    }

    async fn some_of(&self, key: String, skip: usize, count: usize) -> Result<Vec<TaskId>> {
        let mut command = redis::cmd("ZRANGE");
        command.arg(key).arg(skip).arg((skip + count).saturating_sub(1));
        let ids: Vec<Vec<u8>> = self.glance(&command).await?;
        Ok(ids.iter().filter_map(|id| TaskId::from_slice(id)).collect())
    }

    /// Makes a type known that nobody has published, unless the table has `most` already.
    pub(crate) async fn offer(&self, task_type: &str, offer: &[u8], most: usize) -> Result<()> {
        let known: usize = self.glance(redis::cmd("HLEN").arg(self.keys().handlers())).await?;
        if known >= most {
            return Err(Error::Conflict {
                what: format!("{known} task types are known already; `{task_type}` is not added"),
            });
        }
        self.glance(redis::cmd("HSETNX").arg(self.keys().handlers()).arg(task_type).arg(offer)).await
    }

    /// The generation of a worker that has a lease.
    pub(crate) async fn generation(&self, worker: &str) -> Result<Option<u64>> {
        let generation: Option<String> =
            self.glance(redis::cmd("HGET").arg(self.keys().generations()).arg(format!("w{worker}"))).await?;
        Ok(generation.and_then(|generation| generation.parse().ok()))
    }

    /// The server's time, and the leases that end first.
    pub(crate) async fn leases(&self, count: usize) -> Result<(u64, Vec<(Vec<u8>, String)>)> {
        let mut command = redis::cmd("ZRANGE");
        command.arg(self.keys().workers()).arg(0).arg(count.saturating_sub(1)).arg("WITHSCORES");
        let leases = self.glance(&command).await?;
        self.freshen_time().await?;
        Ok((self.now_ms(), leases))
    }

    /// The counts of one hour for the reports: row and what it counts → count.
    pub(crate) async fn hour(&self, hour: u64) -> Result<Vec<(Vec<u8>, u64)>> {
        self.glance(redis::cmd("HGETALL").arg(self.keys().hour(hour))).await
    }

    /// Looks tasks up, for a listing: returns how many of `ids` were looked at, from the first on, and what was found.
    pub(crate) async fn look_up(&self, ids: &[TaskId], place: Place) -> Result<(usize, Vec<Found>)> {
        let place = match place {
            Place::Live => "live".to_owned(),
            Place::Ended(bucket) => bucket.to_string(),
        };
        let script = &self.scripts().list;
        let call = |_| self.call(script).arg(LOOKUP_BYTES).arg(&place).args(ids.iter().map(TaskId::as_bytes));
        let mut items = read::<Vec<redis::Value>>(self.repeat(call).await?)?.into_iter();
        let looked = read(items.next().unwrap_or_default())?;
        let parts: Vec<Vec<u8>> = items.map(read).collect::<Result<_>>()?;
        let found = parts.chunks_exact(5).filter_map(|told| {
            let [id, rest @ ..] = told else { return None };
            Some(Found { id: TaskId::from_slice(id)?, parts: rest.to_vec().try_into().ok()? })
        });
        Ok((looked, found.collect()))
    }
}

/// Name and value of an entry's fields.
pub(crate) type Fields = Vec<(Vec<u8>, Vec<u8>)>;

/// Entries of a stream as Redis tells them. One whose id cannot be read is left out.
pub(super) fn entries(told: Vec<(String, Vec<Vec<u8>>)>) -> Vec<(EntryId, Fields)> {
    let entry = |(id, fields): (String, Vec<Vec<u8>>)| {
        let mut fields = fields.into_iter();
        let pairs = std::iter::from_fn(|| Some((fields.next()?, fields.next()?))).collect();
        Some((entry_id(&id)?, pairs))
    };
    told.into_iter().filter_map(entry).collect()
}

/// The id of an entry as Redis writes it: digits, a dash, digits.
pub(crate) fn entry_id(text: &str) -> Option<EntryId> {
    let number = |part: &str| part.bytes().all(|b| b.is_ascii_digit()).then(|| part.parse().ok()).flatten();
    let (ms, seq) = text.split_once('-')?;
    Some((number(ms)?, number(seq)?))
}

/// What a stream holds and has held.
pub(crate) struct EventSpan {
    pub(crate) oldest: Option<EntryId>,
    /// The newest id that it has given, also of an entry that is gone.
    pub(crate) newest: EntryId,
    /// How many entries are gone.
    pub(crate) dropped: u64,
}
