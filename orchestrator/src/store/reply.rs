//! Reading what scripts answer.

use redis::{FromRedisValue, Value};

use crate::{Error, Result};

/// Reads a reply as `T`.
pub(crate) fn read<T: FromRedisValue>(value: Value) -> Result<T> {
    redis::from_redis_value(value).map_err(|error| Error::corrupt(format!("a script's reply: {error}")))
}

/// The value behind a name in a reply that alternates names and values.
pub(crate) fn field(told: &[Value], name: &str) -> Option<Value> {
    let at = told.iter().position(|told| matches!(told, Value::BulkString(bytes) if bytes == name.as_bytes()))?;
    told.get(at + 1).cloned()
}

/// A reply that is a list, read from the front.
#[derive(Debug)]
pub(crate) struct Items(std::vec::IntoIter<Value>);

impl Items {
    pub(crate) fn of(value: Value) -> Result<Self> {
        match value {
            Value::Array(items) => Ok(Self(items.into_iter())),
            other => Err(Error::corrupt(format!("a script's reply is no list: {other:?}"))),
        }
    }

    /// The next item as a `T`.
    pub(crate) fn next<T: FromRedisValue>(&mut self) -> Result<T> {
        self.0.next().ok_or_else(|| Error::corrupt("a script's reply is too short")).and_then(read)
    }

    /// Whether nothing is left.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.as_slice().is_empty()
    }
}
