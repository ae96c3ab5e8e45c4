//! `task result`.

use clap::Args;
use orchestrator::{Error, Orchestrator, Span, TaskId};
use serde_json::Value;

use super::failure::{Failure, REFUSED};
use super::new_task::span;
use super::output::Output;

/// Print the result of a task, alone; exits with 1 when it has ended without one
#[derive(Debug, Args)]
pub(crate) struct Wanted {
    /// The task
    #[arg(value_name = "ID")]
    id: String,
    /// Wait so long for its end
    #[arg(long, value_name = "SPAN", num_args = 0..=1, default_missing_value = "60s", value_parser = span)]
    wait: Option<Span>,
}

pub(super) async fn run(orch: &Orchestrator, command: Wanted, out: &mut Output) -> Result<(), Failure> {
    let id = command.id.parse::<TaskId>()?;
    let task = orch.get(id).await?;
    let handle = orch.handle::<Value>(id);
    let wait = match command.wait {
        Some(wait) => wait,
        None if task.status.is_terminal() => Span::from("60s"),
        None => {
            let said = format!("task {id} is {}: it has no result yet; --wait waits for it", task.status);
            return Err(Failure::refused(said));
        }
    };
    let outcome = handle.result().timeout(wait).await;
    if out.is_json() && matches!(outcome, Err(Error::TaskEnded { .. })) {
        out.object(&handle.task().await?)?;
        return Err(Failure::told(REFUSED));
    }
    match outcome? {
        result if out.is_json() => out.object(&result),
        result => out.line(&format!("{result:#}")),
    }
}
