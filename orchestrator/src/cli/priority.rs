//! `task priority`.

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use orchestrator::{Orchestrator, Priority, Status};

use super::approve::user;
use super::cancel::{Outcomes, parse};
use super::failure::Failure;
use super::output::Output;

#[derive(Debug, Args)]
pub(crate) struct Reprioritise {
    /// The tasks
    #[arg(value_name = "ID", required = true, num_args = 1..)]
    ids: Vec<String>,
    /// The priority
    #[arg(value_name = "P0..P3", required = true,
        value_parser = PossibleValuesParser::new(["P0", "P1", "P2", "P3"]).try_map(|p| p.parse::<Priority>()))]
    priority: Priority,
    /// Also when an approval rule holds back tasks of that priority and nobody has approved this one
    #[arg(long)]
    force: bool,
}

pub(super) async fn run(orch: &Orchestrator, command: &Reprioritise, out: &mut Output) -> Result<(), Failure> {
    let mut outcomes = Outcomes::default();
    for id in parse(&command.ids)? {
        let by = user().unwrap_or_default();
        let outcome = orch.set_priority_by(id, command.priority, &by, command.force).await;
        let word = match &outcome {
            Ok(Status::InProgress) => format!("runs; {} counts from its next attempt", command.priority),
            Ok(status) => format!("is {} now, {status}", command.priority),
            Err(_) => String::new(),
        };
        outcomes.tell(id, outcome.map(|status| (status, word.as_str())), out)?;
    }
    outcomes.end()
}
