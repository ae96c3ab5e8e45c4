//! A new task put away, to be made again and again: what it says of itself, and nothing that is of one task alone.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{NewTask, Policies, Rules};
use crate::policy::Gate;
use crate::retry::MAX_RETRIES_DEFAULT;
use crate::sla::SlaTerms;
use crate::unique::Unique;
use crate::{Backoff, Error, Priority, Result, Source, Span};

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_usual(retries: &u8) -> bool {
    *retries == MAX_RETRIES_DEFAULT
}

fn usual() -> u8 {
    MAX_RETRIES_DEFAULT
}

/// What all tasks of a schedule have in common. Short names; what has its default is left out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Template {
    #[serde(rename = "t")]
    pub(crate) task_type: String,
    #[serde(rename = "q", default, skip_serializing_if = "Option::is_none")]
    pub(crate) queue: Option<String>,
    #[serde(rename = "h", default, skip_serializing_if = "Option::is_none")]
    home: Option<String>,
    #[serde(rename = "p", default, skip_serializing_if = "is_default")]
    pub(crate) priority: Priority,
    #[serde(rename = "s", default, skip_serializing_if = "is_default")]
    pub(crate) source: Source,
    #[serde(rename = "r", default = "usual", skip_serializing_if = "is_usual")]
    pub(crate) max_retries: u8,
    #[serde(rename = "m", default, skip_serializing_if = "is_default")]
    pub(crate) metadata: serde_json::Map<String, Value>,
    #[serde(rename = "st", default, skip_serializing_if = "Option::is_none")]
    pub(crate) sla_target: Option<String>,
    #[serde(rename = "sl", default, skip_serializing_if = "Option::is_none")]
    sla: Option<SlaTerms>,
    /// Gate and promise of the handler that the maker had in its hands.
    #[serde(rename = "hg", default, skip_serializing_if = "Option::is_none")]
    gate: Option<Gate>,
    #[serde(rename = "hs", default, skip_serializing_if = "Option::is_none")]
    promise: Option<SlaTerms>,
    #[serde(rename = "x", default, skip_serializing_if = "Option::is_none")]
    pub(crate) expires: Option<String>,
    #[serde(rename = "b", default, skip_serializing_if = "Option::is_none")]
    backoff: Option<Backoff>,
    #[serde(rename = "u", default, skip_serializing_if = "Option::is_none")]
    unique: Option<Unique>,
    /// Of its handler: milliseconds.
    #[serde(rename = "hx", default, skip_serializing_if = "Option::is_none")]
    handler_expires_ms: Option<u64>,
    #[serde(rename = "hu", default, skip_serializing_if = "Option::is_none")]
    handler_unique: Option<Unique>,
    #[serde(rename = "by", default, skip_serializing_if = "Option::is_none")]
    pub(crate) requested_by: Option<String>,
    #[serde(rename = "tn", default, skip_serializing_if = "Option::is_none")]
    pub(crate) tenant: Option<String>,
    /// One MessagePack value; kept behind the others.
    #[serde(skip)]
    pub(crate) payload: Vec<u8>,
}

impl<T> NewTask<T> {
    /// What is to be made again and again.
    ///
    /// # Errors
    /// [`Error::Invalid`] for what can be said of one task alone.
    pub(crate) fn template(&self) -> Result<Template> {
        let once = [
            ("an id", self.id.is_some()),
            ("an idempotency key", self.idempotency_key.is_some()),
            ("a parent", self.parent.is_some()),
            ("a trace", self.trace_id.is_some()),
            ("a deadline", self.sla_deadline.is_some()),
            ("an instant when it expires; a span is one", self.rules.expires_at.is_some()),
            ("an instant or a delay to start after", self.run_at.is_some() || self.delay.is_some()),
        ];
        if let Some((what, _)) = once.iter().find(|(_, given)| *given) {
            return Err(Error::invalid(format!(
                "the task of a schedule cannot have {what}: it is made again at each tick; leave that out"
            )));
        }
        let text = |span: &Span| Ok::<_, Error>(humantime::format_duration(span.duration()?).to_string());
        Ok(Template {
            task_type: self.task_type.clone(),
            queue: self.queue.clone(),
            home: self.home.clone(),
            priority: self.priority,
            // What nobody asks for at the time is asked for by the system.
            source: if self.source == Source::User { Source::System } else { self.source },
            max_retries: self.max_retries,
            metadata: self.metadata.clone(),
            sla_target: self.sla_target.as_ref().map(text).transpose()?,
            expires: self.rules.expires.as_ref().map(text).transpose()?,
            backoff: self.rules.backoff,
            unique: self.rules.unique.clone(),
            handler_expires_ms: self.handler.expires.map(crate::policy::millis),
            handler_unique: self.handler.unique.clone(),
            sla: self.sla.clone(),
            gate: self.handler.gate.clone(),
            promise: self.handler.sla.clone(),
            requested_by: self.requested_by.clone(),
            tenant: self.tenant.clone(),
            payload: self.payload.clone().map_err(Error::invalid)?,
        })
    }
}

impl Template {
    /// One task.
    pub(crate) fn task(&self) -> NewTask {
        let mut task = NewTask::new(&self.task_type, &()).priority(self.priority).source(self.source);
        task.payload = Ok(self.payload.clone());
        task.queue.clone_from(&self.queue);
        task.home.clone_from(&self.home);
        task.max_retries = self.max_retries;
        task.metadata.clone_from(&self.metadata);
        task.sla_target = self.sla_target.as_deref().map(Into::into);
        task.sla.clone_from(&self.sla);
        task.handler = Policies {
            gate: self.gate.clone(),
            sla: self.promise.clone(),
            expires: self.handler_expires_ms.map(Duration::from_millis),
            unique: self.handler_unique.clone(),
        };
        task.rules = Rules {
            expires: self.expires.as_deref().map(Into::into),
            backoff: self.backoff,
            unique: self.unique.clone(),
            ..Rules::default()
        };
        task.requested_by.clone_from(&self.requested_by);
        task.tenant.clone_from(&self.tenant);
        task
    }
}
