//! The states of a task and the one table of its transitions.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Where a task stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "gateway", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Accepted, not runnable yet: scheduled, waiting for its next attempt, or of a type no present worker handles.
    Pending,
    /// Routed to a queue and runnable.
    Assigned,
    /// A worker holds it under a lease.
    InProgress,
    /// Parked until something happens; see [`BlockedOn`].
    Blocked,
    /// Ended well.
    Completed,
    /// Ended for good without success: retries spent, a fatal error, poison, or expired.
    Failed,
    /// Ended by request.
    Cancelled,
}

impl Status {
    /// All states, in the order of a task's life.
    pub const ALL: [Self; 7] = [
        Self::Pending,
        Self::Assigned,
        Self::InProgress,
        Self::Blocked,
        Self::Completed,
        Self::Failed,
        Self::Cancelled,
    ];

    /// Whether the task has ended. Only a manual retry leaves such a state.
    #[must_use]
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }

    /// The word used everywhere: in JSON, logs and tables.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Assigned => "assigned",
            Self::InProgress => "in_progress",
            Self::Blocked => "blocked",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What a blocked task waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "gateway", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum BlockedOn {
    /// A person's decision.
    Approval,
    /// An instant.
    Timer,
    /// An event.
    Event,
    /// Another task.
    Child,
}

/// Why a task changes its state: the label of an edge, and the script that walks it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Cause {
    /// Submitted, runnable at once (`enqueue.lua`).
    Enqueue,
    /// Submitted for a later instant (`enqueue.lua`).
    Schedule,
    /// Its instant has come (`tick.lua`).
    Promote,
    /// Taken by a worker (`step.lua`).
    Claim,
    /// The handler returned a result (`step.lua`).
    Complete,
    /// Retries spent or a fatal error (`step.lua`).
    Fail,
    /// The attempt failed and another follows (`retry.lua`).
    Retry,
    /// Given back unharmed, for example by a draining worker (`release.lua`).
    Release,
    /// No present worker handles its type (`shelve.lua`).
    Shelve,
    /// A worker that handles its type has come (`unshelve.lua`).
    Unshelve,
    /// Its worker died or fell silent beyond its lease (`rescue.lua`).
    Rescue,
    /// It took its worker down once too often (`rescue.lua`).
    Poison,
    /// Submitted, and a person has to approve first (`admit.lua`).
    Ask,
    /// Its handler waits for a person or an instant (`park.lua`).
    Park,
    /// What it waited for has come (`decide.lua`, `tick.lua`).
    Resume,
    /// It was approved before its instant (`decide.lua`).
    Postpone,
    /// A person said no (`decide.lua`; of a handler's question, `step.lua`).
    Reject,
    /// Nobody decided in time (`tick.lua`; of a handler's question, `step.lua`).
    Expire,
    /// It has expired: no attempt was begun in time (`tick.lua`, `step.lua`, `hold.lua`).
    Lapse,
    /// Ended by request (`cancel.lua`; while running, by whatever script ends the attempt).
    Cancel,
    /// A person asked for another try (`revive.lua`).
    Revive,
}

/// Every legal move as `(from, cause, to)`; `None` is "no such task yet". What is not listed is refused.
pub const TRANSITIONS: &[(Option<Status>, Cause, Status)] = &[
    (None, Cause::Enqueue, Status::Assigned),
    (None, Cause::Schedule, Status::Pending),
    (None, Cause::Ask, Status::Blocked),
    (Some(Status::Blocked), Cause::Resume, Status::Assigned),
    (Some(Status::Blocked), Cause::Postpone, Status::Pending),
    (Some(Status::Blocked), Cause::Reject, Status::Cancelled),
    (Some(Status::Blocked), Cause::Expire, Status::Cancelled),
    (Some(Status::Blocked), Cause::Lapse, Status::Failed),
    (Some(Status::Blocked), Cause::Cancel, Status::Cancelled),
    (Some(Status::Pending), Cause::Promote, Status::Assigned),
    (Some(Status::Pending), Cause::Unshelve, Status::Assigned),
    (Some(Status::Pending), Cause::Lapse, Status::Failed),
    (Some(Status::Pending), Cause::Cancel, Status::Cancelled),
    (Some(Status::Assigned), Cause::Claim, Status::InProgress),
    (Some(Status::Assigned), Cause::Lapse, Status::Failed),
    (Some(Status::Assigned), Cause::Cancel, Status::Cancelled),
    (Some(Status::InProgress), Cause::Complete, Status::Completed),
    (Some(Status::InProgress), Cause::Fail, Status::Failed),
    (Some(Status::InProgress), Cause::Poison, Status::Failed),
    (Some(Status::InProgress), Cause::Retry, Status::Pending),
    (Some(Status::InProgress), Cause::Shelve, Status::Pending),
    (Some(Status::InProgress), Cause::Release, Status::Assigned),
    (Some(Status::InProgress), Cause::Rescue, Status::Assigned),
    (Some(Status::InProgress), Cause::Cancel, Status::Cancelled),
    (Some(Status::InProgress), Cause::Park, Status::Blocked),
    (Some(Status::InProgress), Cause::Reject, Status::Cancelled),
    (Some(Status::InProgress), Cause::Expire, Status::Cancelled),
    (Some(Status::Failed), Cause::Revive, Status::Assigned),
    (Some(Status::Cancelled), Cause::Revive, Status::Assigned),
];

/// Where `cause` leads from `from`; `None` when the move is illegal.
#[must_use]
pub fn next(from: Option<Status>, cause: Cause) -> Option<Status> {
    TRANSITIONS.iter().find(|(f, c, _)| *f == from && *c == cause).map(|(_, _, to)| *to)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terminal_states_are_left_by_a_manual_retry_only() {
        for (from, cause, _) in TRANSITIONS {
            if from.is_some_and(Status::is_terminal) {
                assert_eq!(*cause, Cause::Revive);
            }
        }
        assert_eq!(next(Some(Status::Completed), Cause::Revive), None);
    }

    #[test]
    fn no_cause_leads_to_two_states() {
        for (i, (from, cause, _)) in TRANSITIONS.iter().enumerate() {
            assert!(TRANSITIONS[i + 1..].iter().all(|(f, c, _)| (f, c) != (from, cause)));
        }
    }

    #[test]
    fn the_word_is_the_json() {
        for status in Status::ALL {
            assert_eq!(serde_json::to_value(status).ok(), Some(serde_json::json!(status.as_str())));
        }
    }
}
