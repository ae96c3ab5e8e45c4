//! What a running task puts out bit by bit, such as the words of a language model: chunks, numbered from 1.
//!
//! They are kept apart from the task's result, bounded, and for a while only: [`OUTPUT_KEPT`] behind the task's end.

use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use crate::claim::{Assignment, Ticket};
use crate::store::{Items, Store};
use crate::{Incarnation, Result, Status, TaskId, codec};

/// Largest chunk, in bytes.
pub const CHUNK_BYTES_MAX: usize = 64 * 1024;
/// Chunks that are kept of one task, the newest; give or take those of one call.
pub const OUTPUT_CHUNKS_MAX: usize = 10_000;
/// Bytes that are kept of one task, the newest; give or take those of one call.
pub const OUTPUT_BYTES_MAX: usize = 1 << 20;
/// How long output is kept when its task has ended.
pub const OUTPUT_KEPT: Duration = Duration::from_secs(3600);
/// How long it is kept behind its last chunk at most, whatever becomes of the task.
pub const OUTPUT_KEPT_MAX: Duration = Duration::from_secs(24 * 3600);
/// Chunks sent by one call at most.
#[doc(hidden)]
pub const CHUNKS_SENT_MAX: usize = 1000;
/// Entries read at once; each holds what one call has sent.
const PAGE: usize = 8;
/// Largest number of a chunk: what scripts count exactly.
pub(crate) const PLACE_MAX: u64 = 1 << 52;

/// One piece of a task's output.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Chunk {
    /// Its number among all chunks of the task, from 1. Hand it to [`Chunks::after`](crate::Chunks::after) to go on behind it.
    pub number: u64,
    /// The attempt that it comes from.
    pub attempt: u32,
    /// Rises whenever the task's handler is entered anew, for another attempt or behind a wait: what comes then begins anew.
    pub epoch: u32,
    /// How many chunks right before it are not kept any more, or were lost.
    pub missed: u64,
    /// What was put out.
    pub data: ChunkData,
}

/// What a chunk holds.
#[derive(Clone, Debug, PartialEq)]
pub enum ChunkData {
    /// A piece of text.
    Text(String),
    /// Bytes.
    Bytes(Vec<u8>),
    /// A value of its own.
    Value(Value),
}

impl From<&str> for ChunkData {
    fn from(text: &str) -> Self {
        Self::Text(text.into())
    }
}

impl From<&String> for ChunkData {
    fn from(text: &String) -> Self {
        Self::Text(text.clone())
    }
}

impl From<String> for ChunkData {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<&[u8]> for ChunkData {
    fn from(bytes: &[u8]) -> Self {
        Self::Bytes(bytes.into())
    }
}

impl From<Vec<u8>> for ChunkData {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Bytes(bytes)
    }
}

impl From<Value> for ChunkData {
    fn from(value: Value) -> Self {
        Self::Value(value)
    }
}

impl ChunkData {
    /// The text, when it is one.
    #[must_use]
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Bytes that it takes, about.
    #[cfg(feature = "gateway")]
    pub(crate) fn weight(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Bytes(bytes) => bytes.len(),
            // JSON in pieces takes many times its text.
            Self::Value(_) => CHUNK_BYTES_MAX / 8,
        }
    }

    fn read(kind: u8, bytes: &[u8]) -> Self {
        match kind {
            b't' => Self::Text(String::from_utf8_lossy(bytes).into_owned()),
            b'v' => Self::Value(crate::task::to_json(bytes)),
            _ => Self::Bytes(bytes.into()),
        }
    }
}

/// A chunk as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
#[doc(hidden)]
pub struct PackedChunk {
    kind: u8,
    bytes: Vec<u8>,
}

impl PackedChunk {
    /// Packs what is to be put out; `None` when there is nothing in it.
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::Error::Invalid) for more than [`CHUNK_BYTES_MAX`] bytes.
    pub fn new(data: ChunkData) -> Result<Option<Self>> {
        let (kind, bytes) = match data {
            ChunkData::Text(text) => (b't', text.into_bytes()),
            ChunkData::Bytes(bytes) => (b'b', bytes),
            ChunkData::Value(value) => return Self::value(&value).map(Some),
        };
        match bytes.len() {
            0 => Ok(None),
            1..=CHUNK_BYTES_MAX => Ok(Some(Self { kind, bytes })),
            length => Err(crate::Error::invalid(format!(
                "a chunk of output has at most {CHUNK_BYTES_MAX} bytes, not {length}; put it out in pieces"
            ))),
        }
    }

    /// Packs a value.
    ///
    /// # Errors
    /// As [`PackedChunk::new`]; and for what cannot be written.
    pub fn value<T: Serialize + ?Sized>(value: &T) -> Result<Self> {
        Ok(Self { kind: b'v', bytes: codec::encode("chunk of output", value, CHUNK_BYTES_MAX)? })
    }

    /// Bytes that it takes.
    #[must_use]
    pub fn weight(&self) -> usize {
        self.bytes.len() + 5
    }

    /// What it holds.
    #[must_use]
    pub fn data(&self) -> ChunkData {
        ChunkData::read(self.kind, &self.bytes)
    }
}

/// Chunks that are sent in one call. Sent again they are appended once, as long as nothing else was sent meanwhile.
#[derive(Clone, Debug)]
#[doc(hidden)]
pub struct ChunkBatch {
    /// Names this call.
    pub name: [u8; 8],
    /// At most [`CHUNKS_SENT_MAX`].
    pub chunks: Vec<PackedChunk>,
    /// Number of the last chunk before these, as far as known.
    pub at: u64,
    /// How many were given up on since.
    pub lost: u64,
}

impl Incarnation {
    /// Appends to the output of a task that is held. Returns the number of the last chunk, the instant of the call in Unix ms, and
    /// whether cancelling was asked for; `lease` extends the lease of whoever has the task.
    ///
    /// # Errors
    /// [`Error::LeaseLost`](crate::Error::LeaseLost), [`Error::OutOfMemory`](crate::Error::OutOfMemory), [`Error::Unavailable`](crate::Error::Unavailable).
    #[doc(hidden)]
    pub async fn put_out(
        &self,
        task: &Assignment,
        batch: &ChunkBatch,
        lease: Option<Duration>,
    ) -> Result<(u64, u64, bool)> {
        let ticket: Ticket = task.ticket();
        let mut packed = Vec::with_capacity(16 + batch.chunks.iter().map(PackedChunk::weight).sum::<usize>());
        packed.extend(task.attempt().to_be_bytes());
        packed.extend(ticket.epoch.to_be_bytes());
        packed.extend(batch.name);
        for PackedChunk { kind, bytes } in &batch.chunks {
            packed.push(*kind);
            packed.extend(u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes());
            packed.extend(bytes);
        }
        let millis = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        let call = |_| {
            let call = self.store.call(&self.store.scripts().chunk).arg(self.name()).arg(self.generation());
            let call = call.arg(&ticket.to_bytes()).arg(packed.as_slice()).arg(batch.chunks.len());
            let call = call.arg(batch.at.min(PLACE_MAX)).arg(batch.lost.min(PLACE_MAX)).arg(millis(OUTPUT_KEPT_MAX));
            call.arg(OUTPUT_CHUNKS_MAX).arg(OUTPUT_BYTES_MAX).arg(lease.map_or(0, millis))
        };
        let mut items = Items::of(self.store.repeat(call).await?)?;
        let (now_ms, number, cancel): (u64, u64, bool) = (items.next()?, items.next()?, items.next()?);
        self.store.set_now_ms(now_ms);
        Ok((number, now_ms, cancel))
    }
}

/// How a task stands whose output is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It may put out more; whether its reader will be told.
    Live {
        told: bool,
    },
    Ended(Status),
    Unknown,
}

/// What a look at the output of a task has found.
#[derive(Debug)]
pub(crate) struct Looked {
    pub(crate) standing: Standing,
    pub(crate) chunks: Vec<Chunk>,
    /// Number of the newest chunk, when there was none behind the place.
    pub(crate) newest: u64,
}

impl Store {
    /// Reads what there is behind chunk `place`; where there is nothing, has `inbox` told of more.
    pub(crate) async fn output(&self, id: TaskId, place: u64, inbox: &str) -> Result<Looked> {
        let script = &self.scripts().output;
        let call = |_| self.call(script).arg(id.as_bytes()).arg(place.min(PLACE_MAX)).arg(PAGE).arg(inbox);
        let mut items = Items::of(self.repeat(call).await?)?;
        let letter: String = items.next()?;
        let entries: Vec<(String, Vec<Vec<u8>>)> = items.next()?;
        let standing = match letter.as_str() {
            "l" => Standing::Live { told: true },
            "n" => Standing::Live { told: false },
            "c" => Standing::Ended(Status::Completed),
            "f" => Standing::Ended(Status::Failed),
            "x" => Standing::Ended(Status::Cancelled),
            _ => Standing::Unknown,
        };
        let (mut chunks, mut seen) = (Vec::new(), place);
        for (entry, fields) in entries {
            let last: Option<u64> = entry.split('-').next().and_then(|number| number.parse().ok());
            // What was not written by us is passed over.
            let (Some(last), Some(packed)) = (last, fields.get(1)) else { continue };
            unpack(last, packed, &mut seen, &mut chunks);
        }
        Ok(Looked { standing, chunks, newest: items.next()? })
    }

    /// Has `inbox` not told of a task any more.
    pub(crate) async fn hush(&self, id: TaskId, inbox: &str) -> Result<()> {
        self.repeat(|_| self.call(&self.scripts().hush).arg(id.as_bytes()).arg(inbox)).await.map(drop)
    }
}

/// The chunks of an entry behind number `seen`, the last of which has the number `last`.
fn unpack(last: u64, packed: &[u8], seen: &mut u64, chunks: &mut Vec<Chunk>) {
    let Some((head, mut rest)) = packed.split_at_checked(16) else { return };
    let number = |at: usize| u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    let mut pieces = Vec::new();
    while let Some((&[kind, a, b, c, d], behind)) = rest.split_first_chunk() {
        let Some((bytes, behind)) = behind.split_at_checked(u32::from_be_bytes([a, b, c, d]) as usize) else { break };
        pieces.push((kind, bytes));
        rest = behind;
    }
    let first = (last + 1).saturating_sub(pieces.len() as u64);
    for (at, (kind, bytes)) in (first..).zip(pieces).filter(|(at, _)| *at > *seen).collect::<Vec<_>>() {
        let (attempt, epoch, missed) = (number(0), number(4), at - *seen - 1);
        *seen = at;
        chunks.push(Chunk { number: at, attempt, epoch, missed, data: ChunkData::read(kind, bytes) });
    }
}

/// As programs see it: what it holds is in `text`, in `base64` or in `value`.
#[cfg(any(feature = "cli", feature = "gateway"))]
impl Serialize for Chunk {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        use base64::Engine;
        use serde::ser::SerializeStruct;

        let mut told = serializer.serialize_struct("Chunk", 5)?;
        told.serialize_field("number", &self.number)?;
        told.serialize_field("attempt", &self.attempt)?;
        told.serialize_field("epoch", &self.epoch)?;
        told.serialize_field("missed", &self.missed)?;
        match &self.data {
            ChunkData::Text(text) => told.serialize_field("text", text)?,
            ChunkData::Bytes(bytes) => {
                told.serialize_field("base64", &base64::engine::general_purpose::STANDARD.encode(bytes))?;
            }
            ChunkData::Value(value) => told.serialize_field("value", value)?,
        }
        told.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_unfolds_behind_the_place_and_strange_bytes_into_nothing() {
        let mut packed = [3u32.to_be_bytes(), 7u32.to_be_bytes(), [0; 4], [0; 4]].concat();
        for word in ["a", "bc", "d"] {
            packed.push(b't');
            packed.extend((word.len() as u32).to_be_bytes());
            packed.extend(word.as_bytes());
        }
        let read = |last, bytes: &[u8], mut seen| {
            let mut chunks = Vec::new();
            unpack(last, bytes, &mut seen, &mut chunks);
            let told = chunks.into_iter();
            told.map(|c| (c.number, c.attempt, c.epoch, c.missed, c.data.as_text().unwrap_or_default().to_owned()))
                .collect::<Vec<_>>()
        };
        let chunk = |number, missed, text: &str| (number, 3, 7, missed, text.to_owned());
        assert_eq!(read(5, &packed, 0), [chunk(3, 2, "a"), chunk(4, 0, "bc"), chunk(5, 0, "d")]);
        assert_eq!(read(5, &packed, 4), [chunk(5, 0, "d")]);
        assert_eq!(read(5, &packed, 5), []);
        assert_eq!(read(5, &packed[..packed.len() - 1], 0).len(), 2, "what is cut short is left out");
        assert_eq!(read(5, b"short", 0), []);
    }

    #[test]
    fn a_chunk_has_its_bounds() {
        assert_eq!(PackedChunk::new("".into()).ok(), Some(None));
        assert!(PackedChunk::new("x".repeat(CHUNK_BYTES_MAX).into()).is_ok_and(|chunk| chunk.is_some()));
        let long = PackedChunk::new(vec![0; CHUNK_BYTES_MAX + 1].into()).expect_err("too long").to_string();
        assert!(long.contains("at most 65536 bytes, not 65537"), "{long}");
        let value = PackedChunk::new(serde_json::json!({"n": 1}).into()).expect("a fair value").expect("not empty");
        assert_eq!(value.data(), ChunkData::Value(serde_json::json!({"n": 1})));
    }
}
