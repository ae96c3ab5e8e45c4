//! A task as Redis holds it: a fixed header that scripts read and splice, and a body that they never look into.
//!
//! ```text
//! record    = header ‖ body
//! header    = version u8 · epoch u32 · changes u32 · attempts u8 · crashes u8 · max_retries u8 · priority u8
//!             · flags u16 · queue length u8 · queue                              (integers big-endian)
//! body      = MessagePack map of what differs from the defaults ‖ payload as one MessagePack value
//! finished  = record ‖ finished_at u48 · letter u8 · MessagePack map ‖ result (if completed) ‖ record length u32
//! ```
//!
//! *Epoch* rises whenever the task leaves a worker, and by a manual retry: it is the fencing token.
//! *Changes* counts the changes of state, a present claim excepted; it numbers the task's events without a gap.

use serde::{Deserialize, Serialize};

use crate::codec;
use crate::unique::Lock;
use crate::{Backoff, Error, Priority, Result, Sla, Source};

/// Version of the record's layout.
pub(crate) const VERSION: u8 = 1;
/// Header bytes in front of the queue's name.
const FIXED: usize = 16;

/// Bits of the header's flags that scripts know.
pub(crate) mod flag {
    /// Cancelling was asked for while it ran.
    pub(crate) const CANCEL: u16 = 1;
    /// Waits for a person.
    pub(crate) const ON_APPROVAL: u16 = 1 << 1;
    /// Waits for an instant.
    pub(crate) const ON_TIMER: u16 = 1 << 2;
    /// Has not passed its gate.
    pub(crate) const GATED: u16 = 1 << 3;
    /// Has a journal.
    pub(crate) const JOURNAL: u16 = 1 << 4;
    /// Has a service-level clock.
    pub(crate) const CLOCKED: u16 = 1 << 5;
    /// The instant that it waits for is the end of a wait for an event.
    pub(crate) const ON_EVENT: u16 = 1 << 6;
    /// On the shelf of its type.
    pub(crate) const SHELVED: u16 = 1 << 7;
    /// Has passed its gate.
    pub(crate) const PASSED: u16 = 1 << 9;
    /// Its changes of state are not told.
    pub(crate) const QUIET: u16 = 1 << 10;
    /// Begins no attempt after an instant.
    pub(crate) const EXPIRES: u16 = 1 << 11;
    /// Holds a key alone.
    pub(crate) const UNIQUE: u16 = 1 << 12;
    /// A tick of its schedule may wait for its end.
    pub(crate) const FOLLOWED: u16 = 1 << 13;
    // 1 << 14, VOCAL: it has put something out. Scripts alone set it and look at it.
}

/// Has a task tell none of its changes of state.
pub(crate) fn make_quiet(record: &mut [u8]) {
    // The first byte of the flags.
    if let Some(flags) = record.get_mut(13) {
        *flags |= (flag::QUIET >> 8) as u8;
    }
}

/// Has scripts look for a tick of its schedule that waits when a task ends.
pub(crate) fn make_followed(record: &mut [u8]) {
    if let Some(flags) = record.get_mut(13) {
        *flags |= (flag::FOLLOWED >> 8) as u8;
    }
}

/// The part of a record that scripts read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) epoch: u32,
    pub(crate) changes: u32,
    pub(crate) attempts: u8,
    pub(crate) crashes: u8,
    pub(crate) max_retries: u8,
    pub(crate) priority: Priority,
    pub(crate) flags: u16,
    pub(crate) queue: String,
}

impl Header {
    /// The header of a task that was never claimed: its creation is its first change.
    pub(crate) fn fresh(queue: &str, priority: Priority, max_retries: u8) -> Self {
        Self { epoch: 0, changes: 1, attempts: 0, crashes: 0, max_retries, priority, flags: 0, queue: queue.into() }
    }

    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        out.push(VERSION);
        out.extend(self.epoch.to_be_bytes());
        out.extend(self.changes.to_be_bytes());
        out.extend([self.attempts, self.crashes, self.max_retries, self.priority as u8]);
        out.extend(self.flags.to_be_bytes());
        // Names of queues are checked to have at most 64 bytes.
        out.push(self.queue.len() as u8);
        out.extend(self.queue.as_bytes());
    }

    /// Splits a record into its header and its body.
    pub(crate) fn read(record: &[u8]) -> Result<(Self, &[u8])> {
        let short = || Error::corrupt("a record is shorter than its header");
        let (fixed, rest) = record.split_at_checked(FIXED).ok_or_else(short)?;
        if fixed[0] != VERSION {
            return Err(Error::corrupt(format!(
                "a record has layout version {}; this program reads {VERSION}",
                fixed[0]
            )));
        }
        let (queue, body) = rest.split_at_checked(fixed[15].into()).ok_or_else(short)?;
        let header = Self {
            epoch: u32::from_be_bytes([fixed[1], fixed[2], fixed[3], fixed[4]]),
            changes: u32::from_be_bytes([fixed[5], fixed[6], fixed[7], fixed[8]]),
            attempts: fixed[9],
            crashes: fixed[10],
            max_retries: fixed[11],
            priority: Priority::from_level(fixed[12])
                .ok_or_else(|| Error::corrupt("a record's priority is not 0..3"))?,
            flags: u16::from_be_bytes([fixed[13], fixed[14]]),
            queue: std::str::from_utf8(queue).map_err(|_| Error::corrupt("a queue's name is not text"))?.into(),
        };
        Ok((header, body))
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// What a record holds beside header and payload. Short names; what equals its default is left out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Body {
    #[serde(rename = "t")]
    pub(crate) task_type: String,
    #[serde(rename = "s", default, skip_serializing_if = "is_default")]
    pub(crate) source: Source,
    /// Left out by a task that starts its trace.
    #[serde(rename = "tr", default, skip_serializing_if = "Option::is_none")]
    pub(crate) trace_id: Option<String>,
    #[serde(rename = "pa", default, skip_serializing_if = "Option::is_none")]
    pub(crate) parent: Option<crate::TaskId>,
    #[serde(rename = "md", default, skip_serializing_if = "is_default")]
    pub(crate) metadata: serde_json::Map<String, serde_json::Value>,
    #[serde(rename = "sl", default, skip_serializing_if = "Option::is_none")]
    pub(crate) sla: Option<Sla>,
    #[serde(rename = "by", default, skip_serializing_if = "Option::is_none")]
    pub(crate) requested_by: Option<String>,
    /// Who had its schedule make it by hand, unless its own maker did.
    #[serde(rename = "ab", default, skip_serializing_if = "Option::is_none")]
    pub(crate) asked_by: Option<String>,
    /// Left out by a task that belongs to nobody in particular.
    #[serde(rename = "tn", default, skip_serializing_if = "Option::is_none")]
    pub(crate) tenant: Option<String>,
    /// Unix milliseconds before which it does not start.
    #[serde(rename = "at", default, skip_serializing_if = "is_default")]
    pub(crate) run_at_ms: u64,
    /// Unix milliseconds after which no attempt of it is begun.
    #[serde(rename = "xp", default, skip_serializing_if = "is_default")]
    pub(crate) expires_at_ms: u64,
    /// The wait between its attempts, instead of its handler's.
    #[serde(rename = "bo", default, skip_serializing_if = "Option::is_none")]
    pub(crate) backoff: Option<Backoff>,
    /// The key that it holds alone.
    #[serde(rename = "lk", default, skip_serializing_if = "Option::is_none")]
    pub(crate) lock: Option<Lock>,
    /// Error of the last attempt.
    #[serde(rename = "e", default, skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
}

impl Body {
    pub(crate) fn write(&self, payload: &[u8], out: &mut Vec<u8>) -> Result {
        rmp_serde::encode::write_named(out, self)
            .map_err(|error| Error::invalid(format!("the task cannot be written as MessagePack: {error}")))?;
        out.extend(payload);
        Ok(())
    }

    /// Splits a body into its fields and the payload's bytes.
    pub(crate) fn read(bytes: &[u8]) -> Result<(Self, &[u8])> {
        let (fields, payload) = codec::split_value("a task's body", bytes)?;
        let body = codec::decode("a task's body", fields)?;
        match codec::split_value("a task's payload", payload)? {
            (payload, []) => Ok((body, payload)),
            _ => Err(Error::corrupt("a task's payload is followed by stray bytes")),
        }
    }
}

/// How a task ended: the part of a finished value that its last holder writes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Ending {
    /// When the last attempt started: milliseconds after the task's creation.
    #[serde(rename = "s", default, skip_serializing_if = "Option::is_none")]
    pub(crate) started_after_ms: Option<u64>,
    #[serde(rename = "e", default, skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
    /// One word for machines: `retries`, `fatal`, `poison`, `request` …
    #[serde(rename = "r", default, skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<String>,
}

impl Ending {
    /// `letter ‖ map ‖ result`, as the finishing scripts take it.
    pub(crate) fn write(&self, letter: u8, result: &[u8]) -> Vec<u8> {
        let mut out = vec![letter];
        // A map of three plain fields always encodes.
        let _ = rmp_serde::encode::write_named(&mut out, self);
        out.extend(result);
        out
    }
}

/// Letters of the ways to end, in finished values and in events.
pub(crate) mod letter {
    pub(crate) const COMPLETED: u8 = b'c';
    pub(crate) const FAILED: u8 = b'f';
    pub(crate) const CANCELLED: u8 = b'x';
}

/// A finished value, taken apart.
#[derive(Debug)]
pub(crate) struct Finished<'v> {
    pub(crate) record: &'v [u8],
    pub(crate) finished_at_ms: u64,
    pub(crate) status: crate::Status,
    pub(crate) ending: Ending,
    /// Empty unless completed.
    pub(crate) result: &'v [u8],
}

impl<'v> Finished<'v> {
    pub(crate) fn read(value: &'v [u8]) -> Result<Self> {
        let short = || Error::corrupt("a finished task is cut short");
        let (rest, length) = value.split_last_chunk::<4>().ok_or_else(short)?;
        let (record, rest) = rest.split_at_checked(u32::from_be_bytes(*length) as usize).ok_or_else(short)?;
        let (stamp, rest) = rest.split_at_checked(6).ok_or_else(short)?;
        let (letter, rest) = rest.split_first().ok_or_else(short)?;
        let status = match *letter {
            letter::COMPLETED => crate::Status::Completed,
            letter::FAILED => crate::Status::Failed,
            letter::CANCELLED => crate::Status::Cancelled,
            other => return Err(Error::corrupt(format!("a finished task has the unknown letter {other}"))),
        };
        let (map, result) = codec::split_value("an ending", rest)?;
        Ok(Self {
            record,
            finished_at_ms: stamp.iter().fold(0, |ms, byte| ms << 8 | u64::from(*byte)),
            status,
            ending: codec::decode("an ending", map)?,
            result,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_reads_back_as_written_and_its_envelope_is_lean() {
        let header =
            Header { epoch: 7, changes: 15, flags: flag::CANCEL, ..Header::fresh("dev_agent", Priority::P1, 3) };
        let body = Body { task_type: "bugfix".into(), ..Body::default() };
        let payload = codec::encode("payload", &vec![7u8; 100], 1000).expect("a fair payload");
        let mut record = Vec::new();
        header.write(&mut record);
        body.write(&payload, &mut record).expect("a fair body");
        assert!(record.len() - payload.len() <= 60, "envelope of {} bytes", record.len() - payload.len());
        let (header_read, rest) = Header::read(&record).expect("our header");
        let (body_read, payload_read) = Body::read(rest).expect("our body");
        assert_eq!((header_read, body_read, payload_read), (header, body, payload.as_slice()));
    }

    #[test]
    fn every_prefix_of_a_record_is_refused_without_a_panic() {
        let mut record = Vec::new();
        Header::fresh("q", Priority::P2, 3).write(&mut record);
        Body { task_type: "t".into(), ..Body::default() }
            .write(&[0x81, 0xa1, b'k', 0x01], &mut record)
            .expect("a body");
        for cut in 0..record.len() {
            let read = Header::read(&record[..cut]).and_then(|(_, rest)| Body::read(rest).map(drop));
            assert!(read.is_err(), "cut at {cut}");
        }
        let stray = [record.as_slice(), &[0xc0]].concat();
        assert!(Header::read(&stray).and_then(|(_, rest)| Body::read(rest).map(drop)).is_err());
    }

    #[test]
    fn a_finished_value_reads_back() {
        let tail = Ending { started_after_ms: Some(12), ..Ending::default() }.write(letter::COMPLETED, &[0x2a]);
        let value = [b"record".as_slice(), &[0, 0, 0, 0, 1, 0], &tail, &6u32.to_be_bytes()].concat();
        let finished = Finished::read(&value).expect("our value");
        assert_eq!((finished.record, finished.finished_at_ms), (b"record".as_slice(), 256));
        assert_eq!((finished.status, finished.result), (crate::Status::Completed, [0x2a].as_slice()));
        for cut in 0..value.len() {
            assert!(Finished::read(&value[..cut]).is_err(), "cut at {cut}");
        }
    }
}
