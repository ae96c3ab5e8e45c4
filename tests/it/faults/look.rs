//! Looking behind the curtain: keys, dumps and events as they lie in Redis.

use std::collections::{BTreeMap, BTreeSet};

use orchestrator::event::{TaskEvent, unpack};
use orchestrator::{Orchestrator, TaskId};
use redis::AsyncCommands;
use redis::aio::MultiplexedConnection;
use redis::streams::StreamRangeReply;
use uuid::Uuid;

/// The keys of one namespace, seen from outside.
pub(crate) struct Look {
    base: String,
    pub(crate) raw: MultiplexedConnection,
}

impl Look {
    /// At the namespace of `orch`, on a connection to its server.
    pub(crate) fn at(orch: &Orchestrator, raw: MultiplexedConnection) -> Self {
        Self { base: format!("{{{}.0}}:", orch.config().namespace), raw }
    }

    /// A key's whole name.
    pub(crate) fn key(&self, name: impl AsRef<[u8]>) -> Vec<u8> {
        [self.base.as_bytes(), name.as_ref()].concat()
    }

    /// The short names of all keys of this namespace.
    pub(crate) async fn names(&mut self) -> Vec<Vec<u8>> {
        let keys: Vec<Vec<u8>> = self.raw.keys(format!("{}*", self.base)).await.unwrap();
        keys.into_iter().map(|key| key[self.base.len()..].to_vec()).collect()
    }

    /// Every key that tells of tasks, byte for byte: records, buckets, sets, queues, timers, stream. What tells of
    /// workers alone (leases, generations, tokens, offers) is left out.
    pub(crate) async fn dump(&mut self) -> BTreeMap<String, Vec<u8>> {
        let mut dump = BTreeMap::new();
        for name in self.names().await {
            if !matches!(name[0], b'W' | b'g' | b's' | b'i' | b'k' | b'h') {
                let key = self.key(&name);
                // A set has no order; its dump has one.
                if name == b"q" {
                    let members: BTreeSet<Vec<u8>> = self.raw.smembers(key).await.unwrap();
                    dump.insert("q".into(), members.into_iter().collect::<Vec<_>>().join(&b' '));
                    continue;
                }
                let bytes: Option<Vec<u8>> = redis::cmd("DUMP").arg(key).query_async(&mut self.raw).await.unwrap();
                dump.insert(name.escape_ascii().to_string(), bytes.unwrap_or_default());
            }
        }
        dump
    }

    /// The events of one task, in order.
    pub(crate) async fn events(&mut self, id: TaskId) -> Vec<(&'static str, u32)> {
        let mut events = self.all_events().await;
        events.retain(|event| event.task_id == id);
        events.into_iter().map(|event| (event.event_type, event.number)).collect()
    }

    /// The events of all tasks, in order.
    pub(crate) async fn all_events(&mut self) -> Vec<TaskEvent> {
        let entries: StreamRangeReply = self.raw.xrange_all(self.key("e")).await.unwrap();
        let mut events = Vec::new();
        for entry in entries.ids {
            let fields =
                entry.map.into_iter().map(|(name, value)| (name.into_bytes(), redis::from_redis_value(value).unwrap()));
            let mut fields: Vec<(Vec<u8>, Vec<u8>)> = fields.collect();
            fields.sort();
            events.extend(unpack(&fields));
        }
        events
    }

    /// The names of the workers that have a lease.
    pub(crate) async fn workers(&mut self) -> Vec<String> {
        self.raw.zrange(self.key("W"), 0, -1).await.unwrap()
    }

    /// How many tasks a worker holds, as Redis knows it.
    pub(crate) async fn held(&mut self, worker: &str) -> usize {
        self.raw.scard(self.key(format!("w:{worker}"))).await.unwrap()
    }

    /// How many tasks all workers hold that ever held one.
    pub(crate) async fn held_by_all(&mut self) -> usize {
        self.names().await.iter().filter(|name| name.starts_with(b"w:")).count()
    }
}

/// The 14 bytes of an id in Redis.
pub(crate) fn id_bytes(id: TaskId) -> Vec<u8> {
    let (high, low) = Uuid::from(id).as_u64_pair();
    let tail = (high & 0xfff) << 52 | (low >> 10) & ((1 << 52) - 1);
    [&(high >> 16).to_be_bytes()[2..], &tail.to_be_bytes()].concat()
}

/// The short name of the key of a task's record.
pub(crate) fn slice(id: TaskId) -> Vec<u8> {
    [b"t", &id_bytes(id)[..4]].concat()
}
