//! How a command ends that did not do what was asked: a line on standard error and an exit code.

use std::io::{self, Write};
use std::process::ExitCode;

use orchestrator::Error;

/// Refused, or the task has failed.
pub(crate) const REFUSED: u8 = 1;
/// The command line is wrong.
const USAGE: u8 = 2;
/// No such task or approval.
const NOT_FOUND: u8 = 3;
/// Redis does not serve; `EX_UNAVAILABLE` of sysexits.
const UNAVAILABLE: u8 = 69;

/// Why a command did not do what was asked.
#[derive(Debug)]
pub(crate) struct Failure {
    code: u8,
    text: Option<String>,
}

impl Failure {
    /// The command line is wrong.
    pub(crate) fn usage(text: impl Into<String>) -> Self {
        Self { code: USAGE, text: Some(text.into()) }
    }

    /// It was refused.
    pub(crate) fn refused(text: impl Into<String>) -> Self {
        Self { code: REFUSED, text: Some(text.into()) }
    }

    /// Everything was said already.
    pub(crate) fn told(code: u8) -> Self {
        Self { code, text: None }
    }

    /// Says it and turns it into the exit code.
    pub(crate) fn tell(self) -> ExitCode {
        if let Some(text) = self.text {
            // Nobody is left to tell when standard error is closed.
            let _ = writeln!(io::stderr(), "error: {text}");
        }
        ExitCode::from(self.code)
    }
}

/// The exit code of an error.
pub(crate) fn code_of(error: &Error) -> u8 {
    match error {
        Error::Invalid { .. } => USAGE,
        Error::NotFound { .. } => NOT_FOUND,
        Error::Unavailable { .. } | Error::Unfit { .. } => UNAVAILABLE,
        _ => REFUSED,
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self { code: code_of(&error), text: Some(error.to_string()) }
    }
}

impl From<io::Error> for Failure {
    /// Standard output is gone: when its reader has seen enough (`| head`), that is no failure.
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::told(0),
            _ => Self::refused(format!("cannot write the output: {error}")),
        }
    }
}
