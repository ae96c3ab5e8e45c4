//! `task output`.

use std::io::{IsTerminal, stdout};

use clap::Args;
use orchestrator::{ChunkData, Orchestrator, Status, TaskId};

use super::failure::{Failure, REFUSED};
use super::output::{Output, note};

/// Print what a task puts out while it runs: the newest MiB, for an hour behind its end
///
/// Text and bytes are printed as they are, values as JSON, a line each. What else there is to say goes to standard error: that
/// the handler was entered anew and begins anew, and how many pieces are missing.
#[derive(Debug, Args)]
pub(crate) struct Read {
    /// The task
    #[arg(value_name = "ID")]
    id: String,
    /// Print more as it comes, until the task has ended; exits with 1 unless it has completed
    #[arg(long, short)]
    follow: bool,
    /// Begin behind the piece of this number
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    after: u64,
}

pub(super) async fn run(orch: &Orchestrator, command: &Read, out: &mut Output) -> Result<(), Failure> {
    let mut chunks = orch.chunks(command.id.parse::<TaskId>()?).after(command.after);
    let (mut epoch, mut ends_line) = (None, true);
    while let Some(chunk) = if command.follow { chunks.next().await } else { chunks.next_if_any().await }? {
        if out.is_json() {
            out.object(&chunk)?;
            continue;
        }
        if chunk.missed > 0 {
            note(&format!("{} pieces are missing here", chunk.missed));
        }
        if epoch.replace(chunk.epoch).is_some_and(|before| before != chunk.epoch) {
            if !ends_line {
                out.line("")?;
            }
            note(&format!("attempt {}: the handler begins anew", chunk.attempt));
        }
        let bytes = match chunk.data {
            ChunkData::Text(text) => text.into_bytes(),
            ChunkData::Bytes(bytes) => bytes,
            ChunkData::Value(value) => format!("{value}\n").into_bytes(),
        };
        ends_line = bytes.ends_with(b"\n");
        out.raw(&bytes)?;
    }
    if !ends_line && stdout().is_terminal() {
        out.line("")?;
    }
    // Who follows is told by the exit code how it ended.
    match chunks.status() {
        Some(Status::Completed) => Ok(()),
        Some(status) if command.follow => {
            note(&format!("the task has ended as {status}"));
            Err(Failure::told(REFUSED))
        }
        _ => Ok(()),
    }
}
