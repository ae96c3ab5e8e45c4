//! `task submit`.

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use orchestrator::{BlockedOn, Error, Orchestrator, Source, Span, TaskHandle};
use serde_json::{Value, json};

use super::failure::{Failure, REFUSED};
use super::new_task::{NewTaskArgs, span};
use super::output::{Output, note};

#[derive(Debug, Args)]
pub(crate) struct Submit {
    #[command(flatten)]
    task: NewTaskArgs,
    /// Start no sooner than this from now: 90s, 5m, "1h 30m"
    #[arg(long, value_name = "SPAN", value_parser = span)]
    delay: Option<Span>,
    /// Who asks for it
    #[arg(long, default_value = "user", value_parser = PossibleValuesParser::new(["faq", "ops", "dev", "user", "system", "webhook"]).try_map(|s| s.parse::<Source>()))]
    source: Source,
    /// Wait for the result and print it, instead of the id
    #[arg(long, value_name = "SPAN", num_args = 0..=1, default_missing_value = "60s", value_parser = span)]
    wait: Option<Span>,
}

pub(super) async fn run(orch: &Orchestrator, command: Submit, out: &mut Output) -> Result<(), Failure> {
    let mut task = command.task.task()?.source(command.source);
    if let Some(delay) = command.delay {
        task = task.delay(delay);
    }
    let handle = orch.enqueue(task).await?;
    match command.wait {
        Some(timeout) => wait(&handle, timeout, out).await,
        None => tell(&handle, out).await,
    }
}

/// Prints the id, and which approval it waits for, if it does.
async fn tell(handle: &TaskHandle<Value>, out: &mut Output) -> Result<(), Failure> {
    // The task is stored: that it cannot be looked at now is no failure of the command.
    let task = handle.task().await.ok();
    let waits = task.filter(|task| task.blocked_on == Some(BlockedOn::Approval)).and_then(|task| task.approval_id);
    match waits {
        waits if out.is_json() => {
            let mut told = json!({ "task_id": handle.id() });
            if let Some(approval) = waits {
                told["approval_id"] = json!(approval);
            }
            if handle.existing() {
                told["existing"] = true.into();
            }
            out.object(&told)
        }
        waits => {
            if handle.existing() {
                note("nothing was stored: this task is there, and is to be the only one of its key");
            }
            if let Some(approval) = waits {
                note(&format!("it waits for a person: orchestrator approval show {approval}"));
            }
            out.line(&handle.id().to_string())
        }
    }
}

/// Prints the result; as JSON, the whole task, however it ended.
async fn wait(handle: &TaskHandle<Value>, timeout: Span, out: &mut Output) -> Result<(), Failure> {
    if !out.is_json() {
        note(&format!("task {}", handle.id()));
    }
    let outcome = handle.result().timeout(timeout).await;
    if out.is_json() && matches!(outcome, Ok(_) | Err(Error::TaskEnded { .. } | Error::TimedOut { .. })) {
        out.object(&handle.task().await?)?;
    }
    match outcome {
        Ok(_) if out.is_json() => Ok(()),
        Ok(result) => out.line(&format!("{result:#}")),
        Err(Error::TaskEnded { .. }) if out.is_json() => Err(Failure::told(REFUSED)),
        Err(error @ Error::TimedOut { .. }) => {
            Err(Failure::refused(format!("{error}; it goes on: orchestrator task watch {}", handle.id())))
        }
        Err(error) => Err(error.into()),
    }
}
