//! Events that people and handlers tell, and where they stand.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use orchestrator::{Entry, NewEvent, Noted, TaskId, Telling, digest};
use rand::Rng;
use rand::seq::IndexedRandom;
use redis::Value;

use super::awaited::{At, Tell};
use super::bytes::{id_bytes, make_id, read_id};
use super::hands::Holding;
use super::state::Fields;
use super::world::{QUEUES, World, kind};

const TYPES: [&str; 2] = ["smoke.done", "deploy.done"];
const KEYS: [&str; 2] = ["k1", "k2"];
/// Longer than a walk lasts, in milliseconds.
const LONG_AGO: u64 = 600_000;

/// What the model knows of an event's bytes.
#[derive(serde::Deserialize)]
struct Stored {
    t: String,
    #[serde(default)]
    k: Option<String>,
    v: u64,
}

/// Milliseconds of the server's own clock: it is this machine's.
pub(crate) fn real_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("an instant after 1970").as_millis() as u64
}

fn place(text: &str) -> At {
    let (ms, seq) = text.split_once('-').expect("a place");
    (ms.parse().expect("milliseconds"), seq.parse().expect("a number"))
}

impl World {
    /// An event, and how the library tells it.
    fn event(&mut self) -> (NewEvent, Tell) {
        let mut event_type = TYPES[self.rng.random_range(0..2)];
        let waiting: Vec<(&String, TaskId)> =
            self.model.voices.waiting.iter().map(|(name, waiting)| (name, waiting[0])).collect();
        let awaited = waiting.choose(&mut self.rng).copied();
        let (key, task) = match (self.rng.random_range(0..8), awaited) {
            // What somebody waits for.
            (6.., Some((name, id))) => {
                event_type = TYPES[usize::from(!name.starts_with(TYPES[0]))];
                match KEYS.iter().find(|key| name.ends_with(*key)) {
                    Some(key) => (Some(*key), None),
                    None => (None, Some(id)),
                }
            }
            (0, _) => (None, None),
            (1, _) => (None, Some(self.any_task())),
            (2, _) => (Some(KEYS[0]), Some(self.any_task())),
            _ => (Some(KEYS[self.rng.random_range(0..2)]), None),
        };
        let payload = self.rng.random_range(0..1 << 40);
        let late = if self.rng.random_bool(0.05) { 65_000 } else { 0 };
        let id = make_id(self.model.now - self.rng.random_range(0..2_000) - late, self.rng.random());
        let mut event = NewEvent::new(event_type, &payload);
        event = key.into_iter().fold(event, NewEvent::key);
        event = task.into_iter().fold(event, NewEvent::task);
        (event.id(id), Tell { id, event_type, key: key.map(Into::into), task, payload, by: None })
    }

    /// Somebody tells something, or something once more.
    pub(crate) async fn publish(&mut self) {
        let n = self.rng.random_range(1..4);
        let (mut events, mut tells): (Vec<NewEvent>, Vec<Tell>) = (0..n).map(|_| self.event()).unzip();
        let seen: Vec<TaskId> = self.model.voices.seen.keys().copied().collect();
        if let Some(id) = seen.choose(&mut self.rng).copied().filter(|_| self.rng.random_bool(0.2)) {
            events[0] = events[0].clone().id(id);
            tells[0].id = id;
        }
        let expected = self.model.publish(&tells);
        let names: Vec<String> = tells.iter().map(|tell| format!("{}: {:?}", tell.id, tell.names())).collect();
        self.log.say(format!("somebody tells {names:?}: {expected:?}"));
        let reply = self.orch.publish_all(&events).await;
        assert_eq!(kind(&reply), expected, "reply to what was told: {reply:?}");
        self.hear().await;
    }

    /// Learns where that stands which was told just now: all of it, in its order, as it was told.
    pub(crate) async fn hear(&mut self) {
        let fresh = std::mem::take(&mut self.model.voices.fresh);
        if fresh.is_empty() {
            return;
        }
        let mut read = redis::cmd("XREVRANGE");
        // What the same call did to tasks stands behind it.
        read.arg(format!("{}e", self.base)).arg("+").arg("-").arg("COUNT").arg(fresh.len() + 3);
        let entries: Vec<Value> = read.query_async(&mut self.raw).await.expect("the stream");
        let entries =
            entries.into_iter().map(|entry| redis::from_redis_value::<(String, Fields)>(entry).expect("an entry"));
        let told: Vec<(At, Vec<u8>)> = entries
            .filter_map(|(at, mut fields)| Some((place(&at), fields.pop().filter(|(name, _)| name == b"P")?.1)))
            .take(fresh.len())
            .collect();
        assert_eq!(told.len(), fresh.len(), "not everything that was told is in the stream");
        for (tell, (at, bytes)) in fresh.iter().zip(told.into_iter().rev()) {
            assert_eq!(read_id(&bytes[..14]), Some(tell.id), "the id of an event");
            let stored: Stored = rmp_serde::from_slice(&bytes[14..]).expect("an event");
            assert_eq!((stored.t.as_str(), stored.k, stored.v), (tell.event_type, tell.key.clone(), tell.payload));
            self.model.voices.stands(tell, at, bytes);
        }
    }

    /// The library has told of these tasks, one by one. It names the events: those names are learnt.
    pub(crate) async fn hear_of(&mut self, tasks: &[TaskId], event_type: &'static str, source: &str) {
        #[derive(serde::Deserialize)]
        struct Of {
            t: String,
            s: String,
        }
        let mut read = redis::cmd("XREVRANGE");
        read.arg(format!("{}e", self.base)).arg("+").arg("-").arg("COUNT").arg(tasks.len());
        let entries: Vec<Value> = read.query_async(&mut self.raw).await.expect("the stream");
        assert_eq!(entries.len(), tasks.len(), "not all was told");
        for (task, entry) in tasks.iter().zip(entries.into_iter().rev()) {
            let (at, mut fields): (String, Fields) = redis::from_redis_value(entry).expect("an entry");
            let (_, bytes) = fields.pop().filter(|(name, _)| name == b"P").expect("an event");
            let stored: Of = rmp_serde::from_slice(&bytes[14..]).expect("an event");
            assert_eq!((stored.t.as_str(), stored.s.as_str()), (event_type, source));
            let id = read_id(&bytes[..14]).expect("an id");
            let tell = Tell { id, event_type, key: None, task: Some(*task), payload: 0, by: None };
            self.model.tell_event(&tell);
            self.model.voices.fresh.clear();
            self.model.voices.stands(&tell, place(&at), bytes);
        }
    }

    /// By the server's own clock: names of the hours before the first event that the stream holds are dropped.
    pub(crate) async fn names_go_with_their_events(&mut self) {
        let mut read = redis::cmd("XRANGE");
        read.arg(format!("{}e", self.base)).arg("-").arg("+").arg("COUNT").arg(1);
        let entries: Vec<Value> = read.query_async(&mut self.raw).await.expect("the stream");
        let Some(first) = entries.into_iter().next() else { return };
        let (at, _): (String, Fields) = redis::from_redis_value(first).expect("an entry");
        let hour = place(&at).0 / 3_600_000;
        self.model.voices.named.retain(|named, _| ![hour - 1, hour - 2].contains(named));
    }

    /// What a handler has told since its last note.
    pub(crate) fn tells(&mut self, holding: &Holding) -> (Vec<Telling>, Vec<Tell>) {
        let n = if self.rng.random_bool(0.2) { self.rng.random_range(1..3) } else { 0 };
        (0..n).map(|_| self.telling(holding.ticket().id)).unzip()
    }

    fn telling(&mut self, task: TaskId) -> (Telling, Tell) {
        let (event, tell) = self.event();
        let name = format!("p{}", self.rng.random_range(0..9));
        let noted = Noted::Told(tell.id);
        let entry = Entry { order: 1, side_by_side: false, code: 7, digest: digest(b"event"), noted };
        let telling = Telling::new(&event, &name, entry.clone(), tell.id).expect("a fair event");
        (telling, Tell { by: Some((name, entry, task)), ..tell })
    }

    /// The name of an event that a task may wait for.
    pub(crate) fn awaited(&mut self, id: TaskId) -> String {
        let event_type = TYPES[self.rng.random_range(0..2)];
        match self.rng.random_bool(0.2) {
            true => format!("{event_type} {id}"),
            false => format!("{event_type} {}", KEYS[self.rng.random_range(0..2)]),
        }
    }

    /// Behind which place a task looks on: where it found the last of that name, anywhere, or since it was created. The
    /// last is told by a real clock, and a seed must do the same again: not where that could go either way.
    pub(crate) fn behind(&mut self, id: TaskId, awaited: &str) -> Option<At> {
        let last = self.model.voices.last(awaited);
        let found = self.model.journals.get(&id).and_then(|journal| {
            let waits = journal.waits.values().filter(|wait| wait.awaited == awaited);
            waits.filter_map(|wait| Some(wait.found.as_ref()?.0)).max()
        });
        let clear = last.is_none() || self.model.now > id.created_at_ms() + LONG_AGO;
        match self.rng.random_range(0..4) {
            0 | 1 if clear => None,
            0 => found.or(last),
            1 | 2 => Some(found.unwrap_or((0, 0))),
            _ => found.or(last),
        }
    }

    /// Learns behind which place a wait looks that began between two instants of the server's clock: what was told since
    /// the task's creation counts, as far as its maker knew the time.
    pub(crate) async fn begin_wait(&mut self, id: TaskId, behind: Option<At>, (from, to): (u64, u64)) {
        let call = self.model.journals[&id].awaiting.clone().expect("a wait");
        let key = [self.base.as_bytes(), b"j:", &id_bytes(id)].concat();
        let entry: Vec<u8> = redis::cmd("HGET").arg(key).arg(call).query_async(&mut self.raw).await.expect("an entry");
        let number = |bytes: &[u8]| bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte));
        let (ms, seq) = (number(&entry[22..28]), number(&entry[28..34]));
        match behind {
            Some(behind) => assert_eq!((ms, seq), behind, "the place behind which an event counts"),
            None => {
                // An id may lie ahead of the clock; what is told from now on counts all the same.
                let age = self.model.now.saturating_sub(id.created_at_ms()) as i64;
                let began = |real: u64| real as i64 - age - 50;
                let bounds = began(from - 10).max(0)..=began(to + 10).max(0);
                assert!(bounds.contains(&(ms as i64)) && seq == 0, "events count from {ms}, not within {bounds:?}");
            }
        }
        self.model.await_event(id, (ms, seq));
    }

    /// Has it look as if as many waited for an event as may; returns what stood there.
    pub(crate) async fn crowd(&mut self, name: &str) -> Option<Vec<u8>> {
        let key = format!("{}O", self.base);
        let before = redis::cmd("HGET").arg(&key).arg(name).query_async(&mut self.raw).await.expect("a reply");
        self.model.voices.crowded = Some(name.to_owned());
        let mut set = redis::cmd("HSET");
        set.arg(key).arg(name).arg(vec![7u8; 14_000]).query_async::<()>(&mut self.raw).await.expect("a reply");
        before
    }

    pub(crate) async fn uncrowd(&mut self, name: &str, before: Option<Vec<u8>>) {
        let key = format!("{}O", self.base);
        self.model.voices.crowded = None;
        let mut set = redis::cmd(if before.is_some() { "HSET" } else { "HDEL" });
        set.arg(key).arg(name);
        if let Some(before) = before {
            set.arg(before);
        }
        set.query_async::<()>(&mut self.raw).await.expect("a reply");
    }

    /// The stream is cut, as it is when it holds too much: what was told just now has left it before anybody looks.
    pub(crate) async fn cut_stream(&mut self) {
        self.publish().await;
        self.check().await;
        self.log.say("the stream is cut".into());
        let mut cut = redis::cmd("XTRIM");
        cut.arg(format!("{}e", self.base))
            .arg("MAXLEN")
            .arg(0)
            .query_async::<()>(&mut self.raw)
            .await
            .expect("a reply");
        self.model.voices.stream.clear();
    }

    /// The tasks of a queue tell of themselves, or do not.
    pub(crate) async fn hush(&mut self) {
        let (queue, quiet) = (QUEUES[self.rng.random_range(0..3)], self.rng.random_bool(0.4));
        let expected = self.model.hush(queue, quiet);
        self.log.say(format!("{queue} is quiet: {quiet}, a change: {expected}"));
        assert_eq!(
            self.orch.set_queue_events(queue, !quiet).await.expect("a reply"),
            expected,
            "whether {queue} changed"
        );
    }
}

/// How long a wait for an event lasts.
pub(crate) fn patience(rng: &mut impl Rng) -> Duration {
    Duration::from_millis([0, 1, 2_000, 40_000, 4_000_000][rng.random_range(0..5)])
}
