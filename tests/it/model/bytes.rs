//! Ids and stored bytes, read and written here a second time, independently of the library.

use orchestrator::{ApprovalStatus, Entry, Noted, TaskId};
use uuid::Uuid;

use super::reference::{self, Place};

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
pub(crate) fn header(entry: &reference::Entry) -> Vec<u8> {
    let flags = [
        (entry.cancel, 0),
        (matches!(entry.place, Place::Parked { approval: Some(_), .. }), 1),
        (matches!(entry.place, Place::Parked { approval: None, .. }), 2),
        (entry.gated, 3),
        (entry.journal, 4),
        (entry.clock.is_some(), 5),
        (matches!(entry.place, Place::Parked { event: true, .. }), 6),
        (matches!(entry.place, Place::Shelf { .. }), 7),
        (entry.awaited, 8),
        (entry.passed, 9),
        (entry.quiet, 10),
        (entry.expiry.is_some(), 11),
        (entry.asked.unique.is_some(), 12),
        (entry.followed, 13),
        (entry.vocal, 14),
    ];
    let flags: u16 = flags.into_iter().map(|(set, bit)| u16::from(set) << bit).sum();
    let mut out = vec![1];
    out.extend(entry.epoch.to_be_bytes());
    out.extend(entry.changes.to_be_bytes());
    out.extend([entry.attempts as u8, entry.crashes as u8, entry.asked.max_retries, entry.priority as u8]);
    out.extend(flags.to_be_bytes());
    out.push(entry.asked.queue.len() as u8);
    out.extend(entry.asked.queue.as_bytes());
    out
}

/// An entry of a journal as it is sent: a wait without its end, and a question without what was decided.
pub(crate) fn entry_sent(entry: &Entry) -> Vec<u8> {
    let stored = entry_stored(entry);
    let length = if matches!(entry.noted, Noted::Sleep(_) | Noted::Waiting(_)) { 16 } else { stored.len() };
    stored[..length].to_vec()
}

/// An entry of a journal as it is stored, but for the decision at its end.
pub(crate) fn entry_stored(entry: &Entry) -> Vec<u8> {
    let (kind, rest) = match &entry.noted {
        Noted::Step(output) => (b's', output.clone()),
        Noted::Begun => (b'o', Vec::new()),
        Noted::Done(output) => (b'O', output.clone()),
        Noted::Sleep(until) => (b't', until.to_be_bytes()[2..].to_vec()),
        Noted::Asked { number, status, hash, .. } => {
            let letter = match status {
                ApprovalStatus::Pending => b'p',
                ApprovalStatus::Approved => b'a',
                ApprovalStatus::Rejected => b'r',
                ApprovalStatus::Timeout => b't',
                ApprovalStatus::Cancelled => b'c',
            };
            (b'a', [&number.to_be_bytes()[..], &[letter], hash].concat())
        }
        Noted::Told(id) => (b'p', id_bytes(*id)),
        // What it waits for stands behind it.
        Noted::Waiting(until) => (b'e', until.to_be_bytes()[2..].to_vec()),
        other => panic!("the model knows no {other:?}"),
    };
    let digest = if kind == b'a' { &[][..] } else { &entry.digest };
    [&[kind, u8::from(entry.side_by_side)][..], &entry.order.to_be_bytes(), &entry.code.to_be_bytes(), digest, &rest]
        .concat()
}

/// Cuts a record behind its header.
pub(crate) fn split_record(record: &[u8]) -> Option<(&[u8], &[u8])> {
    record.split_at_checked(16 + usize::from(*record.get(15)?))
}

/// How a cancelled task ends, as whoever ends it says.
pub(crate) fn ending(ending: &reference::Ending) -> Vec<u8> {
    #[derive(serde::Serialize)]
    struct Told<'e> {
        #[serde(skip_serializing_if = "Option::is_none")]
        e: Option<&'e str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        r: Option<&'e str>,
    }
    let told = Told { e: ending.error.as_deref(), r: ending.reason };
    let told = rmp_serde::to_vec_named(&told).expect("two texts");
    [b"x".as_slice(), &told].concat()
}
