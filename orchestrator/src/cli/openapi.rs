//! `orchestrator openapi`

use orchestrator::gateway::openapi;

use super::failure::Failure;
use super::output::Output;

/// Prints the document of the HTTP interface, for client generators. Needs no Redis.
pub(super) fn run(out: &mut Output) -> Result<(), Failure> {
    out.line(&openapi())
}
