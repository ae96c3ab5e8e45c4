//! How a handler says that it did not succeed.

use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use orchestrator::Span;

use crate::approve::Rejected;
use crate::layers::HandlerError;
use crate::wait_event::NotTold;

/// What a handler returns: `TaskResult<Output>`; plain `TaskResult` for no output.
pub type TaskResult<T = ()> = Result<T, TaskError>;

/// Why an attempt failed, and what is to follow.
///
/// Every error becomes one through `?` and means *try again*, after the handler's backoff and as long as retries are
/// left. [`TaskError::fatal`] means that trying again is hopeless, [`TaskError::reject`] and [`Rejected`] that nobody wants it,
/// [`TaskError::snooze`] that it is too early.
#[derive(Debug)]
pub struct TaskError {
    pub(crate) kind: Kind,
    message: String,
    /// What it was made of, if of an error.
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// What is to follow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Another attempt after the handler's backoff.
    Retry,
    /// Another attempt after this time.
    RetryIn(Duration),
    /// Another attempt after this time, and this one counts for nothing.
    Snooze(Duration),
    /// None; the word says why, for machines.
    Fatal(&'static str),
    /// None, because people do not want it; the word says how.
    Rejected(&'static str),
}

impl TaskError {
    fn new(kind: Kind, message: impl fmt::Display) -> Self {
        Self { kind, message: message.to_string(), source: None }
    }

    /// The task fails for good, whatever retries are left.
    pub fn fatal(message: impl fmt::Display) -> Self {
        Self::new(Kind::Fatal("fatal"), message)
    }

    /// The attempt failed; the next one follows after `delay` instead of the backoff. It counts as a retry.
    pub fn retry_in(delay: impl Into<Span>, message: impl fmt::Display) -> Self {
        match delay.into().duration() {
            Ok(delay) => Self::new(Kind::RetryIn(delay), message),
            Err(error) => Self::new(Kind::Retry, format!("{message} (and its retry_in: {error})")),
        }
    }

    /// Nothing is wrong, but it is too early: the task comes again after `delay`, at least
    /// [`SNOOZE_MIN`](orchestrator::SNOOZE_MIN), and no attempt is counted. It may do so for ever; a task that
    /// [expires](orchestrator::NewTask::expires) does not. Of an event it is a [`TaskError::retry_in`].
    ///
    /// ```
    /// # use orchestrator_worker::{TaskError, TaskResult};
    /// fn built(state: &str) -> TaskResult {
    ///     match state {
    ///         "running" => Err(TaskError::snooze("30s", "the build still runs")),
    ///         _ => Ok(()),
    ///     }
    /// }
    /// ```
    pub fn snooze(delay: impl Into<Span>, message: impl fmt::Display) -> Self {
        match delay.into().duration() {
            Ok(delay) => Self::new(Kind::Snooze(delay), message),
            Err(error) => Self::new(Kind::Retry, format!("{message} (and its snooze: {error})")),
        }
    }

    /// The task ends as cancelled, for good: it is not to be done.
    pub fn reject(message: impl fmt::Display) -> Self {
        Self::new(Kind::Rejected("rejected"), message)
    }

    /// The payload does not fit the handler: no attempt will change that.
    pub(crate) fn payload(message: impl fmt::Display) -> Self {
        Self::new(Kind::Fatal("payload"), message)
    }

    pub(crate) fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|error| error as _)
    }

    /// Whether it was made of an `E`, or of an error that has one among its sources.
    #[must_use]
    pub fn is<E: StdError + 'static>(&self) -> bool {
        self.downcast_ref::<E>().is_some()
    }

    /// The error that it was made of, or the first of that error's sources, that is an `E`.
    #[must_use]
    pub fn downcast_ref<E: StdError + 'static>(&self) -> Option<&E> {
        let mut next = self.source();
        while let Some(error) = next {
            if let Some(found) = error.downcast_ref() {
                return Some(found);
            }
            next = error.source();
        }
        None
    }

    /// The same error with what was being done when it came, in front.
    #[must_use]
    pub fn context(mut self, doing: impl fmt::Display) -> Self {
        self.message = format!("{doing}: {}", self.message);
        self
    }
}

impl fmt::Display for TaskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// What our own errors mean, wherever they come from.
fn meant(error: &(dyn StdError + 'static)) -> Option<Kind> {
    if let Some(error) = error.downcast_ref::<HandlerError>() {
        return Some(error.task_error().kind.clone());
    }
    let rejected = error.downcast_ref::<Rejected>().map(|rejected| Kind::Rejected(rejected.word()));
    rejected.or_else(|| error.is::<NotTold>().then_some(Kind::Fatal("timeout")))
}

// `TaskError` is no `std::error::Error`, so that this can be: every other error means "try again".
impl<E: Into<Box<dyn StdError + Send + Sync>>> From<E> for TaskError {
    fn from(error: E) -> Self {
        let error = match error.into().downcast::<HandlerError>() {
            Ok(own) => return own.into_task_error(),
            Err(error) => error,
        };
        let mut kind = meant(&*error).unwrap_or(Kind::Retry);
        let mut message = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            kind = meant(cause).unwrap_or(kind);
            let cause_text = cause.to_string();
            // Many errors print their source themselves.
            if !message.contains(&cause_text) {
                message = format!("{message}: {cause_text}");
            }
            source = cause.source();
        }
        Self { kind, message, source: Some(error) }
    }
}

/// Errors of a type that trying again does not mend.
#[derive(Clone, Copy)]
pub struct NoRetry {
    name: fn() -> &'static str,
    is: fn(&TaskError) -> bool,
}

impl NoRetry {
    /// Every `E`, also as a source of another error.
    #[must_use]
    pub const fn of<E: StdError + 'static>() -> Self {
        Self { name: std::any::type_name::<E>, is: TaskError::is::<E> }
    }

    pub(crate) fn means(&self, error: &TaskError) -> bool {
        error.kind == Kind::Retry && (self.is)(error)
    }
}

impl fmt::Debug for NoRetry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str((self.name)())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_error_was_made_of_is_found_along_its_sources() {
        #[derive(Debug)]
        struct Outer(std::num::ParseIntError);
        impl fmt::Display for Outer {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("outer")
            }
        }
        impl StdError for Outer {
            fn source(&self) -> Option<&(dyn StdError + 'static)> {
                Some(&self.0)
            }
        }
        let error = TaskError::from(Outer("x".parse::<u32>().expect_err("no number"))).context("reading");
        assert!(error.is::<Outer>() && error.is::<std::num::ParseIntError>() && !error.is::<fmt::Error>());
        let never = NoRetry::of::<std::num::ParseIntError>();
        assert!(never.means(&error) && !NoRetry::of::<fmt::Error>().means(&error));
        assert_eq!(format!("{never:?}"), "core::num::error::ParseIntError");
        // What the handler has decided itself stands.
        assert!(!never.means(&TaskError::retry_in("1s", "later")) && !never.means(&TaskError::from("text")));
        assert_eq!(TaskError::snooze("1s", "early").kind, Kind::Snooze(Duration::from_secs(1)));
        assert_eq!(TaskError::snooze("1 blink", "early").kind, Kind::Retry);
    }

    #[test]
    fn any_error_means_try_again_and_tells_its_causes() {
        #[derive(Debug)]
        struct Outer(std::num::ParseIntError);
        impl fmt::Display for Outer {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the issue number is unreadable")
            }
        }
        impl StdError for Outer {
            fn source(&self) -> Option<&(dyn StdError + 'static)> {
                Some(&self.0)
            }
        }
        let fails = || -> TaskResult { Err(Outer("x".parse::<u32>().expect_err("no number")))? };
        let error = fails().expect_err("an error");
        assert_eq!(error.kind, Kind::Retry);
        assert_eq!(error.to_string(), "the issue number is unreadable: invalid digit found in string");
        assert_eq!(TaskError::from("plain text").to_string(), "plain text");
        assert_eq!(TaskError::fatal("no such repo").context("cloning").to_string(), "cloning: no such repo");
    }

    #[test]
    fn a_no_is_a_no_within_another_error_too() {
        #[derive(Debug)]
        struct Own(Rejected);
        impl fmt::Display for Own {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("could not go on")
            }
        }
        impl StdError for Own {
            fn source(&self) -> Option<&(dyn StdError + 'static)> {
                Some(&self.0)
            }
        }
        let error = TaskError::from(Own(Rejected::for_tests()));
        assert_eq!(error.kind, Kind::Rejected("rejected"));
        assert_eq!(error.to_string(), "could not go on: rejected by alice: no");
    }
}
