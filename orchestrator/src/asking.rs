//! A question on its way to Redis.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::approval::{NOTE_BYTES_MAX, SHOWN_BYTES_MAX, payload_hash};
use crate::codec::{self, PAYLOAD_BYTES_MAX};
use crate::condition::Facts;
use crate::policy::{Gate, Terms, millis};
use crate::{Assignment, Error, Priority, Result};

/// What is asked, on its way to Redis.
#[derive(Clone, Debug)]
pub struct Asking {
    pub(crate) request: Request,
    pub(crate) terms: Terms,
    pub(crate) requested_by: Option<String>,
    pub(crate) hash: String,
    pub(crate) due_ms: u64,
    /// Digest of the handler's gate that it opens; empty for none.
    pub(crate) gate: String,
}

/// The part of an approval that never changes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Request {
    #[serde(rename = "t")]
    pub(crate) task_type: String,
    #[serde(rename = "p")]
    pub(crate) priority: Priority,
    #[serde(rename = "r")]
    pub(crate) reason: String,
    #[serde(rename = "q", default)]
    pub(crate) question: String,
    #[serde(rename = "f", default)]
    pub(crate) form: Vec<String>,
    #[serde(rename = "s")]
    pub(crate) shown: Value,
    /// Whether a gate asks, and not a handler on its way.
    #[serde(rename = "g", default)]
    pub(crate) gate: bool,
    /// That of the task.
    #[serde(rename = "tn", default, skip_serializing_if = "Option::is_none")]
    pub(crate) tenant: Option<String>,
    /// The agent outside that asks, or who had a schedule make the task; may not answer itself.
    #[serde(rename = "ab", default, skip_serializing_if = "Option::is_none")]
    pub(crate) asked_by: Option<String>,
    /// Who had a schedule make the task, where an agent outside asks; may not answer either.
    #[serde(rename = "tb", default, skip_serializing_if = "Option::is_none")]
    pub(crate) triggered_by: Option<String>,
}

/// As `cmsgpack.unpack` takes it in the scripts.
#[derive(Serialize)]
struct Packed<'a> {
    /// As JSON: the scripts' reader knows no binary.
    v: String,
    by: String,
    q: u8,
    own: &'a str,
    hash: &'a str,
    ex: u64,
    due: u64,
    rem: u64,
    after: u64,
    esc: &'a str,
    gd: &'a str,
}

impl Asking {
    /// Asks about `shown`: all of it counts for the hash, and as much as fits is kept.
    ///
    /// # Errors
    /// [`Error::Invalid`] for terms out of their bounds and texts that are too long.
    pub(crate) fn new(request: Request, terms: Terms, requested_by: Option<String>) -> Result<Self> {
        terms.check()?;
        if request.question.len() > NOTE_BYTES_MAX || request.reason.len() > NOTE_BYTES_MAX {
            return Err(Error::invalid(format!("a question and a reason have at most {NOTE_BYTES_MAX} bytes each")));
        }
        codec::encode("value that is shown", &request.shown, 4 * PAYLOAD_BYTES_MAX)?;
        let hash = payload_hash(&request.shown);
        Ok(Self { request, terms, requested_by, hash, due_ms: 0, gate: String::new() })
    }

    /// Asks in the name of a running task about what its handler shows.
    ///
    /// # Errors
    /// [`Error::Invalid`] for terms out of their bounds, texts that are too long, and more than [`SHOWN_BYTES_MAX`] shown.
    pub fn about(task: &Assignment, shown: Value, question: &str, form: Vec<String>, terms: Terms) -> Result<Self> {
        let bytes = shown.to_string().len();
        if bytes > SHOWN_BYTES_MAX {
            return Err(Error::invalid(format!(
                "what is shown for an approval has {bytes} bytes of JSON; at most {SHOWN_BYTES_MAX} are allowed. Show a \
                 summary with a digest of the whole"
            )));
        }
        let request = Request {
            task_type: task.task_type().into(),
            priority: task.priority(),
            reason: "its handler asks".into(),
            question: question.into(),
            form,
            shown,
            gate: false,
            tenant: task.tenant().map(Into::into),
            asked_by: task.asked_by().map(Into::into),
            triggered_by: None,
        };
        Self::new(request, terms, task.requested_by().map(Into::into))
    }

    /// What a task has to ask before it may run when its handler has a gate; `None` when the gate lets it through.
    ///
    /// # Errors
    /// As [`Asking::about`].
    pub fn at_gate(task: &Assignment, gate: &Gate) -> Result<Option<Self>> {
        let args = task.args();
        let facts = Facts {
            task_type: task.task_type(),
            priority: task.priority(),
            source: task.source(),
            metadata: task.metadata(),
            args: &args,
        };
        if !gate.stops(&facts) {
            return Ok(None);
        }
        let request = Request {
            task_type: task.task_type().into(),
            priority: task.priority(),
            reason: "its handler asks for it".into(),
            question: String::new(),
            form: Vec::new(),
            shown: args,
            gate: true,
            tenant: task.tenant().map(Into::into),
            asked_by: task.asked_by().map(Into::into),
            triggered_by: None,
        };
        let asking = Self::new(request, gate.terms.clone(), task.requested_by().map(Into::into))?;
        Ok(Some(Self { gate: gate.digest(), ..asking }))
    }

    /// Names the agent outside that asks.
    pub(crate) fn asked_by(mut self, agent: &str) -> Self {
        self.request.triggered_by = self.request.asked_by.replace(agent.into());
        self
    }

    /// SHA-256 of what is shown.
    #[must_use]
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// `timeout` is how long it waits unless its terms say otherwise.
    pub(crate) fn pack(&self, timeout: Duration) -> Result<Vec<u8>> {
        let mut request = self.request.clone();
        let text = request.shown.to_string();
        if text.len() > SHOWN_BYTES_MAX {
            let mut end = SHOWN_BYTES_MAX / 8;
            while !text.is_char_boundary(end) {
                end -= 1;
            }
            request.shown = Value::from(format!(
                "({} bytes of JSON, too large to be shown here; it begins with {})",
                text.len(),
                &text[..end]
            ));
        }
        let (after, esc) = self.terms.escalate.as_ref().map_or((0, ""), |(after, who)| (*after, who.as_str()));
        let packed = Packed {
            v: serde_json::to_string(&request)
                .map_err(|error| Error::invalid(format!("what is shown cannot be written: {error}")))?,
            by: self.terms.by.join(" "),
            q: self.terms.quorum,
            own: self.requested_by.as_deref().unwrap_or_default(),
            hash: &self.hash,
            ex: self.terms.expires_ms.unwrap_or_else(|| millis(timeout)),
            due: self.due_ms,
            rem: self.terms.remind_ms.unwrap_or(0),
            after,
            esc,
            gd: &self.gate,
        };
        codec::encode("approval", &packed, 8 * SHOWN_BYTES_MAX)
    }
}
