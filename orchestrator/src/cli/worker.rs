//! `orchestrator worker`: hands over to the program `orchestrator-worker`, so that neither holds what the other needs.

use std::ffi::OsString;
use std::io::ErrorKind;
use std::os::unix::process::CommandExt;
use std::process::Command;

use clap::Args;

use super::failure::Failure;

const PROGRAM: &str = "orchestrator-worker";
/// What is said when it is not there.
const ABSENT: &str = "the program `orchestrator-worker` is neither beside this one nor on PATH. Build it with\n\n    \
                      cargo build --release -p orchestrator-worker --features exec\n";

#[derive(Debug, Args)]
pub(crate) struct Worker {
    /// What `orchestrator-worker` is told
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENT")]
    args: Vec<OsString>,
}

/// Becomes that program; returns only when it cannot.
pub(crate) fn run(command: &Worker, redis: Option<&str>, namespace: Option<&str>) -> Result<(), Failure> {
    let beside = std::env::current_exe().ok().map(|own| own.with_file_name(PROGRAM)).filter(|path| path.is_file());
    let mut program = Command::new(beside.unwrap_or_else(|| PROGRAM.into()));
    for (option, value) in [("--redis", redis), ("--namespace", namespace)] {
        program.args(value.into_iter().flat_map(|value| [option, value]));
    }
    let error = program.args(&command.args).exec();
    Err(Failure::refused(match error.kind() {
        ErrorKind::NotFound => ABSENT.to_owned(),
        _ => format!("`{}` cannot be run: {error}", program.get_program().display()),
    }))
}
