//! How the model keeps what tasks put out, and who is told of it.

use std::collections::{BTreeMap, BTreeSet};

use orchestrator::{OUTPUT_BYTES_MAX, OUTPUT_CHUNKS_MAX, OUTPUT_KEPT, OUTPUT_KEPT_MAX, Status, TaskId, Ticket};
use redis::aio::MultiplexedConnection;

use super::bytes::{id_bytes, read_id};
use super::reference::{Place, Reference};
use super::state::{Dump, Fields, key, number};

/// Inboxes that are told of one task at most.
const INBOXES_MAX: usize = 16;
/// Calls that one look returns at most.
pub(crate) const PAGE: usize = 8;
/// How long a look at what is left to live may be late, in milliseconds of the server's own clock.
const LATE: i64 = 600_000;

fn millis(span: std::time::Duration) -> i64 {
    span.as_millis() as i64
}

/// What one call has put out.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Piece {
    pub(crate) attempt: u32,
    pub(crate) epoch: u32,
    /// Names the call.
    pub(crate) name: [u8; 8],
    pub(crate) chunks: Vec<String>,
}

impl Piece {
    /// As it is stored.
    fn packed(&self) -> Vec<u8> {
        let mut packed = [&self.attempt.to_be_bytes()[..], &self.epoch.to_be_bytes(), &self.name].concat();
        for chunk in &self.chunks {
            packed.push(b't');
            packed.extend((chunk.len() as u32).to_be_bytes());
            packed.extend(chunk.bytes());
        }
        packed
    }

    fn is(&self, other: &Self) -> bool {
        (self.attempt, self.epoch, self.name) == (other.attempt, other.epoch, other.name)
    }
}

/// What is kept of a task's output.
#[derive(Clone, Debug, Default)]
pub(crate) struct Output {
    /// Each with the number of its last chunk, and the bytes of all up to it.
    pub(crate) pieces: Vec<(u64, u64, Piece)>,
    /// How long all is kept from its last call, or from the task's end on, in milliseconds.
    kept: i64,
}

impl Output {
    pub(crate) fn newest(&self) -> u64 {
        self.pieces.last().map_or(0, |(number, ..)| *number)
    }
}

/// What is sent: beside the piece, the number of the last chunk that its sender knows of, and how many were lost since.
#[derive(Clone, Debug)]
pub(crate) struct Sending {
    pub(crate) piece: Piece,
    pub(crate) at: u64,
    pub(crate) lost: u64,
}

/// What somebody is told: whether that there is more, or that the task has ended.
type Note = (bool, TaskId);

/// Of all tasks.
#[derive(Debug, Default)]
pub(crate) struct Outputs {
    /// Also of tasks that have ended or are gone: the server lets those expire by itself.
    pub(crate) kept: BTreeMap<TaskId, Output>,
    /// Inboxes that are to be told, in the order of their coming.
    pub(crate) told: BTreeMap<TaskId, Vec<String>>,
    pub(crate) inboxes: BTreeMap<String, BTreeSet<Note>>,
}

/// What a look found: each chunk with its number, where it comes from, how many are missing before it, and the text.
pub(crate) type Read = Vec<(u64, u32, u32, u64, String)>;

/// How a task stands whose output is looked at.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Standing {
    /// Whether the inbox is told of more.
    Live(bool),
    Ended(Status),
    Unknown,
}

impl Reference {
    /// A call appends to a task's output: the number of the last chunk, and whether the task is to be stopped. `None` is a task
    /// that its sender has not got.
    pub(crate) fn put_out(&mut self, seat: (usize, u64), ticket: Ticket, sending: &Sending) -> Option<(u64, bool)> {
        let (worker, id) = (seat.0, ticket.id);
        if self.present(worker, seat.1).is_none() {
            return self.meet("output came from somebody whose lease was lost", None);
        }
        if !self.holds(worker, ticket) {
            let what = match self.tasks.get(&id).map(|entry| &entry.place) {
                None | Some(Place::Ended { .. }) => "output came behind the end of its task",
                Some(Place::Held { .. }) => "output came from an attempt that another one had followed",
                Some(_) => "output came from an attempt that had let go of its task",
            };
            return self.meet(what, None);
        }
        let Sending { piece, at, lost } = sending;
        let count = piece.chunks.len() as u64;
        let output = self.outputs.kept.entry(id).or_default();
        let (mut number, mut bytes) = output.pieces.last().map_or((0, 0), |(number, bytes, _)| (*number, *bytes));
        let mut met = Vec::new();
        match output.pieces.last() {
            _ if count == 0 => {}
            Some((.., last)) if last.is(piece) => met.push("output was sent twice"),
            last => {
                met.push("a task put something out");
                met.extend(
                    last.filter(|last| last.2.epoch < piece.epoch)
                        .map(|_| "output came behind that of an earlier attempt"),
                );
                number = number.max(*at) + lost + count;
                bytes += piece.packed().len() as u64;
                output.pieces.push((number, bytes, piece.clone()));
                let first = (number + 1).saturating_sub(OUTPUT_CHUNKS_MAX as u64);
                let before = output.pieces.len();
                output.pieces.retain(|(number, ..)| *number >= first);
                met.extend((output.pieces.len() < before).then_some("the oldest output went by its number"));
                let (floor, before) = (bytes.saturating_sub(OUTPUT_BYTES_MAX as u64), output.pieces.len());
                output.pieces.retain(|(_, bytes, _)| *bytes > floor);
                met.extend((output.pieces.len() < before).then_some("the oldest output went by its bytes"));
                for name in self.outputs.told.get(&id).into_iter().flatten().filter(|name| name.ends_with(".o")) {
                    self.outputs.inboxes.entry(name.clone()).or_default().insert((true, id));
                    met.push("a reader was told of more");
                }
            }
        }
        match self.outputs.kept.get_mut(&id).expect("an output") {
            output if output.pieces.is_empty() => drop(self.outputs.kept.remove(&id)),
            output => output.kept = millis(OUTPUT_KEPT_MAX),
        }
        let entry = self.tasks.get_mut(&id).expect("a task");
        entry.vocal |= met.contains(&"a task put something out");
        met.into_iter().for_each(|what| self.meet(what, ()));
        Some((number, self.tasks[&id].cancel))
    }

    /// Somebody reads behind a place: what there is, how the task stands, and the number of the newest.
    pub(crate) fn look_at_output(&mut self, id: TaskId, place: u64, inbox: &str) -> (Read, Standing, u64) {
        let nothing = Output::default();
        let output = self.outputs.kept.get(&id).unwrap_or(&nothing);
        let newest = output.newest();
        let (mut read, mut seen) = (Read::new(), place);
        for (last, _, piece) in output.pieces.iter().filter(|(last, ..)| *last > place).take(PAGE) {
            let first = last + 1 - piece.chunks.len() as u64;
            for (at, chunk) in (first..).zip(&piece.chunks).filter(|(at, _)| *at > place) {
                read.push((at, piece.attempt, piece.epoch, at - seen - 1, chunk.clone()));
                seen = at;
            }
        }
        let ended = self.known(id).map(|entry| entry.status());
        let standing = match ended {
            None => Standing::Unknown,
            Some(status) if status.is_terminal() => Standing::Ended(status),
            Some(_) if inbox.is_empty() || !read.is_empty() => Standing::Live(true),
            Some(_) => Standing::Live(self.name_inbox(id, inbox)),
        };
        let what = match (standing, read.first()) {
            (Standing::Unknown, _) => "nobody knew of a task whose output was to be read",
            (Standing::Ended(_), Some(_)) => "output of a task that had ended was read",
            (_, Some((.., missed, _))) if *missed > 0 => "output was read behind a gap",
            (_, Some(_)) => "output was read",
            _ if place > newest => "a reader stood behind the end of what was left",
            _ => return (read, standing, newest),
        };
        self.meet(what, (read, standing, newest))
    }

    /// Whether an inbox is told of a live task from now on.
    fn name_inbox(&mut self, id: TaskId, inbox: &str) -> bool {
        let told = self.outputs.told.entry(id).or_default();
        if told.iter().any(|name| name == inbox) {
            return true;
        }
        if told.len() >= INBOXES_MAX {
            return self.meet("too many were to be told", false);
        }
        told.push(inbox.into());
        self.tasks.get_mut(&id).expect("a task").awaited = true;
        self.meet("a reader was to be told", true)
    }

    /// An inbox is told of a task no more.
    pub(crate) fn hush_inbox(&mut self, id: TaskId, inbox: &str) {
        let Some(told) = self.outputs.told.get_mut(&id) else { return };
        let before = told.len();
        told.retain(|name| name != inbox);
        let (left, now) = (told.len() < before, told.is_empty());
        if now {
            self.outputs.told.remove(&id);
        }
        if left {
            self.meet("a reader was told no more", ());
        }
    }

    /// The task ends.
    pub(crate) fn tell_readers(&mut self, id: TaskId) {
        for name in self.outputs.told.remove(&id).unwrap_or_default() {
            self.outputs.inboxes.entry(name).or_default().insert((false, id));
            self.meet("a reader was told of the end", ());
        }
    }

    /// The task ends: what it has put out is kept for less time from now on.
    pub(crate) fn close_output(&mut self, id: TaskId) {
        let vocal = self.tasks[&id].vocal;
        if let Some(output) = self.outputs.kept.get_mut(&id).filter(|_| vocal) {
            output.kept = millis(OUTPUT_KEPT);
            self.meet("a task that had put something out ended", ());
        }
    }

    /// A dead letter is deleted.
    pub(crate) fn forget_output(&mut self, id: TaskId) {
        if self.outputs.kept.remove(&id).is_some() {
            self.meet("a dead letter was deleted with its output", ());
        }
    }
}

/// A note as it lies in an inbox.
pub(crate) fn note_bytes((more, id): &Note) -> Vec<u8> {
    key(if *more { "o" } else { "" }, id_bytes(*id))
}

/// What Redis should hold of all that.
pub(crate) fn expected(model: &Reference, mut put: impl FnMut(Vec<u8>, Vec<u8>, Vec<u8>)) {
    for (id, output) in &model.outputs.kept {
        for (number, bytes, piece) in &output.pieces {
            put(key("p:", id_bytes(*id)), format!("{number}-{bytes}").into_bytes(), piece.packed());
        }
    }
    for (id, told) in &model.outputs.told {
        put(key("n", ""), id_bytes(*id), told.join(" ").into_bytes());
    }
    for (name, notes) in &model.outputs.inboxes {
        for note in notes {
            put(key("i:", name), note_bytes(note), number(0));
        }
    }
}

/// The keys of what tasks have put out that have ended.
pub(crate) fn closed(model: &Reference) -> impl Iterator<Item = Vec<u8>> {
    let ended = |id: &TaskId| model.tasks.get(id).is_none_or(|entry| entry.status().is_terminal());
    model.outputs.kept.keys().filter(move |id| ended(id)).map(|id| key("p:", id_bytes(*id)))
}

async fn outputs(raw: &mut MultiplexedConnection, base: &str) -> Vec<Vec<u8>> {
    redis::cmd("KEYS").arg(format!("{base}p:*")).query_async(raw).await.expect("the keys")
}

/// Adds what Redis holds of outputs.
pub(crate) async fn read(raw: &mut MultiplexedConnection, base: &str, closed: &BTreeSet<Vec<u8>>, dump: &mut Dump) {
    let keys = outputs(raw, base).await.into_iter().map(|key| key[base.len()..].to_vec());
    let (there, open): (Vec<_>, Vec<_>) = keys.partition(|name| closed.contains(name));
    dump.extend(there.into_iter().map(|name| (name, BTreeMap::new())));
    let mut ask = redis::pipe();
    for name in &open {
        ask.cmd("XRANGE").arg([base.as_bytes(), name].concat()).arg("-").arg("+");
    }
    if open.is_empty() {
        return;
    }
    let streams: Vec<Vec<(Vec<u8>, Fields)>> = ask.query_async(raw).await.expect("what the keys hold");
    for (name, stream) in open.into_iter().zip(streams) {
        let piece = |(at, mut fields): (Vec<u8>, Fields)| {
            let (field, packed) = fields.pop().filter(|_| fields.is_empty()).expect("one field");
            assert_eq!(field, b"c", "what a piece of output is called");
            (at, packed)
        };
        let pieces: BTreeMap<_, _> = stream.into_iter().map(piece).collect();
        assert!(!pieces.is_empty(), "an output of nothing");
        dump.insert(name, pieces);
    }
}

/// All outputs expire by themselves.
pub(crate) async fn expiring(raw: &mut MultiplexedConnection, base: &str, model: &Reference) {
    let mut ask = redis::pipe();
    for id in model.outputs.kept.keys() {
        ask.cmd("PTTL").arg([base.as_bytes(), b"p:", &id_bytes(*id)].concat());
    }
    if model.outputs.kept.is_empty() {
        return;
    }
    let left: Vec<i64> = ask.query_async(raw).await.expect("what is left");
    for ((id, output), left) in model.outputs.kept.iter().zip(left) {
        let bounds = output.kept - LATE..=output.kept;
        assert!(bounds.contains(&left), "the output of {id} has {left} ms left, not within {bounds:?}");
    }
}

/// Who is to be told of a task is told of one that is there and knows, counted on Redis alone.
pub(crate) fn no_orphans(dump: &Dump, flags: &BTreeMap<&[u8], u16>) {
    for (id, inboxes) in dump.get(b"n".as_slice()).into_iter().flatten() {
        let flags = flags.get(id.as_slice()).copied().unwrap_or(0);
        let inboxes = inboxes.escape_ascii();
        assert_ne!(flags & 256, 0, "{inboxes} are to be told of {:?}, which does not know", read_id(id));
    }
}
