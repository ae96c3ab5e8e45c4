//! What durable calls go through, counted where it happens.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use orchestrator::{Assignment, ChunkBatch, Entry, Progress, TaskId, Telling};

use crate::durable::{Ledger, Moment};
use crate::voice::{Mouth, Pace};

/// What one durable call has gone through, over all attempts of its task.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counts {
    /// `step`, `once`, `sleep` or `approval`.
    pub kind: &'static str,
    /// How often its work began.
    pub begun: u32,
    /// How often its work ran to its end.
    pub ended: u32,
    /// How often it was noted as done.
    pub noted: u32,
    /// How often its intent was noted.
    pub intended: u32,
    /// How often nobody knew whether its work was done.
    pub unknown: u32,
}

impl Counts {
    pub(super) fn add(&mut self, other: &Self) {
        self.kind = other.kind;
        self.begun += other.begun;
        self.ended += other.ended;
        self.noted += other.noted;
        self.intended += other.intended;
        self.unknown += other.unknown;
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, begun, ended, noted, unknown, .. } = self;
        write!(f, "{kind}: begun {begun}, ended {ended}, noted {noted}")?;
        if *unknown > 0 { write!(f, ", unknown {unknown}") } else { Ok(()) }
    }
}

/// The counts of all durable calls since it was cleared. Clones share them.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    /// In the order of their first attempts.
    tasks: Vec<TaskId>,
    calls: BTreeMap<String, Counts>,
    /// The durable call that something happened to last, and what.
    last: Option<(String, Moment)>,
}

impl Tally {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    pub(super) fn clear(&self) {
        *self.inner() = Inner::default();
    }

    /// `ledger` with its durable calls counted here; an attempt at `task` begins.
    pub(super) fn over<L: Ledger>(&self, ledger: L, task: TaskId) -> Counted<L> {
        let mut inner = self.inner();
        inner.last = None;
        let number = inner.tasks.iter().position(|known| *known == task).unwrap_or_else(|| {
            inner.tasks.push(task);
            inner.tasks.len() - 1
        });
        // The first is the one that the test is about; the others are its children.
        let prefix = if number == 0 { String::new() } else { format!("task {}: ", number + 1) };
        Counted { ledger, tally: self.clone(), prefix }
    }

    /// All durable calls by name.
    pub(super) fn calls(&self) -> BTreeMap<String, Counts> {
        self.inner().calls.clone()
    }

    pub(super) fn of(&self, name: &str) -> Counts {
        self.inner().calls.get(name).copied().unwrap_or_default()
    }

    /// Effects that were begun and not noted as done: what became of them nobody knows if the worker dies now.
    pub(super) fn open(&self) -> Vec<String> {
        let inner = self.inner();
        inner.calls.iter().filter(|(_, c)| c.intended > c.noted).map(|(name, _)| name.clone()).collect()
    }

    /// Where the handler is, in words.
    pub(super) fn place(&self) -> String {
        match &self.inner().last {
            None => "before its first durable call".into(),
            Some((name, Moment::Called(kind))) => format!("at the {kind} `{name}`, before its work"),
            Some((name, Moment::Begins)) => format!("while the work of `{name}` ran"),
            Some((name, Moment::Ended | Moment::Noted)) => format!("while `{name}` was being noted as done"),
            Some((name, Moment::Intended)) => format!("while the intent of `{name}` was being noted"),
            Some((name, Moment::Unknown | Moment::Returned)) => format!("after `{name}` had returned"),
        }
    }

    fn hear(&self, name: String, moment: Moment) {
        let mut inner = self.inner();
        let counts = inner.calls.entry(name.clone()).or_default();
        match moment {
            Moment::Called(kind) => counts.kind = kind,
            Moment::Begins => counts.begun += 1,
            Moment::Ended => counts.ended += 1,
            Moment::Noted => counts.noted += 1,
            Moment::Intended => counts.intended += 1,
            Moment::Unknown => counts.unknown += 1,
            Moment::Returned => {}
        }
        inner.last = Some((name, moment));
    }
}

/// A ledger whose durable calls are counted.
pub(super) struct Counted<L> {
    ledger: L,
    tally: Tally,
    prefix: String,
}

#[async_trait]
impl<L: Ledger> Ledger for Counted<L> {
    async fn load(&self) -> orchestrator::Result<Vec<(String, Entry)>> {
        self.ledger.load().await
    }

    async fn note(&self, name: &str, entry: &Entry, tellings: &[Telling]) -> orchestrator::Result {
        self.ledger.note(name, entry, tellings).await
    }

    async fn has_passed(&self, gate: &str, flagged: bool) -> orchestrator::Result<bool> {
        self.ledger.has_passed(gate, flagged).await
    }

    fn now_ms(&self) -> u64 {
        self.ledger.now_ms()
    }

    fn new_id(&self) -> TaskId {
        self.ledger.new_id()
    }

    fn mouth(&self) -> Box<dyn Mouth> {
        Box::new(AtOnce(self.ledger.mouth()))
    }

    fn hear(&self, name: &str, moment: Moment) {
        self.tally.hear(format!("{}{name}", self.prefix), moment);
    }
}

/// Tells without waiting for more, so that the awaits of two runs are the same.
struct AtOnce(Box<dyn Mouth>);

#[async_trait]
impl Mouth for AtOnce {
    async fn progress(&self, task: &Assignment, progress: &Progress, id: TaskId) -> orchestrator::Result {
        self.0.progress(task, progress, id).await
    }

    async fn put_out(&self, task: &Assignment, batch: &ChunkBatch) -> orchestrator::Result<u64> {
        self.0.put_out(task, batch).await
    }

    fn new_id(&self) -> TaskId {
        self.0.new_id()
    }

    fn pace(&self) -> Pace {
        Pace::AT_ONCE
    }

    fn hear(&self, progress: &Progress) {
        self.0.hear(progress);
    }
}
