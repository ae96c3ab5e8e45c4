//! What can go wrong, sorted by what the caller can do about it.

use std::error::Error as StdError;
use std::fmt;

/// The result of every fallible call of this crate.
pub type Result<T = (), E = Error> = std::result::Result<T, E>;

/// Why a call failed.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The caller's input is wrong; the text says what is right. Repeating the call cannot help.
    #[error("{what}")]
    Invalid {
        /// What was wrong and what is right.
        what: String,
    },
    /// No such thing is known, or its retention has passed.
    #[error("{what} is not known here, or its retention has passed")]
    NotFound {
        /// The thing looked for.
        what: String,
    },
    /// The present state does not allow it; the text names the state.
    #[error("{what}")]
    Conflict {
        /// What stands in the way.
        what: String,
    },
    /// The caller may not do this; the text says why.
    #[error("{what}")]
    Forbidden {
        /// What is not allowed, and why.
        what: String,
    },
    /// The queue holds as many tasks as it may. Nothing was stored; try later.
    #[error("queue `{queue}` is full at its bound of {bound} tasks; nothing was stored")]
    QueueFull {
        /// The queue's name.
        queue: String,
        /// How many waiting tasks it may hold.
        bound: u64,
    },
    /// Redis has no memory left for new tasks. Nothing was stored; what is stored goes on being worked off.
    #[error("Redis is out of memory and takes no new task; nothing was stored, running tasks go on")]
    OutOfMemory,
    /// The lease of this worker's incarnation is gone: another worker may have its tasks.
    #[error("the lease of this worker was lost; its tasks may run elsewhere")]
    LeaseLost,
    /// Redis does not answer, or answers that it cannot serve now. For a call that changes something the outcome is
    /// *unknown*; repeating it with the same task id is safe.
    #[error("Redis does not serve now: {reason}")]
    Unavailable {
        /// What Redis or the connection said.
        reason: String,
        /// The underlying error, if there is one.
        source: Option<Box<dyn StdError + Send + Sync>>,
    },
    /// The server is not fit for the job (version, eviction policy …); the text says how to mend it.
    #[error("{what}")]
    Unfit {
        /// What is wrong and how to mend it.
        what: String,
    },
    /// Stored bytes cannot be read. They were kept for inspection.
    #[error("stored data cannot be read: {what}")]
    Corrupt {
        /// What could not be read.
        what: String,
    },
    /// The wait was over before the task was.
    #[error("task {task} did not finish within {waited:?}")]
    TimedOut {
        /// The task waited for.
        task: crate::TaskId,
        /// How long the caller waited.
        waited: std::time::Duration,
    },
    /// The task waited for ended without a result.
    #[error("task {task} ended as {status}: {error}")]
    TaskEnded {
        /// The task waited for.
        task: crate::TaskId,
        /// How it ended: `failed` or `cancelled`.
        status: crate::Status,
        /// The recorded error.
        error: String,
    },
}

/// The text for people: it is what a `main` that returns this error prints.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Error {
    pub(crate) fn invalid(what: impl Into<String>) -> Self {
        Self::Invalid { what: what.into() }
    }

    pub(crate) fn corrupt(what: impl Into<String>) -> Self {
        Self::Corrupt { what: what.into() }
    }
}

/// At most 80 characters of somebody's input, fit for an error text: no control characters.
pub(crate) fn excerpt(text: &str) -> String {
    let mut short: String = text.chars().take(80).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    if text.chars().nth(80).is_some() {
        short.push('…');
    }
    short
}
