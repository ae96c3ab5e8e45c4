//! How the model tells events and waits for them.

use std::collections::{BTreeMap, BTreeSet};

use orchestrator::{Entry, Noted, TaskId};

use super::bytes::{entry_sent, entry_stored, id_bytes};
use super::reference::{Place, Reference};

/// For how long an event's id is remembered.
const REMEMBERED: u64 = 120_000;
/// How late a call may come that tells one.
const WINDOW: u64 = 60_000;

/// A place in the stream: entries of scripts are numbered by the server's own clock, also where `now` is moved.
pub(crate) type At = (u64, u64);

/// An event as it is told.
#[derive(Clone, Debug)]
pub(crate) struct Tell {
    pub(crate) id: TaskId,
    pub(crate) event_type: &'static str,
    pub(crate) key: Option<String>,
    pub(crate) task: Option<TaskId>,
    pub(crate) payload: u64,
    /// Name in the journal and its entry, of one that a handler tells; and whose handler that is.
    pub(crate) by: Option<(String, Entry, TaskId)>,
}

impl Tell {
    /// The names by which it is waited for.
    pub(crate) fn names(&self) -> Vec<String> {
        let task = self.task.map(|task| task.to_string());
        self.key.iter().chain(&task).map(|key| format!("{} {key}", self.event_type)).collect()
    }

    /// Bytes of a journal that it takes.
    fn length(&self) -> u64 {
        self.by.as_ref().map_or(0, |(name, entry, _)| (name.len() + entry_sent(entry).len()) as u64)
    }
}

/// What a task waits for under one name of its journal, beside the end of the wait.
#[derive(Clone, Debug)]
pub(crate) struct Await {
    pub(crate) awaited: String,
    /// An event counts behind this place.
    pub(crate) behind: At,
    /// The event that was found.
    pub(crate) found: Option<(At, Vec<u8>)>,
}

impl Await {
    /// As it is stored in the journal, `entry` being the entry of the wait.
    pub(crate) fn stored(&self, entry: &Entry) -> Vec<u8> {
        let place = |(ms, seq): At| [&ms.to_be_bytes()[2..], &seq.to_be_bytes()[2..]].concat();
        let stored = entry_stored(entry);
        match &self.found {
            None => [stored.as_slice(), &place(self.behind), self.awaited.as_bytes()].concat(),
            Some((at, event)) => [b"E", &stored[1..16], &place(*at), event].concat(),
        }
    }
}

/// What was told, and who waits for it.
#[derive(Debug, Default)]
pub(crate) struct Voices {
    /// Ids told of late, and when.
    pub(crate) seen: BTreeMap<TaskId, u64>,
    /// Tasks that wait, by the name of the event, in the order of their coming.
    pub(crate) waiting: BTreeMap<String, Vec<TaskId>>,
    /// Where the last event of a name stands, by hour.
    pub(crate) named: BTreeMap<u64, BTreeMap<String, At>>,
    /// The events that the stream holds: id and bytes.
    pub(crate) stream: BTreeMap<At, Vec<u8>>,
    /// Told just now: where they stand is not known yet.
    pub(crate) fresh: Vec<Tell>,
    /// Among whose events one that was told is looked for: those of the task whose handler told it, or alone.
    pub(crate) lines: BTreeMap<TaskId, TaskId>,
    /// The name for which too many wait.
    pub(crate) crowded: Option<String>,
}

impl Voices {
    /// The newest event of a name behind a place; the outer `None` is one that has left the stream.
    fn find(&self, name: &str, behind: At) -> Option<Option<(At, Vec<u8>)>> {
        let at = self.named.values().rev().find_map(|names| names.get(name)).copied();
        match at.filter(|at| *at > behind) {
            None => Some(None),
            Some(at) => Some(Some((at, self.stream.get(&at)?.clone()))),
        }
    }

    /// The last place of a name.
    pub(crate) fn last(&self, name: &str) -> Option<At> {
        self.named.values().rev().find_map(|names| names.get(name)).copied()
    }

    /// What was told just now stands here.
    pub(crate) fn stands(&mut self, tell: &Tell, at: At, event: Vec<u8>) {
        for name in tell.names() {
            self.named.entry(at.0 / 3_600_000).or_default().insert(name, at);
        }
        self.stream.insert(at, event);
    }
}

impl Reference {
    /// An event is told, unless it was; returns how many waits it ends.
    pub(crate) fn tell_event(&mut self, tell: &Tell) -> usize {
        let now = self.now;
        self.voices.seen.retain(|_, at| *at > now - REMEMBERED);
        if self.voices.seen.contains_key(&tell.id) {
            return self.meet("an event was told again", 0);
        }
        self.voices.seen.insert(tell.id, now);
        let line = tell.by.as_ref().map_or(tell.id, |(.., task)| *task);
        self.voices.lines.insert(tell.id, line);
        self.voices.fresh.push(tell.clone());
        self.told.push((line, "told", 0, None));
        let mut woken = 0;
        for id in tell.names().iter().filter_map(|name| self.voices.waiting.get(name)).flatten() {
            let place = &mut self.tasks.get_mut(id).expect("a task").place;
            let Place::Parked { over, event: true, .. } = place else { panic!("{id} waits for no event") };
            woken += usize::from(*over != now);
            *over = now;
        }
        woken
    }

    /// Somebody tells events in one call.
    pub(crate) fn publish(&mut self, tells: &[Tell]) -> Result<(), &'static str> {
        let oldest = tells.iter().map(|tell| tell.id.created_at_ms()).min().expect("an event");
        if self.now > oldest + WINDOW {
            return Err(self.meet("an event came too late", "Conflict"));
        }
        for tell in tells {
            self.tell_event(tell);
        }
        Ok(())
    }

    /// Bytes of a journal that these take.
    pub(crate) fn length_of(tells: &[Tell]) -> u64 {
        tells.iter().map(Tell::length).sum()
    }

    /// Notes what a handler has told, and tells it, unless it is noted already. Returns the bytes that it took.
    pub(crate) fn pass_on(&mut self, id: TaskId, tells: &[Tell]) -> u64 {
        let mut bytes = 0;
        for tell in tells {
            let (name, entry, _) = tell.by.clone().expect("a handler's event");
            let journal = self.journals.entry(id).or_default();
            if journal.entries.contains_key(&name) {
                self.meet("what was told was noted already", ());
                continue;
            }
            journal.entries.insert(name, entry);
            bytes += tell.length();
            self.tell_event(tell);
            self.meet("a handler told of an event", ());
        }
        bytes
    }

    /// A wait begins, behind this place: it may be over already.
    pub(crate) fn await_event(&mut self, id: TaskId, behind: At) {
        let (now, journal) = (self.now, self.journals.get_mut(&id).expect("a journal"));
        let wait = journal.waits.get_mut(journal.awaiting.as_ref().expect("a wait")).expect("a wait");
        wait.behind = behind;
        let name = wait.awaited.clone();
        self.voices.waiting.entry(name.clone()).or_default().push(id);
        match self.voices.find(&name, behind) {
            Some(Some(_)) => {
                let Place::Parked { over, .. } = &mut self.tasks.get_mut(&id).expect("a task").place else {
                    panic!("{id} does not wait")
                };
                *over = now;
                self.meet("a wait found what was told before", ());
            }
            Some(None) if self.voices.last(&name).is_some() => {
                self.meet("a wait passed over what it had found before", ());
            }
            Some(None) => {}
            None => self.meet("an event had left the stream", ()),
        }
    }

    /// It waits no more; returns the call's name in the journal.
    pub(crate) fn unwait(&mut self, id: TaskId) -> String {
        let journal = &self.journals[&id];
        let call = journal.awaiting.clone().expect("a wait");
        let name = journal.waits[&call].awaited.clone();
        let waiting = self.voices.waiting.get_mut(&name).expect("somebody who waits");
        waiting.retain(|other| *other != id);
        if waiting.is_empty() {
            self.voices.waiting.remove(&name);
        }
        call
    }

    /// The timer of a wait has fired: its event was told, or its time is over, or it goes on. Returns whether it is over.
    pub(crate) fn event_or_end(&mut self, id: TaskId) -> bool {
        let now = self.now;
        let call = self.unwait(id);
        let journal = self.journals.get_mut(&id).expect("a journal");
        let wait = journal.waits.get_mut(&call).expect("a wait");
        let Noted::Waiting(due) = journal.entries[&call].noted else { panic!("{call} is no wait") };
        let found = self.voices.find(&wait.awaited, wait.behind);
        if let Some(Some((at, event))) = found {
            *journal.bytes.get_or_insert(0) += event.len() as u64;
            wait.found = Some((at, event));
            return self.meet("a wait found its event", true);
        }
        let name = wait.awaited.clone();
        if found.is_none() {
            self.meet("an event had left the stream", ());
        }
        if now >= due {
            return self.meet("a wait ended without its event", true);
        }
        self.voices.waiting.entry(name).or_default().push(id);
        let place = &mut self.tasks.get_mut(&id).expect("a task").place;
        *place = Place::Parked { approval: None, over: due, event: true };
        self.meet("a wait went on", false)
    }
}

/// What Redis should hold of all that.
pub(crate) fn expected(model: &Reference, mut put: impl FnMut(&str, Vec<u8>, Vec<u8>)) {
    let voices = &model.voices;
    for (id, at) in &voices.seen {
        put("x", id_bytes(*id), at.to_string().into_bytes());
    }
    for (name, waiting) in &voices.waiting {
        put("O", name.clone().into_bytes(), waiting.iter().flat_map(|id| id_bytes(*id)).collect());
    }
    for (hour, names) in &voices.named {
        for (name, (ms, seq)) in names {
            put(&format!("v{hour}"), name.clone().into_bytes(), format!("{ms}-{seq}").into_bytes());
        }
    }
    for (queue, quiet) in &model.quiet {
        put("quiet", queue.clone().into_bytes(), if *quiet { b"off".to_vec() } else { b"ended".to_vec() });
    }
}

/// Who waits by `O` is who waits for an event by its record, counted on Redis alone.
pub(crate) fn no_orphans(waiting: &[&Vec<u8>], flags: &BTreeMap<&[u8], u16>) {
    let named: Vec<&[u8]> = waiting.iter().flat_map(|ids| ids.chunks(14)).collect();
    let once: BTreeSet<&[u8]> = named.iter().copied().collect();
    assert_eq!(named.len(), once.len(), "somebody waits twice for an event");
    let should = flags.iter().filter(|(_, flags)| **flags & 64 != 0).map(|(id, _)| *id).collect();
    assert_eq!(once, should, "who waits for an event");
}
