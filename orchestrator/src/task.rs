//! The unified task, as people and other programs see it.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::record::{Body, Finished, Header, flag};
use crate::unique::{Lock, UniqueUntil};
use crate::{ApprovalId, Backoff, BlockedOn, Error, Result, Sla, SlaClock, Status, TaskId};

/// Order within a queue: all of P0 before any of P1, and so on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "gateway", derive(utoipa::ToSchema))]
#[repr(u8)]
pub enum Priority {
    /// Critical.
    P0 = 0,
    /// High.
    P1 = 1,
    /// Medium, the default.
    #[default]
    P2 = 2,
    /// Low.
    P3 = 3,
}

impl Priority {
    pub(crate) fn from_level(level: u8) -> Option<Self> {
        [Self::P0, Self::P1, Self::P2, Self::P3].get(usize::from(level)).copied()
    }
}

impl std::str::FromStr for Priority {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        word("priority", text, "P0 P1 P2 P3")
    }
}

impl std::fmt::Display for Priority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(["P0", "P1", "P2", "P3"][*self as usize])
    }
}

/// Who asked for a task.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "gateway", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// The FAQ agent.
    Faq,
    /// The operations agent.
    Ops,
    /// The development agent.
    Dev,
    /// A person, the default.
    #[default]
    User,
    /// The system itself, for example a schedule.
    System,
    /// A web hook.
    Webhook,
}

impl std::str::FromStr for Source {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        word("source", text, "faq ops dev user system webhook")
    }
}

/// Reads one word of a closed list through its serde name.
fn word<T: for<'de> Deserialize<'de>>(kind: &str, text: &str, known: &str) -> Result<T> {
    serde_json::from_value(Value::from(text))
        .map_err(|_| Error::invalid(format!("`{}` is no {kind}; known are: {known}", crate::error::excerpt(text))))
}

/// One task in full: what was asked, where it stands, how it ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "gateway", derive(utoipa::ToSchema))]
#[non_exhaustive]
pub struct Task {
    /// Its name for all time.
    pub task_id: TaskId,
    /// What kind of work it is; chooses the handler.
    #[serde(rename = "type")]
    pub task_type: String,
    /// Its order within the queue.
    pub priority: Priority,
    /// Who asked for it.
    pub source: Source,
    /// Where it stands.
    pub status: Status,
    /// The handler's input.
    pub payload: Value,
    /// Shared by all tasks that descend from one; W3C form unless the submitter chose another.
    pub trace_id: String,
    /// The promise about its total time.
    pub sla: Option<Sla>,
    /// The agent whose queue it is in; the same as `queue`.
    pub assigned_to: String,
    /// When it was accepted.
    pub created_at: DateTime<Utc>,
    /// When the present or last attempt started, as far as known.
    pub started_at: Option<DateTime<Utc>>,
    /// When it ended.
    pub completed_at: Option<DateTime<Utc>>,
    /// The task that asked for it.
    pub parent_task_id: Option<TaskId>,
    /// The tasks it asked for, oldest first, at most 1,000.
    pub child_task_ids: Vec<TaskId>,
    /// Free fields of the submitter.
    pub metadata: serde_json::Map<String, Value>,
    /// The error of the last attempt.
    pub error: Option<String>,
    /// Attempts that failed and were followed by another.
    pub retry_count: u32,
    /// Attempts that may follow the first.
    pub max_retries: u8,
    /// What the handler returned.
    pub result: Option<Value>,
    /// Attempts begun so far, those lost to crashes included.
    pub attempt: u32,
    /// Attempts that ended with the worker's death.
    pub crashes: u32,
    /// The instant before which it does not start.
    pub run_at: Option<DateTime<Utc>>,
    /// The instant after which no attempt of it is begun.
    #[serde(default)]
    pub expires_at: Option<DateTime<Utc>>,
    /// The wait between its attempts, if it has its own: `exp(2s, 10m)`, `fixed(30s)`.
    #[serde(default)]
    #[cfg_attr(feature = "gateway", schema(value_type = Option<String>, example = "exp(2s, 10m)"))]
    pub backoff: Option<Backoff>,
    /// Until when it keeps others of its key out, if it is unique.
    #[serde(default)]
    pub unique: Option<UniqueUntil>,
    /// When its wait is over at the latest, while blocked.
    pub blocked_until: Option<DateTime<Utc>>,
    /// What it waits for while blocked.
    pub blocked_on: Option<BlockedOn>,
    /// The approval that holds it.
    pub approval_id: Option<ApprovalId>,
    /// Where its time went and what is left of it, if it has a promise; listings leave it out.
    pub sla_clock: Option<SlaClock>,
    /// The caller who submitted it.
    pub requested_by: Option<String>,
    /// Who had its schedule make it by hand, unless that is who submits it.
    #[doc(hidden)]
    #[serde(skip)]
    pub asked_by: Option<String>,
    /// Whom it belongs to, if to anybody in particular.
    pub tenant: Option<String>,
    /// How far the handler says it is, 0 to 1.
    pub progress: Option<f64>,
    /// The same in the handler's words.
    #[serde(default)]
    pub progress_note: Option<String>,
    /// The queue it is in.
    pub queue: String,
    /// One word for why it ended without success: `retries`, `fatal`, `poison`, `request` …
    pub reason: Option<String>,
    /// Whether it lies on the shelf because no present worker handles its type.
    pub shelved: bool,
    /// Whether cancelling was asked for while it ran.
    pub cancel_requested: bool,
    /// Number of the last change of state, as the task's events count them.
    pub changes: u32,
    /// Whether its changes of state are told by no event.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub quiet: bool,
}

/// What Redis knows of a task beyond its record.
#[derive(Debug, Default)]
pub(crate) struct Whereabouts {
    pub(crate) status: Option<Status>,
    pub(crate) due_ms: Option<u64>,
    pub(crate) started_at_ms: Option<u64>,
    pub(crate) children: Vec<TaskId>,
    /// Number of the approval that a handler waits for.
    pub(crate) approval: u16,
}

impl Task {
    /// A task as the scripts `get` and `list` tell it: where it is, its record or finished value, its children, and the
    /// milliseconds when it is due or was started. `None` when it is unknown.
    pub(crate) fn told(id: TaskId, [place, record, children, number_bytes]: [&[u8]; 4]) -> Result<Option<Self>> {
        let children = children.chunks(14).filter_map(TaskId::from_slice).collect();
        let number = || std::str::from_utf8(number_bytes).ok()?.split(' ').next()?.parse::<u64>().ok();
        let at = |status| Whereabouts { status: Some(status), ..Whereabouts::default() };
        let at = match place {
            b"ended" => return Self::finished(id, record, children).map(Some),
            b"ready" => at(Status::Assigned),
            b"shelf" => at(Status::Pending),
            b"timer" => Whereabouts { due_ms: number(), ..at(Status::Pending) },
            b"running" => Whereabouts { started_at_ms: number(), ..at(Status::InProgress) },
            b"parked" => {
                let approval = std::str::from_utf8(number_bytes).ok().and_then(|n| n.split(' ').nth(1)?.parse().ok());
                Whereabouts { due_ms: number(), approval: approval.unwrap_or(0), ..at(Status::Blocked) }
            }
            _ => return Ok(None),
        };
        Self::live(id, record, Whereabouts { children, ..at }).map(Some)
    }

    /// A live task from its record.
    pub(crate) fn live(id: TaskId, record: &[u8], at: Whereabouts) -> Result<Self> {
        let (header, rest) = Header::read(record)?;
        let (body, payload) = Body::read(rest)?;
        let status = at.status.unwrap_or(Status::InProgress);
        let running = status == Status::InProgress;
        let attempts = u32::from(header.attempts);
        Ok(Self {
            task_id: id,
            status,
            payload: to_json(payload),
            trace_id: body.trace_id.unwrap_or_else(|| id.as_trace_id()),
            task_type: body.task_type,
            priority: header.priority,
            source: body.source,
            sla: body.sla,
            assigned_to: header.queue.clone(),
            created_at: instant(id.created_at_ms()),
            started_at: at.started_at_ms.map(instant),
            completed_at: None,
            parent_task_id: body.parent,
            child_task_ids: at.children,
            metadata: body.metadata,
            error: body.error,
            retry_count: attempts,
            max_retries: header.max_retries,
            result: None,
            attempt: attempts + u32::from(header.crashes) + u32::from(running),
            crashes: header.crashes.into(),
            run_at: at
                .due_ms
                .filter(|_| status != Status::Blocked)
                .or((body.run_at_ms > 0).then_some(body.run_at_ms))
                .map(instant),
            // A manual retry does not expire.
            expires_at: (header.flags & flag::EXPIRES != 0).then(|| instant(body.expires_at_ms)),
            backoff: body.backoff,
            unique: body.lock.map(Lock::until),
            blocked_until: at.due_ms.filter(|_| status == Status::Blocked).map(instant),
            blocked_on: match header.flags {
                flags if status != Status::Blocked || flags & (flag::ON_APPROVAL | flag::ON_TIMER) == 0 => None,
                flags if flags & flag::ON_APPROVAL != 0 => Some(BlockedOn::Approval),
                flags if flags & flag::ON_EVENT != 0 => Some(BlockedOn::Event),
                _ => Some(BlockedOn::Timer),
            },
            approval_id: match header.flags {
                flags if flags & flag::ON_APPROVAL != 0 => Some(ApprovalId { task: id, number: at.approval }),
                flags if flags & (flag::GATED | flag::PASSED) != 0 => Some(ApprovalId { task: id, number: 0 }),
                _ => None,
            },
            sla_clock: None,
            requested_by: body.requested_by,
            asked_by: body.asked_by,
            tenant: body.tenant,
            progress: None,
            progress_note: None,
            queue: header.queue,
            reason: None,
            shelved: header.flags & flag::SHELVED != 0,
            cancel_requested: header.flags & flag::CANCEL != 0,
            quiet: header.flags & flag::QUIET != 0,
            changes: header.changes + u32::from(running),
        })
    }

    /// A finished task from its value in a bucket.
    pub(crate) fn finished(id: TaskId, value: &[u8], children: Vec<TaskId>) -> Result<Self> {
        let finished = Finished::read(value)?;
        let at = Whereabouts { status: Some(finished.status), children, ..Whereabouts::default() };
        let task = Self::live(id, finished.record, at)?;
        let ran = finished.ending.started_after_ms.is_some();
        Ok(Self {
            started_at: finished.ending.started_after_ms.map(|after| instant(id.created_at_ms() + after)),
            completed_at: Some(instant(finished.finished_at_ms)),
            result: (finished.status == Status::Completed).then(|| to_json(finished.result)),
            error: finished.ending.error.or(task.error),
            reason: finished.ending.reason,
            retry_count: task.retry_count.saturating_sub(u32::from(ran)),
            ..task
        })
    }
}

/// Unix milliseconds as an instant.
pub(crate) fn instant(ms: u64) -> DateTime<Utc> {
    i64::try_from(ms).ok().and_then(DateTime::from_timestamp_millis).unwrap_or(DateTime::<Utc>::MAX_UTC)
}

/// MessagePack as JSON. What JSON cannot say (maps keyed by maps …) is told as a text.
pub(crate) fn to_json(bytes: &[u8]) -> Value {
    let mut reader = rmp_serde::Deserializer::from_read_ref(bytes);
    serde_transcode::transcode(&mut reader, serde_json::value::Serializer)
        .unwrap_or_else(|error| Value::from(format!("(not representable as JSON: {error})")))
}
