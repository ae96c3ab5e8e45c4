//! Waiting without polling: the only blocking reads, on connections of their own from a pool.
//!
//! What is popped is a wake token or a note, never a task: losing one costs time, not work. A token that nobody can use
//! is put back by whoever popped it.

use std::time::Duration;

use bb8_redis::bb8;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, RedisError};

use super::walk::{EntryId, Fields, entries};
use super::{CONNECT_TIMEOUT, Call, Fault, Store};
use crate::{Error, Result};

/// Score of a note to stop within no time, below 0; each millisecond is one more.
pub(crate) const URGENT_MS: u64 = 1 << 40;

/// What woke a waiter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Rung {
    /// The token of this queue.
    Token(String),
    /// A note in the inbox.
    Note(Vec<u8>),
    /// A note to stop within a time.
    Urgent(Vec<u8>, Duration),
}

/// Waits on tokens and an inbox.
#[derive(Clone, Debug)]
pub(crate) struct Bell {
    pool: bb8::Pool<Dedicated>,
    store: Store,
}

impl Bell {
    /// A bell with one connection, opened when first needed.
    pub(crate) fn new(store: &Store) -> Self {
        let manager = Dedicated { client: store.shared.client.clone() };
        let pool = bb8::Pool::builder()
            .max_size(1)
            .test_on_check_out(false)
            .connection_timeout(CONNECT_TIMEOUT)
            .build_unchecked(manager);
        Self { pool, store: store.clone() }
    }

    /// Waits up to `patience` for the token of one of `queues` (in order of preference) or a note for `owner`.
    pub(crate) async fn wait(&self, queues: &[String], owner: &str, patience: Duration) -> Result<Option<Rung>> {
        let inbox = self.store.keys().inbox(owner);
        let tokens: Vec<String> = queues.iter().map(|queue| self.store.keys().token(queue)).collect();
        let mut command = redis::cmd("BZPOPMIN");
        command.arg(&inbox).arg(&tokens).arg(patience.as_secs_f64());
        let reply: Option<(String, Vec<u8>, f64)> =
            self.block(&command, patience, || self.store.mend(owner, queues, &[])).await?;
        Ok(reply.map(|(key, member, score)| match tokens.iter().position(|token| *token == key) {
            Some(i) => Rung::Token(queues[i].clone()),
            // The fewer milliseconds there are, the farther below 0 it lies.
            None if score < 0.0 => {
                Rung::Urgent(member, Duration::from_millis((score + URGENT_MS as f64).max(0.0) as u64))
            }
            None => Rung::Note(member),
        }))
    }

    /// Waits up to `patience` for a note in one of these inboxes.
    pub(crate) async fn notes(&self, owners: &[&str], patience: Duration) -> Result<Option<Rung>> {
        let inboxes: Vec<String> = owners.iter().map(|owner| self.store.keys().inbox(owner)).collect();
        let mut command = redis::cmd("BZPOPMIN");
        command.arg(&inboxes).arg(patience.as_secs_f64());
        let owner = owners.first().copied().unwrap_or_default();
        let reply: Option<(String, Vec<u8>, f64)> =
            self.block(&command, patience, || self.store.mend(owner, &[], &[])).await?;
        Ok(reply.map(|(_, member, _)| Rung::Note(member)))
    }

    /// Waits up to `patience` for entries of the event stream behind `seen`; at most `count`, oldest first.
    pub(crate) async fn events(
        &self,
        seen: EntryId,
        count: usize,
        patience: Duration,
    ) -> Result<Vec<(EntryId, Fields)>> {
        type Stream = (Vec<u8>, Vec<(String, Vec<Vec<u8>>)>);
        let mut command = redis::cmd("XREAD");
        command.arg("COUNT").arg(count).arg("BLOCK").arg(patience.as_millis() as u64);
        command.arg("STREAMS").arg(self.store.keys().events()).arg(format!("{}-{}", seen.0, seen.1));
        let reply: Option<Vec<Stream>> = self.block(&command, patience, || self.store.mend("", &[], &[])).await?;
        Ok(entries(reply.into_iter().flatten().flat_map(|(_, told)| told).collect()))
    }

    /// Takes up to `count` entries that the consumer group has not given to anybody, as `consumer`; waits for `patience`.
    pub(crate) async fn group(
        &self,
        group: &str,
        consumer: &str,
        count: usize,
        patience: Duration,
    ) -> Result<Vec<(EntryId, Fields)>> {
        type Stream = (Vec<u8>, Vec<(String, Vec<Vec<u8>>)>);
        let mut command = redis::cmd("XREADGROUP");
        command.arg("GROUP").arg(group).arg(consumer).arg("COUNT").arg(count);
        command.arg("BLOCK").arg(patience.as_millis() as u64).arg("STREAMS").arg(self.store.keys().events()).arg(">");
        let reply: Option<Vec<Stream>> = self.block(&command, patience, || self.store.mend("", &[], &[])).await?;
        Ok(entries(reply.into_iter().flatten().flat_map(|(_, told)| told).collect()))
    }

    /// Sends a blocking read. A key of the wrong type is set aside by what `mend` makes, and told of all the same: what
    /// the key held is gone, so the caller must look for himself.
    async fn block<T: redis::FromRedisValue>(
        &self,
        command: &redis::Cmd,
        patience: Duration,
        mend: impl FnOnce() -> Call,
    ) -> Result<T> {
        let unavailable =
            |error: &dyn std::fmt::Display| Error::Unavailable { reason: error.to_string(), source: None };
        let mut link = self.pool.get().await.map_err(|error| unavailable(&error))?;
        let grace = patience + Duration::from_secs(5);
        // Broken until an answer came: a wait that is given up on leaves a pop behind on the server.
        link.broken = true;
        let reply = match tokio::time::timeout(grace, command.query_async(&mut link.connection)).await {
            Ok(Ok(reply)) => reply,
            Ok(Err(error)) => {
                let fault = Fault::from(error);
                if matches!(fault, Fault::WrongType(_)) {
                    self.store.send(&mend()).await.map_err(Fault::into_error)?;
                }
                return Err(fault.into_error());
            }
            Err(_) => return Err(unavailable(&"no answer to a blocking read")),
        };
        link.broken = false;
        Ok(reply)
    }

    /// Puts the token of `queue` back.
    pub(crate) async fn put_back(&self, queue: &str) -> Result<(), Fault> {
        self.store.send(&self.ring(&format!("k:{queue}"), "x")).await.map(drop)
    }

    /// Ends a wait of `owner` by an empty note. Repeated until Redis has it: who waits for a nudge waits long.
    pub(crate) async fn nudge(&self, owner: &str) -> Result<()> {
        self.store.repeat(|_| self.ring(&format!("i:{owner}"), "w")).await.map(drop)
    }

    fn ring(&self, name: &str, member: &str) -> Call {
        self.store.call(&self.store.scripts().ring).arg(name).arg(member)
    }
}

/// Makes connections for blocking reads: without a response timeout, and told apart when they are not clean any more.
#[derive(Debug)]
struct Dedicated {
    client: redis::Client,
}

#[derive(Debug)]
struct Link {
    connection: MultiplexedConnection,
    broken: bool,
}

impl bb8::ManageConnection for Dedicated {
    type Connection = Link;
    type Error = RedisError;

    async fn connect(&self) -> Result<Link, RedisError> {
        let config =
            AsyncConnectionConfig::new().set_connection_timeout(Some(CONNECT_TIMEOUT)).set_response_timeout(None);
        let connection = self.client.get_multiplexed_async_connection_with_config(&config).await?;
        Ok(Link { connection, broken: false })
    }

    async fn is_valid(&self, link: &mut Link) -> Result<(), RedisError> {
        redis::cmd("PING").query_async(&mut link.connection).await
    }

    fn has_broken(&self, link: &mut Link) -> bool {
        link.broken
    }
}
