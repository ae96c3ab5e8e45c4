//! A task's journal: what its handler has done for good, so that it is not done again when the handler is entered anew.
//!
//! ```text
//! entry = kind u8 · side by side u8 · order u16 · code u32 · (step, once, sleep:) digest [8] · what came of it
//!                                               · (approval:) number u16 · status u8 · hash [32] · decision
//! ```
//!
//! Kinds: `s` a step and its output · `o` an outside effect begun, `O` and its output · `t` a sleep and its end (u48) · `a`
//! an approval · `p` an event that was told, its id · `e` a wait for an event, its end (u48), the place behind which it counts
//! (u48, u48) and its name · `E` the event's place (u48, u48), its id and its MessagePack. Names that begin with a zero byte are counters of the scripts.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::approval::ApprovalStatus;
use crate::bus::{Event, EventCursor};
use crate::untold::told_event;
use crate::{Error, Result, TaskId, codec};

/// Entries of one task's journal at most.
pub const JOURNAL_ENTRIES_MAX: usize = 1000;
/// Bytes of one task's journal at most.
pub const JOURNAL_BYTES_MAX: usize = 8 << 20;
/// Longest name of an entry, in bytes.
pub const ENTRY_NAME_MAX: usize = 128;

/// # Errors
/// [`Error::Invalid`] for what cannot be the name of an entry.
#[doc(hidden)]
pub fn check_entry_name(name: &str) -> Result {
    match name.is_empty() || name.len() > ENTRY_NAME_MAX || name.chars().any(char::is_control) {
        true => Err(Error::invalid(format!(
            "a durable call's name has 1 to {ENTRY_NAME_MAX} bytes and no control characters"
        ))),
        false => Ok(()),
    }
}

/// What an entry is about, and what has come of it.
#[derive(Clone, Debug, PartialEq)]
#[doc(hidden)]
pub enum Noted {
    /// A step that was done: its output, MessagePack.
    Step(Vec<u8>),
    /// An outside effect that was begun.
    Begun,
    /// An outside effect that was done: its output, MessagePack.
    Done(Vec<u8>),
    /// A sleep, and the instant of its end.
    Sleep(u64),
    /// An event that was told.
    Told(TaskId),
    /// A wait for an event, and the instant of its end.
    Waiting(u64),
    /// An event that was waited for.
    Found(Box<Event>),
    /// A question.
    Asked {
        /// Which approval.
        number: u16,
        /// How it stands.
        status: ApprovalStatus,
        /// SHA-256 of what was shown.
        hash: [u8; 32],
        /// The decision, once there is one.
        decision: Decision,
    },
}

/// How an approval was decided, as the handler reads it.
#[derive(Clone, Debug, Default, PartialEq)]
#[doc(hidden)]
pub struct Decision {
    /// Who decided; empty when nobody did.
    pub who: String,
    /// What they wrote.
    pub why: String,
    /// The form, MessagePack; empty for none.
    pub form: Vec<u8>,
}

/// As `cmsgpack.pack` writes it: strings, whatever they hold.
#[derive(Deserialize, Serialize)]
struct PackedDecision {
    #[serde(with = "raw")]
    w: Vec<u8>,
    #[serde(with = "raw")]
    y: Vec<u8>,
    #[serde(with = "raw")]
    f: Vec<u8>,
}

/// Bytes under either of MessagePack's markers for strings.
mod raw {
    use serde::{Deserializer, Serializer, de};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], writer: S) -> Result<S::Ok, S::Error> {
        writer.serialize_bytes(bytes)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(reader: D) -> Result<Vec<u8>, D::Error> {
        struct Bytes;
        impl de::Visitor<'_> for Bytes {
            type Value = Vec<u8>;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("bytes")
            }
            fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
                Ok(bytes.to_vec())
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Vec<u8>, E> {
                Ok(text.as_bytes().to_vec())
            }
        }
        reader.deserialize_bytes(Bytes)
    }
}

/// One entry.
#[derive(Clone, Debug, PartialEq)]
#[doc(hidden)]
pub struct Entry {
    /// Its place among the durable calls of the handler, from 1.
    pub order: u16,
    /// Whether it was begun while another was under way: then its place says nothing.
    pub side_by_side: bool,
    /// Fingerprint of the handler that made it: while that is the same, its place says nothing either.
    pub code: u32,
    /// Digest of its input; zeros when it named none.
    pub digest: [u8; 8],
    /// What has come of it.
    pub noted: Noted,
}

/// The first bytes of the SHA-256 of an input.
#[doc(hidden)]
#[must_use]
pub fn digest(input: &[u8]) -> [u8; 8] {
    let mut digest = [0; 8];
    digest.copy_from_slice(&Sha256::digest(input)[..8]);
    digest
}

impl Entry {
    /// As Redis keeps it. The ends of waits are written by the scripts.
    pub(crate) fn write(&self) -> Vec<u8> {
        let kind = match &self.noted {
            Noted::Step(_) => b's',
            Noted::Begun => b'o',
            Noted::Done(_) => b'O',
            Noted::Sleep(_) => b't',
            Noted::Told(_) => b'p',
            Noted::Waiting(_) => b'e',
            Noted::Found(_) => b'E',
            Noted::Asked { .. } => b'a',
        };
        let mut entry = vec![kind, u8::from(self.side_by_side)];
        entry.extend(self.order.to_be_bytes());
        entry.extend(self.code.to_be_bytes());
        match &self.noted {
            Noted::Step(output) | Noted::Done(output) => {
                entry.extend(self.digest);
                entry.extend(output);
            }
            Noted::Told(id) => {
                entry.extend(self.digest);
                entry.extend(id.as_bytes());
            }
            // The rest is written by the scripts.
            Noted::Begun | Noted::Sleep(_) | Noted::Waiting(_) | Noted::Found(_) => entry.extend(self.digest),
            Noted::Asked { number, hash, .. } => {
                entry.extend(number.to_be_bytes());
                entry.push(b'p');
                entry.extend(hash);
            }
        }
        entry
    }

    pub(crate) fn read(bytes: &[u8]) -> Result<Self> {
        let wrong = || Error::corrupt("an entry of a journal");
        let (head, rest) = bytes.split_at_checked(8).ok_or_else(wrong)?;
        let (order, side_by_side) = (u16::from_be_bytes([head[2], head[3]]), head[1] == 1);
        let code = u32::from_be_bytes([head[4], head[5], head[6], head[7]]);
        let entry = |digest, noted| Ok(Self { order, side_by_side, code, digest, noted });
        if head[0] == b'a' {
            let (fixed, decision) = rest.split_at_checked(35).ok_or_else(wrong)?;
            let mut hash = [0; 32];
            hash.copy_from_slice(&fixed[3..]);
            let status = match fixed[2] {
                b'p' => ApprovalStatus::Pending,
                b'a' => ApprovalStatus::Approved,
                b'r' => ApprovalStatus::Rejected,
                b't' => ApprovalStatus::Timeout,
                b'c' => ApprovalStatus::Cancelled,
                _ => return Err(wrong()),
            };
            let decision = match decision {
                [] => Decision::default(),
                packed => {
                    let PackedDecision { w, y, f } = codec::decode("a decision", packed)?;
                    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
                    Decision { who: text(w), why: text(y), form: f }
                }
            };
            let number = u16::from_be_bytes([fixed[0], fixed[1]]);
            return entry([0; 8], Noted::Asked { number, status, hash, decision });
        }
        let (digest, body) = rest.split_first_chunk::<8>().ok_or_else(wrong)?;
        entry(
            *digest,
            match head[0] {
                b's' => Noted::Step(body.to_vec()),
                b'o' => Noted::Begun,
                b'O' => Noted::Done(body.to_vec()),
                b't' if body.len() == 6 => Noted::Sleep(number(body)),
                b'p' => Noted::Told(TaskId::from_slice(body).ok_or_else(wrong)?),
                b'e' if body.len() > 18 => Noted::Waiting(number(&body[..6])),
                b'E' if body.len() > 12 => {
                    let place = EventCursor { entry: (number(&body[..6]), number(&body[6..12])), index: 0 };
                    Noted::Found(Box::new(told_event(place, &body[12..]).ok_or_else(wrong)?))
                }
                _ => return Err(wrong()),
            },
        )
    }
}

/// A big-endian number.
fn number(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// The bytes of a hash written as hexadecimal digits.
#[doc(hidden)]
#[must_use]
pub fn hash_bytes(hex: &str) -> [u8; 32] {
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(hex.as_bytes().chunks(2)) {
        *byte = std::str::from_utf8(pair).ok().and_then(|pair| u8::from_str_radix(pair, 16).ok()).unwrap_or(0);
    }
    bytes
}

/// One thing that a task has done for good, as people see it.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(feature = "gateway", derive(utoipa::ToSchema))]
pub struct JournalEntry {
    /// Its name.
    pub name: String,
    /// Its place among the handler's durable calls.
    pub order: u16,
    /// `step`, `once`, `sleep`, `approval`, `publish` or `event`.
    pub kind: &'static str,
    /// `done`, `begun` (an outside effect whose outcome is not known), `until …`, or how the approval stands.
    pub state: String,
    /// What came of it.
    pub output: Option<Value>,
}

impl JournalEntry {
    pub(crate) fn of(name: String, entry: &Entry) -> Self {
        let (kind, state, output) = match &entry.noted {
            Noted::Step(output) => ("step", "done".into(), Some(crate::task::to_json(output))),
            Noted::Begun => ("once", "begun".into(), None),
            Noted::Done(output) => ("once", "done".into(), Some(crate::task::to_json(output))),
            Noted::Sleep(until) => ("sleep", format!("until {}", crate::task::instant(*until).to_rfc3339()), None),
            Noted::Asked { status, .. } => ("approval", status.to_string(), None),
            Noted::Told(id) => ("publish", format!("told {id}"), None),
            Noted::Waiting(until) => ("event", format!("until {}", crate::task::instant(*until).to_rfc3339()), None),
            Noted::Found(event) => ("event", format!("found {}", event.event_id), Some(event.payload.clone())),
        };
        Self { name, order: entry.order, kind, state, output }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_read_back_and_nonsense_is_refused() {
        let entry = |noted| Entry { order: 7, side_by_side: true, code: 9, digest: digest(b"x"), noted };
        for noted in [Noted::Step(vec![0xc0]), Noted::Begun, Noted::Done(vec![1]), Noted::Told(TaskId::at(7))] {
            let entry = entry(noted);
            assert_eq!(Entry::read(&entry.write()).ok(), Some(entry));
        }
        let hash = hash_bytes(&crate::approval::payload_hash(&serde_json::json!({"a": 1})));
        let asked = |status, decision| Noted::Asked { number: 3, status, hash, decision };
        let pending = Entry { digest: [0; 8], ..entry(asked(ApprovalStatus::Pending, Decision::default())) };
        assert_eq!(Entry::read(&pending.write()).ok(), Some(pending.clone()));
        let mut decided = pending.write();
        decided[10] = b'a';
        decided.extend(b"\x83\xa1w\xa3bob\xa1y\xa0\xa1f\xa2\x91\xff");
        let decision = Decision { who: "bob".into(), why: String::new(), form: vec![0x91, 0xff] };
        assert_eq!(Entry::read(&decided).expect("a decision").noted, asked(ApprovalStatus::Approved, decision));
        for wrong in
            [&b""[..], b"s\0\0\x01code", b"x\0\0\x01code12345678", b"t\0\0\x01code12345678abc", b"a\0\0\x01code\0\0z"]
        {
            assert!(Entry::read(wrong).is_err(), "{wrong:?}");
        }
    }
}
