//! What a handler does for good: durable calls, replayed from the task's journal when the handler is entered anew, and the
//! ways in which a call ends the attempt instead of returning.
//!
//! **Invariant:** a call that ends the attempt never returns, and what it asks for goes before whatever the handler returns,
//! so no handler can swallow it. A wait lets the work of other calls come to its end and be noted first.
//!
//! Whether the handler is still the one that wrote the journal is told by name, kind and digest of the input; and, when the
//! handler's own text is another than it was, by place: one after the other, the calls come in the order in which they
//! were noted. Calls made side by side have no place.

use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use orchestrator::{
    Assignment, Entry, Error, EventCursor, Incarnation, NewEvent, Noted, RESULT_BYTES_MAX, TaskId, Telling, Ticket,
    Wait, digest,
};
use tokio::sync::{Notify, OnceCell};

use crate::handler::Payload;
use crate::voice::Mouth;
use crate::{TaskError, TaskResult};

/// Pause before asking Redis again.
const BREATH: Duration = Duration::from_millis(200);

/// Where a journal is kept.
#[async_trait]
pub(crate) trait Ledger: Send + Sync {
    async fn load(&self) -> orchestrator::Result<Vec<(String, Entry)>>;
    /// Notes an entry, and what was told since the last one.
    async fn note(&self, name: &str, entry: &Entry, tellings: &[Telling]) -> orchestrator::Result;
    /// Whether the task has passed the gate with this digest; `flagged` says that it has passed one at all.
    async fn has_passed(&self, gate: &str, flagged: bool) -> orchestrator::Result<bool>;
    /// The server's clock in Unix milliseconds.
    fn now_ms(&self) -> u64;
    /// An id for something that the task tells.
    fn new_id(&self) -> TaskId;
    /// Where what the handler tells of its work is told.
    fn mouth(&self) -> Box<dyn Mouth>;
    /// Hears how the durable calls go on; for tests.
    fn hear(&self, _name: &str, _moment: Moment) {}
}

/// What happens to a durable call within an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    /// The handler has come to it: a call of this kind.
    Called(&'static str),
    /// Its work begins.
    Begins,
    /// Its work has ended well.
    Ended,
    /// It is about to be sent as done.
    Noted,
    /// Its intent is about to be sent.
    Intended,
    /// Nobody knows whether its work was done.
    Unknown,
    /// It has returned, now or from the journal.
    Returned,
}

#[async_trait]
impl Ledger for (Incarnation, Ticket) {
    async fn load(&self) -> orchestrator::Result<Vec<(String, Entry)>> {
        self.0.journal(self.1).await
    }

    async fn note(&self, name: &str, entry: &Entry, tellings: &[Telling]) -> orchestrator::Result {
        self.0.note(self.1, name, entry, tellings).await
    }

    async fn has_passed(&self, gate: &str, flagged: bool) -> orchestrator::Result<bool> {
        Ok(flagged && self.0.has_passed(self.1, gate).await?)
    }

    fn mouth(&self) -> Box<dyn Mouth> {
        Box::new(self.clone())
    }

    fn now_ms(&self) -> u64 {
        self.0.now_ms()
    }

    fn new_id(&self) -> TaskId {
        self.0.new_id()
    }
}

/// Why an attempt ends from within a durable call.
#[derive(Debug)]
pub(crate) enum Leaving {
    /// The task waits.
    Park(Box<Wait>),
    /// It cannot go on; the word says why.
    Fatal { reason: &'static str, error: String },
    /// It is not this worker's any more.
    Lost,
}

/// The durable calls of one attempt.
pub(crate) struct Durable {
    ledger: Box<dyn Ledger>,
    /// Fingerprint of the handler.
    code: u32,
    entries: OnceCell<HashMap<String, Entry>>,
    calls: Mutex<Calls>,
    /// What was told and is not noted yet.
    outbox: Mutex<Vec<Telling>>,
    leaving: Mutex<Option<Leaving>>,
    left: Notify,
}

/// A call that waits for the attempt to be left.
struct Waiting<'d>(&'d Durable);

impl<'d> Waiting<'d> {
    fn new(durable: &'d Durable) -> Self {
        durable.calls().waiting += 1;
        Self(durable)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        // What it asked for stays asked; but it is none of those any more that may be cut off.
        self.0.calls().waiting -= 1;
        self.0.left.notify_one();
    }
}

/// What was taken out of the outbox to be sent along; back in it unless Redis has it.
struct Posted<'d> {
    durable: &'d Durable,
    tellings: Vec<Telling>,
}

impl Drop for Posted<'_> {
    fn drop(&mut self) {
        // Should Redis have them after all: it tells an event of one id once.
        self.durable.outbox().splice(0..0, self.tellings.drain(..));
    }
}

#[derive(Default)]
struct Calls {
    /// Calls made so far.
    order: u16,
    under_way: usize,
    /// Those among them that wait for the attempt to be left.
    waiting: usize,
    side_by_side: bool,
    used: HashSet<String>,
    unnamed: HashMap<String, u32>,
}

impl Calls {
    /// The next name of its kind.
    fn number(&mut self, kind: &str) -> String {
        let n = self.unnamed.entry(kind.to_owned()).or_default();
        *n += 1;
        format!("{kind}#{n}")
    }

    /// The first name of calls about `what` that this attempt has not used and that `fits`.
    fn number_of(&self, kind: &str, what: &str, fits: impl Fn(&str) -> bool) -> String {
        // A type may be as long as a name, and is checked later.
        let what: String = what.chars().filter(char::is_ascii_graphic).take(100).collect();
        let names = (1_u32..).map(|n| format!("{kind} {what}#{n}"));
        names.into_iter().find(|name| !self.used.contains(name) && fits(name)).unwrap_or_default()
    }
}

/// What a durable call goes by in the journal.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Name<'n> {
    /// Its own name.
    Own(&'n str),
    /// Its kind, and its number among those.
    Number,
    /// Its kind and this, and its number among those with the same input: the order of others means nothing.
    Of(&'n str),
}

impl<'n> From<Option<&'n str>> for Name<'n> {
    fn from(name: Option<&'n str>) -> Self {
        name.map_or(Self::Number, Self::Own)
    }
}

tokio::task_local! {
    /// The step whose work runs.
    static WITHIN: String;
}

/// Runs the work of a step.
pub(crate) async fn within<W: Future>(step: &str, work: W) -> W::Output {
    WITHIN.scope(step.to_owned(), work).await
}

/// The step whose work runs here, if any does.
fn enclosing() -> Option<String> {
    WITHIN.try_with(Clone::clone).ok()
}

/// One durable call; over when dropped.
pub(crate) struct Call<'d> {
    durable: &'d Durable,
    pub(crate) name: String,
    order: u16,
    side_by_side: bool,
    digest: [u8; 8],
    /// What was noted of it before.
    pub(crate) noted: Option<Noted>,
    /// Whether it has been noted, or found noted.
    kept: AtomicBool,
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        let mut calls = self.durable.calls();
        calls.under_way -= 1;
        if !self.kept.load(Ordering::Relaxed) {
            // Given up on, under a timeout for example: it may be tried again under its name.
            calls.used.remove(&self.name);
        }
        drop(calls);
        self.durable.left.notify_one();
    }
}

impl Call<'_> {
    pub(crate) fn entry(&self, noted: Noted) -> Entry {
        let code = self.durable.code;
        Entry { order: self.order, side_by_side: self.side_by_side, code, digest: self.digest, noted }
    }

    pub(crate) fn tell(&self, moment: Moment) {
        self.durable.ledger.hear(&self.name, moment);
    }

    /// Notes it, for as long as the attempt may last: what was done is not to be done again.
    pub(crate) async fn note(&self, noted: Noted) {
        self.tell(if noted == Noted::Begun { Moment::Intended } else { Moment::Noted });
        let entry = self.entry(noted);
        let mut posted = Posted { durable: self.durable, tellings: std::mem::take(&mut *self.durable.outbox()) };
        loop {
            match self.durable.ledger.note(&self.name, &entry, &posted.tellings).await {
                Ok(()) => {
                    posted.tellings.clear();
                    return self.kept.store(true, Ordering::Relaxed);
                }
                Err(Error::LeaseLost) => self.durable.leave(Leaving::Lost).await,
                Err(Error::Unavailable { reason, .. }) => {
                    tracing::warn!(reason, name = self.name, "Redis did not take a durable step; it is sent again");
                    tokio::time::sleep(BREATH).await;
                }
                Err(error) => self.durable.fatal("journal", error).await,
            }
        }
    }

    /// Notes what came of it, and returns it as every later attempt will get it.
    pub(crate) async fn keep<T: Payload>(&self, value: &T, noted: fn(Vec<u8>) -> Noted) -> T {
        let output = match orchestrator::encode_value("output", value, RESULT_BYTES_MAX) {
            Ok(output) => output,
            Err(error) => return self.durable.fatal("journal", format!("`{}`: {error}", self.name)).await,
        };
        self.note(noted(output.clone())).await;
        match orchestrator::decode_value(&output) {
            Ok(value) => value,
            Err(error) => {
                let what = format!(
                    "`{}` was done and noted, but what it returned does not read back as what was written: {error}. Give \
                     it a type that does",
                    self.name
                );
                self.durable.fatal("output", what).await
            }
        }
    }

    /// The output of a step as a `T`.
    pub(crate) async fn output<T: Payload>(&self, bytes: &[u8]) -> T {
        match orchestrator::decode_value(bytes) {
            Ok(value) => value,
            Err(error) => {
                let what = format!("what `{}` returned then cannot be read as what it returns now: {error}", self.name);
                self.durable.changed(&what).await
            }
        }
    }
}

impl Durable {
    pub(crate) fn new(ledger: impl Ledger + 'static, task: &Assignment, code: u32) -> Self {
        let entries = OnceCell::new();
        if !task.has_journal() {
            // Nothing was noted: one round trip less.
            let _ = entries.set(HashMap::new());
        }
        let (calls, leaving, left) = (Mutex::default(), Mutex::new(None), Notify::new());
        Self { ledger: Box::new(ledger), code, entries, calls, outbox: Mutex::default(), leaving, left }
    }

    fn outbox(&self) -> MutexGuard<'_, Vec<Telling>> {
        self.outbox.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// What was told and not noted: it goes with the attempt's end.
    pub(crate) fn take_outbox(&self) -> Vec<Telling> {
        std::mem::take(&mut *self.outbox())
    }

    /// Tells an event with the next note, or with the end. It is known again by its type and what it is about, and by the step
    /// within which it was told: that one's work does not run again.
    pub(crate) async fn tell(&self, event: &NewEvent) -> TaskResult<String> {
        let about = format!("{} within {}", event.names(), enclosing().unwrap_or_default());
        let call = self.begin("publish", Name::Of(event.event_type()), Some(about.as_bytes())).await;
        if let Some(Noted::Told(id)) = &call.noted {
            return Ok(id.to_string());
        }
        let entry = call.entry(Noted::Begun);
        let telling = Telling::new(event, &call.name, entry, self.ledger.new_id()).map_err(TaskError::fatal)?;
        let mut outbox = self.outbox();
        telling.check_room(&outbox).map_err(TaskError::fatal)?;
        let id = telling.event_id().to_string();
        outbox.push(telling);
        call.kept.store(true, Ordering::Relaxed);
        Ok(id)
    }

    /// Where the last event that was found by a name with this digest stands.
    pub(crate) fn found(&self, digest: [u8; 8]) -> Option<EventCursor> {
        let entries = self.entries.get().into_iter().flatten();
        let found = entries.filter_map(|(_, entry)| match &entry.noted {
            Noted::Found(event) if entry.digest == digest => Some(event.cursor),
            _ => None,
        });
        found.max()
    }

    fn calls(&self) -> MutexGuard<'_, Calls> {
        self.calls.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    pub(crate) fn now_ms(&self) -> u64 {
        self.ledger.now_ms()
    }

    /// Resolves when a call ends the attempt.
    pub(crate) async fn left(&self) -> Leaving {
        loop {
            let told = self.left.notified();
            if self.may_leave()
                && let Some(leaving) = self.take_leaving()
            {
                return leaving;
            }
            told.await;
        }
    }

    /// Whether no work of another call would be cut off by leaving now.
    fn may_leave(&self) -> bool {
        let calls = self.calls();
        let leaving = self.leaving.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        !matches!(&*leaving, Some(Leaving::Park(_))) || calls.under_way <= calls.waiting
    }

    /// What a call has asked for, if one has.
    pub(crate) fn take_leaving(&self) -> Option<Leaving> {
        self.leaving.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take()
    }

    /// Ends the attempt. The first wait counts, and what ends it for good goes before.
    pub(crate) async fn leave<T>(&self, leaving: Leaving) -> T {
        let leaving = match (leaving, enclosing()) {
            (Leaving::Park(_), Some(step)) => {
                let error = format!("within the step `{step}` nothing can be waited for: wait before it or after it");
                Leaving::Fatal { reason: "step", error }
            }
            (leaving, _) => leaving,
        };
        let _waiting = Waiting::new(self);
        {
            let mut asked = self.leaving.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            if asked.is_none() || matches!(&*asked, Some(Leaving::Park(_))) && !matches!(leaving, Leaving::Park(_)) {
                *asked = Some(leaving);
            }
        }
        self.left.notify_one();
        std::future::pending().await
    }

    pub(crate) async fn fatal<T>(&self, reason: &'static str, error: impl ToString) -> T {
        self.leave(Leaving::Fatal { reason, error: error.to_string() }).await
    }

    async fn changed<T>(&self, what: &str) -> T {
        let error = format!(
            "the handler is not the one that began this task: {what}. It was stopped there. Bring the old handler back, or \
             write the new one so that it makes the same durable calls up to here, then retry the task: its journal is kept"
        );
        self.fatal("changed", error).await
    }

    /// Begins a durable call.
    pub(crate) async fn begin(&self, kind: &'static str, name: Name<'_>, input: Option<&[u8]>) -> Call<'_> {
        let entries = self.entries().await;
        let digest = input.map(digest).unwrap_or_default();
        let (name, order, side_by_side, twice) = {
            let mut calls = self.calls();
            calls.order = calls.order.saturating_add(1);
            calls.side_by_side |= calls.under_way > 0;
            calls.under_way += 1;
            let name = match name {
                Name::Own(name) => name.to_owned(),
                Name::Number => calls.number(kind),
                Name::Of(what) => {
                    calls.number_of(kind, what, |name| entries.get(name).is_none_or(|e| e.digest == digest))
                }
            };
            let twice = !calls.used.insert(name.clone());
            (name, calls.order, calls.side_by_side, twice)
        };
        let mut call =
            Call { durable: self, name, order, side_by_side, digest, noted: None, kept: AtomicBool::new(true) };
        if twice {
            let error =
                format!("the name `{}` is used twice by durable calls of one handler; each needs its own", call.name);
            return self.fatal("twice", error).await;
        }
        if let Err(error) = orchestrator::check_entry_name(&call.name) {
            return self.fatal("journal", error).await;
        }
        call.tell(Moment::Called(kind));
        let found = entries.get(&call.name);
        if let Some(entry) = found {
            let known = match entry.noted {
                Noted::Step(_) => "step",
                Noted::Begun | Noted::Done(_) => "once",
                Noted::Sleep(_) => "sleep",
                Noted::Told(_) => "publish",
                Noted::Waiting(_) | Noted::Found(_) => "event",
                Noted::Asked { .. } => "approval",
            };
            if known != kind {
                return self.changed(&format!("`{}` was a {known} and is a {kind} now", call.name)).await;
            }
            if entry.digest != digest && kind != "approval" {
                return self.changed(&format!("the input of `{}` is another than it was", call.name)).await;
            }
        }
        // While its text is the same, another order comes of calls that are not one after the other.
        let placed = |entry: &Entry| !entry.side_by_side && entry.code != self.code;
        if !side_by_side {
            let there = entries.iter().find(|(_, entry)| entry.order == order && placed(entry));
            match (there, found) {
                (Some((other, _)), _) if *other != call.name => {
                    return self.changed(&format!("call {order} was `{other}` and is `{}` now", call.name)).await;
                }
                (None, Some(entry)) if placed(entry) => {
                    let what = format!("`{}` was call {} and is call {order} now", call.name, entry.order);
                    return self.changed(&what).await;
                }
                _ => {}
            }
        }
        call.noted = found.map(|entry| entry.noted.clone());
        call.kept = AtomicBool::new(found.is_some());
        call
    }

    /// Whether the task has passed the gate with this digest; asked for until Redis answers.
    pub(crate) async fn has_passed(&self, gate: &str, flagged: bool) -> bool {
        loop {
            match self.ledger.has_passed(gate, flagged).await {
                Ok(passed) => return passed,
                Err(error) => {
                    tracing::warn!(%error, "it could not be asked whether a task has passed its gate; it is asked again");
                    tokio::time::sleep(BREATH).await;
                }
            }
        }
    }

    /// Reads the journal before the handler begins, so that a call which it answers is ready at once.
    pub(crate) async fn ready(&self) {
        self.entries().await;
    }

    async fn entries(&self) -> &HashMap<String, Entry> {
        let load = || async {
            loop {
                match self.ledger.load().await {
                    Ok(entries) => return entries.into_iter().collect(),
                    Err(Error::Unavailable { reason, .. }) => {
                        tracing::warn!(reason, "the task's journal could not be read; it is asked for again");
                        tokio::time::sleep(BREATH).await;
                    }
                    Err(error) => self.fatal("journal", error).await,
                }
            }
        };
        self.entries.get_or_init(load).await
    }

    /// Names in the journal that this attempt has not come to.
    pub(crate) fn left_out(&self) -> Vec<String> {
        let calls = self.calls();
        let entries = self.entries.get().into_iter().flatten();
        entries.map(|(name, _)| name).filter(|name| !calls.used.contains(*name)).cloned().collect()
    }
}
