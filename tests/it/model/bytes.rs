//! Ids and stored bytes, read and written here a second time, independently of the library.

use orchestrator::TaskId;
use uuid::Uuid;

use super::reference::Entry;

/// Bits of a UUID's last half that hold an id's bits.
const TAIL: u64 = (1 << 52) - 1;

/// The id with this instant of creation and these last 8 bytes.
pub(crate) fn make_id(created_ms: u64, tail: u64) -> TaskId {
    let uuid = Uuid::from_u64_pair(created_ms << 16 | 0x7000 | tail >> 52, 0b10 << 62 | (tail & TAIL) << 10);
    uuid.try_into().expect("a UUID of our form")
}

/// The 14 bytes of an id in Redis.
pub(crate) fn id_bytes(id: TaskId) -> Vec<u8> {
    let (high, low) = Uuid::from(id).as_u64_pair();
    let tail = (high & 0xfff) << 52 | (low >> 10) & TAIL;
    [&(high >> 16).to_be_bytes()[2..], &tail.to_be_bytes()].concat()
}

/// The id of 14 bytes.
pub(crate) fn read_id(bytes: &[u8]) -> Option<TaskId> {
    let (created, tail) = bytes.split_at_checked(6)?;
    let created_ms = created.iter().fold(0, |ms, byte| ms << 8 | u64::from(*byte));
    Some(make_id(created_ms, u64::from_be_bytes(tail.try_into().ok()?)))
}

/// The part of an id that names its slice.
pub(crate) fn slice(id: TaskId) -> [u8; 4] {
    ((id.created_at_ms() >> 16) as u32).to_be_bytes()
}

/// The header that a task's record must have.
pub(crate) fn header(entry: &Entry, shelved: bool) -> Vec<u8> {
    let flags = u16::from(entry.cancel) | u16::from(shelved) << 7;
    let mut out = vec![1];
    out.extend(entry.epoch.to_be_bytes());
    out.extend(entry.changes.to_be_bytes());
    out.extend([entry.attempts as u8, entry.crashes as u8, entry.asked.max_retries, entry.asked.priority as u8]);
    out.extend(flags.to_be_bytes());
    out.push(entry.asked.queue.len() as u8);
    out.extend(entry.asked.queue.as_bytes());
    out
}

/// Cuts a record behind its header.
pub(crate) fn split_record(record: &[u8]) -> Option<(&[u8], &[u8])> {
    record.split_at_checked(16 + usize::from(*record.get(15)?))
}
