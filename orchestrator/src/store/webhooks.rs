//! The table of webhooks.

use std::collections::HashMap;

use super::{Call, Store, read};
use crate::{Error, Result};

/// Puts one value in the place of another, when that is the one that is there; an empty value stands for none.
const REPLACE: &str = "
local there = redis.call('HGET', KEYS[1], ARGV[1]) or ''
if there == ARGV[3] then return 'done' end
if there ~= ARGV[2] then return 'other' end
if ARGV[3] == '' then
    redis.call('HDEL', KEYS[1], ARGV[1])
elseif there == '' and redis.call('HLEN', KEYS[1]) >= tonumber(ARGV[4]) then
    return 'full'
else
    redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
end
return 'done'";

/// What became of a change of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Replaced {
    /// It was made.
    Done,
    /// Somebody else has made another one meanwhile.
    Other,
    /// There is no room for one more.
    Full,
}

impl Store {
    /// All webhooks: id → stored bytes.
    pub(crate) async fn webhooks(&self) -> Result<HashMap<Vec<u8>, Vec<u8>>> {
        let mut command = redis::cmd("HGETALL");
        command.arg(self.keys().webhooks());
        read(self.repeat(|_| Call::plain(command.clone())).await?)
    }

    /// The stored bytes of one webhook.
    pub(crate) async fn webhook(&self, id: &str) -> Result<Option<Vec<u8>>> {
        let mut command = redis::cmd("HGET");
        command.arg(self.keys().webhooks()).arg(id);
        read(self.repeat(|_| Call::plain(command.clone())).await?)
    }

    /// Puts `new` in the place of `old`, if that is what is there; nothing stands for an absent webhook. May be repeated.
    pub(crate) async fn replace_webhook(&self, id: &str, old: &[u8], new: &[u8], max: usize) -> Result<Replaced> {
        let mut command = redis::cmd("EVAL");
        command.arg(REPLACE).arg(1).arg(self.keys().webhooks()).arg(id).arg(old).arg(new).arg(max);
        match read::<String>(self.repeat(|_| Call::plain(command.clone())).await?)?.as_str() {
            "done" => Ok(Replaced::Done),
            "other" => Ok(Replaced::Other),
            "full" => Ok(Replaced::Full),
            other => Err(Error::corrupt(format!("the table of webhooks answered {other}"))),
        }
    }
}
