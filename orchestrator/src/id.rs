//! Task ids: 14 bytes inside, a UUIDv7 outside.
//!
//! ```text
//! bytes 0..6   Unix milliseconds of the server's clock, big-endian
//! bytes 6..8   counter: random at the start of each millisecond, rising within it
//! bytes 8..14  random
//! ```
//!
//! 14 bytes are the largest string that Redis's allocator keeps in 16; a 36-character UUID costs 65 bytes more a task.
//! The UUID's ten spare bits are zero. A UUID whose spare bits are not zero names no task: it is unknown, not an alias.

use std::fmt;
use std::str::FromStr;
use std::sync::Mutex;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::Error;

/// Length of an id in Redis, in bytes.
pub(crate) const ID_BYTES: usize = 14;

/// The name of one task, unique for all time and sorted by creation.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskId([u8; ID_BYTES]);

impl TaskId {
    /// A new id stamped with `now_ms`, the server's Unix milliseconds. Ids made by one process rise strictly.
    pub(crate) fn at(now_ms: u64) -> Self {
        /// Last (millisecond, counter) handed out by this process.
        static LAST: Mutex<(u64, u16)> = Mutex::new((0, 0));
        let (ms, counter) = {
            let mut last = LAST.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            *last = if now_ms > last.0 {
                // The top bit stays clear, so that every millisecond has room for 32,768 ids at least.
                (now_ms, rand::random::<u16>() >> 1)
            } else if last.1 == u16::MAX {
                (last.0 + 1, 0)
            } else {
                (last.0, last.1 + 1)
            };
            *last
        };
        let mut id = [0; ID_BYTES];
        id[..6].copy_from_slice(&ms.to_be_bytes()[2..]);
        id[6..8].copy_from_slice(&counter.to_be_bytes());
        id[8..].copy_from_slice(&rand::random::<u64>().to_be_bytes()[2..]);
        Self(id)
    }

    /// [`TaskId::at`] for clocks that tests move, several in one process and each on its own: ids of one millisecond rise
    /// strictly, and none is stamped with the time of another clock.
    #[cfg(feature = "test-clock")]
    pub(crate) fn at_moved_clock(now_ms: u64) -> Self {
        /// Ids made in each millisecond.
        static MADE: Mutex<std::collections::BTreeMap<u64, u16>> = Mutex::new(std::collections::BTreeMap::new());
        let mut made = MADE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let counter = made.entry(now_ms).or_default();
        *counter = counter.wrapping_add(1);
        let mut id = [0; ID_BYTES];
        id[..6].copy_from_slice(&now_ms.to_be_bytes()[2..]);
        id[6..8].copy_from_slice(&counter.to_be_bytes());
        id[8..].copy_from_slice(&rand::random::<u64>().to_be_bytes()[2..]);
        Self(id)
    }

    /// When the task was created: Unix milliseconds of the server's clock.
    #[must_use]
    pub fn created_at_ms(&self) -> u64 {
        self.0[..6].iter().fold(0, |ms, byte| ms << 8 | u64::from(*byte))
    }

    /// The 32 hexadecimal digits of the UUID: the trace id of a task that starts a trace (W3C form).
    #[must_use]
    pub fn as_trace_id(&self) -> String {
        uuid::Uuid::from(*self).simple().to_string()
    }

    pub(crate) fn as_bytes(&self) -> &[u8; ID_BYTES] {
        &self.0
    }

    pub(crate) fn from_bytes(bytes: [u8; ID_BYTES]) -> Self {
        Self(bytes)
    }

    pub(crate) fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }
}

impl From<TaskId> for uuid::Uuid {
    fn from(id: TaskId) -> Self {
        let tail = id.0[6..].iter().fold(0u64, |tail, byte| tail << 8 | u64::from(*byte));
        let high = id.created_at_ms() << 16 | 0x7000 | tail >> 52;
        let low = 0b10 << 62 | (tail & ((1 << 52) - 1)) << 10;
        Self::from_u64_pair(high, low)
    }
}

impl TryFrom<uuid::Uuid> for TaskId {
    type Error = Error;

    fn try_from(uuid: uuid::Uuid) -> Result<Self, Error> {
        let (high, low) = uuid.as_u64_pair();
        if high & 0xf000 != 0x7000 || low >> 62 != 0b10 || low & 0x3ff != 0 {
            return Err(Error::NotFound { what: format!("task {uuid}") });
        }
        let tail = (high & 0xfff) << 52 | (low >> 10) & ((1 << 52) - 1);
        let mut id = [0; ID_BYTES];
        id[..6].copy_from_slice(&(high >> 16).to_be_bytes()[2..]);
        id[6..].copy_from_slice(&tail.to_be_bytes());
        Ok(Self(id))
    }
}

impl FromStr for TaskId {
    type Err = Error;

    /// # Errors
    /// [`Error::Invalid`] when the text is no UUID, [`Error::NotFound`] when it is one that we never hand out.
    fn from_str(text: &str) -> Result<Self, Error> {
        uuid::Uuid::try_parse(text)
            .map_err(|_| {
                Error::invalid(format!(
                    "`{}` is not a task id; one looks like 019aa1b2-c3d4-7e5f-8a6b-7c8d9e0f1000",
                    crate::error::excerpt(text)
                ))
            })?
            .try_into()
    }
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        uuid::Uuid::from(*self).fmt(f)
    }
}

impl fmt::Debug for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for TaskId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for TaskId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_uuid_keeps_every_bit_and_the_order() {
        let ids: Vec<TaskId> = (0..5000).map(|i| TaskId::at(1_790_000_000_000 + i / 1000)).collect();
        for pair in ids.windows(2) {
            assert!(pair[0] < pair[1]);
            assert!(pair[0].to_string() < pair[1].to_string());
        }
        for id in ids {
            assert_eq!(id.to_string().parse::<TaskId>().ok(), Some(id));
            assert_eq!(uuid::Uuid::from(id).get_version_num(), 7);
        }
    }

    #[test]
    fn a_foreign_uuid_is_unknown_and_no_uuid_is_invalid() {
        let ours = TaskId::at(1_790_000_000_000).to_string();
        let alias = format!("{}1", &ours[..35]);
        assert!(matches!(alias.parse::<TaskId>(), Err(Error::NotFound { .. })));
        assert!(matches!("7f3c".parse::<TaskId>(), Err(Error::Invalid { .. })));
        assert!(matches!(
            uuid::Uuid::from_u128(4 << 76 | 2 << 62).to_string().parse::<TaskId>(),
            Err(Error::NotFound { .. })
        ));
    }

    #[test]
    fn a_clock_that_stands_or_steps_back_does_not_break_the_order() {
        let first = TaskId::at(1_890_000_000_000);
        let second = TaskId::at(1_000);
        assert!(first < second);
    }
}
