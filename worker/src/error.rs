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
/// left. [`TaskError::fatal`] means that trying again is hopeless, [`TaskError::reject`] and [`Rejected`] that nobody wants it.
#[derive(Debug)]
pub struct TaskError {
    pub(crate) kind: Kind,
    message: String,
}

/// What is to follow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Another attempt after the handler's backoff.
    Retry,
    /// Another attempt after this time.
    RetryIn(Duration),
    /// None; the word says why, for machines.
    Fatal(&'static str),
    /// None, because people do not want it; the word says how.
    Rejected(&'static str),
}

impl TaskError {
    /// The task fails for good, whatever retries are left.
    pub fn fatal(message: impl fmt::Display) -> Self {
        Self { kind: Kind::Fatal("fatal"), message: message.to_string() }
    }

    /// The attempt failed; the next one follows after `delay` instead of the backoff. It counts as a retry.
    pub fn retry_in(delay: impl Into<Span>, message: impl fmt::Display) -> Self {
        let message = message.to_string();
        match delay.into().duration() {
            Ok(delay) => Self { kind: Kind::RetryIn(delay), message },
            Err(error) => Self { kind: Kind::Retry, message: format!("{message} (and its retry_in: {error})") },
        }
    }

    /// The task ends as cancelled, for good: it is not to be done.
    pub fn reject(message: impl fmt::Display) -> Self {
        Self { kind: Kind::Rejected("rejected"), message: message.to_string() }
    }

    /// The payload does not fit the handler: no attempt will change that.
    pub(crate) fn payload(message: impl fmt::Display) -> Self {
        Self { kind: Kind::Fatal("payload"), message: message.to_string() }
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
        Self { kind, message }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
