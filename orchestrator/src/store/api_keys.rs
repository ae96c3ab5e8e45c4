//! The table of API keys. HASH: id → key, `=` ‖ name in small letters → id, `@` ‖ id → milliseconds of the last use.

use std::collections::HashMap;

use super::{Call, Store, read};
use crate::{Error, Result};

/// Adds a key unless its name is taken or the table is full. Adding it again changes nothing.
const ADD: &str = "
if redis.call('HGET', KEYS[1], ARGV[1]) == ARGV[3] then return 'done' end
if redis.call('HEXISTS', KEYS[1], '=' .. ARGV[2]) == 1 or redis.call('HEXISTS', KEYS[1], ARGV[1]) == 1 then
    return 'taken'
end
local names = 0
for _, field in ipairs(redis.call('HKEYS', KEYS[1])) do
    if string.byte(field) == 61 then names = names + 1 end
end
if names >= tonumber(ARGV[4]) then return 'full' end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3], '=' .. ARGV[2], ARGV[1])
return 'done'";

/// Drops a key, and its name if nobody else has that by now.
const DROP: &str = "
redis.call('HDEL', KEYS[1], ARGV[1], '@' .. ARGV[1])
if redis.call('HGET', KEYS[1], '=' .. ARGV[2]) == ARGV[1] then redis.call('HDEL', KEYS[1], '=' .. ARGV[2]) end
return 'done'";

/// Notes a use, unless one was noted within the last minute or the key is gone.
const USED: &str = "
local last = tonumber(redis.call('HGET', KEYS[1], '@' .. ARGV[1]) or '0') or 0
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 1 and tonumber(ARGV[2]) - last >= tonumber(ARGV[3]) then
    redis.call('HSET', KEYS[1], '@' .. ARGV[1], ARGV[2])
end
return 'done'";

/// What became of a new key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeyAdded {
    /// It is in the table.
    Done,
    /// Another one has its name.
    Taken,
    /// There is no room for one more.
    Full,
}

/// A key as it lies in the table.
pub(crate) struct StoredKey {
    pub(crate) id: String,
    pub(crate) value: Vec<u8>,
    pub(crate) last_used_ms: Option<u64>,
}

impl Store {
    fn on_keys(&self, script: &str) -> redis::Cmd {
        let mut command = redis::cmd("EVAL");
        command.arg(script).arg(1).arg(self.keys().api_keys());
        command
    }

    /// All keys, in no order.
    pub(crate) async fn api_keys(&self) -> Result<Vec<StoredKey>> {
        let mut command = redis::cmd("HGETALL");
        command.arg(self.keys().api_keys());
        let mut fields: HashMap<Vec<u8>, Vec<u8>> = read(self.repeat(|_| Call::plain(command.clone())).await?)?;
        let ids: Vec<Vec<u8>> =
            fields.keys().filter(|field| !matches!(field.first(), Some(b'=' | b'@'))).cloned().collect();
        let stored = ids.into_iter().filter_map(|id| {
            let used = fields.get([b"@", id.as_slice()].concat().as_slice());
            let last_used_ms = used.and_then(|ms| std::str::from_utf8(ms).ok()?.parse().ok());
            Some(StoredKey { value: fields.remove(&id)?, id: String::from_utf8(id).ok()?, last_used_ms })
        });
        Ok(stored.collect())
    }

    /// Adds a key under its id and its name in small letters; at most `max` keys. May be repeated.
    pub(crate) async fn add_key(&self, id: &str, name: &str, value: &[u8], max: usize) -> Result<KeyAdded> {
        let mut command = self.on_keys(ADD);
        command.arg(id).arg(name).arg(value).arg(max);
        match read::<String>(self.repeat(|_| Call::plain(command.clone())).await?)?.as_str() {
            "done" => Ok(KeyAdded::Done),
            "taken" => Ok(KeyAdded::Taken),
            "full" => Ok(KeyAdded::Full),
            other => Err(Error::corrupt(format!("the table of API keys answered {other}"))),
        }
    }

    /// Drops a key. May be repeated.
    pub(crate) async fn drop_key(&self, id: &str, name: &str) -> Result {
        let mut command = self.on_keys(DROP);
        command.arg(id).arg(name);
        self.repeat(|_| Call::plain(command.clone())).await.map(drop)
    }

    /// Notes that a key was used now, at most once in `pause_ms`. Asks once.
    pub(crate) async fn note_key_use(&self, id: &str, pause_ms: u64) -> Result {
        let mut command = self.on_keys(USED);
        command.arg(id).arg(self.now_ms()).arg(pause_ms);
        self.plain(&command).await.map(drop).map_err(super::Fault::into_error)
    }
}
