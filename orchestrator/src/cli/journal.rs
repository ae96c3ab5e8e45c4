//! `task journal`.

use clap::Args;
use comfy_table::Cell;
use orchestrator::{JournalEntry, Orchestrator, TaskId};

use super::failure::Failure;
use super::output::{Output, cell, note};

#[derive(Debug, Args)]
pub(crate) struct Journal {
    /// The task
    #[arg(value_name = "ID")]
    id: String,
}

pub(super) async fn run(orch: &Orchestrator, command: &Journal, out: &mut Output) -> Result<(), Failure> {
    let id = command.id.parse::<TaskId>()?;
    // A task without durable steps has no journal; one that nobody knows is told as such.
    orch.get(id).await?;
    let journal = orch.journal(id).await?;
    if out.is_json() {
        return journal.iter().try_for_each(|entry| out.object(entry));
    }
    if journal.is_empty() {
        note("it has done nothing for good yet");
    }
    out.table(&["#", "NAME", "KIND", "STATE", "OUTPUT"], journal.iter().map(row).collect())
}

fn row(entry: &JournalEntry) -> Vec<Cell> {
    let output = entry.output.as_ref().map(ToString::to_string).unwrap_or_default();
    vec![
        Cell::new(entry.order),
        cell(&entry.name, 64),
        Cell::new(entry.kind),
        cell(&entry.state, 64),
        cell(&output, 100),
    ]
}
