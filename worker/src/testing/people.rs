//! What tests say in the name of people, what tasks end with, and effects that are counted.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};

use orchestrator::{Approver, Ballot, Status, Task};
use serde::Serialize;
use serde_json::Value;

/// One person's answer to a question: `Answer::yes("alice").role("sre").note("go")`.
#[derive(Clone, Debug)]
#[must_use = "an answer counts once it is given"]
pub struct Answer {
    pub(super) verdict: Verdict,
    pub(super) approver: Approver,
    pub(super) note: String,
    pub(super) form: Option<Value>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Yes,
    No,
    Nobody,
}

impl Answer {
    fn new(verdict: Verdict, name: &str, note: &str) -> Self {
        Self { verdict, approver: Approver::named(name), note: note.into(), form: None }
    }

    /// `name` says yes.
    pub fn yes(name: &str) -> Self {
        Self::new(Verdict::Yes, name, "")
    }

    /// `name` says no, and why.
    pub fn no(name: &str, why: &str) -> Self {
        Self::new(Verdict::No, name, why)
    }

    /// Nobody decides until the question expires.
    pub fn nobody() -> Self {
        Self::new(Verdict::Nobody, "nobody", "")
    }

    /// They have this role: `sre`.
    pub fn role(mut self, role: &str) -> Self {
        self.approver = self.approver.role(role);
        self
    }

    /// They write this beside it.
    pub fn note(mut self, note: &str) -> Self {
        self.note = note.into();
        self
    }

    /// They fill in the form: a struct or a map with its fields.
    ///
    /// # Panics
    /// When it cannot be written as JSON.
    pub fn form(mut self, form: impl Serialize) -> Self {
        match serde_json::to_value(form) {
            Ok(form) => self.form = Some(form),
            Err(error) => panic!("the form of {} cannot be written: {error}", self.approver.name),
        }
        self
    }

    pub(super) fn ballot(self) -> Ballot {
        let ballot = match self.verdict {
            Verdict::Yes => Ballot::approve(self.approver),
            _ => Ballot::reject(self.approver),
        };
        let ballot = ballot.note(&self.note);
        self.form.into_iter().fold(ballot, Ballot::form)
    }
}

/// How a task ended that did not complete.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ended {
    /// `failed` or `cancelled`.
    pub status: Status,
    /// One word for why: `retries`, `fatal`, `rejected`, `timeout`, `changed` …
    pub reason: String,
    /// The error as it is kept with the task.
    pub error: String,
}

impl Ended {
    pub(super) fn failed(reason: &str, error: String) -> Self {
        Self { status: Status::Failed, reason: reason.into(), error }
    }

    pub(super) fn of(task: Task) -> Self {
        let (reason, error) = (task.reason.unwrap_or_default(), task.error.unwrap_or_default());
        Self { status: task.status, reason, error }
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}): {}", self.status, self.reason, self.error)
    }
}

impl std::error::Error for Ended {}

/// Counts what a handler does outside, for fakes: give one to the fake, and have it count where the effect would be seen.
/// Clones share the counts.
///
/// [`Harness::crash_everywhere`](super::Harness::crash_everywhere) checks that each effect happens as often with a crash
/// as without one.
#[derive(Clone, Debug, Default)]
pub struct Effects(Arc<Mutex<BTreeMap<String, u32>>>);

impl Effects {
    fn counts(&self) -> MutexGuard<'_, BTreeMap<String, u32>> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// The effect happens.
    pub fn happen(&self, name: &str) {
        *self.counts().entry(name.into()).or_default() += 1;
    }

    /// How often it has happened.
    #[must_use]
    pub fn count(&self, name: &str) -> u32 {
        self.counts().get(name).copied().unwrap_or(0)
    }

    /// All effects that have happened.
    #[must_use]
    pub fn all(&self) -> BTreeMap<String, u32> {
        self.counts().clone()
    }

    pub(super) fn clear(&self) {
        self.counts().clear();
    }
}
