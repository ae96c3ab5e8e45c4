//! `task cancel`.

use clap::Args;
use orchestrator::{Error, Orchestrator, Span, Status, TaskId};
use serde_json::json;

use super::failure::{Failure, code_of};
use super::new_task::span;
use super::output::{Output, note};

#[derive(Debug, Args)]
pub(crate) struct Cancel {
    /// The tasks
    #[arg(value_name = "ID", required = true)]
    ids: Vec<String>,
    /// Time that a running handler has to stop, at most 10m; then it is dropped [default: what the handler has, else 5s]
    #[arg(long, value_name = "SPAN", value_parser = span)]
    within: Option<Span>,
}

pub(super) async fn run(orch: &Orchestrator, command: &Cancel, out: &mut Output) -> Result<(), Failure> {
    let mut outcomes = Outcomes::default();
    for id in parse(&command.ids)? {
        let outcome = match &command.within {
            None => orch.cancel(id).await,
            Some(span) => orch.cancel_within(id, span.clone()).await,
        };
        let word = match &outcome {
            Ok(Status::InProgress) => "asked to stop",
            _ => "cancelled",
        };
        outcomes.tell(id, outcome.map(|status| (status, word)), out)?;
    }
    outcomes.end()
}

/// All ids, so that a slip in one is told before anything is done.
pub(super) fn parse(ids: &[String]) -> Result<Vec<TaskId>, Error> {
    ids.iter().map(|id| id.parse()).collect()
}

/// The outcomes of one command for several tasks: each is told, the first failure decides the exit code.
#[derive(Debug, Default)]
pub(super) struct Outcomes(Option<u8>);

impl Outcomes {
    pub(super) fn tell(
        &mut self,
        id: TaskId,
        outcome: Result<(Status, &str), Error>,
        out: &mut Output,
    ) -> Result<(), Failure> {
        match outcome {
            Ok((status, _)) if out.is_json() => out.object(&json!({ "task_id": id, "status": status })),
            Ok((_, word)) => out.line(&format!("{id} {word}")),
            // Without Redis the other tasks would only wait for nothing.
            Err(error @ (Error::Unavailable { .. } | Error::Unfit { .. })) => Err(error.into()),
            Err(error) => {
                self.0.get_or_insert(code_of(&error));
                if out.is_json() {
                    return out.object(&json!({ "task_id": id, "error": error.to_string() }));
                }
                note(&format!("error: {error}"));
                Ok(())
            }
        }
    }

    pub(super) fn end(self) -> Result<(), Failure> {
        self.0.map_or(Ok(()), |code| Err(Failure::told(code)))
    }
}
