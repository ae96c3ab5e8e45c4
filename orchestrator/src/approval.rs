//! Approvals: what is asked of people, who may answer, and which tasks have to ask.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::{Error, Priority, Result, TaskId};

/// Longest text of a note, a question or a reason, in bytes.
pub const NOTE_BYTES_MAX: usize = 2000;
/// Largest snapshot of what is shown, in bytes of JSON.
pub const SHOWN_BYTES_MAX: usize = 64 * 1024;
/// Names of one approval at most, delegates included.
pub const APPROVERS_MAX: usize = 50;
/// Votes that one approval may need at most.
pub const QUORUM_MAX: u8 = 20;

/// The name of one approval: `approval_<task id>` for the gate at submission, `approval_<task id>_<n>` for a handler's
/// n-th question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ApprovalId {
    /// The task that waits.
    pub task: TaskId,
    /// 0 for the gate, else which of its handler's questions.
    pub number: u16,
}

impl ApprovalId {
    pub(crate) fn to_bytes(self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..14].copy_from_slice(self.task.as_bytes());
        bytes[14..].copy_from_slice(&self.number.to_be_bytes());
        bytes
    }

    pub(crate) fn from_slice(bytes: &[u8]) -> Option<Self> {
        let (task, number) = bytes.split_at_checked(14)?;
        Some(Self { task: TaskId::from_slice(task)?, number: u16::from_be_bytes(number.try_into().ok()?) })
    }
}

impl fmt::Display for ApprovalId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "approval_{}", self.task)?;
        if self.number > 0 { write!(f, "_{}", self.number) } else { Ok(()) }
    }
}

impl FromStr for ApprovalId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let parts = || {
            let rest = text.strip_prefix("approval_")?;
            let (task, number) = rest.split_once('_').unwrap_or((rest, "0"));
            // One spelling an id: no leading zeros, no sign.
            let number = number.parse::<u16>().ok().filter(|n| n.to_string() == number)?;
            (rest.contains('_') == (number > 0)).then_some(())?;
            Some(Self { task: task.parse().ok()?, number })
        };
        parts().ok_or_else(|| {
            Error::invalid(format!(
                "`{}` is no approval's id; one looks like approval_<task id> or approval_<task id>_1",
                crate::error::excerpt(text)
            ))
        })
    }
}

impl Serialize for ApprovalId {
    fn serialize<S: Serializer>(&self, writer: S) -> std::result::Result<S::Ok, S::Error> {
        writer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ApprovalId {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> std::result::Result<Self, D::Error> {
        String::deserialize(reader)?.parse().map_err(serde::de::Error::custom)
    }
}

/// How an approval stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "gateway", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum ApprovalStatus {
    /// Nobody has decided yet.
    Pending,
    /// Enough people said yes.
    Approved,
    /// Somebody said no.
    Rejected,
    /// Nobody decided in time.
    Timeout,
    /// The task was cancelled meanwhile.
    Cancelled,
}

impl fmt::Display for ApprovalStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Pending => "pending",
            Self::Approved => "approved",
            Self::Rejected => "rejected",
            Self::Timeout => "timeout",
            Self::Cancelled => "cancelled",
        })
    }
}

/// What asks: the gate before a task's first attempt, or its handler.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "gateway", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum ApprovalKind {
    /// The gate.
    Gate,
    /// `ctx.approve(..)`.
    Handler,
}

/// One person's yes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "gateway", derive(utoipa::ToSchema))]
pub struct Vote {
    /// Who.
    pub by: String,
    /// When.
    pub at: DateTime<Utc>,
    /// What they wrote.
    pub note: String,
}

/// One approval in full: what was asked, of whom, and what became of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "gateway", derive(utoipa::ToSchema))]
#[non_exhaustive]
pub struct Approval {
    /// Its name.
    pub approval_id: ApprovalId,
    /// The task that waits.
    pub task_id: TaskId,
    /// That task's type.
    pub task_type: String,
    /// That task's priority.
    pub priority: Priority,
    /// Why it is asked.
    pub reason: String,
    /// Who may decide, in words.
    pub approver: String,
    /// How it stands.
    pub status: ApprovalStatus,
    /// When it was asked.
    pub requested_at: DateTime<Utc>,
    /// When it was decided, whatever the decision.
    pub approved_at: Option<DateTime<Utc>>,
    /// Who decided, whatever the decision.
    pub approved_by: Option<String>,
    /// Why it was rejected or closed without a decision.
    pub rejection_reason: Option<String>,
    /// Who submitted the task; may not decide.
    pub requested_by: Option<String>,
    /// The agent outside that has the task and asks, or who has a schedule make it, if one does; may not decide either.
    #[serde(default)]
    pub asked_by: Option<String>,
    /// Who had a schedule make the task, where an agent outside asks; may not decide either.
    #[serde(skip)]
    pub(crate) triggered_by: Option<String>,
    /// The tenant that the task belongs to, if to any.
    #[serde(default)]
    pub tenant: Option<String>,
    /// When it is closed without a decision.
    pub expires_at: DateTime<Utc>,
    /// SHA-256 of what was shown, in canonical JSON.
    pub payload_hash: String,
    /// What is asked, in words.
    pub question: String,
    /// The fields that an approver is to fill in; empty for none.
    pub form: Vec<String>,
    /// What was filled in.
    pub form_values: Option<Value>,
    /// What is shown: the payload or the plan. Cut short when it is larger than [`SHOWN_BYTES_MAX`].
    pub shown: Value,
    /// The names and roles that may decide; empty for everybody with the right.
    pub by: Vec<String>,
    /// How many must say yes.
    pub quorum: u8,
    /// Those who have said yes so far, and the no.
    pub votes: Vec<Vote>,
    /// What asks.
    pub kind: ApprovalKind,
}

impl Approval {
    /// Whether they have a part in asking, and so none in deciding.
    #[must_use]
    pub fn is_asked_by(&self, approver: &Approver) -> bool {
        [&self.asked_by, &self.triggered_by].into_iter().flatten().any(|own| approver.is_called(own))
    }
}

/// Somebody who decides: a name, and the roles that whoever identified them vouches for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Approver {
    /// The name.
    pub name: String,
    /// The roles, without a prefix: `sre`.
    pub roles: Vec<String>,
}

impl Approver {
    /// Somebody with no role but their name.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self { name: name.into(), roles: Vec::new() }
    }

    /// The same with one role more.
    #[must_use]
    pub fn role(mut self, role: &str) -> Self {
        self.roles.push(role.into());
        self
    }

    /// Whether one of `by` means them; an empty list means everybody.
    #[must_use]
    pub fn is_meant(&self, by: &[String]) -> bool {
        by.is_empty()
            || by.iter().any(|who| match who.split_once(':') {
                Some(("role", role)) => self.roles.iter().any(|own| own.eq_ignore_ascii_case(role)),
                Some(("name", name)) => self.is_called(name),
                _ => self.is_called(who),
            })
    }

    /// Whether this is their name. The names of API keys come from the environment, in capitals as a rule: case says
    /// nothing about who somebody is.
    #[must_use]
    pub fn is_called(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name)
    }
}

/// Checks a name or role as terms write it.
pub(crate) fn check_who(who: &str) -> Result {
    let good = |b: u8| b.is_ascii_alphanumeric() || b"_.-@:+".contains(&b);
    // A kind that is not written so would be taken as a part of a name.
    let slip = |kind: &str| ["name", "role"].iter().any(|k| kind != *k && kind.eq_ignore_ascii_case(k));
    let slip = who.split_once(':').is_some_and(|(kind, _)| slip(kind));
    if who.is_empty() || who.len() > 128 || !who.bytes().all(good) || slip {
        return Err(Error::invalid(format!(
            "`{}` names no approver; write a name (alice) or a role (role:sre): letters, digits and _ . - @ +",
            crate::error::excerpt(who)
        )));
    }
    Ok(())
}

/// SHA-256 of a value in canonical JSON (sorted keys, no blanks), as 64 hexadecimal digits.
#[must_use]
pub fn payload_hash(value: &Value) -> String {
    let digest = Sha256::digest(canonical(value).as_bytes());
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// JSON with sorted keys and without blanks.
pub(crate) fn canonical(value: &Value) -> String {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<(&String, &Value)> = map.iter().collect();
            entries.sort_unstable_by_key(|(name, _)| *name);
            let entries =
                entries.iter().map(|(name, value)| format!("{}:{}", Value::from(name.as_str()), canonical(value)));
            format!("{{{}}}", entries.collect::<Vec<_>>().join(","))
        }
        Value::Array(items) => format!("[{}]", items.iter().map(canonical).collect::<Vec<_>>().join(",")),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_approvals_id_has_one_spelling() {
        let task = TaskId::at(1_790_000_000_000);
        for number in [0, 1, 12] {
            let id = ApprovalId { task, number };
            assert_eq!(id.to_string().parse::<ApprovalId>().ok(), Some(id));
            assert_eq!(ApprovalId::from_slice(&id.to_bytes()), Some(id));
        }
        for wrong in [
            format!("approval_{task}_0"),
            format!("approval_{task}_01"),
            format!("approval_{task}_"),
            task.to_string(),
            "approval_x".into(),
        ] {
            assert!(wrong.parse::<ApprovalId>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_hash_does_not_depend_on_the_order_of_keys() {
        let (a, b) =
            (json!({"a": 1, "b": {"x": [1, "é"], "y": null}}), json!({"b": {"y": null, "x": [1, "é"]}, "a": 1}));
        assert_eq!(payload_hash(&a), payload_hash(&b));
        assert_ne!(payload_hash(&a), payload_hash(&json!({"a": "1"})));
        assert_eq!(payload_hash(&json!({})), "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a");
    }
}
